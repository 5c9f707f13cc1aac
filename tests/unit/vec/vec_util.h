/* SPDX-License-Identifier: Apache-2.0
 * unit/vec/vec_util.h - vectors for the tests, and the obviously correct twin of an index.
 */
#ifndef LR_TEST_VEC_UTIL_H
#define LR_TEST_VEC_UTIL_H

#include "vec/vec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DIM_MAX = 128, TWIN_MAX = 6000 };

static inline void normalise(float *x, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
}

/* About normal: the sum of four uniforms. */
static inline float bell(struct lr_rng *r)
{
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += lr_rng_unit(r) - 0.5;
    return (float)(sum * 1.732);
}

/* Around one of `centres` fixed directions. */
static inline void random_vector(struct lr_rng *r, size_t dim, uint64_t centres, float *x)
{
    struct lr_rng c;
    lr_rng_seed(&c, 1000 + lr_rng_below(r, centres));
    for (size_t i = 0; i < dim; i++)
        x[i] = bell(&c) + 0.6f * bell(r);
    normalise(x, dim);
}

/* Ids below TWIN_MAX, the vector of each, and whether it is in. */
struct twin {
    size_t dim;
    bool in[TWIN_MAX];
    float x[TWIN_MAX][DIM_MAX];
    size_t live;
};

static inline double product(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* The similarity of the k-th nearest, -2 when there are fewer. */
static inline double twin_kth(const struct twin *t, const float *q, size_t k)
{
    double best[64];
    size_t n = 0;
    for (size_t id = 0; id < TWIN_MAX; id++) {
        if (!t->in[id])
            continue;
        double s = product(t->x[id], q, t->dim);
        size_t at = n;
        while (at > 0 && best[at - 1] < s)
            at--;
        if (at >= k)
            continue;
        size_t last = n < k ? n : k - 1;
        memmove(&best[at + 1], &best[at], (last - at) * sizeof best[0]);
        best[at] = s;
        n = n < k ? n + 1 : k;
    }
    return n < k ? -2 : best[k - 1];
}

struct house {
    struct lr_vec_hall *hall;
    struct lr_vec_reader *r;
    struct lr_vec_arena *a;
};

static inline int house_open(struct house *h, size_t max)
{
    *h = (struct house){0};
    int rc = lr_vec_hall_open(&h->hall);
    if (!rc)
        rc = lr_vec_reader_open(h->hall, &h->r);
    if (!rc)
        rc = lr_vec_arena_open(h->hall, max, &h->a);
    return rc;
}

static inline void house_close(struct house *h)
{
    lr_vec_arena_close(h->a);
    lr_vec_reader_close(h->r);
    lr_vec_hall_close(h->hall);
}

#endif
