/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/kern/test_select.c - top-k against sorting, k-means against its own definition.
 */
#include "kern_kit.h"

static const float *sort_by;

static int better_first(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = sort_by[i], y = sort_by[j];
    bool nx = x != x, ny = y != y;
    if (nx != ny)
        return nx ? 1 : -1;
    if (!nx && x != y)
        return x > y ? -1 : 1;
    return (i > j) - (i < j);
}

static int by_index(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    return (i > j) - (i < j);
}

static void top_k_is_what_sorting_gives(void **state)
{
    (void)state;
    const uint64_t seed = 31;
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    for (int round = 0; round < 300; round++) {
        size_t n = lr_rng_below(&rng, 400), k = lr_rng_below(&rng, n + 3);
        float *x = floats(&rng, n);
        uint32_t *want = malloc((n + 1) * 4), *got = malloc((n + 1) * 4);
        assert_true(want && got);
        for (size_t i = 0; i < n; i++) {
            if (round % 3 == 0) /* many ties */
                x[i] = (float)lr_rng_below(&rng, 5) - 2;
            if (round % 5 == 0 && lr_rng_below(&rng, 7) == 0)
                x[i] = i % 3 ? NAN : i % 2 ? INFINITY : -INFINITY;
            want[i] = (uint32_t)i;
        }
        sort_by = x;
        qsort(want, n, 4, better_first);
        size_t m = k < n ? k : n;
        assert_int_equal(lr_kern_topk_sorted(x, n, k, got), m);
        REQUIRE(same(want, got, m * 4), "sorted: seed %d round %d n %zu k %zu", (int)seed, round, n,
                k);
        qsort(want, m, 4, by_index);
        assert_int_equal(lr_kern_topk(x, n, k, got), m);
        REQUIRE(same(want, got, m * 4), "ascending: seed %d round %d n %zu k %zu", (int)seed, round,
                n, k);
        free(x);
        free(want);
        free(got);
    }
}

/* Points around `true_k` centres far from one another. */
static float *clouds(struct lr_rng *rng, size_t n, size_t dim, size_t true_k)
{
    float *x = floats(NULL, n * dim);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < dim; j++)
            x[i * dim + j] = gauss(rng) * 0.1f + (j == i % true_k ? 10.0f : 0.0f);
    return x;
}

static void kmeans_finds_clouds_and_rests_at_means(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 32);
    for (int spherical = 0; spherical < 2; spherical++) {
        const size_t n = 503, dim = 19, k = 7;
        float *x = clouds(&rng, n, dim, k), *c = floats(NULL, k * dim);
        uint32_t *assign = malloc(n * 4);
        assert_non_null(assign);
        struct lr_kern_kmeans cfg = {.x = x, .n = n, .dim = dim, .k = k, .spherical = spherical};
        assert_int_equal(lr_kern_kmeans(&cfg, &rng, c, assign), 0);
        for (size_t i = 0; i < n; i++) {
            REQUIRE(assign[i] == assign[i % k], "point %zu is not with its cloud", i);
            for (size_t j = 0; j < i % k; j++)
                REQUIRE(assign[i % k] != assign[j], "clouds %zu and %zu are one", i % k, j);
        }
        for (size_t a = 0; a < k; a++) {
            double mean[19] = {0}, len = 0, count = 0;
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; assign[i] == a && j < dim; j++) {
                    mean[j] += x[i * dim + j];
                    count += j == 0;
                }
            for (size_t j = 0; j < dim; j++)
                len += mean[j] * mean[j];
            for (size_t j = 0; j < dim; j++)
                assert_true(fabs(c[a * dim + j] - mean[j] / (spherical ? sqrt(len) : count)) <
                            1e-5);
        }
        free(x);
        free(c);
        free(assign);
    }
}

static void kmeans_repeats_itself(void **state)
{
    (void)state;
    const size_t n = 200, dim = 5, k = 12;
    float c[2][60];
    uint32_t assign[2][200];
    struct lr_rng rng;
    lr_rng_seed(&rng, 33);
    float *x = floats(&rng, n * dim);
    for (size_t i = 0; i < 2; i++) {
        struct lr_kern_kmeans cfg = {.x = x, .n = n, .dim = dim, .k = k};
        lr_rng_seed(&rng, 34);
        assert_int_equal(lr_kern_kmeans(&cfg, &rng, c[i], assign[i]), 0);
    }
    assert_true(same(c[0], c[1], sizeof c[0]) && same(assign[0], assign[1], sizeof assign[0]));
    free(x);
}

static void kmeans_of_equal_points_leaves_no_cluster_empty(void **state)
{
    (void)state;
    float x[40], c[20];
    uint32_t assign[20];
    size_t size[10] = {0};
    struct lr_rng rng;
    lr_rng_seed(&rng, 35);
    for (size_t i = 0; i < 40; i++)
        x[i] = 1;
    struct lr_kern_kmeans cfg = {.x = x, .n = 20, .dim = 2, .k = 10};
    assert_int_equal(lr_kern_kmeans(&cfg, &rng, c, assign), 0);
    for (size_t i = 0; i < 20; i++)
        size[assign[i]]++;
    for (size_t a = 0; a < 10; a++)
        assert_true(c[2 * a] == 1 && c[2 * a + 1] == 1);
    cfg.k = 21;
    assert_int_equal(lr_kern_kmeans(&cfg, &rng, c, assign), LR_EINVAL);
    cfg.k = 0;
    assert_int_equal(lr_kern_kmeans(&cfg, &rng, c, assign), LR_EINVAL);
}

static void kmeans_without_memory_says_so(void **state)
{
    (void)state;
    float x[16] = {0}, c[4];
    uint32_t assign[8];
    struct lr_rng rng;
    lr_rng_seed(&rng, 36);
    struct lr_kern_kmeans cfg = {.x = x, .n = 8, .dim = 2, .k = 2};
    for (uint64_t n = 1; n < 20; n++) {
        lr_fault_arm(n);
        int rc = lr_kern_kmeans(&cfg, &rng, c, assign);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_int_equal(rc, hit ? LR_ENOMEM : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(top_k_is_what_sorting_gives),
        cmocka_unit_test(kmeans_finds_clouds_and_rests_at_means),
        cmocka_unit_test(kmeans_repeats_itself),
        cmocka_unit_test(kmeans_of_equal_points_leaves_no_cluster_empty),
        cmocka_unit_test(kmeans_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
