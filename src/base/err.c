/* SPDX-License-Identifier: Apache-2.0
 * base/err.c - names and texts of errors, from the one list in err.h.
 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>

const char *lr_strerror(int rc)
{
    switch (rc) {
    case LR_OK:
        return "ok";
#define X(name, num, text)                                                                         \
    case LR_##name:                                                                                \
        return text;
        LR_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

const char *lr_errname(int rc)
{
    switch (rc) {
    case LR_OK:
        return "OK";
#define X(name, num, text)                                                                         \
    case LR_##name:                                                                                \
        return #name;
        LR_ERRORS(X)
#undef X
    default:
        return "EUNKNOWN";
    }
}

int lr_err_set(struct lr_err *e, int code, const char *where, const char *fmt, ...)
{
    if (!e || e->code)
        return code;
    e->code = code;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(e->msg, sizeof e->msg, fmt, ap) < 0)
        e->msg[0] = 0;
    va_end(ap);
    if (snprintf(e->where, sizeof e->where, "%s", where ? where : "") < 0)
        e->where[0] = 0;
    return code;
}
