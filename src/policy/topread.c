/* SPDX-License-Identifier: Apache-2.0
 * policy/topread.c - reads the rows that matter to this token, and keeps them all.
 *
 *   score_j = largest q . K_j of the query heads of a group
 *   read      the last `recent` rows, then the largest scores: `rows` in all
 *
 * The upper line of retrieval: no index can find better rows than a look at every key does. It saves no
 * time (all keys are read to choose) and no memory; it says how few rows a model needs to read, and what
 * an index would have to find. State: none. Where it fails: nowhere that fewer rows would not fail too;
 * attention that is spread evenly needs them all.
 *
 * Source: the exact top-k that RetrievalAttention, Quest and their kin approximate. Deviation: rows are
 * chosen by the largest logit of a group, because its heads read the same rows.
 */
#include "policy/policy_int.h"

enum { ROWS, RECENT };
static const struct lr_policy_param params[] = {
    {.name = "rows", .what = "rows a token reads of each KV head", .def = 64, .min = 1, .max = 1e9},
    {.name = "recent", .what = "newest of them: a number from 1, or a share below 1", .def = 8, .min = 0,
     .max = 65536},
};

static int select_rows(void *st, struct lr_policy_seq *q, const struct lr_policy_query *query,
                       struct lr_policy_pick *out)
{
    const struct lr_policy_plain *p = st;
    uint32_t d = p->model.d_head, group = p->model.n_head / p->model.n_kv, n = query->rows;
    uint32_t rows = (uint32_t)MIN_OF(p->param[ROWS], (double)n);
    uint32_t recent = lr_policy_share(p->param[RECENT], rows);
    recent = MAX_OF(recent, 1); /* the token's own row */
    out->all = rows == n;
    if (out->all)
        return 0;
    float *k = p->api->scratch(q, (size_t)n * d * sizeof *k);
    float *s = p->api->scratch(q, n * sizeof *s);
    LR_FAIL_IF(!k || !s, LR_ENOMEM);
    LR_TRY(p->api->key(p->api->rows(q, query->layer, query->head), 0, n, k));
    for (uint32_t i = 0; i < n; i++) {
        s[i] = -INFINITY;
        for (uint32_t g = 0; g < group; g++) {
            float x = lr_kern()->dot(query->q + (size_t)g * d, k + (size_t)i * d, d);
            s[i] = MAX_OF(s[i], x);
        }
        if (i + recent >= n)
            s[i] = LR_POLICY_ALWAYS;
    }
    out->n = p->api->topk(s, n, rows, out->idx);
    return 0;
}

const struct lr_policy lr_policy_topread = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_LOSSLESS,
    .name = "topread",
    .what = "every row stays; a token reads those of largest logits",
    LR_POLICY_PARAMS(params),
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .select = select_rows,
};
