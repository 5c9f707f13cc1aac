/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/net/test_guard.c - names, forbidden addresses and proxies. This program brings its own
 * getaddrinfo, which libcurl finds before libc's: names lead where the test says, or hang.
 */
#include "peer.h"

#include <netdb.h>
#include <semaphore.h>
#include <stdlib.h>

static sem_t release_dns; /* one post lets one hanging lookup go */

static struct addrinfo *one_address(const char *ip, int family)
{
    struct addrinfo *ai = calloc(1, sizeof *ai);
    struct sockaddr_in6 *sa = calloc(1, sizeof *sa); /* the larger of both */
    ai->ai_family = family;
    ai->ai_socktype = SOCK_STREAM;
    ai->ai_addr = (struct sockaddr *)sa;
    ai->ai_addr->sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        ai->ai_addrlen = sizeof(struct sockaddr_in);
        inet_pton(family, ip, &((struct sockaddr_in *)(void *)sa)->sin_addr);
    } else {
        ai->ai_addrlen = sizeof *sa;
        inet_pton(family, ip, &sa->sin6_addr);
    }
    return ai;
}

/* The port is libcurl's to give: as a number in `service`. */
static void set_ports(struct addrinfo *ai, const char *service)
{
    uint64_t port = 0;
    if (service && lr_parse_u64(lr_strz(service), &port))
        port = 0;
    for (; ai; ai = ai->ai_next)
        ((struct sockaddr_in *)(void *)ai->ai_addr)->sin_port = htons((uint16_t)port);
}

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **out)
{
    (void)hints;
    *out = NULL;
    if (strcmp(name, "hang.test") == 0) {
        while (sem_wait(&release_dns) && errno == EINTR)
            ;
        return EAI_AGAIN;
    }
    if (strcmp(name, "meta.test") == 0)
        *out = one_address("169.254.169.254", AF_INET);
    else if (strcmp(name, "meta6.test") == 0)
        *out = one_address("fe80::1", AF_INET6);
    else if (strcmp(name, "any.test") == 0)
        *out = one_address("0.0.0.0", AF_INET);
    else if (strcmp(name, "local.test") == 0)
        *out = one_address("127.0.0.1", AF_INET);
    else if (strcmp(name, "mixed.test") == 0) {
        *out = one_address("169.254.1.1", AF_INET);
        (*out)->ai_next = one_address("127.0.0.1", AF_INET);
    }
    set_ports(*out, service);
    return *out ? 0 : EAI_NONAME;
}

__attribute__((visibility("default"))) void freeaddrinfo(struct addrinfo *ai)
{
    while (ai) {
        struct addrinfo *next = ai->ai_next;
        free(ai->ai_addr);
        free(ai);
        ai = next;
    }
}

/* Remembers request lines and answers 200; CONNECT gets `arg`, or a tunnel to nowhere. */
struct seen {
    pthread_mutex_t mu;
    char line[256], auth[64];
};
static struct seen seen = {.mu = PTHREAD_MUTEX_INITIALIZER};

static void record(struct peer_conn *c)
{
    while (peer_request(c)) {
        struct lr_str rest = lr_str(c->in, c->n);
        struct lr_str line = lr_str_trim(lr_str_cut(&rest, '\n'));
        struct lr_str auth = peer_header(c, "authorization");
        pthread_mutex_lock(&seen.mu);
        snprintf(seen.line, sizeof seen.line, "%.*s", LR_FMT(line));
        snprintf(seen.auth, sizeof seen.auth, "%.*s", LR_FMT(auth));
        pthread_mutex_unlock(&seen.mu);
        bool tunnel = lr_str_starts(line, LR_STR("CONNECT "));
        if (!peer_says(c, tunnel ? "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
                                 : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
            break;
    }
}

/* Base URL with another name for 127.0.0.1. */
static char *named(char *out, const char *scheme, const char *name, const struct peer *p)
{
    snprintf(out, 100, "%s://%s:%u", scheme, name, (unsigned)p->port);
    return out;
}

static void forbidden_addresses_are_refused_whatever_leads_there(void **s)
{
    (void)s;
    static const char *const hosts[] = {
        "meta.test", "meta6.test", "any.test",  "169.254.169.254",         "0xA9FEA9FE",
        "0.0.0.0",   "[::]",       "[fe80::1]", "[::ffff:169.254.169.254]"};
    static struct peer p;
    peer_open(&p, record, NULL);
    struct lr_net *n = net_open(NULL);
    for (size_t i = 0; i < LR_COUNT(hosts); i++) {
        char base[100];
        struct call c;
        int rc = call_get(&c, n, named(base, i % 2 ? "http" : "https", hosts[i], &p), "/latest");
        if (rc != LR_EDENIED)
            fail_msg("%s: %s %s", hosts[i], lr_errname(rc), c.err.msg);
        assert_false(c.req.sent);
        call_free(&c);
    }
    assert_int_equal(atomic_load(&p.n_conns), 0);
    lr_net_close(n);
    peer_close(&p);
}

static void allowed_addresses_of_a_name_are_used(void **s)
{
    (void)s;
    static const char *const hosts[] = {"local.test", "mixed.test", "localhost"};
    static struct peer p;
    peer_open(&p, record, NULL);
    struct lr_net *n = net_open(NULL);
    for (size_t i = 0; i < LR_COUNT(hosts); i++) {
        char base[100];
        struct call c;
        assert_int_equal(call_get(&c, n, named(base, "http", hosts[i], &p), "/"), 0);
        call_free(&c);
    }
    lr_net_close(n);
    peer_close(&p);
}

static void unknown_names_are_edns(void **s)
{
    (void)s;
    struct lr_net *n = net_open(NULL);
    struct call c;
    assert_int_equal(call_get(&c, n, "http://nowhere.test:81", "/path"), LR_EDNS);
    assert_string_equal(c.err.where, "nowhere.test:81");
    assert_string_equal(c.err.msg, "the host's name does not resolve");
    assert_false(c.req.sent);
    call_free(&c);
    call_init(&c, n, "http://a.test", "/");
    c.req.route.proxy = "http://nowhere.test:81";
    assert_int_equal(call_run(&c), LR_EDNS);
    assert_string_equal(c.err.msg, "the proxy's name does not resolve");
    call_free(&c);
    lr_net_close(n);
}

static void a_hanging_lookup_stops_nobody_else(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, record, NULL);
    struct lr_net *n = net_open(NULL);
    struct call hung[3], c;
    for (int i = 0; i < 3; i++) {
        call_init(&hung[i], n, "http://hang.test", "/");
        hung[i].req.route.first_byte_ms = i == 1 ? 20 : 0;
        hung[i].req.route.connect_ms = i == 2 ? 20 : 0;
        assert_int_equal(lr_net_start(n, &hung[i].req), 0);
    }
    assert_int_equal(call_get(&c, n, p.url, "/"), 0);
    lr_net_cancel(n, &hung[0].req);
    for (int i = 0; i < 3; i++) /* ends although getaddrinfo has not returned */
        assert_int_equal(call_wait(&hung[i]), i ? LR_ETIMEOUT : LR_ECANCEL);
    assert_int_equal(call_run(&c), 0);
    for (int i = 0; i < 3; i++)
        sem_post(&release_dns);
    lr_net_close(n);
    for (int i = 0; i < 3; i++)
        call_free(&hung[i]);
    call_free(&c);
    peer_close(&p);
}

static void close_does_not_wait_for_a_lookup(void **s)
{
    (void)s;
    struct lr_net *n = net_open(NULL);
    struct call c;
    call_init(&c, n, "http://hang.test", "/");
    assert_int_equal(lr_net_start(n, &c.req), 0);
    lr_net_close(n);
    assert_int_equal(c.rc, LR_ECANCEL);
    sem_post(&release_dns);
    call_free(&c);
}

static void proxies_are_used_as_routes_and_environment_say(void **s)
{
    (void)s;
    static struct peer p, direct;
    peer_open(&p, record, NULL);
    peer_open(&direct, record, NULL);
    char proxy[100], local[100];
    named(proxy, "http", "127.0.0.1", &p);
    named(local, "http", "local.test", &direct);
    static const char *const auth[] = {"Authorization: Bearer k"};
    struct {
        const char *base, *route, *env_http, *env_https, *no_proxy, *line;
        int rc;
    } t[] = {
        /* absolute form for http, CONNECT for https */
        {"http://up.test:81", proxy, NULL, NULL, NULL, "GET http://up.test:81/v1 HTTP/1.1", 0},
        {"http://up.test", NULL, proxy, NULL, NULL, "GET http://up.test/v1 HTTP/1.1", 0},
        {"https://up.test", NULL, NULL, proxy, NULL, "CONNECT up.test:443 HTTP/1.1", LR_ENET},
        {"https://up.test:8443", proxy, NULL, NULL, NULL, "CONNECT up.test:8443 HTTP/1.1", LR_ENET},
        /* the other scheme's, "none", no_proxy, loopback: direct */
        {local, NULL, NULL, proxy, NULL, "GET /v1 HTTP/1.1", 0},
        {local, "none", proxy, proxy, NULL, "GET /v1 HTTP/1.1", 0},
        {local, NULL, proxy, NULL, "a,.test", "GET /v1 HTTP/1.1", 0},
        {local, proxy, NULL, NULL, "local.test", "GET /v1 HTTP/1.1", 0},
        {direct.url, proxy, proxy, proxy, NULL, "GET /v1 HTTP/1.1", 0},
        /* a literal is refused although the proxy would connect */
        {"http://169.254.169.254", proxy, NULL, NULL, NULL, "", LR_EDENIED},
        {"https://[fe80::1]", NULL, NULL, proxy, NULL, "", LR_EDENIED},
        {"http://2852039166", proxy, NULL, NULL, NULL, "", LR_EDENIED},
    };
    for (size_t i = 0; i < LR_COUNT(t); i++) {
        struct lr_net *n = net_open(&(struct lr_net_opts){.env_http_proxy = t[i].env_http,
                                                          .env_https_proxy = t[i].env_https,
                                                          .env_no_proxy = t[i].no_proxy});
        struct call c;
        seen.line[0] = seen.auth[0] = 0;
        call_init(&c, n, t[i].base, "/v1");
        c.req.route.proxy = t[i].route;
        c.req.headers = auth;
        c.req.n_headers = 1;
        int rc = call_run(&c);
        lr_net_close(n);
        if (rc != t[i].rc || strcmp(seen.line, t[i].line))
            fail_msg("row %zu: %s '%s', saw '%s'", i, lr_errname(rc), c.err.msg, seen.line);
        if (lr_str_starts(lr_strz(t[i].line), LR_STR("CONNECT"))) {
            assert_string_equal(seen.auth, ""); /* the upstream's credential is not the proxy's */
            assert_string_equal(c.err.msg, "the proxy answered CONNECT with status 403");
            assert_false(c.req.sent);
            assert_int_equal(c.n_heads, 0);
        }
        call_free(&c);
    }
    peer_close(&p);
    peer_close(&direct);
}

/* libcurl would read these by itself. */
static void the_process_environment_is_not_read(void **s)
{
    (void)s;
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY"};
    static struct peer p;
    peer_open(&p, record, NULL);
    for (size_t i = 0; i < LR_COUNT(names); i++)
        assert_int_equal(setenv(names[i], "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    char base[100], proxy[100];
    struct lr_net *n = net_open(NULL);
    struct call c;
    assert_int_equal(call_get(&c, n, named(base, "http", "local.test", &p), "/"), 0);
    assert_string_equal(seen.line, "GET / HTTP/1.1");
    c.req.route.proxy = named(proxy, "http", "127.0.0.1", &p);
    assert_int_equal(call_run(&c), 0); /* and no_proxy=* does not undo the route's proxy */
    assert_memory_equal(seen.line, "GET http://local.test:", 22);
    call_free(&c);
    lr_net_close(n);
    for (size_t i = 0; i < LR_COUNT(names); i++)
        unsetenv(names[i]);
    unsetenv("no_proxy");
    peer_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forbidden_addresses_are_refused_whatever_leads_there),
        cmocka_unit_test(allowed_addresses_of_a_name_are_used),
        cmocka_unit_test(unknown_names_are_edns),
        cmocka_unit_test(a_hanging_lookup_stops_nobody_else),
        cmocka_unit_test(close_does_not_wait_for_a_lookup),
        cmocka_unit_test(proxies_are_used_as_routes_and_environment_say),
        cmocka_unit_test(the_process_environment_is_not_read),
    };
    sem_init(&release_dns, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
