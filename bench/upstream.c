/* SPDX-License-Identifier: Apache-2.0
 * bench/upstream.c - a fake LLM upstream that costs next to nothing: one thread, epoll, Chat
 * Completions whole and streamed, an empty text of a stated size or events at a stated pace.
 *
 *   bench_upstream [--port 0] [--answer 1024] [--think-us 0] [--events 100] [--interval-us 10000]
 *
 * Prints "port N" when it listens. Any POST is a chat request; its answer is a stream when
 * `"stream":true` stands in the first 4 KiB of its body, a whole answer otherwise. --answer is the
 * size of the message's text in bytes. --think-us passes between the end of a request and its
 * answer or its first event.
 *
 * An event of a stream carries "@<nanoseconds>@" as its text: CLOCK_MONOTONIC when it was handed
 * to the kernel. A reader on the same machine subtracts (bench/streams.c). Events are due at fixed
 * moments: one that is written late does not push the next one back.
 *
 * Timers. All waits of a kind (thinking, the pace) have one length, so those that wait form two
 * queues that are in order of due time without sorting.
 */
#include "base/base.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX   16384 /* request head and the part of the body that is looked at */
#define LOOK_AT    4096
#define ANSWER_MAX LR_MIB(4)
#define OUT_MAX    LR_MIB(8) /* unread bytes of a client; beyond it is cut off */

struct opts {
    uint64_t port, answer, think_us, events, interval_us;
};

struct queue;
struct conn {
    int fd;
    bool streams, want_out, usage;
    size_t n; /* bytes in buf */
    size_t body_left;
    bool in_body;
    char buf[HEAD_MAX];
    struct lr_buf out;
    size_t out_at;
    uint64_t due_ns, sent_events;
    struct queue *waits;
    struct conn *prev, *next; /* of the queue */
};
struct queue {
    struct conn *head, *tail;
};

struct upstream {
    struct opts o;
    int epoll, listener;
    struct queue thinking, pacing;
    struct lr_buf whole; /* head and body of the whole answer */
};

/* ---- queues ------------------------------------------------------------------------------ */

static void wait_until(struct queue *q, struct conn *c, uint64_t due_ns)
{
    c->due_ns = due_ns;
    c->waits = q;
    c->next = NULL;
    c->prev = q->tail;
    *(q->tail ? &q->tail->next : &q->head) = c;
    q->tail = c;
}

static void stop_waiting(struct conn *c)
{
    struct queue *q = c->waits;
    if (!q)
        return;
    *(c->prev ? &c->prev->next : &q->head) = c->next;
    *(c->next ? &c->next->prev : &q->tail) = c->prev;
    c->waits = NULL;
}

/* ---- answers ----------------------------------------------------------------------------- */

static int make_whole(struct upstream *u)
{
    struct lr_buf body;
    lr_buf_init(&body, ANSWER_MAX);
    lr_buf_init(&u->whole, ANSWER_MAX);
    lr_buf_addz(&body,
                "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,"
                "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                "\"assistant\",\"content\":\"");
    for (uint64_t i = 0; i < u->o.answer; i++)
        lr_buf_addc(&body, i % 6 == 5 ? ' ' : (char)('a' + i % 23));
    lr_buf_addz(&body,
                "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens"
                "\":100,\"completion_tokens\":200,\"total_tokens\":300}}");
    lr_buf_addf(&u->whole,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                body.len);
    lr_buf_adds(&u->whole, lr_buf_str(&body));
    int rc = body.rc ? body.rc : u->whole.rc;
    lr_buf_free(&body);
    return rc;
}

static void chunk(struct conn *c, const char *data)
{
    lr_buf_addf(&c->out, "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data);
}

static void add_event(struct upstream *u, struct conn *c)
{
    static const char frame[] =
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","
        "\"created\":1700000000,\"model\":\"bench\",\"choices\":[{\"index\":"
        "0,\"delta\":{%s\"content\":\"@%llu@\"},\"finish_reason\":null}]}";
    char data[512];
    if (snprintf(data, sizeof data, frame, c->sent_events ? "" : "\"role\":\"assistant\",",
                 (unsigned long long)lr_clock_mono_ns()) > 0)
        chunk(c, data);
    if (++c->sent_events < u->o.events)
        return;
    chunk(
        c,
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}");
    if (c->usage)
        chunk(c, "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":"
                 "1700000000,\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":100,"
                 "\"completion_tokens\":200,\"total_tokens\":300}}");
    chunk(c, "[DONE]");
    lr_buf_addz(&c->out, "0\r\n\r\n");
}

/* ---- connections ------------------------------------------------------------------------- */

static void drop(struct conn *c)
{
    stop_waiting(c);
    close(c->fd);
    lr_buf_free(&c->out);
    lr_free(c);
}

static int flush(struct upstream *u, struct conn *c)
{
    LR_TRY(c->out.rc);
    while (c->out_at < c->out.len) {
        ssize_t k =
            send(c->fd, c->out.p + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno != EAGAIN)
            return LR_ENET;
        if (k < 0)
            break;
        c->out_at += (size_t)k;
    }
    bool want = c->out_at < c->out.len;
    if (!want) {
        lr_buf_reset(&c->out);
        c->out_at = 0;
    }
    if (want == c->want_out)
        return 0;
    c->want_out = want;
    struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = c};
    return epoll_ctl(u->epoll, EPOLL_CTL_MOD, c->fd, &ev) ? LR_EIO : 0;
}

/* The request is whole, and the time to think is over. */
static int answer(struct upstream *u, struct conn *c)
{
    if (!c->streams) {
        lr_buf_adds(&c->out, lr_buf_str(&u->whole));
        return flush(u, c);
    }
    lr_buf_addz(&c->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
                         "chunked\r\n\r\n");
    c->sent_events = 0;
    wait_until(&u->pacing, c, lr_clock_mono_ns() + u->o.interval_us * LR_US);
    return flush(u, c);
}

static int pace(struct upstream *u, struct conn *c)
{
    uint64_t due = c->due_ns;
    add_event(u, c);
    if (c->sent_events < u->o.events)
        wait_until(&u->pacing, c, due + u->o.interval_us * LR_US);
    return flush(u, c);
}

static int whole_request(struct upstream *u, struct conn *c)
{
    if (!u->o.think_us)
        return answer(u, c);
    wait_until(&u->thinking, c, lr_clock_mono_ns() + u->o.think_us * LR_US);
    return 0;
}

/* ---- requests ---------------------------------------------------------------------------- */

/* The head is whole: how long is the body, and does it want a stream? The look at the body waits
 * for its first bytes. */
static int read_head(struct conn *c, const char *end)
{
    size_t head = (size_t)(end - c->buf) + 4;
    uint64_t length = 0;
    struct lr_str rest = lr_str(c->buf, head);
    while (rest.p) {
        struct lr_str value = lr_str_cut(&rest, '\n'), name = lr_str_cut(&value, ':');
        if (value.p && lr_str_ieq(name, LR_STR("content-length")))
            LR_TRY(lr_parse_u64(lr_str_trim(value), &length));
    }
    size_t look = length < LOOK_AT ? (size_t)length : LOOK_AT;
    if (c->n - head < look)
        return LR_EBUSY;
    static const char stream[] = "\"stream\":true", usage[] = "include_usage";
    c->streams = memmem(c->buf + head, look, stream, sizeof stream - 1) != NULL;
    c->usage = memmem(c->buf + head, look, usage, sizeof usage - 1) != NULL;
    c->in_body = true;
    c->body_left = (size_t)length;
    c->n -= head;
    memmove(c->buf, c->buf + head, c->n);
    return 0;
}

/* Takes requests out of buf; nonzero: the connection is of no more use. */
static int digest(struct upstream *u, struct conn *c)
{
    for (;;) {
        if (!c->in_body) {
            const char *end = memmem(c->buf, c->n, "\r\n\r\n", 4);
            int rc = end ? read_head(c, end) : LR_EBUSY;
            if (rc == LR_EBUSY)
                return c->n == sizeof c->buf ? LR_EOVER : 0;
            LR_TRY(rc);
        }
        size_t k = c->n < c->body_left ? c->n : c->body_left;
        c->body_left -= k;
        c->n -= k;
        memmove(c->buf, c->buf + k, c->n);
        if (c->body_left)
            return 0;
        c->in_body = false;
        LR_TRY(whole_request(u, c));
    }
}

static int readable(struct upstream *u, struct conn *c)
{
    for (;;) {
        ssize_t k = recv(c->fd, c->buf + c->n, sizeof c->buf - c->n, MSG_DONTWAIT);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return 0;
        LR_FAIL_IF(k <= 0, LR_ENET);
        bool more = (size_t)k == sizeof c->buf - c->n;
        c->n += (size_t)k;
        LR_TRY(digest(u, c));
        if (!more)
            return 0;
    }
}

static void greet(struct upstream *u)
{
    int one = 1, fd;
    while ((fd = accept4(u->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct conn *c = lr_new(struct conn);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        if (!c || epoll_ctl(u->epoll, EPOLL_CTL_ADD, fd, &ev)) {
            lr_free(c);
            close(fd);
            continue;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* faster, not needed */
        c->fd = fd;
        lr_buf_init(&c->out, OUT_MAX);
    }
}

/* ---- the run ----------------------------------------------------------------------------- */

static void fire(struct upstream *u, struct queue *q, int (*fn)(struct upstream *, struct conn *))
{
    uint64_t now = lr_clock_mono_ns();
    for (struct conn *c = q->head; c && c->due_ns <= now; c = q->head) {
        stop_waiting(c);
        if (fn(u, c))
            drop(c);
    }
}

static struct timespec until_due(const struct upstream *u)
{
    const struct conn *a = u->thinking.head, *b = u->pacing.head;
    uint64_t due = UINT64_MAX, now = lr_clock_mono_ns();
    if (a)
        due = a->due_ns;
    if (b && b->due_ns < due)
        due = b->due_ns;
    uint64_t ns = due == UINT64_MAX ? LR_SEC : due > now ? due - now : 0;
    return (struct timespec){(time_t)(ns / LR_SEC), (long)(ns % LR_SEC)};
}

static int serve(struct upstream *u)
{
    struct epoll_event ev[128];
    for (;;) {
        struct timespec wait = until_due(u);
        int n = epoll_pwait2(u->epoll, ev, (int)LR_COUNT(ev), &wait, NULL);
        LR_FAIL_IF(n < 0 && errno != EINTR, LR_EIO);
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (!c) {
                greet(u);
                continue;
            }
            int rc = ev[i].events & EPOLLOUT ? flush(u, c) : 0;
            if (!rc && ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                rc = readable(u, c);
            if (rc)
                drop(c);
        }
        fire(u, &u->thinking, answer);
        fire(u, &u->pacing, pace);
    }
}

static int open_listener(struct upstream *u)
{
    int one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)u->o.port)};
    socklen_t n = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    u->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    u->epoll = epoll_create1(EPOLL_CLOEXEC);
    LR_FAIL_IF(u->listener < 0 || u->epoll < 0, LR_EIO);
    (void)setsockopt(u->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); /* a convenience */
    struct epoll_event ev = {.events = EPOLLIN};
    if (bind(u->listener, (struct sockaddr *)&a, n) || listen(u->listener, 1024) ||
        getsockname(u->listener, (struct sockaddr *)&a, &n) ||
        epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->listener, &ev))
        return LR_EIO;
    printf("port %u\n", ntohs(a.sin_port));
    return fflush(stdout) ? LR_EIO : 0;
}

static int parse_args(struct opts *o, int argc, char **argv)
{
    *o = (struct opts){.answer = 1024, .events = 100, .interval_us = 10000};
    struct {
        const char *name;
        uint64_t *to;
    } rows[] = {
        {"--port", &o->port},     {"--answer", &o->answer},           {"--think-us", &o->think_us},
        {"--events", &o->events}, {"--interval-us", &o->interval_us},
    };
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < LR_COUNT(rows) && strcmp(rows[k].name, argv[i]) != 0)
            k++;
        LR_FAIL_IF(k == LR_COUNT(rows) || i + 1 == argc, LR_EINVAL);
        LR_TRY(lr_parse_u64(lr_strz(argv[i + 1]), rows[k].to));
    }
    return o->port > 65535 || !o->events || o->answer > ANSWER_MAX / 2 ? LR_EINVAL : 0;
}

int main(int argc, char **argv)
{
    static struct upstream u;
    if (parse_args(&u.o, argc, argv)) {
        fprintf(stderr, "usage: bench_upstream [--port N] [--answer BYTES] [--think-us N]\n"
                        "                      [--events N] [--interval-us N]\n");
        return 2;
    }
    int rc = make_whole(&u);
    if (!rc)
        rc = open_listener(&u);
    if (!rc)
        rc = serve(&u);
    fprintf(stderr, "bench_upstream: %s\n", lr_strerror(rc));
    return 1;
}
