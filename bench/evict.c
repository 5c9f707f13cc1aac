/* SPDX-License-Identifier: Apache-2.0
 * bench/evict.c - hit rate, byte hit rate and saved cost of the eviction strategies; one JSON line
 * a result. docs/evict.md holds the table this printed.
 *
 *   bench_evict [--seeds N] [--requests N] [--objects N] [--stream NAME]     generated streams
 *   bench_evict --trace FILE|-                                               JSONL with hash_ids
 *
 * Streams. Objects stand for stored answers: bytes are log-normal (median 2 KiB, sigma 1), the cost
 * of a miss is bytes * price of the model * noise: price is 1, 4 or 16 (models of three classes, as
 * likely), noise log-normal with sigma 0.5; so cost and size go together, and cost per byte
 * differs.
 *   zipf-A    popularity rank^-A, independent requests
 *   shift     zipf-0.9; every tenth of the run the ranks move on by a fifth of the objects
 *   scan      zipf-0.9; every 20th of the run is followed by one walk over objects / 5 others
 *   one-hit   zipf-0.9, but each second request is to a new object that never comes again
 *   flat-1.0  zipf-1.0 with all sizes and costs the same: Belady's optimum is computable
 * Cache sizes are shares of the footprint (all bytes that occur). Rates are over the whole run.
 * Each seed is one run; the median is printed, and the spread is largest minus smallest.
 */
#include "evict.h"
#include "evict/evict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SEEDS_MAX 64
static const unsigned percents[] = {1, 5, 20, 50};

struct shape {
    const char *name;
    double alpha;
    bool shift, scan, one_hit, flat;
};
static const struct shape shapes[] = {
    {.name = "zipf-0.6", .alpha = 0.6},
    {.name = "zipf-0.8", .alpha = 0.8},
    {.name = "zipf-1.0", .alpha = 1.0},
    {.name = "zipf-1.2", .alpha = 1.2},
    {.name = "shift", .alpha = 0.9, .shift = true},
    {.name = "scan", .alpha = 0.9, .scan = true},
    {.name = "one-hit", .alpha = 0.9, .one_hit = true},
    {.name = "flat-1.0", .alpha = 1.0, .flat = true},
};

struct plan {
    size_t seeds, requests, objects;
    const char *stream, *trace;
};

void bench_stream_free(struct bench_stream *s)
{
    lr_free(s->ids);
    lr_free(s->objs);
    *s = (struct bench_stream){0};
}

int bench_stream_seal(struct bench_stream *s)
{
    bool *seen = lr_calloc(s->n_objs, sizeof *seen);
    LR_FAIL_IF(!seen, LR_ENOMEM);
    s->footprint = 0;
    s->unit = true;
    for (size_t i = 0; i < s->n; i++) {
        uint32_t id = s->ids[i];
        if (!seen[id])
            s->footprint += s->objs[id].bytes;
        seen[id] = true;
        s->unit &= s->objs[id].bytes == s->objs[0].bytes;
    }
    lr_free(seen);
    return 0;
}

static double gauss(struct lr_rng *r)
{
    double u = 1 - lr_rng_unit(r), v = lr_rng_unit(r);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

static struct bench_obj new_obj(struct lr_rng *r, bool flat)
{
    if (flat)
        return (struct bench_obj){2048, 1};
    double bytes = 2048 * exp(gauss(r));
    bytes = bytes < 64 ? 64 : bytes > 1 << 20 ? 1 << 20 : bytes;
    double price = (double)(1u << (2 * lr_rng_below(r, 3)));
    return (struct bench_obj){(uint32_t)bytes, (float)(bytes * price * exp(0.5 * gauss(r)))};
}

/* cdf[i]: probability of a rank <= i. */
static double *zipf(size_t n, double alpha)
{
    double *cdf = lr_calloc(n, sizeof *cdf), sum = 0;
    if (!cdf)
        return NULL;
    for (size_t i = 0; i < n; i++)
        cdf[i] = sum += pow((double)(i + 1), -alpha);
    for (size_t i = 0; i < n; i++)
        cdf[i] /= sum;
    return cdf;
}

static size_t draw(const double *cdf, size_t n, struct lr_rng *r)
{
    double u = lr_rng_unit(r);
    size_t lo = 0, hi = n - 1;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (cdf[mid] > u)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static void fill_ids(struct bench_stream *s, const struct shape *sh, size_t objects,
                     const double *cdf, struct lr_rng *r)
{
    size_t fresh = objects, epoch = s->n / 10 + 1, lap = s->n / 20 + 1, walk = objects / 5;
    size_t scanning = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (sh->scan && i % lap == lap - 1)
            scanning = walk;
        if (scanning) {
            s->ids[i] = (uint32_t)(objects + --scanning);
            continue;
        }
        if (sh->one_hit && i % 2) {
            s->ids[i] = (uint32_t)fresh++;
            continue;
        }
        size_t rank = draw(cdf, objects, r);
        if (sh->shift)
            rank = (rank + i / epoch * (objects / 5)) % objects;
        s->ids[i] = (uint32_t)rank;
    }
}

static int generate(const struct shape *sh, const struct plan *p, uint64_t seed,
                    struct bench_stream *out)
{
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    struct bench_stream s = {.n = p->requests};
    s.n_objs = p->objects + (sh->one_hit ? p->requests / 2 + 1 : sh->scan ? p->objects / 5 : 0);
    s.ids = lr_calloc(s.n, sizeof *s.ids);
    s.objs = lr_calloc(s.n_objs, sizeof *s.objs);
    double *cdf = zipf(p->objects, sh->alpha);
    int rc = s.ids && s.objs && cdf ? 0 : LR_ENOMEM;
    if (!rc) {
        for (size_t i = 0; i < s.n_objs; i++)
            s.objs[i] = new_obj(&r, sh->flat);
        fill_ids(&s, sh, p->objects, cdf, &r);
        rc = bench_stream_seal(&s);
    }
    lr_free(cdf);
    if (rc)
        bench_stream_free(&s);
    else
        *out = s;
    return rc;
}

static uint64_t key_of(uint32_t id)
{
    uint64_t z = (id + 1ull) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 32) * 0xD6E8FEB86659FD93ull;
    return z ^ z >> 32;
}

struct entry {
    struct lr_evict_node node;
    bool held;
};

static int run(const struct lr_evict_ops *ops, const struct bench_stream *s, uint64_t bytes_max,
               struct bench_rates *out)
{
    struct entry *entries = lr_calloc(s->n_objs, sizeof *entries);
    LR_FAIL_IF(!entries, LR_ENOMEM);
    struct lr_evict *e;
    int rc = ops->open(&e, bytes_max);
    if (rc)
        goto undo_entries;
    double got[3] = {0}, all[3] = {0};
    uint64_t used = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct entry *x = &entries[s->ids[i]];
        struct bench_obj o = s->objs[s->ids[i]];
        double v[3] = {1, (double)o.bytes, (double)o.cost};
        for (int k = 0; k < 3; k++) {
            all[k] += v[k];
            got[k] += x->held ? v[k] : 0;
        }
        if (x->held) {
            ops->hit(e, &x->node);
            continue;
        }
        x->node = (struct lr_evict_node){
            .key = key_of(s->ids[i]), .bytes = o.bytes, .cost = o.cost};
        x->held = true;
        ops->insert(e, &x->node);
        for (used += o.bytes; used > bytes_max;) {
            struct lr_evict_node *n = ops->victim(e, true);
            ops->remove(e, n);
            LR_CONTAINER(n, struct entry, node)->held = false;
            used -= n->bytes;
        }
    }
    ops->close(e);
    *out = (struct bench_rates){got[0] / all[0], got[1] / all[1], got[2] / all[2]};
undo_entries:
    lr_free(entries);
    return rc;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_rate(const char *name, const struct bench_rates *r, size_t n, size_t offset)
{
    double v[SEEDS_MAX];
    for (size_t i = 0; i < n; i++)
        memcpy(&v[i], (const char *)&r[i] + offset, sizeof v[i]);
    qsort(v, n, sizeof *v, ascending);
    double mid = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    printf(",\"%s\":%.4f,\"%s_spread\":%.4f", name, mid, name, v[n - 1] - v[0]);
}

static void print_line(const char *stream, unsigned percent, const char *who,
                       const struct bench_rates *r, size_t n)
{
    printf("{\"bench\":\"evict\",\"stream\":\"%s\",\"cache_percent\":%u,\"strategy\":\"%s\","
           "\"seeds\":%zu",
           stream, percent, who, n);
    print_rate("hit", r, n, offsetof(struct bench_rates, hit));
    print_rate("byte_hit", r, n, offsetof(struct bench_rates, byte_hit));
    print_rate("saved", r, n, offsetof(struct bench_rates, saved));
    puts("}");
    fflush(stdout);
}

/* Every strategy and every computable ceiling on n runs of one kind of stream. */
static int compare(const char *name, const struct bench_stream *s, size_t n)
{
    struct bench_rates r[SEEDS_MAX];
    for (size_t p = 0; p < LR_COUNT(percents); p++) {
        for (size_t k = 0; lr_evict_all[k]; k++) {
            for (size_t i = 0; i < n; i++)
                LR_TRY(run(lr_evict_all[k], &s[i], s[i].footprint * percents[p] / 100, &r[i]));
            print_line(name, percents[p], lr_evict_all[k]->name, r, n);
        }
        if (s[0].unit) {
            for (size_t i = 0; i < n; i++)
                LR_TRY(bench_belady(&s[i], s[i].footprint * percents[p] / 100, &r[i]));
            print_line(name, percents[p], "optimum-belady", r, n);
        }
        for (size_t i = 0; i < n; i++)
            LR_TRY(bench_pfoo(&s[i], s[i].footprint * percents[p] / 100, &r[i]));
        print_line(name, percents[p], "bound-pfoo", r, n);
    }
    return 0;
}

static int compare_shape(const struct shape *sh, const struct plan *p)
{
    struct bench_stream s[SEEDS_MAX] = {0};
    int rc = 0;
    for (size_t i = 0; !rc && i < p->seeds; i++)
        rc = generate(sh, p, i + 1, &s[i]);
    if (!rc)
        rc = compare(sh->name, s, p->seeds);
    for (size_t i = 0; i < p->seeds; i++)
        bench_stream_free(&s[i]);
    return rc;
}

static int compare_trace(const struct plan *p)
{
    struct bench_stream s;
    struct lr_err err = {0};
    int rc = bench_trace_read(p->trace, &s, &err);
    if (rc) {
        fprintf(stderr, "%s: %s %s\n", p->trace, err.code ? err.msg : lr_strerror(rc), err.where);
        return rc;
    }
    rc = compare("trace", &s, 1);
    bench_stream_free(&s);
    return rc;
}

static bool number(const char *text, size_t min, size_t max, size_t *out)
{
    uint64_t v;
    if (lr_parse_u64(lr_strz(text), &v) || v < min || v > max)
        return false;
    *out = (size_t)v;
    return true;
}

static bool parse(struct plan *p, int argc, char **argv)
{
    bool ok = argc % 2 == 1;
    for (int i = 1; ok && i < argc; i += 2) {
        if (lr_str_is(lr_strz(argv[i]), "--seeds"))
            ok = number(argv[i + 1], 1, SEEDS_MAX, &p->seeds);
        else if (lr_str_is(lr_strz(argv[i]), "--requests"))
            ok = number(argv[i + 1], 100, 100000000, &p->requests);
        else if (lr_str_is(lr_strz(argv[i]), "--objects"))
            ok = number(argv[i + 1], 10, 100000000, &p->objects);
        else if (lr_str_is(lr_strz(argv[i]), "--stream"))
            p->stream = argv[i + 1];
        else if (lr_str_is(lr_strz(argv[i]), "--trace"))
            p->trace = argv[i + 1];
        else
            ok = false;
    }
    return ok;
}

int main(int argc, char **argv)
{
    struct plan p = {.seeds = 5, .requests = 200000, .objects = 10000};
    if (!parse(&p, argc, argv)) {
        fprintf(stderr, "usage: %s [--seeds N] [--requests N] [--objects N] [--stream NAME] "
                        "| --trace FILE\n",
                argv[0]);
        return 2;
    }
    int rc = p.trace ? compare_trace(&p) : 0;
    for (size_t i = 0; !rc && !p.trace && i < LR_COUNT(shapes); i++)
        if (!p.stream || lr_str_is(lr_strz(p.stream), shapes[i].name))
            rc = compare_shape(&shapes[i], &p);
    if (rc)
        fprintf(stderr, "bench_evict: %s\n", lr_strerror(rc));
    return rc ? 1 : 0;
}
