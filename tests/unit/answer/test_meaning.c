/* SPDX-License-Identifier: Apache-2.0
 * answer/test_meaning.c - partitions and turns: what may differ between two requests, and what not.
 */
#include "answer/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const uint8_t secret[32] = {"0123456789abcdef0123456789abcde"};
static struct lr_arena arena;

static const char *read_as(enum lr_dialect_id d, const char *body, struct lr_meaning *m)
{
    struct lr_request *r = NULL;
    struct lr_err err = {0};
    struct lr_key k;
    if (lr_request_parse(&arena, d, lr_strz(body), &r, &err))
        fail_msg("%s: %s\n%s", err.where, err.msg, body);
    assert_int_equal(lr_key_request(&arena, r, secret, NULL, 0, &k), 0);
    return lr_meaning_read(&arena, r, &k, secret, m);
}

static struct lr_meaning get(const char *body)
{
    struct lr_meaning m;
    const char *why = read_as(LR_DIALECT_CHAT, body, &m);
    if (why)
        fail_msg("%s: %s", why, body);
    return m;
}

static void refused(const char *body, const char *reason)
{
    struct lr_meaning m;
    const char *why = read_as(LR_DIALECT_CHAT, body, &m);
    assert_non_null(why);
    assert_string_equal(why, reason);
}

#define U(t)             "{\"role\":\"user\",\"content\":\"" t "\"}"
#define A(t)             "{\"role\":\"assistant\",\"content\":\"" t "\"}"
#define S(t)             "{\"role\":\"system\",\"content\":\"" t "\"}"
#define CHAT(msgs, rest) "{\"model\":\"m\",\"messages\":[" msgs "]" rest "}"

static bool one_partition(const char *a, const char *b)
{
    struct lr_meaning x = get(a), y = get(b);
    return lr_digest_eq(&x.partition, &y.partition);
}

static void only_what_is_said_may_differ(void **s)
{
    (void)s;
    lr_arena_init(&arena, LR_MIB(64));
    const char *base = CHAT(S("be kind") "," U("one"), "");
    assert_true(one_partition(base, CHAT(S("be kind") "," U("another question"), "")));
    assert_true(one_partition(base, CHAT(S("be kind") "," U("one"), ",\"stream\":true")));
    assert_false(one_partition(base, CHAT(S("be rude") "," U("one"), "")));
    assert_false(one_partition(base, CHAT(U("one"), "")));
    assert_false(one_partition(base, CHAT(S("be kind") "," U("one"), ",\"temperature\":0.5")));
    assert_false(one_partition(base, CHAT(S("be kind") "," U("one"), ",\"foo\":1")));
    assert_false(
        one_partition(base, "{\"model\":\"n\",\"messages\":[" S("be kind") "," U("one") "]}"));
    assert_false(one_partition(
        base, CHAT(S("be kind") "," U("one"), ",\"response_format\":{\"type\":\"json_object\"}")));
    lr_arena_free(&arena);
}

static void the_text_of_parts_is_one_question(void **s)
{
    (void)s;
    lr_arena_init(&arena, LR_MIB(64));
    struct lr_meaning m = get(CHAT("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\" "
                                   "a \"},{\"type\":\"text\",\"text\":\"b\"}]}",
                                   ""));
    assert_int_equal(m.n_turns, 1);
    assert_true(lr_str_is(m.turn[0].text, "a \nb"));
    assert_int_equal(m.before.n, 0);
    lr_arena_free(&arena);
}

static void turns_have_the_id_of_their_own_request(void **s)
{
    (void)s;
    lr_arena_init(&arena, LR_MIB(64));
    struct lr_meaning one = get(CHAT(S("s") "," U("who"), ",\"seed\":1"));
    struct lr_meaning two =
        get(CHAT(S("s") "," U("who") "," A("me ") "," U("and?"), ",\"seed\":1"));
    struct lr_meaning other =
        get(CHAT(S("s") "," U("who") "," A("you") "," U("and?"), ",\"seed\":1"));
    assert_int_equal(two.n_turns, 2);
    assert_true(lr_digest_eq(&one.turn[0].id, &two.turn[0].id));
    assert_true(lr_digest_eq(&two.turn[0].id, &other.turn[0].id));
    assert_false(lr_digest_eq(&two.turn[1].id, &other.turn[1].id));
    assert_false(lr_digest_eq(&two.turn[0].said, &other.turn[0].said));
    assert_true(lr_digest_eq(&one.partition, &two.partition));
    assert_true(lr_str_is(two.before, "who\nme"));
    struct lr_meaning seed = get(CHAT(S("s") "," U("who"), ",\"seed\":2"));
    assert_false(lr_digest_eq(&one.turn[0].id, &seed.turn[0].id));
    lr_arena_free(&arena);
}

static void what_is_no_plain_question_is_refused_by_name(void **s)
{
    (void)s;
    lr_arena_init(&arena, LR_MIB(64));
    refused(CHAT(U("a") "," A("b"), ""), "last-turn");
    refused(CHAT("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
                 "\"http://x/y.png\"}}]}",
                 ""),
            "media");
    refused(CHAT("{\"role\":\"user\",\"name\":\"bob\",\"content\":\"hi\"}", ""), "media");
    refused(CHAT(U("a") "," U("b"), ""), "turns");
    refused(CHAT(A("a") "," U("b"), ""), "turns");
    refused(CHAT(U(" "), ""), "empty");
    refused(CHAT(U("call") ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":"
                           "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{"
                           "\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"x\"}," U("and"),
                 ""),
            "turns");
    char long_one[8192] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"";
    size_t n = strlen(long_one);
    memset(long_one + n, 'x', 5000);
    strcpy(long_one + n + 5000, "\"}]}");
    refused(long_one, "too-long");
    char many[4096] = "{\"model\":\"m\",\"messages\":[";
    for (unsigned i = 0; i <= LR_MEANING_TURNS; i++)
        strcat(many, U("q") "," A("a") ",");
    strcat(many, U("q") "]}");
    refused(many, "turns");
    lr_arena_free(&arena);
}

static void dialects_share_partitions(void **s)
{
    (void)s;
    struct lr_meaning x, y;
    lr_arena_init(&arena, LR_MIB(64));
    assert_null(read_as(LR_DIALECT_CHAT, CHAT(S("s") "," U("a"), ",\"max_tokens\":5"), &x));
    assert_null(read_as(
        LR_DIALECT_MESSAGES,
        "{\"model\":\"m\",\"system\":\"s\",\"max_tokens\":5,\"messages\":[" U("b") "]}", &y));
    assert_true(lr_digest_eq(&x.partition, &y.partition));
    lr_arena_free(&arena);
}

static void append(struct lr_buf *log, enum lr_event_type type, unsigned sub, const char *a)
{
    struct lr_event ev = {.type = type, .sub = (uint8_t)sub, .a = lr_strz(a)};
    assert_int_equal(lr_event_append(log, &ev), 0);
}

static void a_stored_answer_and_the_next_request_agree_on_what_was_said(void **s)
{
    (void)s;
    lr_arena_init(&arena, LR_MIB(64));
    struct lr_buf log;
    struct lr_digest said;
    lr_buf_init(&log, LR_KIB(64));
    append(&log, LR_EV_START, 0, "id");
    append(&log, LR_EV_PART, LR_PART_TEXT, "");
    append(&log, LR_EV_DELTA, 0, "me\n");
    append(&log, LR_EV_PART_END, 0, "");
    append(&log, LR_EV_FINISH, LR_FINISH_STOP, "");
    append(&log, LR_EV_END, 0, "");
    assert_true(lr_meaning_said(lr_buf_str(&log), secret, &said));
    struct lr_meaning two = get(CHAT(U("who") "," A("me") "," U("and?"), ""));
    assert_true(lr_digest_eq(&said, &two.turn[0].said));
    lr_buf_reset(&log);
    append(&log, LR_EV_START, 0, "id");
    append(&log, LR_EV_PART, LR_PART_TOOL_CALL, "x");
    append(&log, LR_EV_DELTA, 0, "{}");
    assert_false(lr_meaning_said(lr_buf_str(&log), secret, &said));
    assert_false(lr_meaning_said(LR_STR("\xff\xff"), secret, &said));
    lr_buf_free(&log);
    lr_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_said_may_differ),
        cmocka_unit_test(the_text_of_parts_is_one_question),
        cmocka_unit_test(turns_have_the_id_of_their_own_request),
        cmocka_unit_test(what_is_no_plain_question_is_refused_by_name),
        cmocka_unit_test(dialects_share_partitions),
        cmocka_unit_test(a_stored_answer_and_the_next_request_agree_on_what_was_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
