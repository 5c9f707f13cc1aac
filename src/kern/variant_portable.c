/* SPDX-License-Identifier: Apache-2.0
 * kern/variant_portable.c - the kernels in plain C: for any CPU, and a twin for the others.
 */
#include "kern/kern_int.h"

#define VARIANT      lr_kern_portable
#define VARIANT_NAME "portable"
#define HAS_FMA      0
#include "kern/lanes_c.h"
#include "kern/body.h"
