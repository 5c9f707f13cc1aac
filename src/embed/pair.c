/* SPDX-License-Identifier: Apache-2.0
 * embed/pair.c - do these two ask the same? A BERT that reads both at once.
 *
 *   [CLS] qa (SEP before a)? [SEP] qb (SEP before b)? [SEP]     segment 0 up to the middle, then 1
 *   h = first state;  h = tanh(pooler h) where there is one;  logit = classifier h
 *   p = sigmoid(scale * logit + bias)
 *
 * An encoder squeezes a question into one vector before it sees the other one, and what tells
 * "enable 2FA" from "disable 2FA" is easily lost there; here every word sees every word. It costs a
 * run a pair, so it is for candidates that the encoder found and the gates let pass.
 *
 * Order. "a same as b" must not depend on who came first, but a cross-encoder's answer does. The
 * side that is the lesser in memcmp's order is always first: symmetry costs nothing. Training shows
 * both orders, so neither is strange to the model. Tried: the mean of both orders; twice the price,
 * and the bound of the shelf above is learned on whatever this says.
 *
 * Calibration. scale and bias are fitted on pairs the model has not seen (Platt, "Probabilistic
 * outputs for support vector machines", 1999; temperature: Guo et al., 2017) and live in the file.
 * Classifiers of two outputs (not same, same) give the difference of the two.
 */
#include "embed/embed_int.h"

struct lr_embed_pair {
    struct lr_embed_model *m;
};

/* Takes m. */
static int wrap(struct lr_embed_pair **out, struct lr_embed_model *m, struct lr_err *err)
{
    if (m->info.kind != LR_EMBED_PAIR) {
        lr_embed_close(m);
        return lr_err_set(err, LR_EUNSUPPORTED, "model", "this is an encoder, no pair verifier");
    }
    struct lr_embed_pair *p = lr_new(struct lr_embed_pair);
    if (!p) {
        lr_embed_close(m);
        return lr_err_set(err, LR_ENOMEM, "pair verifier", "out of memory");
    }
    p->m = m;
    *out = p;
    return 0;
}

int lr_embed_pair_open(struct lr_embed_pair **out, const char *path,
                       const struct lr_embed_opts *opts, struct lr_err *err)
{
    struct lr_embed_model *m;
    LR_TRY(lr_embed_open_any(&m, path, true, opts, err));
    return wrap(out, m, err);
}

int lr_embed_pair_open_gguf(struct lr_embed_pair **out, const struct lr_nn_gguf *g,
                            const struct lr_embed_opts *opts, struct lr_err *err)
{
    struct lr_embed_model *m;
    LR_TRY(lr_embed_open_any_gguf(&m, g, true, opts, err));
    return wrap(out, m, err);
}

void lr_embed_pair_close(struct lr_embed_pair *p)
{
    if (!p)
        return;
    lr_embed_close(p->m);
    lr_free(p);
}

const struct lr_embed_info *lr_embed_pair_info(const struct lr_embed_pair *p)
{
    return &p->m->info;
}

int lr_embed_pair_scratch_open(const struct lr_embed_pair *p, struct lr_embed_scratch **out)
{
    return lr_embed_bert_scratch(&p->m->bert, out);
}

void lr_embed_pair_calibration(const struct lr_embed_pair *p, float *scale, float *bias)
{
    *scale = p->m->bert.spec.scale;
    *bias = p->m->bert.spec.bias;
}

/* ---- a pair's tokens ---- */

/* What of a side goes in: the question's first tokens, the last of what was before. */
struct share {
    size_t question, before;
};

static size_t wanted(const struct lr_nn_ids *q, const struct lr_nn_ids *before)
{
    return q->n + (before->n ? before->n + 1 : 0);
}

static struct share split(const struct lr_nn_ids *q, const struct lr_nn_ids *before, size_t room)
{
    struct share s = {MIN_OF(q->n, room), 0};
    if (before->n && room - s.question >= 2)
        s.before = MIN_OF(before->n, room - s.question - 1);
    return s;
}

static void put(struct lr_embed_scratch *s, uint32_t token, uint8_t segment)
{
    s->token[s->n_tokens] = token;
    s->segment[s->n_tokens++] = segment;
}

static void put_side(const struct bert *b, struct lr_embed_scratch *s, struct share share,
                     const struct lr_nn_ids *q, const struct lr_nn_ids *before, uint8_t segment)
{
    for (size_t i = 0; i < share.question; i++)
        put(s, q->id[i], segment);
    if (share.before)
        put(s, b->roles.sep, segment);
    for (size_t i = before->n - share.before; i < before->n; i++)
        put(s, before->id[i], segment);
    put(s, b->roles.sep, segment);
}

/* A side's tokens: of the question from its start, of what was before from its end. */
static int read_side(const struct bert *b, const struct lr_embed_side *side, struct lr_nn_ids *ids,
                     bool *cut, struct lr_err *err)
{
    uint32_t max = b->spec.tokens_max;
    size_t bytes = (size_t)max * LR_EMBED_TOKEN_BYTES;
    struct lr_str tail = side->before;
    bool more;
    LR_TRY(lr_embed_tokens(b->tok, side->question, max, &ids[0], cut, err));
    if (tail.n > bytes) {
        tail.p += tail.n - bytes;
        tail.n = bytes;
        *cut = true;
    }
    ids[1].n = 0;
    /* All of them: it is the last that count. */
    LR_TRY(lr_embed_tokens(b->tok, tail, MAX_OF(max, (uint32_t)bytes), &ids[1], &more, err));
    return 0;
}

static bool second_first(const struct lr_embed_two *two)
{
    int c = lr_str_cmp(two->a.question, two->b.question);
    return c ? c > 0 : lr_str_cmp(two->a.before, two->b.before) > 0;
}

/* Tokens that queue will put. */
static size_t length(const struct bert *b, const struct lr_embed_scratch *s)
{
    size_t n = wanted(&s->ids[0], &s->ids[1]) + wanted(&s->ids[2], &s->ids[3]) + 3;
    return MIN_OF(n, b->spec.tokens_max);
}

/* Puts the tokens of ids[0..3] behind those that wait. */
static void queue(const struct bert *b, struct lr_embed_scratch *s, uint32_t number,
                  struct lr_embed_verdict *v)
{
    const struct lr_nn_ids *ids = s->ids;
    size_t room = b->spec.tokens_max - 3;
    size_t a = wanted(&ids[0], &ids[1]), z = wanted(&ids[2], &ids[3]);
    size_t room_a = MIN_OF(a, MAX_OF(room / 2, room - MIN_OF(room, z)));
    struct share first = split(&ids[0], &ids[1], room_a);
    struct share second = split(&ids[2], &ids[3], room - room_a);
    uint32_t at = s->n_tokens;
    put(s, b->roles.cls, 0);
    put_side(b, s, first, &ids[0], &ids[1], 0);
    put_side(b, s, second, &ids[2], &ids[3], 1);
    v->tokens = s->n_tokens - at;
    v->cut |= a + z > room;
    for (uint32_t i = at; i < s->n_tokens; i++)
        v->unknown += s->token[i] == b->roles.unk;
    s->spans[s->n_spans++] = (struct span){at, v->tokens, number};
}

/* ---- verdicts ---- */

static float logit_of(const struct bert *b, struct lr_embed_scratch *s, const struct span *sp)
{
    const struct lr_kern *k = lr_kern();
    size_t d = b->spec.n_embd;
    const float *h = s->x + sp->first * d;
    if (b->pool_w) {
        for (size_t r = 0; r < d; r++)
            s->row[r] = tanhf(k->dot(b->pool_w + r * d, h, d) + b->pool_b[r]);
        h = s->row;
    }
    float last = k->dot(b->cls_w + (b->n_cls - 1) * d, h, d) + b->cls_b[b->n_cls - 1];
    return b->n_cls == 1 ? last : last - (k->dot(b->cls_w, h, d) + b->cls_b[0]);
}

static void flush(const struct bert *b, struct lr_embed_scratch *s, struct lr_embed_verdict *out)
{
    lr_embed_bert_run(b, s);
    for (uint32_t i = 0; i < s->n_spans; i++) {
        struct lr_embed_verdict *v = &out[s->spans[i].text];
        v->logit = logit_of(b, s, &s->spans[i]);
        float p = 1.0f / (1.0f + expf(-(b->spec.scale * v->logit + b->spec.bias)));
        v->p = p > 1e-7f ? MIN_OF(p, 1 - 1e-7f) : 1e-7f; /* NaN too: never the same */
    }
    s->n_spans = s->n_tokens = 0;
}

int lr_embed_pair_judge(const struct lr_embed_pair *p, struct lr_embed_scratch *s,
                        const struct lr_embed_two *pairs, size_t n, struct lr_embed_verdict *out,
                        struct lr_err *err)
{
    const struct bert *b = &p->m->bert;
    size_t from = 0;
    s->n_spans = s->n_tokens = 0;
    for (size_t i = 0; i < n; i++) {
        bool swap = second_first(&pairs[i]);
        out[i] = (struct lr_embed_verdict){0};
        bool cut[2] = {false, false};
        LR_TRY(read_side(b, swap ? &pairs[i].b : &pairs[i].a, &s->ids[0], &cut[0], err));
        LR_TRY(read_side(b, swap ? &pairs[i].a : &pairs[i].b, &s->ids[2], &cut[1], err));
        out[i].cut = cut[0] || cut[1];
        if (s->n_tokens + length(b, s) > s->tokens_max || i - from == UINT32_MAX) {
            flush(b, s, out + from);
            from = i;
        }
        queue(b, s, (uint32_t)(i - from), &out[i]);
    }
    flush(b, s, out + from);
    return 0;
}
