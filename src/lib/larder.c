/* SPDX-License-Identifier: Apache-2.0
 * lib/larder.c - include/larder/larder.h over store/: the same store as the daemon's, linked instead of
 * asked.
 *
 * Nothing here keeps state: a struct larder is a store's pointer under another name. A larder_object is
 * turned into the header that the store knows (describe), which also names it; what the header says about
 * layout, tenant and tokens is what a get wants to find. Deadlines are points in time there and spans here.
 *
 * Only this file's functions are visible in liblarder: everything is compiled with hidden visibility, and
 * the static library is one object whose other names were made local (CMakeLists.txt).
 */
#include "larder/larder.h"

#include "store/store.h"

#include <stdio.h>

#define SAME(a, b) _Static_assert((int)(a) == (int)(b), "one number in both headers")
SAME(LARDER_ENOENT, LR_ENOENT);
SAME(LARDER_EBUSY, LR_EBUSY);
SAME(LARDER_ENOMEM, LR_ENOMEM);
SAME(LARDER_EOVER, LR_EOVER);
SAME(LARDER_EINVAL, LR_EINVAL);
SAME(LARDER_EIO, LR_EIO);
SAME(LARDER_ETIMEOUT, LR_ETIMEOUT);
SAME(LARDER_EEXIST, LR_EEXIST);
SAME(LARDER_ENOSPC, LR_ENOSPC);
SAME(LARDER_EUNSUPPORTED, LR_EUNSUPPORTED);
SAME(LARDER_F16, LR_DTYPE_F16);
SAME(LARDER_BF16, LR_DTYPE_BF16);
SAME(LARDER_E5M2, LR_DTYPE_E5M2);
SAME(LARDER_DURABLE, LR_PUT_DURABLE);
SAME(LARDER_NO_DISK, LR_PUT_NO_DISK);
SAME(sizeof(struct larder_key), sizeof(struct lr_digest));

static struct lr_store *store_of(struct larder *l)
{
    return (struct lr_store *)l;
}

static uint64_t deadline(uint64_t timeout_ms)
{
    uint64_t now = timeout_ms ? lr_clock_mono_ns() : 0;
    return timeout_ms > (LR_FOREVER - now) / LR_MS ? LR_FOREVER : now + timeout_ms * LR_MS;
}

/* ---- objects ---- */

static void describe_layout(const struct larder_layout *l, struct lr_object *o)
{
    o->model = lr_strz(l->model ? l->model : "");
    o->layout = (struct lr_layout){.engine = lr_strz(l->engine ? l->engine : ""),
                                   .format = l->format,
                                   .dtype = l->dtype,
                                   .n_dims = l->n_dims,
                                   .rank = l->rank,
                                   .version = l->version};
    for (uint32_t i = 0; i < l->n_dims; i++)
        o->layout.shape[i] = l->shape[i];
}

/* The header of an object without its bytes, its id included. */
static int describe(const struct larder_object *in, struct lr_object *o)
{
    *o = (struct lr_object){.tenant = in->tenant, .expires_ms = in->expires_ms};
    if (in->layout) {
        LR_FAIL_IF(in->name || in->name_bytes || in->space || in->layout->n_dims > LR_OBJECT_DIMS_MAX,
                   LR_EINVAL);
        describe_layout(in->layout, o);
        memcpy(o->key.b, in->key.b, sizeof o->key.b);
        o->tokens = in->tokens;
        o->position = in->position;
        LR_FAIL_IF(o->model.n > LR_OBJECT_TEXT_MAX || o->layout.engine.n > LR_OBJECT_TEXT_MAX, LR_EINVAL);
        lr_store_id_content(o, &o->id);
        return 0;
    }
    o->kind = LR_OBJECT_OPAQUE;
    o->space = lr_strz(in->space ? in->space : "");
    o->name = lr_str(in->name, in->name_bytes);
    LR_FAIL_IF(!in->name || !in->name_bytes || in->name_bytes > LR_OBJECT_NAME_MAX ||
                   o->space.n > LR_OBJECT_TEXT_MAX,
               LR_EINVAL);
    lr_store_id_opaque(o->tenant, o->space, o->name, &o->id);
    return 0;
}

/* What a get wants: a name is its own proof. */
static const struct lr_object *want(const struct lr_object *o)
{
    return o->kind == LR_OBJECT_CONTENT ? o : NULL;
}

/* ---- a store ---- */

const char *larder_strerror(int rc)
{
    return rc ? lr_strerror(rc) : "no error";
}

const char *larder_version(void)
{
    return LR_VERSION;
}

int larder_open(struct larder **out, const struct larder_opts *opts, char *why, size_t why_bytes)
{
    static const struct larder_opts usual;
    const struct larder_opts *o = opts ? opts : &usual;
    struct lr_store_opts so = {
        .mem_max = o->memory_max,
        .dir = o->dir,
        .disk_max = o->disk_max,
        .evict = o->evict,
        .write_back = o->write_back,
        .trust_memory = o->trust_memory,
    };
    struct lr_err err = {0};
    struct lr_store *s;
    lr_log_set_level(LR_LOG_ERROR);
    int rc = lr_store_open(&s, &so, &err);
    if (rc && why && why_bytes &&
        snprintf(why, why_bytes, "%s (%s)", err.msg[0] ? err.msg : lr_strerror(rc), err.where) < 0)
        *why = 0;
    LR_TRY(rc);
    *out = (struct larder *)s;
    return 0;
}

void larder_close(struct larder *l)
{
    lr_store_close(store_of(l));
}

/* ---- the chain ---- */

void larder_chain_first(const void *salt, size_t salt_bytes, struct larder_key *out)
{
    lr_chain_first(lr_str(salt, salt_bytes), (struct lr_digest *)out);
}

void larder_chain_next(const struct larder_key *prev, const uint32_t *tokens, size_t n,
                       struct larder_key *out)
{
    lr_chain_next((const struct lr_digest *)prev, tokens, n, (struct lr_digest *)out);
}

size_t larder_chain(const void *salt, size_t salt_bytes, const uint32_t *tokens, size_t n, size_t block,
                    struct larder_key *out, size_t max)
{
    return !block ? 0 : lr_chain_keys(lr_str(salt, salt_bytes), tokens, n, block, (struct lr_digest *)out,
                                      max);
}

/* ---- in and out ---- */

int larder_put(struct larder *l, const struct larder_object *object, const void *p, size_t bytes,
               unsigned flags, uint64_t timeout_ms)
{
    struct lr_object o;
    LR_FAIL_IF(flags & ~(unsigned)(LARDER_DURABLE | LARDER_NO_DISK) || (!p && bytes), LR_EINVAL);
    LR_TRY(describe(object, &o));
    o.payload = bytes;
    return lr_store_put(store_of(l), &o, &(struct lr_piece){0, p, bytes}, 1, false, flags,
                        deadline(timeout_ms));
}

int larder_view(struct larder *l, const struct larder_object *object, uint64_t timeout_ms,
                struct larder_view *out)
{
    struct lr_object o;
    struct lr_view *v;
    LR_TRY(describe(object, &o));
    LR_TRY(lr_store_get(store_of(l), &o.id, want(&o), deadline(timeout_ms), &v));
    struct lr_str bytes = lr_view_bytes(v);
    *out = (struct larder_view){bytes.p, bytes.n, v};
    return 0;
}

void larder_view_end(struct larder_view *v)
{
    lr_view_put(v->held);
    *v = (struct larder_view){NULL, 0, NULL};
}

int larder_get(struct larder *l, const struct larder_object *object, void *dst, size_t room, size_t *bytes,
               uint64_t timeout_ms)
{
    struct lr_object o;
    LR_TRY(describe(object, &o));
    struct lr_range r = {.id = o.id, .want = want(&o), .dst = dst, .n = room, .whole = true};
    (void)lr_store_read(store_of(l), &r, 1, deadline(timeout_ms)); /* r.rc says */
    if (bytes && (!r.rc || r.rc == LR_EOVER))
        *bytes = r.n;
    return r.rc;
}

size_t larder_prefix(struct larder *l, const struct larder_object *objects, size_t n, unsigned flags)
{
    struct lr_digest ids[64];
    size_t here = 0;
    while (here < n) {
        size_t k = 0;
        for (struct lr_object o; k < LR_COUNT(ids) && here + k < n && !describe(&objects[here + k], &o); k++)
            ids[k] = o.id;
        size_t found = lr_store_prefix(store_of(l), ids, k, flags & LARDER_PREFETCH, NULL);
        here += found;
        if (!k || found < k || k < LR_COUNT(ids))
            break;
    }
    return here;
}

int larder_pin(struct larder *l, const struct larder_object *object, uint64_t until_ms)
{
    struct lr_object o;
    LR_TRY(describe(object, &o));
    return lr_store_pin(store_of(l), &o.id, until_ms, 0, 0);
}

int larder_delete(struct larder *l, const struct larder_object *object)
{
    struct lr_object o;
    LR_TRY(describe(object, &o));
    return lr_store_del(store_of(l), &o.id, 0, 0);
}

int larder_sync(struct larder *l, uint64_t timeout_ms)
{
    return lr_store_sync(store_of(l), deadline(timeout_ms));
}

/* ---- numbers ---- */

static uint64_t sum(const struct lr_store_stats *st, const enum lr_store_count *which, size_t n)
{
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++)
        all += st->count[which[i]];
    return all;
}
#define SUM(...)                                                                                   \
    sum(&st, (const enum lr_store_count[]){__VA_ARGS__},                                           \
        LR_COUNT(((const enum lr_store_count[]){__VA_ARGS__})))

void larder_get_stats(struct larder *l, struct larder_stats *out)
{
    struct lr_store_stats st;
    lr_store_stats(store_of(l), &st);
    uint64_t mismatched = SUM(LR_STORE_MISS_KEY, LR_STORE_MISS_TENANT, LR_STORE_MISS_MODEL,
                              LR_STORE_MISS_LAYOUT, LR_STORE_MISS_TOKENS, LR_STORE_MISS_FORM,
                              LR_STORE_MISS_FIDELITY);
    *out = (struct larder_stats){
        .objects = st.entries,
        .memory_bytes = st.mem_bytes,
        .memory_max = st.mem_max,
        .memory_pinned = st.mem_pinned,
        .disk_bytes = st.disk_bytes,
        .disk_max = st.disk_max,
        .queue_bytes = st.queue_bytes,
        .puts = st.count[LR_STORE_PUTS],
        .hits_memory = st.count[LR_STORE_HIT_MEMORY],
        .hits_disk = st.count[LR_STORE_HIT_DISK],
        .misses = mismatched + SUM(LR_STORE_MISS_ABSENT, LR_STORE_MISS_EXPIRED, LR_STORE_MISS_EPOCH,
                                   LR_STORE_MISS_PAIR, LR_STORE_MISS_CORRUPT, LR_STORE_MISS_LATE,
                                   LR_STORE_MISS_BUSY, LR_STORE_MISS_IO, LR_STORE_MISS_ROOM),
        .corrupt = st.count[LR_STORE_MISS_CORRUPT],
        .late = st.count[LR_STORE_MISS_LATE],
        .expired = st.count[LR_STORE_MISS_EXPIRED],
        .mismatched = mismatched,
        .evicted = SUM(LR_STORE_EVICTED_MEMORY, LR_STORE_EVICTED_DISK),
        .dropped = SUM(LR_STORE_PUT_REFUSED, LR_STORE_LOST, LR_STORE_DISK_DROP_FULL,
                       LR_STORE_DISK_DROP_LATE, LR_STORE_DISK_DROP_ERROR),
        .recovered = st.count[LR_STORE_RECOVERED],
        .disk_ok = st.disk_max && st.disk_ok,
    };
}
