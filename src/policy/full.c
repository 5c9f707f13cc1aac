/* SPDX-License-Identifier: Apache-2.0
 * policy/full.c - keeps every row: what everything else is held against.
 *
 * No taps, no edits, no budget: a sequence with it goes the same way, bit for bit, as one without a
 * policy. It exists so that tables and stacks have a name for doing nothing.
 */
#include "policy/policy_int.h"

const struct lr_policy lr_policy_full = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_LOSSLESS,
    .name = "full",
    .what = "every row stays",
};
