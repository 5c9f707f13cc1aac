/* SPDX-License-Identifier: Apache-2.0
 * base/rng.h - random numbers: a seeded generator for decisions, the system's for secrets.
 */
#ifndef LR_BASE_RNG_H
#define LR_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* xoshiro256** (Blackman and Vigna, public domain reference), seeded through splitmix64. Not for
 * secrets. One thread at a time. */
struct lr_rng {
    uint64_t s[4];
};

void lr_rng_seed(struct lr_rng *r, uint64_t seed);
uint64_t lr_rng_u64(struct lr_rng *r);
uint64_t lr_rng_below(struct lr_rng *r, uint64_t n); /* uniform in [0, n); 0 when n == 0 */
double lr_rng_unit(struct lr_rng *r);                /* uniform in [0, 1) */

/* n unpredictable bytes (libsodium). Thread-safe. */
void lr_random_bytes(void *out, size_t n);

#endif
