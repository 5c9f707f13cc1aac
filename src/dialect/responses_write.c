/* SPDX-License-Identifier: Apache-2.0
 * dialect/responses_write.c - OpenAI Responses: requests of other dialects, written.
 *
 * `store` is written false: Chat and Messages keep nothing unless told to, Responses does. Tools
 * without `strict` get it false for the same reason. Stop sequences, n, seed, penalties, logit bias
 * and top_k have no place and are refused; zeros say nothing and are left out. What may be dropped
 * by name is in docs/dialects.md.
 */
#include "dialect/responses_int.h"

#include <stdio.h>

struct to {
    struct lr_jw w;
    const struct lr_request *r;
    struct lr_buf *dropped;
    struct lr_err *err;
    long msg; /* index among the canonical messages; -1 outside */
};

static int refuse(const struct to *t, const char *member, const char *what)
{
    char path[120];
    int n = 0;
    if (t->msg >= 0)
        n = snprintf(path, sizeof path, "messages[%ld]%s", t->msg, *member ? "." : "");
    (void)snprintf(path + n, sizeof path - (size_t)n, "%s", member); /* cut is fine */
    return lr_err_set(t->err, LR_EUNSUPPORTED, path, "%s has no counterpart in Responses", what);
}

/* Extras of another dialect: dropped where they cannot change the answer, else refused by name. */
static int leave_out(const struct to *t, const struct lr_extra *list)
{
    static const char *const droppable[] = {"cache_control", "citations", NULL};
    const struct lr_json *kept;
    LR_TRY(lr_drop_extras(list, droppable, t->dropped, &kept));
    if (!kept)
        return 0;
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", LR_FMT(kept->key)); /* cut is fine */
    return refuse(t, name, "this member");
}

static int write_file(struct to *t, const struct lr_part *p)
{
    if (!p->url.n && !p->data.n)
        return refuse(t, "content", "a file as plain text");
    lr_put_type(&t->w, "input_file");
    if (p->url.n) {
        lr_put_str(&t->w, "file_url", p->url);
    } else {
        lr_put_str(&t->w, "filename", p->name.n ? p->name : LR_STR("file"));
        LR_TRY(lr_put_url(&t->w, "file_data", p));
    }
    lr_jw_end(&t->w);
    return 0;
}

static int write_part(struct to *t, const struct lr_part *p, bool assistant)
{
    LR_TRY(leave_out(t, p->extra));
    switch (p->type) {
    case LR_PART_TEXT:
        lr_put_type(&t->w, assistant ? "output_text" : "input_text");
        lr_put_str(&t->w, "text", p->text);
        if (assistant) {
            lr_put_arr(&t->w, "annotations");
            lr_jw_end(&t->w);
        }
        lr_jw_end(&t->w);
        return 0;
    case LR_PART_REFUSAL:
        lr_put_type(&t->w, "refusal");
        lr_put_str(&t->w, "refusal", p->text);
        lr_jw_end(&t->w);
        return 0;
    case LR_PART_IMAGE:
        lr_put_type(&t->w, "input_image");
        LR_TRY(lr_put_url(&t->w, "image_url", p));
        lr_put_str(&t->w, "detail", p->detail.n ? p->detail : LR_STR("auto"));
        lr_jw_end(&t->w);
        return 0;
    case LR_PART_FILE:
        return write_file(t, p);
    default:
        return refuse(t, "content", p->type == LR_PART_AUDIO ? "audio" : "a part of this type");
    }
}

static bool in_message(const struct lr_part *p)
{
    return p->type != LR_PART_TOOL_CALL && p->type != LR_PART_REASONING;
}

static int write_result(struct to *t, const struct lr_part *p)
{
    LR_TRY(leave_out(t, p->extra));
    if (p->is_error)
        LR_TRY(lr_dropped(t->dropped, LR_STR("is_error")));
    lr_put_type(&t->w, "function_call_output");
    lr_put_str(&t->w, "call_id", p->id);
    lr_jw_key(&t->w, "output");
    if (!p->parts || (p->parts->type == LR_PART_TEXT && !p->parts->next)) {
        lr_jw_str(&t->w, p->parts ? p->parts->text : LR_STR(""));
        LR_TRY(leave_out(t, p->parts ? p->parts->extra : NULL));
    } else {
        lr_jw_arr(&t->w);
        for (const struct lr_part *c = p->parts; c; c = c->next)
            LR_TRY(write_part(t, c, false));
        lr_jw_end(&t->w);
    }
    lr_jw_end(&t->w);
    return 0;
}

static int write_call(struct to *t, const struct lr_part *p)
{
    LR_TRY(leave_out(t, p->extra));
    lr_put_type(&t->w, "function_call");
    lr_put_str(&t->w, "call_id", p->id);
    lr_put_str(&t->w, "name", p->name);
    lr_put_str(&t->w, "arguments", p->text.n ? p->text : LR_STR("{}"));
    lr_jw_end(&t->w);
    return 0;
}

/* The part of a message that is a message item, if there is one. */
static int write_item(struct to *t, const struct lr_msg *m)
{
    bool assistant = m->role == LR_ROLE_ASSISTANT, any = false, calls = false;
    for (const struct lr_part *p = m->parts; p; p = p->next) {
        any |= in_message(p) && (p->type != LR_PART_TEXT || p->text.n);
        calls |= p->type == LR_PART_TOOL_CALL;
    }
    if (!any && calls)
        return 0;
    lr_put_type(&t->w, "message");
    lr_put_str(&t->w, "role", lr_strz(lr_role_name(m->role)));
    lr_put_arr(&t->w, "content");
    for (const struct lr_part *p = m->parts; p; p = p->next)
        if (in_message(p))
            LR_TRY(write_part(t, p, assistant));
    lr_jw_end(&t->w);
    lr_jw_end(&t->w);
    return 0;
}

static int write_message(struct to *t, const struct lr_msg *m)
{
    if (m->name.n)
        return refuse(t, "name", "a participant's name");
    LR_TRY(leave_out(t, m->extra));
    if (m->role != LR_ROLE_TOOL)
        LR_TRY(write_item(t, m));
    for (const struct lr_part *p = m->parts; p; p = p->next) {
        if (p->type == LR_PART_REASONING)
            LR_TRY(lr_dropped(t->dropped, LR_STR("reasoning")));
        else if (p->type == LR_PART_TOOL_CALL)
            LR_TRY(write_call(t, p));
        else if (p->type == LR_PART_TOOL_RESULT)
            LR_TRY(write_result(t, p));
    }
    return 0;
}

static int refuse_sampling(const struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->n > 1)
        return refuse(t, "n", "more than one choice");
    if (r->n_stop)
        return refuse(t, "stop", "a stop sequence");
    if (r->seed)
        return refuse(t, "seed", "it");
    if (r->top_k)
        return refuse(t, "top_k", "it");
    if (lr_weighs(r->presence_penalty))
        return refuse(t, "presence_penalty", "it");
    if (lr_weighs(r->frequency_penalty))
        return refuse(t, "frequency_penalty", "it");
    if (r->logit_bias && r->logit_bias->n)
        return refuse(t, "logit_bias", "it");
    return 0;
}

static int write_tool(struct to *t, const struct lr_tool *k)
{
    if (k->json)
        return refuse(t, "tools", "a tool that is no function");
    LR_TRY(leave_out(t, k->extra));
    lr_put_type(&t->w, "function");
    lr_put_str(&t->w, "name", k->name);
    if (k->description.n)
        lr_put_str(&t->w, "description", k->description);
    lr_put_raw(&t->w, "parameters",
               k->schema ? k->schema->raw : LR_STR("{\"type\":\"object\",\"properties\":{}}"));
    lr_put_raw(&t->w, "strict", k->strict ? k->strict->raw : LR_STR("false"));
    lr_jw_end(&t->w);
    return 0;
}

static void write_choice(struct to *t)
{
    const struct lr_request *r = t->r;
    lr_put_choice_word(&t->w, r->tool_choice);
    if (r->tool_choice == LR_TOOL_CHOICE_NAMED) {
        lr_jw_key(&t->w, "tool_choice");
        lr_put_type(&t->w, "function");
        lr_put_str(&t->w, "name", r->tool_choice_name);
        lr_jw_end(&t->w);
    }
}

static int write_tools(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->tools) {
        lr_put_arr(&t->w, "tools");
        for (const struct lr_tool *k = r->tools; k; k = k->next)
            LR_TRY(write_tool(t, k));
        lr_jw_end(&t->w);
    }
    write_choice(t);
    if (r->parallel_tools || r->parallel_off)
        lr_put_bool(&t->w, "parallel_tool_calls", !r->parallel_off);
    return 0;
}

static void write_format(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->format == LR_FORMAT_ABSENT)
        return;
    lr_put_obj(&t->w, "text");
    lr_jw_key(&t->w, "format");
    lr_put_type(&t->w, lr_format_word(r->format));
    if (r->format == LR_FORMAT_SCHEMA)
        lr_put_schema(&t->w, r);
    lr_jw_end(&t->w);
    lr_jw_end(&t->w);
}

static void write_settings(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->max_tokens)
        lr_put_u64(&t->w, "max_output_tokens", r->max_tokens);
    lr_put_node(&t->w, "temperature", r->temperature);
    lr_put_node(&t->w, "top_p", r->top_p);
    if (lr_json_is(r->logprobs, LR_JSON_TRUE)) {
        lr_put_raw(&t->w, "include", LR_STR("[\"message.output_text.logprobs\"]"));
        lr_put_node(&t->w, "top_logprobs", r->top_logprobs);
    }
    if (r->effort.n) {
        lr_put_obj(&t->w, "reasoning");
        lr_put_str(&t->w, "effort", r->effort);
        lr_jw_end(&t->w);
    }
    write_format(t);
}

static int write_quiet(struct to *t)
{
    static const char *const written[] = {"user", "safety_identifier", "stream_options", "store",
                                          NULL};
    if (t->r->user.n)
        lr_put_str(&t->w, "safety_identifier", t->r->user);
    LR_TRY(lr_drop_quiet(t->r, written, t->dropped));
    lr_put_bool(&t->w, "store", false);
    return leave_out(t, t->r->extra);
}

int lr_responses_write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                       struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err)
{
    (void)default_max_tokens; /* the limit is optional here */
    struct to t = {.r = r, .dropped = dropped, .err = err, .msg = -1};
    LR_TRY(refuse_sampling(&t));
    lr_jw_init(&t.w, out);
    lr_jw_obj(&t.w);
    lr_put_str(&t.w, "model", model);
    lr_put_arr(&t.w, "input");
    for (const struct lr_msg *m = r->msgs; m; m = m->next) {
        t.msg++;
        LR_TRY(write_message(&t, m));
    }
    t.msg = -1;
    lr_jw_end(&t.w);
    LR_TRY(write_tools(&t));
    write_settings(&t);
    if (r->stream)
        lr_put_bool(&t.w, "stream", true);
    LR_TRY(write_quiet(&t));
    lr_jw_end(&t.w);
    return 0;
}
