/* SPDX-License-Identifier: Apache-2.0
 * embed/embed_int.h - what the files of embed/ share.
 *
 *   embed.c (doors)   uses  bert.c static.c remote.c
 *   pair.c            uses  bert.c
 *   bert.c static.c   use   source.c (tensors)  meta.c (metadata of GGUF)  folder.c (Hugging Face)
 *   write.c           uses  source.c meta.c folder.c
 *   train.c           uses  tune.c (loss and its gradient)  pairs.c pca.c write.c and the doors
 *   train_pair.c      uses  deep.c (likewise)  bert.c pairs.c write.c
 */
#ifndef LR_EMBED_EMBED_INT_H
#define LR_EMBED_EMBED_INT_H

#include "embed/embed.h"
#include "kern/kern.h"

#include <assert.h>
#include <math.h>

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

#define ARCH_BERT   "bert"
#define ARCH_STATIC "larder-static"
#define PAIR_PREFIX "pair."
#define MODEL_NAME_MAX   64u

/* ---- What a file says, numbers checked against their maxima: meta.c, folder.c ---- */

struct spec {
    enum lr_embed_kind kind;       /* STATIC, BERT, or PAIR: a BERT with a classifier */
    bool both;                     /* BERT: "pair." tensors make a verifier of it as well */
    uint32_t n_layer, n_embd, n_head, n_ff;
    uint32_t n_ctx;                /* positions; static: tokens of a text */
    uint32_t tokens_max;           /* <= n_ctx */
    float eps;                     /* of layer norms */
    enum lr_embed_pooling pooling;
    float scale, bias;             /* calibration of a pair verifier */
    char name[MODEL_NAME_MAX];
};

/* ---- source.c: where tensors come from ---- */

struct source {
    const struct lr_nn_gguf *g; /* or */
    const struct lr_nn_st *st;
    const char *prefix;         /* of the names in st: "" or "bert." */
    bool pair;                  /* g: "pair." in front of a name goes first (a file of both) */
    struct lr_err *err;
    struct lr_blake3 id;        /* everything read goes in; started by the caller */
    uint64_t *bytes, *weights;  /* counted on */
    size_t used;                /* tensors found */
};

/* A matrix of our own memory. */
struct matrix {
    struct lr_kern_rows rows;
    uint32_t cols;
    void *own;
};

void lr_embed_source_st(struct source *s, const struct lr_nn_st *st, struct lr_err *err);
/* By the GGUF name; NULL when there is none. */
const struct lr_nn_tensor *lr_embed_source_find(const struct source *s, const char *name);
/* A tensor of those dimensions (rows == 0: a vector); optional: *out = NULL and 0 when absent. */
int lr_embed_source_get(struct source *s, const char *name, uint64_t cols, uint64_t rows,
                        bool optional, const struct lr_nn_tensor **out);
/* exact: as in the file; else floats become Q8_0 where rows are whole blocks. */
int lr_embed_source_matrix(struct source *s, const char *name, uint32_t cols, uint32_t rows,
                           bool exact, struct matrix *out);
/* As floats, rows * cols (rows == 0: cols); NULL when optional and absent. Finite or LR_EPARSE. */
int lr_embed_source_floats(struct source *s, const char *name, uint32_t cols, uint32_t rows,
                           bool optional, float **out);
/* All tensors of the file were asked for: else LR_EUNSUPPORTED, naming one. GGUF only. */
int lr_embed_source_rest(const struct source *s, bool (*known)(struct lr_str name));
void lr_embed_matrix_free(struct matrix *m);
/* Adds what decides about tokens: all texts and types, and how a probe is cut. */
int lr_embed_tok_digest(const struct lr_nn_tok *tok, struct lr_blake3 *h, struct lr_err *err);

/* ---- meta.c: GGUF ---- */

int lr_embed_meta_read(struct spec *out, const struct lr_nn_gguf *g, struct lr_err *err);
/* WordPiece with the specials it needs (cls, sep: unless static). */
int lr_embed_meta_tok(struct lr_nn_tok **out, const struct lr_nn_gguf *g, const struct spec *spec,
                      struct lr_err *err);
int lr_embed_meta_put(struct lr_nn_gguf_writer *w, const struct spec *spec);
/* LR_EUNSUPPORTED unless WordPiece with what the kind needs. */
int lr_embed_tok_check(const struct lr_nn_tok *tok, const struct spec *spec, struct lr_err *err);

/* ---- folder.c: Hugging Face ---- */

/* The small files of a folder; {NULL, 0}: absent. */
struct folder_texts {
    struct lr_str config, vocab, pooling, sentence, tokenizer, modules;
};
struct folder {
    struct spec spec;
    struct lr_nn_st *st;
    struct lr_nn_vocab vocab;  /* arrays below */
    struct lr_str *tokens;     /* owned array, texts in `arena` */
    int32_t *types;            /* owned */
    struct lr_arena arena;
    struct lr_buf files[6];    /* in the order of folder_texts */
};
/* Spec and vocabulary, without weights. f is zeroed; lr_embed_folder_close in any case. */
int lr_embed_folder_parse(struct folder *f, const struct folder_texts *t, struct lr_err *err);
int lr_embed_folder_open(struct folder *f, const char *path, struct lr_err *err);
void lr_embed_folder_close(struct folder *f);

/* ---- bert.c ---- */

struct block {
    struct matrix q, k, v, out, up, down;
    float *bq, *bk, *bv, *bout, *bup, *bdown;        /* owned */
    float *norm1_w, *norm1_b;                        /* owned; after attention */
    float *norm2_w, *norm2_b;                        /* owned; after feed-forward */
};

struct bert {
    struct spec spec;
    bool exact;
    struct lr_nn_tok *tok;
    struct lr_nn_roles roles;
    struct matrix embd;
    uint32_t n_vocab, n_types;
    float *pos, *type, *norm_w, *norm_b; /* (n_ctx, n_embd), (n_types, n_embd), (n_embd) twice */
    struct block *blocks;
    float *head;                         /* (dim, n_embd) or NULL */
    uint32_t dim;
    float *pool_w, *pool_b, *cls_w, *cls_b; /* classifier: (n_embd, n_embd), (n_cls, n_embd) .. */
    uint32_t n_cls;                      /* 1 or 2 */
    float *ones;                         /* (n_embd) */
};

/* One sequence of a batch. */
struct span {
    uint32_t first, n; /* tokens */
    uint32_t text;     /* the caller's number */
};

struct lr_embed_scratch {
    struct lr_nn_ids ids[4]; /* of a text; of a pair: question and before of either side */
    uint32_t tokens_max;  /* of a batch */
    uint32_t *token;      /* (tokens_max) */
    uint8_t *segment;     /* (tokens_max) */
    struct span *spans;   /* (tokens_max) */
    uint32_t n_tokens, n_spans;
    float *x, *q, *k, *v, *att, *tmp; /* (tokens_max, ..) */
    float *up;            /* (tokens of a product, n_ff) */
    float *score;         /* (QUERIES, tokens of a text) */
    float *row;           /* (LR_EMBED_DIM_MAX) */
    float *row2;          /* likewise */
    void *kern;           /* LR_KERN_SCRATCH */
    void *act;            /* records of a product's tokens; NULL: products in floats */
    void *block;          /* all of the above */
};

/* Reads tensors from s; tok becomes the net's, even on errors. */
int lr_embed_bert_open(struct bert *b, const struct spec *spec, struct source *s,
                       struct lr_nn_tok *tok, bool exact);
void lr_embed_bert_close(struct bert *b);
int lr_embed_bert_scratch(const struct bert *b, struct lr_embed_scratch **out);
/* States of all tokens of s->token[0..n_tokens) in s->x, sequences as in s->spans. */
void lr_embed_bert_run(const struct bert *b, struct lr_embed_scratch *s);
/* The same of the first `layers` only. */
void lr_embed_bert_run_to(const struct bert *b, struct lr_embed_scratch *s, uint32_t layers);
int lr_embed_bert_encode(const struct bert *b, struct lr_embed_scratch *s,
                         const struct lr_str *texts, size_t n, float *vectors,
                         struct lr_embed_note *notes, struct lr_err *err);
/* The same up to pooling: (n, n_embd), no head, no normalising. */
int lr_embed_bert_pool(const struct bert *b, struct lr_embed_scratch *s,
                       const struct lr_str *texts, size_t n, float *pooled,
                       struct lr_embed_note *notes, struct lr_err *err);
bool lr_embed_bert_known(struct lr_str name);
/* Reads text into ids (cut as embed.h says). */
int lr_embed_tokens(const struct lr_nn_tok *tok, struct lr_str text, uint32_t tokens_max,
                    struct lr_nn_ids *ids, bool *cut, struct lr_err *err);
/* Brings x to unit length; false: it has none, and is all zeros now. */
bool lr_embed_unit(float *x, size_t n);

/* ---- static.c ---- */

struct table {
    struct spec spec;
    struct lr_nn_tok *tok;
    struct matrix rows;
    uint32_t n_vocab;
    float *weight; /* (n_vocab): 0 for tokens that have no vector */
    float *head;   /* (dim, n_embd) or NULL */
    uint32_t dim;
};
int lr_embed_table_open(struct table *t, const struct spec *spec, struct source *s,
                        struct lr_nn_tok *tok, bool exact);
void lr_embed_table_close(struct table *t);
int lr_embed_table_scratch(const struct table *t, struct lr_embed_scratch **out);
int lr_embed_table_encode(const struct table *t, struct lr_embed_scratch *s,
                          const struct lr_str *texts, size_t n, float *vectors,
                          struct lr_embed_note *notes, struct lr_err *err);

/* ---- remote.c ---- */

struct remote; /* owned by its model */
void lr_embed_remote_close(struct remote *r);
int lr_embed_remote_encode(const struct remote *r, const struct lr_str *texts, size_t n,
                           uint32_t dim, float *vectors, struct lr_embed_note *notes,
                           struct lr_err *err);

/* ---- embed.c ---- */

struct lr_embed_model {
    struct lr_embed_info info;
    struct bert bert;
    struct table table;
    struct remote *remote;
};
/* Opens any local kind, pair verifiers included. pair: of a file that holds both, the verifier. */
int lr_embed_open_any(struct lr_embed_model **out, const char *path, bool pair,
                      const struct lr_embed_opts *opts, struct lr_err *err);
int lr_embed_open_any_gguf(struct lr_embed_model **out, const struct lr_nn_gguf *g, bool pair,
                           const struct lr_embed_opts *opts, struct lr_err *err);
int lr_embed_open_any_folder(struct lr_embed_model **out, const struct folder *f,
                             const struct lr_embed_opts *opts, struct lr_err *err);
/* Gives scratch with nothing but ids. */
int lr_embed_scratch_new(struct lr_embed_scratch **out, size_t ids_max);
bool lr_embed_is_folder(const char *path);

/* ---- write.c ---- */

struct rewrite {
    const char *from, *to;
    int type;                 /* enum lr_nn_type of matrices that are floats; -1: as they are */
    const char *licence;
    struct rewrite_tensor {
        char name[64];
        const float *data;
        uint32_t cols, rows;  /* rows 0: a vector */
        enum lr_nn_type type;
    } *put;                   /* in the place of those of their names, or added */
    size_t n_put;
    struct rewrite_real {
        const char *key;
        float value;
    } real[4];
    size_t n_real;
};
int lr_embed_rewrite(const struct rewrite *r, struct lr_err *err);

/* ---- tune.c: the loss and its gradient ---- */

/* Parameters, all in one row of floats, so that one optimiser serves all:
 *   [scale, offset | head (dim_out * dim_in) | token weights (vocab) | table (vocab * dim_in)]
 * A text is a list of tokens (static) or a vector (transformer: dim_in floats, no table). */
struct tune {
    uint32_t dim_in, dim_out; /* dim_out: of the head; without one = dim_in */
    uint32_t vocab;           /* 0: texts are vectors */
    bool has_head;
    float contrast;           /* weight of the in-batch softmax */
    float *param;             /* owned by the caller: lr_embed_tune_params(t) */
};
struct tune_text {
    const uint32_t *ids;
    uint32_t n;               /* of ids; table only */
    const float *vector;      /* no table only */
    uint64_t hash;            /* equal texts have equal ones */
};
struct tune_pair {
    struct tune_text a, b;
    bool same;
};
size_t lr_embed_tune_params(const struct tune *t);
size_t lr_embed_tune_head_at(const struct tune *t);
size_t lr_embed_tune_weight_at(const struct tune *t);
size_t lr_embed_tune_table_at(const struct tune *t);
struct tune_work; /* doubles for a batch */
int lr_embed_tune_open(struct tune_work **out, const struct tune *t, size_t batch_max);
void lr_embed_tune_close(struct tune_work *w);
/* Mean loss of a batch; its gradient is ADDED to grad (same layout as param; NULL: loss only). */
double lr_embed_tune_loss(const struct tune *t, struct tune_work *w, const struct tune_pair *pairs,
                          size_t n, float *grad);
/* Cosine of a pair as the model of these parameters gives it (0 when a side has none). */
double lr_embed_tune_score(const struct tune *t, struct tune_work *w, const struct tune_pair *pair);

/* ---- train_pair.c ---- */

/* m: t's model, a verifier. */
int lr_embed_train_pair(const struct lr_embed_train *t, const struct lr_embed_model *m,
                        struct lr_embed_trained *out, struct lr_err *err);

/* ---- deep.c: the last layers of a pair verifier, and their gradient ---- */

#define LR_EMBED_DEEP_TOKENS 64u /* of a pair in training: longer ones are cut */
#define LR_EMBED_DEEP_PAIRS  64u /* of a batch: some 0.9 GB at six layers of 384 */

/* Parameters in one row of floats: [layer .. | pooler matrix, bias | classifier, bias]. */
struct deep {
    uint32_t d, ff, heads, n_layer; /* n_layer: of those that learn, the last of the model */
    bool pooler;
    float eps;
    float *param; /* owned by the caller: lr_embed_deep_params(p) */
};
struct deep_batch {
    const struct span *spans;
    uint32_t n_spans, n_tokens; /* a span has at most LR_EMBED_DEEP_TOKENS */
    const float *x;             /* (n_tokens, d): states below the first layer that learns */
    const bool *same;           /* (n_spans) */
};
size_t lr_embed_deep_layer(const struct deep *p);
size_t lr_embed_deep_params(const struct deep *p);
/* From the model, whose classifier has one output. */
void lr_embed_deep_from(const struct deep *p, const struct bert *b);
/* As tensors of a file, "PREFIXblk.N.."; out: 16 a layer and 4. Their data stay p's. */
size_t lr_embed_deep_tensors(const struct deep *p, const struct bert *b, const char *prefix,
                             struct rewrite_tensor *out);
struct deep_work;
int lr_embed_deep_open(struct deep_work **out, const struct deep *p, uint32_t pairs);
void lr_embed_deep_close(struct deep_work *w); /* NULL is fine */
/* Mean loss of a batch, its logits, its gradient (in the place of what grad held; NULL: none). */
double lr_embed_deep_run(const struct deep *p, struct deep_work *w, const struct deep_batch *b,
                         float *logits, float *grad);

/* P(same) = sigmoid(scale * score + bias) of greatest likelihood; a weak pull to (1, 0) keeps
 * separable sets finite. Newton, in doubles; n >= 1. */
void lr_embed_fit_logistic(const float *score, const bool *same, size_t n, double *scale,
                           double *bias);

#endif
