/* SPDX-License-Identifier: Apache-2.0
 * store/compact.c - the keeper's round: what is over goes, and room on disk is made before it is
 * needed.
 *
 * Evicting from disk only makes records dead; files shrink by emptying a segment: its live records
 * are read, checked and queued to the writer with their old sequence numbers; after a sync nothing
 * points into the segment and it is unlinked. The least live segment is taken first. Live bytes are
 * held at LIVE_MAX of the budget, so there is always one worth emptying: with a share u live, a
 * byte freed costs u / (1 - u) bytes moved, 4 at most.
 *
 * A segment with little in it (BORED) is emptied even without need, or a store whose entries expire
 * would sit on dead files for ever.
 *
 * Notes go along as long as they mean something: a GONE or the end of a PIN while any other segment
 * holds a record older than it, PIN and EXPIRE while they are their entry's newest,
 * an EPOCH while it is its space's.
 *
 * And a value that expired or was evicted may hide an older one of its key in another segment: when
 * its record goes a GONE takes its place (found by the twin of tests/unit/store: seed 3 served the
 * value before the last one after a restart).
 *
 * Crash anywhere: the old segment is unlinked only after the copies are synced; until then both are
 * there, with equal numbers and equal bytes.
 */
#include "store/store_int.h"

#define SWEEP    64u          /* buckets a shard a round */
#define LIVE_MAX 0.80         /* of disk_max */
#define BORED    0.25         /* live share below which a segment is emptied without need */
#define NEEDED   0.95         /* with need */
#define REST     20u          /* rounds that a segment is left alone when emptying it failed */
#define ROUNDS   4u           /* segments a round */
#define PATIENCE (30 * LR_SEC) /* for the sync */

struct emptying {
    struct lr_disk *disk;
    struct lr_segment *seg;
    uint64_t others; /* least sequence number in other segments */
};

static bool is_live(struct emptying *m, const struct lr_row *row)
{
    struct lr_store *s = m->disk->store;
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &row->id);
    bool live = e && e->seg == m->seg && e->off == row->off && e->seq == row->seq;
    pthread_mutex_unlock(&sh->mu);
    return live;
}

/* A damaged record: nobody is to find it. */
static void forget(struct emptying *m, const struct lr_row *row)
{
    struct lr_store *s = m->disk->store;
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &row->id);
    if (e && e->seg == m->seg && e->off == row->off) {
        lr_leave_disk_locked(s, sh, e);
        lr_drop_if_empty_locked(s, sh, e);
    }
    pthread_mutex_unlock(&sh->mu);
    lr_count(s, LR_STORE_RECOVER_SKIPPED);
}

static int move_object(struct emptying *m, const struct lr_row *row)
{
    struct lr_disk *d = m->disk;
    uint64_t from = row->off / LR_VFS_ALIGN * LR_VFS_ALIGN;
    size_t n = (size_t)(lr_round_up(row->off + row->total, LR_VFS_ALIGN) - from);
    void *base;
    uint8_t *p = lr_pages(n, &base);
    LR_FAIL_IF(!p, LR_ENOMEM);
    uint8_t *image = p + (row->off - from);
    int rc = d->vfs->pread(m->seg->file, p, n, from);
    struct lr_record r = {.total = row->total};
    if (!rc && (lr_record_check(image, m->seg->info.salt, true, &r, NULL) || r.seq != row->seq)) {
        forget(m, row);
        lr_free(base);
        return 0;
    }
    if (rc) {
        lr_free(base);
        return rc;
    }
    return lr_disk_move(d->store, &r, image, base, m->seg, row->off);
}

static bool note_matters(struct emptying *m, const struct lr_row *row)
{
    struct lr_store *s = m->disk->store;
    bool matters = false;
    if (row->type == LR_RECORD_GONE || (row->type == LR_RECORD_PIN && !row->value))
        return m->others < row->seq; /* there may be something for it to end */
    if (row->type == LR_RECORD_EPOCH) {
        uint16_t i;
        if (lr_space_by_id(s, &row->id, &i))
            return true;
        pthread_mutex_lock(&s->spaces_mu);
        matters = s->spaces[i].seq == row->seq;
        pthread_mutex_unlock(&s->spaces_mu);
        return matters;
    }
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &row->id);
    if (e)
        matters = (row->type == LR_RECORD_PIN ? e->pin_seq : e->expire_seq) == row->seq;
    pthread_mutex_unlock(&sh->mu);
    return matters;
}

/* A dead value of an opaque key that leaves the disk: does it hide an older one that stays there?
 * Not if a newer one is known, for that hides both. */
static bool hides(struct emptying *m, const struct lr_row *row)
{
    struct lr_store *s = m->disk->store;
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    if (row->o.kind != LR_OBJECT_OPAQUE || m->others >= row->seq)
        return false;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &row->id);
    bool hidden = e && (e->seq > row->seq || (e->seq == row->seq && e->seg));
    pthread_mutex_unlock(&sh->mu);
    return !hidden;
}

static int move_row(void *arg, const struct lr_row *row)
{
    struct emptying *m = arg;
    if (row->type == LR_RECORD_OBJECT && is_live(m, row))
        return move_object(m, row);
    if (row->type == LR_RECORD_OBJECT)
        return hides(m, row) ? lr_disk_note(m->disk->store, LR_RECORD_GONE, &row->id, row->seq, 0,
                                            NULL)
                             : 0;
    if (!note_matters(m, row))
        return 0;
    return lr_disk_note(m->disk->store, row->type, &row->id, row->seq, row->value, NULL);
}

/* Moves what is live out of g and unlinks it. */
static int empty(struct lr_disk *d, struct lr_segment *g)
{
    struct emptying m = {d, g, lr_segment_min_seq(d, g)};
    struct lr_wait *wait;
    LR_TRY(lr_segment_walk(d, g, move_row, &m));
    LR_TRY(lr_disk_barrier(d->store, &wait));
    LR_TRY(lr_disk_wait(d->store, wait, lr_clock_mono_ns() + PATIENCE));
    LR_FAIL_IF(atomic_load(&g->live), LR_EBUSY);
    return lr_segment_retire(d, g);
}

static bool pressed(struct lr_disk *d)
{
    const struct lr_store_opts *o = &d->store->opts;
    return atomic_load(&d->bytes) + 2 * o->segment_bytes > o->disk_max;
}

void lr_keep(struct lr_disk *d)
{
    struct lr_store *s = d->store;
    lr_index_sweep(s, SWEEP);
    lr_clean_memory(s);
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool need = pressed(d);
        if (need)
            lr_shrink_disk(s, (uint64_t)((double)s->opts.disk_max * LIVE_MAX));
        struct lr_segment *g = lr_segment_emptiest(d, need ? NEEDED : BORED);
        if (!g)
            return;
        if (empty(d, g)) {
            pthread_mutex_lock(&d->mu);
            g->rest = REST;
            pthread_mutex_unlock(&d->mu);
        }
        lr_segment_unref(d, g);
    }
}
