/* SPDX-License-Identifier: Apache-2.0
 * policy/codec_q4.c - rows of 4 bits: per 32 elements a scale (binary16) and 32 nibbles around zero.
 *
 * 4.5 bits an element; error of an element at most 1/7.9 of the largest of its 32. The layout is GGUF's
 * Q4_0. Where it fails: keys with a few large channels, which take the grid of their 31 neighbours with
 * them; codec_saw_int4.c is the cure, this is the control.
 */
#include "policy/policy_int.h"

const struct lr_policy_codec lr_policy_codec_q4 = {
    LR_POLICY_CODEC_TABLE,
    .name = "q4",
    .what = "4.5 bits an element: 32 share a scale",
    .k = "Q4_0",
    .v = "Q4_0",
    .lossy = 1,
};
