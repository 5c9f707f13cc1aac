/* SPDX-License-Identifier: Apache-2.0
 * base/str.c - text views and small parsers.
 */
#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

int lr_str_cmp(struct lr_str a, struct lr_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct lr_str lr_str_trim(struct lr_str s)
{
    while (s.n && blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct lr_str lr_str_cut(struct lr_str *rest, char sep)
{
    struct lr_str head = *rest;
    const char *at = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    if (!at) {
        *rest = (struct lr_str){NULL, 0};
        return head;
    }
    head.n = (size_t)(at - rest->p);
    *rest = lr_str(at + 1, rest->n - head.n - 1);
    return head;
}

bool lr_str_same_secret(struct lr_str a, struct lr_str b)
{
    if (a.n != b.n)
        return false;
    volatile unsigned char diff = 0;
    for (size_t i = 0; i < a.n; i++)
        diff = (unsigned char)(diff | ((unsigned char)a.p[i] ^ (unsigned char)b.p[i]));
    return diff == 0;
}

/* Table 3-7 of the Unicode standard. */
size_t lr_utf8_len(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || n < 2)
        return 0;
    if (p[0] < 0xE0)
        return (p[1] & 0xC0) == 0x80 ? 2 : 0;
    if (n < 3 || (p[2] & 0xC0) != 0x80)
        return 0;
    if (p[0] < 0xF0) {
        unsigned lo = p[0] == 0xE0 ? 0xA0 : 0x80, hi = p[0] == 0xED ? 0x9F : 0xBF;
        return p[1] >= lo && p[1] <= hi ? 3 : 0;
    }
    if (p[0] > 0xF4 || n < 4 || (p[3] & 0xC0) != 0x80)
        return 0;
    unsigned lo = p[0] == 0xF0 ? 0x90 : 0x80, hi = p[0] == 0xF4 ? 0x8F : 0xBF;
    return p[1] >= lo && p[1] <= hi ? 4 : 0;
}

int lr_utf8_check(struct lr_str s, size_t *at)
{
    size_t i = 0;
    while (i < s.n) {
        while (i + 8 <= s.n && !(lr_le64(s.p + i) & 0x8080808080808080ULL))
            i += 8;
        if (i >= s.n)
            break;
        size_t k = lr_utf8_len(s.p + i, s.n - i);
        if (!k) {
            if (at)
                *at = i;
            return LR_EPARSE;
        }
        i += k;
    }
    return 0;
}

int lr_parse_u64(struct lr_str s, uint64_t *out)
{
    LR_FAIL_IF(s.n == 0, LR_EPARSE);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        LR_FAIL_IF(s.p[i] < '0' || s.p[i] > '9', LR_EPARSE);
        unsigned d = (unsigned)(s.p[i] - '0');
        LR_FAIL_IF(__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v), LR_EOVER);
    }
    *out = v;
    return 0;
}

int lr_parse_i64(struct lr_str s, int64_t *out)
{
    bool neg = s.n && s.p[0] == '-';
    uint64_t v;
    LR_TRY(lr_parse_u64(neg ? lr_str(s.p + 1, s.n - 1) : s, &v));
    LR_FAIL_IF(v > (uint64_t)INT64_MAX + (neg ? 1 : 0), LR_EOVER);
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return 0;
}

int lr_parse_real(struct lr_str s, double *out)
{
    char z[64], *end;
    LR_FAIL_IF(s.n == 0 || s.n >= sizeof z, LR_EPARSE);
    for (size_t i = 0; i < s.n; i++)
        LR_FAIL_IF(!strchr("0123456789+-.eE", s.p[i]) || !s.p[i], LR_EPARSE);
    memcpy(z, s.p, s.n);
    z[s.n] = 0;
    double v = strtod(z, &end);
    LR_FAIL_IF(end != z + s.n, LR_EPARSE);
    LR_FAIL_IF(!isfinite(v), LR_EOVER);
    *out = v;
    return 0;
}

/* Splits "1.5GiB" into 1.5 and "GiB". */
static int number_and_unit(struct lr_str s, double *num, struct lr_str *unit)
{
    size_t i = 0;
    while (i < s.n && (isdigit((unsigned char)s.p[i]) || s.p[i] == '.'))
        i++;
    LR_TRY(lr_parse_real(lr_str(s.p, i), num));
    *unit = lr_str(s.p + i, s.n - i);
    return 0;
}

int lr_parse_size(struct lr_str s, uint64_t *out)
{
    if (lr_parse_u64(s, out) == 0)
        return 0;
    double num;
    struct lr_str unit;
    LR_TRY(number_and_unit(s, &num, &unit));
    LR_FAIL_IF(unit.n == 0, LR_EPARSE);
    static const char scale[] = "BKMGTP";
    const char *at = strchr(scale, toupper((unsigned char)unit.p[0]));
    LR_FAIL_IF(!at || !*at, LR_EPARSE);
    struct lr_str tail = lr_str(unit.p + 1, unit.n - 1);
    bool bytes = at == scale;
    bool known = lr_str_ieq(tail, LR_STR("B")) || lr_str_ieq(tail, LR_STR("iB"));
    LR_FAIL_IF(tail.n && (bytes || !known), LR_EPARSE);
    double v = ldexp(num, 10 * (int)(at - scale));
    LR_FAIL_IF(v >= 18446744073709551616.0, LR_EOVER);
    *out = (uint64_t)v;
    return 0;
}

int lr_parse_duration(struct lr_str s, uint64_t *out_ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1000},   {"ms", 1},         {"s", 1000},         {"m", 60000},
                 {"h", 3.6e6}, {"d", 86400000.0}, {"w", 604800000.0}};
    double num;
    struct lr_str unit;
    LR_TRY(number_and_unit(s, &num, &unit));
    for (size_t i = 0; i < LR_COUNT(units); i++) {
        if (!lr_str_is(unit, units[i].unit))
            continue;
        double v = num * units[i].ms;
        LR_FAIL_IF(v >= 9.2e18, LR_EOVER);
        *out_ms = (uint64_t)rint(v); /* 1.001 s is a hair below 1001 ms in binary */
        return 0;
    }
    return LR_EPARSE;
}

void lr_hex(const void *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *b = bytes;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[b[i] >> 4];
        out[2 * i + 1] = digits[b[i] & 15];
    }
    out[2 * n] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int lr_unhex(struct lr_str hex, void *out, size_t n)
{
    LR_FAIL_IF(hex.n != 2 * n, LR_EPARSE);
    for (size_t i = 0; i < hex.n; i++)
        LR_FAIL_IF(hex_digit(hex.p[i]) < 0, LR_EPARSE);
    unsigned char *b = out;
    for (size_t i = 0; i < n; i++)
        b[i] = (unsigned char)(hex_digit(hex.p[2 * i]) << 4 | hex_digit(hex.p[2 * i + 1]));
    return 0;
}
