/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/test_completion.c - Completions: requests. The answers are among test_chat.c's
 * golden ones, with which they share their code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec.h"

static int parse(struct lr_arena *a, const char *body, struct lr_request **r, struct lr_err *err)
{
    return lr_request_parse(a, LR_DIALECT_COMPLETION, lr_strz(body), r, err);
}

static void sampling_is_canonical_and_the_rest_counts_as_extra(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_request *r;
    lr_arena_init(&a, LR_MIB(1));
    assert_int_equal(
        parse(&a,
              "{\"model\":\"m\",\"prompt\":\"Once\",\"max_tokens\":7,\"logprobs\":2,"
              "\"stop\":[\"a\",\"b\"],\"n\":2,\"suffix\":\"x\",\"echo\":true,\"best_of\":3,"
              "\"user\":\"u\",\"stream\":true}",
              &r, NULL),
        0);
    assert_true(lr_str_is(r->prompt->text, "Once"));
    assert_int_equal(r->max_tokens, 7);
    assert_int_equal(r->n_stop, 2);
    assert_int_equal(r->n, 2);
    assert_true(lr_str_is(r->logprobs->text, "2"));
    const char *const extras[] = {"suffix", "echo", "best_of"};
    const struct lr_extra *x = r->extra;
    for (size_t i = 0; i < LR_COUNT(extras); i++, x = x->next)
        assert_true(x && lr_str_is(x->v->key, extras[i]));
    assert_null(x);
    assert_true(lr_str_is(r->quiet->v->key, "user") && !r->quiet->next);
    lr_arena_free(&a);
}

static void prompts_are_checked_with_their_path(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *where;
    } rows[] = {
        {"\"a\"", NULL},
        {"[\"a\",\"b\"]", NULL},
        {"[1,2]", NULL},
        {"[[1],[2]]", NULL},
        {"null", NULL},
        {"{}", "prompt"},
        {"7", "prompt"},
        {"[\"a\",{}]", "prompt[1]"},
        {"[[1],[\"a\"]]", "prompt[1]"},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_arena a;
        struct lr_request *r;
        struct lr_err err = {0};
        char body[128];
        lr_arena_init(&a, LR_MIB(1));
        snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":%s}", rows[i].prompt);
        assert_int_equal(parse(&a, body, &r, &err), rows[i].where ? LR_EINVAL : 0);
        assert_string_equal(err.where, rows[i].where ? rows[i].where : "");
        lr_arena_free(&a);
    }
}

static void streams_are_asked_for_their_usage(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_request *r;
    struct lr_buf out;
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, 4096);
    assert_int_equal(parse(&a, "{\"model\":\"m\",\"prompt\":\"a\",\"stream\":true}", &r, NULL), 0);
    assert_int_equal(lr_request_forward(&a, r, LR_STR("m"), &out), 0);
    struct lr_request *again;
    assert_int_equal(lr_request_parse(&a, LR_DIALECT_COMPLETION, lr_buf_str(&out), &again, NULL),
                     0);
    assert_true(again->include_usage && again->stream && !r->include_usage);
    lr_buf_free(&out);
    lr_arena_free(&a);
}

static void a_prompt_has_no_counterpart_in_a_conversation(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_request *r;
    struct lr_buf out, dropped;
    struct lr_err err = {0};
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, 4096);
    lr_buf_init(&dropped, 4096);
    assert_int_equal(parse(&a, "{\"model\":\"m\",\"prompt\":\"a\",\"x\":1}", &r, NULL), 0);
    assert_int_equal(lr_request_write(r, LR_DIALECT_CHAT, LR_STR("m"), 1, &out, &dropped, &err),
                     LR_EUNSUPPORTED);
    assert_int_equal(
        lr_request_write(r, LR_DIALECT_COMPLETION, LR_STR("n"), 1, &out, &dropped, NULL), 0);
    assert_true(lr_str_is(lr_buf_str(&out), "{\"model\":\"n\",\"prompt\":\"a\",\"x\":1}"));
    lr_buf_free(&out);
    lr_buf_free(&dropped);
    lr_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_is_canonical_and_the_rest_counts_as_extra),
        cmocka_unit_test(prompts_are_checked_with_their_path),
        cmocka_unit_test(streams_are_asked_for_their_usage),
        cmocka_unit_test(a_prompt_has_no_counterpart_in_a_conversation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
