/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_str.c - laws of text views and the small parsers.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct lr_rng rng;

static struct lr_str random_bytes(char *buf, size_t max, const char *alphabet)
{
    size_t n = (size_t)lr_rng_below(&rng, max + 1);
    for (size_t i = 0; i < n; i++)
        buf[i] = alphabet ? alphabet[lr_rng_below(&rng, strlen(alphabet))]
                          : (char)lr_rng_below(&rng, 256);
    return lr_str(buf, n);
}

static int sign(int x)
{
    return (x > 0) - (x < 0);
}

static void comparison_is_the_order_of_bytes(void **state)
{
    (void)state; /* cmocka's */
    static const char *const sorted[] = {"",   "\x01", "A", "Aa",   "a",
                                         "aa", "ab",   "b", "\x80", "\xFF"};
    for (size_t i = 0; i < LR_COUNT(sorted); i++) {
        for (size_t k = 0; k < LR_COUNT(sorted); k++) {
            struct lr_str a = lr_strz(sorted[i]), b = lr_strz(sorted[k]);
            assert_int_equal(sign(lr_str_cmp(a, b)), (i > k) - (i < k));
            assert_int_equal(lr_str_eq(a, b), i == k);
            assert_int_equal(lr_str_same_secret(a, b), i == k);
        }
    }
    struct lr_str none = {NULL, 0};
    assert_int_equal(lr_str_cmp(none, none), 0);
    assert_true(lr_str_eq(none, LR_STR("")) && lr_str_same_secret(none, LR_STR("")));
    assert_true(lr_strz(NULL).n == 0);
    assert_true(lr_str_ieq(LR_STR("Content-Type"), LR_STR("cONTENT-tYPE")));
    assert_false(lr_str_ieq(LR_STR("a"), LR_STR("ab")));
    assert_true(lr_str_starts(LR_STR("abc"), LR_STR("ab")) && lr_str_starts(none, none));
    assert_false(lr_str_starts(LR_STR("a"), LR_STR("ab")));
}

static void cut_fields_joined_give_the_text_back(void **state)
{
    (void)state; /* cmocka's */
    lr_rng_seed(&rng, 1);
    for (int i = 0; i < 2000; i++) {
        char buf[20], joined[20];
        size_t n = 0, fields = 0;
        struct lr_str s = random_bytes(buf, sizeof buf, "ab,"), rest = s;
        while (rest.p) {
            struct lr_str f = lr_str_cut(&rest, ',');
            if (fields++)
                joined[n++] = ',';
            assert_null(memchr(f.p, ',', f.n));
            memcpy(joined + n, f.p, f.n);
            n += f.n;
        }
        assert_true(lr_str_eq(lr_str(joined, n), s));
    }
    assert_true(lr_str_is(lr_str_trim(LR_STR(" \t\r\na b\n ")), "a b"));
    assert_int_equal(lr_str_trim(LR_STR(" \n")).n, 0);
    assert_int_equal(lr_str_trim(lr_str(NULL, 0)).n, 0);
}

/* ---- UTF-8 against a decoder that builds the code point and asks whether it is the shortest ----
 * */

static size_t twin_utf8(struct lr_str s)
{
    size_t at = 0;
    while (at < s.n) {
        unsigned char c = (unsigned char)s.p[at];
        size_t k = c < 0x80 ? 1 : c >= 0xC0 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : 4;
        if ((c >= 0x80 && c < 0xC0) || c >= 0xF8 || at + k > s.n)
            return at;
        unsigned cp = k == 1 ? c : c & (0x7FU >> k);
        for (size_t i = 1; i < k; i++) {
            unsigned char d = (unsigned char)s.p[at + i];
            if (d < 0x80 || d > 0xBF)
                return at;
            cp = cp << 6 | (d & 0x3FU);
        }
        size_t shortest = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        if (shortest != k || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
            return at;
        at += k;
    }
    return s.n;
}

static void check_utf8(struct lr_str s)
{
    size_t at = SIZE_MAX, want = twin_utf8(s);
    int rc = lr_utf8_check(s, &at);
    assert_int_equal(rc, want < s.n ? LR_EPARSE : 0);
    assert_true(at == (want < s.n ? want : SIZE_MAX)); /* untouched when well-formed */
    assert_int_equal(lr_utf8_check(s, NULL), rc);
}

static void utf8_is_judged_as_the_twin_judges(void **state)
{
    (void)state; /* cmocka's */
    lr_rng_seed(&rng, 2);
    for (unsigned i = 0; i < 0x10000; i++) { /* every start of two bytes, cut and continued */
        char b[4] = {(char)(i >> 8), (char)(i & 0xFF), '\x80', '\x80'};
        for (size_t n = 1; n <= 4; n++)
            check_utf8(lr_str(b, n));
    }
    for (int i = 0; i < 50000; i++) {
        static const char edges[] = "aaaaaaaaaaaaaaaaaaaa"
                                    "\x80\xBF\xC2\xC3\xE0\xE2\xED\xEF\xF0\xF4\xA9";
        char buf[40];
        check_utf8(random_bytes(buf, sizeof buf, i % 2 ? edges : NULL));
    }
    assert_int_equal(lr_utf8_check(lr_str(NULL, 0), NULL), 0);
}

/* ---- numbers ---- */

static void whole_numbers_parse_as_printed(void **state)
{
    (void)state; /* cmocka's */
    lr_rng_seed(&rng, 3);
    for (int i = 0; i < 20000; i++) {
        char z[32];
        uint64_t u = lr_rng_u64(&rng) >> lr_rng_below(&rng, 64), got = 0;
        int64_t s = (int64_t)(lr_rng_below(&rng, 2) ? u : 0 - u), got_s = 0;
        snprintf(z, sizeof z, "%llu", (unsigned long long)u);
        assert_int_equal(lr_parse_u64(lr_strz(z), &got), 0);
        assert_true(got == u);
        snprintf(z, sizeof z, "%lld", (long long)s);
        assert_int_equal(lr_parse_i64(lr_strz(z), &got_s), 0);
        assert_true(got_s == s);
    }
    static const struct {
        const char *text;
        int u, i;
    } rows[] = {{"", LR_EPARSE, LR_EPARSE},
                {"-", LR_EPARSE, LR_EPARSE},
                {"+1", LR_EPARSE, LR_EPARSE},
                {" 1", LR_EPARSE, LR_EPARSE},
                {"1 ", LR_EPARSE, LR_EPARSE},
                {"0x1", LR_EPARSE, LR_EPARSE},
                {"-1", LR_EPARSE, 0},
                {"--1", LR_EPARSE, LR_EPARSE},
                {"007", 0, 0},
                {"9223372036854775807", 0, 0},
                {"9223372036854775808", 0, LR_EOVER},
                {"-9223372036854775808", LR_EPARSE, 0},
                {"-9223372036854775809", LR_EPARSE, LR_EOVER},
                {"18446744073709551615", 0, LR_EOVER},
                {"18446744073709551616", LR_EOVER, LR_EOVER},
                {"99999999999999999999999", LR_EOVER, LR_EOVER}};
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        uint64_t u;
        int64_t s;
        assert_int_equal(lr_parse_u64(lr_strz(rows[i].text), &u), rows[i].u);
        assert_int_equal(lr_parse_i64(lr_strz(rows[i].text), &s), rows[i].i);
    }
}

struct row {
    const char *text;
    int rc;
    uint64_t v;
};

static void check_rows(const struct row *rows, size_t n, int (*parse)(struct lr_str, uint64_t *))
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 77;
        int rc = parse(lr_strz(rows[i].text), &v);
        if (rc != rows[i].rc || v != (rc ? 77 : rows[i].v))
            fail_msg("\"%s\": %s, %llu", rows[i].text, lr_errname(rc), (unsigned long long)v);
    }
}

static void sizes_and_durations_take_their_units_only(void **state)
{
    (void)state; /* cmocka's */
    static const struct row sizes[] = {
        {"0", 0, 0},
        {"100", 0, 100},
        {"100B", 0, 100},
        {"64K", 0, 65536},
        {"64k", 0, 65536},
        {"64KB", 0, 65536},
        {"64KiB", 0, 65536},
        {"8G", 0, 8ULL << 30},
        {"1.5M", 0, 3ULL << 19},
        {"2T", 0, 2ULL << 40},
        {"1P", 0, 1ULL << 50},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", LR_EPARSE, 0},
        {"16384P", LR_EOVER, 0},
        {"", LR_EPARSE, 0},
        {"K", LR_EPARSE, 0},
        {".", LR_EPARSE, 0},
        {"1.5", LR_EPARSE, 0},
        {"-1K", LR_EPARSE, 0},
        {"1X", LR_EPARSE, 0},
        {"1KX", LR_EPARSE, 0},
        {"1BB", LR_EPARSE, 0},
        {"1 K", LR_EPARSE, 0},
        {"1..5K", LR_EPARSE, 0},
    };
    static const struct row durations[] = {
        {"0", 0, 0},
        {"250ms", 0, 250},
        {"5s", 0, 5000},
        {"5", 0, 5000},
        {"0.5", 0, 500},
        {"1.001s", 0, 1001},
        {"10m", 0, 600000},
        {"2h", 0, 7200000},
        {"7d", 0, 604800000},
        {"1w", 0, 604800000},
        {"1e3s", LR_EPARSE, 0},
        {"", LR_EPARSE, 0},
        {"s", LR_EPARSE, 0},
        {"5 s", LR_EPARSE, 0},
        {"5S", LR_EPARSE, 0},
        {"-5s", LR_EPARSE, 0},
        {"99999999999999999w", LR_EOVER, 0},
    };
    check_rows(sizes, LR_COUNT(sizes), lr_parse_size);
    check_rows(durations, LR_COUNT(durations), lr_parse_duration);
}

static void reals_are_finite_and_whole(void **state)
{
    (void)state; /* cmocka's */
    static const char *const bad[] = {"",      "x",  "1x", "nan", "inf",
                                      "0x1p3", " 1", "1 ", "1e",  "--1"};
    double v = 7;
    for (size_t i = 0; i < LR_COUNT(bad); i++)
        assert_int_equal(lr_parse_real(lr_strz(bad[i]), &v), LR_EPARSE);
    assert_int_equal(lr_parse_real(LR_STR("1e999"), &v), LR_EOVER);
    assert_true(v == 7);
    assert_int_equal(lr_parse_real(LR_STR("-1.25e2"), &v), 0);
    assert_true(v == -125);
}

static void hex_goes_there_and_back(void **state)
{
    (void)state; /* cmocka's */
    lr_rng_seed(&rng, 4);
    for (int i = 0; i < 500; i++) {
        char buf[40], back[40], hex[81];
        struct lr_str s = random_bytes(buf, sizeof buf, NULL);
        lr_hex(s.p, s.n, hex);
        assert_int_equal(strlen(hex), 2 * s.n);
        for (size_t k = 0; k < 2 * s.n; k++)
            hex[k] = (char)(hex[k] >= 'a' && lr_rng_below(&rng, 2) ? hex[k] - 32 : hex[k]);
        assert_int_equal(lr_unhex(lr_strz(hex), back, s.n), 0);
        assert_memory_equal(back, s.p, s.n);
        if (s.n) {
            hex[lr_rng_below(&rng, 2 * s.n)] = "gG/:@`\x01\xFF"[i % 8];
            assert_int_equal(lr_unhex(lr_strz(hex), back, s.n), LR_EPARSE);
            assert_memory_equal(back, s.p, s.n); /* untouched */
            assert_int_equal(lr_unhex(lr_str(hex, 2 * s.n - 1), back, s.n), LR_EPARSE);
        }
    }
    unsigned char b[8];
    lr_put_le16(b, 0x0102);
    assert_memory_equal(b, "\2\1", 2);
    lr_put_le32(b, 0x01020304);
    assert_memory_equal(b, "\4\3\2\1", 4);
    lr_put_le64(b, 0x0102030405060708);
    assert_memory_equal(b, "\10\7\6\5\4\3\2\1", 8);
    assert_true(lr_le16(b) == 0x0708 && lr_le32(b) == 0x05060708);
    assert_true(lr_le64(b) == 0x0102030405060708);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_is_the_order_of_bytes),
        cmocka_unit_test(cut_fields_joined_give_the_text_back),
        cmocka_unit_test(utf8_is_judged_as_the_twin_judges),
        cmocka_unit_test(whole_numbers_parse_as_printed),
        cmocka_unit_test(sizes_and_durations_take_their_units_only),
        cmocka_unit_test(reals_are_finite_and_whole),
        cmocka_unit_test(hex_goes_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
