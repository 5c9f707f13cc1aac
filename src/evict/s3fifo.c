/* SPDX-License-Identifier: Apache-2.0
 * evict/s3fifo.c - S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache
 * eviction", SOSP 2023): most new entries are never asked for again, so let them leave quickly.
 *
 *                              hit twice while small
 *   new --> [ small, 10 % ] --------------------------> [ main, 90 %  ] <--+ reinserted while
 *                |  else                                   |          |    | freq > 0, freq - 1
 *                v                                         v          +----+
 *   seen --> [ ghost: keys only, 90 % ]                   gone
 *   again         |
 *   in ghost -----+---------------------------------------> main
 *
 * Queues never move at a hit: a hit only raises a counter (at most 3) in the node. That is what
 * makes it cheap, and resistant to scans: a scan passes through small and never sees main.
 *
 * Deviations from the paper, all because our entries differ in size and our owner evicts:
 *  - Sizes are bytes, not entries: small is over its share when its bytes exceed a tenth of the
 *    budget, and ghosts are kept while the entries they stand for sum to at most nine tenths.
 *  - The owner inserts first and then evicts while it is over budget (the paper evicts first). So
 *    the comparison is `>` where the paper has `>=`, and an entry larger than small's whole share
 *    can be its own victim: a free admission test for giants.
 *  - The paper evicts from main right when a promotion overfills it. Here main simply is over its
 *    share, small is under its own, and the next round of the loop looks at main: same victim.
 *  - An entry whose hits were seeded by its owner with 2 or more (a restart) goes to main directly.
 *  - A victim asked for without `evicting` moves entries between the queues just the same (the
 *    answer must be the one the next call gives), but no ghost is written.
 *
 * Cost: insert, hit, remove O(1). victim() O(1) amortised: each step either leaves, spends one unit
 * of freq earned by a hit, or is an entry's single move from small to main. One call may walk 3n
 * steps.
 *
 * Invariants: slot == queue tag | freq << 1, freq <= FREQ_MAX; each node is in the queue its tag
 * names.
 */
#include "evict/evict_int.h"

#define FREQ_MAX 3u       /* bound of the counter in slot */
#define PROMOTE_AT 2u     /* hits while small that earn main (paper: freq > 1) */
#define SMALL_PERCENT 10u /* of the budget */

enum { SMALL = 0, MAIN = 1 };

struct s3fifo {
    struct lr_evict head;
    struct lr_evict_queue q[2];   /* SMALL, MAIN */
    uint64_t small_max;           /* bytes */
    struct lr_evict_node *doomed; /* named by victim(evicting), not yet removed or hit; or NULL */
    struct lr_ghost ghost;
};

static struct s3fifo *self(struct lr_evict *e)
{
    return LR_CONTAINER(e, struct s3fifo, head);
}

static unsigned queue_of(const struct lr_evict_node *n)
{
    return n->slot & 1;
}

static uint32_t freq_of(const struct lr_evict_node *n)
{
    return n->slot >> 1;
}

static void put(struct s3fifo *s, struct lr_evict_node *n, unsigned queue, uint32_t freq)
{
    n->slot = queue | freq << 1;
    lr_evict_queue_push(&s->q[queue], n);
}

static void resize(struct lr_evict *e, uint64_t bytes_max)
{
    struct s3fifo *s = self(e);
    e->bytes_max = bytes_max;
    s->small_max = bytes_max / 100 * SMALL_PERCENT + bytes_max % 100 * SMALL_PERCENT / 100;
    lr_ghost_resize(&s->ghost, bytes_max - s->small_max);
}

static int open_s3fifo(struct lr_evict **out, uint64_t bytes_max)
{
    struct s3fifo *s = lr_new(struct s3fifo);
    LR_FAIL_IF(!s, LR_ENOMEM);
    resize(&s->head, bytes_max);
    *out = &s->head;
    return 0;
}

static void close_s3fifo(struct lr_evict *e)
{
    if (!e)
        return;
    lr_ghost_free(&self(e)->ghost);
    lr_free(self(e));
}

static void insert(struct lr_evict *e, struct lr_evict_node *n)
{
    struct s3fifo *s = self(e);
    bool back = lr_ghost_take(&s->ghost, n->key, NULL);
    lr_evict_account(e, n);
    put(s, n, back || n->hits >= PROMOTE_AT ? MAIN : SMALL, 0);
}

static void hit(struct lr_evict *e, struct lr_evict_node *n)
{
    struct s3fifo *s = self(e);
    lr_evict_count_hit(n);
    if (s->doomed == n)
        s->doomed = NULL;
    if (freq_of(n) < FREQ_MAX)
        n->slot += 1u << 1;
}

static void remove_node(struct lr_evict *e, struct lr_evict_node *n)
{
    struct s3fifo *s = self(e);
    if (s->doomed == n) {
        s->doomed = NULL;
        if (queue_of(n) == SMALL)
            lr_ghost_add(&s->ghost, n->key, n->bytes, 0);
    }
    lr_evict_queue_cut(&s->q[queue_of(n)], n);
    lr_evict_unaccount(e, n);
}

/* One step of the hand: the entry that leaves, or NULL after moving one that stays. */
static struct lr_evict_node *step(struct s3fifo *s)
{
    unsigned from = s->q[SMALL].bytes > s->small_max || !s->q[MAIN].tail ? SMALL : MAIN;
    struct lr_evict_node *n = s->q[from].tail;
    uint32_t freq = freq_of(n);
    if (freq < (from == SMALL ? PROMOTE_AT : 1))
        return n;
    lr_evict_queue_cut(&s->q[from], n);
    put(s, n, MAIN, from == SMALL ? 0 : freq - 1);
    return NULL;
}

static struct lr_evict_node *victim(struct lr_evict *e, bool evicting)
{
    struct s3fifo *s = self(e);
    struct lr_evict_node *n = NULL;
    while (e->n && !n)
        n = step(s);
    if (evicting)
        s->doomed = n;
    return n;
}

const struct lr_evict_ops lr_evict_s3fifo = {
    .name = "s3fifo",
    .what = "new entries pass a small queue first; scans and one-hit entries leave quickly",
    .open = open_s3fifo,
    .close = close_s3fifo,
    .insert = insert,
    .hit = hit,
    .remove = remove_node,
    .victim = victim,
    .resize = resize,
};
