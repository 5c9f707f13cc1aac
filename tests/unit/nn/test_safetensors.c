/* SPDX-License-Identifier: Apache-2.0
 * unit/nn/test_safetensors.c - laws of the safetensors reader.
 */
#include "kit.h"

/* Header and data as a file in b; the header is padded with blanks to 8 bytes. */
static void build(struct lr_buf *b, const char *header, size_t data)
{
    size_t n = strlen(header), padded = (n + 7) / 8 * 8;
    lr_buf_reset(b);
    kit_u64(b, padded);
    assert_int_equal(lr_buf_addz(b, header), 0);
    for (; n < padded; n++)
        assert_int_equal(lr_buf_addc(b, ' '), 0);
    for (size_t i = 0; i < data; i++)
        assert_int_equal(lr_buf_addc(b, (char)i), 0);
}

static void tensors_are_where_the_header_says(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    struct lr_nn_st *s;
    struct lr_err err = {0};
    lr_buf_init(&b, LR_KIB(64));
    build(&b,
          "{\"__metadata__\":{\"format\":\"pt\"},"
          "\"w\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
          "\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
          "\"one\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[20,24]},"
          "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[8,8]}}",
          24);
    const char *path = kit_path("t.safetensors");
    assert_int_equal(lr_io_write_file(path, lr_buf_str(&b), 0600), 0);
    for (uint64_t map_min = 0; map_min < 2; map_min++) { /* read, mapped */
        struct lr_nn_file_opts opts = {map_min};
        if (lr_nn_st_open(&s, path, &opts, &err))
            fail_msg("%s at %s", err.msg, err.where);
        const struct lr_nn_tensor *w = lr_nn_st_tensor(s, "w");
        assert_int_equal(lr_nn_st_tensors(s), 4);
        assert_ptr_equal(w, lr_nn_st_at(s, 0));
        assert_true(w->type == LR_NN_F16 && w->dims == 2 && w->ne[0] == 3 && w->ne[1] == 2);
        assert_true(w->ne[2] == 1 && w->ne[3] == 1 && w->bytes == 12);
        assert_int_equal(*(const uint8_t *)w->data, 8);
        assert_int_equal(lr_nn_st_tensor(s, "ids")->type, LR_NN_I64);
        assert_int_equal(lr_nn_st_tensor(s, "one")->dims, 0);
        assert_int_equal(*(const uint8_t *)lr_nn_st_tensor(s, "one")->data, 20);
        assert_int_equal(lr_nn_st_tensor(s, "none")->bytes, 0);
        assert_null(lr_nn_st_tensor(s, "__metadata__"));
        assert_true(lr_str_is(lr_nn_st_text(s, "format"), "pt"));
        assert_int_equal(lr_nn_st_text(s, "else").n, 0);
        assert_int_equal(lr_nn_st_check(s, NULL), 0);
        lr_nn_st_close(s);
    }
    unlink(path);
    lr_buf_free(&b);
}

static void hostile_headers_are_refused_with_their_place(void **state)
{
    (void)state; /* cmocka's */
#define ONE(dtype, shape, offsets)                                                                 \
    "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct {
        const char *header;
        size_t data;
        int rc;
        const char *msg, *where;
    } cases[] = {
        {"[]", 0, LR_EPARSE, "no JSON object", "header"},
        {"{\"w\":3}", 0, LR_EPARSE, "no object", "tensor 'w'"},
        {"{\"w\":{},\"w\":{}}", 0, LR_EPARSE, "", ""},
        {"{\"__metadata__\":{\"a\":1}}", 0, LR_EPARSE, "something else than texts", "__metadata__"},
        {ONE("\"F8_E5M2\"", "[8]", "[0,8]"), 8, LR_EUNSUPPORTED, "type F8_E5M2 is not supported",
         "tensor 'w' dtype"},
        {ONE("\"Q8_0\"", "[32]", "[0,34]"), 34, LR_EUNSUPPORTED, "type Q8_0", "tensor 'w' dtype"},
        {ONE("7", "[8]", "[0,8]"), 8, LR_EPARSE, "missing", "tensor 'w' dtype"},
        {ONE("\"U8\"", "[1,1,1,1,8]", "[0,8]"), 8, LR_EUNSUPPORTED, "more than 4",
         "tensor 'w' shape"},
        {ONE("\"U8\"", "[-8]", "[0,8]"), 8, LR_EPARSE, "no integer", "tensor 'w' shape"},
        {ONE("\"F32\"", "[4611686018427387904,4]", "[0,8]"), 8, LR_EPARSE, "overflow",
         "tensor 'w' shape"},
        {ONE("\"U8\"", "[8]", "[0]"), 8, LR_EPARSE, "not two integers", "tensor 'w' data_offsets"},
        {ONE("\"U8\"", "[8]", "[8,0]"), 8, LR_EPARSE, "backwards", "tensor 'w' data_offsets"},
        {ONE("\"U8\"", "[9]", "[0,9]"), 8, LR_EPARSE, "beyond the end", "tensor 'w' data_offsets"},
        {ONE("\"U8\"", "[7]", "[0,8]"), 8, LR_EPARSE, "not the bytes", "tensor 'w' data_offsets"},
        {ONE("\"U8\"", "[7]", "[1,8]"), 8, LR_EPARSE, "leave a gap", "tensor 'w' data_offsets"},
        {ONE("\"U8\"", "[7]", "[0,7]"), 8, LR_EPARSE, "1 bytes belong to no tensor", "data"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[6],\"data_offsets\":[0,6]},"
         "\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
         8, LR_EPARSE, "overlap", "tensor 'w' data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
         6, LR_EUNSUPPORTED, "not aligned", "tensor 'w'"},
    };
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_nn_st *s = NULL;
        struct lr_err err = {0};
        build(&b, cases[i].header, cases[i].data);
        int rc = lr_nn_st_open_mem(&s, lr_buf_str(&b), &err);
        if (rc != cases[i].rc || !strstr(err.msg, cases[i].msg) ||
            (*cases[i].where && strcmp(err.where, cases[i].where) != 0))
            fail_msg("case %zu: %d, '%s' at '%s'", i, rc, err.msg, err.where);
        assert_null(s);
    }
    lr_buf_free(&b);
}

static void headers_longer_than_the_file_or_the_limit_are_refused(void **state)
{
    (void)state; /* cmocka's */
    static const uint64_t lengths[] = {UINT64_MAX, 1ull << 40, 9, 8};
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    for (size_t i = 0; i < LR_COUNT(lengths); i++) {
        struct lr_nn_st *s;
        lr_buf_reset(&b);
        kit_u64(&b, lengths[i]);
        assert_int_equal(lr_buf_addz(&b, "{}      "), 0);
        int rc = lr_nn_st_open_mem(&s, lr_buf_str(&b), NULL);
        assert_int_equal(rc, lengths[i] == 8 ? 0 : LR_EPARSE);
        if (!rc)
            lr_nn_st_close(s);
    }
    lr_buf_free(&b);
}

static void every_failure_of_memory_and_disk_is_a_clean_error(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    build(&b, "{\"w\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4);
    const char *path = kit_path("f.safetensors");
    assert_int_equal(lr_io_write_file(path, lr_buf_str(&b), 0600), 0);
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct lr_nn_st *s = NULL;
        struct lr_err err = {0};
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = lr_nn_st_open(&s, path, &(struct lr_nn_file_opts){.map_min = n % 2}, &err);
        hit = lr_fault_seen() >= n;
        assert_int_equal(lr_fault_arm(0), 0);
        assert_true(hit ? rc != 0 && err.code == rc && err.msg[0] : rc == 0);
        lr_nn_st_close(s);
    }
    unlink(path);
    lr_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_where_the_header_says),
        cmocka_unit_test(hostile_headers_are_refused_with_their_place),
        cmocka_unit_test(headers_longer_than_the_file_or_the_limit_are_refused),
        cmocka_unit_test(every_failure_of_memory_and_disk_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, kit_teardown);
}
