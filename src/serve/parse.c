/* SPDX-License-Identifier: Apache-2.0
 * serve/parse.c - the first room: who asks, in which dialect, under which conditions; bytes to request.
 *
 * begin() of the door calls lr_room_begin with the headers only: what can be refused early is refused
 * before the body is read. The raw shortcut is tried here, before any JSON is looked at.
 */
#include "serve/serve_int.h"

#include <stdio.h>

/* Headers that change the answer, or whose it is, and so count in the key; a default counts as absent. */
static const struct {
    const char *name, *usual;
} answer_headers[] = {
    {"anthropic-version", "2023-06-01"},
    {"anthropic-beta", NULL},
    {"openai-beta", NULL},
    {"openai-organization", NULL}, /* the scope of a credential: what one project was told is its own */
    {"openai-project", NULL},
};

/* Headers of which the raw shortcut must see a change: all that parse reads besides the credential. */
static const char *const raw_headers[] = {
    "anthropic-version", "anthropic-beta", "openai-beta", "cache-control", "x-larder-category",
    "x-larder-ttl", "x-larder-tag", "openai-organization", "openai-project",
};

/* ---- headers ---- */

struct lr_str lr_req_credential(const struct lr_req *r)
{
    struct lr_str auth = lr_conn_header(r->conn, "authorization");
    if (auth.n > 7 && strncasecmp(auth.p, "bearer ", 7) == 0)
        auth = lr_str_trim(lr_str(auth.p + 7, auth.n - 7));
    if (!auth.n)
        auth = lr_conn_header(r->conn, "x-api-key");
    if (!auth.n)
        auth = lr_conn_header(r->conn, "api-key");
    return auth;
}

/* The part of a hint that traces may keep. */
static void take_hint(struct lr_req *r, const char *name, char *out, size_t cap)
{
    struct lr_str v = lr_conn_header(r->conn, name);
    size_t n = 0;
    for (size_t i = 0; i < v.n && n + 1 < cap; i++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-", v.p[i]) && v.p[i])
            out[n++] = v.p[i];
    out[n] = 0;
}

static void read_directive(struct lr_wish *w, struct lr_str d)
{
    struct lr_str value = d, name = lr_str_trim(lr_str_cut(&value, '='));
    uint64_t sec = 0;
    value = lr_str_trim(value);
    bool has = value.n && lr_parse_u64(value, &sec) == 0 && sec < UINT64_MAX / 1000;
    if (lr_str_ieq(name, LR_STR("no-cache")))
        w->no_cache = true;
    else if (lr_str_ieq(name, LR_STR("no-store")))
        w->no_store = true;
    else if (lr_str_ieq(name, LR_STR("only-if-cached")))
        w->only_if_cached = true;
    else if (lr_str_ieq(name, LR_STR("max-age")) && has)
        w->max_age_ms = sec * 1000;
    else if (lr_str_ieq(name, LR_STR("stale-while-revalidate")) && has)
        w->swr_ms = sec * 1000;
    else if (lr_str_ieq(name, LR_STR("stale-if-error")) && has)
        w->sie_ms = sec * 1000;
    else if (lr_str_ieq(name, LR_STR("max-age")) || lr_str_ieq(name, LR_STR("stale-while-revalidate")) ||
             lr_str_ieq(name, LR_STR("stale-if-error")))
        w->bad = true;
    /* Others are for other caches. */
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* cache-control, x-larder-category, -ttl, -tag, within the operator's limits. */
static void read_wish(struct lr_req *r)
{
    const struct lr_config *c = r->conf->c;
    struct lr_wish *w = &r->wish;
    *w = (struct lr_wish){.max_age_ms = UINT64_MAX, .ttl_ms = c->answer_ttl};
    struct lr_str rest = lr_conn_header(r->conn, "cache-control");
    while (rest.p)
        read_directive(w, lr_str_trim(lr_str_cut(&rest, ',')));
    w->swr_ms = least(w->swr_ms, c->answer_swr);
    w->sie_ms = least(w->sie_ms, c->answer_sie);
    w->variety = c->answer_variety;
    w->category = lr_conn_header(r->conn, "x-larder-category");
    w->tag = lr_conn_header(r->conn, "x-larder-tag");
    const struct lr_opt_category *cat = lr_conf_category(r->conf, w->category);
    if (w->category.n && !cat)
        w->category = lr_str(NULL, 0);
    if (cat) {
        w->variety |= cat->variety;
        w->no_store |= !cat->store;
        w->no_cache |= !cat->store;
        if (cat->ttl)
            w->ttl_ms = cat->ttl;
    }
    struct lr_str ttl = lr_conn_header(r->conn, "x-larder-ttl");
    uint64_t ms;
    if (ttl.n && lr_parse_duration(ttl, &ms) == 0)
        w->ttl_ms = cat && cat->ttl ? least(ms, cat->ttl) : ms;
    else if (ttl.n)
        w->bad = true;
    w->ttl_ms = least(w->ttl_ms, c->answer_ttl_max);
    w->no_store |= w->ttl_ms == 0;
}

static bool json_type(struct lr_str type)
{
    struct lr_str main = lr_str_trim(lr_str_cut(&type, ';'));
    return lr_str_ieq(main, LR_STR("application/json"));
}

void lr_room_begin(struct lr_req *r)
{
    struct lr_str host = lr_conn_header(r->conn, "host");
    struct lr_str origin = lr_conn_header(r->conn, "origin");
    r->dialect = lr_str_is(lr_conn_method(r->conn), "POST") ? lr_dialect_of_path(lr_conn_path(r->conn))
                                                            : LR_DIALECT_NONE;
    if (!lr_guard_host(r->conf, host)) {
        lr_req_fail(r, 403, "host_refused",
                    "the Host of this request is not one of ours; list it under `hosts`");
        return;
    }
    if (!lr_guard_origin(r->conf, origin, host)) {
        lr_req_fail(r, 403, "origin_refused",
                    "the Origin of this request is not allowed; list it under `origins`");
        return;
    }
    if (r->dialect != LR_DIALECT_NONE && !json_type(lr_conn_header(r->conn, "content-type")))
        lr_req_fail(r, 415, "content_type", "the content type must be application/json");
}

/* ---- the raw shortcut's view of the headers ---- */

static void frame(struct lr_buf *b, struct lr_str s)
{
    uint32_t n = (uint32_t)s.n;
    lr_buf_add(b, &n, sizeof n);
    lr_buf_adds(b, s);
}

static int make_prefix(struct lr_req *r)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    lr_buf_reserve(&b, 512); /* the usual size; a failure stays in b */
    frame(&b, lr_conn_path(r->conn));
    frame(&b, lr_conn_query(r->conn));
    lr_buf_add(&b, r->tenant.secret, sizeof r->tenant.secret);
    lr_buf_add(&b, &r->conf->epoch, sizeof r->conf->epoch);
    for (size_t i = 0; i < LR_COUNT(raw_headers); i++)
        frame(&b, lr_conn_header(r->conn, raw_headers[i]));
    int rc = b.rc ? b.rc : lr_arena_copy(&r->arena, lr_buf_str(&b), &r->raw_prefix);
    lr_buf_free(&b);
    return rc;
}

static int collect_key_headers(struct lr_req *r)
{
    struct lr_key_header *h = lr_arena_array(&r->arena, struct lr_key_header, LR_COUNT(answer_headers) + 1);
    LR_FAIL_IF(!h, LR_ENOMEM);
    for (size_t i = 0; i < LR_COUNT(answer_headers); i++) {
        struct lr_str v = lr_conn_header(r->conn, answer_headers[i].name);
        if (v.n && !(answer_headers[i].usual && lr_str_is(v, answer_headers[i].usual)))
            h[r->n_key_headers++] = (struct lr_key_header){answer_headers[i].name, v};
    }
    struct lr_str query = lr_conn_query(r->conn);
    if (query.n) /* as unknown to us as an unknown member, and so as important */
        h[r->n_key_headers++] = (struct lr_key_header){"query", query};
    r->key_headers = h;
    return 0;
}

/* ---- the room ---- */

static enum lr_step find_tenant(struct lr_req *r)
{
    const struct lr_config *c = r->conf->c;
    r->credential = lr_req_credential(r);
    /* Given by mistake it would travel upstream. */
    if (lr_str_same_secret(r->credential, lr_strz(r->serve->admin_key)))
        return lr_req_fail(r, 401, "invalid_api_key", "this is the gateway's admin key, not an API key");
    if (lr_tenants_find(r->serve->tenants, r->credential, r->wall_ms, c->keys_proof, &r->tenant))
        return lr_req_fail(r, 401, "invalid_api_key",
                           "this gateway does not know the API key, or it was revoked");
    const struct lr_opt_tenant *any = NULL;
    for (size_t i = 0; i < c->tenants.n; i++) {
        if (strcmp(c->tenants.v[i].name, r->tenant.name) == 0)
            r->tenant.limits = &c->tenants.v[i];
        if (strcmp(c->tenants.v[i].name, "*") == 0)
            any = &c->tenants.v[i];
    }
    if (!r->tenant.limits)
        r->tenant.limits = any;
    const char *which = "";
    if (lr_tenants_admit(r->serve->tenants, &r->tenant, r->wall_ms, &which, &r->retry_after_s))
        return lr_req_fail(r, 429, "limit_reached", "this tenant's limit %s is reached", which);
    return LR_STEP_NEXT;
}

static enum lr_step body_error(struct lr_req *r)
{
    if (r->body_rc == LR_EOVER)
        return lr_req_fail(r, 413, "body_too_large", "the body is over %zu bytes (http.body-max)",
                           r->body.max);
    return lr_req_fail(r, 503, "out_of_memory", "no memory for the body");
}

static enum lr_step parse_error(struct lr_req *r, int rc, const struct lr_err *err)
{
    /* The arena's bound is the request's own fault: asking again would not help. */
    if (rc == LR_ENOMEM && r->arena.held > r->arena.max / 2)
        return lr_req_fail(r, 413, "body_too_large", "the body holds too many values");
    if (rc == LR_ENOMEM)
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    const char *code = rc == LR_EPARSE ? "invalid_json" : "invalid_request";
    if (rc == LR_EINVAL || rc == LR_EPARSE || rc == LR_EOVER)
        return lr_req_fail(r, 400, code, "%s: %s", err->where, err->msg);
    return lr_req_fail(r, 500, "internal", "%s", lr_strerror(rc));
}

/* Choices of the answer: n of each prompt. */
static uint64_t choices_of(const struct lr_request *q)
{
    bool many = lr_json_is(q->prompt, LR_JSON_ARRAY) && q->prompt->child &&
                !lr_json_is(q->prompt->child, LR_JSON_NUMBER); /* of texts, or of lists of ids */
    uint64_t n = q->n > UINT16_MAX ? UINT16_MAX : q->n;
    n *= many ? q->prompt->n : 1;
    return n > UINT16_MAX ? UINT16_MAX : n;
}

static enum lr_step parse_body(struct lr_req *r)
{
    struct lr_err err = {0};
    int rc = lr_request_parse(&r->arena, r->dialect, lr_buf_str(&r->body), &r->request, &err);
    if (rc)
        return parse_error(r, rc, &err);
    r->stream = r->request->stream;
    r->include_usage = r->request->include_usage;
    r->ask_n = (uint16_t)choices_of(r->request);
    r->ask_max_tokens = r->request->max_tokens;
    struct lr_str model = r->request->model;
    (void)snprintf(r->rec->model, sizeof r->rec->model, "%.*s", LR_FMT(model)); /* cut to fit */
    return LR_STEP_NEXT;
}

enum lr_step lr_room_parse(struct lr_req *r)
{
    if (r->err_status)
        return LR_STEP_ERR;
    if (r->body_rc)
        return body_error(r);
    if (lr_str_is(lr_conn_method(r->conn), "OPTIONS") &&
        lr_conn_header(r->conn, "access-control-request-method").n) {
        r->preflight = true;
        return LR_STEP_DONE;
    }
    if (r->dialect == LR_DIALECT_NONE && lr_admin_path(lr_conn_path(r->conn)))
        return LR_STEP_DONE; /* not a request of the walk: send hands it to admin.c */
    enum lr_step step = find_tenant(r);
    if (step != LR_STEP_NEXT)
        return step;
    if (r->dialect == LR_DIALECT_NONE && lr_models_own(r))
        return LR_STEP_DONE;
    take_hint(r, "x-larder-program", r->hints.program, sizeof r->hints.program);
    take_hint(r, "x-larder-parent", r->hints.parent, sizeof r->hints.parent);
    take_hint(r, "x-larder-tool", r->hints.tool, sizeof r->hints.tool);
    r->hints.last = lr_conn_header(r->conn, "x-larder-last").n > 0;
    if (r->dialect == LR_DIALECT_NONE) {
        r->bypass = true;
        r->reason = "path";
        return LR_STEP_NEXT;
    }
    read_wish(r);
    if (r->wish.bad)
        return lr_req_fail(r, 400, "invalid_header", "cache-control or x-larder-ttl does not parse");
    if (make_prefix(r) || collect_key_headers(r))
        return lr_req_fail(r, 503, "out_of_memory", "no memory for the request");
    if (lr_raw_recall(r))
        return LR_STEP_NEXT;
    return parse_body(r);
}
