/* SPDX-License-Identifier: Apache-2.0
 * answer/keeper.c - the one thread that writes: a queue in, commits out.
 *
 *   put, delete, evict --push--> [op][op][op] --batch--> one write transaction --commit--> done(rc)
 *                                                             |  map full
 *                                                             +--> evict, delete, again
 *
 * Order. Operations are applied in the order they were queued: put, delete, put of one key end as
 * the last put. A batch is what came within commit_ns of its first operation, at most BATCH_OPS or
 * BATCH_BYTES; a flush, a close or a full batch does not wait.
 *
 * Acknowledgement. An entry is `stored`, and done(0) is called, only after the commit that holds it
 * has returned: LMDB has then synced data and meta page. From there on it is lost by eviction,
 * deletion or damage, never by a crash.
 *
 * Failure. When a batch fails its puts report the error; an entry that is in memory and was not on
 * disk before lives on there alone, any other leaves the shelf. Deletes are tried three times,
 * since a delete that is lost comes back at the next start. A full map is no failure: the strategy
 * gives up an eighth of what is stored, that is deleted, and the batch is tried again. Puts leave
 * an eighth of the map to deletes, and batches are small against the map: a delete copies pages
 * before it frees any, so in a map that is full to the last page nothing could ever be deleted.
 *
 * Memory. A delete is queued in the entry it deletes (taken out of the index), so deleting needs no
 * memory and cannot be shed. Puts are bounded in number and bytes by the shelf.
 *
 * Every HOUSEKEEPING_NS, and at the end, hit counts and renewed times to live that changed are
 * written, a few thousand a transaction, and what expired longer ago than any stale-* option
 * reaches is dropped.
 */
#include "answer/answer_int.h"

#define BATCH_OPS       1024
#define BATCH_BYTES     LR_MIB(32)
#define TRIES           3 /* of a delete */
#define ROUNDS          4 /* of a batch against a full map */
#define NOTES           1024
#define HOUSEKEEPING_NS (30 * LR_SEC)

static struct lr_put *put_of(struct lr_op *op)
{
    return LR_CONTAINER(op, struct lr_put, op);
}

static struct lr_entry *entry_of(struct lr_op *op)
{
    return LR_CONTAINER(op, struct lr_entry, u.op);
}

/* ---- the queue ---- */

void lr_keeper_push_locked(struct lr_answer *s, struct lr_op *op)
{
    struct lr_keeper *k = &s->k;
    op->next = NULL;
    if (!k->head)
        k->due_ns = lr_clock_mono_ns() + k->commit_ns;
    *k->tail = op;
    k->tail = &op->next;
    k->seq_in++;
    if (op->put) {
        k->n_puts++;
        k->put_bytes += put_of(op)->doc->log.n;
    }
    pthread_cond_signal(&k->more);
}

/* A list of operations, in order. */
struct batch {
    struct lr_op *head, **tail;
    size_t n, n_puts;
    uint64_t bytes; /* of documents */
};

static void batch_add(struct batch *b, struct lr_op *op)
{
    op->next = NULL;
    *b->tail = op;
    b->tail = &op->next;
    b->n++;
    b->n_puts += op->put;
    b->bytes += op->put ? put_of(op)->doc->log.n : 0;
}

static void take_locked(struct lr_keeper *k, struct batch *b)
{
    *b = (struct batch){.tail = &b->head};
    while (k->head && b->n < k->batch_ops && b->bytes < k->batch_bytes) {
        struct lr_op *op = k->head;
        k->head = op->next;
        batch_add(b, op);
    }
    if (!k->head)
        k->tail = &k->head;
}

/* ---- one batch ---- */

static int write_op(struct lr_disk *d, struct lr_op *op)
{
    return op->put ? lr_disk_put(d, put_of(op)->doc) : lr_disk_del(d, &entry_of(op)->key);
}

static int write_batch(struct lr_disk *d, const struct batch *b)
{
    if (b->n_puts)
        LR_TRY(lr_disk_room(d, b->n_puts, b->bytes));
    LR_TRY(lr_disk_begin(d));
    for (struct lr_op *op = b->head; op; op = op->next) {
        int rc = write_op(d, op);
        if (rc) {
            lr_disk_abort(d);
            return rc;
        }
    }
    return lr_disk_commit(d);
}

/* Evicts `want` bytes at once. Entries with a put on its way are queued behind it as ever; the
 * others go to `now`: nothing about them is queued, so their deletion may overtake. */
static void give_up_locked(struct lr_answer *s, uint64_t want, struct batch *now)
{
    uint64_t floor = s->bytes > want ? s->bytes - want : 0;
    struct lr_evict_node *v;
    while (s->bytes > floor && (v = s->disk_ops->victim(s->disk_pool, true))) {
        struct lr_entry *e = LR_CONTAINER(v, struct lr_entry, u.node);
        lr_metric_add(LR_M_EVICTED, 1);
        if (e->pending || !(e->flags & LR_E_DISK)) {
            lr_shelf_drop_locked(s, e);
            continue;
        }
        lr_shelf_cut_locked(s, e);
        e->u.op = (struct lr_op){.put = false};
        batch_add(now, &e->u.op);
    }
}

/* Deletes what is in `now`, a transaction's worth at a time; frees what is gone. What could not be
 * deleted is queued with the other deletes. */
static int delete_all(struct lr_answer *s, struct batch *now)
{
    int rc = 0;
    while (now->head) {
        struct batch some = {.tail = &some.head};
        while (now->head && some.n < s->k.batch_ops) {
            struct lr_op *op = now->head;
            now->head = op->next;
            batch_add(&some, op);
        }
        if (!rc)
            rc = write_batch(s->disk, &some);
        pthread_mutex_lock(&s->mu);
        for (struct lr_op *op = some.head, *next; op; op = next) {
            next = op->next;
            if (rc)
                lr_keeper_push_locked(s, op);
            else
                lr_index_recycle(&s->ix, entry_of(op));
        }
        pthread_mutex_unlock(&s->mu);
    }
    return rc;
}

static int make_space(struct lr_answer *s, const struct batch *b)
{
    struct batch now = {.tail = &now.head};
    pthread_mutex_lock(&s->mu);
    uint64_t want = s->bytes / 8 > b->bytes * 2 ? s->bytes / 8 : b->bytes * 2;
    give_up_locked(s, want, &now);
    lr_shelf_gauges_locked(s);
    pthread_mutex_unlock(&s->mu);
    LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "answer", "event=map_full evicted=%zu", now.n);
    LR_FAIL_IF(!now.n, LR_EOVER);
    LR_TRY(delete_all(s, &now));
    return lr_disk_turn(s->disk);
}

static int write_or_make_space(struct lr_answer *s, const struct batch *b)
{
    int rc = write_batch(s->disk, b);
    for (int round = 1; rc == LR_EOVER && round < ROUNDS; round++) {
        LR_TRY(make_space(s, b) == 0 ? 0 : LR_ENOSPC);
        rc = write_batch(s->disk, b);
    }
    return rc == LR_EOVER ? LR_ENOSPC : rc;
}

static void settle_put_locked(struct lr_answer *s, struct lr_put *p, int rc)
{
    s->k.n_puts--;
    s->k.put_bytes -= p->doc->log.n;
    p->rc = rc;
    struct lr_entry *e = lr_index_find(&s->ix, &p->doc->meta.key);
    if (!e || e->pending != p)
        return; /* replaced or gone meanwhile */
    e->pending = NULL;
    if (!rc)
        e->flags &= (uint8_t)~LR_E_OLD;
    else if (e->hot && !(e->flags & LR_E_OLD))
        e->flags &= (uint8_t)~LR_E_DISK; /* memory only */
    else
        lr_shelf_drop_locked(s, e);
}

static void settle_delete_locked(struct lr_answer *s, struct lr_op *op, int rc)
{
    if (rc && ++op->tries < TRIES)
        lr_keeper_push_locked(s, op);
    else
        lr_index_recycle(&s->ix, entry_of(op));
}

static void settle(struct lr_answer *s, struct batch *b, int rc)
{
    struct lr_op *puts = NULL, **tail = &puts;
    pthread_mutex_lock(&s->mu);
    for (struct lr_op *op = b->head, *next; op; op = next) {
        next = op->next;
        if (op->put) {
            settle_put_locked(s, put_of(op), rc);
            op->next = NULL;
            *tail = op;
            tail = &op->next;
        } else {
            settle_delete_locked(s, op, rc);
        }
    }
    lr_shelf_gauges_locked(s);
    pthread_mutex_unlock(&s->mu);
    while (puts) {
        struct lr_put *p = put_of(puts);
        puts = p->op.next;
        if (p->done)
            p->done(p->arg, p->rc);
        lr_doc_unref(p->doc);
        lr_free(p);
    }
}

static void run_batch(struct lr_answer *s, struct batch *b)
{
    int rc = write_or_make_space(s, b);
    if (rc)
        LR_LOG_EVERY(10 * LR_SEC, LR_LOG_ERROR, "answer",
                     "event=commit_failed operations=%zu error=%s", b->n, lr_errname(rc));
    settle(s, b, rc);
    pthread_mutex_lock(&s->mu);
    s->k.seq_out += b->n;
    s->k.rc = rc;
    pthread_cond_broadcast(&s->k.idle);
    pthread_mutex_unlock(&s->mu);
}

/* ---- housekeeping ---- */

struct note {
    struct lr_digest key;
    uint64_t expires_ms;
    uint32_t hits;
};

/* From slot `from` on, up to NOTES changed entries; returns the slot to go on from. */
static uint32_t gather_locked(struct lr_answer *s, uint32_t from, uint64_t now_ms,
                              struct note *notes, size_t *n)
{
    uint32_t i = from;
    for (; i < s->ix.n_slots && *n < NOTES && i - from < 16 * NOTES; i++) {
        struct lr_entry *e = lr_index_at(&s->ix, i);
        if (!e || e->pending)
            continue;
        if (now_ms >= LR_STALE_KEEP_MS && e->expires_ms <= now_ms - LR_STALE_KEEP_MS) {
            lr_shelf_drop_locked(s, e);
        } else if (e->flags & LR_E_DIRTY) {
            e->flags &= (uint8_t)~LR_E_DIRTY;
            if (e->flags & LR_E_DISK)
                notes[(*n)++] = (struct note){e->key, e->expires_ms, e->hits};
        }
    }
    return i;
}

static int write_notes(struct lr_disk *d, const struct note *notes, size_t n)
{
    LR_TRY(lr_disk_begin(d));
    for (size_t i = 0; i < n; i++) {
        int rc = lr_disk_note(d, &notes[i].key, notes[i].hits, notes[i].expires_ms);
        if (rc) {
            lr_disk_abort(d);
            return rc;
        }
    }
    return lr_disk_commit(d);
}

/* Counts that cannot be written now are lost: they order evictions, nothing else. */
static void housekeeping(struct lr_answer *s)
{
    struct note *notes = lr_calloc(NOTES, sizeof *notes);
    if (!notes)
        return;
    uint64_t now = s->wall_ms();
    for (uint32_t slot = 0, end = 1; slot < end;) {
        size_t n = 0;
        pthread_mutex_lock(&s->mu);
        slot = gather_locked(s, slot, now, notes, &n);
        end = s->ix.n_slots;
        pthread_mutex_unlock(&s->mu);
        int rc = n ? write_notes(s->disk, notes, n) : 0;
        if (rc)
            LR_LOG_EVERY(60 * LR_SEC, LR_LOG_WARN, "answer", "event=notes_failed error=%s",
                         lr_errname(rc));
    }
    lr_free(notes);
}

/* ---- the thread ---- */

static void wait_until(struct lr_keeper *k, pthread_mutex_t *mu, uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / LR_SEC), .tv_nsec = (long)(ns % LR_SEC)};
    /* A time-out and a wake-up are the same to the loop around it. */
    (void)pthread_cond_timedwait(&k->more, mu, &ts);
}

/* Whether the queued operations should be written now; else sleeps a while. */
static bool due_locked(struct lr_answer *s, uint64_t chores_ns)
{
    struct lr_keeper *k = &s->k;
    if (!k->head) {
        if (!k->closing)
            wait_until(k, &s->mu, chores_ns);
        return false;
    }
    if (k->closing || k->waiters || k->n_puts >= k->batch_ops || k->put_bytes >= k->batch_bytes ||
        lr_clock_mono_ns() >= k->due_ns)
        return true;
    wait_until(k, &s->mu, k->due_ns);
    return false;
}

static void *keep(void *arg)
{
    struct lr_answer *s = arg;
    uint64_t chores_ns = lr_clock_mono_ns() + HOUSEKEEPING_NS;
    pthread_mutex_lock(&s->mu);
    while (!s->k.closing || s->k.head) {
        struct batch b = {0};
        if (due_locked(s, chores_ns))
            take_locked(&s->k, &b);
        pthread_mutex_unlock(&s->mu);
        if (b.n)
            run_batch(s, &b);
        if (lr_clock_mono_ns() >= chores_ns) {
            housekeeping(s);
            chores_ns = lr_clock_mono_ns() + HOUSEKEEPING_NS;
        }
        pthread_mutex_lock(&s->mu);
    }
    pthread_mutex_unlock(&s->mu);
    return NULL;
}

/* What housekeeping queued at the end. */
static void drain(struct lr_answer *s)
{
    for (;;) {
        struct batch b;
        pthread_mutex_lock(&s->mu);
        take_locked(&s->k, &b);
        pthread_mutex_unlock(&s->mu);
        if (!b.n)
            return;
        run_batch(s, &b);
    }
}

static void *keep_to_the_end(void *arg)
{
    keep(arg);
    housekeeping(arg);
    drain(arg);
    return NULL;
}

void lr_keeper_init(struct lr_answer *s)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->k.more, &attr);
    pthread_cond_init(&s->k.idle, &attr);
    pthread_condattr_destroy(&attr);
    s->k.tail = &s->k.head;
}

int lr_keeper_start(struct lr_answer *s)
{
    /* A delete copies two or three pages before it frees any, and what one transaction frees only
     * the second after it may use: so two batches of deletes fit what lr_disk_room keeps for them.
     */
    uint64_t pages = lr_disk_pages(s->disk);
    s->k.batch_ops = pages / 64 < BATCH_OPS ? (size_t)(pages / 64) + 1 : BATCH_OPS;
    s->k.batch_bytes = pages * 4096 / 16 < BATCH_BYTES ? pages * 4096 / 16 : BATCH_BYTES;
    LR_TRY(lr_thread_start(&s->k.thread, "keeper", keep_to_the_end, s));
    s->k.started = true;
    return 0;
}

void lr_keeper_stop(struct lr_answer *s)
{
    if (s->k.started) {
        pthread_mutex_lock(&s->mu);
        s->k.closing = true;
        pthread_cond_signal(&s->k.more);
        pthread_mutex_unlock(&s->mu);
        pthread_join(s->k.thread, NULL);
    }
    pthread_cond_destroy(&s->k.more);
    pthread_cond_destroy(&s->k.idle);
}

int lr_answer_flush(struct lr_answer *s)
{
    if (!s->disk)
        return 0;
    struct lr_keeper *k = &s->k;
    int rc = 0;
    pthread_mutex_lock(&s->mu);
    uint64_t target = k->seq_in, seen = k->seq_out;
    k->waiters++;
    pthread_cond_signal(&k->more);
    while (k->seq_out < target) {
        pthread_cond_wait(&k->idle, &s->mu);
        if (k->seq_out != seen && !rc)
            rc = k->rc;
        seen = k->seq_out;
    }
    k->waiters--;
    pthread_mutex_unlock(&s->mu);
    return rc;
}
