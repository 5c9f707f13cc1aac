/* SPDX-License-Identifier: Apache-2.0
 * kern/variant_neondot.c - as variant_neon.c, with products of bytes in one instruction (ARMv8.2).
 */
#include "kern/kern_int.h"

#if defined(__aarch64__)
#define VARIANT      lr_kern_neondot
#define VARIANT_NAME "neondot"
#define HAS_FMA      1
#include "kern/lanes_neon.h"
#include "kern/body.h"
#endif
