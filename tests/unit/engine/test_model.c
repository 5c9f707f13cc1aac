/* SPDX-License-Identifier: Apache-2.0
 * Files that are no model we run, budgets that do not suffice, work that cannot be, memory that runs
 * out: one clear error each, nothing changed, nothing leaked.
 */
#include "engine_kit.h"

static void refuse(struct spec s, int rc, const char *text)
{
    struct lr_engine_model *m = NULL;
    struct lr_err err = {0};
    kit_write(s, 1);
    assert_int_equal(lr_engine_model_open(&m, kit_path, &err), rc);
    assert_null(m);
    if (!strstr(err.msg, text))
        fail_msg("the error says \"%s\", not \"%s\"", err.msg, text);
}

static void test_foreign_models_are_refused_by_name(void **state)
{
    (void)state;
    refuse((struct spec){.arch = "mamba"}, LR_EUNSUPPORTED, "architecture 'mamba'");
    refuse((struct spec){.arch = "llama", .skip = "blk.1.ffn_up.weight"}, LR_EPARSE,
           "lacks tensor 'blk.1.ffn_up.weight'");
    refuse((struct spec){.arch = "llama", .wrong_rows = 3}, LR_EPARSE,
           "tensor 'blk.0.attn_k.weight' is 64 x 35 x 1 x 1, expected 64 x 32");
    refuse((struct spec){.arch = "llama", .extra = "blk.0.ssm_conv1d.weight"}, LR_EUNSUPPORTED,
           "'blk.0.ssm_conv1d.weight'");
    refuse((struct spec){.arch = "llama", .extra = "blk.7.attn_norm.weight"}, LR_EUNSUPPORTED,
           "'blk.7.attn_norm.weight'");
    refuse((struct spec){.arch = "llama", .extra = "blk.0.attn_q_norm.weight"}, LR_EUNSUPPORTED,
           "'blk.0.attn_q_norm.weight'");
    refuse((struct spec){.arch = "qwen2"}, LR_EPARSE, "lacks tensor 'blk.0.attn_q.bias'");
    refuse((struct spec){.arch = "llama", .n_head = 4, .n_kv = 3}, LR_EPARSE, "do not divide");
    refuse((struct spec){.arch = "llama", .n_rot = 18}, LR_EPARSE, "rotated elements");
}

/* A model's file with one more number in its metadata. */
static int open_with(const char *key, float v, struct lr_err *err)
{
    struct lr_nn_gguf_writer *w;
    struct lr_engine_model *m;
    struct spec s = with_defaults((struct spec){.arch = "llama"});
    OK(lr_nn_gguf_create(&w, kit_path, 0, &kit_err));
    OK(lr_nn_gguf_put_text(w, "general.architecture", LR_STR("llama")));
    put_number(w, "llama", "block_count", s.n_layer);
    put_real(w, "llama", key, v);
    OK(lr_nn_gguf_finish(w, &kit_err));
    int rc = lr_engine_model_open(&m, kit_path, err);
    assert_int_not_equal(rc, 0);
    return rc;
}

static void test_computations_we_do_not_do_are_refused(void **state)
{
    (void)state;
    static const char *const keys[] = {"expert_count", "logit_scale", "attn_logit_softcapping",
                                       "attention.clamp_kqv", "residual_scale"};
    for (size_t i = 0; i < LR_COUNT(keys); i++) {
        struct lr_err err = {0};
        assert_int_equal(open_with(keys[i], 8, &err), LR_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, keys[i]));
    }
    struct lr_err err = {0};
    assert_int_equal(open_with("embedding_length", 1e9f, &err), LR_EINVAL);
}

static void test_the_plan_is_what_is_taken(void **state)
{
    (void)state;
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 1);
    struct lr_engine_plan p;
    struct lr_engine *e;
    struct lr_engine_memory mem;
    struct lr_err err = {0};
    struct lr_engine_opts o = {.threads = 2, .kv_max = LR_MIB(8)};
    OK(lr_engine_plan(m, &o, &p, &kit_err));
    assert_int_equal(p.bytes_total, p.bytes_weights + p.bytes_scratch + p.bytes_kv);
    assert_int_equal(p.bytes_kv, LR_MIB(8));
    /* 2 layers, 2 heads, 2 x 16 elements of 2 bytes, 12 bytes of row, and the page's head */
    assert_true(p.bytes_kv_token >= 4 * (64 + 12) && p.bytes_kv_token <= 4 * (64 + 12 + 24));
    OK(lr_engine_open(&e, m, &o, &kit_err));
    lr_engine_memory(e, &mem);
    assert_int_equal(mem.bytes_max, p.bytes_kv);
    lr_engine_close(e);
    o = (struct lr_engine_opts){.threads = 2, .bytes_max = p.bytes_weights + p.bytes_scratch};
    assert_int_equal(lr_engine_open(&e, m, &o, &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "does not fit"));
    o.bytes_max += LR_MIB(3);
    OK(lr_engine_plan(m, &o, &p, &kit_err));
    assert_int_equal(p.bytes_kv, LR_MIB(3));
    o.kv_max = LR_MIB(4);
    assert_int_equal(lr_engine_plan(m, &o, &p, NULL), LR_EOVER);
    o = (struct lr_engine_opts){.codec = lr_engine_codec_find(LR_STR("q8_0"))};
    err = (struct lr_err){0};
    assert_int_equal(lr_engine_plan(m, &o, &p, &err), LR_EINVAL); /* heads of 16 */
    assert_non_null(strstr(err.msg, "q8_0"));
    assert_null(lr_engine_codec_find(LR_STR("f17")));
    lr_engine_model_close(m);
}

/* An engine whose arena holds `tokens`. */
static struct lr_engine *small_engine(const struct lr_engine_model *m, uint32_t tokens)
{
    struct lr_engine *e;
    struct lr_engine_plan p;
    struct lr_engine_opts o = {.threads = 1, .kv_max = LR_MIB(8)};
    OK(lr_engine_plan(m, &o, &p, &kit_err));
    o.kv_max = p.bytes_kv_token * tokens;
    OK(lr_engine_open(&e, m, &o, &kit_err));
    return e;
}

static void test_promised_rows_are_there_and_no_more_is_promised(void **state)
{
    (void)state;
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 1);
    struct lr_engine *e = small_engine(m, 320);
    struct lr_engine_seq *a, *b, *c, *fork;
    uint32_t tokens[320] = {0};
    struct lr_err err = {0};
    struct lr_engine_seq_opts o = {.tokens_max = 200};
    OK(lr_engine_seq_open(&a, e, &o, &kit_err));
    assert_int_equal(lr_engine_seq_open(&b, e, &o, &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "200 tokens"));
    b = kit_seq(e); /* promised nothing: what is left */
    OK(lr_engine_feed(b, tokens, 96, NULL, NULL, &kit_err));
    assert_int_equal(lr_engine_feed(b, tokens, 1, NULL, NULL, NULL), LR_EOVER);
    assert_int_equal(lr_engine_seq_len(b), 96);
    assert_int_equal(lr_engine_rows(b, 0, 0), 96);
    OK(lr_engine_feed(a, tokens, 200, NULL, NULL, &kit_err)); /* as promised */
    lr_engine_seq_close(b);
    /* A fork shares 200 rows; it is charged for a copy of the unfinished page, on both sides. */
    OK(lr_engine_seq_fork(&fork, a, 224, &kit_err));
    o.tokens_max = 64;
    assert_int_equal(lr_engine_seq_open(&c, e, &o, NULL), LR_EOVER);
    o.tokens_max = 32;
    OK(lr_engine_seq_open(&c, e, &o, &kit_err));
    OK(lr_engine_feed(a, tokens, 20, NULL, NULL, &kit_err));
    OK(lr_engine_feed(fork, tokens, 24, NULL, NULL, &kit_err));
    OK(lr_engine_feed(c, tokens, 32, NULL, NULL, &kit_err));
    lr_engine_seq_close(a);
    lr_engine_seq_close(fork);
    lr_engine_seq_close(c);
    struct lr_engine_memory mem;
    lr_engine_memory(e, &mem);
    assert_int_equal(mem.bytes_used + mem.bytes_promised, 0);
    lr_engine_close(e);
    lr_engine_model_close(m);
}

static void test_steps_without_room_change_nothing(void **state)
{
    (void)state;
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 1);
    struct lr_engine *e = small_engine(m, 256);
    struct lr_engine_seq *a = kit_seq(e), *b = kit_seq(e);
    uint32_t tokens[256] = {0};
    struct lr_engine_work w[2] = {{.seq = a, .tokens = tokens, .n = 200},
                                  {.seq = b, .tokens = tokens, .n = 200}};
    struct lr_engine_memory mem;
    assert_int_equal(lr_engine_step(e, w, 2, NULL), LR_EOVER);
    assert_int_equal(lr_engine_seq_len(a), 0);
    assert_int_equal(lr_engine_seq_len(b), 0);
    lr_engine_memory(e, &mem);
    assert_int_equal(mem.bytes_used, 0);
    lr_engine_seq_close(a);
    lr_engine_seq_close(b);
    lr_engine_close(e);
    lr_engine_model_close(m);
}

static void test_work_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 1);
    struct lr_engine *e = kit_engine(m, 2, "f16");
    struct lr_engine_seq *s[4] = {kit_seq(e), kit_seq(e), kit_seq(e)};
    uint32_t tokens[600] = {0};
    float logits[61];
    atomic_bool cancel = true;
    struct lr_err err = {0};
    struct lr_engine_work w = {.seq = s[0], .tokens = tokens, .n = 0};
    assert_int_equal(lr_engine_step(e, &w, 1, NULL), LR_EINVAL);
    w.n = LR_ENGINE_TILE + 1;
    assert_int_equal(lr_engine_step(e, &w, 1, NULL), LR_EINVAL);
    w = (struct lr_engine_work){.seq = s[0], .tokens = tokens, .n = 2, .n_logits = 3,
                                .logits = logits};
    assert_int_equal(lr_engine_step(e, &w, 1, NULL), LR_EINVAL);
    struct lr_engine_work twice[] = {{.seq = s[0], .tokens = tokens, .n = 1},
                                     {.seq = s[0], .tokens = tokens, .n = 1}};
    assert_int_equal(lr_engine_step(e, twice, 2, NULL), LR_EINVAL);
    struct lr_engine_work three[3];
    for (size_t i = 0; i < 3; i++)
        three[i] = (struct lr_engine_work){.seq = s[i], .tokens = tokens, .n = 200};
    assert_int_equal(lr_engine_step(e, three, 3, NULL), LR_EINVAL);
    tokens[5] = 61;
    assert_int_equal(lr_engine_feed(s[0], tokens, 6, logits, NULL, &err), LR_EINVAL);
    assert_non_null(strstr(err.msg, "token 61"));
    tokens[5] = 0;
    assert_int_equal(lr_engine_feed(s[0], tokens, 6, logits, &cancel, NULL), LR_ECANCEL);
    assert_int_equal(lr_engine_seq_len(s[0]), 0);
    assert_int_equal(lr_engine_embed(e, tokens, 0, LR_ENGINE_POOL_MEAN, logits, NULL), LR_EINVAL);
    assert_int_equal(lr_engine_step(e, NULL, 0, NULL), 0);
    for (size_t i = 0; i < 3; i++)
        lr_engine_seq_close(s[i]);
    lr_engine_close(e);
    lr_engine_model_close(m);
}

static void test_random_models_open_and_speak_their_vocabulary(void **state)
{
    (void)state;
    static const enum lr_nn_type types[] = {LR_NN_F32, LR_NN_Q8_0, LR_NN_Q4_K};
    for (size_t i = 0; i < LR_COUNT(types); i++) {
        struct lr_engine_random r = {.like = LR_STR("nano"), .type = types[i], .seed = 4,
                                     .path = kit_path};
        struct lr_engine_model *m;
        struct lr_nn_tok *tok;
        struct lr_nn_ids ids;
        float logits[512];
        OK(lr_engine_random(&r, &kit_err));
        OK(lr_engine_model_open(&m, kit_path, &kit_err));
        OK(lr_nn_tok_open(&tok, lr_engine_model_file(m), &kit_err));
        lr_nn_ids_init(&ids, 100);
        OK(lr_nn_tok_encode(tok, LR_STR("the larder, K\xc3\xa4se!"), LR_NN_ADD_SPECIAL, &ids,
                            &kit_err));
        struct lr_engine *e = kit_engine(m, 1, "f16");
        struct lr_engine_seq *s = kit_seq(e);
        OK(lr_engine_feed(s, ids.id, ids.n, logits, NULL, &kit_err));
        for (size_t v = 0; v < 512; v++)
            assert_true(isfinite(logits[v]));
        lr_engine_seq_close(s);
        lr_engine_close(e);
        lr_nn_ids_free(&ids);
        lr_nn_tok_close(tok);
        lr_engine_model_close(m);
    }
    struct lr_engine_random r = {.like = LR_STR("gpt-9"), .path = kit_path};
    assert_int_equal(lr_engine_random(&r, NULL), LR_EINVAL);
    r = (struct lr_engine_random){.like = LR_STR("nano"), .path = kit_path,
                                  .vocab = LR_STR("/nonexistent")};
    assert_int_equal(lr_engine_random(&r, NULL), LR_ENOENT);
}

/* ---- when memory runs out ---- */

static int edit(struct lr_engine_seq *s, struct lr_engine_seq *twin)
{
    static const uint32_t keep[] = {1, 2, 30, 39};
    float x[16] = {0};
    LR_TRY(lr_engine_rows_keep(s, 0, 0, keep, LR_COUNT(keep)));
    LR_TRY(lr_engine_rows_write(twin, 0, 0, 3, x, NULL, 1));
    LR_TRY(lr_engine_rows_insert(twin, 1, 0, 3, x, x, 1, 0));
    return lr_engine_seq_truncate(s, 10);
}

static int use(struct lr_engine *e, struct lr_engine_seq *s)
{
    struct lr_engine_seq *twin;
    uint32_t tokens[40] = {0};
    char bytes[40000];
    size_t n = sizeof bytes;
    LR_TRY(lr_engine_feed(s, tokens, 40, NULL, NULL, NULL));
    LR_TRY(lr_engine_seq_save(s, bytes, &n));
    LR_TRY(lr_engine_seq_fork(&twin, s, 64, NULL));
    int rc = edit(s, twin);
    rc = rc ? rc : lr_engine_feed(twin, tokens, 3, NULL, NULL, NULL);
    lr_engine_seq_close(twin);
    LR_TRY(rc);
    LR_TRY(lr_engine_seq_open(&twin, e, &(struct lr_engine_seq_opts){0}, NULL));
    rc = lr_engine_seq_load(twin, bytes, n);
    lr_engine_seq_close(twin);
    return rc;
}

static int see_nothing(void *ctx, const struct lr_engine_view *v)
{
    (void)ctx;
    (void)v;
    return 0;
}

static int scenario(struct lr_engine_model **m, struct lr_engine **e, struct lr_engine_seq **s)
{
    float vector[64];
    uint32_t tokens[3] = {0};
    struct lr_engine_tap tap = {.kinds = 127, .window = 2, .seen = see_nothing};
    struct lr_engine_opts o = {.threads = 2, .kv_max = LR_MIB(4)};
    LR_TRY(lr_engine_model_open(m, kit_path, NULL));
    LR_TRY(lr_engine_open(e, *m, &o, NULL));
    LR_TRY(lr_engine_seq_open(s, *e, &(struct lr_engine_seq_opts){.tokens_max = 64}, NULL));
    LR_TRY(use(*e, *s));
    struct lr_engine_work w = {.seq = *s, .tokens = tokens, .n = 3, .tap = &tap};
    LR_TRY(lr_engine_step(*e, &w, 1, NULL));
    return lr_engine_embed(*e, tokens, 3, LR_ENGINE_POOL_MEAN, vector, NULL);
}

static void test_every_failure_is_clean(void **state)
{
    (void)state;
    kit_write((struct spec){.arch = "llama", .n_layer = 2, .n_vocab = 9}, 1);
    int rc = -1;
    for (uint64_t n = 1; rc; n++) {
        struct lr_engine_model *m = NULL;
        struct lr_engine *e = NULL;
        struct lr_engine_seq *s = NULL;
        struct lr_engine_memory mem;
        lr_fault_arm(n);
        rc = scenario(&m, &e, &s);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (rc && (!hit || (rc != LR_ENOMEM && rc != LR_EOVER && rc != LR_EIO && rc != LR_EBUSY &&
                            rc != LR_ECORRUPT)))
            fail_msg("fault %llu: %s", (unsigned long long)n, lr_errname(rc));
        lr_engine_seq_close(s);
        if (e) {
            lr_engine_memory(e, &mem);
            assert_int_equal(mem.bytes_used + mem.bytes_promised, 0);
        }
        lr_engine_close(e);
        lr_engine_model_close(m);
        if (!rc && hit)
            rc = -1; /* a fault that was survived: go on */
    }
}

static void test_random_models_survive_every_failure(void **state)
{
    (void)state;
    struct lr_engine_random r = {.like = LR_STR("nano"), .type = LR_NN_Q8_0, .path = kit_path};
    int rc = -1;
    for (uint64_t n = 1; rc; n++) {
        lr_fault_arm(n);
        rc = lr_engine_random(&r, NULL);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_true(!rc || hit);
        n += n / 8; /* thousands of texts of a vocabulary: not each of them */
        if (!rc && hit)
            rc = -1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_models_are_refused_by_name),
        cmocka_unit_test(test_computations_we_do_not_do_are_refused),
        cmocka_unit_test(test_the_plan_is_what_is_taken),
        cmocka_unit_test(test_promised_rows_are_there_and_no_more_is_promised),
        cmocka_unit_test(test_steps_without_room_change_nothing),
        cmocka_unit_test(test_work_that_cannot_be_is_refused),
        cmocka_unit_test(test_random_models_open_and_speak_their_vocabulary),
        cmocka_unit_test(test_every_failure_is_clean),
        cmocka_unit_test(test_random_models_survive_every_failure),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
