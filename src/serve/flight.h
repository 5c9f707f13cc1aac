/* SPDX-License-Identifier: Apache-2.0
 * serve/flight.h - a flight: one piece of work at an upstream or the engine, and its readers.
 *
 *            producer (net thread, engine)                      readers
 *   head, push, push ... finish ---> [ log of canonical events ] <--- cursor: the client that began it
 *                                     base ^            ^ end    <--- cursor: followers (coalesced)
 *                                                                <--- cursor: keep (stores the answer)
 *
 * The log is bounded (4 MiB). Until the bound it is kept whole, so late joiners read from the start;
 * beyond it the flight is closed to joiners, the front is trimmed to the slowest reader, and push
 * answers LR_EBUSY until there is room (the producer pauses its upstream). A reader that has made no
 * progress for 10 s while it holds the flight up is dropped (its next pull says LR_ETIMEOUT).
 * A flight without readers is cancelled; `keep` alone keeps only a flight opened with `background`.
 *
 * Lock order: table, then flight. wake and suspend callbacks and cancel run under the flight's lock and
 * must not call back into flights.
 */
#ifndef LR_SERVE_FLIGHT_H
#define LR_SERVE_FLIGHT_H

#include "base/base.h"
#include "dialect/dialect.h"

#define LR_FLIGHT_LOG_MAX LR_MIB(4)
#define LR_FLIGHT_LAG_NS (10 * LR_SEC)

struct lr_flights; /* the table of flights that can be joined */
struct lr_flight;

int lr_flights_open(struct lr_flights **out);
void lr_flights_close(struct lr_flights *); /* all flights must have ended */
size_t lr_flights_count(struct lr_flights *); /* in the air, joinable or not */
/* Cancels every flight (shutdown). */
void lr_flights_cancel_all(struct lr_flights *);

/* A reader's cursor; embedded in the reader's own state. */
struct lr_reader {
    struct lr_flight *flight;
    /* Called once, under the lock, when there is something to pull after a pull said "nothing yet". */
    void (*wake)(struct lr_reader *);
    /* It needs the whole answer: woken only when the flight has landed, or is held up by a full log. */
    bool patient;
    /* flight.c's own: */
    uint64_t at;          /* absolute offset of the next byte */
    uint64_t moved_ns;    /* when it last made progress */
    bool waiting, keep, dropped;
    struct lr_reader *next;
};

struct lr_flight_opts {
    const struct lr_digest *key; /* NULL: cannot be joined */
    bool background;             /* lives on `keep` alone; enter's reader is a keep. Entering a flight
                                    that flies already makes it one too */
    /* Asks the producer to stop; called at most once, under the lock; finish must still come. */
    void (*cancel)(void *producer);
    /* There is room again after push said LR_EBUSY (perhaps before that push has returned);
     * under the lock. */
    void (*room)(void *producer);
    /* The last reference is gone: free the producer's state. Not under the lock. */
    void (*released)(void *producer);
    void *producer;
};

/* Joins the flight of opts->key if one can be joined, else opens a new one; either way `reader` is
 * attached at its start. *began says which: the one who began must start the producer, or finish the
 * flight with an error. */
int lr_flight_enter(struct lr_flights *, const struct lr_flight_opts *opts, struct lr_reader *reader,
                    bool *began);
/* A further reader of a flight the caller already reads; keep = has no socket. LR_ECLOSED when the
 * first events are gone already. */
int lr_flight_attach(struct lr_flight *, struct lr_reader *reader, bool keep);

/* ---- producer (one thread at a time) ---- */

/* Status and response headers to pass on ("name: value\n" lines); before the first push. */
int lr_flight_head(struct lr_flight *, int status, struct lr_str headers);
/* Appends an event. LR_EBUSY: appended, but the log is full: stop the source until room(). LR_ECANCEL:
 * nobody reads any more. LR_ENOMEM, LR_EOVER (64 MiB were pushed in spite of LR_EBUSY): not appended. */
int lr_flight_push(struct lr_flight *, const struct lr_event *ev, uint64_t now_ns);
/* Another producer has the work from now on: its callbacks are called, and the caller's no more. Before
 * any head or event. LR_ECANCEL: the caller was asked to stop already, and still has it. */
int lr_flight_pass(struct lr_flight *, const struct lr_flight_opts *to);
/* No more events. rc 0 = complete. The flight leaves the table; drops the producer's reference. */
void lr_flight_finish(struct lr_flight *, int rc);
/* What the work took, of producers that know; before finish. */
struct lr_flight_bill {
    uint64_t queue_ns, prefill_ns, decode_ns; /* waiting, until the first token, from there */
    uint64_t prompt, cached, reply;           /* tokens */
    uint64_t warm[3];                         /* of the cached ones: by tier of the KV store (reuse.h) */
    uint64_t load_ns, saved_ns;               /* loading took; computing would have taken so much more */
};
void lr_flight_set_bill(struct lr_flight *, const struct lr_flight_bill *);
/* Nobody may join from now on (a retry that changed what is asked, an answer that must not be shared). */
void lr_flight_unlist(struct lr_flight *);
/* Drops readers that hold the flight up for LR_FLIGHT_LAG_NS; returns how many. Called now and then
 * by the table's owner for every flight: */
size_t lr_flights_tick(struct lr_flights *, uint64_t now_ns);

/* ---- readers ---- */

/* The head: LR_EBUSY (suspend was called under the lock; wake will come), 0, or the flight's failure
 * before any head. headers live as long as the reader is attached. */
int lr_reader_head(struct lr_reader *, void (*suspend)(struct lr_reader *), int *status,
                   struct lr_str *headers);
/* Copies whole events from the cursor into out (appends; at most about `want` bytes, at least one
 * event). 0 = some; LR_EBUSY = nothing yet: suspend (may be NULL) was called under the lock;
 * LR_ECLOSED = the flight is complete and all was read; LR_ETIMEOUT = dropped as a laggard;
 * else the flight's failure rc (all events before it were read first). */
int lr_reader_pull(struct lr_reader *, size_t want, uint64_t now_ns, struct lr_buf *out,
                   void (*suspend)(struct lr_reader *));
/* Detaches; safe while waiting; the last socketed reader's leaving cancels (see `background`). Must be
 * called exactly once per enter or attach. */
void lr_reader_close(struct lr_reader *);

/* Zeros until the producer has set one. */
void lr_reader_bill(struct lr_reader *, struct lr_flight_bill *out);
/* For explain: readers that joined later than the first, bytes logged. */
void lr_flight_stats(struct lr_flight *, size_t *readers, uint64_t *bytes);

#endif
