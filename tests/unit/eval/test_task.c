/* SPDX-License-Identifier: Apache-2.0
 * eval/test_task.c - nothing can be guessed: answers occur only where they should, samples have the
 * length that was asked for, questions are no part of the body.
 */
#include "eval_kit.h"

#include <ctype.h>

static struct lr_str decoded(struct kit *k, const uint32_t *id, size_t n)
{
    static char text[LR_KIB(256)];
    struct lr_nn_decoder d;
    struct lr_buf b;
    lr_buf_init(&b, sizeof text);
    lr_nn_decoder_init(&d, k->tok, false, false);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(lr_nn_decoder_add(&d, id[i], &b), 0);
    assert_int_equal(lr_nn_decoder_end(&d, &b), 0);
    memcpy(text, b.p ? b.p : "", b.len);
    struct lr_str s = {text, b.len};
    lr_buf_free(&b);
    return s;
}

static size_t times(struct lr_str text, struct lr_str word)
{
    size_t n = 0;
    for (size_t i = 0; i + word.n <= text.n; i++)
        n += memcmp(text.p + i, word.p, word.n) == 0 &&
             (i == 0 || !isalpha((unsigned char)text.p[i - 1])) &&
             (i + word.n == text.n || !isalpha((unsigned char)text.p[i + word.n]));
    return n;
}

static struct lr_eval_spec spec_of(const struct kit *k, enum lr_eval_task t, uint32_t n)
{
    return (struct lr_eval_spec){
        .task = t, .tokens = n, .seed = 5, .words = &k->words, .text = lr_eval_english};
}

static const enum lr_eval_task generated[] = {
    LR_EVAL_SINGLE, LR_EVAL_MULTI_KEY, LR_EVAL_MULTI_QUERY, LR_EVAL_VARIABLE, LR_EVAL_COPY,
    LR_EVAL_TURNS,  LR_EVAL_NEEDLE,    LR_EVAL_RECENT,      LR_EVAL_ABSENT,
};

static void lists_are_disjoint_and_full(void **state)
{
    struct lr_eval_words w;
    (void)state;
    assert_int_equal(lr_eval_words_read(lr_eval_words_text, &w), 0);
    assert_true(lr_str_is(w.key[0], "anchor"));
    assert_int_equal(lr_eval_words_read(LR_STR("keys:\na a\n"), &w), LR_EPARSE);
    assert_int_equal(lr_eval_words_read(LR_STR("stray\n"), &w), LR_EPARSE);
    assert_int_equal(lr_eval_words_read(LR_STR(""), &w), LR_EPARSE);
}

/* Every task and length: parts are where they are said to be, and as long as they may. */
static void samples_have_the_length_asked_for(void **state)
{
    struct kit *k = *state;
    for (size_t t = 0; t < LR_COUNT(generated); t++)
        for (uint32_t n = 512; n <= 2048; n *= 2)
            for (uint64_t i = 0; i < 4; i++) {
                struct lr_eval_spec spec = spec_of(k, generated[t], n);
                struct lr_eval_sample s;
                struct lr_err err = {0};
                lr_arena_reset(&k->arena);
                if (lr_eval_sample(&spec, &k->coder, i, &k->arena, &s, &err))
                    fail_msg("%s %u: %s", lr_eval_task_name(generated[t]), n, err.msg);
                assert_true(s.n <= n);
                assert_true(s.n + 60 >= n); /* a sentence less, at most */
                assert_int_equal(s.body, s.turn[0].ask);
                assert_int_equal(s.id[0], lr_nn_tok_roles(k->tok)->bos);
                assert_int_equal(s.turn[s.n_turn - 1].end, s.n);
                struct lr_str text = decoded(k, s.id, s.n);
                if (s.text.p[0] != ' ') /* the tokeniser's own */
                    text = lr_str(text.p + 1, text.n - 1);
                assert_true(text.n == s.text.n && memcmp(text.p, s.text.p, text.n) == 0);
                for (uint32_t q = 0; q < s.n_turn; q++) {
                    struct lr_str ask =
                        decoded(k, s.id + s.turn[q].ask, s.turn[q].answer - s.turn[q].ask);
                    assert_non_null(memmem(ask.p, ask.n, "\n? ", 3));
                    assert_null(memmem(ask.p, ask.n, s.turn[q].text.p, s.turn[q].text.n));
                    struct lr_str answer =
                        decoded(k, s.id + s.turn[q].answer, s.turn[q].end - s.turn[q].answer);
                    assert_true(answer.p[0] == ' ');
                    assert_memory_equal(answer.p + 1, s.turn[q].text.p, s.turn[q].text.n);
                }
            }
}

/* The body holds each asked key once, with the value behind it, and `from` and `to` point at it. */
static void answers_stand_once_and_behind_their_key(void **state)
{
    struct kit *k = *state;
    static const enum lr_eval_task pairs[] = {LR_EVAL_SINGLE,      LR_EVAL_MULTI_KEY,
                                              LR_EVAL_MULTI_QUERY, LR_EVAL_TURNS,
                                              LR_EVAL_NEEDLE,      LR_EVAL_RECENT};
    for (size_t t = 0; t < LR_COUNT(pairs); t++)
        for (uint64_t i = 0; i < 8; i++) {
            struct lr_eval_spec spec = spec_of(k, pairs[t], 512);
            struct lr_eval_sample s;
            lr_arena_reset(&k->arena);
            assert_int_equal(lr_eval_sample(&spec, &k->coder, i, &k->arena, &s, NULL), 0);
            static char body[LR_KIB(256)];
            struct lr_str text = decoded(k, s.id, s.body);
            memcpy(body, text.p, text.n);
            text.p = body;
            for (uint32_t q = 0; q < s.n_turn; q++) {
                struct lr_str ask =
                    decoded(k, s.id + s.turn[q].ask, s.turn[q].answer - s.turn[q].ask);
                const char *key = memmem(ask.p, ask.n, "\n? ", 3);
                char fact[64];
                int len = snprintf(fact, sizeof fact, "%.*s %.*s.", (int)(ask.p + ask.n - key - 3),
                                   key + 3, LR_FMT(s.turn[q].text));
                assert_non_null(memmem(text.p, text.n, fact, (size_t)len));
                assert_int_equal(times(text, lr_str(key + 3, (size_t)(ask.p + ask.n - key - 3))),
                                 1);
                if (pairs[t] != LR_EVAL_MULTI_KEY && s.n_turn == 1)
                    assert_int_equal(times(text, s.turn[q].text), 1);
                struct lr_str at = decoded(k, s.id + s.turn[q].from, s.turn[q].to - s.turn[q].from);
                assert_non_null(memmem(at.p, at.n, s.turn[q].text.p, s.turn[q].text.n));
                assert_true(s.turn[q].to <= s.body);
            }
        }
}

static void the_absent_key_is_absent_and_the_recent_pair_last(void **state)
{
    struct kit *k = *state;
    for (uint64_t i = 0; i < 20; i++) {
        struct lr_eval_spec spec = spec_of(k, LR_EVAL_ABSENT, 256);
        struct lr_eval_sample s;
        lr_arena_reset(&k->arena);
        assert_int_equal(lr_eval_sample(&spec, &k->coder, i, &k->arena, &s, NULL), 0);
        const char *ask = memmem(s.text.p, s.text.n, "\n? ", 3);
        struct lr_str key = {ask + 3, 0};
        while (isalpha((unsigned char)key.p[key.n]))
            key.n++;
        assert_int_equal(times(s.text, key), 1); /* in the question alone */
        spec.task = LR_EVAL_RECENT;
        assert_int_equal(lr_eval_sample(&spec, &k->coder, i, &k->arena, &s, NULL), 0);
        assert_true(s.turn[0].to + 6 > s.body);
    }
}

static void a_sample_depends_on_its_number_alone(void **state)
{
    struct kit *k = *state;
    struct lr_eval_spec spec = spec_of(k, LR_EVAL_MULTI_QUERY, 512);
    struct lr_eval_sample a, b, c;
    lr_arena_reset(&k->arena);
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 3, &k->arena, &a, NULL), 0);
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 4, &k->arena, &c, NULL), 0);
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 3, &k->arena, &b, NULL), 0);
    assert_true(lr_str_eq(a.text, b.text) && !lr_str_eq(a.text, c.text));
    spec.seed++;
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 3, &k->arena, &b, NULL), 0);
    assert_false(lr_str_eq(a.text, b.text));
}

static double scored(enum lr_eval_task t, const char *right, const char *reply)
{
    struct lr_eval_turn turn = {.text = lr_strz(right), .n_words = 1};
    for (const char *p = right; *p; p++)
        turn.n_words += *p == ' ';
    return lr_eval_score(t, NULL, &turn, lr_strz(reply));
}

static void scores_are_those_of_the_page(void **state)
{
    (void)state;
    assert_true(scored(LR_EVAL_SINGLE, "river", " river.") == 1);
    assert_true(scored(LR_EVAL_SINGLE, "river", "river") == 1);
    assert_true(scored(LR_EVAL_SINGLE, "river", " rivers") == 0);
    assert_true(scored(LR_EVAL_SINGLE, "river", ". river") == 0);
    assert_true(scored(LR_EVAL_SINGLE, "river", "") == 0);
    assert_true(scored(LR_EVAL_VARIABLE, "a b c", " a b c d") == 1);
    assert_true(scored(LR_EVAL_VARIABLE, "a b c", " a b. c") == 0);
    assert_true(scored(LR_EVAL_COPY, "a b c d", " a b x d") == 0.5);
    bool over;
    assert_int_equal(lr_eval_words_done(LR_STR(" one tw"), &over), 1);
    assert_false(over);
    assert_int_equal(lr_eval_words_done(LR_STR(" one two "), &over), 2);
    assert_int_equal(lr_eval_words_done(LR_STR(" one."), &over), 1);
    assert_true(over);
    struct lr_str any[] = {LR_STR("42"), LR_STR("forty-two")};
    struct lr_eval_sample own = {.answers = any, .n_answers = 2};
    assert_true(lr_eval_score(LR_EVAL_OWN, &own, NULL, LR_STR("it is forty-two")) == 1);
    assert_true(lr_eval_score(LR_EVAL_OWN, &own, NULL, LR_STR("4 2")) == 0);
}

static void what_cannot_be_is_refused(void **state)
{
    struct kit *k = *state;
    struct lr_eval_sample s;
    struct lr_err err = {0};
    struct lr_eval_spec spec = spec_of(k, LR_EVAL_SINGLE, 100);
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 0, &k->arena, &s, &err), LR_EINVAL);
    spec = spec_of(k, LR_EVAL_MULTI_QUERY, 128); /* this vocabulary spells words in pieces */
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 0, &k->arena, &s, NULL), LR_EINVAL);
    static const char *const bad[] = {"", "[]", "{\"context\":\"a\"}",
                                      "{\"context\":\"a\",\"question\":\"b\",\"answers\":[]}",
                                      "{\"context\":\"\",\"question\":\"b\",\"answers\":\"c\"}"};
    spec = (struct lr_eval_spec){.task = LR_EVAL_OWN, .tokens = 256, .where = "T.jsonl:1"};
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        err = (struct lr_err){0};
        spec.line = lr_strz(bad[i]);
        assert_true(lr_eval_sample(&spec, &k->coder, 0, &k->arena, &s, &err) < 0);
        assert_string_equal(err.where, "T.jsonl:1");
    }
    spec.line =
        LR_STR("{\"context\":\"a b\",\"question\":\" c?\",\"answers\":\"d\",\"max_tokens\":5}");
    assert_int_equal(lr_eval_sample(&spec, &k->coder, 0, &k->arena, &s, NULL), 0);
    assert_true(s.n_answers == 1 && s.most == 5 && s.turn[0].answer == s.n && s.body < s.n);
}

static void memory_that_runs_out_is_a_result(void **state)
{
    struct kit *k = *state;
    for (size_t t = 0; t < LR_COUNT(generated); t += 3)
        for (uint64_t n = 1;; n += 7) {
            struct lr_eval_spec spec = spec_of(k, generated[t], 256);
            struct lr_eval_sample s;
            struct lr_arena fresh;
            lr_arena_init(&fresh, LR_MIB(16));
            lr_fault_arm(n);
            int rc = lr_eval_sample(&spec, &k->coder, 0, &fresh, &s, NULL);
            bool hit = lr_fault_seen() >= n;
            lr_fault_arm(0);
            lr_arena_free(&fresh);
            assert_true(hit ? rc < 0 : rc == 0 || rc == LR_EINVAL);
            if (!hit)
                break;
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_disjoint_and_full),
        cmocka_unit_test(samples_have_the_length_asked_for),
        cmocka_unit_test(answers_stand_once_and_behind_their_key),
        cmocka_unit_test(the_absent_key_is_absent_and_the_recent_pair_last),
        cmocka_unit_test(a_sample_depends_on_its_number_alone),
        cmocka_unit_test(scores_are_those_of_the_page),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(memory_that_runs_out_is_a_result),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
