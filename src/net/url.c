/* SPDX-License-Identifier: Apache-2.0
 * net/url.c - which URLs are taken, which addresses are refused, which proxy applies.
 *
 * libcurl parses URLs itself; this reader runs before it, for three questions that must be answered
 * before a byte leaves: is it a plain http(s) URL, is its host a literal that nobody may be sent to
 * (behind a proxy the proxy would resolve it, out of our sight), is it loopback. Two parsers that
 * disagree are a classic hole (Orange Tsai, "A New Era of SSRF", 2017), so this one takes much less
 * than libcurl does: no user-info, no percent or non-ASCII byte in the host, no zone id, no
 * backslash, digits only in the port. What is left both read alike. Numeric IPv4 spellings that
 * libcurl and getaddrinfo accept ("0x7f.1", "2852039166") are read with inet_aton, which has the
 * same rules.
 *
 * Refused addresses: 169.254/16 and fe80::/10 (link-local, RFC 3927, RFC 4291: where clouds keep
 * their metadata service), 0.0.0.0/8 and :: (connect to "any" reaches this host), the metadata
 * services that live elsewhere (fd00:ec2::254, 100.100.100.200), and IPv6 forms that carry one of
 * these IPv4 addresses (mapped, compatible, NAT64's 64:ff9b::/96 of RFC 6052). Loopback and private
 * ranges are where upstreams live: allowed.
 */
#include "net/net_int.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool host_ok(const struct lr_net_url *u)
{
    if (u->host.n == 0 || u->host.n > 255)
        return false;
    for (size_t i = 0; i < u->host.n; i++) {
        char c = u->host.p[i];
        if (!is_alnum(c) && !strchr(u->bracketed ? ":." : "-._", c))
            return false;
    }
    struct in6_addr v6;
    char z[64];
    if (!u->bracketed)
        return u->host.p[0] != '.';
    if (u->host.n >= sizeof z)
        return false;
    memcpy(z, u->host.p, u->host.n);
    z[u->host.n] = 0;
    return inet_pton(AF_INET6, z, &v6) == 1;
}

/* Takes "host[:port]" apart. */
static bool authority(struct lr_str a, struct lr_net_url *u)
{
    const char *end = NULL;
    u->bracketed = a.n && a.p[0] == '[';
    if (u->bracketed) {
        end = memchr(a.p, ']', a.n);
        if (!end)
            return false;
        u->host = lr_str(a.p + 1, (size_t)(end - a.p) - 1);
        a = lr_str(end + 1, a.n - u->host.n - 2);
    } else {
        end = a.n ? memchr(a.p, ':', a.n) : NULL;
        u->host = end ? lr_str(a.p, (size_t)(end - a.p)) : a;
        a = lr_str(a.p + u->host.n, a.n - u->host.n);
    }
    u->port = u->tls ? 443 : 80;
    if (a.n) {
        uint64_t port;
        if (a.p[0] != ':' || a.n > 6 || lr_parse_u64(lr_str(a.p + 1, a.n - 1), &port) ||
            port == 0 || port > 65535)
            return false;
        u->port = (uint16_t)port;
    }
    return host_ok(u);
}

int lr_net_url_parse(struct lr_str url, struct lr_net_url *out, const char **why)
{
    struct lr_net_url u = {0};
    *why = "the URL is longer than 16 KiB";
    LR_FAIL_IF(url.n > LR_NET_URL_MAX, LR_EINVAL);
    *why = "the URL holds a blank, a control byte or a backslash";
    for (size_t i = 0; i < url.n; i++)
        LR_FAIL_IF((unsigned char)url.p[i] <= ' ' || url.p[i] == 127 || url.p[i] == '\\',
                   LR_EINVAL);
    *why = "the URL does not start with http:// or https://";
    u.tls = url.n >= 8 && strncasecmp(url.p, "https://", 8) == 0;
    LR_FAIL_IF(!u.tls && !(url.n >= 7 && strncasecmp(url.p, "http://", 7) == 0), LR_EINVAL);
    size_t skip = u.tls ? 8 : 7, n = 0;
    const char *p = url.p + skip;
    while (n < url.n - skip && !strchr("/?#", p[n]))
        n++;
    *why = "the URL holds a user name or password: credentials go into headers";
    LR_FAIL_IF(n && memchr(p, '@', n), LR_EINVAL);
    *why = "the URL's host or port is malformed (international names in their xn-- form)";
    LR_FAIL_IF(!authority(lr_str(p, n), &u), LR_EINVAL);
    *out = u;
    return 0;
}

int lr_net_url_check(struct lr_str url, struct lr_err *err)
{
    struct lr_net_url u;
    const char *why;
    int rc = lr_net_url_parse(url, &u, &why);
    return rc ? lr_err_set(err, rc, "url", "%s", why) : 0;
}

void lr_net_url_where(struct lr_str url, char out[static 120])
{
    struct lr_net_url u;
    const char *why;
    out[0] = 0;
    if (lr_net_url_parse(url, &u, &why))
        return;
    const char *l = u.bracketed ? "[" : "", *r = u.bracketed ? "]" : "";
    int cut = u.host.n > 100 ? 100 : (int)u.host.n;
    if (snprintf(out, 120, "%s%.*s%s:%u", l, cut, u.host.p, r, (unsigned)u.port) < 0)
        out[0] = 0;
}

static bool v4_denied(uint32_t a) /* host order */
{
    return a >> 16 == 0xA9FE || a >> 24 == 0 ||
           a == 0x646464C8; /* 169.254/16, 0/8, 100.100.100.200 */
}

static uint32_t tail_v4(const struct in6_addr *a)
{
    uint32_t v;
    memcpy(&v, a->s6_addr + 12, 4);
    return ntohl(v);
}

static bool v6_denied(const struct in6_addr *a)
{
    static const unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const unsigned char aws[16] = {0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};
    if (IN6_IS_ADDR_UNSPECIFIED(a) || IN6_IS_ADDR_LINKLOCAL(a) || memcmp(a, aws, 16) == 0)
        return true;
    bool carries = IN6_IS_ADDR_V4MAPPED(a) || memcmp(a, nat64, 12) == 0 || IN6_IS_ADDR_V4COMPAT(a);
    return carries && v4_denied(tail_v4(a));
}

bool lr_net_addr_denied(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, a, sizeof in);
        return v4_denied(ntohl(in.sin_addr.s_addr));
    }
    if (a->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, a, sizeof in6);
        return v6_denied(&in6.sin6_addr);
    }
    return true; /* we asked for neither */
}

/* 4 or 6 with the address, 0 when the host is a name. */
static int literal(const struct lr_net_url *u, struct in_addr *v4, struct in6_addr *v6)
{
    char z[64];
    size_t n = u->host.n;
    if (n && !u->bracketed && u->host.p[n - 1] == '.')
        n--; /* "169.254.169.254." is the same place to some resolvers */
    if (n >= sizeof z)
        return 0;
    memcpy(z, u->host.p, n);
    z[n] = 0;
    if (u->bracketed)
        return inet_pton(AF_INET6, z, v6) == 1 ? 6 : 0;
    return inet_aton(z, v4) ? 4 : 0;
}

bool lr_net_url_denied(const struct lr_net_url *u)
{
    struct in_addr v4;
    struct in6_addr v6;
    int kind = literal(u, &v4, &v6);
    return kind == 4 ? v4_denied(ntohl(v4.s_addr)) : kind == 6 && v6_denied(&v6);
}

bool lr_net_url_loopback(const struct lr_net_url *u)
{
    struct in_addr v4;
    struct in6_addr v6;
    int kind = literal(u, &v4, &v6);
    if (kind == 4)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (kind == 6)
        return IN6_IS_ADDR_LOOPBACK(&v6) ||
               (IN6_IS_ADDR_V4MAPPED(&v6) && tail_v4(&v6) >> 24 == 127);
    struct lr_str h = u->host;
    if (h.n && h.p[h.n - 1] == '.')
        h.n--;
    size_t n = sizeof ".localhost" - 1; /* RFC 6761: the whole domain is loopback; libcurl agrees */
    return lr_str_ieq(h, LR_STR("localhost")) ||
           (h.n > n && lr_str_ieq(lr_str(h.p + h.n - n, n), LR_STR(".localhost")));
}

static const char *either(const char *a, const char *b)
{
    return a && *a ? a : b && *b ? b : NULL;
}

void lr_net_route_fill(struct lr_net_route *route, struct lr_str url, const struct lr_net_opts *env)
{
    static const struct lr_net_opts none;
    if (!env)
        env = &none;
    bool tls = url.n >= 6 && strncasecmp(url.p, "https:", 6) == 0;
    route->proxy = either(route->proxy, tls ? env->env_https_proxy : env->env_http_proxy);
    route->no_proxy = either(route->no_proxy, env->env_no_proxy);
    route->ca_file = either(route->ca_file, env->env_ca_file);
}
