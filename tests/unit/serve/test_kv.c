/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/serve/test_kv.c - the KV store's operator side, in process: keys, samples, rows, each of the
 * doctor's diagnoses, bodies, quotas on disk. Arguments: [seed].
 */
#include "serve/kv_admin.h"
#include "serve/serve_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static uint64_t seed = 1;

/* ---- keys ---- */

static void keys_of_both_modes_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model, *hash, *dtype, *tag;
        enum lr_kv_shape shape;
        enum lr_kv_half half;
        uint32_t world, rank;
        bool layered;
    } all[] = {
        {"m@2@1@1b87@half", "m", "1b87", "half", "", LR_KV_ENGINE, LR_KV_WHOLE, 2, 1, false},
        {"a/b-8B@1@0@-1b87@bfloat16kv_bytes", "a/b-8B", "-1b87", "bfloat16", "", LR_KV_ENGINE, LR_KV_BYTES, 1,
         0, false},
        {"m@1@0@ff@fp8_e4m3fnmetadata", "m", "ff", "fp8_e4m3fn", "", LR_KV_ENGINE, LR_KV_META, 1, 0, false},
        {"m@1@0@ff@half@17", "m", "ff", "half", "", LR_KV_ENGINE, LR_KV_WHOLE, 1, 0, true},
        {"m@1@0@ff@half@17@user%a@x%y", "m", "ff", "half", "user%a@x%y", LR_KV_ENGINE, LR_KV_WHOLE, 1, 0, true},
        {"m@1@0@ff@half@user%akv_bytes", "m", "ff", "half", "user%a", LR_KV_ENGINE, LR_KV_BYTES, 1, 0, false},
        {"m@kv_rank_04030201@object_group_id_0@ab12", "m", "ab12", "", "", LR_KV_MP, LR_KV_WHOLE, 4, 3, false},
        {"m@kv_rank_01000100@ab12", "m", "ab12", "", "", LR_KV_MP, LR_KV_WHOLE, 1, 0, false},
        {"m@kv_rank_01000100@object_group_id_1f@ab12@s-1", "m", "ab12", "", "s-1", LR_KV_MP, LR_KV_WHOLE, 1, 0,
         false},
    };
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        struct lr_kv_key k;
        lr_kv_key_read(lr_strz(all[i].name), &k);
        if (k.shape != all[i].shape || k.half != all[i].half || k.world != all[i].world ||
            k.rank != all[i].rank || k.layered != all[i].layered || !lr_str_is(k.model, all[i].model) ||
            !lr_str_is(k.hash, all[i].hash) || !lr_str_is(k.dtype, all[i].dtype) ||
            !lr_str_is(k.tag, all[i].tag))
            fail_msg("misread: %s", all[i].name);
    }
}

static void what_is_no_key_of_lmcache_is_nobodys_business(void **state)
{
    (void)state;
    static const char *const all[] = {"", "@", "@@@@", "key:1", "user@host", "m@1@0@zz@half", "m@1@0@@half",
                                      "m@x@0@ff@half", "m@1@0@ff", "m@1@0@ff@", "m@kv_rank_@ff",
                                      "m@kv_rank_010203040@ff", "m@kv_rank_01020304@", "@1@0@ff@half",
                                      "m@kv_rank_01020304@object_group_id_0", "m@1@0@ff@averyveryverylongtype",
                                      "m@99999999999@0@ff@half", "m@1@0@-@half"};
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        struct lr_kv_key k;
        lr_kv_key_read(lr_strz(all[i]), &k);
        if (k.shape)
            fail_msg("taken: %s", all[i]);
    }
}

/* ---- samples ---- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void a_sample_is_the_least_of_what_came(void **state)
{
    (void)state;
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    for (int round = 0; round < 50; round++) {
        static uint64_t all[2000];
        struct lr_kv_sketch s = {.n = 0};
        size_t n = 1 + lr_rng_below(&r, 2000), kept = 0;
        for (size_t i = 0; i < n; i++) {
            all[i] = lr_rng_below(&r, 3 * n); /* with repeats */
            lr_kv_sketch_add(&s, all[i]);
        }
        qsort(all, n, sizeof all[0], by_value);
        for (size_t i = 0; i < n && kept < LR_KV_SKETCH; i++)
            if (!i || all[i] != all[i - 1])
                assert_int_equal(s.v[kept++], all[i]);
        assert_int_equal(s.n, kept);
    }
}

static void samples_of_sets_that_meet_meet(void **state)
{
    (void)state;
    struct lr_kv_sketch a = {.n = 0}, b = {.n = 0}, c = {.n = 0}, few = {.n = 0};
    uint32_t of;
    for (uint64_t i = 0; i < 5000; i++) {
        lr_kv_sketch_add(&a, lr_hash64(lr_str(&i, 8), 0));
        lr_kv_sketch_add(&b, lr_hash64(lr_str(&i, 8), i < 2500 ? 0 : 1)); /* half of a's */
        lr_kv_sketch_add(&c, lr_hash64(lr_str(&i, 8), 2));
        if (i < 100)
            lr_kv_sketch_add(&few, lr_hash64(lr_str(&i, 8), 0));
    }
    assert_int_equal(lr_kv_sketch_common(&a, &a, &of), LR_KV_SKETCH);
    assert_int_equal(of, LR_KV_SKETCH);
    uint32_t half = lr_kv_sketch_common(&a, &b, &of);
    assert_true(half > LR_KV_SKETCH / 4 && half < LR_KV_SKETCH * 3 / 4 && of > LR_KV_SKETCH / 2);
    assert_int_equal(lr_kv_sketch_common(&a, &c, &of), 0);
    assert_true(of > LR_KV_SKETCH / 2);
    uint32_t some = lr_kv_sketch_common(&a, &few, &of); /* all that few has below a's horizon */
    assert_int_equal(some, of);
    assert_true(of < 16);
}

/* ---- diagnoses: clients as LMCache would have them ---- */

struct who {
    uint64_t tenant;
    const char *space, *address, *name;
    uint64_t opened_ms;
};

struct play {
    struct lr_kv_watch *watch;
    struct lr_kv_row rows[LR_KV_ROWS];
    uint32_t client[LR_KV_ROWS];
    struct lr_kv_finding found[LR_KV_FINDINGS];
    size_t n, n_rows;
};

static struct play *play_new(void)
{
    struct play *p = calloc(1, sizeof *p);
    assert_int_equal(lr_kv_watch_open(&p->watch), 0);
    return p;
}

static void play_free(struct play *p)
{
    lr_kv_watch_close(p->watch);
    free(p);
}

static void saw(struct play *p, const struct who *w, enum lr_kv_op op, const char *key, uint64_t size, bool good,
                struct lr_str value)
{
    struct lr_kv_key k;
    lr_kv_key_read(lr_strz(key), &k);
    assert_true(k.shape);
    struct lr_kv_seen s = {.op = op,
                           .good = good,
                           .size = size,
                           .value = value,
                           .tenant = w->tenant ? w->tenant : 7,
                           .space = lr_strz(w->space ? w->space : "0"),
                           .address = lr_strz(w->address ? w->address : "10.0.0.1"),
                           .name = lr_strz(w->name ? w->name : ""),
                           .library = LR_STR(""),
                           .opened_ms = w->opened_ms};
    lr_kv_watch_saw(p->watch, &s, &k, w->opened_ms + 5);
}

/* Asks for and sends chunks [from, to); format has the hash as %llx. */
static void talk(struct play *p, const struct who *w, const char *before, const char *after, uint64_t salt,
                 unsigned from, unsigned to, uint64_t size)
{
    for (uint64_t i = from; i < to; i++) {
        char key[200];
        unsigned long long hash = (unsigned long long)lr_hash64(lr_str(&i, 8), salt);
        snprintf(key, sizeof key, "%s%llx%s", before, hash, after);
        saw(p, w, LR_KV_EXISTS, key, 0, false, lr_str("", 0));
        saw(p, w, LR_KV_SET, key, size, true, lr_str("", 0));
    }
}

static void diagnose(struct play *p)
{
    uint64_t forgotten;
    p->n_rows = lr_kv_watch_rows(p->watch, p->rows, &forgotten);
    p->n = lr_kv_diagnose(p->rows, p->n_rows, p->client, p->found, LR_KV_FINDINGS);
}

/* One finding, this one. */
static void only(struct play *p, enum lr_kv_reason reason, bool sure)
{
    diagnose(p);
    if (p->n != 1 || p->found[0].reason != reason || p->found[0].sure != sure)
        fail_msg("%zu findings, the first: %s, %s", p->n, p->n ? lr_kv_reason_name(p->found[0].reason) : "-",
                 p->n && p->found[0].sure ? "sure" : "likely");
    assert_true(strlen(lr_kv_reason_fix(reason)) > 20);
    play_free(p);
}

static void nothing(struct play *p)
{
    diagnose(p);
    if (p->n)
        fail_msg("found: %s (%s)", lr_kv_reason_name(p->found[0].reason), p->found[0].detail);
    play_free(p);
}

static const struct who one = {.address = "10.0.0.1", .opened_ms = 1000},
                        two = {.address = "10.0.0.2", .opened_ms = 9000};

static void clients_that_share_are_well(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 500, 100);
    talk(p, &two, "m@1@0@", "@half", 1, 250, 700, 100);
    nothing(p);
}

static void ranks_and_models_are_no_findings(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@2@0@", "@half", 1, 0, 100, 100);
    talk(p, &one, "m@2@1@", "@half", 2, 0, 100, 100);
    talk(p, &two, "m@2@1@", "@half", 2, 50, 150, 100);
    talk(p, &two, "other@1@0@", "@half", 3, 0, 100, 100);
    nothing(p);
}

static void few_chunks_accuse_nobody(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 12, 100);
    talk(p, &two, "m@1@0@", "@half", 2, 0, 12, 100);
    nothing(p);
}

static void an_unstable_seed_is_likely(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
    talk(p, &two, "m@1@0@", "@half", 2, 0, 100, 100);
    only(p, LR_KV_SEED, false);
}

static void a_restart_with_another_seed_shows(void **state)
{
    (void)state;
    struct play *p = play_new();
    struct who again = one;
    again.opened_ms = 60000;
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
    talk(p, &again, "m@1@0@", "@half", 2, 0, 100, 100);
    only(p, LR_KV_SEED, false);
}

static void a_pool_that_grew_is_one_client(void **state)
{
    (void)state;
    struct play *p = play_new();
    struct who later = one;
    later.opened_ms = 60000;
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
    talk(p, &later, "m@1@0@", "@half", 1, 99, 200, 100); /* one chunk in common */
    diagnose(p);
    assert_int_equal(p->n_rows, 2);
    assert_int_equal(p->client[0], p->client[1]);
    nothing(p);
}

static void other_chunk_sizes_are_told_by_bytes(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 1 << 20);
    talk(p, &two, "m@1@0@", "@half", 2, 0, 100, 1 << 22);
    only(p, LR_KV_CHUNK, false);
}

static void other_chunk_sizes_are_told_by_metadata(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@halfkv_bytes", 1, 0, 50, 4096);
    talk(p, &two, "m@1@0@", "@halfkv_bytes", 2, 0, 50, 4096); /* compressed, say: bytes tell nothing */
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t meta[7] = {4096, 1, 2, 2, 32, i < 50 ? 256 : 512, 1024};
        uint64_t n = i % 50;
        char key[80];
        snprintf(key, sizeof key, "m@1@0@%llx@halfmetadata",
                 (unsigned long long)lr_hash64(lr_str(&n, 8), i < 50 ? 1 : 2));
        saw(p, i < 50 ? &one : &two, LR_KV_SET, key, 28, true, lr_str(meta, 28));
    }
    diagnose(p);
    assert_int_equal(p->rows[0].tokens, 256);
    only(p, LR_KV_CHUNK, false);
}

static void another_algorithm_is_told_by_its_width(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
    talk(p, &two, "m@1@0@00000000000000000000000000000000", "@half", 2, 0, 100, 100);
    only(p, LR_KV_HASH, false);
}

static void what_keeps_equal_chunks_apart_is_sure(void **state)
{
    (void)state;
    static const struct {
        enum lr_kv_reason reason;
        struct who other;
        const char *before, *after;
    } all[] = {
        {LR_KV_TENANT, {.tenant = 8, .address = "10.0.0.2", .opened_ms = 9000}, "m@1@0@", "@half"},
        {LR_KV_NAMESPACE, {.space = "1", .address = "10.0.0.2", .opened_ms = 9000}, "m@1@0@", "@half"},
        {LR_KV_WORLD, {.address = "10.0.0.2", .opened_ms = 9000}, "m@2@0@", "@half"},
        {LR_KV_DTYPE, {.address = "10.0.0.2", .opened_ms = 9000}, "m@1@0@", "@bfloat16"},
        {LR_KV_TAG, {.address = "10.0.0.2", .opened_ms = 9000}, "m@1@0@", "@half@user%a"},
        {LR_KV_FORM, {.address = "10.0.0.2", .opened_ms = 9000}, "m@1@0@", "@half@3"},
    };
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        struct play *p = play_new();
        talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
        talk(p, &all[i].other, all[i].before, all[i].after, 1, 0, 100, 100);
        only(p, all[i].reason, true);
    }
    struct play *p = play_new();
    talk(p, &one, "m@kv_rank_01000100@object_group_id_0@", "", 1, 0, 100, 100);
    talk(p, &two, "m@kv_rank_01000100@object_group_id_0@", "@salt", 1, 0, 100, 100);
    only(p, LR_KV_TAG, true);
}

static void the_two_modes_never_share(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
    talk(p, &two, "m@kv_rank_01000100@object_group_id_0@", "", 2, 0, 100, 100);
    only(p, LR_KV_FORM, false);
}

static void tenants_with_other_prompts_are_as_meant(void **state)
{
    (void)state;
    struct play *p = play_new();
    struct who other = two;
    other.tenant = 8;
    talk(p, &one, "m@1@0@", "@half", 1, 0, 100, 100);
    talk(p, &other, "m@1@0@", "@half", 1, 1000, 1100, 100);
    diagnose(p);
    for (size_t i = 0; i < p->n; i++)
        assert_int_not_equal(p->found[i].reason, LR_KV_TENANT);
    play_free(p);
}

static void halves_of_pairs_are_counted(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@halfkv_bytes", 1, 0, 100, 100);
    talk(p, &one, "m@1@0@", "@halfmetadata", 1, 0, 60, 28);
    diagnose(p);
    assert_int_equal(p->found[0].n, 40);
    only(p, LR_KV_HALVES, true);
}

static void values_that_were_not_kept_are_counted(void **state)
{
    (void)state;
    struct play *p = play_new();
    talk(p, &one, "m@1@0@", "@half", 1, 0, 20, 100);
    for (int i = 0; i < 5; i++)
        saw(p, &one, LR_KV_SET, "m@1@0@abcd@half", 1 << 30, false, lr_str("", 0));
    only(p, LR_KV_DROPPED, true);
}

static void many_pairs_of_one_reason_are_one_finding(void **state)
{
    (void)state;
    struct play *p = play_new();
    for (unsigned i = 0; i < 20; i++) {
        char address[20];
        snprintf(address, sizeof address, "10.0.1.%u", i);
        struct who w = {.address = address, .opened_ms = 1000 + 10000 * i};
        talk(p, &w, "m@1@0@", "@half", 100 + i, 0, 40, 100);
    }
    diagnose(p);
    assert_int_equal(p->found[0].pairs, 190);
    only(p, LR_KV_SEED, false);
}

static void rows_are_bounded_and_the_silent_give_way(void **state)
{
    (void)state;
    struct play *p = play_new();
    uint64_t seen, forgotten;
    for (unsigned i = 0; i < LR_KV_ROWS + 100; i++) {
        char address[20];
        snprintf(address, sizeof address, "10.0.%u.%u", i / 200, i % 200);
        struct who w = {.address = address, .opened_ms = 1000 + 10 * i};
        saw(p, &w, LR_KV_GET, "m@1@0@ab@half", 0, i % 2, lr_str("", 0));
    }
    assert_int_equal(lr_kv_watch_count(p->watch, &seen, &forgotten), LR_KV_ROWS);
    assert_int_equal(forgotten, 100);
    assert_int_equal(seen, LR_KV_ROWS + 100);
    diagnose(p);
    for (size_t i = 0; i < p->n_rows; i++)
        assert_string_not_equal(p->rows[i].address, "10.0.0.0");
    play_free(p);
}

/* ---- bodies ---- */

#define ALL "tenant namespace keys ids tokens block model rank group salt ttl to bytes all dry_run"

static int read_body(struct lr_arena *a, const char *text, const char *known, struct lr_kv_ask *ask,
                     struct lr_err *err)
{
    struct lr_json *o;
    *err = (struct lr_err){0};
    assert_int_equal(lr_json_parse(a, lr_strz(text), NULL, &o, NULL), 0);
    return lr_kv_ask_read(a, o, known, ask, err);
}

static void a_good_body_is_read(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_kv_ask k;
    struct lr_err err;
    lr_arena_init(&a, LR_MIB(4));
    assert_int_equal(read_body(&a, "{\"tenant\":\"t\",\"namespace\":\"u/3\",\"keys\":[\"a\",\"\"],\"ttl\":\"2h\","
                                   "\"to\":\"out\",\"bytes\":\"8G\",\"all\":true,\"rank\":\"02010201\"}",
                               ALL, &k, &err), 0);
    assert_true(lr_str_is(k.tenant, "t") && lr_str_is(k.space, "u/3") && k.n == 2 && k.all && k.has_bytes);
    assert_int_equal(k.ttl_ms, 7200000);
    assert_int_equal(k.to, LR_PLACE_OUT);
    assert_int_equal(k.bytes, LR_GIB(8));
    assert_int_equal(k.rank, 0x02010201);
    assert_int_equal(k.block, 256);
    lr_arena_free(&a);
}

static void a_hostile_body_is_one_sentence(void **state)
{
    (void)state;
    static const char *const all[] = {
        "{\"kees\":[]}", "{\"keys\":[]}", "{\"keys\":\"a\"}", "{\"keys\":[1]}", "{\"keys\":[\"a\"],\"ids\":[]}",
        "{\"ids\":[\"ab\"]}", "{\"ids\":[\"zz00000000000000000000000000000000000000000000000000000000000000\"]}",
        "{\"tokens\":[-1]}", "{\"tokens\":[4294967296]}", "{\"tokens\":[1.5]}", "{\"block\":0}", "{\"ttl\":0}",
        "{\"ttl\":\"900y\"}", "{\"ttl\":99999999999}", "{\"to\":\"moon\"}", "{\"bytes\":-1}", "{\"bytes\":null}",
        "{\"all\":1}", "{\"rank\":\"1\"}", "{\"model\":\"\"}", "{\"tenant\":\"\"}", "{\"namespace\":\"\"}"};
    struct lr_arena a;
    struct lr_kv_ask k;
    struct lr_err err;
    lr_arena_init(&a, LR_MIB(4));
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (read_body(&a, all[i], ALL, &k, &err) != LR_EINVAL || !err.msg[0])
            fail_msg("taken: %s", all[i]);
    assert_int_equal(read_body(&a, "{\"bytes\":1}", "tenant keys", &k, &err), LR_EINVAL); /* not this verb's */
    assert_non_null(strstr(err.msg, "tenant keys"));
    lr_arena_free(&a);
}

/* The links are those of the store's chain, whose vectors unit_store_parts checks. */
static void tokens_become_keys_of_the_multi_process_mode(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_kv_ask k;
    struct lr_err err;
    struct lr_digest links[2];
    char hex[65], want[200];
    const uint32_t tokens[] = {1, 2, 3, 4, 5};
    lr_arena_init(&a, LR_MIB(4));
    assert_int_equal(read_body(&a, "{\"tokens\":[1,2,3,4,5],\"block\":2,\"model\":\"m\",\"salt\":\"s\"}", ALL, &k,
                               &err), 0);
    assert_int_equal(lr_kv_ask_chain(&a, &k), 0);
    assert_int_equal(k.n, 2);
    lr_chain_keys(lr_str("", 0), tokens, 5, 2, links, 2);
    lr_hex(links[1].b, 32, hex);
    snprintf(want, sizeof want, "m@kv_rank_01000100@object_group_id_0@%s@s", hex);
    assert_true(lr_str_is(k.keys[1], want));
    lr_arena_free(&a);
}

/* ---- quotas ---- */

static void quotas_survive_and_a_spoilt_file_is_no_start(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-kv-XXXXXX", path[64];
    struct lr_store *s;
    struct lr_kv_desk *d;
    struct lr_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/kv-quotas", dir);
    assert_int_equal(lr_store_open(&s, &(struct lr_store_opts){.mem_max = LR_MIB(1)}, NULL), 0);
    assert_int_equal(lr_kv_desk_open(&d, dir, s, &err), 0);
    for (uint64_t t = 1; t <= 3; t++)
        assert_int_equal(lr_kv_desk_quota(d, t, 1000 * t), 0);
    assert_int_equal(lr_kv_desk_quota(d, 1, 0), 0);
    assert_int_equal(lr_kv_desk_quota(d, 3, 5000), 0);
    lr_fault_arm(1);
    assert_int_not_equal(lr_kv_desk_quota(d, 2, 77), 0); /* not written: not so */
    lr_fault_arm(1);
    assert_int_not_equal(lr_kv_desk_quota(d, 9, 77), 0);
    lr_fault_arm(0);
    assert_int_equal(lr_kv_desk_quotas(d), 2);
    lr_kv_desk_close(d);
    lr_store_close(s);

    assert_int_equal(lr_store_open(&s, &(struct lr_store_opts){.mem_max = LR_MIB(1)}, NULL), 0);
    assert_int_equal(lr_kv_desk_open(&d, dir, s, &err), 0);
    assert_int_equal(lr_kv_desk_quotas(d), 2);
    for (uint64_t t = 1; t <= 3; t++) {
        struct lr_object o = {.kind = LR_OBJECT_OPAQUE, .tenant = t, .space = LR_STR("0"), .name = LR_STR("x"),
                              .payload = 3000};
        static char value[3000];
        lr_store_id_opaque(t, o.space, o.name, &o.id);
        assert_int_equal(lr_store_put(s, &o, &(struct lr_piece){0, value, 3000}, 1, false, 0, 0),
                         t == 2 ? LR_EOVER : 0);
    }
    lr_kv_desk_close(d);
    static const char *const bad[] = {"{", "{\"version\":2,\"quotas\":[]}", "{\"version\":1}",
                                      "{\"version\":1,\"quotas\":[{\"tenant\":\"xx\",\"bytes\":1}]}"};
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        err = (struct lr_err){0};
        assert_int_equal(lr_io_write_file(path, lr_strz(bad[i]), 0600), 0);
        assert_int_not_equal(lr_kv_desk_open(&d, dir, s, &err), 0);
        assert_true(err.msg[0] && err.where[0]);
    }
    lr_store_close(s);
    unlink(path);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_both_modes_are_taken_apart),
        cmocka_unit_test(what_is_no_key_of_lmcache_is_nobodys_business),
        cmocka_unit_test(a_sample_is_the_least_of_what_came),
        cmocka_unit_test(samples_of_sets_that_meet_meet),
        cmocka_unit_test(clients_that_share_are_well),
        cmocka_unit_test(ranks_and_models_are_no_findings),
        cmocka_unit_test(few_chunks_accuse_nobody),
        cmocka_unit_test(an_unstable_seed_is_likely),
        cmocka_unit_test(a_restart_with_another_seed_shows),
        cmocka_unit_test(a_pool_that_grew_is_one_client),
        cmocka_unit_test(other_chunk_sizes_are_told_by_bytes),
        cmocka_unit_test(other_chunk_sizes_are_told_by_metadata),
        cmocka_unit_test(another_algorithm_is_told_by_its_width),
        cmocka_unit_test(what_keeps_equal_chunks_apart_is_sure),
        cmocka_unit_test(the_two_modes_never_share),
        cmocka_unit_test(tenants_with_other_prompts_are_as_meant),
        cmocka_unit_test(halves_of_pairs_are_counted),
        cmocka_unit_test(values_that_were_not_kept_are_counted),
        cmocka_unit_test(many_pairs_of_one_reason_are_one_finding),
        cmocka_unit_test(rows_are_bounded_and_the_silent_give_way),
        cmocka_unit_test(a_good_body_is_read),
        cmocka_unit_test(a_hostile_body_is_one_sentence),
        cmocka_unit_test(tokens_become_keys_of_the_multi_process_mode),
        cmocka_unit_test(quotas_survive_and_a_spoilt_file_is_no_start),
    };
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
