/* SPDX-License-Identifier: Apache-2.0
 * dialect/responses.c - OpenAI Responses without server-side state: requests. Answers are in
 * responses_out.c.
 *
 * Reading. `input` is a list of items where Chat has messages. An assistant's turn is several
 * items:
 *
 *   reasoning   message   function_call   function_call        four items
 *   [REASONING, TEXT,     TOOL_CALL,      TOOL_CALL]           one ASSISTANT message
 *
 * so an item joins the message before it when the order reasoning, message, calls goes on, and
 * opens a new one when it does not. That is one-to-one: different lists of items stay different
 * messages, and so do their keys. Adjacent function_call_outputs are one TOOL message, as in
 * chat.c. `instructions` is the first SYSTEM message. Ids and states of items that an earlier
 * answer gave are not kept: they name nothing unless the provider has stored it, and replayed
 * answers have fresh ones.
 *
 *   bypass: previous_response_id, conversation, background, prompt, items by reference (and
 * reasoning that is an id alone), file ids, tools the provider runs (every type of tool not known
 * to run at the client's), MCP
 *
 * Items of unknown types are OTHER parts: outputs of tools in a USER message, others in an
 * ASSISTANT's. Members of `text` and `reasoning` beside format and effort are extras under their
 * own names.
 *
 * Writing. `store` is written false: Chat and Messages keep nothing unless told to, Responses does.
 * Tools without `strict` get it false for the same reason. Stop sequences, n, seed, penalties,
 * logit bias and top_k have no place and are refused; zeros say nothing and are left out. What may
 * be dropped by name is in docs/dialects.md.
 *
 * Source: OpenAI API reference, "Create a model response"; the types of the openai Python
 * client 3.52.
 */
#include "dialect/responses_int.h"

#include <stdio.h>

/* ---- reading: parts ---------------------------------------------------------------------------
 */

struct in {
    struct lr_arena *a;
    struct lr_request *r;
    struct lr_err *err;
    unsigned stage; /* how far the last message's turn has come: see join() */
};

static void bypass(const struct in *in, const char *why)
{
    if (!in->r->bypass)
        in->r->bypass = why;
}

/* Members of o other than the named ones (a NULL-ended list) that say something, into list. */
static int rest(const struct in *in, const struct lr_json *o, const char *const *known,
                struct lr_extra **list)
{
    for (const struct lr_json *m = o->child; m; m = m->next) {
        size_t i = 0;
        while (known[i] && !lr_str_is(m->key, known[i]))
            i++;
        if (!known[i] && lr_given(m))
            LR_TRY(lr_extra_add(in->a, list, m));
    }
    return 0;
}

static int need_text(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                     const char *name, struct lr_str *out)
{
    return lr_json_text(lr_json_get(v, name), out) ? 0 : lr_want_at(in->err, at, name, "a string");
}

static int other(const struct in *in, const struct lr_json *v, struct lr_part **parts)
{
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_OTHER);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->json = v;
    return 0;
}

static int parse_text(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      const char *name, enum lr_part_type type, struct lr_part **parts)
{
    const char *const known[] = {"type", name, "annotations", "logprobs", NULL};
    struct lr_part *p = lr_part_add(in->a, parts, type);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(need_text(in, v, at, name, &p->text));
    /* Echoes of an answer's own decoration say nothing when they are empty. */
    for (size_t i = 2; i < 4; i++) {
        const struct lr_json *echo = lr_json_get(v, known[i]);
        if (echo && !lr_json_is_void(echo->raw))
            LR_TRY(lr_extra_add(in->a, &p->extra, echo));
    }
    return rest(in, v, known, &p->extra);
}

static int parse_image(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **parts)
{
    static const char *const known[] = {"type", "image_url", "detail", "file_id", NULL};
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_IMAGE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    struct lr_str url = {NULL, 0};
    LR_TRY(lr_take_str(lr_json_get(v, "image_url"), at, "image_url", &url, in->err));
    LR_TRY(lr_take_str(lr_json_get(v, "file_id"), at, "file_id", &p->id, in->err));
    LR_TRY(lr_take_str(lr_json_get(v, "detail"), at, "detail", &p->detail, in->err));
    if (p->id.n)
        bypass(in, "file-id");
    else if (!url.n)
        return lr_want_at(in->err, at, "image_url", "a string");
    if (lr_url_split(url, p))
        return lr_want_at(in->err, at, "image_url", "a URL, or data:<media>;base64,<data>");
    return rest(in, v, known, &p->extra);
}

static int parse_file(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    static const char *const known[] = {"type",    "file_data", "file_url",
                                        "file_id", "filename",  NULL};
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_FILE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    struct lr_str data = {NULL, 0};
    LR_TRY(lr_take_str(lr_json_get(v, "file_data"), at, "file_data", &data, in->err));
    LR_TRY(lr_take_str(lr_json_get(v, "file_url"), at, "file_url", &p->url, in->err));
    LR_TRY(lr_take_str(lr_json_get(v, "file_id"), at, "file_id", &p->id, in->err));
    LR_TRY(lr_take_str(lr_json_get(v, "filename"), at, "filename", &p->name, in->err));
    if (p->id.n)
        bypass(in, "file-id");
    else if (!data.n && !p->url.n)
        return lr_want_at(in->err, at, "file_data", "a string");
    if (data.n) {
        struct lr_part split = {0};
        if (lr_url_split(data, &split))
            return lr_want_at(in->err, at, "file_data", "data:<media>;base64,<data>");
        p->media = split.media;
        p->data = split.url.n ? split.url : split.data; /* bare base64 is taken too */
    }
    return rest(in, v, known, &p->extra);
}

static int parse_part(const struct in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = {NULL, 0};
    LR_TRY(need_text(in, v, at, "type", &type));
    if (lr_str_is(type, "input_text") || lr_str_is(type, "output_text") || lr_str_is(type, "text"))
        return parse_text(in, v, at, "text", LR_PART_TEXT, parts);
    if (lr_str_is(type, "refusal"))
        return parse_text(in, v, at, "refusal", LR_PART_REFUSAL, parts);
    if (lr_str_is(type, "input_image"))
        return parse_image(in, v, at, parts);
    if (lr_str_is(type, "input_file"))
        return parse_file(in, v, at, parts);
    return other(in, v, parts);
}

static int parse_content(const struct in *in, const struct lr_json *v, const struct lr_at *item,
                         const char *name, struct lr_part **parts)
{
    if (lr_json_is(v, LR_JSON_STRING)) {
        struct lr_part *p = lr_part_add(in->a, parts, LR_PART_TEXT);
        LR_FAIL_IF(!p, LR_ENOMEM);
        p->text = v->text;
        return 0;
    }
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return lr_want_at(in->err, item, name, "a string or an array of parts");
    long i = 0;
    for (const struct lr_json *c = v->child; c; c = c->next) {
        struct lr_at at = {item, name, i++};
        LR_TRY(parse_part(in, c, &at, parts));
    }
    return 0;
}

/* ---- reading: items ---------------------------------------------------------------------------
 */

enum stage { S_NONE, S_REASONING, S_MESSAGE, S_CALLS, S_RESULTS };

/* The message an item of this stage belongs to: the last one while its turn goes on. */
static struct lr_msg *join(struct in *in, enum stage stage)
{
    bool goes_on = stage == S_CALLS     ? in->stage >= S_REASONING && in->stage <= S_CALLS
                   : stage == S_MESSAGE ? in->stage == S_REASONING
                                        : stage == (enum stage)in->stage;
    in->stage = stage;
    if (goes_on)
        return in->r->msgs_last;
    return lr_msg_add(in->a, in->r, stage == S_RESULTS ? LR_ROLE_TOOL : LR_ROLE_ASSISTANT);
}

static int parse_message(struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type", "role", "content", "id", "status", NULL};
    static const struct {
        const char *name;
        enum lr_role role;
    } roles[] = {
        {"user", LR_ROLE_USER}, {"system", LR_ROLE_SYSTEM}, {"developer", LR_ROLE_DEVELOPER}};
    struct lr_str role = {NULL, 0};
    struct lr_msg *m = NULL;
    LR_TRY(need_text(in, v, at, "role", &role));
    if (lr_str_is(role, "assistant")) {
        LR_FAIL_IF(!(m = join(in, S_MESSAGE)), LR_ENOMEM);
    } else {
        size_t i = 0;
        while (i < LR_COUNT(roles) && !lr_str_is(role, roles[i].name))
            i++;
        if (i == LR_COUNT(roles))
            return lr_want_at(in->err, at, "role", "user, assistant, system or developer");
        in->stage = S_NONE;
        LR_FAIL_IF(!(m = lr_msg_add(in->a, in->r, roles[i].role)), LR_ENOMEM);
    }
    LR_TRY(parse_content(in, lr_json_get(v, "content"), at, "content", &m->parts));
    return rest(in, v, known, &m->extra);
}

static int parse_call(struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type",   "call_id", "name",      "id",
                                        "status", "caller",  "arguments", NULL};
    struct lr_msg *m = join(in, S_CALLS);
    struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TOOL_CALL) : NULL;
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(need_text(in, v, at, "call_id", &p->id));
    LR_TRY(need_text(in, v, at, "name", &p->name));
    LR_TRY(need_text(in, v, at, "arguments", &p->text));
    struct lr_str type = {NULL, 0};
    const struct lr_json *caller = lr_json_get(v, "caller");
    if (lr_given(caller) && !(caller->n == 1 && lr_json_text(lr_json_get(caller, "type"), &type) &&
                              lr_str_is(type, "direct")))
        LR_TRY(lr_extra_add(in->a, &p->extra, caller));
    return rest(in, v, known, &p->extra);
}

static int parse_result(struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type", "call_id", "output", "id", "status", NULL};
    struct lr_msg *m = join(in, S_RESULTS);
    struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TOOL_RESULT) : NULL;
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(need_text(in, v, at, "call_id", &p->id));
    LR_TRY(parse_content(in, lr_json_get(v, "output"), at, "output", &p->parts));
    return rest(in, v, known, &p->extra);
}

/* Each text of the summary (or of the content, which open models show) is a part; the encrypted
 * content signs the last one. */
static int parse_reasoning(struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type",    "id", "encrypted_content", "status", "summary",
                                        "content", NULL};
    struct lr_msg *m = join(in, S_REASONING);
    LR_FAIL_IF(!m, LR_ENOMEM);
    struct lr_part *p = NULL;
    for (size_t i = 4; i < 6; i++) {
        const struct lr_json *list = NULL;
        LR_TRY(lr_take_type(lr_json_get(v, known[i]), LR_JSON_ARRAY, at, known[i], &list, in->err));
        for (const struct lr_json *t = list ? list->child : NULL; t; t = t->next) {
            struct lr_at here = {at, known[i], -1};
            LR_FAIL_IF(!(p = lr_part_add(in->a, &m->parts, LR_PART_REASONING)), LR_ENOMEM);
            LR_TRY(need_text(in, t, &here, "text", &p->text));
        }
    }
    if (!p)
        LR_FAIL_IF(!(p = lr_part_add(in->a, &m->parts, LR_PART_REASONING)), LR_ENOMEM);
    LR_TRY(lr_take_str(lr_json_get(v, "encrypted_content"), at, "encrypted_content", &p->sign,
                       in->err));
    if (!p->sign.n && !p->text.n && lr_given(lr_json_get(v, "id")))
        bypass(in, "item-reference");
    return rest(in, v, known, &p->extra);
}

static int parse_other(struct in *in, const struct lr_json *v, struct lr_str type)
{
    static const char tail[] = "_output";
    size_t n = sizeof tail - 1;
    bool result = type.n > n && memcmp(type.p + type.n - n, tail, n) == 0;
    in->stage = S_NONE;
    struct lr_msg *m = lr_msg_add(in->a, in->r, result ? LR_ROLE_USER : LR_ROLE_ASSISTANT);
    LR_FAIL_IF(!m, LR_ENOMEM);
    return other(in, v, &m->parts);
}

static int parse_item(struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = {NULL, 0};
    LR_TRY(lr_take_str(lr_json_get(v, "type"), at, "type", &type, in->err));
    if (lr_str_is(type, "message") || (!type.n && lr_json_get(v, "role")))
        return parse_message(in, v, at);
    if (lr_str_is(type, "function_call"))
        return parse_call(in, v, at);
    if (lr_str_is(type, "function_call_output"))
        return parse_result(in, v, at);
    if (lr_str_is(type, "reasoning"))
        return parse_reasoning(in, v, at);
    if (!type.n && !lr_json_get(v, "id"))
        return lr_want_at(in->err, at, "type", "a string");
    if (!type.n || lr_str_is(type, "item_reference"))
        bypass(in, "item-reference");
    return parse_other(in, v, type);
}

static int parse_input(struct in *in)
{
    struct lr_str instructions = {NULL, 0};
    const struct lr_json *root = in->r->root, *input = lr_json_get(root, "input");
    LR_TRY(lr_take_str(lr_json_get(root, "instructions"), NULL, "instructions", &instructions,
                       in->err));
    if (instructions.n) {
        struct lr_msg *m = lr_msg_add(in->a, in->r, LR_ROLE_SYSTEM);
        struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TEXT) : NULL;
        LR_FAIL_IF(!p, LR_ENOMEM);
        p->text = instructions;
    }
    if (lr_json_is(input, LR_JSON_STRING)) {
        struct lr_msg *m = lr_msg_add(in->a, in->r, LR_ROLE_USER);
        LR_FAIL_IF(!m, LR_ENOMEM);
        return parse_content(in, input, NULL, "input", &m->parts);
    }
    if (!lr_given(input) && in->r->bypass)
        return 0;
    if (!lr_json_is(input, LR_JSON_ARRAY))
        return lr_want(in->err, "input", "a string or an array of items");
    long i = 0;
    for (const struct lr_json *v = input->child; v; v = v->next) {
        struct lr_at at = {NULL, "input", i++};
        LR_TRY(parse_item(in, v, &at));
    }
    return 0;
}

/* ---- reading: members -------------------------------------------------------------------------
 */

static int parse_tool(struct in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type",       "name",   "description",
                                        "parameters", "strict", NULL};
    static const char *const at_client[] = {"custom",      "local_shell", "computer_use_preview",
                                            "apply_patch", "computer",    "namespace"};
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = {NULL, 0};
    LR_TRY(need_text(in, v, at, "type", &type));
    struct lr_tool *t = lr_tool_add(in->a, in->r);
    LR_FAIL_IF(!t, LR_ENOMEM);
    if (!lr_str_is(type, "function")) {
        size_t i = 0;
        while (i < LR_COUNT(at_client) && !lr_str_is(type, at_client[i]))
            i++;
        if (i == LR_COUNT(at_client))
            bypass(in, lr_str_is(type, "mcp") ? "mcp" : "hosted-tool");
        t->name = type;
        t->json = v;
        return 0;
    }
    bool strict;
    LR_TRY(need_text(in, v, at, "name", &t->name));
    LR_TRY(lr_take_str(lr_json_get(v, "description"), at, "description", &t->description, in->err));
    LR_TRY(lr_take_type(lr_json_get(v, "parameters"), LR_JSON_OBJECT, at, "parameters", &t->schema,
                        in->err));
    LR_TRY(lr_take_bool(lr_json_get(v, "strict"), at, "strict", &strict, in->err));
    if (lr_given(lr_json_get(v, "strict")))
        t->strict = lr_json_get(v, "strict");
    return rest(in, v, known, &t->extra);
}

static int parse_tools(struct in *in, const struct lr_json *v)
{
    if (v->type != LR_JSON_ARRAY)
        return lr_want(in->err, "tools", "an array");
    long i = 0;
    for (const struct lr_json *t = v->child; t; t = t->next) {
        struct lr_at at = {NULL, "tools", i++};
        LR_TRY(parse_tool(in, t, &at));
    }
    return 0;
}

static int parse_choice(struct in *in, const struct lr_json *v)
{
    struct lr_request *r = in->r;
    struct lr_str type = {NULL, 0}, name = {NULL, 0};
    if (v->type != LR_JSON_STRING && v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "tool_choice", "a string or an object");
    r->tool_choice = LR_TOOL_CHOICE_OTHER;
    r->tool_choice_json = v;
    if (lr_str_is(v->text, "auto"))
        r->tool_choice = LR_TOOL_CHOICE_AUTO;
    else if (lr_str_is(v->text, "none"))
        r->tool_choice = LR_TOOL_CHOICE_NONE;
    else if (lr_str_is(v->text, "required"))
        r->tool_choice = LR_TOOL_CHOICE_REQUIRED;
    else if (v->n == 2 && lr_json_text(lr_json_get(v, "type"), &type) &&
             lr_str_is(type, "function") && lr_json_text(lr_json_get(v, "name"), &name)) {
        r->tool_choice = LR_TOOL_CHOICE_NAMED;
        r->tool_choice_name = name;
    }
    return 0;
}

static int parse_format(struct in *in, const struct lr_json *f)
{
    static const char *const known[] = {"type", "name", "description", "schema", "strict", NULL};
    struct lr_request *r = in->r;
    struct lr_at at = {&(struct lr_at){NULL, "text", -1}, "format", -1};
    struct lr_str type = {NULL, 0};
    struct lr_extra *more = NULL;
    if (f->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, &at, NULL, "an object");
    LR_TRY(need_text(in, f, &at, "type", &type));
    LR_TRY(rest(in, f, known, &more));
    r->format_json = f;
    r->format = LR_FORMAT_OTHER;
    if (f->n == 1 && lr_str_is(type, "text"))
        r->format = LR_FORMAT_TEXT;
    else if (f->n == 1 && lr_str_is(type, "json_object"))
        r->format = LR_FORMAT_JSON;
    if (more || !lr_str_is(type, "json_schema"))
        return 0;
    bool strict;
    r->format = LR_FORMAT_SCHEMA;
    LR_TRY(lr_take_str(lr_json_get(f, "name"), &at, "name", &r->format_name, in->err));
    LR_TRY(lr_take_str(lr_json_get(f, "description"), &at, "description", &r->format_description,
                       in->err));
    LR_TRY(lr_take_type(lr_json_get(f, "schema"), LR_JSON_OBJECT, &at, "schema", &r->format_schema,
                        in->err));
    LR_TRY(lr_take_bool(lr_json_get(f, "strict"), &at, "strict", &strict, in->err));
    if (lr_given(lr_json_get(f, "strict")))
        r->format_strict = lr_json_get(f, "strict");
    return r->format_schema ? 0 : lr_want_at(in->err, &at, "schema", "an object");
}

static int parse_text_config(struct in *in, const struct lr_json *v)
{
    static const char *const known[] = {"format", NULL};
    if (v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "text", "an object");
    const struct lr_json *f = lr_json_get(v, "format");
    if (lr_given(f))
        LR_TRY(parse_format(in, f));
    return rest(in, v, known, &in->r->extra);
}

static int parse_reasoning_config(struct in *in, const struct lr_json *v)
{
    static const char *const known[] = {"effort", NULL};
    struct lr_at at = {NULL, "reasoning", -1};
    if (v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "reasoning", "an object");
    LR_TRY(lr_take_str(lr_json_get(v, "effort"), &at, "effort", &in->r->effort, in->err));
    return rest(in, v, known, &in->r->extra);
}

static int parse_parallel(struct in *in, const struct lr_json *v)
{
    bool on = true;
    LR_TRY(lr_take_bool(v, NULL, "parallel_tool_calls", &on, in->err));
    in->r->parallel_tools = v;
    in->r->parallel_off = !on;
    return 0;
}

static int parse_limit(struct in *in, const struct lr_json *v)
{
    return lr_take_u64(v, NULL, "max_output_tokens", &in->r->max_tokens, in->err);
}

static int parse_stream(struct in *in, const struct lr_json *v)
{
    return lr_take_bool(v, NULL, "stream", &in->r->stream, in->err);
}

static int parse_temperature(struct in *in, const struct lr_json *v)
{
    return lr_take_type(v, LR_JSON_NUMBER, NULL, "temperature", &in->r->temperature, in->err);
}

static int parse_top_p(struct in *in, const struct lr_json *v)
{
    return lr_take_type(v, LR_JSON_NUMBER, NULL, "top_p", &in->r->top_p, in->err);
}

static int parse_top_logprobs(struct in *in, const struct lr_json *v)
{
    return lr_take_type(v, LR_JSON_NUMBER, NULL, "top_logprobs", &in->r->top_logprobs, in->err);
}

static int parse_user(struct in *in, const struct lr_json *v)
{
    LR_TRY(lr_take_str(v, NULL, "user", &in->r->user, in->err));
    return lr_extra_add(in->a, &in->r->quiet, v);
}

static int parse_safety(struct in *in, const struct lr_json *v)
{
    struct lr_str id = {NULL, 0};
    LR_TRY(lr_take_str(v, NULL, "safety_identifier", &id, in->err));
    if (!in->r->user.n)
        in->r->user = id;
    return lr_extra_add(in->a, &in->r->quiet, v);
}

static int parse_quiet(struct in *in, const struct lr_json *v)
{
    return lr_extra_add(in->a, &in->r->quiet, v);
}

/* Members that make the body less than the whole question. */
static int parse_state(struct in *in, const struct lr_json *v)
{
    static const char *const why[][2] = {{"previous_response_id", "previous-response"},
                                         {"conversation", "conversation"},
                                         {"background", "background"},
                                         {"prompt", "stored-prompt"}};
    if (v->type == LR_JSON_FALSE)
        return 0; /* background: false is the default */
    for (size_t i = 0; i < LR_COUNT(why); i++)
        if (lr_str_is(v->key, why[i][0]))
            bypass(in, why[i][1]);
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse_nothing(struct in *in, const struct lr_json *v)
{
    (void)in; /* read apart, in parse() */
    (void)v;
    return 0;
}

static int parse_member(struct in *in, const struct lr_json *v)
{
    static const struct {
        const char *name;
        int (*take)(struct in *, const struct lr_json *);
    } rows[] = {
        {"model", parse_nothing},
        {"input", parse_nothing},
        {"instructions", parse_nothing},
        {"tools", parse_tools},
        {"tool_choice", parse_choice},
        {"parallel_tool_calls", parse_parallel},
        {"text", parse_text_config},
        {"reasoning", parse_reasoning_config},
        {"max_output_tokens", parse_limit},
        {"temperature", parse_temperature},
        {"top_p", parse_top_p},
        {"top_logprobs", parse_top_logprobs},
        {"stream", parse_stream},
        {"user", parse_user},
        {"safety_identifier", parse_safety},
        {"metadata", parse_quiet},
        {"store", parse_quiet},
        {"service_tier", parse_quiet},
        {"prompt_cache_key", parse_quiet},
        {"prompt_cache_retention", parse_quiet},
        {"stream_options", parse_quiet},
        {"previous_response_id", parse_state},
        {"conversation", parse_state},
        {"background", parse_state},
        {"prompt", parse_state},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        if (lr_str_is(v->key, rows[i].name))
            return rows[i].take(in, v);
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse(struct lr_arena *a, struct lr_request *r, struct lr_err *err)
{
    struct in in = {a, r, err, S_NONE};
    LR_TRY(lr_take_str(lr_json_get(r->root, "model"), NULL, "model", &r->model, err));
    for (const struct lr_json *m = r->root->child; m; m = m->next)
        if (lr_given(m))
            LR_TRY(parse_member(&in, m));
    /* A stored prompt may bring its own model. */
    if (!r->model.n && !r->bypass)
        return lr_want(err, "model", "a model name");
    return parse_input(&in);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

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

static int write_choice(struct to *t)
{
    static const char *const names[] = {"", "auto", "none", "required"};
    const struct lr_request *r = t->r;
    if (r->tool_choice == LR_TOOL_CHOICE_OTHER)
        return refuse(t, "tool_choice", "this choice");
    if (r->tool_choice == LR_TOOL_CHOICE_NAMED) {
        lr_jw_key(&t->w, "tool_choice");
        lr_put_type(&t->w, "function");
        lr_put_str(&t->w, "name", r->tool_choice_name);
        lr_jw_end(&t->w);
    } else if (r->tool_choice != LR_TOOL_CHOICE_ABSENT) {
        lr_put_str(&t->w, "tool_choice", lr_strz(names[r->tool_choice]));
    }
    return 0;
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
    LR_TRY(write_choice(t));
    if (r->parallel_tools || r->parallel_off) {
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
    lr_put_obj(&t->w, "text");
    lr_jw_key(&t->w, "format");
    lr_put_type(&t->w, r->format == LR_FORMAT_SCHEMA ? "json_schema"
                       : r->format == LR_FORMAT_JSON ? "json_object"
                                                     : "text");
    if (r->format == LR_FORMAT_SCHEMA) {
        lr_put_str(&t->w, "name", r->format_name.n ? r->format_name : LR_STR("answer"));
        if (r->format_description.n)
            lr_put_str(&t->w, "description", r->format_description);
        lr_put_node(&t->w, "schema", r->format_schema);
        lr_put_node(&t->w, "strict", r->format_strict);
    }
    lr_jw_end(&t->w);
    lr_jw_end(&t->w);
    return 0;
}

static int write_settings(struct to *t)
{
    const struct lr_request *r = t->r;
    if (r->max_tokens) {
        lr_put_u64(&t->w, "max_output_tokens", r->max_tokens);
    }
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
    return write_format(t);
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

static int write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
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
    LR_TRY(write_settings(&t));
    if (r->stream) {
        lr_put_bool(&t.w, "stream", true);
    }
    LR_TRY(write_quiet(&t));
    lr_jw_end(&t.w);
    return 0;
}

const struct lr_dialect_ops lr_dialect_responses = {
    .name = "responses",
    .path = "/v1/responses",
    .kind = LR_KIND_CHAT,
    .parse = parse,
    .write = write,
    .dec_size = sizeof(struct lr_responses_dec),
    .dec_event = lr_responses_dec_event,
    .dec_whole = lr_responses_dec_whole,
    .dec_done = lr_responses_dec_done,
    .enc_size = sizeof(struct lr_responses_enc),
    .enc_stream = lr_responses_enc_stream,
    .enc_whole = lr_responses_enc_whole,
    .enc_close = lr_responses_enc_close,
    .error = lr_error_openai,
};
