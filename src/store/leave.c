/* SPDX-License-Identifier: Apache-2.0
 * store/leave.c - who leaves: memory when room is needed, the disk when it is full, a tenant's own
 * oldest when it is over its quota.
 *
 * Each shard has a strategy for memory and one for disk (evict/), each believing in an equal share
 * of the budget. The memory budget is physical: the room either has a hole or not. Who needs one
 * and finds none evicts, from the fullest shard first, until the hole is there. It gives up, and
 * the put is refused, once it has evicted WASTE_TIMES what it needs: what is left is pinned, being
 * read or being written, and throwing out the rest of the store would not help.
 *
 * Demotion. In the usual write-through every entry has its copy on disk by the time it is old, and
 * leaving memory is forgetting it there. One that has none (written back, or its write was dropped)
 * is given to the writer and marked `leaving`: it stays readable and goes when the write is done.
 * The keeper does this ahead of need, from 7/8 of memory on (lr_clean_memory), so that who needs
 * room finds clean ones; who does not wait for the disk drops what is still unclean, counted LOST.
 *
 * Nobody here tells the disk: that the value's number is on record was seen to when it was given
 * (queue.c), so what is dropped cannot uncover an older value.
 *
 * A victim that somebody reads or that the writer holds would free nothing: it counts as hit and the
 * strategy is asked again, HELD times.
 */
#include "store/store_int.h"

#define TRIES       64u   /* used entries that a quota passes over */
#define HELD        4096u /* victims that somebody holds (queues to slow writers) before giving up */
#define PINS        4096u /* pinned entries looked at before a quota gives up */
#define WASTE_TIMES 8u
#define WASTE_MIN   LR_MIB(16)

static struct lr_entry *mem_entry(struct lr_evict_node *n)
{
    return LR_CONTAINER(n, struct lr_entry, mem);
}

static struct lr_entry *disk_entry(struct lr_evict_node *n)
{
    return LR_CONTAINER(n, struct lr_entry, disk);
}

/* Hands e to the writer, to leave memory when it is on disk. */
static bool demote_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (!s->disk || e->no_disk || !lr_tier_has_queue_room(s, e->block->total) ||
        !lr_queue_copy_locked(s, e, NULL))
        return false;
    s->strategy->remove(sh->mem, &e->mem);
    e->mem_listed = false;
    atomic_fetch_sub(&sh->mem_bytes, e->mem.bytes);
    e->leaving = true;
    return true;
}

/* The victim's room is free: bytes of it. 0: nothing could go. demote: rather write than lose. */
static uint64_t evict_mem(struct lr_store *s, struct lr_shard *sh, bool demote)
{
    uint64_t freed = 0;
    pthread_mutex_lock(&sh->mu);
    for (unsigned k = 0; k < HELD && !freed; k++) {
        struct lr_evict_node *n = s->strategy->victim(sh->mem, true);
        struct lr_entry *e = n ? mem_entry(n) : NULL;
        if (!e)
            break;
        if (atomic_load(&e->block->refs) > 1) {
            s->strategy->hit(sh->mem, n);
            continue;
        }
        if (!e->seg && demote && demote_locked(s, sh, e))
            continue;
        freed = n->bytes;
        lr_count(s, e->seg ? LR_STORE_EVICTED_MEMORY : LR_STORE_LOST);
        lr_leave_mem_locked(s, sh, e);
        lr_drop_if_empty_locked(s, sh, e);
    }
    pthread_mutex_unlock(&sh->mu);
    return freed;
}

static unsigned fullest(const struct lr_store *s, bool disk)
{
    unsigned best = 0;
    uint64_t most = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        const struct lr_shard *sh = &s->shards[i];
        uint64_t n = disk ? atomic_load(&sh->disk_bytes) : atomic_load(&sh->mem_bytes);
        if (n > most) {
            most = n;
            best = i;
        }
    }
    return best;
}

/* From the fullest shard, else from any. */
static uint64_t evict_any(struct lr_store *s, bool demote)
{
    unsigned first = fullest(s, false);
    uint64_t freed = 0;
    for (unsigned i = 0; i < s->n_shards && !freed; i++)
        freed = evict_mem(s, &s->shards[(first + i) % s->n_shards], demote);
    return freed;
}

void *lr_make_room(struct lr_store *s, size_t n)
{
    uint64_t evicted = 0, most = WASTE_TIMES * (uint64_t)n + WASTE_MIN;
    void *p = lr_room_take(s->room, n);
    while (!p && evicted < most) {
        uint64_t freed = evict_any(s, false);
        if (!freed)
            break;
        evicted += freed;
        p = lr_room_take(s->room, n);
    }
    if (s->disk && lr_room_used(s->room) > lr_room_max(s->room) / 8 * 7)
        lr_tier_kick(s);
    return p;
}

void lr_clean_memory(struct lr_store *s)
{
    uint64_t goal = lr_room_max(s->room) / 8 * 7;
    while (lr_room_used(s->room) > goal) {
        if (!lr_tier_has_queue_room(s, 0) || !evict_any(s, true))
            return;
    }
}

/* ---- disk ---- */

static uint64_t evict_disk(struct lr_store *s, struct lr_shard *sh)
{
    uint64_t freed = 0;
    pthread_mutex_lock(&sh->mu);
    struct lr_evict_node *n = s->strategy->victim(sh->disk, true);
    if (n) {
        struct lr_entry *e = disk_entry(n);
        freed = n->bytes;
        lr_count(s, LR_STORE_EVICTED_DISK);
        lr_leave_disk_locked(s, sh, e);
        lr_drop_if_empty_locked(s, sh, e);
    }
    pthread_mutex_unlock(&sh->mu);
    return freed;
}

void lr_shrink_disk(struct lr_store *s, uint64_t max)
{
    for (;;) {
        uint64_t live = 0;
        for (unsigned i = 0; i < s->n_shards; i++)
            live += atomic_load(&s->shards[i].disk_bytes);
        if (live <= max || !evict_disk(s, &s->shards[fullest(s, true)]))
            return;
    }
}

/* ---- quotas ---- */

static void to_the_end(struct lr_owned *l)
{
    struct lr_entry *e = l->oldest;
    l->oldest = e->newer;
    l->oldest->older = NULL;
    e->older = l->newest;
    e->newer = NULL;
    l->newest->newer = e;
    l->newest = e;
}

/* Drops the tenant's oldest entry of this shard that is not pinned and was not read since it was last
 * looked at. */
static bool evict_owned(struct lr_store *s, struct lr_shard *sh, uint16_t tenant)
{
    struct lr_owned *l = &sh->owned[tenant];
    bool done = false;
    pthread_mutex_lock(&sh->mu);
    for (unsigned used = 0, pinned = 0; l->oldest && pinned < PINS && !done;) {
        struct lr_entry *e = l->oldest;
        if (e->pin_ms && !e->newer)
            break;
        if (e->newer && (e->pin_ms || (e->used && used + 1 < TRIES))) {
            used += !e->pin_ms;
            pinned += e->pin_ms != 0;
            e->used = false;
            to_the_end(l);
            continue;
        }
        lr_count(s, LR_STORE_EVICTED_QUOTA);
        lr_drop_locked(s, sh, e);
        done = true;
    }
    pthread_mutex_unlock(&sh->mu);
    return done;
}

void lr_enforce_quota(struct lr_store *s, uint16_t tenant)
{
    struct lr_tenant *t = &s->tenants[tenant];
    unsigned idle = 0;
    for (unsigned i = 0; tenant && idle < s->n_shards; i++) {
        uint64_t max = atomic_load(&t->bytes_max);
        if (!max || atomic_load(&t->bytes) <= max)
            return;
        idle = evict_owned(s, &s->shards[i % s->n_shards], tenant) ? 0 : idle + 1;
    }
}
