/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_parts.c - the store's small machines: room, cuckoo filter, codecs, limits.
 */
#include "store/store_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- room ---- */

struct held {
    uint8_t *p;
    size_t n;
    uint8_t mark;
};

static size_t some_size(struct lr_rng *r)
{
    switch (lr_rng_below(r, 4)) {
    case 0:
        return 1 + lr_rng_below(r, 512);
    case 1:
        return 1 + lr_rng_below(r, LR_KIB(40));
    case 2:
        return 72 * 1024;
    default:
        return 1 + lr_rng_below(r, LR_KIB(600));
    }
}

static void pieces_of_a_room_never_overlap_and_melt_together_again(void **state)
{
    (void)state;
    enum { PIECES = 400 };
    struct held h[PIECES] = {{0}};
    struct lr_room *room;
    struct lr_rng r;
    lr_rng_seed(&r, 5);
    assert_int_equal(lr_room_open(&room, LR_MIB(24)), 0);
    for (int step = 0; step < 20000; step++) {
        struct held *x = &h[lr_rng_below(&r, PIECES)];
        if (x->p) {
            assert_int_equal(x->p[0], x->mark);
            assert_int_equal(x->p[x->n - 1], x->mark);
            assert_int_equal(x->p[x->n / 2], x->mark);
            lr_room_give(room, x->p);
            x->p = NULL;
        } else {
            x->n = some_size(&r);
            x->p = lr_room_take(room, x->n);
            x->mark = (uint8_t)step;
            if (x->p) {
                memset(x->p, x->mark, x->n);
                assert_int_equal((uintptr_t)x->p % (x->n > LR_KIB(8) ? 4096 : 64), 0);
                assert_true(lr_room_charge(x->n) >= x->n);
                assert_true(x->n < 256 || lr_room_charge(x->n) <= x->n + x->n / 4 + LR_ROOM_GRAIN);
            }
        }
        if (step % 100 == 0)
            assert_true(lr_room_sound(room));
    }
    for (int i = 0; i < PIECES; i++)
        if (h[i].p)
            lr_room_give(room, h[i].p);
    assert_true(lr_room_sound(room));
    assert_int_equal(lr_room_used(room), 0);
    uint8_t *all = lr_room_take(room, LR_MIB(24));
    assert_non_null(all);
    assert_null(lr_room_take(room, 1));
    lr_room_give(room, all);
    lr_room_close(room);
}

static void a_room_of_equal_chunks_can_be_full_of_them(void **state)
{
    (void)state;
    struct lr_room *room;
    size_t n = 65536 + 8192; /* an image of 64 KiB */
    assert_int_equal(lr_room_open(&room, n * 100), 0);
    void *p[100];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++)
            assert_non_null(p[i] = lr_room_take(room, n));
        assert_null(lr_room_take(room, n));
        for (int i = 0; i < 100; i++)
            lr_room_give(room, p[(i * 37) % 100]);
    }
    lr_room_close(room);
}

/* ---- cuckoo ---- */

static uint64_t key_of(uint64_t i)
{
    return lr_hash64(lr_str(&i, 8), 99);
}

static void a_filter_knows_all_that_is_in_and_little_else(void **state)
{
    (void)state;
    enum { N = 100000, STRANGERS = 2000000 };
    struct lr_cuckoo *c;
    size_t in = 0, wrong = 0;
    assert_int_equal(lr_cuckoo_open(&c, N), 0);
    while (in < 124000 && !lr_cuckoo_add(c, key_of(in))) /* of 131072 places */
        in++;
    assert_int_equal(in, 124000);
    for (uint64_t i = 0; i < in; i++)
        assert_true(lr_cuckoo_has(c, key_of(i)));
    for (uint64_t i = 0; i < STRANGERS; i++)
        wrong += lr_cuckoo_has(c, key_of(1u << 30 | i));
    print_message("false positives at %.0f%% load: %.2e\n", 100.0 * (double)in / 131072,
                  (double)wrong / STRANGERS);
    assert_true(wrong < STRANGERS / 5000); /* 8 / 65535 = 1.2e-4 */
    for (uint64_t i = 0; i < in; i += 2)
        lr_cuckoo_del(c, key_of(i));
    for (uint64_t i = 1; i < in; i += 2)
        assert_true(lr_cuckoo_has(c, key_of(i)));
    for (uint64_t i = 1; i < in; i += 2)
        lr_cuckoo_del(c, key_of(i));
    for (uint64_t i = 0; i < in; i++)
        assert_false(lr_cuckoo_has(c, key_of(i)));
    lr_cuckoo_close(c);
}

static void a_full_filter_refuses_and_keeps_what_it_has(void **state)
{
    (void)state;
    struct lr_cuckoo *c;
    uint64_t in = 0, refused = 0;
    assert_int_equal(lr_cuckoo_open(&c, 50), 0); /* 64 places */
    for (uint64_t i = 0; i < 200; i++) {
        if (lr_cuckoo_add(c, key_of(in)))
            refused++;
        else
            in++;
        for (uint64_t k = 0; k < in; k++)
            assert_true(lr_cuckoo_has(c, key_of(k)));
        if (refused)
            break;
    }
    assert_true(refused && in > 50);
    lr_cuckoo_close(c);
}

struct readers {
    struct lr_cuckoo *c;
    atomic_bool stop;
    atomic_uint lost;
};

static void *read_filter(void *arg)
{
    struct readers *r = arg;
    while (!atomic_load(&r->stop))
        for (uint64_t i = 0; i < 500; i++)
            if (!lr_cuckoo_has(r->c, key_of(i)))
                atomic_fetch_add(&r->lost, 1);
    return NULL;
}

static void readers_beside_a_writer_never_miss_what_stays_in(void **state)
{
    (void)state;
    struct readers r = {0};
    pthread_t t;
    assert_int_equal(lr_cuckoo_open(&r.c, 900), 0); /* 1024 places */
    for (uint64_t i = 0; i < 500; i++)
        assert_int_equal(lr_cuckoo_add(r.c, key_of(i)), 0);
    assert_int_equal(lr_thread_start(&t, "reader", read_filter, &r), 0);
    for (int round = 0; round < 200; round++) {
        uint64_t n = 500;
        while (n < 980 && !lr_cuckoo_add(r.c, key_of(n)))
            n++;
        while (n > 500)
            lr_cuckoo_del(r.c, key_of(--n));
    }
    atomic_store(&r.stop, true);
    pthread_join(t, NULL);
    assert_int_equal(r.lost, 0);
    lr_cuckoo_close(r.c);
}

/* ---- codecs ---- */

static void lossless_codecs_give_back_the_very_bytes(void **state)
{
    (void)state;
    static uint8_t in[70000], out[80000], back[70000];
    struct lr_rng r;
    lr_rng_seed(&r, 3);
    for (uint32_t codec = LR_CODEC_RAW; codec <= LR_CODEC_ZSTD; codec++) {
        if (!lr_codec_has(codec))
            continue;
        for (int round = 0; round < 60; round++) {
            size_t n = lr_rng_below(&r, sizeof in), used, size;
            for (size_t i = 0; i < n; i++)
                in[i] = (uint8_t)(round % 2 ? lr_rng_u64(&r) : i / 50);
            assert_true(lr_codec_bound(codec, n) <= sizeof out);
            assert_int_equal(lr_codec_encode(codec, 0, in, n, out, lr_codec_bound(codec, n), &used),
                             0);
            assert_true(used <= lr_codec_bound(codec, n));
            assert_int_equal(lr_codec_size(out, used, &size), 0);
            assert_int_equal(size, n);
            assert_int_equal(lr_codec_decode(out, used, back, n), 0);
            assert_memory_equal(in, back, n);
            if (n) {
                assert_int_equal(lr_codec_decode(out, used, back, n - 1), LR_ECORRUPT);
                assert_int_not_equal(lr_codec_decode(out, used - 1, back, n), 0);
            }
        }
    }
}

static uint16_t half_of(float f) /* by the definition: the nearest of all, even on ties */
{
    uint16_t best = 0;
    double least = 1e30;
    for (uint32_t h = 0; h < 0x7C00; h++) {
        double e = h >> 10, m = h & 1023;
        double v = e > 0 ? (1 + m / 1024) * exp2(e - 15) : m * 0x1p-24;
        double d = fabs(v - fabs((double)f));
        if (d < least || (!(d > least) && h % 2 == 0)) {
            least = d;
            best = (uint16_t)h;
        }
    }
    return (uint16_t)(best | (f < 0 ? 0x8000 : 0));
}

static void q8_errs_by_half_a_step_at_most(void **state)
{
    (void)state;
    float in[300], back[300];
    uint8_t out[2000];
    size_t used;
    struct lr_rng r;
    lr_rng_seed(&r, 4);
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + lr_rng_below(&r, 300);
        double spread = exp2((double)lr_rng_below(&r, 100) - 50);
        for (size_t i = 0; i < n; i++)
            in[i] = (float)((lr_rng_unit(&r) - 0.5) * spread);
        assert_int_equal(
            lr_codec_encode(LR_CODEC_Q8, LR_DTYPE_F32, in, 4 * n, out, sizeof out, &used), 0);
        assert_int_equal(used, 16 + n + (n + 63) / 64 * 4); /* 8.5 bits an element and the frame */
        assert_int_equal(lr_codec_decode(out, used, back, 4 * n), 0);
        for (size_t g = 0; g < n; g += 64) {
            float most = 0;
            for (size_t i = g; i < n && i < g + 64; i++)
                most = fmaxf(most, fabsf(in[i]));
            for (size_t i = g; i < n && i < g + 64; i++)
                assert_true(fabs((double)in[i] - (double)back[i]) <= (double)most / 253.9);
        }
    }
    in[0] = NAN;
    assert_int_equal(lr_codec_encode(LR_CODEC_Q8, LR_DTYPE_F32, in, 4, out, sizeof out, &used),
                     LR_EINVAL);
    assert_int_equal(lr_codec_encode(LR_CODEC_Q8, LR_DTYPE_U8, in, 4, out, sizeof out, &used),
                     LR_EUNSUPPORTED);
    assert_int_equal(lr_codec_encode(LR_CODEC_Q8, LR_DTYPE_F32, in, 5, out, sizeof out, &used),
                     LR_EINVAL);
}

/* One half-precision element: scale = |x| / 127 and q = 127, so it comes back as it was. */
static void q8_knows_half_precision(void **state)
{
    (void)state;
    uint8_t out[64];
    size_t used;
    for (uint32_t h = 0; h < 0x7C00; h += 7)
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint16_t x = (uint16_t)(h | sign << 15), back;
            assert_int_equal(
                lr_codec_encode(LR_CODEC_Q8, LR_DTYPE_F16, &x, 2, out, sizeof out, &used), 0);
            assert_int_equal(lr_codec_decode(out, used, &back, 2), 0);
            assert_true(back == x || (h == 0 && (back & 0x7FFF) == 0));
        }
    /* A scale and a byte chosen so that the product lies between two halves. */
    static const float some[] = {1.0001f, 3.14159f, 6.1e-5f, 5.96e-8f, 8.9e-8f, 65519.f, -0.333f};
    for (size_t i = 0; i < LR_COUNT(some); i++) {
        uint16_t back;
        memset(out, 0, sizeof out);
        out[0] = LR_CODEC_Q8, out[1] = 1, out[2] = LR_DTYPE_F16, out[8] = 2;
        float scale = fabsf(some[i]);
        memcpy(out + 16, &scale, 4);
        out[20] = some[i] < 0 ? 0xFF : 1;
        assert_int_equal(lr_codec_decode(out, 21, &back, 2), 0);
        assert_int_equal(back, half_of(some[i]));
    }
}

/* ---- limits ---- */

static void put_file(const char *root, const char *path, const char *text)
{
    char full[512], dir[512];
    assert_true(snprintf(full, sizeof full, "%s%s", root, path) > 0);
    memcpy(dir, full, sizeof dir);
    *strrchr(dir, '/') = 0;
    assert_int_equal(lr_io_mkdir(dir, 0755), 0);
    assert_int_equal(lr_io_write_file(full, lr_strz(text), 0644), 0);
}

static void the_least_limit_of_container_and_machine_counts(void **state)
{
    (void)state;
    char root[] = "/tmp/larder-limits-XXXXXX", rm[64];
    assert_non_null(mkdtemp(root));
    assert_int_equal(lr_limits_memory(root), 0);
    put_file(root, "/proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");
    assert_int_equal(lr_limits_memory(root), 1000 << 10);
    put_file(root, "/proc/self/cgroup", "0::/a/b\n");
    put_file(root, "/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(lr_limits_memory(root), 1000 << 10);
    put_file(root, "/sys/fs/cgroup/a/memory.max", "500000\n");
    assert_int_equal(lr_limits_memory(root), 500000);
    put_file(root, "/sys/fs/cgroup/a/b/memory.max", "400000\n");
    assert_int_equal(lr_limits_memory(root), 400000);
    put_file(root, "/proc/self/cgroup", "5:cpu,memory:/x\n3:cpuset:/y\n");
    put_file(root, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "300000\n");
    assert_int_equal(lr_limits_memory(root), 300000);
    put_file(root, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(lr_limits_memory(root), 1000 << 10);
    assert_true(snprintf(rm, sizeof rm, "rm -r %s", root) > 0);
    assert_int_equal(system(rm), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_a_room_never_overlap_and_melt_together_again),
        cmocka_unit_test(a_room_of_equal_chunks_can_be_full_of_them),
        cmocka_unit_test(a_filter_knows_all_that_is_in_and_little_else),
        cmocka_unit_test(a_full_filter_refuses_and_keeps_what_it_has),
        cmocka_unit_test(readers_beside_a_writer_never_miss_what_stays_in),
        cmocka_unit_test(lossless_codecs_give_back_the_very_bytes),
        cmocka_unit_test(q8_errs_by_half_a_step_at_most),
        cmocka_unit_test(q8_knows_half_precision),
        cmocka_unit_test(the_least_limit_of_container_and_machine_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
