/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/net/test_url.c - URLs taken and refused, addresses refused, routes, the deadline heap.
 */
#include "net/net_int.h"
#include "peer.h"

static void urls_are_taken_or_refused(void **s)
{
    (void)s;
    static const struct {
        const char *url, *where; /* where "" = refused */
    } t[] = {
        {"http://a", "a:80"},
        {"https://a.b-c_d.e:8443/p?q#f", "a.b-c_d.e:8443"},
        {"HTTPS://Host", "Host:443"},
        {"http://127.0.0.1:1", "127.0.0.1:1"},
        {"http://[::1]", "[::1]:80"},
        {"http://[::ffff:1.2.3.4]:65535/", "[::ffff:1.2.3.4]:65535"},
        {"http://a?x=@b", "a:80"},
        {"http://a/@", "a:80"},
        {"http://h.", "h.:80"},
        {"", ""},
        {"http://", ""},
        {"https:///x", ""},
        {"http:/a", ""},
        {"a", ""},
        {"//a", ""},
        {"ftp://a", ""},
        {"file:///etc/passwd", ""},
        {"gopher://a", ""},
        {"http://u@h", ""},
        {"http://u:p@h/", ""},
        {"http://h:0", ""},
        {"http://h:65536", ""},
        {"http://h:", ""},
        {"http://h:8x", ""},
        {"http://h:+8", ""},
        {"http://h:000080", ""},
        {"http://.h", ""},
        {"http://h%2e", ""},
        {"http://h\\@x/", ""},
        {"http://h /", ""},
        {"http://h/\n", ""},
        {"http://h/\x7f", ""},
        {"http://\xc3\xa9.example", ""},
        {"http://[::1", ""},
        {"http://[::1]x", ""},
        {"http://[]", ""},
        {"http://[fe80::1%25eth0]/", ""},
        {"http://[1.2.3.4]", ""},
        {"http://[zz]", ""},
        {"http://a:b:1", ""},
        {"http://h;x", ""},
    };
    for (size_t i = 0; i < LR_COUNT(t); i++) {
        struct lr_err err = {0};
        char where[120];
        int rc = lr_net_url_check(lr_strz(t[i].url), &err);
        lr_net_url_where(lr_strz(t[i].url), where);
        if (rc != (t[i].where[0] ? 0 : LR_EINVAL) || strcmp(where, t[i].where))
            fail_msg("%s: %s, where '%s', %s", t[i].url, lr_errname(rc), where, err.msg);
        assert_int_equal(err.code, rc);
    }
    static char big[LR_NET_URL_MAX + 2];
    memset(big, 'a', sizeof big - 1);
    memcpy(big, "http://h/", 9);
    assert_int_equal(lr_net_url_check(lr_str(big, LR_NET_URL_MAX), NULL), 0);
    assert_int_equal(lr_net_url_check(lr_str(big, LR_NET_URL_MAX + 1), NULL), LR_EINVAL);
    assert_int_equal(lr_net_url_check(lr_str("http://h/\0x", 11), NULL), LR_EINVAL);
}

static void literals_are_recognised_in_every_spelling(void **s)
{
    (void)s;
    static const struct {
        const char *host;
        bool denied, loopback;
    } t[] = {
        {"169.254.169.254", true, false},
        {"169.254.0.0", true, false},
        {"169.254.169.254.", true, false},
        {"2852039166", true, false},
        {"0xA9FEA9FE", true, false},
        {"0xa9.254.0251.0376", true, false},
        {"169.254.43518", true, false},
        {"169.16689662", true, false},
        {"0.0.0.0", true, false},
        {"0", true, false},
        {"0x0", true, false},
        {"0.1.2.3", true, false},
        {"100.100.100.200", true, false},
        {"[::]", true, false},
        {"[::0]", true, false},
        {"[fe80::1]", true, false},
        {"[febf:ffff::1]", true, false},
        {"[::ffff:169.254.1.1]", true, false},
        {"[::ffff:0:0]", true, false},
        {"[::169.254.1.1]", true, false},
        {"[64:ff9b::a9fe:a9fe]", true, false},
        {"[fd00:ec2::254]", true, false},
        {"127.0.0.1", false, true},
        {"127.1", false, true},
        {"0x7f.1", false, true},
        {"2130706433", false, true},
        {"127.255.255.255", false, true},
        {"[::1]", false, true},
        {"[::ffff:127.0.0.1]", false, true},
        {"localhost", false, true},
        {"LocalHost.", false, true},
        {"a.localhost", false, true},
        {"localhost.example", false, false},
        {"notlocalhost", false, false},
        {".localhost.x", false, false},
        {"128.0.0.1", false, false},
        {"126.255.255.255", false, false},
        {"10.0.0.1", false, false},
        {"192.168.1.1", false, false},
        {"169.253.255.255", false, false},
        {"169.255.0.0", false, false},
        {"1.0.0.0", false, false},
        {"[fec0::1]", false, false},
        {"[fd00::1]", false, false},
        {"[2001:db8::1]", false, false},
        {"[64:ff9b::808:808]", false, false},
        {"169.254.169.254.nip.io", false, false}, /* a name: its address is checked when known */
        {"example.com", false, false},
    };
    for (size_t i = 0; i < LR_COUNT(t); i++) {
        struct lr_net_url u = {.bracketed = t[i].host[0] == '['};
        u.host = lr_strz(t[i].host);
        if (u.bracketed)
            u.host = lr_str(u.host.p + 1, u.host.n - 2);
        if (lr_net_url_denied(&u) != t[i].denied || lr_net_url_loopback(&u) != t[i].loopback)
            fail_msg("%s: denied %d, loopback %d", t[i].host, lr_net_url_denied(&u),
                     lr_net_url_loopback(&u));
    }
}

static void route_takes_the_environment_only_where_it_is_silent(void **s)
{
    (void)s;
    static const struct lr_net_opts env = {.env_https_proxy = "http://s",
                                           .env_http_proxy = "http://p",
                                           .env_no_proxy = "x",
                                           .env_ca_file = "ca"};
    struct lr_net_route r = {0};
    lr_net_route_fill(&r, LR_STR("https://h"), &env);
    assert_string_equal(r.proxy, "http://s");
    assert_string_equal(r.no_proxy, "x");
    assert_string_equal(r.ca_file, "ca");
    r = (struct lr_net_route){.proxy = "", .no_proxy = "y"};
    lr_net_route_fill(&r, LR_STR("http://h"), &env);
    assert_string_equal(r.proxy, "http://p");
    assert_string_equal(r.no_proxy, "y");
    r = (struct lr_net_route){.proxy = "none", .ca_file = "mine"};
    lr_net_route_fill(&r, LR_STR("http://h"), &env);
    assert_string_equal(r.proxy, "none");
    assert_string_equal(r.ca_file, "mine");
    r = (struct lr_net_route){0};
    lr_net_route_fill(&r, LR_STR("http://h"), NULL);
    assert_null(r.proxy);
}

/* Twin: the smallest of an array, found by looking at all. */
static void heap_gives_the_earliest(void **s)
{
    (void)s;
    enum { N = 200 };
    static struct lr_net_xfer x[N];
    struct lr_net_xfer *slots[N];
    struct lr_net_heap h = {slots, 0};
    struct lr_rng rng;
    uint64_t seed = 9;
    lr_rng_seed(&rng, seed);
    for (int i = 0; i < N; i++)
        x[i].heap_at = SIZE_MAX;
    for (int step = 0; step < 20000; step++) {
        struct lr_net_xfer *e = &x[lr_rng_below(&rng, N)];
        if (e->heap_at == SIZE_MAX) {
            e->due_ns = lr_rng_below(&rng, 50);
            lr_net_heap_put(&h, e);
        } else {
            lr_net_heap_drop(&h, e);
            lr_net_heap_drop(&h, e); /* twice is fine */
        }
        uint64_t best = LR_NET_NEVER;
        size_t n = 0;
        for (int i = 0; i < N; i++) {
            if (x[i].heap_at == SIZE_MAX)
                continue;
            n++;
            best = x[i].due_ns < best ? x[i].due_ns : best;
        }
        if (h.n != n || (n && h.v[0]->due_ns != best))
            fail_msg("step %d, seed %llu", step, (unsigned long long)seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_or_refused),
        cmocka_unit_test(literals_are_recognised_in_every_spelling),
        cmocka_unit_test(route_takes_the_environment_only_where_it_is_silent),
        cmocka_unit_test(heap_gives_the_earliest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
