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
#include "dialect/dialect.h"
#include "kern/kern.h"
#include "nn/nn.h"
#include "policy/policy.h"
#include "reuse/reuse.h"

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
    void (*dec_k)(float *k, size_t d); /* the way back, for policies that read rows */
    void (*dec_v)(float *v, size_t d);
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

/* What decides over a sequence's rows. */
struct lr_engine_policy {
    const struct lr_policy_stack *stack; /* copied; NULL: every row is kept */
    struct lr_policy_budget budget;
    uint64_t seed;  /* of its random numbers: the same seed, the same decisions */
    bool capped;    /* evict inside prompts too, every LR_ENGINE_TILE positions: rows never exceed the
                       budget by more than a tile. Otherwise a prompt is held whole until it ends. */
    bool guard;     /* check after every edit that it left what it may; always on in test builds */
};

struct lr_engine_seq_opts {
    uint32_t tokens_max; /* admission: rows of so many tokens are promised in advance, so that feeding
                            them cannot fail for want of room; 0: nothing promised, each feed may fail */
    uint32_t tokens_prompt; /* of those, the prompt (0: not known). With a budget less is promised:
                               what the prompt needs, and the budget from its end on */
    const struct lr_engine_codec *codec; /* default: the stack's, else the engine's; not both */
    struct lr_engine_policy policy;
};

/* LR_EOVER when what is in use and what is promised leave no room. LR_EINVAL, LR_EUNSUPPORTED: stack,
 * budget and model do not go together (a sentence says why); nothing was begun. */
int lr_engine_seq_open(struct lr_engine_seq **out, struct lr_engine *e,
                       const struct lr_engine_seq_opts *o, struct lr_err *err);
void lr_engine_seq_close(struct lr_engine_seq *s); /* NULL is fine */
/* A twin that shares every page until one of the two writes, with a copy of the policy's state (not of
 * watchers). Charged: the pages tokens_max needs beyond the shared ones, and for both a copy of their
 * last, unfinished pages. */
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
    uint64_t tables; /* what finds the pages, and what policies keep beside rows */
    uint64_t rows;   /* rows in all tables */
    uint64_t peak;   /* most bytes of pages held at a time since it was opened or forked, shared ones
                        included */
};
void lr_engine_seq_bytes(const struct lr_engine_seq *s, struct lr_engine_seq_bytes *out);

/* All rows and the policy's state as bytes, docs/formats/rows.md: loading them into a sequence of the
 * same model shape, codec and stack continues bit for bit. save: *n is the buffer's size in, the bytes
 * out; with buf NULL only says how many. load: into an empty sequence; LR_ECORRUPT (checksum),
 * LR_EVERSION (other layout). */
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
    LR_ENGINE_TAP_OUT = 128, /* attention output */
    LR_ENGINE_TAP_H = 256,   /* residual stream at the layer's entry */
};

/* What `seen` gets for one feed and layer, after the layer's attention and before any row moved; all
 * of it lives until `seen` returns. Arrays that were not asked for are NULL. */
struct lr_engine_view {
    struct lr_engine_seq *seq;
    uint32_t layer;
    uint32_t n_tok;   /* of the feed in this tile */
    uint32_t n_win;   /* min(window, n_tok): the last ones */
    int32_t pos;      /* of the first token; the others follow */
    const float *x, *h; /* (n_tok, n_embd) */
    const float *qpre, *q, *out; /* (n_tok, n_head, d_head) */
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
    /* Gives arrays (n_head, each of the rows of its KV head) that ACOL is added to; NULL: it begins at
     * zero in every feed. */
    int (*sums)(void *ctx, uint32_t layer, float **acol);
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
    enum lr_policy_phase phase; /* where the sequence stands after these tokens; 0: inside a prompt */
};

/* One pass through the layers for all of them at once: together at most LR_ENGINE_BATCH tokens, each
 * sequence once. Room for all rows is found first: on LR_EOVER nothing has changed. Policies edit
 * after the last layer, before this returns. A policy that fails fails its sequence alone: the step is
 * good, lr_engine_seq_status tells, and the sequence can only be closed. */
int lr_engine_step(struct lr_engine *e, const struct lr_engine_work *work, size_t n_work,
                   struct lr_err *err);

/* Any number of tokens of one sequence, tile by tile; the last tile has the phase, those before are
 * CHUNK. logits: of the last token, n_vocab floats, or NULL. cancel (may be NULL) is read between
 * tiles: LR_ECANCEL leaves the tiles that were done in the sequence. A policy's failure is the feed's. */
int lr_engine_feed_as(struct lr_engine_seq *s, const uint32_t *tokens, size_t n,
                      enum lr_policy_phase phase, float *logits, const atomic_bool *cancel,
                      struct lr_err *err);
/* A prompt: phase PROMPT_END. (Decode with phase TOKEN; without a policy it makes no difference.) */
int lr_engine_feed(struct lr_engine_seq *s, const uint32_t *tokens, size_t n, float *logits,
                   const atomic_bool *cancel, struct lr_err *err);

enum lr_engine_pool { LR_ENGINE_POOL_MEAN, LR_ENGINE_POOL_LAST };
/* One vector of n_embd floats for a text, of length 1: the mean of the hidden states, or the last. The
 * rows are dropped again. */
int lr_engine_embed(struct lr_engine *e, const uint32_t *tokens, size_t n,
                    enum lr_engine_pool pool, float *out, struct lr_err *err);

/* ---- policies on sequences (host.c) ----
 *
 * For who schedules: cut prompts with lr_engine_seq_tile, say the phase in every lr_engine_work, call
 * turn_end after a reply, look at lr_engine_seq_status after each step. */

/* Tokens that the next piece of a prompt should have, when `left` of it remain (this piece included) and
 * a step has room for `most`: so that the last piece covers the policy's window, and pieces of capped
 * sequences end where rows are evicted. Results do not depend on the cuts then. 0: wait for a step with
 * more room (LR_ENGINE_TILE is always enough). Never more than LR_ENGINE_TILE. Without a policy:
 * the least of the three. */
uint32_t lr_engine_seq_tile(const struct lr_engine_seq *s, uint32_t left, uint32_t most);
/* 0, or why the sequence's policy failed (err may be NULL). */
int lr_engine_seq_status(const struct lr_engine_seq *s, struct lr_err *err);
/* The reply is complete: policies may edit. */
int lr_engine_seq_turn_end(struct lr_engine_seq *s, struct lr_err *err);
/* Puts a policy on a sequence that has none, e.g. a fork of a prefix kept without one. The codec must
 * be the sequence's. LR_EUNSUPPORTED when the sequence has tokens and the policy had to see them. */
int lr_engine_seq_attach(struct lr_engine_seq *s, const struct lr_engine_policy *p,
                         struct lr_err *err);
/* True when a policy that knew the question dropped rows: these rows serve no other question. */
bool lr_engine_seq_spent(const struct lr_engine_seq *s);
/* Tags the rows at positions [from, to) LR_POLICY_TAG_KEEP: no policy drops them (a system prompt).
 * Budgets must have room for them. LR_EOVER: no room to copy shared pages. */
int lr_engine_seq_protect(struct lr_engine_seq *s, uint32_t from, uint32_t to);

#define LR_ENGINE_ACTIVE UINT32_MAX /* the policy that edits, where a watcher's index is asked for */
#define LR_ENGINE_WATCHERS 64u

struct lr_engine_policy_info {
    uint32_t rows_budget;   /* a table's, on average; LR_POLICY_NO_LIMIT: none (yet) */
    uint64_t rows_evicted;  /* since open, in all tables */
    uint64_t rows_read, rows_there; /* by tokens whose policy chose what they read; of so many */
    uint64_t tap_bytes;     /* written for its taps: what it asked for, whoever else did */
    uint64_t tap_ns;        /* computing all taps of the sequence; shared by its watchers */
    uint64_t ns;            /* in the policy's own hooks */
    uint64_t state_bytes;   /* kept beside rows for it */
};
/* LR_EINVAL: no such watcher, or no policy. */
int lr_engine_seq_info(const struct lr_engine_seq *s, uint32_t index,
                       struct lr_engine_policy_info *out);

/* Prefill once, fork per policy and budget. Watchers look at a sequence that keeps every row: each
 * stack observes, none edits. p->budget and capped are not read. *index: 0, 1, .. */
int lr_engine_seq_watch(struct lr_engine_seq *s, const struct lr_engine_policy *p, uint32_t *index,
                        struct lr_err *err);
/* Gives s, a fork of `watched` that has fed nothing since (and has no policy), a copy of a watcher with
 * a budget. The fork then stands at the end of a prompt and is edited at once. The last step of
 * `watched` must have ended a prompt. */
int lr_engine_seq_adopt(struct lr_engine_seq *s, const struct lr_engine_seq *watched, uint32_t index,
                        const struct lr_policy_budget *budget, struct lr_err *err);
/* Feeds the future to a fork of s, drops the fork, and writes the attention each row of s got from it,
 * summed over the heads of its group, into column 0 of a watcher or the active policy: what the oracle
 * keeps by. Before adopt, or before the end of the prompt is fed. */
int lr_engine_seq_foresee(struct lr_engine_seq *s, uint32_t index, const uint32_t *future, size_t n,
                          struct lr_err *err);

/* Loads a plug-in, a shared object with the entry LR_POLICY_ENTRY of larder/policy.h, and adds what it
 * brings to the lists of policy/. At start, before other threads. It is never unloaded. LR_ENOENT, LR_EIO:
 * cannot be loaded (the loader's words); else as lr_policy_register. */
int lr_engine_plugin_load(const char *path, struct lr_err *err);

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

/* ---- chat templates (template.c, template_family.c) ----
 *
 * A GGUF carries its chat template as a Jinja program. Larder never runs it: it looks for marks that
 * tell one known family from another and renders that family itself. All of this is pure; a template
 * is a value. */

enum lr_engine_family {
    LR_ENGINE_PLAIN, /* no template in the file: "User: ..", "Assistant: .." */
    LR_ENGINE_CHATML,
    LR_ENGINE_QWEN25, /* ChatML with <tool_call> */
    LR_ENGINE_QWEN3,  /* and <think> */
    LR_ENGINE_LLAMA2,
    LR_ENGINE_LLAMA3,
    LR_ENGINE_LLAMA31, /* with dates in the system turn, and tools */
    LR_ENGINE_MISTRAL1,
    LR_ENGINE_MISTRAL3,
    LR_ENGINE_MISTRAL7,
    LR_ENGINE_GEMMA,
    LR_ENGINE_PHI3,
    LR_ENGINE_ZEPHYR,
    LR_ENGINE_DEEPSEEK2,
    LR_ENGINE_DEEPSEEK3,
    LR_ENGINE_DEEPSEEK_R1,
    LR_ENGINE_FAMILIES
};
const char *lr_engine_family_name(enum lr_engine_family f); /* "chatml" ... */

struct lr_engine_template {
    enum lr_engine_family family;
    const char *system; /* of a conversation that brings none; static, NULL: none */
    bool bos;           /* the template itself begins with the token */
    bool spaced;        /* Mistral: a blank after control tokens */
    bool think;         /* <think> .. </think> in replies is reasoning */
    bool think_open;    /* the prompt has said <think> already */
};

/* text: tokenizer.chat_template of the file; empty gives PLAIN. LR_EUNSUPPORTED: no family we know;
 * the message quotes what the text begins with. */
int lr_engine_template_match(struct lr_str text, struct lr_engine_template *out,
                             struct lr_err *err);

struct lr_engine_render {
    const struct lr_request *request; /* CHAT */
    size_t messages;                  /* only the first so many; 0 = all */
    bool no_prompt;                   /* leave out what asks for the assistant's turn */
};
/* Appends the prompt's tokens. Control tokens of the template become ids; no text of the request is
 * ever read as one. A control token the vocabulary lacks is encoded as the text it is.
 *
 * With no_prompt, the tokens of the first k messages are a prefix of those of the first k + 1, but for:
 * QWEN3 (only answers after the last question have a reasoning block), MISTRAL3 and MISTRAL7 (tools, and
 * MISTRAL3's system text, stand before the last question), LLAMA2, GEMMA and MISTRAL1 where message k
 * is system text (it becomes part of the next question). In families where text of two turns touches
 * (LLAMA2, MISTRAL1, ZEPHYR, DEEPSEEK2, and LLAMA2's questions without their brackets as tokens) it
 * holds for vocabularies that do not merge across that place.
 *
 * LR_EUNSUPPORTED: parts that are no text, tools where the family has no place for them, tool_choice
 * that would have to be enforced. LR_EINVAL: no message. err->where: "messages[2]". */
int lr_engine_template_render(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                              const struct lr_engine_render *r, struct lr_nn_ids *ids,
                              struct lr_err *err);
/* The same as text, control tokens spelled out: for people and tests. tok may be NULL. */
int lr_engine_template_text(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                            const struct lr_engine_render *r, struct lr_buf *out,
                            struct lr_err *err);

struct lr_engine_stops {
    uint32_t id[4]; /* end a reply, besides lr_nn_tok_ends */
    size_t n_id;
    struct lr_str text[2]; /* static; end a reply where the vocabulary has no such token */
    size_t n_text;
};
void lr_engine_template_stops(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                              struct lr_engine_stops *out);
/* Replies must be decoded with control tokens spelled out (lr_nn_decoder_init's `special`). */
bool lr_engine_template_spells(const struct lr_engine_template *t, const struct lr_request *r);

/* ---- replies (reply.c): generated text into parts of an answer ---- */

struct lr_engine_reply;

struct lr_engine_reply_opts {
    const struct lr_engine_template *tmpl; /* copied */
    bool tools;         /* tool calls are looked for */
    bool no_think;      /* the prompt has closed the reasoning */
    uint16_t choice;
    char id[25];        /* tool calls are named "call_<id>_<n>" */
    lr_event_fn fn;     /* gets PART, DELTA and PART_END; nonzero ends the feed with that rc */
    void *ctx;
};
#define LR_ENGINE_CALL_MAX LR_MIB(1) /* bytes of a tool call */

int lr_engine_reply_open(struct lr_engine_reply **out, const struct lr_engine_reply_opts *o);
/* More text, well-formed UTF-8, cut anywhere between characters: the events do not depend on where but
 * for how deltas are cut. A tool call is told when it is complete; what begins like one and is none
 * stays text. LR_ENOMEM or what fn said. */
int lr_engine_reply_feed(struct lr_engine_reply *r, struct lr_str text);
/* The end: what is held back is told, an open part ends. *calls: tool calls that were told. */
int lr_engine_reply_end(struct lr_engine_reply *r, unsigned *calls);
void lr_engine_reply_close(struct lr_engine_reply *r); /* NULL is fine */

/* ---- sampler (sampler.c) ---- */

#define LR_ENGINE_BIAS_MAX 1024u
#define LR_ENGINE_TOP_MAX  20u   /* top_logprobs */
#define LR_ENGINE_STOPS_MAX 32u  /* stop strings */
#define LR_ENGINE_STOP_MAX 1024u /* bytes of one */

struct lr_engine_bias {
    uint32_t id;
    float add;
};

/* All-zero but for temperature is plain sampling; all-zero is greedy. */
struct lr_engine_sampling {
    float temperature; /* 0: greedy, the lowest id among equals */
    float top_p;       /* 0 or 1: off */
    float min_p;       /* of the best one's probability; 0: off */
    uint32_t top_k;    /* 0: off */
    float repetition;  /* 0 or 1: off; over prompt and reply */
    float presence, frequency; /* over the reply */
    uint64_t seed;
    const struct lr_engine_bias *bias; /* (n_bias), any order, copied */
    size_t n_bias;
    bool logprobs;
    uint32_t top_logprobs; /* at most LR_ENGINE_TOP_MAX */
};
/* From a request: the members of its dialect, and min_p and repetition_penalty among the unknown ones.
 * `seed` serves when the request brings none. Bias lives in a. LR_EINVAL: out of range, err->where is
 * the member. */
int lr_engine_sampling_read(struct lr_arena *a, const struct lr_request *r, uint32_t n_vocab,
                            uint64_t seed, struct lr_engine_sampling *out, struct lr_err *err);

struct lr_engine_likely {
    uint32_t id;
    float logprob; /* natural; of the model's own distribution: see sampler.c */
};
struct lr_engine_pick {
    uint32_t id;
    float logprob;
    struct lr_engine_likely top[LR_ENGINE_TOP_MAX]; /* best first, equals by id */
    uint32_t n_top;
};

/* One a sequence. Draws once from its own stream for every token picked with a temperature: the tokens
 * do not depend on what else is in a batch. */
struct lr_engine_sampler;
int lr_engine_sampler_open(struct lr_engine_sampler **out, const struct lr_engine_sampling *o,
                           uint32_t n_vocab);
void lr_engine_sampler_close(struct lr_engine_sampler *s); /* NULL is fine */
/* Tokens of the prompt, for `repetition`. */
int lr_engine_sampler_see(struct lr_engine_sampler *s, const uint32_t *ids, size_t n);
/* mask: bit id of word id / 64 allows a token; NULL: all. LR_EINVAL: nothing is allowed, or no logit is
 * a number. The token counts as generated. */
int lr_engine_sampler_pick(struct lr_engine_sampler *s, const float *logits, const uint64_t *mask,
                           struct lr_engine_pick *out);

/* Stop strings in text that arrives in pieces. What might be the beginning of one is held back. */
struct lr_engine_stopper;
/* LR_EOVER, LR_EINVAL (an empty one). Copied. */
int lr_engine_stopper_open(struct lr_engine_stopper **out, const struct lr_str *stops, size_t n);
void lr_engine_stopper_close(struct lr_engine_stopper *s); /* NULL is fine */
/* Appends what is safe to show. *hit: the stop string that ended the text (the one that is complete
 * first, of those the longest), or -1; after a hit nothing more comes out. */
int lr_engine_stopper_feed(struct lr_engine_stopper *s, struct lr_str text, struct lr_buf *out,
                           int *hit);
/* No more text: appends what was held back. */
int lr_engine_stopper_end(struct lr_engine_stopper *s, struct lr_buf *out);

/* ---- constrained JSON (grammar.c, grammar_schema.c, grammar_mask.c) ---- */

#define LR_ENGINE_GRAMMAR_DEPTH 32u     /* objects and arrays in each other */
#define LR_ENGINE_GRAMMAR_NODES 65535u  /* of a compiled schema */

struct lr_engine_grammar; /* immutable: any number of threads may use it */

/* Any JSON object (response_format json_object). */
int lr_engine_grammar_object(struct lr_engine_grammar **out);
/* By JSON Schema; which subset, and in which spelling instances are generated: grammar_schema.c.
 * LR_EUNSUPPORTED names a keyword we do not enforce; LR_EINVAL: no schema, or one that no finite
 * document satisfies; LR_EOVER. err->where: a JSON pointer. The schema need not outlive the call. */
int lr_engine_grammar_schema(struct lr_engine_grammar **out, const struct lr_json *schema,
                             struct lr_err *err);
void lr_engine_grammar_close(struct lr_engine_grammar *g); /* NULL is fine */

/* A vocabulary in the order that masks are computed in. Immutable; of one tokeniser, which outlives
 * it. About 20 bytes a token. */
struct lr_engine_lexicon;
int lr_engine_lexicon_open(struct lr_engine_lexicon **out, const struct lr_nn_tok *tok);
void lr_engine_lexicon_close(struct lr_engine_lexicon *l); /* NULL is fine */
/* LR_EUNSUPPORTED, naming it, when some text of the grammar cannot be spelled with the vocabulary. */
int lr_engine_lexicon_check(const struct lr_engine_lexicon *l, const struct lr_engine_grammar *g,
                            struct lr_err *err);

/* Where one document stands. g outlives it. */
struct lr_engine_parse;
int lr_engine_parse_open(struct lr_engine_parse **out, const struct lr_engine_grammar *g);
void lr_engine_parse_close(struct lr_engine_parse *p); /* NULL is fine */
/* LR_EINVAL, and nothing changed, when the bytes cannot follow. LR_ENOMEM. */
int lr_engine_parse_feed(struct lr_engine_parse *p, struct lr_str bytes);
int lr_engine_parse_token(struct lr_engine_parse *p, const struct lr_engine_lexicon *l,
                          uint32_t id);
bool lr_engine_parse_complete(const struct lr_engine_parse *p); /* may end here */
bool lr_engine_parse_closed(const struct lr_engine_parse *p);   /* must end here */
/* Allowed tokens, (size of the vocabulary + 63) / 64 words: those after which the document can still be
 * completed, and the ends of generation when it may end. */
int lr_engine_parse_mask(struct lr_engine_parse *p, const struct lr_engine_lexicon *l,
                         uint64_t *mask);

/* ---- scheduler (sched.c): many conversations on one engine ----
 *
 *   submit --> waiting, by tenant --> running: tiles of prompts and single tokens in one step --> done
 *   cancel --------^---------------------^        event, vector: what is told on the way
 *
 * One thread a model; it owns the engine from open to close. Replies do not depend on the company they
 * are made in: same prompt, sampling and seed, same reply. What is submitted has been checked: the prompt
 * fits the context, and the context fits the arena, so that a job alone always ends. When memory is short
 * the kept conversations go first, then replies that began last are put aside and later fed again, to
 * the same bits; jobs that were not begun wait. */

struct lr_engine_sched;
struct lr_engine_job; /* from submit until its `done` has returned */

#define LR_ENGINE_PARALLEL_MAX 128u  /* replies at once */
#define LR_ENGINE_QUEUE_MAX    4096u /* jobs that wait */
#define LR_ENGINE_CHOICES_MAX  2048u /* prompts times choices of a job */

struct lr_engine_sched_opts {
    /* These outlive the scheduler. lexicon NULL: no job has a grammar. */
    const struct lr_nn_tok *tok;
    const struct lr_engine_template *tmpl;
    const struct lr_engine_lexicon *lexicon;
    uint32_t context;  /* tokens of a prompt and its reply; 0: the model's, or what fits the arena */
    uint32_t parallel; /* replies at once; 0: 8 */
    uint32_t queue;    /* jobs that wait; 0: 64 */
    bool forget;       /* keep no rows of finished conversations */
    /* Of every conversation; its seed is the reply's. Under a policy that evicts or chooses rows no
     * conversation begins from another's rows, and all its room is promised before it begins. */
    struct lr_engine_policy policy;
    /* The KV store's, outlives the scheduler; NULL: none. Without a policy, and unless `forget`, prompts
     * begin from the rows it has, and complete blocks of rows go there. */
    struct lr_reuse *reuse;
    uint64_t idle_ns; /* a finished conversation that the store has gives its rows up then; 0: never */
};

/* Starts the thread. LR_EOVER when `context` does not fit the arena. */
int lr_engine_sched_open(struct lr_engine_sched **out, struct lr_engine *e,
                         const struct lr_engine_sched_opts *o, struct lr_err *err);
/* Takes no more jobs; those it has may end until `drain_ns` from now, then they are cancelled. Returns
 * when the last `done` has. The engine is the caller's again. NULL is fine. */
void lr_engine_sched_close(struct lr_engine_sched *s, uint64_t drain_ns);
uint32_t lr_engine_sched_context(const struct lr_engine_sched *s);

struct lr_engine_prompt {
    const uint32_t *id;
    size_t n;
};

/* What a job took. */
struct lr_engine_bill {
    uint64_t queue_ns, prefill_ns, decode_ns; /* waiting; until the first token; from there */
    uint64_t prompt, cached, reply;           /* tokens; cached: of the prompt, found computed */
    uint64_t warm[LR_REUSE_TIERS];            /* of these, loaded from a tier of the KV store */
    uint64_t load_ns, saved_ns;               /* loading took; computing would have taken so much more */
};

struct lr_engine_ask {
    enum lr_kind kind;
    uint64_t tenant; /* shares of the machine are between tenants; so is nothing else */
    const struct lr_engine_prompt *prompts; /* copied */
    size_t n_prompts;
    char id[25]; /* of tool calls */

    /* CHAT, COMPLETION. Choice i of prompt p is number p * n + i. */
    uint32_t n;          /* choices of each prompt; 0: 1 */
    uint32_t max_tokens; /* of a reply; 0: what the context leaves */
    struct lr_engine_sampling sampling;      /* copied; further choices draw from seeds of their own */
    const struct lr_engine_grammar *grammar; /* outlives the job; NULL: none */
    const struct lr_str *stops;              /* copied */
    size_t n_stops;
    bool tools;    /* CHAT: tool calls are looked for, control tokens spelled out */
    bool no_think; /* CHAT: the prompt has closed the reasoning */

    /* EMBEDDING */
    enum lr_engine_pool pool;

    /* All on the scheduler's thread; they must not block for long nor call the scheduler, resume
     * excepted. event: PART, DELTA, PART_END, LOGPROBS, FINISH; at the end USAGE; LR_EBUSY: taken, but no
     * more of this job until resume; other errors end the job with them. vector: of prompt number i,
     * length 1. done: always last, exactly once. */
    int (*event)(void *ctx, const struct lr_event *ev);
    int (*vector)(void *ctx, size_t i, const float *v, size_t n);
    void (*done)(void *ctx, int rc, const struct lr_engine_bill *bill, const struct lr_err *err);
    void *ctx;
};

/* From any thread. LR_EOVER: longer than the context; LR_EBUSY: the queue is full; LR_ECLOSED: closing, or
 * the model failed; LR_EINVAL, LR_ENOMEM. *out before the first callback. */
int lr_engine_sched_submit(struct lr_engine_sched *s, const struct lr_engine_ask *ask,
                           struct lr_engine_job **out, struct lr_err *err);
/* Asks the job to end; its done says LR_ECANCEL unless it ended by itself first. From any thread, also
 * in a lock that callbacks take; the caller makes sure that done has not returned. */
void lr_engine_sched_cancel(struct lr_engine_sched *s, struct lr_engine_job *j);
/* There is room again for the events of a job (perhaps before the event that said LR_EBUSY has returned).
 * Likewise. */
void lr_engine_sched_resume(struct lr_engine_sched *s, struct lr_engine_job *j);

/* The bill as far as it is known: within the job's callbacks. */
void lr_engine_job_bill(const struct lr_engine_job *j, struct lr_engine_bill *out);

struct lr_engine_sched_stats {
    uint32_t waiting, running, kept; /* jobs; replies and texts; conversations */
    bool failed;                     /* the model's file changed under us: nothing is taken any more */
    uint64_t jobs, refused, preempted;
    uint64_t prompt_tokens, cached_tokens, reply_tokens; /* computed, found, made */
    uint64_t steps, step_tokens, busy_ns;                /* of the engine */
    uint64_t warm[LR_REUSE_TIERS], saved_ns; /* tokens loaded; time not spent computing, estimated */
    uint64_t warm_failed, warm_late;         /* blocks that were found and did not come: damaged, too late */
    uint64_t saved, saves_dropped;           /* blocks given to the KV store; not, for want of time or room */
    uint64_t idled;                          /* conversations that left their rows to the store */
    struct lr_engine_memory memory;
};
/* From any thread. */
void lr_engine_sched_stats(struct lr_engine_sched *s, struct lr_engine_sched_stats *out);

#endif
