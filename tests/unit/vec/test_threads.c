/* SPDX-License-Identifier: Apache-2.0
 * unit/vec/test_threads.c - one writer, many readers, nobody waits; meant for the thread sanitizer.
 *
 * Every vector carries its id's mark (the first coordinates are those of the id), so a reader can
 * tell a vector that was seen half written or under another's id: the similarity would not fit the
 * id.
 */
#include "vec_util.h"

#include <stdatomic.h>

enum { READERS = 3, DIM = 32, IDS = 400 };

static void vector_of(uint64_t id, float *x)
{
    struct lr_rng rng;
    lr_rng_seed(&rng, 50 + id);
    random_vector(&rng, DIM, 40, x);
}

struct reading {
    struct lr_vec_hall *hall;
    _Atomic(struct lr_vec *) *v;
    _Atomic bool *stop;
    uint64_t seed;
    size_t searches, hits, wrong;
};

static void *read_on(void *arg)
{
    struct reading *g = arg;
    struct lr_vec_reader *r;
    struct lr_rng rng;
    if (lr_vec_reader_open(g->hall, &r))
        return NULL;
    lr_rng_seed(&rng, g->seed);
    while (!atomic_load(g->stop)) {
        float q[DIM], x[DIM];
        struct lr_vec_hit hits[5];
        struct lr_vec_found f = {0};
        struct lr_vec_ask ask = {.k = 5, .ef = 32, .floor = lr_rng_below(&rng, 2) ? 0.5f : 0};
        vector_of(lr_rng_below(&rng, IDS), q);
        lr_vec_enter(r); /* the index may be closed while we look */
        if (lr_vec_search(atomic_load(g->v), r, q, &ask, hits, &f))
            g->wrong++;
        lr_vec_leave(r);
        g->searches++;
        for (size_t i = 0; i < f.n; i++) {
            vector_of(hits[i].id, x);
            g->hits++;
            g->wrong += fabs(product(x, q, DIM) - (double)hits[i].sim) > 5e-3;
            for (size_t k = 0; k < i; k++)
                g->wrong += hits[k].id == hits[i].id;
        }
    }
    lr_vec_reader_close(r);
    return NULL;
}

/* flat, growing into a graph, shrinking, updated all the time, saved, closed and replaced. */
static void write_on(struct lr_vec_arena *a, _Atomic(struct lr_vec *) *at, enum lr_vec_type type)
{
    struct lr_rng rng;
    lr_rng_seed(&rng, type);
    struct lr_vec_opts o = {.dim = DIM, .type = type, .flat_max = 150, .m = 6, .ef_build = 16};
    for (int life = 0; life < 2; life++) {
        for (int i = 0; i < 1500; i++) {
            uint64_t id = lr_rng_below(&rng, IDS);
            float x[DIM];
            if (lr_rng_below(&rng, 3) == 0) {
                (void)lr_vec_del(atomic_load(at), id); /* there or not */
                continue;
            }
            vector_of(id, x);
            assert_int_equal(lr_vec_put(atomic_load(at), id, x), 0);
        }
        struct lr_vec *next, *old = atomic_load(at);
        assert_int_equal(lr_vec_save(old, "/dev/null/none", 1), LR_ENOENT);
        assert_int_equal(lr_vec_open(a, &o, &next), 0);
        atomic_store(at, next);
        lr_vec_close(old);
    }
}

static void readers_see_whole_vectors_and_true_ids(void **state)
{
    (void)state; /* cmocka's */
    for (int type = LR_VEC_F32; type <= LR_VEC_I12; type++) {
        struct house h;
        struct lr_vec *v;
        struct reading g[READERS];
        pthread_t t[READERS];
        _Atomic bool stop = false;
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        struct lr_vec_opts o = {.dim = DIM, .type = (enum lr_vec_type)type, .flat_max = 1, .m = 6};
        assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
        _Atomic(struct lr_vec *) at = v;
        for (uint64_t i = 0; i < READERS; i++) {
            g[i] = (struct reading){.hall = h.hall, .v = &at, .stop = &stop, .seed = i};
            assert_int_equal(lr_thread_start(&t[i], "reader", read_on, &g[i]), 0);
        }
        write_on(h.a, &at, (enum lr_vec_type)type);
        atomic_store(&stop, true);
        size_t hits = 0;
        for (size_t i = 0; i < READERS; i++) {
            assert_int_equal(pthread_join(t[i], NULL), 0);
            assert_int_equal(g[i].wrong, 0);
            hits += g[i].hits;
        }
        print_message("type %d: %zu hits\n", type, hits);
        lr_vec_close(atomic_load(&at));
        assert_true(lr_vec_arena_used(h.a) == 0);
        house_close(&h);
    }
}

/* What a closed index held is given back when the last who may be inside has left, not before. */
static void memory_waits_for_readers(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v;
    float x[DIM];
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec_opts o = {.dim = DIM, .type = LR_VEC_I8};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    vector_of(1, x);
    assert_int_equal(lr_vec_put(v, 1, x), 0);
    lr_vec_enter(h.r);
    lr_vec_close(v);
    assert_true(lr_vec_arena_used(h.a) > 0);
    struct lr_vec_hit hit;
    struct lr_vec_found f;
    struct lr_vec_ask ask = {.k = 1};
    assert_int_equal(lr_vec_search(v, h.r, x, &ask, &hit, &f), 0); /* still whole */
    assert_true(f.n == 1 && hit.id == 1);
    lr_vec_leave(h.r);
    struct lr_vec *w;
    assert_int_equal(lr_vec_open(h.a, &o, &w), 0); /* a later call to the arena */
    assert_true(lr_vec_arena_used(h.a) < 4096);
    lr_vec_close(w);
    house_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_whole_vectors_and_true_ids),
        cmocka_unit_test(memory_waits_for_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
