/* SPDX-License-Identifier: Apache-2.0
 * eval/eval_kit.h - what the tests of eval/ share: a random nano model, its tokeniser, the words.
 */
#ifndef LR_TEST_EVAL_KIT_H
#define LR_TEST_EVAL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eval/eval.h"

#include <stdio.h>
#include <unistd.h>

struct kit {
    char path[64];
    struct lr_nn_gguf *file;
    struct lr_nn_tok *tok;
    struct lr_eval_coder coder;
    struct lr_eval_words words;
    struct lr_arena arena;
};

static inline void kit_open(struct kit *k)
{
    struct lr_err err = {0};
    snprintf(k->path, sizeof k->path, "/tmp/larder-eval-%d.gguf", (int)getpid());
    struct lr_engine_random r = {
        .like = LR_STR("nano"), .type = LR_NN_F32, .seed = 7, .path = k->path};
    assert_int_equal(lr_engine_random(&r, &err), 0);
    assert_int_equal(lr_nn_gguf_open(&k->file, k->path, NULL, &err), 0);
    assert_int_equal(lr_nn_tok_open(&k->tok, k->file, &err), 0);
    assert_int_equal(lr_eval_coder_init(&k->coder, k->tok, &err), 0);
    assert_int_equal(lr_eval_words_read(lr_eval_words_text, &k->words), 0);
    lr_arena_init(&k->arena, LR_MIB(64));
}

static inline void kit_close(struct kit *k)
{
    lr_arena_free(&k->arena);
    lr_nn_tok_close(k->tok);
    lr_nn_gguf_close(k->file);
    unlink(k->path);
}

/* Of a group of tests: *state is the kit. */
static inline int kit_setup(void **state)
{
    static struct kit k;
    kit_open(&k);
    *state = &k;
    return 0;
}

static inline int kit_teardown(void **state)
{
    kit_close(*state);
    return 0;
}

#endif
