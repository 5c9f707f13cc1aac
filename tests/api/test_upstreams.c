/* SPDX-License-Identifier: Apache-2.0
 * api/test_upstreams.c - which upstream is asked, with what, how often, and what becomes of its
 * failures.
 */
#include "kit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

static struct up *a, *b; /* two that answer */

static int start(void **state)
{
    (void)state;
    a = up_start(up_llm);
    b = up_start(up_llm);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    up_stop(a);
    up_stop(b);
    return 0;
}

/* A port that nobody listens at. */
static int closed_port(void)
{
    struct up *u = up_start(up_llm);
    int port = u->port;
    up_stop(u);
    return port;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Asks with a system prompt; the name of the upstream that answered. */
static const char *who_answers(struct gw *g, int system, int question)
{
    static char name[64];
    char body[512];
    snprintf(
        body, sizeof body,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"you are number %d\"},"
        "{\"role\":\"user\",\"content\":\"question %d\"}]}",
        system, question);
    struct resp r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 200);
    snprintf(name, sizeof name, "%s", header(&r, "x-larder-upstream"));
    resp_free(&r);
    return name;
}

/* ---- choice ---- */

static void one_system_prompt_stays_with_one_upstream(void **state)
{
    (void)state;
    struct up *c = up_start(up_llm);
    struct gw *g = gw_config(NULL,
                             "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d'}\n- {name: b, "
                             "url: 'http://127.0.0.1:%d'}\n"
                             "- {name: c, url: 'http://127.0.0.1:%d'}\n",
                             a->port, b->port, c->port);
    int used[3] = {0};
    for (int system = 0; system < 20; system++) {
        char first[64];
        snprintf(first, sizeof first, "%s", who_answers(g, system, 0));
        assert_true(first[0] >= 'a' && first[0] <= 'c');
        used[first[0] - 'a']++;
        for (int q = 1; q < 4; q++)
            assert_string_equal(who_answers(g, system, q), first);
    }
    assert_true(used[0] && used[1] && used[2]);
    done(g);
    up_stop(c);
}

static void weights_share_out_the_prompts(void **state)
{
    (void)state;
    struct gw *g = gw_config(NULL,
                             "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d', weight: 9}\n"
                             "- {name: b, url: 'http://127.0.0.1:%d'}\n",
                             a->port, b->port);
    int to_a = 0;
    for (int system = 0; system < 100; system++)
        to_a += who_answers(g, system, 0)[0] == 'a';
    assert_in_range(to_a, 75, 99); /* 90 expected, standard deviation 3 */
    done(g);
}

/* Four slow requests at once, one after the other into the air; how many went to a. */
static int four_at_once(struct gw *g, int *spilled)
{
    struct asker k[4];
    int to_a = 0, before = up_count(a) + up_count(b);
    for (int i = 0; i < 4; i++) {
        ask_begin(&k[i], g, CHAT, WITH("\"temperature\":1", "slow, all alike"));
        EVENTUALLY(up_count(a) + up_count(b) == before + i + 1);
    }
    *spilled = 0;
    for (int i = 0; i < 4; i++) {
        ask_end(&k[i]);
        to_a += header(&k[i].r, "x-larder-upstream")[0] == 'a';
        *spilled += strncmp(header(&k[i].r, "x-larder-route"), "prefix-spill", 12) == 0;
        resp_free(&k[i].r);
    }
    return to_a;
}

static void a_full_upstream_spills_to_its_neighbour(void **state)
{
    (void)state;
    int spilled;
    struct gw *g = gw_config((const char *const[]){"--route-bound", "1", NULL},
                             "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d'}\n- {name: b, "
                             "url: 'http://127.0.0.1:%d'}\n",
                             a->port, b->port);
    assert_int_equal(four_at_once(g, &spilled), 2);
    assert_int_equal(spilled, 2);
    done(g);
    g = gw_config((const char *const[]){"--route-bound", "100", NULL},
                  "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d'}\n- {name: b, url: "
                  "'http://127.0.0.1:%d'}\n",
                  a->port, b->port);
    assert_true(four_at_once(g, &spilled) % 4 == 0); /* all to one */
    assert_int_equal(spilled, 0);
    done(g);
}

static void least_in_flight_is_the_other_option(void **state)
{
    (void)state;
    int spilled;
    struct gw *g = gw_config((const char *const[]){"--route-balance", "least", NULL},
                             "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d'}\n- {name: b, "
                             "url: 'http://127.0.0.1:%d'}\n",
                             a->port, b->port);
    assert_int_equal(four_at_once(g, &spilled), 2);
    done(g);
}

static void models_choose_their_upstream_and_unknown_ones_the_one_that_takes_all(void **state)
{
    (void)state;
    struct gw *g =
        gw_config(NULL,
                  "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d', models: [m, m2]}\n"
                  "- {name: b, url: 'http://127.0.0.1:%d'}\n",
                  a->port, b->port);
    struct resp r = post(g->port, CHAT, ASK("x"));
    assert_string_equal(header(&r, "x-larder-upstream"), "a");
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"never heard of\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_string_equal(header(&r, "x-larder-upstream"), "b");
    resp_free(&r);
    done(g);
    g = gw_config(NULL, "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d', models: [m, m2]}\n",
                  a->port);
    r = post(g->port, CHAT,
             "{\"model\":\"m3\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_int_equal(r.status, 404);
    assert_string_equal(json_at(r.body, "code"), "model_not_found");
    resp_free(&r);
    done(g);
}

static void an_alias_is_renamed_upstream_and_keys_the_answer(void **state)
{
    (void)state;
    struct gw *g =
        gw_config(NULL,
                  "upstreams:\n- {name: a, url: 'http://127.0.0.1:%d', models: [other]}\n"
                  "- {name: b, url: 'http://127.0.0.1:%d'}\n"
                  "aliases:\n- {name: fast, model: real-7b, upstreams: [b]}\n",
                  a->port, b->port);
    int n = up_count(b);
    const char *body = "{ \"messages\" : [{\"role\":\"user\",\"content\":\"hi\\u0021\"}] , "
                       "\"model\" : \"fast\",  \"odd\": 1.50 }";
    struct resp r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 200);
    assert_int_equal(up_count(b), n + 1);
    assert_string_equal(up_last_body(b),
                        "{ \"messages\" : [{\"role\":\"user\",\"content\":\"hi\\u0021\"}] , "
                        "\"model\" : \"real-7b\",  \"odd\": 1.50 }");
    resp_free(&r);
    bool hit = false;
    for (int i = 0; i < 400 && !hit; i++) {
        r = post(g->port, CHAT, body);
        hit = strcmp(header(&r, "x-larder-cache"), "hit") == 0;
        resp_free(&r);
        sleep_ms(5);
    }
    assert_true(hit);
    r = post(g->port, CHAT,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"hi!\"}],\"model\":\"real-7b\","
             "\"odd\":1.5}");
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    resp_free(&r);
    done(g);
}

/* ---- failures ---- */

static void a_refused_connection_fails_over(void **state)
{
    (void)state;
    int dead = closed_port();
    struct gw *g = gw_config(NULL,
                             "upstreams:\n- {name: dead, url: 'http://127.0.0.1:%d'}\n- {name: b, "
                             "url: 'http://127.0.0.1:%d'}\n",
                             dead, b->port);
    for (int system = 0; system < 8; system++) /* half of them like the dead one better */
        assert_string_equal(who_answers(g, system, 1), "b");
    done(g);
}

static atomic_int failures_left, failure_status;

/* Fails so many times, then answers; in the middle of its failures it says so in the body. */
static void up_flaky(struct up_conn *c, const struct up_req *q)
{
    if (atomic_fetch_sub(&failures_left, 1) > 0)
        up_reply(c, atomic_load(&failure_status), "content-type: application/json\r\n",
                 "{\"error\":{\"message\":\"flaky\",\"code\":\"flaky\"}}");
    else
        up_llm(c, q);
}

static void up_fails(struct up_conn *c, const struct up_req *q)
{
    (void)q;
    up_reply(c, atomic_load(&failure_status), "content-type: application/json\r\n",
             "{\"error\":{\"message\":\"always\",\"code\":\"always\"}}");
}

static void statuses_429_and_5xx_are_tried_again_and_elsewhere(void **state)
{
    (void)state;
    static const int statuses[] = {429, 500, 502, 503, 529};
    struct up *flaky = up_start(up_flaky), *bad = up_start(up_fails);
    struct gw *g = gw_config(
        NULL, "upstreams:\n- {name: f, url: 'http://127.0.0.1:%d', breaker: 0}\n", flaky->port);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        int n = up_count(flaky);
        atomic_store(&failures_left, 2);
        atomic_store(&failure_status, statuses[i]);
        struct resp r = post(g->port, CHAT, WITH("\"temperature\":1", "x"));
        assert_int_equal(r.status, 200);
        assert_int_equal(up_count(flaky), n + 3);
        resp_free(&r);
    }
    int n = up_count(flaky);
    atomic_store(&failures_left, 1);
    atomic_store(&failure_status, 404);
    struct resp r = post(g->port, CHAT, ASK("four o four"));
    assert_int_equal(r.status, 404); /* the client's mistake stays its own */
    assert_int_equal(up_count(flaky), n + 1);
    resp_free(&r);
    done(g);
    g = gw_config(NULL,
                  "upstreams:\n- {name: bad, url: 'http://127.0.0.1:%d', breaker: 0}\n- {name: b, "
                  "url: 'http://127.0.0.1:%d'}\n",
                  bad->port, b->port);
    atomic_store(&failure_status, 503);
    for (int system = 0; system < 8; system++)
        assert_string_equal(who_answers(g, system, 2), "b");
    assert_true(up_count(bad) > 0);
    done(g);
    up_stop(flaky);
    up_stop(bad);
}

static void nothing_is_tried_again_after_the_first_byte(void **state)
{
    (void)state;
    struct gw *g = gw_start(a, NULL, NULL);
    int n = up_count(a);
    struct resp r = post(g->port, CHAT, STREAM("cutoff"));
    assert_int_equal(up_count(a), n + 1);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "error"));
    assert_null(strstr(r.body, "[DONE]"));
    resp_free(&r);
    done(g);
}

static void the_breaker_opens_and_a_trial_closes_it(void **state)
{
    (void)state;
    struct up *flaky = up_start(up_flaky);
    struct gw *g = gw_config(NULL,
                             "upstreams:\n- {name: f, url: 'http://127.0.0.1:%d', breaker: 3, "
                             "breaker-for: 500ms, retries: 0}\n",
                             flaky->port);
    atomic_store(&failures_left, 4);
    atomic_store(&failure_status, 500);
    struct resp r;
    for (int i = 0; i < 3; i++) {
        r = post(g->port, CHAT, ASK("breaker"));
        assert_int_equal(r.status, 500);
        resp_free(&r);
    }
    EVENTUALLY(gw_said(g, "event=breaker_opened"));
    int n = up_count(flaky);
    r = post(g->port, CHAT, ASK("breaker"));
    assert_true(r.status == 502 ||
                r.status == 503); /* not asked at all, unless half a second went by */
    if (up_count(flaky) != n)
        atomic_store(&failures_left, 1);
    resp_free(&r);
    /* A trial that fails opens it again, one that succeeds closes it. */
    int status = 0;
    for (int i = 0; i < 400 && status != 200; i++) {
        r = post(g->port, CHAT, ASK("breaker"));
        status = r.status;
        resp_free(&r);
        sleep_ms(20);
    }
    assert_int_equal(status, 200);
    assert_true(gw_said(g, "event=breaker_closed"));
    assert_int_equal(up_count(flaky), n + 2); /* one failed trial, one good one */
    done(g);
    up_stop(flaky);
}

static atomic_bool well;
static atomic_bool probe_had_key;

static void up_probed(struct up_conn *c, const struct up_req *q)
{
    if (!strcmp(q->path, "/openai/health?api-version=7")) {
        atomic_store(&probe_had_key, strcasestr(q->head, "api-key: sk-probe") &&
                                         strcasestr(q->head, "x-extra: yes"));
        up_reply(c, atomic_load(&well) ? 200 : 503, "", "");
    } else {
        up_llm(c, q);
    }
}

static void a_health_probe_takes_an_upstream_out_and_back(void **state)
{
    (void)state;
    struct up *p = up_start(up_probed);
    atomic_store(&well, false);
    setenv("PROBE_SECRET", "sk-probe", 1);
    struct gw *g = gw_config(
        NULL,
        "upstreams:\n- {name: p, url: 'http://127.0.0.1:%d/openai', health: /health, health-every: "
        "1s, weight: 1000,"
        " credential: key, key-env: PROBE_SECRET, key-header: api-key, query: api-version=7,"
        " headers: ['x-extra: yes']}\n"
        "- {name: b, url: 'http://127.0.0.1:%d'}\n",
        p->port, b->port);
    (void)p;
    EVENTUALLY(gw_said(g, "event=down upstream=p"));
    for (int system = 0; system < 5; system++)
        assert_string_equal(who_answers(g, system, 3), "b");
    atomic_store(&well, true);
    EVENTUALLY(gw_said(g, "event=up upstream=p"));
    bool back = false;
    for (int system = 10; system < 20; system++)
        back |= who_answers(g, system, 3)[0] == 'p';
    assert_true(back);
    assert_true(atomic_load(&probe_had_key));
    done(g);
    up_stop(p);
}

/* ---- timeouts ---- */

static void up_stalls(struct up_conn *c, const struct up_req *q)
{
    if (strstr(q->body, "begin")) {
        up_begin(c, 200, "content-type: text/event-stream\r\n");
        up_chunk(c, "data: "
                    "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":"
                    "\"m\",\"choices\":[{\"index\":0,"
                    "\"delta\":{\"role\":\"assistant\",\"content\":\"so "
                    "far\"},\"finish_reason\":null}]}\n\n");
    }
    for (int i = 0; i < 200 && up_chunk(c, ": still here\n\n");
         i++) /* ends once the gateway has hung up */
        sleep_ms(10);
}

static void up_silent(struct up_conn *c, const struct up_req *q)
{
    (void)c, (void)q;
    sleep_ms(1500);
}

static void timeouts_are_504_in_the_dialects_shape(void **state)
{
    (void)state;
    struct up *silent = up_start(up_silent), *stalls = up_start(up_stalls);
    struct gw *g =
        gw_config(NULL,
                  "upstreams:\n- {name: s, url: 'http://127.0.0.1:%d', first-byte-timeout: 150ms, "
                  "models: [m]}\n"
                  "- {name: t, url: 'http://127.0.0.1:%d', timeout: 200ms, models: [t]}\n",
                  silent->port, stalls->port);
    struct resp r = post(g->port, CHAT, ASK("first byte"));
    assert_int_equal(r.status, 504);
    assert_string_equal(json_at(r.body, "code"), "upstream_timeout");
    assert_non_null(strstr(r.body, "{\"error\":{"));
    assert_int_equal(up_count(silent), 1); /* it was sent, and may have been paid for: not again */
    resp_free(&r);
    r = post(g->port, "/v1/messages", WITH("\"max_tokens\":9", "x"));
    assert_int_equal(r.status, 504);
    assert_non_null(strstr(r.body, "\"type\":\"error\""));
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"t\",\"messages\":[{\"role\":\"user\",\"content\":\"begin, whole\"}]}");
    assert_int_equal(r.status, 504);
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"t\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":"
             "\"begin, streamed\"}]}");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "so far"));
    assert_non_null(strstr(r.body, "upstream_timeout"));
    resp_free(&r);
    done(g);
    up_stop(silent);
    up_stop(stalls);
}

static void a_host_that_does_not_answer_is_given_up(void **state)
{
    (void)state;
    /* A listener whose queue is full does not answer a SYN. */
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0), fill[8];
    assert_int_equal(bind(fd, (void *)&at, n) || listen(fd, 0) || getsockname(fd, (void *)&at, &n),
                     0);
    for (int i = 0; i < 8; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(connect(fill[i], (void *)&at, sizeof at) <= 0);
    }
    sleep_ms(20);
    struct gw *g = gw_config(NULL,
                             "upstreams:\n- {name: deaf, url: 'http://127.0.0.1:%d', "
                             "connect-timeout: 150ms, retries: 0, models: [m]}\n",
                             ntohs(at.sin_port));
    double t = now_s();
    struct resp r = post(g->port, CHAT, ASK("anybody there"));
    assert_int_equal(r.status, 504);
    assert_true(now_s() - t < 5);
    resp_free(&r);
    done(g);
    for (int i = 0; i < 8; i++)
        close(fill[i]);
    close(fd);
}

/* ---- what is sent ---- */

static void an_azure_base_url_works(void **state)
{
    (void)state;
    setenv("AZURE_KEY", "az-secret", 1);
    struct gw *g =
        gw_config(NULL,
                  "upstreams:\n- {name: az, url: 'http://127.0.0.1:%d/openai/deployments/x', "
                  "query: api-version=2024-10-21,\n"
                  "   credential: key, key-env: AZURE_KEY, key-header: api-key, headers: "
                  "['x-extra: one', 'user-agent: ours']}\n",
                  a->port);
    struct resp r = ask(g, "user-agent: theirs\r\n", ASK("azure"));
    assert_int_equal(r.status, 200);
    const char *head = up_last_head(a);
    assert_non_null(
        strstr(head, "POST /openai/deployments/x/chat/completions?api-version=2024-10-21 HTTP"));
    assert_non_null(strcasestr(head, "\r\napi-key: az-secret\r\n"));
    assert_non_null(strcasestr(head, "\r\nx-extra: one\r\n"));
    assert_non_null(
        strcasestr(head, "\r\nuser-agent: ours\r\n")); /* the operator's, instead of the client's */
    assert_null(strcasestr(head, "user-agent: theirs"));
    assert_null(strcasestr(head, "sk-test"));
    resp_free(&r);
    done(g);
}

static void credentials_come_from_client_file_or_nowhere(void **state)
{
    (void)state;
    char file[] = "/tmp/larder-test-key-XXXXXX";
    int fd = mkstemp(file);
    assert_true(write(fd, "sk-from-file\n", 13) == 13);
    close(fd);
    struct gw *g =
        gw_config(NULL,
                  "upstreams:\n- {name: k, url: 'http://127.0.0.1:%d', credential: key, key-file: "
                  "'%s', models: [k]}\n"
                  "- {name: n, url: 'http://127.0.0.1:%d', credential: none, models: [n]}\n"
                  "- {name: c, url: 'http://127.0.0.1:%d', models: [c]}\n"
                  "- {name: an, url: 'http://127.0.0.1:%d', dialect: anthropic, models: [an]}\n",
                  a->port, file, a->port, a->port, a->port);
    struct resp r = post(g->port, CHAT,
                         "{\"model\":\"k\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_non_null(strcasestr(up_last_head(a), "authorization: Bearer sk-from-file\r\n"));
    assert_null(strcasestr(up_last_head(a), "sk-test"));
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"n\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_null(strcasestr(up_last_head(a), "authorization"));
    assert_null(strcasestr(up_last_head(a), "sk-"));
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"c\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_non_null(strcasestr(up_last_head(a), "authorization: Bearer sk-test\r\n"));
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"an\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_non_null(strcasestr(up_last_head(a), "x-api-key: sk-test\r\n"));
    assert_non_null(strcasestr(up_last_head(a), "anthropic-version: "));
    resp_free(&r);
    done(g);
    unlink(file);
}

static void base_urls_with_and_without_v1_lead_to_the_same_place(void **state)
{
    (void)state;
    static const char *const tails[] = {"", "/", "/v1", "/v1/"};
    for (size_t i = 0; i < 4; i++) {
        struct gw *g =
            gw_config(NULL, "upstreams:\n- url: http://127.0.0.1:%d%s\n", a->port, tails[i]);
        static const char *const ways[] = {"/v1/chat/completions", "/chat/completions"};
        for (size_t k = 0; k < 2; k++) {
            struct resp r = post(g->port, ways[k], WITH("\"temperature\":1", "x"));
            assert_int_equal(r.status, 200);
            assert_non_null(strstr(up_last_head(a), "POST /v1/chat/completions HTTP"));
            resp_free(&r);
        }
        struct resp r = http(g->port, "GET", "/v1/files", "", NULL);
        assert_non_null(strstr(up_last_head(a), "GET /v1/files HTTP"));
        resp_free(&r);
        r = http(g->port, "GET", "/tokenize", "", NULL);
        assert_non_null(strstr(up_last_head(a), "GET /tokenize HTTP"));
        resp_free(&r);
        done(g);
    }
}

static void headers_go_along_but_for_the_hop_and_us(void **state)
{
    (void)state;
    struct gw *g = gw_start(a, NULL, NULL);
    struct resp r =
        http(g->port, "POST", CHAT,
             KEY "anthropic-beta: b1\r\nopenai-organization: org-1\r\nopenai-project: "
                 "p-1\r\nx-unknown: kept as it is\r\n"
                 "traceparent: "
                 "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: v=1\r\n"
                 "te: trailers\r\nkeep-alive: 5\r\nproxy-authorization: Basic eDp5\r\nx-nominated: "
                 "secret\r\n"
                 "upgrade: h2c\r\nx-larder-tag: t\r\nx-larder-ttl: 5m\r\nx-larder-category: "
                 "c\r\ncache-control: no-cache\r\n"
                 "connection: x-nominated\r\n",
             ASK("headers"));
    assert_int_equal(r.status, 200);
    const char *head = up_last_head(a);
    static const char *const there[] = {
        "\r\nanthropic-beta: b1\r\n",  "\r\nopenai-organization: org-1\r\n",
        "\r\nopenai-project: p-1\r\n", "\r\nx-unknown: kept as it is\r\n",
        "\r\ntracestate: v=1\r\n",     "\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-"};
    static const char *const absent[] = {
        "b7ad6b7169203331",    "x-larder-",   "\r\nte:", "keep-alive",
        "proxy-authorization", "x-nominated", "upgrade", "cache-control"};
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++)
        if (!strcasestr(head, there[i]))
            fail_msg("no %s in %s", there[i] + 2, head);
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (strcasestr(head, absent[i]))
            fail_msg("%s in %s", absent[i], head);
    resp_free(&r);
    done(g);
}

static void up_talkative(struct up_conn *c, const struct up_req *q)
{
    up_reply(
        c, 200,
        "content-type: application/json\r\nx-ratelimit-remaining-tokens: 7\r\nx-request-id: "
        "req-9\r\nopenai-processing-ms: 12\r\n"
        "anthropic-ratelimit-requests-remaining: 3\r\nretry-after: 1\r\nx-unknown: "
        "back\r\nconnection: x-hop\r\nx-hop: 1\r\n"
        "keep-alive: timeout=5\r\nx-larder-cache: hit\r\naccess-control-allow-origin: "
        "*\r\nset-cookie: s=1\r\n",
        strstr(q->path, "chat")
            ? "{\"id\":\"i\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
              "\"choices\":[{\"index\":0,"
              "\"message\":{\"role\":\"assistant\",\"content\":\"x\"},\"finish_reason\":\"stop\"}]}"
            : "{}");
}

static void the_upstreams_headers_come_back_but_for_the_hop_and_ours(void **state)
{
    (void)state;
    struct up *t = up_start(up_talkative);
    struct gw *g =
        gw_start(t, NULL, (const char *const[]){"--origins", "http://app.example", NULL});
    static const char *const paths[] = {CHAT, "/v1/other"};
    for (size_t i = 0; i < 2; i++) {
        struct resp r =
            http(g->port, "POST", paths[i], KEY "origin: http://app.example\r\n", ASK("talk"));
        assert_int_equal(r.status, 200);
        assert_string_equal(header(&r, "x-ratelimit-remaining-tokens"), "7");
        assert_string_equal(header(&r, "anthropic-ratelimit-requests-remaining"), "3");
        assert_string_equal(header(&r, "x-request-id"), "req-9");
        assert_string_equal(header(&r, "openai-processing-ms"), "12");
        assert_string_equal(header(&r, "x-unknown"), "back");
        assert_string_equal(header(&r, "retry-after"), "1");
        assert_string_equal(header(&r, "x-hop"), "");
        assert_string_equal(header(&r, "keep-alive"), "");
        assert_string_equal(header(&r, "x-larder-cache"), i ? "bypass" : "miss");
        const char *cors = strcasestr(r.head, "access-control-allow-origin:");
        assert_non_null(cors);
        assert_string_equal(header(&r, "access-control-allow-origin"), "http://app.example");
        assert_null(strcasestr(cors + 1,
                               "access-control-allow-origin:")); /* one only: browsers refuse two */
        resp_free(&r);
    }
    done(g);
    up_stop(t);
}

static void up_chatters(struct up_conn *c, const struct up_req *q)
{
    char h[2000];
    int n = 0;
    for (int i = 0; i < 150; i++)
        n += snprintf(h + n, sizeof h - (size_t)n, "x-%d: v\r\n", i);
    (void)q;
    up_reply(c, 200, h,
             "{\"id\":\"i\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
             "\"choices\":[{\"index\":0,\"message\":"
             "{\"role\":\"assistant\",\"content\":\"x\"},\"finish_reason\":\"stop\"}]}");
}

static void a_flood_of_headers_does_not_wash_the_proof_away(void **state)
{
    (void)state;
    struct up *u = up_start(up_chatters);
    struct gw *g = gw_start(u, NULL, NULL);
    struct resp r = post(g->port, CHAT, ASK("flood"));
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    assert_int_equal(strlen(header(&r, "x-larder-request-id")), 24);
    assert_string_equal(header(&r, "x-0"), "v");
    resp_free(&r);
    done(g);
    up_stop(u);
}

static void an_unchanged_request_goes_upstream_byte_for_byte(void **state)
{
    (void)state;
    struct gw *g = gw_start(a, NULL, NULL);
    const char *body =
        "\n{ \"zeta\":[1,2.50,1e3,-0.0],\"model\":\"m\" , \"messages\":[{\"content\":\"\\u00e9\\/ "
        "\\ud83d\\ude00\",\"role\":\"user\",\"mood\":null}],"
        "\"x\":{\"\":{\"deep\":[]}},\"store\":false, \"metadata\":{\"a\":\"b\"} }\t";
    struct resp r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 200);
    assert_string_equal(up_last_body(a), body);
    resp_free(&r);
    const char *msg = " {\"model\":\"m\",\"max_tokens\":10,\"thinking\":{\"type\":\"enabled\","
                      "\"budget_tokens\":1024},\"odd\" : [ ],"
                      "\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                      "\"text\",\"text\":\"x\",\"cache_control\":{\"type\":\"ephemeral\"}}]}]}";
    done(g);
    g = gw_config(NULL, "upstreams:\n- {url: 'http://127.0.0.1:%d', dialect: anthropic}\n",
                  a->port);
    r = post(g->port, "/v1/messages", msg);
    assert_int_equal(r.status, 200);
    assert_string_equal(up_last_body(a), msg);
    resp_free(&r);
    done(g);
}

static void usage_is_asked_of_streams_and_nothing_else_is_touched(void **state)
{
    (void)state;
    struct gw *g = gw_start(a, NULL, NULL);
    struct resp r = post(g->port, CHAT, WITH(" \"stream\":true, \"odd\":1.0", "u1"));
    assert_non_null(strstr(up_last_body(a), "\"include_usage\":true"));
    assert_non_null(strstr(up_last_body(a), "\"odd\":1.0"));
    assert_null(strstr(r.body, "usage"));
    resp_free(&r);
    r = post(g->port, CHAT,
             WITH("\"stream\":true,\"stream_options\":{\"include_obfuscation\":false,\"include_"
                  "usage\":false}",
                  "u2"));
    assert_non_null(strstr(up_last_body(a), "\"include_usage\":true"));
    assert_null(strstr(up_last_body(a), "\"include_usage\":false"));
    assert_non_null(strstr(up_last_body(a), "\"include_obfuscation\":false"));
    assert_null(strstr(r.body, "prompt_tokens"));
    resp_free(&r);
    r = post(g->port, CHAT,
             WITH("\"stream\":true,\"stream_options\":{\"include_usage\":true}", "u3"));
    assert_non_null(strstr(r.body, "\"prompt_tokens\":11"));
    resp_free(&r);
    done(g);
}

static void an_upstream_url_that_is_no_plain_http_is_refused_at_start(void **state)
{
    (void)state;
    char out[2048];
    assert_int_not_equal(larder(out, sizeof out,
                                (const char *const[]){"serve", "--listen", "127.0.0.1:0", "--data",
                                                      "/tmp/larder-test-never", "--upstream",
                                                      "ftp://x.example", NULL}),
                         0);
    assert_non_null(strstr(out, "http"));
    assert_int_not_equal(larder(out, sizeof out,
                                (const char *const[]){"serve", "--listen", "127.0.0.1:0", "--data",
                                                      "/tmp/larder-test-never", "--upstream",
                                                      "http://u:p@x.example", NULL}),
                         0);
    assert_null(strstr(out, "u:p"));
}

static void a_link_local_address_is_refused(void **state)
{
    (void)state;
    struct gw *g = gw_config(NULL, "upstreams:\n- {url: 'http://169.254.169.254', retries: 0}\n");
    struct resp r = post(g->port, CHAT, ASK("metadata service"));
    assert_int_equal(r.status, 502);
    resp_free(&r);
    done(g);
}

static void up_redirects(struct up_conn *c, const struct up_req *q)
{
    (void)q;
    char h[128];
    snprintf(h, sizeof h, "location: http://127.0.0.1:%d/stolen\r\n", a->port);
    up_reply(c, 307, h, "");
}

static void redirects_are_not_followed(void **state)
{
    (void)state;
    struct up *u = up_start(up_redirects);
    struct gw *g = gw_start(u, NULL, NULL);
    int n = up_count(a);
    struct resp r = post(g->port, CHAT, ASK("redirect"));
    assert_true(r.status != 200);
    assert_int_equal(up_count(a), n);
    resp_free(&r);
    done(g);
    up_stop(u);
}

static void the_admin_key_never_goes_upstream(void **state)
{
    (void)state;
    static const char *const forms[] = {"authorization: Bearer ", "x-api-key: ", "api-key: "};
    struct gw *g = gw_start(a, NULL, NULL);
    int n = up_count(a);
    for (size_t i = 0; i < 3; i++) {
        char h[256];
        snprintf(h, sizeof h, "content-type: application/json\r\n%s%s\r\n", forms[i], g->admin_key);
        struct resp r = http(g->port, "POST", CHAT, h, ASK("admin"));
        assert_int_equal(r.status, 401);
        resp_free(&r);
        r = http(g->port, "GET", "/v1/files", h, NULL);
        assert_int_equal(r.status, 401);
        assert_null(strstr(r.body, g->admin_key));
        resp_free(&r);
    }
    assert_int_equal(up_count(a), n);
    done(g);
}

static void cookies_of_browsers_stay_here(void **state)
{
    (void)state;
    struct gw *g = gw_start(a, NULL, NULL);
    struct resp r = http(g->port, "GET", "/v1/files", "cookie: sticky=1; b=2\r\n", NULL);
    assert_non_null(strcasestr(up_last_head(a), "\r\ncookie: sticky=1; b=2\r\n"));
    resp_free(&r);
    r = http(g->port, "GET", "/v1/files", "cookie: other_app=secret\r\nsec-fetch-site: none\r\n",
             NULL);
    assert_null(strcasestr(up_last_head(a), "other_app"));
    resp_free(&r);
    r = http(g->port, "GET", "/v1/files", "cookie: larder_session=00ff; x=y\r\n", NULL);
    assert_null(strcasestr(up_last_head(a), "larder_session"));
    resp_free(&r);
    done(g);
}

static void a_proxy_is_asked_for_what_is_not_loopback(void **state)
{
    (void)state;
    struct gw *g = gw_config(
        NULL,
        "upstreams:\n- {name: far, url: 'http://upstream.example/v1', proxy: "
        "'http://127.0.0.1:%d', models: [m]}\n"
        "- {name: near, url: 'http://127.0.0.1:%d', proxy: 'http://127.0.0.1:1', models: [n]}\n",
        a->port, b->port);
    struct resp r = post(g->port, CHAT, ASK("far"));
    assert_int_equal(r.status, 200);
    assert_non_null(
        strstr(up_last_head(a), "POST http://upstream.example/v1/chat/completions HTTP"));
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"n\",\"messages\":[{\"role\":\"user\",\"content\":\"near\"}]}");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(up_last_head(b), "POST /v1/chat/completions HTTP"));
    resp_free(&r);
    done(g);
    char proxy[64];
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", b->port);
    setenv("http_proxy", proxy, 1);
    setenv("no_proxy", "direct.invalid", 1);
    g = gw_config(NULL,
                  "upstreams:\n- {name: far, url: 'http://upstream.example', models: [m]}\n"
                  "- {name: direct, url: 'http://direct.invalid', models: [n], retries: 0}\n");
    unsetenv("http_proxy");
    unsetenv("no_proxy");
    r = post(g->port, CHAT, ASK("far by environment"));
    assert_int_equal(r.status, 200);
    assert_non_null(
        strstr(up_last_head(b), "POST http://upstream.example/v1/chat/completions HTTP"));
    resp_free(&r);
    r = post(g->port, CHAT,
             "{\"model\":\"n\",\"messages\":[{\"role\":\"user\",\"content\":\"no such name\"}]}");
    assert_int_equal(r.status, 502);
    assert_string_equal(json_at(r.body, "code"), "upstream_unreachable");
    resp_free(&r);
    done(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_system_prompt_stays_with_one_upstream),
        cmocka_unit_test(weights_share_out_the_prompts),
        cmocka_unit_test(a_full_upstream_spills_to_its_neighbour),
        cmocka_unit_test(least_in_flight_is_the_other_option),
        cmocka_unit_test(models_choose_their_upstream_and_unknown_ones_the_one_that_takes_all),
        cmocka_unit_test(an_alias_is_renamed_upstream_and_keys_the_answer),
        cmocka_unit_test(a_refused_connection_fails_over),
        cmocka_unit_test(statuses_429_and_5xx_are_tried_again_and_elsewhere),
        cmocka_unit_test(nothing_is_tried_again_after_the_first_byte),
        cmocka_unit_test(the_breaker_opens_and_a_trial_closes_it),
        cmocka_unit_test(a_health_probe_takes_an_upstream_out_and_back),
        cmocka_unit_test(timeouts_are_504_in_the_dialects_shape),
        cmocka_unit_test(a_host_that_does_not_answer_is_given_up),
        cmocka_unit_test(an_azure_base_url_works),
        cmocka_unit_test(credentials_come_from_client_file_or_nowhere),
        cmocka_unit_test(base_urls_with_and_without_v1_lead_to_the_same_place),
        cmocka_unit_test(headers_go_along_but_for_the_hop_and_us),
        cmocka_unit_test(the_upstreams_headers_come_back_but_for_the_hop_and_ours),
        cmocka_unit_test(a_flood_of_headers_does_not_wash_the_proof_away),
        cmocka_unit_test(an_unchanged_request_goes_upstream_byte_for_byte),
        cmocka_unit_test(usage_is_asked_of_streams_and_nothing_else_is_touched),
        cmocka_unit_test(an_upstream_url_that_is_no_plain_http_is_refused_at_start),
        cmocka_unit_test(a_link_local_address_is_refused),
        cmocka_unit_test(redirects_are_not_followed),
        cmocka_unit_test(the_admin_key_never_goes_upstream),
        cmocka_unit_test(cookies_of_browsers_stay_here),
        cmocka_unit_test(a_proxy_is_asked_for_what_is_not_loopback),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
