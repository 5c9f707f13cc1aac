/* SPDX-License-Identifier: Apache-2.0
 * dialect/error.c - error bodies: written in the client's dialect, read in whatever an upstream
 * says.
 *
 * Writing is the dialect's own row; a path of no dialect gets the OpenAI shape, which most clients
 * print sensibly. Reading is by shape, not by dialect, because proxies and load balancers answer in
 * the name of every upstream:
 *
 *   {"error": {"message": "...", "code": "...", "type": "..."}}   OpenAI, Anthropic, most others
 *   {"error": "..."}                                              Ollama, TGI
 *   {"message": "...", "code": 400}                               older vLLM, gateways
 *   {"detail": "..."}                                             FastAPI
 *
 * The first text among code, type is the code (a numeric code counts only when there is no type).
 */
#include "dialect/dialect_int.h"

int lr_error_write(enum lr_dialect_id d, int status, const char *code, struct lr_str message,
                   const char *request_id, struct lr_buf *out)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(d);
    if (!ops)
        ops = lr_dialect_ops(LR_DIALECT_CHAT);
    ops->error(status, lr_strz(code), message, request_id, out);
    return out->rc;
}

static struct lr_str code_of(const struct lr_json *o)
{
    struct lr_str s = {0};
    const struct lr_json *code = lr_json_get(o, "code");
    if (lr_json_text(code, &s) && s.n)
        return s;
    if (lr_json_text(lr_json_get(o, "type"), &s) && s.n)
        return s;
    return lr_json_is(code, LR_JSON_NUMBER) ? code->text : (struct lr_str){0};
}

void lr_error_read(struct lr_arena *a, struct lr_str body, struct lr_str *code,
                   struct lr_str *message)
{
    *code = *message = (struct lr_str){0};
    struct lr_json *root;
    if (lr_json_parse(a, body, NULL, &root, NULL))
        return;
    const struct lr_json *error = lr_json_get(root, "error");
    if (lr_json_text(error, message))
        return;
    const struct lr_json *o = lr_json_is(error, LR_JSON_OBJECT) ? error : root;
    if (lr_json_text(lr_json_get(o, "message"), message))
        *code = code_of(o);
    else if (o != root)
        *code = code_of(o);
    else
        (void)lr_json_text(lr_json_get(root, "detail"), message); /* else both stay empty */
}
