/* SPDX-License-Identifier: Apache-2.0
 * serve/run.c - the route and run rooms: which upstream, and whose flight.
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
    if (r->conf->n_ups == 0)
        return lr_req_fail(r, 503, "no_model",
                           "no model is attached: start with --upstream URL; only cached answers are served");
    if (r->bypass)
        return lr_req_fail(r, 502, "no_upstream", "there is no upstream for this path");
    return lr_req_fail(r, 404, "model_not_found", "no upstream serves the model '%.*s'", LR_FMT(model));
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
    r->n_ups = lr_conf_serving(r->conf, model, r->ups, LR_COUNT(r->ups), &r->model_sent);
    if (!r->n_ups)
        return no_upstream(r, model);
    keep_speakers(r);
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

enum lr_step lr_room_run(struct lr_req *r)
{
    return r->dialect == LR_DIALECT_EMBEDDING && !r->bypass ? lr_embed_run(r) : lr_run_flight(r);
}

enum lr_step lr_run_flight(struct lr_req *r)
{
    const char *which = "";
    if (lr_tenants_afford(r->serve->tenants, &r->tenant, r->wall_ms, &which, &r->retry_after_s))
        return lr_req_fail(r, 429, "limit_reached", "this tenant's limit %s is reached", which);
    struct lr_digest key;
    flight_key(r, &key);
    struct lr_flight_opts opts = {.key = may_join(r) ? &key : NULL};
    struct lr_attempt *a;
    bool began;
    if (lr_attempt_new(r, &opts, &a))
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    r->reader.wake = lr_req_wake;
    r->reader.patient = !r->stream && !r->bypass;
    if (lr_flight_enter(r->serve->flights, &opts, &r->reader, &began)) {
        lr_attempt_drop(a);
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    }
    r->reading = true;
    if (began) {
        lr_attempt_start(a, r, r->reader.flight);
    } else {
        lr_attempt_drop(a);
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
    struct lr_attempt *a;
    bool began;
    LR_TRY(lr_attempt_new(r, &opts, &a));
    struct lr_reader *keep = lr_attempt_keep(a);
    int rc = lr_flight_enter(r->serve->flights, &opts, keep, &began);
    if (!rc && began) {
        lr_attempt_start(a, r, keep->flight);
        return 0;
    }
    if (!rc)
        lr_reader_close(keep); /* somebody is at it already */
    lr_attempt_drop(a);
    return rc;
}
