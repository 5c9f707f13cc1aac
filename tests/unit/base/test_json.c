/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_json.c - laws of the JSON reader, writer, canonical text and edits.
 *
 * Documents for the property tests are grown from a seed: a tree of our own (struct twin), which is
 * spelled with random blanks, escapes, number forms and member orders. The tree knows the canonical
 * text by construction, so that the code under test is never its own judge.
 */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROUNDS 300

static struct lr_rng rng;

static uint64_t below(uint64_t n)
{
    return lr_rng_below(&rng, n);
}

static void assert_text(struct lr_str got, struct lr_str want)
{
    if (!lr_str_eq(got, want))
        fail_msg("got %.*s, want %.*s", LR_FMT(got), LR_FMT(want));
}

static void assert_z(struct lr_str got, const char *want)
{
    assert_text(got, lr_strz(want));
}

/* Parses or fails the test. */
static struct lr_json *parse(struct lr_arena *a, struct lr_str src)
{
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    if (lr_json_parse(a, src, NULL, &v, &err))
        fail_msg("%s at %s in %.*s", err.msg, err.where, LR_FMT(src));
    return v;
}

/* Canonical text of src in out, which is emptied first. */
static struct lr_str canon(struct lr_str src, struct lr_buf *out)
{
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(64));
    lr_buf_reset(out);
    assert_int_equal(lr_json_canon(parse(&a, src), out), 0);
    lr_arena_free(&a);
    return lr_buf_str(out);
}

/* ---- tables ---- */

static void every_spelling_has_one_canonical_text(void **state)
{
    (void)state; /* cmocka's */
    static const char *const rows[][2] = {
        {" \t\r\n null ", "null"},
        {"[true , false]", "[true,false]"},
        {"{}", "{}"},
        {"[ ]", "[]"},
        {"\"\"", "\"\""},
        {"{\"\":{\"\":[]}}", "{\"\":{\"\":[]}}"},
        {"{\"b\":1,\"a\":2,\"ab\":3}", "{\"a\":2,\"ab\":3,\"b\":1}"},
        {"{\"\\u0062\":1,\"\\u0061\":2}", "{\"a\":2,\"b\":1}"},
        {"\"\\u00e9\\/\\u002f\\\"\\\\\\u0007\\b\\f\\n\\r\\t\\u007f\"",
         "\"\xC3\xA9//\\\"\\\\\\u0007\\b\\f\\n\\r\\t\x7F\""},
        {"\"\\uD83D\\uDE00\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\xF0\x9F\x98\x80\""},
        {"\"a\\u0000b\"", "\"a\\u0000b\""},
        {"0", "0"},
        {"-0", "0"},
        {"0.000", "0"},
        {"-0e99999999999999999999", "0"},
        {"1.0", "1"},
        {"10e-1", "1"},
        {"0.1E+1", "1"},
        {"100", "1e2"},
        {"1e2", "1e2"},
        {"0.10", "1e-1"},
        {"-12.50", "-125e-1"},
        {"10.010", "1001e-2"},
        {"1e000000000000000000002", "1e2"},
        {"9007199254740993", "9007199254740993"},
        {"1e1000000000", "1e1000000000"},
        {"10e1000000000", "1e1000000001"},
        {"0.1e-1000000000", "1e-1000000001"},
        {"1.0e1000000001", "1.0e1000000001"},
    };
    struct lr_buf out;
    lr_buf_init(&out, LR_KIB(64));
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        assert_z(canon(lr_strz(rows[i][0]), &out), rows[i][1]);
        assert_z(canon(lr_strz(rows[i][1]), &out), rows[i][1]);
    }
    lr_buf_free(&out);
}

static void refusals_say_what_and_where(void **state)
{
    (void)state; /* cmocka's */
    static const struct {
        struct lr_str src;
        const char *what;
        unsigned at;
    } rows[] = {
#define ROW(text, what, at) {{text, sizeof(text) - 1}, what, at}
        ROW("", "the end", 0),
        ROW("  ", "the end", 2),
        ROW("\xEF\xBB\xBF{}", "byte order mark", 0),
        ROW("nul", "expected a value, not 'n'", 0),
        ROW("True", "expected a value", 0),
        ROW("truex", "'x' after the end", 4),
        ROW("{} {}", "'{' after the end", 3),
        ROW("1 \0", "byte 0x00 after the end", 2),
        ROW("[1,]", "not ']'", 3),
        ROW("[,1]", "not ','", 1),
        ROW("[1 2]", "expected ',' or ']'", 3),
        ROW("[1}", "expected ',' or ']'", 2),
        ROW("{\"a\":1]", "expected ',' or '}'", 6),
        ROW("[", "the end", 1),
        ROW("[[1]", "the end", 4),
        ROW("]", "expected a value", 0),
        ROW("{\"a\"}", "expected ':'", 4),
        ROW("{\"a\":}", "expected a value", 5),
        ROW("{a:1}", "member name", 1),
        ROW("{'a':1}", "member name", 1),
        ROW("{\"a\":1,}", "member name", 7),
        ROW("{1:1}", "member name", 1),
        ROW("{\"a\":1,\"a\":2}", "duplicate member \"a\"", 7),
        ROW("{\"x\":{\"k\\\\\\\"\":1, \"\\u006b\\u005c\\\"\" : 2}}", "duplicate member", 17),
        ROW("{\"\":1,\"\":2}", "duplicate member", 6),
        ROW("{\"a\\n\":1,\"a\\n\":2}", "duplicate member", 9),
        ROW("01", "leading zero", 0),
        ROW("-01", "leading zero", 0),
        ROW("-", "needs a digit, not the end", 1),
        ROW("-a", "needs a digit, not 'a'", 1),
        ROW("+1", "expected a value", 0),
        ROW(".5", "expected a value", 0),
        ROW("1.", "needs a digit", 2),
        ROW("[1.]", "needs a digit", 3),
        ROW("1.e5", "needs a digit", 2),
        ROW("1e", "needs a digit", 2),
        ROW("1e+", "needs a digit", 3),
        ROW("0x10", "after the end", 1),
        ROW("NaN", "expected a value", 0),
        ROW("-Infinity", "needs a digit", 1),
        ROW("\"abc", "closing quote", 4),
        ROW("\"abc\\", "unknown escape", 4),
        ROW("\"\\x\"", "unknown escape", 1),
        ROW("\"\\\0\"", "unknown escape", 1),
        ROW("\"\\u12\"", "four hex digits", 1),
        ROW("\"\\u12g4\"", "four hex digits", 1),
        ROW("\"\\u+123\"", "four hex digits", 1),
        ROW("\"ab\\ud800\"", "lone surrogate", 3),
        ROW("\"\\udc00\\ud800\"", "lone surrogate", 1),
        ROW("\"\\ud800\\u0041\"", "lone surrogate", 1),
        ROW("\"\\ud800\\n\\udc00\"", "lone surrogate", 1),
        ROW("\"\\ud800\\udc0\"", "lone surrogate", 1),
        ROW("\"0123456789\nx\"", "control byte 0x0A", 11),
        ROW("\"\0\"", "control byte 0x00", 1),
        ROW("\"\xFF\"", "UTF-8", 1),
        ROW("\"0123456789\xC0\xAF\"", "UTF-8", 11),
        ROW("\"\xED\xA0\x80\"", "UTF-8", 1),
        ROW("\"\xF4\x90\x80\x80\"", "UTF-8", 1),
        ROW("\"\xE2\x82", "UTF-8", 1),
        ROW("[\xC2\xA0]", "not byte 0xC2", 1),
        ROW("[1]/**/", "after the end", 3),
#undef ROW
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_arena a;
        struct lr_json *v = NULL;
        struct lr_err err = {0};
        char where[32];
        lr_arena_init(&a, LR_MIB(1));
        snprintf(where, sizeof where, "byte %u", rows[i].at);
        int rc = lr_json_parse(&a, rows[i].src, NULL, &v, &err);
        if (rc != LR_EPARSE || !strstr(err.msg, rows[i].what) || strcmp(err.where, where) != 0)
            fail_msg("%.*s: %s: %s at %s", LR_FMT(rows[i].src), lr_errname(rc), err.msg, err.where);
        assert_null(v);
        assert_int_equal(lr_json_parse(&a, rows[i].src, NULL, &v, NULL), LR_EPARSE);
        lr_arena_free(&a);
    }
}

static void typed_reads_take_their_type_and_range_only(void **state)
{
    (void)state; /* cmocka's */
    static const struct {
        const char *text;
        bool ok;
        uint64_t v;
    } rows[] = {
        {"3", true, 3},
        {"3.0", true, 3},
        {"3e0", true, 3},
        {"0.3e1", true, 3},
        {"3000e-3", true, 3},
        {"-0", true, 0},
        {"0e99999999999", true, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"1844674407370955161.5e1", true, UINT64_MAX},
        {"1e19", true, 10000000000000000000ULL},
        {"18446744073709551616", false, 0},
        {"1e20", false, 0},
        {"99999999999999999999", false, 0},
        {"1e99999999999", false, 0},
        {"3.5", false, 0},
        {"-3", false, 0},
        {"\"3\"", false, 0},
        {"null", false, 0},
    };
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(1));
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        uint64_t got = 77;
        bool ok = lr_json_u64(parse(&a, lr_strz(rows[i].text)), &got);
        if (ok != rows[i].ok || got != (ok ? rows[i].v : 77))
            fail_msg("%s: %d, %llu", rows[i].text, ok, (unsigned long long)got);
    }
    double d = 7;
    bool b = false;
    struct lr_str s = LR_STR("old");
    assert_true(lr_json_real(parse(&a, LR_STR("-1.5e3")), &d) && d == -1500);
    assert_false(lr_json_real(parse(&a, LR_STR("1e400")), &d));
    assert_false(lr_json_real(parse(&a, LR_STR("true")), &d));
    assert_true(d == -1500);
    assert_true(lr_json_bool(parse(&a, LR_STR("true")), &b) && b);
    assert_true(lr_json_bool(parse(&a, LR_STR("false")), &b) && !b);
    assert_false(lr_json_bool(parse(&a, LR_STR("0")), &b));
    assert_false(lr_json_text(parse(&a, LR_STR("[]")), &s));
    assert_true(lr_json_text(parse(&a, LR_STR("\"x\"")), &s));
    assert_z(s, "x");
    assert_false(lr_json_u64(NULL, &(uint64_t){0}) || lr_json_text(NULL, &s) ||
                 lr_json_bool(NULL, &b) || lr_json_real(NULL, &d));
    assert_null(lr_json_get(NULL, "a"));
    assert_null(lr_json_get(parse(&a, LR_STR("[1]")), "a"));
    assert_null(lr_json_get(parse(&a, LR_STR("{\"ab\":1}")), "a"));
    assert_z(lr_json_get(parse(&a, LR_STR("{\"b\":1,\"\\u0061\":2}")), "a")->text, "2");
    lr_arena_free(&a);
}

/* A lexeme longer than any buffer of ours still reads as strtod reads it. */
static void long_numbers_read_exactly(void **state)
{
    (void)state; /* cmocka's */
    char text[1200];
    memset(text, '0', sizeof text);
    text[1] = '.';
    memcpy(text + 300, "25e299", 7);
    struct lr_arena a;
    double d = 0;
    lr_arena_init(&a, LR_MIB(1));
    assert_true(lr_json_real(parse(&a, lr_strz(text)), &d));
    assert_true(d == strtod(text, NULL) && d > 2.4 && d < 2.6);
    lr_arena_free(&a);
}

/* ---- the random tree ---- */

enum { KIDS_MAX = 24 };

struct twin {
    enum lr_json_type type;
    struct lr_str key, text; /* text: of a string decoded, of a number its canonical form */
    size_t n;
    struct twin *kid[KIDS_MAX];
};

static struct lr_str random_text(struct lr_arena *a)
{
    static const char *const bits[] = {"a", "b", "\"", "\\", "/", "\n", "\t", "\x01", "\x7F",
                                       "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "plain run"};
    char buf[256];
    size_t n = 0, parts = below(below(4) ? 4 : 20);
    for (size_t i = 0; i < parts; i++) {
        const char *bit = bits[below(LR_COUNT(bits))];
        memcpy(buf + n, bit, strlen(bit));
        n += strlen(bit);
    }
    struct lr_str out;
    assert_int_equal(lr_arena_copy(a, lr_str(buf, n), &out), 0);
    return out;
}

/* Digits without outer zeros and a power of ten: the canonical text by construction. */
static struct lr_str random_number(struct lr_arena *a)
{
    char buf[64];
    size_t n = 0, digits = 1 + below(below(3) ? 3 : 25);
    if (below(8) == 0)
        return LR_STR("0");
    if (below(3) == 0)
        buf[n++] = '-';
    for (size_t i = 0; i < digits; i++)
        buf[n++] = (char)((i == 0 || i + 1 == digits ? '1' : '0') +
                          (int)below(i == 0 || i + 1 == digits ? 9 : 10));
    int exp = below(2) ? 0 : (int)below(40) - 20;
    if (exp)
        n += (size_t)snprintf(buf + n, sizeof buf - n, "e%d", exp);
    struct lr_str out;
    assert_int_equal(lr_arena_copy(a, lr_str(buf, n), &out), 0);
    return out;
}

static bool has_key(const struct twin *t, struct lr_str key)
{
    for (size_t i = 0; i < t->n; i++)
        if (lr_str_eq(t->kid[i]->key, key))
            return true;
    return false;
}

static struct twin *random_twin(struct lr_arena *a, unsigned depth)
{
    struct twin *t = lr_arena_new(a, struct twin);
    assert_non_null(t);
    t->type = (enum lr_json_type)below(depth ? 7 : 5);
    if (t->type == LR_JSON_STRING)
        t->text = random_text(a);
    if (t->type == LR_JSON_NUMBER)
        t->text = random_number(a);
    if (t->type < LR_JSON_ARRAY)
        return t;
    size_t want = below(below(5) ? 5 : KIDS_MAX); /* at least one place stays free */
    while (t->n < want) {
        struct twin *k = random_twin(a, depth - 1);
        if (t->type == LR_JSON_OBJECT) {
            do
                k->key = random_text(a);
            while (has_key(t, k->key) && below(64)); /* small pools run dry */
            if (has_key(t, k->key))
                break;
        }
        t->kid[t->n++] = k;
    }
    return t;
}

static void blanks(struct lr_buf *b)
{
    for (uint64_t n = below(4) ? 0 : below(12); n; n--)
        lr_buf_addc(b, " \t\r\n"[below(4)]);
}

static unsigned code_point(const char *p, size_t k)
{
    unsigned cp = (unsigned char)p[0] & (k == 1 ? 0x7FU : 0x7FU >> k);
    for (size_t i = 1; i < k; i++)
        cp = cp << 6 | ((unsigned char)p[i] & 0x3FU);
    return cp;
}

/* One of the ways to write s between quotes. */
static void spell_string(struct lr_buf *b, struct lr_str s)
{
    lr_buf_addc(b, '"');
    for (size_t i = 0; i < s.n;) {
        size_t k = lr_utf8_len(s.p + i, s.n - i);
        unsigned char c = (unsigned char)s.p[i];
        static const char from[] = "\"\\/\b\f\n\r\t", to[] = "\"\\/bfnrt";
        const char *shorted = strchr(from, c);
        unsigned cp = code_point(s.p + i, k);
        if (shorted && below(2))
            lr_buf_addf(b, "\\%c", to[shorted - from]);
        else if (c >= 0x20 && c != '"' && c != '\\' && below(3))
            lr_buf_add(b, s.p + i, k);
        else if (k == 4)
            lr_buf_addf(b, below(2) ? "\\u%04x\\u%04x" : "\\u%04X\\u%04X",
                        0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + ((cp - 0x10000) & 0x3FF));
        else
            lr_buf_addf(b, below(2) ? "\\u%04x" : "\\u%04X", cp);
        i += k;
    }
    lr_buf_addc(b, '"');
}

/* One of the ways to write the number whose canonical text is s: the point may stand anywhere,
 * zeros may surround the digits, the exponent makes up for it. */
static void spell_number(struct lr_buf *b, struct lr_str s)
{
    char digits[64];
    size_t n = 0, at = 0;
    if (s.p[0] == '-') {
        lr_buf_addc(b, '-');
        at = 1;
    }
    while (at < s.n && s.p[at] != 'e')
        digits[n++] = s.p[at++];
    digits[n] = 0;
    long exp = at < s.n ? strtol(s.p + at + 1, NULL, 10) : 0; /* arena text: NUL-terminated */
    bool zero = digits[0] == '0';
    for (uint64_t k = below(4); k; k--) { /* trailing zeros */
        digits[n++] = '0';
        exp--;
    }
    size_t head = below(n + 1); /* digits before the point */
    if (zero)
        head = head > 1 ? 1 : head;
    exp += (long)(n - head);
    if (head == 0) {
        lr_buf_addz(b, "0.");
        for (uint64_t k = below(4); k; k--, exp++)
            lr_buf_addc(b, '0');
        lr_buf_add(b, digits, n);
    } else {
        lr_buf_add(b, digits, head);
        if (head < n)
            lr_buf_addc(b, '.');
        lr_buf_add(b, digits + head, n - head);
    }
    if (zero)
        exp = (long)below(2000) - 1000;
    if (exp || below(4) == 0)
        lr_buf_addf(b, "%c%s%s%ld", below(2) ? 'e' : 'E', exp < 0 ? "-" : below(2) ? "+" : "",
                    below(4) ? "" : "000", labs(exp));
}

static void spell(struct lr_buf *b, const struct twin *t);

static void spell_kids(struct lr_buf *b, const struct twin *t)
{
    size_t order[KIDS_MAX];
    for (size_t i = 0; i < t->n; i++) {
        size_t k = t->type == LR_JSON_OBJECT ? below(i + 1) : i; /* an object may be shuffled */
        order[i] = order[k < i ? k : i];
        order[k] = i;
    }
    lr_buf_addc(b, t->type == LR_JSON_OBJECT ? '{' : '[');
    for (size_t i = 0; i < t->n; i++) {
        blanks(b);
        if (t->type == LR_JSON_OBJECT) {
            spell_string(b, t->kid[order[i]]->key);
            blanks(b);
            lr_buf_addc(b, ':');
        }
        spell(b, t->kid[order[i]]);
        if (i + 1 < t->n)
            lr_buf_addc(b, ',');
    }
    blanks(b);
    lr_buf_addc(b, t->type == LR_JSON_OBJECT ? '}' : ']');
}

static void spell(struct lr_buf *b, const struct twin *t)
{
    blanks(b);
    if (t->type == LR_JSON_STRING)
        spell_string(b, t->text);
    else if (t->type == LR_JSON_NUMBER)
        spell_number(b, t->text);
    else if (t->type >= LR_JSON_ARRAY)
        spell_kids(b, t);
    else
        lr_buf_addz(b, t->type == LR_JSON_NULL   ? "null"
                       : t->type == LR_JSON_TRUE ? "true"
                                                 : "false");
    blanks(b);
}

/* The tree and the twin are the same value, key by key. */
static void assert_same(const struct lr_json *v, const struct twin *t)
{
    struct lr_buf num;
    lr_buf_init(&num, LR_KIB(1));
    assert_int_equal(v->type, t->type);
    assert_int_equal(v->n, t->n);
    if (t->type == LR_JSON_STRING)
        assert_text(v->text, t->text);
    if (t->type == LR_JSON_NUMBER) {
        assert_int_equal(lr_json_number_canon(v->text, &num), 0);
        assert_text(lr_buf_str(&num), t->text);
        assert_text(v->text, v->raw);
    }
    lr_buf_free(&num);
    const struct lr_json *c = v->child;
    for (size_t i = 0; i < t->n; i++) {
        if (t->type == LR_JSON_OBJECT)
            c = lr_json_get_str(v, t->kid[i]->key);
        assert_non_null(c);
        assert_same(c, t->kid[i]);
        c = c->next;
    }
}

/* Writes the twin with the writer. */
static void write_twin(struct lr_jw *w, const struct twin *t)
{
    if (t->type == LR_JSON_NULL)
        lr_jw_null(w);
    else if (t->type <= LR_JSON_TRUE)
        lr_jw_bool(w, t->type == LR_JSON_TRUE);
    else if (t->type == LR_JSON_NUMBER)
        lr_jw_raw(w, t->text);
    else if (t->type == LR_JSON_STRING)
        lr_jw_str(w, t->text);
    else {
        t->type == LR_JSON_ARRAY ? lr_jw_arr(w) : lr_jw_obj(w);
        for (size_t i = 0; i < t->n; i++) {
            if (t->type == LR_JSON_OBJECT)
                lr_jw_key_str(w, t->kid[i]->key);
            write_twin(w, t->kid[i]);
        }
        lr_jw_end(w);
    }
}

/* ---- properties ---- */

static void any_spelling_of_a_tree_reads_back_to_it(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf one, two, out;
    struct lr_arena a;
    lr_buf_init(&one, LR_MIB(4));
    lr_buf_init(&two, LR_MIB(4));
    lr_buf_init(&out, LR_MIB(4));
    lr_arena_init(&a, LR_MIB(64));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        lr_rng_seed(&rng, seed);
        lr_arena_reset(&a);
        lr_buf_reset(&one);
        lr_buf_reset(&two);
        struct twin *t = random_twin(&a, 4);
        spell(&one, t);
        spell(&two, t);
        assert_same(parse(&a, lr_buf_str(&one)), t);
        struct lr_str first = canon(lr_buf_str(&one), &out);
        lr_buf_reset(&one);
        lr_buf_adds(&one, first);
        if (!lr_str_eq(canon(lr_buf_str(&two), &out), lr_buf_str(&one)))
            fail_msg("two canonical texts, seed %llu", (unsigned long long)seed);
        assert_text(canon(lr_buf_str(&one), &out), lr_buf_str(&one));
    }
    lr_arena_free(&a);
    lr_buf_free(&one);
    lr_buf_free(&two);
    lr_buf_free(&out);
}

static void what_the_writer_writes_reads_back(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    struct lr_arena a;
    lr_buf_init(&b, LR_MIB(4));
    lr_arena_init(&a, LR_MIB(64));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        lr_rng_seed(&rng, seed);
        lr_arena_reset(&a);
        lr_buf_reset(&b);
        struct lr_jw w;
        struct twin *t = random_twin(&a, 5);
        lr_jw_init(&w, &b);
        write_twin(&w, t);
        assert_int_equal(b.rc, 0);
        assert_same(parse(&a, lr_buf_str(&b)), t);
    }
    lr_arena_free(&a);
    lr_buf_free(&b);
}

/* raw of each node is the value's bytes: read alone it gives the same value. */
static void assert_raw(const struct lr_json *v, struct lr_buf *x, struct lr_buf *y)
{
    lr_buf_reset(x);
    assert_int_equal(lr_json_canon(v, x), 0);
    assert_text(canon(v->raw, y), lr_buf_str(x));
    for (const struct lr_json *c = v->child; c; c = c->next)
        assert_raw(c, x, y);
}

static void every_node_keeps_its_bytes(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf src, x, y;
    struct lr_arena a;
    lr_buf_init(&src, LR_MIB(4));
    lr_buf_init(&x, LR_MIB(4));
    lr_buf_init(&y, LR_MIB(4));
    lr_arena_init(&a, LR_MIB(64));
    for (uint64_t seed = 1; seed <= 40; seed++) {
        lr_rng_seed(&rng, seed);
        lr_arena_reset(&a);
        lr_buf_reset(&src);
        spell(&src, random_twin(&a, 3));
        assert_raw(parse(&a, lr_buf_str(&src)), &x, &y);
    }
    lr_arena_free(&a);
    lr_buf_free(&src);
    lr_buf_free(&x);
    lr_buf_free(&y);
}

static void numbers_are_one_exactly_when_equal(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf text, out;
    struct lr_arena a;
    lr_buf_init(&text, LR_KIB(4));
    lr_buf_init(&out, LR_KIB(4));
    lr_arena_init(&a, LR_MIB(1));
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        lr_rng_seed(&rng, seed);
        lr_arena_reset(&a);
        lr_buf_reset(&text);
        lr_buf_reset(&out);
        struct lr_str want = random_number(&a);
        spell_number(&text, want);
        int rc = lr_json_number_canon(lr_buf_str(&text), &out);
        if (rc || !lr_str_eq(lr_buf_str(&out), want))
            fail_msg("seed %llu: %.*s gives %.*s, not %.*s", (unsigned long long)seed,
                     LR_FMT(lr_buf_str(&text)), LR_FMT(lr_buf_str(&out)), LR_FMT(want));
    }
    static const char *const bad[] = {"", "-", "01", "1.", ".1", "1e", "1x", " 1", "1 ", "+1"};
    for (size_t i = 0; i < LR_COUNT(bad); i++)
        assert_int_equal(lr_json_number_canon(lr_strz(bad[i]), &out), LR_EPARSE);
    lr_arena_free(&a);
    lr_buf_free(&text);
    lr_buf_free(&out);
}

/* A cut document never reads, a damaged one reads to a fixed point or is refused with a place. */
static void cut_and_damaged_documents_are_refused_or_consistent(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf src, one, two;
    struct lr_arena a;
    lr_buf_init(&src, LR_MIB(4));
    lr_buf_init(&one, LR_MIB(4));
    lr_buf_init(&two, LR_MIB(4));
    lr_arena_init(&a, LR_MIB(64));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        lr_rng_seed(&rng, seed);
        lr_arena_reset(&a);
        lr_buf_reset(&src);
        lr_buf_addc(&src, '[');
        spell(&src, random_twin(&a, 3));
        lr_buf_addc(&src, ']');
        struct lr_json *v = NULL;
        struct lr_err err = {0};
        assert_int_equal(lr_json_parse(&a, lr_str(src.p, below(src.len)), NULL, &v, &err),
                         LR_EPARSE);
        for (uint64_t k = 1 + below(3); k; k--)
            src.p[below(src.len)] = below(2) ? (char)below(256) : "\"\\[]{},:0e"[below(10)];
        err = (struct lr_err){0};
        if (lr_json_parse(&a, lr_buf_str(&src), NULL, &v, &err)) {
            assert_true(strncmp(err.where, "byte ", 5) == 0);
            assert_true(strtoul(err.where + 5, NULL, 10) <= src.len);
            continue;
        }
        lr_buf_reset(&one);
        lr_buf_adds(&one, canon(lr_buf_str(&src), &two));
        assert_text(canon(lr_buf_str(&one), &two), lr_buf_str(&one));
    }
    lr_arena_free(&a);
    lr_buf_free(&src);
    lr_buf_free(&one);
    lr_buf_free(&two);
}

static void every_code_point_reads_alike_raw_and_escaped(void **state)
{
    (void)state; /* cmocka's */
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(1));
    for (unsigned cp = 0x80; cp < 0x110000; cp += cp < 0x900 || cp % 0x800 < 3 ? 1 : 37) {
        char raw[5], src[64];
        if (cp >= 0xD800 && cp <= 0xDFFF)
            continue;
        int n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        for (int i = n - 1; i > 0; i--)
            raw[i] = (char)(0x80 | (cp >> (6 * (n - 1 - i)) & 0x3F));
        raw[0] = (char)((n == 2 ? 0xC0U : n == 3 ? 0xE0U : 0xF0U) | cp >> (6 * (n - 1)));
        raw[n] = 0;
        if (n < 4)
            snprintf(src, sizeof src, "[\"%s\",\"\\u%04x\"]", raw, cp);
        else
            snprintf(src, sizeof src, "[\"%s\",\"\\u%04x\\u%04x\"]", raw,
                     0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + (cp & 0x3FF));
        lr_arena_reset(&a);
        struct lr_json *v = parse(&a, lr_strz(src));
        assert_text(v->child->text, lr_strz(raw));
        assert_text(v->child->next->text, lr_strz(raw));
    }
    lr_arena_free(&a);
}

/* ---- bounds ---- */

static void twins_among_many_members_are_found_where_they_stand(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    struct lr_arena a;
    lr_buf_init(&b, LR_MIB(1));
    lr_arena_init(&a, LR_MIB(16));
    lr_rng_seed(&rng, 7);
    for (size_t n = 2; n < 300; n = n < 40 ? n + 1 : n * 2) {
        for (int twin = 0; twin < 2; twin++) {
            size_t late = 1 + below(n - 1), early = below(late), at = 0;
            lr_buf_reset(&b);
            lr_arena_reset(&a);
            for (size_t i = 0; i < n; i++) {
                lr_buf_addc(&b, i ? ',' : '{');
                at = i == late ? b.len : at;
                if (twin && i == late) /* another spelling of the early one */
                    lr_buf_addf(&b, "\"\\u006d%zu\":%zu", early, i);
                else
                    lr_buf_addf(&b, "\"m%zu\":%zu", i, i);
            }
            lr_buf_addc(&b, '}');
            struct lr_json *v = NULL;
            struct lr_err err = {0};
            char where[32];
            snprintf(where, sizeof where, "byte %zu", at);
            assert_int_equal(lr_json_parse(&a, lr_buf_str(&b), NULL, &v, &err),
                             twin ? LR_EPARSE : 0);
            assert_string_equal(err.where, twin ? where : "");
        }
    }
    lr_arena_free(&a);
    lr_buf_free(&b);
}

static void nest(struct lr_buf *b, size_t depth)
{
    lr_buf_reset(b);
    for (size_t i = 0; i < depth; i++)
        lr_buf_addz(b, i % 2 ? "{\"a\":" : "[");
    lr_buf_addz(b, "1");
    for (size_t i = depth; i-- > 0;)
        lr_buf_addc(b, i % 2 ? '}' : ']');
}

static void depth_is_bounded_and_costs_no_stack(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b, out;
    struct lr_arena a;
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    lr_buf_init(&b, LR_MIB(8));
    lr_buf_init(&out, LR_MIB(8));
    lr_arena_init(&a, LR_MIB(256));
    nest(&b, 128);
    assert_int_equal(lr_json_parse(&a, lr_buf_str(&b), NULL, &v, NULL), 0);
    nest(&b, 129);
    assert_int_equal(lr_json_parse(&a, lr_buf_str(&b), NULL, &v, &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "128"));
    nest(&b, 1000000); /* more than any C stack holds */
    struct lr_json_limits deep = {.depth_max = 1000000};
    assert_int_equal(lr_json_parse(&a, lr_buf_str(&b), &deep, &v, NULL), 0);
    assert_int_equal(lr_json_canon(v, &out), 0);
    assert_text(lr_buf_str(&out), lr_buf_str(&b));
    lr_arena_free(&a);
    lr_buf_free(&b);
    lr_buf_free(&out);
}

static void values_and_memory_are_bounded(void **state)
{
    (void)state; /* cmocka's */
    struct lr_json_limits few = {.nodes_max = 4};
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(1));
    assert_int_equal(lr_json_parse(&a, LR_STR("[1,2,3]"), &few, &v, NULL), 0);
    assert_int_equal(lr_json_parse(&a, LR_STR("[1,2,3,4]"), &few, &v, &err), LR_EOVER);
    assert_string_equal(err.where, "byte 7");
    lr_arena_free(&a);
    lr_arena_init(&a, 512); /* room for the first nodes only */
    err = (struct lr_err){0};
    assert_int_equal(lr_json_parse(&a, LR_STR("[1,2,3,4,5,6,7,8,9]"), NULL, &v, &err), LR_ENOMEM);
    lr_arena_free(&a);
}

/* ---- edits ---- */

static void setting_a_member_in_the_text_is_setting_it_in_the_tree(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf src, out, x, y;
    struct lr_arena a;
    lr_buf_init(&src, LR_MIB(4));
    lr_buf_init(&out, LR_MIB(4));
    lr_buf_init(&x, LR_MIB(4));
    lr_buf_init(&y, LR_MIB(4));
    lr_arena_init(&a, LR_MIB(64));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        lr_rng_seed(&rng, seed);
        lr_arena_reset(&a);
        lr_buf_reset(&src);
        lr_buf_reset(&out);
        struct twin *t = random_twin(&a, 3);
        while (t->type != LR_JSON_OBJECT)
            t = random_twin(&a, 3);
        spell(&src, t);
        /* Two members: one that may be there, one that is new; of an empty object only one. */
        const char *names[2] = {"q", "new\"\n"};
        if (t->n)
            names[0] = lr_arena_strz(&a, t->kid[below(t->n)]->key);
        size_t n = t->n ? 2 : 1;
        struct lr_json_edit e[2];
        struct lr_json *o = parse(&a, lr_buf_str(&src));
        for (size_t i = 0; i < n; i++) {
            struct twin *k = lr_arena_new(&a, struct twin);
            *k = (struct twin){LR_JSON_NUMBER, lr_strz(names[i]), LR_STR("5"), 0, {NULL}};
            size_t at = 0;
            while (at < t->n && !lr_str_eq(t->kid[at]->key, k->key))
                at++;
            assert_true(at < KIDS_MAX); /* random_twin leaves room for one */
            t->kid[at] = k;
            t->n += at == t->n;
            assert_int_equal(
                lr_json_edit_set(&a, lr_buf_str(&src), o, names[i], LR_STR("5"), &e[n - 1 - i]), 0);
        }
        assert_int_equal(lr_json_splice(lr_buf_str(&src), e, n, &out), 0);
        assert_same(parse(&a, lr_buf_str(&out)), t);
    }
    lr_arena_free(&a);
    lr_buf_free(&src);
    lr_buf_free(&out);
    lr_buf_free(&x);
    lr_buf_free(&y);
}

static void edits_leave_all_other_bytes_alone(void **state)
{
    (void)state; /* cmocka's */
    struct lr_str src = LR_STR(" { \"b\" : 1.0 ,\"a\":[ ] } ");
    struct lr_json_edit e[3];
    struct lr_arena a;
    struct lr_buf out;
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, LR_KIB(1));
    struct lr_json *o = parse(&a, src);
    assert_int_equal(lr_json_edit_set(&a, src, o, "a", LR_STR("null"), &e[0]), 0);
    assert_int_equal(lr_json_edit_set(&a, src, o, "x", LR_STR("{}"), &e[1]), 0);
    assert_int_equal(lr_json_edit_set(&a, src, o, "y", LR_STR("2"), &e[2]), 0);
    assert_int_equal(lr_json_splice(src, e, 3, &out), 0);
    assert_z(lr_buf_str(&out), " {\"x\":{},\"y\":2, \"b\" : 1.0 ,\"a\":null } ");
    lr_buf_reset(&out);
    assert_int_equal(lr_json_splice(src, NULL, 0, &out), 0);
    assert_text(lr_buf_str(&out), src);
    assert_int_equal(lr_json_edit_set(&a, src, o->child, "a", src, &e[0]), LR_EINVAL);
    lr_arena_free(&a);
    lr_buf_free(&out);
}

static void overlapping_and_outlying_edits_are_refused_whole(void **state)
{
    (void)state; /* cmocka's */
    struct lr_str src = LR_STR("{}");
    struct lr_arena a;
    struct lr_buf out;
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, LR_KIB(1));
    struct lr_json_edit e[2];
    struct lr_json *o = parse(&a, src);
    assert_int_equal(lr_json_edit_set(&a, src, o, "x", LR_STR("1"), &e[0]), 0);
    assert_int_equal(lr_json_edit_set(&a, src, o, "y", LR_STR("1"), &e[1]), 0);
    assert_int_equal(lr_json_splice(src, e, 2, &out), LR_EINVAL);
    assert_int_equal(lr_json_splice(src, e, 1, &out), 0);
    assert_z(lr_buf_str(&out), "{\"x\":1}");
    lr_buf_reset(&out);
    e[0] = (struct lr_json_edit){1, 3, src};
    assert_int_equal(lr_json_splice(src, e, 1, &out), LR_EINVAL);
    e[0] = (struct lr_json_edit){1, 0, src};
    assert_int_equal(lr_json_splice(src, e, 1, &out), LR_EINVAL);
    assert_int_equal(out.len, 0);
    lr_arena_free(&a);
    lr_buf_free(&out);
}

/* ---- the writer ---- */

static void writer_places_commas_and_numbers(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    struct lr_jw w;
    lr_buf_init(&b, LR_KIB(4));
    lr_jw_init(&w, &b);
    lr_jw_arr(&w);
    lr_jw_u64(&w, 0);
    lr_jw_u64(&w, UINT64_MAX);
    lr_jw_i64(&w, INT64_MIN);
    lr_jw_i64(&w, INT64_MAX);
    lr_jw_i64(&w, -1);
    lr_jw_obj(&w);
    lr_jw_key(&w, "a");
    lr_jw_obj(&w);
    lr_jw_end(&w);
    lr_jw_key(&w, "b\n");
    lr_jw_strz(&w, "");
    lr_jw_end(&w);
    lr_jw_real(&w, 0.1);
    lr_jw_real(&w, 1.0 / 3);
    lr_jw_real(&w, 1e22);
    lr_jw_real(&w, -0.0);
    lr_jw_real(&w, (double)NAN);
    lr_jw_real(&w, -(double)INFINITY);
    lr_jw_raw(&w, LR_STR("[7]"));
    lr_jw_strz(&w, NULL);
    lr_jw_end(&w);
    assert_int_equal(b.rc, 0);
    assert_z(lr_buf_str(&b), "[0,18446744073709551615,-9223372036854775808,9223372036854775807,-1,"
                             "{\"a\":{},\"b\\n\":\"\"},0.1,0.3333333333333333,1e+22,-0,null,"
                             "null,[7],\"\"]");
    lr_buf_free(&b);
}

static void reals_read_back_the_same(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    struct lr_arena a;
    struct lr_jw w;
    lr_buf_init(&b, LR_KIB(1));
    lr_arena_init(&a, LR_MIB(1));
    lr_rng_seed(&rng, 11);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = lr_rng_u64(&rng);
        double v, back = 0;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        lr_buf_reset(&b);
        lr_arena_reset(&a);
        lr_jw_init(&w, &b);
        lr_jw_real(&w, v);
        assert_true(lr_json_real(parse(&a, lr_buf_str(&b)), &back));
        assert_memory_equal(&back, &v, sizeof v);
    }
    lr_arena_free(&a);
    lr_buf_free(&b);
}

static void quote_escapes_what_must_be_and_mends_utf8(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(4));
    for (unsigned c = 0; c < 0x80; c++) {
        char ch = (char)c;
        lr_buf_reset(&b);
        assert_int_equal(lr_json_quote(&b, lr_str(&ch, 1)), 0);
        bool must = c < 0x20 || c == '"' || c == '\\';
        assert_int_equal(b.p[1] == '\\', must);
        assert_true(must || b.len == 3);
    }
    lr_buf_reset(&b);
    assert_int_equal(lr_json_quote(&b, LR_STR("\xE2\x82x\xFF\xC3\xA9\xED\xA0\x80")), 0);
    assert_z(lr_buf_str(&b), "\"\xEF\xBF\xBD\xEF\xBF\xBDx\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD"
                             "\xEF\xBF\xBD\xEF\xBF\xBD\"");
    lr_buf_reset(&b);
    assert_int_equal(lr_json_quote(&b, lr_str(NULL, 0)), 0);
    assert_z(lr_buf_str(&b), "\"\"");
    lr_buf_free(&b);
}

static void writer_failures_stick(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    struct lr_jw w;
    lr_buf_init(&b, LR_KIB(4));
    lr_jw_init(&w, &b);
    for (int i = 0; i < 64; i++)
        lr_jw_arr(&w);
    assert_int_equal(b.rc, 0);
    lr_jw_obj(&w); /* level 65 */
    assert_int_equal(b.rc, LR_EOVER);
    lr_jw_key(&w, "a");
    for (int i = 0; i < 65; i++)
        lr_jw_end(&w);
    assert_int_equal(b.rc, LR_EOVER);
    lr_buf_free(&b);
    lr_buf_init(&b, 8);
    lr_jw_init(&w, &b);
    lr_jw_arr(&w);
    lr_jw_strz(&w, "longer than eight");
    lr_jw_end(&w);
    assert_int_equal(b.rc, LR_EOVER);
    lr_buf_free(&b);
}

/* ---- faults ---- */

static int scenario(void)
{
    struct lr_str src = LR_STR("{\"b\":[1,2,{\"c\":\"\\n\"},0],\"a\":\"x\",\"0\":0,\"1\":0,\"2\":0,"
                               "\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"10\":0,"
                               "\"11\":0,\"12\":0,\"13\":0,\"14\":0,\"15\":0,\"16\":0}");
    struct lr_arena a;
    struct lr_buf out;
    struct lr_json *v = NULL;
    struct lr_json_edit e;
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, LR_KIB(64));
    int rc = lr_json_parse(&a, src, NULL, &v, NULL);
    if (!rc)
        rc = lr_json_canon(v, &out);
    if (!rc)
        rc = lr_json_edit_set(&a, src, v, "new", LR_STR("1"), &e);
    if (!rc)
        rc = lr_json_splice(src, &e, 1, &out);
    lr_buf_free(&out);
    lr_arena_free(&a);
    return rc;
}

static void every_failed_allocation_is_an_error_without_leak(void **state)
{
    (void)state; /* cmocka's */
    int rc = LR_ENOMEM;
    uint64_t n = 1;
    for (; rc; n++) {
        assert_int_equal(lr_fault_arm(n), 0);
        rc = scenario();
        assert_true(rc == LR_ENOMEM || (rc == 0 && lr_fault_seen() < n));
    }
    assert_true(n > 4);
    assert_int_equal(lr_fault_arm(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_has_one_canonical_text),
        cmocka_unit_test(refusals_say_what_and_where),
        cmocka_unit_test(typed_reads_take_their_type_and_range_only),
        cmocka_unit_test(long_numbers_read_exactly),
        cmocka_unit_test(any_spelling_of_a_tree_reads_back_to_it),
        cmocka_unit_test(what_the_writer_writes_reads_back),
        cmocka_unit_test(every_node_keeps_its_bytes),
        cmocka_unit_test(numbers_are_one_exactly_when_equal),
        cmocka_unit_test(cut_and_damaged_documents_are_refused_or_consistent),
        cmocka_unit_test(every_code_point_reads_alike_raw_and_escaped),
        cmocka_unit_test(twins_among_many_members_are_found_where_they_stand),
        cmocka_unit_test(depth_is_bounded_and_costs_no_stack),
        cmocka_unit_test(values_and_memory_are_bounded),
        cmocka_unit_test(setting_a_member_in_the_text_is_setting_it_in_the_tree),
        cmocka_unit_test(edits_leave_all_other_bytes_alone),
        cmocka_unit_test(overlapping_and_outlying_edits_are_refused_whole),
        cmocka_unit_test(writer_places_commas_and_numbers),
        cmocka_unit_test(reals_read_back_the_same),
        cmocka_unit_test(quote_escapes_what_must_be_and_mends_utf8),
        cmocka_unit_test(writer_failures_stick),
        cmocka_unit_test(every_failed_allocation_is_an_error_without_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
