/* SPDX-License-Identifier: Apache-2.0
 * policy/keydiff.c - rows whose keys differ from the others.
 *
 *   anchor  = mean over the table of K_j / |K_j|
 *   score_j = -cos(K_j, anchor)
 *
 * Idea: keys crowd in one direction; what stands apart is what gets attention, and a diverse set covers
 * more questions than a crowd. State: none, no taps, query-agnostic. Cost: one pass over a table's keys
 * when it is over its budget. Where it fails: models whose keys do not crowd (random ones), and rows that
 * matter by what they say (values), not by where their key points.
 *
 * Source: KeyDiff (Park et al. 2025); formula as kvpress describes it. Deviation: recent=N may protect the
 * newest rows (0 as described).
 */
#include "policy/policy_int.h"

static const struct lr_policy_param params[] = {
    {.name = "recent", .what = "newest rows kept: a number from 1, or a share of the budget below 1",
     .def = 0, .min = 0, .max = 65536},
};

static int score(struct lr_policy_table *t, float *s)
{
    uint32_t d = t->p->model.d_head, recent = lr_policy_share(t->p->param[0], t->budget);
    const struct lr_kern *kern = lr_kern();
    float *k = t->p->api->scratch(t->q, ((size_t)t->n + 1) * d * sizeof *k);
    LR_FAIL_IF(!k, LR_ENOMEM);
    LR_TRY(t->p->api->key(t->rows, 0, t->n, k));
    float *anchor = k + (size_t)t->n * d;
    memset(anchor, 0, d * sizeof *anchor);
    for (uint32_t i = 0; i < t->n; i++) {
        float length = sqrtf(kern->dot(k + (size_t)i * d, k + (size_t)i * d, d));
        kern->scale(k + (size_t)i * d, length > 0 ? 1.0f / length : 0, d);
        kern->add(anchor, k + (size_t)i * d, d);
    }
    float length = sqrtf(kern->dot(anchor, anchor, d));
    kern->scale(anchor, length > 0 ? 1.0f / length : 0, d);
    for (uint32_t i = 0; i < t->n; i++)
        s[i] = i + recent >= t->n ? LR_POLICY_ALWAYS : -kern->dot(k + (size_t)i * d, anchor, d);
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_keydiff = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED,
    .name = "keydiff",
    .what = "rows whose keys differ from the others",
    LR_POLICY_PARAMS(params),
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .edit = edit,
};
