/* SPDX-License-Identifier: Apache-2.0
 * serve/send.c - the last room: a hit, a flight or an error, out through this reader's dialect.
 *
 *   hit     the stored events through an encoder: one whole body, also for streams (all events are there)
 *   flight  stream: pull events, encode, send as they come;  whole: collect until END, then reply
 *   error   a body in the dialect's shape
 *
 * Every answer carries the proof: x-larder-cache, -shelf, -reason, -request-id, and for hits -entry, -age.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define HEADERS_MAX 96
#define OURS_MAX    16 /* of these: however talkative the upstream, the proof has its place */
#define PULL_WANT LR_KIB(16)

const char *lr_outcome_name(enum lr_outcome o)
{
    static const char *const names[] = {"hit", "miss", "bypass", "stale", "coalesced", "error"};
    return names[o];
}

const char *lr_shelf_name(enum lr_shelf s)
{
    static const char *const names[] = {"none", "exact", "kv"};
    return names[s];
}

/* ---- headers ---- */

struct header_set {
    struct lr_header v[HEADERS_MAX];
    size_t n;
    char entry[65], age[24], retry[16];
};

static void set(struct header_set *h, const char *name, const char *value)
{
    if (h->n < HEADERS_MAX && value && *value)
        h->v[h->n++] = (struct lr_header){name, value};
}

/* What the attempt says of itself, for the record. */
static void note_line(struct lr_req *r, const char *name, const char *value)
{
    struct lr_record *rec = r->rec;
    if (strcmp(name, "x-larder-upstream") == 0)
        (void)snprintf(rec->upstream, sizeof rec->upstream, "%s", value); /* cut to fit */
    if (strcmp(name, "x-larder-kv") == 0)
        rec->shelf = LR_SHELF_KV;
    if (strcmp(name, "x-larder-route") != 0)
        return;
    struct lr_str tries = lr_strz(value), reason = lr_str_cut(&tries, ';');
    uint64_t n = 0;
    (void)snprintf(rec->choice, sizeof rec->choice, "%.*s", LR_FMT(reason)); /* cut to fit */
    if (lr_str_starts(tries, LR_STR("tries=")) && lr_parse_u64(lr_str(tries.p + 6, tries.n - 6), &n) == 0)
        rec->tries = (uint16_t)n;
}

/* The upstream's headers, from the flight's "name: value\n" lines. */
static void set_lines(struct lr_req *r, struct header_set *h)
{
    struct lr_str rest = r->head_lines;
    while (rest.p && rest.n) {
        struct lr_str value = lr_str_cut(&rest, '\n'), name = lr_str_cut(&value, ':');
        char *n = lr_arena_strz(&r->arena, name), *v = lr_arena_strz(&r->arena, lr_str_trim(value));
        if (!n || !v || !name.n)
            continue;
        if (h->n < HEADERS_MAX - OURS_MAX)
            set(h, n, v);
        note_line(r, n, v);
    }
}

static void set_cors(struct lr_req *r, struct header_set *h)
{
    struct lr_str origin = lr_conn_header(r->conn, "origin");
    if (!origin.n || !lr_guard_origin(r->conf, origin, lr_conn_header(r->conn, "host")))
        return;
    set(h, "access-control-allow-origin", lr_arena_strz(&r->arena, origin));
    set(h, "vary", "origin");
    set(h, "access-control-expose-headers",
        "x-larder-cache, x-larder-shelf, x-larder-reason, x-larder-entry, x-larder-age, "
        "x-larder-request-id, x-larder-upstream, x-larder-kv");
}

static void set_proof(struct lr_req *r, struct header_set *h)
{
    bool held = r->outcome == LR_OUT_HIT || r->outcome == LR_OUT_STALE;
    /* Errors are misses to whoever counts hits; x-larder-reason says what went wrong. */
    set(h, "x-larder-cache",
        lr_outcome_name(r->outcome == LR_OUT_ERROR ? LR_OUT_MISS : r->outcome));
    set(h, "x-larder-shelf", lr_shelf_name(held ? LR_SHELF_EXACT : (enum lr_shelf)r->rec->shelf));
    set(h, "x-larder-reason", r->rec->reason[0] ? r->rec->reason : r->reason);
    set(h, "x-larder-request-id", r->id);
    if (held && r->hit.doc) {
        lr_hex(r->hit.doc->meta.key.b, 16, h->entry);
        set(h, "x-larder-entry", h->entry);
        if (snprintf(h->age, sizeof h->age, "%llu", (unsigned long long)(r->hit.age_ms / 1000)) > 0)
            set(h, "x-larder-age", h->age);
    }
    set(h, "x-larder-dropped", lr_arena_strz(&r->arena, r->dropped));
    if (r->retry_after_s && snprintf(h->retry, sizeof h->retry, "%u", r->retry_after_s) > 0)
        set(h, "retry-after", h->retry);
    set_cors(r, h);
}

/* ---- accounts ---- */

static void stamp_first(struct lr_req *r)
{
    if (r->first_sent)
        return;
    r->first_sent = true;
    r->rec->first_ns = lr_clock_mono_ns() - r->start_ns;
    if (r->outcome == LR_OUT_HIT || r->outcome == LR_OUT_STALE)
        lr_histogram_add(LR_H_HIT, r->rec->first_ns);
    else if (r->outcome == LR_OUT_MISS || r->outcome == LR_OUT_COALESCED)
        lr_histogram_add(LR_H_MISS, r->rec->first_ns);
}

static void count_status(struct lr_req *r, int status)
{
    static const enum lr_metric by_outcome[] = {LR_M_REQ_HIT,  LR_M_REQ_MISS,      LR_M_REQ_BYPASS,
                                                LR_M_REQ_STALE, LR_M_REQ_COALESCED, LR_M_REQ_ERROR};
    lr_metric_add(by_outcome[r->outcome], 1);
    r->rec->status = status;
}

static void count(struct lr_req *r, int status)
{
    count_status(r, status);
    stamp_first(r);
}

static void count_hit(struct lr_req *r)
{
    const struct lr_doc_meta *m = &r->hit.doc->meta;
    struct lr_record *rec = r->rec;
    rec->shelf = LR_SHELF_EXACT;
    rec->stored = true;
    rec->age_ms = r->hit.age_ms;
    rec->ms_saved = m->took_ms;
    rec->money_saved = m->cost;
    r->usage = (struct lr_usage){.input = m->tokens_in, .output = m->tokens_out, .known = true};
    memcpy(rec->upstream, m->upstream, sizeof rec->upstream);
    lr_metric_add(LR_M_SAVED_TOKENS_IN, (int64_t)m->tokens_in);
    lr_metric_add(LR_M_SAVED_TOKENS_OUT, (int64_t)m->tokens_out);
}

/* ---- errors ---- */

static enum lr_step send_error(struct lr_req *r, int status, const char *code, struct lr_str msg)
{
    struct header_set h = {.n = 0};
    struct lr_buf body;
    lr_buf_init(&body, LR_KIB(64));
    r->outcome = LR_OUT_ERROR;
    const char *reason = r->err_status ? r->reason : code;
    (void)snprintf(r->rec->reason, sizeof r->rec->reason, "%s", reason); /* cut to fit */
    if (lr_error_write(r->dialect, status, code, msg, r->id, &body))
        lr_buf_reset(&body);
    set(&h, "content-type", "application/json");
    set_lines(r, &h);
    set_proof(r, &h);
    count(r, status);
    r->replied = true;
    lr_conn_reply(r->conn, status, h.v, h.n, &body);
    return LR_STEP_WAIT;
}

static enum lr_step fail_here(struct lr_req *r, int rc)
{
    return send_error(r, 500, "internal", lr_strz(lr_strerror(rc)));
}

/* ---- encoder ---- */

static struct lr_encoder_opts encoder_opts(const struct lr_req *r, bool stream, bool fresh)
{
    struct lr_encoder_opts o = {
        .dialect = r->dialect,
        .stream = stream,
        .include_usage = r->include_usage,
        .fresh_ids = fresh,
        .created_s = r->wall_ms / 1000,
        .choices_max = r->ask_n ? r->ask_n : 1,
        .whole_max = LR_MIB(64),
        .request = r->request,
    };
    memcpy(o.id, r->id, sizeof o.id);
    return o;
}

/* Answers of upstreams keep their ids, for whoever asked. */
static bool fresh_ids(const struct lr_req *r)
{
    return r->outcome == LR_OUT_COALESCED ||
           lr_str_starts(r->head_lines, LR_STR("x-larder-upstream: local\n"));
}

static int open_encoder(struct lr_req *r, bool stream, bool fresh)
{
    struct lr_encoder_opts o = encoder_opts(r, stream, fresh);
    return lr_encoder_open(&r->encoder, &o);
}

/* Feeds a log of events; ends at END or ERROR. */
static int encode(struct lr_req *r, struct lr_str log)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.type == LR_EV_USAGE)
            r->usage = ev.usage;
        if (ev.type == LR_EV_BYTES)
            LR_TRY(r->encoder ? 0 : lr_buf_adds(&r->out, ev.a));
        else if (r->encoder)
            LR_TRY(lr_encoder_event(r->encoder, &ev, &r->out));
        if (ev.type == LR_EV_END || ev.type == LR_EV_ERROR)
            r->ended = true;
        if (ev.type == LR_EV_ERROR)
            (void)snprintf(r->rec->reason, sizeof r->rec->reason, "%.*s", LR_FMT(ev.a)); /* cut to fit */
    }
    return rc;
}

/* ---- hits ---- */

int lr_hit_encode(struct lr_req *r)
{
    struct lr_encoder_opts o = encoder_opts(r, r->stream, true);
    int rc = lr_replay_write(r->serve->replays, r->hit.doc, &o, &r->out);
    r->written = rc == 0;
    if (rc)
        lr_buf_reset(&r->out); /* as if it had never been tried */
    return rc;
}

static enum lr_step send_hit(struct lr_req *r)
{
    struct header_set h = {.n = 0};
    int rc = r->written ? 0 : lr_hit_encode(r);
    if (rc)
        return fail_here(r, rc);
    count_hit(r);
    set(&h, "content-type", r->stream ? "text/event-stream" : "application/json");
    set_proof(r, &h);
    count(r, 200);
    r->replied = true;
    lr_conn_reply(r->conn, 200, h.v, h.n, &r->out);
    return LR_STEP_WAIT;
}

/* ---- flights ---- */

static bool no_body(const struct lr_req *r)
{
    return r->head_status == 204 || r->head_status == 304 ||
           lr_str_is(lr_conn_method(r->conn), "HEAD");
}

static int pull(struct lr_conn *conn, char *buf, size_t max, size_t *n)
{
    struct lr_req *r = lr_conn_user(conn);
    *n = 0;
    while (r->out_at == r->out.len) {
        lr_buf_reset(&r->out);
        lr_buf_reset(&r->events);
        r->out_at = 0;
        if (lr_conn_gone(conn))
            return LR_ECANCEL;
        if (r->ended)
            return LR_ECLOSED;
        int rc = lr_reader_pull(&r->reader, PULL_WANT, lr_clock_mono_ns(), &r->events, lr_req_suspend);
        if (rc == LR_EBUSY)
            return 0;
        if (rc == LR_ETIMEOUT)
            lr_metric_add(LR_M_LAGGARD, 1);
        LR_TRY(rc);
        LR_TRY(encode(r, lr_buf_str(&r->events)));
        LR_TRY(r->out.rc);
    }
    stamp_first(r);
    size_t k = r->out.len - r->out_at < max ? r->out.len - r->out_at : max;
    memcpy(buf, r->out.p + r->out_at, k);
    r->out_at += k;
    *n = k;
    return 0;
}

static enum lr_step send_stream(struct lr_req *r)
{
    struct header_set h = {.n = 0};
    if (!r->bypass) {
        int rc = open_encoder(r, true, fresh_ids(r));
        if (rc)
            return fail_here(r, rc);
        set(&h, "content-type", lr_encoder_content_type(r->encoder));
        set(&h, "cache-control", "no-cache");
    }
    set_lines(r, &h);
    set_proof(r, &h);
    count_status(r, r->head_status);
    r->replied = true;
    lr_conn_stream(r->conn, r->head_status, h.v, h.n, pull);
    return LR_STEP_WAIT;
}

/* All events of the flight into r->events. EBUSY: parked. */
static int collect(struct lr_req *r)
{
    int rc;
    do
        rc = lr_reader_pull(&r->reader, PULL_WANT, lr_clock_mono_ns(), &r->events, lr_req_suspend);
    while (rc == 0);
    return rc == LR_ECLOSED ? 0 : rc;
}

/* The upstream's refusal: its own body where the dialects agree, else its words in ours. */
static enum lr_step send_refusal(struct lr_req *r)
{
    struct lr_str log = lr_buf_str(&r->events);
    struct lr_event ev, raw = {.type = 0}, error = {.type = 0};
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type == LR_EV_BYTES)
            raw = ev;
        if (ev.type == LR_EV_ERROR)
            error = ev;
    }
    /* A page of a proxy in between is no answer of the dialect. */
    bool json = lr_str_starts(lr_str_trim(raw.a), LR_STR("{"));
    if (raw.type && raw.dialect == r->dialect && json) {
        struct header_set h = {.n = 0};
        struct lr_buf body;
        lr_buf_init(&body, raw.a.n);
        lr_buf_adds(&body, raw.a);
        r->outcome = LR_OUT_ERROR;
        (void)snprintf(r->rec->reason, sizeof r->rec->reason, "upstream-%d", r->head_status);
        set(&h, "content-type", "application/json");
        set_lines(r, &h);
        set_proof(r, &h);
        count(r, r->head_status);
        r->replied = true;
        lr_conn_reply(r->conn, r->head_status, h.v, h.n, &body);
        return LR_STEP_WAIT;
    }
    char code[64];
    (void)snprintf(code, sizeof code, "%.*s", LR_FMT(error.a)); /* cut to fit */
    return send_error(r, r->head_status, error.type ? code : "upstream_error", error.b);
}

/* Broken off after a good head: nothing has been sent, so the stale candidate may still stand in. */
static enum lr_step send_broken(struct lr_req *r, const struct lr_event *ev)
{
    if (r->hit.doc && r->hit.sie) {
        r->outcome = LR_OUT_STALE;
        r->reason = "stale-if-error";
        return send_hit(r);
    }
    char code[64];
    (void)snprintf(code, sizeof code, "%.*s", LR_FMT(ev->a)); /* cut to fit */
    return send_error(r, ev->status ? ev->status : 502, code, ev->b);
}

/* One whole body from r->events. */
static enum lr_step send_events(struct lr_req *r)
{
    int rc = r->embed && r->reading ? lr_embed_merge(r) : 0;
    struct lr_str log = lr_buf_str(&r->events);
    struct lr_event ev;
    while (!rc && lr_event_next(&log, &ev) == 1)
        if (ev.type == LR_EV_ERROR)
            return send_broken(r, &ev);
    if (!rc)
        rc = open_encoder(r, false, fresh_ids(r));
    if (!rc)
        rc = encode(r, lr_buf_str(&r->events));
    if (!rc)
        rc = r->out.rc;
    if (rc)
        return fail_here(r, rc);
    struct header_set h = {.n = 0};
    set(&h, "content-type", lr_encoder_content_type(r->encoder));
    set_lines(r, &h);
    set_proof(r, &h);
    count(r, 200);
    r->replied = true;
    lr_conn_reply(r->conn, 200, h.v, h.n, &r->out);
    return LR_STEP_WAIT;
}

static enum lr_step send_whole(struct lr_req *r)
{
    int rc = collect(r);
    if (rc == LR_EBUSY)
        return LR_STEP_WAIT;
    if (rc)
        return send_error(r, 502, "upstream_incomplete", lr_strz(lr_strerror(rc)));
    if (r->head_status / 100 != 2)
        return send_refusal(r);
    return send_events(r);
}
/* stale-if-error: the candidate instead of the upstream's failure. */
static bool rescue(struct lr_req *r)
{
    bool failed = r->head_status >= 500 || r->head_status == 429;
    if (!failed || !r->hit.doc || !r->hit.sie)
        return false;
    r->outcome = LR_OUT_STALE;
    r->reason = "stale-if-error";
    return true;
}

static enum lr_step send_flight(struct lr_req *r)
{
    int rc = lr_reader_head(&r->reader, lr_req_suspend, &r->head_status, &r->head_lines);
    if (rc == LR_EBUSY)
        return LR_STEP_WAIT;
    if (rc)
        return send_error(r, 502, "upstream_unreachable", lr_strz(lr_strerror(rc)));
    if (rescue(r))
        return send_hit(r);
    if (r->bypass && no_body(r)) {
        struct header_set h = {.n = 0};
        struct lr_buf none;
        lr_buf_init(&none, 0);
        set_lines(r, &h);
        set_proof(r, &h);
        count(r, r->head_status);
        r->replied = true;
        lr_conn_reply(r->conn, r->head_status, h.v, h.n, &none);
        return LR_STEP_WAIT;
    }
    bool good = r->head_status / 100 == 2;
    return r->bypass || (r->stream && good) ? send_stream(r) : send_whole(r);
}

/* The Origin was checked at begin: say yes (Fetch standard, CORS preflight). */
static enum lr_step send_preflight(struct lr_req *r)
{
    struct header_set h = {.n = 0};
    struct lr_buf none;
    lr_buf_init(&none, 0);
    set_cors(r, &h);
    set(&h, "access-control-allow-methods", "GET, POST, PUT, DELETE");
    set(&h, "access-control-allow-headers",
        lr_arena_strz(&r->arena, lr_conn_header(r->conn, "access-control-request-headers")));
    set(&h, "access-control-max-age", "600");
    r->replied = true;
    lr_conn_reply(r->conn, 204, h.v, h.n, &none);
    return LR_STEP_WAIT;
}

enum lr_step lr_room_send(struct lr_req *r)
{
    if (r->replied)
        return LR_STEP_WAIT;
    if (r->err_status) {
        if (r->hit.doc && r->hit.sie && r->err_status >= 500 && r->err_status != 504) {
            r->outcome = LR_OUT_STALE;
            r->reason = "stale-if-error";
            return send_hit(r);
        }
        return send_error(r, r->err_status, r->err_code, lr_strz(r->err.msg));
    }
    if (r->preflight)
        return send_preflight(r);
    if (r->reading)
        return send_flight(r);
    if (r->hit.doc)
        return send_hit(r);
    return r->embed ? send_events(r) : lr_admin_handle(r);
}
