/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages_in.c - answers of Anthropic's Messages API, read.
 *
 *   message_start            START  TOP extras  USAGE extras  USAGE
 *   content_block_start      PART   extras of the block
 *   content_block_delta      DELTA | SIGN | EXTRA "citations" | EXTRA "delta" (a type we do not know)
 *   content_block_stop       PART_END
 *   message_delta            FINISH  TOP extras  USAGE extras  USAGE
 *   message_stop             the decoder's END
 *   ping                     nothing: it says only that the connection lives
 *   error                    ERROR
 *   any other event          EXTRA of scope EVENT
 *
 * Reading. Input tokens are counted in three piles (fresh, read from the cache, written to it); the
 * canonical input is their sum. A tool call without a single byte of input means {}: both spellings
 * (streamed and whole) give the same events. Blocks come one after another; a block that starts inside
 * another one ends it, and a delta for a block that is not open is malformed. `caller: direct` is the
 * default said aloud and is not kept. Blocks of unknown types are OTHER parts with their start as JSON;
 * input_json_deltas into them (server_tool_use) are DELTAs, which replace `input` in whole bodies.
 */
#include "dialect/messages_int.h"

struct dec {
    struct lr_messages_dec *s;
    struct lr_arena *a;
    lr_event_fn fn;
    void *ctx;
    struct lr_err *err;
};

static int emit(struct dec *d, struct lr_event ev)
{
    bool ours = ev.type == LR_EV_EXTRA || ev.type == LR_EV_SIGN ||
                (ev.type == LR_EV_PART && ev.sub == LR_PART_OTHER) ||
                (ev.type == LR_EV_FINISH && ev.sub == LR_FINISH_OTHER);
    ev.dialect = ours ? LR_DIALECT_MESSAGES : LR_DIALECT_NONE;
    return d->fn(d->ctx, &ev);
}

static int malformed(struct dec *d, const char *what)
{
    return lr_err_set(d->err, LR_EPARSE, "answer", "%s", what);
}

static struct lr_str text(const struct lr_json *o, const char *name)
{
    struct lr_str s = {NULL, 0};
    (void)lr_json_text(lr_json_get(o, name), &s); /* absent or of another type: empty */
    return s;
}

static uint16_t current(const struct dec *d)
{
    return (uint16_t)(d->s->parts - 1);
}

static int emit_extra(struct dec *d, enum lr_extra_scope scope, struct lr_str name,
                      const struct lr_json *v)
{
    struct lr_event ev = {.type = LR_EV_EXTRA, .sub = (uint8_t)scope, .a = name};
    ev.part = scope == LR_SCOPE_PART ? current(d) : 0;
    LR_TRY(lr_json_tight(d->a, v->raw, &ev.b));
    return emit(d, ev);
}

/* Members of o outside `known` (a NULL-ended list) that say something. */
static int emit_extras(struct dec *d, enum lr_extra_scope scope, const struct lr_json *o,
                       const char *const *known)
{
    for (const struct lr_json *m = lr_json_is(o, LR_JSON_OBJECT) ? o->child : NULL; m; m = m->next) {
        const char *const *k = known;
        while (*k && !lr_str_is(m->key, *k))
            k++;
        if (!*k && !lr_json_is_void(m->raw))
            LR_TRY(emit_extra(d, scope, m->key, m));
    }
    return 0;
}

static int emit_delta(struct dec *d, struct lr_str s)
{
    if (!s.n)
        return 0;
    d->s->bytes += s.n;
    return emit(d, (struct lr_event){.type = LR_EV_DELTA, .part = current(d), .a = s});
}

static int emit_sign(struct dec *d, struct lr_str s, bool redacted)
{
    if (!s.n)
        return 0;
    return emit(d, (struct lr_event){
                       .type = LR_EV_SIGN, .sub = redacted, .part = current(d), .a = s});
}

static int end_block(struct dec *d)
{
    if (!d->s->open)
        return 0;
    if (d->s->type == LR_PART_TOOL_CALL && !d->s->bytes)
        LR_TRY(emit_delta(d, LR_STR("{}")));
    d->s->open = false;
    return emit(d, (struct lr_event){.type = LR_EV_PART_END, .part = current(d)});
}

static enum lr_part_type block_type(struct lr_str type)
{
    static const struct {
        const char *name;
        enum lr_part_type type;
    } types[] = {{"text", LR_PART_TEXT},
                 {"thinking", LR_PART_REASONING},
                 {"redacted_thinking", LR_PART_REASONING},
                 {"tool_use", LR_PART_TOOL_CALL}};
    for (size_t i = 0; i < LR_COUNT(types); i++)
        if (lr_str_is(type, types[i].name))
            return types[i].type;
    return LR_PART_OTHER;
}

/* {"type": "direct"} */
static bool says_direct(const struct lr_json *caller)
{
    return lr_json_is(caller, LR_JSON_OBJECT) && caller->n == 1 &&
           lr_str_is(text(caller, "type"), "direct");
}

/* What a block already holds when it starts (all of it, in whole bodies). */
static int emit_block_content(struct dec *d, const struct lr_json *b)
{
    static const char *const known_text[] = {"type", "text", NULL};
    static const char *const known_thinking[] = {"type", "thinking", "signature", "data", NULL};
    static const char *const known_call[] = {"type", "id", "name", "input", NULL};
    static const char *const known_direct[] = {"type", "id", "name", "input", "caller", NULL};
    switch (d->s->type) {
    case LR_PART_TEXT:
        LR_TRY(emit_extras(d, LR_SCOPE_PART, b, known_text));
        return emit_delta(d, text(b, "text"));
    case LR_PART_REASONING:
        LR_TRY(emit_extras(d, LR_SCOPE_PART, b, known_thinking));
        LR_TRY(emit_delta(d, text(b, "thinking")));
        LR_TRY(emit_sign(d, text(b, "signature"), false));
        return emit_sign(d, text(b, "data"), true);
    case LR_PART_TOOL_CALL: {
        bool direct = says_direct(lr_json_get(b, "caller"));
        LR_TRY(emit_extras(d, LR_SCOPE_PART, b, direct ? known_direct : known_call));
        const struct lr_json *input = lr_json_get(b, "input");
        return lr_json_is(input, LR_JSON_OBJECT) && input->n ? emit_delta(d, input->raw) : 0;
    }
    default:
        return 0;
    }
}

static int begin_block(struct dec *d, const struct lr_json *b)
{
    struct lr_messages_dec *s = d->s;
    if (!lr_json_is(b, LR_JSON_OBJECT))
        return malformed(d, "a content block is no object");
    if (s->finished)
        return malformed(d, "a content block after the stop reason");
    LR_FAIL_IF(s->parts > UINT16_MAX, LR_EOVER);
    LR_TRY(end_block(d));
    s->type = block_type(text(b, "type"));
    s->bytes = 0;
    s->open = true;
    s->parts++;
    struct lr_event ev = {.type = LR_EV_PART, .sub = (uint8_t)s->type, .part = current(d)};
    if (s->type == LR_PART_TOOL_CALL) {
        ev.a = text(b, "id");
        ev.b = text(b, "name");
    } else if (s->type == LR_PART_OTHER) {
        LR_TRY(lr_json_tight(d->a, b->raw, &ev.b));
    }
    LR_TRY(emit(d, ev));
    return emit_block_content(d, b);
}

/* Sums as told so far: later events repeat only what they know. */
static int emit_usage(struct dec *d, const struct lr_json *u)
{
    static const char *const known[] = {
        "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens",
        NULL};
    if (!lr_json_is(u, LR_JSON_OBJECT))
        return 0;
    struct lr_messages_dec *s = d->s;
    /* Reads leave alone what is absent or null. */
    (void)lr_json_u64(lr_json_get(u, "input_tokens"), &s->fresh);
    (void)lr_json_u64(lr_json_get(u, "cache_read_input_tokens"), &s->cache_read);
    (void)lr_json_u64(lr_json_get(u, "cache_creation_input_tokens"), &s->cache_written);
    (void)lr_json_u64(lr_json_get(u, "output_tokens"), &s->output);
    const struct lr_json *details = lr_json_get(u, "output_tokens_details");
    (void)lr_json_u64(lr_json_get(details, "thinking_tokens"), &s->reasoning);
    for (const struct lr_json *m = u->child; m; m = m->next) {
        const char *const *k = known;
        while (*k && !lr_str_is(m->key, *k))
            k++;
        bool details_known = m == details && lr_json_is(m, LR_JSON_OBJECT) && m->n == 1;
        if (!*k && !details_known && !lr_json_is_void(m->raw))
            LR_TRY(emit_extra(d, LR_SCOPE_USAGE, m->key, m));
    }
    struct lr_usage sum = {.output = s->output, .cached_input = s->cache_read, .known = true};
    sum.written_input = s->cache_written;
    sum.reasoning = s->reasoning;
    if (__builtin_add_overflow(s->fresh, s->cache_read, &sum.input) ||
        __builtin_add_overflow(sum.input, s->cache_written, &sum.input))
        return malformed(d, "token counts beyond 64 bits");
    return emit(d, (struct lr_event){.type = LR_EV_USAGE, .usage = sum});
}

const struct lr_messages_reason lr_messages_reasons[] = {
    {"end_turn", LR_FINISH_STOP},
    {"max_tokens", LR_FINISH_LENGTH},
    {"tool_use", LR_FINISH_TOOL},
    {"stop_sequence", LR_FINISH_STOP_SEQUENCE},
    {"pause_turn", LR_FINISH_PAUSE},
    {"refusal", LR_FINISH_REFUSAL},
    {NULL, LR_FINISH_OTHER},
};

/* o has stop_reason and stop_sequence. */
static int emit_finish(struct dec *d, const struct lr_json *o)
{
    struct lr_str reason = text(o, "stop_reason");
    if (!reason.n || d->s->finished)
        return 0;
    LR_TRY(end_block(d));
    d->s->finished = true;
    struct lr_event ev = {.type = LR_EV_FINISH, .sub = LR_FINISH_OTHER, .b = reason};
    for (size_t i = 0; lr_messages_reasons[i].name; i++) {
        if (lr_str_is(reason, lr_messages_reasons[i].name)) {
            ev.sub = (uint8_t)lr_messages_reasons[i].finish;
            ev.b = (struct lr_str){NULL, 0};
        }
    }
    ev.a = text(o, "stop_sequence");
    return emit(d, ev);
}

static const char *const known_message[] = {"id",    "type",        "role",          "content",
                                            "model", "stop_reason", "stop_sequence", "usage",
                                            "delta", NULL};

/* A message object: of message_start, or the whole body. */
static int read_message(struct dec *d, const struct lr_json *m)
{
    if (!lr_json_is(m, LR_JSON_OBJECT))
        return malformed(d, "the message is no object");
    if (d->s->started)
        return malformed(d, "a second message_start");
    d->s->started = true;
    LR_TRY(emit(d, (struct lr_event){
                       .type = LR_EV_START, .a = text(m, "id"), .b = text(m, "model")}));
    LR_TRY(emit_extras(d, LR_SCOPE_TOP, m, known_message));
    LR_TRY(emit_usage(d, lr_json_get(m, "usage")));
    const struct lr_json *content = lr_json_get(m, "content");
    for (const struct lr_json *b = lr_json_is(content, LR_JSON_ARRAY) ? content->child : NULL; b;
         b = b->next)
        LR_TRY(begin_block(d, b));
    LR_TRY(end_block(d));
    return emit_finish(d, m);
}

static int read_delta(struct dec *d, const struct lr_json *ev)
{
    struct lr_messages_dec *s = d->s;
    const struct lr_json *delta = lr_json_get(ev, "delta");
    uint64_t index = 0;
    if (!lr_json_is(delta, LR_JSON_OBJECT))
        return malformed(d, "a content_block_delta without a delta");
    if (!s->open || !lr_json_u64(lr_json_get(ev, "index"), &index) || index != s->index)
        return malformed(d, "a content_block_delta for a block that is not open");
    struct lr_str type = text(delta, "type");
    if (s->type == LR_PART_TEXT && lr_str_is(type, "text_delta"))
        return emit_delta(d, text(delta, "text"));
    if (s->type == LR_PART_REASONING && lr_str_is(type, "thinking_delta"))
        return emit_delta(d, text(delta, "thinking"));
    if (s->type == LR_PART_REASONING && lr_str_is(type, "signature_delta"))
        return emit_sign(d, text(delta, "signature"), false);
    if ((s->type == LR_PART_TOOL_CALL || s->type == LR_PART_OTHER) &&
        lr_str_is(type, "input_json_delta"))
        return emit_delta(d, text(delta, "partial_json"));
    if (lr_str_is(type, "citations_delta") && lr_json_get(delta, "citation")) {
        struct lr_str one;
        LR_TRY(lr_json_tight(d->a, lr_json_get(delta, "citation")->raw, &one));
        char *list = lr_arena_alloc(d->a, one.n + 2, 1);
        LR_FAIL_IF(!list, LR_ENOMEM);
        list[0] = '[';
        memcpy(list + 1, one.p, one.n);
        list[one.n + 1] = ']';
        return emit(d, (struct lr_event){.type = LR_EV_EXTRA,
                                         .sub = LR_SCOPE_PART,
                                         .part = current(d),
                                         .a = LR_STR("citations"),
                                         .b = lr_str(list, one.n + 2)});
    }
    return emit_extra(d, LR_SCOPE_PART, LR_STR("delta"), delta);
}

static int read_message_delta(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *delta = lr_json_get(ev, "delta");
    LR_TRY(emit_finish(d, delta));
    LR_TRY(emit_extras(d, LR_SCOPE_TOP, delta, known_message));
    LR_TRY(emit_extras(d, LR_SCOPE_TOP, ev, known_message));
    return emit_usage(d, lr_json_get(ev, "usage"));
}

static int read_error(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *e = lr_json_get(ev, "error");
    struct lr_event out = {.type = LR_EV_ERROR, .a = text(e, "type"), .b = text(e, "message")};
    out.status = lr_messages_status(out.a);
    return emit(d, out);
}

static int read_event(struct dec *d, struct lr_str type, const struct lr_json *ev)
{
    struct lr_messages_dec *s = d->s;
    if (lr_str_is(type, "error"))
        return read_error(d, ev);
    if (lr_str_is(type, "message_start"))
        return read_message(d, lr_json_get(ev, "message"));
    bool start = lr_str_is(type, "content_block_start");
    bool delta = lr_str_is(type, "content_block_delta");
    bool message_delta = lr_str_is(type, "message_delta");
    bool stop = lr_str_is(type, "message_stop");
    bool block_stop = lr_str_is(type, "content_block_stop");
    if (lr_str_is(type, "ping"))
        return 0;
    if (!s->started) /* an unknown event has nothing to belong to yet */
        return start || delta || message_delta || stop || block_stop
                   ? malformed(d, "an event before message_start")
                   : 0;
    if (delta)
        return read_delta(d, ev);
    if (start) {
        LR_TRY(begin_block(d, lr_json_get(ev, "content_block")));
        return lr_json_u64(lr_json_get(ev, "index"), &s->index)
                   ? 0
                   : malformed(d, "a content_block_start without an index");
    }
    if (block_stop)
        return end_block(d);
    if (message_delta)
        return read_message_delta(d, ev);
    if (stop) {
        if (!s->finished)
            return malformed(d, "message_stop without a stop reason");
        s->done = true;
        return 0;
    }
    return emit_extra(d, LR_SCOPE_EVENT, type, ev);
}

int lr_messages_dec_event(void *state, struct lr_arena *scratch, struct lr_str name,
                          struct lr_str data, lr_event_fn fn, void *ctx, struct lr_err *err)
{
    struct dec d = {state, scratch, fn, ctx, err};
    struct lr_json *ev;
    LR_TRY(lr_json_parse(scratch, data, NULL, &ev, err));
    if (!lr_json_is(ev, LR_JSON_OBJECT))
        return malformed(&d, "an event that is no object");
    struct lr_str type = text(ev, "type");
    return read_event(&d, type.n ? type : name, ev);
}

int lr_messages_dec_whole(void *state, struct lr_arena *scratch, struct lr_str body, lr_event_fn fn,
                          void *ctx, struct lr_err *err)
{
    struct dec d = {state, scratch, fn, ctx, err};
    struct lr_json *m;
    LR_TRY(lr_json_parse(scratch, body, NULL, &m, err));
    if (lr_str_is(text(m, "type"), "error"))
        return read_error(&d, m);
    if (!lr_json_is(lr_json_get(m, "content"), LR_JSON_ARRAY))
        return malformed(&d, "a message without content");
    LR_TRY(read_message(&d, m));
    if (!d.s->finished)
        return malformed(&d, "a message without a stop reason");
    d.s->done = true;
    return 0;
}

bool lr_messages_dec_done(const void *state)
{
    return ((const struct lr_messages_dec *)state)->done;
}
