/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/embed_kit.h - small random models, and plain twins of what they compute.
 *
 * A model is a list of named tensors of doubles made by a seed. Written as GGUF or as a folder of
 * Hugging Face's; the twins read the same list, in doubles, without a batch, a kernel or a shortcut.
 */
#ifndef LR_TEST_EMBED_KIT_H
#define LR_TEST_EMBED_KIT_H

#include "embed/embed_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KIT_D = 64, KIT_FF = 96, KIT_HEADS = 4, KIT_LAYERS = 2, KIT_CTX = 48, KIT_HEAD = 24 };

static const char *const kit_words[] = {
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how",  "do",    "i",     "enable", "disable",
    "the",   "cache", "what",  "is",    "a",      "of",   "?",     ".",     "reset",  "##s",
    "##ing", "pass",  "##word", "my",   "account", "two", "factor", "login", "log",    "##in",
    "price", "in",    "paris", "london", "weather", "cat", "dog",   "run",   "zurich", "not"};
enum { KIT_VOCAB = sizeof kit_words / sizeof kit_words[0] };

static const char *const kit_texts[] = {"How do I enable the cache?", "what is the price of a dog",
                                        "reset my password.", "", "Zürich weather in london?",
                                        "cats running", "do not disable two factor login", "\xF0\x9F\x98\x80",
                                        ("a a a a a a a a a a a a a a a a a a a a a a a a a a a a a "
                                         "a a a a a a a a a a a a a a a a a a a a a a a a a a a cat")};
enum { KIT_TEXTS = sizeof kit_texts / sizeof kit_texts[0] };

struct kit_tensor {
    char name[64], hf[96];
    uint32_t cols, rows; /* rows 0: a vector */
    float *data;
};
struct kit {
    struct kit_tensor t[64];
    size_t n;
    bool is_static, head, classifier, pooler, both;
    uint32_t n_cls, pooling;
    struct lr_rng rng;
    char dir[64], path[128], folder[128];
};

static inline float *kit_get(const struct kit *k, const char *name)
{
    for (size_t i = 0; i < k->n; i++)
        if (!strcmp(k->t[i].name, name))
            return k->t[i].data;
    return NULL;
}

static inline void kit_add(struct kit *k, const char *name, const char *hf, uint32_t cols,
                           uint32_t rows, double mean, double spread)
{
    struct kit_tensor *t = &k->t[k->n++];
    size_t n = (size_t)cols * (rows ? rows : 1);
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->hf, sizeof t->hf, "%s", hf);
    t->cols = cols;
    t->rows = rows;
    t->data = calloc(n, sizeof *t->data);
    for (size_t i = 0; i < n; i++)
        t->data[i] = (float)(mean + spread * (2 * lr_rng_unit(&k->rng) - 1));
}

static inline void kit_add_layer(struct kit *k, const char *prefix, int layer)
{
    static const struct {
        const char *name, *hf;
        uint32_t cols, rows;
    } parts[] = {{"attn_q", "attention.self.query", KIT_D, KIT_D},
                 {"attn_k", "attention.self.key", KIT_D, KIT_D},
                 {"attn_v", "attention.self.value", KIT_D, KIT_D},
                 {"attn_output", "attention.output.dense", KIT_D, KIT_D},
                 {"attn_output_norm", "attention.output.LayerNorm", KIT_D, 0},
                 {"ffn_up", "intermediate.dense", KIT_D, KIT_FF},
                 {"ffn_down", "output.dense", KIT_FF, KIT_D},
                 {"layer_output_norm", "output.LayerNorm", KIT_D, 0}};
    char name[64], hf[96];
    for (size_t i = 0; i < LR_COUNT(parts); i++) {
        bool norm = !parts[i].rows;
        snprintf(name, sizeof name, "%sblk.%d.%s.weight", prefix, layer, parts[i].name);
        snprintf(hf, sizeof hf, "encoder.layer.%d.%s.weight", layer, parts[i].hf);
        kit_add(k, name, hf, parts[i].cols, parts[i].rows, norm ? 1 : 0, norm ? 0.2 : 0.3);
        snprintf(name, sizeof name, "%sblk.%d.%s.bias", prefix, layer, parts[i].name);
        snprintf(hf, sizeof hf, "encoder.layer.%d.%s.bias", layer, parts[i].hf);
        kit_add(k, name, hf, norm ? parts[i].cols : parts[i].rows, 0, 0, 0.1);
    }
}

/* Set is_static, head, n_cls, pooling before. */
static inline void kit_make(struct kit *k, uint64_t seed)
{
    lr_rng_seed(&k->rng, seed);
    k->pooling = k->pooling ? k->pooling : LR_EMBED_MEAN;
    kit_add(k, "token_embd.weight", "embeddings.word_embeddings.weight", KIT_D, KIT_VOCAB, 0, 1);
    if (k->is_static) {
        kit_add(k, "token_weight.weight", "", KIT_VOCAB, 0, 1, 0.5);
    } else {
        kit_add(k, "position_embd.weight", "embeddings.position_embeddings.weight", KIT_D, KIT_CTX,
                0, 0.5);
        kit_add(k, "token_types.weight", "embeddings.token_type_embeddings.weight", KIT_D, 2, 0, 0.3);
        kit_add(k, "token_embd_norm.weight", "embeddings.LayerNorm.weight", KIT_D, 0, 1, 0.2);
        kit_add(k, "token_embd_norm.bias", "embeddings.LayerNorm.bias", KIT_D, 0, 0, 0.1);
        for (int i = 0; i < KIT_LAYERS; i++)
            kit_add_layer(k, "", i);
    }
    if (k->pooler || k->n_cls) {
        kit_add(k, "cls.weight", "pooler.dense.weight", KIT_D, KIT_D, 0, 0.3);
        kit_add(k, "cls.bias", "pooler.dense.bias", KIT_D, 0, 0, 0.1);
    }
    if (k->n_cls) {
        kit_add(k, "cls.output.weight", "classifier.weight", KIT_D, k->n_cls, 0, 0.4);
        kit_add(k, "cls.output.bias", "classifier.bias", k->n_cls, 0, 0, 0.1);
    }
    if (k->both) { /* a verifier beside the encoder: its last layer and its classifier */
        kit_add_layer(k, "pair.", KIT_LAYERS - 1);
        kit_add(k, "pair.cls.weight", "", KIT_D, KIT_D, 0, 0.3);
        kit_add(k, "pair.cls.bias", "", KIT_D, 0, 0, 0.1);
        kit_add(k, "pair.cls.output.weight", "", KIT_D, 1, 0, 0.4);
        kit_add(k, "pair.cls.output.bias", "", 1, 0, 0, 0.1);
    }
    if (k->head)
        kit_add(k, "head.weight", "", KIT_D, KIT_HEAD, 0, 0.3);
    snprintf(k->dir, sizeof k->dir, "/tmp/larder-embed.XXXXXX");
    assert_non_null(mkdtemp(k->dir));
    snprintf(k->path, sizeof k->path, "%s/m.gguf", k->dir);
    snprintf(k->folder, sizeof k->folder, "%s/hf", k->dir);
}

static inline void kit_free(struct kit *k)
{
    char command[160];
    for (size_t i = 0; i < k->n; i++)
        free(k->t[i].data);
    snprintf(command, sizeof command, "rm -rf '%s'", k->dir);
    if (k->dir[0])
        assert_int_equal(system(command), 0);
}

/* ---- GGUF ---- */

static inline void kit_put_vocab(struct lr_nn_gguf_writer *w)
{
    static char spelled[KIT_VOCAB][32];
    struct lr_str tokens[KIT_VOCAB];
    int32_t types[KIT_VOCAB];
    for (size_t i = 0; i < KIT_VOCAB; i++) {
        const char *z = kit_words[i];
        snprintf(spelled[i], sizeof spelled[i], "%s%s", z[0] == '[' || z[0] == '#' ? "" : "\xE2\x96\x81",
                 z[0] == '#' ? z + 2 : z);
        tokens[i] = lr_strz(spelled[i]);
        types[i] = i == 1 ? LR_NN_TOKEN_UNKNOWN : i < 5 ? LR_NN_TOKEN_CONTROL : LR_NN_TOKEN_NORMAL;
    }
    struct lr_nn_kv kv = {LR_STR("tokenizer.ggml.tokens"), LR_NN_KV_ARRAY, LR_NN_KV_TEXT, KIT_VOCAB,
                          tokens};
    struct lr_nn_kv ty = {LR_STR("tokenizer.ggml.token_type"), LR_NN_KV_ARRAY, LR_NN_KV_I32,
                          KIT_VOCAB, types};
    lr_nn_gguf_put_text(w, "tokenizer.ggml.model", LR_STR("bert"));
    lr_nn_gguf_put(w, &kv);
    lr_nn_gguf_put(w, &ty);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 1);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.cls_token_id", 2);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.seperator_token_id", 3);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.padding_token_id", 0);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.mask_token_id", 4);
}

static inline void kit_write(const struct kit *k)
{
    struct lr_nn_gguf_writer *w;
    struct spec s = {.kind = k->is_static ? LR_EMBED_STATIC : k->n_cls ? LR_EMBED_PAIR : LR_EMBED_BERT,
                     .n_layer = KIT_LAYERS, .n_embd = KIT_D, .n_head = KIT_HEADS, .n_ff = KIT_FF,
                     .n_ctx = KIT_CTX, .tokens_max = KIT_CTX, .eps = 1e-12f,
                     .pooling = k->n_cls ? LR_EMBED_RANK : (enum lr_embed_pooling)k->pooling,
                     .scale = 1.5f, .bias = -0.25f, .name = "kit"};
    assert_int_equal(lr_nn_gguf_create(&w, k->path, 0, NULL), 0);
    assert_int_equal(lr_embed_meta_put(w, &s), 0);
    kit_put_vocab(w);
    for (size_t i = 0; i < k->n; i++) {
        struct lr_nn_tensor t = {.name = lr_strz(k->t[i].name), .type = LR_NN_F32,
                                 .dims = k->t[i].rows ? 2 : 1,
                                 .ne = {k->t[i].cols, k->t[i].rows ? k->t[i].rows : 1, 1, 1}};
        assert_int_equal(lr_nn_gguf_declare(w, &t), 0);
    }
    for (size_t i = 0; i < k->n; i++)
        assert_int_equal(lr_nn_gguf_data(w, k->t[i].data, (size_t)k->t[i].cols *
                                             (k->t[i].rows ? k->t[i].rows : 1) * sizeof(float)), 0);
    assert_int_equal(lr_nn_gguf_finish(w, NULL), 0);
}

/* ---- a folder ---- */

static inline void kit_file(const struct kit *k, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", k->folder, name);
    assert_int_equal(lr_io_write_file(path, lr_strz(text), 0644), 0);
}

static inline void kit_folder(const struct kit *k, const char *config_extra, const char *pooling)
{
    char text[4096], path[256];
    static struct lr_buf st, head;
    mkdir(k->folder, 0755);
    snprintf(path, sizeof path, "%s/1_Pooling", k->folder);
    mkdir(path, 0755);
    snprintf(text, sizeof text,
             "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"num_hidden_layers\":%d,"
             "\"hidden_size\":%d,\"num_attention_heads\":%d,\"intermediate_size\":%d,"
             "\"max_position_embeddings\":%d,\"layer_norm_eps\":1e-12%s}",
             KIT_LAYERS, KIT_D, KIT_HEADS, KIT_FF, KIT_CTX, config_extra);
    kit_file(k, "config.json", text);
    kit_file(k, "1_Pooling/config.json", pooling);
    text[0] = 0;
    for (size_t i = 0, at = 0; i < KIT_VOCAB; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\n", kit_words[i]);
    kit_file(k, "vocab.txt", text);
    lr_buf_init(&st, LR_MIB(4));
    lr_buf_init(&head, LR_MIB(1));
    lr_buf_addc(&head, '{');
    size_t at = 0;
    for (size_t i = 0; i < k->n; i++) {
        size_t n = (size_t)k->t[i].cols * (k->t[i].rows ? k->t[i].rows : 1) * sizeof(float);
        char shape[48];
        snprintf(shape, sizeof shape, k->t[i].rows ? "%u,%u" : "%.0u%u",
                 k->t[i].rows, k->t[i].cols);
        lr_buf_addf(&head, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                    i ? "," : "", k->t[i].hf, shape, at, at + n);
        at += n;
    }
    lr_buf_addc(&head, '}');
    while (head.len % 8)
        lr_buf_addc(&head, ' ');
    uint64_t n = head.len;
    lr_buf_add(&st, &n, 8);
    lr_buf_adds(&st, lr_buf_str(&head));
    for (size_t i = 0; i < k->n; i++)
        lr_buf_add(&st, k->t[i].data, (size_t)k->t[i].cols * (k->t[i].rows ? k->t[i].rows : 1) *
                                          sizeof(float));
    snprintf(path, sizeof path, "%s/model.safetensors", k->folder);
    assert_int_equal(lr_io_write_file(path, lr_buf_str(&st), 0644), 0);
    lr_buf_free(&st);
    lr_buf_free(&head);
}

/* ---- twins ---- */

static inline double kit_cos(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

static inline void kit_unit(double *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += x[i] * x[i];
    for (size_t i = 0; i < n && s > 0; i++)
        x[i] /= sqrt(s);
}

/* y (rows) = W x + b */
static inline void kit_linear(const struct kit *k, const char *name, const double *x, double *y,
                              uint32_t cols, uint32_t rows)
{
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    const float *w = kit_get(k, full);
    snprintf(full, sizeof full, "%s.bias", name);
    const float *b = kit_get(k, full);
    for (uint32_t r = 0; r < rows; r++) {
        y[r] = b ? (double)b[r] : 0;
        for (uint32_t c = 0; c < cols; c++)
            y[r] += (double)w[r * cols + c] * x[c];
    }
}

static inline void kit_norm(const struct kit *k, const char *name, double *x)
{
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    const float *w = kit_get(k, full);
    snprintf(full, sizeof full, "%s.bias", name);
    const float *b = kit_get(k, full);
    double mean = 0, var = 0;
    for (int i = 0; i < KIT_D; i++)
        mean += x[i] / KIT_D;
    for (int i = 0; i < KIT_D; i++)
        var += (x[i] - mean) * (x[i] - mean) / KIT_D;
    for (int i = 0; i < KIT_D; i++)
        x[i] = (x[i] - mean) / sqrt(var + 1e-12) * (double)w[i] + (double)b[i];
}

static inline void kit_attention(double (*q)[KIT_D], double (*key)[KIT_D], double (*v)[KIT_D],
                                 size_t n, double (*out)[KIT_D])
{
    enum { DH = KIT_D / KIT_HEADS };
    double p[KIT_CTX];
    for (size_t t = 0; t < n; t++)
        for (int h = 0; h < KIT_HEADS; h++) {
            double sum = 0;
            for (size_t r = 0; r < n; r++) {
                double s = 0;
                for (int i = h * DH; i < (h + 1) * DH; i++)
                    s += q[t][i] * key[r][i];
                sum += p[r] = exp(s / sqrt((double)DH));
            }
            for (int i = h * DH; i < (h + 1) * DH; i++) {
                out[t][i] = 0;
                for (size_t r = 0; r < n; r++)
                    out[t][i] += p[r] / sum * v[r][i];
            }
        }
}

/* States of the last layer. */
static inline void kit_bert(const struct kit *k, const uint32_t *ids, const uint8_t *segment,
                            size_t n, double (*x)[KIT_D])
{
    static double q[KIT_CTX][KIT_D], key[KIT_CTX][KIT_D], v[KIT_CTX][KIT_D], a[KIT_CTX][KIT_D];
    double up[KIT_FF], y[KIT_D];
    char name[64];
    for (size_t t = 0; t < n; t++) {
        for (int i = 0; i < KIT_D; i++)
            x[t][i] = (double)kit_get(k, "token_embd.weight")[ids[t] * KIT_D + (uint32_t)i] +
                      (double)kit_get(k, "position_embd.weight")[t * KIT_D + (size_t)i] +
                      (double)kit_get(k, "token_types.weight")[segment[t] * KIT_D + i];
        kit_norm(k, "token_embd_norm", x[t]);
    }
    for (int l = 0; l < KIT_LAYERS; l++) {
#define PART(what) (snprintf(name, sizeof name, "blk.%d." what, l), name)
        for (size_t t = 0; t < n; t++) {
            kit_linear(k, PART("attn_q"), x[t], q[t], KIT_D, KIT_D);
            kit_linear(k, PART("attn_k"), x[t], key[t], KIT_D, KIT_D);
            kit_linear(k, PART("attn_v"), x[t], v[t], KIT_D, KIT_D);
        }
        kit_attention(q, key, v, n, a);
        for (size_t t = 0; t < n; t++) {
            kit_linear(k, PART("attn_output"), a[t], y, KIT_D, KIT_D);
            for (int i = 0; i < KIT_D; i++)
                x[t][i] += y[i];
            kit_norm(k, PART("attn_output_norm"), x[t]);
            kit_linear(k, PART("ffn_up"), x[t], up, KIT_D, KIT_FF);
            for (int i = 0; i < KIT_FF; i++)
                up[i] = up[i] / 2 * (1 + erf(up[i] / sqrt(2)));
            kit_linear(k, PART("ffn_down"), up, y, KIT_FF, KIT_D);
            for (int i = 0; i < KIT_D; i++)
                x[t][i] += y[i];
            kit_norm(k, PART("layer_output_norm"), x[t]);
        }
#undef PART
    }
}

static inline struct lr_nn_tok *kit_tok(const struct kit *k)
{
    struct lr_nn_gguf *g;
    struct lr_nn_tok *tok;
    assert_int_equal(lr_nn_gguf_open(&g, k->path, NULL, NULL), 0);
    assert_int_equal(lr_nn_tok_open(&tok, g, NULL), 0);
    lr_nn_gguf_close(g);
    return tok;
}

/* The vector of a text; false: it has none. dim KIT_HEAD with a head, KIT_D else. */
static inline bool kit_encode(const struct kit *k, const char *text, double *out)
{
    struct lr_nn_tok *tok = kit_tok(k);
    struct lr_nn_ids ids;
    static double x[KIT_CTX][KIT_D];
    static const uint8_t segment[KIT_CTX];
    double pooled[KIT_D] = {0};
    uint32_t all[KIT_CTX] = {2}, known = 0;
    size_t max = k->is_static ? KIT_CTX : KIT_CTX - 2, n;
    lr_nn_ids_init(&ids, 10000);
    assert_int_equal(lr_nn_tok_encode(tok, lr_strz(text), 0, &ids, NULL), 0);
    n = ids.n < max ? ids.n : max;
    for (size_t i = 0; i < n; i++)
        known += ids.id[i] != 1;
    if (k->is_static) {
        for (size_t t = 0; t < n; t++)
            for (int i = 0; i < KIT_D && ids.id[t] > 4; i++)
                pooled[i] += (double)kit_get(k, "token_weight.weight")[ids.id[t]] *
                             (double)kit_get(k, "token_embd.weight")[ids.id[t] * KIT_D + (uint32_t)i];
    } else {
        for (size_t t = 0; t < n; t++)
            all[t + 1] = ids.id[t];
        all[n + 1] = 3;
        kit_bert(k, all, segment, n + 2, x);
        for (size_t t = 0; t < (k->pooling == LR_EMBED_CLS ? 1 : n + 2); t++)
            for (int i = 0; i < KIT_D; i++)
                pooled[i] += x[t][i];
    }
    if (k->head)
        kit_linear(k, "head", pooled, out, KIT_D, KIT_HEAD);
    else
        memcpy(out, pooled, sizeof pooled);
    kit_unit(out, k->head ? KIT_HEAD : KIT_D);
    lr_nn_ids_free(&ids);
    lr_nn_tok_close(tok);
    return known > 0;
}

static inline void kit_str(struct lr_str texts[KIT_TEXTS])
{
    for (size_t i = 0; i < KIT_TEXTS; i++)
        texts[i] = lr_strz(kit_texts[i]);
}

#endif
