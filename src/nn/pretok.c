/* SPDX-License-Identifier: Apache-2.0
 * nn/pretok.c - pre-tokenisers: where BPE must not merge across.
 *
 * Each model family defines its words by one regular expression, or by several, of which each cuts
 * the pieces the one before left (matches and what lies between them alike). Here each expression
 * is a scanner written by hand: given a place, where does the match end? The expressions stand
 * above their scanners. A general regular expression engine would be slower, could be made to
 * backtrack without end, and has its own idea of \s and \p{L}.
 *
 *   level 0: [................ text ................]
 *   level 1: [gap][match][match][...gap...][match]        each piece goes on alone:
 *   level 2:      [m][gap]       [match]                  look-ahead ends where the piece ends
 *
 * All scanners look at most at the run of like characters they are in and consume a part of it that
 * is bounded from below, so cutting is linear. The one exception, white space up to the end of the
 * piece (`tail`), remembers where that begins.
 *
 * Sources: the tokenizer.json files of the model families, whose expressions are quoted; names as
 * GGUF files spell them (tokenizer.ggml.pre). Deviation: in (?i:'s) only ASCII letters match, where
 * some libraries take U+017F for an s.
 */
#include "nn/nn_int.h"

/* ---- classes ---- */

static bool letter(uint8_t k)
{
    return k >= LR_UNI_UPPER && k <= LR_UNI_OTHER;
}

static bool mark(uint8_t k)
{
    return k == LR_UNI_MARK || k == LR_UNI_MARK2;
}

static bool letter_mark(uint8_t k)
{
    return letter(k) || mark(k);
}

static bool newline(uint32_t c)
{
    return c == '\r' || c == '\n';
}

/* [^\s\p{L}\p{N}] and, with marks, [^\s\p{L}\p{M}\p{N}] */
static bool other(uint8_t k)
{
    return k != LR_UNI_SPACE && k != LR_UNI_NUMBER && !letter(k);
}

static bool other_no_mark(uint8_t k)
{
    return other(k) && !mark(k);
}

static bool punct_symbol(uint8_t k)
{
    return k == LR_UNI_PUNCT || k == LR_UNI_SYMBOL;
}

static bool number(uint8_t k)
{
    return k == LR_UNI_NUMBER;
}

static bool punct(uint8_t k)
{
    return k == LR_UNI_PUNCT;
}

static bool space(uint8_t k)
{
    return k == LR_UNI_SPACE;
}

/* End of the run of that class from i. */
static size_t run(const struct lr_nn_span *s, size_t i, size_t end, bool (*is)(uint8_t))
{
    while (i < end && is(s->cls[i]))
        i++;
    return i;
}

static bool in_ranges(uint32_t c, const uint32_t (*r)[2], size_t n)
{
    size_t lo = 0;
    while (lo < n) { /* the first range that ends at or behind c */
        size_t mid = lo + (n - lo) / 2;
        if (r[mid][1] < c)
            lo = mid + 1;
        else
            n = mid;
    }
    return r[lo][0] <= c && c <= r[lo][1]; /* the last range ends at the top: lo is one */
}

/* ---- parts that several expressions share ---- */

/* 's|'t|'re|'ve|'m|'ll|'d */
static size_t contraction(const struct lr_nn_span *s, size_t i, size_t end, bool any_case)
{
    if (s->c[i] != '\'' || end - i < 2)
        return i;
    uint32_t fold = any_case ? 0x20 : 0, a = s->c[i + 1] | fold;
    uint32_t b = end - i > 2 ? s->c[i + 2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return i + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return i + 3;
    return i;
}

/* \s+(?!\S)|\s+ : white space but its last character when a word follows */
static size_t spaces(const struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = run(s, i, end, space);
    return e == end || e - i < 2 ? e : e - 1;
}

/* \s*[\r\n]+ : white space up to its last line end */
static size_t to_line_end(const struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = run(s, i, end, space);
    while (e > i && !newline(s->c[e - 1]))
        e--;
    return e;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t lines_spaces(const struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = to_line_end(s, i, end);
    return e > i ? e : spaces(s, i, end);
}

/* " ?X+[\r\n]*", with `slash` "[\r\n/]*" */
static size_t symbols_lines(const struct lr_nn_span *s, size_t i, size_t end, bool (*is)(uint8_t),
                            bool slash)
{
    size_t j = i + (s->c[i] == ' '), e = run(s, j, end, is);
    if (e == j)
        return i;
    while (e < end && (newline(s->c[e]) || (slash && s->c[e] == '/')))
        e++;
    return e;
}

/* \p{N}{1,max} */
static size_t digits(const struct lr_nn_span *s, size_t i, size_t end, size_t max)
{
    return run(s, i, end - i < max ? end : i + max, number);
}

/* \s?X+ */
static size_t space_run(const struct lr_nn_span *s, size_t i, size_t end, bool (*is)(uint8_t))
{
    if (space(s->cls[i]) && i + 1 < end && is(s->cls[i + 1]))
        return run(s, i + 1, end, is);
    return run(s, i, end, is);
}

/* ---- GPT-2 ---- */

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2(struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = contraction(s, i, end, false);
    if (e > i)
        return e;
    size_t j = i + (s->c[i] == ' ' && i + 1 < end);
    if (letter(s->cls[j]))
        return run(s, j, end, letter);
    if (number(s->cls[j]))
        return run(s, j, end, number);
    if (other(s->cls[j]))
        return run(s, j, end, other);
    return spaces(s, i, end);
}

/* \p{N} */
static size_t digit1(struct lr_nn_span *s, size_t i, size_t end)
{
    return digits(s, i, end, 1);
}

/* \p{N}{1,3} */
static size_t digit3(struct lr_nn_span *s, size_t i, size_t end)
{
    return digits(s, i, end, 3);
}

/* \p{N}+ */
static size_t digits_all(struct lr_nn_span *s, size_t i, size_t end)
{
    return digits(s, i, end, end - i);
}

/* [0-9][0-9][0-9] */
static size_t ascii3(struct lr_nn_span *s, size_t i, size_t end)
{
    if (end - i < 3)
        return i;
    for (size_t k = i; k < i + 3; k++)
        if (s->c[k] < '0' || s->c[k] > '9')
            return i;
    return i + 3;
}

static size_t falcon_run(const struct lr_nn_span *s, size_t i, size_t end, uint32_t extra)
{
    while (i < end && (punct(s->cls[i]) || s->c[i] == '$' || s->c[i] == '+' || s->c[i] == '<' ||
                       s->c[i] == '=' || s->c[i] == '>' || s->c[i] == '^' || s->c[i] == '~' ||
                       s->c[i] == '|' || s->c[i] == extra))
        i++;
    return i;
}

/* [\p{P}\$\+<=>\^~\|`]+ */
static size_t falcon(struct lr_nn_span *s, size_t i, size_t end)
{
    return falcon_run(s, i, end, '`');
}

/* [\p{P}\$\+<=>\^~\|]+ */
static size_t general(struct lr_nn_span *s, size_t i, size_t end)
{
    return falcon_run(s, i, end, '|');
}

/* ---- Llama 3, Qwen ---- */

/* [^\r\n\p{L}\p{N}]?X+ with X one of \p{L}, [\p{L}\p{M}] */
static size_t prefixed(const struct lr_nn_span *s, size_t i, size_t end, bool (*is)(uint8_t))
{
    bool prefix = !newline(s->c[i]) && !letter(s->cls[i]) && !number(s->cls[i]);
    if (prefix && i + 1 < end && is(s->cls[i + 1]))
        return run(s, i + 1, end, is);
    return run(s, i, end, is);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 * \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t llama(const struct lr_nn_span *s, size_t i, size_t end, size_t max)
{
    size_t e = contraction(s, i, end, true);
    if (e == i)
        e = prefixed(s, i, end, letter);
    if (e == i)
        e = digits(s, i, end, max);
    if (e == i)
        e = symbols_lines(s, i, end, other, false);
    return e > i ? e : lines_spaces(s, i, end);
}

static size_t llama3(struct lr_nn_span *s, size_t i, size_t end)
{
    return llama(s, i, end, 3);
}

static size_t qwen2(struct lr_nn_span *s, size_t i, size_t end)
{
    return llama(s, i, end, 1);
}

/* As qwen2, with [\p{L}\p{M}] for \p{L} in the second and [^\s\p{L}\p{M}\p{N}] in the fourth. */
static size_t qwen35(struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = contraction(s, i, end, true);
    if (e == i)
        e = prefixed(s, i, end, letter_mark);
    if (e == i)
        e = digits(s, i, end, 1);
    if (e == i)
        e = symbols_lines(s, i, end, other_no_mark, false);
    return e > i ? e : lines_spaces(s, i, end);
}

/* ---- GPT-4o, Tekken ---- */

static bool upperish(uint8_t k) /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] */
{
    return k == LR_UNI_UPPER || k == LR_UNI_OTHER || mark(k);
}

static bool lowerish(uint8_t k) /* [\p{Ll}\p{Lm}\p{Lo}\p{M}] */
{
    return k == LR_UNI_LOWER || k == LR_UNI_OTHER || mark(k);
}

/* U*L+ from i: U takes all it can, then gives back until one L fits. */
static size_t upper_lower(const struct lr_nn_span *s, size_t i, size_t end)
{
    size_t u = run(s, i, end, upperish), e = run(s, u, end, lowerish);
    if (e > u)
        return e;
    while (u > i && !lowerish(s->cls[u - 1]))
        u--;
    return u;
}

/* U+L* from i */
static size_t uppers_lower(const struct lr_nn_span *s, size_t i, size_t end)
{
    size_t u = run(s, i, end, upperish);
    return u > i ? run(s, u, end, lowerish) : i;
}

/* [^\r\n\p{L}\p{N}]?U*L+|[^\r\n\p{L}\p{N}]?U+L* */
static size_t cased_word(const struct lr_nn_span *s, size_t i, size_t end)
{
    bool prefix = !newline(s->c[i]) && !letter(s->cls[i]) && !number(s->cls[i]) && i + 1 < end;
    size_t e = prefix ? upper_lower(s, i + 1, end) : 0;
    if (prefix && e > i + 1)
        return e;
    e = upper_lower(s, i, end);
    if (e > i)
        return e;
    e = prefix ? uppers_lower(s, i + 1, end) : 0;
    if (prefix && e > i + 1)
        return e;
    return uppers_lower(s, i, end);
}

/* The two above, each with (?i:'s|'t|'re|'ve|'m|'ll|'d)? behind, |\p{N}{1,3}|
 *  ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t gpt4o(struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = cased_word(s, i, end);
    if (e > i)
        return e < end ? contraction(s, e, end, true) : e;
    e = digits(s, i, end, 3);
    if (e == i)
        e = symbols_lines(s, i, end, other, true);
    return e > i ? e : lines_spaces(s, i, end);
}

/* The same without contractions and with single digits. */
static size_t tekken(struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = cased_word(s, i, end);
    if (e == i)
        e = digits(s, i, end, 1);
    if (e == i)
        e = symbols_lines(s, i, end, other, true);
    return e > i ? e : lines_spaces(s, i, end);
}

/* ---- DeepSeek ---- */

/* [\r\n] */
static size_t newline1(struct lr_nn_span *s, size_t i, size_t end)
{
    (void)end; /* i < end is all it needs */
    return i + newline(s->c[i]);
}

/* The cased letters of deepseek-llm's second expression. */
static bool deepseek_cased(uint32_t c)
{
    /* clang-format off */
    static const uint32_t r[][2] = {
        {'A', 'Z'},         {'a', 'z'},         {0xB5, 0xB5},       {0xC0, 0xD6},
        {0xD8, 0xF6},       {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},
        {0x295, 0x2AF},     {0x370, 0x373},     {0x376, 0x377},     {0x37B, 0x37D},
        {0x37F, 0x37F},     {0x386, 0x386},     {0x388, 0x38A},     {0x38C, 0x38C},
        {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},     {0x48A, 0x52F},
        {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
        {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},
        {0x1D79, 0x1D9A},   {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},
        {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},   {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},
        {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},   {0x1FB6, 0x1FBC},
        {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
        {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},
        {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},
        {0x2119, 0x211D},   {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
        {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},   {0x213C, 0x213F},
        {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2184},   {0x2C00, 0x2C7B},
        {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF3},   {0xA640, 0xA66D},
        {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
        {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},
        {0xFF41, 0xFF5A},   {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB},
        {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
        {UINT32_MAX, UINT32_MAX}};
    /* clang-format on */
    return c != LR_UNI_BAD && in_ranges(c, r, LR_COUNT(r));
}

/* [!-/:-~] and their full-width forms, quotation marks, U+3000 to U+3002 */
static bool deepseek_punct(uint32_t c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0x2018 && c <= 0x201F) ||
           (c >= 0x3000 && c <= 0x3002) || (c >= 0xFF01 && c <= 0xFF0F) ||
           (c >= 0xFF1A && c <= 0xFF5E);
}

/* \s?X+ over characters */
static size_t space_chars(const struct lr_nn_span *s, size_t i, size_t end, bool (*is)(uint32_t))
{
    size_t j = i + (space(s->cls[i]) && i + 1 < end && is(s->c[i + 1])), e = j;
    while (e < end && is(s->c[e]))
        e++;
    return e == j ? i : e;
}

static size_t cased(struct lr_nn_span *s, size_t i, size_t end)
{
    return space_chars(s, i, end, deepseek_cased);
}

static size_t marks(struct lr_nn_span *s, size_t i, size_t end)
{
    return space_chars(s, i, end, deepseek_punct);
}

/* \s+$ : i begins, or is in, the white space that ends the piece */
static size_t tail(struct lr_nn_span *s, size_t i, size_t end)
{
    if (s->tail_of != end + 1) {
        s->tail_of = end + 1;
        s->tail = end;
        while (s->tail > i && space(s->cls[s->tail - 1]))
            s->tail--;
    }
    return i >= s->tail ? end : i;
}

/* [一-龥ࠀ-一가-퟿]+ */
static size_t east_asian(struct lr_nn_span *s, size_t i, size_t end)
{
    while (i < end &&
           ((s->c[i] >= 0x800 && s->c[i] <= 0x9FA5) || (s->c[i] >= 0xAC00 && s->c[i] <= 0xD7FF)))
        i++;
    return i;
}

/* \s?\p{L}+ */
static size_t space_letters(struct lr_nn_span *s, size_t i, size_t end)
{
    return space_run(s, i, end, letter);
}

/* \s?\p{P}+ */
static size_t space_puncts(struct lr_nn_span *s, size_t i, size_t end)
{
    return space_run(s, i, end, punct);
}

/* [一-龥぀-ゟ゠-ヿ]+ */
static size_t han_kana(struct lr_nn_span *s, size_t i, size_t end)
{
    while (i < end &&
           ((s->c[i] >= 0x4E00 && s->c[i] <= 0x9FA5) || (s->c[i] >= 0x3040 && s->c[i] <= 0x30FF)))
        i++;
    return i;
}

static bool ascii_letter(uint32_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool ascii_punct(uint32_t c)
{
    return c > ' ' && c < 127 && !ascii_letter(c) && !(c >= '0' && c <= '9');
}

/* [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
 *  ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t deepseek3(struct lr_nn_span *s, size_t i, size_t end)
{
    size_t e = i;
    if (ascii_punct(s->c[i]) && i + 1 < end && ascii_letter(s->c[i + 1])) {
        for (e = i + 1; e < end && ascii_letter(s->c[e]);)
            e++;
        return e;
    }
    bool prefix = !newline(s->c[i]) && !letter(s->cls[i]) && !punct_symbol(s->cls[i]);
    if (prefix && i + 1 < end && letter_mark(s->cls[i + 1]))
        return run(s, i + 1, end, letter_mark);
    e = run(s, i, end, letter_mark);
    if (e == i)
        e = symbols_lines(s, i, end, punct_symbol, false);
    return e > i ? e : lines_spaces(s, i, end);
}

/* ---- the table ---- */

/* clang-format off */
static const struct lr_nn_pretok rows[] = {
    {"gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum",
     {gpt2}, false, false},
    {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2", {llama3}, true, true},
    {"dbrx smaug-bpe chatglm-bpe", {llama3}, false, false},
    {"glm4", {llama3}, true, false},
    {"qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan grok-2 solar-open kormo f2llmv2",
     {qwen2}, false, false},
    {"qwen35", {qwen35}, false, false},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b", {digit1, gpt2}, false, false},
    {"falcon", {falcon, gpt2, ascii3}, false, false},
    {"deepseek-llm", {newline1, cased, marks, tail, east_asian, digits_all}, false, false},
    {"deepseek-coder", {newline1, space_letters, space_puncts, east_asian, digit1}, false, false},
    {"deepseek-v3 hunyuan-dense", {digit3, han_kana, deepseek3}, false, false},
    {"gpt-4o llama4", {gpt4o}, false, false},
    {"tekken", {tekken}, true, false},
    {"default", {general, gpt2, digits_all, ascii3}, false, false},
};
/* clang-format on */

const struct lr_nn_pretok *lr_nn_pretok_find(struct lr_str name)
{
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        for (struct lr_str all = lr_strz(rows[i].names); all.p;)
            if (lr_str_eq(lr_str_cut(&all, ' '), name))
                return &rows[i];
    return NULL;
}

/* ---- cutting ---- */

void lr_nn_span_free(struct lr_nn_span *s)
{
    lr_free(s->c);
    lr_free(s->at);
    lr_free(s->cls);
    *s = (struct lr_nn_span){0};
}

static int room(struct lr_nn_span *s, size_t n)
{
    if (n <= s->cap)
        return 0;
    lr_nn_span_free(s);
    s->c = lr_calloc(n, sizeof *s->c);
    s->at = lr_calloc(n + 1, sizeof *s->at);
    s->cls = lr_alloc(n);
    if (!s->c || !s->at || !s->cls) {
        lr_nn_span_free(s);
        return LR_ENOMEM;
    }
    s->cap = n;
    return 0;
}

static uint8_t classify(uint32_t c)
{
    if (ascii_letter(c))
        return c & 0x20 ? LR_UNI_LOWER : LR_UNI_UPPER;
    return lr_uni_space(c) ? LR_UNI_SPACE : (uint8_t)lr_uni_class(c);
}

static int fill(struct lr_nn_span *s, struct lr_str text)
{
    LR_TRY(room(s, text.n));
    s->n = 0;
    s->tail_of = 0;
    for (size_t i = 0; i < text.n; s->n++) {
        s->at[s->n] = (uint32_t)i;
        i += lr_uni_get(text.p + i, text.n - i, &s->c[s->n]);
        s->cls[s->n] = classify(s->c[s->n]);
    }
    s->at[s->n] = (uint32_t)text.n;
    return 0;
}

struct cut {
    const struct lr_nn_pretok *p;
    struct lr_nn_span *s;
    const char *text;
    int (*word)(void *ctx, struct lr_str piece);
    void *ctx;
};

/* Characters [from, to), not empty, from that level on; recursion ends with the levels. */
static int cut_from(const struct cut *k, size_t level, size_t from, size_t to)
{
    const uint32_t *at = k->s->at;
    if (level == LR_COUNT(k->p->level) || !k->p->level[level])
        return k->word(k->ctx, lr_str(k->text + at[from], at[to] - at[from]));
    size_t gap = from;
    for (size_t i = from; i < to;) {
        size_t e = k->p->level[level](k->s, i, to);
        if (e == i) {
            i++;
            continue;
        }
        if (gap < i)
            LR_TRY(cut_from(k, level + 1, gap, i));
        LR_TRY(cut_from(k, level + 1, i, e));
        gap = i = e;
    }
    return gap < to ? cut_from(k, level + 1, gap, to) : 0;
}

int lr_nn_pretok_cut(const struct lr_nn_pretok *p, struct lr_nn_span *s, struct lr_str text,
                     int (*word)(void *ctx, struct lr_str piece), void *ctx)
{
    LR_FAIL_IF(!text.n, 0);
    LR_TRY(fill(s, text));
    struct cut k = {p, s, text.p, word, ctx};
    return cut_from(&k, 0, 0, s->n);
}

int lr_nn_pretok(struct lr_str name, struct lr_str text,
                 int (*word)(void *ctx, struct lr_str piece), void *ctx)
{
    const struct lr_nn_pretok *p = lr_nn_pretok_find(name);
    struct lr_nn_span s = {0};
    LR_FAIL_IF(!p, LR_ENOENT);
    LR_FAIL_IF(text.n > LR_NN_INPUT_MAX, LR_EOVER);
    int rc = lr_nn_pretok_cut(p, &s, text, word, ctx);
    lr_nn_span_free(&s);
    return rc;
}
