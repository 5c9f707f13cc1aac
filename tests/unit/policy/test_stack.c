/* SPDX-License-Identifier: Apache-2.0
 * Text to stacks and back, what does not compose, budgets, and tables of plug-ins.
 */
#include "policy/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static int parse(const char *text, struct lr_policy_stack *s, struct lr_err *err)
{
    *err = (struct lr_err){0};
    return lr_policy_stack_parse(lr_strz(text), s, err);
}

static void test_canonical_text_is_a_fixed_point(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical;
    } cases[] = {
        {"", "full"},
        {"full", "full"},
        {"  snapkv ", "snapkv"},
        {"saw-int4 + snapkv + pyramid", "pyramid+snapkv+saw-int4"},
        {"q8", "q8"},
        {"h2o:norm=sum,recent=0.5", "h2o"},
        {"h2o:recent=0.25, norm=mean", "h2o:recent=0.25,norm=mean"},
        {"snapkv:gqa=sum,window=16,kind=max", "snapkv:window=16,kind=max,gqa=sum"},
        {"f16+pyramid:beta=5+tova:scope=head", "pyramid:beta=5+tova:scope=head+f16"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_policy_stack s, again;
        struct lr_err err;
        if (parse(cases[i].text, &s, &err))
            fail_msg("'%s': %s", cases[i].text, err.msg);
        assert_string_equal(s.text, cases[i].canonical);
        assert_int_equal(parse(s.text, &again, &err), 0);
        assert_string_equal(again.text, s.text);
        assert_int_equal(again.flags, s.flags);
        assert_ptr_equal(again.codec, s.codec);
    }
}

static void test_errors_name_the_part(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        const char *says;
    } cases[] = {
        {"snapvk", LR_ENOENT, "snapkv"},
        {"snapkv++q8", LR_ENOENT, "''"},
        {"snapkv+h2o", LR_EUNSUPPORTED, "snapkv and h2o do not compose: both decide which rows stay"},
        {"full+h2o", LR_EUNSUPPORTED, "do not compose"},
        {"pyramid+pyramid+h2o", LR_EUNSUPPORTED, "both give budgets"},
        {"q8+q4", LR_EUNSUPPORTED, "q8 and q4 do not compose"},
        {"pyramid", LR_EUNSUPPORTED, "no part evicts"},
        {"pyramid+full", LR_EUNSUPPORTED, "no part evicts"},
        {"q8:x=1", LR_EINVAL, "no parameters"},
        {"snapkv:widow=3", LR_EINVAL, "window, pool, kind, gqa"},
        {"snapkv:window=0", LR_EINVAL, "from 1 to 256"},
        {"snapkv:window=257", LR_EINVAL, "from 1 to 256"},
        {"snapkv:window=nan", LR_EINVAL, "window"},
        {"snapkv:window", LR_EINVAL, "window"},
        {"snapkv:window=3,window=4", LR_EINVAL, "twice"},
        {"snapkv:gqa=median", LR_EINVAL, "mean|max|sum"},
        {"snapkv:", LR_EINVAL, "no parameter ''"},
        {"full:x=1", LR_EINVAL, "there are none"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_policy_stack s;
        struct lr_err err;
        int rc = parse(cases[i].text, &s, &err);
        if (rc != cases[i].rc || !strstr(err.msg, cases[i].says))
            fail_msg("'%s': %s: %s", cases[i].text, lr_errname(rc), err.msg);
    }
}

static void test_random_text_is_a_stack_or_an_error(void **state)
{
    (void)state;
    static const char *const words[] = {"snapkv", "h2o", "pyramid", "q8", "+", ":", "=", ",", "window",
                                        "4", "gqa", "max", " ", "0.5", "recent", "saw-int4", "-", ""};
    struct lr_rng r;
    lr_rng_seed(&r, 8);
    for (int i = 0; i < 20000; i++) {
        char text[600] = "";
        size_t n = 0;
        for (uint64_t k = lr_rng_below(&r, 12); k; k--)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s",
                                  words[lr_rng_below(&r, LR_COUNT(words))]);
        struct lr_policy_stack s, again;
        struct lr_err err;
        int rc = parse(text, &s, &err);
        if (rc)
            assert_true(err.msg[0]);
        else if (parse(s.text, &again, &err) || strcmp(s.text, again.text) != 0)
            fail_msg("seed 8, %d: '%s' > '%s'", i, text, s.text);
    }
}

/* ---- budgets ---- */

static void test_budgets_from_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct lr_policy_budget b;
    } good[] = {
        {"", {.kind = LR_POLICY_BUDGET_NONE}},
        {"none", {.kind = LR_POLICY_BUDGET_NONE}},
        {"128", {.kind = LR_POLICY_BUDGET_ROWS, .rows = 128}},
        {"1", {.kind = LR_POLICY_BUDGET_ROWS, .rows = 1}},
        {"25%", {.kind = LR_POLICY_BUDGET_FRACTION, .fraction = 0.25}},
        {"0.5", {.kind = LR_POLICY_BUDGET_FRACTION, .fraction = 0.5}},
        {"100%", {.kind = LR_POLICY_BUDGET_FRACTION, .fraction = 1}},
        {"8M", {.kind = LR_POLICY_BUDGET_BYTES, .bytes = 8 << 20}},
        {"1.5K", {.kind = LR_POLICY_BUDGET_BYTES, .bytes = 1536}},
    };
    static const char *const bad[] = {"0", "0%", "-1", "101%", "0.0", "0K", "x", "8X", "nan", "inf%",
                                      "99999999999", "1e9"};
    struct lr_policy_budget b;
    for (size_t i = 0; i < LR_COUNT(good); i++) {
        memset(&b, 0, sizeof b);
        assert_int_equal(lr_policy_budget_parse(lr_strz(good[i].text), &b, NULL), 0);
        assert_int_equal(b.kind, good[i].b.kind);
        assert_int_equal(b.rows, good[i].b.rows);
        assert_int_equal(b.bytes, good[i].b.bytes);
        assert_true(b.fraction <= good[i].b.fraction && b.fraction >= good[i].b.fraction);
    }
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_err err = {0};
        if (lr_policy_budget_parse(lr_strz(bad[i]), &b, &err) != LR_EINVAL || !err.msg[0])
            fail_msg("'%s' is a budget", bad[i]);
    }
}

static void test_rows_of_budgets(void **state)
{
    (void)state;
    struct lr_policy_budget b = {.kind = LR_POLICY_BUDGET_ROWS, .rows = 77};
    assert_int_equal(lr_policy_budget_rows(&b, 10, 6, 4608, 32), 77);
    b = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_FRACTION, .fraction = 0.25};
    assert_int_equal(lr_policy_budget_rows(&b, 1000, 6, 4608, 32), 250);
    assert_int_equal(lr_policy_budget_rows(&b, 2, 6, 4608, 32), 1);
    b = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_BYTES, .bytes = 6 * 4608 * 3 + 4607};
    assert_int_equal(lr_policy_budget_rows(&b, 1000, 6, 4608, 32), 95);
    b = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_NONE};
    assert_true(lr_policy_budget_rows(&b, 1000, 6, 4608, 32) == LR_POLICY_NO_LIMIT);
}

/* Whole pages less a row; never more pages than there are; nobody is left with none. */
static void test_uneven_rows_become_pages(void **state)
{
    (void)state;
    struct lr_rng r;
    lr_rng_seed(&r, 5);
    for (int i = 0; i < 2000; i++) {
        enum { TABLES = 12 };
        uint32_t rows[TABLES], want[TABLES], lost[TABLES];
        uint64_t pages = TABLES + lr_rng_below(&r, 60), left = pages * 32 - TABLES, used = 0;
        for (uint32_t t = 0; t < TABLES; t++) {
            uint64_t most = left - (TABLES - 1 - t);
            want[t] = 1 + (uint32_t)lr_rng_below(&r, most < 200 ? most : 200);
            left -= want[t];
            rows[t] = want[t];
        }
        lr_policy_budget_pages(rows, TABLES, pages, 32, lost);
        for (uint32_t t = 0; t < TABLES; t++) {
            assert_int_equal(rows[t] % 32, 31);
            used += rows[t] / 32 + 1;
        }
        if (used > pages)
            fail_msg("seed 5, %d: %llu pages of %llu", i, (unsigned long long)used,
                     (unsigned long long)pages);
    }
}

/* ---- plug-ins ---- */

static int nothing(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    (void)st;
    (void)q;
    (void)e;
    return 0;
}
static void reserved(void)
{
}

static int try(struct lr_policy p, const struct lr_policy_codec *c, struct lr_err *err)
{
    const struct lr_policy *policies[] = {&p, NULL};
    const struct lr_policy_codec *codecs[] = {c, NULL};
    const struct lr_policy_plugin list = {.abi = LR_POLICY_ABI, .size = sizeof list,
                                          .policies = policies, .codecs = codecs};
    size_t before = 0, after = 0;
    while (lr_policy_at(before))
        before++;
    *err = (struct lr_err){0};
    int rc = lr_policy_register(&list, err);
    while (lr_policy_at(after))
        after++;
    assert_int_equal(before, after); /* all or nothing */
    assert_true(rc != 0 && err->msg[0]);
    return rc;
}

static void test_tables_that_cannot_be_are_refused(void **state)
{
    (void)state;
    const struct lr_policy good = {.abi = LR_POLICY_ABI, .size = sizeof good, .name = "good",
                                   .what = "fine", .edit = nothing};
    const struct lr_policy_codec codec = {.abi = LR_POLICY_ABI, .size = sizeof codec, .name = "gc",
                                          .what = "fine", .k = "F16", .v = "F16", .group = 1};
    struct lr_policy p;
    struct lr_policy_codec c;
    struct lr_err err;
    assert_int_equal(lr_policy_register(NULL, &err), LR_EVERSION);
#define BAD(rc, field)                                                                             \
    p = good;                                                                                      \
    p.field;                                                                                       \
    assert_int_equal(try(p, NULL, &err), rc)
    BAD(LR_EVERSION, abi = LR_POLICY_ABI + 1);
    BAD(LR_EVERSION, size = sizeof p - 8);
    BAD(LR_EINVAL, name = NULL);
    BAD(LR_EINVAL, name = "Good");
    BAD(LR_EINVAL, name = "a-name-that-is-longer-than-thirty-one");
    BAD(LR_EINVAL, what = NULL);
    BAD(LR_EEXIST, name = "snapkv");
    BAD(LR_EEXIST, name = "q8");
    BAD(LR_EUNSUPPORTED, share = reserved);
    BAD(LR_EUNSUPPORTED, step = reserved);
    BAD(LR_EUNSUPPORTED, tree = reserved);
    BAD(LR_EUNSUPPORTED, rope = LR_POLICY_ROPE_SLOT);
    BAD(LR_EINVAL, columns = LR_POLICY_COLUMNS_MAX + 1);
    BAD(LR_EINVAL, n_params = 1);
    BAD(LR_EINVAL, flags = LR_POLICY_LOSSLESS);
#undef BAD
    /* a good policy does not come in with a bad codec */
#define BAD(rc, field)                                                                             \
    c = codec;                                                                                     \
    c.field;                                                                                       \
    assert_int_equal(try(good, &c, &err), rc)
    BAD(LR_EVERSION, size = 4);
    BAD(LR_EINVAL, k = "F17");
    BAD(LR_EINVAL, v = NULL);
    BAD(LR_EUNSUPPORTED, group = 32);
    BAD(LR_EUNSUPPORTED, dot = reserved);
    BAD(LR_EEXIST, name = "good");
#undef BAD
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_text_is_a_fixed_point),
        cmocka_unit_test(test_errors_name_the_part),
        cmocka_unit_test(test_random_text_is_a_stack_or_an_error),
        cmocka_unit_test(test_budgets_from_text),
        cmocka_unit_test(test_rows_of_budgets),
        cmocka_unit_test(test_uneven_rows_become_pages),
        cmocka_unit_test(test_tables_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
