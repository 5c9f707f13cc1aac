/* SPDX-License-Identifier: Apache-2.0
 * eval/bench.c - speed of the engine on one file.
 *
 * A run is a fresh sequence: the prompt (random tokens of a fixed seed) is fed, then tokens one by
 * one, each the best of the last logits. Reported are the medians of the runs, after one that is
 * not counted. The machine should be otherwise idle: on a shared one, interleave with what is
 * compared.
 */
#include "eval/eval_int.h"

uint32_t lr_eval_best(const float *x, uint32_t n)
{
    uint32_t top = 0;
    float most = x[0]; /* a branch that is seldom taken: waiting for x[top] each time took 0.13 ms */
    for (uint32_t i = 1; i < n; i++)
        if (__builtin_expect(x[i] > most, 0)) {
            most = x[i];
            top = i;
        }
    return top;
}

int lr_eval_open_model(struct lr_engine_model **out, const char *path, struct lr_err *err)
{
    struct lr_err own = {0};
    int rc = lr_engine_model_open(out, path, &own);
    return rc ? lr_err_set(err, rc, path, "%s (%s)", own.msg, own.where) : 0;
}

/* One run; tokens a second of prefill and decode. */
static int run_once(struct lr_engine *e, const struct lr_eval_bench *b, const uint32_t *tokens,
                    float *logits, double speed[2], struct lr_err *err)
{
    struct lr_engine_seq *s;
    uint32_t vocab = lr_engine_model_shape(lr_engine_model(e))->n_vocab;
    LR_TRY(lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){0}, err));
    uint64_t start = lr_clock_mono_ns();
    int rc = lr_engine_feed(s, tokens, b->prompt, logits, NULL, err);
    uint64_t mid = lr_clock_mono_ns();
    for (uint64_t i = 0; !rc && i < b->predict; i++) {
        uint32_t next = lr_eval_best(logits, vocab);
        rc = lr_engine_feed(s, &next, 1, logits, NULL, err);
    }
    uint64_t end = lr_clock_mono_ns();
    speed[0] = (double)b->prompt * 1e9 / (double)(mid - start);
    speed[1] = b->predict ? (double)b->predict * 1e9 / (double)(end - mid) : 0;
    lr_engine_seq_close(s);
    return rc;
}

static int measure(struct lr_engine *e, const struct lr_eval_bench *b, struct lr_eval_speed *out,
                   struct lr_err *err)
{
    double prefill[LR_EVAL_RUNS_MAX], decode[LR_EVAL_RUNS_MAX], speed[2] = {0};
    uint32_t vocab = lr_engine_model_shape(lr_engine_model(e))->n_vocab;
    uint32_t *tokens = lr_calloc(b->prompt, sizeof *tokens);
    float *logits = lr_calloc(vocab, sizeof *logits);
    struct lr_rng rng;
    lr_rng_seed(&rng, 1);
    int rc = tokens && logits ? 0 : lr_err_set(err, LR_ENOMEM, "bench", "out of memory");
    for (uint64_t i = 0; !rc && i < b->prompt; i++)
        tokens[i] = (uint32_t)lr_rng_below(&rng, vocab);
    for (unsigned i = 0; !rc && i <= b->runs; i++) {
        rc = run_once(e, b, tokens, logits, speed, err);
        if (i) {
            prefill[i - 1] = speed[0];
            decode[i - 1] = speed[1];
        }
    }
    if (!rc)
        *out = (struct lr_eval_speed){b->prompt + b->predict, lr_eval_median(prefill, b->runs),
                                      lr_eval_median(decode, b->runs)};
    lr_free(tokens);
    lr_free(logits);
    return rc;
}

int lr_eval_bench(const struct lr_eval_bench *b, struct lr_eval_speed *out, struct lr_err *err)
{
    struct lr_engine_model *m;
    struct lr_engine *e;
    const char *name = b->codec ? b->codec : "f16";
    const struct lr_engine_codec *codec = lr_engine_codec_find(lr_strz(name));
    if (!codec)
        return lr_err_set(err, LR_EINVAL, "codec", "no codec '%s'", name);
    if (!b->prompt || !b->runs || b->runs > LR_EVAL_RUNS_MAX ||
        b->prompt + b->predict > LR_ENGINE_POS_MAX)
        return lr_err_set(err, LR_EINVAL, "bench", "a prompt of 1 token or more and 1 to %u runs",
                          LR_EVAL_RUNS_MAX);
    LR_TRY(lr_eval_open_model(&m, b->model, err));
    const struct lr_engine_opts o = {.threads = b->threads, .kv_max = LR_GIB(4), .codec = codec};
    int rc = lr_engine_open(&e, m, &o, err);
    if (!rc) {
        rc = measure(e, b, out, err);
        lr_engine_close(e);
    }
    lr_engine_model_close(m);
    return rc;
}
