/* SPDX-License-Identifier: Apache-2.0
 * policy/h2o.c - heavy hitters: rows that got most attention so far, and the recent ones.
 *
 *   score_j = sum over all queries so far of A[q, j]             norm=sum
 *           = that divided by the number of queries that saw j   norm=mean
 *   kept      the last `recent` rows, then the largest scores
 *
 * Idea: attention mass is spread very unevenly and the rows that have it keep having it. Query heads of a
 * group are reduced first (gqa). State: none of its own: the sums are the engine's (TAP_ACOL), grow query
 * by query whatever the cuts, and move with their rows. Rows seen by no query but their own have one.
 *
 * Cost: the tap recomputes all attention weights once more, in prefill and for every token: the dearest
 * tap there is. Where it fails: sums favour old rows, which more queries saw (norm=mean is OpenVINO's
 * remedy); a row that matters only to a question not asked yet has no attention to show for it.
 *
 * Source: H2O (Zhang et al. 2023), budget half heavy hitters, half recent; NORM_SUM after OpenVINO
 * GenAI's description. Deviations: one-shot at the end of a prompt unless the sequence is capped, then
 * every 256 positions, where the paper evicts one row a token; heads of a group share their rows, where
 * the released code keeps rows for each query head (of expanded caches).
 */
#include "policy/policy_int.h"

enum { RECENT, NORM, GQA };
static const struct lr_policy_param params[] = {
    {.name = "recent", .what = "newest rows kept: a number from 1, or a share of the budget below 1",
     .def = 0.5, .min = 0, .max = 65536},
    {.name = "norm", .what = "sums as they are, or per query that saw the row", .choices = "sum|mean"},
    LR_POLICY_GQA_PARAM,
};

static int need(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    (void)st;
    (void)layer;
    (void)phase; /* sums want every query there is */
    out->taps = LR_POLICY_TAP_ACOL;
    return 0;
}

static int score(struct lr_policy_table *t, float *s)
{
    const struct lr_policy_api *api = t->p->api;
    uint32_t group = t->p->model.n_head / t->p->model.n_kv;
    enum lr_policy_gqa how = (enum lr_policy_gqa)t->p->param[GQA];
    uint32_t recent = lr_policy_share(t->p->param[RECENT], t->budget);
    const struct lr_policy_row *meta = api->meta(t->rows);
    LR_FAIL_IF(!meta, LR_ENOMEM);
    for (uint32_t g = 0; g < group; g++) {
        const float *sum = api->attention(t->rows, g);
        LR_FAIL_IF(!sum, LR_ENOMEM);
        lr_policy_gqa_add(how, s, sum, t->n, g);
    }
    lr_policy_gqa_end(how, s, t->n, group);
    for (uint32_t i = 0; t->p->param[NORM] > 0 && i < t->n; i++)
        s[i] /= (float)((int32_t)t->e->len - meta[i].pos);
    for (uint32_t i = t->n - MIN_OF(recent, t->n); i < t->n; i++)
        s[i] = LR_POLICY_ALWAYS;
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_h2o = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED,
    .name = "h2o",
    .what = "rows that got most attention so far, and the last ones",
    LR_POLICY_PARAMS(params),
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .need = need,
    .edit = edit,
};
