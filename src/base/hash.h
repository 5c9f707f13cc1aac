/* SPDX-License-Identifier: Apache-2.0
 * base/hash.h - xxh3 for tables and checksums, BLAKE3 for identity.
 *
 * BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020) is ours, after the specification; it is
 * held against the official test vectors. Long inputs use the widest kernel the CPU has.
 */
#ifndef LR_BASE_HASH_H
#define LR_BASE_HASH_H

#include "base/str.h"

/* xxh3, 64 bits. Not for adversarial keys unless `seed` is secret. */
uint64_t lr_hash64(struct lr_str s, uint64_t seed);

struct lr_digest {
    uint8_t b[32];
};

#define LR_BLAKE3_CHUNK 1024
struct lr_blake3 {
    uint32_t key[8];        /* IV, or the caller's key */
    uint32_t cv[8];         /* chaining value of the chunk in progress */
    uint32_t stack[55][8];  /* subtree values: one per bit of chunks, and the newest */
    uint64_t chunks;        /* finished chunks */
    uint8_t block[64];
    uint8_t block_len, blocks, stack_len;
    uint8_t flags;
};

void lr_blake3_init(struct lr_blake3 *h);
void lr_blake3_init_keyed(struct lr_blake3 *h, const uint8_t key[32]);
/* Derives keys: context is a hard-coded, globally unique string. */
void lr_blake3_init_derive(struct lr_blake3 *h, const char *context);
/* The same in two steps, for who derives from one context again and again. */
void lr_blake3_context(const char *context, uint8_t out[32]);
void lr_blake3_init_context(struct lr_blake3 *h, const uint8_t context[32]);
/* The same in two steps, for who derives from one context again and again. */
void lr_blake3_context(const char *context, uint8_t out[32]);
void lr_blake3_init_context(struct lr_blake3 *h, const uint8_t context[32]);
void lr_blake3_add(struct lr_blake3 *h, const void *p, size_t n);
/* n bytes of output (extendable); h may go on being fed. */
void lr_blake3_out(const struct lr_blake3 *h, void *out, size_t n);

/* One call. */
void lr_blake3(struct lr_str s, struct lr_digest *out);
void lr_blake3_keyed(const uint8_t key[32], struct lr_str s, struct lr_digest *out);

/* Framed adds, so that ("ab","c") and ("a","bc") differ: u64 length before the bytes. */
void lr_blake3_add_str(struct lr_blake3 *h, struct lr_str s);
void lr_blake3_add_u64(struct lr_blake3 *h, uint64_t v);

static inline bool lr_digest_eq(const struct lr_digest *a, const struct lr_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

#endif
