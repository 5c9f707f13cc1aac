/* SPDX-License-Identifier: Apache-2.0
 * policy/snapkv.c - rows the end of the prompt attends to.
 *
 *   prompt      ................................ [ window: W last tokens ]
 *   score_j     mean over the window's queries of A[q, j], for rows j before the window
 *               > pooled over `pool` neighbours > reduced over the heads of a group
 *   kept        the window, then the largest scores
 *
 * Idea: what the last tokens (the question) look at is what the answer will look at; neighbours of a
 * looked-at row carry the rest of its phrase, hence pooling. State: column 0 holds the scores of the last
 * prompt end. While decoding, rows made since are kept by age: a row that leaves the window of the last W
 * has no score and goes first, so the prompt's best rows and a sliding window stay.
 *
 * Cost: attention of W queries a layer, once a prompt; nothing while decoding. Where it fails: a second
 * question about the same context finds the rows the first one chose (hence QUERY_AWARE); a prompt that
 * ends without its question.
 *
 * Source: SnapKV (Li et al. 2024); order of steps and defaults after kvpress's description: mean over
 * queries, average pooling whose edges count as zeros, mean over the group. Deviations: the budget holds
 * while decoding too (released code lets generated rows pile up); W = 32 by default (kvpress 64).
 * Budgets that do not exceed W keep the last rows.
 */
#include "policy/policy_int.h"

static const struct lr_policy_param params[] = {LR_POLICY_SNAPKV_LIST};

int lr_policy_snapkv_need(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    const struct lr_policy_plain *p = st;
    (void)layer;
    if (phase != LR_POLICY_PROMPT_END)
        return 0;
    out->taps = LR_POLICY_TAP_AWIN;
    out->window = (uint32_t)p->param[LR_POLICY_SNAPKV_WINDOW];
    return 0;
}

/* Scores of the rows before the window, n of `rows`, of one KV head. s, x, y: (n). */
static void watch(const struct lr_policy_plain *p, const struct lr_policy_view *v, uint32_t head,
                  uint32_t n, float *s, float *x, float *y)
{
    uint32_t group = p->model.n_head / p->model.n_kv, rows = v->rows[head];
    enum lr_policy_gqa how = (enum lr_policy_gqa)p->param[LR_POLICY_SNAPKV_GQA];
    for (uint32_t g = 0; g < group; g++) {
        const float *a = v->awin[head * group + g];
        memset(x, 0, n * sizeof *x);
        for (uint32_t t = 0; t < v->n_win; t++)
            lr_kern()->add(x, a + (size_t)t * rows, n);
        lr_kern()->scale(x, 1.0f / (float)v->n_win, n);
        p->api->pool(x, n, (uint32_t)p->param[LR_POLICY_SNAPKV_POOL] | 1u,
                     p->param[LR_POLICY_SNAPKV_KIND] > 0, y);
        lr_policy_gqa_add(how, s, y, n, g);
    }
    lr_policy_gqa_end(how, s, n, group);
}

int lr_policy_snapkv_observe(void *st, struct lr_policy_seq *q, const struct lr_policy_view *v)
{
    const struct lr_policy_plain *p = st;
    if (v->phase != LR_POLICY_PROMPT_END)
        return 0;
    for (uint32_t h = 0; h < p->model.n_kv; h++) {
        struct lr_policy_rows *rows = p->api->rows(q, v->layer, h);
        float *s = p->api->column(rows, 0);
        uint32_t n = v->rows[h] - v->n_win;
        float *x = p->api->scratch(q, 2 * (size_t)n * sizeof *x);
        LR_FAIL_IF(!s || !x, LR_ENOMEM);
        watch(p, v, h, n, s, x, x + n);
        memset(s + n, 0, v->n_win * sizeof *s);
    }
    return 0;
}

int lr_policy_snapkv_score(const struct lr_policy_plain *p, struct lr_policy_rows *rows, uint32_t n,
                           uint32_t budget, float *s)
{
    const float *seen = p->api->column(rows, 0);
    LR_FAIL_IF(!seen, LR_ENOMEM);
    uint32_t recent = MIN_OF((uint32_t)p->param[LR_POLICY_SNAPKV_WINDOW], MIN_OF(budget, n));
    memcpy(s, seen, n * sizeof *s);
    for (uint32_t i = n - recent; i < n; i++)
        s[i] = LR_POLICY_ALWAYS;
    return 0;
}

static int score(struct lr_policy_table *t, float *s)
{
    return lr_policy_snapkv_score(t->p, t->rows, t->n, t->budget, s);
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_snapkv = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_QUERY_AWARE,
    .name = "snapkv",
    .what = "rows that the end of the prompt attends to",
    LR_POLICY_PARAMS(params),
    .columns = 1,
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .need = lr_policy_snapkv_need,
    .observe = lr_policy_snapkv_observe,
    .edit = edit,
};
