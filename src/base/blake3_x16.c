/* SPDX-License-Identifier: Apache-2.0
 * base/blake3_x16.c - BLAKE3 over sixteen: AVX-512. The code is in blake3_lanes.h.
 */
#include "base/blake3_int.h"

#ifdef LR_B3_X16
#define LANES 16
#define LANES_FN lr_b3_x16
#define LANES_TARGET __attribute__((target("avx512f,avx512vl")))
#include "base/blake3_lanes.h"
#endif
