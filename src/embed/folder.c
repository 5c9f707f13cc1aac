/* SPDX-License-Identifier: Apache-2.0
 * embed/folder.c - an encoder as Hugging Face lays it out: a folder of small JSON files, a list of
 * words and one file of weights.
 *
 *   config.json                 architecture and sizes                  required
 *   vocab.txt                   a WordPiece token a line                required
 *   model.safetensors           weights                                 required
 *   tokenizer_config.json       do_lower_case, strip_accents            else: lower, strip
 *   1_Pooling/config.json       mean or CLS                             else: mean
 *   sentence_bert_config.json   max_seq_length                          else: the positions
 *   modules.json                what comes after the transformer        else: pooling, unit length
 *
 * What the files ask for and we do not compute is refused by name rather than left out: another
 * activation, relative positions, other poolings, dense layers behind them. tokenizer.json and
 * pytorch_model.bin are not read.
 *
 * Tokens are respelled as GGUF has them: a word's first piece with U+2581 in front, "##go" as "go".
 */
#include "embed/embed_int.h"

#include <stdio.h>

#define MARK      "\xE2\x96\x81"
#define TOKEN_BYTES_MAX 4000u /* bytes of a token; nn/ allows 4,096 */

struct ctx {
    struct folder *f;
    struct lr_err *err;
};

static int parse(struct ctx *c, const char *name, struct lr_str text, struct lr_json **out)
{
    struct lr_err err = {0};
    *out = NULL;
    if (!text.p)
        return 0;
    struct lr_json_limits limits = {.depth_max = 16, .nodes_max = 100000};
    int rc = lr_json_parse(&c->f->arena, text, &limits, out, &err);
    return rc ? lr_err_set(c->err, rc, name, "%s at %s", err.msg, err.where) : 0;
}

static int number(const struct ctx *c, const struct lr_json *o, const char *name, uint64_t lo,
                  uint64_t hi, uint32_t *out)
{
    uint64_t v;
    if (!lr_json_u64(lr_json_get(o, name), &v))
        return lr_err_set(c->err, LR_EPARSE, "config.json", "config.json has no number '%s'", name);
    if (v < lo || v > hi)
        return lr_err_set(c->err, LR_EOVER, "config.json", "%s is %llu, expected %llu to %llu",
                          name, (unsigned long long)v, (unsigned long long)lo,
                          (unsigned long long)hi);
    *out = (uint32_t)v;
    return 0;
}

/* Text o[name] is one of `allowed`, or absent. */
static int only(const struct ctx *c, const struct lr_json *o, const char *name,
                const char *allowed)
{
    struct lr_str v;
    const struct lr_json *m = lr_json_get(o, name);
    if (!m || (lr_json_text(m, &v) && lr_str_is(v, allowed)))
        return 0;
    return lr_err_set(c->err, LR_EUNSUPPORTED, "config.json", "%s is not '%s'", name, allowed);
}

static int read_config(struct ctx *c, const struct lr_json *o)
{
    struct spec *s = &c->f->spec;
    double eps = 1e-12;
    if (!lr_json_is(o, LR_JSON_OBJECT))
        return lr_err_set(c->err, LR_EPARSE, "config.json", "config.json is no object");
    LR_TRY(only(c, o, "model_type", "bert"));
    LR_TRY(only(c, o, "hidden_act", "gelu"));
    LR_TRY(only(c, o, "position_embedding_type", "absolute"));
    LR_TRY(number(c, o, "num_hidden_layers", 1, LR_EMBED_LAYERS_MAX, &s->n_layer));
    LR_TRY(number(c, o, "hidden_size", 1, LR_EMBED_DIM_MAX, &s->n_embd));
    LR_TRY(number(c, o, "num_attention_heads", 1, s->n_embd, &s->n_head));
    LR_TRY(number(c, o, "intermediate_size", 1, LR_EMBED_FF_MAX, &s->n_ff));
    LR_TRY(number(c, o, "max_position_embeddings", 3, LR_EMBED_TOKENS_MAX, &s->n_ctx));
    if (s->n_embd % s->n_head)
        return lr_err_set(c->err, LR_EPARSE, "config.json",
                          "hidden_size %u does not divide by %u heads", s->n_embd, s->n_head);
    if (lr_json_get(o, "layer_norm_eps") &&
        !(lr_json_real(lr_json_get(o, "layer_norm_eps"), &eps) && eps >= 0 && eps <= 1))
        return lr_err_set(c->err, LR_EPARSE, "config.json", "layer_norm_eps is not in 0..1");
    s->eps = (float)eps;
    s->tokens_max = s->n_ctx;
    s->scale = 1;
    s->kind = LR_EMBED_BERT;
    s->pooling = LR_EMBED_MEAN;
    return 0;
}

/* The one true among pooling_mode_*. */
static int read_pooling(struct ctx *c, const struct lr_json *o)
{
    unsigned n = 0;
    for (const struct lr_json *m = o && o->type == LR_JSON_OBJECT ? o->child : NULL; m;
         m = m->next) {
        if (m->type != LR_JSON_TRUE || !lr_str_starts(m->key, LR_STR("pooling_mode_")))
            continue;
        n++;
        if (lr_str_is(m->key, "pooling_mode_cls_token"))
            c->f->spec.pooling = LR_EMBED_CLS;
        else if (!lr_str_is(m->key, "pooling_mode_mean_tokens"))
            return lr_err_set(c->err, LR_EUNSUPPORTED, "1_Pooling/config.json",
                              "%.*s is not supported (mean and CLS are)",
                              (int)MIN_OF(m->key.n, 64u), m->key.p);
    }
    if (o && n != 1)
        return lr_err_set(c->err, LR_EUNSUPPORTED, "1_Pooling/config.json",
                          "%u poolings, expected one", n);
    return 0;
}

/* Transformer, Pooling and Normalize, by the last part of their types' names. */
static int read_modules(struct ctx *c, const struct lr_json *o)
{
    static const char *const fine[] = {"Transformer", "Pooling", "Normalize"};
    for (const struct lr_json *m = o && o->type == LR_JSON_ARRAY ? o->child : NULL; m;
         m = m->next) {
        struct lr_str type = {NULL, 0}, last = {NULL, 0};
        bool ok = false;
        lr_json_text(lr_json_get(m, "type"), &type);
        while (type.p)
            last = lr_str_cut(&type, '.');
        for (size_t i = 0; i < LR_COUNT(fine); i++)
            ok |= lr_str_is(last, fine[i]);
        if (!ok)
            return lr_err_set(c->err, LR_EUNSUPPORTED, "modules.json",
                              "module '%.*s' is not supported", (int)MIN_OF(last.n, 64u),
                              last.n ? last.p : "");
    }
    return 0;
}

static int read_lengths(struct ctx *c, const struct lr_json *o)
{
    struct spec *s = &c->f->spec;
    uint64_t n;
    bool lower = false;
    if (lr_json_u64(lr_json_get(o, "max_seq_length"), &n)) {
        if (n < 3)
            return lr_err_set(c->err, LR_EPARSE, "sentence_bert_config.json",
                              "max_seq_length is below 3");
        s->tokens_max = (uint32_t)MIN_OF(n, s->n_ctx);
    }
    if (lr_json_bool(lr_json_get(o, "do_lower_case"), &lower) && lower && c->f->vocab.keep_case)
        return lr_err_set(c->err, LR_EUNSUPPORTED, "sentence_bert_config.json",
                          "lower case before a cased vocabulary is not supported");
    return 0;
}

static void read_cleaning(struct ctx *c, const struct lr_json *o)
{
    bool lower = true, strip;
    lr_json_bool(lr_json_get(o, "do_lower_case"), &lower);
    strip = lower;
    lr_json_bool(lr_json_get(o, "strip_accents"), &strip);
    c->f->vocab.keep_case = !lower;
    c->f->vocab.keep_accents = !strip;
}

/* ---- vocab.txt ---- */

static bool special(struct lr_str t)
{
    return t.n > 2 && t.p[0] == '[' && t.p[t.n - 1] == ']';
}

static int add_token(struct ctx *c, size_t i, struct lr_str line)
{
    struct folder *f = c->f;
    struct lr_nn_roles *r = &f->vocab.roles;
    static const char *const names[] = {"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"};
    uint32_t *role[] = {&r->unk, &r->sep, &r->pad, &r->cls, &r->mask};
    if (line.n > TOKEN_BYTES_MAX)
        return lr_err_set(c->err, LR_EOVER, "vocab.txt", "token %llu has %llu bytes",
                          (unsigned long long)i, (unsigned long long)line.n);
    f->types[i] = special(line) ? LR_NN_TOKEN_CONTROL : LR_NN_TOKEN_NORMAL;
    for (size_t k = 0; k < LR_COUNT(names); k++)
        if (lr_str_is(line, names[k]))
            *role[k] = (uint32_t)i;
    if (r->unk == i)
        f->types[i] = LR_NN_TOKEN_UNKNOWN;
    if (f->types[i] != LR_NN_TOKEN_NORMAL) {
        f->tokens[i] = line;
    } else if (line.n > 2 && lr_str_starts(line, LR_STR("##"))) {
        f->tokens[i] = lr_str(line.p + 2, line.n - 2);
    } else {
        char *p = lr_arena_alloc(&f->arena, line.n + sizeof MARK, 1);
        LR_FAIL_IF(!p, lr_err_set(c->err, LR_ENOMEM, "vocab.txt", "out of memory"));
        memcpy(p, MARK, sizeof MARK - 1);
        memcpy(p + sizeof MARK - 1, line.p, line.n);
        f->tokens[i] = lr_str(p, line.n + sizeof MARK - 1);
    }
    return 0;
}

static int read_vocab(struct ctx *c, struct lr_str text)
{
    struct folder *f = c->f;
    size_t n = 0;
    struct lr_str rest = text;
    if (text.n && text.p[text.n - 1] == '\n')
        rest.n = --text.n;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    n += text.n > 0;
    if (!n || n > LR_NN_VOCAB_MAX)
        return lr_err_set(c->err, n ? LR_EOVER : LR_EPARSE, "vocab.txt", "%llu tokens",
                          (unsigned long long)n);
    f->tokens = lr_calloc(n, sizeof *f->tokens);
    f->types = lr_calloc(n, sizeof *f->types);
    if (!f->tokens || !f->types)
        return lr_err_set(c->err, LR_ENOMEM, "vocab.txt", "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        LR_TRY(add_token(c, i, line));
    }
    f->vocab.n = n;
    f->vocab.tokens = f->tokens;
    f->vocab.types = f->types;
    return 0;
}

/* ---- all ---- */

int lr_embed_folder_parse(struct folder *f, const struct folder_texts *t, struct lr_err *err)
{
    struct ctx c = {f, err};
    struct lr_json *config, *pooling, *sentence, *tokenizer, *modules;
    const uint32_t none = LR_NN_NO_TOKEN;
    lr_arena_init(&f->arena, LR_MIB(128));
    f->vocab = (struct lr_nn_vocab){.kind = LR_NN_WORDPIECE, .add_bos = true, .add_eos = true};
    f->vocab.roles = (struct lr_nn_roles){none, none, none, none, none, none, none, none};
    LR_TRY(parse(&c, "config.json", t->config, &config));
    LR_TRY(parse(&c, "1_Pooling/config.json", t->pooling, &pooling));
    LR_TRY(parse(&c, "sentence_bert_config.json", t->sentence, &sentence));
    LR_TRY(parse(&c, "tokenizer_config.json", t->tokenizer, &tokenizer));
    LR_TRY(parse(&c, "modules.json", t->modules, &modules));
    LR_TRY(read_config(&c, config));
    LR_TRY(read_pooling(&c, pooling));
    LR_TRY(read_modules(&c, modules));
    read_cleaning(&c, tokenizer);
    LR_TRY(read_lengths(&c, sentence));
    return read_vocab(&c, t->vocab);
}

/* The folder's own name. */
static void name_it(struct folder *f, const char *path)
{
    struct lr_str rest = lr_strz(path), last = {NULL, 0};
    while (rest.n && rest.p[rest.n - 1] == '/')
        rest.n--;
    while (rest.p)
        last = lr_str_cut(&rest, '/');
    size_t n = MIN_OF(last.n, MODEL_NAME_MAX - 1);
    for (size_t i = 0; i < n; i++)
        f->spec.name[i] = last.p[i] >= ' ' && last.p[i] < 127 ? last.p[i] : '?';
    f->spec.name[n] = 0;
}

static int read_file(struct folder *f, size_t i, const char *path, const char *name, size_t max,
                     bool optional, struct lr_str *out, struct lr_err *err)
{
    char full[4096];
    int n = snprintf(full, sizeof full, "%s/%s", path, name);
    if (n < 0 || (size_t)n >= sizeof full)
        return lr_err_set(err, LR_EOVER, name, "the path is too long");
    lr_buf_init(&f->files[i], max);
    int rc = lr_io_read_file(full, &f->files[i]);
    if (rc == LR_ENOENT && optional)
        return 0;
    if (rc)
        return lr_err_set(err, rc, name, "%s cannot be read: %s", name, lr_strerror(rc));
    *out = f->files[i].len ? lr_buf_str(&f->files[i]) : LR_STR("");
    return 0;
}

int lr_embed_folder_open(struct folder *f, const char *path, struct lr_err *err)
{
    char weights[4096];
    struct folder_texts t = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    const struct {
        const char *name;
        size_t max;
        bool optional;
        struct lr_str *to;
    } files[] = {
        {"config.json", LR_EMBED_JSON_MAX, false, &t.config},
        {"vocab.txt", LR_EMBED_VOCAB_MAX, false, &t.vocab},
        {"1_Pooling/config.json", LR_EMBED_JSON_MAX, true, &t.pooling},
        {"sentence_bert_config.json", LR_EMBED_JSON_MAX, true, &t.sentence},
        {"tokenizer_config.json", LR_EMBED_JSON_MAX, true, &t.tokenizer},
        {"modules.json", LR_EMBED_JSON_MAX, true, &t.modules},
    };
    for (size_t i = 0; i < LR_COUNT(files); i++)
        LR_TRY(read_file(f, i, path, files[i].name, files[i].max, files[i].optional, files[i].to,
                         err));
    LR_TRY(lr_embed_folder_parse(f, &t, err));
    name_it(f, path);
    int n = snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    if (n < 0 || (size_t)n >= sizeof weights)
        return lr_err_set(err, LR_EOVER, "model.safetensors", "the path is too long");
    lr_nn_thread_init();
    LR_TRY(lr_nn_st_open(&f->st, weights, NULL, err));
    if (lr_nn_st_tensor(f->st, "classifier.weight")) {
        f->spec.kind = LR_EMBED_PAIR;
        f->spec.pooling = LR_EMBED_RANK;
    }
    return 0;
}

void lr_embed_folder_close(struct folder *f)
{
    lr_nn_st_close(f->st);
    lr_free(f->tokens);
    lr_free(f->types);
    for (size_t i = 0; i < LR_COUNT(f->files); i++)
        lr_buf_free(&f->files[i]);
    lr_arena_free(&f->arena);
}
