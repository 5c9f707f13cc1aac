/* SPDX-License-Identifier: Apache-2.0
 * engine/sched_int.h - what the files of the scheduler share.
 *
 *   sched.c         the thread: inbox, admission, steps, ends
 *   sched_queue.c   whose turn it is, tenant by tenant
 *   sched_keep.c    conversations kept, and the longest beginning that is computed already
 *   sched_warm.c    rows from the KV store, and to it
 *   sched_choice.c  one reply: from logits to a token, to text, to events
 */
#ifndef LR_ENGINE_SCHED_INT_H
#define LR_ENGINE_SCHED_INT_H

#include "engine/engine_int.h"
#include "reuse/reuse.h"

#include <pthread.h>

#define EMBEDS_MAX 64u /* texts made vectors at once */
#define KEPT_MAX   64u /* conversations kept */
#define REUSE_MIN  16u /* a shared beginning of fewer tokens is not worth a fork */
#define BEGUN_MAX  LR_ENGINE_SEQS /* jobs begun and not ended */
#define LENT_MAX   16u /* saves under way */

/* ---- jobs and choices ---- */

enum choice_state { CHOICE_WAITS, CHOICE_RUNS, CHOICE_ENDED };

/* One reply, or one text to be a vector. */
struct choice {
    struct lr_engine_job *job;
    uint32_t number;
    enum choice_state state;
    const uint32_t *prompt; /* the job's */
    uint32_t n_prompt, n_reply, cap_reply, max_reply;
    uint32_t *reply;   /* tokens made */
    uint32_t cached;   /* of the prompt: found computed when it was first admitted */
    bool begun;        /* has been admitted once */
    bool planned;      /* has a part in the step under way */
    uint64_t parked;   /* put aside when so many choices had ended */

    /* while it runs */
    struct choice *older, *younger; /* in the scheduler's list, by admission */
    struct lr_engine_seq *seq;
    uint32_t granted; /* tokens it has been promised room for */
    struct warm_load *load; /* its first rows are on their way: nobody may touch the sequence */

    /* sched_warm.c */
    struct lr_reuse_chain chain; /* names of its first blocks; when `named` */
    bool named;
    uint32_t stored;             /* leading blocks that the store has, or was given */
    uint32_t warm[LR_REUSE_TIERS]; /* of `cached`: loaded from there */
    uint64_t load_ns, saved_ns;

    /* sched_choice.c: the reply's text. NULL before it has begun, and for vectors */
    struct voice *voice;
    float *sum; /* EMBEDDING: (n_embd) of hidden states */
};

struct lr_engine_job {
    struct lr_engine_job *next; /* in the inbox, then in its tenant's queue, then among those begun */
    struct lr_engine_ask ask;   /* its pointers are the job's own memory */
    struct lr_arena memory;     /* prompts, stops, bias, choices */
    struct choice *choices;     /* (n_choices) */
    uint32_t n_choices, n_ended;
    atomic_bool cancelled;
    atomic_uint resumes;        /* how often resume was called */
    bool paused;                /* until resumes is another than this: */
    unsigned paused_at;
    uint64_t submit_ns, begin_ns, first_ns; /* first_ns: of the first token; 0: none yet */
    bool over;         /* it ends with rc at the next sweep */
    int rc;
    struct lr_err err;
};

/* Tokens that make up a choice now, the last one not yet fed perhaps. */
static inline uint32_t choice_tokens(const struct choice *c)
{
    return c->n_prompt + c->n_reply;
}

/* ---- sched_queue.c: pure ---- */

struct tenant {
    uint64_t id;
    uint64_t served; /* weighted tokens, lifted to the least of the active when it comes back */
    struct lr_engine_job *first, *last;
    uint32_t running; /* jobs begun and not ended */
    bool used;
};
struct fair {
    struct tenant *v;
    size_t n;
};

/* Room for so many tenants with jobs, and some that were here lately. */
int lr_engine_fair_open(struct fair *f, size_t active_max);
void lr_engine_fair_close(struct fair *f);
void lr_engine_fair_add(struct fair *f, struct lr_engine_job *j);
/* The job whose turn it is, or NULL; take: leaves its queue and counts as running. */
struct lr_engine_job *lr_engine_fair_next(const struct fair *f);
void lr_engine_fair_take(struct fair *f, struct lr_engine_job *j);
/* Of a job that waits and is cancelled. */
void lr_engine_fair_remove(struct fair *f, struct lr_engine_job *j);
void lr_engine_fair_end(struct fair *f, uint64_t id);
void lr_engine_fair_charge(struct fair *f, uint64_t id, uint64_t tokens);
uint64_t lr_engine_fair_served(const struct fair *f, uint64_t id);
/* Any job that waits, or NULL. */
struct lr_engine_job *lr_engine_fair_any(const struct fair *f);

/* ---- the scheduler ---- */

struct kept {
    struct lr_engine_seq *seq;
    uint64_t tenant, used; /* used: when last, by the scheduler's count */
    uint32_t *ids;         /* owned; as many as the sequence is long */
    uint32_t n;
    uint64_t since_ns;     /* nobody has used it since */
    struct lr_digest last; /* what the store calls its last whole block; when `named` */
    bool named;
};

struct lr_engine_sched {
    struct lr_engine *e;
    const struct lr_kern *k;
    struct lr_engine_sched_opts o; /* with defaults filled in */
    struct lr_policy_stack stack; /* o.policy's, if it has one */
    bool evicts;                  /* rows of a sequence are not those of its tokens alone */
    struct lr_engine_stops stops;
    pthread_t thread;

    pthread_mutex_t mu; /* guards the group below; a leaf */
    pthread_cond_t cv;
    struct lr_engine_job *inbox, **inbox_end;
    uint32_t n_waiting; /* jobs submitted and not begun */
    bool poked, reap, closing; /* reap: somebody was cancelled */
    uint64_t deadline_ns;
    struct lr_engine_sched_stats stats;

    /* the thread's own */
    struct fair fair;
    struct lr_engine_job *begun; /* oldest first */
    struct choice *oldest, *youngest;
    uint32_t n_begun;            /* jobs */
    uint32_t n_replies, n_texts; /* that run */
    uint64_t n_ended;            /* choices, ever */
    uint64_t clock;              /* of uses of kept ones */
    struct kept kept[KEPT_MAX];
    uint32_t n_kept;
    bool warm;                 /* sched_warm.c has something to do */
    struct lr_reuse_rows rows;
    struct lr_reuse_speed speed;
    struct lent *lent[LENT_MAX]; /* oldest first */
    uint32_t n_lent;
    uint64_t wake_ns;          /* look again by then; 0: no need */
    int failed; /* why the model is of no use any more */
    struct lr_engine_sched_stats done; /* since it was last published */
    struct lr_engine_work work[LR_ENGINE_SEQS];
    struct choice *who[LR_ENGINE_SEQS];
    size_t n_work;
    uint32_t n_logits, n_hidden; /* of the step: rows in use of: */
    float *logits;  /* (parallel, n_vocab) */
    float *hidden;  /* (LR_ENGINE_BATCH, n_embd); NULL until the first text */
    uint64_t *mask; /* (n_vocab / 64) */
};

/* ---- sched_keep.c ---- */

/* Room for c: forked from the longest computed beginning or empty, promised `tokens`. Gives up kept ones
 * for it. LR_EOVER. */
int lr_engine_keep_admit(struct lr_engine_sched *s, struct choice *c, uint32_t tokens);
/* Takes c's sequence, or closes it. */
void lr_engine_keep_add(struct lr_engine_sched *s, struct choice *c);
/* Closes the one that was used least recently, or takes back what was lent; false: there is none. */
bool lr_engine_keep_drop(struct lr_engine_sched *s);
void lr_engine_keep_drop_at(struct lr_engine_sched *s, uint32_t i);

/* ---- sched_warm.c: all of it does nothing without a store ---- */

struct lr_engine_warm_found {
    uint32_t blocks, in_memory; /* leading ones that the store has; of these, leading ones in memory */
};

void lr_engine_warm_open(struct lr_engine_sched *s);
/* Waits a moment for saves; those that are not done then are dropped. */
void lr_engine_warm_close(struct lr_engine_sched *s);
struct lr_engine_warm_found lr_engine_warm_find(struct lr_engine_sched *s, struct choice *c);
/* have: tokens whose rows a fork would bring. */
void lr_engine_warm_plan(const struct lr_engine_sched *s, const struct choice *c,
                         const struct lr_engine_warm_found *found, uint32_t have,
                         struct lr_reuse_plan *out);
/* Begins the planned load into c's sequence, whose rows end where the plan begins. */
void lr_engine_warm_load(struct lr_engine_sched *s, struct choice *c, const struct lr_reuse_plan *p);
/* Ends c's load, if it has one: what came stays, the sequence is c's again. */
void lr_engine_warm_land(struct lr_engine_sched *s, struct choice *c);
/* Saves the complete blocks that the store was not given yet. all: also a few. */
void lr_engine_warm_save(struct lr_engine_sched *s, struct choice *c, bool all);
/* Takes lent pages back; false: none are lent. */
bool lr_engine_warm_reclaim(struct lr_engine_sched *s);
/* Ends what is over or late, gives idle conversations up, sets wake_ns. */
void lr_engine_warm_round(struct lr_engine_sched *s);
/* What the store calls a conversation that is kept. */
void lr_engine_warm_name(struct lr_engine_sched *s, struct choice *c, struct kept *k);
/* After a step that took so long. */
void lr_engine_warm_measure(struct lr_engine_sched *s, uint64_t ns);

/* ---- sched_choice.c ---- */

int lr_engine_choice_begin(struct lr_engine_sched *s, struct choice *c);
void lr_engine_choice_free(struct choice *c);
/* The next token from its logits, and what there is to tell. *end: the reply is complete, and told. */
int lr_engine_choice_take(struct lr_engine_sched *s, struct choice *c, const float *logits,
                          bool *end);

#endif
