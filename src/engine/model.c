/* SPDX-License-Identifier: Apache-2.0
 * engine/model.c - what a GGUF file says about a Llama-like model, checked before it is believed.
 *
 *   metadata  ->  shape, rope       every number within a bound, every contradiction an error
 *   tensors   ->  layers            every shape checked; the error names the tensor and what was expected
 *   budget    ->  plan              the sum is known before a byte is allocated
 *
 * Matrices stay where the file has them (lr_kern_rows over the mapping); vectors are decoded to floats,
 * for they are small and every kernel wants them so.
 *
 * Architectures. One graph serves them: RMSNorm, grouped-query attention with rotary positions, gated
 * SiLU. They differ in what is optional:
 *
 *   llama, mistral  pairs of RoPE interleaved: the converters of these permute Wq and Wk so that (2p,
 *                   2p + 1) is what (p, p + d/2) was in the checkpoint. Biases where the file has them.
 *   qwen2           biases on q, k, v; pairs (p, p + d/2), nothing permuted
 *   qwen3           RMSNorm on each head of q and k before RoPE; pairs as in qwen2
 *
 * A tensor of the file that nobody here asks for means that the model computes something we do not:
 * refused by its name, as are experts, logit caps and scales. A sliding window narrower than the
 * context makes the context narrower.
 */
#include "engine/engine_int.h"

#include <stdio.h>

#define LAYERS_MAX 512u
#define HEADS_MAX 1024u
#define EMBD_MAX 65536u
#define HEAD_MAX 1024u /* elements; rows.c's put_row counts on it */
#define FF_MAX (1u << 20)
#define KV_DEFAULT LR_GIB(1)

enum { HAS_QKV_BIAS = 1, HAS_QK_NORM = 2, INTERLEAVED = 4 };
static const struct arch {
    const char *name;
    unsigned traits; /* required ones */
} archs[] = {
    {"llama", INTERLEAVED},
    {"mistral", INTERLEAVED},
    {"qwen2", HAS_QKV_BIAS},
    {"qwen3", HAS_QK_NORM},
};

struct reader {
    struct lr_engine_model *m;
    const struct arch *arch;
    struct lr_err *err;
    size_t used; /* tensors somebody asked for */
};

/* ---- metadata ---- */

static const char *key_of(const struct reader *r, const char *suffix, char key[96])
{
    snprintf(key, 96, "%s.%s", r->m->shape.arch, suffix);
    return key;
}

/* A whole number in [lo, hi]; absent: `otherwise`, or an error when that is 0. */
static int read_u32(const struct reader *r, const char *suffix, uint64_t lo, uint64_t hi,
                    uint32_t otherwise, uint32_t *out)
{
    char key[96];
    uint64_t v = 0;
    int rc = lr_nn_gguf_u64(r->m->file, key_of(r, suffix, key), &v, r->err);
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

static int read_real(const struct reader *r, const char *suffix, double lo, double hi,
                     float otherwise, float *out)
{
    char key[96];
    double v = 0;
    int rc = lr_nn_gguf_real(r->m->file, key_of(r, suffix, key), &v, r->err);
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

static int find_arch(struct reader *r)
{
    struct lr_str name;
    int rc = lr_nn_gguf_text(r->m->file, "general.architecture", &name, r->err);
    if (rc == LR_ENOENT)
        return lr_err_set(r->err, LR_EPARSE, "general.architecture", "the file names no architecture");
    LR_TRY(rc);
    for (size_t i = 0; i < LR_COUNT(archs); i++)
        if (lr_str_is(name, archs[i].name)) {
            r->arch = &archs[i];
            snprintf(r->m->shape.arch, sizeof r->m->shape.arch, "%s", archs[i].name);
            return 0;
        }
    return lr_err_set(r->err, LR_EUNSUPPORTED, "general.architecture",
                      "architecture '%.*s' is not supported (llama, mistral, qwen2, qwen3 are)",
                      (int)MIN_OF(name.n, 64), name.p);
}

/* Keys whose presence with another value than `neutral` means another computation. */
static int refuse_foreign(const struct reader *r)
{
    static const struct {
        const char *suffix;
        float neutral;
    } foreign[] = {
        {"expert_count", 0},       {"logit_scale", 1},  {"embedding_scale", 1},
        {"residual_scale", 1},     {"attention.scale", 0}, {"final_logit_softcapping", 0},
        {"attn_logit_softcapping", 0}, {"attention.clamp_kqv", 0},
    };
    for (size_t i = 0; i < LR_COUNT(foreign); i++) {
        float v;
        LR_TRY(read_real(r, foreign[i].suffix, -1e30, 1e30, foreign[i].neutral, &v));
        char key[96];
        if (v < foreign[i].neutral || v > foreign[i].neutral)
            return lr_err_set(r->err, LR_EUNSUPPORTED, key_of(r, foreign[i].suffix, key),
                              "models with %s are not supported", foreign[i].suffix);
    }
    return 0;
}

static int read_heads(const struct reader *r)
{
    struct lr_engine_shape *h = &r->m->shape;
    LR_TRY(read_u32(r, "attention.head_count", 1, HEADS_MAX, 0, &h->n_head));
    LR_TRY(read_u32(r, "attention.head_count_kv", 1, HEADS_MAX, h->n_head, &h->n_kv));
    uint32_t d = h->n_embd / h->n_head, v;
    LR_TRY(read_u32(r, "attention.key_length", 2, HEAD_MAX, d, &h->d_head));
    LR_TRY(read_u32(r, "attention.value_length", 2, HEAD_MAX, d, &v));
    LR_TRY(read_u32(r, "rope.dimension_count", 2, 512, h->d_head, &h->n_rot));
    if (h->n_head % h->n_kv)
        return lr_err_set(r->err, LR_EPARSE, "attention.head_count_kv",
                          "%u query heads do not divide by %u KV heads", h->n_head, h->n_kv);
    if (h->d_head < 2 || h->d_head > HEAD_MAX || v != h->d_head)
        return lr_err_set(r->err, LR_EUNSUPPORTED, "attention.value_length",
                          "keys of %u and values of %u elements are not supported", h->d_head, v);
    if (h->n_rot > h->d_head || h->n_rot % 2 || h->n_rot > 512)
        return lr_err_set(r->err, LR_EPARSE, "rope.dimension_count",
                          "%u rotated elements in a head of %u", h->n_rot, h->d_head);
    return 0;
}

static int read_shape(const struct reader *r)
{
    struct lr_engine_shape *h = &r->m->shape;
    uint32_t window = 0;
    LR_TRY(refuse_foreign(r));
    LR_TRY(read_u32(r, "block_count", 1, LAYERS_MAX, 0, &h->n_layer));
    LR_TRY(read_u32(r, "embedding_length", 2, EMBD_MAX, 0, &h->n_embd));
    LR_TRY(read_u32(r, "feed_forward_length", 1, FF_MAX, 0, &h->n_ff));
    LR_TRY(read_u32(r, "context_length", 1, LR_ENGINE_POS_MAX, 0, &h->n_ctx));
    LR_TRY(read_u32(r, "attention.sliding_window", 0, UINT32_MAX, UINT32_MAX, &window));
    if (window)
        h->n_ctx = MIN_OF(h->n_ctx, window);
    LR_TRY(read_heads(r));
    LR_TRY(read_real(r, "attention.layer_norm_rms_epsilon", 0, 1, 1e-5f, &h->eps));
    h->interleaved = r->arch->traits & INTERLEAVED;
    return 0;
}

/* ---- rope ---- */

static int read_yarn(const struct reader *r, struct lr_kern_rope *c)
{
    float attn;
    uint32_t ctx;
    LR_TRY(read_u32(r, "rope.scaling.original_context_length", 1, LR_ENGINE_POS_MAX,
                    r->m->shape.n_ctx, &ctx));
    LR_TRY(read_real(r, "rope.scaling.attn_factor", 1e-3, 1e3, 1, &attn));
    LR_TRY(read_real(r, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 0, &c->beta_fast));
    LR_TRY(read_real(r, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 0, &c->beta_slow));
    c->yarn_ctx = (float)ctx;
    c->attn = attn * (1.0f + 0.1f * logf(1.0f / c->scale));
    return 0;
}

static int read_rope(const struct reader *r)
{
    struct lr_kern_rope *c = &r->m->rope;
    char key[96];
    float factor = 1;
    struct lr_str type = LR_STR("none");
    c->n_rot = r->m->shape.n_rot;
    LR_TRY(read_real(r, "rope.freq_base", 1, 1e12, 10000, &c->base));
    r->m->shape.rope_base = c->base;
    LR_TRY(read_real(r, "rope.scale_linear", 1e-3, 1e6, 1, &factor)); /* of old files */
    if (factor > 1 || factor < 1)
        type = LR_STR("linear");
    int rc = lr_nn_gguf_text(r->m->file, key_of(r, "rope.scaling.type", key), &type, r->err);
    LR_FAIL_IF(rc && rc != LR_ENOENT, rc);
    LR_TRY(read_real(r, "rope.scaling.factor", 0, 1e6, factor, &factor));
    if (lr_str_is(type, "none") || !type.n)
        return 0;
    if (!lr_str_is(type, "linear") && !lr_str_is(type, "yarn"))
        return lr_err_set(r->err, LR_EUNSUPPORTED, key_of(r, "rope.scaling.type", key),
                          "RoPE scaling '%.*s' is not supported (none, linear, yarn are)",
                          (int)MIN_OF(type.n, 64), type.p);
    c->scale = factor > 0 ? 1.0f / factor : 1.0f;
    return lr_str_is(type, "yarn") ? read_yarn(r, c) : 0;
}

/* ---- tensors ---- */

/* A tensor of those dimensions (b == 0: a vector). optional: NULL in *out when absent. */
static int find_tensor(struct reader *r, const char *name, uint64_t a, uint64_t b, bool optional,
                       const struct lr_nn_tensor **out)
{
    const struct lr_nn_tensor *t = lr_nn_gguf_tensor(r->m->file, name);
    *out = t;
    if (!t && optional)
        return 0;
    if (!t)
        return lr_err_set(r->err, LR_EPARSE, name, "the model file lacks tensor '%s'", name);
    if (t->ne[0] != a || t->ne[1] != (b ? b : 1) || t->ne[2] != 1 || t->ne[3] != 1)
        return lr_err_set(r->err, LR_EPARSE, name,
                          "tensor '%s' is %llu x %llu x %llu x %llu, expected %llu x %llu", name,
                          (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                          (unsigned long long)t->ne[2], (unsigned long long)t->ne[3],
                          (unsigned long long)a, (unsigned long long)(b ? b : 1));
    r->used++;
    r->m->bytes_weights += t->bytes;
    return 0;
}

static int kern_type(const struct reader *r, const struct lr_nn_tensor *t, enum lr_kern_type *out)
{
    const char *name = lr_nn_type_info(t->type)->name;
    int type = lr_kern_type_find(lr_strz(name));
    if (type < 0 || type == LR_KERN_I4R)
        return lr_err_set(r->err, LR_EUNSUPPORTED, "tensor type", "weights of type %s are not supported",
                          name);
    *out = (enum lr_kern_type)type;
    return 0;
}

static int read_matrix(struct reader *r, const char *name, uint32_t cols, uint32_t rows,
                       struct lr_kern_rows *out)
{
    const struct lr_nn_tensor *t;
    LR_TRY(find_tensor(r, name, cols, rows, false, &t));
    LR_TRY(kern_type(r, t, &out->type));
    out->p = t->data;
    out->n = rows;
    out->stride = lr_kern_row_bytes(out->type, cols);
    if (!out->stride || out->stride * rows != t->bytes)
        return lr_err_set(r->err, LR_EPARSE, name, "tensor '%s' has %llu bytes, not %llu", name,
                          (unsigned long long)t->bytes, (unsigned long long)(out->stride * rows));
    return 0;
}

/* A vector as floats of our own; NULL when it may be absent and is. */
static int read_vector(struct reader *r, const char *name, uint32_t n, bool optional, float **out)
{
    const struct lr_nn_tensor *t;
    LR_TRY(find_tensor(r, name, n, 0, optional, &t));
    if (!t)
        return 0;
    float *p = lr_calloc(n, sizeof *p);
    LR_FAIL_IF(!p, lr_err_set(r->err, LR_ENOMEM, name, "out of memory"));
    int rc = lr_nn_decode(t->type, t->data, n, p);
    if (rc) {
        lr_free(p);
        return lr_err_set(r->err, rc, name, "tensor '%s' cannot be decoded", name);
    }
    r->m->bytes_weights += n * sizeof *p - t->bytes; /* instead of the mapped bytes */
    *out = p;
    return 0;
}

static const char *blk(char name[64], uint32_t layer, const char *what)
{
    snprintf(name, 64, "blk.%u.%s", layer, what);
    return name;
}

static int read_layer(struct reader *r, uint32_t i)
{
    const struct lr_engine_shape *h = &r->m->shape;
    struct layer *l = &r->m->layers[i];
    uint32_t q = h->n_head * h->d_head, kv = h->n_kv * h->d_head;
    bool no_bias = !(r->arch->traits & HAS_QKV_BIAS), no_norm = !(r->arch->traits & HAS_QK_NORM);
    char n[64];
    LR_TRY(read_vector(r, blk(n, i, "attn_norm.weight"), h->n_embd, false, &l->attn_norm));
    LR_TRY(read_matrix(r, blk(n, i, "attn_q.weight"), h->n_embd, q, &l->wq));
    LR_TRY(read_matrix(r, blk(n, i, "attn_k.weight"), h->n_embd, kv, &l->wk));
    LR_TRY(read_matrix(r, blk(n, i, "attn_v.weight"), h->n_embd, kv, &l->wv));
    LR_TRY(read_vector(r, blk(n, i, "attn_q.bias"), q, no_bias, &l->bq));
    LR_TRY(read_vector(r, blk(n, i, "attn_k.bias"), kv, no_bias, &l->bk));
    LR_TRY(read_vector(r, blk(n, i, "attn_v.bias"), kv, no_bias, &l->bv));
    if (!no_norm) {
        LR_TRY(read_vector(r, blk(n, i, "attn_q_norm.weight"), h->d_head, false, &l->q_norm));
        LR_TRY(read_vector(r, blk(n, i, "attn_k_norm.weight"), h->d_head, false, &l->k_norm));
    }
    LR_TRY(read_matrix(r, blk(n, i, "attn_output.weight"), q, h->n_embd, &l->wo));
    LR_TRY(read_vector(r, blk(n, i, "attn_output.bias"), h->n_embd, true, &l->bo));
    LR_TRY(read_vector(r, blk(n, i, "ffn_norm.weight"), h->n_embd, false, &l->ffn_norm));
    LR_TRY(read_matrix(r, blk(n, i, "ffn_gate.weight"), h->n_embd, h->n_ff, &l->gate));
    LR_TRY(read_matrix(r, blk(n, i, "ffn_up.weight"), h->n_embd, h->n_ff, &l->up));
    return read_matrix(r, blk(n, i, "ffn_down.weight"), h->n_ff, h->n_embd, &l->down);
}

/* The vocabulary's size is the embedding's. */
static int read_ends(struct reader *r)
{
    struct lr_engine_model *m = r->m;
    struct lr_engine_shape *h = &m->shape;
    const struct lr_nn_tensor *t = lr_nn_gguf_tensor(m->file, "token_embd.weight");
    if (!t)
        return lr_err_set(r->err, LR_EPARSE, "token_embd.weight",
                          "the model file lacks tensor 'token_embd.weight'");
    if (t->ne[1] < 1 || t->ne[1] > LR_NN_VOCAB_MAX)
        return lr_err_set(r->err, LR_EOVER, "token_embd.weight", "%llu tokens, expected 1 to %u",
                          (unsigned long long)t->ne[1], LR_NN_VOCAB_MAX);
    h->n_vocab = (uint32_t)t->ne[1];
    LR_TRY(read_matrix(r, "token_embd.weight", h->n_embd, h->n_vocab, &m->embd));
    LR_TRY(read_vector(r, "output_norm.weight", h->n_embd, false, &m->out_norm));
    h->tied = !lr_nn_gguf_tensor(m->file, "output.weight");
    if (h->tied)
        m->output = m->embd;
    else
        LR_TRY(read_matrix(r, "output.weight", h->n_embd, h->n_vocab, &m->output));
    LR_TRY(read_vector(r, "rope_freqs.weight", h->n_rot / 2, true, &m->rope_factors));
    for (uint32_t i = 0; m->rope_factors && i < h->n_rot / 2; i++)
        if (!(m->rope_factors[i] > 0 && m->rope_factors[i] < INFINITY))
            return lr_err_set(r->err, LR_EPARSE, "rope_freqs.weight",
                              "factor %u of 'rope_freqs.weight' is not a positive number", i);
    m->rope.factors = m->rope_factors;
    return 0;
}

/* Names the first tensor that was not asked for. */
static int refuse_rest(const struct reader *r)
{
    static const char *const known[] = {
        "attn_norm.weight", "attn_q.weight",   "attn_k.weight",      "attn_v.weight",
        "attn_q.bias",      "attn_k.bias",     "attn_v.bias",        "attn_output.weight",
        "attn_output.bias", "ffn_norm.weight", "ffn_gate.weight",    "ffn_up.weight",
        "ffn_down.weight",  NULL,              "attn_q_norm.weight", "attn_k_norm.weight",
    };
    const struct lr_nn_gguf *g = r->m->file;
    if (r->used == lr_nn_gguf_tensors(g))
        return 0;
    for (size_t i = 0; i < lr_nn_gguf_tensors(g); i++) {
        struct lr_str name = lr_nn_gguf_at(g, i)->name, rest = name;
        if (lr_str_is(name, "token_embd.weight") || lr_str_is(name, "output_norm.weight") ||
            lr_str_is(name, "output.weight") || lr_str_is(name, "rope_freqs.weight"))
            continue;
        uint64_t layer = UINT64_MAX;
        bool ours = lr_str_is(lr_str_cut(&rest, '.'), "blk") &&
                    lr_parse_u64(lr_str_cut(&rest, '.'), &layer) == 0 &&
                    layer < r->m->shape.n_layer;
        size_t k = 0;
        while (k < LR_COUNT(known) && !(known[k] && lr_str_is(rest, known[k])))
            k++;
        if (!ours || k == LR_COUNT(known) || (k > 13 && !(r->arch->traits & HAS_QK_NORM)))
            return lr_err_set(r->err, LR_EUNSUPPORTED, "tensors",
                              "tensor '%.*s' belongs to no %s model that is supported",
                              (int)MIN_OF(name.n, 96), name.p, r->arch->name);
    }
    return 0;
}

/* ---- opening ---- */

static int read_all(struct reader *r)
{
    struct lr_engine_model *m = r->m;
    LR_TRY(find_arch(r));
    LR_TRY(read_shape(r));
    LR_TRY(read_rope(r));
    m->layers = lr_calloc(m->shape.n_layer, sizeof *m->layers);
    LR_FAIL_IF(!m->layers, lr_err_set(r->err, LR_ENOMEM, "layers", "out of memory"));
    LR_TRY(read_ends(r));
    for (uint32_t i = 0; i < m->shape.n_layer; i++)
        LR_TRY(read_layer(r, i));
    return refuse_rest(r);
}

static int open_file(struct lr_engine_model **out, struct lr_nn_gguf *file, struct lr_err *err)
{
    struct lr_engine_model *m = lr_new(struct lr_engine_model);
    if (!m) {
        lr_nn_gguf_close(file);
        return lr_err_set(err, LR_ENOMEM, "model", "out of memory");
    }
    m->file = file;
    struct reader r = {.m = m, .err = err};
    int rc = read_all(&r);
    if (rc) {
        lr_engine_model_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int lr_engine_model_open(struct lr_engine_model **out, const char *path, struct lr_err *err)
{
    struct lr_nn_gguf *g;
    LR_TRY(lr_nn_gguf_open(&g, path, NULL, err));
    return open_file(out, g, err);
}

int lr_engine_model_open_mem(struct lr_engine_model **out, struct lr_str bytes, struct lr_err *err)
{
    struct lr_nn_gguf *g;
    LR_TRY(lr_nn_gguf_open_mem(&g, bytes, err));
    return open_file(out, g, err);
}

static void free_layer(struct layer *l)
{
    float *owned[] = {l->attn_norm, l->ffn_norm, l->bq,     l->bk,
                      l->bv,        l->bo,       l->q_norm, l->k_norm};
    for (size_t i = 0; i < LR_COUNT(owned); i++)
        lr_free(owned[i]);
}

void lr_engine_model_close(struct lr_engine_model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; m->layers && i < m->shape.n_layer; i++)
        free_layer(&m->layers[i]);
    lr_free(m->layers);
    lr_free(m->out_norm);
    lr_free(m->rope_factors);
    lr_nn_gguf_close(m->file);
    lr_free(m);
}

const struct lr_engine_shape *lr_engine_model_shape(const struct lr_engine_model *m)
{
    return &m->shape;
}

const struct lr_nn_gguf *lr_engine_model_file(const struct lr_engine_model *m)
{
    return m->file;
}

/* ---- the plan ---- */

#define MIB(n) (double)(n) / (1 << 20)

int lr_engine_plan(const struct lr_engine_model *m, const struct lr_engine_opts *o,
                   struct lr_engine_plan *out, struct lr_err *err)
{
    const struct lr_engine_codec *codec = o->codec ? o->codec : lr_engine_codec_find(LR_STR("f16"));
    struct lr_engine_plan p = {.bytes_weights = m->bytes_weights,
                               .bytes_scratch = lr_engine_scratch_bytes(m, o->threads)};
    struct layout l;
    if (lr_engine_layout(codec, m->shape.d_head, &l))
        return lr_err_set(err, LR_EINVAL, "codec", "rows of %u elements cannot have the codec %s",
                          m->shape.d_head, codec->name);
    uint64_t group = (uint64_t)l.granules * GRANULE * m->shape.n_layer * m->shape.n_kv;
    uint64_t fixed = p.bytes_weights + p.bytes_scratch;
    uint64_t left = !o->bytes_max ? UINT64_MAX : o->bytes_max > fixed ? o->bytes_max - fixed : 0;
    uint64_t wanted = o->kv_max ? o->kv_max : MIN_OF((uint64_t)KV_DEFAULT, left);
    uint64_t least = group * (LR_ENGINE_TILE / PAGE_ROWS);
    if (wanted < least || wanted > left)
        return lr_err_set(err, LR_EOVER, "memory",
                          "the model does not fit: weights %.1f MiB, scratch %.1f MiB, KV %.1f MiB "
                          "(at least %.1f); the limit is %.1f MiB",
                          MIB(p.bytes_weights), MIB(p.bytes_scratch), MIB(wanted), MIB(least),
                          o->bytes_max ? MIB(o->bytes_max) : MIB(o->kv_max));
    p.bytes_kv = wanted / GRANULE * GRANULE;
    p.bytes_kv_token = (group + PAGE_ROWS - 1) / PAGE_ROWS;
    p.tokens = p.bytes_kv / group * PAGE_ROWS;
    p.bytes_total = fixed + p.bytes_kv;
    *out = p;
    return 0;
}
