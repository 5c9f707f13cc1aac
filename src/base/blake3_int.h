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

/* A row of equally shaped inputs: input i lies at p + i * blocks * 64 and is `blocks` whole blocks.
 * */
struct lr_b3_row {
    const uint8_t *p;
    size_t blocks;       /* 16 for chunks, 1 for parents */
    const uint32_t *key; /* 8 words */
    uint64_t counter;    /* of input 0 */
    uint32_t counter_up; /* 1 for chunks, 0 for parents */
    uint32_t flags;      /* of every block */
    uint32_t first, last; /* flags added to the first and last block of an input */
};

/* Tables in the header: kernels unroll their rounds and need the numbers at compile time. */
static const uint32_t lr_b3_iv[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                              0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

/* Round r mixes message word schedule[r][i] in step i. */
static const uint8_t lr_b3_schedule[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
    {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
    {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

/* Values of inputs first .. first+n-1 of a row, 1 <= n <= the kernel's lanes. x8 needs AVX2, x16
 * AVX-512 (F and VL), x4 on x86 SSE4.1: the caller asks the CPU. */
void lr_b3_x4(const struct lr_b3_row *r, size_t first, size_t n, uint32_t (*out)[8]);
#ifdef __x86_64__
#define LR_B3_X16
void lr_b3_x8(const struct lr_b3_row *r, size_t first, size_t n, uint32_t (*out)[8]);
void lr_b3_x16(const struct lr_b3_row *r, size_t first, size_t n, uint32_t (*out)[8]);
#endif

#endif
