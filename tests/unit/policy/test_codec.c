/* SPDX-License-Identifier: Apache-2.0
 * What the rotation of saw-int4 is for: products stay, outliers are spread, rows without them gain nothing.
 */
#include "policy/policy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static float gauss(struct lr_rng *r)
{
    float s = 0;
    for (int i = 0; i < 12; i++)
        s += (float)lr_rng_unit(r);
    return s - 6;
}

static const struct lr_policy_codec *saw(void)
{
    return lr_policy_codec_find(LR_STR("saw-int4"));
}

static void test_rotation_is_its_own_inverse_and_keeps_products(void **state)
{
    (void)state;
    static const size_t sizes[] = {32, 64, 96, 128, 256, 512};
    struct lr_rng r;
    lr_rng_seed(&r, 1);
    for (size_t i = 0; i < LR_COUNT(sizes); i++) {
        size_t d = sizes[i];
        float q[512], k[512], k0[512];
        double want = 0, got = 0, size = 0;
        for (size_t j = 0; j < d; j++) {
            q[j] = gauss(&r);
            k[j] = k0[j] = gauss(&r);
            want += (double)q[j] * (double)k[j];
            size += fabs((double)q[j] * (double)k[j]);
        }
        saw()->qx(q, d);
        saw()->enc_k(k, d);
        for (size_t j = 0; j < d; j++)
            got += (double)q[j] * (double)k[j];
        assert_true(fabs(got - want) < 1e-5 * size);
        saw()->dec_k(k, d);
        for (size_t j = 0; j < d; j++)
            assert_true(fabsf(k[j] - k0[j]) < 1e-5f);
    }
}

/* Mean squared error of keys through the codec, with `outliers` channels of 10 sigma. */
static double error(bool rotated, uint32_t outliers)
{
    enum { D = 64, ROWS = 400 };
    struct lr_rng r;
    double sum = 0;
    lr_rng_seed(&r, 2);
    for (int i = 0; i < ROWS; i++) {
        float k[D], back[D], x[D];
        char row[128];
        for (uint32_t j = 0; j < D; j++)
            x[j] = k[j] = gauss(&r) * (j % 29 == 7 && j / 29 < outliers ? 10 : 1);
        if (rotated)
            saw()->enc_k(x, D);
        lr_kern_encode(LR_KERN_I4R, row, x, D);
        lr_kern()->decode(LR_KERN_I4R, back, row, D);
        if (rotated)
            saw()->dec_k(back, D);
        for (uint32_t j = 0; j < D; j++)
            sum += ((double)back[j] - (double)k[j]) * ((double)back[j] - (double)k[j]);
    }
    return sum / (D * ROWS);
}

static void test_outliers_are_spread_and_nothing_else_is_gained(void **state)
{
    (void)state;
    double with = error(false, 2) / error(true, 2), without = error(false, 0) / error(true, 0);
    if (with < 3 || without > 1.15 || without < 0.85)
        fail_msg("error ratio %.2f with two outliers of 10 sigma, %.2f without", with, without);
}

static void test_bits_of_codecs(void **state)
{
    (void)state;
    const struct {
        const char *name;
        double bits64, bits128;
    } want[] = {{"f16", 16, 16}, {"q8", 8.5, 8.5}, {"q4", 4.5, 4.5}, {"saw-int4", 4.5, 4.25}};
    for (size_t i = 0; i < LR_COUNT(want); i++) {
        const struct lr_policy_codec *c = lr_policy_codec_find(lr_strz(want[i].name));
        enum lr_kern_type k = (enum lr_kern_type)lr_kern_type_find(lr_strz(c->k));
        assert_true(fabs(8.0 * (double)lr_kern_row_bytes(k, 64) / 64 - want[i].bits64) < 1e-9);
        assert_true(fabs(8.0 * (double)lr_kern_row_bytes(k, 128) / 128 - want[i].bits128) < 1e-9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation_is_its_own_inverse_and_keeps_products),
        cmocka_unit_test(test_outliers_are_spread_and_nothing_else_is_gained),
        cmocka_unit_test(test_bits_of_codecs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
