/* SPDX-License-Identifier: Apache-2.0
 * policy/codec_q8.c - rows of 8 bits: per 32 elements a scale (binary16) and 32 signed bytes.
 *
 * 8.5 bits an element; error of an element at most 1/253 of the largest of its 32. Products read the
 * bytes as they are (kern/'s mul), no row is expanded. The layout is GGUF's Q8_0, as in llama.cpp's
 * --cache-type-k q8_0. Where it fails: nowhere we measured; it is the codec to take first.
 */
#include "policy/policy_int.h"

const struct lr_policy_codec lr_policy_codec_q8 = {
    LR_POLICY_CODEC_TABLE,
    .name = "q8",
    .what = "8.5 bits an element: 32 share a scale",
    .k = "Q8_0",
    .v = "Q8_0",
    .lossy = 1,
};
