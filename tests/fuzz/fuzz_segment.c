/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_segment.c - what a start reads from a directory: heads, records, footers, rows. The
 * input is taken as each of them, records also with their sums made right (salt 0).
 */
#include "store/store_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void try_rows(struct lr_str rest)
{
    struct lr_row row, again;
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(16));
    while (lr_row_next(&rest, &row) == 1) {
        lr_buf_reset(&b);
        if (lr_row_add(&b, &row))
            break;
        struct lr_str one = lr_buf_str(&b);
        if (lr_row_next(&one, &again) != 1 || one.n || again.off != row.off ||
            again.seq != row.seq || !lr_str_eq(again.o.name, row.o.name))
            abort();
    }
    lr_buf_free(&b);
}

static void try_record(const uint8_t *p, size_t n)
{
    struct lr_record r;
    struct lr_object o;
    if (n < LR_RECORD_HEAD || lr_record_head(p, 0, &r) || r.total > n)
        return;
    if (r.type != LR_RECORD_PAD && lr_record_check(p, 0, true, &r, &o) == 0 &&
        r.type == LR_RECORD_OBJECT && o.payload != r.payload)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct lr_segment_info info;
    struct lr_foot foot;
    try_rows(lr_str(p, n));
    try_record(p, n);
    if (n >= LR_SEGMENT_FOOT && !lr_foot_read(p + n - LR_SEGMENT_FOOT, 0, &foot) &&
        foot.rows <= n)
        try_rows(lr_str(p, (size_t)foot.rows));
    if (n >= LR_SEGMENT_HEAD && lr_segment_head_read(p, &info) == 0)
        try_record(p + LR_SEGMENT_HEAD, n - LR_SEGMENT_HEAD);
    if (n < 128)
        return 0;
    uint8_t *q = lr_alloc(n);
    if (!q)
        return 0;
    memcpy(q, p, n);
    memcpy(q, "LKVR", 4);
    uint64_t total = lr_le64(q + 8);
    lr_put_le64(q + 56, lr_hash64(lr_str(q, 56), 0));
    if (total >= 128 && total <= n) {
        uint8_t *mark = q + total - 64;
        memcpy(mark, "LKVC", 4);
        memcpy(mark + 8, q + 16, 8);
        memcpy(mark + 16, q + 56, 8);
        lr_put_le64(mark + 24, lr_hash64(lr_str(q + 64, q[4] == LR_RECORD_OBJECT ? 0 : 64), 0));
        lr_put_le64(mark + 56, lr_hash64(lr_str(mark, 56), 0));
    }
    try_record(q, n);
    lr_free(q);
    return 0;
}
