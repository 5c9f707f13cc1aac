/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/kern/kern_kit.h - what the tests of kern/ share: every variant, awkward numbers, and
 * buffers that end where they end.
 */
#ifndef KERN_KIT_H
#define KERN_KIT_H

#include "kern/kern.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define EACH_VARIANT(k)                                                                            \
    for (size_t v_ = 0; v_ < 8; v_++)                                                              \
        for (const struct lr_kern *k = lr_kern_variant(v_); k; k = NULL)

/* Prints what is needed to see the case again, then fails. */
#define REQUIRE(cond, ...)                                                                         \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("%s:%d: ", __FILE__, __LINE__);                                                 \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            assert_true(cond);                                                                     \
        }                                                                                          \
    } while (0)

static inline float gauss(struct lr_rng *r)
{
    double u = 1 - lr_rng_unit(r), v = lr_rng_unit(r);
    return (float)(sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v));
}

/* Mostly ordinary numbers; now and then zeros of both signs, denormals, large and tiny ones. */
static inline float awkward(struct lr_rng *r)
{
    switch (lr_rng_below(r, 24)) {
    case 0:
        return 0.0f;
    case 1:
        return -0.0f;
    case 2:
        return (float)(lr_rng_unit(r) - 0.5) * 0x1p-126f;
    case 3:
        return gauss(r) * 1e4f;
    case 4:
        return gauss(r) * 1e-6f;
    default:
        return gauss(r);
    }
}

/* n floats; exact malloc, so that a sanitizer sees one lane too many. NaN without a generator. */
static inline float *floats(struct lr_rng *r, size_t n)
{
    float *p = malloc(n ? n * sizeof *p : 1);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = r ? awkward(r) : NAN;
    return p;
}

static inline void *scratch_new(void)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, LR_KERN_ALIGN, LR_KERN_SCRATCH), 0);
    memset(p, 0xff, LR_KERN_SCRATCH); /* NaN: nothing may leak out of it */
    return p;
}

static inline bool same(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

#endif
