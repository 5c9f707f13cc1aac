/* SPDX-License-Identifier: Apache-2.0
 * engine/random.c - models of real shapes with random weights: for speed, memory and exactness, where
 * no real file is at hand. They say nothing sensible and never claim to.
 *
 *   shape table -> metadata -> tokeniser (copied, or synthetic of the same size) -> tensors, row by row
 *
 * Weights are uniform with variance 1 / columns, so that activations keep their size through the layers
 * and no number overflows the small formats; norms are 1. The same seed gives the same file on every
 * machine (rows are encoded by kern/'s deterministic encoder).
 *
 * Types follow what quantisers do with rows that are no whole blocks of 256: Q4_K becomes Q5_0, Q5_K
 * Q5_1, Q6_K Q8_0 (576 columns of the 135M shape); rows that are no whole blocks of 32 become F16.
 *
 * The synthetic vocabulary is one of SPM's kind: the three specials, 256 bytes, then distinct syllables
 * with and without a space in front: every text can be encoded, and most of English in short pieces.
 */
#include "engine/engine_int.h"

#include <stdio.h>

static const struct like {
    const char *name;
    uint32_t n_layer, n_embd, n_head, n_kv, n_ff, n_vocab, n_ctx;
    float rope_base;
    bool tied;
} likes[] = {
    {"nano", 2, 64, 4, 2, 128, 512, 512, 10000, false},
    {"smollm-135m", 30, 576, 9, 3, 1536, 49152, 8192, 100000, true},
    {"llama-1b", 16, 2048, 32, 8, 8192, 128256, 131072, 500000, true},
    {"llama-7b", 32, 4096, 32, 32, 11008, 32000, 4096, 10000, false},
};

#define BYTE_TOKENS 256u
#define SPECIALS 3u /* <unk> <s> </s> */

struct maker {
    const struct lr_engine_random *r;
    const struct like *like;
    struct lr_nn_gguf_writer *w;
    struct lr_nn_gguf *vocab; /* or NULL */
    uint32_t n_vocab;
    struct lr_rng rng;
    float *row;    /* of the widest tensor */
    void *encoded; /* as floats at most */
};

/* ---- types ---- */

static enum lr_nn_type type_for(enum lr_nn_type wanted, uint32_t cols)
{
    if (cols % lr_nn_type_info(wanted)->block == 0)
        return wanted;
    enum lr_nn_type t = wanted == LR_NN_Q4_K   ? LR_NN_Q5_0
                        : wanted == LR_NN_Q5_K ? LR_NN_Q5_1
                        : wanted == LR_NN_Q6_K ? LR_NN_Q8_0
                                               : LR_NN_F16;
    return cols % lr_nn_type_info(t)->block == 0 ? t : LR_NN_F16;
}

/* ---- tensors ---- */

typedef int (*each_tensor)(struct maker *m, const char *name, uint32_t cols, uint32_t rows);

static int walk_layer(struct maker *m, uint32_t i, each_tensor fn)
{
    const struct like *l = m->like;
    uint32_t kv = l->n_embd / l->n_head * l->n_kv;
    const struct {
        const char *name;
        uint32_t cols, rows;
    } all[] = {
        {"attn_norm", l->n_embd, 0},     {"attn_q", l->n_embd, l->n_embd},
        {"attn_k", l->n_embd, kv},       {"attn_v", l->n_embd, kv},
        {"attn_output", l->n_embd, l->n_embd}, {"ffn_norm", l->n_embd, 0},
        {"ffn_gate", l->n_embd, l->n_ff}, {"ffn_up", l->n_embd, l->n_ff},
        {"ffn_down", l->n_ff, l->n_embd},
    };
    for (size_t k = 0; k < LR_COUNT(all); k++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s.weight", i, all[k].name);
        LR_TRY(fn(m, name, all[k].cols, all[k].rows));
    }
    return 0;
}

static int walk_tensors(struct maker *m, each_tensor fn)
{
    LR_TRY(fn(m, "token_embd.weight", m->like->n_embd, m->n_vocab));
    for (uint32_t i = 0; i < m->like->n_layer; i++)
        LR_TRY(walk_layer(m, i, fn));
    LR_TRY(fn(m, "output_norm.weight", m->like->n_embd, 0));
    return m->like->tied ? 0 : fn(m, "output.weight", m->like->n_embd, m->n_vocab);
}

/* rows == 0: a vector. */
static int declare(struct maker *m, const char *name, uint32_t cols, uint32_t rows)
{
    struct lr_nn_tensor t = {.name = lr_strz(name),
                             .type = rows ? type_for(m->r->type, cols) : LR_NN_F32,
                             .dims = rows ? 2 : 1,
                             .ne = {cols, rows ? rows : 1, 1, 1}};
    return lr_nn_gguf_declare(m->w, &t);
}

static int fill(struct maker *m, const char *name, uint32_t cols, uint32_t rows)
{
    (void)name;
    if (!rows) {
        for (uint32_t i = 0; i < cols; i++)
            m->row[i] = 1;
        return lr_nn_gguf_data(m->w, m->row, cols * sizeof *m->row);
    }
    int type = lr_kern_type_find(lr_strz(lr_nn_type_info(type_for(m->r->type, cols))->name));
    assert(type >= 0);
    size_t bytes = lr_kern_row_bytes((enum lr_kern_type)type, cols);
    float top = sqrtf(3.0f / (float)cols);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < cols; i++) {
            int32_t bits = (int32_t)(lr_rng_u64(&m->rng) >> 40); /* 24 of them */
            m->row[i] = top * ((float)bits * 0x1p-23f - 1.0f);
        }
        lr_kern_encode((enum lr_kern_type)type, m->encoded, m->row, cols);
        LR_TRY(lr_nn_gguf_data(m->w, m->encoded, bytes));
    }
    return 0;
}

/* ---- tokens ---- */

/* Piece number i: syllables as the digits of a number, a space (U+2581) before every other piece. */
static size_t spell(uint32_t i, char out[32])
{
    static const char consonants[] = "bcdfghjklmnprstvwz", vowels[] = "aeiou";
    uint32_t base = (sizeof consonants - 1) * (sizeof vowels - 1), number = i / 2 + 1;
    size_t n = 0;
    if (i % 2 == 0) {
        memcpy(out, "\xe2\x96\x81", 3);
        n = 3;
    }
    for (; number && n + 2 < 32; number = (number - 1) / base) { /* bijective: no leading zeros */
        uint32_t digit = (number - 1) % base;
        out[n++] = consonants[digit / (sizeof vowels - 1)];
        out[n++] = vowels[digit % (sizeof vowels - 1)];
    }
    return n;
}

static struct lr_str token_text(uint32_t i, char buf[32])
{
    static const char *const specials[SPECIALS] = {"<unk>", "<s>", "</s>"};
    if (i < SPECIALS)
        return lr_strz(specials[i]);
    if (i < SPECIALS + BYTE_TOKENS) {
        int n = snprintf(buf, 32, "<0x%02X>", i - SPECIALS);
        return lr_str(buf, (size_t)n);
    }
    i -= SPECIALS + BYTE_TOKENS;
    if (i < 53) { /* a space and the letters on their own: what merges begin with */
        if (!i)
            memcpy(buf, "\xe2\x96\x81", 3);
        else
            buf[0] = (char)(i <= 26 ? 'a' + (int)i - 1 : 'A' + (int)i - 27);
        return lr_str(buf, i ? 1 : 3);
    }
    return lr_str(buf, spell(i - 53, buf));
}

static int synthetic_arrays(struct maker *m, struct lr_str *texts, float *scores, int32_t *types,
                            struct lr_arena *a)
{
    for (uint32_t i = 0; i < m->n_vocab; i++) {
        char buf[32];
        LR_TRY(lr_arena_copy(a, token_text(i, buf), &texts[i]));
        scores[i] = i < SPECIALS + BYTE_TOKENS ? 0 : -(float)(i - SPECIALS - BYTE_TOKENS);
        types[i] = i == 0                          ? LR_NN_TOKEN_UNKNOWN
                   : i < SPECIALS                  ? LR_NN_TOKEN_CONTROL
                   : i < SPECIALS + BYTE_TOKENS    ? LR_NN_TOKEN_BYTE
                                                   : LR_NN_TOKEN_NORMAL;
    }
    const struct lr_nn_kv all[] = {
        {LR_STR("tokenizer.ggml.tokens"), LR_NN_KV_ARRAY, LR_NN_KV_TEXT, m->n_vocab, texts},
        {LR_STR("tokenizer.ggml.scores"), LR_NN_KV_ARRAY, LR_NN_KV_F32, m->n_vocab, scores},
        {LR_STR("tokenizer.ggml.token_type"), LR_NN_KV_ARRAY, LR_NN_KV_I32, m->n_vocab, types},
    };
    LR_TRY(lr_nn_gguf_put_text(m->w, "tokenizer.ggml.model", LR_STR("llama")));
    for (size_t i = 0; i < LR_COUNT(all); i++)
        LR_TRY(lr_nn_gguf_put(m->w, &all[i]));
    LR_TRY(lr_nn_gguf_put_u32(m->w, "tokenizer.ggml.unknown_token_id", 0));
    LR_TRY(lr_nn_gguf_put_u32(m->w, "tokenizer.ggml.bos_token_id", 1));
    LR_TRY(lr_nn_gguf_put_u32(m->w, "tokenizer.ggml.eos_token_id", 2));
    LR_TRY(lr_nn_gguf_put_bool(m->w, "tokenizer.ggml.add_bos_token", true));
    return lr_nn_gguf_put_bool(m->w, "tokenizer.ggml.add_space_prefix", true);
}

static int synthetic_vocab(struct maker *m)
{
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(64));
    struct lr_str *texts = lr_calloc(m->n_vocab, sizeof *texts);
    float *scores = lr_calloc(m->n_vocab, sizeof *scores);
    int32_t *types = lr_calloc(m->n_vocab, sizeof *types);
    int rc = texts && scores && types ? synthetic_arrays(m, texts, scores, types, &a) : LR_ENOMEM;
    lr_free(texts);
    lr_free(scores);
    lr_free(types);
    lr_arena_free(&a);
    return rc;
}

static int copied_vocab(struct maker *m)
{
    for (size_t i = 0; i < lr_nn_gguf_keys(m->vocab); i++) {
        const struct lr_nn_kv *kv = lr_nn_gguf_key(m->vocab, i);
        if (lr_str_starts(kv->key, LR_STR("tokenizer.")))
            LR_TRY(lr_nn_gguf_put(m->w, kv));
    }
    return 0;
}

/* ---- the file ---- */

static int metadata(struct maker *m)
{
    const struct like *l = m->like;
    const struct {
        const char *key;
        uint32_t v;
    } all[] = {
        {"llama.block_count", l->n_layer},     {"llama.embedding_length", l->n_embd},
        {"llama.feed_forward_length", l->n_ff}, {"llama.context_length", l->n_ctx},
        {"llama.attention.head_count", l->n_head}, {"llama.attention.head_count_kv", l->n_kv},
        {"llama.rope.dimension_count", l->n_embd / l->n_head}, {"llama.vocab_size", m->n_vocab},
    };
    LR_TRY(lr_nn_gguf_put_text(m->w, "general.architecture", LR_STR("llama")));
    LR_TRY(lr_nn_gguf_put_text(m->w, "general.name", lr_strz(l->name)));
    LR_TRY(lr_nn_gguf_put_text(m->w, "general.description", LR_STR("random weights")));
    for (size_t i = 0; i < LR_COUNT(all); i++)
        LR_TRY(lr_nn_gguf_put_u32(m->w, all[i].key, all[i].v));
    LR_TRY(lr_nn_gguf_put_f32(m->w, "llama.rope.freq_base", l->rope_base));
    LR_TRY(lr_nn_gguf_put_f32(m->w, "llama.attention.layer_norm_rms_epsilon", 1e-5f));
    return m->vocab ? copied_vocab(m) : synthetic_vocab(m);
}

static int write_file(struct maker *m)
{
    uint32_t widest = m->like->n_ff > m->like->n_embd ? m->like->n_ff : m->like->n_embd;
    m->row = lr_calloc(widest, sizeof *m->row);
    m->encoded = lr_calloc(widest, sizeof *m->row);
    LR_FAIL_IF(!m->row || !m->encoded, LR_ENOMEM);
    LR_TRY(metadata(m));
    LR_TRY(walk_tensors(m, declare));
    return walk_tensors(m, fill);
}

static int open_vocab(struct maker *m, struct lr_err *err)
{
    char path[4096];
    m->n_vocab = m->like->n_vocab;
    if (!m->r->vocab.n)
        return 0;
    if (m->r->vocab.n >= sizeof path)
        return lr_err_set(err, LR_EINVAL, "vocab", "the path is too long");
    memcpy(path, m->r->vocab.p, m->r->vocab.n);
    path[m->r->vocab.n] = 0;
    LR_TRY(lr_nn_gguf_open(&m->vocab, path, NULL, err));
    const struct lr_nn_kv *kv = lr_nn_gguf_find(m->vocab, "tokenizer.ggml.tokens");
    if (!kv || kv->elem != LR_NN_KV_TEXT || !kv->n || kv->n > LR_NN_VOCAB_MAX)
        return lr_err_set(err, LR_EPARSE, path, "%s has no vocabulary", path);
    m->n_vocab = (uint32_t)kv->n;
    return 0;
}

static int find_like(struct maker *m, struct lr_err *err)
{
    for (size_t i = 0; i < LR_COUNT(likes); i++)
        if (lr_str_is(m->r->like, likes[i].name))
            m->like = &likes[i];
    if (!m->like)
        return lr_err_set(err, LR_EINVAL, "like",
                          "no shape '%.*s' (nano, smollm-135m, llama-1b, llama-7b)",
                          LR_FMT(m->r->like));
    if (m->r->type > LR_NN_Q6_K)
        return lr_err_set(err, LR_EUNSUPPORTED, "type", "no weights of type %d", (int)m->r->type);
    return 0;
}

int lr_engine_random(const struct lr_engine_random *r, struct lr_err *err)
{
    struct maker m = {.r = r};
    lr_rng_seed(&m.rng, r->seed);
    LR_TRY(find_like(&m, err));
    int rc = open_vocab(&m, err);
    if (rc)
        goto undo_vocab;
    rc = lr_nn_gguf_create(&m.w, r->path, 0, err);
    if (rc)
        goto undo_vocab;
    rc = write_file(&m);
    if (rc) {
        lr_nn_gguf_abandon(m.w);
        lr_err_set(err, rc, r->path, "cannot write the model: %s", lr_strerror(rc));
    } else {
        rc = lr_nn_gguf_finish(m.w, err);
    }
    lr_free(m.row);
    lr_free(m.encoded);
undo_vocab:
    lr_nn_gguf_close(m.vocab);
    return rc;
}
