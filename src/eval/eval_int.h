/* SPDX-License-Identifier: Apache-2.0
 * eval/eval_int.h - what eval's files share.
 *
 *   plan.c   lists from text: jobs (task and length) x modes x cells (policy and budget)
 *   grid.c   a slot for every (job, mode, cell, sample); results.jsonl in and out
 *   kv.c     the loop over samples: prefill once, a fork per cell          ask.c  one fork answers
 *   ppl.c    perplexity            system.c  seconds and bytes             shuffle.c  a control
 *   sum.c    slots to means and intervals, controls    table.c  as text    page.c, plot.c  as a page
 */
#ifndef LR_EVAL_EVAL_INT_H
#define LR_EVAL_EVAL_INT_H

#include "eval/eval.h"

#include <assert.h>

/* The best of n logits, the lowest id among equals. */
uint32_t lr_eval_best(const float *x, uint32_t n);

/* lr_engine_model_open; errors name the file. */
int lr_eval_open_model(struct lr_engine_model **out, const char *path, struct lr_err *err);

/* ---- plan ---- */

#define LR_EVAL_STACKS_MAX  48u
#define LR_EVAL_BUDGETS_MAX 12u
#define LR_EVAL_JOBS_MAX    16u
#define LR_EVAL_CELLS_MAX   640u
#define LR_EVAL_HEADROOM    0.9 /* of the full cache, or a task ranks nothing */

enum eval_kind { EVAL_RECALL, EVAL_PERPLEXITY, EVAL_SYSTEM };

struct eval_job {
    char name[20];
    enum eval_kind kind;
    enum lr_eval_task task; /* RECALL */
    uint32_t tokens, samples;
    bool sliding; /* PERPLEXITY: token by token, budgets held */
    bool control; /* not in the tables */
};

enum eval_cell_kind {
    EVAL_FULL, /* every row, the engine's codec: what all others are compared with. Cell 0 */
    EVAL_STACK,
    EVAL_WHOLE,    /* control: the stack with a budget of 100 % */
    EVAL_EMPTY,    /* control: no row of the context */
    EVAL_SHUFFLED, /* control: snapkv, its scores dealt out anew */
    EVAL_DEALT,    /* control: random rows beside a window like snapkv's */
};

struct eval_cell {
    enum eval_cell_kind kind;
    uint32_t stack;                 /* into eval_plan.stack; FULL, EMPTY: not used */
    struct lr_policy_budget budget; /* NONE: keeps every row */
    const char *policy;             /* canonical text of the stack */
    char label[24];                 /* of the budget, as it was given; "" */
    bool alone; /* rows in a codec of its own: no fork of the common prefill can have it */
    bool control;
};

struct eval_plan {
    const struct lr_eval_kv *opts;
    struct lr_policy_stack stack[LR_EVAL_STACKS_MAX];
    uint32_t n_stack;
    struct eval_job job[LR_EVAL_JOBS_MAX];
    uint32_t n_job;
    struct eval_cell cell[LR_EVAL_CELLS_MAX];
    uint32_t n_cell;
    bool mode[LR_EVAL_MODES];
    uint32_t context, samples;
    struct lr_buf own;       /* the file of one's own tasks */
    struct lr_str *own_line; /* its lines that are not blank; numbers of lines in own_at */
    uint32_t *own_at, n_own;
    const char *own_path;
    struct lr_buf text; /* flattened */
};
int lr_eval_plan_make(struct eval_plan *p, const struct lr_eval_kv *o, uint32_t n_ctx,
                      struct lr_err *err);
void lr_eval_plan_free(struct eval_plan *p);
const char *lr_eval_mode_name(enum lr_eval_mode m);
/* Whether the plan has this slot: controls run on little. */
bool lr_eval_wanted(const struct eval_plan *p, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                    uint32_t sample);

/* ---- slots ---- */

/* What one cell gave on one sample. Which fields mean something depends on the job. */
struct eval_value {
    bool have;
    double score, turn[LR_EVAL_TURNS_MAX]; /* RECALL: turns, NaN beyond the last */
    double alive; /* RECALL: share of the asked rows that some table still has; NaN: not known */
    double same;  /* 1: logits are those of the full cache bit for bit; 0 not; NaN: not compared */
    double nll, kl, kl99, top1; /* PERPLEXITY: nats; top1: agreement */
    double rows,
        bytes; /* a table's, on average; all of the sequence: pages, tables, policies' columns */
    double ttft_ms, tap_ms, policy_ms, tap_bytes, peak, decode_tps; /* SYSTEM */
};

struct eval_grid {
    const struct eval_plan *plan;
    struct eval_value *v;
    size_t base[LR_EVAL_JOBS_MAX]; /* first slot of a job */
    int fd;                        /* results.jsonl, or -1 */
    uint64_t end;                  /* bytes of it that are whole lines */
    size_t found;                  /* slots that were there already */
};
/* identity: what must be the same for results to be comparable, as a JSON object on one line. */
int lr_eval_grid_open(struct eval_grid *g, const struct eval_plan *p, struct lr_str identity,
                      struct lr_err *err);
void lr_eval_grid_close(struct eval_grid *g);
struct eval_value *lr_eval_grid_at(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode,
                                   uint32_t cell, uint32_t sample);
/* Takes a value in, and appends it to the file. */
int lr_eval_grid_put(struct eval_grid *g, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                     uint32_t sample, const struct eval_value *v, struct lr_err *err);

/* ---- running ---- */

struct eval_run {
    const struct lr_eval_kv *opts;
    struct eval_plan *plan;
    struct eval_grid grid;
    struct lr_engine_model *model;
    struct lr_engine *engine;
    struct lr_nn_tok *tok;
    struct lr_eval_coder coder;
    struct lr_eval_words words;
    uint32_t vocab;
    float *logits, *full_logits; /* (vocab) */
    float *tile, *full_tile;     /* (LR_EVAL_PPL_TILE, vocab), PERPLEXITY */
    bool decode;                 /* replies of the cell under way are decoded, not fed as prompts */
    uint32_t watcher[LR_EVAL_STACKS_MAX]; /* of each stack on the base; UINT32_MAX: none */
    struct lr_err *err;
};
#define LR_EVAL_PPL_TILE 64u

/* base: plain rows, watched by what the cells of a sample need, the prompt fed. fork: a sequence at
 * the end of the prompt, compressed as the cell says. */
int lr_eval_base(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample,
                 const uint32_t *prompt, uint32_t n, struct lr_engine_seq **out);
int lr_eval_fork(struct eval_run *r, const struct eval_cell *c, struct lr_engine_seq *base,
                 const uint32_t *prompt, uint32_t n, uint64_t seed, struct lr_engine_seq **out);
/* Rows and bytes of s as it stands. */
void lr_eval_weigh(const struct eval_run *r, const struct lr_engine_seq *s, struct eval_value *v);
/* One fork through all questions of a sample. first: logits of the first question's last token are
 * left in r->logits. */
int lr_eval_answer(struct eval_run *r, struct lr_engine_seq *s, enum lr_eval_task task,
                   const struct lr_eval_sample *sample, bool first, struct eval_value *v);
int lr_eval_recall(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample);
int lr_eval_perplexity(struct eval_run *r, uint32_t job, uint32_t sample);
int lr_eval_system(struct eval_run *r, uint32_t job, uint32_t sample);
/* N tokens of the text from a random sentence on, BOS first: sample number i of PERPLEXITY. *id
 * lives in a. */
int lr_eval_stretch(const struct lr_eval_spec *spec, const struct lr_eval_coder *c, uint64_t i,
                    struct lr_arena *a, const uint32_t **id, struct lr_err *err);
/* What the oracle among the watchers of base is told: n tokens that come behind the prompt. */
int lr_eval_foresee(struct eval_run *r, struct lr_engine_seq *base, const uint32_t *future,
                    uint32_t n);
uint64_t lr_eval_seed(const struct eval_run *r, uint32_t job, uint32_t sample, uint32_t stack);
/* The stack of SHUFFLED, made of a snapkv stack. */
void lr_eval_shuffle(struct lr_policy_stack *s);

/* ---- reading the slots ---- */

struct eval_sum {
    struct lr_eval_interval value;      /* of score; PERPLEXITY: of nll; SYSTEM: of ttft_ms */
    struct lr_eval_pair pair;           /* against the full cache, sample by sample */
    double rows, bytes, kl, kl99, top1; /* means; kl99: the mean of samples' 99th percentiles */
    double turn[LR_EVAL_TURNS_MAX];
    uint32_t n_turn;
};
/* false: no slot of it is filled. LR_ENOMEM is told by *rc. */
bool lr_eval_sum(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                 struct eval_sum *out, int *rc);

/* P(at least `wins` of wins + losses) for a fair coin; 0 beyond 1000. */
double lr_eval_sign_test(size_t wins, size_t losses);

enum eval_verdict { EVAL_PASS, EVAL_FAIL, EVAL_SKIP };
struct eval_control {
    const char *law;
    enum eval_verdict verdict;
    char seen[160]; /* numbers, or why it was not checked */
};
#define LR_EVAL_CONTROLS 9u
int lr_eval_controls(const struct eval_grid *g, struct eval_control out[LR_EVAL_CONTROLS]);

/* Median of a SYSTEM field over repetitions (a member of eval_value, by offset); NaN: none. */
double lr_eval_typical(const struct eval_grid *g, uint32_t job, uint32_t cell, size_t field);
/* Mean score over the jobs that rank, and its bytes; false: none. */
bool lr_eval_overall(const struct eval_grid *g, enum lr_eval_mode mode, uint32_t cell,
                     double *score, double *bytes);

/* Whether the full cache does the job well enough for it to rank anything. */
bool lr_eval_headroom(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode);

int lr_eval_table(const struct eval_grid *g, const struct eval_control *c, struct lr_buf *out);
int lr_eval_page(const struct eval_grid *g, const struct eval_control *c, struct lr_buf *out);

/* ---- plots ---- */

struct eval_dot {
    double x, y, low, high; /* low == high: no whisker */
    const char *label;      /* of the dot, for its tooltip */
};
struct eval_line {
    const char *name;
    uint32_t colour; /* the same policy has the same in all plots */
    const struct eval_dot *dot;
    size_t n;
};
struct eval_plot {
    const char *title, *x, *y;
    const struct eval_line *line;
    size_t n;
    bool log_x;
    double y_min, y_max; /* equal: from the dots */
};
/* Inline SVG; colours are classes (s0 .. s11) of the page's style. */
int lr_eval_plot(const struct eval_plot *p, struct lr_buf *out);
/* Text with <, >, &, " made safe. */
int lr_eval_escape(struct lr_str s, struct lr_buf *out);

#endif
