/* SPDX-License-Identifier: Apache-2.0
 * answer/doc.c - one stored answer as bytes, and as a shared object in memory.
 *
 *   0     4   magic "LARD"          48        m  meta: fields of (id u8, length u8, bytes)
 *   4     1   major = 1             48+m      8  sum of bytes [0, 48+m): xxh3, seed 0
 *   5     1   minor                 56+m      l  log
 *   6     2   m, bytes of meta      56+m+l    8  sum of the log: xxh3, seed = the first sum
 *   8     4   l, bytes of log
 *   12    4   flags = 0
 *   16   32   key
 *
 * Two sums, so that the head (everything before the log) stands alone: the same bytes are the
 * record of the index on disk, and a start-up scan or an admin listing reads heads without touching
 * a log. The second sum is seeded with the first: a log cannot be paired with another head.
 *
 * Fields that are zero or empty are not written; integers take as few little-endian bytes as they
 * need. A reader skips field ids below 128 that it does not know and refuses those from 128 on; it
 * refuses an unknown major and any flag. docs/formats/entry.md is the specification, with a worked
 * example.
 *
 * Considered and dropped: one JSON head (larger, and a parse per listed entry); one sum over
 * all (a listing of cold entries then reads every log from disk).
 */
#include "answer/answer_int.h"

#include <assert.h>

#define HEAD      48
#define SUM       8
#define MAJOR     1
#define MINOR     0
#define MANDATORY 128 /* field ids from here on must be understood */

static const char magic[4] = {'L', 'A', 'R', 'D'};

enum field {
    F_TENANT = 1,
    F_CREATED,
    F_TTL,
    F_TOOK,
    F_MAX_TOKENS,
    F_TOKENS_IN,
    F_TOKENS_OUT,
    F_COST,
    F_HITS,
    F_CHOICES,
    F_CUT,
    F_DIALECT,
    F_KIND,
    F_MODEL,
    F_UPSTREAM,
    F_CATEGORY,
    F_TAG,
    F_REQUEST_ID,
    F_EXPIRES
};

/* ---- in memory ---- */

static atomic_uint_fast64_t serials = 1;

int lr_doc_new(const struct lr_doc_meta *meta, struct lr_str log, struct lr_doc **out)
{
    LR_FAIL_IF(log.n > LR_DOC_LOG_MAX, LR_EOVER);
    struct lr_doc *d = lr_alloc(sizeof *d + log.n);
    LR_FAIL_IF(!d, LR_ENOMEM);
    char *p = (char *)(d + 1);
    if (log.n)
        memcpy(p, log.p, log.n);
    d->meta = *meta;
    d->log = lr_str(p, log.n);
    d->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed);
    atomic_init(&d->refs, 1);
    *out = d;
    return 0;
}

void lr_doc_ref(struct lr_doc *d)
{
    /* The caller holds a reference already, so the count cannot reach zero meanwhile. */
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
}

void lr_doc_unref(struct lr_doc *d)
{
    if (!d)
        return;
    unsigned was = atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel);
    assert(was > 0);
    if (was == 1)
        lr_free(d);
}

/* ---- encode ---- */

static void put_field(struct lr_buf *b, enum field id, const void *p, size_t n)
{
    uint8_t head[2] = {(uint8_t)id, (uint8_t)n};
    /* Errors stick in b; the caller asks once at the end. */
    (void)lr_buf_add(b, head, sizeof head);
    (void)lr_buf_add(b, p, n);
}

static void put_int(struct lr_buf *b, enum field id, uint64_t v)
{
    uint8_t le[8];
    size_t n = 0;
    for (; v; v >>= 8)
        le[n++] = (uint8_t)v;
    if (n)
        put_field(b, id, le, n);
}

/* z: text in an array of `size` bytes, the last of which is never text. */
static void put_text(struct lr_buf *b, enum field id, const char *z, size_t size)
{
    size_t n = strnlen(z, size - 1);
    if (n)
        put_field(b, id, z, n);
}

static void put_meta(struct lr_buf *b, const struct lr_doc_meta *m, uint64_t expires_ms)
{
    put_int(b, F_TENANT, m->tenant);
    put_int(b, F_CREATED, m->created_ms);
    put_int(b, F_TTL, m->ttl_ms);
    put_int(b, F_TOOK, m->took_ms);
    put_int(b, F_MAX_TOKENS, m->max_tokens);
    put_int(b, F_TOKENS_IN, m->tokens_in);
    put_int(b, F_TOKENS_OUT, m->tokens_out);
    if (m->cost > 0)
        put_field(b, F_COST, &m->cost, sizeof m->cost);
    put_int(b, F_HITS, m->hits);
    put_int(b, F_CHOICES, m->choices);
    put_int(b, F_CUT, m->cut);
    put_int(b, F_DIALECT, m->dialect);
    put_int(b, F_KIND, m->kind);
    put_text(b, F_MODEL, m->model, sizeof m->model);
    put_text(b, F_UPSTREAM, m->upstream, sizeof m->upstream);
    put_text(b, F_CATEGORY, m->category, sizeof m->category);
    put_text(b, F_TAG, m->tag, sizeof m->tag);
    put_text(b, F_REQUEST_ID, m->request_id, sizeof m->request_id);
    put_int(b, F_EXPIRES, expires_ms);
}

int lr_doc_head_encode(const struct lr_doc_meta *m, uint64_t expires_ms, size_t log_n,
                       struct lr_buf *out)
{
    LR_FAIL_IF(log_n > LR_DOC_LOG_MAX, LR_EOVER);
    size_t at = out->len;
    uint8_t head[HEAD] = {0};
    memcpy(head, magic, 4);
    head[4] = MAJOR;
    head[5] = MINOR;
    lr_put_le32(head + 8, (uint32_t)log_n);
    memcpy(head + 16, m->key.b, 32);
    LR_TRY(lr_buf_add(out, head, HEAD));
    put_meta(out, m, expires_ms);
    LR_TRY(out->rc);
    lr_put_le16(out->p + at + 6, (uint16_t)(out->len - at - HEAD)); /* 19 fields: below 1 KiB */
    uint8_t sum[SUM];
    lr_put_le64(sum, lr_hash64(lr_str(out->p + at, out->len - at), 0));
    return lr_buf_add(out, sum, SUM);
}

int lr_doc_encode(const struct lr_doc_meta *m, struct lr_str log, struct lr_buf *out)
{
    LR_TRY(lr_doc_head_encode(m, 0, log.n, out));
    uint8_t sum[SUM];
    lr_put_le64(sum, lr_hash64(log, lr_le64(out->p + out->len - SUM)));
    LR_TRY(lr_buf_adds(out, log));
    return lr_buf_add(out, sum, SUM);
}

/* ---- decode ---- */

static int get_int(const uint8_t *p, size_t n, uint64_t max, uint64_t *out)
{
    LR_FAIL_IF(n == 0 || n > 8, LR_ECORRUPT);
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    LR_FAIL_IF(v > max, LR_ECORRUPT);
    *out = v;
    return 0;
}

static int get_text(const uint8_t *p, size_t n, char *out, size_t size)
{
    LR_FAIL_IF(n >= size || memchr(p, 0, n), LR_ECORRUPT);
    memcpy(out, p, n);
    memset(out + n, 0, size - n);
    return 0;
}

static int get_cost(const uint8_t *p, size_t n, double *out)
{
    double v;
    LR_FAIL_IF(n != sizeof v, LR_ECORRUPT);
    memcpy(&v, p, sizeof v);
    LR_FAIL_IF(!(v > 0 && v < 1e300), LR_ECORRUPT);
    *out = v;
    return 0;
}

static int get_small(const uint8_t *p, size_t n, uint64_t max, enum field id, struct lr_doc_meta *m)
{
    uint64_t v;
    LR_TRY(get_int(p, n, max, &v));
    switch (id) {
    case F_HITS:
        m->hits = (uint32_t)v;
        break;
    case F_CHOICES:
        m->choices = (uint16_t)v;
        break;
    case F_CUT:
        m->cut = (uint8_t)v;
        break;
    case F_DIALECT:
        m->dialect = (uint8_t)v;
        break;
    default:
        m->kind = (uint8_t)v;
        break;
    }
    return 0;
}

static int get_field(uint8_t id, const uint8_t *p, size_t n, struct lr_doc_meta *m,
                     uint64_t *expires_ms)
{
    switch (id) {
    case F_TENANT:
        return get_int(p, n, UINT64_MAX, &m->tenant);
    case F_CREATED:
        return get_int(p, n, UINT64_MAX, &m->created_ms);
    case F_TTL:
        return get_int(p, n, UINT64_MAX, &m->ttl_ms);
    case F_TOOK:
        return get_int(p, n, UINT64_MAX, &m->took_ms);
    case F_MAX_TOKENS:
        return get_int(p, n, UINT64_MAX, &m->max_tokens);
    case F_TOKENS_IN:
        return get_int(p, n, UINT64_MAX, &m->tokens_in);
    case F_TOKENS_OUT:
        return get_int(p, n, UINT64_MAX, &m->tokens_out);
    case F_COST:
        return get_cost(p, n, &m->cost);
    case F_HITS:
        return get_small(p, n, UINT32_MAX, F_HITS, m);
    case F_CHOICES:
        return get_small(p, n, UINT16_MAX, F_CHOICES, m);
    case F_CUT:
        return get_small(p, n, 1, F_CUT, m);
    case F_DIALECT:
        return get_small(p, n, LR_DIALECT_N - 1, F_DIALECT, m);
    case F_KIND:
        return get_small(p, n, LR_KIND_EMBEDDING, F_KIND, m);
    case F_MODEL:
        return get_text(p, n, m->model, sizeof m->model);
    case F_UPSTREAM:
        return get_text(p, n, m->upstream, sizeof m->upstream);
    case F_CATEGORY:
        return get_text(p, n, m->category, sizeof m->category);
    case F_TAG:
        return get_text(p, n, m->tag, sizeof m->tag);
    case F_REQUEST_ID:
        return get_text(p, n, m->request_id, sizeof m->request_id);
    case F_EXPIRES:
        return get_int(p, n, UINT64_MAX, expires_ms);
    default:
        return id >= MANDATORY ? LR_EVERSION : 0;
    }
}

static int get_meta(const uint8_t *p, size_t n, struct lr_doc_meta *m, uint64_t *expires_ms)
{
    while (n) {
        LR_FAIL_IF(n < 2 || (size_t)p[1] + 2 > n, LR_ECORRUPT);
        size_t len = p[1];
        LR_TRY(get_field(p[0], p + 2, len, m, expires_ms));
        p += 2 + len;
        n -= 2 + len;
    }
    return 0;
}

int lr_doc_head_decode(struct lr_str bytes, struct lr_doc_meta *meta, uint64_t *expires_ms,
                       struct lr_doc_head *head)
{
    const uint8_t *p = (const uint8_t *)bytes.p;
    LR_FAIL_IF(bytes.n < HEAD + SUM || memcmp(p, magic, 4) != 0, LR_ECORRUPT);
    LR_FAIL_IF(p[4] != MAJOR || lr_le32(p + 12) != 0, LR_EVERSION);
    size_t m = lr_le16(p + 6), log_n = lr_le32(p + 8);
    LR_FAIL_IF(bytes.n < HEAD + m + SUM || log_n > LR_DOC_LOG_MAX, LR_ECORRUPT);
    uint64_t sum = lr_le64(p + HEAD + m);
    LR_FAIL_IF(lr_hash64(lr_str(p, HEAD + m), 0) != sum, LR_ECORRUPT);
    struct lr_doc_meta got = {0};
    uint64_t expires = 0;
    memcpy(got.key.b, p + 16, 32);
    LR_TRY(get_meta(p + HEAD, m, &got, &expires));
    *meta = got;
    *expires_ms = expires;
    *head = (struct lr_doc_head){.size = HEAD + m + SUM, .log_n = log_n, .sum = sum};
    return 0;
}

int lr_doc_decode(struct lr_str bytes, struct lr_doc **out)
{
    struct lr_doc_meta meta;
    struct lr_doc_head head;
    uint64_t expires;
    LR_TRY(lr_doc_head_decode(bytes, &meta, &expires, &head));
    LR_FAIL_IF(bytes.n != head.size + head.log_n + SUM, LR_ECORRUPT);
    struct lr_str log = lr_str(bytes.p + head.size, head.log_n);
    LR_FAIL_IF(lr_hash64(log, head.sum) != lr_le64(bytes.p + bytes.n - SUM), LR_ECORRUPT);
    return lr_doc_new(&meta, log, out);
}
