/* SPDX-License-Identifier: Apache-2.0
 * unit/vec/test_dot.c - every variant of the products against plain sums.
 */
#include "vec_util.h"
#include "vec/vec_int.h"

enum { N = 11, PAD = 448 };

static void every_variant_is_the_plain_sum(void **state)
{
    (void)state; /* cmocka's */
    static _Alignas(64) uint8_t bytes[N][PAD], low[N][PAD / 2];
    static _Alignas(64) float floats[N][PAD], q[PAD];
    static _Alignas(64) int8_t q8[PAD];
    const uint8_t *at[N], *fat[N];
    struct lr_rng rng;
    lr_rng_seed(&rng, 1);
    for (size_t round = 0; round < 200; round++) {
        bool extreme = round % 5 == 0;
        for (size_t i = 0; i < N; i++) {
            at[i] = bytes[i];
            fat[i] = (const uint8_t *)floats[i];
            for (size_t k = 0; k < PAD; k++) {
                bytes[i][k] = (uint8_t)(extreme ? 255 * (round & 1) : lr_rng_below(&rng, 256));
                low[i][k / 2] = (uint8_t)lr_rng_below(&rng, 256);
                floats[i][k] = (float)(lr_rng_unit(&rng) - 0.5);
            }
        }
        int32_t bias = 0;
        for (size_t k = 0; k < PAD; k++) {
            q8[k] = (int8_t)(extreme ? -127 : (int)lr_rng_below(&rng, 255) - 127);
            q[k] = (float)(lr_rng_unit(&rng) - 0.5);
        }
        size_t n = 1 + (size_t)lr_rng_below(&rng, N), pad = 64 * (1 + round % 7);
        for (size_t k = 0; k < pad; k++)
            bias += 128 * q8[k];
        const struct dots *d;
        for (size_t i = 0; (d = vec_dots_variant(i)); i++) {
            int32_t sums[N];
            float fsums[N];
            d->i8(q8, bias, at, n, pad, sums);
            d->f32(q, fat, n, pad, fsums);
            for (size_t j = 0; j < n; j++) {
                int32_t sum = 0;
                double f = 0, w = 0, nib = 0;
                for (size_t k = 0; k < pad; k++) {
                    uint8_t b = low[j][k / 32 * 16 + k % 16];
                    sum += q8[k] * (bytes[j][k] - 128);
                    f += (double)q[k] * (double)floats[j][k];
                    w += (double)q[k] * (bytes[j][k] - 128);
                    nib += (double)q[k] * ((k % 32 < 16 ? b & 15 : b >> 4) - 8);
                }
                assert_int_equal(sums[j], sum);
                assert_true(fabs((double)fsums[j] - f) < 1e-4);
                assert_true(fabs((double)d->wide(q, bytes[j], pad) - w) < 1e-2);
                assert_true(fabs((double)d->nibbles(q, low[j], pad) - nib) < 1e-3);
            }
        }
    }
    print_message("best here: %s\n", vec_dots()->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_variant_is_the_plain_sum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
