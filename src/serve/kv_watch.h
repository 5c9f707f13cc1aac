/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_watch.h - what the keys of LMCache say about the clients that send them, and what keeps
 * clients of one model from sharing.
 *
 *   kv_key.c     a key: model, rank, hash, dtype, tags
 *   kv_watch.c   rows: who sent such keys, how often, which hashes (a sample); bounded
 *   kv_doctor.c  rows -> clients and findings: pure, over a copy of the rows
 *
 * Nothing here reads a value (but the 28 bytes of a redis connector's metadata), and nothing is kept of
 * keys that are not LMCache's.
 */
#ifndef LR_SERVE_KV_WATCH_H
#define LR_SERVE_KV_WATCH_H

#include "base/base.h"

/* ---- keys (kv_key.c) ---- */

#define LR_KV_MODEL_MAX 120u /* bytes of a model's name that are kept; longer ones are cut */
#define LR_KV_TAG_MAX   64u
#define LR_KV_DTYPE_MAX 16u

enum lr_kv_shape {
    LR_KV_NO_KEY = 0,
    LR_KV_ENGINE, /* in-process: model@world@worker@hash@dtype[@layer][@tag%value]..., one key or a pair */
    LR_KV_MP,     /* multi-process: model@kv_rank_%08x[@object_group_id_%x]@hash[@salt] */
};
enum lr_kv_half { LR_KV_WHOLE, LR_KV_BYTES, LR_KV_META }; /* of the redis connector's pair */

/* Views into the key. */
struct lr_kv_key {
    enum lr_kv_shape shape;
    enum lr_kv_half half;
    struct lr_str model, dtype, tag; /* dtype: ENGINE; tag: tags of ENGINE, salt of MP; may be empty */
    struct lr_str hash;              /* hex digits, with a '-' before negative ones */
    uint32_t world, rank;            /* MP: of its kv_rank */
    bool layered;                    /* one key a layer */
};
/* shape LR_KV_NO_KEY: it is not LMCache's. */
void lr_kv_key_read(struct lr_str name, struct lr_kv_key *out);

/* ---- rows (kv_watch.c) ---- */

#define LR_KV_ROWS   256u /* one a client, model, rank and form of keys; the longest silent gives way */
#define LR_KV_BURST_MS 1000u /* connections of one peer this near in time are one client's */
#define LR_KV_SKETCH 128u /* the least hashes of chunks: two rows that share chunks share some of these */

/* The LR_KV_SKETCH least of all hashes that came, each once, ascending. */
struct lr_kv_sketch {
    uint64_t v[LR_KV_SKETCH];
    uint32_t n;
};
void lr_kv_sketch_add(struct lr_kv_sketch *, uint64_t hash);
/* Of the hashes that both would have kept, how many both have; *of (may be NULL): how many the one of them
 * with fewer has. 0 of many: nothing is shared. */
uint32_t lr_kv_sketch_common(const struct lr_kv_sketch *a, const struct lr_kv_sketch *b, uint32_t *of);

struct lr_kv_row {
    /* who */
    uint64_t tenant;
    char space[208];    /* namespace */
    char address[48];   /* without the port */
    char name[65], library[40]; /* CLIENT SETNAME, SETINFO */
    uint64_t opened_ms, joined_ms; /* its first and newest connection: a burst of them is one row */
    /* what */
    enum lr_kv_shape shape;
    char model[LR_KV_MODEL_MAX + 1], dtype[LR_KV_DTYPE_MAX + 1], tag[LR_KV_TAG_MAX + 1];
    uint32_t world, rank;
    bool layered, wide; /* wide: hashes of more than 64 bits: not Python's hash() */
    /* how often */
    uint64_t sets, dropped, gets, hits, asks, there; /* asks: EXISTS; there: of these, yes */
    uint64_t halves[2]; /* SETs of kv_bytes, of metadata */
    uint64_t bytes;     /* of values sent */
    uint64_t size, sized; /* the commonest size of a value, and how sure that is */
    uint32_t tokens;    /* tokens a chunk, where metadata told; 0: not known */
    uint64_t first_ms, last_ms;
    struct lr_kv_sketch set, asked; /* chunks sent; asked for or about */
};

enum lr_kv_op { LR_KV_SET, LR_KV_GET, LR_KV_EXISTS };

/* A command about one key. */
struct lr_kv_seen {
    enum lr_kv_op op;
    bool good;     /* SET: kept; GET: found; EXISTS: there */
    uint64_t size; /* SET: bytes of the value */
    struct lr_str value; /* SET: the value where it is short; else empty */
    uint64_t tenant;
    struct lr_str space, address, name, library;
    uint64_t opened_ms; /* its connection */
};

struct lr_kv_watch;
int lr_kv_watch_open(struct lr_kv_watch **out);
void lr_kv_watch_close(struct lr_kv_watch *);
/* Any thread; short. key: of shape other than NO_KEY. */
void lr_kv_watch_saw(struct lr_kv_watch *, const struct lr_kv_seen *, const struct lr_kv_key *key,
                     uint64_t now_ms);
/* How many rows; *seen: keys so far; *forgotten: rows that gave way. */
size_t lr_kv_watch_count(struct lr_kv_watch *, uint64_t *seen, uint64_t *forgotten);
/* A copy of all rows, at most LR_KV_ROWS; returns how many. *forgotten: rows that gave way so far. */
size_t lr_kv_watch_rows(struct lr_kv_watch *, struct lr_kv_row *out, uint64_t *forgotten);

/* ---- findings (kv_doctor.c) ---- */

#define LR_KV_FINDINGS 64u /* told; the rest is counted */

#define LR_KV_REASONS(X)                                                                           \
    X(TENANT, "tenant")                                                                            \
    X(NAMESPACE, "namespace")                                                                      \
    X(FORM, "key-form")                                                                            \
    X(WORLD, "world-size")                                                                         \
    X(DTYPE, "dtype")                                                                              \
    X(TAG, "tag")                                                                                  \
    X(CHUNK, "chunk-size")                                                                         \
    X(HASH, "hash-algorithm")                                                                      \
    X(SEED, "hash-seed")                                                                           \
    X(HALVES, "half-pairs")                                                                        \
    X(DROPPED, "dropped")
enum lr_kv_reason {
#define X(name, text) LR_KV_##name,
    LR_KV_REASONS(X)
#undef X
    LR_KV_REASON_COUNT
};
const char *lr_kv_reason_name(enum lr_kv_reason); /* "hash-seed"; static */
const char *lr_kv_reason_fix(enum lr_kv_reason);  /* the setting that mends it; static */

/* Why two clients (indexes of rows; a == b: why one shares nothing with itself) keep apart. */
struct lr_kv_finding {
    enum lr_kv_reason reason;
    bool sure;   /* the same chunks were seen on both sides; else it is likely */
    uint32_t a, b;
    uint32_t pairs;  /* pairs of rows of this model with this reason; a and b are the first */
    uint64_t n;      /* HALVES, DROPPED: how many */
    char detail[120]; /* "half | bfloat16" */
};
/* Writes the findings of n rows, most telling first; returns how many (at most max). *client (n of
 * them): rows with one number are one client: connections of one process, told by what they share. */
size_t lr_kv_diagnose(const struct lr_kv_row *rows, size_t n, uint32_t *client, struct lr_kv_finding *out,
                      size_t max);

#endif
