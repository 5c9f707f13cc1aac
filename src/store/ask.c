/* SPDX-License-Identifier: Apache-2.0
 * store/ask.c - how much of a chain is here or in the remote tier.
 *
 * One batch of EXISTS for all that is not here, from the first that is missing on: a chain's links leave
 * together, so asking one after the other would cost a round trip each for the same answer. The
 * answers come on the lane's thread into memory that both hold: who asked may stop waiting at its
 * deadline, and the last to let go frees it.
 */
#include "store/store_int.h"

#define IDS_MAX 1024u

struct ask {
    pthread_mutex_t mu; /* guards refs, left, and there of the questions; a leaf */
    pthread_cond_t cond;
    unsigned refs;
    size_t left; /* questions without an answer */
    struct question {
        struct lr_errand errand;
        struct ask *ask;
        bool there;
    } q[];
};

static void unref_locked(struct ask *a)
{
    bool last = --a->refs == 0;
    pthread_mutex_unlock(&a->mu);
    if (!last)
        return;
    pthread_cond_destroy(&a->cond);
    pthread_mutex_destroy(&a->mu);
    lr_free(a);
}

static void answered(struct lr_errand *e, int rc, struct lr_block *b)
{
    struct question *q = LR_CONTAINER(e, struct question, errand);
    struct ask *a = q->ask;
    (void)b; /* EXISTS has none */
    pthread_mutex_lock(&a->mu);
    q->there = rc == 0;
    if (--a->left == 0)
        pthread_cond_signal(&a->cond);
    unref_locked(a);
}

static struct ask *ask_new(size_t n)
{
    struct ask *a = lr_calloc(1, sizeof *a + n * sizeof a->q[0]);
    pthread_condattr_t monotonic;
    if (!a)
        return NULL;
    a->refs = 1;
    pthread_mutex_init(&a->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&a->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return a;
}

/* Asks for those of ids that are not here, and waits. there[i]: here, or there. */
static void ask_all(struct lr_store *s, const struct lr_digest *ids, size_t n, uint64_t deadline,
                    bool *there)
{
    struct timespec t = {(time_t)(deadline / LR_SEC), (long)(deadline % LR_SEC)};
    struct ask *a = ask_new(n);
    if (!a)
        return;
    for (size_t i = 0; i < n; i++) {
        there[i] = lr_store_has(s, &ids[i]);
        if (there[i] || lr_role_of(&ids[i]))
            continue;
        a->q[i].errand = (struct lr_errand){.kind = LR_ERRAND_EXISTS, .id = ids[i], .done = answered};
        a->q[i].ask = a;
        pthread_mutex_lock(&a->mu);
        a->refs++;
        a->left++;
        pthread_mutex_unlock(&a->mu);
        if (lr_remote_ask(s, &a->q[i].errand)) { /* not there, or nobody to say so: the chain ends */
            pthread_mutex_lock(&a->mu);
            a->refs--;
            a->left--;
            pthread_mutex_unlock(&a->mu);
            break;
        }
    }
    int err = 0;
    pthread_mutex_lock(&a->mu);
    while (a->left && !err)
        err = deadline == LR_FOREVER ? pthread_cond_wait(&a->cond, &a->mu)
                                     : pthread_cond_timedwait(&a->cond, &a->mu, &t);
    for (size_t i = 0; i < n; i++)
        there[i] = there[i] || a->q[i].there;
    unref_locked(a);
}

size_t lr_store_prefix_within(struct lr_store *s, const struct lr_digest *ids, size_t n, bool prefetch,
                              uint64_t deadline, size_t *in_memory)
{
    bool there[IDS_MAX] = {0};
    n = n < IDS_MAX ? n : IDS_MAX;
    size_t here = lr_store_prefix(s, ids, n, prefetch, in_memory);
    if (!s->remote || here == n || deadline <= lr_clock_mono_ns())
        return here;
    ask_all(s, ids + here, n - here, deadline, there + here);
    for (; here < n && there[here]; here++) {
        struct lr_shard *sh = lr_shard_of(s, &ids[here]);
        enum lr_store_count why;
        if (!prefetch)
            continue;
        pthread_mutex_lock(&sh->mu);
        struct lr_entry *e = lr_visible_locked(s, sh, &ids[here], &why);
        int rc = !e ? lr_load_remote_locked(s, sh, &ids[here], NULL)
                 : e->block ? 0
                            : lr_load_locked(s, sh, e, NULL);
        pthread_mutex_unlock(&sh->mu);
        prefetch = rc == 0; /* else the queue is full: those ahead are on their way */
    }
    return here;
}
