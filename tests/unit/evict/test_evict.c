/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/evict/test_evict.c - every strategy under random owners, next to naive twins.
 *
 * drive() plays the owner: it inserts, hits, removes, resizes and evicts at random, keeps its own
 * account, fills removed nodes with a pattern that nobody may touch, and asks a twin, where there
 * is one, whether each victim is the right one. Twins are arrays searched from end to end.
 */
#include "evict/evict_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define NODES 256
#define KEYS 700 /* more than fit: some come back while a ghost remembers them */
#define STEPS 100000
#define POISON 0xA5
#define GONE SIZE_MAX

/* ---- twins ---------------------------------------------------------------------------------- */

struct ghost_row {
    uint64_t key, bytes;
    int64_t note;
};
struct twin_node {
    struct lr_evict_node n; /* as the owner set it */
    unsigned freq;
    double uses, clock, density;
};
struct twin {
    struct twin_node at[NODES];
    size_t list[2][NODES], len[2]; /* oldest first */
    struct ghost_row ghost[2 * STEPS];
    size_t ghost_first, ghost_end;
    uint64_t bytes_max;
    double clock;
};
struct twin_ops {
    void (*insert)(struct twin *, size_t id);
    void (*hit)(struct twin *, size_t id);
    void (*remove)(struct twin *, size_t id, bool evicted);
    bool (*agrees)(struct twin *, size_t victim); /* GONE: it says empty */
    void (*resize)(struct twin *);
};

static void list_add(struct twin *t, int q, size_t id)
{
    t->list[q][t->len[q]++] = id;
}

static bool list_cut(struct twin *t, int q, size_t id)
{
    for (size_t i = 0; i < t->len[q]; i++) {
        if (t->list[q][i] != id)
            continue;
        memmove(&t->list[q][i], &t->list[q][i + 1], (--t->len[q] - i) * sizeof t->list[q][0]);
        return true;
    }
    return false;
}

static uint64_t list_bytes(const struct twin *t, int q)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->len[q]; i++)
        sum += t->at[t->list[q][i]].n.bytes;
    return sum;
}

static struct ghost_row *ghost_find(struct twin *t, uint64_t key)
{
    for (size_t i = t->ghost_first; i < t->ghost_end; i++)
        if (t->ghost[i].key == key && t->ghost[i].bytes)
            return &t->ghost[i];
    return NULL;
}

static void ghost_trim(struct twin *t, uint64_t max)
{
    uint64_t sum = 0;
    for (size_t i = t->ghost_first; i < t->ghost_end; i++)
        sum += t->ghost[i].bytes;
    while (sum > max)
        sum -= t->ghost[t->ghost_first++].bytes;
}

static void ghost_put(struct twin *t, struct ghost_row row, uint64_t max)
{
    struct ghost_row *old = ghost_find(t, row.key);
    if (old)
        old->bytes = 0;
    if (row.bytes > max)
        return;
    assert_true(t->ghost_end < LR_COUNT(t->ghost));
    t->ghost[t->ghost_end++] = row;
    ghost_trim(t, max);
}

static void lru_insert(struct twin *t, size_t id)
{
    list_add(t, 0, id);
}
static void lru_hit(struct twin *t, size_t id)
{
    assert_true(list_cut(t, 0, id));
    list_add(t, 0, id);
}
static void lru_remove(struct twin *t, size_t id, bool evicted)
{
    (void)evicted;
    assert_true(list_cut(t, 0, id));
}
static bool lru_agrees(struct twin *t, size_t id)
{
    return id == (t->len[0] ? t->list[0][0] : GONE);
}
static void lru_resize(struct twin *t)
{
    (void)t;
}

static uint64_t s3_small(const struct twin *t)
{
    return t->bytes_max / 10;
}
static void s3_insert(struct twin *t, size_t id)
{
    struct ghost_row *g = ghost_find(t, t->at[id].n.key);
    if (g)
        g->bytes = 0;
    t->at[id].freq = 0;
    list_add(t, g || t->at[id].n.hits >= 2, id);
}
static void s3_hit(struct twin *t, size_t id)
{
    t->at[id].freq = t->at[id].freq < 3 ? t->at[id].freq + 1 : 3;
}
static void s3_remove(struct twin *t, size_t id, bool evicted)
{
    bool small = list_cut(t, 0, id);
    assert_true(small || list_cut(t, 1, id));
    const struct lr_evict_node *n = &t->at[id].n;
    if (small && evicted)
        ghost_put(t, (struct ghost_row){n->key, n->bytes, 0}, t->bytes_max - s3_small(t));
}
static bool s3_agrees(struct twin *t, size_t id)
{
    while (t->len[0] + t->len[1]) {
        int q = list_bytes(t, 0) > s3_small(t) || t->len[1] == 0 ? 0 : 1;
        size_t oldest = t->list[q][0];
        unsigned *freq = &t->at[oldest].freq;
        if (*freq < (q == 0 ? 2u : 1u))
            return id == oldest;
        *freq = q == 0 ? 0 : *freq - 1;
        assert_true(list_cut(t, q, oldest));
        list_add(t, 1, oldest);
    }
    return id == GONE;
}
static void s3_resize(struct twin *t)
{
    ghost_trim(t, t->bytes_max - s3_small(t));
}

static double cost_uses(const struct twin *t, size_t id)
{
    return t->at[id].uses * exp2(t->at[id].clock - t->clock);
}
static void cost_use(struct twin *t, size_t id, double uses)
{
    struct twin_node *n = &t->at[id];
    n->uses = uses;
    n->clock = t->clock;
    n->density = (double)(float)((double)n->n.cost / n->n.bytes);
}
static void cost_insert(struct twin *t, size_t id)
{
    const struct lr_evict_node *n = &t->at[id].n;
    t->clock += fmin((double)n->bytes / (double)t->bytes_max, 1) / 8;
    struct ghost_row *g = n->hits ? NULL : ghost_find(t, n->key);
    double uses = 0.5 + (n->hits < 64 ? n->hits : 64);
    if (g) {
        uses = 1 + exp2((double)(g->note - (int64_t)floor(t->clock * 1024)) / 1024);
        g->bytes = 0;
    }
    list_add(t, 0, id);
    cost_use(t, id, uses);
}
static void cost_hit(struct twin *t, size_t id)
{
    cost_use(t, id, cost_uses(t, id) + 1);
}
static void cost_remove(struct twin *t, size_t id, bool evicted)
{
    assert_true(list_cut(t, 0, id));
    const struct twin_node *n = &t->at[id];
    int64_t note = (int64_t)floor((log2(n->uses) + n->clock) * 1024);
    if (evicted)
        ghost_put(t, (struct ghost_row){n->n.key, n->n.bytes, note}, t->bytes_max * 4);
}
/* By value, with room for the rounding of a ghost's note: ties may fall either way. */
static bool cost_agrees(struct twin *t, size_t id)
{
    double least = INFINITY;
    for (size_t i = 0; i < t->len[0]; i++) {
        size_t k = t->list[0][i];
        least = fmin(least, cost_uses(t, k) * t->at[k].density);
    }
    if (id == GONE)
        return t->len[0] == 0;
    return cost_uses(t, id) * t->at[id].density <= least * 1.002;
}
static void cost_resize(struct twin *t)
{
    ghost_trim(t, t->bytes_max * 4);
}

static const struct {
    const char *name;
    struct twin_ops ops;
} twins[] = {
    {"lru", {lru_insert, lru_hit, lru_remove, lru_agrees, lru_resize}},
    {"s3fifo", {s3_insert, s3_hit, s3_remove, s3_agrees, s3_resize}},
    {"cost", {cost_insert, cost_hit, cost_remove, cost_agrees, cost_resize}},
};

/* ---- the owner ------------------------------------------------------------------------------ */

struct owner {
    const struct lr_evict_ops *ops;
    struct lr_evict *e;
    struct lr_evict_node node[NODES];
    bool live[NODES], key_live[KEYS];
    size_t key[NODES], n_live;
    uint64_t bytes, bytes_max, trail; /* trail: hash of the victims */
    struct lr_rng rng;
    struct twin *t; /* or NULL */
    const struct twin_ops *twin;
};

static void poison(struct lr_evict_node *n)
{
    memset(n, POISON, sizeof *n);
}

static void assert_untouched(const struct lr_evict_node *n)
{
    for (size_t i = 0; i < sizeof *n; i++)
        assert_int_equal(((const unsigned char *)n)[i], POISON);
}

static void owner_insert(struct owner *o)
{
    size_t id = (size_t)lr_rng_below(&o->rng, NODES), key = (size_t)lr_rng_below(&o->rng, KEYS);
    if (o->live[id] || o->key_live[key])
        return;
    struct lr_evict_node *n = &o->node[id];
    assert_untouched(n);
    uint64_t small = lr_rng_below(&o->rng, 100);
    *n = (struct lr_evict_node){
        .key = (key + 1) * 0x9E3779B97F4A7C15ull,
        .bytes = (uint32_t)(1 + lr_rng_below(&o->rng, small ? 1000 : 12000)),
        .cost = (float)(0.001 + 100 * lr_rng_unit(&o->rng)),
        .hits = lr_rng_below(&o->rng, 20) ? 0 : (uint32_t)lr_rng_below(&o->rng, 100),
    };
    o->live[id] = o->key_live[key] = true;
    o->key[id] = key;
    o->bytes += n->bytes;
    o->n_live++;
    if (o->t) {
        o->t->at[id].n = *n;
        o->twin->insert(o->t, id);
    }
    o->ops->insert(o->e, n);
}

static void owner_hit(struct owner *o, size_t id)
{
    struct lr_evict_node *n = &o->node[id];
    if (lr_rng_below(&o->rng, 8) == 0)
        n->cost = (float)(0.001 + 100 * lr_rng_unit(&o->rng));
    uint32_t hits = n->hits;
    if (o->t) {
        o->t->at[id].n.cost = n->cost;
        o->twin->hit(o->t, id);
    }
    o->ops->hit(o->e, n);
    assert_int_equal(n->hits, hits + 1);
}

static void owner_remove(struct owner *o, size_t id, bool evicted)
{
    if (o->t)
        o->twin->remove(o->t, id, evicted);
    o->ops->remove(o->e, &o->node[id]);
    o->bytes -= o->node[id].bytes;
    o->n_live--;
    o->live[id] = o->key_live[o->key[id]] = false;
    poison(&o->node[id]);
}

/* The victim's number, checked; GONE when empty. */
static size_t owner_victim(struct owner *o, bool evicting)
{
    struct lr_evict_node *n = o->ops->victim(o->e, evicting);
    size_t id = n ? (size_t)(n - o->node) : GONE;
    assert_int_equal(id == GONE, o->n_live == 0);
    assert_true(id == GONE || (id < NODES && o->live[id]));
    assert_ptr_equal(o->ops->victim(o->e, evicting), n);
    if (o->t)
        assert_true(o->twin->agrees(o->t, id));
    o->trail = (o->trail ^ id) * 0x100000001B3ull;
    return id;
}

static void owner_fit(struct owner *o)
{
    while (o->bytes > o->bytes_max) {
        size_t id = owner_victim(o, true);
        /* Now and then the owner cannot let it go and says so by a hit. */
        if (lr_rng_below(&o->rng, 16) == 0)
            owner_hit(o, id);
        else
            owner_remove(o, id, true);
    }
}

static void owner_resize(struct owner *o)
{
    o->bytes_max = 2000 + lr_rng_below(&o->rng, 60000);
    if (o->t) {
        o->t->bytes_max = o->bytes_max;
        o->twin->resize(o->t);
    }
    o->ops->resize(o->e, o->bytes_max);
}

static void owner_step(struct owner *o)
{
    uint64_t what = lr_rng_below(&o->rng, 1000);
    size_t id = (size_t)lr_rng_below(&o->rng, NODES);
    if (what < 2)
        owner_resize(o);
    else if (what < 450)
        owner_insert(o);
    else if (what < 470)
        owner_victim(o, false);
    else if (what < 500 && o->live[id])
        owner_remove(o, id, false);
    else if (o->live[id])
        owner_hit(o, id);
    owner_fit(o);
    assert_int_equal(o->e->bytes, o->bytes);
    assert_int_equal(o->e->n, o->n_live);
}

/* Runs a random owner; *trail tells two runs apart. With `starve` the first allocation of each step
 * fails. LR_ENOMEM only from open. */
static int drive(const struct lr_evict_ops *ops, const struct twin_ops *twin, uint64_t seed,
                 size_t steps, bool starve, uint64_t *trail)
{
    struct owner *o = test_calloc(1, sizeof *o);
    *o = (struct owner){.ops = ops, .twin = twin, .bytes_max = 30000};
    int rc = ops->open(&o->e, o->bytes_max);
    if (rc) {
        test_free(o);
        return rc;
    }
    o->t = twin ? test_calloc(1, sizeof *o->t) : NULL;
    if (o->t)
        o->t->bytes_max = o->bytes_max;
    lr_rng_seed(&o->rng, seed);
    for (size_t i = 0; i < NODES; i++)
        poison(&o->node[i]);
    assert_int_equal(owner_victim(o, false), GONE);
    for (size_t i = 0; i < steps; i++) {
        if (starve)
            lr_fault_arm(1);
        owner_step(o);
    }
    if (starve)
        lr_fault_arm(0);
    o->bytes_max = 0;
    while (o->n_live)
        owner_remove(o, owner_victim(o, true), true);
    assert_int_equal(owner_victim(o, true), GONE);
    assert_int_equal(o->e->bytes, 0);
    for (size_t i = 0; i < NODES; i++)
        assert_untouched(&o->node[i]);
    ops->close(o->e);
    if (trail)
        *trail = o->trail;
    test_free(o->t);
    test_free(o);
    return 0;
}

/* ---- laws ----------------------------------------------------------------------------------- */

static void every_strategy_names_the_victims_its_twin_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < LR_COUNT(twins); i++) {
        const struct lr_evict_ops *ops = lr_evict_find(lr_strz(twins[i].name));
        for (uint64_t seed = 1; seed <= 2; seed++) {
            print_message("%s, seed %u\n", ops->name, (unsigned)seed);
            assert_int_equal(drive(ops, &twins[i].ops, seed, STEPS, false, NULL), 0);
        }
    }
}

static void every_strategy_keeps_the_contract_and_repeats_itself(void **state)
{
    (void)state;
    for (size_t k = 0; lr_evict_all[k]; k++) {
        uint64_t a = 0, b = 0, c = 0;
        print_message("%s, seeds 11 and 12\n", lr_evict_all[k]->name);
        assert_int_equal(drive(lr_evict_all[k], NULL, 11, STEPS, false, &a), 0);
        assert_int_equal(drive(lr_evict_all[k], NULL, 11, STEPS, false, &b), 0);
        assert_int_equal(drive(lr_evict_all[k], NULL, 12, STEPS, false, &c), 0);
        assert_true(a == b);
        assert_true(a != c);
    }
}

static void each_failed_allocation_is_a_failed_open_or_unnoticed(void **state)
{
    (void)state;
    for (size_t k = 0; lr_evict_all[k]; k++) {
        for (uint64_t at = 1;; at++) {
            lr_fault_arm(at);
            int rc = drive(lr_evict_all[k], NULL, at, 3000, false, NULL);
            bool reached = lr_fault_seen() >= at;
            lr_fault_arm(0);
            assert_true(rc == 0 || rc == LR_ENOMEM);
            assert_true(rc == 0 || at == 1);
            if (!reached)
                break;
        }
    }
}

static void strategies_work_without_any_memory(void **state)
{
    (void)state;
    for (size_t k = 0; lr_evict_all[k]; k++)
        assert_int_equal(drive(lr_evict_all[k], NULL, 21, 5000, true, NULL), 0);
}

static void names_are_found_and_strangers_are_not(void **state)
{
    (void)state;
    for (size_t k = 0; lr_evict_all[k]; k++) {
        assert_ptr_equal(lr_evict_find(lr_strz(lr_evict_all[k]->name)), lr_evict_all[k]);
        assert_true(strlen(lr_evict_all[k]->what) > 0);
    }
    assert_null(lr_evict_find(LR_STR("LRU")));
    assert_null(lr_evict_find(LR_STR("lru ")));
    assert_null(lr_evict_find(lr_str(NULL, 0)));
}

static void closing_nothing_and_tiny_budgets_are_fine(void **state)
{
    (void)state;
    static const uint64_t budgets[] = {0, 1, 9, UINT64_MAX};
    for (size_t k = 0; lr_evict_all[k]; k++) {
        const struct lr_evict_ops *ops = lr_evict_all[k];
        ops->close(NULL);
        for (size_t b = 0; b < LR_COUNT(budgets); b++) {
            struct lr_evict *e;
            struct lr_evict_node n[3];
            assert_int_equal(ops->open(&e, budgets[b]), 0);
            for (uint32_t i = 0; i < 3; i++) {
                n[i] = (struct lr_evict_node){.key = i, .bytes = UINT32_MAX - i, .cost = 1};
                ops->insert(e, &n[i]);
            }
            for (int i = 0; i < 3; i++)
                ops->remove(e, ops->victim(e, true));
            assert_null(ops->victim(e, true));
            ops->close(e);
        }
    }
}

static void seeded_hits_saturate(void **state)
{
    (void)state;
    for (size_t k = 0; lr_evict_all[k]; k++) {
        const struct lr_evict_ops *ops = lr_evict_all[k];
        struct lr_evict *e;
        struct lr_evict_node n = {.key = 1, .bytes = 10, .cost = 1, .hits = UINT32_MAX};
        assert_int_equal(ops->open(&e, 100), 0);
        ops->insert(e, &n);
        ops->hit(e, &n);
        assert_int_equal(n.hits, UINT32_MAX);
        ops->remove(e, &n);
        ops->close(e);
    }
}

/* ---- what each strategy is for -------------------------------------------------------------- */

/* Inserts n and evicts down to max; true when `watch` was among those that left. */
static bool add_and_fit(const struct lr_evict_ops *ops, struct lr_evict *e, struct lr_evict_node *n,
                        uint64_t max, const struct lr_evict_node *watch)
{
    bool left = false;
    ops->insert(e, n);
    while (e->bytes > max) {
        struct lr_evict_node *v = ops->victim(e, true);
        left |= v == watch;
        ops->remove(e, v);
    }
    return left;
}

static void a_scan_flushes_lru_but_not_what_s3fifo_and_cost_have_seen_hit(void **state)
{
    (void)state;
    for (size_t k = 0; lr_evict_all[k]; k++) {
        const struct lr_evict_ops *ops = lr_evict_all[k];
        struct lr_evict *e;
        struct lr_evict_node hot = {.key = 9999, .bytes = 10, .cost = 1}, scan[200];
        assert_int_equal(ops->open(&e, 1000), 0);
        ops->insert(e, &hot);
        for (int i = 0; i < 3; i++)
            ops->hit(e, &hot);
        bool left = false;
        for (uint64_t i = 0; i < LR_COUNT(scan); i++) {
            scan[i] = (struct lr_evict_node){.key = i, .bytes = 10, .cost = 1};
            left |= add_and_fit(ops, e, &scan[i], 1000, &hot);
        }
        assert_int_equal(left, ops == &lr_evict_lru);
        ops->close(e);
    }
}

static void cost_keeps_the_dear_and_refuses_the_cheap(void **state)
{
    (void)state;
    const struct lr_evict_ops *ops = &lr_evict_cost;
    struct lr_evict *e;
    struct lr_evict_node n[11];
    assert_int_equal(ops->open(&e, 1000), 0);
    for (uint64_t i = 0; i < 10; i++) {
        n[i] = (struct lr_evict_node){.key = i, .bytes = 100, .cost = 10};
        assert_false(add_and_fit(ops, e, &n[i], 1000, NULL));
    }
    n[10] = (struct lr_evict_node){.key = 10, .bytes = 100, .cost = 1};
    assert_true(add_and_fit(ops, e, &n[10], 1000, &n[10])); /* the newcomer is its own victim */
    n[10] = (struct lr_evict_node){.key = 11, .bytes = 100, .cost = 100};
    assert_false(add_and_fit(ops, e, &n[10], 1000, &n[10]));
    assert_int_equal(e->n, 10);
    ops->close(e);
}

static void cost_forgets_a_favourite_that_nobody_asks_for_any_more(void **state)
{
    (void)state;
    const struct lr_evict_ops *ops = &lr_evict_cost;
    struct lr_evict *e;
    static struct lr_evict_node fav, n[2000];
    fav = (struct lr_evict_node){.key = 1, .bytes = 100, .cost = 10};
    assert_int_equal(ops->open(&e, 1000), 0);
    ops->insert(e, &fav);
    for (int i = 0; i < 1000; i++)
        ops->hit(e, &fav);
    bool left = false;
    size_t at = 0;
    for (; at < LR_COUNT(n) && !left; at++) {
        n[at] = (struct lr_evict_node){.key = 2 + at, .bytes = 100, .cost = 10};
        left = add_and_fit(ops, e, &n[at], 1000, &fav);
    }
    /* 1001 uses fade to the half of a newcomer in 11 half-lives of 8 turnovers of 10 entries. */
    assert_true(left);
    assert_true(at > 800 && at < 960);
    ops->close(e);
}

static void costs_that_are_no_numbers_leave_first_and_do_no_harm(void **state)
{
    (void)state;
    static const float costs[] = {0, -1, (float)NAN, (float)INFINITY, 1};
    const struct lr_evict_ops *ops = &lr_evict_cost;
    struct lr_evict *e;
    struct lr_evict_node n[LR_COUNT(costs)];
    assert_int_equal(ops->open(&e, 1000), 0);
    for (size_t i = 0; i < LR_COUNT(costs); i++) {
        n[i] = (struct lr_evict_node){.key = i, .bytes = 10, .cost = costs[i]};
        ops->insert(e, &n[i]);
        ops->hit(e, &n[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        struct lr_evict_node *v = ops->victim(e, true);
        assert_true(v - n < 3);
        ops->remove(e, v);
    }
    assert_ptr_equal(ops->victim(e, true), &n[4]);
    ops->remove(e, &n[4]);
    ops->close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_names_the_victims_its_twin_names),
        cmocka_unit_test(every_strategy_keeps_the_contract_and_repeats_itself),
        cmocka_unit_test(each_failed_allocation_is_a_failed_open_or_unnoticed),
        cmocka_unit_test(strategies_work_without_any_memory),
        cmocka_unit_test(names_are_found_and_strangers_are_not),
        cmocka_unit_test(closing_nothing_and_tiny_budgets_are_fine),
        cmocka_unit_test(seeded_hits_saturate),
        cmocka_unit_test(a_scan_flushes_lru_but_not_what_s3fifo_and_cost_have_seen_hit),
        cmocka_unit_test(cost_keeps_the_dear_and_refuses_the_cheap),
        cmocka_unit_test(cost_forgets_a_favourite_that_nobody_asks_for_any_more),
        cmocka_unit_test(costs_that_are_no_numbers_leave_first_and_do_no_harm),
    };
    return cmocka_run_group_tests_name("evict", tests, NULL, NULL);
}
