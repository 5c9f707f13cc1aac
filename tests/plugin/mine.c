/* SPDX-License-Identifier: Apache-2.0
 * mine.c - a policy of one's own: what was looked at and has something to say.
 *
 *   score_j = (attention of the prompt's last W tokens on row j) * |V_j|, summed over a group's heads
 *
 * cc -std=c11 -shared -fPIC -o mine.so mine.c        larder ... --plugin ./mine.so
 */
#include <larder/policy.h>

#include <math.h>
#include <stdlib.h>

struct mine {
    const struct lr_policy_api *api;
    struct lr_policy_model model;
    uint32_t window;
};

static const struct lr_policy_param params[] = {
    {.name = "window", .what = "last tokens whose attention counts", .def = 16, .min = 1, .max = 256},
};

static int open_mine(void **st, const struct lr_policy_open *o)
{
    struct mine *p = calloc(1, sizeof *p);
    if (!p)
        return LR_POLICY_ENOMEM;
    p->api = o->api;
    p->model = *o->model;
    p->window = (uint32_t)o->param[0];
    *st = p;
    return 0;
}

/* Which taps, where: attention of the last tokens, at the end of a prompt, in every layer. */
static int need(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    const struct mine *p = st;
    (void)layer;
    if (phase == LR_POLICY_PROMPT_END) {
        out->taps = LR_POLICY_TAP_AWIN;
        out->window = p->window;
    }
    return 0;
}

/* Column 0 of each KV head's table: attention that its rows got from the window. */
static int observe(void *st, struct lr_policy_seq *q, const struct lr_policy_view *v)
{
    const struct mine *p = st;
    uint32_t group = p->model.n_head / p->model.n_kv;
    for (uint32_t h = 0; h < p->model.n_head; h++) {
        float *score = p->api->column(p->api->rows(q, v->layer, h / group), 0);
        uint32_t n = v->rows[h / group];
        if (!score)
            return LR_POLICY_ENOMEM;
        for (uint32_t j = 0; j < n; j++) {
            float sum = 0;
            for (uint32_t t = 0; t < v->n_win; t++)
                sum += v->awin[h][t * n + j];
            score[j] = (h % group ? score[j] : 0) + sum;
        }
    }
    return 0;
}

/* One table that is over its budget: attention times the length of the value; the last rows stay. */
static int edit_table(const struct mine *p, struct lr_policy_seq *q, struct lr_policy_rows *rows,
                      uint32_t n, uint32_t budget)
{
    uint32_t d = p->model.d_head;
    const float *seen = p->api->column(rows, 0);
    float *score = p->api->scratch(q, n * sizeof *score), *v = p->api->scratch(q, d * sizeof *v);
    if (!seen || !score || !v)
        return LR_POLICY_ENOMEM;
    for (uint32_t j = 0; j < n; j++) {
        float length = 0;
        int rc = p->api->value(rows, j, 1, v);
        if (rc)
            return rc;
        for (uint32_t k = 0; k < d; k++)
            length += v[k] * v[k];
        score[j] = j + p->window >= n ? 3e38f : seen[j] * sqrtf(length);
    }
    return p->api->keep_best(rows, score, budget);
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    const struct mine *p = st;
    for (uint32_t h = 0; h < p->model.n_kv; h++) {
        struct lr_policy_rows *rows = p->api->rows(q, e->layer, h);
        uint32_t n = p->api->count(rows), budget = e->budget[e->layer * p->model.n_kv + h];
        int rc = n > budget ? edit_table(p, q, rows, n, budget) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static const struct lr_policy policy = {
    .abi = LR_POLICY_ABI,
    .size = sizeof policy,
    .flags = LR_POLICY_QUERY_AWARE,
    .name = "mine",
    .what = "what was looked at and has something to say",
    .params = params,
    .n_params = 1,
    .param_size = sizeof params[0],
    .columns = 1,
    .open = open_mine,
    .close = free,
    .need = need,
    .observe = observe,
    .edit = edit,
};

const struct lr_policy_plugin *lr_policy_plugin(uint32_t abi)
{
    static const struct lr_policy *const policies[] = {&policy, NULL};
    static const struct lr_policy_plugin list = {
        .abi = LR_POLICY_ABI, .size = sizeof list, .policies = policies};
    return abi == LR_POLICY_ABI ? &list : NULL;
}
