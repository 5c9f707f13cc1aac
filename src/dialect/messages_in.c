/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages_in.c - answers of Anthropic's Messages API, read.
 *
 *   message_start            START  TOP extras  USAGE extras  USAGE
 *   content_block_start      PART   extras of the block
 *   content_block_delta      DELTA | SIGN | EXTRA "citations" | EXTRA "delta" (of an unknown type)
 *   content_block_stop       PART_END
 *   message_delta            FINISH  TOP extras  USAGE extras  USAGE
 *   message_stop             the decoder's END
 *   ping                     nothing: it says only that the connection lives
 *   error                    ERROR
 *   any other event          EXTRA of scope EVENT
 *
 * Reading. Input tokens are counted in three piles (fresh, read from the cache, written to it); the
 * canonical input is their sum. A tool call without a single byte of input means {}: both spellings
 * (streamed and whole) give the same events. Blocks come one after another; a block that starts
 * inside another one ends it, and a delta for a block that is not open is malformed. `caller:
 * direct` is the default said aloud and is not kept. Blocks of unknown types are OTHER parts with
 * their start as JSON; input_json_deltas into them (server_tool_use) are DELTAs, which replace
 * `input` in whole bodies.
 */
#include "dialect/messages_int.h"

struct dec {
    struct lr_messages_dec *s;
    struct lr_parts *p; /* of s */
    const struct lr_emit *e;
};

static int end_block(struct dec *d)
{
    if (d->p->open && d->p->type == LR_PART_TOOL_CALL && !d->p->bytes)
        LR_TRY(lr_emit_delta(d->e, d->p, LR_STR("{}")));
    return lr_emit_part_end(d->e, d->p);
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
           lr_str_is(lr_text_of(caller, "type"), "direct");
}

/* What a block already holds when it starts (all of it, in whole bodies). */
static int emit_block_content(struct dec *d, const struct lr_json *b)
{
    static const char *const known_text[] = {"type", "text", NULL};
    static const char *const known_thinking[] = {"type", "thinking", "signature", "data", NULL};
    static const char *const known_call[] = {"type", "id", "name", "input", NULL};
    static const char *const known_direct[] = {"type", "id", "name", "input", "caller", NULL};
    switch (d->p->type) {
    case LR_PART_TEXT:
        LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_PART, b, known_text));
        return lr_emit_delta(d->e, d->p, lr_text_of(b, "text"));
    case LR_PART_REASONING:
        LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_PART, b, known_thinking));
        LR_TRY(lr_emit_delta(d->e, d->p, lr_text_of(b, "thinking")));
        LR_TRY(lr_emit_sign(d->e, d->p, lr_text_of(b, "signature"), false));
        return lr_emit_sign(d->e, d->p, lr_text_of(b, "data"), true);
    case LR_PART_TOOL_CALL: {
        bool direct = says_direct(lr_json_get(b, "caller"));
        LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_PART, b, direct ? known_direct : known_call));
        const struct lr_json *input = lr_json_get(b, "input");
        return lr_json_is(input, LR_JSON_OBJECT) && input->n ? lr_emit_delta(d->e, d->p, input->raw)
                                                             : 0;
    }
    default:
        return 0;
    }
}

static int begin_block(struct dec *d, const struct lr_json *b)
{
    if (!lr_json_is(b, LR_JSON_OBJECT))
        return lr_malformed(d->e, "a content block is no object");
    if (d->s->finished)
        return lr_malformed(d->e, "a content block after the stop reason");
    LR_TRY(end_block(d));
    struct lr_event ev = {.sub = (uint8_t)block_type(lr_text_of(b, "type"))};
    if (ev.sub == LR_PART_TOOL_CALL) {
        ev.a = lr_text_of(b, "id");
        ev.b = lr_text_of(b, "name");
    } else if (ev.sub == LR_PART_OTHER) {
        LR_TRY(lr_json_tight(d->e->a, b->raw, &ev.b));
    }
    LR_TRY(lr_emit_part(d->e, d->p, ev));
    return emit_block_content(d, b);
}

/* Sums as told so far: later events repeat only what they know. */
static int emit_usage(struct dec *d, const struct lr_json *u)
{
    static const char *const known[] = {"input_tokens", "cache_read_input_tokens",
                                        "cache_creation_input_tokens", "output_tokens", NULL};
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
        bool details_known = m == details && lr_json_is(m, LR_JSON_OBJECT) && m->n == 1;
        if (!lr_listed(m->key, known) && !details_known && !lr_json_is_void(m->raw))
            LR_TRY(lr_emit_extra(d->e, d->p, LR_SCOPE_USAGE, m->key, m->raw));
    }
    struct lr_usage sum = {.output = s->output, .cached_input = s->cache_read, .known = true};
    sum.written_input = s->cache_written;
    sum.reasoning = s->reasoning;
    if (__builtin_add_overflow(s->fresh, s->cache_read, &sum.input) ||
        __builtin_add_overflow(sum.input, s->cache_written, &sum.input))
        return lr_malformed(d->e, "token counts beyond 64 bits");
    return lr_emit(d->e, (struct lr_event){.type = LR_EV_USAGE, .usage = sum});
}

const struct lr_messages_reason lr_messages_reasons[] = {
    {"end_turn", LR_FINISH_STOP},    {"max_tokens", LR_FINISH_LENGTH},
    {"tool_use", LR_FINISH_TOOL},    {"stop_sequence", LR_FINISH_STOP_SEQUENCE},
    {"pause_turn", LR_FINISH_PAUSE}, {"refusal", LR_FINISH_REFUSAL},
    {NULL, LR_FINISH_OTHER},
};

/* o has stop_reason and stop_sequence. */
static int emit_finish(struct dec *d, const struct lr_json *o)
{
    struct lr_str reason = lr_text_of(o, "stop_reason");
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
    ev.a = lr_text_of(o, "stop_sequence");
    return lr_emit(d->e, ev);
}

static const char *const known_message[] = {"id",    "type",        "role",          "content",
                                            "model", "stop_reason", "stop_sequence", "usage",
                                            "delta", NULL};

/* A message object: of message_start, or the whole body. */
static int read_message(struct dec *d, const struct lr_json *m)
{
    if (!lr_json_is(m, LR_JSON_OBJECT))
        return lr_malformed(d->e, "the message is no object");
    if (d->s->started)
        return lr_malformed(d->e, "a second message_start");
    d->s->started = true;
    LR_TRY(lr_emit_start(d->e, m));
    LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_TOP, m, known_message));
    LR_TRY(emit_usage(d, lr_json_get(m, "usage")));
    for (const struct lr_json *b = lr_first_of(m, "content"); b; b = b->next)
        LR_TRY(begin_block(d, b));
    LR_TRY(end_block(d));
    return emit_finish(d, m);
}

static int read_delta(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *delta = lr_json_get(ev, "delta");
    enum lr_part_type part = d->p->type;
    uint64_t index = 0;
    if (!lr_json_is(delta, LR_JSON_OBJECT))
        return lr_malformed(d->e, "a content_block_delta without a delta");
    if (!d->p->open || !lr_json_u64(lr_json_get(ev, "index"), &index) || index != d->s->index)
        return lr_malformed(d->e, "a content_block_delta for a block that is not open");
    struct lr_str type = lr_text_of(delta, "type");
    if (part == LR_PART_TEXT && lr_str_is(type, "text_delta"))
        return lr_emit_delta(d->e, d->p, lr_text_of(delta, "text"));
    if (part == LR_PART_REASONING && lr_str_is(type, "thinking_delta"))
        return lr_emit_delta(d->e, d->p, lr_text_of(delta, "thinking"));
    if (part == LR_PART_REASONING && lr_str_is(type, "signature_delta"))
        return lr_emit_sign(d->e, d->p, lr_text_of(delta, "signature"), false);
    if ((part == LR_PART_TOOL_CALL || part == LR_PART_OTHER) && lr_str_is(type, "input_json_delta"))
        return lr_emit_delta(d->e, d->p, lr_text_of(delta, "partial_json"));
    const struct lr_json *one = lr_json_get(delta, "citation");
    if (one && lr_str_is(type, "citations_delta"))
        return lr_emit_one(d->e, d->p, LR_STR("citations"), one->raw);
    return lr_emit_extra(d->e, d->p, LR_SCOPE_PART, LR_STR("delta"), delta->raw);
}

static int read_message_delta(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *delta = lr_json_get(ev, "delta");
    LR_TRY(emit_finish(d, delta));
    LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_TOP, delta, known_message));
    LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_TOP, ev, known_message));
    return emit_usage(d, lr_json_get(ev, "usage"));
}

static int read_error(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *e = lr_json_get(ev, "error");
    struct lr_event out = {
        .type = LR_EV_ERROR, .a = lr_text_of(e, "type"), .b = lr_text_of(e, "message")};
    out.status = lr_messages_status(out.a);
    return lr_emit(d->e, out);
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
                   ? lr_malformed(d->e, "an event before message_start")
                   : 0;
    if (delta)
        return read_delta(d, ev);
    if (start) {
        LR_TRY(begin_block(d, lr_json_get(ev, "content_block")));
        return lr_json_u64(lr_json_get(ev, "index"), &s->index)
                   ? 0
                   : lr_malformed(d->e, "a content_block_start without an index");
    }
    if (block_stop)
        return end_block(d);
    if (message_delta)
        return read_message_delta(d, ev);
    if (stop) {
        if (!s->finished)
            return lr_malformed(d->e, "message_stop without a stop reason");
        s->done = true;
        return 0;
    }
    return lr_emit_extra(d->e, d->p, LR_SCOPE_EVENT, type, ev->raw);
}

int lr_messages_dec_event(void *state, const struct lr_emit *e, struct lr_str name,
                          struct lr_str data)
{
    struct lr_messages_dec *s = state;
    struct dec d = {s, &s->parts, e};
    struct lr_json *ev;
    LR_TRY(lr_json_parse(e->a, data, NULL, &ev, e->err));
    if (!lr_json_is(ev, LR_JSON_OBJECT))
        return lr_malformed(e, "an event that is no object");
    struct lr_str type = lr_text_of(ev, "type");
    return read_event(&d, type.n ? type : name, ev);
}

int lr_messages_dec_whole(void *state, const struct lr_emit *e, struct lr_str body)
{
    struct lr_messages_dec *s = state;
    struct dec d = {s, &s->parts, e};
    struct lr_json *m;
    LR_TRY(lr_json_parse(e->a, body, NULL, &m, e->err));
    if (lr_str_is(lr_text_of(m, "type"), "error"))
        return read_error(&d, m);
    if (!lr_json_is(lr_json_get(m, "content"), LR_JSON_ARRAY))
        return lr_malformed(e, "a message without content");
    LR_TRY(read_message(&d, m));
    if (!s->finished)
        return lr_malformed(e, "a message without a stop reason");
    s->done = true;
    return 0;
}

bool lr_messages_dec_done(const void *state)
{
    return ((const struct lr_messages_dec *)state)->done;
}
