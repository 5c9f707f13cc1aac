/* SPDX-License-Identifier: Apache-2.0
 * eval/test_calc.c - the calculator against closed forms, and a file against its shape.
 */
#include "eval_kit.h"

#include <math.h>

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

static void estimates_are_the_formulas(void **state)
{
    (void)state;
    struct lr_eval_shape s;
    struct lr_eval_machine m;
    struct lr_eval_estimate e;
    assert_int_equal(lr_eval_shape_like(LR_STR("llama-8b"), LR_STR("F16"), &s, NULL), 0);
    double layer = 2 * 4096.0 * 4096 + 2 * 4096.0 * 1024 + 3 * 4096.0 * 14336;
    assert_true(s.macs == 32 * layer && s.out_macs == 4096.0 * 128256);
    assert_true(s.weights == 2 * (32 * layer + 2 * s.out_macs));
    lr_eval_machine_given(&m, 1e14, 1e12, 1e11, 1e10, 1e9);
    struct lr_eval_load l = {.context = 8192};
    lr_eval_estimate(&s, &m, &l, &e);
    double kv = 8192.0 * 32 * 8 * 2 * 128 * 2;
    assert_true(e.kv_bytes == kv && e.users == floor((1e11 - s.weights) / kv));
    assert_true(near(e.prefill_s,
                     (2 * s.macs * 8192 + 2 * s.out_macs + 2 * 8192.0 * 8192 * 4096 * 32) / 1e14));
    assert_true(near(e.decode_tps, 1e12 / (2 * (s.macs + s.out_macs) + kv)));
    assert_true(near(e.batch_tps, e.users / (fmax(2 * (s.macs + s.out_macs) / 1e12,
                                                  2 * e.users * (s.macs + s.out_macs) / 1e14) +
                                             e.users * kv / 1e12)));
    assert_true(near(e.switch_s, 2 * kv / 1e10) && near(e.restore_s, kv / 1e9));
    l.rows = 1024;
    l.kv_bits = 4.5;
    l.batch = 2;
    lr_eval_estimate(&s, &m, &l, &e);
    assert_true(near(e.kv_bytes, kv / 8 * 4.5 / 16) && e.batch == 2);
    m.memory = s.weights; /* no room for anybody */
    lr_eval_estimate(&s, &m, &l, &e);
    assert_true(e.users == 0 && e.batch_tps == 0);
}

/* Three heads on two threads take as long as four; of two spans each, six as long as six. */
static void heads_that_do_not_divide_cost_attention_a_thread(void **state)
{
    (void)state;
    struct lr_eval_shape s;
    struct lr_eval_machine m;
    struct lr_eval_estimate e;
    assert_int_equal(lr_eval_shape_like(LR_STR("smollm-135m"), LR_STR("Q8_0"), &s, NULL), 0);
    lr_eval_machine_given(&m, 1e14, 1e12, 1e11, 1e10, 1e9);
    m.threads = 2;
    for (uint32_t context = 1024; context <= 2048; context *= 2) {
        struct lr_eval_load l = {.context = context};
        lr_eval_estimate(&s, &m, &l, &e);
        double factor = context == 1024 ? 4.0 / 3 : 1;
        assert_true(near(1 / e.decode_tps, s.read[LR_KERN_Q8_0] / 1e12 + factor * e.kv_bytes / 1e12));
    }
}

static void a_file_has_the_shape_it_was_made_from(void **state)
{
    struct kit *k = *state;
    struct lr_eval_shape file, like;
    assert_int_equal(lr_eval_shape_file(k->path, &file, NULL), 0);
    assert_int_equal(lr_eval_shape_like(LR_STR("nano"), LR_STR("F32"), &like, NULL), 0);
    assert_true(file.macs == like.macs && file.out_macs == like.out_macs);
    assert_true(file.read[LR_KERN_F32] == like.read[LR_KERN_F32]);
    assert_true(file.weights >= like.weights && file.weights < 1.02 * like.weights); /* norms */
    assert_int_equal(file.n_ctx, like.n_ctx);
    assert_int_equal(file.d_head, like.d_head);
}

static void unknown_shapes_and_types_are_named(void **state)
{
    (void)state;
    struct lr_eval_shape s;
    struct lr_err err = {0};
    assert_int_equal(lr_eval_shape_like(LR_STR("gpt-9"), LR_STR("F16"), &s, &err), LR_ENOENT);
    assert_non_null(strstr(err.msg, "llama-70b"));
    assert_int_equal(lr_eval_shape_like(LR_STR("nano"), LR_STR("I4R"), &s, NULL), LR_ENOENT);
    assert_int_equal(lr_eval_shape_like(LR_STR("nano"), LR_STR("F9"), &s, NULL), LR_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_are_the_formulas),
        cmocka_unit_test(heads_that_do_not_divide_cost_attention_a_thread),
        cmocka_unit_test(a_file_has_the_shape_it_was_made_from),
        cmocka_unit_test(unknown_shapes_and_types_are_named),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
