/* SPDX-License-Identifier: Apache-2.0
 * kern/variant_avx512.c - the kernels for AVX-512 F, BW, DQ, VL (2017 on).
 */
#include "kern/kern_int.h"

#if defined(__x86_64__)
#define VARIANT      lr_kern_avx512
#define VARIANT_NAME "avx512"
#define HAS_FMA      1
#include "kern/lanes_avx512.h"
#include "kern/body.h"
#endif
