/* SPDX-License-Identifier: Apache-2.0
 * bench/streams.c - many streams read at once: how late does each event come? And: many idle
 * connections: what does each cost the server?
 *
 *   bench_streams --to HOST:PORT --request FILE [--streams 200] [--events 0] [--name TEXT]
 *   bench_streams --to HOST:PORT --request FILE --idle 2000 --pid PID [--name TEXT]
 *
 * FILE holds whole requests (bench/requests.c --stream 1); stream i sends the i-th, round and
 * round.
 *
 * Streams. Each event of the fake upstream says when it left there: "@<CLOCK_MONOTONIC ns>@". Its
 * lateness is the clock when recv returned with its closing '@', less that. All latenesses are kept
 * and sorted: quantiles are exact. --events is how many a stream should have; another number, a
 * status other than 200 or a torn stream is a failure and the exit status is 1. Streams start
 * within 200 ms of each other, evenly, as strangers would.
 *
 * Idle. Opens the connections, asks one request on each (so that the server has made whatever it
 * keeps for a connection that works), waits until all have been answered and for a rest of 300 ms,
 * and reports what the process's anonymous memory (RssAnon: files that are mapped do not count)
 * has grown by since before the first one.
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 16384
#define EVENTS_MAX  (1u << 24)
#define START_NS    (200 * LR_MS)
#define REST_NS     (300 * LR_MS)
#define STUCK_MS    15000

struct opts {
    const char *to, *file, *name;
    uint64_t streams, events, idle, pid;
};

enum at { AT_HEAD, AT_BODY, AT_SIZE, AT_CHUNK, AT_CHUNK_END, AT_DONE };

struct client {
    int fd;
    enum at at;
    bool chunked, bad;
    uint64_t left;
    char line[256]; /* of the head, or a chunk's size; longer ones are cut */
    size_t line_n;
    bool in_stamp;
    uint64_t stamp, events;
};

struct bench {
    struct opts o;
    struct sockaddr_in addr;
    int epoll;
    struct lr_buf input;
    struct client *clients;
    size_t n, open;
    uint64_t *late; /* ns */
    size_t n_late, cap_late;
};

/* ---- reading an answer, byte by byte ----------------------------------------------------- */

static void head_line(struct client *c)
{
    struct lr_str v = lr_str(c->line, c->line_n), name = lr_str_cut(&v, ':');
    if (lr_str_starts(name, LR_STR("HTTP/1.")) &&
        (name.n < 12 || memcmp(name.p + 9, "200", 3) != 0))
        c->bad = true;
    if (!v.p)
        return;
    v = lr_str_trim(v);
    if (lr_str_ieq(name, LR_STR("content-length")) && lr_parse_u64(v, &c->left))
        c->bad = true;
    if (lr_str_ieq(name, LR_STR("transfer-encoding")))
        c->chunked = true;
}

static void end_of_line(struct client *c)
{
    if (c->at == AT_HEAD && c->line_n) {
        head_line(c);
    } else if (c->at == AT_HEAD) {
        c->at = c->chunked ? AT_SIZE : c->left ? AT_BODY : AT_DONE;
    } else if (c->at == AT_SIZE) {
        c->line[c->line_n] = 0;
        c->left = strtoull(c->line, NULL, 16);
        c->at = c->left ? AT_CHUNK : AT_DONE; /* a trailer is not waited for */
    } else {
        c->at = AT_SIZE;
    }
    c->line_n = 0;
}

static void count(struct bench *b, struct client *c, uint64_t now)
{
    c->events++;
    if (b->n_late < b->cap_late)
        b->late[b->n_late++] = now > c->stamp ? now - c->stamp : 0;
}

static void body_byte(struct bench *b, struct client *c, char x, uint64_t now)
{
    if (x == '@') {
        if (c->in_stamp && c->stamp)
            count(b, c, now);
        c->in_stamp = !c->in_stamp;
        c->stamp = 0;
    } else if (c->in_stamp && x >= '0' && x <= '9') {
        c->stamp = c->stamp * 10 + (uint64_t)(x - '0');
    } else {
        c->in_stamp = false;
    }
}

static void digest(struct bench *b, struct client *c, const char *p, size_t n, uint64_t now)
{
    for (size_t i = 0; i < n && c->at != AT_DONE; i++) {
        if (c->at == AT_BODY || c->at == AT_CHUNK) {
            body_byte(b, c, p[i], now);
            if (--c->left == 0)
                c->at = c->at == AT_BODY ? AT_DONE : AT_CHUNK_END;
        } else if (p[i] == '\n') {
            end_of_line(c);
        } else if (p[i] != '\r' && c->line_n + 1 < sizeof c->line) {
            c->line[c->line_n++] = p[i];
        }
    }
}

/* ---- connections ------------------------------------------------------------------------- */

static int send_all(int fd, struct lr_str s)
{
    while (s.n) {
        ssize_t k = send(fd, s.p, s.n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        LR_FAIL_IF(k <= 0, LR_ENET);
        s = lr_str(s.p + k, s.n - (size_t)k);
    }
    return 0;
}

/* The next request of the input, which is walked round and round. */
static int next_request(const struct bench *b, size_t *at, struct lr_str *out)
{
    if (*at == b->input.len)
        *at = 0;
    const char *p = b->input.p + *at, *end = memmem(p, b->input.len - *at, "\r\n\r\n", 4);
    LR_FAIL_IF(!end, LR_EPARSE);
    uint64_t length = 0;
    struct lr_str head = lr_str(p, (size_t)(end - p));
    while (head.p) {
        struct lr_str v = lr_str_cut(&head, '\n'), name = lr_str_cut(&v, ':');
        if (lr_str_ieq(name, LR_STR("content-length")))
            LR_TRY(lr_parse_u64(lr_str_trim(v), &length));
    }
    *out = lr_str(p, (size_t)(end - p) + 4 + (size_t)length);
    *at += out->n;
    return *at > b->input.len ? LR_EPARSE : 0;
}

static int start(struct bench *b, struct client *c, struct lr_str request)
{
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    LR_FAIL_IF(c->fd < 0, LR_EIO);
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* faster, not needed */
    LR_FAIL_IF(connect(c->fd, (struct sockaddr *)&b->addr, sizeof b->addr), LR_ENET);
    LR_TRY(send_all(c->fd, request));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    b->open++;
    return epoll_ctl(b->epoll, EPOLL_CTL_ADD, c->fd, &ev) ? LR_EIO : 0;
}

/* Its answer has come, or never will. */
static void finish(struct bench *b, struct client *c)
{
    b->open--;
    (void)epoll_ctl(b->epoll, EPOLL_CTL_DEL, c->fd, NULL); /* it was added: cannot fail */
    if (b->o.idle && c->at == AT_DONE)
        return; /* stays open, idle */
    close(c->fd);
    c->fd = -1;
}

static int read_some(struct bench *b, int timeout_ms)
{
    struct epoll_event ev[128];
    char buf[16384];
    int n = epoll_wait(b->epoll, ev, (int)LR_COUNT(ev), timeout_ms);
    LR_FAIL_IF(n == 0 && timeout_ms == STUCK_MS, LR_ETIMEOUT);
    for (int i = 0; i < n; i++) {
        struct client *c = ev[i].data.ptr;
        ssize_t k = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);
        if (k < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (k > 0)
            digest(b, c, buf, (size_t)k, lr_clock_mono_ns());
        c->bad |= k <= 0;
        if (k <= 0 || c->at == AT_DONE)
            finish(b, c);
    }
    return 0;
}

/* ---- the run ----------------------------------------------------------------------------- */

static int start_all(struct bench *b)
{
    size_t at = 0;
    uint64_t begin = lr_clock_mono_ns();
    for (size_t i = 0; i < b->n; i++) {
        struct lr_str request;
        LR_TRY(next_request(b, &at, &request));
        LR_TRY(start(b, &b->clients[i], request));
        while (!b->o.idle && lr_clock_mono_ns() < begin + START_NS * (i + 1) / b->n)
            LR_TRY(read_some(b, 0));
        while (b->o.idle && b->open > 64)
            LR_TRY(read_some(b, STUCK_MS));
    }
    while (b->open)
        LR_TRY(read_some(b, STUCK_MS));
    return 0;
}

static int by_size(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static double quantile_us(const struct bench *b, double q)
{
    return b->n_late ? (double)b->late[(size_t)(q * (double)(b->n_late - 1))] / 1000 : 0;
}

static size_t failures(const struct bench *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        const struct client *c = &b->clients[i];
        n += c->bad || c->at != AT_DONE || (b->o.events && c->events != b->o.events);
    }
    return n;
}

static void report_streams(struct bench *b, double seconds)
{
    qsort(b->late, b->n_late, sizeof *b->late, by_size);
    printf("{\"bench\":\"streams\",\"name\":\"%s\",\"streams\":%zu,\"failed\":%zu,\"events\":%zu,"
           "\"seconds\":%.3f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
           "\"max_us\":%.1f}\n",
           b->o.name, b->n, failures(b), b->n_late, seconds, quantile_us(b, 0.5),
           quantile_us(b, 0.9), quantile_us(b, 0.99), quantile_us(b, 0.999), quantile_us(b, 1));
}

/* Anonymous resident bytes of a process; 0: unknown. */
static uint64_t memory_of(uint64_t pid)
{
    char path[64];
    struct lr_buf text;
    uint64_t kib = 0;
    lr_buf_init(&text, LR_KIB(64));
    if (snprintf(path, sizeof path, "/proc/%llu/status", (unsigned long long)pid) > 0 &&
        lr_io_read_file(path, &text) == 0 && lr_buf_addc(&text, 0) == 0) {
        const char *at = strstr(text.p, "RssAnon:");
        kib = at ? strtoull(at + 8, NULL, 10) : 0;
    }
    lr_buf_free(&text);
    return kib * 1024;
}

static int run(struct bench *b)
{
    b->n = (size_t)(b->o.idle ? b->o.idle : b->o.streams);
    b->clients = lr_calloc(b->n, sizeof *b->clients);
    b->cap_late = b->o.idle ? 1 : EVENTS_MAX;
    b->late = lr_calloc(b->cap_late, sizeof *b->late);
    b->epoll = epoll_create1(EPOLL_CLOEXEC);
    LR_FAIL_IF(!b->clients || !b->late || b->epoll < 0, LR_ENOMEM);
    for (size_t i = 0; i < b->n; i++)
        b->clients[i].fd = -1;
    lr_buf_init(&b->input, LR_MIB(256));
    LR_TRY(lr_io_read_file(b->o.file, &b->input));
    uint64_t before = memory_of(b->o.pid), t0 = lr_clock_mono_ns();
    LR_TRY(start_all(b));
    if (!b->o.idle) {
        report_streams(b, (double)(lr_clock_mono_ns() - t0) / 1e9);
        return 0;
    }
    lr_clock_sleep_ns(REST_NS);
    uint64_t after = memory_of(b->o.pid);
    printf("{\"bench\":\"idle\",\"name\":\"%s\",\"connections\":%zu,\"failed\":%zu,\"before\":%llu,"
           "\"after\":%llu,\"bytes_each\":%.0f}\n",
           b->o.name, b->n, failures(b), (unsigned long long)before, (unsigned long long)after,
           ((double)after - (double)before) / (double)b->n);
    return 0;
}

static int resolve(struct bench *b)
{
    struct lr_str port = lr_strz(b->o.to), host = lr_str_cut(&port, ':');
    char text[64];
    uint64_t n = 0;
    LR_FAIL_IF(!port.p || host.n >= sizeof text || lr_parse_u64(port, &n) || n > 65535, LR_EINVAL);
    memcpy(text, host.p, host.n);
    text[host.n] = 0;
    b->addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)n)};
    return inet_pton(AF_INET, text, &b->addr.sin_addr) == 1 ? 0 : LR_EINVAL;
}

static int parse_args(struct opts *o, int argc, char **argv)
{
    *o = (struct opts){.name = "", .streams = 200};
    struct {
        const char *name;
        uint64_t *number;
        const char **word;
    } rows[] = {
        {"--to", NULL, &o->to},         {"--request", NULL, &o->file},
        {"--name", NULL, &o->name},     {"--streams", &o->streams, NULL},
        {"--events", &o->events, NULL}, {"--idle", &o->idle, NULL},
        {"--pid", &o->pid, NULL},
    };
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < LR_COUNT(rows) && strcmp(rows[k].name, argv[i]) != 0)
            k++;
        LR_FAIL_IF(k == LR_COUNT(rows) || i + 1 == argc, LR_EINVAL);
        if (rows[k].number)
            LR_TRY(lr_parse_u64(lr_strz(argv[i + 1]), rows[k].number));
        else
            *rows[k].word = argv[i + 1];
    }
    bool sane = o->to && o->file && o->streams && o->streams <= CLIENTS_MAX &&
                o->idle <= CLIENTS_MAX && (!o->idle || o->pid);
    return sane ? 0 : LR_EINVAL;
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (parse_args(&b.o, argc, argv) || resolve(&b)) {
        fprintf(stderr, "usage: bench_streams --to ADDRESS:PORT --request FILE [--streams N]\n"
                        "                     [--events N] [--idle N --pid PID] [--name TEXT]\n");
        return 2;
    }
    int rc = run(&b);
    if (rc)
        fprintf(stderr, "bench_streams: %s\n", lr_strerror(rc));
    bool bad = rc || failures(&b);
    for (size_t i = 0; b.clients && i < b.n; i++)
        if (b.clients[i].fd >= 0)
            close(b.clients[i].fd);
    lr_buf_free(&b.input);
    lr_free(b.clients);
    lr_free(b.late);
    return bad ? 1 : 0;
}
