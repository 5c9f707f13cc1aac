/* SPDX-License-Identifier: Apache-2.0
 * store/writer.c - the one thread that appends to segments, and the bounded queue before it.
 *
 *   queue: [put][note][put][move] --> stage: small records packed, 1 MiB --> pwrite, pages
 *                                 \-> a large record: pwrite of its image as it lies in memory
 *   then: entry learns its place --> sync (at once if somebody waits, else within SYNC_AFTER)
 *         --> those who wait learn the outcome
 *
 * Idea. One appender makes order simple: records of one id lie in the file in the order of their
 * sequence numbers, a sync covers everything before it, and one sync serves all who wait. The disk
 * is kept busy by the size of writes, not their number.
 *
 * Never late. The queue is bounded in bytes; a put that finds it full is dropped at once, one whose
 * turn comes more than late_ms after it was queued is dropped then: the disk is slower than the
 * puts, and old bytes would only make newer ones late. Puts that somebody waits for, demotions,
 * notes and moves are written however late.
 *
 * Trouble. A write or sync that fails ends the segment without a footer (what is in it stays
 * readable, and is found by scan at the next start); the disk counts as sick, everything queued is
 * dropped for SICK_MIN, doubling to SICK_MAX while it stays so, and then the next record tries a
 * new segment. A full budget drops puts and wakes the keeper; moves and notes may exceed it by a
 * segment, or compaction could never begin.
 *
 * What was dropped of an opaque key leaves a GONE note, so that no restart brings an older value
 * back (lr_disk_forget_locked). The note itself can fail to be written: docs/formats/segment.md says
 * what that means.
 *
 * Invariants: staged bytes follow the active segment's size; an entry learns its place only after
 * the write returned; a segment's footer lists exactly the records whose write returned.
 */
#include "store/store_int.h"

#include <assert.h>

#define STAGE      LR_MIB(1)
#define SYNC_AFTER (40 * LR_MS)
#define SICK_MIN   (100 * LR_MS)
#define SICK_MAX   (5 * LR_SEC)
#define NOTES_MAX  65536u      /* queued */
#define ROWS_MAX   LR_MIB(16)  /* of a footer: then the segment is full */

#define ROWS_SPARE LR_MIB(2)   /* rows of one stage full of notes */

#define BARRIER ((enum lr_record_type)0)

struct lr_wait { /* guarded by disk.mu */
    unsigned refs;
    bool done;
    int rc;
};

struct lr_item {
    struct lr_item *next;
    struct lr_record r;      /* type BARRIER: nothing to write */
    struct lr_block *block;  /* a put: a reference */
    uint8_t *image;          /* a move: in base, owned */
    void *base;
    struct lr_segment *from; /* a move: a reference, and where it lies there */
    uint64_t from_off;
    struct lr_wait *wait; /* or NULL */
    uint64_t queued_ns;
    bool forced; /* never late */
    uint64_t off; /* once staged */
};

struct writer {
    struct lr_disk *disk;
    struct lr_segment *active; /* or NULL */
    struct lr_buf rows;
    void *stage_base;
    uint8_t *stage;
    size_t staged;                          /* bytes */
    struct lr_item *items, **items_tail;    /* staged, not written */
    struct lr_item *unsynced, **unsynced_tail; /* written, somebody waits for the sync */
    uint64_t dirty_ns;                      /* first write since the last sync; 0: none */
    uint64_t sick_until_ns, sick_for_ns;
};

/* ---- the queue ---- */

static size_t weight(const struct lr_item *it)
{
    return it->block || it->image ? (size_t)it->r.total : 0;
}

static struct lr_wait *new_wait(void)
{
    struct lr_wait *w = lr_new(struct lr_wait);
    if (w)
        w->refs = 2; /* who waits, and the item */
    return w;
}

static void unref_wait_locked(struct lr_wait *w)
{
    if (w && --w->refs == 0)
        lr_free(w);
}

static void push_locked(struct lr_disk *d, struct lr_item *it)
{
    it->next = NULL;
    it->queued_ns = lr_clock_mono_ns();
    *d->tail = it;
    d->tail = &it->next;
    d->queue_bytes += weight(it);
    d->queue_notes += weight(it) == 0;
    pthread_cond_signal(&d->work);
}

/* it and its wait handle, if one is wanted. */
static struct lr_item *new_item(struct lr_wait **wait)
{
    struct lr_item *it = lr_new(struct lr_item);
    if (it && wait) {
        it->wait = new_wait();
        if (!it->wait) {
            lr_free(it);
            return NULL;
        }
    }
    return it;
}

static bool has_room_locked(const struct lr_disk *d, size_t n, size_t max)
{
    return d->queue_bytes == 0 || d->queue_bytes + n <= max;
}

bool lr_disk_has_queue_room(struct lr_store *s, size_t bytes)
{
    struct lr_disk *d = s->disk;
    pthread_mutex_lock(&d->mu);
    bool room = has_room_locked(d, bytes, s->opts.queue_bytes / 2);
    pthread_mutex_unlock(&d->mu);
    return room;
}

bool lr_disk_put_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                        struct lr_wait **wait)
{
    (void)sh;
    struct lr_disk *d = s->disk;
    struct lr_item *it = new_item(wait);
    struct lr_wait *w = it ? it->wait : NULL; /* once queued, the item is the writer's */
    enum lr_store_count why = it ? LR_STORE_DISK_DROP_FULL : LR_STORE_DISK_DROP_ERROR;
    bool in = false;
    if (it) {
        lr_block_ref(e->block);
        it->block = e->block;
        it->r = (struct lr_record){.type = LR_RECORD_OBJECT,
                                   .total = e->block->total,
                                   .seq = e->seq,
                                   .head = e->head,
                                   .payload = e->payload,
                                   .id = e->id};
        it->forced = wait || s->opts.write_back;
        pthread_mutex_lock(&d->mu);
        in = !d->closing && has_room_locked(d, e->block->total, s->opts.queue_bytes);
        if (in)
            push_locked(d, it);
        pthread_mutex_unlock(&d->mu);
    }
    e->queued = in;
    if (in) {
        if (wait)
            *wait = w;
        return true;
    }
    lr_count(s, why);
    if (it) {
        lr_block_unref(it->block);
        lr_free(it->wait); /* nobody else has it */
        lr_free(it);
    }
    lr_disk_forget_locked(s, e);
    return false;
}

int lr_disk_note(struct lr_store *s, enum lr_record_type type, const struct lr_digest *id,
                 uint64_t seq, uint64_t value, struct lr_wait **wait)
{
    struct lr_disk *d = s->disk;
    struct lr_item *it = new_item(wait);
    LR_FAIL_IF(!it, LR_ENOMEM);
    struct lr_wait *w = it->wait; /* once queued, the item is the writer's */
    it->r = (struct lr_record){
        .type = type, .total = LR_RECORD_NOTE, .seq = seq, .id = *id, .value = value};
    it->forced = true;
    pthread_mutex_lock(&d->mu);
    bool in = d->queue_notes < NOTES_MAX;
    if (in)
        push_locked(d, it);
    pthread_mutex_unlock(&d->mu);
    if (!in) {
        lr_count(s, LR_STORE_DISK_DROP_FULL);
        lr_free(it->wait);
        lr_free(it);
        return LR_EBUSY;
    }
    if (wait)
        *wait = w;
    return 0;
}

void lr_disk_forget_locked(struct lr_store *s, const struct lr_entry *e)
{
    if (s->disk && e->kind == LR_OBJECT_OPAQUE)
        /* A failure is counted there; an older value may then come back after a restart. */
        (void)lr_disk_note(s, LR_RECORD_GONE, &e->id, e->seq, 0, NULL);
}

int lr_disk_move(struct lr_store *s, const struct lr_record *r, uint8_t *image, void *base,
                 struct lr_segment *from, uint64_t off)
{
    struct lr_disk *d = s->disk;
    struct lr_item *it = new_item(NULL);
    if (!it) {
        lr_free(base);
        return LR_ENOMEM;
    }
    it->r = *r;
    it->image = image;
    it->base = base;
    it->from = from;
    it->from_off = off;
    it->forced = true;
    atomic_fetch_add(&from->refs, 1);
    pthread_mutex_lock(&d->mu);
    while (!d->closing && !has_room_locked(d, (size_t)r->total, s->opts.queue_bytes))
        pthread_cond_wait(&d->done, &d->mu);
    bool in = !d->closing;
    if (in)
        push_locked(d, it);
    pthread_mutex_unlock(&d->mu);
    if (!in) {
        lr_segment_unref(d, from);
        lr_free(base);
        lr_free(it);
    }
    return in ? 0 : LR_ECLOSED;
}

int lr_disk_barrier(struct lr_store *s, struct lr_wait **out)
{
    struct lr_wait *w;
    LR_TRY(lr_disk_note(s, BARRIER, &(struct lr_digest){{0}}, 0, 0, &w));
    *out = w;
    return 0;
}

int lr_disk_wait(struct lr_store *s, struct lr_wait *w, uint64_t deadline)
{
    struct lr_disk *d = s->disk;
    struct timespec t = {(time_t)(deadline / LR_SEC), (long)(deadline % LR_SEC)};
    int err = 0;
    pthread_mutex_lock(&d->mu);
    while (!w->done && !err)
        err = deadline == LR_FOREVER ? pthread_cond_wait(&d->done, &d->mu)
                                     : pthread_cond_timedwait(&d->done, &d->mu, &t);
    int rc = w->done ? w->rc : LR_ETIMEOUT;
    unref_wait_locked(w);
    pthread_mutex_unlock(&d->mu);
    return rc;
}

/* ---- ends of items ---- */

/* Its memory, its place in the queue's account, and the news for who waits. */
static void end_item(struct lr_disk *d, struct lr_item *it, int rc)
{
    pthread_mutex_lock(&d->mu);
    if (it->wait) {
        it->wait->done = true;
        it->wait->rc = rc;
        unref_wait_locked(it->wait);
    }
    d->queue_bytes -= weight(it);
    d->queue_notes -= weight(it) == 0;
    pthread_cond_broadcast(&d->done);
    pthread_mutex_unlock(&d->mu);
    lr_block_unref(it->block);
    lr_segment_unref(d, it->from);
    lr_free(it->base);
    lr_free(it);
}

static void drop_item(struct lr_disk *d, struct lr_item *it, enum lr_store_count why, int rc)
{
    struct lr_store *s = d->store;
    if (it->r.type != BARRIER)
        lr_count(s, why);
    if (it->block) {
        struct lr_shard *sh = lr_shard_of(s, &it->r.id);
        pthread_mutex_lock(&sh->mu);
        struct lr_entry *e = lr_find_locked(s, sh, &it->r.id);
        if (e && e->seq == it->r.seq) {
            e->queued = false;
            lr_disk_forget_locked(s, e);
            if (e->leaving) {
                lr_count(s, LR_STORE_LOST);
                lr_leave_mem_locked(s, sh, e);
                lr_drop_if_empty_locked(s, sh, e);
            }
        }
        pthread_mutex_unlock(&sh->mu);
    }
    end_item(d, it, rc);
}

/* The index learns where the record lies. */
static void tell_index(struct writer *w, const struct lr_item *it)
{
    struct lr_store *s = w->disk->store;
    struct lr_shard *sh = lr_shard_of(s, &it->r.id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &it->r.id);
    bool same = e && e->seq == it->r.seq;
    if (same && it->from) {
        if (e->seg == it->from && e->off == it->from_off) {
            lr_leave_disk_locked(s, sh, e);
            lr_enter_disk_locked(s, sh, e, w->active, it->off);
            lr_count(s, LR_STORE_COMPACTED);
        }
    } else if (same) {
        e->queued = false;
        if (!e->seg)
            lr_enter_disk_locked(s, sh, e, w->active, it->off);
        if (e->leaving) {
            lr_count(s, LR_STORE_EVICTED_MEMORY);
            lr_leave_mem_locked(s, sh, e);
        }
    }
    pthread_mutex_unlock(&sh->mu);
}

/* Its write returned: footer row, index, and the sync if somebody waits. */
static void landed(struct writer *w, struct lr_item *it)
{
    struct lr_row row = {.type = it->r.type,
                         .off = it->off,
                         .total = it->r.total,
                         .seq = it->r.seq,
                         .id = it->r.id,
                         .value = it->r.value,
                         .head = it->r.head};
    const uint8_t *image = it->block ? it->block->image : it->image;
    struct lr_disk *d = w->disk;
    if (image && lr_object_decode(image + LR_RECORD_HEAD, it->r.head, &row.o, NULL)) {
        /* Memory went bad between put and here: what was written does not check either. */
        drop_item(d, it, LR_STORE_DISK_DROP_ERROR, LR_EIO);
        return;
    }
    if (lr_row_add(&w->rows, &row)) {
        lr_count(d->store, LR_STORE_DISK_ERRORS); /* rows.rc: no footer, found by scan */
    }
    lr_count(d->store, LR_STORE_DISK_WRITES);
    pthread_mutex_lock(&d->mu);
    if (it->r.seq < w->active->min_seq)
        w->active->min_seq = it->r.seq;
    pthread_mutex_unlock(&d->mu);
    if (image)
        tell_index(w, it);
    if (!it->wait) {
        end_item(d, it, 0);
        return;
    }
    it->next = NULL;
    *w->unsynced_tail = it;
    w->unsynced_tail = &it->next;
}

/* ---- segments ---- */

static void told_synced(struct writer *w, int rc)
{
    struct lr_item *it = w->unsynced, *next;
    w->unsynced = NULL;
    w->unsynced_tail = &w->unsynced;
    for (; it; it = next) {
        next = it->next;
        end_item(w->disk, it, rc);
    }
}

static void seal(struct writer *w, bool footed)
{
    struct lr_disk *d = w->disk;
    pthread_mutex_lock(&d->mu);
    w->active->sealed = true;
    w->active->footed = footed;
    pthread_mutex_unlock(&d->mu);
    w->active = NULL;
    w->dirty_ns = 0;
    lr_buf_reset(&w->rows);
}

/* The disk failed: this segment ends here, and a pause. */
static void fail(struct writer *w, int rc)
{
    struct lr_disk *d = w->disk;
    lr_count(d->store, LR_STORE_DISK_ERRORS);
    LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "store", "event=disk_failed rc=%s", lr_errname(rc));
    w->sick_for_ns = w->sick_for_ns ? w->sick_for_ns * 2 : SICK_MIN;
    if (w->sick_for_ns > SICK_MAX)
        w->sick_for_ns = SICK_MAX;
    w->sick_until_ns = lr_clock_mono_ns() + w->sick_for_ns;
    atomic_store(&d->sick, true);
    told_synced(w, rc);
    if (w->active)
        seal(w, false);
}

static void sync_active(struct writer *w)
{
    if (!w->active)
        return;
    int rc = w->disk->vfs->sync(w->active->file);
    if (rc) {
        fail(w, rc);
        return;
    }
    lr_count(w->disk->store, LR_STORE_DISK_SYNCS);
    w->dirty_ns = 0;
    w->sick_for_ns = 0;
    atomic_store(&w->disk->sick, false);
    told_synced(w, 0);
}

/* Records are synced before the footer says that they are there. */
static void close_active(struct writer *w)
{
    sync_active(w);
    if (!w->active)
        return;
    uint64_t before = w->active->size;
    int rc = w->rows.rc ? w->rows.rc
                        : lr_segment_foot(w->disk, w->active, lr_buf_str(&w->rows));
    atomic_fetch_add(&w->disk->bytes, w->active->size - before);
    if (rc)
        lr_count(w->disk->store, LR_STORE_DISK_ERRORS);
    seal(w, rc == 0);
}

static int start_segment(struct writer *w)
{
    struct lr_disk *d = w->disk;
    struct lr_segment *g;
    LR_TRY(lr_segment_open(d, d->last + 1, true, &g));
    d->last++;
    lr_random_bytes(&g->info.salt, sizeof g->info.salt);
    lr_segment_head(&g->info, w->stage); /* nothing is staged when a segment starts */
    int rc = d->vfs->pwrite(g->file, w->stage, LR_SEGMENT_HEAD, 0);
    if (!rc)
        rc = d->vfs->sync_dir(d->vfs, d->dir);
    if (rc) {
        (void)d->vfs->unlink(d->vfs, g->path); /* else an empty segment is found at the next start */
        lr_segment_unref(d, g);
        return rc;
    }
    g->size = LR_SEGMENT_HEAD;
    atomic_fetch_add(&d->bytes, g->size);
    lr_segment_list(d, g);
    w->active = g;
    lr_buf_reset(&w->rows);
    return 0;
}

/* ---- writing ---- */

static int write_out(struct writer *w, const uint8_t *p, size_t n)
{
    LR_TRY(w->disk->vfs->pwrite(w->active->file, p, n, w->active->size));
    pthread_mutex_lock(&w->disk->mu);
    w->active->size += n;
    pthread_mutex_unlock(&w->disk->mu);
    atomic_fetch_add(&w->disk->bytes, n);
    if (!w->dirty_ns)
        w->dirty_ns = lr_clock_mono_ns();
    return 0;
}

static void flush(struct writer *w)
{
    struct lr_item *it = w->items, *next;
    int rc = 0;
    if (w->staged) {
        size_t n = (size_t)lr_round_up(w->staged, LR_VFS_ALIGN);
        if (n > w->staged)
            lr_record_pad(n - w->staged, w->active->info.salt, w->stage + w->staged);
        rc = write_out(w, w->stage, n);
    }
    w->staged = 0;
    w->items = NULL;
    w->items_tail = &w->items;
    if (rc)
        fail(w, rc);
    for (; it; it = next) {
        next = it->next;
        if (rc)
            drop_item(w->disk, it, LR_STORE_DISK_DROP_ERROR, rc);
        else if (it->r.type == BARRIER && !w->active)
            end_item(w->disk, it, 0); /* nothing was ever written that is not synced */
        else if (it->r.type == BARRIER) {
            it->next = NULL;
            *w->unsynced_tail = it;
            w->unsynced_tail = &it->next;
        } else
            landed(w, it);
    }
}

/* An active segment with room for n more bytes. */
static int make_segment(struct writer *w, size_t n, bool within_budget)
{
    struct lr_disk *d = w->disk;
    const struct lr_store_opts *o = &d->store->opts;
    uint64_t max = o->disk_max + (within_budget ? 0 : o->segment_bytes);
    if (atomic_load(&d->bytes) + w->staged + n + w->rows.len > max) {
        lr_disk_kick(d->store);
        return LR_ENOSPC;
    }
    if (w->active && (w->rows.len > ROWS_MAX - ROWS_SPARE || w->rows.rc ||
                      w->active->size + w->staged + n > o->segment_bytes)) {
        flush(w);
        if (w->active)
            close_active(w);
    }
    if (w->active)
        return 0;
    int rc = start_segment(w);
    if (rc)
        fail(w, rc);
    return rc;
}

static void stage_item(struct writer *w, struct lr_item *it)
{
    size_t n = (size_t)it->r.total;
    uint8_t *to = w->stage + w->staged;
    const uint8_t *image = it->block ? it->block->image : it->image;
    if (image)
        memcpy(to + LR_RECORD_HEAD, image + LR_RECORD_HEAD, n - LR_RECORD_HEAD - LR_RECORD_MARK);
    lr_record_write(&it->r, w->active->info.salt, to);
    it->off = w->active->size + w->staged;
    w->staged += n;
    it->next = NULL;
    *w->items_tail = it;
    w->items_tail = &it->next;
}

/* The image as it lies, its head and mark put in: nobody else looks at these. */
static void write_large(struct writer *w, struct lr_item *it)
{
    uint8_t *image = it->block ? it->block->image : it->image;
    lr_record_write(&it->r, w->active->info.salt, image);
    it->off = w->active->size;
    int rc = write_out(w, image, (size_t)it->r.total);
    if (rc) {
        fail(w, rc);
        drop_item(w->disk, it, LR_STORE_DISK_DROP_ERROR, rc);
        return;
    }
    landed(w, it);
}

static void handle(struct writer *w, struct lr_item *it)
{
    struct lr_disk *d = w->disk;
    uint64_t now = lr_clock_mono_ns();
    if (it->r.type == BARRIER) {
        it->next = NULL;
        *w->items_tail = it;
        w->items_tail = &it->next;
        return;
    }
    if (now < w->sick_until_ns) {
        drop_item(d, it, LR_STORE_DISK_DROP_ERROR, LR_EIO);
        return;
    }
    if (!it->forced && now - it->queued_ns > d->store->opts.late_ms * LR_MS) {
        drop_item(d, it, LR_STORE_DISK_DROP_LATE, LR_ETIMEOUT);
        return;
    }
    bool large = it->r.payload >= LR_LARGE;
    if (large || w->staged + it->r.total > STAGE)
        flush(w);
    int rc = make_segment(w, (size_t)it->r.total, it->block);
    if (rc)
        drop_item(d, it, LR_STORE_DISK_DROP_ERROR, rc);
    else if (large)
        write_large(w, it);
    else
        stage_item(w, it);
}

/* The next item; NULL: time to flush or sync, or *end. */
static struct lr_item *next_item(struct writer *w, bool *end)
{
    struct lr_disk *d = w->disk;
    bool idle = !w->items;
    pthread_mutex_lock(&d->mu);
    while (!d->head && !d->closing && idle && !w->unsynced) {
        uint64_t at = w->dirty_ns + SYNC_AFTER;
        struct timespec t = {(time_t)(at / LR_SEC), (long)(at % LR_SEC)};
        if (!w->dirty_ns)
            pthread_cond_wait(&d->work, &d->mu);
        else if (pthread_cond_timedwait(&d->work, &d->mu, &t))
            break;
    }
    struct lr_item *it = d->head;
    if (it) {
        d->head = it->next;
        if (!d->head)
            d->tail = &d->head;
    }
    *end = !it && d->closing && idle;
    pthread_mutex_unlock(&d->mu);
    return it;
}

static void *run(void *arg)
{
    struct writer *w = arg;
    for (bool end = false; !end;) {
        struct lr_item *it = next_item(w, &end);
        if (it)
            handle(w, it);
        else
            flush(w);
        bool due = w->dirty_ns && lr_clock_mono_ns() - w->dirty_ns >= SYNC_AFTER;
        if (due && it)
            flush(w);
        if (due || (!it && w->unsynced))
            sync_active(w);
    }
    if (w->active)
        close_active(w);
    told_synced(w, LR_ECLOSED);
    lr_buf_free(&w->rows);
    lr_free(w->stage_base);
    lr_free(w);
    return NULL;
}

int lr_writer_start(struct lr_disk *d)
{
    struct writer *w = lr_new(struct writer);
    LR_FAIL_IF(!w, LR_ENOMEM);
    w->disk = d;
    w->stage = lr_pages(STAGE, &w->stage_base);
    w->items_tail = &w->items;
    w->unsynced_tail = &w->unsynced;
    lr_buf_init(&w->rows, ROWS_MAX);
    int rc = w->stage ? lr_thread_start(&d->writer, "disk", run, w) : LR_ENOMEM;
    if (rc) {
        lr_free(w->stage_base);
        lr_free(w);
        return rc;
    }
    d->writing = true;
    return 0;
}

void lr_writer_stop(struct lr_disk *d)
{
    pthread_mutex_lock(&d->mu);
    d->closing = true;
    pthread_cond_broadcast(&d->work);
    pthread_mutex_unlock(&d->mu);
    if (d->writing)
        pthread_join(d->writer, NULL);
}
