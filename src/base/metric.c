/* SPDX-License-Identifier: Apache-2.0
 * base/metric.c - storage and text of the metrics listed in metric.def.
 *
 * The list is expanded four times: two enums (metric.h), the storage sized by them, and the table
 * of rows below, which keeps the order of the file. Text is made row by row; HELP and TYPE are
 * written when the name differs from the row before, which is why rows of a family stand together.
 *
 * A counter or gauge is one relaxed atomic on a cache line of its own, so that two threads that
 * count different things do not fight. A histogram's buckets share lines: an add touches one bucket
 * and the sum, and neighbours in time fall into neighbouring buckets anyway. Bucket k holds
 * durations up to 2^k us, the last one everything longer:
 *
 *     k      0     1     2   ...    10   ...    20   ...      30      31
 *     up to  1us   2us   4us      1.02ms      1.05s       17.9min    +Inf
 *
 * A reader adds the buckets up itself, so _count and the +Inf bucket agree by construction; _sum
 * may be ahead of or behind them by the adds in flight. Per-thread counters were considered: a
 * relaxed add costs 5 ns and a histogram's 10 ns uncontended, and a request makes a handful.
 *
 * Text format: Prometheus exposition format 0.0.4.
 */
#include "base/base.h"

#include <stdatomic.h>
#include <stdio.h>

#define BUCKETS 32 /* the last one is +Inf */

struct slot {
    _Alignas(64) atomic_int_fast64_t v;
};

struct histogram {
    _Alignas(64) atomic_uint_fast64_t sum_ns;
    atomic_uint_fast64_t n[BUCKETS];
};

static struct slot slots[LR_M_COUNT];
static struct histogram histograms[LR_H_COUNT];

static const struct row {
    enum { IS_COUNTER, IS_GAUGE, IS_HISTOGRAM } kind;
    unsigned id; /* LR_M_* or LR_H_* */
    const char *name, *labels, *help;
} rows[] = {
#define COUNTER(id, name, labels, help) {IS_COUNTER, LR_M_##id, name, labels, help},
#define GAUGE(id, name, labels, help) {IS_GAUGE, LR_M_##id, name, labels, help},
#define HISTOGRAM(id, name, labels, help) {IS_HISTOGRAM, LR_H_##id, name, labels, help},
#include "base/metric.def"
};

void lr_metric_add(enum lr_metric m, int64_t v)
{
    atomic_fetch_add_explicit(&slots[m].v, v, memory_order_relaxed);
}

void lr_metric_set(enum lr_metric m, int64_t v)
{
    atomic_store_explicit(&slots[m].v, v, memory_order_relaxed);
}

int64_t lr_metric_get(enum lr_metric m)
{
    return atomic_load_explicit(&slots[m].v, memory_order_relaxed);
}

/* ---- histograms ---- */

static uint64_t bound_ns(unsigned bucket)
{
    return LR_US << bucket;
}

/* The first bucket whose bound is at least ns. */
static unsigned bucket_of(uint64_t ns)
{
    uint64_t us = ns / LR_US + (ns % LR_US != 0);
    unsigned k = us <= 1 ? 0 : 64U - (unsigned)__builtin_clzll(us - 1);
    return k < BUCKETS - 1 ? k : BUCKETS - 1;
}

void lr_histogram_add(enum lr_histogram h, uint64_t ns)
{
    struct histogram *at = &histograms[h];
    atomic_fetch_add_explicit(&at->n[bucket_of(ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&at->sum_ns, ns, memory_order_relaxed);
}

/* Adds the buckets up: up_to[k] counts buckets 0..k. */
static uint64_t accumulate(enum lr_histogram h, uint64_t up_to[BUCKETS])
{
    uint64_t n = 0;
    for (unsigned k = 0; k < BUCKETS; k++)
        up_to[k] = n += atomic_load_explicit(&histograms[h].n[k], memory_order_relaxed);
    return n;
}

uint64_t lr_histogram_count(enum lr_histogram h)
{
    uint64_t up_to[BUCKETS];
    return accumulate(h, up_to);
}

uint64_t lr_histogram_quantile(enum lr_histogram h, double q)
{
    uint64_t up_to[BUCKETS], n = accumulate(h, up_to);
    if (n == 0)
        return 0;
    double rank = q * (double)n;
    unsigned k = 0;
    while (k < BUCKETS - 2 && (up_to[k] == 0 || (double)up_to[k] < rank))
        k++;
    return bound_ns(k);
}

/* ---- text ---- */

static void write_head(const struct row *r, struct lr_buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    lr_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", r->name, r->help, r->name, types[r->kind]);
}

/* name_suffix{labels,le="..."} with whatever of it there is. */
static void write_name(const struct row *r, const char *suffix, const char *le, struct lr_buf *out)
{
    lr_buf_addf(out, "%s%s", r->name, suffix);
    if (*r->labels || le)
        lr_buf_addf(out, "{%s%s%s%s%s}", r->labels, *r->labels && le ? "," : "",
                    le ? "le=\"" : "", le ? le : "", le ? "\"" : "");
    lr_buf_addc(out, ' ');
}

static void write_histogram(const struct row *r, struct lr_buf *out)
{
    uint64_t up_to[BUCKETS], n = accumulate((enum lr_histogram)r->id, up_to);
    uint64_t sum = atomic_load_explicit(&histograms[r->id].sum_ns, memory_order_relaxed);
    for (unsigned k = 0; k < BUCKETS; k++) {
        char le[32] = "+Inf";
        if (k < BUCKETS - 1 && snprintf(le, sizeof le, "%.10g", (double)bound_ns(k) / 1e9) < 0)
            le[0] = 0;
        write_name(r, "_bucket", le, out);
        lr_buf_addf(out, "%llu\n", (unsigned long long)up_to[k]);
    }
    write_name(r, "_sum", NULL, out);
    lr_buf_addf(out, "%llu.%09llu\n", (unsigned long long)(sum / LR_SEC),
                (unsigned long long)(sum % LR_SEC));
    write_name(r, "_count", NULL, out);
    lr_buf_addf(out, "%llu\n", (unsigned long long)n);
}

int lr_metric_write(struct lr_buf *out)
{
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        const struct row *r = &rows[i];
        if (i == 0 || strcmp(r->name, rows[i - 1].name) != 0)
            write_head(r, out);
        if (r->kind == IS_HISTOGRAM) {
            write_histogram(r, out);
            continue;
        }
        write_name(r, "", NULL, out);
        lr_buf_addf(out, "%lld\n", (long long)lr_metric_get((enum lr_metric)r->id));
    }
    return out->rc;
}
