/* SPDX-License-Identifier: Apache-2.0
 * engine/seq.c - sequences: admitted, fed, forked, cut back, closed; and texts to vectors.
 *
 * A sequence is its tables (rows.c) and the next position. It is charged for what it alone uses and for
 * what it was promised, never for pages it shares: a hundred forks of one prompt cost the prompt once.
 */
#include "engine/engine_int.h"

static uint32_t n_tables(const struct lr_engine *e)
{
    return e->m->shape.n_layer * e->m->shape.n_kv;
}

static int make(struct lr_engine_seq **out, struct lr_engine *e,
                const struct lr_engine_codec *codec)
{
    struct lr_engine_seq *s = lr_new(struct lr_engine_seq);
    LR_FAIL_IF(!s, LR_ENOMEM);
    s->e = e;
    s->tables = lr_calloc(n_tables(e), sizeof *s->tables);
    int rc = s->tables ? lr_engine_layout(codec, e->m->shape.d_head, &s->lay) : LR_ENOMEM;
    if (rc) {
        lr_free(s->tables);
        lr_free(s);
        return rc;
    }
    s->next = e->seqs;
    if (e->seqs)
        e->seqs->prev = s;
    e->seqs = s;
    *out = s;
    return 0;
}

static int refused(const struct lr_engine *e, int rc, uint64_t tokens, struct lr_err *err)
{
    struct lr_engine_memory m;
    lr_engine_memory(e, &m);
    return lr_err_set(err, rc, "kv",
                      "no room for a sequence of %llu tokens: %llu MiB of %llu used, %llu promised",
                      (unsigned long long)tokens, (unsigned long long)(m.bytes_used >> 20),
                      (unsigned long long)(m.bytes_max >> 20),
                      (unsigned long long)(m.bytes_promised >> 20));
}

int lr_engine_seq_open(struct lr_engine_seq **out, struct lr_engine *e,
                       const struct lr_engine_seq_opts *o, struct lr_err *err)
{
    struct lr_engine_seq *s;
    const struct lr_engine_codec *codec = o->codec ? o->codec : e->codec;
    const struct lr_policy_stack *stack = o->policy.stack;
    if (stack && stack->codec && o->codec)
        return lr_err_set(err, LR_EINVAL, "policy", "codec %s, and the stack has %s", o->codec->name,
                          stack->codec->name);
    if (stack && stack->codec)
        LR_TRY(lr_engine_host_codec(e, stack->codec, &codec, err));
    int rc = make(&s, e, codec);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "sequence", "%s", lr_strerror(rc)));
    rc = stack ? lr_engine_host_open(s, &o->policy, err) : 0;
    if (rc) {
        lr_engine_seq_close(s);
        return rc;
    }
    rc = o->tokens_max > LR_ENGINE_POS_MAX
             ? LR_EOVER
             : lr_engine_rows_promise(
                   s, lr_engine_host_promise(s, o->tokens_max, o->tokens_prompt), 0);
    if (rc) {
        lr_engine_seq_close(s);
        return refused(e, rc, o->tokens_max, err);
    }
    *out = s;
    return 0;
}

void lr_engine_seq_close(struct lr_engine_seq *s)
{
    if (!s)
        return;
    struct lr_engine *e = s->e;
    s->tokens_max = 0;
    s->copies = 0;
    lr_engine_rows_clear(s);
    lr_engine_host_close(s);
    for (uint32_t i = 0; i < n_tables(e); i++)
        lr_free(s->tables[i].page);
    if (s->next)
        s->next->prev = s->prev;
    if (s->prev)
        s->prev->next = s->next;
    else
        e->seqs = s->next;
    lr_free(s->tables);
    lr_free(s);
}

/* Granules of last pages that are unfinished: what a fork may have to copy. */
static uint64_t unfinished(const struct lr_engine_seq *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_tables(s->e); i++)
        n += s->tables[i].n % PAGE_ROWS != 0;
    return n * s->lay.granules;
}

int lr_engine_seq_fork(struct lr_engine_seq **out, struct lr_engine_seq *s, uint32_t tokens_max,
                       struct lr_err *err)
{
    struct lr_engine_seq *twin;
    uint64_t before = s->copies, copies = unfinished(s);
    int rc = make(&twin, s->e, s->lay.codec);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "sequence", "%s", lr_strerror(rc)));
    rc = lr_engine_rows_promise(s, s->tokens_max, copies);
    if (rc)
        goto undo_make;
    twin->len = s->len;
    rc = lr_engine_rows_share(twin, s);
    rc = rc ? rc : lr_engine_host_fork(twin, s);
    rc = rc ? rc : tokens_max > LR_ENGINE_POS_MAX ? LR_EOVER : 0;
    rc = rc ? rc : lr_engine_rows_promise(twin, tokens_max, copies);
    if (rc)
        goto undo_promise;
    *out = twin;
    return 0;
undo_promise:
    lr_engine_seq_close(twin);
    (void)lr_engine_rows_promise(s, s->tokens_max, before); /* gives back: there is room */
    return refused(s->e, rc, tokens_max, err);
undo_make:
    lr_engine_seq_close(twin);
    return refused(s->e, rc, tokens_max, err);
}

int lr_engine_seq_lend(struct lr_engine_seq **out, struct lr_engine_seq *s, uint32_t first,
                       uint32_t n)
{
    struct lr_engine_seq *twin;
    LR_TRY(make(&twin, s->e, s->lay.codec));
    int rc = lr_engine_rows_lend(twin, s, first * CHUNK_ROWS, n * CHUNK_ROWS);
    if (rc) {
        lr_engine_seq_close(twin);
        return rc;
    }
    twin->len = n * CHUNK_ROWS;
    *out = twin;
    return 0;
}

uint32_t lr_engine_seq_len(const struct lr_engine_seq *s)
{
    return s->len;
}

/* Rows before position len; *tail: and those are the first ones. */
static uint32_t rows_before(const struct table *t, uint32_t len, bool *tail)
{
    uint32_t n = 0;
    *tail = true;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->page[i / PAGE_ROWS]->row[i % PAGE_ROWS].pos < (int32_t)len) {
            *tail &= n == i;
            n++;
        }
    return n;
}

static int cut_table(struct lr_engine_seq *s, uint32_t layer, uint32_t head, uint32_t len)
{
    struct table *t = table_of(s, layer, head);
    bool tail;
    uint32_t n = rows_before(t, len, &tail), k = 0;
    if (tail) {
        lr_engine_rows_cut(s, t, n);
        return 0;
    }
    uint32_t *idx = lr_alloc(n * sizeof *idx);
    LR_FAIL_IF(!idx, LR_ENOMEM);
    for (uint32_t i = 0; i < t->n; i++)
        if (t->page[i / PAGE_ROWS]->row[i % PAGE_ROWS].pos < (int32_t)len)
            idx[k++] = i;
    int rc = lr_engine_rows_keep(s, layer, head, idx, n);
    lr_free(idx);
    return rc;
}

int lr_engine_seq_truncate(struct lr_engine_seq *s, uint32_t len)
{
    const struct lr_engine_shape *h = &s->e->m->shape;
    LR_FAIL_IF(len > s->len, LR_EINVAL);
    for (uint32_t l = 0; l < h->n_layer; l++)
        for (uint32_t i = 0; i < h->n_kv; i++)
            LR_TRY(cut_table(s, l, i, len));
    s->len = len;
    lr_engine_host_truncated(s, len);
    return 0;
}

void lr_engine_seq_bytes(const struct lr_engine_seq *s, struct lr_engine_seq_bytes *out)
{
    struct lr_engine_seq_bytes b = {.tables = n_tables(s->e) * sizeof *s->tables +
                                              lr_engine_host_bytes(s),
                                    .peak = s->peak * GRANULE};
    uint64_t page = (uint64_t)s->lay.granules * GRANULE;
    for (uint32_t i = 0; i < n_tables(s->e); i++) {
        const struct table *t = &s->tables[i];
        b.tables += t->cap * sizeof *t->page;
        b.rows += t->n;
        for (uint32_t j = 0; j < t->n_pages; j++)
            *(t->page[j]->refs > 1 ? &b.shared : &b.unique) += page;
    }
    *out = b;
}

int lr_engine_feed_as(struct lr_engine_seq *s, const uint32_t *tokens, size_t n,
                      enum lr_policy_phase phase, float *logits, const atomic_bool *cancel,
                      struct lr_err *err)
{
    for (size_t at = 0; at < n;) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return lr_err_set(err, LR_ECANCEL, "feed", "cancelled after %zu of %zu tokens", at, n);
        struct lr_engine_work w = {.seq = s, .tokens = tokens + at};
        w.n = lr_engine_seq_tile(s, (uint32_t)MIN_OF(n - at, LR_ENGINE_POS_MAX), LR_ENGINE_TILE);
        w.phase = at + w.n == n ? phase : LR_POLICY_CHUNK;
        w.n_logits = logits && at + w.n == n;
        w.logits = logits;
        LR_TRY(lr_engine_step(s->e, &w, 1, err));
        LR_TRY(lr_engine_seq_status(s, err));
        at += w.n;
    }
    return 0;
}

int lr_engine_feed(struct lr_engine_seq *s, const uint32_t *tokens, size_t n, float *logits,
                   const atomic_bool *cancel, struct lr_err *err)
{
    return lr_engine_feed_as(s, tokens, n, LR_POLICY_PROMPT_END, logits, cancel, err);
}

/* ---- texts to vectors ---- */

static int embed_tiles(struct lr_engine_seq *s, const uint32_t *tokens, size_t n, float *hidden,
                       enum lr_engine_pool pool, float *sum, struct lr_err *err)
{
    uint32_t d = s->e->m->shape.n_embd;
    for (size_t at = 0; at < n; at += LR_ENGINE_TILE) {
        struct lr_engine_work w = {.seq = s, .tokens = tokens + at, .hidden = hidden};
        w.n = (uint32_t)MIN_OF(n - at, LR_ENGINE_TILE);
        LR_TRY(lr_engine_step(s->e, &w, 1, err));
        if (pool == LR_ENGINE_POOL_MEAN)
            for (uint32_t t = 0; t < w.n; t++)
                s->e->k->add(sum, hidden + (size_t)t * d, d);
        else
            memcpy(sum, hidden + (size_t)(w.n - 1) * d, d * sizeof *sum);
    }
    return 0;
}

int lr_engine_embed(struct lr_engine *e, const uint32_t *tokens, size_t n,
                    enum lr_engine_pool pool, float *out, struct lr_err *err)
{
    uint32_t d = e->m->shape.n_embd;
    struct lr_engine_seq *s;
    LR_FAIL_IF(!n, lr_err_set(err, LR_EINVAL, "tokens", "no tokens"));
    float *hidden = lr_calloc(LR_ENGINE_TILE + 1, d * sizeof *hidden);
    LR_FAIL_IF(!hidden, lr_err_set(err, LR_ENOMEM, "embedding", "out of memory"));
    float *sum = hidden + (size_t)LR_ENGINE_TILE * d;
    int rc = lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){0}, err);
    if (rc)
        goto undo_hidden;
    rc = embed_tiles(s, tokens, n, hidden, pool, sum, err);
    if (!rc) {
        float length = sqrtf(e->k->dot(sum, sum, d));
        memcpy(out, sum, d * sizeof *out);
        e->k->scale(out, length > 0 ? 1.0f / length : 0, d);
    }
    lr_engine_seq_close(s);
undo_hidden:
    lr_free(hidden);
    return rc;
}
