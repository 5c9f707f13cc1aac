/* SPDX-License-Identifier: Apache-2.0
 * answer/test_sem.c - the semantic shelf: who may meet whom, what is refused, what is learned, what
 * leaves. Vectors are made by hand, so that the laws do not depend on an encoder.
 */
#include "answer/answer.h"
#include "vec/vec.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { DIM = 8 };
#define SECRET 77u

struct prepared {
    float vector[DIM];
    struct lr_fact room[LR_FACTS_MAX];
    struct lr_facts facts;
    struct lr_sketch sketch;
    struct lr_sem_question q;
};

/* A vector of its own for each of the first DIM topics, turned a little towards the next by `turn`.
 */
static void point(float v[DIM], unsigned topic, float turn)
{
    memset(v, 0, DIM * sizeof *v);
    v[topic % DIM] = cosf(turn);
    v[(topic + 1) % DIM] = sinf(turn);
}

static const struct lr_sem_question *ask_for(struct prepared *p, const char *text, unsigned topic,
                                             float turn)
{
    point(p->vector, topic, turn);
    assert_int_equal(lr_facts_read(lr_strz(text), SECRET, p->room, &p->facts), 0);
    lr_sketch_read(lr_strz(text), SECRET, &p->sketch);
    p->q = (struct lr_sem_question){lr_strz(text), p->vector, &p->facts, &p->sketch};
    return &p->q;
}

static struct lr_digest digest(const char *name)
{
    struct lr_digest d;
    lr_blake3(lr_strz(name), &d);
    return d;
}

static struct lr_sem *sem;
static struct lr_sem_reader *reader;
static struct lr_arena arena;

static void open_with(const struct lr_sem_opts *o)
{
    assert_int_equal(lr_sem_open(&sem, o), 0);
    assert_int_equal(lr_sem_reader_open(sem, &reader), 0);
    lr_arena_init(&arena, LR_MIB(4));
}

static int set_up(void **s)
{
    (void)s;
    open_with(&(struct lr_sem_opts){.dim = DIM, .secret = SECRET});
    return 0;
}

static int tear_down(void **s)
{
    (void)s;
    lr_sem_reader_close(reader);
    lr_sem_close(sem);
    lr_arena_free(&arena);
    return 0;
}

static struct lr_sem_note note_of(const char *key, const char *partition, uint64_t tenant)
{
    char turn[64];
    snprintf(turn, sizeof turn, "turn of %s", key);
    return (struct lr_sem_note){.key = digest(key),
                                .partition = digest(partition),
                                .turn = digest(turn),
                                .said = digest("an answer"),
                                .tenant = tenant,
                                .now_ms = 1000};
}

static void put(const char *key, const char *partition, uint64_t tenant, const char *text,
                unsigned topic)
{
    struct prepared p;
    struct lr_sem_note note = note_of(key, partition, tenant);
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, text, topic, 0)), 0);
}

static size_t find_at(const char *partition, const struct lr_digest *parent, uint64_t tenant,
                      const char *text, unsigned topic, float turn,
                      struct lr_sem_found found[LR_SEM_FOUND_MAX])
{
    struct prepared p;
    size_t n;
    struct lr_sem_ask ask = {
        .partition = digest(partition), .tenant = tenant, .floor = 0.5f, .k = 4};
    if (parent)
        ask.parent = *parent;
    assert_int_equal(
        lr_sem_find(sem, reader, &ask, ask_for(&p, text, topic, turn), &arena, found, &n), 0);
    return n;
}

static size_t find(const char *partition, uint64_t tenant, const char *text, unsigned topic)
{
    struct lr_sem_found found[LR_SEM_FOUND_MAX];
    return find_at(partition, NULL, tenant, text, topic, 0.1f, found);
}

static void tenants_and_partitions_never_meet(void **s)
{
    (void)s;
    put("k1", "p", 1, "How do plants grow?", 0);
    assert_int_equal(find("p", 1, "How do plants grow?", 0), 1);
    assert_int_equal(find("p", 2, "How do plants grow?", 0), 0);
    assert_int_equal(find("q", 1, "How do plants grow?", 0), 0);
    assert_int_equal(find("p", 1, "How do plants grow?", 4), 0); /* far away */
    struct lr_digest parent = digest("somebody");
    struct lr_sem_found found[LR_SEM_FOUND_MAX];
    assert_int_equal(find_at("p", &parent, 1, "How do plants grow?", 0, 0, found), 0);
}

static void gates_are_named_and_come_last(void **s)
{
    (void)s;
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    put("off", "p", 1, "How do I disable 2FA?", 0);
    struct prepared p;
    struct lr_sem_note note = note_of("on", "p", 1);
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, "How can I turn on 2FA?", 0, 0.3f)), 0);
    assert_int_equal(find_at("p", NULL, 1, "How do I enable 2FA?", 0, 0, f), 2);
    assert_null(f[0].gate); /* though the other one is nearer */
    struct lr_digest on = digest("on");
    assert_true(lr_digest_eq(&f[0].key, &on));
    assert_string_equal(f[1].gate, "antonyms");
    assert_true(f[1].sim > f[0].sim);
    assert_true(lr_str_is(f[0].text, "How can I turn on 2FA?"));
    struct lr_sem_ask ask = {
        .partition = digest("p"), .tenant = 1, .floor = 0.5f, .shared_floor = 0.5f, .k = 4};
    size_t n;
    assert_int_equal(
        lr_sem_find(sem, reader, &ask, ask_for(&p, "Zebras eat 2FA", 0, 0), &arena, f, &n), 0);
    for (size_t i = 0; i < n; i++)
        assert_non_null(f[i].gate);
}

/* The same entries in a young partition and in one with an index give the same answers. */
static void growing_an_index_changes_nothing(void **s)
{
    (void)s;
    char key[16], text[64];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%u", i);
        snprintf(text, sizeof text, "What is topic number %u about?", i);
        put(key, "p", 1, text, i);
        for (unsigned k = i > 7 ? i - 7 : 0; k <= i; k++) {
            struct lr_sem_found f[LR_SEM_FOUND_MAX];
            snprintf(text, sizeof text, "What is topic number %u about?", k);
            size_t n = find_at("p", NULL, 1, text, k, 0, f);
            assert_true(n >= 1);
            snprintf(key, sizeof key, "k%u", k);
            struct lr_digest want = digest(key);
            bool there = false;
            for (size_t j = 0; j < n; j++)
                there |= lr_digest_eq(&f[j].key, &want) && !f[j].gate;
            /* 8 topics share a direction by then: only 4 are asked for */
            assert_true(there || i >= 32);
        }
    }
    struct lr_sem_stats st;
    lr_sem_stats(sem, &st);
    assert_int_equal(st.entries, 100);
    assert_int_equal(st.partitions, 1);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%u", i);
        struct lr_digest d = digest(key);
        assert_int_equal(lr_sem_del(sem, &d), 0);
        assert_int_equal(lr_sem_del(sem, &d), LR_ENOENT);
    }
    lr_sem_stats(sem, &st);
    assert_int_equal(st.entries, 0);
    assert_int_equal(st.partitions, 0);
    assert_int_equal(st.aliases, 0);
    assert_int_equal(st.bytes, 0);
}

static int prepare(void *ctx, struct lr_str text, struct lr_sem_question *out)
{
    struct prepared *p = ctx;
    char z[256];
    snprintf(z, sizeof z, "%.*s", LR_FMT(text));
    *out = *ask_for(p, z, 0, 0.05f);
    out->text = text;
    return 0;
}

static struct lr_meaning conversation(const char *const *ids, const char *const *texts,
                                      const char *said, size_t n)
{
    struct lr_meaning m = {.partition = digest("p"), .n_turns = n};
    for (size_t i = 0; i < n; i++) {
        m.turn[i].id = digest(ids[i]);
        m.turn[i].text = lr_strz(texts[i]);
        if (i + 1 < n)
            m.turn[i].said = digest(said);
    }
    return m;
}

static void a_follow_up_stands_on_the_entry_before(void **s)
{
    (void)s;
    struct prepared p;
    struct lr_digest parent, want = digest("k1");
    struct lr_sem_ask ask = {.partition = digest("p"), .tenant = 1, .floor = 0.8f, .k = 4};
    put("k1", "p", 1, "Who is the head of Apple?", 0);
    const char *texts[] = {"Who is the head of Apple?", "How old is he?"};
    /* By its turn id. */
    struct lr_meaning m = conversation((const char *[]){"turn of k1", "x"}, texts, "an answer", 2);
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), 0);
    assert_true(lr_digest_eq(&parent, &want));
    /* Another answer was given: another conversation. */
    m = conversation((const char *[]){"turn of k1", "x"}, texts, "something else", 2);
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), LR_ENOENT);
    /* In other words, found by meaning. */
    const char *others[] = {"who's heading Apple", "How old is he?"};
    m = conversation((const char *[]){"unknown", "y"}, others, "an answer", 2);
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), 0);
    assert_true(lr_digest_eq(&parent, &want));
    /* About somebody else: a gate. */
    const char *foreign[] = {"Who is the head of Google?", "How old is he?"};
    m = conversation((const char *[]){"unknown", "y"}, foreign, "an answer", 2);
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), LR_ENOENT);
    /* After it was served, by the alias. */
    struct lr_digest turn = digest("served");
    assert_int_equal(lr_sem_alias(sem, &turn, &want), 0);
    m = conversation((const char *[]){"served", "y"}, foreign, "an answer", 2);
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), 0);
    assert_true(lr_digest_eq(&parent, &want));
    /* Another tenant has no such turn. */
    ask.tenant = 2;
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), LR_ENOENT);
    /* A stand-alone question stands on nothing. */
    m = conversation((const char *[]){"y"}, others, "", 1);
    assert_int_equal(lr_sem_context(sem, reader, &ask, &m, true, prepare, &p, &parent), 0);
    static const struct lr_digest zero;
    assert_true(lr_digest_eq(&parent, &zero));
}

static void follow_ups_of_different_parents_never_meet(void **s)
{
    (void)s;
    struct prepared p;
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    struct lr_digest apple = digest("apple"), google = digest("google");
    struct lr_sem_note note = note_of("age", "p", 1);
    note.parent = apple;
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, "How old is he?", 3, 0)), 0);
    assert_int_equal(find_at("p", &apple, 1, "How old is he?", 3, 0, f), 1);
    assert_int_equal(find_at("p", &google, 1, "How old is he?", 3, 0, f), 0);
    assert_int_equal(find("p", 1, "How old is he?", 3), 0); /* nor as a question of its own */
}

static void a_bad_entry_goes_and_its_neighbours_are_doubted(void **s)
{
    (void)s;
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    struct prepared p;
    size_t n;
    put("bad", "p", 1, "How do plants grow?", 0);
    struct lr_sem_note note = note_of("near", "p", 1);
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, "How do plants grow in pots?", 0, 0.2f)),
                     0);
    put("far", "p", 1, "What is a prime?", 4);
    struct lr_digest bad = digest("bad");
    assert_int_equal(lr_sem_bad(sem, reader, &bad, 0.9f, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(lr_sem_bad(sem, reader, &bad, 0.9f, &n), LR_ENOENT);
    assert_int_equal(find_at("p", NULL, 1, "How do plants grow?", 0, 0, f), 1);
    assert_int_equal(f[0].seen.n, 1);
    assert_int_equal(f[0].seen.right, 0);
}

static void labels_teach_entry_and_category(void **s)
{
    (void)s;
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    struct lr_bound b;
    put("k", "p", 1, "How do plants grow?", 0);
    struct lr_digest k = digest("k"), nobody = digest("nobody");
    for (int i = 0; i < 5; i++)
        assert_int_equal(lr_sem_label(sem, &k, 9, 0.95f, i != 2), 0);
    assert_int_equal(lr_sem_label(sem, &nobody, 9, 0.95f, true), LR_ENOENT);
    find_at("p", NULL, 1, "How do plants grow?", 0, 0, f);
    assert_int_equal(f[0].seen.n, 5);
    lr_sem_bound(sem, 0, &b);
    assert_int_equal(b.right[60], 4);
    assert_int_equal(b.wrong[60], 1);
    /* The same question again: a fresh answer, the old labels. */
    put("k", "p", 1, "How do plants grow?", 0);
    assert_int_equal(find_at("p", NULL, 1, "How do plants grow?", 0, 0, f), 1);
    assert_int_equal(f[0].seen.n, 5);
}

static void probation_ends_with_agreement(void **s)
{
    (void)s;
    tear_down(s);
    open_with(&(struct lr_sem_opts){.dim = DIM, .secret = SECRET, .probation = 2});
    struct prepared p;
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    struct lr_sem_note note = note_of("k", "p", 1);
    struct lr_digest k = digest("k");
    struct lr_sem_ask ask = {
        .partition = digest("p"), .tenant = 1, .writer = 6, .floor = 0.5f, .k = 4};
    size_t n;
    note.writer = 5;
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, "How do plants grow?", 0, 0)), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lr_sem_find(sem, reader, &ask, &p.q, &arena, f, &n), 0);
        assert_string_equal(f[0].gate, "probation");
        assert_int_equal(lr_sem_label(sem, &k, 5, 0.9f, true), 0); /* the writer's own praise */
        assert_int_equal(lr_sem_label(sem, &k, 6, 0.9f, true), 0);
    }
    assert_int_equal(lr_sem_find(sem, reader, &ask, &p.q, &arena, f, &n), 0);
    assert_null(f[0].gate);
    ask.writer = 5;
    assert_int_equal(lr_sem_find(sem, reader, &ask, &p.q, &arena, f, &n), 0);
    assert_null(f[0].gate);
}

static void a_category_over_its_share_evicts_its_own(void **s)
{
    (void)s;
    tear_down(s);
    struct lr_sem_opts o = {.dim = DIM, .secret = SECRET, .bytes_max = 100000, .share = {0, 0.2}};
    open_with(&o);
    char key[16], text[64];
    struct prepared p;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "a%u", i);
        snprintf(text, sizeof text, "Question %u of %u", i, i * i);
        put(key, "p", 1, text, i);
    }
    struct lr_sem_stats before, after;
    lr_sem_stats(sem, &before);
    assert_int_equal(before.evicted, 0);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "b%u", i);
        snprintf(text, sizeof text, "Other words %u, times %u", i, i * 31);
        struct lr_sem_note note = note_of(key, "p", 1);
        note.category = 1;
        note.writer = i + 1;
        assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, text, i, 0)), 0);
    }
    lr_sem_stats(sem, &after);
    assert_true(after.evicted > 100);
    assert_true(after.bytes <= o.bytes_max);
    for (unsigned i = 0; i < 20; i++) { /* nobody of the other category was pushed out */
        snprintf(key, sizeof key, "a%u", i);
        struct lr_digest d = digest(key);
        assert_int_equal(lr_sem_del(sem, &d), 0);
    }
}

static void a_flood_of_near_duplicates_is_denied(void **s)
{
    (void)s;
    char key[16], text[96];
    struct prepared p;
    int denied = 0;
    for (unsigned i = 0; i < 30; i++) {
        snprintf(key, sizeof key, "f%u", i);
        snprintf(text, sizeof text,
                 "please tell me all about the wonderful offer of the shop on the corner x%c",
                 'a' + (char)(i % 26));
        struct lr_sem_note note = note_of(key, "p", 1);
        note.writer = 5;
        int rc = lr_sem_put(sem, &note, ask_for(&p, text, i, 0));
        assert_true(rc == 0 || rc == LR_EDENIED);
        denied += rc != 0;
    }
    assert_true(denied >= 20);
    struct lr_sem_note note = note_of("other", "p", 1);
    note.writer = 6; /* somebody else may */
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, text, 1, 0)), 0);
    note = note_of("later", "p", 1);
    note.writer = 5;
    note.now_ms = 1000 + 2 * 3600 * 1000; /* and the flood is forgotten */
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, text, 1, 0)), 0);
}

static void saved_entries_come_back_as_they_were(void **s)
{
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    struct lr_buf bytes[40];
    struct lr_digest zero = {{0}};
    char key[16], text[64];
    for (unsigned i = 0; i < 40; i++) { /* of a young partition and of one with an index */
        snprintf(key, sizeof key, "k%u", i);
        snprintf(text, sizeof text, "What is topic number %u about?", i);
        put(key, i < 5 ? "young" : "old", 3, text, i);
        struct lr_digest d = digest(key);
        for (unsigned k = 0; k < i % 20; k++)
            assert_int_equal(lr_sem_label(sem, &d, k, 0.9f + 0.001f * (float)k, k % 3), 0);
        lr_buf_init(&bytes[i], LR_KIB(64));
        assert_int_equal(lr_sem_save(sem, &d, &bytes[i]), 0);
    }
    assert_int_equal(lr_sem_save(sem, &zero, &bytes[0]), LR_ENOENT);
    tear_down(s);
    set_up(s);
    struct prepared p;
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(lr_sem_load(sem, lr_buf_str(&bytes[i]), prepare, &p), 0);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%u", i);
        snprintf(text, sizeof text, "What is topic number %u about?", i);
        struct lr_digest d = digest(key);
        size_t n = find_at(i < 5 ? "young" : "old", &zero, 3, text, i, 0, f), k = 0;
        while (k < n && !lr_digest_eq(&f[k].key, &d))
            k++;
        if (k < n) { /* others lie in the same direction */
            assert_true(lr_str_is(f[k].text, text) && !f[k].gate && f[k].sim > 0.999f);
            assert_int_equal(f[k].seen.n, i % 20 < LR_BOUND_SEEN ? i % 20 : LR_BOUND_SEEN);
        }
        struct lr_buf again; /* and saved once more: the same bytes */
        lr_buf_init(&again, LR_KIB(64));
        assert_int_equal(lr_sem_save(sem, &d, &again), 0);
        assert_int_equal(again.len, bytes[i].len);
        lr_buf_free(&again);
    }
    /* Any flipped bit is damage, and changes nothing. */
    struct lr_sem_stats before, after;
    lr_sem_stats(sem, &before);
    for (size_t bit = 0; bit < 8 * bytes[7].len; bit += 3) {
        bytes[7].p[bit / 8] = (char)(bytes[7].p[bit / 8] ^ 1 << bit % 8);
        int rc = lr_sem_load(sem, lr_buf_str(&bytes[7]), prepare, &p);
        assert_true(rc == LR_ECORRUPT || rc == LR_EVERSION);
        bytes[7].p[bit / 8] = (char)(bytes[7].p[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t n = 0; n < bytes[7].len; n++)
        assert_int_equal(lr_sem_load(sem, lr_str(bytes[7].p, n), prepare, &p), LR_ECORRUPT);
    lr_sem_stats(sem, &after);
    assert_memory_equal(&before, &after, sizeof before);
    for (unsigned i = 0; i < 40; i++)
        lr_buf_free(&bytes[i]);
}

/* Vectors of another encoder are not used: the loader makes them anew. */
static void another_encoder_makes_its_own_vectors(void **s)
{
    struct lr_buf bytes;
    struct lr_sem_found f[LR_SEM_FOUND_MAX];
    struct lr_digest k = digest("k");
    struct prepared p;
    put("k", "p", 1, "How do plants grow?", 5);
    lr_buf_init(&bytes, LR_KIB(64));
    assert_int_equal(lr_sem_save(sem, &k, &bytes), 0);
    tear_down(s);
    open_with(&(struct lr_sem_opts){.dim = DIM, .secret = SECRET, .encoder = {1}});
    assert_int_equal(lr_sem_load(sem, lr_buf_str(&bytes), prepare, &p), 0); /* prepare: topic 0 */
    assert_int_equal(find_at("p", NULL, 1, "How do plants grow?", 5, 0, f), 0);
    assert_int_equal(find_at("p", NULL, 1, "How do plants grow?", 0, 0, f), 1);
    lr_buf_free(&bytes);
}

static void what_may_not_be_shared_is_not_taken(void **s)
{
    (void)s;
    struct prepared p;
    struct lr_sem_note note = note_of("k", "p", 1);
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, "What is the weather today?", 0, 0)),
                     LR_EINVAL);
    note.category = LR_SEM_CATEGORIES;
    assert_int_equal(lr_sem_put(sem, &note, ask_for(&p, "What is a prime?", 0, 0)), LR_EINVAL);
}

static void every_failed_allocation_leaves_it_whole(void **s)
{
    (void)s;
    for (unsigned at = 1; at < 4000; at++) {
        char key[16], text[64];
        struct lr_sem *one;
        struct lr_sem_reader *r = NULL;
        struct prepared p;
        struct lr_sem_opts o = {.dim = DIM, .secret = SECRET};
        lr_fault_arm(at);
        if (lr_sem_open(&one, &o)) {
            lr_fault_arm(0);
            continue;
        }
        (void)lr_sem_reader_open(one, &r);
        for (unsigned i = 0; i < 40; i++) {
            snprintf(key, sizeof key, "k%u", i);
            snprintf(text, sizeof text, "What is topic number %u about?", i);
            struct lr_sem_note note = note_of(key, "p", 1);
            note.writer = i;
            (void)lr_sem_put(one, &note, ask_for(&p, text, i, 0));
        }
        for (unsigned i = 0; i < 40; i++) {
            snprintf(key, sizeof key, "k%u", i);
            struct lr_digest d = digest(key);
            (void)lr_sem_del(one, &d);
        }
        struct lr_sem_stats st;
        lr_sem_stats(one, &st);
        assert_int_equal(st.entries, 0);
        assert_int_equal(st.bytes, 0);
        bool over = lr_fault_seen() < at;
        lr_fault_arm(0);
        lr_sem_reader_close(r);
        lr_sem_close(one);
        if (over)
            return;
    }
    fail_msg("still failing");
}

/* ---- threads ---- */

struct worker {
    uint64_t seed;
    bool writes;
    int failed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct lr_rng rng;
    struct lr_arena a;
    struct lr_sem_reader *r;
    lr_rng_seed(&rng, w->seed);
    lr_arena_init(&a, LR_MIB(1));
    w->failed = lr_sem_reader_open(sem, &r) != 0;
    for (int i = 0; i < 600 && !w->failed; i++) {
        unsigned id = (unsigned)lr_rng_below(&rng, 80);
        uint64_t tenant = 1 + id % 2;
        char key[16], text[64];
        struct prepared p;
        snprintf(key, sizeof key, "k%u", id);
        snprintf(text, sizeof text, "What is topic number %u about?", id);
        struct lr_sem_note note = note_of(key, "p", tenant);
        note.writer = w->seed * 1000 + (uint64_t)i;
        const struct lr_sem_question *q = ask_for(&p, text, id, 0);
        if (w->writes && lr_rng_below(&rng, 3) == 0) {
            (void)lr_sem_del(sem, &note.key);
        } else if (w->writes) {
            int rc = lr_sem_put(sem, &note, q);
            w->failed += rc && rc != LR_EEXIST;
        } else {
            struct lr_sem_found f[LR_SEM_FOUND_MAX];
            size_t n = 0;
            struct lr_sem_ask ask = {
                .partition = note.partition, .tenant = tenant, .floor = 0.9f, .k = 8};
            w->failed += lr_sem_find(sem, r, &ask, q, &a, f, &n) != 0;
            for (size_t k = 0; k < n; k++) {
                w->failed += !(f[k].sim >= 0.89f);
                (void)lr_sem_label(sem, &f[k].key, 1, f[k].sim, true);
            }
            lr_arena_reset(&a);
        }
    }
    lr_sem_reader_close(r);
    lr_arena_free(&a);
    return NULL;
}

static void readers_and_writers_of_two_tenants(void **s)
{
    (void)s;
    pthread_t t[5];
    struct worker w[5];
    for (unsigned i = 0; i < 5; i++) {
        w[i] = (struct worker){.seed = i + 1, .writes = i < 2};
        assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < 5; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(w[i].failed, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tenants_and_partitions_never_meet, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gates_are_named_and_come_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(growing_an_index_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_follow_up_stands_on_the_entry_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(follow_ups_of_different_parents_never_meet, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_bad_entry_goes_and_its_neighbours_are_doubted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(labels_teach_entry_and_category, set_up, tear_down),
        cmocka_unit_test_setup_teardown(probation_ends_with_agreement, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_category_over_its_share_evicts_its_own, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_near_duplicates_is_denied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(saved_entries_come_back_as_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_encoder_makes_its_own_vectors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_may_not_be_shared_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_and_writers_of_two_tenants, set_up, tear_down),
        cmocka_unit_test(every_failed_allocation_leaves_it_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
