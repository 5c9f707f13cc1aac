/* SPDX-License-Identifier: Apache-2.0
 * serve/embed.c - /v1/embeddings, cached per input: a batch with 3 known and 2 new inputs sends 2 upstream.
 *
 *   inputs   a b c d e                     upstream: b e
 *   known    A . C D .      --merge-->     A B C D E      and B, E are stored, one entry each
 *
 * Each input has a key of its own (model, dimensions, format ... and that input). An entry holds one
 * VECTOR. Upstreams count tokens for a batch only; an item's share is by its bytes, exact for one input.
 */
#include "serve/serve_int.h"

#include <stdio.h>

struct lr_embed {
    size_t n;
    struct lr_digest *keys;
    struct lr_doc **docs; /* n; NULL = not known */
    size_t *which;        /* the unknown ones, in order */
    size_t n_which;
};

static int prepare(struct lr_req *r)
{
    struct lr_embed *e = lr_arena_new(&r->arena, struct lr_embed);
    LR_FAIL_IF(!e, LR_ENOMEM);
    e->n = r->request->n_inputs;
    e->keys = lr_arena_array(&r->arena, struct lr_digest, e->n);
    e->docs = lr_arena_array(&r->arena, struct lr_doc *, e->n);
    e->which = lr_arena_array(&r->arena, size_t, e->n);
    LR_FAIL_IF(!e->keys || !e->docs || !e->which, LR_ENOMEM);
    for (size_t i = 0; i < e->n; i++)
        LR_TRY(lr_key_input(r->request, i, r->tenant.secret, r->key_headers, r->n_key_headers,
                            &e->keys[i]));
    r->embed = e;
    return 0;
}

/* In a worker: entries that lie on disk are read here. */
static void look_up(struct lr_req *r, size_t i)
{
    struct lr_ask ask = {.key = r->embed->keys[i], .now_ms = r->wall_ms,
                         .dialect = LR_DIALECT_EMBEDDING, .n = 1, .max_age_ms = r->wish.max_age_ms};
    struct lr_answer_hit hit = {.reason = ""};
    enum lr_found found = lr_answer_get(r->serve->answer, &ask, &hit);
    if (found == LR_FOUND_COLD && lr_answer_load(r->serve->answer, &ask.key) == 0)
        found = lr_answer_get(r->serve->answer, &ask, &hit);
    if (found == LR_FOUND_HIT)
        r->embed->docs[i] = hit.doc;
    else
        lr_doc_unref(found == LR_FOUND_STALE ? hit.doc : NULL);
}

/* Appends the vector of a one-item log as that of input i. */
static int add_vector(struct lr_str log, size_t i, struct lr_buf *out)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1)
        if (ev.type == LR_EV_VECTOR) {
            ev.choice = (uint16_t)i;
            return lr_event_append(out, &ev);
        }
    return rc ? rc : LR_ECORRUPT;
}

static int add_head(const struct lr_req *r, struct lr_str model, struct lr_buf *out)
{
    struct lr_event start = {.type = LR_EV_START, .a = lr_str(r->id, LR_ID_LEN), .b = model};
    return lr_event_append(out, &start);
}

static int add_tail(uint64_t tokens, struct lr_buf *out)
{
    struct lr_event usage = {.type = LR_EV_USAGE, .usage = {.input = tokens, .known = true}};
    struct lr_event end = {.type = LR_EV_END};
    LR_TRY(lr_event_append(out, &usage));
    return lr_event_append(out, &end);
}

/* Everything known: the answer from the entries alone. */
static int merge_known(struct lr_req *r)
{
    struct lr_embed *e = r->embed;
    struct lr_answer_facts facts;
    uint64_t tokens = 0;
    LR_TRY(lr_answer_facts(e->docs[0]->log, &facts));
    LR_TRY(add_head(r, facts.model, &r->events));
    for (size_t i = 0; i < e->n; i++) {
        LR_TRY(add_vector(e->docs[i]->log, i, &r->events));
        tokens += e->docs[i]->meta.tokens_in;
        r->rec->ms_saved += e->docs[i]->meta.took_ms / e->n;
        r->rec->money_saved += e->docs[i]->meta.cost;
    }
    lr_metric_add(LR_M_SAVED_TOKENS_IN, (int64_t)tokens);
    return add_tail(tokens, &r->events);
}

static enum lr_step run(struct lr_req *r)
{
    if (prepare(r))
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    struct lr_embed *e = r->embed;
    bool look = r->may_serve && !r->wish.no_cache && r->tenant.proven;
    for (size_t i = 0; i < e->n; i++) {
        if (look)
            look_up(r, i);
        if (!e->docs[i])
            e->which[e->n_which++] = i;
    }
    if (e->n_which == 0) {
        if (merge_known(r))
            return lr_req_fail(r, 500, "internal", "the stored vectors cannot be read");
        r->outcome = LR_OUT_HIT;
        r->reason = "exact";
        return LR_STEP_DONE;
    }
    if (!*r->reason)
        r->reason = !look ? (r->tenant.proven ? "no-cache" : "unproven") : "new";
    if (e->n_which < e->n)
        (void)snprintf(r->rec->reason, sizeof r->rec->reason, "partial:%u/%u",
                       (unsigned)(e->n - e->n_which), (unsigned)e->n); /* fits */
    if (r->wish.only_if_cached) {
        const char *why = r->reason;
        (void)lr_req_fail(r, 504, "not_cached", "only-if-cached was asked and not every input is known");
        r->reason = why;
        return LR_STEP_ERR;
    }
    return lr_run_flight(r);
}

enum lr_step lr_embed_run(struct lr_req *r)
{
    return lr_req_work(r, run);
}

/* The share of a batch's tokens that input i has, by its bytes. */
static uint64_t share(const struct lr_req *r, size_t i, uint64_t tokens)
{
    size_t all = 0;
    for (size_t j = 0; j < r->embed->n_which; j++)
        all += r->request->inputs[r->embed->which[j]]->raw.n;
    size_t own = r->request->inputs[i]->raw.n;
    return all ? (uint64_t)((double)tokens * (double)own / (double)all + 0.5) : 0;
}

static void store_item(struct lr_req *r, size_t i, const struct lr_event *vector, struct lr_str model,
                       uint64_t tokens)
{
    struct lr_buf log;
    struct lr_event one = *vector;
    const struct lr_opt_price *price = lr_conf_price(r->conf, lr_strz(r->rec->model));
    struct lr_usage u = {.input = tokens, .known = true};
    struct lr_doc_meta m = {
        .key = r->embed->keys[i],
        .tenant = r->tenant.id,
        .created_ms = lr_clock_wall_ms(),
        .ttl_ms = r->wish.ttl_ms,
        .took_ms = (lr_clock_mono_ns() - r->start_ns) / LR_MS,
        .tokens_in = tokens,
        .cost = lr_price_of(price, &u),
        .choices = 1,
        .kind = LR_KIND_EMBEDDING,
    };
    memcpy(m.model, r->rec->model, sizeof m.model);
    memcpy(m.request_id, r->id, sizeof r->id);
    one.choice = 0;
    lr_buf_init(&log, r->conf->c->answer_entry_max);
    if (add_head(r, model, &log) == 0 && lr_event_append(&log, &one) == 0 && add_tail(tokens, &log) == 0 &&
        lr_answer_put(r->serve->answer, &m, lr_buf_str(&log),
                      r->tenant.limits ? r->tenant.limits->bytes : 0, NULL, NULL))
        LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "embed", "event=not_stored");
    lr_buf_free(&log);
}

/* Did the upstream send one vector for each input it was asked? */
static bool one_each(struct lr_req *r, struct lr_str log)
{
    size_t n = r->embed->n_which, seen = 0;
    bool *have = lr_arena_array(&r->arena, bool, n);
    struct lr_event ev;
    while (have && lr_event_next(&log, &ev) == 1) {
        if (ev.type != LR_EV_VECTOR)
            continue;
        if (ev.choice >= n || have[ev.choice])
            return false;
        have[ev.choice] = true;
        seen++;
    }
    return seen == n;
}

static int not_each(struct lr_req *r)
{
    struct lr_event ev = {.type = LR_EV_ERROR, .status = 502, .a = LR_STR("upstream_incomplete"),
                          .b = LR_STR("the upstream did not send one vector for each input")};
    lr_buf_reset(&r->events);
    return lr_event_append(&r->events, &ev);
}

int lr_embed_merge(struct lr_req *r)
{
    struct lr_embed *e = r->embed;
    struct lr_answer_facts facts;
    struct lr_buf merged;
    struct lr_event ev;
    struct lr_str log = lr_buf_str(&r->events);
    LR_TRY(lr_answer_facts(log, &facts));
    LR_FAIL_IF(!facts.complete, 0); /* an error is passed on as it is */
    if (!one_each(r, log))
        return not_each(r);
    lr_buf_init(&merged, r->events.max);
    uint64_t tokens = facts.usage.input;
    int rc = add_head(r, facts.model, &merged);
    for (size_t i = 0; !rc && i < e->n; i++)
        if (e->docs[i]) {
            rc = add_vector(e->docs[i]->log, i, &merged);
            tokens += e->docs[i]->meta.tokens_in;
        }
    while (!rc && (rc = lr_event_next(&log, &ev)) == 1) {
        rc = 0;
        if (ev.type != LR_EV_VECTOR)
            continue;
        size_t i = e->which[ev.choice];
        if (r->may_store && !r->wish.no_store)
            store_item(r, i, &ev, facts.model, share(r, i, facts.usage.input));
        ev.choice = (uint16_t)i;
        rc = lr_event_append(&merged, &ev);
    }
    if (!rc)
        rc = add_tail(tokens, &merged);
    if (!rc) {
        lr_buf_free(&r->events);
        r->events = merged;
        return 0;
    }
    lr_buf_free(&merged);
    return rc;
}

int lr_embed_body(struct lr_arena *a, const struct lr_req *r, struct lr_buf *out)
{
    if (r->embed->n_which == r->embed->n)
        return lr_request_forward(a, r->request, r->model_sent, out); /* as it came */
    return lr_request_write_inputs(a, r->request, r->model_sent, r->embed->which, r->embed->n_which, out);
}

size_t lr_embed_wanted(const struct lr_req *r, const size_t **which)
{
    *which = r->embed->which;
    return r->embed->n_which;
}

void lr_embed_free(struct lr_req *r)
{
    for (size_t i = 0; r->embed && i < r->embed->n; i++)
        lr_doc_unref(r->embed->docs[i]);
}
