/* SPDX-License-Identifier: Apache-2.0
 * kern/variant_avx512vnni.c - variant_avx512.c plus VNNI: four products of bytes at once (2019).
 */
#include "kern/kern_int.h"

#if defined(__x86_64__)
#define VARIANT      lr_kern_avx512vnni
#define VARIANT_NAME "avx512vnni"
#define HAS_FMA      1
#include "kern/lanes_avx512.h"
#include "kern/body.h"
#endif
