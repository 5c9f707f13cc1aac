/* SPDX-License-Identifier: Apache-2.0
 * nn/tok_load.c - tokenisers from the metadata of GGUF files: tokenizer.ggml.*
 * (docs/formats/gguf.md).
 *
 * The raw material is viewed where it lies in the file and copied by lr_nn_tok_new. What files
 * leave out is filled in as the makers of the format do: Llama's ids for SPM, BERT's for WordPiece,
 * the pre-tokeniser's habit for bos. Some files of Phi-3 rely on the model's name: there, white
 * space after a special token belongs to it.
 */
#include "nn/nn_int.h"

#include <stdio.h>

#define KEY "tokenizer.ggml."

struct loader {
    const struct lr_nn_gguf *g;
    struct lr_err *err;
    struct lr_nn_vocab v;
    float *scores;  /* owned, when the file's are of another type */
    int32_t *types; /* owned, likewise */
};

static int wrong(struct loader *l, int rc, const char *key, const char *what)
{
    char where[80];
    if (snprintf(where, sizeof where, "metadata key '%s'", key) < 0)
        where[0] = 0; /* cannot be: the format is ours */
    return lr_err_set(l->err, rc, where, "%s", what);
}

/* The array of that key, NULL when absent; n elements (any number: SIZE_MAX). */
static int find_array(struct loader *l, const char *key, size_t n, const struct lr_nn_kv **out)
{
    *out = lr_nn_gguf_find(l->g, key);
    if (!*out)
        return 0;
    if ((*out)->type != LR_NN_KV_ARRAY)
        return wrong(l, LR_EINVAL, key, "holds no array");
    if (n != SIZE_MAX && (*out)->n != n)
        return wrong(l, LR_EPARSE, key, "has not one element for each token");
    return 0;
}

static int load_texts(struct loader *l, const char *key, const struct lr_str **texts, size_t *n)
{
    const struct lr_nn_kv *kv;
    LR_TRY(find_array(l, key, SIZE_MAX, &kv));
    if (!kv)
        return 0;
    if (kv->elem != LR_NN_KV_TEXT)
        return wrong(l, LR_EINVAL, key, "no texts");
    *texts = kv->data;
    *n = kv->n;
    return 0;
}

static int load_scores(struct loader *l)
{
    const struct lr_nn_kv *kv;
    double v;
    LR_TRY(find_array(l, KEY "scores", l->v.n, &kv));
    if (!kv || !kv->n)
        return 0;
    l->scores = lr_calloc(kv->n, sizeof *l->scores);
    if (!l->scores)
        return wrong(l, LR_ENOMEM, KEY "scores", "out of memory");
    for (size_t i = 0; i < kv->n; i++) {
        if (!lr_nn_kv_real(kv, i, &v))
            return wrong(l, LR_EINVAL, KEY "scores", "no numbers");
        l->scores[i] = v > 3e38 ? 3e38f : v < -3e38 ? -3e38f : (float)v; /* NaN stays */
    }
    l->v.scores = l->scores;
    return 0;
}

static int load_types(struct loader *l)
{
    const struct lr_nn_kv *kv;
    int64_t v;
    LR_TRY(find_array(l, KEY "token_type", l->v.n, &kv));
    if (!kv || !kv->n)
        return 0;
    l->types = lr_calloc(kv->n, sizeof *l->types);
    if (!l->types)
        return wrong(l, LR_ENOMEM, KEY "token_type", "out of memory");
    for (size_t i = 0; i < kv->n; i++) {
        if (!lr_nn_kv_i64(kv, i, &v) || v < 0 || v > INT32_MAX)
            return wrong(l, LR_EINVAL, KEY "token_type", "no numbers from 0");
        l->types[i] = (int32_t)v;
    }
    l->v.types = l->types;
    return 0;
}

/* A token's id: the file's, or `otherwise` when it names none and the vocabulary has that many. -1
 * as an unsigned number means none. */
static int load_role(struct loader *l, const char *key, uint32_t otherwise, uint32_t *out)
{
    uint64_t id = otherwise < l->v.n ? otherwise : LR_NN_NO_TOKEN;
    int rc = lr_nn_gguf_u64(l->g, key, &id, l->err);
    LR_FAIL_IF(rc && rc != LR_ENOENT, rc);
    if (id >= l->v.n && id != UINT32_MAX)
        return wrong(l, LR_EPARSE, key, "is no token's id");
    *out = (uint32_t)id;
    return 0;
}

static int load_roles(struct loader *l)
{
    struct lr_nn_roles *r = &l->v.roles;
    bool spm = l->v.kind == LR_NN_SPM, bert = l->v.kind == LR_NN_WORDPIECE;
    const uint32_t none = LR_NN_NO_TOKEN;
    LR_TRY(load_role(l, KEY "bos_token_id", spm ? 1 : none, &r->bos));
    LR_TRY(load_role(l, KEY "eos_token_id", spm ? 2 : none, &r->eos));
    LR_TRY(load_role(l, KEY "eot_token_id", none, &r->eot));
    LR_TRY(load_role(l, KEY "unknown_token_id", spm ? 0 : bert ? 100 : none, &r->unk));
    /* The first spelling is the one files have. */
    LR_TRY(load_role(l, KEY "seperator_token_id", bert ? 102 : none, &r->sep));
    LR_TRY(load_role(l, KEY "separator_token_id", r->sep, &r->sep));
    LR_TRY(load_role(l, KEY "padding_token_id", none, &r->pad));
    LR_TRY(load_role(l, KEY "cls_token_id",
                     bert && r->bos != none ? r->bos
                     : bert                 ? 101
                                            : none,
                     &r->cls));
    return load_role(l, KEY "mask_token_id", none, &r->mask);
}

static int load_flag(struct loader *l, const char *key, bool *flag)
{
    int rc = lr_nn_gguf_bool(l->g, key, flag, l->err);
    return rc == LR_ENOENT ? 0 : rc;
}

static int load_flags(struct loader *l)
{
    struct lr_nn_vocab *v = &l->v;
    const struct lr_nn_pretok *pre = lr_nn_pretok_find(v->pre);
    bool lower = true, strip;
    v->add_bos = v->kind == LR_NN_BPE ? pre && pre->add_bos : true;
    v->add_eos = v->kind == LR_NN_WORDPIECE;
    v->add_space_prefix = v->kind == LR_NN_SPM;
    LR_TRY(load_flag(l, KEY "add_bos_token", &v->add_bos));
    LR_TRY(load_flag(l, v->kind == LR_NN_WORDPIECE ? KEY "add_sep_token" : KEY "add_eos_token",
                     &v->add_eos));
    LR_TRY(load_flag(l, KEY "add_space_prefix", &v->add_space_prefix));
    LR_TRY(load_flag(l, KEY "normalizer.lowercase", &lower));
    strip = lower;
    LR_TRY(load_flag(l, KEY "normalizer.strip_accents", &strip));
    v->keep_case = !lower;
    v->keep_accents = !strip;
    return 0;
}

static bool has(struct lr_str text, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= text.n; i++)
        if (strncasecmp(text.p + i, part, n) == 0)
            return true;
    return false;
}

static int load_kind(struct loader *l)
{
    struct lr_str model = {NULL, 0}, name = {NULL, 0};
    int rc = lr_nn_gguf_text(l->g, KEY "model", &model, l->err);
    if (rc == LR_ENOENT)
        return wrong(l, LR_EINVAL, KEY "model", "missing: the file has no tokeniser");
    LR_FAIL_IF(rc, rc);
    if (!lr_str_is(model, "llama") && !lr_str_is(model, "gpt2") && !lr_str_is(model, "bert")) {
        struct lr_nn_shown s = lr_nn_show(model);
        return lr_err_set(l->err, LR_EUNSUPPORTED, "metadata key '" KEY "model'",
                          "tokeniser '%s' is not supported", s.z);
    }
    l->v.kind = lr_str_is(model, "llama")  ? LR_NN_SPM
                : lr_str_is(model, "gpt2") ? LR_NN_BPE
                                           : LR_NN_WORDPIECE;
    rc = lr_nn_gguf_text(l->g, KEY "pre", &l->v.pre, l->err);
    LR_FAIL_IF(rc && rc != LR_ENOENT, rc);
    if (!lr_nn_gguf_text(l->g, "general.name", &name, NULL))
        l->v.strip_after_special = has(name, "phi-3") || has(name, "phi3");
    return 0;
}

static int load(struct loader *l)
{
    LR_TRY(load_kind(l));
    LR_TRY(load_texts(l, KEY "tokens", &l->v.tokens, &l->v.n));
    if (!l->v.n)
        return wrong(l, LR_EINVAL, KEY "tokens", "missing, or empty");
    if (l->v.kind == LR_NN_SPM)
        LR_TRY(load_scores(l));
    LR_TRY(load_types(l));
    if (l->v.kind == LR_NN_BPE)
        LR_TRY(load_texts(l, KEY "merges", &l->v.merges, &l->v.n_merges));
    LR_TRY(load_roles(l));
    return load_flags(l);
}

int lr_nn_tok_open(struct lr_nn_tok **out, const struct lr_nn_gguf *g, struct lr_err *err)
{
    struct loader l = {.g = g, .err = err};
    int rc = load(&l);
    if (!rc)
        rc = lr_nn_tok_new(out, &l.v, err);
    lr_free(l.scores);
    lr_free(l.types);
    return rc;
}
