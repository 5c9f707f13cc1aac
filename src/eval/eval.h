/* SPDX-License-Identifier: Apache-2.0
 * eval/eval.h - what a KV policy saves and what it costs, measured: `larder eval kv`, `larder
 * calc`, `larder bench engine`.
 *
 *   bench    speed of a model on this machine                          (bench.c)
 *   calc     from a shape and a machine to users, seconds, tokens/s    (calc.c, machine.c)
 *   stat     means, quantiles, bootstrap intervals                     (stat.c)
 *   task     samples of the recall tasks of docs/recall.md             (words.c, task.c)
 *   kv       prefill once, fork per policy and budget; controls        (kv.c and what it names)
 *   report   results to a table and a page                             (table.c, page.c, plot.c)
 *
 * Unlike the modules below it, this one reads the clock: it measures. Nothing here is called while
 * requests are served.
 */
#ifndef LR_EVAL_EVAL_H
#define LR_EVAL_EVAL_H

#include "base/base.h"
#include "engine/engine.h"

/* ---- bench ---- */

#define LR_EVAL_RUNS_MAX 99u

struct lr_eval_bench {
    const char *model;        /* a GGUF file */
    const char *codec;        /* of rows; NULL: f16 */
    uint64_t prompt, predict; /* tokens; prompt at least 1 */
    unsigned threads, runs;   /* runs: 1..LR_EVAL_RUNS_MAX, after one that does not count */
};
struct lr_eval_speed {
    uint64_t context;   /* rows at the end */
    double prefill_tps; /* prompt over the time until its last logits; median of the runs */
    double decode_tps;  /* predict over the time of its steps; 0 with none */
};
int lr_eval_bench(const struct lr_eval_bench *b, struct lr_eval_speed *out, struct lr_err *err);

/* ---- statistics ---- */

struct lr_eval_interval {
    size_t n;
    double mean, low, high; /* 95 %; all 0 when n is */
};
struct lr_eval_pair {
    struct lr_eval_interval diff; /* of a - b, sample by sample */
    size_t wins, ties, losses;    /* a > b, a == b, a < b */
};
double lr_eval_mean(const double *x, size_t n);
/* Linear between order statistics; sorts x. 0 when n is 0. */
double lr_eval_quantile(double *x, size_t n, double q);
double lr_eval_median(double *x, size_t n);
/* Percentile bootstrap of the mean. LR_ENOMEM. */
int lr_eval_bootstrap(const double *x, size_t n, uint64_t seed, struct lr_eval_interval *out);
int lr_eval_paired(const double *a, const double *b, size_t n, uint64_t seed,
                   struct lr_eval_pair *out);

/* ---- tasks: samples of docs/recall.md, and one's own ---- */

enum lr_eval_task {
    LR_EVAL_SINGLE,
    LR_EVAL_MULTI_KEY,
    LR_EVAL_MULTI_QUERY,
    LR_EVAL_VARIABLE,
    LR_EVAL_COPY,
    LR_EVAL_TURNS,  /* multi-query with 5 questions, told turn by turn */
    LR_EVAL_NEEDLE, /* in real text */
    LR_EVAL_OWN,    /* a line of a file of the user's */
    LR_EVAL_RECENT, /* control: single, the pair in the last sentence */
    LR_EVAL_ABSENT, /* control: single, asked for a pair that is not there */
    LR_EVAL_TASKS
};
const char *lr_eval_task_name(enum lr_eval_task t); /* "multi-key" */
int lr_eval_task_find(struct lr_str name, enum lr_eval_task *out);

#define LR_EVAL_WORDS      120u
#define LR_EVAL_TURNS_MAX  8u
#define LR_EVAL_TOKENS_MIN 128u
#define LR_EVAL_TOKENS_MAX (1u << 20)

/* The three lists of models/recall_words.txt; static text. */
struct lr_eval_words {
    struct lr_str key[LR_EVAL_WORDS], value[LR_EVAL_WORDS], filler[LR_EVAL_WORDS];
};
/* LR_EPARSE: not three lists of 120 distinct words. */
int lr_eval_words_read(struct lr_str text, struct lr_eval_words *out);
extern const struct lr_str lr_eval_words_text, lr_eval_english; /* of models/, in the program */

/* A tokeniser, and how texts reach it. */
struct lr_eval_coder {
    const struct lr_nn_tok *tok;
    bool blank; /* it puts a blank in front of a text by itself */
};
/* LR_EUNSUPPORTED: tokens of this vocabulary do not give their text back. */
int lr_eval_coder_init(struct lr_eval_coder *c, const struct lr_nn_tok *tok, struct lr_err *err);
/* Appends the tokens of text, and, when ends is not NULL, (one a token) the byte where each ends.
 * No BOS. */
int lr_eval_encode(const struct lr_eval_coder *c, struct lr_str text, struct lr_nn_ids *ids,
                   struct lr_nn_ids *ends, struct lr_err *err);

struct lr_eval_turn {
    uint32_t ask, answer, end; /* tokens: the question is [ask, answer), the right answer and what
                                  closes it [answer, end) */
    struct lr_str text;        /* the right answer, words with one blank between */
    uint32_t n_words;          /* of it */
    uint32_t from, to;         /* tokens of the body that hold it; 0, 0: several places */
};

/* One sample: all of it lives in its arena. Token numbers are positions. */
struct lr_eval_sample {
    const uint32_t *id; /* BOS, body, then questions and right answers */
    uint32_t n, body;   /* all; BOS and body */
    struct lr_eval_turn turn[LR_EVAL_TURNS_MAX];
    uint32_t n_turn;
    struct lr_str text;           /* body, questions, answers */
    const struct lr_str *answers; /* OWN: any of them within the reply is right */
    uint32_t n_answers, most;     /* OWN: tokens of a reply, at most */
};

struct lr_eval_spec {
    enum lr_eval_task task;
    uint32_t tokens; /* N */
    uint64_t seed;
    const struct lr_eval_words *words;
    struct lr_str text; /* NEEDLE: white space made one blank (lr_eval_flatten) */
    struct lr_str line; /* OWN: one JSON object */
    const char *where;  /* OWN: "T.jsonl:3", for errors */
};
/* Sample number i. LR_EINVAL: N too small for the task; a line that is none; LR_EOVER: longer than
 * N. */
int lr_eval_sample(const struct lr_eval_spec *spec, const struct lr_eval_coder *c, uint64_t i,
                   struct lr_arena *a, struct lr_eval_sample *out, struct lr_err *err);
/* Runs of white space become one blank; none at either end. */
int lr_eval_flatten(struct lr_str text, struct lr_buf *out);
/* Right or wrong of a reply, in [0, 1]; docs/recall.md. */
double lr_eval_score(enum lr_eval_task task, const struct lr_eval_sample *s,
                     const struct lr_eval_turn *t, struct lr_str reply);
/* Words of the reply that are complete: a reply has been read far enough when there are as many as
 * the answer has, or `over` says that nothing more counts. */
uint32_t lr_eval_words_done(struct lr_str reply, bool *over);

/* ---- larder calc: from a shape and a machine to users, seconds and tokens a second ---- */

/* What counts of a model. */
struct lr_eval_shape {
    char name[64];
    uint32_t n_layer, n_embd, n_head, n_kv, d_head, n_ff, n_vocab, n_ctx;
    double weights; /* bytes in memory */
    double macs;    /* multiplications of a token in all layers, the output matrix not among them */
    double out_macs;              /* of the output matrix */
    double read[LR_KERN_N_TYPES]; /* bytes of each type that a decoded token reads */
};
/* Of a file, or of a shape by name ("llama-7b"; NULL-terminated list in lr_eval_shapes) and a type.
 */
int lr_eval_shape_file(const char *path, struct lr_eval_shape *out, struct lr_err *err);
int lr_eval_shape_like(struct lr_str like, struct lr_str type, struct lr_eval_shape *out,
                       struct lr_err *err);

/* What counts of a machine. Rates are of all its threads together, per second. */
struct lr_eval_machine {
    double flops;      /* of matrix products on tiles; a multiplication and an addition are two */
    double attn_flops; /* of attention in a prefill */
    double memory;     /* bytes */
    double weight_bw[LR_KERN_N_TYPES]; /* bytes of weights through a product with one token */
    double kv_bw;                      /* bytes of KV through attention of one token */
    double link; /* bytes: where KV goes when users take turns (RAM to RAM here, PCIe elsewhere) */
    double disk; /* bytes read back */
    uint32_t row_extra; /* bytes beside each row's key and value */
    unsigned threads;
};
/* All rates by numbers of the user's (a GPU's sheet). bw is for weights and KV alike. */
void lr_eval_machine_given(struct lr_eval_machine *m, double flops, double bw, double memory,
                           double link, double disk);
/* Short measurements on this machine with the kernels of the engine: some two seconds. dir: where
 * files may be written for a moment; NULL: disk is not measured (0), and weights lie on the heap. */
int lr_eval_machine_measure(struct lr_eval_machine *m, const struct lr_eval_shape *s,
                            unsigned threads, const char *dir, struct lr_err *err);

struct lr_eval_load {
    uint32_t context; /* tokens of a user */
    uint32_t rows;    /* that a policy keeps of them; 0: all */
    double kv_bits;   /* of an element of a row; 0: 16 */
    uint32_t batch;   /* users decoded together; 0: as many as fit */
};
struct lr_eval_estimate {
    double kv_bytes;   /* of a user at the end of the context */
    double users;      /* that fit beside the weights */
    double prefill_s;  /* until the first token */
    double decode_tps; /* of one user alone */
    double batch;      /* users decoded together, and their tokens a second in all */
    double batch_tps;
    double switch_s;  /* one user's KV out and another's in */
    double restore_s; /* one user's KV from disk; 0: not known */
};
void lr_eval_estimate(const struct lr_eval_shape *s, const struct lr_eval_machine *m,
                      const struct lr_eval_load *l, struct lr_eval_estimate *out);

/* ---- larder eval kv ---- */

enum lr_eval_mode {
    LR_EVAL_AGNOSTIC, /* the policy decides behind the context; questions come later */
    LR_EVAL_AWARE,    /* it has seen the (first) question */
    LR_EVAL_MODES
};

struct lr_eval_kv {
    const char *model;    /* a GGUF file; or, with bytes, what to call the model */
    struct lr_str bytes;  /* a GGUF file in memory, aligned to 64; empty: model is a path */
    const char *policies; /* "full,snapkv:window=16,h2o+q8": stacks; NULL: the usual ones */
    const char *budgets;  /* "50%,128,8M"; NULL: 50, 25, 12.5 and 6.25 % */
    const char
        *tasks; /* "single,copy,perplexity,system", or a path that ends in .jsonl; NULL: all */
    const char *modes; /* "agnostic,aware"; NULL: both */
    const char *text;  /* a file, for needle and perplexity; NULL: the one in the program */
    const char *out;   /* a directory: results.jsonl, report.txt, report.html */
    uint32_t context;  /* tokens of a sample; 0: 1024, or what the model has */
    uint32_t samples;  /* 0: 24 */
    uint64_t seed;
    unsigned threads; /* 0: 1 for models below 32 MiB, else 2 */
    bool hold;        /* budgets hold while questions are read and answered; else the context is
                         compressed once and nothing is evicted afterwards */
    /* Progress, a line at a time; NULL: none. Results do not depend on it. */
    void (*tell)(void *ctx, const char *line);
    void *ctx;
};
/* Runs what results.jsonl does not have yet, and writes the reports. report (may be NULL) gets the
 * text table. *failed: controls that did not come out as they must. LR_EINVAL, LR_ENOENT: what was
 * asked for cannot be, before any work; LR_EEXIST: the directory has results of another model or
 * text. */
int lr_eval_kv(const struct lr_eval_kv *k, struct lr_buf *report, unsigned *failed,
               struct lr_err *err);

/* ---- larder eval pairs (pairs.c) ---- */

struct lr_eval_pairs {
    const char *val, *test; /* CSV: question1, question2, is_duplicate */
    const char *train;      /* what the models learned from, for the disjoint lines; NULL: none */
    const char *model;      /* "shipped" (or NULL), a .gguf file, or a directory of both models */
    uint32_t dims;          /* also with so many main directions; 0: no */
    uint64_t seed;          /* of the resamples */
    void (*tell)(void *ctx, const char *line);
    void *ctx;
};
/* JSON lines, one a stage, set and share of duplicates. */
int lr_eval_pairs(const struct lr_eval_pairs *o, struct lr_buf *out, struct lr_err *err);

/* Bytes for people: "64K", "1.58M". Returns out. */
const char *lr_eval_size(double bytes, char out[16]);

#endif
