/* SPDX-License-Identifier: Apache-2.0
 * bench/resp_sink.c - the least that a Redis door can do: the ceiling of bench/store.sh.
 *
 *   bench_resp_sink [--bytes 32M]        prints "port N", then serves until it is killed
 *
 * One thread, poll over sockets that do not block. GET is answered with the same static bytes, SET is
 * received into one scratch buffer that nobody reads, and nothing is looked up, summed or kept. What
 * remains is what the kernel asks for moving the bytes through loopback. A large value is received
 * into the one scratch place: the sink's memory stays in cache better than a store's can.
 *
 * It knows just what bench_resp_client sends: arrays of two (GET) or three strings (SET).
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64u
#define PART            LR_MIB(4) /* of a value, before others have their turn */

struct conn {
    int fd;
    char head[256];   /* of a request: up to the line before the value */
    size_t n;
    uint64_t swallow; /* bytes of a value, its CRLF included, still to come */
    uint64_t out;     /* bytes of the reply in `answer` still to go */
    bool set;
};

static char *scratch;  /* PART bytes */
static char *answer;   /* "$N\r\n", value, "\r\n" */
static size_t answer_n;

/* The whole head is here: how long it is, and how long the value after it; 0: not yet. */
static size_t whole(const char *p, size_t n, uint64_t *value)
{
    size_t lines = 0, want = n > 1 && p[1] == '3' ? 6 : 5;
    for (size_t i = 0, at = 0; i + 1 < n; i++) {
        if (p[i] != '\r' || p[i + 1] != '\n')
            continue;
        if (++lines == want) {
            *value = 0;
            if (want == 6 && lr_parse_u64(lr_str(p + at + 1, i - at - 1), value))
                return 0;
            return i + 2;
        }
        at = i + 2;
    }
    return 0;
}

static bool again(ssize_t k)
{
    return k < 0 && (errno == EAGAIN || errno == EINTR);
}

/* False: the connection is over. */
static bool reply(struct conn *c)
{
    while (c->out) {
        ssize_t k = send(c->fd, answer + (answer_n - c->out), c->out, MSG_NOSIGNAL);
        if (k <= 0)
            return again(k);
        c->out -= (uint64_t)k;
    }
    return true;
}

static bool thank(struct conn *c)
{
    return send(c->fd, "+OK\r\n", 5, MSG_NOSIGNAL) == 5;
}

static bool acted(struct conn *c)
{
    uint64_t value;
    size_t head = whole(c->head, c->n, &value);
    if (!head)
        return c->n < sizeof c->head;
    c->set = c->head[1] == '3';
    c->swallow = c->set ? value + 2 - (c->n - head) : 0;
    c->out = c->set ? 0 : answer_n;
    c->n = 0;
    return c->set && !c->swallow ? thank(c) : reply(c);
}

static bool receive(struct conn *c)
{
    char *to = c->swallow ? scratch : c->head + c->n;
    size_t room = c->swallow ? (size_t)(c->swallow < PART ? c->swallow : PART) : sizeof c->head - c->n;
    ssize_t k = recv(c->fd, to, room, 0);
    if (k <= 0)
        return again(k);
    if (!c->swallow) {
        c->n += (size_t)k;
        return acted(c);
    }
    c->swallow -= (uint64_t)k;
    return c->swallow || thank(c);
}

static int listen_here(unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || listen(fd, 16) ||
        getsockname(fd, (struct sockaddr *)&a, &n))
        return -1;
    *port = ntohs(a.sin_port);
    return fd;
}

static void serve(int listener)
{
    static struct conn conns[CONNECTIONS_MAX];
    struct pollfd p[CONNECTIONS_MAX + 1];
    size_t n = 0;
    int one = 1;
    for (;;) {
        p[0] = (struct pollfd){.fd = n < CONNECTIONS_MAX ? listener : -1, .events = POLLIN};
        for (size_t i = 0; i < n; i++)
            p[i + 1] = (struct pollfd){.fd = conns[i].fd,
                                       .events = (short)(conns[i].out ? POLLOUT : POLLIN)};
        if (poll(p, n + 1, -1) < 0 && errno != EINTR)
            return;
        for (size_t i = n; i-- > 0;) {
            struct conn *c = &conns[i];
            if (!p[i + 1].revents || (c->out ? reply(c) : receive(c)))
                continue;
            close(c->fd);
            *c = conns[--n];
        }
        int fd = p[0].revents ? accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
        if (fd >= 0) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            conns[n++] = (struct conn){.fd = fd};
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t bytes = LR_MIB(32);
    unsigned port;
    if (argc != 1 && (argc != 3 || !lr_str_is(lr_strz(argv[1]), "--bytes") ||
                      lr_parse_size(lr_strz(argv[2]), &bytes) || bytes > LR_MIB(512))) {
        fprintf(stderr, "usage: bench_resp_sink [--bytes N]\n");
        return 2;
    }
    size_t room = (size_t)bytes + PART + 64;
    char *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 1;
    (void)madvise(p, room, MADV_HUGEPAGE); /* only faster */
    memset(p, 'x', room);
    scratch = p;
    answer = p + PART;
    int n = snprintf(answer, 32, "$%llu\r\n", (unsigned long long)bytes);
    answer[n] = 'x'; /* the end mark that snprintf wrote */
    answer_n = (size_t)n + (size_t)bytes + 2;
    memcpy(answer + n + bytes, "\r\n", 2);
    int fd = listen_here(&port);
    if (fd < 0) {
        perror("bench_resp_sink");
        return 1;
    }
    printf("port %u\n", port);
    fflush(stdout);
    serve(fd);
    return 1;
}
