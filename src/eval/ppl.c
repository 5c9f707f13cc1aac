/* SPDX-License-Identifier: Apache-2.0
 * eval/ppl.c - perplexity: how well the model still predicts a text of which half was compressed.
 *
 *   [ first half: fed, compressed ][ second half: fed as it stands, all its logits looked at ]
 *
 * sliding: the second half is decoded, token by token, and budgets hold at every one of them: what a
 * long reply does, not a long prompt. Rows and bytes are then those at the end.
 *
 * Of each cell: NLL, the mean negative log-probability of the true next token (nats); KL(full ||
 * cell), the mean over positions and its 99th percentile (a mean hides the places where a policy
 * loses the thread); top1, how often both prefer the same token. The first token of the second half
 * is not counted: its logits come out of the prefill, which every cell shares.
 *
 * All forks go through the text side by side, a tile at a time, so that the full cache's logits of
 * a tile are computed once and none are kept. KL is written as sum p (l_full - l) - lse_full + lse,
 * with p and the full cache's part computed once; equal logits give exactly 0.
 */
#include "eval/eval_int.h"

#include <math.h>

struct lane {
    struct lr_engine_seq *seq; /* NULL: nothing to do for this cell */
    struct eval_value v;
    double *kl; /* (positions) */
    double top1;
};

struct walk {
    struct eval_run *r;
    struct lane *lane; /* (n_cell); lane 0 is the full cache and always runs */
    const uint32_t *id;
    uint32_t at, n; /* tokens of the tile: [at, at + n) */
    uint32_t from;  /* first position that is looked at */
    bool sliding;
    float *p;       /* (vocab) the full cache's probabilities, and scratch */
    float *scratch;
};

/* Log-sum-exp of logits; p, when asked for, gets the probabilities. */
static double normaliser(const float *logits, uint32_t n, float *p)
{
    struct lr_kern_softmax s = LR_KERN_SOFTMAX_INIT;
    memcpy(p, logits, n * sizeof *p);
    (void)lr_kern()->softmax_push(&s, p, n); /* nothing before it to scale */
    lr_kern()->scale(p, 1 / s.sum, n);
    return (double)lr_kern_lse(&s);
}

static void look(struct walk *w, struct lane *l, uint32_t i, double full_part)
{
    uint32_t vocab = w->r->vocab, next = w->id[w->at + i + 1];
    const float *x = w->r->tile + (size_t)i * vocab, *full = w->r->full_tile + (size_t)i * vocab;
    double lse = normaliser(x, vocab, w->scratch);
    double kl = full_part - (double)lr_kern()->dot(w->p, x, vocab) + lse;
    l->v.nll += lse - (double)x[next];
    l->kl[w->at + i - w->from] = kl > 0 ? kl : 0;
    l->top1 += lr_eval_best(x, vocab) == lr_eval_best(full, vocab);
}

static int feed(struct walk *w, struct lr_engine_seq *s, float *logits)
{
    const struct lr_engine_work k = {
        .seq = s,
        .tokens = w->id + w->at,
        .n = w->n,
        .n_logits = w->n,
        .logits = logits,
        .phase = w->sliding ? LR_POLICY_TOKEN : LR_POLICY_CHUNK};
    LR_TRY(lr_engine_step(w->r->engine, &k, 1, w->r->err));
    return lr_engine_seq_status(s, w->r->err);
}

static int one_tile(struct walk *w)
{
    struct eval_run *r = w->r;
    LR_TRY(feed(w, w->lane[0].seq, r->full_tile));
    for (uint32_t c = 0; c < r->plan->n_cell; c++) {
        if (!w->lane[c].seq)
            continue;
        if (c)
            LR_TRY(feed(w, w->lane[c].seq, r->tile));
        else
            memcpy(r->tile, r->full_tile, (size_t)w->n * r->vocab * sizeof *r->tile);
        for (uint32_t i = 0; i < w->n; i++) {
            const float *full = r->full_tile + (size_t)i * r->vocab;
            double lse = normaliser(full, r->vocab, w->p);
            look(w, &w->lane[c], i, (double)lr_kern()->dot(w->p, full, r->vocab) - lse);
        }
    }
    return 0;
}

static int open_lanes(struct walk *w, uint32_t job, uint32_t sample, struct lr_engine_seq *base,
                      uint32_t half)
{
    struct eval_run *r = w->r;
    for (uint32_t c = 0; c < r->plan->n_cell; c++) {
        struct lane *l = &w->lane[c];
        bool due = c == 0 || !lr_eval_grid_at(&r->grid, job, LR_EVAL_AGNOSTIC, c, sample)->have;
        if (!due || !lr_eval_wanted(r->plan, job, LR_EVAL_AGNOSTIC, c, sample))
            continue;
        l->kl = lr_calloc(r->plan->job[job].tokens, sizeof *l->kl);
        if (!l->kl)
            return lr_err_set(r->err, LR_ENOMEM, "perplexity", "out of memory");
        LR_TRY(lr_eval_fork(r, &r->plan->cell[c], base, w->id, half,
                            lr_eval_seed(r, job, sample, r->plan->cell[c].stack), &l->seq));
        lr_eval_weigh(r, l->seq, &l->v);
    }
    return 0;
}

static int put_lanes(struct walk *w, uint32_t job, uint32_t sample, uint32_t n)
{
    struct eval_run *r = w->r;
    for (uint32_t c = 0; c < r->plan->n_cell; c++) {
        struct lane *l = &w->lane[c];
        if (!l->seq || lr_eval_grid_at(&r->grid, job, LR_EVAL_AGNOSTIC, c, sample)->have)
            continue;
        if (w->sliding)
            lr_eval_weigh(r, l->seq, &l->v);
        struct eval_value v = {.score = NAN,
                               .alive = NAN,
                               .same = NAN,
                               .turn = {NAN},
                               .ttft_ms = NAN,
                               .tap_ms = NAN,
                               .policy_ms = NAN,
                               .tap_bytes = NAN,
                               .peak = NAN,
                               .decode_tps = NAN,
                               .rows = l->v.rows,
                               .bytes = l->v.bytes};
        v.nll = l->v.nll / n;
        v.kl = lr_eval_mean(l->kl, n);
        v.kl99 = lr_eval_quantile(l->kl, n, 0.99);
        v.top1 = l->top1 / n;
        LR_TRY(lr_eval_grid_put(&r->grid, job, LR_EVAL_AGNOSTIC, c, sample, &v, r->err));
    }
    return 0;
}

static int walk_text(struct walk *w, uint32_t job, uint32_t sample)
{
    struct eval_run *r = w->r;
    uint32_t all = r->plan->job[job].tokens, half = all / 2;
    struct lr_engine_seq *base;
    LR_TRY(lr_eval_base(r, job, LR_EVAL_AGNOSTIC, sample, w->id, half, &base));
    int rc = lr_eval_foresee(r, base, w->id + half, all - half);
    rc = rc ? rc : open_lanes(w, job, sample, base, half);
    w->from = half;
    for (w->at = half; !rc && w->at + 1 < all; w->at += w->n) {
        uint32_t most = w->sliding ? 1 : LR_EVAL_PPL_TILE;
        w->n = all - 1 - w->at < most ? all - 1 - w->at : most;
        rc = one_tile(w);
    }
    rc = rc ? rc : put_lanes(w, job, sample, all - 1 - half);
    for (uint32_t c = 0; c < r->plan->n_cell; c++) {
        lr_engine_seq_close(w->lane[c].seq);
        lr_free(w->lane[c].kl);
    }
    lr_engine_seq_close(base);
    return rc;
}

static bool all_there(const struct eval_run *r, uint32_t job, uint32_t sample)
{
    for (uint32_t c = 0; c < r->plan->n_cell; c++)
        if (lr_eval_wanted(r->plan, job, LR_EVAL_AGNOSTIC, c, sample) &&
            !lr_eval_grid_at(&r->grid, job, LR_EVAL_AGNOSTIC, c, sample)->have)
            return false;
    return true;
}

int lr_eval_perplexity(struct eval_run *r, uint32_t job, uint32_t sample)
{
    const struct lr_eval_spec spec = {.tokens = r->plan->job[job].tokens,
                                      .seed = r->opts->seed,
                                      .task = LR_EVAL_TASKS,
                                      .text = lr_buf_str(&r->plan->text)};
    struct lr_arena a;
    if (all_there(r, job, sample))
        return 0;
    lr_arena_init(&a, LR_MIB(512));
    struct walk w = {.r = r, .sliding = r->plan->job[job].sliding};
    w.lane = lr_calloc(r->plan->n_cell, sizeof *w.lane);
    w.p = lr_calloc(r->vocab, sizeof *w.p);
    w.scratch = lr_calloc(r->vocab, sizeof *w.scratch);
    int rc = w.lane && w.p && w.scratch
                 ? 0
                 : lr_err_set(r->err, LR_ENOMEM, "perplexity", "out of memory");
    rc = rc ? rc : lr_eval_stretch(&spec, &r->coder, sample, &a, &w.id, r->err);
    rc = rc ? rc : walk_text(&w, job, sample);
    lr_free(w.lane);
    lr_free(w.p);
    lr_free(w.scratch);
    lr_arena_free(&a);
    return rc;
}
