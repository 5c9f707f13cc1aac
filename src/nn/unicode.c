/* SPDX-License-Identifier: Apache-2.0
 * nn/unicode.c - the few facts of Unicode that tokenisers are defined by.
 *
 * Classes are ranges found by binary search (about 2,800 ranges, 11 KiB); runs where capitals and
 * small letters take turns are one range of a pseudo-class. Decompositions are those of NFD with
 * nonspacing marks left out, because that is all WordPiece wants of them ("accent stripping");
 * canonical reordering cannot matter then, save for a dozen musical and Hangul tone signs that are
 * spacing and have an order: we keep theirs.
 *
 * Versions: pre-tokenisers of released models were written against whatever Unicode their regular
 * expression library knew, so a letter younger than that may be cut differently. Sources:
 * UnicodeData by way of tools/unicode.py; The Unicode Standard 3.12 for Hangul.
 */
#include "nn/nn_int.h"

struct lower {
    uint32_t first, last, step;
    int32_t delta;
};
struct bare {
    uint32_t first;
    uint16_t count, at;
};
struct parts {
    uint32_t c, to[3];
};
#include "nn/unicode_table.h"

#define ALTERNATE 12u

enum lr_uni lr_uni_class(uint32_t c)
{
    if (c >= 0x110000)
        return LR_UNI_NONE;
    size_t lo = 0, hi = LR_COUNT(classes); /* classes[lo] starts at or before c */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (classes[mid] >> 4 <= c)
            lo = mid;
        else
            hi = mid;
    }
    uint32_t k = classes[lo] & 15;
    if (k != ALTERNATE)
        return (enum lr_uni)k;
    return (c - (classes[lo] >> 4)) & 1 ? LR_UNI_LOWER : LR_UNI_UPPER;
}

uint32_t lr_uni_lower(uint32_t c)
{
    size_t lo = 0, hi = LR_COUNT(lowers);
    while (lo < hi) { /* the first run that ends at or behind c */
        size_t mid = lo + (hi - lo) / 2;
        if (lowers[mid].last < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == LR_COUNT(lowers) || c < lowers[lo].first || (c - lowers[lo].first) % lowers[lo].step)
        return c;
    return (uint32_t)((int32_t)c + lowers[lo].delta);
}

static size_t hangul(uint32_t c, uint32_t out[3])
{
    uint32_t i = c - 0xAC00, tail = i % 28;
    out[0] = 0x1100 + i / 588;
    out[1] = 0x1161 + i % 588 / 28;
    out[2] = 0x11A7 + tail;
    return tail ? 3 : 2;
}

size_t lr_uni_bare(uint32_t c, uint32_t out[3])
{
    out[0] = c;
    if (c < 0xC0)
        return 1;
    if (c >= 0xAC00 && c < 0xD7A4)
        return hangul(c, out);
    if (lr_uni_class(c) == LR_UNI_MARK)
        return 0;
    for (size_t lo = 0, hi = LR_COUNT(bares); lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;
        if (c >= bares[mid].first + bares[mid].count) {
            lo = mid + 1;
        } else if (c < bares[mid].first) {
            hi = mid;
        } else {
            out[0] = bare_to[bares[mid].at + (c - bares[mid].first)];
            return 1;
        }
    }
    for (size_t i = 0; i < LR_COUNT(parts); i++) {
        if (parts[i].c != c)
            continue;
        memcpy(out, parts[i].to, sizeof parts[i].to);
        return out[2] ? 3 : 2;
    }
    return 1;
}

size_t lr_uni_put(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}
