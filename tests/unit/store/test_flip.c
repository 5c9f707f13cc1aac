/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_flip.c - a small log in which every bit is flipped, one at a time: no older value
 * comes back, nothing deleted, expired or of an older epoch does, whatever the bit hid.
 *
 * The log: values replaced, deleted, expired, of an older epoch, large ones, in two files; with footers
 * and (the process was killed) without. Arguments: [stride]: only each stride-th bit of what is not zero;
 * the suite takes a few, `make check-long` all.
 */
#include "kit.h"

enum { REPLACED, DELETED, EXPIRED, OLD_EPOCH, LARGE, CONTENT, KEPT, IDS };

#define LARGE_BYTES (LR_LARGE + 9)

static uint64_t now(void *arg)
{
    (void)arg;
    return 1000000;
}

static struct lr_store *open_store(struct fs *f)
{
    struct lr_store *s;
    struct lr_store_opts o = {.mem_max = LR_MIB(1),
                              .dir = "d",
                              .vfs = &f->vfs,
                              .disk_max = LR_MIB(8),
                              .segment_bytes = LR_MIB(1),
                              .late_ms = 60000,
                              .readers = 1,
                              .now_ms = now};
    assert_int_equal(lr_store_open(&s, &o, NULL), 0);
    return s;
}

static struct lr_object object(uint32_t id)
{
    struct lr_object o = id == CONTENT ? content(id, 0) : opaque(id, 0);
    if (id == OLD_EPOCH) {
        o.space = LR_STR("db1");
        lr_store_id_opaque(o.tenant, o.space, o.name, &o.id);
    }
    return o;
}

static void put(struct lr_store *s, uint32_t id, uint32_t version)
{
    static uint8_t buf[LARGE_BYTES];
    struct lr_object o = object(id);
    o.payload = id == LARGE ? sizeof buf : 40;
    value_of(id, version, buf, o.payload);
    assert_int_equal(lr_store_put(s, &o, &(struct lr_piece){0, buf, o.payload}, 1, false,
                                  LR_PUT_DURABLE, LR_FOREVER),
                     0);
}

/* The version there, 0: a miss; fails on a wrong byte. */
static uint32_t get(struct lr_store *s, uint32_t id)
{
    static uint8_t want[LARGE_BYTES];
    struct lr_object o = object(id);
    struct lr_view *v;
    if (lr_store_get(s, &o.id, &o, LR_FOREVER, &v))
        return 0;
    struct lr_str b = lr_view_bytes(v);
    assert_int_equal(b.n, id == LARGE ? sizeof want : 40);
    uint32_t version = lr_le32(b.p + 4);
    value_of(id, version, want, b.n);
    assert_memory_equal(b.p, want, b.n);
    lr_view_put(v);
    return version;
}

/* The first file has older values, the second what ended them. */
static struct fs *build(bool footers)
{
    struct fs *f = fs_new(false);
    struct lr_store *s = open_store(f);
    for (uint32_t id = 0; id < IDS; id++)
        put(s, id, 1);
    lr_store_close(s);
    s = open_store(f);
    put(s, REPLACED, 2);
    struct lr_object o = object(DELETED);
    assert_int_equal(lr_store_del(s, &o.id, LR_PUT_DURABLE, LR_FOREVER), 0);
    o = object(EXPIRED);
    assert_int_equal(lr_store_expire(s, &o.id, 999999), 0);
    o = object(OLD_EPOCH);
    assert_int_equal(lr_store_bump(s, o.tenant, o.space, LR_PUT_DURABLE, LR_FOREVER, NULL), 0);
    put(s, LARGE, 2);
    put(s, REPLACED, 3);
    assert_int_equal(lr_store_sync(s, LR_FOREVER), 0);
    f->dead = !footers;
    lr_store_close(s);
    f->dead = false;
    return f;
}

struct seen {
    uint64_t flips, hits, misses;
};

static void check(struct fs *f, const char *where, size_t bit, struct seen *n)
{
    static const uint32_t newest[IDS] = {
        [REPLACED] = 3, [LARGE] = 2, [CONTENT] = 1, [KEPT] = 1};
    struct lr_store *s = open_store(f);
    for (uint32_t id = 0; id < IDS; id++) {
        uint32_t v = get(s, id);
        if (v && v != newest[id])
            fail_msg("id %u: version %u with bit %zu of %s flipped", id, v, bit, where);
        n->hits += v != 0;
        n->misses += !v && newest[id];
    }
    f->dead = true; /* the next flip finds the files as they were */
    lr_store_close(s);
    f->dead = false;
}

/* Opening writes footers and segments: the files are put back after each. */
static void flip_all(bool footers, size_t stride, struct seen *n)
{
    struct fs *f = build(footers);
    size_t files = f->n_files;
    assert_int_equal(files, 2);
    struct fs_file was[2];
    for (size_t i = 0; i < files; i++) {
        was[i] = f->file[i];
        was[i].p = malloc(was[i].size);
        memcpy(was[i].p, f->file[i].p, was[i].size);
    }
    check(f, "nothing", 0, n);
    assert_int_equal(n->misses, 0);
    for (size_t i = 0; i < files; i++)
        for (size_t bit = 0, k = 0; bit < 8 * was[i].size; bit++) {
            if (!was[i].p[bit / 8] || k++ % stride)
                continue;
            for (size_t j = 0; j < files; j++) {
                memcpy(f->file[j].p, was[j].p, was[j].size);
                f->file[j].size = was[j].size;
                f->file[j].there = true; /* compaction may have taken it away */
            }
            f->file[i].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            n->flips++;
            check(f, f->file[i].path, bit, n);
            for (size_t j = files; j < f->n_files; j++)
                free(f->file[j].p);
            memset(f->file + files, 0, (f->n_files - files) * sizeof f->file[0]);
            f->n_files = files;
        }
    for (size_t i = 0; i < files; i++)
        free(was[i].p);
    fs_free(f);
}

static size_t stride = 997;

static void no_flipped_bit_brings_an_older_value_back(void **state)
{
    (void)state;
    for (int footers = 0; footers < 2; footers++) {
        struct seen n = {0};
        flip_all(footers, stride, &n);
        print_message("%s footers: %llu flips, %llu hits, %llu misses\n", footers ? "with" : "without",
                      (unsigned long long)n.flips, (unsigned long long)n.hits,
                      (unsigned long long)n.misses);
    }
}

/* Records that bad luck hit harder than one bit can be put right: doubt, not an older value. */
static void what_cannot_be_put_right_is_doubted(void **state)
{
    (void)state;
    for (size_t at = 8; at < 200; at += 70) { /* the head of REPLACED, version 2, then its header */
        struct fs *f = build(false);
        uint8_t *p = f->file[1].p + LR_SEGMENT_HEAD;
        assert_memory_equal(p, "LKVR", 4);
        memset(p + at, 0xA5, 8);
        struct lr_store *s = open_store(f);
        assert_true(get(s, REPLACED) == 0 || get(s, REPLACED) == 3);
        assert_int_equal(get(s, DELETED), 0);
        assert_int_equal(get(s, OLD_EPOCH), 0);
        lr_store_close(s);
        fs_free(f);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_flipped_bit_brings_an_older_value_back),
        cmocka_unit_test(what_cannot_be_put_right_is_doubted),
    };
    uint64_t n;
    if (argc > 1 && !lr_parse_u64(lr_strz(argv[1]), &n) && n)
        stride = (size_t)n;
    lr_log_set_level(LR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
