/* SPDX-License-Identifier: Apache-2.0
 * eval/sum.c - slots to means and intervals, and the controls that must come out as stated.
 *
 * A cell is compared with the full cache on the samples both have, pair by pair. Headroom: a task
 * that the full cache itself does not do (below 0.9) tells nothing about policies: it is shown and
 * ranks nothing.
 *
 * Controls catch an evaluation that lies, not a policy that is bad. Each is a law that holds
 * whatever the model, or is skipped with the reason. Those that need a model that can do the task
 * are skipped where the full cache cannot.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Values of a cell and of the full cache on the samples that have both. */
struct pairs {
    double *a, *b;
    size_t n;
};

static double pick(const struct eval_job *j, const struct eval_value *v)
{
    return j->kind == EVAL_PERPLEXITY ? v->nll : j->kind == EVAL_SYSTEM ? v->ttft_ms : v->score;
}

static int collect(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                   uint32_t with, struct pairs *out)
{
    const struct eval_job *j = &g->plan->job[job];
    *out = (struct pairs){lr_calloc(j->samples, sizeof(double)),
                          lr_calloc(j->samples, sizeof(double)), 0};
    for (uint32_t i = 0; out->a && out->b && i < j->samples; i++) {
        const struct eval_value *a = lr_eval_grid_at(g, job, mode, cell, i);
        const struct eval_value *b = lr_eval_grid_at(g, job, mode, with, i);
        if (!a->have || !b->have)
            continue;
        out->a[out->n] = pick(j, a);
        out->b[out->n++] = pick(j, b);
    }
    return out->a && out->b ? 0 : LR_ENOMEM;
}

static void drop(struct pairs *p)
{
    lr_free(p->a);
    lr_free(p->b);
}

static void add_turns(struct eval_sum *s, const struct eval_value *v)
{
    for (uint32_t t = 0; t < LR_EVAL_TURNS_MAX && !isnan(v->turn[t]); t++) {
        s->turn[t] += v->turn[t];
        s->n_turn = t + 1 > s->n_turn ? t + 1 : s->n_turn;
    }
}

static void add_means(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode,
                      uint32_t cell, struct eval_sum *s)
{
    double n = 0;
    for (uint32_t i = 0; i < g->plan->job[job].samples; i++) {
        const struct eval_value *v = lr_eval_grid_at(g, job, mode, cell, i);
        if (!v->have)
            continue;
        n++;
        s->rows += v->rows;
        s->bytes += v->bytes;
        s->kl += v->kl;
        s->kl99 += v->kl99;
        s->top1 += v->top1;
        add_turns(s, v);
    }
    double *all[] = {&s->rows, &s->bytes, &s->kl, &s->kl99, &s->top1};
    for (size_t i = 0; n > 0 && i < LR_COUNT(all); i++)
        *all[i] /= n;
    for (uint32_t t = 0; t < s->n_turn; t++)
        s->turn[t] /= n;
}

bool lr_eval_sum(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                 struct eval_sum *out, int *rc)
{
    struct pairs p;
    struct eval_sum s = {0};
    int bad = collect(g, job, mode, cell, 0, &p);
    bool any = !bad && p.n > 0;
    if (any)
        bad = lr_eval_bootstrap(p.a, p.n, 1, &s.value);
    if (any && !bad)
        bad = lr_eval_paired(p.a, p.b, p.n, 1, &s.pair);
    drop(&p);
    if (bad)
        *rc = bad;
    if (!any || bad)
        return false;
    add_means(g, job, mode, cell, &s);
    *out = s;
    return true;
}

bool lr_eval_headroom(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode)
{
    struct eval_sum s;
    int rc = 0;
    return lr_eval_sum(g, job, mode, 0, &s, &rc) && s.value.mean >= LR_EVAL_HEADROOM;
}

double lr_eval_typical(const struct eval_grid *g, uint32_t job, uint32_t cell, size_t field)
{
    double x[16];
    size_t n = 0;
    for (uint32_t i = 0; i < g->plan->job[job].samples && n < LR_COUNT(x); i++) {
        const struct eval_value *v = lr_eval_grid_at(g, job, LR_EVAL_AGNOSTIC, cell, i);
        if (v->have)
            x[n++] = *(const double *)(const void *)((const char *)v + field);
    }
    return n ? lr_eval_median(x, n) : NAN;
}

bool lr_eval_overall(const struct eval_grid *g, enum lr_eval_mode mode, uint32_t cell,
                     double *score, double *bytes)
{
    double sum = 0, held = 0, n = 0;
    struct eval_sum s;
    int rc = 0;
    for (uint32_t j = 0; j < g->plan->n_job; j++) {
        const struct eval_job *job = &g->plan->job[j];
        if (job->kind != EVAL_RECALL || job->control || !lr_eval_headroom(g, j, mode) ||
            !lr_eval_sum(g, j, mode, cell, &s, &rc))
            continue;
        sum += s.value.mean;
        held += s.bytes;
        n++;
    }
    *score = n > 0 ? sum / n : 0;
    *bytes = n > 0 ? held / n : 0;
    return n > 0;
}

const char *lr_eval_size(double bytes, char out[16])
{
    static const char marks[] = " KMGTP";
    size_t i = 0;
    for (; bytes >= 1000 && i < 5; i++)
        bytes /= 1024;
    snprintf(out, 16, i ? "%.*f%c" : "%.*f",
             bytes < 10 && i    ? 2
             : bytes < 100 && i ? 1
                                : 0,
             bytes, marks[i]);
    return out;
}

/* ---- controls ---- */

static uint32_t find_job(const struct eval_grid *g, enum eval_kind kind, enum lr_eval_task task)
{
    for (uint32_t j = 0; j < g->plan->n_job; j++)
        if (g->plan->job[j].kind == kind && !g->plan->job[j].sliding &&
            (kind != EVAL_RECALL || g->plan->job[j].task == task))
            return j;
    return UINT32_MAX;
}

/* The cell of a policy at the budget that another cell has. */
static uint32_t twin(const struct eval_grid *g, const char *policy, const struct eval_cell *at)
{
    for (uint32_t c = 0; c < g->plan->n_cell; c++)
        if (strcmp(g->plan->cell[c].policy, policy) == 0 &&
            strcmp(g->plan->cell[c].label, at->label) == 0)
            return c;
    return UINT32_MAX;
}

__attribute__((format(printf, 2, 3))) static void say(struct eval_control *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->seen, sizeof c->seen, fmt, ap);
    va_end(ap);
}

/* a against b over all tasks and budgets that both have; told: the pair that speaks most against
 * the law. Among hundreds of pairs some differ by luck: the sign test's p counts times their
 * number. */
struct worst {
    double p, a, b;
    const char *policy, *budget;
    size_t n;
};

double lr_eval_sign_test(size_t wins, size_t losses)
{
    size_t n = wins + losses;
    double term = pow(0.5, (double)n), tail = 0; /* of n over k, from k = n down to wins */
    for (size_t k = n; n <= 1000 && k >= wins; k--) {
        tail += term;
        if (k == 0)
            break;
        term *= (double)k / (double)(n - k + 1);
    }
    return tail < 1 ? tail : 1;
}

static void keep_worst(struct worst *w, const struct lr_eval_pair *p, const struct pairs *x,
                       const struct eval_cell *c)
{
    double chance = lr_eval_sign_test(p->wins, p->losses);
    if (w->n++ && chance >= w->p)
        return;
    w->p = chance;
    w->a = lr_eval_mean(x->a, x->n);
    w->b = lr_eval_mean(x->b, x->n);
    w->policy = c->policy;
    w->budget = c->label;
}

static int weigh_pair(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode, uint32_t a,
                      uint32_t b, struct worst *w)
{
    struct pairs x;
    struct lr_eval_pair p;
    int rc = collect(g, job, mode, a, b, &x);
    if (!rc && x.n) {
        rc = lr_eval_paired(x.a, x.b, x.n, 1, &p);
        if (!rc)
            keep_worst(w, &p, &x, &g->plan->cell[a]);
    }
    drop(&x);
    return rc;
}

static void judge(struct eval_control *c, const struct worst *w, const char *a, const char *b)
{
    if (!w->n) {
        say(c, "not run: it needs %s and %s", a, b);
        return;
    }
    c->verdict = w->p * (double)w->n < 0.01 ? EVAL_FAIL : EVAL_PASS;
    say(c, "%s %.3f, %s %.3f at %s: the worst of %zu, p %.2g", w->policy, w->a, b, w->b, w->budget,
        w->n, w->p);
}

/* ln p of the text: random must not be better than streaming. */
static int random_below_streaming(const struct eval_grid *g, struct eval_control *c)
{
    uint32_t job = find_job(g, EVAL_PERPLEXITY, LR_EVAL_TASKS);
    struct worst w = {0};
    c->law = "perplexity: random is not better than streaming";
    for (uint32_t i = 0; job != UINT32_MAX && i < g->plan->n_cell; i++) {
        uint32_t other = twin(g, "random", &g->plan->cell[i]);
        if (strcmp(g->plan->cell[i].policy, "streaming-llm") == 0 && !g->plan->cell[i].control &&
            other != UINT32_MAX)
            LR_TRY(weigh_pair(g, job, LR_EVAL_AGNOSTIC, i, other, &w)); /* nll: more is worse */
    }
    judge(c, &w, "perplexity of streaming", "random");
    return 0;
}

static int whole_is_full(const struct eval_grid *g, struct eval_control *c)
{
    size_t n = 0, same = 0;
    const char *not_same = "";
    c->law = "a budget of 100 % is the full cache, bit for bit";
    for (uint32_t j = 0; j < g->plan->n_job; j++)
        for (uint32_t k = 0; k < g->plan->n_cell; k++)
            for (int m = 0; m < LR_EVAL_MODES; m++)
                for (uint32_t i = 0;
                     g->plan->cell[k].kind == EVAL_WHOLE && i < g->plan->job[j].samples; i++) {
                    const struct eval_value *v = lr_eval_grid_at(g, j, (enum lr_eval_mode)m, k, i);
                    n += v->have;
                    same += v->have && v->same > 0;
                    not_same = v->have && !(v->same > 0) ? g->plan->cell[k].policy : not_same;
                }
    if (!n) {
        say(c, "not run: it needs a policy that evicts, and single or multi-key");
        return 0;
    }
    c->verdict = same == n ? EVAL_PASS : EVAL_FAIL;
    say(c, "%zu of %zu comparisons of logits are equal%s%s", same, n,
        same == n ? "" : "; not those of ", same == n ? "" : not_same);
    return 0;
}

/* Values are drawn freely: who has lost a pair's rows can only guess, 1 in 120. */
static int lost_is_lost(const struct eval_grid *g, struct eval_control *c)
{
    static const enum lr_eval_task pairs[] = {LR_EVAL_SINGLE, LR_EVAL_MULTI_KEY};
    double n = 0, right = 0;
    c->law = "agnostic: answers whose rows are gone are not known";
    for (size_t t = 0; t < LR_COUNT(pairs); t++) {
        uint32_t job = find_job(g, EVAL_RECALL, pairs[t]);
        for (uint32_t k = 0; job != UINT32_MAX && k < g->plan->n_cell; k++)
            for (uint32_t i = 0; i < g->plan->job[job].samples; i++) {
                const struct eval_value *v = lr_eval_grid_at(g, job, LR_EVAL_AGNOSTIC, k, i);
                if (v->have && v->alive == 0) {
                    n++;
                    right += v->score;
                }
            }
    }
    if (n < 1) {
        say(c, "not run: no sample of single or multi-key lost its rows in every head");
        return 0;
    }
    double chance = n / LR_EVAL_WORDS, bound = chance + 3 * sqrt(chance) + 1;
    c->verdict = right <= bound ? EVAL_PASS : EVAL_FAIL;
    say(c, "%.0f of %.0f were right; by chance %.1f, at most %.1f", right, n, chance, bound);
    return 0;
}

static int aware_snapkv(const struct eval_grid *g, struct eval_control *c)
{
    uint32_t job = find_job(g, EVAL_RECALL, LR_EVAL_SINGLE), cell = UINT32_MAX;
    c->law = "aware: snapkv at 12.5 % has 0.9 of the full cache";
    for (uint32_t k = 0; k < g->plan->n_cell; k++)
        if (strcmp(g->plan->cell[k].policy, "snapkv") == 0 &&
            strcmp(g->plan->cell[k].label, "12.5%") == 0)
            cell = k;
    struct eval_sum a, b;
    int rc = 0;
    if (job == UINT32_MAX || cell == UINT32_MAX ||
        !lr_eval_sum(g, job, LR_EVAL_AWARE, cell, &a, &rc) ||
        !lr_eval_sum(g, job, LR_EVAL_AWARE, 0, &b, &rc)) {
        say(c, "not run: it needs single, mode aware, and snapkv at 12.5%%");
        return rc;
    }
    if (b.value.mean < LR_EVAL_HEADROOM) {
        say(c, "the full cache has %.2f: this model does not do the task", b.value.mean);
        return 0;
    }
    if (a.rows < 64) { /* the window alone takes 32 */
        say(c, "%.0f rows are too few to choose any: take a longer context", a.rows);
        return 0;
    }
    c->verdict = a.value.mean >= 0.9 * b.value.mean ? EVAL_PASS : EVAL_FAIL;
    say(c, "%.3f of %.3f", a.value.mean, b.value.mean);
    return 0;
}

static int recent_is_kept(const struct eval_grid *g, struct eval_control *c)
{
    uint32_t job = find_job(g, EVAL_RECALL, LR_EVAL_RECENT);
    struct eval_sum full, s;
    int rc = 0;
    c->law = "a pair in the recent window: streaming is the full cache";
    if (job == UINT32_MAX || !lr_eval_sum(g, job, LR_EVAL_AGNOSTIC, 0, &full, &rc)) {
        say(c, "not run: it needs single");
        return rc;
    }
    if (full.value.mean < LR_EVAL_HEADROOM) {
        say(c, "the full cache has %.2f: this model does not do the task", full.value.mean);
        return 0;
    }
    double worst = 0;
    size_t n = 0;
    bool broken = false;
    for (uint32_t k = 1; k < g->plan->n_cell; k++)
        if (lr_eval_sum(g, job, LR_EVAL_AGNOSTIC, k, &s, &rc)) {
            double gap = full.value.mean - s.value.mean;
            worst = n++ && worst > gap ? worst : gap;
            broken |=
                gap > 0.1 && s.pair.losses > 2; /* one or two may be the rest of the context's */
        }
    if (n)
        c->verdict = broken ? EVAL_FAIL : EVAL_PASS;
    say(c, n ? "at most %.3f below, at %zu budgets" : "not run: it needs streaming-llm", worst, n);
    return rc;
}

static int oracle_is_best(const struct eval_grid *g, struct eval_control *c)
{
    struct worst w = {0};
    c->law = "nobody beats the oracle at equal rows";
    for (uint32_t j = 0; j < g->plan->n_job; j++) {
        if (g->plan->job[j].kind != EVAL_RECALL || g->plan->job[j].control)
            continue;
        for (uint32_t k = 0; k < g->plan->n_cell; k++) {
            const struct eval_cell *cell = &g->plan->cell[k];
            uint32_t best = twin(g, "oracle", cell);
            if (cell->kind != EVAL_STACK || cell->budget.kind == LR_POLICY_BUDGET_NONE ||
                best == UINT32_MAX || best == k)
                continue;
            LR_TRY(weigh_pair(g, j, LR_EVAL_AGNOSTIC, k, best, &w));
        }
    }
    judge(c, &w, "a policy", "oracle");
    return 0;
}

static int shuffled_is_random(const struct eval_grid *g, struct eval_control *c)
{
    struct worst w = {0};
    c->law = "snapkv with shuffled scores is no better than random rows";
    for (uint32_t j = 0; j < g->plan->n_job; j++)
        for (uint32_t k = 0; k < g->plan->n_cell; k++) {
            uint32_t other = twin(g, "dealt", &g->plan->cell[k]);
            if (g->plan->cell[k].kind == EVAL_SHUFFLED && other != UINT32_MAX)
                LR_TRY(weigh_pair(g, j, LR_EVAL_AGNOSTIC, k, other, &w));
        }
    judge(c, &w, "snapkv, single or multi-key", "random rows");
    return 0;
}

static int below(const struct eval_grid *g, struct eval_control *c, uint32_t job, uint32_t cell)
{
    struct eval_sum s;
    int rc = 0;
    if (job == UINT32_MAX || cell == UINT32_MAX ||
        !lr_eval_sum(g, job, LR_EVAL_AGNOSTIC, cell, &s, &rc)) {
        say(c, "not run: it needs single");
        return rc;
    }
    double bound = 0.05 + 1.0 / (double)s.value.n; /* one lucky guess is no leak */
    c->verdict = s.value.mean < bound ? EVAL_PASS : EVAL_FAIL;
    say(c, "%.3f of %zu", s.value.mean, s.value.n);
    return 0;
}

static int empty_knows_nothing(const struct eval_grid *g, struct eval_control *c)
{
    uint32_t cell = UINT32_MAX;
    c->law = "an empty cache knows nothing";
    for (uint32_t k = 0; k < g->plan->n_cell; k++)
        cell = g->plan->cell[k].kind == EVAL_EMPTY ? k : cell;
    return below(g, c, find_job(g, EVAL_RECALL, LR_EVAL_SINGLE), cell);
}

static int absent_is_unknown(const struct eval_grid *g, struct eval_control *c)
{
    c->law = "a key that is not there has no answer";
    return below(g, c, find_job(g, EVAL_RECALL, LR_EVAL_ABSENT), 0);
}

int lr_eval_controls(const struct eval_grid *g, struct eval_control out[LR_EVAL_CONTROLS])
{
    static int (*const all[LR_EVAL_CONTROLS])(const struct eval_grid *, struct eval_control *) = {
        whole_is_full,      lost_is_lost,   empty_knows_nothing,
        absent_is_unknown,  recent_is_kept, oracle_is_best,
        shuffled_is_random, aware_snapkv,   random_below_streaming,
    };
    for (size_t i = 0; i < LR_EVAL_CONTROLS; i++) {
        out[i] = (struct eval_control){.verdict = EVAL_SKIP};
        LR_TRY(all[i](g, &out[i]));
    }
    return 0;
}
