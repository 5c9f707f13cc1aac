/* SPDX-License-Identifier: Apache-2.0
 * vec/vec.h - vectors in, neighbours out.
 *
 *   struct lr_vec_hall *hall;      one a process: who is reading, and when memory may be reused
 *   struct lr_vec_reader *r;       one a reading thread: its scratch, and its place in the hall
 *   struct lr_vec_arena *arena;    one a tenant: the account its partitions are charged to
 *   struct lr_vec *v;              one a partition: a flat list that becomes a graph when it grows
 *
 *   lr_vec_put(v, id, x);          replaces what the id had
 *   lr_vec_search(v, r, q, &(struct lr_vec_ask){.k = 10, .floor = 0.8f}, hits, &found);
 *   lr_vec_del(v, id);
 *
 * Vectors are of unit length, similarity is the inner product: the cosine, in -1..1, larger is
 * nearer. Ids are the caller's own numbers, any of the 2^64, one vector each.
 *
 * Threads. Any number of readers search while ONE thread writes; neither ever waits for the other.
 * "Write" is every call that takes an lr_vec but lr_vec_search and lr_vec_stats; at most one such
 * call runs at a time over all indexes of one arena (a tenant's lock, or its owning thread). What a
 * reader sees: a put or delete that returned before its search began is seen whole. One that
 * overlaps the search is seen or not; an id is never in one answer twice, but an id that is being
 * replaced may be missing from it. A vector is never seen half written.
 *
 * Errors leave the index as it was. Memory is bounded by the arena: LR_EOVER when it is used up,
 * LR_ENOMEM when the machine's is.
 *
 * Recall. A flat index and a graph of at most LR_VEC_FEW live vectors compare everything. A graph
 * finds most of the nearest, not always all: see vec/graph.c for how it is built and bench/vec.c
 * for what it finds. LR_VEC_F32 ranks by exact products, LR_VEC_I8 and LR_VEC_I12 by those of
 * rounded vectors.
 */
#ifndef LR_VEC_VEC_H
#define LR_VEC_VEC_H

#include "base/base.h"

#define LR_VEC_DIM_MAX 4096
#define LR_VEC_MAX     ((uint32_t)1 << 25) /* vectors (slots) of one index */
#define LR_VEC_K_MAX   1024                /* answers, and breadth of a search */
#define LR_VEC_M_MAX   64
#define LR_VEC_FLAT                                                                                \
    2000 /* live vectors up to which a flat list is the faster (measured: bench/vec.c) */
#define LR_VEC_FEW 256

enum lr_vec_type {
    LR_VEC_F32 = 1, /* 4 bytes a coordinate */
    LR_VEC_I8 = 2,  /* 1 byte and a scale a vector: products are off by about 4e-4 */
    LR_VEC_I12 = 3, /* 1.5 bytes: walks like I8, ranks the best by 12 bits: off by about 3e-5 */
};

/* ---- The hall: who reads ----------------------------------------------------------------------*/

struct lr_vec_hall;
struct lr_vec_reader;

int lr_vec_hall_open(struct lr_vec_hall **out);
/* After all its readers and arenas are closed. NULL is fine. */
void lr_vec_hall_close(struct lr_vec_hall *h);

/* A place in the hall, with scratch that grows with the largest index searched (a bit a vector) and
 * belongs to whoever holds it: one thread at a time. Open and close are thread-safe. */
int lr_vec_reader_open(struct lr_vec_hall *h, struct lr_vec_reader **out);
void lr_vec_reader_close(struct lr_vec_reader *r);
/* Between enter and leave the reader may load pointers to indexes that the writer may close at any
 * moment: lr_vec_close waits with the memory (not with the caller) until they have left. A search
 * enters and leaves by itself; nest as you like. Leave soon: memory is held back meanwhile. */
void lr_vec_enter(struct lr_vec_reader *r);
void lr_vec_leave(struct lr_vec_reader *r);

/* ---- The arena: a tenant's memory -------------------------------------------------------------*/

struct lr_vec_arena;

/* max: bytes that all its indexes may hold together. */
int lr_vec_arena_open(struct lr_vec_hall *h, size_t max, struct lr_vec_arena **out);
/* Bytes held now. Any thread. */
size_t lr_vec_arena_used(const struct lr_vec_arena *a);
/* After all its indexes are closed and no reader is between enter and leave. NULL is fine. */
void lr_vec_arena_close(struct lr_vec_arena *a);

/* ---- An index ---------------------------------------------------------------------------------*/

struct lr_vec;

/* Memory, in bytes a vector of dimension d (rounded up to 64, for f32 to 16): 4 d, d or 1.5 d, 20
 * for its mark and id, 6 to 12 for the map, and in a graph 8 m for links and about 8 more; up to an
 * eighth besides is spare. Room is taken for 64 at a time: the smallest index of 256 bytes a vector
 * has 18 KiB. */
struct lr_vec_opts {
    unsigned dim; /* 1..LR_VEC_DIM_MAX */
    enum lr_vec_type type;
    unsigned m;        /* links of a node on the upper levels, twice as many below; 0 = 16, 4..64 */
    unsigned ef_build; /* breadth of the search that finds a new vector's links; 0 = 100; m..1024 */
    size_t flat_max;   /* live vectors up to which it stays a flat list; 0 = LR_VEC_FLAT; SIZE_MAX =
                          for   ever; 1 = a graph from the second vector on */
    uint64_t seed;     /* of the levels: the same calls with the same seed make the same index */
    uint8_t encoder[32]; /* who made the vectors; kept in the file, compared at load */
};

/* LR_EINVAL when an option is out of its bounds. */
int lr_vec_open(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct lr_vec **out);
/* Gone at once for the caller; freed when readers that may be inside have left (by a later call to
 * the same arena). NULL is fine. */
void lr_vec_close(struct lr_vec *v);

/* x: dim floats whose squares sum to 1 within 1e-3, else LR_EINVAL. LR_EOVER beyond LR_VEC_MAX. */
int lr_vec_put(struct lr_vec *v, uint64_t id, const float *x);
/* LR_ENOENT when there is none. Its memory is reused by later puts. */
int lr_vec_del(struct lr_vec *v, uint64_t id);
/* The vector as stored (rounded by its type) into x; LR_ENOENT. A writer's call. */
int lr_vec_get(const struct lr_vec *v, uint64_t id, float *x);

struct lr_vec_ask {
    size_t k;    /* answers wanted, 1..LR_VEC_K_MAX */
    size_t ef;   /* breadth of the walk in a graph, at least k; 0 = 64 */
    float floor; /* only answers of at least this similarity; 0 = any. A walk that does not come
                    near it gives up early: see vec/graph.c */
};
struct lr_vec_hit {
    uint64_t id;
    float sim;
};
struct lr_vec_found {
    size_t n;      /* answers, best first, ties by the lower id */
    size_t looked; /* vectors compared */
    bool gave_up;  /* the floor ended the walk early */
};

/* hits: room for k. LR_EINVAL for a query that is not of unit length, or an ask out of its bounds;
 * LR_ENOMEM when the reader's scratch cannot grow. */
int lr_vec_search(const struct lr_vec *v, struct lr_vec_reader *r, const float *q,
                  const struct lr_vec_ask *ask, struct lr_vec_hit *hits,
                  struct lr_vec_found *found);

struct lr_vec_stats {
    size_t live;  /* vectors */
    size_t slots; /* in use: live, dead and waiting for readers to leave */
    size_t bytes; /* charged to the arena */
    bool graph;   /* searches walk a graph */
};
/* Any thread that may use v; numbers of a writer under way may not fit each other. */
void lr_vec_stats(const struct lr_vec *v, struct lr_vec_stats *out);

/* ---- Files (docs/formats/index.md) ------------------------------------------------------------*/

/* Replaces path at once. txn: the document store's transaction that the index reflects. A writer's
 * call that tidies up first (vectors deleted are taken out of the graph for good). */
int lr_vec_save(struct lr_vec *v, const char *path, uint64_t txn);

/* An index as saved. o must agree with the file in dim, type and encoder (LR_EVERSION: rebuild),
 * the rest of o is taken as at open (m is the file's where o says 0). txn_now: the document store's
 * transaction now; *txn is the file's: an older one is to be replayed from there, a newer one means
 * that the store was put back (LR_EVERSION: rebuild). LR_ECORRUPT for damage, whatever the bytes;
 * LR_ENOENT. */
int lr_vec_load(struct lr_vec_arena *a, const struct lr_vec_opts *o, const char *path,
                uint64_t txn_now, struct lr_vec **out, uint64_t *txn);
/* The same from memory. */
int lr_vec_load_bytes(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct lr_str bytes,
                      uint64_t txn_now, struct lr_vec **out, uint64_t *txn);

#endif
