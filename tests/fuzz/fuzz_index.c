/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_index.c - files of vector indexes: whatever the bytes, load says yes or no, and what it
 * accepts can be searched, changed and tidied.
 *
 * The sums would keep a fuzzer out of everything behind them, so the input is tried twice: as it is,
 * and with the header's sum and those of its blocks made right.
 */
#include "vec/vec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { HEADER = 96, DIM_MAX = 256 };

static struct lr_vec_hall *hall;
static struct lr_vec_reader *reader;
static struct lr_vec_arena *arena;

static void use(struct lr_vec *v, unsigned dim)
{
    struct lr_vec_stats st;
    struct lr_vec_hit hits[4];
    struct lr_vec_found f;
    float x[DIM_MAX] = {1};
    for (unsigned i = 0; i < 8; i++) {
        struct lr_vec_ask ask = {.k = 4, .ef = 8, .floor = i % 2 ? 0.9f : 0};
        x[0] = 0;
        x[i % dim] = 1;
        if (lr_vec_search(v, reader, x, &ask, hits, &f) || f.n > 4)
            abort();
        for (size_t k = 0; k < f.n; k++)
            if (lr_vec_get(v, hits[k].id, x))
                abort();
        memset(x, 0, sizeof x);
        x[i % dim] = 1;
        if (lr_vec_put(v, i, x))
            abort();
        if (f.n && hits[0].id >= 8 && lr_vec_del(v, hits[0].id))
            abort();
        memset(x, 0, sizeof x);
    }
    lr_vec_stats(v, &st);
    if (st.live < 8 || st.live > st.slots)
        abort();
    if (lr_vec_save(v, "/dev/null/none", 1) != LR_ENOENT) /* tidies all the same */
        abort();
}

static void try_bytes(const uint8_t *p, size_t n)
{
    struct lr_vec *v;
    uint64_t txn;
    struct lr_vec_opts o = {.dim = lr_le32(p + 8), .type = (enum lr_vec_type)p[6], .ef_build = 64};
    memcpy(o.encoder, p + 32, sizeof o.encoder);
    if (o.dim > DIM_MAX)
        return;
    if (lr_vec_load_bytes(arena, &o, lr_str(p, n), UINT64_MAX, &v, &txn) == 0) {
        use(v, o.dim);
        lr_vec_close(v);
    }
    if (lr_vec_arena_used(arena))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < HEADER || n > LR_MIB(1))
        return 0;
    if (!hall && (lr_vec_hall_open(&hall) || lr_vec_reader_open(hall, &reader) ||
                  lr_vec_arena_open(hall, LR_MIB(64), &arena)))
        abort();
    uint8_t *q = lr_alloc(n);
    if (!q)
        return 0;
    memcpy(q, p, n);
    try_bytes(q, n);
    uint64_t sum = lr_hash64(lr_str(q, HEADER - 8), 0);
    lr_put_le64(q + HEADER - 8, sum);
    for (size_t at = HEADER; n - at >= 12;) {
        size_t len = lr_le32(q + at);
        if (len > n - at - 12)
            break;
        sum = lr_hash64(lr_str(q + at, 4 + len), sum);
        lr_put_le64(q + at + 4 + len, sum);
        at += len + 12;
    }
    try_bytes(q, n);
    lr_free(q);
    return 0;
}
