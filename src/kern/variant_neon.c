/* SPDX-License-Identifier: Apache-2.0
 * kern/variant_neon.c - the kernels for 64-bit ARM, any of them.
 */
#include "kern/kern_int.h"

#if defined(__aarch64__)
#define VARIANT      lr_kern_neon
#define VARIANT_NAME "neon"
#define HAS_FMA      1
#include "kern/lanes_neon.h"
#include "kern/body.h"
#endif
