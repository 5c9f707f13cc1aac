/* SPDX-License-Identifier: Apache-2.0
 * dialect/dialect.c - the list of dialects, and the names of what they share.
 *
 * A dialect is a row of functions (dialect_int.h). This is the only place that knows all of them; a
 * new one is a file, a row here, and a number in enum lr_dialect_id (which is also its number in
 * the bytes of an event log, so rows are only ever added at the end).
 */
#include "dialect/dialect_int.h"

static const struct lr_dialect_ops *const table[LR_DIALECT_N] = {
    [LR_DIALECT_CHAT] = &lr_dialect_chat,
    [LR_DIALECT_COMPLETION] = &lr_dialect_completion,
    [LR_DIALECT_EMBEDDING] = &lr_dialect_embedding,
    [LR_DIALECT_MESSAGES] = &lr_dialect_messages,
    [LR_DIALECT_RESPONSES] = &lr_dialect_responses,
};

const struct lr_dialect_ops *lr_dialect_ops(enum lr_dialect_id d)
{
    return (unsigned)d < LR_DIALECT_N ? table[d] : NULL;
}

const char *lr_dialect_name(enum lr_dialect_id d)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(d);
    return ops ? ops->name : "none";
}

const char *lr_dialect_path(enum lr_dialect_id d)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(d);
    return ops ? ops->path : "";
}

enum lr_kind lr_dialect_kind(enum lr_dialect_id d)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(d);
    return ops ? ops->kind : LR_KIND_CHAT;
}

enum lr_dialect_id lr_dialect_of_path(struct lr_str path)
{
    if (lr_str_starts(path, LR_STR("/v1/")))
        path = lr_str(path.p + 3, path.n - 3);
    for (unsigned d = 1; d < LR_DIALECT_N; d++) {
        struct lr_str full = lr_strz(table[d]->path);
        if (lr_str_eq(path, lr_str(full.p + 3, full.n - 3))) /* all of them start with /v1 */
            return (enum lr_dialect_id)d;
    }
    return LR_DIALECT_NONE;
}

const char *lr_role_name(enum lr_role role)
{
    static const char *const names[] = {
        [LR_ROLE_SYSTEM] = "system", [LR_ROLE_DEVELOPER] = "developer",
        [LR_ROLE_USER] = "user",     [LR_ROLE_ASSISTANT] = "assistant",
        [LR_ROLE_TOOL] = "tool",
    };
    return (unsigned)role < LR_COUNT(names) ? names[role] : "unknown";
}
