/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat_out.c - OpenAI Chat Completions and Completions: streams, written.
 *
 *   START          -> chunk of choice 0 with the role (other choices: before their first chunk)
 *   DELTA          -> chunk
 *   PART tool call -> chunk with index, id and name
 *   FINISH         -> chunk with finish_reason
 *   END            -> [usage chunk with empty choices]  [DONE]
 *
 * What has no chunk of its own (extras, log probabilities) waits for the next chunk of its choice:
 * the reader (chat_in.c) emits it before the text it came with, so that one chunk of a Chat
 * upstream leaves as one chunk. Something of another choice, or a second value of one name, sends
 * what waits off in a chunk with an empty delta. system_fingerprint and service_tier stand in every
 * chunk, as OpenAI has them. With include_usage every chunk but the last says "usage": null,
 * likewise.
 *
 * An error is one `data: {"error": ...}` event without [DONE]: clients take it for what it is.
 */
#include "dialect/chat_int.h"

#define NO_CHOICE (-1)

struct lr_chat_enc_choice {
    bool begun;             /* the role was sent */
    enum lr_part_type open; /* kind of the part being written */
    bool call;              /* it is one of tool_calls */
    uint8_t reasoning;      /* its member: 0 reasoning_content, 1 reasoning, 2 both */
    uint16_t calls;         /* tool calls begun */
};

struct to {
    struct lr_chat_enc *e;
    const struct lr_encoder_opts *o;
    struct lr_buf *out;
};

/* ---- life ----------------------------------------------------------------------------------- */

static struct lr_buf *buffer(struct lr_chat_enc *e, size_t i)
{
    struct lr_buf *all[] = {&e->head, &e->sticky[0], &e->sticky[1], &e->delta,    &e->chunk,
                            &e->top,  &e->choice,    &e->message,   &e->logprobs, &e->usage_log};
    return i < LR_COUNT(all) ? all[i] : NULL;
}

static void open_buffers(struct lr_chat_enc *e, const struct lr_buf *out)
{
    if (e->open)
        return;
    struct lr_buf *b;
    for (size_t i = 0; (b = buffer(e, i)); i++)
        lr_buf_init(b, out->max);
    e->open = true;
}

void lr_chat_enc_close(void *state)
{
    struct lr_chat_enc *e = state;
    struct lr_buf *b;
    for (size_t i = 0; (b = buffer(e, i)); i++)
        lr_buf_free(b);
    lr_free(e->choices);
}

static int grow(struct lr_chat_enc *e, size_t n)
{
    if (n <= e->n)
        return 0;
    struct lr_chat_enc_choice *p = lr_realloc(e->choices, n * sizeof *p);
    LR_FAIL_IF(!p, LR_ENOMEM);
    memset(p + e->n, 0, (n - e->n) * sizeof *p);
    e->choices = p;
    e->n = n;
    return 0;
}

/* ---- chunks --------------------------------------------------------------------------------- */

/* Appends `,"name":value` pieces without the first comma when nothing stands before them. */
static void add_members(struct lr_buf *b, struct lr_str pieces, bool first)
{
    if (pieces.n)
        (void)lr_buf_add(b, pieces.p + first, pieces.n - first); /* failures stick in b */
}

static void add_text(struct lr_buf *b, const char *z)
{
    (void)lr_buf_addz(b, z); /* failures stick in b */
}

static void add_quoted(struct lr_buf *b, struct lr_str s)
{
    (void)lr_json_quote(b, s); /* failures stick in b */
}

/* `,"logprobs":...`, from what waits or null. */
static void add_logprobs(const struct to *t)
{
    struct lr_buf *c = &t->e->chunk;
    struct lr_str have = lr_buf_str(&t->e->logprobs);
    add_text(c, ",\"logprobs\":");
    if (!have.n) {
        add_text(c, "null");
    } else if (t->e->completion) {
        (void)lr_buf_adds(c, have); /* failures stick in c */
    } else {
        add_text(c, "{");
        add_members(c, have, true);
        add_text(c, "}");
    }
}

/* The one element of choices. finish: its JSON, with what follows it. */
static void add_choice(const struct to *t, int i, struct lr_str delta, const char *finish,
                       bool waiting)
{
    struct lr_chat_enc *e = t->e;
    struct lr_buf *c = &e->chunk;
    (void)lr_buf_addf(c, "{\"index\":%d,", i); /* failures stick in c */
    if (e->completion) {
        add_text(c, "\"text\":");
        (void)lr_buf_adds(c, delta.n ? delta : LR_STR("\"\""));
    } else {
        add_text(c, "\"delta\":{");
        (void)lr_buf_adds(c, delta);
        if (waiting)
            add_members(c, lr_buf_str(&e->message), !delta.n);
        add_text(c, "}");
    }
    if (waiting)
        add_logprobs(t);
    else
        add_text(c, ",\"logprobs\":null");
    add_text(c, ",\"finish_reason\":");
    add_text(c, finish);
    if (waiting)
        add_members(c, lr_buf_str(&e->choice), false);
    add_text(c, "}");
}

/* One chunk. i: its choice, or NO_CHOICE. waiting: takes along all that waits. usage: JSON or NULL.
 */
static int put_chunk(const struct to *t, int i, struct lr_str delta, const char *finish,
                     bool waiting, const char *usage)
{
    struct lr_chat_enc *e = t->e;
    struct lr_buf *c = &e->chunk;
    lr_buf_reset(c);
    (void)lr_buf_adds(c, lr_buf_str(&e->head)); /* failures stick in c */
    add_members(c, lr_buf_str(&e->sticky[0]), false);
    add_members(c, lr_buf_str(&e->sticky[1]), false);
    if (waiting)
        add_members(c, lr_buf_str(&e->top), false);
    add_text(c, ",\"choices\":[");
    if (i != NO_CHOICE)
        add_choice(t, i, delta, finish, waiting);
    add_text(c, "]");
    if (usage || t->o->include_usage) {
        add_text(c, ",\"usage\":");
        add_text(c, usage ? usage : "null");
    }
    add_text(c, "}");
    if (waiting) {
        lr_buf_reset(&e->top);
        lr_buf_reset(&e->choice);
        lr_buf_reset(&e->message);
        lr_buf_reset(&e->logprobs);
        e->n_waiting = 0;
    }
    return c->rc ? c->rc : lr_sse_write(t->out, (struct lr_str){0}, lr_buf_str(c));
}

static bool choice_waits(const struct lr_chat_enc *e)
{
    return e->choice.len || e->message.len || e->logprobs.len;
}

/* The role chunk of a choice, once. It takes nothing along. */
static int begin_choice(const struct to *t, uint16_t i)
{
    LR_TRY(grow(t->e, (size_t)i + 1));
    if (t->e->choices[i].begun)
        return 0;
    t->e->choices[i].begun = true;
    if (t->e->completion)
        return 0;
    return put_chunk(t, i, LR_STR("\"role\":\"assistant\",\"content\":\"\""), "null", false, NULL);
}

/* Sends what waits in a chunk with an empty delta. */
static int flush(const struct to *t)
{
    struct lr_chat_enc *e = t->e;
    if (choice_waits(e)) {
        LR_TRY(begin_choice(t, e->waiting_choice));
        return put_chunk(t, e->waiting_choice, (struct lr_str){0}, "null", true, NULL);
    }
    return e->top.len ? put_chunk(t, NO_CHOICE, (struct lr_str){0}, NULL, true, NULL) : 0;
}

/* A chunk of a choice's own: what waits for another choice goes first. */
static int put_delta(const struct to *t, uint16_t i, struct lr_str delta, const char *finish)
{
    LR_TRY(begin_choice(t, i));
    if (choice_waits(t->e) && t->e->waiting_choice != i)
        LR_TRY(flush(t));
    return put_chunk(t, i, delta, finish, true, NULL);
}

/* ---- what waits ----------------------------------------------------------------------------- */

/* Room for one more member: sends off what waits if it is another choice's, or has the name
 * already. */
static int wait_for(const struct to *t, const struct lr_event *ev, uint64_t scope, bool of_choice)
{
    struct lr_chat_enc *e = t->e;
    uint64_t name = lr_hash64(ev->a, scope);
    bool again = e->n_waiting == LR_COUNT(e->waiting);
    if (ev->type == LR_EV_LOGPROBS)
        name = lr_hash64(LR_STR("logprobs"), 16 + ev->sub);
    for (size_t i = 0; i < e->n_waiting && !again; i++)
        again = e->waiting[i] == name;
    if (again || (of_choice && choice_waits(e) && e->waiting_choice != ev->choice))
        LR_TRY(flush(t));
    if (of_choice)
        e->waiting_choice = ev->choice;
    e->waiting[e->n_waiting++] = name;
    return 0;
}

static int add_waiting(struct lr_buf *b, struct lr_str name, struct lr_str value)
{
    add_text(b, ",");
    add_quoted(b, name);
    add_text(b, ":");
    return lr_buf_adds(b, value);
}

static int on_logprobs(const struct to *t, const struct lr_event *ev)
{
    struct lr_chat_enc *e = t->e;
    LR_TRY(wait_for(t, ev, 0, true));
    if (e->completion)
        return lr_buf_adds(&e->logprobs, ev->a);
    return add_waiting(&e->logprobs, ev->sub ? LR_STR("refusal") : LR_STR("content"), ev->a);
}

static int on_top(const struct to *t, const struct lr_event *ev)
{
    bool fingerprint = lr_str_is(ev->a, "system_fingerprint");
    if (!fingerprint && !lr_str_is(ev->a, "service_tier")) {
        LR_TRY(wait_for(t, ev, LR_SCOPE_TOP, false));
        return add_waiting(&t->e->top, ev->a, ev->b);
    }
    struct lr_buf *b = &t->e->sticky[fingerprint];
    size_t k = ev->a.n + 4; /* ,"": */
    if (b->len > k && lr_json_is_void(ev->b) && !lr_json_is_void(lr_str(b->p + k, b->len - k)))
        return 0; /* takes nothing back */
    lr_buf_reset(b);
    return add_waiting(b, ev->a, ev->b);
}

/* A member of the open tool call: a fragment of its own. */
static int on_call_extra(const struct to *t, const struct lr_event *ev)
{
    struct lr_chat_enc_choice *c = &t->e->choices[ev->choice];
    if (!c->call || c->open != LR_PART_TOOL_CALL)
        return 0;
    struct lr_buf *d = &t->e->delta;
    bool nested = lr_str_starts(ev->a, LR_STR("function."));
    struct lr_str name = nested ? lr_str(ev->a.p + 9, ev->a.n - 9) : ev->a;
    lr_buf_reset(d);
    (void)lr_buf_addf(d, "\"tool_calls\":[{\"index\":%d,", c->calls - 1); /* failures stick in d */
    add_text(d, nested ? "\"function\":{" : "");
    add_quoted(d, name);
    add_text(d, ":");
    (void)lr_buf_adds(d, ev->b);
    add_text(d, nested ? "}}]" : "}]");
    return d->rc ? d->rc : put_delta(t, ev->choice, lr_buf_str(d), "null");
}

/* Is it a name that a delta of ours may carry? (An extra of that name had an unexpected type.) */
static bool own_name(struct lr_str name)
{
    static const char *const names[] = {
        "role", "content", "reasoning_content", "refusal", "reasoning", "tool_calls", NULL};
    return lr_listed(name, names);
}

static int on_extra(const struct to *t, const struct lr_event *ev)
{
    struct lr_chat_enc *e = t->e;
    static const char dotted[] = "logprobs.";
    size_t k = sizeof dotted - 1;
    switch ((enum lr_extra_scope)ev->sub) {
    case LR_SCOPE_TOP:
        return on_top(t, ev);
    case LR_SCOPE_USAGE:
        return lr_event_append(&e->usage_log, ev);
    case LR_SCOPE_EVENT:
        return lr_sse_write(t->out, ev->a, ev->b);
    case LR_SCOPE_PART:
        LR_TRY(begin_choice(t, ev->choice));
        return on_call_extra(t, ev);
    case LR_SCOPE_MESSAGE:
        LR_TRY(wait_for(t, ev, LR_SCOPE_MESSAGE, true));
        LR_TRY(add_waiting(&e->message, ev->a, ev->b));
        return own_name(ev->a) ? flush(t) : 0;
    case LR_SCOPE_CHOICE:
        break;
    }
    LR_TRY(wait_for(t, ev, LR_SCOPE_CHOICE, true));
    if (!e->completion && lr_str_starts(ev->a, lr_str(dotted, k)))
        return add_waiting(&e->logprobs, lr_str(ev->a.p + k, ev->a.n - k), ev->b);
    return add_waiting(&e->choice, ev->a, ev->b);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static int begin_call(const struct to *t, const struct lr_event *ev)
{
    struct lr_chat_enc_choice *c = &t->e->choices[ev->choice];
    struct lr_buf *d = &t->e->delta, id;
    lr_buf_init(&id, LR_KIB(64));
    lr_id_tool(t->o, "call_", ev->a, ev->choice, ev->part, &id);
    lr_buf_reset(d);
    (void)lr_buf_addf(d,
                      "\"tool_calls\":[{\"index\":%d,\"id\":", c->calls); /* failures stick in d */
    add_quoted(d, lr_buf_str(&id));
    add_text(d, ",\"type\":\"function\",\"function\":{\"name\":");
    add_quoted(d, ev->b);
    add_text(d, ",\"arguments\":\"\"}}]");
    int rc = id.rc ? id.rc : d->rc;
    lr_buf_free(&id);
    c->call = true;
    c->calls++;
    return rc ? rc : put_delta(t, ev->choice, lr_buf_str(d), "null");
}

/* A block of an unknown type, whole: a custom tool call, or a part of content. */
static int put_other(const struct to *t, const struct lr_event *ev)
{
    struct lr_chat_enc_choice *c = &t->e->choices[ev->choice];
    struct lr_buf *d = &t->e->delta;
    if (ev->dialect != LR_DIALECT_CHAT || t->e->completion)
        return 0;
    struct lr_arena a;
    struct lr_json *v;
    int rc = lr_parse_apart(&a, ev->b, &v);
    lr_buf_reset(d);
    if (!rc && lr_json_is(lr_json_get(v, "custom"), LR_JSON_OBJECT)) {
        (void)lr_buf_addf(d, "\"tool_calls\":[{\"index\":%d", c->calls++); /* failures stick in d */
        for (const struct lr_json *m = v->child; m; m = m->next)
            if (!lr_str_is(m->key, "index"))
                (void)add_waiting(d, m->key, m->raw);
        add_text(d, "}]");
    } else if (!rc) {
        add_text(d, "\"content\":[");
        (void)lr_buf_adds(d, ev->b);
        add_text(d, "]");
    }
    lr_arena_free(&a);
    LR_TRY(rc);
    return d->rc ? d->rc : put_delta(t, ev->choice, lr_buf_str(d), "null");
}

static int on_part(const struct to *t, const struct lr_event *ev)
{
    LR_TRY(begin_choice(t, ev->choice));
    struct lr_chat_enc_choice *c = &t->e->choices[ev->choice];
    c->open = (enum lr_part_type)ev->sub;
    c->call = false;
    if (c->open == LR_PART_REASONING)
        c->reasoning = lr_str_is(ev->b, "both") ? 2 : lr_str_is(ev->b, "reasoning");
    if (c->open == LR_PART_OTHER)
        return put_other(t, ev);
    return c->open == LR_PART_TOOL_CALL && !t->e->completion ? begin_call(t, ev) : 0;
}

static int on_delta(const struct to *t, const struct lr_event *ev)
{
    LR_TRY(begin_choice(t, ev->choice));
    struct lr_chat_enc_choice *c = &t->e->choices[ev->choice];
    struct lr_buf *d = &t->e->delta;
    lr_buf_reset(d);
    if (t->e->completion && c->open != LR_PART_TEXT)
        return 0;
    if (t->e->completion) {
        add_quoted(d, ev->a);
        return d->rc ? d->rc : put_delta(t, ev->choice, lr_buf_str(d), "null");
    }
    if (c->open == LR_PART_TOOL_CALL) /* failures stick in d */
        (void)lr_buf_addf(
            d, "\"tool_calls\":[{\"index\":%d,\"function\":{\"arguments\":", c->calls - 1);
    else if (c->open == LR_PART_REFUSAL)
        add_text(d, "\"refusal\":");
    else if (c->open == LR_PART_REASONING)
        add_text(d, c->reasoning == 1 ? "\"reasoning\":" : "\"reasoning_content\":");
    else if (c->open == LR_PART_TEXT)
        add_text(d, "\"content\":");
    else
        return 0;
    add_quoted(d, ev->a);
    if (c->open == LR_PART_TOOL_CALL)
        add_text(d, "}}]");
    if (c->open == LR_PART_REASONING && c->reasoning == 2) {
        add_text(d, ",\"reasoning\":");
        add_quoted(d, ev->a);
    }
    return d->rc ? d->rc : put_delta(t, ev->choice, lr_buf_str(d), "null");
}

/* ---- the answer ----------------------------------------------------------------------------- */

static int on_start(const struct to *t, const struct lr_event *ev)
{
    struct lr_buf *h = &t->e->head, id;
    bool text = t->e->completion;
    lr_buf_init(&id, LR_KIB(64));
    lr_id_answer(t->o, text ? "cmpl-" : "chatcmpl-", ev->a, &id);
    lr_buf_reset(h);
    add_text(h, "{\"id\":");
    add_quoted(h, lr_buf_str(&id));
    (void)lr_buf_addf(h, ",\"object\":\"%s\",\"created\":%llu,\"model\":",
                      text ? "text_completion" : "chat.completion.chunk",
                      (unsigned long long)t->o->created_s); /* failures stick in h */
    add_quoted(h, ev->b);
    int rc = id.rc ? id.rc : h->rc;
    lr_buf_free(&id);
    struct lr_event bare = {.type = LR_EV_START}; /* makes usage_log a log */
    if (!rc)
        rc = lr_event_append(&t->e->usage_log, &bare);
    return rc ? rc : begin_choice(t, 0);
}

static int on_finish(const struct to *t, const struct lr_event *ev)
{
    struct lr_buf b;
    bool named = ev->sub == LR_FINISH_STOP_SEQUENCE && ev->a.n;
    if (named && choice_waits(t->e)) /* an extra of that name may be among it */
        LR_TRY(flush(t));
    lr_buf_init(&b, t->out->max);
    add_quoted(&b, lr_chat_finish_name(ev));
    if (named) {
        add_text(&b, ",\"stop_reason\":");
        add_quoted(&b, ev->a);
    }
    int rc = lr_buf_addc(&b, 0);
    if (!rc)
        rc = put_delta(t, ev->choice, (struct lr_str){0}, b.p);
    lr_buf_free(&b);
    return rc;
}

static int put_usage(const struct to *t)
{
    struct lr_chat_enc *e = t->e;
    struct lr_buf log, usage;
    lr_buf_init(&usage, t->out->max);
    lr_buf_init(&log, e->usage_log.max);
    int rc = lr_answer_compact(lr_buf_str(&e->usage_log), &log);
    if (!rc)
        rc = lr_chat_write_usage(&e->usage, t->o->dialect, lr_buf_str(&log), &usage);
    if (!rc)
        rc = lr_buf_addc(&usage, 0);
    if (!rc)
        rc = put_chunk(t, NO_CHOICE, (struct lr_str){0}, NULL, true, usage.p);
    lr_buf_free(&log);
    lr_buf_free(&usage);
    return rc;
}

static int on_end(const struct to *t)
{
    bool usage = t->o->include_usage && t->e->usage.known;
    if (choice_waits(t->e) || !usage)
        LR_TRY(flush(t));
    if (usage)
        LR_TRY(put_usage(t));
    return lr_sse_write(t->out, (struct lr_str){0}, LR_STR("[DONE]"));
}

static int on_error(const struct to *t, const struct lr_event *ev)
{
    LR_TRY(flush(t));
    struct lr_buf *c = &t->e->chunk;
    lr_buf_reset(c);
    lr_error_openai(ev->status, ev->a.n ? ev->a : LR_STR("upstream_error"), ev->b, NULL, c);
    return c->rc ? c->rc : lr_sse_write(t->out, (struct lr_str){0}, lr_buf_str(c));
}

int lr_chat_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                       struct lr_buf *out)
{
    struct to t = {state, o, out};
    t.e->completion = o->dialect == LR_DIALECT_COMPLETION;
    open_buffers(t.e, out);
    switch (ev->type) {
    case LR_EV_START:
        return on_start(&t, ev);
    case LR_EV_PART:
        return on_part(&t, ev);
    case LR_EV_DELTA:
        return on_delta(&t, ev);
    case LR_EV_LOGPROBS:
        return on_logprobs(&t, ev);
    case LR_EV_FINISH:
        return on_finish(&t, ev);
    case LR_EV_USAGE:
        lr_usage_add(&t.e->usage, &ev->usage);
        return 0;
    case LR_EV_EXTRA:
        return on_extra(&t, ev);
    case LR_EV_ERROR:
        return on_error(&t, ev);
    case LR_EV_END:
        return on_end(&t);
    case LR_EV_SIGN:
    case LR_EV_PART_END:
    case LR_EV_VECTOR:
    case LR_EV_BYTES:
        break;
    }
    return 0;
}

const struct lr_dialect_ops lr_dialect_chat = {
    .name = "chat",
    .path = "/v1/chat/completions",
    .kind = LR_KIND_CHAT,
    .parse = lr_chat_parse,
    .write = lr_chat_write,
    .dec_size = sizeof(struct lr_chat_dec),
    .dec_event = lr_chat_dec_event,
    .dec_whole = lr_chat_dec_whole,
    .dec_done = lr_chat_dec_done,
    .dec_eof = lr_chat_dec_eof,
    .dec_close = lr_chat_dec_close,
    .enc_size = sizeof(struct lr_chat_enc),
    .enc_stream = lr_chat_enc_stream,
    .enc_whole = lr_chat_enc_whole,
    .enc_close = lr_chat_enc_close,
    .error = lr_error_openai,
};
