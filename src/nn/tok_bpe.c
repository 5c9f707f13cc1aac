/* SPDX-License-Identifier: Apache-2.0
 * nn/tok_bpe.c - byte-level BPE, as GPT-2, Llama 3, Qwen, SmolLM, StarCoder, Falcon, DeepSeek use
 * it.
 *
 *   text -> words (pretok.c) -> bytes -> merge the neighbours with the best rank -> tokens
 *
 * In the file a byte is spelled as a printable character (0x20 as U+0120, 0x0A as U+010A ...), and
 * a merge is two spelled texts. Here both are numbers: symbol = id of the token with that text, and
 * a hash table holds (left, right) -> (rank, merged). Texts that occur in merges but are no tokens
 * get symbols from n on; a word that ends on one falls back to its bytes, as it does where merging
 * works on texts. Of equal merges the first counts.
 *
 * Malformed UTF-8 is encoded byte for byte, so that decoding gives back exactly what was encoded
 * (some engines put U+FFFD there first). Text never turns into control or unknown tokens by
 * merging.
 *
 * Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units",
 * ACL 2016; Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (bytes).
 */
#include "nn/nn_int.h"

#include <stdio.h>

/* GPT-2's alphabet: printable Latin-1 bytes are themselves, the other 68 are U+0100 and up. */
static uint32_t char_of(unsigned b)
{
    if (b < 33)
        return 256 + b;
    if (b < 127 || (b > 160 && b != 173))
        return b;
    return b == 173 ? 323 : 289 + (b - 127);
}

int lr_nn_bpe_byte(uint32_t c)
{
    if (c >= 256 && c < 289)
        return (int)c - 256;
    if (c >= 289 && c < 323)
        return (int)c - 289 + 127;
    if (c == 323)
        return 173;
    return c < 256 && char_of(c) == c ? (int)c : -1;
}

/* ---- opening ---- */

/* What a merge becomes; LR_NN_NO_TOKEN until the symbol is known. */
struct triple {
    uint32_t left, right, both;
};

/* While symbols are given out. */
struct namer {
    struct lr_nn_tok *t;
    struct lr_nn_names ghosts; /* texts that are no tokens */
    struct lr_str *texts;
    size_t n;
};

/* Splits "left right" at its first space behind the first byte; writes left and right joined to
 * `both`, which has room for all of it. */
static bool split(struct lr_str merge, struct lr_str *left, struct lr_str *right, char *both)
{
    const char *space = merge.n > 2 ? memchr(merge.p + 1, ' ', merge.n - 1) : NULL;
    size_t k = space ? (size_t)(space - merge.p) : 0;
    if (!space || k + 1 == merge.n)
        return false;
    *left = lr_str(merge.p, k);
    *right = lr_str(space + 1, merge.n - k - 1);
    memcpy(both, left->p, left->n);
    memcpy(both + left->n, right->p, right->n);
    return true;
}

static uint32_t symbol(struct namer *m, struct lr_str text)
{
    uint32_t id = lr_nn_names_find(&m->t->plain, text);
    if (id != LR_NN_NO_TOKEN || !m->texts)
        return id;
    m->texts[m->n] = text;
    uint32_t at = lr_nn_names_put(&m->ghosts, (uint32_t)m->n);
    m->n += at == m->n;
    return (uint32_t)m->t->n + at;
}

static void put_merge(struct lr_nn_tok *t, const struct triple *x, uint32_t rank)
{
    uint32_t key[2] = {x->left, x->right};
    size_t i = (size_t)lr_hash64(lr_str(key, sizeof key), t->merges_seed) & t->merges_mask;
    for (; t->merges[i].left != LR_NN_NO_TOKEN; i = (i + 1) & t->merges_mask)
        if (t->merges[i].left == x->left && t->merges[i].right == x->right)
            return;
    t->merges[i] = (struct lr_nn_merge){x->left, x->right, rank, x->both};
}

static const struct lr_nn_merge *find_merge(const struct lr_nn_tok *t, uint32_t left,
                                            uint32_t right)
{
    uint32_t key[2] = {left, right};
    size_t i = (size_t)lr_hash64(lr_str(key, sizeof key), t->merges_seed) & t->merges_mask;
    for (; t->merges[i].left != LR_NN_NO_TOKEN; i = (i + 1) & t->merges_mask)
        if (t->merges[i].left == left && t->merges[i].right == right)
            return &t->merges[i];
    return NULL;
}

static int open_table(struct lr_nn_tok *t, size_t n)
{
    size_t slots = 8;
    while (slots < n * 2)
        slots *= 2;
    t->merges = lr_calloc(slots, sizeof *t->merges);
    LR_FAIL_IF(!t->merges, LR_ENOMEM);
    for (size_t i = 0; i < slots; i++)
        t->merges[i].left = LR_NN_NO_TOKEN;
    t->merges_mask = slots - 1;
    lr_random_bytes(&t->merges_seed, sizeof t->merges_seed);
    return 0;
}

/* Symbols of all merges; how many texts are no tokens (each occurrence counted) in *missing. */
static int name_merges(struct namer *m, const struct lr_nn_vocab *v, struct triple *x, char *joined,
                       size_t *missing, struct lr_err *err)
{
    *missing = 0;
    for (size_t i = 0; i < v->n_merges; i++) {
        struct lr_str left, right;
        if (!split(v->merges[i], &left, &right, joined))
            return lr_err_set(err, LR_EPARSE, "merges", "merge %zu is not two texts", i);
        x[i].left = symbol(m, left);
        x[i].right = symbol(m, right);
        x[i].both = symbol(m, lr_str(joined, left.n + right.n));
        *missing += x[i].left == LR_NN_NO_TOKEN;
        *missing += x[i].right == LR_NN_NO_TOKEN;
        *missing += x[i].both == LR_NN_NO_TOKEN;
        joined += m->texts ? left.n + right.n : 0; /* ghosts keep their text */
    }
    return 0;
}

static void name_bytes(struct namer *m, char (*spelled)[4])
{
    for (unsigned b = 0; b < 256; b++) {
        size_t k = lr_uni_put(char_of(b), spelled[b]);
        m->t->byte[b] = symbol(m, lr_str(spelled[b], k));
    }
}

/* Bytes of all merges together, or of the longest. */
static size_t merge_bytes(const struct lr_nn_vocab *v, bool all)
{
    size_t n = 1;
    for (size_t i = 0; i < v->n_merges; i++)
        n = all ? n + v->merges[i].n : v->merges[i].n > n ? v->merges[i].n : n;
    return n;
}

/* Some texts are no tokens: gives them symbols and names everything again. */
static int name_ghosts(struct namer *m, const struct lr_nn_vocab *v, struct triple *x,
                       size_t missing, struct lr_err *err)
{
    char *joined = lr_alloc(merge_bytes(v, true));
    m->texts = lr_calloc(missing + 257, sizeof *m->texts);
    int rc = joined && m->texts ? lr_nn_names_open(&m->ghosts, m->texts, missing + 257) : LR_ENOMEM;
    char spelled[256][4];
    if (!rc)
        rc = name_merges(m, v, x, joined, &missing, err);
    if (!rc)
        name_bytes(m, spelled);
    lr_nn_names_close(&m->ghosts);
    lr_free(m->texts);
    lr_free(joined);
    return rc;
}

static int name_all(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct triple *x,
                    struct lr_err *err)
{
    struct namer m = {.t = t};
    char spelled[256][4];
    size_t missing;
    char *joined = lr_alloc(merge_bytes(v, false));
    LR_FAIL_IF(!joined, LR_ENOMEM);
    int rc = name_merges(&m, v, x, joined, &missing, err);
    lr_free(joined);
    LR_FAIL_IF(rc, rc);
    name_bytes(&m, spelled);
    bool all_bytes = true;
    for (unsigned b = 0; b < 256; b++)
        all_bytes = all_bytes && t->byte[b] != LR_NN_NO_TOKEN;
    return missing || !all_bytes ? name_ghosts(&m, v, x, missing, err) : 0;
}

int lr_nn_bpe_open(struct lr_nn_tok *t, const struct lr_nn_vocab *v, struct lr_err *err)
{
    t->guessed = !v->pre.n || lr_str_is(v->pre, "default");
    t->pre = lr_nn_pretok_find(t->guessed ? LR_STR("default") : v->pre);
    if (!t->pre) {
        struct lr_nn_shown s = lr_nn_show(v->pre);
        return lr_err_set(err, LR_EUNSUPPORTED, "pre-tokeniser", "'%s' is not known", s.z);
    }
    if (v->n_merges > LR_NN_VOCAB_MAX * 4u)
        return lr_err_set(err, LR_EOVER, "merges", "%zu, at most %u are read", v->n_merges,
                          LR_NN_VOCAB_MAX * 4u);
    struct triple *x = lr_calloc(v->n_merges + 1, sizeof *x);
    int rc = x ? name_all(t, v, x, err) : LR_ENOMEM;
    if (!rc)
        rc = open_table(t, v->n_merges);
    for (size_t i = 0; !rc && i < v->n_merges; i++)
        put_merge(t, &x[i], (uint32_t)i);
    lr_free(x);
    return rc ? lr_err_set(err, rc, "merges", "%s", lr_strerror(rc)) : 0;
}

/* ---- encoding ---- */

static bool pair(const void *ctx, const struct lr_nn_sym *a, const struct lr_nn_sym *b,
                 uint32_t *rank, uint32_t *id)
{
    const struct lr_nn_merge *m = find_merge(ctx, a->id, b->id);
    if (!m)
        return false;
    *rank = m->rank;
    *id = m->id;
    return true;
}

/* The token that is the whole word, or LR_NN_NO_TOKEN. */
static uint32_t whole(struct lr_nn_encoding *e, struct lr_str word)
{
    if (word.n > e->t->longest)
        return LR_NN_NO_TOKEN;
    char spelled[2 * LR_NN_TOKEN_MAX];
    size_t n = 0;
    for (size_t i = 0; i < word.n; i++)
        n += lr_uni_put(char_of((uint8_t)word.p[i]), spelled + n);
    return lr_nn_names_find(&e->t->plain, lr_str(spelled, n));
}

static int add_symbol(struct lr_nn_encoding *e, struct lr_str word, const struct lr_nn_sym *s)
{
    if (s->id < e->t->n)
        return lr_nn_ids_add(e->ids, s->id);
    for (uint32_t i = 0; i < s->len; i++) {
        uint32_t id = e->t->byte[(uint8_t)word.p[s->at + i]];
        if (id >= e->t->n) { /* name the character, which may have begun before this byte */
            size_t at = s->at + i;
            while (at && ((uint8_t)word.p[at] & 0xC0) == 0x80 && s->at + i - at < 3)
                at--;
            return lr_nn_no_char(e, (size_t)(word.p - e->start) + at,
                                 lr_str(word.p + at, word.n - at));
        }
        LR_TRY(lr_nn_ids_add(e->ids, id));
    }
    return 0;
}

static int encode_word(void *ctx, struct lr_str word)
{
    struct lr_nn_encoding *e = ctx;
    struct lr_nn_merger *m = &e->merger;
    uint32_t id = e->t->pre->ignore_merges ? whole(e, word) : LR_NN_NO_TOKEN;
    if (id != LR_NN_NO_TOKEN)
        return lr_nn_ids_add(e->ids, id);
    LR_TRY(lr_nn_merger_room(m, word.n));
    m->n = 0;
    for (size_t i = 0; i < word.n; i++)
        lr_nn_merger_push(m, (uint32_t)i, 1, e->t->byte[(uint8_t)word.p[i]]);
    LR_TRY(lr_nn_merger_run(m));
    for (uint32_t i = 0; i != LR_NN_NO_TOKEN; i = m->sym[i].next)
        LR_TRY(add_symbol(e, word, &m->sym[i]));
    return 0;
}

int lr_nn_bpe_encode(struct lr_nn_encoding *e, struct lr_str text)
{
    e->merger.pair = pair;
    e->merger.ctx = e->t;
    return lr_nn_pretok_cut(e->t->pre, &e->span, text, encode_word, e);
}
