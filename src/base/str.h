/* SPDX-License-Identifier: Apache-2.0
 * base/str.h - lengths travel with bytes; little-endian loads and stores; small text parsers.
 */
#ifndef LR_BASE_STR_H
#define LR_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* A view of n bytes at p; owns nothing, is not NUL-terminated, may hold any byte. {NULL, 0} is
 * empty. */
struct lr_str {
    const char *p;
    size_t n;
};

static inline struct lr_str lr_str(const void *p, size_t n)
{
    return (struct lr_str){(const char *)p, n};
}
/* View of a C string; NULL gives the empty view. */
static inline struct lr_str lr_strz(const char *z)
{
    return (struct lr_str){z, z ? strlen(z) : 0};
}
#define LR_STR(literal) ((struct lr_str){"" literal, sizeof(literal) - 1})
/* For "%.*s". */
#define LR_FMT(s) (int)((s).n > 4096 ? 4096 : (s).n), (s).n ? (s).p : ""

static inline bool lr_str_eq(struct lr_str a, struct lr_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool lr_str_is(struct lr_str a, const char *z)
{
    return lr_str_eq(a, lr_strz(z));
}
/* ASCII case-insensitive. */
static inline bool lr_str_ieq(struct lr_str a, struct lr_str b)
{
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}
static inline bool lr_str_starts(struct lr_str a, struct lr_str prefix)
{
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}
/* memcmp order, shorter first on ties. */
int lr_str_cmp(struct lr_str a, struct lr_str b);
/* Without leading and trailing blanks (space, tab, CR, LF). */
struct lr_str lr_str_trim(struct lr_str s);
/* Cuts the text before the first `sep` off *rest and returns it; *rest becomes what follows (p ==
 * NULL once nothing follows). Loop: while (rest.p) { f = lr_str_cut(&rest, ','); ... } */
struct lr_str lr_str_cut(struct lr_str *rest, char sep);
/* Equal length and bytes, in time that depends on the lengths alone. */
bool lr_str_same_secret(struct lr_str a, struct lr_str b);
/* 0 if s is well-formed UTF-8 (no surrogates, no overlongs, up to U+10FFFF); else LR_EPARSE with
 * the offset of the first bad byte in *at (may be NULL). */
int lr_utf8_check(struct lr_str s, size_t *at);
/* Length of the well-formed UTF-8 sequence at p (1..4), 0 if it is malformed or cut off; n >= 1. */
size_t lr_utf8_len(const char *p, size_t n);

/* Whole-string number parsers: no blanks, no sign for unsigned. LR_EPARSE or LR_EOVER. */
int lr_parse_u64(struct lr_str s, uint64_t *out);
int lr_parse_i64(struct lr_str s, int64_t *out);
int lr_parse_real(struct lr_str s, double *out); /* finite only; the C locale's point */
/* "64K" "8G" "1.5M" "100": bytes, powers of 1024, optional trailing B or iB. */
int lr_parse_size(struct lr_str s, uint64_t *out);
/* "250ms" "5s" "10m" "2h" "7d" "0": milliseconds; a bare number is seconds. */
int lr_parse_duration(struct lr_str s, uint64_t *out_ms);

/* Lower-case hex of n bytes into out[2n+1]; and back (LR_EPARSE unless exactly 2n hex digits). */
void lr_hex(const void *bytes, size_t n, char *out);
int lr_unhex(struct lr_str hex, void *out, size_t n);

static inline uint16_t lr_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v; /* little-endian hosts only: checked in base.h */
}
static inline uint32_t lr_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t lr_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void lr_put_le16(void *p, uint16_t v)
{
    memcpy(p, &v, 2);
}
static inline void lr_put_le32(void *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void lr_put_le64(void *p, uint64_t v)
{
    memcpy(p, &v, 8);
}

#endif
