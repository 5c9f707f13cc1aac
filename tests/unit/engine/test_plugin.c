/* SPDX-License-Identifier: Apache-2.0
 * Plug-ins: built from the installed header alone, loaded, and held to the laws of everybody else
 * (conform.h). The one of docs/policies.md among them, to the letter.
 */
#include "conform.h"

#ifdef LR_PLUGINS

static void load(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/plugin_%s.so", LR_PLUGINS, name);
    OK(lr_engine_plugin_load(path, &kit_err));
}

static void test_the_worked_example_conforms(void **state)
{
    (void)state;
    load("mine");
    conform("mine");
    conform("pyramid:window=4+mine:window=9+saw-int4");
}

static void test_services_keep_their_word(void **state)
{
    (void)state;
    static const char *const texts[] = {"h2o", "every-service", "merge", "turned", "full"};
    load("services");
    conform("every-service");
    conform("turned");
    conform("every-service+turned");
    conform("merge");
    conform("virtual");
    conform_batch(texts, LR_COUNT(texts), 4);
}

/* Every row as a virtual one: the full cache but for the order of sums. */
static void test_virtual_rows_weigh_as_rows_do(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a = calloc(2, sizeof *a);
    rig_open(&r, 0, 2);
    for (int i = 0; i < 2; i++) {
        struct lr_engine_seq *s = c_open(&r, i ? "virtual" : "full", "", 1, false);
        c_answer(&r, s, "full", C_PROMPT, &a[i]);
        lr_engine_seq_close(s);
    }
    for (uint32_t i = 0; i <= C_MORE; i++)
        for (uint32_t k = 0; k < C_VOCAB; k++)
            assert_true(fabsf(a[0].logits[i][k] - a[1].logits[i][k]) < 2e-3f);
    rig_close(&r);
    free(a);
}

static void test_merged_rows_and_lossy_codecs_do_not_compose(void **state)
{
    (void)state;
    struct lr_policy_stack s;
    struct lr_err err = {0};
    assert_int_equal(lr_policy_stack_parse(LR_STR("merge+saw-int4"), &s, &err), LR_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "saw-int4"));
    OK(lr_policy_stack_parse(LR_STR("merge+f16"), &s, &kit_err));
}

static void test_misbehaviour_fails_its_sequence_alone(void **state)
{
    (void)state;
    struct rig r;
    struct lr_err err = {0};
    float want[C_VOCAB], got[C_VOCAB];
    rig_open(&r, 0, 1);
    struct lr_engine_seq *bad = c_open(&r, "misbehaves", "10", 0, false);
    struct lr_engine_seq *good = c_open(&r, "h2o", "10", 0, false);
    struct lr_engine_seq *alone = c_open(&r, "h2o", "10", 0, false);
    struct lr_engine_work w[2] = {
        {.seq = bad, .tokens = r.tokens, .n = 40, .phase = LR_POLICY_PROMPT_END},
        {.seq = good, .tokens = r.tokens, .n = 60, .phase = LR_POLICY_PROMPT_END, .n_logits = 1,
         .logits = got}};
    OK(lr_engine_step(r.e, w, 2, &kit_err));
    assert_int_equal(lr_engine_seq_status(bad, &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "40 rows"));
    OK(lr_engine_seq_status(good, &kit_err));
    OK(lr_engine_feed(alone, r.tokens, 60, want, NULL, &kit_err));
    assert_memory_equal(want, got, sizeof want);
    assert_int_equal(lr_engine_step(r.e, w, 2, &kit_err), LR_EINVAL);
    lr_engine_seq_close(bad);
    lr_engine_seq_close(good);
    lr_engine_seq_close(alone);
    rig_close(&r);
}

static void test_what_is_no_plugin_is_refused(void **state)
{
    (void)state;
    struct lr_err err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/plugin_alien.so", LR_PLUGINS);
    assert_int_equal(lr_engine_plugin_load(path, &err), LR_EVERSION);
    assert_non_null(strstr(err.msg, "ABI"));
    err = (struct lr_err){0};
    assert_int_equal(lr_engine_plugin_load("./no-such-file.so", &err), LR_EIO);
    assert_int_equal(lr_engine_plugin_load("libm.so.6", &err), LR_EINVAL);
    snprintf(path, sizeof path, "%s/plugin_mine.so", LR_PLUGINS);
    err = (struct lr_err){0};
    assert_int_equal(lr_engine_plugin_load(path, &err), LR_EEXIST); /* names are taken once */
}

static char *slurp(const char *name, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", LR_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = calloc(1, 1 << 18);
    *n = fread(p, 1, (1 << 18) - 1, f);
    fclose(f);
    return p;
}

static void test_the_documented_example_is_the_tested_one(void **state)
{
    (void)state;
    size_t n, m;
    char *page = slurp("docs/policies.md", &n), *source = slurp("tests/plugin/mine.c", &m);
    assert_non_null(strstr(page, source));
    free(page);
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_worked_example_conforms),
        cmocka_unit_test(test_services_keep_their_word),
        cmocka_unit_test(test_virtual_rows_weigh_as_rows_do),
        cmocka_unit_test(test_merged_rows_and_lossy_codecs_do_not_compose),
        cmocka_unit_test(test_misbehaviour_fails_its_sequence_alone),
        cmocka_unit_test(test_what_is_no_plugin_is_refused),
        cmocka_unit_test(test_the_documented_example_is_the_tested_one),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}

#else

int main(void)
{
    fprintf(stderr, "no plug-ins were built: skipped\n");
    return 77;
}

#endif
