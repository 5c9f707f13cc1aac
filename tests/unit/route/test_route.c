/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/route/test_route.c - the laws of route/route.c.
 */
#include "route/route.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define KEYS 20000
#define WIDE 1e6 /* a bound nobody reaches */

static void make(struct lr_route_target *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        t[i] = (struct lr_route_target){.id = 1000 + 17 * i, .weight = 1, .up = true};
}

static size_t pick(const struct lr_route_target *t, size_t n, uint64_t key, double bound)
{
    struct lr_route_choice c = {SIZE_MAX, NULL};
    assert_int_equal(lr_route_rendezvous(t, n, key, bound, &c), 0);
    assert_true(c.index < n);
    assert_non_null(c.reason);
    return c.index;
}

static void no_target_or_all_tried_is_enoent(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 1);
    struct lr_route_target t[3];
    struct lr_route_choice c = {77, "untouched"};
    make(t, 3);
    assert_int_equal(lr_route_rendezvous(t, 0, 1, 1.25, &c), LR_ENOENT);
    assert_int_equal(lr_route_least(NULL, 0, &rng, &c), LR_ENOENT);
    for (size_t i = 0; i < 3; i++)
        t[i].tried = true;
    t[1].up = false;
    assert_int_equal(lr_route_rendezvous(t, 3, 1, 1.25, &c), LR_ENOENT);
    assert_int_equal(lr_route_least(t, 3, &rng, &c), LR_ENOENT);
    assert_int_equal(c.index, 77);
    assert_string_equal(c.reason, "untouched");
}

/* Every pattern of up and tried on four targets against the rule spelled out. */
static void tried_and_down_are_taken_in_the_stated_order(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 2);
    for (unsigned bits = 0; bits < 256; bits++) {
        struct lr_route_target t[4];
        make(t, 4);
        size_t fresh = 0, again = 0, untried = 0;
        for (unsigned i = 0; i < 4; i++) {
            t[i].up = bits >> i & 1;
            t[i].tried = bits >> (4 + i) & 1;
            fresh += t[i].up && !t[i].tried;
            again += t[i].up && t[i].tried;
            untried += !t[i].tried;
        }
        for (int least = 0; least < 2; least++) {
            struct lr_route_choice c;
            int rc = least ? lr_route_least(t, 4, &rng, &c)
                           : lr_route_rendezvous(t, 4, bits * 977u, 1.25, &c);
            assert_int_equal(rc, untried ? 0 : LR_ENOENT);
            if (rc)
                continue;
            const struct lr_route_target *got = &t[c.index];
            if (fresh)
                assert_true(got->up && !got->tried);
            else if (again)
                assert_true(got->up);
            else
                assert_true(!got->up && !got->tried);
            assert_int_equal(strcmp(c.reason, "last-resort") == 0, fresh == 0);
            assert_int_equal(strcmp(c.reason, "only") == 0, fresh == 1);
        }
    }
}

static void the_choice_does_not_depend_on_the_order_of_the_list(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 3);
    struct lr_route_target t[7];
    make(t, 7);
    for (size_t i = 0; i < 7; i++)
        t[i].weight = (uint32_t)(1 + i % 3);
    for (uint64_t key = 0; key < 2000; key++) {
        for (size_t i = 0; i < 7; i++)
            t[i].inflight = (uint32_t)lr_rng_below(&rng, 6);
        uint64_t before = t[pick(t, 7, key, 1.25)].id;
        for (size_t i = 6; i > 0; i--) {
            size_t j = (size_t)lr_rng_below(&rng, i + 1);
            struct lr_route_target x = t[i];
            t[i] = t[j];
            t[j] = x;
        }
        assert_int_equal(t[pick(t, 7, key, 1.25)].id, before);
    }
}

static void only_the_keys_of_a_target_that_leaves_move(void **state)
{
    (void)state;
    struct lr_route_target all[8], left[7];
    make(all, 8);
    memcpy(left, all, sizeof left); /* the last one leaves */
    size_t moved = 0, to[7] = {0};
    for (uint64_t key = 0; key < KEYS; key++) {
        size_t a = pick(all, 8, key, WIDE), b = pick(left, 7, key, WIDE);
        if (a < 7)
            assert_int_equal(a, b);
        else
            to[b]++;
        moved += a != b;
    }
    /* An eighth of the keys, within five standard deviations; spread over all that stay. */
    double want = KEYS / 8.0, dev = sqrt(KEYS * (1 / 8.0) * (7 / 8.0));
    assert_true(fabs((double)moved - want) < 5 * dev);
    for (size_t i = 0; i < 7; i++)
        assert_true(fabs((double)to[i] - want / 7) < 5 * sqrt(want / 7));
}

static void a_target_that_is_down_moves_only_its_own_keys(void **state)
{
    (void)state;
    struct lr_route_target t[6], one_down[6];
    make(t, 6);
    memcpy(one_down, t, sizeof t);
    one_down[2].up = false;
    for (uint64_t key = 0; key < KEYS; key++) {
        size_t a = pick(t, 6, key, WIDE), b = pick(one_down, 6, key, WIDE);
        assert_true(b != 2);
        if (a != 2)
            assert_int_equal(a, b);
    }
}

static void weights_are_the_shares_of_keys(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3, 10, 4};
    struct lr_route_target t[5];
    make(t, 5);
    for (size_t i = 0; i < 5; i++)
        t[i].weight = weights[i];
    double count[5] = {0}, chi2 = 0;
    for (uint64_t key = 0; key < KEYS; key++)
        count[pick(t, 5, key, WIDE)] += 1;
    for (size_t i = 0; i < 5; i++) {
        double want = KEYS * weights[i] / 20.0;
        chi2 += (count[i] - want) * (count[i] - want) / want;
    }
    assert_true(chi2 < 23.5); /* 4 degrees of freedom: one run in ten thousand is above */
}

static void raising_a_weight_moves_keys_to_that_target_only(void **state)
{
    (void)state;
    struct lr_route_target t[5], heavier[5];
    make(t, 5);
    memcpy(heavier, t, sizeof t);
    heavier[3].weight = 4;
    for (uint64_t key = 0; key < KEYS; key++) {
        size_t a = pick(t, 5, key, WIDE), b = pick(heavier, 5, key, WIDE);
        if (a != b)
            assert_int_equal(b, 3);
    }
}

/* One hot key, requests that come and go at random: nobody is ever above the bound when it is given
 * a request, and the answer says where it went. */
static void load_stays_within_the_bound(void **state)
{
    (void)state;
    static const double bounds[] = {1.0, 1.25, 2.0};
    struct lr_rng rng;
    lr_rng_seed(&rng, 4);
    for (size_t b = 0; b < LR_COUNT(bounds); b++) {
        struct lr_route_target t[5];
        make(t, 5);
        for (size_t i = 0; i < 5; i++)
            t[i].weight = (uint32_t)(1 + i);
        uint64_t total = 0, spills = 0;
        for (int step = 0; step < 20000; step++) {
            size_t gone = (size_t)lr_rng_below(&rng, 5);
            if (t[gone].inflight && lr_rng_below(&rng, 100) < 45 + total / 8) {
                t[gone].inflight--;
                total--;
                continue;
            }
            struct lr_route_choice c;
            uint64_t key = lr_rng_below(&rng, 4) ? 42 : lr_rng_u64(&rng);
            assert_int_equal(lr_route_rendezvous(t, 5, key, bounds[b], &c), 0);
            double cap = ceil(bounds[b] * (double)t[c.index].weight / 15 * (double)(total + 1));
            assert_true((double)(t[c.index].inflight + 1) <= cap);
            bool spilled = strcmp(c.reason, "prefix-spill") == 0;
            assert_int_equal(spilled, c.index != pick(t, 5, key, WIDE));
            spills += spilled;
            t[c.index].inflight++;
            total++;
        }
        assert_true(spills > 0);
    }
}

static void a_full_target_spills_to_the_same_second(void **state)
{
    (void)state;
    struct lr_route_target t[6], without[6];
    make(t, 6);
    for (uint64_t key = 0; key < 1000; key++) {
        size_t first = pick(t, 6, key, 1.25);
        t[first].inflight = 50;
        memcpy(without, t, sizeof t);
        without[first].up = false;
        assert_int_equal(pick(t, 6, key, 1.25), pick(without, 6, key, 1.25));
        t[first].inflight = 0;
    }
}

static void extreme_numbers_still_choose(void **state)
{
    (void)state;
    static const double bounds[] = {0, -1, 1, 1e300, (double)INFINITY, (double)NAN};
    struct lr_route_target t[4];
    make(t, 4);
    for (size_t i = 0; i < 4; i++)
        t[i] = (struct lr_route_target){i, UINT32_MAX, UINT32_MAX, true, false};
    t[3].weight = 0;
    for (size_t b = 0; b < LR_COUNT(bounds); b++)
        for (uint64_t key = 0; key < 100; key++)
            pick(t, 4, key, bounds[b]);
    struct lr_rng rng;
    lr_rng_seed(&rng, 5);
    struct lr_route_choice c;
    assert_int_equal(lr_route_least(t, 4, &rng, &c), 0);
    assert_true(c.index < 3);
}

static void least_takes_the_smallest_load_per_weight(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 6);
    for (int round = 0; round < 20000; round++) {
        struct lr_route_target t[6];
        size_t n = 1 + (size_t)lr_rng_below(&rng, 6);
        make(t, n);
        for (size_t i = 0; i < n; i++) {
            t[i].weight = (uint32_t)(1 + lr_rng_below(&rng, 4));
            t[i].inflight = (uint32_t)lr_rng_below(&rng, 8);
        }
        struct lr_route_choice c;
        assert_int_equal(lr_route_least(t, n, &rng, &c), 0);
        for (size_t i = 0; i < n; i++)
            assert_true(t[c.index].inflight * t[i].weight <= t[i].inflight * t[c.index].weight);
    }
}

static void least_breaks_ties_evenly_and_repeatably(void **state)
{
    (void)state;
    struct lr_route_target t[4];
    make(t, 4);
    t[1].inflight = 1;
    double count[4] = {0};
    struct lr_rng rng, same;
    lr_rng_seed(&rng, 7);
    lr_rng_seed(&same, 7);
    for (int i = 0; i < 9000; i++) {
        struct lr_route_choice a, b;
        assert_int_equal(lr_route_least(t, 4, &rng, &a), 0);
        assert_int_equal(lr_route_least(t, 4, &same, &b), 0);
        assert_int_equal(a.index, b.index);
        count[a.index] += 1;
    }
    assert_true(count[1] < 0.5);
    for (size_t i = 0; i < 4; i++)
        assert_true(i == 1 || fabs(count[i] - 3000) < 5 * sqrt(2000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_target_or_all_tried_is_enoent),
        cmocka_unit_test(tried_and_down_are_taken_in_the_stated_order),
        cmocka_unit_test(the_choice_does_not_depend_on_the_order_of_the_list),
        cmocka_unit_test(only_the_keys_of_a_target_that_leaves_move),
        cmocka_unit_test(a_target_that_is_down_moves_only_its_own_keys),
        cmocka_unit_test(weights_are_the_shares_of_keys),
        cmocka_unit_test(raising_a_weight_moves_keys_to_that_target_only),
        cmocka_unit_test(load_stays_within_the_bound),
        cmocka_unit_test(a_full_target_spills_to_the_same_second),
        cmocka_unit_test(extreme_numbers_still_choose),
        cmocka_unit_test(least_takes_the_smallest_load_per_weight),
        cmocka_unit_test(least_breaks_ties_evenly_and_repeatably),
    };
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
