/* SPDX-License-Identifier: Apache-2.0
 * serve/produce.c - what every producer of a flight does, whoever makes the answer: attempts at upstreams
 * (attempt.c) and models of this machine (local_run.c).
 *
 *   event -> flight's log -> readers
 *                        \-> keep: a reader without a socket, copied into a log of our own as it grows
 *   finish: the answer is put on the shelf, its price is charged, END is told, the flight lands
 *
 * One producer is one answer, but for one that gives up before its head is out and passes the flight on to
 * the other kind (serve_int.h). It holds copies of what it needs of the request, which may end before it.
 * All of it runs on the producer's thread, one at a time; what readers' threads call (cancel, room)
 * belongs to the two kinds.
 */
#include "serve/serve_int.h"

#include <stdio.h>

static void fill_note(struct lr_producer *p, const struct lr_req *r)
{
    struct lr_doc_meta *m = &p->note.meta;
    m->key = r->key.exact;
    m->tenant = r->tenant.id;
    m->ttl_ms = r->wish.ttl_ms;
    m->max_tokens = r->ask_max_tokens;
    m->kind = (uint8_t)lr_dialect_kind(r->dialect);
    memcpy(m->model, r->rec->model, sizeof m->model);
    (void)snprintf(m->category, sizeof m->category, "%.*s", LR_FMT(r->wish.category)); /* cut to fit */
    (void)snprintf(m->tag, sizeof m->tag, "%.*s", LR_FMT(r->wish.tag));                /* cut to fit */
    memcpy(m->request_id, r->id, sizeof r->id);
    memcpy(p->note.id, r->id, sizeof r->id);
    p->note.bytes_tenant_max = r->tenant.limits ? r->tenant.limits->bytes : 0;
    p->note.entry_max = r->conf->c->answer_entry_max;
}

void lr_producer_init(struct lr_producer *p, struct lr_req *r)
{
    p->serve = r->serve;
    p->conf = lr_conf_ref(r->conf);
    atomic_fetch_add(&p->serve->attempts, 1);
    lr_buf_init(&p->keep_log, r->conf->c->answer_entry_max);
    p->tenant_id = r->tenant.id;
    p->price = lr_conf_price(r->conf, lr_strz(r->rec->model));
    p->want_keep = r->may_store && !r->wish.no_store && !r->bypass && !r->embed;
    p->start_ns = r->start_ns;
    fill_note(p, r);
}

void lr_producer_free(struct lr_producer *p)
{
    lr_buf_free(&p->keep_log);
    lr_conf_unref(p->conf);
    atomic_fetch_sub(&p->serve->attempts, 1);
}

struct lr_reader *lr_producer_keep(struct lr_producer *p)
{
    p->keeping = true;
    return &p->keep;
}

void lr_producer_begin(struct lr_producer *p, struct lr_flight *flight)
{
    p->flight = flight;
    if (p->want_keep && !p->keeping)
        p->keeping = lr_flight_attach(flight, &p->keep, true) == 0;
}

int lr_producer_pass(struct lr_producer *from, struct lr_producer *to)
{
    LR_TRY(lr_flight_pass(from->flight, &to->calls));
    to->tries = from->tries;
    lr_producer_begin(to, from->flight); /* its keeper comes before the other one leaves */
    if (from->keeping) {
        from->keeping = false;
        lr_reader_close(&from->keep);
    }
    return 0;
}

/* ---- events ---- */

int lr_producer_push(struct lr_producer *p, const struct lr_event *ev)
{
    int rc = lr_flight_push(p->flight, ev, lr_clock_mono_ns());
    if (rc == LR_ENOMEM || rc == LR_EOVER)
        p->broken = true; /* an event is missing: nobody may take the rest for whole */
    return rc;
}

int lr_producer_event(struct lr_producer *p, const struct lr_event *ev)
{
    if (ev->type == LR_EV_USAGE)
        p->usage = ev->usage;
    p->broken |= ev->type == LR_EV_ERROR;
    if (ev->type == LR_EV_END) {
        p->ended = true; /* told last of all, by finish */
        return 0;
    }
    return lr_producer_push(p, ev);
}

void lr_producer_keep_up(struct lr_producer *p)
{
    if (!p->keeping)
        return;
    int rc;
    do
        rc = lr_reader_pull(&p->keep, SIZE_MAX, lr_clock_mono_ns(), &p->keep_log, NULL);
    while (rc == 0);
    if (rc != LR_EBUSY && rc != LR_ECLOSED) { /* too large to keep, or no memory */
        lr_buf_free(&p->keep_log);
        p->want_keep = false;
    }
}

/* ---- the end ---- */

static void count_result(struct lr_producer *p)
{
    struct lr_usage *u = &p->usage;
    double money = lr_price_of(p->price, u);
    if (u->known)
        lr_tenants_spend(p->serve->tenants, p->tenant_id, u->input + u->output, money,
                         lr_clock_wall_ms());
    p->note.meta.cost = money;
}

static void store(struct lr_producer *p, const struct lr_event *end)
{
    if (!p->want_keep || !p->keep_log.len || lr_event_append(&p->keep_log, end))
        return;
    p->note.meta.took_ms = (lr_clock_mono_ns() - p->start_ns) / LR_MS;
    p->note.meta.created_ms = lr_clock_wall_ms();
    lr_keep_store(p->serve, &p->note, &p->keep_log);
}

/* The answer is on the shelf before anybody hears of its end: whoever has read it and asks again gets a
 * hit. */
void lr_producer_finish(struct lr_producer *p)
{
    struct lr_event end = {.type = LR_EV_END};
    lr_producer_keep_up(p);
    count_result(p);
    if (p->ended && !p->broken) {
        store(p, &end);
        lr_producer_push(p, &end); /* who is gone by now does not miss it */
    }
    struct lr_flight *flight = p->flight;
    if (p->keeping) {
        p->keeping = false;
        lr_reader_close(&p->keep);
    }
    lr_flight_finish(flight, 0);
}

void lr_producer_fail(struct lr_producer *p, int status, const char *code, const char *msg)
{
    struct lr_event ev = {.type = LR_EV_ERROR, .status = (uint16_t)status, .a = lr_strz(code),
                          .b = lr_strz(msg)};
    if (!p->head_done)
        (void)lr_flight_head(p->flight, status, lr_str(NULL, 0)); /* no headers: no memory needed */
    p->head_done = true;
    p->broken = true;
    lr_producer_push(p, &ev); /* nobody reads: nobody is told */
    lr_producer_finish(p);
}
