/* SPDX-License-Identifier: Apache-2.0
 * Every registered codec, and stacks of several parts, keep the laws of conform.h; so do all of them in
 * one batch.
 */
#include "conform.h"

static void test_every_codec_conforms(void **state)
{
    (void)state;
    const struct lr_policy_codec *c;
    char text[128];
    for (size_t i = 0; (c = lr_policy_codec_at(i)); i++) {
        conform(c->name);
        snprintf(text, sizeof text, "h2o:norm=mean,gqa=max+%s", c->name);
        conform(text);
    }
}

static void test_stacks_conform(void **state)
{
    (void)state;
    static const char *const stacks[] = {"pyramid:window=8+h2o+saw-int4", "pyramid:beta=3+streaming-llm",
                                         "random:recent=0.5+q8", "snapkv:window=256,kind=max,pool=7",
                                         "snapkv:window=1,gqa=sum", "tova:scope=head",
                                         "pyramid+tova", "snapkv:window=8+topread:rows=20+saw-int4"};
    for (size_t i = 0; i < LR_COUNT(stacks); i++)
        conform(stacks[i]);
}

static void test_a_mixed_batch_equals_each_alone(void **state)
{
    (void)state;
    static const char *const texts[] = {"full", "h2o", "snapkv", "pyramid:window=8+snapkv+saw-int4",
                                        "random", "tova", "streaming-llm+q8", "topread:rows=9"};
    for (uint64_t seed = 1; seed <= 3; seed++)
        conform_batch(texts, LR_COUNT(texts), seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_codec_conforms),
        cmocka_unit_test(test_stacks_conform),
        cmocka_unit_test(test_a_mixed_batch_equals_each_alone),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
