/* SPDX-License-Identifier: Apache-2.0
 * base/blake3_x4.c - BLAKE3 over four: SSE4.1, NEON, or whatever has 128 bits. The code is in
 * blake3_lanes.h.
 */
#include "base/blake3_int.h"

#define LANES 4
#define LANES_FN lr_b3_x4
#ifdef __x86_64__
#define LANES_TARGET __attribute__((target("sse4.1")))
#else
#define LANES_TARGET
#endif
#include "base/blake3_lanes.h"
