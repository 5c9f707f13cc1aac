/* SPDX-License-Identifier: Apache-2.0
 * api/test_gateway.c - the main job seen from outside: asked twice, answered once, with the proof.
 */
#include "kit.h"

static int start(void **state)
{
    (void)state;
    return set_up(up_llm, (const char *const[]){"--answer-stale-while-revalidate", "1h",
                                               "--answer-stale-if-error", "1h", NULL});
}

static void second_identical_question_is_a_hit_with_proof(void **state)
{
    (void)state;
    prove(gw);
    struct resp a = post(gw->port, CHAT, ASK("twice"));
    assert_int_equal(a.status, 200);
    assert_string_equal(header(&a, "x-larder-cache"), "miss");
    assert_string_equal(header(&a, "x-larder-reason"), "new");
    assert_string_equal(header(&a, "x-ratelimit-remaining-requests"), "99");
    assert_string_equal(json_at(a.body, "content"), "hello from upstream");
    assert_string_equal(json_at(a.body, "system_fingerprint"), "fp_7");
    struct resp b = until_hit(gw, CHAT, KEY, ASK("twice"));
    int n = up_count(up);
    assert_string_equal(header(&b, "x-larder-shelf"), "exact");
    assert_int_equal(strlen(header(&b, "x-larder-entry")), 32);
    assert_true(strlen(header(&b, "x-larder-age")) > 0);
    assert_string_equal(json_at(b.body, "content"), "hello from upstream");
    assert_string_equal(json_at(b.body, "system_fingerprint"), "fp_7");
    assert_string_equal(json_at(b.body, "prompt_tokens"), "11");
    char id[64];
    snprintf(id, sizeof id, "%s", json_at(a.body, "id"));
    assert_string_not_equal(id, json_at(b.body, "id")); /* replayed answers carry fresh ids */
    assert_int_equal(up_count(up), n);
    resp_free(&a);
    resp_free(&b);
}

static void who_has_read_the_answer_and_asks_again_gets_a_hit(void **state)
{
    (void)state;
    prove(gw);
    for (int i = 0; i < 60; i++) {
        char body[256];
        snprintf(body, sizeof body, WITH("\"stream\":%s", "at once %d"), i % 2 ? "true" : "false",
                 i);
        struct resp r = post(gw->port, CHAT, body);
        assert_string_equal(header(&r, "x-larder-cache"), "miss");
        resp_free(&r);
        r = post(gw->port, CHAT, body);
        assert_string_equal(header(&r, "x-larder-cache"), "hit");
        resp_free(&r);
    }
}

static void other_spellings_of_the_same_json_hit(void **state)
{
    (void)state;
    static const char *const spellings[] = {
        "{\"messages\":[{\"content\":\"sp\\u0065lled\",\"role\":\"user\"}],\"model\":\"m\"}",
        " { \"model\" : \"m\" , \"messages\" : [ { \"role\" : \"user\", \"content\" : \"spelled\" "
        "} ] } ",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"spelled\"}]}]}",
        WITH("\"stream\":false,\"user\":\"bob\"", "spelled"),
        WITH("\"temperature\":0", "spelled"),
        WITH("\"temperature\":0.0", "spelled"),
    };
    prove(gw);
    struct resp r = until_hit(gw, CHAT, KEY, ASK("spelled"));
    resp_free(&r);
    for (int i = 0; i < 4; i++) {
        r = post(gw->port, CHAT, spellings[i]);
        assert_string_equal(header(&r, "x-larder-cache"), "hit");
        resp_free(&r);
    }
    r = post(gw->port, CHAT, spellings[4]); /* a member more is another question */
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    resp_free(&r);
    r = until_hit(gw, CHAT, KEY, spellings[4]);
    resp_free(&r);
    r = post(gw->port, CHAT, spellings[5]); /* 0 and 0.0 are one number */
    assert_string_equal(header(&r, "x-larder-cache"), "hit");
    resp_free(&r);
}

static void streamed_answers_serve_whole_ones_and_the_reverse(void **state)
{
    (void)state;
    prove(gw);
    const char *streamed = STREAM("both ways");
    struct resp a = post(gw->port, CHAT, streamed);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(header(&a, "content-type"), "text/event-stream"));
    assert_non_null(strstr(a.body, "data: [DONE]\n\n"));
    assert_null(strstr(a.body, "\"usage\":{")); /* asked of the upstream, taken out again */
    assert_non_null(strstr(up_last_body(up), "include_usage"));
    struct resp b = until_hit(gw, CHAT, KEY, ASK("both ways"));
    assert_string_equal(json_at(b.body, "content"), "hello from upstream");
    assert_string_equal(json_at(b.body, "completion_tokens"), "5");
    struct resp c = post(gw->port, CHAT, streamed);
    assert_string_equal(header(&c, "x-larder-cache"), "hit");
    assert_non_null(strstr(c.body, "data: [DONE]\n\n"));
    assert_non_null(strstr(c.body, "\"finish_reason\":\"stop\""));
    resp_free(&a);
    resp_free(&b);
    resp_free(&c);
}

static void anthropic_client_and_openai_upstream_understand_each_other(void **state)
{
    (void)state;
    prove(gw);
    const char *ask = WITH("\"max_tokens\":100", "translate me");
    const char *headers =
        "content-type: application/json\r\nx-api-key: sk-test\r\nanthropic-version: 2023-06-01\r\n";
    struct resp a = http(gw->port, "POST", "/v1/messages", headers, ask);
    assert_int_equal(a.status, 200);
    assert_string_equal(json_at(a.body, "type"), "message");
    assert_string_equal(json_at(a.body, "stop_reason"), "end_turn");
    assert_non_null(strstr(a.body, "hello from upstream"));
    struct resp b = until_hit(gw, "/v1/messages", headers, ask);
    assert_non_null(strstr(b.body, "hello from upstream"));
    resp_free(&a);
    resp_free(&b);
}

static void variety_is_honoured(void **state)
{
    (void)state;
    prove(gw);
    const char *hot = WITH("\"temperature\":0.7", "hot");
    for (int i = 0; i < 3; i++) {
        struct resp r = post(gw->port, CHAT, hot);
        assert_string_equal(header(&r, "x-larder-cache"), "miss");
        assert_string_equal(header(&r, "x-larder-reason"), "temperature");
        resp_free(&r);
        sleep_ms(20);
    }
}

static void unknown_credentials_never_get_hits(void **state)
{
    (void)state;
    prove(gw);
    struct resp r = until_hit(gw, CHAT, KEY, ASK("private"));
    resp_free(&r);
    r = http(gw->port, "POST", CHAT,
             "content-type: application/json\r\nauthorization: Bearer sk-wrong\r\n",
             ASK("private"));
    assert_int_equal(r.status, 401);
    assert_string_not_equal(header(&r, "x-larder-cache"), "hit");
    resp_free(&r);
    r = http(gw->port, "POST", CHAT,
             "content-type: application/json\r\nauthorization: Bearer sk-other\r\n",
             ASK("private"));
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "x-larder-cache"), "miss"); /* another tenant */
    resp_free(&r);
}

static void request_cache_control_is_obeyed(void **state)
{
    (void)state;
    prove(gw);
    struct resp r = until_hit(gw, CHAT, KEY, ASK("controlled"));
    resp_free(&r);
    r = ask(gw, "cache-control: no-cache\r\n", ASK("controlled"));
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    assert_string_equal(header(&r, "x-larder-reason"), "no-cache");
    resp_free(&r);
    assert_int_equal(status_of(gw, ONLY_CACHED, ASK("never asked")), 504);
    assert_int_equal(status_of(gw, "cache-control: no-store\r\n", ASK("unstored")), 200);
    sleep_ms(60);
    assert_int_equal(status_of(gw, ONLY_CACHED, ASK("unstored")), 504);
    assert_int_equal(status_of(gw, "cache-control: max-age=x\r\n", ASK("controlled")), 400);
}

static void expired_answers_are_refreshed_behind_or_rescue_errors(void **state)
{
    (void)state;
    prove(gw);
    assert_int_equal(status_of(gw, "x-larder-ttl: 1ms\r\n", ASK("stale one")), 200);
    sleep_ms(60);
    struct resp r = post(gw->port, CHAT, ASK("stale one"));
    assert_string_equal(header(&r, "x-larder-cache"), "miss"); /* not granted by the request */
    assert_string_equal(header(&r, "x-larder-reason"), "expired");
    resp_free(&r);
    r = ask(gw, "x-larder-ttl: 1ms\r\n", ASK("stale two"));
    resp_free(&r);
    sleep_ms(60);
    int n = up_count(up);
    r = ask(gw, "cache-control: stale-while-revalidate=60\r\n", ASK("stale two"));
    assert_string_equal(header(&r, "x-larder-cache"), "stale");
    resp_free(&r);
    EVENTUALLY(up_count(up) == n + 1);
    r = until_hit(gw, CHAT, KEY, ASK("stale two"));
    resp_free(&r);
}

static void upstream_refusals_come_back_as_they_are(void **state)
{
    (void)state;
    struct resp r = post(gw->port, CHAT, ASK("fail400 please"));
    assert_int_equal(r.status, 400);
    assert_string_equal(json_at(r.body, "message"), "bad thing");
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    resp_free(&r);
    r = post(gw->port, CHAT, ASK("fail429 please"));
    assert_int_equal(r.status, 429);
    assert_string_equal(header(&r, "retry-after"), "7");
    resp_free(&r);
    int n = up_count(up);
    r = post(gw->port, CHAT, ASK("fail500 please"));
    assert_int_equal(r.status, 500);
    assert_string_equal(json_at(r.body, "message"), "boom");
    assert_int_equal(up_count(up), n + 3); /* two retries */
    resp_free(&r);
}

static void broken_and_filtered_streams_are_not_stored(void **state)
{
    (void)state;
    prove(gw);
    struct resp r = post(gw->port, CHAT, STREAM("cutoff"));
    assert_true(r.torn || strstr(r.body, "error"));
    resp_free(&r);
    r = post(gw->port, CHAT, ASK("filtered"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    sleep_ms(60);
    assert_int_equal(status_of(gw, ONLY_CACHED, ASK("cutoff")), 504);
    assert_int_equal(status_of(gw, ONLY_CACHED, ASK("filtered")), 504);
}

static void bad_requests_get_one_clear_error(void **state)
{
    (void)state;
    static const struct {
        const char *body, *says;
        int status;
    } cases[] = {
        {"{", "byte", 400},
        {"{\"model\":\"m\",\"model\":\"m\",\"messages\":[]}", "duplicate", 400},
        {"{\"model\":\"m\",\"messages\":\"x\"}", "messages", 400},
        {"{\"model\":7,\"messages\":[]}", "model", 400},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", "UTF-8", 400},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}",
         "surrogate", 400},
        {"[]", "object", 400},
        {"", "", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resp r = post(gw->port, CHAT, cases[i].body);
        assert_int_equal(r.status, cases[i].status);
        assert_true(strlen(json_at(r.body, "message")) > 0);
        if (!strcasestr(r.body, cases[i].says))
            fail_msg("'%s' does not say '%s'", r.body, cases[i].says);
        assert_true(strlen(header(&r, "x-larder-request-id")) == 24);
        resp_free(&r);
    }
    struct resp r = http(gw->port, "POST", CHAT, "content-type: text/plain\r\n", "{}");
    assert_int_equal(r.status, 415);
    resp_free(&r);
    r = http(gw->port, "POST", CHAT,
             "content-type: application/json\r\nOrigin: http://evil.example\r\n", ASK("x"));
    assert_int_equal(r.status, 403);
    resp_free(&r);
}

static void anthropic_errors_have_anthropic_shape(void **state)
{
    (void)state;
    struct resp r =
        http(gw->port, "POST", "/v1/messages", KEY, "{\"model\":\"m\",\"messages\":[]}");
    assert_int_equal(r.status, 400);
    assert_string_equal(json_at(r.body, "type"), "error");
    assert_non_null(strstr(r.body, "invalid_request_error"));
    resp_free(&r);
}

static void everything_else_passes_through_untouched(void **state)
{
    (void)state;
    struct resp r = http(gw->port, "GET", "/v1/files?after=x%20y",
                         "authorization: Bearer sk-test\r\nx-mine: 1\r\n", NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "/v1/files?after=x%20y");
    assert_string_equal(header(&r, "x-larder-cache"), "bypass");
    assert_string_equal(header(&r, "x-odd"), "yes");
    assert_non_null(strcasestr(up_last_head(up), "x-mine: 1"));
    resp_free(&r);
    r = http(gw->port, "DELETE", "/something", "authorization: Bearer sk-test\r\n", NULL);
    assert_string_equal(r.body, "/something");
    resp_free(&r);
    r = post(gw->port, "/v1/responses",
             "{\"model\":\"m\",\"input\":\"hi\",\"previous_response_id\":\"resp_1\"}");
    assert_string_equal(header(&r, "x-larder-cache"), "bypass");
    assert_string_equal(header(&r, "x-larder-reason"), "previous-response");
    assert_string_equal(r.body, "/v1/responses");
    resp_free(&r);
}

static void embeddings_are_cached_per_input(void **state)
{
    (void)state;
    prove(gw);
    struct resp r =
        post(gw->port, "/v1/embeddings", "{\"model\":\"e\",\"input\":[\"a\",\"bb\",\"ccc\"]}");
    assert_int_equal(r.status, 200);
    resp_free(&r);
    r = post(gw->port, "/v1/embeddings",
             "{\"model\":\"e\",\"input\":[\"dddd\",\"a\",\"bb\",\"eeeee\",\"ccc\"]}");
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "x-larder-reason"), "partial:3/5");
    assert_null(strstr(up_last_body(up), "\"bb\""));
    assert_non_null(strstr(up_last_body(up), "\"dddd\""));
    /* Every vector stands at its input's place: the first component is the length of the input. */
    static const int len[] = {4, 1, 2, 5, 3};
    for (int i = 0; i < 5; i++) {
        char at[64];
        snprintf(at, sizeof at, "\"index\":%d", i);
        const char *item = strstr(r.body, at);
        assert_non_null(item);
        snprintf(at, sizeof at, "\"embedding\":[%d,", len[i]);
        assert_non_null(strstr(r.body, at));
    }
    resp_free(&r);
    int n = up_count(up);
    r = post(gw->port, "/v1/embeddings", "{\"model\":\"e\",\"input\":\"dddd\"}");
    assert_string_equal(header(&r, "x-larder-cache"), "hit");
    assert_non_null(strstr(r.body, "[4,0.5]"));
    assert_int_equal(up_count(up), n);
    resp_free(&r);
}

static void identical_requests_in_flight_share_one_call(void **state)
{
    (void)state;
    prove(gw);
    struct asker a[8];
    int n = up_count(up), coalesced = 0;
    for (int i = 0; i < 8; i++) {
        ask_begin(&a[i], gw, CHAT, i % 2 ? ASK("slow coalesced") : STREAM("slow coalesced"));
        sleep_ms(10);
    }
    for (int i = 0; i < 8; i++) {
        ask_end(&a[i]);
        coalesced += cache_is(&a[i].r, "coalesced");
        resp_free(&a[i].r);
    }
    assert_int_equal(up_count(up), n + 1);
    assert_int_equal(coalesced, 7);
}

static void a_client_that_hangs_up_cancels_the_upstream(void **state)
{
    (void)state;
    int before = up_aborted(up), fd = dial(gw->port);
    const char *body = STREAM("slow long 500");
    char req[1024];
    int n = snprintf(req, sizeof req,
                     "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                     "content-length: %zu\r\n\r\n%s",
                     strlen(body), body);
    send_all(fd, req, (size_t)n);
    sleep_ms(150);
    close(fd);
    EVENTUALLY(up_aborted(up) == before + 1);
}

static void a_restart_keeps_what_was_stored(void **state)
{
    (void)state;
    prove(gw);
    struct resp r = until_hit(gw, CHAT, KEY, ASK("durable"));
    resp_free(&r);
    sleep_ms(200);
    assert_int_equal(gw_stop(gw, SIGTERM), 0);
    char dir[256];
    snprintf(dir, sizeof dir, "%s", gw->dir);
    free(gw);
    gw = gw_start(up, dir,
                  (const char *const[]){"--answer-stale-while-revalidate", "1h",
                                        "--answer-stale-if-error", "1h", NULL});
    int n = up_count(up);
    r = post(gw->port, CHAT, ASK("durable"));
    assert_string_equal(header(&r, "x-larder-cache"), "hit");
    assert_int_equal(up_count(up), n);
    resp_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_identical_question_is_a_hit_with_proof),
        cmocka_unit_test(who_has_read_the_answer_and_asks_again_gets_a_hit),
        cmocka_unit_test(other_spellings_of_the_same_json_hit),
        cmocka_unit_test(streamed_answers_serve_whole_ones_and_the_reverse),
        cmocka_unit_test(anthropic_client_and_openai_upstream_understand_each_other),
        cmocka_unit_test(variety_is_honoured),
        cmocka_unit_test(unknown_credentials_never_get_hits),
        cmocka_unit_test(request_cache_control_is_obeyed),
        cmocka_unit_test(expired_answers_are_refreshed_behind_or_rescue_errors),
        cmocka_unit_test(upstream_refusals_come_back_as_they_are),
        cmocka_unit_test(broken_and_filtered_streams_are_not_stored),
        cmocka_unit_test(bad_requests_get_one_clear_error),
        cmocka_unit_test(anthropic_errors_have_anthropic_shape),
        cmocka_unit_test(everything_else_passes_through_untouched),
        cmocka_unit_test(embeddings_are_cached_per_input),
        cmocka_unit_test(identical_requests_in_flight_share_one_call),
        cmocka_unit_test(a_client_that_hangs_up_cancels_the_upstream),
        cmocka_unit_test(a_restart_keeps_what_was_stored),
    };
    return cmocka_run_group_tests(tests, start, tear_down);
}
