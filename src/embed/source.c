/* SPDX-License-Identifier: Apache-2.0
 * embed/source.c - where an encoder's tensors come from: a GGUF file or a safetensors file, by the
 * names of the former, checked, copied, and digested.
 *
 *   "blk.3.attn_q.weight" --+-- GGUF: as it is
 *                           +-- safetensors: "bert.encoder.layer.3.attention.self.query.weight"
 *
 * Everything is copied (one owner, no mapped page that could vanish): encoders are tens of
 * megabytes. Matrices of floats become Q8_0 on the way unless the caller wants them exact: 1.06
 * bytes a weight. What is digested is the copy, with its name, type and shape, so that the id
 * belongs to the numbers that are used and not to the file that brought them.
 *
 * Checkpoints of 2018 call the parameters of a layer norm gamma and beta; both spellings are found.
 */
#include "embed/embed_int.h"

#include <stdio.h>

/* ---- names ---- */

static const struct {
    const char *gguf, *hf; /* without the "bert." some checkpoints have in front */
    bool bare;             /* never with it */
} tops[] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", false},
    {"position_embd.weight", "embeddings.position_embeddings.weight", false},
    {"token_types.weight", "embeddings.token_type_embeddings.weight", false},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", false},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", false},
    {"cls.weight", "pooler.dense.weight", false},
    {"cls.bias", "pooler.dense.bias", false},
    {"cls.output.weight", "classifier.weight", true},
    {"cls.output.bias", "classifier.bias", true},
};
static const struct {
    const char *gguf, *hf;
} parts[] = {
    {"attn_q", "attention.self.query"},
    {"attn_k", "attention.self.key"},
    {"attn_v", "attention.self.value"},
    {"attn_output", "attention.output.dense"},
    {"attn_output_norm", "attention.output.LayerNorm"},
    {"ffn_up", "intermediate.dense"},
    {"ffn_down", "output.dense"},
    {"layer_output_norm", "output.LayerNorm"},
};

/* "blk.3.attn_q.weight" -> layer 3, "attn_q", "weight". */
static bool split(struct lr_str name, uint64_t *layer, struct lr_str *part, struct lr_str *kind)
{
    struct lr_str rest = name;
    if (!lr_str_is(lr_str_cut(&rest, '.'), "blk") ||
        lr_parse_u64(lr_str_cut(&rest, '.'), layer) != 0)
        return false;
    *part = lr_str_cut(&rest, '.');
    *kind = rest;
    return lr_str_is(*kind, "weight") || lr_str_is(*kind, "bias");
}

bool lr_embed_bert_known(struct lr_str name)
{
    uint64_t layer;
    struct lr_str part, kind;
    for (size_t i = 0; i < LR_COUNT(tops); i++)
        if (lr_str_is(name, tops[i].gguf))
            return true;
    if (lr_str_is(name, "head.weight"))
        return true;
    if (!split(name, &layer, &part, &kind))
        return false;
    for (size_t i = 0; i < LR_COUNT(parts); i++)
        if (lr_str_is(part, parts[i].gguf))
            return true;
    return false;
}

/* The safetensors name; false: there is none. */
static bool hf_name(const struct source *s, const char *name, char out[128])
{
    uint64_t layer = 0;
    struct lr_str part, kind;
    for (size_t i = 0; i < LR_COUNT(tops); i++)
        if (!strcmp(name, tops[i].gguf))
            return snprintf(out, 128, "%s%s", tops[i].bare ? "" : s->prefix, tops[i].hf) > 0;
    if (!split(lr_strz(name), &layer, &part, &kind))
        return false;
    for (size_t i = 0; i < LR_COUNT(parts); i++)
        if (lr_str_is(part, parts[i].gguf))
            return snprintf(out, 128, "%sencoder.layer.%u.%s.%.*s", s->prefix, (unsigned)layer,
                            parts[i].hf, LR_FMT(kind)) > 0;
    return false;
}

/* The same with "LayerNorm.gamma" for "LayerNorm.weight". */
static bool old_name(char name[128])
{
    char *p = strstr(name, "LayerNorm.weight");
    if (p)
        memcpy(p + 10, "gamma", 6);
    else if ((p = strstr(name, "LayerNorm.bias")) != NULL)
        memcpy(p + 10, "beta", 5);
    return p != NULL;
}

void lr_embed_source_st(struct source *s, const struct lr_nn_st *st, struct lr_err *err)
{
    *s = (struct source){.st = st, .prefix = "", .err = err};
    if (lr_nn_st_tensor(st, "bert.embeddings.word_embeddings.weight"))
        s->prefix = "bert.";
}

const struct lr_nn_tensor *lr_embed_source_find(const struct source *s, const char *name)
{
    char hf[128];
    if (s->g && s->pair) {
        snprintf(hf, sizeof hf, PAIR_PREFIX "%s", name);
        const struct lr_nn_tensor *own = lr_nn_gguf_tensor(s->g, hf);
        return own ? own : lr_nn_gguf_tensor(s->g, name);
    }
    if (s->g)
        return lr_nn_gguf_tensor(s->g, name);
    if (!hf_name(s, name, hf))
        return NULL;
    const struct lr_nn_tensor *t = lr_nn_st_tensor(s->st, hf);
    return t || !old_name(hf) ? t : lr_nn_st_tensor(s->st, hf);
}

/* ---- typed reads ---- */

int lr_embed_source_get(struct source *s, const char *name, uint64_t cols, uint64_t rows,
                        bool optional, const struct lr_nn_tensor **out)
{
    const struct lr_nn_tensor *t = lr_embed_source_find(s, name);
    *out = t;
    if (!t && optional)
        return 0;
    if (!t)
        return lr_err_set(s->err, LR_EPARSE, name, "the model lacks tensor '%s'", name);
    if (t->ne[0] != cols || t->ne[1] != (rows ? rows : 1) || t->ne[2] != 1 || t->ne[3] != 1)
        return lr_err_set(s->err, LR_EPARSE, name,
                          "tensor '%s' is %llu x %llu x %llu x %llu, expected %llu x %llu", name,
                          (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                          (unsigned long long)t->ne[2], (unsigned long long)t->ne[3],
                          (unsigned long long)cols, (unsigned long long)(rows ? rows : 1));
    s->used++;
    return 0;
}

static int charge(struct source *s, const char *name, uint64_t bytes, uint64_t weights)
{
    if (bytes > LR_EMBED_BYTES_MAX || *s->bytes > LR_EMBED_BYTES_MAX - bytes)
        return lr_err_set(s->err, LR_EOVER, name, "more than %llu bytes of weights",
                          (unsigned long long)LR_EMBED_BYTES_MAX);
    *s->bytes += bytes;
    *s->weights += weights;
    return 0;
}

static void digest(struct source *s, const char *name, const char *type, uint64_t cols,
                   uint64_t rows, const void *p, size_t n)
{
    lr_blake3_add_str(&s->id, lr_strz(name));
    lr_blake3_add_str(&s->id, lr_strz(type));
    lr_blake3_add_u64(&s->id, cols);
    lr_blake3_add_u64(&s->id, rows);
    lr_blake3_add_str(&s->id, lr_str(p, n));
}

static bool is_float(enum lr_nn_type t)
{
    return t == LR_NN_F32 || t == LR_NN_F16 || t == LR_NN_BF16 || t == LR_NN_F64;
}

/* n elements from element `at`, as floats; false: not finite. */
static bool floats_at(const struct lr_nn_tensor *t, uint64_t at, size_t n, float *out)
{
    const struct lr_nn_type_info *info = lr_nn_type_info(t->type);
    const char *p = (const char *)t->data + at / info->block * info->block_bytes;
    if (t->type == LR_NN_F64)
        for (size_t i = 0; i < n; i++) {
            double v;
            memcpy(&v, p + i * sizeof v, sizeof v);
            out[i] = (float)v;
        }
    else if (lr_nn_decode(t->type, p, n, out))
        return false;
    float worst = 0;
    for (size_t i = 0; i < n; i++)
        worst += out[i] * 0.0f; /* NaN as soon as one is not finite */
    return worst == 0;
}

static int bad_numbers(const struct source *s, const char *name)
{
    return lr_err_set(s->err, LR_EPARSE, name, "tensor '%s' holds a number that is not finite",
                      name);
}

/* Row by row through floats into m->own, of type m->rows.type. The floats are looked at whatever
 * the type: a scale that is no number spoils every product. */
static int fill(struct source *s, const char *name, const struct lr_nn_tensor *t, bool recode,
                struct matrix *m)
{
    float *row = lr_calloc(m->cols, sizeof *row);
    if (!row)
        return lr_err_set(s->err, LR_ENOMEM, name, "out of memory");
    int rc = 0;
    for (size_t r = 0; r < m->rows.n && !rc; r++) {
        if (!floats_at(t, (uint64_t)r * m->cols, m->cols, row))
            rc = bad_numbers(s, name);
        else if (recode)
            lr_kern_encode(m->rows.type, (char *)m->own + r * m->rows.stride, row, m->cols);
    }
    if (!rc && !recode)
        memcpy(m->own, t->data, m->rows.stride * m->rows.n);
    lr_free(row);
    return rc;
}

/* The type of the copy; recode: another than the file's. */
static int pick_type(const struct source *s, const struct lr_nn_tensor *t, bool exact,
                     struct matrix *m, bool *recode)
{
    const char *name = lr_nn_type_info(t->type)->name;
    int type = lr_kern_type_find(lr_strz(name));
    *recode = is_float(t->type) && (!exact || t->type == LR_NN_F64);
    if (*recode)
        type = !exact && m->cols % lr_kern_type_block(LR_KERN_Q8_0) == 0 ? LR_KERN_Q8_0
                                                                         : LR_KERN_F32;
    if (type < 0 || type == LR_KERN_I4R)
        return lr_err_set(s->err, LR_EUNSUPPORTED, "tensor type",
                          "weights of type %s are not supported", name);
    m->rows.type = (enum lr_kern_type)type;
    m->rows.stride = lr_kern_row_bytes(m->rows.type, m->cols);
    if (!m->rows.stride)
        return lr_err_set(s->err, LR_EPARSE, "tensor type", "rows of %u are no whole blocks of %s",
                          m->cols, name);
    return 0;
}

int lr_embed_source_matrix(struct source *s, const char *name, uint32_t cols, uint32_t rows,
                           bool exact, struct matrix *out)
{
    const struct lr_nn_tensor *t;
    struct matrix m = {.cols = cols, .rows.n = rows};
    size_t bytes;
    bool recode;
    LR_TRY(lr_embed_source_get(s, name, cols, rows, false, &t));
    LR_TRY(pick_type(s, t, exact, &m, &recode));
    if (lr_mul_over(m.rows.stride, rows, &bytes) || (!recode && bytes != t->bytes))
        return lr_err_set(s->err, LR_EPARSE, name, "tensor '%s' has %llu bytes", name,
                          (unsigned long long)t->bytes);
    LR_TRY(charge(s, name, bytes, (uint64_t)cols * rows));
    m.own = lr_alloc(bytes);
    LR_FAIL_IF(!m.own, lr_err_set(s->err, LR_ENOMEM, name, "out of memory"));
    m.rows.p = m.own;
    int rc = fill(s, name, t, recode, &m);
    if (rc) {
        lr_free(m.own);
        return rc;
    }
    digest(s, name, lr_kern_type_name(m.rows.type), cols, rows, m.own, bytes);
    *out = m;
    return 0;
}

int lr_embed_source_floats(struct source *s, const char *name, uint32_t cols, uint32_t rows,
                           bool optional, float **out)
{
    const struct lr_nn_tensor *t;
    size_t n = (size_t)cols * MAX_OF(rows, 1u);
    LR_TRY(lr_embed_source_get(s, name, cols, rows, optional, &t));
    if (!t)
        return 0;
    if (!is_float(t->type) && !lr_nn_type_info(t->type)->decode)
        return lr_err_set(s->err, LR_EUNSUPPORTED, name, "tensor '%s' of type %s is not supported",
                          name, lr_nn_type_info(t->type)->name);
    LR_TRY(charge(s, name, n * sizeof(float), n));
    float *p = lr_calloc(n, sizeof *p);
    LR_FAIL_IF(!p, lr_err_set(s->err, LR_ENOMEM, name, "out of memory"));
    if (!floats_at(t, 0, n, p)) {
        lr_free(p);
        return bad_numbers(s, name);
    }
    digest(s, name, "F32", cols, rows, p, n * sizeof *p);
    *out = p;
    return 0;
}

int lr_embed_source_rest(const struct source *s, bool (*known)(struct lr_str name))
{
    bool both = false;
    for (size_t i = 0; s->g && i < lr_nn_gguf_tensors(s->g); i++) {
        struct lr_str name = lr_nn_gguf_at(s->g, i)->name, part = name;
        size_t n = sizeof PAIR_PREFIX - 1;
        if (part.n > n && !memcmp(part.p, PAIR_PREFIX, n)) {
            part = lr_str(part.p + n, part.n - n);
            both = true;
        }
        if (!known(part))
            return lr_err_set(s->err, LR_EUNSUPPORTED, "tensors",
                              "tensor '%.*s' belongs to no encoder that is supported",
                              (int)MIN_OF(name.n, 96u), name.p);
    }
    /* Of a file of both, either side leaves the other's. */
    if (s->g && !both && s->used != lr_nn_gguf_tensors(s->g))
        return lr_err_set(s->err, LR_EPARSE, "tensors",
                          "%llu of %llu tensors belong to no part of the model",
                          (unsigned long long)(lr_nn_gguf_tensors(s->g) - s->used),
                          (unsigned long long)lr_nn_gguf_tensors(s->g));
    return 0;
}

/* ---- matrices ---- */

void lr_embed_matrix_free(struct matrix *m)
{
    lr_free(m->own);
    *m = (struct matrix){0};
}

/* ---- tokenisers ---- */

int lr_embed_tok_digest(const struct lr_nn_tok *tok, struct lr_blake3 *h, struct lr_err *err)
{
    /* Case, an accent, a Han character: shows what the cleaning of texts does. */
    static const char probe[] = "A a \xC3\x89 e B b \xE4\xB8\xAD Z\xC3\xBCrich zurich";
    struct lr_nn_ids ids;
    lr_blake3_add_u64(h, lr_nn_tok_size(tok));
    for (uint32_t i = 0; i < lr_nn_tok_size(tok); i++) {
        lr_blake3_add_str(h, lr_nn_tok_text(tok, i));
        lr_blake3_add_u64(h, lr_nn_tok_type(tok, i));
    }
    const struct lr_nn_roles *r = lr_nn_tok_roles(tok);
    lr_blake3_add_u64(h, r->cls);
    lr_blake3_add_u64(h, r->sep);
    lr_blake3_add_u64(h, r->unk);
    lr_nn_ids_init(&ids, 2 * sizeof probe);
    int rc = lr_nn_tok_encode(tok, lr_strz(probe), 0, &ids, err);
    for (size_t i = 0; i < ids.n; i++)
        lr_blake3_add_u64(h, ids.id[i]);
    lr_nn_ids_free(&ids);
    return rc;
}
