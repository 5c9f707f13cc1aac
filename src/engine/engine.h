/* SPDX-License-Identifier: Apache-2.0
 * engine/engine.h - a model on this machine: token ids in, logits out, over KV rows of our own.
 *
 *   model    the weights of one GGUF file, as mapped, and what its metadata says     (model.c)
 *   engine   a model's compute threads, scratch and one arena of KV pages            (engine.c)
 *   seq      a sequence: for each layer and KV head a table of rows                  (seq.c, rows.c)
 *   step     some tokens of some sequences through all layers                        (forward.c)
 *
 *   lr_engine_model_open(&m, "some.gguf", &err);
 *   lr_engine_plan(m, &opts, &plan, &err);              say what it will take, or that it will not fit
 *   lr_engine_open(&e, m, &opts, &err);
 *   lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){.tokens_max = 4096}, &err);
 *   lr_engine_feed(s, prompt, n, logits, NULL, NULL);   logits of the prompt's last token
 *   lr_engine_feed(s, &next, 1, logits, NULL, NULL);    ...
 *
 * What is promised about bits. The logits of a token depend on the model, the codec, the rows its
 * sequence holds and the CPU variant of kern/: not on what else is in the step, on how a prompt was
 * cut into feeds, on the number of threads, on where pages lie, or on whether the rows were computed
 * here, inherited by a fork or loaded. So warm equals cold bit for bit. (One exception: a value row
 * that overflows the codec to infinity may reach queries before it in the same tile.)
 *
 * Rows. A row is the key and value of one token for one (layer, KV head), with 12 bytes about it. A
 * query at position p sees the rows with pos <= p, each with `bias` added to its logit: there is no
 * other mask. Tables are ragged: edits change one table and no other, and what an edit drops is freed
 * when the call returns, in whole pages of LR_ENGINE_PAGE_ROWS.
 *
 * Threads. A model may be shared by engines of any threads. An engine and its sequences belong to one
 * thread at a time (the scheduler of the model); its compute threads are its own. Cancel flags may be
 * set from anywhere.
 *
 * Errors. LR_EOVER: over a budget, nothing done. LR_EINVAL: arguments that cannot be. LR_ECORRUPT: the
 * model's file changed under us; results are void and the engine should be closed. LR_ECANCEL.
 * LR_EUNSUPPORTED: the file is a model we do not run, by name. Nothing aborts.
 */
#ifndef LR_ENGINE_ENGINE_H
#define LR_ENGINE_ENGINE_H

#include "base/base.h"
#include "kern/kern.h"
#include "nn/nn.h"

#include <stdatomic.h>

#define LR_ENGINE_TILE 256u         /* tokens of one sequence in a step, at most */
#define LR_ENGINE_BATCH 512u        /* tokens in a step, at most */
#define LR_ENGINE_SEQS 256u         /* sequences in a step, at most */
#define LR_ENGINE_PAGE_ROWS 32u     /* rows of a page */
#define LR_ENGINE_THREADS_MAX 256u
#define LR_ENGINE_POS_MAX (1 << 28) /* positions are below */

/* ---- models ---- */

struct lr_engine_model;

/* What the metadata says, checked: every field within the bounds of model.c. */
struct lr_engine_shape {
    char arch[32]; /* "llama", "mistral", "qwen2", "qwen3" */
    uint32_t n_layer, n_embd, n_head, n_kv, d_head, n_ff, n_vocab;
    uint32_t n_ctx; /* positions the model was trained for */
    uint32_t n_rot; /* elements of a head that turn */
    bool interleaved; /* pairs (2p, 2p + 1): llama; else (p, p + n_rot / 2): qwen */
    bool tied;        /* no output matrix of its own */
    float eps;        /* of RMSNorm */
    float rope_base;
};

/* Opens, checks the shape of every tensor (the error names it and what was expected), and keeps the
 * file open. LR_EUNSUPPORTED for other architectures, types, and tensors no llama has. */
int lr_engine_model_open(struct lr_engine_model **out, const char *path, struct lr_err *err);
/* Of bytes in memory aligned to 64, which outlive the model. */
int lr_engine_model_open_mem(struct lr_engine_model **out, struct lr_str bytes, struct lr_err *err);
/* After all its engines. NULL is fine. */
void lr_engine_model_close(struct lr_engine_model *m);
const struct lr_engine_shape *lr_engine_model_shape(const struct lr_engine_model *m);
/* The file, for tokenisers and templates. The model's. */
const struct lr_nn_gguf *lr_engine_model_file(const struct lr_engine_model *m);

/* ---- codecs: how rows are stored ---- */

/* Keys and values as rows of kern/. The optional hooks work in place on one head of d elements:
 * enc_k and enc_v before a row is encoded, qx on queries before they meet keys, ox on outputs after
 * values were summed. (A rotation of keys wants enc_k == qx; one of values wants ox to undo enc_v.)
 * Deterministic, called from compute threads. Must outlive the sequences. */
struct lr_engine_codec {
    const char *name;
    enum lr_kern_type k, v;
    void (*enc_k)(float *k, size_t d);
    void (*enc_v)(float *v, size_t d);
    void (*qx)(float *q, size_t d);
    void (*ox)(float *o, size_t d);
};
/* "f16" (the default), "f32", "q8_0", "i4r" (no hooks). NULL: no such codec. */
const struct lr_engine_codec *lr_engine_codec_find(struct lr_str name);

/* ---- engines ---- */

struct lr_engine;

struct lr_engine_opts {
    unsigned threads;   /* compute threads, the caller's included; default 1 */
    uint64_t bytes_max; /* weights + scratch + KV; 0 = no limit. Over it: LR_EOVER with the sum */
    uint64_t kv_max;    /* KV arena, bytes; default: 1 GiB or what bytes_max leaves, the smaller */
    const struct lr_engine_codec *codec; /* of sequences that do not say; default f16 */
};

/* Resident memory, computed before anything is allocated. */
struct lr_engine_plan {
    uint64_t bytes_weights;  /* mapped tensors and decoded vectors */
    uint64_t bytes_scratch;  /* activations of a step and per-thread buffers */
    uint64_t bytes_kv;       /* the arena's maximum */
    uint64_t bytes_kv_token; /* of that, a token in all layers (rounded up) */
    uint64_t bytes_total;
    uint64_t tokens;         /* that fit the arena */
};

/* LR_EOVER, with a sentence that has the numbers, when it does not fit: the arena must hold a tile. */
int lr_engine_plan(const struct lr_engine_model *m, const struct lr_engine_opts *o,
                   struct lr_engine_plan *out, struct lr_err *err);
/* Starts threads. m outlives the engine. */
int lr_engine_open(struct lr_engine **out, const struct lr_engine_model *m,
                   const struct lr_engine_opts *o, struct lr_err *err);
/* After all its sequences. NULL is fine. */
void lr_engine_close(struct lr_engine *e);
const struct lr_engine_model *lr_engine_model(const struct lr_engine *e);

struct lr_engine_memory {
    uint64_t bytes_max;      /* the arena */
    uint64_t bytes_used;     /* pages in use, shared ones once */
    uint64_t bytes_promised; /* admitted and not yet used */
    uint64_t bytes_warm;     /* free pages that the system has not got back yet; bounded */
};
void lr_engine_memory(const struct lr_engine *e, struct lr_engine_memory *out);

/* ---- sequences ---- */

struct lr_engine_seq;

struct lr_engine_seq_opts {
    uint32_t tokens_max; /* admission: rows of so many tokens are promised in advance, so that feeding
                            them cannot fail for want of room; 0: nothing promised, each feed may fail */
    const struct lr_engine_codec *codec; /* default: the engine's */
};

/* LR_EOVER when what is in use and what is promised leave no room. */
int lr_engine_seq_open(struct lr_engine_seq **out, struct lr_engine *e,
                       const struct lr_engine_seq_opts *o, struct lr_err *err);
void lr_engine_seq_close(struct lr_engine_seq *s); /* NULL is fine */
/* A twin that shares every page until one of the two writes. Charged: the pages tokens_max needs
 * beyond the shared ones, and for both a copy of their last, unfinished pages. */
int lr_engine_seq_fork(struct lr_engine_seq **out, struct lr_engine_seq *s, uint32_t tokens_max,
                       struct lr_err *err);
/* The next token's position: tokens fed so far, whatever rows remain of them. */
uint32_t lr_engine_seq_len(const struct lr_engine_seq *s);
/* Drops all rows from position len on and makes len the next position; len <= the length.
 * Cannot fail while positions ascend; else LR_ENOMEM or LR_EOVER, and it may be called again. */
int lr_engine_seq_truncate(struct lr_engine_seq *s, uint32_t len);

struct lr_engine_seq_bytes {
    uint64_t unique; /* pages that closing it would free */
    uint64_t shared; /* pages it shares with others */
    uint64_t tables; /* what finds the pages */
    uint64_t rows;   /* rows in all tables */
};
void lr_engine_seq_bytes(const struct lr_engine_seq *s, struct lr_engine_seq_bytes *out);

/* All rows as bytes, format in rows_save.c: loading them into a sequence of the same model shape and
 * codec continues bit for bit. save: *n is the buffer's size in, the bytes out; with buf NULL only
 * says how many. load: into an empty sequence; LR_ECORRUPT (checksum), LR_EVERSION (other layout). */
int lr_engine_seq_save(const struct lr_engine_seq *s, void *buf, size_t *n);
int lr_engine_seq_load(struct lr_engine_seq *s, const void *buf, size_t n);

/* ---- rows ----
 * One table: (layer, KV head). Indices are places in the table, from 0; appended rows come last, so
 * positions ascend unless inserts and loads made it otherwise. */

struct lr_engine_row {
    int32_t pos;   /* seen by queries at pos and later */
    float bias;    /* added to its logit: log(count) stands for count equal rows; -INFINITY hides it */
    uint16_t tag;  /* the policy's */
    uint8_t tier;  /* 0 */
    uint8_t codec; /* 0: the sequence's */
};

size_t lr_engine_rows(const struct lr_engine_seq *s, uint32_t layer, uint32_t head);
/* Copies what is known of rows [at, at + n). LR_EINVAL beyond the end. */
int lr_engine_rows_get(const struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t at,
                       size_t n, struct lr_engine_row *out);
/* Key and value as attention sees them (decoded; behind the codec's hooks), d_head floats each;
 * either may be NULL. */
int lr_engine_rows_read(const struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t i,
                        float *k, float *v);
/* Keeps the rows idx[0] < idx[1] < .. and frees the others: at once, in whole pages. LR_EINVAL for
 * indices that do not ascend; LR_EOVER when pages shared with a fork would have to be copied and there
 * is no room (nothing changed). */
int lr_engine_rows_keep(struct lr_engine_seq *s, uint32_t layer, uint32_t head,
                        const uint32_t *idx, size_t n);
/* Replaces row i's key, value (floats as before the codec's hooks; NULL: as it is) and bias. */
int lr_engine_rows_write(struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t i,
                         const float *k, const float *v, float bias);
/* Sets a tag. */
int lr_engine_rows_tag(struct lr_engine_seq *s, uint32_t layer, uint32_t head, size_t i,
                       uint16_t tag);
/* Inserts a row in front of the first one with a later position. k is rotated for pos already. */
int lr_engine_rows_insert(struct lr_engine_seq *s, uint32_t layer, uint32_t head, int32_t pos,
                          const float *k, const float *v, float bias, uint16_t tag);

/* ---- taps: what a policy may watch ---- */

enum lr_engine_tap_kind {
    LR_ENGINE_TAP_X = 1,     /* normalised input of the layer, all tokens of the feed */
    LR_ENGINE_TAP_QPRE = 2,  /* queries before rotation (with norms and biases) */
    LR_ENGINE_TAP_KPRE = 4,  /* keys before rotation */
    LR_ENGINE_TAP_Q = 8,     /* queries after rotation */
    LR_ENGINE_TAP_AWIN = 16, /* attention of the last `window` tokens */
    LR_ENGINE_TAP_ACOL = 32, /* attention of all tokens of the feed, summed per row */
    LR_ENGINE_TAP_LSE = 64,  /* log-sum-exp of each query's logits */
};

/* What `seen` gets for one feed and layer, after the layer's attention and before any row moved; all
 * of it lives until `seen` returns. Arrays that were not asked for are NULL. */
struct lr_engine_view {
    struct lr_engine_seq *seq;
    uint32_t layer;
    uint32_t n_tok;   /* of the feed in this tile */
    uint32_t n_win;   /* min(window, n_tok): the last ones */
    int32_t pos;      /* of the first token; the others follow */
    const float *x;   /* (n_tok, n_embd) */
    const float *qpre, *q; /* (n_tok, n_head, d_head) */
    const float *kpre;     /* (n_tok, n_kv, d_head) */
    const float *lse;      /* (n_tok, n_head) */
    /* Of query head h: awin[h] is (n_win, rows of KV head h / (n_head / n_kv)), acol[h] (rows). */
    const float *const *awin;
    const float *const *acol;
};

/* A request for taps. Costs nothing when absent; what it cost is added to the bill. */
struct lr_engine_tap {
    unsigned kinds;  /* enum lr_engine_tap_kind, or-ed */
    uint32_t window; /* tokens for AWIN */
    /* Called on the engine's thread, layer by layer; may edit rows of layers <= layer. Its failure
     * ends the step: the feed's rows stay as they are. */
    int (*seen)(void *ctx, const struct lr_engine_view *v);
    void *ctx;
    uint64_t bytes, ns; /* the bill: bytes written for taps, and nanoseconds, `seen` included */
};

/* ---- work ---- */

/* Tokens for one sequence in a step. */
struct lr_engine_work {
    struct lr_engine_seq *seq;
    const uint32_t *tokens; /* n ids below n_vocab */
    uint32_t n;             /* 1..LR_ENGINE_TILE */
    uint32_t n_logits;      /* of the last tokens; 0..n */
    float *logits;          /* (n_logits, n_vocab) */
    float *hidden;          /* (n, n_embd), normalised as the output matrix gets it; NULL: none */
    struct lr_engine_tap *tap; /* NULL: none */
};

/* One pass through the layers for all of them at once: together at most LR_ENGINE_BATCH tokens, each
 * sequence once. Room for all rows is found first: on LR_EOVER nothing has changed. */
int lr_engine_step(struct lr_engine *e, const struct lr_engine_work *work, size_t n_work,
                   struct lr_err *err);

/* Any number of tokens of one sequence, tile by tile. logits: of the last token, n_vocab floats, or
 * NULL. cancel (may be NULL) is read between tiles: LR_ECANCEL leaves the tiles that were done in the
 * sequence. */
int lr_engine_feed(struct lr_engine_seq *s, const uint32_t *tokens, size_t n, float *logits,
                   const atomic_bool *cancel, struct lr_err *err);

enum lr_engine_pool { LR_ENGINE_POOL_MEAN, LR_ENGINE_POOL_LAST };
/* One vector of n_embd floats for a text, of length 1: the mean of the hidden states, or the last. The
 * rows are dropped again. */
int lr_engine_embed(struct lr_engine *e, const uint32_t *tokens, size_t n,
                    enum lr_engine_pool pool, float *out, struct lr_err *err);

/* ---- random models ---- */

struct lr_engine_random {
    struct lr_str like;      /* "smollm-135m", "llama-1b", "llama-7b", or a tiny one: "nano" */
    enum lr_nn_type type;    /* of the matrices; rows that are no whole blocks get F16 */
    struct lr_str vocab;     /* path of a GGUF whose tokeniser is copied; empty: a synthetic one */
    uint64_t seed;
    const char *path;        /* to write */
};
/* Writes a GGUF of a real shape with random weights: for speed, memory and exactness. */
int lr_engine_random(const struct lr_engine_random *r, struct lr_err *err);

#endif
