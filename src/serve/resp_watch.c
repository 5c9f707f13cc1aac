/* SPDX-License-Identifier: Apache-2.0
 * serve/resp_watch.c - a command's key, for `larder kv doctor`: the door's side of kv_watch.h.
 *
 * Called once a key of SET, GET and EXISTS and their kin. What has no '@' (every key but LMCache's) costs one
 * memchr.
 */
#include "serve/kv_watch.h"
#include "serve/resp_int.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* The peer's address, asked once a connection. */
static struct lr_str address_of(struct lr_resp_conn *c)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (!*c->address && !getpeername(c->fd, (struct sockaddr *)&a, &n)) {
        const void *p = a.ss_family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)&a)->sin6_addr
                                                : (const void *)&((struct sockaddr_in *)&a)->sin_addr;
        if (!inet_ntop(a.ss_family, p, c->address, sizeof c->address))
            c->address[0] = 0;
    }
    return lr_strz(c->address);
}

void lr_resp_saw(struct lr_resp_conn *c, enum lr_kv_op op, size_t key, size_t value, bool good)
{
    struct lr_kv_watch *w = lr_resp_options(c)->watch;
    struct lr_str name = lr_resp_arg(&c->in, key);
    struct lr_kv_key k;
    if (!w || name.n < 8 || !memchr(name.p, '@', name.n))
        return;
    lr_kv_key_read(name, &k);
    if (!k.shape)
        return;
    struct lr_kv_seen s = {
        .op = op,
        .good = good,
        .tenant = c->tenant,
        .space = lr_str(c->space, c->space_n),
        .address = address_of(c),
        .name = lr_strz(c->name),
        .library = lr_strz(c->library),
        .opened_ms = c->opened_ms,
    };
    if (op == LR_KV_SET) {
        s.size = c->in.args[value].n;
        s.value = lr_resp_arg(&c->in, value);
    }
    lr_kv_watch_saw(w, &s, &k, lr_clock_wall_ms());
}
