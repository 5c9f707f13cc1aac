/* SPDX-License-Identifier: Apache-2.0
 * store/put.c - drafts, and what changes an entry: put, delete, pin, expire, epoch, quota.
 *
 * A draft is a block nobody else knows. The header is written when it is opened, without sums; the
 * caller fills the payload in place; commit computes the sums that were not computed while it was
 * filled, and one moment under the shard's lock makes it the entry's block. Whoever read the block
 * before keeps reading that one.
 *
 * The sequence number is given under that lock, so of two puts of one id the later has the greater
 * number in the index, in the writer's queue and in the files.
 *
 * What the disk has to know is queued under that lock too, in an item made before (queue.c).
 *
 * Durable. The write is queued under the lock as well, with a handle; the call then waits for the
 * sync that follows the write. When it does not come in time, or fails, the put stands in memory
 * and the caller is told that the disk did not confirm.
 */
#include "store/store_int.h"

#include <assert.h>

struct lr_draft {
    struct lr_store *store;
    struct lr_block *block; /* ours alone */
    uint32_t summed;        /* parts whose sums are in the header */
};

/* Rows of LR_OBJECT_BLOCK for an object without layers. */
static uint32_t block_rows(uint64_t payload, struct lr_object_part *rows)
{
    uint32_t n = 0;
    for (uint64_t at = 0; at < payload; at += LR_OBJECT_BLOCK, n++) {
        uint64_t left = payload - at;
        rows[n] = (struct lr_object_part){at, left < LR_OBJECT_BLOCK ? left : LR_OBJECT_BLOCK, 0};
    }
    return n;
}

/* o as it will be written: times, epoch, number of parts. */
static int complete(struct lr_store *s, struct lr_object *o, bool has_parts)
{
    LR_FAIL_IF(o->payload > s->opts.value_max, LR_EOVER);
    uint16_t space;
    if (!has_parts)
        o->n_parts = (uint32_t)lr_round_up(o->payload, LR_OBJECT_BLOCK) / (uint32_t)LR_OBJECT_BLOCK;
    if (!o->created_ms)
        o->created_ms = lr_now_ms(s);
    if (o->kind == LR_OBJECT_OPAQUE) {
        LR_TRY(lr_space_slot(s, o->tenant, o->space, &space));
        o->epoch = atomic_load(&s->spaces[space].epoch);
    }
    uint64_t quota = atomic_load(&s->tenants[lr_tenant_slot(s, o->tenant)].bytes_max);
    LR_FAIL_IF(quota && o->payload > quota, LR_EOVER);
    return 0;
}

int lr_draft_open(struct lr_store *s, const struct lr_object *object, const struct lr_object_part *parts,
                  struct lr_draft **out)
{
    struct lr_object o = *object;
    size_t head;
    struct lr_object_part *rows = NULL;
    int rc = complete(s, &o, parts);
    if (!rc)
        rc = lr_object_size(&o, &head);
    if (rc) {
        lr_count(s, LR_STORE_PUT_REFUSED);
        return rc;
    }
    struct lr_draft *d = lr_new(struct lr_draft);
    LR_FAIL_IF(!d, LR_ENOMEM);
    d->store = s;
    if (!parts && o.n_parts) {
        rows = lr_calloc(o.n_parts, sizeof rows[0]);
        if (!rows) {
            rc = LR_ENOMEM;
            goto undo_draft;
        }
        block_rows(o.payload, rows);
        parts = rows;
    }
    rc = lr_block_new(s, head, o.payload, &d->block);
    if (!rc)
        rc = lr_object_encode(&o, parts, d->block->image + LR_RECORD_HEAD);
    lr_free(rows);
    if (rc)
        goto undo_draft;
    *out = d;
    return 0;
undo_draft:
    if (rc == LR_EOVER)
        lr_count(s, LR_STORE_PUT_REFUSED);
    lr_draft_abort(d);
    return rc;
}

uint8_t *lr_draft_bytes(struct lr_draft *d)
{
    return d->block->image + d->block->payload;
}

static uint32_t sum(const struct lr_draft *d, uint64_t filled)
{
    struct lr_block *b = d->block;
    return lr_object_sum(b->image + LR_RECORD_HEAD, b->head, b->image + b->payload, d->summed, filled);
}

void lr_draft_filled(struct lr_draft *d, uint64_t filled)
{
    d->summed = sum(d, filled);
}

void lr_draft_abort(struct lr_draft *d)
{
    if (!d)
        return;
    lr_block_unref(d->block);
    lr_free(d);
}

/* ---- publishing ---- */

/* Is the value itself to be written, now? */
static bool writes_value(const struct lr_store *s, unsigned flags)
{
    return s->disk && !(flags & LR_PUT_NO_DISK) &&
           (!s->opts.write_back || flags & LR_PUT_DURABLE);
}

/* b takes e's place; it, if there is one, tells the writer. */
static int publish_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                          const struct lr_object *o, struct lr_block *b, unsigned flags,
                          struct lr_item *it)
{
    int rc = lr_entry_describe_locked(s, sh, e, o, (uint32_t)b->head);
    if (rc) {
        lr_drop_if_empty_locked(s, sh, e);
        return rc;
    }
    lr_leave_mem_locked(s, sh, e);
    lr_leave_disk_locked(s, sh, e);
    e->seq = atomic_fetch_add(&s->seq, 1) + 1;
    e->used = e->queued = false;
    e->no_disk = flags & LR_PUT_NO_DISK;
    lr_block_ref(b);
    lr_enter_mem_locked(s, sh, e, b);
    lr_count(s, LR_STORE_PUTS);
    if (it && writes_value(s, flags))
        lr_queue_value_locked(s, e, it);
    else if (it)
        lr_queue_note(s, it, LR_RECORD_GONE, &e->id, e->seq, 0);
    return 0;
}

/* Is what is here as good as o? A handle in *wait when its disk copy has to be waited for. */
static bool keep_locked(struct lr_store *s, struct lr_shard *sh, const struct lr_object *o,
                        unsigned flags, struct lr_wait **wait)
{
    enum lr_store_count why;
    if (o->kind != LR_OBJECT_CONTENT)
        return false;
    struct lr_entry *e = lr_visible_locked(s, sh, &o->id, &why);
    uint32_t fidelity = o->fidelity ? o->fidelity : LR_OBJECT_LOSSLESS;
    if (!e || e->kind != o->kind || e->fidelity < fidelity)
        return false;
    lr_touch_locked(s, sh, e);
    lr_count(s, LR_STORE_PUT_KEPT);
    if (flags & LR_PUT_DURABLE && s->disk && !e->seg && !e->queued)
        (void)lr_queue_copy_locked(s, e, wait); /* else there is nothing to wait for: LR_EIO */
    return true;
}

/* Do the conditions of the put hold? */
static int allowed_locked(struct lr_store *s, struct lr_shard *sh, const struct lr_digest *id,
                          unsigned flags)
{
    enum lr_store_count why;
    if (!(flags & (LR_PUT_IF_ABSENT | LR_PUT_IF_PRESENT)))
        return 0;
    bool here = lr_visible_locked(s, sh, id, &why);
    if (here && flags & LR_PUT_IF_ABSENT)
        return LR_EEXIST;
    return !here && flags & LR_PUT_IF_PRESENT ? LR_ENOENT : 0;
}

/* The disk has what the call promised, or rc says why it is not known to. */
static int confirm(struct lr_store *s, struct lr_wait *wait, unsigned flags, uint64_t deadline)
{
    if (!(flags & LR_PUT_DURABLE))
        return 0;
    return wait ? lr_tier_wait(s, wait, deadline) : s->disk ? LR_EIO : LR_EUNSUPPORTED;
}

int lr_draft_commit(struct lr_draft *d, unsigned flags, uint64_t deadline)
{
    struct lr_store *s = d->store;
    struct lr_block *b = d->block;
    uint8_t *head = b->image + LR_RECORD_HEAD;
    struct lr_object o;
    struct lr_wait *wait = NULL;
    d->summed = sum(d, UINT64_MAX);
    lr_object_close(head, b->head);
    int rc = lr_object_decode(head, b->head, &o, NULL); /* fails if memory cannot hold a header */
    struct lr_item *it = NULL;
    bool durable = flags & LR_PUT_DURABLE && s->disk;
    if (!rc && (writes_value(s, flags) || (s->disk && o.kind == LR_OBJECT_OPAQUE)))
        rc = lr_item_new(&it, durable ? &wait : NULL);
    if (rc) {
        lr_draft_abort(d);
        return rc;
    }
    struct lr_shard *sh = lr_shard_of(s, &o.id);
    pthread_mutex_lock(&sh->mu);
    struct lr_wait *of_copy = NULL;
    rc = allowed_locked(s, sh, &o.id, flags);
    bool kept = !rc && keep_locked(s, sh, &o, flags, &of_copy);
    if (!kept && !rc) {
        struct lr_entry *e = lr_entry_locked(s, sh, &o.id);
        rc = e ? publish_locked(s, sh, e, &o, b, flags, it) : LR_ENOMEM;
    }
    pthread_mutex_unlock(&sh->mu);
    if (kept || rc) {
        lr_item_free(it); /* and with it what wait points to */
        wait = of_copy;
    }
    uint16_t tenant = lr_tenant_slot(s, o.tenant);
    if (!rc && !kept && s->remote && o.kind == LR_OBJECT_CONTENT && !(flags & LR_PUT_NO_DISK))
        lr_remote_save(s, &o.id, b);
    lr_draft_abort(d); /* the index has its own reference now */
    LR_TRY(rc);
    if (kept) {
        if (flags & LR_PUT_DURABLE && s->disk && !wait)
            LR_TRY(lr_tier_barrier(s, &wait));
        rc = confirm(s, wait, flags, deadline);
        return rc ? rc : LR_EEXIST;
    }
    lr_enforce_quota(s, tenant);
    return confirm(s, wait, flags, deadline);
}

int lr_store_put(struct lr_store *s, const struct lr_object *o, const struct lr_piece *pieces,
                 size_t n, bool layered, unsigned flags, uint64_t deadline)
{
    struct lr_object_part *rows = NULL;
    struct lr_object with = *o;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        LR_FAIL_IF(pieces[i].offset > o->payload || pieces[i].n > o->payload - pieces[i].offset,
                   LR_EINVAL);
        sum += pieces[i].n;
    }
    LR_FAIL_IF(sum != o->payload || (layered && n > LR_OBJECT_PARTS_MAX), LR_EINVAL);
    if (layered && n) {
        rows = lr_calloc(n, sizeof rows[0]);
        LR_FAIL_IF(!rows, LR_ENOMEM);
        for (size_t i = 0; i < n; i++)
            rows[i] = (struct lr_object_part){pieces[i].offset, pieces[i].n, 0};
        with.n_parts = (uint32_t)n;
    }
    struct lr_draft *d;
    int rc = lr_draft_open(s, &with, rows, &d);
    lr_free(rows);
    LR_TRY(rc);
    for (size_t i = 0; i < n; i++)
        if (pieces[i].n)
            memcpy(lr_draft_bytes(d) + pieces[i].offset, pieces[i].p, pieces[i].n);
    return lr_draft_commit(d, flags, deadline);
}

/* ---- the rest that changes entries ---- */

/* Queues a note about id; waits for it when that was asked for. */
static int note(struct lr_store *s, enum lr_record_type type, const struct lr_digest *id,
                uint64_t seq, uint64_t value, unsigned flags, uint64_t deadline)
{
    struct lr_wait *wait = NULL;
    if (!s->disk)
        return flags & LR_PUT_DURABLE ? LR_EUNSUPPORTED : 0;
    int rc = lr_tier_note(s, type, id, seq, value, flags & LR_PUT_DURABLE ? &wait : NULL);
    if (!(flags & LR_PUT_DURABLE))
        return 0; /* in memory it is done */
    LR_TRY(rc);
    return confirm(s, wait, flags, deadline);
}

int lr_store_del(struct lr_store *s, const struct lr_digest *id, unsigned flags, uint64_t deadline)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    struct lr_item *it = NULL;
    struct lr_wait *wait = NULL;
    enum lr_store_count why;
    LR_FAIL_IF(flags & LR_PUT_DURABLE && !s->disk, LR_EUNSUPPORTED);
    if (s->disk)
        LR_TRY(lr_item_new(&it, flags & LR_PUT_DURABLE ? &wait : NULL));
    pthread_mutex_lock(&sh->mu);
    bool seen = lr_visible_locked(s, sh, id, &why);
    struct lr_entry *e = lr_find_locked(s, sh, id);
    bool remote = s->remote && !lr_role_of(id) && (!seen || e->kind == LR_OBJECT_CONTENT);
    if (e)
        lr_drop_locked(s, sh, e);
    uint64_t seq = atomic_fetch_add(&s->seq, 1) + 1;
    if (it) /* also for what is not known here: a record that was evicted still lies in its segment */
        lr_queue_note(s, it, LR_RECORD_GONE, id, seq, 0);
    pthread_mutex_unlock(&sh->mu);
    if (remote)
        lr_remote_del(s, id);
    LR_TRY(confirm(s, wait, flags, deadline));
    return seen ? 0 : LR_ENOENT;
}

int lr_store_pin(struct lr_store *s, const struct lr_digest *id, uint64_t until_ms, unsigned flags,
                 uint64_t deadline)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    enum lr_store_count why;
    uint64_t seq = 0;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_visible_locked(s, sh, id, &why);
    int rc = e ? 0 : LR_ENOENT;
    if (e && until_ms && !e->pin_ms && e->block &&
        atomic_load(&s->pinned) + lr_room_charge(e->block->total) > lr_room_max(s->room) / 2)
        rc = LR_EOVER;
    if (!rc) {
        lr_set_pin_locked(s, sh, e, until_ms);
        e->pin_seq = seq = atomic_fetch_add(&s->seq, 1) + 1;
    }
    pthread_mutex_unlock(&sh->mu);
    LR_TRY(rc);
    return note(s, LR_RECORD_PIN, id, seq, until_ms, flags, deadline);
}

int lr_store_expire(struct lr_store *s, const struct lr_digest *id, uint64_t expires_ms)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    struct lr_item *it = NULL;
    enum lr_store_count why;
    if (s->disk)
        LR_TRY(lr_item_new(&it, NULL));
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_visible_locked(s, sh, id, &why);
    if (e) {
        e->expires_ms = expires_ms;
        e->expire_seq = atomic_fetch_add(&s->seq, 1) + 1;
        if (it)
            lr_queue_note(s, it, LR_RECORD_EXPIRE, id, e->expire_seq, expires_ms);
    }
    pthread_mutex_unlock(&sh->mu);
    if (e)
        return 0;
    lr_item_free(it);
    return LR_ENOENT;
}

int lr_store_bump(struct lr_store *s, uint64_t tenant, struct lr_str name, unsigned flags,
                  uint64_t deadline, uint32_t *epoch)
{
    uint16_t i;
    LR_FAIL_IF(name.n > LR_OBJECT_TEXT_MAX, LR_EOVER);
    LR_TRY(lr_space_slot(s, tenant, name, &i));
    struct lr_space *space = &s->spaces[i];
    struct lr_item *it = NULL;
    struct lr_wait *wait = NULL;
    LR_FAIL_IF(flags & LR_PUT_DURABLE && !s->disk, LR_EUNSUPPORTED);
    if (s->disk)
        LR_TRY(lr_item_new(&it, flags & LR_PUT_DURABLE ? &wait : NULL));
    pthread_mutex_lock(&s->spaces_mu);
    uint32_t now = atomic_fetch_add(&space->epoch, 1) + 1;
    uint64_t seq = space->seq = atomic_fetch_add(&s->seq, 1) + 1;
    pthread_mutex_unlock(&s->spaces_mu);
    if (epoch)
        *epoch = now;
    if (it)
        lr_queue_note(s, it, LR_RECORD_EPOCH, &space->id, seq, now);
    return confirm(s, wait, flags, deadline);
}

int lr_store_quota(struct lr_store *s, uint64_t tenant, uint64_t bytes_max)
{
    uint16_t i = lr_tenant_slot(s, tenant);
    LR_FAIL_IF(!i, LR_EOVER);
    atomic_store(&s->tenants[i].bytes_max, bytes_max);
    lr_enforce_quota(s, i);
    return 0;
}

uint64_t lr_store_tenant_bytes(struct lr_store *s, uint64_t tenant)
{
    return atomic_load(&s->tenants[lr_tenant_slot(s, tenant)].bytes);
}
