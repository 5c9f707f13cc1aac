/* SPDX-License-Identifier: Apache-2.0
 * serve/attempt.c - the producer of a flight: asks upstreams, one after another, until one answers.
 *
 *   start -> [choose] -> net -> head -+-> 2xx: decode, push events ... END -> finish, keep
 *               ^                     +-> 429, 5xx, no connection: wait (jitter), choose again
 *               +---------------------+-> anything else: the error body, as it came, and ERROR -> finish
 *
 * Where an alias names a model of this machine too, that one is asked when no other upstream is left, in
 * place of waiting and of trying the same one again.
 *
 * Retries happen before the first byte of an answer only. Everything it needs of the request is copied
 * at start: the client may be gone while followers still read.
 *
 * Threads: one at a time; start runs on the request's thread, then the net thread and the timer thread
 * take turns (each hand-over is a start or a timer). cancel and room come from reader threads, under the
 * flight's lock; `mu` (after the flight's lock) guards what they share with the net thread.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define ERROR_BODY_MAX LR_KIB(256)
#define BACKOFF_MS 100       /* doubled each try, with full jitter */
#define RETRY_AFTER_MAX_S 5  /* an upstream that asks for more rest gets its 429 passed on */
#define DECODE_MAX LR_MIB(64)
#define ATTEMPT_ARENA_MAX LR_MIB(256)

struct lr_attempt {
    struct lr_producer p;
    struct lr_arena arena;
    struct lr_net_req net;
    struct lr_timer timer;
    struct lr_rng rng;

    /* the question */
    enum lr_dialect_id client_dialect;
    size_t ups[64];
    bool tried[64];
    size_t n_ups;
    uint64_t route_key;
    const struct lr_upstream *up; /* asked now */
    size_t up_at;                 /* its place in ups */
    struct lr_up_request *built;  /* per candidate, filled at start */
    const char *why;              /* the router's reason */
    unsigned tries;
    struct lr_local_run *second;  /* owned; NULL: none, or it is too late */

    /* the answer */
    struct lr_decoder *decoder;
    bool stream_asked, failed_head, retry;
    int status;
    uint64_t retry_after_s;
    struct lr_buf error_body;
    struct lr_err unread; /* what the decoder did not understand */

    pthread_mutex_t mu; /* guards the five below */
    bool net_active, cancelled, full, paused;
    unsigned rooms; /* how often room() was called */
};

/* ---- flight callbacks (under the flight's lock) ---- */

static void cancel(void *producer)
{
    struct lr_attempt *a = producer;
    pthread_mutex_lock(&a->mu);
    a->cancelled = true;
    if (a->net_active)
        lr_net_cancel(a->p.serve->net, &a->net);
    pthread_mutex_unlock(&a->mu);
}

static void room(void *producer)
{
    struct lr_attempt *a = producer;
    pthread_mutex_lock(&a->mu);
    a->full = false;
    a->rooms++;
    if (a->paused && a->net_active)
        lr_net_resume(a->p.serve->net, &a->net);
    a->paused = false;
    pthread_mutex_unlock(&a->mu);
}

static void released(void *producer)
{
    lr_attempt_drop(producer);
}

static bool is_cancelled(struct lr_attempt *a)
{
    pthread_mutex_lock(&a->mu);
    bool c = a->cancelled;
    pthread_mutex_unlock(&a->mu);
    return c;
}

/* ---- life ---- */

int lr_attempt_new(struct lr_req *r, struct lr_flight_opts *opts, struct lr_attempt **out)
{
    struct lr_attempt *a = lr_new(struct lr_attempt);
    LR_FAIL_IF(!a, LR_ENOMEM);
    lr_producer_init(&a->p, r);
    pthread_mutex_init(&a->mu, NULL);
    lr_arena_init(&a->arena, ATTEMPT_ARENA_MAX);
    lr_buf_init(&a->error_body, ERROR_BODY_MAX);
    lr_rng_seed(&a->rng, lr_hash64(lr_str(r->id, LR_ID_LEN), r->start_ns));
    a->client_dialect = r->bypass ? LR_DIALECT_NONE : r->dialect;
    a->stream_asked = r->stream;
    a->n_ups = r->n_ups;
    memcpy(a->ups, r->ups, r->n_ups * sizeof r->ups[0]);
    a->route_key = r->key.n_blocks ? r->key.blocks[0] : lr_le64(r->key.exact.b);
    opts->producer = a;
    opts->cancel = cancel;
    opts->room = room;
    opts->released = released;
    a->p.calls = *opts;
    *out = a;
    return 0;
}

void lr_attempt_second(struct lr_attempt *a, struct lr_local_run *second)
{
    a->second = second;
}

static void drop_second(struct lr_attempt *a)
{
    if (a->second)
        lr_local_drop(a->second);
    a->second = NULL;
}

void lr_attempt_drop(struct lr_attempt *a)
{
    drop_second(a);
    lr_decoder_close(a->decoder);
    lr_buf_free(&a->error_body);
    lr_arena_free(&a->arena);
    pthread_mutex_destroy(&a->mu);
    lr_producer_free(&a->p);
    lr_free(a);
}

struct lr_reader *lr_attempt_keep(struct lr_attempt *a)
{
    return lr_producer_keep(&a->p);
}

/* ---- events ---- */

static unsigned rooms_so_far(struct lr_attempt *a)
{
    pthread_mutex_lock(&a->mu);
    unsigned n = a->rooms;
    pthread_mutex_unlock(&a->mu);
    return n;
}

static void push(struct lr_attempt *a, const struct lr_event *ev)
{
    unsigned before = rooms_so_far(a);
    if (lr_producer_event(&a->p, ev) != LR_EBUSY)
        return;
    pthread_mutex_lock(&a->mu); /* taken, but the log is full: stop the upstream until room() */
    a->full = a->rooms == before; /* else a reader was quicker than this line */
    pthread_mutex_unlock(&a->mu);
}

static int on_event(void *ctx, const struct lr_event *ev)
{
    struct lr_attempt *a = ctx;
    push(a, ev);
    return a->p.broken && ev->type != LR_EV_ERROR ? LR_ENOMEM : 0;
}

/* ---- the end ---- */

static void finish(struct lr_attempt *a)
{
    if (a->up)
        memcpy(a->p.note.meta.upstream, a->up->name, sizeof a->p.note.meta.upstream);
    lr_producer_finish(&a->p);
}

static void finish_error(struct lr_attempt *a, int status, const char *code, const char *msg)
{
    lr_producer_fail(&a->p, status, code, msg);
}

/* No upstream is left to ask: the model of this machine takes over. a is gone then. */
static bool passed_on(struct lr_attempt *a)
{
    if (!a->second || a->p.head_done || is_cancelled(a) || lr_local_take(a->second, &a->p))
        return false;
    a->second = NULL;
    lr_attempt_drop(a);
    return true;
}

/* An upstream's own final refusal: its body for readers of its dialect, its words for the others. */
static void finish_refusal(struct lr_attempt *a)
{
    struct lr_str code, msg;
    struct lr_event raw = {.type = LR_EV_BYTES, .dialect = a->built[a->up_at].dialect,
                           .a = lr_buf_str(&a->error_body)};
    lr_error_read(&a->arena, raw.a, &code, &msg);
    push(a, &raw);
    struct lr_event ev = {.type = LR_EV_ERROR, .status = (uint16_t)a->status,
                          .a = code.n ? code : LR_STR("upstream_error"),
                          .b = msg.n ? msg : LR_STR("the upstream refused the request")};
    push(a, &ev);
    finish(a);
}

/* ---- choosing and sending ---- */

static void send_next(struct lr_attempt *a);

static int choose(struct lr_attempt *a)
{
    struct lr_route_target t[64];
    uint64_t now = lr_clock_mono_ns();
    for (size_t round = 0; round <= a->n_ups; round++) {
        for (size_t i = 0; i < a->n_ups; i++) {
            const struct lr_upstream *u = &a->p.conf->ups[a->ups[i]];
            t[i] = (struct lr_route_target){
                .id = u->state->id,
                .weight = (uint32_t)u->opt->weight,
                .inflight = atomic_load(&u->state->inflight),
                .up = lr_up_ready(u, now),
                .tried = a->tried[i] || !a->built[i].url,
            };
        }
        struct lr_route_choice c;
        LR_TRY(a->p.conf->c->route_balance == LR_BALANCE_LEAST
                   ? lr_route_least(t, a->n_ups, &a->rng, &c)
                   : lr_route_rendezvous(t, a->n_ups, a->route_key, a->p.conf->c->route_bound, &c));
        a->up_at = c.index;
        a->up = &a->p.conf->ups[a->ups[c.index]];
        a->why = c.reason;
        if (lr_up_take(a->up, now) || round == a->n_ups)
            return 0;
        a->tried[c.index] = true;
    }
    return LR_ENOENT;
}

static void on_timer(struct lr_timer *t)
{
    struct lr_attempt *a = LR_CONTAINER(t, struct lr_attempt, timer);
    if (is_cancelled(a) || atomic_load(&a->p.serve->closing))
        finish_error(a, 503, "cancelled", "the request was given up");
    else
        send_next(a);
}

/* Tries are used up, or there is another one after a rest. */
static bool retry_later(struct lr_attempt *a)
{
    const struct lr_opt_upstream *o = a->up->opt;
    if (a->tries > o->retries || a->retry_after_s > RETRY_AFTER_MAX_S || is_cancelled(a))
        return false;
    a->tried[a->up_at] = true;
    size_t left = 0;
    for (size_t i = 0; i < a->n_ups; i++)
        left += !a->tried[i] && a->built[i].url;
    if (!left && a->second)
        return false;
    if (!left)
        memset(a->tried, 0, sizeof a->tried); /* a single upstream is tried again */
    uint64_t span = (uint64_t)BACKOFF_MS << (a->tries - 1);
    uint64_t wait_ms = left ? lr_rng_below(&a->rng, BACKOFF_MS / 10 + 1)
                            : lr_rng_below(&a->rng, span) + span / 2;
    if (a->retry_after_s && !left)
        wait_ms += a->retry_after_s * 1000;
    a->timer.at_ns = lr_clock_mono_ns() + wait_ms * LR_MS;
    a->timer.fire = on_timer;
    lr_timers_add(a->p.serve->timers, &a->timer);
    return true;
}

static uint64_t read_retry_after(const struct lr_net_head *h)
{
    for (size_t i = 0; i < h->n; i++) {
        uint64_t s;
        if (lr_str_ieq(h->headers[i].name, LR_STR("retry-after")) &&
            lr_parse_u64(lr_str_trim(h->headers[i].value), &s) == 0)
            return s;
    }
    return 0;
}

static bool is_sse(const struct lr_net_head *h)
{
    for (size_t i = 0; i < h->n; i++)
        if (lr_str_ieq(h->headers[i].name, LR_STR("content-type")))
            return h->headers[i].value.n >= 17 &&
                   strncasecmp(h->headers[i].value.p, "text/event-stream", 17) == 0;
    return false;
}

/* ---- net callbacks (net thread) ---- */

static int on_head(struct lr_net_req *n, const struct lr_net_head *h)
{
    struct lr_attempt *a = LR_CONTAINER(n, struct lr_attempt, net);
    bool bypass = a->built[a->up_at].dialect == LR_DIALECT_NONE;
    bool again = h->status == 429 || h->status >= 500;
    a->status = h->status;
    a->retry_after_s = read_retry_after(h);
    bool may = a->tries <= a->up->opt->retries && a->retry_after_s <= RETRY_AFTER_MAX_S;
    if (again && !bypass && (may || a->second)) {
        a->retry = true;
        return LR_NET_STOP;
    }
    if (h->status / 100 == 2 || h->status == 401 || h->status == 403)
        lr_tenants_prove(a->p.serve->tenants, a->p.tenant_id, h->status / 100 == 2, lr_clock_wall_ms());
    struct lr_buf lines;
    lr_buf_init(&lines, LR_KIB(64));
    lr_buf_addf(&lines, "x-larder-upstream: %s\nx-larder-route: %s;tries=%u\n", a->up->name, a->why,
                a->p.tries);
    int rc = lr_up_headers(h, bypass, &lines);
    if (!rc)
        rc = lr_flight_head(a->p.flight, h->status, lr_buf_str(&lines));
    lr_buf_free(&lines);
    a->p.head_done = rc == 0;
    if (!rc)
        drop_second(a);
    a->failed_head = h->status / 100 != 2 && !bypass;
    if (!rc && !bypass && !a->failed_head)
        rc = lr_decoder_open(&a->decoder, a->built[a->up_at].dialect, is_sse(h), DECODE_MAX, on_event, a);
    return rc ? LR_NET_STOP : LR_NET_GO;
}

static int on_body(struct lr_net_req *n, const char *p, size_t len)
{
    struct lr_attempt *a = LR_CONTAINER(n, struct lr_attempt, net);
    pthread_mutex_lock(&a->mu);
    bool full = a->full;
    a->paused = full;
    pthread_mutex_unlock(&a->mu);
    if (full)
        return LR_NET_PAUSE;
    int rc = 0;
    if (a->failed_head) {
        size_t room_left = a->error_body.max - a->error_body.len;
        lr_buf_add(&a->error_body, p, len < room_left ? len : room_left);
    } else if (a->decoder) {
        rc = lr_decoder_feed(a->decoder, lr_str(p, len), &a->unread);
    } else {
        struct lr_event ev = {.type = LR_EV_BYTES, .a = lr_str(p, len)};
        push(a, &ev);
    }
    lr_producer_keep_up(&a->p);
    return rc ? LR_NET_STOP : LR_NET_GO;
}

/* The answer is in, or broken off. */
static void settle(struct lr_attempt *a, int rc, const struct lr_err *err)
{
    if (a->failed_head && rc == 0) {
        finish_refusal(a);
        return;
    }
    if (rc == 0 && a->decoder)
        rc = lr_decoder_end(a->decoder, &a->unread);
    if (rc == 0) {
        a->p.ended = true;
        finish(a);
        return;
    }
    if (rc == LR_ECANCEL && is_cancelled(a))
        finish_error(a, 503, "cancelled", "the request was given up");
    else if (rc == LR_ETIMEOUT)
        finish_error(a, 504, "upstream_timeout", "the upstream took too long");
    else if (a->unread.code || a->decoder)
        finish_error(a, 502, "upstream_incomplete",
                     a->unread.code ? a->unread.msg : "the upstream broke off its answer");
    else
        finish_error(a, 502, "upstream_unreachable",
                     err && err->code ? err->msg : "the upstream cannot be reached");
}

static void on_done(struct lr_net_req *n, int rc, const struct lr_err *err)
{
    struct lr_attempt *a = LR_CONTAINER(n, struct lr_attempt, net);
    pthread_mutex_lock(&a->mu);
    a->net_active = false;
    bool cancelled = a->cancelled;
    pthread_mutex_unlock(&a->mu);
    struct lr_up_state *s = a->up->state;
    uint64_t now = lr_clock_mono_ns();
    atomic_fetch_sub(&s->inflight, 1);
    bool fault = (rc && !a->retry && !cancelled) || (a->retry && a->status >= 500) || a->status >= 500;
    if (!cancelled)
        lr_up_result(a->up, !fault, now);
    if (fault || a->retry)
        lr_metric_add(LR_M_UPSTREAM_FAIL, 1);
    if (n->first_byte_ns) {
        uint64_t old = atomic_load(&s->ewma_us), us = n->first_byte_ns / 1000;
        atomic_store(&s->ewma_us, old ? (old * 7 + us) / 8 : us);
        lr_histogram_add(LR_H_UPSTREAM_FIRST, n->first_byte_ns);
    }
    /* A question that was sent and not answered in time may have been paid for: it is not asked again. */
    bool late = rc == LR_ETIMEOUT && n->sent;
    bool may_retry = a->retry || (rc && !a->p.head_done && !late && rc != LR_ECANCEL && rc != LR_EDENIED);
    bool unread = a->built[a->up_at].dialect == LR_DIALECT_NONE;
    if (may_retry && (!unread || !n->sent) && (retry_later(a) || passed_on(a)))
        return;
    if (a->retry)
        finish_error(a, a->status, "upstream_error", "the upstream refused the request again and again");
    else
        settle(a, rc, err);
}

static void send_next(struct lr_attempt *a)
{
    if (choose(a)) {
        if (!passed_on(a))
            finish_error(a, 502, "upstream_unreachable", "no upstream is left to ask");
        return;
    }
    const struct lr_up_request *q = &a->built[a->up_at];
    a->tries++;
    a->p.tries++;
    a->retry = false;
    a->status = 0;
    a->net = (struct lr_net_req){
        .method = a->net.method,
        .url = q->url,
        .headers = q->headers,
        .n_headers = q->n_headers,
        .body = q->body,
        .route = a->up->route,
        .on_head = on_head,
        .on_body = on_body,
        .on_done = on_done,
    };
    lr_metric_add(LR_M_UPSTREAM_TRY, 1);
    atomic_fetch_add(&a->up->state->tries, 1);
    atomic_fetch_add(&a->up->state->inflight, 1);
    pthread_mutex_lock(&a->mu);
    bool cancelled = a->cancelled;
    int rc = cancelled ? LR_ECANCEL : lr_net_start(a->p.serve->net, &a->net);
    a->net_active = rc == 0;
    pthread_mutex_unlock(&a->mu);
    if (rc == 0)
        return;
    atomic_fetch_sub(&a->up->state->inflight, 1);
    if (rc != LR_ECANCEL && passed_on(a))
        return;
    if (rc == LR_EBUSY)
        finish_error(a, 429, "overloaded", "too many requests are in flight upstream");
    else
        finish_error(a, 503, "upstream_unreachable", lr_strerror(rc));
}

/* The request for every candidate: the client may be gone when a later one is asked. */
static int build_all(struct lr_attempt *a, struct lr_req *r, struct lr_err *err)
{
    a->built = lr_arena_array(&a->arena, struct lr_up_request, a->n_ups);
    a->net.method = lr_arena_strz(&a->arena, lr_conn_method(r->conn));
    LR_FAIL_IF(!a->built || !a->net.method, LR_ENOMEM);
    size_t ok = 0;
    int rc = 0;
    for (size_t i = 0; i < a->n_ups; i++) {
        int one = lr_up_build(r, &a->p.conf->ups[a->ups[i]], &a->arena, &a->built[i], err);
        if (one)
            a->built[i].url = NULL;
        rc = one ? one : rc;
        ok += one == 0;
    }
    return ok ? 0 : rc;
}

int lr_attempt_prepare(struct lr_attempt *a, struct lr_req *r, struct lr_err *err)
{
    return build_all(a, r, err);
}

void lr_attempt_start(struct lr_attempt *a, struct lr_req *r, struct lr_flight *flight)
{
    struct lr_err err = {0}, other = {0};
    lr_producer_begin(&a->p, flight);
    if (a->second && lr_local_prepare(a->second, r, &other))
        drop_second(a);
    int rc = build_all(a, r, &err);
    if (rc && passed_on(a))
        return;
    if (rc == LR_EUNSUPPORTED) {
        char msg[sizeof err.where + sizeof err.msg + 4];
        (void)snprintf(msg, sizeof msg, "%s%s%s", err.where, err.where[0] ? ": " : "", err.msg); /* fits */
        finish_error(a, 400, "unsupported", msg[0] ? msg : "no counterpart upstream");
    } else if (rc) {
        finish_error(a, 503, "out_of_memory", lr_strerror(rc));
    } else {
        send_next(a);
    }
}

int lr_attempt_take(struct lr_attempt *a, struct lr_producer *from)
{
    LR_TRY(lr_producer_pass(from, &a->p));
    send_next(a);
    return 0;
}
