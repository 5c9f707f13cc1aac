/* SPDX-License-Identifier: Apache-2.0
 * bench/evict_bound.c - what no strategy can beat, computed with the whole stream in hand.
 *
 * belady: evict what is asked for last (Belady 1966), the newcomer included. Optimal in hits when
 * all objects have one size; used only then.
 *
 * pfoo: an upper bound, reached by nothing. Between two requests of one object lies an interval; to
 * turn the second one into a hit, the object must hold bytes * length of the cache's space and
 * time. Take intervals by saved cost per byte and step until the space and time of the whole run
 * (bytes_max * n) is spent, the last one in part. This drops the rule that the space must suffice
 * at every moment, so no real cache can save more. The relaxation is PFOO-L of Berger, Beckmann and
 * Harchol-Balter ("Practical bounds on optimal caching with variable object sizes", 2018), with
 * cost in place of the hit; they name it by the lower bound of misses. The greedy order is the
 * optimum of that fractional knapsack. hit and byte_hit are the same bound with cost 1 and cost
 * bytes.
 */
#include "evict.h"

#include <stdlib.h>

struct item {
    double per; /* pfoo: value per byte and step */
    double room, value;
};

struct use {
    size_t next; /* request number of the next use; SIZE_MAX: never */
    uint32_t id;
};

/* next[i]: the next request of the same object after i, or SIZE_MAX. */
static size_t *next_uses(const struct bench_stream *s)
{
    size_t *next = lr_calloc(s->n, sizeof *next), *seen = lr_calloc(s->n_objs, sizeof *seen);
    if (next && seen) {
        for (size_t i = s->n; i-- > 0;) {
            size_t *at = &seen[s->ids[i]];
            next[i] = *at ? *at : SIZE_MAX;
            *at = i; /* request 0 is nobody's next: 0 means none */
        }
    }
    lr_free(seen);
    if (!seen) {
        lr_free(next);
        next = NULL;
    }
    return next;
}

static void heap_push(struct use *h, size_t *n, struct use u)
{
    size_t i = (*n)++;
    for (; i && h[(i - 1) / 2].next < u.next; i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = u;
}

static struct use heap_pop(struct use *h, size_t *n)
{
    struct use top = h[0], last = h[--*n];
    size_t i = 0;
    for (size_t c = 1; c < *n; c = 2 * i + 1) {
        if (c + 1 < *n && h[c + 1].next > h[c].next)
            c++;
        if (h[c].next <= last.next)
            break;
        h[i] = h[c];
        i = c;
    }
    h[i] = last;
    return top;
}

int bench_belady(const struct bench_stream *s, uint64_t bytes_max, struct bench_rates *out)
{
    size_t *next = next_uses(s), *due = lr_calloc(s->n_objs, sizeof *due);
    struct use *heap = lr_calloc(s->n, sizeof *heap); /* stale entries stay until popped */
    int rc = next && due && heap ? 0 : LR_ENOMEM;
    size_t held = 0, hits = 0, n_heap = 0;
    size_t room = s->n_objs ? (size_t)(bytes_max / s->objs[0].bytes) : 0;
    for (size_t i = 0; !rc && i < s->n; i++) {
        uint32_t id = s->ids[i];
        bool hit = due[id] != 0; /* due: next use of a held object; 0 = not held */
        hits += hit;
        held += !hit;
        due[id] = next[i];
        heap_push(heap, &n_heap, (struct use){next[i], id});
        while (held > room) {
            struct use u = heap_pop(heap, &n_heap);
            if (due[u.id] != u.next)
                continue;
            due[u.id] = 0;
            held--;
        }
    }
    if (!rc) {
        double rate = (double)hits / (double)s->n;
        *out = (struct bench_rates){rate, rate, rate};
    }
    lr_free(heap);
    lr_free(due);
    lr_free(next);
    return rc;
}

static int by_value(const void *a, const void *b)
{
    double x = ((const struct item *)a)->per, y = ((const struct item *)b)->per;
    return (x < y) - (x > y);
}

/* The share of all value that fits into `room`; sorts items. */
static double fill(struct item *items, size_t n, double room, double all)
{
    double got = 0;
    for (size_t i = 0; i < n; i++)
        items[i].per = items[i].value / items[i].room;
    qsort(items, n, sizeof *items, by_value);
    for (size_t i = 0; i < n && room > 0; i++) {
        double part = items[i].room <= room ? 1 : room / items[i].room;
        got += items[i].value * part;
        room -= items[i].room;
    }
    return all > 0 ? got / all : 0;
}

static double value_of(struct bench_obj o, int what)
{
    return what == 0 ? 1 : what == 1 ? (double)o.bytes : (double)o.cost;
}

int bench_pfoo(const struct bench_stream *s, uint64_t bytes_max, struct bench_rates *out)
{
    size_t *next = next_uses(s);
    struct item *items = lr_calloc(s->n, sizeof *items);
    int rc = next && items ? 0 : LR_ENOMEM;
    double rate[3] = {0};
    for (int what = 0; !rc && what < 3; what++) {
        size_t n = 0;
        double all = 0;
        for (size_t i = 0; i < s->n; i++) {
            struct bench_obj o = s->objs[s->ids[i]];
            all += value_of(o, what);
            if (next[i] != SIZE_MAX)
                items[n++] = (struct item){.room = (double)o.bytes * (double)(next[i] - i),
                                           .value = value_of(o, what)};
        }
        rate[what] = fill(items, n, (double)bytes_max * (double)s->n, all);
    }
    lr_free(items);
    lr_free(next);
    if (!rc)
        *out = (struct bench_rates){rate[0], rate[1], rate[2]};
    return rc;
}
