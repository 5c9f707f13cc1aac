/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_admin.c - the KV store in the operator's hands: lookup, prefix, pin, unpin, move, clear, epoch,
 * quota (docs/kv.md). Every verb runs in the pool.
 *
 *   {tenant, namespace, keys} --> targets (ids) --> store
 *
 * A key is looked for as it is given. One of LMCache's that is not here is looked for as the pair that its
 * redis connector writes (KEYkv_bytes, KEYmetadata): logs and people name the chunk, not its halves; what
 * is then done to it is done to both.
 *
 * Clearing. Namespaces go by their epoch: one note, one moment, however many objects. What has no namespace
 * (content) or is told by its model goes one by one, in batches that wait for the disk: a queue full of
 * notes would otherwise end in a WIPE of everything (store/queue.c).
 */
#include "serve/serve_int.h"
#include "serve/kv_admin.h"

#include <stdio.h>

#define VERB_NS   (50ull * LR_SEC) /* what waits for the disk gives up then */
#define BATCH     256u
#define BATCH_MAX LR_MIB(1) /* ids of a bucket, 32 bytes each */

struct target {
    struct lr_digest id[2]; /* the second: of a pair's other half */
    unsigned n;
};

/* ---- whose, and which ---- */

/* The body, when there is a store; else a failure has been written. */
static bool read_ask(struct lr_req *r, const char *members, struct lr_kv_ask *ask)
{
    struct lr_err err = {0};
    struct lr_json *o = r->serve->store ? lr_admin_body(r) : NULL;
    if (!r->serve->store)
        lr_admin_fail(r, 404, "kv_off", "no KV store is open here: see the option resp");
    if (!o)
        return false;
    int rc = lr_kv_ask_read(&r->arena, o, members, ask, &err);
    if (rc == LR_ENOMEM)
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the request");
    else if (rc)
        lr_admin_fail(r, 400, "invalid_request", "%s", err.msg);
    return rc == 0;
}

struct hunt {
    uint32_t half;
    uint64_t id;
    bool many;
};

static void hunt(void *arg, uint64_t tenant, uint64_t bytes, uint64_t bytes_max)
{
    struct hunt *h = arg;
    (void)bytes, (void)bytes_max;
    if (tenant >> 32 != h->half)
        return;
    h->many |= h->id && h->id != tenant;
    h->id = tenant;
}

/* "p-" and half the digits of an id: who of the store's tenants is it? */
static bool find_short(struct lr_req *r, struct lr_str name, uint64_t *out)
{
    uint8_t b[4];
    if (name.n != 10 || !lr_str_starts(name, LR_STR("p-")) || lr_unhex(lr_str(name.p + 2, 8), b, 4)) {
        lr_admin_fail(r, 400, "invalid_request", "a tenant is a name, or the 16 hex digits of its id");
        return false;
    }
    struct hunt h = {.half = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]};
    lr_store_tenants(r->serve->store, hunt, &h);
    if (h.id && !h.many) {
        *out = h.id;
        return true;
    }
    lr_admin_fail(r, h.many ? 409 : 404, h.many ? "ambiguous" : "not_found", "%s",
                  h.many ? "two tenants have this short name: use the 16 digits"
                         : "no tenant of this name has stored anything");
    return false;
}

/* The tenant of the body; where none is named and no keys file is, that of who needs no password. */
static bool find_tenant(struct lr_req *r, const struct lr_kv_ask *ask, uint64_t *out)
{
    struct lr_tenants *all = r->serve->tenants;
    struct lr_tenant t;
    uint8_t id[8];
    if (ask->tenant.n == 16 && !lr_unhex(ask->tenant, id, 8)) {
        *out = lr_le64(id);
        return true;
    }
    if (ask->tenant.p && !lr_tenants_managed(all))
        return find_short(r, ask->tenant, out);
    if (ask->tenant.p) {
        *out = lr_tenants_named(all, ask->tenant);
        return true;
    }
    if (lr_tenants_find(all, LR_STR(""), r->wall_ms, 0, &t)) {
        lr_admin_fail(r, 400, "invalid_request", "say which tenant");
        return false;
    }
    *out = t.id;
    return true;
}

static struct lr_str space_of(const struct lr_kv_ask *ask)
{
    return ask->space.p ? ask->space : LR_STR("0");
}

/* ids of a key, the other half's too when it is a pair's stem. */
static int aim(struct lr_req *r, uint64_t tenant, struct lr_str space, struct lr_str key, struct target *t)
{
    static const struct lr_str ends[] = {{"kv_bytes", 8}, {"metadata", 8}};
    struct lr_kv_key k;
    t->n = 1;
    lr_store_id_opaque(tenant, space, key, &t->id[0]);
    lr_kv_key_read(key, &k);
    if (k.shape != LR_KV_ENGINE || k.half || lr_store_has(r->serve->store, &t->id[0]))
        return 0;
    char *name = lr_arena_alloc(&r->arena, key.n + 8, 1);
    struct lr_digest id[2];
    LR_FAIL_IF(!name, LR_ENOMEM);
    memcpy(name, key.p, key.n);
    for (size_t i = 0; i < 2; i++) {
        memcpy(name + key.n, ends[i].p, 8);
        lr_store_id_opaque(tenant, space, lr_str(name, key.n + 8), &id[i]);
    }
    if (lr_store_has(r->serve->store, &id[0])) {
        t->id[0] = id[0];
        t->id[1] = id[1];
        t->n = 2;
    }
    return 0;
}

/* What the body names; NULL: a failure has been written. */
static struct target *targets(struct lr_req *r, const struct lr_kv_ask *ask)
{
    uint64_t tenant = 0;
    if (!ask->n) {
        lr_admin_fail(r, 400, "invalid_request", "say which: keys, or ids");
        return NULL;
    }
    if (!ask->ids && !find_tenant(r, ask, &tenant))
        return NULL;
    struct target *t = lr_arena_array(&r->arena, struct target, ask->n);
    int rc = t ? 0 : LR_ENOMEM;
    for (size_t i = 0; i < ask->n && !rc; i++) {
        if (ask->ids)
            t[i] = (struct target){.id = {ask->ids[i]}, .n = 1};
        else
            rc = aim(r, tenant, space_of(ask), ask->keys[i], &t[i]);
    }
    if (!rc)
        return t;
    lr_admin_fail(r, 503, "out_of_memory", "no memory for the keys");
    return NULL;
}

/* ---- looking ---- */

static void write_times(struct lr_jw *w, const struct lr_store_entry *e, uint64_t now_ms)
{
    lr_field_u64(w, "age_ms", now_ms > e->created_ms ? now_ms - e->created_ms : 0);
    lr_jw_key(w, "ttl_ms");
    if (e->expires_ms)
        lr_jw_u64(w, e->expires_ms > now_ms ? e->expires_ms - now_ms : 0);
    else
        lr_jw_null(w);
    lr_field_bool(w, "pinned", e->pinned_until_ms != 0);
    lr_jw_key(w, "pin_ms");
    if (e->pinned_until_ms && e->pinned_until_ms != UINT64_MAX)
        lr_jw_u64(w, e->pinned_until_ms > now_ms ? e->pinned_until_ms - now_ms : 0);
    else
        lr_jw_null(w);
}

static void write_places(struct lr_jw *w, const struct lr_store_entry *e)
{
    lr_jw_key(w, "where");
    lr_jw_arr(w);
    if (e->in_memory)
        lr_jw_strz(w, "memory");
    if (e->on_disk)
        lr_jw_strz(w, "disk");
    lr_jw_end(w);
}

static bool write_object(struct lr_req *r, struct lr_jw *w, const struct lr_kv_ask *ask, size_t i,
                         const struct target *t)
{
    struct lr_store_entry e, half;
    char hex[65];
    bool here = !lr_store_entry(r->serve->store, &t->id[0], &e);
    lr_hex(t->id[0].b, 32, hex);
    lr_jw_obj(w);
    if (ask->keys) {
        lr_jw_key(w, "key");
        lr_jw_str(w, ask->keys[i]);
    }
    lr_field_text(w, "id", hex);
    lr_field_bool(w, "found", here);
    if (here) {
        bool pair = t->n == 2 && !lr_store_entry(r->serve->store, &t->id[1], &half);
        write_places(w, &e);
        lr_field_u64(w, "bytes", e.bytes + (pair ? half.bytes : 0));
        lr_field_bool(w, "pair", pair);
        write_times(w, &e, r->wall_ms);
    }
    lr_jw_end(w);
    return here;
}

void lr_verb_kv_lookup(struct lr_req *r)
{
    struct lr_kv_ask ask;
    struct lr_jw w;
    uint64_t found = 0;
    const struct target *t =
        read_ask(r, "tenant namespace keys ids", &ask) ? targets(r, &ask) : NULL;
    if (!t)
        return;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "objects");
    lr_jw_arr(&w);
    for (size_t i = 0; i < ask.n; i++)
        found += write_object(r, &w, &ask, i, &t[i]);
    lr_jw_end(&w);
    lr_field_u64(&w, "found", found);
    lr_jw_end(&w);
}

/* keys or ids; or tokens and a model, of which the keys of LMCache's multi-process mode follow. */
static const struct target *chain(struct lr_req *r, struct lr_kv_ask *ask)
{
    if (!read_ask(r, "tenant namespace keys ids tokens block model rank group salt", ask))
        return NULL;
    if (!ask->n_tokens)
        return targets(r, ask);
    if (ask->n || !ask->model.p) {
        lr_admin_fail(r, 400, "invalid_request", "tokens need a model, and stand beside no keys");
        return NULL;
    }
    if (lr_kv_ask_chain(&r->arena, ask)) {
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the keys");
        return NULL;
    }
    if (ask->n)
        return targets(r, ask);
    lr_admin_fail(r, 400, "invalid_request", "there are fewer tokens than a block has");
    return NULL;
}

void lr_verb_kv_prefix(struct lr_req *r)
{
    struct lr_kv_ask ask;
    struct lr_jw w;
    const struct target *t = chain(r, &ask);
    struct lr_digest *ids = t ? lr_arena_array(&r->arena, struct lr_digest, ask.n) : NULL;
    if (t && !ids)
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the keys");
    if (!ids)
        return;
    size_t memory;
    for (size_t i = 0; i < ask.n; i++)
        ids[i] = t[i].id[0];
    size_t here = lr_store_prefix(r->serve->store, ids, ask.n, false, &memory);
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_u64(&w, "asked", ask.n);
    lr_field_u64(&w, "here", here);
    lr_field_u64(&w, "in_memory", memory);
    if (ask.n_tokens)
        lr_field_u64(&w, "tokens", here * ask.block);
    if (ask.keys && here < ask.n) {
        lr_jw_key(&w, "first_absent");
        lr_jw_str(&w, ask.keys[here]);
    }
    lr_jw_end(&w);
}

/* ---- doing ---- */

struct sums {
    uint64_t done, absent, late, failed;
    int rc; /* of the first that failed */
};

static void note(struct sums *s, int rc)
{
    s->done += !rc;
    s->absent += rc == LR_ENOENT;
    s->late += rc == LR_ETIMEOUT;
    if (rc && rc != LR_ENOENT && rc != LR_ETIMEOUT) {
        s->failed++;
        s->rc = s->rc ? s->rc : rc;
    }
}

static const char *why(int rc)
{
    switch (rc) {
    case LR_EOVER:
        return "pins would take more than half of memory";
    case LR_EUNSUPPORTED:
        return "there is no disk tier";
    default:
        return lr_strerror(rc);
    }
}

static void write_sums(struct lr_req *r, const char *done, const struct sums *s)
{
    struct lr_jw w;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_u64(&w, done, s->done);
    lr_field_u64(&w, "absent", s->absent);
    lr_field_u64(&w, "late", s->late);
    lr_field_u64(&w, "failed", s->failed);
    if (s->failed)
        lr_field_text(&w, "reason", why(s->rc));
    lr_jw_end(&w);
}

/* until_ms: as lr_store_pin takes it. Durable where a disk is. */
static void pin_all(struct lr_req *r, const struct lr_kv_ask *ask, const struct target *t, uint64_t until_ms,
                    const char *word)
{
    struct lr_store *store = r->serve->store;
    struct sums s = {0};
    for (size_t i = 0; i < ask->n; i++) {
        int rc = 0;
        for (unsigned k = 0; k < t[i].n && !rc; k++)
            rc = lr_store_pin(store, &t[i].id[k], until_ms, 0, 0);
        note(&s, rc);
    }
    (void)lr_store_sync(store, lr_clock_mono_ns() + VERB_NS); /* a failing disk is told by health */
    lr_log(LR_LOG_INFO, "kv", "event=%s objects=%llu", word, (unsigned long long)s.done);
    write_sums(r, word, &s);
}

void lr_verb_kv_pin(struct lr_req *r)
{
    struct lr_kv_ask ask;
    const struct target *t =
        read_ask(r, "tenant namespace keys ids ttl", &ask) ? targets(r, &ask) : NULL;
    if (t)
        pin_all(r, &ask, t, ask.ttl_ms ? r->wall_ms + ask.ttl_ms : UINT64_MAX, "pinned");
}

void lr_verb_kv_unpin(struct lr_req *r)
{
    struct lr_kv_ask ask;
    const struct target *t =
        read_ask(r, "tenant namespace keys ids", &ask) ? targets(r, &ask) : NULL;
    if (t)
        pin_all(r, &ask, t, 0, "unpinned");
}

void lr_verb_kv_move(struct lr_req *r)
{
    struct lr_kv_ask ask;
    struct sums s = {0};
    uint64_t deadline = lr_clock_mono_ns() + VERB_NS;
    const struct target *t =
        read_ask(r, "tenant namespace keys ids to", &ask) ? targets(r, &ask) : NULL;
    if (t && !ask.has_to) {
        lr_admin_fail(r, 400, "invalid_request", "say where: to must be \"memory\", \"disk\" or \"out\"");
        return;
    }
    if (!t)
        return;
    for (size_t i = 0; i < ask.n; i++) {
        int rc = 0;
        for (unsigned k = 0; k < t[i].n && !rc; k++)
            rc = lr_store_move(r->serve->store, &t[i].id[k], ask.to, deadline);
        note(&s, rc);
    }
    write_sums(r, "moved", &s);
}

/* ---- clearing ---- */

struct clearing {
    struct lr_req *r;
    const struct lr_kv_ask *ask;
    uint64_t tenant, deadline;
    bool by_tenant;
    struct lr_buf batch; /* ids of content, or of all where a model is named */
    uint64_t matched, bytes, unread, absent_spaces;
    int rc;
};

static void match(void *arg, const struct lr_store_entry *e)
{
    struct clearing *c = arg;
    const struct lr_kv_ask *ask = c->ask;
    struct lr_kv_key k;
    if ((c->by_tenant && e->tenant != c->tenant) ||
        (ask->space.p && (e->kind != LR_OBJECT_OPAQUE || !lr_str_eq(e->space, ask->space))))
        return;
    if (ask->model.p && e->kind == LR_OBJECT_OPAQUE) {
        lr_kv_key_read(e->name, &k);
        if (!k.shape || !lr_str_eq(k.model, ask->model))
            return;
    }
    if (e->kind == LR_OBJECT_OPAQUE) {
        c->matched++;
        c->bytes += e->bytes;
        if (!ask->model.p || ask->dry_run)
            return; /* its namespace's epoch clears it, or nothing does */
    }
    (void)lr_buf_add(&c->batch, e->id.b, sizeof e->id.b); /* the buffer remembers: what is left stays */
}

/* Content's model stands in its header alone. false: it is not this one, or cannot be read in time. */
static bool is_of_model(struct clearing *c, const struct lr_digest *id)
{
    struct lr_view *v;
    int rc = lr_store_get(c->r->serve->store, id, &lr_object_any, c->deadline, &v);
    c->unread += rc == LR_ETIMEOUT;
    if (rc)
        return false;
    bool is = lr_str_eq(lr_view_object(v)->model, c->ask->model);
    lr_view_put(v);
    return is;
}

static void clear_batch(struct clearing *c)
{
    struct lr_store *store = c->r->serve->store;
    struct lr_store_entry e;
    for (size_t at = 0; at + 32 <= c->batch.len; at += 32) {
        struct lr_digest id;
        memcpy(id.b, c->batch.p + at, 32);
        if (lr_store_entry(store, &id, &e))
            continue; /* gone already, with its pair's other half, say */
        if (e.kind == LR_OBJECT_CONTENT) {
            if (c->ask->model.p && !is_of_model(c, &id))
                continue;
            c->matched++;
            c->bytes += e.bytes;
        }
        int rc = c->ask->dry_run ? 0 : lr_store_del(store, &id, 0, 0);
        c->rc = c->rc || rc == LR_ENOENT ? c->rc : rc;
    }
    lr_buf_reset(&c->batch);
    if (!c->ask->dry_run)
        (void)lr_store_sync(store, c->deadline); /* lets notes drain; a failing disk is told by health */
}

static void bump(void *arg, struct lr_str name)
{
    struct clearing *c = arg;
    lr_buf_addc(&c->batch, (char)(unsigned char)name.n); /* a namespace has 255 bytes at most */
    lr_buf_adds(&c->batch, name);
}

/* All namespaces of a tenant, or the one named. */
static void bump_spaces(struct clearing *c, uint64_t tenant)
{
    struct lr_store *store = c->r->serve->store;
    lr_buf_reset(&c->batch);
    if (c->ask->space.p)
        bump(c, c->ask->space);
    else
        lr_store_spaces(store, tenant, bump, c); /* under a lock: names first */
    for (size_t at = 0; at < c->batch.len && !c->batch.rc;) {
        size_t n = (unsigned char)c->batch.p[at];
        int rc = lr_store_bump(store, tenant, lr_str(c->batch.p + at + 1, n), 0, 0, NULL);
        c->rc = c->rc ? c->rc : rc;
        at += 1 + n;
    }
    c->rc = c->rc ? c->rc : c->batch.rc;
    lr_buf_reset(&c->batch);
}

static void each_tenant(void *arg, uint64_t tenant, uint64_t bytes, uint64_t bytes_max)
{
    (void)bytes, (void)bytes_max;
    bump_spaces(arg, tenant);
}

static void write_cleared(struct lr_req *r, const struct clearing *c)
{
    struct lr_jw w;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_u64(&w, "matched", c->matched);
    lr_field_u64(&w, "cleared", c->ask->dry_run ? 0 : c->matched);
    lr_field_u64(&w, "bytes", c->bytes);
    lr_field_u64(&w, "unread", c->unread);
    lr_field_bool(&w, "dry_run", c->ask->dry_run);
    lr_jw_end(&w);
}

static void clear_all(struct lr_req *r, struct clearing *c)
{
    uint64_t cursor = 0;
    do {
        cursor = lr_store_scan(r->serve->store, cursor, match, c);
        if (c->batch.len >= BATCH * 32)
            clear_batch(c);
    } while (cursor);
    clear_batch(c);
    if (!c->ask->model.p && !c->ask->dry_run) {
        if (c->by_tenant)
            bump_spaces(c, c->tenant);
        else
            lr_store_tenants(r->serve->store, each_tenant, c);
    }
}

void lr_verb_kv_clear(struct lr_req *r)
{
    struct lr_kv_ask ask;
    struct clearing c = {.r = r, .ask = &ask, .deadline = lr_clock_mono_ns() + VERB_NS};
    if (!read_ask(r, "tenant namespace model all dry_run", &ask))
        return;
    if (ask.all == (ask.tenant.p || ask.space.p || ask.model.p)) {
        lr_admin_fail(r, 400, "invalid_request",
                      ask.all ? "all and selectors exclude each other"
                              : "say which: tenant, namespace, model; or \"all\": true");
        return;
    }
    c.by_tenant = ask.tenant.p || ask.space.p; /* a namespace is one tenant's */
    if (c.by_tenant && !find_tenant(r, &ask, &c.tenant))
        return;
    lr_buf_init(&c.batch, BATCH_MAX);
    clear_all(r, &c);
    lr_buf_free(&c.batch);
    if (c.rc) {
        lr_admin_fail(r, 500, "internal", "not all could be cleared: %s", lr_strerror(c.rc));
        return;
    }
    if (!ask.dry_run)
        lr_log(LR_LOG_INFO, "kv", "event=clear objects=%llu bytes=%llu", (unsigned long long)c.matched,
               (unsigned long long)c.bytes);
    write_cleared(r, &c);
}

void lr_verb_kv_epoch(struct lr_req *r)
{
    struct lr_kv_ask ask;
    struct lr_jw w;
    uint64_t tenant;
    uint32_t epoch;
    if (!read_ask(r, "tenant namespace", &ask))
        return;
    if (!ask.space.p) {
        lr_admin_fail(r, 400, "invalid_request", "say which namespace");
        return;
    }
    if (!find_tenant(r, &ask, &tenant))
        return;
    int rc = lr_store_bump(r->serve->store, tenant, ask.space, LR_PUT_DURABLE,
                           lr_clock_mono_ns() + VERB_NS, &epoch);
    bool durable = !rc;
    if (rc == LR_EUNSUPPORTED) /* memory only: there is nothing that a restart could bring back */
        rc = lr_store_bump(r->serve->store, tenant, ask.space, 0, 0, &epoch);
    if (rc) {
        lr_admin_fail(r, 500, "internal", "the disk did not confirm: %s", lr_strerror(rc));
        return;
    }
    lr_log(LR_LOG_INFO, "kv", "event=epoch epoch=%u", epoch);
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "namespace");
    lr_jw_str(&w, ask.space);
    lr_field_u64(&w, "epoch", epoch);
    lr_field_bool(&w, "durable", durable);
    lr_jw_end(&w);
}

/* ---- quotas ---- */

struct quotas {
    struct lr_req *r;
    struct lr_jw *w;
};

static void write_quota(void *arg, uint64_t tenant, uint64_t bytes, uint64_t bytes_max)
{
    struct quotas *q = arg;
    char hex[17], name[64];
    lr_hex(&tenant, 8, hex);
    lr_kv_desk_name(q->r->serve->kv_desk, tenant, name);
    lr_jw_obj(q->w);
    lr_field_text(q->w, "tenant", hex);
    lr_field_text(q->w, "tenant_name", name);
    lr_field_u64(q->w, "bytes", bytes);
    lr_field_u64(q->w, "bytes_max", bytes_max);
    lr_jw_end(q->w);
}

void lr_verb_kv_quotas(struct lr_req *r)
{
    struct lr_jw w;
    if (!r->serve->store) {
        lr_admin_fail(r, 404, "kv_off", "no KV store is open here: see the option resp");
        return;
    }
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "quotas");
    lr_jw_arr(&w);
    lr_store_tenants(r->serve->store, write_quota, &(struct quotas){r, &w});
    lr_jw_end(&w);
    lr_jw_end(&w);
}

void lr_verb_kv_quota(struct lr_req *r)
{
    struct lr_kv_ask ask;
    struct lr_jw w;
    uint64_t tenant;
    if (!read_ask(r, "tenant bytes", &ask))
        return;
    if (!ask.has_bytes) {
        lr_admin_fail(r, 400, "invalid_request", "say how much: bytes, 0 for no limit");
        return;
    }
    if (!find_tenant(r, &ask, &tenant))
        return;
    int rc = lr_kv_desk_quota(r->serve->kv_desk, tenant, ask.bytes);
    if (rc) {
        lr_admin_fail(r, rc == LR_EOVER ? 409 : 500, rc == LR_EOVER ? "too_many" : "internal",
                      "the quota is not set: %s",
                      rc == LR_EOVER ? "too many tenants have one" : lr_strerror(rc));
        return;
    }
    lr_log(LR_LOG_INFO, "kv", "event=quota tenant=%016llx bytes=%llu",
           (unsigned long long)__builtin_bswap64(tenant), (unsigned long long)ask.bytes);
    lr_jw_init(&w, &r->out);
    write_quota(&(struct quotas){r, &w}, tenant, lr_store_tenant_bytes(r->serve->store, tenant), ask.bytes);
}
