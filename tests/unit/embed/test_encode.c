/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/test_encode.c - static and transformer encoders against plain twins in doubles.
 */
#include "embed_kit.h"

static struct lr_embed_model *open_kit(const struct kit *k, bool exact, struct lr_embed_scratch **s)
{
    struct lr_embed_model *m;
    struct lr_err err = {0};
    int rc = lr_embed_open(&m, k->path, &(struct lr_embed_opts){.exact = exact}, &err);
    if (rc)
        fail_msg("%s (%s)", err.msg, err.where);
    assert_int_equal(lr_embed_scratch_open(m, s), 0);
    return m;
}

/* Every text, all at once, against the twin; tolerance on each element. */
static void against_twin(struct kit *k, bool exact, double cosine)
{
    struct lr_embed_scratch *s;
    struct lr_str texts[KIT_TEXTS];
    struct lr_embed_note notes[KIT_TEXTS];
    static float v[KIT_TEXTS * KIT_D];
    double want[KIT_D];
    kit_make(k, 7);
    kit_write(k);
    kit_str(texts);
    struct lr_embed_model *m = open_kit(k, exact, &s);
    uint32_t dim = lr_embed_info(m)->dim;
    assert_int_equal(dim, k->head ? KIT_HEAD : KIT_D);
    assert_int_equal(lr_embed_encode(m, s, texts, KIT_TEXTS, v, notes, NULL), 0);
    for (size_t i = 0; i < KIT_TEXTS; i++) {
        float narrow[KIT_D];
        bool has = kit_encode(k, kit_texts[i], want);
        assert_int_equal(notes[i].empty, !has);
        for (uint32_t j = 0; j < dim; j++)
            narrow[j] = has ? (float)want[j] : 0;
        for (uint32_t j = 0; j < dim && !has; j++)
            assert_true(v[i * dim + j] == 0);
        if (has && kit_cos(v + i * dim, narrow, dim) < cosine)
            fail_msg("text %zu: cosine %.9f", i, kit_cos(v + i * dim, narrow, dim));
        if (has)
            assert_true(fabs(sqrt(kit_cos(v + i * dim, v + i * dim, dim)) - 1) < 1e-5);
    }
    lr_embed_scratch_close(s);
    lr_embed_close(m);
    kit_free(k);
}

static void static_is_the_weighted_mean(void **state)
{
    (void)state;
    against_twin(&(struct kit){.is_static = true}, true, 1 - 1e-6);
}
static void static_with_a_head_is_turned(void **state)
{
    (void)state;
    against_twin(&(struct kit){.is_static = true, .head = true}, true, 1 - 1e-6);
}
static void static_in_int8_is_close(void **state)
{
    (void)state;
    against_twin(&(struct kit){.is_static = true}, false, 0.999);
}
static void transformer_is_the_twin(void **state)
{
    (void)state;
    against_twin(&(struct kit){0}, true, 1 - 1e-6);
}
static void transformer_pools_cls(void **state)
{
    (void)state;
    against_twin(&(struct kit){.pooling = LR_EMBED_CLS}, true, 1 - 1e-6);
}
static void transformer_with_a_head_is_turned(void **state)
{
    (void)state;
    against_twin(&(struct kit){.head = true}, true, 1 - 1e-6);
}
static void transformer_in_int8_is_close(void **state)
{
    (void)state;
    against_twin(&(struct kit){.pooler = true}, false, 0.998);
}

static void company_changes_no_bit(void **state)
{
    (void)state;
    for (int is_static = 0; is_static < 2; is_static++)
        for (int exact = 0; exact < 2; exact++) {
            struct kit k = {.is_static = is_static};
            struct lr_embed_scratch *s;
            struct lr_str texts[100];
            static float all[100 * KIT_D];
            float one[KIT_D];
            struct lr_embed_note notes[100], note;
            kit_make(&k, 11);
            kit_write(&k);
            for (size_t i = 0; i < 100; i++) /* more than a run's tokens */
                texts[i] = lr_strz(kit_texts[lr_rng_below(&k.rng, KIT_TEXTS)]);
            struct lr_embed_model *m = open_kit(&k, exact, &s);
            assert_int_equal(lr_embed_encode(m, s, texts, 100, all, notes, NULL), 0);
            for (size_t i = 0; i < 100; i++) {
                assert_int_equal(lr_embed_encode(m, s, &texts[i], 1, one, &note, NULL), 0);
                assert_memory_equal(one, all + i * KIT_D, sizeof one);
                assert_int_equal(note.tokens, notes[i].tokens);
                assert_int_equal(note.cut, notes[i].cut);
            }
            assert_int_equal(lr_embed_encode(m, s, texts, 0, all, NULL, NULL), 0);
            lr_embed_scratch_close(s);
            lr_embed_close(m);
            kit_free(&k);
        }
}

/* One of several threads: the model is shared, the scratch is its own. */
struct reader {
    const struct lr_embed_model *m;
    const float *want;
    pthread_t thread;
    bool same;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    struct lr_embed_scratch *s;
    struct lr_str texts[KIT_TEXTS];
    float v[KIT_TEXTS * KIT_D];
    kit_str(texts);
    r->same = lr_embed_scratch_open(r->m, &s) == 0;
    for (int i = 0; r->same && i < 5; i++)
        r->same = lr_embed_encode(r->m, s, texts, KIT_TEXTS, v, NULL, NULL) == 0 &&
                  memcmp(v, r->want, sizeof v) == 0;
    if (r->same)
        lr_embed_scratch_close(s);
    return NULL;
}

static void threads_share_a_model(void **state)
{
    (void)state;
    struct kit k = {0};
    struct lr_embed_scratch *s;
    struct lr_str texts[KIT_TEXTS];
    static float want[KIT_TEXTS * KIT_D];
    struct reader r[4];
    kit_make(&k, 12);
    kit_write(&k);
    kit_str(texts);
    struct lr_embed_model *m = open_kit(&k, false, &s);
    assert_int_equal(lr_embed_encode(m, s, texts, KIT_TEXTS, want, NULL, NULL), 0);
    for (int i = 0; i < 4; i++) {
        r[i] = (struct reader){.m = m, .want = want};
        assert_int_equal(pthread_create(&r[i].thread, NULL, read_all, &r[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(r[i].thread, NULL);
        assert_true(r[i].same);
    }
    lr_embed_scratch_close(s);
    lr_embed_close(m);
    kit_free(&k);
}

static void longer_texts_are_cut_and_flagged(void **state)
{
    (void)state;
    struct kit k = {0};
    struct lr_embed_scratch *s;
    struct lr_embed_model *m;
    static char text[KIT_CTX * LR_EMBED_TOKEN_BYTES + 10];
    struct lr_str texts[4] = {LR_STR("cat dog cat dog"), LR_STR("cat dog cat"), lr_str(text, sizeof text),
                              LR_STR("zzzz qqqq cat")};
    float v[4 * KIT_D];
    struct lr_embed_note n[4];
    kit_make(&k, 3);
    kit_write(&k);
    memset(text, ' ', sizeof text);
    memcpy(text, "cat", 3);
    assert_int_equal(lr_embed_open(&m, k.path, &(struct lr_embed_opts){.tokens_max = 5}, NULL), 0);
    assert_int_equal(lr_embed_info(m)->tokens_max, 5);
    assert_int_equal(lr_embed_scratch_open(m, &s), 0);
    assert_int_equal(lr_embed_encode(m, s, texts, 4, v, n, NULL), 0);
    assert_memory_equal(v, v + KIT_D, KIT_D * sizeof *v); /* the first three tokens */
    assert_true(n[0].cut && !n[1].cut && n[2].cut && !n[3].cut);
    assert_int_equal(n[0].tokens, 5);
    assert_int_equal(n[3].unknown, 2);
    assert_false(n[3].empty);
    lr_embed_scratch_close(s);
    lr_embed_close(m);
    kit_free(&k);
}

/* ---- identity ---- */

static struct lr_digest id_of(const char *path, const struct lr_embed_opts *o)
{
    struct lr_embed_model *m;
    struct lr_err err = {0};
    if (lr_embed_open(&m, path, o, &err))
        fail_msg("%s (%s)", err.msg, err.where);
    struct lr_digest d = lr_embed_info(m)->id;
    lr_embed_close(m);
    return d;
}

static void the_id_is_of_what_changes_a_vector(void **state)
{
    (void)state;
    struct kit k = {0};
    struct lr_embed_opts exact = {.exact = true}, few = {.tokens_max = 7};
    char to[160];
    kit_make(&k, 5);
    kit_write(&k);
    struct lr_digest id = id_of(k.path, NULL), again = id_of(k.path, NULL), d;
    assert_true(lr_digest_eq(&id, &again));
    d = id_of(k.path, &exact);
    assert_false(lr_digest_eq(&id, &d));
    d = id_of(k.path, &few);
    assert_false(lr_digest_eq(&id, &d));
    kit_get(&k, "blk.1.ffn_down.bias")[3] += 0.001f;
    kit_write(&k);
    d = id_of(k.path, NULL);
    assert_false(lr_digest_eq(&id, &d));
    kit_get(&k, "blk.1.ffn_down.bias")[3] -= 0.001f;
    kit_write(&k);
    /* another container, the int8 of the same weights */
    snprintf(to, sizeof to, "%s/q8.gguf", k.dir);
    struct lr_embed_convert c = {.type = LR_NN_Q8_0, .licence = "CC0-1.0"};
    assert_int_equal(lr_embed_convert(k.path, to, &c, NULL), 0);
    again = id_of(k.path, NULL);
    d = id_of(to, NULL);
    assert_true(lr_digest_eq(&again, &d));
    kit_free(&k);
}

static void a_folder_and_its_file_are_one(void **state)
{
    (void)state;
    struct kit k = {.pooler = true, .pooling = LR_EMBED_CLS};
    char to[160];
    float a[KIT_D], b[KIT_D];
    struct lr_str text = LR_STR("Zürich: what is the price of a cat?");
    kit_make(&k, 9);
    kit_write(&k);
    kit_folder(&k, "", "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}");
    snprintf(to, sizeof to, "%s/made.gguf", k.dir);
    struct lr_err err = {0};
    if (lr_embed_convert(k.folder, to, NULL, &err))
        fail_msg("%s (%s)", err.msg, err.where);
    struct lr_digest f = id_of(k.folder, NULL), g = id_of(to, NULL), h = id_of(k.path, NULL);
    assert_true(lr_digest_eq(&f, &g));
    assert_true(lr_digest_eq(&f, &h));
    struct lr_embed_model *m;
    struct lr_embed_scratch *s;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lr_embed_open(&m, i ? to : k.folder, NULL, NULL), 0);
        assert_int_equal(lr_embed_scratch_open(m, &s), 0);
        assert_int_equal(lr_embed_encode(m, s, &text, 1, i ? a : b, NULL, NULL), 0);
        lr_embed_scratch_close(s);
        lr_embed_close(m);
    }
    assert_memory_equal(a, b, sizeof a);
    kit_free(&k);
}

static void a_head_can_be_put_in(void **state)
{
    (void)state;
    struct kit k = {0};
    struct lr_embed_model *m;
    struct lr_embed_scratch *s;
    static float head[5 * KIT_D], plain[KIT_D], out[5], want[5];
    struct lr_str text = LR_STR("reset my account");
    char to[160];
    kit_make(&k, 21);
    kit_write(&k);
    for (size_t i = 0; i < 5 * KIT_D; i++)
        head[i] = (float)(lr_rng_unit(&k.rng) - 0.5);
    snprintf(to, sizeof to, "%s/head.gguf", k.dir);
    assert_int_equal(lr_embed_set_head(k.path, to, head, 5, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lr_embed_open(&m, i ? to : k.path, NULL, NULL), 0);
        assert_int_equal(lr_embed_info(m)->dim, i ? 5 : KIT_D);
        assert_int_equal(lr_embed_scratch_open(m, &s), 0);
        assert_int_equal(lr_embed_encode(m, s, &text, 1, i ? out : plain, NULL, NULL), 0);
        lr_embed_scratch_close(s);
        lr_embed_close(m);
    }
    lr_embed_project(head, KIT_D, 5, plain, 1, want);
    for (int i = 0; i < 5; i++)
        assert_true(fabsf(out[i] - want[i]) < 1e-5f);
    assert_int_equal(lr_embed_set_head(k.path, to, head, 0, NULL), LR_EINVAL);
    kit_free(&k);
}

/* ---- refusals ---- */

static void refused(const char *path, int rc, const char *part)
{
    struct lr_embed_model *m = NULL;
    struct lr_err err = {0};
    int got = lr_embed_open(&m, path, NULL, &err);
    if (got != rc || !strstr(err.msg, part) || !err.where[0])
        fail_msg("%s, expected %s: '%s' at '%s'", lr_errname(got), lr_errname(rc), err.msg, err.where);
    assert_null(m);
}

static void files_that_lack_or_contradict_are_refused(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_make(&k, 1);
    size_t n = k.n;
    for (size_t i = 0; i < n; i++) { /* each tensor missing once, misshapen once */
        struct kit_tensor keep = k.t[i];
        k.t[i] = k.t[n - 1];
        k.n = n - 1;
        kit_write(&k);
        refused(k.path, LR_EPARSE, keep.name);
        k.n = n;
        k.t[i] = keep;
        if (strcmp(keep.name, "token_embd.weight") && strcmp(keep.name, "token_types.weight")) {
            k.t[i].cols -= 32;
            kit_write(&k);
            refused(k.path, LR_EPARSE, keep.name);
            k.t[i] = keep;
        }
    }
    kit_get(&k, "blk.0.attn_q.weight")[17] = NAN;
    kit_write(&k);
    refused(k.path, LR_EPARSE, "finite");
    kit_get(&k, "blk.0.attn_q.weight")[17] = 0;
    snprintf(k.t[3].name, sizeof k.t[3].name, "blk.0.attn_qkv.weight");
    kit_write(&k);
    refused(k.path, LR_EPARSE, "lacks");
    refused("/nonexistent/model.gguf", LR_ENOENT, "");
    kit_free(&k);
}

static void a_tensor_too_many_is_refused(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_make(&k, 1);
    kit_add(&k, "blk.0.ffn_gate.weight", "", KIT_D, KIT_FF, 0, 1);
    kit_write(&k);
    refused(k.path, LR_EUNSUPPORTED, "ffn_gate");
    snprintf(k.t[k.n - 1].name, 64, "blk.9.ffn_up.weight");
    kit_write(&k);
    refused(k.path, LR_EPARSE, "belong to no part");
    kit_free(&k);
}

static void folders_that_ask_for_more_are_refused(void **state)
{
    (void)state;
    static const char mean[] = "{\"pooling_mode_mean_tokens\":true}";
    struct kit k = {0};
    kit_make(&k, 2);
    kit_folder(&k, ",\"position_embedding_type\":\"relative_key\"", mean);
    refused(k.folder, LR_EUNSUPPORTED, "position_embedding_type");
    kit_folder(&k, ",\"layer_norm_eps\":0.5", mean);
    refused(k.folder, LR_EPARSE, "");
    kit_folder(&k, "", "{\"pooling_mode_max_tokens\":true}");
    refused(k.folder, LR_EUNSUPPORTED, "pooling_mode_max_tokens");
    kit_folder(&k, "", "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}");
    refused(k.folder, LR_EUNSUPPORTED, "2 poolings");
    kit_folder(&k, "", mean);
    kit_file(&k, "modules.json", "[{\"type\":\"sentence_transformers.models.Dense\"}]");
    refused(k.folder, LR_EUNSUPPORTED, "Dense");
    kit_file(&k, "modules.json", "[{\"type\":\"sentence_transformers.models.Pooling\"}]");
    kit_file(&k, "sentence_bert_config.json", "{\"max_seq_length\":9}");
    struct lr_embed_model *m;
    assert_int_equal(lr_embed_open(&m, k.folder, NULL, NULL), 0);
    assert_int_equal(lr_embed_info(m)->tokens_max, 9);
    lr_embed_close(m);
    kit_file(&k, "sentence_bert_config.json", "{\"do_lower_case\":true}");
    kit_file(&k, "tokenizer_config.json", "{\"do_lower_case\":false}");
    refused(k.folder, LR_EUNSUPPORTED, "lower case");
    kit_file(&k, "config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"relu\"}");
    refused(k.folder, LR_EUNSUPPORTED, "hidden_act");
    kit_file(&k, "config.json", "{}");
    refused(k.folder, LR_EPARSE, "num_hidden_layers");
    kit_file(&k, "config.json", "{\"a\":");
    refused(k.folder, LR_EPARSE, "");
    kit_free(&k);
}

static void a_pair_verifier_is_no_encoder(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 1};
    kit_make(&k, 2);
    kit_write(&k);
    refused(k.path, LR_EUNSUPPORTED, "pair verifier");
    kit_free(&k);
}

/* ---- faults ---- */

static int scenario(const struct kit *k)
{
    struct lr_embed_model *m;
    struct lr_embed_scratch *s;
    struct lr_str texts[KIT_TEXTS];
    static float v[KIT_TEXTS * KIT_D];
    struct lr_err err = {0};
    char to[160];
    snprintf(to, sizeof to, "%s/out.gguf", k->dir);
    kit_str(texts);
    int rc = lr_embed_convert(k->folder, to, NULL, &err);
    if (rc) {
        assert_true(err.code == rc && err.msg[0]);
        return rc;
    }
    rc = lr_embed_open(&m, to, NULL, &err);
    if (rc) {
        assert_true(err.code == rc && err.msg[0]);
        return rc;
    }
    rc = lr_embed_scratch_open(m, &s);
    if (!rc) {
        rc = lr_embed_encode(m, s, texts, KIT_TEXTS, v, NULL, &err);
        lr_embed_scratch_close(s);
    }
    lr_embed_close(m);
    return rc;
}

static void every_failing_call_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_make(&k, 4);
    kit_folder(&k, "", "{\"pooling_mode_mean_tokens\":true}");
    for (uint64_t n = 1; n < 5000; n++) {
        lr_fault_arm(n);
        int rc = scenario(&k);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (!hit) {
            assert_int_equal(rc, 0);
            kit_free(&k);
            return;
        }
    }
    fail_msg("the scenario does not end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_is_the_weighted_mean),
        cmocka_unit_test(static_with_a_head_is_turned),
        cmocka_unit_test(static_in_int8_is_close),
        cmocka_unit_test(transformer_is_the_twin),
        cmocka_unit_test(transformer_pools_cls),
        cmocka_unit_test(transformer_with_a_head_is_turned),
        cmocka_unit_test(transformer_in_int8_is_close),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(threads_share_a_model),
        cmocka_unit_test(longer_texts_are_cut_and_flagged),
        cmocka_unit_test(the_id_is_of_what_changes_a_vector),
        cmocka_unit_test(a_folder_and_its_file_are_one),
        cmocka_unit_test(a_head_can_be_put_in),
        cmocka_unit_test(files_that_lack_or_contradict_are_refused),
        cmocka_unit_test(a_tensor_too_many_is_refused),
        cmocka_unit_test(folders_that_ask_for_more_are_refused),
        cmocka_unit_test(a_pair_verifier_is_no_encoder),
        cmocka_unit_test(every_failing_call_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
