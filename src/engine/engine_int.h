/* SPDX-License-Identifier: Apache-2.0
 * engine/engine_int.h - what the files of engine/ share.
 *
 *   forward.c  (one step)     uses  attn.c  model.c  team.c
 *   seq.c, engine.c           use   rows.c  forward.c
 *   rows.c, rows_save.c       use   page.c
 *   random.c                  nn/ only
 */
#ifndef LR_ENGINE_ENGINE_INT_H
#define LR_ENGINE_ENGINE_INT_H

#include "engine/engine.h"

#include <assert.h>
#include <math.h>

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define PAGE_ROWS LR_ENGINE_PAGE_ROWS

/* ---- model.c ---- */

struct layer {
    struct lr_kern_rows wq, wk, wv, wo, gate, up, down; /* of the file */
    /* Owned; NULL where the model has none. */
    float *attn_norm, *ffn_norm;   /* (n_embd) */
    float *bq, *bk, *bv, *bo;      /* (n_head * d_head), (n_kv * d_head) twice, (n_embd) */
    float *q_norm, *k_norm;        /* (d_head) */
};

struct lr_engine_model {
    struct lr_engine_shape shape;
    struct lr_nn_gguf *file;
    struct lr_kern_rope rope;
    float *rope_factors;           /* owned or NULL */
    struct lr_kern_rows embd, output;
    float *out_norm;               /* (n_embd) */
    struct layer *layers;          /* (n_layer) */
    uint64_t bytes_weights;
};

/* ---- page.c: the arena ---- */

/* Pages start at multiples of a granule and are whole numbers of them. */
#define GRANULE 512u

struct arena {
    char *base;
    uint64_t granules;          /* of the arena */
    uint64_t used;              /* granules in pages */
    uint64_t promised;          /* granules of admitted sequences, not in pages yet */
    uint64_t warm;              /* free granules that may still be resident */
    uint64_t warm_max;          /* of them, in bytes */
    uint64_t *used_map, *warm_map; /* a bit a granule */
    uint64_t cursor;            /* where the next search without a hint begins */
};

int lr_engine_arena_open(struct arena *a, uint64_t bytes);
void lr_engine_arena_close(struct arena *a);
/* n granules in a row, at `hint` if they are free there (0: no wish). NULL: none. */
void *lr_engine_arena_take(struct arena *a, uint32_t n, const void *hint);
void lr_engine_arena_give(struct arena *a, void *p, uint32_t n);
/* Gives warm memory back to the system, all of it. */
void lr_engine_arena_trim(struct arena *a);

/* ---- rows.c ---- */

/* How a codec lies in a page. */
struct layout {
    const struct lr_engine_codec *codec;
    size_t k_bytes, v_bytes; /* of a row */
    size_t k_off, v_off;     /* in the page */
    uint32_t granules;       /* of a page */
};

/* head (64 bytes) | row[32] | 32 keys | 32 values */
struct page {
    uint32_t refs;             /* tables that hold it; > 1: read only */
    int32_t pos_min, pos_max;  /* bounds of its rows' positions; may be wider than they are */
    bool biased;               /* some row may have a bias */
    char pad[51];
    struct lr_engine_row row[PAGE_ROWS];
};
_Static_assert(sizeof(struct lr_engine_row) == 12, "rows of 12 bytes");
_Static_assert(sizeof(struct page) == 448, "keys begin at a cache line");

/* Rows i of a table lie in page i / PAGE_ROWS: all pages but the last are full. */
struct table {
    struct page **page; /* owned array */
    uint32_t n_pages, cap;
    uint32_t n; /* rows */
};

struct lr_engine_seq {
    struct lr_engine *e;
    struct layout lay;
    struct table *tables;    /* (n_layer * n_kv) */
    uint32_t len;            /* next position */
    uint32_t tokens_max;     /* promised */
    uint64_t held;           /* pages of its tables, in granules */
    uint64_t copies;         /* copy reserve, in granules */
    uint64_t promised;       /* its part of the arena's */
    uint64_t peak;           /* most granules held at a time */
    struct lr_engine_host *host; /* its policies, host.c; NULL: none */
    struct lr_engine_seq *next, *prev; /* of the engine */
    bool stepping;           /* in the step under way */
};

static inline void *page_k(const struct layout *l, const struct page *p, size_t i)
{
    return (char *)(uintptr_t)p + l->k_off + i * l->k_bytes;
}
static inline void *page_v(const struct layout *l, const struct page *p, size_t i)
{
    return (char *)(uintptr_t)p + l->v_off + i * l->v_bytes;
}
static inline struct table *table_of(const struct lr_engine_seq *s, uint32_t layer, uint32_t head);

/* LR_EINVAL when rows of d elements cannot have the codec. */
int lr_engine_layout(const struct lr_engine_codec *c, uint32_t d, struct layout *out);
/* Granules that n rows in each of the tables need. */
uint64_t lr_engine_rows_need(const struct lr_engine_seq *s, uint64_t n);
/* Row d of page `to` becomes row i of page `from`. */
void lr_engine_row_copy(const struct layout *l, struct page *to, uint32_t d,
                        const struct page *from, uint32_t i);
/* Recomputes what s is promised. LR_EOVER, nothing changed, when the arena cannot. */
int lr_engine_rows_promise(struct lr_engine_seq *s, uint32_t tokens_max, uint64_t copies);
/* Room for n more rows in every table, last pages made its own; then the rows are there, for positions
 * len .. len + n, their keys and values still to be written. LR_EOVER, LR_ENOMEM: nothing changed but
 * copies of pages. */
int lr_engine_rows_append(struct lr_engine_seq *s, uint32_t n);
/* Encodes row i's key, value. x may be changed (hooks). From any thread, one thread a row. */
void lr_engine_rows_put_k(const struct lr_engine_seq *s, const struct table *t, size_t i, float *k);
void lr_engine_rows_put_v(const struct lr_engine_seq *s, const struct table *t, size_t i, float *v);
/* Shares all of src's pages with dst, which is empty. */
int lr_engine_rows_share(struct lr_engine_seq *dst, struct lr_engine_seq *src);
/* Frees all rows of all tables. */
void lr_engine_rows_clear(struct lr_engine_seq *s);
/* Leaves the first n rows. */
void lr_engine_rows_cut(struct lr_engine_seq *s, struct table *t, uint32_t n);
/* Rows for n more positions in every table, in pages that nobody has touched: each must be written whole
 * (rows_chunk.c) or given back with unraw before the sequence is used for anything else. The length is a
 * whole number of pages. LR_EOVER, LR_ENOMEM: nothing changed. */
int lr_engine_rows_raw(struct lr_engine_seq *s, uint32_t n);
/* Leaves the first len rows, a whole number of pages; those beyond were raw. */
void lr_engine_rows_unraw(struct lr_engine_seq *s, uint32_t len);
/* Shares the pages of rows [first, first + n) of each of src's tables with dst, which is empty. Whole
 * pages: neither side will ever write them. */
int lr_engine_rows_lend(struct lr_engine_seq *dst, const struct lr_engine_seq *src, uint32_t first,
                        uint32_t n);
/* Makes a table of n empty rows in place of an empty one; the caller fills them and calls summarise. */
int lr_engine_rows_make(struct lr_engine_seq *s, struct table *t, uint32_t n);
void lr_engine_page_summarise(struct page *p, uint32_t n);

/* ---- rows_chunk.c: blocks of rows as bytes (docs/formats/chunk.md) ----
 * Of sequences that keep every row, row i of a table at position i. */

#define CHUNK_ROWS 256u

/* Fills rows [block * CHUNK_ROWS, ..) of all heads of a layer, page heads included; copies them out. From any
 * thread, while nobody else has the sequence (put) or edits it (get). */
void lr_engine_chunk_put(const struct lr_engine_seq *s, uint32_t block, uint32_t layer,
                         const uint8_t *bytes);
void lr_engine_chunk_get(const struct lr_engine_seq *s, uint32_t block, uint32_t layer,
                         uint8_t *out);
/* Leaves the first len positions. */
void lr_engine_chunk_cut(struct lr_engine_seq *s, uint32_t len);

/* ---- seq.c ---- */

/* A twin that holds blocks [first, first + n) of s as its first ones, to be read by lr_engine_chunk_get from
 * any thread, and closed. Nothing is promised to it and nothing is ever copied for it. */
int lr_engine_seq_lend(struct lr_engine_seq **out, struct lr_engine_seq *s, uint32_t first,
                       uint32_t n);

/* ---- team.c: compute threads ---- */

/* All threads run fn(arg, i), i = 0 (the caller) .. n - 1, and meet at sync(). */
struct team;
int lr_engine_team_open(struct team **out, unsigned n);
void lr_engine_team_close(struct team *t);
void lr_engine_team_run(struct team *t, void (*fn)(void *arg, unsigned i), void *arg);
/* A barrier within fn. */
void lr_engine_team_sync(struct team *t);
/* One of n pieces of work for thread i, each handed out once since the last sync; n: none is left. All
 * threads say the same n. */
size_t lr_engine_team_take(struct team *t, unsigned i, size_t n);

/* ---- attn.c ---- */

#define PIECE_ROWS 256u   /* rows of one softmax piece: a cut place */
#define SPAN_ROWS 1024u   /* rows that are summed on their own and then joined: the other */
#define BLOCK_QUERIES 64u /* queries (tokens times heads of a group) side by side */

#define FEW 4u            /* tokens up to which a step is bound by memory and meetings: decoding */

struct attn_scratch { /* of one thread */
    void *kern;       /* LR_KERN_SCRATCH */
    void *act;        /* FEW records of the longest row that a product takes */
    float *q;         /* (BLOCK_QUERIES or a group, d_head) */
    float *score;     /* (those, PIECE_ROWS) */
    float *o;         /* (those, d_head), of a span */
    float *value;     /* (PAGE_ROWS, d_head) decoded */
    struct lr_kern_softmax *soft; /* (those), of a span */
};

/* Partial sums: what a query has seen so far. */
struct attn_sum {
    struct lr_kern_softmax *soft; /* (queries) */
    float *o;                     /* (queries, d) not yet divided */
};

/* Queries of n_tok tokens with one KV head: rows [span * SPAN_ROWS ..) of the table. */
struct attn_job {
    const struct layout *lay;
    const struct table *table;
    uint32_t d, group;   /* elements of a head, query heads of the KV head */
    uint32_t n_tok;      /* n_tok * group <= BLOCK_QUERIES or n_tok == 1 */
    const float *q;      /* token t's heads at q + t * q_stride, d apart */
    size_t q_stride;
    int32_t pos;         /* of token 0; the others follow */
    struct attn_scratch *scratch;
};
/* Gathers and scales the queries into scratch->q, once a job. */
void lr_engine_attn_queries(const struct attn_job *j);
/* One span: s is overwritten. */
void lr_engine_attn_span(const struct attn_job *j, uint32_t span, struct attn_sum s);
/* into = into joined with s, for n queries. */
void lr_engine_attn_join(struct attn_sum into, struct attn_sum s, uint32_t n, uint32_t d);
/* Divides and scatters: out + t * stride, heads d apart; lse (may be NULL) at lse + t * lse_stride. */
void lr_engine_attn_finish(const struct attn_job *j, struct attn_sum s, float *out, size_t stride,
                           float *lse, size_t lse_stride);
static inline uint32_t attn_spans(const struct table *t)
{
    return (t->n + SPAN_ROWS - 1) / SPAN_ROWS;
}
/* exp(logit - lse) of the job's queries (in scratch->q) on all rows: p + query * stride. */
void lr_engine_attn_weights(const struct attn_job *j, const float *lse, size_t lse_stride, float *p,
                            size_t stride);

/* ---- tap.c ---- */

struct lr_engine_tap_store; /* copies that a tap needs beyond the layer's buffers */

/* One tap on one sequence in a step. */
struct lr_engine_show {
    struct lr_engine_tap *tap; /* NULL: none; its kinds and window may change from layer to layer */
    const struct lr_engine_work *w;
    struct lr_engine_tap_store *store;
    struct lr_engine_view view;
    uint32_t first;      /* the sequence's first token in the step */
    float **heads;       /* (2, n_head): awin, acol */
    float *block;        /* (threads, block_floats), then the arrays of heads */
    size_t block_floats;
    uint64_t start;
    bool failed;         /* in begin */
};
/* kinds: those of all layers. */
int lr_engine_tap_open(struct lr_engine_show *x, const struct lr_engine_work *w,
                       struct lr_engine_tap *tap, unsigned kinds);
void lr_engine_tap_close(struct lr_engine_show *x);
/* One token (counted from the feed's first), before RoPE. From compute threads. */
void lr_engine_tap_pre(const struct lr_engine_show *x, const struct lr_engine_shape *h,
                       uint32_t token, const float *q, const float *k);
/* A layer, on thread 0: begin, then head for every KV head from any thread, then end, which shows it
 * and frees. end follows every begin, failed ones with show = false. */
int lr_engine_tap_begin(struct lr_engine_show *x, const struct lr_engine *e, uint32_t layer,
                        uint32_t first, int32_t pos);
void lr_engine_tap_head(const struct lr_engine_show *x, const struct lr_engine *e, unsigned ith,
                        uint32_t head);
int lr_engine_tap_end(struct lr_engine_show *x, bool show);

/* ---- engine.c ---- */

struct scratch { /* activations of a step, (tokens, ...) */
    float *x, *xn, *q, *k, *v, *att, *gate, *up, *tmp, *angles;
    float *lse;              /* (tokens, n_head) */
    float *part;             /* partial sums of split attention */
    struct lr_kern_softmax *part_soft;
    size_t part_max;         /* spans of one (token, query head) that fit */
    struct attn_scratch *thread; /* (threads) */
    void *block;             /* everything above is in here */
};

struct lr_engine {
    const struct lr_engine_model *m;
    const struct lr_kern *k;
    const struct lr_engine_codec *codec;
    struct team *team;
    unsigned threads;
    struct arena arena;
    struct scratch s;
    struct lr_engine_seq *seqs;
    /* Codecs of policy/ as the engine's, made when first asked for. */
    struct lr_engine_codec codecs[2 * LR_POLICY_PLUGINS_MAX];
    const struct lr_policy_codec *codecs_from[2 * LR_POLICY_PLUGINS_MAX];
};

/* Of the buffers that lr_engine_open makes for so many threads (0: 1). */
uint64_t lr_engine_scratch_bytes(const struct lr_engine_model *m, unsigned threads);

static inline struct table *table_of(const struct lr_engine_seq *s, uint32_t layer, uint32_t head)
{
    return &s->tables[(size_t)layer * s->e->m->shape.n_kv + head];
}

/* ---- host*.c: policies on sequences. All take sequences without any. ---- */

/* Before a step: the tap the policies want (NULL: none), kinds of all layers. */
int lr_engine_host_begin(const struct lr_engine_work *w, struct lr_engine_tap **tap, unsigned *kinds);
/* Sets the kinds and the window of a host's tap for a layer; other taps stay as they are. */
void lr_engine_host_layer(struct lr_engine_show *x, uint32_t layer);
/* A tap could not begin: 0 when it is a host's, whose sequence then failed, else rc. */
int lr_engine_host_failed(struct lr_engine_show *x, int rc);
/* Does a policy choose the rows that this token reads? */
bool lr_engine_host_chooses(const struct lr_engine_work *w);
/* Asks it, for every KV head of a layer; q: the token's rotated queries. */
void lr_engine_host_choose(const struct lr_engine_work *w, uint32_t layer, int32_t pos, const float *q);
/* What attention reads: the table, or the rows chosen for this layer. */
const struct table *lr_engine_host_table(const struct lr_engine_seq *s, uint32_t layer,
                                         uint32_t head);
/* After a step: the safepoint. */
void lr_engine_host_end(struct lr_engine_seq *s);
/* After a step that was taken back. */
void lr_engine_host_undone(struct lr_engine_seq *s);
/* Puts a policy on a sequence without one. */
int lr_engine_host_open(struct lr_engine_seq *s, const struct lr_engine_policy *p,
                        struct lr_err *err);
void lr_engine_host_close(struct lr_engine_seq *s);
/* Rows a table may have at most, of tokens_max tokens, tokens_prompt (0: not known) of them the prompt. */
uint32_t lr_engine_host_promise(const struct lr_engine_seq *s, uint32_t tokens_max,
                                uint32_t tokens_prompt);
/* The active policy's twin on a fork. */
int lr_engine_host_fork(struct lr_engine_seq *twin, const struct lr_engine_seq *s);
uint64_t lr_engine_host_bytes(const struct lr_engine_seq *s);
/* State as bytes: a section of docs/formats/rows.md; 0 bytes without a policy. */
size_t lr_engine_host_save_bytes(const struct lr_engine_seq *s);
int lr_engine_host_save(const struct lr_engine_seq *s, void *buf);
/* LR_EVERSION: another stack; LR_ECORRUPT. Rows are loaded already. */
int lr_engine_host_load(struct lr_engine_seq *s, const void *buf, size_t n);
/* The codec of a stack, of heads like the model's. */
int lr_engine_host_codec(struct lr_engine *e, const struct lr_policy_codec *c,
                         const struct lr_engine_codec **out, struct lr_err *err);

/* What is beside rows follows them (host_lane.c); called by rows.c and seq.c. */
void lr_engine_lanes_keep(struct lr_engine_seq *s, const struct table *t, const uint32_t *idx,
                          uint32_t n);
void lr_engine_lanes_cut(struct lr_engine_seq *s, const struct table *t, uint32_t n);
/* Room first: LR_ENOMEM, nothing changed. */
int lr_engine_lanes_insert(struct lr_engine_seq *s, const struct table *t, uint32_t at);
int lr_engine_lanes_permute(struct lr_engine_seq *s, const struct table *t, const uint32_t *order,
                            float *scratch);
void lr_engine_host_truncated(struct lr_engine_seq *s, uint32_t len);

/* rows.c: row i becomes what row order[i] was. LR_EOVER, LR_ENOMEM: nothing changed. */
int lr_engine_rows_permute(struct lr_engine_seq *s, struct table *t, const uint32_t *order);

#endif
