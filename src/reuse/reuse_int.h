/* SPDX-License-Identifier: Apache-2.0
 * reuse/reuse_int.h - what the files of reuse/ share.
 */
#ifndef LR_REUSE_REUSE_INT_H
#define LR_REUSE_REUSE_INT_H

#include "reuse/reuse.h"

#include <pthread.h>

#define LR_REUSE_SAVES 32u /* that wait */

struct lr_reuse {
    struct lr_reuse_opts o;
    struct lr_pool *loads, *saves;
};

/* A load or save: who may touch the caller's rows, who still touches the work, and its end.
 *
 *   refs      the handle, and every piece that some thread or the store still knows of
 *   touching  pieces in get or put; none begins once `stopping` is set
 *   pending   pieces that have not ended; the last one tells, unless it was stopped */
struct lr_reuse_work {
    struct lr_reuse *reuse;
    struct lr_reuse_rows rows;
    void (*done)(void *ctx);
    void *ctx;
    uint64_t start_ns;

    pthread_mutex_t mu; /* guards all below; a leaf */
    pthread_cond_t cv;
    atomic_bool stopping; /* set under mu, read anywhere */
    uint32_t refs, touching, pending;
    bool telling, told;
    uint64_t end_ns;
};

void lr_reuse_work_init(struct lr_reuse_work *w, struct lr_reuse *r, const struct lr_reuse_move *m,
                        uint32_t pieces);
/* May a piece touch the caller's rows? Then until leave. */
bool lr_reuse_work_enter(struct lr_reuse_work *w);
void lr_reuse_work_leave(struct lr_reuse_work *w);
/* A piece has ended: it knows nothing of the work any more. True: nobody does, free it. */
bool lr_reuse_work_end(struct lr_reuse_work *w);
/* The handle goes. As above. */
bool lr_reuse_work_drop(struct lr_reuse_work *w);
void lr_reuse_work_stop(struct lr_reuse_work *w);
bool lr_reuse_work_over(struct lr_reuse_work *w);
void lr_reuse_work_free(struct lr_reuse_work *w);

/* The object of link i of a chain. Texts point into rows. */
struct lr_object lr_reuse_object(const struct lr_reuse_rows *r, uint64_t tenant,
                                 const struct lr_digest *prev, const struct lr_reuse_link *l,
                                 uint32_t i);
/* The link before i. */
static inline const struct lr_digest *lr_reuse_prev(const struct lr_reuse_chain *c, uint32_t i)
{
    return i ? &c->link[i - 1].key : &c->first;
}

#endif
