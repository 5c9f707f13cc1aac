/* SPDX-License-Identifier: Apache-2.0
 * embed/bert.c - BERT: layers of attention to both sides, over batches of ragged sequences.
 *
 *   tokens of several texts in one matrix   [CLS a b c SEP][CLS d SEP][CLS e f SEP]
 *     x = norm(word + position + segment)
 *     each layer   q k v = x W           products of the whole matrix: each weight is read once
 *                  att                   sequence by sequence, head by head, no padding anywhere
 *                  x = norm(x + att Wo)
 *                  x = norm(x + gelu(x Wu) Wd)
 *     mean over a sequence's rows, or its first row; head; unit length
 *
 * Products are kern/'s, which give every (row, token) the same bits in any company; norms, GELU and
 * attention look at one row, or one sequence, at fixed cuts. So a text's vector does not depend on
 * what else is in the batch.
 *
 * int8 means weights: Q8_0, 1.06 bytes each, multiplied in fixed point: a token's block of 32 has
 * sixteen bits an element (kern/'s mulq), which moves a cosine by 2e-10. Cosines with the same model
 * in f32: bench/embed.c. Tried: weights decoded to floats (MiniLM-L6, a question of 13 tokens 2.3 ms
 * instead of 1.4, in batches 1.8 instead of 1.2, on a Zen 5 core); activations of eight bits, which
 * cost 5e-4 in the cosine.
 *
 * GELU is the error function's, by a rational approximation (Abramowitz and Stegun 7.1.26, error
 * below 1.5e-7) over kern/'s exp: libm's erff was a quarter of the time of a short batch.
 *
 * Source: Devlin et al., "BERT", 2018; Reimers and Gurevych, "Sentence-BERT", 2019.
 */
#include "embed/embed_int.h"

#include <stdio.h>

#define BATCH_TOKENS 512u /* of one run, unless a single text has more */
#define MUL_TOKENS   128u /* of one product: its activations stay in the second-level cache */
#define QUERIES      64u  /* side by side in attention */
#define GELU_RUN     256u

/* ---- opening ---- */

static const char *blk(char name[64], uint32_t layer, const char *what)
{
    snprintf(name, 64, "blk.%u.%s", layer, what);
    return name;
}

struct reader {
    struct bert *b;
    struct source *s;
};

/* A matrix and its bias: blk.N.WHAT.weight (cols, rows), blk.N.WHAT.bias (rows). */
static int read_linear(struct reader *r, uint32_t layer, const char *what, uint32_t cols,
                       uint32_t rows, struct matrix *w, float **bias)
{
    char part[48], n[64];
    snprintf(part, sizeof part, "%s.weight", what);
    LR_TRY(lr_embed_source_matrix(r->s, blk(n, layer, part), cols, rows, r->b->exact, w));
    snprintf(part, sizeof part, "%s.bias", what);
    return lr_embed_source_floats(r->s, blk(n, layer, part), rows, 0, false, bias);
}

static int read_norm(struct reader *r, uint32_t layer, const char *what, float **w, float **bias)
{
    uint32_t d = r->b->spec.n_embd;
    char part[48], n[64];
    snprintf(part, sizeof part, "%s.weight", what);
    LR_TRY(lr_embed_source_floats(r->s, blk(n, layer, part), d, 0, false, w));
    snprintf(part, sizeof part, "%s.bias", what);
    return lr_embed_source_floats(r->s, blk(n, layer, part), d, 0, false, bias);
}

static int read_block(struct reader *r, uint32_t i)
{
    struct block *l = &r->b->blocks[i];
    uint32_t d = r->b->spec.n_embd, ff = r->b->spec.n_ff;
    LR_TRY(read_linear(r, i, "attn_q", d, d, &l->q, &l->bq));
    LR_TRY(read_linear(r, i, "attn_k", d, d, &l->k, &l->bk));
    LR_TRY(read_linear(r, i, "attn_v", d, d, &l->v, &l->bv));
    LR_TRY(read_linear(r, i, "attn_output", d, d, &l->out, &l->bout));
    LR_TRY(read_norm(r, i, "attn_output_norm", &l->norm1_w, &l->norm1_b));
    LR_TRY(read_linear(r, i, "ffn_up", d, ff, &l->up, &l->bup));
    LR_TRY(read_linear(r, i, "ffn_down", ff, d, &l->down, &l->bdown));
    return read_norm(r, i, "layer_output_norm", &l->norm2_w, &l->norm2_b);
}

/* Rows of a tensor whose number the file decides, within [lo, hi]. */
static int read_rows(struct reader *r, const char *name, uint64_t lo, uint64_t hi, uint32_t *out)
{
    const struct lr_nn_tensor *t = lr_embed_source_find(r->s, name);
    if (!t)
        return lr_err_set(r->s->err, LR_EPARSE, name, "the model lacks tensor '%s'", name);
    if (t->ne[1] < lo || t->ne[1] > hi)
        return lr_err_set(r->s->err, LR_EOVER, name, "%llu rows in '%s', expected %llu to %llu",
                          (unsigned long long)t->ne[1], name, (unsigned long long)lo,
                          (unsigned long long)hi);
    *out = (uint32_t)t->ne[1];
    return 0;
}

static int read_front(struct reader *r)
{
    struct bert *b = r->b;
    uint32_t d = b->spec.n_embd;
    LR_TRY(read_rows(r, "token_embd.weight", lr_nn_tok_size(b->tok), LR_NN_VOCAB_MAX, &b->n_vocab));
    LR_TRY(lr_embed_source_matrix(r->s, "token_embd.weight", d, b->n_vocab, b->exact, &b->embd));
    LR_TRY(lr_embed_source_floats(r->s, "position_embd.weight", d, b->spec.n_ctx, false, &b->pos));
    LR_TRY(read_rows(r, "token_types.weight", 1, 16, &b->n_types));
    LR_TRY(lr_embed_source_floats(r->s, "token_types.weight", d, b->n_types, false, &b->type));
    LR_TRY(lr_embed_source_floats(r->s, "token_embd_norm.weight", d, 0, false, &b->norm_w));
    LR_TRY(lr_embed_source_floats(r->s, "token_embd_norm.bias", d, 0, false, &b->norm_b));
    b->ones = lr_calloc(d, sizeof *b->ones);
    LR_FAIL_IF(!b->ones, lr_err_set(r->s->err, LR_ENOMEM, "encoder", "out of memory"));
    for (uint32_t i = 0; i < d; i++)
        b->ones[i] = 1;
    return 0;
}

static int read_classifier(struct reader *r)
{
    struct bert *b = r->b;
    uint32_t d = b->spec.n_embd;
    LR_TRY(lr_embed_source_floats(r->s, "cls.weight", d, d, true, &b->pool_w));
    LR_TRY(lr_embed_source_floats(r->s, "cls.bias", d, 0, !b->pool_w, &b->pool_b));
    LR_TRY(read_rows(r, "cls.output.weight", 1, 2, &b->n_cls));
    LR_TRY(lr_embed_source_floats(r->s, "cls.output.weight", d, b->n_cls, false, &b->cls_w));
    return lr_embed_source_floats(r->s, "cls.output.bias", b->n_cls, 0, false, &b->cls_b);
}

static int read_back(struct reader *r)
{
    struct bert *b = r->b;
    uint32_t d = b->spec.n_embd;
    b->dim = d;
    if (b->spec.kind == LR_EMBED_PAIR)
        return read_classifier(r);
    /* Encoders of sentences often carry BERT's pooler along; nothing goes through it. */
    r->s->used += lr_embed_source_find(r->s, "cls.weight") != NULL;
    r->s->used += lr_embed_source_find(r->s, "cls.bias") != NULL;
    if (!lr_embed_source_find(r->s, "head.weight"))
        return 0;
    LR_TRY(read_rows(r, "head.weight", 1, LR_EMBED_DIM_MAX, &b->dim));
    return lr_embed_source_floats(r->s, "head.weight", d, b->dim, false, &b->head);
}

int lr_embed_bert_open(struct bert *b, const struct spec *spec, struct source *s,
                       struct lr_nn_tok *tok, bool exact)
{
    struct reader r = {b, s};
    *b = (struct bert){.spec = *spec, .exact = exact, .tok = tok};
    b->roles = *lr_nn_tok_roles(tok);
    LR_TRY(lr_embed_tok_digest(tok, &s->id, s->err));
    LR_TRY(read_front(&r));
    b->blocks = lr_calloc(spec->n_layer, sizeof *b->blocks);
    LR_FAIL_IF(!b->blocks, lr_err_set(s->err, LR_ENOMEM, "layers", "out of memory"));
    for (uint32_t i = 0; i < spec->n_layer; i++)
        LR_TRY(read_block(&r, i));
    LR_TRY(read_back(&r));
    return lr_embed_source_rest(s, lr_embed_bert_known);
}

static void close_block(struct block *l)
{
    struct matrix *m[] = {&l->q, &l->k, &l->v, &l->out, &l->up, &l->down};
    float *f[] = {l->bq,    l->bk,      l->bv,      l->bout,    l->bup,
                  l->bdown, l->norm1_w, l->norm1_b, l->norm2_w, l->norm2_b};
    for (size_t i = 0; i < LR_COUNT(m); i++)
        lr_embed_matrix_free(m[i]);
    for (size_t i = 0; i < LR_COUNT(f); i++)
        lr_free(f[i]);
}

void lr_embed_bert_close(struct bert *b)
{
    float *f[] = {b->pos,    b->type,  b->norm_w, b->norm_b, b->head,
                  b->pool_w, b->pool_b, b->cls_w,  b->cls_b,  b->ones};
    for (uint32_t i = 0; b->blocks && i < b->spec.n_layer; i++)
        close_block(&b->blocks[i]);
    for (size_t i = 0; i < LR_COUNT(f); i++)
        lr_free(f[i]);
    lr_free(b->blocks);
    lr_embed_matrix_free(&b->embd);
    lr_nn_tok_close(b->tok);
}

/* ---- scratch ---- */

/* Cuts n elements of `size` bytes off *p (NULL while measuring); *used counts. */
static void *take(char *p, size_t *used, size_t n, size_t size)
{
    void *at = p ? p + *used : NULL;
    *used = (*used + n * size + LR_KERN_ALIGN - 1) / LR_KERN_ALIGN * LR_KERN_ALIGN;
    return at;
}

/* Bounds: 8,192 tokens of 4,096 elements, 128 of 16,384: a gigabyte at the very most, for a model
 * whose positions alone are 128 MiB. */
static size_t lay_out(const struct bert *b, struct lr_embed_scratch *s, char *p)
{
    size_t t = s->tokens_max, d = b->spec.n_embd, ff = b->spec.n_ff, used = 0;
    s->kern = take(p, &used, 1, LR_KERN_SCRATCH);
    s->x = take(p, &used, t * d, sizeof(float));
    s->q = take(p, &used, t * d, sizeof(float));
    s->k = take(p, &used, t * d, sizeof(float));
    s->v = take(p, &used, t * d, sizeof(float));
    s->att = take(p, &used, t * d, sizeof(float));
    s->tmp = take(p, &used, t * d, sizeof(float));
    s->up = take(p, &used, MUL_TOKENS * ff, sizeof(float));
    if (!b->exact)
        s->act = take(p, &used, MUL_TOKENS, lr_kern_act_bytes((MAX_OF(d, ff) + 31) / 32 * 32));
    s->score = take(p, &used, (size_t)QUERIES * b->spec.tokens_max, sizeof(float));
    s->row = take(p, &used, d, sizeof(float));
    s->row2 = take(p, &used, d, sizeof(float));
    s->token = take(p, &used, t, sizeof *s->token);
    s->segment = take(p, &used, t, sizeof *s->segment);
    s->spans = take(p, &used, t, sizeof *s->spans);
    return used;
}

int lr_embed_bert_scratch(const struct bert *b, struct lr_embed_scratch **out)
{
    struct lr_embed_scratch *s;
    LR_TRY(lr_embed_scratch_new(&s, (size_t)b->spec.tokens_max * LR_EMBED_TOKEN_BYTES));
    s->tokens_max = MAX_OF(BATCH_TOKENS, b->spec.tokens_max);
    s->block = lr_calloc(1, lay_out(b, s, NULL) + LR_KERN_ALIGN);
    if (!s->block) {
        lr_embed_scratch_close(s);
        return LR_ENOMEM;
    }
    size_t off = (uintptr_t)s->block % LR_KERN_ALIGN;
    lay_out(b, s, (char *)s->block + (off ? LR_KERN_ALIGN - off : 0));
    *out = s;
    return 0;
}

/* ---- one run ---- */

/* x = (x - mean) / sqrt(variance + eps) * w + bias, for each of n rows. */
static void norm(const struct bert *b, float *x, size_t n, const float *w, const float *bias)
{
    const struct lr_kern *k = lr_kern();
    size_t d = b->spec.n_embd;
    for (size_t t = 0; t < n; t++, x += d) {
        float mean = k->dot(x, b->ones, d) / (float)d;
        k->axpy(x, -mean, b->ones, d);
        float r = 1.0f / sqrtf(k->dot(x, x, d) / (float)d + b->spec.eps);
        for (size_t i = 0; i < d; i++) {
            float y = x[i] * r * w[i];
            x[i] = y + bias[i];
        }
    }
}

/* Vectors as gcc and clang both have them: compilers do not find them in the choice of sides. */
#define WIDTH 4u
typedef float lanes __attribute__((vector_size(WIDTH * sizeof(float))));
typedef int32_t masks __attribute__((vector_size(WIDTH * sizeof(int32_t))));

/* WIDTH elements of x times P = (1 + erf(x / sqrt 2)) / 2; exp: exp(-x^2 / 2). */
static inline void gelu_lanes(float *at, const float *exp)
{
    lanes x, e;
    memcpy(&x, at, sizeof x);
    memcpy(&e, exp, sizeof e);
    masks negative = x < 0.0f;
    lanes z = (lanes)((masks)x & INT32_MAX) * 0.70710678f;
    lanes t = 1.0f / (1.0f + 0.3275911f * z);
    lanes p = 1.421413741f + t * (-1.453152027f + t * 1.061405429f);
    p = t * (0.254829592f + t * (-0.284496736f + t * p));
    lanes tail = 0.5f * p * e; /* half of 1 - erf(z) */
    x *= (lanes)((negative & (masks)tail) | (~negative & (masks)(1.0f - tail)));
    memcpy(at, &x, sizeof x);
}

/* In place, GELU_RUN elements; e: room for as many. */
static void gelu_run(float *x, float *e)
{
    for (size_t i = 0; i < GELU_RUN; i++)
        e[i] = -0.5f * x[i] * x[i];
    lr_kern()->exp(e, GELU_RUN);
    for (size_t i = 0; i < GELU_RUN; i += WIDTH)
        gelu_lanes(x + i, e + i);
}

static void gelu(float *x, size_t n)
{
    float run[GELU_RUN], e[GELU_RUN];
    for (; n >= GELU_RUN; n -= GELU_RUN, x += GELU_RUN)
        gelu_run(x, e);
    if (!n)
        return;
    memset(run, 0, sizeof run);
    memcpy(run, x, n * sizeof *x);
    gelu_run(run, e);
    memcpy(x, run, n * sizeof *x);
}

/* out = x W, n <= MUL_TOKENS rows; with weights of bytes in fixed point, unless exactly. */
static void multiply(struct lr_embed_scratch *s, const struct matrix *m, const float *x, size_t n,
                     float *out)
{
    const struct lr_kern *k = lr_kern();
    if (!s->act || m->rows.type < LR_KERN_Q8_0) {
        k->mul(&m->rows, m->cols, x, m->cols, n, out, m->rows.n, s->kern);
        return;
    }
    size_t record = lr_kern_act_bytes(m->cols);
    for (size_t t = 0; t < n; t++)
        k->act_q16((char *)s->act + t * record, x + t * m->cols, m->cols);
    k->mulq(&m->rows, m->cols, s->act, n, out, m->rows.n, s->kern);
}

/* out = x W + bias, n rows. */
static void linear(struct lr_embed_scratch *s, const struct matrix *m, const float *bias,
                   const float *x, size_t n, float *out)
{
    const struct lr_kern *k = lr_kern();
    for (size_t t = 0; t < n; t += MUL_TOKENS)
        multiply(s, m, x + t * m->cols, MIN_OF(MUL_TOKENS, n - t), out + t * m->rows.n);
    for (size_t t = 0; t < n; t++)
        k->add(out + t * m->rows.n, bias, m->rows.n);
}

/* Queries [at, at + n) of one head with all tokens of their sequence. */
static void attend(const struct bert *b, struct lr_embed_scratch *s, const struct span *sp,
                   uint32_t head, uint32_t at, uint32_t n)
{
    const struct lr_kern *k = lr_kern();
    size_t d = b->spec.n_embd, dh = d / b->spec.n_head, col = head * dh;
    size_t base = sp->first * d + col, first = base + at * d;
    float factor = 1.0f / sqrtf((float)dh);
    struct lr_kern_rows keys = {LR_KERN_F32, s->k + base, d * sizeof(float), sp->n};
    struct lr_kern_rows values = {LR_KERN_F32, s->v + base, d * sizeof(float), sp->n};
    k->mul(&keys, dh, s->q + first, d, n, s->score, sp->n, s->kern);
    for (uint32_t t = 0; t < n; t++) {
        struct lr_kern_softmax soft = LR_KERN_SOFTMAX_INIT;
        float *row = s->score + (size_t)t * sp->n;
        k->scale(row, factor, sp->n);
        k->softmax_push(&soft, row, sp->n);
        k->scale(row, 1.0f / soft.sum, sp->n);
        memset(s->att + first + t * d, 0, dh * sizeof(float));
    }
    k->mix(&values, dh, s->score, sp->n, n, s->att + first, d, s->kern);
}

static void attention(const struct bert *b, struct lr_embed_scratch *s)
{
    for (uint32_t i = 0; i < s->n_spans; i++)
        for (uint32_t h = 0; h < b->spec.n_head; h++)
            for (uint32_t at = 0; at < s->spans[i].n; at += QUERIES)
                attend(b, s, &s->spans[i], h, at, MIN_OF(QUERIES, s->spans[i].n - at));
}

static void run_block(const struct bert *b, struct lr_embed_scratch *s, const struct block *l)
{
    const struct lr_kern *k = lr_kern();
    size_t n = s->n_tokens, d = b->spec.n_embd;
    linear(s, &l->q, l->bq, s->x, n, s->q);
    linear(s, &l->k, l->bk, s->x, n, s->k);
    linear(s, &l->v, l->bv, s->x, n, s->v);
    attention(b, s);
    linear(s, &l->out, l->bout, s->att, n, s->tmp);
    k->add(s->x, s->tmp, n * d);
    norm(b, s->x, n, l->norm1_w, l->norm1_b);
    for (size_t t = 0; t < n; t += MUL_TOKENS) { /* the wide rows never leave the cache */
        size_t m = MIN_OF(MUL_TOKENS, n - t);
        linear(s, &l->up, l->bup, s->x + t * d, m, s->up);
        gelu(s->up, m * b->spec.n_ff);
        linear(s, &l->down, l->bdown, s->up, m, s->tmp + t * d);
    }
    k->add(s->x, s->tmp, n * d);
    norm(b, s->x, n, l->norm2_w, l->norm2_b);
}

void lr_embed_bert_run_to(const struct bert *b, struct lr_embed_scratch *s, uint32_t layers)
{
    const struct lr_kern *k = lr_kern();
    const struct lr_kern_rows *w = &b->embd.rows;
    size_t d = b->spec.n_embd;
    for (uint32_t i = 0; i < s->n_spans; i++)
        for (uint32_t t = 0; t < s->spans[i].n; t++) {
            uint32_t at = s->spans[i].first + t;
            float *x = s->x + at * d;
            uint32_t segment = MIN_OF((uint32_t)s->segment[at], b->n_types - 1);
            k->decode(w->type, x, (const char *)w->p + s->token[at] * w->stride, d);
            k->add(x, b->pos + t * d, d);
            k->add(x, b->type + segment * d, d);
        }
    norm(b, s->x, s->n_tokens, b->norm_w, b->norm_b);
    for (uint32_t i = 0; i < layers; i++)
        run_block(b, s, &b->blocks[i]);
}

void lr_embed_bert_run(const struct bert *b, struct lr_embed_scratch *s)
{
    lr_embed_bert_run_to(b, s, b->spec.n_layer);
}

/* ---- texts ---- */

static void put(struct lr_embed_scratch *s, uint32_t token)
{
    s->token[s->n_tokens] = token;
    s->segment[s->n_tokens++] = 0;
}

static void pool(const struct bert *b, const struct lr_embed_scratch *s, const struct span *sp,
                 float *out)
{
    const struct lr_kern *k = lr_kern();
    size_t d = b->spec.n_embd;
    const float *x = s->x + sp->first * d;
    memcpy(out, x, d * sizeof *out);
    for (uint32_t t = 1; b->spec.pooling == LR_EMBED_MEAN && t < sp->n; t++)
        k->add(out, x + t * d, d);
    if (b->spec.pooling == LR_EMBED_MEAN)
        k->scale(out, 1.0f / (float)sp->n, d);
}

/* Where vectors go, and of what kind. */
struct sink {
    float *out; /* of text 0 of the batch */
    size_t dim;
    bool raw; /* pooled states, as they are */
};

static void flush(const struct bert *b, struct lr_embed_scratch *s, const struct sink *sink)
{
    lr_embed_bert_run(b, s);
    for (uint32_t i = 0; i < s->n_spans; i++) {
        float *to = sink->out + s->spans[i].text * sink->dim;
        bool turn = b->head && !sink->raw;
        pool(b, s, &s->spans[i], turn ? s->row : to);
        if (turn)
            lr_embed_project(b->head, b->spec.n_embd, b->dim, s->row, 1, to);
        else if (!sink->raw)
            lr_embed_unit(to, sink->dim);
    }
    s->n_spans = s->n_tokens = 0;
}

/* The text's tokens behind those that wait; false: it has none, its row is zeros. */
static bool queue(const struct bert *b, struct lr_embed_scratch *s, uint32_t text,
                  struct lr_embed_note *note)
{
    const struct lr_nn_ids *ids = &s->ids[0];
    for (size_t i = 0; i < ids->n; i++)
        note->unknown += ids->id[i] == b->roles.unk;
    note->tokens = (uint32_t)ids->n + 2;
    note->empty = note->unknown == ids->n;
    if (note->empty)
        return false;
    s->spans[s->n_spans++] = (struct span){s->n_tokens, note->tokens, text};
    put(s, b->roles.cls);
    for (size_t i = 0; i < ids->n; i++)
        put(s, ids->id[i]);
    put(s, b->roles.sep);
    return true;
}

static int encode(const struct bert *b, struct lr_embed_scratch *s, const struct lr_str *texts,
                  size_t n, struct sink sink, struct lr_embed_note *notes, struct lr_err *err)
{
    size_t from = 0; /* text of number 0 of the batch */
    float *out = sink.out;
    s->n_spans = s->n_tokens = 0;
    for (size_t i = 0; i < n; i++) {
        struct lr_embed_note note = {0};
        LR_TRY(lr_embed_tokens(b->tok, texts[i], b->spec.tokens_max - 2, &s->ids[0], &note.cut,
                               err));
        if (s->n_tokens + s->ids[0].n + 2 > s->tokens_max || i - from == UINT32_MAX) {
            flush(b, s, &sink);
            from = i;
            sink.out = out + i * sink.dim;
        }
        if (!queue(b, s, (uint32_t)(i - from), &note))
            memset(out + i * sink.dim, 0, sink.dim * sizeof *out);
        if (notes)
            notes[i] = note;
    }
    flush(b, s, &sink);
    return 0;
}

int lr_embed_bert_pool(const struct bert *b, struct lr_embed_scratch *s,
                       const struct lr_str *texts, size_t n, float *pooled,
                       struct lr_embed_note *notes, struct lr_err *err)
{
    return encode(b, s, texts, n, (struct sink){pooled, b->spec.n_embd, true}, notes, err);
}

int lr_embed_bert_encode(const struct bert *b, struct lr_embed_scratch *s,
                         const struct lr_str *texts, size_t n, float *vectors,
                         struct lr_embed_note *notes, struct lr_err *err)
{
    return encode(b, s, texts, n, (struct sink){vectors, b->dim, false}, notes, err);
}
