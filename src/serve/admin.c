/* SPDX-License-Identifier: Apache-2.0
 * serve/admin.c - the operator's door: health, metrics, the dashboard, and /larder/v1 (docs/admin.md).
 *
 *   path -> verb (a row of the table below) -> who may call it -> on the event thread: answer
 *                                                              -> slow: a worker, then answer
 *
 * No answer holds message text or a credential: verbs see metadata (struct lr_answer_entry, struct
 * lr_record, counters), never a document's log or a request's body.
 */
#include "serve/serve_int.h"

#include <stdio.h>

bool lr_admin_path(struct lr_str path)
{
    static const char *const all[] = {"/healthz", "/readyz", "/metrics", "/ui", "/larder/v1"};
    static const char *const trees[] = {"/ui/", "/larder/v1/"};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (lr_str_is(path, all[i]))
            return true;
    for (size_t i = 0; i < LR_COUNT(trees); i++)
        if (lr_str_starts(path, lr_strz(trees[i])))
            return true;
    return false;
}

static enum lr_step reply(struct lr_req *r, int status, const char *type)
{
    struct lr_header h[] = {
        {"content-type", type},
        {"cache-control", "no-store"},
        {"x-content-type-options", "nosniff"},
        {"x-larder-request-id", r->id},
    };
    r->replied = true;
    r->rec->status = status;
    lr_conn_reply(r->conn, status, h, LR_COUNT(h), &r->out);
    return LR_STEP_WAIT;
}

static enum lr_step fail(struct lr_req *r, int status, const char *code, const char *message)
{
    lr_buf_reset(&r->out);
    (void)lr_error_write(LR_DIALECT_NONE, status, code, lr_strz(message), r->id, &r->out);
    return reply(r, status, "application/json"); /* no memory for the body: the door closes */
}

static enum lr_step health(struct lr_req *r)
{
    lr_buf_addz(&r->out, "ok\n");
    return reply(r, 200, "text/plain; charset=utf-8");
}

static bool is_admin(struct lr_req *r)
{
    struct lr_str auth = lr_conn_header(r->conn, "authorization");
    if (auth.n <= 7 || strncasecmp(auth.p, "bearer ", 7) != 0)
        return false;
    auth = lr_str_trim(lr_str(auth.p + 7, auth.n - 7));
    return lr_str_same_secret(auth, lr_strz(r->serve->admin_key));
}

static enum lr_step metrics(struct lr_req *r)
{
    if (!lr_conn_loopback(r->conn) && !is_admin(r))
        return fail(r, 401, "admin_key", "this path needs the admin key");
    (void)lr_metrics_write(r->serve, r->conf, &r->out); /* its rc is the buffer's */
    return reply(r, 200, "text/plain; version=0.0.4; charset=utf-8");
}

enum lr_step lr_admin_handle(struct lr_req *r)
{
    struct lr_str path = lr_conn_path(r->conn);
    if (lr_str_is(path, "/healthz") || lr_str_is(path, "/readyz"))
        return health(r);
    if (lr_str_is(path, "/metrics"))
        return metrics(r);
    if (!is_admin(r))
        return fail(r, 401, "admin_key", "this path needs the admin key");
    return fail(r, 404, "not_found", "there is nothing at this path");
}
