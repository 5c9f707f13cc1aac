/* SPDX-License-Identifier: Apache-2.0
 * unit/engine/test_sched.c - the scheduler: a reply is the same alone and in any crowd, whatever memory,
 * readers and neighbours do; and everything that was submitted ends, once.
 *
 * The twin is the scheduler itself with one job at a time, nothing kept and plenty of memory, and that one
 * is held against bare lr_engine_feed with a sampler.
 */
#include "engine_kit.h"

#include <pthread.h>

#define CONTEXT 640u

struct house {
    struct lr_engine_model *m;
    struct lr_nn_tok *tok;
    struct lr_engine_template tmpl;
    struct lr_engine_lexicon *lexicon;
    struct lr_engine_grammar *object;
    struct lr_engine *e;
    struct lr_engine_sched *s;
    struct lr_policy_stack stack; /* in use when policy.stack is set */
    struct lr_engine_policy policy;
    unsigned threads; /* 0: one, since two that meet crawl on a busy machine */
};
static struct house house;

/* One submitted job and what it told. */
struct told {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    struct lr_engine_job *job;
    struct lr_buf log; /* events, as they came */
    float *vectors;
    size_t n_vectors;
    struct lr_engine_bill bill;
    int rc, stop_with;   /* stop_with: returned from event number stop_at on */
    unsigned events, stop_at, order;
    bool done;
};
static atomic_uint dones;

static int on_event(void *ctx, const struct lr_event *ev)
{
    struct told *t = ctx;
    pthread_mutex_lock(&t->mu);
    assert_false(t->done);
    int rc = lr_event_append(&t->log, ev);
    if (++t->events == t->stop_at)
        rc = t->stop_with;
    pthread_cond_signal(&t->cv);
    pthread_mutex_unlock(&t->mu);
    return rc;
}

static int on_vector(void *ctx, size_t i, const float *v, size_t n)
{
    struct told *t = ctx;
    if (!t->vectors)
        t->vectors = calloc(64, n * sizeof *v);
    memcpy(t->vectors + i * n, v, n * sizeof *v);
    t->n_vectors++;
    return 0;
}

static void on_done(void *ctx, int rc, const struct lr_engine_bill *bill, const struct lr_err *err)
{
    struct told *t = ctx;
    assert_int_equal(rc, err->code);
    pthread_mutex_lock(&t->mu);
    assert_false(t->done);
    t->done = true;
    t->rc = rc;
    t->bill = *bill;
    t->order = atomic_fetch_add(&dones, 1);
    pthread_cond_signal(&t->cv);
    pthread_mutex_unlock(&t->mu);
}

static void told_open(struct told *t)
{
    *t = (struct told){.rc = 1};
    pthread_mutex_init(&t->mu, NULL);
    pthread_cond_init(&t->cv, NULL);
    lr_buf_init(&t->log, LR_MIB(4));
}

static void told_close(struct told *t)
{
    lr_buf_free(&t->log);
    free(t->vectors);
    pthread_mutex_destroy(&t->mu);
    pthread_cond_destroy(&t->cv);
}

static void wait_done(struct told *t)
{
    pthread_mutex_lock(&t->mu);
    while (!t->done)
        pthread_cond_wait(&t->cv, &t->mu);
    pthread_mutex_unlock(&t->mu);
}

static void wait_events(struct told *t, unsigned n)
{
    pthread_mutex_lock(&t->mu);
    while (t->events < n && !t->done)
        pthread_cond_wait(&t->cv, &t->mu);
    pthread_mutex_unlock(&t->mu);
}

/* ---- a house ---- */

static int try_house(uint64_t kv, const struct lr_engine_sched_opts *o, struct lr_err *err)
{
    struct lr_engine_sched_opts all = *o;
    const struct lr_engine_opts eo = {.threads = house.threads ? house.threads : 1, .kv_max = kv};
    all.tok = house.tok;
    all.tmpl = &house.tmpl;
    all.lexicon = house.lexicon;
    all.policy = house.policy;
    LR_TRY(lr_engine_open(&house.e, house.m, &eo, err));
    int rc = lr_engine_sched_open(&house.s, house.e, &all, err);
    if (rc) {
        lr_engine_close(house.e);
        house.e = NULL;
    }
    return rc;
}

static void open_house(uint64_t kv, struct lr_engine_sched_opts o)
{
    OK(try_house(kv, &o, &kit_err));
}

static void close_house(uint64_t drain_ns)
{
    lr_engine_sched_close(house.s, drain_ns);
    struct lr_engine_memory mem;
    lr_engine_memory(house.e, &mem);
    assert_int_equal(mem.bytes_used, 0);
    assert_int_equal(mem.bytes_promised, 0);
    lr_engine_close(house.e);
}

static uint64_t token_bytes(void)
{
    struct lr_engine_plan p;
    OK(lr_engine_plan(house.m, &(struct lr_engine_opts){0}, &p, &kit_err));
    return p.bytes_kv_token;
}

/* ---- asks ---- */

struct question {
    struct lr_engine_ask ask;
    struct lr_engine_prompt prompt;
    uint32_t ids[600];
    struct lr_str stop;
};

static void question(struct question *q, uint64_t seed, uint32_t n_prompt, uint32_t max)
{
    *q = (struct question){0};
    kit_tokens(q->ids, n_prompt, 500, seed);
    for (uint32_t i = 0; i < n_prompt; i++)
        q->ids[i] += 3; /* no control tokens */
    q->prompt = (struct lr_engine_prompt){q->ids, n_prompt};
    q->ask = (struct lr_engine_ask){.kind = LR_KIND_COMPLETION, .tenant = 1, .prompts = &q->prompt,
                                    .n_prompts = 1, .max_tokens = max,
                                    .event = on_event, .vector = on_vector, .done = on_done};
    q->ask.sampling.seed = seed;
}

static int submit(struct question *q, struct told *t, struct lr_err *err)
{
    q->ask.ctx = t;
    return lr_engine_sched_submit(house.s, &q->ask, &t->job, err);
}

/* A question of any kind, from a seed. */
static void any_question(struct question *q, uint64_t seed)
{
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    uint32_t n_prompt = 1 + (uint32_t)lr_rng_below(&r, lr_rng_below(&r, 3) ? 60 : 560);
    question(q, lr_rng_below(&r, 3) ? seed : 7, n_prompt, 1 + (uint32_t)lr_rng_below(&r, 40));
    q->ask.tenant = 1 + lr_rng_below(&r, 3);
    q->ask.sampling.seed = seed;
    q->ask.sampling.temperature = lr_rng_below(&r, 3) ? 1.5f : 0;
    q->ask.sampling.top_p = lr_rng_below(&r, 2) ? 0.9f : 0;
    q->ask.sampling.logprobs = lr_rng_below(&r, 4) == 0;
    q->ask.sampling.top_logprobs = q->ask.sampling.logprobs ? 3 : 0;
    q->ask.n = 1 + (uint32_t)lr_rng_below(&r, lr_rng_below(&r, 4) ? 1 : 4);
    if (lr_rng_below(&r, 4) == 0) {
        q->ask.kind = LR_KIND_CHAT;
        q->ask.grammar = house.object;
        q->ask.max_tokens = 80;
    }
    if (lr_rng_below(&r, 4) == 0) {
        q->stop = LR_STR("a");
        q->ask.stops = &q->stop;
        q->ask.n_stops = 1;
    }
}

static void shorten(struct question *q)
{
    q->prompt.n = q->prompt.n < 40 ? q->prompt.n : 40;
    q->ask.max_tokens = 4;
}

/* What was told, in the one order of stored answers. */
static void compact(struct told *t, struct lr_buf *out)
{
    struct lr_buf whole;
    struct lr_event start = {.type = LR_EV_START, .a = LR_STR("i"), .b = LR_STR("m")};
    struct lr_event end = {.type = LR_EV_END};
    lr_buf_init(&whole, LR_MIB(8));
    lr_buf_init(out, LR_MIB(8));
    struct lr_str log = lr_buf_str(&t->log);
    struct lr_event ev;
    assert_int_equal(lr_event_append(&whole, &start), 0);
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type == LR_EV_USAGE)
            ev.usage.cached_input = 0; /* the only thing that may differ */
        assert_int_equal(lr_event_append(&whole, &ev), 0);
    }
    assert_int_equal(lr_event_append(&whole, &end), 0);
    assert_int_equal(lr_answer_compact(lr_buf_str(&whole), out), 0);
    lr_buf_free(&whole);
}

static void same_answer(struct told *a, struct told *b, uint64_t seed)
{
    struct lr_buf x, y;
    compact(a, &x);
    compact(b, &y);
    if (!lr_str_eq(lr_buf_str(&x), lr_buf_str(&y)))
        fail_msg("seed %llu: another answer in company: %zu and %zu bytes",
                 (unsigned long long)seed, x.len, y.len);
    lr_buf_free(&x);
    lr_buf_free(&y);
}

static void alone(uint64_t seed, bool brief, struct told *t)
{
    struct question q;
    any_question(&q, seed);
    if (brief)
        shorten(&q);
    told_open(t);
    open_house(LR_MIB(64), (struct lr_engine_sched_opts){.forget = true,
                                                         .parallel = 1,
                                                         .context = CONTEXT});
    OK(submit(&q, t, &kit_err));
    wait_done(t);
    close_house(0);
    if (t->rc)
        fail_msg("seed %llu: %s", (unsigned long long)seed, lr_errname(t->rc));
}

/* ---- laws ---- */

static void alone_is_feed_and_sample(void **state)
{
    struct question q;
    struct told t;
    struct lr_engine_seq *seq;
    struct lr_engine_sampler *sampler;
    struct lr_engine_pick pick;
    struct lr_nn_decoder d;
    struct lr_buf text, said;
    (void)state;
    question(&q, 5, 300, 30);
    house.threads = 2;
    q.ask.sampling.temperature = 1;
    told_open(&t);
    lr_buf_init(&text, LR_KIB(64));
    lr_buf_init(&said, LR_KIB(64));
    open_house(LR_MIB(64), (struct lr_engine_sched_opts){.parallel = 1});
    OK(submit(&q, &t, &kit_err));
    wait_done(&t);
    close_house(0);

    const struct lr_engine_opts eo = {.threads = 1};
    OK(lr_engine_open(&house.e, house.m, &eo, &kit_err));
    seq = kit_seq(house.e);
    float *logits = lr_calloc(512, sizeof *logits);
    OK(lr_engine_sampler_open(&sampler, &q.ask.sampling, 512));
    OK(lr_engine_feed(seq, q.ids, 300, logits, NULL, &kit_err));
    lr_nn_decoder_init(&d, house.tok, false, false);
    for (int i = 0; i < 30; i++) {
        OK(lr_engine_sampler_pick(sampler, logits, NULL, &pick));
        if (lr_nn_tok_ends(house.tok, pick.id))
            break;
        OK(lr_nn_decoder_add(&d, pick.id, &text));
        OK(lr_engine_feed(seq, &pick.id, 1, logits, NULL, &kit_err));
    }
    OK(lr_nn_decoder_end(&d, &text));
    struct lr_str log = lr_buf_str(&t.log);
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1)
        if (ev.type == LR_EV_DELTA)
            lr_buf_adds(&said, ev.a);
    assert_true(lr_str_eq(lr_buf_str(&said), lr_buf_str(&text)));
    assert_true(text.len > 0);
    assert_int_equal(t.bill.prompt, 300);
    house.threads = 0;
    lr_free(logits);
    lr_engine_sampler_close(sampler);
    lr_engine_seq_close(seq);
    lr_engine_close(house.e);
    lr_buf_free(&text);
    lr_buf_free(&said);
    told_close(&t);
}

#define CROWD 14

static void crowd(uint64_t seed, uint64_t kv)
{
    static struct question q[CROWD];
    struct told one[CROWD], many[CROWD];
    for (size_t i = 0; i < CROWD; i++)
        alone(seed + i, false, &one[i]);
    open_house(kv, (struct lr_engine_sched_opts){.parallel = 5, .context = CONTEXT});
    for (size_t i = 0; i < CROWD; i++) {
        any_question(&q[i], seed + i);
        told_open(&many[i]);
        OK(submit(&q[i], &many[i], &kit_err));
    }
    for (size_t i = 0; i < CROWD; i++)
        wait_done(&many[i]);
    close_house(0);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(many[i].rc, 0);
        same_answer(&one[i], &many[i], seed + i);
        told_close(&one[i]);
        told_close(&many[i]);
    }
}

static void a_crowd_changes_no_reply(void **state)
{
    (void)state;
    crowd(100, LR_MIB(64));
    crowd(200, LR_MIB(64));
}

static void memory_that_is_short_changes_no_reply(void **state)
{
    (void)state;
    crowd(300, 700 * token_bytes());
    crowd(400, 700 * token_bytes());
}

/* Rows go by the policy, not by the company; nor does it matter that a reply was put aside. */
static void policies_decide_the_same_in_a_crowd(void **state)
{
    static const char *const stacks[] = {"snapkv", "h2o", "streaming-llm"};
    (void)state;
    for (size_t i = 0; i < LR_COUNT(stacks); i++)
        for (int capped = 0; capped < 2; capped++) {
            if (capped && i == 0)
                continue; /* needs the whole prompt */
            OK(lr_policy_stack_parse(lr_strz(stacks[i]), &house.stack, &kit_err));
            house.policy = (struct lr_engine_policy){
                .stack = &house.stack,
                .budget = {.kind = LR_POLICY_BUDGET_ROWS, .rows = 64},
                .capped = capped};
            crowd(600 + i, LR_MIB(64));
            crowd(700 + i, 1000 * token_bytes());
        }
    house.policy = (struct lr_engine_policy){0};
}

static void a_policy_that_cannot_be_is_refused_at_once(void **state)
{
    struct lr_err err = {0};
    (void)state;
    OK(lr_policy_stack_parse(LR_STR("snapkv"), &house.stack, &kit_err));
    house.policy = (struct lr_engine_policy){.stack = &house.stack}; /* no budget */
    assert_int_not_equal(try_house(LR_MIB(16), &(struct lr_engine_sched_opts){0}, &err), 0);
    assert_true(err.msg[0]);
    house.policy = (struct lr_engine_policy){0};
}

/* Replies that grow into each other: all begin small, and together they are too long. */
static void replies_put_aside_come_back_the_same(void **state)
{
    enum { N = 4 };
    static struct question q[N];
    struct told one[N], many[N];
    struct lr_engine_sched_stats st;
    (void)state;
    for (int round = 0; round < 2; round++) {
        uint64_t kv = round ? LR_MIB(64) : 900 * token_bytes();
        open_house(kv, (struct lr_engine_sched_opts){.parallel = round ? 1 : N, .forget = true,
                                                     .context = CONTEXT});
        for (int i = 0; i < N; i++) {
            struct told *t = round ? &one[i] : &many[i];
            question(&q[i], (uint64_t)i, 20, 560);
            q[i].ask.sampling.temperature = 0.7f;
            q[i].ask.sampling.bias = &(struct lr_engine_bias){2, -100};
            q[i].ask.sampling.n_bias = 1; /* no end but by length */
            told_open(t);
            OK(submit(&q[i], t, &kit_err));
        }
        for (int i = 0; i < N; i++)
            wait_done(round ? &one[i] : &many[i]);
        lr_engine_sched_stats(house.s, &st);
        if (!round)
            assert_true(st.preempted > 0);
        close_house(0);
    }
    for (int i = 0; i < N; i++) {
        same_answer(&one[i], &many[i], (uint64_t)i);
        told_close(&one[i]);
        told_close(&many[i]);
    }
}

static void the_next_turn_finds_the_last_one_computed(void **state)
{
    struct question q;
    struct told first, warm, cold, foreign;
    (void)state;
    told_open(&first);
    told_open(&warm);
    told_open(&cold);
    told_open(&foreign);
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){0});
    question(&q, 9, 100, 10);
    OK(submit(&q, &first, &kit_err));
    wait_done(&first);
    question(&q, 9, 150, 10); /* begins with the same hundred */
    OK(submit(&q, &warm, &kit_err));
    wait_done(&warm);
    q.ask.tenant = 2;
    OK(submit(&q, &foreign, &kit_err));
    wait_done(&foreign);
    close_house(0);
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){.forget = true});
    OK(submit(&q, &cold, &kit_err));
    wait_done(&cold);
    close_house(0);
    assert_int_equal(first.bill.cached, 0);
    assert_int_equal(warm.bill.cached, 100);
    assert_int_equal(foreign.bill.cached, 0); /* not another tenant's */
    same_answer(&warm, &cold, 9);
    same_answer(&warm, &foreign, 9);
    told_close(&first);
    told_close(&warm);
    told_close(&cold);
    told_close(&foreign);
}

static void a_paused_reader_holds_nobody_up(void **state)
{
    struct question p, q;
    struct told slow, quick, twin;
    (void)state;
    told_open(&slow);
    told_open(&quick);
    told_open(&twin);
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){.parallel = 2, .forget = true});
    question(&p, 1, 40, 30);
    question(&q, 2, 40, 30);
    slow.stop_at = 3;
    slow.stop_with = LR_EBUSY;
    OK(submit(&p, &slow, &kit_err));
    wait_events(&slow, 3);
    OK(submit(&q, &quick, &kit_err));
    wait_done(&quick);
    OK(submit(&q, &twin, &kit_err));
    wait_done(&twin);
    assert_false(slow.done);
    lr_engine_sched_resume(house.s, slow.job);
    wait_done(&slow);
    assert_int_equal(slow.rc, 0);
    same_answer(&quick, &twin, 2);
    told_close(&twin);
    told_open(&twin);
    OK(submit(&p, &twin, &kit_err));
    wait_done(&twin);
    same_answer(&slow, &twin, 1);
    close_house(0);
    told_close(&slow);
    told_close(&quick);
    told_close(&twin);
}

static void a_job_ends_at_whatever_event_refuses_it(void **state)
{
    struct question q;
    struct told t, other;
    (void)state;
    question(&q, 3, 50, 12);
    q.ask.n = 2;
    for (unsigned at = 1, last = 0; !last; at++) {
        told_open(&t);
        told_open(&other);
        open_house(LR_MIB(16), (struct lr_engine_sched_opts){.parallel = 4});
        t.stop_at = at;
        t.stop_with = LR_ECANCEL;
        OK(submit(&q, &t, &kit_err));
        OK(submit(&q, &other, &kit_err));
        wait_done(&t);
        wait_done(&other);
        assert_int_equal(other.rc, 0);
        last = t.events < at;
        assert_int_equal(t.rc, last ? 0 : LR_ECANCEL);
        assert_int_equal(t.events, last ? at - 1 : at);
        close_house(0);
        told_close(&t);
        told_close(&other);
    }
}

static void cancelling_at_any_time_ends_it_once(void **state)
{
    struct question q;
    struct told t[6];
    struct lr_rng r;
    (void)state;
    lr_rng_seed(&r, 77);
    open_house(LR_MIB(4), (struct lr_engine_sched_opts){.parallel = 2});
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < LR_COUNT(t); i++) {
            question(&q, (uint64_t)round, 30, 6);
            told_open(&t[i]);
            OK(submit(&q, &t[i], &kit_err));
        }
        for (size_t i = 0; i < LR_COUNT(t); i++) {
            if (lr_rng_below(&r, 2))
                wait_events(&t[i], (unsigned)lr_rng_below(&r, 6));
            pthread_mutex_lock(&t[i].mu); /* as a producer does: not after done has returned */
            if (!t[i].done)
                lr_engine_sched_cancel(house.s, t[i].job);
            pthread_mutex_unlock(&t[i].mu);
        }
        for (size_t i = 0; i < LR_COUNT(t); i++) {
            wait_done(&t[i]);
            assert_true(t[i].rc == 0 || t[i].rc == LR_ECANCEL);
            told_close(&t[i]);
        }
    }
    close_house(0);
}

static void tenants_take_turns(void **state)
{
    enum { MANY = 8 };
    static struct question q[MANY + 1];
    struct told t[MANY + 1];
    (void)state;
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){.parallel = 1});
    atomic_store(&dones, 0);
    for (int i = 0; i <= MANY; i++) {
        told_open(&t[i]);
        question(&q[i], (uint64_t)i, 60, 8);
        q[i].ask.tenant = i == MANY ? 2 : 1;
        if (i == 0) { /* holds the only place until all are there */
            t[i].stop_at = 1;
            t[i].stop_with = LR_EBUSY;
        }
        OK(submit(&q[i], &t[i], &kit_err));
        if (i == 0)
            wait_events(&t[i], 1);
    }
    lr_engine_sched_resume(house.s, t[0].job);
    for (int i = 0; i <= MANY; i++)
        wait_done(&t[i]);
    assert_true(t[MANY].order <= 2); /* not behind the seven that came before it */
    for (int i = 1; i < MANY; i++)
        assert_true(t[i].order > t[i - 1].order); /* one tenant's in their order */
    close_house(0);
    for (int i = 0; i <= MANY; i++)
        told_close(&t[i]);
}

static void a_full_queue_refuses_at_once(void **state)
{
    struct question q;
    struct told t[4];
    struct lr_err err = {0};
    struct lr_engine_sched_stats st;
    (void)state;
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){.parallel = 1, .queue = 2});
    for (int i = 0; i < 4; i++)
        told_open(&t[i]);
    question(&q, 1, 30, 5);
    t[0].stop_at = 1;
    t[0].stop_with = LR_EBUSY;
    OK(submit(&q, &t[0], &kit_err));
    wait_events(&t[0], 1);
    OK(submit(&q, &t[1], &kit_err));
    OK(submit(&q, &t[2], &kit_err));
    assert_int_equal(submit(&q, &t[3], &err), LR_EBUSY);
    assert_non_null(strstr(err.msg, "2 requests wait"));
    lr_engine_sched_stats(house.s, &st);
    assert_int_equal(st.waiting, 2);
    assert_int_equal(st.refused, 1);
    lr_engine_sched_resume(house.s, t[0].job);
    for (int i = 0; i < 3; i++)
        wait_done(&t[i]);
    OK(submit(&q, &t[3], &kit_err));
    wait_done(&t[3]);
    close_house(0);
    for (int i = 0; i < 4; i++)
        told_close(&t[i]);
}

static void what_cannot_be_is_refused_with_numbers(void **state)
{
    struct question q;
    struct told t;
    struct lr_err err = {0};
    (void)state;
    assert_int_equal(try_house(LR_MIB(1), &(struct lr_engine_sched_opts){.context = 1 << 20}, &err),
                     LR_EOVER);
    assert_non_null(strstr(err.msg, "1048576"));
    told_open(&t);
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){.context = 128});
    question(&q, 1, 128, 5);
    err = (struct lr_err){0};
    assert_int_equal(submit(&q, &t, &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "128"));
    q.prompt.n = 0;
    assert_int_equal(submit(&q, &t, NULL), LR_EINVAL);
    q.prompt.n = 20;
    q.ids[3] = 512;
    assert_int_equal(submit(&q, &t, NULL), LR_EINVAL);
    q.ids[3] = 5;
    q.ask.n = 1 << 30;
    assert_int_equal(submit(&q, &t, NULL), LR_EINVAL);
    q.ask.n = 1;
    q.ask.stops = &(struct lr_str){NULL, 0};
    q.ask.n_stops = 1;
    assert_int_equal(submit(&q, &t, NULL), LR_EINVAL);
    assert_int_equal(t.events, 0);
    close_house(0);
    told_close(&t);
}

static void a_reply_ends_with_the_context(void **state)
{
    struct question q;
    struct told t;
    (void)state;
    told_open(&t);
    open_house(LR_MIB(16), (struct lr_engine_sched_opts){.context = 64});
    question(&q, 1, 50, 0);
    q.ask.sampling.bias = &(struct lr_engine_bias){2, -100};
    q.ask.sampling.n_bias = 1;
    OK(submit(&q, &t, &kit_err));
    wait_done(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.bill.reply, 14);
    close_house(0);
    told_close(&t);
}

static void closing_ends_everything(void **state)
{
    static struct question q[6];
    struct told t[6];
    (void)state;
    for (int drain = 0; drain < 2; drain++) {
        open_house(LR_MIB(16), (struct lr_engine_sched_opts){.parallel = 2});
        for (int i = 0; i < 6; i++) {
            told_open(&t[i]);
            question(&q[i], (uint64_t)i, 40, drain ? 5 : 400);
            q[i].ask.sampling.bias = &(struct lr_engine_bias){2, -100};
            q[i].ask.sampling.n_bias = 1;
            OK(submit(&q[i], &t[i], &kit_err));
        }
        close_house(drain ? 60 * LR_SEC : 0);
        for (int i = 0; i < 6; i++) {
            assert_true(t[i].done);
            assert_int_equal(t[i].rc, drain ? 0 : LR_ECANCEL);
            told_close(&t[i]);
        }
    }
}

static void vectors_are_those_of_the_engine(void **state)
{
    enum { N = 9 };
    static struct question q;
    struct lr_engine_prompt p[N];
    struct told t;
    float want[64];
    (void)state;
    told_open(&t);
    question(&q, 4, 600, 0);
    for (size_t i = 0; i < N; i++)
        p[i] = (struct lr_engine_prompt){q.ids + i, i == 2 ? 580 : 1 + 7 * i};
    for (int pool = 0; pool < 2; pool++) {
        open_house(LR_MIB(16), (struct lr_engine_sched_opts){.context = 640});
        q.ask.kind = LR_KIND_EMBEDDING;
        q.ask.pool = (enum lr_engine_pool)pool;
        q.ask.prompts = p;
        q.ask.n_prompts = N;
        t.done = false;
        t.n_vectors = 0;
        OK(submit(&q, &t, &kit_err));
        wait_done(&t);
        assert_int_equal(t.rc, 0);
        assert_int_equal(t.n_vectors, N);
        close_house(0);
        OK(lr_engine_open(&house.e, house.m, &(struct lr_engine_opts){.threads = 1}, &kit_err));
        for (size_t i = 0; i < N; i++) {
            OK(lr_engine_embed(house.e, p[i].id, p[i].n, q.ask.pool, want, &kit_err));
            assert_memory_equal(want, t.vectors + 64 * i, sizeof want);
        }
        lr_engine_close(house.e);
    }
    told_close(&t);
}

static void log_probabilities_are_openai_s(void **state)
{
    struct question q;
    struct told t;
    struct lr_arena a;
    struct lr_event ev;
    struct lr_json *v;
    unsigned n = 0;
    (void)state;
    lr_arena_init(&a, LR_MIB(4));
    for (int chat = 0; chat < 2; chat++) {
        told_open(&t);
        open_house(LR_MIB(16), (struct lr_engine_sched_opts){0});
        question(&q, 6, 20, 12);
        q.ask.kind = chat ? LR_KIND_CHAT : LR_KIND_COMPLETION;
        q.ask.sampling.logprobs = true;
        q.ask.sampling.top_logprobs = 5;
        OK(submit(&q, &t, &kit_err));
        wait_done(&t);
        close_house(0);
        struct lr_str log = lr_buf_str(&t.log);
        while (lr_event_next(&log, &ev) == 1) {
            if (ev.type != LR_EV_LOGPROBS)
                continue;
            n++;
            OK(lr_json_parse(&a, ev.a, NULL, &v, &kit_err));
            const struct lr_json *one = chat ? v->child : v;
            double p;
            assert_true(lr_json_real(chat ? lr_json_get(one, "logprob")
                                          : lr_json_get(one, "token_logprobs")->child, &p) && p < 0);
            assert_true(lr_json_get(one, "top_logprobs")->n > 0);
        }
        assert_true(n > 0);
        told_close(&t);
    }
    lr_arena_free(&a);
}

/* Every allocation of a life fails once: all ends, with the right answer or a clean error. */
static void any_allocation_may_fail(void **state)
{
    enum { N = 3 };
    struct told t[N], want[N];
    static struct question q[N];
    struct lr_err err = {0};
    (void)state;
    for (size_t i = 0; i < N; i++)
        alone(500 + i, true, &want[i]);
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        for (size_t i = 0; i < N; i++) {
            told_open(&t[i]);
            lr_buf_reserve(&t[i].log, LR_KIB(256));
            any_question(&q[i], 500 + i);
            shorten(&q[i]);
        }
        lr_fault_arm(n);
        int rc = try_house(LR_MIB(16),
                           &(struct lr_engine_sched_opts){.parallel = 3, .context = CONTEXT}, &err);
        for (size_t i = 0; !rc && i < N; i++) {
            if (submit(&q[i], &t[i], NULL))
                t[i].done = true;
        }
        for (size_t i = 0; !rc && i < N; i++)
            wait_done(&t[i]);
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (!rc)
            close_house(0);
        for (size_t i = 0; i < N; i++) {
            if (!rc && t[i].rc == 0)
                same_answer(&t[i], &want[i], 500 + i);
            assert_true(hit || t[i].rc == 0);
            told_close(&t[i]);
        }
    }
    for (size_t i = 0; i < N; i++)
        told_close(&want[i]);
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
    OK(lr_engine_template_match(LR_STR(""), &house.tmpl, &kit_err));
    OK(lr_engine_lexicon_open(&house.lexicon, house.tok));
    OK(lr_engine_grammar_object(&house.object));
    return 0;
}

static int teardown(void **state)
{
    lr_engine_grammar_close(house.object);
    lr_engine_lexicon_close(house.lexicon);
    lr_nn_tok_close(house.tok);
    lr_engine_model_close(house.m);
    return kit_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_is_feed_and_sample),
        cmocka_unit_test(a_crowd_changes_no_reply),
        cmocka_unit_test(memory_that_is_short_changes_no_reply),
        cmocka_unit_test(policies_decide_the_same_in_a_crowd),
        cmocka_unit_test(a_policy_that_cannot_be_is_refused_at_once),
        cmocka_unit_test(replies_put_aside_come_back_the_same),
        cmocka_unit_test(the_next_turn_finds_the_last_one_computed),
        cmocka_unit_test(a_paused_reader_holds_nobody_up),
        cmocka_unit_test(a_job_ends_at_whatever_event_refuses_it),
        cmocka_unit_test(cancelling_at_any_time_ends_it_once),
        cmocka_unit_test(tenants_take_turns),
        cmocka_unit_test(a_full_queue_refuses_at_once),
        cmocka_unit_test(what_cannot_be_is_refused_with_numbers),
        cmocka_unit_test(a_reply_ends_with_the_context),
        cmocka_unit_test(closing_ends_everything),
        cmocka_unit_test(vectors_are_those_of_the_engine),
        cmocka_unit_test(log_probabilities_are_openai_s),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
