/* SPDX-License-Identifier: Apache-2.0
 * embed/write.c - encoders into GGUF files: from a folder, or from another file with some tensors
 * and numbers replaced (docs/formats/embed.md).
 *
 *   folder   spec + vocabulary -> metadata     tensors by the names of the architecture, in its order
 *   file     metadata copied, but what is replaced     tensors in the file's order, but what is replaced
 *                         \-> list of items -> declared -> written row by row
 *
 * Matrices (token table and the layers' products) take the type asked for where their rows are
 * whole blocks; vectors, positions, segments, heads and classifiers stay F32: a few hundred
 * kilobytes that decide much. A pooler that nothing of an encoder goes through is left out.
 */
#include "embed/embed_int.h"

#include <stdio.h>

#define ITEMS_MAX (16u * LR_EMBED_LAYERS_MAX + 32u)

struct item {
    char name[64];
    const struct lr_nn_tensor *from; /* or */
    const float *data;
    uint32_t dims;
    uint64_t cols, rows;
    enum lr_nn_type type;
};

struct job {
    struct lr_nn_gguf_writer *w;
    struct lr_err *err;
    struct item *items; /* owned (ITEMS_MAX) */
    size_t n;
    float *row;    /* owned: of the widest tensor */
    char *encoded; /* owned: likewise, F32 at most */
};

static bool is_float(enum lr_nn_type t)
{
    return t == LR_NN_F32 || t == LR_NN_F16 || t == LR_NN_BF16 || t == LR_NN_F64;
}

/* A product's weights, or the token table. */
static bool is_matrix(const char *name)
{
    if (!strncmp(name, PAIR_PREFIX, sizeof PAIR_PREFIX - 1))
        name += sizeof PAIR_PREFIX - 1;
    return !strcmp(name, "token_embd.weight") ||
           (!strncmp(name, "blk.", 4) && !strstr(name, "norm") && strstr(name, ".weight"));
}

static int add(struct job *j, struct item it)
{
    if (j->n == ITEMS_MAX)
        return lr_err_set(j->err, LR_EOVER, "tensors", "more than %u tensors", ITEMS_MAX);
    if (it.cols > LR_NN_VOCAB_MAX || it.rows > LR_NN_VOCAB_MAX)
        return lr_err_set(j->err, LR_EOVER, it.name, "tensor '%s' is too large", it.name);
    j->items[j->n++] = it;
    return 0;
}

/* type: of float matrices, -1: the tensor's own. */
static int add_tensor(struct job *j, const char *name, const struct lr_nn_tensor *t, int type)
{
    struct item it = {.from = t, .dims = t->dims, .cols = t->ne[0], .rows = t->ne[1]};
    if (snprintf(it.name, sizeof it.name, "%s", name) >= (int)sizeof it.name || t->dims > 2)
        return lr_err_set(j->err, LR_EUNSUPPORTED, name, "tensor '%.40s' is none of an encoder",
                          name);
    it.type = t->type;
    if (is_float(t->type) && type >= 0)
        it.type = is_matrix(name) && it.cols % lr_nn_type_info((enum lr_nn_type)type)->block == 0
                      ? (enum lr_nn_type)type
                      : LR_NN_F32;
    return add(j, it);
}

/* ---- bytes ---- */

static int take_row(const struct job *j, const struct item *it, uint64_t r)
{
    const struct lr_nn_type_info *info = lr_nn_type_info(it->from->type);
    const char *p = (const char *)it->from->data + r * it->cols / info->block * info->block_bytes;
    if (it->from->type != LR_NN_F64)
        return lr_nn_decode(it->from->type, p, it->cols, j->row);
    for (uint64_t i = 0; i < it->cols; i++) {
        double v;
        memcpy(&v, p + i * sizeof v, sizeof v);
        j->row[i] = (float)v;
    }
    return 0;
}

static int write_item(const struct job *j, const struct item *it)
{
    if (it->from && it->from->type == it->type)
        return lr_nn_gguf_data(j->w, it->from->data, it->from->bytes);
    int type = lr_kern_type_find(lr_strz(lr_nn_type_info(it->type)->name));
    assert(type >= 0);
    size_t bytes = lr_kern_row_bytes((enum lr_kern_type)type, it->cols);
    for (uint64_t r = 0; r < it->rows; r++) {
        if (it->from)
            LR_TRY(take_row(j, it, r));
        const float *row = it->from ? j->row : it->data + r * it->cols;
        lr_kern_encode((enum lr_kern_type)type, j->encoded, row, it->cols);
        LR_TRY(lr_nn_gguf_data(j->w, j->encoded, bytes));
    }
    return 0;
}

/* Declares and writes all items; ends the file, or leaves none. Takes the writer. */
static int finish(struct job *j, int rc)
{
    uint64_t widest = 1;
    for (size_t i = 0; i < j->n; i++)
        widest = MAX_OF(widest, j->items[i].cols);
    j->row = lr_calloc(widest, sizeof *j->row);
    j->encoded = lr_calloc(widest, sizeof(float));
    if (!rc && (!j->row || !j->encoded))
        rc = lr_err_set(j->err, LR_ENOMEM, "model file", "out of memory");
    for (size_t i = 0; i < j->n && !rc; i++) {
        const struct item *it = &j->items[i];
        struct lr_nn_tensor t = {.name = lr_strz(it->name),
                                 .type = it->type,
                                 .dims = it->dims,
                                 .ne = {it->cols, it->rows, 1, 1}};
        rc = lr_nn_gguf_declare(j->w, &t);
    }
    for (size_t i = 0; i < j->n && !rc; i++)
        rc = write_item(j, &j->items[i]);
    lr_free(j->row);
    lr_free(j->encoded);
    lr_free(j->items);
    if (!rc)
        return lr_nn_gguf_finish(j->w, j->err);
    lr_nn_gguf_abandon(j->w);
    return lr_err_set(j->err, rc, "model file", "%s", lr_strerror(rc));
}

static int begin(struct job *j, const char *to, struct lr_err *err)
{
    *j = (struct job){.err = err};
    j->items = lr_calloc(ITEMS_MAX, sizeof *j->items);
    LR_FAIL_IF(!j->items, lr_err_set(err, LR_ENOMEM, "model file", "out of memory"));
    int rc = lr_nn_gguf_create(&j->w, to, 0, err);
    if (rc)
        lr_free(j->items);
    return rc;
}

/* ---- from a folder ---- */

static int put_array(struct job *j, const char *key, enum lr_nn_kv_type elem, size_t n,
                     const void *data)
{
    struct lr_nn_kv kv = {lr_strz(key), LR_NN_KV_ARRAY, elem, n, data};
    return lr_nn_gguf_put(j->w, &kv);
}

#define TOK "tokenizer.ggml."
static int put_vocab(struct job *j, const struct lr_nn_vocab *v)
{
    const struct lr_nn_roles *r = &v->roles;
    LR_TRY(lr_nn_gguf_put_text(j->w, TOK "model", LR_STR("bert")));
    LR_TRY(put_array(j, TOK "tokens", LR_NN_KV_TEXT, v->n, v->tokens));
    LR_TRY(put_array(j, TOK "token_type", LR_NN_KV_I32, v->n, v->types));
    LR_TRY(lr_nn_gguf_put_u32(j->w, TOK "unknown_token_id", r->unk));
    LR_TRY(lr_nn_gguf_put_u32(j->w, TOK "seperator_token_id", r->sep)); /* the format's spelling */
    LR_TRY(lr_nn_gguf_put_u32(j->w, TOK "padding_token_id", r->pad));
    LR_TRY(lr_nn_gguf_put_u32(j->w, TOK "cls_token_id", r->cls));
    LR_TRY(lr_nn_gguf_put_u32(j->w, TOK "mask_token_id", r->mask));
    LR_TRY(lr_nn_gguf_put_bool(j->w, TOK "normalizer.lowercase", !v->keep_case));
    return lr_nn_gguf_put_bool(j->w, TOK "normalizer.strip_accents", !v->keep_accents);
}

static int add_named(struct job *j, const struct source *s, const char *name, int type)
{
    const struct lr_nn_tensor *t = lr_embed_source_find(s, name);
    if (!t)
        return lr_err_set(j->err, LR_EPARSE, name, "the model lacks tensor '%s'", name);
    return add_tensor(j, name, t, type);
}

static int add_layers(struct job *j, const struct source *s, uint32_t layers, int type)
{
    static const char *const parts[] = {"attn_q",      "attn_k",           "attn_v",
                                        "attn_output", "attn_output_norm", "ffn_up",
                                        "ffn_down",    "layer_output_norm"};
    char name[64];
    for (uint32_t i = 0; i < layers; i++)
        for (size_t p = 0; p < LR_COUNT(parts); p++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", i, parts[p]);
            LR_TRY(add_named(j, s, name, type));
            snprintf(name, sizeof name, "blk.%u.%s.bias", i, parts[p]);
            LR_TRY(add_named(j, s, name, type));
        }
    return 0;
}

static int add_all(struct job *j, const struct source *s, const struct spec *spec, int type)
{
    static const char *const front[] = {"token_embd.weight", "position_embd.weight",
                                        "token_types.weight", "token_embd_norm.weight",
                                        "token_embd_norm.bias"};
    static const char *const back[] = {"cls.weight", "cls.bias", "cls.output.weight",
                                       "cls.output.bias"};
    for (size_t i = 0; i < LR_COUNT(front); i++)
        LR_TRY(add_named(j, s, front[i], type));
    LR_TRY(add_layers(j, s, spec->n_layer, type));
    for (size_t i = 0; spec->kind == LR_EMBED_PAIR && i < LR_COUNT(back); i++)
        if (i > 1 || lr_embed_source_find(s, back[i]))
            LR_TRY(add_named(j, s, back[i], type));
    return 0;
}

/* As many tokens as rows: a table that was rounded up has no names for the rest. */
static int check_rows(struct folder *f, const struct source *s, struct lr_err *err)
{
    const struct lr_nn_tensor *t = lr_embed_source_find(s, "token_embd.weight");
    if (t && t->ne[1] != f->vocab.n)
        return lr_err_set(err, LR_EUNSUPPORTED, "vocab.txt", "%llu tokens for a table of %llu rows",
                          (unsigned long long)f->vocab.n, (unsigned long long)t->ne[1]);
    return 0;
}

static int convert_folder(const char *from, const char *to, const struct lr_embed_convert *o,
                          struct lr_err *err)
{
    struct folder f = {0};
    struct source s;
    struct job j;
    struct lr_embed_model *probe = NULL;
    int rc = lr_embed_folder_open(&f, from, err);
    if (!rc) /* everything an open checks */
        rc = lr_embed_open_any_folder(&probe, &f, &(struct lr_embed_opts){.exact = true}, err);
    if (!rc)
        lr_embed_source_st(&s, f.st, err);
    if (!rc)
        rc = check_rows(&f, &s, err);
    if (!rc)
        rc = begin(&j, to, err);
    if (!rc) {
        rc = lr_embed_meta_put(j.w, &f.spec);
        if (!rc && o->licence)
            rc = lr_nn_gguf_put_text(j.w, "general.license", lr_strz(o->licence));
        if (!rc)
            rc = put_vocab(&j, &f.vocab);
        if (!rc)
            rc = add_all(&j, &s, &f.spec, (int)o->type);
        rc = finish(&j, rc);
    }
    lr_embed_close(probe);
    lr_embed_folder_close(&f);
    return rc;
}

/* ---- from a file ---- */

static bool replaced_key(const struct rewrite *r, struct lr_str key)
{
    for (size_t i = 0; i < r->n_real; i++)
        if (lr_str_is(key, r->real[i].key))
            return true;
    return r->licence && lr_str_is(key, "general.license");
}

static const struct rewrite_tensor *replaced(const struct rewrite *r, struct lr_str name)
{
    for (size_t i = 0; i < r->n_put; i++)
        if (lr_str_is(name, r->put[i].name))
            return &r->put[i];
    return NULL;
}

static int copy_keys(struct job *j, const struct rewrite *r, const struct lr_nn_gguf *g)
{
    for (size_t i = 0; i < lr_nn_gguf_keys(g); i++) {
        const struct lr_nn_kv *kv = lr_nn_gguf_key(g, i);
        /* the writer states its own alignment */
        if (!replaced_key(r, kv->key) && !lr_str_is(kv->key, "general.alignment"))
            LR_TRY(lr_nn_gguf_put(j->w, kv));
    }
    for (size_t i = 0; i < r->n_real; i++)
        LR_TRY(lr_nn_gguf_put_f32(j->w, r->real[i].key, r->real[i].value));
    return r->licence ? lr_nn_gguf_put_text(j->w, "general.license", lr_strz(r->licence)) : 0;
}

static int add_replaced(struct job *j, const struct rewrite_tensor *t)
{
    struct item it = {.data = t->data, .dims = t->rows ? 2 : 1, .cols = t->cols};
    it.rows = t->rows ? t->rows : 1;
    it.type = it.cols % lr_nn_type_info(t->type)->block == 0 ? t->type : LR_NN_F32;
    snprintf(it.name, sizeof it.name, "%s", t->name);
    return add(j, it);
}

static int copy_tensors(struct job *j, const struct rewrite *r, const struct lr_nn_gguf *g)
{
    char name[64];
    for (size_t i = 0; i < lr_nn_gguf_tensors(g); i++) {
        const struct lr_nn_tensor *t = lr_nn_gguf_at(g, i);
        if (replaced(r, t->name))
            continue;
        snprintf(name, sizeof name, "%.*s", (int)MIN_OF(t->name.n, sizeof name - 1), t->name.p);
        LR_TRY(add_tensor(j, name, t, r->type));
    }
    for (size_t i = 0; i < r->n_put; i++)
        LR_TRY(add_replaced(j, &r->put[i]));
    return 0;
}

int lr_embed_rewrite(const struct rewrite *r, struct lr_err *err)
{
    struct lr_nn_gguf *g;
    struct lr_embed_model *probe = NULL;
    struct job j;
    LR_TRY(lr_nn_gguf_open(&g, r->from, NULL, err));
    lr_nn_thread_init();
    int rc = lr_embed_open_any_gguf(&probe, g, true, &(struct lr_embed_opts){.exact = true}, err);
    if (!rc)
        rc = begin(&j, r->to, err);
    if (!rc) {
        rc = copy_keys(&j, r, g);
        if (!rc)
            rc = copy_tensors(&j, r, g);
        if (!rc)
            rc = lr_nn_gguf_check(g, err);
        rc = finish(&j, rc);
    }
    lr_embed_close(probe);
    lr_nn_gguf_close(g);
    return rc;
}

/* ---- doors ---- */

int lr_embed_convert(const char *from, const char *to, const struct lr_embed_convert *opts,
                     struct lr_err *err)
{
    static const struct lr_embed_convert none = {0};
    const struct lr_embed_convert *o = opts ? opts : &none;
    if (o->type != LR_NN_F32 && o->type != LR_NN_F16 && o->type != LR_NN_Q8_0)
        return lr_err_set(err, LR_EINVAL, "type", "matrices may be F32, F16 or Q8_0");
    if (lr_embed_is_folder(from))
        return convert_folder(from, to, o, err);
    struct rewrite r = {.from = from, .to = to, .type = (int)o->type, .licence = o->licence};
    return lr_embed_rewrite(&r, err);
}

int lr_embed_set_head(const char *from, const char *to, const float *head, uint32_t dim_out,
                      struct lr_err *err)
{
    struct lr_embed_model *m;
    LR_TRY(lr_embed_open(&m, from, NULL, err));
    uint32_t hidden = m->info.hidden;
    lr_embed_close(m);
    if (dim_out < 1 || dim_out > LR_EMBED_DIM_MAX)
        return lr_err_set(err, LR_EINVAL, "head", "%u outputs, expected 1 to %u", dim_out,
                          LR_EMBED_DIM_MAX);
    struct rewrite_tensor put = {"head.weight", head, hidden, dim_out, LR_NN_F32};
    struct rewrite r = {.from = from, .to = to, .type = -1, .put = &put, .n_put = 1};
    return lr_embed_rewrite(&r, err);
}
