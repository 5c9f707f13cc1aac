/* SPDX-License-Identifier: Apache-2.0
 * base/mem.c - heap door and fault points.
 */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef LR_FAULTS
static atomic_uint_fast64_t fault_at;   /* 0 = disarmed */
static atomic_uint_fast64_t fault_seen; /* calls since arm */

int lr_fault_arm(uint64_t n)
{
    atomic_store(&fault_seen, 0);
    atomic_store(&fault_at, n);
    return 0;
}

uint64_t lr_fault_seen(void)
{
    return atomic_load(&fault_seen);
}

bool lr_fault_here(void)
{
    uint64_t k = atomic_fetch_add(&fault_seen, 1) + 1;
    return k == atomic_load(&fault_at);
}
#else
int lr_fault_arm(uint64_t n)
{
    return n ? LR_EUNSUPPORTED : 0;
}
uint64_t lr_fault_seen(void)
{
    return 0;
}
bool lr_fault_here(void)
{
    return false;
}
#endif

void *lr_alloc(size_t n)
{
    return lr_fault_here() ? NULL : malloc(n ? n : 1);
}

void *lr_calloc(size_t count, size_t size)
{
    size_t n;
    if (lr_fault_here() || lr_mul_over(count, size, &n))
        return NULL;
    return calloc(1, n ? n : 1);
}

void *lr_realloc(void *p, size_t n)
{
    return lr_fault_here() ? NULL : realloc(p, n ? n : 1);
}

void lr_free(void *p)
{
    free(p);
}

char *lr_strndup(const char *p, size_t n)
{
    char *d = n == SIZE_MAX ? NULL : lr_alloc(n + 1);
    if (!d)
        return NULL;
    if (n)
        memcpy(d, p, n);
    d[n] = 0;
    return d;
}
