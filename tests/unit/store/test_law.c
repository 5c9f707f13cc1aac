/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_law.c - the law of the store: a reader gets the newest acknowledged value or a
 * miss, never an older one. Next to a twin that is an array, over random configurations.
 *
 * A life: puts, deletes, expiries, epochs, pins, reads; the disk fails, is full and heals; the store is
 * closed and opened, or killed (what it says to the disk from then on is lost) and opened.
 *
 *   while it runs, and after a close on a disk that works: the newest or a miss
 *   after a bit flipped in a file, or one could not be read: the same
 *   after a kill: the newest of a moment since the last sync that succeeded, or a miss
 *
 * Arguments: [seed [lives]]; the suite runs a few, a night thousands.
 */
#include "kit.h"

#define IDS 96

static _Atomic uint64_t now_ms = 1000000; /* the stores' wall clock; their keepers read it as well */

static uint64_t read_now(void *arg)
{
    (void)arg;
    return now_ms;
}

struct twin {
    uint32_t next[IDS];    /* version given last */
    uint32_t newest[IDS];  /* acknowledged; 0: none */
    uint64_t expires[IDS]; /* of the newest */
    bool doubt[IDS];       /* killed since: */
    uint32_t base[IDS];    /*   the newest at the last sync is possible, */
    uint32_t after[IDS];   /*   and all versions above this */
};

struct life {
    struct fs *fs;
    struct lr_store_opts opts;
    struct lr_store *s;
    struct twin t;
    struct lr_rng r;
    bool few_notes; /* the queue overflows soon */
    uint64_t hits, kills, wipes, spoilt;
};

static uint64_t below(struct life *l, uint64_t n)
{
    return lr_rng_below(&l->r, n);
}

static void open_store(struct life *l)
{
    assert_int_equal(lr_store_open(&l->s, &l->opts, NULL), 0);
    if (l->fs && l->few_notes)
        l->s->disk->notes_max = 40;
}

static void close_store(struct life *l)
{
    l->wipes += counted(l->s, LR_STORE_WIPES);
    lr_store_close(l->s);
}

static void check(struct life *l, uint32_t id)
{
    struct lr_object o = opaque(id, 0);
    struct twin *t = &l->t;
    int64_t v = get_version(l->s, &o, id);
    if (v < 0)
        return;
    l->hits++;
    bool right = t->doubt[id] ? v == t->base[id] || v > t->after[id] : v == t->newest[id];
    if (!right)
        fail_msg("id %u: version %lld, newest %u, base %u, after %u, doubt %d", id, (long long)v,
                 t->newest[id], t->base[id], t->after[id], t->doubt[id]);
    if (!t->doubt[id] && t->expires[id] && t->expires[id] <= now_ms)
        fail_msg("id %u: version %lld expired", id, (long long)v);
}

static void check_all(struct life *l)
{
    for (uint32_t id = 0; id < IDS; id++)
        check(l, id);
}

/* All is on record: a kill from here on finds no less. */
static void mark(struct twin *t)
{
    for (uint32_t id = 0; id < IDS; id++)
        if (!t->doubt[id]) {
            t->base[id] = t->newest[id];
            t->after[id] = t->next[id];
        }
}

static void put(struct life *l, uint32_t id)
{
    struct lr_object o = opaque(id, 0);
    struct twin *t = &l->t;
    unsigned flags = l->fs && !below(l, 20) ? LR_PUT_DURABLE : below(l, 12) ? 0 : LR_PUT_NO_DISK;
    o.expires_ms = below(l, 4) ? 0 : now_ms + 1 + below(l, 60);
    int rc = put_version(l->s, &o, id, ++t->next[id], flags);
    if (rc == LR_EOVER)
        return; /* refused: what was there stays */
    t->newest[id] = t->next[id];
    t->expires[id] = o.expires_ms;
    t->doubt[id] = false;
    if (flags == LR_PUT_DURABLE && !rc) {
        t->base[id] = t->newest[id];
        t->after[id] = t->next[id];
    }
}

static void expire(struct life *l, uint32_t id)
{
    struct lr_object o = opaque(id, 0);
    uint64_t at = below(l, 3) ? now_ms + below(l, 20) : 0;
    if (!lr_store_expire(l->s, &o.id, at))
        l->t.expires[id] = at;
}

static void bump(struct life *l, uint32_t tenant)
{
    lr_store_bump(l->s, tenant, LR_STR("db0"), 0, 0, NULL);
    for (uint32_t id = 0; id < IDS; id++)
        if (1 + id % 3 == tenant) {
            l->t.newest[id] = 0;
            l->t.doubt[id] = false;
        }
}

static void trouble(struct life *l)
{
    if (!l->fs)
        return;
    l->fs->fail_write = !below(l, 4);
    l->fs->fail_sync = !below(l, 4);
    l->fs->full = !below(l, 4);
}

static void heal(struct life *l)
{
    if (l->fs)
        l->fs->fail_write = l->fs->fail_sync = l->fs->full = false;
}

/* A bit flips in a file while the store is closed. Half the time in its head, and is put right later:
 * the store does without all of that file for a while. */
static void spoil(struct life *l)
{
    struct fs_file *x = &l->fs->file[below(l, l->fs->n_files ? l->fs->n_files : 1)];
    if (!l->fs->n_files || !x->there || x->size < LR_SEGMENT_HEAD)
        return;
    l->spoilt++;
    bool head = below(l, 2);
    uint8_t bit = (uint8_t)(1u << below(l, 8)), *at = x->p + below(l, head ? 64 : x->size);
    *at ^= bit;
    if (!head)
        return;
    open_store(l);
    check_all(l);
    for (int i = 0; i < 20; i++)
        put(l, (uint32_t)below(l, IDS));
    close_store(l);
    *at ^= bit; /* it was not listed: nobody wrote to it or removed it */
}

static void again(struct life *l)
{
    if (!l->fs)
        return;
    bool kill = below(l, 2);
    if (kill)
        l->fs->dead = true;
    else
        heal(l);
    close_store(l);
    l->fs->dead = false;
    heal(l);
    if (!kill && !below(l, 4))
        spoil(l);
    open_store(l);
    for (uint32_t id = 0; id < IDS; id++)
        l->t.doubt[id] = l->t.doubt[id] || kill;
    l->kills += kill;
    if (!kill)
        mark(&l->t);
    check_all(l);
}

static void step(struct life *l)
{
    uint32_t id = (uint32_t)below(l, IDS);
    struct lr_object o = opaque(id, 0);
    uint64_t dice = below(l, 1000);
    if (dice < 400)
        put(l, id);
    else if (dice < 440) {
        lr_store_del(l->s, &o.id, 0, 0);
        l->t.newest[id] = 0;
        l->t.doubt[id] = false;
    } else if (dice < 460)
        lr_store_pin(l->s, &o.id, below(l, 2) ? now_ms + below(l, 50) : 0, 0, 0);
    else if (dice < 490)
        expire(l, id);
    else if (dice < 492)
        bump(l, 1 + (uint32_t)below(l, 3));
    else if (dice < 520)
        now_ms += below(l, 3);
    else if (dice < 523)
        trouble(l);
    else if (dice < 527)
        heal(l);
    else if (dice < 530)
        lr_clock_sleep_ns(below(l, 20) * LR_MS);
    else if (dice < 533) {
        if (l->fs && !lr_store_sync(l->s, LR_FOREVER))
            mark(&l->t);
    } else if (dice < 537)
        again(l);
    else
        check(l, id);
}

static void configure(struct life *l)
{
    static const char *const strategies[] = {"s3fifo", "lru", "cost"};
    l->opts = (struct lr_store_opts){.mem_max = LR_MIB(1) << below(l, 2),
                                     .evict = strategies[below(l, 3)],
                                     .shards = 1u << below(l, 3),
                                     .write_back = below(l, 3) == 0,
                                     .late_ms = below(l, 2) ? 60000 : 2,
                                     .readers = 2,
                                     .now_ms = read_now};
    if (!below(l, 8))
        return;
    l->fs = fs_new(false);
    l->opts.vfs = &l->fs->vfs;
    l->opts.dir = "d";
    l->opts.segment_bytes = LR_KIB(64) << below(l, 3);
    l->opts.disk_max = l->opts.segment_bytes * (6 + below(l, 20));
    l->opts.queue_bytes = LR_KIB(256) << below(l, 3);
    l->few_notes = !below(l, 4);
}

static void run_life(uint64_t seed)
{
    struct life *l = calloc(1, sizeof *l);
    lr_rng_seed(&l->r, seed);
    configure(l);
    open_store(l);
    for (int i = 0; i < 4000; i++)
        step(l);
    assert_true(lr_room_sound(l->s->room));
    heal(l);
    uint64_t freed = counted(l->s, LR_STORE_SEGMENTS_FREED);
    close_store(l);
    print_message("seed %llu %s%s%s: %llu hits, %llu kills, %llu wipes, %llu spoilt, %llu freed\n",
                  (unsigned long long)seed, l->opts.evict, l->fs ? " disk" : "",
                  l->opts.write_back ? " write-back" : "", (unsigned long long)l->hits,
                  (unsigned long long)l->kills, (unsigned long long)l->wipes,
                  (unsigned long long)l->spoilt, (unsigned long long)freed);
    assert_true(l->hits > 0);
    if (l->fs)
        fs_free(l->fs);
    free(l);
}

static uint64_t first_seed = 1, lives = 12;

static void a_reader_gets_the_newest_value_or_a_miss(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < lives; i++)
        run_life(first_seed + i);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_gets_the_newest_value_or_a_miss),
    };
    if (argc > 1)
        lr_parse_u64(lr_strz(argv[1]), &first_seed);
    if (argc > 2)
        lr_parse_u64(lr_strz(argv[2]), &lives);
    lr_log_set_level(LR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
