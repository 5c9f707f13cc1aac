/* SPDX-License-Identifier: Apache-2.0
 * unit/nn/kit.h - what the tests of nn/ share: golden files, small files, GGUF bytes by hand.
 */
#ifndef LR_TESTS_NN_KIT_H
#define LR_TESTS_NN_KIT_H

#include "nn/nn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A golden file as JSON in a, or the test fails. */
static inline struct lr_json *kit_golden(struct lr_arena *a, const char *name)
{
    char path[512];
    struct lr_buf b;
    struct lr_str text;
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    lr_arena_init(a, LR_MIB(64));
    lr_buf_init(&b, LR_MIB(1));
    snprintf(path, sizeof path, "%s/tests/golden/nn/%s", LR_SOURCE_DIR, name);
    assert_int_equal(lr_io_read_file(path, &b), 0);
    assert_int_equal(lr_arena_copy(a, lr_buf_str(&b), &text), 0);
    lr_buf_free(&b);
    if (lr_json_parse(a, text, NULL, &v, &err))
        fail_msg("%s: %s at %s", path, err.msg, err.where);
    return v;
}

/* The texts of a JSON array. */
static inline struct lr_str *kit_texts(struct lr_arena *a, const struct lr_json *v, size_t *n)
{
    assert_true(lr_json_is(v, LR_JSON_ARRAY));
    struct lr_str *out = lr_arena_array(a, struct lr_str, v->n + 1);
    assert_non_null(out);
    *n = 0;
    for (const struct lr_json *c = v->child; c; c = c->next)
        assert_true(lr_json_text(c, &out[(*n)++]));
    return out;
}

/* Fails unless ids are those of the JSON array. */
static inline void kit_same_ids(const char *what, struct lr_str text, const struct lr_nn_ids *ids,
                                const struct lr_json *want)
{
    size_t i = 0;
    for (const struct lr_json *c = want->child; c; c = c->next, i++) {
        uint64_t id = 0;
        assert_true(lr_json_u64(c, &id));
        if (i >= ids->n || ids->id[i] != id)
            fail_msg("%s: token %zu of '%.*s' is %d, want %d", what, i, LR_FMT(text),
                     i < ids->n ? (int)ids->id[i] : -1, (int)id);
    }
    if (i != ids->n)
        fail_msg("%s: '%.*s' has %zu tokens, want %zu", what, LR_FMT(text), ids->n, i);
}

/* A fresh path under a fresh directory, for one test program; removed by the test that made it. */
static inline const char *kit_path(const char *name)
{
    static char dir[64], paths[4][128];
    static unsigned turn;
    char *path = paths[turn++ % 4]; /* valid for four calls */
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/larder-nn.%ld", (long)getpid());
        assert_int_equal(lr_io_mkdir(dir, 0700), 0);
    }
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static inline int kit_teardown(void **state)
{
    char dir[64];
    (void)state; /* cmocka's */
    snprintf(dir, sizeof dir, "/tmp/larder-nn.%ld", (long)getpid());
    rmdir(dir);
    return 0;
}

/* ---- GGUF bytes ---- */

static inline void kit_u32(struct lr_buf *b, uint32_t v)
{
    assert_int_equal(lr_buf_add(b, &v, 4), 0);
}

static inline void kit_u64(struct lr_buf *b, uint64_t v)
{
    assert_int_equal(lr_buf_add(b, &v, 8), 0);
}

static inline void kit_text(struct lr_buf *b, const char *z)
{
    kit_u64(b, strlen(z));
    assert_int_equal(lr_buf_addz(b, z), 0);
}

static inline void kit_head(struct lr_buf *b, uint32_t version, uint64_t tensors, uint64_t pairs)
{
    assert_int_equal(lr_buf_add(b, "GGUF", 4), 0);
    kit_u32(b, version);
    kit_u64(b, tensors);
    kit_u64(b, pairs);
}

static inline void kit_tensor(struct lr_buf *b, const char *name, uint32_t type, uint64_t cols,
                              uint64_t rows, uint64_t offset)
{
    kit_text(b, name);
    kit_u32(b, 2);
    kit_u64(b, cols);
    kit_u64(b, rows);
    kit_u32(b, type);
    kit_u64(b, offset);
}

static inline void kit_pad(struct lr_buf *b, size_t align)
{
    while (b->len % align)
        assert_int_equal(lr_buf_addc(b, 0), 0);
}

#endif
