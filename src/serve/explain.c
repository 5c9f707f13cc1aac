/* SPDX-License-Identifier: Apache-2.0
 * serve/explain.c - what became of one request, in words and numbers; the recent ones; the trace
 * export.
 *
 *   record (trace.c) -> rooms and times, outcome, reason in words, proof, upstream, money
 *   against another  -> the first key member where the two differ
 *
 * Two requests of one tenant are compared by the keyed digests of their key members: the name of
 * the first that differs comes out ("messages[3]", "temperature"), never its value, and nothing at
 * all across tenants, whose digests are keyed differently. A request that the raw shortcut answered
 * was never taken apart: the members of the newest record with the same key stand in for its own.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define REQUESTS_MAX   1000
#define REQUESTS_USUAL 50
#define TRACE_MAX      16384 /* records copied at once: 25 MB */

/* ---- reasons ---- */

static const struct {
    const char *reason, *text;
} meanings[] = {
    {"exact", "an identical request was answered before, and its answer is still fresh"},
    {"new", "no stored answer has this key"},
    {"expired", "the stored answer is past its time to live"},
    {"cold", "the stored answer had left while it was being read from disk"},
    {"corrupt", "the stored answer failed its checksum and was thrown away"},
    {"fewer-choices", "the stored answer has fewer choices than were asked for"},
    {"token-limit",
     "the stored answer was cut by another token limit, or is longer than this one allows"},
    {"dialect", "the stored answer holds what this dialect cannot say"},
    {"max-age", "the stored answer is older than cache-control: max-age allows"},
    {"temperature", "a temperature above 0 asks for variety; see answer.variety and categories"},
    {"choices",
     "several choices without a seed ask for variety; see answer.variety and categories"},
    {"no-cache", "cache-control: no-cache asked for a fresh answer"},
    {"no-store", "cache-control: no-store, or a category that is not stored"},
    {"unproven", "this credential has not succeeded upstream within keys.proof"},
    {"regenerate", "the same request again so soon is taken as a wish for another answer"},
    {"off", "the exact shelf is off (answer.exact)"},
    {"partial", "some inputs of the batch were known, the others were asked upstream"},
    {"path", "this path passes through unread"},
    {"stale-while-revalidate", "an expired answer was served while a fresh one is fetched"},
    {"stale-if-error", "an expired answer was served because every upstream failed"},
    {"previous-response", "it refers to state that the upstream holds: passed through"},
    {"conversation", "it refers to state that the upstream holds: passed through"},
    {"background", "it starts background work upstream: passed through"},
    {"stored-prompt", "it uses a prompt stored upstream: passed through"},
    {"hosted-tool", "it uses a tool that runs upstream: passed through"},
    {"file-id", "it names a file that the upstream holds: passed through"},
    {"container", "it uses a container upstream: passed through"},
    {"mcp", "it uses tool servers from upstream: passed through"},
    {"audio-out", "it asks for audio: passed through"},
    {"item-reference", "it refers to items that the upstream holds: passed through"},
    {"no_model", "no model is attached, or it takes no more requests; stored answers are served"},
    {"model_not_found", "neither an upstream nor this machine serves this model"},
    {"context_length_exceeded", "the prompt is longer than the local model's context"},
    {"unsupported", "it asks for something that the model or upstream does not have"},
    {"out_of_memory", "there was no memory for it"},
    {"model_failed", "the local model failed: its log line says why"},
    {"no_upstream", "no upstream is attached for this path"},
    {"limit_reached", "the tenant has reached a limit"},
    {"invalid_api_key", "the API key is unknown or revoked"},
    {"overloaded", "a queue was full; the request was shed"},
    {"upstream_unreachable", "no upstream could be reached"},
    {"upstream_incomplete", "the upstream broke its answer off"},
};

static const char *meaning(const char *reason)
{
    struct lr_str head = lr_str(reason, strcspn(reason, ":"));
    for (size_t i = 0; i < LR_COUNT(meanings); i++)
        if (lr_str_is(head, meanings[i].reason))
            return meanings[i].text;
    if (lr_str_starts(head, LR_STR("upstream-")))
        return "the upstream refused it with this status";
    return "";
}

/* ---- one request ---- */

static void write_brief(struct lr_jw *w, const struct lr_record *c)
{
    char hex[33] = "";
    lr_field_text(w, "request_id", c->id);
    lr_field_u64(w, "at_ms", c->wall_ms);
    lr_field_text(w, "cache", lr_outcome_name((enum lr_outcome)c->outcome));
    lr_field_text(w, "shelf", lr_shelf_name((enum lr_shelf)c->shelf));
    lr_field_text(w, "reason", c->reason);
    lr_field_u64(w, "status", (uint64_t)(c->status > 0 ? c->status : 0));
    lr_field_text(w, "model", c->model);
    lr_field_text(w, "upstream", c->upstream);
    lr_field_text(w, "dialect", c->dialect ? lr_dialect_name((enum lr_dialect_id)c->dialect) : "");
    lr_field_bool(w, "stream", c->stream);
    lr_field_text(w, "tenant_name", c->tenant_name);
    if (c->keyed)
        lr_hex(c->key.b, 16, hex);
    lr_field_text(w, "entry", hex);
    lr_field_bool(w, "stored", c->stored);
    lr_field_u64(w, "first_us", c->first_ns / LR_US);
    lr_field_u64(w, "total_us", c->total_ns / LR_US);
    lr_field_u64(w, "ms_saved", c->ms_saved);
    lr_field_u64(w, "tokens_in", c->usage.input);
    lr_field_u64(w, "tokens_out", c->usage.output);
    lr_field_real(w, "money_saved", c->money_saved);
    lr_field_real(w, "money_spent", c->money_spent);
}

static void write_rooms(struct lr_jw *w, const struct lr_record *c)
{
    lr_jw_key(w, "rooms");
    lr_jw_arr(w);
    for (int i = 0; i < LR_ROOM_N; i++) {
        lr_jw_obj(w);
        lr_field_text(w, "room", lr_room_name((enum lr_room)i));
        lr_field_real(w, "us", (double)c->room_ns[i] / 1e3);
        lr_jw_end(w);
    }
    lr_jw_end(w);
}

/* Of the cached tokens, those that came from the KV store, by tier. */
static void write_warm(struct lr_jw *w, const struct lr_flight_bill *b)
{
    lr_jw_key(w, "kv");
    lr_jw_obj(w);
    for (int t = 0; t < LR_REUSE_TIERS; t++)
        lr_field_u64(w, lr_reuse_tier_name((enum lr_reuse_tier)t), b->warm[t]);
    lr_field_real(w, "load_ms", (double)b->load_ns / 1e6);
    lr_field_real(w, "saved_ms", (double)b->saved_ns / 1e6);
    lr_jw_end(w);
}

/* What a model of this machine took for it. */
static void write_engine(struct lr_jw *w, const struct lr_record *c)
{
    const struct lr_flight_bill *b = &c->bill;
    lr_jw_key(w, "engine");
    if (!b->prompt) {
        lr_jw_null(w); /* answered elsewhere */
        return;
    }
    lr_jw_obj(w);
    lr_field_real(w, "queue_ms", (double)b->queue_ns / 1e6);
    lr_field_real(w, "prefill_ms", (double)b->prefill_ns / 1e6);
    lr_field_real(w, "decode_ms", (double)b->decode_ns / 1e6);
    lr_field_u64(w, "prompt_tokens", b->prompt);
    lr_field_u64(w, "cached_tokens", b->cached);
    lr_field_u64(w, "reply_tokens", b->reply);
    write_warm(w, b);
    lr_jw_end(w);
}

static void write_price(struct lr_req *r, struct lr_jw *w, const struct lr_record *c)
{
    const struct lr_opt_price *p = lr_conf_price(r->conf, lr_strz(c->model));
    lr_jw_key(w, "price");
    if (!p) {
        lr_jw_null(w); /* unknown: tokens only */
        return;
    }
    lr_jw_obj(w);
    lr_field_text(w, "model", p->model);
    lr_field_text(w, "date", p->date);
    lr_field_real(w, "input", p->input);
    lr_field_real(w, "cached_input", p->cached_input);
    lr_field_real(w, "output", p->output);
    lr_field_text(w, "currency", p->currency);
    lr_field_text(w, "per", "million tokens");
    lr_jw_end(w);
}

/* The members of its key, or those of the newest request with the same key. */
static int members_of(struct lr_req *r, const struct lr_record *c, struct lr_record *stand_in)
{
    *stand_in = (struct lr_record){.n_members = 0};
    if (c->n_members)
        return 0;
    return c->keyed ? lr_traces_by_key(r->serve->traces, &c->key, stand_in) : LR_ENOENT;
}

static void write_difference(struct lr_req *r, struct lr_jw *w, const struct lr_record *a,
                             const struct lr_record *b)
{
    struct lr_record a2, b2;
    char name[48] = "";
    const char *verdict = "differ";
    int ra = members_of(r, a, &a2), rb = members_of(r, b, &b2);
    const struct lr_record *ma = a->n_members ? a : &a2, *mb = b->n_members ? b : &b2;
    if (a->tenant != b->tenant)
        verdict = "other-tenant";
    else if (a->keyed && b->keyed && lr_digest_eq(&a->key, &b->key))
        verdict = "same-key";
    else if (ra || rb)
        verdict = "forgotten";
    else if (lr_key_differ(ma->members, ma->n_members, mb->members, mb->n_members, name))
        verdict = "same-members";
    lr_field_text(w, "verdict", verdict);
    lr_field_text(w, "first_difference", name);
    lr_free(a2.members);
    lr_free(b2.members);
}

static bool find(struct lr_req *r, struct lr_str id, struct lr_record *out)
{
    char *z = lr_arena_strz(&r->arena, id);
    int rc = z ? lr_traces_find(r->serve->traces, z, out) : LR_ENOMEM;
    if (rc == LR_ENOENT)
        lr_admin_fail(r, 404, "not_found",
                      "this request is not remembered: a wrong id, or %llu others came after it "
                      "(trace.requests)",
                      (unsigned long long)r->conf->c->trace_requests);
    else if (rc)
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the record");
    return rc == 0;
}

static void write_explained(struct lr_req *r, struct lr_jw *w, const struct lr_record *c,
                            const struct lr_record *other)
{
    lr_jw_init(w, &r->out);
    lr_jw_obj(w);
    write_brief(w, c);
    lr_field_text(w, "meaning", meaning(c->reason));
    lr_field_text(w, "choice", c->choice);
    lr_field_u64(w, "tries", c->tries);
    lr_field_text(w, "category", c->category);
    lr_field_text(w, "tag", c->tag);
    lr_field_text(w, "program", c->hints.program);
    lr_field_text(w, "parent", c->hints.parent);
    lr_field_text(w, "tool", c->hints.tool);
    lr_field_u64(w, "age_ms", c->age_ms);
    lr_field_u64(w, "body_bytes", c->body_bytes);
    lr_field_u64(w, "text_bytes", c->text_bytes);
    lr_field_u64(w, "cached_input", c->usage.cached_input);
    lr_field_u64(w, "key_members", c->n_members);
    write_rooms(w, c);
    write_engine(w, c);
    write_price(r, w, c);
    lr_jw_key(w, "against");
    if (other) {
        lr_jw_obj(w);
        lr_field_text(w, "request_id", other->id);
        lr_field_text(w, "cache", lr_outcome_name((enum lr_outcome)other->outcome));
        write_difference(r, w, c, other);
        lr_jw_end(w);
    } else {
        lr_jw_null(w);
    }
    lr_jw_end(w);
}

void lr_verb_explain(struct lr_req *r)
{
    struct lr_record c, other;
    struct lr_jw w;
    struct lr_str against = lr_admin_param(r, "against");
    if (!find(r, r->admin.arg, &c))
        return;
    if (!against.n || find(r, against, &other)) {
        write_explained(r, &w, &c, against.n ? &other : NULL);
        if (against.n)
            lr_free(other.members);
    }
    lr_free(c.members);
}

/* ---- many ---- */

static struct lr_record *recent(struct lr_req *r, uint64_t usual, uint64_t max, size_t *n)
{
    uint64_t limit = usual;
    if (!lr_admin_number(r, "limit", max, &limit))
        return NULL;
    if (limit > r->conf->c->trace_requests + 1)
        limit = r->conf->c->trace_requests + 1; /* the ring holds one record at least */
    struct lr_record *v = lr_calloc((size_t)limit + 1, sizeof *v);
    if (v)
        *n = lr_traces_recent(r->serve->traces, v, (size_t)limit);
    else
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the records");
    return v;
}

void lr_verb_requests(struct lr_req *r)
{
    struct lr_jw w;
    size_t n;
    struct lr_record *v = recent(r, REQUESTS_USUAL, REQUESTS_MAX, &n);
    if (!v)
        return;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "requests");
    lr_jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        lr_jw_obj(&w);
        write_brief(&w, &v[i]);
        lr_jw_end(&w);
    }
    lr_jw_end(&w);
    lr_jw_end(&w);
    lr_free(v);
}

/* Oldest first, as a trace file has them. */
void lr_verb_trace(struct lr_req *r)
{
    size_t n;
    struct lr_record *v = recent(r, TRACE_MAX, TRACE_MAX, &n);
    if (!v)
        return;
    r->admin.type = "application/jsonl";
    while (n > 0 && lr_trace_line(&v[n - 1], &r->out) == 0)
        n--;
    lr_free(v); /* a full buffer is seen by the caller */
}
