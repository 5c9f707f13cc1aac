/* SPDX-License-Identifier: Apache-2.0
 * base/buf.h - a growing byte buffer whose maximum is not optional.
 *
 * Errors stick: after a failed add b->rc is set and later adds do nothing, so an encoder may write
 * a whole document and check once at the end.
 */
#ifndef LR_BASE_BUF_H
#define LR_BASE_BUF_H

#include "base/str.h"

struct lr_buf {
    char *p;    /* owned; NULL until the first add */
    size_t len; /* bytes used */
    size_t cap; /* bytes held */
    size_t max; /* bytes allowed */
    int rc;     /* 0, or the first failure: LR_EOVER, LR_ENOMEM */
};

void lr_buf_init(struct lr_buf *b, size_t max);
/* Frees and leaves an empty buffer with the same maximum. */
void lr_buf_free(struct lr_buf *b);
/* Empties and clears rc; keeps the memory. */
void lr_buf_reset(struct lr_buf *b);
/* Makes room for n more bytes without adding them. */
int lr_buf_reserve(struct lr_buf *b, size_t n);
int lr_buf_add(struct lr_buf *b, const void *p, size_t n);
int lr_buf_adds(struct lr_buf *b, struct lr_str s);
int lr_buf_addz(struct lr_buf *b, const char *z);
int lr_buf_addc(struct lr_buf *b, char c);
int lr_buf_addf(struct lr_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first n bytes (n <= len), moving the rest down. */
void lr_buf_drop(struct lr_buf *b, size_t n);

static inline struct lr_str lr_buf_str(const struct lr_buf *b)
{
    return lr_str(b->p, b->len);
}

#endif
