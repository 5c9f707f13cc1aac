/* SPDX-License-Identifier: Apache-2.0
 * engine/sched_queue.c - whose turn it is: tenants share the machine by tokens, jobs of one tenant come
 * in order.
 *
 *   tenant A  served 9,000   job - job - job
 *   tenant B  served 7,200   job                   <- next: the least served of those that wait
 *   tenant C  served 8,100   (nothing waits)
 *
 * Each tenant has a counter of the tokens it was served: one for a token of a prompt that was computed,
 * TWO for a token made, which costs about that much more (its step reads all weights for few tokens).
 * The waiting tenant with the least goes next. Who comes back after having had nothing to do is lifted to
 * the least of those who were busy meanwhile: time off is not saved up. This is the virtual token counter
 * of Sheng et al. (Fairness in Serving Large Language Models, OSDI 2024), with their weights; their
 * bound on how far two busy tenants can drift apart holds up to one job, since replies under way are not
 * put aside for the sake of fairness alone.
 *
 * Tenants are seats of a table: as many as can be active, and IDLE more, whose counters are remembered, so
 * that leaving for a moment does not wipe the slate. A new one takes the idle seat with the least served,
 * which loses least by it.
 *
 * Pure: no clock, no thread, no memory but the table.
 */
#include "engine/sched_int.h"

#define IDLE 64u

int lr_engine_fair_open(struct fair *f, size_t active_max)
{
    f->n = active_max + IDLE;
    f->v = lr_calloc(f->n, sizeof *f->v);
    return f->v ? 0 : LR_ENOMEM;
}

void lr_engine_fair_close(struct fair *f)
{
    lr_free(f->v);
    *f = (struct fair){0};
}

static bool active(const struct tenant *t)
{
    return t->used && (t->first || t->running);
}

static struct tenant *find(const struct fair *f, uint64_t id)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].used && f->v[i].id == id)
            return &f->v[i];
    return NULL;
}

/* A seat for a new tenant: an empty one, else the idle one that was served least. There is one, because
 * fewer tenants are active than there are seats. */
static struct tenant *seat(const struct fair *f)
{
    struct tenant *best = NULL;
    for (size_t i = 0; i < f->n; i++) {
        struct tenant *t = &f->v[i];
        if (!t->used)
            return t;
        if (!active(t) && (!best || t->served < best->served))
            best = t;
    }
    assert(best);
    return best;
}

/* The least served of the active ones; 0 when all are idle. */
static uint64_t floor_of(const struct fair *f)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < f->n; i++)
        if (active(&f->v[i]) && f->v[i].served < least)
            least = f->v[i].served;
    return least == UINT64_MAX ? 0 : least;
}

void lr_engine_fair_add(struct fair *f, struct lr_engine_job *j)
{
    struct tenant *t = find(f, j->ask.tenant);
    uint64_t least = floor_of(f);
    if (!t) {
        t = seat(f);
        *t = (struct tenant){.id = j->ask.tenant, .used = true};
    }
    if (!active(t) && t->served < least)
        t->served = least;
    j->next = NULL;
    if (t->last)
        t->last->next = j;
    else
        t->first = j;
    t->last = j;
}

struct lr_engine_job *lr_engine_fair_next(const struct fair *f)
{
    const struct tenant *best = NULL;
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].used && f->v[i].first && (!best || f->v[i].served < best->served))
            best = &f->v[i];
    return best ? best->first : NULL;
}

struct lr_engine_job *lr_engine_fair_any(const struct fair *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].first)
            return f->v[i].first;
    return NULL;
}

void lr_engine_fair_remove(struct fair *f, struct lr_engine_job *j)
{
    struct tenant *t = find(f, j->ask.tenant);
    struct lr_engine_job *before = NULL;
    for (struct lr_engine_job *i = t->first; i != j; i = i->next)
        before = i;
    if (before)
        before->next = j->next;
    else
        t->first = j->next;
    if (t->last == j)
        t->last = before;
    j->next = NULL;
}

void lr_engine_fair_take(struct fair *f, struct lr_engine_job *j)
{
    lr_engine_fair_remove(f, j);
    find(f, j->ask.tenant)->running++;
}

void lr_engine_fair_end(struct fair *f, uint64_t id)
{
    find(f, id)->running--;
}

void lr_engine_fair_charge(struct fair *f, uint64_t id, uint64_t tokens)
{
    find(f, id)->served += tokens;
}

uint64_t lr_engine_fair_served(const struct fair *f, uint64_t id)
{
    return find(f, id)->served;
}
