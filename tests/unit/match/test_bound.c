/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/match/test_bound.c - the learned bound against simulation, load, rules.
 */
#include "match/match.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void the_interval_is_clopper_and_pearsons(void **s)
{
    (void)s;
    /* From tables of the beta distribution: qbeta(0.95, k + 1, n - k). */
    static const struct {
        uint64_t wrong, n;
        double upper;
    } rows[] = {{0, 10, 0.258866},
                {0, 299, 0.009969},
                {1, 100, 0.046560},
                {5, 100, 0.102253},
                {50, 1000, 0.063000}};
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        assert_true(fabs(lr_bound_upper(rows[i].wrong, rows[i].n) - rows[i].upper) < 2e-4);
    assert_true(lr_bound_upper(0, 0) == 1 && lr_bound_upper(3, 3) == 1);
    /* The two ways of computing it meet. */
    assert_true(fabs(lr_bound_upper(10000, 100000) - lr_bound_upper(10001, 100000)) < 1e-3);
}

static void without_labels_the_verifier_is_believed(void **s)
{
    (void)s;
    struct lr_bound b = {0};
    struct lr_bound_floor f;
    lr_bound_floor(&b, 0.02, &f);
    assert_false(f.learned);
    assert_true(fabsf(f.score - 0.98f) < 1e-6f);
    lr_bound_floor(&b, 0, &f);
    assert_true(f.score > 1);
    lr_bound_floor(&b, 1, &f);
    assert_true(f.score > 1);
}

static void many_wrong_answers_end_serving(void **s)
{
    (void)s;
    struct lr_bound b = {0};
    struct lr_bound_floor f;
    for (int i = 0; i < 1000; i++)
        lr_bound_add(&b, 0.999f, i % 10 != 0);
    lr_bound_floor(&b, 0.02, &f);
    assert_true(f.score > 1);
    lr_bound_floor(&b, 0.2, &f);
    assert_true(f.learned && f.score <= 1);
}

/* Traffic whose P(right | score) is a known curve: in how many of many trials is the true error
 * above the floor larger than was promised? The confidence says 5 %. */
static void the_promise_holds_as_often_as_it_says(void **s)
{
    (void)s;
    enum { TRIALS = 300, LABELS = 20000 };
    static const double promised[] = {0.01, 0.05};
    struct lr_rng rng;
    uint64_t seed = 20260401;
    lr_rng_seed(&rng, seed);
    for (size_t k = 0; k < LR_COUNT(promised); k++) {
        size_t broken = 0, served = 0;
        for (int t = 0; t < TRIALS; t++) {
            struct lr_bound b = {0};
            struct lr_bound_floor f;
            for (int i = 0; i < LABELS; i++) {
                double x = lr_rng_unit(&rng), right = 1 - 0.6 * pow(1 - x, 1.5);
                lr_bound_add(&b, (float)x, lr_rng_unit(&rng) < right);
            }
            lr_bound_floor(&b, promised[k], &f);
            if (!(f.score <= 1))
                continue;
            served++;
            double d = 1 - (double)f.score,
                   error = 0.6 * pow(d, 1.5) / 2.5; /* mean above the floor */
            broken += error > promised[k];
        }
        assert_true(served > TRIALS / 2);
        if (broken > TRIALS * 8 / 100) /* 5 % and four standard deviations */
            fail_msg("seed %llu: %zu of %d above %g", (unsigned long long)seed, broken, TRIALS,
                     promised[k]);
    }
}

static void an_entry_that_was_wrong_is_believed_less(void **s)
{
    (void)s;
    struct lr_bound_seen bad = {0}, good = {0};
    for (int i = 0; i < 3; i++)
        lr_bound_see(&bad, 0.98f, false);
    assert_true(lr_bound_correct(&bad, 0.98f) == 0.98f); /* young */
    for (int i = 0; i < 3; i++) {
        lr_bound_see(&bad, 0.98f, true);
        lr_bound_see(&good, 0.9f, true);
    }
    assert_true(lr_bound_correct(&bad, 0.98f) < 0.9f);
    for (int i = 0; i < 20; i++)
        lr_bound_see(&good, 0.9f, true);
    assert_int_equal(good.n, LR_BOUND_SEEN);
    float better = lr_bound_correct(&good, 0.9f);
    assert_true(better >= 0.9f && better < 0.99f);
    /* Old labels leave. */
    for (unsigned i = 0; i < LR_BOUND_SEEN; i++)
        lr_bound_see(&bad, 0.98f, true);
    assert_true(lr_bound_correct(&bad, 0.98f) >= 0.98f);
}

static void vcaches_curve_rises_with_score_and_labels(void **s)
{
    (void)s;
    struct lr_bound_seen e = {0};
    assert_true(lr_bound_vcache(&e, 1) == 0);
    for (int i = 0; i < 8; i++)
        lr_bound_see(&e, i % 2 ? 0.9f : 0.4f, i % 2);
    double low = lr_bound_vcache(&e, 0.4f), high = lr_bound_vcache(&e, 0.95f);
    assert_true(low < high && high < 1 && low >= 0);
    for (int i = 0; i < 8; i++)
        lr_bound_see(&e, i % 2 ? 0.9f : 0.4f, i % 2);
    assert_true(lr_bound_vcache(&e, 0.95f) > high);
    struct lr_bound_seen wrong = {0};
    for (int i = 0; i < 8; i++)
        lr_bound_see(&wrong, 0.9f + 0.01f * (float)i, false);
    assert_true(lr_bound_vcache(&wrong, 0.95f) < 0.3);
}

static void ageing_keeps_the_last_error(void **s)
{
    (void)s;
    struct lr_bound b = {0};
    lr_bound_add(&b, 0.5f, false);
    lr_bound_add(&b, 0.5f, true);
    for (int i = 0; i < 5; i++)
        lr_bound_age(&b);
    assert_int_equal(b.wrong[LR_BOUND_BINS / 2], 1);
    assert_int_equal(b.right[LR_BOUND_BINS / 2], 0);
}

static void pressure_rises_late_and_falls_later(void **s)
{
    (void)s;
    struct lr_pressure p = {0};
    struct lr_pressure_opts o = {.latency_s = 1, .half_life_s = 1};
    uint64_t now = LR_SEC;
    assert_true(lr_pressure_update(&p, &o, 1.0, 0, now) == 0);
    for (int i = 0; i < 100; i++)
        lr_pressure_update(&p, &o, 3.0, 0, now += LR_SEC);
    assert_true(p.level == 1);
    for (int i = 0; i < 100; i++)
        lr_pressure_update(&p, &o, 1.0, 0, now += LR_SEC);
    assert_true(p.level > 0 && p.level < 0.1); /* between leave and enter */
    for (int i = 0; i < 100; i++)
        lr_pressure_update(&p, &o, 0.5, 0, now += LR_SEC);
    assert_true(p.level == 0);
    for (int i = 0; i < 100; i++)
        lr_pressure_update(&p, &o, 1.0, 0, now += LR_SEC);
    assert_true(p.level == 0);
    o.queue = 10;
    for (int i = 0; i < 100; i++)
        lr_pressure_update(&p, &o, 0.1, 16, now += LR_SEC);
    assert_true(p.level > 0.4 && p.level < 0.6);
}

static void rules_tighten_and_relax(void **s)
{
    (void)s;
    struct lr_rules r = {
        .max_error = 0.05, .min_score = 0.9, .ttl_ms = 1000, .store = true, .serve = true};
    struct lr_rules by = {
        .max_error = 0.1, .min_score = 0.95, .ttl_ms = 500, .store = true, .serve = false};
    struct lr_rules load = r;
    lr_rules_tighten(&r, &by);
    assert_true(r.max_error == 0.05 && r.min_score == 0.95 && r.ttl_ms == 500 && r.store &&
                !r.serve);
    lr_rules_relax(&load, 0.5, 0.04, 3);
    assert_true(load.max_error == 0.05 && fabs(load.min_score - 0.88) < 1e-9 &&
                load.ttl_ms == 2000);
    /* The paper's two cases: 30 ms lookups before 150 to 200 ms, 2 ms and 5 ms more before 40
     * to 67. */
    assert_true(fabs(lr_break_even(0.030, 0.030, 0.200) - 0.15) < 1e-3);
    assert_true(fabs(lr_break_even(0.002, 0.007, 0.045) - 0.05) < 1e-3);
    assert_true(lr_break_even(1, 2, 0.5) == 1);
}

static void categories_by_phrase_and_by_centroid(void **s)
{
    (void)s;
    assert_true(lr_category_says(LR_STR("Please CANCEL my order now."), LR_STR("cancel my order")));
    assert_false(lr_category_says(LR_STR("cancellation of my order"), LR_STR("cancel")));
    assert_false(lr_category_says(LR_STR("anything"), LR_STR("")));
    static const float c[] = {1, 0, 0, 1};
    assert_int_equal(lr_category_nearest(c, 2, 2, (float[]){0.6f, 0.8f}, 0.5f), 1);
    assert_int_equal(lr_category_nearest(c, 2, 2, (float[]){0.6f, 0.8f}, 0.9f), -1);
    assert_int_equal(lr_category_nearest(c, 0, 2, (float[]){0.6f, 0.8f}, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interval_is_clopper_and_pearsons),
        cmocka_unit_test(without_labels_the_verifier_is_believed),
        cmocka_unit_test(many_wrong_answers_end_serving),
        cmocka_unit_test(the_promise_holds_as_often_as_it_says),
        cmocka_unit_test(an_entry_that_was_wrong_is_believed_less),
        cmocka_unit_test(vcaches_curve_rises_with_score_and_labels),
        cmocka_unit_test(ageing_keeps_the_last_error),
        cmocka_unit_test(pressure_rises_late_and_falls_later),
        cmocka_unit_test(rules_tighten_and_relax),
        cmocka_unit_test(categories_by_phrase_and_by_centroid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
