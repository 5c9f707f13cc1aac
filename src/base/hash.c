/* SPDX-License-Identifier: Apache-2.0
 * base/hash.c - the table hash and the sum of stored bytes: xxh3 of libxxhash. BLAKE3 is in blake3.c.
 *
 * The library's plain functions are built for the oldest CPU (SSE2 on x86-64: 19 GB/s in cache here);
 * where it has them, its dispatching ones are taken from LONG bytes on (70 with AVX2, 110 with
 * AVX-512), which give the same sums. Below, where no vector is used, they would only be a detour.
 */
#include "base/base.h"

#ifdef LR_XXH_DISPATCH
#define XXH_DISPATCH_DISABLE_REPLACE /* the plain names stay plain */
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#define LONG 241 /* where xxh3 changes to its vector loop */

uint64_t lr_hash64(struct lr_str s, uint64_t seed)
{
#ifdef LR_XXH_DISPATCH
    if (s.n >= LONG)
        return XXH3_64bits_withSeed_dispatch(s.p, s.n, seed);
#endif
    /* xxh3 promises to read nothing of an empty input, but only of a pointer that is not NULL. */
    return XXH3_64bits_withSeed(s.n ? s.p : "", s.n, seed);
}
