/* SPDX-License-Identifier: Apache-2.0
 * match/facts.c - what two questions must have in common before one answer can serve both.
 *
 * Facts are hashes of a canonical spelling, so that the same fact in two spellings is one:
 *
 *   "Convert five kilometres to miles, not 3.50"   NUMBER 5  NUMBER 3.5  UNIT km  UNIT mile
 *                                                  NEGATION 1  WORD convert, kilometre, mile
 *                                                  PAIR to(kilometre, mile)
 *
 * Errors are not symmetric. A fact that is missed lets a pair through to the verifier; a fact that
 * is imagined refuses a good pair. So tables hold what is seldom ambiguous, and everything else is
 * left to the verifier, which reads both questions.
 *
 * Names. English marks them with capitals, except where a sentence begins and in titles. A capital
 * at the beginning counts unless the word is one that questions begin with; where nearly every word
 * has one, none counts. A name need not have a capital in the other question: it must be among its
 * words.
 *
 * Order. "a to b" and "b from a" say the same, "b to a" does not. For a few words of direction the
 * nearest topic words on both sides make an ordered pair; the same pair the other way round in the
 * other question is refused. In front of "than", comparatives are passed over.
 *
 * Language is told by counting small words of seven languages; short questions often have none, and
 * then nothing is refused on that ground. Scripts are always compared.
 *
 * Sources of the idea: the gates of Kelvran's lexical level and vllm semantic-router's issue 2691,
 * as our specification reports them; tables and rules are our own.
 */
#include "match/match_int.h"
#include "match/lexicon.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define WORD_MAX 48 /* bytes of a word that tables are asked about */

struct reader {
    struct lr_cut *cut;
    struct lr_fact *room;
    uint64_t key;
    size_t n;
    size_t negations, volatiles;
    size_t tongue[7];
    bool titled; /* capitals tell nothing here */
    bool over;
};

static void add(struct reader *r, enum lr_fact_kind kind, struct lr_str text, uint16_t aux)
{
    if (r->n == LR_FACTS_MAX) {
        r->over = true;
        return;
    }
    r->room[r->n++] = (struct lr_fact){(uint32_t)lr_hash64(text, r->key), (uint16_t)kind, aux};
}

static void add_number(struct reader *r, enum lr_fact_kind kind, uint64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    add(r, kind, lr_str(digits, (size_t)n), 0);
}

/* ---- tables ---- */

static int by_word(const void *key, const void *row)
{
    return strcmp(key, *(char *const *)row); /* each row begins with its word */
}

#define FIND(table, w) bsearch(w, table, LR_COUNT(table), sizeof *(table), by_word)

/* The word as a C string; false: longer than any in a table. */
static bool spell(struct lr_str s, char w[WORD_MAX])
{
    if (s.n >= WORD_MAX)
        return false;
    memcpy(w, s.p, s.n);
    w[s.n] = 0;
    return true;
}

static bool is_stop(struct lr_str s)
{
    char w[WORD_MAX];
    return spell(s, w) && FIND(stops, w);
}

/* Without its plural's s: names and topics of both numbers are one. */
static struct lr_str singular(struct lr_str s)
{
    if (s.n > 4 && s.p[s.n - 1] == 's' && s.p[s.n - 2] != 's' && s.p[s.n - 2] != 'u' &&
        s.p[s.n - 2] != 'i')
        s.n--;
    return s;
}

/* The pole of a verb or adjective in any regular form. */
static const struct word_pole *pole_of(struct lr_str s)
{
    static const struct {
        const char *off, *on;
    } endings[] = {{"", ""},   {"s", ""},   {"es", ""},   {"d", ""},
                   {"ed", ""}, {"ing", ""}, {"ing", "e"}, {"ly", ""}};
    char w[WORD_MAX];
    for (size_t i = 0; i < LR_COUNT(endings); i++) {
        size_t off = strlen(endings[i].off), n = s.n - off;
        if (s.n < off + 2 || s.n + 2 > WORD_MAX || memcmp(s.p + n, endings[i].off, off))
            continue;
        memcpy(w, s.p, n);
        memcpy(w + n, endings[i].on, strlen(endings[i].on) + 1);
        const struct word_pole *p = FIND(poles, w);
        if (!p && off > 1 && n > 2 && w[n - 1] == w[n - 2] && !endings[i].on[0]) { /* stopped */
            w[n - 1] = 0;
            p = FIND(poles, w);
        }
        if (p)
            return p;
    }
    return NULL;
}

/* ---- numbers, units, dates ---- */

/* "1,000.50" as "1000.5": separators of thousands, leading and trailing zeros off. What has several
 * points, colons or slashes (versions, times, ratios) stays as it is. */
static void canonical(struct lr_str s, char out[WORD_MAX])
{
    size_t n = 0, points = 0;
    bool strange = s.n >= WORD_MAX - 1;
    for (size_t i = 0; i < s.n && !strange; i++) {
        bool thousands =
            s.p[i] == ',' && i + 3 < s.n && (i + 4 == s.n || !isdigit((unsigned char)s.p[i + 4]));
        points += s.p[i] == '.';
        strange = strchr(":/-", s.p[i]) && i > 0;
        if (!thousands)
            out[n++] = s.p[i] == ',' ? '.' : s.p[i];
    }
    if (strange || points > 1) {
        n = s.n < WORD_MAX - 1 ? s.n : WORD_MAX - 1;
        memcpy(out, s.p, n);
        out[n] = 0;
        return;
    }
    size_t from = out[0] == '-';
    while (from + 1 < n && out[from] == '0' && isdigit((unsigned char)out[from + 1])) {
        memmove(out + from, out + from + 1, n - from - 1);
        n--;
    }
    if (memchr(out, '.', n))
        while (n && (out[n - 1] == '0' || out[n - 1] == '.')) {
            bool point = out[--n] == '.';
            if (point)
                break;
        }
    out[n] = 0;
}

/* 2024-03-12 as year, month and day, whatever their order in words. */
static bool iso_date(struct reader *r, struct lr_str s)
{
    uint64_t y, m, d;
    if (s.n < 8 || s.n > 10 || s.p[4] != '-')
        return false;
    struct lr_str rest = s;
    struct lr_str a = lr_str_cut(&rest, '-'), b = lr_str_cut(&rest, '-');
    if (lr_parse_u64(a, &y) || lr_parse_u64(b, &m) || lr_parse_u64(rest, &d) || m < 1 || m > 12 ||
        d < 1 || d > 31)
        return false;
    add_number(r, LR_FACT_NUMBER, y);
    add_number(r, LR_FACT_DATE, m);
    add_number(r, LR_FACT_NUMBER, d);
    return true;
}

static const struct lr_token *at(const struct reader *r, size_t i)
{
    return i < r->cut->n ? &r->cut->token[i] : NULL;
}

/* What the word behind a number makes of it: "5k", "2 million", "3rd"; tokens taken. */
static size_t scale(const struct reader *r, size_t i, uint64_t *by)
{
    const struct lr_token *t = at(r, i);
    char w[WORD_MAX];
    *by = 1;
    if (!t || t->kind != LR_TOKEN_WORD || !spell(t->text, w))
        return 0;
    if (t->glued) {
        *by = !strcmp(w, "k") ? 1000 : 1;
        return !strcmp(w, "k") || !strcmp(w, "st") || !strcmp(w, "nd") || !strcmp(w, "rd") ||
               !strcmp(w, "th");
    }
    const struct word_number *m = FIND(scales, w);
    *by = m ? m->value : 1;
    return m != NULL;
}

static void unit_behind(struct reader *r, size_t i)
{
    const struct lr_token *t = at(r, i);
    char w[WORD_MAX];
    if (!t || t->kind != LR_TOKEN_WORD || !spell(t->text, w))
        return;
    const struct word_number *u = FIND(near_units, w);
    if (u)
        add_number(r, LR_FACT_UNIT, u->value);
}

/* A number in digits at token i; tokens taken. */
static size_t read_digits(struct reader *r, size_t i)
{
    struct lr_str s = r->cut->token[i].text;
    char text[WORD_MAX];
    uint64_t by, whole;
    if (iso_date(r, s))
        return 1;
    size_t slashes = 0;
    for (size_t k = 0; k < s.n; k++)
        slashes += s.p[k] == '/';
    if (slashes == 2) { /* 3/4/2024 is one day here and another there */
        add(r, LR_FACT_DATE, s, 0);
        return 1;
    }
    canonical(s, text);
    size_t more = scale(r, i + 1, &by);
    double v;
    if (by > 1 && !lr_parse_real(lr_strz(text), &v) && v >= 0 && v < 1e9)
        add_number(r, LR_FACT_NUMBER, (uint64_t)(v * (double)by + 0.5));
    else if (!lr_parse_u64(lr_strz(text), &whole))
        add_number(r, LR_FACT_NUMBER, whole);
    else
        add(r, LR_FACT_NUMBER, lr_strz(text), 0);
    unit_behind(r, i + 1 + more);
    return 1 + more;
}

/* A number in words: "twenty five", "two hundred"; tokens taken, 0: none. */
static size_t read_number_words(struct reader *r, size_t i)
{
    uint64_t sum = 0, part = 0;
    size_t k = 0;
    for (; k < 6; k++) {
        const struct lr_token *t = at(r, i + k);
        char w[WORD_MAX];
        if (!t || t->kind != LR_TOKEN_WORD || !spell(t->text, w))
            break;
        const struct word_number *v = FIND(numbers, w), *m = FIND(scales, w);
        bool fits =
            !k || part % 100 == 0 || (part % 10 == 0 && part % 100 >= 20 && v && v->value < 10);
        if (v && fits) {
            part += v->value;
        } else if (m && (k || m->value > 100)) {
            part = (part ? part : 1) * m->value;
            if (m->value > 100) {
                sum += part;
                part = 0;
            }
        } else {
            break;
        }
    }
    if (k) {
        add_number(r, LR_FACT_NUMBER, sum + part);
        unit_behind(r, i + k);
    }
    return k;
}

static bool is_number(const struct reader *r, size_t i)
{
    return i < r->cut->n && r->cut->token[i].kind == LR_TOKEN_NUMBER;
}

/* Months beside a number or with a capital inside a sentence; days of the week. */
static bool read_date(struct reader *r, size_t i, const char *w)
{
    const struct lr_token *t = at(r, i);
    const struct word_number *m = FIND(months, w), *d = FIND(weekdays, w);
    bool beside = (i && is_number(r, i - 1)) || is_number(r, i + 1);
    bool full = m && strlen(w) > 3 && strcmp(w, "march") && strcmp(w, "sept");
    if (m && !full && !beside && (!t->capital || t->begins || r->titled))
        m = NULL;
    if (m)
        add_number(r, LR_FACT_DATE, m->value);
    if (d)
        add_number(r, LR_FACT_DATE, 100 + d->value);
    return m || d;
}

/* ---- words ---- */

static void read_particle(struct reader *r, size_t i, const char *verb)
{
    static const char *const verbs[] = {"turn",  "switch", "log",  "sign",   "opt", "check",
                                        "power", "move",   "zoom", "scroll", "roll"};
    static const char *const ends[] = {"on", "off", "in", "out", "up", "down"};
    for (size_t v = 0; v < LR_COUNT(verbs); v++) {
        size_t n = strlen(verbs[v]);
        if (strncmp(verb, verbs[v], n) ||
            (verb[n] && strcmp(verb + n, "s") && strcmp(verb + n, "ed") && strcmp(verb + n, "ing")))
            continue;
        for (size_t k = i + 1; k <= i + 4 && k < r->cut->n; k++)
            for (size_t e = 0; e < LR_COUNT(ends); e++)
                if (lr_str_is(r->cut->token[k].text, ends[e])) {
                    /* turning on is enabling: the first axis */
                    const char *axis = v < 2 && e < 2 ? "0" : verbs[v];
                    add(r, LR_FACT_POLE, lr_strz(axis), (uint16_t)(1u << e));
                    return;
                }
    }
}

static bool is_name(const struct reader *r, const struct lr_token *t, const char *w)
{
    if (!t->capital || r->titled || FIND(stops, w))
        return false;
    return !t->begins || !(FIND(starters, w) || pole_of(t->text));
}

static void read_word(struct reader *r, size_t i)
{
    const struct lr_token *t = &r->cut->token[i];
    char w[WORD_MAX];
    if (!spell(t->text, w)) {
        add(r, LR_FACT_WORD, t->text, 0);
        return;
    }
    const struct word_number *unit = FIND(units, w), *tongue = FIND(tongues, w);
    const struct word_pole *pole = pole_of(t->text);
    for (unsigned l = 0; tongue && l < LR_COUNT(r->tongue); l++)
        r->tongue[l] += tongue->value >> l & 1;
    r->volatiles += FIND(volatile_words, w) != NULL;
    r->negations += FIND(negations, w) != NULL;
    if (unit)
        add_number(r, LR_FACT_UNIT, unit->value);
    if (pole) {
        char axis[8];
        snprintf(axis, sizeof axis, "%u", pole->axis);
        add(r, LR_FACT_POLE, lr_strz(axis), (uint16_t)(1u << pole->end));
    }
    read_particle(r, i, w);
    bool date = read_date(r, i, w);
    if (is_name(r, t, w) && !date)
        add(r, LR_FACT_NAME, singular(t->text), 0);
    if (!FIND(stops, w))
        add(r, LR_FACT_WORD, singular(t->text), 0);
}

/* ---- order ---- */

/* What a direction stands between: words that carry a topic, and numbers. */
static bool is_operand(const struct lr_token *t)
{
    return t->kind == LR_TOKEN_CODE || t->kind == LR_TOKEN_NUMBER ||
           (t->kind == LR_TOKEN_WORD && !is_stop(t->text));
}

/* "faster", "better": what stands before "than" and is no thing compared. */
static bool is_comparative(const struct lr_token *t)
{
    struct lr_str s = t->text;
    return t->kind == LR_TOKEN_WORD && !t->capital && s.n > 4 &&
           (!memcmp(s.p + s.n - 2, "er", 2) || lr_str_is(s, "worse"));
}

static const struct lr_token *operand(const struct reader *r, size_t i, int step, bool comparing)
{
    for (int k = 0; k < 4; k++) {
        i += (size_t)step; /* wraps below 0: then it is no token */
        const struct lr_token *t = at(r, i);
        if (!t || t->kind == LR_TOKEN_QUOTE)
            return NULL;
        if (is_operand(t) && !(comparing && is_comparative(t)))
            return t;
    }
    return NULL;
}

static void add_pair(struct reader *r, enum lr_fact_kind kind, char relation,
                     const struct lr_token *x, const struct lr_token *y)
{
    struct lr_str a = singular(x->text), b = singular(y->text);
    uint64_t of[3] = {(uint64_t)relation, lr_hash64(a, r->key), lr_hash64(b, r->key)};
    add(r, kind, lr_str(of, sizeof of), 0);
}

static void read_order(struct reader *r, size_t i)
{
    static const struct {
        const char *word;
        char relation;
        bool turned;
    } rows[] = {{"to", 't', false},   {"into", 't', false}, {"from", 't', true},
                {"than", 'n', false}, {"over", 'n', false}, {"before", 'b', false},
                {"after", 'b', true}};
    for (size_t k = 0; k < LR_COUNT(rows); k++) {
        if (!lr_str_is(r->cut->token[i].text, rows[k].word))
            continue;
        bool comparing = rows[k].relation == 'n';
        const struct lr_token *x = operand(r, i, -1, comparing), *y = operand(r, i, 1, false);
        if (!x || !y || lr_str_eq(singular(x->text), singular(y->text)))
            return;
        add_pair(r, LR_FACT_PAIR, rows[k].relation, rows[k].turned ? y : x, rows[k].turned ? x : y);
        add_pair(r, LR_FACT_BACK, rows[k].relation, rows[k].turned ? x : y, rows[k].turned ? y : x);
        return;
    }
}

/* ---- the whole ---- */

/* Capitals tell nothing when most words have one. */
static bool is_titled(const struct lr_cut *c)
{
    size_t words = 0, capitals = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct lr_token *t = &c->token[i];
        if (t->kind != LR_TOKEN_WORD || t->begins || is_stop(t->text))
            continue;
        words++;
        capitals += t->capital;
    }
    return words >= 4 && capitals * 10 >= words * 9;
}

static void read_tokens(struct reader *r)
{
    struct lr_cut *c = r->cut;
    for (size_t i = 0; i < c->n;) {
        const struct lr_token *t = &c->token[i];
        size_t taken = 0;
        switch ((enum lr_token_kind)t->kind) {
        case LR_TOKEN_NUMBER:
            taken = read_digits(r, i);
            break;
        case LR_TOKEN_CODE:
            add(r, LR_FACT_CODE, t->text, 0);
            break;
        case LR_TOKEN_QUOTE:
            add(r, LR_FACT_QUOTE, t->text, 0);
            break;
        case LR_TOKEN_NOT:
            r->negations++;
            break;
        case LR_TOKEN_SIGN: {
            char w[WORD_MAX];
            const struct word_number *u = spell(t->text, w) ? FIND(units, w) : NULL;
            if (u)
                add_number(r, LR_FACT_UNIT, u->value);
            break;
        }
        case LR_TOKEN_WORD:
            taken = read_number_words(r, i);
            if (!taken)
                read_word(r, i);
            break;
        }
        read_order(r, i);
        i += taken ? taken : 1;
    }
}

static uint8_t script_of(const struct lr_cut *c)
{
    enum { KANA = 10, HAN = 11 };
    size_t best = 0;
    for (size_t i = 1; i < LR_COUNT(c->letters); i++)
        if (c->letters[i] > c->letters[best])
            best = i;
    if (best == HAN && c->letters[KANA]) /* Japanese writes both */
        best = KANA;
    return (uint8_t)best;
}

static uint8_t language_of(const struct reader *r)
{
    size_t best = 0, second = 0, which = 0;
    for (size_t i = 0; i < LR_COUNT(r->tongue); i++) {
        if (r->tongue[i] > best) {
            second = best;
            best = r->tongue[i];
            which = i + 1;
        } else if (r->tongue[i] > second) {
            second = r->tongue[i];
        }
    }
    return best >= 2 && best > second ? (uint8_t)which : 0;
}

static int by_kind_and_hash(const void *a, const void *b)
{
    const struct lr_fact *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

/* Sorted, each once; ends of one axis are gathered. */
static size_t settle(struct lr_fact *f, size_t n)
{
    size_t m = 0;
    qsort(f, n, sizeof *f, by_kind_and_hash);
    for (size_t i = 0; i < n; i++) {
        if (m && f[m - 1].kind == f[i].kind && f[m - 1].hash == f[i].hash)
            f[m - 1].aux |= f[i].aux;
        else
            f[m++] = f[i];
    }
    return m;
}

int lr_facts_read(struct lr_str text, uint64_t key, struct lr_fact room[LR_FACTS_MAX],
                  struct lr_facts *out)
{
    struct lr_cut cut;
    struct reader r = {.cut = &cut, .room = room, .key = key};
    LR_TRY(lr_cut(text, &cut));
    r.titled = is_titled(&cut);
    read_tokens(&r);
    if (r.negations)
        add_number(&r, LR_FACT_NEGATION, r.negations);
    LR_FAIL_IF(r.over, LR_EOVER);
    *out = (struct lr_facts){.fact = room,
                             .n = (uint16_t)settle(room, r.n),
                             .script = script_of(&cut),
                             .language = language_of(&r),
                             .dated = r.volatiles > 0};
    return 0;
}
