/* SPDX-License-Identifier: Apache-2.0
 * cli/model.c - larder model random: files of real shapes with random weights, for speed, memory
 * and exactness where no real file is at hand.
 */
#include "cli/flags.h"
#include "engine/engine.h"

#include <stdio.h>

static int make_random(struct lr_cli *cli)
{
    const char *like = NULL, *type = "Q8_0", *out = NULL, *vocab = NULL;
    uint64_t seed = 1;
    const struct lr_flag flags[] = {
        {"--like", "SHAPE", LR_FLAG_TEXT, &like, 0, 0, "nano, smollm-135m, llama-1b or llama-7b"},
        {"--type", "T", LR_FLAG_TEXT, &type, 0, 0,
         "of the matrices: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K"},
        {"--out", "F", LR_FLAG_TEXT, &out, 0, 0, "the GGUF file to write"},
        {"--vocab", "GGUF", LR_FLAG_TEXT, &vocab, 0, 0, "copy the tokeniser of this file"},
        {"--seed", "N", LR_FLAG_COUNT, &seed, 0, 0, "of the weights"},
    };
    const struct lr_manual u = {
        "model random --like SHAPE --out F [options]",
        "Writes a model of a real shape whose weights are random numbers: it runs at the\n"
        "speed of the real one and says nothing sensible.",
        flags, LR_COUNT(flags)};
    int rc = lr_cli_flags(cli, &u);
    if (rc)
        return rc == LR_CLI_HELPED ? 0 : 2;
    if (!like || !out)
        return lr_cli_missing(cli, like ? "--out" : "--like");
    struct lr_err err = {0};
    struct lr_engine_random r = {
        .like = lr_strz(like), .vocab = lr_strz(vocab), .seed = seed, .path = out};
    if (lr_nn_type_find(lr_strz(type), &r.type))
        lr_err_set(&err, LR_EINVAL, "--type", "no type '%s'", type);
    else
        lr_engine_random(&r, &err);
    return err.code ? lr_cli_fail("model", &err) : 0;
}

int lr_cmd_model(struct lr_cli *cli)
{
    static const char *const words[] = {"random"};
    return lr_cli_word(cli, words, LR_COUNT(words)) ? make_random(cli) : 2;
}
