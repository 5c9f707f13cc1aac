/* SPDX-License-Identifier: Apache-2.0
 * engine/sampler.c - from logits to a token, and stop strings.
 *
 *   logits -> bias -> penalties -> mask -> [greedy: best]
 *                                       -> temperature -> softmax -> top-k -> top-p -> min-p -> draw
 *
 * The order of the filters is that of Hugging Face and vLLM: temperature first, so that top_p is a share
 * of the distribution that is drawn from. Top-k keeps exactly k (equals by lower id); top-p keeps the
 * fewest best tokens whose share of what top-k left reaches p, one at least; min-p keeps what has at
 * least that part of the best one's probability. The draw walks the kept tokens, best first (all of them
 * by id where no filter is on), until their sum passes u * total: one u a token from the sequence's own
 * stream, whether or not more than one token is left, so that the n-th token of a sequence uses the n-th
 * number whatever was masked and whatever else is in the batch. Sums are of doubles in a fixed order.
 *
 * Penalties: repetition divides a positive and multiplies a negative logit of each token in prompt or
 * reply (Keskar et al., CTRL, 2019); presence and frequency subtract, for the reply only, as OpenAI
 * describes them.
 *
 * Log probabilities are those of the model itself: log-softmax of the logits as they came, before bias,
 * penalties, mask and temperature. So they say how sure the model was and do not depend on how it was
 * sampled; a token that only a mask forced has a very low one.
 *
 * Top-p on a vocabulary of 128 k would sort 128 k entries a token; the best 512 nearly always suffice,
 * so they are selected (lr_kern_topk, linear) and sorted, and only if their share is less than p comes
 * eight times as many.
 *
 * Stop strings are matched byte by byte: a string has occurred as soon as the text ends with it. What is
 * held back is the longest end of the text that is a proper beginning of some stop string; the rest can
 * be shown. It begins with the first byte of a stop string, so well-formed text stays well-formed.
 */
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>

#define FIRST_BEST 512u /* candidates sorted before more are needed */

/* How often a token has been seen; open addressing, never full. */
struct count {
    uint32_t id; /* LR_NN_NO_TOKEN: free */
    uint32_t reply;
};

struct lr_engine_sampler {
    struct lr_engine_sampling o;
    uint32_t n_vocab;
    struct lr_rng rng;
    struct lr_engine_bias *bias;
    struct count *count; /* (cap) */
    size_t n_count, cap; /* cap: a power of two */
    float *logit;        /* (n_vocab) after bias, penalties, mask */
    uint32_t *idx;       /* (n_vocab) candidates */
    double *p;           /* (n_vocab) their weights */
};

/* ---- counts ---- */

static size_t slot(const struct count *table, size_t cap, uint32_t id)
{
    size_t i = (id * 0x9E3779B1u) & (cap - 1);
    while (table[i].id != LR_NN_NO_TOKEN && table[i].id != id)
        i = (i + 1) & (cap - 1);
    return i;
}

static int grow(struct lr_engine_sampler *s)
{
    size_t cap = s->cap ? 2 * s->cap : 256;
    struct count *table = lr_calloc(cap, sizeof *table);
    LR_FAIL_IF(!table, LR_ENOMEM);
    for (size_t i = 0; i < cap; i++)
        table[i].id = LR_NN_NO_TOKEN;
    for (size_t i = 0; i < s->cap; i++)
        if (s->count[i].id != LR_NN_NO_TOKEN)
            table[slot(table, cap, s->count[i].id)] = s->count[i];
    lr_free(s->count);
    s->count = table;
    s->cap = cap;
    return 0;
}

/* At most n_vocab entries. */
static int count(struct lr_engine_sampler *s, uint32_t id, uint32_t reply)
{
    if (id >= s->n_vocab)
        return 0;
    if (2 * (s->n_count + 1) > s->cap)
        LR_TRY(grow(s));
    struct count *c = &s->count[slot(s->count, s->cap, id)];
    if (c->id == LR_NN_NO_TOKEN) {
        c->id = id;
        s->n_count++;
    }
    c->reply += reply;
    return 0;
}

static bool penalises(const struct lr_engine_sampling *o)
{
    return (o->repetition != 0 && o->repetition != 1) || o->presence != 0 || o->frequency != 0;
}

int lr_engine_sampler_see(struct lr_engine_sampler *s, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n && penalises(&s->o); i++)
        LR_TRY(count(s, ids[i], 0));
    return 0;
}

/* ---- logits ---- */

static void apply_bias(struct lr_engine_sampler *s)
{
    for (size_t i = 0; i < s->o.n_bias; i++)
        if (s->bias[i].id < s->n_vocab)
            s->logit[s->bias[i].id] += s->bias[i].add;
}

static void apply_penalties(struct lr_engine_sampler *s)
{
    for (size_t i = 0; i < s->cap; i++) {
        const struct count *c = &s->count[i];
        if (c->id == LR_NN_NO_TOKEN)
            continue;
        float *l = &s->logit[c->id];
        if (s->o.repetition != 0)
            *l = *l > 0 ? *l / s->o.repetition : *l * s->o.repetition;
        if (c->reply)
            *l -= s->o.presence + s->o.frequency * (float)c->reply;
    }
}

static void apply_mask(struct lr_engine_sampler *s, const uint64_t *mask)
{
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if ((mask && !(mask[i / 64] >> (i % 64) & 1)) || isnan(s->logit[i]))
            s->logit[i] = -INFINITY;
}

static uint32_t best(const struct lr_engine_sampler *s)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < s->n_vocab; i++)
        if (s->logit[i] > s->logit[at])
            at = i;
    return at;
}

/* ---- drawing ---- */

struct ranked {
    float logit;
    uint32_t id;
};

static int by_logit(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The n best, sorted, into out; returns how many are possible at all. */
static size_t rank(const float *logit, uint32_t n_vocab, size_t n, uint32_t *idx,
                   struct ranked *out)
{
    size_t k = lr_kern_topk(logit, n_vocab, n, idx), m = 0;
    for (size_t i = 0; i < k; i++)
        if (logit[idx[i]] > -INFINITY)
            out[m++] = (struct ranked){logit[idx[i]], idx[i]};
    /* cppcheck-suppress uninitvar ; the first m were written above */
    qsort(out, m, sizeof *out, by_logit);
    return m;
}

/* Weight of a logit: exp((l - best) / temperature). An infinite best one takes all. */
static double weight(const struct lr_engine_sampler *s, float l, float top)
{
    if (l == top)
        return 1;
    return isinf(top) ? 0 : exp(((double)l - (double)top) / (double)s->o.temperature);
}

/* Everything, by id. */
static uint32_t draw_all(struct lr_engine_sampler *s, double u)
{
    float top = s->logit[best(s)];
    double total = 0, sum = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        total += s->p[i] = weight(s, s->logit[i], top);
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (s->p[i] <= 0)
            continue;
        sum += s->p[i];
        last = i;
        if (sum > u * total)
            break;
    }
    return last;
}

/* How many of the first n of r the filters keep; *enough: more of r would not change that. pool: the
 * weight of all that top-k left. */
static size_t keep(const struct lr_engine_sampler *s, const struct ranked *r, size_t n, double pool,
                   bool *enough)
{
    double sum = 0, p = s->o.top_p > 0 && s->o.top_p < 1 ? (double)s->o.top_p : 2;
    size_t k = 0;
    *enough = true;
    for (; k < n; k++) {
        double w = weight(s, r[k].logit, r[0].logit);
        if (k && (w < (double)s->o.min_p || w <= 0))
            return k;
        sum += w;
        if (sum >= p * pool)
            return k + 1;
    }
    *enough = false;
    return k;
}

static double pool_all(const struct lr_engine_sampler *s, float top)
{
    double sum = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (s->logit[i] > -INFINITY)
            sum += weight(s, s->logit[i], top);
    return sum;
}

static double pool_of(const struct lr_engine_sampler *s, const struct ranked *r, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += weight(s, r[i].logit, r[0].logit);
    return sum;
}

static uint32_t draw_from(const struct lr_engine_sampler *s, const struct ranked *r, size_t n,
                          double u)
{
    double total = pool_of(s, r, n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weight(s, r[i].logit, r[0].logit);
        if (sum > u * total)
            return r[i].id;
    }
    return r[n - 1].id;
}

static int draw_some(struct lr_engine_sampler *s, double u, uint32_t *id)
{
    size_t limit = s->o.top_k && s->o.top_k < s->n_vocab ? s->o.top_k : s->n_vocab;
    size_t n = s->o.top_k ? limit : limit < FIRST_BEST ? limit : FIRST_BEST;
    float top = s->logit[best(s)];
    for (;; n = 8 * n < limit ? 8 * n : limit) {
        struct ranked *r = lr_alloc(n * sizeof *r);
        LR_FAIL_IF(!r, LR_ENOMEM);
        bool enough;
        size_t m = rank(s->logit, s->n_vocab, n, s->idx, r);
        double pool = s->o.top_k ? pool_of(s, r, m) : pool_all(s, top);
        size_t k = keep(s, r, m, pool, &enough);
        if (enough || m < n || n == limit) {
            *id = draw_from(s, r, k, u);
            lr_free(r);
            return 0;
        }
        lr_free(r);
    }
}

static int choose(struct lr_engine_sampler *s, uint32_t *id)
{
    bool filters = s->o.top_k || (s->o.top_p > 0 && s->o.top_p < 1) || s->o.min_p > 0;
    *id = best(s);
    LR_FAIL_IF(s->logit[*id] == -INFINITY, LR_EINVAL);
    if (s->o.temperature <= 0)
        return 0;
    struct lr_rng rng = s->rng; /* the stream moves on with success only */
    double u = lr_rng_unit(&rng);
    if (filters)
        LR_TRY(draw_some(s, u, id));
    else
        *id = draw_all(s, u);
    s->rng = rng;
    return 0;
}

/* ---- log probabilities ---- */

static void say_likely(struct lr_engine_sampler *s, const float *logits, struct lr_engine_pick *out)
{
    struct ranked r[LR_ENGINE_TOP_MAX];
    float top = -INFINITY;
    double sum = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        top = logits[i] > top ? logits[i] : top;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (logits[i] == top)
            sum += 1;
        else if (logits[i] > -INFINITY && !isinf(top))
            sum += exp((double)logits[i] - (double)top);
    double lse = (double)top + log(sum);
    out->logprob = (float)((double)logits[out->id] - lse);
    out->n_top = (uint32_t)rank(logits, s->n_vocab, s->o.top_logprobs, s->idx, r);
    for (uint32_t i = 0; i < out->n_top; i++)
        out->top[i] = (struct lr_engine_likely){r[i].id, (float)((double)r[i].logit - lse)};
}

/* ---- the doors ---- */

int lr_engine_sampler_pick(struct lr_engine_sampler *s, const float *logits, const uint64_t *mask,
                           struct lr_engine_pick *out)
{
    struct lr_engine_pick pick = {0};
    memcpy(s->logit, logits, s->n_vocab * sizeof *logits);
    apply_bias(s);
    apply_penalties(s);
    apply_mask(s, mask);
    if (penalises(&s->o) && 2 * (s->n_count + 1) > s->cap)
        LR_TRY(grow(s)); /* counting below cannot fail */
    LR_TRY(choose(s, &pick.id));
    if (s->o.logprobs)
        say_likely(s, logits, &pick);
    if (penalises(&s->o))
        LR_TRY(count(s, pick.id, 1));
    *out = pick;
    return 0;
}

int lr_engine_sampler_open(struct lr_engine_sampler **out, const struct lr_engine_sampling *o,
                           uint32_t n_vocab)
{
    LR_FAIL_IF(!n_vocab || n_vocab > LR_NN_VOCAB_MAX || o->n_bias > LR_ENGINE_BIAS_MAX ||
                   o->top_logprobs > LR_ENGINE_TOP_MAX,
               LR_EINVAL);
    struct lr_engine_sampler *s = lr_new(struct lr_engine_sampler);
    LR_FAIL_IF(!s, LR_ENOMEM);
    s->o = *o;
    s->n_vocab = n_vocab;
    lr_rng_seed(&s->rng, o->seed);
    s->bias = lr_calloc(o->n_bias + 1, sizeof *s->bias);
    s->logit = lr_calloc(n_vocab, sizeof *s->logit);
    s->idx = lr_calloc(n_vocab, sizeof *s->idx);
    s->p = lr_calloc(n_vocab, sizeof *s->p);
    if (!s->bias || !s->logit || !s->idx || !s->p) {
        lr_engine_sampler_close(s);
        return LR_ENOMEM;
    }
    if (o->n_bias)
        memcpy(s->bias, o->bias, o->n_bias * sizeof *s->bias);
    s->o.bias = s->bias;
    *out = s;
    return 0;
}

void lr_engine_sampler_close(struct lr_engine_sampler *s)
{
    if (!s)
        return;
    lr_free(s->bias);
    lr_free(s->count);
    lr_free(s->logit);
    lr_free(s->idx);
    lr_free(s->p);
    lr_free(s);
}

/* ---- stop strings ---- */

struct lr_engine_stopper {
    size_t n;
    struct lr_str *stop; /* (n) views into text */
    char *text;
    size_t n_held;
    bool done;
    char held[LR_ENGINE_STOP_MAX];
};

int lr_engine_stopper_open(struct lr_engine_stopper **out, const struct lr_str *stops, size_t n)
{
    size_t bytes = 0;
    LR_FAIL_IF(n > LR_ENGINE_STOPS_MAX, LR_EOVER);
    for (size_t i = 0; i < n; i++) {
        LR_FAIL_IF(!stops[i].n, LR_EINVAL);
        LR_FAIL_IF(stops[i].n > LR_ENGINE_STOP_MAX, LR_EOVER);
        bytes += stops[i].n;
    }
    struct lr_engine_stopper *s = lr_new(struct lr_engine_stopper);
    LR_FAIL_IF(!s, LR_ENOMEM);
    s->stop = lr_calloc(n + 1, sizeof *s->stop);
    s->text = lr_alloc(bytes + 1);
    if (!s->stop || !s->text) {
        lr_engine_stopper_close(s);
        return LR_ENOMEM;
    }
    for (size_t at = 0; s->n < n; s->n++) {
        memcpy(s->text + at, stops[s->n].p, stops[s->n].n);
        s->stop[s->n] = lr_str(s->text + at, stops[s->n].n);
        at += stops[s->n].n;
    }
    *out = s;
    return 0;
}

void lr_engine_stopper_close(struct lr_engine_stopper *s)
{
    if (!s)
        return;
    lr_free(s->stop);
    lr_free(s->text);
    lr_free(s);
}

/* The longest stop string that what is held ends with, or -1. */
static int ends_with(const struct lr_engine_stopper *s)
{
    int hit = -1;
    for (size_t i = 0; i < s->n; i++) {
        struct lr_str z = s->stop[i];
        if (z.n <= s->n_held && memcmp(s->held + s->n_held - z.n, z.p, z.n) == 0 &&
            (hit < 0 || z.n > s->stop[hit].n))
            hit = (int)i;
    }
    return hit;
}

/* Bytes at the end of what is held that may become a stop string. */
static size_t may_become(const struct lr_engine_stopper *s)
{
    for (size_t n = s->n_held; n; n--)
        for (size_t i = 0; i < s->n; i++)
            if (n < s->stop[i].n && memcmp(s->held + s->n_held - n, s->stop[i].p, n) == 0)
                return n;
    return 0;
}

int lr_engine_stopper_feed(struct lr_engine_stopper *s, struct lr_str text, struct lr_buf *out,
                           int *hit)
{
    *hit = -1;
    for (size_t i = 0; i < text.n && !s->done; i++) {
        s->held[s->n_held++] = text.p[i]; /* held is a proper beginning: shorter than the longest */
        *hit = ends_with(s);
        s->done = *hit >= 0;
        size_t stays = s->done ? s->stop[*hit].n : may_become(s);
        LR_TRY(lr_buf_add(out, s->held, s->n_held - stays));
        memmove(s->held, s->held + s->n_held - stays, stays);
        s->n_held = s->done ? 0 : stays;
    }
    return out->rc;
}

int lr_engine_stopper_end(struct lr_engine_stopper *s, struct lr_buf *out)
{
    int rc = lr_buf_add(out, s->held, s->n_held);
    s->n_held = 0;
    s->done = true;
    return rc;
}
