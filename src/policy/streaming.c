/* SPDX-License-Identifier: Apache-2.0
 * policy/streaming.c - the first few rows and the last ones.
 *
 *   table   [0 .. sinks) ................ [n - (B - sinks) .. n)
 *           kept         gone for ever    kept
 *
 * Idea: softmax has to put its mass somewhere, and models learn to put what they have no use for on the
 * first tokens; as long as those stay, a window of recent ones keeps the model fluent for ever. Formula:
 * position alone. State: none. Cost: none but moving rows; no taps, so it is the cheapest policy there is.
 * Budgets that do not hold `sinks` and one recent row give half to each.
 *
 * Where it fails: whatever stands between the sinks and the window is not there. It answers questions
 * about the last B tokens and no others.
 *
 * Source: StreamingLLM (Xiao et al. 2023), S = 4. Deviation: rows keep their original positions, so that
 * distances in a long stream grow beyond what the model was trained on; the paper re-indexes positions
 * inside the cache. That needs keys stored before rotation (or turned again at every eviction, which
 * loses bits each time) and queries placed by slot: this engine stores keys rotated, and refuses
 * policies with another idea of positions by name (LR_POLICY_ROPE_SLOT).
 */
#include "policy/policy_int.h"

static const struct lr_policy_param params[] = {
    {.name = "sinks", .what = "first rows kept", .def = 4, .min = 0, .max = 4096},
};

static int score(struct lr_policy_table *t, float *s)
{
    uint32_t sinks = (uint32_t)t->p->param[0];
    if (sinks >= t->budget)
        sinks = t->budget / 2;
    for (uint32_t i = 0; i < t->n; i++) /* place in the table: exact up to 2^24 rows */
        s[i] = i < sinks ? LR_POLICY_ALWAYS : (float)i;
    return 0;
}

static int edit(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    return lr_policy_edit_tables(st, q, e, score);
}

const struct lr_policy lr_policy_streaming = {
    LR_POLICY_TABLE,
    .flags = LR_POLICY_CAPPED,
    .name = "streaming-llm",
    .what = "the first rows and the last ones",
    LR_POLICY_PARAMS(params),
    .open = lr_policy_plain_open,
    .close = lr_policy_plain_close,
    .edit = edit,
};
