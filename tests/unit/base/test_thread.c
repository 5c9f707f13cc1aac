/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_thread.c - laws of jobs and pools.
 */
#include "base/base.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct task {
    struct lr_job job;
    atomic_int runs;
};

static void run_task(struct lr_job *j)
{
    atomic_fetch_add(&LR_CONTAINER(j, struct task, job)->runs, 1);
}

/* A job that holds its worker until the gate opens. */
struct gate {
    struct lr_job job;
    pthread_mutex_t mu; /* guards both flags */
    pthread_cond_t moved;
    bool entered, open;
};

static void run_gate(struct lr_job *j)
{
    struct gate *g = LR_CONTAINER(j, struct gate, job);
    pthread_mutex_lock(&g->mu);
    g->entered = true;
    pthread_cond_broadcast(&g->moved);
    while (!g->open)
        pthread_cond_wait(&g->moved, &g->mu);
    pthread_mutex_unlock(&g->mu);
}

static void gate_init(struct gate *g)
{
    *g = (struct gate){.job = {.run = run_gate}};
    pthread_mutex_init(&g->mu, NULL);
    pthread_cond_init(&g->moved, NULL);
}

static void gate_wait_entered(struct gate *g)
{
    pthread_mutex_lock(&g->mu);
    while (!g->entered)
        pthread_cond_wait(&g->moved, &g->mu);
    pthread_mutex_unlock(&g->mu);
}

static void gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->mu);
    g->open = true;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->mu);
}

static void gate_done(struct gate *g)
{
    pthread_cond_destroy(&g->moved);
    pthread_mutex_destroy(&g->mu);
}

static void close_runs_every_job_once(void **state)
{
    (void)state; /* cmocka's */
    enum { JOBS = 500 };
    static struct task tasks[JOBS];
    for (unsigned threads = 1; threads <= 8; threads *= 2) {
        struct lr_pool *p = NULL;
        assert_int_equal(lr_pool_open(&p, "test", threads, JOBS), 0);
        for (int i = 0; i < JOBS; i++) {
            tasks[i] = (struct task){.job = {.run = run_task}};
            assert_int_equal(lr_pool_submit(p, &tasks[i].job), 0);
        }
        lr_pool_close(p);
        for (int i = 0; i < JOBS; i++)
            assert_int_equal(tasks[i].runs, 1);
    }
    lr_pool_close(NULL);
}

static void a_full_queue_refuses_and_the_caller_keeps_the_job(void **state)
{
    (void)state; /* cmocka's */
    struct lr_pool *p = NULL;
    struct gate g;
    struct task t[3] = {{.job = {.run = run_task}}, {.job = {.run = run_task}},
                        {.job = {.run = run_task}}};
    gate_init(&g);
    assert_int_equal(lr_pool_open(&p, "test", 1, 2), 0);
    assert_int_equal(lr_pool_submit(p, &g.job), 0);
    gate_wait_entered(&g); /* the only worker is busy now */
    assert_int_equal(lr_pool_waiting(p), 0);
    assert_int_equal(lr_pool_submit(p, &t[0].job), 0);
    assert_int_equal(lr_pool_submit(p, &t[1].job), 0);
    assert_int_equal(lr_pool_submit(p, &t[2].job), LR_EBUSY);
    assert_int_equal(lr_pool_waiting(p), 2);
    gate_open(&g);
    lr_pool_close(p);
    assert_true(t[0].runs == 1 && t[1].runs == 1 && t[2].runs == 0);
    gate_done(&g);
}

/* ---- order, and jobs that free themselves or are sent on ---- */

struct note {
    struct lr_job job;
    int number;
};

static int order[100];
static int ordered;

static void run_note(struct lr_job *j)
{
    struct note *n = LR_CONTAINER(j, struct note, job);
    order[ordered++] = n->number;
    lr_free(n); /* run() owns the job */
}

static void one_worker_keeps_the_order(void **state)
{
    (void)state; /* cmocka's */
    struct lr_pool *p = NULL;
    ordered = 0;
    assert_int_equal(lr_pool_open(&p, "test", 1, 100), 0);
    for (int i = 0; i < 100; i++) {
        struct note *n = lr_new(struct note);
        assert_non_null(n);
        *n = (struct note){{.run = run_note}, i};
        assert_int_equal(lr_pool_submit(p, &n->job), 0);
    }
    lr_pool_close(p);
    assert_int_equal(ordered, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(order[i], i);
}

struct walker {
    struct lr_job job;
    struct lr_pool *pool;
    int left, rc;
    struct gate *done;
};

static void run_walker(struct lr_job *j)
{
    struct walker *w = LR_CONTAINER(j, struct walker, job);
    int rc = --w->left > 0 ? lr_pool_submit(w->pool, j) : LR_ECANCEL;
    if (rc) { /* else the pool owns *w again */
        w->rc = rc;
        gate_open(w->done);
    }
}

static void a_job_may_submit_itself_again(void **state)
{
    (void)state; /* cmocka's */
    struct gate done;
    gate_init(&done);
    struct walker w = {.job = {.run = run_walker}, .left = 1000, .done = &done};
    assert_int_equal(lr_pool_open(&w.pool, "test", 2, 1), 0);
    assert_int_equal(lr_pool_submit(w.pool, &w.job), 0);
    run_gate(&done.job); /* waits */
    lr_pool_close(w.pool);
    assert_true(w.left == 0 && w.rc == LR_ECANCEL);
    gate_done(&done);
}

/* A job that runs while the pool closes finds it closed. */
struct late {
    struct gate gate;
    struct task task;
    struct lr_pool *pool;
    int rc;
};

static void run_late(struct lr_job *j)
{
    struct late *l = LR_CONTAINER(j, struct late, gate.job);
    run_gate(j);
    do /* close has been called, but may not have got the lock yet */
        l->rc = lr_pool_submit(l->pool, &l->task.job);
    while (l->rc != LR_ECLOSED && (lr_clock_sleep_ns(LR_MS), true));
}

static void *close_pool(void *arg)
{
    lr_pool_close(arg);
    return NULL;
}

static void nop(struct lr_job *j)
{
    j->next = NULL;
}

static void a_closing_pool_refuses(void **state)
{
    (void)state; /* cmocka's */
    struct late l = {.rc = 1};
    pthread_t closer;
    gate_init(&l.gate);
    l.gate.job.run = run_late;
    l.task.job.run = nop;
    assert_int_equal(lr_pool_open(&l.pool, "test", 1, 1), 0);
    assert_int_equal(lr_pool_submit(l.pool, &l.gate.job), 0);
    gate_wait_entered(&l.gate);
    /* The queue is full from here on, so run_late gets LR_EBUSY until the pool closes. */
    assert_int_equal(lr_pool_submit(l.pool, &l.task.job), 0);
    assert_int_equal(lr_thread_start(&closer, "closer", close_pool, l.pool), 0);
    gate_open(&l.gate);
    assert_int_equal(pthread_join(closer, NULL), 0);
    assert_int_equal(l.rc, LR_ECLOSED);
    gate_done(&l.gate);
}

/* ---- threads ---- */

static void *look_around(void *arg)
{
    sigset_t blocked;
    bool *ok = arg;
    *ok = pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0 &&
          sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGHUP) == 1;
    return NULL;
}

static void threads_block_signals_and_their_starter_does_not(void **state)
{
    (void)state; /* cmocka's */
    pthread_t t;
    bool ok = false;
    sigset_t mine;
    assert_int_equal(lr_thread_start(&t, "a name longer than fifteen", look_around, &ok), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_true(ok);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

static void a_pool_that_cannot_start_leaves_nothing(void **state)
{
    (void)state; /* cmocka's */
    struct lr_pool *p = NULL;
    int rc = LR_ENOMEM;
    uint64_t n = 1;
    assert_int_equal(lr_pool_open(&p, "test", 0, 1), LR_EINVAL);
    assert_int_equal(lr_pool_open(&p, "test", 1025, 1), LR_EINVAL);
    for (; rc; n++) {
        assert_int_equal(lr_fault_arm(n), 0);
        rc = lr_pool_open(&p, "test", 3, 1);
        assert_true(rc == 0 || rc == LR_ENOMEM || rc == LR_EBUSY);
        assert_true(rc == 0 || p == NULL);
    }
    assert_int_equal(lr_fault_arm(0), 0);
    assert_int_equal(n, 6); /* one allocation, three threads, none */
    lr_pool_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_runs_every_job_once),
        cmocka_unit_test(a_full_queue_refuses_and_the_caller_keeps_the_job),
        cmocka_unit_test(one_worker_keeps_the_order),
        cmocka_unit_test(a_job_may_submit_itself_again),
        cmocka_unit_test(a_closing_pool_refuses),
        cmocka_unit_test(threads_block_signals_and_their_starter_does_not),
        cmocka_unit_test(a_pool_that_cannot_start_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
