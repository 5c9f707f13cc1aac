/* SPDX-License-Identifier: Apache-2.0
 * store/queue.c - the bounded queue before the writer, and the law that it keeps.
 *
 * The law. A reader gets the newest acknowledged value of an id, or a miss; never an older one.
 *
 * While the process runs the index sees to that alone: an entry knows one put, the newest, and what
 * lands late (a write, a load, a move) is compared with its sequence number under the shard's lock.
 * Across a restart the index is rebuilt from files in which older values lie about, so the files must
 * know of every change. Hence three rules:
 *
 *   1  Each number that an opaque id is given (put, delete) is queued in the same breath, under the
 *      shard's lock: as its value, or as a GONE note with that number when the value is not to be
 *      written (write-back, memory only). The item is allocated before anything changes, so a change
 *      that cannot be queued is refused and changes nothing.
 *   2  An item never leaves without its record. A value that is not written (queue full, late, disk
 *      full or failing) turns into its own GONE note where it is; a note that cannot be written is owed,
 *      and tried again until a sync has covered it. The item needs no memory for that.
 *   3  Of the records of an id the greatest number counts, and a value beats a GONE of its own number.
 *      Compaction (compact.c) takes a record away only when no older one can be left, else it leaves
 *      a GONE in its place.
 *
 * So whatever is dropped from memory, by whom and when, nothing has to be remembered at that moment:
 * its number is on record already. (An earlier version wrote a note at each of the places where a
 * value was lost. There were nine; four were missing, and a note was itself dropped when the disk was
 * full: after a restart an older value was served. tests/unit/store/test_law.c finds any such hole
 * within seconds.)
 *
 * What is owed is bounded: past notes_max one WIPE note takes the place of all that do not fit. It
 * says that every record up to its number is dead, which is a miss where an answer could have been,
 * and never a wrong one.
 *
 * A crash. What is queued dies with the process, so a restart finds the store as it was at some
 * moment since the last sync: 250 ms ago, or longer ago while the disk fails. Who cannot have that
 * asks for durable. A close is no crash: it writes the queue.
 */
#include "store/store_int.h"

static size_t weight(const struct lr_item *it)
{
    return it->block || it->image ? (size_t)it->r.total : 0;
}

/* ---- who waits ---- */

static void unref_wait_locked(struct lr_wait *w)
{
    if (w && --w->refs == 0)
        lr_free(w);
}

static void tell_locked(struct lr_disk *d, struct lr_item *it, int rc)
{
    if (!it->wait)
        return;
    it->wait->done = true;
    it->wait->rc = rc;
    unref_wait_locked(it->wait);
    it->wait = NULL;
    pthread_cond_broadcast(&d->done);
}

void lr_item_tell(struct lr_disk *d, struct lr_item *it, int rc)
{
    pthread_mutex_lock(&d->mu);
    tell_locked(d, it, rc);
    pthread_mutex_unlock(&d->mu);
}

int lr_tier_wait(struct lr_store *s, struct lr_wait *w, uint64_t deadline)
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

/* ---- items ---- */

int lr_item_new(struct lr_item **out, struct lr_wait **wait)
{
    struct lr_item *it = lr_new(struct lr_item);
    LR_FAIL_IF(!it, LR_ENOMEM);
    if (wait) {
        it->wait = lr_new(struct lr_wait);
        if (!it->wait) {
            lr_free(it);
            return LR_ENOMEM;
        }
        it->wait->refs = 2; /* who waits, and the item */
        *wait = it->wait;
    }
    *out = it;
    return 0;
}

void lr_item_free(struct lr_item *it)
{
    if (!it)
        return;
    lr_free(it->wait); /* never queued: nobody else has it */
    lr_free(it);
}

void lr_item_lighten(struct lr_disk *d, struct lr_item *it)
{
    size_t n = weight(it);
    if (!n)
        return;
    pthread_mutex_lock(&d->mu);
    d->queue_bytes -= n;
    d->queue_notes++;
    pthread_cond_broadcast(&d->done);
    pthread_mutex_unlock(&d->mu);
    lr_block_unref(it->block);
    lr_free(it->base);
    it->block = NULL;
    it->base = NULL;
    it->image = NULL;
}

void lr_item_end(struct lr_disk *d, struct lr_item *it, int rc)
{
    lr_item_lighten(d, it);
    pthread_mutex_lock(&d->mu);
    tell_locked(d, it, rc);
    d->queue_notes--;
    pthread_mutex_unlock(&d->mu);
    lr_segment_unref(d, it->from);
    lr_free(it);
}

void lr_item_into_note(struct lr_item *it)
{
    it->r = (struct lr_record){
        .type = LR_RECORD_GONE, .total = LR_RECORD_NOTE, .seq = it->r.seq, .id = it->r.id};
    it->forced = true;
}

/* ---- the queue ---- */

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

/* A note that does not fit is covered by the WIPE that waits, or becomes it. */
static void push_note_locked(struct lr_disk *d, struct lr_item *it)
{
    if (d->queue_notes < d->notes_max) {
        push_locked(d, it);
        return;
    }
    lr_count(d->store, LR_STORE_WIPES);
    tell_locked(d, it, LR_EBUSY);
    if (d->wipe) {
        d->wipe->r.seq = d->wipe->r.seq > it->r.seq ? d->wipe->r.seq : it->r.seq;
        lr_free(it);
        return;
    }
    it->r.type = LR_RECORD_WIPE;
    memset(&it->r.id, 0, sizeof it->r.id);
    it->r.value = 0;
    d->wipe = it;
    push_locked(d, it);
}

static bool has_room_locked(const struct lr_disk *d, size_t n, size_t max)
{
    return d->queue_bytes == 0 || d->queue_bytes + n <= max;
}

bool lr_tier_has_queue_room(struct lr_store *s, size_t bytes)
{
    struct lr_disk *d = s->disk;
    pthread_mutex_lock(&d->mu);
    bool room = has_room_locked(d, bytes, s->opts.queue_bytes / 2);
    pthread_mutex_unlock(&d->mu);
    return room;
}

static void fill(const struct lr_entry *e, struct lr_item *it)
{
    it->opaque = e->kind == LR_OBJECT_OPAQUE;
    it->r = (struct lr_record){.type = LR_RECORD_OBJECT,
                               .total = e->block->total,
                               .seq = e->seq,
                               .head = e->head,
                               .payload = e->payload,
                               .id = e->id};
}

void lr_queue_value_locked(struct lr_store *s, struct lr_entry *e, struct lr_item *it)
{
    struct lr_disk *d = s->disk;
    fill(e, it);
    it->forced = it->wait || s->opts.write_back;
    pthread_mutex_lock(&d->mu);
    e->queued = has_room_locked(d, e->block->total, s->opts.queue_bytes);
    if (e->queued) {
        lr_block_ref(e->block);
        it->block = e->block;
        push_locked(d, it);
    } else {
        lr_count(s, LR_STORE_DISK_DROP_FULL);
        tell_locked(d, it, LR_EBUSY);
        lr_item_into_note(it);
        if (it->opaque)
            push_note_locked(d, it);
        else
            lr_free(it);
    }
    pthread_mutex_unlock(&d->mu);
}

bool lr_queue_copy_locked(struct lr_store *s, struct lr_entry *e, struct lr_wait **wait)
{
    struct lr_item *it;
    if (lr_item_new(&it, wait)) {
        lr_count(s, LR_STORE_DISK_DROP_ERROR);
        return false;
    }
    struct lr_disk *d = s->disk;
    fill(e, it);
    it->forced = true;
    it->again = true;
    pthread_mutex_lock(&d->mu);
    bool in = has_room_locked(d, e->block->total, s->opts.queue_bytes);
    if (in) {
        lr_block_ref(e->block);
        it->block = e->block;
        push_locked(d, it);
    }
    pthread_mutex_unlock(&d->mu);
    e->queued = in;
    if (!in) {
        lr_count(s, LR_STORE_DISK_DROP_FULL);
        if (wait)
            *wait = NULL;
        lr_item_free(it);
    }
    return in;
}

void lr_queue_note(struct lr_store *s, struct lr_item *it, enum lr_record_type type,
                   const struct lr_digest *id, uint64_t seq, uint64_t value)
{
    struct lr_disk *d = s->disk;
    it->r = (struct lr_record){
        .type = type, .total = LR_RECORD_NOTE, .seq = seq, .id = *id, .value = value};
    it->forced = true;
    pthread_mutex_lock(&d->mu);
    if (type == LR_RECORD_NONE)
        push_locked(d, it);
    else
        push_note_locked(d, it);
    pthread_mutex_unlock(&d->mu);
}

int lr_tier_note(struct lr_store *s, enum lr_record_type type, const struct lr_digest *id,
                 uint64_t seq, uint64_t value, struct lr_wait **wait)
{
    struct lr_item *it;
    LR_TRY(lr_item_new(&it, wait));
    lr_queue_note(s, it, type, id, seq, value);
    return 0;
}

int lr_tier_barrier(struct lr_store *s, struct lr_wait **out)
{
    return lr_tier_note(s, LR_RECORD_NONE, &(struct lr_digest){{0}}, 0, 0, out);
}

int lr_tier_move(struct lr_store *s, const struct lr_record *r, uint8_t *image, void *base,
                 struct lr_segment *from, uint64_t off)
{
    struct lr_disk *d = s->disk;
    struct lr_item *it;
    int rc = lr_item_new(&it, NULL);
    if (rc) {
        lr_free(base);
        return rc;
    }
    it->r = *r;
    it->image = image;
    it->base = base;
    it->from = from;
    it->from_off = off;
    it->forced = true;
    it->again = true;
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
