/* SPDX-License-Identifier: Apache-2.0
 * store/view.c - blocks with a count, and views: a block that was checked, held for a reader.
 *
 * A block's image does not change after it was published, but for the head and the mark of its
 * record, which the writer alone looks at (store_int.h). So views need no lock: the count keeps the
 * image, and the header is decoded into the view each time (some 100 ns; keeping it decoded would
 * cost half a KiB an entry).
 *
 * Every view is verified unless the store trusts its memory: sums of the header, then identity, then
 * each part. The parts of a lazy view are summed one by one as its holder comes to them: bytes that
 * were just summed are sent from the cache, and no thread is held up by the sum of 512 MiB.
 */
#include "store/store_int.h"

#include <assert.h>

struct lr_view {
    struct lr_block *block;
    struct lr_object object; /* texts point into the image */
    bool lazy;               /* parts were not summed: lr_view_good does */
    uint32_t next;           /* lazy: the first part that was not; those before hold `good` bytes */
    uint64_t good;
    bool damaged; /* what comes then */
};

int lr_block_new(struct lr_store *s, size_t head, uint64_t payload, struct lr_block **out)
{
    struct lr_image i = lr_image_of(head, payload);
    struct lr_block *b = lr_new(struct lr_block);
    LR_FAIL_IF(!b, LR_ENOMEM);
    b->image = lr_make_room(s, i.total);
    if (!b->image) {
        lr_free(b);
        return LR_EOVER;
    }
    b->store = s;
    b->head = head;
    b->payload = i.payload;
    b->bytes = payload;
    b->total = i.total;
    atomic_store(&b->refs, 1);
    *out = b;
    return 0;
}

void lr_block_ref(struct lr_block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void lr_block_unref(struct lr_block *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1)
        return;
    lr_room_give(b->store->room, b->image);
    lr_free(b);
}

static enum lr_store_count reason(enum lr_mismatch m)
{
    switch (m) {
    case LR_MISMATCH_TENANT:
        return LR_STORE_MISS_TENANT;
    case LR_MISMATCH_MODEL:
        return LR_STORE_MISS_MODEL;
    case LR_MISMATCH_LAYOUT:
        return LR_STORE_MISS_LAYOUT;
    case LR_MISMATCH_TOKENS:
        return LR_STORE_MISS_TOKENS;
    case LR_MISMATCH_FORM:
        return LR_STORE_MISS_FORM;
    case LR_MISMATCH_FIDELITY:
        return LR_STORE_MISS_FIDELITY;
    default:
        return LR_STORE_MISS_KEY;
    }
}

const struct lr_object lr_object_any;

/* Fills o from b's header, sound and the wanted one; counts what is wrong. */
static int check_header(const struct lr_block *b, const struct lr_digest *id,
                        const struct lr_object *want, struct lr_object *o)
{
    struct lr_store *s = b->store;
    size_t head;
    if (lr_object_decode(b->image + LR_RECORD_HEAD, b->head, o, &head) || head != b->head ||
        o->payload != b->bytes) {
        lr_count(s, LR_STORE_MISS_CORRUPT);
        return LR_ECORRUPT;
    }
    enum lr_mismatch m = LR_MATCH;
    if (!lr_digest_eq(&o->id, id) || (!want && o->kind != LR_OBJECT_OPAQUE))
        m = LR_MISMATCH_KEY;
    else if (want && want != &lr_object_any)
        m = lr_object_match(o, want);
    if (m == LR_MATCH)
        return 0;
    lr_count(s, reason(m));
    return LR_ENOENT;
}

int lr_view_make(struct lr_block *b, const struct lr_digest *id, const struct lr_object *want,
                 bool verify, struct lr_view **out)
{
    struct lr_view *v = lr_new(struct lr_view);
    int rc = v ? check_header(b, id, want, &v->object) : LR_ENOMEM;
    if (!rc && verify &&
        !lr_payload_ok(b->image + LR_RECORD_HEAD, b->head, &v->object, b->image + b->payload)) {
        lr_count(b->store, LR_STORE_MISS_CORRUPT);
        rc = LR_ECORRUPT;
    }
    if (rc) {
        lr_free(v);
        lr_block_unref(b);
        return rc;
    }
    v->block = b;
    *out = v;
    return 0;
}

void lr_view_put(struct lr_view *v)
{
    if (!v)
        return;
    lr_block_unref(v->block);
    lr_free(v);
}

const struct lr_object *lr_view_object(const struct lr_view *v)
{
    return &v->object;
}

struct lr_str lr_view_bytes(const struct lr_view *v)
{
    return lr_str(v->block->image + v->block->payload, (size_t)v->block->bytes);
}

struct lr_object_part lr_view_part(const struct lr_view *v, uint32_t i)
{
    assert(i < v->object.n_parts);
    const struct lr_block *b = v->block;
    return lr_object_part(b->image + LR_RECORD_HEAD, b->head, &v->object, i);
}

void lr_view_set_lazy(struct lr_view *v, bool lazy)
{
    v->lazy = lazy;
}

void lr_block_disown(struct lr_store *s, const struct lr_block *b, const struct lr_digest *id)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, id);
    if (e && e->block == b) {
        lr_leave_mem_locked(s, sh, e);
        lr_drop_if_empty_locked(s, sh, e);
    }
    pthread_mutex_unlock(&sh->mu);
}

void lr_view_disown(const struct lr_view *v)
{
    lr_block_disown(v->block->store, v->block, &v->object.id);
}

/* The next part. The row is checked too: it may have changed since the header was. */
static bool sum_next(struct lr_view *v)
{
    if (v->next == v->object.n_parts)
        return false;
    struct lr_object_part part = lr_view_part(v, v->next);
    const uint8_t *p = v->block->image + v->block->payload + v->good;
    if (part.offset != v->good || part.bytes > v->block->bytes - v->good ||
        lr_hash64(lr_str(p, (size_t)part.bytes), 0) != part.sum)
        return false;
    v->good += part.bytes;
    v->next++;
    return true;
}

uint64_t lr_view_good(struct lr_view *v, uint64_t upto)
{
    if (!v->lazy)
        return v->block->bytes;
    upto = upto < v->block->bytes ? upto : v->block->bytes;
    while (v->good < upto && !v->damaged) {
        v->damaged = !sum_next(v);
        if (v->damaged) {
            lr_count(v->block->store, LR_STORE_MISS_CORRUPT);
            lr_view_disown(v);
        }
    }
    return v->good;
}
