/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/test_pair.c - the pair verifier against a plain twin in doubles.
 */
#include "embed_kit.h"

static struct lr_embed_pair *open_pair(const char *path, bool exact, struct lr_embed_scratch **s)
{
    struct lr_embed_pair *p;
    struct lr_err err = {0};
    if (lr_embed_pair_open(&p, path, &(struct lr_embed_opts){.exact = exact}, &err))
        fail_msg("%s (%s)", err.msg, err.where);
    assert_int_equal(lr_embed_pair_scratch_open(p, s), 0);
    return p;
}

static size_t add(struct lr_nn_tok *tok, const char *text, uint8_t side, uint32_t *ids,
                  uint8_t *segment, size_t n)
{
    struct lr_nn_ids t;
    lr_nn_ids_init(&t, 1000);
    assert_int_equal(lr_nn_tok_encode(tok, lr_strz(text), 0, &t, NULL), 0);
    for (size_t i = 0; i < t.n; i++, n++) {
        ids[n] = t.id[i];
        segment[n] = side;
    }
    lr_nn_ids_free(&t);
    ids[n] = 3;
    segment[n++] = side;
    return n;
}

/* The lesser text first; before may be NULL. */
static double twin(const struct kit *k, const char *a, const char *a_before, const char *b,
                   const char *b_before)
{
    static double x[KIT_CTX][KIT_D];
    double h[KIT_D], out[2];
    uint32_t ids[KIT_CTX] = {2};
    uint8_t segment[KIT_CTX] = {0};
    struct lr_nn_tok *tok = kit_tok(k);
    size_t n = add(tok, a, 0, ids, segment, 1);
    if (a_before)
        n = add(tok, a_before, 0, ids, segment, n);
    n = add(tok, b, 1, ids, segment, n);
    if (b_before)
        n = add(tok, b_before, 1, ids, segment, n);
    lr_nn_tok_close(tok);
    kit_bert(k, ids, segment, n, x);
    kit_linear(k, "cls", x[0], h, KIT_D, KIT_D);
    for (int i = 0; i < KIT_D; i++)
        h[i] = tanh(h[i]);
    kit_linear(k, "cls.output", h, out, KIT_D, k->n_cls);
    return k->n_cls == 1 ? out[0] : out[1] - out[0];
}

static void verdicts_are_the_twins(void **state)
{
    (void)state;
    for (uint32_t n_cls = 1; n_cls <= 2; n_cls++) {
        struct kit k = {.n_cls = n_cls};
        struct lr_embed_scratch *s;
        struct lr_embed_verdict v[3];
        kit_make(&k, 30 + n_cls);
        kit_write(&k);
        struct lr_embed_pair *p = open_pair(k.path, true, &s);
        struct lr_embed_two two[3] = {
            {{LR_STR("how do i enable the cache"), {NULL, 0}}, {LR_STR("what is the cache"), {NULL, 0}}},
            {{LR_STR("how do i enable the cache"), LR_STR("the dog")},
             {LR_STR("what is the cache"), LR_STR("a cat in paris")}},
            {{LR_STR("is it"), LR_STR("cat")}, {LR_STR("what"), {NULL, 0}}}};
        double want[3] = {twin(&k, "how do i enable the cache", NULL, "what is the cache", NULL),
                          twin(&k, "how do i enable the cache", "the dog", "what is the cache",
                               "a cat in paris"),
                          twin(&k, "is it", "cat", "what", NULL)};
        assert_int_equal(lr_embed_pair_judge(p, s, two, 3, v, NULL), 0);
        for (int i = 0; i < 3; i++) {
            assert_true(fabs((double)v[i].logit - want[i]) < 1e-4);
            assert_true(fabs((double)v[i].p - 1 / (1 + exp(-(1.5 * want[i] - 0.25)))) < 1e-4);
            assert_false(v[i].cut);
        }
        assert_int_equal(v[2].unknown, 1);
        float scale, bias;
        lr_embed_pair_calibration(p, &scale, &bias);
        assert_true(scale == 1.5f && bias == -0.25f);
        lr_embed_scratch_close(s);
        lr_embed_pair_close(p);
        kit_free(&k);
    }
}

static void order_and_company_change_no_bit(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 1};
    struct lr_embed_scratch *s;
    enum { N = 60 };
    struct lr_embed_two two[N], back;
    struct lr_embed_verdict all[N], one;
    kit_make(&k, 40);
    kit_write(&k);
    struct lr_embed_pair *p = open_pair(k.path, false, &s);
    for (int i = 0; i < N; i++) {
        struct lr_str *t[] = {&two[i].a.question, &two[i].a.before, &two[i].b.question,
                              &two[i].b.before};
        for (int j = 0; j < 4; j++)
            *t[j] = lr_strz(kit_texts[lr_rng_below(&k.rng, KIT_TEXTS)]);
    }
    assert_int_equal(lr_embed_pair_judge(p, s, two, N, all, NULL), 0);
    for (int i = 0; i < N; i++) {
        back.a = two[i].b;
        back.b = two[i].a;
        assert_int_equal(lr_embed_pair_judge(p, s, &back, 1, &one, NULL), 0);
        assert_memory_equal(&one.logit, &all[i].logit, sizeof one.logit);
        assert_true(one.p == all[i].p && one.tokens == all[i].tokens && one.cut == all[i].cut);
        assert_true(one.p > 0 && one.p < 1);
    }
    assert_int_equal(lr_embed_pair_judge(p, s, NULL, 0, NULL, NULL), 0);
    lr_embed_scratch_close(s);
    lr_embed_pair_close(p);
    kit_free(&k);
}

/* n words of `a`, then the end. */
static void repeat(char *to, size_t n, const char *end)
{
    for (size_t i = 0; i < n; i++)
        memcpy(to + 2 * i, "a ", 2);
    strncpy(to + 2 * n, end, 100);
}

static void a_long_side_keeps_half_and_what_the_other_leaves(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 1};
    struct lr_embed_scratch *s;
    struct lr_embed_verdict v[6];
    char long_a[400], fits[400], half_a[400], half_b[400], long_b[400];
    kit_make(&k, 50);
    kit_write(&k);
    struct lr_embed_pair *p = open_pair(k.path, false, &s);
    /* 48 tokens: CLS, two SEP, 45 of text */
    repeat(long_a, 60, "");
    repeat(long_b, 50, "dog");
    repeat(fits, 43, "");
    repeat(half_a, 22, "");
    repeat(half_b, 23, "");
    struct lr_str dog = LR_STR("the dog"), cat = LR_STR("cat");
    struct lr_embed_two two[6] = {
        {.a.question = lr_strz(long_a), .b.question = dog},
        {.a.question = lr_strz(fits), .b.question = dog},
        {.a.question = lr_strz(long_a), .b.question = lr_strz(long_b)},
        {.a.question = lr_strz(half_a), .b.question = lr_strz(half_b)},
        /* of what was before the last words count */
        {.a = {cat, lr_strz(long_b)}, .b.question = dog},
        {.a = {cat, lr_strz(long_b + 20)}, .b.question = dog}};
    assert_int_equal(lr_embed_pair_judge(p, s, two, 6, v, NULL), 0);
    assert_true(v[0].cut && !v[1].cut && v[2].cut && !v[3].cut && v[4].cut);
    for (int i = 0; i < 4; i++)
        assert_int_equal(v[i].tokens, KIT_CTX);
    assert_true(v[0].logit == v[1].logit);
    assert_true(v[2].logit == v[3].logit);
    assert_true(v[4].logit == v[5].logit);
    lr_embed_scratch_close(s);
    lr_embed_pair_close(p);
    kit_free(&k);
}

static void classifiers_of_a_folder_are_read(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 2};
    struct lr_embed_scratch *s;
    struct lr_embed_verdict a, b;
    struct lr_embed_two two = {.a.question = LR_STR("cat"), .b.question = LR_STR("dog")};
    char to[160];
    kit_make(&k, 60);
    kit_folder(&k, "", "{\"pooling_mode_mean_tokens\":true}");
    snprintf(to, sizeof to, "%s/q.gguf", k.dir);
    assert_int_equal(lr_embed_convert(k.folder, to, &(struct lr_embed_convert){.type = LR_NN_Q8_0},
                                      NULL), 0);
    struct lr_embed_pair *p = open_pair(k.folder, false, &s);
    struct lr_digest id = lr_embed_pair_info(p)->id;
    assert_int_equal(lr_embed_pair_judge(p, s, &two, 1, &a, NULL), 0);
    lr_embed_scratch_close(s);
    lr_embed_pair_close(p);
    p = open_pair(to, false, &s);
    assert_int_equal(lr_embed_pair_judge(p, s, &two, 1, &b, NULL), 0);
    assert_true(lr_digest_eq(&id, &lr_embed_pair_info(p)->id));
    assert_true(a.logit == b.logit);
    lr_embed_scratch_close(s);
    lr_embed_pair_close(p);
    struct kit plain = {0};
    struct lr_err err = {0};
    kit_make(&plain, 1);
    kit_write(&plain);
    assert_int_equal(lr_embed_pair_open(&p, plain.path, NULL, &err), LR_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "encoder"));
    kit_free(&plain);
    kit_free(&k);
}

static int scenario(const struct kit *k)
{
    struct lr_embed_pair *p;
    struct lr_embed_scratch *s;
    struct lr_embed_verdict v;
    struct lr_err err = {0};
    struct lr_embed_two two = {{LR_STR("cat"), LR_STR("dog")}, {LR_STR("a dog"), LR_STR("is")}};
    int rc = lr_embed_pair_open(&p, k->path, NULL, &err);
    if (rc) {
        assert_true(err.code == rc && err.msg[0]);
        return rc;
    }
    rc = lr_embed_pair_scratch_open(p, &s);
    if (!rc) {
        rc = lr_embed_pair_judge(p, s, &two, 1, &v, &err);
        lr_embed_scratch_close(s);
    }
    lr_embed_pair_close(p);
    return rc;
}

static void every_failing_call_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 1};
    bool hit = true;
    kit_make(&k, 61);
    kit_write(&k);
    for (uint64_t n = 1; n < 5000 && hit; n++) {
        lr_fault_arm(n);
        int rc = scenario(&k);
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_true(hit || !rc);
    }
    assert_false(hit);
    kit_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_are_the_twins),
        cmocka_unit_test(order_and_company_change_no_bit),
        cmocka_unit_test(a_long_side_keeps_half_and_what_the_other_leaves),
        cmocka_unit_test(classifiers_of_a_folder_are_read),
        cmocka_unit_test(every_failing_call_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
