/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_metric.c - laws of counters, histograms and their Prometheus text.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void counters_add_and_gauges_are_set(void **state)
{
    (void)state; /* cmocka's */
    int64_t was = lr_metric_get(LR_M_REQ_HIT);
    lr_metric_add(LR_M_REQ_HIT, 3);
    lr_metric_add(LR_M_REQ_HIT, -1);
    assert_true(lr_metric_get(LR_M_REQ_HIT) == was + 2);
    lr_metric_set(LR_M_ENTRIES, -7);
    assert_true(lr_metric_get(LR_M_ENTRIES) == -7);
}

enum { THREADS = 4, ADDS = 20000 };

static void *count(void *arg)
{
    for (int i = 0; i < ADDS; i++) {
        lr_metric_add(LR_M_STORED, 1);
        lr_histogram_add(LR_H_MISS, 1000);
    }
    return arg;
}

static void concurrent_adds_are_all_counted(void **state)
{
    (void)state; /* cmocka's */
    pthread_t t[THREADS];
    int64_t was = lr_metric_get(LR_M_STORED);
    uint64_t had = lr_histogram_count(LR_H_MISS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(lr_thread_start(&t[i], "count", count, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    assert_true(lr_metric_get(LR_M_STORED) == was + THREADS * ADDS);
    assert_true(lr_histogram_count(LR_H_MISS) == had + THREADS * ADDS);
}

/* The quantile's bound holds the sorted twin's value and is at most twice as large. */
static void quantiles_bound_those_of_a_sorted_list(void **state)
{
    (void)state; /* cmocka's */
    static uint64_t seen[2000];
    const size_t n = LR_COUNT(seen);
    struct lr_rng rng;
    lr_rng_seed(&rng, 5);
    assert_true(lr_histogram_quantile(LR_H_HIT, 0.5) == 0); /* empty */
    for (size_t i = 0; i < n; i++) {
        seen[i] = lr_rng_below(&rng, 1ULL << (8 + lr_rng_below(&rng, 28)));
        lr_histogram_add(LR_H_HIT, seen[i]);
        for (size_t k = i; k > 0 && seen[k - 1] > seen[k]; k--) {
            uint64_t x = seen[k];
            seen[k] = seen[k - 1];
            seen[k - 1] = x;
        }
    }
    assert_true(lr_histogram_count(LR_H_HIT) == n);
    for (size_t i = 1; i <= n; i++) {
        uint64_t got = lr_histogram_quantile(LR_H_HIT, (double)i / (double)n), want = seen[i - 1];
        if (got < want || (got > LR_US && got >= want * 2))
            fail_msg("quantile %zu/%zu: %llu for %llu", i, n, (unsigned long long)got,
                     (unsigned long long)want);
    }
    assert_true(lr_histogram_quantile(LR_H_HIT, 0) <= lr_histogram_quantile(LR_H_HIT, 1));
}

static void buckets_take_their_bound_and_not_more(void **state)
{
    (void)state; /* cmocka's */
    static const struct {
        uint64_t ns, bound;
    } rows[] = {{0, 1000},           {1, 1000},
                {1000, 1000},        {1001, 2000},
                {2000, 2000},        {2001, 4000},
                {LR_US << 30, LR_US << 30}, {(LR_US << 30) + 1, LR_US << 30},
                {UINT64_MAX, LR_US << 30}};
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        /* Rows rise: the newest is the largest. */
        lr_histogram_add(LR_H_UPSTREAM_FIRST, rows[i].ns);
        assert_true(lr_histogram_quantile(LR_H_UPSTREAM_FIRST, 1) == rows[i].bound);
    }
}

/* ---- text ---- */

struct seen_family {
    char name[80], type[16];
};

/* The family of a sample: its name without labels and, for histograms, without the suffix. */
static void check_sample(const struct seen_family *f, struct lr_str line)
{
    struct lr_str rest = line, labels = {NULL, 0};
    const char *brace = memchr(line.p, '{', line.n), *space = memrchr(line.p, ' ', line.n);
    assert_non_null(space);
    struct lr_str name = lr_str(line.p, (size_t)((brace ? brace : space) - line.p));
    assert_true(lr_str_starts(name, lr_strz(f->name)));
    struct lr_str suffix = lr_str(name.p + strlen(f->name), name.n - strlen(f->name));
    if (strcmp(f->type, "histogram") == 0)
        assert_true(lr_str_is(suffix, "_bucket") || lr_str_is(suffix, "_sum") ||
                    lr_str_is(suffix, "_count"));
    else
        assert_int_equal(suffix.n, 0);
    if (brace) {
        assert_int_equal(space[-1], '}');
        labels = lr_str(brace + 1, (size_t)(space - 1 - brace) - 1);
        while (labels.p) {
            struct lr_str pair = lr_str_cut(&labels, ',');
            const char *eq = memchr(pair.p, '=', pair.n);
            assert_true(eq && eq > pair.p && eq[1] == '"' && pair.p[pair.n - 1] == '"');
        }
    }
    double v;
    rest = lr_str(space + 1, (size_t)(line.p + line.n - space) - 1);
    assert_int_equal(lr_parse_real(rest, &v), 0);
}

static void each_family_has_one_head_and_its_samples_follow(void **state)
{
    (void)state; /* cmocka's */
    static struct seen_family seen[128];
    size_t n = 0, samples = 0;
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    assert_int_equal(lr_metric_write(&b), 0);
    assert_int_equal(b.p[b.len - 1], '\n');
    struct lr_str text = lr_str(b.p, b.len - 1);
    while (text.p) {
        struct lr_str line = lr_str_cut(&text, '\n');
        char z[256], help[160];
        assert_true(line.n > 0 && line.n < sizeof z);
        memcpy(z, line.p, line.n);
        z[line.n] = 0;
        if (z[0] != '#') {
            assert_true(n > 0);
            check_sample(&seen[n - 1], line);
            samples++;
            continue;
        }
        assert_true(n < LR_COUNT(seen));
        assert_int_equal(sscanf(z, "# HELP %79s %159[^\n]", seen[n].name, help), 2);
        for (size_t i = 0; i < n; i++)
            assert_string_not_equal(seen[i].name, seen[n].name);
        struct lr_str type = lr_str_cut(&text, '\n');
        char name[80];
        memcpy(z, type.p, type.n);
        z[type.n] = 0;
        assert_int_equal(sscanf(z, "# TYPE %79s %15s", name, seen[n].type), 2);
        assert_string_equal(name, seen[n].name);
        n++;
    }
    assert_int_equal(samples, LR_M_COUNT + LR_H_COUNT * (32 + 2));
    lr_buf_free(&b);
}

static void histogram_text_rises_to_its_count(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    uint64_t last = 0, buckets = 0;
    const char *prefix = "larder_upstream_first_byte_seconds_";
    lr_buf_init(&b, LR_MIB(1));
    lr_histogram_add(LR_H_UPSTREAM_FIRST, 1500);
    assert_int_equal(lr_metric_write(&b), 0);
    struct lr_str text = lr_buf_str(&b);
    while (text.p) {
        struct lr_str line = lr_str_cut(&text, '\n');
        if (!lr_str_starts(line, lr_strz(prefix)))
            continue;
        const char *space = memrchr(line.p, ' ', line.n);
        uint64_t v = 0;
        struct lr_str num = lr_str(space + 1, (size_t)(line.p + line.n - space) - 1);
        if (memmem(line.p, line.n, "_sum ", 5))
            continue;
        assert_int_equal(lr_parse_u64(num, &v), 0);
        assert_true(v >= last);
        last = v;
        buckets += memmem(line.p, line.n, "_bucket{le=\"", 12) != NULL;
    }
    assert_int_equal(buckets, 32);
    assert_true(last == lr_histogram_count(LR_H_UPSTREAM_FIRST) && last > 0);
    assert_non_null(memmem(b.p, b.len, "_bucket{le=\"1e-06\"} ", 20));
    assert_non_null(memmem(b.p, b.len, "_bucket{le=\"1073.741824\"} ", 26));
    assert_non_null(memmem(b.p, b.len, "_bucket{cache=\"hit\",le=\"+Inf\"} ", 31));
    lr_buf_free(&b);
}

static void text_beyond_the_buffer_is_an_error(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    lr_buf_init(&b, 100);
    assert_int_equal(lr_metric_write(&b), LR_EOVER);
    lr_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_add_and_gauges_are_set),
        cmocka_unit_test(concurrent_adds_are_all_counted),
        cmocka_unit_test(quantiles_bound_those_of_a_sorted_list),
        cmocka_unit_test(buckets_take_their_bound_and_not_more),
        cmocka_unit_test(each_family_has_one_head_and_its_samples_follow),
        cmocka_unit_test(histogram_text_rises_to_its_count),
        cmocka_unit_test(text_beyond_the_buffer_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
