/* SPDX-License-Identifier: Apache-2.0
 * dialect/responses_in.c - answers of OpenAI Responses, read.
 *
 *   response.created                          START
 *   output_item.added  (message)              nothing: its pieces are the parts
 *     content_part.added                      PART TEXT or REFUSAL, a = the item's id
 *     output_text.delta, refusal.delta        DELTA (LOGPROBS before it)
 *     output_text.annotation.added            EXTRA "annotations" of the part, a list of one
 *     content_part.done                       PART_END
 *   output_item.added  (reasoning)            nothing
 *     reasoning_summary_part.added            PART REASONING, a = the item's id
 *     reasoning_summary_text.delta            DELTA (reasoning_text.delta of open models as well)
 *   output_item.done                          SIGN (encrypted_content), PART_END
 *   output_item.added  (function_call)        PART TOOL_CALL, a = call_id
 *     function_call_arguments.delta           DELTA
 *   output_item.done                          extras of the item, PART_END
 *   output_item.done   (any other item)       PART OTHER with the item's JSON, PART_END
 *   response.completed, .incomplete           FINISH  USAGE  TOP extras
 *   response.failed, error                    ERROR
 *   events that repeat what is known          nothing; unknown ones: EXTRA of scope EVENT
 *
 * Reading. Servers differ in which of the repeating events they send, so a part opens with the first
 * event that speaks of it, and what nobody streamed is taken from the item's `done`, or from the final
 * response: an item is read whole then. Items come one after another; a piece of another item ends the
 * open part, and a piece of an item that is over is malformed. Members that echo the request are not
 * kept: they are made again from the request.
 */
#include "dialect/responses_int.h"

struct dec {
    struct lr_responses_dec *s;
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
    ev.dialect = ours ? LR_DIALECT_RESPONSES : LR_DIALECT_NONE;
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

static const struct lr_json *first_of(const struct lr_json *o, const char *name)
{
    const struct lr_json *v = lr_json_get(o, name);
    return lr_json_is(v, LR_JSON_ARRAY) ? v->child : NULL;
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

static int emit_logprobs(struct dec *d, const struct lr_json *list)
{
    struct lr_event ev = {.type = LR_EV_LOGPROBS};
    if (!lr_json_is(list, LR_JSON_ARRAY) || !list->n)
        return 0;
    LR_TRY(lr_json_tight(d->a, list->raw, &ev.a));
    return emit(d, ev);
}

static int end_part(struct dec *d)
{
    if (!d->s->open)
        return 0;
    d->s->open = false;
    return emit(d, (struct lr_event){.type = LR_EV_PART_END, .part = current(d)});
}

/* Opens the part for a piece of an item, unless it is the open one. */
static int open_part(struct dec *d, uint64_t item, uint64_t piece, struct lr_event ev)
{
    struct lr_responses_dec *s = d->s;
    if (s->open && s->item == item && s->piece == piece && (uint8_t)s->type == ev.sub)
        return 0;
    if (s->finished || item < s->items || (s->item_parts && item < s->item))
        return malformed(d, "a piece of an item that is over");
    LR_FAIL_IF(s->parts > UINT16_MAX, LR_EOVER);
    LR_TRY(end_part(d));
    if (item != s->item)
        s->item_parts = 0;
    s->item = item;
    s->piece = piece;
    s->type = (enum lr_part_type)ev.sub;
    s->bytes = 0;
    s->annotated = false;
    s->open = true;
    s->item_parts++;
    s->parts++;
    ev.type = LR_EV_PART;
    ev.part = current(d);
    s->tools |= ev.sub == LR_PART_TOOL_CALL;
    return emit(d, ev);
}

static int read_content(struct dec *d, uint64_t item, uint64_t piece, struct lr_str id,
                        const struct lr_json *p)
{
    const struct lr_json *notes = lr_json_get(p, "annotations");
    bool refusal = lr_str_is(text(p, "type"), "refusal");
    struct lr_event ev = {.sub = refusal ? LR_PART_REFUSAL : LR_PART_TEXT, .a = id};
    LR_TRY(open_part(d, item, piece, ev));
    if (lr_json_is(notes, LR_JSON_ARRAY) && notes->n)
        LR_TRY(emit_extra(d, LR_SCOPE_PART, LR_STR("annotations"), notes));
    LR_TRY(emit_logprobs(d, lr_json_get(p, "logprobs")));
    LR_TRY(emit_delta(d, text(p, refusal ? "refusal" : "text")));
    return end_part(d);
}

static int emit_sign(struct dec *d, const struct lr_json *item)
{
    struct lr_str sign = text(item, "encrypted_content");
    if (!sign.n || !d->s->open || d->s->type != LR_PART_REASONING)
        return 0;
    return emit(d, (struct lr_event){.type = LR_EV_SIGN, .part = current(d), .a = sign});
}

static int read_reasoning(struct dec *d, uint64_t index, const struct lr_json *item)
{
    static const char *const lists[] = {"summary", "content"};
    struct lr_event ev = {.sub = LR_PART_REASONING, .a = text(item, "id")};
    uint64_t piece = 0;
    for (size_t i = 0; i < LR_COUNT(lists); i++) {
        for (const struct lr_json *t = first_of(item, lists[i]); t; t = t->next) {
            LR_TRY(open_part(d, index, piece++, ev));
            LR_TRY(emit_delta(d, text(t, "text")));
        }
    }
    if (!piece)
        LR_TRY(open_part(d, index, 0, ev));
    LR_TRY(emit_sign(d, item));
    return end_part(d);
}

static const char *const known_call[] = {"type",   "id",        "call_id", "name",
                                         "status", "arguments", "caller",  NULL};

static int open_call(struct dec *d, uint64_t index, const struct lr_json *item)
{
    struct lr_event ev = {.sub = LR_PART_TOOL_CALL};
    ev.a = text(item, "call_id");
    ev.b = text(item, "name");
    return open_part(d, index, 0, ev);
}

static int end_call(struct dec *d, const struct lr_json *item)
{
    if (!d->s->bytes)
        LR_TRY(emit_delta(d, text(item, "arguments")));
    LR_TRY(emit_extras(d, LR_SCOPE_PART, item, known_call));
    const struct lr_json *caller = lr_json_get(item, "caller");
    if (lr_json_is(caller, LR_JSON_OBJECT) && !lr_str_is(text(caller, "type"), "direct"))
        LR_TRY(emit_extra(d, LR_SCOPE_PART, LR_STR("caller"), caller));
    return end_part(d);
}

static const char *const known_message[] = {"type", "id", "status", "role", "content", NULL};

/* Are all its pieces of types we know, without other members? */
static bool plain_message(const struct lr_json *item)
{
    static const char *const known[] = {"type", "text", "refusal", "logprobs", "annotations", NULL};
    if (!lr_str_is(text(item, "type"), "message"))
        return false;
    for (const struct lr_json *p = first_of(item, "content"); p; p = p->next) {
        struct lr_str type = text(p, "type");
        if (!lr_str_is(type, "output_text") && !lr_str_is(type, "refusal"))
            return false;
        for (const struct lr_json *m = p->child; m; m = m->next) {
            const char *const *k = known;
            while (*k && !lr_str_is(m->key, *k))
                k++;
            if (!*k && !lr_json_is_void(m->raw))
                return false;
        }
    }
    return true;
}

/* An item of which nothing was streamed. */
static int read_item(struct dec *d, uint64_t index, const struct lr_json *item)
{
    struct lr_str type = text(item, "type"), id = text(item, "id");
    if (lr_str_is(type, "function_call")) {
        LR_TRY(open_call(d, index, item));
        return end_call(d, item);
    }
    if (lr_str_is(type, "reasoning"))
        return read_reasoning(d, index, item);
    if (plain_message(item)) {
        uint64_t piece = 0;
        for (const struct lr_json *p = first_of(item, "content"); p; p = p->next)
            LR_TRY(read_content(d, index, piece++, id, p));
        return piece ? emit_extras(d, LR_SCOPE_PART, item, known_message) : 0;
    }
    struct lr_event ev = {.sub = LR_PART_OTHER};
    LR_TRY(lr_json_tight(d->a, item->raw, &ev.b));
    LR_TRY(open_part(d, index, 0, ev));
    return end_part(d);
}

static int end_item(struct dec *d, uint64_t index, const struct lr_json *item)
{
    struct lr_responses_dec *s = d->s;
    if (!lr_json_is(item, LR_JSON_OBJECT))
        return malformed(d, "an output item that is no object");
    if (index < s->items)
        return malformed(d, "an item that is over");
    bool streamed = s->item_parts && s->item == index;
    if (!streamed) {
        LR_TRY(read_item(d, index, item));
    } else if (s->open && s->type == LR_PART_TOOL_CALL) {
        LR_TRY(end_call(d, item));
    } else {
        LR_TRY(emit_sign(d, item));
        if (lr_str_is(text(item, "type"), "message"))
            LR_TRY(emit_extras(d, LR_SCOPE_PART, item, known_message));
        LR_TRY(end_part(d));
    }
    s->item_parts = 0;
    LR_FAIL_IF(index == UINT64_MAX, LR_EOVER);
    s->items = index + 1;
    return 0;
}

static int emit_usage(struct dec *d, const struct lr_json *u)
{
    static const char *const known[] = {"input_tokens",          "input_tokens_details",
                                        "output_tokens",         "output_tokens_details",
                                        "total_tokens",          NULL};
    if (!lr_json_is(u, LR_JSON_OBJECT))
        return 0;
    struct lr_usage sum = {.known = true};
    const struct lr_json *in = lr_json_get(u, "input_tokens_details");
    /* Reads leave alone what is absent or null. */
    (void)lr_json_u64(lr_json_get(u, "input_tokens"), &sum.input);
    (void)lr_json_u64(lr_json_get(u, "output_tokens"), &sum.output);
    (void)lr_json_u64(lr_json_get(in, "cached_tokens"), &sum.cached_input);
    (void)lr_json_u64(lr_json_get(in, "cache_write_tokens"), &sum.written_input);
    (void)lr_json_u64(lr_json_get(lr_json_get(u, "output_tokens_details"), "reasoning_tokens"),
                      &sum.reasoning);
    LR_TRY(emit(d, (struct lr_event){.type = LR_EV_USAGE, .usage = sum}));
    return emit_extras(d, LR_SCOPE_USAGE, u, known);
}

static uint16_t status_of(struct lr_str code)
{
    if (lr_str_is(code, "rate_limit_exceeded"))
        return 429;
    if (lr_str_is(code, "server_error") || !code.n)
        return 500;
    return lr_str_starts(code, LR_STR("invalid_")) || lr_str_starts(code, LR_STR("image_")) ? 400 : 500;
}

static int emit_error(struct dec *d, const struct lr_json *e)
{
    struct lr_event ev = {.type = LR_EV_ERROR, .a = text(e, "code"), .b = text(e, "message")};
    if (!ev.a.n)
        ev.a = LR_STR("server_error");
    ev.status = status_of(ev.a);
    return emit(d, ev);
}

static int start(struct dec *d, const struct lr_json *response)
{
    if (d->s->started)
        return 0;
    d->s->started = true;
    return emit(d, (struct lr_event){.type = LR_EV_START,
                                     .a = text(response, "id"),
                                     .b = text(response, "model")});
}

static int emit_finish(struct dec *d, const struct lr_json *response)
{
    struct lr_event ev = {.type = LR_EV_FINISH};
    struct lr_str status = text(response, "status");
    struct lr_str why = text(lr_json_get(response, "incomplete_details"), "reason");
    if (lr_str_is(status, "completed")) {
        ev.sub = d->s->tools ? LR_FINISH_TOOL : LR_FINISH_STOP;
    } else if (!lr_str_is(status, "incomplete")) {
        return malformed(d, "a response that is not over");
    } else if (lr_str_is(why, "max_output_tokens")) {
        ev.sub = LR_FINISH_LENGTH;
    } else if (lr_str_is(why, "content_filter")) {
        ev.sub = LR_FINISH_FILTER;
    } else {
        ev.sub = LR_FINISH_OTHER;
        ev.b = why;
    }
    d->s->finished = true;
    return emit(d, ev);
}

/* Members of a response that echo the request, or say how it was served. */
static const char *const known_response[] = {
    "id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "output",
    "output_text", "usage", "model", "instructions", "metadata", "parallel_tool_calls", "temperature",
    "tool_choice", "tools", "top_p", "top_logprobs", "background", "conversation", "image",
    "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "prompt_cache_diagnostics", "reasoning",
    "safety_identifier", "service_tier", "store", "text", "tool_usage", "truncation", "user",
    "access_programs", "billing", "frequency_penalty", "presence_penalty", NULL};

/* The final response: what was not streamed of it, and how it ended. */
static int finish(struct dec *d, const struct lr_json *response)
{
    struct lr_responses_dec *s = d->s;
    if (!lr_json_is(response, LR_JSON_OBJECT))
        return malformed(d, "a response that is no object");
    LR_TRY(start(d, response));
    struct lr_str status = text(response, "status");
    if (lr_str_is(status, "failed") || lr_str_is(status, "cancelled"))
        return emit_error(d, lr_json_get(response, "error"));
    uint64_t index = 0;
    for (const struct lr_json *item = first_of(response, "output"); item; item = item->next, index++)
        if (index >= s->items)
            LR_TRY(end_item(d, index, item));
    LR_TRY(end_part(d));
    LR_TRY(emit_finish(d, response));
    LR_TRY(emit_usage(d, lr_json_get(response, "usage")));
    LR_TRY(emit_extras(d, LR_SCOPE_TOP, response, known_response));
    s->done = true;
    return 0;
}

/* Opens the part an event is about. */
static int reach(struct dec *d, const struct lr_json *ev, enum lr_part_type type, const char *index)
{
    uint64_t item = 0, piece = 0;
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &item))
        return malformed(d, "an event without an output_index");
    (void)lr_json_u64(lr_json_get(ev, index), &piece); /* 0 when absent */
    return open_part(d, item, piece,
                     (struct lr_event){.sub = (uint8_t)type, .a = text(ev, "item_id")});
}

static int on_text(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_TEXT, "content_index"));
    LR_TRY(emit_logprobs(d, lr_json_get(ev, "logprobs")));
    return emit_delta(d, text(ev, "delta"));
}

static int on_refusal(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_REFUSAL, "content_index"));
    return emit_delta(d, text(ev, "delta"));
}

static int on_summary(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_REASONING, "summary_index"));
    return emit_delta(d, text(ev, "delta"));
}

static int on_reasoning_text(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_REASONING, "content_index"));
    return emit_delta(d, text(ev, "delta"));
}

static int on_part_added(struct dec *d, const struct lr_json *ev)
{
    struct lr_str type = text(lr_json_get(ev, "part"), "type");
    if (lr_str_is(type, "output_text"))
        return reach(d, ev, LR_PART_TEXT, "content_index");
    if (lr_str_is(type, "refusal"))
        return reach(d, ev, LR_PART_REFUSAL, "content_index");
    if (lr_str_is(type, "reasoning_text"))
        return reach(d, ev, LR_PART_REASONING, "content_index");
    return 0; /* read whole with its item */
}

/* What it repeats is known, but for annotations that nobody streamed. */
static int on_part_done(struct dec *d, const struct lr_json *ev)
{
    struct lr_responses_dec *s = d->s;
    const struct lr_json *notes = lr_json_get(lr_json_get(ev, "part"), "annotations");
    if (!s->open || (s->type != LR_PART_TEXT && s->type != LR_PART_REFUSAL))
        return 0;
    if (s->type == LR_PART_TEXT && !s->annotated && lr_json_is(notes, LR_JSON_ARRAY) && notes->n)
        LR_TRY(emit_extra(d, LR_SCOPE_PART, LR_STR("annotations"), notes));
    return end_part(d);
}

/* output_text.done, refusal.done, function_call_arguments.done: the text, if nobody streamed it. */
static int on_text_done(struct dec *d, const struct lr_json *ev)
{
    static const char *const names[] = {"text", "refusal", "arguments"};
    uint64_t item = 0;
    if (!d->s->open || d->s->bytes || !lr_json_u64(lr_json_get(ev, "output_index"), &item) ||
        item != d->s->item)
        return 0;
    for (size_t i = 0; i < LR_COUNT(names); i++)
        LR_TRY(emit_delta(d, text(ev, names[i])));
    return 0;
}

static int on_annotation(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *one = lr_json_get(ev, "annotation");
    if (!lr_given(one))
        return 0;
    LR_TRY(reach(d, ev, LR_PART_TEXT, "content_index"));
    d->s->annotated = true;
    struct lr_str tight;
    LR_TRY(lr_json_tight(d->a, one->raw, &tight));
    char *list = lr_arena_alloc(d->a, tight.n + 2, 1);
    LR_FAIL_IF(!list, LR_ENOMEM);
    list[0] = '[';
    memcpy(list + 1, tight.p, tight.n);
    list[tight.n + 1] = ']';
    return emit(d, (struct lr_event){.type = LR_EV_EXTRA,
                                     .sub = LR_SCOPE_PART,
                                     .part = current(d),
                                     .a = LR_STR("annotations"),
                                     .b = lr_str(list, tight.n + 2)});
}

static int on_arguments(struct dec *d, const struct lr_json *ev)
{
    uint64_t item = 0;
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &item) || !d->s->open || item != d->s->item ||
        d->s->type != LR_PART_TOOL_CALL)
        return malformed(d, "arguments of a call that is not open");
    return emit_delta(d, text(ev, "delta"));
}

static int on_item_added(struct dec *d, const struct lr_json *ev)
{
    uint64_t index = 0;
    const struct lr_json *item = lr_json_get(ev, "item");
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &index))
        return malformed(d, "an item without an output_index");
    return lr_str_is(text(item, "type"), "function_call") ? open_call(d, index, item) : 0;
}

static int on_item_done(struct dec *d, const struct lr_json *ev)
{
    uint64_t index = 0;
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &index))
        return malformed(d, "an item without an output_index");
    return end_item(d, index, lr_json_get(ev, "item"));
}

static int on_nothing(struct dec *d, const struct lr_json *ev)
{
    (void)d; /* it repeats what is known */
    (void)ev;
    return 0;
}

static int on_summary_added(struct dec *d, const struct lr_json *ev)
{
    return reach(d, ev, LR_PART_REASONING, "summary_index");
}

static int on_finish(struct dec *d, const struct lr_json *ev)
{
    return finish(d, lr_json_get(ev, "response"));
}

static const struct {
    const char *type;
    int (*on)(struct dec *, const struct lr_json *);
} rows[] = {
    {"response.output_text.delta", on_text},
    {"response.output_text.done", on_text_done},
    {"response.refusal.delta", on_refusal},
    {"response.refusal.done", on_text_done},
    {"response.content_part.added", on_part_added},
    {"response.content_part.done", on_part_done},
    {"response.function_call_arguments.delta", on_arguments},
    {"response.function_call_arguments.done", on_text_done},
    {"response.output_item.added", on_item_added},
    {"response.output_item.done", on_item_done},
    {"response.output_text.annotation.added", on_annotation},
    {"response.reasoning_summary_part.added", on_summary_added},
    {"response.reasoning_summary_part.done", on_nothing},
    {"response.reasoning_summary_text.delta", on_summary},
    {"response.reasoning_summary_text.done", on_nothing},
    {"response.reasoning_text.delta", on_reasoning_text},
    {"response.reasoning_text.done", on_nothing},
    {"response.in_progress", on_nothing},
    {"response.queued", on_nothing},
};

/* An event of an unknown type, without its number: that is its place in this stream, not its content. */
static int emit_unknown(struct dec *d, struct lr_str type, const struct lr_json *ev)
{
    struct lr_event out = {.type = LR_EV_EXTRA, .sub = LR_SCOPE_EVENT, .a = type};
    struct lr_buf b;
    struct lr_jw w;
    lr_buf_init(&b, 2 * ev->raw.n + 64); /* names may be spelled longer than they came */
    lr_jw_init(&w, &b);
    lr_jw_obj(&w);
    for (const struct lr_json *m = ev->child; m; m = m->next) {
        if (lr_str_is(m->key, "sequence_number"))
            continue;
        lr_jw_key_str(&w, m->key);
        lr_jw_raw(&w, m->raw);
    }
    lr_jw_end(&w);
    int rc = b.rc ? b.rc : lr_json_tight(d->a, lr_buf_str(&b), &out.b);
    if (!rc)
        rc = emit(d, out);
    lr_buf_free(&b);
    return rc;
}

static int read_event(struct dec *d, struct lr_str type, const struct lr_json *ev)
{
    if (lr_str_is(type, "error")) {
        const struct lr_json *e = lr_json_get(ev, "error");
        return emit_error(d, lr_json_is(e, LR_JSON_OBJECT) ? e : ev);
    }
    if (lr_str_is(type, "response.created"))
        return start(d, lr_json_get(ev, "response"));
    if (lr_str_is(type, "response.completed") || lr_str_is(type, "response.incomplete") ||
        lr_str_is(type, "response.failed"))
        return on_finish(d, ev);
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        if (!lr_str_is(type, rows[i].type))
            continue;
        if (!d->s->started && rows[i].on != on_nothing)
            return malformed(d, "an event before response.created");
        return rows[i].on(d, ev);
    }
    return d->s->started ? emit_unknown(d, type, ev) : 0;
}

int lr_responses_dec_event(void *state, struct lr_arena *scratch, struct lr_str name,
                           struct lr_str data, lr_event_fn fn, void *ctx, struct lr_err *err)
{
    struct dec d = {state, scratch, fn, ctx, err};
    struct lr_json *ev;
    if (lr_str_is(data, "[DONE]")) /* some servers end every stream so */
        return 0;
    LR_TRY(lr_json_parse(scratch, data, NULL, &ev, err));
    if (!lr_json_is(ev, LR_JSON_OBJECT))
        return malformed(&d, "an event that is no object");
    struct lr_str type = text(ev, "type");
    return read_event(&d, type.n ? type : name, ev);
}

int lr_responses_dec_whole(void *state, struct lr_arena *scratch, struct lr_str body, lr_event_fn fn,
                           void *ctx, struct lr_err *err)
{
    struct dec d = {state, scratch, fn, ctx, err};
    struct lr_json *root;
    LR_TRY(lr_json_parse(scratch, body, NULL, &root, err));
    const struct lr_json *e = lr_json_get(root, "error");
    if (lr_json_is(e, LR_JSON_OBJECT) && !lr_json_get(root, "output"))
        return emit_error(&d, e);
    if (!lr_json_is(lr_json_get(root, "output"), LR_JSON_ARRAY))
        return malformed(&d, "a response without output");
    return finish(&d, root);
}

bool lr_responses_dec_done(const void *state)
{
    return ((const struct lr_responses_dec *)state)->done;
}
