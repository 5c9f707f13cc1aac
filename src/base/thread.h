/* SPDX-License-Identifier: Apache-2.0
 * base/thread.h - jobs with one owner at a time, and pools with bounded queues.
 *
 * A job is embedded in the work it does (LR_CONTAINER finds the work). After lr_pool_submit returned
 * 0 the pool owns the job and everything it points to; when run() is entered, run() owns it, and may
 * hand it on or free it: the pool does not touch a job after calling run().
 */
#ifndef LR_BASE_THREAD_H
#define LR_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct lr_job {
    void (*run)(struct lr_job *);
    struct lr_job *next; /* the queue's */
};

struct lr_pool;

/* `threads` workers named name/0.., a queue of at most `queue_max` waiting jobs. */
int lr_pool_open(struct lr_pool **out, const char *name, unsigned threads, size_t queue_max);
/* LR_EBUSY when the queue is full, LR_ECLOSED after lr_pool_close began: the caller still owns j. */
int lr_pool_submit(struct lr_pool *p, struct lr_job *j);
size_t lr_pool_waiting(struct lr_pool *p);
/* Runs what is queued, joins the workers, frees. Jobs submitted meanwhile are refused. */
void lr_pool_close(struct lr_pool *p);

/* A thread with a name (15 bytes shown by ps) and signals blocked (they are the main thread's), but for
 * those that the thread's own faults raise. */
int lr_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg);

#endif
