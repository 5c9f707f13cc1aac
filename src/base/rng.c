/* SPDX-License-Identifier: Apache-2.0
 * base/rng.c
 */
#include "base/base.h"

#include <sodium.h>

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

void lr_rng_seed(struct lr_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t lr_rng_u64(struct lr_rng *r)
{
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint64_t lr_rng_below(struct lr_rng *r, uint64_t n)
{
    /* Lemire's multiply, with the rejection that makes it exact. */
    if (n == 0)
        return 0;
    uint64_t floor = -n % n;
    for (;;) {
        unsigned __int128 m = (unsigned __int128)lr_rng_u64(r) * n;
        if ((uint64_t)m >= floor)
            return (uint64_t)(m >> 64);
    }
}

double lr_rng_unit(struct lr_rng *r)
{
    return (double)(lr_rng_u64(r) >> 11) * 0x1.0p-53;
}

void lr_random_bytes(void *out, size_t n)
{
    /* randombytes_buf works before sodium_init as well: it opens the system source on first use. */
    randombytes_buf(out, n);
}
