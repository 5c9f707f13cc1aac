/* SPDX-License-Identifier: Apache-2.0
 * base/blake3.c - BLAKE3: the tree, the one-block function, and the choice of kernel.
 *
 * The input is cut into chunks of 1 KiB, each hashed block by block into a value of 32 bytes;
 * values are joined two by two up to the root. Every left subtree is complete and as large as it
 * can be, so seven chunks make
 *
 *                     root                   stack after 7 chunks (111 in binary):
 *                  /        \                   [0123] [45] [6]
 *            0123            456             one subtree for every one bit, largest first
 *           /    \          /   \
 *          01    23        45    6
 *
 * The state is the chunk in progress and that stack. Two things need care, both because the root is
 * hashed with a flag of its own and nobody knows yet whether more is coming: the last block of a
 * chunk is kept back until another byte arrives, and the two newest values are joined only when
 * another chunk follows. So the stack may be one longer than the one bits of the count (merge_stack
 * restores it).
 *
 * Long inputs are hashed in batches of up to 64 chunks: all their values with the widest kernel,
 * then each aligned subtree's parents, again side by side. The kernels are blake3_lanes.h over 4, 8
 * and 16 lanes. The length that a caller hashes at once decides the speed: 16 KiB and more fill 16
 * lanes.
 *
 * Measured (AMD Zen 5 guest, gcc 12 -O2, GB/s of one thread, one call):
 *
 *     input      scalar   4 lanes   8 lanes   16 lanes
 *     1 KiB         1.0       1.0       1.0        1.0
 *     16 KiB          -       1.7       3.2        6.1
 *     256 KiB         -       1.7       3.3        7.0
 *
 * Tried and dropped: 8 lanes with AVX-512's rotate instruction (2.3 us instead of 2.6 us for 8 KiB;
 * not worth a fourth kernel); sending two inputs to a kernel (2.35 us against 2.0 us one by one).
 *
 * Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere"
 * (2020). No deviation; tests/unit/base/test_hash.c holds it against the official test vectors.
 */
#include "base/base.h"
#include "base/blake3_int.h"

#include <assert.h>

#define BATCH 64 /* chunks hashed before their parents: 64 KiB of input, 2 KiB of values */

static inline uint32_t ror(uint32_t x, int k)
{
    return x >> k | x << (32 - k);
}

#define G(a, b, c, d, x, y)                                                                        \
    do {                                                                                           \
        v[a] += v[b] + (x);                                                                        \
        v[d] = ror(v[d] ^ v[a], 16);                                                               \
        v[c] += v[d];                                                                              \
        v[b] = ror(v[b] ^ v[c], 12);                                                               \
        v[a] += v[b] + (y);                                                                        \
        v[d] = ror(v[d] ^ v[a], 8);                                                                \
        v[c] += v[d];                                                                              \
        v[b] = ror(v[b] ^ v[c], 7);                                                                \
    } while (0)

#define ROUND(r)                                                                                   \
    do {                                                                                           \
        static const uint8_t *const s = lr_b3_schedule[r];                                         \
        G(0, 4, 8, 12, m[s[0]], m[s[1]]);                                                          \
        G(1, 5, 9, 13, m[s[2]], m[s[3]]);                                                          \
        G(2, 6, 10, 14, m[s[4]], m[s[5]]);                                                         \
        G(3, 7, 11, 15, m[s[6]], m[s[7]]);                                                         \
        G(0, 5, 10, 15, m[s[8]], m[s[9]]);                                                         \
        G(1, 6, 11, 12, m[s[10]], m[s[11]]);                                                       \
        G(2, 7, 8, 13, m[s[12]], m[s[13]]);                                                        \
        G(3, 4, 9, 14, m[s[14]], m[s[15]]);                                                        \
    } while (0)

/* One input of the compression function: what is needed to make its value, or root output. */
struct node {
    uint32_t cv[8];
    uint8_t block[64];
    uint64_t counter;
    uint32_t block_len, flags;
};

/* The compression function; all 16 words into v. */
static void compress(const uint32_t cv[8], const uint8_t block[64], uint64_t counter,
                     uint32_t block_len, uint32_t flags, uint32_t v[16])
{
    uint32_t m[16];
    memcpy(m, block, sizeof m);
    memcpy(v, cv, 32);
    memcpy(v + 8, lr_b3_iv, 16);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = block_len;
    v[15] = flags;
    ROUND(0);
    ROUND(1);
    ROUND(2);
    ROUND(3);
    ROUND(4);
    ROUND(5);
    ROUND(6);
    for (int i = 0; i < 8; i++) {
        v[i] ^= v[i + 8];
        v[i + 8] ^= cv[i];
    }
}

static void node_value(const struct node *n, uint32_t cv[8])
{
    uint32_t v[16];
    compress(n->cv, n->block, n->counter, n->block_len, n->flags, v);
    memcpy(cv, v, 32);
}

static void row_one(const struct lr_b3_row *r, size_t i, uint32_t cv[8])
{
    uint32_t v[16];
    const uint8_t *p = r->p + i * r->blocks * 64;
    memcpy(v, r->key, 32);
    for (size_t k = 0; k < r->blocks; k++) {
        uint32_t flags = r->flags | (k == 0 ? r->first : 0) | (k + 1 == r->blocks ? r->last : 0);
        uint32_t in[8];
        memcpy(in, v, 32);
        compress(in, p + k * 64, r->counter + i * r->counter_up, 64, flags, v);
    }
    memcpy(cv, v, 32);
}

/* Up to a kernel's worth of values from input i on; how many. `left` > 2. */
static size_t row_part(const struct lr_b3_row *r, size_t i, size_t left, uint32_t (*out)[8])
{
    size_t n = left < 4 ? left : 4;
#ifdef LR_B3_X16
    /* __builtin_cpu_supports is a load and a test, so nothing is remembered here. */
    if (left > 8 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
        n = left < 16 ? left : 16;
        lr_b3_x16(r, i, n, out);
        return n;
    }
    if (__builtin_cpu_supports("avx2")) {
        n = left < 8 ? left : 8;
        lr_b3_x8(r, i, n, out);
        return n;
    }
    if (!__builtin_cpu_supports("sse4.1")) {
        row_one(r, i, out[0]);
        return 1;
    }
#endif
    lr_b3_x4(r, i, n, out);
    return n;
}

/* Values of the n inputs of a row. One kernel run costs about as much as two and a half inputs one
 * by one, however many of its lanes are filled. */
static void row_values(const struct lr_b3_row *r, size_t n, uint32_t (*out)[8])
{
    size_t i = 0;
    while (n - i > 2)
        i += row_part(r, i, n - i, out + i);
    for (; i < n; i++)
        row_one(r, i, out[i]);
}

static struct node parent(const struct lr_blake3 *h, const uint32_t left[8],
                          const uint32_t right[8])
{
    struct node n = {.block_len = 64, .flags = h->flags | LR_B3_PARENT};
    memcpy(n.cv, h->key, 32);
    memcpy(n.block, left, 32);
    memcpy(n.block + 32, right, 32);
    return n;
}

static void start(struct lr_blake3 *h, const uint32_t key[8], uint32_t flags)
{
    memcpy(h->key, key, 32);
    memcpy(h->cv, key, 32);
    h->chunks = 0;
    h->block_len = h->blocks = h->stack_len = 0;
    h->flags = (uint8_t)flags;
}

void lr_blake3_init(struct lr_blake3 *h)
{
    start(h, lr_b3_iv, 0);
}

void lr_blake3_init_keyed(struct lr_blake3 *h, const uint8_t key[32])
{
    uint32_t words[8];
    memcpy(words, key, 32);
    start(h, words, LR_B3_KEYED);
}

void lr_blake3_context(const char *context, uint8_t out[32])
{
    struct lr_blake3 h;
    start(&h, lr_b3_iv, LR_B3_DERIVE_CONTEXT);
    lr_blake3_add(&h, context, strlen(context));
    lr_blake3_out(&h, out, 32);
}

void lr_blake3_init_context(struct lr_blake3 *h, const uint8_t context[32])
{
    uint32_t words[8];
    memcpy(words, context, 32);
    start(h, words, LR_B3_DERIVE_MATERIAL);
}

void lr_blake3_init_derive(struct lr_blake3 *h, const char *context)
{
    uint8_t key[32];
    lr_blake3_context(context, key);
    lr_blake3_init_context(h, key);
}

/* Merges what `total` finished chunks allow: one subtree stays for every one bit. */
static void merge_stack(struct lr_blake3 *h, uint64_t total)
{
    while (h->stack_len > __builtin_popcountll(total)) {
        uint32_t *left = h->stack[h->stack_len - 2];
        struct node n = parent(h, left, h->stack[h->stack_len - 1]);
        node_value(&n, left);
        h->stack_len--;
    }
}

/* Puts the value of a subtree of `n` chunks, which start where the finished ones end. */
static void push(struct lr_blake3 *h, const uint32_t cv[8], uint64_t n)
{
    merge_stack(h, h->chunks);
    memcpy(h->stack[h->stack_len++], cv, 32);
    h->chunks += n;
}

static struct node chunk_node(const struct lr_blake3 *h)
{
    struct node n = {.counter = h->chunks, .block_len = h->block_len};
    n.flags = h->flags | LR_B3_CHUNK_END | (h->blocks == 0 ? LR_B3_CHUNK_START : 0U);
    memcpy(n.cv, h->cv, 32);
    memcpy(n.block, h->block, h->block_len);
    return n;
}

static size_t chunk_len(const struct lr_blake3 *h)
{
    return (size_t)h->blocks * 64 + h->block_len;
}

/* Bytes of the chunk in progress; its last block is kept back, for it may be the last of all. */
static void chunk_add(struct lr_blake3 *h, const uint8_t *p, size_t n)
{
    while (n) {
        if (h->block_len == 64) {
            uint32_t v[16];
            compress(h->cv, h->block, h->chunks, 64,
                     h->flags | (h->blocks == 0 ? LR_B3_CHUNK_START : 0U), v);
            memcpy(h->cv, v, 32);
            h->blocks++;
            h->block_len = 0;
        }
        size_t k = 64U - h->block_len < n ? 64U - h->block_len : n;
        memcpy(h->block + h->block_len, p, k);
        h->block_len = (uint8_t)(h->block_len + k);
        p += k;
        n -= k;
    }
}

static void chunk_finish(struct lr_blake3 *h)
{
    uint32_t cv[8];
    struct node n = chunk_node(h);
    node_value(&n, cv);
    push(h, cv, 1);
    memcpy(h->cv, h->key, 32);
    h->blocks = h->block_len = 0;
}

/* Folds n values (a power of two) of neighbouring subtrees into two, or leaves one alone. */
static size_t fold(const struct lr_blake3 *h, uint32_t (*cv)[8], size_t n)
{
    while (n > 2) {
        uint32_t up[BATCH / 2][8];
        struct lr_b3_row row = {.p = (const uint8_t *)cv,
                                .blocks = 1,
                                .key = h->key,
                                .flags = h->flags | LR_B3_PARENT};
        n /= 2;
        row_values(&row, n, up);
        memcpy(cv, up, n * 32);
    }
    return n;
}

/* n whole chunks (at most BATCH) from a chunk boundary on; another byte follows, or n > 1. */
static void add_chunks(struct lr_blake3 *h, const uint8_t *p, size_t n)
{
    uint32_t cv[BATCH][8];
    struct lr_b3_row row = {.p = p,
                            .blocks = LR_BLAKE3_CHUNK / 64,
                            .key = h->key,
                            .counter = h->chunks,
                            .counter_up = 1,
                            .flags = h->flags,
                            .first = LR_B3_CHUNK_START,
                            .last = LR_B3_CHUNK_END};
    row_values(&row, n, cv);
    for (size_t at = 0; at < n;) {
        /* The largest subtree that starts here, by alignment and by what is left. */
        size_t k = (size_t)1 << (63 - __builtin_clzll(n - at));
        while (h->chunks & (k - 1))
            k /= 2;
        if (fold(h, cv + at, k) == 2) {
            push(h, cv[at], k / 2);
            push(h, cv[at + 1], k / 2);
        } else {
            push(h, cv[at], 1);
        }
        at += k;
    }
}

void lr_blake3_add(struct lr_blake3 *h, const void *in, size_t n)
{
    const uint8_t *p = in;
    size_t have = chunk_len(h);
    if (!n)
        return; /* in may be NULL */
    if (have) {
        size_t k = LR_BLAKE3_CHUNK - have < n ? LR_BLAKE3_CHUNK - have : n;
        chunk_add(h, p, k);
        p += k;
        n -= k;
        if (!n)
            return;
        chunk_finish(h);
    }
    while (n > LR_BLAKE3_CHUNK) {
        size_t k = n / LR_BLAKE3_CHUNK < BATCH ? n / LR_BLAKE3_CHUNK : BATCH;
        add_chunks(h, p, k);
        p += k * LR_BLAKE3_CHUNK;
        n -= k * LR_BLAKE3_CHUNK;
    }
    if (n) {
        merge_stack(h, h->chunks);
        chunk_add(h, p, n);
    }
}

void lr_blake3_out(const struct lr_blake3 *h, void *out, size_t n)
{
    struct node last = chunk_node(h);
    unsigned left = h->stack_len;
    if (left && chunk_len(h) == 0) {
        assert(left >= 2);
        last = parent(h, h->stack[left - 2], h->stack[left - 1]);
        left -= 2;
    }
    while (left) {
        uint32_t cv[8];
        node_value(&last, cv);
        last = parent(h, h->stack[--left], cv);
    }
    uint8_t *p = out;
    for (uint64_t i = 0; n; i++) {
        uint32_t v[16];
        size_t k = n < 64 ? n : 64;
        compress(last.cv, last.block, i, last.block_len, last.flags | LR_B3_ROOT, v);
        memcpy(p, v, k);
        p += k;
        n -= k;
    }
}

void lr_blake3(struct lr_str s, struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init(&h);
    lr_blake3_add(&h, s.p, s.n);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

void lr_blake3_keyed(const uint8_t key[32], struct lr_str s, struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init_keyed(&h, key);
    lr_blake3_add(&h, s.p, s.n);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

void lr_blake3_add_str(struct lr_blake3 *h, struct lr_str s)
{
    lr_blake3_add_u64(h, s.n);
    lr_blake3_add(h, s.p, s.n);
}

void lr_blake3_add_u64(struct lr_blake3 *h, uint64_t v)
{
    uint8_t le[8];
    lr_put_le64(le, v);
    lr_blake3_add(h, le, sizeof le);
}
