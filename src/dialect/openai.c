/* SPDX-License-Identifier: Apache-2.0
 * dialect/openai.c - what OpenAI's Chat, Completions and Embeddings requests have in common.
 *
 * Sampling members, limits, stops, stream options and the members that never change an answer are
 * spelled alike in Chat and Completions, so one table reads them. The quiet ones (kept out of the
 * cache key, docs/formats/key.md) are listed here once. The error body is shared too.
 */
#include "dialect/dialect_int.h"

#define AT(member) offsetof(struct lr_request, member)

static int take_nodes(struct lr_request *r, const struct lr_json *v, bool *taken,
                      struct lr_err *err)
{
    static const struct {
        const char *name;
        enum lr_json_type type;
        size_t at;
    } rows[] = {
        {"temperature", LR_JSON_NUMBER, AT(temperature)},
        {"top_p", LR_JSON_NUMBER, AT(top_p)},
        {"top_k", LR_JSON_NUMBER, AT(top_k)},
        {"presence_penalty", LR_JSON_NUMBER, AT(presence_penalty)},
        {"frequency_penalty", LR_JSON_NUMBER, AT(frequency_penalty)},
        {"seed", LR_JSON_NUMBER, AT(seed)},
        {"logit_bias", LR_JSON_OBJECT, AT(logit_bias)},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        if (!lr_str_is(v->key, rows[i].name))
            continue;
        *taken = true;
        const struct lr_json **out = (const struct lr_json **)(void *)((char *)r + rows[i].at);
        return lr_take_type(v, rows[i].type, NULL, rows[i].name, out, err);
    }
    return 0;
}

static int take_stop(struct lr_arena *a, struct lr_request *r, const struct lr_json *v,
                     struct lr_err *err)
{
    bool one = v->type == LR_JSON_STRING;
    if (!lr_given(v))
        return 0;
    if (!one && v->type != LR_JSON_ARRAY)
        return lr_want(err, "stop", "a string or an array of strings");
    r->stop = lr_arena_array(a, struct lr_str, one ? 1 : (size_t)v->n + 1);
    LR_FAIL_IF(!r->stop, LR_ENOMEM);
    if (one) {
        r->stop[r->n_stop++] = v->text;
        return 0;
    }
    for (const struct lr_json *s = v->child; s; s = s->next) {
        struct lr_at at = {NULL, "stop", (long)r->n_stop};
        if (s->type != LR_JSON_STRING)
            return lr_want_at(err, &at, NULL, "a string");
        r->stop[r->n_stop++] = s->text;
    }
    return 0;
}

static int take_quiet(struct lr_arena *a, struct lr_request *r, const struct lr_json *v,
                      bool *taken, struct lr_err *err)
{
    static const char *const names[] = {
        "user",  "safety_identifier",      "prompt_cache_key", "metadata",
        "store", "prompt_cache_retention", "service_tier"};
    for (size_t i = 0; i < LR_COUNT(names); i++) {
        if (!lr_str_is(v->key, names[i]))
            continue;
        *taken = true;
        if (!lr_given(v))
            return 0;
        struct lr_str user = {0};
        if (i < 2) {
            LR_TRY(lr_take_str(v, NULL, names[i], &user, err));
            if (i == 0 || !r->user.n)
                r->user = user;
        }
        return lr_extra_add(a, &r->quiet, v);
    }
    return 0;
}

static int take_stream_options(struct lr_arena *a, struct lr_request *r, const struct lr_json *v,
                               struct lr_err *err)
{
    const struct lr_json *o = NULL;
    LR_TRY(lr_take_type(v, LR_JSON_OBJECT, NULL, "stream_options", &o, err));
    if (!o)
        return 0;
    struct lr_at at = {NULL, "stream_options", -1};
    LR_TRY(lr_take_bool(lr_json_get(o, "include_usage"), &at, "include_usage", &r->include_usage,
                        err));
    return lr_extra_add(a, &r->quiet, v);
}

static int take_n(struct lr_request *r, const struct lr_json *v, struct lr_err *err)
{
    if (!lr_given(v))
        return 0;
    uint64_t n = 0;
    if (!lr_json_u64(v, &n) || n == 0)
        return lr_want(err, "n", "a whole number of 1 or more");
    r->n = n;
    r->n_given = true;
    return 0;
}

int lr_take_openai(struct lr_arena *a, struct lr_request *r, const struct lr_json *v, bool *taken,
                   struct lr_err *err)
{
    *taken = true;
    if (lr_str_is(v->key, "model"))
        return lr_take_str(v, NULL, "model", &r->model, err);
    if (lr_str_is(v->key, "stop"))
        return take_stop(a, r, v, err);
    if (lr_str_is(v->key, "n"))
        return take_n(r, v, err);
    if (lr_str_is(v->key, "max_tokens"))
        return r->max_tokens ? 0 : lr_take_u64(v, NULL, "max_tokens", &r->max_tokens, err);
    if (lr_str_is(v->key, "stream"))
        return lr_take_bool(v, NULL, "stream", &r->stream, err);
    if (lr_str_is(v->key, "stream_options"))
        return take_stream_options(a, r, v, err);
    *taken = false;
    LR_TRY(take_nodes(r, v, taken, err));
    return *taken ? 0 : take_quiet(a, r, v, taken, err);
}

int lr_need_model(const struct lr_request *r, struct lr_err *err)
{
    return r->model.n ? 0 : lr_want(err, "model", "a model name");
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
    if (request_id && *request_id) {
        lr_put_str(&w, "request_id", lr_strz(request_id));
    }
    lr_jw_end(&w);
}
