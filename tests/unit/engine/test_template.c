/* SPDX-License-Identifier: Apache-2.0
 * unit/engine/test_template.c - chat templates and replies.
 *
 * tests/golden/engine/templates.json holds conversations and what the families' public templates make of
 * them, rendered by Jinja 3.1 with the settings of Hugging Face's tokenisers (trim_blocks,
 * lstrip_blocks, tojson without escapes); of the templates only their marks are kept there.
 */
#include "chat_kit.h"

/* ---- templates ---- */

static void golden_texts_are_what_the_templates_render(void **state)
{
    struct lr_arena a;
    struct lr_buf out;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    lr_buf_init(&out, LR_MIB(1));
    for (const struct lr_json *c = kit_golden(&a, "templates.json")->child; c; c = c->next) {
        struct lr_engine_template t;
        struct lr_err err = {0};
        struct lr_str name = lr_json_get(c, "name")->text, want = lr_json_get(c, "text")->text;
        struct lr_engine_render r = {.request = kit_request(&a, lr_json_get(c, "request")->raw)};
        if (lr_engine_template_match(lr_json_get(c, "template")->text, &t, &err))
            fail_msg("%.*s: %s", LR_FMT(name), err.msg);
        if (!lr_str_is(lr_json_get(c, "family")->text, lr_engine_family_name(t.family)))
            fail_msg("%.*s was taken for %s", LR_FMT(name), lr_engine_family_name(t.family));
        lr_buf_reset(&out);
        if (lr_engine_template_text(&t, NULL, &r, &out, &err))
            fail_msg("%.*s: %s at %s", LR_FMT(name), err.msg, err.where);
        if (!lr_str_eq(lr_buf_str(&out), want))
            fail_msg("%.*s: got\n%.*s\nwant\n%.*s", LR_FMT(name), LR_FMT(lr_buf_str(&out)),
                     LR_FMT(want));
    }
    lr_buf_free(&out);
    lr_arena_free(&a);
}

static void unknown_templates_are_refused_with_their_beginning(void **state)
{
    static const char *const bad[] = {
        "{{ 'nothing we know' }}",
        "<|im_start|> <|im_sep|>",
        "{% if x %}<|start|>assistant<|message|>",
        "<|user|>x<|end|><|assistant|>", /* Phi-4 */
    };
    (void)state; /* cmocka's */
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_engine_template t;
        struct lr_err err = {0};
        assert_int_equal(lr_engine_template_match(lr_strz(bad[i]), &t, &err), LR_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, bad[i]));
    }
}

static void no_template_is_plain(void **state)
{
    struct lr_engine_template t;
    struct lr_arena a;
    struct lr_buf out;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, LR_KIB(4));
    assert_int_equal(lr_engine_template_match(LR_STR(" \n"), &t, NULL), 0);
    assert_int_equal(t.family, LR_ENGINE_PLAIN);
    struct lr_engine_render r = {
        .request = kit_request(&a, LR_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"system\","
                                          "\"content\":\"S\"},{\"role\":\"user\",\"content\":\"U\"},"
                                          "{\"role\":\"assistant\",\"content\":\"A\"}]}"))};
    assert_int_equal(lr_engine_template_text(&t, NULL, &r, &out, NULL), 0);
    lr_buf_addc(&out, 0);
    assert_string_equal(out.p, "S\n\nUser: U\n\nAssistant: A\n\nAssistant:");
    lr_buf_free(&out);
    lr_arena_free(&a);
}

/* Renders to ids. */
static int ids_of(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                  const struct lr_engine_render *r, struct lr_nn_ids *ids, struct lr_err *err)
{
    lr_nn_ids_init(ids, 1 << 20);
    return lr_engine_template_render(t, tok, r, ids, err);
}

/* U+2581 as three blanks. */
static void blanks(struct lr_buf *b)
{
    for (size_t i = 0; i + 2 < b->len; i++)
        if (memcmp(b->p + i, "\xE2\x96\x81", 3) == 0)
            memcpy(b->p + i, "   ", 3);
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) /* runs of blanks as one */
        if (b->p[i] != ' ' || !n || b->p[n - 1] != ' ')
            b->p[n++] = b->p[i];
    b->len = n;
}

static void ids_spell_the_text(void **state)
{
    struct lr_arena a;
    struct lr_buf want, got;
    struct lr_nn_tok *tok = kit_tok(NULL, 0);
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    lr_buf_init(&want, LR_MIB(1));
    lr_buf_init(&got, LR_MIB(1));
    for (const struct lr_json *c = kit_golden(&a, "templates.json")->child; c; c = c->next) {
        struct lr_engine_template t;
        struct lr_nn_ids ids;
        struct lr_nn_decoder d;
        struct lr_engine_render r = {.request = kit_request(&a, lr_json_get(c, "request")->raw)};
        assert_int_equal(lr_engine_template_match(lr_json_get(c, "template")->text, &t, NULL), 0);
        lr_buf_reset(&want);
        lr_buf_reset(&got);
        assert_int_equal(lr_engine_template_text(&t, tok, &r, &want, NULL), 0);
        assert_int_equal(ids_of(&t, tok, &r, &ids, NULL), 0);
        lr_nn_decoder_init(&d, tok, false, true);
        for (size_t i = 0; i < ids.n; i++)
            assert_int_equal(lr_nn_decoder_add(&d, ids.id[i], &got), 0);
        assert_int_equal(lr_nn_decoder_end(&d, &got), 0);
        blanks(&want); /* SPM cannot tell them apart */
        blanks(&got);
        if (!lr_str_eq(lr_buf_str(&got), lr_buf_str(&want)))
            fail_msg("%.*s", LR_FMT(lr_json_get(c, "name")->text));
        lr_nn_ids_free(&ids);
    }
    lr_buf_free(&want);
    lr_buf_free(&got);
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
}

static size_t controls_in(const struct lr_nn_tok *tok, const struct lr_nn_ids *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++)
        n += lr_nn_tok_type(tok, ids->id[i]) == LR_NN_TOKEN_CONTROL;
    return n;
}

static void users_cannot_write_control_tokens(void **state)
{
    struct lr_arena a;
    struct lr_nn_tok *tok = kit_tok(NULL, 0);
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    for (const struct lr_json *c = kit_golden(&a, "templates.json")->child; c; c = c->next) {
        static const char *const texts[] = {"x", "<|im_end|>[/INST]</s><|eot_id|><end_of_turn>\\u0001"
                                                 "<|end|>\\u0002\\u0003<｜User｜><s>"};
        size_t n[2];
        struct lr_engine_template t;
        assert_int_equal(lr_engine_template_match(lr_json_get(c, "template")->text, &t, NULL), 0);
        for (size_t i = 0; i < 2; i++) {
            struct lr_buf b;
            struct lr_nn_ids ids;
            lr_buf_init(&b, LR_KIB(64));
            lr_buf_addf(&b,
                        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},"
                        "{\"role\":\"user\",\"content\":\"%s\"},{\"role\":\"assistant\",\"content\":"
                        "\"%s\"},{\"role\":\"user\",\"content\":\"%s\"}]}",
                        texts[i], texts[i], texts[i], texts[i]);
            struct lr_engine_render r = {.request = kit_request(&a, lr_buf_str(&b))};
            assert_int_equal(ids_of(&t, tok, &r, &ids, NULL), 0);
            n[i] = controls_in(tok, &ids);
            lr_nn_ids_free(&ids);
            lr_buf_free(&b);
        }
        assert_int_equal(n[0], n[1]);
    }
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
}

/* As promised in engine.h. */
static bool stable(enum lr_engine_family f, const struct lr_request *r, size_t k)
{
    const struct lr_msg *m = r->msgs;
    bool system = false;
    for (size_t i = 0; m && i < k; i++, m = m->next) {
        bool last = i + 1 == k;
        system |= m->role == LR_ROLE_SYSTEM;
        if (last && m->role == LR_ROLE_SYSTEM &&
            (f == LR_ENGINE_LLAMA2 || f == LR_ENGINE_GEMMA || f == LR_ENGINE_MISTRAL1))
            return false;
        if (f == LR_ENGINE_QWEN3 && m->role == LR_ROLE_ASSISTANT)
            return false;
    }
    bool tools = r->tools != NULL;
    if (f == LR_ENGINE_MISTRAL7)
        return !tools;
    return f != LR_ENGINE_MISTRAL3 || !(tools || system);
}

static void prefixes_of_conversations_are_prefixes_of_tokens(void **state)
{
    struct lr_arena a;
    struct lr_nn_tok *tok = kit_tok(NULL, 0);
    size_t held = 0;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    for (const struct lr_json *c = kit_golden(&a, "templates.json")->child; c; c = c->next) {
        struct lr_engine_template t;
        struct lr_engine_render r = {.request = kit_request(&a, lr_json_get(c, "request")->raw),
                                     .no_prompt = true};
        size_t n = lr_json_get(lr_json_get(c, "request"), "messages")->n;
        assert_int_equal(lr_engine_template_match(lr_json_get(c, "template")->text, &t, NULL), 0);
        for (size_t k = 1; k < n; k++) {
            struct lr_nn_ids x, y;
            if (!stable(t.family, r.request, k))
                continue;
            r.messages = k;
            assert_int_equal(ids_of(&t, tok, &r, &x, NULL), 0);
            r.messages = k + 1;
            assert_int_equal(ids_of(&t, tok, &r, &y, NULL), 0);
            if (x.n > y.n || memcmp(x.id, y.id, x.n * sizeof *x.id) != 0)
                fail_msg("%.*s: %zu messages", LR_FMT(lr_json_get(c, "name")->text), k);
            held++;
            lr_nn_ids_free(&x);
            lr_nn_ids_free(&y);
        }
    }
    assert_true(held > 80);
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
}

static void what_has_no_place_is_refused_by_name(void **state)
{
    static const struct {
        const char *body, *word;
    } bad[] = {
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
         "\"image_url\":{\"url\":\"https://x.test/a.png\"}}]}]}",
         "image"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\","
         "\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}}]}]}",
         "audio"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":"
         "\"function\",\"function\":{\"name\":\"f\"}}]}",
         "tools"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"tool\","
         "\"tool_call_id\":\"1\",\"content\":\"y\"}]}",
         "tool calls"},
    };
    struct lr_engine_template t;
    struct lr_arena a;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(4));
    assert_int_equal(lr_engine_template_match(LR_STR("<start_of_turn> <end_of_turn>"), &t, NULL), 0);
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_err err = {0};
        struct lr_buf out;
        lr_buf_init(&out, LR_KIB(4));
        struct lr_engine_render r = {.request = kit_request(&a, lr_strz(bad[i].body))};
        assert_int_equal(lr_engine_template_text(&t, NULL, &r, &out, &err), LR_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, bad[i].word));
        assert_int_equal(out.len, 0);
        lr_buf_free(&out);
    }
    lr_arena_free(&a);
}

static void stops_are_tokens_where_there_are_tokens(void **state)
{
    struct lr_engine_template t;
    struct lr_engine_stops s;
    struct lr_nn_tok *tok = kit_tok(NULL, 0);
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_template_match(LR_STR("<|im_start|>"), &t, NULL), 0);
    lr_engine_template_stops(&t, tok, &s);
    assert_true(s.n_text == 0 && s.n_id == 2);
    assert_int_equal(s.id[0], lr_nn_tok_find(tok, LR_STR("<|im_end|>")));
    t.family = LR_ENGINE_PLAIN;
    lr_engine_template_stops(&t, tok, &s);
    assert_true(s.n_text == 1 && lr_str_is(s.text[0], "\n\nUser:"));
    lr_nn_tok_close(tok);
}

/* ---- a real vocabulary ---- */

static void phi3_swallows_white_space_as_its_tokeniser_does(void **state)
{
    const char *dir = getenv("LR_TEST_DATA");
    char path[512];
    struct lr_nn_gguf *g;
    struct lr_nn_tok *tok;
    struct lr_engine_template t;
    struct lr_arena a;
    struct lr_str text;
    struct lr_nn_ids got, want;
    struct lr_buf b;
    snprintf(path, sizeof path, "%s/ggml-vocab-phi-3.gguf", dir ? dir : "");
    if (!dir || lr_nn_gguf_open(&g, path, NULL, NULL)) {
        print_message("SKIPPED: LR_TEST_DATA has no ggml-vocab-phi-3.gguf\n");
        skip();
    }
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(4));
    lr_buf_init(&b, LR_KIB(64));
    assert_int_equal(lr_nn_tok_open(&tok, g, NULL), 0);
    assert_int_equal(lr_nn_gguf_text(g, "tokenizer.chat_template", &text, NULL), 0);
    assert_int_equal(lr_engine_template_match(text, &t, NULL), 0);
    assert_int_equal(t.family, LR_ENGINE_PHI3);
    struct lr_engine_render r = {
        .request = kit_request(&a, LR_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                                          "\"content\":\" \\n Hello there\"}]}"))};
    assert_int_equal(ids_of(&t, tok, &r, &got, NULL), 0);
    assert_int_equal(lr_engine_template_text(&t, tok, &r, &b, NULL), 0);
    lr_nn_ids_init(&want, 1000); /* here the text holds no forged token: parsing it is exact */
    assert_int_equal(lr_nn_tok_encode(tok, lr_buf_str(&b), LR_NN_PARSE_SPECIAL, &want, NULL), 0);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.id, want.id, got.n * sizeof *got.id);
    lr_nn_ids_free(&got);
    lr_nn_ids_free(&want);
    lr_buf_free(&b);
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
    lr_nn_gguf_close(g);
}

/* ---- replies ---- */

static const char *const kinds[] = {
    [LR_PART_TEXT] = "text", [LR_PART_REASONING] = "think", [LR_PART_TOOL_CALL] = "call"};

/* Events as text: "think(..) text(..) call:name(..)"; parts number themselves. */
struct log {
    struct lr_buf b;
    unsigned part;
    bool open;
};

static int note(void *ctx, const struct lr_event *ev)
{
    struct log *l = ctx;
    assert_int_equal(ev->part, l->part);
    if (ev->type == LR_EV_PART) {
        assert_false(l->open);
        l->open = true;
        lr_buf_addf(&l->b, "%s%s%.*s(", kinds[ev->sub], ev->b.n ? ":" : "", LR_FMT(ev->b));
    } else if (ev->type == LR_EV_DELTA) {
        assert_true(l->open && ev->a.n);
        lr_buf_adds(&l->b, ev->a);
    } else {
        assert_true(l->open && ev->type == LR_EV_PART_END);
        l->open = false;
        l->part++;
        lr_buf_addz(&l->b, ")");
    }
    return l->b.rc;
}

static int run_reply(const struct lr_engine_template *t, struct lr_str text, size_t piece,
                     struct log *l)
{
    struct lr_engine_reply *r;
    unsigned calls;
    struct lr_engine_reply_opts o = {.tmpl = t, .tools = true, .id = "x", .fn = note, .ctx = l};
    l->part = 0;
    l->open = false;
    lr_buf_reset(&l->b);
    LR_TRY(lr_engine_reply_open(&r, &o));
    int rc = 0;
    for (size_t at = 0; at < text.n && !rc; at += piece)
        rc = lr_engine_reply_feed(r, lr_str(text.p + at, piece < text.n - at ? piece : text.n - at));
    if (!rc)
        rc = lr_engine_reply_end(r, &calls);
    lr_engine_reply_close(r);
    return rc;
}

static const struct {
    enum lr_engine_family family;
    bool think, think_open;
    const char *in, *out;
} replies[] = {
    {LR_ENGINE_LLAMA3, 0, 0, "plain <tool_call>", "text(plain <tool_call>)"},
    {LR_ENGINE_LLAMA3, 0, 0, "", ""},
    {LR_ENGINE_QWEN3, 1, 0, "<think>\nhm, hm\n</think>\n\nYes. ", "think(hm, hm)text(Yes. )"},
    {LR_ENGINE_QWEN3, 1, 0, "<think>\n\n</think>\n\nYes", "text(Yes)"},
    {LR_ENGINE_QWEN3, 1, 0, "<thinking>", "text(<thinking>)"},
    {LR_ENGINE_QWEN3, 1, 0, "<thi", "text(<thi)"},
    {LR_ENGINE_DEEPSEEK_R1, 1, 1, "so </thin so</think>\n\nYes", "think(so </thin so)text(Yes)"},
    {LR_ENGINE_DEEPSEEK_R1, 1, 1, "cut off", "think(cut off)"},
    {LR_ENGINE_QWEN25, 0, 0,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"</x>\"]}}\n</tool_call>",
     "call:f({\"a\": [1, \"</x>\"]})"},
    {LR_ENGINE_QWEN25, 0, 0,
     "Look:\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n"
     "{\"arguments\": {\"b\":2}, \"name\": \"g\"}\n</tool_call>\n",
     "text(Look:)call:f({})call:g({\"b\":2})"},
    {LR_ENGINE_QWEN25, 0, 0, "<tool_call>no JSON</tool_call> is text ",
     "text(<tool_call>no JSON</tool_call> is text )"},
    {LR_ENGINE_QWEN25, 0, 0, "a  <tool_call>{\"name\": \"f\"", "text(a  <tool_call>{\"name\": \"f\")"},
    {LR_ENGINE_QWEN25, 0, 0, "a <tool_ b  <", "text(a <tool_ b  <)"},
    {LR_ENGINE_QWEN25, 0, 0, "<tool_call>{\"name\":\"f\"}</tool_call> x  y <tool_call>{}</tool_call>",
     "call:f({})text(x  y <tool_call>{}</tool_call>)"},
    {LR_ENGINE_MISTRAL3, 0, 0,
     "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": "
     "\"{}\"}]",
     "call:f({\"a\": 1})call:g({})"},
    {LR_ENGINE_MISTRAL3, 0, 0, "See [TOOL_CALLS] [{\"name\": 1}]", "text(See [TOOL_CALLS] [{\"name\": 1}])"},
    {LR_ENGINE_LLAMA31, 0, 0, "{\"name\": \"f\", \"parameters\": {\"a\": \"}\"}}",
     "call:f({\"a\": \"}\"})"},
    {LR_ENGINE_LLAMA31, 0, 0, "\n<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "call:f({})"},
    {LR_ENGINE_LLAMA31, 0, 0, " \n Hello {\"name\"", "text( \n Hello {\"name\")"},
    {LR_ENGINE_LLAMA31, 0, 0, "{\"answer\": 42}", "text({\"answer\": 42})"},
};

static void replies_are_cut_into_parts_however_they_arrive(void **state)
{
    struct log l;
    (void)state; /* cmocka's */
    lr_buf_init(&l.b, LR_KIB(64));
    for (size_t i = 0; i < LR_COUNT(replies); i++)
        for (size_t piece = 1; piece < 100; piece += piece < 20 ? 1 : 40) {
            struct lr_engine_template t = {.family = replies[i].family, .think = replies[i].think,
                                           .think_open = replies[i].think_open};
            assert_int_equal(run_reply(&t, lr_strz(replies[i].in), piece, &l), 0);
            if (!lr_str_is(lr_buf_str(&l.b), replies[i].out))
                fail_msg("%s in pieces of %zu: %.*s", replies[i].in, piece, LR_FMT(lr_buf_str(&l.b)));
        }
    lr_buf_free(&l.b);
}

/* ---- faults ---- */

static void every_failing_allocation_is_a_clean_error(void **state)
{
    struct lr_arena a;
    struct lr_nn_tok *tok = kit_tok(NULL, 0);
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    for (const struct lr_json *c = kit_golden(&a, "templates.json")->child; c; c = c->next) {
        struct lr_engine_template t;
        struct lr_engine_render r = {.request = kit_request(&a, lr_json_get(c, "request")->raw)};
        assert_int_equal(lr_engine_template_match(lr_json_get(c, "template")->text, &t, NULL), 0);
        int rc = -1;
        for (uint64_t n = 1; rc; n++) {
            struct lr_nn_ids ids;
            lr_fault_arm(n);
            rc = ids_of(&t, tok, &r, &ids, NULL);
            lr_fault_arm(0);
            assert_true(rc == 0 || rc == LR_ENOMEM);
            lr_nn_ids_free(&ids);
        }
    }
    for (size_t i = 0; i < LR_COUNT(replies); i++) {
        struct lr_engine_template t = {.family = replies[i].family, .think = replies[i].think};
        struct log l;
        int rc = -1;
        for (uint64_t n = 1; rc; n++) {
            lr_buf_init(&l.b, LR_KIB(64));
            lr_fault_arm(n);
            rc = run_reply(&t, lr_strz(replies[i].in), 3, &l);
            lr_fault_arm(0);
            assert_true(rc == 0 || rc == LR_ENOMEM);
            lr_buf_free(&l.b);
        }
    }
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_texts_are_what_the_templates_render),
        cmocka_unit_test(unknown_templates_are_refused_with_their_beginning),
        cmocka_unit_test(no_template_is_plain),
        cmocka_unit_test(ids_spell_the_text),
        cmocka_unit_test(users_cannot_write_control_tokens),
        cmocka_unit_test(prefixes_of_conversations_are_prefixes_of_tokens),
        cmocka_unit_test(what_has_no_place_is_refused_by_name),
        cmocka_unit_test(stops_are_tokens_where_there_are_tokens),
        cmocka_unit_test(phi3_swallows_white_space_as_its_tokeniser_does),
        cmocka_unit_test(replies_are_cut_into_parts_however_they_arrive),
        cmocka_unit_test(every_failing_allocation_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
