/* SPDX-License-Identifier: Apache-2.0
 * embed/embed.c - the doors of the module: open, identify, encode, whatever the kind.
 *
 *   path --- folder? --- folder.c --+
 *        \-- GGUF ------ meta.c ----+-- spec --- bert.c | static.c --- model (immutable)
 *
 * The id is BLAKE3 over: a version of this arithmetic, the kind, every setting that changes a
 * vector, the vocabulary, every tensor as it is used. Names and licences are not in it, nor is the
 * container. For a remote encoder it is over how it is asked, for its weights are not ours to see.
 */
#include "embed/embed_int.h"

#include <sys/stat.h>

#define ID_CONTEXT "larder embed 2026-11 encoder id, version 1"

bool lr_embed_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- small things the kinds share ---- */

int lr_embed_tokens(const struct lr_nn_tok *tok, struct lr_str text, uint32_t tokens_max,
                    struct lr_nn_ids *ids, bool *cut, struct lr_err *err)
{
    size_t bytes_max = (size_t)tokens_max * LR_EMBED_TOKEN_BYTES;
    *cut = text.n > bytes_max;
    text.n = MIN_OF(text.n, bytes_max);
    ids->n = 0;
    LR_TRY(lr_nn_tok_encode(tok, text, 0, ids, err));
    *cut |= ids->n > tokens_max;
    ids->n = MIN_OF(ids->n, tokens_max);
    return 0;
}

bool lr_embed_unit(float *x, size_t n)
{
    const struct lr_kern *k = lr_kern();
    float sum = k->dot(x, x, n);
    if (!(sum > 1e-30f && sum < 1e30f)) {
        memset(x, 0, n * sizeof *x);
        return false;
    }
    k->scale(x, 1.0f / sqrtf(sum), n);
    return true;
}

void lr_embed_project(const float *head, uint32_t dim_in, uint32_t dim_out, const float *in,
                      size_t n, float *out)
{
    const struct lr_kern *k = lr_kern();
    for (size_t i = 0; i < n; i++) {
        for (uint32_t r = 0; r < dim_out; r++)
            out[i * dim_out + r] = k->dot(head + (size_t)r * dim_in, in + i * dim_in, dim_in);
        lr_embed_unit(out + i * dim_out, dim_out);
    }
}

int lr_embed_scratch_new(struct lr_embed_scratch **out, size_t ids_max)
{
    struct lr_embed_scratch *s = lr_new(struct lr_embed_scratch);
    LR_FAIL_IF(!s, LR_ENOMEM);
    /* Cleaning never makes two tokens of one byte; the margin is for specials. */
    for (size_t i = 0; i < LR_COUNT(s->ids); i++)
        lr_nn_ids_init(&s->ids[i], ids_max + 16);
    *out = s;
    return 0;
}

void lr_embed_scratch_close(struct lr_embed_scratch *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < LR_COUNT(s->ids); i++)
        lr_nn_ids_free(&s->ids[i]);
    lr_free(s->block);
    lr_free(s);
}

/* ---- opening ---- */

static void digest_settings(struct lr_blake3 *id, const struct spec *s, bool exact)
{
    lr_blake3_init_derive(id, ID_CONTEXT);
    lr_blake3_add_u64(id, s->kind);
    lr_blake3_add_u64(id, s->pooling);
    lr_blake3_add_u64(id, s->n_head);
    lr_blake3_add_u64(id, s->tokens_max);
    lr_blake3_add_u64(id, exact);
    uint32_t bits;
    for (int i = 0; i < 3; i++) {
        memcpy(&bits, i == 0 ? &s->eps : i == 1 ? &s->scale : &s->bias, sizeof bits);
        lr_blake3_add_u64(id, bits);
    }
}

static int fill(struct lr_embed_model *m, struct spec *spec, struct source *src,
                struct lr_nn_tok *tok, const struct lr_embed_opts *opts)
{
    bool exact = opts && opts->exact, bert = spec->kind != LR_EMBED_STATIC;
    struct lr_embed_info *i = &m->info;
    if (opts && opts->tokens_max)
        spec->tokens_max = MIN_OF(MAX_OF(opts->tokens_max, 3u), spec->tokens_max);
    digest_settings(&src->id, spec, exact);
    src->bytes = &i->bytes;
    src->weights = &i->weights;
    i->kind = spec->kind;
    i->tokens_max = spec->tokens_max;
    i->layers = spec->n_layer;
    i->hidden = spec->n_embd;
    memcpy(i->name, spec->name, sizeof i->name);
    int rc = bert ? lr_embed_bert_open(&m->bert, spec, src, tok, exact)
                  : lr_embed_table_open(&m->table, spec, src, tok, exact);
    LR_TRY(rc);
    i->dim = spec->kind == LR_EMBED_PAIR ? 0 : bert ? m->bert.dim : m->table.dim;
    lr_blake3_out(&src->id, i->id.b, sizeof i->id.b);
    return 0;
}

/* tok is taken in any case. */
static int make(struct lr_embed_model **out, struct spec *spec, struct source *src,
                struct lr_nn_tok *tok, const struct lr_embed_opts *opts)
{
    struct lr_embed_model *m = lr_new(struct lr_embed_model);
    if (!m) {
        lr_nn_tok_close(tok);
        return lr_err_set(src->err, LR_ENOMEM, "encoder", "out of memory");
    }
    int rc = fill(m, spec, src, tok, opts);
    if (rc) {
        lr_embed_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int lr_embed_open_any_gguf(struct lr_embed_model **out, const struct lr_nn_gguf *g, bool pair,
                           const struct lr_embed_opts *opts, struct lr_err *err)
{
    struct spec spec;
    struct lr_nn_tok *tok;
    struct lr_embed_model *m;
    LR_TRY(lr_embed_meta_read(&spec, g, err));
    if (pair && spec.both) {
        spec.kind = LR_EMBED_PAIR;
        spec.pooling = LR_EMBED_RANK;
    } else if (spec.both) { /* the verifier's numbers are no part of the encoder's id */
        spec.scale = 1;
        spec.bias = 0;
    }
    LR_TRY(lr_embed_meta_tok(&tok, g, &spec, err));
    struct source src = {.g = g, .pair = pair && spec.both, .err = err};
    LR_TRY(make(&m, &spec, &src, tok, opts));
    int rc = lr_nn_gguf_check(g, err); /* what was copied was the file's */
    if (rc) {
        lr_embed_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int lr_embed_open_any_folder(struct lr_embed_model **out, const struct folder *f,
                             const struct lr_embed_opts *opts, struct lr_err *err)
{
    struct spec spec = f->spec;
    struct lr_nn_tok *tok;
    struct lr_embed_model *m;
    struct source src;
    LR_TRY(lr_nn_tok_new(&tok, &f->vocab, err));
    int rc = lr_embed_tok_check(tok, &spec, err);
    if (rc) {
        lr_nn_tok_close(tok);
        return rc;
    }
    lr_embed_source_st(&src, f->st, err);
    LR_TRY(make(&m, &spec, &src, tok, opts));
    rc = lr_nn_st_check(f->st, err);
    if (rc) {
        lr_embed_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int lr_embed_open_any(struct lr_embed_model **out, const char *path, bool pair,
                      const struct lr_embed_opts *opts, struct lr_err *err)
{
    if (lr_embed_is_folder(path)) {
        struct folder f = {0};
        int rc = lr_embed_folder_open(&f, path, err);
        if (!rc)
            rc = lr_embed_open_any_folder(out, &f, opts, err);
        lr_embed_folder_close(&f);
        return rc;
    }
    struct lr_nn_gguf *g;
    LR_TRY(lr_nn_gguf_open(&g, path, NULL, err));
    lr_nn_thread_init(); /* the copy is made through a map that somebody may cut */
    int rc = lr_embed_open_any_gguf(out, g, pair, opts, err);
    lr_nn_gguf_close(g);
    return rc;
}

/* Gives m to the caller unless it is a pair verifier. */
static int encoders_only(struct lr_embed_model **out, struct lr_embed_model *m, struct lr_err *err)
{
    if (m->info.kind == LR_EMBED_PAIR) {
        lr_embed_close(m);
        return lr_err_set(err, LR_EUNSUPPORTED, "model", "this is a pair verifier, no encoder");
    }
    *out = m;
    return 0;
}

int lr_embed_open(struct lr_embed_model **out, const char *path, const struct lr_embed_opts *opts,
                  struct lr_err *err)
{
    struct lr_embed_model *m;
    LR_TRY(lr_embed_open_any(&m, path, false, opts, err));
    return encoders_only(out, m, err);
}

int lr_embed_open_gguf(struct lr_embed_model **out, const struct lr_nn_gguf *g,
                       const struct lr_embed_opts *opts, struct lr_err *err)
{
    struct lr_embed_model *m;
    LR_TRY(lr_embed_open_any_gguf(&m, g, false, opts, err));
    return encoders_only(out, m, err);
}

void lr_embed_close(struct lr_embed_model *m)
{
    if (!m)
        return;
    if (m->info.kind == LR_EMBED_STATIC)
        lr_embed_table_close(&m->table);
    else if (m->info.kind == LR_EMBED_REMOTE)
        lr_embed_remote_close(m->remote);
    else
        lr_embed_bert_close(&m->bert);
    lr_free(m);
}

const struct lr_embed_info *lr_embed_info(const struct lr_embed_model *m)
{
    return &m->info;
}

/* ---- using ---- */

int lr_embed_scratch_open(const struct lr_embed_model *m, struct lr_embed_scratch **out)
{
    if (m->info.kind == LR_EMBED_STATIC)
        return lr_embed_table_scratch(&m->table, out);
    if (m->info.kind == LR_EMBED_REMOTE)
        return lr_embed_scratch_new(out, 0);
    return lr_embed_bert_scratch(&m->bert, out);
}

int lr_embed_encode(const struct lr_embed_model *m, struct lr_embed_scratch *s,
                    const struct lr_str *texts, size_t n, float *vectors,
                    struct lr_embed_note *notes, struct lr_err *err)
{
    if (m->info.kind == LR_EMBED_STATIC)
        return lr_embed_table_encode(&m->table, s, texts, n, vectors, notes, err);
    if (m->info.kind == LR_EMBED_BERT)
        return lr_embed_bert_encode(&m->bert, s, texts, n, vectors, notes, err);
    return lr_embed_remote_encode(m->remote, texts, n, m->info.dim, vectors, notes, err);
}
