/* SPDX-License-Identifier: Apache-2.0
 * eval/table.c - results as text: controls first, for without them the rest says nothing.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdio.h>

static const char *const verdicts[] = {"pass", "FAIL", "skip"};

static const char *budget_of(const struct eval_cell *c)
{
    return c->label[0] ? c->label : "-";
}

static bool shown(const struct eval_grid *g, uint32_t cell)
{
    return !g->plan->cell[cell].control;
}

static void heading(const struct eval_grid *g, struct lr_buf *out)
{
    const struct eval_plan *p = g->plan;
    const char *slash = strrchr(p->opts->model, '/');
    lr_buf_addf(
        out, "larder eval kv   model %s   context %u   samples %u   seed %llu   text %s%s\n\n",
        slash ? slash + 1 : p->opts->model, p->context, p->samples,
        (unsigned long long)p->opts->seed, p->opts->text ? p->opts->text : "models/english.txt",
        p->opts->hold ? "   budgets held while answering" : "");
}

static void controls(const struct eval_control *c, struct lr_buf *out)
{
    lr_buf_addz(out, "controls: laws that hold for every model and policy\n");
    for (size_t i = 0; i < LR_EVAL_CONTROLS; i++)
        lr_buf_addf(out, "  %s  %-58s %s\n", verdicts[c[i].verdict], c[i].law, c[i].seen);
    lr_buf_addc(out, '\n');
}

/* ---- accuracy ---- */

static void number(struct lr_buf *out, const struct eval_sum *s)
{
    lr_buf_addf(out, "  %.2f [%.2f %.2f]", s->value.mean, s->value.low, s->value.high);
}

static void accuracy_row(const struct eval_grid *g, enum lr_eval_mode mode, uint32_t cell,
                         bool rank, struct lr_buf *out, int *rc)
{
    const struct eval_plan *p = g->plan;
    const struct eval_cell *c = &p->cell[cell];
    struct eval_sum s;
    double score, bytes, rows = 0, n = 0;
    char size[16];
    for (uint32_t j = 0; j < p->n_job; j++)
        if (p->job[j].kind == EVAL_RECALL && !p->job[j].control &&
            lr_eval_sum(g, j, mode, cell, &s, rc)) {
            rows += s.rows;
            n++;
        }
    if (n < 1)
        return;
    bool any = lr_eval_overall(g, mode, cell, &score, &bytes);
    lr_buf_addf(out, "  %-24s %8s %7.0f %7s", c->policy, budget_of(c), rows / n,
                any ? lr_eval_size(bytes, size) : "");
    if (rank && any)
        lr_buf_addf(out, "  %.3f", score);
    for (uint32_t j = 0; j < p->n_job; j++) {
        if (p->job[j].kind != EVAL_RECALL || p->job[j].control)
            continue;
        if (lr_eval_sum(g, j, mode, cell, &s, rc))
            number(out, &s);
        else
            lr_buf_addf(out, "  %16s", "");
    }
    lr_buf_addc(out, '\n');
}

static void accuracy(const struct eval_grid *g, enum lr_eval_mode mode, struct lr_buf *out, int *rc)
{
    const struct eval_plan *p = g->plan;
    struct eval_sum s;
    bool any = false, rank = false;
    for (uint32_t j = 0; j < p->n_job; j++)
        if (p->job[j].kind == EVAL_RECALL && !p->job[j].control &&
            lr_eval_sum(g, j, mode, 0, &s, rc)) {
            any = true;
            rank |= lr_eval_headroom(g, j, mode);
        }
    if (!any)
        return;
    lr_buf_addf(out, "accuracy, %s: %s (mean [95 %% interval])\n", lr_eval_mode_name(mode),
                mode == LR_EVAL_AWARE ? "the policy has seen the first question"
                                      : "the policy decides before any question");
    lr_buf_addf(out, "  %-24s %8s %7s %7s%s", "policy", "budget", "rows", "bytes",
                rank ? "   mean" : "");
    for (uint32_t j = 0; j < p->n_job; j++)
        if (p->job[j].kind == EVAL_RECALL && !p->job[j].control)
            lr_buf_addf(out, "  %15s%c", p->job[j].name, lr_eval_headroom(g, j, mode) ? ' ' : '*');
    lr_buf_addc(out, '\n');
    for (uint32_t c = 0; c < p->n_cell; c++)
        if (shown(g, c))
            accuracy_row(g, mode, c, rank, out, rc);
    for (uint32_t j = 0; j < p->n_job; j++)
        if (p->job[j].kind == EVAL_RECALL && !p->job[j].control &&
            lr_eval_sum(g, j, mode, 0, &s, rc) && !lr_eval_headroom(g, j, mode))
            lr_buf_addf(out, "  * %s: the full cache has %.2f, below %.1f: not in the mean\n",
                        p->job[j].name, s.value.mean, LR_EVAL_HEADROOM);
    lr_buf_addc(out, '\n');
}

static void turns(const struct eval_grid *g, enum lr_eval_mode mode, struct lr_buf *out, int *rc)
{
    struct eval_sum s;
    for (uint32_t j = 0; j < g->plan->n_job; j++) {
        const struct eval_job *job = &g->plan->job[j];
        if (job->kind != EVAL_RECALL || job->task != LR_EVAL_TURNS ||
            !lr_eval_sum(g, j, mode, 0, &s, rc))
            continue;
        lr_buf_addf(out, "five questions, compressed once, %s%s\n  %-24s %8s",
                    lr_eval_mode_name(mode), lr_eval_headroom(g, j, mode) ? "" : " (*)", "policy",
                    "budget");
        for (uint32_t t = 0; t < s.n_turn; t++)
            lr_buf_addf(out, "  turn %u", t + 1);
        lr_buf_addz(out, "   1 - others\n");
        for (uint32_t c = 0; c < g->plan->n_cell; c++) {
            if (!shown(g, c) || !lr_eval_sum(g, j, mode, c, &s, rc))
                continue;
            double others = 0;
            lr_buf_addf(out, "  %-24s %8s", g->plan->cell[c].policy, budget_of(&g->plan->cell[c]));
            for (uint32_t t = 0; t < s.n_turn; t++) {
                lr_buf_addf(out, "  %6.2f", s.turn[t]);
                others += t ? s.turn[t] / (s.n_turn - 1) : 0;
            }
            lr_buf_addf(out, "   %+.2f\n", s.turn[0] - others);
        }
        lr_buf_addc(out, '\n');
    }
}

static void perplexity(const struct eval_grid *g, struct lr_buf *out, int *rc)
{
    struct eval_sum s;
    char size[16];
    for (uint32_t j = 0; j < g->plan->n_job; j++) {
        if (g->plan->job[j].kind != EVAL_PERPLEXITY ||
            !lr_eval_sum(g, j, LR_EVAL_AGNOSTIC, 0, &s, rc))
            continue;
        lr_buf_addf(out,
                    "perplexity of the second half, the first compressed%s (nats a token)\n"
                    "  %-24s %8s %7s %7s %8s  %-24s %8s %8s %6s\n",
                    g->plan->job[j].sliding ? "; decoded, budgets held" : "", "policy", "budget",
                    "rows", "bytes", "nll", "more than full [95 %]", "kl",
                    "kl p99", "top1");
        for (uint32_t c = 0; c < g->plan->n_cell; c++)
            if (shown(g, c) && lr_eval_sum(g, j, LR_EVAL_AGNOSTIC, c, &s, rc))
                lr_buf_addf(out,
                            "  %-24s %8s %7.0f %7s %8.4f  %+.4f [%+.4f %+.4f] %8.4f %8.4f %6.3f\n",
                            g->plan->cell[c].policy, budget_of(&g->plan->cell[c]), s.rows,
                            lr_eval_size(s.bytes, size), s.value.mean, s.pair.diff.mean,
                            s.pair.diff.low, s.pair.diff.high, s.kl, s.kl99, s.top1);
        lr_buf_addc(out, '\n');
    }
}

/* ---- seconds and bytes ---- */

#define TYPICAL(g, j, c, member) lr_eval_typical((g), (j), (c), offsetof(struct eval_value, member))

static void times(const struct eval_grid *g, uint32_t j, struct lr_buf *out)
{
    char peak[16], bytes[16];
    double full = TYPICAL(g, j, 0, ttft_ms), speed = TYPICAL(g, j, 0, decode_tps);
    if (isnan(full))
        return;
    lr_buf_addf(out,
                "seconds and bytes at %u tokens (medians of %u; ttft has taps and eviction in it)\n"
                "  %-24s %8s %9s %6s %8s %8s %8s %8s %9s %6s\n",
                g->plan->job[j].tokens, g->plan->job[j].samples, "policy", "budget", "ttft ms",
                "x full", "taps ms", "policy ms", "peak", "after", "decode/s", "x full");
    for (uint32_t c = 0; c < g->plan->n_cell; c++) {
        double ttft = TYPICAL(g, j, c, ttft_ms), tps = TYPICAL(g, j, c, decode_tps);
        if (isnan(ttft))
            continue;
        lr_buf_addf(out, "  %-24s %8s %9.1f %6.2f %8.1f %9.1f %8s %8s %9.1f %6.2f\n",
                    g->plan->cell[c].policy, budget_of(&g->plan->cell[c]), ttft, ttft / full,
                    TYPICAL(g, j, c, tap_ms), TYPICAL(g, j, c, policy_ms),
                    lr_eval_size(TYPICAL(g, j, c, peak), peak),
                    lr_eval_size(TYPICAL(g, j, c, bytes), bytes), tps, tps / speed);
    }
    lr_buf_addc(out, '\n');
}

int lr_eval_table(const struct eval_grid *g, const struct eval_control *c, struct lr_buf *out)
{
    int rc = 0;
    heading(g, out);
    controls(c, out);
    for (int m = 0; m < LR_EVAL_MODES; m++)
        accuracy(g, (enum lr_eval_mode)m, out, &rc);
    for (int m = 0; m < LR_EVAL_MODES; m++)
        turns(g, (enum lr_eval_mode)m, out, &rc);
    perplexity(g, out, &rc);
    for (uint32_t j = 0; j < g->plan->n_job; j++)
        if (g->plan->job[j].kind == EVAL_SYSTEM)
            times(g, j, out);
    return rc ? rc : out->rc;
}
