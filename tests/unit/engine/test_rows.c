/* SPDX-License-Identifier: Apache-2.0
 * Row tables against a twin of plain arrays; biases against what they stand for; memory against what is
 * really resident.
 */
#include "engine_kit.h"

#include <sys/mman.h>

#define D 16u
#define TWIN_MAX 2000u
#define ROUNDS 400

/* ---- a twin of one table ---- */

struct twin_row {
    struct lr_engine_row row;
    float k[D], v[D];
};
struct twin {
    struct twin_row row[TWIN_MAX];
    size_t n;
};

static void check_table(const struct lr_engine_seq *s, const struct twin *t, uint64_t seed)
{
    if (lr_engine_rows(s, 0, 0) != t->n)
        fail_msg("seed %llu: %zu rows, twin %zu", (unsigned long long)seed,
                 lr_engine_rows(s, 0, 0), t->n);
    for (size_t i = 0; i < t->n; i++) {
        struct lr_engine_row row;
        float k[D], v[D];
        OK(lr_engine_rows_get(s, 0, 0, i, 1, &row));
        OK(lr_engine_rows_read(s, 0, 0, i, k, v));
        if (memcmp(&row, &t->row[i].row, sizeof row) != 0 ||
            memcmp(k, t->row[i].k, sizeof k) != 0 || memcmp(v, t->row[i].v, sizeof v) != 0)
            fail_msg("seed %llu: row %zu differs", (unsigned long long)seed, i);
    }
}

static void random_row(struct lr_rng *r, float k[D], float v[D])
{
    for (size_t i = 0; i < D; i++) {
        k[i] = (float)lr_rng_unit(r);
        v[i] = (float)lr_rng_unit(r);
    }
}

static void insert(struct lr_engine_seq *s, struct twin *t, struct lr_rng *r)
{
    struct twin_row x = {.row = {.pos = (int32_t)lr_rng_below(r, 300),
                                 .bias = (float)lr_rng_below(r, 3), .tag = 7}};
    if (t->n == TWIN_MAX)
        return;
    random_row(r, x.k, x.v);
    OK(lr_engine_rows_insert(s, 0, 0, x.row.pos, x.k, x.v, x.row.bias, x.row.tag));
    size_t at = 0;
    while (at < t->n && t->row[at].row.pos <= x.row.pos)
        at++;
    memmove(&t->row[at + 1], &t->row[at], (t->n++ - at) * sizeof x);
    t->row[at] = x;
}

static void keep(struct lr_engine_seq *s, struct twin *t, struct lr_rng *r)
{
    uint32_t idx[TWIN_MAX];
    size_t n = 0;
    uint64_t share = lr_rng_below(r, 10);
    for (uint32_t i = 0; i < t->n; i++)
        if (lr_rng_below(r, 10) <= share) {
            t->row[n] = t->row[i];
            idx[n++] = i;
        }
    OK(lr_engine_rows_keep(s, 0, 0, idx, n));
    t->n = n;
}

static void change(struct lr_engine_seq *s, struct twin *t, struct lr_rng *r)
{
    if (!t->n)
        return;
    size_t i = lr_rng_below(r, t->n);
    struct twin_row *x = &t->row[i];
    random_row(r, x->k, x->v);
    x->row.bias = -1;
    OK(lr_engine_rows_write(s, 0, 0, i, x->k, x->v, -1));
    x->row.tag = (uint16_t)lr_rng_below(r, 100);
    OK(lr_engine_rows_tag(s, 0, 0, i, x->row.tag));
}

static void save_and_load(struct lr_engine *e, struct lr_engine_seq **s)
{
    size_t n;
    OK(lr_engine_seq_save(*s, NULL, &n));
    char *p = malloc(n);
    OK(lr_engine_seq_save(*s, p, &n));
    lr_engine_seq_close(*s);
    *s = kit_seq(e);
    OK(lr_engine_seq_load(*s, p, n));
    free(p);
}

/* Two sequences that are forked from each other again and again, each with its twin. */
static void test_edits_do_to_tables_what_they_do_to_arrays(void **state)
{
    (void)state;
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 1);
    struct lr_engine *e = kit_engine(m, 1, "f32");
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct lr_engine_seq *s[2] = {kit_seq(e), kit_seq(e)};
        struct twin *t = calloc(2, sizeof *t);
        struct lr_rng r;
        lr_rng_seed(&r, seed);
        for (int round = 0; round < ROUNDS; round++) {
            size_t i = lr_rng_below(&r, 2);
            uint64_t what = lr_rng_below(&r, 60);
            if (what < 40)
                for (uint64_t n = lr_rng_below(&r, 20); n; n--)
                    insert(s[i], &t[i], &r);
            else if (what < 45)
                keep(s[i], &t[i], &r);
            else if (what < 55)
                change(s[i], &t[i], &r);
            else if (what < 57)
                save_and_load(e, &s[i]);
            else {
                lr_engine_seq_close(s[!i]);
                OK(lr_engine_seq_fork(&s[!i], s[i], 0, &kit_err));
                t[!i] = t[i];
            }
            check_table(s[0], &t[0], seed);
            check_table(s[1], &t[1], seed);
        }
        lr_engine_seq_close(s[0]);
        lr_engine_seq_close(s[1]);
        struct lr_engine_memory mem;
        lr_engine_memory(e, &mem);
        assert_int_equal(mem.bytes_used, 0);
        assert_int_equal(mem.bytes_promised, 0);
        free(t);
    }
    lr_engine_close(e);
    lr_engine_model_close(m);
}

static void test_edits_refuse_what_is_no_row(void **state)
{
    (void)state;
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 1);
    struct lr_engine *e = kit_engine(m, 1, "f32");
    struct lr_engine_seq *s = kit_seq(e);
    uint32_t tokens[40] = {0};
    static const uint32_t twice[] = {3, 3}, back[] = {5, 4}, beyond[] = {39, 40};
    float x[D] = {0};
    struct lr_engine_row row;
    OK(lr_engine_feed(s, tokens, 40, NULL, NULL, &kit_err));
    assert_int_equal(lr_engine_rows_keep(s, 0, 0, twice, 2), LR_EINVAL);
    assert_int_equal(lr_engine_rows_keep(s, 0, 0, back, 2), LR_EINVAL);
    assert_int_equal(lr_engine_rows_keep(s, 0, 0, beyond, 2), LR_EINVAL);
    assert_int_equal(lr_engine_rows_keep(s, 2, 0, twice, 1), LR_EINVAL);
    assert_int_equal(lr_engine_rows_write(s, 0, 0, 40, x, x, 0), LR_EINVAL);
    assert_int_equal(lr_engine_rows_write(s, 0, 0, 4, x, x, NAN), LR_EINVAL);
    assert_int_equal(lr_engine_rows_insert(s, 0, 2, 0, x, x, 0, 0), LR_EINVAL);
    assert_int_equal(lr_engine_rows_insert(s, 0, 0, -1, x, x, 0, 0), LR_EINVAL);
    assert_int_equal(lr_engine_rows_get(s, 0, 0, 40, 1, &row), LR_EINVAL);
    assert_int_equal(lr_engine_rows_read(s, 0, 0, 40, x, x), LR_EINVAL);
    assert_int_equal(lr_engine_rows_tag(s, 0, 5, 0, 1), LR_EINVAL);
    assert_int_equal(lr_engine_seq_truncate(s, 41), LR_EINVAL);
    assert_int_equal(lr_engine_rows(s, 0, 0), 40);
    lr_engine_seq_close(s);
    lr_engine_close(e);
    lr_engine_model_close(m);
}

/* ---- what attention makes of rows ---- */

struct pair {
    struct lr_engine_model *m;
    struct lr_engine *e;
    struct lr_engine_seq *a, *b;
    uint32_t tokens[300];
};

static void open_pair(struct pair *p, size_t n)
{
    p->m = kit_model((struct spec){.arch = "llama", .n_layer = 3}, 5);
    p->e = kit_engine(p->m, 2, "f32");
    p->a = kit_seq(p->e);
    p->b = kit_seq(p->e);
    kit_tokens(p->tokens, 300, 61, 6);
    OK(lr_engine_feed(p->a, p->tokens, n, NULL, NULL, &kit_err));
    OK(lr_engine_feed(p->b, p->tokens, n, NULL, NULL, &kit_err));
}

/* The next 20 tokens' logits agree; then both close. */
static void require_close(struct pair *p, size_t n)
{
    float a[61], b[61];
    for (size_t i = n; i < n + 20; i++) {
        OK(lr_engine_feed(p->a, p->tokens + i, 1, a, NULL, &kit_err));
        OK(lr_engine_feed(p->b, p->tokens + i, 1, b, NULL, &kit_err));
        for (size_t v = 0; v < 61; v++)
            if (!(fabsf(a[v] - b[v]) < 1e-4f))
                fail_msg("token %zu, logit %zu: %g and %g", i, v, (double)a[v], (double)b[v]);
    }
    lr_engine_seq_close(p->a);
    lr_engine_seq_close(p->b);
    lr_engine_close(p->e);
    lr_engine_model_close(p->m);
}

static void test_bias_log_count_stands_for_equal_rows(void **state)
{
    (void)state;
    struct pair p;
    float k[D], v[D];
    open_pair(&p, 100);
    for (uint32_t layer = 0; layer < 3; layer++)
        for (uint32_t i = 17; i < 60; i += 9) {
            OK(lr_engine_rows_write(p.a, layer, 1, i, NULL, NULL, logf(3)));
            /* Rows shift by the two inserted for each i before. */
            uint32_t at = i + (i - 17) / 9 * 2;
            OK(lr_engine_rows_read(p.b, layer, 1, at, k, v));
            OK(lr_engine_rows_insert(p.b, layer, 1, (int32_t)i, k, v, 0, 0));
            OK(lr_engine_rows_insert(p.b, layer, 1, (int32_t)i, k, v, 0, 0));
        }
    require_close(&p, 100);
}

static void test_hidden_rows_are_as_good_as_evicted(void **state)
{
    (void)state;
    struct pair p;
    open_pair(&p, 150);
    uint32_t idx[150];
    for (uint32_t layer = 0; layer < 3; layer++)
        for (uint32_t head = 0; head < 2; head++) {
            size_t n = 0;
            for (uint32_t i = 0; i < 150; i++)
                if (i % (2 + layer + head) == 0 || i > 140)
                    idx[n++] = i;
                else
                    OK(lr_engine_rows_write(p.a, layer, head, i, NULL, NULL, -INFINITY));
            OK(lr_engine_rows_keep(p.b, layer, head, idx, n));
        }
    require_close(&p, 150);
}

static void test_rows_of_later_positions_are_not_seen(void **state)
{
    (void)state;
    struct pair p;
    float k[D], v[D];
    open_pair(&p, 70);
    for (uint32_t i = 0; i < 40; i++) {
        OK(lr_engine_rows_read(p.a, 1, 0, i, k, v));
        OK(lr_engine_rows_insert(p.a, 1, 0, 1000 + (int32_t)i, k, v, 2, 0));
    }
    require_close(&p, 70);
}

static void test_keeping_all_changes_nothing(void **state)
{
    (void)state;
    struct pair p;
    uint32_t idx[130];
    float a[61], b[61];
    open_pair(&p, 130);
    for (uint32_t i = 0; i < 130; i++)
        idx[i] = i;
    for (uint32_t layer = 0; layer < 3; layer++)
        OK(lr_engine_rows_keep(p.a, layer, 1, idx, 130));
    OK(lr_engine_feed(p.a, p.tokens + 130, 1, a, NULL, &kit_err));
    OK(lr_engine_feed(p.b, p.tokens + 130, 1, b, NULL, &kit_err));
    assert_memory_equal(a, b, sizeof a);
    require_close(&p, 131);
}

static void test_a_head_without_rows_contributes_nothing(void **state)
{
    (void)state;
    struct pair p;
    uint32_t one = 99;
    float x[D] = {0};
    open_pair(&p, 100);
    /* All of a's rows gone; b keeps one with no value. */
    OK(lr_engine_rows_keep(p.a, 2, 0, NULL, 0));
    OK(lr_engine_rows_keep(p.b, 2, 0, &one, 1));
    OK(lr_engine_rows_write(p.b, 2, 0, 0, x, x, -INFINITY));
    require_close(&p, 100);
}

/* ---- codecs ---- */

static void turn(float *x, size_t d)
{
    lr_kern()->hadamard(x, d, d);
}

static void test_hooks_of_a_codec_cancel_out(void **state)
{
    (void)state;
    static const struct lr_engine_codec turned = {.name = "turned", .k = LR_KERN_F32,
                                                  .v = LR_KERN_F32, .enc_k = turn, .enc_v = turn,
                                                  .qx = turn, .ox = turn};
    struct pair p;
    open_pair(&p, 100);
    lr_engine_seq_close(p.a);
    OK(lr_engine_seq_open(&p.a, p.e, &(struct lr_engine_seq_opts){.codec = &turned}, &kit_err));
    OK(lr_engine_feed(p.a, p.tokens, 100, NULL, NULL, &kit_err));
    require_close(&p, 100);
}

/* ---- memory ---- */

static size_t resident(void)
{
    unsigned long pages = 0, all = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &all, &pages), 2);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void test_evicted_rows_are_given_back_to_the_system(void **state)
{
    (void)state;
    enum { TOKENS = 16384 };
    const struct spec s = {.arch = "llama", .n_layer = 1, .n_kv = 4, .n_embd = 64, .d_head = 128};
    struct lr_engine_model *m = kit_model(s, 1);
    struct lr_engine *e = kit_engine(m, 2, "f32");
    struct lr_engine_seq *seq = kit_seq(e);
    struct lr_engine_seq_bytes before, after;
    struct lr_engine_memory mem;
    float x[128] = {1};
    uint32_t idx[64];
    for (uint32_t h = 0; h < 4; h++) /* rows straight into the tables: no need to compute them */
        for (int32_t i = 0; i < TOKENS / 4; i++)
            OK(lr_engine_rows_insert(seq, 0, h, 0, x, x, 0, 0));
    size_t full = resident();
    lr_engine_seq_bytes(seq, &before);
    assert_true(before.unique >= (uint64_t)TOKENS * 2 * sizeof x);
    for (uint32_t i = 0; i < 64; i++)
        idx[i] = 50 * i;
    for (uint32_t h = 0; h < 4; h++)
        OK(lr_engine_rows_keep(seq, 0, h, idx, 64));
    lr_engine_seq_bytes(seq, &after);
    lr_engine_memory(e, &mem);
    assert_int_equal(after.rows, 4 * 64);
    assert_int_equal(mem.bytes_used, after.unique);
    assert_true(after.unique <= before.unique / 60);
    size_t now = resident();
    print_message("resident %zu KiB, after eviction %zu KiB\n", full >> 10, now >> 10);
    assert_true(mem.bytes_warm <= LR_MIB(4));
    assert_true(now + (before.unique - after.unique) <= full + LR_MIB(5));
    lr_engine_seq_close(seq);
    lr_engine_close(e);
    lr_engine_model_close(m);
}

static void test_shared_pages_count_once(void **state)
{
    (void)state;
    struct pair p;
    struct lr_engine_seq_bytes own, twin;
    struct lr_engine_memory before, after;
    struct lr_engine_seq *forks[50];
    open_pair(&p, 128);
    lr_engine_memory(p.e, &before);
    for (size_t i = 0; i < 50; i++)
        OK(lr_engine_seq_fork(&forks[i], p.a, 0, &kit_err));
    lr_engine_memory(p.e, &after);
    assert_int_equal(after.bytes_used, before.bytes_used);
    lr_engine_seq_bytes(forks[7], &twin);
    assert_int_equal(twin.unique, 0);
    OK(lr_engine_feed(forks[7], p.tokens, 1, NULL, NULL, &kit_err));
    lr_engine_seq_bytes(forks[7], &twin);
    lr_engine_seq_bytes(p.a, &own);
    assert_int_equal(own.unique, 0);
    lr_engine_memory(p.e, &after);
    assert_int_equal(after.bytes_used, before.bytes_used + twin.unique);
    for (size_t i = 0; i < 50; i++)
        lr_engine_seq_close(forks[i]);
    lr_engine_memory(p.e, &after);
    assert_int_equal(after.bytes_used, before.bytes_used);
    require_close(&p, 128);
}

/* ---- saved bytes ---- */

static void test_damaged_bytes_load_nothing(void **state)
{
    (void)state;
    struct pair p;
    size_t n;
    open_pair(&p, 20);
    OK(lr_engine_seq_save(p.a, NULL, &n));
    char *bytes = malloc(n);
    struct lr_rng r;
    lr_rng_seed(&r, 3);
    OK(lr_engine_seq_save(p.a, bytes, &n));
    struct lr_engine_seq *s = kit_seq(p.e);
    for (int i = 0; i < 300; i++) {
        size_t at = i < 60 ? (size_t)i : lr_rng_below(&r, n);
        bytes[at] ^= 4;
        int rc = lr_engine_seq_load(s, bytes, n);
        assert_true(rc == LR_ECORRUPT || rc == LR_EVERSION);
        assert_int_equal(lr_engine_rows(s, 0, 0), 0);
        bytes[at] ^= 4;
        assert_int_equal(lr_engine_seq_load(s, bytes, lr_rng_below(&r, n)), LR_ECORRUPT);
    }
    lr_engine_seq_close(s);
    const struct lr_engine_codec *f16 = lr_engine_codec_find(LR_STR("f16"));
    OK(lr_engine_seq_open(&s, p.e, &(struct lr_engine_seq_opts){.codec = f16}, &kit_err));
    assert_int_equal(lr_engine_seq_load(s, bytes, n), LR_EVERSION);
    lr_engine_seq_close(s);
    n--;
    assert_int_equal(lr_engine_seq_save(p.a, bytes, &n), LR_EOVER);
    free(bytes);
    require_close(&p, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits_do_to_tables_what_they_do_to_arrays),
        cmocka_unit_test(test_edits_refuse_what_is_no_row),
        cmocka_unit_test(test_bias_log_count_stands_for_equal_rows),
        cmocka_unit_test(test_hidden_rows_are_as_good_as_evicted),
        cmocka_unit_test(test_rows_of_later_positions_are_not_seen),
        cmocka_unit_test(test_keeping_all_changes_nothing),
        cmocka_unit_test(test_a_head_without_rows_contributes_nothing),
        cmocka_unit_test(test_hooks_of_a_codec_cancel_out),
        cmocka_unit_test(test_evicted_rows_are_given_back_to_the_system),
        cmocka_unit_test(test_shared_pages_count_once),
        cmocka_unit_test(test_damaged_bytes_load_nothing),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
