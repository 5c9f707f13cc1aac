/* SPDX-License-Identifier: Apache-2.0
 * engine/page.c - the arena of KV pages: one mapping, a bitmap, and memory that really goes back.
 *
 *   base   |aaaa|bb..|cc......|aaaa|....          granules of 512 bytes; a page is a run of them
 *   used    1111 11   11       1111               one bit a granule
 *   warm           11                             free, but the system may still have pages there
 *
 * The whole budget is mapped at once without being touched: address space is free, and a page becomes
 * resident when its first row is written. Pages of different codecs have different sizes, hence the
 * granules; within a codec all runs are equal and fragmentation cannot keep one from being found.
 *
 * Contiguous groups, after FastSwitch (Shen et al. 2024): a table asks for the place behind its last
 * page. It usually gets it, because a search starts where GROUP pages in a row are free and the next
 * search starts behind those: tables that grow in turn do not interleave. Neighbouring pages are moved
 * and saved in one piece, and prefetchers like them. The paper keeps a table of groups; the bitmap does
 * without one, and a full arena falls back to single pages.
 *
 * Freed pages stay warm up to warm_max bytes, because decoding beside eviction frees and takes a page
 * every few tokens; beyond it everything free is given back with one pass of madvise over the runs.
 * The bound is WARM_MAX, and more under a scheduler that loads rows from the KV store (sched_warm.c):
 * pages that the system must first find and clear make such a load three times as long. Tried and
 * dropped: madvise on every free, 1.3 us for a page of 8 KiB; huge pages for loads, 200 ms for 96 MB where
 * small ones took 42 (a virtual machine, whose host clears them), and they hold what was freed in parts.
 */
#include "engine/engine_int.h"

#include <sys/mman.h>

#define GROUP 4u             /* pages */
#define WARM_MAX LR_MIB(4)   /* bytes */
#define OS_PAGE 4096u
#define OS_GRANULES (OS_PAGE / GRANULE)

static bool bit(const uint64_t *map, uint64_t i)
{
    return map[i / 64] >> i % 64 & 1;
}

static void set_run(uint64_t *map, uint64_t at, uint64_t n, bool value)
{
    for (uint64_t i = at; i < at + n;) {
        if (i % 64 == 0 && i + 64 <= at + n) {
            map[i / 64] = value ? UINT64_MAX : 0;
            i += 64;
            continue;
        }
        if (value)
            map[i / 64] |= (uint64_t)1 << i % 64;
        else
            map[i / 64] &= ~((uint64_t)1 << i % 64);
        i++;
    }
}

static uint64_t count_run(const uint64_t *map, uint64_t at, uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t i = at; i < at + n; i++)
        sum += bit(map, i);
    return sum;
}

/* The first bit of that value in [from, to), or `to`. */
static uint64_t next_bit(const uint64_t *map, uint64_t from, uint64_t to, bool value)
{
    while (from < to) {
        uint64_t word = (value ? map[from / 64] : ~map[from / 64]) >> from % 64;
        if (word) {
            from += (uint64_t)__builtin_ctzll(word);
            return from < to ? from : to;
        }
        from = (from / 64 + 1) * 64;
    }
    return to;
}

/* Where n free granules lie in [from, to); `to` when nowhere. */
static uint64_t find_run(const uint64_t *map, uint64_t from, uint64_t to, uint64_t n)
{
    while (from < to) {
        uint64_t start = next_bit(map, from, to, false);
        if (to - start < n)
            return to;
        uint64_t end = next_bit(map, start, start + n, true);
        if (end == start + n)
            return start;
        from = end;
    }
    return to;
}

int lr_engine_arena_open(struct arena *a, uint64_t bytes)
{
    *a = (struct arena){.granules = bytes / GRANULE, .warm_max = WARM_MAX};
    LR_FAIL_IF(!a->granules || bytes > SIZE_MAX / 2, LR_EINVAL);
    size_t words = (size_t)(a->granules / 64 + 1);
    a->used_map = lr_calloc(words, sizeof *a->used_map);
    a->warm_map = lr_calloc(words, sizeof *a->warm_map);
    void *p = MAP_FAILED;
    if (a->used_map && a->warm_map && !lr_fault_here())
        p = mmap(NULL, (size_t)a->granules * GRANULE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        lr_free(a->used_map);
        lr_free(a->warm_map);
        *a = (struct arena){0};
        return LR_ENOMEM;
    }
    a->base = p;
    return 0;
}

void lr_engine_arena_close(struct arena *a)
{
    if (a->base)
        munmap(a->base, (size_t)a->granules * GRANULE);
    lr_free(a->used_map);
    lr_free(a->warm_map);
    *a = (struct arena){0};
}

static uint64_t find_place(struct arena *a, uint32_t n, const void *hint)
{
    if (hint) {
        uint64_t at = (uint64_t)((const char *)hint - a->base) / GRANULE;
        if (at + n <= a->granules && next_bit(a->used_map, at, at + n, true) == at + n)
            return at;
    }
    uint64_t group = (uint64_t)n * GROUP;
    uint64_t at = find_run(a->used_map, a->cursor, a->granules, group);
    if (at < a->granules) {
        a->cursor = at + group;
        return at;
    }
    at = find_run(a->used_map, 0, a->granules, group);
    if (at < a->granules) {
        a->cursor = at + group;
        return at;
    }
    return find_run(a->used_map, 0, a->granules, n);
}

void *lr_engine_arena_take(struct arena *a, uint32_t n, const void *hint)
{
    if (!n || n > a->granules - a->used || lr_fault_here())
        return NULL;
    uint64_t at = find_place(a, n, hint);
    if (at >= a->granules)
        return NULL;
    set_run(a->used_map, at, n, true);
    a->used += n;
    a->warm -= count_run(a->warm_map, at, n);
    set_run(a->warm_map, at, n, false);
    return a->base + at * GRANULE;
}

void lr_engine_arena_give(struct arena *a, void *p, uint32_t n)
{
    uint64_t at = (uint64_t)((char *)p - a->base) / GRANULE;
    assert(at + n <= a->granules && bit(a->used_map, at) && a->used >= n);
    set_run(a->used_map, at, n, false);
    set_run(a->warm_map, at, n, true);
    a->used -= n;
    a->warm += n;
    if (a->warm * GRANULE > a->warm_max)
        lr_engine_arena_trim(a);
}

void lr_engine_arena_trim(struct arena *a)
{
    uint64_t i = 0;
    while ((i = next_bit(a->warm_map, i, a->granules, true)) < a->granules) {
        /* The whole free run around the warm one: system pages at its edges are free as a whole. */
        uint64_t end = next_bit(a->used_map, i, a->granules, true), start = i;
        while (start > 0 && start % OS_GRANULES && !bit(a->used_map, start - 1))
            start--;
        uint64_t from = (start + OS_GRANULES - 1) / OS_GRANULES * OS_GRANULES;
        uint64_t to = end == a->granules ? end : end / OS_GRANULES * OS_GRANULES;
        if (to > from)
            madvise(a->base + from * GRANULE, (size_t)(to - from) * GRANULE, MADV_DONTNEED);
        set_run(a->warm_map, i, end - i, false);
        i = end;
    }
    a->warm = 0;
}
