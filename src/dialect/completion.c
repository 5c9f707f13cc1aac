/* SPDX-License-Identifier: Apache-2.0
 * dialect/completion.c - OpenAI Completions (legacy): requests, and its row.
 *
 * The answers have Chat's frame (chat_in.c, chat_out.c, chat_whole.c): the text of a choice is its
 * part 0, log probabilities are an object of parallel lists. No other dialect asks for the
 * continuation of a bare prompt, so there is no translation: a request is written to its own
 * dialect only.
 *
 * `suffix`, `echo`, `best_of` and whatever else is not sampling are extras: they count in the key
 * and travel on. `logprobs` is a number here.
 */
#include "dialect/chat_int.h"

static int parse_prompt(struct lr_request *r, const struct lr_json *v, struct lr_err *err)
{
    static const char what[] = "a string, or an array of strings or token ids";
    if (!lr_given(v))
        return 0;
    if (v->type != LR_JSON_STRING && v->type != LR_JSON_ARRAY)
        return lr_want(err, "prompt", what);
    long i = 0;
    for (const struct lr_json *p = v->child; p; p = p->next) {
        struct lr_at at = {NULL, "prompt", i++};
        bool fits =
            p->type == LR_JSON_STRING || p->type == LR_JSON_NUMBER || p->type == LR_JSON_ARRAY;
        for (const struct lr_json *id = p->child; id && fits; id = id->next)
            fits = id->type == LR_JSON_NUMBER;
        if (!fits)
            return lr_want_at(err, &at, NULL, "a string, a token id or an array of token ids");
    }
    r->prompt = v;
    return 0;
}

static int parse_member(struct lr_arena *a, struct lr_request *r, const struct lr_json *v,
                        struct lr_err *err)
{
    if (lr_str_is(v->key, "prompt"))
        return parse_prompt(r, v, err);
    if (lr_str_is(v->key, "logprobs"))
        return lr_take_type(v, LR_JSON_NUMBER, NULL, "logprobs", &r->logprobs, err);
    bool taken;
    LR_TRY(lr_take_openai(a, r, v, &taken, err));
    return taken ? 0 : lr_extra_add(a, &r->extra, v);
}

static int parse(struct lr_arena *a, struct lr_request *r, struct lr_err *err)
{
    for (const struct lr_json *m = r->root->child; m; m = m->next)
        LR_TRY(parse_member(a, r, m, err));
    return lr_need_model(r, err); /* an absent prompt is the begin-of-text token: no mistake */
}

const struct lr_dialect_ops lr_dialect_completion = {
    .name = "completion",
    .path = "/v1/completions",
    .kind = LR_KIND_COMPLETION,
    .parse = parse,
    .dec_size = sizeof(struct lr_chat_dec),
    .dec_event = lr_chat_dec_event,
    .dec_whole = lr_chat_dec_whole,
    .dec_done = lr_chat_dec_done,
    .dec_eof = lr_chat_dec_eof,
    .dec_close = lr_chat_dec_close,
    .enc_size = sizeof(struct lr_chat_enc),
    .enc_stream = lr_chat_enc_stream,
    .enc_whole = lr_completion_enc_whole,
    .enc_close = lr_chat_enc_close,
    .error = lr_error_openai,
};
