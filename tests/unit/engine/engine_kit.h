/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/engine/engine_kit.h - tiny models with random weights, of every architecture and type.
 */
#ifndef ENGINE_KIT_H
#define ENGINE_KIT_H

#include "engine/engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define OK(expr)                                                                                   \
    do {                                                                                           \
        struct lr_err *e_ = &kit_err;                                                              \
        *e_ = (struct lr_err){0};                                                                  \
        int rc_ = (expr);                                                                          \
        if (rc_)                                                                                   \
            fail_msg("%s:%d: %s: %s (%s)", __FILE__, __LINE__, lr_errname(rc_), e_->msg,           \
                     e_->where);                                                                   \
    } while (0)

enum scaling { NO_SCALING, LINEAR, YARN };

struct spec {
    const char *arch;
    uint32_t n_layer, n_embd, n_head, n_kv, d_head, n_ff, n_vocab, n_rot; /* 0: small defaults */
    enum lr_nn_type type;
    bool tied, bias, factors;
    enum scaling scaling;
    const char *skip, *extra; /* a tensor left out, one too many: for errors */
    uint32_t wrong_rows;      /* added to the rows of blk.0.attn_k.weight */
};

static struct lr_err kit_err;
static char kit_dir[] = "/tmp/larder-engine-XXXXXX";
static char kit_path[64];

static inline struct spec with_defaults(struct spec s)
{
    s.n_layer = s.n_layer ? s.n_layer : 2;
    s.n_embd = s.n_embd ? s.n_embd : 64;
    s.n_head = s.n_head ? s.n_head : 4;
    s.n_kv = s.n_kv ? s.n_kv : 2;
    s.d_head = s.d_head ? s.d_head : s.n_embd / s.n_head;
    s.n_ff = s.n_ff ? s.n_ff : 96;
    s.n_vocab = s.n_vocab ? s.n_vocab : 61;
    s.n_rot = s.n_rot ? s.n_rot : s.d_head;
    return s;
}

static inline bool is_qwen3(const struct spec *s)
{
    return strcmp(s->arch, "qwen3") == 0;
}

/* Tensors in order; fn(name, cols, rows), rows 0 for vectors. */
typedef void (*kit_fn)(void *ctx, const char *name, uint32_t cols, uint32_t rows);

static inline void kit_layer(const struct spec *s, uint32_t i, kit_fn fn, void *ctx)
{
    uint32_t q = s->n_head * s->d_head, kv = s->n_kv * s->d_head;
    const struct {
        const char *name;
        uint32_t cols, rows;
        bool there;
    } all[] = {
        {"attn_norm.weight", s->n_embd, 0, true},
        {"attn_q.weight", s->n_embd, q, true},
        {"attn_k.weight", s->n_embd, kv + (i ? 0 : s->wrong_rows), true},
        {"attn_v.weight", s->n_embd, kv, true},
        {"attn_q.bias", q, 0, s->bias},
        {"attn_k.bias", kv, 0, s->bias},
        {"attn_v.bias", kv, 0, s->bias},
        {"attn_q_norm.weight", s->d_head, 0, is_qwen3(s)},
        {"attn_k_norm.weight", s->d_head, 0, is_qwen3(s)},
        {"attn_output.weight", q, s->n_embd, true},
        {"ffn_norm.weight", s->n_embd, 0, true},
        {"ffn_gate.weight", s->n_embd, s->n_ff, true},
        {"ffn_up.weight", s->n_embd, s->n_ff, true},
        {"ffn_down.weight", s->n_ff, s->n_embd, true},
    };
    for (size_t k = 0; k < LR_COUNT(all); k++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s", i, all[k].name);
        if (all[k].there && !(s->skip && strcmp(s->skip, name) == 0))
            fn(ctx, name, all[k].cols, all[k].rows);
    }
}

static inline void kit_tensors(const struct spec *s, kit_fn fn, void *ctx)
{
    fn(ctx, "token_embd.weight", s->n_embd, s->n_vocab);
    for (uint32_t i = 0; i < s->n_layer; i++)
        kit_layer(s, i, fn, ctx);
    fn(ctx, "output_norm.weight", s->n_embd, 0);
    if (!s->tied)
        fn(ctx, "output.weight", s->n_embd, s->n_vocab);
    if (s->factors)
        fn(ctx, "rope_freqs.weight", s->n_rot / 2, 0);
    if (s->extra)
        fn(ctx, s->extra, s->n_embd, 0);
}

struct kit_writer {
    const struct spec *s;
    struct lr_nn_gguf_writer *w;
    struct lr_rng rng;
};

static inline void kit_declare(void *ctx, const char *name, uint32_t cols, uint32_t rows)
{
    struct kit_writer *k = ctx;
    struct lr_nn_tensor t = {.name = lr_strz(name), .type = rows ? k->s->type : LR_NN_F32,
                             .dims = rows ? 2 : 1, .ne = {cols, rows ? rows : 1, 1, 1}};
    OK(lr_nn_gguf_declare(k->w, &t));
}

static inline void kit_fill(void *ctx, const char *name, uint32_t cols, uint32_t rows)
{
    struct kit_writer *k = ctx;
    enum lr_kern_type type = LR_KERN_F32;
    bool factor = strcmp(name, "rope_freqs.weight") == 0;
    if (rows)
        type = (enum lr_kern_type)lr_kern_type_find(lr_strz(lr_nn_type_info(k->s->type)->name));
    float *row = lr_calloc(cols, sizeof *row);
    size_t bytes = lr_kern_row_bytes(type, cols);
    void *out = lr_alloc(bytes);
    assert_true(bytes > 0);
    for (uint32_t r = 0; r < (rows ? rows : 1); r++) {
        for (uint32_t i = 0; i < cols; i++) {
            float u = (float)(2 * lr_rng_unit(&k->rng) - 1);
            row[i] = factor ? 1.5f + u / 2 : rows ? u * sqrtf(6.0f / (float)cols) : 1 + u / 2;
            if (strstr(name, ".bias"))
                row[i] = u;
        }
        lr_kern_encode(type, out, row, cols);
        OK(lr_nn_gguf_data(k->w, out, bytes));
    }
    lr_free(row);
    lr_free(out);
}

static inline void put_number(struct lr_nn_gguf_writer *w, const char *arch, const char *key,
                              uint32_t v)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    OK(lr_nn_gguf_put_u32(w, name, v));
}

static inline void put_real(struct lr_nn_gguf_writer *w, const char *arch, const char *key, float v)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    OK(lr_nn_gguf_put_f32(w, name, v));
}

static inline void put_scaling(struct lr_nn_gguf_writer *w, const struct spec *s)
{
    char name[96];
    if (s->scaling == NO_SCALING)
        return;
    snprintf(name, sizeof name, "%s.rope.scaling.type", s->arch);
    OK(lr_nn_gguf_put_text(w, name, lr_strz(s->scaling == YARN ? "yarn" : "linear")));
    put_real(w, s->arch, "rope.scaling.factor", 4);
    put_number(w, s->arch, "rope.scaling.original_context_length", 64);
}

/* Writes the model to kit_path. */
static inline void kit_write(struct spec spec, uint64_t seed)
{
    struct spec s = with_defaults(spec);
    struct kit_writer k = {.s = &s};
    lr_rng_seed(&k.rng, seed);
    OK(lr_nn_gguf_create(&k.w, kit_path, 0, &kit_err));
    OK(lr_nn_gguf_put_text(k.w, "general.architecture", lr_strz(s.arch)));
    put_number(k.w, s.arch, "block_count", s.n_layer);
    put_number(k.w, s.arch, "embedding_length", s.n_embd);
    put_number(k.w, s.arch, "feed_forward_length", s.n_ff);
    put_number(k.w, s.arch, "context_length", 4096);
    put_number(k.w, s.arch, "attention.head_count", s.n_head);
    put_number(k.w, s.arch, "attention.head_count_kv", s.n_kv);
    put_number(k.w, s.arch, "attention.key_length", s.d_head);
    put_number(k.w, s.arch, "attention.value_length", s.d_head);
    put_number(k.w, s.arch, "rope.dimension_count", s.n_rot);
    put_real(k.w, s.arch, "rope.freq_base", 5000);
    put_real(k.w, s.arch, "attention.layer_norm_rms_epsilon", 1e-5f);
    put_scaling(k.w, &s);
    kit_tensors(&s, kit_declare, &k);
    kit_tensors(&s, kit_fill, &k);
    OK(lr_nn_gguf_finish(k.w, &kit_err));
}

static inline struct lr_engine_model *kit_model(struct spec s, uint64_t seed)
{
    struct lr_engine_model *m;
    kit_write(s, seed);
    OK(lr_engine_model_open(&m, kit_path, &kit_err));
    return m;
}

static inline struct lr_engine *kit_engine(const struct lr_engine_model *m, unsigned threads,
                                           const char *codec)
{
    struct lr_engine *e;
    const struct lr_engine_opts o = {.threads = threads, .kv_max = LR_MIB(64),
                                     .codec = lr_engine_codec_find(lr_strz(codec))};
    OK(lr_engine_open(&e, m, &o, &kit_err));
    return e;
}

static inline struct lr_engine_seq *kit_seq(struct lr_engine *e)
{
    struct lr_engine_seq *s;
    OK(lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){0}, &kit_err));
    return s;
}

static inline void kit_tokens(uint32_t *tokens, size_t n, uint32_t vocab, uint64_t seed)
{
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)lr_rng_below(&r, vocab);
}

static inline int kit_setup(void **state)
{
    (void)state;
    if (!mkdtemp(kit_dir))
        return -1;
    snprintf(kit_path, sizeof kit_path, "%s/m.gguf", kit_dir);
    return 0;
}

static inline int kit_teardown(void **state)
{
    (void)state;
    unlink(kit_path);
    return rmdir(kit_dir);
}

#endif
