/* SPDX-License-Identifier: Apache-2.0
 * engine/rows_chunk.c - blocks of rows as bytes and back, layer by layer: what the KV store keeps
 * (docs/formats/chunk.md).
 *
 *   layer    head 0: 256 keys | 256 values,  head 1: 256 keys | 256 values, ..
 *   pages    head | row[32] | 32 keys | 32 values          eight of them a head and block
 *
 * Only rows whose 12 bytes say nothing of their own have this form: row i at position i, no bias, no
 * tag. Those are all rows of a sequence without a policy, so position and block number are all
 * there is to know, and keys and values go as they are, in runs of 32 rows.
 *
 * Pages that are to be filled were never touched before (lr_engine_rows_raw): the thread that copies
 * is the first to write a page, its head included. With fresh memory most of a load's time goes into
 * the system's handing out pages; so it is paid on the threads that load, not on the scheduler's.
 */
#include "engine/engine_int.h"

#define CHUNK_PAGES (CHUNK_ROWS / PAGE_ROWS)

static void write_head(struct page *p, int32_t pos)
{
    memset(p, 0, sizeof *p);
    p->refs = 1;
    p->pos_min = pos;
    p->pos_max = pos + (int32_t)PAGE_ROWS - 1;
    for (uint32_t i = 0; i < PAGE_ROWS; i++)
        p->row[i].pos = pos + (int32_t)i;
}

void lr_engine_chunk_put(const struct lr_engine_seq *s, uint32_t block, uint32_t layer,
                         const uint8_t *bytes)
{
    const struct layout *l = &s->lay;
    size_t k_run = PAGE_ROWS * l->k_bytes, v_run = PAGE_ROWS * l->v_bytes;
    for (uint32_t h = 0; h < s->e->m->shape.n_kv; h++) {
        const struct table *t = table_of(s, layer, h);
        const uint8_t *k = bytes, *v = bytes + CHUNK_PAGES * k_run;
        for (uint32_t j = 0; j < CHUNK_PAGES; j++) {
            uint32_t at = block * CHUNK_PAGES + j;
            struct page *p = t->page[at];
            write_head(p, (int32_t)(at * PAGE_ROWS));
            memcpy(page_k(l, p, 0), k + j * k_run, k_run);
            memcpy(page_v(l, p, 0), v + j * v_run, v_run);
        }
        bytes = v + CHUNK_PAGES * v_run;
    }
}

void lr_engine_chunk_get(const struct lr_engine_seq *s, uint32_t block, uint32_t layer,
                         uint8_t *out)
{
    const struct layout *l = &s->lay;
    size_t k_run = PAGE_ROWS * l->k_bytes, v_run = PAGE_ROWS * l->v_bytes;
    for (uint32_t h = 0; h < s->e->m->shape.n_kv; h++) {
        const struct table *t = table_of(s, layer, h);
        uint8_t *k = out, *v = out + CHUNK_PAGES * k_run;
        for (uint32_t j = 0; j < CHUNK_PAGES; j++) {
            const struct page *p = t->page[block * CHUNK_PAGES + j];
            memcpy(k + j * k_run, page_k(l, p, 0), k_run);
            memcpy(v + j * v_run, page_v(l, p, 0), v_run);
        }
        out = v + CHUNK_PAGES * v_run;
    }
}

/* What lr_engine_seq_truncate does where it is known that row i has position i: no row is looked at. */
void lr_engine_chunk_cut(struct lr_engine_seq *s, uint32_t len)
{
    uint32_t n = s->e->m->shape.n_layer * s->e->m->shape.n_kv;
    for (uint32_t i = 0; i < n; i++)
        lr_engine_rows_cut(s, &s->tables[i], len);
    s->len = len;
}
