/* SPDX-License-Identifier: Apache-2.0
 * engine/grammar_mask.c - which tokens may follow: a vocabulary walked as a trie.
 *
 * Tokens sorted by their bytes, with the length each shares with the one before, are a trie without
 * nodes: going through the list and keeping the automaton's state after every byte of the current token
 * (its levels), each token starts at the level it shares with the one before, and a token that shares
 * the byte that failed is skipped by comparing two numbers. So each distinct prefix is tried once, and
 * what JSON refuses is refused at its first byte.
 *
 *   "ab"    level 0 -a-> 1 -b-> 2
 *   "abc"   shares 2:          2 -c-> fails after 2
 *   "abcd"  shares 3 > 2: skipped
 *
 * Inside strings nearly everything is allowed and nothing would be skipped. Tokens of whole characters
 * without quote, backslash and control characters ("plain": most of a vocabulary) leave a string a
 * string, whatever its state; they are a list of their own with a ready-made mask (and the number of
 * their characters, for maxLength), and only the rest is walked.
 */
#include "engine/grammar_int.h"

#include <stdlib.h>

struct word {
    uint32_t id;
    uint16_t shared; /* bytes in common with the word before */
    uint16_t chars;  /* plain ones: characters */
};

struct list {
    struct word *w; /* (n) by bytes */
    size_t n;
};

struct lr_engine_lexicon {
    const struct lr_nn_tok *tok;
    struct list plain, rest;
    uint64_t *plain_mask, *end_mask; /* (words) */
    size_t words;
    size_t longest; /* bytes */
};

/* ---- building ---- */

static bool generated(const struct lr_nn_tok *tok, uint32_t id)
{
    enum lr_nn_token_type type = lr_nn_tok_type(tok, id);
    size_t n = lr_nn_tok_bytes(tok, id).n;
    return n && n <= LR_NN_TOKEN_MAX && !lr_nn_tok_ends(tok, id) &&
           (type == LR_NN_TOKEN_NORMAL || type == LR_NN_TOKEN_USER || type == LR_NN_TOKEN_BYTE);
}

/* Characters of a plain token, or 0. */
static uint16_t plain_chars(struct lr_str s)
{
    uint16_t chars = 0;
    for (size_t i = 0; i < s.n; chars++) {
        size_t n = lr_utf8_len(s.p + i, s.n - i);
        if (!n || (uint8_t)s.p[i] < 0x20 || s.p[i] == '"' || s.p[i] == '\\')
            return 0;
        i += n;
    }
    return chars;
}

static int by_bytes(const void *a, const void *b, void *tok)
{
    const struct word *x = a, *y = b;
    int c = lr_str_cmp(lr_nn_tok_bytes(tok, x->id), lr_nn_tok_bytes(tok, y->id));
    return c ? c : x->id < y->id ? -1 : x->id > y->id;
}

static void finish(struct lr_engine_lexicon *l, struct list *list)
{
    struct lr_str before = {0};
    qsort_r(list->w, list->n, sizeof *list->w, by_bytes, (void *)(uintptr_t)l->tok);
    for (size_t i = 0; i < list->n; i++) {
        struct lr_str s = lr_nn_tok_bytes(l->tok, list->w[i].id);
        size_t k = 0;
        while (k < s.n && k < before.n && s.p[k] == before.p[k])
            k++;
        list->w[i].shared = (uint16_t)k;
        l->longest = s.n > l->longest ? s.n : l->longest;
        before = s;
    }
}

static void set(uint64_t *mask, uint32_t id)
{
    mask[id / 64] |= (uint64_t)1 << (id % 64);
}

int lr_engine_lexicon_open(struct lr_engine_lexicon **out, const struct lr_nn_tok *tok)
{
    struct lr_engine_lexicon *l = lr_new(struct lr_engine_lexicon);
    size_t n = lr_nn_tok_size(tok);
    LR_FAIL_IF(!l, LR_ENOMEM);
    l->tok = tok;
    l->words = (n + 63) / 64;
    l->plain.w = lr_calloc(n + 1, sizeof *l->plain.w);
    l->rest.w = lr_calloc(n + 1, sizeof *l->rest.w);
    l->plain_mask = lr_calloc(l->words + 1, sizeof *l->plain_mask);
    l->end_mask = lr_calloc(l->words + 1, sizeof *l->end_mask);
    if (!l->plain.w || !l->rest.w || !l->plain_mask || !l->end_mask) {
        lr_engine_lexicon_close(l);
        return LR_ENOMEM;
    }
    for (uint32_t id = 0; id < n; id++) {
        if (lr_nn_tok_ends(tok, id))
            set(l->end_mask, id);
        if (!generated(tok, id))
            continue;
        uint16_t chars = plain_chars(lr_nn_tok_bytes(tok, id));
        struct list *list = chars ? &l->plain : &l->rest;
        list->w[list->n++] = (struct word){.id = id, .chars = chars};
        if (chars)
            set(l->plain_mask, id);
    }
    finish(l, &l->plain);
    finish(l, &l->rest);
    *out = l;
    return 0;
}

void lr_engine_lexicon_close(struct lr_engine_lexicon *l)
{
    if (!l)
        return;
    lr_free(l->plain.w);
    lr_free(l->rest.w);
    lr_free(l->plain_mask);
    lr_free(l->end_mask);
    lr_free(l);
}

/* ---- can the vocabulary spell it ---- */

static bool in_list(const struct lr_engine_lexicon *l, const struct list *list, struct lr_str s)
{
    size_t lo = 0, hi = list->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = lr_str_cmp(lr_nn_tok_bytes(l->tok, list->w[mid].id), s);
        if (!c)
            return true;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

static bool has_token(const struct lr_engine_lexicon *l, struct lr_str s)
{
    return in_list(l, &l->plain, s) || in_list(l, &l->rest, s);
}

/* Every character of s is a token, or its bytes are. */
static int check_text(const struct lr_engine_lexicon *l, struct lr_str s, struct lr_err *err)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        n = lr_utf8_len(s.p + i, s.n - i);
        n = n ? n : 1;
        bool fine = has_token(l, lr_str(s.p + i, n));
        for (size_t k = 0; k < n && !fine; k++) {
            if (!has_token(l, lr_str(s.p + i + k, 1)))
                return lr_err_set(err, LR_EUNSUPPORTED, "response_format",
                                  "this model's vocabulary cannot spell '%.*s'", (int)n, s.p + i);
            fine = k + 1 == n;
        }
    }
    return 0;
}

int lr_engine_lexicon_check(const struct lr_engine_lexicon *l, const struct lr_engine_grammar *g,
                            struct lr_err *err)
{
    static const char *const needs[] = {
        [LR_GRAM_ALT] = "",           [LR_GRAM_LIT] = "",       [LR_GRAM_STR] = "\"",
        [LR_GRAM_NUM] = "0123456789", [LR_GRAM_INT] = "0123456789", [LR_GRAM_OBJ] = "{\":,}",
        [LR_GRAM_ARR] = "[,]",
    };
    for (size_t i = 0; i < g->n_node; i++) {
        const struct lr_gram_node *n = &g->node[i];
        LR_TRY(check_text(l, lr_strz(needs[n->kind]), err));
        if (n->kind == LR_GRAM_LIT)
            LR_TRY(check_text(l, lr_str(g->bytes.p + n->from, n->n), err));
    }
    for (size_t i = 0; i < g->n_prop; i++)
        LR_TRY(check_text(l, lr_str(g->bytes.p + g->prop[i].from, g->prop[i].n), err));
    return 0;
}

/* ---- masks ---- */

static int walk(struct lr_engine_parse *p, const struct lr_engine_lexicon *l,
                const struct list *list, uint64_t *mask)
{
    size_t good = 0; /* levels of the word before that hold */
    for (size_t i = 0; i < list->n; i++) {
        size_t shared = list->w[i].shared;
        if (shared > good)
            continue; /* shares the byte that failed */
        struct lr_str s = lr_nn_tok_bytes(l->tok, list->w[i].id);
        size_t d = shared;
        while (d < s.n && lr_gram_step(p, &p->level[d], (uint8_t)s.p[d], &p->level[d + 1]))
            d++;
        LR_TRY(p->rc);
        good = d;
        if (d == s.n)
            set(mask, list->w[i].id);
    }
    return 0;
}

/* The plain tokens where a string is open; false: no string is, walk them. */
static bool mask_text(const struct lr_engine_parse *p, const struct lr_engine_lexicon *l,
                      uint64_t *mask)
{
    uint32_t room, best = 0;
    bool text = false;
    for (size_t i = 0; i < p->n_now; i++)
        if (lr_gram_in_text(p, &p->thread[i], &room)) {
            text = true;
            best = room > best ? room : best;
        }
    if (!text)
        return false;
    if (best == LR_GRAM_NONE) {
        memcpy(mask, l->plain_mask, l->words * sizeof *mask);
        return true;
    }
    for (size_t i = 0; i < l->plain.n; i++)
        if (l->plain.w[i].chars <= best)
            set(mask, l->plain.w[i].id);
    return p->n_now == 1; /* other readings may take longer ones */
}

int lr_engine_parse_mask(struct lr_engine_parse *p, const struct lr_engine_lexicon *l,
                         uint64_t *mask)
{
    struct lr_gram_level now = {0, p->n_now, p->n_frame, p->n_key};
    LR_TRY(lr_gram_levels(p, l->longest));
    memset(mask, 0, l->words * sizeof *mask);
    int rc = mask_text(p, l, mask) ? 0 : walk(p, l, &l->plain, mask);
    if (!rc)
        rc = walk(p, l, &l->rest, mask);
    p->n_thread = now.n;
    p->n_frame = now.frames;
    p->n_key = now.keys;
    if (lr_engine_parse_complete(p))
        for (size_t i = 0; i < l->words; i++)
            mask[i] |= l->end_mask[i];
    return rc;
}

int lr_engine_parse_token(struct lr_engine_parse *p, const struct lr_engine_lexicon *l, uint32_t id)
{
    LR_FAIL_IF(id >= lr_nn_tok_size(l->tok), LR_EINVAL);
    if (lr_nn_tok_ends(l->tok, id))
        return lr_engine_parse_complete(p) ? 0 : LR_EINVAL;
    LR_FAIL_IF(!generated(l->tok, id), LR_EINVAL);
    return lr_engine_parse_feed(p, lr_nn_tok_bytes(l->tok, id));
}
