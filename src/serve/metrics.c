/* SPDX-License-Identifier: Apache-2.0
 * serve/metrics.c - GET /metrics: the fixed rows of base/metric.def, and the families with labels
 * that only a running house knows: one row an upstream, one a local model, and by tenant
 * (LR_TALLY_TENANTS of them, then "other").
 *
 * Label values are names that the operator chose (upstreams, managed tenants) or that we made
 * (tenants of pass-through); they are escaped as the text format asks. Nothing a client writes
 * becomes a label, and the number of rows is bounded. Format: Prometheus exposition format 0.0.4.
 */
#include "serve/serve_int.h"

static void label(struct lr_buf *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '\\' || *s == '"')
            lr_buf_addc(out, '\\');
        if (*s == '\n')
            lr_buf_addz(out, "\\n");
        else
            lr_buf_addc(out, *s);
    }
}

static void head(struct lr_buf *out, const char *name, const char *type, const char *help)
{
    lr_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void row(struct lr_buf *out, const char *name, const char *key, const char *value, double v)
{
    lr_buf_addf(out, "%s{%s=\"", name, key);
    label(out, value);
    lr_buf_addf(out, "\"} %.15g\n", v);
}

/* ---- upstreams ---- */

static double up_now(const struct lr_upstream *u)
{
    return lr_up_ready(u, lr_clock_mono_ns());
}

static double up_inflight(const struct lr_upstream *u)
{
    return atomic_load(&u->state->inflight);
}

static double up_tries(const struct lr_upstream *u)
{
    return (double)atomic_load(&u->state->tries);
}

static double up_fails(const struct lr_upstream *u)
{
    return (double)atomic_load(&u->state->fails);
}

static const struct {
    const char *name, *type, *help;
    double (*get)(const struct lr_upstream *);
} up_families[] = {
    {"larder_upstream_up", "gauge", "1: healthy and its breaker closed", up_now},
    {"larder_upstream_inflight", "gauge", "requests at this upstream now", up_inflight},
    {"larder_upstream_tries_total", "counter", "requests sent to this upstream", up_tries},
    {"larder_upstream_fails_total", "counter", "requests it failed, or answered 429 or 5xx",
     up_fails},
};

static void write_upstreams(const struct lr_conf *conf, struct lr_buf *out)
{
    for (size_t f = 0; f < LR_COUNT(up_families); f++) {
        head(out, up_families[f].name, up_families[f].type, up_families[f].help);
        for (size_t i = 0; i < conf->n_ups; i++)
            row(out, up_families[f].name, "upstream", conf->ups[i].name,
                up_families[f].get(&conf->ups[i]));
    }
}

/* ---- models of this machine ---- */

static const struct {
    const char *name, *type, *help;
    enum { M_PROMPT, M_CACHED, M_REPLY, M_STEPS, M_STEP_TOKENS, M_BUSY, M_RUNNING, M_WAITING, M_REFUSED,
           M_PREEMPTED, M_KEPT, M_KV, M_KV_MAX, M_UP, M_WARM_MEMORY, M_WARM_DISK, M_WARM_REMOTE,
           M_WARM_SAVED, M_WARM_LOST, M_SAVES, M_SAVES_DROPPED, M_IDLED } what;
} model_families[] = {
    {"larder_model_up", "gauge", "1: the model takes requests", M_UP},
    {"larder_model_prompt_tokens_total", "counter", "prompt tokens computed here", M_PROMPT},
    {"larder_model_cached_tokens_total", "counter", "prompt tokens found computed", M_CACHED},
    {"larder_model_reply_tokens_total", "counter", "tokens made here", M_REPLY},
    {"larder_model_steps_total", "counter", "steps of the engine", M_STEPS},
    {"larder_model_step_tokens_total", "counter", "tokens in all steps: by steps, the mean batch",
     M_STEP_TOKENS},
    {"larder_model_busy_seconds_total", "counter", "time in steps", M_BUSY},
    {"larder_model_running", "gauge", "replies and texts under way", M_RUNNING},
    {"larder_model_waiting", "gauge", "requests that wait", M_WAITING},
    {"larder_model_refused_total", "counter", "requests refused by a full queue", M_REFUSED},
    {"larder_model_preempted_total", "counter", "replies put aside for want of memory", M_PREEMPTED},
    {"larder_model_kept", "gauge", "finished conversations whose rows are kept", M_KEPT},
    {"larder_model_warm_memory_tokens_total", "counter",
     "prompt tokens whose rows came from the KV store's memory", M_WARM_MEMORY},
    {"larder_model_warm_disk_tokens_total", "counter", "from its disk", M_WARM_DISK},
    {"larder_model_warm_remote_tokens_total", "counter", "from another machine", M_WARM_REMOTE},
    {"larder_model_warm_seconds_saved_total", "counter", "computing spared, less loading: an estimate",
     M_WARM_SAVED},
    {"larder_model_warm_lost_blocks_total", "counter",
     "blocks of 256 tokens that were found and came damaged or late", M_WARM_LOST},
    {"larder_model_stored_blocks_total", "counter", "blocks of computed rows given to the KV store",
     M_SAVES},
    {"larder_model_stored_blocks_dropped_total", "counter", "blocks not given, for want of room or time",
     M_SAVES_DROPPED},
    {"larder_model_idled_total", "counter", "finished conversations that left their rows to the KV store",
     M_IDLED},
    {"larder_model_kv_bytes", "gauge", "bytes of KV pages in use", M_KV},
    {"larder_model_kv_bytes_max", "gauge", "bytes of the KV arena", M_KV_MAX},
};

static double model_value(const struct lr_engine_sched_stats *s, int what)
{
    switch (what) {
    case M_PROMPT:
        return (double)s->prompt_tokens;
    case M_CACHED:
        return (double)s->cached_tokens;
    case M_REPLY:
        return (double)s->reply_tokens;
    case M_STEPS:
        return (double)s->steps;
    case M_STEP_TOKENS:
        return (double)s->step_tokens;
    case M_BUSY:
        return (double)s->busy_ns / 1e9;
    case M_RUNNING:
        return s->running;
    case M_WAITING:
        return s->waiting;
    case M_REFUSED:
        return (double)s->refused;
    case M_PREEMPTED:
        return (double)s->preempted;
    case M_KEPT:
        return s->kept;
    case M_KV:
        return (double)s->memory.bytes_used;
    case M_KV_MAX:
        return (double)s->memory.bytes_max;
    case M_WARM_MEMORY:
        return (double)s->warm[LR_REUSE_MEMORY];
    case M_WARM_DISK:
        return (double)s->warm[LR_REUSE_DISK];
    case M_WARM_REMOTE:
        return (double)s->warm[LR_REUSE_REMOTE];
    case M_WARM_SAVED:
        return (double)s->saved_ns / 1e9;
    case M_WARM_LOST:
        return (double)(s->warm_failed + s->warm_late);
    case M_SAVES:
        return (double)s->saved;
    case M_SAVES_DROPPED:
        return (double)s->saves_dropped;
    case M_IDLED:
        return (double)s->idled;
    default:
        return !s->failed;
    }
}

static void write_models(const struct lr_locals *all, struct lr_buf *out)
{
    struct lr_engine_sched_stats st;
    for (size_t f = 0; f < LR_COUNT(model_families) && all->n; f++) {
        head(out, model_families[f].name, model_families[f].type, model_families[f].help);
        for (size_t i = 0; i < all->n; i++) {
            lr_engine_sched_stats(all->v[i].sched, &st);
            row(out, model_families[f].name, "model", all->v[i].name,
                model_value(&st, (int)model_families[f].what));
        }
    }
}

/* ---- tenants ---- */

static void outcome_rows(const struct lr_tally_row *t, struct lr_buf *out)
{
    for (int i = 0; i < 6; i++) {
        lr_buf_addz(out, "larder_tenant_requests_total{tenant=\"");
        label(out, t->name);
        lr_buf_addf(out, "\",cache=\"%s\"} %llu\n", lr_outcome_name((enum lr_outcome)i),
                    (unsigned long long)t->n[i]);
    }
}

static double tokens_saved(const struct lr_tally_row *t)
{
    return (double)(t->tokens_in_saved + t->tokens_out_saved);
}

static void write_tenants(const struct lr_tally_row *t, size_t n, struct lr_buf *out)
{
    head(out, "larder_tenant_requests_total", "counter", "finished requests by tenant and outcome");
    for (size_t i = 0; i < n; i++)
        outcome_rows(&t[i], out);
    head(out, "larder_tenant_saved_tokens_total", "counter",
         "tokens not asked upstream, by tenant");
    for (size_t i = 0; i < n; i++)
        row(out, "larder_tenant_saved_tokens_total", "tenant", t[i].name, tokens_saved(&t[i]));
    head(out, "larder_tenant_saved_money_total", "counter", "money not spent upstream, by tenant");
    for (size_t i = 0; i < n; i++)
        row(out, "larder_tenant_saved_money_total", "tenant", t[i].name, t[i].money_saved);
}

static void alone(struct lr_buf *out, const char *name, const char *type, const char *help,
                  double v)
{
    head(out, name, type, help);
    lr_buf_addf(out, "%s %.15g\n", name, v);
}

void lr_verb_metrics(struct lr_req *r)
{
    struct lr_tally_row *rows =
        lr_arena_array(&r->arena, struct lr_tally_row, LR_TALLY_TENANTS + 1);
    struct lr_tally_row total;
    struct lr_buf *out = &r->out;
    r->admin.type = "text/plain; version=0.0.4; charset=utf-8";
    if (!rows || lr_metric_write(out)) {
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the metrics");
        return;
    }
    lr_tally_total(r->serve->tally, &total);
    head(out, "larder_build_info", "gauge", "1; the version is the label");
    row(out, "larder_build_info", "version", LR_VERSION, 1);
    alone(out, "larder_start_time_seconds", "gauge", "when this process started, Unix time",
          (double)r->serve->started_ms / 1000);
    alone(out, "larder_saved_seconds_total", "counter", "upstream time that hits did not wait for",
          (double)total.ms_saved / 1000);
    alone(out, "larder_saved_money_total", "counter", "money not spent, by the price table",
          total.money_saved);
    alone(out, "larder_spent_money_total", "counter", "money spent on misses, by the price table",
          total.money_spent);
    write_upstreams(r->conf, out);
    write_models(&r->serve->locals, out);
    write_tenants(rows, lr_tally_tenants(r->serve->tally, rows), out);
    lr_kv_metrics(r->serve, out);
}
