/* SPDX-License-Identifier: Apache-2.0
 * embed/deep.c - gradients through the last layers of a pair verifier.
 *
 *   x  states below (fixed)   ->  layer  -> .. ->  layer  ->  first state  ->  tanh pooler  ->  logit
 *
 *   a layer, forwards; what backwards needs again stays in memory:
 *     in -> q k v -> P = softmax -> att --Wo--> + in -> norm -> hat1, x1
 *     x1 --Wu--> u -> g = gelu(u) --Wd--> + x1 -> norm -> hat2, out
 *
 *   L = mean over pairs of -log sigmoid(+-logit), labels softened by SOFT
 *
 * Lower layers know words and syntax; what "the same question" means is learned above them, and a
 * fixed part needs neither gradient nor moments: it runs as int8 through bert.c. So a minute of one
 * core is some eight thousand pairs for four layers of 384.
 *
 * All products are kern/'s mul, which multiplies rows by rows: forwards by W; for the states'
 * gradient by W turned once a batch; for the weights' gradient the turned states by the turned
 * gradients. Turning costs a hundredth of a product. Sums are the kernels' floats: the gradient is
 * held against differences of the loss by a test, to three digits.
 *
 * Norms keep (x - mean) / deviation; their gradient is r (dy - mean(dy) - hat mean(dy hat)), dy the
 * gradient times the norm's weight. Sequences lie ragged behind one another, as in bert.c.
 *
 * Tried: all layers; twice the time for a gain within the noise. A pass that adds up several
 * batches' gradients: no better than more, smaller steps.
 */
#include "embed/embed_int.h"

#include <stdio.h>

#define TILE 128u /* tokens of one product */
#define SOFT 0.02f

/* Where a layer's parameters begin, in order: matrix, bias six times, two norms. */
enum { Q, K, V, O, UP, DOWN, MATRICES };

struct place {
    size_t w, b;
    uint32_t rows, cols;
};

static struct place matrix_at(const struct deep *p, uint32_t layer, int which)
{
    size_t d = p->d, ff = p->ff, at = layer * lr_embed_deep_layer(p);
    for (int i = 0;; i++) {
        size_t rows = i == UP ? ff : d, cols = i == DOWN ? ff : d;
        if (i == which)
            return (struct place){at, at + rows * cols, (uint32_t)rows, (uint32_t)cols};
        at += rows * cols + rows;
    }
}

static size_t norm_at(const struct deep *p, uint32_t layer, int second)
{
    return (layer + 1) * lr_embed_deep_layer(p) - (second ? 2 : 4) * (size_t)p->d;
}

size_t lr_embed_deep_layer(const struct deep *p)
{
    size_t d = p->d, ff = p->ff;
    return 4 * (d * d + d) + 2 * d * ff + ff + d + 4 * d;
}

size_t lr_embed_deep_params(const struct deep *p)
{
    size_t d = p->d;
    return p->n_layer * lr_embed_deep_layer(p) + (p->pooler ? d * d + d : 0) + d + 1;
}

/* ---- parameters of a model, and back ---- */

static void copy_matrix(const struct matrix *m, float *to)
{
    for (size_t r = 0; r < m->rows.n; r++)
        lr_kern()->decode(m->rows.type, to + r * m->cols,
                          (const char *)m->rows.p + r * m->rows.stride, m->cols);
}

void lr_embed_deep_from(const struct deep *p, const struct bert *b)
{
    size_t d = p->d;
    for (uint32_t i = 0; i < p->n_layer; i++) {
        const struct block *l = &b->blocks[b->spec.n_layer - p->n_layer + i];
        const struct matrix *m[] = {&l->q, &l->k, &l->v, &l->out, &l->up, &l->down};
        const float *bias[] = {l->bq, l->bk, l->bv, l->bout, l->bup, l->bdown};
        const float *norm[] = {l->norm1_w, l->norm1_b, l->norm2_w, l->norm2_b};
        for (int k = 0; k < MATRICES; k++) {
            struct place at = matrix_at(p, i, k);
            copy_matrix(m[k], p->param + at.w);
            memcpy(p->param + at.b, bias[k], at.rows * sizeof(float));
        }
        for (size_t k = 0; k < LR_COUNT(norm); k++)
            memcpy(p->param + norm_at(p, i, 0) + k * d, norm[k], d * sizeof(float));
    }
    float *at = p->param + p->n_layer * lr_embed_deep_layer(p);
    if (p->pooler) {
        memcpy(at, b->pool_w, d * d * sizeof(float));
        memcpy(at + d * d, b->pool_b, d * sizeof(float));
        at += d * d + d;
    }
    memcpy(at, b->cls_w, d * sizeof(float));
    at[d] = b->cls_b[0];
}

static void put(struct rewrite_tensor *t, const char *prefix, const char *name, const float *data,
                uint32_t cols, uint32_t rows)
{
    *t = (struct rewrite_tensor){.data = data, .cols = cols, .rows = rows};
    t->type = rows > 1 && !strstr(name, "cls") ? LR_NN_Q8_0 : LR_NN_F32;
    snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
}

size_t lr_embed_deep_tensors(const struct deep *p, const struct bert *b, const char *prefix,
                             struct rewrite_tensor *out)
{
    static const char *const names[] = {"attn_q",      "attn_k", "attn_v",
                                        "attn_output", "ffn_up", "ffn_down"};
    static const char *const norms[] = {"attn_output_norm.weight", "attn_output_norm.bias",
                                        "layer_output_norm.weight", "layer_output_norm.bias"};
    size_t n = 0, d = p->d;
    char name[48];
    for (uint32_t i = 0; i < p->n_layer; i++) {
        uint32_t layer = b->spec.n_layer - p->n_layer + i;
        for (int k = 0; k < MATRICES; k++) {
            struct place at = matrix_at(p, i, k);
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, names[k]);
            put(&out[n++], prefix, name, p->param + at.w, at.cols, at.rows);
            snprintf(name, sizeof name, "blk.%u.%s.bias", layer, names[k]);
            put(&out[n++], prefix, name, p->param + at.b, at.rows, 0);
        }
        for (size_t k = 0; k < LR_COUNT(norms); k++) {
            snprintf(name, sizeof name, "blk.%u.%s", layer, norms[k]);
            put(&out[n++], prefix, name, p->param + norm_at(p, i, 0) + k * d, p->d, 0);
        }
    }
    const float *at = p->param + p->n_layer * lr_embed_deep_layer(p);
    if (p->pooler) {
        put(&out[n++], prefix, "cls.weight", at, p->d, p->d);
        put(&out[n++], prefix, "cls.bias", at + d * d, p->d, 0);
        at += d * d + d;
    }
    put(&out[n++], prefix, "cls.output.weight", at, p->d, 1);
    put(&out[n++], prefix, "cls.output.bias", at + d, 1, 0);
    return n;
}

/* ---- memory ---- */

struct state {
    float *in, *q, *k, *v, *att, *hat1, *x1, *u, *g, *hat2; /* (tokens, d or ff) */
    float *p;      /* attention: (heads, n, n) of each sequence */
    float *r1, *r2; /* (tokens): 1 / deviation */
};

struct deep_work {
    uint32_t tokens, pairs;
    struct state *layer; /* owned (n_layer) */
    float *out;          /* (tokens, d): of the last layer */
    float *a, *b, *c, *e; /* (tokens, d): gradients on their way */
    float *wide;         /* (tokens, ff) */
    float *turned, *turned2; /* of a matrix, or of states */
    float *first, *pooled; /* (pairs, d) */
    float *ones;         /* (d) */
    void *kern;
    void *block;         /* owned: all but `layer` */
};

static void *take(char *base, size_t *used, size_t bytes)
{
    void *at = base ? base + *used : NULL;
    *used = (*used + bytes + LR_KERN_ALIGN - 1) / LR_KERN_ALIGN * LR_KERN_ALIGN;
    return at;
}

static size_t lay_out(const struct deep *p, struct deep_work *w, char *base)
{
    size_t used = 0, f = sizeof(float), t = w->tokens, d = p->d, ff = p->ff;
    size_t td = t * d * f, wide = t * ff * f;
    w->kern = take(base, &used, LR_KERN_SCRATCH);
    for (uint32_t i = 0; i < p->n_layer; i++) {
        struct state *s = &w->layer[i];
        float **rows[] = {&s->in, &s->q, &s->k, &s->v, &s->att, &s->hat1, &s->x1, &s->hat2};
        for (size_t k = 0; k < LR_COUNT(rows); k++)
            *rows[k] = take(base, &used, td);
        s->u = take(base, &used, wide);
        s->g = take(base, &used, wide);
        s->p = take(base, &used, t * p->heads * LR_EMBED_DEEP_TOKENS * f);
        s->r1 = take(base, &used, t * f);
        s->r2 = take(base, &used, t * f);
    }
    float **rows[] = {&w->out, &w->a, &w->b, &w->c, &w->e};
    for (size_t k = 0; k < LR_COUNT(rows); k++)
        *rows[k] = take(base, &used, td);
    w->wide = take(base, &used, wide);
    w->turned = take(base, &used, MAX_OF(wide, d * MAX_OF(ff, d) * f));
    w->turned2 = take(base, &used, wide);
    w->first = take(base, &used, w->pairs * d * f);
    w->pooled = take(base, &used, w->pairs * d * f);
    w->ones = take(base, &used, d * f);
    return used;
}

int lr_embed_deep_open(struct deep_work **out, const struct deep *p, uint32_t pairs)
{
    struct deep_work *w = lr_new(struct deep_work);
    LR_FAIL_IF(!w, LR_ENOMEM);
    w->pairs = pairs;
    w->tokens = pairs * LR_EMBED_DEEP_TOKENS;
    w->layer = lr_calloc(p->n_layer, sizeof *w->layer);
    w->block = w->layer ? lr_calloc(1, lay_out(p, w, NULL) + LR_KERN_ALIGN) : NULL;
    if (!w->block) {
        lr_embed_deep_close(w);
        return LR_ENOMEM;
    }
    size_t off = (uintptr_t)w->block % LR_KERN_ALIGN;
    lay_out(p, w, (char *)w->block + (off ? LR_KERN_ALIGN - off : 0));
    for (uint32_t i = 0; i < p->d; i++)
        w->ones[i] = 1;
    *out = w;
    return 0;
}

void lr_embed_deep_close(struct deep_work *w)
{
    if (!w)
        return;
    lr_free(w->layer);
    lr_free(w->block);
    lr_free(w);
}

/* ---- products ---- */

static void multiply(struct deep_work *w, const float *rows, size_t n, size_t k, const float *x,
                     size_t n_x, float *out)
{
    struct lr_kern_rows r = {LR_KERN_F32, rows, k * sizeof(float), n};
    for (size_t t = 0; t < n_x; t += TILE)
        lr_kern()->mul(&r, k, x + t * k, k, MIN_OF(TILE, n_x - t), out + t * n, n, w->kern);
}

/* to (cols, rows) = from (rows, cols), in squares that the first-level cache holds. */
static void turn(const float *from, size_t rows, size_t cols, float *to)
{
    for (size_t r0 = 0; r0 < rows; r0 += 32)
        for (size_t c0 = 0; c0 < cols; c0 += 32)
            for (size_t r = r0; r < MIN_OF(r0 + 32, rows); r++)
                for (size_t c = c0; c < MIN_OF(c0 + 32, cols); c++)
                    to[c * rows + r] = from[r * cols + c];
}

static void linear(const struct deep *p, struct deep_work *w, struct place at, const float *x,
                   size_t n, float *out)
{
    multiply(w, p->param + at.w, at.rows, at.cols, x, n, out);
    for (size_t t = 0; t < n; t++)
        lr_kern()->add(out + t * at.rows, p->param + at.b, at.rows);
}

/* Gradients of a product: of weights and bias into grad, of the states into dx (NULL: not asked). */
static void linear_back(const struct deep *p, struct deep_work *w, struct place at, const float *x,
                        size_t n, const float *dy, float *dx, float *grad)
{
    turn(x, n, at.cols, w->turned);
    turn(dy, n, at.rows, w->turned2);
    multiply(w, w->turned, at.cols, n, w->turned2, at.rows, grad + at.w);
    memset(grad + at.b, 0, at.rows * sizeof(float));
    for (size_t t = 0; t < n; t++)
        lr_kern()->add(grad + at.b, dy + t * at.rows, at.rows);
    if (!dx)
        return;
    turn(p->param + at.w, at.rows, at.cols, w->turned);
    multiply(w, w->turned, at.cols, at.rows, dy, n, dx);
}

/* ---- norms ---- */

/* x becomes hat * w + b in out; hat and r are kept. */
static void norm(const struct deep *p, const struct deep_work *w, size_t at, const float *x,
                 size_t n, float *hat, float *r, float *out)
{
    const struct lr_kern *k = lr_kern();
    const float *weight = p->param + at, *bias = weight + p->d;
    size_t d = p->d;
    for (size_t t = 0; t < n; t++, x += d, hat += d, out += d) {
        float mean = k->dot(x, w->ones, d) / (float)d;
        for (size_t i = 0; i < d; i++)
            hat[i] = x[i] - mean;
        r[t] = 1.0f / sqrtf(k->dot(hat, hat, d) / (float)d + p->eps);
        for (size_t i = 0; i < d; i++) {
            hat[i] *= r[t];
            out[i] = hat[i] * weight[i] + bias[i];
        }
    }
}

/* dy (n, d) becomes the gradient at the norm's input. */
static void norm_back(const struct deep *p, const struct deep_work *w, size_t at, const float *hat,
                      const float *r, size_t n, float *dy, float *grad)
{
    const struct lr_kern *k = lr_kern();
    const float *weight = p->param + at;
    size_t d = p->d;
    memset(grad + at, 0, 2 * d * sizeof(float));
    for (size_t t = 0; t < n; t++, hat += d, dy += d) {
        for (size_t i = 0; i < d; i++) {
            grad[at + i] += dy[i] * hat[i];
            grad[at + d + i] += dy[i];
            dy[i] *= weight[i];
        }
        float mean = k->dot(dy, w->ones, d) / (float)d, along = k->dot(dy, hat, d) / (float)d;
        for (size_t i = 0; i < d; i++)
            dy[i] = r[t] * (dy[i] - mean - hat[i] * along);
    }
}

/* ---- GELU ---- */

#define RUN 256u
/* e = exp(-x^2 / 2); returns the part of a normal distribution below x (as in bert.c). */
static inline float below(float x, float e)
{
    float t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * fabsf(x));
    float c = t * (0.254829592f +
                   t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    float tail = 0.5f * c * e;
    return x < 0 ? tail : 1.0f - tail;
}

/* back false: to = gelu(x); true: to *= gelu'(x). */
static void gelu(const float *x, size_t n, float *to, bool back)
{
    float e[RUN];
    for (size_t i = 0; i < n; i += RUN) {
        size_t m = MIN_OF(RUN, n - i);
        for (size_t k = 0; k < m; k++)
            e[k] = -0.5f * x[i + k] * x[i + k];
        lr_kern()->exp(e, m);
        for (size_t k = 0; k < m; k++) {
            float v = x[i + k], p = below(v, e[k]);
            to[i + k] = back ? to[i + k] * (p + v * 0.39894228f * e[k]) : v * p;
        }
    }
}

/* ---- attention ---- */

/* One head of one sequence: n rows from `at` of d elements apart. */
static void attend(const struct deep *p, const struct state *s, const struct span *sp, size_t h)
{
    const struct lr_kern *k = lr_kern();
    size_t d = p->d, dh = d / p->heads, n = sp->n, at = sp->first * d + h * dh;
    float *prob = s->p + (sp->first * p->heads + h * n) * LR_EMBED_DEEP_TOKENS;
    float factor = 1.0f / sqrtf((float)dh);
    for (size_t i = 0; i < n; i++) {
        struct lr_kern_softmax soft = LR_KERN_SOFTMAX_INIT;
        float *row = prob + i * n, *out = s->att + at + i * d;
        for (size_t j = 0; j < n; j++)
            row[j] = factor * k->dot(s->q + at + i * d, s->k + at + j * d, dh);
        k->softmax_push(&soft, row, n);
        k->scale(row, 1.0f / soft.sum, n);
        memset(out, 0, dh * sizeof *out);
        for (size_t j = 0; j < n; j++)
            k->axpy(out, row[j], s->v + at + j * d, dh);
    }
}

/* datt -> dq, dk, dv (cleared before). */
static void attend_back(const struct deep *p, const struct state *s, const struct span *sp,
                        size_t h, const float *datt, float *dq, float *dk, float *dv)
{
    const struct lr_kern *k = lr_kern();
    size_t d = p->d, dh = d / p->heads, n = sp->n, at = sp->first * d + h * dh;
    const float *prob = s->p + (sp->first * p->heads + h * n) * LR_EMBED_DEEP_TOKENS;
    float factor = 1.0f / sqrtf((float)dh), dp[LR_EMBED_DEEP_TOKENS];
    for (size_t i = 0; i < n; i++) {
        const float *row = prob + i * n, *da = datt + at + i * d;
        for (size_t j = 0; j < n; j++) {
            dp[j] = k->dot(da, s->v + at + j * d, dh);
            k->axpy(dv + at + j * d, row[j], da, dh);
        }
        float along = k->dot(dp, row, n);
        for (size_t j = 0; j < n; j++) {
            float g = factor * row[j] * (dp[j] - along);
            k->axpy(dq + at + i * d, g, s->k + at + j * d, dh);
            k->axpy(dk + at + j * d, g, s->q + at + i * d, dh);
        }
    }
}

/* ---- a layer ---- */

static void forward(const struct deep *p, struct deep_work *w, uint32_t layer,
                    const struct deep_batch *b)
{
    struct state *s = &w->layer[layer];
    const struct lr_kern *k = lr_kern();
    size_t n = b->n_tokens, d = p->d;
    float *out = layer + 1 < p->n_layer ? w->layer[layer + 1].in : w->out;
    linear(p, w, matrix_at(p, layer, Q), s->in, n, s->q);
    linear(p, w, matrix_at(p, layer, K), s->in, n, s->k);
    linear(p, w, matrix_at(p, layer, V), s->in, n, s->v);
    for (uint32_t i = 0; i < b->n_spans; i++)
        for (uint32_t h = 0; h < p->heads; h++)
            attend(p, s, &b->spans[i], h);
    linear(p, w, matrix_at(p, layer, O), s->att, n, w->a);
    k->add(w->a, s->in, n * d);
    norm(p, w, norm_at(p, layer, 0), w->a, n, s->hat1, s->r1, s->x1);
    linear(p, w, matrix_at(p, layer, UP), s->x1, n, s->u);
    gelu(s->u, n * p->ff, s->g, false);
    linear(p, w, matrix_at(p, layer, DOWN), s->g, n, w->a);
    k->add(w->a, s->x1, n * d);
    norm(p, w, norm_at(p, layer, 1), w->a, n, s->hat2, s->r2, out);
}

/* w->a: gradient at the layer's output, afterwards at its input (where more is false: garbage). */
static void backward(const struct deep *p, struct deep_work *w, uint32_t layer,
                     const struct deep_batch *b, bool more, float *grad)
{
    const struct state *s = &w->layer[layer];
    const struct lr_kern *k = lr_kern();
    size_t n = b->n_tokens, bytes = n * p->d * sizeof(float), nd = n * p->d;
    norm_back(p, w, norm_at(p, layer, 1), s->hat2, s->r2, n, w->a, grad);
    linear_back(p, w, matrix_at(p, layer, DOWN), s->g, n, w->a, w->wide, grad);
    gelu(s->u, n * p->ff, w->wide, true);
    linear_back(p, w, matrix_at(p, layer, UP), s->x1, n, w->wide, w->b, grad);
    k->add(w->a, w->b, nd);
    norm_back(p, w, norm_at(p, layer, 0), s->hat1, s->r1, n, w->a, grad);
    linear_back(p, w, matrix_at(p, layer, O), s->att, n, w->a, w->b, grad);
    float *dq = w->c, *dk = w->e, *dv = w->out; /* the last layer's output was used up */
    memset(dq, 0, bytes);
    memset(dk, 0, bytes);
    memset(dv, 0, bytes);
    for (uint32_t i = 0; i < b->n_spans; i++)
        for (uint32_t h = 0; h < p->heads; h++)
            attend_back(p, s, &b->spans[i], h, w->b, dq, dk, dv);
    const float *dy[] = {dq, dk, dv};
    for (int i = Q; i <= V; i++) {
        linear_back(p, w, matrix_at(p, layer, i), s->in, n, dy[i], more ? w->b : NULL, grad);
        if (more)
            k->add(w->a, w->b, nd);
    }
}

/* ---- the classifier ---- */

static float classify(const struct deep *p, struct deep_work *w, uint32_t pair, const float *h)
{
    const struct lr_kern *k = lr_kern();
    size_t d = p->d;
    const float *at = p->param + p->n_layer * lr_embed_deep_layer(p);
    float *first = w->first + pair * d, *pooled = w->pooled + pair * d;
    memcpy(first, h, d * sizeof *h);
    memcpy(pooled, h, d * sizeof *h);
    if (p->pooler) {
        for (size_t r = 0; r < d; r++)
            pooled[r] = tanhf(k->dot(at + r * d, first, d) + at[d * d + r]);
        at += d * d + d;
    }
    return k->dot(at, pooled, d) + at[d];
}

/* g: the logit's gradient; dh gets the first state's. */
static void classify_back(const struct deep *p, const struct deep_work *w, uint32_t pair, float g,
                          float *dh, float *grad)
{
    const struct lr_kern *k = lr_kern();
    size_t d = p->d, from = p->n_layer * lr_embed_deep_layer(p), at = from;
    const float *first = w->first + pair * d, *pooled = w->pooled + pair * d;
    at += p->pooler ? d * d + d : 0;
    k->axpy(grad + at, g, pooled, d);
    grad[at + d] += g;
    memset(dh, 0, d * sizeof *dh);
    if (!p->pooler) {
        k->axpy(dh, g, p->param + at, d);
        return;
    }
    for (size_t r = 0; r < d; r++) {
        float dz = g * p->param[at + r] * (1 - pooled[r] * pooled[r]);
        k->axpy(grad + from + r * d, dz, first, d);
        grad[from + d * d + r] += dz;
        k->axpy(dh, dz, p->param + from + r * d, d);
    }
}

double lr_embed_deep_run(const struct deep *p, struct deep_work *w, const struct deep_batch *b,
                         float *logits, float *grad)
{
    size_t d = p->d, head = p->n_layer * lr_embed_deep_layer(p);
    double loss = 0;
    assert(b->n_tokens <= w->tokens && b->n_spans <= w->pairs);
    memcpy(w->layer[0].in, b->x, b->n_tokens * d * sizeof(float));
    for (uint32_t i = 0; i < p->n_layer; i++)
        forward(p, w, i, b);
    if (grad) {
        memset(grad + head, 0, (lr_embed_deep_params(p) - head) * sizeof(float));
        memset(w->a, 0, b->n_tokens * d * sizeof(float));
    }
    for (uint32_t i = 0; i < b->n_spans; i++) {
        size_t first = b->spans[i].first * d;
        logits[i] = classify(p, w, i, w->out + first);
        float y = b->same[i] ? 1 - SOFT : SOFT, z = logits[i];
        loss += (double)(MAX_OF(z, 0.0f) - z * y + log1pf(expf(-fabsf(z)))) / b->n_spans;
        if (grad)
            classify_back(p, w, i, (1 / (1 + expf(-z)) - y) / (float)b->n_spans, w->a + first,
                          grad);
    }
    for (uint32_t i = p->n_layer; grad && i-- > 0;)
        backward(p, w, i, b, i > 0, grad);
    return loss;
}
