/* SPDX-License-Identifier: Apache-2.0
 * engine/tap.c - what policies may watch, computed only for who asked, and put on the bill.
 *
 *   before RoPE    copies of queries and keys            (compute threads, while they have them)
 *   after a layer's attention, on the engine's thread:
 *     LSE          kept by attention itself
 *     AWIN, ACOL   exp(q k / sqrt(d) + bias - lse), computed again from rows and log-sum-exp
 *     seen()       the policy looks, and may edit
 *
 * Attention never materialises its weights; recomputing them from the log-sum-exp costs one product of
 * queries and keys and no second softmax, and only for the queries asked for. This is the cost that
 * dominated time to first token where others measured it, hence the bill: bytes and nanoseconds are
 * added up in the request itself.
 *
 * Buffers are taken per layer and freed before the next: a tap's peak is one layer's.
 */
#include "engine/engine_int.h"

struct lr_engine_tap_store {
    float *qpre, *kpre; /* (n, n_head, d), (n, n_kv, d); NULL where not asked for */
};

int lr_engine_tap_open(struct lr_engine_tap_store **out, const struct lr_engine_work *w)
{
    const struct lr_engine_shape *h = &w->seq->e->m->shape;
    struct lr_engine_tap_store *s = lr_new(struct lr_engine_tap_store);
    LR_FAIL_IF(!s, LR_ENOMEM);
    size_t q = (size_t)w->n * h->n_head * h->d_head, k = (size_t)w->n * h->n_kv * h->d_head;
    if (w->tap->kinds & LR_ENGINE_TAP_QPRE)
        s->qpre = lr_calloc(q, sizeof *s->qpre);
    if (w->tap->kinds & LR_ENGINE_TAP_KPRE)
        s->kpre = lr_calloc(k, sizeof *s->kpre);
    if ((w->tap->kinds & LR_ENGINE_TAP_QPRE && !s->qpre) ||
        (w->tap->kinds & LR_ENGINE_TAP_KPRE && !s->kpre)) {
        lr_engine_tap_close(s);
        return LR_ENOMEM;
    }
    w->tap->bytes += ((s->qpre ? q : 0) + (s->kpre ? k : 0)) * sizeof(float) * h->n_layer;
    *out = s;
    return 0;
}

void lr_engine_tap_close(struct lr_engine_tap_store *s)
{
    if (!s)
        return;
    lr_free(s->qpre);
    lr_free(s->kpre);
    lr_free(s);
}

void lr_engine_tap_pre(struct lr_engine_tap_store *s, const struct lr_engine_shape *h,
                       uint32_t token, const float *q, const float *k)
{
    size_t nq = (size_t)h->n_head * h->d_head, nk = (size_t)h->n_kv * h->d_head;
    if (s->qpre)
        memcpy(s->qpre + token * nq, q, nq * sizeof *q);
    if (s->kpre)
        memcpy(s->kpre + token * nk, k, nk * sizeof *k);
}

/* ---- attention, once more ---- */

/* One KV head of one feed. */
struct look {
    struct attn_job job;
    const struct lr_engine_work *w;
    const float *lse;  /* of the feed's token 0 and the group's first head */
    uint32_t n_head, rows, n_win;
    float *block;      /* (BLOCK_QUERIES or a group, rows) */
    float **awin, **acol; /* of the group's heads; NULL entries: not asked for */
};

static void sum_columns(const struct look *l, const float *p)
{
    for (uint32_t i = 0; i < l->job.n_tok * l->job.group; i++)
        lr_kern()->add(l->acol[i % l->job.group], p + (size_t)i * l->rows, l->rows);
}

static void copy_window(const struct look *l, uint32_t token, const float *p)
{
    uint32_t first = l->w->n - l->n_win;
    for (uint32_t i = 0; i < l->job.n_tok * l->job.group; i++) {
        uint32_t t = token + i / l->job.group;
        if (t >= first)
            memcpy(l->awin[i % l->job.group] + (size_t)(t - first) * l->rows,
                   p + (size_t)i * l->rows, l->rows * sizeof *p);
    }
}

static void look_at(struct look *l)
{
    bool all = l->acol[0] != NULL;
    uint32_t step = l->job.group < BLOCK_QUERIES ? BLOCK_QUERIES / l->job.group : 1;
    const float *q = l->job.q;
    int32_t pos = l->job.pos;
    for (uint32_t t = all ? 0 : l->w->n - l->n_win; t < l->w->n; t += step) {
        l->job.n_tok = MIN_OF(step, l->w->n - t);
        l->job.q = q + t * l->job.q_stride;
        l->job.pos = pos + (int32_t)t;
        lr_engine_attn_queries(&l->job);
        lr_engine_attn_weights(&l->job, l->lse + (size_t)t * l->n_head, l->n_head, l->block, l->rows);
        if (all)
            sum_columns(l, l->block);
        if (l->awin[0])
            copy_window(l, t, l->block);
    }
}

/* Buffers for all heads in one piece; pointers into it. */
static int make_buffers(struct lr_engine_view *v, const struct lr_engine_work *w, float ***heads,
                        float **block, size_t *bytes)
{
    const struct lr_engine_shape *h = &w->seq->e->m->shape;
    uint32_t group = h->n_head / h->n_kv, nq = group > BLOCK_QUERIES ? group : BLOCK_QUERIES;
    bool win = w->tap->kinds & LR_ENGINE_TAP_AWIN, col = w->tap->kinds & LR_ENGINE_TAP_ACOL;
    size_t most = 0, all = 0;
    for (uint32_t i = 0; i < h->n_kv; i++) {
        size_t rows = table_of(w->seq, v->layer, i)->n;
        most = rows > most ? rows : most;
        all += rows * group * ((win ? v->n_win : 0) + col);
    }
    *heads = lr_calloc(2 * h->n_head, sizeof **heads);
    *block = lr_calloc(all + most * nq, sizeof **block);
    LR_FAIL_IF(!*heads || !*block, LR_ENOMEM);
    float *p = *block + most * nq;
    for (uint32_t i = 0; i < h->n_head; i++) {
        size_t rows = table_of(w->seq, v->layer, i / group)->n;
        if (win)
            (*heads)[i] = p;
        p += win ? rows * v->n_win : 0;
        if (col)
            (*heads)[h->n_head + i] = p;
        p += col ? rows : 0;
    }
    *bytes = all * sizeof(float);
    return 0;
}

static int attention(struct lr_engine *e, struct lr_engine_view *v, const struct lr_engine_work *w,
                     uint32_t first, float ***heads, float **block)
{
    const struct lr_engine_shape *h = &e->m->shape;
    uint32_t group = h->n_head / h->n_kv;
    size_t bytes;
    LR_TRY(make_buffers(v, w, heads, block, &bytes));
    w->tap->bytes += bytes;
    for (uint32_t i = 0; i < h->n_kv; i++) {
        const struct table *t = table_of(w->seq, v->layer, i);
        struct look l = {.w = w,
                         .lse = e->s.lse + (size_t)first * h->n_head + (size_t)i * group,
                         .n_head = h->n_head,
                         .rows = t->n,
                         .n_win = v->n_win,
                         .block = *block,
                         .awin = *heads + (size_t)i * group,
                         .acol = *heads + h->n_head + (size_t)i * group};
        l.job = (struct attn_job){.lay = &w->seq->lay, .table = t, .d = h->d_head, .group = group,
                                  .q = v->q + (size_t)i * group * h->d_head,
                                  .q_stride = (size_t)h->n_head * h->d_head, .pos = v->pos,
                                  .scratch = &e->s.thread[0]};
        look_at(&l);
    }
    if (w->tap->kinds & LR_ENGINE_TAP_AWIN)
        v->awin = (const float *const *)*heads;
    if (w->tap->kinds & LR_ENGINE_TAP_ACOL)
        v->acol = (const float *const *)(*heads + h->n_head);
    return 0;
}

int lr_engine_tap_show(struct lr_engine *e, const struct lr_engine_work *w,
                       const struct lr_engine_tap_store *s, uint32_t layer, uint32_t first,
                       int32_t pos)
{
    const struct lr_engine_shape *h = &e->m->shape;
    struct lr_engine_tap *tap = w->tap;
    uint64_t start = lr_clock_mono_ns();
    struct lr_engine_view v = {.seq = w->seq, .layer = layer, .n_tok = w->n, .pos = pos,
                               .n_win = MIN_OF(tap->window, w->n), .qpre = s->qpre, .kpre = s->kpre};
    float **heads = NULL, *block = NULL;
    v.x = tap->kinds & LR_ENGINE_TAP_X ? e->s.xn + (size_t)first * h->n_embd : NULL;
    v.lse = tap->kinds & LR_ENGINE_TAP_LSE ? e->s.lse + (size_t)first * h->n_head : NULL;
    v.q = e->s.q + (size_t)first * h->n_head * h->d_head;
    int rc = 0;
    if (tap->kinds & (LR_ENGINE_TAP_AWIN | LR_ENGINE_TAP_ACOL))
        rc = attention(e, &v, w, first, &heads, &block);
    if (!(tap->kinds & LR_ENGINE_TAP_Q))
        v.q = NULL;
    if (!rc)
        rc = tap->seen(tap->ctx, &v);
    lr_free(heads);
    lr_free(block);
    tap->ns += lr_clock_mono_ns() - start;
    return rc;
}
