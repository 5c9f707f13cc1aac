/* SPDX-License-Identifier: Apache-2.0
 * evict/evict_int.h - what the strategies share: the head of their state, a queue, a ghost table.
 * For evict/ and its tests only.
 */
#ifndef LR_EVICT_EVICT_INT_H
#define LR_EVICT_EVICT_INT_H

#include "evict/evict.h"

/* First member of every strategy's state. */
struct lr_evict {
    uint64_t bytes_max; /* the owner's budget; nothing here enforces it */
    uint64_t bytes;     /* of the nodes held now */
    uint64_t n;         /* nodes held now */
};

extern const struct lr_evict_ops lr_evict_lru, lr_evict_s3fifo, lr_evict_cost;

static inline void lr_evict_account(struct lr_evict *e, const struct lr_evict_node *n)
{
    e->bytes += n->bytes;
    e->n++;
}
static inline void lr_evict_unaccount(struct lr_evict *e, const struct lr_evict_node *n)
{
    e->bytes -= n->bytes;
    e->n--;
}
static inline void lr_evict_count_hit(struct lr_evict_node *n)
{
    n->hits += n->hits < UINT32_MAX;
}

/* A queue threaded through the nodes: newest at the head, oldest at the tail. */
struct lr_evict_queue {
    struct lr_evict_node *head, *tail;
    uint64_t bytes;
};

static inline void lr_evict_queue_push(struct lr_evict_queue *q, struct lr_evict_node *n)
{
    n->prev = NULL;
    n->next = q->head;
    *(q->head ? &q->head->prev : &q->tail) = n;
    q->head = n;
    q->bytes += n->bytes;
}
static inline void lr_evict_queue_cut(struct lr_evict_queue *q, struct lr_evict_node *n)
{
    *(n->prev ? &n->prev->next : &q->head) = n->next;
    *(n->next ? &n->next->prev : &q->tail) = n->prev;
    n->prev = n->next = NULL;
    q->bytes -= n->bytes;
}

/* Remembers the keys of entries that left, oldest forgotten first, until their sizes sum to more
 * than bytes_max or there are LR_GHOST_MAX of them. All-zero is an empty ghost that remembers
 * nothing; memory comes with the first key, and when none is to be had the oldest keys go instead.
 * */
#define LR_GHOST_MAX (1u << 20) /* keys: 24 MiB of table at most */
struct lr_ghost {
    struct lr_ghost_slot *ring; /* cap slots; the oldest at `first`, `used` of them in use */
    uint32_t *index;            /* 2 * cap cells: ring position + 1, 0 = free */
    uint32_t cap;               /* 0 or a power of two */
    uint32_t first, used;
    uint64_t bytes, bytes_max;
};

void lr_ghost_free(struct lr_ghost *g);
void lr_ghost_resize(struct lr_ghost *g, uint64_t bytes_max);
/* Remembers key with a note; a key already there is renewed. bytes > 0. */
void lr_ghost_add(struct lr_ghost *g, uint64_t key, uint32_t bytes, uint32_t note);
/* Forgets key and returns true, or returns false when it is not there (*note untouched). */
bool lr_ghost_take(struct lr_ghost *g, uint64_t key, uint32_t *note);

#endif
