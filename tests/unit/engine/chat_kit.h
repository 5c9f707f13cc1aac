/* SPDX-License-Identifier: Apache-2.0
 * unit/engine/chat_kit.h - what the tests of templates, sampler and grammar share: a small vocabulary,
 * requests from JSON, golden files.
 */
#ifndef LR_TESTS_ENGINE_CHAT_KIT_H
#define LR_TESTS_ENGINE_CHAT_KIT_H

#include "engine/engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const kit_controls[] = {
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>",
    "<|end|>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]",
    "<｜User｜>", "<｜Assistant｜>", "<|endoftext|>",
};

/* 256 bytes, the controls above (ids from 256 on; <s> and </s> are bos and eos), a blank, n words. */
static inline struct lr_nn_tok *kit_tok(const struct lr_str *words, size_t n)
{
    static char bytes[256][8];
    size_t total = 256 + LR_COUNT(kit_controls) + 1 + n, at = 0;
    struct lr_str *tokens = lr_calloc(total, sizeof *tokens);
    float *scores = lr_calloc(total, sizeof *scores);
    int32_t *types = lr_calloc(total, sizeof *types);
    struct lr_nn_tok *t = NULL;
    struct lr_err err = {0};
    assert_true(tokens && scores && types);
    for (; at < 256; at++) {
        snprintf(bytes[at], sizeof bytes[at], "<0x%02X>", (unsigned)at);
        tokens[at] = lr_strz(bytes[at]);
        types[at] = LR_NN_TOKEN_BYTE;
    }
    for (size_t i = 0; i < LR_COUNT(kit_controls); i++, at++) {
        tokens[at] = lr_strz(kit_controls[i]);
        types[at] = LR_NN_TOKEN_CONTROL;
    }
    types[at] = LR_NN_TOKEN_NORMAL;
    tokens[at++] = LR_STR("\xE2\x96\x81");
    for (size_t i = 0; i < n; i++, at++) {
        tokens[at] = words[i];
        types[at] = LR_NN_TOKEN_NORMAL;
        scores[at] = -(float)i;
    }
    struct lr_nn_vocab v = {.kind = LR_NN_SPM, .n = total, .tokens = tokens, .scores = scores,
                            .types = types, .add_bos = true,
                            .roles = {.bos = 256, .eos = 257, .eot = LR_NN_NO_TOKEN,
                                      .unk = LR_NN_NO_TOKEN, .sep = LR_NN_NO_TOKEN,
                                      .pad = LR_NN_NO_TOKEN, .cls = LR_NN_NO_TOKEN,
                                      .mask = LR_NN_NO_TOKEN}};
    if (lr_nn_tok_new(&t, &v, &err))
        fail_msg("vocabulary: %s at %s", err.msg, err.where);
    lr_free(tokens);
    lr_free(scores);
    lr_free(types);
    return t;
}

static inline const struct lr_json *kit_json(struct lr_arena *a, const char *z)
{
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    if (lr_json_parse(a, lr_strz(z), NULL, &v, &err))
        fail_msg("%s: %s at %s", z, err.msg, err.where);
    return v;
}

static inline struct lr_request *kit_request(struct lr_arena *a, struct lr_str body)
{
    struct lr_request *r = NULL;
    struct lr_err err = {0};
    if (lr_request_parse(a, LR_DIALECT_CHAT, body, &r, &err))
        fail_msg("%.*s: %s at %s", LR_FMT(body), err.msg, err.where);
    return r;
}

/* A golden file as JSON. */
static inline struct lr_json *kit_golden(struct lr_arena *a, const char *name)
{
    char path[512];
    struct lr_buf b;
    struct lr_str text;
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    lr_buf_init(&b, LR_MIB(1));
    snprintf(path, sizeof path, "%s/tests/golden/engine/%s", LR_SOURCE_DIR, name);
    assert_int_equal(lr_io_read_file(path, &b), 0);
    assert_int_equal(lr_arena_copy(a, lr_buf_str(&b), &text), 0);
    lr_buf_free(&b);
    if (lr_json_parse(a, text, NULL, &v, &err))
        fail_msg("%s: %s at %s", path, err.msg, err.where);
    return v;
}

#endif
