/* SPDX-License-Identifier: Apache-2.0
 * store/move.c - an operator's hand: objects into memory, onto the disk, out of memory.
 *
 * Into memory is a read. Onto the disk is what demotion does, with somebody who waits: a copy is queued
 * under the number that is on record already (queue.c), or the write on its way is waited for. Out of
 * memory is that, and then forgetting the block, which readers that hold it keep; an entry whose write
 * failed keeps it, so a move never loses an object. Between the two the entry may have been replaced:
 * then it is another value's turn, and the caller is told to try again.
 */
#include "store/store_int.h"

static int to_memory(struct lr_store *s, const struct lr_digest *id, uint64_t deadline)
{
    struct lr_view *v;
    LR_TRY(lr_store_get(s, id, &lr_object_any, deadline, &v));
    lr_view_put(v);
    return 0;
}

/* A handle in *wait when the writer has to be waited for. */
static int write_locked(struct lr_store *s, struct lr_entry *e, struct lr_wait **wait)
{
    if (e->seg)
        return 0;
    LR_FAIL_IF(e->no_disk, LR_EUNSUPPORTED);
    if (e->queued)
        return lr_tier_barrier(s, wait);
    return e->block && lr_queue_copy_locked(s, e, wait) ? 0 : LR_EBUSY;
}

static int to_disk(struct lr_store *s, const struct lr_digest *id, uint64_t deadline, uint64_t *seq)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    struct lr_wait *wait = NULL;
    enum lr_store_count why;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_visible_locked(s, sh, id, &why);
    int rc = e ? write_locked(s, e, &wait) : LR_ENOENT;
    *seq = e ? e->seq : 0;
    pthread_mutex_unlock(&sh->mu);
    LR_TRY(rc);
    return wait ? lr_tier_wait(s, wait, deadline) : 0;
}

static int out_of_memory(struct lr_store *s, const struct lr_digest *id, uint64_t seq)
{
    struct lr_shard *sh = lr_shard_of(s, id);
    enum lr_store_count why;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_visible_locked(s, sh, id, &why);
    int rc = !e ? LR_ENOENT : e->seq != seq ? LR_EBUSY : !e->seg ? LR_EIO : 0;
    if (!rc && e->block) {
        lr_count(s, LR_STORE_EVICTED_MEMORY);
        lr_leave_mem_locked(s, sh, e);
    }
    pthread_mutex_unlock(&sh->mu);
    return rc;
}

int lr_store_move(struct lr_store *s, const struct lr_digest *id, enum lr_place to, uint64_t deadline)
{
    uint64_t seq;
    if (to == LR_PLACE_MEMORY)
        return to_memory(s, id, deadline);
    LR_FAIL_IF(!lr_store_has(s, id), LR_ENOENT);
    LR_FAIL_IF(!s->disk, LR_EUNSUPPORTED);
    LR_TRY(to_disk(s, id, deadline, &seq));
    return to == LR_PLACE_DISK ? 0 : out_of_memory(s, id, seq);
}
