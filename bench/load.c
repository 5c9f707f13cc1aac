/* SPDX-License-Identifier: Apache-2.0
 * bench/load.c - a closed-loop HTTP/1.1 load generator: one thread, N kept-alive connections, one
 * request in flight on each; one JSON line at the end.
 *
 *   bench_load --to HOST:PORT --request FILE [--request FILE ...] [--connections 32]
 *              [--requests 100000 | --seconds S] [--warm 1000] [--name TEXT]
 *
 * A file holds one or more whole requests back to back (request line, headers, body by
 * Content-Length). All requests of all files form one sequence that is sent round and round, each
 * by whichever connection is free next: the order in the files is the order of arrivals (a Zipf
 * draw, say).
 *
 * Latency runs from the first byte handed to the kernel to the last byte of the answer read. A
 * closed loop measures a server that is kept busy; it does not show the queue that an open stream
 * of arrivals would build. Latencies go into a log-linear histogram: 64 steps a power of two, so
 * quantiles are rounded up by at most 1.6 %. The first --warm answers are not counted; the clock
 * starts after them.
 *
 * The exit status is 1 when any request failed (connection lost, malformed answer). Answers other
 * than 2xx are counted, not failures. A server that closes after an answer is dialled again, and
 * that costs the next request its dialling time.
 */
#include "base/base.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16384
#define FILES_MAX       64
#define INPUT_MAX       LR_GIB(1)
#define STEPS           64 /* histogram: linear steps a power of two */
#define POWERS          40
#define STUCK_MS        30000 /* no answer at all for this long: give up */

struct opts {
    const char *to, *name, *files[FILES_MAX];
    size_t n_files;
    uint64_t connections, requests, warm;
    double seconds;
};

/* Where an answer is being read. */
enum at { AT_HEAD, AT_BODY, AT_SIZE, AT_CHUNK, AT_CHUNK_END, AT_TRAILER, AT_EOF };

struct conn {
    int fd;
    struct lr_str req;
    size_t sent;
    uint64_t t0;
    bool busy, want_out, closing;
    enum at at;
    uint64_t left; /* bytes of the body or chunk still to come */
    unsigned line; /* bytes on the trailer's current line */
    int status;
    size_t n;        /* bytes in buf */
    char buf[16384]; /* heads must fit; bodies pass through */
};

struct load {
    struct opts o;
    struct sockaddr_storage addr;
    socklen_t addr_n;
    struct lr_buf input;
    struct lr_str *reqs;
    size_t n_reqs, next;
    int epoll;
    struct conn *conns;
    uint64_t started, answered, failed, not_2xx, bytes_in, dialled, begin_ns, end_ns, max_ns;
    uint64_t steps[POWERS * STEPS];
};

/* ---- histogram --------------------------------------------------------------------------- */

static size_t step_of(uint64_t ns)
{
    if (ns < STEPS)
        return (size_t)ns;
    unsigned power = 63 - (unsigned)__builtin_clzll(ns); /* at least 6 */
    size_t step = (size_t)(power - 5) * STEPS + (size_t)(ns >> (power - 6)) - STEPS;
    return step < POWERS * STEPS ? step : POWERS * STEPS - 1;
}

/* The upper end of a step, in ns. */
static double end_of_step(size_t step)
{
    if (step < STEPS)
        return (double)step;
    unsigned power = (unsigned)(step / STEPS) + 5;
    return (double)((step % STEPS + STEPS + 1) * (1ULL << (power - 6)));
}

static double quantile_us(const struct load *l, double q)
{
    uint64_t want = (uint64_t)(q * (double)l->answered), seen = 0;
    for (size_t i = 0; i < POWERS * STEPS; i++) {
        seen += l->steps[i];
        if (seen > want)
            return end_of_step(i) / 1000;
    }
    return (double)l->max_ns / 1000;
}

/* ---- what is sent ------------------------------------------------------------------------ */

/* The value of a header in a head, or an empty view. */
static struct lr_str header(struct lr_str head, const char *name)
{
    while (head.p) {
        struct lr_str value = lr_str_cut(&head, '\n');
        struct lr_str key = lr_str_cut(&value, ':');
        if (value.p && lr_str_ieq(key, lr_strz(name)))
            return lr_str_trim(value);
    }
    return lr_str(NULL, 0);
}

/* Cuts one request off *rest. */
static int cut_request(struct lr_str *rest, struct lr_str *out)
{
    const char *end = memmem(rest->p, rest->n, "\r\n\r\n", 4);
    LR_FAIL_IF(!end, LR_EPARSE);
    size_t head = (size_t)(end - rest->p) + 4;
    struct lr_str length = header(lr_str(rest->p, head), "content-length");
    uint64_t body = 0;
    if (length.n)
        LR_TRY(lr_parse_u64(length, &body));
    LR_FAIL_IF(body > rest->n - head, LR_EPARSE);
    *out = lr_str(rest->p, head + (size_t)body);
    *rest = lr_str(rest->p + out->n, rest->n - out->n);
    return 0;
}

static int read_requests(struct load *l)
{
    lr_buf_init(&l->input, INPUT_MAX);
    for (size_t i = 0; i < l->o.n_files; i++) {
        struct lr_buf one;
        lr_buf_init(&one, INPUT_MAX);
        int rc = lr_io_read_file(l->o.files[i], &one);
        if (!rc)
            rc = lr_buf_adds(&l->input, lr_buf_str(&one));
        lr_buf_free(&one);
        LR_TRY(rc);
    }
    size_t room = 0;
    for (struct lr_str rest = lr_buf_str(&l->input); rest.n; l->n_reqs++) {
        if (l->n_reqs == room) {
            room = room ? 2 * room : 64;
            struct lr_str *more = lr_realloc(l->reqs, room * sizeof *more);
            LR_FAIL_IF(!more, LR_ENOMEM);
            l->reqs = more;
        }
        LR_TRY(cut_request(&rest, &l->reqs[l->n_reqs]));
    }
    return l->n_reqs ? 0 : LR_EINVAL;
}

static int resolve(struct load *l)
{
    char host[256];
    const char *colon = l->o.to ? strrchr(l->o.to, ':') : NULL;
    LR_FAIL_IF(!colon || colon - l->o.to >= (long)sizeof host, LR_EINVAL);
    size_t n = (size_t)(colon - l->o.to);
    bool braced = n >= 2 && l->o.to[0] == '[' && l->o.to[n - 1] == ']';
    memcpy(host, l->o.to + braced, n - 2 * braced);
    host[n - 2 * braced] = 0;
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    LR_FAIL_IF(getaddrinfo(host, colon + 1, &hint, &list), LR_EDNS);
    memcpy(&l->addr, list->ai_addr, list->ai_addrlen);
    l->addr_n = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

/* ---- connections ------------------------------------------------------------------------- */

static bool more_to_start(const struct load *l)
{
    if (l->o.seconds > 0)
        return !l->begin_ns || lr_clock_mono_ns() < l->end_ns;
    return l->started < l->o.requests + l->o.warm;
}

static int watch(struct load *l, struct conn *c, int op)
{
    struct epoll_event ev = {.events = EPOLLIN | (c->want_out ? EPOLLOUT : 0), .data.ptr = c};
    return epoll_ctl(l->epoll, op, c->fd, &ev) ? LR_EIO : 0;
}

static int dial(struct load *l, struct conn *c)
{
    int one = 1;
    c->fd = socket(l->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    LR_FAIL_IF(c->fd < 0, LR_EIO);
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* faster, not needed */
    if (connect(c->fd, (struct sockaddr *)&l->addr, l->addr_n)) {
        close(c->fd);
        c->fd = -1;
        return LR_ENET;
    }
    l->dialled++;
    c->want_out = c->closing = c->busy = false;
    c->n = 0;
    return watch(l, c, EPOLL_CTL_ADD);
}

static void hang_up(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static int send_more(struct load *l, struct conn *c)
{
    while (c->sent < c->req.n) {
        ssize_t k =
            send(c->fd, c->req.p + c->sent, c->req.n - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno != EAGAIN)
            return LR_ENET;
        if (k < 0)
            break;
        c->sent += (size_t)k;
    }
    bool want = c->sent < c->req.n;
    if (want == c->want_out)
        return 0;
    c->want_out = want;
    return watch(l, c, EPOLL_CTL_MOD);
}

static void start_one(struct load *l, struct conn *c)
{
    if (!more_to_start(l)) {
        hang_up(c);
        return;
    }
    l->started++;
    c->req = l->reqs[l->next];
    l->next = l->next + 1 == l->n_reqs ? 0 : l->next + 1;
    c->t0 = lr_clock_mono_ns();
    if (c->fd < 0 && dial(l, c)) {
        l->failed++;
        return;
    }
    c->sent = 0;
    c->at = AT_HEAD;
    c->busy = true;
    if (send_more(l, c)) {
        l->failed++;
        hang_up(c);
    }
}

/* ---- answers ----------------------------------------------------------------------------- */

/* The head ends at buf[head): decides how the body is framed. */
static int read_head(struct conn *c, size_t head)
{
    struct lr_str h = lr_str(c->buf, head);
    uint64_t status = 0;
    LR_FAIL_IF(head < 12 || memcmp(c->buf, "HTTP/1.", 7) != 0, LR_EPARSE);
    LR_TRY(lr_parse_u64(lr_str(c->buf + 9, 3), &status));
    c->status = (int)status;
    struct lr_str length = header(h, "content-length");
    c->closing = lr_str_ieq(header(h, "connection"), LR_STR("close"));
    if (status == 100) {
        c->at = AT_HEAD;
    } else if (lr_str_ieq(header(h, "transfer-encoding"), LR_STR("chunked"))) {
        c->at = AT_SIZE;
        c->left = 0;
    } else if (length.n) {
        c->at = AT_BODY;
        LR_TRY(lr_parse_u64(length, &c->left));
    } else {
        c->at = status == 204 || status == 304 ? AT_BODY : AT_EOF;
        c->left = 0;
    }
    return 0;
}

/* A byte of a chunk's size line, of the line end after its data, or of the trailer. */
static int read_framing(struct conn *c, char b, bool *whole)
{
    if (c->at == AT_SIZE && b != '\n') {
        static const char hex[] = "0123456789abcdef";
        const char *digit = memchr(hex, b | 0x20, sizeof hex - 1);
        LR_FAIL_IF(!digit && b != '\r', LR_EPARSE); /* extensions are not read: nobody sends them */
        c->left = digit ? c->left * 16 + (uint64_t)(digit - hex) : c->left;
    } else if (c->at == AT_SIZE) {
        c->at = c->left ? AT_CHUNK : AT_TRAILER;
        c->line = 0;
    } else if (c->at == AT_CHUNK_END && b == '\n') {
        c->at = AT_SIZE;
    } else if (c->at == AT_TRAILER && b == '\n') {
        *whole = c->line == 0;
        c->line = 0;
    } else if (b != '\r') {
        c->line++;
    }
    return 0;
}

/* Reads what is in buf; *whole when the answer has ended. */
static int digest(struct conn *c, bool *whole)
{
    size_t at = 0;
    int rc = 0;
    *whole = false;
    while (!rc && !*whole) {
        if (c->at == AT_HEAD) {
            const char *end = memmem(c->buf + at, c->n - at, "\r\n\r\n", 4);
            if (!end)
                break;
            memmove(c->buf, c->buf + at, c->n - at);
            c->n -= at;
            at = (size_t)(end - c->buf) - at + 4;
            rc = read_head(c, at);
        } else if (c->at == AT_BODY || c->at == AT_CHUNK) {
            size_t k = c->n - at < c->left ? c->n - at : (size_t)c->left;
            at += k;
            c->left -= k;
            if (c->left)
                break;
            *whole = c->at == AT_BODY;
            c->at = AT_CHUNK_END;
        } else if (at == c->n) {
            break;
        } else if (c->at == AT_EOF) {
            at = c->n;
        } else {
            rc = read_framing(c, c->buf[at++], whole);
        }
    }
    memmove(c->buf, c->buf + at, c->n - at);
    c->n -= at;
    return !rc && c->n == sizeof c->buf ? LR_EOVER : rc;
}

static void count(struct load *l, const struct conn *c)
{
    uint64_t now = lr_clock_mono_ns(), ns = now - c->t0;
    l->answered++;
    l->not_2xx += c->status < 200 || c->status > 299;
    l->steps[step_of(ns)]++;
    l->max_ns = ns > l->max_ns ? ns : l->max_ns;
    if (l->answered != l->o.warm || l->begin_ns)
        return;
    /* warm: forget, and start the clock */
    l->answered = l->not_2xx = l->failed = l->bytes_in = l->max_ns = l->dialled = 0;
    memset(l->steps, 0, sizeof l->steps);
    l->begin_ns = now;
    l->end_ns = now + (uint64_t)(l->o.seconds * 1e9);
}

static void readable(struct load *l, struct conn *c)
{
    bool whole = false;
    ssize_t k = recv(c->fd, c->buf + c->n, sizeof c->buf - c->n, MSG_DONTWAIT);
    if (k < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int rc = k < 0 ? LR_ENET : 0;
    if (k > 0) {
        l->bytes_in += (uint64_t)k;
        c->n += (size_t)k;
        rc = digest(c, &whole);
    } else if (k == 0) {
        whole = c->busy && c->at == AT_EOF;
        rc = whole ? 0 : LR_ENET;
        c->closing = true;
    }
    if (!rc && !whole)
        return;
    if (rc)
        l->failed += c->busy;
    else
        count(l, c);
    if (rc || c->closing)
        hang_up(c);
    c->busy = false;
    start_one(l, c);
}

/* ---- the run ----------------------------------------------------------------------------- */

static int run(struct load *l)
{
    struct epoll_event ev[128];
    size_t n = l->o.connections;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->conns = lr_calloc(n, sizeof *l->conns);
    LR_FAIL_IF(l->epoll < 0 || !l->conns, LR_ENOMEM);
    for (size_t i = 0; i < n; i++) {
        l->conns[i].fd = -1;
        LR_TRY(dial(l, &l->conns[i]));
    }
    if (!l->o.warm) {
        l->begin_ns = lr_clock_mono_ns();
        l->end_ns = l->begin_ns + (uint64_t)(l->o.seconds * 1e9);
    }
    for (size_t i = 0; i < n; i++)
        start_one(l, &l->conns[i]);
    for (;;) {
        size_t open = 0;
        int k = epoll_wait(l->epoll, ev, (int)LR_COUNT(ev), STUCK_MS);
        LR_FAIL_IF(k == 0, LR_ETIMEOUT);
        for (int i = 0; i < k; i++) {
            struct conn *c = ev[i].data.ptr;
            if (c->want_out && (ev[i].events & EPOLLOUT) && send_more(l, c)) {
                l->failed++;
                hang_up(c);
                start_one(l, c);
            } else if (ev[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
                readable(l, c);
            }
        }
        if (more_to_start(l))
            continue;
        for (size_t i = 0; i < n; i++)
            open += l->conns[i].fd >= 0;
        if (!open)
            return 0;
    }
}

static void report(const struct load *l, double seconds)
{
    printf("{\"bench\":\"load\",\"name\":\"%s\",\"connections\":%llu,\"requests\":%llu,\"failed\":%"
           "llu,"
           "\"not_2xx\":%llu,\"seconds\":%.3f,\"rps\":%.0f,\"p50_us\":%.1f,\"p90_us\":%.1f,"
           "\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"bytes_in\":%llu,\"dialled\":%llu}\n",
           l->o.name, (unsigned long long)l->o.connections, (unsigned long long)l->answered,
           (unsigned long long)l->failed, (unsigned long long)l->not_2xx, seconds,
           seconds > 0 ? (double)l->answered / seconds : 0, quantile_us(l, 0.5),
           quantile_us(l, 0.9), quantile_us(l, 0.99), quantile_us(l, 0.999),
           (double)l->max_ns / 1000, (unsigned long long)l->bytes_in,
           (unsigned long long)l->dialled);
}

static int parse_args(struct opts *o, int argc, char **argv)
{
    *o = (struct opts){.name = "", .connections = 32, .requests = 100000, .warm = 1000};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *v = argv[i + 1];
        struct lr_str k = lr_strz(argv[i]);
        if (lr_str_is(k, "--to"))
            o->to = v;
        else if (lr_str_is(k, "--name"))
            o->name = v;
        else if (lr_str_is(k, "--connections"))
            LR_TRY(lr_parse_u64(lr_strz(v), &o->connections));
        else if (lr_str_is(k, "--requests"))
            LR_TRY(lr_parse_u64(lr_strz(v), &o->requests));
        else if (lr_str_is(k, "--warm"))
            LR_TRY(lr_parse_u64(lr_strz(v), &o->warm));
        else if (lr_str_is(k, "--seconds"))
            LR_TRY(lr_parse_real(lr_strz(v), &o->seconds));
        else if (lr_str_is(k, "--request") && o->n_files < FILES_MAX)
            o->files[o->n_files++] = v;
        else
            return LR_EINVAL;
    }
    bool sane =
        argc % 2 && o->to && o->n_files && o->connections && o->connections <= CONNECTIONS_MAX;
    return sane ? 0 : LR_EINVAL;
}

int main(int argc, char **argv)
{
    static struct load l;
    if (parse_args(&l.o, argc, argv)) {
        fprintf(stderr,
                "usage: bench_load --to HOST:PORT --request FILE... [--connections N]\n"
                "                  [--requests N | --seconds S] [--warm N] [--name TEXT]\n");
        return 2;
    }
    int rc = read_requests(&l);
    if (!rc)
        rc = resolve(&l);
    if (!rc)
        rc = run(&l);
    if (rc)
        fprintf(stderr, "bench_load: %s\n", lr_strerror(rc));
    report(&l, l.begin_ns ? (double)(lr_clock_mono_ns() - l.begin_ns) / 1e9 : 0);
    lr_buf_free(&l.input);
    lr_free(l.reqs);
    lr_free(l.conns);
    return rc || l.failed ? 1 : 0;
}
