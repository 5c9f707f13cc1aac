/* SPDX-License-Identifier: Apache-2.0
 * reuse/reuse.h - which stored rows serve which part of a prompt, and how they get there and back.
 *
 *   lr_reuse_chain_*   what the blocks of a conversation are called              (chunk.c)
 *   lr_reuse_plan      what to load, what to compute: pure                      (plan.c)
 *   lr_reuse_load      chunks from the store to whoever holds rows              (load.c)
 *   lr_reuse_save      chunks from there to the store                           (save.c)
 *
 * A chunk is the rows of LR_REUSE_BLOCK tokens in all layers, one object of the store
 * (docs/formats/chunk.md). Where rows lie is the engine's business: it gives functions that copy one
 * layer of one chunk in or out.
 *
 * Promises. What `put` gets is what `get` gave under the same model, form, tenant and tokens from the
 * first one on, byte for byte, checked against the sums of the store; or it is not called. Nothing
 * here waits for a disk but its own threads. A failure of any kind is a chunk that is not there.
 *
 * Threads. A context may be used from any thread. A chain, and the handle of a load or save, belong to
 * one thread at a time. `get` and `put` are called from threads of the context, for one (chunk, layer)
 * at a time each, several at once; `done` from any thread, once, under no lock of ours.
 */
#ifndef LR_REUSE_REUSE_H
#define LR_REUSE_REUSE_H

#include "base/base.h"
#include "nn/nn.h"
#include "store/store.h"

#define LR_REUSE_BLOCK      LR_CHAIN_BLOCK /* tokens of a chunk */
#define LR_REUSE_CHUNKS_MAX 4096u          /* of a chain: a million tokens; what is beyond is computed */
#define LR_REUSE_MIN        16u            /* tokens: less is not worth a load */
#define LR_REUSE_PRINT      65u            /* bytes of a model's print, the end included */

/* ---- what rows are ---- */

/* The print of a model: hex BLAKE3 over all that decides over rows: metadata, names, shapes and every
 * byte of its tensors (as xxh3 sums), and whether the kernels of this machine round sums as others do
 * (kern.h). Reads the whole file. */
void lr_reuse_print(const struct lr_nn_gguf *g, char out[LR_REUSE_PRINT]);

/* The rows of one engine, all alike. A value. */
struct lr_reuse_rows {
    char model[LR_REUSE_PRINT];
    char codec[32];  /* empty: as computed; else the codec that rounded them */
    uint32_t dtype;  /* enum lr_dtype of the elements; U8 under a codec */
    uint32_t n_layer, n_kv, d_head;
    uint32_t k_bytes, v_bytes; /* of a row */
};
/* Of one layer of a chunk. */
size_t lr_reuse_layer_bytes(const struct lr_reuse_rows *r);

/* ---- chains ---- */

struct lr_reuse_link {
    struct lr_digest key, token_ids; /* as in the store's headers */
    struct lr_digest id;             /* what the store files it under */
};

/* The names of a conversation's complete blocks. Zeroed: empty, and no tenant's. */
struct lr_reuse_chain {
    struct lr_digest first;     /* the link before */
    uint64_t tenant;            /* whose objects they are; 0: everybody's */
    struct lr_reuse_link *link; /* (n), owned */
    uint32_t n, cap;
};
/* salted: blocks of this tenant are its own; else all who are not salted share theirs. */
void lr_reuse_chain_init(struct lr_reuse_chain *c, uint64_t tenant, bool salted);
/* The next LR_REUSE_BLOCK tokens. LR_EOVER: LR_REUSE_CHUNKS_MAX; LR_ENOMEM; nothing changed. */
int lr_reuse_chain_add(struct lr_reuse_chain *c, const struct lr_reuse_rows *r,
                       const uint32_t *tokens);
void lr_reuse_chain_free(struct lr_reuse_chain *c);

/* ---- plans: pure ---- */

/* What was measured; 0: not yet. */
struct lr_reuse_speed {
    double token_ns;           /* computing a token of a prompt */
    double memory_ns, disk_ns; /* a byte of a chunk, from there into rows */
};

struct lr_reuse_facts {
    uint32_t tokens;      /* of the conversation; at least the last one is computed */
    uint32_t have;        /* leading ones whose rows are here already */
    uint32_t found;       /* leading blocks that the store has */
    uint32_t in_memory;   /* of these, the leading ones in memory */
    uint64_t chunk_bytes;
    struct lr_reuse_speed speed;
    uint64_t now_ns;
    uint64_t patience_ns; /* never wait longer than this */
};

struct lr_reuse_plan {
    uint32_t first, n;    /* blocks to load; n 0: none */
    uint32_t tokens;      /* leading tokens that are there when all went well */
    uint64_t deadline_ns; /* what is not there by then is computed */
};

/* A prefix of the found blocks, the one whose loading wins most over computing; all of them while it
 * is not known how long either takes. */
void lr_reuse_plan(const struct lr_reuse_facts *f, struct lr_reuse_plan *out);

/* ---- contexts ---- */

struct lr_reuse;

struct lr_reuse_opts {
    struct lr_store *store; /* outlives the context */
    unsigned loaders;       /* threads; 0: 2 */
    bool shared;            /* tenants share their blocks */
    uint64_t patience_ns;   /* a load's deadline at most; 0: 5 s */
};
int lr_reuse_open(struct lr_reuse **out, const struct lr_reuse_opts *o);
/* After all loads and saves were freed. NULL is fine. */
void lr_reuse_close(struct lr_reuse *r);
const struct lr_reuse_opts *lr_reuse_opts(const struct lr_reuse *r); /* with defaults filled in */

/* How many leading links the store has; *in_memory: of these, leading ones in memory. No I/O. */
uint32_t lr_reuse_find(struct lr_reuse *r, const struct lr_reuse_chain *c, uint32_t *in_memory);
bool lr_reuse_has(struct lr_reuse *r, const struct lr_digest *id);

/* ---- loads and saves ---- */

struct lr_reuse_move {
    const struct lr_reuse_rows *rows;   /* copied */
    const struct lr_reuse_chain *chain; /* what is needed of it is copied */
    uint32_t first, n;                  /* links of it */
    double cost_s;                      /* saves: what computing one of them took; 0: not known */
    /* Loads: rows of block first + i. Saves: into out. Both lr_reuse_layer_bytes. */
    void (*put)(void *ctx, uint32_t i, uint32_t layer, const uint8_t *bytes);
    void (*get)(void *ctx, uint32_t i, uint32_t layer, uint8_t *out);
    void (*done)(void *ctx); /* all is over */
    void *ctx;
};

enum lr_reuse_tier { LR_REUSE_MEMORY, LR_REUSE_DISK, LR_REUSE_REMOTE, LR_REUSE_TIERS };
const char *lr_reuse_tier_name(enum lr_reuse_tier t); /* "memory", "disk", "remote" */

/* What became of it. Loads: of the leading chunks that are there. Saves: of all. */
struct lr_reuse_result {
    uint32_t good;                   /* leading chunks put; chunks saved */
    uint32_t known;                  /* saves: the store had them already */
    uint32_t failed;                 /* not good for another reason than being behind one */
    uint32_t tier[LR_REUSE_TIERS];   /* of the good ones, where they were when it began */
    double cost_s;                   /* what computing them took, summed, as far as it is known */
    uint64_t ns;                     /* from its beginning to the end of the last copy */
};

struct lr_reuse_load;
struct lr_reuse_save;

/* Begins; done may be called before this returns. LR_ENOMEM. */
int lr_reuse_load(struct lr_reuse *r, const struct lr_reuse_move *m, struct lr_reuse_load **out);
/* No `put` and no `done` runs when this has returned, nor will one begin. Waits for at most one copy of
 * a layer a thread. May be called at any time, also twice. */
void lr_reuse_load_stop(struct lr_reuse_load *l);
/* All is over, or it was stopped. */
bool lr_reuse_load_over(struct lr_reuse_load *l);
/* When it is over. */
void lr_reuse_load_result(struct lr_reuse_load *l, struct lr_reuse_result *out);
/* Stops it first. NULL is fine. */
void lr_reuse_load_free(struct lr_reuse_load *l);

/* LR_EBUSY: too many wait already. */
int lr_reuse_save(struct lr_reuse *r, const struct lr_reuse_move *m, struct lr_reuse_save **out);
/* No `get` and no `done` runs when this has returned, nor will one begin. */
void lr_reuse_save_stop(struct lr_reuse_save *v);
bool lr_reuse_save_over(struct lr_reuse_save *v);
void lr_reuse_save_result(struct lr_reuse_save *v, struct lr_reuse_result *out);
void lr_reuse_save_free(struct lr_reuse_save *v); /* stops it first; NULL is fine */

#endif
