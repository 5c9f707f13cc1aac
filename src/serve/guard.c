/* SPDX-License-Identifier: Apache-2.0
 * serve/guard.c - who may talk to the door from a browser: Host and Origin.
 *
 * A page on the web can make a browser send requests to 127.0.0.1, and a name it controls can be made to
 * resolve there (DNS rebinding). So the Host must be one that the operator knows, and an Origin must be
 * our own or a listed one.
 */
#include "serve/serve_int.h"

/* "name:port" or "[v6]:port" without the port. */
static struct lr_str without_port(struct lr_str s)
{
    if (s.n && s.p[0] == '[') {
        const char *end = memchr(s.p, ']', s.n);
        return end ? lr_str(s.p, (size_t)(end - s.p) + 1) : s;
    }
    const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
    return colon ? lr_str(s.p, (size_t)(colon - s.p)) : s;
}

static bool local_name(struct lr_str h)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < LR_COUNT(names); i++)
        if (lr_str_ieq(h, lr_strz(names[i])))
            return true;
    return false;
}

bool lr_guard_host(const struct lr_conf *f, struct lr_str host)
{
    struct lr_str name = without_port(host);
    if (!host.n)
        return false;
    if (local_name(name))
        return true;
    for (size_t i = 0; i < f->c->hosts.n; i++) {
        struct lr_str h = lr_strz(f->c->hosts.v[i]);
        if (lr_str_is(h, "*") || lr_str_ieq(h, name) || lr_str_ieq(h, host))
            return true;
    }
    for (size_t i = 0; i < f->c->listen.n; i++)
        if (lr_str_ieq(without_port(lr_strz(f->c->listen.v[i])), name))
            return true;
    return *f->c->admin_listen && lr_str_ieq(without_port(lr_strz(f->c->admin_listen)), name);
}

bool lr_guard_origin(const struct lr_conf *f, struct lr_str origin, struct lr_str host)
{
    if (!origin.n)
        return true; /* no browser, or a same-origin GET */
    for (size_t i = 0; i < f->c->origins.n; i++)
        if (lr_str_ieq(lr_strz(f->c->origins.v[i]), origin))
            return true;
    const char *at = memmem(origin.p, origin.n, "://", 3);
    struct lr_str rest = at ? lr_str(at + 3, origin.n - (size_t)(at + 3 - origin.p)) : lr_str(NULL, 0);
    return rest.n && lr_str_ieq(rest, host);
}
