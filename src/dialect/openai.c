/* SPDX-License-Identifier: Apache-2.0
 * dialect/openai.c - what the requests of OpenAI's dialects have in common.
 *
 * Sampling members, limits, stops and stream options are spelled alike in Chat and Completions, so
 * one table reads them; the quiet ones (kept out of the cache key, docs/formats/key.md), functions,
 * choices of tools and schemas in Chat and Responses. The error body is shared too.
 */
#include "dialect/dialect_int.h"

static int take_stop(const struct lr_in *in, const struct lr_json *v)
{
    struct lr_request *r = in->r;
    bool one = v->type == LR_JSON_STRING;
    if (!one && v->type != LR_JSON_ARRAY)
        return lr_want(in->err, "stop", "a string or an array of strings");
    r->stop = lr_arena_array(in->a, struct lr_str, one ? 1 : (size_t)v->n + 1);
    LR_FAIL_IF(!r->stop, LR_ENOMEM);
    if (one) {
        r->stop[r->n_stop++] = v->text;
        return 0;
    }
    for (const struct lr_json *s = v->child; s; s = s->next) {
        struct lr_at at = {NULL, "stop", (long)r->n_stop};
        if (s->type != LR_JSON_STRING)
            return lr_want_at(in->err, &at, NULL, "a string");
        r->stop[r->n_stop++] = s->text;
    }
    return 0;
}

static int take_user(const struct lr_in *in, const struct lr_json *v)
{
    LR_TRY(lr_take_str(in, in->r->root, NULL, "user", &in->r->user));
    return lr_take_quiet(in, v);
}

/* The newer name of `user`; where both are, `user` counts. */
static int take_safety(const struct lr_in *in, const struct lr_json *v)
{
    struct lr_str id = {0};
    LR_TRY(lr_take_str(in, in->r->root, NULL, "safety_identifier", &id));
    if (!in->r->user.n)
        in->r->user = id;
    return lr_take_quiet(in, v);
}

const struct lr_member lr_members_quiet[] = {
    {"user", .take = take_user},
    {"safety_identifier", .take = take_safety},
    {"prompt_cache_key", .take = lr_take_quiet},
    {"metadata", .take = lr_take_quiet},
    {"store", .take = lr_take_quiet},
    {"prompt_cache_retention", .take = lr_take_quiet},
    {"service_tier", .take = lr_take_quiet},
    {.name = NULL},
};

static int take_stream_options(const struct lr_in *in, const struct lr_json *v)
{
    struct lr_at at = {NULL, "stream_options", -1};
    const struct lr_json *o = NULL;
    LR_TRY(lr_take_type(in, in->r->root, NULL, "stream_options", LR_JSON_OBJECT, &o));
    LR_TRY(lr_take_bool(in, o, &at, "include_usage", &in->r->include_usage));
    return lr_take_quiet(in, v);
}

static int take_n(const struct lr_in *in, const struct lr_json *v)
{
    uint64_t n = 0;
    if (!lr_json_u64(v, &n) || n == 0)
        return lr_want(in->err, "n", "a whole number of 1 or more");
    in->r->n = n;
    in->r->n_given = true;
    return 0;
}

/* The older name of Chat's limit: counts where it came first, or alone. */
static int take_max_tokens(const struct lr_in *in, const struct lr_json *v)
{
    (void)v;
    struct lr_request *r = in->r;
    return r->max_tokens ? 0 : lr_take_u64(in, r->root, NULL, "max_tokens", &r->max_tokens);
}

const struct lr_member lr_members_sampling[] = {
    {"model", LR_MEMBER_TEXT, LR_AT(model)},
    {"stop", .take = take_stop},
    {"n", .take = take_n},
    {"max_tokens", .take = take_max_tokens},
    {"stream", LR_MEMBER_BOOL, LR_AT(stream)},
    {"stream_options", .take = take_stream_options},
    {"temperature", LR_MEMBER_NUMBER, LR_AT(temperature)},
    {"top_p", LR_MEMBER_NUMBER, LR_AT(top_p)},
    {"top_k", LR_MEMBER_NUMBER, LR_AT(top_k)},
    {"presence_penalty", LR_MEMBER_NUMBER, LR_AT(presence_penalty)},
    {"frequency_penalty", LR_MEMBER_NUMBER, LR_AT(frequency_penalty)},
    {"seed", LR_MEMBER_NUMBER, LR_AT(seed)},
    {"logit_bias", LR_MEMBER_OBJECT, LR_AT(logit_bias)},
    {.name = NULL},
};

/* ---- tools and formats ---------------------------------------------------------------------- */

static const char *const choices[] = {[LR_TOOL_CHOICE_AUTO] = "auto",
                                      [LR_TOOL_CHOICE_NONE] = "none",
                                      [LR_TOOL_CHOICE_REQUIRED] = "required"};

void lr_put_choice_word(struct lr_jw *w, enum lr_tool_choice c)
{
    if ((unsigned)c < LR_COUNT(choices) && choices[c])
        lr_put_str(w, "tool_choice", lr_strz(choices[c]));
}

int lr_take_tool_choice(const struct lr_in *in, const struct lr_json *v,
                        const struct lr_json *holder)
{
    struct lr_request *r = in->r;
    if (v->type != LR_JSON_STRING && v->type != LR_JSON_OBJECT)
        return lr_want(in->err, "tool_choice", "a string or an object");
    r->tool_choice = LR_TOOL_CHOICE_OTHER;
    r->tool_choice_json = v;
    for (size_t i = 0; i < LR_COUNT(choices); i++)
        if (choices[i] && lr_str_is(v->text, choices[i]))
            r->tool_choice = (enum lr_tool_choice)i;
    if (v->n == 2 && lr_str_is(lr_text_of(v, "type"), "function") &&
        lr_json_text(lr_json_get(holder, "name"), &r->tool_choice_name))
        r->tool_choice = LR_TOOL_CHOICE_NAMED;
    return 0;
}

int lr_take_parallel(const struct lr_in *in, const struct lr_json *v)
{
    bool on = true;
    LR_TRY(lr_take_bool(in, in->r->root, NULL, "parallel_tool_calls", &on));
    in->r->parallel_tools = v;
    in->r->parallel_off = !on;
    return 0;
}

int lr_take_function(const struct lr_in *in, const struct lr_json *f, const struct lr_at *at,
                     struct lr_tool *t)
{
    LR_TRY(lr_need_str(in, f, at, "name", &t->name));
    LR_TRY(lr_take_str(in, f, at, "description", &t->description));
    LR_TRY(lr_take_type(in, f, at, "parameters", LR_JSON_OBJECT, &t->schema));
    return lr_take_flag(in, f, at, "strict", &t->strict);
}

const char *lr_format_word(enum lr_format f)
{
    return f == LR_FORMAT_SCHEMA ? "json_schema" : f == LR_FORMAT_JSON ? "json_object" : "text";
}

void lr_put_schema(struct lr_jw *w, const struct lr_request *r)
{
    lr_put_str(w, "name", r->format_name.n ? r->format_name : LR_STR("answer"));
    if (r->format_description.n)
        lr_put_str(w, "description", r->format_description);
    lr_put_node(w, "schema", r->format_schema);
    lr_put_node(w, "strict", r->format_strict);
}

/* ---- the model, and the same again ---------------------------------------------------------- */

int lr_need_model(const struct lr_in *in)
{
    return in->r->model.n ? 0 : lr_want(in->err, "model", "a model name");
}

void lr_write_same(const struct lr_request *r, struct lr_str model, struct lr_buf *out)
{
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    bool named = false;
    for (const struct lr_json *m = r->root->child; m; m = m->next) {
        lr_jw_key_str(&w, m->key);
        if (lr_str_is(m->key, "model")) {
            lr_jw_str(&w, model);
            named = true;
        } else {
            lr_jw_raw(&w, m->raw);
        }
    }
    if (!named) { /* a stored prompt may have brought it */
        lr_put_str(&w, "model", model);
    }
    lr_jw_end(&w);
}

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void lr_error_openai(int status, struct lr_str code, struct lr_str message, const char *request_id,
                     struct lr_buf *out)
{
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_put_obj(&w, "error");
    lr_put_str(&w, "message", message);
    lr_put_str(&w, "type", lr_strz(type_of(status)));
    lr_put_null(&w, "param");
    lr_put_str(&w, "code", code);
    lr_jw_end(&w);
    if (request_id && *request_id)
        lr_put_str(&w, "request_id", lr_strz(request_id));
    lr_jw_end(&w);
}
