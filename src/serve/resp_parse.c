/* SPDX-License-Identifier: Apache-2.0
 * serve/resp_parse.c - bytes of a client to commands. No I/O, no clock.
 *
 *   *3\r\n $3\r\nSET\r\n $1\r\nk\r\n $33554432\r\n ........ \r\n      an array of strings
 *   SET k v\r\n                                                       or a line (telnet, probes)
 *
 * Idea. A state machine that takes bytes as they come and keeps none of them but the short arguments,
 * one after the other in `text`. An argument of LR_RESP_BIG or more is announced (LR_RESP_VALUE): the
 * caller says where its bytes go, for how many of them, and is asked again when that room is full. So
 * a value can go to its last place without a copy (lr_resp_direct), a bad one nowhere, and memory is
 * given as bytes arrive.
 *
 * Any cut of the same bytes gives the same events (the fuzz target holds one cut against another).
 *
 * A line that begins with POST or Host: is a browser that was sent here by somebody's web page: it is
 * refused without a word, before whatever its body says is read as commands.
 *
 * Bounds: args_max arguments, arg_max bytes each (both small until a client is known), TEXT_MAX
 * bytes of short ones together, LINE_MAX of a line. A length is digits only, but for the -1 of an
 * empty array, which is skipped as an array of none is.
 *
 * Source: the Redis serialization protocol specification. Deviations: two bytes after a string must
 * be CR and LF (Redis does not look); an announced array must be of strings.
 */
#include "serve/resp_int.h"

#include <ctype.h>
#include <stdio.h>

#define TEXT_MAX  LR_MIB(64)
#define LINE_MAX  LR_KIB(64)
#define FIRST_CAP 8u

enum state { START, COUNT, LENGTH, SHORT, BIG, CR, LF, LINE, WHOLE, BROKEN };

void lr_resp_init(struct lr_resp_parser *p, size_t args_max, uint64_t arg_max)
{
    memset(p, 0, sizeof *p);
    lr_buf_init(&p->text, TEXT_MAX);
    p->args_max = args_max;
    p->arg_max = arg_max;
}

void lr_resp_free(struct lr_resp_parser *p)
{
    lr_buf_free(&p->text);
    lr_free(p->args);
}

void lr_resp_next(struct lr_resp_parser *p)
{
    if (p->text.cap > LINE_MAX) /* a long command leaves no long buffer behind */
        lr_buf_free(&p->text);
    else
        lr_buf_reset(&p->text);
    if (p->cap > 1024) {
        lr_free(p->args);
        p->args = NULL;
        p->cap = 0;
    }
    p->n = p->want = p->n_line = 0;
    p->sink = NULL;
    p->need = p->room = 0;
    p->state = START;
}

struct lr_str lr_resp_arg(const struct lr_resp_parser *p, size_t i)
{
    return p->args[i].big ? lr_str("", 0) : lr_str(p->text.p + p->args[i].off, p->args[i].n);
}

static enum lr_resp_event broken(struct lr_resp_parser *p, const char *why)
{
    p->state = BROKEN;
    p->fault = why;
    return LR_RESP_BROKEN;
}

/* ---- arguments ---- */

static int push_arg(struct lr_resp_parser *p, uint64_t n, bool big)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : FIRST_CAP;
        struct lr_resp_span *more = lr_realloc(p->args, cap * sizeof *more);
        LR_FAIL_IF(!more, LR_ENOMEM);
        p->args = more;
        p->cap = cap;
    }
    p->args[p->n++] = (struct lr_resp_span){p->text.len, (size_t)n, big};
    return 0;
}

static void after_arg(struct lr_resp_parser *p)
{
    p->state = p->n == p->want ? WHOLE : LENGTH;
}

/* ---- lines of a number ---- */

/* Gathers up to LF. 1: whole, in line[0..n_line); 0: more; LR_EOVER: too long or no CR. */
static int take_line(struct lr_resp_parser *p, const char *in, size_t n, size_t *used)
{
    while (*used < n) {
        char c = in[(*used)++];
        if (c == '\n' && p->n_line && p->line[p->n_line - 1] == '\r') {
            p->n_line--;
            return 1;
        }
        LR_FAIL_IF(p->n_line == sizeof p->line, LR_EOVER);
        p->line[p->n_line++] = c;
    }
    return 0;
}

static void begin_array(struct lr_resp_parser *p)
{
    uint64_t n = 0;
    struct lr_str s = lr_str(p->line + 1, p->n_line - 1);
    p->n_line = 0;
    if (lr_str_is(s, "-1") || lr_str_is(s, "0")) {
        p->state = START;
        return;
    }
    if (lr_parse_u64(s, &n) || n > p->args_max) {
        broken(p, "Protocol error: invalid multibulk length");
        return;
    }
    p->want = (size_t)n;
    p->state = LENGTH;
}

static void begin_string(struct lr_resp_parser *p)
{
    uint64_t n = 0;
    struct lr_str s = lr_str(p->line + 1, p->n_line - 1);
    bool dollar = p->line[0] == '$';
    p->n_line = 0;
    if (!dollar) {
        broken(p, "Protocol error: expected '$'");
    } else if (lr_parse_u64(s, &n) || n > p->arg_max) {
        broken(p, "Protocol error: invalid bulk length");
    } else if (push_arg(p, n, n >= LR_RESP_BIG)) {
        broken(p, "out of memory");
    } else {
        p->need = n;
        p->room = 0;
        p->sink = NULL;
        p->state = n >= LR_RESP_BIG ? BIG : n ? SHORT : CR;
    }
}

/* ---- lines of words ---- */

static bool is_browser(struct lr_str line)
{
    return (line.n >= 5 && lr_str_ieq(lr_str(line.p, 5), LR_STR("POST "))) ||
           (line.n >= 5 && lr_str_ieq(lr_str(line.p, 5), LR_STR("Host:")));
}

/* \n \r \t \b \a \\ \" and \xHH of a quoted word. Returns how many bytes of the line it took. */
static size_t unescape(const char *s, size_t n, char *out)
{
    static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
    uint8_t byte;
    if (n >= 4 && s[1] == 'x' && !lr_unhex(lr_str(s + 2, 2), &byte, 1)) {
        *out = (char)byte;
        return 4;
    }
    const char *at = n > 1 && s[1] ? strchr(from, s[1]) : NULL;
    *out = at ? to[at - from] : n > 1 ? s[1] : '\\';
    return n > 1 ? 2 : 1;
}

/* One word of the line at *i into text. False: quotes that do not close or are followed by more. */
static bool take_word(struct lr_resp_parser *p, struct lr_str line, size_t *i)
{
    char quote = 0;
    for (; *i < line.n; ) {
        char c = line.p[*i];
        if (!quote && isspace((unsigned char)c))
            return true;
        if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            (*i)++;
        } else if (quote && c == quote) {
            (*i)++;
            return *i == line.n || isspace((unsigned char)line.p[*i]);
        } else if (quote == '"' && c == '\\') {
            *i += unescape(line.p + *i, line.n - *i, &c);
            lr_buf_addc(&p->text, c);
        } else if (quote == '\'' && c == '\\' && *i + 1 < line.n && line.p[*i + 1] == '\'') {
            lr_buf_addc(&p->text, '\'');
            *i += 2;
        } else {
            lr_buf_addc(&p->text, c);
            (*i)++;
        }
    }
    return !quote;
}

/* The line lies at the start of text; its words are appended and become the arguments. */
static void split(struct lr_resp_parser *p, size_t line_n)
{
    struct lr_buf line = p->text;
    struct lr_str s = lr_str(line.p, line_n);
    if (is_browser(s)) {
        broken(p, NULL);
        return;
    }
    lr_buf_init(&p->text, TEXT_MAX);
    bool good = true;
    for (size_t i = 0; good && i < s.n;) {
        if (isspace((unsigned char)s.p[i])) {
            i++;
            continue;
        }
        good = p->n < p->args_max && !push_arg(p, 0, false) && take_word(p, s, &i) && !p->text.rc;
        if (good)
            p->args[p->n - 1].n = p->text.len - p->args[p->n - 1].off;
        good = good && p->args[p->n - 1].n <= p->arg_max;
    }
    lr_buf_free(&line);
    if (!good)
        broken(p, "Protocol error: unbalanced quotes in request");
    else
        p->state = p->n ? WHOLE : START;
    if (good && !p->n)
        lr_resp_next(p);
}

static void take_inline(struct lr_resp_parser *p, const char *in, size_t n, size_t *used)
{
    const char *end = memchr(in + *used, '\n', n - *used);
    size_t k = (end ? (size_t)(end - in) : n) - *used;
    if (p->text.len + k > LINE_MAX || lr_buf_add(&p->text, in + *used, k)) {
        broken(p, "Protocol error: too big inline request");
        return;
    }
    *used += k + (end ? 1 : 0);
    if (!end)
        return;
    size_t line = p->text.len;
    split(p, line && p->text.p[line - 1] == '\r' ? line - 1 : line);
}

/* ---- bytes of an argument ---- */

static void take_short(struct lr_resp_parser *p, const char *in, size_t n, size_t *used)
{
    size_t k = n - *used < p->need ? n - *used : (size_t)p->need;
    if (lr_buf_add(&p->text, in + *used, k)) {
        broken(p, "out of memory");
        return;
    }
    *used += k;
    p->need -= k;
    if (!p->need)
        p->state = CR;
}

void lr_resp_got(struct lr_resp_parser *p, size_t n)
{
    p->need -= n;
    p->room -= n;
    p->sink = p->sink ? p->sink + n : NULL;
    if (!p->need)
        p->state = CR;
}

uint8_t *lr_resp_direct(struct lr_resp_parser *p, size_t *n)
{
    *n = (size_t)(p->state != BIG ? 0 : p->room < p->need ? p->room : p->need);
    return *n ? p->sink : NULL;
}

static void take_big(struct lr_resp_parser *p, const char *in, size_t n, size_t *used)
{
    uint64_t most = p->room < p->need ? p->room : p->need;
    size_t k = n - *used < most ? n - *used : (size_t)most;
    if (p->sink && k)
        memcpy(p->sink, in + *used, k);
    *used += k;
    lr_resp_got(p, k);
}

static void take_end(struct lr_resp_parser *p, char c)
{
    if (c != (p->state == CR ? '\r' : '\n'))
        broken(p, "Protocol error: no CRLF after a string");
    else if (p->state == CR)
        p->state = LF;
    else
        after_arg(p);
}

static void take_number(struct lr_resp_parser *p, const char *in, size_t n, size_t *used)
{
    int rc = take_line(p, in, n, used);
    if (rc < 0)
        broken(p, p->state == COUNT ? "Protocol error: too big mbulk count string"
                                    : "Protocol error: too big bulk count string");
    else if (rc && !p->n_line) /* a bare CRLF where a length should be */
        broken(p, "Protocol error: expected '$'");
    else if (rc && p->state == COUNT)
        begin_array(p);
    else if (rc)
        begin_string(p);
}

enum lr_resp_event lr_resp_feed(struct lr_resp_parser *p, const char *in, size_t n, size_t *used)
{
    *used = 0;
    for (;;) {
        if (p->state == WHOLE)
            return LR_RESP_COMMAND;
        if (p->state == BROKEN)
            return LR_RESP_BROKEN;
        if (p->state == BIG && !p->room)
            return LR_RESP_VALUE;
        if (*used == n)
            return LR_RESP_MORE;
        switch ((enum state)p->state) {
        case START:
            p->state = in[*used] == '*' ? COUNT : LINE;
            break;
        case COUNT:
        case LENGTH:
            take_number(p, in, n, used);
            break;
        case LINE:
            take_inline(p, in, n, used);
            break;
        case SHORT:
            take_short(p, in, n, used);
            break;
        case BIG:
            take_big(p, in, n, used);
            break;
        case CR:
        case LF:
            take_end(p, in[(*used)++]);
            break;
        case WHOLE:
        case BROKEN:
            break;
        }
    }
}

bool lr_resp_idle(const struct lr_resp_parser *p)
{
    return p->state == START;
}
