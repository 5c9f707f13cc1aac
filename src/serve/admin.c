/* SPDX-License-Identifier: Apache-2.0
 * serve/admin.c - the operator's door: health, metrics, the dashboard, and /larder/v1
 * (docs/admin.md).
 *
 *   path -> verb (a row of the table below) -> may the caller? -> fast: answer
 *                                                              -> slow: a worker, and then answer
 *
 * The send room calls lr_admin_handle on the event thread. A slow verb is handed to the pool; it
 * fills r->out and r->admin, and the room, entered again, replies with them. So every verb is one
 * function that reads the request and writes a body, wherever it runs.
 *
 * Who may call: everybody (health, the page itself, which holds no data); whoever is on this
 * machine (metrics); the admin key, as a bearer or as the session cookie of the dashboard
 * (session.c); a client, for its own tenant's entries (feedback). A cookie also needs the header
 * x-larder-csrf on everything but GET: a foreign page cannot send it. Host and Origin were checked
 * before the body was read (guard.c). With admin.listen, all of it but health answers at that
 * address alone.
 *
 * No answer holds message text or a credential: verbs see metadata (struct lr_answer_entry, struct
 * lr_record, counters), never a document's log. Query names that a verb does not know are refused:
 * a mistyped selector must not delete more than was meant.
 */
#include "serve/serve_int.h"

#include <stdarg.h>
#include <stdio.h>

static void healthy(struct lr_req *r)
{
    r->admin.type = "text/plain; charset=utf-8";
    lr_buf_addz(&r->out, "ok\n");
}

static void ready(struct lr_req *r)
{
    r->admin.type = "text/plain; charset=utf-8";
    if (atomic_load(&r->serve->draining))
        r->admin.status = 503;
    lr_buf_addz(&r->out, r->admin.status ? "draining\n" : "ready\n");
}

#define SELECTORS "tag tenant model category prefix age"

/* Rows of one path stand together; the first row whose path fits decides. */
static const struct lr_verb verbs[] = {
    {"GET", "/healthz", "", LR_FOR_ALL, false, false, healthy},
    {"GET", "/readyz", "", LR_FOR_ALL, false, false, ready},
    {"GET", "/metrics", "", LR_FOR_LOCAL, false, false, lr_verb_metrics},
    {"GET", "/ui", "", LR_FOR_ALL, false, false, lr_verb_ui},
    {"GET", "/ui/", "", LR_FOR_ALL, true, false, lr_verb_ui},
    {"GET", "/larder/v1/session", "", LR_FOR_ADMIN, false, false, lr_verb_signed_in},
    {"POST", "/larder/v1/session", "", LR_FOR_ALL, false, false, lr_verb_sign_in},
    {"DELETE", "/larder/v1/session", "", LR_FOR_ADMIN, false, false, lr_verb_sign_out},
    {"GET", "/larder/v1/entries", SELECTORS " cursor limit", LR_FOR_ADMIN, false, true,
     lr_verb_list},
    {"DELETE", "/larder/v1/entries", SELECTORS " all dry_run", LR_FOR_ADMIN, false, true,
     lr_verb_purge},
    {"PUT", "/larder/v1/entries", "", LR_FOR_ADMIN, false, true, lr_verb_put},
    {"GET", "/larder/v1/entries/", "", LR_FOR_ADMIN, true, true, lr_verb_get},
    {"DELETE", "/larder/v1/entries/", "", LR_FOR_ADMIN, true, true, lr_verb_delete},
    {"POST", "/larder/v1/flush", "dry_run", LR_FOR_ADMIN, false, true, lr_verb_flush},
    {"POST", "/larder/v1/feedback", "", LR_FOR_CLIENT, false, true, lr_verb_feedback},
    {"GET", "/larder/v1/explain/", "against", LR_FOR_ADMIN, true, true, lr_verb_explain},
    {"GET", "/larder/v1/requests", "limit", LR_FOR_ADMIN, false, true, lr_verb_requests},
    {"GET", "/larder/v1/trace", "limit", LR_FOR_ADMIN, false, true, lr_verb_trace},
    {"GET", "/larder/v1/stats", "minutes", LR_FOR_ADMIN, false, true, lr_verb_stats},
    {"GET", "/larder/v1/instances", "", LR_FOR_ADMIN, false, false, lr_verb_instances},
    {"GET", "/larder/v1/config", "", LR_FOR_ADMIN, false, false, lr_verb_config},
    {"POST", "/larder/v1/kv/lookup", "", LR_FOR_ADMIN, false, true, lr_verb_kv_lookup},
    {"POST", "/larder/v1/kv/prefix", "", LR_FOR_ADMIN, false, true, lr_verb_kv_prefix},
    {"POST", "/larder/v1/kv/pin", "", LR_FOR_ADMIN, false, true, lr_verb_kv_pin},
    {"POST", "/larder/v1/kv/unpin", "", LR_FOR_ADMIN, false, true, lr_verb_kv_unpin},
    {"POST", "/larder/v1/kv/move", "", LR_FOR_ADMIN, false, true, lr_verb_kv_move},
    {"POST", "/larder/v1/kv/clear", "", LR_FOR_ADMIN, false, true, lr_verb_kv_clear},
    {"POST", "/larder/v1/kv/epoch", "", LR_FOR_ADMIN, false, true, lr_verb_kv_epoch},
    {"GET", "/larder/v1/kv/quota", "", LR_FOR_ADMIN, false, true, lr_verb_kv_quotas},
    {"PUT", "/larder/v1/kv/quota", "", LR_FOR_ADMIN, false, true, lr_verb_kv_quota},
    {"GET", "/larder/v1/kv/health", "", LR_FOR_ADMIN, false, true, lr_verb_kv_health},
    {"GET", "/larder/v1/kv/doctor", "", LR_FOR_ADMIN, false, true, lr_verb_kv_doctor},
};
static const struct lr_verb models = {"GET", "/v1/models",  "", LR_FOR_ALL, false,
                                      false, lr_verb_models};

bool lr_admin_path(struct lr_str path)
{
    static const char *const all[] = {"/healthz", "/readyz", "/metrics", "/ui", "/larder/v1"};
    static const char *const trees[] = {"/ui/", "/larder/v1/"};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (lr_str_is(path, all[i]))
            return true;
    for (size_t i = 0; i < LR_COUNT(trees); i++)
        if (lr_str_starts(path, lr_strz(trees[i])))
            return true;
    return false;
}

/* ---- what verbs use ---- */

void lr_admin_fail(struct lr_req *r, int status, const char *code, const char *fmt, ...)
{
    char text[240];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        text[0] = 0;
    va_end(ap);
    lr_buf_reset(&r->out);
    r->admin.status = status;
    r->admin.type = NULL;
    (void)lr_error_write(LR_DIALECT_NONE, status, code, lr_strz(text), r->id,
                         &r->out); /* no memory: the buffer remembers, and the door closes */
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* %XX undone (and '+', in a query), into the arena, with a NUL behind. p NULL: malformed, or no
 * memory. */
static struct lr_str decode(struct lr_req *r, struct lr_str s, bool query)
{
    char *out = lr_arena_alloc(&r->arena, s.n + 1, 1);
    size_t n = 0;
    for (size_t i = 0; out && i < s.n; i++) {
        int hi, lo;
        char c = query && s.p[i] == '+' ? ' ' : s.p[i];
        if (c == '%') {
            if (i + 2 >= s.n || (hi = hex_digit(s.p[i + 1])) < 0 ||
                (lo = hex_digit(s.p[i + 2])) < 0)
                return lr_str(NULL, 0);
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        if ((unsigned char)c < ' ')
            return lr_str(NULL, 0);
        out[n++] = c;
    }
    if (out)
        out[n] = 0;
    return lr_str(out, n);
}

struct lr_str lr_admin_decode(struct lr_req *r, struct lr_str s)
{
    return decode(r, s, false);
}

struct lr_str lr_admin_param(struct lr_req *r, const char *name)
{
    struct lr_str rest = lr_conn_query(r->conn);
    while (rest.p && rest.n) {
        struct lr_str value = lr_str_cut(&rest, '&'), key = lr_str_cut(&value, '=');
        if (lr_str_is(key, name))
            return decode(r, value.p ? value : LR_STR(""), true); /* checked by check_query */
    }
    return lr_str(NULL, 0);
}

bool lr_admin_number(struct lr_req *r, const char *name, uint64_t max, uint64_t *out)
{
    struct lr_str s = lr_admin_param(r, name);
    uint64_t v;
    if (!s.p)
        return true;
    if (lr_parse_u64(s, &v) || v > max) {
        lr_admin_fail(r, 400, "invalid_request", "%s must be a number up to %llu", name,
                      (unsigned long long)max);
        return false;
    }
    *out = v;
    return true;
}

bool lr_admin_flag(struct lr_req *r, const char *name)
{
    struct lr_str s = lr_admin_param(r, name);
    return s.p && (s.n == 0 || lr_str_is(s, "true") || lr_str_is(s, "1"));
}

struct lr_json *lr_admin_body(struct lr_req *r)
{
    struct lr_str type = lr_conn_header(r->conn, "content-type");
    struct lr_err err = {0};
    struct lr_json *o = NULL;
    if (!lr_str_ieq(lr_str_trim(lr_str_cut(&type, ';')), LR_STR("application/json"))) {
        lr_admin_fail(r, 415, "content_type", "the content type must be application/json");
        return NULL;
    }
    int rc = lr_json_parse(&r->arena, lr_buf_str(&r->body), NULL, &o, &err);
    if (!rc && o->type == LR_JSON_OBJECT)
        return o;
    if (rc == LR_ENOMEM)
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the request");
    else
        lr_admin_fail(r, 400, "invalid_json", "%s: %s", err.where[0] ? err.where : "body",
                      err.msg[0] ? err.msg : "an object was expected");
    return NULL;
}

/* ---- routing ---- */

static bool path_fits(const struct lr_verb *v, struct lr_str path)
{
    struct lr_str want = lr_strz(v->path);
    return v->tail ? lr_str_starts(path, want) && path.n > want.n : lr_str_eq(path, want);
}

/* The verb of path and method; else the failure is written: 404, or 405 with what is allowed. */
static const struct lr_verb *find_verb(struct lr_req *r, struct lr_str path)
{
    struct lr_str method = lr_conn_method(r->conn);
    const struct lr_verb *first = NULL;
    char allow[64] = "";
    for (size_t i = 0; i < LR_COUNT(verbs); i++) {
        const struct lr_verb *v = &verbs[i];
        if (!path_fits(v, path) || (first && strcmp(first->path, v->path) != 0))
            continue;
        first = first ? first : v;
        if (lr_str_is(method, v->method) ||
            (lr_str_is(method, "HEAD") && strcmp(v->method, "GET") == 0))
            return v;
        size_t n = strlen(allow);
        (void)snprintf(allow + n, sizeof allow - n, "%s%s", n ? ", " : "",
                       v->method); /* rows are few */
    }
    if (!first) {
        lr_admin_fail(r, 404, "not_found", "there is nothing at this path");
        return NULL;
    }
    r->admin.allow = lr_arena_strz(&r->arena, lr_strz(allow));
    lr_admin_fail(r, 405, "method_not_allowed", "this path answers %s", allow);
    return NULL;
}

static bool listed(const char *names, struct lr_str name)
{
    struct lr_str rest = lr_strz(names);
    while (rest.p)
        if (lr_str_eq(lr_str_cut(&rest, ' '), name))
            return name.n > 0;
    return false;
}

/* Every name known, once, and well spelled. */
static bool check_query(struct lr_req *r, const struct lr_verb *v)
{
    struct lr_str rest = lr_conn_query(r->conn);
    while (rest.p && rest.n) {
        struct lr_str value = lr_str_cut(&rest, '&'), key = lr_str_cut(&value, '=');
        struct lr_str more = rest;
        if (!listed(v->params, key)) {
            lr_admin_fail(r, 400, "invalid_request", "unknown query parameter; known here: %s",
                          *v->params ? v->params : "none");
            return false;
        }
        while (more.p && more.n) {
            struct lr_str other = lr_str_cut(&more, '&');
            if (lr_str_eq(lr_str_cut(&other, '='), key)) {
                lr_admin_fail(r, 400, "invalid_request", "a query parameter is given twice");
                return false;
            }
        }
        if (value.p && !decode(r, value, true).p) {
            lr_admin_fail(r, 400, "invalid_request", "a query parameter is malformed");
            return false;
        }
    }
    return true;
}

/* ---- who asks ---- */

static bool deny(struct lr_req *r, int rc)
{
    if (rc == LR_EBUSY) {
        r->admin.retry_s = 1;
        lr_admin_fail(r, 429, "too_many_tries", "too many wrong keys; try again in a moment");
    } else {
        lr_admin_fail(r, 401, "admin_key",
                      "this needs the admin key: authorization: Bearer la-... (the "
                      "file " LR_ADMIN_KEY_FILE " in the data directory)");
    }
    return false;
}

/* By cookie: a page of another site can make a browser send it, but not this header. */
static bool by_cookie(struct lr_req *r)
{
    if (!lr_sessions_cookie(r->serve->sessions, lr_conn_header(r->conn, "cookie"),
                            lr_clock_mono_ns()))
        return false;
    struct lr_str method = lr_conn_method(r->conn);
    return lr_str_is(method, "GET") || lr_str_is(method, "HEAD") ||
           lr_str_is(lr_conn_header(r->conn, "x-larder-csrf"), "1");
}

static bool admit(struct lr_req *r, const struct lr_verb *v)
{
    if (v->who == LR_FOR_ALL || (v->who == LR_FOR_LOCAL && lr_conn_loopback(r->conn)))
        return true;
    r->credential = lr_req_credential(r);
    struct lr_str key = r->credential;
    bool ours = lr_str_starts(key, LR_STR("la-"));
    if (!key.n)
        r->admin.is_admin = by_cookie(r);
    else if (ours || v->who != LR_FOR_CLIENT) {
        int rc = lr_sessions_key(r->serve->sessions, key, lr_strz(r->serve->admin_key),
                                 lr_conn_loopback(r->conn), lr_clock_mono_ns());
        if (rc)
            return deny(r, rc);
        r->admin.is_admin = true;
    }
    if (r->admin.is_admin || v->who == LR_FOR_CLIENT)
        return true;
    return deny(r, LR_EDENIED);
}

/* With an address of its own, admin answers nowhere else; health is for whoever balances load. */
static bool wrong_door(const struct lr_req *r, struct lr_str path)
{
    return *r->conf->c->admin_listen && !r->admin_door && !lr_str_is(path, "/healthz") &&
           !lr_str_is(path, "/readyz");
}

static bool choose(struct lr_req *r)
{
    struct lr_str path = lr_conn_path(r->conn);
    if (lr_models_own(r)) {
        r->admin.verb = &models; /* the walk has found the tenant already */
        return true;
    }
    if (wrong_door(r, path)) {
        lr_admin_fail(r, 404, "not_found", "there is nothing at this path");
        return false;
    }
    /* Strangers learn nothing of what is below /larder/v1. */
    static const struct lr_verb any = {.who = LR_FOR_ADMIN};
    const struct lr_verb *v = NULL;
    for (size_t i = 0; i < LR_COUNT(verbs) && !v; i++)
        v = path_fits(&verbs[i], path) ? &verbs[i] : NULL;
    if (!v && !admit(r, &any))
        return false;
    v = find_verb(r, path);
    if (!v || !admit(r, v) || !check_query(r, v))
        return false;
    size_t n = strlen(v->path);
    r->admin.verb = v;
    if (v->tail)
        r->admin.arg = decode(r, lr_str(path.p + n, path.n - n), false);
    if (!v->tail || r->admin.arg.p)
        return true;
    lr_admin_fail(r, 400, "invalid_request", "the path is malformed");
    return false;
}

/* ---- answers ---- */

static enum lr_step reply(struct lr_req *r)
{
    struct lr_header h[12];
    size_t n = 0;
    char retry[16];
    h[n++] = (struct lr_header){"content-type", r->admin.type ? r->admin.type : "application/json"};
    h[n++] = (struct lr_header){"cache-control", "no-store"};
    h[n++] = (struct lr_header){"x-content-type-options", "nosniff"};
    h[n++] = (struct lr_header){"x-frame-options", "DENY"};
    h[n++] = (struct lr_header){"referrer-policy", "no-referrer"};
    h[n++] = (struct lr_header){"content-security-policy",
                                r->admin.csp ? r->admin.csp
                                             : "default-src 'none'; frame-ancestors 'none'"};
    h[n++] = (struct lr_header){"x-larder-request-id", r->id};
    if (r->admin.cookie)
        h[n++] = (struct lr_header){"set-cookie", r->admin.cookie};
    if (r->admin.allow)
        h[n++] = (struct lr_header){"allow", r->admin.allow};
    if (r->admin.status == 401)
        h[n++] = (struct lr_header){"www-authenticate", "Bearer"};
    if (r->admin.retry_s && snprintf(retry, sizeof retry, "%u", r->admin.retry_s) > 0)
        h[n++] = (struct lr_header){"retry-after", retry};
    r->replied = true;
    r->rec->status = r->admin.status;
    lr_conn_reply(r->conn, r->admin.status, h, n, &r->out);
    return LR_STEP_WAIT;
}

static enum lr_step run(struct lr_req *r)
{
    r->admin.verb->run(r);
    if (r->out.rc)
        lr_admin_fail(r, 503, "out_of_memory", "the answer does not fit: %s",
                      lr_strerror(r->out.rc));
    if (!r->admin.status)
        r->admin.status = 200;
    return LR_STEP_WAIT;
}

enum lr_step lr_admin_handle(struct lr_req *r)
{
    if (!r->admin.status && choose(r)) {
        if (r->admin.verb->slow)
            return lr_req_work(r, run);
        (void)run(r); /* WAIT, as in the pool: the answer is there */
    }
    return reply(r);
}
