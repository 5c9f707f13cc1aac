/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/test_chat.c - Chat requests and answers. Run with `dump FILE DIALECT` it prints the
 * events of an answer, which is how the files *.events beside the golden answers are made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec.h"

/* ---- answers -------------------------------------------------------------------------------- */

struct golden {
    const char *name;
    enum lr_dialect_id d;
    int rc;          /* of decoding */
    bool same_count; /* a stream that leaves in as many events as it came in */
};

static const struct golden goldens[] = {
    {"chat-text.sse", LR_DIALECT_CHAT, 0, true},
    {"chat-tools.sse", LR_DIALECT_CHAT, 0, true},
    {"chat-gemini-tools.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-n2.sse", LR_DIALECT_CHAT, 0, true},
    {"chat-refusal-logprobs.sse", LR_DIALECT_CHAT, 0, true},
    {"chat-vllm.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-error.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-truncated.sse", LR_DIALECT_CHAT, LR_EPARSE, false},
    {"chat-no-done.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-azure.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-openrouter.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-custom-tool.sse", LR_DIALECT_CHAT, 0, false},
    {"chat-whole.json", LR_DIALECT_CHAT, 0, false},
    {"completion-stream.sse", LR_DIALECT_COMPLETION, 0, true},
    {"completion-whole.json", LR_DIALECT_COMPLETION, 0, false},
    {"embedding-whole.json", LR_DIALECT_EMBEDDING, 0, false},
};

static bool is_stream(const char *name)
{
    return strstr(name, ".sse") != NULL;
}

static void read_golden(const struct golden *g, struct lr_buf *b)
{
    lr_buf_init(b, LR_MIB(1));
    assert_int_equal(codec_read(g->name, b), 0);
}

static size_t count(struct lr_str s, const char *what)
{
    size_t n = 0, k = strlen(what);
    for (size_t i = 0; i + k <= s.n; i++)
        n += memcmp(s.p + i, what, k) == 0;
    return n;
}

static void golden_answers_give_the_golden_events(void **state)
{
    (void)state;
    for (size_t i = 0; i < LR_COUNT(goldens); i++) {
        struct lr_buf bytes, log, text, want;
        char name[128];
        read_golden(&goldens[i], &bytes);
        lr_buf_init(&log, CODEC_MAX);
        lr_buf_init(&text, CODEC_MAX);
        lr_buf_init(&want, CODEC_MAX);
        struct lr_err err = {0};
        int rc = codec_decode(goldens[i].d, is_stream(goldens[i].name), lr_buf_str(&bytes), 0, &log,
                              &err);
        if (rc != goldens[i].rc)
            print_error("%s: %s %s\n", goldens[i].name, lr_errname(rc), err.msg);
        assert_int_equal(rc, goldens[i].rc);
        codec_dump(lr_buf_str(&log), &text);
        snprintf(name, sizeof name, "%s.events", goldens[i].name);
        assert_int_equal(codec_read(name, &want), 0);
        if (!lr_str_eq(lr_buf_str(&text), lr_buf_str(&want)))
            print_error("%s gives\n%.*s\n", goldens[i].name, (int)text.len, text.p);
        assert_true(lr_str_eq(lr_buf_str(&text), lr_buf_str(&want)));
        lr_buf_free(&bytes);
        lr_buf_free(&log);
        lr_buf_free(&text);
        lr_buf_free(&want);
    }
}

static void events_do_not_depend_on_how_bytes_were_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < LR_COUNT(goldens); i++) {
        struct lr_buf bytes, once, split;
        read_golden(&goldens[i], &bytes);
        lr_buf_init(&once, CODEC_MAX);
        lr_buf_init(&split, CODEC_MAX);
        bool stream = is_stream(goldens[i].name);
        (void)codec_decode(goldens[i].d, stream, lr_buf_str(&bytes), 0, &once, NULL);
        for (size_t step = 1; step < 40; step += step < 4 ? 1 : 7) {
            lr_buf_reset(&split);
            int rc = codec_decode(goldens[i].d, stream, lr_buf_str(&bytes), step, &split, NULL);
            assert_int_equal(rc, goldens[i].rc);
            assert_true(lr_str_eq(lr_buf_str(&once), lr_buf_str(&split)));
        }
        lr_buf_free(&bytes);
        lr_buf_free(&once);
        lr_buf_free(&split);
    }
}

static void decode_again(const struct golden *g, bool stream, struct lr_str log, struct lr_buf *out)
{
    struct lr_buf bytes, again;
    lr_buf_init(&bytes, CODEC_MAX);
    lr_buf_init(&again, CODEC_MAX);
    struct lr_encoder_opts o = codec_opts(g->d, stream);
    struct lr_err err = {0};
    assert_int_equal(codec_encode(&o, log, &bytes), 0);
    int rc = codec_decode(g->d, stream, lr_buf_str(&bytes), 0, &again, &err);
    if (rc)
        print_error("%s: %s\n%.*s\n", g->name, err.msg, (int)bytes.len, bytes.p);
    assert_int_equal(rc, 0);
    assert_int_equal(lr_answer_compact(lr_buf_str(&again), out), 0);
    lr_buf_free(&bytes);
    lr_buf_free(&again);
}

static void expect_same_log(const char *name, struct lr_str a, struct lr_str b)
{
    struct lr_buf x, y;
    lr_buf_init(&x, CODEC_MAX);
    lr_buf_init(&y, CODEC_MAX);
    codec_dump(a, &x);
    codec_dump(b, &y);
    if (!lr_str_eq(a, b))
        print_error("%s\n--- want\n%.*s--- have\n%.*s", name, (int)x.len, x.p, (int)y.len, y.p);
    assert_true(lr_str_eq(a, b));
    lr_buf_free(&x);
    lr_buf_free(&y);
}

static void writing_and_reading_keeps_the_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < LR_COUNT(goldens); i++) {
        struct lr_buf bytes, log, compact, again;
        read_golden(&goldens[i], &bytes);
        lr_buf_init(&log, CODEC_MAX);
        lr_buf_init(&compact, CODEC_MAX);
        lr_buf_init(&again, CODEC_MAX);
        (void)codec_decode(goldens[i].d, is_stream(goldens[i].name), lr_buf_str(&bytes), 0, &log,
                           NULL);
        struct lr_answer_facts f;
        assert_int_equal(lr_answer_facts(lr_buf_str(&log), &f), 0);
        if (f.complete) {
            assert_int_equal(lr_answer_compact(lr_buf_str(&log), &compact), 0);
            decode_again(&goldens[i], false, lr_buf_str(&log), &again);
            expect_same_log(goldens[i].name, lr_buf_str(&compact), lr_buf_str(&again));
            lr_buf_reset(&again);
            if (goldens[i].d != LR_DIALECT_EMBEDDING)
                decode_again(&goldens[i], true, lr_buf_str(&log), &again);
            if (again.len)
                expect_same_log(goldens[i].name, lr_buf_str(&compact), lr_buf_str(&again));
        }
        lr_buf_free(&bytes);
        lr_buf_free(&log);
        lr_buf_free(&compact);
        lr_buf_free(&again);
    }
}

static void a_chunk_of_a_chat_upstream_leaves_as_one_chunk(void **state)
{
    (void)state;
    for (size_t i = 0; i < LR_COUNT(goldens); i++) {
        if (!goldens[i].same_count)
            continue;
        struct lr_buf bytes, log, out;
        read_golden(&goldens[i], &bytes);
        lr_buf_init(&log, CODEC_MAX);
        lr_buf_init(&out, CODEC_MAX);
        assert_int_equal(codec_decode(goldens[i].d, true, lr_buf_str(&bytes), 0, &log, NULL), 0);
        struct lr_encoder_opts o = codec_opts(goldens[i].d, true);
        assert_int_equal(codec_encode(&o, lr_buf_str(&log), &out), 0);
        size_t in_n = count(lr_buf_str(&bytes), "data: "),
               out_n = count(lr_buf_str(&out), "data: ");
        if (in_n != out_n)
            print_error("%s: %zu in, %zu out\n%.*s", goldens[i].name, in_n, out_n, (int)out.len,
                        out.p);
        assert_int_equal(in_n, out_n);
        lr_buf_free(&bytes);
        lr_buf_free(&log);
        lr_buf_free(&out);
    }
}

static void replays_carry_fresh_ids(void **state)
{
    (void)state;
    struct lr_buf bytes, log, out;
    read_golden(&goldens[1], &bytes);
    lr_buf_init(&log, CODEC_MAX);
    lr_buf_init(&out, CODEC_MAX);
    assert_int_equal(codec_decode(LR_DIALECT_CHAT, true, lr_buf_str(&bytes), 0, &log, NULL), 0);
    for (int stream = 0; stream < 2; stream++) {
        struct lr_encoder_opts o = codec_opts(LR_DIALECT_CHAT, stream);
        o.fresh_ids = true;
        lr_buf_reset(&out);
        assert_int_equal(codec_encode(&o, lr_buf_str(&log), &out), 0);
        assert_int_equal(count(lr_buf_str(&out), "chatcmpl-T"), 0);
        assert_int_equal(count(lr_buf_str(&out), "call_a1"), 0);
        assert_true(count(lr_buf_str(&out), "\"chatcmpl-abcdefghijklmnopqrstuvwx\"") > 0);
        assert_int_equal(count(lr_buf_str(&out), "\"call_abcdefghijklmnopqrstuvwx_0_0\""), 1);
        assert_int_equal(count(lr_buf_str(&out), "\"call_abcdefghijklmnopqrstuvwx_0_1\""), 1);
    }
    lr_buf_free(&bytes);
    lr_buf_free(&log);
    lr_buf_free(&out);
}

static void choices_beyond_the_asked_ones_are_left_out(void **state)
{
    (void)state;
    struct lr_buf bytes, log, out;
    read_golden(&goldens[3], &bytes);
    lr_buf_init(&log, CODEC_MAX);
    lr_buf_init(&out, CODEC_MAX);
    assert_int_equal(codec_decode(LR_DIALECT_CHAT, true, lr_buf_str(&bytes), 0, &log, NULL), 0);
    struct lr_encoder_opts o = codec_opts(LR_DIALECT_CHAT, false);
    o.choices_max = 1;
    assert_int_equal(codec_encode(&o, lr_buf_str(&log), &out), 0);
    assert_int_equal(count(lr_buf_str(&out), "One!"), 1);
    assert_int_equal(count(lr_buf_str(&out), "Two"), 0);
    lr_buf_free(&bytes);
    lr_buf_free(&log);
    lr_buf_free(&out);
}

static int decode_text(const char *text, bool stream)
{
    struct lr_buf log;
    lr_buf_init(&log, CODEC_MAX);
    int rc = codec_decode(LR_DIALECT_CHAT, stream, lr_strz(text), 0, &log, NULL);
    lr_buf_free(&log);
    return rc;
}

static void what_no_server_should_say_is_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_text("data: nonsense\n\n", true), LR_EPARSE);
    assert_int_equal(decode_text("data: []\n\n", true), LR_EPARSE);
    assert_int_equal(decode_text("", true), LR_EPARSE);
    assert_int_equal(decode_text("", false), LR_EPARSE);
    assert_int_equal(decode_text("{}", false), LR_EPARSE);
    assert_int_equal(decode_text("{\"choices\":[]}", false), LR_EPARSE);
    assert_int_equal(decode_text("data: {\"choices\":[{\"index\":99999}]}\n\n", true), LR_EPARSE);
    assert_int_equal(
        decode_text("data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":"
                    "\"stop\"}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n",
                    true),
        LR_EPARSE);
    assert_int_equal(decode_text("{\"error\":{\"message\":\"x\"}}", false), 0);
}

/* Reads an answer and writes it both ways. */
static int through(const struct golden *g, struct lr_str bytes)
{
    struct lr_buf log, out;
    lr_buf_init(&log, CODEC_MAX);
    lr_buf_init(&out, CODEC_MAX);
    int rc = codec_decode(g->d, is_stream(g->name), bytes, 0, &log, NULL);
    struct lr_encoder_opts o = codec_opts(g->d, false);
    if (!rc)
        rc = codec_encode(&o, lr_buf_str(&log), &out);
    o.stream = true;
    if (!rc && g->d != LR_DIALECT_EMBEDDING)
        rc = codec_encode(&o, lr_buf_str(&log), &out);
    lr_buf_free(&log);
    lr_buf_free(&out);
    return rc;
}

static void answers_fail_cleanly_at_every_fault(void **state)
{
    (void)state;
    for (size_t i = 0; i < LR_COUNT(goldens); i++) {
        struct lr_buf bytes;
        bool hit = goldens[i].rc == 0;
        read_golden(&goldens[i], &bytes);
        for (uint64_t n = 1; hit; n++) {
            lr_fault_arm(n);
            int rc = through(&goldens[i], lr_buf_str(&bytes));
            hit = lr_fault_seen() >= n;
            lr_fault_arm(0);
            /* The text of an upstream's error may get lost with memory, but it stays an error. */
            bool error = strstr(goldens[i].name, "error") != NULL;
            assert_true(rc == (hit ? LR_ENOMEM : 0) || error);
        }
        lr_buf_free(&bytes);
    }
}

static void an_answer_over_the_bound_is_refused_for_good(void **state)
{
    (void)state;
    for (int stream = 0; stream < 2; stream++) {
        struct lr_decoder *dec;
        struct lr_buf log;
        struct lr_err err = {0};
        lr_buf_init(&log, CODEC_MAX);
        assert_int_equal(lr_decoder_open(&dec, LR_DIALECT_CHAT, stream, 16, codec_append, &log), 0);
        assert_int_equal(lr_decoder_feed(dec, LR_STR("data: {\"x\":123456"), &err), LR_EOVER);
        assert_true(err.msg[0] != 0);
        assert_int_equal(lr_decoder_feed(dec, LR_STR("\n\n"), NULL), LR_EOVER);
        assert_int_equal(lr_decoder_end(dec, NULL), LR_EOVER);
        assert_int_equal(log.len, 0);
        lr_decoder_close(dec);
        lr_buf_free(&log);
    }
}

/* ---- requests ------------------------------------------------------------------------------- */

static struct lr_request *parse_ok(struct lr_arena *a, const char *body)
{
    struct lr_request *r = NULL;
    struct lr_err err = {0};
    int rc = lr_request_parse(a, LR_DIALECT_CHAT, lr_strz(body), &r, &err);
    if (rc)
        print_error("%s: %s\n", err.where, err.msg);
    assert_int_equal(rc, 0);
    return r;
}

static void a_full_request_finds_its_places(void **state)
{
    (void)state;
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(1));
    struct lr_request *r = parse_ok(
        &a,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
        "\"name\":\"bob\",\"content\":[{\"type\":\"text\",\"text\":\"t\",\"x\":1},{\"type\":"
        "\"image_url\","
        "\"image_url\":{\"url\":\"data:image/png;base64,AAAA\",\"detail\":\"low\"}},{\"type\":"
        "\"input_audio\",\"input_audio\":{\"data\":\"BBBB\",\"format\":\"wav\"}},{\"type\":\"odd\"}"
        "]},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":"
        "\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
        "\"c1\","
        "\"content\":\"r1\"},{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"r2\"}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],"
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"n\":3,\"stop\":"
        "\"END\","
        "\"max_tokens\":5,\"max_completion_tokens\":9,\"temperature\":0.70,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true},\"user\":\"u\",\"metadata\":{\"a\":\"b\"},"
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{"
        "}}},"
        "\"parallel_tool_calls\":false,\"seed\":null,\"foo\":{\"bar\":1}}");
    assert_true(lr_str_is(r->model, "m"));
    const struct lr_msg *m = r->msgs;
    assert_int_equal(m->role, LR_ROLE_SYSTEM);
    m = m->next;
    assert_true(lr_str_is(m->name, "bob"));
    assert_true(lr_str_is(m->parts->extra->v->key, "x"));
    const struct lr_part *p = m->parts->next;
    assert_int_equal(p->type, LR_PART_IMAGE);
    assert_true(lr_str_is(p->media, "image/png") && lr_str_is(p->data, "AAAA"));
    assert_true(lr_str_is(p->detail, "low"));
    assert_true(lr_str_is(p->next->media, "audio/wav"));
    assert_int_equal(p->next->next->type, LR_PART_OTHER);
    m = m->next;
    assert_int_equal(m->parts->type, LR_PART_TOOL_CALL);
    m = m->next;
    assert_int_equal(m->role, LR_ROLE_TOOL);
    assert_true(lr_str_is(m->parts->next->id, "c2"));
    assert_null(m->next);
    assert_int_equal(r->tool_choice, LR_TOOL_CHOICE_NAMED);
    assert_int_equal(r->format, LR_FORMAT_SCHEMA);
    assert_int_equal(r->n, 3);
    assert_int_equal(r->max_tokens, 9);
    assert_true(lr_str_is(r->temperature->text, "0.70"));
    assert_null(r->seed);
    assert_true(r->parallel_off && r->stream && r->include_usage && r->n_given);
    assert_true(lr_str_is(r->user, "u"));
    assert_true(lr_str_is(r->extra->v->key, "foo") && !r->extra->next);
    assert_null(r->bypass);
    lr_arena_free(&a);
}

static void wrong_types_are_named_with_their_path(void **state)
{
    (void)state;
    static const struct {
        const char *body, *where;
    } rows[] = {
        {"[]", "body"},
        {"{\"messages\":[]}", "model"},
        {"{\"model\":\"m\"}", "messages"},
        {"{\"model\":1,\"messages\":[]}", "model"},
        {"{\"model\":\"m\",\"messages\":{}}", "messages"},
        {"{\"model\":\"m\",\"messages\":[1]}", "messages[0]"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"bard\"}]}", "messages[0].role"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":7}]}",
         "messages[0].content"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"},{}]}]"
         "}",
         "messages[0].content[0].text"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
         "\"image_url\":{\"url\":\"data:x\"}}]}]}",
         "messages[0].content[0].image_url.url"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"\"}]}",
         "messages[0].tool_call_id"},
        {"{\"model\":\"m\",\"messages\":[],\"stop\":[1]}", "stop[0]"},
        {"{\"model\":\"m\",\"messages\":[],\"n\":0}", "n"},
        {"{\"model\":\"m\",\"messages\":[],\"temperature\":\"hot\"}", "temperature"},
        {"{\"model\":\"m\",\"messages\":[],\"stream\":1}", "stream"},
        {"{\"model\":\"m\",\"messages\":[],\"stream_options\":{\"include_usage\":1}}",
         "stream_options.include_usage"},
        {"{\"model\":\"m\",\"messages\":[],\"tools\":[{\"type\":\"function\",\"function\":{}}]}",
         "tools[0].function.name"},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_arena a;
        struct lr_request *r;
        struct lr_err err = {0};
        lr_arena_init(&a, LR_MIB(1));
        int rc = lr_request_parse(&a, LR_DIALECT_CHAT, lr_strz(rows[i].body), &r, &err);
        assert_int_equal(rc, LR_EINVAL);
        assert_string_equal(err.where, rows[i].where);
        assert_non_null(strstr(err.msg, "expected "));
        lr_arena_free(&a);
    }
}

static void server_side_state_is_passed_by(void **state)
{
    (void)state;
    static const struct {
        const char *member, *bypass;
    } rows[] = {
        {"\"web_search_options\":{}", "hosted-tool"},
        {"\"modalities\":[\"text\",\"audio\"]", "audio-out"},
        {"\"modalities\":[\"text\"]", NULL},
        {"\"tools\":[{\"type\":\"web_search\"}]", "hosted-tool"},
        {"\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"x\"}}]", NULL},
        {"\"store\":true", NULL},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_arena a;
        char body[256];
        lr_arena_init(&a, LR_MIB(1));
        snprintf(body, sizeof body, "{\"model\":\"m\",\"messages\":[],%s}", rows[i].member);
        struct lr_request *r = parse_ok(&a, body);
        if (rows[i].bypass)
            assert_string_equal(r->bypass, rows[i].bypass);
        else
            assert_null(r->bypass);
        lr_arena_free(&a);
    }
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(1));
    struct lr_request *r =
        parse_ok(&a, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{"
                     "\"type\":\"file\",\"file\":{\"file_id\":\"file-1\"}}]}]}");
    assert_string_equal(r->bypass, "file-id");
    lr_arena_free(&a);
}

static void expect_forward(const char *body, const char *model, const char *want)
{
    struct lr_arena a;
    struct lr_buf out;
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, LR_MIB(1));
    struct lr_request *r = parse_ok(&a, body);
    assert_int_equal(lr_request_forward(&a, r, lr_strz(model), &out), 0);
    if (!lr_str_is(lr_buf_str(&out), want))
        print_error("have %.*s\n", (int)out.len, out.p);
    assert_true(lr_str_is(lr_buf_str(&out), want));
    lr_buf_free(&out);
    lr_arena_free(&a);
}

static void forwarding_changes_nothing_else(void **state)
{
    (void)state;
    const char *same = " {\"foo\" :1.50, \"model\":\"m\",\"messages\":[ ] }\n";
    expect_forward(same, "m", same);
    expect_forward(same, "q\"", " {\"foo\" :1.50, \"model\":\"q\\\"\",\"messages\":[ ] }\n");
    const char *asked = "{\"model\":\"m\",\"messages\":[],\"stream\":true,"
                        "\"stream_options\":{\"include_usage\":true}}";
    expect_forward(asked, "m", asked);
    expect_forward(
        "{\"model\":\"m\",\"stream_options\":{\"x\":1},\"messages\":[],\"stream\":true}", "n",
        "{\"model\":\"n\",\"stream_options\":{\"x\":1,\"include_usage\":true},\"messages\":[],"
        "\"stream\":true}");
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "dump") == 0) {
        struct lr_buf bytes, log, text;
        struct lr_err err = {0};
        lr_buf_init(&bytes, CODEC_MAX);
        lr_buf_init(&log, CODEC_MAX);
        lr_buf_init(&text, CODEC_MAX);
        if (lr_io_read_file(argv[2], &bytes))
            return 1;
        enum lr_dialect_id d = LR_DIALECT_NONE;
        for (unsigned i = 1; i < LR_DIALECT_N; i++)
            if (!strcmp(argv[3], lr_dialect_name((enum lr_dialect_id)i)))
                d = (enum lr_dialect_id)i;
        int rc = codec_decode(d, is_stream(argv[2]), lr_buf_str(&bytes), 0, &log, &err);
        if (rc)
            fprintf(stderr, "%s: %s\n", lr_errname(rc), err.msg);
        codec_dump(lr_buf_str(&log), &text);
        fwrite(text.p, 1, text.len, stdout);
        lr_buf_free(&bytes);
        lr_buf_free(&log);
        lr_buf_free(&text);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_answers_give_the_golden_events),
        cmocka_unit_test(events_do_not_depend_on_how_bytes_were_split),
        cmocka_unit_test(writing_and_reading_keeps_the_answer),
        cmocka_unit_test(a_chunk_of_a_chat_upstream_leaves_as_one_chunk),
        cmocka_unit_test(replays_carry_fresh_ids),
        cmocka_unit_test(choices_beyond_the_asked_ones_are_left_out),
        cmocka_unit_test(what_no_server_should_say_is_refused),
        cmocka_unit_test(answers_fail_cleanly_at_every_fault),
        cmocka_unit_test(an_answer_over_the_bound_is_refused_for_good),
        cmocka_unit_test(a_full_request_finds_its_places),
        cmocka_unit_test(wrong_types_are_named_with_their_path),
        cmocka_unit_test(server_side_state_is_passed_by),
        cmocka_unit_test(forwarding_changes_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
