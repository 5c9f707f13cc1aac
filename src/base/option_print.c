/* SPDX-License-Identifier: Apache-2.0
 * base/option_print.c - a configuration back into text, and what changed between two.
 *
 * The law of this file: load(print(c)) equals c, and print of it is the same bytes. Therefore sizes
 * and durations take the largest unit that is exact, reals the fewest digits that read back the
 * same, and texts are quoted unless they can be nothing but a plain word. Keys are written whole
 * ("answer.bytes: 1G"), one line a row, so that lines of two prints compare with diff.
 *
 * What YAML takes for a line break or refuses in a file (U+0085, U+2028, U+2029, U+FEFF, the C1
 * controls, U+FFFE, U+FFFF) is written as an escape, and so is read back as it was.
 */
#include "base/option_int.h"

#include <stdio.h>

/* ---- scalars ---- */

/* Words that some YAML reader would take for something else than text. */
static bool is_word_of_yaml(struct lr_str s)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n"};
    for (size_t i = 0; i < LR_COUNT(words); i++)
        if (lr_str_ieq(s, lr_strz(words[i])))
            return true;
    return false;
}

static bool is_plain(struct lr_str s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (s.n == 0 || !(memchr(letters, s.p[0], sizeof letters - 1) || s.p[0] == '/'))
        return false;
    for (size_t i = 1; i < s.n; i++)
        if (!memchr(letters, s.p[i], sizeof letters - 1) && !memchr("0123456789_./-", s.p[i], 14))
            return false;
    return !is_word_of_yaml(s);
}

/* The character at p, valid UTF-8 of *n bytes. */
static uint32_t decode(const char *p, size_t *n)
{
    const unsigned char *u = (const unsigned char *)p;
    *n = u[0] < 0x80 ? 1 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : 4;
    uint32_t c = *n == 1 ? u[0] : u[0] & (0x7Fu >> *n);
    for (size_t i = 1; i < *n; i++)
        c = c << 6 | (u[i] & 0x3Fu);
    return c;
}

int lr_opt_put_text(struct lr_buf *b, struct lr_str s)
{
    if (is_plain(s))
        return lr_buf_adds(b, s);
    lr_buf_addc(b, '"');
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t c = decode(s.p + i, &n);
        if (c == '"' || c == '\\')
            lr_buf_addc(b, '\\');
        if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || c == 0xFEFF ||
            c == 0xFFFE || c == 0xFFFF)
            lr_buf_addf(b, "\\u%04X", (unsigned)c);
        else
            lr_buf_add(b, s.p + i, n);
    }
    return lr_buf_addc(b, '"');
}

static int put_list(struct lr_buf *b, const struct lr_list *l)
{
    lr_buf_addc(b, '[');
    for (size_t i = 0; i < l->n; i++) {
        lr_buf_addz(b, i ? ", " : "");
        lr_opt_put_text(b, lr_strz(l->v[i]));
    }
    return lr_buf_addc(b, ']');
}

static int put_size(struct lr_buf *b, uint64_t v)
{
    static const char units[] = "\0KMGTP";
    size_t u = 0;
    while (v && v % 1024 == 0 && u < 5) {
        v /= 1024;
        u++;
    }
    return u ? lr_buf_addf(b, "%llu%c", (unsigned long long)v, units[u])
             : lr_buf_addf(b, "%llu", (unsigned long long)v);
}

static int put_duration(struct lr_buf *b, uint64_t ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    size_t u = 0;
    while (ms % units[u].ms)
        u++;
    return ms ? lr_buf_addf(b, "%llu%s", (unsigned long long)(ms / units[u].ms), units[u].unit)
              : lr_buf_addz(b, "0");
}

/* Seventeen digits always read back the same; most numbers need fewer. */
static int put_real(struct lr_buf *b, double v)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        double back;
        int n = snprintf(text, sizeof text, "%.*g", digits, v);
        if (n > 0 && lr_parse_real(lr_str(text, (size_t)n), &back) == 0 && !(back < v || back > v))
            break;
    }
    return lr_buf_addz(b, text);
}

static struct lr_str enum_name(const struct lr_opt_row *row, int v)
{
    struct lr_str rest = lr_strz(row->min), name = lr_str_cut(&rest, '|');
    while (v-- > 0 && rest.p)
        name = lr_str_cut(&rest, '|');
    return name;
}

/* The member of row in the struct at base. */
static const void *member(const struct lr_opt_row *row, const void *base)
{
    return (const char *)base + row->offset;
}

static int put_value(struct lr_buf *b, const struct lr_opt_row *row, const void *base)
{
    const void *m = member(row, base);
    switch (row->type) {
    case LR_OPT_TEXT:
        return lr_opt_put_text(b, lr_strz(*(char *const *)m));
    case LR_OPT_LIST:
        return put_list(b, m);
    case LR_OPT_SIZE:
        return put_size(b, *(const uint64_t *)m);
    case LR_OPT_UINT:
        return lr_buf_addf(b, "%llu", (unsigned long long)*(const uint64_t *)m);
    case LR_OPT_DURATION:
        return put_duration(b, *(const uint64_t *)m);
    case LR_OPT_REAL:
        return put_real(b, *(const double *)m);
    case LR_OPT_BOOL:
        return lr_buf_addz(b, *(const bool *)m ? "true" : "false");
    case LR_OPT_ENUM:
        return lr_buf_adds(b, enum_name(row, *(const int *)m));
    }
    return LR_EINVAL;
}

/* ---- the whole ---- */

static int put_table(struct lr_buf *b, const struct lr_opt_table *t, const struct lr_config *c)
{
    size_t n = lr_opt_record_count(t, c);
    lr_buf_addf(b, "%s:%s\n", t->key, n ? "" : " []");
    for (size_t i = 0; i < n; i++) {
        const void *rec = lr_opt_record(t, c, i);
        for (size_t k = 0; k < t->rows_n; k++) {
            lr_buf_addf(b, "  %c %s: ", k ? ' ' : '-', t->rows[k].key);
            put_value(b, &t->rows[k], rec);
            lr_buf_addc(b, '\n');
        }
    }
    return b->rc;
}

int lr_config_print(const struct lr_config *c, struct lr_buf *out)
{
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    for (size_t i = 0; i < n; i++) {
        lr_buf_addf(out, "%s: ", row[i].key);
        put_value(out, &row[i], c);
        lr_buf_addc(out, '\n');
    }
    for (size_t i = 0; i < tables_n; i++)
        put_table(out, &t[i], c);
    return out->rc;
}

static bool same_list(const struct lr_list *a, const struct lr_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i], b->v[i]) != 0)
            return false;
    return true;
}

static bool same_value(const struct lr_opt_row *row, const void *a, const void *b)
{
    const void *x = member(row, a), *y = member(row, b);
    switch (row->type) {
    case LR_OPT_TEXT:
        return !strcmp(*(char *const *)x, *(char *const *)y);
    case LR_OPT_LIST:
        return same_list(x, y);
    case LR_OPT_REAL:
        return memcmp(x, y, sizeof(double)) == 0;
    case LR_OPT_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case LR_OPT_ENUM:
        return *(const int *)x == *(const int *)y;
    case LR_OPT_SIZE:
    case LR_OPT_UINT:
    case LR_OPT_DURATION:
        return *(const uint64_t *)x == *(const uint64_t *)y;
    }
    return false;
}

int lr_config_diff_start(const struct lr_config *a, const struct lr_config *b, struct lr_buf *out)
{
    size_t n, found = 0;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    for (size_t i = 0; i < n; i++) {
        if (row[i].when != LR_OPT_START || same_value(&row[i], a, b))
            continue;
        lr_buf_addf(out, "%s%s", found++ ? "," : "", row[i].key);
    }
    return out->rc;
}
