/* SPDX-License-Identifier: Apache-2.0
 * unit/serve/wire.h - a raw client: bytes out, one response in. A read gives up after 20 s, which
 * only a hang reaches.
 */
#ifndef LR_TEST_WIRE_H
#define LR_TEST_WIRE_H

#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_PATIENCE_S 20

struct wire {
    int fd;
    size_t n; /* bytes in buf not yet consumed */
    char buf[LR_KIB(64)];
};

struct response {
    int status;
    bool close, chunked;
    struct lr_buf body;
};

static inline int wire_dial(struct wire *w, unsigned port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = WIRE_PATIENCE_S};
    int one = 1;
    w->n = 0;
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (w->fd < 0)
        return LR_EIO;
    setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(w->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(w->fd, (struct sockaddr *)&a, sizeof a)) {
        close(w->fd);
        return LR_ENET;
    }
    return 0;
}

static inline void wire_hang_up(struct wire *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

static inline bool wire_say(struct wire *w, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t k = send(w->fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        at += k;
        n -= (size_t)k;
    }
    return true;
}

static inline bool wire_sayz(struct wire *w, const char *z)
{
    return wire_say(w, z, strlen(z));
}

/* More bytes into buf: how many; 0 = the peer is done; LR_ETIMEOUT, LR_ENET. */
static inline int wire_more(struct wire *w)
{
    ssize_t k;
    do
        k = recv(w->fd, w->buf + w->n, sizeof w->buf - w->n, 0);
    while (k < 0 && errno == EINTR);
    if (k < 0)
        return errno == EAGAIN ? LR_ETIMEOUT : LR_ENET;
    w->n += (size_t)k;
    return (int)k;
}

static inline void wire_eat(struct wire *w, size_t n)
{
    w->n -= n;
    memmove(w->buf, w->buf + n, w->n);
}

/* One line without its CRLF into out; false at the end. */
static inline bool wire_line(struct wire *w, char *out, size_t max)
{
    for (;;) {
        char *nl = w->n ? memchr(w->buf, '\n', w->n) : NULL;
        if (nl) {
            size_t n = (size_t)(nl - w->buf), len = n && nl[-1] == '\r' ? n - 1 : n;
            len = len < max ? len : max - 1;
            memcpy(out, w->buf, len);
            out[len] = 0;
            wire_eat(w, n + 1);
            return true;
        }
        if (wire_more(w) <= 0)
            return false;
    }
}

static inline bool wire_body(struct wire *w, struct lr_buf *out, uint64_t n)
{
    while (n) {
        if (!w->n && wire_more(w) <= 0)
            return false;
        size_t k = w->n < n ? w->n : (size_t)n;
        if (lr_buf_add(out, w->buf, k))
            return false;
        wire_eat(w, k);
        n -= k;
    }
    return true;
}

/* One chunk appended to out: its size, 0 for the last, negative when there is none. */
static inline long wire_chunk(struct wire *w, struct lr_buf *out)
{
    char line[64];
    if (!wire_line(w, line, sizeof line))
        return -1;
    unsigned long n = strtoul(line, NULL, 16);
    if (!wire_body(w, out, n) || !wire_line(w, line, sizeof line) || line[0])
        return -1;
    return (long)n;
}

/* Status line and headers; *length is UINT64_MAX when not said. */
static inline bool wire_head(struct wire *w, struct response *r, uint64_t *length)
{
    char line[4096];
    *length = UINT64_MAX;
    r->close = r->chunked = false;
    if (!wire_line(w, line, sizeof line) || strncmp(line, "HTTP/1.", 7) != 0)
        return false;
    r->status = (int)strtol(line + 9, NULL, 10);
    while (wire_line(w, line, sizeof line)) {
        if (!line[0])
            return true;
        if (!strncasecmp(line, "content-length:", 15))
            *length = strtoull(line + 15, NULL, 10);
        r->close |= !strcasecmp(line, "connection: close");
        r->chunked |= !strcasecmp(line, "transfer-encoding: chunked");
    }
    return false;
}

/* A whole response; r->body is emptied first. False when it is cut off. */
static inline bool wire_hear(struct wire *w, struct response *r)
{
    uint64_t length;
    long k;
    lr_buf_reset(&r->body);
    if (!wire_head(w, r, &length))
        return false;
    if (r->chunked) {
        while ((k = wire_chunk(w, &r->body)) > 0)
            ;
        return k == 0;
    }
    if (length != UINT64_MAX)
        return wire_body(w, &r->body, length);
    while (wire_body(w, &r->body, 1))
        ;
    return true;
}

/* The peer has closed and nothing is left to read. */
static inline bool wire_over(struct wire *w)
{
    int k = w->n ? 1 : wire_more(w);
    return k == 0 || k == LR_ENET;
}

#endif
