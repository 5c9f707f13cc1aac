/* SPDX-License-Identifier: Apache-2.0
 * serve/put.c - PUT /larder/v1/entries: an answer that the operator brings along.
 *
 *   {"credential": "...", "dialect": "chat", "request": {...}, "response": {...}, "ttl": "2h"}
 *
 * The request is read and keyed as if the tenant of this credential had sent it without headers
 * that change the answer, the response as if an upstream had given it; what an upstream's answer
 * would not be stored for (cut off, filtered) is refused here too. 200 means that the commit has
 * returned: it is the acknowledgement that survives a kill. Runs in the pool and waits there for
 * the keeper, at most a batch.
 */
#include "serve/serve_int.h"

#include <stdio.h>
#include <time.h>

#define WAIT_NS                                                                                    \
    (30 * LR_SEC) /* for the keeper; its queue is bounded, so this is a disk that hangs */

/* Shared with the keeper's thread: the later of the two frees it. */
struct receipt {
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t done;
    bool arrived, left; /* the keeper has answered; the waiter has given up */
    int rc;
};

static void free_receipt(struct receipt *p)
{
    pthread_mutex_destroy(&p->mu);
    pthread_cond_destroy(&p->done);
    lr_free(p);
}

static struct receipt *new_receipt(void)
{
    struct receipt *p = lr_new(struct receipt);
    pthread_condattr_t attr;
    if (!p)
        return NULL;
    pthread_mutex_init(&p->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->done, &attr);
    pthread_condattr_destroy(&attr);
    return p;
}

static void on_stored(void *arg, int rc)
{
    struct receipt *p = arg;
    pthread_mutex_lock(&p->mu);
    p->arrived = true;
    p->rc = rc;
    bool left = p->left;
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->mu);
    if (left)
        free_receipt(p);
}

static int wait_stored(struct receipt *p)
{
    uint64_t ns = lr_clock_mono_ns() + WAIT_NS;
    struct timespec until = {.tv_sec = (time_t)(ns / LR_SEC), .tv_nsec = (long)(ns % LR_SEC)};
    int rc = LR_ETIMEOUT, e = 0;
    pthread_mutex_lock(&p->mu);
    while (!p->arrived && e == 0)
        e = pthread_cond_timedwait(&p->done, &p->mu, &until);
    bool arrived = p->arrived;
    p->left = true;
    if (arrived)
        rc = p->rc;
    pthread_mutex_unlock(&p->mu);
    if (arrived)
        free_receipt(p);
    return rc;
}

/* ---- reading the body ---- */

static bool refuse(struct lr_req *r, int status, const char *member, const char *what)
{
    lr_admin_fail(r, status, "invalid_request", "%s: %s", member, what);
    return false;
}

static bool read_dialect(struct lr_req *r, const struct lr_json *o, enum lr_dialect_id *out)
{
    struct lr_str name;
    if (lr_json_text(lr_json_get(o, "dialect"), &name))
        for (int d = LR_DIALECT_CHAT; d < LR_DIALECT_N; d++)
            if (d != LR_DIALECT_EMBEDDING &&
                lr_str_is(name, lr_dialect_name((enum lr_dialect_id)d))) {
                *out = (enum lr_dialect_id)d;
                return true;
            }
    return refuse(r, 400, "dialect", "must be chat, completion, messages or responses");
}

static bool read_tenant(struct lr_req *r, const struct lr_json *o)
{
    struct lr_str credential;
    if (!lr_json_text(lr_json_get(o, "credential"), &credential))
        return refuse(r, 400, "credential", "the tenant's key is missing");
    if (lr_tenants_find(r->serve->tenants, credential, r->wall_ms, r->conf->c->keys_proof,
                        &r->tenant))
        return refuse(r, 400, "credential",
                      "this gateway does not know the key, or it was revoked");
    return true;
}

static bool read_request(struct lr_req *r, const struct lr_json *o, enum lr_dialect_id d)
{
    struct lr_err err = {0};
    const struct lr_json *q = lr_json_get(o, "request");
    if (!lr_json_is(q, LR_JSON_OBJECT))
        return refuse(r, 400, "request", "the request's body is missing");
    if (lr_request_parse(&r->arena, d, q->raw, &r->request, &err)) {
        lr_admin_fail(r, 400, "invalid_request", "request.%s: %s", err.where, err.msg);
        return false;
    }
    if (r->request->bypass)
        return refuse(r, 400, "request", "it needs state that an upstream holds: never stored");
    if (lr_key_request(&r->arena, r->request, r->tenant.secret, NULL, 0, &r->key))
        return refuse(r, 413, "request", "it is too large to be keyed");
    return true;
}

static int append(void *ctx, const struct lr_event *ev)
{
    return lr_event_append(ctx, ev);
}

static bool read_response(struct lr_req *r, const struct lr_json *o, enum lr_dialect_id d,
                          struct lr_answer_facts *facts)
{
    struct lr_err err = {0};
    struct lr_decoder *decoder;
    const struct lr_json *v = lr_json_get(o, "response");
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return refuse(r, 400, "response", "the whole answer's body is missing");
    if (lr_decoder_open(&decoder, d, false, v->raw.n + 1, append, &r->events))
        return refuse(r, 503, "response", "no memory for it");
    int rc = lr_decoder_feed(decoder, v->raw, &err);
    if (!rc)
        rc = lr_decoder_end(decoder, &err);
    lr_decoder_close(decoder);
    if (rc)
        return refuse(r, 400, "response", err.msg[0] ? err.msg : lr_strerror(rc));
    if (lr_answer_facts(lr_buf_str(&r->events), facts) || !facts->storable)
        return refuse(r, 400, "response", "it is no complete answer that may be stored");
    return true;
}

static bool read_ttl(struct lr_req *r, const struct lr_json *o, uint64_t *ms)
{
    const struct lr_json *v = lr_json_get(o, "ttl");
    struct lr_str s;
    uint64_t seconds;
    *ms = r->conf->c->answer_ttl;
    if (lr_json_text(v, &s)                                       ? lr_parse_duration(s, ms) != 0
        : lr_json_u64(v, &seconds) && seconds < UINT64_MAX / 1000 ? (*ms = seconds * 1000, false)
                                                                  : v != NULL)
        return refuse(r, 400, "ttl", "must be a duration (\"2h\") or seconds");
    if (*ms > r->conf->c->answer_ttl_max)
        *ms = r->conf->c->answer_ttl_max;
    return *ms > 0 || refuse(r, 400, "ttl", "an answer that lives 0 s is not stored");
}

/* ---- storing ---- */

static void fill_meta(struct lr_req *r, const struct lr_answer_facts *f, uint64_t ttl_ms,
                      struct lr_doc_meta *m)
{
    *m = (struct lr_doc_meta){
        .key = r->key.exact,
        .tenant = r->tenant.id,
        .created_ms = r->wall_ms,
        .ttl_ms = ttl_ms,
        .max_tokens = r->request->max_tokens,
        .tokens_in = f->usage.input,
        .tokens_out = f->usage.output,
        .cost = lr_price_of(lr_conf_price(r->conf, r->request->model), &f->usage),
        .choices = f->choices,
        .cut = f->cut,
        .dialect = f->lossy ? (uint8_t)f->dialect : LR_DIALECT_NONE,
        .kind = (uint8_t)r->request->kind,
        .upstream = "admin",
    };
    (void)snprintf(m->model, sizeof m->model, "%.*s", LR_FMT(r->request->model)); /* cut to fit */
    memcpy(m->request_id, r->id, sizeof r->id);
}

static int store(struct lr_req *r, const struct lr_doc_meta *m)
{
    struct lr_buf compact;
    struct receipt *p = new_receipt();
    LR_FAIL_IF(!p, LR_ENOMEM);
    lr_buf_init(&compact, r->conf->c->answer_entry_max);
    int rc = lr_answer_compact(lr_buf_str(&r->events), &compact);
    if (!rc)
        rc = lr_answer_put(r->serve->answer, m, lr_buf_str(&compact), 0, on_stored, p);
    lr_buf_free(&compact);
    if (rc) {
        free_receipt(p);
        return rc;
    }
    return wait_stored(p);
}

void lr_verb_put(struct lr_req *r)
{
    enum lr_dialect_id d = LR_DIALECT_NONE;
    struct lr_answer_facts facts;
    struct lr_doc_meta meta;
    uint64_t ttl;
    struct lr_json *o = lr_admin_body(r);
    if (!o || !read_dialect(r, o, &d) || !read_tenant(r, o) || !read_request(r, o, d) ||
        !read_response(r, o, d, &facts) || !read_ttl(r, o, &ttl))
        return;
    fill_meta(r, &facts, ttl, &meta);
    int rc = store(r, &meta);
    if (rc) {
        int status = rc == LR_EOVER ? 413 : 503;
        lr_admin_fail(r, status, "not_stored", "the answer was not stored: %s", lr_strerror(rc));
        return;
    }
    char hex[33];
    struct lr_jw w;
    lr_hex(meta.key.b, 16, hex);
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_text(&w, "id", hex);
    lr_field_bool(&w, "stored", true);
    lr_jw_end(&w);
}
