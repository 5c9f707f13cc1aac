/* SPDX-License-Identifier: Apache-2.0
 * dialect/merge.c - the pieces of a streamed JSON value put together again.
 *
 * Members that this program does not know arrive in streams as pieces in every delta, and a whole
 * body needs one value. The rule is the one the public clients apply when they accumulate deltas:
 * objects are merged member by member, arrays are put end to end, strings are put end to end
 * (unless all pieces are the same: then it was a state, repeated), null gives way, and of
 * everything else the last one counts. Deviation: numbers are not added up (the clients do, and get
 * wrong indexes).
 *
 * Members keep the order in which their names were first seen. All members of all pieces are sorted
 * by name once a level, so that a million pieces cost n log n.
 */
#include "dialect/dialect_int.h"

#include <stdlib.h>

#define DEPTH_MAX                                                                                  \
    48 /* the JSON writer nests 64 deep; deeper values are not merged, the last counts */

struct lr_merge_piece {
    const struct lr_json *v;
    struct lr_merge_piece *next;
};

struct named {
    const struct lr_json *v;
    size_t order;       /* of all members of all pieces */
    size_t first, last; /* groups: range in the sorted array */
};

void lr_merge_open(struct lr_merge *m, size_t bytes)
{
    *m = (struct lr_merge){0};
    lr_arena_init(&m->a, lr_tree_max(bytes));
}

void lr_merge_close(struct lr_merge *m)
{
    lr_arena_free(&m->a);
}

int lr_merge_add(struct lr_merge *m, struct lr_str raw)
{
    struct lr_json *v;
    int rc = lr_json_parse(&m->a, raw, NULL, &v, NULL);
    LR_FAIL_IF(rc, rc == LR_ENOMEM ? rc : LR_ECORRUPT);
    struct lr_merge_piece *p = lr_arena_new(&m->a, struct lr_merge_piece);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->v = v;
    if (m->last)
        m->last->next = p;
    else
        m->first = p;
    m->last = p;
    m->n++;
    return 0;
}

static int put(struct lr_arena *a, struct lr_jw *w, const struct lr_json **v, size_t n,
               unsigned depth);

static int by_name(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    int c = lr_str_cmp(a->v->key, b->v->key);
    return c ? c : (a->order > b->order) - (a->order < b->order);
}

static int by_order(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    return (a->order > b->order) - (a->order < b->order);
}

/* All members of the objects v[0, n), sorted by name. */
static struct named *members(struct lr_arena *a, const struct lr_json **v, size_t n, size_t *count)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += v[i]->n;
    struct named *all = lr_arena_array(a, struct named, total + 1);
    if (!all)
        return NULL;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        for (const struct lr_json *m = v[i]->child; m; m = m->next, k++)
            all[k] = (struct named){.v = m, .order = k};
    if (k)
        qsort(all, k, sizeof *all, by_name);
    *count = k;
    return all;
}

static int put_objects(struct lr_arena *a, struct lr_jw *w, const struct lr_json **v, size_t n,
                       unsigned depth)
{
    size_t total, groups = 0;
    struct named *all = members(a, v, n, &total);
    struct named *g = all ? lr_arena_array(a, struct named, total + 1) : NULL;
    const struct lr_json **same = g ? lr_arena_array(a, const struct lr_json *, total + 1) : NULL;
    LR_FAIL_IF(!same, LR_ENOMEM);
    for (size_t i = 0; i < total; i = g[groups++].last) {
        g[groups] = all[i];
        g[groups].first = i;
        size_t to = i + 1;
        while (to < total && lr_str_eq(all[to].v->key, all[i].v->key))
            to++;
        g[groups].last = to;
    }
    if (groups)
        qsort(g, groups, sizeof *g, by_order);
    for (size_t i = 0; i < total; i++)
        same[i] = all[i].v;
    lr_jw_obj(w);
    for (size_t i = 0; i < groups; i++) {
        lr_jw_key_str(w, g[i].v->key);
        LR_TRY(put(a, w, same + g[i].first, g[i].last - g[i].first, depth + 1));
    }
    lr_jw_end(w);
    return 0;
}

static void put_arrays(struct lr_jw *w, const struct lr_json **v, size_t n)
{
    lr_jw_arr(w);
    for (size_t i = 0; i < n; i++)
        for (const struct lr_json *m = v[i]->child; m; m = m->next)
            lr_jw_raw(w, m->raw);
    lr_jw_end(w);
}

static int put_strings(struct lr_arena *a, struct lr_jw *w, const struct lr_json **v, size_t n)
{
    size_t total = 0;
    bool same = true;
    for (size_t i = 0; i < n; i++) {
        total += v[i]->text.n;
        same = same && lr_str_eq(v[i]->text, v[0]->text);
    }
    if (same) {
        lr_jw_raw(w, v[0]->raw);
        return 0;
    }
    char *p = lr_arena_alloc(a, total + 1, 1);
    LR_FAIL_IF(!p, LR_ENOMEM);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i]->text.n)
            memcpy(p + at, v[i]->text.p, v[i]->text.n);
        at += v[i]->text.n;
    }
    lr_jw_str(w, lr_str(p, total));
    return 0;
}

/* v[0, n), n > 0, is used up: it is reordered. */
static int put(struct lr_arena *a, struct lr_jw *w, const struct lr_json **v, size_t n,
               unsigned depth)
{
    const struct lr_json *last = v[n - 1];
    size_t k = 0;
    bool alike = true;
    for (size_t i = 0; i < n; i++)
        if (v[i]->type != LR_JSON_NULL)
            v[k++] = v[i];
    for (size_t i = 1; i < k; i++)
        alike = alike && v[i]->type == v[0]->type;
    if (k)
        last = v[k - 1];
    if (k > 1 && alike && depth < DEPTH_MAX) {
        if (last->type == LR_JSON_OBJECT)
            return put_objects(a, w, v, k, depth);
        if (last->type == LR_JSON_STRING)
            return put_strings(a, w, v, k);
        if (last->type == LR_JSON_ARRAY) {
            put_arrays(w, v, k);
            return 0;
        }
    }
    lr_jw_raw(w, last->raw);
    return 0;
}

int lr_merge_write(struct lr_merge *m, struct lr_buf *out)
{
    const struct lr_json **v = lr_arena_array(&m->a, const struct lr_json *, m->n + 1);
    LR_FAIL_IF(!v, LR_ENOMEM);
    LR_FAIL_IF(!m->n, LR_EINVAL);
    size_t n = 0;
    for (const struct lr_merge_piece *p = m->first; p; p = p->next)
        v[n++] = p->v;
    struct lr_jw w;
    lr_jw_init(&w, out);
    LR_TRY(put(&m->a, &w, v, n, 0));
    return out->rc;
}
