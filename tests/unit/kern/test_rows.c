/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/kern/test_rows.c - conversions, encoders, activations, softmax, norms, rotations:
 * every variant against double, and the bits of the variants against one another.
 */
#include "kern_kit.h"

static void halves_survive_the_round_trip(void **state)
{
    (void)state;
    static uint16_t in[65536], out[65536];
    static float f[65536];
    for (size_t i = 0; i < 65536; i++)
        in[i] = (uint16_t)i;
    EACH_VARIANT(k)
    {
        k->f16_to_f32(f, in, 65536);
        k->f32_to_f16(out, f, 65536);
        for (size_t i = 0; i < 65536; i++) {
            unsigned e = i >> 10 & 31, m = i & 1023;
            double want = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, (int)e - 25);
            bool nan = e == 31 && m;
            if (e == 31)
                want = INFINITY;
            REQUIRE(nan ? f[i] != f[i] : (double)f[i] == (i & 0x8000 ? -want : want), "%s %zx",
                    k->name, i);
            REQUIRE(out[i] == (nan ? i | 0x200 : i), "%s %zx became %x", k->name, i, out[i]);
        }
        k->bf16_to_f32(f, in, 65536);
        k->f32_to_bf16(out, f, 65536);
        for (size_t i = 0; i < 65536; i++)
            REQUIRE(out[i] == ((i & 0x7fff) > 0x7f80 ? i | 0x40 : i), "%s bf16 %zx", k->name, i);
    }
}

static double half_value(unsigned h)
{
    unsigned e = h >> 10 & 31, m = h & 1023;
    return e == 31 ? 65536.0 : e == 0 ? ldexp(m, -24) : ldexp(1024 + m, (int)e - 25);
}

static void rounding_to_half_takes_the_nearest_even(void **state)
{
    (void)state;
    const size_t n = 4099;
    struct lr_rng rng;
    lr_rng_seed(&rng, 21);
    float *x = floats(&rng, n);
    uint16_t *first = malloc(n * 2), *out = malloc(n * 2);
    assert_true(first && out);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)lr_rng_u64(&rng);
        if (i % 2) /* near halfway between neighbours, or exactly there */
            bits = (bits & 0xffffe000) | 0x1000 | (bits & (i % 4 == 1 ? 0 : 1));
        bits = (bits & 0x83ffffff) | (uint32_t)(0x60 + lr_rng_below(&rng, 34)) << 23;
        memcpy(&x[i], &bits, 4);
    }
    EACH_VARIANT(k)
    {
        k->f32_to_f16(out, x, n);
        if (v_ == 0)
            memcpy(first, out, n * 2);
        REQUIRE(same(first, out, n * 2), "%s differs", k->name);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned h = out[i] & 0x7fff;
        double v = fabs((double)x[i]), err = fabs(half_value(h) - v);
        double up = h < 0x7c00 ? fabs(half_value(h + 1) - v) : INFINITY;
        double down = h ? fabs(half_value(h - 1) - v) : INFINITY;
        REQUIRE(err <= up && err <= down, "%a became %x", (double)x[i], h);
        REQUIRE((err < up && err < down) || h % 2 == 0, "%a is halfway and became %x", (double)x[i],
                h);
    }
    free(x);
    free(first);
    free(out);
}

/* Largest allowed error over the block's range (kern.h): of the largest magnitude or of the width.
 */
static double bound(enum lr_kern_type type, double top, double lo, double hi)
{
    double width = (hi > 0 ? hi : 0) - (lo < 0 ? lo : 0);
    switch (type) {
    case LR_KERN_F32:
        return 0;
    case LR_KERN_F16:
        return fmax(top / 2048, 0x1p-25);
    case LR_KERN_BF16:
        return top / 256;
    case LR_KERN_Q8_0:
        return top / 253;
    case LR_KERN_Q4_0:
        return top / 7.9;
    case LR_KERN_Q5_0:
        return top / 15.9;
    case LR_KERN_Q5_1:
        return (hi - lo) / 61;
    case LR_KERN_Q4_K:
        return width / 16;
    case LR_KERN_Q5_K:
        return width / 20;
    case LR_KERN_Q6_K:
        return top / 40;
    default:
        return (hi - lo) / 29;
    }
}

static void encoding_keeps_its_error_bounds(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 22);
    for (int round = 0; round < 40 * LR_KERN_N_TYPES; round++) {
        enum lr_kern_type type = (enum lr_kern_type)(round % LR_KERN_N_TYPES);
        size_t per = lr_kern_type_block(type), k = 256 * (1 + lr_rng_below(&rng, 4));
        float *x = floats(&rng, k), *y = floats(NULL, k), scale = expf(gauss(&rng) * 2);
        bool shifted = lr_rng_below(&rng, 2);
        for (size_t i = 0; i < k; i++)
            x[i] = scale * (gauss(&rng) + (shifted ? 3 : 0));
        uint8_t *row = malloc(lr_kern_row_bytes(type, k));
        assert_non_null(row);
        lr_kern_encode(type, row, x, k);
        lr_kern()->decode(type, y, row, k);
        per = type == LR_KERN_I4R ? k : per;
        for (size_t at = 0; at < k; at += per) {
            double top = 0, lo = x[at], hi = x[at];
            for (size_t i = at; i < at + per; i++) {
                top = fmax(top, fabsf(x[i]));
                lo = fmin(lo, x[i]);
                hi = fmax(hi, x[i]);
            }
            double most = bound(type, top, lo, hi) + top * 0x1p-11 * (per > 1);
            for (size_t i = at; i < at + per; i++)
                REQUIRE(fabs((double)y[i] - x[i]) <= most, "%s round %d: %g became %g, over %g",
                        lr_kern_type_name(type), round, (double)x[i], (double)y[i], most);
        }
        free(x);
        free(y);
        free(row);
    }
}

static void zeros_and_monsters_encode_without_harm(void **state)
{
    (void)state;
    float x[256], y[256];
    uint8_t row[1024];
    for (int t = 0; t < LR_KERN_N_TYPES; t++) {
        memset(x, 0, sizeof x);
        lr_kern_encode((enum lr_kern_type)t, row, x, 256);
        lr_kern()->decode((enum lr_kern_type)t, y, row, 256);
        for (size_t i = 0; i < 256; i++)
            REQUIRE(y[i] == 0, "%s: zero became %g", lr_kern_type_name((enum lr_kern_type)t),
                    (double)y[i]);
        float wild[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-42f};
        for (size_t i = 0; i < 256; i++)
            x[i] = wild[i % 6];
        lr_kern_encode((enum lr_kern_type)t, row, x, 256); /* no trap for the sanitizers */
    }
}

static void sizes_of_rows_are_checked(void **state)
{
    (void)state;
    assert_int_equal(lr_kern_row_bytes(LR_KERN_Q4_K, 512), 288);
    assert_int_equal(lr_kern_row_bytes(LR_KERN_Q4_K, 576), 0);
    assert_int_equal(lr_kern_row_bytes(LR_KERN_Q8_0, 64), 68);
    assert_int_equal(lr_kern_row_bytes(LR_KERN_I4R, 64), 36);
    assert_int_equal(lr_kern_row_bytes(LR_KERN_I4R, 1056), 0);
    assert_int_equal(lr_kern_row_bytes(LR_KERN_F32, SIZE_MAX / 2), 0);
    assert_int_equal(lr_kern_row_bytes(LR_KERN_N_TYPES, 32), 0);
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        assert_int_equal(lr_kern_type_find(lr_strz(lr_kern_type_name((enum lr_kern_type)t))), t);
    assert_int_equal(lr_kern_type_find(LR_STR("Q4_")), -1);
}

static void exp_is_within_two_ulp(void **state)
{
    (void)state;
    const size_t n = 30001;
    float *x = floats(NULL, n), *y = floats(NULL, n), *first = floats(NULL, n);
    for (size_t i = 0; i < n; i++)
        x[i] = -87.3f + 175.3f * (float)i / (float)(n - 1);
    EACH_VARIANT(k)
    {
        memcpy(y, x, n * sizeof *x);
        k->exp(y, n);
        for (size_t i = 0; i < n; i++) {
            double want = exp((double)x[i]);
            REQUIRE(fabs(y[i] - want) <= want * 0x1p-22, "%s exp(%a) = %a", k->name, (double)x[i],
                    (double)y[i]);
        }
        if (k->fma && isnan(first[0]))
            memcpy(first, y, n * sizeof *y);
        REQUIRE(!k->fma || same(first, y, n * sizeof *y), "%s is not of one mind", k->name);
        float odd[] = {-INFINITY, -1000, NAN, 1000, INFINITY, 0, -0.0f};
        k->exp(odd, 7);
        assert_true(odd[0] == 0 && odd[1] == 0 && odd[2] != odd[2]);
        assert_true(odd[3] > 1.6e38f && odd[4] == odd[3] && odd[5] == 1 && odd[6] == 1);
    }
    free(x);
    free(y);
    free(first);
}

static void softmax_in_pieces_is_softmax(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 23);
    for (int round = 0; round < 60; round++) {
        size_t n = 1 + lr_rng_below(&rng, 300);
        float *x = floats(NULL, n), *y = floats(NULL, n);
        double top = -INFINITY, sum = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = lr_rng_below(&rng, 9) ? gauss(&rng) * 20 : -INFINITY;
            top = fmax(top, x[i]);
        }
        for (size_t i = 0; i < n; i++)
            sum += top > -INFINITY ? exp(x[i] - top) : 0;
        EACH_VARIANT(k)
        {
            struct lr_kern_softmax s = LR_KERN_SOFTMAX_INIT;
            memcpy(y, x, n * sizeof *x);
            for (size_t at = 0, now; at < n; at += now) {
                now = 1 + lr_rng_below(&rng, n - at);
                float keep = k->softmax_push(&s, y + at, now);
                k->scale(y, keep, at);
            }
            for (size_t i = 0; i < n && sum > 0; i++)
                REQUIRE(fabs(y[i] / s.sum - exp(x[i] - top) / sum) < 3e-6, "%s n %zu [%zu]",
                        k->name, n, i);
            float lse = lr_kern_lse(&s);
            REQUIRE(sum > 0 ? fabs(lse - (top + log(sum))) < 1e-5 * (1 + fabs(top))
                            : lse == -INFINITY,
                    "%s lse %g", k->name, (double)lse);
        }
        free(x);
        free(y);
    }
}

static void norms_and_gates_agree_with_double(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 24);
    for (size_t n = 1; n < 1700; n += 1 + n / 2) {
        float *x = floats(&rng, n), *w = floats(&rng, n), *y = floats(NULL, n),
              *z = floats(NULL, n);
        for (size_t i = 0; i < n; i++)
            x[i] = gauss(&rng) * 5;
        double ss = 0;
        for (size_t i = 0; i < n; i++)
            ss += (double)x[i] * x[i];
        double f = 1 / sqrt(ss / (double)n + 1e-5);
        EACH_VARIANT(k)
        {
            k->rmsnorm(y, x, w, n, 1e-5f);
            k->silu_mul(z, x, w, n);
            for (size_t i = 0; i < n; i++) {
                double norm = x[i] * f * w[i], gate = x[i] / (1 + exp(-(double)x[i])) * w[i];
                REQUIRE(fabs(y[i] - norm) <= fabs(norm) * 1e-6 + 1e-37, "%s rmsnorm", k->name);
                REQUIRE(fabs(z[i] - gate) <= fabs(gate) * 4.8e-7 + 1e-37, "%s silu", k->name);
            }
            memcpy(z, x, n * sizeof *z);
            k->rmsnorm(z, z, w, n, 1e-5f); /* in place */
            assert_true(same(z, y, n * sizeof *z));
            memcpy(y, x, n * sizeof *y);
            k->axpy(y, 0.5f, w, n);
            k->add(y, w, n);
            k->scale(y, 2, n);
            for (size_t i = 0; i < n; i++)
                REQUIRE(fabs(y[i] - (2.0 * x[i] + 3.0 * w[i])) <=
                            1e-6 * (fabsf(x[i]) + fabsf(w[i])) + 1e-37,
                        "%s axpy, add, scale", k->name);
        }
        free(x);
        free(w);
        free(y);
        free(z);
    }
}

static void hadamard_is_orthonormal_and_its_own_inverse(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 25);
    for (size_t block = 1; block <= 256; block *= 2) {
        size_t n = 3 * block;
        float *x = floats(&rng, n), *y = floats(NULL, n);
        for (size_t i = 0; i < n; i++)
            x[i] = gauss(&rng);
        EACH_VARIANT(k)
        {
            memcpy(y, x, n * sizeof *y);
            k->hadamard(y, n, block);
            for (size_t i = 0; i < n; i += 1 + n / 11) {
                double sum = 0;
                for (size_t j = 0; j < block; j++)
                    sum +=
                        x[i / block * block + j] * (__builtin_parityll(i % block & j) ? -1.0 : 1.0);
                REQUIRE(fabs(y[i] - sum / sqrt((double)block)) < 1e-5, "%s block %zu", k->name,
                        block);
            }
            k->hadamard(y, n, block);
            for (size_t i = 0; i < n; i++)
                REQUIRE(fabsf(y[i] - x[i]) < 3e-6f, "%s block %zu twice", k->name, block);
        }
        free(x);
        free(y);
    }
}

static void integer_sums_are_exact(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 26);
    for (size_t n = 0; n < 3000; n += 1 + n / 4) {
        int8_t *a = malloc(n + 1), *b = malloc(n + 1);
        assert_true(a && b);
        int32_t want = 0;
        uint32_t bits = 0;
        for (size_t i = 0; i < n; i++) {
            a[i] = (int8_t)(lr_rng_below(&rng, 4) ? (int)lr_rng_below(&rng, 256) - 128 : -128);
            b[i] = (int8_t)(lr_rng_below(&rng, 4) ? (int)lr_rng_below(&rng, 256) - 128 : -128);
            want += a[i] * b[i];
            bits += (uint32_t)__builtin_popcount((uint8_t)(a[i] ^ b[i]));
        }
        EACH_VARIANT(k)
        {
            REQUIRE(k->dot_i8(a, b, n) == want, "%s dot_i8 n %zu", k->name, n);
            REQUIRE(k->hamming(a, b, n) == bits, "%s hamming n %zu", k->name, n);
        }
        free(a);
        free(b);
    }
}

/* One pair at a time in double. */
static void slow_rope(double *x, size_t n_rot, bool interleaved, const double *angle)
{
    for (size_t p = 0; p < n_rot / 2; p++) {
        double *a = interleaved ? x + 2 * p : x + p, *b = interleaved ? a + 1 : a + n_rot / 2;
        double u = *a * cos(angle[p]) - *b * sin(angle[p]);
        *b = *a * sin(angle[p]) + *b * cos(angle[p]);
        *a = u;
    }
}

static void rope_turns_pairs_and_leaves_the_rest(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 27);
    for (int round = 0; round < 40; round++) {
        size_t dim = 8u << lr_rng_below(&rng, 5), n_rot = 2 * (1 + lr_rng_below(&rng, dim / 2)),
               heads = 3;
        struct lr_kern_rope cfg = {
            .n_rot = n_rot, .base = round % 2 ? 1e6f : 0, .scale = round % 3 ? 0 : 0.25f};
        int32_t pos[2] = {(int32_t)lr_rng_below(&rng, 100000), -5};
        float *angles = floats(NULL, 2 * n_rot), *x = floats(&rng, heads * dim),
              *y = floats(NULL, heads * dim);
        for (size_t i = 0; i < heads * dim; i++)
            x[i] = gauss(&rng);
        assert_int_equal(lr_kern_rope_angles(&cfg, pos, 2, angles), 0);
        for (size_t t = 0; t < 2; t++) {
            double angle[256], z[256];
            for (size_t p = 0; p < n_rot / 2; p++)
                angle[p] = pos[t] * pow(round % 2 ? 1e6 : 1e4, -2.0 * (double)p / (double)n_rot) *
                           (round % 3 ? 1 : 0.25);
            EACH_VARIANT(k)
            {
                memcpy(y, x, heads * dim * sizeof *y);
                k->rope(y, heads, dim, n_rot, round % 4 < 2, angles + t * n_rot);
                for (size_t i = 0; i < heads * dim; i++) {
                    if (i % dim == 0) {
                        for (size_t j = 0; j < dim; j++)
                            z[j] = x[i + j];
                        slow_rope(z, n_rot, round % 4 < 2, angle);
                    }
                    REQUIRE(fabs(y[i] - z[i % dim]) < 2e-6, "%s dim %zu n_rot %zu [%zu] %g %g",
                            k->name, dim, n_rot, i, (double)y[i], z[i % dim]);
                }
            }
        }
        free(angles);
        free(x);
        free(y);
    }
}

static void yarn_scales_slow_pairs_only(void **state)
{
    (void)state;
    struct lr_kern_rope plain = {.n_rot = 64},
                        yarn = {.n_rot = 64, .scale = 0.25f, .yarn_ctx = 2048};
    int32_t pos = 1;
    float a[64], b[64], factors[32];
    assert_int_equal(lr_kern_rope_angles(&plain, &pos, 1, a), 0);
    assert_int_equal(lr_kern_rope_angles(&yarn, &pos, 1, b), 0);
    double gain = 1 + 0.1 * log(4);
    for (size_t p = 0; p < 32; p++) {
        double fast = atan2(a[2 * p + 1], a[2 * p]), now = atan2(b[2 * p + 1], b[2 * p]),
               share = now / fast;
        assert_true(fabs(hypot(b[2 * p], b[2 * p + 1]) - gain) < 1e-6);
        REQUIRE(share < 1.0001 && share > 0.2499, "pair %zu: %g", p, share);
        REQUIRE(p > 4 || fabs(share - 1) < 1e-5, "pair %zu turns often and was scaled", p);
        REQUIRE(p < 29 || fabs(share - 0.25) < 1e-4, "pair %zu turns never and was kept", p);
        factors[p] = 2;
    }
    plain.factors = factors;
    assert_int_equal(lr_kern_rope_angles(&plain, &pos, 1, b), 0);
    assert_true(fabs(b[0] - cos(0.5)) < 1e-7);
    plain.n_rot = 63;
    assert_int_equal(lr_kern_rope_angles(&plain, &pos, 1, b), LR_EINVAL);
    plain.n_rot = 514;
    assert_int_equal(lr_kern_rope_angles(&plain, &pos, 1, b), LR_EINVAL);
}

static void the_variant_in_use_can_be_set_and_reset(void **state)
{
    (void)state;
    const struct lr_kern *best = lr_kern();
    assert_string_equal(lr_kern_variant(0)->name, "portable");
    assert_int_equal(lr_kern_use("portable"), 0);
    assert_ptr_equal(lr_kern(), lr_kern_variant(0));
    assert_int_equal(lr_kern_use("abacus"), LR_ENOENT);
    assert_ptr_equal(lr_kern(), lr_kern_variant(0));
    assert_int_equal(lr_kern_use(NULL), 0);
    assert_ptr_equal(lr_kern(), best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_survive_the_round_trip),
        cmocka_unit_test(rounding_to_half_takes_the_nearest_even),
        cmocka_unit_test(encoding_keeps_its_error_bounds),
        cmocka_unit_test(zeros_and_monsters_encode_without_harm),
        cmocka_unit_test(sizes_of_rows_are_checked),
        cmocka_unit_test(exp_is_within_two_ulp),
        cmocka_unit_test(softmax_in_pieces_is_softmax),
        cmocka_unit_test(norms_and_gates_agree_with_double),
        cmocka_unit_test(hadamard_is_orthonormal_and_its_own_inverse),
        cmocka_unit_test(integer_sums_are_exact),
        cmocka_unit_test(rope_turns_pairs_and_leaves_the_rest),
        cmocka_unit_test(yarn_scales_slow_pairs_only),
        cmocka_unit_test(the_variant_in_use_can_be_set_and_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
