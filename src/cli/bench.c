/* SPDX-License-Identifier: Apache-2.0
 * cli/bench.c - larder bench engine: how fast a model runs here.
 */
#include "cli/flags.h"
#include "eval/eval.h"

#include <stdio.h>

static void print_json(const struct lr_eval_bench *b, const struct lr_eval_speed *s)
{
    struct lr_buf out;
    struct lr_jw w;
    lr_buf_init(&out, LR_KIB(64));
    lr_jw_init(&w, &out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "model");
    lr_jw_strz(&w, b->model);
    lr_jw_key(&w, "threads");
    lr_jw_u64(&w, b->threads);
    lr_jw_key(&w, "context");
    lr_jw_u64(&w, s->context);
    lr_jw_key(&w, "prefill_tps");
    lr_jw_real(&w, (double)(uint64_t)(s->prefill_tps * 10 + 0.5) / 10);
    lr_jw_key(&w, "decode_tps");
    lr_jw_real(&w, (double)(uint64_t)(s->decode_tps * 10 + 0.5) / 10);
    lr_jw_end(&w);
    if (out.rc == 0)
        printf("%.*s\n", (int)out.len, out.p);
    lr_buf_free(&out);
}

static int bench_engine(struct lr_cli *cli)
{
    struct lr_eval_bench b = {.codec = "f16"};
    uint64_t threads = 2, runs = 3;
    bool json = false;
    b.prompt = 512;
    b.predict = 64;
    const struct lr_flag flags[] = {
        {"--model", "F", LR_FLAG_TEXT, &b.model, 0, 0, "a GGUF file"},
        {"--prompt", "N", LR_FLAG_COUNT, &b.prompt, 1, 1 << 24, "tokens of the prompt"},
        {"--predict", "N", LR_FLAG_COUNT, &b.predict, 0, 1 << 24, "tokens made after it"},
        {"--threads", "N", LR_FLAG_COUNT, &threads, 1, LR_ENGINE_THREADS_MAX, "compute threads"},
        {"--runs", "N", LR_FLAG_COUNT, &runs, 1, LR_EVAL_RUNS_MAX,
         "medians of so many, after one more"},
        {"--codec", "C", LR_FLAG_TEXT, &b.codec, 0, 0, "of KV rows: f16 f32 q8_0 i4r"},
        {"--json", NULL, LR_FLAG_ON, &json, 0, 0, "one JSON line"},
    };
    const struct lr_manual u = {
        "bench engine --model F [options]",
        "Prefill and decode speed of a model on this machine, tokens a second.", flags,
        LR_COUNT(flags)};
    int rc = lr_cli_flags(cli, &u);
    if (rc)
        return rc == LR_CLI_HELPED ? 0 : 2;
    if (!b.model)
        return lr_cli_missing(cli, "--model");
    struct lr_err err = {0};
    struct lr_eval_speed s;
    b.threads = (unsigned)threads;
    b.runs = (unsigned)runs;
    if (lr_eval_bench(&b, &s, &err))
        return lr_cli_fail("bench", &err);
    if (json)
        print_json(&b, &s);
    else
        printf("%s, %u threads: prefill %.1f tokens/s, decode %.1f tokens/s at %llu rows\n",
               b.model, b.threads, s.prefill_tps, s.decode_tps, (unsigned long long)s.context);
    return 0;
}

int lr_cmd_bench(struct lr_cli *cli)
{
    static const char *const words[] = {"engine"};
    return lr_cli_word(cli, words, LR_COUNT(words)) ? bench_engine(cli) : 2;
}
