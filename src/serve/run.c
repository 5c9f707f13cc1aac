/* SPDX-License-Identifier: Apache-2.0
 * serve/run.c - the route and run rooms: a model of this machine or which upstream, and whose flight.
 *
 * A local model serves its own name, and aliases of it, unless the alias names upstreams; where those
 * include `local`, it is a candidate beside them by engine.weight, and its full queue sends requests on
 * to them. Whoever is asked first, the other takes over when that one fails before its answer began.
 *
 * route writes the candidates; run enters a flight: it joins the one in the air for the same key (same
 * tenant, hence same credential), or begins one and starts its attempt. Only requests that may be
 * stored are joined: whoever asks for variety wants an answer of their own. The number of choices and
 * the token limit, which the exact digest leaves out, are part of the flight's key: a follower must not
 * get fewer choices or another cut than it asked for.
 */
#include "serve/serve_int.h"

#include <stdio.h>

/* ---- route ---- */

/* Upstreams that cannot be asked in this dialect drop out; those that speak the client's own go first,
 * and exclude the others: what a translation would lose is not lost to a coin. */
static void keep_speakers(struct lr_req *r)
{
    size_t same = 0, any = 0;
    for (size_t i = 0; i < r->n_ups; i++) {
        enum lr_dialect_id d = lr_up_dialect(&r->conf->ups[r->ups[i]], r->dialect);
        if (d == r->dialect)
            r->ups[same++] = r->ups[i];
    }
    if (same) {
        r->n_ups = same;
        return;
    }
    for (size_t i = 0; i < r->n_ups; i++)
        if (lr_up_dialect(&r->conf->ups[r->ups[i]], r->dialect) != LR_DIALECT_NONE)
            r->ups[any++] = r->ups[i];
    r->n_ups = any;
}

static enum lr_step no_upstream(struct lr_req *r, struct lr_str model)
{
    if (r->conf->n_ups == 0 && r->serve->locals.n == 0)
        return lr_req_fail(r, 503, "no_model",
                           "no model is attached: start with --model FILE or --upstream URL; only cached "
                           "answers are served");
    if (r->bypass)
        return lr_req_fail(r, r->conf->n_ups ? 502 : 404, "no_upstream",
                           "there is no upstream for this path");
    return lr_req_fail(r, 404, "model_not_found", "nobody here serves the model '%.*s'", LR_FMT(model));
}

/* Beside upstreams: whose turn it is, the model's here or theirs. */
static bool stays_here(const struct lr_req *r)
{
    struct lr_engine_sched_stats st;
    struct lr_route_target t[1 + LR_COUNT(r->ups)];
    struct lr_route_choice c;
    struct lr_rng rng;
    lr_engine_sched_stats(r->local->sched, &st);
    bool full = st.failed || st.waiting >= r->conf->c->engine_queue;
    t[0] = (struct lr_route_target){.id = lr_hash64(lr_strz(r->local->name), 0),
                                    .weight = (uint32_t)r->conf->c->engine_weight,
                                    .inflight = st.waiting + st.running,
                                    .up = !full};
    for (size_t i = 0; i < r->n_ups; i++) {
        const struct lr_upstream *u = &r->conf->ups[r->ups[i]];
        t[i + 1] = (struct lr_route_target){.id = u->state->id,
                                            .weight = (uint32_t)u->opt->weight,
                                            .inflight = atomic_load(&u->state->inflight),
                                            .up = lr_up_ready(u, r->stamp_ns)};
    }
    uint64_t key = r->key.n_blocks ? r->key.blocks[0] : lr_le64(r->key.exact.b);
    lr_rng_seed(&rng, lr_hash64(lr_str(r->id, LR_ID_LEN), r->start_ns));
    int rc = r->conf->c->route_balance == LR_BALANCE_LEAST
                 ? lr_route_least(t, r->n_ups + 1, &rng, &c)
                 : lr_route_rendezvous(t, r->n_ups + 1, key, r->conf->c->route_bound, &c);
    return rc || c.index == 0;
}

/* Something that only an upstream could answer. */
static enum lr_step needs_upstream(struct lr_req *r, struct lr_str model)
{
    return lr_req_fail(r, 400, "unsupported",
                       "'%.*s' runs on this machine, which keeps nothing between requests: %s",
                       LR_FMT(model), r->reason);
}

/* Where paths go that we do not read: the first upstream; for requests in Anthropic's manner (counting
 * tokens, batches) the first that speaks it. */
static size_t default_upstream(const struct lr_req *r)
{
    bool anthropic = lr_conn_header(r->conn, "anthropic-version").n > 0;
    for (size_t i = 0; anthropic && i < r->conf->n_ups; i++)
        if (r->conf->ups[i].speaks == LR_SPEAKS_ANTHROPIC)
            return i;
    return 0;
}

enum lr_step lr_room_route(struct lr_req *r)
{
    struct lr_str model = r->request ? r->request->model : lr_str(NULL, 0);
    if (r->dialect == LR_DIALECT_NONE) {
        r->n_ups = r->conf->n_ups ? 1 : 0;
        r->ups[0] = default_upstream(r);
        return r->n_ups ? LR_STEP_NEXT : no_upstream(r, model);
    }
    bool alone;
    r->local = lr_locals_serving(&r->serve->locals, r->conf, model, &alone);
    if (r->local && alone)
        return r->bypass ? needs_upstream(r, model) : LR_STEP_NEXT;
    if (r->bypass)
        r->local = NULL;
    r->n_ups = lr_conf_serving(r->conf, model, r->ups, LR_COUNT(r->ups), &r->model_sent);
    if (!r->n_ups && !r->local)
        return no_upstream(r, model);
    keep_speakers(r);
    if (r->local && (!r->n_ups || stays_here(r)))
        return LR_STEP_NEXT;
    r->second = r->local;
    r->local = NULL;
    if (!r->n_ups)
        return lr_req_fail(r, 400, "unsupported", "the upstream of '%.*s' has no counterpart of %s",
                           LR_FMT(model), lr_dialect_path(r->dialect));
    return LR_STEP_NEXT;
}

/* ---- run ---- */

static bool may_join(const struct lr_req *r)
{
    /* A batch of embeddings is kept item by item: its flight is of its own. */
    return !r->embed && r->conf->c->answer_coalesce && r->may_store && !r->bypass && !r->wish.no_cache &&
           !r->wish.no_store;
}

static void flight_key(const struct lr_req *r, struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init_keyed(&h, r->key.exact.b);
    lr_blake3_add_u64(&h, r->ask_n);
    lr_blake3_add_u64(&h, r->ask_max_tokens);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

/* One of the two kinds of producers, which may hold one of the other. */
struct maker {
    struct lr_attempt *attempt;
    struct lr_local_run *local;
};

static int make(struct lr_req *r, struct lr_flight_opts *opts, struct maker *m)
{
    struct lr_flight_opts other = {.key = NULL};
    struct lr_attempt *attempt = NULL;
    struct lr_local_run *local = NULL;
    if (r->local || r->second)
        LR_TRY(lr_local_new(r, r->local ? opts : &other, &local));
    int rc = r->n_ups ? lr_attempt_new(r, r->local ? &other : opts, &attempt) : 0;
    if (rc) {
        if (local)
            lr_local_drop(local);
        return rc;
    }
    *m = r->local ? (struct maker){NULL, local} : (struct maker){attempt, NULL};
    if (r->local && attempt)
        lr_local_second(local, attempt);
    if (r->second)
        lr_attempt_second(attempt, local);
    return 0;
}

static void drop(struct maker *m)
{
    if (m->local)
        lr_local_drop(m->local);
    else
        lr_attempt_drop(m->attempt);
}

static void start(struct maker *m, struct lr_req *r, struct lr_flight *flight)
{
    if (m->local)
        lr_local_start(m->local, r, flight);
    else
        lr_attempt_start(m->attempt, r, flight);
}

enum lr_step lr_room_run(struct lr_req *r)
{
    if (r->dialect == LR_DIALECT_EMBEDDING && !r->bypass)
        return lr_embed_run(r);
    return r->local || r->second ? lr_req_work(r, lr_run_flight) : lr_run_flight(r);
}

enum lr_step lr_run_flight(struct lr_req *r)
{
    const char *which = "";
    if (lr_tenants_afford(r->serve->tenants, &r->tenant, r->wall_ms, &which, &r->retry_after_s))
        return lr_req_fail(r, 429, "limit_reached", "this tenant's limit %s is reached", which);
    struct lr_digest key;
    flight_key(r, &key);
    struct lr_flight_opts opts = {.key = may_join(r) ? &key : NULL};
    struct maker m;
    bool began;
    if (make(r, &opts, &m))
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    r->reader.wake = lr_req_wake;
    r->reader.patient = !r->stream && !r->bypass;
    if (lr_flight_enter(r->serve->flights, &opts, &r->reader, &began)) {
        drop(&m);
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    }
    r->reading = true;
    if (began) {
        start(&m, r, r->reader.flight);
    } else {
        drop(&m);
        r->outcome = LR_OUT_COALESCED;
    }
    return LR_STEP_NEXT;
}

int lr_run_refresh(struct lr_req *r)
{
    if (lr_room_route(r) != LR_STEP_NEXT) {
        r->err_status = 0; /* the stale answer is still good: only the refresh is off */
        return LR_ENOENT;
    }
    const char *which;
    unsigned retry_s;
    LR_TRY(lr_tenants_afford(r->serve->tenants, &r->tenant, r->wall_ms, &which, &retry_s));
    struct lr_digest key;
    flight_key(r, &key);
    struct lr_flight_opts opts = {.key = &key, .background = true};
    struct maker m;
    bool began;
    LR_TRY(make(r, &opts, &m));
    struct lr_reader *keep = m.local ? lr_local_keep(m.local) : lr_attempt_keep(m.attempt);
    int rc = lr_flight_enter(r->serve->flights, &opts, keep, &began);
    if (!rc && began) {
        start(&m, r, keep->flight);
        return 0;
    }
    if (!rc)
        lr_reader_close(keep); /* somebody is at it already */
    drop(&m);
    return rc;
}
