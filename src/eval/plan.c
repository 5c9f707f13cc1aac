/* SPDX-License-Identifier: Apache-2.0
 * eval/plan.c - what an evaluation will run, from lists of text, checked before any work.
 *
 *   jobs    task at a length: single@1024 ..           recent and absent are added: controls
 *   cells   full | stack x budget ..         stack at 100 %, empty, shuffled, dealt: controls
 *
 * Lists are separated by commas, and so are the parameters of a stack ("snapkv:window=16,pool=7"):
 * a piece that begins "name=" belongs to the stack before it.
 */
#include "eval/eval_int.h"

#include <stdio.h>

static const char usual_policies[] =
    "random,streaming-llm,h2o,snapkv,tova,knorm,keydiff,oracle,q8,saw-int4,"
    "snapkv+saw-int4";
static const char usual_budgets[] = "50%,25%,12.5%,6.25%";
static const char usual_tasks[] =
    "single,multi-key,multi-query,variable,copy,turns,needle,perplexity,sliding,system";

const char *lr_eval_mode_name(enum lr_eval_mode m)
{
    return m == LR_EVAL_AWARE ? "aware" : "agnostic";
}

/* ---- policies ---- */

/* The next stack of a list: up to a comma that no parameter follows. */
static struct lr_str next_stack(struct lr_str *rest)
{
    struct lr_str all = *rest, piece = lr_str_cut(rest, ',');
    while (rest->p) {
        struct lr_str look = *rest, next = lr_str_cut(&look, ',');
        size_t i = 0;
        while (i < next.n && next.p[i] != '=' && next.p[i] != ':' && next.p[i] != '+')
            i++;
        if (i == next.n || next.p[i] != '=')
            break;
        *rest = look;
        piece = lr_str(all.p, (size_t)(next.p + next.n - all.p));
    }
    return lr_str_trim(piece);
}

static int add_stack(struct eval_plan *p, struct lr_str text, struct lr_err *err)
{
    struct lr_policy_stack *s = &p->stack[p->n_stack];
    if (p->n_stack == LR_EVAL_STACKS_MAX)
        return lr_err_set(err, LR_EOVER, "--policies", "more than %u", LR_EVAL_STACKS_MAX);
    LR_TRY(lr_policy_stack_parse(text, s, err));
    for (uint32_t i = 0; i < p->n_stack; i++)
        if (strcmp(p->stack[i].text, s->text) == 0)
            return 0;
    p->n_stack++;
    return 0;
}

static int add_stacks(struct eval_plan *p, const char *list, struct lr_err *err)
{
    for (struct lr_str rest = lr_strz(list); rest.p;) {
        struct lr_str text = next_stack(&rest);
        if (text.n)
            LR_TRY(add_stack(p, text, err));
    }
    return 0;
}

/* ---- cells ---- */

static int add_cell(struct eval_plan *p, const struct eval_cell *c, struct lr_err *err)
{
    if (p->n_cell == LR_EVAL_CELLS_MAX)
        return lr_err_set(err, LR_EOVER, "--budgets", "more than %u pairs of policy and budget",
                          LR_EVAL_CELLS_MAX);
    p->cell[p->n_cell++] = *c;
    return 0;
}

static bool is_full(const struct lr_policy_stack *s)
{
    return !lr_policy_stack_evicts(s) && s->select < 0 && !s->codec;
}

static int add_budgets(struct eval_plan *p, struct eval_cell c, const char *budgets,
                       struct lr_err *err)
{
    uint32_t n = 0;
    for (struct lr_str rest = lr_strz(budgets); rest.p;) {
        struct lr_str b = lr_str_trim(lr_str_cut(&rest, ','));
        if (!b.n)
            continue;
        if (b.n >= sizeof c.label || ++n > LR_EVAL_BUDGETS_MAX)
            return lr_err_set(err, LR_EOVER, "--budgets", "at most %u, of at most %zu letters",
                              LR_EVAL_BUDGETS_MAX, sizeof c.label - 1);
        LR_TRY(lr_policy_budget_parse(b, &c.budget, err));
        if (c.budget.kind == LR_POLICY_BUDGET_NONE)
            return lr_err_set(err, LR_EINVAL, "--budgets", "'none' is what full is for");
        memcpy(c.label, b.p, b.n);
        c.label[b.n] = 0;
        LR_TRY(add_cell(p, &c, err));
    }
    return n ? 0 : lr_err_set(err, LR_EINVAL, "--budgets", "an empty list");
}

/* What is not told in the tables: snapkv with shuffled scores, and random rows beside the same
 * window. */
static int add_shuffled(struct eval_plan *p, uint32_t snapkv, const char *budgets,
                        struct lr_err *err)
{
    struct eval_cell c = {
        .kind = EVAL_SHUFFLED, .stack = snapkv, .policy = "shuffled", .control = true};
    LR_TRY(add_budgets(p, c, budgets, err));
    if (p->n_stack == LR_EVAL_STACKS_MAX)
        return lr_err_set(err, LR_EOVER, "--policies", "more than %u", LR_EVAL_STACKS_MAX);
    struct lr_policy_stack *s = &p->stack[p->n_stack];
    LR_TRY(lr_policy_stack_parse(LR_STR("random:recent=32"), s, err)); /* snapkv's window */
    c.kind = EVAL_DEALT;
    c.stack = p->n_stack++;
    c.policy = "dealt";
    return add_budgets(p, c, budgets, err);
}

static int add_stack_cells(struct eval_plan *p, uint32_t i, const char *budgets, struct lr_err *err)
{
    const struct lr_policy_stack *s = &p->stack[i];
    struct eval_cell c = {
        .kind = EVAL_STACK, .stack = i, .policy = s->text, .alone = s->codec != NULL};
    if (is_full(s))
        return 0;
    if (!lr_policy_stack_evicts(s))
        return add_cell(p, &c, err);
    if ((s->flags & LR_POLICY_EVALUATION) && c.alone)
        return lr_err_set(err, LR_EUNSUPPORTED, s->text,
                          "what is told the future keeps plain rows");
    LR_TRY(add_budgets(p, c, budgets, err));
    if (c.alone)
        return 0;
    c.kind = EVAL_WHOLE;
    c.budget = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_FRACTION, .fraction = 1};
    c.control = true;
    snprintf(c.label, sizeof c.label, "100%%");
    return add_cell(p, &c, err);
}

static int add_cells(struct eval_plan *p, struct lr_err *err)
{
    const char *budgets = p->opts->budgets ? p->opts->budgets : usual_budgets;
    uint32_t n = p->n_stack;
    LR_TRY(add_cell(p, &(struct eval_cell){.kind = EVAL_FULL, .policy = "full"}, err));
    for (uint32_t i = 0; i < n; i++)
        LR_TRY(add_stack_cells(p, i, budgets, err));
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(p->stack[i].text, "snapkv") == 0)
            LR_TRY(add_shuffled(p, i, budgets, err));
    return add_cell(p, &(struct eval_cell){.kind = EVAL_EMPTY, .policy = "empty", .control = true},
                    err);
}

/* ---- jobs ---- */

static int add_job(struct eval_plan *p, const struct eval_job *j, const char *name,
                   struct lr_err *err)
{
    if (p->n_job == LR_EVAL_JOBS_MAX)
        return lr_err_set(err, LR_EOVER, "--tasks", "more than %u", LR_EVAL_JOBS_MAX);
    for (uint32_t i = 0; i < p->n_job; i++)
        if (strcmp(p->job[i].name, name) == 0)
            return 0;
    struct eval_job *to = &p->job[p->n_job++];
    *to = *j;
    snprintf(to->name, sizeof to->name, "%s", name);
    return 0;
}

static int read_own(struct eval_plan *p, struct lr_str path, struct lr_err *err)
{
    char z[4096];
    if (p->own_path || path.n >= sizeof z)
        return lr_err_set(err, LR_EINVAL, "--tasks", "one file, and its path below %zu bytes",
                          sizeof z);
    memcpy(z, path.p, path.n);
    z[path.n] = 0;
    int rc = lr_io_read_file(z, &p->own);
    if (rc)
        return lr_err_set(err, rc, "--tasks", "%s: %s", z, lr_strerror(rc));
    size_t most = 1;
    for (size_t i = 0; i < p->own.len; i++)
        most += p->own.p[i] == '\n';
    p->own_line = lr_calloc(most, sizeof *p->own_line);
    p->own_at = lr_calloc(most, sizeof *p->own_at);
    p->own_path = "tasks";
    if (!p->own_line || !p->own_at)
        return lr_err_set(err, LR_ENOMEM, "--tasks", "out of memory");
    uint32_t number = 0;
    for (struct lr_str rest = lr_buf_str(&p->own); rest.p;) {
        struct lr_str line = lr_str_trim(lr_str_cut(&rest, '\n'));
        number++;
        if (line.n) {
            p->own_line[p->n_own] = line;
            p->own_at[p->n_own++] = number;
        }
    }
    return p->n_own ? 0 : lr_err_set(err, LR_EINVAL, "--tasks", "%s has no task", z);
}

static int add_one(struct eval_plan *p, struct lr_str name, struct lr_err *err)
{
    struct eval_job j = {.tokens = p->context, .samples = p->samples};
    if (name.n > 6 && lr_str_is(lr_str(name.p + name.n - 6, 6), ".jsonl")) {
        LR_TRY(read_own(p, name, err));
        j.task = LR_EVAL_OWN;
        j.samples = p->n_own;
        return add_job(p, &j, "own", err);
    }
    if (lr_str_is(name, "perplexity")) {
        j.kind = EVAL_PERPLEXITY;
        j.samples = p->samples < 8 ? p->samples : 8; /* each gives half a context of predictions */
        return add_job(p, &j, "perplexity", err);
    }
    if (lr_str_is(name, "sliding")) {
        j.kind = EVAL_PERPLEXITY;
        j.sliding = true;
        j.samples = p->samples < 2 ? p->samples : 2; /* decoding is slow */
        return add_job(p, &j, "sliding", err);
    }
    if (lr_str_is(name, "system")) {
        j.kind = EVAL_SYSTEM;
        j.samples = 3;
        for (j.tokens = p->context; j.tokens >= 128 && j.tokens * 8 > p->context; j.tokens /= 2) {
            char at[24];
            snprintf(at, sizeof at, "system@%u", j.tokens);
            LR_TRY(add_job(p, &j, at, err));
        }
        return 0;
    }
    if (lr_eval_task_find(name, &j.task) || j.task == LR_EVAL_OWN)
        return lr_err_set(err, LR_ENOENT, "--tasks",
                          "no task '%.*s' (single multi-key multi-query variable copy turns needle "
                          "perplexity sliding system, or a file .jsonl)",
                          LR_FMT(name));
    j.control = j.task == LR_EVAL_RECENT || j.task == LR_EVAL_ABSENT;
    return add_job(p, &j, lr_eval_task_name(j.task), err);
}

static int add_jobs(struct eval_plan *p, struct lr_err *err)
{
    for (struct lr_str rest = lr_strz(p->opts->tasks ? p->opts->tasks : usual_tasks); rest.p;) {
        struct lr_str name = lr_str_trim(lr_str_cut(&rest, ','));
        if (name.n)
            LR_TRY(add_one(p, name, err));
    }
    if (!p->n_job)
        return lr_err_set(err, LR_EINVAL, "--tasks", "an empty list");
    bool single = false;
    for (uint32_t i = 0; i < p->n_job; i++)
        single |= p->job[i].kind == EVAL_RECALL && p->job[i].task == LR_EVAL_SINGLE;
    if (single) {
        LR_TRY(add_one(p, LR_STR("recent"), err));
        LR_TRY(add_one(p, LR_STR("absent"), err));
    }
    return 0;
}

/* ---- together ---- */

static int read_modes(struct eval_plan *p, struct lr_err *err)
{
    for (struct lr_str rest = lr_strz(p->opts->modes ? p->opts->modes : "agnostic,aware");
         rest.p;) {
        struct lr_str name = lr_str_trim(lr_str_cut(&rest, ','));
        bool known = false;
        for (int m = 0; m < LR_EVAL_MODES; m++)
            if (lr_str_is(name, lr_eval_mode_name((enum lr_eval_mode)m)))
                known = p->mode[m] = true;
        if (name.n && !known)
            return lr_err_set(err, LR_EINVAL, "--modes", "no mode '%.*s' (agnostic, aware)",
                              LR_FMT(name));
    }
    return p->mode[0] || p->mode[1] ? 0 : lr_err_set(err, LR_EINVAL, "--modes", "an empty list");
}

static int read_text(struct eval_plan *p, struct lr_err *err)
{
    struct lr_buf raw;
    struct lr_str text = lr_eval_english;
    lr_buf_init(&raw, LR_NN_INPUT_MAX);
    int rc = p->opts->text ? lr_io_read_file(p->opts->text, &raw) : 0;
    if (p->opts->text)
        text = lr_buf_str(&raw);
    rc = rc ? rc : lr_utf8_check(text, NULL);
    rc = rc ? rc : lr_eval_flatten(text, &p->text);
    lr_buf_free(&raw);
    return rc ? lr_err_set(err, rc, "--text", "%s: %s", p->opts->text ? p->opts->text : "the text",
                           lr_strerror(rc))
              : 0;
}

int lr_eval_plan_make(struct eval_plan *p, const struct lr_eval_kv *o, uint32_t n_ctx,
                      struct lr_err *err)
{
    *p = (struct eval_plan){.opts = o};
    lr_buf_init(&p->own, LR_MIB(256));
    lr_buf_init(&p->text, LR_NN_INPUT_MAX);
    p->context = o->context ? o->context : n_ctx < 1024 ? n_ctx : 1024;
    p->samples = o->samples ? o->samples : 24;
    if (p->context > n_ctx || p->context < LR_EVAL_TOKENS_MIN)
        return lr_err_set(err, LR_EINVAL, "--context", "%u tokens: this model takes %u to %u",
                          p->context, LR_EVAL_TOKENS_MIN, n_ctx);
    LR_TRY(read_modes(p, err));
    LR_TRY(add_stacks(p, o->policies ? o->policies : usual_policies, err));
    LR_TRY(add_cells(p, err));
    LR_TRY(add_jobs(p, err));
    return read_text(p, err);
}

void lr_eval_plan_free(struct eval_plan *p)
{
    lr_free(p->own_line);
    lr_free(p->own_at);
    lr_buf_free(&p->own);
    lr_buf_free(&p->text);
}

/* ---- which slots ---- */

static bool middle_budget(const struct eval_plan *p, uint32_t cell)
{
    const struct eval_cell *c = &p->cell[cell];
    uint32_t first = cell, last = cell;
    while (first > 0 && p->cell[first - 1].kind == c->kind && p->cell[first - 1].stack == c->stack)
        first--;
    while (last + 1 < p->n_cell && p->cell[last + 1].kind == c->kind &&
           p->cell[last + 1].stack == c->stack)
        last++;
    return cell == (first + last) / 2;
}

static bool wanted_control(const struct eval_job *j, const struct eval_cell *c, uint32_t sample)
{
    if (j->kind != EVAL_RECALL || (j->task != LR_EVAL_SINGLE && j->task != LR_EVAL_MULTI_KEY))
        return false;
    return c->kind == EVAL_WHOLE ? sample < 2 : true;
}

bool lr_eval_wanted(const struct eval_plan *p, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                    uint32_t sample)
{
    const struct eval_job *j = &p->job[job];
    const struct eval_cell *c = &p->cell[cell];
    bool recall = j->kind == EVAL_RECALL;
    if (sample >= j->samples)
        return false;
    if (mode == LR_EVAL_AWARE && (!recall || j->control || !p->mode[LR_EVAL_AWARE]))
        return false;
    if (recall && !j->control && !p->mode[mode])
        return false;
    if (j->control) /* recent: streaming keeps it; absent: nobody can know */
        return c->kind == EVAL_FULL || (c->kind == EVAL_STACK && j->task == LR_EVAL_RECENT &&
                                        strncmp(c->policy, "streaming-llm", 13) == 0 && !c->alone);
    if (c->control)
        return wanted_control(j, c, sample) && (c->kind == EVAL_WHOLE || mode == LR_EVAL_AGNOSTIC);
    bool told = c->kind == EVAL_STACK && (p->stack[c->stack].flags & LR_POLICY_EVALUATION);
    if (recall && j->task == LR_EVAL_OWN)
        return !told; /* nobody knows the right answer's tokens */
    if (j->kind == EVAL_SYSTEM)
        return !told && middle_budget(p, cell);
    return true;
}
