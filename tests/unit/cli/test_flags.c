/* SPDX-License-Identifier: Apache-2.0
 * Options of commands: both spellings, bounds at their very ends, and one error for what is none.
 */
#include "cli/flags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct lr_err told; /* the last error that was printed */
static unsigned n_told;

int lr_cli_fail(const char *what, const struct lr_err *err)
{
    assert_string_equal(what, "cook");
    told = *err;
    n_told++;
    return 1;
}

struct dish {
    bool hot;
    const char *name;
    uint64_t eggs, bytes;
    double flops;
};

static int read_words(struct dish *d, int n, const char *const *words)
{
    const struct lr_flag flags[] = {
        {"--hot", NULL, LR_FLAG_ON, &d->hot, 0, 0, "served hot"},
        {"--name", "TEXT", LR_FLAG_TEXT, &d->name, 0, 0, "of the dish"},
        {"--eggs", "N", LR_FLAG_COUNT, &d->eggs, 1, 12, "how many"},
        {"--bytes", "SIZE", LR_FLAG_SIZE, &d->bytes, 0, 0, "of the recipe"},
        {"--flops", "X", LR_FLAG_QUANTITY, &d->flops, 0.5, 0, "to cook it"},
    };
    const struct lr_manual u = {"cook [options]", "Cooks.", flags, LR_COUNT(flags)};
    char *argv[8];
    for (int i = 0; i < n; i++)
        argv[i] = (char *)(uintptr_t)words[i];
    struct lr_cli cli = {.name = "cook", .argc = n, .argv = argv};
    n_told = 0;
    told = (struct lr_err){0};
    return lr_cli_flags(&cli, &u);
}
#define READ(d, ...)                                                                               \
    read_words(d, (int)LR_COUNT(((const char *[]){__VA_ARGS__})), (const char *[]){__VA_ARGS__})

static void both_spellings_in_any_order_the_last_counts(void **state)
{
    struct dish d = {.eggs = 3};
    (void)state;
    assert_int_equal(READ(&d, "--eggs=4", "--name", "--hot", "--bytes", "8G", "--hot", "--eggs", "5"), 0);
    assert_true(d.hot && d.eggs == 5 && d.bytes == LR_GIB(8));
    assert_string_equal(d.name, "--hot"); /* a value is a value, whatever it looks like */
    assert_int_equal(READ(&d, "--name=a=b", "--flops=312T"), 0);
    assert_string_equal(d.name, "a=b");
    assert_true(d.flops == 312e12);
    assert_int_equal(READ(&d, "--name="), 0);
    assert_string_equal(d.name, "");
    assert_int_equal(n_told, 0);
}

static void bounds_are_part_of_the_range(void **state)
{
    struct dish d = {.eggs = 3};
    (void)state;
    assert_int_equal(READ(&d, "--eggs", "1"), 0);
    assert_int_equal(READ(&d, "--eggs", "12"), 0);
    assert_int_equal(READ(&d, "--flops", "0.5"), 0);
    static const char *const bad[] = {"0", "13", "-1", "", "1x", "18446744073709551616", "1.5", " 1"};
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        assert_int_not_equal(READ(&d, "--eggs", bad[i]), 0);
        assert_int_equal(n_told, 1);
        assert_string_equal(told.where, "--eggs");
        assert_non_null(strstr(told.msg, "1 to 12"));
        assert_int_equal(d.eggs, 12); /* untouched */
    }
    static const char *const amounts[] = {"0.4", "nan", "T", "1TT", "inf"};
    for (size_t i = 0; i < LR_COUNT(amounts); i++)
        assert_int_not_equal(READ(&d, "--flops", amounts[i]), 0);
    assert_true(d.flops == 0.5);
}

static void what_is_no_option_is_one_error(void **state)
{
    static const char *const bad[] = {"--egg", "--eggsy=1", "eggs", "", "-", "--", "--hot=yes", "=1"};
    struct dish d = {.eggs = 3};
    (void)state;
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        assert_int_equal(READ(&d, bad[i], "--eggs", "5"), LR_EINVAL);
        assert_int_equal(n_told, 1);
        assert_string_equal(told.where, bad[i]);
        assert_int_equal(d.eggs, 3); /* it ends there */
    }
    assert_int_equal(READ(&d, "--name"), LR_EINVAL);
    assert_string_equal(told.msg, "no value");
}

static void help_is_asked_for_anywhere_and_no_error(void **state)
{
    struct dish d = {.eggs = 3};
    (void)state;
    assert_int_equal(READ(&d, "--help"), LR_CLI_HELPED);
    assert_int_equal(READ(&d, "--eggs", "4", "-h", "--nonsense"), LR_CLI_HELPED);
    assert_int_equal(n_told, 0);
}

static void a_word_is_taken_off_or_the_usage_is_said(void **state)
{
    static const char *const words[] = {"boil", "fry"};
    char fry[] = "fry", egg[] = "egg", *argv[] = {fry, egg};
    struct lr_cli cli = {.name = "cook", .argc = 2, .argv = argv};
    (void)state;
    assert_ptr_equal(lr_cli_word(&cli, words, 2), words[1]);
    assert_true(cli.argc == 1 && cli.argv == argv + 1);
    assert_null(lr_cli_word(&cli, words, 2));
    assert_int_equal(cli.argc, 1);
    cli.argc = 0;
    assert_null(lr_cli_word(&cli, words, 2));
    assert_int_equal(lr_cli_missing(&cli, "--name"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_in_any_order_the_last_counts),
        cmocka_unit_test(bounds_are_part_of_the_range),
        cmocka_unit_test(what_is_no_option_is_one_error),
        cmocka_unit_test(help_is_asked_for_anywhere_and_no_error),
        cmocka_unit_test(a_word_is_taken_off_or_the_usage_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
