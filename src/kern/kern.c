/* SPDX-License-Identifier: Apache-2.0
 * kern/kern.c - which variant this CPU runs, and the facts about types.
 *
 * The tables are listed slowest first; the last one whose CPU features are present is the best. The
 * choice is made on the first call and kept in one atomic pointer: two threads that race on the
 * first call come to the same answer. The operating system's saving of the wide registers is part
 * of what __builtin_cpu_supports checks.
 *
 * Not listed: plain AVX and SSE4 (a machine without AVX2 is older than 2013 and gets SSE2 through
 * the compiler's vectors), AMX and bfloat16 products (they round activations to 8 bits of mantissa,
 * and the order of their sums is the hardware's own).
 */
#include "kern/kern_int.h"

#include <stdatomic.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#define HWCAP_DOTPROD (1ul << 20) /* Linux: ASIMDDP */
#endif

#if defined(__x86_64__)
static bool has_avx2(void)
{
    /* F16C and POPCNT came before AVX2 in every line of processors; clang 14 cannot ask for F16C */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
static bool has_dot(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_DOTPROD) != 0;
}
#endif

static bool always(void)
{
    return true;
}

static const struct {
    const struct lr_kern *table;
    bool (*runs)(void);
} variants[] = {
    {&lr_kern_portable, always},
#if defined(__x86_64__)
    {&lr_kern_avx2, has_avx2},
    {&lr_kern_avx512, has_avx512},
    {&lr_kern_avx512vnni, has_vnni},
#elif defined(__aarch64__)
    {&lr_kern_neon, always},
    {&lr_kern_neondot, has_dot},
#endif
};

static _Atomic(const struct lr_kern *) in_use;

const struct lr_kern *lr_kern_variant(size_t i)
{
    for (size_t v = 0; v < LR_COUNT(variants); v++)
        if (variants[v].runs() && i-- == 0)
            return variants[v].table;
    return NULL;
}

static const struct lr_kern *best(void)
{
    const struct lr_kern *k = NULL;
    for (size_t v = 0; v < LR_COUNT(variants); v++)
        if (variants[v].runs())
            k = variants[v].table;
    return k;
}

const struct lr_kern *lr_kern(void)
{
    const struct lr_kern *k = atomic_load_explicit(&in_use, memory_order_relaxed);
    if (!k) {
        k = best();
        atomic_store_explicit(&in_use, k, memory_order_relaxed);
    }
    return k;
}

int lr_kern_use(const char *name)
{
    const struct lr_kern *k = name ? NULL : best();
    for (size_t i = 0; name && (k = lr_kern_variant(i)) && strcmp(k->name, name) != 0; i++)
        ;
    LR_FAIL_IF(!k, LR_ENOENT);
    atomic_store_explicit(&in_use, k, memory_order_relaxed);
    return 0;
}

static const struct {
    const char *name;
    size_t per, bytes;
} types[] = {
#define X(id, name, per, bytes) {name, per, bytes},
    LR_KERN_TYPES(X)
#undef X
};

const char *lr_kern_type_name(enum lr_kern_type type)
{
    return (unsigned)type < LR_KERN_N_TYPES ? types[type].name : "?";
}

int lr_kern_type_find(struct lr_str name)
{
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        if (name.n == strlen(types[t].name) && memcmp(name.p, types[t].name, name.n) == 0)
            return t;
    return -1;
}

size_t lr_kern_type_block(enum lr_kern_type type)
{
    assert((unsigned)type < LR_KERN_N_TYPES);
    return types[type].per;
}

size_t lr_kern_row_bytes(enum lr_kern_type type, size_t n)
{
    size_t bytes;
    if ((unsigned)type >= LR_KERN_N_TYPES || n % types[type].per ||
        lr_mul_over(n / types[type].per, types[type].bytes, &bytes))
        return 0;
    if (type != LR_KERN_I4R)
        return bytes;
    return n && n <= LR_KERN_BLOCK ? bytes + 4 : 0;
}

size_t lr_kern_act_bytes(size_t n)
{
    assert(n % 32 == 0);
    return n / 32 * 80;
}

float lr_kern_lse(const struct lr_kern_softmax *s)
{
    return s->sum > 0 ? s->max + logf(s->sum) : -INFINITY;
}
