/* SPDX-License-Identifier: Apache-2.0
 * policy/oracle.c - rows that the future will attend to, as told by whoever ran it.
 *
 *   column 0   attention mass of the true continuation on each row of the prompt, summed over the heads of
 *              a group: written from outside (lr_engine_seq_foresee), never by the policy
 *   kept       rows made after the prompt, newest first; then the largest masses
 *
 * The upper line of every plot: no method that keeps rows by a score of its own can know more. It is not
 * quite a bound: the mass was measured with every row present, and the best set of rows is not the set
 * of the best rows. For evaluation only; a sequence that was not foretold fails at the end of its prompt.
 */
#include "policy/policy_int.h"

static int score(struct lr_policy_table *t, float *s)
{
    const float *mass = t->p->api->column(t->rows, 0);
    const struct lr_policy_row *meta = t->p->api->meta(t->rows);
    LR_FAIL_IF(!mass || !meta, LR_ENOMEM);
    for (uint32_t i = 0; i < t->n; i++)
        s[i] = meta[i].pos < (int32_t)t->e->prompt ? mass[i]
                                                   : 1e30f * (1 + (float)i / (float)t->n);
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_oracle = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_EVALUATION | LR_POLICY_QUERY_AWARE,
    .name = "oracle",
    .what = "rows that the future attends to (evaluation only)",
    .columns = 1,
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .edit = edit,
};
