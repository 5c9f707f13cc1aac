/* SPDX-License-Identifier: Apache-2.0
 * vec/hall.c - who is reading, and when memory may be reused.
 *
 * One writer changes an index while readers walk it; nobody waits. What makes that safe:
 *
 *   1. Memory is stable. Blocks of an index are never moved or given back while it lives;
 * directories are replaced by larger ones and the old ones stay until the end (together no larger
 * than the last). So every address a reader has computed stays readable. Only slots are reused.
 *   2. Everything that both sides touch at the same time is atomic: the lists of links (a word a
 * link), marks, the entry, the counts, the directories' addresses. A list that is being rewritten
 * may be seen as any mixture of its old and new words, and each of them names a slot that is or was
 * in the graph: a mixture costs recall for a moment, never safety.
 *   3. The rest of a slot (vector, id, place of its upper lists) is plain memory, written only
 * while no reader can be looking: before the mark says "live" and before any link names it (a
 * reader gets there by an acquiring load of that mark or link, so it sees the slot whole), and
 * again only after 4.
 *   4. A slot is reused when (a) no mark says live, no list and no entry names it, and (b) all
 * readers that may have found it before have left. (a) is the flat list's at once and the graph's
 * at the end of a tidying pass (graph.c). For (b), epochs (Fraser 2004), in the form below.
 *
 * A reader that enters stores the epoch it read into its place and then adds 0 to the epoch; the
 * writer that retires adds 1 to the epoch and then looks at the places. Both additions acquire and
 * release. They are ordered, being changes of one variable:
 *   - reader's first: the writer's addition sees it, hence the place filled: the writer keeps the
 * slot until the place is empty or shows an epoch above the tag.
 *   - writer's first: the reader's addition sees it, hence all that was unlinked before: the reader
 *     cannot find the slot. (If its place shows an epoch below the tag all the same, because it was
 *     read early, the writer only waits longer than it has to.)
 * A place is emptied with release and looked at with acquire: what the reader read happened before
 * what the writer writes into the reused slot. No fences, so the thread sanitizer can follow.
 * The cost: one shared addition a search, some 20 ns among a few readers, of a walk of tens of us.
 * Tried and dropped: huge pages for large blocks (madvise; no difference with 100,000 vectors of
 * 256 bytes). On paper only: a lock a slot or a version a slot (a reader would have to compare
 * twice for each vector it looks at), hazard pointers (a store a node).
 *
 * A reader that never leaves keeps memory from being reused, nothing else: puts then take new
 * slots.
 */
#include "vec/vec_int.h"

#include <assert.h>

int lr_vec_hall_open(struct lr_vec_hall **out)
{
    struct lr_vec_hall *h = lr_new(struct lr_vec_hall);
    LR_FAIL_IF(!h, LR_ENOMEM);
    if (pthread_mutex_init(&h->mu, NULL)) {
        lr_free(h);
        return LR_ENOMEM;
    }
    atomic_init(&h->epoch, 1);
    *out = h;
    return 0;
}

void lr_vec_hall_close(struct lr_vec_hall *h)
{
    if (!h)
        return;
    assert(!h->readers);
    pthread_mutex_destroy(&h->mu);
    lr_free(h);
}

uint64_t vec_retire(struct lr_vec_hall *h)
{
    return atomic_fetch_add_explicit(&h->epoch, 1, memory_order_acq_rel);
}

bool vec_passed(struct lr_vec_hall *h, uint64_t tag)
{
    bool passed = true;
    pthread_mutex_lock(&h->mu);
    for (struct lr_vec_reader *r = h->readers; r && passed; r = r->next) {
        uint64_t at = atomic_load_explicit(&r->at, memory_order_acquire);
        passed = at == 0 || at > tag;
    }
    pthread_mutex_unlock(&h->mu);
    return passed;
}

/* ---- Readers ----------------------------------------------------------------------------------*/

int vec_reader_new(struct lr_vec_hall *h, struct lr_vec_reader **out)
{
    struct lr_vec_reader *r = lr_new(struct lr_vec_reader);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->hall = h;
    r->pool.e = lr_alloc(VEC_POOL * sizeof *r->pool.e);
    r->qf = lr_calloc(LR_VEC_DIM_MAX + 64, sizeof(float));
    r->q8 = lr_calloc(LR_VEC_DIM_MAX + 64, 1);
    if (!r->pool.e || !r->qf || !r->q8) {
        vec_reader_free(r);
        return LR_ENOMEM;
    }
    *out = r;
    return 0;
}

void vec_reader_free(struct lr_vec_reader *r)
{
    if (!r)
        return;
    lr_free(r->pool.e);
    lr_free(r->qf);
    lr_free(r->q8);
    lr_free(r->seen);
    lr_free(r->touched);
    lr_free(r);
}

int vec_reader_room(struct lr_vec_reader *r, size_t slots)
{
    if (slots <= r->seen_slots)
        return 0;
    size_t words = (slots + slots / 4) / 64 + 64;
    uint64_t *seen = lr_calloc(words, sizeof *seen);
    uint32_t *touched = seen ? lr_alloc(words * sizeof *touched) : NULL;
    if (!touched) {
        lr_free(seen);
        return LR_ENOMEM;
    }
    lr_free(r->seen);
    lr_free(r->touched);
    r->seen = seen;
    r->touched = touched;
    r->seen_slots = words * 64;
    return 0;
}

int lr_vec_reader_open(struct lr_vec_hall *h, struct lr_vec_reader **out)
{
    struct lr_vec_reader *r;
    LR_TRY(vec_reader_new(h, &r));
    pthread_mutex_lock(&h->mu);
    r->next = h->readers;
    h->readers = r;
    pthread_mutex_unlock(&h->mu);
    *out = r;
    return 0;
}

void lr_vec_reader_close(struct lr_vec_reader *r)
{
    if (!r)
        return;
    assert(r->depth == 0);
    pthread_mutex_lock(&r->hall->mu);
    struct lr_vec_reader **at = &r->hall->readers;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    pthread_mutex_unlock(&r->hall->mu);
    vec_reader_free(r);
}

void lr_vec_enter(struct lr_vec_reader *r)
{
    if (r->depth++)
        return;
    uint64_t e = atomic_load_explicit(&r->hall->epoch, memory_order_relaxed);
    atomic_store_explicit(&r->at, e, memory_order_release);
    atomic_fetch_add_explicit(&r->hall->epoch, 0, memory_order_acq_rel);
}

void lr_vec_leave(struct lr_vec_reader *r)
{
    assert(r->depth > 0);
    if (--r->depth == 0)
        atomic_store_explicit(&r->at, 0, memory_order_release);
}

/* ---- Arenas -----------------------------------------------------------------------------------*/

int lr_vec_arena_open(struct lr_vec_hall *h, size_t max, struct lr_vec_arena **out)
{
    struct lr_vec_arena *a = lr_new(struct lr_vec_arena);
    LR_FAIL_IF(!a, LR_ENOMEM);
    int rc = vec_reader_new(h, &a->own);
    if (rc) {
        lr_free(a);
        return rc;
    }
    a->hall = h;
    a->max = max;
    *out = a;
    return 0;
}

size_t lr_vec_arena_used(const struct lr_vec_arena *a)
{
    return atomic_load_explicit(&a->used, memory_order_relaxed);
}

void lr_vec_arena_close(struct lr_vec_arena *a)
{
    if (!a)
        return;
    vec_reap(a);
    assert(!a->closed && lr_vec_arena_used(a) == 0);
    vec_reader_free(a->own);
    lr_free(a);
}

void *vec_grab(struct lr_vec *v, size_t n, int *rc)
{
    struct lr_vec_arena *a = v->arena;
    size_t bytes = n + 64 + sizeof(struct block);
    size_t used = atomic_load_explicit(&a->used, memory_order_relaxed);
    *rc = LR_EOVER;
    if (bytes < n || bytes > a->max || used > a->max - bytes)
        return NULL;
    *rc = LR_ENOMEM;
    struct block *b = lr_alloc(bytes);
    if (!b)
        return NULL;
    b->p = (char *)(((uintptr_t)(b + 1) + 63) & ~(uintptr_t)63);
    memset(b->p, 0, n);
    b->bytes = bytes;
    b->next = v->blocks;
    v->blocks = b;
    atomic_store_explicit(&a->used, used + bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&v->bytes, bytes, memory_order_relaxed);
    *rc = 0;
    return b->p;
}

void vec_free(struct lr_vec *v)
{
    struct lr_vec_arena *a = v->arena;
    while (v->blocks) {
        struct block *b = v->blocks;
        v->blocks = b->next;
        atomic_fetch_sub_explicit(&a->used, b->bytes, memory_order_relaxed);
        lr_free(b);
    }
    atomic_fetch_sub_explicit(&a->used, sizeof *v + v->map_size * sizeof v->map[0],
                              memory_order_relaxed);
    lr_free(v->map);
    lr_free(v);
}

void vec_reap(struct lr_vec_arena *a)
{
    struct lr_vec **at = &a->closed;
    while (*at) {
        struct lr_vec *v = *at;
        if (!vec_passed(a->hall, v->closed_tag)) {
            at = &v->next_closed;
            continue;
        }
        *at = v->next_closed;
        vec_free(v);
    }
}

void lr_vec_close(struct lr_vec *v)
{
    if (!v)
        return;
    struct lr_vec_arena *a = v->arena;
    v->closed_tag = vec_retire(a->hall);
    v->next_closed = a->closed;
    a->closed = v;
    vec_reap(a);
}
