/* SPDX-License-Identifier: Apache-2.0
 * api/test_local.c - models of this machine seen from outside: every dialect, one shelf, one queue.
 *
 * The models are tiny ones with random weights, made by the program itself: what they say makes no sense,
 * and what it looks like must.
 */
#include "kit.h"

#define CHAT_OF(model, members, text)                                                              \
    "{\"model\":\"" model "\"," members "\"messages\":[{\"role\":\"user\",\"content\":\"" text      \
    "\"}]}"
#define NANO(members, text) CHAT_OF("nano", members, text)
#define ENDLESS             "\"logit_bias\":{\"2\":-100},"

static char dir[] = "/tmp/larder-local-XXXXXX";
static char nano[64], other[64], second[64];

static void make_model(char path[64], const char *name, const char *seed)
{
    char out[512];
    snprintf(path, 64, "%s/%s", dir, name);
    const char *const args[] = {"model", "random", "--like", "nano", "--type", "F32",
                                "--seed", seed, "--out", path, NULL};
    assert_int_equal(larder(out, sizeof out, args), 0);
}

static struct gw *serve(const char *model, const char *const *more)
{
    /* one thread: several that meet crawl on a machine busy with other tests */
    const char *args[24] = {"--model", model, "--engine-threads", "1"};
    size_t n = 4;
    while (more && *more && n < 23)
        args[n++] = *more++;
    return gw_start(NULL, NULL, args);
}

static bool metric_is(const struct gw *g, const char *line)
{
    struct resp r = http(g->port, "GET", "/metrics", "", NULL);
    bool is = strstr(r.body, line) != NULL;
    resp_free(&r);
    return is;
}

/* ---- dialects ---- */

static void every_dialect_is_answered_whole_and_streamed(void **state)
{
    static const struct {
        const char *path, *rest, *whole, *end; /* rest: of the body */
    } all[] = {
        {CHAT, "\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"one\"}]}",
         "\"object\":\"chat.completion\"", "data: [DONE]"},
        {"/v1/completions", "\"max_tokens\":9,\"prompt\":\"two\"}",
         "\"object\":\"text_completion\"", "data: [DONE]"},
        {MESSAGES, "\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"three\"}]}",
         "\"type\":\"message\"", "event: message_stop"},
        {RESPONSES, "\"max_output_tokens\":20,\"input\":\"four\"}", "\"object\":\"response\"",
         "event: response."},
    };
    struct gw *g = serve(nano, NULL);
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int stream = 0; stream < 2; stream++) {
            char body[512];
            (void)snprintf(body, sizeof body, "{\"model\":\"nano\",%s%s",
                           stream ? "\"stream\":true," : "", all[i].rest);
            struct resp a = post(g->port, all[i].path, body);
            if (a.status != 200)
                fail_msg("%s: %d %s", all[i].path, a.status, a.body);
            assert_string_equal(header(&a, "x-larder-cache"), stream ? "hit" : "miss");
            has(&a, stream ? all[i].end : all[i].whole);
            struct resp b = post(g->port, all[i].path, body);
            assert_string_equal(header(&b, "x-larder-cache"), "hit"); /* on the shelf at once */
            resp_free(&a);
            resp_free(&b);
        }
    struct resp live = post(g->port, CHAT, NANO("\"stream\":true,\"max_tokens\":9,", "live"));
    assert_string_equal(header(&live, "x-larder-cache"), "miss");
    assert_string_equal(header(&live, "x-larder-upstream"), "local");
    has(&live, "data: [DONE]");
    resp_free(&live);
    done(g);
}

static void a_seed_gives_the_same_reply_again(void **state)
{
    char first[4096];
    struct gw *g = serve(nano, NULL);
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct resp r = ask(g, "cache-control: no-store, no-cache\r\n",
                            NANO("\"seed\":7,\"temperature\":1,\"max_tokens\":30,", "again"));
        assert_int_equal(r.status, 200);
        if (i)
            assert_string_equal(first, json_at(r.body, "content"));
        (void)snprintf(first, sizeof first, "%s", json_at(r.body, "content"));
        resp_free(&r);
    }
    done(g);
}

static void several_choices_and_prompts_are_numbered(void **state)
{
    struct gw *g = serve(nano, NULL);
    (void)state;
    struct resp r = post(g->port, "/v1/completions",
                         "{\"model\":\"nano\",\"max_tokens\":4,\"n\":2,\"logprobs\":2,"
                         "\"prompt\":[\"a\",\"b\",\"c\"]}");
    assert_int_equal(r.status, 200);
    assert_int_equal(count(r.body, "\"finish_reason\""), 6);
    has(&r, "\"index\":5");
    has(&r, "\"token_logprobs\"");
    resp_free(&r);
    done(g);
}

static void vectors_have_length_one(void **state)
{
    struct gw *g = serve(nano, NULL);
    (void)state;
    struct resp r = post(g->port, "/v1/embeddings",
                         "{\"model\":\"nano\",\"input\":[\"first text\",\"another\"]}");
    assert_int_equal(r.status, 200);
    assert_int_equal(count(r.body, "\"embedding\":["), 2);
    double sum = 0;
    char *p = strstr(r.body, "\"embedding\":[") + strlen("\"embedding\":[");
    for (double v; *p != ']'; p += *p == ',') {
        v = strtod(p, &p);
        sum += v * v;
    }
    assert_true(sum > 0.999 && sum < 1.001);
    resp_free(&r);
    r = post(g->port, "/v1/embeddings", "{\"model\":\"nano\",\"input\":[\"another\",\"third\"]}");
    assert_non_null(strstr(header(&r, "x-larder-reason"), "partial:1/2"));
    resp_free(&r);
    r = post(g->port, "/v1/embeddings",
             "{\"model\":\"nano\",\"input\":\"text\",\"encoding_format\":\"base64\"}");
    assert_int_equal(strlen(json_at(r.body, "embedding")), (64 * 4 + 2) / 3 * 4);
    resp_free(&r);
    r = post(g->port, "/v1/embeddings", "{\"model\":\"nano\",\"input\":\"t\",\"dimensions\":3}");
    assert_int_equal(r.status, 400);
    resp_free(&r);
    done(g);
}

/* ---- what is asked of it ---- */

static void a_schema_is_obeyed(void **state)
{
    struct gw *g = serve(nano, NULL);
    (void)state;
    struct resp r = post(
        g->port, CHAT,
        NANO("\"max_tokens\":60,\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":"
             "\"x\",\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"boolean\"}},"
             "\"required\":[\"a\"],\"additionalProperties\":false}}},", "json"));
    assert_int_equal(r.status, 200);
    const char *content = strstr(r.body, "\"content\":\"");
    assert_non_null(content);
    if (content[11] != '{' || !strstr(content, "\\\"a\\\":") ||
        (!strstr(content, "true") && !strstr(content, "false")))
        fail_msg("%s", r.body);
    assert_string_equal(json_at(r.body, "finish_reason"), "stop");
    resp_free(&r);
    r = post(g->port, CHAT,
             NANO("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\","
                  "\"schema\":{\"type\":\"string\",\"format\":\"unheard-of\",\"not\":{}}}},", "j"));
    assert_int_equal(r.status, 400);
    resp_free(&r);
    done(g);
}

static void what_it_cannot_do_is_refused(void **state)
{
    static const struct {
        const char *path, *body, *code;
        int status;
    } all[] = {
        {CHAT, NANO("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],", "t"),
         "unsupported", 400},
        {CHAT, NANO("\"temperature\":9,", "hot"), "invalid_request", 400},
        {CHAT, "{\"model\":\"nano\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
               "\"image_url\",\"image_url\":{\"url\":\"http://x/y.png\"}}]}]}", "unsupported", 400},
        {"/v1/completions", "{\"model\":\"nano\",\"prompt\":\"x\",\"suffix\":\"y\"}", "unsupported", 400},
        {"/v1/completions", "{\"model\":\"nano\",\"prompt\":[99999]}", "invalid_request", 400},
        {CHAT, CHAT_OF("nobody", "", "x"), "model_not_found", 404},
        {RESPONSES, "{\"model\":\"nano\",\"input\":\"x\",\"previous_response_id\":\"resp_1\"}",
         "unsupported", 400},
    };
    struct gw *g = serve(nano, NULL);
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct resp r = post(g->port, all[i].path, all[i].body);
        if (r.status != all[i].status || strcmp(json_at(r.body, "code"), all[i].code) != 0)
            fail_msg("%s: %d %s", all[i].body, r.status, r.body);
        resp_free(&r);
    }
    done(g);
}

static void a_prompt_longer_than_the_context_is_refused(void **state)
{
    static char body[4096], text[2000];
    struct gw *g = serve(nano, NULL);
    (void)state;
    memset(text, 'x', sizeof text - 1);
    (void)snprintf(body, sizeof body, NANO("", "%s"), text);
    struct resp r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 400);
    assert_string_equal(json_at(r.body, "code"), "context_length_exceeded");
    has(&r, "512");
    resp_free(&r);
    (void)snprintf(body, sizeof body, NANO("\"max_tokens\":5,", "%s"), text);
    r = post(g->port, MESSAGES, body);
    assert_int_equal(r.status, 400);
    has(&r, "\"type\":\"error\"");
    has(&r, "invalid_request_error");
    resp_free(&r);
    done(g);
}

/* ---- one slot, held by a reader that does not read ---- */

/* Fills its flight's log with log probabilities, which nobody takes: the reply rests, its place is taken. */
static int hold_the_place(const struct gw *g)
{
    static const char body[] =
        NANO(ENDLESS "\"n\":12,\"stream\":true,\"logprobs\":true,\"top_logprobs\":20,"
                     "\"max_tokens\":400,", "hold");
    char head[512];
    int fd = dial(g->port);
    int n = snprintf(head, sizeof head, "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                                        "content-length: %zu\r\n\r\n", sizeof body - 1);
    assert_true(send_all(fd, head, (size_t)n));
    assert_true(send_all(fd, body, sizeof body - 1));
    EVENTUALLY(metric_is(g, "larder_model_running{model=\"nano\"} 1"));
    return fd;
}

static void equal_questions_share_a_reply_and_a_hang_up_ends_one(void **state)
{
    static const char body[] = NANO("\"max_tokens\":9,", "shared");
    struct gw *g = serve(nano, (const char *const[]){"--engine-parallel", "1", NULL});
    struct asker a, b;
    (void)state;
    int fd = hold_the_place(g);
    ask_begin(&a, g, CHAT, body);
    EVENTUALLY(metric_is(g, "larder_model_waiting{model=\"nano\"} 1"));
    ask_begin(&b, g, CHAT, body);
    sleep_ms(50); /* joins; were it late, it would be a hit, which the test allows too */
    assert_true(metric_is(g, "larder_model_waiting{model=\"nano\"} 1"));
    close(fd); /* hangs up: the place is free */
    ask_end(&a);
    ask_end(&b);
    assert_string_equal(header(&a.r, "x-larder-cache"), "miss");
    assert_true(cache_is(&b.r, "coalesced") || cache_is(&b.r, "hit"));
    char text[1024];
    (void)snprintf(text, sizeof text, "%s", json_at(a.r.body, "content"));
    assert_string_equal(text, json_at(b.r.body, "content"));
    resp_free(&a.r);
    resp_free(&b.r);
    EVENTUALLY(metric_is(g, "larder_model_running{model=\"nano\"} 0"));
    done(g);
}

static void a_full_queue_says_when_to_come_back(void **state)
{
    struct gw *g = serve(nano, (const char *const[]){"--engine-parallel", "1", "--engine-queue", "1",
                                                     NULL});
    struct asker a;
    (void)state;
    int fd = hold_the_place(g);
    ask_begin(&a, g, CHAT, NANO("\"max_tokens\":9,", "first"));
    EVENTUALLY(metric_is(g, "larder_model_waiting{model=\"nano\"} 1"));
    struct resp r = post(g->port, CHAT, NANO("\"max_tokens\":9,", "one too many"));
    assert_int_equal(r.status, 429);
    assert_string_equal(header(&r, "retry-after"), "1");
    assert_string_equal(json_at(r.body, "code"), "overloaded");
    resp_free(&r);
    close(fd);
    ask_end(&a);
    resp_free(&a.r);
    done(g);
}

/* ---- names ---- */

static void two_models_and_an_alias_answer_to_their_names(void **state)
{
    char config[512];
    (void)state;
    struct gw *g = gw_config(NULL,
                             "model: [%s, %s]\naliases:\n  - name: small\n    model: second\n"
                             "    upstreams: [local]\n", nano, second);
    struct resp r = http(g->port, "GET", "/v1/models", KEY, NULL);
    has(&r, "\"nano\"");
    has(&r, "\"second\"");
    has(&r, "\"small\"");
    resp_free(&r);
    r = post(g->port, CHAT, NANO("\"max_tokens\":5,", "x"));
    assert_string_equal(json_at(r.body, "model"), "nano");
    resp_free(&r);
    r = post(g->port, CHAT, CHAT_OF("small", "\"max_tokens\":5,", "x"));
    assert_int_equal(r.status, 200);
    assert_string_equal(json_at(r.body, "model"), "second");
    resp_free(&r);
    r = http(g->port, "GET", "/v1/files", KEY, NULL);
    assert_int_equal(r.status, 404);
    resp_free(&r);
    (void)config;
    done(g);
}

static void a_local_name_wins_over_an_upstream_that_takes_all(void **state)
{
    (void)state;
    struct up *u = up_start(up_llm);
    const char *const args[] = {"--model", nano, NULL};
    struct gw *g = gw_start(u, NULL, args);
    struct resp r = post(g->port, CHAT, NANO("\"max_tokens\":5,", "mine"));
    assert_string_equal(header(&r, "x-larder-upstream"), "local");
    resp_free(&r);
    int n = up_count(u);
    r = post(g->port, CHAT, ASK("yours"));
    assert_string_equal(json_at(r.body, "content"), "hello from upstream");
    assert_int_equal(up_count(u), n + 1);
    resp_free(&r);
    done(g);
    up_stop(u);
}

/* ---- one alias, here and elsewhere ---- */

#define BOTH(members, text) CHAT_OF("both", members "\"max_tokens\":5,", text)

static const char *_Atomic refusal = "HTTP"; /* connections of the stand-in read it */

/* Refuses in the way the test says. */
static void up_refusing(struct up_conn *c, const struct up_req *q)
{
    (void)q;
    const char *way = refusal;
    bool busy = strcmp(way, "busy") == 0;
    if (strcmp(way, "hang up") == 0)
        up_abort(c);
    else
        (void)up_reply(c, busy ? 429 : 500, busy ? "retry-after: 60\r\n" : "", "{}");
}

static struct gw *serve_both(const struct up *u, unsigned here)
{
    return gw_config(NULL,
                     "model: [%s]\nengine: {threads: 1, weight: %u}\nupstreams:\n- {name: cloud, url: "
                     "'http://127.0.0.1:%d', retries: 1, breaker: 0, weight: %u}\naliases:\n- {name: both, "
                     "model: nano, upstreams: [local, cloud]}\n",
                     nano, here, u->port, 1001 - here);
}

/* Eight questions, streamed and whole; all are answered by `who`. */
static void all_are_answered_by(const struct gw *g, const char *members, const char *who)
{
    char body[1024];
    for (int i = 0; i < 8; i++) {
        (void)snprintf(body, sizeof body, BOTH("%s%s", "question %d %s"), members,
                       i % 2 ? "\"stream\":true," : "", i, who);
        struct resp r = post(g->port, CHAT, body);
        if (r.status != 200 || r.torn)
            fail_msg("%d %s", r.status, r.body);
        assert_string_equal(header(&r, "x-larder-upstream"), who);
        has(&r, i % 2 ? "data: [DONE]" : "\"chat.completion\"");
        has(&r, strcmp(who, "local") == 0 ? "\"chatcmpl-" : "\"chatcmpl-up\"");
        resp_free(&r);
    }
}

static void the_model_here_answers_when_upstreams_fail(void **state)
{
    static const char *const ways[] = {"HTTP", "busy", "hang up"};
    (void)state;
    struct up *u = up_start(up_refusing);
    struct gw *g = serve_both(u, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char members[64];
        int n = up_count(u);
        refusal = ways[i];
        (void)snprintf(members, sizeof members, "\"seed\":%zu,\"stop\":[\"~%zu\"],", i, i);
        all_are_answered_by(g, members, "local");
        assert_true(up_count(u) >= n + 7); /* it was asked, and not twice: its turn is once */
        assert_true(up_count(u) <= n + 8);
    }
    refusal = "HTTP";
    struct resp r = post(g->port, CHAT, BOTH("", "tries"));
    assert_non_null(strstr(header(&r, "x-larder-route"), "tries=2"));
    resp_free(&r);
    /* neither can: the upstream's word counts, for it was asked first */
    r = post(g->port, CHAT,
             BOTH("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],", "t"));
    assert_int_equal(r.status, 500);
    resp_free(&r);
    up_stop(u);
    all_are_answered_by(g, "\"seed\":9,", "local"); /* nobody listens there */
    done(g);
}

static void upstreams_answer_what_the_model_here_cannot(void **state)
{
    static char text[2000], body[4096];
    (void)state;
    struct up *u = up_start(up_llm);
    struct gw *g = serve_both(u, 1000);
    all_are_answered_by(g, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],",
                        "cloud");
    memset(text, 'x', sizeof text - 1);
    (void)snprintf(body, sizeof body, BOTH("", "%s"), text); /* longer than its context */
    struct resp r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "x-larder-upstream"), "cloud");
    resp_free(&r);
    r = post(g->port, CHAT, BOTH("\"temperature\":9,", "a mistake stays one"));
    assert_int_equal(r.status, 400);
    resp_free(&r);
    done(g);
    up_stop(u);
}

static void an_answer_that_has_begun_is_nobody_elses(void **state)
{
    (void)state;
    struct up *u = up_start(up_llm);
    struct gw *g = serve_both(u, 1);
    struct resp r;
    for (int i = 0; i < 4; i++) {
        r = post(g->port, CHAT, BOTH("\"stream\":true,", "cutoff"));
        if (strcmp(header(&r, "x-larder-upstream"), "cloud") == 0)
            assert_null(strstr(r.body, "[DONE]"));
        resp_free(&r);
    }
    done(g);
    up_stop(u);
}

static void another_file_under_the_old_name_is_another_model(void **state)
{
    static const char body[] = NANO("\"max_tokens\":9,", "who are you");
    char data[] = "/tmp/larder-local-data-XXXXXX", remove[128];
    (void)state;
    assert_non_null(mkdtemp(data));
    const char *const files[] = {nano, nano, other};
    static const char *const want[] = {"miss", "hit", "miss"};
    struct gw *life[3]; /* freed at the end: that removes the directory they share */
    for (int i = 0; i < 3; i++) {
        const char *const args[] = {"--model", files[i], NULL};
        life[i] = gw_start(NULL, data, args);
        struct resp r = post(life[i]->port, CHAT, body);
        assert_int_equal(r.status, 200);
        assert_string_equal(header(&r, "x-larder-cache"), want[i]);
        resp_free(&r);
        assert_int_equal(gw_stop(life[i], SIGTERM), 0);
    }
    for (int i = 0; i < 3; i++)
        gw_free(life[i]);
    (void)snprintf(remove, sizeof remove, "rm -rf %s", data);
    assert_int_equal(system(remove), 0);
}

/* ---- memory ---- */

static void a_budget_caps_a_conversation(void **state)
{
    static char body[2048], text[400];
    (void)state;
    memset(text, 'y', sizeof text - 1);
    (void)snprintf(body, sizeof body, NANO("\"max_tokens\":9,", "%s"), text);
    struct gw *g = serve(nano, (const char *const[]){"--engine-kv-budget", "64K", NULL});
    struct resp r = post(g->port, CHAT, body); /* full: no row is given up, so no long prompt */
    assert_int_equal(r.status, 400);
    assert_string_equal(json_at(r.body, "code"), "context_length_exceeded");
    resp_free(&r);
    r = post(g->port, CHAT, NANO("\"max_tokens\":9,", "short"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    done(g);
    g = serve(nano, (const char *const[]){"--engine-kv-policy", "streaming-llm", "--engine-kv-budget",
                                          "128", NULL});
    r = post(g->port, CHAT, body);
    if (r.status != 200)
        fail_msg("%s", r.body);
    resp_free(&r);
    done(g);
}

static void the_next_turn_finds_the_last_one_computed(void **state)
{
    char body[2048], said[512], key[128];
    struct gw *g = serve(nano, NULL);
    (void)state;
    struct resp r = post(g->port, CHAT, NANO("\"max_tokens\":9,\"seed\":1,", "a first question"));
    (void)snprintf(said, sizeof said, "%s", json_at(r.body, "content"));
    resp_free(&r);
    (void)snprintf(body, sizeof body,
                   "{\"model\":\"nano\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":"
                   "\"a first question\"},{\"role\":\"assistant\",\"content\":\"ok\"},{\"role\":\"user\","
                   "\"content\":\"and another\"}]}");
    r = post(g->port, CHAT, body);
    assert_int_equal(r.status, 200);
    assert_true(atoi(json_at(r.body, "cached_tokens")) >= 16);
    char path[128];
    (void)snprintf(path, sizeof path, "/larder/v1/explain/%s", header(&r, "x-larder-request-id"));
    (void)snprintf(key, sizeof key, "authorization: Bearer %s\r\n", g->admin_key);
    resp_free(&r);
    r = http(g->port, "GET", path, key, NULL);
    has(&r, "\"prefill_ms\"");
    has(&r, "\"reply_tokens\"");
    resp_free(&r);
    done(g);
}

static void a_model_that_does_not_fit_is_refused_with_numbers(void **state)
{
    char out[4096], missing[96];
    (void)state;
    const char *const tight[] = {"doctor", "--model", nano, "--engine-memory", "1M", NULL};
    assert_int_not_equal(larder(out, sizeof out, tight), 0);
    assert_non_null(strstr(out, "FAIL  model"));
    assert_non_null(strstr(out, "MiB"));
    const char *const policy[] = {"doctor", "--model", nano, "--engine-kv-policy", "snapkv", NULL};
    assert_int_not_equal(larder(out, sizeof out, policy), 0);
    assert_non_null(strstr(out, "budget"));
    (void)snprintf(missing, sizeof missing, "%s/missing.gguf", dir);
    const char *const gone[] = {"doctor", "--model", missing, NULL};
    assert_int_not_equal(larder(out, sizeof out, gone), 0);
    assert_non_null(strstr(out, "missing.gguf"));
    const char *const good[] = {"doctor", "--model", nano, NULL};
    (void)larder(out, sizeof out, good);
    assert_non_null(strstr(out, "ok    model nano"));
}

/* ---- policies of one's own ---- */

/* Built beside the program. */
static const char *plugin(const char *name)
{
    static char path[4][512]; /* of the latest calls */
    static unsigned turn;
    const char *program = getenv("LARDER"), *slash = program ? strrchr(program, '/') : NULL;
    char *p = path[turn++ % 4];
    (void)snprintf(p, sizeof path[0], "%.*s/plugin_%s.so", slash ? (int)(slash - program) : 1,
                   slash ? program : ".", name);
    return p;
}

static void a_policy_of_ones_own_serves(void **state)
{
    static char body[2048], text[400];
    static const char yaml[] = "model: [%s]\nplugin: [%s, %s]\nengine:\n  threads: 1\n  kv-policy: "
                               "pyramid+mine:window=4\n  kv-budget: 64\n  context: %d\n";
    (void)state;
    memset(text, 'z', sizeof text - 1);
    (void)snprintf(body, sizeof body, NANO("\"max_tokens\":9,", "%s"), text);
    struct gw *g = gw_config(NULL, yaml, nano, plugin("mine"), plugin("services"), 500);
    struct resp r = post(g->port, CHAT, body);
    if (r.status != 200)
        fail_msg("%s", r.body);
    resp_free(&r);
    gw_write_config(g, "model: [%s]\nplugin: [%s]\nengine:\n  threads: 1\n  kv-policy: "
                       "pyramid+mine:window=4\n  kv-budget: 64\n  context: 500\n", nano, plugin("mine"));
    assert_int_equal(kill(g->pid, SIGHUP), 0);
    EVENTUALLY(gw_said(g, "needs_restart=plugin")); /* code is not taken out of a running server */
    assert_int_equal(status_of(g, "cache-control: no-cache\r\n", body), 200);
    done(g);
}

static void a_bad_plugin_is_one_error_before_any_work(void **state)
{
    const struct {
        const char *first, *second, *says;
    } all[] = {
        {"./no-such-file.so", NULL, "no-such-file.so"},
        {"libm.so.6", NULL, "has a '/'"},
        {nano, NULL, "nano.gguf"}, /* no shared object */
        {plugin("alien"), NULL, "made for ABI"},
        {plugin("mine"), plugin("mine"), "there is one of that name"},
    };
    char out[4096], data[64];
    (void)state;
    (void)snprintf(data, sizeof data, "%s/never-made", dir);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int doctor = 0; doctor < 2; doctor++) {
            const char *args[14] = {doctor ? "doctor" : "serve", "--data", data, "--listen",
                                    "nowhere:0", "--model", nano, "--plugin", all[i].first};
            if (all[i].second) {
                args[9] = "--plugin";
                args[10] = all[i].second;
            }
            assert_int_equal(larder(out, sizeof out, args), 1);
            if (!strstr(out, all[i].says) || !strstr(out, all[i].first))
                fail_msg("no '%s' in %s", all[i].says, out);
            assert_true(doctor || count(out, "\n") == 1);
            assert_int_equal(access(data, F_OK), -1);
        }
}

/* ---- the end ---- */

static void a_stop_lets_replies_end(void **state)
{
    struct gw *g = serve(nano, (const char *const[]){"--http-drain", "60s", NULL});
    struct asker a;
    (void)state;
    ask_begin(&a, g, CHAT, NANO(ENDLESS "\"stream\":true,\"max_tokens\":450,", "long"));
    EVENTUALLY(metric_is(g, "larder_requests_total{cache=\"miss\"} 1"));
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    ask_end(&a);
    has(&a.r, "data: [DONE]");
    resp_free(&a.r);
    gw_free(g);
}

static void a_stop_ends_what_nobody_reads(void **state)
{
    struct gw *g = serve(nano, (const char *const[]){"--http-drain", "0", "--engine-parallel", "1",
                                                     NULL});
    (void)state;
    int fd = hold_the_place(g);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    close(fd);
    gw_free(g);
}

static int setup(void **state)
{
    char sub[64];
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    make_model(nano, "nano.gguf", "1");
    make_model(second, "second.gguf", "2");
    (void)snprintf(sub, sizeof sub, "mkdir %s/o", dir);
    if (system(sub))
        return -1;
    make_model(other, "o/nano.gguf", "3");
    return 0;
}

static int teardown(void **state)
{
    char remove[64];
    (void)state;
    (void)snprintf(remove, sizeof remove, "rm -rf %s", dir);
    return system(remove);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dialect_is_answered_whole_and_streamed),
        cmocka_unit_test(a_seed_gives_the_same_reply_again),
        cmocka_unit_test(several_choices_and_prompts_are_numbered),
        cmocka_unit_test(vectors_have_length_one),
        cmocka_unit_test(a_schema_is_obeyed),
        cmocka_unit_test(what_it_cannot_do_is_refused),
        cmocka_unit_test(a_prompt_longer_than_the_context_is_refused),
        cmocka_unit_test(equal_questions_share_a_reply_and_a_hang_up_ends_one),
        cmocka_unit_test(a_full_queue_says_when_to_come_back),
        cmocka_unit_test(two_models_and_an_alias_answer_to_their_names),
        cmocka_unit_test(a_local_name_wins_over_an_upstream_that_takes_all),
        cmocka_unit_test(the_model_here_answers_when_upstreams_fail),
        cmocka_unit_test(upstreams_answer_what_the_model_here_cannot),
        cmocka_unit_test(an_answer_that_has_begun_is_nobody_elses),
        cmocka_unit_test(another_file_under_the_old_name_is_another_model),
        cmocka_unit_test(a_budget_caps_a_conversation),
        cmocka_unit_test(the_next_turn_finds_the_last_one_computed),
        cmocka_unit_test(a_model_that_does_not_fit_is_refused_with_numbers),
        cmocka_unit_test(a_policy_of_ones_own_serves),
        cmocka_unit_test(a_bad_plugin_is_one_error_before_any_work),
        cmocka_unit_test(a_stop_lets_replies_end),
        cmocka_unit_test(a_stop_ends_what_nobody_reads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
