/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_admin.h - the operator's side of the KV store (docs/kv.md).
 *
 *   kv_ask.c    bodies: JSON to what is asked, or one clear error
 *   kv_desk.c   what outlives a request: quotas on disk, tenants' names, the watch
 *   kv_admin.c  lookup, prefix, pin, unpin, move, clear, epoch, quota
 *   kv_tell.c   health, doctor, and the part of stats
 */
#ifndef LR_SERVE_KV_ADMIN_H
#define LR_SERVE_KV_ADMIN_H

#include "serve/kv_watch.h"
#include "store/store.h"

struct lr_serve;
struct lr_tenant;

/* ---- kv_ask.c ---- */

#define LR_KV_KEYS_MAX   10000u
#define LR_KV_TOKENS_MAX (1u << 20)

/* A body. Texts and arrays live in the arena, or in the source of the tree. Members that were not given
 * are zero, but for those with a default. */
struct lr_kv_ask {
    struct lr_str tenant;   /* p NULL: not given */
    struct lr_str space;    /* "namespace"; p NULL: not given */
    struct lr_str *keys;    /* as they were given */
    struct lr_digest *ids;  /* of "ids", when there are no keys */
    size_t n;               /* of keys or ids */
    uint32_t *tokens;
    size_t n_tokens;
    uint64_t block;         /* tokens a chunk; LR_CHAIN_BLOCK */
    struct lr_str model, group, salt; /* p NULL: not given */
    uint64_t rank;          /* LMCache's kv_rank; of a world of one */
    uint64_t ttl_ms;        /* 0: not given */
    enum lr_place to;
    uint64_t bytes;
    bool all, dry_run, has_to, has_bytes;
};
/* The object o, which may hold the members named in `members` (blank-separated) and no others.
 * LR_EINVAL with a sentence in *err; LR_ENOMEM. */
int lr_kv_ask_read(struct lr_arena *a, const struct lr_json *o, const char *members,
                   struct lr_kv_ask *out, struct lr_err *err);
/* The keys of LMCache's multi-process mode for a prompt: one a whole block of ask->tokens. Arena
 * memory. LR_ENOMEM. */
int lr_kv_ask_chain(struct lr_arena *a, struct lr_kv_ask *ask);

/* ---- kv_desk.c ---- */

struct lr_kv_desk;
/* Reads the quotas of <dir>/kv-quotas (docs/formats/kv-quotas.md) and says them to the store. A file that
 * does not parse is an error: the limits in it were meant. */
int lr_kv_desk_open(struct lr_kv_desk **out, const char *dir, struct lr_store *, struct lr_err *err);
void lr_kv_desk_close(struct lr_kv_desk *); /* NULL is fine */
struct lr_kv_watch *lr_kv_desk_watch(struct lr_kv_desk *);
/* bytes 0: no limit. Written down before it holds. LR_EOVER: too many tenants. */
int lr_kv_desk_quota(struct lr_kv_desk *, uint64_t tenant, uint64_t bytes);
/* How many tenants have one. */
size_t lr_kv_desk_quotas(struct lr_kv_desk *);
/* A tenant logged in; its name is remembered (of 1024 at most). */
void lr_kv_desk_meet(struct lr_kv_desk *, const struct lr_tenant *);
/* "" when nobody of that id was met. */
void lr_kv_desk_name(struct lr_kv_desk *, uint64_t tenant, char out[64]);

/* ---- kv_tell.c ---- */

/* The object of "kv" in stats; null without a store. */
void lr_kv_stats_write(struct lr_serve *, struct lr_jw *w);
/* The doctor's numbers for /metrics. */
void lr_kv_doctor_metrics(struct lr_serve *, struct lr_buf *out);

#endif
