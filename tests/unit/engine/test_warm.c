/* SPDX-License-Identifier: Apache-2.0
 * unit/engine/test_warm.c - the warm start: a reply is the same whether its prompt was computed here, a
 * moment ago, before a restart, or in part; and nobody gets rows that are not theirs.
 *
 * The twin is always the same question asked of a scheduler without a store.
 */
#include "engine/engine_int.h"
#include "engine_kit.h"

#include <dirent.h>
#include <pthread.h>

#define MAX_PROMPT 1300u
#define CONTEXT    1600u

static struct {
    struct lr_engine_model *m;
    struct lr_nn_tok *tok;
    struct lr_engine_template tmpl;
} house;

/* ---- rows as bytes ---- */

static void feed(struct lr_engine_seq *s, const uint32_t *ids, size_t n, float *logits)
{
    OK(lr_engine_feed(s, ids, n, logits, NULL, &kit_err));
}

/* One model: all boundaries of its chunks, by way of bytes, into another engine. */
static void check_model(struct spec spec, const char *codec)
{
    enum { BLOCKS = 3, TOKENS = BLOCKS * 256 + 37 };
    struct lr_engine_model *m = kit_model(spec, 77);
    struct lr_engine *a = kit_engine(m, 1, codec), *b = kit_engine(m, 1, codec);
    const struct lr_engine_shape *h = lr_engine_model_shape(m);
    uint32_t ids[TOKENS];
    float *want = calloc(h->n_vocab, sizeof *want), *got = calloc(h->n_vocab, sizeof *got);
    struct lr_engine_seq *cold = kit_seq(a), *twin;
    kit_tokens(ids, TOKENS, h->n_vocab, 5);
    feed(cold, ids, TOKENS, want);
    size_t layer = (size_t)256 * h->n_kv * (cold->lay.k_bytes + cold->lay.v_bytes);
    uint8_t *bytes = malloc(layer * h->n_layer * BLOCKS);
    OK(lr_engine_seq_lend(&twin, cold, 0, BLOCKS));
    for (uint32_t i = 0; i < BLOCKS * h->n_layer; i++)
        lr_engine_chunk_get(twin, i / h->n_layer, i % h->n_layer, bytes + i * layer);
    lr_engine_seq_close(cold);
    lr_engine_seq_close(twin);
    for (uint32_t n = 1; n <= BLOCKS; n++)
        for (uint32_t less = 0; less < 2; less++) {
            struct lr_engine_seq *warm = kit_seq(b);
            OK(lr_engine_rows_raw(warm, n * 256));
            for (uint32_t i = 0; i < n * h->n_layer; i++)
                lr_engine_chunk_put(warm, i / h->n_layer, i % h->n_layer, bytes + i * layer);
            lr_engine_chunk_cut(warm, n * 256 - less);
            feed(warm, ids + n * 256 - less, TOKENS - (n * 256 - less), got);
            if (memcmp(want, got, h->n_vocab * sizeof *got) != 0)
                fail_msg("%s, heads of %u, %s: warm is not cold after %u tokens",
                         lr_nn_type_info(spec.type)->name, h->d_head, codec, n * 256 - less);
            lr_engine_seq_close(warm);
        }
    free(bytes);
    free(want);
    free(got);
    lr_engine_close(a);
    lr_engine_close(b);
    lr_engine_model_close(m);
}

static void loaded_rows_continue_bit_for_bit(void **state)
{
    static const enum lr_nn_type types[] = {LR_NN_F32, LR_NN_F16, LR_NN_BF16, LR_NN_Q8_0, LR_NN_Q4_0,
                                            LR_NN_Q4_1, LR_NN_Q5_0, LR_NN_Q5_1, LR_NN_Q4_K,
                                            LR_NN_Q5_K, LR_NN_Q6_K};
    static const uint32_t heads[] = {16, 32, 64, 80, 128};
    static const char *const codecs[] = {"f16", "f32", "q8_0"};
    (void)state;
    for (size_t i = 0; i < LR_COUNT(types); i++)
        check_model((struct spec){.arch = "llama", .n_layer = 1, .n_embd = 256, .n_ff = 256,
                                  .n_head = 4, .n_kv = 2, .d_head = 64, .type = types[i]},
                    codecs[i % 2]);
    for (size_t i = 0; i < LR_COUNT(heads); i++)
        for (size_t k = 0; k < LR_COUNT(codecs); k++)
            if (heads[i] % 32 == 0 || k < 2)
                check_model((struct spec){.arch = "qwen3", .n_embd = 64, .n_head = 2, .n_kv = 1,
                                          .d_head = heads[i], .type = LR_NN_F32},
                            codecs[k]);
}

static void rows_to_come_are_given_back_whole(void **state)
{
    struct lr_engine_model *m = kit_model((struct spec){.arch = "llama"}, 3);
    struct lr_engine *e = kit_engine(m, 1, "f16");
    struct lr_engine_memory mem;
    (void)state;
    for (uint64_t n = 1, hit = 1; hit; n++) {
        struct lr_engine_seq *s = kit_seq(e);
        lr_fault_arm(n);
        int rc = lr_engine_rows_raw(s, 512);
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_true(rc == 0 || (hit && lr_engine_seq_len(s) == 0));
        lr_engine_rows_unraw(s, 0);
        lr_engine_memory(e, &mem);
        assert_int_equal(mem.bytes_used, 0);
        lr_engine_seq_close(s);
    }
    lr_engine_close(e);
    lr_engine_model_close(m);
}

/* ---- a process: store, threads, engine, scheduler ---- */

struct place {
    struct lr_store *store;
    struct lr_reuse *reuse;
    struct lr_engine *e;
    struct lr_engine_sched *s;
};

struct how {
    const char *dir, *codec, *policy;
    uint64_t kv, patience_ns, idle_ns;
    uint32_t parallel;
    bool cold, shared;
};

static int try_place(struct place *p, struct how how)
{
    struct lr_policy_stack stack;
    struct lr_engine_sched_opts o = {.tok = house.tok, .tmpl = &house.tmpl, .context = CONTEXT,
                                     .parallel = how.parallel, .idle_ns = how.idle_ns};
    const struct lr_store_opts so = {.mem_max = LR_MIB(16), .dir = how.dir, .disk_max = LR_MIB(64)};
    struct lr_engine_opts eo = {.threads = 1, .kv_max = how.kv ? how.kv : LR_MIB(16),
                                .codec = lr_engine_codec_find(lr_strz(how.codec ? how.codec : "f16"))};
    *p = (struct place){.store = NULL};
    if (how.policy) {
        OK(lr_policy_stack_parse(lr_strz(how.policy), &stack, &kit_err));
        o.policy = (struct lr_engine_policy){.stack = &stack};
        o.policy.budget = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_ROWS, .rows = 512};
    }
    int rc = how.cold ? 0 : lr_store_open(&p->store, &so, NULL);
    const struct lr_reuse_opts ro = {.store = p->store, .shared = how.shared,
                                     .patience_ns = how.patience_ns ? how.patience_ns : 60 * LR_SEC};
    if (!rc && !how.cold)
        rc = lr_reuse_open(&p->reuse, &ro);
    o.reuse = p->reuse;
    rc = rc ? rc : lr_engine_open(&p->e, house.m, &eo, NULL);
    return rc ? rc : lr_engine_sched_open(&p->s, p->e, &o, NULL);
}

static void open_place(struct place *p, struct how how)
{
    OK(try_place(p, how));
}

static void close_place(struct place *p)
{
    struct lr_engine_memory mem;
    lr_engine_sched_close(p->s, 60 * LR_SEC);
    if (p->e) {
        lr_engine_memory(p->e, &mem);
        assert_int_equal(mem.bytes_used, 0);
        assert_int_equal(mem.bytes_promised, 0);
    }
    lr_engine_close(p->e);
    lr_reuse_close(p->reuse);
    lr_store_close(p->store);
}

static struct lr_engine_sched_stats stats(const struct place *p)
{
    struct lr_engine_sched_stats st;
    lr_engine_sched_stats(p->s, &st);
    return st;
}

/* Saves are behind the replies. */
static void until_saved(const struct place *p, uint64_t blocks)
{
    for (int i = 0; i < 10000 && stats(p).saved < blocks; i++)
        lr_clock_sleep_ns(LR_MS);
    assert_int_equal(stats(p).saved, blocks);
}

/* ---- questions ---- */

struct told {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    struct lr_engine_job *job;
    struct lr_buf log;
    struct lr_engine_bill bill, begun; /* begun: at the first event */
    int rc;
    bool done;
};

static int on_event(void *ctx, const struct lr_event *ev)
{
    struct told *t = ctx;
    struct lr_event plain = *ev;
    if (!t->log.len)
        lr_engine_job_bill(t->job, &t->begun);
    plain.usage.cached_input = 0; /* the only thing that may differ */
    return lr_event_append(&t->log, &plain);
}

static void on_done(void *ctx, int rc, const struct lr_engine_bill *bill, const struct lr_err *err)
{
    struct told *t = ctx;
    (void)err;
    pthread_mutex_lock(&t->mu);
    t->done = true;
    t->rc = rc;
    t->bill = *bill;
    pthread_cond_signal(&t->cv);
    pthread_mutex_unlock(&t->mu);
}

struct ask {
    uint64_t seed;        /* of the prompt's words */
    uint32_t same, n;     /* tokens of the common beginning; in all */
    uint32_t reply, tenant;
};

static uint32_t *words(struct ask a)
{
    static uint32_t ids[MAX_PROMPT];
    kit_tokens(ids, a.n, 500, 1);
    kit_tokens(ids + a.same, a.n - a.same, 500, 1000 + a.seed);
    for (uint32_t i = 0; i < a.n; i++)
        ids[i] += 3; /* no control tokens */
    return ids;
}

static int submit(const struct place *p, struct ask a, struct told *t)
{
    static const struct lr_engine_bias endless = {2, -100};
    struct lr_engine_prompt prompt = {words(a), a.n};
    struct lr_engine_ask q = {.kind = LR_KIND_COMPLETION, .tenant = a.tenant, .prompts = &prompt,
                              .n_prompts = 1, .max_tokens = a.reply ? a.reply : 4,
                              .event = on_event, .done = on_done, .ctx = t};
    q.sampling = (struct lr_engine_sampling){.bias = &endless, .n_bias = 1, .seed = a.seed,
                                             .temperature = 1};
    *t = (struct told){.rc = 1};
    pthread_mutex_init(&t->mu, NULL);
    pthread_cond_init(&t->cv, NULL);
    lr_buf_init(&t->log, LR_MIB(1));
    return lr_engine_sched_submit(p->s, &q, &t->job, NULL);
}

static void finish(struct told *t)
{
    pthread_mutex_lock(&t->mu);
    while (!t->done)
        pthread_cond_wait(&t->cv, &t->mu);
    pthread_mutex_unlock(&t->mu);
}

static void told_close(struct told *t)
{
    lr_buf_free(&t->log);
    pthread_mutex_destroy(&t->mu);
    pthread_cond_destroy(&t->cv);
}

/* Asks, waits, and holds the reply against the twin's. */
static struct lr_engine_bill ask(const struct place *p, const struct place *twin, struct ask a)
{
    struct told t, want;
    assert_int_equal(submit(p, a, &t), 0);
    finish(&t);
    assert_int_equal(submit(twin, a, &want), 0);
    finish(&want);
    assert_int_equal(t.rc, 0);
    if (!lr_str_eq(lr_buf_str(&t.log), lr_buf_str(&want.log)))
        fail_msg("seed %llu, %u tokens: another reply with %llu of them found",
                 (unsigned long long)a.seed, a.n, (unsigned long long)t.bill.cached);
    assert_memory_equal(t.begun.warm, t.bill.warm, sizeof t.bill.warm);
    told_close(&t);
    told_close(&want);
    return t.bill;
}

static void wipe(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        (void)unlink(path); /* "." and "..": cannot */
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

/* Flips a bit of one byte in every KiB from the middle of each segment on. */
static void damage(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        FILE *f = fopen(path, "r+b");
        if (!f || fseek(f, 0, SEEK_END))
            continue;
        long n = ftell(f), step = 1024;
        for (long at = n / 2; at < n; at += step) {
            fseek(f, at, SEEK_SET);
            int c = fgetc(f);
            fseek(f, at, SEEK_SET);
            fputc(c ^ 1, f);
        }
        fclose(f);
    }
    closedir(d);
}

/* ---- tests ---- */

static void a_prompt_is_warm_in_the_next_process(void **state)
{
    char dir[] = "/tmp/larder-warm-XXXXXX";
    struct place p, twin;
    const struct ask a = {.seed = 1, .same = 1024, .n = 1024, .reply = 6};
    (void)state;
    assert_non_null(mkdtemp(dir));
    open_place(&twin, (struct how){.cold = true});
    open_place(&p, (struct how){.dir = dir});
    struct lr_engine_bill b = ask(&p, &twin, a);
    assert_int_equal(b.cached, 0);
    until_saved(&p, 4);
    close_place(&p);

    open_place(&p, (struct how){.dir = dir});
    b = ask(&p, &twin, a);
    assert_int_equal(b.cached, 1023); /* the last token is computed, for its logits */
    assert_int_equal(b.warm[LR_REUSE_DISK], 1023);
    assert_true(b.load_ns > 0);
    b = ask(&p, &twin, (struct ask){.seed = 9, .same = 700, .n = 1100});
    assert_int_equal(b.cached, 700); /* rows of the conversation just before */
    assert_int_equal(b.warm[LR_REUSE_MEMORY], 0);
    close_place(&p);

    open_place(&p, (struct how){.dir = dir});
    b = ask(&p, &twin, (struct ask){.seed = 9, .same = 700, .n = 1100, .reply = 250});
    assert_int_equal(b.cached, 1024); /* what was asked in the last process, too */
    b = ask(&p, &twin, (struct ask){.seed = 10, .same = 800, .n = 900});
    assert_int_equal(b.cached, 768);
    assert_int_equal(b.warm[LR_REUSE_MEMORY] + b.warm[LR_REUSE_DISK], 256); /* and 512 of the last one */
    close_place(&p);
    close_place(&twin);
    wipe(dir);
}

static void every_length_of_prompt_is_the_same_warm(void **state)
{
    char dir[] = "/tmp/larder-warm-XXXXXX";
    struct place p, twin;
    uint32_t lengths[] = {255, 256, 257, 258, 511, 512, 513, 767, 768, 769, 1025};
    (void)state;
    assert_non_null(mkdtemp(dir));
    open_place(&twin, (struct how){.cold = true});
    open_place(&p, (struct how){.dir = dir});
    (void)ask(&p, &twin, (struct ask){.seed = 0, .same = 1100, .n = 1100});
    until_saved(&p, 4);
    for (size_t i = 0; i < LR_COUNT(lengths); i++) {
        struct ask a = {.seed = 20 + i, .same = lengths[i] - 1, .n = lengths[i]};
        struct lr_engine_bill b = ask(&p, &twin, a);
        assert_int_equal(b.cached, lengths[i] - 1); /* in its own pages */
    }
    close_place(&p);
    open_place(&p, (struct how){.dir = dir});
    for (size_t i = 0; i < LR_COUNT(lengths); i++) {
        struct ask a = {.seed = 40 + i, .same = lengths[i], .n = lengths[i], .tenant = 0};
        struct lr_engine_bill b = ask(&p, &twin, a);
        uint32_t most = lengths[i] / 256 * 256; /* whole blocks, or more of a longer one before */
        assert_in_range(b.cached, MIN_OF(most, lengths[i] - 1), lengths[i] - 1);
    }
    close_place(&p);
    close_place(&twin);
    wipe(dir);
}

static void a_damaged_block_costs_its_own_computation(void **state)
{
    char dir[] = "/tmp/larder-warm-XXXXXX";
    struct place p, twin;
    const struct ask a = {.seed = 3, .n = 1024};
    struct lr_store_stats st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    open_place(&twin, (struct how){.cold = true});
    open_place(&p, (struct how){.dir = dir});
    (void)ask(&p, &twin, a);
    until_saved(&p, 4);
    close_place(&p);
    damage(dir);
    open_place(&p, (struct how){.dir = dir});
    struct lr_engine_bill b = ask(&p, &twin, a);
    assert_true(b.cached < 1023 && b.cached % 256 == 0); /* a prefix of whole blocks */
    lr_store_stats(p.store, &st);
    assert_true(st.count[LR_STORE_MISS_CORRUPT] + st.count[LR_STORE_RECOVER_SKIPPED] > 0);
    until_saved(&p, 4 - b.cached / 256); /* and what was computed is whole again */
    close_place(&p);
    open_place(&p, (struct how){.dir = dir});
    b = ask(&p, &twin, a);
    assert_int_equal(b.cached, 1023);
    close_place(&p);
    close_place(&twin);
    wipe(dir);
}

static void late_is_computed(void **state)
{
    char dir[] = "/tmp/larder-warm-XXXXXX";
    struct place p, twin;
    const struct ask a = {.seed = 4, .same = 1000, .n = 1000};
    (void)state;
    assert_non_null(mkdtemp(dir));
    open_place(&twin, (struct how){.cold = true});
    open_place(&p, (struct how){.dir = dir});
    (void)ask(&p, &twin, a);
    until_saved(&p, 3);
    close_place(&p);
    open_place(&p, (struct how){.dir = dir, .patience_ns = 1});
    for (uint64_t i = 0; i < 4; i++) {
        struct lr_engine_bill b = ask(&p, &twin, (struct ask){.seed = 50 + i, .same = 900, .n = 950,
                                                              .tenant = (uint32_t)(i & 1)});
        assert_true(b.cached <= 900);
    }
    close_place(&p);
    close_place(&twin);
    wipe(dir);
}

static void tenants_share_only_what_they_are_told_to(void **state)
{
    struct place p, twin;
    (void)state;
    open_place(&twin, (struct how){.cold = true});
    for (int shared = 0; shared < 2; shared++) {
        open_place(&p, (struct how){.shared = shared});
        struct ask a = {.seed = 5, .n = 600, .tenant = 1};
        (void)ask(&p, &twin, a);
        until_saved(&p, 2);
        a.tenant = 2;
        struct lr_engine_bill b = ask(&p, &twin, a);
        assert_int_equal(b.cached, shared ? 512 : 0);
        close_place(&p);
    }
    close_place(&twin);
}

static void rows_that_were_rounded_serve_who_rounds_alike(void **state)
{
    char dir[] = "/tmp/larder-warm-XXXXXX";
    static const char *const codecs[] = {"f16", "f32", "q8_0"};
    const struct ask a = {.seed = 6, .n = 600};
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < LR_COUNT(codecs); i++) {
            struct place p, twin;
            if (lr_engine_model_shape(house.m)->d_head % 32 && i == 2)
                continue;
            open_place(&twin, (struct how){.cold = true, .codec = codecs[i]});
            open_place(&p, (struct how){.dir = dir, .codec = codecs[i]});
            struct lr_engine_bill b = ask(&p, &twin, a);
            assert_int_equal(b.cached, round ? 512 : 0);
            if (!round)
                until_saved(&p, 2);
            close_place(&p);
            close_place(&twin);
        }
    wipe(dir);
}

static void a_policy_neither_saves_nor_loads(void **state)
{
    struct place p, twin;
    const struct ask a = {.seed = 7, .n = 600};
    (void)state;
    open_place(&twin, (struct how){.cold = true, .policy = "streaming-llm"});
    open_place(&p, (struct how){.policy = "streaming-llm"});
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask(&p, &twin, a).cached, 0);
    assert_int_equal(stats(&p).saved, 0);
    close_place(&p);
    close_place(&twin);
}

static void idle_conversations_leave_and_come_back(void **state)
{
    struct place p, twin;
    const struct ask a = {.seed = 8, .n = 600, .reply = 200};
    (void)state;
    open_place(&twin, (struct how){.cold = true});
    open_place(&p, (struct how){.idle_ns = 20 * LR_MS});
    (void)ask(&p, &twin, a);
    for (int i = 0; i < 10000 && !stats(&p).idled; i++)
        lr_clock_sleep_ns(LR_MS);
    assert_int_equal(stats(&p).idled, 1);
    assert_int_equal(stats(&p).kept, 0);
    assert_int_equal(stats(&p).memory.bytes_used, 0);
    struct lr_engine_bill b = ask(&p, &twin, a);
    assert_int_equal(b.cached, 512);
    assert_int_equal(b.warm[LR_REUSE_MEMORY], 512);
    close_place(&p);
    close_place(&twin);
}

/* Little room, few places, many alike: parked, lent, forked and loaded in every order. */
static void a_crowd_finds_the_same_replies(void **state)
{
    enum { N = 24 };
    struct place p, twin;
    struct told t[N], want;
    struct ask a[N];
    (void)state;
    open_place(&twin, (struct how){.cold = true, .parallel = 1});
    open_place(&p, (struct how){.kv = LR_MIB(2), .parallel = 4, .idle_ns = LR_MS});
    for (uint32_t i = 0; i < N; i++) {
        struct lr_rng r;
        lr_rng_seed(&r, i);
        a[i] = (struct ask){.seed = lr_rng_below(&r, 6), .tenant = (uint32_t)lr_rng_below(&r, 2),
                            .n = 1 + (uint32_t)lr_rng_below(&r, 1200)};
        a[i].same = (uint32_t)lr_rng_below(&r, a[i].n);
        a[i].reply = 1 + (uint32_t)lr_rng_below(&r, 12);
        assert_int_equal(submit(&p, a[i], &t[i]), 0);
        if (i % 7 == 6) {
            finish(&t[i]);
            if (i % 2) /* may be over already */
                continue;
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        finish(&t[i]);
        assert_int_equal(submit(&twin, a[i], &want), 0);
        finish(&want);
        assert_int_equal(t[i].rc, 0);
        if (!lr_str_eq(lr_buf_str(&t[i].log), lr_buf_str(&want.log)))
            fail_msg("question %u: another reply in company", i);
        told_close(&t[i]);
        told_close(&want);
    }
    close_place(&p);
    close_place(&twin);
}

static void any_allocation_may_fail(void **state)
{
    struct place p, twin;
    struct told t[2], want;
    const struct ask a = {.seed = 11, .n = 300, .reply = 2};
    bool hit = true;
    (void)state;
    open_place(&twin, (struct how){.cold = true});
    assert_int_equal(submit(&twin, a, &want), 0);
    finish(&want);
    for (uint64_t n = 1; hit; n += n < 60 ? 1 : 3) {
        lr_fault_arm(n);
        int rc = try_place(&p, (struct how){.idle_ns = LR_MS});
        for (int i = 0; i < 2 && !rc; i++) {
            if (submit(&p, a, &t[i]))
                t[i].done = true;
            finish(&t[i]);
        }
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        for (int i = 0; i < 2 && !rc; i++) {
            assert_true(hit || t[i].rc == 0);
            if (!t[i].rc)
                assert_true(lr_str_eq(lr_buf_str(&t[i].log), lr_buf_str(&want.log)));
            told_close(&t[i]);
        }
        close_place(&p);
    }
    told_close(&want);
    close_place(&twin);
}

/* ---- */

static int setup(void **state)
{
    if (kit_setup(state))
        return -1;
    struct lr_engine_random r = {.like = LR_STR("nano"), .type = LR_NN_F32, .seed = 11,
                                 .path = kit_path};
    OK(lr_engine_random(&r, &kit_err));
    OK(lr_engine_model_open(&house.m, kit_path, &kit_err));
    OK(lr_nn_tok_open(&house.tok, lr_engine_model_file(house.m), &kit_err));
    return lr_engine_template_match(LR_STR(""), &house.tmpl, &kit_err);
}

static int teardown(void **state)
{
    lr_nn_tok_close(house.tok);
    lr_engine_model_close(house.m);
    return kit_teardown(state);
}

int main(void)
{
    const struct CMUnitTest early[] = {
        cmocka_unit_test(loaded_rows_continue_bit_for_bit),
        cmocka_unit_test(rows_to_come_are_given_back_whole),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_warm_in_the_next_process),
        cmocka_unit_test(every_length_of_prompt_is_the_same_warm),
        cmocka_unit_test(a_damaged_block_costs_its_own_computation),
        cmocka_unit_test(late_is_computed),
        cmocka_unit_test(tenants_share_only_what_they_are_told_to),
        cmocka_unit_test(rows_that_were_rounded_serve_who_rounds_alike),
        cmocka_unit_test(a_policy_neither_saves_nor_loads),
        cmocka_unit_test(idle_conversations_leave_and_come_back),
        cmocka_unit_test(a_crowd_finds_the_same_replies),
        cmocka_unit_test(any_allocation_may_fail),
    };
    int bad = cmocka_run_group_tests(early, kit_setup, kit_teardown);
    memcpy(kit_dir, "/tmp/larder-engine-XXXXXX", sizeof kit_dir);
    return bad + cmocka_run_group_tests(tests, setup, teardown);
}
