/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat.c - OpenAI Chat Completions: requests. Answers are read in chat_in.c, written
 * in chat_out.c (streams) and chat_whole.c.
 *
 * Reading. Every member of the public reference has its place in struct lr_request; the others
 * become extras where they stand (request, message, part, tool), so that they count in the key and
 * travel on in the same dialect. Adjacent `tool` messages become one canonical TOOL message with a
 * TOOL_RESULT part each, which is how Anthropic spells the same conversation: the extras of such a
 * message are its part's. A string as content is one TEXT part.
 *
 *   bypass: a file by id, audio out (or an earlier one by id), web search and other hosted tools
 *
 * Writing spells the canonical form out. What has no counterpart is refused by name, except what
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
 *
 * Source: OpenAI API reference, "Create chat completion"; vLLM's and DeepSeek's documentation for
 * reasoning_content.
 */
#include "dialect/chat_int.h"

/* ---- reading: parts ------------------------------------------------------------------------- */

struct in {
    struct lr_arena *a;
    struct lr_request *r;
    struct lr_err *err;
};

/* Members of o other than the named ones (a NULL-terminated list) into list. */
static int rest(const struct in *in, const struct lr_json *o, const char *const *known,
                struct lr_extra **list)
{
    for (const struct lr_json *m = o->child; m; m = m->next) {
        bool mine = false;
        for (size_t i = 0; known[i] && !mine; i++)
            mine = lr_str_is(m->key, known[i]);
        if (!mine)
            LR_TRY(lr_extra_add(in->a, list, m));
    }
    return 0;
}

/* The object that holds a part's substance: {"type": "image_url", "image_url": {...}}. */
static int inner(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                 const char *name, const struct lr_json **out)
{
    *out = NULL;
    LR_TRY(lr_take_type(lr_json_get(v, name), LR_JSON_OBJECT, at, name, out, in->err));
    return *out ? 0 : lr_want_at(in->err, at, name, "an object");
}

static int need_text(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                     const char *name, struct lr_str *out)
{
    const struct lr_json *m = lr_json_get(v, name);
    return lr_json_text(m, out) ? 0 : lr_want_at(in->err, at, name, "a string");
}

static int parse_text(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      const char *name, enum lr_part_type type, struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, type);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const char *const known[] = {"type", name, NULL};
    LR_TRY(need_text(in, v, at, name, &p->text));
    return rest(in, v, known, &p->extra);
}

static int parse_image(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_IMAGE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const struct lr_json *o;
    LR_TRY(inner(in, v, at, "image_url", &o));
    struct lr_at here = {at, "image_url", -1};
    struct lr_str url = {0};
    LR_TRY(need_text(in, o, &here, "url", &url));
    if (lr_url_split(url, p))
        return lr_want_at(in->err, &here, "url", "a URL, or data:<media>;base64,<data>");
    LR_TRY(lr_take_str(lr_json_get(o, "detail"), &here, "detail", &p->detail, in->err));
    static const char *const known[] = {"type", "image_url", NULL};
    static const char *const known_in[] = {"url", "detail", NULL};
    LR_TRY(rest(in, v, known, &p->extra));
    return rest(in, o, known_in, &p->extra);
}

static int parse_audio(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_AUDIO);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const struct lr_json *o;
    LR_TRY(inner(in, v, at, "input_audio", &o));
    struct lr_at here = {at, "input_audio", -1};
    struct lr_str format = {0};
    LR_TRY(need_text(in, o, &here, "data", &p->data));
    LR_TRY(need_text(in, o, &here, "format", &format));
    char *media = lr_arena_alloc(in->a, 6 + format.n + 1, 1);
    LR_FAIL_IF(!media, LR_ENOMEM);
    memcpy(media, "audio/", 6);
    if (format.n)
        memcpy(media + 6, format.p, format.n);
    p->media = lr_str(media, 6 + format.n);
    static const char *const known[] = {"type", "input_audio", NULL};
    static const char *const known_in[] = {"data", "format", NULL};
    LR_TRY(rest(in, v, known, &p->extra));
    return rest(in, o, known_in, &p->extra);
}

static int parse_file(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_FILE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    const struct lr_json *o;
    LR_TRY(inner(in, v, at, "file", &o));
    struct lr_at here = {at, "file", -1};
    struct lr_str data = {0}, id = {0};
    LR_TRY(lr_take_str(lr_json_get(o, "file_data"), &here, "file_data", &data, in->err));
    LR_TRY(lr_take_str(lr_json_get(o, "file_id"), &here, "file_id", &id, in->err));
    LR_TRY(lr_take_str(lr_json_get(o, "filename"), &here, "filename", &p->name, in->err));
    if (id.n)
        in->r->bypass = "file-id";
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
    LR_TRY(rest(in, v, known, &p->extra));
    return rest(in, o, known_in, &p->extra);
}

static int parse_part(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = {0};
    LR_TRY(need_text(in, v, at, "type", &type));
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
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_OTHER);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->json = v;
    return 0;
}

static int parse_content(const struct in *in, const struct lr_json *v, const struct lr_at *msg,
                         struct lr_part **parts)
{
    if (!lr_given(v))
        return 0;
    if (v->type == LR_JSON_STRING) {
        struct lr_part *p = lr_part_add(in->a, parts, LR_PART_TEXT);
        LR_FAIL_IF(!p, LR_ENOMEM);
        p->text = v->text;
        return 0;
    }
    if (v->type != LR_JSON_ARRAY)
        return lr_want_at(in->err, msg, "content", "a string or an array of parts");
    long i = 0;
    for (const struct lr_json *c = v->child; c; c = c->next) {
        struct lr_at at = {msg, "content", i++};
        LR_TRY(parse_part(in, c, &at, parts));
    }
    return 0;
}

/* ---- reading: messages ---------------------------------------------------------------------- */

static int parse_call(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = LR_STR("function");
    LR_TRY(lr_take_str(lr_json_get(v, "type"), at, "type", &type, in->err));
    bool function = lr_str_is(type, "function");
    struct lr_part *p = lr_part_add(in->a, parts, function ? LR_PART_TOOL_CALL : LR_PART_OTHER);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_take_str(lr_json_get(v, "id"), at, "id", &p->id, in->err));
    if (!function) {
        p->json = v;
        return 0;
    }
    const struct lr_json *f;
    LR_TRY(inner(in, v, at, "function", &f));
    struct lr_at here = {at, "function", -1};
    LR_TRY(need_text(in, f, &here, "name", &p->name));
    LR_TRY(lr_take_str(lr_json_get(f, "arguments"), &here, "arguments", &p->text, in->err));
    static const char *const known[] = {"id", "type", "function", "index", NULL};
    static const char *const known_in[] = {"name", "arguments", NULL};
    LR_TRY(rest(in, v, known, &p->extra));
    return rest(in, f, known_in, &p->extra);
}

static int parse_calls(const struct in *in, const struct lr_json *v, const struct lr_at *msg,
                       struct lr_part **parts)
{
    const struct lr_json *list = NULL;
    LR_TRY(lr_take_type(v, LR_JSON_ARRAY, msg, "tool_calls", &list, in->err));
    long i = 0;
    for (const struct lr_json *c = list ? list->child : NULL; c; c = c->next) {
        struct lr_at at = {msg, "tool_calls", i++};
        LR_TRY(parse_call(in, c, &at, parts));
    }
    return 0;
}

/* A text member of an assistant's message as a part of its own; absent, null and "" give none. */
static int parse_side_text(const struct in *in, const struct lr_json *v, const struct lr_at *msg,
                           const char *name, enum lr_part_type type, struct lr_part **parts)
{
    struct lr_str text = {0};
    LR_TRY(lr_take_str(lr_json_get(v, name), msg, name, &text, in->err));
    if (!text.n)
        return 0;
    struct lr_part *p = lr_part_add(in->a, parts, type);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->text = text;
    return 0;
}

static int parse_assistant(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                           struct lr_msg *m)
{
    LR_TRY(parse_side_text(in, v, at, "reasoning_content", LR_PART_REASONING, &m->parts));
    const struct lr_json *second = lr_json_get(v, "reasoning"); /* vLLM's newer name */
    if (!m->parts)
        LR_TRY(parse_side_text(in, v, at, "reasoning", LR_PART_REASONING, &m->parts));
    else if (lr_given(second))
        LR_TRY(lr_extra_add(in->a, &m->extra, second));
    LR_TRY(parse_content(in, lr_json_get(v, "content"), at, &m->parts));
    LR_TRY(parse_side_text(in, v, at, "refusal", LR_PART_REFUSAL, &m->parts));
    LR_TRY(parse_calls(in, lr_json_get(v, "tool_calls"), at, &m->parts));
    static const char *const known[] = {"role",      "name",    "content",    "reasoning_content",
                                        "reasoning", "refusal", "tool_calls", "audio",
                                        NULL};
    const struct lr_json *audio = lr_json_get(v, "audio");
    if (lr_given(audio)) {
        in->r->bypass = "audio-out";
        LR_TRY(lr_extra_add(in->a, &m->extra, audio));
    }
    return rest(in, v, known, &m->extra);
}

/* A `tool` message (or a `function` one, which knows no id but a name). */
static int parse_result(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                        bool function)
{
    struct lr_request *r = in->r;
    struct lr_msg *m = r->msgs ? r->msgs_last : NULL;
    if (!m || m->role != LR_ROLE_TOOL)
        m = lr_msg_add(in->a, r, LR_ROLE_TOOL);
    struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TOOL_RESULT) : NULL;
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_take_str(lr_json_get(v, "name"), at, "name", &p->name, in->err));
    if (!function)
        LR_TRY(need_text(in, v, at, "tool_call_id", &p->id));
    LR_TRY(parse_content(in, lr_json_get(v, "content"), at, &p->parts));
    static const char *const known[] = {"role", "name", "tool_call_id", "content", NULL};
    return rest(in, v, known, &p->extra);
}

static int parse_message(const struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const struct {
        const char *name;
        enum lr_role role;
    } roles[] = {{"user", LR_ROLE_USER},
                 {"assistant", LR_ROLE_ASSISTANT},
                 {"system", LR_ROLE_SYSTEM},
                 {"developer", LR_ROLE_DEVELOPER}};
    static const char *const known[] = {"role", "name", "content", NULL};
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str role = {0};
    LR_TRY(need_text(in, v, at, "role", &role));
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
    LR_TRY(lr_take_str(lr_json_get(v, "name"), at, "name", &m->name, in->err));
    if (m->role == LR_ROLE_ASSISTANT)
        return parse_assistant(in, v, at, m);
    LR_TRY(parse_content(in, lr_json_get(v, "content"), at, &m->parts));
    return rest(in, v, known, &m->extra);
}

static int parse_messages(const struct in *in, const struct lr_json *v)
{
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return lr_want(in->err, "messages", "an array");
    long i = 0;
    for (const struct lr_json *m = v->child; m; m = m->next) {
        struct lr_at at = {NULL, "messages", i++};
        LR_TRY(parse_message(in, m, &at));
    }
    return 0;
}

/* ---- reading: tools, choices, formats ------------------------------------------------------- */

static int parse_tool(const struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = {0};
    LR_TRY(need_text(in, v, at, "type", &type));
    struct lr_tool *t = lr_tool_add(in->a, in->r);
    LR_FAIL_IF(!t, LR_ENOMEM);
    if (!lr_str_is(type, "function")) {
        t->json = v;
        t->name = type;
        if (!lr_str_is(type, "custom")) /* custom ones run at the client's */
            in->r->bypass = "hosted-tool";
        return 0;
    }
    const struct lr_json *f;
    LR_TRY(inner(in, v, at, "function", &f));
    struct lr_at here = {at, "function", -1};
    LR_TRY(need_text(in, f, &here, "name", &t->name));
    LR_TRY(
        lr_take_str(lr_json_get(f, "description"), &here, "description", &t->description, in->err));
    LR_TRY(lr_take_type(lr_json_get(f, "parameters"), LR_JSON_OBJECT, &here, "parameters",
                        &t->schema, in->err));
    bool strict;
    LR_TRY(lr_take_bool(lr_json_get(f, "strict"), &here, "strict", &strict, in->err));
    if (lr_given(lr_json_get(f, "strict")))
        t->strict = lr_json_get(f, "strict");
    static const char *const known[] = {"type", "function", NULL};
    static const char *const known_in[] = {"name", "description", "parameters", "strict", NULL};
    LR_TRY(rest(in, v, known, &t->extra));
    return rest(in, f, known_in, &t->extra);
}

static int parse_tools(const struct in *in, const struct lr_json *v)
{
    const struct lr_json *list = NULL;
    LR_TRY(lr_take_type(v, LR_JSON_ARRAY, NULL, "tools", &list, in->err));
    long i = 0;
    for (const struct lr_json *t = list ? list->child : NULL; t; t = t->next) {
        struct lr_at at = {NULL, "tools", i++};
        LR_TRY(parse_tool(in, t, &at));
    }
    return 0;
}

static int parse_tool_choice(const struct in *in, const struct lr_json *v)
{
    struct lr_request *r = in->r;
    if (!lr_given(v))
        return 0;
    if (v->type != LR_JSON_STRING && v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "tool_choice", "a string or an object");
    struct lr_str type = {0}, name = {0};
    (void)lr_json_text(lr_json_get(v, "type"), &type); /* absent: stays empty */
    r->tool_choice = LR_TOOL_CHOICE_OTHER;
    r->tool_choice_json = v;
    if (lr_str_is(v->text, "auto"))
        r->tool_choice = LR_TOOL_CHOICE_AUTO;
    else if (lr_str_is(v->text, "none"))
        r->tool_choice = LR_TOOL_CHOICE_NONE;
    else if (lr_str_is(v->text, "required"))
        r->tool_choice = LR_TOOL_CHOICE_REQUIRED;
    else if (lr_str_is(type, "function") && v->n == 2 &&
             lr_json_text(lr_json_get(lr_json_get(v, "function"), "name"), &name)) {
        r->tool_choice = LR_TOOL_CHOICE_NAMED;
        r->tool_choice_name = name;
    }
    return 0;
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

static int parse_format(const struct in *in, const struct lr_json *v)
{
    struct lr_request *r = in->r;
    const struct lr_json *o = NULL;
    LR_TRY(lr_take_type(v, LR_JSON_OBJECT, NULL, "response_format", &o, in->err));
    if (!o)
        return 0;
    struct lr_at at = {NULL, "response_format", -1};
    struct lr_str type = {0};
    LR_TRY(need_text(in, o, &at, "type", &type));
    const struct lr_json *s = lr_json_get(o, "json_schema");
    r->format_json = o;
    r->format = LR_FORMAT_OTHER;
    if (o->n == 1 && lr_str_is(type, "text"))
        r->format = LR_FORMAT_TEXT;
    else if (o->n == 1 && lr_str_is(type, "json_object"))
        r->format = LR_FORMAT_JSON;
    else if (o->n == 2 && lr_str_is(type, "json_schema") && lr_json_is(s, LR_JSON_OBJECT) &&
             plain_schema(s)) {
        r->format = LR_FORMAT_SCHEMA;
        (void)lr_json_text(lr_json_get(s, "name"), &r->format_name); /* absent: stays empty */
        (void)lr_json_text(lr_json_get(s, "description"), &r->format_description);
        r->format_schema = lr_json_get(s, "schema");
        if (lr_given(lr_json_get(s, "strict")))
            r->format_strict = lr_json_get(s, "strict");
    }
    return 0;
}

static int parse_parallel(const struct in *in, const struct lr_json *v)
{
    bool on = true;
    LR_TRY(lr_take_bool(v, NULL, "parallel_tool_calls", &on, in->err));
    if (lr_given(v))
        in->r->parallel_tools = v;
    in->r->parallel_off = !on;
    return 0;
}

static int parse_limit(const struct in *in, const struct lr_json *v)
{
    return lr_take_u64(v, NULL, "max_completion_tokens", &in->r->max_tokens, in->err);
}

static int parse_effort(const struct in *in, const struct lr_json *v)
{
    return lr_take_str(v, NULL, "reasoning_effort", &in->r->effort, in->err);
}

static int parse_logprobs(const struct in *in, const struct lr_json *v)
{
    bool on;
    LR_TRY(lr_take_bool(v, NULL, "logprobs", &on, in->err));
    if (lr_given(v))
        in->r->logprobs = v;
    return 0;
}

static int parse_top_logprobs(const struct in *in, const struct lr_json *v)
{
    return lr_take_type(v, LR_JSON_NUMBER, NULL, "top_logprobs", &in->r->top_logprobs, in->err);
}

/* modalities and web_search_options: kept as extras, looked at for what may not be cached. */
static int parse_modalities(const struct in *in, const struct lr_json *v)
{
    for (const struct lr_json *m = v->type == LR_JSON_ARRAY ? v->child : NULL; m; m = m->next)
        if (m->type == LR_JSON_STRING && lr_str_is(m->text, "audio"))
            in->r->bypass = "audio-out";
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_web_search(const struct in *in, const struct lr_json *v)
{
    if (lr_given(v))
        in->r->bypass = "hosted-tool";
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_member(const struct in *in, const struct lr_json *v)
{
    static const struct {
        const char *name;
        int (*take)(const struct in *, const struct lr_json *);
    } rows[] = {
        {"messages", parse_messages},
        {"tools", parse_tools},
        {"tool_choice", parse_tool_choice},
        {"parallel_tool_calls", parse_parallel},
        {"response_format", parse_format},
        {"max_completion_tokens", parse_limit},
        {"reasoning_effort", parse_effort},
        {"logprobs", parse_logprobs},
        {"top_logprobs", parse_top_logprobs},
        {"modalities", parse_modalities},
        {"web_search_options", parse_web_search},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        if (lr_str_is(v->key, rows[i].name))
            return rows[i].take(in, v);
    bool taken;
    LR_TRY(lr_take_openai(in->a, in->r, v, &taken, in->err));
    return taken ? 0 : lr_extra_add(in->a, &in->r->extra, v);
}

int lr_chat_parse(struct lr_arena *a, struct lr_request *r, struct lr_err *err)
{
    struct in in = {a, r, err};
    for (const struct lr_json *m = r->root->child; m; m = m->next)
        LR_TRY(parse_member(&in, m));
    LR_TRY(lr_need_model(r, err));
    return lr_json_get(r->root, "messages") ? 0 : lr_want(err, "messages", "an array");
}

/* ---- writing -------------------------------------------------------------------------------- */

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

static int write_tool_choice(struct to *t)
{
    const struct lr_request *r = t->r;
    switch (r->tool_choice) {
    case LR_TOOL_CHOICE_ABSENT:
        break;
    case LR_TOOL_CHOICE_AUTO:
        lr_put_str(&t->w, "tool_choice", LR_STR("auto"));
        break;
    case LR_TOOL_CHOICE_NONE:
        lr_put_str(&t->w, "tool_choice", LR_STR("none"));
        break;
    case LR_TOOL_CHOICE_REQUIRED:
        lr_put_str(&t->w, "tool_choice", LR_STR("required"));
        break;
    case LR_TOOL_CHOICE_NAMED:
        lr_jw_key(&t->w, "tool_choice");
        lr_put_type(&t->w, "function");
        lr_put_obj(&t->w, "function");
        lr_put_str(&t->w, "name", r->tool_choice_name);
        lr_jw_end(&t->w);
        lr_jw_end(&t->w);
        break;
    case LR_TOOL_CHOICE_OTHER:
        return refuse(t, "tool_choice", "this choice");
    }
    if (r->parallel_tools) {
        lr_put_bool(&t->w, "parallel_tool_calls", !r->parallel_off);
    }
    return 0;
}

static int write_format(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->format == LR_FORMAT_ABSENT)
        return 0;
    if (r->format == LR_FORMAT_OTHER)
        return refuse(t, "response_format", "this format");
    lr_jw_key(&t->w, "response_format");
    lr_put_type(&t->w, r->format == LR_FORMAT_TEXT   ? "text"
                       : r->format == LR_FORMAT_JSON ? "json_object"
                                                     : "json_schema");
    if (r->format == LR_FORMAT_SCHEMA) {
        lr_put_obj(&t->w, "json_schema");
        lr_put_str(&t->w, "name", r->format_name.n ? r->format_name : LR_STR("answer"));
        if (r->format_description.n)
            lr_put_str(&t->w, "description", r->format_description);
        lr_put_node(&t->w, "schema", r->format_schema);
        lr_put_node(&t->w, "strict", r->format_strict);
        lr_jw_end(&t->w);
    }
    lr_jw_end(&t->w);
    return 0;
}

static void write_sampling(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->max_tokens) {
        lr_put_u64(&t->w, "max_completion_tokens", r->max_tokens);
    }
    lr_put_node(&t->w, "temperature", r->temperature);
    lr_put_node(&t->w, "top_p", r->top_p);
    lr_put_node(&t->w, "top_k", r->top_k);
    lr_put_node(&t->w, "presence_penalty", r->presence_penalty);
    lr_put_node(&t->w, "frequency_penalty", r->frequency_penalty);
    lr_put_node(&t->w, "seed", r->seed);
    lr_put_node(&t->w, "logit_bias", r->logit_bias);
    if (r->logprobs || r->top_logprobs) {
        lr_put_bool(&t->w, "logprobs", !lr_json_is(r->logprobs, LR_JSON_FALSE));
    }
    lr_put_node(&t->w, "top_logprobs", r->top_logprobs);
    if (r->effort.n)
        lr_put_str(&t->w, "reasoning_effort", r->effort);
    if (r->n_stop)
        lr_put_texts(&t->w, "stop", r->stop, r->n_stop);
    if (r->n_given) {
        lr_put_u64(&t->w, "n", r->n);
    }
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
    LR_TRY(write_tool_choice(&t));
    LR_TRY(write_format(&t));
    write_sampling(&t);
    write_stream(&t);
    LR_TRY(write_quiet(&t));
    lr_jw_end(&t.w);
    return 0;
}
