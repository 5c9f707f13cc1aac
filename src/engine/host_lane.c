/* SPDX-License-Identifier: Apache-2.0
 * engine/host_lane.c - floats beside rows: columns of policies and sums of attention.
 *
 *   table     row 0 | row 1 | row 2 | row 3 | row 4          n = 5
 *   lane       .3      0       .1                            n = 3: rows 3, 4 have 0, and no memory yet
 *
 * A lane follows its table through every edit, so that a policy's scores stay with their rows without a
 * line of its own: keep compacts it with the same indices, cut shortens it, insert makes room, permute
 * turns it. It is extended only when somebody looks, which is the only time it can fail; edits that
 * shorten never do.
 */
#include "engine/host_int.h"

static int extend(struct lane *l, uint32_t cap)
{
    if (cap <= l->cap)
        return 0;
    cap = cap + cap / 4 + 32;
    float *v = lr_realloc(l->v, cap * sizeof *v);
    LR_FAIL_IF(!v, LR_ENOMEM);
    l->v = v;
    l->cap = cap;
    return 0;
}

float *lr_engine_lane(struct lane *l, uint32_t rows)
{
    if (extend(l, rows ? rows : 1))
        return NULL;
    if (rows > l->n)
        memset(l->v + l->n, 0, (rows - l->n) * sizeof *l->v);
    l->n = rows;
    return l->v;
}

int lr_engine_lane_copy(struct lane *to, const struct lane *from)
{
    LR_TRY(extend(to, from->n));
    if (from->n)
        memcpy(to->v, from->v, from->n * sizeof *to->v);
    to->n = from->n;
    return 0;
}

void lr_engine_lane_free(struct lane *l)
{
    lr_free(l->v);
    *l = (struct lane){.v = NULL};
}

/* ---- all lanes of a table ---- */

struct walk {
    const struct lr_engine_host *h;
    uint32_t table, set, part, lane; /* set 0: sums; 1: the active one; then watchers */
};

static struct lane *next_column(struct walk *w)
{
    const struct lr_engine_host *h = w->h;
    for (; w->set <= h->n_watcher + 1; w->set++, w->part = 0) {
        struct host_set *set = w->set == 1 ? h->active : h->watcher[w->set - 2];
        for (; set && w->part < set->stack.n_part; w->part++, w->lane = 0) {
            uint32_t columns = set->part[w->part].part->policy->columns;
            if (w->lane < columns)
                return &set->part[w->part].columns[(size_t)w->table * columns + w->lane++];
        }
    }
    return NULL;
}

static struct lane *next_lane(struct walk *w)
{
    const struct lr_engine_shape *m = &w->h->s->e->m->shape;
    uint32_t group = m->n_head / m->n_kv;
    if (w->set == 0 && w->h->sums && w->lane < group) /* heads of a group lie side by side */
        return &w->h->sums[(size_t)w->table * group + w->lane++];
    if (w->set == 0) {
        w->set = 1;
        w->lane = 0;
    }
    return next_column(w);
}

static struct walk walk_of(const struct lr_engine_seq *s, const struct table *t)
{
    return (struct walk){.h = s->host, .table = (uint32_t)(t - s->tables)};
}

void lr_engine_lanes_trim(struct lr_engine_host *h)
{
    for (uint32_t t = 0; t < host_tables(h->s); t++) {
        struct walk w = {.h = h, .table = t};
        for (struct lane *l; (l = next_lane(&w));) {
            uint32_t cap = l->n + l->n / 4 + 32;
            float *v = cap < l->cap ? lr_realloc(l->v, cap * sizeof *v) : NULL;
            if (v) { /* else it stays as large as it is */
                l->v = v;
                l->cap = cap;
            }
        }
    }
}

void lr_engine_lanes_keep(struct lr_engine_seq *s, const struct table *t, const uint32_t *idx,
                          uint32_t n)
{
    if (!s->host)
        return;
    struct walk w = walk_of(s, t);
    for (struct lane *l; (l = next_lane(&w));) {
        uint32_t k = 0;
        for (; k < n && idx[k] < l->n; k++)
            l->v[k] = l->v[idx[k]];
        l->n = k;
    }
}

void lr_engine_lanes_cut(struct lr_engine_seq *s, const struct table *t, uint32_t n)
{
    if (!s->host)
        return;
    struct walk w = walk_of(s, t);
    for (struct lane *l; (l = next_lane(&w));)
        l->n = MIN_OF(l->n, n);
}

int lr_engine_lanes_insert(struct lr_engine_seq *s, const struct table *t, uint32_t at)
{
    if (!s->host)
        return 0;
    struct walk w = walk_of(s, t);
    for (struct lane *l; (l = next_lane(&w));)
        LR_TRY(extend(l, l->n + 1));
    w = walk_of(s, t);
    for (struct lane *l; (l = next_lane(&w));)
        if (at < l->n) {
            memmove(l->v + at + 1, l->v + at, (l->n - at) * sizeof *l->v);
            l->v[at] = 0;
            l->n++;
        }
    return 0;
}

int lr_engine_lanes_permute(struct lr_engine_seq *s, const struct table *t, const uint32_t *order,
                            float *scratch)
{
    if (!s->host)
        return 0;
    struct walk w = walk_of(s, t);
    for (struct lane *l; (l = next_lane(&w));)
        LR_FAIL_IF(!lr_engine_lane(l, t->n), LR_ENOMEM);
    w = walk_of(s, t);
    for (struct lane *l; (l = next_lane(&w));) {
        for (uint32_t i = 0; i < t->n; i++)
            scratch[i] = l->v[order[i]];
        memcpy(l->v, scratch, t->n * sizeof *l->v);
    }
    return 0;
}
