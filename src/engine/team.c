/* SPDX-License-Identifier: Apache-2.0
 * engine/team.c - compute threads that run one function together and meet at barriers.
 *
 *   caller   run --- fn(arg, 0) ---- sync ---- sync --- end
 *   thread 1  wait -- fn(arg, 1) --- sync ---- sync --- wait
 *
 * A step of a small model has some 200 meetings in 5 ms, so a meeting must cost well under a
 * microsecond when all are running, and must not burn a core when one of them was put aside: a thread
 * spins SPIN times and then sleeps on the condition variable. Between steps all sleep after the spin.
 *
 * Work is handed out by counters (take). Each thread has an equal share of the pieces, neighbours in
 * memory, and a counter on a cache line of its own; who is done with its share goes on with what the
 * others have left, for on a machine shared with others one thread is often late. Which thread does a
 * piece changes no bit of it (kern.h), so this is free. Neighbours, because a product asks the cache
 * for the weights behind the ones it multiplies (kern/): they should be the same thread's. One counter
 * for all cost a miss a piece, and half of what was asked for went to the wrong core.
 *
 *   pieces    | 0 1 2 3 4 | 5 6 7 8 9 |      thread 0: 0 1 2 .., then from 5 .. 9 what is left
 *
 * A counter belongs to a phase: the generation of the meeting is in its upper half, and the first to
 * take from it in a new phase begins at 0. Nobody resets anything.
 *
 * Memory order: the gate's generation is stored after everything the arrivers did (their arrival is a
 * read-modify-write with acquire and release), and loaded with acquire by who leaves. `sleepers` and
 * the generation are sequentially consistent: either the opener sees the sleeper, or the sleeper sees
 * the new generation before it sleeps.
 */
#include "engine/engine_int.h"

#include <pthread.h>
#include <stdio.h>

#define SPIN 4000 /* pauses, some 40 us */

struct gate {
    atomic_uint generation;
    atomic_uint sleepers;
    pthread_mutex_t mu; /* for cv only */
    pthread_cond_t cv;
};

struct share {
    _Atomic uint64_t next; /* generation << 32 | pieces taken */
    char pad[120];         /* nobody else's line, nor the neighbour that is fetched with it */
};

struct team {
    unsigned n;             /* threads, the caller's included */
    unsigned started;       /* pthreads that run */
    pthread_t *thread;      /* (n - 1) */
    struct gate start, meet;
    atomic_uint arrived;
    struct share *share;    /* (n) */
    void (*fn)(void *arg, unsigned i); /* written before start's generation */
    void *arg;
    bool stop;
};

struct member {
    struct team *team;
    unsigned i;
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void gate_wait(struct gate *g, unsigned old)
{
    for (int i = 0; i < SPIN; i++) {
        if (atomic_load_explicit(&g->generation, memory_order_acquire) != old)
            return;
        pause_cpu();
    }
    pthread_mutex_lock(&g->mu);
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->generation) == old)
        pthread_cond_wait(&g->cv, &g->mu);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->mu);
}

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->generation, 1);
    if (atomic_load(&g->sleepers)) {
        pthread_mutex_lock(&g->mu);
        pthread_cond_broadcast(&g->cv);
        pthread_mutex_unlock(&g->mu);
    }
}

void lr_engine_team_sync(struct team *t)
{
    unsigned old = atomic_load_explicit(&t->meet.generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 < t->n) {
        gate_wait(&t->meet, old);
        return;
    }
    atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
    gate_open(&t->meet);
}

/* Takes one of n pieces; n or more: none left. */
static size_t take_from(struct share *s, unsigned generation, size_t n)
{
    const uint64_t phase = (uint64_t)generation << 32;
    uint64_t v = atomic_load_explicit(&s->next, memory_order_relaxed);
    if (!n)
        return 0;
    while ((v ^ phase) >> 32)
        if (atomic_compare_exchange_weak_explicit(&s->next, &v, phase | 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return 0;
    if ((v & UINT32_MAX) >= n)
        return n;
    return atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed) & UINT32_MAX;
}

size_t lr_engine_team_take(struct team *t, unsigned i, size_t n)
{
    unsigned generation = atomic_load_explicit(&t->meet.generation, memory_order_relaxed);
    for (unsigned j = 0; j < t->n; j++) {
        size_t who = (i + j) % t->n, first = n * who / t->n, share = n * (who + 1) / t->n - first;
        size_t piece = take_from(&t->share[who], generation, share);
        if (piece < share)
            return first + piece;
    }
    return n;
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct team *t = m->team;
    unsigned i = m->i, generation = 0;
    lr_free(m);
    lr_nn_thread_init();
    for (;;) {
        gate_wait(&t->start, generation++);
        if (t->stop)
            return NULL;
        t->fn(t->arg, i);
        lr_engine_team_sync(t);
    }
}

void lr_engine_team_run(struct team *t, void (*fn)(void *arg, unsigned i), void *arg)
{
    t->fn = fn;
    t->arg = arg;
    gate_open(&t->start);
    fn(arg, 0);
    lr_engine_team_sync(t);
}

static void gate_init(struct gate *g)
{
    pthread_mutex_init(&g->mu, NULL);
    pthread_cond_init(&g->cv, NULL);
}

static void gate_free(struct gate *g)
{
    pthread_mutex_destroy(&g->mu);
    pthread_cond_destroy(&g->cv);
}

static int start_member(struct team *t, unsigned i)
{
    struct member *m = lr_new(struct member);
    LR_FAIL_IF(!m, LR_ENOMEM);
    *m = (struct member){t, i};
    char name[24]; /* LR_ENGINE_THREADS_MAX has three digits */
    snprintf(name, sizeof name, "engine/%u", i);
    int rc = lr_thread_start(&t->thread[i - 1], name, member_main, m);
    if (rc)
        lr_free(m);
    return rc;
}

int lr_engine_team_open(struct team **out, unsigned n)
{
    struct team *t = lr_new(struct team);
    LR_FAIL_IF(!t, LR_ENOMEM);
    t->thread = lr_calloc(n, sizeof *t->thread);
    t->share = lr_calloc(n, sizeof *t->share);
    t->n = n;
    gate_init(&t->start);
    gate_init(&t->meet);
    int rc = t->thread && t->share ? 0 : LR_ENOMEM;
    for (unsigned i = 1; !rc && i < n; i++) {
        rc = start_member(t, i);
        t->started += !rc;
    }
    if (rc) {
        lr_engine_team_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void lr_engine_team_close(struct team *t)
{
    if (!t)
        return;
    t->stop = true;
    gate_open(&t->start);
    for (unsigned i = 0; i < t->started; i++)
        pthread_join(t->thread[i], NULL);
    gate_free(&t->start);
    gate_free(&t->meet);
    lr_free(t->thread);
    lr_free(t->share);
    lr_free(t);
}
