/* SPDX-License-Identifier: Apache-2.0
 * nn/tok_spm.c - SPM: the score-driven merging of SentencePiece's BPE models, as Llama 1 and 2,
 * Mistral, Phi-3 and TinyLlama use it.
 *
 *   "Hello é" -> "_Hello_é" (spaces are U+2581, here _) -> characters -> merge neighbours whose
 *   joined text is a token, highest score first -> tokens; a character that is no token becomes
 *   its bytes <0xC3><0xA9>, or an error when the vocabulary has none.
 *
 * Text never turns into control, unknown or byte tokens by merging: "</s>" typed by a user stays
 * "</", "s", ">". That is SentencePiece's rule; some engines look all tokens up. Malformed UTF-8 is
 * taken byte by byte.
 *
 * Source: Kudo and Richardson, "SentencePiece", EMNLP 2018; Kudo's unigram segmentation is another
 * model ("t5" in GGUF) and is refused by name. Deviation: no Unicode normalisation (the rule files
 * of these models are the identity).
 */
#include "nn/nn_int.h"

#include <stdio.h>

#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */

/* Order of merging from scores: ascending where scores descend. */
static uint32_t rank_of(float score)
{
    uint32_t u;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&u, &score, 4);
    return ~(u & 0x80000000u ? ~u : u | 0x80000000u);
}

static void find_bytes(struct lr_nn_tok *t)
{
    for (unsigned b = 0; b < 256; b++) {
        char z[8];
        if (snprintf(z, sizeof z, "<0x%02X>", b) < 0)
            continue; /* cannot be: the format is ours */
        uint32_t id = lr_nn_names_find(&t->names, lr_strz(z));
        if (id != LR_NN_NO_TOKEN && t->type[id] != LR_NN_TOKEN_BYTE)
            id = LR_NN_NO_TOKEN;
        t->byte[b] = id;
    }
}

int lr_nn_spm_open(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err)
{
    if (!v->scores)
        return lr_err_set(err, LR_EPARSE, "scores", "missing");
    t->rank = lr_arena_array(&t->arena, uint32_t, t->n);
    if (!t->rank)
        return lr_err_set(err, LR_ENOMEM, "scores", "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        if (v->scores[i] != v->scores[i])
            return lr_err_set(err, LR_EPARSE, "scores", "that of token %zu is not a number", i);
        t->rank[i] = rank_of(v->scores[i]);
    }
    t->add_space_prefix = v->add_space_prefix;
    find_bytes(t);
    return 0;
}

static bool pair(const void *ctx, const struct lr_nn_sym *a, const struct lr_nn_sym *b,
                 uint32_t *rank, uint32_t *id)
{
    const struct lr_nn_encoding *e = ctx;
    size_t n = a->len + b->len;
    if (n > e->t->longest)
        return false;
    *id = lr_nn_names_find(&e->t->plain, lr_str(e->text.p + a->at, n));
    if (*id == LR_NN_NO_TOKEN)
        return false;
    *rank = e->t->rank[*id];
    return true;
}

/* The text with spaces as U+2581 into e->text; one in front with `prefix`. */
static int escape(struct lr_nn_encoding *e, struct lr_str text, bool prefix)
{
    struct lr_buf *b = &e->text;
    lr_buf_reset(b);
    if (prefix)
        LR_TRY(lr_buf_addz(b, SPACE_MARK));
    while (text.n) {
        const char *space = memchr(text.p, ' ', text.n);
        size_t k = space ? (size_t)(space - text.p) : text.n;
        LR_TRY(lr_buf_add(b, text.p, k));
        if (space)
            LR_TRY(lr_buf_addz(b, SPACE_MARK));
        k += space ? 1 : 0;
        text = lr_str(text.p + k, text.n - k);
    }
    return 0;
}

/* The place in `text` of byte `at` of what escape made of it. */
static const char *unescape(struct lr_str text, bool prefix, size_t at)
{
    size_t i = 0;
    for (size_t k = prefix ? 3 : 0; k < at && i < text.n; i++)
        k += text.p[i] == ' ' ? 3 : 1;
    return text.p + i;
}

static int add_bytes(struct lr_nn_encoding *e, const struct lr_nn_sym *s, struct lr_str text,
                     bool prefix)
{
    for (uint32_t i = 0; i < s->len; i++) {
        uint32_t id = e->t->byte[(uint8_t)e->text.p[s->at + i]];
        if (id == LR_NN_NO_TOKEN) {
            const char *p = unescape(text, prefix, s->at);
            struct lr_str rest = lr_str(p, (size_t)(text.p + text.n - p));
            bool ours = prefix && s->at == 0; /* the mark in front is no character of the text */
            return lr_nn_no_char(e, (size_t)(p - e->start), ours ? LR_STR(SPACE_MARK) : rest);
        }
        LR_TRY(lr_nn_ids_add(e->ids, id));
    }
    return 0;
}

int lr_nn_spm_encode(struct lr_nn_encoding *e, struct lr_str text, bool after_special)
{
    struct lr_nn_merger *m = &e->merger;
    bool prefix = e->t->add_space_prefix && after_special;
    LR_TRY(escape(e, text, prefix));
    LR_TRY(lr_nn_merger_room(m, e->text.len));
    m->n = 0;
    m->pair = pair;
    m->ctx = e;
    for (size_t i = 0, k; i < e->text.len; i += k) {
        uint32_t c;
        k = lr_uni_get(e->text.p + i, e->text.len - i, &c);
        uint32_t id = lr_nn_names_find(&e->t->plain, lr_str(e->text.p + i, k));
        lr_nn_merger_push(m, (uint32_t)i, (uint32_t)k, id);
    }
    LR_TRY(lr_nn_merger_run(m));
    for (uint32_t i = m->n ? 0 : LR_NN_NO_TOKEN; i != LR_NN_NO_TOKEN; i = m->sym[i].next) {
        if (m->sym[i].id != LR_NN_NO_TOKEN)
            LR_TRY(lr_nn_ids_add(e->ids, m->sym[i].id));
        else
            LR_TRY(add_bytes(e, &m->sym[i], text, prefix));
    }
    return 0;
}
