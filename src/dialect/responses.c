/* SPDX-License-Identifier: Apache-2.0
 * dialect/responses.c - OpenAI Responses without server-side state: requests, read. They are
 * written in responses_write.c; answers are read in responses_in.c, written in responses_out.c.
 *
 * `input` is a list of items where Chat has messages. An assistant's turn is several
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
 * Source: OpenAI API reference, "Create a model response"; the types of the openai Python
 * client 3.52.
 */
#include "dialect/responses_int.h"

/* ---- parts ---------------------------------------------------------------------------------- */

static int parse_text(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      const char *name, enum lr_part_type type, struct lr_part **parts)
{
    const char *const known[] = {"type", name, "annotations", "logprobs", NULL};
    struct lr_part *p = lr_part_add(in->a, parts, type);
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_need_str(in, v, at, name, &p->text));
    /* Echoes of an answer's own decoration say nothing when they are empty. */
    for (size_t i = 2; i < 4; i++) {
        const struct lr_json *echo = lr_json_get(v, known[i]);
        if (echo && !lr_json_is_void(echo->raw))
            LR_TRY(lr_extra_add(in->a, &p->extra, echo));
    }
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_image(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                       struct lr_part **parts)
{
    static const char *const known[] = {"type", "image_url", "detail", "file_id", NULL};
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_IMAGE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    struct lr_str url = {NULL, 0};
    LR_TRY(lr_take_str(in, v, at, "image_url", &url));
    LR_TRY(lr_take_str(in, v, at, "file_id", &p->id));
    LR_TRY(lr_take_str(in, v, at, "detail", &p->detail));
    if (p->id.n)
        lr_bypass(in, "file-id");
    else if (!url.n)
        return lr_want_at(in->err, at, "image_url", "a string");
    if (lr_url_split(url, p))
        return lr_want_at(in->err, at, "image_url", "a URL, or data:<media>;base64,<data>");
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_file(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    static const char *const known[] = {"type",    "file_data", "file_url",
                                        "file_id", "filename",  NULL};
    struct lr_part *p = lr_part_add(in->a, parts, LR_PART_FILE);
    LR_FAIL_IF(!p, LR_ENOMEM);
    struct lr_str data = {NULL, 0};
    LR_TRY(lr_take_str(in, v, at, "file_data", &data));
    LR_TRY(lr_take_str(in, v, at, "file_url", &p->url));
    LR_TRY(lr_take_str(in, v, at, "file_id", &p->id));
    LR_TRY(lr_take_str(in, v, at, "filename", &p->name));
    if (p->id.n)
        lr_bypass(in, "file-id");
    else if (!data.n && !p->url.n)
        return lr_want_at(in->err, at, "file_data", "a string");
    if (data.n) {
        struct lr_part split = {0};
        if (lr_url_split(data, &split))
            return lr_want_at(in->err, at, "file_data", "data:<media>;base64,<data>");
        p->media = split.media;
        p->data = split.url.n ? split.url : split.data; /* bare base64 is taken too */
    }
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_part(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                      struct lr_part **parts)
{
    struct lr_str type = {NULL, 0};
    LR_TRY(lr_need_str(in, v, at, "type", &type));
    if (lr_str_is(type, "input_text") || lr_str_is(type, "output_text") || lr_str_is(type, "text"))
        return parse_text(in, v, at, "text", LR_PART_TEXT, parts);
    if (lr_str_is(type, "refusal"))
        return parse_text(in, v, at, "refusal", LR_PART_REFUSAL, parts);
    if (lr_str_is(type, "input_image"))
        return parse_image(in, v, at, parts);
    if (lr_str_is(type, "input_file"))
        return parse_file(in, v, at, parts);
    return lr_other_add(in->a, parts, v);
}

/* ---- items ----------------------------------------------------------------------------------- */

/* How far the turn has come that the last message is. */
enum stage { S_NONE, S_REASONING, S_MESSAGE, S_CALLS, S_RESULTS };

struct turn {
    const struct lr_in *in;
    enum stage stage;
};

/* The message an item of this stage belongs to: the last one while its turn goes on. */
static struct lr_msg *join(struct turn *turn, enum stage stage)
{
    bool goes_on = stage == S_CALLS     ? turn->stage >= S_REASONING && turn->stage <= S_CALLS
                   : stage == S_MESSAGE ? turn->stage == S_REASONING
                                        : stage == turn->stage;
    turn->stage = stage;
    if (goes_on)
        return turn->in->r->msgs_last;
    return lr_msg_add(turn->in->a, turn->in->r,
                      stage == S_RESULTS ? LR_ROLE_TOOL : LR_ROLE_ASSISTANT);
}

static int parse_message(struct turn *turn, const struct lr_json *v, const struct lr_at *at)
{
    const struct lr_in *in = turn->in;
    static const char *const known[] = {"type", "role", "content", "id", "status", NULL};
    static const struct {
        const char *name;
        enum lr_role role;
    } roles[] = {
        {"user", LR_ROLE_USER}, {"system", LR_ROLE_SYSTEM}, {"developer", LR_ROLE_DEVELOPER}};
    struct lr_str role = {NULL, 0};
    struct lr_msg *m = NULL;
    LR_TRY(lr_need_str(in, v, at, "role", &role));
    if (lr_str_is(role, "assistant")) {
        LR_FAIL_IF(!(m = join(turn, S_MESSAGE)), LR_ENOMEM);
    } else {
        size_t i = 0;
        while (i < LR_COUNT(roles) && !lr_str_is(role, roles[i].name))
            i++;
        if (i == LR_COUNT(roles))
            return lr_want_at(in->err, at, "role", "user, assistant, system or developer");
        turn->stage = S_NONE;
        LR_FAIL_IF(!(m = lr_msg_add(in->a, in->r, roles[i].role)), LR_ENOMEM);
    }
    LR_TRY(lr_take_content(in, lr_json_get(v, "content"), at, "content", parse_part, &m->parts));
    return lr_take_extras(in, v, known, &m->extra);
}

static int parse_call(struct turn *turn, const struct lr_json *v, const struct lr_at *at)
{
    const struct lr_in *in = turn->in;
    static const char *const known[] = {"type",   "call_id", "name",      "id",
                                        "status", "caller",  "arguments", NULL};
    struct lr_msg *m = join(turn, S_CALLS);
    struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TOOL_CALL) : NULL;
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_need_str(in, v, at, "call_id", &p->id));
    LR_TRY(lr_need_str(in, v, at, "name", &p->name));
    LR_TRY(lr_need_str(in, v, at, "arguments", &p->text));
    struct lr_str type = {NULL, 0};
    const struct lr_json *caller = lr_json_get(v, "caller");
    if (lr_given(caller) && !(caller->n == 1 && lr_json_text(lr_json_get(caller, "type"), &type) &&
                              lr_str_is(type, "direct")))
        LR_TRY(lr_extra_add(in->a, &p->extra, caller));
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_result(struct turn *turn, const struct lr_json *v, const struct lr_at *at)
{
    const struct lr_in *in = turn->in;
    static const char *const known[] = {"type", "call_id", "output", "id", "status", NULL};
    struct lr_msg *m = join(turn, S_RESULTS);
    struct lr_part *p = m ? lr_part_add(in->a, &m->parts, LR_PART_TOOL_RESULT) : NULL;
    LR_FAIL_IF(!p, LR_ENOMEM);
    LR_TRY(lr_need_str(in, v, at, "call_id", &p->id));
    LR_TRY(lr_take_content(in, lr_json_get(v, "output"), at, "output", parse_part, &p->parts));
    return lr_take_extras(in, v, known, &p->extra);
}

/* Each text of the summary (or of the content, which open models show) is a part; the encrypted
 * content signs the last one. */
static int parse_reasoning(struct turn *turn, const struct lr_json *v, const struct lr_at *at)
{
    const struct lr_in *in = turn->in;
    static const char *const known[] = {"summary",           "content", "type", "id",
                                        "encrypted_content", "status",  NULL};
    struct lr_msg *m = join(turn, S_REASONING);
    LR_FAIL_IF(!m, LR_ENOMEM);
    struct lr_part *p = NULL;
    for (size_t i = 0; i < 2; i++) {
        const struct lr_json *list = NULL;
        LR_TRY(lr_take_type(in, v, at, known[i], LR_JSON_ARRAY, &list));
        for (const struct lr_json *t = list ? list->child : NULL; t; t = t->next) {
            struct lr_at here = {at, known[i], -1};
            LR_FAIL_IF(!(p = lr_part_add(in->a, &m->parts, LR_PART_REASONING)), LR_ENOMEM);
            LR_TRY(lr_need_str(in, t, &here, "text", &p->text));
        }
    }
    if (!p)
        LR_FAIL_IF(!(p = lr_part_add(in->a, &m->parts, LR_PART_REASONING)), LR_ENOMEM);
    LR_TRY(lr_take_str(in, v, at, "encrypted_content", &p->sign));
    if (!p->sign.n && !p->text.n && lr_given(lr_json_get(v, "id")))
        lr_bypass(in, "item-reference");
    return lr_take_extras(in, v, known, &p->extra);
}

static int parse_other(struct turn *turn, const struct lr_json *v, struct lr_str type)
{
    const struct lr_in *in = turn->in;
    static const char tail[] = "_output";
    size_t n = sizeof tail - 1;
    bool result = type.n > n && memcmp(type.p + type.n - n, tail, n) == 0;
    turn->stage = S_NONE;
    struct lr_msg *m = lr_msg_add(in->a, in->r, result ? LR_ROLE_USER : LR_ROLE_ASSISTANT);
    LR_FAIL_IF(!m, LR_ENOMEM);
    return lr_other_add(in->a, &m->parts, v);
}

static int parse_item(struct turn *turn, const struct lr_json *v, const struct lr_at *at)
{
    const struct lr_in *in = turn->in;
    if (v->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, at, NULL, "an object");
    struct lr_str type = {NULL, 0};
    LR_TRY(lr_take_str(in, v, at, "type", &type));
    if (lr_str_is(type, "message") || (!type.n && lr_json_get(v, "role")))
        return parse_message(turn, v, at);
    if (lr_str_is(type, "function_call"))
        return parse_call(turn, v, at);
    if (lr_str_is(type, "function_call_output"))
        return parse_result(turn, v, at);
    if (lr_str_is(type, "reasoning"))
        return parse_reasoning(turn, v, at);
    if (!type.n && !lr_json_get(v, "id"))
        return lr_want_at(in->err, at, "type", "a string");
    if (!type.n || lr_str_is(type, "item_reference"))
        lr_bypass(in, "item-reference");
    return parse_other(turn, v, type);
}

static int parse_input(const struct lr_in *in)
{
    struct lr_str instructions = {NULL, 0};
    const struct lr_json *root = in->r->root, *input = lr_json_get(root, "input");
    LR_TRY(lr_take_str(in, root, NULL, "instructions", &instructions));
    if (instructions.n) {
        struct lr_msg *m = lr_msg_add(in->a, in->r, LR_ROLE_SYSTEM);
        LR_FAIL_IF(!m, LR_ENOMEM);
        LR_TRY(lr_text_add(in->a, &m->parts, LR_PART_TEXT, instructions));
    }
    if (lr_json_is(input, LR_JSON_STRING)) {
        struct lr_msg *m = lr_msg_add(in->a, in->r, LR_ROLE_USER);
        LR_FAIL_IF(!m, LR_ENOMEM);
        return lr_take_content(in, input, NULL, "input", parse_part, &m->parts);
    }
    if (!lr_given(input) && in->r->bypass)
        return 0;
    if (!lr_json_is(input, LR_JSON_ARRAY))
        return lr_want(in->err, "input", "a string or an array of items");
    struct turn turn = {in, S_NONE};
    long i = 0;
    for (const struct lr_json *v = input->child; v; v = v->next) {
        struct lr_at at = {NULL, "input", i++};
        LR_TRY(parse_item(&turn, v, &at));
    }
    return 0;
}

/* ---- members --------------------------------------------------------------------------------- */

static int parse_tool(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at)
{
    static const char *const known[] = {"type",       "name",   "description",
                                        "parameters", "strict", NULL};
    static const char *const at_client[] = {"custom",      "local_shell", "computer_use_preview",
                                            "apply_patch", "computer",    "namespace",
                                            NULL};
    struct lr_str type = {NULL, 0};
    LR_TRY(lr_need_str(in, v, at, "type", &type));
    struct lr_tool *t = lr_tool_add(in->a, in->r);
    LR_FAIL_IF(!t, LR_ENOMEM);
    if (!lr_str_is(type, "function")) {
        if (!lr_listed(type, at_client))
            lr_bypass(in, lr_str_is(type, "mcp") ? "mcp" : "hosted-tool");
        t->name = type;
        t->json = v;
        return 0;
    }
    LR_TRY(lr_take_function(in, v, at, t));
    return lr_take_extras(in, v, known, &t->extra);
}

static int parse_tools(const struct lr_in *in, const struct lr_json *v)
{
    return lr_take_list(in, v, "tools", parse_tool);
}

static int parse_choice(const struct lr_in *in, const struct lr_json *v)
{
    return lr_take_tool_choice(in, v, v);
}

static int parse_format(const struct lr_in *in, const struct lr_json *f)
{
    static const char *const known[] = {"type", "name", "description", "schema", "strict", NULL};
    struct lr_request *r = in->r;
    struct lr_at at = {&(struct lr_at){NULL, "text", -1}, "format", -1};
    struct lr_str type = {NULL, 0};
    struct lr_extra *more = NULL;
    if (f->type != LR_JSON_OBJECT)
        return lr_want_at(in->err, &at, NULL, "an object");
    LR_TRY(lr_need_str(in, f, &at, "type", &type));
    LR_TRY(lr_take_extras(in, f, known, &more));
    r->format_json = f;
    r->format = LR_FORMAT_OTHER;
    if (f->n == 1 && lr_str_is(type, "text"))
        r->format = LR_FORMAT_TEXT;
    else if (f->n == 1 && lr_str_is(type, "json_object"))
        r->format = LR_FORMAT_JSON;
    if (more || !lr_str_is(type, "json_schema"))
        return 0;
    r->format = LR_FORMAT_SCHEMA;
    LR_TRY(lr_take_str(in, f, &at, "name", &r->format_name));
    LR_TRY(lr_take_str(in, f, &at, "description", &r->format_description));
    LR_TRY(lr_take_type(in, f, &at, "schema", LR_JSON_OBJECT, &r->format_schema));
    LR_TRY(lr_take_flag(in, f, &at, "strict", &r->format_strict));
    return r->format_schema ? 0 : lr_want_at(in->err, &at, "schema", "an object");
}

static int parse_text_config(const struct lr_in *in, const struct lr_json *v)
{
    static const char *const known[] = {"format", NULL};
    if (v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "text", "an object");
    const struct lr_json *f = lr_json_get(v, "format");
    if (lr_given(f))
        LR_TRY(parse_format(in, f));
    return lr_take_extras(in, v, known, &in->r->extra);
}

static int parse_reasoning_config(const struct lr_in *in, const struct lr_json *v)
{
    static const char *const known[] = {"effort", NULL};
    struct lr_at at = {NULL, "reasoning", -1};
    if (v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "reasoning", "an object");
    LR_TRY(lr_take_str(in, v, &at, "effort", &in->r->effort));
    return lr_take_extras(in, v, known, &in->r->extra);
}

/* Members that make the body less than the whole question. */
static int parse_state(const struct lr_in *in, const struct lr_json *v)
{
    static const char *const why[][2] = {{"previous_response_id", "previous-response"},
                                         {"conversation", "conversation"},
                                         {"background", "background"},
                                         {"prompt", "stored-prompt"}};
    if (v->type == LR_JSON_FALSE)
        return 0; /* background: false is the default */
    for (size_t i = 0; i < LR_COUNT(why); i++)
        if (lr_str_is(v->key, why[i][0]))
            lr_bypass(in, why[i][1]);
    return lr_extra_add(in->a, &in->r->extra, v);
}

static int parse(const struct lr_in *in)
{
    static const struct lr_member own[] = {
        {"model", .take = lr_take_nothing}, /* these three: below */
        {"input", .take = lr_take_nothing},
        {"instructions", .take = lr_take_nothing},
        {"tools", .take = parse_tools},
        {"tool_choice", .take = parse_choice},
        {"parallel_tool_calls", .take = lr_take_parallel},
        {"text", .take = parse_text_config},
        {"reasoning", .take = parse_reasoning_config},
        {"max_output_tokens", LR_MEMBER_COUNT, LR_AT(max_tokens)},
        {"temperature", LR_MEMBER_NUMBER, LR_AT(temperature)},
        {"top_p", LR_MEMBER_NUMBER, LR_AT(top_p)},
        {"top_logprobs", LR_MEMBER_NUMBER, LR_AT(top_logprobs)},
        {"stream", LR_MEMBER_BOOL, LR_AT(stream)},
        {"stream_options", .take = lr_take_quiet},
        {"previous_response_id", .take = parse_state},
        {"conversation", .take = parse_state},
        {"background", .take = parse_state},
        {"prompt", .take = parse_state},
        {.name = NULL},
    };
    static const struct lr_member *const all[] = {own, lr_members_quiet, NULL};
    struct lr_request *r = in->r;
    LR_TRY(lr_take_str(in, r->root, NULL, "model", &r->model));
    LR_TRY(lr_take_members(in, all));
    /* A stored prompt may bring its own model. */
    if (!r->model.n && !r->bypass)
        return lr_need_model(in);
    return parse_input(in);
}

const struct lr_dialect_ops lr_dialect_responses = {
    .name = "responses",
    .path = "/v1/responses",
    .kind = LR_KIND_CHAT,
    .parse = parse,
    .write = lr_responses_write,
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
