/* SPDX-License-Identifier: Apache-2.0
 * answer/index.c - entries in slabs, and the open-addressing table that finds them by digest.
 *
 *   cells   [tag|ref][tag|ref][   0   ][tag|ref] ...     8 bytes a cell, at most 3/4 full
 *                 \________
 *   chunks  [e0 e1 ... e255] [e256 ... ]                 entries never move; ref = slot + 1
 *
 * The digest is a keyed hash already, so its first four bytes are the hash; they lie in the cell,
 * so that growing the table and most failed probes never touch an entry. Slots give admin listings
 * a cursor that survives changes. Deletion shifts cells back: no tombstones.
 *
 * Growth doubles the table at once: 2^20 entries take some milliseconds under the lock, once in the
 * life of a store of that size. Chunks are kept until close.
 *
 * Pure: no lock, no clock. The owner serialises.
 */
#include "answer/answer_int.h"

#include <assert.h>

void lr_index_free(struct lr_index *ix)
{
    for (size_t i = 0; i < ix->n_chunks; i++)
        lr_free(ix->chunks[i]);
    lr_free(ix->chunks);
    lr_free(ix->cells);
    lr_free(ix->tenants);
    *ix = (struct lr_index){0};
}

uint64_t lr_index_bytes(const struct lr_index *ix)
{
    return ix->n_cells * sizeof *ix->cells + ix->cap_chunks * sizeof *ix->chunks +
           ix->n_chunks * LR_CHUNK * sizeof **ix->chunks + ix->cap_tenants * sizeof *ix->tenants;
}

static struct lr_entry *at(const struct lr_index *ix, uint32_t slot)
{
    return &ix->chunks[slot / LR_CHUNK][slot % LR_CHUNK];
}

struct lr_entry *lr_index_at(const struct lr_index *ix, uint32_t slot)
{
    struct lr_entry *e = at(ix, slot);
    return e->flags & LR_E_LIVE ? e : NULL;
}

static uint32_t tag_of(const struct lr_digest *key)
{
    return lr_le32(key->b);
}

struct lr_entry *lr_index_find(const struct lr_index *ix, const struct lr_digest *key)
{
    if (!ix->n)
        return NULL;
    uint32_t tag = tag_of(key);
    size_t mask = ix->n_cells - 1;
    for (size_t i = tag & mask; ix->cells[i].ref; i = (i + 1) & mask) {
        if (ix->cells[i].tag != tag)
            continue;
        struct lr_entry *e = at(ix, ix->cells[i].ref - 1);
        if (lr_digest_eq(&e->key, key))
            return e;
    }
    return NULL;
}

static void place(struct lr_cell *cells, size_t mask, struct lr_cell c)
{
    size_t i = c.tag & mask;
    while (cells[i].ref)
        i = (i + 1) & mask;
    cells[i] = c;
}

static int grow_cells(struct lr_index *ix)
{
    if ((ix->n + 1) * 4 <= ix->n_cells * 3)
        return 0;
    size_t n = ix->n_cells ? ix->n_cells * 2 : 64;
    struct lr_cell *cells = lr_calloc(n, sizeof *cells);
    LR_FAIL_IF(!cells, LR_ENOMEM);
    for (size_t i = 0; i < ix->n_cells; i++)
        if (ix->cells[i].ref)
            place(cells, n - 1, ix->cells[i]);
    lr_free(ix->cells);
    ix->cells = cells;
    ix->n_cells = n;
    return 0;
}

static int grow_chunks(struct lr_index *ix)
{
    if (ix->free || ix->n_slots < ix->n_chunks * LR_CHUNK)
        return 0;
    LR_FAIL_IF(ix->n_slots > UINT32_MAX - 2 * LR_CHUNK, LR_ENOMEM);
    if (ix->n_chunks == ix->cap_chunks) {
        size_t cap = ix->cap_chunks ? ix->cap_chunks * 2 : 16;
        struct lr_entry **p = lr_realloc(ix->chunks, cap * sizeof(struct lr_entry *));
        LR_FAIL_IF(!p, LR_ENOMEM);
        ix->chunks = p;
        ix->cap_chunks = cap;
    }
    struct lr_entry *chunk = lr_calloc(LR_CHUNK, sizeof *chunk);
    LR_FAIL_IF(!chunk, LR_ENOMEM);
    ix->chunks[ix->n_chunks++] = chunk;
    return 0;
}

struct lr_entry *lr_index_add(struct lr_index *ix, const struct lr_digest *key)
{
    if (grow_cells(ix) || grow_chunks(ix))
        return NULL;
    struct lr_entry *e = ix->free;
    uint32_t slot;
    if (e) {
        ix->free = (struct lr_entry *)(void *)e->u.op.next;
        slot = e->slot;
    } else {
        slot = ix->n_slots++;
        e = at(ix, slot);
    }
    *e = (struct lr_entry){.key = *key, .slot = slot, .flags = LR_E_LIVE};
    place(ix->cells, ix->n_cells - 1, (struct lr_cell){.tag = tag_of(key), .ref = slot + 1});
    ix->n++;
    return e;
}

/* Frees cell i of an open-addressing table, moving later members of its run back into the hole. */
#define SHIFT_BACK(cells, mask, i, taken, home)                                                    \
    for (size_t j_ = ((i) + 1) & (mask); taken((cells)[j_]); j_ = (j_ + 1) & (mask)) {             \
        size_t home_ = home((cells)[j_]) & (mask);                                                 \
        if (((j_ - home_) & (mask)) >= ((j_ - (i)) & (mask))) {                                    \
            (cells)[i] = (cells)[j_];                                                              \
            (i) = j_;                                                                              \
        }                                                                                          \
    }
#define CELL_TAKEN(c) ((c).ref != 0)
#define CELL_HOME(c)  ((size_t)(c).tag)
#define USE_TAKEN(t)  ((t).n != 0)
#define USE_HOME(t)   ((size_t)(t).tenant)

void lr_index_cut(struct lr_index *ix, struct lr_entry *e)
{
    size_t mask = ix->n_cells - 1, i = tag_of(&e->key) & mask;
    while (ix->cells[i].ref != e->slot + 1) {
        assert(ix->cells[i].ref); /* cutting what is not in the table is our bug */
        i = (i + 1) & mask;
    }
    SHIFT_BACK(ix->cells, mask, i, CELL_TAKEN, CELL_HOME);
    ix->cells[i] = (struct lr_cell){0};
    ix->n--;
    e->flags &= (uint8_t)~LR_E_LIVE;
}

void lr_index_recycle(struct lr_index *ix, struct lr_entry *e)
{
    assert(!(e->flags & LR_E_LIVE) && !e->hot);
    e->u.op.next = (struct lr_op *)(void *)ix->free;
    ix->free = e;
}

static struct lr_tenant_use *find_tenant(struct lr_tenant_use *t, size_t mask, uint64_t tenant)
{
    size_t i = (size_t)tenant & mask;
    while (t[i].n && t[i].tenant != tenant)
        i = (i + 1) & mask;
    return &t[i];
}

struct lr_tenant_use *lr_index_tenant(const struct lr_index *ix, uint64_t tenant)
{
    if (!ix->cap_tenants)
        return NULL;
    struct lr_tenant_use *t = find_tenant(ix->tenants, ix->cap_tenants - 1, tenant);
    return t->n ? t : NULL;
}

int lr_index_tenant_reserve(struct lr_index *ix)
{
    if ((ix->n_tenants + 1) * 4 <= ix->cap_tenants * 3)
        return 0;
    size_t cap = ix->cap_tenants ? ix->cap_tenants * 2 : 16;
    struct lr_tenant_use *p = lr_calloc(cap, sizeof *p);
    LR_FAIL_IF(!p, LR_ENOMEM);
    for (size_t i = 0; i < ix->cap_tenants; i++)
        if (ix->tenants[i].n)
            *find_tenant(p, cap - 1, ix->tenants[i].tenant) = ix->tenants[i];
    lr_free(ix->tenants);
    ix->tenants = p;
    ix->cap_tenants = cap;
    return 0;
}

void lr_index_tenant_add(struct lr_index *ix, const struct lr_entry *e)
{
    struct lr_tenant_use *t = find_tenant(ix->tenants, ix->cap_tenants - 1, e->tenant);
    if (!t->n) {
        *t = (struct lr_tenant_use){.tenant = e->tenant, .soonest_ms = UINT64_MAX};
        ix->n_tenants++;
    }
    t->n++;
    t->bytes += e->u.node.bytes;
    if (e->expires_ms < t->soonest_ms)
        t->soonest_ms = e->expires_ms;
}

void lr_index_tenant_sub(struct lr_index *ix, const struct lr_entry *e)
{
    size_t mask = ix->cap_tenants - 1;
    struct lr_tenant_use *t = find_tenant(ix->tenants, mask, e->tenant);
    t->bytes -= e->u.node.bytes;
    if (--t->n)
        return;
    size_t i = (size_t)(t - ix->tenants);
    SHIFT_BACK(ix->tenants, mask, i, USE_TAKEN, USE_HOME);
    ix->tenants[i] = (struct lr_tenant_use){0};
    ix->n_tenants--;
}
