/* SPDX-License-Identifier: Apache-2.0
 * api/test_freshness.c - what a stored answer may serve, for how long, and to whom it may be told.
 */
#include "kit.h"

#include <stdatomic.h>

static int start(void **state)
{
    (void)state;
    return set_up(up_llm, NULL);
}

/* One request; asserts what x-larder-cache and x-larder-reason say. */
static void expect(struct gw *g, const char *headers, const char *body, const char *cache,
                   const char *reason)
{
    struct resp r = ask(g, headers, body);
    char is[64], why[128];
    snprintf(is, sizeof is, "%s", header(&r, "x-larder-cache"));
    snprintf(why, sizeof why, "%s", header(&r, "x-larder-reason"));
    if (strcmp(is, cache) || (reason && strcmp(why, reason)))
        fail_msg("%d %s %s, expected %s %s: %s", r.status, is, why, cache, reason ? reason : "",
                 body);
    resp_free(&r);
}

/* Asks once and waits until that is stored. */
static void store(struct gw *g, const char *headers, const char *body)
{
    assert_int_equal(status_of(g, headers, body), 200);
    until_stored(g, body);
}

/* ---- choices and limits ---- */

static void three_stored_choices_serve_two_and_one_but_not_four(void **state)
{
    (void)state;
    store(gw, "", WITH("\"seed\":1,\"n\":3", "choices"));
    struct resp r = ask(gw, "", WITH("\"n\":2,\"seed\":1", "choices"));
    assert_string_equal(header(&r, "x-larder-cache"), "hit");
    assert_int_equal(count(r.body, "\"finish_reason\""), 2);
    resp_free(&r);
    r = ask(gw, "", WITH("\"seed\":1", "choices"));
    assert_string_equal(header(&r, "x-larder-cache"), "hit");
    assert_int_equal(count(r.body, "\"finish_reason\""), 1);
    resp_free(&r);
    expect(gw, "", WITH("\"seed\":1,\"n\":4", "choices"), "miss", "fewer-choices");
    until_stored(gw, WITH("\"seed\":1,\"n\":4", "choices"));
    expect(gw, "", WITH("\"seed\":1,\"n\":3", "choices"), "hit", NULL);
}

static void several_choices_without_a_seed_want_variety(void **state)
{
    (void)state;
    expect(gw, "", WITH("\"n\":2", "unseeded"), "miss", "choices");
    sleep_ms(50);
    expect(gw, "", WITH("\"n\":2", "unseeded"), "miss", "choices");
}

static void an_answer_serves_the_limits_it_fits(void **state)
{
    (void)state;
    store(gw, "", WITH("\"max_tokens\":100", "limited")); /* finished, after 5 tokens */
    expect(gw, "", ASK("limited"), "hit", NULL);
    expect(gw, "", WITH("\"max_tokens\":200", "limited"), "hit", NULL);
    expect(gw, "", WITH("\"max_completion_tokens\":5", "limited"), "hit", NULL);
    expect(gw, "", WITH("\"max_tokens\":4", "limited"), "miss", "token-limit");
}

static void up_cut(struct up_conn *c, const struct up_req *q)
{
    const char *end = strstr(q->body, "prove") ? "stop" : "length";
    char body[512];
    snprintf(body, sizeof body,
             "{\"id\":\"i\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
             "\"choices\":[{\"index\":0,\"message\":"
             "{\"role\":\"assistant\",\"content\":\"cut o\"},\"finish_reason\":\"%s\"}],"
             "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":5,\"total_tokens\":6}}",
             end);
    up_reply(c, 200, "content-type: application/json\r\n", body);
}

static void a_cut_answer_serves_its_own_limit_only(void **state)
{
    (void)state;
    struct up *u = up_start(up_cut);
    struct gw *g = gw_start(u, NULL, NULL);
    store(g, "", WITH("\"max_tokens\":5", "cut"));
    expect(g, "", WITH("\"max_completion_tokens\":5", "cut"), "hit", NULL);
    expect(g, ONLY_CACHED, WITH("\"max_tokens\":4", "cut"), "miss", "token-limit");
    expect(g, ONLY_CACHED, WITH("\"max_tokens\":6", "cut"), "miss", "token-limit");
    expect(g, ONLY_CACHED, ASK("cut"), "miss", "token-limit");
    done(g);
    up_stop(u);
}

/* Two at once, the second while the first is in flight; how many were sent upstream. */
static int two_at_once(struct asker k[2], const char *first, const char *second)
{
    int n = up_count(up);
    ask_begin(&k[0], gw, CHAT, first);
    EVENTUALLY(up_count(up) == n + 1);
    ask_begin(&k[1], gw, CHAT, second);
    ask_end(&k[0]);
    ask_end(&k[1]);
    return up_count(up) - n;
}

static void a_follower_never_gets_fewer_choices_or_another_limit(void **state)
{
    (void)state;
    struct asker k[2];
    assert_int_equal(
        two_at_once(k, WITH("\"seed\":1", "slow a"), WITH("\"seed\":1,\"n\":3", "slow a")), 2);
    assert_int_equal(count(k[0].r.body, "\"finish_reason\""), 1);
    assert_int_equal(count(k[1].r.body, "\"finish_reason\""), 3);
    resp_free(&k[0].r);
    resp_free(&k[1].r);
    assert_int_equal(
        two_at_once(k, WITH("\"max_tokens\":5", "slow b"), WITH("\"max_tokens\":1000", "slow b")),
        2);
    resp_free(&k[0].r);
    resp_free(&k[1].r);
    assert_int_equal(two_at_once(k, WITH("\"max_tokens\":5", "slow c"),
                                 WITH("\"max_completion_tokens\":5", "slow c")),
                     1);
    resp_free(&k[0].r);
    resp_free(&k[1].r);
}

/* ---- identity ---- */

static void the_closed_list_does_not_count_and_everything_else_does(void **state)
{
    (void)state;
    static const char *const quiet[] = {"\"user\":\"u\"",
                                        "\"safety_identifier\":\"s\"",
                                        "\"metadata\":{\"a\":\"b\"}",
                                        "\"store\":true",
                                        "\"service_tier\":\"flex\"",
                                        "\"stream\":false",
                                        "\"prompt_cache_key\":\"k\"",
                                        "\"n\":1",
                                        "\"odd\":null"};
    static const char *const loud[] = {
        "\"odd\":1",
        "\"top_p\":0.5",
        "\"seed\":7",
        "\"stop\":\"x\"",
        "\"logit_bias\":{\"1\":2}",
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"reasoning_effort\":\"low\"",
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]",
        "\"temperature\":0"};
    char body[512];
    store(gw, "", ASK("identity"));
    for (size_t i = 0; i < sizeof quiet / sizeof quiet[0]; i++) {
        snprintf(body, sizeof body,
                 "{%s,\"messages\":[{\"role\":\"user\",\"content\":\"identity\"}],\"model\":\"m\"}",
                 quiet[i]);
        expect(gw, "", body, "hit", NULL);
    }
    for (size_t i = 0; i < sizeof loud / sizeof loud[0]; i++) {
        snprintf(body, sizeof body,
                 "{%s,\"messages\":[{\"role\":\"user\",\"content\":\"identity\"}],\"model\":\"m\"}",
                 loud[i]);
        expect(gw, ONLY_CACHED, body, "miss", "new");
    }
    expect(gw, "cache-control: only-if-cached\r\nanthropic-beta: b\r\n", ASK("identity"), "miss",
           "new");
    expect(gw, "cache-control: only-if-cached\r\nopenai-beta: b\r\n", ASK("identity"), "miss",
           "new");
    expect(gw, "cache-control: only-if-cached\r\nopenai-project: p\r\n", ASK("identity"), "miss",
           "new");
    expect(gw, "cache-control: only-if-cached\r\nopenai-organization: o\r\n", ASK("identity"),
           "miss", "new");
    expect(gw, "anthropic-version: 2023-06-01\r\nx-unknown: x\r\n", ASK("identity"), "hit", NULL);
}

static void the_query_counts(void **state)
{
    (void)state;
    struct resp r = http(gw->port, "POST", CHAT "?api-version=1", KEY, ASK("query"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    sleep_ms(50);
    r = http(gw->port, "POST", CHAT "?api-version=2", KEY ONLY_CACHED, ASK("query"));
    assert_int_equal(r.status, 504);
    resp_free(&r);
    r = http(gw->port, "POST", CHAT "?api-version=1", KEY ONLY_CACHED, ASK("query"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
}

#define IMAGE(url)                                                                                 \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"  \
    "\"what is it\"},"                                                                             \
    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"" url "\"}}]}]}"

static void images_count_by_their_bytes(void **state)
{
    (void)state;
    store(gw, "", IMAGE("data:image/png;base64,iVBORw0KGg=="));
    expect(gw, "", IMAGE("data:image/png;base64,iVBORw0KGg"), "hit", NULL);           /* unpadded */
    expect(gw, "", IMAGE("data:image\\/png;base64,\\u0069VBORw0KGg=="), "hit", NULL); /* escaped */
    expect(gw, "", IMAGE("data:image/png;base64,iVBORw0KGw=="), "miss", "new");       /* one bit */
    expect(gw, "", IMAGE("data:image/jpeg;base64,iVBORw0KGg=="), "miss", "new");
    expect(gw, "", IMAGE("https://x.example/a.png"), "miss", "new");
}

#define TOOLS(id1, id2, r1, r2)                                                                    \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"tools\"},{\"role\":"          \
    "\"assistant\",\"tool_calls\":["                                                               \
    "{\"id\":\"" id1                                                                               \
    "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"     \
    "{\"id\":\"" id2 "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{ "    \
    "\\\"a\\\" : 2 }\"}}]},"                                                                       \
    "{\"role\":\"tool\",\"tool_call_id\":\"" r1 "\",\"content\":\"one\"},"                         \
    "{\"role\":\"tool\",\"tool_call_id\":\"" r2 "\",\"content\":\"two\"}]}"

static void tool_call_ids_count_by_position(void **state)
{
    (void)state;
    store(gw, "", TOOLS("call_1", "call_2", "call_1", "call_2"));
    expect(gw, "", TOOLS("x", "y", "x", "y"), "hit", NULL);
    expect(gw, "", TOOLS("call_2", "call_1", "call_2", "call_1"), "hit", NULL);
    expect(gw, ONLY_CACHED, TOOLS("x", "y", "y", "x"), "miss",
           "new"); /* the results change places */
}

/* ---- time ---- */

/* ttl_ms of the one entry with this tag. */
static unsigned long long ttl_of(struct gw *g, const char *tag)
{
    char admin[160], path[128];
    snprintf(admin, sizeof admin, "authorization: Bearer %s\r\n", g->admin_key);
    snprintf(path, sizeof path, "/larder/v1/entries?tag=%s", tag);
    for (int i = 0; i < 1000; i++) {
        struct resp r = http(g->port, "GET", path, admin, NULL);
        assert_int_equal(r.status, 200);
        unsigned long long ttl = strtoull(json_at(r.body, "ttl_ms"), NULL, 10);
        resp_free(&r);
        if (ttl)
            return ttl;
        sleep_ms(5);
    }
    fail_msg("no entry has the tag %s", tag);
    return 0;
}

static void headers_and_categories_move_within_the_operators_limits(void **state)
{
    (void)state;
    struct gw *g =
        gw_config((const char *const[]){"--answer-ttl", "1h", "--answer-ttl-max", "2h", NULL},
                  "upstreams:\n- url: http://127.0.0.1:%d\n"
                  "categories:\n- {name: short, ttl: 10m}\n- {name: long, ttl: 3d}\n- {name: "
                  "never, store: false}\n"
                  "- {name: various, variety: true}\n",
                  up->port);
    store(g, "x-larder-tag: t0\r\n", ASK("t0"));
    assert_int_equal(ttl_of(g, "t0"), 3600000);
    store(g, "x-larder-tag: t1\r\nx-larder-ttl: 90m\r\n", ASK("t1"));
    assert_int_equal(ttl_of(g, "t1"), 5400000);
    store(g, "x-larder-tag: t2\r\nx-larder-ttl: 1000d\r\n", ASK("t2"));
    assert_int_equal(ttl_of(g, "t2"), 7200000);
    store(g, "x-larder-tag: t3\r\nx-larder-category: short\r\n", ASK("t3"));
    assert_int_equal(ttl_of(g, "t3"), 600000);
    store(g, "x-larder-tag: t4\r\nx-larder-category: short\r\nx-larder-ttl: 90m\r\n", ASK("t4"));
    assert_int_equal(ttl_of(g, "t4"), 600000); /* the header may only tighten the category */
    store(g, "x-larder-tag: t5\r\nx-larder-category: short\r\nx-larder-ttl: 5m\r\n", ASK("t5"));
    assert_int_equal(ttl_of(g, "t5"), 300000);
    store(g, "x-larder-tag: t6\r\nx-larder-category: long\r\n", ASK("t6"));
    assert_int_equal(ttl_of(g, "t6"), 7200000);
    store(g, "x-larder-tag: t7\r\nx-larder-category: unheard-of\r\n", ASK("t7"));
    assert_int_equal(ttl_of(g, "t7"), 3600000);

    assert_int_equal(status_of(g, "x-larder-category: never\r\nx-larder-ttl: 1h\r\n", ASK("never")),
                     200);
    assert_int_equal(status_of(g, "x-larder-ttl: 0\r\n", ASK("never")), 200);
    sleep_ms(50);
    expect(g, ONLY_CACHED, ASK("never"), "miss", "new");
    expect(g, "x-larder-category: never\r\n", ASK("t0"), "miss",
           NULL); /* stored, but not for this category */

    const char *hot = WITH("\"temperature\":0.9", "hot");
    expect(g, "", hot, "miss", "temperature");
    expect(g, "x-larder-category: various\r\n", hot, "miss", "new");
    for (int i = 0; i < 400; i++) {
        struct resp r = ask(g, "x-larder-category: various\r\n", hot);
        bool hit = strcmp(header(&r, "x-larder-cache"), "hit") == 0;
        resp_free(&r);
        if (hit)
            break;
        assert_int_not_equal(i, 399);
        sleep_ms(5);
    }
    expect(g, "", hot, "miss", "temperature");
    done(g);
}

static void variety_may_be_stored_by_option(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--answer-variety", NULL});
    store(g, "", WITH("\"temperature\":1.5", "hot by option"));
    expect(g, "", WITH("\"temperature\":1.50", "hot by option"), "hit", NULL);
    expect(g, "", WITH("\"temperature\":1.6", "hot by option"), "miss", "new");
    done(g);
}

static void the_shelf_can_be_off(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--no-answer-exact", NULL});
    expect(g, "", ASK("off"), "miss", "off");
    sleep_ms(50);
    expect(g, "", ASK("off"), "miss", "off");
    done(g);
}

static void a_hit_renews_the_time_only_where_asked(void **state)
{
    (void)state;
    struct gw *fixed = gw_start(up, NULL, NULL),
              *sliding = gw_start(up, NULL, (const char *const[]){"--answer-sliding", NULL});
    expect(fixed, "", ASK("prove"), "miss", NULL);
    expect(sliding, "", ASK("prove"), "miss", NULL);
    store(fixed, "x-larder-ttl: 1500ms\r\n", ASK("sliding"));
    store(sliding, "x-larder-ttl: 1500ms\r\n", ASK("sliding"));
    for (int i = 0; i < 5; i++) {
        sleep_ms(400);
        expect(sliding, "", ASK("sliding"), "hit", NULL);
    }
    expect(fixed, "", ASK("sliding"), "miss", "expired");
    done(fixed);
    done(sliding);
}

static void the_same_again_within_the_window_means_another_one_please(void **state)
{
    (void)state;
    static const char *const args[] = {"--answer-regenerate", "1h", NULL};
    struct gw *g = gw_start(up, NULL, args);
    char dir[256];
    expect(g, "", ASK("prove"), "miss", NULL);
    expect(g, "", ASK("again"), "miss", "new");
    expect(g, "", ASK("again"), "miss", "regenerate");
    sleep_ms(100);
    snprintf(dir, sizeof dir, "%s", g->dir);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    free(g);
    g = gw_start(up, dir, args);
    expect(g, "", ASK("again"), "hit", NULL); /* not asked lately; it lies on disk */
    expect(g, "", ASK("again"), "miss", "regenerate");
    done(g);
}

static void max_age_is_the_clients_own_limit(void **state)
{
    (void)state;
    store(gw, "", ASK("aged"));
    expect(gw, "cache-control: max-age=3600\r\n", ASK("aged"), "hit", NULL);
    sleep_ms(20);
    expect(gw, "cache-control: max-age=0, only-if-cached\r\n", ASK("aged"), "miss", "max-age");
    struct resp r = ask(gw, ONLY_CACHED, ASK("never, and only if cached"));
    assert_int_equal(r.status, 504);
    assert_string_equal(json_at(r.body, "code"), "not_cached");
    assert_string_equal(header(&r, "x-larder-reason"), "new");
    resp_free(&r);
    expect(gw, "cache-control: private , max-age=3600 , x=y\r\n", ASK("aged"), "hit", NULL);
}

/* ---- the stale ---- */

static atomic_bool dead;

static void up_mortal(struct up_conn *c, const struct up_req *q)
{
    if (atomic_load(&dead) && strstr(q->body, "half"))
        up_reply(c, 200, "content-type: application/json\r\n", "{\"choices\":[");
    else if (atomic_load(&dead))
        up_abort(c);
    else
        up_llm(c, q);
}

static void a_stale_answer_rescues_from_a_dead_upstream_where_allowed(void **state)
{
    (void)state;
    struct up *u = up_start(up_mortal);
    struct gw *g = gw_config((const char *const[]){"--answer-stale-if-error", "1h",
                                                   "--answer-stale-while-revalidate", "1h", NULL},
                             "upstreams:\n- {url: 'http://127.0.0.1:%d', retries: 0}\n", u->port);
    expect(g, "", ASK("prove"), "miss", NULL);
    assert_int_equal(status_of(g, "x-larder-ttl: 1ms\r\n", ASK("rescue")), 200);
    struct resp r = ask(g, "x-larder-ttl: 1ms\r\n", ASK("rescue fail500"));
    assert_int_equal(r.status, 500);
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    resp_free(&r);
    assert_int_equal(status_of(g, "x-larder-ttl: 1ms\r\n", ASK("half a rescue")), 200);
    sleep_ms(100);
    atomic_store(&dead, true);
    expect(g, "cache-control: stale-if-error=600\r\n", ASK("half a rescue"), "stale",
           "stale-if-error");
    expect(g, "cache-control: stale-if-error=600\r\n", ASK("rescue"), "stale", "stale-if-error");
    r = ask(g, "", ASK("rescue")); /* not asked for */
    assert_int_equal(r.status, 502);
    resp_free(&r);
    r = ask(g, "cache-control: stale-if-error=600\r\n", WITH("\"stream\":true", "rescue"));
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "x-larder-cache"), "stale");
    assert_non_null(strstr(r.body, "data: [DONE]"));
    resp_free(&r);
    expect(g, "cache-control: stale-while-revalidate=600\r\n", ASK("rescue"), "stale",
           "stale-while-revalidate");
    done(g);
    up_stop(u);

    g = gw_start(up, NULL, NULL); /* the operator allows none */
    expect(g, "", ASK("prove"), "miss", NULL);
    r = ask(g, "x-larder-ttl: 1ms\r\n", ASK("no rescue"));
    resp_free(&r);
    sleep_ms(100);
    expect(g, "cache-control: stale-while-revalidate=600, stale-if-error=600\r\n", ASK("no rescue"),
           "miss", "expired");
    done(g);
}

static void without_an_upstream_the_stored_is_still_served(void **state)
{
    (void)state;
    static const char *const args[] = {"--answer-stale-if-error", "1h",
                                       "--answer-stale-while-revalidate", "1h",
                                       "--model", "none", NULL};
    struct gw *g = gw_start(up, NULL, args);
    char dir[256];
    expect(g, "", ASK("prove"), "miss", NULL);
    store(g, "", ASK("kept"));
    assert_int_equal(status_of(g, "x-larder-ttl: 1ms\r\n", ASK("kept stale")), 200);
    sleep_ms(200);
    snprintf(dir, sizeof dir, "%s", g->dir);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    free(g);
    g = gw_start(NULL, dir, args);
    expect(g, "", ASK("kept"), "hit", NULL);
    expect(g, "cache-control: stale-if-error=60\r\n", ASK("kept stale"), "stale", NULL);
    expect(g, "cache-control: stale-while-revalidate=60\r\n", ASK("kept stale"), "stale",
           "stale-while-revalidate");
    struct resp r = ask(g, "", ASK("never asked"));
    assert_int_equal(r.status, 503);
    assert_string_equal(json_at(r.body, "code"), "no_model");
    assert_non_null(strstr(r.body, "--upstream"));
    resp_free(&r);
    r = http(g->port, "POST", "/v1/messages", KEY, WITH("\"max_tokens\":5", "x"));
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.body, "\"type\":\"error\""));
    resp_free(&r);
    r = http(g->port, "GET", "/v1/files", KEY, NULL);
    assert_int_equal(r.status, 503);
    resp_free(&r);
    done(g);
}

/* ---- what is not kept ---- */

static void up_partial(struct up_conn *c, const struct up_req *q)
{
    if (strstr(q->path, "embeddings"))
        up_reply(
            c, 200, "content-type: application/json\r\n",
            "{\"object\":\"list\",\"model\":\"e\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
            "\"embedding\":[1]}],\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}}");
    else if (strstr(q->body, "filter"))
        up_reply(c, 200, "content-type: application/json\r\n",
                 "{\"id\":\"i\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
                 "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                 "\"content\":\"\"},\"finish_reason\":\"content_filter\"}]}");
    else if (strstr(q->body, "odd body"))
        up_reply(c, 200, "content-type: application/json\r\n", "{\"choices\":");
    else if (strstr(q->body, "page"))
        up_reply(c, 200, "content-type: text/html\r\n", "<html>a proxy's page</html>");
    else
        up_llm(c, q);
}

static void what_is_not_whole_is_not_kept(void **state)
{
    (void)state;
    struct up *u = up_start(up_partial);
    struct gw *g = gw_start(u, NULL, NULL);
    static const char *const odd[] = {ASK("odd body"), ASK("page")};
    expect(g, "", ASK("prove"), "miss", NULL);
    for (int i = 0; i < 2; i++) {
        struct resp r = ask(g, "", odd[i]);
        assert_int_equal(r.status, 502);
        assert_true(strlen(json_at(r.body, "message")) > 0);
        resp_free(&r);
    }
    expect(g, "", ASK("filter"), "miss", "new");
    sleep_ms(50);
    expect(g, ONLY_CACHED, odd[0], "miss", "new");
    expect(g, ONLY_CACHED, odd[1], "miss", "new");
    expect(g, ONLY_CACHED, ASK("filter"), "miss", "new");
    struct resp r =
        post(g->port, "/v1/embeddings", "{\"model\":\"e\",\"input\":[\"a\",\"b\",\"c\"]}");
    assert_int_equal(r.status, 502); /* one vector for three inputs */
    resp_free(&r);
    done(g);
    up_stop(u);
}

static void what_is_too_large_or_has_no_time_is_passed_on_and_not_kept(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--answer-entry-max", "4K", NULL});
    expect(g, "", ASK("prove"), "miss", NULL);
    struct resp r = ask(g, "", ASK("long 20000"));
    assert_int_equal(r.status, 200);
    assert_true(r.len > 20000);
    resp_free(&r);
    r = ask(g, "", WITH("\"stream\":true", "long 9000"));
    assert_int_equal(count(r.body, "\"content\":\"x\""), 9000);
    resp_free(&r);
    store(g, "", ASK("long 2000"));
    expect(g, ONLY_CACHED, ASK("long 20000"), "miss", "new");
    expect(g, ONLY_CACHED, ASK("long 9000"), "miss", "new");
    done(g);
    g = gw_start(up, NULL, (const char *const[]){"--answer-ttl", "0", NULL});
    expect(g, "", ASK("prove"), "miss", NULL);
    expect(g, "", ASK("timeless"), "miss", "new");
    sleep_ms(50);
    expect(g, "", ASK("timeless"), "miss", "new");
    done(g);
}

static void a_batch_of_new_inputs_goes_upstream_as_it_came(void **state)
{
    (void)state;
    const char *body =
        " {\"input\" : [\"zz1\", \"zz2\"],\"odd\":1.50, \"model\": \"e\",\"user\":\"u\"}";
    struct resp r = post(gw->port, "/v1/embeddings", body);
    assert_int_equal(r.status, 200);
    assert_string_equal(up_last_body(up), body);
    resp_free(&r);
}

static void every_answer_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *headers, *body;
    } cases[] = {
        {"POST", CHAT, KEY, "{"},
        {"POST", CHAT, KEY, ASK("why")},
        {"POST", CHAT, KEY ONLY_CACHED, ASK("why not")},
        {"POST", CHAT, "content-type: text/plain\r\n", ASK("why")},
        {"POST", CHAT, KEY "origin: http://evil.example\r\n", ASK("why")},
        {"POST", CHAT, KEY, WITH("\"temperature\":1", "why")},
        {"POST", CHAT, KEY, ASK("fail400 why")},
        {"GET", "/v1/files", KEY, NULL},
        {"POST", "/v1/embeddings", KEY, "{\"model\":\"e\",\"input\":\"why\"}"},
        {"POST", "/v1/embeddings", KEY, "{\"model\":\"e\",\"input\":\"why\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resp r =
            http(gw->port, cases[i].method, cases[i].path, cases[i].headers, cases[i].body);
        static const char *const names[] = {"x-larder-reason", "x-larder-cache", "x-larder-shelf",
                                            "x-larder-request-id"};
        for (size_t k = 0; k < 4; k++)
            if (!*header(&r, names[k]))
                fail_msg("case %zu has no %s: %s", i, names[k], r.head);
        resp_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_stored_choices_serve_two_and_one_but_not_four),
        cmocka_unit_test(several_choices_without_a_seed_want_variety),
        cmocka_unit_test(an_answer_serves_the_limits_it_fits),
        cmocka_unit_test(a_cut_answer_serves_its_own_limit_only),
        cmocka_unit_test(a_follower_never_gets_fewer_choices_or_another_limit),
        cmocka_unit_test(the_closed_list_does_not_count_and_everything_else_does),
        cmocka_unit_test(the_query_counts),
        cmocka_unit_test(images_count_by_their_bytes),
        cmocka_unit_test(tool_call_ids_count_by_position),
        cmocka_unit_test(headers_and_categories_move_within_the_operators_limits),
        cmocka_unit_test(variety_may_be_stored_by_option),
        cmocka_unit_test(the_shelf_can_be_off),
        cmocka_unit_test(a_hit_renews_the_time_only_where_asked),
        cmocka_unit_test(the_same_again_within_the_window_means_another_one_please),
        cmocka_unit_test(max_age_is_the_clients_own_limit),
        cmocka_unit_test(a_stale_answer_rescues_from_a_dead_upstream_where_allowed),
        cmocka_unit_test(without_an_upstream_the_stored_is_still_served),
        cmocka_unit_test(what_is_not_whole_is_not_kept),
        cmocka_unit_test(what_is_too_large_or_has_no_time_is_passed_on_and_not_kept),
        cmocka_unit_test(a_batch_of_new_inputs_goes_upstream_as_it_came),
        cmocka_unit_test(every_answer_says_why),
    };
    return cmocka_run_group_tests(tests, start, tear_down);
}
