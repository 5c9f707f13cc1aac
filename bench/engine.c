/* SPDX-License-Identifier: Apache-2.0
 * bench/engine.c - speed of the engine on one file; one JSON line.
 *
 *   bench_engine --model F [--prompt 512] [--predict 64] [--threads 2] [--runs 3] [--codec f16] [--json]
 *   bench_engine --random SHAPE --type T --out F      writes a model to measure
 *
 * A run is a fresh sequence: the prompt is fed (prefill_tps: tokens over the time until its last
 * logits), then tokens one by one, each the best of the last logits (decode_tps). Reported are the
 * medians of the runs, after one that is not counted; context is the rows at the end. The machine should
 * be otherwise idle: on a shared one, interleave with what is compared and take medians, or, with one
 * thread, look at decode_cpu_ms: processor time of a decoded token, all threads together.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define RUNS_MAX 99

struct conf {
    const char *model, *random, *type, *out, *codec;
    uint64_t prompt, predict, threads, runs;
};

static int usage(void)
{
    fprintf(stderr, "usage: bench_engine --model F [--prompt N] [--predict N] [--threads N] [--runs N] "
                    "[--codec C] [--json]\n       bench_engine --random SHAPE --type T --out F\n");
    return 2;
}

static bool parse(struct conf *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        struct {
            const char *name;
            const char **text;
            uint64_t *number;
        } all[] = {{"--model", &c->model, NULL},     {"--random", &c->random, NULL},
                   {"--type", &c->type, NULL},       {"--out", &c->out, NULL},
                   {"--codec", &c->codec, NULL},     {"--prompt", NULL, &c->prompt},
                   {"--predict", NULL, &c->predict}, {"--threads", NULL, &c->threads},
                   {"--runs", NULL, &c->runs}};
        if (strcmp(a, "--json") == 0)
            continue; /* the only output there is */
        size_t k = 0;
        while (k < LR_COUNT(all) && strcmp(a, all[k].name) != 0)
            k++;
        if (k == LR_COUNT(all) || !v)
            return false;
        if (all[k].text)
            *all[k].text = v;
        else if (lr_parse_u64(lr_strz(v), all[k].number))
            return false;
        i++;
    }
    return c->runs > 0 && c->runs <= RUNS_MAX && c->prompt > 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return x[n / 2];
}

static uint32_t best(const float *x, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++)
        top = x[i] > x[top] ? i : top;
    return top;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* One run; speeds in tokens a second, and processor milliseconds of a decoded token. */
static int run_once(struct lr_engine *e, const struct conf *c, const uint32_t *tokens, float *logits,
                    double speed[3], struct lr_err *err)
{
    struct lr_engine_seq *s;
    uint32_t vocab = lr_engine_model_shape(lr_engine_model(e))->n_vocab;
    LR_TRY(lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){0}, err));
    uint64_t start = lr_clock_mono_ns();
    int rc = lr_engine_feed(s, tokens, c->prompt, logits, NULL, err);
    uint64_t mid = lr_clock_mono_ns();
    double cpu = cpu_seconds();
    for (uint64_t i = 0; !rc && i < c->predict; i++) {
        uint32_t next = best(logits, vocab);
        rc = lr_engine_feed(s, &next, 1, logits, NULL, err);
    }
    uint64_t end = lr_clock_mono_ns();
    speed[0] = (double)c->prompt * 1e9 / (double)(mid - start);
    speed[1] = c->predict ? (double)c->predict * 1e9 / (double)(end - mid) : 0;
    speed[2] = c->predict ? (cpu_seconds() - cpu) * 1e3 / (double)c->predict : 0;
    lr_engine_seq_close(s);
    return rc;
}

static int measure(struct lr_engine *e, const struct conf *c, struct lr_err *err)
{
    double prefill[RUNS_MAX], decode[RUNS_MAX], cpu[RUNS_MAX], speed[3] = {0};
    uint32_t vocab = lr_engine_model_shape(lr_engine_model(e))->n_vocab;
    uint32_t *tokens = lr_calloc(c->prompt, sizeof *tokens);
    float *logits = lr_calloc(vocab, sizeof *logits);
    struct lr_rng rng;
    lr_rng_seed(&rng, 1);
    int rc = tokens && logits ? 0 : lr_err_set(err, LR_ENOMEM, "bench", "out of memory");
    for (uint64_t i = 0; !rc && i < c->prompt; i++)
        tokens[i] = (uint32_t)lr_rng_below(&rng, vocab);
    for (uint64_t i = 0; !rc && i <= c->runs; i++) {
        rc = run_once(e, c, tokens, logits, speed, err);
        if (i) {
            prefill[i - 1] = speed[0];
            decode[i - 1] = speed[1];
            cpu[i - 1] = speed[2];
        }
    }
    if (!rc)
        printf("{\"model\":\"%s\",\"threads\":%llu,\"context\":%llu,\"prefill_tps\":%.1f,"
               "\"decode_tps\":%.1f,\"decode_cpu_ms\":%.2f}\n",
               c->model, (unsigned long long)c->threads,
               (unsigned long long)(c->prompt + c->predict), median(prefill, c->runs),
               median(decode, c->runs), median(cpu, c->runs));
    lr_free(tokens);
    lr_free(logits);
    return rc;
}

static int bench(const struct conf *c, struct lr_err *err)
{
    struct lr_engine_model *m;
    struct lr_engine *e;
    const struct lr_engine_codec *codec = lr_engine_codec_find(lr_strz(c->codec));
    if (!codec)
        return lr_err_set(err, LR_EINVAL, "codec", "no codec %s", c->codec);
    LR_TRY(lr_engine_model_open(&m, c->model, err));
    const struct lr_engine_opts o = {.threads = (unsigned)c->threads, .kv_max = LR_GIB(4),
                                     .codec = codec};
    int rc = lr_engine_open(&e, m, &o, err);
    if (!rc) {
        rc = measure(e, c, err);
        lr_engine_close(e);
    }
    lr_engine_model_close(m);
    return rc;
}

static int make_model(const struct conf *c, struct lr_err *err)
{
    struct lr_engine_random r = {.like = lr_strz(c->random), .seed = 1, .path = c->out};
    if (!c->type || !c->out || lr_nn_type_find(lr_strz(c->type), &r.type))
        return lr_err_set(err, LR_EINVAL, "type", "--random needs --type and --out");
    return lr_engine_random(&r, err);
}

int main(int argc, char **argv)
{
    struct conf c = {.prompt = 512, .predict = 64, .threads = 2, .runs = 3, .codec = "f16"};
    struct lr_err err = {0};
    if (!parse(&c, argc, argv) || (!c.model && !c.random))
        return usage();
    int rc = c.random ? make_model(&c, &err) : bench(&c, &err);
    if (rc)
        fprintf(stderr, "bench_engine: %s (%s)\n", err.msg, err.where);
    return rc != 0;
}
