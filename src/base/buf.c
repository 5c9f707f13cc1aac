/* SPDX-License-Identifier: Apache-2.0
 * base/buf.c - bounded byte buffer.
 */
#include "base/base.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void lr_buf_init(struct lr_buf *b, size_t max)
{
    *b = (struct lr_buf){.max = max};
}

void lr_buf_free(struct lr_buf *b)
{
    lr_free(b->p);
    *b = (struct lr_buf){.max = b->max};
}

void lr_buf_reset(struct lr_buf *b)
{
    b->len = 0;
    b->rc = 0;
}

static int fail(struct lr_buf *b, int rc)
{
    b->rc = rc;
    return rc;
}

int lr_buf_reserve(struct lr_buf *b, size_t n)
{
    if (b->rc)
        return b->rc;
    if (n <= b->cap - b->len)
        return 0;
    size_t need;
    if (lr_add_over(b->len, n, &need) || need > b->max)
        return fail(b, LR_EOVER);
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap > b->max)
        cap = b->max;
    char *p = lr_realloc(b->p, cap);
    if (!p)
        return fail(b, LR_ENOMEM);
    b->p = p;
    b->cap = cap;
    return 0;
}

int lr_buf_add(struct lr_buf *b, const void *p, size_t n)
{
    LR_TRY(lr_buf_reserve(b, n));
    if (n)
        memcpy(b->p + b->len, p, n);
    b->len += n;
    return 0;
}

int lr_buf_adds(struct lr_buf *b, struct lr_str s)
{
    return lr_buf_add(b, s.p, s.n);
}

int lr_buf_addz(struct lr_buf *b, const char *z)
{
    return lr_buf_add(b, z, strlen(z));
}

int lr_buf_addc(struct lr_buf *b, char c)
{
    return lr_buf_add(b, &c, 1);
}

int lr_buf_addf(struct lr_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    int rc = n < 0 ? fail(b, LR_EINVAL) : lr_buf_reserve(b, (size_t)n + 1);
    if (!rc) {
        /* Measured above: it fits. */
        (void)vsnprintf(b->p + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

void lr_buf_drop(struct lr_buf *b, size_t n)
{
    assert(n <= b->len);
    if (n)
        memmove(b->p, b->p + n, b->len - n);
    b->len -= n;
}
