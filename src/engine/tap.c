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
 * Products are shared among the threads by KV head, each summed by one thread query by query: what a
 * row got is the same number whatever the threads and the cuts of the prompt. Looking is thread 0's.
 *
 * Buffers are taken per layer and freed before the next: a tap's peak is one layer's.
 */
#include "engine/engine_int.h"

struct lr_engine_tap_store {
    float *qpre, *kpre; /* (n, n_head, d), (n, n_kv, d); NULL where not asked for */
};

int lr_engine_tap_open(struct lr_engine_show *x, const struct lr_engine_work *w,
                       struct lr_engine_tap *tap, unsigned kinds)
{
    const struct lr_engine_shape *h = &w->seq->e->m->shape;
    struct lr_engine_tap_store *s = lr_new(struct lr_engine_tap_store);
    LR_FAIL_IF(!s, LR_ENOMEM);
    size_t q = (size_t)w->n * h->n_head * h->d_head, k = (size_t)w->n * h->n_kv * h->d_head;
    *x = (struct lr_engine_show){.tap = tap, .w = w, .store = s};
    if (kinds & LR_ENGINE_TAP_QPRE)
        s->qpre = lr_calloc(q, sizeof *s->qpre);
    if (kinds & LR_ENGINE_TAP_KPRE)
        s->kpre = lr_calloc(k, sizeof *s->kpre);
    if ((kinds & LR_ENGINE_TAP_QPRE && !s->qpre) || (kinds & LR_ENGINE_TAP_KPRE && !s->kpre)) {
        lr_engine_tap_close(x);
        return LR_ENOMEM;
    }
    tap->bytes += ((s->qpre ? q : 0) + (s->kpre ? k : 0)) * sizeof(float) * h->n_layer;
    return 0;
}

void lr_engine_tap_close(struct lr_engine_show *x)
{
    if (x->store) {
        lr_free(x->store->qpre);
        lr_free(x->store->kpre);
        lr_free(x->store);
    }
    *x = (struct lr_engine_show){.tap = NULL};
}

void lr_engine_tap_pre(const struct lr_engine_show *x, const struct lr_engine_shape *h,
                       uint32_t token, const float *q, const float *k)
{
    size_t nq = (size_t)h->n_head * h->d_head, nk = (size_t)h->n_kv * h->d_head;
    if (!x->tap)
        return;
    if (x->store->qpre)
        memcpy(x->store->qpre + token * nq, q, nq * sizeof *q);
    if (x->store->kpre)
        memcpy(x->store->kpre + token * nk, k, nk * sizeof *k);
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

static bool wants_weights(const struct lr_engine_show *x)
{
    return x->tap->kinds & (LR_ENGINE_TAP_AWIN | LR_ENGINE_TAP_ACOL);
}

/* Arrays of all heads in one piece, and a block for each thread; pointers into it. */
static int make_buffers(struct lr_engine_show *x, const struct lr_engine *e)
{
    const struct lr_engine_shape *h = &e->m->shape;
    uint32_t group = h->n_head / h->n_kv, nq = group > BLOCK_QUERIES ? group : BLOCK_QUERIES;
    bool win = x->tap->kinds & LR_ENGINE_TAP_AWIN, col = x->tap->kinds & LR_ENGINE_TAP_ACOL;
    bool own = col && !x->tap->sums;
    size_t most = 0, all = 0;
    for (uint32_t i = 0; i < h->n_kv; i++) {
        size_t rows = table_of(x->w->seq, x->view.layer, i)->n;
        most = rows > most ? rows : most;
        all += rows * group * ((win ? x->view.n_win : 0) + own);
    }
    x->block_floats = most * nq;
    x->heads = lr_calloc(2 * h->n_head, sizeof *x->heads);
    x->block = lr_calloc(all + x->block_floats * e->threads, sizeof *x->block);
    LR_FAIL_IF(!x->heads || !x->block, LR_ENOMEM);
    float *p = x->block + x->block_floats * e->threads;
    for (uint32_t i = 0; i < h->n_head; i++) {
        size_t rows = table_of(x->w->seq, x->view.layer, i / group)->n;
        if (win)
            x->heads[i] = p;
        p += win ? rows * x->view.n_win : 0;
        if (own)
            x->heads[h->n_head + i] = p;
        p += own ? rows : 0;
    }
    x->tap->bytes += all * sizeof(float);
    return col && !own ? x->tap->sums(x->tap->ctx, x->view.layer, x->heads + h->n_head) : 0;
}

static void drop_buffers(struct lr_engine_show *x)
{
    lr_free(x->heads);
    lr_free(x->block);
    x->heads = NULL;
    x->block = NULL;
}

int lr_engine_tap_begin(struct lr_engine_show *x, const struct lr_engine *e, uint32_t layer,
                        uint32_t first, int32_t pos)
{
    const struct lr_engine_shape *h = &e->m->shape;
    const struct lr_engine_work *w = x->w;
    unsigned kinds = x->tap->kinds;
    size_t q = (size_t)first * h->n_head * h->d_head;
    x->start = lr_clock_mono_ns();
    x->first = first;
    x->failed = false;
    x->view = (struct lr_engine_view){.seq = w->seq, .layer = layer, .n_tok = w->n, .pos = pos,
                                      .n_win = MIN_OF(x->tap->window, w->n),
                                      .qpre = x->store->qpre, .kpre = x->store->kpre};
    if (kinds & LR_ENGINE_TAP_X)
        x->view.x = e->s.xn + (size_t)first * h->n_embd;
    if (kinds & LR_ENGINE_TAP_H)
        x->view.h = e->s.x + (size_t)first * h->n_embd;
    if (kinds & LR_ENGINE_TAP_Q)
        x->view.q = e->s.q + q;
    if (kinds & LR_ENGINE_TAP_OUT)
        x->view.out = e->s.att + q;
    if (kinds & LR_ENGINE_TAP_LSE)
        x->view.lse = e->s.lse + (size_t)first * h->n_head;
    if (!wants_weights(x))
        return 0;
    int rc = make_buffers(x, e);
    if (rc) {
        drop_buffers(x);
        x->failed = true;
        return rc;
    }
    if (kinds & LR_ENGINE_TAP_AWIN)
        x->view.awin = (const float *const *)x->heads;
    if (kinds & LR_ENGINE_TAP_ACOL)
        x->view.acol = (const float *const *)(x->heads + h->n_head);
    return 0;
}

void lr_engine_tap_head(const struct lr_engine_show *x, const struct lr_engine *e, unsigned ith,
                        uint32_t head)
{
    const struct lr_engine_shape *h = &e->m->shape;
    uint32_t group = h->n_head / h->n_kv;
    if (!x->block)
        return;
    const struct table *t = table_of(x->w->seq, x->view.layer, head);
    struct look l = {.w = x->w,
                     .lse = e->s.lse + (size_t)x->first * h->n_head + (size_t)head * group,
                     .n_head = h->n_head,
                     .rows = t->n,
                     .n_win = x->view.n_win,
                     .block = x->block + x->block_floats * ith,
                     .awin = x->heads + (size_t)head * group,
                     .acol = x->heads + h->n_head + (size_t)head * group};
    l.job = (struct attn_job){.lay = &x->w->seq->lay, .table = t, .d = h->d_head, .group = group,
                              .q = e->s.q + ((size_t)x->first * h->n_head + (size_t)head * group) *
                                                h->d_head,
                              .q_stride = (size_t)h->n_head * h->d_head, .pos = x->view.pos,
                              .scratch = &e->s.thread[ith]};
    look_at(&l);
}

int lr_engine_tap_end(struct lr_engine_show *x, bool show)
{
    int rc = show && !x->failed ? x->tap->seen(x->tap->ctx, &x->view) : 0;
    drop_buffers(x);
    x->tap->ns += lr_clock_mono_ns() - x->start;
    return rc;
}
