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
 * Reading. Servers differ in which of the repeating events they send, so a part opens with the
 * first event that speaks of it, and what nobody streamed is taken from the item's `done`, or from
 * the final response: an item is read whole then. Items come one after another; a piece of another
 * item ends the open part, and a piece of an item that is over is malformed. Members that echo the
 * request are not kept: they are made again from the request.
 */
#include "dialect/responses_int.h"

struct dec {
    struct lr_responses_dec *s;
    struct lr_parts *p; /* of s */
    const struct lr_emit *e;
};

static int emit_logprobs(struct dec *d, const struct lr_json *list)
{
    struct lr_event ev = {.type = LR_EV_LOGPROBS};
    if (!lr_json_is(list, LR_JSON_ARRAY) || !list->n)
        return 0;
    LR_TRY(lr_json_tight(d->e->a, list->raw, &ev.a));
    return lr_emit(d->e, ev);
}

/* Opens the part for a piece of an item, unless it is the open one. */
static int open_part(struct dec *d, uint64_t item, uint64_t piece, struct lr_event ev)
{
    struct lr_responses_dec *s = d->s;
    if (d->p->open && s->item == item && s->piece == piece && (uint8_t)d->p->type == ev.sub)
        return 0;
    if (s->finished || item < s->items || (s->item_parts && item < s->item))
        return lr_malformed(d->e, "a piece of an item that is over");
    LR_TRY(lr_emit_part_end(d->e, d->p));
    if (item != s->item)
        s->item_parts = 0;
    s->item = item;
    s->piece = piece;
    s->annotated = false;
    s->item_parts++;
    s->tools |= ev.sub == LR_PART_TOOL_CALL;
    return lr_emit_part(d->e, d->p, ev);
}

static int read_content(struct dec *d, uint64_t item, uint64_t piece, struct lr_str id,
                        const struct lr_json *p)
{
    const struct lr_json *notes = lr_json_get(p, "annotations");
    bool refusal = lr_str_is(lr_text_of(p, "type"), "refusal");
    struct lr_event ev = {.sub = refusal ? LR_PART_REFUSAL : LR_PART_TEXT, .a = id};
    LR_TRY(open_part(d, item, piece, ev));
    if (lr_json_is(notes, LR_JSON_ARRAY) && notes->n)
        LR_TRY(lr_emit_extra(d->e, d->p, LR_SCOPE_PART, LR_STR("annotations"), notes->raw));
    LR_TRY(emit_logprobs(d, lr_json_get(p, "logprobs")));
    LR_TRY(lr_emit_delta(d->e, d->p, lr_text_of(p, refusal ? "refusal" : "text")));
    return lr_emit_part_end(d->e, d->p);
}

static int emit_sign(struct dec *d, const struct lr_json *item)
{
    if (!d->p->open || d->p->type != LR_PART_REASONING)
        return 0;
    return lr_emit_sign(d->e, d->p, lr_text_of(item, "encrypted_content"), false);
}

static int read_reasoning(struct dec *d, uint64_t index, const struct lr_json *item)
{
    static const char *const lists[] = {"summary", "content"};
    struct lr_event ev = {.sub = LR_PART_REASONING, .a = lr_text_of(item, "id")};
    uint64_t piece = 0;
    for (size_t i = 0; i < LR_COUNT(lists); i++) {
        for (const struct lr_json *t = lr_first_of(item, lists[i]); t; t = t->next) {
            LR_TRY(open_part(d, index, piece++, ev));
            LR_TRY(lr_emit_delta(d->e, d->p, lr_text_of(t, "text")));
        }
    }
    if (!piece)
        LR_TRY(open_part(d, index, 0, ev));
    LR_TRY(emit_sign(d, item));
    return lr_emit_part_end(d->e, d->p);
}

static const char *const known_call[] = {"type",   "id",        "call_id", "name",
                                         "status", "arguments", "caller",  NULL};

static int open_call(struct dec *d, uint64_t index, const struct lr_json *item)
{
    struct lr_event ev = {.sub = LR_PART_TOOL_CALL};
    ev.a = lr_text_of(item, "call_id");
    ev.b = lr_text_of(item, "name");
    return open_part(d, index, 0, ev);
}

static int end_call(struct dec *d, const struct lr_json *item)
{
    if (!d->p->bytes)
        LR_TRY(lr_emit_delta(d->e, d->p, lr_text_of(item, "arguments")));
    LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_PART, item, known_call));
    const struct lr_json *caller = lr_json_get(item, "caller");
    if (lr_json_is(caller, LR_JSON_OBJECT) && !lr_str_is(lr_text_of(caller, "type"), "direct"))
        LR_TRY(lr_emit_extra(d->e, d->p, LR_SCOPE_PART, LR_STR("caller"), caller->raw));
    return lr_emit_part_end(d->e, d->p);
}

static const char *const known_message[] = {"type", "id", "status", "role", "content", NULL};

/* Are all its pieces of types we know, without other members? */
static bool plain_message(const struct lr_json *item)
{
    static const char *const known[] = {"type", "text", "refusal", "logprobs", "annotations", NULL};
    if (!lr_str_is(lr_text_of(item, "type"), "message"))
        return false;
    for (const struct lr_json *p = lr_first_of(item, "content"); p; p = p->next) {
        struct lr_str type = lr_text_of(p, "type");
        if (!lr_str_is(type, "output_text") && !lr_str_is(type, "refusal"))
            return false;
        for (const struct lr_json *m = p->child; m; m = m->next)
            if (!lr_listed(m->key, known) && !lr_json_is_void(m->raw))
                return false;
    }
    return true;
}

/* An item of which nothing was streamed. */
static int read_item(struct dec *d, uint64_t index, const struct lr_json *item)
{
    struct lr_str type = lr_text_of(item, "type"), id = lr_text_of(item, "id");
    if (lr_str_is(type, "function_call")) {
        LR_TRY(open_call(d, index, item));
        return end_call(d, item);
    }
    if (lr_str_is(type, "reasoning"))
        return read_reasoning(d, index, item);
    if (plain_message(item)) {
        uint64_t piece = 0;
        for (const struct lr_json *p = lr_first_of(item, "content"); p; p = p->next)
            LR_TRY(read_content(d, index, piece++, id, p));
        return piece ? lr_emit_rest(d->e, d->p, LR_SCOPE_PART, item, known_message) : 0;
    }
    struct lr_event ev = {.sub = LR_PART_OTHER};
    LR_TRY(lr_json_tight(d->e->a, item->raw, &ev.b));
    LR_TRY(open_part(d, index, 0, ev));
    return lr_emit_part_end(d->e, d->p);
}

static int end_item(struct dec *d, uint64_t index, const struct lr_json *item)
{
    struct lr_responses_dec *s = d->s;
    if (!lr_json_is(item, LR_JSON_OBJECT))
        return lr_malformed(d->e, "an output item that is no object");
    if (index < s->items)
        return lr_malformed(d->e, "an item that is over");
    bool streamed = s->item_parts && s->item == index;
    if (!streamed) {
        LR_TRY(read_item(d, index, item));
    } else if (d->p->open && d->p->type == LR_PART_TOOL_CALL) {
        LR_TRY(end_call(d, item));
    } else {
        LR_TRY(emit_sign(d, item));
        if (lr_str_is(lr_text_of(item, "type"), "message"))
            LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_PART, item, known_message));
        LR_TRY(lr_emit_part_end(d->e, d->p));
    }
    s->item_parts = 0;
    LR_FAIL_IF(index == UINT64_MAX, LR_EOVER);
    s->items = index + 1;
    return 0;
}

static int emit_usage(struct dec *d, const struct lr_json *u)
{
    static const char *const known[] = {"input_tokens",  "input_tokens_details",
                                        "output_tokens", "output_tokens_details",
                                        "total_tokens",  NULL};
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
    LR_TRY(lr_emit(d->e, (struct lr_event){.type = LR_EV_USAGE, .usage = sum}));
    return lr_emit_rest(d->e, d->p, LR_SCOPE_USAGE, u, known);
}

static uint16_t status_of(struct lr_str code)
{
    if (lr_str_is(code, "rate_limit_exceeded"))
        return 429;
    if (lr_str_is(code, "server_error") || !code.n)
        return 500;
    return lr_str_starts(code, LR_STR("invalid_")) || lr_str_starts(code, LR_STR("image_")) ? 400
                                                                                            : 500;
}

static int emit_error(struct dec *d, const struct lr_json *e)
{
    struct lr_event ev = {
        .type = LR_EV_ERROR, .a = lr_text_of(e, "code"), .b = lr_text_of(e, "message")};
    if (!ev.a.n)
        ev.a = LR_STR("server_error");
    ev.status = status_of(ev.a);
    return lr_emit(d->e, ev);
}

static int start(struct dec *d, const struct lr_json *response)
{
    if (d->s->started)
        return 0;
    d->s->started = true;
    return lr_emit_start(d->e, response);
}

static int emit_finish(struct dec *d, const struct lr_json *response)
{
    struct lr_event ev = {.type = LR_EV_FINISH};
    struct lr_str status = lr_text_of(response, "status");
    struct lr_str why = lr_text_of(lr_json_get(response, "incomplete_details"), "reason");
    if (lr_str_is(status, "completed")) {
        ev.sub = d->s->tools ? LR_FINISH_TOOL : LR_FINISH_STOP;
    } else if (!lr_str_is(status, "incomplete")) {
        return lr_malformed(d->e, "a response that is not over");
    } else if (lr_str_is(why, "max_output_tokens")) {
        ev.sub = LR_FINISH_LENGTH;
    } else if (lr_str_is(why, "content_filter")) {
        ev.sub = LR_FINISH_FILTER;
    } else {
        ev.sub = LR_FINISH_OTHER;
        ev.b = why;
    }
    d->s->finished = true;
    return lr_emit(d->e, ev);
}

/* Members of a response that echo the request, or say how it was served. */
static const char *const known_response[] = {"id",
                                             "object",
                                             "created_at",
                                             "completed_at",
                                             "status",
                                             "error",
                                             "incomplete_details",
                                             "output",
                                             "output_text",
                                             "usage",
                                             "model",
                                             "instructions",
                                             "metadata",
                                             "parallel_tool_calls",
                                             "temperature",
                                             "tool_choice",
                                             "tools",
                                             "top_p",
                                             "top_logprobs",
                                             "background",
                                             "conversation",
                                             "image",
                                             "max_output_tokens",
                                             "max_tool_calls",
                                             "previous_response_id",
                                             "prompt",
                                             "prompt_cache_key",
                                             "prompt_cache_options",
                                             "prompt_cache_retention",
                                             "prompt_cache_diagnostics",
                                             "reasoning",
                                             "safety_identifier",
                                             "service_tier",
                                             "store",
                                             "text",
                                             "tool_usage",
                                             "truncation",
                                             "user",
                                             "access_programs",
                                             "billing",
                                             "frequency_penalty",
                                             "presence_penalty",
                                             NULL};

/* The final response: what was not streamed of it, and how it ended. */
static int finish(struct dec *d, const struct lr_json *response)
{
    struct lr_responses_dec *s = d->s;
    if (!lr_json_is(response, LR_JSON_OBJECT))
        return lr_malformed(d->e, "a response that is no object");
    LR_TRY(start(d, response));
    struct lr_str status = lr_text_of(response, "status");
    if (lr_str_is(status, "failed") || lr_str_is(status, "cancelled"))
        return emit_error(d, lr_json_get(response, "error"));
    uint64_t index = 0;
    for (const struct lr_json *item = lr_first_of(response, "output"); item;
         item = item->next, index++)
        if (index >= s->items)
            LR_TRY(end_item(d, index, item));
    LR_TRY(lr_emit_part_end(d->e, d->p));
    LR_TRY(emit_finish(d, response));
    LR_TRY(emit_usage(d, lr_json_get(response, "usage")));
    LR_TRY(lr_emit_rest(d->e, d->p, LR_SCOPE_TOP, response, known_response));
    s->done = true;
    return 0;
}

/* Opens the part an event is about. */
static int reach(struct dec *d, const struct lr_json *ev, enum lr_part_type type, const char *index)
{
    uint64_t item = 0, piece = 0;
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &item))
        return lr_malformed(d->e, "an event without an output_index");
    (void)lr_json_u64(lr_json_get(ev, index), &piece); /* 0 when absent */
    return open_part(d, item, piece,
                     (struct lr_event){.sub = (uint8_t)type, .a = lr_text_of(ev, "item_id")});
}

static int on_text(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_TEXT, "content_index"));
    LR_TRY(emit_logprobs(d, lr_json_get(ev, "logprobs")));
    return lr_emit_delta(d->e, d->p, lr_text_of(ev, "delta"));
}

static int on_refusal(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_REFUSAL, "content_index"));
    return lr_emit_delta(d->e, d->p, lr_text_of(ev, "delta"));
}

static int on_summary(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_REASONING, "summary_index"));
    return lr_emit_delta(d->e, d->p, lr_text_of(ev, "delta"));
}

static int on_reasoning_text(struct dec *d, const struct lr_json *ev)
{
    LR_TRY(reach(d, ev, LR_PART_REASONING, "content_index"));
    return lr_emit_delta(d->e, d->p, lr_text_of(ev, "delta"));
}

static int on_part_added(struct dec *d, const struct lr_json *ev)
{
    struct lr_str type = lr_text_of(lr_json_get(ev, "part"), "type");
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
    const struct lr_json *notes = lr_json_get(lr_json_get(ev, "part"), "annotations");
    bool text = d->p->type == LR_PART_TEXT;
    if (!d->p->open || (!text && d->p->type != LR_PART_REFUSAL))
        return 0;
    if (text && !d->s->annotated && lr_json_is(notes, LR_JSON_ARRAY) && notes->n)
        LR_TRY(lr_emit_extra(d->e, d->p, LR_SCOPE_PART, LR_STR("annotations"), notes->raw));
    return lr_emit_part_end(d->e, d->p);
}

/* output_text.done, refusal.done, function_call_arguments.done: the text, if nobody streamed it. */
static int on_text_done(struct dec *d, const struct lr_json *ev)
{
    static const char *const names[] = {"text", "refusal", "arguments"};
    uint64_t item = 0;
    if (!d->p->open || d->p->bytes || !lr_json_u64(lr_json_get(ev, "output_index"), &item) ||
        item != d->s->item)
        return 0;
    for (size_t i = 0; i < LR_COUNT(names); i++)
        LR_TRY(lr_emit_delta(d->e, d->p, lr_text_of(ev, names[i])));
    return 0;
}

static int on_annotation(struct dec *d, const struct lr_json *ev)
{
    const struct lr_json *one = lr_json_get(ev, "annotation");
    if (!lr_given(one))
        return 0;
    LR_TRY(reach(d, ev, LR_PART_TEXT, "content_index"));
    d->s->annotated = true;
    return lr_emit_one(d->e, d->p, LR_STR("annotations"), one->raw);
}

static int on_arguments(struct dec *d, const struct lr_json *ev)
{
    uint64_t item = 0;
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &item) || !d->p->open || item != d->s->item ||
        d->p->type != LR_PART_TOOL_CALL)
        return lr_malformed(d->e, "arguments of a call that is not open");
    return lr_emit_delta(d->e, d->p, lr_text_of(ev, "delta"));
}

static int on_item_added(struct dec *d, const struct lr_json *ev)
{
    uint64_t index = 0;
    const struct lr_json *item = lr_json_get(ev, "item");
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &index))
        return lr_malformed(d->e, "an item without an output_index");
    return lr_str_is(lr_text_of(item, "type"), "function_call") ? open_call(d, index, item) : 0;
}

static int on_item_done(struct dec *d, const struct lr_json *ev)
{
    uint64_t index = 0;
    if (!lr_json_u64(lr_json_get(ev, "output_index"), &index))
        return lr_malformed(d->e, "an item without an output_index");
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

/* An event of an unknown type, without its number: that is its place in this stream, not its
 * content. */
static int emit_unknown(struct dec *d, struct lr_str type, const struct lr_json *ev)
{
    static const char *const but[] = {"sequence_number", NULL};
    struct lr_event out = {.type = LR_EV_EXTRA, .sub = LR_SCOPE_EVENT, .a = type};
    struct lr_buf b;
    struct lr_jw w;
    lr_buf_init(&b, 2 * ev->raw.n + 64); /* names may be spelled longer than they came */
    lr_jw_init(&w, &b);
    lr_jw_obj(&w);
    lr_put_others(&w, ev, but);
    lr_jw_end(&w);
    int rc = b.rc ? b.rc : lr_json_tight(d->e->a, lr_buf_str(&b), &out.b);
    if (!rc)
        rc = lr_emit(d->e, out);
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
            return lr_malformed(d->e, "an event before response.created");
        return rows[i].on(d, ev);
    }
    return d->s->started ? emit_unknown(d, type, ev) : 0;
}

int lr_responses_dec_event(void *state, const struct lr_emit *e, struct lr_str name,
                           struct lr_str data)
{
    struct lr_responses_dec *s = state;
    struct dec d = {s, &s->parts, e};
    struct lr_json *ev;
    if (lr_str_is(data, "[DONE]")) /* some servers end every stream so */
        return 0;
    LR_TRY(lr_json_parse(e->a, data, NULL, &ev, e->err));
    if (!lr_json_is(ev, LR_JSON_OBJECT))
        return lr_malformed(e, "an event that is no object");
    struct lr_str type = lr_text_of(ev, "type");
    return read_event(&d, type.n ? type : name, ev);
}

int lr_responses_dec_whole(void *state, const struct lr_emit *e, struct lr_str body)
{
    struct lr_responses_dec *s = state;
    struct dec d = {s, &s->parts, e};
    struct lr_json *root;
    LR_TRY(lr_json_parse(e->a, body, NULL, &root, e->err));
    const struct lr_json *error = lr_json_get(root, "error");
    if (lr_json_is(error, LR_JSON_OBJECT) && !lr_json_get(root, "output"))
        return emit_error(&d, error);
    if (!lr_json_is(lr_json_get(root, "output"), LR_JSON_ARRAY))
        return lr_malformed(e, "a response without output");
    return finish(&d, root);
}

bool lr_responses_dec_done(const void *state)
{
    return ((const struct lr_responses_dec *)state)->done;
}
