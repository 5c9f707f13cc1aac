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
 * Notes go along as long as they say something: GONE, WIPE and the end of a PIN while another segment
 * holds an older value or pin; PIN and EXPIRE while they are their entry's newest, or while that
 * entry may be in another file and not in the index; an EPOCH while it is its space's. Of several
 * for one id the last goes, so a key that is set and deleted all day leaves one note a segment.
 *
 * A dead value may hide an older one of its key in another segment (rule 3 of queue.c): when its
 * record goes a GONE takes its place. So does one for a value that turns out to be damaged.
 *
 * Crash anywhere: the old segment is unlinked only after copies and notes are synced (the barrier
 * fails while one of them is owed); until then both are there, with equal numbers and equal bytes.
 */
#include "store/store_int.h"

#include <stdlib.h>

#define NOTES_MAX LR_MIB(32)  /* of notes that take the place of a segment's records */
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
    uint64_t others;     /* least number of a value or pin in other segments */
    struct lr_buf notes; /* struct last: what has to be written instead */
};

struct last {
    struct lr_digest id;
    uint64_t type, seq, value;
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

static int keep_note(struct emptying *m, enum lr_record_type type, const struct lr_digest *id,
                     uint64_t seq, uint64_t value)
{
    struct last l = {*id, (uint64_t)type, seq, value};
    return lr_buf_add(&m->notes, &l, sizeof l);
}

/* A value leaves the disk. Where an older one may stay a GONE takes its place, unless a newer record
 * of the id, or another copy of this one, is on disk. */
static int bury(struct emptying *m, const struct lr_row *row)
{
    struct lr_store *s = m->disk->store;
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    if (m->others >= row->seq)
        return 0;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &row->id);
    bool covered = e && e->seg && e->seq >= row->seq;
    pthread_mutex_unlock(&sh->mu);
    return covered ? 0 : keep_note(m, LR_RECORD_GONE, &row->id, row->seq, 0);
}

/* A damaged record: nobody is to find it. */
static int forget(struct emptying *m, const struct lr_row *row)
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
    return bury(m, row);
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
    if (!rc && !lr_record_check(image, m->seg->info.salt, true, &r, NULL) && r.seq == row->seq)
        return lr_tier_move(d->store, &r, image, base, m->seg, row->off);
    lr_free(base);
    return rc ? rc : forget(m, row);
}

static bool epoch_matters(struct lr_store *s, const struct lr_row *row)
{
    uint16_t i;
    if (lr_space_by_id(s, &row->id, &i))
        return true;
    pthread_mutex_lock(&s->spaces_mu);
    bool matters = s->spaces[i].seq == row->seq;
    pthread_mutex_unlock(&s->spaces_mu);
    return matters;
}

/* Does a note still say something: what its entry has in memory, or the end of an older record that
 * may be in another file? */
static bool note_matters(struct emptying *m, const struct lr_row *row)
{
    struct lr_store *s = m->disk->store;
    bool older = m->others < row->seq, matters;
    if (row->type == LR_RECORD_WIPE)
        return older;
    if (row->type == LR_RECORD_EPOCH)
        return epoch_matters(s, row);
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &row->id);
    bool newer = e && e->seg && e->seq > row->seq;
    if (row->type == LR_RECORD_GONE)
        matters = older && !newer;
    else if (row->type == LR_RECORD_PIN)
        matters = e && e->pin_seq >= row->seq ? e->pin_seq == row->seq : older;
    else
        matters = e && e->expire_seq >= row->seq ? e->expire_seq == row->seq : older && !newer;
    pthread_mutex_unlock(&sh->mu);
    return matters;
}

static int move_row(void *arg, const struct lr_row *row)
{
    struct emptying *m = arg;
    if (row->type == LR_RECORD_OBJECT)
        return is_live(m, row) ? move_object(m, row) : bury(m, row);
    return note_matters(m, row) ? keep_note(m, row->type, &row->id, row->seq, row->value) : 0;
}

static int by_id_and_age(const void *a, const void *b)
{
    const struct last *x = a, *y = b;
    int c = memcmp(&x->id, &y->id, sizeof x->id);
    if (!c)
        c = (x->type > y->type) - (x->type < y->type);
    return c ? c : (x->seq > y->seq) - (x->seq < y->seq);
}

/* Of each kind for each id the last. */
static int write_notes(struct emptying *m)
{
    struct last *l = (struct last *)(void *)m->notes.p;
    size_t n = m->notes.len / sizeof *l;
    if (n)
        qsort(l, n, sizeof *l, by_id_and_age);
    for (size_t i = 0; i < n; i++)
        if (i + 1 == n || l[i].type != l[i + 1].type || !lr_digest_eq(&l[i].id, &l[i + 1].id))
            LR_TRY(lr_tier_note(m->disk->store, (enum lr_record_type)l[i].type, &l[i].id, l[i].seq,
                                l[i].value, NULL));
    return 0;
}

/* Moves what is live out of g and unlinks it. */
static int empty(struct lr_disk *d, struct lr_segment *g)
{
    struct emptying m = {.disk = d, .seg = g, .others = lr_segment_min_seq(d, g)};
    struct lr_wait *wait;
    lr_buf_init(&m.notes, NOTES_MAX);
    bool doubt = false;
    int rc = lr_segment_walk(d, g, move_row, &m, &doubt);
    if (!rc && doubt)
        rc = LR_ECORRUPT; /* while it is there a restart knows that something is missing */
    if (!rc)
        rc = write_notes(&m);
    lr_buf_free(&m.notes);
    LR_TRY(rc);
    LR_TRY(lr_tier_barrier(d->store, &wait));
    LR_TRY(lr_tier_wait(d->store, wait, lr_clock_mono_ns() + PATIENCE));
    LR_FAIL_IF(atomic_load(&g->live), LR_EBUSY);
    return lr_segment_retire(d, g);
}

static bool pressed(struct lr_disk *d)
{
    const struct lr_store_opts *o = &d->store->opts;
    return atomic_load(&d->bytes) + 2 * o->segment_bytes > o->disk_max;
}

void lr_tier_keep(struct lr_disk *d)
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
