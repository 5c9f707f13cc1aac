/* SPDX-License-Identifier: Apache-2.0
 * api/test_streams_api.c - bytes in and out: arrival in time, large bodies, odd framing, slow
 * readers, the end.
 */
#include "kit.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BIG (20 << 20)

static atomic_int step;   /* how far the upstream may go */
static atomic_size_t got; /* bytes of the last body */
static atomic_uint sum;   /* of its bytes */

static unsigned sum_of(const char *p, size_t n)
{
    unsigned s = 1;
    for (size_t i = 0; i < n; i++)
        s = s * 31 + (unsigned char)p[i];
    return s;
}

static void wait_step(int n)
{
    for (int i = 0; i < 2000 && atomic_load(&step) < n; i++)
        sleep_ms(5);
}

static void stepwise(struct up_conn *c)
{
    up_begin(c, 200, "content-type: text/event-stream\r\n");
    up_chunk(c, "data: "
                "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
                "\"choices\":[{\"index\":0,\"delta\":{"
                "\"role\":\"assistant\",\"content\":\"first\"},\"finish_reason\":null}]}\n\n");
    wait_step(1);
    up_chunk(c, "data: "
                "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
                "\"choices\":[{\"index\":0,\"delta\":{"
                "\"content\":\"second\"},\"finish_reason\":null}]}\n\n");
    wait_step(2);
    up_chunk(c, "data: "
                "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
                "\"choices\":[{\"index\":0,\"delta\":{},"
                "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
    up_end(c);
}

static void up_bytes(struct up_conn *c, const struct up_req *q)
{
    if (strstr(q->path, "/big")) {
        char *body = malloc(BIG + 1);
        for (int i = 0; i < BIG; i++)
            body[i] = (char)('a' + (i * 7 + i / 1000) % 26);
        body[BIG] = 0;
        up_reply(c, 200, "content-type: application/octet-stream\r\n", body);
        free(body);
    } else if (strstr(q->path, "/upload")) {
        atomic_store(&got, q->body_len);
        atomic_store(&sum, sum_of(q->body, q->body_len));
        up_reply(c, 200, "content-type: text/plain\r\n", "thanks");
    } else if (strstr(q->path, "/events") || strstr(q->body, "step by step")) {
        stepwise(c);
    } else if (strcmp(q->method, "HEAD") == 0) {
        up_reply(c, 200, "content-type: text/plain\r\nx-odd: yes\r\n", "");
    } else if (strstr(q->path, "/nothing")) {
        up_reply(c, 204, "", "");
    } else {
        up_llm(c, q);
    }
}

static int start(void **state)
{
    (void)state;
    return set_up(up_bytes, (const char *const[]){"--origins", "http://app.example", "--hosts",
                                                 "gateway.example", NULL});
}

/* Sends a request and leaves the answer to be read. */
static int send_request(int port, const char *method, const char *path, const char *body)
{
    char head[1024];
    int fd = dial(port);
    int n = snprintf(head, sizeof head,
                     "%s %s HTTP/1.1\r\nhost: localhost\r\n" KEY "content-length: %zu\r\n\r\n",
                     method, path, strlen(body));
    send_all(fd, head, (size_t)n);
    send_all(fd, body, strlen(body));
    return fd;
}

/* Reads until the text has come. */
static void read_until(int fd, char *buf, size_t cap, size_t *n, const char *text)
{
    while (!strstr(buf, text)) {
        ssize_t k = recv(fd, buf + *n, cap - 1 - *n, 0);
        if (k <= 0)
            fail_msg("'%s' never came, only %s", text, buf);
        *n += (size_t)k;
        buf[*n] = 0;
    }
}

static void events_arrive_in_step(const char *method, const char *path, const char *body)
{
    char buf[8192] = "";
    size_t n = 0;
    atomic_store(&step, 0);
    int fd = send_request(gw->port, method, path, body);
    read_until(fd, buf, sizeof buf, &n, "first");
    assert_null(strstr(buf, "second"));
    atomic_store(&step, 1);
    read_until(fd, buf, sizeof buf, &n, "second");
    assert_null(strstr(buf, "[DONE]"));
    atomic_store(&step, 2);
    read_until(fd, buf, sizeof buf, &n, "[DONE]");
    close(fd);
}

static void events_pass_as_they_arrive(void **state)
{
    (void)state;
    events_arrive_in_step("POST", CHAT, STREAM("step by step"));
}

static void unknown_paths_stream_too(void **state)
{
    (void)state;
    events_arrive_in_step("GET", "/v1/fine_tuning/jobs/j/events?stream=true", "");
}

static void twenty_mebibytes_pass_both_ways_through_unknown_paths(void **state)
{
    (void)state;
    char *body = malloc(BIG + 1);
    for (int i = 0; i < BIG; i++)
        body[i] = (char)('A' + (i * 11 + i / 777) % 26);
    body[BIG] = 0;
    struct resp r =
        http(gw->port, "POST", "/v1/upload", "content-type: application/octet-stream\r\n", body);
    assert_int_equal(r.status, 200);
    assert_int_equal(atomic_load(&got), BIG);
    assert_int_equal(atomic_load(&sum), sum_of(body, BIG));
    resp_free(&r);
    r = http(gw->port, "GET", "/v1/big", "", NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.len, BIG);
    for (int i = 0; i < BIG; i++)
        body[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    assert_memory_equal(r.body, body, BIG);
    resp_free(&r);
    free(body);
}

static void a_large_question_is_keyed_and_answered_like_a_small_one(void **state)
{
    (void)state;
    size_t n = 3 << 20;
    char *body = malloc(n + 200);
    int k = snprintf(body, 200, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(body + k, 'q', n);
    strcpy(body + k + n, "\"}]}");
    struct resp r = post(gw->port, CHAT, body);
    assert_int_equal(r.status, 200);
    resp_free(&r);
    bool hit = false;
    for (int i = 0; i < 100 && !hit; i++) {
        r = post(gw->port, CHAT, body);
        hit = strcmp(header(&r, "x-larder-cache"), "hit") == 0;
        resp_free(&r);
    }
    assert_true(hit);
    free(body);
}

static void a_body_over_the_limit_is_413_in_every_framing(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--http-body-max", "64K", NULL});
    size_t n = 70000;
    char *body = malloc(n + 1), *chunked = malloc(n + 1024);
    memset(body, ' ', n);
    body[n] = 0;
    int before = up_count(up);
    struct resp r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 413);
    assert_string_equal(json_at(r.body, "code"), "body_too_large");
    assert_non_null(strstr(r.body, "65536"));
    resp_free(&r);
    r = post(g->port, "/v1/messages", body);
    assert_int_equal(r.status, 413);
    assert_non_null(strstr(r.body, "\"type\":\"error\""));
    resp_free(&r);
    int k = snprintf(chunked, 1024,
                     "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                     "transfer-encoding: chunked\r\n\r\n%zx\r\n",
                     n);
    memset(chunked + k, ' ', n);
    strcpy(chunked + k + n, "\r\n0\r\n\r\n");
    int fd = dial(g->port);
    r = talk(fd, chunked, strlen(chunked));
    assert_int_equal(r.status, 413);
    resp_free(&r);
    close(fd);
    assert_int_equal(up_count(up), before);
    r = post(g->port, CHAT, ASK("still alive"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
    free(body);
    free(chunked);
}

static void too_many_values_are_the_requests_own_fault(void **state)
{
    (void)state;
    size_t n = 12 << 20;
    char *body = malloc(n + 200);
    int k = snprintf(body, 200, "{\"model\":\"m\",\"messages\":[],\"x\":[");
    for (size_t i = 0; i < n; i += 2)
        memcpy(body + k + i, "0,", 2);
    strcpy(body + (size_t)k + n, "0]}");
    struct resp r = post(gw->port, CHAT, body);
    assert_int_equal(r.status, 413);
    resp_free(&r);
    memset(body + k, '[', n);
    r = post(gw->port, CHAT, body);
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(r.body, "nested deeper"));
    resp_free(&r);
    free(body);
}

static void a_chunked_question_is_the_same_question(void **state)
{
    (void)state;
    struct resp r = post(gw->port, CHAT, ASK("in chunks"));
    resp_free(&r);
    const char *body = ASK("in chunks");
    char text[2048];
    bool hit = false;
    int n = snprintf(text, sizeof text,
                     "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                     "transfer-encoding: chunked\r\n\r\n");
    for (const char *p = body; *p; p++)
        n += snprintf(text + n, sizeof text - (size_t)n, "1\r\n%c\r\n", *p);
    n += snprintf(text + n, sizeof text - (size_t)n, "0\r\n\r\n");
    for (int i = 0; i < 200 && !hit; i++) {
        int fd = dial(gw->port);
        r = talk(fd, text, (size_t)n);
        assert_int_equal(r.status, 200);
        hit = strcmp(header(&r, "x-larder-cache"), "hit") == 0;
        resp_free(&r);
        close(fd);
        sleep_ms(5);
    }
    assert_true(hit);
    /* Upstream it has a length. */
    n = snprintf(text, sizeof text,
                 "POST /v1/upload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: "
                 "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    int fd = dial(gw->port);
    r = talk(fd, text, (size_t)n);
    assert_int_equal(r.status, 200);
    assert_int_equal(atomic_load(&got), 5);
    assert_int_equal(atomic_load(&sum), sum_of("abcde", 5));
    resp_free(&r);
    close(fd);
}

static void head_options_and_empty_answers_pass(void **state)
{
    (void)state;
    struct resp r = http(gw->port, "HEAD", "/v1/files", "authorization: Bearer sk-test\r\n", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(up_last_head(up), "HEAD /v1/files HTTP"));
    assert_false(r.torn);
    assert_string_equal(header(&r, "x-odd"), "yes");
    resp_free(&r);
    r = http(gw->port, "OPTIONS", "/v1/files", "", NULL); /* no preflight: for the upstream */
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(up_last_head(up), "OPTIONS /v1/files HTTP"));
    resp_free(&r);
    r = http(gw->port, "DELETE", "/v1/nothing", "", NULL);
    assert_int_equal(r.status, 204);
    assert_string_equal(header(&r, "x-larder-cache"), "bypass");
    resp_free(&r);
    r = http(gw->port, "PATCH", "/v1/upload", "", "xyz");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(up_last_head(up), "PATCH /v1/upload HTTP"));
    assert_int_equal(atomic_load(&got), 3);
    resp_free(&r);
}

static void browsers_are_let_in_by_origin(void **state)
{
    (void)state;
    int n = up_count(up);
    struct resp r =
        http(gw->port, "OPTIONS", CHAT,
             "origin: http://app.example\r\naccess-control-request-method: POST\r\n"
             "access-control-request-headers: authorization, content-type, x-stainless-os\r\n",
             NULL);
    assert_int_equal(r.status, 204);
    assert_string_equal(header(&r, "access-control-allow-origin"), "http://app.example");
    assert_non_null(strstr(header(&r, "access-control-allow-methods"), "POST"));
    assert_non_null(strstr(header(&r, "access-control-allow-headers"), "x-stainless-os"));
    resp_free(&r);
    static const char *const foreign[] = {"http://evil.example",
                                          "https://app.example",
                                          "http://app.example:81",
                                          "http://app.example.evil",
                                          "null",
                                          "http://localhost:1"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        char h[300];
        snprintf(h, sizeof h, "origin: %s\r\naccess-control-request-method: POST\r\n", foreign[i]);
        r = http(gw->port, "OPTIONS", CHAT, h, NULL);
        assert_int_equal(r.status, 403);
        assert_string_equal(header(&r, "access-control-allow-origin"), "");
        resp_free(&r);
        snprintf(h, sizeof h, KEY "origin: %s\r\n", foreign[i]);
        r = http(gw->port, "POST", CHAT, h, ASK("foreign"));
        assert_int_equal(r.status, 403);
        assert_string_equal(json_at(r.body, "code"), "origin_refused");
        resp_free(&r);
        r = http(gw->port, "GET", "/v1/files", h, NULL);
        assert_int_equal(r.status, 403);
        resp_free(&r);
    }
    assert_int_equal(up_count(up), n);
    r = ask(gw, "origin: http://app.example\r\n", ASK("listed"));
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "access-control-allow-origin"), "http://app.example");
    assert_non_null(strstr(header(&r, "access-control-expose-headers"), "x-larder-cache"));
    resp_free(&r);
}

static struct resp with_host(const char *host)
{
    char text[1024];
    const char *body = ASK("host");
    int n = snprintf(
        text, sizeof text, "POST " CHAT " HTTP/1.1\r\n%s%s%s" KEY "content-length: %zu\r\n\r\n%s",
        host ? "host: " : "", host ? host : "", host ? "\r\n" : "", strlen(body), body);
    int fd = dial(gw->port);
    struct resp r = talk(fd, text, (size_t)n);
    close(fd);
    return r;
}

static void only_known_hosts_are_served(void **state)
{
    (void)state;
    static const char *const good[] = {"localhost", "LOCALHOST:99",    "127.0.0.1",
                                       "[::1]:1",   "gateway.example", "Gateway.Example:8100"};
    static const char *const bad[] = {"evil.example", "localhost.evil.example",
                                      "127.0.0.1.evil.example", "gateway.example.evil", ""};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct resp r = with_host(good[i]);
        if (r.status != 200)
            fail_msg("%s is refused", good[i]);
        resp_free(&r);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct resp r = with_host(bad[i]);
        assert_true(r.status == 403 || r.status == 400);
        resp_free(&r);
    }
    struct resp r = with_host(NULL);
    assert_true(r.status == 400 || r.status == 403);
    resp_free(&r);
}

static unsigned draw(unsigned *x)
{
    *x = *x * 1103515245 + 12345;
    return *x / 65536;
}

static void a_connection_goes_on_after_an_error(void **state)
{
    (void)state;
    char text[1024];
    int fd = dial(gw->port);
    static const struct {
        const char *body;
        int status;
    } in_turn[] = {{"{", 400},
                   {ASK("in turn"), 200},
                   {"[]", 400},
                   {ASK("fail400"), 400},
                   {ASK("in turn 2"), 200}};
    for (size_t i = 0; i < sizeof in_turn / sizeof in_turn[0]; i++) {
        int n = snprintf(text, sizeof text,
                         "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                         "content-length: %zu\r\n\r\n%s",
                         strlen(in_turn[i].body), in_turn[i].body);
        struct resp r = talk(fd, text, (size_t)n);
        assert_int_equal(r.status, in_turn[i].status);
        resp_free(&r);
    }
    close(fd);
}

static void noise_never_stops_the_door(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "GET / HTTP/9.9\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        "\r\n\r\n\r\n",
        "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: "
        "chunked\r\n\r\nffffffffffffffffffff\r\n",
        "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: "
        "chunked\r\n\r\n0\r\n\r\n",
        "GET /%00%ff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET http://evil.example/v1/files HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /v1/files HTTP/1.1\r\nhost: localhost\r\nx: a\r\n folded\r\n\r\n",
        "G\x01T / HTTP/1.1\r\n\r\n",
        "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
        "application/json\r\ncontent-length: 4\r\n\r\n\xff\xfe\x00\x01",
    };
    unsigned seed = (unsigned)getpid(), x = seed;
    for (size_t i = 0; i < 300 + sizeof odd / sizeof odd[0]; i++) {
        char blob[600];
        size_t n;
        if (i < sizeof odd / sizeof odd[0]) {
            n = strlen(odd[i]);
            memcpy(blob, odd[i], n);
        } else {
            /* Half of it is noise, half of it a request with noise in it. */
            n = 0;
            if (i % 2)
                n = (size_t)snprintf(blob, sizeof blob,
                                     "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                                     "content-length: 50\r\n\r\n{\"model\":\"m\",\"messages\":");
            size_t end = n + draw(&x) % 300;
            while (n < end)
                blob[n++] = (char)draw(&x);
            for (int k = 0; i % 2 && k < 3; k++) {
                size_t at = draw(&x) % n;
                blob[at] = (char)draw(&x);
            }
        }
        int fd = dial(gw->port);
        send_all(fd, blob, n);
        shutdown(fd, SHUT_WR);
        if (i % 4 == 0) { /* some wait for an answer, some go at once */
            char buf[4096];
            struct timeval t = {0, 50000};
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
            while (recv(fd, buf, sizeof buf, 0) > 0)
                ;
        }
        close(fd);
    }
    struct resp r = post(gw->port, CHAT, ASK("after the noise"));
    if (r.status != 200)
        fail_msg("seed %u", seed);
    resp_free(&r);
}

static void a_reader_that_does_not_read_stalls_nobody(void **state)
{
    (void)state;
    int idle[8];
    for (int i = 0; i < 8; i++)
        idle[i] = send_request(gw->port, "GET", "/v1/big", ""); /* 20 MiB that are not read */
    sleep_ms(100);
    for (int i = 0; i < 20; i++) {
        char body[256];
        snprintf(body, sizeof body, ASK("beside the sleepers %d"), i);
        struct resp r = post(gw->port, CHAT, body);
        assert_int_equal(r.status, 200);
        resp_free(&r);
    }
    struct resp r = http(gw->port, "GET", "/v1/big", "", NULL);
    assert_int_equal(r.len, BIG);
    resp_free(&r);
    for (int i = 0; i < 8; i++)
        close(idle[i]);
}

static void leavers_at_any_moment_do_no_harm(void **state)
{
    (void)state;
    unsigned x = 7;
    atomic_store(&step, 2);
    for (int i = 0; i < 100; i++) {
        int fd = send_request(gw->port, "POST", CHAT,
                              i % 2 ? STREAM("slow leaver")
                                    : WITH("\"temperature\":1,\"stream\":true", "slow"));
        sleep_ms((int)(draw(&x) % 8));
        if (i % 3 == 0) {
            struct linger l = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        }
        close(fd);
    }
    struct resp r = post(gw->port, CHAT, ASK("after the leavers"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
}

/* ---- the end ---- */

static void a_stop_lets_streams_finish_and_takes_no_new_ones(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--http-drain", "10s", NULL});
    struct asker k[2];
    int n = up_count(up);
    ask_begin(&k[0], g, CHAT, STREAM("slow drain"));
    ask_begin(&k[1], g, CHAT, ASK("slow drained whole"));
    EVENTUALLY(up_count(up) == n + 2);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    ask_end(&k[0]);
    ask_end(&k[1]);
    assert_non_null(strstr(k[0].r.body, "[DONE]"));
    assert_string_equal(json_at(k[1].r.body, "content"), "hello from upstream");
    resp_free(&k[0].r);
    resp_free(&k[1].r);
    gw_free(g);
}

static void a_stop_ends_in_time_and_a_second_signal_at_once(void **state)
{
    (void)state;
    static const char *const endless = STREAM("slow long 9000");
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--http-drain", "200ms", NULL});
    int n = up_count(up), fd = send_request(g->port, "POST", CHAT, endless);
    EVENTUALLY(up_count(up) == n + 1);
    assert_int_equal(gw_stop(g, SIGTERM), 0); /* cut off when the time is over */
    close(fd);
    gw_free(g);
    g = gw_start(up, NULL, (const char *const[]){"--http-drain", "5m", NULL});
    n = up_count(up);
    fd = send_request(g->port, "POST", CHAT, endless);
    EVENTUALLY(up_count(up) == n + 1);
    kill(g->pid, SIGTERM);
    EVENTUALLY(gw_said(g, "event=stopping"));
    sleep_ms(20);
    assert_int_equal(gw_stop(g, SIGTERM), 130);
    close(fd);
    gw_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_pass_as_they_arrive),
        cmocka_unit_test(unknown_paths_stream_too),
        cmocka_unit_test(twenty_mebibytes_pass_both_ways_through_unknown_paths),
        cmocka_unit_test(a_large_question_is_keyed_and_answered_like_a_small_one),
        cmocka_unit_test(a_body_over_the_limit_is_413_in_every_framing),
        cmocka_unit_test(too_many_values_are_the_requests_own_fault),
        cmocka_unit_test(a_chunked_question_is_the_same_question),
        cmocka_unit_test(head_options_and_empty_answers_pass),
        cmocka_unit_test(browsers_are_let_in_by_origin),
        cmocka_unit_test(only_known_hosts_are_served),
        cmocka_unit_test(a_connection_goes_on_after_an_error),
        cmocka_unit_test(noise_never_stops_the_door),
        cmocka_unit_test(a_reader_that_does_not_read_stalls_nobody),
        cmocka_unit_test(leavers_at_any_moment_do_no_harm),
        cmocka_unit_test(a_stop_lets_streams_finish_and_takes_no_new_ones),
        cmocka_unit_test(a_stop_ends_in_time_and_a_second_signal_at_once),
    };
    return cmocka_run_group_tests(tests, start, tear_down);
}
