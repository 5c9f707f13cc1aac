/* SPDX-License-Identifier: Apache-2.0
 * bench/evict.h - what the eviction bench's three files share.
 */
#ifndef LR_BENCH_EVICT_H
#define LR_BENCH_EVICT_H

#include "base/base.h"

struct bench_obj {
    uint32_t bytes;
    float cost; /* of one miss */
};

/* A stream of requests to objects 0 .. n_objs - 1. Arrays are the stream's own. */
struct bench_stream {
    uint32_t *ids; /* n requests */
    size_t n;
    struct bench_obj *objs;
    size_t n_objs;
    uint64_t footprint; /* bytes of all objects that occur */
    bool unit;          /* every object has one size: Belady is the optimum */
};

/* Rates over the whole stream, first misses included, each in [0, 1]. */
struct bench_rates {
    double hit, byte_hit, saved; /* saved: cost of the hits over cost of all requests */
};

void bench_stream_free(struct bench_stream *s);
/* Sums up footprint and unit from ids and objs. */
int bench_stream_seal(struct bench_stream *s);

/* evict_trace.c: JSONL with hash_ids, one request a line; path "-" is standard input. */
int bench_trace_read(const char *path, struct bench_stream *out, struct lr_err *err);

/* Ceilings; see evict_bound.c. */
int bench_belady(const struct bench_stream *s, uint64_t bytes_max, struct bench_rates *out);
int bench_pfoo(const struct bench_stream *s, uint64_t bytes_max, struct bench_rates *out);

#endif
