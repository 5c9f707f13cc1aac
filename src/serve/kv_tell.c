/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_tell.c - the KV store in numbers: health, the doctor's report, and what stats and /metrics say.
 *
 * Health is what an operator looks at first: is the disk well, how full are the tiers, what waits, what was
 * dropped and why, what did the start find. `ok` is false while writes fail; drops are counts, for a store
 * that drops has said OK to nobody whom it then failed. The doctor's report is made of a copy of the rows
 * (kv_watch.h), off the event threads.
 */
#include "serve/kv_admin.h"
#include "serve/resp.h"
#include "serve/serve_int.h"

#include <stdio.h>

/* ---- health ---- */

static void lower(const char *name, char *out, size_t cap)
{
    size_t n = 0;
    for (; name[n] && n + 1 < cap; n++)
        out[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] - 'A' + 'a' : name[n]);
    out[n] = 0;
}

static uint64_t counted(const struct lr_store_stats *st, const enum lr_store_count *which, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += st->count[which[i]];
    return sum;
}

/* Values that were acknowledged and then lost to a lack of something. */
static uint64_t drops(const struct lr_store_stats *st)
{
    static const enum lr_store_count all[] = {LR_STORE_PUT_REFUSED, LR_STORE_LOST, LR_STORE_DISK_DROP_FULL,
                                              LR_STORE_DISK_DROP_LATE, LR_STORE_DISK_DROP_ERROR,
                                              LR_STORE_REMOTE_DROPS};
    return counted(st, all, LR_COUNT(all));
}

static bool well(const struct lr_store_stats *st)
{
    return !st->disk_max || st->disk_ok;
}

static void write_tiers(struct lr_jw *w, const struct lr_store_stats *st)
{
    lr_jw_key(w, "tiers");
    lr_jw_arr(w);
    lr_jw_obj(w);
    lr_field_text(w, "tier", "memory");
    lr_field_bool(w, "ok", true);
    lr_field_u64(w, "bytes", st->mem_bytes);
    lr_field_u64(w, "bytes_max", st->mem_max);
    lr_field_u64(w, "pinned", st->mem_pinned);
    lr_jw_end(w);
    if (st->disk_max) {
        lr_jw_obj(w);
        lr_field_text(w, "tier", "disk");
        lr_field_bool(w, "ok", st->disk_ok);
        lr_field_u64(w, "bytes", st->disk_bytes);
        lr_field_u64(w, "bytes_max", st->disk_max);
        lr_field_u64(w, "live", st->disk_live);
        lr_field_u64(w, "segments", st->segments);
        lr_field_u64(w, "queue_bytes", st->queue_bytes);
        lr_field_bool(w, "direct", st->direct);
        lr_field_bool(w, "uring", st->uring);
        lr_jw_end(w);
    }
    if (st->remote) { /* how full it is, is its own business */
        lr_jw_obj(w);
        lr_field_text(w, "tier", "remote");
        lr_field_bool(w, "ok", st->remote_ok);
        lr_field_u64(w, "queue_bytes", st->remote_queue_bytes);
        lr_jw_end(w);
    }
    lr_jw_end(w);
}

static void write_door(struct lr_jw *w, const struct lr_resp_stats *d)
{
    lr_jw_key(w, "door");
    lr_jw_obj(w);
    lr_field_u64(w, "connections", d->connections);
    lr_field_u64(w, "commands", d->commands);
    lr_field_u64(w, "gets", d->gets);
    lr_field_u64(w, "hits", d->hits);
    lr_field_u64(w, "sets", d->sets);
    lr_field_u64(w, "dropped", d->dropped);
    lr_field_u64(w, "denied", d->denied);
    lr_field_u64(w, "protocol_errors", d->faults);
    lr_field_u64(w, "received_bytes", d->bytes_in);
    lr_field_u64(w, "sent_bytes", d->bytes_out);
    lr_jw_end(w);
}

static void write_recovery(struct lr_jw *w, const struct lr_store_stats *st)
{
    lr_jw_key(w, "recovery");
    lr_jw_obj(w);
    lr_field_real(w, "ms", (double)st->recover_ns / (double)LR_MS);
    lr_field_u64(w, "bytes", st->recover_bytes);
    lr_field_u64(w, "objects", st->count[LR_STORE_RECOVERED]);
    lr_field_u64(w, "skipped", st->count[LR_STORE_RECOVER_SKIPPED]);
    lr_jw_end(w);
}

static void numbers(struct lr_serve *s, struct lr_store_stats *st, struct lr_resp_stats *d)
{
    *d = (struct lr_resp_stats){0};
    lr_store_stats(s->store, st);
    if (s->resp)
        lr_resp_stats(s->resp, d);
}

static double hit_rate(const struct lr_resp_stats *d)
{
    return d->gets ? (double)d->hits / (double)d->gets : 0;
}

/* Members of an open object: what health and stats share. */
static void write_common(struct lr_serve *s, struct lr_jw *w, struct lr_store_stats *st)
{
    struct lr_resp_stats d;
    numbers(s, st, &d);
    lr_field_bool(w, "ok", well(st));
    lr_field_u64(w, "entries", st->entries);
    lr_field_real(w, "hit_rate", hit_rate(&d));
    lr_field_u64(w, "drops", drops(st) + d.dropped);
    lr_field_u64(w, "errors", st->count[LR_STORE_DISK_ERRORS] + st->count[LR_STORE_REMOTE_ERRORS] +
                                  st->count[LR_STORE_MISS_CORRUPT]);
    write_tiers(w, st);
    write_door(w, &d);
}

static bool is_open(struct lr_req *r)
{
    if (!r->serve->store)
        lr_admin_fail(r, 404, "kv_off", "no KV store is open here: see the option resp");
    return r->serve->store;
}

void lr_verb_kv_health(struct lr_req *r)
{
    struct lr_store_stats st;
    struct lr_jw w;
    char name[32];
    if (!is_open(r))
        return;
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    write_common(r->serve, &w, &st);
    write_recovery(&w, &st);
    lr_jw_key(&w, "counts");
    lr_jw_obj(&w);
    for (int i = 0; i < LR_STORE_COUNT; i++) {
        lower(lr_store_count_name((enum lr_store_count)i), name, sizeof name);
        lr_field_u64(&w, name, st.count[i]);
    }
    lr_jw_end(&w);
    lr_jw_end(&w);
}

void lr_kv_stats_write(struct lr_serve *s, struct lr_jw *w)
{
    struct lr_store_stats st;
    lr_jw_key(w, "kv");
    if (!s->store) {
        lr_jw_null(w);
        return;
    }
    lr_jw_obj(w);
    write_common(s, w, &st);
    lr_jw_end(w);
}

/* ---- the doctor ---- */

struct visit {
    struct lr_kv_row rows[LR_KV_ROWS];
    uint32_t client[LR_KV_ROWS], number[LR_KV_ROWS]; /* number: as people count, by row */
    struct lr_kv_finding findings[LR_KV_FINDINGS];
    size_t n, n_clients, n_findings;
    uint64_t forgotten;
};

/* NULL: no memory. The caller frees it. */
static struct visit *examine(struct lr_kv_watch *w)
{
    struct visit *v = lr_new(struct visit);
    if (!v)
        return NULL;
    v->n = lr_kv_watch_rows(w, v->rows, &v->forgotten);
    v->n_findings = lr_kv_diagnose(v->rows, v->n, v->client, v->findings, LR_KV_FINDINGS);
    for (size_t i = 0; i < v->n; i++) /* the first row of a client stands for it */
        v->number[i] = v->client[i] == i ? (uint32_t)++v->n_clients : v->number[v->client[i]];
    return v;
}

static void write_who(struct lr_serve *s, struct lr_jw *w, const struct lr_kv_row *r)
{
    char hex[17], name[64];
    lr_hex(&r->tenant, 8, hex);
    lr_kv_desk_name(s->kv_desk, r->tenant, name);
    lr_field_text(w, "address", r->address);
    lr_field_text(w, "name", r->name);
    lr_field_text(w, "library", r->library);
    lr_field_text(w, "tenant", hex);
    lr_field_text(w, "tenant_name", name);
    lr_field_text(w, "namespace", r->space);
    lr_field_text(w, "model", r->model);
    lr_field_text(w, "form", r->shape == LR_KV_MP ? "multi-process" : r->layered ? "by layer" : "in-process");
    lr_field_u64(w, "world", r->world);
    lr_field_u64(w, "rank", r->rank);
    lr_field_text(w, "dtype", r->dtype);
    lr_field_text(w, "tag", r->tag);
}

static void write_row(struct lr_serve *s, struct lr_jw *w, const struct visit *v, size_t i)
{
    const struct lr_kv_row *r = &v->rows[i];
    lr_jw_obj(w);
    lr_field_u64(w, "client", v->number[i]);
    write_who(s, w, r);
    lr_field_u64(w, "chunk_tokens", r->tokens);
    lr_field_u64(w, "chunk_bytes", r->size);
    lr_field_u64(w, "hash_bits", r->wide ? 256 : 64);
    lr_field_u64(w, "sets", r->sets);
    lr_field_u64(w, "dropped", r->dropped);
    lr_field_u64(w, "gets", r->gets);
    lr_field_u64(w, "hits", r->hits);
    lr_field_u64(w, "asks", r->asks);
    lr_field_u64(w, "there", r->there);
    lr_field_u64(w, "bytes", r->bytes);
    lr_field_u64(w, "first_ms", r->first_ms);
    lr_field_u64(w, "last_ms", r->last_ms);
    lr_jw_end(w);
}

/* The finding in a sentence. */
static void sentence(const struct visit *v, const struct lr_kv_finding *f, char *out, size_t cap)
{
    unsigned a = v->number[f->a], b = v->number[f->b];
    const char *what = lr_kv_reason_name(f->reason);
    int n;
    if (f->reason == LR_KV_HALVES)
        n = snprintf(out, cap, "client %u sent halves of pairs: %s", a, f->detail);
    else if (f->reason == LR_KV_DROPPED)
        n = snprintf(out, cap, "values of client %u were not kept: %llu %s", a, (unsigned long long)f->n,
                     f->detail);
    else if (f->reason == LR_KV_SEED)
        n = snprintf(out, cap,
                     "clients %u and %u agree in everything and have no chunk in common (%s): either they "
                     "were never sent the same prompt, or the seed of the hash is another in each",
                     a, b, f->detail);
    else if (f->sure)
        n = snprintf(out, cap, "clients %u and %u send the same chunks, kept apart by %s: %s", a, b, what,
                     f->detail);
    else
        n = snprintf(out, cap, "clients %u and %u have no chunk in common; they differ in %s: %s", a, b,
                     what, f->detail);
    if (n < 0)
        *out = 0;
}

static void write_finding(struct lr_jw *w, const struct visit *v, const struct lr_kv_finding *f)
{
    char says[400];
    sentence(v, f, says, sizeof says);
    lr_jw_obj(w);
    lr_field_text(w, "reason", lr_kv_reason_name(f->reason));
    lr_field_bool(w, "sure", f->sure);
    lr_field_text(w, "model", v->rows[f->a].model);
    lr_jw_key(w, "clients");
    lr_jw_arr(w);
    lr_jw_u64(w, v->number[f->a]);
    if (f->a != f->b)
        lr_jw_u64(w, v->number[f->b]);
    lr_jw_end(w);
    lr_field_u64(w, "pairs", f->pairs);
    lr_field_text(w, "says", says);
    lr_field_text(w, "fix", lr_kv_reason_fix(f->reason));
    lr_jw_end(w);
}

void lr_verb_kv_doctor(struct lr_req *r)
{
    struct lr_jw w;
    if (!is_open(r))
        return;
    struct visit *v = examine(lr_kv_desk_watch(r->serve->kv_desk));
    if (!v) {
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the report");
        return;
    }
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_u64(&w, "n_clients", v->n_clients);
    lr_field_u64(&w, "rows_max", LR_KV_ROWS);
    lr_field_u64(&w, "forgotten", v->forgotten);
    lr_jw_key(&w, "findings");
    lr_jw_arr(&w);
    for (size_t i = 0; i < v->n_findings; i++)
        write_finding(&w, v, &v->findings[i]);
    lr_jw_end(&w);
    lr_jw_key(&w, "rows");
    lr_jw_arr(&w);
    for (size_t i = 0; i < v->n; i++)
        write_row(r->serve, &w, v, i);
    lr_jw_end(&w);
    lr_jw_end(&w);
    lr_free(v);
}

/* Cheap numbers only: a scrape makes no diagnosis. */
void lr_kv_doctor_metrics(struct lr_serve *s, struct lr_buf *out)
{
    uint64_t forgotten, seen;
    size_t n = lr_kv_watch_count(lr_kv_desk_watch(s->kv_desk), &seen, &forgotten);
    lr_buf_addf(out,
                "# HELP larder_kv_client_rows clients of LMCache's kind known to the doctor, by model and "
                "rank\n# TYPE larder_kv_client_rows gauge\nlarder_kv_client_rows %zu\n"
                "# HELP larder_kv_client_rows_forgotten_total rows that gave way to others\n"
                "# TYPE larder_kv_client_rows_forgotten_total counter\n"
                "larder_kv_client_rows_forgotten_total %llu\n"
                "# HELP larder_kv_client_keys_total keys of LMCache's kind that came\n"
                "# TYPE larder_kv_client_keys_total counter\nlarder_kv_client_keys_total %llu\n",
                n, (unsigned long long)forgotten, (unsigned long long)seen);
}
