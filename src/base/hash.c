/* SPDX-License-Identifier: Apache-2.0
 * base/hash.c - the table hash: xxh3 of libxxhash. BLAKE3 is in blake3.c.
 */
#include "base/base.h"

#include <xxhash.h>

uint64_t lr_hash64(struct lr_str s, uint64_t seed)
{
    /* xxh3 promises to read nothing of an empty input, but only of a pointer that is not NULL. */
    return XXH3_64bits_withSeed(s.n ? s.p : "", s.n, seed);
}
