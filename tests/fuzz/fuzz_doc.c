/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_doc.c - stored documents: whatever the bytes, decode says yes or no, and what it
 * accepts is written back as a document with the same meaning.
 *
 * The sums would keep a fuzzer out of everything behind them, so the input is tried twice: as it
 * is, and with both sums made right.
 */
#include "answer/answer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void walk_log(struct lr_str log)
{
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1)
        ;
}

static void try_bytes(struct lr_str bytes)
{
    struct lr_doc *d = NULL, *again = NULL;
    if (lr_doc_decode(bytes, &d))
        return;
    walk_log(d->log);
    struct lr_buf b;
    lr_buf_init(&b, bytes.n + 4096);
    if (lr_doc_encode(&d->meta, d->log, &b) == 0) {
        if (lr_doc_decode(lr_buf_str(&b), &again))
            abort();
        if (memcmp(&again->meta, &d->meta, sizeof d->meta) || !lr_str_eq(again->log, d->log))
            abort();
        lr_doc_unref(again);
    }
    lr_buf_free(&b);
    lr_doc_unref(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    try_bytes(lr_str(p, n));
    if (n < 64 || n > LR_MIB(1))
        return 0;
    uint8_t *q = lr_alloc(n);
    if (!q)
        return 0;
    memcpy(q, p, n);
    size_t m = lr_le16(q + 6);
    if (m <= n - 64) {
        lr_put_le32(q + 8, (uint32_t)(n - 64 - m));
        uint64_t sum = lr_hash64(lr_str(q, 48 + m), 0);
        lr_put_le64(q + 48 + m, sum);
        lr_put_le64(q + n - 8, lr_hash64(lr_str(q + 56 + m, n - 64 - m), sum));
        try_bytes(lr_str(q, n));
    }
    lr_free(q);
    return 0;
}
