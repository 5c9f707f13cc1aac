/* SPDX-License-Identifier: Apache-2.0
 * serve/metrics.c - GET /metrics: the fixed rows of base/metric.def, and the families with labels
 * that only a running house knows: one row an upstream, and by tenant (LR_TALLY_TENANTS of them,
 * then "other").
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
    write_tenants(rows, lr_tally_tenants(r->serve->tally, rows), out);
}
