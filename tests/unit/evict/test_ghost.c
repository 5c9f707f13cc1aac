/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/evict/test_ghost.c - the ghost table against a list searched from end to end.
 */
#include "evict/evict_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define STEPS 60000
#define KEYS 3000

struct row {
    uint64_t key;
    uint32_t bytes, note;
};
static struct row rows[STEPS];
static size_t first, end;
static uint64_t held, held_max;

static struct row *find(uint64_t key)
{
    for (size_t i = end; i > first; i--)
        if (rows[i - 1].key == key && rows[i - 1].bytes)
            return &rows[i - 1];
    return NULL;
}

static void forget(struct row *r)
{
    if (r) {
        held -= r->bytes;
        r->bytes = 0;
    }
}

static void trim(void)
{
    while (held > held_max)
        held -= rows[first++].bytes;
}

static void ghost_is_a_fifo_bounded_by_bytes(void **state)
{
    (void)state;
    const uint64_t seed = 31;
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    struct lr_ghost g = {0};
    first = end = 0;
    held = 0;
    lr_ghost_resize(&g, held_max = 50000);
    for (size_t i = 0; i < STEPS; i++) {
        uint64_t key = lr_rng_below(&rng, KEYS) << 32; /* low bits all the same: worst keys */
        uint64_t what = lr_rng_below(&rng, 1000);
        uint32_t note = 7;
        if (what == 0) {
            lr_ghost_resize(&g, held_max = lr_rng_below(&rng, 100000));
            trim();
        } else if (what < 600) {
            struct row r = {key, (uint32_t)(1 + lr_rng_below(&rng, 100)), (uint32_t)i};
            forget(find(key));
            lr_ghost_add(&g, r.key, r.bytes, r.note);
            if (r.bytes <= held_max) {
                rows[end++] = r;
                held += r.bytes;
            }
            trim();
        } else {
            struct row *r = find(key);
            assert_int_equal(lr_ghost_take(&g, key, &note), r != NULL);
            assert_int_equal(note, r ? r->note : 7);
            forget(r);
        }
        assert_int_equal(g.bytes, held);
        assert_true(g.bytes <= g.bytes_max && g.used <= g.cap && g.cap <= LR_GHOST_MAX);
    }
    lr_ghost_free(&g);
}

static void ghost_holds_no_more_than_its_maximum_of_keys(void **state)
{
    (void)state;
    struct lr_ghost g = {0};
    lr_ghost_resize(&g, UINT64_MAX);
    for (uint64_t key = 0; key < LR_GHOST_MAX + 10; key++)
        lr_ghost_add(&g, key, 1, 0);
    assert_int_equal(g.cap, LR_GHOST_MAX);
    assert_int_equal(g.used, LR_GHOST_MAX);
    for (uint64_t key = 0; key < 10; key++)
        assert_false(lr_ghost_take(&g, key, NULL));
    assert_true(lr_ghost_take(&g, 10, NULL));
    assert_true(lr_ghost_take(&g, LR_GHOST_MAX + 9, NULL));
    lr_ghost_free(&g);
}

static void ghost_without_memory_forgets_the_oldest(void **state)
{
    (void)state;
    struct lr_ghost g = {0};
    lr_ghost_resize(&g, 1000000);
    lr_fault_arm(1);
    lr_ghost_add(&g, 1, 1, 0); /* no first ring: nothing is remembered */
    assert_false(lr_ghost_take(&g, 1, NULL));
    uint64_t key = 1;
    for (; g.used < 64; key++)
        lr_ghost_add(&g, key, 1, 0);
    lr_fault_arm(2); /* the index of the second ring */
    lr_ghost_add(&g, key, 1, 0);
    lr_fault_arm(0);
    assert_int_equal(g.used, 64);
    assert_false(lr_ghost_take(&g, 1, NULL));
    assert_true(lr_ghost_take(&g, 2, NULL));
    assert_true(lr_ghost_take(&g, key, NULL));
    lr_ghost_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ghost_is_a_fifo_bounded_by_bytes),
        cmocka_unit_test(ghost_holds_no_more_than_its_maximum_of_keys),
        cmocka_unit_test(ghost_without_memory_forgets_the_oldest),
    };
    return cmocka_run_group_tests_name("ghost", tests, NULL, NULL);
}
