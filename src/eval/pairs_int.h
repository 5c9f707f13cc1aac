/* SPDX-License-Identifier: Apache-2.0
 * eval/pairs_int.h - what pairs.c and pairs_fit.c share.
 */
#ifndef LR_EVAL_PAIRS_INT_H
#define LR_EVAL_PAIRS_INT_H

#include "eval/eval_int.h"

#define PAIR_FEATURES 4u

/* Scores of labelled pairs and what each counts. */
struct pair_scores {
    double *score;
    const bool *same;
    size_t n;
    double n_same;
    uint32_t *order;         /* best first; lr_eval_sort */
    double w_same, w_other;  /* lr_eval_weights */
};
struct pair_quality {
    double threshold, precision, recall, f1, accuracy, recall_p95;
};

/* Duplicates count as `share` of all; 0: as they are. */
void lr_eval_weights(struct pair_scores *s, double share);
void lr_eval_sort(struct pair_scores *s);
/* threshold NULL: the one of the best F1. Sorted and weighted before. */
struct pair_quality lr_eval_quality(const struct pair_scores *s, const double *threshold);
int lr_eval_pair_intervals(const struct pair_scores *s, double threshold, uint64_t seed,
                           struct pair_quality *low, struct pair_quality *high);
/* x (n, k), k <= PAIR_FEATURES; weights (k + 1), the last a constant. */
void lr_eval_fuse(const double *x, const bool *same, size_t n, size_t k, double *weights);
double lr_eval_fused(const double *weights, const double *x, size_t k);

#endif
