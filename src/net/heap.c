/* SPDX-License-Identifier: Apache-2.0
 * net/heap.c - deadlines of transfers: a binary min-heap by due_ns.
 *
 * Every transfer has at most one entry, the earlier of its deadlines; heap_at tells where, so that
 * one that ends early (nearly all do) leaves in O(log n). A wheel was not worth it: with 4096
 * transfers a put and a drop move at most 12 pointers each, less than one system call.
 * Invariant: v[i]->heap_at == i, v[(i-1)/2]->due_ns <= v[i]->due_ns.
 */
#include "net/net_int.h"

#include <assert.h>

static void set(struct lr_net_heap *h, size_t at, struct lr_net_xfer *x)
{
    h->v[at] = x;
    x->heap_at = at;
}

static void sift_up(struct lr_net_heap *h, size_t at, struct lr_net_xfer *x)
{
    while (at && h->v[(at - 1) / 2]->due_ns > x->due_ns) {
        set(h, at, h->v[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    set(h, at, x);
}

static void sift_down(struct lr_net_heap *h, size_t at, struct lr_net_xfer *x)
{
    for (;;) {
        size_t kid = 2 * at + 1;
        if (kid + 1 < h->n && h->v[kid + 1]->due_ns < h->v[kid]->due_ns)
            kid++;
        if (kid >= h->n || h->v[kid]->due_ns >= x->due_ns)
            break;
        set(h, at, h->v[kid]);
        at = kid;
    }
    set(h, at, x);
}

void lr_net_heap_put(struct lr_net_heap *h, struct lr_net_xfer *x)
{
    assert(x->heap_at == SIZE_MAX);
    h->n++;
    sift_up(h, h->n - 1, x);
}

void lr_net_heap_drop(struct lr_net_heap *h, struct lr_net_xfer *x)
{
    size_t at = x->heap_at;
    if (at == SIZE_MAX)
        return;
    assert(at < h->n && h->v[at] == x);
    struct lr_net_xfer *last = h->v[--h->n];
    x->heap_at = SIZE_MAX;
    if (last == x)
        return;
    if (at && h->v[(at - 1) / 2]->due_ns > last->due_ns)
        sift_up(h, at, last);
    else
        sift_down(h, at, last);
}
