/* SPDX-License-Identifier: Apache-2.0
 * policy/knorm.c - rows with short keys.
 *
 *   score_j = -|K_j|
 *
 * Idea: keys of small norm are those that get attention (in trained models; observed, not explained).
 * State: none, no taps: the prompt costs nothing more, and no question was looked at. Cost: one pass over
 * the keys of a table when it is over its budget, so decoding at the budget reads the keys twice.
 *
 * Where it fails: random models; the first layers, where the correlation is weak; and the newest rows
 * have no privilege (recent=N gives them one).
 *
 * Source: Devoto et al. 2024; the rule as kvpress describes it. Deviation: all layers are compressed (the
 * paper leaves out the first two).
 */
#include "policy/policy_int.h"

static const struct lr_policy_param params[] = {
    {.name = "recent", .what = "newest rows kept: a number from 1, or a share of the budget below 1",
     .def = 0, .min = 0, .max = 65536},
};

static int score(struct lr_policy_table *t, float *s)
{
    uint32_t d = t->p->model.d_head, recent = lr_policy_share(t->p->param[0], t->budget);
    float *k = t->p->api->scratch(t->q, (size_t)t->n * d * sizeof *k);
    LR_FAIL_IF(!k, LR_ENOMEM);
    LR_TRY(t->p->api->key(t->rows, 0, t->n, k));
    for (uint32_t i = 0; i < t->n; i++, k += d)
        s[i] = i + recent >= t->n ? LR_POLICY_ALWAYS : -sqrtf(lr_kern()->dot(k, k, d));
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_knorm = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED,
    .name = "knorm",
    .what = "rows with short keys",
    LR_POLICY_PARAMS(params),
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .edit = edit,
};
