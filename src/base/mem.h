/* SPDX-License-Identifier: Apache-2.0
 * base/mem.h - the only door to the heap, and the points where tests make things fail.
 *
 * Everything outside base/ allocates through lr_alloc and friends (tools/lint.sh refuses raw malloc).
 * In builds with LR_FAULTS each allocation and each lr_io_* call first asks lr_fault_here(): the
 * fault tests run a scenario once per call site hit and make exactly that call fail.
 */
#ifndef LR_BASE_MEM_H
#define LR_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LR_KIB(n) ((size_t)(n) << 10)
#define LR_MIB(n) ((size_t)(n) << 20)
#define LR_GIB(n) ((size_t)(n) << 30)
#define LR_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define LR_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* NULL when memory is out (or a fault is armed); n == 0 gives a unique pointer. Free with lr_free. */
void *lr_alloc(size_t n) __attribute__((malloc, warn_unused_result));
/* Zeroed; NULL also when count * size overflows. */
void *lr_calloc(size_t count, size_t size) __attribute__((malloc, warn_unused_result));
/* On NULL the old block lives on. */
void *lr_realloc(void *p, size_t n) __attribute__((warn_unused_result));
void lr_free(void *p);
/* A NUL-terminated copy of n bytes. */
char *lr_strndup(const char *p, size_t n) __attribute__((malloc, warn_unused_result));

#define lr_new(type) ((type *)lr_calloc(1, sizeof(type)))

/* Checked arithmetic on sizes: true = overflow, *out untouched. */
static inline bool lr_mul_over(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return true;
    *out = r;
    return false;
}
static inline bool lr_add_over(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return true;
    *out = r;
    return false;
}

/* Fault points. arm(n): the n-th call from now (1-based, counted over all threads) fails once, the
 * others succeed; 0 disarms. seen(): calls counted since the last arm. Without LR_FAULTS here() is
 * constantly false and arm() returns LR_EUNSUPPORTED. */
int lr_fault_arm(uint64_t n);
uint64_t lr_fault_seen(void);
bool lr_fault_here(void);

#endif
