/* SPDX-License-Identifier: Apache-2.0
 * unit/reuse/test_plan.c - what to load: held against a twin that tries every answer; and what blocks are
 * called, against the store's own chain and a golden file.
 */
#include "reuse/reuse_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define BLOCK LR_REUSE_BLOCK

/* What loading blocks [first, first + n) is worth, in ns; *tokens: those it brings. */
static double worth(const struct lr_reuse_facts *f, uint32_t first, uint32_t n, uint32_t *tokens)
{
    double sum = 0;
    *tokens = 0;
    for (uint32_t t = f->have; t < f->tokens - 1; t++)
        if (t >= first * BLOCK && t < (first + n) * BLOCK) {
            sum += f->speed.token_ns;
            ++*tokens;
        }
    for (uint32_t b = first; b < first + n && f->speed.token_ns > 0; b++)
        sum -= (double)f->chunk_bytes *
               (b < f->in_memory ? f->speed.memory_ns : f->speed.disk_ns);
    return sum;
}

static void any_facts(struct lr_rng *r, struct lr_reuse_facts *f)
{
    *f = (struct lr_reuse_facts){.tokens = 1 + (uint32_t)lr_rng_below(r, 8 * BLOCK),
                                 .chunk_bytes = 1000, .now_ns = 5, .patience_ns = LR_SEC};
    f->have = (uint32_t)lr_rng_below(r, f->tokens);
    f->found = (uint32_t)lr_rng_below(r, 10);
    f->in_memory = (uint32_t)lr_rng_below(r, f->found + 1);
    f->speed.token_ns = (double)lr_rng_below(r, 3) * 1e6;
    f->speed.memory_ns = (double)lr_rng_below(r, 3) * 1e5;
    f->speed.disk_ns = (double)lr_rng_below(r, 8) * 1e5;
}

static void the_best_prefix_is_loaded(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20000; seed++) {
        struct lr_rng r;
        struct lr_reuse_facts f;
        struct lr_reuse_plan p;
        uint32_t tokens = 0, t;
        lr_rng_seed(&r, seed);
        any_facts(&r, &f);
        lr_reuse_plan(&f, &p);
        uint32_t first = f.have / BLOCK, most = f.tokens / BLOCK;
        most = f.found < most ? f.found : most;
        double best = worth(&f, p.first, p.n, &tokens);
        if (p.n && (p.first != first || p.first + p.n > most || tokens < LR_REUSE_MIN))
            fail_msg("seed %llu: blocks %u + %u", (unsigned long long)seed, p.first, p.n);
        assert_int_equal(p.tokens, f.have + (p.n ? tokens : 0));
        for (uint32_t n = 1; first + n <= most; n++)
            if (worth(&f, first, n, &t) > (p.n ? best : 0) + 1e-6 && t >= LR_REUSE_MIN)
                fail_msg("seed %llu: %u blocks are worth more than %u", (unsigned long long)seed, n, p.n);
        if (p.n)
            assert_in_range(p.deadline_ns, f.now_ns + 1, f.now_ns + f.patience_ns);
    }
}

static void what_was_never_measured_is_loaded(void **state)
{
    struct lr_reuse_facts f = {.tokens = 1025, .found = 4, .chunk_bytes = 1 << 20, .now_ns = 7,
                               .patience_ns = 50};
    struct lr_reuse_plan p;
    (void)state;
    lr_reuse_plan(&f, &p);
    assert_int_equal(p.first, 0);
    assert_int_equal(p.n, 4);
    assert_int_equal(p.tokens, 1024);
    assert_int_equal(p.deadline_ns, 57);
    f.have = 1024; /* all there: nothing to load */
    lr_reuse_plan(&f, &p);
    assert_int_equal(p.n, 0);
    f.have = 0;
    f.tokens = 1024; /* the last token is computed, its block is loaded */
    lr_reuse_plan(&f, &p);
    assert_int_equal(p.n, 4);
    assert_int_equal(p.tokens, 1023);
    f.tokens = 255;
    lr_reuse_plan(&f, &p);
    assert_int_equal(p.n, 0);
}

/* ---- names ---- */

static const struct lr_reuse_rows rows = {
    .model = "0000000000000000000000000000000000000000000000000000000000000000",
    .dtype = LR_DTYPE_F16, .n_layer = 30, .n_kv = 3, .d_head = 64, .k_bytes = 128, .v_bytes = 128};

static void count_up(uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = i;
}

static void keys_are_the_store_s(void **state)
{
    enum { N = 20 };
    static uint32_t ids[N * BLOCK];
    struct lr_digest want[N];
    struct lr_reuse_chain open, mine, other;
    uint8_t salt[8];
    (void)state;
    count_up(ids, N * BLOCK);
    lr_reuse_chain_init(&open, 9, false);
    lr_reuse_chain_init(&mine, 9, true);
    lr_reuse_chain_init(&other, 10, true);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(lr_reuse_chain_add(&open, &rows, ids + i * BLOCK), 0);
        assert_int_equal(lr_reuse_chain_add(&mine, &rows, ids + i * BLOCK), 0);
        assert_int_equal(lr_reuse_chain_add(&other, &rows, ids + i * BLOCK), 0);
        assert_false(lr_digest_eq(&mine.link[i].id, &other.link[i].id));
        assert_false(lr_digest_eq(&mine.link[i].key, &open.link[i].key));
    }
    assert_int_equal(open.tenant, 0);
    lr_chain_keys(LR_STR(""), ids, N * BLOCK, BLOCK, want, N);
    for (uint32_t i = 0; i < N; i++)
        assert_true(lr_digest_eq(&want[i], &open.link[i].key));
    lr_put_le64(salt, 9);
    lr_chain_keys(lr_str(salt, 8), ids, N * BLOCK, BLOCK, want, N);
    for (uint32_t i = 0; i < N; i++)
        assert_true(lr_digest_eq(&want[i], &mine.link[i].key));
    lr_reuse_chain_free(&open);
    lr_reuse_chain_free(&mine);
    lr_reuse_chain_free(&other);
}

static void all_that_decides_over_bits_is_in_the_id(void **state)
{
    uint32_t ids[BLOCK];
    struct lr_reuse_rows v[7];
    struct lr_reuse_chain c[7];
    (void)state;
    count_up(ids, BLOCK);
    for (size_t i = 0; i < 7; i++)
        v[i] = rows;
    v[1].model[5] = '1';
    v[2].dtype = LR_DTYPE_F32;
    v[3].n_layer = 31;
    v[4].n_kv = 1;
    v[5].d_head = 32;
    memcpy(v[6].codec, "q8_0", 5);
    for (size_t i = 0; i < 7; i++) {
        lr_reuse_chain_init(&c[i], 0, false);
        assert_int_equal(lr_reuse_chain_add(&c[i], &v[i], ids), 0);
        for (size_t k = 0; k < i; k++)
            assert_false(lr_digest_eq(&c[i].link[0].id, &c[k].link[0].id));
    }
    for (size_t i = 0; i < 7; i++)
        lr_reuse_chain_free(&c[i]);
}

/* docs/formats/chunk.md */
static void names_are_those_of_the_golden_file(void **state)
{
    char line[256], want[256], key[65], id[65];
    uint32_t ids[2 * BLOCK];
    struct lr_reuse_chain c;
    (void)state;
    FILE *f = fopen(LR_SOURCE_DIR "/tests/golden/chunk.txt", "r");
    count_up(ids, 2 * BLOCK);
    lr_reuse_chain_init(&c, 0, false);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(lr_reuse_chain_add(&c, &rows, ids + i * BLOCK), 0);
        lr_hex(c.link[i].key.b, 32, key);
        lr_hex(c.link[i].id.b, 32, id);
        snprintf(want, sizeof want, "%u %s %s\n", i, key, id);
        if (!f || !fgets(line, sizeof line, f) || strcmp(line, want) != 0)
            fail_msg("golden line %u, this one: %s", i, want);
    }
    fclose(f);
    lr_reuse_chain_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_prefix_is_loaded),
        cmocka_unit_test(what_was_never_measured_is_loaded),
        cmocka_unit_test(keys_are_the_store_s),
        cmocka_unit_test(all_that_decides_over_bits_is_in_the_id),
        cmocka_unit_test(names_are_those_of_the_golden_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
