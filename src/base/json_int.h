/* SPDX-License-Identifier: Apache-2.0
 * base/json_int.h - what the JSON files of base/ share.
 */
#ifndef LR_BASE_JSON_INT_H
#define LR_BASE_JSON_INT_H

#include "base/json.h"

/* A number's lexeme taken apart: +-d1d2..dn * 10^exp, d1 and dn not zero; n == 0 is zero. The
 * digits lie in the lexeme from `first` on, with at most one point among them. */
struct lr_json_digits {
    const char *first;
    size_t n; /* digits, the point not counted */
    bool neg;
    bool huge; /* the exponent is spelled beyond +-10^9; exp is meaningless */
    int64_t exp;
};

/* LR_EPARSE unless s is an RFC 8259 number and nothing else. */
int lr_json_digits(struct lr_str s, struct lr_json_digits *out);

/* ---- plain runs, eight bytes at a time ---- */

#define LR_JSON_ONES 0x0101010101010101ULL

/* The high bit of each byte that ends a plain run: '"', '\\', below 0x20, above 0x7F. Bytes after
 * the first hit may be marked wrongly (borrows travel up), so only the lowest bit is to be
 * believed. */
static inline uint64_t lr_json_not_plain(uint64_t w)
{
    uint64_t quote = w ^ (LR_JSON_ONES * '"'), slash = w ^ (LR_JSON_ONES * '\\');
    uint64_t control = w - LR_JSON_ONES * 0x20;
    return ((quote - LR_JSON_ONES) | (slash - LR_JSON_ONES) | control | w) & (LR_JSON_ONES * 0x80);
}

static inline bool lr_json_is_plain(char c)
{
    return c != '"' && c != '\\' && (unsigned char)c >= 0x20 && (unsigned char)c < 0x80;
}

/* The first byte in [p, end) that cannot stand in a string as it is or needs a look; end if none.
 * */
static inline const char *lr_json_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t hit = lr_json_not_plain(lr_le64(p));
        if (hit)
            return p + (__builtin_ctzll(hit) >> 3);
        p += 8;
    }
    while (p < end && lr_json_is_plain(*p))
        p++;
    return p;
}

#endif
