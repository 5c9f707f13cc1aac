/* SPDX-License-Identifier: Apache-2.0
 * serve/pipeline.c - the walk: it alone moves a request from room to room, stamps the time, parks and wakes.
 *
 *   begin (headers in) -> body* -> ready: parse > key > answer > route > run > send -> end
 *
 * The event thread walks small requests through. A room that needs a worker asks for one by lr_req_work
 * and waits; when the walk has come to rest, the request is handed over and the connection parked in
 * one step under the request's mutex. From then until the worker's wake the worker owns the request
 * (working is true), and the event thread touches nothing but that mutex.
 *
 * A client that hangs up while the worker owns the request changes nothing until the worker is done: the
 * connection is parked for sure (door.h), since end frees the request and must not run under the
 * worker's feet.
 */
#include "serve/serve_int.h"

#include <stdarg.h>
#include <stdio.h>

#define REQ_ARENA_MAX LR_MIB(256) /* trees of a 32 MiB body; the body itself is bounded apart */
#define SMALL_BODY LR_KIB(16)     /* larger ones are parsed by a worker */

static enum lr_step (*const rooms[LR_ROOM_N])(struct lr_req *) = {
    [LR_ROOM_PARSE] = lr_room_parse, [LR_ROOM_KEY] = lr_room_key,
    [LR_ROOM_ANSWER] = lr_room_answer, [LR_ROOM_ROUTE] = lr_room_route,
    [LR_ROOM_RUN] = lr_room_run,     [LR_ROOM_SEND] = lr_room_send,
};

const char *lr_room_name(enum lr_room room)
{
    static const char *const names[] = {"parse", "key", "answer", "route", "run", "send"};
    return names[room];
}

static void make_id(char id[LR_ID_LEN + 1])
{
    static const char base36[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    static _Thread_local struct lr_rng rng;
    static _Thread_local bool seeded;
    if (!seeded) {
        lr_random_bytes(&rng, sizeof rng);
        seeded = true;
    }
    uint64_t twelve = 0;
    for (int i = 0; i < LR_ID_LEN; i++, twelve /= 36) {
        if (i % 12 == 0)
            twelve = lr_rng_below(&rng, 4738381338321616896ULL); /* 36^12 */
        id[i] = base36[twelve % 36];
    }
    id[LR_ID_LEN] = 0;
}

enum lr_step lr_req_fail(struct lr_req *r, int status, const char *code, const char *fmt, ...)
{
    if (r->err_status)
        return LR_STEP_ERR;
    r->err_status = status;
    r->err_code = code;
    r->outcome = LR_OUT_ERROR;
    r->reason = code;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(r->err.msg, sizeof r->err.msg, fmt, ap) < 0)
        r->err.msg[0] = 0;
    va_end(ap);
    return LR_STEP_ERR;
}

/* ---- the walk ---- */

static void stamp(struct lr_req *r, enum lr_room room)
{
    uint64_t now = lr_clock_mono_ns();
    if (r->rec)
        r->rec->room_ns[room] += now - r->stamp_ns;
    r->stamp_ns = now;
}

/* Where a step leads; false: the walk rests (parked, or the answer is on its way). */
static bool apply(struct lr_req *r, enum lr_step step)
{
    stamp(r, r->room);
    switch (step) {
    case LR_STEP_WAIT:
        return false;
    case LR_STEP_NEXT:
        if (r->room == LR_ROOM_SEND)
            return false;
        r->room++;
        return true;
    case LR_STEP_DONE:
        if (r->room == LR_ROOM_SEND)
            return false;
        r->room = LR_ROOM_SEND;
        return true;
    case LR_STEP_ERR:
        /* An error in the send room itself has been replied to, or tore the connection down. */
        if (r->room == LR_ROOM_SEND)
            return false;
        r->room = LR_ROOM_SEND;
        return true;
    }
    return false;
}

static void walk(struct lr_req *r)
{
    while (apply(r, rooms[r->room](r)))
        ;
}

/* In the pool: the handed-over room, and the rooms after it up to send, which belongs to the door. */
static void run_work(struct lr_job *j)
{
    struct lr_req *r = LR_CONTAINER(j, struct lr_req, job);
    enum lr_step step = r->work(r);
    r->work = NULL;
    while (apply(r, step) && r->room != LR_ROOM_SEND)
        step = rooms[r->room](r);
    pthread_mutex_lock(&r->mu);
    r->working = false;
    if (r->parked) {
        r->parked = false;
        lr_conn_wake(r->conn);
    }
    pthread_mutex_unlock(&r->mu);
}

enum lr_step lr_req_work(struct lr_req *r, enum lr_step (*fn)(struct lr_req *))
{
    if (r->working)
        return fn(r);
    r->work = fn;
    return LR_STEP_WAIT;
}

/* The walk rests because a room asked for a worker: submits and parks in one step. */
static void hand_over(struct lr_req *r)
{
    r->job.run = run_work;
    pthread_mutex_lock(&r->mu);
    r->working = true;
    int rc = lr_pool_submit(r->serve->pool, &r->job);
    if (rc)
        r->working = false;
    else
        lr_conn_park_sure(r->conn);
    r->parked = rc == 0;
    pthread_mutex_unlock(&r->mu);
    if (rc == 0)
        return;
    r->work = NULL;
    lr_metric_add(LR_M_SHED, 1);
    r->retry_after_s = 1;
    apply(r, lr_req_fail(r, 429, "overloaded", "all workers are busy and their queue is full"));
    walk(r);
}

/* Called again while a worker still owns the request: rest until it is done. */
static bool park_behind_worker(struct lr_req *r)
{
    pthread_mutex_lock(&r->mu);
    bool busy = r->working;
    if (busy) {
        r->parked = true;
        lr_conn_park_sure(r->conn);
    }
    pthread_mutex_unlock(&r->mu);
    return busy;
}

void lr_req_suspend(struct lr_reader *reader)
{
    lr_conn_park(LR_CONTAINER(reader, struct lr_req, reader)->conn);
}

void lr_req_wake(struct lr_reader *reader)
{
    lr_conn_wake(LR_CONTAINER(reader, struct lr_req, reader)->conn);
}

/* ---- the door's calls ---- */

/* A request and its record are made together and kept for the next one when they end, with the
 * first chunk of the arena: blocks of this size are what malloc is slowest at. */
struct seat {
    struct lr_req r;
    struct lr_record rec;
};

/* Spares in all, 8 KiB each. None where a request that is used after its end is to be seen. */
#if defined(LR_SANITIZED) || defined(LR_FAULTS)
static const size_t spares_max = 0;
#else
static const size_t spares_max = 64;
#endif
#define SPARE_ARENA LR_KIB(8) /* a larger arena is freed */

/* Zeroed, but for the arena. */
static struct lr_req *take_seat(struct lr_serve *s)
{
    pthread_mutex_lock(&s->spares_mu);
    struct lr_req *r = s->spares;
    if (r) {
        s->spares = r->next_spare;
        s->n_spares--;
    }
    pthread_mutex_unlock(&s->spares_mu);
    if (!r) {
        struct seat *seat = lr_new(struct seat);
        if (!seat)
            return NULL;
        lr_arena_init(&seat->r.arena, REQ_ARENA_MAX);
        r = &seat->r;
    }
    struct seat *seat = LR_CONTAINER(r, struct seat, r);
    r->next_spare = NULL;
    r->rec = &seat->rec;
    return r;
}

static void give_seat(struct lr_serve *s, struct lr_req *r)
{
    struct seat *seat = LR_CONTAINER(r, struct seat, r);
    struct lr_arena arena = r->arena;
    if (arena.held > SPARE_ARENA)
        lr_arena_free(&arena);
    else
        lr_arena_reset(&arena);
    memset(seat, 0, sizeof *seat);
    r->arena = arena;
    pthread_mutex_lock(&s->spares_mu);
    bool keep = s->n_spares < spares_max;
    if (keep) {
        r->next_spare = s->spares;
        s->spares = r;
        s->n_spares++;
    }
    pthread_mutex_unlock(&s->spares_mu);
    if (!keep) {
        lr_arena_free(&r->arena);
        lr_free(seat);
    }
}

void lr_spares_free(struct lr_serve *s)
{
    while (s->spares) {
        struct lr_req *r = s->spares;
        s->spares = r->next_spare;
        lr_arena_free(&r->arena);
        lr_free(LR_CONTAINER(r, struct seat, r));
    }
}

static int begin(struct lr_conn *conn)
{
    const struct lr_entrance *entrance = lr_conn_ctx(conn);
    struct lr_serve *s = entrance->serve;
    struct lr_req *r = take_seat(s);
    if (!r) {
        struct lr_buf none;
        lr_buf_init(&none, 0);
        lr_conn_reply(conn, 503, NULL, 0, &none);
        return LR_ENOMEM;
    }
    lr_conn_set_user(conn, r);
    r->serve = s;
    r->admin_door = entrance->admin;
    r->conn = conn;
    r->conf = lr_serve_conf(s);
    r->start_ns = r->stamp_ns = lr_clock_mono_ns();
    r->wall_ms = lr_clock_wall_ms();
    r->outcome = LR_OUT_BYPASS;
    r->reason = "";
    make_id(r->id);
    lr_buf_init(&r->body, r->conf->c->http_body_max);
    lr_buf_init(&r->out, LR_MIB(64));
    lr_buf_init(&r->events, LR_MIB(64));
    pthread_mutex_init(&r->mu, NULL);
    uint64_t len = lr_conn_content_length(conn);
    if (len != UINT64_MAX && len > r->body.max)
        r->body_rc = LR_EOVER; /* refused without reading: the body is thrown away as it comes */
    else if (len != UINT64_MAX && len)
        r->body_rc = lr_buf_reserve(&r->body, len < LR_MIB(1) ? (size_t)len : LR_MIB(1));
    lr_room_begin(r);
    return 0;
}

static int body(struct lr_conn *conn, struct lr_str bytes)
{
    struct lr_req *r = lr_conn_user(conn);
    if (r->err_status)
        return LR_EDENIED;
    if (!r->body_rc)
        r->body_rc = lr_buf_adds(&r->body, bytes);
    return r->body_rc;
}

static void ready(struct lr_conn *conn)
{
    struct lr_req *r = lr_conn_user(conn);
    if (park_behind_worker(r))
        return;
    if (lr_conn_gone(conn)) {
        /* Nobody reads the answer: any reply lets the door come to its end. */
        struct lr_buf none;
        lr_buf_init(&none, 0);
        lr_conn_reply(conn, 499, NULL, 0, &none);
        return;
    }
    bool big = r->body.len > SMALL_BODY && !r->body_rc && !r->err_status;
    if (r->room == LR_ROOM_PARSE && big)
        r->work = lr_room_parse;
    else
        walk(r);
    if (r->work)
        hand_over(r);
}

/* Fills the record from the request and hands it to the traces. */
static void record(struct lr_req *r)
{
    struct lr_record *rec = r->rec;
    memcpy(rec->id, r->id, sizeof rec->id);
    rec->wall_ms = r->wall_ms;
    rec->total_ns = lr_clock_mono_ns() - r->start_ns;
    rec->tenant = r->tenant.id;
    memcpy(rec->tenant_name, r->tenant.name, sizeof rec->tenant_name);
    rec->outcome = (uint8_t)r->outcome;
    rec->dialect = (uint8_t)r->dialect;
    rec->stream = r->stream;
    rec->body_bytes = r->body.len;
    rec->hints = r->hints;
    rec->usage = r->usage;
    if (r->outcome == LR_OUT_MISS && r->usage.known)
        rec->money_spent = lr_price_of(lr_conf_price(r->conf, lr_strz(rec->model)), &r->usage);
    if (!rec->reason[0])
        (void)snprintf(rec->reason, sizeof rec->reason, "%s", r->reason); /* cut to fit */
    rec->text_bytes = r->key.text_bytes;
    rec->n_blocks = r->key.n_blocks;
    memcpy(rec->blocks, r->key.blocks, r->key.n_blocks * sizeof rec->blocks[0]);
    /* A raw hit has none: explain finds them in an earlier record of the same key. */
    rec->members = r->key.n_members ? lr_calloc(r->key.n_members, sizeof *rec->members) : NULL;
    if (rec->members) {
        rec->n_members = r->key.n_members;
        memcpy(rec->members, r->key.members, rec->n_members * sizeof *rec->members);
    }
    lr_tally_add(r->serve->tally, rec);
    lr_traces_add(r->serve->traces, rec);
}

static void end(struct lr_conn *conn)
{
    struct lr_req *r = lr_conn_user(conn);
    if (!r)
        return;
    if (r->reading) {
        lr_reader_bill(&r->reader, &r->rec->bill);
        r->rec->ms_saved += r->rec->bill.saved_ns / LR_MS;
        lr_reader_close(&r->reader);
    }
    if (r->dialect != LR_DIALECT_NONE || r->bypass)
        record(r);
    lr_encoder_close(r->encoder);
    lr_embed_free(r);
    lr_doc_unref(r->hit.doc);
    lr_buf_free(&r->body);
    lr_buf_free(&r->out);
    lr_buf_free(&r->events);
    lr_conf_unref(r->conf);
    pthread_mutex_lock(&r->mu); /* the worker that woke us has let go of it after this */
    pthread_mutex_unlock(&r->mu);
    pthread_mutex_destroy(&r->mu);
    give_seat(r->serve, r);
}

const struct lr_door_ops lr_pipeline_ops = {
    .begin = begin,
    .body = body,
    .ready = ready,
    .end = end,
};
