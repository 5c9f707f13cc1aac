/* SPDX-License-Identifier: Apache-2.0
 * answer/test_shelf.c - the shelf against a naive map, and each of its rules alone.
 */
#include "shelf_util.h"

static uint64_t wall = 1000000;

static uint64_t test_wall(void)
{
    return wall;
}

static struct lr_answer *open_at(const char *dir, uint64_t bytes_max, uint64_t hot_max)
{
    struct lr_answer *s = NULL;
    struct lr_err err = {0};
    struct lr_answer_opts o = {.dir = dir,
                               .bytes_max = bytes_max,
                               .hot_max = hot_max,
                               .commit_ns = 1,
                               .wall_ms = test_wall};
    int rc = lr_answer_open(&s, &o, &err);
    if (rc)
        fail_msg("%s: %s at %s", lr_errname(rc), err.msg, err.where);
    return s;
}

static void put_meta(struct lr_answer *s, struct lr_doc_meta m, int want)
{
    assert_int_equal(lr_answer_put(s, &m, LR_STR("log"), 0, NULL, NULL), want);
}

static const char *reason(struct lr_answer *s, const struct lr_ask *ask)
{
    struct lr_answer_hit h;
    enum lr_found f = look(s, ask, &h);
    lr_doc_unref(h.doc);
    return f == LR_FOUND_HIT     ? "hit"
           : f == LR_FOUND_STALE ? "stale"
           : f == LR_FOUND_COLD  ? "cold"
                                 : h.reason;
}

/* ---- the twin ---- */

enum { TWIN_KEYS = 200 };
struct twin {
    bool there;
    uint64_t version, created, ttl, expires;
    size_t n;
};

static void twin_check(struct lr_answer *s, const struct twin *t, uint64_t k, bool may_miss)
{
    struct lr_ask ask = ask_of(k, wall);
    struct lr_answer_hit h;
    enum lr_found f = look(s, &ask, &h);
    bool fresh = t->there && wall < t->expires;
    if (f != LR_FOUND_HIT) {
        assert_true(!fresh || may_miss);
        return;
    }
    assert_true(fresh);
    char log[4096];
    fill_log(log, t->n, k, t->version);
    assert_int_equal(h.doc->log.n, t->n);
    assert_memory_equal(h.doc->log.p, log, t->n);
    assert_true(h.age_ms == wall - t->created);
    lr_doc_unref(h.doc);
}

static void twin_step(struct lr_answer *s, struct twin *t, struct lr_rng *r, uint64_t i,
                      bool may_miss)
{
    uint64_t k = lr_rng_below(r, TWIN_KEYS), what = lr_rng_below(r, 10);
    wall += lr_rng_below(r, 20);
    if (what < 3) {
        char log[4096];
        size_t n = (size_t)lr_rng_below(r, sizeof log);
        fill_log(log, n, k, i);
        struct lr_doc_meta m = meta_of(k, wall, 1 + lr_rng_below(r, 20000));
        int rc = lr_answer_put(s, &m, lr_str(log, n), 0, NULL, NULL);
        assert_true(rc == 0 || (may_miss && rc == LR_EOVER));
        t[k] = (struct twin){rc == 0, i, m.created_ms, m.ttl_ms, m.created_ms + m.ttl_ms, n};
    } else if (what == 3) {
        struct lr_digest d = key_of(k);
        int rc = lr_answer_delete(s, &d);
        assert_true(rc == (t[k].there ? 0 : LR_ENOENT) || (may_miss && rc == LR_ENOENT));
        t[k].there = false;
    } else if (what == 4) {
        struct lr_digest d = key_of(k);
        lr_answer_touch(s, &d, wall);
        t[k].expires = wall + t[k].ttl;
    } else {
        twin_check(s, &t[k], k, may_miss);
    }
}

static void run_twin(uint64_t seed, bool disk, uint64_t bytes_max, uint64_t hot_max, bool may_miss)
{
    struct twin t[TWIN_KEYS] = {{0}};
    struct lr_rng r;
    char dir[64];
    lr_rng_seed(&r, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    if (disk)
        make_dir(dir);
    struct lr_answer *s = open_at(disk ? dir : NULL, bytes_max, hot_max);
    for (uint64_t i = 1; i <= 6000; i++) {
        twin_step(s, t, &r, i, may_miss);
        if (disk && lr_rng_below(&r, 1500) == 0) {
            lr_answer_close(s);
            s = open_at(dir, bytes_max, hot_max);
        }
        struct lr_answer_stats st;
        lr_answer_stats(s, &st);
        assert_true(st.bytes <= st.bytes_max);
    }
    struct lr_answer_stats st;
    lr_answer_stats(s, &st);
    assert_true(may_miss ? st.entries > 0 : true);
    lr_answer_close(s);
    if (disk) {
        assert_false(set_aside(dir)); /* what we wrote passes our own check */
        remove_dir(dir);
    }
}

static void memory_twin_without_pressure_never_misses(void **state)
{
    (void)state;
    run_twin(1, false, LR_MIB(64), LR_MIB(64), false);
}
static void memory_twin_under_pressure_never_lies(void **state)
{
    (void)state;
    run_twin(2, false, LR_KIB(200), LR_KIB(100), true);
}
static void disk_twin_with_a_small_hot_set_never_misses(void **state)
{
    (void)state;
    run_twin(3, true, LR_MIB(64), LR_KIB(20), false);
}
static void disk_twin_under_pressure_never_lies(void **state)
{
    (void)state;
    run_twin(4, true, LR_KIB(300), LR_KIB(30), true);
}

/* ---- conditions ---- */

static void fewer_choices_are_served_more_are_not(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, 0, 0);
    struct lr_doc_meta m = meta_of(1, wall, 1000);
    m.choices = 3;
    put_meta(s, m, 0);
    struct lr_ask a = ask_of(1, wall);
    a.n = 2;
    assert_string_equal(reason(s, &a), "hit");
    a.n = 4;
    assert_string_equal(reason(s, &a), "fewer-choices");
    lr_answer_close(s);
}

static void finished_answers_serve_limits_they_fit(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, 0, 0);
    struct lr_doc_meta m = meta_of(1, wall, 1000);
    m.max_tokens = 100;
    m.tokens_out = 40;
    put_meta(s, m, 0);
    struct lr_ask a = ask_of(1, wall);
    const struct {
        uint64_t limit;
        const char *want;
    } rows[] = {{0, "hit"}, {100, "hit"}, {1000, "hit"}, {40, "hit"}, {39, "token-limit"}};
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        a.max_tokens = rows[i].limit;
        assert_string_equal(reason(s, &a), rows[i].want);
    }
    m.key = key_of(2);
    m.tokens_out = 0; /* unknown */
    put_meta(s, m, 0);
    a = ask_of(2, wall);
    a.max_tokens = 99;
    assert_string_equal(reason(s, &a), "token-limit");
    a.max_tokens = 100;
    assert_string_equal(reason(s, &a), "hit");
    lr_answer_close(s);
}

static void cut_answers_serve_their_own_limit_only(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, 0, 0);
    struct lr_doc_meta m = meta_of(1, wall, 1000);
    m.max_tokens = 100;
    m.tokens_out = 100;
    m.cut = 1;
    put_meta(s, m, 0);
    struct lr_ask a = ask_of(1, wall);
    for (a.max_tokens = 98; a.max_tokens < 103; a.max_tokens++)
        assert_string_equal(reason(s, &a), a.max_tokens == 100 ? "hit" : "token-limit");
    a.max_tokens = 0;
    assert_string_equal(reason(s, &a), "token-limit");
    lr_answer_close(s);
}

static void lossy_answers_stay_in_their_dialect(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, 0, 0);
    struct lr_doc_meta m = meta_of(1, wall, 1000);
    m.dialect = LR_DIALECT_MESSAGES;
    put_meta(s, m, 0);
    struct lr_ask a = ask_of(1, wall);
    assert_string_equal(reason(s, &a), "dialect");
    a.dialect = LR_DIALECT_MESSAGES;
    assert_string_equal(reason(s, &a), "hit");
    lr_answer_close(s);
}

static void age_and_staleness_follow_the_grants(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, 0, 0);
    put_meta(s, meta_of(1, 5000, 1000), 0);
    struct lr_ask a = ask_of(1, 5999);
    struct lr_answer_hit h;
    assert_string_equal(reason(s, &a), "hit");
    a.max_age_ms = 998;
    assert_string_equal(reason(s, &a), "max-age");
    a = ask_of(1, 6000);
    assert_string_equal(reason(s, &a), "expired");
    a.swr_ms = 10;
    assert_int_equal(lr_answer_get(s, &a, &h), LR_FOUND_STALE);
    assert_true(h.swr && !h.sie && h.doc && h.age_ms == 1000);
    lr_doc_unref(h.doc);
    a.now_ms = 6010;
    assert_string_equal(reason(s, &a), "expired");
    a.sie_ms = 11;
    assert_int_equal(lr_answer_get(s, &a, &h), LR_FOUND_STALE);
    assert_true(!h.swr && h.sie);
    lr_doc_unref(h.doc);
    a = ask_of(1, 6000);
    struct lr_digest k = key_of(1);
    lr_answer_touch(s, &k, 5999);
    assert_string_equal(reason(s, &a), "hit");
    a = ask_of(9, 0);
    assert_string_equal(reason(s, &a), "new");
    lr_answer_close(s);
}

/* ---- quotas ---- */

static void quota_refuses_after_dropping_what_expired(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, 0, 0);
    uint64_t one = lr_disk_charge(LR_DOC_HEAD_TYPICAL, 3), start = wall;
    struct lr_doc_meta m = meta_of(0, wall, 100);
    for (uint64_t i = 0; i < 4; i++) {
        m.key = key_of(i);
        assert_int_equal(lr_answer_put(s, &m, LR_STR("log"), 3 * one, NULL, NULL),
                         i < 3 ? 0 : LR_EOVER);
    }
    m.key = key_of(1); /* replacing needs no more room */
    assert_int_equal(lr_answer_put(s, &m, LR_STR("new"), 3 * one, NULL, NULL), 0);
    m.tenant = 77; /* another tenant has its own */
    m.key = key_of(50);
    assert_int_equal(lr_answer_put(s, &m, LR_STR("log"), 3 * one, NULL, NULL), 0);
    wall += 100;
    m = meta_of(0, wall, 100);
    m.key = key_of(9);
    assert_int_equal(lr_answer_put(s, &m, LR_STR("log"), 3 * one, NULL, NULL), 0);
    struct lr_answer_stats st;
    lr_answer_stats(s, &st);
    assert_int_equal(st.entries, 2);
    assert_true(st.bytes == 2 * one);
    wall = start;
    lr_answer_close(s);
}

static void too_large_is_refused(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, LR_KIB(64), LR_KIB(64));
    char *big = lr_calloc(1, LR_KIB(64));
    struct lr_doc_meta m = meta_of(1, wall, 100);
    assert_int_equal(lr_answer_put(s, &m, lr_str(big, LR_KIB(64)), 0, NULL, NULL), LR_EOVER);
    lr_free(big);
    lr_answer_close(s);
}

/* ---- admin ---- */

struct counted {
    size_t n, stop_at;
    uint64_t sum;
};

static int count_entry(void *ctx, const struct lr_answer_entry *e)
{
    struct counted *c = ctx;
    c->n++;
    c->sum += lr_le64(e->meta.key.b);
    return c->stop_at && c->n % c->stop_at == 0;
}

static void check_listing(struct lr_answer *s)
{
    uint64_t sum = 0, cursor = 0;
    for (uint64_t k = 0; k < 300; k++) {
        struct lr_digest d = key_of(k);
        sum += lr_le64(d.b);
    }
    struct lr_answer_select all = {.now_ms = wall};
    struct counted c = {.stop_at = 7};
    do
        assert_int_equal(lr_answer_list(s, &all, &cursor, count_entry, &c), 0);
    while (cursor);
    assert_true(c.n == 300 && c.sum == sum);
    struct lr_answer_select q = {.model = "m1", .tenant = 2, .now_ms = wall};
    c = (struct counted){0};
    assert_int_equal(lr_answer_list(s, &q, &cursor, count_entry, &c), 0);
    assert_int_equal(c.n, 25); /* k % 4 == 1 and k % 3 == 1 */
    char hex[65];
    struct lr_digest d = key_of(5);
    lr_hex(d.b, 32, hex);
    hex[12] = 0;
    q = (struct lr_answer_select){.id_prefix = hex, .now_ms = wall};
    c = (struct counted){0};
    assert_int_equal(lr_answer_list(s, &q, &cursor, count_entry, &c), 0);
    assert_int_equal(c.n, 1);
    q = (struct lr_answer_select){.older_than_ms = 10, .now_ms = wall + 9};
    c = (struct counted){0};
    assert_int_equal(lr_answer_list(s, &q, &cursor, count_entry, &c), 0);
    assert_int_equal(c.n, 0);
}

static void check_purge(struct lr_answer *s)
{
    struct lr_answer_select q = {.model = "m2", .now_ms = wall};
    struct lr_answer_stats st;
    uint64_t n, bytes;
    assert_int_equal(lr_answer_purge(s, &q, true, &n, &bytes), 0);
    assert_true(n == 75 && bytes > 0);
    lr_answer_stats(s, &st);
    assert_int_equal(st.entries, 300);
    assert_int_equal(lr_answer_purge(s, &q, false, &n, &bytes), 0);
    assert_int_equal(n, 75);
    lr_answer_stats(s, &st);
    assert_int_equal(st.entries, 225);
}

static void listing_shows_each_entry_once_hot_or_cold(void **state)
{
    (void)state;
    for (int disk = 0; disk < 2; disk++) {
        char dir[64];
        if (disk)
            make_dir(dir);
        struct lr_answer *s = open_at(disk ? dir : NULL, 0, disk ? LR_KIB(10) : 0);
        for (uint64_t k = 0; k < 300; k++)
            put_meta(s, meta_of(k, wall, 1000), 0);
        assert_int_equal(lr_answer_flush(s), 0);
        check_listing(s);
        struct lr_digest d = key_of(3);
        struct lr_answer_entry e;
        assert_int_equal(lr_answer_entry(s, &d, &e), 0);
        assert_string_equal(e.meta.model, "m3");
        assert_int_equal(e.stored, disk);
        check_purge(s);
        assert_int_equal(lr_answer_entry(s, &(struct lr_digest){{0}}, &e), LR_ENOENT);
        lr_answer_close(s);
        if (disk)
            remove_dir(dir);
    }
}

static void hits_and_touched_times_survive_a_restart(void **state)
{
    (void)state;
    char dir[64];
    make_dir(dir);
    struct lr_answer *s = open_at(dir, 0, 0);
    put_meta(s, meta_of(1, wall, 1000), 0);
    struct lr_ask a = ask_of(1, wall + 500);
    for (int i = 0; i < 5; i++)
        assert_string_equal(reason(s, &a), "hit");
    lr_answer_touch(s, &a.key, wall + 500);
    lr_answer_close(s);
    s = open_at(dir, 0, 0);
    struct lr_answer_entry e;
    assert_int_equal(lr_answer_entry(s, &a.key, &e), 0);
    assert_int_equal(e.meta.hits, 5);
    assert_true(e.meta.ttl_ms == 1500);
    a.now_ms = wall + 1499;
    assert_string_equal(reason(s, &a), "hit");
    a.now_ms = wall + 1500;
    assert_string_equal(reason(s, &a), "expired");
    lr_answer_close(s);
    remove_dir(dir);
}

static void the_index_knows_what_it_weighs(void **state)
{
    (void)state;
    struct lr_answer *s = open_at(NULL, LR_GIB(4), LR_GIB(4));
    for (uint64_t k = 0; k < 3000; k++)
        put_meta(s, meta_of(k, wall, 1000), 0);
    struct lr_answer_stats st;
    lr_answer_stats(s, &st);
    print_message("index: %llu bytes an entry\n",
                  (unsigned long long)(st.index_bytes / st.entries));
    assert_true(st.entries == 3000 && st.index_bytes / st.entries < 256);
    lr_answer_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_twin_without_pressure_never_misses),
        cmocka_unit_test(memory_twin_under_pressure_never_lies),
        cmocka_unit_test(disk_twin_with_a_small_hot_set_never_misses),
        cmocka_unit_test(disk_twin_under_pressure_never_lies),
        cmocka_unit_test(fewer_choices_are_served_more_are_not),
        cmocka_unit_test(finished_answers_serve_limits_they_fit),
        cmocka_unit_test(cut_answers_serve_their_own_limit_only),
        cmocka_unit_test(lossy_answers_stay_in_their_dialect),
        cmocka_unit_test(age_and_staleness_follow_the_grants),
        cmocka_unit_test(quota_refuses_after_dropping_what_expired),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(listing_shows_each_entry_once_hot_or_cold),
        cmocka_unit_test(hits_and_touched_times_survive_a_restart),
        cmocka_unit_test(the_index_knows_what_it_weighs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
