/* SPDX-License-Identifier: Apache-2.0
 * match/bound.c - from labels of the past to "serve" with at most so many wrong answers.
 *
 * Two questions are kept apart, because they have very different numbers of labels.
 *
 * All entries together: from which score on is the verifier right often enough? Labels are counted
 * in 64 bins of the score. Going down from the top, bin by bin, the upper end of the interval for
 * the error at or above the bin must stay within max_error; the first bin that breaks it ends the
 * walk (fixed-sequence testing, as in Angelopoulos et al. 2021, "Learn then Test": no correction
 * for many looks is needed, since a step is tried only when all before it held). The walk begins
 * where there are enough labels that a clean record could pass (299 for 1 %), which is decided
 * without looking at whether they are right. With fewer labels the verifier's own calibration is
 * believed: 1 - max_error.
 *
 * One entry: is it worse (or better) than its scores say? vCache answers with a logistic curve
 * through the entry's own labels and nothing else. To prove 1 % from a dozen labels is impossible,
 * so served hits would stop as soon as an entry ceased to be young; vCache bounds the error among
 * all requests instead, where a wrong answer is diluted by misses. Here the promise is about what
 * is served, and the entry's labels only shift what the verifier says:
 *
 *     P(right) = sigmoid(logit(score) + u),   u ~ N(0, 1.5^2) before any label
 *
 * with the posterior mode of u by Newton's method and its standard deviation from the curvature.
 * Downwards the shift counts in full, upwards one standard deviation less. The 1.5 is ours: it lets
 * three wrong labels at score .98 take an entry below .9.
 *
 * Bias. A label is drawn for every candidate below the floor, but only for some above it; counted
 * together this makes the error look larger than it is. The bound holds, the floor is a little
 * high.
 *
 * Sources: vCache, 2502.03771 (the mathematics as our specification reports it; its code, under a
 * licence without derivatives, was not read); Clopper and Pearson 1934.
 */
#include "match/match.h"

#include <math.h>

#define SPREAD 1.5 /* of entries around the verifier, in log odds */
#define STEEP  30  /* of the logistic curve of one entry; ours */

static size_t bin_of(float score)
{
    if (!(score > 0))
        return 0;
    size_t i = (size_t)(score * LR_BOUND_BINS);
    return i < LR_BOUND_BINS ? i : LR_BOUND_BINS - 1;
}

void lr_bound_add(struct lr_bound *b, float score, bool right)
{
    uint32_t *n = right ? &b->right[bin_of(score)] : &b->wrong[bin_of(score)];
    if (*n < UINT32_MAX)
        ++*n;
}

void lr_bound_age(struct lr_bound *b)
{
    for (size_t i = 0; i < LR_BOUND_BINS; i++) {
        b->right[i] /= 2;
        b->wrong[i] = b->wrong[i] / 2 + b->wrong[i] % 2; /* the last error is not forgotten */
    }
}

void lr_bound_see(struct lr_bound_seen *e, float score, bool right)
{
    if (e->n == LR_BOUND_SEEN) {
        memmove(e->score, e->score + 1, (LR_BOUND_SEEN - 1) * sizeof *e->score);
        e->right >>= 1;
        e->n--;
    }
    e->score[e->n] = score;
    e->right = (uint16_t)(e->right | (unsigned)right << e->n);
    e->n++;
}

/* ---- all entries ---- */

/* P(X <= k) for n trials at rate p, 0 < p < 1. */
static double binomial(uint64_t k, uint64_t n, double p)
{
    double sum = 0, lp = log(p), lq = log1p(-p), ln = lgamma((double)n + 1);
    for (uint64_t i = 0; i <= k; i++) {
        double term = ln - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) + (double)i * lp +
                      (double)(n - i) * lq;
        sum += exp(term);
    }
    return sum;
}

double lr_bound_upper(uint64_t wrong, uint64_t n)
{
    if (!n || wrong >= n)
        return 1;
    if (!wrong)
        return 1 - pow(1 - LR_BOUND_CONFIDENCE, 1 / (double)n);
    if (wrong > 10000) { /* the normal interval is as good by then, and the sum long */
        double p = (double)wrong / (double)n;
        return fmin(1, p + 1.6449 * sqrt(p * (1 - p) / (double)n) + 1 / (double)n);
    }
    double lo = (double)wrong / (double)n, hi = 1;
    for (int i = 0; i < 50; i++) {
        double mid = (lo + hi) / 2;
        if (binomial(wrong, n, mid) > 1 - LR_BOUND_CONFIDENCE)
            lo = mid;
        else
            hi = mid;
    }
    return hi;
}

void lr_bound_floor(const struct lr_bound *b, double max_error, struct lr_bound_floor *out)
{
    uint64_t n = 0, wrong = 0;
    bool tried = false;
    *out = (struct lr_bound_floor){.score = 2, .upper = 1};
    if (!(max_error > 0 && max_error < 1))
        return;
    for (size_t i = LR_BOUND_BINS; i-- > 0;) {
        n += (uint64_t)b->right[i] + b->wrong[i];
        wrong += b->wrong[i];
        if (lr_bound_upper(0, n) > max_error) /* even a clean record could not pass yet */
            continue;
        tried = true;
        double upper = lr_bound_upper(wrong, n);
        if (upper > max_error)
            break;
        *out = (struct lr_bound_floor){.score = (float)i / LR_BOUND_BINS,
                                       .learned = true,
                                       .n = n,
                                       .wrong = wrong,
                                       .upper = upper};
    }
    if (!tried)
        *out = (struct lr_bound_floor){.score = (float)(1 - max_error),
                                       .n = n,
                                       .wrong = wrong,
                                       .upper = lr_bound_upper(wrong, n)};
}

/* ---- one entry ---- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double logit(float p)
{
    double q = fmin(fmax(p, 1e-6), 1 - 1e-6);
    return log(q / (1 - q));
}

static bool is_right(const struct lr_bound_seen *e, size_t i)
{
    return e->right >> i & 1;
}

float lr_bound_correct(const struct lr_bound_seen *e, float score)
{
    if (e->n < LR_BOUND_YOUNG)
        return score;
    double u = 0, curve = 0;
    for (int round = 0; round < 30; round++) {
        double slope = -u / (SPREAD * SPREAD);
        curve = 1 / (SPREAD * SPREAD);
        for (size_t i = 0; i < e->n; i++) {
            double p = sigmoid(logit(e->score[i]) + u);
            slope += is_right(e, i) - p;
            curve += p * (1 - p);
        }
        double step = slope / curve;
        u += step;
        if (fabs(step) < 1e-9)
            break;
    }
    if (u > 0)
        u = fmax(0, u - 1 / sqrt(curve));
    return (float)sigmoid(logit(score) + u);
}

/* Point i of a fit: the labels, then one right at 1 and one wrong at 0. */
static void point(const struct lr_bound_seen *e, size_t i, double *s, double *y)
{
    *s = i < e->n ? e->score[i] : i == e->n;
    *y = i < e->n ? is_right(e, i) : i == e->n;
}

/* Log posterior of the curve sigmoid(a s + b). */
static double plausible(const struct lr_bound_seen *e, double a, double b)
{
    double sum = -(a * a + b * b) / (2 * STEEP * STEEP);
    for (size_t i = 0; i < e->n + 2u; i++) {
        double s, y;
        point(e, i, &s, &y);
        double x = a * s + b;
        sum -= log1p(exp(-fabs(x))) + fmax(0, y > 0.5 ? -x : x);
    }
    return sum;
}

/* The most plausible weights, by Newton's method with halved steps, and the inverse of the
 * curvature there. A prior N(0, STEEP^2) on both keeps the fit finite when labels can be separated,
 * where vCache has a table. */
static bool fit(const struct lr_bound_seen *e, double *a, double *b, double v[3])
{
    const double prior = 1 / ((double)STEEP * STEEP);
    *a = *b = 0;
    for (int round = 0; round < 50; round++) {
        double ga = -*a * prior, gb = -*b * prior, haa = prior, hab = 0, hbb = prior;
        for (size_t i = 0; i < e->n + 2u; i++) {
            double s, y;
            point(e, i, &s, &y);
            double p = sigmoid(*a * s + *b), w = p * (1 - p);
            ga += (y - p) * s, gb += y - p;
            haa += w * s * s, hab += w * s, hbb += w;
        }
        double det = haa * hbb - hab * hab; /* at least prior^2 */
        v[0] = hbb / det, v[1] = -hab / det, v[2] = haa / det;
        double da = v[0] * ga + v[1] * gb, db = v[1] * ga + v[2] * gb, step = 1;
        double now = plausible(e, *a, *b);
        while (step > 1e-6 && plausible(e, *a + step * da, *b + step * db) < now)
            step /= 2;
        *a += step * da, *b += step * db;
        if (fmax(fabs(da), fabs(db)) < 1e-6)
            break;
    }
    return *a > 1e-3; /* a curve that falls says nothing */
}

double lr_bound_vcache(const struct lr_bound_seen *e, float score)
{
    /* Quantiles of the normal distribution at 1 - eps. */
    static const double eps[] = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4};
    static const double z[] = {3.0902, 2.8070, 2.5758, 2.3263, 2.0537,
                               1.6449, 1.2816, 0.8416, 0.5244, 0.2533};
    double a, b, v[3], best = 0;
    if (e->n < LR_BOUND_YOUNG || !fit(e, &a, &b, v))
        return 0;
    double t = -b / a, var = (v[2] + 2 * t * v[1] + t * t * v[0]) / (a * a);
    for (size_t i = 0; i < LR_COUNT(eps); i++) {
        double late = fmin(1, fmax(0, t + z[i] * sqrt(fmax(0, var))));
        best = fmax(best, (1 - eps[i]) * sigmoid(a * ((double)score - late)));
    }
    return best;
}
