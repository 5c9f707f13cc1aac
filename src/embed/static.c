/* SPDX-License-Identifier: Apache-2.0
 * embed/static.c - a vector a token, weighted and added: the encoder of the miss path.
 *
 *   "How do I reset it?" -> how do i reset it ?      WordPiece, no specials
 *      v = sum of weight[t] * row[t]                 over the tokens, as often as they come
 *      v = head v                                    where the file has one
 *      v / |v|
 *
 * The mean of the sum is the same after normalising, so nobody divides. Rows are int8 in shipped
 * files and decoded one by one: a question touches a dozen of them, the tokeniser costs more than
 * the sum. Unknown words and control tokens weigh nothing: two texts of unknown words have no
 * vector at all rather than the same one.
 *
 * Source: Arora, Liang, Ma, "A simple but tough-to-beat baseline for sentence embeddings", 2017,
 * for weights by frequency; the rows come from tools/train_embed/ and lr_embed_train. Deviation:
 * the common direction is not taken off at run time, training has that in the rows.
 */
#include "embed/embed_int.h"

static bool known(struct lr_str name)
{
    return lr_str_is(name, "token_embd.weight") || lr_str_is(name, "token_weight.weight") ||
           lr_str_is(name, "head.weight");
}

/* Vocabulary and head from the tensors' shapes. */
static int read_shape(struct table *t, const struct source *s)
{
    const struct lr_nn_tensor *rows = lr_embed_source_find(s, "token_embd.weight");
    const struct lr_nn_tensor *head = lr_embed_source_find(s, "head.weight");
    if (!rows)
        return lr_err_set(s->err, LR_EPARSE, "token_embd.weight",
                          "the model lacks tensor 'token_embd.weight'");
    if (rows->ne[1] != lr_nn_tok_size(t->tok))
        return lr_err_set(s->err, LR_EPARSE, "token_embd.weight",
                          "%llu rows for a vocabulary of %llu", (unsigned long long)rows->ne[1],
                          (unsigned long long)lr_nn_tok_size(t->tok));
    if (head && (head->ne[1] < 1 || head->ne[1] > LR_EMBED_DIM_MAX))
        return lr_err_set(s->err, LR_EOVER, "head.weight", "%llu outputs, expected 1 to %u",
                          (unsigned long long)head->ne[1], LR_EMBED_DIM_MAX);
    t->n_vocab = (uint32_t)rows->ne[1];
    t->dim = head ? (uint32_t)head->ne[1] : t->spec.n_embd;
    return 0;
}

static int read_weights(struct table *t, struct source *s)
{
    LR_TRY(lr_embed_source_floats(s, "token_weight.weight", t->n_vocab, 0, true, &t->weight));
    if (!t->weight) {
        t->weight = lr_calloc(t->n_vocab, sizeof *t->weight);
        LR_FAIL_IF(!t->weight, lr_err_set(s->err, LR_ENOMEM, "token_weight", "out of memory"));
        for (uint32_t i = 0; i < t->n_vocab; i++)
            t->weight[i] = 1;
    }
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        enum lr_nn_token_type type = lr_nn_tok_type(t->tok, i);
        if (type == LR_NN_TOKEN_UNKNOWN || type == LR_NN_TOKEN_CONTROL ||
            i == lr_nn_tok_roles(t->tok)->unk)
            t->weight[i] = 0;
    }
    return 0;
}

int lr_embed_table_open(struct table *t, const struct spec *spec, struct source *s,
                        struct lr_nn_tok *tok, bool exact)
{
    *t = (struct table){.spec = *spec, .tok = tok};
    LR_TRY(lr_embed_tok_digest(tok, &s->id, s->err));
    LR_TRY(read_shape(t, s));
    LR_TRY(lr_embed_source_matrix(s, "token_embd.weight", spec->n_embd, t->n_vocab, exact,
                                  &t->rows));
    LR_TRY(read_weights(t, s));
    LR_TRY(lr_embed_source_floats(s, "head.weight", spec->n_embd, t->dim, true, &t->head));
    return lr_embed_source_rest(s, known);
}

void lr_embed_table_close(struct table *t)
{
    lr_embed_matrix_free(&t->rows);
    lr_free(t->weight);
    lr_free(t->head);
    lr_nn_tok_close(t->tok);
}

int lr_embed_table_scratch(const struct table *t, struct lr_embed_scratch **out)
{
    struct lr_embed_scratch *s;
    LR_TRY(lr_embed_scratch_new(&s, (size_t)t->spec.tokens_max * LR_EMBED_TOKEN_BYTES));
    s->row = s->block = lr_calloc(2 * (size_t)t->spec.n_embd, sizeof(float));
    if (!s->block) {
        lr_embed_scratch_close(s);
        return LR_ENOMEM;
    }
    s->row2 = s->row + t->spec.n_embd;
    *out = s;
    return 0;
}

static void add_up(const struct table *t, struct lr_embed_scratch *s, float *v,
                   struct lr_embed_note *note)
{
    const struct lr_kern *k = lr_kern();
    const struct lr_kern_rows *rows = &t->rows.rows;
    uint32_t d = t->spec.n_embd, unk = lr_nn_tok_roles(t->tok)->unk;
    memset(v, 0, d * sizeof *v);
    for (size_t i = 0; i < s->ids[0].n; i++) {
        uint32_t id = s->ids[0].id[i];
        note->unknown += id == unk;
        k->decode(rows->type, s->row, (const char *)rows->p + id * rows->stride, d);
        k->axpy(v, t->weight[id], s->row, d);
    }
    note->tokens = (uint32_t)s->ids[0].n;
}

int lr_embed_table_encode(const struct table *t, struct lr_embed_scratch *s,
                          const struct lr_str *texts, size_t n, float *vectors,
                          struct lr_embed_note *notes, struct lr_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct lr_embed_note note = {0};
        float *v = vectors + i * t->dim;
        LR_TRY(lr_embed_tokens(t->tok, texts[i], t->spec.tokens_max, &s->ids[0], &note.cut, err));
        add_up(t, s, t->head ? s->row2 : v, &note);
        if (t->head)
            lr_embed_project(t->head, t->spec.n_embd, t->dim, s->row2, 1, v);
        note.empty = !lr_embed_unit(v, t->dim);
        if (notes)
            notes[i] = note;
    }
    return 0;
}
