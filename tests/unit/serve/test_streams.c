/* SPDX-License-Identifier: Apache-2.0
 * unit/serve/test_streams.c - a thousand streams at once, through door and flights.
 *
 *   pusher --push--> flights (64 keys) --wake--> door (2 threads) --> clients (1 thread)
 *
 * Clients come one after another, join what is in the air, and some leave: before the first byte,
 * in the middle, by closing or by half-closing. No flight lands before the last client has come.
 * Each client that stays sees each event once, in order, and a proper end; everything begun ends;
 * the door stops while streams are open as well as when they are done.
 */
#include "serve/door.h"
#include "serve/flight.h"
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <cmocka.h>

#define STREAMS 1000
#define KEYS    64
#define EVENTS  30 /* of a flight; each may carry up to PAD_MAX bytes */
#define PAD_MAX 3000

/* ---- the pusher -------------------------------------------------------------------------- */

struct source {
    struct lr_flight *flight;
    uint64_t next; /* event to push */
    struct source *link;
};

struct app {
    struct lr_door *door;
    struct lr_flights *flights;
    pthread_mutex_t mu; /* guards what follows; taken inside no other lock */
    struct source *fresh;
    bool all_came, stop;
    unsigned begun, ended;
};

static char pad[PAD_MAX];

/* True when the flight has landed. */
static bool push_next(struct source *s, struct lr_rng *rng)
{
    char num[24];
    int n = snprintf(num, sizeof num, "%llu", (unsigned long long)s->next);
    struct lr_event ev = {.type = LR_EV_DELTA, .a = lr_str(num, (size_t)n)};
    ev.b = lr_str(pad, lr_rng_below(rng, 8) ? lr_rng_below(rng, 20) : lr_rng_below(rng, PAD_MAX));
    int rc = lr_flight_push(s->flight, &ev, lr_clock_mono_ns());
    bool taken = rc == 0 || rc == LR_EBUSY; /* full: the laggards are read on, or dropped */
    if (!taken || ++s->next == EVENTS) {
        lr_flight_finish(s->flight, taken ? 0 : rc);
        return true;
    }
    return false;
}

static void *push_all(void *arg)
{
    struct app *a = arg;
    struct source *flying = NULL;
    struct lr_rng rng;
    lr_rng_seed(&rng, 1);
    for (;;) {
        pthread_mutex_lock(&a->mu);
        while (a->fresh) {
            struct source *s = a->fresh;
            a->fresh = s->link;
            s->link = flying;
            flying = s;
        }
        bool all_came = a->all_came, stop = a->stop;
        pthread_mutex_unlock(&a->mu);
        if (stop && !flying)
            return NULL;
        for (struct source **at = &flying; *at;) {
            struct source *s = *at, *next = s->link; /* s may die with its flight */
            bool landed = (s->next < EVENTS / 2 || all_came || stop) && push_next(s, &rng);
            if (landed)
                *at = next;
            else
                at = &s->link;
        }
        lr_clock_sleep_ns(LR_MS);
    }
}

static void source_released(void *producer)
{
    lr_free(producer);
}

/* ---- the application --------------------------------------------------------------------- */

struct stream {
    struct lr_reader r;
    struct lr_conn *c;
    struct lr_buf log, lines;
    size_t at; /* bytes of lines that are out */
};

static void stream_wake(struct lr_reader *r)
{
    lr_conn_wake(LR_CONTAINER(r, struct stream, r)->c);
}

static void stream_park(struct lr_reader *r)
{
    lr_conn_park(LR_CONTAINER(r, struct stream, r)->c);
}

static int on_begin(struct lr_conn *c)
{
    struct app *a = lr_conn_ctx(c);
    struct stream *s = lr_new(struct stream);
    assert_non_null(s);
    s->c = c;
    s->r.wake = stream_wake;
    lr_buf_init(&s->log, LR_MIB(8));
    lr_buf_init(&s->lines, LR_MIB(8));
    lr_conn_set_user(c, s);
    pthread_mutex_lock(&a->mu);
    a->begun++;
    pthread_mutex_unlock(&a->mu);
    return 0;
}

static int on_body(struct lr_conn *c, struct lr_str bytes)
{
    (void)c, (void)bytes;
    return 0;
}

static void write_lines(struct stream *s)
{
    struct lr_str log = lr_buf_str(&s->log);
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1) {
        lr_buf_adds(&s->lines, ev.a);
        lr_buf_adds(&s->lines, ev.b);
        lr_buf_addc(&s->lines, '\n');
    }
    lr_buf_reset(&s->log);
}

static int on_pull(struct lr_conn *c, char *buf, size_t max, size_t *n)
{
    struct stream *s = lr_conn_user(c);
    if (s->at == s->lines.len) {
        s->at = 0;
        lr_buf_reset(&s->lines);
        int rc = lr_reader_pull(&s->r, 8000, lr_clock_mono_ns(), &s->log, stream_park);
        if (rc)
            return rc == LR_EBUSY ? 0 : rc;
        write_lines(s);
    }
    *n = s->lines.len - s->at < max ? s->lines.len - s->at : max;
    memcpy(buf, s->lines.p + s->at, *n);
    s->at += *n;
    return 0;
}

static void take_off(struct app *a, struct source *src, struct lr_flight *f)
{
    src->flight = f;
    pthread_mutex_lock(&a->mu);
    src->link = a->fresh;
    a->fresh = src;
    pthread_mutex_unlock(&a->mu);
}

static void on_ready(struct lr_conn *c)
{
    struct app *a = lr_conn_ctx(c);
    struct stream *s = lr_conn_user(c);
    struct lr_str path = lr_conn_path(c);
    struct lr_digest key;
    struct source *src = lr_new(struct source);
    bool began = false;
    assert_non_null(src);
    lr_blake3(path, &key);
    struct lr_flight_opts o = {.key = &key, .released = source_released, .producer = src};
    assert_int_equal(lr_flight_enter(a->flights, &o, &s->r, &began), 0);
    if (began)
        take_off(a, src, s->r.flight);
    else
        lr_free(src);
    struct lr_header h = {"content-type", "text/event-stream"};
    lr_conn_stream(c, 200, &h, 1, on_pull);
}

static void on_end(struct lr_conn *c)
{
    struct app *a = lr_conn_ctx(c);
    struct stream *s = lr_conn_user(c);
    lr_reader_close(&s->r);
    lr_buf_free(&s->log);
    lr_buf_free(&s->lines);
    lr_free(s);
    pthread_mutex_lock(&a->mu);
    a->ended++;
    pthread_mutex_unlock(&a->mu);
}

static const struct lr_door_ops ops = {on_begin, on_body, on_ready, on_end};

static void app_open(struct app *a)
{
    const char *listen[] = {"127.0.0.1:0"};
    struct lr_door_opts o = {.listen = listen,
                             .n_listen = 1,
                             .threads = 2,
                             .connections_max = 2 * STREAMS,
                             .ops = &ops,
                             .ctx = a};
    struct lr_err err = {0};
    memset(a, 0, sizeof *a);
    memset(pad, 'p', sizeof pad);
    pthread_mutex_init(&a->mu, NULL);
    assert_int_equal(lr_flights_open(&a->flights), 0);
    assert_int_equal(lr_door_open(&a->door, &o, &err), 0);
}

static void came_all(struct app *a)
{
    pthread_mutex_lock(&a->mu);
    a->all_came = true;
    pthread_mutex_unlock(&a->mu);
}

/* The door first: it ends the readers, which cancels their flights, which the pusher lands. */
static void app_close(struct app *a, pthread_t pusher)
{
    lr_door_close(a->door, 0);
    pthread_mutex_lock(&a->mu);
    assert_int_equal(a->begun, a->ended);
    a->stop = true;
    pthread_mutex_unlock(&a->mu);
    pthread_join(pusher, NULL);
    assert_int_equal(lr_flights_count(a->flights), 0);
    lr_flights_close(a->flights);
    pthread_mutex_destroy(&a->mu);
}

/* ---- the clients ------------------------------------------------------------------------- */

enum plan { STAY, CLOSE, HALF_CLOSE };
enum where { HEAD, SIZE, DATA, AFTER };

struct client {
    int fd;
    enum plan plan;
    uint64_t leave_at; /* events seen when it leaves */
    /* reading */
    enum where where;
    uint64_t chunk, seen, num; /* bytes left of the chunk; events; number being read */
    unsigned blank;            /* newlines in a row, at the end of the head */
    bool padding, done, wrong;
};

static struct client clients[STREAMS];

/* One byte of the event lines: digits, padding, newline. */
static void read_line_byte(struct client *c, char b)
{
    if (b == '\n') {
        c->wrong |= c->num != c->seen;
        c->seen++;
        c->num = 0;
        c->padding = false;
    } else if (b == 'p') {
        c->padding = true;
    } else {
        c->wrong |= c->padding || b < '0' || b > '9';
        c->num = c->num * 10 + (uint64_t)(b - '0');
    }
}

static void read_byte(struct client *c, char b)
{
    static const char hex[] = "0123456789abcdef";
    const char *digit;
    switch (c->where) {
    case HEAD:
        c->blank = b == '\n' ? c->blank + 1 : b == '\r' ? c->blank : 0;
        if (c->blank == 2)
            c->where = SIZE;
        break;
    case SIZE:
        if (b == '\n') {
            c->done = c->chunk == 0;
            c->where = c->done ? AFTER : DATA;
        } else if (b != '\r') {
            digit = memchr(hex, b | 0x20, sizeof hex - 1);
            c->wrong |= !digit;
            c->chunk = c->chunk * 16 + (digit ? (uint64_t)(digit - hex) : 0);
        }
        break;
    case DATA:
        read_line_byte(c, b);
        if (--c->chunk == 0)
            c->where = AFTER;
        break;
    case AFTER:
        if (b == '\n' && !c->done)
            c->where = SIZE;
        break;
    }
}

static void client_leave(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* Returns true when the client is through. */
static bool client_read(struct client *c)
{
    char buf[4096];
    for (;;) {
        ssize_t n = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return false;
        if (n <= 0)
            return true; /* the server closed: fine unless the plan was to stay */
        for (ssize_t i = 0; i < n; i++)
            read_byte(c, buf[i]);
        if (c->done)
            return true;
        if (c->plan == CLOSE && c->seen >= c->leave_at)
            return true;
        if (c->plan == HALF_CLOSE && c->seen >= c->leave_at)
            shutdown(c->fd, SHUT_WR); /* again and again: harmless */
    }
}

static void client_come(struct client *c, int ep, unsigned port, struct lr_rng *rng)
{
    static struct wire w;
    char text[64];
    uint64_t k = lr_rng_below(rng, KEYS), plan = lr_rng_below(rng, 10);
    memset(c, 0, sizeof *c);
    c->plan = plan < 6 ? STAY : plan < 8 ? CLOSE : HALF_CLOSE;
    c->leave_at = lr_rng_below(rng, 3) ? lr_rng_below(rng, EVENTS - 1) : 0;
    assert_int_equal(wire_dial(&w, port), 0);
    c->fd = w.fd;
    snprintf(text, sizeof text, "GET /f/%llu HTTP/1.1\r\nHost: h\r\n\r\n", (unsigned long long)k);
    assert_true(wire_sayz(&w, text));
    if (c->plan == CLOSE && c->leave_at == 0) {
        client_leave(c);
        return;
    }
    if (c->plan == HALF_CLOSE && c->leave_at == 0)
        shutdown(c->fd, SHUT_WR);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev), 0);
}

/* Reads what has come; returns how many clients are through. */
static size_t clients_read(int ep, int wait_ms)
{
    struct epoll_event ev[64];
    size_t through = 0;
    int n = epoll_wait(ep, ev, (int)LR_COUNT(ev), wait_ms);
    for (int i = 0; i < n; i++) {
        struct client *c = ev[i].data.ptr;
        if (client_read(c)) {
            client_leave(c);
            through++;
        }
    }
    return through;
}

/* All come; returns how many are still there. */
static size_t clients_come(int ep, unsigned port, struct lr_rng *rng)
{
    size_t there = 0;
    for (size_t i = 0; i < STREAMS; i++) {
        client_come(&clients[i], ep, port, rng);
        there += clients[i].fd >= 0;
        there -= clients_read(ep, 0);
    }
    return there;
}

static uint64_t new_seed(void)
{
    uint64_t seed = 0;
    lr_random_bytes(&seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

/* ---- laws -------------------------------------------------------------------------------- */

static void every_client_that_stays_sees_each_event_once_in_order(void **state)
{
    (void)state;
    struct app a;
    struct lr_rng rng;
    pthread_t pusher;
    lr_rng_seed(&rng, new_seed());
    app_open(&a);
    assert_int_equal(lr_thread_start(&pusher, "pusher", push_all, &a), 0);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    size_t there = clients_come(ep, lr_door_port(a.door, 0), &rng);
    came_all(&a);
    uint64_t give_up = lr_clock_mono_ns() + 100 * LR_SEC;
    while (there && lr_clock_mono_ns() < give_up)
        there -= clients_read(ep, 100);
    assert_int_equal(there, 0);
    unsigned stayed = 0;
    for (size_t i = 0; i < STREAMS; i++) {
        assert_false(clients[i].wrong);
        if (clients[i].plan != STAY)
            continue;
        assert_true(clients[i].done);
        assert_int_equal(clients[i].seen, EVENTS);
        stayed++;
    }
    print_message("%u of %u stayed\n", stayed, STREAMS);
    while (lr_door_exchanges(a.door) && lr_clock_mono_ns() < give_up)
        lr_clock_sleep_ns(LR_MS);
    assert_int_equal(lr_door_exchanges(a.door), 0); /* hang-ups are noticed without a close */
    close(ep);
    app_close(&a, pusher);
}

static void door_closes_under_a_thousand_streams(void **state)
{
    (void)state;
    struct app a;
    struct lr_rng rng;
    pthread_t pusher;
    lr_rng_seed(&rng, new_seed());
    app_open(&a);
    assert_int_equal(lr_thread_start(&pusher, "pusher", push_all, &a), 0);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    clients_come(ep, lr_door_port(a.door, 0), &rng);
    app_close(&a, pusher); /* no flight has landed: not all came */
    for (size_t i = 0; i < STREAMS; i++) {
        assert_false(clients[i].wrong || clients[i].done);
        client_leave(&clients[i]);
    }
    close(ep);
}

int main(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < 8192) {
        lim.rlim_cur = lim.rlim_max < 8192 ? lim.rlim_max : 8192;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_client_that_stays_sees_each_event_once_in_order),
        cmocka_unit_test(door_closes_under_a_thousand_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
