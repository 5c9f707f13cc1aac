/* SPDX-License-Identifier: Apache-2.0
 * Laws of translation between Chat, Messages and Responses: requests and answers, both ways.
 */
#include "translate_kit.h"

#define CHAT      LR_DIALECT_CHAT
#define MESSAGES  LR_DIALECT_MESSAGES
#define RESPONSES LR_DIALECT_RESPONSES

/* ---- answers ----------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    enum lr_dialect_id of;
} answers[] = {
    {"translate-text.chat", CHAT},      {"translate-tools.chat", CHAT},
    {"translate-forced.chat", CHAT},    {"translate-refusal.chat", CHAT},
    {"translate-thinking.chat", CHAT},  {"translate-two.chat", CHAT},
    {"messages-text", MESSAGES},        {"messages-thinking", MESSAGES},
    {"messages-tools", MESSAGES},       {"messages-stopped", MESSAGES},
    {"messages-hosted", MESSAGES},      {"messages-refusal", MESSAGES},
    {"messages-error", MESSAGES},       {"responses-text", RESPONSES},
    {"responses-reasoning", RESPONSES}, {"responses-tools", RESPONSES},
    {"responses-refusal", RESPONSES},   {"responses-cut", RESPONSES},
    {"responses-hosted", RESPONSES},    {"responses-failed", RESPONSES},
};

static void golden_answers_in_the_other_dialects(void **state)
{
    (void)state;
    static const enum lr_dialect_id to[] = {CHAT, MESSAGES, RESPONSES};
    for (size_t i = 0; i < LR_COUNT(answers); i++) {
        struct lr_buf log, out;
        char file[128];
        lr_buf_init(&log, MAX);
        lr_buf_init(&out, MAX);
        decode_file(answers[i].of, answers[i].name, true, 0, &log);
        for (size_t k = 0; k < 2 * LR_COUNT(to); k++) {
            enum lr_dialect_id d = to[k / 2];
            if (d == answers[i].of)
                continue;
            bool stream = k & 1;
            lr_buf_reset(&out);
            assert_int_equal(encode(d, stream, false, lr_buf_str(&log), &out), 0);
            (void)snprintf(file, sizeof file, "%s.to-%s.%s", answers[i].name, lr_dialect_name(d),
                           stream ? "sse" : "json");
            same_as_golden(file, lr_buf_str(&out));
        }
        lr_buf_free(&log);
        lr_buf_free(&out);
    }
}

/* The text of all parts of one type, and the tool calls, of a log. */
static void substance(struct lr_str log, struct lr_buf *out)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.choice || (ev.type != LR_EV_PART && ev.type != LR_EV_DELTA))
            continue;
        if (ev.type == LR_EV_PART)
            lr_buf_addf(out, "\n%s ",
                        ev.sub == LR_PART_TOOL_CALL   ? "call"
                        : ev.sub == LR_PART_REASONING ? "reasoning"
                                                      : "text");
        if (ev.type == LR_EV_PART && ev.sub == LR_PART_TOOL_CALL)
            lr_buf_adds(out, ev.b);
        if (ev.type == LR_EV_DELTA)
            lr_buf_adds(out, ev.a);
    }
    assert_int_equal(rc, 0);
}

static void translated_answers_say_the_same(void **state)
{
    (void)state;
    static const char *const plain[] = {"translate-text.chat", "translate-tools.chat",
                                        "translate-refusal.chat", "translate-thinking.chat"};
    static const enum lr_dialect_id to[] = {MESSAGES, RESPONSES};
    for (size_t i = 0; i < LR_COUNT(plain); i++) {
        struct lr_buf log, want;
        lr_buf_init(&log, MAX);
        lr_buf_init(&want, MAX);
        decode_file(CHAT, plain[i], true, 0, &log);
        substance(lr_buf_str(&log), &want);
        for (size_t k = 0; k < 4; k++) {
            struct lr_buf bytes, again, got;
            struct lr_err err = {0};
            lr_buf_init(&bytes, MAX);
            lr_buf_init(&again, MAX);
            lr_buf_init(&got, MAX);
            assert_int_equal(encode(to[k / 2], k & 1, false, lr_buf_str(&log), &bytes), 0);
            assert_int_equal(codec_decode(to[k / 2], k & 1, lr_buf_str(&bytes), 7, &again, &err),
                             0);
            substance(lr_buf_str(&again), &got);
            if (!lr_str_eq(lr_buf_str(&want), lr_buf_str(&got)))
                fail_msg("%s:%.*s\nagainst%.*s", plain[i], LR_FMT(lr_buf_str(&want)),
                         LR_FMT(lr_buf_str(&got)));
            lr_buf_free(&bytes);
            lr_buf_free(&again);
            lr_buf_free(&got);
        }
        lr_buf_free(&log);
        lr_buf_free(&want);
    }
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static void golden_requests_in_the_other_dialects(void **state)
{
    (void)state;
    static const enum lr_dialect_id all[] = {CHAT, MESSAGES, RESPONSES};
    for (size_t i = 0; i < 9; i++) {
        enum lr_dialect_id from = all[i / 3], to = all[i % 3];
        char file[128];
        struct lr_buf in, out, dropped;
        if (from == to)
            continue;
        lr_buf_init(&in, MAX);
        lr_buf_init(&out, MAX);
        lr_buf_init(&dropped, MAX);
        (void)snprintf(file, sizeof file, "translate-request.%s.json", lr_dialect_name(from));
        load(file, &in);
        int rc = translate(from, to, lr_buf_str(&in), &out, &dropped);
        if (rc)
            fail_msg("%s to %s: %.*s", file, lr_dialect_name(to), LR_FMT(lr_buf_str(&out)));
        lr_buf_addz(&out, "\ndropped: ");
        lr_buf_adds(&out, lr_buf_str(&dropped));
        lr_buf_addc(&out, '\n');
        (void)snprintf(file, sizeof file, "translate-request.%s.to-%s.txt", lr_dialect_name(from),
                       lr_dialect_name(to));
        same_as_golden(file, lr_buf_str(&out));
        lr_buf_free(&in);
        lr_buf_free(&out);
        lr_buf_free(&dropped);
    }
}

static void refused(enum lr_dialect_id from, enum lr_dialect_id to, const char *body,
                    const char *want)
{
    struct lr_buf out, dropped;
    lr_buf_init(&out, MAX);
    lr_buf_init(&dropped, MAX);
    int rc = translate(from, to, lr_strz(body), &out, &dropped);
    assert_int_equal(lr_buf_addc(&out, 0), 0);
    if (rc != LR_EUNSUPPORTED || !strstr(out.p, want))
        fail_msg("wanted %s for %s, got %s", want, body, out.p);
    lr_buf_free(&out);
    lr_buf_free(&dropped);
}

#define HI       "{\"role\":\"user\",\"content\":\"hi\"}"
#define C(more)  "{\"model\":\"m\",\"messages\":[" HI "]," more "}"
#define CM(msgs) "{\"model\":\"m\",\"messages\":[" msgs "]}"
#define M(more)  "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[" HI "]," more "}"
#define MM(msgs) "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[" msgs "]}"
#define AUDIO                                                                                      \
    "{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AA=="   \
    "\","                                                                                          \
    "\"format\":\"wav\"}}]}"

static void what_messages_cannot_say_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {C("\"n\":2"), "at n:"},
        {C("\"temperature\":1.5"), "at temperature:"},
        {C("\"presence_penalty\":0.5"), "at presence_penalty:"},
        {C("\"frequency_penalty\":-1"), "at frequency_penalty:"},
        {C("\"seed\":7"), "at seed:"},
        {C("\"logit_bias\":{\"1\":2}"), "at logit_bias:"},
        {C("\"logprobs\":true"), "at logprobs:"},
        {C("\"top_logprobs\":2"), "at top_logprobs:"},
        {C("\"response_format\":{\"type\":\"json_object\"}"), "at response_format:"},
        {C("\"response_format\":{\"type\":\"grammar\"}"), "at response_format:"},
        {C("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\"}}"),
         "at response_format:"},
        {C("\"reasoning_effort\":\"minimal\""), "at reasoning_effort:"},
        {C("\"verbosity\":\"low\""), "at verbosity:"},
        {C("\"never_heard_of\":1"), "at never_heard_of:"},
        {C("\"web_search_options\":{}"), "at body: hosted-tool"},
        {C("\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"c\"}}]"), "at tools[0]:"},
        {C("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"odd\":1}}]"),
         "at tools[0].odd:"},
        {C("\"tool_choice\":{\"type\":\"allowed_tools\"}"), "at tool_choice:"},
        {CM(AUDIO), "at messages[0].content: audio"},
        {CM("{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"file_data\":"
            "\"data:text/csv;base64,AA==\"}}]}"),
         "at messages[0].content: a file that is no PDF"},
        {CM("{\"role\":\"user\",\"content\":[{\"type\":\"hologram\"}]}"),
         "at messages[0].content:"},
        {CM("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\",\"odd\":1}]}"),
         "at messages[0].content.odd:"},
        {CM("{\"role\":\"user\",\"name\":\"bob\",\"content\":\"x\"}"), "at messages[0].name:"},
        {CM("{\"role\":\"user\",\"odd\":1,\"content\":\"x\"}"), "at messages[0].odd:"},
        {CM("{\"role\":\"system\",\"odd\":1,\"content\":\"x\"}," HI), "at messages[0].odd:"},
        {CM("{\"role\":\"system\",\"content\":\"x\"}"), "at messages:"},
        {CM("{\"role\":\"system\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
            "\"https://x\"}}]}," HI),
         "at messages[0].content: a system message"},
        {CM(HI ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\",\"type\":\"function\","
               "\"function\":{\"name\":\"f\",\"arguments\":\"[1\"}}]}"),
         "at messages[1].tool_calls:"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++)
        refused(CHAT, MESSAGES, cases[i][0], cases[i][1]);
}

static void an_answer_without_any_limit_is_refused(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_request *r;
    struct lr_buf out, dropped;
    struct lr_err err = {0};
    lr_arena_init(&a, MAX);
    lr_buf_init(&out, MAX);
    lr_buf_init(&dropped, MAX);
    assert_int_equal(lr_request_parse(&a, CHAT, LR_STR(CM(HI)), &r, NULL), 0);
    assert_int_equal(lr_request_write(r, MESSAGES, LR_STR("m"), 0, &out, &dropped, &err),
                     LR_EUNSUPPORTED);
    assert_string_equal(err.where, "max_tokens");
    lr_arena_free(&a);
    lr_buf_free(&out);
    lr_buf_free(&dropped);
}

static void what_responses_cannot_say_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {C("\"n\":2"), "at n:"},
        {C("\"stop\":\"x\""), "at stop:"},
        {C("\"seed\":7"), "at seed:"},
        {C("\"top_k\":7"), "at top_k:"},
        {C("\"presence_penalty\":0.5"), "at presence_penalty:"},
        {C("\"frequency_penalty\":-1"), "at frequency_penalty:"},
        {C("\"logit_bias\":{\"1\":2}"), "at logit_bias:"},
        {C("\"response_format\":{\"type\":\"grammar\"}"), "at response_format:"},
        {C("\"never_heard_of\":1"), "at never_heard_of:"},
        {C("\"web_search_options\":{}"), "at body: hosted-tool"},
        {C("\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"c\"}}]"), "at tools:"},
        {C("\"tool_choice\":{\"type\":\"allowed_tools\"}"), "at tool_choice:"},
        {CM(AUDIO), "at messages[0].content: audio"},
        {CM("{\"role\":\"user\",\"content\":[{\"type\":\"hologram\"}]}"),
         "at messages[0].content:"},
        {CM("{\"role\":\"user\",\"name\":\"bob\",\"content\":\"x\"}"), "at messages[0].name:"},
        {CM("{\"role\":\"user\",\"odd\":1,\"content\":\"x\"}"), "at messages[0].odd:"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++)
        refused(CHAT, RESPONSES, cases[i][0], cases[i][1]);
    refused(
        MESSAGES, RESPONSES,
        MM("{\"role\":\"user\",\"content\":[{\"type\":\"document\",\"source\":{\"type\":\"text\","
           "\"media_type\":\"text/plain\",\"data\":\"x\"}}]}"),
        "a file as plain text");
    refused(MESSAGES, RESPONSES, M("\"thinking\":{\"type\":\"adaptive\"}"), "at thinking:");
}

static void messages_own_members_do_not_pass_into_chat(void **state)
{
    (void)state;
    refused(MESSAGES, CHAT, M("\"thinking\":{\"type\":\"adaptive\"}"), "thinking");
    refused(MESSAGES, CHAT, M("\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}]"),
            "tools");
    refused(MESSAGES, CHAT,
            MM("{\"role\":\"user\",\"content\":[{\"type\":\"search_result\",\"source\":\"s\"}]}"),
            "messages");
}

/* An image by id became one of no bytes. */
static void what_lies_elsewhere_is_translated_into_nothing(void **state)
{
    (void)state;
    const char *image = "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":"
                        "\"input_image\",\"file_id\":\"f\"}]}]}";
    refused(RESPONSES, CHAT, image, "at body: file-id");
    refused(RESPONSES, MESSAGES, image, "at body: file-id");
}

/* Zeros and defaults say nothing and do not stand in the way. */
static void members_that_say_nothing_are_left_out(void **state)
{
    (void)state;
    struct lr_buf out, dropped;
    lr_buf_init(&out, MAX);
    lr_buf_init(&dropped, MAX);
    const char *body =
        C("\"n\":1,\"presence_penalty\":0,\"frequency_penalty\":0.0,\"logit_bias\":{},"
          "\"logprobs\":false,\"response_format\":{\"type\":\"text\"},\"odd\":null");
    assert_int_equal(translate(CHAT, MESSAGES, lr_strz(body), &out, &dropped), 0);
    assert_true(lr_str_is(lr_buf_str(&out),
                          "{\"model\":\"m2\",\"max_tokens\":4096,\"messages\":[{\"role\":\"user\","
                          "\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]}"));
    assert_int_equal(dropped.len, 0);
    lr_buf_free(&out);
    lr_buf_free(&dropped);
}

/* ---- round trips of random requests on the common ground --------------------------------------
 */

struct gen {
    uint64_t seed;
    struct lr_buf *b;
    unsigned calls;
};

static unsigned pick(struct gen *g, unsigned n)
{
    g->seed ^= g->seed << 13;
    g->seed ^= g->seed >> 7;
    g->seed ^= g->seed << 17;
    return (unsigned)((g->seed >> 11) % n);
}

static void words(struct gen *g)
{
    static const char *const some[] = {"hello", "w\xC3\xB6rld", "\\\"x\\\"", "\\n", "{", "42"};
    lr_buf_addc(g->b, '"');
    for (unsigned i = 0, n = 1 + pick(g, 3); i < n; i++)
        lr_buf_addf(g->b, "%s%s", i ? " " : "", some[pick(g, 6)]);
    lr_buf_addc(g->b, '"');
}

static void user_turn(struct gen *g)
{
    lr_buf_addz(g->b, "{\"role\":\"user\",\"content\":");
    if (pick(g, 2)) {
        words(g);
    } else {
        lr_buf_addz(g->b, "[{\"type\":\"text\",\"text\":");
        words(g);
        lr_buf_addf(g->b, "},{\"type\":\"image_url\",\"image_url\":{\"url\":\"%s\"}}]",
                    pick(g, 2) ? "https://example.org/a.png" : "data:image/png;base64,iVBORw0=");
    }
    lr_buf_addz(g->b, "}");
}

static void assistant_turn(struct gen *g)
{
    unsigned calls = pick(g, 3);
    lr_buf_addz(g->b, ",{\"role\":\"assistant\",\"content\":");
    if (calls && pick(g, 2))
        lr_buf_addz(g->b, "null");
    else
        words(g);
    for (unsigned i = 0; i < calls; i++)
        lr_buf_addf(g->b,
                    "%s{\"id\":\"call_%u\",\"type\":\"function\",\"function\":{\"name\":\"look\","
                    "\"arguments\":\"{\\\"at\\\": %u}\"}}",
                    i ? "," : ",\"tool_calls\":[", g->calls + i, pick(g, 9));
    lr_buf_addz(g->b, calls ? "]}" : "}");
    for (unsigned i = 0; i < calls; i++) {
        lr_buf_addf(g->b,
                    ",{\"role\":\"tool\",\"tool_call_id\":\"call_%u\",\"content\":", g->calls + i);
        words(g);
        lr_buf_addz(g->b, "}");
    }
    g->calls += calls;
    lr_buf_addz(g->b, ",");
    user_turn(g);
}

/* A Chat request of what all three dialects can say. */
static void make_request(struct gen *g)
{
    static const char *const choices[] = {
        "", ",\"tool_choice\":\"auto\"", ",\"tool_choice\":\"none\"",
        ",\"tool_choice\":\"required\"",
        ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"look\"}}"};
    lr_buf_addf(g->b, "{\"model\":\"m2\",\"max_tokens\":%u,\"messages\":[", 1 + pick(g, 900));
    if (pick(g, 2)) {
        lr_buf_addz(g->b, "{\"role\":\"system\",\"content\":");
        words(g);
        lr_buf_addz(g->b, "},");
    }
    user_turn(g);
    for (unsigned i = 0, n = pick(g, 4); i < n; i++)
        assistant_turn(g);
    lr_buf_addz(g->b, "]");
    if (pick(g, 2)) {
        lr_buf_addz(g->b, ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\","
                          "\"description\":\"Looks.\",\"parameters\":{\"type\":\"object\"},"
                          "\"strict\":true}}]");
        unsigned choice = pick(g, 5);
        lr_buf_addz(g->b, choices[choice]);
        if (choice != 2 && pick(g, 2)) /* "none" and serial calls contradict each other */
            lr_buf_addz(g->b, ",\"parallel_tool_calls\":false");
    }
    if (pick(g, 2))
        lr_buf_addf(g->b, ",\"temperature\":0.%u", pick(g, 10));
    if (pick(g, 2))
        lr_buf_addz(g->b, ",\"top_p\":0.9");
    if (pick(g, 3) == 0)
        lr_buf_addz(g->b, ",\"reasoning_effort\":\"low\"");
    if (pick(g, 2))
        lr_buf_addz(g->b, ",\"stream\":true");
    lr_buf_addz(g->b, "}");
}

/* What the canonical forms may differ in without saying another thing: empty text beside calls, and
 * the choice "auto" that carries Anthropic's serial calls. */
static void normal_form(enum lr_dialect_id d, struct lr_str body, struct lr_buf *out)
{
    struct lr_arena a;
    struct lr_request *r;
    struct lr_err err = {0};
    lr_arena_init(&a, MAX);
    if (lr_request_parse(&a, d, body, &r, &err))
        fail_msg("%s in %.*s", err.msg, LR_FMT(body));
    for (struct lr_msg *m = r->msgs; m; m = m->next)
        if (m->parts && m->parts->type == LR_PART_TEXT && !m->parts->text.n && m->parts->next)
            m->parts = m->parts->next;
    if (r->parallel_off && r->tool_choice == LR_TOOL_CHOICE_ABSENT)
        r->tool_choice = LR_TOOL_CHOICE_AUTO;
    r->quiet = NULL;
    for (struct lr_msg *m = r->msgs; m; m = m->next)
        for (struct lr_part *p = m->parts; p; p = p->next)
            if (lr_str_is(p->detail, "auto"))
                p->detail = (struct lr_str){NULL, 0};
    print_request(r, out);
    lr_arena_free(&a);
}

static void there_and_back(enum lr_dialect_id by, struct lr_str chat, uint64_t seed)
{
    struct lr_buf there, back, dropped, want, got, middle;
    lr_buf_init(&there, MAX);
    lr_buf_init(&back, MAX);
    lr_buf_init(&dropped, MAX);
    lr_buf_init(&want, MAX);
    lr_buf_init(&got, MAX);
    lr_buf_init(&middle, MAX);
    if (translate(CHAT, by, chat, &there, &dropped))
        fail_msg("seed %llu: %.*s", (unsigned long long)seed, LR_FMT(lr_buf_str(&there)));
    if (translate(by, CHAT, lr_buf_str(&there), &back, &dropped))
        fail_msg("seed %llu: %.*s", (unsigned long long)seed, LR_FMT(lr_buf_str(&back)));
    normal_form(CHAT, chat, &want);
    normal_form(by, lr_buf_str(&there), &middle);
    normal_form(CHAT, lr_buf_str(&back), &got);
    if (!lr_str_eq(lr_buf_str(&want), lr_buf_str(&middle)))
        fail_msg("seed %llu there:\n%.*s--- against\n%.*s", (unsigned long long)seed,
                 LR_FMT(lr_buf_str(&want)), LR_FMT(lr_buf_str(&middle)));
    if (!lr_str_eq(lr_buf_str(&want), lr_buf_str(&got)))
        fail_msg("seed %llu back:\n%.*s--- against\n%.*s", (unsigned long long)seed,
                 LR_FMT(lr_buf_str(&want)), LR_FMT(lr_buf_str(&got)));
    lr_buf_free(&there);
    lr_buf_free(&back);
    lr_buf_free(&dropped);
    lr_buf_free(&want);
    lr_buf_free(&got);
    lr_buf_free(&middle);
}

static void requests_survive_the_way_there_and_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct lr_buf chat;
        lr_buf_init(&chat, MAX);
        struct gen g = {.seed = seed * 0x9E3779B97F4A7C15u, .b = &chat};
        make_request(&g);
        there_and_back(MESSAGES, lr_buf_str(&chat), seed);
        there_and_back(RESPONSES, lr_buf_str(&chat), seed);
        lr_buf_free(&chat);
    }
}

/* ---- faults -----------------------------------------------------------------------------------
 */

struct translation {
    enum lr_dialect_id to;
    struct lr_str body;
};

static int translate_only(void *ctx)
{
    const struct translation *t = ctx;
    struct lr_buf out, dropped;
    lr_buf_init(&out, MAX);
    lr_buf_init(&dropped, MAX);
    int rc = translate(CHAT, t->to, t->body, &out, &dropped);
    lr_buf_free(&out);
    lr_buf_free(&dropped);
    return rc;
}

static void memory_may_run_out_in_translation(void **state)
{
    (void)state;
    struct lr_buf in;
    lr_buf_init(&in, MAX);
    load("translate-request.chat.json", &in);
    fault_each(translate_only, &(struct translation){MESSAGES, lr_buf_str(&in)});
    fault_each(translate_only, &(struct translation){RESPONSES, lr_buf_str(&in)});
    lr_buf_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_answers_in_the_other_dialects),
        cmocka_unit_test(translated_answers_say_the_same),
        cmocka_unit_test(golden_requests_in_the_other_dialects),
        cmocka_unit_test(what_messages_cannot_say_is_refused_by_name),
        cmocka_unit_test(an_answer_without_any_limit_is_refused),
        cmocka_unit_test(what_responses_cannot_say_is_refused_by_name),
        cmocka_unit_test(messages_own_members_do_not_pass_into_chat),
        cmocka_unit_test(what_lies_elsewhere_is_translated_into_nothing),
        cmocka_unit_test(members_that_say_nothing_are_left_out),
        cmocka_unit_test(requests_survive_the_way_there_and_back),
        cmocka_unit_test(memory_may_run_out_in_translation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
