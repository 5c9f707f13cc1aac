/* SPDX-License-Identifier: Apache-2.0
 * store/load.c - from disk, or from the remote tier, to memory, once for all who wait.
 *
 *   fetch, fetch --> load --> I/O thread: room, read, check --> entry's block --> done, done
 *
 * The first who wants an entry that only the disk has starts a load; the others join it. The load
 * runs on a thread of the disk's pool and owns everything it needs: a reference to the segment,
 * place and lengths. It ends by taking the shard's lock once: there the block becomes the entry's
 * (if the entry is still that put's), and the list of those who wait is taken over. Each then gets
 * a view of its own, outside the lock. If the entry was replaced meanwhile they get what is there
 * now; if it was dropped, a miss.
 *
 * Room is made, bytes are read and sums are computed on the I/O thread: who waits can stop waiting
 * at its deadline (lr_store_fetch_cancel), and the load still lands for the next.
 *
 * From the remote tier the same: the entry is made for the load (it is in no tier, so nobody sees it),
 * an errand takes the place of the job, and what comes back was checked there (remote.c). It becomes a
 * put of its own number; if the entry was deleted, put or given another load meanwhile, that stands.
 *
 * A small record does not start at a page: its pages are read into scratch memory and it is copied.
 */
#include "store/store_int.h"

#include <assert.h>

struct lr_load {
    struct lr_job job;
    struct lr_errand errand;
    struct lr_store *store;
    struct lr_digest id;
    uint64_t seq, off, payload;
    uint32_t head;
    struct lr_segment *seg; /* a reference; NULL: from the remote tier */
    struct lr_fetch *waiting;
};

static int read_small(const struct lr_load *l, struct lr_block *b)
{
    const struct lr_vfs *vfs = l->store->disk->vfs;
    uint64_t from = l->off / LR_VFS_ALIGN * LR_VFS_ALIGN;
    size_t n = (size_t)(lr_round_up(l->off + b->total, LR_VFS_ALIGN) - from);
    void *base;
    uint8_t *p = lr_pages(n, &base);
    LR_FAIL_IF(!p, LR_ENOMEM);
    int rc = vfs->pread(l->seg->file, p, n, from);
    if (!rc)
        memcpy(b->image, p + (l->off - from), b->total);
    lr_free(base);
    return rc;
}

static int read_block(const struct lr_load *l, struct lr_block **out)
{
    struct lr_block *b;
    LR_TRY(lr_block_new(l->store, l->head, l->payload, &b));
    int rc = l->payload >= LR_LARGE
                 ? l->store->disk->vfs->pread(l->seg->file, b->image, b->total, l->off)
                 : read_small(l, b);
    struct lr_record r = {.total = b->total};
    if (!rc && lr_record_check(b->image, l->seg->info.salt, true, &r, NULL))
        rc = LR_ECORRUPT;
    if (!rc && (!lr_digest_eq(&r.id, &l->id) || r.seq != l->seq || r.head != l->head))
        rc = LR_ECORRUPT;
    if (rc) {
        lr_block_unref(b);
        return rc;
    }
    *out = b;
    return 0;
}

/* b, which came from the remote tier, becomes e's: a put like any other. NULL, or b when it cannot. */
static struct lr_block *publish_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                                       struct lr_block *b)
{
    struct lr_object o;
    if (lr_object_decode(b->image + LR_RECORD_HEAD, b->head, &o, NULL) ||
        lr_entry_describe_locked(s, sh, e, &o, (uint32_t)b->head))
        return b;
    e->seq = atomic_fetch_add(&s->seq, 1) + 1;
    e->used = e->queued = e->no_disk = false;
    lr_enter_mem_locked(s, sh, e, b);
    return NULL;
}

/* Publishes b (NULL: rc says why not). Returns what those who wait get: a block with a reference
 * for the caller, or NULL. Takes them over in *waiting. */
static struct lr_block *land(struct lr_load *l, int rc, struct lr_block *b,
                             struct lr_fetch **waiting)
{
    struct lr_store *s = l->store;
    struct lr_shard *sh = lr_shard_of(s, &l->id);
    struct lr_block *got = NULL;
    pthread_mutex_lock(&sh->mu);
    *waiting = l->waiting;
    struct lr_entry *e = lr_find_locked(s, sh, &l->id);
    bool mine = e && e->load == l, same = l->seg && e && e->seq == l->seq;
    if (mine)
        e->load = NULL;
    if (mine && b && !l->seg && !e->block && !e->seg)
        b = publish_locked(s, sh, e, b);
    if (same && b && !e->block) {
        lr_enter_mem_locked(s, sh, e, b);
        b = NULL;
    }
    if (same && rc == LR_ECORRUPT && e->seg == l->seg && e->off == l->off)
        lr_leave_disk_locked(s, sh, e); /* compaction has not moved it to a sound place */
    enum lr_store_count unused;
    if (*waiting && e && e->block && lr_visible_locked(s, sh, &l->id, &unused)) {
        got = e->block;
        lr_block_ref(got);
        lr_touch_locked(s, sh, e);
    }
    e = lr_find_locked(s, sh, &l->id); /* it may have been dropped just now */
    if (e)
        lr_drop_if_empty_locked(s, sh, e);
    for (struct lr_fetch *f = *waiting; f; f = f->next)
        f->load = NULL;
    pthread_mutex_unlock(&sh->mu);
    lr_block_unref(b);
    return got;
}

/* What a miss is counted as. */
static enum lr_store_count why(const struct lr_load *l, int rc)
{
    switch (rc) {
    case LR_ECORRUPT:
        return LR_STORE_MISS_CORRUPT;
    case LR_EOVER:
    case LR_ENOMEM:
        return LR_STORE_MISS_ROOM;
    case 0:
    case LR_ENOENT:
        return LR_STORE_MISS_ABSENT;
    default:
        return l->seg ? LR_STORE_MISS_IO : LR_STORE_MISS_REMOTE;
    }
}

/* b (a reference) or NULL and rc: the load is over. */
static void end(struct lr_load *l, int rc, struct lr_block *b)
{
    struct lr_store *s = l->store;
    struct lr_fetch *f, *next;
    struct lr_block *got = land(l, rc, b, &f);
    if (!f && rc)
        lr_count(s, why(l, rc)); /* a prefetch */
    for (; f; f = next) {
        struct lr_view *v = NULL;
        int one = LR_ENOENT;
        next = f->next;
        if (got) {
            lr_block_ref(got);
            one = lr_view_make(got, &l->id, f->want, false, &v); /* just checked, all of it */
            if (!one)
                lr_count(s, l->seg ? LR_STORE_HIT_DISK : LR_STORE_HIT_REMOTE);
        } else {
            lr_count(s, why(l, rc));
        }
        f->done(f, one == LR_ECORRUPT ? LR_ENOENT : one, v);
    }
    lr_block_unref(got);
    if (l->seg)
        lr_segment_unref(s->disk, l->seg);
    lr_free(l);
}

static void run(struct lr_job *job)
{
    struct lr_load *l = LR_CONTAINER(job, struct lr_load, job);
    struct lr_block *b = NULL;
    int rc = read_block(l, &b);
    end(l, rc, b);
}

static void fetched(struct lr_errand *e, int rc, struct lr_block *b)
{
    end(LR_CONTAINER(e, struct lr_load, errand), rc, b);
}

static void join(struct lr_load *l, struct lr_fetch *f)
{
    if (!f)
        return;
    f->load = l;
    f->next = l->waiting;
    l->waiting = f;
}

int lr_load_remote_locked(struct lr_store *s, struct lr_shard *sh, const struct lr_digest *id,
                          struct lr_fetch *f)
{
    struct lr_entry *e = lr_entry_locked(s, sh, id);
    LR_FAIL_IF(!e, LR_ENOMEM);
    if (!e->load) {
        struct lr_load *l = lr_new(struct lr_load);
        int rc = l ? 0 : LR_ENOMEM;
        if (l) {
            *l = (struct lr_load){.errand = {.kind = LR_ERRAND_GET, .id = *id, .done = fetched},
                                  .store = s,
                                  .id = *id};
            rc = lr_remote_ask(s, &l->errand);
        }
        if (rc) {
            lr_free(l);
            lr_drop_if_empty_locked(s, sh, e);
            return rc;
        }
        e->load = l; /* it cannot land before the lock is free */
    }
    join(e->load, f);
    return 0;
}

int lr_load_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e, struct lr_fetch *f)
{
    (void)sh;
    assert(e->seg && !e->block);
    struct lr_load *l = e->load, *before = l;
    if (!l || l->seq != e->seq) { /* that of an older put lands for nobody */
        l = lr_new(struct lr_load);
        LR_FAIL_IF(!l, LR_ENOMEM);
        *l = (struct lr_load){.job.run = run,
                              .store = s,
                              .id = e->id,
                              .seq = e->seq,
                              .off = e->off,
                              .payload = e->payload,
                              .head = e->head,
                              .seg = e->seg};
        atomic_fetch_add(&e->seg->refs, 1);
        e->load = l; /* it cannot land before the lock is free */
        int rc = lr_pool_submit(s->disk->pool, &l->job);
        if (rc) {
            e->load = before;
            atomic_fetch_sub(&e->seg->refs, 1); /* the list still has its own */
            lr_free(l);
            return rc;
        }
    }
    join(l, f);
    return 0;
}

bool lr_store_fetch_cancel(struct lr_store *s, struct lr_fetch *f)
{
    struct lr_shard *sh = lr_shard_of(s, &f->id);
    bool found = false;
    pthread_mutex_lock(&sh->mu);
    struct lr_fetch **at = f->load ? &f->load->waiting : NULL;
    for (; at && *at && !found; at = found ? at : &(*at)->next)
        if (*at == f) {
            *at = f->next;
            found = true;
        }
    pthread_mutex_unlock(&sh->mu);
    return found;
}
