/* SPDX-License-Identifier: Apache-2.0
 * evict/ghost.c - the keys of entries that left: a ring in order of leaving, and a hash index on
 * it.
 *
 *   ring   | key bytes note | key bytes note | key 0 note | ...      FIFO; bytes 0 = taken, skipped
 *            ^first                             used slots ->
 *   index  | 0 | pos+1 | 0 | 0 | pos+1 | ...                          linear probing, half full at
 *   most
 *
 * The S3-FIFO paper keeps 4-byte fingerprints in the cache's own hash table and drops them by age
 * when their bucket is touched; our owners' tables are not ours to use, so the ghost has its own,
 * and the full 64-bit key makes a false positive (one entry in the wrong queue) a thing of 2^-44 at
 * a million keys. Deleting from the index shifts the run back (Knuth 6.4 R), so there are no
 * tombstones to sweep.
 *
 * Invariants: bytes == sum over the ring; bytes <= bytes_max; used <= cap <= LR_GHOST_MAX; each
 * slot with bytes > 0 has exactly one index cell and no two such slots the same key.
 */
#include "evict/evict_int.h"

#include <assert.h>

#define CAP_FIRST 64u /* slots of the first ring */

struct lr_ghost_slot {
    uint64_t key;
    uint32_t bytes; /* 0: taken */
    uint32_t note;
};

static uint32_t home(const struct lr_ghost *g, uint64_t key)
{
    /* Keys are hashes already; the product guards against owners whose low bits are poor. */
    return (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 32) & (2 * g->cap - 1);
}

/* The index cell that holds key, or the free cell where it would go. */
static uint32_t probe(const struct lr_ghost *g, uint64_t key)
{
    uint32_t mask = 2 * g->cap - 1, i = home(g, key);
    while (g->index[i] && g->ring[g->index[i] - 1].key != key)
        i = (i + 1) & mask;
    return i;
}

/* Frees cell i and moves later cells of its run back over the gap where their home allows it. */
static void unindex(struct lr_ghost *g, uint32_t i)
{
    uint32_t mask = 2 * g->cap - 1, gap = i;
    for (;;) {
        i = (i + 1) & mask;
        if (!g->index[i])
            break;
        uint32_t h = home(g, g->ring[g->index[i] - 1].key);
        if (((i - h) & mask) >= ((i - gap) & mask)) {
            g->index[gap] = g->index[i];
            gap = i;
        }
    }
    g->index[gap] = 0;
}

static void drop_slot(struct lr_ghost *g, uint32_t cell)
{
    struct lr_ghost_slot *s = &g->ring[g->index[cell] - 1];
    g->bytes -= s->bytes;
    s->bytes = 0;
    unindex(g, cell);
}

static void drop_oldest(struct lr_ghost *g)
{
    assert(g->used > 0);
    struct lr_ghost_slot *s = &g->ring[g->first];
    if (s->bytes)
        drop_slot(g, probe(g, s->key));
    g->first = (g->first + 1) & (g->cap - 1);
    g->used--;
}

static void append(struct lr_ghost *g, struct lr_ghost_slot s)
{
    uint32_t at = (g->first + g->used++) & (g->cap - 1);
    g->ring[at] = s;
    g->index[probe(g, s.key)] = at + 1;
    g->bytes += s.bytes;
}

/* Twice the ring, with what was in use; on failure the old one stays as it is. */
static void grow(struct lr_ghost *g)
{
    struct lr_ghost b = {.cap = g->cap ? 2 * g->cap : CAP_FIRST, .bytes_max = g->bytes_max};
    if (b.cap > LR_GHOST_MAX)
        return;
    b.ring = lr_calloc(b.cap, sizeof *b.ring);
    b.index = lr_calloc(2 * (size_t)b.cap, sizeof *b.index);
    if (!b.ring || !b.index) {
        lr_ghost_free(&b);
        return;
    }
    for (uint32_t i = 0; i < g->used; i++) {
        const struct lr_ghost_slot *s = &g->ring[(g->first + i) & (g->cap - 1)];
        if (s->bytes)
            append(&b, *s);
    }
    lr_ghost_free(g);
    *g = b;
}

void lr_ghost_free(struct lr_ghost *g)
{
    lr_free(g->ring);
    lr_free(g->index);
    *g = (struct lr_ghost){.bytes_max = g->bytes_max};
}

void lr_ghost_resize(struct lr_ghost *g, uint64_t bytes_max)
{
    g->bytes_max = bytes_max;
    while (g->bytes > bytes_max)
        drop_oldest(g);
}

void lr_ghost_add(struct lr_ghost *g, uint64_t key, uint32_t bytes, uint32_t note)
{
    assert(bytes > 0);
    lr_ghost_take(g, key, NULL);
    if (bytes > g->bytes_max)
        return;
    if (g->used == g->cap)
        grow(g);
    if (g->cap == 0)
        return; /* no memory, no memories */
    if (g->used == g->cap)
        drop_oldest(g);
    while (g->bytes > g->bytes_max - bytes)
        drop_oldest(g);
    append(g, (struct lr_ghost_slot){key, bytes, note});
}

bool lr_ghost_take(struct lr_ghost *g, uint64_t key, uint32_t *note)
{
    if (g->cap == 0)
        return false;
    uint32_t cell = probe(g, key);
    if (!g->index[cell])
        return false;
    if (note)
        *note = g->ring[g->index[cell] - 1].note;
    drop_slot(g, cell);
    return true;
}
