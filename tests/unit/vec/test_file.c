/* SPDX-License-Identifier: Apache-2.0
 * unit/vec/test_file.c - what is saved comes back; what was damaged does not.
 */
#include "vec_util.h"

#include <unistd.h>

static char dir[] = "/tmp/larder-test-XXXXXX";
static char path[64];

static void fill(struct lr_vec *v, struct lr_rng *rng, size_t dim, size_t ops, uint64_t ids)
{
    for (size_t i = 0; i < ops; i++) {
        float x[DIM_MAX];
        uint64_t id = lr_rng_below(rng, ids) << 20;
        random_vector(rng, dim, 40, x);
        if (lr_rng_below(rng, 4))
            assert_int_equal(lr_vec_put(v, id, x), 0);
        else
            (void)lr_vec_del(v, id); /* there or not */
    }
}

static size_t ask(struct lr_vec *v, struct house *h, const float *q, struct lr_vec_hit *hits)
{
    struct lr_vec_found f;
    struct lr_vec_ask a = {.k = 10, .ef = 100};
    assert_int_equal(lr_vec_search(v, h->r, q, &a, hits, &f), 0);
    return f.n;
}

static void a_loaded_index_answers_as_the_saved_one(void **state)
{
    (void)state; /* cmocka's */
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct house h;
        struct lr_vec *v, *w;
        struct lr_rng rng;
        size_t dim = 20 + seed, differ = 0;
        uint64_t txn = 0;
        lr_rng_seed(&rng, seed);
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        struct lr_vec_opts o = {.dim = (unsigned)dim,
                                .type = (enum lr_vec_type)(1 + seed % 3),
                                .flat_max = seed % 2 ? 1 : SIZE_MAX,
                                .encoder = {1, 2, 3}};
        assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
        fill(v, &rng, dim, seed == 1 ? 0 : 300 * (size_t)seed, 1000);
        assert_int_equal(lr_vec_save(v, path, 17), 0);
        assert_int_equal(lr_vec_load(h.a, &o, path, 20, &w, &txn), 0);
        assert_int_equal(txn, 17);
        struct lr_vec_stats a, b;
        lr_vec_stats(v, &a);
        lr_vec_stats(w, &b);
        assert_true(a.live == b.live && a.graph == b.graph && b.slots == b.live);
        for (int i = 0; i < 50; i++) {
            float q[DIM_MAX], x[2][DIM_MAX];
            struct lr_vec_hit hits[2][10];
            random_vector(&rng, dim, 40, q);
            size_t n = ask(v, &h, q, hits[0]);
            assert_int_equal(ask(w, &h, q, hits[1]), n);
            bool same = true;
            for (size_t k = 0; k < n; k++) {
                same &= hits[0][k].id == hits[1][k].id && hits[0][k].sim == hits[1][k].sim;
                assert_int_equal(lr_vec_get(v, hits[0][k].id, x[0]), 0);
                assert_int_equal(lr_vec_get(w, hits[0][k].id, x[1]), 0);
                assert_memory_equal(x[0], x[1], dim * sizeof(float));
            }
            differ += !same;
        }
        print_message("seed %d: %zu live, graph %d: %zu differ\n", (int)seed, a.live, a.graph,
                      differ);
        assert_true(differ <=
                    (seed % 2 ? 2 : 0)); /* a walk may end elsewhere: its ties are in new order */
        fill(w, &rng, dim, 500, 1000);   /* and it lives on */
        assert_int_equal(lr_vec_save(w, path, 18), 0);
        lr_vec_close(v);
        lr_vec_close(w);
        house_close(&h);
    }
}

static struct lr_vec *small(struct house *h, struct lr_vec_opts *o)
{
    struct lr_vec *v;
    struct lr_rng rng;
    lr_rng_seed(&rng, 1);
    *o = (struct lr_vec_opts){.dim = 8, .type = LR_VEC_I12, .m = 4, .ef_build = 8, .flat_max = 1};
    assert_int_equal(lr_vec_open(h->a, o, &v), 0);
    fill(v, &rng, 8, 60, 100);
    return v;
}

static void read_back(struct lr_buf *b)
{
    lr_buf_init(b, LR_MIB(4));
    assert_int_equal(lr_io_read_file(path, b), 0);
}

/* Nothing but deletes after a load: tidying has the scratch it needs. */
static void a_loaded_index_can_be_emptied(void **state)
{
    (void)state; /* cmocka's */
    for (int graph = 0; graph < 2; graph++) {
        struct house h, g;
        struct lr_vec *v, *w;
        struct lr_rng rng;
        uint64_t txn;
        lr_rng_seed(&rng, 3);
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        assert_int_equal(house_open(&g, LR_MIB(64)), 0);
        struct lr_vec_opts o = {.dim = 12, .type = LR_VEC_I8, .flat_max = graph ? 1 : SIZE_MAX};
        assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
        fill(v, &rng, 12, 9000, 6000);
        assert_int_equal(lr_vec_save(v, path, 1), 0);
        assert_int_equal(lr_vec_load(g.a, &o, path, 1, &w, &txn), 0);
        for (uint64_t id = 0; id < 6000; id++)
            assert_int_equal(lr_vec_del(w, id << 20), lr_vec_del(v, id << 20));
        struct lr_vec_stats st;
        lr_vec_stats(w, &st);
        assert_true(st.live == 0 && st.graph == graph);
        lr_vec_close(v);
        lr_vec_close(w);
        house_close(&h);
        house_close(&g);
    }
}

static void who_asks_for_another_index_rebuilds(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec_opts o;
    struct lr_vec *w = NULL;
    uint64_t txn = 99;
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec *v = small(&h, &o);
    assert_int_equal(lr_vec_save(v, path, 5), 0);
    struct lr_vec_opts other = o;
    other.dim = 9;
    assert_int_equal(lr_vec_load(h.a, &other, path, 5, &w, &txn), LR_EVERSION);
    other = o;
    other.type = LR_VEC_I8;
    assert_int_equal(lr_vec_load(h.a, &other, path, 5, &w, &txn), LR_EVERSION);
    other = o;
    other.encoder[31] = 1;
    assert_int_equal(lr_vec_load(h.a, &other, path, 5, &w, &txn), LR_EVERSION);
    other = o;
    other.m = 8;
    assert_int_equal(lr_vec_load(h.a, &other, path, 5, &w, &txn), LR_EVERSION);
    assert_int_equal(lr_vec_load(h.a, &o, path, 4, &w, &txn),
                     LR_EVERSION); /* newer than the store */
    assert_int_equal(lr_vec_load(h.a, &o, "/tmp/larder-none", 5, &w, &txn), LR_ENOENT);
    assert_true(!w && txn == 99);
    other = o;
    other.m = 0; /* the file's */
    assert_int_equal(lr_vec_load(h.a, &other, path, 6, &w, &txn), 0);
    assert_int_equal(txn, 5);
    lr_vec_close(v);
    lr_vec_close(w);
    house_close(&h);
}

static void damage_is_refused(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec_opts o;
    struct lr_vec *w = NULL;
    struct lr_buf b;
    uint64_t txn;
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec *v = small(&h, &o);
    assert_int_equal(lr_vec_save(v, path, 5), 0);
    read_back(&b);
    for (size_t i = 0; i < b.len; i++) { /* every byte, one bit */
        b.p[i] = (char)(b.p[i] ^ 1 << i % 8);
        assert_int_equal(lr_vec_load_bytes(h.a, &o, lr_buf_str(&b), 5, &w, &txn), LR_ECORRUPT);
        b.p[i] = (char)(b.p[i] ^ 1 << i % 8);
    }
    for (size_t n = 0; n < b.len; n += 7) /* cut off */
        assert_int_equal(lr_vec_load_bytes(h.a, &o, lr_str(b.p, n), 5, &w, &txn), LR_ECORRUPT);
    assert_int_equal(lr_buf_addc(&b, 0), 0); /* something behind */
    assert_int_equal(lr_vec_load_bytes(h.a, &o, lr_buf_str(&b), 5, &w, &txn), LR_ECORRUPT);
    assert_int_equal(lr_vec_load_bytes(h.a, &o, lr_str(b.p, b.len - 1), 5, &w, &txn), 0);
    lr_vec_close(w);
    lr_vec_close(v);
    lr_buf_free(&b);
    house_close(&h);
}

/* The vectors of the worked example in docs/formats/index.md. */
static void the_golden_file_is_what_we_write(void **state)
{
    (void)state; /* cmocka's */
    struct house h;
    struct lr_vec *v;
    struct lr_buf b, golden;
    uint64_t txn;
    assert_int_equal(house_open(&h, LR_MIB(64)), 0);
    struct lr_vec_opts o = {.dim = 4,
                            .type = LR_VEC_I12,
                            .m = 4,
                            .flat_max = 1,
                            .encoder = "an encoder's digest, 32 bytes.."};
    const float x[3][4] = {{1, 0, 0, 0}, {0.6f, 0.8f, 0, 0}, {0, 0.6f, 0, -0.8f}};
    assert_int_equal(lr_vec_open(h.a, &o, &v), 0);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(lr_vec_put(v, 0x100 + i, x[i]), 0);
    assert_int_equal(lr_vec_save(v, path, 42), 0);
    read_back(&b);
    lr_buf_init(&golden, LR_MIB(1));
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/tests/golden/vec-v1.bin", &golden), 0);
    assert_int_equal(b.len, golden.len);
    assert_memory_equal(b.p, golden.p, b.len);
    lr_vec_close(v);
    assert_int_equal(lr_vec_load_bytes(h.a, &o, lr_buf_str(&golden), 42, &v, &txn), 0);
    assert_int_equal(txn, 42);
    float got[4];
    assert_int_equal(lr_vec_get(v, 0x102, got), 0);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(got[i] - x[2][i]) < 1e-3f);
    lr_vec_close(v);
    lr_buf_free(&b);
    lr_buf_free(&golden);
    house_close(&h);
}

/* Save and load with each allocation and system call failing once: an error, or all is well; the
 * file is the old one or the new one, whole. */
static void a_failed_save_or_load_leaves_the_old_file(void **state)
{
    (void)state; /* cmocka's */
    for (uint64_t at = 1;; at++) {
        struct house h;
        struct lr_vec_opts o;
        struct lr_vec *w = NULL;
        uint64_t txn = 0;
        assert_int_equal(house_open(&h, LR_MIB(64)), 0);
        struct lr_vec *v = small(&h, &o);
        assert_int_equal(lr_vec_save(v, path, 1), 0);
        lr_fault_arm(at);
        int rc = lr_vec_save(v, path, 2);
        if (!rc)
            rc = lr_vec_load(h.a, &o, path, 9, &w, &txn);
        bool hit = lr_fault_seen() >= at;
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM || rc == LR_EIO);
        assert_true(rc != 0 || (w && txn == 2));
        lr_vec_close(w);
        assert_int_equal(lr_vec_load(h.a, &o, path, 9, &w, &txn), 0);
        assert_true(txn == 1 || txn == 2);
        lr_vec_close(w);
        lr_vec_close(v);
        house_close(&h);
        if (!hit)
            break;
        assert_true(at < 300);
    }
}

static int make_dir(void **state)
{
    (void)state; /* cmocka's */
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/index", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;                       /* cmocka's */
    return unlink(path) || rmdir(dir); /* nothing else was left beside it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_index_answers_as_the_saved_one),
        cmocka_unit_test(a_loaded_index_can_be_emptied),
        cmocka_unit_test(who_asks_for_another_index_rebuilds),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(the_golden_file_is_what_we_write),
        cmocka_unit_test(a_failed_save_or_load_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
