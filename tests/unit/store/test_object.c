/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_object.c - headers: exact, checked, skippable; chain keys and ids.
 *
 * With the argument "write" it writes tests/golden/object-v1.bin and prints the hex of the page.
 */
#include "store/store_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define GOLDEN LR_SOURCE_DIR "/tests/golden/object-v1.bin"

static const uint32_t tokens[4] = {1, 2, 3, 70000};
static const uint8_t payload[32] = "sixteen of K..." "\0" "sixteen of V...";

/* The object of docs/formats/object.md. */
static size_t example(uint8_t *out, struct lr_object *o)
{
    struct lr_object_part parts[2] = {{0, 16, 0}, {16, 16, 0}};
    *o = (struct lr_object){
        .tenant = 7,
        .layout = {.engine = LR_STR("larder"),
                   .format = 1,
                   .dtype = LR_DTYPE_F16,
                   .n_dims = 2,
                   .shape = {2, 8},
                   .rank = 0x01000100,
                   .version = 3},
        .model = LR_STR("tiny"),
        .tokens = 4,
        .position = 256,
        .created_ms = 1700000000000,
        .cost = 0.5f,
        .payload = 32,
        .n_parts = 2,
    };
    lr_chain_first(LR_STR(""), &o->prev);
    lr_chain_next(&o->prev, tokens, 4, &o->key);
    lr_chain_tokens(tokens, 4, &o->token_ids);
    lr_store_id_content(o, &o->id);
    size_t n;
    assert_int_equal(lr_object_size(o, &n), 0);
    assert_int_equal(lr_object_encode(o, parts, out), 0);
    lr_object_seal(out, n, payload);
    return n;
}

static void same(const struct lr_object *a, const struct lr_object *b)
{
    assert_memory_equal(&a->id, &b->id, 32);
    assert_int_equal(lr_object_match(a, b), LR_MATCH);
    assert_int_equal(lr_object_match(b, a), LR_MATCH);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(a->expires_ms, b->expires_ms);
    assert_int_equal(a->payload, b->payload);
    assert_int_equal(a->n_parts, b->n_parts);
    assert_int_equal(a->codec, b->codec);
    assert_int_equal(a->fidelity, b->fidelity);
    assert_int_equal(a->epoch, b->epoch);
    assert_true(a->cost >= b->cost && a->cost <= b->cost);
}

static void golden_file_is_what_is_written(void **state)
{
    (void)state;
    uint8_t head[4096];
    struct lr_object o, back;
    size_t n = example(head, &o), bytes;
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    assert_int_equal(lr_io_read_file(GOLDEN, &b), 0);
    assert_int_equal(b.len, n + sizeof payload);
    assert_memory_equal(b.p, head, n);
    assert_int_equal(lr_object_decode((uint8_t *)b.p, b.len, &back, &bytes), 0);
    assert_int_equal(bytes, n);
    same(&o, &back);
    assert_true(lr_payload_ok((uint8_t *)b.p, n, &back, (uint8_t *)b.p + n));
    lr_buf_free(&b);
}

static struct lr_str some_text(struct lr_rng *r, size_t max)
{
    static const char text[5000] = "abcdefghijklmnopqrstuvwxyz";
    return lr_str(text, lr_rng_below(r, 3) ? lr_rng_below(r, max + 1) : 0);
}

static uint64_t some_int(struct lr_rng *r, uint64_t max)
{
    uint64_t v = lr_rng_u64(r) >> lr_rng_below(r, 64);
    return lr_rng_below(r, 2) ? 0 : v & max;
}

static struct lr_object some_object(struct lr_rng *r)
{
    struct lr_object o = {
        .kind = (enum lr_object_kind)lr_rng_below(r, 2),
        .tenant = some_int(r, UINT64_MAX),
        .space = some_text(r, LR_OBJECT_TEXT_MAX),
        .epoch = (uint32_t)some_int(r, UINT32_MAX),
        .name = some_text(r, LR_OBJECT_NAME_MAX),
        .layout = {.engine = some_text(r, LR_OBJECT_TEXT_MAX),
                   .format = (uint32_t)some_int(r, UINT32_MAX),
                   .dtype = (uint32_t)some_int(r, 8),
                   .n_dims = (uint32_t)lr_rng_below(r, LR_OBJECT_DIMS_MAX + 1),
                   .rank = (uint32_t)some_int(r, UINT32_MAX),
                   .version = (uint32_t)some_int(r, UINT32_MAX)},
        .model = some_text(r, LR_OBJECT_TEXT_MAX),
        .tokens = (uint32_t)some_int(r, UINT32_MAX),
        .position = some_int(r, UINT64_MAX),
        .repr = (uint32_t)some_int(r, 1),
        .phase = (uint32_t)some_int(r, 1),
        .policy = some_text(r, LR_OBJECT_TEXT_MAX),
        .codec = (uint32_t)some_int(r, 3),
        .fidelity = (uint32_t)some_int(r, LR_OBJECT_LOSSLESS),
        .variant = some_int(r, UINT64_MAX),
        .created_ms = some_int(r, UINT64_MAX),
        .expires_ms = some_int(r, UINT64_MAX),
        .cost = (float)lr_rng_below(r, 100),
    };
    for (uint32_t i = 0; i < o.layout.n_dims; i++)
        o.layout.shape[i] = (uint32_t)lr_rng_u64(r);
    struct lr_digest *d[] = {&o.id, &o.key, &o.prev, &o.prefix, &o.token_ids};
    for (size_t i = 0; i < LR_COUNT(d); i++)
        if (lr_rng_below(r, 2))
            for (size_t k = 0; k < 32; k += 8)
                lr_put_le64(d[i]->b + k, lr_rng_u64(r));
    return o;
}

static void decode_of_encode_is_identity(void **state)
{
    (void)state;
    static uint8_t head[LR_OBJECT_HEAD_MAX];
    static struct lr_object_part parts[LR_OBJECT_PARTS_MAX];
    struct lr_rng r;
    uint64_t seed = 11;
    lr_rng_seed(&r, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 3000; round++) {
        struct lr_object o = some_object(&r), back;
        o.n_parts = (uint32_t)lr_rng_below(&r, round % 100 ? 6 : LR_OBJECT_PARTS_MAX + 1);
        for (uint32_t i = 0; i < o.n_parts; i++) {
            parts[i] = (struct lr_object_part){o.payload, 1 + lr_rng_below(&r, 1000), lr_rng_u64(&r)};
            o.payload += parts[i].bytes;
        }
        size_t n, bytes;
        assert_int_equal(lr_object_size(&o, &n), 0);
        assert_true(n <= LR_OBJECT_HEAD_MAX);
        assert_int_equal(lr_object_encode(&o, parts, head), 0);
        assert_int_equal(lr_object_decode(head, n, &back, &bytes), 0);
        assert_int_equal(bytes, n);
        same(&o, &back);
        for (uint32_t i = 0; i < o.n_parts; i++) {
            struct lr_object_part p = lr_object_part(head, n, &back, i);
            assert_memory_equal(&p, &parts[i], sizeof p);
        }
    }
}

static void every_flipped_bit_and_every_cut_is_refused(void **state)
{
    (void)state;
    uint8_t head[4096];
    struct lr_object o, back;
    size_t n = example(head, &o);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(lr_object_decode(head, n, &back, NULL), 0);
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t k = 0; k < n; k++)
        assert_int_not_equal(lr_object_decode(head, k, &back, NULL), 0);
    assert_int_equal(lr_object_decode(head, n, &back, NULL), 0);
}

/* Puts a field of id before the end mark of the example and makes the sums right again. */
static int with_field(uint8_t id)
{
    uint8_t head[4096], wider[4096] = {0};
    struct lr_object o, back;
    size_t n = example(head, &o), rows = n - 8 - 2 * 24, end = rows;
    while (head[end - 1] == 0)
        end--; /* the end mark and the padding; no field of the example ends in 0 */
    memcpy(wider, head, end);
    wider[end] = id;
    lr_put_le16(wider + end + 1, 5);
    memcpy(wider + end + 3, "fresh", 5);
    size_t fields = (end + 8 + 8) & ~(size_t)7, m = fields + 2 * 24 + 8;
    memcpy(wider + fields, head + rows, 2 * 24);
    lr_put_le32(wider + 8, (uint32_t)m);
    lr_put_le64(wider + m - 8, lr_hash64(lr_str(wider, m - 8), 0));
    int rc = lr_object_decode(wider, m, &back, NULL);
    if (!rc)
        same(&o, &back);
    return rc;
}

static void unknown_fields_are_skipped_below_128_and_refused_from_there(void **state)
{
    (void)state;
    assert_int_equal(with_field(77), 0);
    assert_int_equal(with_field(127), 0);
    assert_int_equal(with_field(128), LR_EVERSION);
    assert_int_equal(with_field(255), LR_EVERSION);
    assert_int_equal(with_field(2), LR_ECORRUPT); /* the tenant twice */
}

static void each_part_of_identity_that_differs_is_a_mismatch_of_its_name(void **state)
{
    (void)state;
    uint8_t head[4096];
    struct lr_object o, w;
    example(head, &o);
#define DIFFERS(member, value, reason)                                                             \
    w = o;                                                                                         \
    w.member = value;                                                                              \
    assert_int_equal(lr_object_match(&o, &w), reason)
    DIFFERS(kind, LR_OBJECT_OPAQUE, LR_MISMATCH_KIND);
    DIFFERS(tenant, 8, LR_MISMATCH_TENANT);
    DIFFERS(key.b[0], (uint8_t)(o.key.b[0] ^ 1), LR_MISMATCH_KEY);
    DIFFERS(model, LR_STR("tiny2"), LR_MISMATCH_MODEL);
    DIFFERS(layout.engine, LR_STR("vllm"), LR_MISMATCH_LAYOUT);
    DIFFERS(layout.dtype, LR_DTYPE_BF16, LR_MISMATCH_LAYOUT);
    DIFFERS(layout.shape[1], 9, LR_MISMATCH_LAYOUT);
    DIFFERS(layout.n_dims, 1, LR_MISMATCH_LAYOUT);
    DIFFERS(layout.rank, 0, LR_MISMATCH_LAYOUT);
    DIFFERS(layout.version, 4, LR_MISMATCH_LAYOUT);
    DIFFERS(tokens, 5, LR_MISMATCH_TOKENS);
    DIFFERS(position, 0, LR_MISMATCH_TOKENS);
    DIFFERS(prev.b[3], (uint8_t)(o.prev.b[3] ^ 1), LR_MISMATCH_TOKENS);
    DIFFERS(token_ids.b[3], (uint8_t)(o.token_ids.b[3] ^ 1), LR_MISMATCH_TOKENS);
    DIFFERS(repr, LR_REPR_X, LR_MISMATCH_FORM);
    DIFFERS(phase, LR_PHASE_DECODE, LR_MISMATCH_FORM);
    DIFFERS(variant, 1, LR_MISMATCH_FORM);
    DIFFERS(policy, LR_STR("snap"), LR_MISMATCH_FORM);
    DIFFERS(codec, LR_CODEC_ZSTD, LR_MATCH);
    DIFFERS(fidelity, LR_OBJECT_LOSSLESS, LR_MATCH);
    o.fidelity = 8000;
    DIFFERS(fidelity, 8001, LR_MISMATCH_FIDELITY);
    DIFFERS(fidelity, 7999, LR_MATCH);
}

static void what_breaks_a_maximum_is_refused(void **state)
{
    (void)state;
    static char text[LR_OBJECT_NAME_MAX + 1];
    size_t n;
    struct lr_object o = {.model = lr_str(text, LR_OBJECT_TEXT_MAX + 1)};
    assert_int_equal(lr_object_size(&o, &n), LR_EOVER);
    o = (struct lr_object){.name = lr_str(text, LR_OBJECT_NAME_MAX + 1)};
    assert_int_equal(lr_object_size(&o, &n), LR_EOVER);
    o = (struct lr_object){.payload = LR_OBJECT_VALUE_MAX + 1, .n_parts = 1};
    assert_int_equal(lr_object_size(&o, &n), LR_EOVER);
    o = (struct lr_object){.payload = 1};
    assert_int_equal(lr_object_size(&o, &n), LR_EINVAL);
    o = (struct lr_object){.layout.n_dims = 9};
    assert_int_equal(lr_object_size(&o, &n), LR_EINVAL);
}

/* ---- chains ---- */

static void hex_is(const struct lr_digest *d, const char *want)
{
    char hex[65];
    lr_hex(d->b, 32, hex);
    assert_string_equal(hex, want);
}

/* tests/golden/chain.txt: tokens as FROM-TO, block, then every link. Computed with
 * the b3sum of the BLAKE3 project (see its head). */
static void chains_are_those_of_the_vectors(void **state)
{
    (void)state;
    struct lr_buf b;
    size_t lines = 0;
    lr_buf_init(&b, LR_KIB(64));
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/tests/golden/chain.txt", &b), 0);
    struct lr_str rest = lr_buf_str(&b);
    while (rest.p) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        if (!line.n || line.p[0] == '#')
            continue;
        struct lr_str range = lr_str_cut(&line, ' ');
        struct lr_str from = lr_str_cut(&range, '-');
        uint64_t a, z, block;
        assert_int_equal(lr_parse_u64(from, &a), 0);
        assert_int_equal(lr_parse_u64(range, &z), 0);
        assert_int_equal(lr_parse_u64(lr_str_cut(&line, ' '), &block), 0);
        uint32_t ids[2048];
        for (uint64_t i = a; i <= z; i++)
            ids[i - a] = (uint32_t)i;
        struct lr_digest keys[64];
        size_t n = lr_chain_keys(LR_STR(""), ids, z - a + 1, block, keys, 64), i = 0;
        for (; line.p; i++) {
            struct lr_str want = lr_str_cut(&line, ' ');
            char hex[65];
            assert_true(i < n);
            lr_hex(keys[i].b, 32, hex);
            assert_true(lr_str_is(want, hex));
        }
        assert_int_equal(i, n);
        lines++;
    }
    assert_true(lines >= 3);
    lr_buf_free(&b);
}

static void first_link_without_a_salt_is_that_of_lmcache(void **state)
{
    (void)state;
    struct lr_digest d, twin;
    uint8_t bytes[12] = {0}; /* int64_be(0), u32_be(0) */
    lr_chain_first(LR_STR(""), &d);
    lr_blake3(lr_str(bytes, 12), &twin);
    assert_memory_equal(&d, &twin, 32);
    hex_is(&d, "7e3eff9ef7613a50340eb12677ee03b83ac759fcba9bb32705f07248d56d473b");
}

static void salts_separate_chains(void **state)
{
    (void)state;
    struct lr_digest a, b, c;
    uint32_t t[300];
    for (uint32_t i = 0; i < 300; i++)
        t[i] = i;
    assert_int_equal(lr_chain_keys(LR_STR("a"), t, 300, 256, &a, 1), 1);
    assert_int_equal(lr_chain_keys(LR_STR("b"), t, 300, 256, &b, 1), 1);
    assert_int_equal(lr_chain_keys(LR_STR(""), t, 300, 256, &c, 1), 1);
    assert_memory_not_equal(&a, &b, 32);
    assert_memory_not_equal(&a, &c, 32);
    assert_int_equal(lr_chain_keys(LR_STR(""), t, 255, 256, &c, 1), 0);
    assert_int_equal(lr_chain_keys(LR_STR(""), t, 300, 256, &c, 0), 0);
}

static void a_link_is_the_hash_of_link_and_big_endian_tokens(void **state)
{
    (void)state;
    struct lr_digest prev, link, twin;
    uint8_t bytes[32 + 4 * 600];
    uint32_t t[600];
    lr_chain_first(LR_STR("x"), &prev);
    memcpy(bytes, prev.b, 32);
    for (uint32_t i = 0; i < 600; i++) {
        t[i] = i * 2654435761u;
        for (uint32_t k = 0; k < 4; k++)
            bytes[32 + 4 * i + k] = (uint8_t)(t[i] >> (24 - 8 * k));
    }
    lr_chain_next(&prev, t, 600, &link);
    lr_blake3(lr_str(bytes, sizeof bytes), &twin);
    assert_memory_equal(&link, &twin, 32);
}

static void halves_of_a_pair_share_all_but_two_bits_of_their_ids(void **state)
{
    (void)state;
    struct lr_digest a, b, c;
    lr_store_id_opaque(1, LR_STR("0"), LR_STR("m@1@0@ff@halfkv_bytes"), &a);
    lr_store_id_opaque(1, LR_STR("0"), LR_STR("m@1@0@ff@halfmetadata"), &b);
    assert_memory_equal(&a, &b, 31);
    assert_int_equal(a.b[31] ^ b.b[31], 3);
    lr_store_id_opaque(1, LR_STR("0"), LR_STR("m@1@0@ff@half"), &c);
    assert_memory_not_equal(&a, &c, 31);
    lr_store_id_opaque(1, LR_STR("0"), LR_STR("user:metadata"), &c);
    assert_int_equal(lr_role_of(&c), LR_ROLE_NONE);
    lr_store_id_opaque(2, LR_STR("0"), LR_STR("m@1@0@ff@halfkv_bytes"), &c);
    assert_memory_not_equal(&a, &c, 31);
}

static int write_golden(void)
{
    uint8_t head[4096 + sizeof payload];
    struct lr_object o;
    size_t n = example(head, &o);
    memcpy(head + n, payload, sizeof payload);
    for (size_t i = 0; i < n + sizeof payload; i++)
        printf("%s%02x", i % 16 ? "" : "\n", head[i]);
    printf("\n%zu bytes of header\n", n);
    return lr_io_write_file(GOLDEN, lr_str(head, n + sizeof payload), 0644) ? 1 : 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_file_is_what_is_written),
        cmocka_unit_test(decode_of_encode_is_identity),
        cmocka_unit_test(every_flipped_bit_and_every_cut_is_refused),
        cmocka_unit_test(unknown_fields_are_skipped_below_128_and_refused_from_there),
        cmocka_unit_test(each_part_of_identity_that_differs_is_a_mismatch_of_its_name),
        cmocka_unit_test(what_breaks_a_maximum_is_refused),
        cmocka_unit_test(chains_are_those_of_the_vectors),
        cmocka_unit_test(first_link_without_a_salt_is_that_of_lmcache),
        cmocka_unit_test(salts_separate_chains),
        cmocka_unit_test(a_link_is_the_hash_of_link_and_big_endian_tokens),
        cmocka_unit_test(halves_of_a_pair_share_all_but_two_bits_of_their_ids),
    };
    if (argc == 2 && lr_str_is(lr_strz(argv[1]), "write"))
        return write_golden();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
