/* SPDX-License-Identifier: Apache-2.0
 * unit/nn/test_vocab.c - the tokenisers of real models against llama.cpp's ids
 * (tools/golden_nn.py).
 *
 * The vocabularies are too large to commit: LR_TEST_DATA names a directory that holds them.
 * Without it the test says so and is skipped (exit status 77).
 */
#include "kit.h"

static const char *data;

static struct lr_nn_tok *open_vocab(struct lr_str name)
{
    char path[4096];
    struct lr_nn_gguf *g;
    struct lr_nn_tok *t;
    struct lr_err err = {0};
    snprintf(path, sizeof path, "%s/%.*s", data, LR_FMT(name));
    int rc = lr_nn_gguf_open(&g, path, NULL, &err);
    if (rc == LR_ENOENT)
        return NULL;
    if (rc || lr_nn_tok_open(&t, g, &err))
        fail_msg("%s: %s at %s", path, err.msg, err.where);
    lr_nn_gguf_close(g);
    return t;
}

static void ids_are_those_of_llama_cpp(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    struct lr_json *root = kit_golden(&a, "vocab.json");
    size_t n, files = 0;
    struct lr_str *texts = kit_texts(&a, lr_json_get(root, "texts"), &n);
    for (const struct lr_json *f = lr_json_get(root, "files")->child; f; f = f->next) {
        struct lr_str name = lr_json_get(f, "name")->text;
        struct lr_nn_tok *t = open_vocab(name);
        if (!t) {
            print_message("skipped: no %.*s in %s\n", LR_FMT(name), data);
            continue;
        }
        files++;
        size_t i = 0;
        for (const struct lr_json *c = lr_json_get(f, "ids")->child; c; c = c->next, i++) {
            struct lr_nn_ids ids;
            struct lr_err err = {0};
            if (c->type == LR_JSON_NULL)
                continue;
            lr_nn_ids_init(&ids, 10000);
            if (lr_nn_tok_encode(t, texts[i], LR_NN_ADD_SPECIAL | LR_NN_PARSE_SPECIAL, &ids, &err))
                fail_msg("%.*s: %s at %s", LR_FMT(name), err.msg, err.where);
            kit_same_ids(lr_arena_strz(&a, name), texts[i], &ids, c);
            lr_nn_ids_free(&ids);
        }
        assert_int_equal(i, n);
        lr_nn_tok_close(t);
    }
    assert_true(files > 0);
    lr_arena_free(&a);
}

/* The one vocabulary at hand that has neither bytes nor all letters. */
static void a_character_outside_a_vocabulary_without_bytes_is_named(void **state)
{
    (void)state; /* cmocka's */
    struct lr_nn_tok *t = open_vocab(LR_STR("tinystories-656k-f32.gguf"));
    struct lr_nn_ids ids;
    struct lr_err err = {0};
    if (!t)
        skip();
    lr_nn_ids_init(&ids, 100);
    assert_int_equal(lr_nn_tok_encode(t, LR_STR("The caf\u00e9"), 0, &ids, &err), LR_EINVAL);
    assert_string_equal(err.msg, "character U+00E9 is not in the vocabulary");
    assert_string_equal(err.where, "byte 7");
    assert_int_equal(ids.n, 0);
    lr_nn_ids_free(&ids);
    lr_nn_tok_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_llama_cpp),
        cmocka_unit_test(a_character_outside_a_vocabulary_without_bytes_is_named),
    };
    data = getenv("LR_TEST_DATA");
    if (!data) {
        fprintf(stderr, "SKIPPED: LR_TEST_DATA names no directory of vocabularies\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
