/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages_write.c - requests of other dialects, written for Anthropic's Messages API.
 *
 * Anthropic wants alternating turns, so neighbours of one role are merged into one message
 * (a TOOL message is a user turn). System and developer messages at the front become `system`;
 * later ones are written as messages of role "system" where they stand, which the API of 2026
 * knows: moving them to the front would change their meaning, and a model that takes none refuses
 * in clear words. Empty text blocks, which Anthropic refuses, are left out beside other blocks.
 * Reasoning of other providers carries no signature of Anthropic's and is dropped, and said so; a
 * refusal in the history is text. What has no counterpart is refused by its path (docs/dialects.md
 * has the table).
 */
#include "dialect/messages_int.h"

#include <stdarg.h>
#include <stdio.h>

struct wr {
    const struct lr_request *r;
    struct lr_jw w;
    struct lr_arena a; /* for looking into arguments */
    struct lr_buf *dropped;
    struct lr_err *err;
    unsigned msg; /* index among the canonical messages, the way the client counts them nearly */
};

static int refuse(struct wr *c, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(struct wr *c, const char *what, const char *fmt, ...)
{
    char path[120];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(path, sizeof path, fmt, ap); /* cut is fine */
    va_end(ap);
    return lr_err_set(c->err, LR_EUNSUPPORTED, path, "%s has no counterpart in Anthropic Messages",
                      what);
}

/* Extras of a part, message or tool: refused, but for cache_control, which gateways lend to
 * Chat. */
static int write_extras(struct wr *c, const struct lr_extra *x, const char *of)
{
    for (; x; x = x->next) {
        if (!lr_str_is(x->v->key, "cache_control"))
            return refuse(c, "this member", "messages[%u].%s%s%.*s", c->msg, of, *of ? "." : "",
                          LR_FMT(x->v->key));
        lr_jw_key_str(&c->w, x->v->key);
        lr_jw_raw(&c->w, x->v->raw);
    }
    return 0;
}

static void write_source(struct wr *c, const struct lr_part *p)
{
    lr_jw_key(&c->w, "source");
    bool plain = !p->url.n && !p->data.n && p->text.n;
    lr_put_type(&c->w, p->url.n ? "url" : plain ? "text" : "base64");
    if (p->url.n) {
        lr_put_str(&c->w, "url", p->url);
    } else {
        lr_put_str(&c->w, "media_type", p->media);
        lr_put_str(&c->w, "data", plain ? p->text : p->data);
    }
    lr_jw_end(&c->w);
}

static int write_image(struct wr *c, const struct lr_part *p)
{
    lr_put_type(&c->w, "image");
    write_source(c, p);
    if (p->detail.n && !lr_str_is(p->detail, "auto"))
        LR_TRY(lr_dropped(c->dropped, LR_STR("detail")));
    LR_TRY(write_extras(c, p->extra, "image"));
    lr_jw_end(&c->w);
    return 0;
}

static int write_file(struct wr *c, const struct lr_part *p)
{
    bool pdf = lr_str_is(p->media, "application/pdf");
    if (!pdf && !p->url.n && !(p->text.n && !p->data.n))
        return refuse(c, "a file that is no PDF", "messages[%u].content", c->msg);
    lr_put_type(&c->w, "document");
    write_source(c, p);
    if (p->name.n)
        lr_put_str(&c->w, "title", p->name);
    LR_TRY(write_extras(c, p->extra, "file"));
    lr_jw_end(&c->w);
    return 0;
}

static int write_call(struct wr *c, const struct lr_part *p)
{
    struct lr_json *args = NULL;
    struct lr_str text = lr_str_trim(p->text);
    lr_arena_reset(&c->a);
    int rc = text.n ? lr_json_parse(&c->a, text, NULL, &args, NULL) : 0;
    if (rc == LR_ENOMEM)
        return rc;
    if (text.n && !lr_json_is(args, LR_JSON_OBJECT))
        return refuse(c, "a tool call whose arguments are no JSON object",
                      "messages[%u].tool_calls", c->msg);
    lr_put_type(&c->w, "tool_use");
    lr_put_str(&c->w, "id", p->id);
    lr_put_str(&c->w, "name", p->name);
    lr_put_raw(&c->w, "input", text.n ? text : LR_STR("{}"));
    LR_TRY(write_extras(c, p->extra, "tool_calls"));
    lr_jw_end(&c->w);
    return 0;
}

static int write_part(struct wr *c, const struct lr_part *p);

static int write_result(struct wr *c, const struct lr_part *p)
{
    lr_put_type(&c->w, "tool_result");
    lr_put_str(&c->w, "tool_use_id", p->id);
    if (p->parts) {
        lr_put_arr(&c->w, "content");
        for (const struct lr_part *q = p->parts; q; q = q->next)
            if (q->type != LR_PART_TEXT || q->text.n)
                LR_TRY(write_part(c, q));
        lr_jw_end(&c->w);
    }
    if (p->is_error)
        lr_put_bool(&c->w, "is_error", true);
    LR_TRY(write_extras(c, p->extra, "tool_result"));
    lr_jw_end(&c->w);
    return 0;
}

static int write_part(struct wr *c, const struct lr_part *p)
{
    switch (p->type) {
    case LR_PART_TEXT:
    case LR_PART_REFUSAL:
        lr_put_type(&c->w, "text");
        lr_put_str(&c->w, "text", p->text);
        LR_TRY(write_extras(c, p->extra, "content"));
        lr_jw_end(&c->w);
        return 0;
    case LR_PART_REASONING:
        return lr_dropped(c->dropped, LR_STR("reasoning"));
    case LR_PART_IMAGE:
        return write_image(c, p);
    case LR_PART_FILE:
        return write_file(c, p);
    case LR_PART_TOOL_CALL:
        return write_call(c, p);
    case LR_PART_TOOL_RESULT:
        return write_result(c, p);
    case LR_PART_AUDIO:
        return refuse(c, "audio", "messages[%u].content", c->msg);
    case LR_PART_OTHER:
        break;
    }
    return refuse(c, "a part of this type", "messages[%u].content", c->msg);
}

static bool is_system(const struct lr_msg *m)
{
    return m->role == LR_ROLE_SYSTEM || m->role == LR_ROLE_DEVELOPER;
}

static const char *role_of(const struct lr_msg *m)
{
    return is_system(m) ? "system" : m->role == LR_ROLE_ASSISTANT ? "assistant" : "user";
}

/* The blocks of one canonical message, into the content array that is open. */
static int write_blocks(struct wr *c, const struct lr_msg *m)
{
    bool lone = m->parts && !m->parts->next;
    if (m->name.n)
        return refuse(c, "a participant's name", "messages[%u].name", c->msg);
    for (const struct lr_part *p = m->parts; p; p = p->next) {
        bool text = p->type == LR_PART_TEXT || p->type == LR_PART_REFUSAL;
        if (is_system(m) && !text)
            return refuse(c, "a system message with more than text", "messages[%u].content",
                          c->msg);
        if (text && !p->text.n && !lone)
            continue; /* "content": "" beside tool calls: Anthropic takes no empty text */
        LR_TRY(write_part(c, p));
    }
    return 0;
}

/* The front system messages as `system`; *rest is what follows them. */
static int write_system(struct wr *c, const struct lr_msg **rest)
{
    const struct lr_msg *m = c->r->msgs;
    if (m && is_system(m)) {
        lr_put_arr(&c->w, "system");
        for (; m && is_system(m); m = m->next, c->msg++) {
            if (m->extra)
                return refuse(c, "this member", "messages[%u].%.*s", c->msg,
                              LR_FMT(m->extra->v->key));
            LR_TRY(write_blocks(c, m));
        }
        lr_jw_end(&c->w);
    }
    *rest = m;
    return 0;
}

static int write_messages(struct wr *c)
{
    const struct lr_msg *m = NULL;
    LR_TRY(write_system(c, &m));
    if (!m)
        return refuse(c, "a conversation of system messages alone", "messages");
    lr_put_arr(&c->w, "messages");
    while (m) {
        const char *role = role_of(m);
        lr_jw_obj(&c->w);
        lr_put_str(&c->w, "role", lr_strz(role));
        LR_TRY(write_extras(c, m->extra, ""));
        lr_put_arr(&c->w, "content");
        do {
            LR_TRY(write_blocks(c, m));
            m = m->next;
            c->msg++;
        } while (m && role_of(m) == role && !m->extra);
        lr_jw_end(&c->w);
        lr_jw_end(&c->w);
    }
    lr_jw_end(&c->w);
    return 0;
}

static int write_tools(struct wr *c)
{
    if (!c->r->tools)
        return 0;
    unsigned i = 0;
    lr_put_arr(&c->w, "tools");
    for (const struct lr_tool *t = c->r->tools; t; t = t->next, i++) {
        if (t->json)
            return refuse(c, "a tool that is no function", "tools[%u]", i);
        lr_jw_obj(&c->w);
        lr_put_str(&c->w, "name", t->name);
        if (t->description.n)
            lr_put_str(&c->w, "description", t->description);
        lr_put_raw(&c->w, "input_schema",
                   t->schema ? t->schema->raw : LR_STR("{\"type\":\"object\",\"properties\":{}}"));
        if (lr_json_is(t->strict, LR_JSON_TRUE))
            lr_put_bool(&c->w, "strict", true);
        for (const struct lr_extra *x = t->extra; x; x = x->next)
            if (!lr_str_is(x->v->key, "cache_control"))
                return refuse(c, "this member", "tools[%u].%.*s", i, LR_FMT(x->v->key));
        LR_TRY(write_extras(c, t->extra, ""));
        lr_jw_end(&c->w);
    }
    lr_jw_end(&c->w);
    return 0;
}

static int write_choice(struct wr *c)
{
    static const char *const names[] = {"auto", "auto", "none", "any", "tool"};
    const struct lr_request *r = c->r;
    bool serial = r->parallel_off || lr_json_is(r->parallel_tools, LR_JSON_FALSE);
    if (r->tool_choice == LR_TOOL_CHOICE_ABSENT && !(serial && r->tools))
        return 0;
    lr_jw_key(&c->w, "tool_choice");
    lr_put_type(&c->w, names[r->tool_choice]);
    if (r->tool_choice == LR_TOOL_CHOICE_NAMED)
        lr_put_str(&c->w, "name", r->tool_choice_name);
    if (serial && r->tool_choice != LR_TOOL_CHOICE_NONE)
        lr_put_bool(&c->w, "disable_parallel_tool_use", true);
    lr_jw_end(&c->w);
    return 0;
}

/* Members that change the answer and that Anthropic has no place for. */
static int refuse_sampling(struct wr *c)
{
    const struct lr_request *r = c->r;
    double t = 0;
    if (r->n > 1)
        return refuse(c, "more than one choice", "n");
    if (r->temperature && lr_json_real(r->temperature, &t) && t > 1)
        return refuse(c, "a temperature above 1", "temperature");
    if (lr_weighs(r->presence_penalty))
        return refuse(c, "it", "presence_penalty");
    if (lr_weighs(r->frequency_penalty))
        return refuse(c, "it", "frequency_penalty");
    if (r->seed)
        return refuse(c, "it", "seed");
    if (r->logit_bias && r->logit_bias->n)
        return refuse(c, "it", "logit_bias");
    if (r->logprobs && r->logprobs->type != LR_JSON_FALSE)
        return refuse(c, "it", "logprobs");
    if (lr_weighs(r->top_logprobs))
        return refuse(c, "it", "top_logprobs");
    return 0;
}

static int write_output(struct wr *c)
{
    static const char *const efforts[] = {"low", "medium", "high", "xhigh", "max", NULL};
    const struct lr_request *r = c->r;
    if (r->format == LR_FORMAT_JSON)
        return refuse(c, "this format", "response_format");
    if (r->effort.n && !lr_listed(r->effort, efforts))
        return refuse(c, "this effort", "reasoning_effort");
    if (r->format != LR_FORMAT_SCHEMA && !r->effort.n)
        return 0;
    lr_put_obj(&c->w, "output_config");
    if (r->effort.n)
        lr_put_str(&c->w, "effort", r->effort);
    if (r->format == LR_FORMAT_SCHEMA) {
        if (!r->format_schema)
            return refuse(c, "a format without a schema", "response_format");
        lr_jw_key(&c->w, "format");
        lr_put_type(&c->w, "json_schema");
        lr_put_raw(&c->w, "schema", r->format_schema->raw);
        lr_jw_end(&c->w);
    }
    lr_jw_end(&c->w);
    return 0;
}

static int write_numbers(struct wr *c)
{
    const struct lr_request *r = c->r;
    lr_put_node(&c->w, "temperature", r->temperature);
    lr_put_node(&c->w, "top_p", r->top_p);
    lr_put_node(&c->w, "top_k", r->top_k);
    if (r->n_stop)
        lr_put_texts(&c->w, "stop_sequences", r->stop, r->n_stop);
    return write_output(c);
}

/* Who asks; and the members known to be quiet: dropped by name. */
static int write_quiet(struct wr *c)
{
    static const char *const written[] = {"user", "safety_identifier", "stream_options", NULL};
    const struct lr_request *r = c->r;
    if (r->user.n) {
        lr_put_obj(&c->w, "metadata");
        lr_put_str(&c->w, "user_id", r->user);
        lr_jw_end(&c->w);
    }
    LR_TRY(lr_drop_quiet(r, written, c->dropped));
    return r->extra ? refuse(c, "this member", "%.*s", LR_FMT(r->extra->v->key)) : 0;
}

static int write_all(struct wr *c, struct lr_str model, uint64_t default_max_tokens)
{
    const struct lr_request *r = c->r;
    uint64_t limit = r->max_tokens ? r->max_tokens : default_max_tokens;
    if (!limit)
        return refuse(c, "an answer without a limit", "max_tokens");
    LR_TRY(refuse_sampling(c));
    lr_jw_obj(&c->w);
    lr_put_str(&c->w, "model", model);
    lr_put_u64(&c->w, "max_tokens", limit);
    LR_TRY(write_messages(c));
    LR_TRY(write_tools(c));
    LR_TRY(write_choice(c));
    LR_TRY(write_numbers(c));
    LR_TRY(write_quiet(c));
    if (r->stream)
        lr_put_bool(&c->w, "stream", true);
    lr_jw_end(&c->w);
    return c->w.b->rc;
}

int lr_messages_write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                      struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err)
{
    struct wr c = {.r = r, .dropped = dropped, .err = err};
    lr_arena_init(&c.a, LR_MIB(64));
    lr_jw_init(&c.w, out);
    int rc = write_all(&c, model, default_max_tokens);
    lr_arena_free(&c.a);
    return rc;
}
