/* SPDX-License-Identifier: Apache-2.0
 * base/metric.h - counters, gauges and latency histograms with names fixed at compile time.
 *
 * The rows are in metric.def: one list makes the enum, the storage and the Prometheus text.
 * Adds are relaxed atomics on their own cache line; readers see each value whole, not a snapshot of
 * all.
 */
#ifndef LR_BASE_METRIC_H
#define LR_BASE_METRIC_H

#include "base/buf.h"

enum lr_metric {
#define COUNTER(id, name, labels, help) LR_M_##id,
#define GAUGE(id, name, labels, help) LR_M_##id,
#define HISTOGRAM(id, name, labels, help)
#include "base/metric.def"
    LR_M_COUNT
};

enum lr_histogram {
#define COUNTER(id, name, labels, help)
#define GAUGE(id, name, labels, help)
#define HISTOGRAM(id, name, labels, help) LR_H_##id,
#include "base/metric.def"
    LR_H_COUNT
};

void lr_metric_add(enum lr_metric m, int64_t v);
void lr_metric_set(enum lr_metric m, int64_t v);
int64_t lr_metric_get(enum lr_metric m);

/* Durations in ns; buckets are powers of two from 1 us to 17 min, shown in seconds. */
void lr_histogram_add(enum lr_histogram h, uint64_t ns);
/* The upper bound of the bucket that holds quantile q, in ns; 0 when empty. Durations beyond the
 * last bound (17 min) count as that bound. */
uint64_t lr_histogram_quantile(enum lr_histogram h, double q);
uint64_t lr_histogram_count(enum lr_histogram h);

/* Appends all rows in Prometheus text format 0.0.4. */
int lr_metric_write(struct lr_buf *out);

#endif
