/* SPDX-License-Identifier: Apache-2.0
 * embed/train_pair.c - a user's labelled pairs into a pair verifier: its last layers, then the
 * calibration of its probability.
 *
 *   pairs -> tokens (once) -> shuffle -> batch -> lower layers, int8 (bert.c) -> deep.c: loss and
 *   gradient -> clipped -> Adam -> ...   epoch: score the validation pairs, keep the best
 *   -> scale and bias by likelihood on the validation pairs -> the file (write.c)
 *
 * Which side comes first is drawn for every pair of a batch; validation takes the order that
 * pair.c takes. The rate climbs over the first twentieth of the steps and falls to nothing at the
 * last. Without layers to tune only the calibration is fitted: one pass.
 *
 * Deterministic: one thread, one generator seeded by the caller, sums in fixed order.
 */
#include "embed/embed_int.h"

#define STEP_EVERY 64u /* batches between calls of on_step */
#define CLIP       1.0

struct sample { /* tokens of both sides, one behind the other in `ids` */
    size_t at;
    uint16_t a, b;
    bool same, swap; /* swap: pair.c puts b first */
};

struct set {
    struct sample *s; /* owned */
    size_t n;
    uint32_t *ids;    /* owned */
};

struct job {
    const struct lr_embed_train *t;
    struct lr_embed_trained *out;
    struct lr_err *err;
    const struct bert *b;
    struct lr_embed_scratch *scratch; /* owned, as all below */
    struct deep deep;
    struct deep_work *work;
    struct set train, val;
    float *best, *grad, *m1, *m2, *x;
    float *score;
    bool *same;
    uint32_t *order, *sorted;
    struct span spans[LR_EMBED_DEEP_PAIRS];
    bool labels[LR_EMBED_DEEP_PAIRS];
    uint32_t n_spans, n_tokens; /* of the batch */
    unsigned batch, epochs;
    size_t step, steps;
    struct lr_rng rng;
};

static int no_memory(const struct job *j)
{
    return lr_err_set(j->err, LR_ENOMEM, "training", "out of memory");
}

/* ---- pairs into tokens ---- */

/* A side's first tokens; those that a pair has room for are chosen later. */
static int read_side(struct job *j, struct lr_str text, uint32_t *to, uint16_t *n)
{
    struct lr_nn_ids *ids = &j->scratch->ids[0];
    bool cut;
    uint32_t most = MIN_OF(LR_EMBED_DEEP_TOKENS, j->b->spec.tokens_max) - 3;
    LR_TRY(lr_embed_tokens(j->b->tok, text, most, ids, &cut, j->err));
    *n = (uint16_t)ids->n;
    if (ids->n)
        memcpy(to, ids->id, ids->n * sizeof *to);
    return 0;
}

static int read_set(struct job *j, struct set *s, const struct lr_embed_pairs *p)
{
    size_t used = 0, cap = 0;
    s->s = lr_calloc(p->n, sizeof *s->s);
    LR_FAIL_IF(!s->s, no_memory(j));
    for (size_t i = 0; i < p->n; i++) {
        struct sample *x = &s->s[i];
        if (cap - used < 2 * LR_EMBED_DEEP_TOKENS) {
            cap = 2 * cap + 4096;
            uint32_t *ids = lr_realloc(s->ids, cap * sizeof *ids);
            LR_FAIL_IF(!ids, no_memory(j));
            s->ids = ids;
        }
        x->at = used;
        x->same = p->pair[i].same;
        x->swap = lr_str_cmp(p->pair[i].a, p->pair[i].b) > 0;
        LR_TRY(read_side(j, p->pair[i].a, s->ids + used, &x->a));
        LR_TRY(read_side(j, p->pair[i].b, s->ids + used + x->a, &x->b));
        used += (size_t)x->a + x->b;
    }
    s->n = p->n;
    return 0;
}

/* ---- a batch ---- */

static void put_side(struct lr_embed_scratch *s, const uint32_t *ids, uint32_t n, uint32_t sep,
                     uint8_t segment)
{
    for (uint32_t i = 0; i <= n; i++) {
        s->token[s->n_tokens] = i < n ? ids[i] : sep;
        s->segment[s->n_tokens++] = segment;
    }
}

/* The lower layers over what waits in the scratch; states go behind those of the batch. */
static void run_lower(struct job *j)
{
    struct lr_embed_scratch *s = j->scratch;
    size_t d = j->deep.d;
    lr_embed_bert_run_to(j->b, s, j->b->spec.n_layer - j->deep.n_layer);
    memcpy(j->x + j->n_tokens * d, s->x, s->n_tokens * d * sizeof(float));
    for (uint32_t i = 0; i < s->n_spans; i++)
        j->spans[j->n_spans++] = (struct span){j->n_tokens + s->spans[i].first, s->spans[i].n, 0};
    j->n_tokens += s->n_tokens;
    s->n_tokens = s->n_spans = 0;
}

static void add_pair(struct job *j, const struct set *set, const struct sample *x, bool swap)
{
    struct lr_embed_scratch *s = j->scratch;
    const uint32_t *ids[2] = {set->ids + x->at, set->ids + x->at + x->a};
    uint32_t n[2] = {x->a, x->b}, most = MIN_OF(LR_EMBED_DEEP_TOKENS, j->b->spec.tokens_max);
    uint32_t room = most - 3, at, first = swap ? 1 : 0, second = 1 - first;
    n[first] = MIN_OF(n[first], MAX_OF(room / 2, room - MIN_OF(room, n[second])));
    n[second] = MIN_OF(n[second], room - n[first]);
    if (s->n_tokens + n[0] + n[1] + 3 > s->tokens_max)
        run_lower(j);
    at = s->n_tokens;
    s->token[s->n_tokens] = j->b->roles.cls;
    s->segment[s->n_tokens++] = 0;
    put_side(s, ids[first], n[first], j->b->roles.sep, 0);
    put_side(s, ids[second], n[second], j->b->roles.sep, 1);
    s->spans[s->n_spans++] = (struct span){at, s->n_tokens - at, 0};
}

/* Samples order[at .. at + n) (NULL: in their order); draws the sides' order when `draw`. */
static double run_batch(struct job *j, const struct set *set, const uint32_t *order, size_t at,
                        size_t n, bool draw, float *logits)
{
    j->n_spans = j->n_tokens = 0;
    j->scratch->n_tokens = j->scratch->n_spans = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sample *x = &set->s[order ? order[at + i] : at + i];
        j->labels[i] = x->same;
        add_pair(j, set, x, draw ? lr_rng_below(&j->rng, 2) : x->swap);
    }
    run_lower(j);
    struct deep_batch b = {j->spans, j->n_spans, j->n_tokens, j->x, j->labels};
    return lr_embed_deep_run(&j->deep, j->work, &b, logits, draw ? j->grad : NULL);
}

static void measure(struct job *j, struct lr_embed_quality *q)
{
    for (size_t i = 0; i < j->val.n; i += j->batch)
        run_batch(j, &j->val, NULL, i, MIN_OF(j->batch, j->val.n - i), false, j->score + i);
    for (size_t i = 0; i < j->val.n; i++)
        j->same[i] = j->val.s[i].same;
    lr_embed_quality(j->score, j->same, j->val.n, j->sorted, NULL, q);
}

/* ---- Adam ---- */

static void update(struct job *j, float rate)
{
    const float b1 = 0.9f, b2 = 0.999f;
    size_t n = lr_embed_deep_params(&j->deep);
    double sum = 0;
    for (size_t i = 0; i < n; i += LR_KERN_BLOCK) {
        size_t m = MIN_OF((size_t)LR_KERN_BLOCK, n - i);
        sum += (double)lr_kern()->dot(j->grad + i, j->grad + i, m);
    }
    float clip = sum > CLIP * CLIP ? (float)(CLIP / sqrt(sum)) : 1;
    double steps = (double)++j->step;
    float c1 = (float)(rate / (1 - pow((double)b1, steps)));
    float c2 = (float)(1 / (1 - pow((double)b2, steps)));
    for (size_t i = 0; i < n; i++) {
        float g = clip * j->grad[i];
        j->m1[i] = b1 * j->m1[i] + (1 - b1) * g;
        j->m2[i] = b2 * j->m2[i] + (1 - b2) * g * g;
        j->deep.param[i] -= c1 * j->m1[i] / (sqrtf(j->m2[i] * c2) + 1e-8f);
    }
}

static float rate_now(const struct job *j)
{
    double part = (double)j->step / (double)j->steps;
    float rate = j->t->rate > 0 ? j->t->rate : 8e-5f;
    return rate * (float)fmin((part + 1e-3) / 0.05, (1 - part) / 0.95);
}

/* ---- epochs ---- */

static int tell(const struct job *j, unsigned epoch, size_t pairs, double loss,
                const struct lr_embed_quality *q)
{
    struct lr_embed_train_step s = {.epoch = epoch, .epochs = j->epochs, .pairs = pairs,
                                    .loss = loss, .epoch_done = q != NULL};
    if (q)
        s.quality = *q;
    if (j->t->on_step && j->t->on_step(j->t->ctx, &s))
        return lr_err_set(j->err, LR_ECANCEL, "training", "cancelled");
    return 0;
}

static int run_epoch(struct job *j, unsigned epoch, double *loss)
{
    float logits[LR_EMBED_DEEP_PAIRS];
    size_t seen = (size_t)(epoch - 1) * j->train.n, batches = 0;
    double sum = 0;
    for (size_t i = j->train.n; i-- > 1;) {
        size_t k = lr_rng_below(&j->rng, i + 1);
        uint32_t keep = j->order[i];
        j->order[i] = j->order[k];
        j->order[k] = keep;
    }
    for (size_t i = 0; i < j->train.n; i += j->batch) {
        size_t n = MIN_OF(j->batch, j->train.n - i);
        sum += run_batch(j, &j->train, j->order, i, n, true, logits) * (double)n;
        update(j, rate_now(j));
        if (++batches % STEP_EVERY == 0)
            LR_TRY(tell(j, epoch, seen + i + n, sum / (double)(i + n), NULL));
    }
    *loss = sum / (double)j->train.n;
    return 0;
}

static int run_epochs(struct job *j)
{
    struct lr_embed_quality q;
    double loss;
    size_t bytes = lr_embed_deep_params(&j->deep) * sizeof(float);
    measure(j, &j->out->before);
    j->out->after = j->out->before;
    memcpy(j->best, j->deep.param, bytes);
    j->steps = j->epochs * ((j->train.n + j->batch - 1) / j->batch);
    for (size_t i = 0; i < j->train.n; i++)
        j->order[i] = (uint32_t)i;
    for (unsigned e = 1; e <= j->epochs; e++) {
        LR_TRY(run_epoch(j, e, &loss));
        measure(j, &q);
        if (q.f1 > j->out->after.f1) {
            j->out->after = q;
            j->out->best_epoch = e;
            j->out->loss = loss;
            memcpy(j->best, j->deep.param, bytes);
        }
        LR_TRY(tell(j, e, (size_t)e * j->train.n, loss, &q));
    }
    memcpy(j->deep.param, j->best, bytes);
    measure(j, &q);
    return 0;
}

static int allocate(struct job *j)
{
    size_t n = lr_embed_deep_params(&j->deep), most = j->val.n;
    size_t tokens = (size_t)j->batch * LR_EMBED_DEEP_TOKENS;
    float **rows[] = {&j->deep.param, &j->best, &j->grad, &j->m1, &j->m2};
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        *rows[i] = lr_calloc(n, sizeof(float));
        LR_FAIL_IF(!*rows[i], no_memory(j));
    }
    j->x = lr_calloc(tokens * j->deep.d, sizeof(float));
    j->score = lr_calloc(most, sizeof(float));
    j->same = lr_calloc(most, sizeof(bool));
    j->sorted = lr_calloc(most, sizeof(uint32_t));
    j->order = lr_calloc(j->train.n, sizeof(uint32_t));
    if (!j->x || !j->score || !j->same || !j->sorted || !j->order)
        return no_memory(j);
    return lr_embed_deep_open(&j->work, &j->deep, j->batch) ? no_memory(j) : 0;
}

static void release(struct job *j)
{
    void *p[] = {j->deep.param, j->best, j->grad,  j->m1,      j->m2,      j->x,
                 j->score,      j->same, j->order, j->sorted,  j->train.s, j->train.ids,
                 j->val.s,      j->val.ids};
    for (size_t i = 0; i < LR_COUNT(p); i++)
        lr_free(p[i]);
    lr_embed_deep_close(j->work);
    lr_embed_scratch_close(j->scratch);
}

/* ---- the two kinds ---- */

static int write_file(struct job *j, bool both)
{
    struct rewrite w = {.from = j->t->model, .to = j->t->to, .type = -1, .n_real = 2};
    double scale, bias;
    lr_embed_fit_logistic(j->score, j->same, j->val.n, &scale, &bias);
    j->out->scale = (float)fmin(fmax(scale, 1e-3), 1e3);
    j->out->bias = (float)fmin(fmax(bias, -1e3), 1e3);
    w.real[0] = (struct rewrite_real){"larder.pair.scale", j->out->scale};
    w.real[1] = (struct rewrite_real){"larder.pair.bias", j->out->bias};
    w.put = lr_calloc(16 * (size_t)j->deep.n_layer + 4, sizeof *w.put);
    LR_FAIL_IF(!w.put, no_memory(j));
    if (j->deep.n_layer)
        w.n_put = lr_embed_deep_tensors(&j->deep, j->b, both ? PAIR_PREFIX : "", w.put);
    int rc = lr_embed_rewrite(&w, j->err);
    lr_free(w.put);
    return rc;
}

static int tune(struct job *j)
{
    const struct bert *b = j->b;
    j->deep = (struct deep){b->spec.n_embd, b->spec.n_ff, b->spec.n_head, j->t->layers,
                            b->pool_w != NULL, b->spec.eps, NULL};
    LR_TRY(read_set(j, &j->train, j->t->train));
    LR_TRY(read_set(j, &j->val, j->t->val ? j->t->val : j->t->train));
    LR_TRY(allocate(j));
    lr_embed_deep_from(&j->deep, b);
    return run_epochs(j);
}

/* One pass over the pairs: there is nothing to learn but two numbers. */
static int calibrate(struct job *j)
{
    const struct lr_embed_pairs *p = j->t->val ? j->t->val : j->t->train;
    struct lr_embed_pair *judge;
    struct lr_embed_verdict v;
    LR_TRY(lr_embed_pair_open(&judge, j->t->model, NULL, j->err));
    j->score = lr_calloc(p->n, sizeof(float));
    j->same = lr_calloc(p->n, sizeof(bool));
    j->sorted = lr_calloc(p->n, sizeof(uint32_t));
    int rc = j->score && j->same && j->sorted ? 0 : no_memory(j);
    j->val.n = p->n;
    for (size_t i = 0; i < p->n && !rc; i++) {
        struct lr_embed_two two = {.a.question = p->pair[i].a, .b.question = p->pair[i].b};
        rc = lr_embed_pair_judge(judge, j->scratch, &two, 1, &v, j->err);
        j->score[i] = v.logit;
        j->same[i] = p->pair[i].same;
        if (!rc && i % STEP_EVERY == STEP_EVERY - 1)
            rc = tell(j, 1, i + 1, 0, NULL);
    }
    lr_embed_pair_close(judge);
    LR_TRY(rc);
    lr_embed_quality(j->score, j->same, p->n, j->sorted, NULL, &j->out->before);
    j->out->after = j->out->before; /* the same order of pairs */
    j->out->best_epoch = 1;
    return 0;
}

int lr_embed_train_pair(const struct lr_embed_train *t, const struct lr_embed_model *m,
                        struct lr_embed_trained *out, struct lr_err *err)
{
    struct job j = {.t = t, .out = out, .err = err, .b = &m->bert};
    if (t->layers > m->bert.spec.n_layer || (t->layers && m->bert.n_cls != 1) ||
        t->batch > LR_EMBED_DEEP_PAIRS)
        return lr_err_set(err, LR_EINVAL, "layers",
                          "%u layers of %u, with %u outputs and batches of %u, cannot be tuned",
                          t->layers, m->bert.spec.n_layer, m->bert.n_cls, t->batch);
    j.batch = t->batch ? t->batch : 32;
    j.epochs = t->epochs ? t->epochs : 2;
    lr_rng_seed(&j.rng, t->seed);
    int rc = lr_embed_bert_scratch(&m->bert, &j.scratch) ? no_memory(&j) : 0;
    if (!rc)
        rc = t->layers ? tune(&j) : calibrate(&j);
    if (!rc)
        rc = write_file(&j, t->pair && m->bert.spec.both);
    release(&j);
    return rc;
}
