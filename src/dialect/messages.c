/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages.c - requests of Anthropic's Messages API, read and written.
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
 * Writing: Anthropic wants alternating turns, so neighbours of one role are merged into one message
 * (a TOOL message is a user turn). System and developer messages at the front become `system`;
 * later ones are written as messages of role "system" where they stand, which the API of 2026
 * knows: moving them to the front would change their meaning, and a model that takes none refuses
 * in clear words. Empty text blocks, which Anthropic refuses, are left out beside other blocks.
 * Reasoning of other providers carries no signature of Anthropic's and is dropped, and said so; a
 * refusal in the history is text. What has no counterpart is refused by its path (docs/dialects.md
 * has the table).
 *
 * Sources: the API reference of platform.claude.com and the types of the anthropic Python
 * client 2.11.
 */
#include "dialect/dialect_int.h"
#include "dialect/messages_int.h"

#include <stdarg.h>
#include <stdio.h>

#define PATH_MAX_BYTES 120

/* ---- reading ----------------------------------------------------------------------------------
 */

/* Where we are, as numbers: the path is spelled only when something is wrong. */
struct rd {
    struct lr_arena *a;
    struct lr_request *r;
    struct lr_err *err;
    const char *root; /* "messages", "system", "tools" */
    int at[3];        /* message, block, block of a tool result; -1 = not there */
};

static int bad(const struct rd *c, const char *member, const char *what)
{
    static const char *const step[3] = {"", ".content", ".content"};
    char path[PATH_MAX_BYTES];
    size_t n = 0;
    n += (size_t)snprintf(path, sizeof path, "%s", c->root);
    for (int i = 0; i < 3 && c->at[i] >= 0; i++)
        n += (size_t)snprintf(path + n, sizeof path - n, "%s[%d]", step[i], c->at[i]);
    if (member)
        (void)snprintf(path + n, sizeof path - n, "%s%s", n ? "." : "", member); /* cut is fine */
    return lr_want(c->err, path, what);
}

/* null is absent. */
static const struct lr_json *get(const struct lr_json *o, const char *name)
{
    const struct lr_json *v = lr_json_get(o, name);
    return v && v->type != LR_JSON_NULL ? v : NULL;
}

static int text_of(const struct rd *c, const struct lr_json *o, const char *name, bool needed,
                   struct lr_str *out)
{
    const struct lr_json *v = get(o, name);
    if (!v)
        return needed ? bad(c, name, "a string") : 0;
    return lr_json_text(v, out) ? 0 : bad(c, name, "a string");
}

/* Members of o outside `known` (a NULL-ended list) become extras. */
static int extras_of(const struct rd *c, const struct lr_json *o, const char *const *known,
                     struct lr_extra **list)
{
    for (const struct lr_json *m = o->child; m; m = m->next)
        if (m->type != LR_JSON_NULL && !lr_listed(m->key, known))
            LR_TRY(lr_extra_add(c->a, list, m));
    return 0;
}

static int other_part(struct rd *c, const struct lr_json *v, struct lr_part **list)
{
    struct lr_part *p = lr_part_add(c->a, list, LR_PART_OTHER);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->json = v;
    return 0;
}

static int read_text(struct rd *c, const struct lr_json *v, struct lr_part **list)
{
    static const char *const known[] = {"type", "text", NULL};
    struct lr_part *p = lr_part_add(c->a, list, LR_PART_TEXT);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(text_of(c, v, "text", true, &p->text));
    for (const struct lr_json *m = v->child; m; m = m->next) {
        /* Clients send back what they got, and "citations": [] says nothing. */
        bool hollow = lr_str_is(m->key, "citations") && m->type == LR_JSON_ARRAY && !m->n;
        if (m->type != LR_JSON_NULL && !hollow && !lr_listed(m->key, known))
            LR_TRY(lr_extra_add(c->a, &p->extra, m));
    }
    return 0;
}

/* An image or a document: both have a source. */
static int read_media(struct rd *c, const struct lr_json *v, bool image, struct lr_part **list)
{
    static const char *const known_image[] = {"type", "source", NULL};
    static const char *const known_doc[] = {"type", "source", "title", NULL};
    static const char *const known_source[] = {"type", "media_type", "data", "url", NULL};
    const struct lr_json *src = get(v, "source");
    struct lr_str kind = {NULL, 0};
    if (!lr_json_is(src, LR_JSON_OBJECT) || !lr_json_text(get(src, "type"), &kind))
        return bad(c, "source", "an object with a type");
    bool inl = lr_str_is(kind, "base64"), url = lr_str_is(kind, "url");
    bool plain = !image && lr_str_is(kind, "text");
    if (lr_str_is(kind, "file"))
        c->r->bypass = c->r->bypass ? c->r->bypass : "file-id";
    if (!inl && !url && !plain)
        return other_part(c, v, list);
    struct lr_part *p = lr_part_add(c->a, list, image ? LR_PART_IMAGE : LR_PART_FILE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    if (url) {
        LR_TRY(text_of(c, src, "url", true, &p->url));
        p->media = image ? p->media : LR_STR("application/pdf");
    } else {
        LR_TRY(text_of(c, src, "media_type", inl, &p->media));
        LR_TRY(text_of(c, src, "data", true, plain ? &p->text : &p->data));
    }
    if (plain && !p->media.n)
        p->media = LR_STR("text/plain");
    if (!image)
        LR_TRY(text_of(c, v, "title", false, &p->name));
    LR_TRY(extras_of(c, src, known_source, &p->extra));
    return extras_of(c, v, image ? known_image : known_doc, &p->extra);
}

static int read_thinking(struct rd *c, const struct lr_json *v, bool redacted,
                         struct lr_part **list)
{
    static const char *const known[] = {"type", "thinking", "signature", NULL};
    static const char *const known_redacted[] = {"type", "data", NULL};
    struct lr_part *p = lr_part_add(c->a, list, LR_PART_REASONING);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->redacted = redacted;
    if (redacted) {
        LR_TRY(text_of(c, v, "data", true, &p->sign));
        return extras_of(c, v, known_redacted, &p->extra);
    }
    LR_TRY(text_of(c, v, "thinking", true, &p->text));
    LR_TRY(text_of(c, v, "signature", false, &p->sign));
    return extras_of(c, v, known, &p->extra);
}

static int read_tool_use(struct rd *c, const struct lr_json *v, struct lr_part **list)
{
    static const char *const known[] = {"type", "id", "name", "input", NULL};
    struct lr_part *p = lr_part_add(c->a, list, LR_PART_TOOL_CALL);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(text_of(c, v, "id", true, &p->id));
    LR_TRY(text_of(c, v, "name", true, &p->name));
    const struct lr_json *input = get(v, "input");
    if (!lr_json_is(input, LR_JSON_OBJECT))
        return bad(c, "input", "an object");
    p->text = input->raw;
    return extras_of(c, v, known, &p->extra);
}

static int read_block(struct rd *c, const struct lr_json *v, struct lr_part **list, int level);

/* A string, or blocks; level 1: of a message, 2: of a tool result. */
static int read_content(struct rd *c, const struct lr_json *v, struct lr_part **list, int level)
{
    if (lr_json_is(v, LR_JSON_STRING)) {
        struct lr_part *p = lr_part_add(c->a, list, LR_PART_TEXT);
        LR_FAIL_IF(!p, LR_ENOMEM);
        p->text = v->text;
        return 0;
    }
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return bad(c, "content", "a string or an array of blocks");
    c->at[level] = 0;
    for (const struct lr_json *b = v->child; b; b = b->next, c->at[level]++)
        LR_TRY(read_block(c, b, list, level));
    c->at[level] = -1;
    return 0;
}

static int read_tool_result(struct rd *c, const struct lr_json *v, struct lr_part **list)
{
    static const char *const known[] = {"type", "tool_use_id", "content", "is_error", NULL};
    struct lr_part *p = lr_part_add(c->a, list, LR_PART_TOOL_RESULT);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(text_of(c, v, "tool_use_id", true, &p->id));
    const struct lr_json *e = get(v, "is_error");
    if (e && !lr_json_bool(e, &p->is_error))
        return bad(c, "is_error", "a boolean");
    const struct lr_json *content = get(v, "content");
    if (content)
        LR_TRY(read_content(c, content, &p->parts, 2));
    return extras_of(c, v, known, &p->extra);
}

static int read_block(struct rd *c, const struct lr_json *v, struct lr_part **list, int level)
{
    struct lr_str type = {NULL, 0};
    if (!lr_json_is(v, LR_JSON_OBJECT) || !lr_json_text(get(v, "type"), &type))
        return bad(c, NULL, "a block with a type");
    if (lr_str_is(type, "text"))
        return read_text(c, v, list);
    if (lr_str_is(type, "image"))
        return read_media(c, v, true, list);
    if (lr_str_is(type, "document"))
        return read_media(c, v, false, list);
    if (level == 1) {
        if (lr_str_is(type, "tool_use"))
            return read_tool_use(c, v, list);
        if (lr_str_is(type, "tool_result"))
            return read_tool_result(c, v, list);
        if (lr_str_is(type, "thinking"))
            return read_thinking(c, v, false, list);
        if (lr_str_is(type, "redacted_thinking"))
            return read_thinking(c, v, true, list);
    }
    if (lr_str_is(type, "container_upload") && !c->r->bypass)
        c->r->bypass = "file-id";
    return other_part(c, v, list);
}

static bool is_result(const struct lr_json *block)
{
    struct lr_str type = {NULL, 0};
    return lr_json_is(block, LR_JSON_OBJECT) && lr_json_text(lr_json_get(block, "type"), &type) &&
           lr_str_is(type, "tool_result");
}

/* A user message, cut where its blocks change between tool results and the rest. */
static int read_user(struct rd *c, const struct lr_json *content, struct lr_msg **first)
{
    if (!lr_json_is(content, LR_JSON_ARRAY) || !content->n) {
        LR_FAIL_IF(!(*first = lr_msg_add(c->a, c->r, LR_ROLE_USER)), LR_ENOMEM);
        return read_content(c, content, &(*first)->parts, 1);
    }
    struct lr_msg *m = NULL;
    c->at[1] = 0;
    for (const struct lr_json *b = content->child; b; b = b->next, c->at[1]++) {
        enum lr_role role = is_result(b) ? LR_ROLE_TOOL : LR_ROLE_USER;
        struct lr_msg *last = m ? m : c->r->msgs_last;
        bool goes_on = m ? m->role == role : role == LR_ROLE_TOOL && last && last->role == role;
        m = goes_on ? last : lr_msg_add(c->a, c->r, role);
        LR_FAIL_IF(!m, LR_ENOMEM);
        *first = *first ? *first : m;
        LR_TRY(read_block(c, b, &m->parts, 1));
    }
    c->at[1] = -1;
    return 0;
}

static int read_message(struct rd *c, const struct lr_json *v)
{
    static const char *const known[] = {"role", "content", NULL};
    struct lr_str role = {NULL, 0};
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return bad(c, NULL, "an object");
    LR_TRY(text_of(c, v, "role", true, &role));
    const struct lr_json *content = get(v, "content");
    struct lr_msg *m = NULL;
    if (lr_str_is(role, "user")) {
        LR_TRY(read_user(c, content, &m));
    } else {
        bool assistant = lr_str_is(role, "assistant");
        if (!assistant && !lr_str_is(role, "system"))
            return bad(c, "role", "\"user\", \"assistant\" or \"system\"");
        m = lr_msg_add(c->a, c->r, assistant ? LR_ROLE_ASSISTANT : LR_ROLE_SYSTEM);
        LR_FAIL_IF(!m, LR_ENOMEM);
        LR_TRY(read_content(c, content, &m->parts, 1));
    }
    return extras_of(c, v, known, &m->extra);
}

static int read_messages(struct rd *c)
{
    const struct lr_json *sys = get(c->r->root, "system"), *list = get(c->r->root, "messages");
    if (sys) {
        c->root = "system";
        struct lr_msg *m = lr_msg_add(c->a, c->r, LR_ROLE_SYSTEM);
        LR_FAIL_IF(!m, LR_ENOMEM);
        if (sys->type != LR_JSON_STRING && sys->type != LR_JSON_ARRAY)
            return bad(c, NULL, "a string or an array of blocks");
        int i = 0;
        if (sys->type == LR_JSON_STRING)
            LR_TRY(read_content(c, sys, &m->parts, 1));
        for (const struct lr_json *b = sys->child; b; b = b->next) {
            c->at[0] = i++;
            LR_TRY(read_block(c, b, &m->parts, 2));
        }
        c->at[0] = -1;
    }
    c->root = "messages";
    if (!lr_json_is(list, LR_JSON_ARRAY))
        return bad(c, NULL, "an array");
    c->at[0] = 0;
    for (const struct lr_json *v = list->child; v; v = v->next, c->at[0]++)
        LR_TRY(read_message(c, v));
    c->at[0] = -1;
    return 0;
}

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

static int read_tool(struct rd *c, const struct lr_json *v)
{
    static const char *const known[] = {"type",         "name",   "description",
                                        "input_schema", "strict", NULL};
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return bad(c, NULL, "an object");
    struct lr_str type = LR_STR("custom");
    LR_TRY(text_of(c, v, "type", false, &type));
    struct lr_tool *t = lr_tool_add(c->a, c->r);
    LR_FAIL_IF(!t, LR_ENOMEM);
    LR_TRY(text_of(c, v, "name", lr_str_is(type, "custom"), &t->name));
    if (!lr_str_is(type, "custom")) {
        const char *why = hosted(type);
        c->r->bypass = c->r->bypass ? c->r->bypass : why;
        t->json = v;
        return 0;
    }
    LR_TRY(text_of(c, v, "description", false, &t->description));
    t->schema = get(v, "input_schema");
    if (!lr_json_is(t->schema, LR_JSON_OBJECT))
        return bad(c, "input_schema", "an object");
    t->strict = get(v, "strict");
    bool b;
    if (t->strict && !lr_json_bool(t->strict, &b))
        return bad(c, "strict", "a boolean");
    return extras_of(c, v, known, &t->extra);
}

static int read_tools(struct rd *c, const struct lr_json *v)
{
    c->root = "tools";
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return bad(c, NULL, "an array");
    c->at[0] = 0;
    for (const struct lr_json *t = v->child; t; t = t->next, c->at[0]++)
        LR_TRY(read_tool(c, t));
    c->at[0] = -1;
    return 0;
}

static int read_tool_choice(struct rd *c, const struct lr_json *v)
{
    static const char *const known[] = {"type", "name", "disable_parallel_tool_use", NULL};
    static const struct lr_json no = {.type = LR_JSON_FALSE, .raw = {"false", 5}};
    struct lr_request *r = c->r;
    struct lr_str type = {NULL, 0};
    c->root = "tool_choice";
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return bad(c, NULL, "an object");
    LR_TRY(text_of(c, v, "type", true, &type));
    const struct lr_json *off = get(v, "disable_parallel_tool_use");
    if (off && !lr_json_bool(off, &r->parallel_off))
        return bad(c, "disable_parallel_tool_use", "a boolean");
    r->parallel_tools = r->parallel_off ? &no : NULL;
    if (lr_str_is(type, "auto")) {
        r->tool_choice = LR_TOOL_CHOICE_AUTO;
    } else if (lr_str_is(type, "any")) {
        r->tool_choice = LR_TOOL_CHOICE_REQUIRED;
    } else if (lr_str_is(type, "none")) {
        r->tool_choice = LR_TOOL_CHOICE_NONE;
    } else if (lr_str_is(type, "tool")) {
        r->tool_choice = LR_TOOL_CHOICE_NAMED;
        LR_TRY(text_of(c, v, "name", true, &r->tool_choice_name));
    } else {
        r->tool_choice = LR_TOOL_CHOICE_OTHER;
        r->tool_choice_json = v;
        return 0;
    }
    for (const struct lr_json *m = v->child; m; m = m->next)
        if (m->type != LR_JSON_NULL && !lr_listed(m->key, known))
            return lr_extra_add(c->a, &r->extra, v);
    return 0;
}

static int read_stops(struct rd *c, const struct lr_json *v)
{
    c->root = "stop_sequences";
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return bad(c, NULL, "an array of strings");
    c->r->stop = lr_arena_array(c->a, struct lr_str, (size_t)v->n + 1);
    LR_FAIL_IF(!c->r->stop, LR_ENOMEM);
    c->at[0] = 0;
    for (const struct lr_json *s = v->child; s; s = s->next, c->at[0]++)
        if (!lr_json_text(s, &c->r->stop[c->r->n_stop++]))
            return bad(c, NULL, "a string");
    c->at[0] = -1;
    return 0;
}

/* {"type": "json_schema", "schema": {...}}: false when it says more than that. */
static bool read_schema(struct lr_request *r, const struct lr_json *f)
{
    struct lr_str type = {NULL, 0};
    const struct lr_json *schema = get(f, "schema");
    if (!lr_json_text(get(f, "type"), &type) || !lr_str_is(type, "json_schema") ||
        !lr_json_is(schema, LR_JSON_OBJECT) || f->n != 2)
        return false;
    r->format = LR_FORMAT_SCHEMA;
    r->format_schema = schema;
    return true;
}

/* What does not map leaves the whole member as an extra beside what did. */
static int read_output_config(struct rd *c, const struct lr_json *v)
{
    c->root = "output_config";
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return bad(c, NULL, "an object");
    bool all = true;
    for (const struct lr_json *m = v->child; m; m = m->next) {
        if (m->type == LR_JSON_NULL)
            continue;
        if (lr_str_is(m->key, "effort"))
            LR_TRY(text_of(c, v, "effort", true, &c->r->effort));
        else if (!lr_str_is(m->key, "format") || !read_schema(c->r, m))
            all = false;
    }
    return all ? 0 : lr_extra_add(c->a, &c->r->extra, v);
}

static int read_metadata(struct rd *c, const struct lr_json *v)
{
    c->root = "metadata";
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return bad(c, NULL, "an object");
    LR_TRY(text_of(c, v, "user_id", false, &c->r->user));
    return lr_extra_add(c->a, &c->r->quiet, v);
}

static int number(struct rd *c, const struct lr_json *v, const struct lr_json **out)
{
    if (v->type != LR_JSON_NUMBER)
        return bad(c, NULL, "a number");
    *out = v;
    return 0;
}

static int read_limit(struct rd *c, const struct lr_json *v)
{
    if (!lr_json_u64(v, &c->r->max_tokens))
        return bad(c, NULL, "a whole number");
    return 0;
}

static int read_stream(struct rd *c, const struct lr_json *v)
{
    return lr_json_bool(v, &c->r->stream) ? 0 : bad(c, NULL, "a boolean");
}

static int read_temperature(struct rd *c, const struct lr_json *v)
{
    return number(c, v, &c->r->temperature);
}

static int read_top_p(struct rd *c, const struct lr_json *v)
{
    return number(c, v, &c->r->top_p);
}

static int read_top_k(struct rd *c, const struct lr_json *v)
{
    return number(c, v, &c->r->top_k);
}

static int read_mcp(struct rd *c, const struct lr_json *v)
{
    if ((v->type != LR_JSON_ARRAY || v->n) && !c->r->bypass)
        c->r->bypass = "mcp";
    return lr_extra_add(c->a, &c->r->extra, v);
}

static int read_container(struct rd *c, const struct lr_json *v)
{
    c->r->bypass = c->r->bypass ? c->r->bypass : "container";
    return lr_extra_add(c->a, &c->r->extra, v);
}

static int read_format(struct rd *c, const struct lr_json *v)
{
    return read_schema(c->r, v) ? 0 : lr_extra_add(c->a, &c->r->extra, v);
}

static int read_quiet(struct rd *c, const struct lr_json *v)
{
    return lr_extra_add(c->a, &c->r->quiet, v);
}

static int read_member(struct rd *c, const struct lr_json *v)
{
    static const struct {
        const char *name;
        int (*read)(struct rd *, const struct lr_json *);
    } table[] = {
        {"max_tokens", read_limit},
        {"stream", read_stream},
        {"tools", read_tools},
        {"tool_choice", read_tool_choice},
        {"temperature", read_temperature},
        {"top_p", read_top_p},
        {"top_k", read_top_k},
        {"stop_sequences", read_stops},
        {"metadata", read_metadata},
        {"service_tier", read_quiet},
        {"output_config", read_output_config},
        {"output_format", read_format},
        {"mcp_servers", read_mcp},
        {"container", read_container},
    };
    for (size_t i = 0; i < LR_COUNT(table); i++) {
        if (!lr_str_is(v->key, table[i].name))
            continue;
        c->root = table[i].name;
        return table[i].read(c, v);
    }
    return lr_extra_add(c->a, &c->r->extra, v);
}

static int parse(struct lr_arena *a, struct lr_request *r, struct lr_err *err)
{
    static const char *const first[] = {"model", "messages", "system", NULL};
    struct rd c = {.a = a, .r = r, .err = err, .root = "", .at = {-1, -1, -1}};
    LR_TRY(text_of(&c, r->root, "model", true, &r->model));
    LR_TRY(read_messages(&c));
    c.root = "";
    if (!get(r->root, "max_tokens"))
        return bad(&c, "max_tokens", "a whole number");
    for (const struct lr_json *m = r->root->child; m; m = m->next)
        if (m->type != LR_JSON_NULL && !lr_listed(m->key, first))
            LR_TRY(read_member(&c, m));
    r->n = 1;
    return 0;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

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
    char path[PATH_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(path, sizeof path, fmt, ap); /* cut is fine */
    va_end(ap);
    return lr_err_set(c->err, LR_EUNSUPPORTED, path, "%s has no counterpart in Anthropic Messages",
                      what);
}

/* Extras of a part, message or tool: refused, but for cache_control, which gateways lend to Chat.
 */
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
    if (p->is_error) {
        lr_put_bool(&c->w, "is_error", true);
    }
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
        if (lr_json_is(t->strict, LR_JSON_TRUE)) {
            lr_put_bool(&c->w, "strict", true);
        }
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
    if (r->tool_choice == LR_TOOL_CHOICE_OTHER)
        return refuse(c, "this choice", "tool_choice");
    if (r->tool_choice == LR_TOOL_CHOICE_ABSENT && !(serial && r->tools))
        return 0;
    lr_jw_key(&c->w, "tool_choice");
    lr_put_type(&c->w, names[r->tool_choice]);
    if (r->tool_choice == LR_TOOL_CHOICE_NAMED)
        lr_put_str(&c->w, "name", r->tool_choice_name);
    if (serial && r->tool_choice != LR_TOOL_CHOICE_NONE) {
        lr_put_bool(&c->w, "disable_parallel_tool_use", true);
    }
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
    if (r->format == LR_FORMAT_JSON || r->format == LR_FORMAT_OTHER)
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
    if (r->stream) {
        lr_put_bool(&c->w, "stream", true);
    }
    lr_jw_end(&c->w);
    return c->w.b->rc;
}

static int write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                 struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err)
{
    struct wr c = {.r = r, .dropped = dropped, .err = err};
    lr_arena_init(&c.a, LR_MIB(64));
    lr_jw_init(&c.w, out);
    int rc = write_all(&c, model, default_max_tokens);
    lr_arena_free(&c.a);
    return rc;
}

/* ---- errors -----------------------------------------------------------------------------------
 */

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
    if (request_id && *request_id) {
        lr_put_str(&w, "request_id", lr_strz(request_id));
    }
    lr_jw_end(&w);
}

const struct lr_dialect_ops lr_dialect_messages = {
    .name = "messages",
    .path = "/v1/messages",
    .kind = LR_KIND_CHAT,
    .parse = parse,
    .write = write,
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
