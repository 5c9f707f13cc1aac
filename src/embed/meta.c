/* SPDX-License-Identifier: Apache-2.0
 * embed/meta.c - what a GGUF file says about an encoder, checked before it is believed, and the
 * same written down again (docs/formats/embed.md).
 *
 * Architecture "bert" is read as other programs write it: post-norm layers, absolute positions,
 * GELU by the error function, attention to both sides. "larder-static" is ours: a table of vectors,
 * a weight a token, perhaps a head. A BERT with pooling type RANK, or with a classifier's tensors,
 * is a pair verifier; larder.pair.scale and .bias calibrate it. An encoder's file may hold a verifier
 * beside it: "pair.blk.N" and "pair.cls" in the place of the encoder's own, all else is shared.
 *
 * Layers and positions may be few by mistake (the tensors will not fit and say so), never many:
 * every number has its maximum, and products of two of them fit 64 bits.
 */
#include "embed/embed_int.h"

#include <stdio.h>

struct reader {
    const struct lr_nn_gguf *g;
    const char *arch;
    struct lr_err *err;
};

static const char *key_of(const struct reader *r, const char *suffix, char key[96])
{
    snprintf(key, 96, "%s.%s", r->arch, suffix);
    return key;
}

/* A whole number in [lo, hi]; absent: `otherwise`, or an error when that is 0. */
static int read_u32(const struct reader *r, const char *suffix, uint64_t lo, uint64_t hi,
                    uint32_t otherwise, uint32_t *out)
{
    char key[96];
    uint64_t v = 0;
    int rc = lr_nn_gguf_u64(r->g, key_of(r, suffix, key), &v, r->err);
    if (rc == LR_ENOENT && otherwise) {
        *out = otherwise;
        return 0;
    }
    if (rc == LR_ENOENT)
        return lr_err_set(r->err, LR_EPARSE, key, "the model file lacks %s", key);
    LR_TRY(rc);
    if (v < lo || v > hi)
        return lr_err_set(r->err, LR_EOVER, key, "%s is %llu, expected %llu to %llu", key,
                          (unsigned long long)v, (unsigned long long)lo, (unsigned long long)hi);
    *out = (uint32_t)v;
    return 0;
}

/* The same for a real number, by its whole key. */
static int read_real(const struct reader *r, const char *key, double lo, double hi, float otherwise,
                     float *out)
{
    double v = 0;
    int rc = lr_nn_gguf_real(r->g, key, &v, r->err);
    if (rc == LR_ENOENT) {
        *out = otherwise;
        return 0;
    }
    LR_TRY(rc);
    if (!(v >= lo && v <= hi))
        return lr_err_set(r->err, LR_EOVER, key, "%s is %g, expected %g to %g", key, v, lo, hi);
    *out = (float)v;
    return 0;
}

/* Printable ASCII of a text from a file. */
static void copy_name(char out[MODEL_NAME_MAX], struct lr_str name)
{
    size_t n = MIN_OF(name.n, MODEL_NAME_MAX - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = name.p[i] >= ' ' && name.p[i] < 127 ? name.p[i] : '?';
    out[n] = 0;
}

static int read_heads(const struct reader *r, struct spec *s)
{
    bool causal = false;
    char key[96];
    LR_TRY(read_u32(r, "attention.head_count", 1, LR_EMBED_DIM_MAX, 0, &s->n_head));
    if (s->n_embd % s->n_head)
        return lr_err_set(r->err, LR_EPARSE, "attention.head_count",
                          "%u elements do not divide by %u heads", s->n_embd, s->n_head);
    int rc = lr_nn_gguf_bool(r->g, key_of(r, "attention.causal", key), &causal, r->err);
    LR_FAIL_IF(rc && rc != LR_ENOENT, rc);
    if (causal)
        return lr_err_set(r->err, LR_EUNSUPPORTED, key, "causal attention is not supported");
    return 0;
}

static int read_pooling(const struct reader *r, struct spec *s)
{
    uint32_t type = 0;
    LR_TRY(read_u32(r, "pooling_type", 0, 4, LR_EMBED_MEAN, &type));
    bool ranks = lr_nn_gguf_tensor(r->g, "cls.output.weight") != NULL;
    if (type != LR_EMBED_MEAN && type != LR_EMBED_CLS && type != LR_EMBED_RANK && !ranks)
        return lr_err_set(r->err, LR_EUNSUPPORTED, "pooling_type",
                          "pooling type %u is not supported (1 mean, 2 CLS, 4 rank are)", type);
    if (type == LR_EMBED_RANK && !ranks)
        return lr_err_set(r->err, LR_EPARSE, "cls.output.weight",
                          "the model file lacks tensor 'cls.output.weight'");
    s->pooling = ranks ? LR_EMBED_RANK : (enum lr_embed_pooling)type;
    s->kind = ranks ? LR_EMBED_PAIR : LR_EMBED_BERT;
    s->both = !ranks && lr_nn_gguf_tensor(r->g, "pair.cls.output.weight") != NULL;
    return 0;
}

static int read_bert(const struct reader *r, struct spec *s)
{
    char key[96];
    LR_TRY(read_u32(r, "block_count", 1, LR_EMBED_LAYERS_MAX, 0, &s->n_layer));
    LR_TRY(read_u32(r, "feed_forward_length", 1, LR_EMBED_FF_MAX, 0, &s->n_ff));
    LR_TRY(read_heads(r, s));
    LR_TRY(read_pooling(r, s));
    LR_TRY(read_real(r, key_of(r, "attention.layer_norm_epsilon", key), 0, 1, 1e-12f, &s->eps));
    LR_TRY(read_real(r, "larder.pair.scale", 1e-3, 1e3, 1, &s->scale));
    return read_real(r, "larder.pair.bias", -1e3, 1e3, 0, &s->bias);
}

int lr_embed_meta_read(struct spec *out, const struct lr_nn_gguf *g, struct lr_err *err)
{
    struct lr_str arch, name = {NULL, 0};
    struct spec s = {.scale = 1};
    struct reader r = {.g = g, .err = err};
    int rc = lr_nn_gguf_text(g, "general.architecture", &arch, err);
    if (rc == LR_ENOENT)
        return lr_err_set(err, LR_EPARSE, "general.architecture", "the file names no architecture");
    LR_TRY(rc);
    if (lr_str_is(arch, ARCH_BERT))
        r.arch = ARCH_BERT;
    else if (lr_str_is(arch, ARCH_STATIC))
        r.arch = ARCH_STATIC;
    else
        return lr_err_set(err, LR_EUNSUPPORTED, "general.architecture",
                          "architecture '%.*s' is no encoder (" ARCH_BERT ", " ARCH_STATIC " are)",
                          (int)MIN_OF(arch.n, 64u), arch.p);
    rc = lr_nn_gguf_text(g, "general.name", &name, NULL);
    copy_name(s.name, rc ? LR_STR("") : name);
    LR_TRY(read_u32(&r, "embedding_length", 1, LR_EMBED_DIM_MAX, 0, &s.n_embd));
    LR_TRY(read_u32(&r, "context_length", 3, LR_EMBED_TOKENS_MAX, 0, &s.n_ctx));
    s.tokens_max = s.n_ctx;
    s.kind = LR_EMBED_STATIC;
    if (!strcmp(r.arch, ARCH_BERT)) {
        /* How long texts were in training, where a folder said so. */
        LR_TRY(read_u32(&r, "larder.tokens_max", 3, s.n_ctx, s.n_ctx, &s.tokens_max));
        LR_TRY(read_bert(&r, &s));
    }
    *out = s;
    return 0;
}

int lr_embed_tok_check(const struct lr_nn_tok *tok, const struct spec *spec, struct lr_err *err)
{
    const struct lr_nn_roles *roles = lr_nn_tok_roles(tok);
    if (lr_nn_tok_kind(tok) != LR_NN_WORDPIECE)
        return lr_err_set(err, LR_EUNSUPPORTED, "tokeniser", "encoders need a WordPiece tokeniser");
    if (roles->unk == LR_NN_NO_TOKEN)
        return lr_err_set(err, LR_EPARSE, "vocabulary", "there is no unknown token");
    if (spec->kind != LR_EMBED_STATIC &&
        (roles->cls == LR_NN_NO_TOKEN || roles->sep == LR_NN_NO_TOKEN))
        return lr_err_set(err, LR_EPARSE, "vocabulary", "there is no CLS or SEP token");
    return 0;
}

int lr_embed_meta_tok(struct lr_nn_tok **out, const struct lr_nn_gguf *g, const struct spec *spec,
                      struct lr_err *err)
{
    struct lr_nn_tok *tok;
    LR_TRY(lr_nn_tok_open(&tok, g, err));
    int rc = lr_embed_tok_check(tok, spec, err);
    if (rc) {
        lr_nn_tok_close(tok);
        return rc;
    }
    *out = tok;
    return 0;
}

static int put_u32(struct lr_nn_gguf_writer *w, const char *arch, const char *suffix, uint32_t v)
{
    char key[96];
    struct reader r = {.arch = arch};
    return lr_nn_gguf_put_u32(w, key_of(&r, suffix, key), v);
}

int lr_embed_meta_put(struct lr_nn_gguf_writer *w, const struct spec *s)
{
    const char *arch = s->kind == LR_EMBED_STATIC ? ARCH_STATIC : ARCH_BERT;
    char key[96];
    struct reader r = {.arch = arch};
    LR_TRY(lr_nn_gguf_put_text(w, "general.architecture", lr_strz(arch)));
    LR_TRY(lr_nn_gguf_put_text(w, "general.name", lr_strz(s->name)));
    LR_TRY(put_u32(w, arch, "embedding_length", s->n_embd));
    LR_TRY(put_u32(w, arch, "context_length", s->n_ctx));
    if (s->kind == LR_EMBED_STATIC)
        return 0;
    LR_TRY(put_u32(w, arch, "larder.tokens_max", s->tokens_max));
    LR_TRY(put_u32(w, arch, "block_count", s->n_layer));
    LR_TRY(put_u32(w, arch, "feed_forward_length", s->n_ff));
    LR_TRY(put_u32(w, arch, "attention.head_count", s->n_head));
    LR_TRY(put_u32(w, arch, "pooling_type", s->pooling));
    LR_TRY(lr_nn_gguf_put_bool(w, key_of(&r, "attention.causal", key), false));
    LR_TRY(lr_nn_gguf_put_f32(w, key_of(&r, "attention.layer_norm_epsilon", key), s->eps));
    if (s->kind == LR_EMBED_BERT)
        return 0;
    LR_TRY(lr_nn_gguf_put_f32(w, "larder.pair.scale", s->scale));
    return lr_nn_gguf_put_f32(w, "larder.pair.bias", s->bias);
}
