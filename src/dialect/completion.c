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

static int parse_prompt(const struct lr_in *in, const struct lr_json *v)
{
    static const char what[] = "a string, or an array of strings or token ids";
    if (v->type != LR_JSON_STRING && v->type != LR_JSON_ARRAY)
        return lr_want(in->err, "prompt", what);
    long i = 0;
    for (const struct lr_json *p = v->child; p; p = p->next) {
        struct lr_at at = {NULL, "prompt", i++};
        bool fits =
            p->type == LR_JSON_STRING || p->type == LR_JSON_NUMBER || p->type == LR_JSON_ARRAY;
        for (const struct lr_json *id = p->child; id && fits; id = id->next)
            fits = id->type == LR_JSON_NUMBER;
        if (!fits)
            return lr_want_at(in->err, &at, NULL, "a string, a token id or an array of token ids");
    }
    in->r->prompt = v;
    return 0;
}

static int parse(const struct lr_in *in)
{
    static const struct lr_member own[] = {
        {"prompt", .take = parse_prompt},
        {"logprobs", LR_MEMBER_NUMBER, LR_AT(logprobs)},
        {.name = NULL},
    };
    static const struct lr_member *const all[] = {own, lr_members_sampling, lr_members_quiet, NULL};
    LR_TRY(lr_take_members(in, all));
    return lr_need_model(in); /* an absent prompt is the begin-of-text token: no mistake */
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
