/* SPDX-License-Identifier: Apache-2.0
 * route/route.c - rendezvous with bounded load, and least in flight.
 *
 * Rendezvous (highest random weight; Thaler and Ravishankar 1998): each target gets a score made of
 * the key and its own id, the best score wins. When a target leaves, only its keys move, each to
 * its own second choice; when one joins, it takes its share from all alike. No ring, no table, O(n)
 * for an n that is a handful. Weights by the logarithmic method (Schindelhauer and Schomaker 2005):
 * with u uniform in (0, 1), the score weight / -ln(u) is largest at target i with probability
 * weight_i / sum, and raising one weight moves keys to that target only.
 *
 * Bounded load (Mirrokni, Thorup, Zadimoghaddam 2018, there for a ring): of the targets in score
 * order take the first with inflight + 1 <= cap, cap = ceil(bound * weight / sum of weights *
 * total), where total counts this request and all that are in flight. Sums run over the candidates
 * only, so that targets that are down hold no share. Some candidate always has room: if each had
 * inflight >= cap, the sum of inflight, total - 1, would be at least the sum of the caps, which is
 * at least total. The caps are computed in integers (the bound in 1/65536ths) so that this holds to
 * the last bit.
 *
 * Candidates, best class first; the next class is looked at only when the one before is empty:
 *     up and untried | up and tried, while some target that is down is untried | down and untried
 * The second and third answer "last-resort". With every target tried there is nothing left to
 * learn: LR_ENOENT.
 *
 * Ties (equal scores: equal ids, or one in 2^52) go to the smaller id, then to the earlier in the
 * list.
 */
#include "route/route.h"

#include <assert.h>
#include <math.h>

#define BOUND_UNIT 65536.0
#define BOUND_MAX 1048576.0 /* beyond any use; keeps the product below 2^128 */

enum class { FRESH, AGAIN, DOWN, NONE };

static enum class class_of(const struct lr_route_target *t)
{
    if (t->up)
        return t->tried ? AGAIN : FRESH;
    return t->tried ? NONE : DOWN;
}

static uint64_t weight_of(const struct lr_route_target *t)
{
    return t->weight ? t->weight : 1;
}

/* The class to choose from and how many are in it. */
static int candidates(const struct lr_route_target *t, size_t n, enum class *out, size_t *count)
{
    size_t by[NONE + 1] = {0}, untried = 0;
    for (size_t i = 0; i < n; i++) {
        by[class_of(&t[i])]++;
        untried += !t[i].tried;
    }
    LR_FAIL_IF(untried == 0, LR_ENOENT);
    *out = by[FRESH] ? FRESH : by[AGAIN] ? AGAIN : DOWN;
    *count = by[*out];
    return 0;
}

static const char *reason(enum class from, size_t count, const char *why)
{
    return from != FRESH ? "last-resort" : count == 1 ? "only" : why;
}

/* The finaliser of splitmix64: each bit of z reaches each bit of the result. */
static uint64_t stir(uint64_t z)
{
    z += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

static double score(const struct lr_route_target *t, uint64_t key)
{
    uint64_t hash = stir(stir(key) ^ t->id);
    double u = ((double)(hash >> 12) + 0.5) * 0x1p-52; /* in (0, 1), both ends out */
    return (double)weight_of(t) / -log(u);
}

/* What a target may hold, this request included, is bound * weight * total / weights, rounded up.
 * */
struct load {
    uint64_t bound; /* in 1/65536ths */
    uint64_t weights, total;
};

static bool has_room(const struct load *l, const struct lr_route_target *t)
{
    unsigned __int128 share = (unsigned __int128)l->bound * weight_of(t) * l->total;
    unsigned __int128 whole = (unsigned __int128)l->weights << 16;
    return (unsigned __int128)(t->inflight + 1ull) <= (share + whole - 1) / whole;
}

static struct load load_of(const struct lr_route_target *t, size_t n, enum class from, double bound)
{
    double b = bound >= 1 ? fmin(bound, BOUND_MAX) : 1; /* NaN compares false */
    struct load l = {.bound = (uint64_t)(b * BOUND_UNIT), .total = 1};
    for (size_t i = 0; i < n; i++) {
        if (class_of(&t[i]) != from)
            continue;
        l.weights += weight_of(&t[i]);
        l.total += t[i].inflight;
    }
    return l;
}

int lr_route_rendezvous(const struct lr_route_target *t, size_t n, uint64_t key, double bound,
                        struct lr_route_choice *out)
{
    enum class from;
    size_t count, best = n, first = n; /* first: best score, room or not */
    double s_best = 0, s_first = 0;
    LR_TRY(candidates(t, n, &from, &count));
    struct load l = load_of(t, n, from, bound);
    for (size_t i = 0; i < n; i++) {
        if (class_of(&t[i]) != from)
            continue;
        double s = score(&t[i], key);
        if (first == n || s > s_first || (s == s_first && t[i].id < t[first].id)) {
            first = i;
            s_first = s;
        }
        if (!has_room(&l, &t[i]))
            continue;
        if (best == n || s > s_best || (s == s_best && t[i].id < t[best].id)) {
            best = i;
            s_best = s;
        }
    }
    assert(best < n); /* proved above */
    *out = (struct lr_route_choice){best,
                                    reason(from, count, best == first ? "prefix" : "prefix-spill")};
    return 0;
}

int lr_route_least(const struct lr_route_target *t, size_t n, struct lr_rng *rng,
                   struct lr_route_choice *out)
{
    enum class from;
    size_t count, best = n;
    uint64_t ties = 0;
    LR_TRY(candidates(t, n, &from, &count));
    for (size_t i = 0; i < n; i++) {
        if (class_of(&t[i]) != from)
            continue;
        /* a/b < c/d as a*d < c*b: both factors fit into 32 bits */
        uint64_t mine = best == n ? 0 : t[i].inflight * weight_of(&t[best]);
        uint64_t theirs = best == n ? 1 : t[best].inflight * weight_of(&t[i]);
        if (mine > theirs)
            continue;
        ties = mine < theirs ? 1 : ties + 1;
        if (ties == 1 || lr_rng_below(rng, ties) == 0) /* each of k ties with probability 1/k */
            best = i;
    }
    *out = (struct lr_route_choice){best, reason(from, count, "least")};
    return 0;
}
