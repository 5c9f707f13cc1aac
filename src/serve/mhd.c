/* SPDX-License-Identifier: Apache-2.0
 * serve/mhd.c - the HTTP door over libmicrohttpd: the only file that includes its header.
 *
 * Idea. One daemon an address, epoll inside, one or more event threads each. libmicrohttpd gives
 * parsing, keep-alive, framing and TLS; this file adds what it lacks: noticing that a client hung
 * up while its connection is suspended, a drain, an exchange object without a malloc, and counts.
 *
 *   event thread                       any thread             watcher (one a door)
 *   ready/pull -- park: suspend        wake: resume           EPOLLRDHUP on parked sockets:
 *      ^            state |= PARKED      state &= ~PARKED        state |= GONE, then as wake
 *      +------------------------------------+--------------------------+
 *
 * One struct lr_conn a connection, made when the socket is accepted and reused by each exchange on
 * it, one after the other; libmicrohttpd hands it back as the socket's context. The request target
 * is copied into it because the library cuts and decodes its own copy in place.
 *
 *   phase   IDLE -begin-> BODY -ready-> READY -reply-> REPLIED -sent-> IDLE   (end on the way back)
 *                          |              |  ^ parked and woken
 *                          |              +-stream-> STREAM (pull ...)
 *                          +- refused: the reply is held until the body is swallowed, so that the
 *                             client reads it instead of a reset
 *
 * Who may touch what. All fields but `state` and the list links belong to the connection's event
 * thread (a connection never changes its thread). `state` is atomic. The list of connections and
 * the watcher's set are guarded by door.mu.
 *
 * Locks. The library's cleanup_connection_mutex is taken inside suspend and resume and held there
 * for list surgery only; no callback runs under it (read in 0.9.75: completed comes from close and
 * reset, closed comes with it released). The mutex of a response is held while pull runs, and only
 * the event thread of its connection ever takes it. So: response, then the user's lock (the one
 * shared by park and wake), then the cleanup mutex; and door.mu, then the cleanup mutex. Nothing of
 * the user's is called under door.mu, and park and wake do not take it: no cycle.
 *
 * The races, one by one:
 *
 * wake against park. Both run under the user's lock; park has suspended before it sets PARKED, and
 * whoever clears PARKED, and nobody else, resumes: one resume a suspension.
 *
 * hang-up against park. The watcher sets GONE and then clears PARKED; park sets PARKED and then
 * looks for GONE in the value it replaced. Both are read-modify-writes of one word, so one of the
 * two sees the other, and if both do only one clears PARKED. No connection sleeps with GONE unseen.
 *
 * hang-up against wake. Both want to clear PARKED; the loser does nothing. ready or pull follows.
 *
 * hang-up against end, and descriptor reuse. Events are fetched (with a zero timeout) and handled
 * under door.mu; a connection leaves the set and the list under door.mu before its socket is
 * closed. An event in hand therefore belongs to a living connection, and a new connection on the
 * same number is a new registration. Blocking happens in poll(2) on the epoll descriptor, outside
 * door.mu.
 *
 * reset against a job. The library ends a connection whose socket has an error as soon as it is
 *   resumed, without a call of ready: end would come while a worker still holds the exchange. So a
 *   connection parked for sure is resumed by the wake that is certain, never by the watcher.
 *
 * wake against end. wake is called under the user's lock and end takes that lock, so end returns
 * after wake has; the daemon is stopped only when the count of exchanges is zero, and an exchange
 * is counted until after its end. So resume never touches a stopped daemon.
 *
 * close. The library aborts when it is stopped with a suspended connection. Closing sets `killing`,
 * shuts every socket down and marks it GONE under door.mu, and waits for the count of exchanges to
 * be zero: parked ones are woken, the others see their socket end. begin counts itself before it
 * looks at `killing` and backs out if it is set; close sets it before it looks at the count. A new
 * connection enters the list under door.mu and inherits GONE. Hence nothing is suspended, nor will
 * be, when the daemons are stopped.
 *
 * One-shot registration: hang-up is final, so a socket is added once, at its first park, fires at
 * most once, and is never armed again; a connection that never parks never enters the set. A
 * half-closed client counts as gone, as with nginx: its FIN cannot be told from a hang-up without
 * writing.
 *
 * A reply when gone is thrown away and the connection closed: that is the shortest way to end. A
 * gone connection may park again only for what is certain to come (a job of the worker pool): close
 * waits for it.
 *
 * Known limit: the library reads edge-triggered and takes a short read for the end of what is
 * there, so a FIN that arrives together with the first part of an unfinished request is seen only
 * when the idle time is over. Its exchange may have begun, but was never made ready.
 *
 * Considered and dropped: re-arming at each park (one system call an event for nothing); a
 * generation table for events in hand (poll plus a locked fetch is simpler to prove); closing the
 * listening descriptor at quiesce (event threads may still name it: it is shut down at once and
 * closed last); an object free list for exchanges (reuse by the connection needs none); an early
 * reply to a body that is still on its way (the reset that follows often overtakes it).
 *
 * Sources: libmicrohttpd 0.9.75 manual and source; epoll(7); RFC 9112 section 6.3 (a message with
 * both Transfer-Encoding and Content-Length, or with several lengths, is refused instead of
 * repaired).
 */
#include "serve/door.h"
#include "serve/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection's memory for the head and for reading: longer heads get 414 or 431. */
#define POOL_BYTES LR_KIB(32)
/* Body bytes of a refused request that are read, so that its reply is. */
#define SWALLOW_MAX LR_MIB(16)

#define PULL_BYTES LR_KIB(2) /* pull's buffer for HTTP/1.0 clients; others use the pool */
#define URI_SMALL  192       /* longer targets are copied to the heap */
#define STEP_NS    (2 * LR_MS) /* how often close looks whether the exchanges have ended */

enum { PARKED = 1, GONE = 2, SURE = 4 };
enum phase { IDLE, BODY, READY, REPLIED, STREAM, DEAD };

struct listener {
    struct lr_door *door;
    struct MHD_Daemon *daemon;
    int fd;
    unsigned port;
};

struct lr_conn {
    struct listener *at;
    struct MHD_Connection *mhd;
    struct lr_conn *prev, *next; /* door.mu */
    atomic_uint state;
    int fd;
    enum phase phase;
    bool loopback, watched;
    /* the exchange */
    bool parked;  /* park was called during the running op */
    bool told;    /* ready has seen gone */
    bool refused; /* body bytes are thrown away */
    bool expect, sized, chunked;
    uint64_t length, thrown; /* Content-Length; bytes thrown away */
    const char *method;
    void *user;
    int (*pull)(struct lr_conn *, char *, size_t, size_t *);
    struct MHD_Response *held; /* the reply of a refused request, while its body is swallowed */
    unsigned held_status;
    char *uri;
    size_t uri_len, uri_path, uri_cap; /* uri_path: bytes before '?' */
    char uri_small[URI_SMALL];
};

struct lr_door {
    const struct lr_door_ops *ops;
    void *ctx;
    struct listener *listeners;
    size_t n_listeners;
    char *cert, *key;
    atomic_size_t exchanges, connections;
    atomic_bool draining, killing;
    pthread_mutex_t mu; /* guards the list of connections and the watcher's set */
    struct lr_conn *conns;
    int epoll, stop; /* watcher: its set, and an eventfd that ends it */
    pthread_t watcher;
    bool watching;
};

/* Where the library's complaints go while this thread starts a daemon. */
static _Thread_local char *said;
#define SAID_MAX 160

/* ---- parking ----------------------------------------------------------------------------- */

void lr_conn_wake(struct lr_conn *c)
{
    if (atomic_fetch_and(&c->state, ~(unsigned)(PARKED | SURE)) & PARKED)
        MHD_resume_connection(c->mhd);
}

/* In one step, or a connection could park for sure between the look and the wake. */
static void mark_gone(struct lr_conn *c)
{
    unsigned old = atomic_load(&c->state), new;
    do
        new = (old & SURE ? old : old & ~(unsigned)PARKED) | GONE;
    while (!atomic_compare_exchange_weak(&c->state, &old, new));
    if ((old & PARKED) && !(old & SURE))
        MHD_resume_connection(c->mhd);
}

static void watch(struct lr_conn *c)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = c};
    c->watched = true;
    if (epoll_ctl(c->at->door->epoll, EPOLL_CTL_ADD, c->fd, &ev)) /* out of memory or of watches */
        LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "door", "event=unwatched errno=%d", errno);
}

void lr_conn_park(struct lr_conn *c)
{
    c->parked = true;
    if (!c->watched)
        watch(c);
    MHD_suspend_connection(c->mhd);
    if ((atomic_fetch_or(&c->state, PARKED) & GONE) && !c->told)
        lr_conn_wake(c);
}

void lr_conn_park_sure(struct lr_conn *c)
{
    c->parked = true;
    if (!c->watched)
        watch(c);
    MHD_suspend_connection(c->mhd);
    atomic_fetch_or(&c->state, PARKED | SURE);
}

bool lr_conn_gone(const struct lr_conn *c)
{
    return atomic_load(&c->state) & GONE;
}

static void *watcher_main(void *arg)
{
    struct lr_door *d = arg;
    struct pollfd p[2] = {{.fd = d->epoll, .events = POLLIN}, {.fd = d->stop, .events = POLLIN}};
    struct epoll_event ev[64];
    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            lr_clock_sleep_ns(STEP_NS); /* ENOMEM: try again, slowly */
        if (p[1].revents)
            return NULL;
        pthread_mutex_lock(&d->mu);
        int n = epoll_wait(d->epoll, ev, (int)LR_COUNT(ev), 0);
        for (int i = 0; i < n; i++)
            mark_gone(ev[i].data.ptr);
        pthread_mutex_unlock(&d->mu);
    }
}

/* ---- replies ----------------------------------------------------------------------------- */

static void free_body(void *p)
{
    lr_free(p);
}

/* Framing is the library's; what it would refuse for its bytes is left out, so that a refusal below
 * means memory. */
static bool usable(const struct lr_header *h)
{
    if (!h->name[0] || !h->value[0] || strpbrk(h->name, " \t\r\n") || strpbrk(h->value, "\r\n"))
        return false;
    char first = (char)(h->name[0] | 0x20); /* most names need no more than a look */
    return !(first == 'c' && strcasecmp(h->name, "content-length") == 0) &&
           !(first == 't' && strcasecmp(h->name, "transfer-encoding") == 0);
}

static bool add_headers(struct lr_conn *c, struct MHD_Response *r, const struct lr_header *h,
                        size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (usable(&h[i]) && MHD_add_response_header(r, h[i].name, h[i].value) != MHD_YES &&
            strcasecmp(h[i].name, "connection") != 0)
            return false;
    if (atomic_load_explicit(&c->at->door->draining, memory_order_relaxed))
        return MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    return true;
}

/* Takes r. */
static void answer(struct lr_conn *c, int status, struct MHD_Response *r, const struct lr_header *h,
                   size_t n, enum phase phase)
{
    if (!r || !add_headers(c, r, h, n)) {
        c->phase = DEAD;
    } else if (c->phase == BODY) { /* from begin */
        c->held = r;
        c->held_status = (unsigned)status;
        return;
    } else {
        c->phase = MHD_queue_response(c->mhd, (unsigned)status, r) == MHD_YES ? phase : DEAD;
    }
    if (r)
        MHD_destroy_response(r);
}

static bool may_answer(const struct lr_conn *c)
{
    return !c->told && !c->held && (c->phase == BODY || c->phase == READY);
}

void lr_conn_reply(struct lr_conn *c, int status, const struct lr_header *headers, size_t n,
                   struct lr_buf *body)
{
    char *p = body->p;
    size_t len = body->len;
    bool whole = !body->rc;
    lr_buf_init(body, body->max);
    if (!may_answer(c) || !whole || lr_fault_here()) {
        lr_free(p);
        c->phase = DEAD;
        return;
    }
    struct MHD_Response *r =
        MHD_create_response_from_buffer_with_free_callback(p ? len : 0, p, free_body);
    if (!r)
        lr_free(p);
    answer(c, status, r, headers, n, REPLIED);
}

static ssize_t on_pull(void *cls, uint64_t pos, char *buf, size_t max)
{
    (void)pos;
    struct lr_conn *c = cls;
    if (lr_conn_gone(c))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = 0;
    c->parked = false;
    int rc = c->pull(c, buf, max, &n);
    if (rc)
        return rc == LR_ECLOSED ? MHD_CONTENT_READER_END_OF_STREAM
                                : MHD_CONTENT_READER_END_WITH_ERROR;
    if (n || c->parked)
        return (ssize_t)n;
    LR_LOG_EVERY(LR_SEC, LR_LOG_ERROR, "door", "event=idle_pull");
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

void lr_conn_stream(struct lr_conn *c, int status, const struct lr_header *headers, size_t n,
                    int (*pull)(struct lr_conn *, char *, size_t, size_t *))
{
    if (!may_answer(c) || lr_fault_here()) {
        c->phase = DEAD;
        return;
    }
    c->pull = pull;
    answer(c, status,
           MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PULL_BYTES, on_pull, c, NULL),
           headers, n, STREAM);
}

/* ---- the walk of an exchange ------------------------------------------------------------- */

static enum MHD_Result scan_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_n, const char *value, size_t value_n)
{
    (void)kind;
    struct lr_conn *c = cls;
    struct lr_str k = lr_str(name, name_n), v = lr_str(value, value_n);
    if (lr_str_ieq(k, LR_STR("content-length"))) {
        uint64_t n = 0;
        bool bad = lr_parse_u64(v, &n) != 0 || (c->sized && n != c->length);
        c->refused |= bad;
        c->sized = true;
        c->length = n;
    } else if (lr_str_ieq(k, LR_STR("transfer-encoding"))) {
        c->refused |= c->chunked || !lr_str_ieq(v, LR_STR("chunked"));
        c->chunked = true;
    } else if (lr_str_ieq(k, LR_STR("expect"))) {
        c->expect = true;
    }
    return MHD_YES;
}

/* A request whose framing is ambiguous is answered here; ops never hear of it. */
static enum MHD_Result misframed(struct lr_conn *c)
{
    static char text[] = "ambiguous request framing\n";
    struct MHD_Response *r =
        MHD_create_response_from_buffer(sizeof text - 1, text, MHD_RESPMEM_PERSISTENT);
    if (!r)
        return MHD_NO;
    enum MHD_Result ok = MHD_add_response_header(r, "Connection", "close");
    if (ok == MHD_YES)
        ok = MHD_queue_response(c->mhd, MHD_HTTP_BAD_REQUEST, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result send_held(struct lr_conn *c)
{
    enum MHD_Result ok = MHD_queue_response(c->mhd, c->held_status, c->held);
    MHD_destroy_response(c->held);
    c->held = NULL;
    c->phase = c->pull ? STREAM : REPLIED;
    return ok;
}

static enum MHD_Result begin(struct lr_conn *c, const char *method)
{
    struct lr_door *d = c->at->door;
    c->parked = c->told = c->refused = c->expect = c->sized = c->chunked = false;
    c->length = c->thrown = 0;
    c->method = method;
    c->user = NULL;
    c->pull = NULL;
    MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, scan_header, c);
    if (c->refused || (c->sized && c->chunked))
        return misframed(c);
    atomic_fetch_add(&d->exchanges, 1);
    if (atomic_load(&d->killing)) {
        atomic_fetch_sub(&d->exchanges, 1);
        return MHD_NO;
    }
    c->phase = BODY;
    c->refused = d->ops->begin(c) != 0;
    if (c->phase == DEAD || (c->refused && !c->held))
        return MHD_NO;
    /* Small bodies are swallowed before the refusal is sent; a client that waits for 100-continue,
     * or has more to send than we care to read, is answered now and cut off. */
    if (c->held && (c->expect || c->chunked || c->length > SWALLOW_MAX))
        return send_held(c);
    return MHD_YES;
}

static enum MHD_Result take(struct lr_conn *c, const char *p, size_t n)
{
    if (!c->refused && !c->held) {
        c->refused = c->at->door->ops->body(c, lr_str(p, n)) != 0;
        return MHD_YES;
    }
    c->thrown += n;
    return c->thrown > SWALLOW_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result ready(struct lr_conn *c)
{
    if (c->held)
        return send_held(c);
    bool gone = lr_conn_gone(c);
    if (c->phase == BODY) {
        if (gone)
            return MHD_NO; /* nothing was started for it: end follows */
        c->phase = READY;
    }
    c->told = gone;
    c->parked = false;
    c->at->door->ops->ready(c);
    if (c->phase == READY && !c->parked && !c->told)
        LR_LOG_EVERY(LR_SEC, LR_LOG_ERROR, "door", "event=idle_ready");
    return c->phase == REPLIED || c->phase == STREAM || (c->phase == READY && c->parked) ? MHD_YES
                                                                                         : MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_n, void **ctx)
{
    (void)cls, (void)mhd, (void)url, (void)version;
    struct lr_conn *c = *ctx; /* NULL: no memory at accept or for the target */
    if (!c)
        return MHD_NO;
    if (c->phase == IDLE)
        return begin(c, method);
    if (!*upload_n)
        return ready(c);
    size_t n = *upload_n;
    *upload_n = 0;
    return take(c, upload, n);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **ctx,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls, (void)mhd, (void)code;
    struct lr_conn *c = *ctx;
    if (!c || c->phase == IDLE)
        return;
    c->at->door->ops->end(c);
    if (c->held)
        MHD_destroy_response(c->held);
    c->held = NULL;
    c->phase = IDLE;
    atomic_fetch_sub(&c->at->door->exchanges, 1);
}

/* ---- connections ------------------------------------------------------------------------- */

static struct lr_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a && a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    if (!a || a->sa_family != AF_INET6)
        return false;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

static struct lr_conn *conn_open(struct listener *at, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *addr =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct lr_conn *c = fd && addr ? lr_new(struct lr_conn) : NULL;
    if (!c)
        return NULL;
    struct lr_door *d = at->door;
    c->at = at;
    c->mhd = mhd;
    c->fd = fd->connect_fd;
    c->loopback = is_loopback(addr->client_addr);
    c->uri = c->uri_small;
    c->uri_cap = sizeof c->uri_small;
    pthread_mutex_lock(&d->mu);
    if (atomic_load(&d->killing))
        atomic_store(&c->state, GONE);
    c->next = d->conns;
    if (c->next)
        c->next->prev = c;
    d->conns = c;
    pthread_mutex_unlock(&d->mu);
    atomic_fetch_add(&d->connections, 1);
    return c;
}

static void conn_close(struct lr_conn *c)
{
    struct lr_door *d = c->at->door;
    pthread_mutex_lock(&d->mu);
    if (c->watched) /* fails when the add did, and then there is nothing to remove */
        (void)epoll_ctl(d->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    *(c->prev ? &c->prev->next : &d->conns) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&d->mu);
    if (c->uri != c->uri_small)
        lr_free(c->uri);
    lr_free(c);
    atomic_fetch_sub(&d->connections, 1);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **ctx,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *ctx = conn_open(cls, mhd);
    else if (*ctx)
        conn_close(*ctx);
}

/* Before the library cuts the target up. What is returned comes back as on_request's context. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    (void)cls;
    struct lr_conn *c = conn_of(mhd);
    if (!c)
        return NULL;
    size_t n = uri ? strlen(uri) : 0; /* at most POOL_BYTES */
    if (n > c->uri_cap) {
        char *p = lr_alloc(n);
        if (!p)
            return NULL;
        if (c->uri != c->uri_small)
            lr_free(c->uri);
        c->uri = p;
        c->uri_cap = n;
    }
    if (n)
        memcpy(c->uri, uri, n);
    const char *q = n ? memchr(c->uri, '?', n) : NULL;
    c->uri_len = n;
    c->uri_path = q ? (size_t)(q - c->uri) : n;
    return c;
}

static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls, (void)mhd;
    return strlen(s);
}

/* ---- what ops may ask -------------------------------------------------------------------- */

void *lr_conn_ctx(const struct lr_conn *c)
{
    return c->at->door->ctx;
}

void lr_conn_set_user(struct lr_conn *c, void *user)
{
    c->user = user;
}

void *lr_conn_user(const struct lr_conn *c)
{
    return c->user;
}

struct lr_str lr_conn_method(const struct lr_conn *c)
{
    return lr_strz(c->method);
}

struct lr_str lr_conn_path(const struct lr_conn *c)
{
    return lr_str(c->uri, c->uri_path);
}

struct lr_str lr_conn_query(const struct lr_conn *c)
{
    if (c->uri_path == c->uri_len)
        return lr_str(NULL, 0);
    return lr_str(c->uri + c->uri_path + 1, c->uri_len - c->uri_path - 1);
}

struct lr_str lr_conn_header(const struct lr_conn *c, const char *name)
{
    const char *v = NULL;
    size_t n = 0;
    if (MHD_lookup_connection_value_n(c->mhd, MHD_HEADER_KIND, name, strlen(name), &v, &n) !=
        MHD_YES)
        return lr_str(NULL, 0);
    return lr_str(v ? v : "", v ? n : 0);
}

struct each {
    void (*fn)(void *, struct lr_str, struct lr_str);
    void *ctx;
};

static enum MHD_Result each_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_n, const char *value, size_t value_n)
{
    (void)kind;
    const struct each *e = cls;
    e->fn(e->ctx, lr_str(name, name_n), lr_str(value ? value : "", value ? value_n : 0));
    return MHD_YES;
}

size_t lr_conn_headers(const struct lr_conn *c, void (*fn)(void *, struct lr_str, struct lr_str),
                       void *ctx)
{
    struct each e = {fn, ctx};
    int n = MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, each_header, &e);
    return n > 0 ? (size_t)n : 0;
}

uint64_t lr_conn_content_length(const struct lr_conn *c)
{
    return c->chunked ? UINT64_MAX : c->length;
}

bool lr_conn_loopback(const struct lr_conn *c)
{
    return c->loopback;
}

size_t lr_conn_listener(const struct lr_conn *c)
{
    return (size_t)(c->at - c->at->door->listeners);
}

/* ---- opening ----------------------------------------------------------------------------- */

/* The library formats URLs into some messages: only its format string may reach the log. */
static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    if (said) {
        if (vsnprintf(said, SAID_MAX, fmt, ap) < 0)
            said[0] = 0;
        said[strcspn(said, "\r\n")] = 0;
    }
    lr_log(LR_LOG_DEBUG, "door", "event=library text=\"%.*s\"", (int)strcspn(fmt, "\r\n"), fmt);
}

/* The library's invariants are broken; it does not expect to return from here. */
static void on_panic(void *cls, const char *file, unsigned line, const char *reason)
{
    (void)cls;
    lr_log(LR_LOG_ERROR, "door", "event=panic file=%s line=%u reason=\"%s\"", file, line,
           reason ? reason : "");
    abort();
}

#define OPTION_PTR(fn) ((intptr_t)(fn))

static int start_daemon(struct listener *l, const struct lr_door_opts *o, struct lr_err *err)
{
    struct lr_door *d = l->door;
    unsigned threads = o->threads ? o->threads : 1;
    unsigned most = o->connections_max ? o->connections_max : 4096;
    struct MHD_OptionItem items[16] = {
        {MHD_OPTION_EXTERNAL_LOGGER, OPTION_PTR(on_log), NULL},
        {MHD_OPTION_LISTEN_SOCKET, l->fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, most > threads ? most : threads, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, o->idle_s ? o->idle_s : 120, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_UNESCAPE_CALLBACK, OPTION_PTR(keep_escapes), NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, OPTION_PTR(on_uri), NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, OPTION_PTR(on_completed), NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, OPTION_PTR(on_connection), l},
    };
    size_t n = 10;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    if (threads > 1)
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    if (d->cert) {
        flags |= MHD_USE_TLS;
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, d->cert};
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, d->key};
    }
    items[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    /* Signals are the main thread's; the library's threads inherit the mask of their maker. */
    sigset_t all, old;
    char text[SAID_MAX] = "";
    sigfillset(&all);
    LR_FAIL_IF(pthread_sigmask(SIG_SETMASK, &all, &old), LR_EINVAL);
    said = text;
    l->daemon = lr_fault_here() ? NULL
                                : MHD_start_daemon(flags, 0, NULL, NULL, on_request, l,
                                                   MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    said = NULL;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* restoring what was just read cannot fail */
    if (!l->daemon)
        return lr_err_set(err, d->cert ? LR_ETLS : LR_EIO, "http", "server not started: %s",
                          text[0] ? text : "out of memory");
    return 0;
}

static int prepare(struct lr_door *d, const struct lr_door_opts *o)
{
    d->ops = o->ops;
    d->ctx = o->ctx;
    d->epoll = d->stop = -1;
    pthread_mutex_init(&d->mu, NULL);
    d->listeners = lr_calloc(o->n_listen, sizeof *d->listeners);
    LR_FAIL_IF(!d->listeners, LR_ENOMEM);
    if (o->tls_cert.n) {
        d->cert = lr_strndup(o->tls_cert.p, o->tls_cert.n);
        d->key = lr_strndup(o->tls_key.n ? o->tls_key.p : "", o->tls_key.n);
        LR_FAIL_IF(!d->cert || !d->key, LR_ENOMEM);
    }
    LR_FAIL_IF(lr_fault_here(), LR_EIO);
    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    d->stop = eventfd(0, EFD_CLOEXEC);
    LR_FAIL_IF(d->epoll < 0 || d->stop < 0, LR_EIO);
    MHD_set_panic_func(on_panic, NULL);
    return 0;
}

int lr_door_open(struct lr_door **out, const struct lr_door_opts *o, struct lr_err *err)
{
    if (!o->n_listen || !o->ops)
        return lr_err_set(err, LR_EINVAL, "http.listen", "no address to listen on");
    struct lr_door *d = lr_new(struct lr_door);
    if (!d)
        return lr_err_set(err, LR_ENOMEM, "http", "out of memory");
    int rc = prepare(d, o);
    for (size_t i = 0; !rc && i < o->n_listen; i++) {
        struct listener *l = &d->listeners[i];
        l->door = d;
        rc = lr_listen_on(o->listen[i], &l->fd, err);
        if (rc)
            break;
        l->port = lr_listen_port(l->fd);
        d->n_listeners++;
    }
    if (!rc)
        rc = lr_thread_start(&d->watcher, "door-watch", watcher_main, d);
    if (rc)
        goto undo;
    d->watching = true;
    for (size_t i = 0; !rc && i < d->n_listeners; i++)
        rc = start_daemon(&d->listeners[i], o, err);
    if (rc)
        goto undo;
    *out = d;
    return 0;
undo:
    lr_door_close(d, 0);
    return lr_err_set(err, rc, "http", "%s", lr_strerror(rc));
}

unsigned lr_door_port(const struct lr_door *d, size_t i)
{
    return i < d->n_listeners ? d->listeners[i].port : 0;
}

size_t lr_door_exchanges(const struct lr_door *d)
{
    return atomic_load(&d->exchanges);
}

size_t lr_door_connections(const struct lr_door *d)
{
    return atomic_load(&d->connections);
}

/* ---- closing ----------------------------------------------------------------------------- */

void lr_door_quiesce(struct lr_door *d)
{
    if (atomic_exchange(&d->draining, true))
        return;
    for (size_t i = 0; i < d->n_listeners; i++) {
        struct listener *l = &d->listeners[i];
        if (l->daemon)
            (void)MHD_quiesce_daemon(l->daemon); /* returns l->fd, which stays ours */
        (void)shutdown(l->fd, SHUT_RD); /* refuse at once; fails harmlessly when it has done so */
    }
}

static void wait_for_ends(struct lr_door *d, uint64_t until_ns)
{
    while (atomic_load(&d->exchanges) && (until_ns == UINT64_MAX || lr_clock_mono_ns() < until_ns))
        lr_clock_sleep_ns(STEP_NS);
}

static void hang_up_all(struct lr_door *d)
{
    pthread_mutex_lock(&d->mu);
    atomic_store(&d->killing, true);
    for (struct lr_conn *c = d->conns; c; c = c->next) {
        (void)shutdown(c->fd, SHUT_RDWR); /* a socket that is closed already needs none */
        mark_gone(c);
    }
    pthread_mutex_unlock(&d->mu);
}

void lr_door_close(struct lr_door *d, uint64_t drain_ns)
{
    if (!d)
        return;
    uint64_t now = lr_clock_mono_ns();
    lr_door_quiesce(d);
    wait_for_ends(d, drain_ns > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + drain_ns);
    hang_up_all(d);
    wait_for_ends(d, UINT64_MAX);
    if (d->watching) {
        uint64_t one = 1;
        while (write(d->stop, &one, sizeof one) < 0 && errno == EINTR)
            ;
        pthread_join(d->watcher, NULL);
    }
    for (size_t i = 0; i < d->n_listeners; i++) {
        if (d->listeners[i].daemon)
            MHD_stop_daemon(d->listeners[i].daemon);
        close(d->listeners[i].fd);
    }
    if (d->epoll >= 0)
        close(d->epoll);
    if (d->stop >= 0)
        close(d->stop);
    pthread_mutex_destroy(&d->mu);
    lr_free(d->listeners);
    lr_free(d->cert);
    lr_free(d->key);
    lr_free(d);
}
