/* SPDX-License-Identifier: Apache-2.0
 * api/test_dialects.c - one answer told in every dialect, streamed or whole, first hand or from the
 * shelf.
 */
#include "kit.h"

#define OPENAI_HEAD                                                                                \
    "{\"id\":\"chatcmpl-up\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m-up\","     \
    "\"choices\":[{\"index\":0,"
#define OPENAI_TAIL                                                                                \
    "}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16}}"
#define JSON_TYPE "content-type: application/json\r\n"

#define CHUNK(rest)                                                                                \
    "data: "                                                                                       \
    "{\"id\":\"chatcmpl-up\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m-"    \
    "up\",\"choices\":[" rest "]"
#define DELTA(delta, fin)                                                                          \
    CHUNK("{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" fin "}") "}\n\n"

static void stream_tools(struct up_conn *c)
{
    up_begin(c, 200, "content-type: text/event-stream\r\n");
    up_chunk(c, DELTA("\"role\":\"assistant\",\"content\":null", "null"));
    up_chunk(c, DELTA("\"reasoning_content\":\"let me \"", "null"));
    up_chunk(c, DELTA("\"reasoning_content\":\"think\"", "null"));
    up_chunk(c, DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"call_up1\",\"type\":\"function\","
                      "\"function\":{\"name\":\"look\",\"arguments\":\"\"}}]",
                      "null"));
    up_chunk(
        c, DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"where\\\":\"}}]",
                 "null"));
    up_chunk(c,
             DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"here\\\"}\"}}]",
                   "null"));
    up_chunk(c, DELTA("\"tool_calls\":[{\"index\":1,\"id\":\"call_up2\",\"type\":\"function\","
                      "\"function\":{\"name\":\"see\",\"arguments\":\"{}\"}}]",
                      "null"));
    up_chunk(c, DELTA("", "\"tool_calls\""));
    up_chunk(c, CHUNK("") ",\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_"
                          "tokens\":16}}\n\n");
    up_chunk(c, "data: [DONE]\n\n");
    up_end(c);
}

/* Odd answers by what the question says. */
static void up_rich(struct up_conn *c, const struct up_req *q)
{
    if (strstr(q->body, "use tools"))
        stream_tools(c);
    else if (strstr(q->body, "see the page"))
        up_reply(c, 404, "content-type: text/html\r\n", "<html>no such thing</html>");
    else if (strstr(q->body, "say more"))
        up_reply(c, 200, JSON_TYPE,
                 OPENAI_HEAD "\"message\":{\"role\":\"assistant\",\"content\":\"hello\","
                             "\"annotations\":[{\"url\":\"u\"}]},"
                             "\"finish_reason\":\"stop\"" OPENAI_TAIL);
    else if (strstr(q->body, "refuse"))
        up_reply(c, 200, JSON_TYPE,
                 OPENAI_HEAD
                 "\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":\"I will not\"},"
                 "\"finish_reason\":\"stop\"" OPENAI_TAIL);
    else if (strstr(q->body, "how likely"))
        up_reply(c, 200, JSON_TYPE,
                 OPENAI_HEAD "\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"logprobs\":"
                             "{\"content\":[{\"token\":\"hi\","
                             "\"logprob\":-0.25,\"bytes\":[104,105],\"top_logprobs\":[]}],"
                             "\"refusal\":null},\"finish_reason\":\"stop\"" OPENAI_TAIL);
    else if (strstr(q->path, "/chat/") || strstr(q->path, "/messages") || strstr(q->path, "/embed"))
        up_llm(c, q);
    else if (strstr(q->path, "/responses") && !strstr(q->body, "bypass"))
        up_reply(c, 200, JSON_TYPE,
                 "{\"id\":\"resp_up\",\"object\":\"response\",\"created_at\":1,\"status\":"
                 "\"completed\",\"model\":\"m-up\",\"output\":["
                 "{\"type\":\"message\",\"id\":\"msg_up\",\"status\":\"completed\",\"role\":"
                 "\"assistant\",\"content\":[{\"type\":\"output_text\","
                 "\"text\":\"hello from "
                 "responses\",\"annotations\":[]}]}],\"usage\":{\"input_tokens\":11,\"output_"
                 "tokens\":5,\"total_tokens\":16}}");
    else if (strstr(q->path, "/completions"))
        up_reply(c, 200, JSON_TYPE,
                 "{\"id\":\"cmpl-up\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m-"
                 "up\",\"choices\":[{\"index\":0,"
                 "\"text\":\" upon a time\",\"logprobs\":{\"tokens\":[\" "
                 "upon\"],\"token_logprobs\":[-0.5],\"top_logprobs\":null,\"text_offset\":[0]},"
                 "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":2,\"completion_"
                 "tokens\":3,\"total_tokens\":5}}");
    else
        up_reply(c, 200, "content-type: text/plain\r\n", q->body);
}

static int start(void **state)
{
    (void)state;
    return set_up(up_rich, NULL);
}

/* What is there serves this request: the very first time. */
static struct resp must_hit(struct gw *g, const char *path, const char *body)
{
    struct resp r = post(g->port, path, body);
    if (strcmp(header(&r, "x-larder-cache"), "hit") != 0)
        fail_msg("%s %s: %s", header(&r, "x-larder-cache"), strstr(r.head, "x-larder-reason"),
                 body);
    return r;
}

/* It says all of these; frees it. */
#define SAYS(r, ...) says(r, (const char *const[]){__VA_ARGS__, NULL})
static void says(struct resp r, const char *const *what)
{
    for (; *what; what++)
        has(&r, *what);
    resp_free(&r);
}

/* ---- event order ---- */

static void assert_chat_stream(const struct resp *r, bool usage)
{
    const char *role = strstr(r->body, "\"role\":\"assistant\""),
               *end = strstr(r->body, "data: [DONE]\n\n");
    assert_non_null(role);
    assert_non_null(end);
    assert_string_equal(end, "data: [DONE]\n\n");
    assert_int_equal(count(r->body, "\"finish_reason\":\""), 1);
    assert_int_equal(count(r->body, "\"prompt_tokens\""), usage ? 1 : 0);
    if (usage)
        assert_true(strstr(r->body, "\"prompt_tokens\"") > strstr(r->body, "\"finish_reason\":\""));
}

/* Names of events, in order, must match the pattern: a list of names; "*" before a name: any number
 * of it. */
static void assert_events(const struct resp *r, const char *const *names)
{
    const char *p = r->body;
    size_t at = 0;
    while ((p = strstr(p, "event: "))) {
        char name[64];
        assert_int_equal(sscanf(p, "event: %63s", name), 1);
        p += 7;
        char type[96]; /* the data say the same */
        snprintf(type, sizeof type, "data: {\"type\":\"%s\"", name);
        assert_true(strncmp(strchr(p, '\n') + 1, type, strlen(type)) == 0);
        size_t k = at;
        while (names[k] && names[k][0] == '*' && strcmp(names[k] + 1, name) != 0)
            k++;
        at = k;
        if (names[at] && names[at][0] == '*')
            continue;
        if (!names[at] || strcmp(names[at], name) != 0)
            fail_msg("event %s where %s was due:\n%s", name, names[at] ? names[at] : "the end",
                     r->body);
        at++;
    }
    while (names[at] && names[at][0] == '*')
        at++;
    if (names[at])
        fail_msg("%s never came", names[at]);
}

static const char *const messages_text[] = {
    "message_start",      "content_block_start", "*ping",        "*content_block_delta",
    "content_block_stop", "message_delta",       "message_stop", NULL};
static const char *const responses_text[] = {"response.created",
                                             "response.in_progress",
                                             "response.output_item.added",
                                             "response.content_part.added",
                                             "*response.output_text.delta",
                                             "response.output_text.done",
                                             "response.content_part.done",
                                             "response.output_item.done",
                                             "response.completed",
                                             NULL};

static void assert_sequence(const struct resp *r)
{
    unsigned n = 0;
    for (const char *p = r->body; (p = strstr(p, "\"sequence_number\":")); p++)
        assert_int_equal(strtoul(p + 18, NULL, 10), n++);
    assert_true(n > 3);
}

static void one_stored_answer_serves_every_dialect_streamed_or_whole(void **state)
{
    (void)state;
    struct resp r =
        until_hit(gw, CHAT, KEY,
                  "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"be "
                  "brief\"},{\"role\":\"user\",\"content\":\"told thrice\"}]}");
    assert_string_equal(json_at(r.body, "object"), "chat.completion");
    resp_free(&r);
    int n = up_count(up);
    r = must_hit(gw, CHAT,
                 "{\"stream\":true,\"stream_options\":{\"include_usage\":true},\"model\":\"m\","
                 "\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},"
                 "{\"role\":\"user\",\"content\":\"told thrice\"}]}");
    assert_chat_stream(&r, true);
    resp_free(&r);
    r = must_hit(gw, CHAT,
                 "{\"stream\":true,\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":"
                 "\"be brief\"},{\"role\":\"user\",\"content\":\"told thrice\"}]}");
    assert_chat_stream(&r, false);
    resp_free(&r);
    r = must_hit(gw, MESSAGES, WITH("\"max_tokens\":100,\"system\":\"be brief\"", "told thrice"));
    has(&r, "\"type\":\"message\"");
    has(&r, "{\"type\":\"text\",\"text\":\"hello from upstream\"");
    has(&r, "\"input_tokens\":11");
    assert_memory_equal(json_at(r.body, "id"), "msg_", 4);
    resp_free(&r);
    r = must_hit(gw, MESSAGES,
                 "{\"stream\":true,\"model\":\"m\",\"max_tokens\":100,\"system\":\"be "
                 "brief\",\"messages\":[{\"role\":\"user\",\"content\":\"told thrice\"}]}");
    assert_events(&r, messages_text);
    has(&r, "\"stop_reason\":\"end_turn\"");
    has(&r, "\"output_tokens\":5");
    assert_string_equal(json_at(r.body, "input_tokens"), "11"); /* in message_start already */
    resp_free(&r);
    r = must_hit(gw, RESPONSES,
                 "{\"model\":\"m\",\"instructions\":\"be brief\",\"input\":\"told thrice\"}");
    assert_string_equal(json_at(r.body, "object"), "response");
    assert_string_equal(json_at(r.body, "status"), "completed");
    assert_memory_equal(json_at(r.body, "id"), "resp_", 5);
    has(&r, "\"instructions\":\"be brief\"");
    has(&r, "\"text\":\"hello from upstream\"");
    has(&r, "\"total_tokens\":16");
    resp_free(&r);
    r = must_hit(gw, RESPONSES,
                 "{\"stream\":true,\"model\":\"m\",\"instructions\":\"be "
                 "brief\",\"input\":[{\"role\":\"user\",\"content\":\"told thrice\"}]}");
    assert_events(&r, responses_text);
    assert_sequence(&r);
    resp_free(&r);
    assert_int_equal(up_count(up), n);
}

static void answers_of_responses_serve_the_others(void **state)
{
    (void)state;
    SAYS(until_hit(gw, RESPONSES, KEY, "{\"model\":\"m\",\"input\":\"other way\"}"),
         "hello from responses");
    struct resp r = must_hit(gw, CHAT, ASK("other way"));
    assert_string_equal(json_at(r.body, "content"), "hello from responses");
    resp_free(&r);
    SAYS(
        must_hit(gw, MESSAGES,
                 "{\"model\":\"m\",\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":["
                 "{\"type\":\"text\",\"text\":\"other way\"}]}]}"),
        "hello from responses");
}

static void what_one_dialect_alone_can_say_stays_in_it(void **state)
{
    (void)state;
    SAYS(until_hit(gw, CHAT, KEY, ASK("say more")), "\"annotations\":[{\"url\":\"u\"}]");
    struct resp r =
        http(gw->port, "POST", MESSAGES, KEY ONLY_CACHED, WITH("\"max_tokens\":50", "say more"));
    assert_int_equal(r.status, 504);
    assert_string_equal(header(&r, "x-larder-reason"), "dialect");
    resp_free(&r);
}

static void tools_and_reasoning_survive_in_every_form(void **state)
{
    (void)state;
    struct resp r = post(gw->port, CHAT, STREAM("use tools"));
    assert_chat_stream(&r, false);
    has(&r, "call_up1"); /* first hand: the upstream's ids */
    resp_free(&r);
    r = until_hit(gw, CHAT, KEY, ASK("use tools"));
    has(&r, "\"reasoning_content\":\"let me think\"");
    has(&r, "\"arguments\":\"{\\\"where\\\":\\\"here\\\"}\"");
    has(&r, "\"finish_reason\":\"tool_calls\"");
    assert_null(strstr(r.body, "call_up")); /* replayed: fresh ones */
    assert_int_equal(count(r.body, "\"type\":\"function\""), 2);
    char first[64], second[64];
    assert_int_equal(sscanf(strstr(r.body, "\"id\":\"call_"), "\"id\":\"%63[^\"]", first), 1);
    assert_int_equal(sscanf(strstr(strstr(r.body, "\"id\":\"call_") + 5, "\"id\":\"call_"),
                            "\"id\":\"%63[^\"]", second),
                     1);
    assert_string_not_equal(first, second);
    resp_free(&r);
    r = must_hit(gw, CHAT, ASK("use tools"));
    assert_null(strstr(r.body, first));
    resp_free(&r);
    SAYS(must_hit(gw, MESSAGES, WITH("\"max_tokens\":50", "use tools")),
         "\"type\":\"thinking\",\"thinking\":\"let me think\"", "\"type\":\"tool_use\"",
         "\"input\":{\"where\":\"here\"}", "\"stop_reason\":\"tool_use\"");
    r = must_hit(gw, MESSAGES, WITH("\"stream\":true,\"max_tokens\":50", "use tools"));
    static const char *const order[] = {"message_start",
                                        "content_block_start",
                                        "*content_block_delta",
                                        "content_block_stop",
                                        "content_block_start",
                                        "*content_block_delta",
                                        "content_block_stop",
                                        "content_block_start",
                                        "*content_block_delta",
                                        "content_block_stop",
                                        "message_delta",
                                        "message_stop",
                                        NULL};
    assert_events(&r, order);
    has(&r, "input_json_delta");
    resp_free(&r);
    SAYS(must_hit(gw, RESPONSES, "{\"model\":\"m\",\"input\":\"use tools\"}"),
         "\"type\":\"function_call\"", "\"name\":\"look\"", "let me think");
    r = must_hit(gw, RESPONSES, "{\"model\":\"m\",\"stream\":true,\"input\":\"use tools\"}");
    assert_sequence(&r);
    has(&r, "response.function_call_arguments.done");
    resp_free(&r);
}

static void refusals_and_log_probabilities_are_replayed(void **state)
{
    (void)state;
    SAYS(until_hit(gw, CHAT, KEY, ASK("refuse")), "\"refusal\":\"I will not\"");
    SAYS(must_hit(gw, CHAT, STREAM("refuse")), "\"refusal\":\"I will not\"");
    const char *likely = WITH("\"logprobs\":true", "how likely");
    SAYS(until_hit(gw, CHAT, KEY, likely), "\"logprob\":-0.25");
    SAYS(must_hit(gw, CHAT, WITH("\"stream\":true,\"logprobs\":true", "how likely")),
         "\"logprob\":-0.25");
    struct resp r =
        post(gw->port, CHAT, ASK("how likely")); /* without log probabilities: another question */
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    resp_free(&r);
}

static void completions_are_stored_and_replayed(void **state)
{
    (void)state;
    struct resp r = until_hit(gw, "/v1/completions", KEY,
                              "{\"model\":\"m\",\"prompt\":\"once\",\"max_tokens\":16}");
    assert_string_equal(json_at(r.body, "object"), "text_completion");
    has(&r, "\"text\":\" upon a time\"");
    has(&r, "\"token_logprobs\":[-0.5]");
    assert_memory_equal(json_at(r.body, "id"), "cmpl-", 5);
    resp_free(&r);
    SAYS(must_hit(gw, "/v1/completions",
                  "{\"model\":\"m\",\"prompt\":\"once\",\"stream\":true,\"max_tokens\":16}"),
         " upon a time", "data: [DONE]\n\n");
    r = post(gw->port, "/v1/completions", "{\"model\":\"m\",\"prompt\":\"twice\"}");
    assert_string_equal(header(&r, "x-larder-cache"), "miss");
    resp_free(&r);
}

/* ---- an upstream of the other manner ---- */

static void an_anthropic_upstream_serves_openai_clients(void **state)
{
    (void)state;
    struct gw *g = gw_config(
        NULL, "upstreams:\n- {url: 'http://127.0.0.1:%d', dialect: anthropic}\n", up->port);
    struct resp r = post(
        g->port, CHAT,
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":"
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(r.status, 200);
    assert_chat_stream(&r, true);
    has(&r, "hello from upstream");
    assert_non_null(strstr(up_last_head(up), "POST /v1/messages HTTP"));
    assert_non_null(strstr(up_last_body(up), "\"max_tokens\":"));
    assert_non_null(strstr(up_last_body(up), "\"system\":"));
    resp_free(&r);
    r = post(g->port, RESPONSES, "{\"model\":\"m\",\"stream\":true,\"input\":\"hi\"}");
    assert_int_equal(r.status, 200);
    assert_events(&r, responses_text);
    assert_sequence(&r);
    resp_free(&r);
    r = post(g->port, CHAT, WITH("\"logit_bias\":{\"1\":1}", "hi"));
    assert_int_equal(r.status, 400);
    has(&r, "logit_bias");
    assert_string_equal(json_at(r.body, "code"), "unsupported");
    resp_free(&r);
    r = post(g->port, "/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}");
    assert_int_equal(r.status, 400);
    resp_free(&r);
    done(g);
    r = post(
        gw->port, MESSAGES,
        WITH("\"max_tokens\":10,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}", "hi"));
    assert_int_equal(r.status, 400);
    has(&r, "thinking");
    has(&r, "\"type\":\"error\"");
    resp_free(&r);
    r = post(gw->port, MESSAGES,
             WITH("\"max_tokens\":10,\"metadata\":{\"user_id\":\"u\",\"x\":\"y\"},\"system\":[{"
                  "\"type\":\"text\",\"text\":\"s\",\"cache_control\":{\"type\":\"ephemeral\"}}],"
                  "\"service_tier\":\"auto\"",
                  "dropped"));
    assert_int_equal(r.status, 200);
    assert_true(strlen(header(&r, "x-larder-dropped")) > 0); /* said, not silently lost */
    resp_free(&r);
}

/* ---- what we do not understand ---- */

static void requests_with_state_elsewhere_pass_through_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body, *why;
    } cases[] = {
        {RESPONSES,
         "{\"model\":\"m\",\"bypass\":1, \"input\":\"x\",\"previous_response_id\":\"resp_1\"}",
         "previous-response"},
        {RESPONSES, "{\"model\":\"m\",\"bypass\":1, \"input\":\"x\",\"conversation\":\"conv_1\"}",
         "conversation"},
        {RESPONSES, "{\"model\":\"m\",\"bypass\":1, \"input\":\"x\",\"background\":true}",
         "background"},
        {RESPONSES, "{\"bypass\":1, \"prompt\":{\"id\":\"pmpt_1\"}}", "stored-prompt"},
        {RESPONSES,
         "{\"model\":\"m\",\"bypass\":1, \"input\":\"x\",\"tools\":[{\"type\":\"web_search\"}]}",
         "hosted-tool"},
        {RESPONSES,
         "{\"model\":\"m\",\"bypass\":1, "
         "\"input\":\"x\",\"tools\":[{\"type\":\"mcp\",\"server_label\":\"l\",\"server_url\":\"u\"}"
         "]}",
         "mcp"},
        {RESPONSES,
         "{\"model\":\"m\",\"bypass\":1, "
         "\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_id\":\"file-"
         "1\"}]}]}",
         "file-id"},
        {RESPONSES,
         "{\"model\":\"m\",\"bypass\":1, "
         "\"input\":[{\"type\":\"item_reference\",\"id\":\"msg_1\"}]}",
         "item-reference"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resp r = post(gw->port, cases[i].path, cases[i].body);
        assert_int_equal(r.status, 200);
        if (strcmp(header(&r, "x-larder-cache"), "bypass") ||
            strcmp(header(&r, "x-larder-reason"), cases[i].why))
            fail_msg("%s instead of bypass %s", header(&r, "x-larder-reason"), cases[i].why);
        assert_string_equal(r.body, cases[i].body);
        resp_free(&r);
    }
}

/* ---- errors ---- */

static void errors_have_the_clients_shape_a_code_and_the_request_id(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
        int status;
    } cases[] = {
        {CHAT, "{\"model\":\"m\"", 400},
        {CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":3}]}", 400},
        {"/v1/completions", "{\"model\":\"m\",\"prompt\":3}", 400},
        {"/v1/embeddings", "{\"model\":\"m\"}", 400},
        {RESPONSES, "{\"model\":\"m\",\"input\":3}", 400},
        {MESSAGES, "{\"model\":\"m\",\"max_tokens\":\"x\",\"messages\":[]}", 400},
        {MESSAGES,
         "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"nobody\",\"content\":\"\"}]}",
         400},
        {MESSAGES, "[", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resp r = post(gw->port, cases[i].path, cases[i].body);
        assert_int_equal(r.status, cases[i].status);
        char id[64];
        snprintf(id, sizeof id, "%s", header(&r, "x-larder-request-id"));
        assert_int_equal(strlen(id), 24);
        has(&r, id);
        if (strcmp(cases[i].path, MESSAGES) == 0) {
            assert_memory_equal(r.body, "{\"type\":\"error\",\"error\":{", 25);
            assert_non_null(strstr(r.body, "\"request_id\""));
        } else {
            assert_memory_equal(r.body, "{\"error\":{", 10);
            assert_true(strcmp(json_at(r.body, "code"), "invalid_request") == 0 ||
                        strcmp(json_at(r.body, "code"), "invalid_json") == 0);
        }
        resp_free(&r);
    }
}

static void an_upstreams_refusal_is_told_in_the_clients_words(void **state)
{
    (void)state;
    struct resp r = post(gw->port, MESSAGES, WITH("\"max_tokens\":5", "fail400"));
    assert_int_equal(r.status, 400);
    assert_memory_equal(r.body, "{\"type\":\"error\",\"error\":{", 25);
    has(&r, "bad thing");
    assert_string_equal(header(&r, "x-larder-reason"), "bad");
    resp_free(&r);
    r = post(gw->port, MESSAGES, WITH("\"max_tokens\":5,\"stream\":true", "fail429"));
    assert_int_equal(r.status, 429);
    assert_string_equal(header(&r, "retry-after"), "7");
    has(&r, "rate_limit_error");
    resp_free(&r);
    r = post(gw->port, CHAT, ASK("see the page")); /* a page of some proxy in between */
    assert_int_equal(r.status, 404);
    assert_memory_equal(r.body, "{\"error\":{", 10);
    assert_null(strstr(r.body, "<html>"));
    resp_free(&r);
    r = post(gw->port, MESSAGES, WITH("\"max_tokens\":50,\"stream\":true", "cutoff"));
    assert_int_equal(r.status, 200);
    has(&r, "event: error\n");
    assert_null(strstr(r.body, "message_stop"));
    resp_free(&r);
    r = post(gw->port, RESPONSES, "{\"model\":\"m\",\"input\":\"see the page\"}");
    assert_int_equal(r.status, 404);
    assert_memory_equal(r.body, "{\"error\":{", 10);
    resp_free(&r);
}

/* ---- in flight ---- */

static void followers_of_every_dialect_share_one_flight(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
    } cases[] = {
        {CHAT, WITH("\"max_tokens\":64,\"stream\":true", "slow shared")},
        {CHAT, WITH("\"max_tokens\":64", "slow shared")},
        {MESSAGES, WITH("\"max_tokens\":64,\"stream\":true", "slow shared")},
        {MESSAGES, WITH("\"max_tokens\":64", "slow shared")},
        {RESPONSES, "{\"model\":\"m\",\"max_output_tokens\":64,\"stream\":true,"
                    "\"input\":\"slow shared\"}"},
        {RESPONSES, "{\"model\":\"m\",\"max_output_tokens\":64,\"input\":\"slow shared\"}"},
    };
    struct asker k[sizeof cases / sizeof cases[0]];
    int n = up_count(up);
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++) {
        ask_begin(&k[i], gw, cases[i].path, cases[i].body);
        if (i == 0)
            EVENTUALLY(up_count(up) == n + 1);
    }
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++) {
        ask_end(&k[i]);
        assert_string_equal(header(&k[i].r, "x-larder-cache"), i ? "coalesced" : "miss");
    }
    assert_int_equal(up_count(up), n + 1);
    assert_chat_stream(&k[0].r, false);
    assert_string_equal(json_at(k[1].r.body, "content"), "hello from upstream");
    assert_events(&k[2].r, messages_text);
    has(&k[3].r, "\"text\":\"hello from upstream\"");
    assert_events(&k[4].r, responses_text);
    has(&k[5].r, "\"text\":\"hello from upstream\"");
    for (size_t i = 0; i < sizeof k / sizeof k[0]; i++)
        resp_free(&k[i].r);
}

static void a_follower_keeps_going_when_the_leader_hangs_up(void **state)
{
    (void)state;
    struct asker k;
    const char *body = STREAM("slow leader leaves");
    char req[1024];
    int n = up_count(up), aborted = up_aborted(up), fd = dial(gw->port);
    int len = snprintf(req, sizeof req,
                       "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\n" KEY
                       "content-length: %zu\r\n\r\n%s",
                       strlen(body), body);
    send_all(fd, req, (size_t)len);
    EVENTUALLY(up_count(up) == n + 1);
    ask_begin(&k, gw, CHAT, ASK("slow leader leaves"));
    sleep_ms(100);
    close(fd);
    ask_end(&k);
    assert_string_equal(header(&k.r, "x-larder-cache"), "coalesced");
    assert_string_equal(json_at(k.r.body, "content"), "hello from upstream");
    assert_int_equal(up_aborted(up), aborted);
    assert_int_equal(up_count(up), n + 1);
    resp_free(&k.r);
    until_stored(gw, ASK("slow leader leaves")); /* a moment after the answer */
    assert_int_equal(up_count(up), n + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stored_answer_serves_every_dialect_streamed_or_whole),
        cmocka_unit_test(answers_of_responses_serve_the_others),
        cmocka_unit_test(what_one_dialect_alone_can_say_stays_in_it),
        cmocka_unit_test(tools_and_reasoning_survive_in_every_form),
        cmocka_unit_test(refusals_and_log_probabilities_are_replayed),
        cmocka_unit_test(completions_are_stored_and_replayed),
        cmocka_unit_test(an_anthropic_upstream_serves_openai_clients),
        cmocka_unit_test(requests_with_state_elsewhere_pass_through_with_a_reason),
        cmocka_unit_test(errors_have_the_clients_shape_a_code_and_the_request_id),
        cmocka_unit_test(an_upstreams_refusal_is_told_in_the_clients_words),
        cmocka_unit_test(followers_of_every_dialect_share_one_flight),
        cmocka_unit_test(a_follower_keeps_going_when_the_leader_hangs_up),
    };
    return cmocka_run_group_tests(tests, start, tear_down);
}
