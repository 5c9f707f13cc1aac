/* SPDX-License-Identifier: Apache-2.0
 * dialect/sse.c - the reader of text/event-stream, after the WHATWG HTML standard, section 9.2.6.
 *
 *   bytes -> lines (LF, CR or CRLF; CRLF may be split) -> fields -> an event at each empty line
 *
 * Kept from the standard: one leading byte order mark is dropped; `data` fields of an event are
 * joined by LF; one blank after the colon is dropped; lines that start with a colon are comments;
 * unknown fields are ignored; an event without a data field is dropped; what follows the last empty
 * line is no event. Left out: `id` and `retry` (nobody reconnects in the middle of an answer).
 *
 * Invariants: events do not depend on how the bytes were split; a line that lies whole in the fed
 * bytes is never copied but for its value; no more than `max` bytes of a line and `max` bytes of an
 * event's data are held. Every byte is looked at once: a search for LF and CR apart would be
 * quadratic on a stream of one of them.
 */
#include "dialect/dialect_int.h"

void lr_sse_init(struct lr_sse *s, size_t max)
{
    *s = (struct lr_sse){.max = max};
    lr_buf_init(&s->line, max);
    lr_buf_init(&s->data, max);
    lr_buf_init(&s->name, max);
}

void lr_sse_free(struct lr_sse *s)
{
    lr_buf_free(&s->line);
    lr_buf_free(&s->data);
    lr_buf_free(&s->name);
}

static int dispatch(struct lr_sse *s, lr_sse_fn fn, void *ctx)
{
    int rc = s->has_data ? fn(ctx, lr_buf_str(&s->name), lr_buf_str(&s->data)) : 0;
    s->has_data = false;
    lr_buf_reset(&s->data);
    lr_buf_reset(&s->name);
    return rc;
}

static int field(struct lr_sse *s, struct lr_str line)
{
    struct lr_str value = line, name = lr_str_cut(&value, ':');
    if (value.n && value.p[0] == ' ')
        value = lr_str(value.p + 1, value.n - 1);
    if (lr_str_is(name, "event")) {
        lr_buf_reset(&s->name);
        return lr_buf_adds(&s->name, value);
    }
    if (!lr_str_is(name, "data"))
        return 0;
    if (s->has_data)
        LR_TRY(lr_buf_addc(&s->data, '\n'));
    s->has_data = true;
    return lr_buf_adds(&s->data, value);
}

static int end_line(struct lr_sse *s, struct lr_str line, lr_sse_fn fn, void *ctx)
{
    static const char bom[] = "\xEF\xBB\xBF";
    LR_FAIL_IF(line.n > s->max,
               LR_EOVER); /* also where it was never buffered: splits do not matter */
    if (!s->begun && lr_str_starts(line, lr_str(bom, 3)))
        line = lr_str(line.p + 3, line.n - 3);
    s->begun = true;
    return line.n ? field(s, line) : dispatch(s, fn, ctx);
}

int lr_sse_feed(struct lr_sse *s, struct lr_str bytes, lr_sse_fn fn, void *ctx)
{
    size_t from = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        char c = bytes.p[i];
        if (c != '\n' && c != '\r') {
            s->cr = false;
            continue;
        }
        bool second = s->cr && c == '\n';
        s->cr = c == '\r';
        if (!second) {
            struct lr_str line = lr_str(bytes.p + from, i - from);
            if (s->line.len) {
                LR_TRY(lr_buf_adds(&s->line, line));
                line = lr_buf_str(&s->line);
            }
            LR_TRY(end_line(s, line, fn, ctx));
            lr_buf_reset(&s->line);
        }
        from = i + 1;
    }
    return from < bytes.n ? lr_buf_add(&s->line, bytes.p + from, bytes.n - from) : 0;
}
