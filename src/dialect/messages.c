/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages.c - requests of Anthropic's Messages API, read; and its errors. Written they are
 * in messages_write.c.
 *
 * Where the two ends differ in shape, not in meaning, the canonical request is the common shape:
 *
 *   system: "..." | [blocks]          one SYSTEM message at the front
 *   user:  [tool_result, text]        a TOOL message, then a USER message: the message is cut
 *                                     wherever its blocks change between results and the rest, so
 *                                     their order survives and two orders give two keys
 *   tool_use.input: {...}             the call's arguments as JSON text
 *   tool_choice.disable_parallel...   parallel_off
 *   output_config: format, effort     format_schema, effort (and the older output_format)
 *
 * Adjacent tool results are one TOOL message even across user messages, as Anthropic itself merges
 * them.
 *
 * Reading: blocks of a type we do not know become OTHER parts, members we do not know become extras
 * of what holds them; both count in the key and neither is translated. Tools that the provider
 * runs, MCP servers, containers and file ids mean that the body is not the whole question:
 * `bypass`.
 *
 * Sources: the API reference of platform.claude.com and the types of the anthropic Python
 * client 2.11.
 */
#include "dialect/messages_int.h"

/* ---- blocks --------------------------------------------------------------------------------- */

static int parse_text(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **list)
{
    static const char *const known[] = {"type", "text", NULL};
    static const char *const known_hollow[] = {"type", "text", "citations", NULL};
    struct lr_part *p = lr_part_add(in->a, list, LR_PART_TEXT);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_need_str(in, v, at, "text", &p->text));
    /* Clients send back what they got, and "citations": [] says nothing. */
    const struct lr_json *notes = lr_json_get(v, "citations");
    bool hollow = lr_json_is(notes, LR_JSON_ARRAY) && !notes->n;
    return lr_take_extras(in, v, hollow ? known_hollow : known, &p->extra);
}

/* An image or a document: both have a source. */
static int parse_media(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                       bool image, struct lr_part **list)
{
    static const char *const known_image[] = {"type", "source", NULL};
    static const char *const known_doc[] = {"type", "source", "title", NULL};
    static const char *const known_source[] = {"type", "media_type", "data", "url", NULL};
    const struct lr_json *src = lr_json_get(v, "source");
    struct lr_str kind = {NULL, 0};
    if (!lr_json_text(lr_json_get(src, "type"), &kind))
        return lr_want_at(in->err, at, "source", "an object with a type");
    bool inl = lr_str_is(kind, "base64"), url = lr_str_is(kind, "url");
    bool plain = !image && lr_str_is(kind, "text");
    if (lr_str_is(kind, "file"))
        lr_bypass(in, "file-id");
    if (!inl && !url && !plain)
        return lr_other_add(in->a, list, v);
    struct lr_part *p = lr_part_add(in->a, list, image ? LR_PART_IMAGE : LR_PART_FILE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    struct lr_at here = {at, "source", -1};
    if (url) {
        LR_TRY(lr_need_str(in, src, &here, "url", &p->url));
        p->media = image ? p->media : LR_STR("application/pdf");
    } else {
        LR_TRY((inl ? lr_need_str : lr_take_str)(in, src, &here, "media_type", &p->media));
        LR_TRY(lr_need_str(in, src, &here, "data", plain ? &p->text : &p->data));
    }
    if (plain && !p->media.n)
        p->media = LR_STR("text/plain");
    if (!image)
        LR_TRY(lr_take_str(in, v, at, "title", &p->name));
    LR_TRY(lr_take_extras(in, src, known_source, &p->extra));
    return lr_take_extras(in, v, image ? known_image : known_doc, &p->extra);
}

static int parse_thinking(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                          bool redacted, struct lr_part **list)
{
    static const char *const known[] = {"type", "thinking", "signature", NULL};
    static const char *const known_redacted[] = {"type", "data", NULL};
    struct lr_part *p = lr_part_add(in->a, list, LR_PART_REASONING);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->redacted = redacted;
    if (redacted) {
        LR_TRY(lr_need_str(in, v, at, "data", &p->sign));
        return lr_take_extras(in, v, known_redacted, &p->extra);
    }
    LR_TRY(lr_need_str(in, v, at, "thinking", &p->text));
    LR_TRY(lr_take_str(in, v, at, "signature", &p->sign));
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_tool_use(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                          struct lr_part **list)
{
    static const char *const known[] = {"type", "id", "name", "input", NULL};
    struct lr_part *p = lr_part_add(in->a, list, LR_PART_TOOL_CALL);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_need_str(in, v, at, "id", &p->id));
    LR_TRY(lr_need_str(in, v, at, "name", &p->name));
    const struct lr_json *input = lr_json_get(v, "input");
    if (!lr_json_is(input, LR_JSON_OBJECT))
        return lr_want_at(in->err, at, "input", "an object");
    p->text = input->raw;
    return lr_take_extras(in, v, known, &p->extra);
}

/* Blocks that may stand everywhere: in a message, in a tool's result, in `system`. */
static int parse_plain_block(const struct lr_in *in, const struct lr_json *v,
                             const struct lr_at *at, struct lr_part **list)
{
    struct lr_str type = {NULL, 0};
    LR_TRY(lr_need_str(in, v, at, "type", &type));
    if (lr_str_is(type, "text"))
        return parse_text(in, v, at, list);
    if (lr_str_is(type, "image"))
        return parse_media(in, v, at, true, list);
    if (lr_str_is(type, "document"))
        return parse_media(in, v, at, false, list);
    if (lr_str_is(type, "container_upload"))
        lr_bypass(in, "file-id");
    return lr_other_add(in->a, list, v);
}

static int parse_result(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                        struct lr_part **list)
{
    static const char *const known[] = {"type", "tool_use_id", "content", "is_error", NULL};
    struct lr_part *p = lr_part_add(in->a, list, LR_PART_TOOL_RESULT);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_need_str(in, v, at, "tool_use_id", &p->id));
    LR_TRY(lr_take_bool(in, v, at, "is_error", &p->is_error));
    const struct lr_json *content = lr_json_get(v, "content");
    if (lr_given(content))
        LR_TRY(lr_take_content(in, content, at, "content", parse_plain_block, &p->parts));
    return lr_take_extras(in, v, known, &p->extra);
}

static bool is_result(const struct lr_json *block)
{
    return lr_str_is(lr_text_of(block, "type"), "tool_result");
}

static int parse_block(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **list)
{
    struct lr_str type = lr_text_of(v, "type");
    if (lr_str_is(type, "tool_use"))
        return parse_tool_use(in, v, at, list);
    if (is_result(v))
        return parse_result(in, v, at, list);
    if (lr_str_is(type, "thinking"))
        return parse_thinking(in, v, at, false, list);
    if (lr_str_is(type, "redacted_thinking"))
        return parse_thinking(in, v, at, true, list);
    return parse_plain_block(in, v, at, list);
}

/* ---- messages ------------------------------------------------------------------------------- */

/* A user message, cut where its blocks change between tool results and the rest. */
static int parse_user(const struct lr_in *in, const struct lr_json *content, const struct lr_at *up,
                      struct lr_msg **first)
{
    if (!lr_json_is(content, LR_JSON_ARRAY) || !content->n) {
        LR_FAIL_IF(!(*first = lr_msg_add(in->a, in->r, LR_ROLE_USER)), LR_ENOMEM);
        return lr_take_content(in, content, up, "content", parse_block, &(*first)->parts);
    }
    struct lr_msg *m = NULL;
    struct lr_at at = {up, "content", 0};
    for (const struct lr_json *b = content->child; b; b = b->next, at.index++) {
        if (b->type != LR_JSON_OBJECT)
            return lr_want_at(in->err, &at, NULL, "an object");
        bool result = is_result(b);
        enum lr_role role = result ? LR_ROLE_TOOL : LR_ROLE_USER;
        struct lr_msg *last = m ? m : in->r->msgs_last;
        bool goes_on = m ? m->role == role : result && last && last->role == role;
        m = goes_on ? last : lr_msg_add(in->a, in->r, role);
        LR_FAIL_IF(!m, LR_ENOMEM);
        *first = *first ? *first : m;
        LR_TRY(parse_block(in, b, &at, &m->parts));
    }
    return 0;
}

static int parse_message(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"role", "content", NULL};
    struct lr_str role = {NULL, 0};
    LR_TRY(lr_need_str(in, v, at, "role", &role));
    const struct lr_json *content = lr_json_get(v, "content");
    struct lr_msg *m = NULL;
    if (lr_str_is(role, "user")) {
        LR_TRY(parse_user(in, content, at, &m));
    } else {
        bool assistant = lr_str_is(role, "assistant");
        if (!assistant && !lr_str_is(role, "system"))
            return lr_want_at(in->err, at, "role", "\"user\", \"assistant\" or \"system\"");
        m = lr_msg_add(in->a, in->r, assistant ? LR_ROLE_ASSISTANT : LR_ROLE_SYSTEM);
        LR_FAIL_IF(!m, LR_ENOMEM);
        LR_TRY(lr_take_content(in, content, at, "content", parse_block, &m->parts));
    }
    return lr_take_extras(in, v, known, &m->extra);
}

static int parse_messages(const struct lr_in *in)
{
    const struct lr_json *system = lr_json_get(in->r->root, "system");
    const struct lr_json *list = lr_json_get(in->r->root, "messages");
    if (lr_given(system)) {
        struct lr_msg *m = lr_msg_add(in->a, in->r, LR_ROLE_SYSTEM);
        LR_FAIL_IF(!m, LR_ENOMEM);
        LR_TRY(lr_take_content(in, system, NULL, "system", parse_plain_block, &m->parts));
    }
    return list ? lr_take_list(in, list, "messages", parse_message)
                : lr_want(in->err, "messages", "an array");
}

/* ---- members -------------------------------------------------------------------------------- */

/* Tools that run at the provider: the answer depends on more than the body. */
static const char *hosted(struct lr_str type)
{
    static const char *const prefixes[] = {"web_search_", "web_fetch_", "code_execution_",
                                           "tool_search_tool_", NULL};
    if (lr_str_starts(type, LR_STR("mcp_")))
        return "mcp";
    for (const char *const *p = prefixes; *p; p++)
        if (lr_str_starts(type, lr_strz(*p)))
            return "hosted-tool";
    return NULL;
}

static int parse_tool(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type",         "name",   "description",
                                        "input_schema", "strict", NULL};
    struct lr_str type = LR_STR("custom");
    LR_TRY(lr_take_str(in, v, at, "type", &type));
    bool custom = lr_str_is(type, "custom");
    struct lr_tool *t = lr_tool_add(in->a, in->r);
    LR_FAIL_IF(!t, LR_ENOMEM);
    LR_TRY((custom ? lr_need_str : lr_take_str)(in, v, at, "name", &t->name));
    if (!custom) {
        lr_bypass(in, hosted(type));
        t->json = v;
        return 0;
    }
    LR_TRY(lr_take_str(in, v, at, "description", &t->description));
    t->schema = lr_json_get(v, "input_schema");
    if (!lr_json_is(t->schema, LR_JSON_OBJECT))
        return lr_want_at(in->err, at, "input_schema", "an object");
    LR_TRY(lr_take_flag(in, v, at, "strict", &t->strict));
    return lr_take_extras(in, v, known, &t->extra);
}

static int parse_tools(const struct lr_in *in, const struct lr_json *v)
{
    return lr_take_list(in, v, "tools", parse_tool);
}

static int parse_tool_choice(const struct lr_in *in, const struct lr_json *v)
{
    static const struct {
        const char *name;
        enum lr_tool_choice choice;
    } types[] = {{"auto", LR_TOOL_CHOICE_AUTO},
                 {"any", LR_TOOL_CHOICE_REQUIRED},
                 {"none", LR_TOOL_CHOICE_NONE},
                 {"tool", LR_TOOL_CHOICE_NAMED}};
    static const char *const known[] = {"type", "name", "disable_parallel_tool_use", NULL};
    static const struct lr_json no = {.type = LR_JSON_FALSE, .raw = {"false", 5}};
    const struct lr_at at = {NULL, "tool_choice", -1};
    struct lr_request *r = in->r;
    struct lr_str type = {NULL, 0};
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return lr_want(in->err, "tool_choice", "an object");
    LR_TRY(lr_need_str(in, v, &at, "type", &type));
    LR_TRY(lr_take_bool(in, v, &at, "disable_parallel_tool_use", &r->parallel_off));
    r->parallel_tools = r->parallel_off ? &no : NULL;
    r->tool_choice = LR_TOOL_CHOICE_OTHER;
    for (size_t i = 0; i < LR_COUNT(types); i++)
        if (lr_str_is(type, types[i].name))
            r->tool_choice = types[i].choice;
    if (r->tool_choice == LR_TOOL_CHOICE_OTHER) {
        r->tool_choice_json = v;
        return 0;
    }
    if (r->tool_choice == LR_TOOL_CHOICE_NAMED)
        LR_TRY(lr_need_str(in, v, &at, "name", &r->tool_choice_name));
    for (const struct lr_json *m = v->child; m; m = m->next)
        if (lr_given(m) && !lr_listed(m->key, known))
            return lr_extra_add(in->a, &r->extra, v);
    return 0;
}

static int parse_stops(const struct lr_in *in, const struct lr_json *v)
{
    struct lr_at at = {NULL, "stop_sequences", 0};
    struct lr_request *r = in->r;
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return lr_want(in->err, "stop_sequences", "an array of strings");
    r->stop = lr_arena_array(in->a, struct lr_str, (size_t)v->n + 1);
    LR_FAIL_IF(!r->stop, LR_ENOMEM);
    for (const struct lr_json *s = v->child; s; s = s->next, at.index++)
        if (!lr_json_text(s, &r->stop[r->n_stop++]))
            return lr_want_at(in->err, &at, NULL, "a string");
    return 0;
}

/* {"type": "json_schema", "schema": {...}}: false when it says more than that. */
static bool take_schema(struct lr_request *r, const struct lr_json *f)
{
    const struct lr_json *schema = lr_json_get(f, "schema");
    if (!lr_str_is(lr_text_of(f, "type"), "json_schema") || !lr_json_is(schema, LR_JSON_OBJECT) ||
        f->n != 2)
        return false;
    r->format = LR_FORMAT_SCHEMA;
    r->format_schema = schema;
    return true;
}

/* What does not map leaves the whole member as an extra beside what did. */
static int parse_output_config(const struct lr_in *in, const struct lr_json *v)
{
    const struct lr_at at = {NULL, "output_config", -1};
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return lr_want(in->err, "output_config", "an object");
    bool all = true;
    for (const struct lr_json *m = v->child; m; m = m->next) {
        if (!lr_given(m))
            continue;
        if (lr_str_is(m->key, "effort"))
            LR_TRY(lr_need_str(in, v, &at, "effort", &in->r->effort));
        else if (!lr_str_is(m->key, "format") || !take_schema(in->r, m))
            all = false;
    }
    return all ? 0 : lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_format(const struct lr_in *in, const struct lr_json *v)
{
    return take_schema(in->r, v) ? 0 : lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_metadata(const struct lr_in *in, const struct lr_json *v)
{
    const struct lr_at at = {NULL, "metadata", -1};
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return lr_want(in->err, "metadata", "an object");
    LR_TRY(lr_take_str(in, v, &at, "user_id", &in->r->user));
    return lr_extra_add(in->a, &in->r->quiet, v);
}

static int parse_mcp(const struct lr_in *in, const struct lr_json *v)
{
    if (v->type != LR_JSON_ARRAY || v->n)
        lr_bypass(in, "mcp");
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_container(const struct lr_in *in, const struct lr_json *v)
{
    lr_bypass(in, "container");
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse(const struct lr_in *in)
{
    static const struct lr_member own[] = {
        {"model", .take = lr_take_nothing}, /* these three: below */
        {"messages", .take = lr_take_nothing},
        {"system", .take = lr_take_nothing},
        {"max_tokens", LR_MEMBER_COUNT, LR_AT(max_tokens)},
        {"stream", LR_MEMBER_BOOL, LR_AT(stream)},
        {"tools", .take = parse_tools},
        {"tool_choice", .take = parse_tool_choice},
        {"temperature", LR_MEMBER_NUMBER, LR_AT(temperature)},
        {"top_p", LR_MEMBER_NUMBER, LR_AT(top_p)},
        {"top_k", LR_MEMBER_NUMBER, LR_AT(top_k)},
        {"stop_sequences", .take = parse_stops},
        {"metadata", .take = parse_metadata},
        {"service_tier", .take = lr_take_quiet},
        {"output_config", .take = parse_output_config},
        {"output_format", .take = parse_format},
        {"mcp_servers", .take = parse_mcp},
        {"container", .take = parse_container},
        {.name = NULL},
    };
    static const struct lr_member *const all[] = {own, NULL};
    const struct lr_json *root = in->r->root;
    LR_TRY(lr_need_str(in, root, NULL, "model", &in->r->model));
    LR_TRY(parse_messages(in));
    if (!lr_given(lr_json_get(root, "max_tokens")))
        return lr_want(in->err, "max_tokens", "a whole number");
    return lr_take_members(in, all);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static const struct {
    uint16_t status;
    const char *type;
} types[] = {{400, "invalid_request_error"}, {401, "authentication_error"},
             {402, "billing_error"},         {403, "permission_error"},
             {404, "not_found_error"},       {413, "request_too_large"},
             {429, "rate_limit_error"},      {500, "api_error"},
             {504, "timeout_error"},         {529, "overloaded_error"}};

static const char *error_type(int status)
{
    for (size_t i = 0; i < LR_COUNT(types); i++)
        if (types[i].status == status)
            return types[i].type;
    return status >= 400 && status < 500 ? "invalid_request_error" : "api_error";
}

uint16_t lr_messages_status(struct lr_str type)
{
    for (size_t i = 0; i < LR_COUNT(types); i++)
        if (lr_str_is(type, types[i].type))
            return types[i].status;
    return 500;
}

void lr_messages_error(int status, struct lr_str code, struct lr_str message,
                       const char *request_id, struct lr_buf *out)
{
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_put_str(&w, "type", LR_STR("error"));
    lr_put_obj(&w, "error");
    lr_put_str(&w, "type", lr_strz(error_type(status)));
    lr_put_str(&w, "message", message);
    if (code.n) /* ours, beside Anthropic's members: clients branch on `type` */
        lr_put_str(&w, "code", code);
    lr_jw_end(&w);
    if (request_id && *request_id)
        lr_put_str(&w, "request_id", lr_strz(request_id));
    lr_jw_end(&w);
}

const struct lr_dialect_ops lr_dialect_messages = {
    .name = "messages",
    .path = "/v1/messages",
    .kind = LR_KIND_CHAT,
    .parse = parse,
    .write = lr_messages_write,
    .dec_size = sizeof(struct lr_messages_dec),
    .dec_event = lr_messages_dec_event,
    .dec_whole = lr_messages_dec_whole,
    .dec_done = lr_messages_dec_done,
    .enc_size = sizeof(struct lr_messages_enc),
    .enc_stream = lr_messages_enc_stream,
    .enc_whole = lr_messages_enc_whole,
    .enc_close = lr_messages_enc_close,
    .error = lr_messages_error,
};
