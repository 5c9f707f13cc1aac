/* SPDX-License-Identifier: Apache-2.0
 * eval/shuffle.c - a control: snapkv whose scores are dealt out to the wrong rows.
 *
 * Everything is snapkv's (taps, window, pooling, how many rows) but which row has which score. A
 * scorer that helps must help no more once its scores mean nothing; if it still does, the rows come
 * from somewhere else: the window, the budget's rounding, a leak of the question. The wrapper
 * copies snapkv's table and puts an edit in front of its own.
 */
#include "eval/eval_int.h"

/* The engine's services: constants of the program, told to every open. The evaluation has one
 * thread. */
static const struct lr_policy_api *api;
static struct lr_policy wrapper;
static const struct lr_policy *inner;

static int open_wrapped(void **st, const struct lr_policy_open *o)
{
    api = o->api;
    return inner->open(st, o);
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    for (uint32_t head = 0; e->phase == LR_POLICY_PROMPT_END; head++) {
        struct lr_policy_rows *rows = api->rows(q, e->layer, head);
        float *s = rows ? api->column(rows, 0) : NULL;
        if (!s)
            break; /* no head of that number */
        for (uint32_t i = api->count(rows); i > 1; i--) {
            uint32_t k = (uint32_t)(api->rng(q) % i);
            float t = s[i - 1];
            s[i - 1] = s[k];
            s[k] = t;
        }
    }
    return inner->edit(st, q, e);
}

void lr_eval_shuffle(struct lr_policy_stack *s)
{
    struct lr_policy_part *part = &s->part[s->evict];
    inner = part->policy;
    wrapper = *inner;
    wrapper.open = open_wrapped;
    wrapper.edit = edit;
    part->policy = &wrapper;
}
