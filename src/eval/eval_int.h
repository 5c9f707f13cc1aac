/* SPDX-License-Identifier: Apache-2.0
 * eval/eval_int.h - what eval's files share.
 */
#ifndef LR_EVAL_EVAL_INT_H
#define LR_EVAL_EVAL_INT_H

#include "eval/eval.h"

#include <assert.h>

/* The best of n logits, the lowest id among equals. */
uint32_t lr_eval_best(const float *x, uint32_t n);

#endif
