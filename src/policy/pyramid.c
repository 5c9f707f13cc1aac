/* SPDX-License-Identifier: Apache-2.0
 * policy/pyramid.c - more rows for the first layers, fewer for the last: a budget, not a method.
 *
 *   B rows a table on average, W of them for the recent window, beta = 20, L layers
 *   least = (B - W) / beta          most = 2 (B - W) - least, at most N - W (then least makes up)
 *   rows of layer l = W + most - (most - least) l / (L - 1)
 *
 *   layer 0  |================|
 *   layer 1  |============|
 *   layer 2  |========|                   the sum is B L n_kv, to the row
 *   layer 3  |====|
 *
 * Idea: attention of the first layers is spread over everything and narrows towards the last ones. State
 * and cost: none. Goes with any policy that evicts. Where it fails: models whose retrieval heads sit in
 * the upper layers; budgets so small that the window is most of them.
 *
 * Source: PyramidKV (Cai et al. 2024), constants after its released code's description. Deviations:
 * rounding keeps the sum exact (running total); budgets that do not exceed the window, and contexts
 * that fit anyway, are left even.
 */
#include "policy/policy_int.h"

enum { BETA, WINDOW };
static const struct lr_policy_param params[] = {
    {.name = "beta", .what = "steepness: the last layer gets 1/beta of the rows", .def = 20, .min = 1,
     .max = 1000},
    {.name = "window", .what = "rows every layer gets", .def = 32, .min = 0, .max = 65536},
};

static int budget(void *st, struct lr_policy_seq *q, const struct lr_policy_split *split,
                  uint32_t *rows)
{
    const struct lr_policy_plain *p = st;
    uint32_t layers = p->model.n_layer;
    double window = p->param[WINDOW], free = split->rows - window;
    (void)q;
    if (layers < 2 || free < 1 || split->len <= split->rows)
        return 0;
    double least = free / p->param[BETA], most = 2 * free - least;
    if (most > split->len - window) {
        most = split->len - window;
        least = 2 * free - most;
    }
    double sum = 0;
    for (uint32_t l = 0; l < layers; l++) {
        double before = floor(sum + 0.5);
        sum += window + most - (most - least) * l / (layers - 1);
        double mine = MAX_OF(floor(sum + 0.5) - before, 1);
        for (uint32_t h = 0; h < p->model.n_kv; h++)
            rows[l * p->model.n_kv + h] = (uint32_t)mine;
    }
    return 0;
}

const struct lr_policy lr_policy_pyramid = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED,
    .name = "pyramid",
    .what = "more rows for the first layers, fewer for the last",
    LR_POLICY_PARAMS(params),
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .budget = budget,
};
