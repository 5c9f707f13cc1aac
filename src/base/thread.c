/* SPDX-License-Identifier: Apache-2.0
 * base/thread.c
 */
#include "base/base.h"

#include <signal.h>
#include <stdio.h>

struct lr_pool {
    pthread_mutex_t mu; /* guards all below; never held while a job runs */
    pthread_cond_t more;
    struct lr_job *head, **tail;
    size_t n_waiting, n_max;
    bool closing;
    unsigned n_threads;
    pthread_t threads[];
};

int lr_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg)
{
    sigset_t all, old;
    sigfillset(&all);
    /* Faults of the thread itself stay its own: blocked, they would end the process unhandled. */
    static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL};
    for (size_t i = 0; i < LR_COUNT(faults); i++)
        sigdelset(&all, faults[i]);
    LR_FAIL_IF(lr_fault_here(), LR_EBUSY);
    LR_FAIL_IF(pthread_sigmask(SIG_SETMASK, &all, &old), LR_EINVAL);
    int err = pthread_create(out, NULL, fn, arg);
    /* Restoring a mask that was just read cannot fail. */
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    LR_FAIL_IF(err, LR_EBUSY);
    char shown[16];
    if (snprintf(shown, sizeof shown, "%s", name) > 0)
        (void)pthread_setname_np(*out, shown); /* cosmetic */
    return 0;
}

static void *work(void *arg)
{
    struct lr_pool *p = arg;
    pthread_mutex_lock(&p->mu);
    for (;;) {
        while (!p->head && !p->closing)
            pthread_cond_wait(&p->more, &p->mu);
        struct lr_job *j = p->head;
        if (!j)
            break;
        p->head = j->next;
        if (!p->head)
            p->tail = &p->head;
        p->n_waiting--;
        pthread_mutex_unlock(&p->mu);
        j->run(j);
        pthread_mutex_lock(&p->mu);
    }
    pthread_mutex_unlock(&p->mu);
    return NULL;
}

int lr_pool_open(struct lr_pool **out, const char *name, unsigned threads, size_t queue_max)
{
    LR_FAIL_IF(threads == 0 || threads > 1024, LR_EINVAL);
    struct lr_pool *p = lr_calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    LR_FAIL_IF(!p, LR_ENOMEM);
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->more, NULL);
    p->tail = &p->head;
    p->n_max = queue_max;
    for (; p->n_threads < threads; p->n_threads++) {
        char shown[32];
        int k = snprintf(shown, sizeof shown, "%s/%u", name, p->n_threads);
        int rc = k < 0 ? LR_EINVAL
                       : lr_thread_start(&p->threads[p->n_threads], shown, work, p);
        if (rc) {
            lr_pool_close(p);
            return rc;
        }
    }
    *out = p;
    return 0;
}

int lr_pool_submit(struct lr_pool *p, struct lr_job *j)
{
    pthread_mutex_lock(&p->mu);
    int rc = p->closing ? LR_ECLOSED : p->n_waiting >= p->n_max ? LR_EBUSY : 0;
    if (!rc) {
        j->next = NULL;
        *p->tail = j;
        p->tail = &j->next;
        p->n_waiting++;
        pthread_cond_signal(&p->more);
    }
    pthread_mutex_unlock(&p->mu);
    return rc;
}

size_t lr_pool_waiting(struct lr_pool *p)
{
    pthread_mutex_lock(&p->mu);
    size_t n = p->n_waiting;
    pthread_mutex_unlock(&p->mu);
    return n;
}

void lr_pool_close(struct lr_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mu);
    p->closing = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->mu);
    for (unsigned i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->mu);
    lr_free(p);
}
