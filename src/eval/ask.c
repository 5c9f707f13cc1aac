/* SPDX-License-Identifier: Apache-2.0
 * eval/ask.c - sequences at the end of a prompt, and one of them through the questions of a sample.
 *
 *   agnostic   [BOS body] compress | question > reply | right answer, next question > reply | ..
 *   aware      [BOS body question] compress | last token again > reply | ..
 *
 * The base is fed once; watchers on it see what each policy wants to see, and each cell is a fork
 * that adopts a watcher with its budget. Cells whose rows are stored in another codec cannot share:
 * they feed the prompt themselves.
 *
 * Why the last token again: the logits of a prompt's last token come out of the same step that the
 * policy watches, before any row was dropped. Taken as they are, the first word of every answer
 * would be the full cache's, whatever the policy keeps. So the last token is dropped from the fork
 * and fed once more, over what was kept.
 *
 * After compression nothing is evicted (the phase is CHUNK), so that what is measured is what was
 * kept of the context, the same for a question of 4 tokens and one of 40. With opts->hold the
 * question is a prompt and the reply is decoded, as when served, and budgets hold throughout.
 * Policies that choose what to read (select) do so while decoding only: with them replies are
 * decoded.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdio.h>

#define REPLY_MAX 2048u /* tokens */

uint64_t lr_eval_seed(const struct eval_run *r, uint32_t job, uint32_t sample, uint32_t stack)
{
    uint64_t all[4] = {r->opts->seed, job, sample, stack};
    return lr_hash64(lr_str(all, sizeof all), 1);
}

/* ---- sequences ---- */

static bool any_missing(const struct eval_run *r, uint32_t job, enum lr_eval_mode mode,
                        uint32_t sample, uint32_t stack)
{
    for (uint32_t c = 0; c < r->plan->n_cell; c++) {
        const struct eval_cell *cell = &r->plan->cell[c];
        bool of = cell->kind != EVAL_FULL && cell->kind != EVAL_EMPTY && cell->stack == stack &&
                  !cell->alone;
        if (of && lr_eval_wanted(r->plan, job, mode, c, sample) &&
            !lr_eval_grid_at(&r->grid, job, mode, c, sample)->have)
            return true;
    }
    return false;
}

static int watch_all(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample,
                     struct lr_engine_seq *s)
{
    for (uint32_t i = 0; i < r->plan->n_stack; i++) {
        const struct lr_policy_stack *stack = &r->plan->stack[i];
        r->watcher[i] = UINT32_MAX;
        if (stack->codec || !any_missing(r, job, mode, sample, i))
            continue;
        const struct lr_engine_policy p = {.stack = stack, .seed = lr_eval_seed(r, job, sample, i)};
        LR_TRY(lr_engine_seq_watch(s, &p, &r->watcher[i], r->err));
    }
    return 0;
}

int lr_eval_base(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample,
                 const uint32_t *prompt, uint32_t n, struct lr_engine_seq **out)
{
    struct lr_engine_seq *s;
    LR_TRY(lr_engine_seq_open(&s, r->engine, &(struct lr_engine_seq_opts){0}, r->err));
    int rc = watch_all(r, job, mode, sample, s);
    rc = rc ? rc : lr_engine_feed(s, prompt, n, NULL, NULL, r->err);
    if (rc) {
        lr_engine_seq_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* Every row of what was fed, but for BOS's. */
static int drop_all(const struct eval_run *r, struct lr_engine_seq *s)
{
    const struct lr_engine_shape *m = lr_engine_model_shape(r->model);
    const uint32_t first = 0;
    for (uint32_t l = 0; l < m->n_layer; l++)
        for (uint32_t h = 0; h < m->n_kv; h++)
            LR_TRY(lr_engine_rows_keep(s, l, h, &first, 1));
    return 0;
}

static int alone(struct eval_run *r, const struct eval_cell *c, const uint32_t *prompt, uint32_t n,
                 uint64_t seed, struct lr_engine_seq **out)
{
    struct lr_engine_seq *s;
    const struct lr_engine_seq_opts o = {
        .policy = {.stack = &r->plan->stack[c->stack], .budget = c->budget, .seed = seed}};
    LR_TRY(lr_engine_seq_open(&s, r->engine, &o, r->err));
    int rc = lr_engine_feed(s, prompt, n, NULL, NULL, r->err);
    if (rc) {
        lr_engine_seq_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* snapkv with scores that mean nothing: its stack with another edit, on a sequence of its own. */
static int shuffled(struct eval_run *r, const struct eval_cell *c, const uint32_t *prompt,
                    uint32_t n, uint64_t seed, struct lr_engine_seq **out)
{
    struct lr_policy_stack stack;
    struct lr_engine_seq *s;
    lr_policy_stack_copy(&stack, &r->plan->stack[c->stack]);
    lr_eval_shuffle(&stack);
    const struct lr_engine_seq_opts o = {
        .policy = {.stack = &stack, .budget = c->budget, .seed = seed}};
    LR_TRY(lr_engine_seq_open(&s, r->engine, &o, r->err));
    int rc = lr_engine_feed(s, prompt, n, NULL, NULL, r->err);
    if (rc) {
        lr_engine_seq_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int lr_eval_fork(struct eval_run *r, const struct eval_cell *c, struct lr_engine_seq *base,
                 const uint32_t *prompt, uint32_t n, uint64_t seed, struct lr_engine_seq **out)
{
    struct lr_engine_seq *s;
    int rc = 0;
    if (c->alone)
        return alone(r, c, prompt, n, seed, out);
    if (c->kind == EVAL_SHUFFLED)
        return shuffled(r, c, prompt, n, seed, out);
    LR_TRY(lr_engine_seq_fork(&s, base, 0, r->err));
    if (c->kind == EVAL_EMPTY)
        rc = drop_all(r, s);
    else if (c->kind != EVAL_FULL)
        rc = lr_engine_seq_adopt(s, base, r->watcher[c->stack], &c->budget, r->err);
    if (rc) {
        lr_engine_seq_close(s);
        return lr_err_set(r->err, rc, c->policy, "%s", lr_strerror(rc));
    }
    *out = s;
    return 0;
}

void lr_eval_weigh(const struct eval_run *r, const struct lr_engine_seq *s, struct eval_value *v)
{
    const struct lr_engine_shape *m = lr_engine_model_shape(r->model);
    struct lr_engine_seq_bytes b;
    lr_engine_seq_bytes(s, &b);
    v->rows = (double)b.rows / (double)((size_t)m->n_layer * m->n_kv);
    v->bytes = (double)(b.unique + b.shared + b.tables);
}

/* ---- what is left ---- */

/* Marks the positions below n that some table still has. */
static int mark_alive(const struct eval_run *r, const struct lr_engine_seq *s, uint8_t *mark,
                      uint32_t n)
{
    const struct lr_engine_shape *m = lr_engine_model_shape(r->model);
    for (uint32_t l = 0; l < m->n_layer; l++)
        for (uint32_t h = 0; h < m->n_kv; h++)
            for (size_t i = 0, rows = lr_engine_rows(s, l, h); i < rows; i++) {
                struct lr_engine_row row;
                LR_TRY(lr_engine_rows_get(s, l, h, i, 1, &row));
                if (row.pos >= 0 && (uint32_t)row.pos < n && row.bias > -INFINITY)
                    mark[row.pos] = 1;
            }
    return 0;
}

/* Share of the questions whose answer's rows some table still has, each of them; NaN: not one
 * place. */
static int count_alive(const struct eval_run *r, const struct lr_engine_seq *s,
                       const struct lr_eval_sample *sample, double *out)
{
    uint32_t alive = 0, asked = 0;
    uint8_t *mark = lr_calloc(sample->n, 1);
    LR_FAIL_IF(!mark, LR_ENOMEM);
    int rc = mark_alive(r, s, mark, sample->n);
    for (uint32_t q = 0; q < sample->n_turn; q++) {
        const struct lr_eval_turn *t = &sample->turn[q];
        bool all = t->from < t->to;
        asked += all;
        for (uint32_t i = t->from; i < t->to; i++)
            all &= mark[i] != 0;
        alive += all;
    }
    lr_free(mark);
    *out = asked ? (double)alive / asked : NAN;
    return rc;
}

/* ---- questions and replies ---- */

static bool selects(const struct eval_run *r, const struct eval_cell *c)
{
    return c->kind == EVAL_STACK && r->plan->stack[c->stack].select >= 0;
}

struct reply {
    struct lr_buf text;
    struct lr_nn_decoder decoder;
    uint32_t most;  /* tokens */
    uint32_t words; /* that the answer has; 0: read to the end */
};

static bool complete(const struct reply *p)
{
    bool over = false;
    uint32_t done = lr_eval_words_done(lr_buf_str(&p->text), &over);
    return p->words && (done >= p->words || over);
}

/* Greedy, from r->logits on; the tokens stay in the sequence. */
static int generate(struct eval_run *r, struct lr_engine_seq *s, enum lr_policy_phase phase,
                    struct reply *p)
{
    for (uint32_t i = 0; i < p->most; i++) {
        uint32_t next = lr_eval_best(r->logits, r->vocab);
        if (lr_nn_tok_ends(r->tok, next))
            return 0;
        LR_TRY(lr_nn_decoder_add(&p->decoder, next, &p->text));
        if (complete(p) || i + 1 == p->most)
            return 0;
        LR_TRY(lr_engine_feed_as(s, &next, 1, phase, r->logits, NULL, r->err));
    }
    return 0;
}

static int ask_turn(struct eval_run *r, struct lr_engine_seq *s, enum lr_eval_task task,
                    const struct lr_eval_sample *sample, uint32_t q, bool fed, double *score)
{
    const struct lr_eval_turn *t = &sample->turn[q];
    enum lr_policy_phase ask = r->opts->hold ? LR_POLICY_PROMPT_END : LR_POLICY_CHUNK;
    enum lr_policy_phase say = r->opts->hold || r->decode ? LR_POLICY_TOKEN : LR_POLICY_CHUNK;
    uint32_t len = lr_engine_seq_len(s);
    if (!fed)
        LR_TRY(
            lr_engine_feed_as(s, sample->id + len, t->answer - len, ask, r->logits, NULL, r->err));
    struct reply p = {.words = t->n_words,
                      .most = sample->most ? sample->most : t->n_words * 8 + 8};
    p.most = p.most < REPLY_MAX ? p.most : REPLY_MAX;
    lr_buf_init(&p.text, LR_KIB(64));
    lr_nn_decoder_init(&p.decoder, r->tok, false, false);
    int rc = generate(r, s, say, &p);
    *score = lr_eval_score(task, sample, t, lr_buf_str(&p.text));
    lr_buf_free(&p.text);
    LR_TRY(rc);
    return q + 1 < sample->n_turn ? lr_engine_seq_truncate(s, t->answer) : 0;
}

int lr_eval_answer(struct eval_run *r, struct lr_engine_seq *s, enum lr_eval_task task,
                   const struct lr_eval_sample *sample, bool first, struct eval_value *v)
{
    double sum = 0;
    for (uint32_t q = 0; q < LR_EVAL_TURNS_MAX; q++)
        v->turn[q] = NAN;
    for (uint32_t q = 0; q < sample->n_turn; q++) {
        int rc = ask_turn(r, s, task, sample, q, first && q == 0, &v->turn[q]);
        LR_FAIL_IF(rc, lr_err_set(r->err, rc, lr_eval_task_name(task), "%s", lr_strerror(rc)));
        sum += v->turn[q];
    }
    v->score = sum / sample->n_turn;
    if (sample->n_turn == 1)
        v->turn[0] = NAN; /* the score says it */
    return 0;
}

/* ---- one sample, all cells ---- */

int lr_eval_foresee(struct eval_run *r, struct lr_engine_seq *base, const uint32_t *future,
                    uint32_t n)
{
    for (uint32_t i = 0; n && i < r->plan->n_stack; i++)
        if (r->watcher[i] != UINT32_MAX && (r->plan->stack[i].flags & LR_POLICY_EVALUATION))
            LR_TRY(lr_engine_seq_foresee(base, r->watcher[i], future, n, r->err));
    return 0;
}

static int run_cell(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample,
                    uint32_t cell, struct lr_engine_seq *base, const struct lr_eval_sample *s)
{
    const struct eval_cell *c = &r->plan->cell[cell];
    uint32_t n = mode == LR_EVAL_AWARE ? s->turn[0].answer : s->body;
    struct lr_engine_seq *fork;
    struct eval_value v = {.nll = NAN,
                           .kl = NAN,
                           .kl99 = NAN,
                           .top1 = NAN,
                           .same = NAN,
                           .ttft_ms = NAN,
                           .tap_ms = NAN,
                           .policy_ms = NAN,
                           .tap_bytes = NAN,
                           .peak = NAN,
                           .decode_tps = NAN};
    LR_TRY(lr_eval_fork(r, c, base, s->id, n, lr_eval_seed(r, job, sample, c->stack), &fork));
    lr_eval_weigh(r, fork, &v);
    r->decode = selects(r, c);
    int rc = count_alive(r, fork, s, &v.alive);
    /* The last token of the question, or the whole question, over what was kept. */
    rc = rc ? rc : mode == LR_EVAL_AWARE ? lr_engine_seq_truncate(fork, n - 1) : 0;
    uint32_t at = mode == LR_EVAL_AWARE ? n - 1 : n;
    enum lr_policy_phase ask = r->opts->hold ? LR_POLICY_PROMPT_END : LR_POLICY_CHUNK;
    rc = rc ? rc
            : lr_engine_feed_as(fork, s->id + at, s->turn[0].answer - at, ask, r->logits, NULL,
                                r->err);
    if (!rc && c->kind == EVAL_FULL)
        memcpy(r->full_logits, r->logits, r->vocab * sizeof *r->logits);
    if (!rc && c->kind == EVAL_WHOLE)
        v.same = memcmp(r->full_logits, r->logits, r->vocab * sizeof *r->logits) == 0;
    rc = rc ? rc : lr_eval_answer(r, fork, r->plan->job[job].task, s, true, &v);
    lr_engine_seq_close(fork);
    LR_FAIL_IF(rc, lr_err_set(r->err, rc, c->policy, "%s", lr_strerror(rc)));
    bool have = lr_eval_grid_at(&r->grid, job, mode, cell, sample)->have;
    return have ? 0 : lr_eval_grid_put(&r->grid, job, mode, cell, sample, &v, r->err);
}

static int run_cells(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample,
                     const struct lr_eval_sample *s)
{
    struct lr_engine_seq *base;
    uint32_t n = mode == LR_EVAL_AWARE ? s->turn[0].answer : s->body;
    LR_TRY(lr_eval_base(r, job, mode, sample, s->id, n, &base));
    uint32_t seen = mode == LR_EVAL_AWARE ? n - 1 : n; /* the last token comes again */
    int rc = lr_eval_foresee(r, base, s->id + seen, s->n - seen);
    for (uint32_t c = 0; !rc && c < r->plan->n_cell; c++) {
        bool due = r->plan->cell[c].kind == EVAL_FULL || /* always: its logits are compared with */
                   !lr_eval_grid_at(&r->grid, job, mode, c, sample)->have;
        if (due && lr_eval_wanted(r->plan, job, mode, c, sample))
            rc = run_cell(r, job, mode, sample, c, base, s);
    }
    lr_engine_seq_close(base);
    return rc;
}

static bool all_there(const struct eval_run *r, uint32_t job, enum lr_eval_mode mode,
                      uint32_t sample)
{
    for (uint32_t c = 0; c < r->plan->n_cell; c++)
        if (lr_eval_wanted(r->plan, job, mode, c, sample) &&
            !lr_eval_grid_at(&r->grid, job, mode, c, sample)->have)
            return false;
    return true;
}

int lr_eval_recall(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample)
{
    const struct eval_job *j = &r->plan->job[job];
    struct lr_eval_spec spec = {.task = j->task,
                                .tokens = j->tokens,
                                .seed = r->opts->seed,
                                .words = &r->words,
                                .text = lr_buf_str(&r->plan->text)};
    char where[32];
    if (all_there(r, job, mode, sample))
        return 0;
    if (j->task == LR_EVAL_OWN) {
        snprintf(where, sizeof where, "line %u", r->plan->own_at[sample]);
        spec.line = r->plan->own_line[sample];
        spec.where = where;
    }
    struct lr_arena a;
    struct lr_eval_sample s;
    lr_arena_init(&a, LR_MIB(512));
    int rc = lr_eval_sample(&spec, &r->coder, sample, &a, &s, r->err);
    rc = rc ? rc : run_cells(r, job, mode, sample, &s);
    lr_arena_free(&a);
    return rc;
}
