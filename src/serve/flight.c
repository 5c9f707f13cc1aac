/* SPDX-License-Identifier: Apache-2.0
 * serve/flight.c - one piece of work, read by many at their own pace.
 *
 *   buffer   |....gone....|======= live, at most 4 MiB =======|   spare
 *            p            p + start                           p + len
 *   offsets               base                                end      absolute, since take-off
 *                         ^ slowest reader         ^ a reader ^ one that waits
 *
 * Idea. The log is one growing buffer of whole events; a reader is an offset. While the log is
 * within its bound nothing is ever dropped from it, so whoever joins reads the answer from its
 * within its bound nothing is ever dropped from it, so whoever joins reads the answer from its
 * reader; if that is not enough the producer is told LR_EBUSY, and called back (room) when a quarter
 * of the bound is free. The event that was one too many is in the log all the same: a producer
 * cannot always stop between two events (one read of a socket decodes to several, a whole body to
 * all at once), so the bound is soft by what it produces before it stops, and hard at BURST_MAX
 * beyond. Trimming only moves `start`; bytes are moved down when half of the buffer is gone, so a
 * byte is moved at most once for each byte that goes.
 *
 * Lives. refs = attached readers + 1 until finish. A flight is unlinked and freed by whoever drops
 * the last one; `released` is called with no lock held. Live readers are attached and not dropped;
 * a flight is cancelled when no live reader has a socket, unless it is a background one and `keep`
 * lives.
 *
 *   joinable: in a bucket, not unlisted, not trimmed, not cancelled, not finished
 *
 * Locks. flights.mu guards the list and the buckets; flight.mu guards all else of a flight and its
 * readers' fields. Order: flights.mu, then flight.mu. wake, suspend, cancel and room run under
 * flight.mu: that is what makes "nothing to pull" and "go to sleep" one step for the waker. Below
 * flight.mu they may take what the door's park and wake take (the library's cleanup mutex, a leaf)
 * and the net module's inbox, another leaf. The door calls pull and end, thus lr_reader_pull and
 * lr_reader_close, with no lock but the mutex of the one response that is being sent, which nobody
 * else takes. No cycle.
 *   The last reference: refs falls to zero under flight.mu, which is then left before flights.mu is
 * taken to unlink. In between, a walk over the list (tick, cancel_all) may still find the flight:
 * it holds flights.mu, so the memory stays; it sees `finished` and no reader, and has nothing to
 * do. An enter may find it in its bucket only if it is not finished, and then its refs are not
 * zero.
 *
 * A laggard is a live reader that stands at the front of a full log and has not moved for
 * LR_FLIGHT_LAG_NS, counted from when it could last have moved: its own last pull, the push that
 * ended its wait, or the moment the log became full, whichever is latest.
 *
 * Who needs the whole answer before it can write a byte of its own is not woken by the head, nor by
 * each burst: a wake is a system call here and a context switch there.
 *
 * Considered and dropped: a list of blocks a reader (joiners pin blocks, and every event is a
 * malloc); a ring (events that wrap must be copied twice, and joiners need the start anyway);
 * waking only the reader that is behind (followers are equals: all that wait are woken, at most
 * once a wait).
 */
#include "serve/flight.h"

#include <assert.h>

#define BUCKETS     1024                        /* of joinable flights; a power of two */
#define BURST_MAX   LR_MIB(64)                  /* pushed after the producer was told to pause */
#define HEADERS_MAX LR_KIB(128)                 /* the response headers kept for readers */
#define ROOMY       (LR_FLIGHT_LOG_MAX / 4 * 3) /* live bytes at which a paused producer goes on */

struct lr_flight {
    struct lr_flights *table;
    struct lr_flight *prev, *next; /* flights.mu: all flights */
    struct lr_flight *chain;       /* flights.mu: its bucket */
    struct lr_digest key;
    bool listed; /* flights.mu: in its bucket */

    pthread_mutex_t mu; /* guards all below */
    struct lr_flight_opts opts;
    size_t refs;
    struct lr_buf log;
    size_t start;  /* bytes of log that are gone */
    uint64_t base; /* absolute offset of log.p[start] */
    uint64_t full_ns;
    struct lr_buf headers;
    struct lr_flight_bill bill;
    int status; /* 0 = no head yet */
    int rc;     /* why it finished */
    struct lr_reader *readers;
    size_t live, sockets, joined; /* live readers; those with a socket; attached after the first */
    bool background, unlisted, trimmed, cancelled, finished, wants_room;
};

struct lr_flights {
    pthread_mutex_t mu; /* guards the list, the buckets, n; taken before a flight's */
    struct lr_flight *all;
    size_t n;
    struct lr_flight *buckets[BUCKETS];
};

int lr_flights_open(struct lr_flights **out)
{
    struct lr_flights *t = lr_new(struct lr_flights);
    LR_FAIL_IF(!t, LR_ENOMEM);
    pthread_mutex_init(&t->mu, NULL);
    *out = t;
    return 0;
}

void lr_flights_close(struct lr_flights *t)
{
    if (!t)
        return;
    assert(!t->all);
    pthread_mutex_destroy(&t->mu);
    lr_free(t);
}

size_t lr_flights_count(struct lr_flights *t)
{
    pthread_mutex_lock(&t->mu);
    size_t n = t->n;
    pthread_mutex_unlock(&t->mu);
    return n;
}

/* ---- under flights.mu -------------------------------------------------------------------- */

static struct lr_flight **bucket(struct lr_flights *t, const struct lr_digest *key)
{
    return &t->buckets[lr_le64(key->b) & (BUCKETS - 1)]; /* digests are keyed: evenly spread */
}

static void unlist(struct lr_flight *f)
{
    if (!f->listed)
        return;
    struct lr_flight **at = bucket(f->table, &f->key);
    while (*at != f)
        at = &(*at)->chain;
    *at = f->chain;
    f->listed = false;
}

static void link_flight(struct lr_flights *t, struct lr_flight *f)
{
    f->next = t->all;
    if (f->next)
        f->next->prev = f;
    t->all = f;
    t->n++;
    if (!f->opts.key)
        return;
    struct lr_flight **at = bucket(t, &f->key);
    f->chain = *at;
    *at = f;
    f->listed = true;
}

/* ---- under flight.mu --------------------------------------------------------------------- */

static size_t live_bytes(const struct lr_flight *f)
{
    return f->log.len - f->start;
}

static uint64_t end_of(const struct lr_flight *f)
{
    return f->base + live_bytes(f);
}

static void wake(struct lr_reader *r)
{
    if (!r->waiting)
        return;
    r->waiting = false;
    r->wake(r);
}

static void wake_all(struct lr_flight *f)
{
    for (struct lr_reader *r = f->readers; r; r = r->next)
        if (!r->patient || f->finished || f->wants_room)
            wake(r);
}

static int wait_locked(struct lr_reader *r, void (*suspend)(struct lr_reader *))
{
    r->waiting = r->wake != NULL;
    if (suspend)
        suspend(r);
    return LR_EBUSY;
}

static void cancel(struct lr_flight *f)
{
    if (f->cancelled || f->finished)
        return;
    f->cancelled = true;
    if (f->opts.cancel)
        f->opts.cancel(f->opts.producer);
}

/* Forgets what every live reader has read. */
static void trim(struct lr_flight *f)
{
    uint64_t low = end_of(f);
    for (const struct lr_reader *r = f->readers; r; r = r->next)
        if (!r->dropped && r->at < low)
            low = r->at;
    f->start += (size_t)(low - f->base);
    f->base = low;
    if (f->start && f->start >= f->log.len - f->start) {
        lr_buf_drop(&f->log, f->start);
        f->start = 0;
    }
}

static void offer_room(struct lr_flight *f)
{
    if (!f->wants_room)
        return;
    trim(f);
    if (live_bytes(f) > ROOMY)
        return;
    f->wants_room = false;
    if (f->opts.room)
        f->opts.room(f->opts.producer);
}

/* r stops counting: it leaves, or it was too slow. */
static void retire(struct lr_flight *f, struct lr_reader *r)
{
    f->live--;
    f->sockets -= !r->keep;
    if (!f->sockets && !(f->background && f->live))
        cancel(f);
}

static void attach(struct lr_flight *f, struct lr_reader *r, bool keep)
{
    r->flight = f;
    r->at = 0;
    r->moved_ns = 0;
    r->waiting = r->dropped = false;
    r->keep = keep;
    r->next = f->readers;
    f->readers = r;
    f->refs++;
    f->live++;
    f->sockets += !keep;
}

static bool joinable(const struct lr_flight *f)
{
    return !f->unlisted && !f->trimmed && !f->cancelled && !f->finished;
}

/* ---- taking off and landing -------------------------------------------------------------- */

static struct lr_flight *flight_new(struct lr_flights *t, const struct lr_flight_opts *o)
{
    struct lr_flight *f = lr_new(struct lr_flight);
    if (!f)
        return NULL;
    f->table = t;
    f->opts = *o;
    if (o->key)
        f->key = *o->key;
    f->refs = 1; /* the producer's */
    f->background = o->background;
    lr_buf_init(&f->log, 2 * LR_FLIGHT_LOG_MAX + BURST_MAX);
    lr_buf_init(&f->headers, HEADERS_MAX);
    pthread_mutex_init(&f->mu, NULL);
    return f;
}

/* Nobody refers to f any more; no lock is held. */
static void release(struct lr_flight *f)
{
    struct lr_flights *t = f->table;
    pthread_mutex_lock(&t->mu);
    unlist(f);
    *(f->prev ? &f->prev->next : &t->all) = f->next;
    if (f->next)
        f->next->prev = f->prev;
    t->n--;
    pthread_mutex_unlock(&t->mu);
    if (f->opts.released)
        f->opts.released(f->opts.producer);
    pthread_mutex_destroy(&f->mu);
    lr_buf_free(&f->log);
    lr_buf_free(&f->headers);
    lr_free(f);
}

/* With flights.mu held. */
static bool join(struct lr_flights *t, const struct lr_flight_opts *o, struct lr_reader *r)
{
    for (struct lr_flight *f = *bucket(t, o->key); f; f = f->chain) {
        if (!lr_digest_eq(&f->key, o->key))
            continue;
        pthread_mutex_lock(&f->mu);
        bool ok = joinable(f);
        if (ok) {
            attach(f, r, o->background);
            f->joined++;
            f->background |= o->background;
        }
        pthread_mutex_unlock(&f->mu);
        if (ok)
            return true;
    }
    return false;
}

int lr_flight_enter(struct lr_flights *t, const struct lr_flight_opts *o, struct lr_reader *r,
                    bool *began)
{
    pthread_mutex_lock(&t->mu);
    if (o->key && join(t, o, r)) {
        pthread_mutex_unlock(&t->mu);
        *began = false;
        return 0;
    }
    struct lr_flight *f = flight_new(t, o);
    if (f) {
        attach(f, r, o->background); /* nobody else can see it yet */
        link_flight(t, f);
        f->opts.key = NULL; /* the caller's; ours is f->key */
    }
    pthread_mutex_unlock(&t->mu);
    LR_FAIL_IF(!f, LR_ENOMEM);
    *began = true;
    return 0;
}

int lr_flight_attach(struct lr_flight *f, struct lr_reader *r, bool keep)
{
    pthread_mutex_lock(&f->mu);
    int rc = f->trimmed ? LR_ECLOSED : 0;
    if (!rc) {
        attach(f, r, keep);
        f->joined++;
    }
    pthread_mutex_unlock(&f->mu);
    return rc;
}

void lr_flight_unlist(struct lr_flight *f)
{
    pthread_mutex_lock(&f->mu);
    f->unlisted = true; /* its bucket lets go of it when it finishes */
    pthread_mutex_unlock(&f->mu);
}

void lr_flights_cancel_all(struct lr_flights *t)
{
    pthread_mutex_lock(&t->mu);
    for (struct lr_flight *f = t->all; f; f = f->next) {
        pthread_mutex_lock(&f->mu);
        cancel(f);
        pthread_mutex_unlock(&f->mu);
    }
    pthread_mutex_unlock(&t->mu);
}

/* ---- the producer ------------------------------------------------------------------------ */

int lr_flight_head(struct lr_flight *f, int status, struct lr_str headers)
{
    pthread_mutex_lock(&f->mu);
    int rc = f->status || status <= 0 ? LR_EINVAL : f->cancelled ? LR_ECANCEL : 0;
    if (!rc && headers.n)
        rc = lr_buf_adds(&f->headers, headers);
    if (!rc) {
        f->status = status;
        wake_all(f);
    } else {
        lr_buf_reset(&f->headers);
    }
    pthread_mutex_unlock(&f->mu);
    return rc;
}

/* The log has just grown beyond its bound: nobody may join any more; what all have read goes. True when
 * it is still too long, and the producer is to pause. */
static bool too_long(struct lr_flight *f, uint64_t now_ns)
{
    f->trimmed = true;
    trim(f);
    if (live_bytes(f) <= LR_FLIGHT_LOG_MAX)
        return false;
    if (!f->wants_room)
        f->full_ns = now_ns;
    return true;
}

static int push_locked(struct lr_flight *f, const struct lr_event *ev, uint64_t now_ns)
{
    LR_FAIL_IF(f->cancelled, LR_ECANCEL);
    uint64_t end = end_of(f);
    size_t len = f->log.len;
    int rc = lr_event_append(&f->log, ev);
    if (rc) { /* half an event is none */
        f->log.len = len;
        f->log.rc = 0;
        return rc;
    }
    f->wants_room = live_bytes(f) > LR_FLIGHT_LOG_MAX && too_long(f, now_ns);
    for (struct lr_reader *r = f->readers; r; r = r->next)
        if (r->at == end)
            r->moved_ns = now_ns; /* it had nothing to read until now */
    wake_all(f);
    return f->wants_room ? LR_EBUSY : 0;
}

int lr_flight_push(struct lr_flight *f, const struct lr_event *ev, uint64_t now_ns)
{
    pthread_mutex_lock(&f->mu);
    int rc = push_locked(f, ev, now_ns);
    pthread_mutex_unlock(&f->mu);
    return rc;
}

int lr_flight_pass(struct lr_flight *f, const struct lr_flight_opts *to)
{
    pthread_mutex_lock(&f->mu);
    assert(!f->status && !f->finished);
    bool late = f->cancelled;
    if (!late) {
        f->opts.cancel = to->cancel;
        f->opts.room = to->room;
        f->opts.released = to->released;
        f->opts.producer = to->producer;
    }
    pthread_mutex_unlock(&f->mu);
    return late ? LR_ECANCEL : 0;
}

void lr_flight_finish(struct lr_flight *f, int rc)
{
    struct lr_flights *t = f->table;
    pthread_mutex_lock(&t->mu);
    unlist(f);
    pthread_mutex_lock(&f->mu);
    assert(!f->finished);
    f->finished = true;
    f->rc = rc;
    f->wants_room = false;
    wake_all(f);
    bool last = --f->refs == 0;
    pthread_mutex_unlock(&f->mu);
    pthread_mutex_unlock(&t->mu);
    if (last)
        release(f);
}

static size_t drop_laggards(struct lr_flight *f, uint64_t now_ns)
{
    size_t n = 0;
    if (!f->wants_room)
        return 0;
    trim(f);
    for (struct lr_reader *r = f->readers; r; r = r->next) {
        uint64_t since = r->moved_ns > f->full_ns ? r->moved_ns : f->full_ns;
        if (r->dropped || r->at != f->base || now_ns < since || now_ns - since < LR_FLIGHT_LAG_NS)
            continue;
        r->dropped = true;
        n++;
        retire(f, r);
        wake(r);
    }
    if (n)
        offer_room(f);
    return n;
}

size_t lr_flights_tick(struct lr_flights *t, uint64_t now_ns)
{
    size_t n = 0;
    pthread_mutex_lock(&t->mu);
    for (struct lr_flight *f = t->all; f; f = f->next) {
        pthread_mutex_lock(&f->mu);
        n += drop_laggards(f, now_ns);
        pthread_mutex_unlock(&f->mu);
    }
    pthread_mutex_unlock(&t->mu);
    return n;
}

/* ---- readers ----------------------------------------------------------------------------- */

int lr_reader_head(struct lr_reader *r, void (*suspend)(struct lr_reader *), int *status,
                   struct lr_str *headers)
{
    struct lr_flight *f = r->flight;
    int rc = 0;
    pthread_mutex_lock(&f->mu);
    if (f->status) {
        *status = f->status;
        *headers = lr_buf_str(&f->headers);
    } else if (f->finished) {
        rc = f->rc ? f->rc : LR_ECLOSED;
    } else {
        rc = wait_locked(r, suspend);
    }
    pthread_mutex_unlock(&f->mu);
    return rc;
}

/* How many of the log's bytes are whole events of about `want` bytes, at least one. */
static int measure(struct lr_str log, size_t want, size_t *out)
{
    size_t n = 0, total = log.n;
    struct lr_event ev;
    if (total > want) {
        do {
            size_t left = log.n;
            int rc = lr_event_next(&log, &ev);
            LR_FAIL_IF(rc != 1, LR_ECORRUPT);
            if (n && n + left - log.n > want)
                break;
            n += left - log.n;
        } while (log.n);
    }
    *out = n ? n : total;
    return 0;
}

static int pull_locked(struct lr_reader *r, size_t want, uint64_t now_ns, struct lr_buf *out,
                       void (*suspend)(struct lr_reader *))
{
    struct lr_flight *f = r->flight;
    LR_FAIL_IF(r->dropped, LR_ETIMEOUT);
    if (r->at == end_of(f)) {
        if (f->finished)
            return f->rc ? f->rc : LR_ECLOSED;
        return wait_locked(r, suspend);
    }
    size_t from = f->start + (size_t)(r->at - f->base), n = 0;
    LR_TRY(measure(lr_str(f->log.p + from, f->log.len - from), want, &n));
    LR_TRY(lr_buf_add(out, f->log.p + from, n));
    r->at += n;
    r->moved_ns = now_ns;
    offer_room(f);
    return 0;
}

int lr_reader_pull(struct lr_reader *r, size_t want, uint64_t now_ns, struct lr_buf *out,
                   void (*suspend)(struct lr_reader *))
{
    struct lr_flight *f = r->flight;
    pthread_mutex_lock(&f->mu);
    r->waiting = false;
    int rc = pull_locked(r, want, now_ns, out, suspend);
    pthread_mutex_unlock(&f->mu);
    return rc;
}

void lr_reader_close(struct lr_reader *r)
{
    struct lr_flight *f = r->flight;
    if (!f)
        return;
    pthread_mutex_lock(&f->mu);
    struct lr_reader **at = &f->readers;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->waiting = false;
    if (!r->dropped)
        retire(f, r);
    offer_room(f);
    bool last = --f->refs == 0;
    pthread_mutex_unlock(&f->mu);
    r->flight = NULL;
    if (last)
        release(f);
}

void lr_flight_set_bill(struct lr_flight *f, const struct lr_flight_bill *bill)
{
    pthread_mutex_lock(&f->mu);
    f->bill = *bill;
    pthread_mutex_unlock(&f->mu);
}

void lr_reader_bill(struct lr_reader *r, struct lr_flight_bill *out)
{
    pthread_mutex_lock(&r->flight->mu);
    *out = r->flight->bill;
    pthread_mutex_unlock(&r->flight->mu);
}

void lr_flight_stats(struct lr_flight *f, size_t *readers, uint64_t *bytes)
{
    pthread_mutex_lock(&f->mu);
    *readers = f->joined;
    *bytes = end_of(f);
    pthread_mutex_unlock(&f->mu);
}
