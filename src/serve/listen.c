/* SPDX-License-Identifier: Apache-2.0
 * serve/listen.c - listening sockets of both doors.
 *
 * The first address of a name that can be listened on is taken. An IPv6 socket takes IPv6 alone, so
 * that "[::]:p" and ":p" can be given together, whatever the system's default is.
 */
#include "serve/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

static int bind_to(const struct addrinfo *ai, int *out)
{
    int one = 1;
    int fd =
        lr_fault_here() ? -1 : socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    LR_FAIL_IF(fd < 0, LR_EIO);
    /* Both options are conveniences: bind says what matters. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, BACKLOG)) {
        int err = errno;
        close(fd);
        errno = err;
        return LR_EIO;
    }
    *out = fd;
    return 0;
}

int lr_listen_on(const char *text, int *out, struct lr_err *err)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    uint64_t port = 0;
    if (!colon || lr_parse_u64(lr_strz(colon + 1), &port) || port > 65535 || n >= sizeof host)
        return lr_err_set(err, LR_EINVAL, text, "an address is host:port or [ipv6]:port");
    bool braced = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    memcpy(host, text + braced, n - 2 * braced);
    host[n - 2 * braced] = 0;
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    hint.ai_family = host[0] ? AF_UNSPEC : AF_INET;
    struct addrinfo *list = NULL;
    int gai = getaddrinfo(host[0] ? host : NULL, colon + 1, &hint, &list);
    if (gai)
        return lr_err_set(err, LR_EDNS, text, "%s", gai_strerror(gai));
    int rc = LR_EIO;
    for (const struct addrinfo *ai = list; ai && rc; ai = ai->ai_next)
        rc = bind_to(ai, out);
    if (rc)
        lr_err_set(err, rc, text, "cannot listen: %s", strerror(errno));
    freeaddrinfo(list);
    return rc;
}

unsigned lr_listen_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n))
        return 0;
    const struct sockaddr_in *in = (const void *)&a;
    const struct sockaddr_in6 *in6 = (const void *)&a;
    return ntohs(a.ss_family == AF_INET6 ? in6->sin6_port : in->sin_port);
}
