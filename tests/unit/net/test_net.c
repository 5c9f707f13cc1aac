/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/net/test_net.c - requests against a scripted peer: answers, endings, limits, pauses,
 * cancels.
 */
#include "peer.h"

#include <inttypes.h>

static bool body_is(const struct call *c, const char *z)
{
    return lr_str_is(lr_buf_str(&c->body), z);
}

static bool head_has(const struct call *c, const char *line)
{
    return memmem(c->head.p, c->head.len, line, strlen(line)) != NULL;
}

/* Answers every request with the request itself. */
static void echo(struct peer_conn *c)
{
    while (peer_request(c)) {
        char head[128];
        bool is_head = memcmp(c->in, "HEAD ", 5) == 0;
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", c->used);
        if (!peer_says(c, head) || (!is_head && !peer_send(c, c->in, c->used)))
            break;
    }
}

static void request_arrives_as_given(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, echo, NULL);
    struct lr_net *n = net_open(NULL);
    static const char *const headers[] = {"X-One: a",
                                          "x-two:b",
                                          "X-Empty:",
                                          "Content-Length: 77",
                                          "Expect: 100-continue",
                                          "Authorization: Bearer k"};
    static const struct {
        const char *method, *body;
        bool announced;
    } t[] = {{"GET", "", false},  {"POST", "{\"a\":1}", true}, {"POST", "", true},
             {"PUT", "x", true},  {"DELETE", "", false},       {"DELETE", "why", true},
             {"PATCH", "", true}, {"OPTIONS", "", false},      {"GET", "odd", true}};
    struct call c;
    call_init(&c, n, p.url, "/v1/%7Ex/../y?q=a%20b");
    c.req.headers = headers;
    c.req.n_headers = LR_COUNT(headers);
    for (size_t i = 0; i < LR_COUNT(t); i++) {
        char want[600], length[64] = "";
        if (t[i].announced)
            snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(t[i].body));
        c.req.method = t[i].method;
        c.req.body = lr_strz(t[i].body);
        assert_int_equal(call_run(&c), 0);
        assert_int_equal(c.status, 200);
        snprintf(
            want, sizeof want,
            "%s /v1/%%7Ex/../y?q=a%%20b HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nX-One: a\r\nx-two:b\r\n"
            "X-Empty:\r\nAuthorization: Bearer k\r\n%s\r\n%s",
            t[i].method, (unsigned)p.port, length, t[i].body);
        if (!body_is(&c, want))
            fprintf(stderr, "got:\n%.*s\nwant:\n%s\n", LR_FMT(lr_buf_str(&c.body)), want);
        assert_true(body_is(&c, want));
        assert_true(c.req.sent && c.req.head_seen);
        assert_true(c.req.first_byte_ns && c.req.total_ns >= c.req.first_byte_ns);
    }
    c.req.method = "HEAD";
    c.req.body = LR_STR("");
    assert_int_equal(call_run(&c), 0);
    assert_int_equal(c.body.len, 0);
    assert_true(head_has(&c, "Content-Length: "));
    assert_int_equal(atomic_load(&p.n_conns), 1); /* one kept connection for all of them */
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

static void bad_requests_are_refused_at_start(void **s)
{
    (void)s;
    struct lr_net *n = net_open(NULL);
    static const char *const split[] = {"X: a\r\nY: b"}, *const nameless[] = {": a"},
                             *const colonless[] = {"just words"};
    static const struct {
        const char *method, *url, *const *headers, *body;
    } t[] = {{"GET", "http://h/", split, ""},     {"GET", "http://h/", nameless, ""},
             {"GET", "http://h/", colonless, ""}, {"G T", "http://h/", NULL, ""},
             {"", "http://h/", NULL, ""},         {"CONNECT", "http://h/", NULL, ""},
             {"HEAD", "http://h/", NULL, "body"}, {"GET", "ftp://h/", NULL, ""},
             {"GET", "http://u:p@h/", NULL, ""},  {"GET", NULL, NULL, ""},
             {"GET", "http://h/a b", NULL, ""},   {NULL, "http://h/", NULL, ""}};
    for (size_t i = 0; i < LR_COUNT(t); i++) {
        struct call c;
        call_init(&c, n, "", "");
        c.req.method = t[i].method;
        c.req.url = t[i].url;
        c.req.headers = t[i].headers;
        c.req.n_headers = t[i].headers ? 1 : 0;
        c.req.body = lr_strz(t[i].body);
        assert_int_equal(lr_net_start(n, &c.req), LR_EINVAL);
        assert_int_equal(c.n_done, 0);
        call_free(&c);
    }
    lr_net_close(n);
}

/* Scripts that answer a whole text to each request, or one and hang up. */
static void say_arg(struct peer_conn *c)
{
    while (peer_request(c))
        if (!peer_says(c, c->peer->arg))
            break;
}
static void say_arg_and_close(struct peer_conn *c)
{
    if (peer_request(c))
        peer_says(c, c->peer->arg);
}
static void say_arg_and_reset(struct peer_conn *c)
{
    if (peer_request(c) && peer_says(c, c->peer->arg))
        peer_reset(c);
}
static void say_arg_and_stall(struct peer_conn *c)
{
    if (peer_request(c) && peer_says(c, c->peer->arg))
        peer_wait_gone(c);
}

static void answers_end_as_framed_or_fail(void **s)
{
    (void)s;
    static const struct {
        peer_script *script;
        const char *text;
        int rc, status;
        const char *body;
    } t[] = {
        {say_arg, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 0, 200, "hi"},
        {say_arg, "HTTP/1.1 204 No Content\r\n\r\n", 0, 204, ""},
        {say_arg, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0, 304, ""},
        {say_arg, "HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx", 0, 500, "x"},
        {say_arg,
         "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 0, 302,
         ""},
        {say_arg, "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", 0, 401,
         ""},
        {say_arg,
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
         0, 200, "ok"},
        {say_arg,
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n"
         "0\r\nTrailer: t\r\n\r\n",
         0, 200, "abcde"},
        {say_arg_and_close, "HTTP/1.1 200 OK\r\n\r\nuntil close", 0, 200, "until close"},
        {say_arg_and_close, "HTTP/1.0 200 OK\r\n\r\n1.0", 0, 200, "1.0"},
        {say_arg, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nraw!", 0,
         200, "raw!"},
        {say_arg_and_close, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", LR_ENET, 200,
         "short"},
        {say_arg_and_close, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
         LR_ENET, 200, "hello"},
        {say_arg_and_close, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
         LR_ENET, 200, "hel"},
        {say_arg_and_close, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
         LR_ENET, 200, ""},
        {say_arg_and_reset, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", LR_ENET, 0, NULL},
        {say_arg_and_close, "", LR_ENET, 0, ""},
        {say_arg_and_close, "HTTP/1.1 200 OK\r\nContent-Len", LR_ENET, 0, ""},
        {say_arg_and_close, "SSH-2.0-OpenSSH\r\n", LR_ENET, 0, ""},
    };
    struct lr_net *n = net_open(NULL);
    for (size_t i = 0; i < LR_COUNT(t); i++) {
        static struct peer p;
        struct call c;
        char *text = strdup(t[i].text);
        peer_open(&p, t[i].script, text);
        int rc = call_get(&c, n, p.url, "/secret?token=1");
        if (rc != t[i].rc || (t[i].body && !body_is(&c, t[i].body)))
            fprintf(stderr, "row %zu: rc %s, status %d, body '%.*s', msg '%s'\n", i, lr_errname(rc),
                    c.status, LR_FMT(lr_buf_str(&c.body)), c.err.msg);
        assert_int_equal(rc, t[i].rc);
        if (t[i].body) {
            assert_int_equal(c.status, t[i].status);
            assert_true(body_is(&c, t[i].body));
        }
        assert_int_equal(c.n_heads, c.status ? 1 : 0);
        if (rc) {
            char where[64];
            snprintf(where, sizeof where, "127.0.0.1:%u", (unsigned)p.port);
            assert_string_equal(c.err.where, where);
            assert_int_equal(c.err.code, rc);
            assert_true(c.err.msg[0] && !strstr(c.err.msg, "secret") &&
                        !strstr(c.err.msg, "token"));
            assert_true(c.req.sent);
        }
        call_free(&c);
        peer_close(&p);
        free(text);
    }
    lr_net_close(n);
}

static void headers_come_in_order_trimmed_and_unfolded(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, say_arg,
              "HTTP/1.1 200 OK\r\nB:  two words \r\nA:1\r\nB: again\r\nEmpty:\r\n"
              "Fold: x\r\n  y\r\nContent-Length: 0\r\n\r\n");
    struct lr_net *n = net_open(NULL);
    struct call c;
    assert_int_equal(call_get(&c, n, p.url, "/"), 0);
    assert_true(lr_str_is(lr_buf_str(&c.head), "B: two words\nA: 1\nB: again\nEmpty: \n"
                                               "Fold: x    y\nContent-Length: 0\n") ||
                lr_str_is(lr_buf_str(&c.head), "B: two words\nA: 1\nB: again\nEmpty: \n"
                                               "Fold: x y\nContent-Length: 0\n"));
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

/* One event, then waits for the reader to say it has it. */
static void one_event_at_a_time(struct peer_conn *c)
{
    if (!peer_request(c) || !peer_says(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return;
    struct call *call = c->peer->arg;
    for (int i = 1; i <= 50; i++) {
        char chunk[64];
        snprintf(chunk, sizeof chunk, "a\r\ndata: %02d\n\n\r\n", i);
        if (!peer_says(c, chunk))
            return;
        pthread_mutex_lock(&call->mu);
        while (call->body.len < 10 * (size_t)i && !call->n_done)
            pthread_cond_wait(&call->news, &call->mu);
        pthread_mutex_unlock(&call->mu);
    }
    peer_says(c, "0\r\n\r\n");
    peer_wait_gone(c);
}

static void events_pass_as_they_arrive(void **s)
{
    (void)s;
    static struct peer p;
    struct call c;
    peer_open(&p, one_event_at_a_time, &c);
    struct lr_net *n = net_open(NULL);
    call_init(&c, n, p.url, "/");
    assert_int_equal(call_run(&c), 0); /* a held-back event would stop both ends for good */
    assert_int_equal(c.body.len, 500);
    assert_int_equal(c.n_bodies, 50);
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

static void timeouts_name_what_was_late(void **s)
{
    (void)s;
    static struct peer p;
    struct lr_net *n = net_open(NULL);
    struct call c;
    peer_open(&p, say_arg_and_stall, "");
    call_init(&c, n, p.url, "/");
    c.req.route.first_byte_ms = 20;
    c.req.route.total_ms = 60000;
    assert_int_equal(call_run(&c), LR_ETIMEOUT);
    assert_string_equal(c.err.msg, "no answer within 20 ms");
    assert_true(c.req.sent && !c.req.head_seen);
    call_free(&c);
    peer_close(&p);

    peer_open(&p, say_arg_and_stall, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    call_init(&c, n, p.url, "/");
    c.req.route.total_ms = 30; /* the head may or may not come in time */
    assert_int_equal(call_run(&c), LR_ETIMEOUT);
    assert_string_equal(c.err.msg, "no complete answer within 30 ms");
    c.req.route.total_ms = 200;
    c.req.route.first_byte_ms = 100; /* met, so it must not fire; unless this machine sleeps */
    assert_int_equal(call_run(&c), LR_ETIMEOUT);
    if (c.req.head_seen)
        assert_string_equal(c.err.msg, "no complete answer within 200 ms");
    call_free(&c);
    peer_close(&p);

    /* A listener whose backlog is full answers no SYN. */
    int fd = socket(AF_INET, SOCK_STREAM, 0), extra[4];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    for (int i = 0; i < 4; i++) {
        extra[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(extra[i], (struct sockaddr *)&a, sizeof a);
    }
    char base[64];
    snprintf(base, sizeof base, "http://127.0.0.1:%u", (unsigned)ntohs(a.sin_port));
    call_init(&c, n, base, "/");
    c.req.route.connect_ms = 20;
    assert_int_equal(call_run(&c), LR_ETIMEOUT);
    assert_string_equal(c.err.msg, "no connection within 20 ms");
    assert_false(c.req.sent);
    call_free(&c);
    for (int i = 0; i < 4; i++)
        close(extra[i]);
    close(fd);
    lr_net_close(n);
}

static void refused_connection_is_enet_and_not_sent(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, echo, NULL);
    peer_close(&p); /* its port is free now */
    struct lr_net *n = net_open(NULL);
    struct call c;
    assert_int_equal(call_get(&c, n, p.url, "/"), LR_ENET);
    assert_string_equal(c.err.msg, "no connection to the host: Connection refused");
    assert_false(c.req.sent);
    call_free(&c);
    lr_net_close(n);
}

static void huge_head(struct peer_conn *c)
{
    if (!peer_request(c) || !peer_says(c, "HTTP/1.1 200 OK\r\n"))
        return;
    size_t kind = *(size_t *)c->peer->arg;
    static char line[LR_KIB(1)];
    memset(line, 'x', sizeof line);
    memcpy(line, "a: ", 3);
    if (kind == 0) /* many lines */
        memcpy(line + sizeof line - 2, "\r\n", 2);
    for (int i = 0; i < 400; i++) /* or one line of 400 KiB */
        if (!peer_send(c, i && kind ? "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" : line,
                       i && kind ? 32 : sizeof line))
            return;
    for (int i = 0; kind && i < 400; i++)
        if (!peer_send(c, line + 3, sizeof line - 3))
            return;
    peer_says(c, "\r\n\r\n");
    peer_wait_gone(c);
}

static void endless_1xx(struct peer_conn *c)
{
    if (peer_request(c))
        while (peer_says(c, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"))
            ;
}

static void headers_over_the_limit_end_the_request(void **s)
{
    (void)s;
    struct lr_net *n = net_open(&(struct lr_net_opts){.header_max = 4096});
    for (size_t kind = 0; kind < 3; kind++) {
        static struct peer p;
        struct call c;
        peer_open(&p, kind == 2 ? endless_1xx : huge_head, &kind);
        assert_int_equal(call_get(&c, n, p.url, "/"), LR_EOVER);
        assert_int_equal(c.n_heads, 0);
        call_free(&c);
        peer_close(&p);
    }
    lr_net_close(n);
}

/* 3 MiB in pieces of odd sizes, Content-Length or chunked; byte i is i * 7 + i / 251. */
static char pattern(size_t i)
{
    return (char)(i * 7 + i / 251);
}
#define LONG_BODY ((size_t)3 << 20)
static void long_body(struct peer_conn *c)
{
    while (peer_request(c)) {
        bool chunked = strstr(c->in, "/chunked") != NULL;
        char head[100];
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", LONG_BODY);
        if (!peer_says(c, chunked ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" : head))
            return;
        for (size_t at = 0, k = 1; at < LONG_BODY; at += k) {
            char piece[40000], size[16];
            k = (at * 31 + 17) % sizeof piece + 1;
            k = k < LONG_BODY - at ? k : LONG_BODY - at;
            for (size_t i = 0; i < k; i++)
                piece[i] = pattern(at + i);
            snprintf(size, sizeof size, "%zx\r\n", k);
            if ((chunked && !peer_says(c, size)) || !peer_send(c, piece, k) ||
                (chunked && !peer_says(c, "\r\n")))
                return;
        }
        if (chunked && !peer_says(c, "0\r\n\r\n"))
            return;
    }
}

static void pauses_lose_and_repeat_no_byte(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, long_body, NULL);
    struct lr_net *n = net_open(NULL);
    struct call c;
    for (int i = 0; i < 6; i++) {
        call_init(&c, n, p.url, i % 2 ? "/chunked" : "/length");
        c.pause_every = i / 2 == 0 ? 1 : i / 2 == 1 ? 3 : 0;
        assert_int_equal(call_run(&c), 0);
        assert_int_equal(c.body.len, LONG_BODY);
        for (size_t k = 0; k < LONG_BODY; k++)
            if (c.body.p[k] != pattern(k))
                fail_msg("byte %zu differs", k);
        assert_true(!c.pause_every || c.n_paused > 0);
        call_free(&c);
    }
    assert_int_equal(atomic_load(&p.n_conns), 1);
    lr_net_close(n);
    peer_close(&p);
}

static void a_paused_request_can_be_cancelled_and_times_out(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, long_body, NULL);
    struct lr_net *n = net_open(NULL);
    for (int i = 0; i < 2; i++) {
        struct call c;
        call_init(&c, n, p.url, "/length");
        c.pause_every = 1;
        c.req.route.total_ms = i ? 50 : 0;
        assert_int_equal(lr_net_start(n, &c.req), 0);
        pthread_mutex_lock(&c.mu);
        while (!c.n_paused && !c.n_done)
            pthread_cond_wait(&c.news, &c.mu);
        if (!i)
            lr_net_cancel(n, &c.req);
        while (!c.n_done)
            pthread_cond_wait(&c.news, &c.mu);
        pthread_mutex_unlock(&c.mu);
        assert_int_equal(c.rc, i ? LR_ETIMEOUT : LR_ECANCEL);
        assert_int_equal(c.body.len, 0);
        call_free(&c);
    }
    lr_net_close(n);
    peer_close(&p);
}

static void stop_from_head_or_body_is_ecancel(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, long_body, NULL);
    struct lr_net *n = net_open(NULL);
    struct call c;
    call_init(&c, n, p.url, "/length");
    c.head_stops = true;
    assert_int_equal(call_run(&c), LR_ECANCEL);
    assert_int_equal(c.body.len, 0);
    c.head_stops = false;
    c.body_stop = 100000;
    assert_int_equal(call_run(&c), LR_ECANCEL);
    assert_true(c.body.len >= 100000 && c.body.len < LONG_BODY);
    c.pause_every = 2; /* the stop comes from within a resume */
    assert_int_equal(call_run(&c), LR_ECANCEL);
    assert_string_equal(c.err.msg, "stopped by the receiver");
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

static void hangs_up_after_each(struct peer_conn *c)
{
    if (peer_request(c))
        peer_says(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
}

static void kept_connections_that_died_are_replaced(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, hangs_up_after_each, NULL);
    struct lr_net *n = net_open(NULL);
    struct call c;
    call_init(&c, n, p.url, "/");
    c.req.method = "POST";
    c.req.body = LR_STR("x");
    for (int i = 0; i < 50; i++) {
        if (call_run(&c))
            fail_msg("request %d: %s", i, c.err.msg);
        assert_true(body_is(&c, "1"));
    }
    assert_int_equal(atomic_load(&p.n_requests), 50);
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

/* Serves one request a connection, reads the second and hangs up on it. */
static void dies_on_the_second(struct peer_conn *c)
{
    if (peer_request(c) && peer_says(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"))
        (void)peer_request(c); /* false = gone already, just as good */
}

/* libcurl counts its retries over the life of a handle and used to fail the sixth. */
static void the_tenth_dead_connection_is_replaced_like_the_first(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, dies_on_the_second, NULL);
    struct lr_net *n = net_open(NULL);
    struct call c;
    call_init(&c, n, p.url, "/");
    for (int i = 0; i < 20; i++)
        if (call_run(&c))
            fail_msg("request %d: %s", i, c.err.msg);
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

static void inflight_max_sheds_with_ebusy(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, say_arg_and_stall, "");
    struct lr_net *n = net_open(&(struct lr_net_opts){.inflight_max = 2});
    struct call c[3];
    for (int i = 0; i < 3; i++) {
        call_init(&c[i], n, p.url, "/");
        assert_int_equal(lr_net_start(n, &c[i].req), i == 2 ? LR_EBUSY : 0);
    }
    lr_net_cancel(n, &c[0].req);
    assert_int_equal(call_wait(&c[0]), LR_ECANCEL);
    assert_int_equal(lr_net_start(n, &c[2].req), 0);
    lr_net_close(n);
    assert_int_equal(c[1].rc, LR_ECANCEL);
    assert_int_equal(c[2].rc, LR_ECANCEL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(c[i].n_done, 1);
        call_free(&c[i]);
    }
    peer_close(&p);
}

/* ---- restart and close from on_done ---- */

struct again {
    struct call call;
    int left, refused;
};

static void start_again(struct lr_net_req *r, int rc, const struct lr_err *err)
{
    struct call *c = LR_CONTAINER(r, struct call, req);
    struct again *a = LR_CONTAINER(c, struct again, call);
    if (!rc && a->left-- > 0) {
        assert_int_equal(lr_net_start(c->net, r), 0);
        return;
    }
    if (rc == LR_ECANCEL)
        a->refused = lr_net_start(c->net, r);
    call_done(r, rc, err);
}

static void on_done_may_start_the_request_again(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, echo, NULL);
    struct lr_net *n = net_open(&(struct lr_net_opts){.inflight_max = 1});
    struct again a = {.left = 200};
    call_init(&a.call, n, p.url, "/");
    a.call.req.on_done = start_again;
    assert_int_equal(call_run(&a.call), 0);
    assert_int_equal(atomic_load(&p.n_requests), 201);
    assert_int_equal(atomic_load(&p.n_conns), 1);
    peer_close(&p);

    peer_open(&p, say_arg_and_stall, "");
    snprintf(a.call.url, sizeof a.call.url, "%s/", p.url);
    a.call.n_done = 0;
    assert_int_equal(lr_net_start(n, &a.call.req), 0);
    lr_net_close(n);
    assert_int_equal(a.refused, LR_ECLOSED);
    assert_int_equal(a.call.n_done, 1);
    call_free(&a.call);
    peer_close(&p);
}

/* ---- many at once ---- */

static void random_manners(struct peer_conn *c)
{
    struct lr_rng rng;
    while (peer_request(c)) {
        lr_rng_seed(&rng, (uint64_t)(uintptr_t)c + c->n);
        char path[16] = "", head[100];
        memcpy(path, strchr(c->in, '/'), 8);
        uint64_t size = strtoul(path + 1, NULL, 10);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %" PRIu64 "\r\n\r\n", size);
        if (!peer_says(c, head))
            return;
        for (uint64_t at = 0, k; at < size; at += k) {
            char piece[4096];
            k = lr_rng_below(&rng, sizeof piece) + 1;
            k = k < size - at ? k : size - at;
            memset(piece, (int)(size & 127), k);
            if (!peer_send(c, piece, k))
                return;
        }
        if (lr_rng_below(&rng, 8) == 0)
            return;
    }
}

static void check_outcome(struct call *c, size_t size, bool cancelled)
{
    assert_int_equal(c->n_done, 1);
    if (c->rc == 0) {
        assert_int_equal(c->body.len, size);
        for (size_t i = 0; i < size; i++)
            if (c->body.p[i] != (char)(size & 127))
                fail_msg("foreign byte");
        return;
    }
    if (!cancelled || c->rc != LR_ECANCEL)
        fail_msg("rc %s: %s", lr_errname(c->rc), c->err.msg);
}

static void five_hundred_at_once_with_random_cancels_each_end_once(void **s)
{
    (void)s;
    enum { N = 500 };
    uint64_t seed = 20260131;
    static struct peer p;
    static struct call c[N];
    static size_t size[N];
    static bool cancelled[N];
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    peer_open(&p, random_manners, NULL);
    struct lr_net *n = net_open(&(struct lr_net_opts){.idle_max = 16});
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            char path[16];
            size[i] = (size_t)lr_rng_below(&rng, 20000);
            cancelled[i] = lr_rng_below(&rng, 3) == 0;
            snprintf(path, sizeof path, "/%07zu", size[i]);
            call_init(&c[i], n, p.url, path);
            c[i].pause_every = lr_rng_below(&rng, 4) ? 0 : 2;
            assert_int_equal(lr_net_start(n, &c[i].req), 0);
            size_t k = (size_t)lr_rng_below(&rng, (uint64_t)i + 1);
            pthread_mutex_lock(&c[k].mu);
            if (cancelled[k] && !c[k].n_done)
                lr_net_cancel(n, &c[k].req);
            pthread_mutex_unlock(&c[k].mu);
        }
        for (int i = 0; i < N; i++) {
            call_wait(&c[i]);
            check_outcome(&c[i], size[i], cancelled[i]);
            call_free(&c[i]);
        }
    }
    lr_net_close(n);
    peer_close(&p);
}

struct hammer {
    struct lr_net *net;
    const char *url;
    uint64_t seed;
    int failed;
};

static void *hammer(void *arg)
{
    struct hammer *h = arg;
    struct lr_rng rng;
    lr_rng_seed(&rng, h->seed);
    for (int i = 0; i < 100; i++) {
        struct call c;
        size_t size = (size_t)lr_rng_below(&rng, 3000);
        char path[16];
        snprintf(path, sizeof path, "/%07zu", size);
        call_init(&c, h->net, h->url, path);
        bool cancel = lr_rng_below(&rng, 3) == 0;
        if (lr_net_start(h->net, &c.req)) {
            h->failed++;
        } else {
            pthread_mutex_lock(&c.mu);
            if (cancel && !c.n_done)
                lr_net_cancel(h->net, &c.req);
            if (!c.n_done)
                lr_net_resume(h->net, &c.req); /* without a pause: nothing */
            pthread_mutex_unlock(&c.mu);
            int rc = call_wait(&c);
            h->failed += rc == 0 ? c.body.len != size : !(cancel && rc == LR_ECANCEL);
        }
        call_free(&c);
    }
    return NULL;
}

static void many_threads_may_start_and_cancel(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, random_manners, NULL);
    struct lr_net *n = net_open(NULL);
    struct hammer h[4];
    pthread_t t[4];
    for (uint64_t i = 0; i < 4; i++) {
        h[i] = (struct hammer){n, p.url, 77 + i, 0};
        pthread_create(&t[i], NULL, hammer, &h[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(h[i].failed, 0);
    }
    lr_net_close(n);
    peer_close(&p);
}

static void fetch_blocks_until_the_answer_is_whole(void **s)
{
    (void)s;
    static struct peer p;
    peer_open(&p, echo, NULL);
    struct lr_buf out;
    struct lr_err err = {0};
    int status = 0;
    char url[128];
    snprintf(url, sizeof url, "%s/x", p.url);
    lr_buf_init(&out, 4096);
    assert_int_equal(lr_net_fetch("POST", url, NULL, 0, LR_STR("hello"), NULL, &out, &status, &err),
                     0);
    assert_int_equal(status, 200);
    assert_true(memmem(out.p, out.len, "\r\n\r\nhello", 9) != NULL);
    lr_buf_free(&out);
    lr_buf_init(&out, 16);
    assert_int_equal(lr_net_fetch("GET", url, NULL, 0, LR_STR(""), NULL, &out, &status, &err),
                     LR_EOVER);
    assert_int_equal(err.code, LR_EOVER);
    err = (struct lr_err){0};
    assert_int_equal(lr_net_fetch("GET", "no", NULL, 0, LR_STR(""), NULL, &out, &status, &err),
                     LR_EINVAL);
    lr_buf_free(&out);
    peer_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_arrives_as_given),
        cmocka_unit_test(bad_requests_are_refused_at_start),
        cmocka_unit_test(answers_end_as_framed_or_fail),
        cmocka_unit_test(headers_come_in_order_trimmed_and_unfolded),
        cmocka_unit_test(events_pass_as_they_arrive),
        cmocka_unit_test(timeouts_name_what_was_late),
        cmocka_unit_test(refused_connection_is_enet_and_not_sent),
        cmocka_unit_test(headers_over_the_limit_end_the_request),
        cmocka_unit_test(pauses_lose_and_repeat_no_byte),
        cmocka_unit_test(a_paused_request_can_be_cancelled_and_times_out),
        cmocka_unit_test(stop_from_head_or_body_is_ecancel),
        cmocka_unit_test(kept_connections_that_died_are_replaced),
        cmocka_unit_test(the_tenth_dead_connection_is_replaced_like_the_first),
        cmocka_unit_test(inflight_max_sheds_with_ebusy),
        cmocka_unit_test(on_done_may_start_the_request_again),
        cmocka_unit_test(five_hundred_at_once_with_random_cancels_each_end_once),
        cmocka_unit_test(many_threads_may_start_and_cancel),
        cmocka_unit_test(fetch_blocks_until_the_answer_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
