/* SPDX-License-Identifier: Apache-2.0
 * engine/rows_save.c - a sequence's rows as bytes, and back, bit for bit
 * (docs/formats/rows.md).
 *
 *   0   magic "LRROWS\0", version 1, or 2 with a policy's state
 *   8   u32 layers, KV heads, head dimension, length (next position)
 *   24  codec name, 16 bytes, zero padded
 *   40  u32 type of keys, type of values (kern/'s numbers)
 *   48  tables, layer by layer, head by head:
 *         u32 n | n rows of 12 bytes | n keys | n values        (no padding)
 *         the policy's state, when version is 2 (host_save.c)
 *   end u64 xxh3 of everything before
 *
 * All little-endian. The weights that made the rows are the caller's to know (a store keys objects by
 * model and tokens); layout and codec are checked here, because rows of another layout are garbage, and
 * the checksum before anything is built: damaged bytes leave the sequence empty. Tier and codec of each
 * row travel inside its 12 bytes; a loaded row must have a position below the length, or below the
 * bound for rows that were inserted ahead, and a bias that is a number.
 */
#include "engine/host_int.h"

#define HEAD_BYTES 48u
#define NAME_BYTES 16u
static const char magic[7] = "LRROWS";

static bool has_policy(const struct lr_engine_seq *s)
{
    return s->host && s->host->active;
}

static void head_of(const struct lr_engine_seq *s, char *h)
{
    const struct lr_engine_shape *m = &s->e->m->shape;
    const struct lr_engine_codec *c = s->lay.codec;
    memset(h, 0, HEAD_BYTES);
    memcpy(h, magic, sizeof magic);
    h[7] = has_policy(s) ? 2 : 1;
    lr_put_le32(h + 8, m->n_layer);
    lr_put_le32(h + 12, m->n_kv);
    lr_put_le32(h + 16, m->d_head);
    lr_put_le32(h + 20, s->len);
    memcpy(h + 24, c->name, strnlen(c->name, NAME_BYTES));
    lr_put_le32(h + 40, (uint32_t)c->k);
    lr_put_le32(h + 44, (uint32_t)c->v);
}

static size_t row_bytes(const struct layout *l)
{
    return sizeof(struct lr_engine_row) + l->k_bytes + l->v_bytes;
}

static uint32_t n_tables(const struct lr_engine_seq *s)
{
    return s->e->m->shape.n_layer * s->e->m->shape.n_kv;
}

static char *save_table(const struct layout *l, const struct table *t, char *p)
{
    lr_put_le32(p, t->n);
    char *row = p + 4, *k = row + t->n * sizeof(struct lr_engine_row), *v = k + t->n * l->k_bytes;
    for (uint32_t i = 0; i < t->n; i += PAGE_ROWS) {
        const struct page *page = t->page[i / PAGE_ROWS];
        uint32_t n = MIN_OF(PAGE_ROWS, t->n - i);
        memcpy(row + i * sizeof *page->row, page->row, n * sizeof *page->row);
        memcpy(k + i * l->k_bytes, page_k(l, page, 0), n * l->k_bytes);
        memcpy(v + i * l->v_bytes, page_v(l, page, 0), n * l->v_bytes);
    }
    return v + t->n * l->v_bytes;
}

int lr_engine_seq_save(const struct lr_engine_seq *s, void *buf, size_t *n)
{
    size_t need = HEAD_BYTES + 8;
    size_t state = lr_engine_host_save_bytes(s);
    LR_FAIL_IF((has_policy(s) && !state) || lr_engine_seq_status(s, NULL), LR_EINVAL);
    for (uint32_t i = 0; i < n_tables(s); i++)
        need += 4 + s->tables[i].n * row_bytes(&s->lay);
    need += state;
    if (!buf) {
        *n = need;
        return 0;
    }
    LR_FAIL_IF(*n < need, LR_EOVER);
    char *p = buf;
    head_of(s, p);
    p += HEAD_BYTES;
    for (uint32_t i = 0; i < n_tables(s); i++)
        p = save_table(&s->lay, &s->tables[i], p);
    LR_TRY(lr_engine_host_save(s, p));
    lr_put_le64(p + state, lr_hash64(lr_str(buf, need - 8), 0));
    *n = need;
    return 0;
}

/* Bytes of the table at p, which has at most `left`; 0: they are not one. */
static size_t check_table(const struct layout *l, const char *p, size_t left)
{
    if (left < 4)
        return 0;
    size_t n = lr_le32(p);
    if (n > LR_ENGINE_POS_MAX || n * row_bytes(l) > left - 4)
        return 0;
    for (size_t i = 0; i < n; i++) {
        struct lr_engine_row r;
        memcpy(&r, p + 4 + i * sizeof r, sizeof r);
        if (r.pos < 0 || r.pos >= LR_ENGINE_POS_MAX || isnan(r.bias) || r.bias == INFINITY)
            return 0;
    }
    return 4 + n * row_bytes(l);
}

/* *end: behind the tables. */
static int check(const struct lr_engine_seq *s, const char *p, size_t n, size_t *end)
{
    char head[HEAD_BYTES];
    LR_FAIL_IF(n < HEAD_BYTES + 8 || memcmp(p, magic, sizeof magic) != 0, LR_ECORRUPT);
    head_of(s, head);
    LR_FAIL_IF(p[7] != head[7], LR_EVERSION); /* first: where another version has its sum is not known */
    lr_put_le32(head + 20, lr_le32(p + 20));
    LR_FAIL_IF(lr_le64(p + n - 8) != lr_hash64(lr_str(p, n - 8), 0), LR_ECORRUPT);
    LR_FAIL_IF(memcmp(p, head, HEAD_BYTES) != 0, LR_EVERSION);
    LR_FAIL_IF(lr_le32(p + 20) >= LR_ENGINE_POS_MAX, LR_ECORRUPT);
    size_t at = HEAD_BYTES;
    for (uint32_t i = 0; i < n_tables(s); i++) {
        size_t now = check_table(&s->lay, p + at, n - 8 - at);
        LR_FAIL_IF(!now, LR_ECORRUPT);
        at += now;
    }
    *end = at;
    return has_policy(s) || at == n - 8 ? 0 : LR_ECORRUPT;
}

static int load_table(struct lr_engine_seq *s, struct table *t, const char *p)
{
    const struct layout *l = &s->lay;
    uint32_t n = lr_le32(p);
    LR_TRY(lr_engine_rows_make(s, t, n));
    const char *row = p + 4, *k = row + n * sizeof(struct lr_engine_row), *v = k + n * l->k_bytes;
    for (uint32_t i = 0; i < n; i += PAGE_ROWS) {
        struct page *page = t->page[i / PAGE_ROWS];
        uint32_t now = MIN_OF(PAGE_ROWS, n - i);
        memcpy(page->row, row + i * sizeof *page->row, now * sizeof *page->row);
        memcpy(page_k(l, page, 0), k + i * l->k_bytes, now * l->k_bytes);
        memcpy(page_v(l, page, 0), v + i * l->v_bytes, now * l->v_bytes);
        lr_engine_page_summarise(page, now);
    }
    return 0;
}

int lr_engine_seq_load(struct lr_engine_seq *s, const void *buf, size_t n)
{
    LR_FAIL_IF(s->len, LR_EINVAL);
    const char *p = buf;
    size_t at = HEAD_BYTES, end;
    LR_TRY(check(s, p, n, &end));
    int rc = 0;
    for (uint32_t i = 0; !rc && i < n_tables(s); i++) {
        rc = load_table(s, &s->tables[i], p + at);
        at += 4 + lr_le32(p + at) * row_bytes(&s->lay);
    }
    if (!rc && has_policy(s))
        rc = lr_engine_host_load(s, p + end, n - 8 - end);
    if (rc) {
        if (s->host) /* half a state now: such a sequence can only be closed */
            lr_engine_host_fail(s->host, rc, "rows", "load");
        lr_engine_rows_clear(s);
        return rc;
    }
    s->len = lr_le32(p + 20);
    return 0;
}
