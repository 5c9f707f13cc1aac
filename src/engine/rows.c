/* SPDX-License-Identifier: Apache-2.0
 * engine/rows.c - tables of rows: where each KV head's keys and values lie, and every edit of them.
 *
 *   seq.tables[layer * n_kv + head]
 *     page[] --> page: refs | bounds | row[32] (12 bytes each) | 32 keys | 32 values
 *                page: ...                                      shared with a fork: refs 2
 *                page: the last one, partly filled
 *
 * Invariants
 *   - a table of n rows has ceil(n / 32) pages; row i is in page i / 32. A page may hold rows beyond
 *     its table's n (a fork went on, this one was truncated): they are not looked at.
 *   - a page with refs > 1 is never written; who wants to write takes a copy first.
 *   - positions ascend within a table unless an insert, a permutation by keep of loaded rows, or a load
 *     made it otherwise; attention trusts row.pos alone. A page's pos_min, pos_max and biased are bounds:
 *     they may be too wide, never too narrow.
 *   - failures change nothing: room is found first, then rows move.
 *
 * Ragged tables of pages per head, not one table for all heads: what a policy evicts from one head is
 * freed there, and nothing else moves. Edits compact in place, ascending: reading is ahead of writing,
 * so no second copy of a table ever exists, and equal edits give equal tables on every machine.
 *
 * Admission. A sequence that was promised tokens_max rows counts, beyond the pages it holds, for those
 * it may still take, and for a copy reserve: after a fork both sides may have to copy the unfinished
 * last page of each table. arena.used + arena.promised never exceeds the arena, so a promised page is
 * always there (single pages of one size cannot be blocked by fragmentation; with several codecs in one
 * arena a promise may be broken by it, and is then a clean LR_EOVER).
 */
#include "engine/engine_int.h"

/* ---- layouts ---- */

int lr_engine_layout(const struct lr_engine_codec *c, uint32_t d, struct layout *out)
{
    struct layout l = {.codec = c,
                       .k_bytes = lr_kern_row_bytes(c->k, d),
                       .v_bytes = lr_kern_row_bytes(c->v, d)};
    LR_FAIL_IF(!l.k_bytes || !l.v_bytes, LR_EINVAL);
    l.k_off = sizeof(struct page);
    l.v_off = l.k_off + (PAGE_ROWS * l.k_bytes + 63) / 64 * 64;
    size_t bytes = l.v_off + PAGE_ROWS * l.v_bytes;
    l.granules = (uint32_t)((bytes + GRANULE - 1) / GRANULE);
    *out = l;
    return 0;
}

static const struct lr_engine_codec codecs[] = {
    {.name = "f16", .k = LR_KERN_F16, .v = LR_KERN_F16},
    {.name = "f32", .k = LR_KERN_F32, .v = LR_KERN_F32},
    {.name = "q8_0", .k = LR_KERN_Q8_0, .v = LR_KERN_Q8_0},
    {.name = "i4r", .k = LR_KERN_I4R, .v = LR_KERN_I4R},
};

const struct lr_engine_codec *lr_engine_codec_find(struct lr_str name)
{
    for (size_t i = 0; i < LR_COUNT(codecs); i++)
        if (lr_str_is(name, codecs[i].name))
            return &codecs[i];
    return NULL;
}

/* ---- budget ---- */

static uint32_t n_tables(const struct lr_engine_seq *s)
{
    return s->e->m->shape.n_layer * s->e->m->shape.n_kv;
}

static uint32_t pages_of(uint64_t rows)
{
    return (uint32_t)((rows + PAGE_ROWS - 1) / PAGE_ROWS);
}

uint64_t lr_engine_rows_need(const struct lr_engine_seq *s, uint64_t n)
{
    return (uint64_t)pages_of(n) * s->lay.granules * n_tables(s);
}

static uint64_t outstanding(const struct lr_engine_seq *s, uint32_t tokens_max, uint64_t copies)
{
    uint64_t want = lr_engine_rows_need(s, tokens_max);
    return (want > s->held ? want - s->held : 0) + copies;
}

static void settle(struct lr_engine_seq *s)
{
    uint64_t now = outstanding(s, s->tokens_max, s->copies);
    struct arena *a = &s->e->arena;
    /* Room that closed meanwhile (held pages given up while others filled the arena) stays lost. */
    uint64_t room = a->granules - a->used - (a->promised - s->promised);
    now = MIN_OF(now, room);
    a->promised = a->promised - s->promised + now;
    s->promised = now;
}

int lr_engine_rows_promise(struct lr_engine_seq *s, uint32_t tokens_max, uint64_t copies)
{
    struct arena *a = &s->e->arena;
    uint64_t room = a->granules - a->used - (a->promised - s->promised);
    LR_FAIL_IF(outstanding(s, tokens_max, copies) > room, LR_EOVER);
    s->tokens_max = tokens_max;
    s->copies = copies;
    settle(s);
    return 0;
}

/* Granules that s may take: promised to it, or to nobody. */
static uint64_t room_for(const struct lr_engine_seq *s)
{
    const struct arena *a = &s->e->arena;
    return a->granules - a->used - (a->promised - s->promised);
}

/* ---- pages ---- */

/* A page whose head is still to be written. NULL: no room. */
static struct page *take_raw(struct lr_engine_seq *s, const struct page *after)
{
    uint32_t n = s->lay.granules;
    if (room_for(s) < n)
        return NULL;
    const char *hint = after ? (const char *)after + (size_t)n * GRANULE : NULL;
    struct page *p = lr_engine_arena_take(&s->e->arena, n, hint);
    if (!p)
        return NULL;
    s->held += n;
    s->peak = s->held > s->peak ? s->held : s->peak;
    settle(s);
    return p;
}

/* A page of refs 1. NULL: no room. */
static struct page *take_page(struct lr_engine_seq *s, const struct page *after)
{
    struct page *p = take_raw(s, after);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->refs = 1;
    return p;
}

static void drop_page(struct lr_engine_seq *s, struct page *p)
{
    s->held -= s->lay.granules;
    if (--p->refs == 0)
        lr_engine_arena_give(&s->e->arena, p, s->lay.granules);
}

static void drop_from(struct lr_engine_seq *s, struct table *t, uint32_t first)
{
    while (t->n_pages > first)
        drop_page(s, t->page[--t->n_pages]);
}

static int reserve(struct table *t, uint32_t n_pages)
{
    if (n_pages <= t->cap)
        return 0;
    uint32_t cap = t->cap + t->cap / 2 + 8;
    cap = cap < n_pages ? n_pages : cap;
    struct page **p = lr_realloc(t->page, cap * sizeof *p);
    LR_FAIL_IF(!p, LR_ENOMEM);
    t->page = p;
    t->cap = cap;
    return 0;
}

static int add_page(struct lr_engine_seq *s, struct table *t)
{
    LR_TRY(reserve(t, t->n_pages + 1));
    struct page *p = take_page(s, t->n_pages ? t->page[t->n_pages - 1] : NULL);
    LR_FAIL_IF(!p, LR_EOVER);
    t->page[t->n_pages++] = p;
    return 0;
}

static size_t page_bytes(const struct layout *l)
{
    return l->v_off + PAGE_ROWS * l->v_bytes;
}

static void copy_page(const struct layout *l, struct page *to, const struct page *from)
{
    memcpy(to, from, page_bytes(l));
    to->refs = 1;
}

/* Makes page j of t its own. */
static int own_page(struct lr_engine_seq *s, struct table *t, uint32_t j)
{
    struct page *old = t->page[j];
    if (old->refs == 1)
        return 0;
    struct page *p = take_page(s, NULL);
    LR_FAIL_IF(!p, LR_EOVER);
    copy_page(&s->lay, p, old);
    drop_page(s, old);
    t->page[j] = p;
    s->copies -= MIN_OF(s->copies, s->lay.granules);
    settle(s);
    return 0;
}

void lr_engine_page_summarise(struct page *p, uint32_t n)
{
    p->pos_min = INT32_MAX;
    p->pos_max = INT32_MIN;
    p->biased = false;
    for (uint32_t i = 0; i < n; i++) {
        const struct lr_engine_row *r = &p->row[i];
        p->pos_min = MIN_OF(p->pos_min, r->pos);
        p->pos_max = r->pos > p->pos_max ? r->pos : p->pos_max;
        p->biased |= r->bias != 0;
    }
}

static void summarise_from(struct table *t, uint32_t first)
{
    for (uint32_t j = first; j < t->n_pages; j++)
        lr_engine_page_summarise(t->page[j], MIN_OF(PAGE_ROWS, t->n - j * PAGE_ROWS));
}

void lr_engine_row_copy(const struct layout *l, struct page *to, uint32_t d,
                        const struct page *from, uint32_t i)
{
    to->row[d] = from->row[i];
    memcpy(page_k(l, to, d), page_k(l, from, i), l->k_bytes);
    memcpy(page_v(l, to, d), page_v(l, from, i), l->v_bytes);
}

/* ---- appending ---- */

static int grow(struct lr_engine_seq *s, struct table *t, uint32_t n)
{
    uint32_t want = pages_of((uint64_t)t->n + n);
    if (t->n % PAGE_ROWS)
        LR_TRY(own_page(s, t, t->n / PAGE_ROWS));
    LR_TRY(reserve(t, want));
    while (t->n_pages < want)
        LR_TRY(add_page(s, t));
    return 0;
}

static uint64_t growth(const struct lr_engine_seq *s, uint32_t n)
{
    uint64_t pages = 0;
    for (uint32_t i = 0; i < n_tables(s); i++) {
        const struct table *t = &s->tables[i];
        pages += pages_of((uint64_t)t->n + n) - t->n_pages;
        pages += t->n % PAGE_ROWS && t->page[t->n / PAGE_ROWS]->refs > 1;
    }
    return pages * s->lay.granules;
}

static void append_meta(struct table *t, int32_t pos, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, t->n++, pos++) {
        struct page *p = t->page[t->n / PAGE_ROWS];
        uint32_t at = t->n % PAGE_ROWS;
        p->row[at] = (struct lr_engine_row){.pos = pos};
        if (!at) {
            p->pos_min = p->pos_max = pos;
            p->biased = false;
        }
        p->pos_min = MIN_OF(p->pos_min, pos);
        p->pos_max = pos > p->pos_max ? pos : p->pos_max;
    }
}

int lr_engine_rows_append(struct lr_engine_seq *s, uint32_t n)
{
    LR_FAIL_IF(n > LR_ENGINE_POS_MAX - s->len, LR_EOVER);
    LR_FAIL_IF(growth(s, n) > room_for(s), LR_EOVER);
    int rc = 0;
    uint32_t i = 0;
    for (; !rc && i < n_tables(s); i++)
        rc = grow(s, &s->tables[i], n);
    if (rc) {
        while (i-- > 0)
            drop_from(s, &s->tables[i], pages_of(s->tables[i].n));
        settle(s);
        return rc;
    }
    for (i = 0; i < n_tables(s); i++)
        append_meta(&s->tables[i], (int32_t)s->len, n);
    s->len += n;
    return 0;
}

static void encode(enum lr_kern_type type, void *dst, const float *x, size_t d)
{
    if (type == LR_KERN_F16)
        lr_kern()->f32_to_f16(dst, x, d);
    else
        lr_kern_encode(type, dst, x, d);
}

void lr_engine_rows_put_k(const struct lr_engine_seq *s, const struct table *t, size_t i, float *k)
{
    const struct lr_engine_codec *c = s->lay.codec;
    uint32_t d = s->e->m->shape.d_head;
    if (c->enc_k)
        c->enc_k(k, d);
    encode(c->k, page_k(&s->lay, t->page[i / PAGE_ROWS], i % PAGE_ROWS), k, d);
}

void lr_engine_rows_put_v(const struct lr_engine_seq *s, const struct table *t, size_t i, float *v)
{
    const struct lr_engine_codec *c = s->lay.codec;
    uint32_t d = s->e->m->shape.d_head;
    if (c->enc_v)
        c->enc_v(v, d);
    encode(c->v, page_v(&s->lay, t->page[i / PAGE_ROWS], i % PAGE_ROWS), v, d);
}

/* ---- rows to come: rows_chunk.c ---- */

static int add_raw(struct lr_engine_seq *s, struct table *t, uint32_t n)
{
    uint32_t want = pages_of((uint64_t)t->n + n);
    LR_TRY(reserve(t, want));
    while (t->n_pages < want) {
        struct page *p = take_raw(s, t->n_pages ? t->page[t->n_pages - 1] : NULL);
        LR_FAIL_IF(!p, LR_EOVER);
        t->page[t->n_pages++] = p;
    }
    t->n += n;
    return 0;
}

int lr_engine_rows_raw(struct lr_engine_seq *s, uint32_t n)
{
    int rc = 0;
    LR_FAIL_IF(n > LR_ENGINE_POS_MAX - s->len, LR_EOVER);
    LR_FAIL_IF(growth(s, n) > room_for(s), LR_EOVER);
    for (uint32_t i = 0; !rc && i < n_tables(s); i++) {
        assert(s->tables[i].n == s->len && s->len % PAGE_ROWS == 0);
        rc = add_raw(s, &s->tables[i], n);
    }
    if (rc)
        lr_engine_rows_unraw(s, s->len);
    else
        s->len += n;
    return rc;
}

void lr_engine_rows_unraw(struct lr_engine_seq *s, uint32_t len)
{
    for (uint32_t i = 0; i < n_tables(s); i++) {
        struct table *t = &s->tables[i];
        for (uint32_t j = pages_of(len); j < t->n_pages; j++)
            t->page[j]->refs = 1; /* nobody has written it, nor shared it */
        lr_engine_rows_cut(s, t, len);
    }
    s->len = len;
}

/* ---- whole tables ---- */

/* Pages [first, first + n) of `from` into the empty `to`. */
static int share_pages(struct lr_engine_seq *s, struct table *to, const struct table *from,
                       uint32_t first, uint32_t n)
{
    LR_TRY(reserve(to, n));
    for (uint32_t j = 0; j < n; j++) {
        to->page[j] = from->page[first + j];
        to->page[j]->refs++;
    }
    to->n_pages = n;
    to->n = MIN_OF(from->n - first * PAGE_ROWS, n * PAGE_ROWS);
    s->held += (uint64_t)n * s->lay.granules;
    return 0;
}

int lr_engine_rows_share(struct lr_engine_seq *dst, struct lr_engine_seq *src)
{
    for (uint32_t i = 0; i < n_tables(src); i++)
        LR_TRY(share_pages(dst, &dst->tables[i], &src->tables[i], 0, src->tables[i].n_pages));
    dst->peak = dst->held;
    return 0;
}

int lr_engine_rows_lend(struct lr_engine_seq *dst, const struct lr_engine_seq *src, uint32_t first,
                        uint32_t n)
{
    assert(first % PAGE_ROWS == 0 && n % PAGE_ROWS == 0);
    for (uint32_t i = 0; i < n_tables(src); i++) {
        assert(src->tables[i].n >= first + n);
        LR_TRY(share_pages(dst, &dst->tables[i], &src->tables[i], first / PAGE_ROWS, n / PAGE_ROWS));
    }
    dst->peak = dst->held;
    return 0;
}

void lr_engine_rows_clear(struct lr_engine_seq *s)
{
    for (uint32_t i = 0; i < n_tables(s); i++) {
        drop_from(s, &s->tables[i], 0);
        s->tables[i].n = 0;
        lr_engine_lanes_cut(s, &s->tables[i], 0);
    }
    settle(s);
}

int lr_engine_rows_make(struct lr_engine_seq *s, struct table *t, uint32_t n)
{
    assert(!t->n && !t->n_pages);
    LR_TRY(grow(s, t, n));
    t->n = n;
    return 0;
}

/* ---- what is in a table ---- */

size_t lr_engine_rows(const struct lr_engine_seq *s, uint32_t layer, uint32_t head)
{
    const struct lr_engine_shape *h = &s->e->m->shape;
    return layer < h->n_layer && head < h->n_kv ? table_of(s, layer, head)->n : 0;
}

/* The table when [at, at + n) are rows of it. */
static struct table *rows_at(const struct lr_engine_seq *s, uint32_t layer, uint32_t head,
                             size_t at, size_t n)
{
    size_t all = lr_engine_rows(s, layer, head);
    return at <= all && n <= all - at && all ? table_of(s, layer, head) : NULL;
}

int lr_engine_rows_get(const struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t at,
                       size_t n, struct lr_engine_row *out)
{
    const struct table *t = rows_at(s, layer, head, at, n);
    LR_FAIL_IF(!t && n, LR_EINVAL);
    for (size_t i = at; i < at + n; i++)
        *out++ = t->page[i / PAGE_ROWS]->row[i % PAGE_ROWS];
    return 0;
}

int lr_engine_rows_read(const struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t i,
                        float *k, float *v)
{
    const struct table *t = rows_at(s, layer, head, i, 1);
    LR_FAIL_IF(!t, LR_EINVAL);
    const struct page *p = t->page[i / PAGE_ROWS];
    uint32_t d = s->e->m->shape.d_head;
    if (k)
        lr_kern()->decode(s->lay.codec->k, k, page_k(&s->lay, p, i % PAGE_ROWS), d);
    if (v)
        lr_kern()->decode(s->lay.codec->v, v, page_v(&s->lay, p, i % PAGE_ROWS), d);
    return 0;
}

/* ---- edits ---- */

/* Moves rows idx[from] .. to their places from page `first` on; fresh[j - first] stands in for pages
 * that are shared. */
static void compact(struct lr_engine_seq *s, struct table *t, const uint32_t *idx, uint32_t n,
                    uint32_t first, struct page *const *fresh)
{
    for (uint32_t d = first * PAGE_ROWS; d < n; d++) {
        uint32_t i = idx[d], j = d / PAGE_ROWS;
        struct page *to = fresh[j - first] ? fresh[j - first] : t->page[j];
        const struct page *from = t->page[i / PAGE_ROWS];
        if (to != from || i != d)
            lr_engine_row_copy(&s->lay, to, d % PAGE_ROWS, from, i % PAGE_ROWS);
    }
    for (uint32_t j = first; j < pages_of(n); j++)
        if (fresh[j - first]) {
            drop_page(s, t->page[j]);
            t->page[j] = fresh[j - first];
        }
}

/* Pages to stand in for the shared ones among [first, end). */
static int take_fresh(struct lr_engine_seq *s, const struct table *t, uint32_t first, uint32_t end,
                      struct page **fresh)
{
    for (uint32_t j = first; j < end; j++)
        if (t->page[j]->refs > 1 && !(fresh[j - first] = take_page(s, NULL))) {
            while (j-- > first)
                if (fresh[j - first])
                    drop_page(s, fresh[j - first]);
            settle(s);
            return LR_EOVER;
        }
    return 0;
}

void lr_engine_rows_cut(struct lr_engine_seq *s, struct table *t, uint32_t n)
{
    t->n = n;
    drop_from(s, t, pages_of(n));
    lr_engine_lanes_cut(s, t, n);
    settle(s);
}

int lr_engine_rows_keep(struct lr_engine_seq *s, uint32_t layer, uint32_t head,
                        const uint32_t *idx, size_t n)
{
    struct table *t = rows_at(s, layer, head, 0, n);
    LR_FAIL_IF(!t, n ? LR_EINVAL : 0);
    uint32_t same = 0;
    for (size_t i = 0; i < n; i++) {
        LR_FAIL_IF(idx[i] >= t->n || (i && idx[i] <= idx[i - 1]), LR_EINVAL);
        same += idx[i] == i; /* ascending: those are a prefix */
    }
    if (same < n) {
        uint32_t first = same / PAGE_ROWS, end = pages_of(n);
        struct page **fresh = lr_calloc(end - first, sizeof *fresh);
        LR_FAIL_IF(!fresh, LR_ENOMEM);
        int rc = take_fresh(s, t, first, end, fresh);
        if (!rc)
            compact(s, t, idx, (uint32_t)n, first, fresh);
        lr_free(fresh);
        LR_TRY(rc);
        lr_engine_lanes_keep(s, t, idx, (uint32_t)n);
        t->n = (uint32_t)n;
        drop_from(s, t, end);
        summarise_from(t, first);
    }
    lr_engine_rows_cut(s, t, (uint32_t)n);
    return 0;
}

static void put_row(const struct lr_engine_seq *s, struct table *t, size_t i, const float *k,
                    const float *v)
{
    float x[1024]; /* the bound of heads: model.c */
    uint32_t d = s->e->m->shape.d_head;
    assert(d <= LR_COUNT(x));
    if (k) {
        memcpy(x, k, d * sizeof *x);
        lr_engine_rows_put_k(s, t, i, x);
    }
    if (v) {
        memcpy(x, v, d * sizeof *x);
        lr_engine_rows_put_v(s, t, i, x);
    }
}

int lr_engine_rows_write(struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t i,
                         const float *k, const float *v, float bias)
{
    struct table *t = rows_at(s, layer, head, i, 1);
    LR_FAIL_IF(!t || isnan(bias) || bias == INFINITY, LR_EINVAL);
    LR_TRY(own_page(s, t, (uint32_t)(i / PAGE_ROWS)));
    struct page *p = t->page[i / PAGE_ROWS];
    p->row[i % PAGE_ROWS].bias = bias;
    p->biased |= bias != 0;
    put_row(s, t, i, k, v);
    return 0;
}

int lr_engine_rows_tag(struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t i,
                       uint16_t tag)
{
    struct table *t = rows_at(s, layer, head, i, 1);
    LR_FAIL_IF(!t, LR_EINVAL);
    LR_TRY(own_page(s, t, (uint32_t)(i / PAGE_ROWS)));
    t->page[i / PAGE_ROWS]->row[i % PAGE_ROWS].tag = tag;
    return 0;
}

/* Index of the first row later than pos. */
static uint32_t place_of(const struct table *t, int32_t pos)
{
    uint32_t i = 0;
    while (i < t->n && t->page[i / PAGE_ROWS]->row[i % PAGE_ROWS].pos <= pos)
        i++;
    return i;
}

int lr_engine_rows_insert(struct lr_engine_seq *s, uint32_t layer, uint32_t head, int32_t pos,
                          const float *k, const float *v, float bias, uint16_t tag)
{
    const struct lr_engine_shape *h = &s->e->m->shape;
    LR_FAIL_IF(layer >= h->n_layer || head >= h->n_kv || !k || !v || pos < 0 ||
                   pos >= LR_ENGINE_POS_MAX || isnan(bias) || bias == INFINITY,
               LR_EINVAL);
    struct table *t = table_of(s, layer, head);
    uint32_t at = place_of(t, pos), first = at / PAGE_ROWS;
    for (uint32_t j = first; j < t->n_pages; j++)
        LR_TRY(own_page(s, t, j));
    if (t->n % PAGE_ROWS == 0)
        LR_TRY(add_page(s, t));
    int rc = lr_engine_lanes_insert(s, t, at);
    if (rc) {
        drop_from(s, t, pages_of(t->n));
        settle(s);
        return rc;
    }
    for (uint32_t i = t->n++; i > at; i--)
        lr_engine_row_copy(&s->lay, t->page[i / PAGE_ROWS], i % PAGE_ROWS,
                           t->page[(i - 1) / PAGE_ROWS], (i - 1) % PAGE_ROWS);
    t->page[first]->row[at % PAGE_ROWS] =
        (struct lr_engine_row){.pos = pos, .bias = bias, .tag = tag};
    put_row(s, t, at, k, v);
    summarise_from(t, first);
    return 0;
}

int lr_engine_rows_permute(struct lr_engine_seq *s, struct table *t, const uint32_t *order)
{
    struct table fresh = {.n = 0};
    float *scratch = lr_alloc(t->n * sizeof *scratch);
    int rc = scratch ? grow(s, &fresh, t->n) : LR_ENOMEM;
    rc = rc ? rc : lr_engine_lanes_permute(s, t, order, scratch);
    if (rc) {
        drop_from(s, &fresh, 0);
        settle(s);
        goto done;
    }
    for (uint32_t i = 0; i < t->n; i++)
        lr_engine_row_copy(&s->lay, fresh.page[i / PAGE_ROWS], i % PAGE_ROWS,
                           t->page[order[i] / PAGE_ROWS], order[i] % PAGE_ROWS);
    struct table old = *t;
    fresh.n = t->n;
    *t = fresh;
    fresh = old;
    drop_from(s, &fresh, 0);
    settle(s);
    summarise_from(t, 0);
done:
    lr_free(fresh.page);
    lr_free(scratch);
    return rc;
}
