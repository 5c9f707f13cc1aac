/* SPDX-License-Identifier: Apache-2.0
 * nn/tok_wordpiece.c - WordPiece, as BERT and the encoders made from it use it.
 *
 *   "Ça va?" -> clean, strip accents, lower: "ca va?" -> words "ca" "va" "?" -> longest tokens
 * first:
 *   "_ca" "_va" "_?"     (in GGUF files a word begins with U+2581, here _, and what goes on a word
 *                         has nothing before it; the usual spelling has ## there)
 *
 * A word with a part that is no token, or of more than 100 characters, is one unknown token.
 * Cleaning drops U+0000, U+FFFD, control and format characters, and malformed bytes; white space
 * separates; Han characters and punctuation are words of their own. Accents: canonical
 * decomposition, of which nonspacing marks are dropped.
 *
 * Source: Devlin et al., "BERT", 2018; Wu et al., "Google's Neural Machine Translation System",
 * 2016; the behaviour of the reference tokeniser. Deviation: lower case is Unicode's simple
 * mapping, one character to one (no vocabulary has a use for the others).
 */
#include "nn/nn_int.h"

#define WORD_CHARS_MAX 100u
#define MARK           "\xE2\x96\x81" /* U+2581 */

static bool ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool dropped(uint32_t c)
{
    if (c == LR_UNI_BAD || c == 0 || c == 0xFFFD)
        return true;
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    enum lr_uni k = lr_uni_class(c);
    return k == LR_UNI_CONTROL || k == LR_UNI_FORMAT;
}

static bool punctuation(uint32_t c)
{
    if (c < 128)
        return c > ' ' && c < 127 && !(c >= '0' && c <= '9') &&
               !((c | 32) >= 'a' && (c | 32) <= 'z');
    return lr_uni_class(c) == LR_UNI_PUNCT;
}

struct word {
    struct lr_nn_encoding *e;
    const char *from; /* place of its first character in the caller's text */
    const char *end;  /* of the caller's text */
    uint32_t chars;
};

static int unknown(struct word *w)
{
    uint32_t unk = w->e->t->roles.unk;
    if (unk == LR_NN_NO_TOKEN)
        return lr_nn_no_char(w->e, (size_t)(w->from - w->e->start),
                             lr_str(w->from, (size_t)(w->end - w->from)));
    return lr_nn_ids_add(w->e->ids, unk);
}

/* The longest token that text begins with; its bytes in *n. */
static uint32_t longest(const struct lr_nn_tok *t, struct lr_str text, size_t least, size_t *n)
{
    for (size_t k = text.n < t->longest ? text.n : t->longest; k > least; k--) {
        if (k < text.n && ((uint8_t)text.p[k] & 0xC0) == 0x80)
            continue; /* in the middle of a character */
        uint32_t id = lr_nn_names_find(&t->plain, lr_str(text.p, k));
        if (id != LR_NN_NO_TOKEN) {
            *n = k;
            return id;
        }
    }
    return LR_NN_NO_TOKEN;
}

/* The tokens of the word gathered in e->text; empties it. */
static int flush(struct word *w)
{
    struct lr_nn_encoding *e = w->e;
    struct lr_str rest = lr_buf_str(&e->text);
    size_t before = e->ids->n, least = sizeof MARK - 1, n = 0;
    int rc = 0;
    if (!w->chars)
        return 0;
    if (w->chars > WORD_CHARS_MAX)
        rest.n = 0;
    bool lost = !rest.n;
    while (rest.n && !lost && !rc) {
        uint32_t id = longest(e->t, rest, least, &n);
        lost = id == LR_NN_NO_TOKEN;
        if (!lost)
            rc = lr_nn_ids_add(e->ids, id);
        rest = lr_str(rest.p + n, rest.n - n);
        least = 0;
    }
    if (lost) {
        e->ids->n = before;
        rc = unknown(w);
    }
    w->chars = 0;
    lr_buf_reset(&e->text);
    return rc;
}

static int gather(struct word *w, uint32_t c, const char *at)
{
    char z[4];
    if (!w->chars++) {
        w->from = at;
        LR_TRY(lr_buf_addz(&w->e->text, MARK));
    }
    return lr_buf_add(&w->e->text, z, lr_uni_put(c, z));
}

/* One character after accents and case: part of a word, or punctuation. */
static int add(struct word *w, uint32_t c, const char *at)
{
    if (!w->e->t->keep_case)
        c = lr_uni_lower(c);
    if (!punctuation(c))
        return gather(w, c, at);
    LR_TRY(flush(w));
    LR_TRY(gather(w, c, at));
    return flush(w);
}

static int add_char(struct word *w, uint32_t c, const char *at)
{
    bool alone = ideograph(c);
    uint32_t parts[3] = {c};
    if (alone)
        LR_TRY(flush(w));
    size_t n = w->e->t->keep_accents ? 1 : lr_uni_bare(c, parts);
    for (size_t i = 0; i < n; i++)
        LR_TRY(add(w, parts[i], at));
    return alone ? flush(w) : 0;
}

int lr_nn_wordpiece_encode(struct lr_nn_encoding *e, struct lr_str text)
{
    struct word w = {.e = e, .from = text.p, .end = text.p + text.n};
    lr_buf_reset(&e->text);
    for (size_t i = 0, k; i < text.n; i += k) {
        uint32_t c;
        k = lr_uni_get(text.p + i, text.n - i, &c);
        if (dropped(c))
            continue;
        if (lr_uni_space(c))
            LR_TRY(flush(&w));
        else
            LR_TRY(add_char(&w, c, text.p + i));
    }
    return flush(&w);
}
