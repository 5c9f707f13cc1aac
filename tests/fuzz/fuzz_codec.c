/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_codec.c - frames of every codec: a decoder writes what the frame promised or refuses;
 * and the input itself, encoded, comes back.
 */
#include "store/store.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void round_trip(uint32_t codec, const uint8_t *p, size_t n)
{
    size_t cap = lr_codec_bound(codec, n), used;
    uint8_t *out = lr_alloc(cap), *back = lr_alloc(n);
    if (out && back) {
        if (lr_codec_encode(codec, LR_DTYPE_NONE, p, n, out, cap, &used) ||
            lr_codec_decode(out, used, back, n) || (n && memcmp(p, back, n)))
            abort();
    }
    lr_free(out);
    lr_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    size_t size;
    if (lr_codec_size(p, n, &size) == 0 && size <= LR_MIB(1)) {
        uint8_t *out = lr_alloc(size);
        if (out)
            (void)lr_codec_decode(p, n, out, size); /* either way */
        lr_free(out);
    }
    for (uint32_t codec = LR_CODEC_RAW; codec <= LR_CODEC_ZSTD && n <= LR_KIB(64); codec++)
        if (lr_codec_has(codec))
            round_trip(codec, p, n);
    return 0;
}
