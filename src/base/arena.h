/* SPDX-License-Identifier: Apache-2.0
 * base/arena.h - bump memory with one lifetime: a request, a flight, a parse.
 *
 *   chunk 0        chunk 1              chunk 2
 *   [hdr|used....] [hdr|used..........] [hdr|used..|free..]
 *
 * Nothing in it is freed by hand; reset frees or recycles all. One thread at a time.
 */
#ifndef LR_BASE_ARENA_H
#define LR_BASE_ARENA_H

#include "base/str.h"

struct lr_arena {
    struct lr_arena_chunk *top;
    size_t used; /* bytes handed out, alignment included */
    size_t max;  /* bytes allowed in all chunks */
    size_t held; /* bytes of all chunks */
};

void lr_arena_init(struct lr_arena *a, size_t max);
/* Keeps the newest chunk for reuse, frees the others; all pointers into the arena die. */
void lr_arena_reset(struct lr_arena *a);
/* Frees everything; the arena may be used again. */
void lr_arena_free(struct lr_arena *a);
/* NULL when the maximum or memory is reached. align is a power of two <= 16. Not zeroed. */
void *lr_arena_alloc(struct lr_arena *a, size_t n, size_t align);
void *lr_arena_zalloc(struct lr_arena *a, size_t n, size_t align);
/* Copies into the arena. dup gives a view {NULL,0} on failure (and for empty input: check with rc of
 * lr_arena_copy where the difference matters); strz gives a NUL-terminated copy or NULL. */
int lr_arena_copy(struct lr_arena *a, struct lr_str s, struct lr_str *out);
char *lr_arena_strz(struct lr_arena *a, struct lr_str s);

#define lr_arena_new(a, type) ((type *)lr_arena_zalloc((a), sizeof(type), _Alignof(type)))
/* An array of n, zeroed; NULL on overflow as well. */
#define lr_arena_array(a, type, n)                                                                 \
    ((type *)((n) > SIZE_MAX / sizeof(type)                                                        \
                  ? NULL                                                                           \
                  : lr_arena_zalloc((a), (n) * sizeof(type), _Alignof(type))))

#endif
