/* SPDX-License-Identifier: Apache-2.0
 * evict/lru.c - least recently used: one queue, a hit moves the entry to its head, the tail goes.
 *
 * The baseline, and the right choice when recency is all there is to know: no table, no parameter,
 * 24 bytes of state, O(1) everywhere. It forgets everything in one scan as long as the cache, knows
 * nothing of size or cost, and writes two neighbours at each hit (s3fifo.c does not).
 *
 * Invariant: the queue holds exactly the nodes inserted and not removed, by time of last event.
 */
#include "evict/evict_int.h"

struct lru {
    struct lr_evict head;
    struct lr_evict_queue q;
};

static struct lru *self(struct lr_evict *e)
{
    return LR_CONTAINER(e, struct lru, head);
}

static int open_lru(struct lr_evict **out, uint64_t bytes_max)
{
    struct lru *l = lr_new(struct lru);
    LR_FAIL_IF(!l, LR_ENOMEM);
    l->head.bytes_max = bytes_max;
    *out = &l->head;
    return 0;
}

static void close_lru(struct lr_evict *e)
{
    if (e)
        lr_free(self(e));
}

static void insert(struct lr_evict *e, struct lr_evict_node *n)
{
    lr_evict_account(e, n);
    lr_evict_queue_push(&self(e)->q, n);
}

static void hit(struct lr_evict *e, struct lr_evict_node *n)
{
    struct lr_evict_queue *q = &self(e)->q;
    lr_evict_count_hit(n);
    if (q->head == n)
        return;
    lr_evict_queue_cut(q, n);
    lr_evict_queue_push(q, n);
}

static void remove_node(struct lr_evict *e, struct lr_evict_node *n)
{
    lr_evict_queue_cut(&self(e)->q, n);
    lr_evict_unaccount(e, n);
}

static struct lr_evict_node *victim(struct lr_evict *e, bool evicting)
{
    (void)evicting; /* nothing is remembered of those that leave */
    return self(e)->q.tail;
}

static void resize(struct lr_evict *e, uint64_t bytes_max)
{
    e->bytes_max = bytes_max;
}

const struct lr_evict_ops lr_evict_lru = {
    .name = "lru",
    .what = "least recently used goes first",
    .open = open_lru,
    .close = close_lru,
    .insert = insert,
    .hit = hit,
    .remove = remove_node,
    .victim = victim,
    .resize = resize,
};
