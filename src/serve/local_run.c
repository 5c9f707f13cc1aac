/* SPDX-License-Identifier: Apache-2.0
 * serve/local_run.c - the producer of a flight at a model of this machine.
 *
 *   prepare (worker)    request > tokens, sampling, grammar
 *   start               submit; a full queue, and what cannot be done here > the second producer
 *   engine's thread     event -> [head, START at the first] -> flight
 *                       vector -> VECTOR -> flight
 *                       done -> bill, keep, END or ERROR
 *   readers' threads    cancel, room -> the scheduler
 *
 * All dialects work alike, since the scheduler speaks canonical events. What a model here cannot do is
 * refused with 400 and a sentence before anything runs; nothing that was asked for is left out silently,
 * but for members that we do not know and that other servers would ignore as well.
 *
 * The head goes out with the first event: until then a failure still has a status of its own, and where an
 * alias names upstreams too, they are asked in its place.
 *
 * Locks: `mu` guards the job's handle, which is good from submit until done; it is taken under the
 * flight's lock (cancel, room) and held over submit and calls to the scheduler, whose lock is a leaf.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define ARENA_MAX   LR_MIB(64)
#define VECTOR_MAX  LR_MIB(1)  /* of JSON */
#define KEEP_EVERY  LR_KIB(64) /* bytes told between two looks of the keeper */

struct question {
    struct lr_arena arena;
    struct lr_engine_ask ask;
    struct lr_nn_ids *ids; /* (n_prompts) */
    size_t n_ids;
};

struct lr_local_run {
    struct lr_producer p;
    struct lr_local *local;
    struct lr_attempt *second; /* owned; NULL: none, or it is too late */
    struct question q;         /* from prepare until submit */
    char id[LR_ID_LEN + 1];
    struct lr_engine_grammar *grammar; /* owned; NULL: none, or the model's own */
    size_t told;                       /* bytes since the keeper looked */
    bool base64;
    struct lr_buf vector;

    pthread_mutex_t mu; /* guards the two below */
    struct lr_engine_job *job; /* NULL before submit and after done */
    bool cancelled;
};

/* ---- flight callbacks (under the flight's lock) ---- */

static void cancel(void *producer)
{
    struct lr_local_run *u = producer;
    pthread_mutex_lock(&u->mu);
    u->cancelled = true;
    if (u->job)
        lr_engine_sched_cancel(u->local->sched, u->job);
    pthread_mutex_unlock(&u->mu);
}

static void room(void *producer)
{
    struct lr_local_run *u = producer;
    pthread_mutex_lock(&u->mu);
    if (u->job)
        lr_engine_sched_resume(u->local->sched, u->job);
    pthread_mutex_unlock(&u->mu);
}

static void released(void *producer)
{
    lr_local_drop(producer);
}

/* ---- life ---- */

int lr_local_new(struct lr_req *r, struct lr_flight_opts *opts, struct lr_local_run **out)
{
    struct lr_local_run *u = lr_new(struct lr_local_run);
    LR_FAIL_IF(!u, LR_ENOMEM);
    lr_producer_init(&u->p, r);
    memcpy(u->p.note.meta.upstream, "local", sizeof "local");
    memcpy(u->id, r->id, sizeof u->id);
    u->local = r->local ? r->local : r->second;
    lr_buf_init(&u->vector, VECTOR_MAX);
    lr_arena_init(&u->q.arena, ARENA_MAX);
    pthread_mutex_init(&u->mu, NULL);
    opts->producer = u;
    opts->cancel = cancel;
    opts->room = room;
    opts->released = released;
    u->p.calls = *opts;
    *out = u;
    return 0;
}

void lr_local_second(struct lr_local_run *u, struct lr_attempt *second)
{
    u->second = second;
}

static void drop_second(struct lr_local_run *u)
{
    if (u->second)
        lr_attempt_drop(u->second);
    u->second = NULL;
}

static void free_question(struct question *q)
{
    for (size_t i = 0; i < q->n_ids; i++)
        lr_nn_ids_free(&q->ids[i]);
    q->n_ids = 0;
    lr_arena_free(&q->arena);
}

void lr_local_drop(struct lr_local_run *u)
{
    drop_second(u);
    free_question(&u->q);
    lr_engine_grammar_close(u->grammar);
    lr_buf_free(&u->vector);
    pthread_mutex_destroy(&u->mu);
    lr_producer_free(&u->p);
    lr_free(u);
}

struct lr_reader *lr_local_keep(struct lr_local_run *u)
{
    return lr_producer_keep(&u->p);
}

/* ---- the scheduler's callbacks ---- */

/* What of the prompt came from the KV store, as a header to pass on: "x-larder-kv: disk=512;saved-ms=90". */
static void write_warm(const struct lr_local_run *u, struct lr_buf *out)
{
    struct lr_engine_bill b;
    bool any = false;
    lr_engine_job_bill(u->job, &b);
    for (int t = 0; t < LR_REUSE_TIERS; t++) {
        if (b.warm[t])
            lr_buf_addf(out, "%s%s=%llu", any ? ";" : "x-larder-kv: ",
                        lr_reuse_tier_name((enum lr_reuse_tier)t), (unsigned long long)b.warm[t]);
        any |= b.warm[t] > 0;
    }
    if (any)
        lr_buf_addf(out, ";saved-ms=%llu\n", (unsigned long long)(b.saved_ns / LR_MS));
}

static int begin_answer(struct lr_local_run *u)
{
    struct lr_event start = {.type = LR_EV_START, .a = lr_str(u->id, LR_ID_LEN),
                             .b = lr_strz(u->local->name)};
    struct lr_buf lines;
    lr_buf_init(&lines, 512);
    lr_buf_addf(&lines, "x-larder-upstream: local\nx-larder-route: local;tries=%u\n", u->p.tries);
    write_warm(u, &lines);
    int rc = lines.rc ? lines.rc : lr_flight_head(u->p.flight, 200, lr_buf_str(&lines));
    lr_buf_free(&lines);
    LR_TRY(rc);
    u->p.head_done = true;
    drop_second(u);
    return lr_producer_event(&u->p, &start);
}

static int on_event(void *ctx, const struct lr_event *ev)
{
    struct lr_local_run *u = ctx;
    if (!u->p.head_done)
        LR_TRY(begin_answer(u));
    int rc = lr_producer_event(&u->p, ev);
    u->told += ev->a.n + ev->b.n;
    if (u->told > KEEP_EVERY) {
        u->told = 0;
        lr_producer_keep_up(&u->p);
    }
    return rc;
}

static void write_base64(struct lr_buf *out, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    lr_buf_addc(out, '"');
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0u);
        lr_buf_addc(out, digits[v >> 18]);
        lr_buf_addc(out, digits[v >> 12 & 63]);
        lr_buf_addc(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
        lr_buf_addc(out, i + 2 < n ? digits[v & 63] : '=');
    }
    lr_buf_addc(out, '"');
}

static void write_numbers(struct lr_buf *out, const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lr_buf_addf(out, "%c%.9g", i ? ',' : '[', (double)v[i]);
    lr_buf_addc(out, ']');
}

/* base64 is of little-endian floats (OpenAI's), which is what this machine has (checked in kern/). */
static int on_vector(void *ctx, size_t i, const float *v, size_t n)
{
    struct lr_local_run *u = ctx;
    lr_buf_reset(&u->vector);
    if (u->base64)
        write_base64(&u->vector, (const unsigned char *)v, n * sizeof *v);
    else
        write_numbers(&u->vector, v, n);
    LR_TRY(u->vector.rc);
    struct lr_event ev = {.type = LR_EV_VECTOR, .choice = (uint16_t)i, .a = lr_buf_str(&u->vector)};
    return on_event(u, &ev);
}

/* Nothing has been sent and it was no mistake of the client's: the other kind's turn. u is gone then. */
static bool passed_on(struct lr_local_run *u, int rc)
{
    if (!u->second || u->p.head_done || rc == LR_ECANCEL || rc == LR_EINVAL ||
        lr_attempt_take(u->second, &u->p))
        return false;
    u->second = NULL;
    lr_local_drop(u);
    return true;
}

static void land(struct lr_local_run *u, int rc, const char *msg)
{
    if (passed_on(u, rc))
        return;
    if (rc == LR_ECANCEL)
        lr_producer_fail(&u->p, 503, "cancelled", "the request was given up");
    else if (rc == LR_ENOMEM || rc == LR_EOVER)
        lr_producer_fail(&u->p, 503, "out_of_memory", msg);
    else
        lr_producer_fail(&u->p, 500, "model_failed", msg);
}

static void on_done(void *ctx, int rc, const struct lr_engine_bill *b, const struct lr_err *err)
{
    struct lr_local_run *u = ctx;
    pthread_mutex_lock(&u->mu);
    u->job = NULL;
    pthread_mutex_unlock(&u->mu);
    struct lr_flight_bill bill = {.queue_ns = b->queue_ns, .prefill_ns = b->prefill_ns,
                                  .decode_ns = b->decode_ns, .prompt = b->prompt,
                                  .cached = b->cached, .reply = b->reply,
                                  .load_ns = b->load_ns, .saved_ns = b->saved_ns};
    _Static_assert(LR_COUNT(bill.warm) == LR_REUSE_TIERS, "a number for each tier");
    memcpy(bill.warm, b->warm, sizeof bill.warm);
    lr_flight_set_bill(u->p.flight, &bill);
    if (rc || u->p.broken) {
        land(u, rc ? rc : LR_ENOMEM, rc ? err->msg : "no memory for the answer");
        return;
    }
    if (!u->p.conf->n_ups) /* nobody else could vouch for the credential */
        lr_tenants_prove(u->p.serve->tenants, u->p.tenant_id, true, lr_clock_wall_ms());
    u->p.ended = true;
    lr_producer_finish(&u->p);
}

/* ---- from the request to the question ---- */

/* n lists of ids, of at most a context each and one more: that one is told apart from "fits". */
static int make_lists(struct question *q, const struct lr_local *l, size_t n)
{
    q->ids = lr_arena_array(&q->arena, struct lr_nn_ids, n);
    LR_FAIL_IF(!q->ids, LR_ENOMEM);
    for (; q->n_ids < n; q->n_ids++)
        lr_nn_ids_init(&q->ids[q->n_ids], (size_t)lr_engine_sched_context(l->sched) + 1);
    return 0;
}

static int too_long(const struct lr_local *l, struct lr_err *err)
{
    *err = (struct lr_err){0};
    return lr_err_set(err, LR_EOVER, "", "the prompt is longer than the context of '%s', %u tokens",
                      l->name, lr_engine_sched_context(l->sched));
}

static int encode(const struct lr_local *l, struct lr_str text, unsigned flags,
                  struct lr_nn_ids *ids, struct lr_err *err)
{
    int rc = lr_nn_tok_encode(l->tok, text, flags, ids, err);
    return rc == LR_EOVER ? too_long(l, err) : rc;
}

/* A string, or an array of token ids. */
static int read_text(const struct lr_local *l, const struct lr_json *v, struct lr_nn_ids *ids,
                     struct lr_err *err)
{
    uint64_t id;
    if (lr_json_is(v, LR_JSON_STRING))
        return encode(l, v->text, LR_NN_ADD_SPECIAL, ids, err);
    for (const struct lr_json *i = v->child; i; i = i->next) {
        if (!lr_json_u64(i, &id) || id >= lr_nn_tok_size(l->tok))
            return lr_err_set(err, LR_EINVAL, "prompt", "%.*s is no token of this model",
                              LR_FMT(i->raw));
        int rc = lr_nn_ids_add(ids, (uint32_t)id);
        LR_FAIL_IF(rc == LR_EOVER, too_long(l, err));
        LR_TRY(rc);
    }
    return 0;
}

/* Members that ask for something no model here has, and that must not be left out silently. */
static int refuse_extras(const struct lr_request *q, struct lr_err *err)
{
    static const char *const names[] = {"functions", "function_call", "web_search_options", "audio",
                                        "suffix", "echo", "best_of", "thinking"};
    struct lr_str type = {NULL, 0};
    for (const struct lr_extra *x = q->extra; x; x = x->next)
        for (size_t i = 0; i < LR_COUNT(names); i++)
            if (lr_str_is(x->v->key, names[i]) && !lr_json_is(x->v, LR_JSON_NULL) &&
                !lr_json_is(x->v, LR_JSON_FALSE) &&
                !(lr_json_text(lr_json_get(x->v, "type"), &type) && lr_str_is(type, "disabled")))
                return lr_err_set(err, LR_EUNSUPPORTED, names[i],
                                  "models of this machine do not have it");
    return 0;
}

/* response_format: a grammar, or a refusal. */
static int read_format(struct lr_local_run *u, const struct lr_request *q, struct question *out,
                       struct lr_err *err)
{
    struct lr_local *l = u->local;
    if (q->format == LR_FORMAT_ABSENT || q->format == LR_FORMAT_TEXT)
        return 0;
    if (q->format == LR_FORMAT_OTHER)
        return lr_err_set(err, LR_EUNSUPPORTED, "response_format", "unknown type");
    if (out->ask.tools)
        return lr_err_set(err, LR_EUNSUPPORTED, "response_format",
                          "constrained replies and tools exclude each other here");
    if (q->format == LR_FORMAT_JSON && !l->object)
        return lr_err_set(err, LR_EUNSUPPORTED, "response_format",
                          "the vocabulary of '%s' cannot spell JSON", l->name);
    if (q->format == LR_FORMAT_JSON) {
        out->ask.grammar = l->object;
        return 0;
    }
    int rc = lr_engine_grammar_schema(&u->grammar, q->format_schema, err);
    LR_FAIL_IF(rc == LR_EOVER, LR_EUNSUPPORTED); /* a schema, not a prompt, that is too large */
    LR_TRY(rc);
    LR_TRY(lr_engine_lexicon_check(l->lexicon, u->grammar, err));
    out->ask.grammar = u->grammar;
    return 0;
}

static int read_chat(struct lr_local_run *u, const struct lr_request *q, struct question *out,
                     struct lr_err *err)
{
    struct lr_local *l = u->local;
    const struct lr_engine_render how = {.request = q};
    out->ask.tools = q->tools && q->tool_choice != LR_TOOL_CHOICE_NONE &&
                     lr_engine_template_spells(&l->tmpl, q);
    LR_TRY(read_format(u, q, out, err));
    LR_TRY(make_lists(out, l, 1));
    int rc = lr_engine_template_render(&l->tmpl, l->tok, &how, &out->ids[0], err);
    LR_FAIL_IF(rc == LR_EOVER, too_long(l, err));
    LR_TRY(rc);
    out->ask.no_think = out->ask.grammar != NULL;
    if (out->ask.grammar && l->tmpl.think_open) /* the document begins at once */
        LR_TRY(encode(l, LR_STR("\n</think>\n\n"), LR_NN_PARSE_SPECIAL, &out->ids[0], err));
    return 0;
}

static int read_completion(struct lr_local_run *u, const struct lr_request *q, struct question *out,
                           struct lr_err *err)
{
    static const struct lr_json empty = {.type = LR_JSON_STRING};
    const struct lr_json *v = q->prompt ? q->prompt : &empty, *one = v;
    bool many = lr_json_is(v, LR_JSON_ARRAY) && v->child &&
                !lr_json_is(v->child, LR_JSON_NUMBER); /* of texts, or of lists of ids */
    size_t n = many ? v->n : 1;
    if (n > LR_ENGINE_CHOICES_MAX)
        return lr_err_set(err, LR_EINVAL, "prompt", "at most %u prompts", LR_ENGINE_CHOICES_MAX);
    LR_TRY(make_lists(out, u->local, n));
    one = many ? v->child : v;
    for (size_t i = 0; i < n; i++, one = one->next)
        LR_TRY(read_text(u->local, one, &out->ids[i], err));
    return 0;
}

static int read_texts(struct lr_local_run *u, struct lr_req *r, struct question *out,
                      struct lr_err *err)
{
    const struct lr_request *q = r->request;
    const struct lr_local *l = u->local;
    uint64_t d = lr_engine_model_shape(l->model)->n_embd, wanted = d;
    struct lr_str form = LR_STR("float");
    const size_t *which;
    size_t n = lr_embed_wanted(r, &which);
    if (!l->embeds)
        return lr_err_set(err, LR_EUNSUPPORTED, "model", "'%s' makes no embeddings", l->name);
    if (q->dimensions && (!lr_json_u64(q->dimensions, &wanted) || wanted != d))
        return lr_err_set(err, LR_EUNSUPPORTED, "dimensions", "'%s' has vectors of %llu", l->name,
                          (unsigned long long)d);
    if (q->encoding_format && !lr_json_text(q->encoding_format, &form))
        form = LR_STR("float");
    u->base64 = lr_str_is(form, "base64");
    if (!u->base64 && !lr_str_is(form, "float"))
        return lr_err_set(err, LR_EINVAL, "encoding_format", "float or base64");
    out->ask.pool = l->pool;
    LR_TRY(make_lists(out, l, n));
    for (size_t i = 0; i < n; i++)
        LR_TRY(read_text(l, q->inputs[which[i]], &out->ids[i], err));
    return 0;
}

/* Copies, for a question that may be asked when the request is gone. */
static int read_stops(const struct lr_request *q, struct question *out)
{
    struct lr_str *v = lr_arena_array(&out->arena, struct lr_str, q->n_stop);
    LR_FAIL_IF(q->n_stop && !v, LR_ENOMEM);
    for (size_t i = 0; i < q->n_stop; i++) {
        char *text = lr_arena_strz(&out->arena, q->stop[i]);
        LR_FAIL_IF(!text, LR_ENOMEM);
        v[i] = lr_str(text, q->stop[i].n);
    }
    out->ask.stops = v;
    out->ask.n_stops = q->n_stop;
    return 0;
}

static int read_sampling(struct lr_local_run *u, const struct lr_request *q, struct question *out,
                         struct lr_err *err)
{
    uint64_t seed;
    lr_random_bytes(&seed, sizeof seed);
    out->ask.n = q->n > UINT16_MAX ? UINT16_MAX : (uint32_t)q->n;
    out->ask.max_tokens = q->max_tokens > UINT32_MAX ? UINT32_MAX : (uint32_t)q->max_tokens;
    LR_TRY(read_stops(q, out));
    LR_TRY(refuse_extras(q, err));
    return lr_engine_sampling_read(&out->arena, q, lr_engine_model_shape(u->local->model)->n_vocab,
                                   seed, &out->ask.sampling, err);
}

static int read_question(struct lr_local_run *u, struct lr_req *r, struct question *out,
                         struct lr_err *err)
{
    const struct lr_request *q = r->request;
    struct lr_engine_ask *a = &out->ask;
    *a = (struct lr_engine_ask){.kind = q->kind, .tenant = r->tenant.id, .event = on_event,
                                .vector = on_vector, .done = on_done, .ctx = u};
    memcpy(a->id, r->id, sizeof r->id);
    if (q->kind == LR_KIND_EMBEDDING) {
        LR_TRY(read_texts(u, r, out, err));
    } else {
        LR_TRY(read_sampling(u, q, out, err));
        LR_TRY(q->kind == LR_KIND_CHAT ? read_chat(u, q, out, err)
                                       : read_completion(u, q, out, err));
    }
    struct lr_engine_prompt *p =
        lr_arena_array(&out->arena, struct lr_engine_prompt, out->n_ids);
    LR_FAIL_IF(!p, LR_ENOMEM);
    for (size_t i = 0; i < out->n_ids; i++)
        p[i] = (struct lr_engine_prompt){out->ids[i].id, out->ids[i].n};
    a->prompts = p;
    a->n_prompts = out->n_ids;
    return 0;
}

/* ---- start ---- */

static void refuse(struct lr_local_run *u, int rc, const struct lr_err *err)
{
    char msg[sizeof err->where + sizeof err->msg + 4];
    const char *why = err->code ? err->msg : lr_strerror(rc);
    if (passed_on(u, rc))
        return;
    (void)snprintf(msg, sizeof msg, "%s%s%s", err->where, err->where[0] ? ": " : "", why); /* fits */
    switch (rc) {
    case LR_EBUSY:
        lr_metric_add(LR_M_SHED, 1);
        if (!lr_flight_head(u->p.flight, 429, LR_STR("retry-after: 1\n")))
            u->p.head_done = true;
        lr_producer_fail(&u->p, 429, "overloaded", why);
        return;
    case LR_EOVER:
        lr_producer_fail(&u->p, 400, "context_length_exceeded", why);
        return;
    case LR_EUNSUPPORTED:
        lr_producer_fail(&u->p, 400, "unsupported", msg);
        return;
    case LR_EINVAL:
        lr_producer_fail(&u->p, 400, "invalid_request", msg);
        return;
    case LR_ECANCEL:
        lr_producer_fail(&u->p, 503, "cancelled", "the request was given up");
        return;
    case LR_ECLOSED:
        lr_producer_fail(&u->p, 503, "no_model", why);
        return;
    default:
        lr_producer_fail(&u->p, 503, "out_of_memory", why);
    }
}

int lr_local_prepare(struct lr_local_run *u, struct lr_req *r, struct lr_err *err)
{
    return read_question(u, r, &u->q, err);
}

/* The question is prepared: rc. */
static void go(struct lr_local_run *u, int rc, struct lr_err *err)
{
    u->p.tries++;
    if (!rc) {
        pthread_mutex_lock(&u->mu); /* done and cancel wait until the handle is there */
        rc = u->cancelled ? LR_ECANCEL
                          : lr_engine_sched_submit(u->local->sched, &u->q.ask, &u->job, err);
        if (!rc)
            free_question(&u->q); /* copied; done may free u as soon as the lock is free */
        pthread_mutex_unlock(&u->mu);
    }
    if (rc)
        refuse(u, rc, err);
}

void lr_local_start(struct lr_local_run *u, struct lr_req *r, struct lr_flight *flight)
{
    struct lr_err err = {0}, other = {0};
    lr_producer_begin(&u->p, flight);
    if (u->second && lr_attempt_prepare(u->second, r, &other))
        drop_second(u);
    int rc = lr_local_prepare(u, r, &err);
    go(u, rc, &err);
}

int lr_local_take(struct lr_local_run *u, struct lr_producer *from)
{
    struct lr_err err = {0};
    LR_TRY(lr_producer_pass(from, &u->p));
    go(u, 0, &err);
    return 0;
}
