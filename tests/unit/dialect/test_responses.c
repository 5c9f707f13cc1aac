/* SPDX-License-Identifier: Apache-2.0
 * Laws of dialect/responses*.c: requests and answers of OpenAI Responses.
 */
#include "translate_kit.h"

#define D LR_DIALECT_RESPONSES

static const char *const streams[] = {
    "responses-text",    "responses-reasoning", "responses-tools",
    "responses-refusal", "responses-cut",       "responses-hosted",
    "responses-sparse",  "responses-failed",    "responses-error"};
static const char *const wholes[] = {"responses-text",  "responses-reasoning",
                                     "responses-tools", "responses-refusal",
                                     "responses-cut",   "responses-hosted"};

static void golden_answers_have_their_events(void **state)
{
    (void)state;
    golden_events(D, true, streams, LR_COUNT(streams));
    golden_events(D, false, wholes, LR_COUNT(wholes));
}

static void events_do_not_depend_on_how_bytes_are_split(void **state)
{
    (void)state;
    split_law(D, streams, LR_COUNT(streams));
}

static void a_stream_and_its_whole_body_are_one_answer(void **state)
{
    (void)state;
    one_answer_law(D, wholes, LR_COUNT(wholes) - 1);
}

static void decoding_undoes_encoding(void **state)
{
    (void)state;
    round_trip_law(D, streams, LR_COUNT(streams));
}

static void golden_bytes_come_out(void **state)
{
    (void)state;
    golden_bytes(D, streams, LR_COUNT(streams));
}

#define START                                                                                      \
    "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"m\"}}\n\n"
#define TEXT(item, piece)                                                                          \
    "data: {\"type\":\"response.output_text.delta\",\"output_index\":" #item                       \
    ",\"content_index\":" #piece ",\"item_id\":\"i\",\"delta\":\"x\"}\n\n"
#define DONE(item)                                                                                 \
    "data: {\"type\":\"response.output_item.done\",\"output_index\":" #item                        \
    ",\"item\":{\"type\":\"message\",\"content\":[]}}\n\n"

static void broken_streams_are_refused_in_words(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "ended before"},
        {START TEXT(0, 0), "ended before"},
        {TEXT(0, 0), "before response.created"},
        {START TEXT(0, 0) DONE(0) TEXT(0, 0), "that is over"},
        {START TEXT(1, 0) TEXT(0, 0), "that is over"},
        {START DONE(0) DONE(0), "that is over"},
        {START "data: {\"type\":\"response.output_text.delta\"}\n\n", "without an output_index"},
        {START "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":0}\n\n",
         "not open"},
        {START "data: {\"type\":\"response.completed\"}\n\n", "no object"},
        {START "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"queued\"}}\n\n",
         "not over"},
        {START "data: 1\n\n", "no object"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_err err = {0};
        struct lr_buf log;
        lr_buf_init(&log, MAX);
        assert_int_equal(codec_decode(D, true, lr_strz(cases[i][0]), 0, &log, &err), LR_EPARSE);
        if (!strstr(err.msg, cases[i][1]))
            fail_msg("case %zu: %s", i, err.msg);
        lr_buf_free(&log);
    }
}

/* The echo shows the request's members, not defaults. */
static void the_response_echoes_its_request(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_request *r;
    struct lr_buf log, out;
    lr_arena_init(&a, MAX);
    lr_buf_init(&log, MAX);
    lr_buf_init(&out, MAX);
    assert_int_equal(
        lr_request_parse(&a, D,
                         LR_STR("{\"model\":\"m\",\"input\":\"x\",\"instructions\":\"Be.\","
                                "\"temperature\":0.25,\"metadata\":{\"k\":\"v\"},\"tools\":[{"
                                "\"type\":\"function\",\"name\":\"f\",\"parameters\":{},"
                                "\"strict\":true}],\"tool_choice\":\"required\"}"),
                         &r, NULL),
        0);
    decode_file(D, "responses-text", true, 0, &log);
    struct lr_encoder_opts o = {.dialect = D, .id = "abc", .whole_max = MAX, .request = r};
    assert_int_equal(codec_encode(&o, lr_buf_str(&log), &out), 0);
    assert_int_equal(lr_buf_addc(&out, 0), 0);
    assert_non_null(strstr(out.p, "\"instructions\":\"Be.\""));
    assert_non_null(strstr(out.p, "\"temperature\":0.25"));
    assert_non_null(strstr(out.p, "\"metadata\":{\"k\":\"v\"}"));
    assert_non_null(strstr(out.p, "\"tool_choice\":\"required\""));
    assert_non_null(strstr(out.p, "\"tools\":[{\"type\":\"function\",\"name\":\"f\""));
    lr_buf_free(&log);
    lr_buf_free(&out);
    lr_arena_free(&a);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

#define HEAD       "{\"model\":\"m\","
#define INPUT      "\"input\":\"hi\"}"
#define ITEM(text) HEAD "\"input\":[" text "]}"

static void requests_read_as_written_down(void **state)
{
    (void)state;
    golden_request(D, "responses-request");
}

static void wrong_types_are_named_by_path(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{" INPUT, "at model:"},
        {"{\"model\":\"m\"}", "at input:"},
        {HEAD "\"input\":3}", "at input:"},
        {HEAD "\"instructions\":3," INPUT, "at instructions:"},
        {ITEM("3"), "at input[0]:"},
        {ITEM("{}"), "at input[0].type:"},
        {ITEM("{\"role\":\"robot\",\"content\":\"x\"}"), "at input[0].role:"},
        {ITEM("{\"role\":\"user\"}"), "at input[0].content:"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}"),
         "at input[0].content[0].text:"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}"),
         "at input[0].content[0].image_url:"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":\"data:x\"}]"
              "}"),
         "at input[0].content[0].image_url:"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_file\"}]}"),
         "at input[0].content[0].file_data:"},
        {ITEM("{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"\"}"),
         "at input[0].call_id:"},
        {ITEM("{\"type\":\"function_call_output\",\"call_id\":\"c\"}"), "at input[0].output:"},
        {ITEM("{\"type\":\"reasoning\",\"summary\":{}}"), "at input[0].summary:"},
        {HEAD "\"tools\":{}," INPUT, "at tools:"},
        {HEAD "\"tools\":[{\"type\":\"function\"}]," INPUT, "at tools[0].name:"},
        {HEAD "\"tool_choice\":3," INPUT, "at tool_choice:"},
        {HEAD "\"text\":3," INPUT, "at text:"},
        {HEAD "\"text\":{\"format\":{\"type\":\"json_schema\"}}," INPUT, "at text.format.schema:"},
        {HEAD "\"reasoning\":3," INPUT, "at reasoning:"},
        {HEAD "\"reasoning\":{\"effort\":3}," INPUT, "at reasoning.effort:"},
        {HEAD "\"max_output_tokens\":\"3\"," INPUT, "at max_output_tokens:"},
        {HEAD "\"temperature\":\"3\"," INPUT, "at temperature:"},
        {HEAD "\"stream\":3," INPUT, "at stream:"},
        {HEAD "\"parallel_tool_calls\":3," INPUT, "at parallel_tool_calls:"},
    };
    request_says(D, LR_EINVAL, cases, LR_COUNT(cases));
}

static void state_and_hosted_tools_bypass(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {HEAD "\"previous_response_id\":\"resp_1\"," INPUT, "previous-response"},
        {HEAD "\"conversation\":\"c\"," INPUT, "conversation"},
        {HEAD "\"background\":true," INPUT, "background"},
        {"{\"prompt\":{\"id\":\"p\"}}", "stored-prompt"},
        {ITEM("{\"type\":\"item_reference\",\"id\":\"x\"}"), "item-reference"},
        {ITEM("{\"id\":\"x\"}"), "item-reference"},
        {ITEM("{\"type\":\"reasoning\",\"id\":\"rs\",\"summary\":[]}"), "item-reference"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_id\":\"f\"}]}"),
         "file-id"},
        {HEAD "\"tools\":[{\"type\":\"web_search\"}]," INPUT, "hosted-tool"},
        {HEAD "\"tools\":[{\"type\":\"never_heard_of\"}]," INPUT, "hosted-tool"},
        {HEAD "\"tools\":[{\"type\":\"mcp\"}]," INPUT, "mcp"},
        {HEAD "\"background\":false,\"tools\":[{\"type\":\"custom\",\"name\":\"c\"}]," INPUT, NULL},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_arena a;
        struct lr_request *r;
        lr_arena_init(&a, MAX);
        assert_int_equal(lr_request_parse(&a, D, lr_strz(cases[i][0]), &r, NULL), 0);
        if (cases[i][1])
            assert_string_equal(r->bypass, cases[i][1]);
        else
            assert_null(r->bypass);
        lr_arena_free(&a);
    }
}

/* Lists of items that say different things are different requests. */
static void items_keep_their_boundaries(void **state)
{
    (void)state;
#define A(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define CALL    "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"}"
#define REASON  "{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"r\"}]}"
    static const char *const lists[] = {
        ITEM(A("x") "," A("y")),
        ITEM("{\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"x\"},{"
             "\"type\":"
             "\"output_text\",\"text\":\"y\"}]}"),
        ITEM(A("x") "," CALL),
        ITEM(CALL "," A("x")),
        ITEM(REASON "," A("x") "," CALL),
        ITEM(A("x") "," REASON "," CALL),
        ITEM(A("x") "," CALL "," REASON),
        ITEM(REASON "," CALL "," A("x")),
    };
    struct lr_buf text[LR_COUNT(lists)];
    for (size_t i = 0; i < LR_COUNT(lists); i++) {
        lr_buf_init(&text[i], MAX);
        assert_int_equal(read_request(D, lists[i], &text[i]), 0);
        for (size_t j = 0; j < i; j++)
            assert_false(lr_str_eq(lr_buf_str(&text[i]), lr_buf_str(&text[j])));
    }
    for (size_t i = 0; i < LR_COUNT(lists); i++)
        lr_buf_free(&text[i]);
}

/* ---- faults -----------------------------------------------------------------------------------
 */

static void memory_may_run_out_in_answers(void **state)
{
    (void)state;
    fault_law(D, streams, LR_COUNT(streams));
}

static void memory_may_run_out_in_requests(void **state)
{
    (void)state;
    request_fault_law(D, "responses-request.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_answers_have_their_events),
        cmocka_unit_test(events_do_not_depend_on_how_bytes_are_split),
        cmocka_unit_test(a_stream_and_its_whole_body_are_one_answer),
        cmocka_unit_test(decoding_undoes_encoding),
        cmocka_unit_test(golden_bytes_come_out),
        cmocka_unit_test(broken_streams_are_refused_in_words),
        cmocka_unit_test(the_response_echoes_its_request),
        cmocka_unit_test(requests_read_as_written_down),
        cmocka_unit_test(wrong_types_are_named_by_path),
        cmocka_unit_test(state_and_hosted_tools_bypass),
        cmocka_unit_test(items_keep_their_boundaries),
        cmocka_unit_test(memory_may_run_out_in_answers),
        cmocka_unit_test(memory_may_run_out_in_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
