/* SPDX-License-Identifier: Apache-2.0
 * unit/nn/test_gguf.c - laws of the GGUF reader and writer, and of files that change under us.
 */
#include "kit.h"

#include <fcntl.h>
#include <sys/stat.h>

static void refused(struct lr_buf *b, int rc, const char *msg, const char *where)
{
    struct lr_nn_gguf *g = NULL;
    struct lr_err err = {0};
    assert_int_equal(lr_nn_gguf_open_mem(&g, lr_buf_str(b), &err), rc);
    assert_null(g);
    if (!strstr(err.msg, msg) || strcmp(err.where, where) != 0)
        fail_msg("'%s' at '%s', want '%s' at '%s'", err.msg, err.where, msg, where);
    lr_buf_reset(b);
}

static void hostile_metadata_is_refused_with_its_place(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    assert_int_equal(lr_buf_addz(&b, "GGU"), 0);
    refused(&b, LR_EPARSE, "the file ends here", "header");
    kit_head(&b, 1, 0, 0);
    refused(&b, LR_EVERSION, "version 1", "header");
    kit_head(&b, 3u << 24, 0, 0);
    refused(&b, LR_EVERSION, "big-endian", "header");
    kit_head(&b, 3, 0, UINT64_MAX);
    refused(&b, LR_EOVER, "metadata keys", "header");
    kit_head(&b, 3, UINT64_MAX / 2, 0);
    refused(&b, LR_EOVER, "tensors", "header");
    kit_head(&b, 3, 0, 60000);
    refused(&b, LR_EPARSE, "the file ends here", "header");
    kit_head(&b, 3, 0, 1);
    kit_u64(&b, UINT64_MAX);
    kit_u64(&b, 0);
    refused(&b, LR_EPARSE, "the file ends here", "metadata key number 0");
    kit_head(&b, 3, 0, 1);
    kit_text(&b, "x\n\x01y");
    kit_u32(&b, 77);
    refused(&b, LR_EPARSE, "unknown value type 77", "metadata key 'x??y'");
    kit_head(&b, 3, 0, 1);
    kit_text(&b, "t");
    kit_u32(&b, LR_NN_KV_TEXT);
    kit_u64(&b, 1u << 30);
    refused(&b, LR_EPARSE, "the file ends here", "metadata key 't'");
    kit_head(&b, 3, 0, 1);
    kit_text(&b, "a");
    kit_u32(&b, LR_NN_KV_ARRAY);
    kit_u32(&b, LR_NN_KV_U8);
    kit_u64(&b, LR_NN_ARRAY_MAX + 1ull);
    refused(&b, LR_EOVER, "array of 16777217", "metadata key 'a'");
    kit_head(&b, 3, 0, 1);
    kit_text(&b, "deep");
    kit_u32(&b, LR_NN_KV_ARRAY);
    for (int i = 0; i < 8; i++) {
        kit_u32(&b, LR_NN_KV_ARRAY);
        kit_u64(&b, 1);
    }
    kit_u64(&b, 0);
    refused(&b, LR_EOVER, "nested deeper", "metadata key 'deep'");
    kit_head(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        kit_text(&b, "k");
        kit_u32(&b, LR_NN_KV_U32);
        kit_u32(&b, 1);
    }
    refused(&b, LR_EPARSE, "occurs twice", "metadata key 'k'");
    kit_head(&b, 3, 0, 1);
    kit_text(&b, "general.alignment");
    kit_u32(&b, LR_NN_KV_U32);
    kit_u32(&b, 48);
    refused(&b, LR_EPARSE, "no power of two", "metadata key 'general.alignment'");
    lr_buf_free(&b);
}

static void hostile_tensors_are_refused_with_their_place(void **state)
{
    (void)state; /* cmocka's */
    static const struct {
        uint32_t type;
        uint64_t cols, rows, offset;
        int rc;
        const char *msg, *where;
    } cases[] = {
        {10, 256, 1, 0, LR_EUNSUPPORTED, "type Q2_K is not supported", "tensor 'w'"},
        {23, 256, 1, 0, LR_EUNSUPPORTED, "type IQ4_XS is not supported", "tensor 'w'"},
        {26, 256, 1, 0, LR_EUNSUPPORTED, "type I32 is not supported", "tensor 'w'"},
        {4711, 256, 1, 0, LR_EUNSUPPORTED, "unknown type number 4711", "tensor 'w'"},
        {8, 48, 1, 0, LR_EPARSE, "no whole blocks of Q8_0", "tensor 'w'"},
        {0, 0, 1, 0, LR_EPARSE, "dimension 0 is 0", "tensor 'w'"},
        {0, 1ull << 33, 1ull << 33, 0, LR_EPARSE, "dimensions overflow", "tensor 'w'"},
        {0, UINT64_MAX, 1, 0, LR_EPARSE, "dimensions overflow", "tensor 'w'"},
        {0, 4, 1, 4, LR_EPARSE, "no multiple of the alignment", "tensor 'w' offset"},
        {0, 4, 1, UINT64_MAX - 31, LR_EPARSE, "bytes of data", "tensor 'w' offset"},
        {0, 40, 1, 0, LR_EPARSE, "0 plus 160 bytes, the file has 128", "tensor 'w' offset"},
        {0, 32, 1, 32, LR_EPARSE, "32 plus 128 bytes, the file has 128", "tensor 'w' offset"},
    };
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        kit_head(&b, 3, 1, 0);
        kit_tensor(&b, "w", cases[i].type, cases[i].cols, cases[i].rows, cases[i].offset);
        kit_pad(&b, 32);
        for (int k = 0; k < 128; k++)
            assert_int_equal(lr_buf_addc(&b, 0), 0);
        refused(&b, cases[i].rc, cases[i].msg, cases[i].where);
    }
    lr_buf_free(&b);
}

/* ---- round trip ---- */

static uint64_t fill(struct lr_rng *r, void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)lr_rng_u64(r);
    return lr_hash64(lr_str(p, n), 0);
}

/* A scalar or array of any type; what it points to is in data and texts. */
static void any_pair(struct lr_rng *r, struct lr_nn_kv *kv, uint8_t *data, struct lr_str *texts)
{
    kv->elem = (enum lr_nn_kv_type)lr_rng_below(r, LR_NN_KV_TYPES - 1);
    kv->elem = kv->elem == LR_NN_KV_ARRAY ? LR_NN_KV_F64 : kv->elem;
    bool array = lr_rng_below(r, 2);
    kv->type = array ? LR_NN_KV_ARRAY : kv->elem;
    kv->n = array ? (size_t)lr_rng_below(r, 20) : 1;
    fill(r, data, 160);
    for (size_t i = 0; i < 160 && kv->elem == LR_NN_KV_BOOL; i++)
        data[i] &= 1;
    for (size_t i = 0; i < 20; i++)
        texts[i] = lr_str(data + lr_rng_below(r, 80), (size_t)lr_rng_below(r, 80));
    kv->data = kv->elem == LR_NN_KV_TEXT ? (const void *)texts : data;
}

static void same_pair(const struct lr_nn_kv *a, const struct lr_nn_kv *b)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    assert_true(lr_str_eq(a->key, b->key));
    assert_true(a->type == b->type && a->elem == b->elem && a->n == b->n);
    if (a->elem != LR_NN_KV_TEXT) {
        if (a->n)
            assert_memory_equal(a->data, b->data, a->n * bytes[a->elem]);
        return;
    }
    for (size_t i = 0; i < a->n; i++)
        assert_true(
            lr_str_eq(((const struct lr_str *)a->data)[i], ((const struct lr_str *)b->data)[i]));
}

#define PAIRS   12
#define TENSORS 9
struct model {
    struct lr_nn_kv kv[PAIRS];
    char keys[PAIRS][8], names[TENSORS][8];
    uint8_t data[PAIRS][160];
    struct lr_str texts[PAIRS][20];
    struct lr_nn_tensor t[TENSORS];
    uint64_t sums[TENSORS];
    uint32_t align;
};

static int write_model(struct model *m, struct lr_rng *r, const char *path)
{
    static uint8_t bytes[LR_KIB(64)];
    struct lr_nn_gguf_writer *w;
    struct lr_err err = {0};
    m->align = 8u << lr_rng_below(r, 6);
    LR_TRY(lr_nn_gguf_create(&w, path, m->align, &err));
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(m->keys[i], sizeof m->keys[i], "k.%zu", i);
        m->kv[i].key = lr_strz(m->keys[i]);
        any_pair(r, &m->kv[i], m->data[i], m->texts[i]);
        (void)lr_nn_gguf_put(w, &m->kv[i]); /* sticks */
    }
    for (size_t i = 0; i < TENSORS; i++) {
        struct lr_nn_tensor *t = &m->t[i];
        snprintf(m->names[i], sizeof m->names[i], "t.%zu", i);
        *t = (struct lr_nn_tensor){.name = lr_strz(m->names[i])};
        t->type = (enum lr_nn_type)lr_rng_below(r, LR_NN_Q6_K + 1);
        t->dims = 1 + (uint32_t)lr_rng_below(r, 4);
        for (uint32_t d = 0; d < t->dims; d++)
            t->ne[d] = (d ? 1 : lr_nn_type_info(t->type)->block) * (1 + lr_rng_below(r, 3));
        (void)lr_nn_gguf_declare(w, t); /* sticks */
    }
    for (size_t i = 0; i < TENSORS; i++) {
        const struct lr_nn_type_info *info = lr_nn_type_info(m->t[i].type);
        size_t n = info->block_bytes;
        for (uint32_t d = 0; d < m->t[i].dims; d++)
            n *= (size_t)m->t[i].ne[d] / (d ? 1 : info->block);
        assert_true(n <= sizeof bytes);
        m->sums[i] = fill(r, bytes, n);
        for (size_t at = 0; at < n;) { /* in pieces */
            size_t k = 1 + (size_t)lr_rng_below(r, n - at);
            (void)lr_nn_gguf_data(w, bytes + at, k); /* sticks */
            at += k;
        }
    }
    return lr_nn_gguf_finish(w, &err);
}

static void check_model(const struct model *m, const struct lr_nn_gguf *g)
{
    assert_int_equal(lr_nn_gguf_version(g), 3);
    assert_int_equal(lr_nn_gguf_keys(g), PAIRS + 1);
    assert_int_equal(lr_nn_gguf_tensors(g), TENSORS);
    for (size_t i = 0; i < PAIRS; i++) {
        same_pair(lr_nn_gguf_find(g, m->keys[i]), &m->kv[i]);
        assert_ptr_equal(lr_nn_gguf_find(g, m->keys[i]), lr_nn_gguf_key(g, i + 1));
    }
    for (size_t i = 0; i < TENSORS; i++) {
        const struct lr_nn_tensor *t = lr_nn_gguf_tensor(g, m->names[i]);
        assert_ptr_equal(t, lr_nn_gguf_at(g, i));
        assert_true(t->type == m->t[i].type && t->dims == m->t[i].dims);
        for (uint32_t d = 0; d < LR_NN_DIMS; d++)
            assert_int_equal(t->ne[d], d < t->dims ? m->t[i].ne[d] : 1);
        assert_int_equal((uintptr_t)t->data % (m->align < 64 ? m->align : 64), 0);
        assert_int_equal(lr_hash64(lr_str(t->data, (size_t)t->bytes), 0), m->sums[i]);
    }
    assert_null(lr_nn_gguf_find(g, "nothing"));
    assert_null(lr_nn_gguf_tensor(g, "nothing"));
}

static void what_is_written_is_what_is_read(void **state)
{
    (void)state; /* cmocka's */
    static struct model m;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct lr_rng r;
        struct lr_nn_gguf *g;
        struct lr_err err = {0};
        lr_rng_seed(&r, seed);
        const char *path = kit_path("round.gguf");
        assert_int_equal(write_model(&m, &r, path), 0);
        struct lr_nn_file_opts opts = {.map_min = seed % 2 ? 1 : 0}; /* mapped, read */
        if (lr_nn_gguf_open(&g, path, &opts, &err))
            fail_msg("seed %d: %s at %s", (int)seed, err.msg, err.where);
        check_model(&m, g);
        assert_int_equal(lr_nn_gguf_check(g, NULL), 0);
        lr_nn_gguf_close(g);
    }
    unlink(kit_path("round.gguf"));
}

static void the_writer_leaves_no_file_that_its_reader_refuses(void **state)
{
    (void)state; /* cmocka's */
    const char *path = kit_path("bad.gguf");
    struct lr_nn_tensor t = {.name = LR_STR("t"), .type = LR_NN_F32, .dims = 1, .ne = {4}};
    float data[5] = {0};
    for (int i = 0; i < 6; i++) {
        struct lr_nn_gguf_writer *w;
        struct lr_err err = {0};
        assert_int_equal(lr_nn_gguf_create(&w, path, 0, NULL), 0);
        assert_int_equal(lr_nn_gguf_put_u32(w, "a", 1), 0);
        if (i == 0)
            assert_int_equal(lr_nn_gguf_put_bool(w, "a", true), 0); /* twice */
        assert_int_equal(lr_nn_gguf_declare(w, &t), 0);
        if (i == 1)
            assert_int_equal(lr_nn_gguf_declare(w, &t), 0); /* twice */
        t.type = i == 2 ? LR_NN_I32 : LR_NN_F32;
        assert_int_equal(i == 2 ? lr_nn_gguf_declare(w, &t) : LR_EINVAL, LR_EINVAL);
        t.type = LR_NN_F32;
        if (i != 2)
            assert_int_equal(lr_nn_gguf_data(w, data, i == 3 ? 15 : 16), 0);
        if (i == 1)
            assert_int_equal(lr_nn_gguf_data(w, data, 16), 0);
        if (i == 4)
            assert_int_equal(lr_nn_gguf_data(w, data, 1), LR_EINVAL); /* too many */
        if (i == 5) {
            lr_nn_gguf_abandon(w);
        } else {
            assert_int_equal(lr_nn_gguf_finish(w, &err), LR_EINVAL);
            assert_true(err.msg[0] && err.where[0]);
        }
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(access(kit_path("bad.gguf.part"), F_OK), -1);
        path = kit_path("bad.gguf");
    }
}

static void typed_reads_check_type_and_range(void **state)
{
    (void)state; /* cmocka's */
    const char *path = kit_path("typed.gguf");
    struct lr_nn_gguf_writer *w;
    struct lr_nn_gguf *g;
    struct lr_err err = {0};
    int64_t minus = -3;
    struct lr_nn_kv kv = {LR_STR("minus"), LR_NN_KV_I64, LR_NN_KV_I64, 1, &minus};
    assert_int_equal(lr_nn_gguf_create(&w, path, 0, NULL), 0);
    assert_int_equal(lr_nn_gguf_put_u64(w, "big", UINT64_MAX), 0);
    assert_int_equal(lr_nn_gguf_put(w, &kv), 0);
    assert_int_equal(lr_nn_gguf_put_f32(w, "real", 1.5f), 0);
    assert_int_equal(lr_nn_gguf_put_text(w, "text", LR_STR("hi")), 0);
    assert_int_equal(lr_nn_gguf_put_bool(w, "yes", true), 0);
    assert_int_equal(lr_nn_gguf_finish(w, NULL), 0);
    path = kit_path("typed.gguf");
    assert_int_equal(lr_nn_gguf_open(&g, path, NULL, NULL), 0);
    uint64_t u = 9;
    int64_t i = 9;
    double d = 9;
    bool b = false;
    struct lr_str s;
    assert_int_equal(lr_nn_gguf_u64(g, "big", &u, NULL), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(lr_nn_gguf_i64(g, "big", &i, &err), LR_EINVAL);
    assert_string_equal(err.where, "metadata key 'big'");
    assert_int_equal(lr_nn_gguf_u64(g, "minus", &u, NULL), LR_EINVAL);
    assert_int_equal(lr_nn_gguf_i64(g, "minus", &i, NULL), 0);
    assert_int_equal(i, -3);
    assert_int_equal(lr_nn_gguf_real(g, "minus", &d, NULL), 0);
    assert_true(d == -3);
    assert_int_equal(lr_nn_gguf_real(g, "real", &d, NULL), 0);
    assert_true(d == 1.5);
    assert_int_equal(lr_nn_gguf_u64(g, "real", &u, NULL), LR_EINVAL);
    assert_int_equal(lr_nn_gguf_text(g, "text", &s, NULL), 0);
    assert_true(lr_str_is(s, "hi"));
    assert_int_equal(lr_nn_gguf_text(g, "yes", &s, NULL), LR_EINVAL);
    assert_int_equal(lr_nn_gguf_bool(g, "yes", &b, NULL), 0);
    assert_true(b);
    assert_int_equal(lr_nn_gguf_u64(g, "none", &u, NULL), LR_ENOENT);
    lr_nn_gguf_close(g);
    unlink(path);
}

/* ---- files that change ---- */

static struct lr_nn_gguf *open_mapped(const char *path, size_t floats)
{
    struct lr_nn_gguf_writer *w;
    struct lr_nn_gguf *g;
    struct lr_nn_tensor t = {.name = LR_STR("t"), .type = LR_NN_F32, .dims = 1, .ne = {floats}};
    assert_int_equal(lr_nn_gguf_create(&w, path, 0, NULL), 0);
    assert_int_equal(lr_nn_gguf_declare(w, &t), 0);
    float one = 1;
    for (size_t i = 0; i < floats; i++)
        assert_int_equal(lr_nn_gguf_data(w, &one, 4), 0);
    assert_int_equal(lr_nn_gguf_finish(w, NULL), 0);
    assert_int_equal(lr_nn_gguf_open(&g, path, &(struct lr_nn_file_opts){.map_min = 1}, NULL), 0);
    return g;
}

static void *sum_tensor(void *arg)
{
    const struct lr_nn_tensor *t = lr_nn_gguf_at(*(struct lr_nn_gguf **)arg, 0);
    const float *p = t->data;
    static _Thread_local volatile float sum;
    lr_nn_thread_init();
    for (size_t i = 0; i < t->ne[0]; i++)
        sum += p[i];
    return NULL;
}

static void a_truncated_map_reads_zeros_and_is_told(void **state)
{
    (void)state; /* cmocka's */
    const char *path = kit_path("cut.gguf");
    struct lr_nn_gguf *g = open_mapped(path, 20000);
    const struct lr_nn_tensor *t = lr_nn_gguf_at(g, 0);
    struct lr_err err = {0};
    pthread_t threads[2];
    assert_int_equal(lr_nn_gguf_check(g, NULL), 0);
    assert_int_equal(truncate(path, 8192), 0);
    for (size_t i = 0; i < 2; i++) /* threads of the house block all signals */
        assert_int_equal(lr_thread_start(&threads[i], "sum", sum_tensor, &g), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(((const float *)t->data)[19999] == 0);
    assert_true(((const float *)t->data)[0] == 1);
    assert_int_equal(lr_nn_gguf_check(g, &err), LR_ECORRUPT);
    assert_string_equal(err.msg, "was truncated while in use");
    lr_nn_gguf_close(g);
    unlink(path);
}

static void a_changed_map_is_told(void **state)
{
    (void)state; /* cmocka's */
    const char *path = kit_path("changed.gguf");
    struct lr_nn_gguf *g = open_mapped(path, 100);
    struct timespec then[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
    assert_int_equal(lr_nn_gguf_check(g, NULL), LR_ECORRUPT);
    lr_nn_gguf_close(g);
    unlink(path);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state; /* cmocka's */
    struct lr_nn_gguf *g = NULL;
    struct lr_err err = {0};
    assert_int_equal(lr_nn_gguf_open(&g, kit_path("none"), NULL, &err), LR_ENOENT);
    err = (struct lr_err){0};
    assert_int_equal(lr_nn_gguf_open(&g, "/tmp", NULL, &err), LR_EINVAL);
    assert_string_equal(err.msg, "not a regular file");
    assert_int_equal(mkfifo(kit_path("pipe"), 0600), 0);
    err = (struct lr_err){0};
    assert_int_equal(lr_nn_gguf_open(&g, kit_path("pipe"), NULL, &err), LR_EINVAL);
    unlink(kit_path("pipe"));
    assert_null(g);
}

static void every_failure_of_memory_and_disk_is_a_clean_error(void **state)
{
    (void)state; /* cmocka's */
    static struct model m;
    const char *path = kit_path("fault.gguf");
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct lr_rng r;
        struct lr_nn_gguf *g = NULL;
        struct lr_err err = {0};
        lr_rng_seed(&r, 5);
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = write_model(&m, &r, path);
        bool written = rc == 0;
        if (!rc) /* mapped and read by turns */
            rc = lr_nn_gguf_open(&g, path, &(struct lr_nn_file_opts){.map_min = n % 2}, &err);
        if (!rc)
            rc = lr_nn_gguf_check(g, &err);
        hit = lr_fault_seen() >= n;
        assert_int_equal(lr_fault_arm(0), 0);
        if (hit ? rc == 0 : rc != 0)
            fail_msg("fault %d: %d", (int)n, rc);
        if (written && rc)
            assert_true(err.code == rc && err.msg[0]);
        lr_nn_gguf_close(g);
    }
    unlink(path);
    assert_int_equal(access(kit_path("fault.gguf.part"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_metadata_is_refused_with_its_place),
        cmocka_unit_test(hostile_tensors_are_refused_with_their_place),
        cmocka_unit_test(what_is_written_is_what_is_read),
        cmocka_unit_test(the_writer_leaves_no_file_that_its_reader_refuses),
        cmocka_unit_test(typed_reads_check_type_and_range),
        cmocka_unit_test(a_truncated_map_reads_zeros_and_is_told),
        cmocka_unit_test(a_changed_map_is_told),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(every_failure_of_memory_and_disk_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, kit_teardown);
}
