/* SPDX-License-Identifier: Apache-2.0
 * policy/random.c - keeps rows by lot: the control that every method has to beat.
 *
 *   column 0   a priority in (0, 1], drawn when the row is first seen at a safepoint
 *   kept       the last `recent` rows, then the largest priorities
 *
 * Keeping the B largest of independent priorities is reservoir sampling: at every moment the survivors
 * are a uniform sample of all rows so far, in each table apart. State: one float a row. Cost: a topk
 * over the table when it is over its budget. With recent=1 (the newest row stays, or decoding would
 * forget the token it just made) it is the plain control; recent=0.5 differs from h2o by the score only.
 */
#include "policy/policy_int.h"

static const struct lr_policy_param params[] = {
    {.name = "recent", .what = "newest rows kept: a number from 1, or a share of the budget below 1",
     .def = 1, .min = 0, .max = 65536},
};

static int score(struct lr_policy_table *t, float *s)
{
    const struct lr_policy_api *api = t->p->api;
    float *priority = api->column(t->rows, 0);
    LR_FAIL_IF(!priority, LR_ENOMEM);
    uint32_t recent = lr_policy_share(t->p->param[0], t->budget);
    for (uint32_t i = 0; i < t->n; i++) {
        if (priority[i] <= 0)
            priority[i] = (float)((api->rng(t->q) >> 40) + 1) * 0x1p-24f;
        s[i] = i + recent >= t->n ? LR_POLICY_ALWAYS : priority[i];
    }
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_random = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED,
    .name = "random",
    .what = "rows by lot: the control",
    LR_POLICY_PARAMS(params),
    .columns = 1,
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .edit = edit,
};
