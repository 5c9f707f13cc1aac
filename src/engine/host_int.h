/* SPDX-License-Identifier: Apache-2.0
 * engine/host_int.h - what the files of host*.c share: policies on one sequence.
 *
 *   seq > host > active  (edits)      one set: a stack's instances, its random numbers, its bill
 *              > watcher[] (look)     sets that only observe
 *              > sums                 attention each row got, for all of them
 *         set  > part[] = struct lr_policy_seq: one policy, its state, its columns
 */
#ifndef LR_ENGINE_HOST_INT_H
#define LR_ENGINE_HOST_INT_H

#include "engine/engine_int.h"

/* Floats beside the rows of one table. Rows from n on have 0; n never exceeds the table's. */
struct lane {
    float *v; /* owned */
    uint32_t n, cap;
};
/* The lane as long as its table (rows), or NULL when memory is out. */
float *lr_engine_lane(struct lane *l, uint32_t rows);
int lr_engine_lane_copy(struct lane *to, const struct lane *from);
void lr_engine_lane_free(struct lane *l);
/* Gives back what lanes hold beyond their rows. */
void lr_engine_lanes_trim(struct lr_engine_host *h);

struct lr_policy_rows {
    struct lr_policy_seq *q;
    uint32_t layer, head;
};

/* Rows that a token reads of one KV head, gathered. */
struct chosen {
    bool on;            /* in this layer */
    struct table table; /* its pages lie in `block` */
    void *block;        /* owned */
    size_t pages;       /* it has room for */
};

struct host_set;

/* One policy on one sequence: what services get. */
struct lr_policy_seq {
    struct host_set *set;
    const struct lr_policy_part *part;
    void *st;
    bool open;
    struct lr_policy_rows *rows; /* (tables) */
    struct lane *columns;        /* (tables, columns) */
};

/* A stack on a sequence. */
struct host_set {
    struct lr_engine_host *host;
    struct lr_policy_stack stack;
    struct lr_policy_seq part[LR_POLICY_PARTS];
    struct lr_rng rng;
    uint64_t tap_bytes, ns, evicted, read, there; /* the bill */
    bool foreseen;                   /* column 0 was written from outside */
};

struct lr_engine_host {
    struct lr_engine_seq *s;
    struct lr_policy_model model;
    struct host_set *active;     /* NULL: watchers only */
    struct host_set **watcher;   /* (n_watcher) */
    uint32_t n_watcher;
    struct lane *sums;           /* (n_layer, n_head); NULL until somebody asks */
    struct lr_policy_budget budget;
    uint32_t *rows;              /* (tables) budgets; valid when `even` is not 0 */
    uint32_t even;               /* a table's, on average; 0: not known yet */
    bool capped, guard, spent;
    bool permuted;               /* positions need not ascend any more */
    uint32_t prompt;             /* length at the last end of a prompt */
    enum lr_policy_phase last;   /* of the last step */
    /* The step or the edit under way. */
    enum lr_policy_phase phase;
    struct lr_engine_tap tap;
    bool looked;                 /* some policy has observed this step */
    bool editing;
    uint32_t edit_layer;
    unsigned depth;              /* of hooks in hooks (probe): scratch is kept */
    struct chosen *chosen;       /* (n_kv); NULL until a policy chooses */
    struct lr_arena scratch;
    int rc;                      /* the sequence failed, and why */
    struct lr_err err;
};

static inline uint32_t host_tables(const struct lr_engine_seq *s)
{
    return s->e->m->shape.n_layer * s->e->m->shape.n_kv;
}
static inline uint32_t host_page_bytes(const struct lr_engine_seq *s)
{
    return s->lay.granules * GRANULE;
}

/* ---- host.c ---- */
int lr_engine_set_open(struct host_set **out, struct lr_engine_host *h,
                       const struct lr_policy_stack *stack, uint64_t seed);
void lr_engine_set_close(struct host_set *set);
/* The active set, watcher number index, or NULL. */
struct host_set *lr_engine_set_at(const struct lr_engine_seq *s, uint32_t index);
/* Copies what `from` knows into `to`, a set of the same stack. */
int lr_engine_set_copy(struct host_set *to, const struct host_set *from);
/* The host's sums, as long as its tables. */
int lr_engine_host_sums(struct lr_engine_host *h);
/* Fails the sequence. Returns rc. */
int lr_engine_host_fail(struct lr_engine_host *h, int rc, const char *who, const char *what);

/* ---- host_step.c ---- */
/* What a part wants in a phase at a layer. Refuses what this engine has not. */
int lr_engine_part_need(struct lr_policy_seq *q, uint32_t layer, enum lr_policy_phase phase,
                        struct lr_policy_need *out);
/* Budgets and edits of the active set at a safepoint. */
int lr_engine_host_edit(struct lr_engine_host *h, enum lr_policy_phase phase);

/* ---- host_select.c ---- */
/* LR_EUNSUPPORTED when parts of the set look at attention that choosing leaves out. */
int lr_engine_host_may_choose(struct host_set *set, struct lr_err *err);
void lr_engine_host_unchoose(struct lr_engine_host *h); /* frees */

/* ---- host_api.c ---- */
extern const struct lr_policy_api lr_engine_api;

#endif
