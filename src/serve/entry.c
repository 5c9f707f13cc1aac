/* SPDX-License-Identifier: Apache-2.0
 * serve/entry.c - stored answers as the operator sees them: list, get, delete, purge, flush,
 * feedback.
 *
 * Shown is what the shelf knows about an answer, never the answer. An entry is named by the first
 * hex digits of its key, eight at least; x-larder-entry carries 32 of them. All of this runs in the
 * pool.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define ID_DIGITS     32 /* shown */
#define ID_DIGITS_MIN 8
#define LIST_MAX      1000
#define LIST_USUAL    100

/* ---- selectors ---- */

static bool is_hex(struct lr_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789abcdef", s.p[i]) || !s.p[i])
            return false;
    return true;
}

struct tenant_hunt {
    uint32_t short_id;
    uint64_t id;
    bool many;
};

static int hunt_tenant(void *ctx, const struct lr_answer_entry *e)
{
    struct tenant_hunt *h = ctx;
    if (e->meta.tenant >> 32 != h->short_id)
        return 0;
    h->many |= h->id && h->id != e->meta.tenant;
    h->id = e->meta.tenant;
    return h->many;
}

/* A tenant by its 16 hex digits, by its name (managed), or by the "p-" name of a credential, of
 * which only half the digits show: the entries say which it is. false: a failure has been written.
 */
static bool find_tenant(struct lr_req *r, struct lr_str name, uint64_t *out)
{
    uint8_t id[8], half[4];
    if (name.n == 16 && lr_unhex(name, id, 8) == 0) {
        *out = lr_le64(id);
        return true;
    }
    if (lr_tenants_managed(r->serve->tenants)) {
        *out = lr_tenants_named(r->serve->tenants, name);
        return true;
    }
    struct tenant_hunt hunt = {.id = 0};
    struct lr_answer_select all = {.now_ms = r->wall_ms};
    uint64_t cursor = 0;
    if (name.n != 10 || !lr_str_starts(name, LR_STR("p-")) ||
        lr_unhex(lr_str(name.p + 2, 8), half, 4)) {
        lr_admin_fail(r, 400, "invalid_request",
                      "a tenant is a name, or the 16 hex digits of its id");
        return false;
    }
    hunt.short_id =
        (uint32_t)half[0] << 24 | (uint32_t)half[1] << 16 | (uint32_t)half[2] << 8 | half[3];
    int rc = lr_answer_list(r->serve->answer, &all, &cursor, hunt_tenant, &hunt);
    if (rc || hunt.many) {
        lr_admin_fail(r, rc ? 500 : 409, rc ? "internal" : "ambiguous", "%s",
                      rc ? lr_strerror(rc) : "two tenants have this short name: use the 16 digits");
        return false;
    }
    *out = hunt.id ? hunt.id : (uint64_t)hunt.short_id << 32; /* one that has no entries */
    return true;
}

static const char *text_param(struct lr_req *r, const char *name, bool *any)
{
    struct lr_str s = lr_admin_param(r, name);
    *any |= s.p && s.n;
    return s.n ? s.p : NULL;
}

/* The selectors of the query; *any: there is one at least. false: a failure has been written. */
static bool read_select(struct lr_req *r, struct lr_answer_select *q, bool *any)
{
    *any = false;
    *q = (struct lr_answer_select){.now_ms = r->wall_ms};
    q->model = text_param(r, "model", any);
    q->tag = text_param(r, "tag", any);
    q->category = text_param(r, "category", any);
    q->id_prefix = text_param(r, "prefix", any);
    if (q->id_prefix && (!is_hex(lr_strz(q->id_prefix)) || strlen(q->id_prefix) > 64)) {
        lr_admin_fail(r, 400, "invalid_request", "prefix must be at most 64 lower-case hex digits");
        return false;
    }
    struct lr_str age = lr_admin_param(r, "age"), tenant = lr_admin_param(r, "tenant");
    *any |= age.n || tenant.n;
    if (age.n && lr_parse_duration(age, &q->older_than_ms)) {
        lr_admin_fail(r, 400, "invalid_request", "age must be a duration: 90s, 15m, 2h, 7d");
        return false;
    }
    return !tenant.n || find_tenant(r, tenant, &q->tenant);
}

/* ---- one entry ---- */

static void write_entry(struct lr_req *r, struct lr_jw *w, const struct lr_answer_entry *e)
{
    static const char *const kinds[] = {"chat", "completion", "embedding"};
    const struct lr_doc_meta *m = &e->meta;
    char hex[65], name[64];
    lr_jw_obj(w);
    lr_hex(m->key.b, ID_DIGITS / 2, hex);
    lr_field_text(w, "id", hex);
    lr_hex(&m->tenant, 8, hex);
    lr_field_text(w, "tenant", hex);
    lr_tally_name(r->serve->tally, m->tenant, name);
    lr_field_text(w, "tenant_name", name);
    lr_field_text(w, "model", m->model);
    lr_field_text(w, "upstream", m->upstream);
    lr_field_text(w, "category", m->category);
    lr_field_text(w, "tag", m->tag);
    lr_field_text(w, "kind", m->kind < LR_COUNT(kinds) ? kinds[m->kind] : "");
    lr_field_text(w, "request_id", m->request_id);
    lr_field_u64(w, "created_ms", m->created_ms);
    lr_field_u64(w, "age_ms", r->wall_ms > m->created_ms ? r->wall_ms - m->created_ms : 0);
    lr_field_u64(w, "ttl_ms", m->ttl_ms);
    lr_field_u64(w, "took_ms", m->took_ms);
    lr_field_u64(w, "tokens_in", m->tokens_in);
    lr_field_u64(w, "tokens_out", m->tokens_out);
    lr_field_real(w, "cost", m->cost);
    lr_field_u64(w, "choices", m->choices);
    lr_field_u64(w, "hits", m->hits);
    lr_field_u64(w, "bytes", e->bytes);
    lr_field_bool(w, "in_memory", e->hot);
    lr_field_bool(w, "stored", e->stored);
    lr_jw_end(w);
}

/* ---- list ---- */

struct listing {
    struct lr_req *r;
    struct lr_jw *w;
    uint64_t left;
};

static int list_one(void *ctx, const struct lr_answer_entry *e)
{
    struct listing *l = ctx;
    write_entry(l->r, l->w, e);
    return --l->left == 0;
}

void lr_verb_list(struct lr_req *r)
{
    struct lr_answer_select q;
    uint64_t cursor = 0, limit = LIST_USUAL;
    struct lr_jw w;
    bool any;
    if (!read_select(r, &q, &any) || !lr_admin_number(r, "cursor", UINT64_MAX, &cursor) ||
        !lr_admin_number(r, "limit", LIST_MAX, &limit))
        return;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "entries");
    lr_jw_arr(&w);
    struct listing l = {.r = r, .w = &w, .left = limit ? limit : 1};
    int rc = lr_answer_list(r->serve->answer, &q, &cursor, list_one, &l);
    if (rc) {
        lr_admin_fail(r, 500, "internal", "the entries cannot be listed: %s", lr_strerror(rc));
        return;
    }
    lr_jw_end(&w);
    /* 0: that was all. */
    lr_field_u64(&w, "cursor", l.left ? 0 : cursor);
    lr_jw_end(&w);
}

/* ---- by id ---- */

struct hunt {
    struct lr_answer_entry found;
    size_t n;
};

static int hunt_one(void *ctx, const struct lr_answer_entry *e)
{
    struct hunt *h = ctx;
    h->found = *e;
    return ++h->n > 1;
}

/* The one entry whose key begins with these digits; else a failure has been written. */
static bool find_entry(struct lr_req *r, struct lr_str id, struct lr_answer_entry *out)
{
    struct hunt h = {.n = 0};
    uint64_t cursor = 0;
    char *prefix = lr_arena_strz(&r->arena, id);
    if (id.n < ID_DIGITS_MIN || id.n > 64 || !is_hex(id) || !prefix) {
        lr_admin_fail(r, 400, "invalid_request",
                      "an entry is named by %d to 64 lower-case hex digits", ID_DIGITS_MIN);
        return false;
    }
    struct lr_answer_select q = {.now_ms = r->wall_ms, .id_prefix = prefix};
    int rc = lr_answer_list(r->serve->answer, &q, &cursor, hunt_one, &h);
    if (!rc && h.n == 1) {
        *out = h.found;
        return true;
    }
    if (rc)
        lr_admin_fail(r, 500, "internal", "the entries cannot be read: %s", lr_strerror(rc));
    else if (h.n)
        lr_admin_fail(r, 409, "ambiguous", "several entries begin with these digits");
    else
        lr_admin_fail(r, 404, "not_found", "no entry begins with these digits");
    return false;
}

void lr_verb_get(struct lr_req *r)
{
    struct lr_answer_entry e;
    struct lr_jw w;
    if (!find_entry(r, r->admin.arg, &e))
        return;
    lr_jw_init(&w, &r->out);
    write_entry(r, &w, &e);
}

static void say_deleted(struct lr_req *r, uint64_t n, uint64_t bytes, bool dry)
{
    struct lr_jw w;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_u64(&w, "deleted", dry ? 0 : n);
    lr_field_u64(&w, "matched", n);
    lr_field_u64(&w, "bytes", bytes);
    lr_field_bool(&w, "dry_run", dry);
    lr_jw_end(&w);
}

void lr_verb_delete(struct lr_req *r)
{
    struct lr_answer_entry e;
    if (!find_entry(r, r->admin.arg, &e))
        return;
    if (lr_answer_delete(r->serve->answer, &e.meta.key))
        lr_admin_fail(r, 404, "not_found", "the entry has just gone");
    else
        say_deleted(r, 1, e.bytes, false);
}

/* ---- many ---- */

static void purge(struct lr_req *r, const struct lr_answer_select *q)
{
    uint64_t n = 0, bytes = 0;
    bool dry = lr_admin_flag(r, "dry_run");
    int rc = lr_answer_purge(r->serve->answer, q, dry, &n, &bytes);
    if (rc) {
        lr_admin_fail(r, 500, "internal", "the entries cannot be deleted: %s", lr_strerror(rc));
        return;
    }
    if (!dry)
        lr_log(LR_LOG_INFO, "admin", "event=purge entries=%llu bytes=%llu", (unsigned long long)n,
               (unsigned long long)bytes);
    say_deleted(r, n, bytes, dry);
}

void lr_verb_purge(struct lr_req *r)
{
    struct lr_answer_select q;
    bool any;
    if (!read_select(r, &q, &any))
        return;
    if (any == lr_admin_flag(r, "all")) {
        lr_admin_fail(r, 400, "invalid_request",
                      any ? "all=true and selectors exclude each other"
                          : "say which: tag, tenant, model, category, prefix, age; or all=true");
        return;
    }
    purge(r, &q);
}

void lr_verb_flush(struct lr_req *r)
{
    struct lr_answer_select all = {.now_ms = r->wall_ms};
    purge(r, &all);
}

/* ---- feedback ---- */

/* The entry that a request was answered from, or stored. */
static bool entry_of_request(struct lr_req *r, struct lr_str id, struct lr_answer_entry *out)
{
    struct lr_record rec;
    char *z = lr_arena_strz(&r->arena, id);
    int rc = z ? lr_traces_find(r->serve->traces, z, &rec) : LR_ENOMEM;
    if (!rc) {
        lr_free(rec.members);
        rc = rec.keyed ? lr_answer_entry(r->serve->answer, &rec.key, out) : LR_ENOENT;
    }
    if (rc)
        lr_admin_fail(r, 404, "not_found", "no stored answer belongs to this request");
    return rc == 0;
}

/* A client may judge its own tenant's answers, and hears of no other's. */
static bool may_judge(struct lr_req *r, const struct lr_answer_entry *e)
{
    if (r->admin.is_admin || (r->tenant.proven && e->meta.tenant == r->tenant.id))
        return true;
    lr_admin_fail(r, 404, "not_found", "no stored answer of yours has this name");
    return false;
}

static bool admit_client(struct lr_req *r)
{
    if (r->admin.is_admin)
        return true;
    if (lr_tenants_find(r->serve->tenants, r->credential, r->wall_ms, r->conf->c->keys_proof,
                        &r->tenant)) {
        lr_admin_fail(r, 401, "invalid_api_key", "this gateway does not know the API key");
        return false;
    }
    if (lr_sessions_feedback(r->serve->sessions, r->tenant.id, lr_clock_mono_ns()))
        return true;
    r->admin.retry_s = 60;
    lr_admin_fail(r, 429, "limit_reached", "too many verdicts in this minute");
    return false;
}

void lr_verb_feedback(struct lr_req *r)
{
    struct lr_answer_entry e;
    struct lr_str verdict, entry = {NULL, 0}, request = {NULL, 0};
    if (!admit_client(r))
        return;
    struct lr_json *o = lr_admin_body(r);
    if (!o)
        return;
    bool by_entry = lr_json_text(lr_json_get(o, "entry"), &entry);
    bool by_request = lr_json_text(lr_json_get(o, "request_id"), &request);
    if (!lr_json_text(lr_json_get(o, "verdict"), &verdict) || !lr_str_is(verdict, "bad") ||
        by_entry == by_request) {
        lr_admin_fail(
            r, 400, "invalid_request",
            "the body must be {\"entry\" or \"request_id\": \"...\", \"verdict\": \"bad\"}");
        return;
    }
    if (by_entry && !r->admin.is_admin && entry.n < ID_DIGITS) {
        lr_admin_fail(r, 400, "invalid_request", "give the entry as x-larder-entry has it");
        return;
    }
    if (!(by_entry ? find_entry(r, entry, &e) : entry_of_request(r, request, &e)) ||
        !may_judge(r, &e))
        return;
    if (lr_answer_delete(r->serve->answer, &e.meta.key) == 0)
        lr_metric_add(LR_M_FEEDBACK_BAD, 1);
    lr_log(LR_LOG_INFO, "admin", "event=feedback verdict=bad bytes=%llu",
           (unsigned long long)e.bytes);
    say_deleted(r, 1, e.bytes, false);
}
