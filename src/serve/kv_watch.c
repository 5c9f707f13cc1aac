/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_watch.c - rows of who sent which of LMCache's keys.
 *
 *   connection (tenant, namespace, address, name, library, opened)  x  key (model, rank, form ...)  --> row
 *
 * Idea. What makes clients share is the hash of a chunk, and what keeps them apart is all else that
 * stands in a key or before it. So a row is all else, and holds a sample of the hashes: the
 * LR_KV_SKETCH least of them (bottom-k, Cohen and Kaplan 2007). Two samples are of one and the same
 * order, so rows that share many chunks share many of the least ones, however many were sent. Rows that
 * share few may look as if they shared none; kv_doctor.c asks for both sides to be well filled.
 *
 * Processes. LMCache's native client says nothing of itself: two engines on one machine differ in
 * nothing but the time they connected. A row is therefore one burst of connections, each opened within
 * LR_KV_BURST_MS of another; kv_doctor.c joins rows again whose samples meet (a pool that grew later).
 *
 * Bounds. LR_KV_ROWS rows of 2.7 KB, made at the start; the row that was silent longest gives way and is
 * counted. One lock, a leaf, held for some hundred nanoseconds: a command of LMCache's moves megabytes.
 */
#include "serve/kv_watch.h"

#include <pthread.h>
#include <stdlib.h>

#define META     28u /* bytes: i32 length, fmt, dtype, shape0..3 */

struct lr_kv_watch {
    pthread_mutex_t mu; /* guards all below; a leaf */
    size_t n;
    uint64_t seen, forgotten;
    uint64_t ident[LR_KV_ROWS]; /* hash of what a row is of, but for its time */
    struct lr_kv_row row[LR_KV_ROWS];
};

int lr_kv_watch_open(struct lr_kv_watch **out)
{
    struct lr_kv_watch *w = lr_new(struct lr_kv_watch);
    LR_FAIL_IF(!w, LR_ENOMEM);
    pthread_mutex_init(&w->mu, NULL);
    *out = w;
    return 0;
}

void lr_kv_watch_close(struct lr_kv_watch *w)
{
    if (!w)
        return;
    pthread_mutex_destroy(&w->mu);
    lr_free(w);
}

/* ---- samples ---- */

static uint32_t place(const struct lr_kv_sketch *s, uint64_t hash)
{
    uint32_t lo = 0, hi = s->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (s->v[mid] < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void lr_kv_sketch_add(struct lr_kv_sketch *s, uint64_t hash)
{
    uint32_t i = place(s, hash);
    if (i == LR_KV_SKETCH || (i < s->n && s->v[i] == hash))
        return;
    uint32_t behind = (s->n < LR_KV_SKETCH ? s->n++ : LR_KV_SKETCH - 1) - i;
    memmove(&s->v[i + 1], &s->v[i], behind * sizeof s->v[0]);
    s->v[i] = hash;
}

/* Beyond it a full sample may have lost hashes. */
static uint64_t horizon(const struct lr_kv_sketch *s)
{
    return s->n == LR_KV_SKETCH ? s->v[LR_KV_SKETCH - 1] : UINT64_MAX;
}

uint32_t lr_kv_sketch_common(const struct lr_kv_sketch *a, const struct lr_kv_sketch *b, uint32_t *of)
{
    uint64_t end = horizon(a) < horizon(b) ? horizon(a) : horizon(b);
    uint32_t i = 0, k = 0, both = 0;
    while (i < a->n && k < b->n && a->v[i] <= end && b->v[k] <= end) {
        uint64_t x = a->v[i], y = b->v[k];
        both += x == y;
        i += x <= y;
        k += y <= x;
    }
    while (i < a->n && a->v[i] <= end)
        i++;
    while (k < b->n && b->v[k] <= end)
        k++;
    if (of)
        *of = i < k ? i : k;
    return both;
}

/* ---- rows ---- */

static void add_text(uint64_t *h, struct lr_str s)
{
    *h = lr_hash64(s, *h + s.n); /* the length keeps neighbours apart */
}

static uint64_t ident_of(const struct lr_kv_seen *s, const struct lr_kv_key *k)
{
    uint32_t n[4] = {(uint32_t)k->shape, k->world, k->rank, k->layered};
    uint64_t h = s->tenant;
    add_text(&h, lr_str(n, sizeof n));
    add_text(&h, s->space);
    add_text(&h, s->address);
    add_text(&h, s->name);
    add_text(&h, s->library);
    add_text(&h, k->model);
    add_text(&h, k->dtype);
    add_text(&h, k->tag);
    return h;
}

static void copy(char *out, size_t cap, struct lr_str s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    if (n)
        memcpy(out, s.p, n);
    out[n] = 0;
}

static bool in_burst(const struct lr_kv_row *r, uint64_t opened_ms)
{
    return opened_ms + LR_KV_BURST_MS >= r->opened_ms && opened_ms <= r->joined_ms + LR_KV_BURST_MS;
}

/* A free place, or that of the row that was silent longest. */
static size_t place_for_row(struct lr_kv_watch *w)
{
    size_t oldest = 0;
    if (w->n < LR_KV_ROWS)
        return w->n++;
    for (size_t i = 1; i < w->n; i++)
        if (w->row[i].last_ms < w->row[oldest].last_ms)
            oldest = i;
    w->forgotten++;
    return oldest;
}

static struct lr_kv_row *row_locked(struct lr_kv_watch *w, const struct lr_kv_seen *s,
                                    const struct lr_kv_key *k, uint64_t now_ms)
{
    uint64_t ident = ident_of(s, k);
    for (size_t i = 0; i < w->n; i++)
        if (w->ident[i] == ident && in_burst(&w->row[i], s->opened_ms)) {
            struct lr_kv_row *r = &w->row[i];
            r->opened_ms = s->opened_ms < r->opened_ms ? s->opened_ms : r->opened_ms;
            r->joined_ms = s->opened_ms > r->joined_ms ? s->opened_ms : r->joined_ms;
            return r;
        }
    size_t i = place_for_row(w);
    struct lr_kv_row *r = &w->row[i];
    w->ident[i] = ident;
    memset(r, 0, sizeof *r);
    r->tenant = s->tenant;
    r->opened_ms = r->joined_ms = s->opened_ms;
    r->first_ms = now_ms;
    r->shape = k->shape;
    r->world = k->world;
    r->rank = k->rank;
    r->layered = k->layered;
    copy(r->space, sizeof r->space, s->space);
    copy(r->address, sizeof r->address, s->address);
    copy(r->name, sizeof r->name, s->name);
    copy(r->library, sizeof r->library, s->library);
    copy(r->model, sizeof r->model, k->model);
    copy(r->dtype, sizeof r->dtype, k->dtype);
    copy(r->tag, sizeof r->tag, k->tag);
    return r;
}

/* ---- what a command tells ---- */

/* The commonest so far, if any makes up half (Boyer and Moore 1981). */
static void vote(struct lr_kv_row *r, uint64_t size)
{
    if (r->size == size) {
        r->sized++;
    } else if (r->sized) {
        r->sized--;
    } else {
        r->size = size;
        r->sized = 1;
    }
}

/* Tokens of a chunk, of the formats whose order of dimensions is known: 2LTD, T2D, 2TD. */
static uint32_t tokens_of(struct lr_str meta)
{
    static const unsigned dim[] = {0, 2, 0, 1};
    if (meta.n != META)
        return 0;
    uint32_t fmt = lr_le32(meta.p + 4);
    return fmt >= 1 && fmt <= 3 ? lr_le32(meta.p + 12 + 4 * dim[fmt]) : 0;
}

static void count_set(struct lr_kv_row *r, const struct lr_kv_seen *s, const struct lr_kv_key *k)
{
    uint32_t tokens = k->half == LR_KV_META ? tokens_of(s->value) : 0;
    r->sets++;
    r->dropped += !s->good;
    r->bytes += s->size;
    r->halves[0] += k->half == LR_KV_BYTES && s->good;
    r->halves[1] += k->half == LR_KV_META && s->good;
    if (tokens > r->tokens && tokens <= 1u << 20)
        r->tokens = tokens; /* the last chunk of a prompt may be a part of one */
    if (k->half != LR_KV_META)
        vote(r, s->size);
}

void lr_kv_watch_saw(struct lr_kv_watch *w, const struct lr_kv_seen *s, const struct lr_kv_key *k,
                     uint64_t now_ms)
{
    uint64_t hash = lr_hash64(k->hash, 0);
    pthread_mutex_lock(&w->mu);
    struct lr_kv_row *r = row_locked(w, s, k, now_ms);
    w->seen++;
    r->last_ms = now_ms;
    r->wide |= k->hash.n > 17;
    if (s->op == LR_KV_SET) {
        count_set(r, s, k);
        lr_kv_sketch_add(&r->set, hash);
    } else {
        bool get = s->op == LR_KV_GET;
        r->gets += get;
        r->hits += get && s->good;
        r->asks += !get;
        r->there += !get && s->good;
        lr_kv_sketch_add(&r->asked, hash);
    }
    pthread_mutex_unlock(&w->mu);
}

size_t lr_kv_watch_count(struct lr_kv_watch *w, uint64_t *seen, uint64_t *forgotten)
{
    pthread_mutex_lock(&w->mu);
    size_t n = w->n;
    *seen = w->seen;
    *forgotten = w->forgotten;
    pthread_mutex_unlock(&w->mu);
    return n;
}

size_t lr_kv_watch_rows(struct lr_kv_watch *w, struct lr_kv_row *out, uint64_t *forgotten)
{
    pthread_mutex_lock(&w->mu);
    size_t n = w->n;
    memcpy(out, w->row, n * sizeof out[0]);
    *forgotten = w->forgotten;
    pthread_mutex_unlock(&w->mu);
    return n;
}
