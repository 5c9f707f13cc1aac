/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages_out.c - answers of Anthropic's Messages API, read and written.
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
 *
 * Writing. message_start waits for USAGE or whatever comes first after START, so that input tokens can
 * be shown where they are known by then; from Chat, and in replays, they are 0 there and complete in
 * message_delta, whose counts are totals that clients let win. content_block_start waits for the next
 * event of its part, since members of the block follow PART; replayed logs (fresh_ids) have extras
 * behind the text, so there a block is written at its end. A REFUSAL part is a text block, and the stop
 * reason becomes "refusal"; "stop" with tool calls becomes "tool_use" (Chat says "stop" when the call
 * was forced). One choice can be shown: others are skipped. Deltas of unknown types cannot be put into
 * a whole body: LR_EUNSUPPORTED, and the caller asks the upstream.
 */
#include "dialect/messages_int.h"

/* ---- reading ---------------------------------------------------------------------------------- */

struct dec {
    struct lr_messages_dec *s;
    struct lr_arena *a;
    lr_event_fn fn;
    void *ctx;
    struct lr_err *err;
};

static int emit(struct dec *d, struct lr_event ev)
{
    bool ours = ev.type == LR_EV_EXTRA || (ev.type == LR_EV_PART && ev.sub == LR_PART_OTHER) ||
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

static const struct {
    const char *name;
    enum lr_finish finish;
} reasons[] = {
    {"end_turn", LR_FINISH_STOP},           {"max_tokens", LR_FINISH_LENGTH},
    {"tool_use", LR_FINISH_TOOL},           {"stop_sequence", LR_FINISH_STOP_SEQUENCE},
    {"pause_turn", LR_FINISH_PAUSE},        {"refusal", LR_FINISH_REFUSAL},
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
    for (size_t i = 0; i < LR_COUNT(reasons); i++) {
        if (lr_str_is(reason, reasons[i].name)) {
            ev.sub = (uint8_t)reasons[i].finish;
            ev.b = (struct lr_str){NULL, 0};
        }
    }
    ev.a = text(o, "stop_sequence");
    return emit(d, ev);
}

static const char *const known_message[] = {"id",    "type",        "role",          "content",
                                            "model", "stop_reason", "stop_sequence", "usage",
                                            NULL};

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
    static const char *const known[] = {"stop_reason", "stop_sequence", NULL};
    static const char *const known_event[] = {"type", "delta", "usage", NULL};
    const struct lr_json *delta = lr_json_get(ev, "delta");
    LR_TRY(emit_finish(d, delta));
    LR_TRY(emit_extras(d, LR_SCOPE_TOP, delta, known));
    LR_TRY(emit_extras(d, LR_SCOPE_TOP, ev, known_event));
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

/* ---- writing: shared by both forms ------------------------------------------------------------ */

static void put(struct lr_jw *w, const char *name, struct lr_str s)
{
    lr_jw_key(w, name);
    lr_jw_str(w, s);
}

static void put_u64(struct lr_jw *w, const char *name, uint64_t v)
{
    lr_jw_key(w, name);
    lr_jw_u64(w, v);
}

static void put_type(struct lr_jw *w, const char *type)
{
    lr_jw_obj(w);
    put(w, "type", lr_strz(type));
}

/* The extras of one scope in a log, as members. */
static int put_extras(struct lr_jw *w, struct lr_str log, enum lr_extra_scope scope)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        bool piece = scope == LR_SCOPE_PART &&
                     (lr_str_is(ev.a, "citations") || lr_str_is(ev.a, "delta"));
        if (ev.type != LR_EV_EXTRA || ev.sub != scope || piece)
            continue;
        lr_jw_key_str(w, ev.a);
        lr_jw_raw(w, ev.b);
    }
    return rc;
}

static int put_usage(struct lr_jw *w, const struct lr_usage *u, struct lr_str extras)
{
    uint64_t cached = u->cached_input, written = u->written_input;
    uint64_t fresh = u->input > cached ? u->input - cached : 0;
    fresh = fresh > written ? fresh - written : 0;
    lr_jw_key(w, "usage");
    lr_jw_obj(w);
    put_u64(w, "input_tokens", fresh);
    put_u64(w, "cache_creation_input_tokens", written);
    put_u64(w, "cache_read_input_tokens", cached);
    put_u64(w, "output_tokens", u->output);
    if (u->reasoning) {
        lr_jw_key(w, "output_tokens_details");
        lr_jw_obj(w);
        put_u64(w, "thinking_tokens", u->reasoning);
        lr_jw_end(w);
    }
    LR_TRY(put_extras(w, extras, LR_SCOPE_USAGE));
    lr_jw_end(w);
    return 0;
}

static struct lr_str reason_of(uint8_t finish, struct lr_str other, bool tools, bool refused)
{
    if (finish == LR_FINISH_STOP && refused)
        return LR_STR("refusal");
    if (finish == LR_FINISH_STOP && tools)
        return LR_STR("tool_use");
    for (size_t i = 0; i < LR_COUNT(reasons); i++)
        if (reasons[i].finish == (enum lr_finish)finish)
            return lr_strz(reasons[i].name);
    if (finish == LR_FINISH_FILTER)
        return LR_STR("refusal");
    return other.n ? other : LR_STR("end_turn");
}

static void put_stop(struct lr_jw *w, struct lr_str reason, struct lr_str sequence)
{
    put(w, "stop_reason", reason);
    lr_jw_key(w, "stop_sequence");
    if (sequence.n)
        lr_jw_str(w, sequence);
    else
        lr_jw_null(w);
}

static void merge_usage(struct lr_usage *sum, const struct lr_usage *u)
{
    sum->known |= u->known;
    sum->input = u->input ? u->input : sum->input;
    sum->output = u->output ? u->output : sum->output;
    sum->cached_input = u->cached_input ? u->cached_input : sum->cached_input;
    sum->written_input = u->written_input ? u->written_input : sum->written_input;
    sum->reasoning = u->reasoning ? u->reasoning : sum->reasoning;
}

/* Is this event about a choice that Messages cannot show? */
static bool beyond(const struct lr_event *ev)
{
    return ev->choice > 0;
}

/* ---- writing: streamed ------------------------------------------------------------------------ */

#define HOLD_MAX LR_MIB(64) /* bytes of one block, or of all extras */

static void set_up(struct lr_messages_enc *s)
{
    struct lr_buf *const all[] = {&s->answer_id, &s->model, &s->id,    &s->name, &s->text, &s->sign,
                                  &s->stop,      &s->reason, &s->early, &s->late, &s->block, &s->js};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        lr_buf_init(all[i], HOLD_MAX);
    s->ready = true;
}

void lr_messages_enc_close(void *state)
{
    struct lr_messages_enc *s = state;
    struct lr_buf *const all[] = {&s->answer_id, &s->model, &s->id,    &s->name, &s->text, &s->sign,
                                  &s->stop,      &s->reason, &s->early, &s->late, &s->block, &s->js};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        lr_buf_free(all[i]);
}

static int keep(struct lr_buf *b, struct lr_str s)
{
    lr_buf_reset(b);
    return lr_buf_adds(b, s);
}

static struct lr_jw open_event(struct lr_messages_enc *s, const char *type)
{
    struct lr_jw w;
    lr_buf_reset(&s->js);
    lr_jw_init(&w, &s->js);
    put_type(&w, type);
    return w;
}

/* `type` is the event's name as well. */
static int send(struct lr_messages_enc *s, struct lr_jw *w, const char *type, struct lr_buf *out)
{
    lr_jw_end(w);
    LR_TRY(s->js.rc);
    return lr_sse_write(out, type, lr_buf_str(&s->js));
}

static int begin(struct lr_messages_enc *s, struct lr_buf *out)
{
    if (s->begun)
        return 0;
    s->begun = true;
    struct lr_jw w = open_event(s, "message_start");
    lr_jw_key(&w, "message");
    lr_jw_obj(&w);
    put(&w, "id", lr_buf_str(&s->answer_id));
    put(&w, "type", LR_STR("message"));
    put(&w, "role", LR_STR("assistant"));
    put(&w, "model", lr_buf_str(&s->model));
    lr_jw_key(&w, "content");
    lr_jw_arr(&w);
    lr_jw_end(&w);
    lr_jw_key(&w, "stop_reason");
    lr_jw_null(&w);
    lr_jw_key(&w, "stop_sequence");
    lr_jw_null(&w);
    LR_TRY(put_extras(&w, lr_buf_str(&s->early), LR_SCOPE_TOP));
    LR_TRY(put_usage(&w, &s->usage, lr_buf_str(&s->early)));
    lr_jw_end(&w);
    return send(s, &w, "message_start", out);
}

static struct lr_jw open_delta(struct lr_messages_enc *s, const char *type)
{
    struct lr_jw w = open_event(s, "content_block_delta");
    put_u64(&w, "index", s->blocks - 1);
    lr_jw_key(&w, "delta");
    put_type(&w, type);
    return w;
}

static int send_delta(struct lr_messages_enc *s, struct lr_jw *w, struct lr_buf *out)
{
    lr_jw_end(w);
    return send(s, w, "content_block_delta", out);
}

static void put_block_start(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                            struct lr_jw *w)
{
    switch ((enum lr_part_type)s->part.sub) {
    case LR_PART_REASONING:
        put_type(w, s->redacted ? "redacted_thinking" : "thinking");
        if (s->redacted) {
            put(w, "data", lr_buf_str(&s->sign));
        } else {
            put(w, "thinking", LR_STR(""));
            put(w, "signature", LR_STR(""));
        }
        return;
    case LR_PART_TOOL_CALL:
        put_type(w, "tool_use");
        lr_buf_reset(&s->text);
        lr_id_tool(o, "toolu_", lr_buf_str(&s->id), 0, s->part.part, &s->text);
        put(w, "id", lr_buf_str(&s->text));
        put(w, "name", lr_buf_str(&s->name));
        lr_jw_key(w, "input");
        lr_jw_obj(w);
        lr_jw_end(w);
        return;
    default:
        put_type(w, "text");
        put(w, "text", LR_STR(""));
    }
}

static int send_citations(struct lr_messages_enc *s, struct lr_str list, struct lr_buf *out)
{
    struct lr_arena a;
    struct lr_json *v;
    size_t room;
    if (lr_mul_over(list.n, 64, &room) || lr_add_over(room, LR_KIB(64), &room))
        return LR_EOVER;
    lr_arena_init(&a, room);
    int rc = lr_json_parse(&a, list, NULL, &v, NULL);
    if (!rc && !lr_json_is(v, LR_JSON_ARRAY))
        rc = LR_ECORRUPT;
    for (const struct lr_json *c = rc ? NULL : v->child; c && !rc; c = c->next) {
        struct lr_jw w = open_delta(s, "citations_delta");
        lr_jw_key(&w, "citation");
        lr_jw_raw(&w, c->raw);
        rc = send_delta(s, &w, out);
    }
    lr_arena_free(&a);
    return rc;
}

/* An EXTRA that is an event inside the block. */
static int send_piece(struct lr_messages_enc *s, const struct lr_event *ev, struct lr_buf *out)
{
    if (lr_str_is(ev->a, "citations"))
        return send_citations(s, ev->b, out);
    struct lr_jw w = open_event(s, "content_block_delta");
    put_u64(&w, "index", s->blocks - 1);
    lr_jw_key(&w, "delta");
    lr_jw_raw(&w, ev->b);
    return send(s, &w, "content_block_delta", out);
}

static bool is_piece(const struct lr_event *ev)
{
    return lr_str_is(ev->a, "citations") || lr_str_is(ev->a, "delta");
}

/* content_block_start, once. */
static int show(struct lr_messages_enc *s, const struct lr_encoder_opts *o, struct lr_buf *out)
{
    if (s->shown)
        return 0;
    s->shown = true;
    s->blocks++;
    struct lr_jw w = open_event(s, "content_block_start");
    put_u64(&w, "index", s->blocks - 1);
    lr_jw_key(&w, "content_block");
    if (s->part.sub == LR_PART_OTHER) {
        lr_jw_raw(&w, lr_buf_str(&s->name));
    } else {
        put_block_start(s, o, &w);
        LR_TRY(put_extras(&w, lr_buf_str(&s->block), LR_SCOPE_PART));
        lr_jw_end(&w);
    }
    return send(s, &w, "content_block_start", out);
}

static int on_part(struct lr_messages_enc *s, const struct lr_event *ev, struct lr_buf *out)
{
    LR_TRY(begin(s, out));
    s->part = *ev;
    s->part.a = s->part.b = (struct lr_str){NULL, 0};
    s->open = true;
    s->shown = s->redacted = false;
    s->tools |= ev->sub == LR_PART_TOOL_CALL;
    s->refused |= ev->sub == LR_PART_REFUSAL;
    lr_buf_reset(&s->text);
    lr_buf_reset(&s->sign);
    lr_buf_reset(&s->block);
    LR_TRY(keep(&s->id, ev->a));
    return keep(&s->name, ev->b);
}

static int send_text(struct lr_messages_enc *s, struct lr_str t, struct lr_buf *out)
{
    static const char *const types[][2] = {{"text_delta", "text"},
                                           {"thinking_delta", "thinking"},
                                           {"input_json_delta", "partial_json"}};
    bool call = s->part.sub == LR_PART_TOOL_CALL || s->part.sub == LR_PART_OTHER;
    const char *const *type = types[call ? 2 : s->part.sub == LR_PART_REASONING];
    struct lr_jw w = open_delta(s, type[0]);
    put(&w, type[1], t);
    return send_delta(s, &w, out);
}

static int send_sign(struct lr_messages_enc *s, struct lr_str sign, struct lr_buf *out)
{
    struct lr_jw w = open_delta(s, "signature_delta");
    put(&w, "signature", sign);
    return send_delta(s, &w, out);
}

static int on_sign(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                   const struct lr_event *ev, struct lr_buf *out)
{
    if (s->part.sub != LR_PART_REASONING)
        return 0;
    if (ev->sub && !s->shown) {
        s->redacted = true;
        return lr_buf_adds(&s->sign, ev->a);
    }
    if (o->fresh_ids)
        return lr_buf_adds(&s->sign, ev->a);
    LR_TRY(show(s, o, out));
    return send_sign(s, ev->a, out);
}

static int on_part_end(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                       struct lr_buf *out)
{
    struct lr_str log = lr_buf_str(&s->block);
    struct lr_event ev;
    /* The tool's id is spelled into s->text: what waits there goes out of the way. */
    struct lr_buf text = s->text;
    lr_buf_init(&s->text, HOLD_MAX);
    int rc = show(s, o, out);
    while (!rc && (rc = lr_event_next(&log, &ev)) == 1)
        rc = is_piece(&ev) ? send_piece(s, &ev, out) : 0;
    if (!rc && text.len)
        rc = send_text(s, lr_buf_str(&text), out);
    if (!rc && s->sign.len && !s->redacted)
        rc = send_sign(s, lr_buf_str(&s->sign), out);
    lr_buf_free(&text);
    LR_TRY(rc);
    s->open = false;
    struct lr_jw w = open_event(s, "content_block_stop");
    put_u64(&w, "index", s->blocks - 1);
    return send(s, &w, "content_block_stop", out);
}

/* Members that clients read from message_delta, whenever they came. */
static bool is_late(struct lr_str name)
{
    return lr_str_is(name, "stop_details") || lr_str_is(name, "container") ||
           lr_str_is(name, "context_management");
}

static int on_extra(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                    const struct lr_event *ev, struct lr_buf *out)
{
    switch ((enum lr_extra_scope)ev->sub) {
    case LR_SCOPE_TOP:
    case LR_SCOPE_USAGE:
        return lr_event_append(s->begun || is_late(ev->a) ? &s->late : &s->early, ev);
    case LR_SCOPE_EVENT: {
        char name[64];
        size_t n = ev->a.n < sizeof name ? ev->a.n : sizeof name - 1;
        memcpy(name, ev->a.p, n);
        name[n] = 0;
        LR_TRY(begin(s, out));
        return lr_sse_write(out, name, ev->b);
    }
    case LR_SCOPE_PART:
        if (!s->open)
            return 0;
        if (is_piece(ev) && !o->fresh_ids) {
            LR_TRY(show(s, o, out));
            return send_piece(s, ev, out);
        }
        return lr_event_append(&s->block, ev);
    default:
        return 0;
    }
}

static int on_end(struct lr_messages_enc *s, struct lr_buf *out)
{
    LR_TRY(begin(s, out));
    struct lr_jw w = open_event(s, "message_delta");
    lr_jw_key(&w, "delta");
    lr_jw_obj(&w);
    put_stop(&w, reason_of(s->finish, lr_buf_str(&s->reason), s->tools, s->refused),
             lr_buf_str(&s->stop));
    struct lr_str log = lr_buf_str(&s->late);
    LR_TRY(put_extras(&w, log, LR_SCOPE_TOP));
    lr_jw_end(&w);
    LR_TRY(put_usage(&w, &s->usage, log));
    LR_TRY(send(s, &w, "message_delta", out));
    w = open_event(s, "message_stop");
    return send(s, &w, "message_stop", out);
}

static int on_error(struct lr_messages_enc *s, const struct lr_event *ev, struct lr_buf *out)
{
    char code[64];
    size_t n = ev->a.n < sizeof code ? ev->a.n : sizeof code - 1;
    if (n)
        memcpy(code, ev->a.p, n);
    code[n] = 0;
    lr_buf_reset(&s->js);
    lr_messages_error(ev->status, code, ev->b, NULL, &s->js);
    LR_TRY(s->js.rc);
    return lr_sse_write(out, "error", lr_buf_str(&s->js));
}

static int on_event(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                    const struct lr_event *ev, struct lr_buf *out)
{
    switch (ev->type) {
    case LR_EV_START:
        lr_buf_reset(&s->answer_id);
        lr_id_answer(o, "msg_", ev->a, &s->answer_id);
        LR_TRY(s->answer_id.rc);
        return keep(&s->model, ev->b);
    case LR_EV_PART:
        return on_part(s, ev, out);
    case LR_EV_DELTA:
        if (o->fresh_ids)
            return lr_buf_adds(&s->text, ev->a);
        LR_TRY(show(s, o, out));
        return send_text(s, ev->a, out);
    case LR_EV_SIGN:
        return on_sign(s, o, ev, out);
    case LR_EV_PART_END:
        return on_part_end(s, o, out);
    case LR_EV_FINISH:
        s->finish = ev->sub;
        LR_TRY(keep(&s->stop, ev->a));
        return keep(&s->reason, ev->b);
    case LR_EV_USAGE:
        merge_usage(&s->usage, &ev->usage);
        return begin(s, out);
    case LR_EV_EXTRA:
        return on_extra(s, o, ev, out);
    case LR_EV_ERROR:
        return on_error(s, ev, out);
    case LR_EV_END:
        return on_end(s, out);
    case LR_EV_LOGPROBS: /* no place for them */
    case LR_EV_VECTOR:
    case LR_EV_BYTES:
        break;
    }
    return 0;
}

int lr_messages_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                           struct lr_buf *out)
{
    struct lr_messages_enc *s = state;
    if (!s->ready)
        set_up(s);
    return beyond(ev) ? 0 : on_event(s, o, ev, out);
}

/* ---- writing: whole --------------------------------------------------------------------------- */

/* One part of a compact log: PART, then its DELTA, SIGN and extras, then PART_END. */
struct block {
    struct lr_event part;
    struct lr_str text, sign, extras; /* extras: the log between PART and PART_END */
    bool redacted;
};

static int put_citations(struct lr_jw *w, struct lr_str log)
{
    struct lr_event ev;
    struct lr_merge m;
    struct lr_buf list;
    lr_buf_init(&list, log.n + 64);
    lr_merge_open(&m, log.n);
    int rc;
    size_t n = 0;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.type == LR_EV_EXTRA && lr_str_is(ev.a, "delta"))
            rc = LR_EUNSUPPORTED;
        else if (ev.type == LR_EV_EXTRA && lr_str_is(ev.a, "citations") && ++n)
            rc = lr_merge_add(&m, ev.b);
        else
            rc = 0;
        if (rc)
            break;
    }
    if (!rc && n && !(rc = lr_merge_write(&m, &list))) {
        lr_jw_key(w, "citations");
        lr_jw_raw(w, lr_buf_str(&list));
    }
    lr_merge_close(&m);
    lr_buf_free(&list);
    return rc;
}

/* A block of an unknown type: as it started, but with the input that was streamed into it. */
static int put_other(struct lr_jw *w, const struct block *b)
{
    if (!b->text.n) {
        lr_jw_raw(w, b->part.b);
        return 0;
    }
    struct lr_arena a;
    struct lr_json *v;
    size_t room;
    if (lr_mul_over(b->part.b.n, 64, &room) || lr_add_over(room, LR_KIB(64), &room))
        return LR_EOVER;
    lr_arena_init(&a, room);
    int rc = lr_json_parse(&a, b->part.b, NULL, &v, NULL);
    if (!rc) {
        lr_jw_obj(w);
        for (const struct lr_json *m = v->child; m; m = m->next) {
            if (lr_str_is(m->key, "input"))
                continue;
            lr_jw_key_str(w, m->key);
            lr_jw_raw(w, m->raw);
        }
        lr_jw_key(w, "input");
        lr_jw_raw(w, b->text);
        lr_jw_end(w);
    }
    lr_arena_free(&a);
    return rc;
}

/* Arguments as an object: what the model wrote may be none, and then the text is all we can show. */
static int put_input(struct lr_jw *w, struct lr_str args)
{
    struct lr_arena a;
    struct lr_json *v;
    size_t room;
    struct lr_str t = lr_str_trim(args);
    if (lr_mul_over(t.n, 64, &room) || lr_add_over(room, LR_KIB(64), &room))
        return LR_EOVER;
    lr_jw_key(w, "input");
    if (!t.n) {
        lr_jw_raw(w, LR_STR("{}"));
        return 0;
    }
    lr_arena_init(&a, room);
    int rc = lr_json_parse(&a, t, NULL, &v, NULL);
    if (!rc && v->type == LR_JSON_OBJECT) {
        lr_jw_raw(w, t);
    } else if (rc != LR_ENOMEM) {
        rc = 0;
        lr_jw_obj(w);
        put(w, "_raw", args);
        lr_jw_end(w);
    }
    lr_arena_free(&a);
    return rc;
}

static int put_block(struct lr_jw *w, const struct lr_encoder_opts *o, const struct block *b,
                     struct lr_buf *tmp)
{
    switch ((enum lr_part_type)b->part.sub) {
    case LR_PART_OTHER:
        return put_other(w, b);
    case LR_PART_REASONING:
        put_type(w, b->redacted ? "redacted_thinking" : "thinking");
        if (!b->redacted)
            put(w, "thinking", b->text);
        put(w, b->redacted ? "data" : "signature", b->sign);
        break;
    case LR_PART_TOOL_CALL:
        put_type(w, "tool_use");
        lr_buf_reset(tmp);
        lr_id_tool(o, "toolu_", b->part.a, 0, b->part.part, tmp);
        LR_TRY(tmp->rc);
        put(w, "id", lr_buf_str(tmp));
        put(w, "name", b->part.b);
        LR_TRY(put_input(w, b->text));
        break;
    default:
        put_type(w, "text");
        put(w, "text", b->text);
        LR_TRY(put_citations(w, b->extras));
    }
    LR_TRY(put_extras(w, b->extras, LR_SCOPE_PART));
    lr_jw_end(w);
    return 0;
}

/* What the members around the content say. */
struct summary {
    struct lr_event start, finish;
    struct lr_usage usage;
    bool tools, refused;
};

static int summarize(struct lr_str log, struct summary *out)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.type == LR_EV_START)
            out->start = ev;
        else if (ev.type == LR_EV_USAGE)
            merge_usage(&out->usage, &ev.usage);
        else if (beyond(&ev))
            continue;
        else if (ev.type == LR_EV_FINISH)
            out->finish = ev;
        else if (ev.type == LR_EV_PART) {
            out->tools |= ev.sub == LR_PART_TOOL_CALL;
            out->refused |= ev.sub == LR_PART_REFUSAL;
        }
    }
    return rc;
}

static int put_content(struct lr_jw *w, const struct lr_encoder_opts *o, struct lr_str log,
                       struct lr_buf *tmp)
{
    struct block b = {0};
    struct lr_event ev;
    int rc;
    lr_jw_key(w, "content");
    lr_jw_arr(w);
    for (struct lr_str at = log; (rc = lr_event_next(&log, &ev)) == 1; at = log) {
        if (beyond(&ev))
            continue;
        if (ev.type == LR_EV_PART) {
            b = (struct block){.part = ev, .extras = log};
        } else if (ev.type == LR_EV_DELTA) {
            b.text = ev.a;
        } else if (ev.type == LR_EV_SIGN) {
            b.sign = ev.a;
            b.redacted = ev.sub;
        } else if (ev.type == LR_EV_PART_END) {
            b.extras.n = (size_t)(at.p - b.extras.p);
            LR_TRY(put_block(w, o, &b, tmp));
        }
    }
    lr_jw_end(w);
    return rc;
}

int lr_messages_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    struct summary f = {0};
    struct lr_buf tmp;
    struct lr_jw w;
    LR_TRY(summarize(log, &f));
    lr_buf_init(&tmp, LR_MIB(1));
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_id_answer(o, "msg_", f.start.a, &tmp);
    int rc = tmp.rc;
    if (!rc) {
        put(&w, "id", lr_buf_str(&tmp));
        put(&w, "type", LR_STR("message"));
        put(&w, "role", LR_STR("assistant"));
        put(&w, "model", f.start.b);
        rc = put_content(&w, o, log, &tmp);
    }
    if (!rc) {
        put_stop(&w, reason_of(f.finish.sub, f.finish.b, f.tools, f.refused), f.finish.a);
        rc = put_extras(&w, log, LR_SCOPE_TOP);
    }
    if (!rc)
        rc = put_usage(&w, &f.usage, log);
    lr_jw_end(&w);
    lr_buf_free(&tmp);
    return rc ? rc : out->rc;
}
