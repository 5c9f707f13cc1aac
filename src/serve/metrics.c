/* SPDX-License-Identifier: Apache-2.0
 * serve/metrics.c - GET /metrics: the fixed rows of base/metric.def, and the families with labels that
 * only a running house knows: one row an upstream.
 *
 * Label values are names that the operator chose (upstreams) or that we made (tenants); they are escaped
 * as the text format asks. Nothing a client writes becomes a label, so the number of rows is bounded by
 * the configuration. Format: Prometheus exposition format 0.0.4.
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
    {"larder_upstream_fails_total", "counter", "requests it failed, or answered 429 or 5xx", up_fails},
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

int lr_metrics_write(struct lr_serve *s, const struct lr_conf *conf, struct lr_buf *out)
{
    LR_TRY(lr_metric_write(out));
    head(out, "larder_build_info", "gauge", "1; the version is the label");
    row(out, "larder_build_info", "version", LR_VERSION, 1);
    head(out, "larder_start_time_seconds", "gauge", "when this process started, Unix time");
    lr_buf_addf(out, "larder_start_time_seconds %.3f\n", (double)s->started_ms / 1000);
    write_upstreams(conf, out);
    return out->rc;
}
