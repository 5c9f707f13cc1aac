/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/net/peer.h - both ends of a test: a scripted raw-socket server, a thread a connection,
 * and a call that remembers everything net/ told it.
 */
#ifndef LR_TEST_NET_PEER_H
#define LR_TEST_NET_PEER_H

#include "net/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEER_CONNS 1024

struct peer_conn;
/* Plays one connection; a return closes it. */
typedef void peer_script(struct peer_conn *);

struct peer {
    peer_script *script;
    void *arg;
    int fd;
    uint16_t port;
    char url[64]; /* http://127.0.0.1:PORT */
    pthread_t thread;
    atomic_int n_conns, n_requests;
    atomic_bool stop;
    struct peer_conn {
        struct peer *peer;
        int fd;
        pthread_t thread;
        char in[65536]; /* the request: head, then body */
        size_t n;       /* bytes in `in` */
        size_t head;    /* of them the head */
        size_t used;    /* head and body */
    } * conns[PEER_CONNS];
};

static inline bool peer_recv(struct peer_conn *c)
{
    if (c->n == sizeof c->in - 1)
        return false;
    ssize_t k = recv(c->fd, c->in + c->n, sizeof c->in - 1 - c->n, 0);
    if (k <= 0)
        return false;
    c->n += (size_t)k;
    c->in[c->n] = 0;
    return true;
}

/* Value of a request header, "" when absent. */
static inline struct lr_str peer_header(const struct peer_conn *c, const char *name)
{
    struct lr_str rest = lr_str(c->in, c->head);
    lr_str_cut(&rest, '\n');
    while (rest.p) {
        struct lr_str value = lr_str_cut(&rest, '\n');
        struct lr_str key = lr_str_cut(&value, ':');
        if (lr_str_ieq(lr_str_trim(key), lr_strz(name)))
            return lr_str_trim(value);
    }
    return LR_STR("");
}

/* Reads the next request (bodies by Content-Length). False at the end of the connection. */
static inline bool peer_request(struct peer_conn *c)
{
    memmove(c->in, c->in + c->used, c->n - c->used);
    c->n -= c->used;
    c->used = c->head = 0;
    c->in[c->n] = 0;
    char *end;
    while (!(end = strstr(c->in, "\r\n\r\n")))
        if (!peer_recv(c))
            return false;
    c->head = (size_t)(end - c->in) + 4;
    uint64_t body = 0;
    if (lr_parse_u64(peer_header(c, "content-length"), &body))
        body = 0;
    while (c->n < c->head + body)
        if (!peer_recv(c))
            return false;
    c->used = c->head + (size_t)body;
    atomic_fetch_add(&c->peer->n_requests, 1);
    return true;
}

static inline bool peer_send(struct peer_conn *c, const char *p, size_t n)
{
    while (n) {
        ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static inline bool peer_says(struct peer_conn *c, const char *z)
{
    return peer_send(c, z, strlen(z));
}

/* Waits until the other side hangs up or the test ends. */
static inline void peer_wait_gone(struct peer_conn *c)
{
    while (peer_recv(c))
        c->n = 0;
}

static inline void peer_reset(struct peer_conn *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
}

static inline void *peer_play(void *arg)
{
    struct peer_conn *c = arg;
    c->peer->script(c);
    /* The descriptor stays open until peer_close, which may be shutting it down right now; a reset
     * asked for by the script comes with the close below. */
    struct linger l;
    socklen_t n = sizeof l;
    if (!getsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, &n) && l.l_onoff) {
        struct sockaddr none = {.sa_family = AF_UNSPEC};
        (void)connect(c->fd, &none, sizeof none); /* disconnects with a reset */
    } else {
        (void)shutdown(c->fd, SHUT_RDWR); /* may be closed by the peer already */
    }
    return NULL;
}

static inline void *peer_accept(void *arg)
{
    struct peer *p = arg;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, LR_KIB(512));
    for (int i = 0; i < PEER_CONNS; i++) {
        int fd = accept(p->fd, NULL, NULL);
        if (fd < 0 || atomic_load(&p->stop)) {
            if (fd >= 0)
                close(fd);
            break;
        }
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        /* not lr_: fault points are for the code under test */
        struct peer_conn *c = calloc(1, sizeof *c);
        c->peer = p;
        c->fd = fd;
        p->conns[i] = c;
        atomic_fetch_add(&p->n_conns, 1);
        pthread_create(&c->thread, &attr, peer_play, c);
    }
    pthread_attr_destroy(&attr);
    return NULL;
}

static inline void peer_open(struct peer *p, peer_script *script, void *arg)
{
    memset(p, 0, sizeof *p);
    p->script = script;
    p->arg = arg;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    assert_int_equal(bind(p->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(p->fd, 1024), 0);
    assert_int_equal(getsockname(p->fd, (struct sockaddr *)&a, &n), 0);
    p->port = ntohs(a.sin_port);
    snprintf(p->url, sizeof p->url, "http://127.0.0.1:%u", (unsigned)p->port);
    pthread_create(&p->thread, NULL, peer_accept, p);
}

/* Ends the scripts by shutting their sockets down. */
static inline void peer_close(struct peer *p)
{
    atomic_store(&p->stop, true);
    shutdown(p->fd, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->fd);
    for (int i = 0; i < atomic_load(&p->n_conns); i++) {
        shutdown(p->conns[i]->fd, SHUT_RDWR);
        pthread_join(p->conns[i]->thread, NULL);
        close(p->conns[i]->fd);
        free(p->conns[i]);
    }
}

/* ---- the calling end ---- */

struct call {
    struct lr_net_req req;
    char url[256];
    struct lr_net *net;
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t news;
    int n_done, rc, status, n_heads, n_bodies, n_paused;
    bool head_stops;
    int pause_every;  /* refuse every n-th piece once; 0 = none */
    bool pausing;     /* the piece at hand was refused once */
    size_t body_stop; /* stop after so many bytes; 0 = none */
    struct lr_err err;
    struct lr_buf body, head; /* head: "name: value\n" lines */
};

static inline int call_head(struct lr_net_req *r, const struct lr_net_head *h)
{
    struct call *c = LR_CONTAINER(r, struct call, req);
    pthread_mutex_lock(&c->mu);
    c->status = h->status;
    c->n_heads++;
    lr_buf_reset(&c->head);
    for (size_t i = 0; i < h->n; i++)
        lr_buf_addf(&c->head, "%.*s: %.*s\n", LR_FMT(h->headers[i].name),
                    LR_FMT(h->headers[i].value));
    bool stop = c->head_stops;
    pthread_cond_broadcast(&c->news);
    pthread_mutex_unlock(&c->mu);
    return stop ? LR_NET_STOP : LR_NET_GO;
}

static inline int call_body(struct lr_net_req *r, const char *p, size_t n)
{
    struct call *c = LR_CONTAINER(r, struct call, req);
    pthread_mutex_lock(&c->mu);
    int what = LR_NET_GO;
    if (c->pause_every && !c->pausing && c->n_bodies % c->pause_every == 0) {
        c->pausing = true;
        c->n_paused++;
        what = LR_NET_PAUSE;
    } else {
        c->pausing = false;
        c->n_bodies++;
        lr_buf_add(&c->body, p, n);
        if (c->body_stop && c->body.len >= c->body_stop)
            what = LR_NET_STOP;
    }
    pthread_cond_broadcast(&c->news);
    pthread_mutex_unlock(&c->mu);
    return what;
}

static inline void call_done(struct lr_net_req *r, int rc, const struct lr_err *err)
{
    struct call *c = LR_CONTAINER(r, struct call, req);
    pthread_mutex_lock(&c->mu);
    c->n_done++;
    c->rc = rc;
    c->err = *err;
    pthread_cond_broadcast(&c->news);
    pthread_mutex_unlock(&c->mu);
}

static inline void call_init(struct call *c, struct lr_net *n, const char *base, const char *path)
{
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->mu, NULL);
    pthread_cond_init(&c->news, NULL);
    lr_buf_init(&c->body, LR_MIB(64));
    lr_buf_init(&c->head, LR_MIB(1));
    snprintf(c->url, sizeof c->url, "%s%s", base, path);
    c->net = n;
    c->req.method = "GET";
    c->req.url = c->url;
    c->req.on_head = call_head;
    c->req.on_body = call_body;
    c->req.on_done = call_done;
}

static inline void call_free(struct call *c)
{
    lr_buf_free(&c->body);
    lr_buf_free(&c->head);
    pthread_cond_destroy(&c->news);
    pthread_mutex_destroy(&c->mu);
}

/* Waits for the done of the last start, resuming whenever the call paused. */
static inline int call_wait(struct call *c)
{
    pthread_mutex_lock(&c->mu);
    int resumed = 0;
    while (!c->n_done) {
        if (c->n_paused > resumed) {
            resumed = c->n_paused;
            lr_net_resume(c->net, &c->req); /* under the lock that on_done takes */
        }
        pthread_cond_wait(&c->news, &c->mu);
    }
    int rc = c->rc;
    pthread_mutex_unlock(&c->mu);
    return rc;
}

static inline int call_run(struct call *c)
{
    lr_buf_reset(&c->body);
    c->n_done = c->status = c->n_heads = c->n_bodies = c->n_paused = 0;
    c->err = (struct lr_err){0};
    assert_int_equal(lr_net_start(c->net, &c->req), 0);
    return call_wait(c);
}

/* One GET, start to end; the caller frees c. */
static inline int call_get(struct call *c, struct lr_net *n, const char *base, const char *path)
{
    call_init(c, n, base, path);
    return call_run(c);
}

static inline struct lr_net *net_open(const struct lr_net_opts *o)
{
    struct lr_net *n;
    assert_int_equal(lr_net_open(&n, o), 0);
    return n;
}

#endif
