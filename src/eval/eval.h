/* SPDX-License-Identifier: Apache-2.0
 * eval/eval.h - what a KV policy saves and what it costs, measured: `larder eval kv`, `larder calc`,
 * `larder bench engine`.
 *
 *   bench    speed of a model on this machine                          (bench.c)
 *   calc     from a shape and a machine to users, seconds, tokens/s    (calc.c, machine.c)
 *   stat     means, quantiles, bootstrap intervals                     (stat.c)
 *   task     samples of the recall tasks of docs/recall.md             (words.c, task.c, needle.c, own.c)
 *   kv       prefill once, fork per policy and budget; controls        (kv.c and what it names)
 *   report   results to a table and a page                             (table.c, page.c, plot.c)
 *
 * Unlike the modules below it, this one reads the clock: it measures. Nothing here is called while
 * requests are served.
 */
#ifndef LR_EVAL_EVAL_H
#define LR_EVAL_EVAL_H

#include "base/base.h"
#include "engine/engine.h"

/* ---- bench ---- */

#define LR_EVAL_RUNS_MAX 99u

struct lr_eval_bench {
    const char *model; /* a GGUF file */
    const char *codec; /* of rows; NULL: f16 */
    uint64_t prompt, predict; /* tokens; prompt at least 1 */
    unsigned threads, runs;   /* runs: 1..LR_EVAL_RUNS_MAX, after one that does not count */
};
struct lr_eval_speed {
    uint64_t context;    /* rows at the end */
    double prefill_tps;  /* prompt over the time until its last logits; median of the runs */
    double decode_tps;   /* predict over the time of its steps; 0 with none */
};
int lr_eval_bench(const struct lr_eval_bench *b, struct lr_eval_speed *out, struct lr_err *err);

/* ---- statistics ---- */

struct lr_eval_interval {
    size_t n;
    double mean, low, high; /* 95 %; all 0 when n is */
};
struct lr_eval_pair {
    struct lr_eval_interval diff; /* of a - b, sample by sample */
    size_t wins, ties, losses;    /* a > b, a == b, a < b */
};
double lr_eval_mean(const double *x, size_t n);
/* Linear between order statistics; sorts x. 0 when n is 0. */
double lr_eval_quantile(double *x, size_t n, double q);
double lr_eval_median(double *x, size_t n);
/* Percentile bootstrap of the mean. LR_ENOMEM. */
int lr_eval_bootstrap(const double *x, size_t n, uint64_t seed, struct lr_eval_interval *out);
int lr_eval_paired(const double *a, const double *b, size_t n, uint64_t seed,
                   struct lr_eval_pair *out);

#endif
