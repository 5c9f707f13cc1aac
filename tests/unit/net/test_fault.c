/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/net/test_fault.c - each allocation, system call and thread start of the module is made
 * to fail once. Expected: a clean error, exactly one on_done per start, no leak (sanitizers).
 *
 * libcurl's own allocations are included where the caller's thread makes them (open, start): this
 * program gives libcurl its heap before net/ starts it. Those of the net thread are left alone:
 * when libcurl 7.88 cannot add a socket to its table it keeps a broken entry there and later
 * divides by its size of zero.
 */
#include "peer.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>

static _Thread_local bool is_caller;

static void *hook_malloc(size_t n)
{
    return is_caller && lr_fault_here() ? NULL : malloc(n);
}
static void *hook_calloc(size_t count, size_t size)
{
    return is_caller && lr_fault_here() ? NULL : calloc(count, size);
}
static void *hook_realloc(void *p, size_t n)
{
    return is_caller && lr_fault_here() ? NULL : realloc(p, n);
}
static char *hook_strdup(const char *z)
{
    return is_caller && lr_fault_here() ? NULL : strdup(z);
}

/* Two answers a connection, one of them chunked, with a few headers. */
static void two_answers(struct peer_conn *c)
{
    if (peer_request(c) &&
        peer_says(c, "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 5\r\n\r\nhello") &&
        peer_request(c))
        peer_says(c,
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
}

static bool clean(int rc)
{
    return rc == LR_ENOMEM || rc == LR_EIO || rc == LR_EBUSY || rc == LR_ENET || rc == LR_EDNS ||
           rc == LR_ETLS || rc == LR_EOVER || rc == LR_EINVAL;
}

/* One request; returns the first error, and fails the test on anything unclean. */
static int one(struct lr_net *n, const char *base, bool pause)
{
    static const char *const headers[] = {"X-Empty:", "X: y"};
    struct call c;
    call_init(&c, n, base, "/");
    c.req.method = "POST";
    c.req.body = LR_STR("body");
    c.req.headers = headers;
    c.req.n_headers = LR_COUNT(headers);
    c.req.route.total_ms = 10000;
    c.pause_every = pause ? 1 : 0;
    lr_buf_reserve(&c.body, 64); /* a fault here is not the module's */
    int rc = lr_net_start(n, &c.req);
    if (!rc) {
        rc = call_wait(&c);
        assert_int_equal(c.n_done, 1);
        assert_int_equal(c.err.code, rc);
    } else {
        assert_int_equal(c.n_done, 0);
    }
    if (rc ? !clean(rc) : c.status != 200)
        fail_msg("%s: %s", lr_errname(rc), c.err.msg);
    call_free(&c);
    return rc;
}

static int scenario(const char *base)
{
    struct lr_net *n = NULL;
    int rc = lr_net_open(&n, &(struct lr_net_opts){.env_http_proxy = "http://127.0.0.1:1",
                                                   .env_no_proxy = "127.0.0.1"});
    if (rc) {
        assert_null(n);
        assert_true(clean(rc));
        return rc;
    }
    rc = one(n, base, true);
    int rc2 = one(n, base, false); /* whatever happened, the next one is served */
    lr_net_close(n);
    return rc ? rc : rc2;
}

static void every_failure_is_clean(void **s)
{
    (void)s;
    static struct peer p;
    uint64_t n = 0, failed = 0;
    for (bool hit = true; hit;) {
        if (n % 500 == 0) { /* the peer holds a bounded number of connections */
            if (n)
                peer_close(&p);
            peer_open(&p, two_answers, NULL);
        }
        lr_fault_arm(++n);
        int rc = scenario(p.url);
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        failed += rc != 0;
        if (!hit)
            assert_int_equal(rc, 0);
    }
    peer_close(&p);
    print_message("%" PRIu64 " fault points, %" PRIu64 " ended in an error\n", n - 1, failed);
    assert_true(failed > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failure_is_clean)};
    if (curl_global_init_mem(CURL_GLOBAL_ALL, hook_malloc, free, hook_realloc, hook_strdup,
                             hook_calloc))
        return 1;
    is_caller = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
