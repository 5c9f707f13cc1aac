/* SPDX-License-Identifier: Apache-2.0
 * dialect/responses_out.c - answers of OpenAI Responses, written; responses_in.c reads them and has
 * the table of events.
 *
 * One engine writes both forms: it collects finished items as JSON, since response.completed
 * repeats all of them; the whole form writes nothing before the end. Neighbouring TEXT and REFUSAL
 * parts of one item id (or of none) are the pieces of one message; REASONING parts of one id the
 * pieces of one reasoning item, which opens with its first text. Ids of calls' items are made
 * ("fc_"); call_ids and the ids of other items are the upstream's unless fresh ones are asked.
 * Signatures are shown where they are this API's own. Events of unknown types get our sequence
 * number. Raw reasoning text comes out as summary: the canonical form does not tell them apart.
 */
#include "dialect/responses_int.h"

/* ---- writing: events and pieces -------------------------------------------------------------- */

#define HOLD_MAX LR_MIB(64) /* bytes of one answer */

static void put_list(struct lr_jw *w, const char *name, struct lr_str inside)
{
    struct lr_str one[3] = {LR_STR("["), inside, LR_STR("]")};
    lr_put_raw(w, name, one[0]);
    (void)lr_buf_adds(w->b, one[1]); /* failures stick in the buffer */
    (void)lr_buf_adds(w->b, one[2]);
}

static void buffers(struct lr_responses_enc *s, struct lr_buf *all[16])
{
    struct lr_buf *const list[16] = {&s->answer_id, &s->model,    &s->reason,  &s->item_id,
                                     &s->own_id,    &s->name,     &s->call_id, &s->text,
                                     &s->sign,      &s->content,  &s->output,  &s->extras,
                                     &s->top,       &s->logprobs, &s->js,      &s->tmp};
    memcpy(all, list, sizeof list);
}

static void set_up(struct lr_responses_enc *s)
{
    struct lr_buf *all[16];
    buffers(s, all);
    for (size_t i = 0; i < LR_COUNT(all); i++)
        lr_buf_init(all[i], HOLD_MAX);
    s->ready = true;
}

void lr_responses_enc_close(void *state)
{
    struct lr_buf *all[16];
    buffers(state, all);
    for (size_t i = 0; i < LR_COUNT(all); i++)
        lr_buf_free(all[i]);
}

/* With a comma before all but the first. */
static int add_to_list(struct lr_buf *list, struct lr_str one)
{
    if (list->len)
        LR_TRY(lr_buf_addc(list, ','));
    return lr_buf_adds(list, one);
}

struct enc {
    struct lr_responses_enc *s;
    const struct lr_encoder_opts *o;
    struct lr_buf *out;
    struct lr_str type; /* of the event that is being written */
};

static struct lr_jw open_event(struct enc *e, struct lr_str type)
{
    struct lr_jw w;
    lr_buf_reset(&e->s->js);
    lr_jw_init(&w, &e->s->js);
    lr_jw_obj(&w);
    lr_put_str(&w, "type", type);
    lr_put_u64(&w, "sequence_number", e->s->sequence);
    e->type = type;
    return w;
}

static int send(struct enc *e, struct lr_jw *w)
{
    lr_jw_end(w);
    LR_TRY(e->s->js.rc);
    if (e->s->whole)
        return 0;
    e->s->sequence++;
    return lr_sse_write(e->out, e->type, lr_buf_str(&e->s->js));
}

/* An event about the open item; with a piece's index when `index` is not NULL. */
static struct lr_jw open_item_event(struct enc *e, const char *type, const char *index)
{
    struct lr_jw w = open_event(e, lr_strz(type));
    lr_put_str(&w, "item_id", lr_buf_str(&e->s->item_id));
    lr_put_u64(&w, "output_index", e->s->items - 1);
    if (index)
        lr_put_u64(&w, index, e->s->pieces);
    return w;
}

/* ---- writing: the response object ------------------------------------------------------------ */

/* A member of the request as it came, or its default. */
static void echo(struct lr_jw *w, const struct lr_json *root, const char *name, const char *absent)
{
    const struct lr_json *v = lr_json_get(root, name);
    lr_put_raw(w, name, v ? v->raw : lr_strz(absent));
}

static void put_usage_sums(struct lr_jw *w, const struct lr_usage *u)
{
    uint64_t total;
    lr_put_u64(w, "input_tokens", u->input);
    lr_put_obj(w, "input_tokens_details");
    lr_put_u64(w, "cached_tokens", u->cached_input);
    lr_put_u64(w, "cache_write_tokens", u->written_input);
    lr_jw_end(w);
    lr_put_u64(w, "output_tokens", u->output);
    lr_put_obj(w, "output_tokens_details");
    lr_put_u64(w, "reasoning_tokens", u->reasoning);
    lr_jw_end(w);
    if (__builtin_add_overflow(u->input, u->output, &total))
        total = UINT64_MAX;
    lr_put_u64(w, "total_tokens", total);
}

static int put_extras(struct lr_jw *w, struct lr_str log, enum lr_extra_scope scope)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.sub != scope || lr_str_is(ev.a, "annotations"))
            continue;
        lr_jw_key_str(w, ev.a);
        lr_jw_raw(w, ev.b);
    }
    return rc;
}

/* completed, or why not: the empty view. */
static struct lr_str cut_reason(const struct lr_responses_enc *s)
{
    switch ((enum lr_finish)s->finish.sub) {
    case LR_FINISH_LENGTH:
        return LR_STR("max_output_tokens");
    case LR_FINISH_FILTER:
    case LR_FINISH_REFUSAL:
        return LR_STR("content_filter");
    case LR_FINISH_PAUSE:
        return LR_STR("pause_turn");
    case LR_FINISH_OTHER:
        return s->reason.len ? lr_buf_str(&s->reason) : LR_STR("other");
    default:
        return (struct lr_str){NULL, 0};
    }
}

static int put_response(struct enc *e, struct lr_jw *w, bool over)
{
    struct lr_responses_enc *s = e->s;
    const struct lr_request *r = e->o->request;
    const struct lr_json *root = r && r->dialect == LR_DIALECT_RESPONSES ? r->root : NULL;
    struct lr_str why = over ? cut_reason(s) : (struct lr_str){NULL, 0};
    lr_jw_obj(w);
    lr_put_str(w, "id", lr_buf_str(&s->answer_id));
    lr_put_str(w, "object", LR_STR("response"));
    lr_put_u64(w, "created_at", e->o->created_s);
    lr_put_str(w, "status", lr_strz(!over ? "in_progress" : why.n ? "incomplete" : "completed"));
    echo(w, root, "background", "false");
    lr_put_null(w, "error");
    lr_jw_key(w, "incomplete_details");
    if (why.n) {
        lr_jw_obj(w);
        lr_put_str(w, "reason", why);
        lr_jw_end(w);
    } else {
        lr_jw_null(w);
    }
    echo(w, root, "instructions", "null");
    echo(w, root, "max_output_tokens", "null");
    lr_put_str(w, "model", lr_buf_str(&s->model));
    put_list(w, "output", over ? lr_buf_str(&s->output) : (struct lr_str){NULL, 0});
    echo(w, root, "parallel_tool_calls", "true");
    echo(w, root, "previous_response_id", "null");
    echo(w, root, "reasoning", "{\"effort\":null,\"summary\":null}");
    if (lr_json_get(root, "store"))
        echo(w, root, "store", "null");
    echo(w, root, "temperature", "1");
    echo(w, root, "text", "{\"format\":{\"type\":\"text\"}}");
    echo(w, root, "tool_choice", "\"auto\"");
    echo(w, root, "tools", "[]");
    echo(w, root, "top_p", "1");
    echo(w, root, "truncation", "\"disabled\"");
    lr_jw_key(w, "usage");
    if (over && s->usage.known) {
        lr_jw_obj(w);
        put_usage_sums(w, &s->usage);
        LR_TRY(put_extras(w, lr_buf_str(&s->top), LR_SCOPE_USAGE));
        lr_jw_end(w);
    } else {
        lr_jw_null(w);
    }
    echo(w, root, "user", "null");
    echo(w, root, "metadata", "{}");
    if (over)
        LR_TRY(put_extras(w, lr_buf_str(&s->top), LR_SCOPE_TOP));
    lr_jw_end(w);
    return 0;
}

static int send_response(struct enc *e, const char *type, bool over)
{
    struct lr_jw w = open_event(e, lr_strz(type));
    lr_jw_key(&w, "response");
    LR_TRY(put_response(e, &w, over));
    return send(e, &w);
}

/* ---- writing: items -------------------------------------------------------------------------- */

static int put_item(struct enc *e, struct lr_jw *w, bool over)
{
    struct lr_responses_enc *s = e->s;
    static const char *const types[] = {"", "message", "reasoning", "function_call"};
    struct lr_str content = over ? lr_buf_str(&s->content) : (struct lr_str){NULL, 0};
    lr_put_type(w, types[s->item]);
    lr_put_str(w, "id", lr_buf_str(&s->item_id));
    if (s->item == LR_ITEM_REASONING) {
        put_list(w, "summary", content);
        if (over && s->sign.len)
            lr_put_str(w, "encrypted_content", lr_buf_str(&s->sign));
    } else {
        bool cut = over && cut_reason(s).n;
        lr_put_str(w, "status", lr_strz(!over ? "in_progress" : cut ? "incomplete" : "completed"));
    }
    if (s->item == LR_ITEM_MESSAGE) {
        lr_put_str(w, "role", LR_STR("assistant"));
        put_list(w, "content", content);
    } else if (s->item == LR_ITEM_CALL) {
        lr_put_str(w, "call_id", lr_buf_str(&s->call_id));
        lr_put_str(w, "name", lr_buf_str(&s->name));
        lr_put_str(w, "arguments", over ? lr_buf_str(&s->text) : (struct lr_str){NULL, 0});
    }
    if (over)
        LR_TRY(put_extras(w, lr_buf_str(&s->extras), LR_SCOPE_PART));
    lr_jw_end(w);
    return 0;
}

static int send_item(struct enc *e, const char *type, bool over)
{
    struct lr_jw w = open_event(e, lr_strz(type));
    lr_put_u64(&w, "output_index", e->s->items - 1);
    lr_jw_key(&w, "item");
    LR_TRY(put_item(e, &w, over));
    return send(e, &w);
}

static int open_item(struct enc *e, enum lr_responses_item item, struct lr_str own)
{
    static const char *const prefixes[] = {"", "msg_", "rs_", "fc_"};
    struct lr_responses_enc *s = e->s;
    s->item = item;
    s->items++;
    s->pieces = 0;
    lr_buf_reset(&s->content);
    lr_buf_reset(&s->sign);
    lr_buf_reset(&s->extras);
    LR_TRY(lr_keep(&s->own_id, own));
    lr_buf_reset(&s->item_id);
    lr_id_tool(e->o, prefixes[item], item == LR_ITEM_CALL ? (struct lr_str){NULL, 0} : own, 0,
               s->items - 1, &s->item_id);
    LR_TRY(s->item_id.rc);
    return send_item(e, "response.output_item.added", false);
}

static int close_item(struct enc *e)
{
    struct lr_responses_enc *s = e->s;
    if (s->item == LR_ITEM_NONE)
        return 0;
    LR_TRY(send_item(e, "response.output_item.done", true));
    struct lr_jw w;
    lr_buf_reset(&s->tmp);
    lr_jw_init(&w, &s->tmp);
    LR_TRY(put_item(e, &w, true));
    LR_TRY(s->tmp.rc);
    s->item = LR_ITEM_NONE;
    return add_to_list(&s->output, lr_buf_str(&s->tmp));
}

/* An item of a type we do not know, whole. */
static int pass_item(struct enc *e, struct lr_str json)
{
    static const char *const types[] = {"response.output_item.added", "response.output_item.done"};
    LR_TRY(close_item(e));
    e->s->items++;
    for (size_t i = 0; i < LR_COUNT(types); i++) {
        struct lr_jw w = open_event(e, lr_strz(types[i]));
        lr_put_u64(&w, "output_index", e->s->items - 1);
        lr_put_raw(&w, "item", json);
        LR_TRY(send(e, &w));
    }
    return add_to_list(&e->s->output, json);
}

/* The open piece: of a message's content, or of a summary. */
static int put_piece(struct enc *e, struct lr_jw *w, bool over)
{
    struct lr_responses_enc *s = e->s;
    struct lr_str none = {NULL, 0}, t = over ? lr_buf_str(&s->text) : none;
    if (s->part.sub != LR_PART_TEXT) {
        bool refusal = s->part.sub == LR_PART_REFUSAL;
        lr_put_type(w, refusal ? "refusal" : "summary_text");
        lr_put_str(w, refusal ? "refusal" : "text", t);
        lr_jw_end(w);
        return 0;
    }
    lr_put_type(w, "output_text");
    lr_put_str(w, "text", t);
    lr_put_arr(w, "annotations");
    struct lr_event ev;
    struct lr_str log = over ? lr_buf_str(&s->extras) : none;
    int rc;
    bool any = false;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (!lr_str_is(ev.a, "annotations") || ev.part != s->part.part || ev.b.n < 2)
            continue;
        if (any)
            (void)lr_buf_addc(w->b, ','); /* failures stick in the buffer */
        any = true;
        (void)lr_buf_add(w->b, ev.b.p + 1, ev.b.n - 2);
    }
    lr_jw_end(w);
    put_list(w, "logprobs", over ? lr_buf_str(&s->logprobs) : none);
    lr_jw_end(w);
    return rc;
}

static int send_piece(struct enc *e, const char *type, const char *index, bool over)
{
    struct lr_jw w = open_item_event(e, type, index);
    lr_jw_key(&w, "part");
    LR_TRY(put_piece(e, &w, over));
    return send(e, &w);
}

/* ---- writing: events ------------------------------------------------------------------------- */

static int begin(struct enc *e, const struct lr_event *ev)
{
    lr_buf_reset(&e->s->answer_id);
    lr_id_answer(e->o, "resp_", ev->a, &e->s->answer_id);
    LR_TRY(e->s->answer_id.rc);
    LR_TRY(lr_keep(&e->s->model, ev->b));
    LR_TRY(send_response(e, "response.created", false));
    return send_response(e, "response.in_progress", false);
}

/* Does a part go on with the open item? */
static bool goes_on(const struct lr_responses_enc *s, enum lr_responses_item item,
                    struct lr_str own)
{
    if (s->item != item || !lr_str_eq(lr_buf_str(&s->own_id), own))
        return false;
    return item == LR_ITEM_MESSAGE || own.n;
}

static int reach_item(struct enc *e, enum lr_responses_item item, struct lr_str own)
{
    if (goes_on(e->s, item, own))
        return 0;
    LR_TRY(close_item(e));
    return open_item(e, item, own);
}

/* A summary's piece opens with its first text: reasoning may be a signature alone. */
static int reach_summary(struct enc *e, bool with_text)
{
    struct lr_responses_enc *s = e->s;
    if (!s->reached)
        LR_TRY(reach_item(e, LR_ITEM_REASONING, lr_buf_str(&s->call_id)));
    s->reached = true;
    if (!with_text || s->text.len)
        return 0;
    return send_piece(e, "response.reasoning_summary_part.added", "summary_index", false);
}

static int on_part(struct enc *e, const struct lr_event *ev)
{
    struct lr_responses_enc *s = e->s;
    s->part = *ev;
    s->part.a = s->part.b = (struct lr_str){NULL, 0};
    s->notes = 0;
    s->reached = false;
    lr_buf_reset(&s->text);
    switch ((enum lr_part_type)ev->sub) {
    case LR_PART_TEXT:
    case LR_PART_REFUSAL:
        LR_TRY(reach_item(e, LR_ITEM_MESSAGE, ev->a));
        return send_piece(e, "response.content_part.added", "content_index", false);
    case LR_PART_REASONING:
        return lr_keep(&s->call_id, ev->a); /* the item's own id, until it opens */
    case LR_PART_TOOL_CALL:
        LR_TRY(close_item(e));
        lr_buf_reset(&s->call_id);
        lr_id_tool(e->o, "call_", ev->a, 0, ev->part, &s->call_id);
        LR_TRY(s->call_id.rc);
        LR_TRY(lr_keep(&s->name, ev->b));
        return open_item(e, LR_ITEM_CALL, ev->a);
    default:
        return ev->dialect == LR_DIALECT_RESPONSES ? pass_item(e, ev->b) : 0;
    }
}

static int on_delta(struct enc *e, struct lr_str t)
{
    static const char *const types[] = {
        [LR_PART_TEXT] = "response.output_text.delta",
        [LR_PART_REFUSAL] = "response.refusal.delta",
        [LR_PART_REASONING] = "response.reasoning_summary_text.delta",
        [LR_PART_TOOL_CALL] = "response.function_call_arguments.delta"};
    struct lr_responses_enc *s = e->s;
    enum lr_part_type sub = (enum lr_part_type)s->part.sub;
    if (sub == LR_PART_OTHER)
        return 0;
    if (sub == LR_PART_REASONING)
        LR_TRY(reach_summary(e, true));
    LR_TRY(lr_buf_adds(&s->text, t));
    struct lr_jw w = open_item_event(e, types[sub],
                                     sub == LR_PART_TOOL_CALL   ? NULL
                                     : sub == LR_PART_REASONING ? "summary_index"
                                                                : "content_index");
    lr_put_str(&w, "delta", t);
    if (sub == LR_PART_TEXT)
        put_list(&w, "logprobs", (struct lr_str){NULL, 0});
    return send(e, &w);
}

/* The events that close a piece, and its place in the item. */
static int end_piece(struct enc *e, const char *done, const char *member, const char *part_done,
                     const char *index)
{
    struct lr_responses_enc *s = e->s;
    struct lr_jw w = open_item_event(e, done, index);
    lr_put_str(&w, member, lr_buf_str(&s->text));
    if (s->part.sub == LR_PART_TEXT)
        put_list(&w, "logprobs", lr_buf_str(&s->logprobs));
    LR_TRY(send(e, &w));
    LR_TRY(send_piece(e, part_done, index, true));
    lr_buf_reset(&s->tmp);
    lr_jw_init(&w, &s->tmp);
    LR_TRY(put_piece(e, &w, true));
    LR_TRY(s->tmp.rc);
    s->pieces++;
    if (s->part.sub == LR_PART_TEXT)
        lr_buf_reset(&s->logprobs);
    return add_to_list(&s->content, lr_buf_str(&s->tmp));
}

static int on_part_end(struct enc *e)
{
    struct lr_responses_enc *s = e->s;
    switch ((enum lr_part_type)s->part.sub) {
    case LR_PART_TEXT:
        return end_piece(e, "response.output_text.done", "text", "response.content_part.done",
                         "content_index");
    case LR_PART_REFUSAL:
        return end_piece(e, "response.refusal.done", "refusal", "response.content_part.done",
                         "content_index");
    case LR_PART_REASONING:
        if (!s->text.len)
            return 0;
        return end_piece(e, "response.reasoning_summary_text.done", "text",
                         "response.reasoning_summary_part.done", "summary_index");
    case LR_PART_TOOL_CALL: {
        struct lr_jw w = open_item_event(e, "response.function_call_arguments.done", NULL);
        lr_put_str(&w, "name", lr_buf_str(&s->name));
        lr_put_str(&w, "arguments", lr_buf_str(&s->text));
        LR_TRY(send(e, &w));
        return close_item(e);
    }
    default:
        return 0;
    }
}

static int on_sign(struct enc *e, const struct lr_event *ev)
{
    if (ev->dialect != LR_DIALECT_RESPONSES || e->s->part.sub != LR_PART_REASONING)
        return 0;
    LR_TRY(reach_summary(e, false));
    return lr_buf_adds(&e->s->sign, ev->a);
}

/* An event we do not know, with our sequence number. */
static int pass_event(struct enc *e, const struct lr_event *ev)
{
    static const char *const but[] = {"type", "sequence_number", NULL};
    struct lr_arena a;
    struct lr_json *v;
    if (e->s->whole)
        return 0;
    int rc = lr_parse_apart(&a, ev->b, &v);
    if (!rc) {
        struct lr_jw w = open_event(e, ev->a);
        lr_put_others(&w, v, but);
        rc = send(e, &w);
    }
    lr_arena_free(&a);
    return rc;
}

/* A list of annotations, one event each. */
static int send_annotations(struct enc *e, struct lr_str list)
{
    static const char type[] = "response.output_text.annotation.added";
    struct lr_arena a;
    struct lr_json *v;
    int rc = lr_parse_apart(&a, list, &v);
    for (const struct lr_json *n = rc ? NULL : v->child; n && !rc; n = n->next) {
        struct lr_jw w = open_item_event(e, type, "content_index");
        lr_put_u64(&w, "annotation_index", e->s->notes++);
        lr_put_node(&w, "annotation", n);
        rc = send(e, &w);
    }
    lr_arena_free(&a);
    return rc;
}

static int on_extra(struct enc *e, const struct lr_event *ev)
{
    switch ((enum lr_extra_scope)ev->sub) {
    case LR_SCOPE_TOP:
    case LR_SCOPE_USAGE:
        return lr_event_append(&e->s->top, ev);
    case LR_SCOPE_PART:
        if (e->s->item == LR_ITEM_MESSAGE && e->s->part.sub == LR_PART_TEXT &&
            ev->part == e->s->part.part && lr_str_is(ev->a, "annotations") && !e->s->whole)
            LR_TRY(send_annotations(e, ev->b));
        return lr_event_append(&e->s->extras, ev);
    case LR_SCOPE_EVENT:
        return pass_event(e, ev);
    default:
        return 0;
    }
}

/* [a,b] into the list of the open part. */
static int on_logprobs(struct enc *e, const struct lr_event *ev)
{
    struct lr_str t = lr_str_trim(ev->a);
    if (ev->sub || t.n < 2 || t.p[0] != '[')
        return 0;
    t = lr_str_trim(lr_str(t.p + 1, t.n - 2));
    return t.n ? add_to_list(&e->s->logprobs, t) : 0;
}

static int on_end(struct enc *e)
{
    LR_TRY(close_item(e));
    if (!e->s->whole)
        return send_response(e, cut_reason(e->s).n ? "response.incomplete" : "response.completed",
                             true);
    struct lr_jw w;
    lr_jw_init(&w, e->out);
    LR_TRY(put_response(e, &w, true));
    return e->out->rc;
}

static int on_error(struct enc *e, const struct lr_event *ev)
{
    struct lr_jw w = open_event(e, LR_STR("error"));
    lr_put_str(&w, "code", ev->a.n ? ev->a : LR_STR("server_error"));
    lr_put_str(&w, "message", ev->b);
    lr_put_null(&w, "param");
    return send(e, &w);
}

static int on_event(struct enc *e, const struct lr_event *ev)
{
    switch (ev->type) {
    case LR_EV_START:
        return begin(e, ev);
    case LR_EV_PART:
        return on_part(e, ev);
    case LR_EV_DELTA:
        return on_delta(e, ev->a);
    case LR_EV_SIGN:
        return on_sign(e, ev);
    case LR_EV_PART_END:
        return on_part_end(e);
    case LR_EV_LOGPROBS:
        return on_logprobs(e, ev);
    case LR_EV_FINISH:
        e->s->finish = *ev;
        return lr_keep(&e->s->reason, ev->b);
    case LR_EV_USAGE:
        lr_usage_add(&e->s->usage, &ev->usage);
        return 0;
    case LR_EV_EXTRA:
        return on_extra(e, ev);
    case LR_EV_ERROR:
        return on_error(e, ev);
    case LR_EV_END:
        return on_end(e);
    case LR_EV_VECTOR:
    case LR_EV_BYTES:
        break;
    }
    return 0;
}

int lr_responses_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                            struct lr_buf *out)
{
    struct enc e = {.s = state, .o = o, .out = out};
    if (!e.s->ready)
        set_up(e.s);
    return ev->choice ? 0 : on_event(&e, ev); /* one choice can be shown */
}

int lr_responses_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    struct lr_responses_enc s = {.whole = true};
    struct enc e = {.s = &s, .o = o, .out = out};
    struct lr_event ev;
    int rc, done = 0;
    set_up(&s);
    while (!done && (rc = lr_event_next(&log, &ev)) == 1)
        done = ev.choice ? 0 : on_event(&e, &ev);
    lr_responses_enc_close(&s);
    return done ? done : rc;
}
