/* SPDX-License-Identifier: Apache-2.0
 * nn/tok.c - what all tokenisers share: opening, special tokens in text, decoding.
 *
 *   encode: [bos] text<special>text...text [eos]
 *                 |             |
 *                 SPM, BPE or WordPiece, each piece for itself
 *
 * Tokens of type USER are looked for in all text, control and unknown tokens only where the caller
 * trusts the text (LR_NN_PARSE_SPECIAL): whoever types "<|im_end|>" into a chat must not end a
 * turn. At each place the longest one wins, from left to right. They lie sorted by their bytes; a
 * range of the list is narrowed byte by byte, so a place costs O(length log tokens) at worst and
 * one table look-up where no special token begins.
 *
 * Decoding is a table: the bytes of each token are worked out once. Tokens may end within a
 * character; the decoder holds such bytes back until the next token completes them.
 */
#include "nn/nn_int.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- ids ---- */

void lr_nn_ids_init(struct lr_nn_ids *ids, size_t max)
{
    *ids = (struct lr_nn_ids){.max = max};
}

void lr_nn_ids_free(struct lr_nn_ids *ids)
{
    lr_free(ids->id);
    *ids = (struct lr_nn_ids){.max = ids->max};
}

int lr_nn_ids_add(struct lr_nn_ids *ids, uint32_t id)
{
    LR_FAIL_IF(ids->n >= ids->max, LR_EOVER);
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 64, bytes;
        cap = cap > ids->max ? ids->max : cap;
        LR_FAIL_IF(lr_mul_over(cap, sizeof *ids->id, &bytes), LR_EOVER);
        uint32_t *p = lr_realloc(ids->id, bytes);
        LR_FAIL_IF(!p, LR_ENOMEM);
        ids->id = p;
        ids->cap = cap;
    }
    ids->id[ids->n++] = id;
    return 0;
}

/* ---- opening ---- */

static int copy_tokens(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err)
{
    t->text = lr_arena_array(&t->arena, struct lr_str, t->n);
    t->bytes = lr_arena_array(&t->arena, struct lr_str, t->n);
    t->type = lr_arena_array(&t->arena, uint8_t, t->n);
    t->ends = lr_arena_array(&t->arena, bool, t->n);
    if (!t->text || !t->bytes || !t->type || !t->ends)
        return lr_err_set(err, LR_ENOMEM, "tokens", "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        int32_t type = v->types && v->types[i] ? v->types[i] : LR_NN_TOKEN_NORMAL;
        if (v->tokens[i].n > LR_NN_TOKEN_MAX)
            return lr_err_set(err, LR_EOVER, "tokens",
                              "token %zu has %zu bytes, at most %u are read", i, v->tokens[i].n,
                              LR_NN_TOKEN_MAX);
        if (type < LR_NN_TOKEN_NORMAL || type > LR_NN_TOKEN_BYTE)
            return lr_err_set(err, LR_EPARSE, "token types", "token %zu is of unknown type %d", i,
                              (int)type);
        t->type[i] = (uint8_t)type;
        if (lr_arena_copy(&t->arena, v->tokens[i], &t->text[i]))
            return lr_err_set(err, LR_ENOMEM, "tokens", "out of memory");
        if (t->text[i].n > t->longest)
            t->longest = t->text[i].n;
    }
    return 0;
}

/* May the kind's own way lead to it? User tokens are found in text before; in BPE their text is not
 * spelled as the others' is, so that merging into one would stand for other bytes. */
static bool from_text(const struct lr_nn_tok *t, uint32_t id)
{
    return t->type[id] == LR_NN_TOKEN_NORMAL || t->type[id] == LR_NN_TOKEN_UNUSED ||
           (t->type[id] == LR_NN_TOKEN_USER && t->kind != LR_NN_BPE);
}

/* The ends of turns in chat formats we know; a base model's vocabulary may hold several. Files
 * often give them a wrong type: whatever it says, they are control tokens, which untrusted text
 * must not become. Runs before the tokens are indexed by type. */
static void find_ends(struct lr_nn_tok *t)
{
    static const char *const known[] = {"<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "<|end_of_text|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "<|END_OF_TURN_TOKEN|>",
                                        "<|end_of_role|>",
                                        "<|end_story|>",
                                        "</s>",
                                        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};
    for (size_t i = 0; i < LR_COUNT(known); i++) {
        uint32_t id = lr_nn_names_find(&t->names, lr_strz(known[i]));
        if (id == LR_NN_NO_TOKEN)
            continue;
        t->ends[id] = true;
        t->type[id] = LR_NN_TOKEN_CONTROL;
    }
    if (t->roles.eos != LR_NN_NO_TOKEN)
        t->ends[t->roles.eos] = true;
    if (t->roles.eot != LR_NN_NO_TOKEN)
        t->ends[t->roles.eot] = true;
}

static int index_tokens(struct lr_nn_tok *t, struct lr_err *err)
{
    if (lr_nn_names_open(&t->names, t->text, t->n) || lr_nn_names_open(&t->plain, t->text, t->n))
        return lr_err_set(err, LR_ENOMEM, "tokens", "out of memory");
    for (uint32_t i = 0; i < t->n; i++)
        if (t->text[i].n)
            lr_nn_names_put(&t->names, i);
    find_ends(t);
    for (uint32_t i = 0; i < t->n; i++)
        if (t->text[i].n && from_text(t, i))
            lr_nn_names_put(&t->plain, i);
    return 0;
}

static bool special(uint8_t type)
{
    return type == LR_NN_TOKEN_CONTROL || type == LR_NN_TOKEN_UNKNOWN || type == LR_NN_TOKEN_USER;
}

static int by_text(const void *a, const void *b, void *tok)
{
    const struct lr_nn_tok *t = tok;
    return lr_str_cmp(t->text[*(const uint32_t *)a], t->text[*(const uint32_t *)b]);
}

static int list_special(struct lr_nn_tok *t, struct lr_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += special(t->type[i]);
    t->special = lr_arena_array(&t->arena, uint32_t, n + 1);
    if (!t->special)
        return lr_err_set(err, LR_ENOMEM, "special tokens", "out of memory");
    for (uint32_t i = 0; i < t->n; i++)
        if (special(t->type[i]) && t->text[i].n && lr_nn_names_find(&t->names, t->text[i]) == i)
            t->special[t->n_special++] = i;
    qsort_r(t->special, t->n_special, sizeof *t->special, by_text, t);
    size_t k = 0;
    for (unsigned b = 0; b < 256; b++) {
        t->special_from[b] = k;
        while (k < t->n_special && (uint8_t)t->text[t->special[k]].p[0] == b)
            k++;
    }
    t->special_from[256] = k;
    return 0;
}

/* The bytes token i stands for, into b. */
static int spell(const struct lr_nn_tok *t, size_t i, struct lr_buf *b)
{
    struct lr_str s = t->text[i];
    uint8_t type = t->type[i];
    unsigned byte;
    if (special(type))
        return lr_buf_adds(b, s);
    char z[8];
    if (type == LR_NN_TOKEN_BYTE && s.n == 6) { /* "<0x0A>" */
        memcpy(z, s.p, 6);
        z[6] = 0;
        if (sscanf(z, "<0x%2X>", &byte) == 1)
            return lr_buf_addc(b, (char)byte);
    }
    for (size_t at = 0, k; at < s.n; at += k) {
        uint32_t c;
        k = lr_uni_get(s.p + at, s.n - at, &c);
        int plain = t->kind == LR_NN_BPE ? lr_nn_bpe_byte(c) : c == 0x2581 ? ' ' : -1;
        if (plain >= 0)
            LR_TRY(lr_buf_addc(b, (char)plain));
        else
            LR_TRY(lr_buf_add(b, s.p + at, k));
    }
    return 0;
}

static int spell_all(struct lr_nn_tok *t, struct lr_err *err)
{
    struct lr_buf b;
    int rc = 0;
    lr_buf_init(&b, LR_NN_TOKEN_MAX);
    for (size_t i = 0; i < t->n && !rc; i++) {
        lr_buf_reset(&b);
        rc = spell(t, i, &b);
        if (!rc)
            rc = lr_arena_copy(&t->arena, lr_buf_str(&b), &t->bytes[i]);
    }
    lr_buf_free(&b);
    return rc ? lr_err_set(err, rc, "tokens", "%s", lr_strerror(rc)) : 0;
}

static int check_roles(const struct lr_nn_tok *t, struct lr_err *err)
{
    const struct lr_nn_roles *r = &t->roles;
    const struct {
        const char *name;
        uint32_t id;
    } all[] = {{"bos", r->bos}, {"eos", r->eos}, {"eot", r->eot}, {"unk", r->unk},
               {"sep", r->sep}, {"pad", r->pad}, {"cls", r->cls}, {"mask", r->mask}};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (all[i].id != LR_NN_NO_TOKEN && all[i].id >= t->n)
            return lr_err_set(err, LR_EPARSE, "special tokens", "%s is token %u of %zu",
                              all[i].name, all[i].id, t->n);
    return 0;
}

static int open_kind(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err)
{
    switch (v->kind) {
    case LR_NN_SPM:
        return lr_nn_spm_open(t, v, err);
    case LR_NN_BPE:
        return lr_nn_bpe_open(t, v, err);
    case LR_NN_WORDPIECE:
        t->keep_case = v->keep_case;
        t->keep_accents = v->keep_accents;
        return 0;
    }
    return lr_err_set(err, LR_EINVAL, "vocabulary", "unknown kind %d", (int)v->kind);
}

static int open_all(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err)
{
    LR_TRY(copy_tokens(t, v, err));
    LR_TRY(check_roles(t, err));
    LR_TRY(index_tokens(t, err));
    LR_TRY(list_special(t, err));
    LR_TRY(spell_all(t, err));
    return open_kind(t, v, err);
}

int lr_nn_tok_new(struct lr_nn_tok **out, const struct lr_nn_vocab *v, struct lr_err *err)
{
    if (!v->n || v->n > LR_NN_VOCAB_MAX)
        return lr_err_set(err, v->n ? LR_EOVER : LR_EPARSE, "tokens", "%zu, 1 to %u are read", v->n,
                          LR_NN_VOCAB_MAX);
    struct lr_nn_tok *t = lr_new(struct lr_nn_tok);
    if (!t)
        return lr_err_set(err, LR_ENOMEM, "tokens", "out of memory");
    lr_arena_init(&t->arena, LR_NN_META_MAX);
    t->kind = v->kind;
    t->n = v->n;
    t->roles = v->roles;
    t->add_bos = v->add_bos;
    t->add_eos = v->add_eos;
    t->strip_after_special = v->strip_after_special;
    int rc = open_all(t, v, err);
    if (rc) {
        lr_nn_tok_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void lr_nn_tok_close(struct lr_nn_tok *t)
{
    if (!t)
        return;
    lr_nn_names_close(&t->names);
    lr_nn_names_close(&t->plain);
    lr_free(t->merges);
    lr_arena_free(&t->arena);
    lr_free(t);
}

/* ---- looking ---- */

enum lr_nn_tok_kind lr_nn_tok_kind(const struct lr_nn_tok *t)
{
    return t->kind;
}

size_t lr_nn_tok_size(const struct lr_nn_tok *t)
{
    return t->n;
}

const struct lr_nn_roles *lr_nn_tok_roles(const struct lr_nn_tok *t)
{
    return &t->roles;
}

bool lr_nn_tok_adds_bos(const struct lr_nn_tok *t)
{
    return t->add_bos;
}

bool lr_nn_tok_adds_eos(const struct lr_nn_tok *t)
{
    return t->add_eos;
}

bool lr_nn_tok_guessed(const struct lr_nn_tok *t)
{
    return t->guessed;
}

struct lr_str lr_nn_tok_text(const struct lr_nn_tok *t, uint32_t id)
{
    return t->text[id];
}

struct lr_str lr_nn_tok_bytes(const struct lr_nn_tok *t, uint32_t id)
{
    return t->bytes[id];
}

enum lr_nn_token_type lr_nn_tok_type(const struct lr_nn_tok *t, uint32_t id)
{
    return (enum lr_nn_token_type)t->type[id];
}

uint32_t lr_nn_tok_find(const struct lr_nn_tok *t, struct lr_str text)
{
    return lr_nn_names_find(&t->names, text);
}

bool lr_nn_tok_ends(const struct lr_nn_tok *t, uint32_t id)
{
    return id < t->n && t->ends[id];
}

/* ---- encoding ---- */

int lr_nn_no_char(const struct lr_nn_encoding *e, size_t at, struct lr_str text)
{
    char where[40];
    uint32_t c;
    lr_uni_get(text.p, text.n, &c);
    if (snprintf(where, sizeof where, "byte %zu", at) < 0)
        where[0] = 0; /* cannot be: the format is ours */
    if (c == LR_UNI_BAD)
        return lr_err_set(e->err, LR_EINVAL, where, "byte 0x%02X is not in the vocabulary",
                          (uint8_t)text.p[0]);
    return lr_err_set(e->err, LR_EINVAL, where, "character U+%04X is not in the vocabulary", c);
}

/* In special[lo, hi), whose texts agree in their first `depth` bytes: the part with byte b next. */
static void narrow(const struct lr_nn_tok *t, size_t *lo, size_t *hi, size_t depth, uint8_t b)
{
    size_t ends[2];
    for (unsigned over = 0; over < 2; over++) {
        size_t l = *lo, h = *hi;
        while (l < h) {
            size_t mid = l + (h - l) / 2;
            uint8_t have = (uint8_t)t->text[t->special[mid]].p[depth];
            if (have < b || (over && have == b))
                l = mid + 1;
            else
                h = mid;
        }
        ends[over] = l;
    }
    *lo = ends[0];
    *hi = ends[1];
}

/* The longest special token that text (not empty) begins with. */
static uint32_t special_at(const struct lr_nn_tok *t, struct lr_str text, bool trusted)
{
    uint32_t best = LR_NN_NO_TOKEN;
    size_t lo = t->special_from[(uint8_t)text.p[0]], hi = t->special_from[(uint8_t)text.p[0] + 1];
    for (size_t depth = 1; lo < hi; depth++) {
        uint32_t id = t->special[lo];
        if (t->text[id].n == depth) { /* the shortest comes first, and there is one of each */
            if (trusted || t->type[id] == LR_NN_TOKEN_USER)
                best = id;
            lo++;
        }
        if (depth == text.n)
            break;
        narrow(t, &lo, &hi, depth, (uint8_t)text.p[depth]);
    }
    return best;
}

static int encode_plain(struct lr_nn_encoding *e, struct lr_str text, bool after_special)
{
    if (!text.n)
        return 0;
    switch (e->t->kind) {
    case LR_NN_SPM:
        return lr_nn_spm_encode(e, text, after_special);
    case LR_NN_BPE:
        return lr_nn_bpe_encode(e, text);
    default:
        return lr_nn_wordpiece_encode(e, text);
    }
}

static size_t white(struct lr_str text, size_t i)
{
    while (i < text.n && (text.p[i] == ' ' || (text.p[i] >= '\t' && text.p[i] <= '\r')))
        i++;
    return i;
}

/* Text and special tokens by turns. */
static int encode_mixed(struct lr_nn_encoding *e, struct lr_str text, bool trusted)
{
    const struct lr_nn_tok *t = e->t;
    size_t from = 0;
    bool after_special = true;
    for (size_t i = 0; i < text.n;) {
        uint32_t id = special_at(t, lr_str(text.p + i, text.n - i), trusted);
        if (id == LR_NN_NO_TOKEN) {
            i++;
            continue;
        }
        LR_TRY(encode_plain(e, lr_str(text.p + from, i - from), after_special));
        LR_TRY(lr_nn_ids_add(e->ids, id));
        i += t->text[id].n;
        if (t->strip_after_special && id != t->roles.unk && id != t->roles.bos &&
            id != t->roles.eos)
            i = white(text, i);
        from = i;
        after_special = true;
    }
    return encode_plain(e, lr_str(text.p + from, text.n - from), after_special);
}

static int encode(struct lr_nn_encoding *e, struct lr_str text, unsigned flags)
{
    const struct lr_nn_tok *t = e->t;
    const struct lr_nn_roles *r = &t->roles;
    uint32_t first = t->kind == LR_NN_WORDPIECE ? r->cls : r->bos;
    uint32_t last = t->kind == LR_NN_WORDPIECE ? r->sep : r->eos;
    bool add = flags & LR_NN_ADD_SPECIAL;
    if (text.n > LR_NN_INPUT_MAX)
        return lr_err_set(e->err, LR_EOVER, "text", "%zu bytes, at most %zu are encoded", text.n,
                          LR_NN_INPUT_MAX);
    if (add && t->add_bos && first != LR_NN_NO_TOKEN)
        LR_TRY(lr_nn_ids_add(e->ids, first));
    LR_TRY(encode_mixed(e, text, flags & LR_NN_PARSE_SPECIAL));
    if (add && t->add_eos && last != LR_NN_NO_TOKEN)
        LR_TRY(lr_nn_ids_add(e->ids, last));
    return 0;
}

int lr_nn_tok_encode(const struct lr_nn_tok *t, struct lr_str text, unsigned flags,
                     struct lr_nn_ids *ids, struct lr_err *err)
{
    struct lr_nn_encoding e = {.t = t, .ids = ids, .err = err, .start = text.p};
    size_t before = ids->n;
    lr_buf_init(&e.text, 3 * (LR_NN_INPUT_MAX + 1));
    int rc = encode(&e, text, flags);
    lr_buf_free(&e.text);
    lr_nn_merger_free(&e.merger);
    lr_nn_span_free(&e.span);
    if (!rc)
        return 0;
    ids->n = before;
    if (rc == LR_EOVER)
        return lr_err_set(err, rc, "text", "over %zu tokens", ids->max);
    return lr_err_set(err, rc, "text", "%s", lr_strerror(rc));
}

/* ---- decoding ---- */

void lr_nn_decoder_init(struct lr_nn_decoder *d, const struct lr_nn_tok *t, bool from_start,
                        bool special)
{
    bool spaced = t->kind == LR_NN_WORDPIECE || (t->kind == LR_NN_SPM && t->add_space_prefix);
    *d = (struct lr_nn_decoder){.t = t, .special = special, .strip = from_start && spaced};
}

/* How many bytes from p on could begin a well-formed character (a whole one does not come here);
 * at least 1. */
static size_t promising(const char *p, size_t n)
{
    static const char *const tails[] = {"\x80\x80\x80", "\xBF\xBF\xBF", "\xA0\x80\x80",
                                        "\x90\x80\x80", "\x8F\x80\x80", "\x9F\x80\x80"};
    size_t best = 1;
    for (size_t k = 1; k <= n && k < 4; k++)
        for (size_t i = 0; i < LR_COUNT(tails); i++) {
            char whole[8];
            memcpy(whole, p, k);
            memcpy(whole + k, tails[i], 3);
            if (lr_utf8_len(whole, k + 3) > k)
                best = k;
        }
    return best;
}

static bool leads(char c)
{
    uint8_t b = (uint8_t)c;
    return b >= 0xC2 && b <= 0xF4;
}

/* n bytes, of which the last may be held back. */
static int emit(struct lr_nn_decoder *d, const char *p, size_t n, struct lr_buf *out)
{
    while (n) {
        size_t k = lr_utf8_len(p, n);
        if (k) {
            LR_TRY(lr_buf_add(out, p, k));
        } else {
            k = leads(p[0]) ? promising(p, n) : 1;
            if (k == n && leads(p[0])) {
                memcpy(d->held, p, n);
                d->n_held = (uint8_t)n;
                return 0;
            }
            LR_TRY(lr_buf_addz(out, "\xEF\xBF\xBD"));
        }
        p += k;
        n -= k;
    }
    return 0;
}

int lr_nn_decoder_add(struct lr_nn_decoder *d, uint32_t id, struct lr_buf *out)
{
    const struct lr_nn_tok *t = d->t;
    LR_FAIL_IF(id >= t->n, LR_EINVAL);
    bool silent = t->type[id] == LR_NN_TOKEN_CONTROL || t->type[id] == LR_NN_TOKEN_UNKNOWN;
    struct lr_str s = t->bytes[id];
    if ((silent && !d->special) || !s.n)
        return 0;
    if (d->strip && !silent && s.p[0] == ' ')
        s = lr_str(s.p + 1, s.n - 1);
    d->strip = false;
    char joined[sizeof d->held + LR_NN_TOKEN_MAX];
    size_t held = d->n_held;
    memcpy(joined, d->held, held);
    if (s.n)
        memcpy(joined + held, s.p, s.n);
    d->n_held = 0;
    return emit(d, joined, held + s.n, out);
}

int lr_nn_decoder_end(struct lr_nn_decoder *d, struct lr_buf *out)
{
    bool held = d->n_held > 0;
    d->n_held = 0;
    return held ? lr_buf_addz(out, "\xEF\xBF\xBD") : 0;
}
