/* SPDX-License-Identifier: Apache-2.0
 * answer/test_raw.c - the raw shortcut: only equal bytes hit, and memory stays in its budget.
 */
#include "answer/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct lr_raw_hit hit_of(unsigned v)
{
    struct lr_raw_hit h = {.note_len = v % (LR_RAW_NOTE_MAX + 1)};
    memset(h.key.b, (int)(v & 0xff), sizeof h.key.b);
    lr_put_le32(h.key.b, v);
    memset(h.note, (int)(v & 0xff), sizeof h.note);
    return h;
}

static void put(struct lr_raw *r, const char *prefix, const char *body, unsigned v)
{
    struct lr_raw_hit h = hit_of(v);
    lr_raw_put(r, lr_strz(prefix), lr_strz(body), &h);
}

static bool finds(struct lr_raw *r, const char *prefix, const char *body, unsigned v)
{
    struct lr_raw_hit got, want = hit_of(v);
    return lr_raw_get(r, lr_strz(prefix), lr_strz(body), &got) &&
           lr_digest_eq(&got.key, &want.key) && got.note_len == want.note_len &&
           memcmp(got.note, want.note, want.note_len) == 0;
}

static void only_the_same_prefix_and_body_hit(void **state)
{
    (void)state;
    struct lr_raw *r;
    struct lr_raw_hit h;
    assert_int_equal(lr_raw_open(&r, LR_MIB(1)), 0);
    put(r, "ab", "cd", 7);
    assert_true(finds(r, "ab", "cd", 7));
    assert_false(lr_raw_get(r, LR_STR("a"), LR_STR("bcd"), &h));
    assert_false(lr_raw_get(r, LR_STR("abc"), LR_STR("d"), &h));
    assert_false(lr_raw_get(r, LR_STR("ab"), LR_STR("ce"), &h));
    assert_false(lr_raw_get(r, LR_STR("ab"), LR_STR(""), &h));
    put(r, "ab", "cd", 300); /* replaces */
    assert_true(finds(r, "ab", "cd", 300));
    lr_raw_clear(r);
    assert_false(lr_raw_get(r, LR_STR("ab"), LR_STR("cd"), &h));
    put(r, "", "", 1);
    assert_true(finds(r, "", "", 1));
    lr_raw_close(r);
}

/* Whatever is found is what was put last; the newest of small records is found. */
static void twin_never_disagrees(void **state)
{
    (void)state;
    enum { KEYS = 500 };
    unsigned newest[KEYS] = {0};
    struct lr_rng rng;
    uint64_t seed = 11;
    struct lr_raw *r;
    size_t found = 0;
    lr_rng_seed(&rng, seed);
    assert_int_equal(lr_raw_open(&r, LR_KIB(64)), 0);
    for (unsigned i = 1; i <= 50000; i++) {
        unsigned k = (unsigned)lr_rng_below(&rng, KEYS);
        char prefix[16], body[600];
        snprintf(prefix, sizeof prefix, "p%u", k % 7);
        memset(body, 'x', sizeof body);
        snprintf(body + k % 500, 16, "%u", k);
        if (lr_rng_below(&rng, 3) == 0) {
            newest[k] = i;
            put(r, prefix, body, i);
        } else {
            struct lr_raw_hit h;
            if (!lr_raw_get(r, lr_strz(prefix), lr_strz(body), &h))
                continue;
            found++;
            if (!finds(r, prefix, body, newest[k]))
                fail_msg("seed %llu step %u", (unsigned long long)seed, i);
        }
    }
    assert_true(found > 100);
    lr_raw_close(r);
}

static void a_giant_is_not_stored_and_evicts_nothing(void **state)
{
    (void)state;
    struct lr_raw *r;
    assert_int_equal(lr_raw_open(&r, LR_KIB(64)), 0);
    char *giant = lr_calloc(1, LR_KIB(32) + 1);
    memset(giant, 'g', LR_KIB(32));
    put(r, "p", "small", 3);
    put(r, "p", giant, 4);
    struct lr_raw_hit h;
    assert_false(lr_raw_get(r, LR_STR("p"), lr_strz(giant), &h));
    assert_true(finds(r, "p", "small", 3));
    lr_free(giant);
    lr_raw_close(r);
}

static void *hammer(void *arg)
{
    struct lr_raw *r = arg;
    for (unsigned i = 0; i < 20000; i++) {
        char body[32];
        snprintf(body, sizeof body, "body %u", i % 97);
        if (i % 4 == 0)
            put(r, "p", body, i % 97);
        else {
            struct lr_raw_hit h;
            if (lr_raw_get(r, LR_STR("p"), lr_strz(body), &h) && lr_le32(h.key.b) != i % 97)
                return (void *)1;
        }
        if (i % 5000 == 4999)
            lr_raw_clear(r);
    }
    return NULL;
}

static void threads_see_whole_records(void **state)
{
    (void)state;
    struct lr_raw *r;
    pthread_t t[4];
    assert_int_equal(lr_raw_open(&r, LR_MIB(16)), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(lr_thread_start(&t[i], "hammer", hammer, r), 0);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    lr_raw_close(r);
}

static void each_failing_allocation_is_a_miss_not_a_leak(void **state)
{
    (void)state;
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        assert_true(n < 200);
        struct lr_raw *r = NULL;
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = lr_raw_open(&r, LR_KIB(256));
        for (unsigned i = 0; !rc && i < 100; i++) {
            char body[16];
            snprintf(body, sizeof body, "%u", i);
            put(r, "p", body, i);
        }
        done = lr_fault_seen() < n;
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM);
        if (!rc) {
            put(r, "p", "last", 9);
            assert_true(finds(r, "p", "last", 9));
        }
        lr_raw_close(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_same_prefix_and_body_hit),
        cmocka_unit_test(twin_never_disagrees),
        cmocka_unit_test(a_giant_is_not_stored_and_evicts_nothing),
        cmocka_unit_test(threads_see_whole_records),
        cmocka_unit_test(each_failing_allocation_is_a_miss_not_a_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
