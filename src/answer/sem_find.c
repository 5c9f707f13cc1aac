/* SPDX-License-Identifier: Apache-2.0
 * answer/sem_find.c - candidates for a question, and the entry a conversation stands on.
 *
 * The context chain. Each entry of a follow-up lies below its parent: the entry whose answer the
 * conversation went on from. So two follow-ups can meet only when all turns before them met, at any
 * depth, and what "met" means for one turn is decided once, when that turn was asked. A turn is
 * recognised by its id (the exact request, or one that was served this entry's answer), else by
 * asking the shelf what a question like it would have found. What the assistant said must be the
 * parent's answer: "explain the second one" is another question when the list was another one.
 *
 * (MeanCache, 2403.02694, compares the turn before only, and lets a follow-up match an entry
 * without any: both are closed here.)
 */
#include "answer/sem_int.h"

#include <stdlib.h>

static const struct lr_digest none;

struct near {
    uint64_t id;
    float sim;
};

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Of a young partition, under mu: the k nearest, best first. */
static size_t nearest_young(const struct sem_part *p, const float *q, size_t dim, float floor,
                            size_t k, struct near out[LR_SEM_FOUND_MAX])
{
    size_t n = 0;
    for (const struct sem_entry *e = p->first; e; e = e->next) {
        struct near x = {sem_id(&e->key), dot(e->vector, q, dim)};
        size_t i = n;
        if (!(x.sim >= floor) || (n == k && x.sim <= out[n - 1].sim))
            continue;
        n += n < k;
        for (i = n - 1; i && out[i - 1].sim < x.sim; i--)
            out[i] = out[i - 1];
        out[i] = x;
    }
    return n;
}

/* The nearest of a partition, found without holding mu longer than needed. */
static int nearest(struct lr_sem *s, struct lr_sem_reader *r, const struct lr_digest *part_id,
                   const float *q, float floor, size_t k, struct near out[LR_SEM_FOUND_MAX],
                   size_t *n)
{
    struct lr_vec_hit hits[LR_SEM_FOUND_MAX];
    struct lr_vec_found found = {0};
    *n = 0;
    pthread_mutex_lock(&s->mu);
    struct sem_part *p = sem_part_locked(s, part_id);
    const struct lr_vec *v = p ? p->vec : NULL;
    if (p && !v)
        *n = nearest_young(p, q, s->opts.dim, floor, k, out);
    if (v)
        lr_vec_enter(r->vec); /* before mu goes: from here on v stays */
    pthread_mutex_unlock(&s->mu);
    if (!v)
        return 0;
    int rc =
        lr_vec_search(v, r->vec, q, &(struct lr_vec_ask){.k = k, .floor = floor}, hits, &found);
    lr_vec_leave(r->vec);
    LR_TRY(rc);
    for (size_t i = 0; i < found.n; i++)
        out[i] = (struct near){hits[i].id, hits[i].sim};
    *n = found.n;
    return 0;
}

static const char *refusal(const struct lr_sem *s, const struct lr_sem_ask *ask,
                           const struct sem_entry *e, const struct lr_sem_question *q, float shared)
{
    const char *gate = lr_gate(&e->facts, q->facts);
    if (gate)
        return gate;
    if (shared < ask->shared_floor)
        return "sketch";
    if (e->writer != ask->writer && e->agreed < s->opts.probation)
        return "probation";
    return NULL;
}

static int copy_out(const struct sem_entry *e, struct lr_arena *a, struct lr_sem_found *f)
{
    f->key = e->key;
    f->seen = e->seen;
    f->said = e->said;
    f->writer = e->writer;
    f->created_ms = e->created_ms;
    f->category = e->category;
    LR_TRY(lr_arena_copy(a, e->text, &f->text));
    return lr_arena_copy(a, e->before, &f->before);
}

static int by_promise(const void *a, const void *b)
{
    const struct lr_sem_found *x = a, *y = b;
    if (!x->gate != !y->gate)
        return x->gate ? 1 : -1;
    return (x->sim < y->sim) - (x->sim > y->sim);
}

int lr_sem_find(struct lr_sem *s, struct lr_sem_reader *r, const struct lr_sem_ask *ask,
                const struct lr_sem_question *q, struct lr_arena *a,
                struct lr_sem_found found[LR_SEM_FOUND_MAX], size_t *n)
{
    struct near near[LR_SEM_FOUND_MAX];
    struct lr_digest id;
    size_t k = ask->k < LR_SEM_FOUND_MAX ? ask->k : LR_SEM_FOUND_MAX, n_near, kept = 0;
    int rc = 0;
    *n = 0;
    sem_part_id(&ask->partition, &ask->parent, ask->tenant, &id);
    if (!k)
        return 0;
    LR_TRY(nearest(s, r, &id, q->vector, ask->floor, k, near, &n_near));
    pthread_mutex_lock(&s->mu);
    for (size_t i = 0; i < n_near && !rc; i++) {
        const struct sem_entry *e = sem_map_find(&s->keys, near[i].id);
        if (!e || !lr_digest_eq(&e->part->id, &id)) /* left meanwhile */
            continue;
        struct lr_sem_found *f = &found[kept];
        *f = (struct lr_sem_found){.sim = near[i].sim,
                                   .shared = lr_sketch_same(&e->sketch, q->sketch)};
        f->gate = refusal(s, ask, e, q, f->shared);
        rc = copy_out(e, a, f);
        kept++;
    }
    pthread_mutex_unlock(&s->mu);
    LR_TRY(rc);
    qsort(found, kept, sizeof *found, by_promise);
    *n = kept;
    return 0;
}

/* ---- the context chain ---- */

static bool same_said(const struct lr_digest *said, const struct lr_meaning_turn *t, bool strict)
{
    bool unknown = lr_digest_eq(said, &none) || lr_digest_eq(&t->said, &none);
    return unknown ? !strict : lr_digest_eq(said, &t->said);
}

/* The latest turn that is known by its id; the number of turns it settles, 0: none. */
static size_t known(struct lr_sem *s, const struct lr_sem_ask *ask, const struct lr_meaning *m,
                    bool strict, struct lr_digest *parent)
{
    size_t i = m->n_turns - 1;
    pthread_mutex_lock(&s->mu);
    for (; i > 0; i--) {
        const struct lr_meaning_turn *t = &m->turn[i - 1];
        const struct sem_alias *a = sem_map_find(&s->turns, sem_id(&t->id));
        if (!a || !lr_digest_eq(&a->turn, &t->id) || a->entry->part->tenant->id != ask->tenant ||
            !same_said(&a->entry->said, t, strict))
            continue;
        *parent = a->entry->key;
        break;
    }
    pthread_mutex_unlock(&s->mu);
    return i;
}

int lr_sem_context(struct lr_sem *s, struct lr_sem_reader *r, const struct lr_sem_ask *ask,
                   const struct lr_meaning *m, bool strict, lr_sem_prepare prepare, void *ctx,
                   struct lr_digest *parent)
{
    struct lr_arena a;
    struct lr_digest at = none;
    int rc = 0;
    lr_arena_init(&a, LR_MIB(1));
    for (size_t i = known(s, ask, m, strict, &at); i + 1 < m->n_turns && !rc; i++) {
        struct lr_sem_question q;
        struct lr_sem_found found[LR_SEM_FOUND_MAX];
        struct lr_sem_ask here = *ask;
        size_t n, k = 0;
        here.parent = at;
        rc = prepare(ctx, m->turn[i].text, &q);
        if (!rc)
            rc = lr_sem_find(s, r, &here, &q, &a, found, &n);
        if (rc)
            break;
        while (k < n && (found[k].gate || !same_said(&found[k].said, &m->turn[i], strict)))
            k++;
        if (k == n)
            rc = LR_ENOENT;
        else
            at = found[k].key;
        lr_arena_reset(&a);
    }
    lr_arena_free(&a);
    LR_TRY(rc);
    *parent = at;
    return 0;
}

/* ---- one call corrects it ---- */

int sem_vector(struct lr_sem *s, const struct lr_digest *key, float *x, struct lr_digest *part_id)
{
    pthread_mutex_lock(&s->mu);
    struct sem_entry *e = sem_entry_locked(s, key);
    struct sem_tenant *t = e ? e->part->tenant : NULL;
    pthread_mutex_unlock(&s->mu);
    LR_FAIL_IF(!t, LR_ENOENT);
    int rc = LR_ENOENT;
    pthread_mutex_lock(&t->wmu); /* reading a vector out of an index is a writer's call */
    pthread_mutex_lock(&s->mu);
    e = sem_entry_locked(s, key);
    if (e && e->part->tenant == t) {
        *part_id = e->part->id;
        rc = 0;
        if (e->vector)
            memcpy(x, e->vector, s->opts.dim * sizeof *x);
        else
            rc = lr_vec_get(e->part->vec, sem_id(key), x);
    }
    pthread_mutex_unlock(&s->mu);
    pthread_mutex_unlock(&t->wmu);
    return rc;
}

int lr_sem_bad(struct lr_sem *s, struct lr_sem_reader *r, const struct lr_digest *key,
               float near_sim, size_t *n)
{
    /* What a neighbour's label says: it would have been served with confidence, and wrongly. */
    const float confident = 0.97f;
    struct near near[LR_SEM_FOUND_MAX];
    struct lr_digest part_id;
    size_t k = 0;
    *n = 0;
    float *x = lr_calloc(s->opts.dim, sizeof *x);
    LR_FAIL_IF(!x, LR_ENOMEM);
    int rc = sem_vector(s, key, x, &part_id);
    if (!rc)
        rc = nearest(s, r, &part_id, x, near_sim, LR_SEM_FOUND_MAX, near, &k);
    lr_free(x);
    LR_TRY(rc);
    pthread_mutex_lock(&s->mu);
    for (size_t i = 0; i < k; i++) {
        struct sem_entry *e = sem_map_find(&s->keys, near[i].id);
        if (!e || lr_digest_eq(&e->key, key) || !lr_digest_eq(&e->part->id, &part_id))
            continue;
        lr_bound_see(&e->seen, confident, false);
        ++*n;
    }
    pthread_mutex_unlock(&s->mu);
    return lr_sem_del(s, key);
}
