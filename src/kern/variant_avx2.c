/* SPDX-License-Identifier: Apache-2.0
 * kern/variant_avx2.c - the kernels for AVX2 with FMA and F16C (2013 on).
 */
#include "kern/kern_int.h"

#if defined(__x86_64__)
#define VARIANT      lr_kern_avx2
#define VARIANT_NAME "avx2"
#define HAS_FMA      1
#include "kern/lanes_avx2.h"
#include "kern/body.h"
#endif
