/* SPDX-License-Identifier: Apache-2.0
 * vec/graph.c - how links come and go. The writer's side of the graph; walk.c is the readers'.
 *
 *   level 2    o-----------------o          a node's highest level is drawn by lot: P(>= l) = m^-l;
 *   level 1    o-----o-----o-----o          it has up to m links on each level above 0
 *   level 0    o-o-o-o-o-o-o-o-o-o-o-o      and up to 2m there
 *
 * Insert (Malkov and Yashunin 2018, algorithm 1). The new vector is searched for; on each of its
 * levels it links to up to m of the ef_build best found, chosen to lie in different directions
 * (algorithm 4): a candidate is passed over when one chosen before is nearer to it than the new
 * vector is. Each chosen one links back; a list that is full is chosen anew from its members and
 * the newcomer.
 *
 * Deviations, measured as in walk.c:
 *   - "Nearer" by a margin: passed over when ALPHA = 1.03 times the distance 1 - sim to one chosen
 * is less than that to the new vector (Subramanya et al. 2019 have such a factor for another
 * reason). With breadth 8 above: 1.00 reaches recall 0.99 at ef 20 (37 k queries/s), 1.03 at 16 (44
 * k), 1.05 at 16 (39 k). With breadth 4: 1.00 at 20, 1.03 at 20, 1.05 at 24, 1.07 at 28; 1.20
 * (50,000 vectors) not at all: lists full of a cluster's own members do not lead out of it. So a
 * little, well away from that cliff. On wider clusters (500 members, noise 1) 1.06 gained 5 % of
 * the comparisons, on vectors without clusters it lost 1 % of recall at equal ef.
 *   - Lists are not filled up with what was passed over: filled, the insert rate fell by a third
 * and the same recall took as many comparisons (50,000 vectors).
 *   - ef_build 100 (hnswlib: 200): 200 gained 3 % of the comparisons and cost 40 % of the inserts;
 * 60 lost 5 % and gained 30 % (50,000 vectors).
 *   - Levels belong to slots (store.c).
 *
 * Delete. A deleted vector stays in the graph, dead: it shows the way and is not answered. When an
 * eighth is dead a tidying pass starts: everything dead by then is its batch. A pass looks through
 * all lists, a few with every put and delete; where a list names a dead one, it is chosen anew from
 * its live members and the live neighbours of its dead ones (as Singh et al. 2021, FreshDiskANN, do
 * in bulk). At its end no list names the batch, for nothing links to the dead; once the readers
 * have left, the slots are reused. An update is a put into another slot and a delete: never in
 * place, so that a reader sees one or the other.
 *   - A list that a pass leaves empty is searched for anew, and when the search finds nothing live
 *     (most of the graph was dead), by comparing everything: nobody stays cut off alone.
 *   - The entry, when dead, gives way to a live one of the highest level as the pass begins.
 * Tried on paper and dropped: taking a node out at once (its in-links are not known: lists are
 * one-way, and keeping them both ways doubles the memory).
 */
#include "vec/vec_int.h"

#include <stdlib.h>

#define ALPHA 1.03f

static void set(_Atomic uint32_t *p, uint32_t x)
{
    atomic_store_explicit(p, x, memory_order_release);
}

static struct view writers_view(struct lr_vec *v)
{
    uint32_t n = atomic_load_explicit(&v->n, memory_order_relaxed);
    return (struct view){v, v->arena->own, vec_dir(v), vec_updir(v), n};
}

/* ---- Choosing ---------------------------------------------------------------------------------*/

struct choice {
    struct near *c; /* candidates, live, nearest first */
    size_t n;
    uint32_t out[VEC_ROUND];
    size_t n_out;
};

/* Is one of those chosen nearer to c than c is to whom it is chosen for? */
static bool covered(const struct view *w, const struct choice *ch, const struct near *c)
{
    float sim[VEC_ROUND + 1];
    uint32_t mark[VEC_ROUND + 1];
    vec_query_slot(w->v, w->r, c->slot & VEC_NEAR_SLOT);
    for (size_t k = 0; k < ch->n_out; k += 8) {
        size_t some = ch->n_out - k < 8 ? ch->n_out - k : 8;
        vec_compare(w, ch->out + k, some, sim, mark);
        for (size_t j = 0; j < some; j++)
            if ((1 - sim[j]) * ALPHA < 1 - c->sim)
                return true;
    }
    return false;
}

static void choose(const struct view *w, struct choice *ch, size_t m)
{
    ch->n_out = 0;
    for (size_t i = 0; i < ch->n && ch->n_out < m; i++)
        if (!ch->n_out || !covered(w, ch, &ch->c[i]))
            ch->out[ch->n_out++] = ch->c[i].slot & VEC_NEAR_SLOT;
}

static int nearer_first(const void *a, const void *b)
{
    const struct near *x = a, *y = b;
    return x->sim < y->sim ? 1 : x->sim > y->sim ? -1 : (x->slot > y->slot) - (x->slot < y->slot);
}

/* Readers see any mixture of old and new words: see hall.c. */
static void write_list(_Atomic uint32_t *links, size_t max, const uint32_t *slot, size_t n)
{
    for (size_t i = 0; i < n; i++)
        set(&links[i], slot[i]);
    for (size_t i = n; i < max && vec_get(&links[i]) != VEC_NONE; i++)
        set(&links[i], VEC_NONE);
}

static size_t read_list(const _Atomic uint32_t *links, size_t max, uint32_t *slot)
{
    size_t n = 0;
    while (n < max && (slot[n] = vec_get(&links[n])) != VEC_NONE)
        n++;
    return n;
}

static size_t list_max(const struct lr_vec *v, unsigned level)
{
    return level ? v->m : v->m0;
}

/* p's list from the live ones among n slots (at most VEC_MANY). */
static void choose_anew(const struct view *w, uint32_t p, unsigned level, const uint32_t *slot,
                        size_t n)
{
    struct near c[VEC_MANY];
    float sim[VEC_ROUND + 1];
    uint32_t mark[VEC_ROUND + 1];
    struct choice ch = {.c = c};
    for (size_t i = 0; i < n; i++)
        vec_fetch(w, slot[i]);
    vec_query_slot(w->v, w->r, p);
    for (size_t i = 0; i < n; i += VEC_ROUND) {
        size_t some = n - i < VEC_ROUND ? n - i : VEC_ROUND;
        vec_compare(w, slot + i, some, sim, mark);
        for (size_t k = 0; k < some; k++)
            if (!(mark[k] & VEC_DEAD))
                c[ch.n++] = (struct near){sim[k], slot[i + k]};
    }
    if (ch.n)
        qsort(c, ch.n, sizeof c[0], nearer_first);
    choose(w, &ch, list_max(w->v, level));
    write_list(vec_links_of(w, p, level), list_max(w->v, level), ch.out, ch.n_out);
}

/* ---- Linking ----------------------------------------------------------------------------------*/

static void link_back(const struct view *w, uint32_t p, uint32_t s, unsigned level)
{
    _Atomic uint32_t *links = vec_links_of(w, p, level);
    uint32_t slot[VEC_ROUND + 1];
    size_t max = list_max(w->v, level), n = read_list(links, max, slot);
    for (size_t i = 0; i < n; i++)
        if (slot[i] == s)
            return;
    if (n < max) {
        set(&links[n], s);
        return;
    }
    slot[n++] = s;
    choose_anew(w, p, level, slot, n);
}

/* Links slot to the best of the pool. */
static void link_level(const struct view *w, uint32_t slot, unsigned level)
{
    struct pool *p = &w->r->pool;
    struct near c[LR_VEC_K_MAX];
    struct choice ch = {.c = c};
    for (size_t i = 0; i < p->n && ch.n < LR_VEC_K_MAX; i++)
        if (!(p->e[i].slot & VEC_NEAR_DEAD) && (p->e[i].slot & VEC_NEAR_SLOT) != slot)
            c[ch.n++] = p->e[i];
    choose(w, &ch, w->v->m);
    write_list(vec_links_of(w, slot, level), list_max(w->v, level), ch.out, ch.n_out);
    for (size_t i = 0; i < ch.n_out; i++)
        link_back(w, ch.out[i], slot, level);
}

static bool alone(const struct view *w, uint32_t slot)
{
    return vec_get(vec_links_of(w, slot, 0)) == VEC_NONE;
}

void vec_link(struct lr_vec *v, uint32_t slot)
{
    struct view w = writers_view(v);
    struct meta *m = vec_meta(v, w.d, slot);
    if (m->level && !m->upper) {
        m->upper = v->up_used;
        v->up_used += m->level;
    }
    for (unsigned l = 0; l <= m->level; l++)
        write_list(vec_links_of(&w, slot, l), list_max(v, l), NULL, 0);
    uint64_t entry = atomic_load_explicit(&v->entry, memory_order_relaxed);
    uint64_t mine = slot | (uint64_t)m->level << 32;
    if (entry == VEC_NONE) {
        atomic_store_explicit(&v->entry, mine, memory_order_release);
        return;
    }
    unsigned top = (unsigned)(entry >> 32);
    vec_query_slot(v, w.r, slot);
    vec_walk_down(&w, entry, m->level);
    for (unsigned l = m->level < top ? m->level : top;; l--) {
        vec_query_slot(v, w.r, slot);
        vec_walk_level(&w, l, v->o.ef_build);
        link_level(&w, slot, l);
        if (l == 0)
            break;
        vec_descend(&w);
    }
    vec_unsee(w.r);
    if (alone(&w, slot)) {
        vec_query_slot(v, w.r, slot);
        vec_scan(v, w.r, v->o.ef_build, w.n);
        link_level(&w, slot, 0);
    }
    if (m->level > top)
        atomic_store_explicit(&v->entry, mine, memory_order_release);
}

/* ---- Tidying ----------------------------------------------------------------------------------*/

static bool is_dead(const struct view *w, uint32_t slot)
{
    return vec_get(vec_mark(w->v, w->d, slot)) & VEC_DEAD;
}

/* Adds s to the candidates of p unless it is p or there already. */
static void candidate(const struct view *w, uint32_t p, uint32_t s, uint32_t *to, size_t *n)
{
    if (s != p && *n < VEC_MANY && !is_dead(w, s) && vec_see(w->r, s))
        to[(*n)++] = s;
}

/* Rids a list of dead members. */
static void mend(const struct view *w, uint32_t p, unsigned level)
{
    uint32_t slot[VEC_ROUND], theirs[VEC_ROUND], to[VEC_MANY];
    size_t max = list_max(w->v, level), n = read_list(vec_links_of(w, p, level), max, slot);
    size_t dead = 0, n_to = 0;
    for (size_t i = 0; i < n; i++)
        dead += is_dead(w, slot[i]);
    if (!dead)
        return;
    for (size_t i = 0; i < n; i++)
        candidate(w, p, slot[i], to, &n_to);
    for (size_t i = 0; i < n; i++) {
        if (!is_dead(w, slot[i]))
            continue;
        size_t k = read_list(vec_links_of(w, slot[i], level), max, theirs);
        for (size_t j = 0; j < k; j++)
            candidate(w, p, theirs[j], to, &n_to);
    }
    vec_unsee(w->r);
    choose_anew(w, p, level, to, n_to);
}

static uint64_t new_entry(const struct view *w)
{
    uint64_t best = VEC_NONE;
    for (uint32_t s = 0; s < w->n; s++) {
        struct meta *m = vec_meta(w->v, w->d, s);
        if (m->state == SLOT_LIVE && (best == VEC_NONE || m->level > best >> 32))
            best = s | (uint64_t)m->level << 32;
    }
    return best;
}

/* Everything dead becomes the batch. */
static void begin_pass(struct lr_vec *v)
{
    struct view w = writers_view(v);
    uint64_t entry = atomic_load_explicit(&v->entry, memory_order_relaxed);
    for (uint32_t s = v->dead_head; s != VEC_SLOT_MASK; s = vec_meta(v, w.d, s)->next)
        vec_meta(v, w.d, s)->state = SLOT_BATCH;
    v->batch_head = v->dead_head;
    v->dead_head = VEC_SLOT_MASK;
    v->n_dead = 0;
    v->cursor = 0;
    v->passing = true;
    if (entry != VEC_NONE && is_dead(&w, (uint32_t)entry))
        atomic_store_explicit(&v->entry, new_entry(&w), memory_order_release);
}

/* A list of slots that nothing names any more joins those waiting for readers to leave. */
static void retire(struct lr_vec *v, uint32_t head)
{
    struct dir *d = vec_dir(v);
    while (head != VEC_SLOT_MASK) {
        struct meta *m = vec_meta(v, d, head);
        uint32_t next = m->next;
        m->state = SLOT_LIMBO;
        m->next = v->limbo_head & VEC_SLOT_MASK;
        v->limbo_head = head;
        head = next;
    }
    v->limbo_tag = vec_retire(v->arena->hall);
}

static void look_through(struct lr_vec *v, size_t slots)
{
    struct view w = writers_view(v);
    for (; slots && v->cursor < w.n; slots--, v->cursor++) {
        struct meta *m = vec_meta(v, w.d, v->cursor);
        if (m->state != SLOT_LIVE && m->state != SLOT_DEAD)
            continue;
        for (unsigned l = 0; l <= m->level; l++)
            mend(&w, v->cursor, l);
        if (m->state == SLOT_LIVE && alone(&w, v->cursor))
            vec_link(v, v->cursor);
    }
    if (v->cursor < w.n)
        return;
    retire(v, v->batch_head);
    v->batch_head = VEC_SLOT_MASK;
    v->passing = false;
}

static void reclaim(struct lr_vec *v)
{
    if (v->limbo_head == VEC_SLOT_MASK || !vec_passed(v->arena->hall, v->limbo_tag))
        return;
    struct dir *d = vec_dir(v);
    for (uint32_t s = v->limbo_head; s != VEC_SLOT_MASK;) {
        struct meta *m = vec_meta(v, d, s);
        uint32_t next = m->next;
        m->state = SLOT_FREE;
        m->next = v->free_head & VEC_SLOT_MASK;
        v->free_head = s;
        s = next;
    }
    v->limbo_head = VEC_SLOT_MASK;
}

/* A flat list again: what is linked so far was the writer's alone, and is forgotten. (vec_link
 * empties a slot's lists first, so nothing of it comes back.) */
static void stop_building(struct lr_vec *v)
{
    v->building = false;
    v->linked = 0;
    atomic_store_explicit(&v->entry, VEC_NONE, memory_order_relaxed);
}

void vec_tidy(struct lr_vec *v, size_t slots)
{
    reclaim(v);
    uint32_t live = atomic_load_explicit(&v->live, memory_order_relaxed);
    bool clear = v->limbo_head == VEC_SLOT_MASK; /* retiring more would put off those */
    if (v->passing) {
        look_through(v, slots);
        return;
    }
    if (v->building && v->n_dead > live)
        stop_building(v);
    if (!v->n_dead || !clear || v->building)
        return;
    if (!atomic_load_explicit(&v->graph, memory_order_relaxed)) {
        retire(v, v->dead_head);
        v->dead_head = VEC_SLOT_MASK;
        v->n_dead = 0;
        return;
    }
    if (v->n_dead > 64 && v->n_dead > live / 8)
        begin_pass(v);
}

void vec_tidy_all(struct lr_vec *v)
{
    while (v->passing)
        look_through(v, SIZE_MAX);
    if (!v->n_dead)
        return;
    begin_pass(v);
    look_through(v, SIZE_MAX);
}
