/* SPDX-License-Identifier: Apache-2.0
 * bench/resp_client.c - what one client of few connections gets out of a Redis door; one JSON line.
 *
 *   bench_resp_client --to PORT --op get|set [--bytes 32M] [--total 2G] [--connections 2]
 *                     [--keys 8] [--fill] [--check]
 *
 * The client of an inference engine, as LMCache's native one is: blocking connections, one thread
 * each, one request in flight on each; a reply's bytes are received straight into the buffer they
 * are for, and a value is sent from the buffer it lies in. So the client costs one copy by the
 * kernel and nothing else (redis-benchmark copies each reply twice more and stops near 1 GB/s).
 *
 * Each connection has --keys keys of its own and goes round them until --total bytes (of all
 * connections) have passed. --fill: the keys are SET once before the clock starts. --check: every
 * value that comes is compared with what was put under its key, outside of the time; not against a
 * sink. A miss, a reply of another length or a lost connection fails the run.
 *
 * The rate counts bytes of values and the time from the first request to the last reply; the
 * comparisons are taken out of it.
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64u

struct plan {
    uint64_t port, bytes, total, connections, keys;
    bool set, fill, check;
};

struct conn {
    const struct plan *plan;
    pthread_t thread;
    pthread_barrier_t *start;
    unsigned number;
    int fd;
    char *value;   /* what is sent, and what must come: bytes + keys of it, key k's from k on */
    char *in;      /* what is received */
    uint64_t done; /* requests */
    uint64_t from_ns, to_ns, compared_ns;
    const char *fault; /* NULL: all was well */
};

static bool dial(struct conn *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)c->plan->port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return c->fd >= 0 && !connect(c->fd, (struct sockaddr *)&a, sizeof a) &&
           !setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static bool send_all(int fd, struct iovec *v, int n)
{
    while (n) {
        struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
        ssize_t k = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (k <= 0)
            return false;
        for (; n && (size_t)k >= v->iov_len; v++, n--)
            k -= (ssize_t)v->iov_len;
        if (n) {
            v->iov_base = (char *)v->iov_base + k;
            v->iov_len -= (size_t)k;
        }
    }
    return true;
}

static bool recv_all(int fd, char *p, size_t n)
{
    while (n) {
        ssize_t k = recv(fd, p, n, 0);
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static const char *set(struct conn *c, uint64_t key)
{
    char head[128], ok[5];
    int n = snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$8\r\nk%03u-%03u\r\n$%llu\r\n", c->number,
                     (unsigned)key, (unsigned long long)c->plan->bytes);
    struct iovec v[] = {{head, (size_t)n}, {c->value + key, c->plan->bytes}, {(char *)(uintptr_t)"\r\n", 2}};
    if (!send_all(c->fd, v, 3) || !recv_all(c->fd, ok, sizeof ok))
        return "the connection was lost";
    return memcmp(ok, "+OK\r\n", 5) ? "a SET was not answered OK" : NULL;
}

static const char *get(struct conn *c, uint64_t key)
{
    char request[64], want[32], head[32], end[2];
    int n = snprintf(request, sizeof request, "*2\r\n$3\r\nGET\r\n$8\r\nk%03u-%03u\r\n", c->number,
                     (unsigned)key);
    int m = snprintf(want, sizeof want, "$%llu\r\n", (unsigned long long)c->plan->bytes);
    struct iovec v = {request, (size_t)n};
    if (!send_all(c->fd, &v, 1) || !recv_all(c->fd, head, (size_t)m))
        return "the connection was lost";
    if (memcmp(head, want, (size_t)m))
        return "a GET missed, or another length came";
    if (!recv_all(c->fd, c->in, c->plan->bytes) || !recv_all(c->fd, end, 2))
        return "the connection was lost";
    if (!c->plan->check)
        return NULL;
    uint64_t t0 = lr_clock_mono_ns();
    bool same = !memcmp(c->in, c->value + key, c->plan->bytes) && !memcmp(end, "\r\n", 2);
    c->compared_ns += lr_clock_mono_ns() - t0;
    return same ? NULL : "WRONG BYTES";
}

static void *run(void *arg)
{
    struct conn *c = arg;
    const struct plan *p = c->plan;
    uint64_t n = p->total / p->bytes / p->connections;
    if (!dial(c))
        c->fault = "cannot connect";
    for (uint64_t k = 0; k < p->keys && p->fill && !c->fault; k++)
        c->fault = set(c, k);
    pthread_barrier_wait(c->start);
    c->from_ns = lr_clock_mono_ns();
    for (; c->done < (n ? n : 1) && !c->fault; c->done++)
        c->fault = p->set ? set(c, c->done % p->keys) : get(c, c->done % p->keys);
    c->to_ns = lr_clock_mono_ns();
    if (c->fd >= 0)
        close(c->fd);
    return NULL;
}

static char *pages(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, n, MADV_HUGEPAGE); /* only faster */
    memset(p, 0, n);
    return p;
}

static bool prepare(struct conn *c, const struct plan *p, unsigned number, pthread_barrier_t *start)
{
    struct lr_rng r;
    *c = (struct conn){.plan = p, .number = number, .fd = -1, .start = start};
    c->value = pages(p->bytes + p->keys + 8);
    c->in = pages(p->bytes);
    if (!c->value || !c->in)
        return false;
    lr_rng_seed(&r, number + 1);
    for (size_t i = 0; i + 8 <= p->bytes + p->keys; i += 8)
        lr_put_le64(c->value + i, lr_rng_u64(&r));
    return true;
}

/* GB/s of all, from the first request to the last reply. */
static int report(const struct plan *p, const struct conn *c)
{
    uint64_t done = 0, from = UINT64_MAX, to = 0, compared = 0;
    for (unsigned i = 0; i < p->connections; i++) {
        if (c[i].fault) {
            fprintf(stderr, "bench_resp_client: %s\n", c[i].fault);
            return 1;
        }
        done += c[i].done;
        from = c[i].from_ns < from ? c[i].from_ns : from;
        to = c[i].to_ns > to ? c[i].to_ns : to;
        compared += c[i].compared_ns;
    }
    double s = ((double)(to - from) - (double)compared / (double)p->connections) / 1e9;
    printf("{\"op\":\"%s\",\"bytes\":%llu,\"connections\":%llu,\"requests\":%llu,\"seconds\":%.4f,"
           "\"gbs\":%.4f,\"rps\":%.1f}\n",
           p->set ? "set" : "get", (unsigned long long)p->bytes, (unsigned long long)p->connections,
           (unsigned long long)done, s, (double)done * (double)p->bytes / s / 1e9, (double)done / s);
    return 0;
}

static bool parse(struct plan *p, int argc, char **argv)
{
    struct {
        const char *name;
        uint64_t *to;
    } numbers[] = {{"--to", &p->port},
                   {"--bytes", &p->bytes},
                   {"--total", &p->total},
                   {"--connections", &p->connections},
                   {"--keys", &p->keys}};
    for (int i = 1; i < argc; i++) {
        struct lr_str a = lr_strz(argv[i]);
        size_t k = 0;
        if (lr_str_is(a, "--fill") || lr_str_is(a, "--check")) {
            *(lr_str_is(a, "--fill") ? &p->fill : &p->check) = true;
            continue;
        }
        if (i + 1 == argc)
            return false;
        struct lr_str v = lr_strz(argv[++i]);
        if (lr_str_is(a, "--op")) {
            p->set = lr_str_is(v, "set");
            if (!p->set && !lr_str_is(v, "get"))
                return false;
            continue;
        }
        while (k < LR_COUNT(numbers) && !lr_str_is(a, numbers[k].name))
            k++;
        if (k == LR_COUNT(numbers) || lr_parse_size(v, numbers[k].to))
            return false;
    }
    return p->port && p->port < 65536 && p->bytes && p->bytes <= LR_MIB(512) && p->connections &&
           p->connections <= CONNECTIONS_MAX && p->keys && p->keys <= 999;
}

int main(int argc, char **argv)
{
    struct plan p = {.bytes = LR_MIB(32), .total = LR_GIB(2), .connections = 2, .keys = 8};
    static struct conn c[CONNECTIONS_MAX];
    pthread_barrier_t start;
    if (!parse(&p, argc, argv)) {
        fprintf(stderr, "usage: bench_resp_client --to PORT --op get|set [--bytes N] [--total N] "
                        "[--connections N] [--keys N] [--fill] [--check]\n");
        return 2;
    }
    pthread_barrier_init(&start, NULL, (unsigned)p.connections);
    for (unsigned i = 0; i < p.connections; i++)
        if (!prepare(&c[i], &p, i, &start)) {
            fprintf(stderr, "bench_resp_client: out of memory\n");
            return 1;
        }
    for (unsigned i = 0; i < p.connections; i++)
        if (pthread_create(&c[i].thread, NULL, run, &c[i])) {
            fprintf(stderr, "bench_resp_client: no thread\n");
            return 1;
        }
    for (unsigned i = 0; i < p.connections; i++)
        pthread_join(c[i].thread, NULL);
    return report(&p, c);
}
