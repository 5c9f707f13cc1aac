/* SPDX-License-Identifier: Apache-2.0
 * eval/page.c - the report as one self-contained page: no script, nothing fetched, light and dark.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdio.h>

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>larder eval "
    "kv</title>\n<style>\n"
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1c1f23;--dim:#667;--line:#dde1e6;--card:#f6f7f9;"
    "--good:#1a7f37;--bad:#c0392b;"
    "--c0:#111;--c1:#1f77b4;--c2:#d9480f;--c3:#2b8a3e;--c4:#9c36b5;--c5:#b08900;--c6:#0b7285;--c7:#"
    "e03177;"
    "--c8:#5c4b37;--c9:#4263eb;--c10:#74a12e;--c11:#868e96}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e8ea;--dim:#98a2ad;--line:#"
    "333a41;"
    "--card:#1c2025;--good:#57c777;--bad:#ff7b6b;"
    "--c0:#fff;--c1:#6cb8f0;--c2:#ff9a5c;--c3:#6ed584;--c4:#da8cf0;--c5:#f0cc4d;--c6:#4fd0e0;--c7:#"
    "ff86b8;"
    "--c8:#cbb193;--c9:#98adff;--c10:#b8e070;--c11:#adb5bd}}\n"
    "body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:1100px;"
    "margin:2em auto;padding:0 "
    "1em}\nh1{font-size:1.5em;margin-bottom:0}h2{font-size:1.15em;margin-top:2em}\n"
    ".dim{color:var(--dim)}table{border-collapse:collapse;font-size:13px;font-variant-numeric:"
    "tabular-nums}\n"
    "th,td{padding:2px 10px 2px 0;text-align:right;border-bottom:1px solid "
    "var(--line);white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left}td.a,th.a{text-align:left;white-space:normal}\n"
    ".wide{overflow-x:auto}.pass{color:var(--good)}.FAIL{color:var(--bad);font-weight:bold}\n"
    "svg{width:100%;background:var(--card);border-radius:6px;margin:.6em 0}svg "
    "text{fill:var(--fg)}\n"
    ".t{font-size:12px}.h{font-size:14px;font-weight:600}.e{text-anchor:end}.m{text-anchor:middle}"
    "\n"
    ".g{stroke:var(--line);stroke-width:1}.l{fill:none;stroke-width:2}.w{stroke-width:1.2;opacity:."
    "55}\n"
    ".d{stroke-dasharray:6 4}\n"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}"
    ".s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}"
    ".s8{stroke:var(--c8)}.s9{stroke:var(--c9)}.s10{stroke:var(--c10)}.s11{stroke:var(--c11)}\n"
    ".p{stroke-width:2;fill:var(--card)}\n</style></head><body>\n";

struct page {
    const struct eval_grid *g;
    struct lr_buf *out;
    int rc;
};

static void text(struct page *p, const char *z)
{
    lr_eval_escape(lr_strz(z), p->out);
}

/* ---- plots ---- */

/* What a plot shows of a cell: false when it has nothing. */
typedef bool (*measure)(struct page *p, uint32_t cell, enum lr_eval_mode mode,
                        struct eval_dot *out);

struct canvas {
    struct eval_line line[LR_EVAL_STACKS_MAX + 1];
    struct eval_dot dot[LR_EVAL_CELLS_MAX];
    char label[LR_EVAL_CELLS_MAX][80];
    size_t n, dots;
};

static struct eval_line line_of(const struct eval_plan *p, uint32_t cell,
                                const struct eval_dot *dot)
{
    const struct eval_cell *c = &p->cell[cell];
    return (struct eval_line){c->policy, c->kind == EVAL_FULL ? 0 : c->stack + 1, dot, 0};
}

static void draw(struct page *p, struct eval_plot plot, enum lr_eval_mode mode, measure fn)
{
    struct canvas *k = lr_new(struct canvas);
    const struct eval_plan *plan = p->g->plan;
    if (!k) {
        p->rc = LR_ENOMEM;
        return;
    }
    for (uint32_t c = 0; c < plan->n_cell; c++) {
        struct eval_dot d = {0};
        if (plan->cell[c].control || !fn(p, c, mode, &d))
            continue;
        bool first = k->n == 0 || strcmp(k->line[k->n - 1].name, plan->cell[c].policy) != 0;
        if (first && k->n == LR_COUNT(k->line))
            break;
        if (first)
            k->line[k->n++] = line_of(plan, c, &k->dot[k->dots]);
        char size[16];
        snprintf(k->label[k->dots], sizeof k->label[0], "%s: %.4g at %s bytes",
                 plan->cell[c].label[0] ? plan->cell[c].label : "all rows", d.y,
                 lr_eval_size(d.x, size));
        d.label = k->label[k->dots];
        k->dot[k->dots++] = d;
        k->line[k->n - 1].n++;
    }
    plot.line = k->line;
    plot.n = k->n;
    if (k->dots)
        lr_eval_plot(&plot, p->out);
    lr_free(k);
}

static bool overall(struct page *p, uint32_t cell, enum lr_eval_mode mode, struct eval_dot *d)
{
    bool any = lr_eval_overall(p->g, mode, cell, &d->y, &d->x);
    d->low = d->high = d->y;
    return any;
}

static bool of_text(struct page *p, uint32_t cell, enum lr_eval_mode mode, struct eval_dot *d,
                    bool kl)
{
    struct eval_sum s;
    for (uint32_t j = 0; j < p->g->plan->n_job; j++)
        if (p->g->plan->job[j].kind == EVAL_PERPLEXITY &&
            lr_eval_sum(p->g, j, mode, cell, &s, &p->rc)) {
            *d = kl ? (struct eval_dot){s.bytes, s.kl, s.kl, s.kl, NULL}
                    : (struct eval_dot){s.bytes, s.pair.diff.mean, s.pair.diff.low,
                                        s.pair.diff.high, NULL};
            return true;
        }
    return false;
}

static bool more_nll(struct page *p, uint32_t cell, enum lr_eval_mode mode, struct eval_dot *d)
{
    return of_text(p, cell, mode, d, false);
}

static bool divergence(struct page *p, uint32_t cell, enum lr_eval_mode mode, struct eval_dot *d)
{
    return of_text(p, cell, mode, d, true);
}

/* ---- decode speed against context: the lines are policies, the dots lengths ---- */

static void draw_speed(struct page *p)
{
    struct canvas *k = lr_new(struct canvas);
    const struct eval_plan *plan = p->g->plan;
    if (!k) {
        p->rc = LR_ENOMEM;
        return;
    }
    for (uint32_t c = 0; c < plan->n_cell && k->n < LR_COUNT(k->line); c++) {
        struct eval_line *l = &k->line[k->n];
        *l = line_of(plan, c, &k->dot[k->dots]);
        for (uint32_t j = plan->n_job;
             j-- > 0 && k->dots < LR_COUNT(k->dot);) { /* jobs: longest first */
            double y = plan->job[j].kind == EVAL_SYSTEM
                           ? lr_eval_typical(p->g, j, c, offsetof(struct eval_value, decode_tps))
                           : NAN;
            if (isnan(y))
                continue;
            snprintf(k->label[k->dots], sizeof k->label[0], "%.0f tokens/s at %u", y,
                     plan->job[j].tokens);
            k->dot[k->dots] = (struct eval_dot){plan->job[j].tokens, y, y, y, k->label[k->dots]};
            k->dots++;
            l->n++;
        }
        k->n += l->n > 0;
    }
    const struct eval_plot plot = {.title = "Decode speed against context",
                                   .x = "tokens of context",
                                   .y = "tokens a second",
                                   .line = k->line,
                                   .n = k->n,
                                   .log_x = true};
    if (k->dots)
        lr_eval_plot(&plot, p->out);
    lr_free(k);
}

static void plots(struct page *p)
{
    struct eval_plot plot = {.x = "bytes of KV, measured",
                             .y = "accuracy",
                             .log_x = true,
                             .y_min = -0.03,
                             .y_max = 1.03};
    plot.title = "Accuracy against bytes, agnostic: the policy decides before any question";
    draw(p, plot, LR_EVAL_AGNOSTIC, overall);
    plot.title = "Accuracy against bytes, aware: the policy has seen the first question";
    draw(p, plot, LR_EVAL_AWARE, overall);
    plot.y_min = plot.y_max = 0;
    plot.title = "Perplexity against bytes: NLL more than the full cache's";
    plot.y = "nats a token";
    draw(p, plot, LR_EVAL_AGNOSTIC, more_nll);
    plot.title = "KL from the full cache against bytes, mean over tokens";
    draw(p, plot, LR_EVAL_AGNOSTIC, divergence);
    draw_speed(p);
}

/* ---- tables ---- */

static void name_cells(struct page *p, uint32_t cell, double rows, double bytes)
{
    const struct eval_cell *c = &p->g->plan->cell[cell];
    char size[16];
    lr_buf_addz(p->out, "<tr><td>");
    text(p, c->policy);
    lr_buf_addz(p->out, "</td><td>");
    text(p, c->label[0] ? c->label : "-");
    lr_buf_addf(p->out, "</td><td>%.0f</td><td>%s</td>", rows, lr_eval_size(bytes, size));
}

static void controls(struct page *p, const struct eval_control *c)
{
    static const char *const verdicts[] = {"pass", "FAIL", "skip"};
    lr_buf_addz(p->out,
                "<h2>Controls</h2>\n<p class=\"dim\">Laws that hold whatever the model and the "
                "policy. If one fails, believe nothing below.</p>\n<div class=\"wide\"><table>\n");
    for (size_t i = 0; i < LR_EVAL_CONTROLS; i++) {
        lr_buf_addf(p->out, "<tr><td class=\"%s\">%s</td><td class=\"a\">", verdicts[c[i].verdict],
                    verdicts[c[i].verdict]);
        text(p, c[i].law);
        lr_buf_addz(p->out, "</td><td class=\"a\">");
        text(p, c[i].seen);
        lr_buf_addz(p->out, "</td></tr>\n");
    }
    lr_buf_addz(p->out, "</table></div>\n");
}

static void accuracy(struct page *p, uint32_t j, enum lr_eval_mode mode)
{
    const struct eval_job *job = &p->g->plan->job[j];
    struct eval_sum s;
    if (job->kind != EVAL_RECALL || job->control || !lr_eval_sum(p->g, j, mode, 0, &s, &p->rc))
        return;
    lr_buf_addf(p->out,
                "<h2>%s, %s, %u tokens%s</h2>\n<div class=\"wide\"><table><tr><th>policy</th>"
                "<th>budget</th><th>rows</th><th>bytes</th><th>accuracy</th><th>95 %%</th>"
                "<th>to full</th><th>95 %%</th><th>wins / ties / losses</th>",
                job->name, lr_eval_mode_name(mode), job->tokens,
                lr_eval_headroom(p->g, j, mode) ? ""
                                                : " (not ranked: the full cache is below 0.9)");
    uint32_t turns = s.n_turn;
    for (uint32_t t = 0; t < turns; t++)
        lr_buf_addf(p->out, "<th>turn %u</th>", t + 1);
    lr_buf_addz(p->out, "</tr>\n");
    for (uint32_t c = 0; c < p->g->plan->n_cell; c++) {
        if (p->g->plan->cell[c].control || !lr_eval_sum(p->g, j, mode, c, &s, &p->rc))
            continue;
        name_cells(p, c, s.rows, s.bytes);
        lr_buf_addf(p->out,
                    "<td>%.3f</td><td>%.2f .. %.2f</td><td>%+.3f</td><td>%+.2f .. %+.2f</td>"
                    "<td>%zu / %zu / %zu</td>",
                    s.value.mean, s.value.low, s.value.high, s.pair.diff.mean, s.pair.diff.low,
                    s.pair.diff.high, s.pair.wins, s.pair.ties, s.pair.losses);
        for (uint32_t t = 0; t < turns; t++)
            lr_buf_addf(p->out, "<td>%.2f</td>", s.turn[t]);
        lr_buf_addz(p->out, "</tr>\n");
    }
    lr_buf_addz(p->out, "</table></div>\n");
}

static void perplexity(struct page *p, uint32_t j)
{
    struct eval_sum s;
    if (p->g->plan->job[j].kind != EVAL_PERPLEXITY ||
        !lr_eval_sum(p->g, j, LR_EVAL_AGNOSTIC, 0, &s, &p->rc))
        return;
    lr_buf_addf(p->out, "<h2>Perplexity of the second half, the first compressed%s</h2>\n",
                p->g->plan->job[j].sliding ? "; decoded, budgets held" : "");
    lr_buf_addz(p->out,
                "<div class=\"wide\"><table><tr><th>policy</th><th>budget</th><th>rows</th>"
                "<th>bytes</th><th>NLL</th><th>perplexity</th><th>more than full</th><th>95 %</th>"
                "<th>KL</th><th>KL p99</th><th>same top token</th></tr>\n");
    for (uint32_t c = 0; c < p->g->plan->n_cell; c++) {
        if (p->g->plan->cell[c].control || !lr_eval_sum(p->g, j, LR_EVAL_AGNOSTIC, c, &s, &p->rc))
            continue;
        name_cells(p, c, s.rows, s.bytes);
        lr_buf_addf(p->out,
                    "<td>%.4f</td><td>%.3f</td><td>%+.4f</td><td>%+.3f .. %+.3f</td><td>%.4f</td>"
                    "<td>%.4f</td><td>%.3f</td></tr>\n",
                    s.value.mean, exp(s.value.mean), s.pair.diff.mean, s.pair.diff.low,
                    s.pair.diff.high, s.kl, s.kl99, s.top1);
    }
    lr_buf_addz(p->out, "</table></div>\n");
}

#define TYPICAL(p, j, c, member)                                                                   \
    lr_eval_typical((p)->g, (j), (c), offsetof(struct eval_value, member))

static void times(struct page *p, uint32_t j)
{
    double full = TYPICAL(p, j, 0, ttft_ms);
    char peak[16];
    if (p->g->plan->job[j].kind != EVAL_SYSTEM || isnan(full))
        return;
    lr_buf_addf(p->out,
                "<h2>Seconds and bytes at %u tokens</h2>\n<div class=\"wide\"><table><tr>"
                "<th>policy</th><th>budget</th><th>rows</th><th>bytes after</th><th>ttft ms</th>"
                "<th>x full</th><th>taps ms</th><th>policy ms</th><th>peak bytes</th>"
                "<th>decode tokens/s</th></tr>\n",
                p->g->plan->job[j].tokens);
    for (uint32_t c = 0; c < p->g->plan->n_cell; c++) {
        double ttft = TYPICAL(p, j, c, ttft_ms);
        if (isnan(ttft))
            continue;
        name_cells(p, c, TYPICAL(p, j, c, rows), TYPICAL(p, j, c, bytes));
        lr_buf_addf(
            p->out,
            "<td>%.1f</td><td>%.2f</td><td>%.1f</td><td>%.1f</td><td>%s</td><td>%.1f</td></tr>\n",
            ttft, ttft / full, TYPICAL(p, j, c, tap_ms), TYPICAL(p, j, c, policy_ms),
            lr_eval_size(TYPICAL(p, j, c, peak), peak), TYPICAL(p, j, c, decode_tps));
    }
    lr_buf_addz(p->out, "</table></div>\n");
}

static void introduce(struct page *p)
{
    const struct eval_plan *plan = p->g->plan;
    const char *slash = strrchr(plan->opts->model, '/');
    lr_buf_addz(
        p->out,
        "<h1>What a KV policy keeps, and what that costs</h1>\n<p class=\"dim\">larder eval kv, "
        "model ");
    text(p, slash ? slash + 1 : plan->opts->model);
    lr_buf_addf(
        p->out,
        ", %u tokens, %u samples, seed %llu. Bytes are measured: pages held, what finds them, "
        "and what policies keep beside them. Intervals are 95 %% bootstrap intervals over "
        "samples; comparisons with the full cache are paired. Tasks that the full cache "
        "itself does not do to 0.9 are shown and ranked nowhere.%s</p>\n",
        plan->context, plan->samples, (unsigned long long)plan->opts->seed,
        plan->opts->hold ? " Budgets were held while answering." : "");
}

int lr_eval_page(const struct eval_grid *g, const struct eval_control *c, struct lr_buf *out)
{
    struct page p = {g, out, 0};
    lr_buf_addz(out, head);
    introduce(&p);
    controls(&p, c);
    lr_buf_addz(out, "<h2>At a glance</h2>\n");
    plots(&p);
    for (int m = 0; m < LR_EVAL_MODES; m++)
        for (uint32_t j = 0; j < g->plan->n_job; j++)
            accuracy(&p, j, (enum lr_eval_mode)m);
    for (uint32_t j = 0; j < g->plan->n_job; j++)
        perplexity(&p, j);
    for (uint32_t j = 0; j < g->plan->n_job; j++)
        times(&p, j);
    lr_buf_addz(out, "</body></html>\n");
    return p.rc ? p.rc : out->rc;
}
