/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_store.c - the store as its header describes it: next to a twin that is an
 * array, under faults, flipped bits, full and failing disks.
 */
#include "kit.h"

static _Atomic uint64_t now_ms; /* the stores' wall clock; their keepers read it as well */

static uint64_t read_now(void *arg)
{
    (void)arg;
    return now_ms;
}

static struct lr_store *open_on(struct fs *f, struct lr_store_opts o)
{
    struct lr_store *s;
    if (f) {
        o.vfs = &f->vfs;
        o.dir = "d";
        o.segment_bytes = o.segment_bytes ? o.segment_bytes : LR_KIB(256);
        o.disk_max = o.disk_max ? o.disk_max : LR_MIB(8);
    }
    o.mem_max = o.mem_max ? o.mem_max : LR_MIB(2);
    o.late_ms = 60000;
    o.readers = 2;
    o.now_ms = read_now;
    now_ms = now_ms ? now_ms : 1000000;
    assert_int_equal(lr_store_open(&s, &o, NULL), 0);
    return s;
}

/* ---- laws ---- */

static void an_opaque_put_replaces_and_a_content_put_fills(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_object o = opaque(1, 0), c = content(2, 0);
    assert_int_equal(get_version(s, &o, 1), -1);
    assert_int_equal(put_version(s, &o, 1, 1, 0), 0);
    assert_int_equal(put_version(s, &o, 1, 2, 0), 0);
    assert_int_equal(get_version(s, &o, 1), 2);
    c.fidelity = 8000;
    assert_int_equal(put_version(s, &c, 2, 1, 0), 0);
    assert_int_equal(put_version(s, &c, 2, 2, 0), LR_EEXIST);
    assert_int_equal(get_version(s, &c, 2), 1);
    c.fidelity = 0; /* lossless: better than what is there */
    assert_int_equal(put_version(s, &c, 2, 3, 0), 0);
    assert_int_equal(get_version(s, &c, 2), 3);
    c.fidelity = 8000;
    assert_int_equal(put_version(s, &c, 2, 4, 0), LR_EEXIST);
    lr_store_close(s);
}

static void what_does_not_match_is_a_miss_with_its_reason(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_object c = content(1, 0), w;
    struct lr_view *v;
    assert_int_equal(put_version(s, &c, 1, 1, 0), 0);
#define MISSES(change, reason)                                                                     \
    w = c;                                                                                         \
    change;                                                                                        \
    assert_int_equal(lr_store_get(s, &c.id, &w, LR_FOREVER, &v), LR_ENOENT);                       \
    assert_int_equal(counted(s, reason), 1)
    MISSES(w.layout.version = 2, LR_STORE_MISS_LAYOUT);
    MISSES(w.model = LR_STR("other"), LR_STORE_MISS_MODEL);
    MISSES(w.tenant = 1, LR_STORE_MISS_TENANT);
    MISSES(w.tokens = 255, LR_STORE_MISS_TOKENS);
    MISSES(w.variant = 1, LR_STORE_MISS_FORM);
    assert_int_equal(lr_store_get(s, &c.id, NULL, LR_FOREVER, &v), LR_ENOENT);
    assert_int_equal(counted(s, LR_STORE_MISS_KEY), 1);
    assert_int_equal(get_version(s, &c, 1), 1);
    lr_store_close(s);
}

static void a_view_keeps_its_bytes_whatever_happens(void **state)
{
    (void)state;
    struct fs *f = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){0});
    struct lr_object o = opaque(1, 0);
    struct lr_view *v;
    assert_int_equal(put_version(s, &o, 1, 1, 0), 0);
    assert_int_equal(lr_store_get(s, &o.id, &o, 0, &v), 0);
    assert_int_equal(put_version(s, &o, 1, 2, 0), 0);
    assert_int_equal(lr_store_del(s, &o.id, 0, 0), 0);
    for (uint32_t i = 10; i < 300; i++) { /* everything else is pushed through */
        struct lr_object x = opaque(i, 0);
        put_version(s, &x, i, 1, 0);
    }
    assert_int_equal(version_in(1, lr_view_bytes(v)), 1);
    lr_view_put(v);
    assert_int_equal(get_version(s, &o, 1), -1);
    lr_store_close(s);
    fs_free(f);
}

static void a_draft_is_invisible_until_it_is_committed(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_object o = opaque(3, size_of_value(3, 1));
    struct lr_draft *d;
    assert_int_equal(lr_draft_open(s, &o, NULL, &d), 0);
    assert_false(lr_store_has(s, &o.id));
    lr_draft_abort(d);
    uint64_t used = lr_room_used(s->room);
    assert_int_equal(used, 0);
    assert_int_equal(lr_draft_open(s, &o, NULL, &d), 0);
    value_of(3, 1, lr_draft_bytes(d), o.payload);
    assert_false(lr_store_has(s, &o.id));
    assert_int_equal(lr_draft_commit(d, 0, 0), 0);
    assert_int_equal(get_version(s, &o, 3), 1);
    lr_store_close(s);
}

static void what_expired_or_is_of_an_older_epoch_is_gone_for_good(void **state)
{
    (void)state;
    struct fs *f = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){0});
    struct lr_object a = opaque(1, 0), b = opaque(4, 0), c = opaque(2, 0), d = opaque(3, 0);
    uint32_t epoch;
    a.expires_ms = now_ms + 100;
    assert_int_equal(put_version(s, &a, 1, 1, 0), 0);
    assert_int_equal(put_version(s, &b, 4, 1, 0), 0); /* tenant 2, as a */
    assert_int_equal(put_version(s, &c, 2, 1, 0), 0); /* tenant 3 */
    assert_int_equal(put_version(s, &d, 3, 1, 0), 0); /* tenant 1 */
    assert_int_equal(lr_store_expire(s, &d.id, now_ms + 50), 0);
    assert_int_equal(get_version(s, &a, 1), 1);
    now_ms += 100;
    assert_int_equal(get_version(s, &a, 1), -1);
    assert_int_equal(get_version(s, &d, 3), -1);
    assert_true(counted(s, LR_STORE_MISS_EXPIRED) <= 2); /* or the keeper was there first */
    assert_int_equal(lr_store_bump(s, 2, LR_STR("db0"), LR_PUT_DURABLE, LR_FOREVER, &epoch), 0);
    assert_int_equal(epoch, 1);
    assert_int_equal(get_version(s, &b, 4), -1);
    assert_true(counted(s, LR_STORE_MISS_EPOCH) <= 1);
    assert_int_equal(get_version(s, &c, 2), 1);
    assert_int_equal(put_version(s, &b, 4, 2, 0), 0);
    assert_int_equal(get_version(s, &b, 4), 2);
    lr_store_close(s);
    s = open_on(f, (struct lr_store_opts){0});
    assert_int_equal(get_version(s, &a, 1), -1);
    assert_int_equal(get_version(s, &d, 3), -1);
    assert_int_equal(get_version(s, &b, 4), 2);
    assert_int_equal(get_version(s, &c, 2), 1);
    assert_int_equal(lr_store_bump(s, 2, LR_STR("db0"), 0, 0, &epoch), 0);
    assert_int_equal(epoch, 2);
    lr_store_close(s);
    fs_free(f);
}

static struct lr_object named(const char *name)
{
    struct lr_object o = {
        .kind = LR_OBJECT_OPAQUE, .tenant = 1, .space = LR_STR("0"), .name = lr_strz(name)};
    lr_store_id_opaque(1, o.space, o.name, &o.id);
    return o;
}

static void half_a_pair_is_absent_and_halves_leave_together(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_object a = named("m@1@0@ffkv_bytes"), b = named("m@1@0@ffmetadata");
    assert_int_equal(put_version(s, &a, 1, 1, 0), 0);
    assert_false(lr_store_has(s, &a.id));
    assert_int_equal(get_version(s, &a, 1), -1);
    assert_int_equal(counted(s, LR_STORE_MISS_PAIR), 1);
    assert_int_equal(put_version(s, &b, 2, 1, 0), 0);
    assert_int_equal(get_version(s, &a, 1), 1);
    assert_int_equal(get_version(s, &b, 2), 1);
    assert_int_equal(lr_store_del(s, &b.id, 0, 0), 0);
    assert_false(lr_store_has(s, &a.id));
    struct lr_store_stats st;
    lr_store_stats(s, &st);
    assert_int_equal(st.entries, 0);
    assert_int_equal(st.mem_bytes, 0);
    lr_store_close(s);
}

static void a_prefix_ends_at_the_first_that_is_not_here(void **state)
{
    (void)state;
    struct fs *f = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){0});
    struct lr_digest ids[20];
    size_t in_memory;
    for (uint32_t i = 0; i < 20; i++) {
        struct lr_object c = content(i, 0);
        ids[i] = c.id;
        if (i != 13)
            assert_int_equal(put_version(s, &c, i, 1, 0), 0);
    }
    assert_int_equal(lr_store_prefix(s, ids, 20, false, &in_memory), 13);
    assert_int_equal(in_memory, 13);
    assert_int_equal(lr_store_prefix(s, ids + 13, 7, false, NULL), 0);
    assert_int_equal(lr_store_prefix(s, ids + 14, 6, false, NULL), 6);
    lr_store_close(s);
    s = open_on(f, (struct lr_store_opts){0});
    assert_int_equal(lr_store_prefix(s, ids, 20, false, &in_memory), 13);
    assert_int_equal(in_memory, 0);
    lr_store_close(s);
    fs_free(f);
}

static void a_quota_pushes_out_its_tenants_own_oldest(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){.mem_max = LR_MIB(8), .shards = 4});
    assert_int_equal(lr_store_quota(s, 1, 20000), 0);
    for (uint32_t i = 0; i < 120; i++) {
        struct lr_object o = opaque(i, 0);
        int rc = put_version(s, &o, i, 1, 0);
        assert_int_equal(rc, i % 3 == 0 && size_of_value(i, 1) > 20000 ? LR_EOVER : 0);
        assert_true(lr_store_tenant_bytes(s, 1) <= 20000);
    }
    for (uint32_t i = 0; i < 120; i++) {
        struct lr_object o = opaque(i, 0);
        if (i % 3)
            assert_int_equal(get_version(s, &o, i), 1);
    }
    assert_true(lr_store_tenant_bytes(s, 1) > 0);
    assert_true(counted(s, LR_STORE_EVICTED_QUOTA) > 10);
    lr_store_close(s);
}

static void a_quota_leaves_pinned_objects_alone(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){.mem_max = LR_MIB(8), .shards = 2});
    for (uint32_t i = 0; i < 150; i += 3) { /* tenant 1 */
        struct lr_object o = opaque(i, 0);
        assert_int_equal(put_version(s, &o, i, 1, 0), 0);
        if (i % 2)
            assert_int_equal(lr_store_pin(s, &o.id, UINT64_MAX, 0, 0), 0);
    }
    assert_int_equal(lr_store_quota(s, 1, 1), 0);
    for (uint32_t i = 0; i < 150; i += 3) {
        struct lr_object o = opaque(i, 0);
        assert_int_equal(get_version(s, &o, i), i % 2 ? 1 : -1);
    }
    assert_int_equal(lr_store_quota(s, 1, 0), 0);
    struct lr_object o = opaque(0, 0);
    assert_int_equal(put_version(s, &o, 0, 2, 0), 0);
    assert_int_equal(get_version(s, &o, 0), 2);
    lr_store_close(s);
}

struct told {
    uint64_t bytes[4], max[4];
};

static void hear(void *arg, uint64_t tenant, uint64_t bytes, uint64_t bytes_max)
{
    struct told *t = arg;
    assert_true(tenant < 4);
    t->bytes[tenant] = bytes;
    t->max[tenant] = bytes_max;
}

static void every_tenant_is_told_with_its_bytes(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){.mem_max = LR_MIB(8)});
    uint64_t want[4] = {0};
    for (uint32_t i = 0; i < 60; i++) {
        struct lr_object o = opaque(i, 0);
        assert_int_equal(put_version(s, &o, i, 1, 0), 0);
        want[o.tenant] += size_of_value(i, 1);
    }
    assert_int_equal(lr_store_quota(s, 2, LR_MIB(7)), 0);
    struct told t = {.bytes = {0}};
    lr_store_tenants(s, hear, &t);
    assert_memory_equal(t.bytes, want, sizeof want);
    assert_int_equal(t.max[2], LR_MIB(7));
    assert_int_equal(t.max[1] + t.max[3], 0);
    lr_store_close(s);
}

/* Where it is: 1 memory, 2 disk. */
static int places(struct lr_store *s, const struct lr_object *o)
{
    struct lr_store_entry e;
    return lr_store_entry(s, &o->id, &e) ? 0 : e.in_memory + 2 * e.on_disk;
}

static void a_move_goes_where_it_says_and_loses_nothing(void **state)
{
    (void)state;
    struct fs *f = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){.write_back = true});
    struct lr_object o = opaque(1, 0), c = content(2, 0), no = opaque(3, 0), kept = opaque(4, 0);
    assert_int_equal(put_version(s, &o, 1, 1, 0), 0);
    assert_int_equal(put_version(s, &c, 2, 1, 0), 0);
    assert_int_equal(put_version(s, &kept, 4, 1, LR_PUT_NO_DISK), 0);
    assert_int_equal(places(s, &o), 1);
    assert_int_equal(lr_store_move(s, &o.id, LR_PLACE_DISK, LR_FOREVER), 0);
    assert_int_equal(places(s, &o), 3);
    assert_int_equal(lr_store_move(s, &o.id, LR_PLACE_OUT, LR_FOREVER), 0);
    assert_int_equal(lr_store_move(s, &c.id, LR_PLACE_OUT, LR_FOREVER), 0);
    assert_int_equal(places(s, &o), 2);
    assert_int_equal(places(s, &c), 2);
    assert_int_equal(lr_store_move(s, &c.id, LR_PLACE_MEMORY, LR_FOREVER), 0);
    assert_int_equal(places(s, &c), 3);
    assert_int_equal(get_version(s, &o, 1), 1);
    assert_int_equal(get_version(s, &c, 2), 1);
    for (int to = LR_PLACE_MEMORY; to <= LR_PLACE_OUT; to++)
        assert_int_equal(lr_store_move(s, &no.id, (enum lr_place)to, LR_FOREVER), LR_ENOENT);
    assert_int_equal(lr_store_move(s, &kept.id, LR_PLACE_OUT, LR_FOREVER), LR_EUNSUPPORTED);
    f->fail_write = true;
    assert_int_equal(put_version(s, &o, 1, 2, 0), 0);
    assert_int_not_equal(lr_store_move(s, &o.id, LR_PLACE_OUT, LR_FOREVER), 0);
    assert_int_equal(get_version(s, &o, 1), 2);
    f->fail_write = false;
    lr_store_close(s);
    s = open_on(NULL, (struct lr_store_opts){0});
    assert_int_equal(put_version(s, &o, 1, 1, 0), 0);
    assert_int_equal(lr_store_move(s, &o.id, LR_PLACE_OUT, LR_FOREVER), LR_EUNSUPPORTED);
    assert_int_equal(lr_store_move(s, &o.id, LR_PLACE_MEMORY, 0), 0);
    lr_store_close(s);
    fs_free(f);
}

static void pinned_objects_stay_until_the_pin_ends(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_object o = opaque(1, 0);
    assert_int_equal(put_version(s, &o, 1, 1, 0), 0);
    assert_int_equal(lr_store_pin(s, &o.id, now_ms + 1000, 0, 0), 0);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 10; i < 600; i++) {
            struct lr_object x = opaque(i, 0);
            assert_int_equal(put_version(s, &x, i, (uint32_t)round, 0), 0);
        }
        assert_int_equal(get_version(s, &o, 1), round ? -1 : 1);
        now_ms += 2000;
        lr_index_sweep(s, 1 << 20);
    }
    /* At most half of memory. */
    int refused = 0;
    for (uint32_t i = 0; i < 600; i++) {
        struct lr_object x = opaque(i, 0);
        refused += lr_store_pin(s, &x.id, UINT64_MAX, 0, 0) == LR_EOVER;
    }
    struct lr_store_stats st;
    lr_store_stats(s, &st);
    assert_true(refused && st.mem_pinned <= st.mem_max / 2);
    lr_store_close(s);
}

static void ranges_and_layers_come_as_they_were_put(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){.mem_max = LR_MIB(8)});
    struct lr_object c = content(5, LR_KIB(700));
    static uint8_t in[700 << 10], out[700 << 10];
    value_of(5, 1, in, sizeof in);
    struct lr_piece pieces[3] = {{0, in, 1000}, {1000, in + 1000, 300000}, {301000, in + 301000, sizeof in - 301000}};
    assert_int_equal(lr_store_put(s, &c, pieces, 3, true, 0, 0), 0);
    struct lr_view *v;
    assert_int_equal(lr_store_get(s, &c.id, &c, 0, &v), 0);
    assert_int_equal(lr_view_object(v)->n_parts, 3);
    assert_int_equal(lr_view_part(v, 1).offset, 1000);
    assert_int_equal(lr_view_part(v, 1).bytes, 300000);
    lr_view_put(v);
    struct lr_rng r;
    lr_rng_seed(&r, 6);
    for (int i = 0; i < 500; i++) {
        uint64_t at = lr_rng_below(&r, sizeof in + 1), n = lr_rng_below(&r, sizeof in - at + 1);
        struct lr_range q = {.id = c.id, .want = &c, .offset = at, .dst = out, .n = n};
        assert_int_equal(lr_store_read(s, &q, 1, 0), 1);
        assert_memory_equal(out, in + at, n);
    }
    struct lr_range all = {.id = c.id, .want = &c, .dst = out, .n = sizeof out, .whole = true};
    memset(out, 0, sizeof out);
    assert_int_equal(lr_store_read(s, &all, 1, 0), 1);
    assert_int_equal(all.n, sizeof in);
    assert_memory_equal(out, in, sizeof in);
    all.n = sizeof in - 1;
    assert_int_equal(lr_store_read(s, &all, 1, 0), 0);
    assert_int_equal(all.rc, LR_EOVER);
    assert_int_equal(all.n, sizeof in);
    struct lr_range q = {.id = c.id, .want = &c, .offset = 1, .dst = out, .n = sizeof in};
    assert_int_equal(lr_store_read(s, &q, 1, 0), 0);
    assert_int_equal(q.rc, LR_EOVER);
    lr_store_close(s);
}

static void coded_objects_are_read_decoded(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    float in[1000], out[1000];
    uint8_t coded[2][4096];
    size_t n[2];
    for (int i = 0; i < 1000; i++)
        in[i] = (float)(i % 128) - 63; /* whole steps of 1, but the last groups */
    for (int k = 0; k < 2; k++)
        assert_int_equal(lr_codec_encode(LR_CODEC_Q8, LR_DTYPE_F32, in + 500 * k, 2000, coded[k],
                                         sizeof coded[k], &n[k]),
                         0);
    struct lr_object c = content(6, n[0] + n[1]);
    c.codec = LR_CODEC_Q8;
    c.fidelity = lr_codec_fidelity(LR_CODEC_Q8);
    struct lr_piece pieces[2] = {{0, coded[0], n[0]}, {n[0], coded[1], n[1]}};
    assert_int_equal(lr_store_put(s, &c, pieces, 2, true, 0, 0), 0);
    struct lr_range q = {.id = c.id, .want = &c, .dst = out, .n = sizeof out};
    assert_int_equal(lr_store_read(s, &q, 1, 0), 1);
    for (int i = 0; i < 1000; i++)
        assert_true(in[i] - out[i] < 0.26f && out[i] - in[i] < 0.26f);
    float more[1001];
    struct lr_range all = {.id = c.id, .want = &c, .dst = more, .n = sizeof more, .whole = true};
    assert_int_equal(lr_store_read(s, &all, 1, 0), 1);
    assert_int_equal(all.n, sizeof out);
    assert_memory_equal(more, out, sizeof out);
    struct lr_object lossless = c;
    lossless.fidelity = LR_OBJECT_LOSSLESS;
    q.want = &lossless;
    assert_int_equal(lr_store_read(s, &q, 1, 0), 0);
    assert_int_equal(counted(s, LR_STORE_MISS_FIDELITY), 1);
    lr_store_close(s);
}

/* ---- next to a twin ---- */

#define IDS 150

struct twin {
    uint32_t version[IDS]; /* 0: none */
    uint32_t next[IDS];
    uint64_t expires[IDS];
};

struct walk {
    struct lr_store *s;
    bool seen[IDS];
};

static void see(void *arg, const struct lr_store_entry *e)
{
    struct walk *w = arg;
    uint64_t id = 0;
    assert_int_equal(lr_parse_u64(lr_str(e->name.p + 5, e->name.n - 5), &id), 0);
    w->seen[id] = true;
}

static void check_walk(struct lr_store *s)
{
    struct walk w = {.s = s};
    uint64_t cursor = 0;
    bool before[IDS];
    for (uint32_t id = 0; id < IDS; id++) {
        struct lr_object o = opaque(id, 0);
        before[id] = lr_store_has(s, &o.id);
    }
    do
        cursor = lr_store_scan(s, cursor, see, &w);
    while (cursor);
    for (uint32_t id = 0; id < IDS; id++) {
        struct lr_object o = opaque(id, 0);
        assert_true(w.seen[id] || !before[id] || !lr_store_has(s, &o.id)); /* the keeper evicts */
        assert_true(before[id] || !w.seen[id]);
    }
}

static void step(struct lr_store *s, struct twin *t, struct lr_rng *r)
{
    uint32_t id = (uint32_t)lr_rng_below(r, IDS);
    struct lr_object o = opaque(id, 0);
    unsigned flags = lr_rng_below(r, 20) ? 0 : LR_PUT_DURABLE;
    switch (lr_rng_below(r, 12)) {
    case 0:
        if (!s->disk)
            flags = 0;
        lr_store_del(s, &o.id, flags, LR_FOREVER);
        t->version[id] = 0;
        break;
    case 1:
        if (!lr_store_pin(s, &o.id, now_ms + lr_rng_below(r, 50), 0, 0))
            assert_int_not_equal(t->version[id], 0);
        break;
    case 2:
        now_ms += lr_rng_below(r, 3);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        o.expires_ms = lr_rng_below(r, 4) ? 0 : now_ms + 1 + lr_rng_below(r, 60);
        flags = s->disk ? flags : 0;
        flags = lr_rng_below(r, 15) ? flags : LR_PUT_NO_DISK;
        if (put_version(s, &o, id, ++t->next[id], flags) == LR_EOVER)
            break; /* what was there stays */
        t->version[id] = t->next[id];
        t->expires[id] = o.expires_ms;
        break;
    default: {
        int64_t v = get_version(s, &o, id);
        if (v >= 0)
            assert_int_equal(v, t->version[id]);
        if (v >= 0 && t->expires[id])
            assert_true(t->expires[id] > now_ms);
    }
    }
}

static void run_twin(uint64_t seed, bool disk, struct lr_store_opts o)
{
    static struct twin t;
    struct lr_rng r;
    struct fs *f = disk ? fs_new(false) : NULL;
    memset(&t, 0, sizeof t);
    lr_rng_seed(&r, seed);
    struct lr_store *s = open_on(f, o);
    for (int i = 0; i < 6000; i++) {
        step(s, &t, &r);
        if (i % 500 == 499) {
            check_walk(s);
            assert_true(lr_room_sound(s->room));
        }
        if (disk && i % 1500 == 1499) { /* what comes back is never older than what left */
            lr_store_close(s);
            s = open_on(f, o);
        }
    }
    int here = 0;
    for (uint32_t id = 0; id < IDS; id++) {
        struct lr_object obj = opaque(id, 0);
        int64_t v = get_version(s, &obj, id);
        here += v >= 0;
        assert_true(v < 0 || v == t.version[id]);
    }
    assert_true(here > 0);
    print_message("seed %llu %s%s: %d of %d here, %llu segments freed\n", (unsigned long long)seed,
                  o.evict ? o.evict : "s3fifo", disk ? " disk" : "", here, IDS,
                  (unsigned long long)counted(s, LR_STORE_SEGMENTS_FREED));
    lr_store_close(s);
    if (f)
        fs_free(f);
}

static uint64_t first_seed = 1; /* or the first argument */

static void a_store_serves_the_newest_value_or_none(void **state)
{
    (void)state;
    run_twin(first_seed + 0, false, (struct lr_store_opts){.shards = 2});
    run_twin(first_seed + 1, false, (struct lr_store_opts){.evict = "lru"});
    run_twin(first_seed + 2, true, (struct lr_store_opts){.evict = "cost"});
    run_twin(first_seed + 3, true, (struct lr_store_opts){.write_back = true});
    run_twin(first_seed + 4, true, (struct lr_store_opts){.disk_max = LR_MIB(3), .shards = 4});
    run_twin(first_seed + 5, true,
             (struct lr_store_opts){.mem_max = LR_MIB(1), .disk_max = LR_MIB(2), .evict = "lru"});
}

/* ---- damage ---- */

static void flip(struct fs *f, struct lr_rng *r)
{
    pthread_mutex_lock(&f->mu);
    struct fs_file *x = &f->file[lr_rng_below(r, f->n_files)];
    if (x->size)
        x->p[lr_rng_below(r, x->size)] ^= (uint8_t)(1u << lr_rng_below(r, 8));
    pthread_mutex_unlock(&f->mu);
}

static uint64_t flip_rounds = 30;

/* 1000 flips a round on disk, read through a store that is open and through one that opens afterwards. */
static void no_flipped_bit_on_disk_is_ever_served(void **state)
{
    (void)state;
    enum { FLIPS = 500, PER_READ = 25, N = 60 };
    struct lr_rng r;
    uint64_t corrupt = 0, hits = 0;
    lr_rng_seed(&r, 8);
    for (uint64_t round = 0; round < flip_rounds; round++) {
        struct fs *f = fs_new(false);
        for (int half = 0; half < 2; half++) {
            struct lr_store *s = open_on(f, (struct lr_store_opts){.mem_max = LR_MIB(1)});
            for (uint32_t i = 0; i < N && half == 0; i++) {
                struct lr_object o = opaque(i, 0);
                put_version(s, &o, i, 1, 0);
            }
            lr_store_sync(s, LR_FOREVER);
            for (int k = 0; k < FLIPS; k++) {
                flip(f, &r);
                if (k % PER_READ)
                    continue;
                uint32_t id = (uint32_t)lr_rng_below(&r, N);
                struct lr_object o = opaque(id, 0);
                hits += get_version(s, &o, id) == 1;
            }
            corrupt += counted(s, LR_STORE_MISS_CORRUPT) + counted(s, LR_STORE_RECOVER_SKIPPED);
            lr_store_close(s);
        }
        fs_free(f);
    }
    print_message("%llu flips, %llu found, %llu sound hits\n", (unsigned long long)flip_rounds * 2 * FLIPS,
                  (unsigned long long)corrupt, (unsigned long long)hits);
    assert_true(corrupt > 100 && hits > 100);
}

/* Bits of images in memory, whole images record head and all. */
static void no_flipped_bit_in_memory_is_ever_served(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_rng r;
    uint64_t hits = 0;
    lr_rng_seed(&r, 9);
    for (int k = 0; k < 20000; k++) {
        uint32_t id = (uint32_t)lr_rng_below(&r, 8);
        struct lr_object o = opaque(id, 0);
        if (!lr_store_has(s, &o.id))
            assert_int_equal(put_version(s, &o, id, 1 + (uint32_t)k, 0), 0);
        struct lr_shard *sh = lr_shard_of(s, &o.id);
        struct lr_entry *e = lr_find_locked(s, sh, &o.id);
        size_t at = lr_rng_below(&r, e->block->total);
        e->block->image[at] ^= (uint8_t)(1u << lr_rng_below(&r, 8));
        if (k % 2) { /* through the copying door */
            static uint8_t out[LR_LARGE + 20000];
            struct lr_range q = {.id = o.id, .want = &o, .dst = out, .n = e->payload};
            if (lr_store_read(s, &q, 1, 0))
                hits++, version_in(id, lr_str(out, q.n));
        } else {
            hits += get_version(s, &o, id) >= 0;
        }
    }
    /* Flips of padding, record head and mark do no harm: nobody reads these in memory. */
    print_message("%llu hits, %llu found\n", (unsigned long long)hits,
                  (unsigned long long)counted(s, LR_STORE_MISS_CORRUPT));
    assert_true(counted(s, LR_STORE_MISS_CORRUPT) > 10000);
    lr_store_close(s);
}

static struct lr_view *fetched_view;
static void keep_view(struct lr_fetch *f, int rc, struct lr_view *v)
{
    (void)f;
    fetched_view = rc ? NULL : v;
}

/* A draft that is summed as it fills holds what one that is not does; a lazy view gives no byte of a
 * part that was not summed, nor any from the damaged part on, and then that copy is gone. */
static void lazy_views_give_sound_bytes_alone(void **state)
{
    (void)state;
    enum { BYTES = 5 * 1024 * 1024 + 77 };
    static uint8_t value[BYTES];
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){.mem_max = LR_MIB(32)});
    struct lr_rng r;
    lr_rng_seed(&r, first_seed);
    for (unsigned round = 0; round < 40; round++) {
        struct lr_object o = opaque(1, 0);
        struct lr_draft *d;
        o.payload = BYTES - lr_rng_below(&r, LR_MIB(4));
        for (size_t i = 0; i + 8 <= o.payload; i += 8)
            lr_put_le64(value + i, lr_rng_u64(&r));
        assert_int_equal(lr_draft_open(s, &o, NULL, &d), 0);
        for (size_t at = 0; at < o.payload && round % 4;) {
            size_t n = 1 + lr_rng_below(&r, o.payload - at);
            memcpy(lr_draft_bytes(d) + at, value + at, n);
            at += n;
            if (round % 2)
                lr_draft_filled(d, at);
        }
        memcpy(lr_draft_bytes(d), value, round % 4 ? 0 : o.payload);
        assert_int_equal(lr_draft_commit(d, 0, 0), 0);
        struct lr_fetch f = {.id = o.id, .want = &o, .lazy = 1, .done = keep_view};
        lr_store_fetch(s, &f);
        assert_non_null(fetched_view);
        struct lr_str b = lr_view_bytes(fetched_view);
        assert_int_equal(b.n, o.payload);
        assert_memory_equal(b.p, value, b.n);
        size_t bad = round % 3 ? lr_rng_below(&r, b.n) : b.n, good = 0;
        if (bad < b.n)
            ((uint8_t *)(uintptr_t)b.p)[bad] ^= 16;
        while (good < b.n) {
            size_t want = good + 1 + lr_rng_below(&r, b.n - good);
            good = (size_t)lr_view_good(fetched_view, want);
            assert_true(good <= b.n && good <= bad);
            if (good < want)
                break;
        }
        assert_int_equal(good, bad < b.n ? bad / LR_OBJECT_BLOCK * LR_OBJECT_BLOCK : b.n);
        lr_view_put(fetched_view);
        assert_int_equal(lr_store_has(s, &o.id), bad == o.payload);
    }
    assert_int_equal(counted(s, LR_STORE_MISS_CORRUPT), 26);
    lr_store_close(s);
}

static void a_payload_that_looks_like_records_is_never_believed(void **state)
{
    (void)state;
    struct fs *f = fs_new(false), *g = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){.mem_max = LR_MIB(8)});
    struct lr_object victim = opaque(3, 0), o = opaque(6, 0);
    assert_int_equal(put_version(s, &victim, 3, 7, LR_PUT_DURABLE), 0);
    lr_store_close(s);
    /* Its segment's pages as somebody's value; then the head of that value's record is lost. */
    s = open_on(g, (struct lr_store_opts){.mem_max = LR_MIB(8)});
    size_t n = f->file[0].size;
    static uint8_t big[LR_LARGE * 2];
    memcpy(big, f->file[0].p, n);
    o.payload = sizeof big;
    assert_int_equal(
        lr_store_put(s, &o, &(struct lr_piece){0, big, sizeof big}, 1, false, LR_PUT_DURABLE,
                     LR_FOREVER),
        0);
    lr_store_close(s);
    memset(g->file[0].p + LR_SEGMENT_HEAD, 0, 64);
    g->file[0].p[g->file[0].size - 1] ^= 1; /* and the footer */
    s = open_on(g, (struct lr_store_opts){.mem_max = LR_MIB(8)});
    assert_int_equal(get_version(s, &victim, 3), -1);
    struct lr_store_stats st;
    lr_store_stats(s, &st);
    assert_int_equal(st.entries, 0);
    lr_store_close(s);
    fs_free(f);
    fs_free(g);
}

/* ---- trouble ---- */

static void a_failing_disk_makes_misses_and_heals(void **state)
{
    (void)state;
    struct fs *f = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){0});
    struct lr_object o = opaque(1, 0);
    atomic_bool *faults[] = {&f->fail_write, &f->fail_sync, &f->full};
    for (uint32_t k = 0; k < LR_COUNT(faults); k++) {
        *faults[k] = true;
        assert_int_not_equal(put_version(s, &o, 1, 2 * k + 1, LR_PUT_DURABLE), 0);
        assert_int_equal(get_version(s, &o, 1), 2 * k + 1); /* memory serves */
        *faults[k] = false;
        int rc = LR_EIO;
        for (int tries = 0; rc && tries < 1000; tries++) {
            rc = put_version(s, &o, 1, 2 * k + 2, LR_PUT_DURABLE);
            if (rc)
                lr_clock_sleep_ns(10 * LR_MS);
        }
        assert_int_equal(rc, 0);
    }
    assert_true(counted(s, LR_STORE_DISK_ERRORS) >= 3);
    lr_store_close(s);
    s = open_on(f, (struct lr_store_opts){0});
    f->fail_read = true;
    assert_int_equal(get_version(s, &o, 1), -1);
    assert_int_equal(counted(s, LR_STORE_MISS_IO), 1);
    f->fail_read = false;
    assert_int_equal(get_version(s, &o, 1), 6); /* it was not forgotten */
    lr_store_close(s);
    fs_free(f);
}

static void a_stuck_disk_stalls_no_caller(void **state)
{
    (void)state;
    struct fs *f = fs_new(false);
    struct lr_store *s = open_on(f, (struct lr_store_opts){.mem_max = LR_MIB(1)});
    struct lr_object a = opaque(1, 0);
    struct lr_view *v;
    assert_int_equal(put_version(s, &a, 1, 1, LR_PUT_DURABLE), 0);
    lr_store_close(s);
    s = open_on(f, (struct lr_store_opts){.mem_max = LR_MIB(1)});
    f->stuck = true;
    assert_int_equal(lr_store_get(s, &a.id, &a, 0, &v), LR_ETIMEOUT);
    uint64_t soon = lr_clock_mono_ns() + 5 * LR_MS;
    assert_int_equal(lr_store_get(s, &a.id, &a, soon, &v), LR_ETIMEOUT);
    uint8_t out[8];
    struct lr_range q = {.id = a.id, .want = &a, .dst = out, .n = 8};
    assert_int_equal(lr_store_read(s, &q, 1, lr_clock_mono_ns() + 5 * LR_MS), 0);
    assert_int_equal(q.rc, LR_ETIMEOUT);
    assert_int_equal(counted(s, LR_STORE_MISS_LATE), 3);
    for (uint32_t i = 10; i < 200; i++) { /* more than memory and queue hold */
        struct lr_object o = opaque(i, 0);
        int rc = put_version(s, &o, i, 1, 0);
        assert_true(rc == 0 || rc == LR_EOVER);
    }
    assert_true(counted(s, LR_STORE_DISK_DROP_FULL) > 0);
    struct lr_object o = opaque(500, 0);
    uint8_t buf[8] = {0};
    o.payload = 8;
    int rc = lr_store_put(s, &o, &(struct lr_piece){0, buf, 8}, 1, false, LR_PUT_DURABLE,
                          lr_clock_mono_ns() + 5 * LR_MS);
    assert_true(rc == LR_ETIMEOUT || rc == LR_EBUSY || rc == LR_EOVER);
    f->stuck = false;
    assert_int_equal(get_version(s, &a, 1), 1);
    lr_store_close(s);
    fs_free(f);
}

static void too_large_is_refused(void **state)
{
    (void)state;
    struct lr_store *s = open_on(NULL, (struct lr_store_opts){0});
    struct lr_object o = opaque(1, LR_MIB(1) + 1);
    struct lr_draft *d;
    assert_int_equal(lr_draft_open(s, &o, NULL, &d), LR_EOVER);
    o = opaque(1, 0);
    assert_int_equal(lr_store_put(s, &o, NULL, 0, false, 0, 0), 0); /* nothing is a value */
    struct lr_view *v;
    assert_int_equal(lr_store_get(s, &o.id, &o, 0, &v), 0);
    assert_int_equal(lr_view_bytes(v).n, 0);
    lr_view_put(v);
    lr_store_close(s);
}

/* Every allocation and every call to the disk fails once. */
static int scenario(struct fs *f)
{
    struct lr_store *s;
    struct lr_store_opts o = {.mem_max = LR_MIB(1),
                              .dir = "d",
                              .vfs = &f->vfs,
                              .disk_max = LR_MIB(2),
                              .segment_bytes = LR_KIB(64),
                              .late_ms = 60000,
                              .readers = 1};
    LR_TRY(lr_store_open(&s, &o, NULL));
    int rc = 0;
    for (uint32_t i = 0; i < 12; i++) {
        struct lr_object x = opaque(i % 8, 0);
        int one = put_version(s, &x, i % 8, 1 + i, i % 4 ? 0 : LR_PUT_DURABLE);
        rc = rc ? rc : one;
        get_version(s, &x, i % 8);
    }
    struct lr_object x = opaque(3, 0);
    lr_store_pin(s, &x.id, UINT64_MAX, 0, 0);
    lr_store_move(s, &x.id, LR_PLACE_OUT, LR_FOREVER);
    get_version(s, &x, 3);
    lr_store_bump(s, 2, LR_STR("db0"), 0, 0, NULL);
    lr_store_del(s, &x.id, 0, 0);
    lr_store_close(s);
    LR_TRY(rc);
    LR_TRY(lr_store_open(&s, &o, NULL));
    for (uint32_t i = 0; i < 8; i++) {
        x = opaque(i, 0);
        get_version(s, &x, i);
    }
    lr_store_close(s);
    return 0;
}

static void any_single_fault_is_a_result(void **state)
{
    (void)state;
#ifdef LR_SANITIZED
    enum { step = 10 }; /* starting threads costs them a hundred times as much: minutes on a busy machine */
#else
    enum { step = 2 };
#endif
    uint64_t n = 1;
    for (;; n++) {
        struct fs *f = fs_new(false);
        lr_fault_arm(n);
        int rc = scenario(f);
        bool reached = lr_fault_seen() >= n;
        lr_fault_arm(0);
        fs_free(f);
        assert_true(rc <= 0);
        if (!reached) {
            assert_int_equal(rc, 0);
            break;
        }
        if (n > 60)
            n += step; /* the tail repeats itself */
    }
    print_message("%llu places\n", (unsigned long long)n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_opaque_put_replaces_and_a_content_put_fills),
        cmocka_unit_test(what_does_not_match_is_a_miss_with_its_reason),
        cmocka_unit_test(a_view_keeps_its_bytes_whatever_happens),
        cmocka_unit_test(a_draft_is_invisible_until_it_is_committed),
        cmocka_unit_test(what_expired_or_is_of_an_older_epoch_is_gone_for_good),
        cmocka_unit_test(half_a_pair_is_absent_and_halves_leave_together),
        cmocka_unit_test(a_prefix_ends_at_the_first_that_is_not_here),
        cmocka_unit_test(a_quota_pushes_out_its_tenants_own_oldest),
        cmocka_unit_test(a_quota_leaves_pinned_objects_alone),
        cmocka_unit_test(every_tenant_is_told_with_its_bytes),
        cmocka_unit_test(a_move_goes_where_it_says_and_loses_nothing),
        cmocka_unit_test(pinned_objects_stay_until_the_pin_ends),
        cmocka_unit_test(ranges_and_layers_come_as_they_were_put),
        cmocka_unit_test(coded_objects_are_read_decoded),
        cmocka_unit_test(a_store_serves_the_newest_value_or_none),
        cmocka_unit_test(no_flipped_bit_on_disk_is_ever_served),
        cmocka_unit_test(no_flipped_bit_in_memory_is_ever_served),
        cmocka_unit_test(lazy_views_give_sound_bytes_alone),
        cmocka_unit_test(a_payload_that_looks_like_records_is_never_believed),
        cmocka_unit_test(a_failing_disk_makes_misses_and_heals),
        cmocka_unit_test(a_stuck_disk_stalls_no_caller),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(any_single_fault_is_a_result),
    };
    if (argc > 1)
        lr_parse_u64(lr_strz(argv[1]), &first_seed);
    if (argc > 2)
        lr_parse_u64(lr_strz(argv[2]), &flip_rounds);
    lr_log_set_level(LR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
