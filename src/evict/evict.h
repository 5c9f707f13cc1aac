/* SPDX-License-Identifier: Apache-2.0
 * evict/evict.h - which entries leave when bytes run out: strategies behind one small interface.
 *
 * Pure: no clock, no lock, no I/O. The owner (answer/, store/, sim/) embeds a node in each entry,
 * tells the strategy what happens, and asks for a victim; it never learns why. A strategy owns only
 * its lists; it touches nodes from insert until remove.
 *
 *   insert(n)  ->  hit(n)*  ->  remove(n)                    owner decides (expiry, delete,
 *   replace)
 *                               victim(true) + remove(n)     budget decides
 *
 * An owner inserts first and evicts while it is over budget: the victim may be the newcomer itself,
 * which is how a strategy refuses admission. It stays over budget for that moment by one entry.
 */
#ifndef LR_EVICT_EVICT_H
#define LR_EVICT_EVICT_H

#include "base/base.h"

/* Embedded in the owner's entry. The owner sets the first group before insert; cost may be changed
 * between hits. The second group is the strategy's. */
struct lr_evict_node {
    uint64_t key;   /* hash of the entry's identity: ghosts remember it after removal */
    uint32_t bytes; /* size charged, > 0 */
    float cost;     /* what a miss would cost again, any unit, >= 0 (money, seconds) */

    struct lr_evict_node *prev, *next;
    float score;
    uint32_t slot; /* queue tag or heap position */
    uint32_t hits; /* saturating; may be seeded by the owner before insert (0 = new) */
};

struct lr_evict; /* one strategy's state for one pool of bytes */

/* A strategy. All but resize are required. */
struct lr_evict_ops {
    const char *name; /* "lru", "s3fifo", "cost" */
    const char *what; /* one sentence for help */
    int (*open)(struct lr_evict **out, uint64_t bytes_max);
    void (*close)(struct lr_evict *);
    void (*insert)(struct lr_evict *, struct lr_evict_node *);
    void (*hit)(struct lr_evict *, struct lr_evict_node *);
    void (*remove)(struct lr_evict *, struct lr_evict_node *);
    /* The next to go, not yet removed; NULL when empty. The same node until the next event.
     * `evicting` is true when the caller will remove it because of the budget: what the strategy
     * learns from an eviction (ghosts, ageing) it learns at that remove. */
    struct lr_evict_node *(*victim)(struct lr_evict *, bool evicting);
    /* A new budget; the owner then evicts while it is over. Optional: may be NULL. */
    void (*resize)(struct lr_evict *, uint64_t bytes_max);
};

/* The list of strategies, NULL-terminated, in the order of the answer.evict option. */
extern const struct lr_evict_ops *const lr_evict_all[];
/* By name, or NULL. */
const struct lr_evict_ops *lr_evict_find(struct lr_str name);

#endif
