/* SPDX-License-Identifier: Apache-2.0
 * serve/stats.c - stats, instances and config: the house in numbers.
 *
 * Totals count since the start of the process, the series holds the last day, minute by minute, and
 * both come from finished requests alone. Money is what the price table of the configuration says;
 * without a price it is 0 and only tokens speak.
 */
#include "serve/kv_admin.h"
#include "serve/serve_int.h"

#include <stdio.h>

#define MINUTES_MAX   1440
#define MINUTES_USUAL 60

/* ---- stats ---- */

static void outcomes(struct lr_jw *w, const uint64_t n[6])
{
    for (int i = 0; i < 6; i++)
        lr_field_u64(w, lr_outcome_name((enum lr_outcome)i), n[i]);
}

static void savings(struct lr_jw *w, const struct lr_tally_row *t)
{
    lr_field_u64(w, "tokens_in_saved", t->tokens_in_saved);
    lr_field_u64(w, "tokens_out_saved", t->tokens_out_saved);
    lr_field_u64(w, "ms_saved", t->ms_saved);
    lr_field_real(w, "money_saved", t->money_saved);
    lr_field_real(w, "money_spent", t->money_spent);
}

/* Hits among the requests that could have been one: bypasses and errors are nobody's misses. */
static double hit_rate(const uint64_t n[6])
{
    uint64_t hits = n[LR_OUT_HIT] + n[LR_OUT_STALE],
             all = hits + n[LR_OUT_MISS] + n[LR_OUT_COALESCED];
    return all ? (double)hits / (double)all : 0;
}

static void write_totals(struct lr_req *r, struct lr_jw *w)
{
    struct lr_tally_row t;
    lr_tally_total(r->serve->tally, &t);
    lr_jw_key(w, "totals");
    lr_jw_obj(w);
    outcomes(w, t.n);
    lr_field_real(w, "hit_rate", hit_rate(t.n));
    savings(w, &t);
    lr_field_u64(w, "raw_hits", (uint64_t)lr_metric_get(LR_M_RAW_HIT));
    lr_field_u64(w, "bad_hits", (uint64_t)lr_metric_get(LR_M_FEEDBACK_BAD));
    lr_jw_end(w);
}

static void write_latency(struct lr_jw *w)
{
    static const struct {
        const char *name;
        enum lr_histogram h;
    } all[] = {{"hit", LR_H_HIT}, {"miss", LR_H_MISS}, {"upstream", LR_H_UPSTREAM_FIRST}};
    lr_jw_key(w, "first_byte_us");
    lr_jw_obj(w);
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        lr_jw_key(w, all[i].name);
        lr_jw_obj(w);
        lr_field_u64(w, "count", lr_histogram_count(all[i].h));
        lr_field_u64(w, "p50", lr_histogram_quantile(all[i].h, 0.5) / LR_US);
        lr_field_u64(w, "p99", lr_histogram_quantile(all[i].h, 0.99) / LR_US);
        lr_jw_end(w);
    }
    lr_jw_end(w);
}

static void write_store(struct lr_req *r, struct lr_jw *w)
{
    struct lr_answer_stats st;
    lr_answer_stats(r->serve->answer, &st);
    lr_jw_key(w, "store");
    lr_jw_obj(w);
    lr_field_u64(w, "entries", st.entries);
    lr_field_u64(w, "bytes", st.bytes);
    lr_field_u64(w, "bytes_max", st.bytes_max);
    lr_field_u64(w, "hot_entries", st.hot_entries);
    lr_field_u64(w, "hot_bytes", st.hot_bytes);
    lr_field_u64(w, "hot_max", st.hot_max);
    lr_field_u64(w, "index_bytes", st.index_bytes);
    lr_field_u64(w, "queued", st.queued);
    lr_field_u64(w, "evicted", (uint64_t)lr_metric_get(LR_M_EVICTED));
    lr_field_u64(w, "expired", (uint64_t)lr_metric_get(LR_M_EXPIRED));
    lr_field_u64(w, "corrupt", (uint64_t)lr_metric_get(LR_M_CORRUPT));
    lr_jw_end(w);
}

static void write_reasons(struct lr_req *r, struct lr_jw *w, struct lr_tally_row *rows)
{
    size_t n = lr_tally_reasons(r->serve->tally, rows);
    lr_jw_key(w, "reasons");
    lr_jw_obj(w);
    for (size_t i = 0; i < n; i++)
        lr_field_u64(w, rows[i].name, rows[i].n[0]);
    lr_jw_end(w);
}

static void write_tenants(struct lr_req *r, struct lr_jw *w, struct lr_tally_row *rows)
{
    char hex[17];
    size_t n = lr_tally_tenants(r->serve->tally, rows);
    lr_jw_key(w, "tenants");
    lr_jw_arr(w);
    for (size_t i = 0; i < n; i++) {
        lr_jw_obj(w);
        lr_hex(&rows[i].id, 8, hex);
        lr_field_text(w, "id", hex);
        lr_field_text(w, "name", rows[i].name);
        outcomes(w, rows[i].n);
        savings(w, &rows[i]);
        lr_jw_end(w);
    }
    lr_jw_end(w);
}

static void write_series(struct lr_jw *w, const struct lr_minute *m, size_t n)
{
    lr_jw_key(w, "series");
    lr_jw_arr(w);
    for (size_t i = 0; i < n; i++) {
        uint64_t hits = m[i].n[LR_OUT_HIT] + m[i].n[LR_OUT_STALE], misses = m[i].n[LR_OUT_MISS];
        lr_jw_obj(w);
        lr_field_u64(w, "minute", m[i].minute);
        outcomes(w, m[i].n);
        lr_field_u64(w, "tokens_saved", m[i].tokens_saved);
        lr_field_u64(w, "ms_saved", m[i].ms_saved);
        lr_field_real(w, "money_saved", m[i].money_saved);
        lr_field_u64(w, "hit_us", hits ? m[i].hit_ns / hits / LR_US : 0);
        lr_field_u64(w, "miss_us", misses ? m[i].miss_ns / misses / LR_US : 0);
        lr_jw_end(w);
    }
    lr_jw_end(w);
}

/* The currency of all prices; "mixed" when they disagree: sums of money then mean little. */
static const char *currency(const struct lr_config *c)
{
    const char *name = "";
    for (size_t i = 0; i < c->prices.n; i++)
        if (*name && strcmp(name, c->prices.v[i].currency) != 0)
            return "mixed";
        else
            name = c->prices.v[i].currency;
    return name;
}

/* ---- models of this machine ---- */

static void write_model(struct lr_jw *w, const struct lr_local *l)
{
    struct lr_engine_sched_stats st;
    lr_engine_sched_stats(l->sched, &st);
    lr_jw_obj(w);
    lr_field_text(w, "name", l->name);
    lr_field_bool(w, "up", !st.failed);
    lr_field_u64(w, "context", lr_engine_sched_context(l->sched));
    lr_field_text(w, "policy", l->stack.text);
    lr_field_u64(w, "running", st.running);
    lr_field_u64(w, "waiting", st.waiting);
    lr_field_u64(w, "kept", st.kept);
    lr_field_u64(w, "jobs", st.jobs);
    lr_field_u64(w, "refused", st.refused);
    lr_field_u64(w, "preempted", st.preempted);
    lr_field_u64(w, "prompt_tokens", st.prompt_tokens);
    lr_field_u64(w, "cached_tokens", st.cached_tokens);
    lr_field_u64(w, "reply_tokens", st.reply_tokens);
    lr_field_u64(w, "steps", st.steps);
    lr_field_u64(w, "step_tokens", st.step_tokens);
    lr_field_u64(w, "busy_ms", st.busy_ns / LR_MS);
    lr_field_u64(w, "weights_bytes", l->plan.bytes_weights);
    lr_field_u64(w, "scratch_bytes", l->plan.bytes_scratch);
    lr_field_u64(w, "kv_used", st.memory.bytes_used);
    lr_field_u64(w, "kv_promised", st.memory.bytes_promised);
    lr_field_u64(w, "kv_max", st.memory.bytes_max);
    lr_jw_end(w);
}

static void write_models(const struct lr_serve *s, struct lr_jw *w)
{
    lr_jw_key(w, "models");
    lr_jw_arr(w);
    for (size_t i = 0; i < s->locals.n; i++)
        write_model(w, &s->locals.v[i]);
    lr_jw_end(w);
}

void lr_verb_stats(struct lr_req *r)
{
    uint64_t minutes = MINUTES_USUAL;
    struct lr_jw w;
    if (!lr_admin_number(r, "minutes", MINUTES_MAX, &minutes))
        return;
    struct lr_minute *m = lr_arena_array(&r->arena, struct lr_minute, (size_t)minutes);
    struct lr_tally_row *rows =
        lr_arena_array(&r->arena, struct lr_tally_row, LR_TALLY_TENANTS + 1);
    if ((minutes && !m) || !rows) {
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the numbers");
        return;
    }
    _Static_assert(LR_TALLY_REASONS <= LR_TALLY_TENANTS, "one buffer serves both");
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_field_text(&w, "version", LR_VERSION);
    lr_field_u64(&w, "now_ms", r->wall_ms);
    lr_field_u64(&w, "uptime_ms",
                 r->wall_ms > r->serve->started_ms ? r->wall_ms - r->serve->started_ms : 0);
    lr_field_text(&w, "currency", currency(r->conf->c));
    lr_field_u64(&w, "flights", lr_flights_count(r->serve->flights));
    write_totals(r, &w);
    write_latency(&w);
    write_store(r, &w);
    lr_kv_stats_write(r->serve, &w);
    write_models(r->serve, &w);
    write_reasons(r, &w, rows);
    write_tenants(r, &w, rows);
    write_series(&w, m, minutes ? lr_traces_minutes(r->serve->traces, m, (size_t)minutes) : 0);
    lr_jw_end(&w);
}

/* ---- instances ---- */

static const char *breaker(const struct lr_upstream *u, uint64_t now_ns)
{
    uint64_t until = atomic_load(&u->state->open_until_ns);
    return !until ? "closed" : until > now_ns ? "open" : "trial";
}

void lr_verb_instances(struct lr_req *r)
{
    struct lr_jw w;
    uint64_t now = lr_clock_mono_ns();
    lr_jw_init(&w, &r->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "instances");
    lr_jw_arr(&w);
    for (size_t i = 0; i < r->conf->n_ups; i++) {
        const struct lr_upstream *u = &r->conf->ups[i];
        lr_jw_obj(&w);
        lr_field_text(&w, "name", u->name);
        lr_field_text(&w, "host", u->host);
        lr_field_text(&w, "dialect", u->speaks == LR_SPEAKS_ANTHROPIC ? "anthropic" : "openai");
        lr_field_bool(&w, "up", lr_up_ready(u, now));
        lr_field_text(&w, "breaker", breaker(u, now));
        lr_field_bool(&w, "probe_bad", atomic_load(&u->state->probe_bad));
        lr_field_u64(&w, "inflight", atomic_load(&u->state->inflight));
        lr_field_u64(&w, "first_byte_us", atomic_load(&u->state->ewma_us));
        lr_field_u64(&w, "tries", atomic_load(&u->state->tries));
        lr_field_u64(&w, "fails", atomic_load(&u->state->fails));
        lr_field_u64(&w, "failures_in_a_row", atomic_load(&u->state->failures));
        lr_field_u64(&w, "weight", u->opt->weight);
        lr_jw_key(&w, "models");
        lr_jw_arr(&w);
        for (size_t k = 0; k < u->opt->models.n; k++)
            lr_jw_strz(&w, u->opt->models.v[k]);
        lr_jw_end(&w);
        lr_jw_end(&w);
    }
    lr_jw_end(&w);
    lr_jw_end(&w);
}

/* ---- config ---- */

/* "name: value" -> "name: (hidden)": an extra header may carry a key. */
static char *hide_after(struct lr_arena *a, const char *s, char sep, const char *glue)
{
    char text[512];
    const char *at = strchr(s, sep);
    int n =
        snprintf(text, sizeof text, "%.*s%s(hidden)", at ? (int)(at - s) : 0, s, at ? glue : "");
    return n < 0 ? NULL : lr_arena_strz(a, lr_strz(text)); /* cut to fit */
}

/* Whatever may hold a secret by an operator's choice: header values, query values, a proxy's
 * password. */
static bool hide(struct lr_arena *a, struct lr_opt_upstream *u)
{
    char **v = lr_arena_array(a, char *, u->headers.n);
    bool ok = v || !u->headers.n;
    for (size_t i = 0; v && i < u->headers.n; i++)
        ok &= (v[i] = hide_after(a, u->headers.v[i], ':', ": ")) != NULL;
    u->headers.v = v;
    if (*u->query)
        ok &= (u->query = hide_after(a, u->query, '=', "=")) != NULL;
    const char *at = strrchr(u->proxy, '@');
    if (at) {
        char text[512];
        int n = snprintf(text, sizeof text, "(hidden)%s", at);
        ok &= n >= 0 && (u->proxy = lr_arena_strz(a, lr_strz(text))) != NULL;
    }
    return ok;
}

void lr_verb_config(struct lr_req *r)
{
    struct lr_config shown = *r->conf->c;
    struct lr_opt_upstream *ups =
        lr_arena_array(&r->arena, struct lr_opt_upstream, shown.upstreams.n);
    bool ok = ups || !shown.upstreams.n;
    for (size_t i = 0; ok && i < shown.upstreams.n; i++) {
        ups[i] = r->conf->c->upstreams.v[i];
        ok = hide(&r->arena, &ups[i]);
    }
    shown.upstreams.v = ups;
    r->admin.type = "application/yaml; charset=utf-8";
    if (!ok || lr_config_print(&shown, &r->out))
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the configuration");
}
