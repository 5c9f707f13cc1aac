/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_arena.c - laws of the arena, and of the random numbers that test it.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Pieces are aligned, within the bound, and writing one never changes another. */
static void pieces_are_aligned_and_apart(void **state)
{
    (void)state; /* cmocka's */
    enum { PIECES = 300 };
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(8));
    for (uint64_t seed = 1; seed <= 50; seed++) {
        unsigned char *p[PIECES];
        size_t n[PIECES];
        struct lr_rng r;
        lr_rng_seed(&r, seed);
        for (int i = 0; i < PIECES; i++) {
            size_t align = (size_t)1 << lr_rng_below(&r, 5);
            n[i] = (size_t)lr_rng_below(&r, lr_rng_below(&r, 20) ? 200 : 20000);
            p[i] = i % 2 ? lr_arena_alloc(&a, n[i], align) : lr_arena_zalloc(&a, n[i], align);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % align, 0);
            for (size_t k = 0; i % 2 == 0 && k < n[i]; k++)
                assert_int_equal(p[i][k], 0);
            memset(p[i], i, n[i]);
        }
        for (int i = 0; i < PIECES; i++)
            for (size_t k = 0; k < n[i]; k++)
                assert_int_equal(p[i][k], (unsigned char)i);
        assert_true(a.used <= a.held && a.held <= a.max);
        lr_arena_reset(&a);
        assert_int_equal(a.used, 0);
    }
    lr_arena_free(&a);
    assert_true(a.top == NULL && a.held == 0 && a.max == LR_MIB(8));
}

static void the_maximum_holds_and_is_used_to_the_end(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    size_t got = 0;
    lr_arena_init(&a, 10000);
    assert_null(lr_arena_alloc(&a, 10001, 1));
    assert_null(lr_arena_alloc(&a, SIZE_MAX, 16));
    while (lr_arena_alloc(&a, 100, 1))
        got += 100;
    assert_true(got > 9000 && got <= 10000 && a.held <= 10000);
    lr_arena_reset(&a);
    assert_non_null(lr_arena_alloc(&a, 100, 16));
    lr_arena_free(&a);
    lr_arena_init(&a, SIZE_MAX);
    assert_null(lr_arena_alloc(&a, SIZE_MAX - 8, 1)); /* header and size overflow */
    assert_null(lr_arena_array(&a, uint64_t, SIZE_MAX / 4));
    assert_null(lr_arena_strz(&a, lr_str("", SIZE_MAX)));
    lr_arena_free(&a);
}

static void a_reset_arena_serves_the_same_again_without_the_heap(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(1));
    for (int i = 0; i < 40; i++)
        assert_non_null(lr_arena_alloc(&a, 500, 8));
    lr_arena_reset(&a);
    size_t held = a.held;
    assert_int_equal(lr_fault_arm(1), 0);
    while (a.used + 500 <= held)
        assert_non_null(lr_arena_alloc(&a, 500, 4));
    assert_int_equal(lr_fault_seen(), 0);
    assert_null(lr_arena_alloc(&a, held, 8)); /* the armed fault */
    assert_int_equal(lr_fault_arm(0), 0);
    assert_non_null(lr_arena_alloc(&a, held, 8));
    lr_arena_free(&a);
}

static void copies_are_equal_and_terminated(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    struct lr_str s, text = LR_STR("with\0nul");
    lr_arena_init(&a, LR_KIB(8));
    assert_int_equal(lr_arena_copy(&a, text, &s), 0);
    assert_true(lr_str_eq(s, text) && s.p != text.p && s.p[s.n] == 0);
    assert_int_equal(lr_arena_copy(&a, lr_str(NULL, 0), &s), 0);
    assert_true(s.n == 0 && s.p != NULL);
    assert_string_equal(lr_arena_strz(&a, LR_STR("abc")), "abc");
    assert_int_equal(lr_fault_arm(1), 0);
    lr_arena_free(&a);
    assert_int_equal(lr_arena_copy(&a, text, &s), LR_ENOMEM);
    assert_int_equal(lr_fault_arm(0), 0);
    assert_true(s.n == 0 && s.p != NULL); /* untouched */
    lr_arena_free(&a);
}

/* ---- random numbers ---- */

static void equal_seeds_give_equal_numbers(void **state)
{
    (void)state; /* cmocka's */
    struct lr_rng x, y, z;
    size_t differ = 0;
    lr_rng_seed(&x, 42);
    lr_rng_seed(&y, 42);
    lr_rng_seed(&z, 43);
    for (int i = 0; i < 1000; i++) {
        uint64_t v = lr_rng_u64(&x);
        assert_true(v == lr_rng_u64(&y));
        differ += v != lr_rng_u64(&z);
    }
    assert_int_equal(differ, 1000);
}

/* The xoshiro256** reference started from state {1, 2, 3, 4}. */
static void the_generator_is_xoshiro256_starstar(void **state)
{
    (void)state; /* cmocka's */
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    struct lr_rng r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < LR_COUNT(want); i++)
        assert_true(lr_rng_u64(&r) == want[i]);
}

static void ranges_are_kept_and_filled_evenly(void **state)
{
    (void)state; /* cmocka's */
    struct lr_rng r;
    unsigned count[7] = {0};
    lr_rng_seed(&r, 1);
    for (int i = 0; i < 70000; i++) {
        uint64_t k = lr_rng_below(&r, 7);
        double u = lr_rng_unit(&r);
        assert_true(k < 7 && u >= 0 && u < 1);
        count[k]++;
    }
    for (int i = 0; i < 7; i++)
        assert_true(count[i] > 9500 && count[i] < 10500); /* five deviations; the seed is fixed */
    assert_int_equal(lr_rng_below(&r, 0), 0);
    assert_int_equal(lr_rng_below(&r, 1), 0);
    for (int i = 0; i < 100; i++)
        assert_true(lr_rng_below(&r, (1ULL << 63) + 1) <= 1ULL << 63);
    unsigned char b[2][32];
    lr_random_bytes(b[0], sizeof b[0]);
    lr_random_bytes(b[1], sizeof b[1]);
    assert_memory_not_equal(b[0], b[1], sizeof b[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_apart),
        cmocka_unit_test(the_maximum_holds_and_is_used_to_the_end),
        cmocka_unit_test(a_reset_arena_serves_the_same_again_without_the_heap),
        cmocka_unit_test(copies_are_equal_and_terminated),
        cmocka_unit_test(equal_seeds_give_equal_numbers),
        cmocka_unit_test(the_generator_is_xoshiro256_starstar),
        cmocka_unit_test(ranges_are_kept_and_filled_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
