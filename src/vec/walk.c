/* SPDX-License-Identifier: Apache-2.0
 * vec/walk.c - how the nearest are found: a pool of the best seen, and the links that lead on.
 *
 * The search of a hierarchical navigable small world (Malkov and Yashunin 2018, algorithms 2 and
 * 5): from the entry down the upper levels, then at level 0 with breadth ef, always following the
 * best vector whose links were not followed yet, until no open one is among the best ef.
 *
 * The pool is one sorted array instead of the paper's two heaps: up to ef live vectors and, among
 * them, up to ef dead ones, which show the way but are not answered. What falls behind the ef-th
 * live one is forgotten, so "nothing in the pool is open" is the paper's stop.
 *
 * Deviations, measured with bench/vec.c (100,000 vectors, dimension 256, I12, breadth of insertion
 * 100; the ef that reaches recall 0.99, CPU time of one thread on a machine that others used too):
 *   - Upper levels are walked with breadth UPPER = 8 and hand all eight down (the paper: 1).
 * Clusters are far apart, and the walk that went for a wrong one at a level of few vectors pays
 * below. Breadth 1: ef 28, 44 k queries/s, 4: ef 20, 39 k, 8: ef 16, 44 k, 16: ef 14, 42 k. 1 and 8
 * tie here; 8 is the one that is right at the small ef at which misses are looked up (recall at ef
 * 16: 0.98 with breadth 4, 0.99 with 8). Handing down only the best of eight: ef + 2.
 *   - The neighbours of a node are compared as one list (dot.c), after all were prefetched;
 * meanwhile the links of the next best are prefetched.
 *   - Seen slots are a bit each (100,000: 12 KiB, in the first-level cache), undone word by word.
 *   - The pool keeps what a newcomer has to beat at hand, and searches its place without branches:
 *     together a seventh of the time of a walk of 500 comparisons.
 *
 * The floor. Most lookups of a cache find nothing, and a search that only wants what is at least
 * `floor` similar need not rank the unsimilar. A walk at level 0 gives up when the best open vector
 * is below the floor and PATIENCE steps in a row (a step: one vector's links followed) brought
 * neither a vector above the floor nor a new best. It is a guess: a good one may hide behind a
 * ridge of worse ones. Measured ("floor" lines of bench/vec.c, 100,000 vectors, I12, ef 64):
 * patience by what a miss compares (1374 without a floor) and what is found of the 7116 answers
 * above 0.75: 4: 411, 96.4 %; 8: 505, 99.2 %; 16: 673, all; 32: 999, all. Of the 10,000 above
 * 0.6: 97.3, 99.1, 99.9, 99.9 %.
 */
#include "vec/vec_int.h"

#include <math.h>

enum { UPPER = 8, PATIENCE = 16 };

/* ---- Pool -------------------------------------------------------------------------------------*/

/* Forgets what is beyond bounds, and knows then what a newcomer has to beat. */
static void trim(struct pool *p)
{
    while (p->n && (p->live > p->ef || p->n > 2 * p->ef ||
                    (p->live == p->ef && (p->e[p->n - 1].slot & VEC_NEAR_DEAD))))
        p->live -= !(p->e[--p->n].slot & VEC_NEAR_DEAD);
    bool full = p->live == p->ef || p->n == 2 * p->ef;
    p->worst = full ? p->e[p->n - 1].sim : -INFINITY;
}

static void start(struct pool *p, size_t ef)
{
    p->n = p->live = p->next = 0;
    p->ef = ef;
    p->worst = -INFINITY;
    p->bar = INFINITY;
}

/* For sim above the worst. The search has no branch to guess wrong. */
static void add(struct pool *p, float sim, uint32_t slot)
{
    size_t lo = 0;
    for (size_t n = p->n; n;) {
        size_t half = n / 2;
        bool after = p->e[lo + half].sim >= sim;
        lo = after ? lo + half + 1 : lo;
        n = after ? n - half - 1 : half;
    }
    memmove(&p->e[lo + 1], &p->e[lo], (p->n - lo) * sizeof p->e[0]);
    p->e[lo] = (struct near){sim, slot};
    p->n++;
    p->live += !(slot & VEC_NEAR_DEAD);
    p->next = lo < p->next ? lo : p->next;
    p->progress |= sim > p->bar;
    trim(p);
}

/* ---- Comparing --------------------------------------------------------------------------------*/

void vec_unsee(struct lr_vec_reader *r)
{
    while (r->n_touched)
        r->seen[r->touched[--r->n_touched]] = 0;
}

void vec_compare(const struct view *w, const uint32_t *slot, size_t n, float *sim, uint32_t *mark)
{
    const uint8_t *at[VEC_ROUND + 1];
    int32_t sum[VEC_ROUND + 1];
    for (size_t i = 0; i < n; i++) {
        at[i] = vec_at(w->v, w->d, slot[i]);
        mark[i] = vec_get(vec_mark(w->v, w->d, slot[i]));
    }
    w->r->looked += n;
    if (w->v->o.type == LR_VEC_F32) {
        w->v->dots->f32(w->r->qf, at, n, w->v->pad, sim);
        return;
    }
    w->v->dots->i8(w->r->q8, w->r->bias, at, n, w->v->pad, sum);
    for (size_t i = 0; i < n; i++)
        sim[i] = (float)sum[i] * (w->r->scale * vec_scale(mark[i]));
}

void vec_fetch(const struct view *w, uint32_t slot)
{
    const uint8_t *p = vec_at(w->v, w->d, slot);
    for (size_t i = 0; i < w->v->stride; i += 64)
        __builtin_prefetch(p + i);
    __builtin_prefetch(vec_mark(w->v, w->d, slot));
}

/* Compares and offers to the pool. */
static void pour(const struct view *w, const uint32_t *slot, size_t n)
{
    struct pool *p = &w->r->pool;
    float sim[VEC_ROUND + 1];
    uint32_t mark[VEC_ROUND + 1];
    vec_compare(w, slot, n, sim, mark);
    for (size_t i = 0; i < n; i++)
        if (sim[i] > p->worst) /* NaN is not */
            add(p, sim[i], slot[i] | (mark[i] & VEC_DEAD ? VEC_NEAR_DEAD : 0));
}

void vec_scan(const struct lr_vec *v, struct lr_vec_reader *r, size_t ef, uint32_t n)
{
    struct view w = {v, r, vec_dir(v), NULL, n};
    uint32_t some[VEC_UNIT];
    start(&r->pool, ef);
    for (uint32_t base = 0; base < n; base += VEC_UNIT) {
        size_t k = 0;
        for (uint32_t s = base; s < n && s < base + VEC_UNIT; s++)
            if (!(vec_get(vec_mark(v, w.d, s)) & VEC_DEAD))
                some[k++] = s;
        pour(&w, some, k);
    }
}

/* ---- The walk ---------------------------------------------------------------------------------*/

static void follow(const struct view *w, uint32_t slot, unsigned level)
{
    const _Atomic uint32_t *links = vec_links_of(w, slot, level);
    uint32_t fresh[VEC_ROUND];
    size_t n = 0, max = level ? w->v->m : w->v->m0;
    for (size_t i = 0; i < max; i++) {
        uint32_t s = vec_get(&links[i]);
        if (s == VEC_NONE)
            break;
        if (s < w->n && vec_see(w->r, s)) {
            vec_fetch(w, s);
            fresh[n++] = s;
        }
    }
    pour(w, fresh, n);
}

/* The place of the best open entry; n when there is none. */
static size_t next_open(struct pool *p)
{
    while (p->next < p->n && (p->e[p->next].slot & VEC_NEAR_DONE))
        p->next++;
    return p->next;
}

/* The links of what will probably be followed next. */
static void fetch_next(const struct view *w)
{
    struct pool *p = &w->r->pool;
    size_t i = next_open(p);
    if (i == p->n)
        return;
    const _Atomic uint32_t *links = vec_links(w->v, w->d, p->e[i].slot & VEC_NEAR_SLOT);
    for (size_t k = 0; k < w->v->m0; k += 16)
        __builtin_prefetch(links + k);
}

/* True when the floor ended it. */
static bool walk_level(const struct view *w, unsigned level, float floor)
{
    struct pool *p = &w->r->pool;
    unsigned stale = 0;
    for (size_t i; (i = next_open(p)) < p->n;) {
        uint32_t slot = p->e[i].slot & VEC_NEAR_SLOT;
        if (stale >= PATIENCE && p->e[i].sim < floor)
            return true;
        p->bar = p->e[0].sim < floor ? p->e[0].sim : floor;
        p->progress = false;
        p->e[i].slot |= VEC_NEAR_DONE;
        if (level == 0)
            fetch_next(w);
        follow(w, slot, level);
        stale = p->progress ? 0 : stale + 1;
    }
    return false;
}

void vec_walk_level(const struct view *w, unsigned level, size_t ef)
{
    w->r->pool.ef = ef;
    trim(&w->r->pool);
    (void)walk_level(w, level, -INFINITY); /* without a floor nothing ends it early */
}

void vec_descend(const struct view *w)
{
    struct pool *p = &w->r->pool;
    p->ef = UPPER;
    trim(p);
    p->next = 0;
    vec_unsee(w->r);
    for (size_t i = 0; i < p->n; i++) {
        p->e[i].slot &= ~VEC_NEAR_DONE;
        vec_see(w->r, p->e[i].slot & VEC_NEAR_SLOT);
    }
}

void vec_walk_down(const struct view *w, uint64_t entry, unsigned level)
{
    uint32_t slot = (uint32_t)entry;
    start(&w->r->pool, UPPER);
    vec_see(w->r, slot);
    pour(w, &slot, 1);
    for (unsigned l = (unsigned)(entry >> 32); l > level; l--) {
        vec_walk_level(w, l, UPPER);
        vec_descend(w);
    }
}

int vec_walk(const struct lr_vec *v, struct lr_vec_reader *r, size_t ef, float floor, bool *gave_up)
{
    uint64_t entry = atomic_load_explicit(&v->entry, memory_order_acquire);
    struct view w = {.v = v, .r = r};
    w.n = atomic_load_explicit(&v->n, memory_order_acquire); /* after the entry: covers it */
    w.d = vec_dir(v);
    w.up = vec_updir(v);
    start(&r->pool, ef);
    if (entry == VEC_NONE)
        return 0;
    LR_TRY(vec_reader_room(r, w.n));
    vec_walk_down(&w, entry, 0);
    r->pool.ef = ef;
    trim(&r->pool);
    *gave_up = walk_level(&w, 0, floor);
    vec_unsee(r);
    return 0;
}
