/* SPDX-License-Identifier: Apache-2.0
 * base/arena.c - chunked bump allocator. Chunks double from 4 KiB to 1 MiB: a typical request fits
 * into one or two.
 */
#include "base/base.h"

struct lr_arena_chunk {
    struct lr_arena_chunk *below;
    size_t size; /* of data */
    size_t used; /* of data */
    size_t pad;  /* keeps data 16-aligned */
    char data[];
};

void lr_arena_init(struct lr_arena *a, size_t max)
{
    *a = (struct lr_arena){.max = max};
}

static void free_from(struct lr_arena *a, struct lr_arena_chunk *c)
{
    while (c) {
        struct lr_arena_chunk *below = c->below;
        a->held -= c->size;
        lr_free(c);
        c = below;
    }
}

void lr_arena_reset(struct lr_arena *a)
{
    if (!a->top)
        return;
    free_from(a, a->top->below);
    a->top->below = NULL;
    a->top->used = 0;
    a->used = 0;
}

void lr_arena_free(struct lr_arena *a)
{
    free_from(a, a->top);
    lr_arena_init(a, a->max);
}

static struct lr_arena_chunk *grow(struct lr_arena *a, size_t n)
{
    size_t size = a->top ? a->top->size * 2 : LR_KIB(4) - sizeof(struct lr_arena_chunk);
    if (size > LR_MIB(1))
        size = LR_MIB(1);
    if (size < n)
        size = n;
    if (a->held > a->max || size > a->max - a->held)
        size = n; /* near the bound: exactly what is asked */
    if (a->held > a->max || size > a->max - a->held)
        return NULL;
    size_t total;
    if (lr_add_over(sizeof(struct lr_arena_chunk), size, &total))
        return NULL;
    struct lr_arena_chunk *c = lr_alloc(total);
    if (!c)
        return NULL;
    *c = (struct lr_arena_chunk){.below = a->top, .size = size};
    a->top = c;
    a->held += size;
    return c;
}

void *lr_arena_alloc(struct lr_arena *a, size_t n, size_t align)
{
    struct lr_arena_chunk *c = a->top;
    size_t at = c ? (c->used + align - 1) & ~(align - 1) : 0;
    if (!c || at > c->size || n > c->size - at) {
        c = grow(a, n ? n : 1);
        if (!c)
            return NULL;
        at = 0;
    }
    a->used += at + n - c->used;
    c->used = at + n;
    return c->data + at;
}

void *lr_arena_zalloc(struct lr_arena *a, size_t n, size_t align)
{
    void *p = lr_arena_alloc(a, n, align);
    return p ? memset(p, 0, n) : NULL;
}

int lr_arena_copy(struct lr_arena *a, struct lr_str s, struct lr_str *out)
{
    char *p = lr_arena_strz(a, s);
    LR_FAIL_IF(!p, LR_ENOMEM);
    *out = lr_str(p, s.n);
    return 0;
}

char *lr_arena_strz(struct lr_arena *a, struct lr_str s)
{
    char *p = s.n == SIZE_MAX ? NULL : lr_arena_alloc(a, s.n + 1, 1);
    if (!p)
        return NULL;
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return p;
}
