/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat_whole.c - OpenAI Chat Completions and Completions: whole answers, written.
 *
 * The log comes in compact form, so a choice is one range of it. Each object (tool call, message,
 * choice, usage) is written from its canonical events first; where extras belong inside it, it is
 * then merged with them (merge.c): an extra is the object {"name": value}, or {"function": {"x":
 * value}} for a dotted name, and the merge puts pieces together as clients do with deltas; no
 * member can thus appear twice. Without extras nothing is read again.
 */
#include "dialect/chat_int.h"

struct lr_str lr_chat_finish_name(const struct lr_event *ev)
{
    switch ((enum lr_finish)ev->sub) {
    case LR_FINISH_LENGTH:
    case LR_FINISH_PAUSE: /* not finished, the client has to know that much */
        return LR_STR("length");
    case LR_FINISH_TOOL:
        return LR_STR("tool_calls");
    case LR_FINISH_FILTER:
    case LR_FINISH_REFUSAL:
        return LR_STR("content_filter");
    case LR_FINISH_OTHER:
        return ev->b.n ? ev->b : LR_STR("stop");
    case LR_FINISH_STOP:
    case LR_FINISH_STOP_SEQUENCE:
        break;
    }
    return LR_STR("stop");
}

/* ---- extras --------------------------------------------------------------------------------- */

/* {"name": value}, nested where the name is dotted with a member that holds extras of its own. */
static int wrap(struct lr_buf *b, const struct lr_event *ev)
{
    static const char *const outer[] = {"function", "logprobs", "prompt_tokens_details",
                                        "completion_tokens_details"};
    struct lr_str inner = ev->a, head = lr_str_cut(&inner, '.');
    bool nested = false;
    for (size_t i = 0; i < LR_COUNT(outer) && inner.p; i++)
        nested |= lr_str_is(head, outer[i]);
    struct lr_jw w;
    lr_jw_init(&w, b);
    lr_jw_obj(&w);
    if (nested) {
        lr_jw_key_str(&w, head);
        lr_jw_obj(&w);
    }
    lr_jw_key_str(&w, nested ? inner : ev->a);
    lr_jw_raw(&w, ev->b);
    if (nested)
        lr_jw_end(&w);
    lr_jw_end(&w);
    return b->rc;
}

struct pick {
    enum lr_dialect_id dialect;
    enum lr_extra_scope scope;
    int part; /* -1: any */
};

static bool picked(const struct pick *p, const struct lr_event *ev)
{
    return ev->type == LR_EV_EXTRA && ev->dialect == p->dialect && ev->sub == p->scope &&
           (p->part < 0 || ev->part == p->part);
}

/* Appends to out the object `base` with the picked extras of a log merged into it. */
static int add_extras(struct lr_str base, const struct pick *p, struct lr_str log,
                      struct lr_buf *out)
{
    struct lr_buf b;
    lr_buf_init(&b, log.n * 7 + 1024); /* escapes; the wrapping is shorter than a record's head */
    struct lr_merge m;
    lr_merge_open(&m, base.n + log.n * 2);
    struct lr_event ev;
    int rc = lr_merge_add(&m, base), found = 0, more;
    while (!rc && (more = lr_event_next(&log, &ev)) == 1) {
        if (!picked(p, &ev))
            continue;
        found = 1;
        lr_buf_reset(&b);
        struct lr_str piece = {0};
        rc = wrap(&b, &ev);
        if (!rc)
            rc = lr_arena_copy(&m.a, lr_buf_str(&b), &piece);
        if (!rc)
            rc = lr_merge_add(&m, piece);
    }
    if (!rc)
        rc = found ? lr_merge_write(&m, out) : lr_buf_adds(out, base);
    lr_merge_close(&m);
    lr_buf_free(&b);
    return rc;
}

static bool any_extras(const struct pick *p, struct lr_str log)
{
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1)
        if (picked(p, &ev))
            return true;
    return false;
}

/* Makes the object in out[from, end) the one with its extras. */
static int settle(struct lr_buf *out, size_t from, const struct pick *p, struct lr_str log)
{
    if (out->rc || !any_extras(p, log))
        return out->rc;
    struct lr_buf merged;
    lr_buf_init(&merged, out->max);
    int rc = add_extras(lr_str(out->p + from, out->len - from), p, log, &merged);
    if (!rc) {
        out->len = from;
        rc = lr_buf_adds(out, lr_buf_str(&merged));
    }
    lr_buf_free(&merged);
    return rc;
}

int lr_chat_write_usage(const struct lr_usage *u, enum lr_dialect_id d, struct lr_str log,
                        struct lr_buf *out)
{
    size_t from = out->len;
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_put_u64(&w, "prompt_tokens", u->input);
    if (u->output || d != LR_DIALECT_EMBEDDING) { /* vectors are no tokens */
        lr_put_u64(&w, "completion_tokens", u->output);
    }
    lr_put_u64(&w, "total_tokens",
               u->output > UINT64_MAX - u->input ? UINT64_MAX : u->input + u->output);
    if (u->cached_input || u->written_input) {
        lr_put_obj(&w, "prompt_tokens_details");
        lr_put_u64(&w, "cached_tokens", u->cached_input);
        if (u->written_input)
            lr_put_u64(&w, "cache_write_tokens", u->written_input);
        lr_jw_end(&w);
    }
    if (u->reasoning) {
        lr_put_obj(&w, "completion_tokens_details");
        lr_put_u64(&w, "reasoning_tokens", u->reasoning);
        lr_jw_end(&w);
    }
    lr_jw_end(&w);
    struct pick p = {d, LR_SCOPE_USAGE, -1};
    return settle(out, from, &p, log);
}

/* ---- a choice ------------------------------------------------------------------------------- */

/* Texts of all parts of a type, end to end; *n counts the parts. name: b of the first. */
static int gather(struct lr_str log, enum lr_part_type type, struct lr_buf *text, size_t *n,
                  struct lr_str *name)
{
    struct lr_event ev;
    bool mine = false;
    *n = 0;
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type == LR_EV_PART) {
            mine = ev.sub == type;
            if (mine && ++*n == 1)
                *name = ev.b;
        } else if (ev.type == LR_EV_DELTA && mine) {
            LR_TRY(lr_buf_adds(text, ev.a));
        }
    }
    return 0;
}

/* Is the block one of tool_calls (else it is one of content)? */
static int is_call(struct lr_str block, bool *call)
{
    struct lr_arena a;
    struct lr_json *v;
    int rc = lr_parse_apart(&a, block, &v);
    if (!rc)
        *call = lr_json_is(lr_json_get(v, "custom"), LR_JSON_OBJECT);
    lr_arena_free(&a);
    return rc;
}

struct shape {
    size_t calls, others; /* tool calls of any kind; content blocks of unknown types */
};

static bool other(const struct lr_event *ev)
{
    return ev->type == LR_EV_PART && ev->sub == LR_PART_OTHER && ev->dialect == LR_DIALECT_CHAT;
}

static int look(struct lr_str log, struct shape *s)
{
    struct lr_event ev;
    *s = (struct shape){0};
    while (lr_event_next(&log, &ev) == 1) {
        bool call = ev.type == LR_EV_PART && ev.sub == LR_PART_TOOL_CALL;
        if (other(&ev)) {
            LR_TRY(is_call(ev.b, &call));
            s->others += !call;
        }
        s->calls += call;
    }
    return 0;
}

/* content as parts: only where a block of an unknown type has to be kept. */
static int write_parts(struct lr_jw *w, struct lr_str log)
{
    struct lr_event ev;
    enum lr_part_type type = 0;
    bool call = true;
    lr_jw_arr(w);
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type == LR_EV_PART)
            type = (enum lr_part_type)ev.sub;
        if (other(&ev)) {
            LR_TRY(is_call(ev.b, &call));
            if (!call)
                lr_jw_raw(w, ev.b);
        }
        if (ev.type != LR_EV_DELTA || type != LR_PART_TEXT)
            continue;
        lr_jw_obj(w);
        lr_put_str(w, "type", LR_STR("text"));
        lr_put_str(w, "text", ev.a);
        lr_jw_end(w);
    }
    lr_jw_end(w);
    return 0;
}

/* What is left of a part whose PART event was just read: in compact form it lies together. */
static struct lr_str rest_of_part(struct lr_str after)
{
    struct lr_str rest = after;
    struct lr_event ev;
    while (lr_event_next(&rest, &ev) == 1 && ev.type != LR_EV_PART_END)
        ;
    return lr_str(after.p, after.n - rest.n);
}

static int write_call(struct lr_jw *w, const struct lr_encoder_opts *o, const struct lr_event *part,
                      struct lr_str log)
{
    struct lr_event ev;
    struct lr_str first = log;
    bool text = lr_event_next(&first, &ev) == 1 && ev.type == LR_EV_DELTA;
    struct lr_buf id, call;
    lr_buf_init(&id, LR_KIB(64));
    lr_buf_init(&call, w->b->max);
    lr_id_tool(o, "call_", part->a, part->choice, part->part, &id);
    struct lr_jw c;
    lr_jw_init(&c, &call);
    lr_jw_obj(&c);
    lr_put_str(&c, "id", lr_buf_str(&id));
    lr_put_str(&c, "type", LR_STR("function"));
    lr_put_obj(&c, "function");
    lr_put_str(&c, "name", part->b);
    lr_put_str(&c, "arguments", text ? ev.a : (struct lr_str){0});
    lr_jw_end(&c);
    lr_jw_end(&c);
    struct pick p = {o->dialect, LR_SCOPE_PART, part->part};
    int rc = id.rc ? id.rc : settle(&call, 0, &p, log);
    if (!rc)
        lr_jw_raw(w, lr_buf_str(&call));
    lr_buf_free(&id);
    lr_buf_free(&call);
    return rc;
}

static int write_calls(struct lr_jw *w, const struct lr_encoder_opts *o, struct lr_str log)
{
    struct lr_str rest = log;
    struct lr_event ev;
    lr_put_arr(w, "tool_calls");
    while (lr_event_next(&rest, &ev) == 1) {
        if (ev.type == LR_EV_PART && ev.sub == LR_PART_TOOL_CALL)
            LR_TRY(write_call(w, o, &ev, rest_of_part(rest)));
        if (!other(&ev))
            continue;
        bool call = false;
        LR_TRY(is_call(ev.b, &call));
        if (call)
            lr_jw_raw(w, ev.b);
    }
    lr_jw_end(w);
    return 0;
}

/* A member made of the text of all parts of a type. Absent parts: null if `always`, else nothing.
 */
static int write_side_text(struct lr_jw *w, struct lr_str log, enum lr_part_type type,
                           const char *key, bool always)
{
    struct lr_buf text;
    size_t n;
    struct lr_str name = {0};
    lr_buf_init(&text, w->b->max);
    int rc = gather(log, type, &text, &n, &name);
    bool both = lr_str_is(name, "both"), reasoning = lr_str_is(name, "reasoning");
    if (!rc && (n || always)) {
        lr_jw_key(w, reasoning ? "reasoning" : key);
        if (n)
            lr_jw_str(w, lr_buf_str(&text));
        else
            lr_jw_null(w);
    }
    if (!rc && n && both)
        lr_put_str(w, "reasoning", lr_buf_str(&text));
    lr_buf_free(&text);
    return rc;
}

static int write_content(struct lr_jw *w, struct lr_str log, struct shape s)
{
    struct lr_buf text;
    struct lr_str name;
    size_t n;
    lr_jw_key(w, "content");
    if (s.others)
        return write_parts(w, log);
    lr_buf_init(&text, w->b->max);
    int rc = gather(log, LR_PART_TEXT, &text, &n, &name);
    if (!rc && (n || !s.calls))
        lr_jw_str(w, lr_buf_str(&text));
    else if (!rc)
        lr_jw_null(w);
    lr_buf_free(&text);
    return rc;
}

static int write_message(struct lr_jw *w, const struct lr_encoder_opts *o, struct lr_str log)
{
    struct shape s;
    LR_TRY(look(log, &s));
    struct lr_buf message;
    lr_buf_init(&message, w->b->max);
    struct lr_jw m;
    lr_jw_init(&m, &message);
    lr_jw_obj(&m);
    lr_put_str(&m, "role", LR_STR("assistant"));
    int rc = write_content(&m, log, s);
    if (!rc)
        rc = write_side_text(&m, log, LR_PART_REASONING, "reasoning_content", false);
    if (!rc)
        rc = write_side_text(&m, log, LR_PART_REFUSAL, "refusal", true);
    if (!rc && s.calls)
        rc = write_calls(&m, o, log);
    lr_jw_end(&m);
    struct pick p = {o->dialect, LR_SCOPE_MESSAGE, -1};
    if (!rc)
        rc = settle(&message, 0, &p, log);
    if (!rc)
        lr_put_raw(w, "message", lr_buf_str(&message));
    lr_buf_free(&message);
    return rc;
}

static void write_logprobs(struct lr_jw *w, bool completion, struct lr_str log)
{
    struct lr_event ev;
    bool any = false;
    lr_jw_key(w, "logprobs");
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type != LR_EV_LOGPROBS)
            continue;
        if (completion) {
            lr_jw_raw(w, ev.a);
            return;
        }
        if (!any)
            lr_jw_obj(w);
        any = true;
        lr_jw_key(w, ev.sub ? "refusal" : "content");
        lr_jw_raw(w, ev.a);
    }
    if (any)
        lr_jw_end(w);
    else
        lr_jw_null(w);
}

static void write_finish(struct lr_jw *w, struct lr_str log)
{
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type != LR_EV_FINISH)
            continue;
        lr_put_str(w, "finish_reason", lr_chat_finish_name(&ev));
        if (ev.sub == LR_FINISH_STOP_SEQUENCE && ev.a.n)
            lr_put_str(w, "stop_reason", ev.a);
        return;
    }
    lr_put_null(w, "finish_reason");
}

static int write_choice(struct lr_jw *w, const struct lr_encoder_opts *o, uint16_t index,
                        struct lr_str log)
{
    bool completion = o->dialect == LR_DIALECT_COMPLETION;
    struct lr_buf choice;
    lr_buf_init(&choice, w->b->max);
    struct lr_jw c;
    lr_jw_init(&c, &choice);
    lr_jw_obj(&c);
    lr_put_u64(&c, "index", index);
    struct lr_buf text;
    struct lr_str name;
    size_t n;
    lr_buf_init(&text, w->b->max);
    int rc = completion ? gather(log, LR_PART_TEXT, &text, &n, &name) : write_message(&c, o, log);
    if (!rc && completion)
        lr_put_str(&c, "text", lr_buf_str(&text));
    lr_buf_free(&text);
    write_logprobs(&c, completion, log);
    write_finish(&c, log);
    lr_jw_end(&c);
    struct pick p = {o->dialect, LR_SCOPE_CHOICE, -1};
    if (!rc)
        rc = settle(&choice, 0, &p, log);
    if (!rc)
        lr_jw_raw(w, lr_buf_str(&choice));
    lr_buf_free(&choice);
    return rc;
}

/* ---- the body ------------------------------------------------------------------------------- */

static bool of_choice(const struct lr_event *ev)
{
    bool top = ev->sub == LR_SCOPE_TOP || ev->sub == LR_SCOPE_USAGE || ev->sub == LR_SCOPE_EVENT;
    return (ev->type >= LR_EV_PART && ev->type <= LR_EV_FINISH) ||
           (ev->type == LR_EV_EXTRA && !top);
}

static int write_choices(struct lr_jw *w, const struct lr_encoder_opts *o, struct lr_str log)
{
    struct lr_str rest = log, from = {0};
    struct lr_event ev;
    int have = -1; /* the choice that `from` begins with */
    lr_put_arr(w, "choices");
    for (;;) {
        struct lr_str here = rest;
        int more = lr_event_next(&rest, &ev);
        LR_FAIL_IF(more < 0, more);
        bool mine = more && of_choice(&ev);
        if (have >= 0 && (!mine || ev.choice != have)) {
            LR_TRY(write_choice(w, o, (uint16_t)have, lr_str(from.p, (size_t)(here.p - from.p))));
            have = -1;
        }
        if (!more)
            break;
        if (mine && have < 0) {
            have = ev.choice;
            from = here;
        }
    }
    lr_jw_end(w);
    return 0;
}

static int write_tail(struct lr_jw *w, const struct lr_encoder_opts *o, struct lr_str log)
{
    struct lr_str rest = log;
    struct lr_event ev;
    while (lr_event_next(&rest, &ev) == 1) {
        if (ev.type == LR_EV_EXTRA && ev.sub == LR_SCOPE_TOP && ev.dialect == o->dialect) {
            lr_jw_key_str(w, ev.a);
            lr_jw_raw(w, ev.b);
        }
        if (ev.type != LR_EV_USAGE || !ev.usage.known)
            continue;
        struct lr_buf usage;
        lr_buf_init(&usage, w->b->max);
        int rc = lr_chat_write_usage(&ev.usage, o->dialect, log, &usage);
        if (!rc)
            lr_put_raw(w, "usage", lr_buf_str(&usage));
        lr_buf_free(&usage);
        LR_TRY(rc);
    }
    return 0;
}

static int write_body(const struct lr_encoder_opts *o, const char *object, const char *prefix,
                      struct lr_str log, struct lr_buf *out)
{
    struct lr_str rest = log;
    struct lr_event first = {0};
    LR_FAIL_IF(lr_event_next(&rest, &first) < 0, LR_ECORRUPT);
    bool started = first.type == LR_EV_START;
    struct lr_buf id;
    lr_buf_init(&id, LR_KIB(64));
    lr_id_answer(o, prefix, started ? first.a : (struct lr_str){0}, &id);
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_put_str(&w, "id", lr_buf_str(&id));
    int rc = id.rc;
    lr_buf_free(&id);
    LR_TRY(rc);
    lr_put_str(&w, "object", lr_strz(object));
    lr_put_u64(&w, "created", o->created_s);
    lr_put_str(&w, "model", started ? first.b : (struct lr_str){0});
    LR_TRY(write_choices(&w, o, log));
    LR_TRY(write_tail(&w, o, log));
    lr_jw_end(&w);
    return out->rc;
}

int lr_chat_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    return write_body(o, "chat.completion", "chatcmpl-", log, out);
}

int lr_completion_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    return write_body(o, "text_completion", "cmpl-", log, out);
}
