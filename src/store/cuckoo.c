/* SPDX-License-Identifier: Apache-2.0
 * store/cuckoo.c - a cuckoo filter: "surely absent" in two loads, without a lock, deletable.
 *
 *   bucket = one 64-bit word = 4 tags of 16 bits, 0 = empty
 *   a key's tag lies in bucket i or in bucket j = i xor mix(tag)
 *
 * Source: Fan, Andersen, Kaminsky, Mitzenmacher, "Cuckoo Filter: Practically Better Than Bloom"
 * (CoNEXT 2014); the GPU version of the idea (Cuckoo-GPU) has the same word-sized buckets so that
 * one atomic load sees a whole bucket. Two buckets of 4 tags: a stranger matches with probability
 * about 8 * load / 65535, 1.2e-4 when full (measured in tests/unit/store/test_cuckoo.c).
 *
 * Deviation: the paper kicks tags out along a random walk and loses one when it gives up. Here a
 * path of moves to an empty place is searched first (breadth first, PATH_MAX buckets) and then
 * carried out from its end, each tag written to its new bucket before it leaves the old one. So a
 * failed add leaves the filter as it was, and every tag is somewhere at every moment. A reader may
 * still look at the new place before and at the old one after the move: it sees `moves` change and
 * looks again.
 *
 * Invariants: a tag is in one of its two buckets; n counts tags.
 */
#include "store/store_int.h"

#include <stdatomic.h>

#define SLOTS    4u
#define PATH_MAX_ 512u /* buckets looked at before an add gives up */
#define TRIES    64u  /* a reader that keeps being overtaken says "maybe" */

struct lr_cuckoo {
    uint64_t mask; /* buckets - 1 */
    atomic_uint_fast64_t moves; /* odd while a path is carried out */
    _Atomic uint64_t bucket[];
};

static uint16_t tag_of(uint64_t hash)
{
    uint16_t t = (uint16_t)(hash >> 48);
    return t ? t : 1;
}

static uint64_t other_bucket(const struct lr_cuckoo *c, uint64_t i, uint16_t tag)
{
    uint64_t m = (uint64_t)tag * 0x9E3779B97F4A7C15ull;
    return (i ^ (m >> 20)) & c->mask;
}

static uint16_t slot(uint64_t word, unsigned k)
{
    return (uint16_t)(word >> (16 * k));
}

static bool word_has(uint64_t word, uint16_t tag)
{
    uint64_t x = word ^ (0x0001000100010001ull * tag); /* a zero lane: found */
    return ((x - 0x0001000100010001ull) & ~x & 0x8000800080008000ull) != 0;
}

static bool put_tag(struct lr_cuckoo *c, uint64_t i, uint16_t tag)
{
    uint64_t w = atomic_load_explicit(&c->bucket[i], memory_order_relaxed);
    for (unsigned k = 0; k < SLOTS; k++) {
        if (slot(w, k))
            continue;
        atomic_store(&c->bucket[i], w | (uint64_t)tag << (16 * k));
        return true;
    }
    return false;
}

static bool cut_tag(struct lr_cuckoo *c, uint64_t i, uint16_t tag)
{
    uint64_t w = atomic_load_explicit(&c->bucket[i], memory_order_relaxed);
    for (unsigned k = 0; k < SLOTS; k++) {
        if (slot(w, k) != tag)
            continue;
        atomic_store(&c->bucket[i], w & ~(0xFFFFull << (16 * k)));
        return true;
    }
    return false;
}

int lr_cuckoo_open(struct lr_cuckoo **out, size_t n)
{
    size_t buckets = 16;
    LR_FAIL_IF(n > (size_t)1 << 40, LR_EOVER);
    while (buckets * SLOTS < n + n / 12)
        buckets *= 2;
    struct lr_cuckoo *c = lr_calloc(1, sizeof *c + buckets * sizeof c->bucket[0]);
    LR_FAIL_IF(!c, LR_ENOMEM);
    c->mask = buckets - 1;
    *out = c;
    return 0;
}

void lr_cuckoo_close(struct lr_cuckoo *c)
{
    lr_free(c);
}

/* One step of the search: this bucket is reached by moving the tag in slot `from` of its parent. */
struct hop {
    uint64_t bucket;
    uint16_t parent, from;
};

static bool has_hole(const struct lr_cuckoo *c, uint64_t i)
{
    return word_has(atomic_load_explicit(&c->bucket[i], memory_order_relaxed), 0);
}

static bool on_path(const struct hop *h, size_t at, uint64_t bucket)
{
    for (;; at = h[at].parent) {
        if (h[at].bucket == bucket)
            return true;
        if (h[at].parent == at)
            return false;
    }
}

/* The index of a hop whose bucket has an empty slot, or PATH_MAX_. No bucket is on one path twice:
 * a move would otherwise take away what an earlier one put there. */
static size_t search(const struct lr_cuckoo *c, uint64_t i, uint64_t j, struct hop *h)
{
    size_t n = 0;
    h[n++] = (struct hop){i, 0, 0};
    if (j != i)
        h[n++] = (struct hop){j, 1, 0};
    for (size_t at = 0; at < n; at++) {
        if (has_hole(c, h[at].bucket))
            return at;
        uint64_t w = atomic_load_explicit(&c->bucket[h[at].bucket], memory_order_relaxed);
        for (unsigned k = 0; k < SLOTS && n < PATH_MAX_; k++) {
            uint64_t to = other_bucket(c, h[at].bucket, slot(w, k));
            if (!on_path(h, at, to))
                h[n++] = (struct hop){to, (uint16_t)at, (uint16_t)k};
        }
    }
    return PATH_MAX_;
}

int lr_cuckoo_add(struct lr_cuckoo *c, uint64_t hash)
{
    uint16_t tag = tag_of(hash);
    uint64_t i = hash & c->mask, j = other_bucket(c, i, tag);
    if (put_tag(c, i, tag) || put_tag(c, j, tag))
        return 0;
    struct hop h[PATH_MAX_];
    size_t at = search(c, i, j, h);
    LR_FAIL_IF(at == PATH_MAX_, LR_EOVER);
    atomic_fetch_add(&c->moves, 1);
    for (; h[at].parent != at; at = h[at].parent) {
        uint64_t from = h[h[at].parent].bucket;
        uint16_t moved = slot(atomic_load(&c->bucket[from]), h[at].from);
        put_tag(c, h[at].bucket, moved);
        cut_tag(c, from, moved);
    }
    put_tag(c, h[at].bucket, tag);
    atomic_fetch_add(&c->moves, 1);
    return 0;
}

void lr_cuckoo_del(struct lr_cuckoo *c, uint64_t hash)
{
    uint16_t tag = tag_of(hash);
    uint64_t i = hash & c->mask;
    if (!cut_tag(c, i, tag))
        cut_tag(c, other_bucket(c, i, tag), tag);
}

bool lr_cuckoo_has(const struct lr_cuckoo *c, uint64_t hash)
{
    uint16_t tag = tag_of(hash);
    uint64_t i = hash & c->mask, j = other_bucket(c, i, tag);
    for (unsigned tries = 0; tries < TRIES; tries++) {
        uint64_t before = atomic_load(&c->moves);
        if (word_has(atomic_load(&c->bucket[i]), tag) || word_has(atomic_load(&c->bucket[j]), tag))
            return true;
        if (before % 2 == 0 && before == atomic_load(&c->moves))
            return false;
    }
    return true;
}
