/* SPDX-License-Identifier: Apache-2.0
 * vec/index.c - the doors: open, put, delete, search; from flat list to graph.
 *
 * A partition begins as a flat list: a search compares all of it, exactly and without jumps through
 * memory. When more than flat_max are live, the graph is built behind it: each put links up to four
 * older vectors besides, so that no put pays for all of them, and searches go on comparing
 * everything until the last one is linked. Where to change over was measured ("cross" lines of
 * bench/vec.c, dimension 256, I12, k 10, ef 32, us a search): 1,000 vectors: flat 8.9, graph 13.8;
 * 2,000: 14.1 and 14.8; 4,000: 25.4 and 16.5; 16,000: 95 and 21.8. So LR_VEC_FLAT is 2,000.
 *
 * The walk ranks I8 and I12 by products of two vectors rounded to bytes. The best k + VEC_MORE of
 * it are ranked again with the query as it came and, for I12, with twelve bits of the vectors. Why:
 * of neighbours 0.0023 apart (bench/vec.c's clusters) bytes confuse some: recall at 10 ends at
 * 0.984 whatever the breadth. With twelve bits it reaches 0.998 for half as many bytes more.
 */
#include "vec/vec_int.h"

#include <math.h>

enum {
    BUILD_STEP = 4, /* older vectors linked with each put */
    TIDY_STEP = 16, /* slots whose lists are looked through: a pass ends in n / 16 calls */
};

int lr_vec_open(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct lr_vec **out)
{
    vec_reap(a);
    return vec_make(a, o, out);
}

static int check_unit(const struct lr_vec *v, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < v->o.dim; i++)
        sum += (double)x[i] * (double)x[i];
    return fabs(sum - 1) <= 1e-3 ? 0 : LR_EINVAL; /* NaN is not */
}

static uint32_t live(const struct lr_vec *v)
{
    return atomic_load_explicit(&v->live, memory_order_relaxed);
}

/* ---- Writing ----------------------------------------------------------------------------------*/

static void build_some(struct lr_vec *v)
{
    uint32_t n = atomic_load_explicit(&v->n, memory_order_relaxed);
    for (int i = 0; i < BUILD_STEP && v->linked < n; i++, v->linked++) {
        struct meta *m = vec_meta(v, vec_dir(v), v->linked);
        if (vec_lists(v, v->linked, m->upper ? 0 : m->level))
            return; /* no memory now: the next put tries again */
        if (m->state == SLOT_LIVE)
            vec_link(v, v->linked);
    }
    if (v->linked < n)
        return;
    v->building = false;
    atomic_store_explicit(&v->graph, true, memory_order_release);
}

int lr_vec_put(struct lr_vec *v, uint64_t id, const float *x)
{
    LR_TRY(check_unit(v, x));
    vec_reap(v->arena);
    vec_tidy(v, TIDY_STEP);
    bool graph = atomic_load_explicit(&v->graph, memory_order_relaxed);
    uint32_t slot, old = vec_find(v, id);
    uint32_t n = atomic_load_explicit(&v->n, memory_order_relaxed);
    LR_TRY(vec_reserve(v, graph || v->building, &slot));
    LR_TRY(vec_reader_room(v->arena->own, v->cap));
    vec_take(v, slot, id, x);
    if (graph || (v->building && slot < v->linked && slot < n))
        vec_link(v, slot);
    if (old != VEC_NONE)
        vec_bury(v, old);
    if (!graph && !v->building && live(v) > v->o.flat_max)
        v->building = true;
    if (v->building)
        build_some(v);
    return 0;
}

int lr_vec_del(struct lr_vec *v, uint64_t id)
{
    uint32_t slot = vec_find(v, id);
    LR_FAIL_IF(slot == VEC_NONE, LR_ENOENT);
    vec_map_drop(v, id);
    vec_bury(v, slot);
    vec_tidy(v, TIDY_STEP);
    return 0;
}

int lr_vec_get(const struct lr_vec *v, uint64_t id, float *x)
{
    uint32_t slot = vec_find(v, id);
    LR_FAIL_IF(slot == VEC_NONE, LR_ENOENT);
    vec_decode(v, slot, x);
    return 0;
}

void lr_vec_stats(const struct lr_vec *v, struct lr_vec_stats *out)
{
    *out = (struct lr_vec_stats){
        .live = live(v),
        .slots = atomic_load_explicit(&v->n, memory_order_relaxed),
        .bytes = atomic_load_explicit(&v->bytes, memory_order_relaxed),
        .graph = atomic_load_explicit(&v->graph, memory_order_relaxed),
    };
}

/* ---- Searching --------------------------------------------------------------------------------*/

static float exact(const struct lr_vec *v, const float *q, struct dir *d, uint32_t slot,
                   uint32_t mark)
{
    float sum = v->dots->wide(q, vec_at(v, d, slot), v->pad);
    if (v->o.type == LR_VEC_I12)
        sum += v->dots->nibbles(q, vec_low(v, d, slot), v->pad) / 16;
    return sum * vec_scale(mark);
}

static bool better(const struct lr_vec_hit *a, const struct lr_vec_hit *b)
{
    return a->sim > b->sim || (a->sim == b->sim && a->id < b->id);
}

/* They come nearly in order. */
static void insert(struct lr_vec_hit *best, size_t n, struct lr_vec_hit hit)
{
    while (n && better(&hit, &best[n - 1])) {
        best[n] = best[n - 1];
        n--;
    }
    best[n] = hit;
}

static bool has(const struct lr_vec_hit *hits, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (hits[i].id == id)
            return true;
    return false;
}

/* The pool's best, ranked by what is stored; each id once (an update meanwhile may show it twice).
 */
static size_t collect(const struct lr_vec *v, struct lr_vec_reader *r, const struct lr_vec_ask *ask,
                      struct lr_vec_hit *hits)
{
    struct dir *d = vec_dir(v);
    struct pool *p = &r->pool;
    struct lr_vec_hit best[LR_VEC_K_MAX + VEC_MORE];
    size_t n = 0, out = 0;
    for (size_t i = 0; i < p->n && n < ask->k + VEC_MORE; i++) {
        uint32_t slot = p->e[i].slot & VEC_NEAR_SLOT;
        uint32_t mark = vec_get(vec_mark(v, d, slot));
        if (mark & VEC_DEAD)
            continue;
        float sim = v->o.type == LR_VEC_F32 ? p->e[i].sim : exact(v, r->qf, d, slot, mark);
        insert(best, n++, (struct lr_vec_hit){vec_meta(v, d, slot)->id, sim});
    }
    for (size_t i = 0; i < n && out < ask->k; i++)
        if ((ask->floor == 0 || best[i].sim >= ask->floor) && !has(hits, out, best[i].id))
            hits[out++] = best[i];
    return out;
}

static int look(const struct lr_vec *v, struct lr_vec_reader *r, const float *q,
                const struct lr_vec_ask *ask, struct lr_vec_found *f)
{
    size_t ef = ask->ef ? ask->ef : 64;
    float floor = ask->floor == 0 ? -INFINITY : ask->floor;
    vec_query(v, r, q);
    r->looked = 0;
    if (atomic_load_explicit(&v->graph, memory_order_acquire) && live(v) > LR_VEC_FEW)
        LR_TRY(vec_walk(v, r, ef > ask->k ? ef : ask->k, floor, &f->gave_up));
    else
        vec_scan(v, r, ask->k + VEC_MORE, atomic_load_explicit(&v->n, memory_order_acquire));
    f->looked = r->looked;
    return 0;
}

int lr_vec_search(const struct lr_vec *v, struct lr_vec_reader *r, const float *q,
                  const struct lr_vec_ask *ask, struct lr_vec_hit *hits, struct lr_vec_found *found)
{
    LR_FAIL_IF(ask->k < 1 || ask->k > LR_VEC_K_MAX || ask->ef > LR_VEC_K_MAX, LR_EINVAL);
    LR_FAIL_IF(isnan(ask->floor), LR_EINVAL);
    LR_TRY(check_unit(v, q));
    struct lr_vec_found f = {0};
    lr_vec_enter(r);
    int rc = look(v, r, q, ask, &f);
    if (!rc)
        f.n = collect(v, r, ask, hits);
    lr_vec_leave(r);
    if (!rc)
        *found = f;
    return rc;
}
