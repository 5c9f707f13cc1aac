/* SPDX-License-Identifier: Apache-2.0
 * serve/timer.c - one thread for what must happen later: retries, probes, the second's tick.
 *
 * A sorted list under one lock: there are never more than a few hundred timers (one an attempt that
 * waits for its retry). fire() runs without the lock and may add its timer again.
 */
#include "serve/serve_int.h"

#include <errno.h>
#include <time.h>

struct lr_timers {
    pthread_mutex_t mu; /* guards list and closing */
    pthread_cond_t more;
    struct lr_timer *first;
    bool closing;
    pthread_t thread;
};

static void wait_until(struct lr_timers *t, uint64_t at_ns)
{
    struct timespec ts = {(time_t)(at_ns / LR_SEC), (long)(at_ns % LR_SEC)};
    /* Woken early, late or for nothing: the loop looks again. */
    (void)pthread_cond_timedwait(&t->more, &t->mu, &ts);
}

static void *loop(void *arg)
{
    struct lr_timers *t = arg;
    pthread_mutex_lock(&t->mu);
    for (;;) {
        struct lr_timer *x = t->first;
        if (!x && t->closing)
            break;
        if (!x) {
            pthread_cond_wait(&t->more, &t->mu);
            continue;
        }
        if (!t->closing && x->at_ns > lr_clock_mono_ns()) {
            wait_until(t, x->at_ns);
            continue;
        }
        t->first = x->next;
        pthread_mutex_unlock(&t->mu);
        x->fire(x);
        pthread_mutex_lock(&t->mu);
    }
    pthread_mutex_unlock(&t->mu);
    return NULL;
}

int lr_timers_open(struct lr_timers **out)
{
    struct lr_timers *t = lr_new(struct lr_timers);
    LR_FAIL_IF(!t, LR_ENOMEM);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->more, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&t->mu, NULL);
    int rc = lr_thread_start(&t->thread, "larder-timer", loop, t);
    if (rc) {
        pthread_cond_destroy(&t->more);
        pthread_mutex_destroy(&t->mu);
        lr_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void lr_timers_close(struct lr_timers *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->mu);
    t->closing = true;
    pthread_cond_signal(&t->more);
    pthread_mutex_unlock(&t->mu);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->more);
    pthread_mutex_destroy(&t->mu);
    lr_free(t);
}

void lr_timers_add(struct lr_timers *t, struct lr_timer *x)
{
    pthread_mutex_lock(&t->mu);
    struct lr_timer **at = &t->first;
    while (*at && (*at)->at_ns <= x->at_ns)
        at = &(*at)->next;
    x->next = *at;
    *at = x;
    pthread_cond_signal(&t->more);
    pthread_mutex_unlock(&t->mu);
}
