/* SPDX-License-Identifier: Apache-2.0
 * match/cut.c - a question as tokens: words, numbers, code, quoted strings.
 *
 *   Don't use `x_y` on "New York" for 5km at $2.50!
 *   NOT   use  x_y  on (new york) new york for 5 km at usd 2.50
 *         word code    quote      words         number, glued word, sign, number
 *
 * A text is cut at blanks into chunks. Quotes and back-ticks are looked for first, since they hold
 * blanks; what a quote holds is cut like everything else besides. A chunk without the brackets and
 * stops around it is code when its characters say so, else it falls apart into runs of letters and
 * of digits. Letters of scripts without blanks between words (Han, kana, Thai) are words of one
 * character.
 *
 * Words are folded to small letters; code keeps its capitals where they distinguish (paths, flags,
 * identifiers with '_'), and is folded where people are careless about them (node.js).
 */
#include "match/match_int.h"

#include <ctype.h>

struct cutter {
    struct lr_cut *out;
    bool begins; /* the next word begins a sentence */
    bool joined; /* the next token touches the one before */
    bool named;  /* the next word is one that somebody put in quotes */
};

static const struct {
    uint32_t first, last;
    uint8_t script;
} scripts[] = {
    {0x41, 0x5A, 1},     {0x61, 0x7A, 1},      {0xAA, 0x24F, 1},       {0x370, 0x3FF, 2},
    {0x400, 0x52F, 3},   {0x531, 0x58F, 4},    {0x590, 0x5FF, 5},      {0x600, 0x77F, 6},
    {0x900, 0x97F, 7},   {0x980, 0xDFF, 13},   {0xE00, 0xE7F, 8},      {0x1100, 0x11FF, 9},
    {0x1E00, 0x1EFF, 1}, {0x1F00, 0x1FFF, 2},  {0x3040, 0x30FF, 10},   {0x3400, 0x9FFF, 11},
    {0xAC00, 0xD7AF, 9}, {0xF900, 0xFAFF, 11}, {0x20000, 0x3FFFF, 11},
};
enum { SCRIPT_THAI = 8, SCRIPT_KANA = 10, SCRIPT_HAN = 11, SCRIPT_OTHER = 12 };

unsigned lr_cut_script(uint32_t c)
{
    enum lr_uni k = c == LR_UNI_BAD ? LR_UNI_NONE : lr_uni_class(c);
    if (k != LR_UNI_UPPER && k != LR_UNI_LOWER && k != LR_UNI_OTHER)
        return 0;
    for (size_t i = 0; i < LR_COUNT(scripts); i++)
        if (c >= scripts[i].first && c <= scripts[i].last)
            return scripts[i].script;
    return SCRIPT_OTHER;
}

static struct lr_token *push(struct cutter *k, enum lr_token_kind kind, struct lr_str text)
{
    struct lr_cut *o = k->out;
    if (o->n == LR_CUT_TOKENS)
        return NULL;
    struct lr_token *t = &o->token[o->n++];
    *t = (struct lr_token){
        .text = text, .kind = (uint8_t)kind, .begins = k->begins, .glued = k->joined};
    k->begins = false;
    k->joined = true;
    return t;
}

/* Small letters of s, kept in the cut. A character grows to 1.5 times its bytes at most, so the
 * room suffices for a text read twice (words, and their quote). Empty when it does not. */
static struct lr_str fold(struct lr_cut *o, struct lr_str s)
{
    char *to = o->folded + o->used;
    size_t n = 0, room = sizeof o->folded - o->used;
    bool blank = false;
    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        i += lr_uni_get(s.p + i, s.n - i, &c);
        if (c == LR_UNI_BAD || lr_uni_space(c)) {
            blank = n > 0;
            continue;
        }
        if (room - n < 5)
            return (struct lr_str){0};
        if (blank)
            to[n++] = ' ';
        blank = false;
        n += lr_uni_put(c == 0x2019 ? '\'' : lr_uni_lower(c), to + n);
    }
    o->used += n;
    return lr_str(to, n);
}

/* ---- words ---- */

static bool ends_with(struct lr_str s, const char *z)
{
    size_t n = strlen(z);
    return s.n >= n && !memcmp(s.p + s.n - n, z, n);
}

static int push_word(struct cutter *k, struct lr_str raw, bool capital)
{
    static const char *const endings[] = {"'s", "'re", "'ve", "'ll", "'d", "'m", "'"};
    struct lr_str w = fold(k->out, raw);
    LR_FAIL_IF(!w.p, LR_EOVER);
    if (ends_with(w, "n't"))
        return push(k, LR_TOKEN_NOT, LR_STR("not")) ? 0 : LR_EOVER;
    for (size_t i = 0; i < LR_COUNT(endings); i++)
        if (ends_with(w, endings[i])) {
            w.n -= strlen(endings[i]);
            break;
        }
    if (!w.n)
        return 0;
    struct lr_token *t = push(k, LR_TOKEN_WORD, w);
    LR_FAIL_IF(!t, LR_EOVER);
    t->capital = capital || k->named;
    t->begins = t->begins && !k->named;
    k->named = false;
    return 0;
}

/* A run of letters from s, apostrophes between them included; its bytes. */
static size_t letters(struct cutter *k, struct lr_str s, bool *capital)
{
    size_t i = 0;
    bool small = false;
    *capital = false;
    while (i < s.n) {
        uint32_t c, next;
        size_t step = lr_uni_get(s.p + i, s.n - i, &c);
        unsigned script = lr_cut_script(c);
        enum lr_uni cls = c == LR_UNI_BAD ? LR_UNI_NONE : lr_uni_class(c);
        if ((c == '\'' || c == 0x2019) && i && i + step < s.n) {
            lr_uni_get(s.p + i + step, s.n - i - step, &next);
            if (!lr_cut_script(next))
                break;
        } else if (!script && !(i && (cls == LR_UNI_MARK || cls == LR_UNI_MARK2))) {
            break;
        }
        k->out->letters[script] += script > 0;
        bool alone = script == SCRIPT_HAN || script == SCRIPT_KANA || script == SCRIPT_THAI;
        if (alone && i)
            break;
        *capital |= cls == LR_UNI_UPPER && (!i || small);
        small |= cls == LR_UNI_LOWER;
        i += step;
        if (alone)
            break;
    }
    return i;
}

/* ---- numbers and signs ---- */

/* Digits, and single separators that have digits on both sides; hyphens in dates only: 1-10 is two
 * numbers, whether blanks stand around the hyphen or not. */
static size_t digits(struct lr_str s)
{
    bool date = s.n >= 8 && s.p[4] == '-' && isdigit((unsigned char)s.p[5]);
    size_t i = s.n && (s.p[0] == '-' || s.p[0] == '.') ? 1 : 0;
    while (i < s.n) {
        bool digit = isdigit((unsigned char)s.p[i]);
        bool sep = strchr(date ? "-" : ".,:/", s.p[i]) && s.p[i] && i && i + 1 < s.n &&
                   isdigit((unsigned char)s.p[i - 1]) && isdigit((unsigned char)s.p[i + 1]);
        if (!digit && !sep)
            break;
        i++;
    }
    return i;
}

static bool number_at(struct lr_str s, bool at_start)
{
    if (!s.n)
        return false;
    if (isdigit((unsigned char)s.p[0]))
        return true;
    return at_start && s.n > 1 && (s.p[0] == '-' || s.p[0] == '.') &&
           isdigit((unsigned char)s.p[1]);
}

static const char *sign_word(uint32_t c)
{
    switch (c) {
    case '%':
        return "percent";
    case '$':
        return "usd";
    case 0x20AC:
        return "eur";
    case 0xA3:
        return "gbp";
    case 0x20B9:
        return "inr";
    case 0xA5:
        return "jpy";
    case 0xB0:
        return "degree";
    default:
        return NULL;
    }
}

/* ---- code ---- */

static bool alnum(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* A point between letters, neither side a single one: np.array, node.js; not U.S., e.g. */
static bool dotted(struct lr_str s)
{
    size_t run = 0, runs = 0;
    bool letter = false, lone = false;
    for (size_t i = 0; i <= s.n; i++) {
        if (i < s.n && alnum(s.p[i])) {
            letter |= !isdigit((unsigned char)s.p[i]);
            run++;
            continue;
        }
        if (i < s.n && s.p[i] != '.')
            return false;
        lone |= run < 2;
        runs++;
        run = 0;
    }
    return runs > 1 && letter && !lone;
}

static bool is_code(struct lr_str s, bool *exact)
{
    size_t slashes = 0, at = 0, alphas = 0;
    bool under = false, strange = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i], b = i ? s.p[i - 1] : 0, d = i + 1 < s.n ? s.p[i + 1] : 0;
        slashes += c == '/';
        at += c == '@';
        alphas += isalpha((unsigned char)c) != 0;
        under |= c == '_' && (alnum(b) || alnum(d));
        strange |= c == '\\' || (c == ':' && d == ':') || (c == '-' && d == '>') ||
                   (c == '=' && d == '>') || (c == '(' && d == ')') || (c == ':' && d == '/') ||
                   (c == '$' && (isalpha((unsigned char)d) || d == '{'));
    }
    bool flag =
        s.n > 1 && s.p[0] == '-' && (s.p[1] == '-' ? s.n > 2 : isalpha((unsigned char)s.p[1]));
    bool dot = memchr(s.p, '.', s.n) != NULL; /* "and/or/not" is no path */
    bool path = (slashes > 1 && dot) || (slashes && strchr("/.~", s.p[0]));
    *exact = under || strange || flag || path;
    if (*exact)
        return alphas > 0;
    bool plus = s.n > 1 && alphas && (s.p[s.n - 1] == '#' || s.p[s.n - 1] == '+'); /* C++, C# */
    return alphas && (plus || at || dotted(s) || (s.n > 1 && s.p[0] == '#'));
}

static int push_code(struct cutter *k, struct lr_str raw, bool exact)
{
    struct lr_str s = exact ? raw : fold(k->out, raw);
    LR_FAIL_IF(!s.p, LR_EOVER);
    return push(k, LR_TOKEN_CODE, s) ? 0 : LR_EOVER;
}

/* ---- chunks ---- */

static int pieces(struct cutter *k, struct lr_str s)
{
    size_t i = 0;
    k->joined = false;
    while (i < s.n) {
        struct lr_str rest = lr_str(s.p + i, s.n - i);
        bool capital;
        size_t n = letters(k, rest, &capital);
        if (n) {
            LR_TRY(push_word(k, lr_str(rest.p, n), capital));
        } else if (number_at(rest, i == 0)) {
            n = digits(rest);
            LR_FAIL_IF(!push(k, LR_TOKEN_NUMBER, lr_str(rest.p, n)), LR_EOVER);
        } else {
            uint32_t c;
            n = lr_uni_get(rest.p, rest.n, &c);
            const char *sign = sign_word(c);
            LR_FAIL_IF(sign && !push(k, LR_TOKEN_SIGN, lr_strz(sign)), LR_EOVER);
            k->joined = sign != NULL;
        }
        i += n;
    }
    return 0;
}

/* U.S. and e.g.: single letters with points between them, as one word. */
static bool initials(struct lr_str s, char out[16], size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (i % 2 ? s.p[i] != '.' : !isalpha((unsigned char)s.p[i]))
            return false;
        else if (i % 2 == 0 && *n < 15)
            out[(*n)++] = s.p[i];
    return s.n >= 3;
}

static int chunk(struct cutter *k, struct lr_str s)
{
    static const char before[] = "([{'*,;:!", after[] = ".,;:!?)]}'*";
    bool stop = false, exact;
    char letter[16];
    size_t n;
    while (s.n && strchr(before, s.p[0]) && s.p[0])
        s.p++, s.n--;
    while (s.n && strchr(after, s.p[s.n - 1]) && s.p[s.n - 1]) {
        if (s.n > 2 && s.p[s.n - 1] == ')' && s.p[s.n - 2] == '(')
            break;
        stop |= strchr(".!?:", s.p[s.n - 1]) != NULL;
        s.n--;
    }
    k->joined = false;
    int rc = 0;
    if (initials(s, letter, &n))
        rc = push_word(k, lr_str(letter, n), isupper((unsigned char)letter[0]));
    else if (is_code(s, &exact))
        rc = push_code(k, s, exact);
    else
        rc = pieces(k, s);
    k->begins |= stop;
    return rc;
}

/* ---- quotes ---- */

/* The bytes of a quotation mark that opens at s, and its closing counterpart. */
static size_t opens(struct lr_str s, bool at_start, const char **close)
{
    static const char *const marks[][2] = {{"\"", "\""},
                                           {"\xE2\x80\x9C", "\xE2\x80\x9D"},
                                           {"\xC2\xAB", "\xC2\xBB"},
                                           {"\xE2\x80\x9E", "\xE2\x80\x9C"},
                                           {"\xE3\x80\x8C", "\xE3\x80\x8D"}};
    for (size_t i = 0; i < LR_COUNT(marks); i++)
        if (lr_str_starts(s, lr_strz(marks[i][0]))) {
            *close = marks[i][1];
            return strlen(marks[i][0]);
        }
    if (at_start && s.n > 2 && s.p[0] == '\'' && !isspace((unsigned char)s.p[1])) {
        *close = "'";
        return 1;
    }
    return 0;
}

/* Where `close` stands in s, as a quotation's end; s.n: nowhere. A single mark ends a quotation
 * only in front of a blank or a stop, else it is an apostrophe. */
static size_t closes(struct lr_str s, const char *close)
{
    size_t n = strlen(close);
    for (size_t i = 0; i + n <= s.n; i++) {
        if (memcmp(s.p + i, close, n))
            continue;
        char d = i + n < s.n ? s.p[i + n] : ' ';
        if (*close != '\'' || (i && !isalnum((unsigned char)d)))
            return i;
    }
    return s.n;
}

/* A quotation as one token when it holds several words, as a name when it holds one. Its words
 * follow as usual. */
static int quoted(struct cutter *k, struct lr_str inner)
{
    struct lr_str s = fold(k->out, lr_str_trim(inner));
    LR_FAIL_IF(inner.n && !s.p, LR_EOVER);
    k->named = !memchr(s.p, ' ', s.n);
    if (k->named)
        return 0;
    bool begins = k->begins;
    LR_FAIL_IF(!push(k, LR_TOKEN_QUOTE, s), LR_EOVER);
    k->begins = begins;
    return 0;
}

/* Back-ticks: one run of them to the next of the same length; bytes taken, 0: it is not closed. */
static int ticked(struct cutter *k, struct lr_str s, size_t *taken)
{
    size_t n = 0;
    while (n < s.n && s.p[n] == '`')
        n++;
    *taken = 0;
    for (size_t i = n; i + n <= s.n; i++) {
        size_t run = 0;
        while (i + run < s.n && s.p[i + run] == '`')
            run++;
        if (run == n) {
            *taken = i + n;
            struct lr_str inner = lr_str_trim(lr_str(s.p + n, i - n));
            return inner.n ? push_code(k, inner, true) : 0;
        }
        i += run;
    }
    return 0;
}

static bool ends_chunk(struct lr_str s)
{
    const char *unused;
    return isspace((unsigned char)s.p[0]) || s.p[0] == '`' || opens(s, false, &unused) ||
           lr_str_starts(s, LR_STR("\xE2\x80\x9D")) || lr_str_starts(s, LR_STR("\xC2\xBB")) ||
           lr_str_starts(s, LR_STR("\xE3\x80\x8D"));
}

int lr_cut(struct lr_str text, struct lr_cut *out)
{
    struct cutter k = {.out = out, .begins = true};
    out->n = out->used = 0;
    memset(out->letters, 0, sizeof out->letters);
    LR_FAIL_IF(text.n > LR_FACTS_TEXT_MAX, LR_EOVER);
    for (size_t i = 0; i < text.n;) {
        struct lr_str rest = lr_str(text.p + i, text.n - i);
        const char *close = NULL;
        size_t n = 0;
        if (isspace((unsigned char)*rest.p)) {
            k.begins |= *rest.p == '\n';
            i++;
            continue;
        }
        if (*rest.p == '`')
            LR_TRY(ticked(&k, rest, &n));
        bool at_start =
            !i || isspace((unsigned char)text.p[i - 1]) || strchr("([{=", text.p[i - 1]);
        size_t mark = opens(rest, at_start, &close);
        if (mark && at_start) {
            struct lr_str inner = lr_str(rest.p + mark, rest.n - mark);
            size_t end = closes(inner, close);
            if (end < inner.n)
                LR_TRY(quoted(&k, lr_str(inner.p, end)));
        }
        i += n ? n : mark;
        if (n || mark)
            continue;
        for (n = 1; n < rest.n && !ends_chunk(lr_str(rest.p + n, rest.n - n)); n++)
            ;
        LR_TRY(chunk(&k, lr_str(rest.p, n)));
        i += n;
    }
    return 0;
}
