/* SPDX-License-Identifier: Apache-2.0
 * base/err.h - errors are values: a number, a text and a place.
 *
 * Functions return 0 or a negative LR_E*. Outputs are the last pointers and stay untouched on error.
 * Where a person will read the outcome (config, requests, start-up) a caller-owned struct lr_err
 * carries the sentence and the place; libraries never print.
 */
#ifndef LR_BASE_ERR_H
#define LR_BASE_ERR_H

#include <stddef.h>

#define LR_ERRORS(X)                                                                               \
    X(ENOENT, 1, "not found")                                                                      \
    X(ECORRUPT, 2, "checksum or format mismatch")                                                  \
    X(EBUSY, 3, "busy, try again")                                                                 \
    X(ENOMEM, 4, "out of memory")                                                                  \
    X(EOVER, 5, "over the stated maximum")                                                         \
    X(EINVAL, 6, "invalid argument")                                                               \
    X(EIO, 7, "input or output failed")                                                            \
    X(EVERSION, 8, "foreign version")                                                              \
    X(EPARSE, 9, "malformed input")                                                                \
    X(ETIMEOUT, 10, "timed out")                                                                   \
    X(ECANCEL, 11, "cancelled")                                                                    \
    X(EDENIED, 12, "denied")                                                                       \
    X(EEXIST, 13, "exists already")                                                                \
    X(ECLOSED, 14, "closed")                                                                       \
    X(ENET, 15, "network failure")                                                                 \
    X(EDNS, 16, "name not resolved")                                                               \
    X(ETLS, 17, "TLS failure")                                                                     \
    X(ENOSPC, 18, "no space left")                                                                 \
    X(EUNSUPPORTED, 19, "not supported")

enum lr_rc {
    LR_OK = 0,
#define X(name, num, text) LR_##name = -(num),
    LR_ERRORS(X)
#undef X
};

/* "out of memory" for LR_ENOMEM; "unknown error" for numbers that are none of ours. Static text. */
const char *lr_strerror(int rc);
/* "ENOMEM" for LR_ENOMEM. Static text. */
const char *lr_errname(int rc);

/* A failure for people: code, sentence, place ("larder.yaml:12", "body byte 31"). Owned by the caller,
 * who zeroes it; filled by whoever fails first (later lr_err_set calls on a set one are ignored). */
struct lr_err {
    int code;
    char msg[240];
    char where[120];
};

/* Fills e (may be NULL) unless it is already set; both texts are cut to fit. Returns code. */
int lr_err_set(struct lr_err *e, int code, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Guards: return from the caller. */
#define LR_TRY(expr)                                                                               \
    do {                                                                                           \
        int lr_rc_ = (expr);                                                                       \
        if (lr_rc_)                                                                                \
            return lr_rc_;                                                                         \
    } while (0)
#define LR_FAIL_IF(cond, rc)                                                                       \
    do {                                                                                           \
        if (cond)                                                                                  \
            return (rc);                                                                           \
    } while (0)

#endif
