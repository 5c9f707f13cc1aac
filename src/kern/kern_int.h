/* SPDX-License-Identifier: Apache-2.0
 * kern/kern_int.h - what the files of kern/ share.
 */
#ifndef LR_KERN_KERN_INT_H
#define LR_KERN_KERN_INT_H

#include "kern/kern.h"

#include <assert.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))
/* The sums must be registers, not an array: every loop over the tile has to be unrolled. */
#ifdef __clang__
#define UNROLLED(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define UNROLLED(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
#endif

/* One table per variant; which exist depends on the machine the compiler aims at. */
extern const struct lr_kern lr_kern_portable;
#if defined(__x86_64__)
extern const struct lr_kern lr_kern_avx2, lr_kern_avx512, lr_kern_avx512vnni;
#elif defined(__aarch64__)
extern const struct lr_kern lr_kern_neon, lr_kern_neondot;
#endif

/* binary16 <-> float without help from the CPU; nearest even, denormals kept, NaN made quiet. */
static inline float lr_kern_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff, bits;
    if (mag >= 0x7c00) /* infinity, NaN */
        bits = 0x7f800000 | (mag & 0x3ff) << 13 | (mag > 0x7c00 ? 0x400000u : 0);
    else if (mag >= 0x400)
        bits = (mag << 13) + ((127 - 15) << 23);
    else { /* denormal: mag units of 2^-24, exact as a float */
        float f = (float)mag * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
    }
    bits |= sign;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline uint16_t lr_kern_to_half(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, mag = bits & 0x7fffffff, h;
    if (mag > 0x7f800000)
        h = 0x7e00 | (mag >> 13 & 0x3ff);
    else if (mag >= 0x477ff000) /* rounds beyond 65504 */
        h = 0x7c00;
    else if (mag >= 0x38800000) /* the carry of rounding may run into the exponent, rightly */
        h = (mag + 0xfff + (mag >> 13 & 1) - ((127u - 15) << 23)) >> 13;
    else { /* denormal: let the adder round to units of 2^-24 */
        float a;
        memcpy(&a, &mag, sizeof a);
        a += 0.5f;
        memcpy(&mag, &a, sizeof mag);
        h = mag - 0x3f000000;
    }
    return (uint16_t)(sign | h);
}

static inline uint16_t lr_kern_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
