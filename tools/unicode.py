#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/nn/unicode_table.h: the Unicode facts tokenisers need, as ranges.

Usage: tools/unicode.py > src/nn/unicode_table.h
The data is that of the module unicodedata2 (PyPI; 16.0.0 was used) or, without it, of Python's own
unicodedata, whose version then may be older. Run it again only to move to another Unicode version.
"""
try:
    import unicodedata2 as u
except ImportError:
    import unicodedata as u

# Order is that of enum lr_uni in src/nn/nn_int.h.
CLASS = {"Lu": 1, "Lt": 1, "Ll": 2, "Lm": 3, "Lo": 3, "Mn": 4, "Mc": 5, "Me": 5,
         "Nd": 6, "Nl": 6, "No": 6, "Zs": 9, "Zl": 9, "Zp": 9, "Cc": 10, "Cf": 11, "Co": 11}
ALTERNATE = 12  # upper, lower, upper, lower ...: halves the table
LAST = 0x110000


def cls(c):
    k = u.category(chr(c))
    return CLASS.get(k, {"P": 7, "S": 8}.get(k[0], 0))


def classes():
    out, prev, c = [], None, 0
    while c < LAST:
        end = c
        while end + 1 < LAST and cls(end) == 1 and cls(end + 1) == 2:
            end += 2
        if end - c >= 4:
            out.append((c, ALTERNATE))
            prev, c = ALTERNATE, end
            continue
        if cls(c) != prev:
            prev = cls(c)
            out.append((c, prev))
        c += 1
    return ["0x%X" % (c << 4 | k) for c, k in out]


def lower():
    """(first, last, step, delta): each step-th character from first to last plus delta."""
    runs = []
    for c in range(LAST):
        low = chr(c).lower() if not 0xD800 <= c < 0xE000 else chr(c)
        d = ord(low) - c if len(low) == 1 else 0
        if not d:
            continue
        if runs and runs[-1][3] == d and (c - runs[-1][1] == runs[-1][2] or
                                          runs[-1][0] == runs[-1][1] and c - runs[-1][1] <= 2):
            runs[-1][2] = c - runs[-1][1]
            runs[-1][1] = c
        else:
            runs.append([c, c, 1, d])
    return ["{0x%X, 0x%X, %d, %d}" % tuple(r) for r in runs]


def bare():
    """Canonical decomposition without its nonspacing marks (Mn): runs of single characters, and
    the few that leave two or three. Hangul is computed; characters that vanish are Mn themselves
    and need no row."""
    runs, to, many = [], [], []
    for c in range(LAST):
        if 0xAC00 <= c < 0xD7A4 or 0xD800 <= c < 0xE000:
            continue
        nfd = u.normalize("NFD", chr(c))
        left = [ord(x) for x in nfd if u.category(x) != "Mn"]
        if nfd == chr(c) or not left:
            continue
        if len(left) > 1:
            many.append("{0x%X, {%s}}" % (c, ", ".join("0x%X" % x for x in left)))
            assert len(left) <= 3
            continue
        if runs and runs[-1][0] + runs[-1][1] == c:
            runs[-1][1] += 1
        else:
            runs.append([c, 1, len(to)])
        to.append("0x%X" % left[0])
    return ["{0x%X, %d, %d}" % tuple(r) for r in runs], to, many


def table(head, items):
    print("\n" + head + " = {")
    line = "   "
    for i in items:
        if len(line) + len(i) + 2 > 100:
            print(line)
            line = "   "
        line += " " + i + ","
    print(line + "\n};")


runs, to, many = bare()
print("""/* SPDX-License-Identifier: Apache-2.0
 * nn/unicode_table.h - facts of Unicode %s; made by tools/unicode.py, do not edit.
 * Included by unicode.c alone.
 */""" % u.unidata_version)
table("/* first character << 4 | class, ascending; class 12: upper and lower case by turns */\n"
      "static const uint32_t classes[]", classes())
table("/* simple lower case: {first, last, step, delta} */\n"
      "static const struct lower lowers[]", lower())
table("/* decompositions to one base character: {first, count, index in bare_to} */\n"
      "static const struct bare bares[]", runs)
table("static const uint32_t bare_to[]", to)
table("/* decompositions to several: {character, {parts, 0 beyond}} */\n"
      "static const struct parts parts[]", many)
