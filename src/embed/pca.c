/* SPDX-License-Identifier: Apache-2.0
 * embed/pca.c - the main directions of a set of vectors.
 *
 * Covariance in doubles, then Jacobi's rotations: sweep over all pairs (p, q), turn each so that
 * the entry between them is zero, until what is off the diagonal is nothing. Quadratic convergence,
 * eight sweeps or so; 384 directions take a second, which a command line tool has. Directions are
 * signed so that their largest element is positive: the same vectors give the same head.
 *
 * As in MeanCache (Gill et al., 2024) means are taken off to find directions and not to use them:
 * the head stays a plain matrix, and cosines of unit vectors hardly have a common mean.
 * Source: Golub and Van Loan, "Matrix Computations", chapter 8.
 */
#include "embed/embed_int.h"

#include <stdlib.h>

#define PCA_DIM_MAX 1024u
#define SWEEPS_MAX  40

/* a (d, d): covariance, upper and lower. */
static void covariance(const float *x, size_t n, size_t d, double *mean, double *row, double *a)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < d; k++)
            mean[k] += (double)x[i * d + k] / (double)n;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < d; k++)
            row[k] = (double)x[i * d + k] - mean[k];
        for (size_t k = 0; k < d; k++)
            for (size_t l = k; l < d; l++)
                a[k * d + l] += row[k] * row[l] / (double)n;
    }
    for (size_t k = 0; k < d; k++)
        for (size_t l = 0; l < k; l++)
            a[k * d + l] = a[l * d + k];
}

/* Rows p and q of m become c p - s q and s p + c q. */
static void turn_rows(double *m, size_t d, size_t p, size_t q, double c, double s)
{
    for (size_t k = 0; k < d; k++) {
        double x = m[p * d + k], y = m[q * d + k];
        m[p * d + k] = c * x - s * y;
        m[q * d + k] = s * x + c * y;
    }
}

static void turn(double *a, double *v, size_t d, size_t p, size_t q)
{
    double t, theta = (a[q * d + q] - a[p * d + p]) / (2 * a[p * d + q]);
    t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    turn_rows(a, d, p, q, c, s);
    for (size_t k = 0; k < d; k++) {
        double x = a[k * d + p], y = a[k * d + q];
        a[k * d + p] = c * x - s * y;
        a[k * d + q] = s * x + c * y;
    }
    turn_rows(v, d, p, q, c, s);
}

/* a becomes diagonal; rows of v the directions. */
static void diagonalise(double *a, double *v, size_t d)
{
    for (size_t k = 0; k < d; k++)
        v[k * d + k] = 1;
    for (int sweep = 0; sweep < SWEEPS_MAX; sweep++) {
        double off = 0, on = 0;
        for (size_t p = 0; p < d; p++)
            for (size_t q = p; q < d; q++)
                *(p == q ? &on : &off) += a[p * d + q] * a[p * d + q];
        if (off <= 1e-24 * on)
            return;
        for (size_t p = 0; p < d; p++)
            for (size_t q = p + 1; q < d; q++)
                if (a[p * d + q] * a[p * d + q] > 1e-30 * on)
                    turn(a, v, d, p, q);
    }
}

static void take_best(const double *a, const double *v, size_t d, size_t k, float *head,
                      double *kept)
{
    double all = 0, sum = 0;
    for (size_t i = 0; i < d; i++)
        all += a[i * d + i];
    char used[PCA_DIM_MAX] = {0};
    for (size_t r = 0; r < k; r++) {
        size_t best = SIZE_MAX, peak = 0;
        for (size_t i = 0; i < d; i++)
            if (!used[i] && (best == SIZE_MAX || a[i * d + i] > a[best * d + best]))
                best = i;
        used[best] = 1;
        sum += a[best * d + best];
        const double *row = v + best * d;
        for (size_t i = 0; i < d; i++)
            if (fabs(row[i]) > fabs(row[peak]))
                peak = i;
        for (size_t i = 0; i < d; i++)
            head[r * d + i] = (float)(row[peak] < 0 ? -row[i] : row[i]);
    }
    if (kept)
        *kept = all > 0 ? sum / all : 1;
}

int lr_embed_pca(const float *vectors, size_t n, uint32_t dim, uint32_t k, float *head,
                 double *kept)
{
    size_t d = dim;
    LR_FAIL_IF(k < 1 || k > dim || dim > PCA_DIM_MAX || n < 2, LR_EINVAL);
    double *a = lr_calloc(2 * d * d + 2 * d, sizeof *a);
    LR_FAIL_IF(!a, LR_ENOMEM);
    double *v = a + d * d, *mean = v + d * d;
    covariance(vectors, n, d, mean, mean + d, a);
    diagonalise(a, v, d);
    take_best(a, v, d, k, head, kept);
    lr_free(a);
    return 0;
}
