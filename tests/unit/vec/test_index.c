/* SPDX-License-Identifier: Apache-2.0
 * unit/vec/test_index.c - an index against its twin, which compares everything in double.
 */
#include "vec_util.h"

static struct twin twin; /* large: not on the stack */

/* How far a product may be off, by type. */
static const double slack[] = {[LR_VEC_F32] = 1e-5, [LR_VEC_I8] = 5e-3, [LR_VEC_I12] = 5e-4};

/* Answers are live, each id once, similarities true, best first. Returns how many of them are among
 * the k nearest (by similarity: ties count). */
static size_t check_answer(const struct lr_vec_hit *hits, size_t n, const float *q, size_t k,
                           enum lr_vec_type type)
{
    size_t good = 0;
    double kth = twin_kth(&twin, q, k);
    for (size_t i = 0; i < n; i++) {
        assert_true(hits[i].id < TWIN_MAX && twin.in[hits[i].id]);
        double s = product(twin.x[hits[i].id], q, twin.dim);
        assert_true(fabs(s - (double)hits[i].sim) < slack[type]);
        good += s >= kth - 1e-6;
        assert_true(i == 0 || hits[i].sim <= hits[i - 1].sim);
        for (size_t j = 0; j < i; j++)
            assert_true(hits[j].id != hits[i].id);
    }
    return good;
}

static void put(struct lr_vec *v, uint64_t id, const float *x)
{
    assert_int_equal(lr_vec_put(v, id, x), 0);
    memcpy(twin.x[id], x, twin.dim * sizeof *x);
    twin.live += !twin.in[id];
    twin.in[id] = true;
}

static void del(struct lr_vec *v, uint64_t id)
{
    assert_int_equal(lr_vec_del(v, id), twin.in[id] ? 0 : LR_ENOENT);
    twin.live -= twin.in[id];
    twin.in[id] = false;
}

static void start(size_t dim)
{
    memset(twin.in, 0, sizeof twin.in);
    twin.dim = dim;
    twin.live = 0;
}

/* Recall at 10 over `n` queries. */
static double recall(struct lr_vec *v, struct house *h, struct lr_rng *rng, size_t n, size_t ef,
                     uint64_t centres, enum lr_vec_type type)
{
    size_t good = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        float q[DIM_MAX];
        struct lr_vec_hit hits[10];
        struct lr_vec_found f;
        random_vector(rng, twin.dim, centres, q);
        struct lr_vec_ask ask = {.k = 10, .ef = ef};
        assert_int_equal(lr_vec_search(v, h->r, q, &ask, hits, &f), 0);
        good += check_answer(hits, f.n, q, 10, type);
        all += twin.live < 10 ? twin.live : 10;
    }
    return all ? (double)good / (double)all : 1;
}

/* Puts, updates and deletes by chance, in waves that grow and shrink. */
static void churn(struct lr_vec *v, struct lr_rng *rng, size_t ops, uint64_t ids, uint64_t centres)
{
    uint64_t grow = 1 + lr_rng_below(rng, 9);
    for (size_t i = 0; i < ops; i++) {
        uint64_t id = lr_rng_below(rng, ids);
        float x[DIM_MAX];
        if (i % 500 == 499)
            grow = 1 + lr_rng_below(rng, 9);
        if (lr_rng_below(rng, 10) >= grow) {
            del(v, id);
            continue;
        }
        random_vector(rng, twin.dim, centres, x);
        put(v, id, x);
    }
}

static void flat_is_exact(void **state)
{
    (void)state; /* cmocka's */
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct house h;
        struct lr_vec *v;
        struct lr_rng rng;
        enum lr_vec_type type = (enum lr_vec_type)(1 + seed % 3);
        print_message("seed %d\n", (int)seed);
        lr_rng_seed(&rng, seed);
        start(1 + (size_t)lr_rng_below(&rng, 100));
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        struct lr_vec_opts o = {
            .dim = (unsigned)twin.dim, .type = type, .flat_max = SIZE_MAX, .seed = seed};
        assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
        for (int round = 0; round < 10; round++) {
            churn(v, &rng, 150, 300, 20);
            double got = recall(v, &h, &rng, 10, 0, 20, type);
            assert_true(type == LR_VEC_F32 ? got == 1 : got >= (type == LR_VEC_I8 ? 0.9 : 0.97));
            struct lr_vec_stats st;
            lr_vec_stats(v, &st);
            assert_true(st.live == twin.live && !st.graph && st.slots <= 320);
        }
        lr_vec_close(v);
        assert_int_equal(lr_vec_arena_used(h.a), 0);
        house_close(&h);
    }
}

static void graph_finds_nearly_all_through_churn(void **state)
{
    (void)state; /* cmocka's */
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct house h;
        struct lr_vec *v;
        struct lr_rng rng;
        enum lr_vec_type type = (enum lr_vec_type)(1 + seed % 3);
        double worst = 1;
        lr_rng_seed(&rng, seed);
        start(48);
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        struct lr_vec_opts o = {.dim = 48, .type = type, .flat_max = 100, .m = 12, .seed = seed};
        assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
        for (int round = 0; round < 12; round++) {
            churn(v, &rng, 800, 3000, 60);
            double got = recall(v, &h, &rng, 20, 64, 60, type);
            worst = got < worst ? got : worst;
        }
        struct lr_vec_stats st;
        lr_vec_stats(v, &st);
        print_message("seed %d: worst recall %.3f, %zu live of %zu slots\n", (int)seed, worst,
                      st.live, st.slots);
        assert_true(st.graph && st.live == twin.live);
        assert_true(worst >= (type == LR_VEC_I8 ? 0.93 : 0.97));
        lr_vec_close(v);
        house_close(&h);
    }
}

/* The graph goes down to a handful and up again: nobody is cut off. */
static void what_is_left_after_mass_deletes_is_found(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v;
    struct lr_rng rng;
    lr_rng_seed(&rng, 77);
    start(32);
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec_opts o = {.dim = 32, .type = LR_VEC_F32, .flat_max = 1, .m = 8};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    for (int round = 0; round < 3; round++) {
        for (uint64_t id = 0; id < 2500; id++) {
            float x[DIM_MAX];
            random_vector(&rng, 32, 50, x);
            put(v, id, x);
        }
        assert_true(recall(v, &h, &rng, 20, 96, 50, LR_VEC_F32) >= 0.95);
        size_t keep = round == 0 ? 700 : round == 1 ? 5 : 0;
        for (uint64_t id = keep; id < 2500; id++)
            del(v, id);
        print_message("round %d: %.3f\n", round, recall(v, &h, &rng, 20, 96, 50, LR_VEC_F32));
        assert_true(recall(v, &h, &rng, 20, 96, 50, LR_VEC_F32) >= (keep > 256 ? 0.95 : 1));
    }
    struct lr_vec_stats st;
    lr_vec_stats(v, &st);
    assert_true(st.live == 0 && st.slots < 2500 * 2); /* slots were reused */
    lr_vec_close(v);
    house_close(&h);
}

static void updates_are_seen_and_the_old_is_not(void **state)
{
    (void)state; /* cmocka's */
    for (int graph = 0; graph < 2; graph++) {
        struct house h;
        struct lr_vec *v;
        struct lr_rng rng;
        lr_rng_seed(&rng, 5);
        start(32);
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        struct lr_vec_opts o = {.dim = 32, .type = LR_VEC_I12, .flat_max = graph ? 1 : SIZE_MAX};
        assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
        float old[DIM_MAX], x[DIM_MAX], got[DIM_MAX];
        for (uint64_t i = 0; i < 1500; i++) {
            random_vector(&rng, 32, 1u << 30, x);
            put(v, i % 400, x);
            struct lr_vec_hit hit;
            struct lr_vec_found f;
            struct lr_vec_ask ask = {.k = 1, .floor = 0.99f};
            assert_int_equal(lr_vec_search(v, h.r, x, &ask, &hit, &f), 0);
            assert_true(f.n == 1 && hit.id == i % 400);
            assert_int_equal(lr_vec_get(v, i % 400, got), 0);
            assert_true(product(got, x, 32) > 0.999);
            if (i % 7 == 0) {
                memcpy(old, x, sizeof old);
                random_vector(&rng, 32, 1u << 30, x);
                put(v, i % 400, x);
                assert_int_equal(lr_vec_search(v, h.r, old, &ask, &hit, &f), 0);
                assert_true(f.n == 0);
            }
        }
        lr_vec_close(v);
        house_close(&h);
    }
}

static void the_change_to_a_graph_loses_nobody(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v;
    struct lr_rng rng;
    lr_rng_seed(&rng, 6);
    start(24);
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec_opts o = {.dim = 24, .type = LR_VEC_F32, .flat_max = 600};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    bool seen[2] = {false, false};
    for (uint64_t i = 0; i < 1200; i++) {
        float x[DIM_MAX];
        struct lr_vec_hit hit;
        struct lr_vec_found f;
        struct lr_vec_stats st;
        random_vector(&rng, 24, 1u << 30, x);
        put(v, i, x);
        if (i % 3 == 1)
            del(v, lr_rng_below(&rng, i));
        lr_vec_stats(v, &st);
        seen[st.graph] = true;
        if (!twin.in[i])
            continue;
        struct lr_vec_ask ask = {.k = 1};
        assert_int_equal(lr_vec_search(v, h.r, x, &ask, &hit, &f), 0);
        assert_true(f.n == 1 && hit.id == i);
    }
    for (uint64_t i = 1200; i < 2000; i++) {
        float x[DIM_MAX];
        random_vector(&rng, 24, 1u << 30, x);
        put(v, i, x);
        struct lr_vec_stats st;
        lr_vec_stats(v, &st);
        seen[st.graph] = true;
    }
    assert_true(seen[false] && seen[true]);
    assert_true(recall(v, &h, &rng, 50, 128, 1u << 30, LR_VEC_F32) > 0.95);
    lr_vec_close(v);
    house_close(&h);
}

/* Same calls, same seed: the same answers to the last bit, and the same memory. */
static void a_seed_determines_the_index(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v[2];
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    for (int i = 0; i < 2; i++) {
        struct lr_rng rng;
        struct lr_vec_opts o = {.dim = 40, .type = LR_VEC_I8, .flat_max = 1, .seed = 9};
        lr_rng_seed(&rng, 3);
        start(40);
        assert_int_equal(lr_vec_open(h.a, &o, &v[i]), 0);
        churn(v[i], &rng, 2000, 1000, 30);
    }
    struct lr_rng rng;
    lr_rng_seed(&rng, 4);
    for (int i = 0; i < 100; i++) {
        float q[DIM_MAX];
        struct lr_vec_hit hits[2][10];
        struct lr_vec_found f[2];
        random_vector(&rng, 40, 30, q);
        struct lr_vec_ask ask = {.k = 10, .ef = 20};
        for (int k = 0; k < 2; k++)
            assert_int_equal(lr_vec_search(v[k], h.r, q, &ask, hits[k], &f[k]), 0);
        assert_true(f[0].n == f[1].n && f[0].looked == f[1].looked);
        for (size_t k = 0; k < f[0].n; k++)
            assert_true(hits[0][k].id == hits[1][k].id && hits[0][k].sim == hits[1][k].sim);
    }
    lr_vec_close(v[0]);
    lr_vec_close(v[1]);
    house_close(&h);
}

/* Every answer is at or above the floor; with a floor that is out of reach the walk ends sooner. */
static void the_floor_holds_and_saves(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v;
    struct lr_rng rng;
    size_t looked[2] = {0, 0}, good = 0, want = 0;
    lr_rng_seed(&rng, 8);
    start(64);
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec_opts o = {.dim = 64, .type = LR_VEC_F32, .flat_max = 1};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    for (uint64_t i = 0; i < 3000; i++) {
        float x[DIM_MAX];
        random_vector(&rng, 64, 100, x);
        put(v, i, x);
    }
    for (int i = 0; i < 200; i++) {
        float q[DIM_MAX];
        struct lr_vec_hit hits[10];
        struct lr_vec_found f[2];
        random_vector(&rng, 64, i % 2 ? 100 : 1u << 30, q);
        for (int k = 0; k < 2; k++) {
            struct lr_vec_ask ask = {.k = 10, .ef = 128, .floor = k ? 0.75f : 0};
            assert_int_equal(lr_vec_search(v, h.r, q, &ask, hits, &f[k]), 0);
            looked[k] += f[k].looked;
            for (size_t j = 0; j < f[k].n && !k; j++)
                want += hits[j].sim >= 0.75f;
            for (size_t j = 0; j < f[k].n && k; j++)
                assert_true(hits[j].sim >= 0.75f);
        }
        good += f[1].n;
    }
    print_message("looked %zu, with a floor %zu; found %zu of %zu\n", looked[0], looked[1], good,
                  want);
    assert_true(looked[1] * 3 < looked[0] * 2 && good * 100 >= want * 97);
    lr_vec_close(v);
    house_close(&h);
}

static void what_is_out_of_bounds_is_refused(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v = NULL;
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    const struct lr_vec_opts bad[] = {
        {.dim = 0, .type = LR_VEC_F32},
        {.dim = LR_VEC_DIM_MAX + 1, .type = LR_VEC_F32},
        {.dim = 8},
        {.dim = 8, .type = (enum lr_vec_type)4},
        {.dim = 8, .type = LR_VEC_I8, .m = 3},
        {.dim = 8, .type = LR_VEC_I8, .m = LR_VEC_M_MAX + 1},
        {.dim = 8, .type = LR_VEC_I8, .ef_build = 15},
        {.dim = 8, .type = LR_VEC_I8, .ef_build = LR_VEC_K_MAX + 1},
    };
    for (size_t i = 0; i < LR_COUNT(bad); i++)
        assert_int_equal(lr_vec_open(h.a, &bad[i], &v), LR_EINVAL);
    assert_null(v);
    struct lr_vec_opts o = {.dim = 4, .type = LR_VEC_I8};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    const float unit[4] = {0, 1, 0, 0}, longer[4] = {1, 0.1f, 0, 0}, zero[4] = {0};
    const float odd[4] = {NAN, 0, 0, 1}, huge[4] = {INFINITY, 0, 0, 0};
    assert_int_equal(lr_vec_put(v, 1, longer), LR_EINVAL);
    assert_int_equal(lr_vec_put(v, 1, zero), LR_EINVAL);
    assert_int_equal(lr_vec_put(v, 1, odd), LR_EINVAL);
    assert_int_equal(lr_vec_put(v, 1, huge), LR_EINVAL);
    assert_int_equal(lr_vec_del(v, 1), LR_ENOENT);
    assert_int_equal(lr_vec_put(v, UINT64_MAX, unit), 0);
    struct lr_vec_hit hit;
    struct lr_vec_found f = {.n = 7};
    const struct lr_vec_ask asks[] = {{.k = 0},
                                      {.k = LR_VEC_K_MAX + 1},
                                      {.k = 1, .ef = LR_VEC_K_MAX + 1},
                                      {.k = 1, .floor = NAN}};
    for (size_t i = 0; i < LR_COUNT(asks); i++)
        assert_int_equal(lr_vec_search(v, h.r, unit, &asks[i], &hit, &f), LR_EINVAL);
    struct lr_vec_ask ask = {.k = 1};
    assert_int_equal(lr_vec_search(v, h.r, odd, &ask, &hit, &f), LR_EINVAL);
    assert_int_equal(f.n, 7); /* untouched on error */
    assert_int_equal(lr_vec_search(v, h.r, unit, &ask, &hit, &f), 0);
    assert_true(f.n == 1 && hit.id == UINT64_MAX && hit.sim > 0.99f);
    lr_vec_close(v);
    house_close(&h);
}

/* The arena's maximum is an error like another: what is in stays in. */
static void a_full_arena_refuses_and_keeps(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v;
    struct lr_rng rng;
    lr_rng_seed(&rng, 12);
    start(64);
    assert_int_equal(house_open(&h, LR_KIB(200)), 0);
    struct lr_vec_opts o = {.dim = 64, .type = LR_VEC_F32, .flat_max = 100};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    float x[DIM_MAX];
    uint64_t n = 0;
    int rc = 0;
    while (n < TWIN_MAX && !rc) {
        random_vector(&rng, 64, 1u << 30, x);
        rc = lr_vec_put(v, n, x);
        if (rc)
            break;
        memcpy(twin.x[n], x, sizeof twin.x[n]);
        twin.in[n++] = true;
        twin.live++;
    }
    assert_true(rc == LR_EOVER && n > 100);
    assert_true(lr_vec_arena_used(h.a) <= LR_KIB(200));
    assert_true(recall(v, &h, &rng, 20, 128, 1u << 30, LR_VEC_F32) > 0.9);
    for (uint64_t id = 0; id < n; id++)
        del(v, id);
    for (uint64_t id = 0; id < 50; id++) /* room again */
        put(v, id, x);
    lr_vec_close(v);
    house_close(&h);
}

/* One scenario: flat, graph, deletes, search. What an error leaves must still be right. */
static int scenario(struct house *h, const float (*x)[DIM_MAX], size_t n)
{
    struct lr_vec *v = NULL;
    struct lr_vec_opts o = {.dim = 16, .type = LR_VEC_I12, .flat_max = 150};
    int rc = house_open(h, LR_MIB(8));
    if (!rc)
        rc = lr_vec_open(h->a, &o, &v);
    size_t i = 0;
    for (; i < n && !rc; i++)
        rc = lr_vec_put(v, i, x[i]);
    struct lr_vec_hit hit;
    struct lr_vec_found f;
    struct lr_vec_ask ask = {.k = 1};
    if (!rc)
        rc = lr_vec_search(v, h->r, x[0], &ask, &hit, &f);
    if (rc && v) { /* the fault is over: all that was put is there, the rest is not */
        struct lr_vec_stats st;
        lr_vec_stats(v, &st);
        assert_int_equal(st.live, i ? i - (i < n || st.live != n) : 0);
        assert_int_equal(lr_vec_search(v, h->r, x[0], &ask, &hit, &f), 0);
        assert_true(st.live ? f.n == 1 && hit.id == 0 : f.n == 0);
    }
    lr_vec_close(v);
    house_close(h);
    return rc;
}

static void a_failed_allocation_leaves_the_index_as_it_was(void **state)
{
    (void)state; /* cmocka's */
    enum { N = 700 };
    static float x[N][DIM_MAX];
    struct lr_rng rng;
    lr_rng_seed(&rng, 2);
    for (size_t i = 0; i < N; i++)
        random_vector(&rng, 16, 1u << 30, x[i]);
    for (uint64_t at = 1;; at++) {
        struct house h;
        lr_fault_arm(at);
        int rc = scenario(&h, (const float(*)[DIM_MAX])x, N);
        bool hit = lr_fault_seen() >= at;
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM);
        if (!hit)
            break;
        assert_true(at < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat_is_exact),
        cmocka_unit_test(graph_finds_nearly_all_through_churn),
        cmocka_unit_test(what_is_left_after_mass_deletes_is_found),
        cmocka_unit_test(updates_are_seen_and_the_old_is_not),
        cmocka_unit_test(the_change_to_a_graph_loses_nobody),
        cmocka_unit_test(a_seed_determines_the_index),
        cmocka_unit_test(the_floor_holds_and_saves),
        cmocka_unit_test(what_is_out_of_bounds_is_refused),
        cmocka_unit_test(a_full_arena_refuses_and_keeps),
        cmocka_unit_test(a_failed_allocation_leaves_the_index_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
