/* SPDX-License-Identifier: Apache-2.0
 * policy/tova.c - rows that the last token attends to.
 *
 *   score_j = mean over all heads of the layer of A[last query, j]; the lowest leave
 *
 * Idea: no memory, no window, no sinks by decree: what the present state does not look at goes, at every
 * token. Heads of a layer keep the same rows, because the score is the layer's (scope=layer, the paper);
 * scope=head scores each KV head by its own group. Column 0 holds the scores of the last step.
 *
 * Cost: attention of one query a layer, in every step: cheap beside attention itself, but decoding pays it
 * for each token. Where it fails: a row that ten tokens in a row do not look at is gone when the eleventh
 * needs it.
 *
 * Source: TOVA (Oren et al. 2024). Deviations: one-shot at the end of a prompt unless capped (then every
 * 256 positions); where tables of a layer have lost their common rows (uneven budgets) heads are scored
 * apart.
 */
#include "policy/policy_int.h"

static const struct lr_policy_param params[] = {
    {.name = "scope", .what = "heads that agree on their rows", .choices = "layer|head"},
};

static int need(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    (void)st;
    (void)layer;
    if (phase == LR_POLICY_TURN_END)
        return 0;
    out->taps = LR_POLICY_TAP_AWIN;
    out->window = 1;
    return 0;
}

static bool aligned(const struct lr_policy_plain *p, const struct lr_policy_view *v)
{
    for (uint32_t h = 1; h < p->model.n_kv; h++)
        if (v->rows[h] != v->rows[0])
            return false;
    return p->param[0] <= 0;
}

static int observe(void *st, struct lr_policy_seq *q, const struct lr_policy_view *v)
{
    const struct lr_policy_plain *p = st;
    uint32_t group = p->model.n_head / p->model.n_kv;
    bool layer = aligned(p, v);
    if (v->phase == LR_POLICY_PROBE)
        return 0;
    for (uint32_t h = 0; h < p->model.n_kv; h++) {
        float *s = p->api->column(p->api->rows(q, v->layer, h), 0);
        LR_FAIL_IF(!s, LR_ENOMEM);
        uint32_t first = layer ? 0 : h * group, n = layer ? p->model.n_head : group;
        memset(s, 0, v->rows[h] * sizeof *s);
        for (uint32_t i = first; i < first + n; i++)
            lr_kern()->add(s, v->awin[i], v->rows[h]);
        lr_kern()->scale(s, 1.0f / (float)n, v->rows[h]);
    }
    return 0;
}

static int score(struct lr_policy_table *t, float *s)
{
    const float *seen = t->p->api->column(t->rows, 0);
    LR_FAIL_IF(!seen, LR_ENOMEM);
    memcpy(s, seen, t->n * sizeof *s);
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_tova = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED | LR_POLICY_QUERY_AWARE,
    .name = "tova",
    .what = "rows that the last token attends to",
    LR_POLICY_PARAMS(params),
    .columns = 1,
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .need = need,
    .observe = observe,
    .edit = edit,
};
