/* SPDX-License-Identifier: Apache-2.0
 * eval/system.c - what a policy costs in seconds and bytes.
 *
 * Each cell feeds a prompt of its own, alone, with its policy watching: never a fork, whose prefill
 * somebody else has paid for. ttft is from the prompt's first token to the logits of its last,
 * taps, scoring and eviction included; peak is the most bytes of KV held at a time on the way. Then
 * DECODE tokens are decoded with the budget held, and their speed is the decode speed at that
 * context. Repetitions (samples) go through all cells in turn, so that a machine that slows down
 * does so for all of them; the table has medians.
 */
#include "eval/eval_int.h"

#include <math.h>

#define DECODE 32u

static int decode(struct eval_run *r, struct lr_engine_seq *s, double *tps)
{
    uint64_t start = lr_clock_mono_ns();
    for (uint32_t i = 0; i < DECODE; i++) {
        uint32_t next = lr_eval_best(r->logits, r->vocab);
        LR_TRY(lr_engine_feed_as(s, &next, 1, LR_POLICY_TOKEN, r->logits, NULL, r->err));
    }
    *tps = DECODE * 1e9 / (double)(lr_clock_mono_ns() - start);
    return 0;
}

static int run(struct eval_run *r, const struct eval_cell *c, const uint32_t *prompt, uint32_t n,
               struct eval_value *v)
{
    struct lr_engine_seq *s;
    struct lr_engine_seq_bytes b;
    struct lr_engine_policy_info info = {0};
    const struct lr_engine_seq_opts plain = {0},
                                    with = {.policy = {.stack = &r->plan->stack[c->stack],
                                                       .budget = c->budget,
                                                       .seed = 1}};
    LR_TRY(lr_engine_seq_open(&s, r->engine, c->kind == EVAL_FULL ? &plain : &with, r->err));
    uint64_t start = lr_clock_mono_ns();
    int rc = lr_engine_feed(s, prompt, n, r->logits, NULL, r->err);
    uint64_t end = lr_clock_mono_ns();
    if (!rc && c->kind != EVAL_FULL)
        rc = lr_engine_seq_info(s, LR_ENGINE_ACTIVE, &info);
    lr_engine_seq_bytes(s, &b);
    lr_eval_weigh(r, s, v);
    v->ttft_ms = (double)(end - start) / 1e6;
    v->tap_ms = (double)info.tap_ns / 1e6;
    v->policy_ms = (double)info.ns / 1e6;
    v->tap_bytes = (double)info.tap_bytes;
    v->peak = (double)b.peak;
    rc = rc ? rc : decode(r, s, &v->decode_tps);
    lr_engine_seq_close(s);
    return rc;
}

int lr_eval_system(struct eval_run *r, uint32_t job, uint32_t sample)
{
    uint32_t n = r->plan->job[job].tokens - DECODE;
    uint32_t *prompt = lr_calloc(n, sizeof *prompt);
    struct lr_rng rng;
    bool warm = false;
    if (!prompt)
        return lr_err_set(r->err, LR_ENOMEM, "system", "out of memory");
    lr_rng_seed(&rng, r->opts->seed);
    for (uint32_t i = 0; i < n; i++)
        prompt[i] = (uint32_t)lr_rng_below(&rng, r->vocab);
    int rc = 0;
    for (uint32_t c = 0; !rc && c < r->plan->n_cell; c++) {
        if (!lr_eval_wanted(r->plan, job, LR_EVAL_AGNOSTIC, c, sample) ||
            lr_eval_grid_at(&r->grid, job, LR_EVAL_AGNOSTIC, c, sample)->have)
            continue;
        struct eval_value v = {.score = NAN,
                               .alive = NAN,
                               .same = NAN,
                               .turn = {NAN},
                               .nll = NAN,
                               .kl = NAN,
                               .kl99 = NAN,
                               .top1 = NAN};
        if (!warm) /* once a round: pages and caches */
            rc = run(r, &r->plan->cell[0], prompt, n, &v);
        warm = true;
        rc = rc ? rc : run(r, &r->plan->cell[c], prompt, n, &v);
        rc = rc ? rc : lr_eval_grid_put(&r->grid, job, LR_EVAL_AGNOSTIC, c, sample, &v, r->err);
    }
    lr_free(prompt);
    return rc;
}
