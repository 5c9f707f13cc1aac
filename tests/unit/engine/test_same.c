/* SPDX-License-Identifier: Apache-2.0
 * What must be the same bit for bit: batched and alone, chunked and whole, forked and replayed, saved
 * and gone on, one thread and several, watched and not.
 */
#include "engine_kit.h"

#define LONG 1400u /* more than a span */
#define VOCAB 61u

struct bench {
    struct lr_engine_model *m;
    struct lr_engine *e;
    uint32_t tokens[LONG];
    float want[VOCAB], got[VOCAB];
};

static struct bench *open_bench(unsigned threads, const char *codec, uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    const struct spec s = {.arch = seed % 2 ? "qwen3" : "llama", .n_head = 6, .n_embd = 96,
                           .n_kv = 3, .d_head = 32, .type = seed % 3 ? LR_NN_F32 : LR_NN_Q8_0};
    b->m = kit_model(s, seed);
    b->e = kit_engine(b->m, threads, codec);
    kit_tokens(b->tokens, LONG, VOCAB, seed + 1);
    return b;
}

static void close_bench(struct bench *b)
{
    lr_engine_close(b->e);
    lr_engine_model_close(b->m);
    free(b);
}

static void require_same(const struct bench *b, const char *what)
{
    if (memcmp(b->want, b->got, sizeof b->want) != 0)
        fail_msg("%s: %a is not %a", what, (double)b->got[0], (double)b->want[0]);
}

static void feed(struct lr_engine_seq *s, const uint32_t *tokens, size_t n, float *logits)
{
    OK(lr_engine_feed(s, tokens, n, logits, NULL, &kit_err));
}

static void test_chunked_equals_whole(void **state)
{
    (void)state;
    static const char *const codecs[] = {"f16", "f32", "q8_0", "i4r"};
    for (uint64_t seed = 0; seed < LR_COUNT(codecs); seed++) {
        struct bench *b = open_bench(2, codecs[seed], seed);
        struct lr_engine_seq *whole = kit_seq(b->e), *pieces = kit_seq(b->e), *ones = kit_seq(b->e);
        struct lr_rng r;
        lr_rng_seed(&r, seed);
        feed(whole, b->tokens, LONG, b->want);
        for (size_t at = 0, n; at < LONG; at += n) {
            n = 1 + lr_rng_below(&r, 400);
            n = n < LONG - at ? n : LONG - at;
            feed(pieces, b->tokens + at, n, b->got);
        }
        require_same(b, "pieces");
        feed(ones, b->tokens, 1250, NULL);
        for (size_t i = 1250; i < LONG; i++)
            feed(ones, b->tokens + i, 1, b->got);
        require_same(b, "one by one");
        lr_engine_seq_close(whole);
        lr_engine_seq_close(pieces);
        lr_engine_seq_close(ones);
        close_bench(b);
    }
}

static void test_threads_change_no_bit(void **state)
{
    (void)state;
    struct bench *b = NULL;
    float want[VOCAB];
    for (unsigned threads = 1; threads <= 5; threads++) {
        b = open_bench(threads, "f16", 3);
        struct lr_engine_seq *s = kit_seq(b->e);
        feed(s, b->tokens, LONG - 1, NULL);
        feed(s, b->tokens + LONG - 1, 1, b->got);
        memcpy(b->want, threads == 1 ? b->got : want, sizeof want);
        require_same(b, "threads");
        memcpy(want, b->want, sizeof want);
        lr_engine_seq_close(s);
        close_bench(b);
    }
}

/* Several sequences of odd lengths in steps of odd sizes; each ends as it would have alone. */
static void test_batched_equals_alone(void **state)
{
    (void)state;
    enum { SEQS = 5 };
    struct bench *b = open_bench(2, "f16", 5);
    struct lr_engine_seq *s[SEQS];
    static const size_t length[SEQS] = {300, 1, 40, 1100, 7};
    size_t done[SEQS] = {0}, left = SEQS;
    float last[SEQS][VOCAB];
    struct lr_rng r;
    lr_rng_seed(&r, 11);
    for (size_t i = 0; i < SEQS; i++)
        s[i] = kit_seq(b->e);
    while (left) {
        struct lr_engine_work w[SEQS] = {0};
        uint32_t n_work = 0, room = LR_ENGINE_BATCH;
        for (size_t i = 0; i < SEQS; i++) {
            size_t n = length[i] - done[i], most = 1 + lr_rng_below(&r, 120);
            n = n < most ? n : most;
            if (!n || n > room)
                continue;
            w[n_work++] = (struct lr_engine_work){.seq = s[i], .tokens = b->tokens + i * 7 + done[i],
                                                  .n = (uint32_t)n, .n_logits = 1,
                                                  .logits = last[i]};
            room -= (uint32_t)n;
            done[i] += n;
            left -= done[i] == length[i];
        }
        OK(lr_engine_step(b->e, w, n_work, &kit_err));
    }
    for (size_t i = 0; i < SEQS; i++) {
        struct lr_engine_seq *alone = kit_seq(b->e);
        feed(alone, b->tokens + i * 7, length[i], b->want);
        memcpy(b->got, last[i], sizeof b->got);
        require_same(b, "batched");
        lr_engine_seq_close(alone);
        lr_engine_seq_close(s[i]);
    }
    close_bench(b);
}

static void test_logits_of_many_tokens_are_those_of_each(void **state)
{
    (void)state;
    struct bench *b = open_bench(2, "f16", 9);
    struct lr_engine_seq *s = kit_seq(b->e), *one = kit_seq(b->e);
    float *all = calloc(200 * VOCAB, sizeof *all), *hidden = calloc(200 * 96, sizeof *hidden);
    struct lr_engine_work w = {.seq = s, .tokens = b->tokens, .n = 200, .n_logits = 150,
                               .logits = all, .hidden = hidden};
    OK(lr_engine_step(b->e, &w, 1, &kit_err));
    for (size_t i = 0; i < 200; i++) {
        feed(one, b->tokens + i, 1, b->want);
        if (i >= 50) {
            memcpy(b->got, all + (i - 50) * VOCAB, sizeof b->got);
            require_same(b, "logits");
        }
    }
    free(all);
    free(hidden);
    lr_engine_seq_close(s);
    lr_engine_seq_close(one);
    close_bench(b);
}

static void test_forked_equals_replayed(void **state)
{
    (void)state;
    struct bench *b = open_bench(2, "f16", 6);
    for (size_t at = 1; at < 90; at += 29) {
        struct lr_engine_seq *s = kit_seq(b->e), *twin, *replay = kit_seq(b->e);
        feed(s, b->tokens, at, NULL);
        OK(lr_engine_seq_fork(&twin, s, 0, &kit_err));
        feed(s, b->tokens + 500, 70, NULL); /* goes another way first */
        feed(twin, b->tokens + at, 200, b->got);
        feed(replay, b->tokens, at + 200, b->want);
        require_same(b, "fork");
        lr_engine_seq_close(twin);
        feed(s, b->tokens + 700, 1, b->got);
        lr_engine_seq_close(replay);
        replay = kit_seq(b->e);
        feed(replay, b->tokens, at, NULL);
        feed(replay, b->tokens + 500, 70, NULL);
        feed(replay, b->tokens + 700, 1, b->want);
        require_same(b, "what was forked from");
        OK(lr_engine_seq_truncate(s, (uint32_t)at));
        feed(s, b->tokens + at, 200, b->got);
        lr_engine_seq_close(replay);
        replay = kit_seq(b->e);
        feed(replay, b->tokens, at + 200, b->want);
        require_same(b, "truncated and fed again");
        lr_engine_seq_close(replay);
        lr_engine_seq_close(s);
    }
    struct lr_engine_memory mem;
    lr_engine_memory(b->e, &mem);
    assert_int_equal(mem.bytes_used, 0);
    assert_int_equal(mem.bytes_promised, 0);
    close_bench(b);
}

static void test_loaded_continues_as_saved(void **state)
{
    (void)state;
    static const char *const codecs[] = {"f16", "i4r"};
    for (size_t c = 0; c < LR_COUNT(codecs); c++) {
        struct bench *b = open_bench(2, codecs[c], 8 + c);
        struct lr_engine_seq *s = kit_seq(b->e), *twin = kit_seq(b->e);
        static const uint32_t keep[] = {0, 3, 4, 50, 51, 99};
        size_t n;
        feed(s, b->tokens, 100, NULL);
        OK(lr_engine_rows_keep(s, 1, 2, keep, LR_COUNT(keep)));
        OK(lr_engine_rows_write(s, 0, 0, 7, NULL, NULL, 0.5f));
        OK(lr_engine_seq_save(s, NULL, &n));
        char *p = calloc(n, 1);
        OK(lr_engine_seq_save(s, p, &n));
        OK(lr_engine_seq_load(twin, p, n));
        assert_int_equal(lr_engine_seq_len(twin), 100);
        assert_int_equal(lr_engine_rows(twin, 1, 2), LR_COUNT(keep));
        feed(s, b->tokens + 100, 33, b->want);
        feed(twin, b->tokens + 100, 33, b->got);
        require_same(b, "loaded");
        assert_int_equal(lr_engine_seq_load(twin, p, n), LR_EINVAL);
        free(p);
        lr_engine_seq_close(s);
        lr_engine_seq_close(twin);
        close_bench(b);
    }
}

struct watched {
    struct bench *b;
    unsigned layers;
    size_t rows;
};

/* Weights of each query sum to 1, columns are the sums over queries, the window is the last ones. */
static int look(void *ctx, const struct lr_engine_view *v)
{
    struct watched *w = ctx;
    uint32_t group = 2;
    assert_int_equal(v->layer, w->layers++ % 2);
    assert_true(v->x && v->q && v->qpre && v->kpre && v->lse && v->awin && v->acol);
    for (uint32_t h = 0; h < 6; h++) {
        size_t rows = lr_engine_rows(v->seq, v->layer, h / group);
        double columns = 0;
        for (uint32_t t = 0; t < v->n_win; t++) {
            double sum = 0;
            for (size_t r = 0; r < rows; r++)
                sum += (double)v->awin[h][t * rows + r];
            assert_true(fabs(sum - 1) < 1e-5);
            size_t hidden = rows - 1 - (v->n_win - 1 - t);
            for (size_t r = hidden + 1; r < rows; r++)
                assert_true(v->awin[h][t * rows + r] <= 0);
        }
        for (size_t r = 0; r < rows; r++)
            columns += (double)v->acol[h][r];
        assert_true(fabs(columns - v->n_tok) < 1e-3 * v->n_tok);
        w->rows = rows;
    }
    return 0;
}

static void test_taps_show_attention_and_change_no_bit(void **state)
{
    (void)state;
    struct bench *b = open_bench(2, "f16", 12);
    struct lr_engine_seq *s = kit_seq(b->e), *plain = kit_seq(b->e);
    struct watched watched = {.b = b};
    struct lr_engine_tap tap = {.kinds = 127, .window = 16, .seen = look, .ctx = &watched};
    for (size_t at = 0; at < 400; at += 100) {
        struct lr_engine_work w[2] = {
            {.seq = plain, .tokens = b->tokens + at, .n = 100, .n_logits = 1, .logits = b->want},
            {.seq = s, .tokens = b->tokens + at, .n = 100, .n_logits = 1, .logits = b->got,
             .tap = &tap},
        };
        OK(lr_engine_step(b->e, w, 2, &kit_err));
        require_same(b, "tapped");
    }
    assert_int_equal(watched.layers, 8);
    assert_int_equal(watched.rows, 400);
    assert_true(tap.bytes > 0 && tap.ns > 0);
    lr_engine_seq_close(s);
    lr_engine_seq_close(plain);
    close_bench(b);
}

static int refuse(void *ctx, const struct lr_engine_view *v)
{
    (void)ctx;
    return v->layer == 1 ? LR_EBUSY : 0;
}

static void test_a_failing_tap_takes_its_rows_back(void **state)
{
    (void)state;
    struct bench *b = open_bench(2, "f16", 13);
    struct lr_engine_seq *s = kit_seq(b->e), *plain = kit_seq(b->e);
    struct lr_engine_tap tap = {.seen = refuse};
    struct lr_engine_work w = {.seq = s, .tokens = b->tokens + 10, .n = 20, .tap = &tap};
    feed(s, b->tokens, 10, NULL);
    assert_int_equal(lr_engine_step(b->e, &w, 1, NULL), LR_EBUSY);
    assert_int_equal(lr_engine_seq_len(s), 10);
    feed(s, b->tokens + 10, 50, b->got);
    feed(plain, b->tokens, 60, b->want);
    require_same(b, "after the failure");
    lr_engine_seq_close(s);
    lr_engine_seq_close(plain);
    close_bench(b);
}

static void test_embeddings_are_pooled_hidden_states(void **state)
{
    (void)state;
    struct bench *b = open_bench(2, "f16", 14);
    struct lr_engine_seq *s = kit_seq(b->e);
    float hidden[30 * 96], last[96], mean[96];
    struct lr_engine_work w = {.seq = s, .tokens = b->tokens, .n = 30, .hidden = hidden};
    OK(lr_engine_step(b->e, &w, 1, &kit_err));
    OK(lr_engine_embed(b->e, b->tokens, 30, LR_ENGINE_POOL_LAST, last, &kit_err));
    OK(lr_engine_embed(b->e, b->tokens, 30, LR_ENGINE_POOL_MEAN, mean, &kit_err));
    double want[2][96] = {{0}}, length[2] = {0};
    for (size_t i = 0; i < 96; i++) {
        want[0][i] = (double)hidden[29 * 96 + i];
        for (size_t t = 0; t < 30; t++)
            want[1][i] += (double)hidden[t * 96 + i];
        length[0] += want[0][i] * want[0][i];
        length[1] += want[1][i] * want[1][i];
    }
    for (size_t i = 0; i < 96; i++) {
        assert_true(fabs((double)last[i] - want[0][i] / sqrt(length[0])) < 1e-5);
        assert_true(fabs((double)mean[i] - want[1][i] / sqrt(length[1])) < 1e-5);
    }
    lr_engine_seq_close(s);
    close_bench(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunked_equals_whole),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_batched_equals_alone),
        cmocka_unit_test(test_logits_of_many_tokens_are_those_of_each),
        cmocka_unit_test(test_forked_equals_replayed),
        cmocka_unit_test(test_loaded_continues_as_saved),
        cmocka_unit_test(test_taps_show_attention_and_change_no_bit),
        cmocka_unit_test(test_a_failing_tap_takes_its_rows_back),
        cmocka_unit_test(test_embeddings_are_pooled_hidden_states),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
