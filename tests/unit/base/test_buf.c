/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_buf.c - laws of the bounded buffer, and of error values and checked arithmetic.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void any_run_of_operations_agrees_with_a_flat_array(void **state)
{
    (void)state; /* cmocka's */
    enum { MAX = 3000 };
    for (uint64_t seed = 1; seed <= 200; seed++) {
        char twin[MAX], text[200];
        size_t n = 0;
        int rc = 0;
        struct lr_rng r;
        struct lr_buf b;
        lr_rng_seed(&r, seed);
        lr_buf_init(&b, MAX);
        for (int i = 0; i < 100; i++) {
            size_t k = (size_t)lr_rng_below(&r, sizeof text);
            uint64_t what = lr_rng_below(&r, 20);
            memset(text, 'a' + (int)lr_rng_below(&r, 26), k);
            if (what == 0) {
                lr_buf_reset(&b);
                n = 0;
                rc = 0;
            } else if (what == 1) {
                size_t cut = (size_t)lr_rng_below(&r, n + 1);
                lr_buf_drop(&b, cut);
                memmove(twin, twin + cut, n - cut);
                n -= cut;
            } else {
                /* A format needs room for its terminator as well. */
                bool fmt = what < 8;
                rc = rc ? rc : n + k + (fmt ? 1 : 0) > MAX ? LR_EOVER : 0;
                int got = fmt ? lr_buf_addf(&b, "%.*s", (int)k, text) : lr_buf_add(&b, text, k);
                assert_int_equal(got, rc);
                if (!rc) {
                    memcpy(twin + n, text, k);
                    n += k;
                }
            }
            if (b.len != n || b.rc != rc || b.cap > MAX || (n && memcmp(b.p, twin, n) != 0))
                fail_msg("seed %llu, step %d", (unsigned long long)seed, i);
        }
        lr_buf_free(&b);
    }
}

static void the_first_failure_sticks_until_reset(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    lr_buf_init(&b, 4);
    assert_int_equal(lr_buf_addz(&b, "1234"), 0);
    assert_int_equal(lr_buf_addc(&b, '5'), LR_EOVER);
    assert_int_equal(lr_buf_adds(&b, LR_STR("")), LR_EOVER);
    assert_int_equal(lr_buf_reserve(&b, 0), LR_EOVER);
    assert_true(lr_str_is(lr_buf_str(&b), "1234"));
    lr_buf_reset(&b);
    assert_int_equal(lr_buf_reserve(&b, SIZE_MAX), LR_EOVER);
    lr_buf_reset(&b);
    assert_int_equal(lr_buf_addz(&b, "1"), 0);
    lr_buf_free(&b);
    assert_true(b.p == NULL && b.len == 0 && b.max == 4);
    assert_int_equal(lr_fault_arm(1), 0);
    assert_int_equal(lr_buf_addz(&b, "1"), LR_ENOMEM);
    assert_int_equal(lr_fault_arm(0), 0);
    assert_int_equal(lr_buf_addz(&b, "1"), LR_ENOMEM); /* sticks */
    lr_buf_free(&b);
}

/* ---- errors ---- */

static void every_error_has_a_name_and_a_text(void **state)
{
    (void)state; /* cmocka's */
#define X(name, num, text)                                                                         \
    assert_int_equal(LR_##name, -(num));                                                           \
    assert_string_equal(lr_errname(LR_##name), #name);                                             \
    assert_string_equal(lr_strerror(LR_##name), text);
    LR_ERRORS(X)
#undef X
    assert_string_equal(lr_strerror(0), "ok");
    assert_string_equal(lr_errname(0), "OK");
    assert_string_equal(lr_errname(7), "EUNKNOWN");
    assert_string_equal(lr_strerror(-9999), "unknown error");
}

static void the_first_error_is_kept_and_cut_to_fit(void **state)
{
    (void)state; /* cmocka's */
    struct lr_err e = {0};
    char longer[500];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(lr_err_set(NULL, LR_EIO, "here", "%s", "text"), LR_EIO);
    assert_int_equal(lr_err_set(&e, LR_EINVAL, longer, "%s", longer), LR_EINVAL);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_int_equal(strlen(e.where), sizeof e.where - 1);
    assert_int_equal(lr_err_set(&e, LR_EIO, "later", "later"), LR_EIO);
    assert_int_equal(e.code, LR_EINVAL);
    assert_int_equal(e.msg[0], 'x');
    e = (struct lr_err){0};
    assert_int_equal(lr_err_set(&e, LR_EIO, NULL, "%d", 5), LR_EIO);
    assert_string_equal(e.msg, "5");
    assert_string_equal(e.where, "");
}

static int guarded(int rc, bool fail)
{
    LR_TRY(rc);
    LR_FAIL_IF(fail, LR_EBUSY);
    return 0;
}

static void guards_return_and_arithmetic_is_checked(void **state)
{
    (void)state; /* cmocka's */
    size_t n = 7;
    assert_int_equal(guarded(LR_EIO, true), LR_EIO);
    assert_int_equal(guarded(0, true), LR_EBUSY);
    assert_int_equal(guarded(0, false), 0);
    assert_true(lr_mul_over(SIZE_MAX / 2 + 1, 2, &n) && lr_add_over(SIZE_MAX, 1, &n) && n == 7);
    assert_false(lr_mul_over(SIZE_MAX / 2, 2, &n));
    assert_true(n == SIZE_MAX - 1);
    assert_false(lr_add_over(n, 1, &n));
    assert_true(n == SIZE_MAX);
    assert_null(lr_calloc(SIZE_MAX / 2, 3));
    char *p = lr_strndup("abc", 2);
    assert_string_equal(p, "ab");
    lr_free(p);
    p = lr_strndup(NULL, 0);
    assert_string_equal(p, "");
    lr_free(p);
    assert_null(lr_strndup("", SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_run_of_operations_agrees_with_a_flat_array),
        cmocka_unit_test(the_first_failure_sticks_until_reset),
        cmocka_unit_test(every_error_has_a_name_and_a_text),
        cmocka_unit_test(the_first_error_is_kept_and_cut_to_fit),
        cmocka_unit_test(guards_return_and_arithmetic_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
