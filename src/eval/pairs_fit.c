/* SPDX-License-Identifier: Apache-2.0
 * eval/pairs_fit.c - what a threshold makes of labelled scores at a given share of duplicates, how
 * sure that is, and one score out of several.
 *
 * Share. A set of pairs comes with the share of duplicates somebody chose; a cache's traffic has
 * another. Each duplicate counts w, each other pair v, such that duplicates are the share asked for
 * of the total: precision, F1 and accuracy are then those of such traffic, recall is what it was.
 *
 * Intervals: 2.5th to 97.5th percentile of ROUNDS resamples of the pairs with replacement, the
 * threshold fixed, the share restored in each (stat.c says more about the method).
 *
 * Several scores become one by a logistic curve through them, fitted where thresholds are fixed: on
 * the validation pairs alone. Newton's method; a weak pull to zero keeps separable sets finite.
 */
#include "eval/pairs_int.h"

#include <math.h>
#include <stdlib.h>

#define ROUNDS 500u

void lr_eval_weights(struct pair_scores *s, double share)
{
    size_t same = 0;
    for (size_t i = 0; i < s->n; i++)
        same += s->same[i];
    s->w_same = same && share > 0 ? share * (double)s->n / (double)same : 1;
    s->w_other = same < s->n && share > 0 ? (1 - share) * (double)s->n / (double)(s->n - same) : 1;
}

static int by_score(const void *a, const void *b, void *scores)
{
    const double *s = scores;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    if (s[i] > s[k] || s[i] < s[k])
        return s[i] > s[k] ? -1 : 1;
    return i < k ? -1 : i > k;
}

void lr_eval_sort(struct pair_scores *s)
{
    for (size_t i = 0; i < s->n; i++)
        s->order[i] = (uint32_t)i;
    qsort_r(s->order, s->n, sizeof *s->order, by_score, s->score);
}

static struct pair_quality rate(double tp, double taken, double same, double all, double threshold)
{
    struct pair_quality q = {.threshold = threshold};
    q.precision = taken > 0 ? tp / taken : 0;
    q.recall = same > 0 ? tp / same : 0;
    q.f1 = taken + same > 0 ? 2 * tp / (taken + same) : 0;
    q.accuracy = all > 0 ? (all - taken - same + 2 * tp) / all : 0;
    return q;
}

/* times: how often each pair was drawn, NULL: once. */
static struct pair_quality sweep(const struct pair_scores *s, const uint16_t *times,
                                 const double *threshold)
{
    double same = 0, other = 0, tp = 0, fp = 0, p95 = 0;
    for (size_t i = 0; i < s->n; i++)
        *(s->same[i] ? &same : &other) += times ? times[i] : 1;
    /* the share of all pairs is the share of the resample too */
    double w = same > 0 ? s->w_same * s->n_same / same : 0;
    double v = other > 0 ? s->w_other * (double)(s->n - (size_t)s->n_same) / other : 0;
    same *= w;
    double all = same + other * v;
    struct pair_quality best = rate(0, 0, same, all, threshold ? *threshold : INFINITY);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t at = s->order[i];
        double n = times ? times[at] : 1;
        *(s->same[at] ? &tp : &fp) += n * (s->same[at] ? w : v);
        if (i + 1 < s->n && s->score[s->order[i + 1]] >= s->score[at])
            continue; /* not all of the equals yet */
        struct pair_quality q = rate(tp, tp + fp, same, all, s->score[at]);
        if (q.precision >= 0.95)
            p95 = fmax(p95, q.recall);
        if (threshold ? s->score[at] >= *threshold : q.f1 > best.f1) {
            best = q;
            best.threshold = threshold ? *threshold : s->score[at];
        }
    }
    best.recall_p95 = p95;
    return best;
}

struct pair_quality lr_eval_quality(const struct pair_scores *s, const double *threshold)
{
    return sweep(s, NULL, threshold);
}

int lr_eval_pair_intervals(const struct pair_scores *s, double threshold, uint64_t seed,
                           struct pair_quality *low, struct pair_quality *high)
{
    double *values = lr_calloc(5 * (size_t)ROUNDS, sizeof *values);
    uint16_t *times = lr_calloc(s->n, sizeof *times);
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    for (size_t k = 0; values && times && k < ROUNDS; k++) {
        memset(times, 0, s->n * sizeof *times);
        for (size_t i = 0; i < s->n; i++)
            times[lr_rng_below(&rng, s->n)]++;
        struct pair_quality q = sweep(s, times, &threshold);
        const double v[] = {q.precision, q.recall, q.f1, q.accuracy, q.recall_p95};
        for (size_t i = 0; i < LR_COUNT(v); i++)
            values[i * ROUNDS + k] = v[i];
    }
    struct pair_quality *out[] = {low, high};
    for (size_t e = 0; values && times && e < 2; e++) {
        double at = e ? 0.975 : 0.025;
        out[e]->precision = lr_eval_quantile(values, ROUNDS, at);
        out[e]->recall = lr_eval_quantile(values + ROUNDS, ROUNDS, at);
        out[e]->f1 = lr_eval_quantile(values + 2 * ROUNDS, ROUNDS, at);
        out[e]->accuracy = lr_eval_quantile(values + 3 * ROUNDS, ROUNDS, at);
        out[e]->recall_p95 = lr_eval_quantile(values + 4 * ROUNDS, ROUNDS, at);
    }
    int rc = values && times ? 0 : LR_ENOMEM;
    lr_free(values);
    lr_free(times);
    return rc;
}

/* ---- one score out of several ---- */

/* a (k, k) x = b, destroyed; k <= PAIR_FEATURES + 1. False: singular. */
static bool solve(double a[][PAIR_FEATURES + 1], double *b, size_t k)
{
    for (size_t c = 0; c < k; c++) {
        size_t p = c;
        for (size_t r = c + 1; r < k; r++)
            p = fabs(a[r][c]) > fabs(a[p][c]) ? r : p;
        if (fabs(a[p][c]) < 1e-12)
            return false;
        for (size_t i = 0; i < k; i++) {
            double keep = a[c][i];
            a[c][i] = a[p][i];
            a[p][i] = keep;
        }
        double keep = b[c];
        b[c] = b[p];
        b[p] = keep;
        for (size_t r = 0; r < k; r++) {
            double f = r == c ? 0 : a[r][c] / a[c][c];
            for (size_t i = c; i < k; i++)
                a[r][i] -= f * a[c][i];
            b[r] -= f * b[c];
        }
    }
    for (size_t c = 0; c < k; c++)
        b[c] /= a[c][c];
    return true;
}

double lr_eval_fused(const double *weights, const double *x, size_t k)
{
    double z = weights[k];
    for (size_t i = 0; i < k; i++)
        z += weights[i] * x[i];
    return z;
}

void lr_eval_fuse(const double *x, const bool *same, size_t n, size_t k, double *weights)
{
    memset(weights, 0, (k + 1) * sizeof *weights);
    for (int round = 0; round < 30; round++) {
        double h[PAIR_FEATURES + 1][PAIR_FEATURES + 1] = {{0}}, g[PAIR_FEATURES + 1] = {0}, most = 0;
        for (size_t i = 0; i <= k; i++) {
            h[i][i] = 1e-3;
            g[i] = 1e-3 * weights[i];
        }
        for (size_t i = 0; i < n; i++) {
            const double *row = x + i * k;
            double p = 1 / (1 + exp(-lr_eval_fused(weights, row, k)));
            for (size_t a = 0; a <= k; a++) {
                double xa = a < k ? row[a] : 1;
                g[a] += (p - (same[i] ? 1 : 0)) * xa;
                for (size_t b = 0; b <= k; b++)
                    h[a][b] += p * (1 - p) * xa * (b < k ? row[b] : 1);
            }
        }
        if (!solve(h, g, k + 1))
            break;
        for (size_t i = 0; i <= k; i++) {
            weights[i] -= g[i];
            most = fmax(most, fabs(g[i]));
        }
        if (most < 1e-8)
            break;
    }
}
