/* SPDX-License-Identifier: Apache-2.0
 * base/json_write.c - the JSON writer: commas, nesting and escapes over a bounded buffer.
 *
 * One bit a level says whether a comma is due there, another whether the level is an array. Before
 * any value or name: write the comma if it is due. A value leaves it due, a name leaves it not due;
 * that is all. Failures stick in the buffer (buf.h), so a document is written without looking and
 * checked once. Misuse (a value without a name, an end too many) is our bug and asserted.
 *
 * Escapes are the fewest RFC 8259 allows: quote, backslash and the 32 control bytes, short forms
 * first; everything else, DEL and '/' included, passes. Real numbers take the first of 15, 16 and
 * 17 significant digits that reads back the same, which is the shortest %g can do (Steele and White
 * 1990; 17 always do). Ryu was considered: we write a handful of reals a page, not worth its tables.
 */
#include "base/base.h"
#include "base/json_int.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define JW_DEPTH_MAX 64

void lr_jw_init(struct lr_jw *w, struct lr_buf *b)
{
    *w = (struct lr_jw){.b = b};
}

static uint64_t level(const struct lr_jw *w)
{
    return 1ULL << (w->depth - 1);
}

/* The comma before a value or a name; another is due after it. */
static void comma(struct lr_jw *w)
{
    if (w->depth == 0)
        return;
    if (w->comma & level(w))
        lr_buf_addc(w->b, ',');
    w->comma |= level(w);
}

static void open_level(struct lr_jw *w, char c, bool array)
{
    comma(w);
    if (w->depth == JW_DEPTH_MAX) { /* reserve's failure is what sticks */
        w->b->rc = w->b->rc ? w->b->rc : LR_EOVER;
        return;
    }
    lr_buf_addc(w->b, c);
    w->depth++;
    w->comma &= ~level(w);
    w->array = array ? w->array | level(w) : w->array & ~level(w);
}

void lr_jw_obj(struct lr_jw *w)
{
    open_level(w, '{', false);
}

void lr_jw_arr(struct lr_jw *w)
{
    open_level(w, '[', true);
}

void lr_jw_end(struct lr_jw *w)
{
    if (w->b->rc)
        return;
    assert(w->depth > 0);
    lr_buf_addc(w->b, w->array & level(w) ? ']' : '}');
    w->depth--;
}

void lr_jw_key_str(struct lr_jw *w, struct lr_str name)
{
    if (w->b->rc)
        return;
    assert(w->depth > 0 && !(w->array & level(w)));
    comma(w);
    w->comma &= ~level(w);
    lr_json_quote(w->b, name);
    lr_buf_addc(w->b, ':');
}

void lr_jw_key(struct lr_jw *w, const char *name)
{
    lr_jw_key_str(w, lr_strz(name));
}

void lr_jw_str(struct lr_jw *w, struct lr_str s)
{
    comma(w);
    lr_json_quote(w->b, s);
}

void lr_jw_strz(struct lr_jw *w, const char *z)
{
    lr_jw_str(w, lr_strz(z));
}

void lr_jw_raw(struct lr_jw *w, struct lr_str json)
{
    comma(w);
    lr_buf_adds(w->b, json);
}

/* v in decimal, ending at end; returns where it begins. */
static char *decimal(char *end, uint64_t v)
{
    do
        *--end = (char)('0' + v % 10);
    while (v /= 10);
    return end;
}

void lr_jw_u64(struct lr_jw *w, uint64_t v)
{
    char buf[20], *end = buf + sizeof buf, *p = decimal(end, v);
    lr_jw_raw(w, lr_str(p, (size_t)(end - p)));
}

void lr_jw_i64(struct lr_jw *w, int64_t v)
{
    char buf[21], *end = buf + sizeof buf;
    char *p = decimal(end, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
    if (v < 0)
        *--p = '-';
    lr_jw_raw(w, lr_str(p, (size_t)(end - p)));
}

void lr_jw_real(struct lr_jw *w, double v)
{
    char buf[40];
    int n = 0;
    if (!isfinite(v)) {
        lr_jw_null(w);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(buf, sizeof buf, "%.*g", digits, v);
        double back = strtod(buf, NULL);
        if (memcmp(&back, &v, sizeof v) == 0)
            break;
    }
    assert(n > 0 && (size_t)n < sizeof buf);
    lr_jw_raw(w, lr_str(buf, (size_t)n));
}

void lr_jw_bool(struct lr_jw *w, bool v)
{
    lr_jw_raw(w, v ? LR_STR("true") : LR_STR("false"));
}

void lr_jw_null(struct lr_jw *w)
{
    lr_jw_raw(w, LR_STR("null"));
}

/* The escape of c, which needs one, into out; its length. */
static size_t escape(unsigned char c, char out[6])
{
    static const char hex[] = "0123456789abcdef";
    static const char names[] = "\"\\\b\f\n\r\t", shorts[] = "\"\\bfnrt";
    const char *at = c ? strchr(names, c) : NULL;
    if (at) {
        out[0] = '\\';
        out[1] = shorts[at - names];
        return 2;
    }
    memcpy(out, "\\u00", 4);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

int lr_json_quote(struct lr_buf *b, struct lr_str s)
{
    LR_TRY(lr_buf_reserve(b, s.n < SIZE_MAX - 2 ? s.n + 2 : s.n));
    lr_buf_addc(b, '"');
    if (s.n) {
        const char *from = s.p, *p = s.p, *end = s.p + s.n; /* [from, p) passes as it is */
        while ((p = lr_json_plain(p, end)) < end) {
            char esc[6];
            size_t k = lr_utf8_len(p, (size_t)(end - p));
            if (k > 1) {
                p += k;
                continue;
            }
            size_t n = k ? escape((unsigned char)*p, esc) : 0;
            lr_buf_add(b, from, (size_t)(p - from));
            lr_buf_adds(b, n ? lr_str(esc, n) : LR_STR("\xEF\xBF\xBD"));
            from = ++p;
        }
        lr_buf_add(b, from, (size_t)(end - from));
    }
    lr_buf_addc(b, '"');
    return b->rc;
}
