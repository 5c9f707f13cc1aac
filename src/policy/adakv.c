/* SPDX-License-Identifier: Apache-2.0
 * policy/adakv.c - snapkv's scores, and heads of a layer that compete for its rows.
 *
 *   layer budget = sum of its heads' budgets
 *   floor        = alpha * a head's budget, its best rows by snapkv's score
 *   the rest     = the best rows of all heads together, whoever they belong to
 *
 *   head 0  |=======|
 *   head 1  |===============|       one budget for the layer, rows where the attention is
 *   head 2  |===|
 *
 * Idea: heads differ more than layers do: one reads the whole context, its neighbour the last sentence;
 * equal budgets starve the first and feed the second. Rows are really freed head by head, which takes
 * ragged tables. State: column 0, snapkv's. Cost: snapkv's and one sort of a layer's scores. While
 * decoding the split of the last prompt end stays: a head that is full gives up a row of its own.
 *
 * Where it fails: where snapkv does; scores of different heads are compared as they are, so a head that
 * concentrates its mass on few rows wins them even if they say little.
 *
 * Source: AdaKV (Feng et al. 2024), alpha = 0.2 as kvpress describes it. Deviation: the window belongs to
 * every head and is paid from its floor, which is why a floor is never less than the window (or than the
 * budget, when that is smaller).
 */
#include "policy/policy_int.h"

enum { ALPHA = LR_POLICY_SNAPKV_PARAMS };
static const struct lr_policy_param params[] = {
    LR_POLICY_SNAPKV_LIST,
    {.name = "alpha", .what = "share of a head's budget that nobody takes from it", .def = 0.2, .min = 0,
     .max = 1},
};

/* Rows that each head keeps: `take` (n_kv). */
static int share(const struct lr_policy_plain *p, struct lr_policy_seq *q,
                 const struct lr_policy_edit *e, uint32_t *take)
{
    const struct lr_policy_api *api = p->api;
    uint32_t n_kv = p->model.n_kv, all = 0, left = 0, at = 0;
    for (uint32_t h = 0; h < n_kv; h++)
        all += api->count(api->rows(q, e->layer, h));
    float *pool = api->scratch(q, (all + 1) * sizeof *pool);
    uint32_t *best = api->scratch(q, (all + 1) * sizeof *best);
    LR_FAIL_IF(!pool || !best, LR_ENOMEM);
    for (uint32_t h = 0; h < n_kv; h++) {
        struct lr_policy_rows *rows = api->rows(q, e->layer, h);
        uint32_t n = api->count(rows), budget = e->budget[e->layer * n_kv + h];
        uint32_t floor = (uint32_t)(p->param[ALPHA] * budget);
        floor = MAX_OF(floor, (uint32_t)p->param[LR_POLICY_SNAPKV_WINDOW]);
        floor = MIN_OF(MIN_OF(floor, budget), n);
        LR_TRY(lr_policy_snapkv_score(p, rows, n, budget, pool + at));
        uint32_t first = api->topk(pool + at, n, floor, best); /* out of the race: theirs already */
        for (uint32_t i = 0; i < first; i++)
            pool[at + best[i]] = -INFINITY;
        take[h] = floor;
        left += budget - floor;
        at += n;
    }
    uint32_t won = api->topk(pool, all, left, best), head = 0, end = 0;
    for (uint32_t i = 0; i < won; i++) {
        for (; best[i] >= end; head++)
            end += api->count(api->rows(q, e->layer, head));
        take[head - 1] += pool[best[i]] > -INFINITY;
    }
    return 0;
}

static int keep(const struct lr_policy_plain *p, struct lr_policy_seq *q, struct lr_policy_rows *rows,
                uint32_t budget, uint32_t take)
{
    uint32_t n = p->api->count(rows);
    float *s = p->api->scratch(q, (n + 1) * sizeof *s);
    LR_FAIL_IF(!s, LR_ENOMEM);
    LR_TRY(lr_policy_snapkv_score(p, rows, n, budget, s));
    return p->api->keep_best(rows, s, take);
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    const struct lr_policy_plain *p = st;
    uint32_t n_kv = p->model.n_kv, rows = 0, most = 0;
    uint32_t *take = p->api->scratch(q, n_kv * sizeof *take);
    LR_FAIL_IF(!take, LR_ENOMEM);
    for (uint32_t h = 0; h < n_kv; h++) {
        rows += p->api->count(p->api->rows(q, e->layer, h));
        most += e->budget[e->layer * n_kv + h];
    }
    if (rows <= most)
        return 0;
    if (e->phase == LR_POLICY_PROMPT_END || rows - most > n_kv) {
        LR_TRY(share(p, q, e, take));
    } else { /* one token more in each head: each gives one, as long as the layer is over */
        for (uint32_t h = 0; h < n_kv; h++) {
            uint32_t n = p->api->count(p->api->rows(q, e->layer, h)), less = rows > most && n > 1;
            take[h] = n - less;
            rows -= less;
        }
    }
    for (uint32_t h = 0; h < n_kv; h++)
        LR_TRY(keep(p, q, p->api->rows(q, e->layer, h), e->budget[e->layer * n_kv + h], take[h]));
    return 0;
}

const struct lr_policy lr_policy_adakv = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_QUERY_AWARE | LR_POLICY_PER_HEAD,
    .name = "adakv",
    .what = "snapkv, with heads of a layer competing for its rows",
    LR_POLICY_PARAMS(params),
    .columns = 1,
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .need = lr_policy_snapkv_need,
    .observe = lr_policy_snapkv_observe,
    .edit = edit,
};
