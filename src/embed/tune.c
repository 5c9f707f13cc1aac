/* SPDX-License-Identifier: Apache-2.0
 * embed/tune.c - the loss of a batch of labelled pairs, and its gradient.
 *
 *   s = sum of w[t] E[t]  (or a given vector)      h = P s  (or s)      u = h / |h|      c = u . v
 *
 *   L = mean over pairs of  -log sigmoid(+-(A (c - B)))              a pair is or is not the same
 *     + contrast * mean over "same" pairs of  -log softmax over j of 15 u_i . v_j
 *                                                         its own partner among those of the batch
 *
 *   backwards   c -> u, v -> h (the part across u, by 1 / |h|) -> P, s -> w, E
 *
 * The first part sets a place for the threshold; the second orders neighbours, which is what a
 * cache's search does. A partner whose text is the text of i (or of its partner) is no wrong answer
 * and is left out of the softmax. All sums are doubles over parameters in floats: the gradient is
 * held against differences of the loss by a test, to seven digits.
 *
 * Source: Henderson et al., "Efficient natural language response suggestion for Smart Reply", 2017,
 * for the softmax over the batch; MeanCache (Gill et al., 2024) trains with the like of both parts
 * in turn.
 */
#include "embed/embed_int.h"

#define SHARP 15.0 /* of the softmax: cosines are in -1..1 */

struct tune_work {
    size_t batch;
    double *s, *h, *u, *g; /* (2 batch, dim_in), (.., dim_out) three times; a's first */
    double *norm;          /* (2 batch) */
    double *dc;            /* (batch): gradient at the pairs' own cosines */
    double *gs;            /* (dim_in) */
    double *p;             /* (batch): a row of the softmax */
    double *block;         /* all of the above */
};

size_t lr_embed_tune_head_at(const struct tune *t)
{
    (void)t;
    return 2;
}
size_t lr_embed_tune_weight_at(const struct tune *t)
{
    return 2 + (t->has_head ? (size_t)t->dim_out * t->dim_in : 0);
}
size_t lr_embed_tune_table_at(const struct tune *t)
{
    return lr_embed_tune_weight_at(t) + t->vocab;
}
size_t lr_embed_tune_params(const struct tune *t)
{
    return lr_embed_tune_table_at(t) + (size_t)t->vocab * t->dim_in;
}

int lr_embed_tune_open(struct tune_work **out, const struct tune *t, size_t batch_max)
{
    struct tune_work *w = lr_new(struct tune_work);
    size_t rows = 2 * batch_max;
    LR_FAIL_IF(!w, LR_ENOMEM);
    size_t n = rows * (t->dim_in + 3 * (size_t)t->dim_out + 1) + 2 * batch_max + t->dim_in;
    w->block = lr_calloc(n, sizeof(double));
    if (!w->block) {
        lr_free(w);
        return LR_ENOMEM;
    }
    w->batch = batch_max;
    w->s = w->block;
    w->h = w->s + rows * t->dim_in;
    w->u = w->h + rows * t->dim_out;
    w->g = w->u + rows * t->dim_out;
    w->norm = w->g + rows * t->dim_out;
    w->dc = w->norm + rows;
    w->p = w->dc + batch_max;
    w->gs = w->p + batch_max;
    *out = w;
    return 0;
}

void lr_embed_tune_close(struct tune_work *w)
{
    if (!w)
        return;
    lr_free(w->block);
    lr_free(w);
}

/* Four sums side by side: one would wait for itself at each add. */
static double dot(const double *a, const double *b, size_t n)
{
    double s[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++)
            s[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        s[0] += a[i] * b[i];
    return s[0] + s[1] + (s[2] + s[3]);
}

static void add(double *y, double a, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* ---- forwards ---- */

static void sum_up(const struct tune *t, const struct tune_text *x, double *s)
{
    size_t d = t->dim_in;
    if (!t->vocab) {
        for (size_t i = 0; i < d; i++)
            s[i] = (double)x->vector[i];
        return;
    }
    const float *weight = t->param + lr_embed_tune_weight_at(t);
    const float *table = t->param + lr_embed_tune_table_at(t);
    memset(s, 0, d * sizeof *s);
    for (uint32_t k = 0; k < x->n; k++) {
        const float *row = table + x->ids[k] * d;
        double a = (double)weight[x->ids[k]];
        for (size_t i = 0; i < d; i++)
            s[i] += a * (double)row[i];
    }
}

static void forward(const struct tune *t, struct tune_work *w, size_t at, const struct tune_text *x)
{
    size_t d = t->dim_in, o = t->dim_out;
    double *s = w->s + at * d, *h = w->h + at * o, *u = w->u + at * o;
    const float *head = t->param + lr_embed_tune_head_at(t);
    sum_up(t, x, s);
    for (size_t r = 0; r < o; r++) {
        if (!t->has_head) {
            h[r] = s[r];
            continue;
        }
        double sum = 0;
        for (size_t i = 0; i < d; i++)
            sum += (double)head[r * d + i] * s[i];
        h[r] = sum;
    }
    double norm = sqrt(dot(h, h, o));
    w->norm[at] = norm > 1e-12 ? norm : 0;
    for (size_t r = 0; r < o; r++)
        u[r] = norm > 1e-12 ? h[r] / norm : 0;
    memset(w->g + at * o, 0, o * sizeof(double));
}

double lr_embed_tune_score(const struct tune *t, struct tune_work *w, const struct tune_pair *pair)
{
    forward(t, w, 0, &pair->a);
    forward(t, w, 1, &pair->b);
    return dot(w->u, w->u + t->dim_out, t->dim_out);
}

/* ---- the two losses ---- */

/* -log sigmoid(z) without overflow. */
static double softplus(double z)
{
    return z > 0 ? log1p(exp(-z)) : -z + log1p(exp(z));
}

static double label_loss(const struct tune *t, struct tune_work *w, const struct tune_pair *pairs,
                         size_t n, float *grad)
{
    size_t o = t->dim_out;
    double loss = 0, a = (double)t->param[0], b = (double)t->param[1], ga = 0, gb = 0;
    for (size_t i = 0; i < n; i++) {
        double *u = w->u + i * o, *v = w->u + (n + i) * o, c = dot(u, v, o);
        double z = a * (c - b), y = pairs[i].same ? 1 : -1;
        loss += softplus(y * z) / (double)n;
        double dz = -y / (1 + exp(y * z)) / (double)n;
        ga += dz * (c - b);
        gb -= dz * a;
        add(w->g + i * o, dz * a, v, o);
        add(w->g + (n + i) * o, dz * a, u, o);
    }
    if (grad) {
        grad[0] += (float)ga;
        grad[1] += (float)gb;
    }
    return loss;
}

/* May j's partner stand against i's? */
static bool rival(const struct tune_pair *pairs, size_t i, size_t j)
{
    return i == j || (pairs[j].b.hash != pairs[i].b.hash && pairs[j].b.hash != pairs[i].a.hash);
}

static double contrast_row(const struct tune *t, struct tune_work *w, const struct tune_pair *pairs,
                           size_t n, size_t i, double share)
{
    size_t o = t->dim_out;
    double *u = w->u + i * o, *gu = w->g + i * o, max = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) {
        bool in = rival(pairs, i, j);
        w->p[j] = in ? SHARP * dot(u, w->u + (n + j) * o, o) : -INFINITY;
        max = fmax(max, w->p[j]);
    }
    double own = w->p[i];
    for (size_t j = 0; j < n; j++)
        sum += w->p[j] = exp(w->p[j] - max);
    for (size_t j = 0; j < n; j++) {
        double g = share * SHARP * (w->p[j] / sum - (i == j ? 1 : 0));
        add(gu, g, w->u + (n + j) * o, o);
        add(w->g + (n + j) * o, g, u, o);
    }
    return share * (max + log(fmax(sum, 1)) - own); /* the largest of the terms is 1 */
}

static double contrast_loss(const struct tune *t, struct tune_work *w,
                            const struct tune_pair *pairs, size_t n)
{
    size_t same = 0;
    double loss = 0;
    for (size_t i = 0; i < n; i++)
        same += pairs[i].same;
    for (size_t i = 0; i < n && t->contrast > 0; i++)
        if (pairs[i].same)
            loss += contrast_row(t, w, pairs, n, i, (double)t->contrast / (double)same);
    return loss;
}

/* ---- backwards ---- */

/* Gradient at h, in place of that at u; false: the text has no vector. */
static bool through_norm(const struct tune *t, struct tune_work *w, size_t at)
{
    size_t o = t->dim_out;
    double *g = w->g + at * o, *u = w->u + at * o;
    if (!(w->norm[at] > 0))
        return false;
    double along = dot(g, u, o);
    for (size_t r = 0; r < o; r++)
        g[r] = (g[r] - along * u[r]) / w->norm[at];
    return true;
}

static void through_head(const struct tune *t, struct tune_work *w, size_t at, float *grad)
{
    size_t d = t->dim_in, o = t->dim_out;
    const double *g = w->g + at * o, *s = w->s + at * d;
    const float *head = t->param + lr_embed_tune_head_at(t);
    float *gh = grad + lr_embed_tune_head_at(t);
    if (!t->has_head) {
        memcpy(w->gs, g, d * sizeof *g);
        return;
    }
    memset(w->gs, 0, d * sizeof *w->gs);
    for (size_t r = 0; r < o; r++)
        for (size_t i = 0; i < d; i++) {
            gh[r * d + i] += (float)(g[r] * s[i]);
            w->gs[i] += g[r] * (double)head[r * d + i];
        }
}

static void through_table(const struct tune *t, const struct tune_work *w,
                          const struct tune_text *x, float *grad)
{
    size_t d = t->dim_in, at = lr_embed_tune_weight_at(t), rows = lr_embed_tune_table_at(t);
    for (uint32_t k = 0; t->vocab && k < x->n; k++) {
        uint32_t id = x->ids[k];
        const float *row = t->param + rows + id * d;
        float *gr = grad + rows + id * d;
        double weight = (double)t->param[at + id], sum = 0;
        for (size_t i = 0; i < d; i++) {
            sum += w->gs[i] * (double)row[i];
            gr[i] += (float)(weight * w->gs[i]);
        }
        grad[at + id] += (float)sum;
    }
}

double lr_embed_tune_loss(const struct tune *t, struct tune_work *w, const struct tune_pair *pairs,
                          size_t n, float *grad)
{
    assert(n && n <= w->batch);
    for (size_t i = 0; i < n; i++) {
        forward(t, w, i, &pairs[i].a);
        forward(t, w, n + i, &pairs[i].b);
    }
    double loss = label_loss(t, w, pairs, n, grad) + contrast_loss(t, w, pairs, n);
    for (size_t i = 0; grad && i < 2 * n; i++) {
        if (!through_norm(t, w, i))
            continue;
        through_head(t, w, i, grad);
        through_table(t, w, i < n ? &pairs[i].a : &pairs[i - n].b, grad);
    }
    return loss;
}
