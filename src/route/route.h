/* SPDX-License-Identifier: Apache-2.0
 * route/route.h - which upstream takes a request. Pure: views in, choice and reason out.
 */
#ifndef LR_ROUTE_ROUTE_H
#define LR_ROUTE_ROUTE_H

#include "base/base.h"

struct lr_route_target {
    uint64_t id;       /* hash of a stable name: the choice survives reordering of the list */
    uint32_t weight;   /* >= 1 */
    uint32_t inflight; /* requests there now */
    bool up;           /* breaker closed and probe healthy */
    bool tried;        /* this request failed there already */
};

struct lr_route_choice {
    size_t index;
    const char *reason; /* static: "only", "prefix", "prefix-spill", "least", "last-resort" */
};

/* Weighted rendezvous hashing (Thaler and Ravishankar 1998) of `key` (leading message blocks) with
 * bounded load (Mirrokni, Thorup, Zadimoghaddam 2018): the best-scored target whose load stays
 * within ceil(bound * its weighted share of all requests in flight, this one included). Requests
 * with one prefix meet at one target until that one is full; then they spill to the same second.
 * bound >= 1 (less counts as 1). Targets tried before are taken only when no other that is up is
 * left, targets that are down only when all are; both are "last-resort". LR_ENOENT when n == 0 or
 * all were tried: the caller may clear `tried` for another round. A weight of 0 counts as 1. */
int lr_route_rendezvous(const struct lr_route_target *t, size_t n, uint64_t key, double bound,
                        struct lr_route_choice *out);
/* Least in flight per weight; ties go by rng, which is drawn from only then. Same rules for tried
 * and down targets. */
int lr_route_least(const struct lr_route_target *t, size_t n, struct lr_rng *rng,
                   struct lr_route_choice *out);

#endif
