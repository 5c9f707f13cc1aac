/* SPDX-License-Identifier: Apache-2.0
 * store/writer.c - the one thread that appends to segments.
 *
 *   queue: [value][note][value][move] --> stage: small records packed, 1 MiB --> pwrite, pages
 *                                     \-> a large record: pwrite of its image as it lies in memory
 *   then: entry learns its place --> unsynced --> sync (at once if somebody waits, else within
 *         SYNC_AFTER) --> over
 *   else: what could not be written or synced --> a note --> owed --> tried again
 *
 * Idea. One appender makes order simple: a sync covers everything before it, and one sync serves all
 * who wait. The disk is kept busy by the size of writes, not their number.
 *
 * Never late. A value whose turn comes more than late_ms after it was queued is not written: the disk
 * is slower than the puts, and old bytes would only make newer ones late. Values that somebody waits
 * for, demotions, notes and moves are written however late.
 *
 * Nothing is forgotten (queue.c says why). A value that is not written becomes the note that it is
 * gone (reduce). What was written is kept in mind, 200 bytes an item and without its bytes, until a
 * sync has covered it: when the sync fails nobody knows which of these the disk has, so each value
 * becomes a note too (harmless where the value survived: it beats a GONE of its own number), moves
 * are taken back, and notes are owed again.
 *
 * Trouble. A write or sync that fails ends the segment without a footer (what is in it stays
 * readable, and is found by scan at the next start); the disk counts as sick, values are not written
 * for SICK_MIN, doubling to SICK_MAX while it stays so, and then the next record tries a new segment.
 * A full budget refuses values and wakes the keeper; moves may exceed it by a segment, or compaction
 * could never begin, and notes are not held back at all: each is of a change somebody made, and
 * compaction makes one of all of an id.
 *
 * Invariants: staged bytes follow the active segment's size; an entry learns its place only after
 * the write returned; a segment's footer lists exactly the records whose write returned; a barrier
 * succeeds only when nothing is owed and everything before it is synced.
 */
#include "store/store_int.h"

#include <assert.h>

#define STAGE        LR_MIB(1)
#define SYNC_AFTER   (40 * LR_MS)
#define SICK_MIN     (100 * LR_MS)
#define SICK_MAX     (5 * LR_SEC)
#define UNSYNCED_MAX 65536u      /* items; then a sync is due */
#define ROWS_MAX     LR_MIB(16)  /* of a footer: then the segment is full */
#define ROWS_SPARE   LR_MIB(2)   /* rows of one stage full of notes */
#define LAST_TRIES   2           /* to write what is owed, when closing */

struct items {
    struct lr_item *first, **tail;
    size_t n;
};

struct writer {
    struct lr_disk *disk;
    struct lr_segment *active; /* or NULL */
    struct lr_buf rows;
    void *stage_base;
    uint8_t *stage;
    size_t staged;          /* bytes */
    struct items items;     /* staged, not written */
    struct items unsynced;  /* written */
    struct items owed;      /* notes to be written again */
    bool waiting;           /* somebody waits for one of unsynced */
    bool closing;           /* the last tries, sick or not */
    uint64_t dirty_ns;      /* first write since the last sync; 0: none */
    uint64_t sick_until_ns, sick_for_ns;
};

static void items_init(struct items *l)
{
    l->first = NULL;
    l->tail = &l->first;
    l->n = 0;
}

static void append(struct items *l, struct lr_item *it)
{
    it->next = NULL;
    *l->tail = it;
    l->tail = &it->next;
    l->n++;
}

/* All of l, which is empty then. */
static struct lr_item *take_all(struct items *l)
{
    struct lr_item *first = l->first;
    items_init(l);
    return first;
}

/* ---- what is not written ---- */

/* A value is not on disk, or not surely: the index forgets its place there. */
static void untell_index(struct writer *w, const struct lr_item *it)
{
    struct lr_store *s = w->disk->store;
    struct lr_shard *sh = lr_shard_of(s, &it->r.id);
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_find_locked(s, sh, &it->r.id);
    bool same = e && e->seq == it->r.seq;
    bool there = same && it->seg && e->seg == it->seg && e->off == it->off;
    if (there && it->from) {
        lr_leave_disk_locked(s, sh, e);
        lr_enter_disk_locked(s, sh, e, it->from, it->from_off);
    } else if (there && e->block) {
        lr_leave_disk_locked(s, sh, e); /* else the place is the last hope: reading verifies */
    }
    if (same && !it->from) {
        e->queued = false;
        if (e->leaving) {
            lr_count(s, LR_STORE_LOST);
            lr_leave_mem_locked(s, sh, e);
            lr_drop_if_empty_locked(s, sh, e);
        }
    }
    pthread_mutex_unlock(&sh->mu);
}

/* it will not be written as what it is: who waits learns rc. True: it is a note, and still has to
 * be. False: it is over. */
static bool reduce(struct writer *w, struct lr_item *it, int rc)
{
    bool value = it->r.type == LR_RECORD_OBJECT;
    if (value)
        untell_index(w, it);
    lr_item_tell(w->disk, it, rc);
    lr_item_lighten(w->disk, it);
    if (it->r.type == LR_RECORD_NONE || (value && (it->again || !it->opaque))) {
        lr_item_end(w->disk, it, rc);
        return false;
    }
    if (value)
        lr_item_into_note(it);
    return true;
}

/* A WIPE covers what is owed up to its number. */
static void owe_wipe(struct writer *w, struct lr_item *it)
{
    struct lr_item *o = take_all(&w->owed), *next;
    for (; o; o = next) {
        next = o->next;
        if (o->r.seq > it->r.seq)
            append(&w->owed, o);
        else
            lr_item_end(w->disk, o, 0);
    }
    append(&w->owed, it);
}

static void owe(struct writer *w, struct lr_item *it, int rc)
{
    if (!reduce(w, it, rc))
        return;
    lr_count(w->disk->store, LR_STORE_DISK_OWED);
    if (it->r.type == LR_RECORD_WIPE)
        owe_wipe(w, it);
    else
        append(&w->owed, it);
}

/* ---- what is written ---- */

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
            lr_enter_disk_locked(s, sh, e, it->seg, it->off);
            lr_count(s, LR_STORE_COMPACTED);
        }
    } else if (same) {
        e->queued = false;
        if (!e->seg)
            lr_enter_disk_locked(s, sh, e, it->seg, it->off);
        if (e->leaving) {
            lr_count(s, LR_STORE_EVICTED_MEMORY);
            lr_leave_mem_locked(s, sh, e);
        }
    }
    pthread_mutex_unlock(&sh->mu);
}

/* Its write returned: footer row, index; the rest when it is synced. */
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
        lr_count(d->store, LR_STORE_DISK_DROP_ERROR);
        owe(w, it, LR_EIO);
        return;
    }
    if (lr_row_add(&w->rows, &row))
        lr_count(d->store, LR_STORE_DISK_ERRORS); /* rows.rc: no footer, found by scan */
    lr_count(d->store, LR_STORE_DISK_WRITES);
    it->seg = w->active;
    if (image || it->r.type == LR_RECORD_PIN) {
        pthread_mutex_lock(&d->mu);
        if (it->r.seq < w->active->min_seq)
            w->active->min_seq = it->r.seq;
        pthread_mutex_unlock(&d->mu);
    }
    if (image)
        tell_index(w, it);
    lr_item_lighten(d, it);
    w->waiting = w->waiting || it->wait;
    append(&w->unsynced, it);
}

/* ---- segments ---- */

static void told_synced(struct writer *w, int rc)
{
    struct lr_item *it = take_all(&w->unsynced), *next;
    w->waiting = false;
    for (; it; it = next) {
        next = it->next;
        if (rc)
            owe(w, it, rc);
        else
            lr_item_end(w->disk, it, 0);
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

/* The disk failed: this segment ends here, and a pause. What was written to it before is told what
 * a last sync says. */
static void fail(struct writer *w, int rc, bool sync)
{
    struct lr_disk *d = w->disk;
    lr_count(d->store, LR_STORE_DISK_ERRORS);
    LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "store", "event=disk_failed rc=%s", lr_errname(rc));
    w->sick_for_ns = w->sick_for_ns ? w->sick_for_ns * 2 : SICK_MIN;
    if (w->sick_for_ns > SICK_MAX)
        w->sick_for_ns = SICK_MAX;
    w->sick_until_ns = lr_clock_mono_ns() + w->sick_for_ns;
    atomic_store(&d->sick, true);
    told_synced(w, sync && w->active && !d->vfs->sync(w->active->file) ? 0 : rc);
    if (w->active)
        seal(w, false);
}

static void sync_active(struct writer *w)
{
    if (!w->active)
        return;
    int rc = w->disk->vfs->sync(w->active->file);
    if (rc) {
        fail(w, rc, false);
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
    g->info.since = atomic_load(&d->store->seq);
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

/* All before it is on record, or will be by the next sync, or is owed. */
static void pass(struct writer *w, struct lr_item *it)
{
    if (w->owed.first)
        lr_item_end(w->disk, it, LR_EIO);
    else if (!w->dirty_ns)
        lr_item_end(w->disk, it, 0);
    else {
        w->waiting = true;
        append(&w->unsynced, it);
    }
}

static void flush(struct writer *w)
{
    struct lr_item *it = take_all(&w->items), *next;
    int rc = 0;
    if (w->staged) {
        size_t n = (size_t)lr_round_up(w->staged, LR_VFS_ALIGN);
        if (n > w->staged)
            lr_record_pad(n - w->staged, w->active->info.salt, w->stage + w->staged);
        rc = write_out(w, w->stage, n);
    }
    w->staged = 0;
    if (rc)
        fail(w, rc, true);
    for (; it; it = next) {
        next = it->next;
        if (rc && it->r.type == LR_RECORD_OBJECT)
            lr_count(w->disk->store, LR_STORE_DISK_DROP_ERROR);
        if (rc)
            owe(w, it, rc);
        else if (it->r.type == LR_RECORD_NONE)
            pass(w, it);
        else
            landed(w, it);
    }
}

/* Bytes that the files may have when it is written. */
static uint64_t budget(const struct writer *w, const struct lr_item *it)
{
    const struct lr_store_opts *o = &w->disk->store->opts;
    if (it->r.type != LR_RECORD_OBJECT)
        return UINT64_MAX;
    return o->disk_max + (it->from ? o->segment_bytes : 0);
}

/* An active segment with room for it. LR_EOVER: beyond the budget. */
static int make_segment(struct writer *w, const struct lr_item *it)
{
    struct lr_disk *d = w->disk;
    size_t n = (size_t)it->r.total;
    if (atomic_load(&d->bytes) + w->staged + n + w->rows.len > budget(w, it)) {
        lr_tier_kick(d->store);
        return LR_EOVER;
    }
    if (w->active && (w->rows.len > ROWS_MAX - ROWS_SPARE || w->rows.rc ||
                      w->active->size + w->staged + n > d->store->opts.segment_bytes)) {
        flush(w);
        if (w->active)
            close_active(w);
    }
    if (w->active)
        return 0;
    int rc = start_segment(w);
    if (rc)
        fail(w, rc, false);
    return rc == LR_EOVER ? LR_EIO : rc;
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
    append(&w->items, it);
}

/* The image as it lies, its head and mark put in: nobody else looks at these. */
static void write_large(struct writer *w, struct lr_item *it)
{
    uint8_t *image = it->block ? it->block->image : it->image;
    lr_record_write(&it->r, w->active->info.salt, image);
    it->off = w->active->size;
    int rc = write_out(w, image, (size_t)it->r.total);
    if (!rc) {
        landed(w, it);
        return;
    }
    fail(w, rc, true);
    lr_count(w->disk->store, LR_STORE_DISK_DROP_ERROR);
    owe(w, it, rc);
}

/* Into the stage or the file. LR_EOVER: beyond the budget, it is the caller's. */
static int write_item(struct writer *w, struct lr_item *it)
{
    bool large = it->r.payload >= LR_LARGE;
    if (large || w->staged + it->r.total > STAGE)
        flush(w);
    int rc = make_segment(w, it);
    if (rc == LR_EOVER)
        return rc;
    if (rc)
        owe(w, it, rc);
    else if (large)
        write_large(w, it);
    else
        stage_item(w, it);
    return 0;
}

static void handle(struct writer *w, struct lr_item *it)
{
    struct lr_disk *d = w->disk;
    struct lr_store *s = d->store;
    bool value = it->r.type == LR_RECORD_OBJECT;
    uint64_t now = lr_clock_mono_ns();
    if (it->r.type == LR_RECORD_NONE) {
        append(&w->items, it);
        return;
    }
    if (it->r.type == LR_RECORD_WIPE) {
        pthread_mutex_lock(&d->mu); /* from here on its number stands */
        d->wipe = d->wipe == it ? NULL : d->wipe;
        pthread_mutex_unlock(&d->mu);
    }
    if (now < w->sick_until_ns && !w->closing) {
        if (value)
            lr_count(s, LR_STORE_DISK_DROP_ERROR);
        owe(w, it, LR_EIO);
        return;
    }
    if (!it->forced && now - it->queued_ns > s->opts.late_ms * LR_MS) {
        lr_count(s, LR_STORE_DISK_DROP_LATE);
        if (!reduce(w, it, LR_ETIMEOUT))
            return;
    }
    if (!write_item(w, it))
        return;
    lr_count(s, LR_STORE_DISK_DROP_ERROR);
    if (reduce(w, it, LR_ENOSPC))
        (void)write_item(w, it); /* a note: not held back */
}

/* Notes that are owed, once more. */
static void retry(struct writer *w)
{
    struct lr_item *it = take_all(&w->owed), *next;
    for (; it; it = next) {
        next = it->next;
        handle(w, it);
    }
}

/* When the writer has something to do although nothing is queued; 0: never. */
static uint64_t next_time(const struct writer *w)
{
    uint64_t at = w->dirty_ns ? w->dirty_ns + SYNC_AFTER : 0;
    if (w->owed.first && (!at || w->sick_until_ns < at))
        at = w->sick_until_ns ? w->sick_until_ns : 1;
    return at;
}

/* The next item; NULL: time to flush, sync or try again, or *end. */
static struct lr_item *next_item(struct writer *w, bool *end)
{
    struct lr_disk *d = w->disk;
    bool idle = !w->items.first;
    uint64_t at = next_time(w);
    struct timespec t = {(time_t)(at / LR_SEC), (long)(at % LR_SEC)};
    pthread_mutex_lock(&d->mu);
    while (!d->head && !d->closing && idle && !w->waiting) {
        if (!at)
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

/* The end: what is owed gets its last tries. */
static void finish(struct writer *w)
{
    struct lr_item *it, *next;
    w->closing = true;
    for (int i = 0; i < LAST_TRIES && (w->owed.first || w->active); i++) {
        retry(w);
        flush(w);
        if (w->active)
            close_active(w);
    }
    told_synced(w, LR_ECLOSED);
    if (w->owed.first)
        lr_log(LR_LOG_ERROR, "store", "event=owed_lost notes=%zu: older values may come back",
               w->owed.n);
    for (it = take_all(&w->owed); it; it = next) {
        next = it->next;
        lr_item_end(w->disk, it, LR_ECLOSED);
    }
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
        uint64_t now = lr_clock_mono_ns();
        if (w->owed.first && now >= w->sick_until_ns)
            retry(w);
        bool due = w->dirty_ns && (now - w->dirty_ns >= SYNC_AFTER || w->unsynced.n > UNSYNCED_MAX);
        if (due || (!it && w->waiting)) {
            flush(w);
            sync_active(w);
        }
    }
    finish(w);
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
    items_init(&w->items);
    items_init(&w->unsynced);
    items_init(&w->owed);
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
    for (struct lr_item *it = d->head, *next; it; it = next) { /* it never started */
        next = it->next;
        lr_item_end(d, it, LR_ECLOSED);
    }
    d->head = NULL;
    d->tail = &d->head;
}
