/* SPDX-License-Identifier: Apache-2.0
 * eval/stat.c - means, quantiles and bootstrap intervals.
 *
 * Bootstrap: percentile method (Efron 1979). A resample draws n of the n samples with replacement;
 * the interval is the 2.5th to the 97.5th percentile of the means of `rounds` resamples. For a
 * paired comparison the samples are differences: both sides of a pair are drawn together, which is
 * what makes small effects visible when samples differ much in difficulty. Percentile intervals are
 * a little narrow for few samples (n below 20 or so); with n of them all alike the interval is a
 * point, which says that the sample cannot tell, not that the truth is known: report n beside it.
 *
 * Seeds are fixed, so the same results give the same page.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lr_eval_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : 0;
}

double lr_eval_quantile(double *x, size_t n, double q)
{
    if (!n)
        return 0;
    qsort(x, n, sizeof *x, by_value);
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? x[i] + (at - (double)i) * (x[i + 1] - x[i]) : x[n - 1];
}

double lr_eval_median(double *x, size_t n)
{
    return lr_eval_quantile(x, n, 0.5);
}

#define ROUNDS 2000u

int lr_eval_bootstrap(const double *x, size_t n, uint64_t seed, struct lr_eval_interval *out)
{
    struct lr_eval_interval r = {.n = n, .mean = lr_eval_mean(x, n)};
    double *means = lr_calloc(ROUNDS, sizeof *means);
    LR_FAIL_IF(!means, LR_ENOMEM);
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    for (size_t k = 0; n && k < ROUNDS; k++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += x[lr_rng_below(&rng, n)];
        means[k] = sum / (double)n;
    }
    r.low = n ? lr_eval_quantile(means, ROUNDS, 0.025) : 0;
    r.high = n ? lr_eval_quantile(means, ROUNDS, 0.975) : 0;
    lr_free(means);
    *out = r;
    return 0;
}

int lr_eval_paired(const double *a, const double *b, size_t n, uint64_t seed,
                   struct lr_eval_pair *out)
{
    struct lr_eval_pair r = {0};
    double *d = lr_calloc(n ? n : 1, sizeof *d);
    LR_FAIL_IF(!d, LR_ENOMEM);
    for (size_t i = 0; i < n; i++) {
        d[i] = a[i] - b[i];
        r.wins += d[i] > 0;
        r.losses += d[i] < 0;
        r.ties += d[i] == 0;
    }
    int rc = lr_eval_bootstrap(d, n, seed, &r.diff);
    lr_free(d);
    LR_TRY(rc);
    *out = r;
    return 0;
}
