/* SPDX-License-Identifier: Apache-2.0
 * reuse/reuse.c - contexts, and what loads and saves have in common.
 *
 *   owner (a scheduler)          threads of the context, and of the store
 *   begin ------------------>    pieces: enter .. get or put .. leave, end
 *     |                                                              \-> done, by the last one
 *   stop: none enters any more; waits until who is inside has left
 *   free: the handle goes; the memory with the last piece
 *
 * The owner's rows and the work's own memory have two lives. Rows must be left alone as soon as stop
 * returns, which takes one copy of a layer; the work is held by every piece that a queue or a disk
 * still knows of, and is freed by whoever lets go of it last. So a stop never waits for a disk.
 */
#include "reuse/reuse_int.h"

#define LOADS_MAX 8192u /* pieces that wait */
#define PATIENCE  (5 * LR_SEC)

/* ---- work ---- */

void lr_reuse_work_init(struct lr_reuse_work *w, struct lr_reuse *r, const struct lr_reuse_move *m,
                        uint32_t pieces)
{
    w->reuse = r;
    w->rows = *m->rows;
    w->done = m->done;
    w->ctx = m->ctx;
    w->start_ns = w->end_ns = lr_clock_mono_ns();
    w->pending = pieces;
    w->refs = 1 + pieces;
    atomic_init(&w->stopping, false);
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->cv, NULL);
}

bool lr_reuse_work_enter(struct lr_reuse_work *w)
{
    pthread_mutex_lock(&w->mu);
    bool may = !atomic_load(&w->stopping);
    w->touching += may;
    pthread_mutex_unlock(&w->mu);
    return may;
}

void lr_reuse_work_leave(struct lr_reuse_work *w)
{
    pthread_mutex_lock(&w->mu);
    w->touching--;
    pthread_cond_broadcast(&w->cv);
    pthread_mutex_unlock(&w->mu);
}

bool lr_reuse_work_end(struct lr_reuse_work *w)
{
    pthread_mutex_lock(&w->mu);
    w->pending--;
    w->telling = !w->pending && !atomic_load(&w->stopping);
    if (!w->pending)
        w->end_ns = lr_clock_mono_ns();
    if (w->telling) { /* stop waits until it was told */
        pthread_mutex_unlock(&w->mu);
        w->done(w->ctx);
        pthread_mutex_lock(&w->mu);
        w->telling = false;
        pthread_cond_broadcast(&w->cv);
    }
    bool last = --w->refs == 0;
    pthread_mutex_unlock(&w->mu);
    return last;
}

bool lr_reuse_work_drop(struct lr_reuse_work *w)
{
    pthread_mutex_lock(&w->mu);
    bool last = --w->refs == 0;
    pthread_mutex_unlock(&w->mu);
    return last;
}

void lr_reuse_work_stop(struct lr_reuse_work *w)
{
    pthread_mutex_lock(&w->mu);
    atomic_store(&w->stopping, true);
    while (w->touching || w->telling)
        pthread_cond_wait(&w->cv, &w->mu);
    pthread_mutex_unlock(&w->mu);
}

bool lr_reuse_work_over(struct lr_reuse_work *w)
{
    pthread_mutex_lock(&w->mu);
    bool over = !w->pending || atomic_load(&w->stopping);
    pthread_mutex_unlock(&w->mu);
    return over;
}

void lr_reuse_work_free(struct lr_reuse_work *w)
{
    pthread_cond_destroy(&w->cv);
    pthread_mutex_destroy(&w->mu);
}

/* ---- contexts ---- */

int lr_reuse_open(struct lr_reuse **out, const struct lr_reuse_opts *o)
{
    struct lr_reuse *r = lr_new(struct lr_reuse);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->o = *o;
    r->o.loaders = o->loaders ? o->loaders : 2;
    r->o.patience_ns = o->patience_ns ? o->patience_ns : PATIENCE;
    int rc = lr_pool_open(&r->loads, "kv-warm", r->o.loaders, LOADS_MAX);
    rc = rc ? rc : lr_pool_open(&r->saves, "kv-save", 1, LR_REUSE_SAVES);
    if (rc) {
        lr_pool_close(r->loads);
        lr_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void lr_reuse_close(struct lr_reuse *r)
{
    if (!r)
        return;
    lr_pool_close(r->loads);
    lr_pool_close(r->saves);
    lr_free(r);
}

const struct lr_reuse_opts *lr_reuse_opts(const struct lr_reuse *r)
{
    return &r->o;
}

/* ---- looking ---- */

#define LOOK 64u /* ids asked for at once */

uint32_t lr_reuse_find(struct lr_reuse *r, const struct lr_reuse_chain *c, uint32_t *in_memory)
{
    uint32_t n = 0, memory = 0;
    while (n < c->n) {
        struct lr_digest ids[LOOK];
        uint32_t k = 0;
        size_t m, found;
        for (; k < LOOK && n + k < c->n; k++)
            ids[k] = c->link[n + k].id;
        found = lr_store_prefix(r->o.store, ids, k, false, &m);
        memory += memory == n ? (uint32_t)m : 0;
        n += (uint32_t)found;
        if (found < k)
            break;
    }
    *in_memory = memory;
    return n;
}

bool lr_reuse_has(struct lr_reuse *r, const struct lr_digest *id)
{
    return lr_store_has(r->o.store, id);
}

const char *lr_reuse_tier_name(enum lr_reuse_tier t)
{
    static const char *const names[] = {"memory", "disk", "remote"};
    return (size_t)t < LR_COUNT(names) ? names[t] : "none";
}
