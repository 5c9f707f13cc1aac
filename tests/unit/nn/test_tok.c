/* SPDX-License-Identifier: Apache-2.0
 * unit/nn/test_tok.c - laws of the tokenisers: against slow twins, and where text meets the
 * outside.
 *
 * The twins merge the plain way: look at all neighbours, take the best, begin again. Vocabularies
 * are grown from a seed, so that ties, tokens without a way to reach them and merges without tokens
 * occur.
 */
#include "kit.h"

#define ROUNDS   150
#define TOKENS   200
#define TEXT_MAX 60

static struct lr_rng rng;
static uint64_t seed;

static size_t below(size_t n)
{
    return (size_t)lr_rng_below(&rng, n);
}

static void start(uint64_t s)
{
    seed = s;
    lr_rng_seed(&rng, s);
}

static struct lr_nn_roles no_roles(void)
{
    struct lr_nn_roles r;
    memset(&r, 0xFF, sizeof r);
    return r;
}

/* ---- grown vocabularies ---- */

struct grown {
    struct lr_arena a;
    struct lr_str tokens[TOKENS];
    float scores[TOKENS];
    int32_t types[TOKENS];
    struct lr_str merges[TOKENS];
    struct lr_nn_vocab v;
};

static uint32_t find(const struct grown *g, struct lr_str s)
{
    for (uint32_t i = 0; i < g->v.n; i++)
        if (lr_str_eq(g->tokens[i], s))
            return i;
    return LR_NN_NO_TOKEN;
}

static void add(struct grown *g, struct lr_str s, int32_t type, float score)
{
    if (find(g, s) != LR_NN_NO_TOKEN || g->v.n == TOKENS)
        return;
    assert_int_equal(lr_arena_copy(&g->a, s, &g->tokens[g->v.n]), 0);
    g->types[g->v.n] = type;
    g->scores[g->v.n++] = score;
}

static void begin(struct grown *g, enum lr_nn_tok_kind kind)
{
    memset(g, 0, sizeof *g);
    lr_arena_init(&g->a, LR_MIB(4));
    g->v = (struct lr_nn_vocab){.kind = kind,
                                .tokens = g->tokens,
                                .scores = g->scores,
                                .types = g->types,
                                .merges = g->merges,
                                .roles = no_roles()};
}

/* Two tokens in a row as a new one, some of the time one that nothing else leads to. */
static struct lr_str joined(struct grown *g, char z[64], size_t *left)
{
    struct lr_str a = g->tokens[below(g->v.n)], b = g->tokens[below(g->v.n)];
    *left = a.n;
    if (a.n + b.n > 20)
        return (struct lr_str){NULL, 0};
    memcpy(z, a.p, a.n);
    memcpy(z + a.n, b.p, b.n);
    return lr_str(z, a.n + b.n);
}

static const char *const letters[] = {"a", "b", "c", "\u00e9", "\u65e5", "\U0001F642", "\u2581"};

static void grow_spm(struct grown *g)
{
    begin(g, LR_NN_SPM);
    for (size_t i = 0; i < LR_COUNT(letters); i++)
        if (below(4))
            add(g, lr_strz(letters[i]), LR_NN_TOKEN_NORMAL, -(float)below(9));
    add(g, LR_STR("a"), LR_NN_TOKEN_NORMAL, 0);
    for (int i = 0; i < 30; i++) {
        char z[64];
        size_t left;
        struct lr_str s = joined(g, z, &left);
        add(g, s.n ? s : LR_STR("ab"), LR_NN_TOKEN_NORMAL, (float)below(6) - 3);
    }
    for (unsigned b = 128; b < 256; b++) {
        char z[8];
        snprintf(z, sizeof z, "<0x%02X>", b);
        add(g, lr_strz(z), LR_NN_TOKEN_BYTE, 0);
    }
    g->v.add_space_prefix = below(2);
}

/* Bytes 'a' to 'e' and a few merges of what is there; some lead to texts that are no tokens. */
static void grow_bpe(struct grown *g)
{
    begin(g, LR_NN_BPE);
    g->v.pre = LR_STR("gpt-2");
    for (char c = 'a'; c <= 'e'; c++)
        add(g, lr_str(&c, 1), LR_NN_TOKEN_NORMAL, 0);
    while (g->v.n_merges < 25) {
        char z[64], m[64];
        size_t left;
        struct lr_str s = joined(g, z, &left);
        if (!s.n)
            continue;
        int n = snprintf(m, sizeof m, "%.*s %.*s", (int)left, z, (int)(s.n - left), z + left);
        assert_int_equal(lr_arena_copy(&g->a, lr_str(m, (size_t)n), &g->merges[g->v.n_merges++]),
                         0);
        if (below(8))
            add(g, s, LR_NN_TOKEN_NORMAL, 0);
    }
}

/* ---- twins ---- */

struct part {
    size_t at, n;
};

static void join(struct part *p, size_t *n, size_t i)
{
    p[i].n += p[i + 1].n;
    memmove(p + i + 1, p + i + 2, (*n - i - 2) * sizeof *p);
    --*n;
}

/* SPM as its definition has it: of all neighbours whose joined text is a token the best score. */
static size_t spm_twin(const struct grown *g, struct lr_str s, struct part *p)
{
    size_t n = 0;
    for (size_t i = 0, k; i < s.n; i += k) {
        k = lr_utf8_len(s.p + i, s.n - i);
        p[n++] = (struct part){i, k};
    }
    for (;;) {
        size_t best = SIZE_MAX;
        float score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t id = find(g, lr_str(s.p + p[i].at, p[i].n + p[i + 1].n));
            if (id != LR_NN_NO_TOKEN && g->types[id] == LR_NN_TOKEN_NORMAL &&
                (best == SIZE_MAX || g->scores[id] > score)) {
                best = i;
                score = g->scores[id];
            }
        }
        if (best == SIZE_MAX)
            return n;
        join(p, &n, best);
    }
}

/* The tokens of SPM's parts; false when one has neither a token nor bytes. */
static bool spm_ids(const struct grown *g, const char *text, const struct part *p, size_t n,
                    struct lr_nn_ids *ids)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t id = find(g, lr_str(text + p[i].at, p[i].n));
        for (size_t b = 0; id == LR_NN_NO_TOKEN && b < p[i].n; b++) {
            char z[8];
            snprintf(z, sizeof z, "<0x%02X>", (uint8_t)text[p[i].at + b]);
            uint32_t byte = find(g, lr_strz(z));
            if (byte == LR_NN_NO_TOKEN)
                return false;
            assert_int_equal(lr_nn_ids_add(ids, byte), 0);
        }
        if (id != LR_NN_NO_TOKEN)
            assert_int_equal(lr_nn_ids_add(ids, id), 0);
    }
    return true;
}

/* BPE over a word of ASCII letters: of all neighbours that are a merge the first merge. */
static size_t bpe_twin(const struct grown *g, struct lr_str s, struct part *p)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        p[n++] = (struct part){i, 1};
    for (;;) {
        size_t best = SIZE_MAX, rank = SIZE_MAX;
        for (size_t i = 0; i + 1 < n; i++) {
            char m[160];
            int k = snprintf(m, sizeof m, "%.*s %.*s", (int)p[i].n, s.p + p[i].at, (int)p[i + 1].n,
                             s.p + p[i + 1].at);
            for (size_t r = 0; r < rank && r < g->v.n_merges; r++)
                if (lr_str_eq(g->merges[r], lr_str(m, (size_t)k))) {
                    rank = r;
                    best = i;
                }
        }
        if (best == SIZE_MAX)
            return n;
        join(p, &n, best);
    }
}

/* ---- properties ---- */

static struct lr_nn_tok *open_grown(const struct grown *g)
{
    struct lr_nn_tok *t;
    struct lr_err err = {0};
    if (lr_nn_tok_new(&t, &g->v, &err))
        fail_msg("seed %d: %s at %s", (int)seed, err.msg, err.where);
    return t;
}

static void spm_gives_what_merging_one_by_one_gives(void **state)
{
    (void)state; /* cmocka's */
    static struct grown g;
    for (uint64_t s = 1; s <= ROUNDS; s++) {
        start(s);
        grow_spm(&g);
        struct lr_nn_tok *t = open_grown(&g);
        for (int round = 0; round < 10; round++) {
            char text[4 * TEXT_MAX + 8] = "", escaped[4 * TEXT_MAX + 8] = "";
            size_t n = 0, e = 0, want = 0;
            struct part parts[4 * TEXT_MAX + 8];
            if (g.v.add_space_prefix)
                e += (size_t)snprintf(escaped, sizeof escaped, "\u2581");
            for (size_t k = 1 + below(TEXT_MAX); k; k--) {
                const char *z = letters[below(LR_COUNT(letters))];
                bool space = strcmp(z, "\u2581") == 0;
                n += (size_t)snprintf(text + n, sizeof text - n, "%s", space ? " " : z);
                e += (size_t)snprintf(escaped + e, sizeof escaped - e, "%s", z);
            }
            struct lr_nn_ids ids, twin;
            lr_nn_ids_init(&ids, 1000);
            lr_nn_ids_init(&twin, 1000);
            int rc = lr_nn_tok_encode(t, lr_str(text, n), 0, &ids, NULL);
            want = spm_twin(&g, lr_str(escaped, e), parts);
            bool all = spm_ids(&g, escaped, parts, want, &twin);
            if (rc != (all ? 0 : LR_EINVAL) || (all && ids.n != twin.n) ||
                (all && ids.n && memcmp(ids.id, twin.id, ids.n * sizeof *ids.id) != 0))
                fail_msg("seed %d: '%s': %d, %zu tokens, want %zu", (int)s, text, rc, ids.n,
                         twin.n);
            lr_nn_ids_free(&ids);
            lr_nn_ids_free(&twin);
        }
        lr_nn_tok_close(t);
        lr_arena_free(&g.a);
    }
}

static void bpe_gives_what_merging_one_by_one_gives(void **state)
{
    (void)state; /* cmocka's */
    static struct grown g;
    for (uint64_t s = 1; s <= ROUNDS; s++) {
        start(s);
        grow_bpe(&g);
        struct lr_nn_tok *t = open_grown(&g);
        for (int round = 0; round < 10; round++) {
            char text[TEXT_MAX];
            struct part parts[TEXT_MAX];
            size_t n = 1 + below(TEXT_MAX - 1), want = 0;
            for (size_t i = 0; i < n; i++)
                text[i] = (char)('a' + below(5));
            struct lr_nn_ids ids;
            lr_nn_ids_init(&ids, 1000);
            assert_int_equal(lr_nn_tok_encode(t, lr_str(text, n), 0, &ids, NULL), 0);
            size_t n_parts = bpe_twin(&g, lr_str(text, n), parts);
            for (size_t i = 0; i < n_parts; i++) {
                uint32_t id = find(&g, lr_str(text + parts[i].at, parts[i].n));
                for (size_t b = 0; id == LR_NN_NO_TOKEN && b < parts[i].n; b++) {
                    uint32_t byte = find(&g, lr_str(text + parts[i].at + b, 1));
                    if (want >= ids.n || ids.id[want++] != byte)
                        fail_msg("seed %d: '%.*s', token %zu", (int)s, (int)n, text, want);
                }
                if (id != LR_NN_NO_TOKEN && (want >= ids.n || ids.id[want++] != id))
                    fail_msg("seed %d: '%.*s', token %zu", (int)s, (int)n, text, want);
            }
            assert_int_equal(want, ids.n);
            lr_nn_ids_free(&ids);
        }
        lr_nn_tok_close(t);
        lr_arena_free(&g.a);
    }
}

/* All 256 bytes as tokens, and no merges. */
static struct lr_nn_tok *open_bytes(struct grown *g)
{
    begin(g, LR_NN_BPE);
    g->v.pre = LR_STR("llama-bpe");
    static struct lr_str tokens[260];
    static char spelled[260][8];
    size_t n = 0;
    for (unsigned b = 0; b < 256; b++) { /* GPT-2's alphabet, counted out */
        static unsigned other;
        other = b ? other : 0;
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        unsigned c = itself ? b : 256 + other++;
        snprintf(spelled[n], sizeof spelled[n], c < 128 ? "%c" : "%c%c",
                 c < 128 ? (int)c : (int)(0xC0 | c >> 6), (int)(0x80 | (c & 63)));
        tokens[n] = lr_strz(spelled[n]);
        n++;
    }
    tokens[n++] = LR_STR("<|im_end|>");
    tokens[n++] = LR_STR("<|im_start|>");
    tokens[n++] = LR_STR("<tool>");
    static int32_t types[260];
    for (size_t i = 0; i < n; i++)
        types[i] = i < 256 ? LR_NN_TOKEN_NORMAL : i < 258 ? LR_NN_TOKEN_CONTROL : LR_NN_TOKEN_USER;
    g->v.tokens = tokens;
    g->v.types = types;
    g->v.n = n;
    g->v.roles.bos = 257;
    g->v.roles.eos = 256;
    g->v.add_bos = g->v.add_eos = true;
    return open_grown(g);
}

/* Whatever the cut, what has come out is well-formed, and in the end it is all there. */
static void any_bytes_survive_encoding_and_decoding(void **state)
{
    (void)state; /* cmocka's */
    static struct grown g;
    struct lr_nn_tok *t = open_bytes(&g);
    for (uint64_t s = 1; s <= 500; s++) {
        char text[64];
        struct lr_nn_ids ids;
        struct lr_nn_decoder d;
        struct lr_buf out;
        start(s);
        size_t n = below(sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(below(3) ? below(256) : 0x80 + below(0x60));
        lr_nn_ids_init(&ids, 1000);
        lr_buf_init(&out, LR_KIB(4));
        assert_int_equal(lr_nn_tok_encode(t, lr_str(text, n), 0, &ids, NULL), 0);
        assert_int_equal(ids.n, n);
        lr_nn_decoder_init(&d, t, true, false);
        size_t whole = 0; /* bytes before the first malformed one */
        bool well = lr_utf8_check(lr_str(text, n), &whole) == 0;
        for (size_t i = 0; i < ids.n; i++) {
            struct lr_str b = lr_nn_tok_bytes(t, ids.id[i]);
            assert_true(b.n == 1 && b.p[0] == text[i]);
            assert_int_equal(lr_nn_decoder_add(&d, ids.id[i], &out), 0);
            assert_int_equal(lr_utf8_check(lr_buf_str(&out), NULL), 0);
        }
        assert_int_equal(lr_nn_decoder_end(&d, &out), 0);
        whole = well ? n : whole;
        if (out.len < whole || (whole && memcmp(out.p, text, whole) != 0))
            fail_msg("seed %d: decoded text differs", (int)s);
        if (well)
            assert_int_equal(out.len, n);
        lr_nn_ids_free(&ids);
        lr_buf_free(&out);
    }
    lr_nn_tok_close(t);
    lr_arena_free(&g.a);
}

static void malformed_parts_become_one_replacement_each(void **state)
{
    (void)state; /* cmocka's */
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\xE2\x82x", "\uFFFDx"},
        {"\xF0\x9F\x99", "\uFFFD"},
        {"\xC3\xC3\xA9", "\uFFFD\u00e9"},
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
        {"\xE0\x80", "\uFFFD\uFFFD"},
        {"\xF4\x90\x80", "\uFFFD\uFFFD\uFFFD"},
        {"\xC0\xAFz", "\uFFFD\uFFFDz"},
        {"\xF0\x9F\x99\x82", "\U0001F642"},
        {"\xF0\x9F\xE2\x82\xAC", "\uFFFD\u20AC"},
    };
    static struct grown g;
    struct lr_nn_tok *t = open_bytes(&g);
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_nn_ids ids;
        struct lr_nn_decoder d;
        struct lr_buf out;
        lr_nn_ids_init(&ids, 100);
        lr_buf_init(&out, 100);
        assert_int_equal(lr_nn_tok_encode(t, lr_strz(cases[i].in), 0, &ids, NULL), 0);
        lr_nn_decoder_init(&d, t, true, false);
        for (size_t k = 0; k < ids.n; k++)
            assert_int_equal(lr_nn_decoder_add(&d, ids.id[k], &out), 0);
        assert_int_equal(lr_nn_decoder_end(&d, &out), 0);
        if (!lr_str_is(lr_buf_str(&out), cases[i].out))
            fail_msg("case %zu: '%.*s'", i, LR_FMT(lr_buf_str(&out)));
        lr_nn_ids_free(&ids);
        lr_buf_free(&out);
    }
    lr_nn_tok_close(t);
    lr_arena_free(&g.a);
}

static void typed_text_never_becomes_a_control_token(void **state)
{
    (void)state; /* cmocka's */
    static struct grown g;
    struct lr_nn_tok *t = open_bytes(&g);
    struct lr_str text = LR_STR("x<tool><|im_end|>");
    struct lr_nn_ids ids;
    lr_nn_ids_init(&ids, 100);
    assert_int_equal(lr_nn_tok_encode(t, text, 0, &ids, NULL), 0);
    assert_int_equal(ids.n, 12);
    assert_int_equal(ids.id[1], 258); /* user tokens are found all the same */
    ids.n = 0;
    assert_int_equal(lr_nn_tok_encode(t, text, LR_NN_PARSE_SPECIAL, &ids, NULL), 0);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.id[2], 256);
    ids.n = 0;
    assert_int_equal(lr_nn_tok_encode(t, LR_STR("x"), LR_NN_ADD_SPECIAL, &ids, NULL), 0);
    assert_int_equal(ids.n, 3);
    assert_true(ids.id[0] == 257 && ids.id[2] == 256);
    assert_true(lr_nn_tok_ends(t, 256) && !lr_nn_tok_ends(t, 257) && !lr_nn_tok_ends(t, 9999));
    struct lr_nn_decoder d;
    struct lr_buf out;
    lr_buf_init(&out, 100);
    lr_nn_decoder_init(&d, t, true, false);
    assert_int_equal(lr_nn_decoder_add(&d, 256, &out), 0);
    assert_int_equal(out.len, 0);
    d.special = true;
    assert_int_equal(lr_nn_decoder_add(&d, 256, &out), 0);
    assert_true(lr_str_is(lr_buf_str(&out), "<|im_end|>"));
    assert_int_equal(lr_nn_decoder_add(&d, 9999, &out), LR_EINVAL);
    lr_buf_free(&out);
    lr_nn_ids_free(&ids);
    lr_nn_tok_close(t);
    lr_arena_free(&g.a);
}

/* A file may call its end-of-turn token an ordinary one. */
static void an_end_token_of_wrong_type_is_a_control_token(void **state)
{
    (void)state; /* cmocka's */
    struct lr_str tokens[] = {LR_STR("<"),  LR_STR("/"),  LR_STR("s"),   LR_STR(">"),
                              LR_STR("</"), LR_STR("s>"), LR_STR("</s>")};
    float scores[7] = {0};
    struct lr_nn_vocab v = {
        .kind = LR_NN_SPM, .n = 7, .tokens = tokens, .scores = scores, .roles = no_roles()};
    struct lr_nn_tok *t;
    struct lr_nn_ids ids;
    lr_nn_ids_init(&ids, 100);
    assert_int_equal(lr_nn_tok_new(&t, &v, NULL), 0);
    assert_int_equal(lr_nn_tok_type(t, 6), LR_NN_TOKEN_CONTROL);
    assert_int_equal(lr_nn_tok_encode(t, LR_STR("</s>"), 0, &ids, NULL), 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(lr_nn_tok_encode(t, LR_STR("</s>"), LR_NN_PARSE_SPECIAL, &ids, NULL), 0);
    assert_int_equal(ids.n, 3);
    lr_nn_ids_free(&ids);
    lr_nn_tok_close(t);
}

static void the_longest_special_token_wins_from_left_to_right(void **state)
{
    (void)state; /* cmocka's */
    struct lr_str tokens[] = {LR_STR("a"),    LR_STR("<x"), LR_STR("<x>"),
                              LR_STR("<x>y"), LR_STR(">"),  LR_STR("y")};
    int32_t types[] = {1, 4, 4, 4, 1, 1};
    float scores[6] = {0};
    struct lr_nn_vocab v = {.kind = LR_NN_SPM,
                            .n = 6,
                            .tokens = tokens,
                            .scores = scores,
                            .types = types,
                            .roles = no_roles()};
    struct lr_nn_tok *t;
    struct lr_nn_ids ids;
    lr_nn_ids_init(&ids, 100);
    assert_int_equal(lr_nn_tok_new(&t, &v, NULL), 0);
    assert_int_equal(lr_nn_tok_encode(t, LR_STR("a<x><x>y<xa<x"), 0, &ids, NULL), 0);
    static const uint32_t want[] = {0, 2, 3, 1, 0, 1};
    assert_int_equal(ids.n, LR_COUNT(want));
    assert_memory_equal(ids.id, want, sizeof want);
    lr_nn_ids_free(&ids);
    lr_nn_tok_close(t);
}

static void what_cannot_be_encoded_is_named_and_leaves_no_ids(void **state)
{
    (void)state; /* cmocka's */
    struct lr_str tokens[] = {LR_STR("a"), LR_STR("\u2581")};
    float scores[2] = {0};
    struct lr_nn_vocab v = {
        .kind = LR_NN_SPM, .n = 2, .tokens = tokens, .scores = scores, .roles = no_roles()};
    static const struct {
        const char *text, *msg, *where;
    } cases[] = {
        {"a \u65e5", "character U+65E5 is not in the vocabulary", "byte 2"},
        {"aa\U0001F642", "character U+1F642 is not in the vocabulary", "byte 2"},
        {"a\xFF", "byte 0xFF is not in the vocabulary", "byte 1"},
    };
    static const enum lr_nn_tok_kind kinds[] = {LR_NN_SPM, LR_NN_BPE};
    for (size_t k = 0; k < LR_COUNT(kinds); k++) {
        struct lr_nn_tok *t;
        v.kind = kinds[k];
        v.pre = LR_STR("qwen2");
        tokens[1] = kinds[k] == LR_NN_BPE ? LR_STR("\u0120") : LR_STR("\u2581");
        assert_int_equal(lr_nn_tok_new(&t, &v, NULL), 0);
        for (size_t i = 0; i < LR_COUNT(cases); i++) {
            struct lr_nn_ids ids;
            struct lr_err err = {0};
            lr_nn_ids_init(&ids, 100);
            assert_int_equal(lr_nn_ids_add(&ids, 7), 0);
            assert_int_equal(lr_nn_tok_encode(t, lr_strz(cases[i].text), 0, &ids, &err), LR_EINVAL);
            assert_string_equal(err.msg, cases[i].msg);
            assert_string_equal(err.where, cases[i].where);
            assert_int_equal(ids.n, 1);
            lr_nn_ids_free(&ids);
        }
        struct lr_nn_ids few;
        struct lr_err err = {0};
        lr_nn_ids_init(&few, 2);
        assert_int_equal(lr_nn_tok_encode(t, LR_STR("a a a a"), 0, &few, &err), LR_EOVER);
        assert_int_equal(few.n, 0);
        lr_nn_ids_free(&few);
        lr_nn_tok_close(t);
    }
}

static void bad_vocabularies_are_refused_with_a_reason(void **state)
{
    (void)state; /* cmocka's */
    static char long_text[LR_NN_TOKEN_MAX + 1];
    struct lr_str tokens[] = {LR_STR("a"), LR_STR("b")}, merge = LR_STR("ab");
    float scores[] = {0, 0};
    int32_t types[] = {1, 1};
    const struct lr_nn_vocab good = {.kind = LR_NN_SPM,
                                     .n = 2,
                                     .tokens = tokens,
                                     .scores = scores,
                                     .types = types,
                                     .roles = no_roles()};
    for (int i = 0; i < 7; i++) {
        struct lr_nn_vocab v = good;
        struct lr_nn_tok *t = NULL;
        struct lr_err err = {0};
        scores[1] = i == 0 ? 0.0f / (float)(types[0] - 1) : 0; /* not a number */
        types[1] = i == 1 ? 9 : 1;
        tokens[1] = i == 2 ? lr_str(long_text, sizeof long_text) : LR_STR("b");
        v.roles.bos = i == 3 ? 2 : LR_NN_NO_TOKEN;
        v.n = i == 4 ? 0 : 2;
        v.kind = i >= 5 ? LR_NN_BPE : LR_NN_SPM;
        v.pre = i == 5 ? LR_STR("nobody's") : LR_STR("qwen2");
        v.merges = &merge;
        v.n_merges = i == 6;
        static const int want[] = {LR_EPARSE, LR_EPARSE,       LR_EOVER, LR_EPARSE,
                                   LR_EPARSE, LR_EUNSUPPORTED, LR_EPARSE};
        assert_int_equal(lr_nn_tok_new(&t, &v, &err), want[i]);
        assert_null(t);
        assert_true(err.code == want[i] && err.msg[0] && err.where[0]);
    }
}

static void a_guessed_pre_tokeniser_is_told(void **state)
{
    (void)state; /* cmocka's */
    struct lr_str tokens[] = {LR_STR("a")};
    struct lr_nn_vocab v = {.kind = LR_NN_BPE, .n = 1, .tokens = tokens, .roles = no_roles()};
    static const char *const pres[] = {"", "default", "gpt-2"};
    for (size_t i = 0; i < LR_COUNT(pres); i++) {
        struct lr_nn_tok *t;
        v.pre = lr_strz(pres[i]);
        assert_int_equal(lr_nn_tok_new(&t, &v, NULL), 0);
        assert_int_equal(lr_nn_tok_guessed(t), i < 2);
        lr_nn_tok_close(t);
    }
}

/* A text that costs quadratic time anywhere would take hours. */
static void long_runs_are_cut_and_merged_in_bounded_time(void **state)
{
    (void)state; /* cmocka's */
    static struct grown g;
    static char text[LR_KIB(256)];
    static const char *const pres[] = {"gpt-2",  "llama-bpe", "deepseek-llm", "deepseek-v3",
                                       "gpt-4o", "falcon",    "default"};
    static const char fills[] = " \naA1.\t'";
    for (size_t p = 0; p < LR_COUNT(pres); p++)
        for (size_t f = 0; f < sizeof fills - 1; f++) {
            struct lr_nn_tok *t;
            struct lr_nn_ids ids;
            lr_nn_tok_close(open_bytes(&g)); /* for its tables */
            g.v.pre = lr_strz(pres[p]);
            assert_int_equal(lr_nn_tok_new(&t, &g.v, NULL), 0);
            lr_nn_ids_init(&ids, sizeof text);
            memset(text, fills[f], sizeof text - 1);
            text[sizeof text - 1] = 'x';
            assert_int_equal(lr_nn_tok_encode(t, lr_str(text, sizeof text), 0, &ids, NULL), 0);
            assert_int_equal(ids.n, sizeof text);
            lr_nn_ids_free(&ids);
            lr_nn_tok_close(t);
            lr_arena_free(&g.a);
        }
}

static void every_failed_allocation_is_a_clean_error(void **state)
{
    (void)state; /* cmocka's */
    static struct grown g;
    for (int kind = 0; kind < 2; kind++) {
        start(3);
        if (kind)
            grow_bpe(&g);
        else
            grow_spm(&g);
        bool hit = true;
        for (uint64_t n = 1; hit; n++) {
            struct lr_nn_tok *t = NULL;
            struct lr_nn_ids ids;
            struct lr_err err = {0};
            lr_nn_ids_init(&ids, 1000);
            assert_int_equal(lr_fault_arm(n), 0);
            int rc = lr_nn_tok_new(&t, &g.v, &err);
            if (!rc)
                rc = lr_nn_tok_encode(t, LR_STR("abcab"), 0, &ids, &err);
            hit = lr_fault_seen() >= n;
            assert_int_equal(lr_fault_arm(0), 0);
            assert_int_equal(rc, hit ? LR_ENOMEM : 0);
            assert_int_equal(err.code, rc);
            lr_nn_ids_free(&ids);
            lr_nn_tok_close(t);
        }
        lr_arena_free(&g.a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spm_gives_what_merging_one_by_one_gives),
        cmocka_unit_test(bpe_gives_what_merging_one_by_one_gives),
        cmocka_unit_test(any_bytes_survive_encoding_and_decoding),
        cmocka_unit_test(malformed_parts_become_one_replacement_each),
        cmocka_unit_test(typed_text_never_becomes_a_control_token),
        cmocka_unit_test(an_end_token_of_wrong_type_is_a_control_token),
        cmocka_unit_test(the_longest_special_token_wins_from_left_to_right),
        cmocka_unit_test(what_cannot_be_encoded_is_named_and_leaves_no_ids),
        cmocka_unit_test(bad_vocabularies_are_refused_with_a_reason),
        cmocka_unit_test(a_guessed_pre_tokeniser_is_told),
        cmocka_unit_test(long_runs_are_cut_and_merged_in_bounded_time),
        cmocka_unit_test(every_failed_allocation_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
