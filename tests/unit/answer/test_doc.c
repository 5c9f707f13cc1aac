/* SPDX-License-Identifier: Apache-2.0
 * answer/test_doc.c - stored documents: round trip, damage, versions, the golden file.
 */
#include "answer/answer_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* The document of docs/formats/entry.md and tests/golden/entry-v1.bin. */
static struct lr_doc_meta example(void)
{
    struct lr_doc_meta m = {.tenant = 0x1122334455667788,
                            .created_ms = 1700000000000,
                            .ttl_ms = 86400000,
                            .took_ms = 1500,
                            .max_tokens = 256,
                            .tokens_in = 12,
                            .tokens_out = 34,
                            .cost = 0.5,
                            .hits = 7,
                            .choices = 1,
                            .dialect = LR_DIALECT_CHAT,
                            .model = "m1",
                            .upstream = "u",
                            .request_id = "r-1"};
    for (int i = 0; i < 32; i++)
        m.key.b[i] = (uint8_t)i;
    return m;
}
#define EXAMPLE_LOG LR_STR("an event log")

static void same_meta(const struct lr_doc_meta *a, const struct lr_doc_meta *b)
{
    assert_memory_equal(a->key.b, b->key.b, 32);
    assert_true(a->tenant == b->tenant && a->created_ms == b->created_ms && a->ttl_ms == b->ttl_ms);
    assert_true(a->took_ms == b->took_ms && a->max_tokens == b->max_tokens);
    assert_true(a->tokens_in == b->tokens_in && a->tokens_out == b->tokens_out);
    assert_true(a->cost == b->cost && a->hits == b->hits && a->choices == b->choices);
    assert_true(a->cut == b->cut && a->dialect == b->dialect && a->kind == b->kind);
    assert_string_equal(a->model, b->model);
    assert_string_equal(a->upstream, b->upstream);
    assert_string_equal(a->category, b->category);
    assert_string_equal(a->tag, b->tag);
    assert_string_equal(a->request_id, b->request_id);
}

static void random_text(struct lr_rng *r, char *z, size_t size)
{
    size_t n = (size_t)lr_rng_below(r, size);
    for (size_t i = 0; i < n; i++)
        z[i] = (char)(1 + lr_rng_below(r, 255));
    z[n] = 0;
}

static uint64_t random_int(struct lr_rng *r)
{
    return lr_rng_u64(r) >> lr_rng_below(r, 64);
}

static struct lr_doc_meta random_meta(struct lr_rng *r)
{
    struct lr_doc_meta m = {.tenant = random_int(r),
                            .created_ms = random_int(r),
                            .ttl_ms = random_int(r),
                            .took_ms = random_int(r),
                            .max_tokens = random_int(r),
                            .tokens_in = random_int(r),
                            .tokens_out = random_int(r),
                            .cost = lr_rng_unit(r),
                            .hits = (uint32_t)random_int(r),
                            .choices = (uint16_t)random_int(r),
                            .cut = (uint8_t)lr_rng_below(r, 2),
                            .dialect = (uint8_t)lr_rng_below(r, LR_DIALECT_N),
                            .kind = (uint8_t)lr_rng_below(r, 3)};
    for (size_t i = 0; i < 32; i++)
        m.key.b[i] = (uint8_t)lr_rng_u64(r);
    random_text(r, m.model, sizeof m.model);
    random_text(r, m.upstream, sizeof m.upstream);
    random_text(r, m.category, sizeof m.category);
    random_text(r, m.tag, sizeof m.tag);
    random_text(r, m.request_id, sizeof m.request_id);
    return m;
}

static void decode_of_encode_is_identity(void **state)
{
    (void)state;
    struct lr_rng rng;
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        lr_rng_seed(&rng, seed);
        struct lr_doc_meta m = random_meta(&rng);
        char log[300];
        size_t n = (size_t)lr_rng_below(&rng, sizeof log);
        for (size_t i = 0; i < n; i++)
            log[i] = (char)lr_rng_u64(&rng);
        struct lr_doc *d = NULL;
        lr_buf_reset(&b);
        assert_int_equal(lr_doc_encode(&m, lr_str(log, n), &b), 0);
        assert_int_equal(lr_doc_decode(lr_buf_str(&b), &d), 0);
        same_meta(&m, &d->meta);
        assert_true(lr_str_eq(d->log, lr_str(log, n)));
        lr_doc_unref(d);
    }
    lr_buf_free(&b);
}

static void any_flipped_bit_and_any_cut_is_refused(void **state)
{
    (void)state;
    struct lr_doc_meta m = example();
    struct lr_doc *d = NULL;
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(4));
    assert_int_equal(lr_doc_encode(&m, EXAMPLE_LOG, &b), 0);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
        int rc = lr_doc_decode(lr_buf_str(&b), &d);
        assert_true(rc == LR_ECORRUPT || rc == LR_EVERSION);
        b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t n = 0; n < b.len; n++) {
        char *exact = lr_strndup(b.p, n);
        assert_int_equal(lr_doc_decode(lr_str(exact, n), &d), LR_ECORRUPT);
        lr_free(exact);
    }
    assert_int_equal(lr_buf_addc(&b, 'x'), 0);
    assert_int_equal(lr_doc_decode(lr_buf_str(&b), &d), LR_ECORRUPT);
    lr_buf_free(&b);
}

/* A document with one more field in its meta, sums made good. */
static void with_field(uint8_t id, struct lr_buf *out)
{
    struct lr_doc_meta m = example();
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(4));
    assert_int_equal(lr_doc_encode(&m, EXAMPLE_LOG, &b), 0);
    size_t meta = lr_le16(b.p + 6);
    uint8_t field[5] = {id, 3, 'n', 'e', 'w'}, sum[8];
    assert_int_equal(lr_buf_add(out, b.p, 48 + meta), 0);
    assert_int_equal(lr_buf_add(out, field, sizeof field), 0);
    lr_put_le16(out->p + 6, (uint16_t)(meta + sizeof field));
    out->p[5] = 1; /* minor */
    uint64_t head = lr_hash64(lr_buf_str(out), 0);
    lr_put_le64(sum, head);
    assert_int_equal(lr_buf_add(out, sum, 8), 0);
    assert_int_equal(lr_buf_adds(out, EXAMPLE_LOG), 0);
    lr_put_le64(sum, lr_hash64(EXAMPLE_LOG, head));
    assert_int_equal(lr_buf_add(out, sum, 8), 0);
    lr_buf_free(&b);
}

static void unknown_optional_fields_are_skipped_mandatory_ones_refused(void **state)
{
    (void)state;
    struct lr_doc *d = NULL;
    struct lr_doc_meta m = example();
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(4));
    with_field(100, &b);
    assert_int_equal(lr_doc_decode(lr_buf_str(&b), &d), 0);
    same_meta(&m, &d->meta);
    lr_doc_unref(d);
    lr_buf_reset(&b);
    with_field(200, &b);
    assert_int_equal(lr_doc_decode(lr_buf_str(&b), &d), LR_EVERSION);
    lr_buf_free(&b);
}

static void unknown_major_is_refused(void **state)
{
    (void)state;
    struct lr_doc *d = NULL;
    struct lr_doc_meta m = example();
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(4));
    assert_int_equal(lr_doc_encode(&m, EXAMPLE_LOG, &b), 0);
    b.p[4] = 2;
    assert_int_equal(lr_doc_decode(lr_buf_str(&b), &d), LR_EVERSION);
    lr_buf_free(&b);
}

static void golden_file_is_what_we_write_and_read(void **state)
{
    (void)state;
    struct lr_doc *d = NULL;
    struct lr_doc_meta m = example();
    struct lr_buf b, g;
    lr_buf_init(&b, LR_KIB(4));
    lr_buf_init(&g, LR_KIB(4));
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/tests/golden/entry-v1.bin", &g), 0);
    assert_int_equal(lr_doc_decode(lr_buf_str(&g), &d), 0);
    same_meta(&m, &d->meta);
    assert_true(lr_str_eq(d->log, EXAMPLE_LOG));
    assert_int_equal(lr_doc_encode(&m, EXAMPLE_LOG, &b), 0);
    assert_true(lr_str_eq(lr_buf_str(&b), lr_buf_str(&g)));
    lr_doc_unref(d);
    lr_buf_free(&b);
    lr_buf_free(&g);
}

/* The hex of the specification is the golden file: offsets in its first column are skipped. */
static void specification_shows_the_golden_file(void **state)
{
    (void)state;
    struct lr_buf doc, g;
    lr_buf_init(&doc, LR_KIB(64));
    lr_buf_init(&g, LR_KIB(4));
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/docs/formats/entry.md", &doc), 0);
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/tests/golden/entry-v1.bin", &g), 0);
    struct lr_str rest = lr_buf_str(&doc);
    char hex[2 * LR_KIB(4) + 1];
    size_t n = 0;
    bool in = false;
    while (rest.p) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        if (lr_str_is(line, "```hex") || (in && lr_str_is(line, "```"))) {
            in = !in;
            continue;
        }
        for (size_t i = 6; in && i < line.n && line.p[i] != '|'; i++)
            if (line.p[i] != ' ' && n < sizeof hex - 1)
                hex[n++] = line.p[i];
    }
    char want[2 * LR_KIB(4) + 1];
    lr_hex(g.p, g.len, want);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(hex, want, n);
    lr_buf_free(&doc);
    lr_buf_free(&g);
}

static void over_long_texts_are_cut_and_read_back(void **state)
{
    (void)state;
    struct lr_doc_meta m = example();
    struct lr_doc *d = NULL;
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(4));
    memset(m.model, 'x', sizeof m.model); /* no terminator */
    assert_int_equal(lr_doc_encode(&m, EXAMPLE_LOG, &b), 0);
    assert_int_equal(lr_doc_decode(lr_buf_str(&b), &d), 0);
    assert_int_equal(strlen(d->meta.model), sizeof m.model - 1);
    lr_doc_unref(d);
    lr_buf_free(&b);
}

static void each_failing_allocation_is_an_error_not_a_leak(void **state)
{
    (void)state;
    struct lr_doc_meta m = example();
    int rc = LR_ENOMEM;
    for (uint64_t n = 1; rc; n++) {
        assert_true(n < 50);
        struct lr_doc *d = NULL;
        struct lr_buf b;
        lr_buf_init(&b, LR_KIB(4));
        assert_int_equal(lr_fault_arm(n), 0);
        rc = lr_doc_encode(&m, EXAMPLE_LOG, &b);
        rc = rc ? rc : lr_doc_decode(lr_buf_str(&b), &d);
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM);
        lr_doc_unref(d);
        lr_buf_free(&b);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) { /* writes the golden file anew: unit_answer_doc PATH */
        struct lr_doc_meta m = example();
        struct lr_buf b;
        lr_buf_init(&b, LR_KIB(4));
        int rc = lr_doc_encode(&m, EXAMPLE_LOG, &b);
        rc = rc ? rc : lr_io_write_file(argv[1], lr_buf_str(&b), 0644);
        lr_buf_free(&b);
        return rc != 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_of_encode_is_identity),
        cmocka_unit_test(any_flipped_bit_and_any_cut_is_refused),
        cmocka_unit_test(unknown_optional_fields_are_skipped_mandatory_ones_refused),
        cmocka_unit_test(unknown_major_is_refused),
        cmocka_unit_test(golden_file_is_what_we_write_and_read),
        cmocka_unit_test(specification_shows_the_golden_file),
        cmocka_unit_test(over_long_texts_are_cut_and_read_back),
        cmocka_unit_test(each_failing_allocation_is_an_error_not_a_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
