/* SPDX-License-Identifier: Apache-2.0
 * engine/reply.c - generated text into parts of an answer: reasoning, text, tool calls.
 *
 *            "<think>"              "</think>"
 *   START ----------------> THINK --------------+
 *     |                                         v        opening mark          closing mark
 *     +---------------------------------------> TEXT <-----------------> CALL ------------->  event
 *
 * One state machine for all families; a family is a row of marks:
 *
 *   qwen2.5, qwen3   <tool_call> {"name": .., "arguments": ..} </tool_call>
 *   mistral          [TOOL_CALLS] [{"name": .., "arguments": ..}, ..]       to the end
 *   llama-3.1        {"name": .., "parameters": ..} as the whole reply, perhaps after <|python_tag|>
 *
 * Text is told as it comes, but for a tail that may be the beginning of a mark. White space between a
 * text and a call, and around reasoning, is the format's and is not told.
 *
 * A call is collected whole (at most LR_ENGINE_CALL_MAX bytes) and told at once, as one PART, one DELTA
 * and one PART_END. Telling arguments while they are generated was dropped: events cannot be taken back,
 * and what turns out to be no call ("<tool_call>" in a text about tool calls, broken JSON) must stay
 * text, every byte of it. For the same reason a reply that ends inside a call is told as text.
 *
 * Invariant: the events, deltas of a part joined, depend on the text and not on how it was cut.
 */
#include "engine/engine.h"

#include <stdio.h>

enum state { START, THINK, AFTER_THINK, TEXT, CALL };

struct lr_engine_reply {
    enum lr_engine_family family;
    enum state state;
    bool think, tools;
    uint16_t choice, part; /* part: of the open one, or the next */
    uint8_t open;          /* enum lr_part_type, 0: none is */
    unsigned calls;
    char id[25];
    lr_event_fn fn;
    void *ctx;
    struct lr_buf held; /* text not told yet; in CALL from the opening mark on */
    size_t seen;        /* CALL: bytes of held that hold no end of the call */
};

/* ---- events ---- */

static int tell(struct lr_engine_reply *r, enum lr_event_type type, enum lr_part_type sub,
                struct lr_str a, struct lr_str b)
{
    struct lr_event ev = {.type = type,
                          .sub = type == LR_EV_PART ? (uint8_t)sub : 0,
                          .choice = r->choice,
                          .part = r->part,
                          .a = a,
                          .b = b};
    return r->fn(r->ctx, &ev);
}

static int end_part(struct lr_engine_reply *r)
{
    if (!r->open)
        return 0;
    r->open = 0;
    int rc = tell(r, LR_EV_PART_END, 0, lr_str(NULL, 0), lr_str(NULL, 0));
    r->part++;
    return rc;
}

static int tell_text(struct lr_engine_reply *r, enum lr_part_type type, struct lr_str s)
{
    if (!s.n)
        return 0;
    if (r->open != type) {
        LR_TRY(end_part(r));
        LR_TRY(tell(r, LR_EV_PART, type, lr_str(NULL, 0), lr_str(NULL, 0)));
        r->open = (uint8_t)type;
    }
    return tell(r, LR_EV_DELTA, 0, s, lr_str(NULL, 0));
}

static int tell_call(struct lr_engine_reply *r, struct lr_str name, struct lr_str arguments)
{
    char id[48];
    LR_TRY(end_part(r));
    int n = snprintf(id, sizeof id, "call_%s_%u", r->id, r->calls);
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof id, LR_EINVAL);
    r->calls++;
    r->open = LR_PART_TOOL_CALL;
    LR_TRY(tell(r, LR_EV_PART, LR_PART_TOOL_CALL, lr_strz(id), name));
    LR_TRY(tell(r, LR_EV_DELTA, 0, arguments, lr_str(NULL, 0)));
    return end_part(r);
}

/* ---- calls ---- */

/* An object with a name and arguments. */
static bool read_call(const struct lr_json *v, struct lr_str *name, struct lr_str *arguments)
{
    const struct lr_json *args = lr_json_get(v, "arguments");
    if (!args)
        args = lr_json_get(v, "parameters");
    if (!lr_json_text(lr_json_get(v, "name"), name) || !name->n)
        return false;
    *arguments = args ? args->raw : LR_STR("{}");
    if (lr_json_is(args, LR_JSON_STRING))
        *arguments = args->text; /* JSON in a string: some models do */
    return !args || lr_json_is(args, LR_JSON_OBJECT) || lr_json_is(args, LR_JSON_STRING);
}

/* Tells a call, or an array of calls: all or, when something is none, nothing (LR_EPARSE). */
static int tell_calls(struct lr_engine_reply *r, struct lr_str json)
{
    struct lr_arena a;
    struct lr_json *v;
    struct lr_str name, arguments;
    lr_arena_init(&a, 64 * LR_ENGINE_CALL_MAX);
    int rc = lr_json_parse(&a, lr_str_trim(json), NULL, &v, NULL);
    bool list = !rc && lr_json_is(v, LR_JSON_ARRAY);
    const struct lr_json *first = rc ? NULL : list ? v->child : v;
    if (!rc && !first)
        rc = LR_EPARSE;
    for (const struct lr_json *c = first; c && !rc; c = list ? c->next : NULL)
        if (!read_call(c, &name, &arguments))
            rc = LR_EPARSE;
    for (const struct lr_json *c = first; c && !rc; c = list ? c->next : NULL)
        if (read_call(c, &name, &arguments))
            rc = tell_call(r, name, arguments);
    lr_arena_free(&a);
    return rc == LR_EOVER ? LR_EPARSE : rc; /* too deep: no call either */
}

static const char *call_open(const struct lr_engine_reply *r)
{
    if (!r->tools)
        return NULL;
    switch (r->family) {
    case LR_ENGINE_QWEN25:
    case LR_ENGINE_QWEN3:
        return "<tool_call>";
    case LR_ENGINE_MISTRAL3:
    case LR_ENGINE_MISTRAL7:
        return "[TOOL_CALLS]";
    default:
        return NULL;
    }
}

/* Marks of one kind that end a call; NULL: only the end of the reply does. */
static const char *call_close(const struct lr_engine_reply *r)
{
    return r->family == LR_ENGINE_QWEN25 || r->family == LR_ENGINE_QWEN3 ? "</tool_call>" : NULL;
}

/* ---- held text ---- */

/* Bytes at the end of s that are a proper beginning of z. */
static size_t partial(struct lr_str s, const char *z)
{
    size_t n = strlen(z) - 1;
    for (n = n < s.n ? n : s.n; n; n--)
        if (memcmp(s.p + s.n - n, z, n) == 0)
            return n;
    return 0;
}

static size_t white_tail(struct lr_str s)
{
    size_t n = 0;
    while (n < s.n && (s.p[s.n - 1 - n] == ' ' || s.p[s.n - 1 - n] == '\n'))
        n++;
    return n;
}

static void drop_white(struct lr_engine_reply *r)
{
    size_t n = 0;
    while (n < r->held.len && (r->held.p[n] == ' ' || r->held.p[n] == '\n'))
        n++;
    lr_buf_drop(&r->held, n);
}

static const char *find(struct lr_str s, const char *z)
{
    return s.n ? memmem(s.p, s.n, z, strlen(z)) : NULL;
}

/* ---- states: each returns 0 with *more set when it moved on and another should look ---- */

static int in_start(struct lr_engine_reply *r, bool *more)
{
    static const char mark[] = "<think>";
    struct lr_str s = lr_buf_str(&r->held);
    if (!r->think) {
        r->state = TEXT;
        *more = true;
        return 0;
    }
    size_t blank = 0;
    while (blank < s.n && (s.p[blank] == ' ' || s.p[blank] == '\n'))
        blank++;
    s = lr_str(s.p + blank, s.n - blank);
    if (lr_str_starts(s, LR_STR("<think>"))) {
        lr_buf_drop(&r->held, blank + sizeof mark - 1);
        drop_white(r);
        r->state = THINK;
    } else if (lr_str_starts(lr_strz(mark), s)) {
        return 0; /* not yet to be told apart */
    } else {
        r->state = TEXT;
    }
    *more = true;
    return 0;
}

static int in_think(struct lr_engine_reply *r, bool *more)
{
    static const char mark[] = "</think>";
    if (r->open != LR_PART_REASONING)
        drop_white(r);
    struct lr_str s = lr_buf_str(&r->held);
    const char *p = find(s, mark);
    size_t n = p ? (size_t)(p - s.p) : s.n - partial(s, mark);
    size_t told = n - white_tail(lr_str(s.p, n));
    LR_TRY(tell_text(r, LR_PART_REASONING, lr_str(s.p, told)));
    if (!p) {
        lr_buf_drop(&r->held, told);
        return 0;
    }
    lr_buf_drop(&r->held, n + sizeof mark - 1);
    r->state = AFTER_THINK;
    *more = true;
    return end_part(r);
}

/* Blank lines between reasoning and answer. */
static int after_think(struct lr_engine_reply *r, bool *more)
{
    drop_white(r);
    if (r->held.len) {
        r->state = TEXT;
        *more = true;
    }
    return 0;
}

/* Llama-3.1: the whole reply is a call, or none of it is. *wait: it cannot be told yet. */
static bool bare_call(const struct lr_engine_reply *r, struct lr_str s, bool *wait)
{
    static const char tag[] = "<|python_tag|>";
    if (!r->tools || r->family != LR_ENGINE_LLAMA31 || r->open || r->calls)
        return false;
    s = lr_str_trim(s);
    *wait = s.n < sizeof tag - 1 && lr_str_starts(lr_strz(tag), s);
    return lr_str_starts(s, LR_STR("{")) || lr_str_starts(s, lr_strz(tag));
}

static int in_text(struct lr_engine_reply *r, bool *more)
{
    struct lr_str s = lr_buf_str(&r->held);
    const char *open = call_open(r);
    if (r->calls && open && !r->open) { /* blanks between calls */
        drop_white(r);
        s = lr_buf_str(&r->held);
    }
    bool wait = false;
    if (bare_call(r, s, &wait))
        r->state = CALL;
    if (wait || r->state == CALL)
        return 0;
    const char *p = open ? find(s, open) : NULL;
    size_t n = p ? (size_t)(p - s.p) : open ? s.n - partial(s, open) : s.n;
    size_t told = open ? n - white_tail(lr_str(s.p, n)) : n;
    LR_TRY(tell_text(r, LR_PART_TEXT, lr_str(s.p, told)));
    lr_buf_drop(&r->held, told);
    if (p) {
        r->state = CALL;
        r->seen = n - told + strlen(open); /* the blanks stay, should it be no call */
        *more = true;
    }
    return 0;
}

/* What looked like a call is text up to `upto`. */
static int no_call(struct lr_engine_reply *r, size_t upto)
{
    LR_TRY(tell_text(r, LR_PART_TEXT, lr_str(r->held.p, upto)));
    lr_buf_drop(&r->held, upto);
    r->state = TEXT;
    r->seen = 0;
    return 0;
}

static int in_call(struct lr_engine_reply *r, bool *more)
{
    const char *open = call_open(r), *close = call_close(r);
    struct lr_str s = lr_buf_str(&r->held);
    if (s.n > LR_ENGINE_CALL_MAX) {
        *more = true;
        return no_call(r, s.n - (close ? partial(s, open) : 0));
    }
    if (!open || !close)
        return 0; /* told at the end */
    struct lr_str rest = lr_str(s.p + r->seen, s.n - r->seen);
    const char *p = find(rest, close);
    if (!p) {
        r->seen += rest.n - partial(rest, close);
        return 0;
    }
    size_t at = (size_t)(p - s.p), upto = at + strlen(close);
    const char *from = find(s, open) + strlen(open);
    int rc = tell_calls(r, lr_str(from, (size_t)(p - from)));
    *more = true;
    if (rc == LR_EPARSE)
        return no_call(r, upto);
    LR_TRY(rc);
    lr_buf_drop(&r->held, upto);
    r->state = TEXT;
    r->seen = 0;
    return 0;
}

int lr_engine_reply_feed(struct lr_engine_reply *r, struct lr_str text)
{
    static int (*const in[])(struct lr_engine_reply *, bool *) = {
        [START] = in_start, [THINK] = in_think, [AFTER_THINK] = after_think,
        [TEXT] = in_text,   [CALL] = in_call,
    };
    LR_TRY(lr_buf_adds(&r->held, text));
    for (bool more = true; more && r->held.len;) {
        more = false;
        LR_TRY(in[r->state](r, &more));
    }
    return 0;
}

/* The end of a reply in a call: those that need no closing mark are complete now. */
static int end_call(struct lr_engine_reply *r)
{
    static const char tag[] = "<|python_tag|>";
    const char *open = call_open(r);
    struct lr_str s = lr_buf_str(&r->held);
    if (call_close(r))
        return LR_EPARSE;
    if (open)
        s = lr_str(s.p + r->seen, s.n - r->seen);
    else if (lr_str_starts(lr_str_trim(s), lr_strz(tag)))
        s = lr_str(find(s, tag) + sizeof tag - 1, s.n - (size_t)(find(s, tag) - s.p) - (sizeof tag - 1));
    return tell_calls(r, s);
}

int lr_engine_reply_end(struct lr_engine_reply *r, unsigned *calls)
{
    int rc = r->state == CALL && r->held.len ? end_call(r) : LR_EPARSE;
    if (rc && rc != LR_EPARSE)
        return rc;
    if (rc && r->held.len) {
        struct lr_str s = lr_buf_str(&r->held);
        bool think = r->state == THINK, blank = white_tail(s) == s.n;
        bool ours = think || r->state == AFTER_THINK || (r->calls && r->state == TEXT);
        if (!(blank && ours))
            LR_TRY(tell_text(r, think ? LR_PART_REASONING : LR_PART_TEXT, s));
    }
    lr_buf_reset(&r->held);
    r->state = TEXT;
    *calls = r->calls;
    return end_part(r);
}

int lr_engine_reply_open(struct lr_engine_reply **out, const struct lr_engine_reply_opts *o)
{
    struct lr_engine_reply *r = lr_new(struct lr_engine_reply);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->family = o->tmpl->family;
    r->think = o->tmpl->think && !o->no_think;
    r->state = r->think && o->tmpl->think_open ? THINK : START;
    r->tools = o->tools;
    r->choice = o->choice;
    memcpy(r->id, o->id, sizeof r->id - 1);
    r->fn = o->fn;
    r->ctx = o->ctx;
    lr_buf_init(&r->held, LR_ENGINE_CALL_MAX + LR_NN_INPUT_MAX);
    *out = r;
    return 0;
}

void lr_engine_reply_close(struct lr_engine_reply *r)
{
    if (!r)
        return;
    lr_buf_free(&r->held);
    lr_free(r);
}
