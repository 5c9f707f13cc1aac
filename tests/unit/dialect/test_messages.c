/* SPDX-License-Identifier: Apache-2.0
 * Laws of dialect/messages*.c: requests and answers of Anthropic's Messages API.
 */
#include "translate_kit.h"

#define D LR_DIALECT_MESSAGES

static const char *const streams[] = {"messages-text",   "messages-thinking", "messages-tools",
                                      "messages-cut",    "messages-stopped",  "messages-error",
                                      "messages-hosted", "messages-refusal"};
static const char *const wholes[] = {"messages-text",  "messages-thinking", "messages-tools",
                                     "messages-pause", "messages-window",   "messages-failed"};

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
    one_answer_law(D, wholes, 3);
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

static int try_stream(const char *body, struct lr_err *err)
{
    struct lr_buf log;
    lr_buf_init(&log, MAX);
    int rc = codec_decode(D, true, lr_strz(body), 0, &log, err);
    lr_buf_free(&log);
    return rc;
}

#define START "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"x\"}}\n\n"
#define BLOCK                                                                                      \
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\","    \
    "\"text\":\"\"}}\n\n"
#define STOP_REASON                                                                                \
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n"

static void broken_streams_are_refused_in_words(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "ended before"},
        {START, "ended before"},
        {START BLOCK STOP_REASON, "ended before"},
        {START START, "second message_start"},
        {BLOCK, "before message_start"},
        {START "data: []\n\n", "no object"},
        {START "data: {\"type\":\"message_stop\"}\n\n", "without a stop reason"},
        {START STOP_REASON BLOCK, "after the stop reason"},
        {START "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{}}\n\n", "not open"},
        {START BLOCK "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{}}\n\n",
         "not open"},
        {START BLOCK "data: {\"type\":\"content_block_delta\",\"index\":0}\n\n", "without a delta"},
        {START "data: {\"type\":\"content_block_start\",\"content_block\":{}}\n\n", "index"},
        {START "data: {\"type\":\"content_block_start\",\"index\":0}\n\n", "no object"},
        {"data: {\"type\":\"message_start\"}\n\n", "no object"},
        {"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":"
         "18446744073709551615,\"cache_read_input_tokens\":2}}}\n\n",
         "beyond"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_err err = {0};
        assert_int_equal(try_stream(cases[i][0], &err), LR_EPARSE);
        if (!strstr(err.msg, cases[i][1]))
            fail_msg("case %zu: %s", i, err.msg);
    }
    struct lr_err err = {0};
    struct lr_buf in;
    lr_buf_init(&in, MAX);
    load("messages-truncated.sse", &in);
    assert_int_equal(lr_buf_addc(&in, 0), 0);
    assert_int_equal(try_stream(in.p, &err), LR_EPARSE);
    lr_buf_free(&in);
}

static void unknown_deltas_have_no_whole_form(void **state)
{
    (void)state;
    struct lr_buf log, out;
    struct lr_err err = {0};
    lr_buf_init(&log, MAX);
    lr_buf_init(&out, MAX);
    assert_int_equal(
        codec_decode(D, true,
                     LR_STR(START BLOCK
                            "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"
                            "\"type\":\"new_delta\",\"x\":1}}\n\n" STOP_REASON
                            "data: {\"type\":\"message_stop\"}\n\n"),
                     0, &log, &err),
        0);
    assert_int_equal(encode(D, false, false, lr_buf_str(&log), &out), LR_EUNSUPPORTED);
    lr_buf_reset(&out);
    assert_int_equal(encode(D, true, false, lr_buf_str(&log), &out), 0);
    assert_int_equal(lr_buf_addc(&out, 0), 0);
    assert_non_null(strstr(out.p, "\"delta\":{\"type\":\"new_delta\",\"x\":1}"));
    lr_buf_free(&log);
    lr_buf_free(&out);
}

/* Found by fuzz_sse: each of these made a body that is no JSON, or has a member twice. */
static void odd_streams_give_sound_bodies(void **state)
{
    (void)state;
#define SERVER_TOOL                                                                                \
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":"             \
    "\"server_tool_use\",\"input\":{}}}\n\ndata: {\"type\":\"content_block_delta\",\"index\":0,"   \
    "\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{oops\"}}\n\n"
    static const char *const streams_odd[] = {
        START SERVER_TOOL STOP_REASON "data: {\"type\":\"message_stop\"}\n\n",
        START
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"id\":\"x\","
        "\"x\":1},\"x\":2,\"usage\":{\"output_tokens_details\":{\"thinking_tokens\":3,\"y\":1}}}"
        "\n\n"
        "data: {\"type\":\"message_stop\"}\n\n",
    };
    for (size_t i = 0; i < 2 * LR_COUNT(streams_odd); i++) {
        struct lr_buf log, out;
        struct lr_err err = {0};
        lr_buf_init(&log, MAX);
        lr_buf_init(&out, MAX);
        assert_int_equal(codec_decode(D, true, lr_strz(streams_odd[i / 2]), 0, &log, &err), 0);
        assert_int_equal(encode(D, i & 1, false, lr_buf_str(&log), &out), 0);
        struct lr_buf again;
        lr_buf_init(&again, MAX);
        if (codec_decode(D, i & 1, lr_buf_str(&out), 0, &again,
                         &err)) /* refuses members said twice */
            fail_msg("%zu: %s in %.*s", i, err.msg, LR_FMT(lr_buf_str(&out)));
        lr_buf_free(&again);
        lr_buf_free(&log);
        lr_buf_free(&out);
    }
}

/* ---- requests ---------------------------------------------------------------------------------
 */

#define HEAD "{\"model\":\"m\",\"max_tokens\":9,"
#define MSGS "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void requests_read_as_written_down(void **state)
{
    (void)state;
    golden_request(D, "messages-request");
}

static void wrong_types_are_named_by_path(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"max_tokens\":9," MSGS "}", "at model:"},
        {"{\"model\":\"m\"," MSGS "}", "at max_tokens:"},
        {"{\"model\":\"m\",\"max_tokens\":-1," MSGS "}", "at max_tokens:"},
        {"{\"model\":\"m\",\"max_tokens\":1.5," MSGS "}", "at max_tokens:"},
        {HEAD "\"messages\":{}}", "at messages:"},
        {HEAD "\"messages\":[1]}", "at messages[0]:"},
        {HEAD "\"messages\":[{\"content\":\"x\"}]}", "at messages[0].role:"},
        {HEAD "\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "at messages[0].role:"},
        {HEAD "\"messages\":[{\"role\":\"user\"}]}", "at messages[0].content:"},
        {HEAD
         "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},7]}]}",
         "at messages[0].content[1]:"},
        {HEAD "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
         "at messages[0].content[0].text:"},
        {HEAD "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
         "at messages[0].content[0].source:"},
        {HEAD
         "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{\"type\":"
         "\"base64\",\"data\":\"AA==\"}}]}]}",
         "at messages[0].content[0].source.media_type:"},
        {HEAD "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
              "\"tool_use_id\":\"t\",\"content\":[{\"type\":\"text\",\"text\":3}]}]}]}",
         "at messages[0].content[0].content[0].text:"},
        {HEAD "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]}",
         "at messages[0].content[0].tool_use_id:"},
        {HEAD
         "\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"a\","
         "\"name\":\"b\",\"input\":\"{}\"}]}]}",
         "at messages[0].content[0].input:"},
        {HEAD "\"system\":[{\"type\":\"text\"}]," MSGS "}", "at system[0].text:"},
        {HEAD "\"system\":3," MSGS "}", "at system:"},
        {HEAD "\"tools\":{}," MSGS "}", "at tools:"},
        {HEAD "\"tools\":[{\"name\":\"x\"}]," MSGS "}", "at tools[0].input_schema:"},
        {HEAD "\"tools\":[{\"input_schema\":{}}]," MSGS "}", "at tools[0].name:"},
        {HEAD "\"tool_choice\":\"auto\"," MSGS "}", "at tool_choice:"},
        {HEAD "\"tool_choice\":{\"type\":\"tool\"}," MSGS "}", "at tool_choice.name:"},
        {HEAD "\"stop_sequences\":[\"a\",2]," MSGS "}", "at stop_sequences[1]:"},
        {HEAD "\"stop_sequences\":\"a\"," MSGS "}", "at stop_sequences:"},
        {HEAD "\"temperature\":\"1\"," MSGS "}", "at temperature:"},
        {HEAD "\"stream\":1," MSGS "}", "at stream:"},
        {HEAD "\"metadata\":{\"user_id\":7}," MSGS "}", "at metadata.user_id:"},
        {HEAD "\"output_config\":{\"effort\":1}," MSGS "}", "at output_config.effort:"},
    };
    request_says(D, LR_EINVAL, cases, LR_COUNT(cases));
}

static void state_and_hosted_tools_bypass(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {HEAD "\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]," MSGS "}",
         "bypass=\"hosted-tool\""},
        {HEAD "\"tools\":[{\"type\":\"code_execution_20250825\",\"name\":\"c\"}]," MSGS "}",
         "bypass=\"hosted-tool\""},
        {HEAD "\"tools\":[{\"type\":\"mcp_toolset\",\"mcp_server_name\":\"s\"}]," MSGS "}",
         "bypass=\"mcp\""},
        {HEAD "\"mcp_servers\":[{\"url\":\"u\"}]," MSGS "}", "bypass=\"mcp\""},
        {HEAD "\"container\":\"c1\"," MSGS "}", "bypass=\"container\""},
        {HEAD
         "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{\"type\":"
         "\"file\",\"file_id\":\"f\"}}]}]}",
         "bypass=\"file-id\""},
        {HEAD "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"container_upload\","
              "\"file_id\":\"f\"}]}]}",
         "bypass=\"file-id\""},
    };
    request_says(D, 0, cases, LR_COUNT(cases));
    struct lr_buf out;
    lr_buf_init(&out, MAX);
    assert_int_equal(read_request(D,
                                  HEAD "\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}],"
                                       "\"mcp_servers\":[]," MSGS "}",
                                  &out),
                     0);
    assert_int_equal(lr_buf_addc(&out, 0), 0);
    assert_null(strstr(out.p, "bypass"));
    lr_buf_free(&out);
}

static void the_order_of_results_and_text_is_part_of_the_request(void **state)
{
    (void)state;
    struct lr_buf a, b;
    lr_buf_init(&a, MAX);
    lr_buf_init(&b, MAX);
#define RESULT "{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":\"r\"}"
#define TEXT   "{\"type\":\"text\",\"text\":\"x\"}"
    const char *one = HEAD "\"messages\":[{\"role\":\"user\",\"content\":[" RESULT "," TEXT "]}]}";
    const char *two = HEAD "\"messages\":[{\"role\":\"user\",\"content\":[" TEXT "," RESULT "]}]}";
    assert_int_equal(read_request(D, one, &a), 0);
    assert_int_equal(read_request(D, two, &b), 0);
    assert_false(lr_str_eq(lr_buf_str(&a), lr_buf_str(&b)));
    lr_buf_free(&a);
    lr_buf_free(&b);
}

static void errors_have_anthropics_shape(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *type;
    } cases[] = {{400, "invalid_request_error"},
                 {401, "authentication_error"},
                 {404, "not_found_error"},
                 {413, "request_too_large"},
                 {429, "rate_limit_error"},
                 {418, "invalid_request_error"},
                 {502, "api_error"},
                 {529, "overloaded_error"}};
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_buf out;
        struct lr_arena a;
        struct lr_json *v;
        lr_buf_init(&out, MAX);
        lr_arena_init(&a, MAX);
        assert_int_equal(
            lr_error_write(D, cases[i].status, "some_code", LR_STR("say \"why\""), "req_9", &out),
            0);
        assert_int_equal(lr_json_parse(&a, lr_buf_str(&out), NULL, &v, NULL), 0);
        assert_true(lr_str_is(lr_json_get(v, "type")->text, "error"));
        const struct lr_json *e = lr_json_get(v, "error");
        assert_true(lr_str_is(lr_json_get(e, "type")->text, cases[i].type));
        assert_true(lr_str_is(lr_json_get(e, "message")->text, "say \"why\""));
        assert_true(lr_str_is(lr_json_get(v, "request_id")->text, "req_9"));
        lr_arena_free(&a);
        lr_buf_free(&out);
    }
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
    request_fault_law(D, "messages-request.json");
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
        cmocka_unit_test(unknown_deltas_have_no_whole_form),
        cmocka_unit_test(odd_streams_give_sound_bodies),
        cmocka_unit_test(requests_read_as_written_down),
        cmocka_unit_test(wrong_types_are_named_by_path),
        cmocka_unit_test(state_and_hosted_tools_bypass),
        cmocka_unit_test(the_order_of_results_and_text_is_part_of_the_request),
        cmocka_unit_test(errors_have_anthropics_shape),
        cmocka_unit_test(memory_may_run_out_in_answers),
        cmocka_unit_test(memory_may_run_out_in_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
