/* SPDX-License-Identifier: Apache-2.0
 * store/store.c - opening and closing, and every way to read.
 *
 *   get   filter -> shard: entry -> block? -> view: header, identity, sums -> caller
 *                                \-> disk?  -> load (load.c) -> ...
 *                                \-> no, but content: the remote tier -> load -> ...
 *
 * A read that finds damage in memory drops that copy and looks once more: the disk may have a sound
 * one. The caller sees a hit or a miss; what happened is in the counters.
 *
 * lr_store_read copies while it verifies: each part is summed and copied while it lies in the
 * processor's cache, so memory is read once. The bytes are right if and only if it says so; the
 * caller's buffer may hold wrong ones when it does not.
 */
#include "store/store_int.h"

#include <stdio.h>

#define MEM_MIN    LR_MIB(1)
#define SHARD_MEM  LR_MIB(512)
#define SHARDS_MAX 64u

/* ---- names ---- */

const char *lr_store_count_name(enum lr_store_count c)
{
    static const char *const names[] = {
#define X(name, text) #name,
        LR_STORE_COUNTS(X)
#undef X
    };
    return (size_t)c < LR_COUNT(names) ? names[c] : "unknown";
}

const char *lr_store_count_text(enum lr_store_count c)
{
    static const char *const texts[] = {
#define X(name, text) text,
        LR_STORE_COUNTS(X)
#undef X
    };
    return (size_t)c < LR_COUNT(texts) ? texts[c] : "unknown";
}

/* ---- opening ---- */

static int defaults(struct lr_store *s, const struct lr_store_opts *given, struct lr_err *err)
{
    struct lr_store_opts *o = &s->opts;
    *o = *given;
    if (!o->mem_max)
        o->mem_max = lr_limits_memory("") / 4;
    if (o->mem_max < MEM_MIN)
        return lr_err_set(err, LR_EINVAL, "store", "memory tier of %llu bytes, at least %zu needed",
                          (unsigned long long)o->mem_max, MEM_MIN);
    size_t largest = o->mem_max / 2 < LR_OBJECT_VALUE_MAX ? (size_t)(o->mem_max / 2)
                                                          : LR_OBJECT_VALUE_MAX;
    if (!o->value_max || o->value_max > largest)
        o->value_max = largest;
    if (!o->queue_bytes)
        o->queue_bytes = o->mem_max / 8 < LR_MIB(512) ? (size_t)(o->mem_max / 8) : LR_MIB(512);
    if (!o->readers)
        o->readers = 4;
    if (!o->late_ms)
        o->late_ms = 200;
    if (!o->evict)
        o->evict = "s3fifo";
    s->strategy = lr_evict_find(lr_strz(o->evict));
    if (!s->strategy)
        return lr_err_set(err, LR_EINVAL, "store", "no eviction strategy of that name");
    unsigned shards = o->shards;
    for (; !o->shards && (!shards || (shards < SHARDS_MAX && o->mem_max / shards > SHARD_MEM));)
        shards = shards ? 2 * shards : 1;
    if (shards > SHARDS_MAX || shards & (shards - 1))
        return lr_err_set(err, LR_EINVAL, "store", "shards: a power of two up to %u", SHARDS_MAX);
    s->n_shards = shards;
    s->shard_bits = (unsigned)__builtin_ctz(shards);
    return 0;
}

int lr_store_open(struct lr_store **out, const struct lr_store_opts *given, struct lr_err *err)
{
    struct lr_store *s = lr_new(struct lr_store);
    LR_FAIL_IF(!s, lr_err_set(err, LR_ENOMEM, "store", "out of memory"));
    int rc = defaults(s, given, err);
    if (rc)
        goto undo_store;
    rc = lr_spaces_open(s);
    if (rc)
        goto undo_store;
    rc = lr_room_open(&s->room, s->opts.mem_max);
    if (rc)
        goto undo_spaces;
    rc = s->opts.dir ? lr_tier_open(s, err) : 0;
    if (!rc)
        rc = lr_index_open(s);
    if (!rc && s->disk)
        rc = lr_tier_start(s, err);
    if (!rc && s->opts.remote)
        rc = lr_remote_open(s, err);
    if (rc)
        goto undo_index;
    *out = s;
    return 0;
undo_index:
    lr_remote_close(s);
    lr_tier_close(s);
    lr_index_close(s);
    lr_room_close(s->room);
undo_spaces:
    lr_spaces_close(s);
undo_store:
    lr_free(s);
    return lr_err_set(err, rc, "store", "%s", lr_strerror(rc));
}

void lr_store_close(struct lr_store *s)
{
    if (!s)
        return;
    lr_remote_close(s); /* first: what it brings lands in the others */
    lr_tier_close(s);
    lr_index_close(s);
    lr_room_close(s->room);
    lr_spaces_close(s);
    lr_free(s);
}

/* ---- finding ---- */

enum found { GOT, MISSED, COMING, LATE };

/* One look. GOT: *b has a reference. COMING: f will be told. LATE: only the disk has it, a load was
 * started if it could be, f is NULL. What is missed is counted. */
static enum found look(struct lr_store *s, const struct lr_digest *id, const struct lr_object *want,
                       struct lr_fetch *f, struct lr_block **b)
{
    enum lr_store_count why = LR_STORE_MISS_ABSENT;
    enum found found = MISSED;
    bool remote = s->remote && want && want != &lr_object_any && want->kind == LR_OBJECT_CONTENT;
    if (!remote && !lr_index_maybe(s, id)) {
        lr_count(s, why);
        return MISSED;
    }
    struct lr_shard *sh = lr_shard_of(s, id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_visible_locked(s, sh, id, &why);
    if (e && e->block) {
        *b = e->block;
        lr_block_ref(*b);
        lr_touch_locked(s, sh, e);
        found = GOT;
    } else if (e) {
        int rc = lr_load_locked(s, sh, e, f);
        found = rc ? MISSED : f ? COMING : LATE;
        why = rc ? LR_STORE_MISS_BUSY : LR_STORE_MISS_LATE;
    } else if (remote) {
        int rc = lr_load_remote_locked(s, sh, id, f);
        found = !rc && f ? COMING : MISSED; /* without f: it may come, for the next */
        why = rc && rc != LR_ENOENT ? LR_STORE_MISS_REMOTE : why;
    }
    pthread_mutex_unlock(&sh->mu);
    if (found == MISSED || found == LATE)
        lr_count(s, why);
    return found;
}

/* look() and the view, twice if the first copy is damaged. */
static enum found look_view(struct lr_store *s, const struct lr_digest *id,
                            const struct lr_object *want, struct lr_fetch *f, bool verify,
                            struct lr_view **v, int *rc)
{
    for (unsigned tries = 0;; tries++) {
        struct lr_block *b = NULL;
        enum found found = look(s, id, want, f, &b);
        *rc = found == LATE ? LR_ETIMEOUT : LR_ENOENT;
        if (found != GOT)
            return found;
        const struct lr_block *which = b;
        bool lazy = verify && f && f->lazy && b->bytes >= f->lazy;
        *rc = lr_view_make(b, id, want, verify && !lazy, v);
        if (!*rc) {
            lr_view_set_lazy(*v, lazy);
            lr_count(s, LR_STORE_HIT_MEMORY);
            return GOT;
        }
        if (*rc != LR_ECORRUPT)
            return MISSED;
        lr_block_disown(s, which, id);
        *rc = LR_ENOENT;
        if (tries)
            return MISSED;
    }
}

void lr_store_fetch(struct lr_store *s, struct lr_fetch *f)
{
    struct lr_view *v = NULL;
    int rc;
    f->load = NULL;
    if (look_view(s, &f->id, f->want, f, !s->opts.trust_memory, &v, &rc) != COMING)
        f->done(f, rc, rc ? NULL : v);
}

/* ---- waiting ---- */

struct waiter {
    struct lr_fetch fetch;
    pthread_mutex_t mu; /* guards done, rc, view; a leaf */
    pthread_cond_t cond;
    bool done;
    int rc;
    struct lr_view *view;
};

static void wake(struct lr_fetch *f, int rc, struct lr_view *v)
{
    struct waiter *w = LR_CONTAINER(f, struct waiter, fetch);
    pthread_mutex_lock(&w->mu);
    w->done = true;
    w->rc = rc;
    w->view = v;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mu);
}

static void waiter_init(struct waiter *w, const struct lr_digest *id, const struct lr_object *want)
{
    pthread_condattr_t monotonic;
    *w = (struct waiter){.fetch = {.id = *id, .want = want, .done = wake}};
    pthread_mutex_init(&w->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Until done or the deadline. */
static bool doze(struct waiter *w, uint64_t deadline)
{
    struct timespec t = {(time_t)(deadline / LR_SEC), (long)(deadline % LR_SEC)};
    int err = 0;
    pthread_mutex_lock(&w->mu);
    while (!w->done && !err)
        err = deadline == LR_FOREVER ? pthread_cond_wait(&w->cond, &w->mu)
                                     : pthread_cond_timedwait(&w->cond, &w->mu, &t);
    bool done = w->done;
    pthread_mutex_unlock(&w->mu);
    return done;
}

/* The outcome of a fetch that was COMING; the waiter is done with. */
static int finish(struct lr_store *s, struct waiter *w, uint64_t deadline, struct lr_view **out)
{
    int rc = LR_ETIMEOUT;
    if (!doze(w, deadline) && lr_store_fetch_cancel(s, &w->fetch)) {
        lr_count(s, LR_STORE_MISS_LATE);
    } else {
        doze(w, LR_FOREVER); /* landed: it is being told */
        rc = w->rc;
        *out = rc ? *out : w->view;
    }
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mu);
    return rc;
}

static bool past(uint64_t deadline)
{
    return deadline != LR_FOREVER && deadline <= lr_clock_mono_ns();
}

int lr_store_get(struct lr_store *s, const struct lr_digest *id, const struct lr_object *want,
                 uint64_t deadline, struct lr_view **out)
{
    struct waiter w;
    bool wait = !past(deadline), verify = !s->opts.trust_memory;
    struct lr_view *v = NULL;
    int rc;
    if (wait)
        waiter_init(&w, id, want);
    enum found found = look_view(s, id, want, wait ? &w.fetch : NULL, verify, &v, &rc);
    if (found == COMING) {
        rc = finish(s, &w, deadline, &v);
    } else if (wait) {
        pthread_cond_destroy(&w.cond);
        pthread_mutex_destroy(&w.mu);
    }
    if (!rc)
        *out = v;
    return rc;
}

/* ---- copying ---- */

/* Parts that touch the range, each summed and copied while it is in cache. */
static int copy_range(const struct lr_view *v, uint64_t offset, uint8_t *dst, size_t n, bool verify)
{
    const struct lr_object *o = lr_view_object(v);
    struct lr_str bytes = lr_view_bytes(v);
    LR_FAIL_IF(offset > bytes.n || n > bytes.n - offset, LR_EOVER);
    uint64_t end = offset + n;
    for (uint32_t i = 0; i < o->n_parts && n; i++) {
        struct lr_object_part part = lr_view_part(v, i);
        uint64_t from = part.offset > offset ? part.offset : offset;
        uint64_t to = part.offset + part.bytes < end ? part.offset + part.bytes : end;
        if (from >= to)
            continue;
        if (verify &&
            lr_hash64(lr_str(bytes.p + part.offset, (size_t)part.bytes), 0) != part.sum)
            return LR_ECORRUPT;
        memcpy(dst + (from - offset), bytes.p + from, (size_t)(to - from));
    }
    return 0;
}

/* All parts unwrapped one after the other into exactly n bytes. */
static int decode_all(const struct lr_view *v, uint64_t offset, uint8_t *dst, size_t n, bool verify)
{
    const struct lr_object *o = lr_view_object(v);
    struct lr_str bytes = lr_view_bytes(v);
    size_t at = 0;
    LR_FAIL_IF(offset, LR_EOVER);
    for (uint32_t i = 0; i < o->n_parts; i++) {
        struct lr_object_part part = lr_view_part(v, i);
        const char *p = bytes.p + part.offset;
        size_t size;
        if (verify && lr_hash64(lr_str(p, (size_t)part.bytes), 0) != part.sum)
            return LR_ECORRUPT;
        LR_TRY(lr_codec_size(p, (size_t)part.bytes, &size));
        LR_FAIL_IF(size > n - at, LR_EOVER);
        LR_TRY(lr_codec_decode(p, (size_t)part.bytes, dst + at, size));
        at += size;
    }
    return at == n ? 0 : LR_EOVER;
}

/* The length of the object as it is read. */
static int length_of(const struct lr_view *v, size_t *out)
{
    const struct lr_object *o = lr_view_object(v);
    struct lr_str bytes = lr_view_bytes(v);
    size_t all = 0, one;
    if (o->codec == LR_CODEC_RAW)
        all = bytes.n;
    for (uint32_t i = 0; i < o->n_parts && o->codec != LR_CODEC_RAW; i++) {
        struct lr_object_part part = lr_view_part(v, i);
        LR_TRY(lr_codec_size(bytes.p + part.offset, (size_t)part.bytes, &one));
        LR_FAIL_IF(one > SIZE_MAX - all, LR_EOVER);
        all += one;
    }
    *out = all;
    return 0;
}

/* r->n from room to length. */
static int fit(struct lr_range *r, const struct lr_view *v)
{
    size_t room = r->n;
    LR_TRY(length_of(v, &r->n));
    r->offset = 0;
    return r->n > room ? LR_EOVER : 0;
}

/* Copies out of v and gives it back. */
static int take_out(struct lr_store *s, struct lr_range *r, struct lr_view *v, bool verify)
{
    int rc = r->whole ? fit(r, v) : 0;
    if (!rc)
        rc = lr_view_object(v)->codec == LR_CODEC_RAW
                 ? copy_range(v, r->offset, r->dst, r->n, verify)
                 : decode_all(v, r->offset, r->dst, r->n, verify);
    if (rc == LR_ECORRUPT) {
        lr_count(s, LR_STORE_MISS_CORRUPT);
        lr_view_disown(v);
        rc = LR_ENOENT;
    }
    lr_view_put(v);
    return rc;
}

size_t lr_store_read(struct lr_store *s, struct lr_range *r, size_t n, uint64_t deadline)
{
    bool wait = !past(deadline), verify = !s->opts.trust_memory;
    struct waiter *w = wait && n ? lr_calloc(n, sizeof *w) : NULL; /* out of memory: no waiting */
    size_t good = 0;
    enum { COMING_RC = 1 };
    for (size_t i = 0; i < n; i++) {
        struct lr_view *v = NULL;
        if (w)
            waiter_init(&w[i], &r[i].id, r[i].want);
        enum found found =
            look_view(s, &r[i].id, r[i].want, w ? &w[i].fetch : NULL, false, &v, &r[i].rc);
        if (found == COMING) {
            r[i].rc = COMING_RC;
            continue;
        }
        if (w) {
            pthread_cond_destroy(&w[i].cond);
            pthread_mutex_destroy(&w[i].mu);
        }
        if (found == GOT)
            r[i].rc = take_out(s, &r[i], v, verify);
    }
    for (size_t i = 0; i < n; i++) {
        struct lr_view *v = NULL;
        if (r[i].rc == COMING_RC) {
            r[i].rc = finish(s, &w[i], deadline, &v);
            if (!r[i].rc)
                r[i].rc = take_out(s, &r[i], v, false); /* the load has just verified it */
        }
        good += r[i].rc == 0;
    }
    lr_free(w);
    return good;
}

/* ---- asking ---- */

size_t lr_store_prefix(struct lr_store *s, const struct lr_digest *ids, size_t n, bool prefetch,
                       size_t *in_memory)
{
    size_t here = 0, memory = 0;
    for (; here < n && lr_index_maybe(s, &ids[here]); here++) {
        struct lr_shard *sh = lr_shard_of(s, &ids[here]);
        enum lr_store_count why;
        pthread_mutex_lock(&sh->mu);
        struct lr_entry *e = lr_visible_locked(s, sh, &ids[here], &why);
        bool block = e && e->block;
        if (e && !block && prefetch && lr_load_locked(s, sh, e, NULL))
            prefetch = false; /* the queue of loads is full: those ahead are on their way */
        pthread_mutex_unlock(&sh->mu);
        if (!e)
            break;
        if (block && memory == here)
            memory++;
    }
    if (in_memory)
        *in_memory = memory;
    return here;
}

bool lr_store_has(struct lr_store *s, const struct lr_digest *id)
{
    return lr_store_prefix(s, id, 1, false, NULL) == 1;
}

int lr_store_entry(struct lr_store *s, const struct lr_digest *id, struct lr_store_entry *out)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    enum lr_store_count why;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_visible_locked(s, sh, id, &why);
    if (e) {
        lr_entry_row_locked(s, e, out);
        out->name = lr_str(NULL, 0); /* it may go with the lock */
    }
    pthread_mutex_unlock(&sh->mu);
    return e ? 0 : LR_ENOENT;
}

int lr_store_sync(struct lr_store *s, uint64_t deadline)
{
    struct lr_wait *wait;
    if (!s->disk)
        return 0;
    LR_TRY(lr_tier_barrier(s, &wait));
    return lr_tier_wait(s, wait, deadline);
}

void lr_store_stats(struct lr_store *s, struct lr_store_stats *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < LR_STORE_COUNT; i++)
        out->count[i] = atomic_load(&s->count[i]);
    out->entries = atomic_load(&s->entries);
    out->mem_max = lr_room_max(s->room);
    out->mem_bytes = lr_room_used(s->room);
    out->mem_pinned = atomic_load(&s->pinned);
    if (s->disk)
        lr_tier_stats(s, out);
    if (s->remote)
        lr_remote_stats(s, out);
}
