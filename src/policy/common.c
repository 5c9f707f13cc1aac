/* SPDX-License-Identifier: Apache-2.0
 * policy/common.c - what most policies are made of: parameters, a score for each row, the best stay.
 *
 * Numbers of the public header are ours: the asserts below let errors and taps pass between engine and
 * policy without a table of translations.
 */
#include "policy/policy_int.h"

#define SAME(name) _Static_assert((int)LR_POLICY_##name == (int)LR_##name, "one set of errors")
SAME(ENOMEM);
SAME(EOVER);
SAME(EINVAL);
SAME(EVERSION);
SAME(EUNSUPPORTED);
_Static_assert(sizeof(struct lr_policy_row) == 12, "rows of 12 bytes");

int lr_policy_plain_open(void **st, const struct lr_policy_open *o)
{
    struct lr_policy_plain *p = lr_new(struct lr_policy_plain);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->api = o->api;
    p->model = *o->model;
    for (uint32_t i = 0; i < o->n_param; i++)
        p->param[i] = o->param[i];
    *st = p;
    return 0;
}

void lr_policy_plain_close(void *st)
{
    lr_free(st);
}

int lr_policy_edit_tables(const struct lr_policy_plain *p, struct lr_policy_seq *q,
                          const struct lr_policy_edit *e,
                          int (*score)(struct lr_policy_table *t, float *s))
{
    for (uint32_t h = 0; h < p->model.n_kv; h++) {
        struct lr_policy_table t = {.p = p, .q = q, .e = e, .head = h};
        t.rows = p->api->rows(q, e->layer, h);
        t.budget = e->budget[e->layer * p->model.n_kv + h];
        t.n = p->api->count(t.rows);
        if (t.n <= t.budget)
            continue;
        float *s = p->api->scratch(q, t.n * sizeof *s);
        LR_FAIL_IF(!s, LR_ENOMEM);
        LR_TRY(score(&t, s));
        LR_TRY(p->api->keep_best(t.rows, s, t.budget));
    }
    return 0;
}

uint32_t lr_policy_share(double x, uint32_t budget)
{
    double rows = x < 1 ? x * budget : x;
    return rows < budget ? (uint32_t)rows : budget;
}

void lr_policy_gqa_add(enum lr_policy_gqa how, float *s, const float *x, uint32_t n, uint32_t g)
{
    if (!g)
        memcpy(s, x, n * sizeof *s);
    else if (how == LR_POLICY_GQA_MAX)
        for (uint32_t i = 0; i < n; i++)
            s[i] = MAX_OF(s[i], x[i]);
    else
        for (uint32_t i = 0; i < n; i++)
            s[i] += x[i];
}

void lr_policy_gqa_end(enum lr_policy_gqa how, float *s, uint32_t n, uint32_t group)
{
    for (uint32_t i = 0; how == LR_POLICY_GQA_MEAN && i < n; i++)
        s[i] /= (float)group;
}
