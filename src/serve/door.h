/* SPDX-License-Identifier: Apache-2.0
 * serve/door.h - the HTTP door: libmicrohttpd behind a dozen verbs (implemented in mhd.c alone).
 *
 *   headers in: begin -> body* -> ready -+-> reply (whole)      -> end
 *                                 ^      +-> stream (pull ...)  -> end
 *                                 |      +-> park ... wake --+
 *                                 +--------------------------+
 *
 * All ops of one connection run on one event thread, one at a time, and must not block. wake may be
 * called from any thread. A parked connection costs no CPU; a client that hangs up while parked is
 * noticed (EPOLLRDHUP on our own epoll) and woken with gone() true.
 */
#ifndef LR_SERVE_DOOR_H
#define LR_SERVE_DOOR_H

#include "base/base.h"

struct lr_door;
struct lr_conn; /* one HTTP exchange */

struct lr_door_ops {
    /* Request line and headers are in. 0 = read the body; else reply has been called (413, 403 ...): it
     * goes out after a body of up to 16 MiB was thrown away (so that the client reads it), at once and
     * closing when the body is longer, chunked, or waits for 100-continue. Sets lr_conn_set_user. */
    int (*begin)(struct lr_conn *);
    /* More of the body. Nonzero: the request is refused; the bytes that follow are thrown away and
     * ready is called as if the body had ended (it replies with the error). */
    int (*body)(struct lr_conn *, struct lr_str bytes);
    /* The body is whole, or the connection was woken: reply, stream, or park, before returning. */
    void (*ready)(struct lr_conn *);
    /* Always the last call for an exchange whose begin was called: sent, hung up, or shut down. */
    void (*end)(struct lr_conn *);
};

struct lr_door_opts {
    const char *const *listen; /* "host:port" or "[::1]:port"; port 0 picks one */
    size_t n_listen;
    unsigned threads;          /* event threads an address; 0 = 1 */
    unsigned connections_max;  /* 0 = 4096 */
    unsigned idle_s;           /* 0 = 120 */
    struct lr_str tls_cert, tls_key; /* PEM contents; empty = plain */
    const struct lr_door_ops *ops;
    void *ctx;                 /* lr_conn_ctx */
};
int lr_door_open(struct lr_door **out, const struct lr_door_opts *, struct lr_err *err);
/* The port of listen[i] (for port 0). */
unsigned lr_door_port(const struct lr_door *, size_t i);
/* Stops accepting, lets exchanges in progress finish up to `drain_ns`, wakes the parked ones with gone()
 * true after it, joins all threads, frees. Every begun exchange has had its end when it returns. */
void lr_door_close(struct lr_door *, uint64_t drain_ns);
/* Exchanges begun and not ended; connections open. */
size_t lr_door_exchanges(const struct lr_door *);
size_t lr_door_connections(const struct lr_door *);
/* No new connections; readiness can say so (first half of close). */
void lr_door_quiesce(struct lr_door *);

void *lr_conn_ctx(const struct lr_conn *);
void lr_conn_set_user(struct lr_conn *, void *user);
void *lr_conn_user(const struct lr_conn *);

/* Views valid until end. Header names match without case; absent: empty view with p NULL. */
struct lr_str lr_conn_method(const struct lr_conn *);
struct lr_str lr_conn_path(const struct lr_conn *);  /* undecoded, without query */
struct lr_str lr_conn_query(const struct lr_conn *); /* after '?', undecoded */
struct lr_str lr_conn_header(const struct lr_conn *, const char *name);
/* All request headers in order; returns how often fn was called. */
size_t lr_conn_headers(const struct lr_conn *, void (*fn)(void *ctx, struct lr_str name, struct lr_str value),
                       void *ctx);
/* UINT64_MAX when the request does not say (chunked). */
uint64_t lr_conn_content_length(const struct lr_conn *);
bool lr_conn_loopback(const struct lr_conn *); /* the peer is 127/8 or ::1 */
size_t lr_conn_listener(const struct lr_conn *); /* index into listen[] */

struct lr_header {
    const char *name, *value; /* NUL-terminated, no CR or LF; copied by reply and stream */
};
/* Answers with a whole body; takes body->p (body is left empty), also on error. Content-Length is set
 * by the door. Once per exchange. On failure (memory) the connection is closed. */
void lr_conn_reply(struct lr_conn *, int status, const struct lr_header *headers, size_t n,
                   struct lr_buf *body);
/* Answers with a chunked stream: pull is called on the event thread whenever there is room.
 *   0 and *n > 0: bytes written to buf;  0 and *n == 0: nothing now, pull has parked the connection;
 *   LR_ECLOSED: the stream ends well;  any other: the connection is torn down (an aborted chunked body). */
void lr_conn_stream(struct lr_conn *, int status, const struct lr_header *headers, size_t n,
                    int (*pull)(struct lr_conn *, char *buf, size_t max, size_t *n));
/* To be called from ready or pull, holding the lock that the waker takes as well: the check that there
 * is nothing to do and the parking are then one step. */
void lr_conn_park(struct lr_conn *);
/* The same, for a wake that is certain and near (a job of the worker pool): a hang-up meanwhile is
 * noted, and neither wakes nor ends the exchange before it. */
void lr_conn_park_sure(struct lr_conn *);
/* From any thread, under that same lock, at most once per park; never after end was called (end takes
 * the lock and removes the connection from whoever would wake it). */
void lr_conn_wake(struct lr_conn *);
/* The client hung up (or half-closed: the two look the same), or the door is closing and its drain is
 * over: clean up and reply anything (it is thrown away and end follows). Parking again is allowed for
 * what is certain to wake, such as a job that runs: close waits for it. A stream that is gone is not
 * pulled any more: its end follows. */
bool lr_conn_gone(const struct lr_conn *);

#endif
