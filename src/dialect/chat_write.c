/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat_write.c - OpenAI Chat Completions: requests of other dialects, written.
 *
 * The canonical form is spelled out. What has no counterpart is refused by name, except what
 * cannot change the answer, which is dropped by name:
 *
 *   - reasoning of earlier turns: Chat upstreams neither need nor accept it
 *   - is_error of a tool result: its text says so
 *   - cache_control and the like (`droppable`)
 *
 * The token limit is written as max_completion_tokens, the name the reference gives since
 * max_tokens was deprecated (and refused for reasoning models). top_k is no member of the
 * reference, but nearly every other server that speaks Chat takes it: it is written and the
 * upstream decides.
 */
#include "dialect/chat_int.h"

struct to {
    struct lr_jw w;
    const struct lr_request *r;
    struct lr_buf *dropped;
    struct lr_err *err;
};

static int refuse(const struct to *t, const char *where, const char *what)
{
    return lr_err_set(t->err, LR_EUNSUPPORTED, where, "%s has no counterpart in chat", what);
}

/* Extras of another dialect: dropped where they cannot change the answer, else refused by name. */
static int leave_out(const struct to *t, const struct lr_extra *list, const char *where)
{
    static const char *const droppable[] = {"cache_control", "citations", "id", "status",
                                            "annotations",   "logprobs",  NULL};
    const struct lr_json *kept;
    LR_TRY(lr_drop_extras(list, droppable, t->dropped, &kept));
    if (!kept)
        return 0;
    return lr_err_set(t->err, LR_EUNSUPPORTED, where, "`%.*s` has no counterpart in chat",
                      LR_FMT(kept->key));
}

static int write_image(struct to *t, const struct lr_part *p)
{
    lr_put_type(&t->w, "image_url");
    lr_put_obj(&t->w, "image_url");
    LR_TRY(lr_put_url(&t->w, "url", p));
    if (p->detail.n)
        lr_put_str(&t->w, "detail", p->detail);
    lr_jw_end(&t->w);
    lr_jw_end(&t->w);
    return 0;
}

static int write_audio(struct to *t, const struct lr_part *p)
{
    if (!lr_str_starts(p->media, LR_STR("audio/")))
        return refuse(t, "messages", "audio of this type");
    lr_put_type(&t->w, "input_audio");
    lr_put_obj(&t->w, "input_audio");
    lr_put_str(&t->w, "data", p->data);
    lr_put_str(&t->w, "format", lr_str(p->media.p + 6, p->media.n - 6));
    lr_jw_end(&t->w);
    lr_jw_end(&t->w);
    return 0;
}

static int write_file(struct to *t, const struct lr_part *p)
{
    if (!p->data.n)
        return refuse(t, "messages", "a file by URL or id");
    lr_put_type(&t->w, "file");
    lr_put_obj(&t->w, "file");
    lr_put_str(&t->w, "filename", p->name.n ? p->name : LR_STR("file"));
    LR_TRY(lr_put_url(&t->w, "file_data", p));
    lr_jw_end(&t->w);
    lr_jw_end(&t->w);
    return 0;
}

static int write_part(struct to *t, const struct lr_part *p)
{
    LR_TRY(leave_out(t, p->extra, "messages"));
    switch (p->type) {
    case LR_PART_TEXT:
        lr_put_type(&t->w, "text");
        lr_put_str(&t->w, "text", p->text);
        lr_jw_end(&t->w);
        return 0;
    case LR_PART_REFUSAL:
        lr_put_type(&t->w, "refusal");
        lr_put_str(&t->w, "refusal", p->text);
        lr_jw_end(&t->w);
        return 0;
    case LR_PART_IMAGE:
        return write_image(t, p);
    case LR_PART_AUDIO:
        return write_audio(t, p);
    case LR_PART_FILE:
        return write_file(t, p);
    default:
        return refuse(t, "messages", "a content part of this type");
    }
}

/* Content is what is neither a call nor reasoning; one plain text is a string. */
static int write_content(struct to *t, const struct lr_part *parts)
{
    const struct lr_part *only = NULL;
    size_t n = 0;
    for (const struct lr_part *p = parts; p; p = p->next)
        if (p->type != LR_PART_TOOL_CALL && p->type != LR_PART_REASONING) {
            only = p;
            n++;
        }
    lr_jw_key(&t->w, "content");
    if (n == 0) {
        lr_jw_str(&t->w, LR_STR(""));
        return 0;
    }
    if (n == 1 && only->type == LR_PART_TEXT) {
        lr_jw_str(&t->w, only->text);
        return leave_out(t, only->extra, "messages");
    }
    lr_jw_arr(&t->w);
    for (const struct lr_part *p = parts; p; p = p->next)
        if (p->type != LR_PART_TOOL_CALL && p->type != LR_PART_REASONING)
            LR_TRY(write_part(t, p));
    lr_jw_end(&t->w);
    return 0;
}

static int write_calls(struct to *t, const struct lr_part *parts)
{
    bool any = false;
    for (const struct lr_part *p = parts; p; p = p->next) {
        if (p->type == LR_PART_REASONING)
            LR_TRY(lr_dropped(t->dropped, LR_STR("reasoning")));
        if (p->type != LR_PART_TOOL_CALL)
            continue;
        if (!any) {
            lr_put_arr(&t->w, "tool_calls");
            any = true;
        }
        LR_TRY(leave_out(t, p->extra, "messages"));
        lr_jw_obj(&t->w);
        lr_put_str(&t->w, "id", p->id);
        lr_put_str(&t->w, "type", LR_STR("function"));
        lr_put_obj(&t->w, "function");
        lr_put_str(&t->w, "name", p->name);
        lr_put_str(&t->w, "arguments", p->text);
        lr_jw_end(&t->w);
        lr_jw_end(&t->w);
    }
    if (any)
        lr_jw_end(&t->w);
    return 0;
}

static int write_results(struct to *t, const struct lr_msg *m)
{
    for (const struct lr_part *p = m->parts; p; p = p->next) {
        if (p->type != LR_PART_TOOL_RESULT)
            return refuse(t, "messages", "a tool message without results");
        LR_TRY(leave_out(t, p->extra, "messages"));
        if (p->is_error)
            LR_TRY(lr_dropped(t->dropped, LR_STR("is_error")));
        for (const struct lr_part *c = p->parts; c; c = c->next)
            if (c->type != LR_PART_TEXT)
                return refuse(t, "messages", "a tool result that is not text");
        lr_jw_obj(&t->w);
        lr_put_str(&t->w, "role", LR_STR("tool"));
        lr_put_str(&t->w, "tool_call_id", p->id);
        LR_TRY(write_content(t, p->parts));
        lr_jw_end(&t->w);
    }
    return 0;
}

static int write_message(struct to *t, const struct lr_msg *m)
{
    LR_TRY(leave_out(t, m->extra, "messages"));
    if (m->role == LR_ROLE_TOOL)
        return write_results(t, m);
    lr_jw_obj(&t->w);
    lr_put_str(&t->w, "role", lr_strz(lr_role_name(m->role)));
    if (m->name.n)
        lr_put_str(&t->w, "name", m->name);
    LR_TRY(write_content(t, m->parts));
    if (m->role == LR_ROLE_ASSISTANT)
        LR_TRY(write_calls(t, m->parts));
    lr_jw_end(&t->w);
    return 0;
}

static int write_tools(struct to *t)
{
    if (!t->r->tools)
        return 0;
    lr_put_arr(&t->w, "tools");
    for (const struct lr_tool *k = t->r->tools; k; k = k->next) {
        if (k->json)
            return refuse(t, "tools", "a tool that is no function");
        LR_TRY(leave_out(t, k->extra, "tools"));
        lr_jw_obj(&t->w);
        lr_put_str(&t->w, "type", LR_STR("function"));
        lr_put_obj(&t->w, "function");
        lr_put_str(&t->w, "name", k->name);
        if (k->description.n)
            lr_put_str(&t->w, "description", k->description);
        lr_put_node(&t->w, "parameters", k->schema);
        lr_put_node(&t->w, "strict", k->strict);
        lr_jw_end(&t->w);
        lr_jw_end(&t->w);
    }
    lr_jw_end(&t->w);
    return 0;
}

static void write_tool_choice(struct to *t)
{
    const struct lr_request *r = t->r;
    lr_put_choice_word(&t->w, r->tool_choice);
    if (r->tool_choice == LR_TOOL_CHOICE_NAMED) {
        lr_jw_key(&t->w, "tool_choice");
        lr_put_type(&t->w, "function");
        lr_put_obj(&t->w, "function");
        lr_put_str(&t->w, "name", r->tool_choice_name);
        lr_jw_end(&t->w);
        lr_jw_end(&t->w);
    }
    if (r->parallel_tools)
        lr_put_bool(&t->w, "parallel_tool_calls", !r->parallel_off);
}

static void write_format(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->format == LR_FORMAT_ABSENT)
        return;
    lr_jw_key(&t->w, "response_format");
    lr_put_type(&t->w, lr_format_word(r->format));
    if (r->format == LR_FORMAT_SCHEMA) {
        lr_put_obj(&t->w, "json_schema");
        lr_put_schema(&t->w, r);
        lr_jw_end(&t->w);
    }
    lr_jw_end(&t->w);
}

static void write_sampling(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->max_tokens)
        lr_put_u64(&t->w, "max_completion_tokens", r->max_tokens);
    lr_put_node(&t->w, "temperature", r->temperature);
    lr_put_node(&t->w, "top_p", r->top_p);
    lr_put_node(&t->w, "top_k", r->top_k);
    lr_put_node(&t->w, "presence_penalty", r->presence_penalty);
    lr_put_node(&t->w, "frequency_penalty", r->frequency_penalty);
    lr_put_node(&t->w, "seed", r->seed);
    lr_put_node(&t->w, "logit_bias", r->logit_bias);
    if (r->logprobs || r->top_logprobs)
        lr_put_bool(&t->w, "logprobs", !lr_json_is(r->logprobs, LR_JSON_FALSE));
    lr_put_node(&t->w, "top_logprobs", r->top_logprobs);
    if (r->effort.n)
        lr_put_str(&t->w, "reasoning_effort", r->effort);
    if (r->n_stop)
        lr_put_texts(&t->w, "stop", r->stop, r->n_stop);
    if (r->n_given)
        lr_put_u64(&t->w, "n", r->n);
}

static void write_stream(struct to *t)
{
    if (!t->r->stream)
        return;
    lr_put_bool(&t->w, "stream", true);
    lr_put_obj(&t->w, "stream_options");
    lr_put_bool(&t->w, "include_usage", true);
    lr_jw_end(&t->w);
}

static int write_quiet(struct to *t)
{
    static const char *const written[] = {"user", "safety_identifier", "stream_options", NULL};
    if (t->r->user.n)
        lr_put_str(&t->w, "user", t->r->user);
    return lr_drop_quiet(t->r, written, t->dropped);
}

int lr_chat_write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                  struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err)
{
    (void)default_max_tokens; /* Chat's limit is optional */
    struct to t = {.r = r, .dropped = dropped, .err = err};
    LR_TRY(leave_out(&t, r->extra, "request"));
    lr_jw_init(&t.w, out);
    lr_jw_obj(&t.w);
    lr_put_str(&t.w, "model", model);
    lr_put_arr(&t.w, "messages");
    for (const struct lr_msg *m = r->msgs; m; m = m->next)
        LR_TRY(write_message(&t, m));
    lr_jw_end(&t.w);
    LR_TRY(write_tools(&t));
    write_tool_choice(&t);
    write_format(&t);
    write_sampling(&t);
    write_stream(&t);
    LR_TRY(write_quiet(&t));
    lr_jw_end(&t.w);
    return 0;
}
