/* SPDX-License-Identifier: Apache-2.0
 * base/blake3_int.h - what blake3.c and its many-lane kernels share.
 */
#ifndef LR_BASE_BLAKE3_INT_H
#define LR_BASE_BLAKE3_INT_H

#include <stddef.h>
#include <stdint.h>

enum {
    LR_B3_CHUNK_START = 1,
    LR_B3_CHUNK_END = 2,
    LR_B3_PARENT = 4,
    LR_B3_ROOT = 8,
    LR_B3_KEYED = 16,
    LR_B3_DERIVE_CONTEXT = 32,
    LR_B3_DERIVE_MATERIAL = 64
};

/* A row of equally shaped inputs: input i lies at p + i * blocks * 64 and is `blocks` whole blocks. */
struct lr_b3_row {
    const uint8_t *p;
    size_t blocks;       /* 16 for chunks, 1 for parents */
    const uint32_t *key; /* 8 words */
    uint64_t counter;    /* of input 0 */
    uint32_t counter_up; /* 1 for chunks, 0 for parents */
    uint32_t flags;      /* of every block */
    uint32_t first, last; /* flags added to the first and last block of an input */
};

extern const uint32_t lr_b3_iv[8];
/* Round r mixes message word schedule[r][i] in step i. */
extern const uint8_t lr_b3_schedule[7][16];

#endif
