/* SPDX-License-Identifier: Apache-2.0
 * larder/policy.h - a KV policy: which rows a model keeps, how many, how they are stored, which are read.
 *
 * A row is the key and value of one token for one (layer, KV head). The engine owns rows, masks,
 * attention and memory; a policy looks (taps), decides, and edits through services. Everything here is
 * C11 with <stddef.h> and <stdint.h> alone: a plug-in needs this file and no library.
 *
 *   one step of the engine
 *     need(layer, phase)         which taps this step                        no taps: no cost, no bit changed
 *     per layer  q k v > rope > rows appended > attention
 *                observe(view)   look at taps; no row has moved               (every layer, in order)
 *     after all layers: the SAFEPOINT, the only place where rows change
 *                budget(..)      rows for each table                          (at ends of prompts)
 *                edit(layer, ..) keep, write, insert ..                       (every layer, in order)
 *
 * An instance belongs to one sequence: open makes it, close frees it. A fork opens a twin and hands it
 * what save gave. Columns (floats beside each row) are kept by the engine: they move with their rows,
 * are forked, cut and saved with them. A policy whose only state is columns needs no save and no load.
 *
 * A table of policies and a stack of parts ("pyramid+snapkv:window=16+saw-int4"): docs/policies.md,
 * which also has a worked example. Roles a part may have: to give budgets (budget), to evict (edit), to
 * choose rows to read (select), to store (a codec). One part a role.
 *
 * Rules. No clock, thread, file, socket or random number but the service's: the same inputs must give
 * the same decisions, for results are compared bit for bit. Hooks are called from one thread at a time.
 * A hook that fails (negative code) fails its sequence, and no other.
 */
#ifndef LARDER_POLICY_H
#define LARDER_POLICY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Both sides compare it, and the `size` that begins every struct that crosses. */
#define LR_POLICY_ABI 1u

enum lr_policy_rc {
    LR_POLICY_OK = 0,
    LR_POLICY_ENOMEM = -4,
    LR_POLICY_EOVER = -5,         /* no room, or more rows than the budget has */
    LR_POLICY_EINVAL = -6,
    LR_POLICY_EVERSION = -8,      /* load: bytes of another version */
    LR_POLICY_EUNSUPPORTED = -19, /* this engine cannot: tiers, codecs of single rows */
};

/* Where a sequence stands when a step ends. */
enum lr_policy_phase {
    LR_POLICY_CHUNK,      /* inside a prompt: rows are edited only when the sequence is capped */
    LR_POLICY_PROMPT_END, /* the prompt's last tokens: observation windows lie in this step */
    LR_POLICY_TOKEN,      /* decoding */
    LR_POLICY_TURN_END,   /* no tokens: the reply is complete */
    LR_POLICY_PROBE,      /* tokens of the probe service: their rows vanish again */
};
#define LR_POLICY_PHASES 5u

enum lr_policy_tap {
    LR_POLICY_TAP_X = 1,     /* normalised input of the layer */
    LR_POLICY_TAP_QPRE = 2,  /* queries before rotation */
    LR_POLICY_TAP_KPRE = 4,  /* keys before rotation */
    LR_POLICY_TAP_Q = 8,     /* queries after rotation */
    LR_POLICY_TAP_AWIN = 16, /* attention of the step's last `window` tokens */
    LR_POLICY_TAP_ACOL = 32, /* attention each row got from every token so far: ask for it in every
                                phase; the sums grow query by query and do not depend on cuts */
    LR_POLICY_TAP_LSE = 64,  /* log-sum-exp of each query's logits */
    LR_POLICY_TAP_OUT = 128, /* attention output, heads side by side */
    LR_POLICY_TAP_H = 256,   /* residual stream at the layer's entry */
};
#define LR_POLICY_WINDOW_MAX 256u

enum lr_policy_flag {
    LR_POLICY_QUERY_AWARE = 1, /* decides by the prompt's last tokens: such rows serve no other
                                  question; the sequence is marked spent */
    LR_POLICY_PER_HEAD = 2,    /* heads of a layer share its budget unevenly */
    LR_POLICY_MUTATES = 4,     /* writes or inserts keys and values */
    LR_POLICY_LOSSLESS = 8,    /* never drops a row */
    LR_POLICY_TRAINED = 16,    /* needs weights of its own */
    LR_POLICY_CALIBRATED = 32, /* needs numbers measured beforehand */
    LR_POLICY_EVALUATION = 64, /* uses what only an evaluation knows: never served */
    LR_POLICY_CAPPED = 128,    /* can evict inside a prompt, so that it never grows */
};

enum lr_policy_rope { LR_POLICY_ROPE_ABS, LR_POLICY_ROPE_SLOT, LR_POLICY_ROPE_WINDOW }; /* ABS today */

/* ---- what a policy is told ---- */

struct lr_policy_model {
    uint32_t size;
    uint32_t n_layer, n_head, n_kv, d_head, n_embd, n_vocab;
    uint32_t n_ctx; /* positions it was trained for */
    float rope_base;
};

/* One row, 12 bytes. */
struct lr_policy_row {
    int32_t pos;   /* seen by queries at pos and later */
    float bias;    /* added to its logits: log(count) stands for count equal rows */
    uint16_t tag;  /* the policy's, but for LR_POLICY_TAG_KEEP */
    uint8_t tier;  /* 0 */
    uint8_t codec; /* 0: the sequence's */
};
#define LR_POLICY_TAG_KEEP 0x8000u /* protected: no keep drops the row */

struct lr_policy_need {
    uint32_t size;
    uint32_t taps;   /* enum lr_policy_tap, or-ed */
    uint32_t window; /* tokens for AWIN, at most LR_POLICY_WINDOW_MAX */
    uint32_t probes; /* reserved: 0 */
    const uint8_t *heads; /* reserved: NULL */
};

/* After a layer's attention, before any row moved. Arrays not asked for are NULL; all live until
 * observe returns. Tables are ragged: KV head k has rows[k] rows. */
struct lr_policy_view {
    uint32_t size;
    uint32_t layer, phase;
    uint32_t n_tok;       /* of this step */
    uint32_t n_win;       /* min(window, n_tok): the last ones */
    int32_t pos;          /* of the first token; the others follow */
    const uint32_t *rows; /* (n_kv), this step's included */
    const float *x, *h;   /* (n_tok, n_embd) */
    const float *qpre, *q, *out; /* (n_tok, n_head, d_head) */
    const float *kpre;    /* (n_tok, n_kv, d_head) */
    const float *lse;     /* (n_tok, n_head) */
    /* Of query head h, with k = h / (n_head / n_kv): awin[h] is (n_win, rows[k]), acol[h] (rows[k]). */
    const float *const *awin;
    const float *const *acol;
};

/* Rows at least this many mean: no limit. */
#define LR_POLICY_NO_LIMIT 0xffffffffu

struct lr_policy_split {
    uint32_t size;
    uint32_t phase;
    uint32_t len;   /* tokens fed so far */
    uint32_t rows;  /* for each table when all get the same */
};

struct lr_policy_edit {
    uint32_t size;
    uint32_t layer, phase;
    uint32_t len;    /* tokens fed so far: the next position */
    uint32_t prompt; /* length at the last end of a prompt; 0 before */
    const uint32_t *budget; /* (n_layer, n_kv) rows, LR_POLICY_NO_LIMIT where there is none */
};

/* A decoding token asks which rows of a KV head to read. */
struct lr_policy_query {
    uint32_t size;
    uint32_t layer, head; /* KV head */
    uint32_t rows;        /* of the table, the token's own (the last) included */
    int32_t pos;
    const float *q;       /* (n_head / n_kv, d_head), rotated */
};
struct lr_policy_pick {
    uint32_t size;
    uint32_t all;    /* not 0: every row; the rest is not looked at */
    uint32_t *idx;   /* out: ascending; room for `rows` of the query */
    uint32_t n;      /* out */
    uint32_t n_virtual;          /* out: rows that exist for this query alone */
    const float *xk, *xv, *xbias; /* out: (n_virtual, d_head) twice, (n_virtual); in scratch */
};

/* ---- services ---- */

struct lr_policy_seq;  /* a sequence as one instance sees it */
struct lr_policy_rows; /* one of its tables: (layer, KV head) */

/* Rows are counted from 0; appended ones come last, so positions ascend. Functions that return a
 * pointer give NULL when memory is out. Edits only inside edit(), and there only of layers up to the
 * one it is called for; elsewhere they are LR_POLICY_EINVAL. */
struct lr_policy_api {
    uint32_t size;
    uint32_t abi;
    struct lr_policy_rows *(*rows)(struct lr_policy_seq *, uint32_t layer, uint32_t head);
    uint32_t (*count)(const struct lr_policy_rows *);
    /* (count), until the hook returns. */
    const struct lr_policy_row *(*meta)(struct lr_policy_rows *);
    /* Rows [at, at + n) decoded, n * d_head floats, as write takes them. */
    int (*key)(const struct lr_policy_rows *, uint32_t at, uint32_t n, float *out);
    int (*value)(const struct lr_policy_rows *, uint32_t at, uint32_t n, float *out);
    /* Measured: whole pages, with their heads. 0 for tiers other than 0. */
    size_t (*bytes)(const struct lr_policy_rows *, uint32_t tier);
    /* The instance's column c: (count) floats, 0 for rows never written; until the next edit of the
     * table or the hook's return. */
    float *(*column)(struct lr_policy_rows *, uint32_t c);
    /* Attention that each row got so far from query head g of the group: TAP_ACOL's sums, (count). */
    const float *(*attention)(struct lr_policy_rows *, uint32_t g);

    /* Keeps rows idx[0] < idx[1] < .. and those with LR_POLICY_TAG_KEEP; the others are freed now. */
    int (*keep)(struct lr_policy_rows *, const uint32_t *idx, uint32_t n);
    /* Keeps the k rows of largest score (ties: the lower index; NaN lowest); protected rows come
     * first. Nothing to do when there are no more than k. */
    int (*keep_best)(struct lr_policy_rows *, const float *score, uint32_t k);
    /* Replaces row i's key, value (NULL: as it is) and bias. NaN and infinity are refused. */
    int (*write)(struct lr_policy_rows *, uint32_t i, const float *k, const float *v, float bias);
    /* In front of the first row with a later position; k is rotated for pos. */
    int (*insert)(struct lr_policy_rows *, int32_t pos, const float *k, const float *v, float bias,
                  uint16_t tag);
    int (*tag)(struct lr_policy_rows *, uint32_t i, uint16_t tag);
    /* Row i becomes what row order[i] was; a permutation of (count). */
    int (*permute)(struct lr_policy_rows *, const uint32_t *order);
    /* LR_POLICY_EUNSUPPORTED for what this engine cannot: tiers but 0, codecs but 0. */
    int (*move)(struct lr_policy_rows *, const uint32_t *idx, uint32_t n, uint32_t tier);
    int (*recode)(struct lr_policy_rows *, const uint32_t *idx, uint32_t n, uint32_t codec);

    /* Indices of the k largest, ascending; ties: the lower index. Returns min(k, n). */
    uint32_t (*topk)(const float *score, uint32_t n, uint32_t k, uint32_t *idx);
    /* out[i] = mean (or largest) of x[i - width/2 .. i + width/2]; outside is 0 for the mean, which
     * always divides by width (odd), and is not looked at for the largest. out is not x. */
    void (*pool)(const float *x, uint32_t n, uint32_t width, int largest, float *out);
    /* Lloyd's from k-means++ seeds: assign (n), centroid (k, d). */
    int (*kmeans)(struct lr_policy_seq *, const float *x, uint32_t n, uint32_t d, uint32_t k,
                  uint64_t seed, uint32_t *assign, float *centroid);
    /* Feeds tokens, shows their taps to observe (phase PROBE), and drops their rows. Inside edit(). */
    int (*probe)(struct lr_policy_seq *, const uint32_t *tokens, uint32_t n);
    /* Row `row` of a matrix as floats: "wq" "wk" "wv" "wo" "gate" "up" "down" of a layer, "embd",
     * "output". *n_rows, *n_cols (may be NULL) say its shape; out NULL: only that. */
    int (*weight)(struct lr_policy_seq *, uint32_t layer, const char *name, uint32_t row, float *out,
                  uint32_t *n_rows, uint32_t *n_cols);
    /* Memory until the hook returns; aligned to 16, not zeroed. */
    void *(*scratch)(struct lr_policy_seq *, size_t bytes);
    /* 64 random bits of the sequence's own stream: a seed gives the same decisions for ever. */
    uint64_t (*rng)(struct lr_policy_seq *);
};

/* ---- a policy ---- */

#define LR_POLICY_PARAMS_MAX 8u
#define LR_POLICY_COLUMNS_MAX 4u

/* "window=32": checked by the engine before open sees it. */
struct lr_policy_param {
    const char *name, *what;
    double def, min, max;
    const char *choices; /* "mean|max|sum": the value is the index, min and max are not read */
};

struct lr_policy_open {
    uint32_t size;
    uint32_t n_param;
    const struct lr_policy_api *api;     /* for the instance's life */
    const struct lr_policy_model *model; /* the same */
    const double *param;                 /* (n_param), in the order of the policy's list */
};

struct lr_policy {
    uint32_t abi, size; /* LR_POLICY_ABI, sizeof(struct lr_policy) */
    uint32_t flags;     /* enum lr_policy_flag, or-ed */
    uint32_t rope;      /* enum lr_policy_rope */
    const char *name;   /* a-z, digits, '-'; at most 31 */
    const char *what;   /* a sentence */
    const struct lr_policy_param *params; /* (n_params) */
    uint32_t n_params, param_size;        /* sizeof(struct lr_policy_param), 0 with no params */
    uint32_t columns;                     /* floats beside each row */

    /* Both or none: without them hooks get st == NULL. */
    int (*open)(void **st, const struct lr_policy_open *);
    void (*close)(void *st);
    /* Constant for an instance but for what observe and edit changed. NULL: no taps. */
    int (*need)(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out);
    /* Shares split->rows * n_layer * n_kv rows among tables; the sum must not grow, none may be 0. */
    int (*budget)(void *st, struct lr_policy_seq *, const struct lr_policy_split *, uint32_t *rows);
    int (*observe)(void *st, struct lr_policy_seq *, const struct lr_policy_view *);
    /* No table may have more rows than its budget when it returns (PER_HEAD: no layer). */
    int (*edit)(void *st, struct lr_policy_seq *, const struct lr_policy_edit *);
    int (*select)(void *st, struct lr_policy_seq *, const struct lr_policy_query *,
                  struct lr_policy_pick *);
    /* Rows at position len and later are gone. For state that is not in columns. */
    int (*cut)(void *st, struct lr_policy_seq *, uint32_t len);
    /* State as bytes: *n is the room in, the bytes out; buf NULL: only how many. */
    int (*save)(void *st, void *buf, size_t *n);
    int (*load)(void *st, const void *buf, size_t n);

    /* Reserved for layers that read another layer's rows, for step caches and for search trees: NULL. */
    void (*share)(void), (*step)(void), (*stepped)(void), (*tree)(void);
};

/* ---- a codec ---- */

/* Rows as one of the engine's types, behind transforms that work in place on one head of d elements.
 * A rotation of keys has enc_k, dec_k (its inverse) and qx (what queries go through before they meet
 * stored keys); one of values enc_v, dec_v, and ox on outputs. enc without dec is refused. */
struct lr_policy_codec {
    uint32_t abi, size;
    const char *name, *what;
    const char *k, *v;    /* "F32" "F16" "Q8_0" "Q4_0" "I4R" ...: types of rows */
    uint32_t group;       /* rows that share a scale: 1 */
    uint32_t lossy;       /* not 0: encoding twice loses twice; policies that mutate are refused */
    void (*enc_k)(float *k, size_t d);
    void (*dec_k)(float *k, size_t d);
    void (*enc_v)(float *v, size_t d);
    void (*dec_v)(float *v, size_t d);
    void (*qx)(float *q, size_t d);
    void (*ox)(float *o, size_t d);
    void (*dot)(void); /* reserved: NULL */
};

/* ---- a plug-in ---- */

/* What the one exported function of a plug-in returns: static tables, NULL-terminated (a list may be
 * NULL). The engine never unloads a plug-in. */
struct lr_policy_plugin {
    uint32_t abi, size;
    const struct lr_policy *const *policies;
    const struct lr_policy_codec *const *codecs;
};
#define LR_POLICY_ENTRY "lr_policy_plugin"
#if defined(__GNUC__)
#define LR_POLICY_EXPORT __attribute__((visibility("default")))
#else
#define LR_POLICY_EXPORT
#endif
/* Declared for plug-ins; abi is the engine's. */
LR_POLICY_EXPORT const struct lr_policy_plugin *lr_policy_plugin(uint32_t abi);

#ifdef __cplusplus
}
#endif

#endif
