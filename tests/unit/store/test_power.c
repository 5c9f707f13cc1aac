/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_power.c - the power fails anywhere: nothing wrong is served, nothing durable
 * is lost, pins and sizes are right.
 *
 * A scenario runs once on the remembering file system of kit.h; then the power is cut after each of
 * its calls, and what a store finds is held against what was promised by then: for each id the
 * versions that may be there (anything begun since the last durable outcome) and whether it may be
 * absent.
 *
 * Arguments: [seed [scenarios]]; the suite has 3 from seed 1.
 */
#include "kit.h"

#define IDS   24
#define STEPS 160
#define CUTS_A_CALL 1

enum what { PUT, DEL, PIN };

struct event {
    enum what what;
    uint32_t id, version;
    uint64_t value;
    bool durable;         /* confirmed */
    size_t begun, ended; /* calls of the file system */
};

static struct lr_store_opts options(struct fs *f)
{
    return (struct lr_store_opts){.mem_max = LR_MIB(2),
                                  .dir = "d",
                                  .disk_max = LR_MIB(3),
                                  .segment_bytes = LR_KIB(256),
                                  .vfs = &f->vfs,
                                  .late_ms = 60000,
                                  .readers = 1};
}

static size_t play(struct fs *f, struct lr_rng *r, struct event *ev)
{
    struct lr_store *s;
    struct lr_store_opts o = options(f);
    uint32_t version[IDS] = {0};
    assert_int_equal(lr_store_open(&s, &o, NULL), 0);
    for (size_t i = 0; i < STEPS; i++) {
        struct event *e = &ev[i];
        uint32_t id = (uint32_t)lr_rng_below(r, IDS);
        struct lr_object obj = opaque(id, 0);
        unsigned flags = lr_rng_below(r, 3) ? 0 : LR_PUT_DURABLE;
        uint64_t dice = lr_rng_below(r, 10);
        *e = (struct event){.what = dice < 7   ? PUT
                                    : dice < 9 ? PIN
                                               : DEL,
                            .id = id,
                            .begun = fs_ops(f)};
        int rc = 0;
        if (e->what == PUT) {
            e->version = ++version[id];
            rc = put_version(s, &obj, id, e->version, flags);
        } else if (e->what == DEL) {
            rc = lr_store_del(s, &obj.id, flags, LR_FOREVER);
            rc = rc == LR_ENOENT ? 0 : rc;
        } else {
            e->value = lr_rng_below(r, 2) ? UINT64_MAX - lr_rng_below(r, 1000) : 0;
            rc = lr_store_pin(s, &obj.id, e->value, flags, LR_FOREVER);
        }
        e->durable = !rc && flags;
        e->ended = fs_ops(f);
    }
    lr_store_close(s);
    return STEPS;
}

/* What the events allow after a cut: all versions in [from, to] that were puts, absence, pins. */
struct allowed {
    bool version[STEPS + 1], absent;
    uint64_t pin[STEPS + 1];
    size_t n_pins;
    bool some_pin;
};

static void judge(const struct event *ev, size_t n, uint32_t id, size_t cut, struct allowed *a)
{
    memset(a, 0, sizeof *a);
    a->absent = true;
    a->pin[a->n_pins++] = 0;
    for (size_t i = 0; i < n; i++) {
        const struct event *e = &ev[i];
        if (e->id != id || e->begun > cut)
            continue;
        bool sure = e->durable && e->ended <= cut;
        if (e->what == PUT) {
            if (sure) {
                memset(a->version, 0, sizeof a->version);
                a->absent = false;
            } else {
                a->absent = true; /* what it replaced may be gone with it (a dropped write) */
            }
            a->version[e->version] = true;
        } else if (e->what == DEL) {
            if (sure)
                memset(a->version, 0, sizeof a->version);
            if (sure)
                a->n_pins = 0;
            a->absent = true;
            a->pin[a->n_pins++] = 0;
        } else {
            if (sure)
                a->n_pins = 0;
            a->pin[a->n_pins++] = e->value;
        }
    }
}

static void check_sizes(struct lr_store *s)
{
    uint64_t sums[3] = {0}, live = 0;
    for (uint32_t id = 0; id < IDS; id++) {
        struct lr_store_entry e;
        struct lr_object o = opaque(id, 0);
        if (!lr_store_entry(s, &o.id, &e))
            sums[id % 3] += e.bytes;
    }
    for (uint64_t t = 0; t < 3; t++)
        assert_int_equal(lr_store_tenant_bytes(s, 1 + t), sums[t]);
    struct lr_store_stats st;
    lr_store_stats(s, &st);
    for (struct lr_segment *g = s->disk->segments; g; g = g->next)
        live += g->live;
    assert_int_equal(st.disk_live, live);
    assert_true(st.disk_live <= st.disk_bytes);
}

static void check_cut(const struct fs *f, const struct event *ev, size_t n, size_t cut,
                      struct lr_rng *r)
{
    struct fs *g = fs_cut(f, cut, r);
    struct lr_store_opts o = options(g);
    struct lr_store *s;
    for (int again = 0; again < (cut % 4 ? 1 : 2); again++) { /* the second start finds what the first wrote */
        assert_int_equal(lr_store_open(&s, &o, NULL), 0);
        check_sizes(s);
        for (uint32_t id = 0; id < IDS; id++) {
            struct allowed a;
            struct lr_object obj = opaque(id, 0);
            struct lr_store_entry e;
            judge(ev, n, id, cut, &a);
            int64_t v = get_version(s, &obj, id);
            if (v < 0 ? !a.absent : !a.version[v])
                fail_msg("id %u version %lld after a cut at call %zu", id, (long long)v, cut);
            bool pin_ok = v < 0;
            if (v >= 0)
                assert_int_equal(lr_store_entry(s, &obj.id, &e), 0);
            for (size_t i = 0; i < a.n_pins && !pin_ok; i++)
                pin_ok = e.pinned_until_ms == a.pin[i];
            if (!pin_ok)
                fail_msg("id %u pinned wrongly after a cut at call %zu", id, cut);
        }
        lr_store_close(s);
    }
    fs_free(g);
}

static void power_cut(uint64_t seed)
{
    static struct event ev[STEPS];
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    struct fs *f = fs_new(true);
    size_t n = play(f, &r, ev);
    print_message("seed %llu: %zu calls\n", (unsigned long long)seed, f->n_ops);
    for (size_t cut = 0; cut <= f->n_ops; cut++)
        for (int k = 0; k < CUTS_A_CALL; k++)
            check_cut(f, ev, n, cut, &r);
    fs_free(f);
}

static uint64_t first_seed = 1, scenarios = 3;

static void after_any_power_cut_promises_hold(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < scenarios; i++)
        power_cut(first_seed + i);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_any_power_cut_promises_hold),
    };
    if (argc > 1)
        lr_parse_u64(lr_strz(argv[1]), &first_seed);
    if (argc > 2)
        lr_parse_u64(lr_strz(argv[2]), &scenarios);
    lr_log_set_level(LR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
