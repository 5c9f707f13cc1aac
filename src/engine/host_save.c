/* SPDX-License-Identifier: Apache-2.0
 * engine/host_save.c - a policy's state as bytes: the optional section of docs/formats/rows.md.
 *
 *   0    u32 bytes of the section, this field included
 *   4    u32 bytes of the stack's text | text
 *        u32 prompt | u32 even | u32 flags: 1 spent, 2 foreseen, 4 capped, 8 sums, 16 permuted, 32 prompt end
 *        u32 budget kind | u32 rows | f64 fraction | u64 bytes
 *        4 x u64 random numbers' state
 *        u32 budgets of tables, layer by layer, head by head
 *        sums    (when flagged) query head by query head of each layer:  u32 n | n f32
 *        each part: u32 bytes of state | state | columns, table by table: u32 n | n f32
 *
 * Written by one walk over fields that either counts, writes or reads, so that the three cannot differ. A
 * reader has the stack it was opened with and takes bytes of the same text only: parameters are in it.
 * Whoever saves has edited last (safepoint or none), so there is no step under way to describe.
 */
#include "engine/host_int.h"

/* A walk: writes to p, or reads from it, or (p NULL) counts. */
struct walk {
    char *p;
    size_t at, end;
    bool reading;
    int rc;
};

static void put(struct walk *w, void *field, size_t n)
{
    if (w->reading && n > w->end - w->at)
        w->rc = w->rc ? w->rc : LR_ECORRUPT;
    if (w->rc)
        return;
    if (w->p && n)
        memcpy(w->reading ? field : w->p + w->at, w->reading ? w->p + w->at : field, n);
    w->at += n;
}

static uint32_t put_u32(struct walk *w, uint32_t v)
{
    put(w, &v, sizeof v);
    return v;
}

static void walk_text(struct walk *w, struct lr_policy_stack *s)
{
    uint32_t n = (uint32_t)strlen(s->text), there = put_u32(w, n);
    char text[LR_POLICY_TEXT];
    memcpy(text, s->text, n);
    if (there != n)
        w->rc = w->rc ? w->rc : LR_EVERSION;
    put(w, text, n);
    if (!w->rc && memcmp(text, s->text, n) != 0)
        w->rc = LR_EVERSION;
}

static void walk_lane(struct walk *w, struct lane *l, uint32_t rows)
{
    uint32_t n = put_u32(w, l->n);
    if (!w->rc && w->reading) {
        l->n = 0;
        w->rc = n > rows ? LR_ECORRUPT : lr_engine_lane(l, n) ? 0 : LR_ENOMEM;
    }
    if (w->rc)
        return;
    put(w, l->v, n * sizeof *l->v);
    for (uint32_t i = 0; !w->rc && w->reading && i < n; i++)
        w->rc = isnan(l->v[i]) ? LR_ECORRUPT : 0;
}

static void walk_state(struct walk *w, struct lr_policy_seq *q)
{
    const struct lr_policy *p = q->part->policy;
    size_t n = 0;
    if (p->save && !w->reading)
        w->rc = w->rc ? w->rc : p->save(q->st, NULL, &n);
    uint32_t bytes = put_u32(w, (uint32_t)n);
    if (w->rc)
        return;
    if (!w->reading) {
        if (w->p && n)
            w->rc = p->save(q->st, w->p + w->at, &n);
    } else if (bytes > w->end - w->at || (bytes && !p->load))
        w->rc = LR_ECORRUPT;
    else if (p->load)
        w->rc = p->load(q->st, w->p + w->at, bytes);
    w->at += bytes;
}

static void walk_part(struct walk *w, struct lr_policy_seq *q)
{
    const struct lr_engine_seq *s = q->set->host->s;
    uint32_t columns = q->part->policy->columns;
    walk_state(w, q);
    for (uint32_t t = 0; !w->rc && t < host_tables(s); t++)
        for (uint32_t c = 0; !w->rc && c < columns; c++)
            walk_lane(w, &q->columns[(size_t)t * columns + c], s->tables[t].n);
}

static void walk_flags(struct walk *w, struct lr_engine_host *h)
{
    uint32_t f = (h->spent ? 1u : 0) | (h->active->foreseen ? 2u : 0) | (h->capped ? 4u : 0) |
                 (h->sums ? 8u : 0) | (h->permuted ? 16u : 0) |
                 (h->last == LR_POLICY_PROMPT_END ? 32u : 0);
    f = put_u32(w, f);
    if (w->rc || !w->reading)
        return;
    h->spent = f & 1;
    h->active->foreseen = f & 2;
    h->permuted = f & 16;
    h->last = f & 32 ? LR_POLICY_PROMPT_END : LR_POLICY_TOKEN;
    w->rc = f & ~63u || !(f & 4) == h->capped ? LR_EVERSION : 0;
    if (!w->rc && (f & 8))
        w->rc = lr_engine_host_sums(h);
}

static void walk_budget(struct walk *w, struct lr_engine_host *h)
{
    struct lr_policy_budget b = h->budget;
    uint32_t kind = put_u32(w, (uint32_t)b.kind);
    put(w, &b.rows, sizeof b.rows);
    put(w, &b.fraction, sizeof b.fraction);
    put(w, &b.bytes, sizeof b.bytes);
    if (!w->rc && (kind != (uint32_t)h->budget.kind || b.rows != h->budget.rows ||
                   memcmp(&b.fraction, &h->budget.fraction, sizeof b.fraction) != 0 ||
                   b.bytes != h->budget.bytes))
        w->rc = LR_EVERSION;
}

static void walk_host(struct walk *w, struct lr_engine_host *h)
{
    const struct lr_policy_model *m = &h->model;
    uint32_t tables = host_tables(h->s), group = m->n_head / m->n_kv;
    walk_text(w, &h->active->stack);
    put(w, &h->prompt, sizeof h->prompt);
    put(w, &h->even, sizeof h->even);
    walk_flags(w, h);
    walk_budget(w, h);
    put(w, &h->active->rng, sizeof h->active->rng);
    put(w, h->rows, tables * sizeof *h->rows);
    for (uint32_t i = 0; h->sums && !w->rc && i < m->n_layer * m->n_head; i++)
        walk_lane(w, &h->sums[i], h->s->tables[i / group].n);
    for (uint32_t i = 0; !w->rc && i < h->active->stack.n_part; i++)
        walk_part(w, &h->active->part[i]);
}

size_t lr_engine_host_save_bytes(const struct lr_engine_seq *s)
{
    struct walk w = {.at = 4};
    if (!s->host || !s->host->active)
        return 0;
    walk_host(&w, s->host);
    return w.rc ? 0 : w.at;
}

int lr_engine_host_save(const struct lr_engine_seq *s, void *buf)
{
    struct walk w = {.p = buf, .at = 4};
    if (!s->host || !s->host->active)
        return 0;
    walk_host(&w, s->host);
    lr_put_le32(buf, (uint32_t)w.at);
    return w.rc;
}

int lr_engine_host_load(struct lr_engine_seq *s, const void *buf, size_t n)
{
    struct walk w = {.p = (char *)(uintptr_t)buf, .at = 4, .end = n, .reading = true};
    LR_FAIL_IF(n < 4 || lr_le32(buf) != n, LR_ECORRUPT);
    LR_FAIL_IF(!s->host || !s->host->active, LR_EVERSION);
    walk_host(&w, s->host);
    return w.rc ? w.rc : w.at == n ? 0 : LR_ECORRUPT;
}
