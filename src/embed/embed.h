/* SPDX-License-Identifier: Apache-2.0
 * embed/embed.h - text in, unit vectors out; two questions in, "the same?" out.
 *
 *   struct lr_embed_model *e;      one a model: immutable, shared by any number of threads
 *   struct lr_embed_scratch *s;    one a thread: what a call computes in
 *
 *   lr_embed_open(&e, "small.gguf", NULL, &err);
 *   lr_embed_scratch_open(e, &s);
 *   lr_embed_encode(e, s, texts, n, vectors, notes, &err);
 *
 *   kind         what it is                                       a question of 12 tokens costs
 *   static       weighted mean of a vector a token                microseconds
 *   transformer  BERT, mean or CLS pooling, int8 weights          about a millisecond
 *   remote       POST /v1/embeddings of somebody else             a round trip; a failure is a miss
 *   pair         a BERT that reads both questions at once         about two milliseconds
 *
 * Files: GGUF with the architecture "bert" or "larder-static", or a folder as Hugging Face lays it
 * out (config.json, vocab.txt, model.safetensors; optional 1_Pooling/config.json,
 * sentence_bert_config.json, tokenizer_config.json); docs/formats/embed.md. Tokenisers: WordPiece.
 * An encoder keeps copies of all it needs: the file may vanish afterwards. Whatever the bytes, an
 * open ends with an encoder or with one error that says what is wrong (err->msg) and where.
 *
 * Identity. info->id is a digest of weights, vocabulary and settings as they are used, not of the
 * container: a folder and the GGUF made from it have one id, whatever the CPU. It is stored beside
 * every vector; vectors of different ids are never compared. Vectors of the same id agree bit for
 * bit on CPUs with fused multiply-add, to about 1e-2 in the cosine elsewhere (`exact` included).
 *
 * Batches. A text's vector is the same, bit for bit, alone and in any company.
 *
 * Maxima. A text is read up to its first info->tokens_max tokens and LR_EMBED_TOKEN_BYTES bytes for
 * each of these; what is longer is cut there and flagged. Malformed UTF-8 is skipped.
 */
#ifndef LR_EMBED_EMBED_H
#define LR_EMBED_EMBED_H

#include "base/base.h"
#include "nn/nn.h"

struct lr_net;

#define LR_EMBED_DIM_MAX     4096u       /* of vectors and of hidden states; = LR_VEC_DIM_MAX */
#define LR_EMBED_TOKENS_MAX  8192u       /* tokens of a text or pair, specials included */
#define LR_EMBED_TOKEN_BYTES 16u         /* bytes of a text that are read, a token of tokens_max */
#define LR_EMBED_LAYERS_MAX  64u
#define LR_EMBED_FF_MAX      16384u      /* width of a feed-forward layer */
#define LR_EMBED_BYTES_MAX   LR_GIB(2)   /* weights of an encoder in memory */
#define LR_EMBED_BATCH_MAX   256u        /* texts of one request to a remote encoder */
#define LR_EMBED_REMOTE_TEXT LR_KIB(64)  /* bytes of a text that are sent to one */
#define LR_EMBED_JSON_MAX    LR_MIB(1)   /* of each JSON file of a folder */
#define LR_EMBED_VOCAB_MAX   LR_MIB(16)  /* bytes of vocab.txt */

enum lr_embed_kind { LR_EMBED_STATIC, LR_EMBED_BERT, LR_EMBED_REMOTE, LR_EMBED_PAIR };
enum lr_embed_pooling { LR_EMBED_MEAN = 1, LR_EMBED_CLS = 2, LR_EMBED_RANK = 4 }; /* GGUF's */

struct lr_embed_model;
struct lr_embed_scratch;

struct lr_embed_opts {
    bool exact;          /* transformer: weights as in the file and products in f32, not int8:
                            slower; part of the id */
    uint32_t tokens_max; /* fewer than the model's own; 0 = that. Part of the id */
};

struct lr_embed_info {
    enum lr_embed_kind kind;
    uint32_t dim;        /* elements of a vector; a pair verifier: 0 */
    uint32_t tokens_max; /* of a text (pair: of both together), specials included; remote: 0 */
    uint32_t layers;     /* 0: static, remote */
    uint32_t hidden;     /* elements of a state; static: of a row of the table */
    uint64_t weights;    /* numbers */
    uint64_t bytes;      /* of memory, shared by all threads */
    struct lr_digest id;
    char name[64];       /* general.name, the folder's name, or the remote model's; printable */
};

/* ---- Opening ----------------------------------------------------------------------------------*/

/* A GGUF file or a folder. Encoders only: a pair verifier is LR_EUNSUPPORTED here. opts, err may be
 * NULL. LR_EPARSE malformed or contradictory, LR_EOVER over a maximum, LR_EUNSUPPORTED another
 * architecture, activation, tokeniser or tensor type; LR_ENOENT, LR_EIO, LR_ENOMEM, LR_ECORRUPT. */
int lr_embed_open(struct lr_embed_model **out, const char *path, const struct lr_embed_opts *opts,
                  struct lr_err *err);
/* Of an open file, which may be closed afterwards. */
int lr_embed_open_gguf(struct lr_embed_model **out, const struct lr_nn_gguf *g,
                       const struct lr_embed_opts *opts, struct lr_err *err);
/* NULL is fine. */
void lr_embed_close(struct lr_embed_model *e);

const struct lr_embed_info *lr_embed_info(const struct lr_embed_model *e);

/* All the memory calls need, but a few kilobytes of token ids: calls do not fail for want of it.
 * One thread at a time. */
int lr_embed_scratch_open(const struct lr_embed_model *e, struct lr_embed_scratch **out);
void lr_embed_scratch_close(struct lr_embed_scratch *s); /* NULL is fine */

/* Models that come with the program (models/): the encoder's file holds a pair verifier too. */
#define LR_EMBED_SHIPPED_STATIC  "larder-static.gguf"
#define LR_EMBED_SHIPPED_ENCODER "larder-encoder.gguf"
/* The path of one of these; LR_ENOENT: it was not installed. */
int lr_embed_shipped(const char *file, char *out, size_t cap);

/* ---- Encoding ---------------------------------------------------------------------------------*/

struct lr_embed_note {
    uint32_t tokens;  /* that made the vector, specials included; remote: 0 */
    uint32_t unknown; /* words outside the vocabulary: all alike to the model; remote: 0 */
    bool cut;         /* the text goes on behind them; remote: behind what was sent */
    bool empty;       /* nothing in it has a vector: all zeros, which lr_vec_put refuses: a miss */
};

/* vectors: (n, dim), of unit length or all zeros. notes (n) and err may be NULL. Any n. On an error
 * vectors and notes are undefined. Local kinds: LR_ENOMEM. Remote: see below; never later than the
 * deadline. s belongs to e. */
int lr_embed_encode(const struct lr_embed_model *e, struct lr_embed_scratch *s,
                    const struct lr_str *texts, size_t n, float *vectors,
                    struct lr_embed_note *notes, struct lr_err *err);

/* Multiplies vectors by `head` (dim_out rows of dim_in elements) and brings them to unit length:
 * what an encoder does whose file has a head. Zeros stay zeros. */
void lr_embed_project(const float *head, uint32_t dim_in, uint32_t dim_out, const float *in,
                      size_t n, float *out);

/* ---- Remote -----------------------------------------------------------------------------------
 * No retry: the caller goes on without the vector. Waits on the calling thread (a worker, never an
 * event thread) until the answer or the deadline. Many texts are several requests under that one
 * deadline; texts of nothing but blanks are not sent. */

struct lr_embed_remote {
    struct lr_net *net;   /* outlives the encoder */
    const char *url;      /* of /v1/embeddings itself */
    const char *model;    /* name in the request */
    const char *auth;     /* value of the authorization header, or NULL; a secret: never logged */
    uint32_t dim;         /* elements of its vectors; another number is LR_EVERSION */
    bool send_dim;        /* ask for `dimensions`: for models that can be asked */
    const char *revision; /* or NULL: to be changed by the operator when the model behind the name
                             changes: its weights cannot be digested, the id is of url, model, dim
                             and this */
    uint64_t deadline_ms; /* of a call, at most an hour; 0 = 2000 */
    const char *proxy, *no_proxy, *ca_file; /* as in lr_net_route */
};

/* Strings are copied. LR_EINVAL, LR_ENOMEM. Calls end with LR_ETIMEOUT, LR_ENET, LR_EDNS, LR_ETLS,
 * LR_EDENIED (401, 403), LR_EBUSY (429, 503, too many requests of ours), LR_EIO (another status),
 * LR_EPARSE (no such answer), LR_EVERSION (another dimension), LR_EOVER (an answer far longer than
 * its vectors), LR_ENOMEM, LR_ECLOSED. */
int lr_embed_open_remote(struct lr_embed_model **out, const struct lr_embed_remote *r,
                         struct lr_err *err);
/* The answer's vectors, brought to unit length, in the order of their "index". For tests too. */
int lr_embed_remote_parse(struct lr_str json, size_t n, uint32_t dim, float *vectors,
                          struct lr_err *err);

/* ---- Pair verifier ----------------------------------------------------------------------------*/

struct lr_embed_pair;

/* A file or folder whose BERT ends in a classifier of one or two outputs. */
int lr_embed_pair_open(struct lr_embed_pair **out, const char *path,
                       const struct lr_embed_opts *opts, struct lr_err *err);
int lr_embed_pair_open_gguf(struct lr_embed_pair **out, const struct lr_nn_gguf *g,
                            const struct lr_embed_opts *opts, struct lr_err *err);
void lr_embed_pair_close(struct lr_embed_pair *p); /* NULL is fine */
const struct lr_embed_info *lr_embed_pair_info(const struct lr_embed_pair *p);
int lr_embed_pair_scratch_open(const struct lr_embed_pair *p, struct lr_embed_scratch **out);

/* A question and what was said before it (the last turns, oldest first; may be empty). Of a pair
 * that is too long each side keeps half of the room, or what the other leaves: the question from
 * its start, then the last of what was said before. */
struct lr_embed_side {
    struct lr_str question, before;
};
struct lr_embed_two {
    struct lr_embed_side a, b;
};
struct lr_embed_verdict {
    float p;         /* probability that an answer to one answers the other: sigmoid(scale * logit +
                        bias) with the calibration in the file; in (0, 1) */
    float logit;     /* before it */
    uint32_t tokens, unknown;
    bool cut;
};

/* Symmetric: (a, b) and (b, a) have the same verdict, bit for bit. LR_ENOMEM. */
int lr_embed_pair_judge(const struct lr_embed_pair *p, struct lr_embed_scratch *s,
                        const struct lr_embed_two *pairs, size_t n, struct lr_embed_verdict *out,
                        struct lr_err *err);
/* The calibration in use. */
void lr_embed_pair_calibration(const struct lr_embed_pair *p, float *scale, float *bias);

/* ---- Files ------------------------------------------------------------------------------------*/

struct lr_embed_convert {
    enum lr_nn_type type; /* of matrices: F32, F16 or Q8_0 (then the int8 encoder of the folder and
                             of the file have one id). 0 = F32 */
    const char *licence;  /* general.license, or NULL */
};
/* A folder into a GGUF file (written beside and renamed). Also rewrites GGUF in another type. */
int lr_embed_convert(const char *from, const char *to, const struct lr_embed_convert *opts,
                     struct lr_err *err);

/* ---- Training on pairs of a user's own --------------------------------------------------------*/

/* Pairs of questions and whether they ask the same. From CSV (RFC 4180) with a header that names
 * question1, question2 and is_duplicate (0 or 1), in any order, among other columns. */
struct lr_embed_pairs {
    struct lr_embed_labelled {
        struct lr_str a, b;
        bool same;
    } *pair; /* owned, texts too */
    size_t n;
    struct lr_arena arena;
};
#define LR_EMBED_CSV_MAX   LR_MIB(512)
#define LR_EMBED_PAIRS_MAX ((size_t)1 << 22)
/* LR_EPARSE with "line N". */
int lr_embed_pairs_parse(struct lr_embed_pairs *out, struct lr_str csv, struct lr_err *err);
int lr_embed_pairs_read(struct lr_embed_pairs *out, const char *path, struct lr_err *err);
void lr_embed_pairs_free(struct lr_embed_pairs *p);

/* What a threshold does on labelled scores. */
struct lr_embed_quality {
    float threshold; /* "same" from here on, chosen for the best F1 (lowest of equals) */
    float precision, recall, f1, accuracy;
    float recall_p95; /* best recall at a precision of 0.95 or more; 0: never */
};
/* scores and labels of n pairs; order (n) is scratch. threshold NULL: choose; else use *threshold
 * for the first five. */
void lr_embed_quality(const float *score, const bool *same, size_t n, uint32_t *order,
                      const float *threshold, struct lr_embed_quality *out);

struct lr_embed_train_step { /* for progress */
    unsigned epoch, epochs;
    size_t pairs;          /* seen in all */
    double loss;           /* mean of the epoch so far */
    bool epoch_done;       /* then quality is of the validation pairs */
    struct lr_embed_quality quality;
};

struct lr_embed_train {
    const char *model; /* GGUF. Static: the table is tuned; transformer: a head is (made or tuned
                          further); pair verifier: its last layers and calibration are */
    bool pair;         /* of a file that holds an encoder and a verifier: the verifier */
    uint32_t layers;   /* pair verifier: how many of its last layers, with the classifier; 0: only
                          its calibration */
    const char *to;    /* the file to write */
    const struct lr_embed_pairs *train;
    const struct lr_embed_pairs *val; /* picks the best epoch and the threshold; NULL: train */
    unsigned epochs;      /* 0 = 4; verifier 2 */
    unsigned batch;       /* pairs; 0 = 128; verifier: 32, at most 64 */
    float rate;           /* Adam's; 0 = 2e-3 (static), 5e-4 (head), 8e-5 (verifier) */
    float contrast;       /* weight of the in-batch softmax; 0 = 0.3, below 0 = none */
    float drop;           /* part of the tokens left out at random while training; 0..0.9 */
    uint32_t head_dim;    /* head: outputs when the file has none; 0 = as many as the states */
    uint64_t seed;        /* the same seed gives the same file */
    /* Called after each 64 batches and each epoch; another value than 0 ends it with LR_ECANCEL. */
    int (*on_step)(void *ctx, const struct lr_embed_train_step *step);
    void *ctx;
};
struct lr_embed_trained {
    struct lr_embed_quality before, after; /* on val, thresholds chosen there */
    unsigned best_epoch;                   /* from 1; 0: nothing was better than before */
    double loss;                           /* of that epoch */
    float scale, bias;                     /* sigmoid(scale * score + bias) = P(same) on val */
};
/* Minutes. One thread. LR_EINVAL for opts or empty sets, those of open and of files, LR_ECANCEL. */
int lr_embed_train(const struct lr_embed_train *t, struct lr_embed_trained *out,
                   struct lr_err *err);

/* The k main directions of n vectors (unit rows first to last by variance), for a head that keeps
 * most of what they differ in: head (k, dim). Means are taken off for finding them, not when they
 * are used (as in MeanCache). LR_EINVAL unless 1 <= k <= dim <= 1024 and n >= 2; LR_ENOMEM. */
int lr_embed_pca(const float *vectors, size_t n, uint32_t dim, uint32_t k, float *head,
                 double *kept);
/* Copies a model file with this head in the place of its own: head (dim_out, hidden). */
int lr_embed_set_head(const char *from, const char *to, const float *head, uint32_t dim_out,
                      struct lr_err *err);

#endif
