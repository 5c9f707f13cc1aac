/* SPDX-License-Identifier: Apache-2.0
 * serve/upstream.c - what goes to an upstream: URL, headers, credential, body; and how it fares.
 *
 * Same dialect: the client's bytes and headers, unknown ones included, but for what belongs to the hop
 * (RFC 9110 section 7.6.1), to us (x-larder-*, cache-control), or to the credential. Another dialect:
 * a translated body and a short list of headers of our own.
 *
 * The breaker: `breaker` failures in a row open it for `breaker-for`; then one request is let through
 * as a trial, and its result closes or re-opens it.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define UP_HEADERS_MAX 128
#define DEFAULT_MAX_TOKENS 4096 /* Anthropic wants a limit; OpenAI clients may omit it */

enum lr_dialect_id lr_up_dialect(const struct lr_upstream *u, enum lr_dialect_id d)
{
    if (d == LR_DIALECT_NONE)
        return LR_DIALECT_NONE;
    if (u->speaks == LR_SPEAKS_ANTHROPIC)
        return lr_dialect_kind(d) == LR_KIND_CHAT ? LR_DIALECT_MESSAGES : LR_DIALECT_NONE;
    return d == LR_DIALECT_MESSAGES ? LR_DIALECT_CHAT : d;
}

/* ---- headers ---- */

static bool in_names(struct lr_str name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lr_str_ieq(name, lr_strz(names[i])))
            return true;
    return false;
}

static bool hop_by_hop(struct lr_str name)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "proxy-authenticate", "proxy-authorization", "te", "trailer",
                                        "transfer-encoding", "upgrade", "content-length", "host",
                                        "expect"};
    return in_names(name, names, LR_COUNT(names));
}

/* connection: the value of a Connection header, which names further ones that belong to the hop. */
static bool nominated(struct lr_str name, struct lr_str connection)
{
    while (connection.p)
        if (lr_str_ieq(lr_str_trim(lr_str_cut(&connection, ',')), name))
            return true;
    return false;
}

static bool credential_header(struct lr_str name)
{
    static const char *const names[] = {"authorization", "x-api-key", "api-key"};
    return in_names(name, names, LR_COUNT(names));
}

/* Ours, or the browser's business with us. */
static bool stays_here(struct lr_str name)
{
    static const char *const names[] = {"cache-control", "pragma", "origin", "referer"};
    return in_names(name, names, LR_COUNT(names)) ||
           (name.n > 9 && strncasecmp(name.p, "x-larder-", 9) == 0);
}

struct header_list {
    struct lr_req *r;
    struct lr_arena *a;
    struct lr_buf connection; /* values of Connection headers, joined */
    const char **v;
    size_t n;
    bool verbatim; /* same dialect: the client's headers go along */
    bool decoded;  /* we read the answer: no compression */
    bool has_type;
    /* A browser sends the cookies of every server on this host: none of the upstream's business. Other
     * clients send back what the upstream's load balancer gave them. */
    bool browser;
    int rc;
};

static void add(struct header_list *l, struct lr_str name, struct lr_str value)
{
    if (l->rc)
        return;
    char *z = lr_arena_alloc(l->a, name.n + value.n + 3, 1);
    if (!z || l->n == UP_HEADERS_MAX) {
        l->rc = z ? LR_EOVER : LR_ENOMEM;
        return;
    }
    memcpy(z, name.p, name.n);
    memcpy(z + name.n, ": ", 2);
    if (value.n)
        memcpy(z + name.n + 2, value.p, value.n);
    z[name.n + 2 + value.n] = 0;
    l->v[l->n++] = z;
}

/* The operator's header stands in for the client's of that name. */
static void add_instead(struct header_list *l, struct lr_str name, struct lr_str value)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (strncasecmp(l->v[i], name.p, name.n) != 0 || l->v[i][name.n] != ':')
            l->v[kept++] = l->v[i];
    l->n = kept;
    add(l, name, value);
}

/* W3C trace context: the client's trace goes on with us as the parent: "00-<trace>-<span>-<flags>" with a
 * span of our own, the first 16 hex digits of a hash of the request's id. A malformed one starts nothing. */
static void add_traceparent(struct header_list *l, struct lr_str v)
{
    char joined[64];
    uint64_t span = lr_hash64(lr_str(l->r->id, LR_ID_LEN), 1);
    if (v.n != 55 || v.p[2] != '-' || v.p[35] != '-' || v.p[52] != '-')
        return;
    memcpy(joined, v.p, 56 - 1);
    lr_hex(&span, 8, joined + 36);
    joined[52] = '-';
    add(l, LR_STR("traceparent"), lr_str(joined, 55));
}

static void note_connection(void *ctx, struct lr_str name, struct lr_str value)
{
    struct header_list *l = ctx;
    if (!lr_str_ieq(name, LR_STR("connection")))
        return;
    lr_buf_adds(&l->connection, value);
    lr_buf_addc(&l->connection, ',');
}

static void add_client_header(void *ctx, struct lr_str name, struct lr_str value)
{
    struct header_list *l = ctx;
    bool tracing = lr_str_ieq(name, LR_STR("tracestate"));
    if (lr_str_ieq(name, LR_STR("traceparent"))) {
        add_traceparent(l, value);
        return;
    }
    if (hop_by_hop(name) || nominated(name, lr_buf_str(&l->connection)) || credential_header(name) ||
        stays_here(name))
        return;
    if (lr_str_ieq(name, LR_STR("cookie")) && (l->browser || memmem(value.p, value.n, "larder_", 7)))
        return;
    if (l->decoded && lr_str_ieq(name, LR_STR("accept-encoding")))
        return;
    if (!l->verbatim && !tracing)
        return;
    l->has_type |= lr_str_ieq(name, LR_STR("content-type"));
    add(l, name, value);
}

/* "Authorization: Bearer K", or "x-api-key: K", or the header the operator named. */
static void add_credential(struct header_list *l, const struct lr_upstream *u, struct lr_str key)
{
    char value[8192];
    if (!key.n)
        return;
    if (*u->opt->key_header || u->speaks == LR_SPEAKS_ANTHROPIC) {
        add(l, *u->opt->key_header ? lr_strz(u->opt->key_header) : LR_STR("x-api-key"), key);
        return;
    }
    int k = snprintf(value, sizeof value, "Bearer %.*s", (int)key.n, key.p);
    if (k < 0 || (size_t)k >= sizeof value)
        l->rc = LR_EOVER;
    else
        add(l, LR_STR("authorization"), lr_str(value, (size_t)k));
    explicit_bzero(value, sizeof value);
}

/* The client's own credential, in the header it came in when the upstream speaks its dialect. */
static void add_client_credential(struct header_list *l, const struct lr_upstream *u)
{
    static const char *const names[] = {"authorization", "x-api-key", "api-key"};
    if (!l->verbatim) {
        add_credential(l, u, l->r->credential);
        return;
    }
    for (size_t i = 0; i < LR_COUNT(names); i++) {
        struct lr_str v = lr_conn_header(l->r->conn, names[i]);
        if (v.n)
            add(l, lr_strz(names[i]), v);
    }
}

static int build_headers(struct lr_req *r, const struct lr_upstream *u, struct lr_arena *a,
                         struct lr_up_request *out)
{
    struct header_list l = {.r = r, .a = a, .verbatim = out->dialect == r->dialect,
                            .decoded = out->dialect != LR_DIALECT_NONE};
    l.v = lr_arena_array(a, const char *, UP_HEADERS_MAX);
    LR_FAIL_IF(!l.v, LR_ENOMEM);
    l.browser = lr_conn_header(r->conn, "sec-fetch-site").n || lr_conn_header(r->conn, "origin").n;
    lr_buf_init(&l.connection, LR_KIB(32));
    lr_conn_headers(r->conn, note_connection, &l);
    lr_conn_headers(r->conn, add_client_header, &l);
    l.rc = l.rc ? l.rc : l.connection.rc;
    lr_buf_free(&l.connection);
    if (!l.has_type && out->body.n)
        add(&l, LR_STR("content-type"), LR_STR("application/json"));
    if (out->dialect == LR_DIALECT_MESSAGES && !l.verbatim)
        add(&l, LR_STR("anthropic-version"), LR_STR("2023-06-01"));
    /* A managed client's key is ours and goes no further. */
    bool managed = lr_tenants_managed(r->serve->tenants);
    if (u->opt->credential == LR_CREDENTIAL_KEY || (managed && u->key))
        add_credential(&l, u, lr_strz(u->key));
    else if (u->opt->credential == LR_CREDENTIAL_CLIENT && !managed)
        add_client_credential(&l, u);
    for (size_t i = 0; i < u->opt->headers.n; i++) {
        struct lr_str value = lr_strz(u->opt->headers.v[i]), name = lr_str_trim(lr_str_cut(&value, ':'));
        add_instead(&l, name, lr_str_trim(value));
    }
    out->headers = l.v;
    out->n_headers = l.n;
    return l.rc;
}

/* ---- URL and body ---- */

static int build_url(struct lr_req *r, const struct lr_upstream *u, struct lr_arena *a,
                     struct lr_up_request *out)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(32));
    struct lr_str path = out->dialect == LR_DIALECT_NONE ? lr_conn_path(r->conn)
                                                         : lr_strz(lr_dialect_path(out->dialect));
    bool v1 = lr_str_starts(path, LR_STR("/v1/"));
    lr_buf_add(&b, u->base, v1 ? strlen(u->base) : u->root_n);
    lr_buf_adds(&b, v1 ? lr_str(path.p + 3, path.n - 3) : path);
    struct lr_str query = lr_conn_query(r->conn);
    if (*u->opt->query || query.n)
        lr_buf_addc(&b, '?');
    lr_buf_addz(&b, u->opt->query);
    if (*u->opt->query && query.n)
        lr_buf_addc(&b, '&');
    lr_buf_adds(&b, query);
    out->url = b.rc ? NULL : lr_arena_strz(a, lr_buf_str(&b));
    int rc = b.rc ? b.rc : out->url ? 0 : LR_ENOMEM;
    lr_buf_free(&b);
    return rc;
}

static int build_body(struct lr_req *r, struct lr_arena *a, struct lr_up_request *out, struct lr_err *err)
{
    if (out->dialect == LR_DIALECT_NONE || !r->request)
        return lr_arena_copy(a, lr_buf_str(&r->body), &out->body);
    struct lr_buf b, dropped;
    lr_buf_init(&b, r->body.max * 2 + LR_KIB(64));
    lr_buf_init(&dropped, LR_KIB(4));
    int rc = r->embed ? lr_embed_body(a, r, &b)
             : out->dialect == r->dialect
                 ? lr_request_forward(a, r->request, r->model_sent, &b)
                 : lr_request_write(r->request, out->dialect, r->model_sent, DEFAULT_MAX_TOKENS, &b,
                                    &dropped, err);
    if (!rc)
        rc = b.rc ? b.rc : lr_arena_copy(a, lr_buf_str(&b), &out->body);
    if (!rc && dropped.len)
        rc = lr_arena_copy(&r->arena, lr_buf_str(&dropped), &r->dropped);
    lr_buf_free(&b);
    lr_buf_free(&dropped);
    return rc;
}

int lr_up_build(struct lr_req *r, const struct lr_upstream *u, struct lr_arena *a,
                struct lr_up_request *out, struct lr_err *err)
{
    *out = (struct lr_up_request){.dialect = r->bypass ? LR_DIALECT_NONE : lr_up_dialect(u, r->dialect)};
    LR_TRY(build_body(r, a, out, err));
    LR_TRY(build_url(r, u, a, out));
    return build_headers(r, u, a, out);
}

/* ---- the way back ---- */

static bool nominated_by(const struct lr_net_head *h, struct lr_str name)
{
    for (size_t i = 0; i < h->n; i++)
        if (lr_str_ieq(h->headers[i].name, LR_STR("connection")) && nominated(name, h->headers[i].value))
            return true;
    return false;
}

/* Who may read us in a browser is ours to say, not the upstream's. */
static bool not_theirs(struct lr_str name)
{
    return (name.n > 9 && strncasecmp(name.p, "x-larder-", 9) == 0) ||
           (name.n > 15 && strncasecmp(name.p, "access-control-", 15) == 0);
}

int lr_up_headers(const struct lr_net_head *h, bool bypass, struct lr_buf *out)
{
    static const char *const ours[] = {"content-type", "content-encoding", "set-cookie", "server", "date",
                                       "cache-control", "etag", "vary", "alt-svc",
                                       "strict-transport-security"};
    for (size_t i = 0; i < h->n; i++) {
        struct lr_str name = h->headers[i].name, value = h->headers[i].value;
        if (hop_by_hop(name) || nominated_by(h, name) || not_theirs(name) ||
            (!bypass && in_names(name, ours, LR_COUNT(ours))))
            continue;
        lr_buf_adds(out, name);
        lr_buf_addz(out, ": ");
        lr_buf_adds(out, value);
        lr_buf_addc(out, '\n');
    }
    return out->rc;
}

/* ---- breaker ---- */

bool lr_up_ready(const struct lr_upstream *u, uint64_t now_ns)
{
    return !atomic_load(&u->state->probe_bad) && now_ns >= atomic_load(&u->state->open_until_ns);
}

bool lr_up_take(const struct lr_upstream *u, uint64_t now_ns)
{
    uint64_t until = atomic_load(&u->state->open_until_ns);
    if (until == 0)
        return true;
    /* Rested: whoever moves the clock on is the trial; the others keep away until it has come back. */
    return now_ns >= until &&
           atomic_compare_exchange_strong(&u->state->open_until_ns, &until,
                                          now_ns + u->opt->breaker_for * LR_MS);
}

void lr_up_result(const struct lr_upstream *u, bool ok, uint64_t now_ns)
{
    struct lr_up_state *s = u->state;
    if (ok) {
        atomic_store(&s->failures, 0);
        if (atomic_exchange(&s->open_until_ns, 0))
            lr_log(LR_LOG_INFO, "upstream", "event=breaker_closed upstream=%s", u->name);
        return;
    }
    atomic_fetch_add(&s->fails, 1);
    unsigned n = atomic_fetch_add(&s->failures, 1) + 1;
    if (u->opt->breaker && n >= u->opt->breaker &&
        atomic_exchange(&s->open_until_ns, now_ns + u->opt->breaker_for * LR_MS) == 0)
        lr_log(LR_LOG_WARN, "upstream", "event=breaker_opened upstream=%s failures=%u", u->name, n);
}
