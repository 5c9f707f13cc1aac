/* SPDX-License-Identifier: Apache-2.0
 * eval/test_stat.c - statistics against closed forms.
 */
#include "eval_kit.h"

#include <math.h>

static void quantiles_lie_between_order_statistics(void **state)
{
    (void)state;
    double x[] = {5, 1, 4, 2, 3};
    assert_true(lr_eval_median(x, 5) == 3);
    assert_true(lr_eval_quantile(x, 5, 0) == 1 && lr_eval_quantile(x, 5, 1) == 5);
    assert_true(fabs(lr_eval_quantile(x, 5, 0.1) - 1.4) < 1e-12);
    double two[] = {10, 20};
    assert_true(lr_eval_median(two, 2) == 15);
    assert_true(lr_eval_median(two, 0) == 0);
    assert_true(lr_eval_mean(two, 2) == 15 && lr_eval_mean(two, 0) == 0);
}

/* Of n normal numbers the mean has the interval mean +- 1.96 s / sqrt(n). */
static void bootstrap_finds_the_normal_interval(void **state)
{
    (void)state;
    enum { N = 400 };
    static double x[N];
    struct lr_rng rng;
    struct lr_eval_interval r;
    double sum = 0, square = 0;
    lr_rng_seed(&rng, 3);
    for (int i = 0; i < N; i++) {
        x[i] = 7 + 2 * sqrt(-2 * log(1 - lr_rng_unit(&rng))) *
                       cos(6.283185307179586 * lr_rng_unit(&rng));
        sum += x[i];
        square += x[i] * x[i];
    }
    double mean = sum / N, half = 1.96 * sqrt((square / N - mean * mean) / N);
    assert_int_equal(lr_eval_bootstrap(x, N, 1, &r), 0);
    assert_true(r.n == N && fabs(r.mean - mean) < 1e-9);
    assert_true(fabs(r.low - (mean - half)) < 0.1 * half);
    assert_true(fabs(r.high - (mean + half)) < 0.1 * half);
}

/* Of n coin throws: the interval of the binomial. */
static void bootstrap_finds_the_binomial_interval(void **state)
{
    (void)state;
    double x[100];
    struct lr_eval_interval r;
    for (int i = 0; i < 100; i++)
        x[i] = i < 30;
    assert_int_equal(lr_eval_bootstrap(x, 100, 9, &r), 0);
    assert_true(r.mean == 0.3);
    assert_true(fabs(r.low - 0.21) < 0.025 && fabs(r.high - 0.39) < 0.025);
    struct lr_eval_interval again;
    assert_int_equal(lr_eval_bootstrap(x, 100, 9, &again), 0);
    assert_memory_equal(&r, &again, sizeof r);
}

static void pairs_see_what_means_do_not(void **state)
{
    (void)state;
    double a[50], b[50]; /* samples differ by far more than sides do */
    struct lr_eval_pair p;
    for (int i = 0; i < 50; i++) {
        b[i] = i * 10;
        a[i] = b[i] + (i % 5 ? 1 : 0);
    }
    assert_int_equal(lr_eval_paired(a, b, 50, 1, &p), 0);
    assert_true(p.wins == 40 && p.ties == 10 && p.losses == 0);
    assert_true(fabs(p.diff.mean - 0.8) < 1e-12 && p.diff.low > 0.6 && p.diff.high < 1);
    assert_int_equal(lr_eval_paired(a, a, 50, 1, &p), 0);
    assert_true(p.diff.low == 0 && p.diff.high == 0 && p.ties == 50);
    assert_int_equal(lr_eval_paired(a, a, 0, 1, &p), 0);
    assert_true(p.diff.n == 0 && p.diff.mean == 0);
}

static void memory_that_runs_out_is_a_result(void **state)
{
    (void)state;
    double x[3] = {1, 2, 3};
    struct lr_eval_pair p;
    for (uint64_t n = 1;; n++) {
        lr_fault_arm(n);
        int rc = lr_eval_paired(x, x, 3, 1, &p);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (!hit) {
            assert_int_equal(rc, 0);
            return;
        }
        assert_int_equal(rc, LR_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_lie_between_order_statistics),
        cmocka_unit_test(bootstrap_finds_the_normal_interval),
        cmocka_unit_test(bootstrap_finds_the_binomial_interval),
        cmocka_unit_test(pairs_see_what_means_do_not),
        cmocka_unit_test(memory_that_runs_out_is_a_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
