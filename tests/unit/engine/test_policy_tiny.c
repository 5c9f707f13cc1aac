/* SPDX-License-Identifier: Apache-2.0
 * Policies on a trained model (stories260K, heads of 8 elements): the full budget changes no bit, and what
 * a policy keeps matters. Needs the files: LR_TEST_DATA names their directory; without it this is
 * skipped, loudly.
 */
#include "conform.h"

#define TEXT 320u
#define HELD 200u

static char path[512];

struct tiny {
    struct lr_engine_model *m;
    struct lr_engine *e;
    uint32_t vocab, text[TEXT];
    float *logits;
};

/* Text that the model itself makes up, so that it has something to say about it. */
static void write_text(struct tiny *t, uint64_t seed)
{
    struct lr_engine_seq *s = kit_seq(t->e);
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    t->text[0] = 1;
    for (uint32_t i = 0; i + 1 < TEXT; i++) {
        double sum = 0, u = lr_rng_unit(&rng);
        uint32_t next = 0;
        OK(lr_engine_feed_as(s, &t->text[i], 1, LR_POLICY_TOKEN, t->logits, NULL, &kit_err));
        float top = t->logits[0];
        for (uint32_t k = 0; k < t->vocab; k++)
            top = fmaxf(top, t->logits[k]);
        for (uint32_t k = 0; k < t->vocab; k++)
            sum += exp((double)(t->logits[k] - top));
        for (u *= sum; next + 1 < t->vocab && (u -= exp((double)(t->logits[next] - top))) > 0;)
            next++;
        t->text[i + 1] = next;
    }
    lr_engine_seq_close(s);
}

static void tiny_open(struct tiny *t)
{
    OK(lr_engine_model_open(&t->m, path, &kit_err));
    t->vocab = lr_engine_model_shape(t->m)->n_vocab;
    t->e = kit_engine(t->m, 1, "f16");
    t->logits = calloc(t->vocab, sizeof *t->logits);
}

static void tiny_close(struct tiny *t)
{
    lr_engine_close(t->e);
    lr_engine_model_close(t->m);
    free(t->logits);
}

static double surprise(const struct tiny *t, uint32_t token)
{
    double sum = 0;
    for (uint32_t k = 0; k < t->vocab; k++)
        sum += exp((double)t->logits[k]);
    return log(sum) - (double)t->logits[token];
}

/* Mean surprise of the text's end, read token by token after the first HELD. */
static double read_on(struct tiny *t, struct lr_engine_seq *s)
{
    double sum = 0;
    for (uint32_t i = HELD; i + 1 < TEXT; i++) {
        OK(lr_engine_feed_as(s, &t->text[i], 1, LR_POLICY_TOKEN, t->logits, NULL, &kit_err));
        sum += surprise(t, t->text[i + 1]);
    }
    return sum / (TEXT - 1 - HELD);
}

static void test_full_budgets_change_no_bit(void **state)
{
    (void)state;
    struct tiny t;
    const struct lr_policy *p;
    tiny_open(&t);
    write_text(&t, 1);
    float *want = calloc(t.vocab, sizeof *want);
    struct lr_engine_seq *s = kit_seq(t.e);
    OK(lr_engine_feed(s, t.text, HELD, NULL, NULL, &kit_err));
    OK(lr_engine_feed_as(s, &t.text[HELD], 1, LR_POLICY_TOKEN, want, NULL, &kit_err));
    lr_engine_seq_close(s);
    for (size_t i = 0; (p = lr_policy_at(i)); i++) {
        if (!p->edit || p->flags & LR_POLICY_EVALUATION)
            continue;
        struct lr_policy_stack stack = c_stack(p->name);
        const struct lr_engine_seq_opts o = {.policy = {.stack = &stack, .budget = c_budget("1000")}};
        OK(lr_engine_seq_open(&s, t.e, &o, &kit_err));
        OK(lr_engine_feed(s, t.text, HELD, NULL, NULL, &kit_err));
        OK(lr_engine_feed_as(s, &t.text[HELD], 1, LR_POLICY_TOKEN, t.logits, NULL, &kit_err));
        assert_memory_equal(t.logits, want, t.vocab * sizeof *want);
        lr_engine_seq_close(s);
    }
    free(want);
    tiny_close(&t);
}

/* Kept rows matter: recent rows and sinks explain a story better than rows by lot. */
static void test_random_is_worst(void **state)
{
    (void)state;
    static const char *const texts[] = {"random", "streaming-llm", "h2o", "snapkv:window=8", "tova"};
    struct tiny t;
    double sum[LR_COUNT(texts)] = {0}, full = 0;
    tiny_open(&t);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        write_text(&t, seed);
        struct lr_engine_seq *s = kit_seq(t.e);
        OK(lr_engine_feed(s, t.text, HELD, NULL, NULL, &kit_err));
        full += read_on(&t, s);
        lr_engine_seq_close(s);
        for (size_t i = 0; i < LR_COUNT(texts); i++) {
            struct lr_policy_stack stack = c_stack(texts[i]);
            const struct lr_engine_seq_opts o = {
                .policy = {.stack = &stack, .budget = c_budget("24"), .seed = seed}};
            OK(lr_engine_seq_open(&s, t.e, &o, &kit_err));
            OK(lr_engine_feed(s, t.text, HELD, NULL, NULL, &kit_err));
            sum[i] += read_on(&t, s);
            lr_engine_seq_close(s);
        }
    }
    print_message("full %.3f random %.3f streaming %.3f h2o %.3f snapkv %.3f tova %.3f\n", full / 4,
                  sum[0] / 4, sum[1] / 4, sum[2] / 4, sum[3] / 4, sum[4] / 4);
    for (size_t i = 1; i < LR_COUNT(texts); i++)
        assert_true(full < sum[i] && sum[i] < sum[0]);
    tiny_close(&t);
}

static void test_codecs_that_do_not_fit_the_heads_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"q8", "q4", "saw-int4", "h2o+saw-int4"};
    struct tiny t;
    tiny_open(&t);
    for (size_t i = 0; i < LR_COUNT(texts); i++) {
        struct lr_policy_stack stack = c_stack(texts[i]);
        struct lr_engine_seq *s;
        struct lr_err err = {0};
        const struct lr_engine_seq_opts o = {
            .policy = {.stack = &stack, .budget = c_budget(c_evicts(texts[i]) ? "9" : "")}};
        assert_int_equal(lr_engine_seq_open(&s, t.e, &o, &err), LR_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, "multiple of 32"));
    }
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_budgets_change_no_bit),
        cmocka_unit_test(test_random_is_worst),
        cmocka_unit_test(test_codecs_that_do_not_fit_the_heads_are_refused),
    };
    const char *dir = getenv("LR_TEST_DATA");
    snprintf(path, sizeof path, "%s/stories260K-f32.gguf", dir ? dir : "");
    if (!dir || access(path, R_OK) != 0) {
        fprintf(stderr, "LR_TEST_DATA does not name a directory with stories260K-f32.gguf: skipped\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
