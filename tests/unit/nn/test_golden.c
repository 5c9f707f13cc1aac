/* SPDX-License-Identifier: Apache-2.0
 * unit/nn/test_golden.c - element types, pre-tokenisers and tokenisers against golden files made by
 * other people's code (tools/golden_nn.py).
 */
#include "kit.h"

static void blocks_of_every_type_decode_as_the_reference_package_does(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    for (const struct lr_json *v = kit_golden(&a, "types.json")->child; v; v = v->next) {
        struct lr_str name, block, want;
        enum lr_nn_type type = LR_NN_TYPES;
        uint8_t src[256];
        float got[256], expect[256];
        assert_true(lr_json_text(lr_json_get(v, "type"), &name));
        assert_true(lr_json_text(lr_json_get(v, "block"), &block));
        assert_true(lr_json_text(lr_json_get(v, "f32"), &want));
        assert_int_equal(lr_nn_type_find(name, &type), 0);
        const struct lr_nn_type_info *info = lr_nn_type_info(type);
        assert_int_equal(block.n, 2 * info->block_bytes);
        assert_int_equal(want.n, 8 * info->block);
        assert_int_equal(lr_unhex(block, src, info->block_bytes), 0);
        assert_int_equal(lr_unhex(want, expect, 4 * (size_t)info->block), 0);
        assert_int_equal(lr_nn_decode(type, src, info->block, got), 0);
        for (size_t i = 0; i < info->block; i++) {
            float d = got[i] - expect[i], m = expect[i] < 0 ? -expect[i] : expect[i];
            if (d > 1e-6f * (1 + m) || -d > 1e-6f * (1 + m)) /* the order of products differs */
                fail_msg("%s, element %zu: %g, want %g", info->name, i, (double)got[i],
                         (double)expect[i]);
        }
    }
    lr_arena_free(&a);
}

struct pieces {
    const struct lr_json *next;
    size_t at;
    const char *name, *base;
};

static int check_piece(void *ctx, struct lr_str piece)
{
    struct pieces *p = ctx;
    uint64_t n = 0;
    if (!p->next || !lr_json_u64(p->next, &n))
        fail_msg("%s: at byte %zu of '%s' one piece too many", p->name, p->at, p->base);
    assert_ptr_equal(piece.p, p->base + p->at);
    if (piece.n != n)
        fail_msg("%s: at byte %zu of '%s' a piece of %zu bytes, want %d", p->name, p->at, p->base,
                 piece.n, (int)n);
    p->at += piece.n;
    p->next = p->next->next;
    return 0;
}

static void words_are_those_of_the_models_regular_expressions(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    struct lr_json *root = kit_golden(&a, "pretok.json");
    size_t n, n_names, k = 0;
    struct lr_str *texts = kit_texts(&a, lr_json_get(root, "texts"), &n);
    struct lr_str *names = kit_texts(&a, lr_json_get(root, "names"), &n_names);
    for (const struct lr_json *v = lr_json_get(root, "pieces")->child; v; v = v->next, k++) {
        size_t i = 0;
        for (const struct lr_json *c = v->child; c; c = c->next, i++) {
            struct pieces p = {c->child, 0, lr_arena_strz(&a, names[k]),
                               lr_arena_strz(&a, texts[i])};
            struct lr_str text = lr_str(p.base, texts[i].n);
            assert_int_equal(lr_nn_pretok(names[k], text, check_piece, &p), 0);
            assert_int_equal(p.at, texts[i].n);
            assert_null(p.next);
        }
        assert_int_equal(i, n);
    }
    assert_int_equal(k, n_names);
    lr_arena_free(&a);
}

static void load(struct lr_arena *a, const struct lr_json *root, struct lr_nn_vocab *v)
{
    v->tokens = kit_texts(a, lr_json_get(root, "tokens"), &v->n);
    const struct lr_json *scores = lr_json_get(root, "scores"), *types = lr_json_get(root, "types");
    float *s = lr_arena_array(a, float, v->n);
    int32_t *t = lr_arena_array(a, int32_t, v->n);
    size_t i = 0;
    for (const struct lr_json *c = scores ? scores->child : NULL; c; c = c->next) {
        double x = 0;
        assert_true(lr_json_real(c, &x));
        s[i++] = (float)x;
    }
    i = 0;
    for (const struct lr_json *c = types ? types->child : NULL; c; c = c->next) {
        uint64_t x = 0;
        assert_true(lr_json_u64(c, &x));
        t[i++] = (int32_t)x;
    }
    v->scores = scores ? s : NULL;
    v->types = types ? t : NULL;
    if (lr_json_get(root, "merges"))
        v->merges = kit_texts(a, lr_json_get(root, "merges"), &v->n_merges);
    memset(&v->roles, 0xFF, sizeof v->roles); /* none */
}

/* Also: what was encoded decodes to itself, where `lossless`. */
static void check(const char *name, const struct lr_nn_vocab *v, const struct lr_json *root,
                  bool lossless)
{
    struct lr_nn_tok *t;
    struct lr_err err = {0};
    if (lr_nn_tok_new(&t, v, &err))
        fail_msg("%s: %s at %s", name, err.msg, err.where);
    for (const struct lr_json *c = lr_json_get(root, "cases")->child; c; c = c->next) {
        struct lr_nn_ids ids;
        struct lr_nn_decoder d;
        struct lr_buf out;
        struct lr_str text = c->child->text;
        lr_nn_ids_init(&ids, 1000);
        lr_buf_init(&out, LR_KIB(64));
        assert_int_equal(lr_nn_tok_encode(t, text, 0, &ids, &err), 0);
        kit_same_ids(name, text, &ids, c->child->next);
        lr_nn_decoder_init(&d, t, true, false);
        for (size_t i = 0; i < ids.n; i++)
            assert_int_equal(lr_nn_decoder_add(&d, ids.id[i], &out), 0);
        assert_int_equal(lr_nn_decoder_end(&d, &out), 0);
        bool marked = memmem(text.p, text.n, "\u2581", 3); /* becomes a space in SPM */
        if (lossless && !(marked && v->kind == LR_NN_SPM) && !lr_str_eq(lr_buf_str(&out), text))
            fail_msg("%s: '%.*s' came back as '%.*s'", name, LR_FMT(text),
                     LR_FMT(lr_buf_str(&out)));
        lr_nn_ids_free(&ids);
        lr_buf_free(&out);
    }
    lr_nn_tok_close(t);
}

static void bpe_tokens_are_those_of_the_tokenizers_package(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    struct lr_nn_vocab v = {.kind = LR_NN_BPE, .pre = LR_STR("gpt-2")};
    struct lr_json *root = kit_golden(&a, "bpe.json");
    load(&a, root, &v);
    check("bpe", &v, root, true);
    lr_arena_free(&a);
}

static void spm_tokens_are_those_of_sentencepiece(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    struct lr_nn_vocab v = {.kind = LR_NN_SPM, .add_space_prefix = true};
    struct lr_json *root = kit_golden(&a, "spm.json");
    load(&a, root, &v);
    check("spm", &v, root, true);
    lr_arena_free(&a);
}

static void wordpiece_tokens_are_those_of_the_tokenizers_package(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    struct lr_nn_vocab v = {.kind = LR_NN_WORDPIECE};
    struct lr_json *root = kit_golden(&a, "wordpiece.json");
    load(&a, root, &v);
    v.roles.unk = 0;
    check("wordpiece", &v, root, false);
    lr_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_type_decode_as_the_reference_package_does),
        cmocka_unit_test(words_are_those_of_the_models_regular_expressions),
        cmocka_unit_test(bpe_tokens_are_those_of_the_tokenizers_package),
        cmocka_unit_test(spm_tokens_are_those_of_sentencepiece),
        cmocka_unit_test(wordpiece_tokens_are_those_of_the_tokenizers_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
