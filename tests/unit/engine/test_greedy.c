/* SPDX-License-Identifier: Apache-2.0
 * Real models say what llama.cpp said: greedy, token by token, until its two best logits are too close
 * to call. Needs the files: LR_TEST_DATA names their directory; without it this is skipped, loudly.
 */
#include "engine/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>

#define CLOSE 1e-3f

static const char *dir;

struct text_model {
    struct lr_engine_model *m;
    struct lr_nn_tok *tok;
    struct lr_engine *e;
    float *logits;
};

static void open_model(struct text_model *t, const char *name)
{
    char path[512];
    struct lr_err err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (lr_engine_model_open(&t->m, path, &err))
        fail_msg("%s: %s (%s)", path, err.msg, err.where);
    assert_int_equal(lr_nn_tok_open(&t->tok, lr_engine_model_file(t->m), &err), 0);
    const struct lr_engine_opts o = {.threads = 2, .kv_max = LR_MIB(8),
                                     .codec = lr_engine_codec_find(LR_STR("f32"))};
    assert_int_equal(lr_engine_open(&t->e, t->m, &o, &err), 0);
    t->logits = lr_calloc(lr_engine_model_shape(t->m)->n_vocab, sizeof(float));
}

static void close_model(struct text_model *t)
{
    lr_free(t->logits);
    lr_engine_close(t->e);
    lr_nn_tok_close(t->tok);
    lr_engine_model_close(t->m);
}

/* The best token; *gap: how far the next one is. */
static uint32_t best(const float *x, uint32_t n, float *gap)
{
    uint32_t top = 0;
    float second = -INFINITY;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[top]) {
            second = x[top];
            top = i;
        } else if (x[i] > second) {
            second = x[i];
        }
    *gap = x[top] - second;
    return top;
}

struct answer {
    struct lr_str prompt, text;
    uint32_t n_predict;
};

/* Text so far is the recorded one's beginning. */
static void check_text(const struct lr_buf *said, struct lr_str want, const char *model)
{
    while (want.n && want.p[0] == ' ')
        want = lr_str(want.p + 1, want.n - 1);
    size_t n = said->len < want.n ? said->len : want.n, i = 0;
    while (i < n && said->p[i] == want.p[i])
        i++;
    if (i < n)
        fail_msg("%s: at byte %zu: \"%.*s\", llama.cpp: \"%.*s\"", model, i, (int)(said->len - i),
                 said->p + i, (int)(want.n - i), want.p + i);
}

static void follow(struct text_model *t, const char *name, const struct answer *a)
{
    struct lr_nn_ids ids;
    struct lr_engine_seq *s;
    struct lr_err err = {0};
    struct lr_buf said;
    struct lr_nn_decoder dec;
    uint32_t vocab = lr_engine_model_shape(t->m)->n_vocab, i = 0;
    lr_buf_init(&said, LR_KIB(64));
    lr_nn_ids_init(&ids, 4096);
    assert_int_equal(lr_nn_tok_encode(t->tok, a->prompt, LR_NN_ADD_SPECIAL, &ids, &err), 0);
    assert_int_equal(lr_engine_seq_open(&s, t->e, &(struct lr_engine_seq_opts){.tokens_max = 512},
                                        &err), 0);
    assert_int_equal(lr_engine_feed(s, ids.id, ids.n, t->logits, NULL, &err), 0);
    lr_nn_decoder_init(&dec, t->tok, true, false);
    for (size_t k = 0; k < ids.n; k++)
        assert_int_equal(lr_nn_decoder_add(&dec, ids.id[k], &said), 0);
    for (; i < a->n_predict; i++) {
        float gap;
        uint32_t next = best(t->logits, vocab, &gap);
        if (gap < CLOSE || lr_nn_tok_ends(t->tok, next))
            break;
        assert_int_equal(lr_nn_decoder_add(&dec, next, &said), 0);
        check_text(&said, a->text, name);
        assert_int_equal(lr_engine_feed(s, &next, 1, t->logits, NULL, &err), 0);
    }
    print_message("%s: %u of %u tokens as recorded\n", name, i, a->n_predict);
    assert_true(i > 20);
    lr_nn_ids_free(&ids);
    lr_buf_free(&said);
    lr_engine_seq_close(s);
}

static struct lr_arena arena;
static struct lr_json *recorded;

static void test_answers_follow_the_recorded_ones(void **state)
{
    const char *name = *state;
    struct text_model t = {0};
    open_model(&t, name);
    unsigned n = 0;
    for (const struct lr_json *v = recorded->child; v; v = v->next) {
        struct answer a;
        struct lr_str model;
        uint64_t predict;
        assert_true(lr_json_text(lr_json_get(v, "model"), &model));
        assert_true(lr_json_text(lr_json_get(v, "prompt"), &a.prompt));
        assert_true(lr_json_text(lr_json_get(v, "text"), &a.text));
        assert_true(lr_json_u64(lr_json_get(v, "n_predict"), &predict));
        a.n_predict = (uint32_t)predict;
        if (!lr_str_is(model, name))
            continue;
        follow(&t, name, &a);
        n++;
    }
    assert_true(n > 0);
    close_model(&t);
}

int main(void)
{
    dir = getenv("LR_TEST_DATA");
    if (!dir) {
        fprintf(stderr, "SKIPPED: real models are not compared with llama.cpp. Set LR_TEST_DATA to "
                        "the directory with stories260K-f32.gguf and greedy_llamacpp_0.7.0.json\n");
        return 77;
    }
    char path[512];
    struct lr_buf b;
    struct lr_err err = {0};
    lr_buf_init(&b, LR_MIB(1));
    lr_arena_init(&arena, LR_MIB(16));
    snprintf(path, sizeof path, "%s/greedy_llamacpp_0.7.0.json", dir);
    if (lr_io_read_file(path, &b) || lr_json_parse(&arena, lr_buf_str(&b), NULL, &recorded, &err)) {
        fprintf(stderr, "%s cannot be read: %s\n", path, err.msg);
        return 1;
    }
    static char stories[] = "stories260K-f32.gguf";
    static char bytes[] = "tinystories-656k-f32-bytefallback.gguf";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_answers_follow_the_recorded_ones, stories),
        cmocka_unit_test_prestate(test_answers_follow_the_recorded_ones, bytes),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    lr_arena_free(&arena);
    lr_buf_free(&b);
    return rc;
}
