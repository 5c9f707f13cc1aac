/* SPDX-License-Identifier: Apache-2.0
 * policy/codec_f16.c - rows as binary16: what others are compared with.
 *
 * 16 bits an element. Not called lossy: a key goes through it once more without losing anything.
 */
#include "policy/policy_int.h"

const struct lr_policy_codec lr_policy_codec_f16 = {
    LR_POLICY_CODEC_TABLE,
    .name = "f16",
    .what = "16 bits an element (binary16)",
    .k = "F16",
    .v = "F16",
};
