/* SPDX-License-Identifier: Apache-2.0
 * unit/reuse/test_move.c - chunks there and back: what is put is what was got, or nothing; and nobody
 * touches rows after a stop, whenever it comes.
 */
#include "reuse/reuse_int.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define BLOCKS 6u
#define LAYERS 3u

static const struct lr_reuse_rows rows = {.model = "m", .dtype = LR_DTYPE_F16, .n_layer = LAYERS,
                                          .n_kv = 2, .d_head = 16, .k_bytes = 32, .v_bytes = 32};
#define LAYER (256u * 2 * 64)

/* Somebody with rows. */
struct owner {
    uint8_t *bytes; /* (BLOCKS, LAYERS, LAYER) */
    atomic_bool mine; /* nobody else may touch them */
    atomic_uint touches, dones;
    pthread_mutex_t mu;
    pthread_cond_t cv;
};

static void owner_open(struct owner *o)
{
    *o = (struct owner){.bytes = calloc(BLOCKS * LAYERS, LAYER)};
    pthread_mutex_init(&o->mu, NULL);
    pthread_cond_init(&o->cv, NULL);
}

static void owner_close(struct owner *o)
{
    free(o->bytes);
    pthread_mutex_destroy(&o->mu);
    pthread_cond_destroy(&o->cv);
}

static void touch(struct owner *o)
{
    assert_false(atomic_load(&o->mine));
    atomic_fetch_add(&o->touches, 1);
}

static void put(void *ctx, uint32_t i, uint32_t layer, const uint8_t *bytes)
{
    struct owner *o = ctx;
    touch(o);
    memcpy(o->bytes + ((size_t)i * LAYERS + layer) * LAYER, bytes, LAYER);
}

static void get(void *ctx, uint32_t i, uint32_t layer, uint8_t *out)
{
    struct owner *o = ctx;
    touch(o);
    memcpy(out, o->bytes + ((size_t)i * LAYERS + layer) * LAYER, LAYER);
}

static void done(void *ctx)
{
    struct owner *o = ctx;
    assert_false(atomic_load(&o->mine));
    pthread_mutex_lock(&o->mu);
    atomic_fetch_add(&o->dones, 1);
    pthread_cond_signal(&o->cv);
    pthread_mutex_unlock(&o->mu);
}

static void wait_done(struct owner *o)
{
    pthread_mutex_lock(&o->mu);
    while (!atomic_load(&o->dones))
        pthread_cond_wait(&o->cv, &o->mu);
    pthread_mutex_unlock(&o->mu);
}

static void chain(struct lr_reuse_chain *c, uint32_t seed)
{
    uint32_t ids[256];
    lr_reuse_chain_init(c, 1, true);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        for (uint32_t k = 0; k < 256; k++)
            ids[k] = seed * 1000 + i * 256 + k;
        assert_int_equal(lr_reuse_chain_add(c, &rows, ids), 0);
    }
}

static struct lr_reuse_move move(struct owner *o, const struct lr_reuse_chain *c)
{
    return (struct lr_reuse_move){.rows = &rows, .chain = c, .n = BLOCKS, .cost_s = 0.5, .put = put,
                                  .get = get, .done = done, .ctx = o};
}

static void fill(struct owner *o, uint64_t seed)
{
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    for (size_t i = 0; i < BLOCKS * LAYERS * (size_t)LAYER; i++)
        o->bytes[i] = (uint8_t)lr_rng_below(&r, 256);
}

static void open_both(struct lr_store **s, struct lr_reuse **r, const char *dir)
{
    const struct lr_store_opts so = {.mem_max = LR_MIB(8), .dir = dir, .disk_max = LR_MIB(64)};
    assert_int_equal(lr_store_open(s, &so, NULL), 0);
    assert_int_equal(lr_reuse_open(r, &(struct lr_reuse_opts){.store = *s}), 0);
}

static void save(struct lr_reuse *r, struct owner *o, const struct lr_reuse_chain *c,
                 struct lr_reuse_result *out)
{
    struct lr_reuse_save *v;
    const struct lr_reuse_move m = move(o, c);
    assert_int_equal(lr_reuse_save(r, &m, &v), 0);
    wait_done(o);
    assert_true(lr_reuse_save_over(v));
    lr_reuse_save_result(v, out);
    lr_reuse_save_free(v);
}

static void what_went_in_comes_out(void **state)
{
    struct lr_store *s;
    struct lr_reuse *r;
    struct lr_reuse_chain c;
    struct owner a, b;
    struct lr_reuse_result got;
    struct lr_reuse_load *l;
    uint32_t memory;
    (void)state;
    open_both(&s, &r, NULL);
    owner_open(&a);
    owner_open(&b);
    fill(&a, 4);
    chain(&c, 1);
    assert_int_equal(lr_reuse_find(r, &c, &memory), 0);
    save(r, &a, &c, &got);
    assert_int_equal(got.good, BLOCKS);
    atomic_store(&a.dones, 0);
    save(r, &a, &c, &got);
    assert_int_equal(got.known, BLOCKS);
    assert_int_equal(lr_reuse_find(r, &c, &memory), BLOCKS);
    assert_int_equal(memory, BLOCKS);
    const struct lr_reuse_move m = move(&b, &c);
    assert_int_equal(lr_reuse_load(r, &m, &l), 0);
    wait_done(&b);
    assert_true(lr_reuse_load_over(l));
    lr_reuse_load_result(l, &got);
    lr_reuse_load_free(l);
    assert_int_equal(got.good, BLOCKS);
    assert_int_equal(got.tier[LR_REUSE_MEMORY], BLOCKS);
    assert_true(got.cost_s > 2.99 && got.cost_s < 3.01);
    assert_memory_equal(a.bytes, b.bytes, BLOCKS * LAYERS * (size_t)LAYER);
    lr_reuse_chain_free(&c);
    owner_close(&a);
    owner_close(&b);
    lr_reuse_close(r);
    lr_store_close(s);
}

/* The bytes of one chunk in memory change behind the store's back. */
static void a_changed_byte_ends_the_prefix_there(void **state)
{
    struct lr_store *s;
    struct lr_reuse *r;
    struct lr_reuse_chain c;
    struct owner a, b;
    struct lr_reuse_result got;
    struct lr_reuse_load *l;
    struct lr_view *v;
    (void)state;
    for (uint32_t bad = 0; bad < BLOCKS; bad++) {
        open_both(&s, &r, NULL);
        owner_open(&a);
        owner_open(&b);
        fill(&a, bad);
        chain(&c, 1);
        save(r, &a, &c, &got);
        const struct lr_object want = lr_reuse_object(&rows, c.tenant, lr_reuse_prev(&c, bad),
                                                      &c.link[bad], bad);
        assert_int_equal(lr_store_get(s, &c.link[bad].id, &want, 0, &v), 0);
        ((uint8_t *)(uintptr_t)lr_view_bytes(v).p)[777 + bad * LAYER / 4] ^= 1;
        lr_view_put(v);
        const struct lr_reuse_move m = move(&b, &c);
        assert_int_equal(lr_reuse_load(r, &m, &l), 0);
        wait_done(&b);
        lr_reuse_load_result(l, &got);
        lr_reuse_load_free(l);
        assert_int_equal(got.good, bad);
        assert_int_equal(got.failed, 1);
        assert_memory_equal(a.bytes, b.bytes, bad * LAYERS * (size_t)LAYER);
        lr_reuse_chain_free(&c);
        owner_close(&a);
        owner_close(&b);
        lr_reuse_close(r);
        lr_store_close(s);
    }
}

static void wipe(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        (void)unlink(path); /* "." and "..": cannot */
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

static void nobody_touches_rows_after_a_stop(void **state)
{
    char dir[] = "/tmp/larder-reuse-XXXXXX";
    struct lr_store *s;
    struct lr_reuse *r;
    struct lr_reuse_result got;
    struct owner a;
    (void)state;
    assert_non_null(mkdtemp(dir));
    open_both(&s, &r, dir);
    owner_open(&a);
    for (uint32_t seed = 1; seed < 60; seed++) {
        struct lr_reuse_chain c;
        struct lr_reuse_load *l;
        struct lr_reuse_save *v = NULL;
        const struct lr_reuse_move m = move(&a, &c);
        chain(&c, seed % 7);
        atomic_store(&a.mine, false);
        int rc = lr_reuse_save(r, &m, &v);
        assert_true(rc == 0 || rc == LR_EBUSY); /* those that were stopped still wait in the queue */
        assert_int_equal(lr_reuse_load(r, &m, &l), 0);
        for (volatile uint32_t spin = 0; spin < seed * 3000; spin++)
            ;
        if (v)
            lr_reuse_save_stop(v);
        lr_reuse_load_stop(l);
        atomic_store(&a.mine, true);
        lr_reuse_load_result(l, &got);
        assert_true(got.good <= BLOCKS);
        lr_reuse_load_stop(l); /* twice is fine */
        lr_reuse_chain_free(&c);
        lr_reuse_save_free(v);
        lr_reuse_load_free(l);
    }
    owner_close(&a);
    lr_reuse_close(r);
    lr_store_close(s);
    wipe(dir);
}

static void any_allocation_may_fail(void **state)
{
    bool hit = true;
    (void)state;
    for (uint64_t n = 1; hit; n++) {
        struct lr_store *s;
        struct lr_reuse *r = NULL;
        struct lr_reuse_chain c;
        struct lr_reuse_save *v = NULL;
        struct lr_reuse_load *l = NULL;
        struct lr_reuse_result got = {0};
        struct owner a;
        const struct lr_store_opts so = {.mem_max = LR_MIB(8)};
        const struct lr_reuse_move m = move(&a, &c);
        assert_int_equal(lr_store_open(&s, &so, NULL), 0);
        owner_open(&a);
        chain(&c, 3);
        lr_fault_arm(n);
        int rc = lr_reuse_open(&r, &(struct lr_reuse_opts){.store = s});
        if (!rc && !(rc = lr_reuse_save(r, &m, &v)))
            wait_done(&a);
        atomic_store(&a.dones, 0);
        if (!rc && !(rc = lr_reuse_load(r, &m, &l)))
            wait_done(&a);
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (l)
            lr_reuse_load_result(l, &got);
        assert_true(hit || got.good == BLOCKS);
        lr_reuse_load_free(l);
        lr_reuse_save_free(v);
        lr_reuse_close(r);
        lr_reuse_chain_free(&c);
        lr_store_close(s);
        owner_close(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_went_in_comes_out),
        cmocka_unit_test(a_changed_byte_ends_the_prefix_there),
        cmocka_unit_test(nobody_touches_rows_after_a_stop),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
