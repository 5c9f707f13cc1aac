/* SPDX-License-Identifier: Apache-2.0
 * answer/test_key.c - the identity of requests: what counts, what does not, and who is told what.
 */
#include "answer/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t secret[32] = {"0123456789abcdef0123456789abcde"};
static struct lr_arena arena;

static struct lr_request *parse(enum lr_dialect_id d, const char *body)
{
    struct lr_request *r = NULL;
    struct lr_err err = {0};
    if (lr_request_parse(&arena, d, lr_strz(body), &r, &err))
        fail_msg("%s: %s\n%s", err.where, err.msg, body);
    return r;
}

static struct lr_key key_in(enum lr_dialect_id d, const char *body)
{
    struct lr_key k;
    assert_int_equal(lr_key_request(&arena, parse(d, body), secret, NULL, 0, &k), 0);
    return k;
}

static void reset(void)
{
    lr_arena_free(&arena);
    lr_arena_init(&arena, LR_MIB(256));
}

static void same(enum lr_dialect_id d, const char *a, enum lr_dialect_id e, const char *b)
{
    struct lr_key x = key_in(d, a), y = key_in(e, b);
    char where[48] = "";
    if (!lr_digest_eq(&x.exact, &y.exact)) {
        lr_key_differ(x.members, x.n_members, y.members, y.n_members, where);
        fail_msg("differ at %s:\n%s\n%s", where, a, b);
    }
    assert_int_equal(lr_key_differ(x.members, x.n_members, y.members, y.n_members, where),
                     LR_ENOENT);
    reset();
}

static void differ(enum lr_dialect_id d, const char *a, const char *b, const char *member)
{
    struct lr_key x = key_in(d, a), y = key_in(d, b);
    char where[48] = "";
    if (lr_digest_eq(&x.exact, &y.exact))
        fail_msg("one key:\n%s\n%s", a, b);
    assert_int_equal(lr_key_differ(x.members, x.n_members, y.members, y.n_members, where), 0);
    assert_string_equal(where, member);
    assert_int_equal(lr_key_differ(y.members, y.n_members, x.members, x.n_members, where), 0);
    assert_string_equal(where, member);
    reset();
}

#define CHAT       LR_DIALECT_CHAT
#define USER       "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define BASE       "{\"model\":\"m\"," USER "}"
#define WITH(more) "{\"model\":\"m\"," USER "," more "}"

static void the_closed_list_does_not_count(void **state)
{
    (void)state;
    static const char *const quiet[] = {
        "\"stream\":true",
        "\"stream\":true,\"stream_options\":{\"include_usage\":true}",
        "\"user\":\"u-1\"",
        "\"safety_identifier\":\"s\"",
        "\"metadata\":{\"a\":\"b\"}",
        "\"store\":true",
        "\"service_tier\":\"flex\"",
        "\"n\":2",
        "\"max_tokens\":5",
        "\"max_completion_tokens\":7",
        "\"temperature\":null"};
    for (size_t i = 0; i < LR_COUNT(quiet); i++) {
        char body[300];
        snprintf(body, sizeof body, "{\"model\":\"m\"," USER ",%s}", quiet[i]);
        same(CHAT, BASE, CHAT, body);
    }
    same(LR_DIALECT_MESSAGES, "{\"model\":\"m\",\"max_tokens\":5," USER "}", LR_DIALECT_MESSAGES,
         "{\"model\":\"m\",\"max_tokens\":9,\"metadata\":{\"user_id\":\"x\"},\"stream\":true," USER
         "}");
}

static void every_other_member_counts_and_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *more, *name;
    } rows[] = {
        {"\"temperature\":0", "temperature"},
        {"\"top_p\":1", "top_p"},
        {"\"seed\":7", "seed"},
        {"\"stop\":\"x\"", "stop"},
        {"\"presence_penalty\":0.5", "presence_penalty"},
        {"\"frequency_penalty\":0.5", "frequency_penalty"},
        {"\"logit_bias\":{\"5\":1}", "logit_bias"},
        {"\"logprobs\":true", "logprobs"},
        {"\"reasoning_effort\":\"low\"", "effort"},
        {"\"response_format\":{\"type\":\"json_object\"}", "format"},
        {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", "tools[0]"},
        {"\"parallel_tool_calls\":false", "parallel_tools"},
        {"\"verbosity_of_tomorrow\":1", "chat.verbosity_of_tomorrow"},
        {"\"a b\":1", "chat.?0"},
        {"\"\":1", "chat.?0"},
        {"\"this-name-is-longer-than-thirty-two-bytes\":1", "chat.?0"},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        char body[400];
        snprintf(body, sizeof body, "{\"model\":\"m\"," USER ",%s}", rows[i].more);
        differ(CHAT, BASE, body, rows[i].name);
    }
    differ(CHAT, BASE, "{\"model\":\"n\"," USER "}", "model");
    differ(CHAT, BASE, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"ho\"}]}",
           "messages[0]");
    differ(CHAT, BASE, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"hi\"}]}",
           "messages[0]");
    differ(CHAT, BASE,
           "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\",\"x\":1}]}",
           "messages[0]");
}

static void numbers_count_by_value(void **state)
{
    (void)state;
    same(CHAT, WITH("\"temperature\":0.7"), CHAT, WITH("\"temperature\":0.70"));
    same(CHAT, WITH("\"temperature\":0.7"), CHAT, WITH("\"temperature\":7e-1"));
    same(CHAT, WITH("\"unknown\":[1,{\"a\":10}]"), CHAT, WITH("\"unknown\":[1.0,{\"a\":1e1}]"));
    differ(CHAT, WITH("\"temperature\":0.7"), WITH("\"temperature\":0.71"), "temperature");
    differ(CHAT, WITH("\"seed\":9007199254740993"), WITH("\"seed\":9007199254740992"), "seed");
    differ(CHAT, WITH("\"unknown\":1"), WITH("\"unknown\":\"1\""), "chat.unknown");
    differ(CHAT, WITH("\"unknown\":\"[1]\""), WITH("\"unknown\":[1]"), "chat.unknown");
}

static void a_string_is_one_text_part(void **state)
{
    (void)state;
    same(CHAT, BASE, CHAT,
         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
         "\"text\":"
         "\"\\u0068i\"}]}]}");
    differ(CHAT, BASE,
           "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
           "\"text\":"
           "\"h\"},{\"type\":\"text\",\"text\":\"i\"}]}]}",
           "messages[0]");
    same(CHAT, WITH("\"stop\":\"x\""), CHAT, WITH("\"stop\":[\"x\"]"));
}

#define IMAGE(url)                                                                                 \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","      \
    "\"image_url\":{\"url\":\"" url "\"}}]}]}"

static void media_count_by_what_they_decode_to(void **state)
{
    (void)state;
    same(CHAT, IMAGE("data:image/png;base64,aGVsbG8="), CHAT,
         IMAGE("data:image/png;base64,aGVsbG8"));
    differ(CHAT, IMAGE("data:image/png;base64,aGVsbG8="), IMAGE("data:image/png;base64,aGVsbG9="),
           "messages[0]");
    differ(CHAT, IMAGE("data:image/png;base64,aGVsbG8="), IMAGE("data:image/gif;base64,aGVsbG8="),
           "messages[0]");
    differ(CHAT, IMAGE("https://e.org/a.png"), IMAGE("https://e.org/b.png"), "messages[0]");
}

#define CALL(id1, args, id2)                                                                       \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":"             \
    "\"assistant\","                                                                               \
    "\"tool_calls\":[{\"id\":\"" id1 "\",\"type\":\"function\",\"function\":{\"name\":\"f\","      \
    "\"arguments\":\"" args                                                                        \
    "\"}},{\"id\":\"z\",\"type\":\"function\",\"function\":{\"name\":\"g\","                       \
    "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"" id2                          \
    "\",\"content\":\"42\"}]}"

static void tool_call_ids_count_by_order_of_appearance(void **state)
{
    (void)state;
    same(CHAT, CALL("a", "{}", "a"), CHAT, CALL("call_77", "{}", "call_77"));
    differ(CHAT, CALL("a", "{}", "a"), CALL("a", "{}", "z"), "messages[2]");
    differ(CHAT, CALL("a", "{}", "a"), CALL("a", "{}", "stranger"), "messages[2]");
}

static void arguments_count_as_json_where_they_are(void **state)
{
    (void)state;
    same(CHAT, CALL("a", "{\\\"x\\\":1,\\\"y\\\":2}", "a"), CHAT,
         CALL("a", " { \\\"y\\\": 2.0, \\\"x\\\": 1e0 } ", "a"));
    differ(CHAT, CALL("a", "{\\\"x\\\":1}", "a"), CALL("a", "{\\\"x\\\":2}", "a"), "messages[1]");
    differ(CHAT, CALL("a", "{\\\"x\\\":1", "a"), CALL("a", "{\\\"x\\\": 1", "a"), "messages[1]");
}

static void one_conversation_has_one_key_in_three_dialects(void **state)
{
    (void)state;
    const char *chat =
        "{\"model\":\"m\",\"temperature\":0.5,\"messages\":[{\"role\":\"system\",\"content\":\"be "
        "kind\"},"
        "{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yes?\"},"
        "{\"role\":\"user\",\"content\":\"two\"}]}";
    same(CHAT, chat, LR_DIALECT_MESSAGES,
         "{\"model\":\"m\",\"max_tokens\":50,\"temperature\":5e-1,\"system\":\"be "
         "kind\",\"messages\":["
         "{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":[{\"type\":"
         "\"text\","
         "\"text\":\"yes?\"}]},{\"role\":\"user\",\"content\":\"two\"}]}");
    same(CHAT, chat, LR_DIALECT_RESPONSES,
         "{\"model\":\"m\",\"temperature\":0.50,\"store\":false,\"instructions\":\"be "
         "kind\",\"input\":["
         "{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":[{\"type\":"
         "\"output_text\",\"text\":\"yes?\"}]},{\"role\":\"user\",\"content\":[{\"type\":\"input_"
         "text\","
         "\"text\":\"two\"}]}]}");
    same(CHAT,
         "{\"model\":\"m\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
         "\"description\":\"d\","
         "\"parameters\":{\"type\":\"object\",\"properties\":{}}}}],\"tool_choice\":\"auto\"," USER
         "}",
         LR_DIALECT_MESSAGES,
         "{\"max_tokens\":1,\"tool_choice\":{\"type\":\"auto\"},\"tools\":[{\"input_schema\":{"
         "\"properties\":"
         "{},\"type\":\"object\"},\"description\":\"d\",\"name\":\"f\"}],\"model\":\"m\"," USER
         "}");
}

static void tool_results_have_one_key_in_two_dialects(void **state)
{
    (void)state;
    same(CHAT, CALL("a", "{\\\"x\\\":1}", "a"), LR_DIALECT_MESSAGES,
         "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{"
         "\"role\":"
         "\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":"
         "{\"x\":1}},"
         "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\",\"input\":{}}]},{\"role\":\"user\","
         "\"content\":["
         "{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"42\"}]}]}");
}

static void another_tenant_has_another_key_and_other_members(void **state)
{
    (void)state;
    uint8_t other[32] = {9};
    struct lr_key a = key_in(CHAT, BASE), b;
    assert_int_equal(lr_key_request(&arena, parse(CHAT, BASE), other, NULL, 0, &b), 0);
    assert_false(lr_digest_eq(&a.exact, &b.exact));
    assert_int_equal(a.n_members, b.n_members);
    for (size_t i = 0; i < a.n_members; i++)
        assert_true(a.members[i].digest != b.members[i].digest);
    assert_true(a.blocks[0] != b.blocks[0]);
    reset();
}

static void headers_count_under_their_name(void **state)
{
    (void)state;
    struct lr_key_header h = {"anthropic-beta", LR_STR("x")};
    struct lr_key a = key_in(CHAT, BASE), b, c;
    char where[48];
    assert_int_equal(lr_key_request(&arena, parse(CHAT, BASE), secret, &h, 1, &b), 0);
    assert_int_equal(lr_key_differ(a.members, a.n_members, b.members, b.n_members, where), 0);
    assert_string_equal(where, "header.anthropic-beta");
    h.value = LR_STR("y");
    assert_int_equal(lr_key_request(&arena, parse(CHAT, BASE), secret, &h, 1, &c), 0);
    assert_false(lr_digest_eq(&b.exact, &c.exact));
    reset();
}

static void names_of_clients_show_no_text(void **state)
{
    (void)state;
    struct lr_key k =
        key_in(CHAT, WITH("\"my secret\":1,\"other secret\":2,\"p\\u00e4ss\":3,\"ok-1.x\":4"));
    const char *want[] = {"chat.?0", "chat.?1", "chat.?2", "chat.ok-1.x"};
    for (size_t i = 0; i < LR_COUNT(want); i++)
        assert_string_equal(k.members[i].name, want[i]);
    reset();
    same(CHAT, WITH("\"x y\":1,\"z w\":2"), CHAT, WITH("\"z w\":2,\"x y\":1"));
    differ(CHAT, WITH("\"x y\":1"), WITH("\"z w\":1"), "chat.?0");
}

static char *many(size_t n, const char *last)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    lr_buf_addz(&b, "{\"model\":\"m\",\"messages\":[");
    for (size_t i = 0; i < n; i++)
        lr_buf_addf(&b, "%s{\"role\":\"user\",\"content\":\"%s\"}", i ? "," : "",
                    i + 1 == n ? last : "x");
    lr_buf_add(&b, "]}", 3);
    assert_int_equal(b.rc, 0);
    return b.p;
}

static void more_than_512_members_are_folded_but_count(void **state)
{
    (void)state;
    char *a = many(700, "one"), *b = many(700, "two");
    struct lr_key k = key_in(CHAT, a);
    assert_int_equal(k.n_members, 512);
    assert_string_equal(k.members[511].name, "rest");
    assert_int_equal(k.n_blocks, LR_KEY_BLOCKS_MAX);
    differ(CHAT, a, b, "rest");
    lr_free(a);
    lr_free(b);
}

static void blocks_are_shared_as_far_as_prompts_are(void **state)
{
    (void)state;
    char *a = many(20, "one"), *b = many(20, "two");
    struct lr_key x = key_in(CHAT, a), y = key_in(CHAT, b);
    assert_true(x.n_blocks == 20 && y.n_blocks == 20);
    assert_memory_equal(x.blocks, y.blocks, 19 * sizeof x.blocks[0]);
    assert_true(x.blocks[19] != y.blocks[19]);
    assert_true(x.blocks[0] != x.blocks[1]);
    lr_free(a);
    lr_free(b);
    reset();
}

static void inputs_have_keys_of_their_own(void **state)
{
    (void)state;
    struct lr_request *one = parse(LR_DIALECT_EMBEDDING, "{\"model\":\"e\",\"input\":\"b\"}");
    struct lr_request *two =
        parse(LR_DIALECT_EMBEDDING, "{\"input\":[\"a\",\"b\",[1,2]],\"model\":\"e\"}");
    struct lr_request *dim =
        parse(LR_DIALECT_EMBEDDING, "{\"model\":\"e\",\"input\":\"b\",\"dimensions\":8}");
    struct lr_digest x, y, z, t;
    assert_int_equal(lr_key_input(one, 0, secret, NULL, 0, &x), 0);
    assert_int_equal(lr_key_input(two, 1, secret, NULL, 0, &y), 0);
    assert_int_equal(lr_key_input(two, 0, secret, NULL, 0, &z), 0);
    assert_int_equal(lr_key_input(dim, 0, secret, NULL, 0, &t), 0);
    assert_true(lr_digest_eq(&x, &y));
    assert_false(lr_digest_eq(&x, &z));
    assert_false(lr_digest_eq(&x, &t));
    assert_int_equal(lr_key_input(two, 2, secret, NULL, 0, &t), 0);
    assert_int_equal(lr_key_input(two, 3, secret, NULL, 0, &t), LR_EINVAL);
    reset();
}

/* ---- spelling ---- */

static void spell_string(struct lr_rng *r, struct lr_buf *b, struct lr_str s)
{
    lr_buf_addc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == '"' || c == '\\' || (c < 0x7f && lr_rng_below(r, 4) == 0))
            lr_buf_addf(b, lr_rng_below(r, 2) ? "\\u%04x" : "\\u%04X", c);
        else
            lr_buf_addc(b, (char)c);
    }
    lr_buf_addc(b, '"');
}

static void spell_space(struct lr_rng *r, struct lr_buf *b)
{
    static const char blanks[] = " \t\r\n";
    for (uint64_t n = lr_rng_below(r, 3); n; n--)
        lr_buf_addc(b, blanks[lr_rng_below(r, 4)]);
}

static void spell_number(struct lr_rng *r, struct lr_buf *b, struct lr_str s)
{
    bool plain = !memchr(s.p, 'e', s.n) && !memchr(s.p, 'E', s.n), point = memchr(s.p, '.', s.n);
    lr_buf_adds(b, s);
    if (plain && lr_rng_below(r, 2))
        lr_buf_addz(b, point ? "00" : ".0");
    if (plain && lr_rng_below(r, 2))
        lr_buf_addz(b, lr_rng_below(r, 2) ? "e0" : "E+00");
}

static void spell(struct lr_rng *r, struct lr_buf *b, const struct lr_json *v)
{
    const struct lr_json *child[64];
    size_t n = 0;
    spell_space(r, b);
    if (v->type == LR_JSON_STRING) {
        spell_string(r, b, v->text);
    } else if (v->type == LR_JSON_NUMBER) {
        spell_number(r, b, v->text);
    } else if (v->type != LR_JSON_ARRAY && v->type != LR_JSON_OBJECT) {
        lr_buf_adds(b, v->raw);
    } else {
        bool object = v->type == LR_JSON_OBJECT;
        for (const struct lr_json *c = v->child; c; c = c->next)
            child[n++] = c;
        for (size_t i = n; object && i > 1; i--) {
            size_t k = (size_t)lr_rng_below(r, i);
            const struct lr_json *x = child[k];
            child[k] = child[i - 1];
            child[i - 1] = x;
        }
        lr_buf_addc(b, object ? '{' : '[');
        for (size_t i = 0; i < n; i++) {
            if (i)
                lr_buf_addc(b, ',');
            if (object) {
                spell_space(r, b);
                spell_string(r, b, child[i]->key);
                spell_space(r, b);
                lr_buf_addc(b, ':');
            }
            spell(r, b, child[i]);
        }
        spell_space(r, b);
        lr_buf_addc(b, object ? '}' : ']');
    }
    spell_space(r, b);
}

static const char *const rich[] = {
    "{\"model\":\"m-1\",\"messages\":[{\"role\":\"system\",\"content\":\"sys "
    "\\u00e9\"},{\"role\":\"user\","
    "\"name\":\"bob\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"image_url\","
    "\"image_url\":"
    "{\"url\":\"https://e.org/"
    "i.png\",\"detail\":\"low\"}}],\"odd\":{\"b\":1,\"a\":[1,2.50]}},{\"role\":"
    "\"assistant\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":"
    "\"f\",\"arguments\":"
    "\"{\\\"q\\\": "
    "1}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"r\"}],\"tools\":[{\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"q\":{\"type\":"
    "\"integer\",\"minimum\":0}},\"required\":[\"q\"]}}}],\"temperature\":0.7,\"top_p\":1,\"seed\":"
    "42,\"stop\":"
    "[\"a\",\"b\"],\"logit_bias\":{\"50256\":-100,\"11\":5},\"zeta\":1,\"alpha\":{\"y\":[],\"x\":{}"
    "}}",
    "{\"model\":\"c\",\"max_tokens\":100,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],"
    "\"messages\":[{\"role\":"
    "\"user\",\"content\":\"hello\"}],\"top_k\":5,\"temperature\":1,\"stop_sequences\":[\"x\"],"
    "\"thinking\":"
    "{\"type\":\"enabled\",\"budget_tokens\":1024}}"};
static const enum lr_dialect_id rich_dialect[] = {LR_DIALECT_CHAT, LR_DIALECT_MESSAGES};

static void every_spelling_of_a_request_has_its_key(void **state)
{
    (void)state;
    struct lr_buf b;
    struct lr_rng rng;
    lr_buf_init(&b, LR_KIB(64));
    for (size_t which = 0; which < LR_COUNT(rich); which++) {
        struct lr_key want = key_in(rich_dialect[which], rich[which]);
        for (uint64_t seed = 1; seed <= 500; seed++) {
            struct lr_json *v;
            reset();
            lr_rng_seed(&rng, seed);
            lr_buf_reset(&b);
            assert_int_equal(lr_json_parse(&arena, lr_strz(rich[which]), NULL, &v, NULL), 0);
            spell(&rng, &b, v);
            lr_buf_addc(&b, 0);
            struct lr_key k = key_in(rich_dialect[which], b.p);
            if (!lr_digest_eq(&k.exact, &want.exact))
                fail_msg("seed %llu: %s", (unsigned long long)seed, b.p);
        }
        reset();
    }
    lr_buf_free(&b);
}

/* Changes one scalar that counts; returns the name of the member it is in. */
static void changed_once(const char *from, const char *to, const char *member)
{
    char body[2000];
    const char *at = strstr(rich[0], from);
    assert_non_null(at);
    snprintf(body, sizeof body, "%.*s%s%s", (int)(at - rich[0]), rich[0], to, at + strlen(from));
    differ(CHAT, rich[0], body, member);
}

static void every_single_change_is_seen_and_named(void **state)
{
    (void)state;
    changed_once("m-1", "m-2", "model");
    changed_once("sys ", "sys", "messages[0]");
    changed_once("\"system\"", "\"developer\"", "messages[0]");
    changed_once("bob", "eve", "messages[1]");
    changed_once("look", "Look", "messages[1]");
    changed_once("i.png", "j.png", "messages[1]");
    changed_once("\"low\"", "\"high\"", "messages[1]");
    changed_once("\"a\":[1,2.50]", "\"a\":[2.50,1]", "messages[1]");
    changed_once("\"odd\"", "\"odd2\"", "messages[1]");
    changed_once("\"q\\\": 1", "\"q\\\": 2", "messages[2]");
    changed_once("\"content\":\"r\"", "\"content\":\"s\"", "messages[3]");
    changed_once("\"minimum\":0", "\"minimum\":1", "tools[0]");
    changed_once("0.7", "0.8", "temperature");
    changed_once("\"top_p\":1", "\"top_p\":0.9", "top_p");
    changed_once("42", "43", "seed");
    changed_once("[\"a\",\"b\"]", "[\"b\",\"a\"]", "stop");
    changed_once("-100", "100", "logit_bias");
    changed_once("\"zeta\":1", "\"zeta\":2", "chat.zeta");
    changed_once("\"zeta\":1", "\"zetb\":1", "chat.zeta");
    changed_once("\"x\":{}", "\"x\":[]", "chat.alpha");
}

/* The example of docs/formats/key.md, byte by byte, without any code of key.c. */
static void the_worked_example_holds(void **state)
{
    (void)state;
    static const char *const members[3] = {"kind", "messages[0]", "model"};
    static const uint8_t kind[] = {'K', 0};
    static const uint8_t msg[] = {'M', 2, 0, 0, 0, 0,   0,   0,   0, 0, 'P', 1, 1, 0, 2, 0, 0,
                                  0,   0, 0, 0, 0, 'h', 'i', 'E', 0, 0, 0,   0, 0, 0, 0, 0};
    static const uint8_t model[] = {'S', 1, 0, 0, 0, 0, 0, 0, 0, 'm'};
    const struct lr_str values[3] = {{(const char *)kind, sizeof kind},
                                     {(const char *)msg, sizeof msg},
                                     {(const char *)model, sizeof model}};
    struct lr_key k = key_in(CHAT, BASE);
    struct lr_digest d;
    struct lr_blake3 all;
    uint8_t zero[32];
    for (int i = 0; i < 32; i++)
        zero[i] = (uint8_t)i;
    assert_int_equal(lr_key_request(&arena, parse(CHAT, BASE), zero, NULL, 0, &k), 0);
    assert_int_equal(k.n_members, 3);
    lr_blake3_init_keyed(&all, zero);
    lr_blake3_add_str(&all, LR_STR("larder-key-1"));
    lr_blake3_add_u64(&all, 3);
    for (int i = 0; i < 3; i++) {
        lr_blake3_keyed(zero, values[i], &d);
        assert_string_equal(k.members[i].name, members[i]);
        assert_true(k.members[i].digest == lr_le64(d.b));
        lr_blake3_add_str(&all, lr_strz(members[i]));
        lr_blake3_add(&all, d.b, sizeof d.b);
    }
    lr_blake3_out(&all, d.b, sizeof d.b);
    assert_true(lr_digest_eq(&d, &k.exact));
    char hex[65];
    struct lr_buf doc;
    lr_hex(d.b, 32, hex);
    lr_buf_init(&doc, LR_KIB(64));
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/docs/formats/key.md", &doc), 0);
    if (!memmem(doc.p, doc.len, hex, 64))
        fail_msg("docs/formats/key.md lacks %s", hex);
    lr_buf_free(&doc);
    reset();
}

static void each_failing_allocation_is_an_error_not_another_key(void **state)
{
    (void)state;
    struct lr_key want = key_in(CHAT, rich[0]), k;
    struct lr_request *r = parse(CHAT, rich[0]);
    int rc = LR_ENOMEM;
    for (uint64_t n = 1; rc; n++) {
        struct lr_arena a;
        assert_true(n < 1000);
        lr_arena_init(&a, LR_MIB(16));
        assert_int_equal(lr_fault_arm(n), 0);
        rc = lr_key_request(&a, r, secret, NULL, 0, &k);
        lr_fault_arm(0);
        assert_true(rc == LR_ENOMEM || (rc == 0 && lr_digest_eq(&k.exact, &want.exact)));
        lr_arena_free(&a);
    }
    reset();
}

int main(void)
{
    lr_arena_init(&arena, LR_MIB(256));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_closed_list_does_not_count),
        cmocka_unit_test(every_other_member_counts_and_is_named),
        cmocka_unit_test(numbers_count_by_value),
        cmocka_unit_test(a_string_is_one_text_part),
        cmocka_unit_test(media_count_by_what_they_decode_to),
        cmocka_unit_test(tool_call_ids_count_by_order_of_appearance),
        cmocka_unit_test(arguments_count_as_json_where_they_are),
        cmocka_unit_test(one_conversation_has_one_key_in_three_dialects),
        cmocka_unit_test(tool_results_have_one_key_in_two_dialects),
        cmocka_unit_test(another_tenant_has_another_key_and_other_members),
        cmocka_unit_test(headers_count_under_their_name),
        cmocka_unit_test(names_of_clients_show_no_text),
        cmocka_unit_test(more_than_512_members_are_folded_but_count),
        cmocka_unit_test(blocks_are_shared_as_far_as_prompts_are),
        cmocka_unit_test(inputs_have_keys_of_their_own),
        cmocka_unit_test(every_spelling_of_a_request_has_its_key),
        cmocka_unit_test(every_single_change_is_seen_and_named),
        cmocka_unit_test(the_worked_example_holds),
        cmocka_unit_test(each_failing_allocation_is_an_error_not_another_key),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    lr_arena_free(&arena);
    return failed;
}
