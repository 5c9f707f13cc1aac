/* SPDX-License-Identifier: Apache-2.0
 * base/blake3_x8.c - BLAKE3 over eight: AVX2. The code is in blake3_lanes.h.
 */
#include "base/blake3_int.h"

#ifdef LR_B3_X16
#define LANES 8
#define LANES_FN lr_b3_x8
#define LANES_TARGET __attribute__((target("avx2")))
#include "base/blake3_lanes.h"
#endif
