/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_object.c - object headers: whatever the bytes, decode says yes or no, and what it accepts
 * is written back as the same object. As the sums would keep a fuzzer out, the input is tried as it
 * is and with both sums made right.
 */
#include "store/store_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void try_bytes(const uint8_t *p, size_t n)
{
    static struct lr_object_part parts[LR_OBJECT_PARTS_MAX];
    struct lr_object o, again;
    size_t head, size;
    if (lr_object_decode(p, n, &o, &head))
        return;
    for (uint32_t i = 0; i < o.n_parts; i++)
        parts[i] = lr_object_part(p, head, &o, i);
    uint8_t *out = lr_object_size(&o, &size) ? abort(), NULL : lr_alloc(size);
    if (!out)
        return;
    if (lr_object_encode(&o, parts, out) || lr_object_decode(out, size, &again, NULL) ||
        lr_object_match(&o, &again) != LR_MATCH || o.payload != again.payload ||
        o.n_parts != again.n_parts || o.created_ms != again.created_ms ||
        o.expires_ms != again.expires_ms || o.epoch != again.epoch || o.codec != again.codec)
        abort();
    lr_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    try_bytes(p, n);
    if (n < 80 || n > LR_OBJECT_HEAD_MAX)
        return 0;
    uint8_t *q = lr_alloc(n);
    if (!q)
        return 0;
    memcpy(q, p, n);
    size_t m = n & ~(size_t)7, rows = (size_t)lr_le32(q + 12) * 24;
    memcpy(q, LR_OBJECT_MAGIC, 4);
    lr_put_le32(q + 8, (uint32_t)m);
    if (lr_le32(q + 12) <= LR_OBJECT_PARTS_MAX && rows <= m - 80)
        lr_put_le64(q + 24, lr_hash64(lr_str(q + m - 8 - rows, rows), 0));
    lr_put_le64(q + m - 8, lr_hash64(lr_str(q, m - 8), 0));
    try_bytes(q, m);
    lr_free(q);
    return 0;
}
