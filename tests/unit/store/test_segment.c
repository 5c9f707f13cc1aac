/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_segment.c - the bytes of a segment file are those of docs/formats/segment.md.
 *
 * With the argument "write" it writes tests/golden/segment-v1.bin.
 */
#include "kit.h"

#define GOLDEN LR_SOURCE_DIR "/tests/golden/segment-v1.bin"
#define SALT   0x0123456789ABCDEFull

static struct lr_object example(void)
{
    struct lr_object o = {.kind = LR_OBJECT_OPAQUE,
                          .tenant = 7,
                          .space = LR_STR("0"),
                          .name = LR_STR("greeting"),
                          .created_ms = 1700000000000,
                          .payload = 5,
                          .n_parts = 1};
    lr_store_id_opaque(o.tenant, o.space, o.name, &o.id);
    return o;
}

/* Head, one object, the note that an id is gone, a filler, footer: 3 pages. */
static size_t build(uint8_t out[3 * 4096])
{
    struct lr_object o = example();
    struct lr_object_part part = {0, 5, 0};
    size_t head, at = 4096;
    memset(out, 0, 3 * 4096);
    lr_segment_head(&(struct lr_segment_info){1, SALT, 0}, out);
    assert_int_equal(lr_object_size(&o, &head), 0);
    struct lr_image i = lr_image_of(head, 5);
    assert_int_equal(lr_object_encode(&o, &part, out + at + 64), 0);
    memcpy(out + at + i.payload, "hello", 5);
    lr_object_seal(out + at + 64, head, out + at + i.payload);
    struct lr_record r = {LR_RECORD_OBJECT, i.total, 1, (uint32_t)head, 5, o.id, 0};
    lr_record_write(&r, SALT, out + at);
    struct lr_row rows[2] = {{.type = LR_RECORD_OBJECT,
                              .off = at,
                              .total = i.total,
                              .seq = 1,
                              .id = o.id,
                              .head = (uint32_t)head,
                              .o = o}};
    at += i.total;
    struct lr_record gone = {LR_RECORD_GONE, LR_RECORD_NOTE, 2, 0, 0, {{1, 2, 3}}, 0};
    lr_record_write(&gone, SALT, out + at);
    rows[1] = (struct lr_row){
        .type = LR_RECORD_GONE, .off = at, .total = LR_RECORD_NOTE, .seq = 2, .id = gone.id};
    at += LR_RECORD_NOTE;
    lr_record_pad(8192 - at, SALT, out + at);
    struct lr_buf b;
    lr_buf_init(&b, 4096);
    assert_int_equal(lr_row_add(&b, &rows[0]), 0);
    assert_int_equal(lr_row_add(&b, &rows[1]), 0);
    memcpy(out + 8192, b.p, b.len);
    lr_foot_write(SALT, 8192, lr_buf_str(&b), out + 3 * 4096 - 64);
    lr_buf_free(&b);
    return 3 * 4096;
}

static void golden_file_is_what_is_written(void **state)
{
    (void)state;
    uint8_t want[3 * 4096];
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    assert_int_equal(lr_io_read_file(GOLDEN, &b), 0);
    assert_int_equal(b.len, build(want));
    assert_memory_equal(b.p, want, b.len);
    lr_buf_free(&b);
}

/* A store over the golden file, cut to n bytes, answers with its object. */
static bool serves(const uint8_t *p, size_t n)
{
    struct fs *f = fs_new(false);
    struct lr_store *s;
    struct lr_view *v;
    struct lr_object o = example();
    f->n_files = 1;
    f->file[0] = (struct fs_file){.path = "d/00000001.seg", .there = true};
    fs_put(&f->file[0], p, n, 0);
    struct lr_store_opts opts = {
        .mem_max = LR_MIB(1), .dir = "d", .vfs = &f->vfs, .disk_max = LR_MIB(4)};
    assert_int_equal(lr_store_open(&s, &opts, NULL), 0);
    bool ok = lr_store_get(s, &o.id, &o, LR_FOREVER, &v) == 0;
    if (ok) {
        assert_true(lr_str_is(lr_view_bytes(v), "hello"));
        lr_view_put(v);
    }
    lr_store_close(s);
    fs_free(f);
    return ok;
}

static void a_golden_segment_is_served_with_and_without_its_footer(void **state)
{
    (void)state;
    uint8_t p[3 * 4096];
    build(p);
    assert_true(serves(p, sizeof p));
    assert_true(serves(p, 8192));
    assert_true(serves(p, 4096 + 512 + 64)); /* torn after the object */
    p[4096 + 258] ^= 1;
    assert_false(serves(p, 8192));
    p[4096 + 258] ^= 1;
    p[4] = 2; /* another major: left alone */
    lr_put_le64(p + 56, lr_hash64(lr_str(p, 56), 0));
    assert_false(serves(p, sizeof p));
}

static void every_flipped_bit_of_a_record_is_found(void **state)
{
    (void)state;
    uint8_t p[3 * 4096];
    struct lr_record r;
    build(p);
    uint8_t *image = p + 4096;
    assert_int_equal(lr_record_head(image, SALT, &r), 0);
    size_t padding = 0;
    for (size_t bit = 0; bit < 8 * r.total; bit++) {
        struct lr_record again = {.total = r.total};
        image[bit / 8] ^= (uint8_t)(1u << bit % 8);
        padding += lr_record_check(image, SALT, true, &again, NULL) == 0;
        image[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* Zeros between header, payload and mark are nobody's. */
    struct lr_image i = lr_image_of(r.head, r.payload);
    assert_int_equal(padding, 8 * (i.payload - 64 - r.head + i.total - 64 - i.payload - 5));
    struct lr_record other = {.total = r.total};
    assert_int_not_equal(lr_record_check(image, SALT + 1, true, &other, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_file_is_what_is_written),
        cmocka_unit_test(a_golden_segment_is_served_with_and_without_its_footer),
        cmocka_unit_test(every_flipped_bit_of_a_record_is_found),
    };
    lr_log_set_level(LR_LOG_ERROR);
    if (argc == 2 && lr_str_is(lr_strz(argv[1]), "write")) {
        uint8_t p[3 * 4096];
        return lr_io_write_file(GOLDEN, lr_str(p, build(p)), 0644) ? 1 : 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
