/* SPDX-License-Identifier: Apache-2.0
 * policy/codec_saw_int4.c - rows of 4 bits with one scale each; keys are rotated first.
 *
 *   key      k H        s * q + z, q in 0..15; s, z binary16, one pair a row
 *   value    v          the same, not rotated
 *   query    q H        so that q H . k H = q . k
 *   bits     4 + 32/D an element: 4.5 with heads of 64, 4.25 with 128
 *
 * Idea: a few channels of keys are many times larger than the others, in every token; with one range for
 * a row they leave the others two or three steps of the grid. H (orthonormal Hadamard, blocks of the
 * largest power of two that divides D, at most 128) spreads each channel over all of its block: the range
 * becomes that of a sum of many terms. Queries pay one rotation of D log D additions a head; rows are
 * read as they lie (kern/'s I4R). Values have no such channels, and leaving them saves rotating outputs.
 *
 * State: none. Cost: a rotation a key and query. Where it fails: keys without outliers gain nothing (the
 * rotation neither helps nor harms them), and 4 bits are then 4 bits; positions stored by slot would have
 * to be rotated back before RoPE.
 *
 * Source: SAW-INT4 / BDR (togethercomputer/saw-int4), from its description. Deviations: the block is the
 * whole head where that is a power of two up to 128 (the release has 16 and 128 as settings); no rows of
 * higher precision at the start or the end; values are never rotated (ROTATE_V there, off by default).
 */
#include "policy/policy_int.h"

static size_t block_of(size_t d)
{
    size_t block = 1;
    while (block < 128 && d % (2 * block) == 0)
        block *= 2;
    return block;
}

/* Its own inverse: keys in, keys out, queries. */
static void rotate(float *x, size_t d)
{
    lr_kern()->hadamard(x, d, block_of(d));
}

const struct lr_policy_codec lr_policy_codec_saw_int4 = {
    LR_POLICY_CODEC_TABLE,
    .name = "saw-int4",
    .what = "4 + 32/D bits an element: keys through a Hadamard rotation, a scale a row",
    .k = "I4R",
    .v = "I4R",
    .lossy = 1,
    .enc_k = rotate,
    .dec_k = rotate,
    .qx = rotate,
};
