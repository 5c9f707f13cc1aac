/* SPDX-License-Identifier: Apache-2.0
 * unit/serve/test_flight.c - laws of the flight: every reader reads exactly what was pushed.
 *
 * The twin of a flight is one buffer with every event ever pushed: what a reader has pulled must be
 * a prefix of it, and all of it once the flight has landed.
 */
#include "serve/flight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TWIN_MAX LR_MIB(256)

/* ---- a plane and its seats --------------------------------------------------------------- */

struct plane {
    struct lr_flights *table;
    struct lr_flight *f;
    unsigned cancels, rooms, releases;
    struct lr_buf twin;
};

struct seat {
    struct lr_reader r;
    struct lr_buf got;
    unsigned wakes, sleeps;
};

static void on_cancel(void *p)
{
    ((struct plane *)p)->cancels++;
}
static void on_room(void *p)
{
    ((struct plane *)p)->rooms++;
}
static void on_released(void *p)
{
    ((struct plane *)p)->releases++;
}
static void on_wake(struct lr_reader *r)
{
    LR_CONTAINER(r, struct seat, r)->wakes++;
}
static void on_sleep(struct lr_reader *r)
{
    LR_CONTAINER(r, struct seat, r)->sleeps++;
}

static struct lr_digest key_of(uint8_t n)
{
    struct lr_digest d = {{n, 1, 2}};
    return d;
}

static void seat_init(struct seat *s)
{
    memset(s, 0, sizeof *s);
    s->r.wake = on_wake;
    lr_buf_init(&s->got, TWIN_MAX);
}

static int enter(struct plane *p, struct seat *s, const struct lr_digest *key, bool background,
                 bool *began)
{
    seat_init(s);
    struct lr_flight_opts o = {.key = key,
                               .background = background,
                               .cancel = on_cancel,
                               .room = on_room,
                               .released = on_released,
                               .producer = p};
    int rc = lr_flight_enter(p->table, &o, &s->r, began);
    if (!rc && *began)
        p->f = s->r.flight;
    return rc;
}

static void board(struct plane *p, struct seat *s, const struct lr_digest *key)
{
    bool began = false;
    assert_int_equal(enter(p, s, key, false, &began), 0);
}

static void plane_open(struct plane *p)
{
    memset(p, 0, sizeof *p);
    lr_buf_init(&p->twin, TWIN_MAX);
    assert_int_equal(lr_flights_open(&p->table), 0);
}

static void plane_close(struct plane *p)
{
    assert_int_equal(lr_flights_count(p->table), 0);
    lr_flights_close(p->table);
    lr_buf_free(&p->twin);
}

static void leave(struct seat *s)
{
    lr_reader_close(&s->r);
    assert_null(s->r.flight);
    lr_buf_free(&s->got);
}

static int push_text(struct plane *p, const char *text, size_t n, uint64_t now)
{
    struct lr_event ev = {.type = LR_EV_DELTA, .a = lr_str(text, n)};
    int rc = lr_flight_push(p->f, &ev, now);
    if (rc == 0 || rc == LR_EBUSY)
        assert_int_equal(lr_event_append(&p->twin, &ev), 0);
    return rc;
}

static int push_z(struct plane *p, const char *z)
{
    return push_text(p, z, strlen(z), 1);
}

/* Pulls until something other than 0 comes. */
static int drain(struct seat *s, uint64_t now)
{
    int rc;
    do
        rc = lr_reader_pull(&s->r, LR_KIB(64), now, &s->got, on_sleep);
    while (!rc);
    return rc;
}

static void assert_all_read(const struct plane *p, const struct seat *s)
{
    assert_true(lr_str_eq(lr_buf_str(&s->got), lr_buf_str(&p->twin)));
}

/* ---- laws -------------------------------------------------------------------------------- */

static void late_joiners_read_from_the_first_event(void **state)
{
    (void)state;
    struct plane p;
    struct seat a, b, c;
    struct lr_digest k = key_of(1), other = key_of(2);
    plane_open(&p);
    board(&p, &a, &k);
    assert_int_equal(push_z(&p, "one"), 0);
    assert_int_equal(drain(&a, 1), LR_EBUSY);
    assert_int_equal(a.sleeps, 1);
    assert_int_equal(push_z(&p, "two"), 0);
    assert_int_equal(a.wakes, 1);
    assert_int_equal(push_z(&p, "three"), 0);
    assert_int_equal(a.wakes, 1); /* once a wait */
    bool began = true;
    assert_int_equal(enter(&p, &b, &k, false, &began), 0);
    assert_false(began);
    struct lr_flight *f = p.f;
    assert_int_equal(enter(&p, &c, &other, false, &began), 0);
    assert_true(began);
    lr_flight_finish(p.f, 0);
    leave(&c);
    p.f = f;
    lr_flight_finish(p.f, 0);
    assert_int_equal(drain(&a, 1), LR_ECLOSED);
    assert_int_equal(drain(&b, 1), LR_ECLOSED);
    assert_all_read(&p, &a);
    assert_all_read(&p, &b);
    size_t joined = 0;
    uint64_t bytes = 0;
    lr_flight_stats(p.f, &joined, &bytes);
    assert_int_equal(joined, 1);
    assert_int_equal(bytes, p.twin.len);
    leave(&a);
    assert_int_equal(p.releases, 1); /* the other one */
    leave(&b);
    assert_int_equal(p.releases, 2);
    assert_int_equal(p.cancels, 0);
    plane_close(&p);
}

static void only_a_listed_living_whole_flight_is_joined(void **state)
{
    (void)state;
    struct plane p;
    struct lr_digest k = key_of(7);
    for (int why = 0; why < 4; why++) {
        struct seat a, b;
        plane_open(&p);
        board(&p, &a, why == 3 ? NULL : &k);
        struct lr_flight *first = p.f;
        if (why == 0)
            lr_flight_unlist(first);
        if (why == 1)
            lr_flight_finish(first, LR_ENET);
        if (why == 2)
            lr_flights_cancel_all(p.table);
        bool began = false;
        assert_int_equal(enter(&p, &b, &k, false, &began), 0);
        assert_true(began);
        assert_int_equal(p.cancels, why == 2);
        lr_flight_finish(p.f, 0);
        if (why != 1)
            lr_flight_finish(first, 0);
        leave(&a);
        leave(&b);
        plane_close(&p);
    }
}

static void head_comes_before_events_and_wakes(void **state)
{
    (void)state;
    struct plane p;
    struct seat a;
    int status = 0;
    struct lr_str h = {0};
    plane_open(&p);
    board(&p, &a, NULL);
    assert_int_equal(lr_reader_head(&a.r, on_sleep, &status, &h), LR_EBUSY);
    assert_int_equal(a.sleeps, 1);
    assert_int_equal(lr_flight_head(p.f, 203, LR_STR("a: b\n")), 0);
    assert_int_equal(a.wakes, 1);
    assert_int_equal(lr_reader_head(&a.r, on_sleep, &status, &h), 0);
    assert_int_equal(status, 203);
    assert_true(lr_str_is(h, "a: b\n"));
    assert_int_equal(lr_flight_head(p.f, 200, lr_str(NULL, 0)), LR_EINVAL);
    lr_flight_finish(p.f, 0);
    leave(&a);
    plane_close(&p);
}

static void failure_comes_after_the_events_before_it(void **state)
{
    (void)state;
    struct plane p;
    struct seat a, b;
    int status = 0;
    struct lr_str h = {0};
    plane_open(&p);
    board(&p, &a, NULL);
    seat_init(&b);
    assert_int_equal(lr_flight_attach(p.f, &b.r, true), 0);
    assert_int_equal(push_z(&p, "half"), 0);
    lr_flight_finish(p.f, LR_ENET);
    assert_int_equal(lr_reader_head(&a.r, NULL, &status, &h), LR_ENET);
    assert_int_equal(drain(&a, 1), LR_ENET);
    assert_int_equal(drain(&b, 1), LR_ENET);
    assert_all_read(&p, &a);
    assert_all_read(&p, &b);
    leave(&a);
    leave(&b);
    plane_close(&p);
}

static void a_passed_flight_calls_its_new_producer_alone(void **state)
{
    struct plane p, heir = {.table = NULL};
    struct seat s;
    struct lr_flight_opts to = {.cancel = on_cancel, .room = on_room, .released = on_released,
                                .producer = &heir};
    (void)state;
    plane_open(&p);
    for (int late = 0; late < 2; late++) {
        bool began;
        assert_int_equal(enter(&p, &s, NULL, false, &began), 0);
        if (late)
            lr_flights_cancel_all(p.table);
        assert_int_equal(lr_flight_pass(p.f, &to), late ? LR_ECANCEL : 0);
        lr_flights_cancel_all(p.table);
        lr_flight_finish(p.f, 0);
        leave(&s);
    }
    assert_true(heir.cancels == 1 && heir.releases == 1);
    assert_true(p.cancels == 1 && p.releases == 1);
    plane_close(&p);
}

static void flight_without_sockets_is_cancelled_once(void **state)
{
    (void)state;
    struct plane p;
    struct seat a, b, keep;
    struct lr_digest k = key_of(3);
    plane_open(&p);
    board(&p, &a, &k);
    board(&p, &b, &k);
    seat_init(&keep);
    assert_int_equal(lr_flight_attach(p.f, &keep.r, true), 0);
    leave(&a);
    assert_int_equal(p.cancels, 0);
    leave(&b);
    assert_int_equal(p.cancels, 1); /* keep does not carry it */
    assert_int_equal(push_z(&p, "x"), LR_ECANCEL);
    lr_flights_cancel_all(p.table);
    assert_int_equal(p.cancels, 1);
    lr_flight_finish(p.f, LR_ECANCEL);
    assert_int_equal(drain(&keep, 1), LR_ECANCEL);
    leave(&keep);
    assert_int_equal(p.releases, 1);
    plane_close(&p);
}

static void keep_carries_a_background_flight(void **state)
{
    (void)state;
    struct plane p;
    struct seat keep, a;
    struct lr_digest k = key_of(4);
    bool began = false;
    plane_open(&p);
    assert_int_equal(enter(&p, &keep, &k, true, &began), 0);
    assert_true(began);
    board(&p, &a, &k);
    leave(&a);
    assert_int_equal(p.cancels, 0);
    assert_int_equal(push_z(&p, "x"), 0);
    leave(&keep);
    assert_int_equal(p.cancels, 1);
    lr_flight_finish(p.f, LR_ECANCEL);
    plane_close(&p);
}

static char block[LR_KIB(64)];

/* Pushes blocks until the log is full; returns how many went in. */
static size_t fill(struct plane *p, uint64_t now)
{
    size_t n = 0;
    while (push_text(p, block, sizeof block, now) == 0) {
        n++;
        assert_true(n * sizeof block <= LR_FLIGHT_LOG_MAX);
    }
    return n;
}

static void full_log_pauses_the_producer_until_there_is_room(void **state)
{
    (void)state;
    struct plane p;
    struct seat a, b, c;
    struct lr_digest k = key_of(5);
    plane_open(&p);
    board(&p, &a, &k);
    board(&p, &b, &k);
    size_t n = fill(&p, 1);
    assert_true(n >= LR_FLIGHT_LOG_MAX / sizeof block - 2);
    assert_int_equal(push_text(&p, block, sizeof block, 1), LR_EBUSY);
    bool began = false;
    struct lr_flight *f = p.f;
    assert_int_equal(enter(&p, &c, &k, false, &began), 0);
    assert_true(began); /* a trimmed flight cannot be joined */
    lr_flight_finish(p.f, 0);
    leave(&c);
    p.f = f;
    assert_int_equal(drain(&a, 2), LR_EBUSY);
    assert_int_equal(p.rooms, 0); /* b holds everything */
    while (!p.rooms)
        assert_int_equal(lr_reader_pull(&b.r, LR_KIB(64), 2, &b.got, NULL), 0);
    assert_true(p.twin.len - b.got.len <= LR_FLIGHT_LOG_MAX / 4 * 3);
    assert_int_equal(push_text(&p, block, sizeof block, 3), 0);
    assert_int_equal(p.rooms, 1);
    lr_flight_finish(p.f, 0);
    assert_int_equal(drain(&a, 3), LR_ECLOSED);
    assert_int_equal(drain(&b, 3), LR_ECLOSED);
    assert_all_read(&p, &a);
    assert_all_read(&p, &b);
    leave(&a);
    leave(&b);
    plane_close(&p);
}

static void patient_reader_wakes_when_landed_or_full(void **state)
{
    (void)state;
    struct plane p;
    struct seat a, b;
    int status = 0;
    struct lr_str h = {0};
    plane_open(&p);
    board(&p, &a, NULL);
    a.r.patient = true;
    assert_int_equal(lr_reader_head(&a.r, on_sleep, &status, &h), LR_EBUSY);
    assert_int_equal(lr_flight_head(p.f, 200, lr_str(NULL, 0)), 0);
    assert_int_equal(push_text(&p, "x", 1, 1), 0);
    assert_int_equal(a.wakes, 0);
    fill(&p, 1);
    assert_int_equal(a.wakes, 1);
    assert_int_equal(drain(&a, 2), LR_EBUSY);
    assert_int_equal(p.rooms, 1);
    assert_int_equal(lr_reader_pull(&a.r, 1, 2, &a.got, on_sleep), LR_EBUSY);
    assert_int_equal(push_text(&p, "y", 1, 3), 0);
    assert_int_equal(a.wakes, 1);
    lr_flight_finish(p.f, 0);
    assert_int_equal(a.wakes, 2);
    assert_int_equal(drain(&a, 3), LR_ECLOSED);
    assert_all_read(&p, &a);
    leave(&a);
    board(&p, &b, NULL); /* a failure before any head is an end too */
    b.r.patient = true;
    assert_int_equal(lr_reader_head(&b.r, on_sleep, &status, &h), LR_EBUSY);
    lr_flight_finish(p.f, LR_ENET);
    assert_int_equal(b.wakes, 1);
    leave(&b);
    plane_close(&p);
}

static void leaving_makes_room_too(void **state)
{
    (void)state;
    struct plane p;
    struct seat a, b;
    struct lr_digest k = key_of(5);
    plane_open(&p);
    board(&p, &a, &k);
    board(&p, &b, &k);
    fill(&p, 1);
    assert_int_equal(drain(&a, 1), LR_EBUSY);
    assert_int_equal(p.rooms, 0);
    leave(&b);
    assert_int_equal(p.rooms, 1);
    lr_flight_finish(p.f, 0);
    leave(&a);
    plane_close(&p);
}

static void a_burst_above_the_bound_passes_and_its_end_is_hard(void **state)
{
    (void)state;
    struct plane p;
    struct seat a;
    size_t n = LR_FLIGHT_LOG_MAX + LR_MIB(2);
    char *big = calloc(1, n);
    assert_non_null(big);
    plane_open(&p);
    board(&p, &a, NULL);
    assert_int_equal(push_z(&p, "before"), 0);
    assert_int_equal(push_text(&p, big, n, 1), LR_EBUSY); /* taken, and told to pause */
    assert_int_equal(push_z(&p, "one more"), LR_EBUSY);
    assert_int_equal(drain(&a, 1), LR_EBUSY);
    assert_int_equal(p.rooms, 1);
    assert_int_equal(push_z(&p, "after"), 0);
    assert_int_equal(drain(&a, 1), LR_EBUSY);
    assert_all_read(&p, &a);
    int rc;
    while ((rc = push_text(&p, big, n, 1)) == LR_EBUSY)
        ;
    assert_int_equal(rc, LR_EOVER); /* a producer that does not listen is stopped */
    lr_flight_finish(p.f, 0);
    assert_int_equal(drain(&a, 1), LR_ECLOSED);
    assert_all_read(&p, &a);
    leave(&a);
    plane_close(&p);
    free(big);
}

static void laggard_is_dropped_and_the_others_go_on(void **state)
{
    (void)state;
    struct plane p;
    struct seat slow, quick;
    struct lr_digest k = key_of(6);
    plane_open(&p);
    board(&p, &slow, &k);
    board(&p, &quick, &k);
    fill(&p, 1 * LR_SEC);
    assert_int_equal(drain(&quick, 2 * LR_SEC), LR_EBUSY);
    assert_int_equal(lr_flights_tick(p.table, 1 * LR_SEC + LR_FLIGHT_LAG_NS - 1), 0);
    assert_int_equal(lr_flights_tick(p.table, 1 * LR_SEC + LR_FLIGHT_LAG_NS), 1);
    assert_int_equal(p.rooms, 1);
    assert_int_equal(push_z(&p, "more"), 0);
    assert_int_equal(lr_reader_pull(&slow.r, 1, 20 * LR_SEC, &slow.got, on_sleep), LR_ETIMEOUT);
    assert_int_equal(slow.sleeps, 0);
    assert_int_equal(p.cancels, 0);
    lr_flight_finish(p.f, 0);
    assert_int_equal(drain(&quick, 20 * LR_SEC), LR_ECLOSED);
    assert_all_read(&p, &quick);
    leave(&slow);
    leave(&quick);
    plane_close(&p);
}

static void waiting_long_is_not_lagging(void **state)
{
    (void)state;
    struct plane p;
    struct seat a;
    plane_open(&p);
    board(&p, &a, NULL);
    assert_int_equal(drain(&a, 1), LR_EBUSY);
    fill(&p, 100 * LR_SEC); /* the first push ends a wait of 100 s */
    assert_int_equal(lr_flights_tick(p.table, 101 * LR_SEC), 0);
    assert_int_equal(lr_flights_tick(p.table, 100 * LR_SEC + LR_FLIGHT_LAG_NS), 1);
    assert_int_equal(p.cancels, 1); /* it was the only one */
    lr_flight_finish(p.f, LR_ECANCEL);
    leave(&a);
    plane_close(&p);
}

/* Random pushes, joins, pulls and leavings on one thread. */
static void any_walk_gives_every_reader_the_same_events(void **state)
{
    (void)state;
    uint64_t seed = 0;
    lr_random_bytes(&seed, sizeof seed);
    struct lr_rng rng;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (unsigned round = 0; round < 12; round++) {
        lr_rng_seed(&rng, seed + round);
        struct plane p;
        struct seat seats[8];
        bool taken[8] = {true};
        struct lr_digest k = key_of(9);
        size_t biggest = round % 3 ? sizeof block : 200;
        plane_open(&p);
        board(&p, &seats[0], &k);
        for (unsigned step = 0; step < 1500; step++) {
            size_t i = lr_rng_below(&rng, LR_COUNT(seats));
            uint64_t what = lr_rng_below(&rng, 10);
            if (what < 4) {
                int rc = push_text(&p, block, lr_rng_below(&rng, biggest), 1);
                assert_true(rc == 0 || rc == LR_EBUSY);
            } else if (!taken[i]) {
                seat_init(&seats[i]);
                taken[i] = lr_flight_attach(p.f, &seats[i].r, false) == 0;
            } else if (what < 9) {
                size_t want = lr_rng_below(&rng, 2 * sizeof block), had = seats[i].got.len;
                int rc = lr_reader_pull(&seats[i].r, want, 1, &seats[i].got, on_sleep);
                assert_true(rc == 0 || rc == LR_EBUSY);
                size_t more = seats[i].got.len - had;
                assert_true(had + more <= p.twin.len);
                if (more)
                    assert_memory_equal(seats[i].got.p + had, p.twin.p + had, more);
            } else if (i && lr_rng_below(&rng, 8) == 0) {
                leave(&seats[i]);
                taken[i] = false;
            }
        }
        lr_flight_finish(p.f, 0);
        for (size_t i = 0; i < LR_COUNT(seats); i++) {
            if (!taken[i])
                continue;
            assert_int_equal(drain(&seats[i], 1), LR_ECLOSED);
            assert_all_read(&p, &seats[i]);
            leave(&seats[i]);
        }
        plane_close(&p);
    }
}

/* ---- threads ----------------------------------------------------------------------------- */

#define READERS 8
#define EVENTS  20000

struct walker {
    struct lr_reader r;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool awake;
    struct lr_flights *table;
    struct lr_digest key;
    uint64_t leave_at; /* leaves after this many events */
    uint64_t seen;
    bool in_order;
    int rc;
};

struct crew {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool room;
};

static void walker_wake(struct lr_reader *r)
{
    struct walker *w = LR_CONTAINER(r, struct walker, r);
    pthread_mutex_lock(&w->mu);
    w->awake = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mu);
}

static void walker_sleep(struct lr_reader *r)
{
    struct walker *w = LR_CONTAINER(r, struct walker, r);
    pthread_mutex_lock(&w->mu);
    w->awake = false;
    pthread_mutex_unlock(&w->mu);
}

static void count_events(struct walker *w, struct lr_buf *b)
{
    struct lr_str log = lr_buf_str(b);
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1) {
        uint64_t n = 0;
        w->in_order &= lr_parse_u64(ev.a, &n) == 0 && n == w->seen;
        w->seen++;
    }
    lr_buf_reset(b);
}

static void *walk(void *arg)
{
    struct walker *w = arg;
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    while (w->seen < w->leave_at) {
        w->rc = lr_reader_pull(&w->r, 4000, lr_clock_mono_ns(), &b, walker_sleep);
        if (w->rc == 0) {
            count_events(w, &b);
            continue;
        }
        if (w->rc != LR_EBUSY)
            break;
        pthread_mutex_lock(&w->mu);
        while (!w->awake)
            pthread_cond_wait(&w->cond, &w->mu);
        pthread_mutex_unlock(&w->mu);
    }
    lr_reader_close(&w->r);
    lr_buf_free(&b);
    return NULL;
}

static void crew_room(void *producer)
{
    struct crew *c = producer;
    pthread_mutex_lock(&c->mu);
    c->room = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mu);
}

static void produce(struct lr_flight *f, struct crew *c)
{
    char pad[600]; /* 7 MiB in all: the log fills up unless the readers keep up */
    memset(pad, '0', sizeof pad);
    for (uint64_t i = 0; i < EVENTS;) {
        char num[24];
        int n = snprintf(num, sizeof num, "%llu", (unsigned long long)i);
        struct lr_event ev = {
            .type = LR_EV_DELTA, .a = lr_str(num, (size_t)n), .b = lr_str(pad, sizeof pad)};
        int rc = lr_flight_push(f, &ev, lr_clock_mono_ns());
        i++;
        if (rc == 0)
            continue;
        assert_int_equal(rc, LR_EBUSY);
        pthread_mutex_lock(&c->mu);
        while (!c->room)
            pthread_cond_wait(&c->cond, &c->mu);
        c->room = false;
        pthread_mutex_unlock(&c->mu);
    }
}

static void readers_on_threads_see_each_event_once_in_order(void **state)
{
    (void)state;
    struct lr_flights *table = NULL;
    assert_int_equal(lr_flights_open(&table), 0);
    struct crew crew = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct lr_digest k = key_of(11);
    struct lr_flight_opts o = {.key = &k, .room = crew_room, .producer = &crew};
    struct walker w[READERS];
    pthread_t t[READERS];
    memset(w, 0, sizeof w);
    struct lr_flight *f = NULL;
    for (size_t i = 0; i < READERS; i++) {
        bool began = false;
        w[i].r.wake = walker_wake;
        w[i].in_order = true;
        w[i].leave_at = i % 3 == 2 ? 1000 * i : UINT64_MAX;
        pthread_mutex_init(&w[i].mu, NULL);
        pthread_cond_init(&w[i].cond, NULL);
        assert_int_equal(lr_flight_enter(table, &o, &w[i].r, &began), 0);
        assert_true(began == (i == 0));
        if (began)
            f = w[i].r.flight;
    }
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(lr_thread_start(&t[i], "walker", walk, &w[i]), 0);
    produce(f, &crew);
    lr_flight_finish(f, 0);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(t[i], NULL);
        assert_true(w[i].in_order);
        if (w[i].leave_at == UINT64_MAX) {
            assert_int_equal(w[i].rc, LR_ECLOSED);
            assert_int_equal(w[i].seen, EVENTS);
        }
        pthread_mutex_destroy(&w[i].mu);
        pthread_cond_destroy(&w[i].cond);
    }
    assert_int_equal(lr_flights_count(table), 0);
    lr_flights_close(table);
}

/* ---- faults ------------------------------------------------------------------------------ */

/* One short flight; any call may fail with LR_ENOMEM, and then the rest still works. */
static int scenario(void)
{
    struct plane p = {0};
    struct seat a;
    bool began = false;
    struct lr_digest k = key_of(12);
    int rc = lr_flights_open(&p.table), first = rc;
    if (rc)
        return rc;
    lr_buf_init(&p.twin, TWIN_MAX);
    rc = enter(&p, &a, &k, false, &began);
    if (!rc) {
        first = lr_flight_head(p.f, 200, LR_STR("x: y\n"));
        struct lr_event ev = {.type = LR_EV_DELTA, .a = LR_STR("text")};
        for (int i = 0; i < 3; i++) {
            rc = lr_flight_push(p.f, &ev, 1);
            first = first ? first : rc;
        }
        lr_flight_finish(p.f, 0);
        do {
            rc = lr_reader_pull(&a.r, 10, 1, &a.got, NULL);
            first = first ? first : rc == LR_ECLOSED ? 0 : rc;
            if (rc == LR_ENOMEM) /* the buffer's error sticks; the reader has not moved */
                lr_buf_reset(&a.got);
        } while (rc == 0 || rc == LR_ENOMEM);
        assert_int_equal(rc, LR_ECLOSED);
        rc = first;
        leave(&a);
    }
    assert_int_equal(lr_flights_count(p.table), 0);
    lr_flights_close(p.table);
    return rc;
}

static void any_failed_allocation_is_an_error_and_no_leak(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        lr_fault_arm(n);
        int rc = scenario();
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_int_equal(rc, hit ? LR_ENOMEM : 0);
        if (!hit)
            break;
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_joiners_read_from_the_first_event),
        cmocka_unit_test(only_a_listed_living_whole_flight_is_joined),
        cmocka_unit_test(head_comes_before_events_and_wakes),
        cmocka_unit_test(patient_reader_wakes_when_landed_or_full),
        cmocka_unit_test(failure_comes_after_the_events_before_it),
        cmocka_unit_test(a_passed_flight_calls_its_new_producer_alone),
        cmocka_unit_test(flight_without_sockets_is_cancelled_once),
        cmocka_unit_test(keep_carries_a_background_flight),
        cmocka_unit_test(full_log_pauses_the_producer_until_there_is_room),
        cmocka_unit_test(leaving_makes_room_too),
        cmocka_unit_test(a_burst_above_the_bound_passes_and_its_end_is_hard),
        cmocka_unit_test(laggard_is_dropped_and_the_others_go_on),
        cmocka_unit_test(waiting_long_is_not_lagging),
        cmocka_unit_test(any_walk_gives_every_reader_the_same_events),
        cmocka_unit_test(readers_on_threads_see_each_event_once_in_order),
        cmocka_unit_test(any_failed_allocation_is_an_error_and_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
