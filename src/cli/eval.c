/* SPDX-License-Identifier: Apache-2.0
 * cli/eval.c - larder eval kv: what KV policies save and cost on a model (docs/eval.md).
 */
#include "cli/flags.h"
#include "eval/eval.h"
#include "serve/serve.h"

#include <stdio.h>

static void tell(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

static int eval_kv(struct lr_cli *cli)
{
    struct lr_eval_kv k = {.tell = tell};
    uint64_t context = 0, samples = 0, threads = 0;
    const char *plugin = NULL;
    k.seed = 1;
    const struct lr_flag flags[] = {
        {"--model", "F", LR_FLAG_TEXT, &k.model, 0, 0,
         "a GGUF file (the one in the program: larder-mini)"},
        {"--policies", "LIST", LR_FLAG_TEXT, &k.policies, 0, 0,
         "stacks, as \"snapkv:window=16+q8,h2o\"; full is always there"},
        {"--plugin", "F", LR_FLAG_TEXT, &plugin, 0, 0,
         "policies of one's own, ./mine.so (docs/policies.md)"},
        {"--budgets", "LIST", LR_FLAG_TEXT, &k.budgets, 0, 0,
         "of rows \"25%\", \"128\", or bytes \"2M\" (50%,25%,12.5%,6.25%)"},
        {"--tasks", "LIST", LR_FLAG_TEXT, &k.tasks, 0, 0,
         "single multi-key multi-query variable copy turns needle perplexity sliding system, or F.jsonl"},
        {"--modes", "LIST", LR_FLAG_TEXT, &k.modes, 0, 0,
         "agnostic,aware: does the policy see the question"},
        {"--context", "N", LR_FLAG_COUNT, &context, LR_EVAL_TOKENS_MIN, LR_EVAL_TOKENS_MAX,
         "tokens of a sample (1024, or what the model has)"},
        {"--samples", "N", LR_FLAG_COUNT, &samples, 1, 100000, "of each task (24)"},
        {"--seed", "N", LR_FLAG_COUNT, &k.seed, 0, 0, "of samples and policies"},
        {"--text", "F", LR_FLAG_TEXT, &k.text, 0, 0,
         "for needle and perplexity (a text in the program)"},
        {"--out", "DIR", LR_FLAG_TEXT, &k.out, 0, 0,
         "results.jsonl, report.txt, report.html; run again to continue"},
        {"--threads", "N", LR_FLAG_COUNT, &threads, 1, LR_ENGINE_THREADS_MAX,
         "compute threads (1 for small models, else 2)"},
        {"--hold", NULL, LR_FLAG_ON, &k.hold, 0, 0,
         "hold budgets while reading questions and answering, as when served"},
    };
    const struct lr_manual u = {"eval kv [--model F] [options]",
                                "Prefills each sample once, forks it for every policy and budget, "
                                "and says what was kept, what that\n"
                                "cost, and whether the numbers can be believed (controls). "
                                "docs/eval.md says how to read it.",
                                flags, LR_COUNT(flags)};
    int rc = lr_cli_flags(cli, &u);
    if (rc)
        return rc == LR_CLI_HELPED ? 0 : 2;
    if (!k.model) {
        k.model = "larder-mini.gguf";
        k.bytes = lr_builtin_model();
        if (!k.bytes.n)
            return lr_cli_missing(cli, "--model");
    }
    k.context = (uint32_t)context;
    k.samples = (uint32_t)samples;
    k.threads = (unsigned)threads;
    struct lr_err err = {0};
    if (plugin && lr_engine_plugin_load(plugin, &err))
        return lr_cli_fail("plug-in", &err);
    struct lr_buf report;
    unsigned failed = 0;
    lr_buf_init(&report, LR_MIB(16));
    rc = lr_eval_kv(&k, &report, &failed, &err);
    if (rc)
        lr_cli_fail("eval", &err);
    else
        printf("%.*s", (int)report.len, report.p);
    if (!rc && k.out)
        fprintf(stderr, "%s/report.html\n", k.out);
    lr_buf_free(&report);
    return rc ? 1 : failed ? 3 : 0;
}

static int eval_pairs(struct lr_cli *cli)
{
    struct lr_eval_pairs p = {.model = "shipped", .seed = 1, .tell = tell};
    uint64_t dims = 0;
    const struct lr_flag flags[] = {
        {"--val", "CSV", LR_FLAG_TEXT, &p.val, 0, 0, "pairs that fix weights and thresholds"},
        {"--test", "CSV", LR_FLAG_TEXT, &p.test, 0, 0, "pairs that are judged"},
        {"--train", "CSV", LR_FLAG_TEXT, &p.train, 0, 0,
         "what the models learned from: the disjoint lines leave its questions out too"},
        {"--model", "M", LR_FLAG_TEXT, &p.model, 0, 0,
         "shipped, a GGUF file, or a directory that train pairs wrote (shipped)"},
        {"--dims", "N", LR_FLAG_COUNT, &dims, 1, 1024,
         "also with vectors cut to N main directions: storage saved, F1 lost"},
        {"--seed", "N", LR_FLAG_COUNT, &p.seed, 0, 0, "of the resamples"},
    };
    const struct lr_manual u = {
        "eval pairs --val CSV --test CSV [options]",
        "How well the models of the semantic shelf tell the same question from another one:\n"
        "JSON lines a stage, at 50 % and 10 % duplicates. docs/semantic.md says how to read them.",
        flags, LR_COUNT(flags)};
    struct lr_err err = {0};
    struct lr_buf out;
    int rc = lr_cli_flags(cli, &u);
    if (rc)
        return rc == LR_CLI_HELPED ? 0 : 2;
    if (!p.val || !p.test)
        return lr_cli_missing(cli, p.val ? "--test" : "--val");
    p.dims = (uint32_t)dims;
    lr_buf_init(&out, LR_MIB(1));
    rc = lr_eval_pairs(&p, &out, &err);
    printf("%.*s", (int)out.len, out.p ? out.p : "");
    lr_buf_free(&out);
    return rc ? lr_cli_fail("eval", &err) : 0;
}

int lr_cmd_eval(struct lr_cli *cli)
{
    static const char *const words[] = {"kv", "pairs"};
    const char *word = lr_cli_word(cli, words, LR_COUNT(words));
    if (!word)
        return 2;
    return strcmp(word, "pairs") == 0 ? eval_pairs(cli) : eval_kv(cli);
}
