/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat.c - OpenAI Chat Completions: requests, read. They are written in chat_write.c;
 * answers are read in chat_in.c, written in chat_out.c (streams) and chat_whole.c.
 *
 * Every member of the public reference has its place in struct lr_request; the others
 * become extras where they stand (request, message, part, tool), so that they count in the key and
 * travel on in the same dialect. Adjacent `tool` messages become one canonical TOOL message with a
 * TOOL_RESULT part each, which is how Anthropic spells the same conversation: the extras of such a
 * message are its part's. A string as content is one TEXT part.
 *
 *   bypass: a file by id, audio out (or an earlier one by id), web search and other hosted tools
 *
 * Source: OpenAI API reference, "Create chat completion"; vLLM's and DeepSeek's documentation for
 * reasoning_content.
 */
#include "dialect/chat_int.h"

/* ---- parts ---------------------------------------------------------------------------------- */

/* The object that holds a part's substance: {"type": "image_url", "image_url": {...}}. */
static int inner(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                 const char *name, const struct lr_json **out)
{
    *out = NULL;
    LR_TRY(lr_take_type(in, v, at, name, LR_JSON_OBJECT, out));
    return *out ? 0 : lr_want_at(in->err, at, name, "an object");
}

static int parse_text(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      const char *name, enum lr_part_type type, struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, type);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const char *const known[] = {"type", name, NULL};
    LR_TRY(lr_need_str(in, v, at, name, &p->text));
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_image(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_IMAGE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const struct lr_json *o;
    LR_TRY(inner(in, v, at, "image_url", &o));
    struct lr_at here = {at, "image_url", -1};
    struct lr_str url = {0};
    LR_TRY(lr_need_str(in, o, &here, "url", &url));
    if (lr_url_split(url, p))
        return lr_want_at(in->err, &here, "url", "a URL, or data:<media>;base64,<data>");
    LR_TRY(lr_take_str(in, o, &here, "detail", &p->detail));
    static const char *const known[] = {"type", "image_url", NULL};
    static const char *const known_in[] = {"url", "detail", NULL};
    LR_TRY(lr_take_extras(in, v, known, &p->extra));
    return lr_take_extras(in, o, known_in, &p->extra);
}

static int parse_audio(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_AUDIO);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const struct lr_json *o;
    LR_TRY(inner(in, v, at, "input_audio", &o));
    struct lr_at here = {at, "input_audio", -1};
    struct lr_str format = {0};
    LR_TRY(lr_need_str(in, o, &here, "data", &p->data));
    LR_TRY(lr_need_str(in, o, &here, "format", &format));
    char *media = lr_arena_alloc(in->a, 6 + format.n + 1, 1);
    LR_FAIL_IF(!media, LR_ENOMEM);
    memcpy(media, "audio/", 6);
    if (format.n)
        memcpy(media + 6, format.p, format.n);
    p->media = lr_str(media, 6 + format.n);
    static const char *const known[] = {"type", "input_audio", NULL};
    static const char *const known_in[] = {"data", "format", NULL};
    LR_TRY(lr_take_extras(in, v, known, &p->extra));
    return lr_take_extras(in, o, known_in, &p->extra);
}

static int parse_file(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_FILE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const struct lr_json *o;
    LR_TRY(inner(in, v, at, "file", &o));
    struct lr_at here = {at, "file", -1};
    struct lr_str data = {0}, id = {0};
    LR_TRY(lr_take_str(in, o, &here, "file_data", &data));
    LR_TRY(lr_take_str(in, o, &here, "file_id", &id));
    LR_TRY(lr_take_str(in, o, &here, "filename", &p->name));
    if (id.n)
        lr_bypass(in, "file-id");
    else if (!data.n)
        return lr_want_at(in->err, &here, "file_data", "a string");
    if (lr_url_split(data, p))
        return lr_want_at(in->err, &here, "file_data", "data:<media>;base64,<data>");
    if (p->url.n) { /* bare base64 is taken by some servers */
        p->data = p->url;
        p->url = (struct lr_str){0};
    }
    p->id = id;
    static const char *const known[] = {"type", "file", NULL};
    static const char *const known_in[] = {"file_data", "file_id", "filename", NULL};
    LR_TRY(lr_take_extras(in, v, known, &p->extra));
    return lr_take_extras(in, o, known_in, &p->extra);
}

static int parse_part(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    struct lr_str type = {0};
    LR_TRY(lr_need_str(in, v, at, "type", &type));
    if (lr_str_is(type, "text"))
        return parse_text(in, v, at, "text", LR_PART_TEXT, parts);
    if (lr_str_is(type, "refusal"))
        return parse_text(in, v, at, "refusal", LR_PART_REFUSAL, parts);
    if (lr_str_is(type, "image_url"))
        return parse_image(in, v, at, parts);
    if (lr_str_is(type, "input_audio"))
        return parse_audio(in, v, at, parts);
    if (lr_str_is(type, "file"))
        return parse_file(in, v, at, parts);
    return lr_other_add(in->a, parts, v);
}

/* Absent content says nothing: an assistant may have called tools only. */
static int parse_content(const struct lr_in *in, const struct lr_json *m, const struct lr_at *at,
                         struct lr_part **parts)
{
    const struct lr_json *v = lr_json_get(m, "content");
    return lr_given(v) ? lr_take_content(in, v, at, "content", parse_part, parts) : 0;
}

/* ---- messages ------------------------------------------------------------------------------- */

static int parse_call(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = LR_STR("function");
    LR_TRY(lr_take_str(in, v, at, "type", &type));
    bool function = lr_str_is(type, "function");
    struct lr_part *p = lr_part_add(in->a, parts, function ? LR_PART_TOOL_CALL : LR_PART_OTHER);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_take_str(in, v, at, "id", &p->id));
    if (!function) {
        p->json = v;
        return 0;
    }
    const struct lr_json *f;
    LR_TRY(inner(in, v, at, "function", &f));
    struct lr_at here = {at, "function", -1};
    LR_TRY(lr_need_str(in, f, &here, "name", &p->name));
    LR_TRY(lr_take_str(in, f, &here, "arguments", &p->text));
    static const char *const known[] = {"id", "type", "function", "index", NULL};
    static const char *const known_in[] = {"name", "arguments", NULL};
    LR_TRY(lr_take_extras(in, v, known, &p->extra));
    return lr_take_extras(in, f, known_in, &p->extra);
}

static int parse_calls(const struct lr_in *in, const struct lr_json *o, const struct lr_at *msg,
                       struct lr_part **parts)
{
    const struct lr_json *list = NULL;
    LR_TRY(lr_take_type(in, o, msg, "tool_calls", LR_JSON_ARRAY, &list));
    long i = 0;
    for (const struct lr_json *c = list ? list->child : NULL; c; c = c->next) {
        struct lr_at at = {msg, "tool_calls", i++};
        LR_TRY(parse_call(in, c, &at, parts));
    }
    return 0;
}

/* A text member of an assistant's message as a part of its own; absent, null and "" give none. */
static int parse_side_text(const struct lr_in *in, const struct lr_json *v, const struct lr_at *msg,
                           const char *name, enum lr_part_type type, struct lr_part **parts)
{
    struct lr_str text = {0};
    LR_TRY(lr_take_str(in, v, msg, name, &text));
    return text.n ? lr_text_add(in->a, parts, type, text) : 0;
}

static int parse_assistant(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                           struct lr_msg *m)
{
    LR_TRY(parse_side_text(in, v, at, "reasoning_content", LR_PART_REASONING, &m->parts));
    const struct lr_json *second = lr_json_get(v, "reasoning"); /* vLLM's newer name */
    if (!m->parts)
        LR_TRY(parse_side_text(in, v, at, "reasoning", LR_PART_REASONING, &m->parts));
    else if (lr_given(second))
        LR_TRY(lr_extra_add(in->a, &m->extra, second));
    LR_TRY(parse_content(in, v, at, &m->parts));
    LR_TRY(parse_side_text(in, v, at, "refusal", LR_PART_REFUSAL, &m->parts));
    LR_TRY(parse_calls(in, v, at, &m->parts));
    static const char *const known[] = {"role",      "name",    "content",    "reasoning_content",
                                        "reasoning", "refusal", "tool_calls", "audio",
                                        NULL};
    const struct lr_json *audio = lr_json_get(v, "audio");
    if (lr_given(audio)) {
        lr_bypass(in, "audio-out");
        LR_TRY(lr_extra_add(in->a, &m->extra, audio));
    }
    return lr_take_extras(in, v, known, &m->extra);
}

/* A `tool` message (or a `function` one, which knows no id but a name). */
static int parse_result(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                        bool function)
{
    struct lr_request *r = in->r;
    struct lr_msg *m = r->msgs ? r->msgs_last : NULL;
    if (!m || m->role != LR_ROLE_TOOL)
        m = lr_msg_add(in->a, r, LR_ROLE_TOOL);
    struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TOOL_RESULT) : NULL;
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_take_str(in, v, at, "name", &p->name));
    if (!function)
        LR_TRY(lr_need_str(in, v, at, "tool_call_id", &p->id));
    LR_TRY(parse_content(in, v, at, &p->parts));
    static const char *const known[] = {"role", "name", "tool_call_id", "content", NULL};
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_message(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const struct {
        const char *name;
        enum lr_role role;
    } roles[] = {{"user", LR_ROLE_USER},
                 {"assistant", LR_ROLE_ASSISTANT},
                 {"system", LR_ROLE_SYSTEM},
                 {"developer", LR_ROLE_DEVELOPER}};
    static const char *const known[] = {"role", "name", "content", NULL};
    struct lr_str role = {0};
    LR_TRY(lr_need_str(in, v, at, "role", &role));
    bool function = lr_str_is(role, "function");
    if (function || lr_str_is(role, "tool"))
        return parse_result(in, v, at, function);
    size_t i = 0;
    while (i < LR_COUNT(roles) && !lr_str_is(role, roles[i].name))
        i++;
    if (i == LR_COUNT(roles))
        return lr_want_at(in->err, at, "role", "system, developer, user, assistant or tool");
    struct lr_msg *m = lr_msg_add(in->a, in->r, roles[i].role);
    LR_FAIL_IF(!m, LR_ENOMEM);
    LR_TRY(lr_take_str(in, v, at, "name", &m->name));
    if (m->role == LR_ROLE_ASSISTANT)
        return parse_assistant(in, v, at, m);
    LR_TRY(parse_content(in, v, at, &m->parts));
    return lr_take_extras(in, v, known, &m->extra);
}

static int parse_messages(const struct lr_in *in, const struct lr_json *v)
{
    return lr_take_list(in, v, "messages", parse_message);
}

/* ---- tools, choices, formats ---------------------------------------------------------------- */

static int parse_tool(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at)
{
    struct lr_str type = {0};
    LR_TRY(lr_need_str(in, v, at, "type", &type));
    struct lr_tool *t = lr_tool_add(in->a, in->r);
    LR_FAIL_IF(!t, LR_ENOMEM);
    if (!lr_str_is(type, "function")) {
        t->json = v;
        t->name = type;
        if (!lr_str_is(type, "custom")) /* custom ones run at the client's */
            lr_bypass(in, "hosted-tool");
        return 0;
    }
    const struct lr_json *f;
    LR_TRY(inner(in, v, at, "function", &f));
    struct lr_at here = {at, "function", -1};
    LR_TRY(lr_take_function(in, f, &here, t));
    static const char *const known[] = {"type", "function", NULL};
    static const char *const known_in[] = {"name", "description", "parameters", "strict", NULL};
    LR_TRY(lr_take_extras(in, v, known, &t->extra));
    return lr_take_extras(in, f, known_in, &t->extra);
}

static int parse_tools(const struct lr_in *in, const struct lr_json *v)
{
    return lr_take_list(in, v, "tools", parse_tool);
}

static int parse_tool_choice(const struct lr_in *in, const struct lr_json *v)
{
    return lr_take_tool_choice(in, v, lr_json_get(v, "function"));
}

/* Are all members of a json_schema format known? Else it is kept whole. */
static bool plain_schema(const struct lr_json *s)
{
    for (const struct lr_json *m = s->child; m; m = m->next) {
        bool text = lr_str_is(m->key, "name") || lr_str_is(m->key, "description");
        bool flag = lr_str_is(m->key, "strict");
        bool schema = lr_str_is(m->key, "schema");
        bool fits = (text && m->type == LR_JSON_STRING) || (schema && m->type == LR_JSON_OBJECT) ||
                    (flag && (m->type == LR_JSON_TRUE || m->type == LR_JSON_FALSE));
        if (!fits && !((text || flag || schema) && m->type == LR_JSON_NULL))
            return false;
    }
    return true;
}

static int parse_format(const struct lr_in *in, const struct lr_json *v)
{
    struct lr_request *r = in->r;
    if (v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "response_format", "an object");
    struct lr_at at = {NULL, "response_format", -1};
    struct lr_str type = {0};
    LR_TRY(lr_need_str(in, v, &at, "type", &type));
    const struct lr_json *s = lr_json_get(v, "json_schema");
    r->format_json = v;
    r->format = LR_FORMAT_OTHER;
    if (v->n == 1 && lr_str_is(type, "text"))
        r->format = LR_FORMAT_TEXT;
    else if (v->n == 1 && lr_str_is(type, "json_object"))
        r->format = LR_FORMAT_JSON;
    else if (v->n == 2 && lr_str_is(type, "json_schema") && lr_json_is(s, LR_JSON_OBJECT) &&
             plain_schema(s)) {
        r->format = LR_FORMAT_SCHEMA;
        r->format_name = lr_text_of(s, "name");
        r->format_description = lr_text_of(s, "description");
        r->format_schema = lr_json_get(s, "schema");
        if (lr_given(lr_json_get(s, "strict")))
            r->format_strict = lr_json_get(s, "strict");
    }
    return 0;
}

/* modalities and web_search_options: kept as extras, looked at for what may not be cached. */
static int parse_modalities(const struct lr_in *in, const struct lr_json *v)
{
    for (const struct lr_json *m = v->type == LR_JSON_ARRAY ? v->child : NULL; m; m = m->next)
        if (m->type == LR_JSON_STRING && lr_str_is(m->text, "audio"))
            lr_bypass(in, "audio-out");
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_web_search(const struct lr_in *in, const struct lr_json *v)
{
    lr_bypass(in, "hosted-tool");
    return lr_extra_add(in->a, &in->r->extra, v);
}

int lr_chat_parse(const struct lr_in *in)
{
    static const struct lr_member own[] = {
        {"messages", .take = parse_messages},
        {"tools", .take = parse_tools},
        {"tool_choice", .take = parse_tool_choice},
        {"parallel_tool_calls", .take = lr_take_parallel},
        {"response_format", .take = parse_format},
        {"max_completion_tokens", LR_MEMBER_COUNT, LR_AT(max_tokens)},
        {"reasoning_effort", LR_MEMBER_TEXT, LR_AT(effort)},
        {"logprobs", LR_MEMBER_FLAG, LR_AT(logprobs)},
        {"top_logprobs", LR_MEMBER_NUMBER, LR_AT(top_logprobs)},
        {"modalities", .take = parse_modalities},
        {"web_search_options", .take = parse_web_search},
        {.name = NULL},
    };
    static const struct lr_member *const all[] = {own, lr_members_sampling, lr_members_quiet, NULL};
    LR_TRY(lr_take_members(in, all));
    LR_TRY(lr_need_model(in));
    bool asks = lr_given(lr_json_get(in->r->root, "messages"));
    return asks ? 0 : lr_want(in->err, "messages", "an array");
}
