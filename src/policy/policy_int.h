/* SPDX-License-Identifier: Apache-2.0
 * policy/policy_int.h - the built-in policies and codecs, and what several of them need.
 */
#ifndef LR_POLICY_POLICY_INT_H
#define LR_POLICY_POLICY_INT_H

#include "policy/policy.h"

#include <math.h>

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

/* One file each. */
extern const struct lr_policy lr_policy_full, lr_policy_random, lr_policy_streaming, lr_policy_h2o,
    lr_policy_snapkv, lr_policy_tova, lr_policy_knorm, lr_policy_keydiff, lr_policy_oracle,
    lr_policy_pyramid, lr_policy_topread, lr_policy_adakv;
extern const struct lr_policy_codec lr_policy_codec_f16, lr_policy_codec_q8, lr_policy_codec_q4,
    lr_policy_codec_saw_int4;

/* What begins every table. */
#define LR_POLICY_TABLE .abi = LR_POLICY_ABI, .size = sizeof(struct lr_policy)
#define LR_POLICY_PARAMS(list)                                                                     \
    .params = (list), .n_params = LR_COUNT(list), .param_size = sizeof(struct lr_policy_param)
#define LR_POLICY_CODEC_TABLE .abi = LR_POLICY_ABI, .size = sizeof(struct lr_policy_codec), .group = 1

/* ---- common.c: states that are parameters, and loops over tables ---- */

/* State of a policy that remembers nothing but what it was opened with. */
struct lr_policy_plain {
    const struct lr_policy_api *api;
    struct lr_policy_model model;
    double param[LR_POLICY_PARAMS_MAX];
};
int lr_policy_plain_open(void **st, const struct lr_policy_open *o);
void lr_policy_plain_close(void *st);

/* Above every score that is a score: rows a policy always keeps. */
#define LR_POLICY_ALWAYS 3e38f

/* One table of an edit. */
struct lr_policy_table {
    const struct lr_policy_plain *p;
    struct lr_policy_seq *q;
    struct lr_policy_rows *rows;
    const struct lr_policy_edit *e;
    uint32_t head, n, budget; /* n > budget */
};
/* Calls score(t, s) for each table of the layer that is over its budget, s: (t->n), to be filled; then
 * keeps the best. */
int lr_policy_edit_tables(const struct lr_policy_plain *p, struct lr_policy_seq *q,
                          const struct lr_policy_edit *e,
                          int (*score)(struct lr_policy_table *t, float *s));

/* "recent=32", "recent=0.5": rows from 1 on, below that a share of the budget; never more than it. */
uint32_t lr_policy_share(double x, uint32_t budget);

/* "gqa": how the query heads of a group become one score. */
enum lr_policy_gqa { LR_POLICY_GQA_MEAN, LR_POLICY_GQA_MAX, LR_POLICY_GQA_SUM };
#define LR_POLICY_GQA_PARAM                                                                        \
    {.name = "gqa", .what = "how the query heads of a KV head make one score",                     \
     .choices = "mean|max|sum"}
/* s = s reduced with x, head number g of the group (g == 0: s = x); n elements. */
void lr_policy_gqa_add(enum lr_policy_gqa how, float *s, const float *x, uint32_t n, uint32_t g);
/* After the last of `group` heads. */
void lr_policy_gqa_end(enum lr_policy_gqa how, float *s, uint32_t n, uint32_t group);

/* ---- snapkv.c: its scores, for policies that keep by them ---- */

enum { LR_POLICY_SNAPKV_WINDOW, LR_POLICY_SNAPKV_POOL, LR_POLICY_SNAPKV_KIND, LR_POLICY_SNAPKV_GQA,
       LR_POLICY_SNAPKV_PARAMS };
#define LR_POLICY_SNAPKV_LIST                                                                      \
    {.name = "window", .what = "last tokens whose attention counts", .def = 32, .min = 1, .max = 256}, \
        {.name = "pool", .what = "neighbours, odd", .def = 5, .min = 1, .max = 63},                \
        {.name = "kind", .what = "of pooling", .choices = "mean|max"}, LR_POLICY_GQA_PARAM
int lr_policy_snapkv_need(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out);
int lr_policy_snapkv_observe(void *st, struct lr_policy_seq *q, const struct lr_policy_view *v);
/* Scores of a table's n rows, the last ones (window, at most the budget) above all. */
int lr_policy_snapkv_score(const struct lr_policy_plain *p, struct lr_policy_rows *rows, uint32_t n,
                           uint32_t budget, float *s);

#endif
