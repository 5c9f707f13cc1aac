/* SPDX-License-Identifier: Apache-2.0
 * Every registered policy keeps the laws of conform.h, and the rows it says it keeps.
 */
#include "conform.h"

/* A policy as a stack of its own: those that only give budgets get one that evicts. */
static void subject(const struct lr_policy *p, char *text, size_t n)
{
    snprintf(text, n, "%s%s", p->name, p->budget && !p->edit ? "+snapkv" : "");
}

static void test_every_policy_conforms(void **state)
{
    (void)state;
    const struct lr_policy *p;
    char text[128];
    for (size_t i = 0; (p = lr_policy_at(i)); i++) {
        subject(p, text, sizeof text);
        conform(text);
    }
}

/* ---- what each keeps ---- */

static void positions(struct lr_engine_seq *s, uint32_t layer, uint32_t head, int32_t *pos)
{
    struct lr_engine_row row[512];
    size_t n = lr_engine_rows(s, layer, head);
    assert_true(n <= LR_COUNT(row));
    OK(lr_engine_rows_get(s, layer, head, 0, n, row));
    for (size_t i = 0; i < n; i++)
        pos[i] = row[i].pos;
}

static void test_streaming_keeps_sinks_and_a_window(void **state)
{
    (void)state;
    struct rig r;
    int32_t pos[512];
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, "streaming-llm", "20", 0, false);
    c_prompt(&r, s, "streaming-llm", C_PROMPT, NULL);
    for (uint32_t t = 0; t < 5; t++) {
        assert_int_equal(lr_engine_rows(s, 2, 1), 20);
        positions(s, 2, 1, pos);
        for (int i = 0; i < 20; i++)
            assert_int_equal(pos[i], i < 4 ? i : (int)(C_PROMPT + t) - 20 + i);
        c_token(&r, s, t, NULL);
    }
    lr_engine_seq_close(s);
    rig_close(&r);
}

/* Sums of attention by a tap of our own, from all rows. */
struct heavy {
    float sum[3][4][C_PROMPT];
};
static int add_heavy(void *ctx, const struct lr_engine_view *v)
{
    struct heavy *h = ctx;
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < lr_engine_rows(v->seq, v->layer, i / 2); k++)
            h->sum[v->layer][i][k] += v->acol[i][k];
    return 0;
}

static void test_h2o_keeps_the_heavy_and_the_recent(void **state)
{
    (void)state;
    struct rig r;
    struct heavy *h = calloc(1, sizeof *h);
    struct lr_engine_tap tap = {.kinds = LR_ENGINE_TAP_ACOL, .seen = add_heavy, .ctx = h};
    int32_t pos[512];
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, "h2o:recent=10", "30", 0, false), *plain = kit_seq(r.e);
    c_prompt(&r, s, "h2o", C_PROMPT, NULL);
    for (uint32_t at = 0; at < C_PROMPT; at += 100) {
        struct lr_engine_work w = {.seq = plain, .tokens = r.tokens + at, .n = 100, .tap = &tap};
        OK(lr_engine_step(r.e, &w, 1, &kit_err));
    }
    positions(s, 1, 1, pos);
    float least = 1e30f;
    for (int i = 0; i < 20; i++)
        least = fminf(least, h->sum[1][2][pos[i]] + h->sum[1][3][pos[i]]);
    for (int i = 20; i < 30; i++)
        assert_int_equal(pos[i], (int)C_PROMPT - 30 + i);
    for (int i = 0, at = 0; i < (int)C_PROMPT - 10; i++) {
        if (at < 20 && pos[at] == i) {
            at++;
            continue;
        }
        assert_true(h->sum[1][2][i] + h->sum[1][3][i] <= least + 1e-4f);
    }
    lr_engine_seq_close(s);
    lr_engine_seq_close(plain);
    rig_close(&r);
    free(h);
}

static void test_random_is_a_uniform_sample(void **state)
{
    (void)state;
    enum { SEEDS = 60 };
    struct rig r;
    int32_t pos[512];
    uint32_t thirds[3] = {0};
    rig_open(&r, 0, 1);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct lr_engine_seq *s = c_open(&r, "random:recent=0", "20", seed, false);
        OK(lr_engine_feed(s, r.tokens, 90, NULL, NULL, &kit_err));
        for (uint32_t i = 0; i < 6; i++) {
            positions(s, i / 2, i % 2, pos);
            for (uint32_t k = 0; k < 20; k++)
                thirds[pos[k] / 30]++;
        }
        lr_engine_seq_close(s);
    }
    for (int i = 0; i < 3; i++) /* 2400 expected, 6 sigma */
        assert_in_range(thirds[i], 2400 - 240, 2400 + 240);
    rig_close(&r);
}

static void test_pyramid_gives_the_first_layers_more(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, "pyramid:window=8+streaming-llm", "50", 0, false);
    c_prompt(&r, s, "full", C_PROMPT, NULL);
    assert_true(lr_engine_rows(s, 0, 0) > lr_engine_rows(s, 1, 0));
    assert_true(lr_engine_rows(s, 1, 0) > lr_engine_rows(s, 2, 0));
    assert_int_equal(c_all_rows(s), 50 * 6);
    lr_engine_seq_close(s);
    rig_close(&r);
}

/* Heads share a layer's rows unevenly; each keeps its floor; a head's rows are the best it has. */
static void test_adakv_moves_rows_between_heads(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, "adakv:window=8", "40", 0, false);
    c_prompt(&r, s, "full", C_PROMPT, NULL);
    bool uneven = false;
    for (uint32_t t = 0; t <= C_MORE; t++) {
        for (uint32_t l = 0; l < 3; l++) {
            size_t a = lr_engine_rows(s, l, 0), b = lr_engine_rows(s, l, 1);
            assert_int_equal(a + b, 80);
            assert_true(a >= 8 && b >= 8);
            uneven |= a != b;
        }
        if (t < C_MORE)
            c_token(&r, s, t, NULL);
    }
    assert_true(uneven);
    lr_engine_seq_close(s);
    rig_close(&r);
}

static void test_protected_rows_stay(void **state)
{
    (void)state;
    static const char *const texts[] = {"h2o", "random", "streaming-llm", "knorm", "snapkv", "tova"};
    struct rig r;
    int32_t pos[512];
    rig_open(&r, 0, 1);
    for (size_t i = 0; i < LR_COUNT(texts); i++) {
        struct lr_engine_seq *s = c_open(&r, texts[i], "24", 1, false);
        OK(lr_engine_feed_as(s, r.tokens, 256, LR_POLICY_CHUNK, NULL, NULL, &kit_err));
        OK(lr_engine_seq_protect(s, 50, 60));
        OK(lr_engine_feed(s, r.tokens, 40, NULL, NULL, &kit_err));
        for (uint32_t t = 0; t < C_MORE; t++)
            c_token(&r, s, t, NULL);
        for (uint32_t k = 0; k < 6; k++) {
            int32_t found = 0;
            positions(s, k / 2, k % 2, pos);
            for (size_t j = 0; j < lr_engine_rows(s, k / 2, k % 2); j++)
                found += pos[j] >= 50 && pos[j] < 60;
            assert_int_equal(found, 10);
        }
        lr_engine_seq_close(s);
    }
    /* more protected rows than the budget has */
    struct lr_engine_seq *s = c_open(&r, "h2o", "8", 1, false);
    struct lr_err err = {0};
    OK(lr_engine_feed_as(s, r.tokens, 200, LR_POLICY_CHUNK, NULL, NULL, &kit_err));
    OK(lr_engine_seq_protect(s, 50, 60));
    assert_int_equal(lr_engine_feed(s, r.tokens, 40, NULL, NULL, &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "10"));
    assert_int_equal(lr_engine_feed(s, r.tokens, 1, NULL, NULL, &kit_err), LR_EINVAL); /* only closed */
    lr_engine_seq_close(s);
    rig_close(&r);
}

static void test_only_foretold_oracles_run(void **state)
{
    (void)state;
    struct rig r;
    struct lr_err err = {0};
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, "oracle", "24", 1, false);
    assert_int_equal(lr_engine_feed(s, r.tokens, 40, NULL, NULL, &err), LR_EINVAL);
    assert_non_null(strstr(err.msg, "future"));
    lr_engine_seq_close(s);
    rig_close(&r);
}

/* The oracle's rows have more of the true future's attention than any other policy's. */
struct mass {
    float of[3][4][C_PROMPT];
};
static int add_mass(void *ctx, const struct lr_engine_view *v)
{
    struct mass *m = ctx;
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < C_PROMPT; k++)
            m->of[v->layer][i][k] += v->acol[i][k];
    return 0;
}

static double kept_mass(struct lr_engine_seq *s, const struct mass *m)
{
    int32_t pos[512];
    double sum = 0;
    for (uint32_t k = 0; k < 6; k++) {
        positions(s, k / 2, k % 2, pos);
        for (size_t j = 0; j < lr_engine_rows(s, k / 2, k % 2); j++)
            for (uint32_t g = 0; g < 2; g++)
                sum += (double)m->of[k / 2][k % 2 * 2 + g][pos[j]];
    }
    return sum;
}

static void test_nobody_keeps_more_of_the_future_than_the_oracle(void **state)
{
    (void)state;
    static const char *const texts[] = {"oracle", "random", "h2o", "snapkv", "tova", "knorm",
                                        "keydiff", "streaming-llm"};
    struct rig r;
    struct mass *m = calloc(1, sizeof *m);
    struct lr_engine_tap tap = {.kinds = LR_ENGINE_TAP_ACOL, .seen = add_mass, .ctx = m};
    struct lr_policy_stack stack;
    struct lr_policy_budget b = c_budget("10%");
    uint32_t watcher[LR_COUNT(texts)];
    double mass[LR_COUNT(texts)];
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = kit_seq(r.e), *fork;
    for (size_t i = 0; i < LR_COUNT(texts); i++) {
        stack = c_stack(texts[i]);
        OK(lr_engine_seq_watch(s, &(struct lr_engine_policy){.stack = &stack, .seed = 5}, &watcher[i],
                               &kit_err));
    }
    OK(lr_engine_feed(s, r.tokens, C_PROMPT, NULL, NULL, &kit_err));
    OK(lr_engine_seq_foresee(s, watcher[0], r.tokens + C_PROMPT, C_MORE, &kit_err));
    OK(lr_engine_seq_fork(&fork, s, 0, &kit_err));
    struct lr_engine_work w = {.seq = fork, .tokens = r.tokens + C_PROMPT, .n = C_MORE, .tap = &tap};
    OK(lr_engine_step(r.e, &w, 1, &kit_err));
    lr_engine_seq_close(fork);
    for (size_t i = 0; i < LR_COUNT(texts); i++) {
        struct lr_engine_policy_info info;
        OK(lr_engine_seq_fork(&fork, s, 0, &kit_err));
        OK(lr_engine_seq_adopt(fork, s, watcher[i], &b, &kit_err));
        assert_int_equal(c_all_rows(fork), 30 * 6);
        mass[i] = kept_mass(fork, m);
        if (mass[i] > mass[0])
            fail_msg("%s keeps %g, the oracle %g", texts[i], mass[i], mass[0]);
        OK(lr_engine_seq_info(s, watcher[i], &info));
        bool taps = i == 2 || i == 3 || i == 4;
        assert_int_equal(info.tap_bytes > 0, taps);
        lr_engine_seq_close(fork);
    }
    lr_engine_seq_close(s);
    rig_close(&r);
    free(m);
}

/* ---- taps ---- */

/* What the last token of a feed shows, layer by layer. */
struct shown {
    float x[3][32], h[3][32], q[3][128], qpre[3][128], out[3][128], kpre[3][64], lse[3][4];
    float awin[3][4][40];
};
static int copy_shown(void *ctx, const struct lr_engine_view *v)
{
    struct shown *s = ctx;
    uint32_t l = v->layer, t = v->n_tok - 1;
    memcpy(s->x[l], v->x + t * 32, sizeof s->x[l]);
    memcpy(s->h[l], v->h + t * 32, sizeof s->h[l]);
    memcpy(s->q[l], v->q + t * 128, sizeof s->q[l]);
    memcpy(s->qpre[l], v->qpre + t * 128, sizeof s->qpre[l]);
    memcpy(s->out[l], v->out + t * 128, sizeof s->out[l]);
    memcpy(s->kpre[l], v->kpre + t * 64, sizeof s->kpre[l]);
    memcpy(s->lse[l], v->lse + t * 4, sizeof s->lse[l]);
    for (uint32_t i = 0; i < 4; i++)
        memcpy(s->awin[l][i], v->awin[i] + (v->n_win - 1) * 40, sizeof s->awin[l][i]);
    return 0;
}

static void test_taps_of_a_token_do_not_depend_on_its_company(void **state)
{
    (void)state;
    static const uint32_t last[] = {40, 1, 3, 9};
    struct rig r;
    struct shown *s = calloc(2, sizeof *s);
    for (unsigned threads = 1; threads <= 2; threads++) {
        rig_open(&r, 0, threads);
        for (size_t i = 0; i < LR_COUNT(last); i++) {
            struct lr_engine_seq *q = kit_seq(r.e);
            struct lr_engine_tap tap = {.kinds = 511 & ~LR_ENGINE_TAP_ACOL, .window = 2,
                                        .seen = copy_shown, .ctx = &s[i > 0 || threads > 1]};
            if (last[i] < 40)
                OK(lr_engine_feed(q, r.tokens, 40 - last[i], NULL, NULL, &kit_err));
            struct lr_engine_work w = {.seq = q, .tokens = r.tokens + 40 - last[i], .n = last[i],
                                       .tap = &tap};
            OK(lr_engine_step(r.e, &w, 1, &kit_err));
            if (i || threads > 1)
                assert_memory_equal(&s[1], &s[0], sizeof *s);
            lr_engine_seq_close(q);
        }
        rig_close(&r);
    }
    free(s);
}

/* ---- reading some ---- */

static void test_reading_every_row_is_the_full_cache(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a = calloc(3, sizeof *a);
    struct lr_engine_policy_info info;
    rig_open(&r, 0, 3);
    static const char *const texts[] = {"full", "topread:rows=100000", "topread:rows=16"};
    for (int i = 0; i < 3; i++) {
        struct lr_engine_seq *s = c_open(&r, texts[i], "", 1, false);
        c_answer(&r, s, texts[i], C_PROMPT, &a[i]);
        OK(lr_engine_seq_info(s, LR_ENGINE_ACTIVE, &info));
        uint64_t tokens = (uint64_t)C_MORE * 6;
        assert_int_equal(info.rows_read, i == 0 ? 0 : i == 1 ? info.rows_there : tokens * 16);
        assert_int_equal(c_all_rows(s), C_ALL * 6);
        lr_engine_seq_close(s);
    }
    c_same(&a[1], &a[0], texts[1], "every row");
    assert_memory_equal(a[2].logits[0], a[0].logits[0], sizeof a[0].logits[0]); /* the prompt reads all */
    assert_true(memcmp(a[2].logits[1], a[0].logits[1], sizeof a[0].logits[1]) != 0);
    rig_close(&r);
    free(a);
}

static void test_choosing_does_not_compose_with_watching_tokens(void **state)
{
    (void)state;
    static const char *const texts[] = {"h2o+topread", "tova+topread"};
    struct rig r;
    rig_open(&r, 0, 1);
    for (size_t i = 0; i < LR_COUNT(texts); i++) {
        struct lr_policy_stack stack = c_stack(texts[i]);
        struct lr_engine_seq *s;
        struct lr_err err = {0};
        const struct lr_engine_seq_opts o = {.policy = {.stack = &stack, .budget = c_budget("40")}};
        assert_int_equal(lr_engine_seq_open(&s, r.e, &o, &err), LR_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, "topread"));
    }
    rig_close(&r);
}

/* ---- admission, prefixes ---- */

static void test_a_budget_promises_less(void **state)
{
    (void)state;
    struct rig r;
    struct lr_engine_memory m;
    struct lr_policy_stack stack = c_stack("streaming-llm");
    rig_open(&r, 0, 1);
    uint64_t promised[3];
    for (int i = 0; i < 3; i++) {
        struct lr_engine_seq *s;
        const struct lr_engine_seq_opts o = {
            .tokens_max = 4000, .tokens_prompt = 500,
            .policy = {.stack = i ? &stack : NULL, .budget = c_budget(i ? "64" : ""), .capped = i == 2}};
        OK(lr_engine_seq_open(&s, r.e, &o, &kit_err));
        lr_engine_memory(r.e, &m);
        promised[i] = m.bytes_promised;
        for (int k = 0; i && k < 2; k++)
            OK(lr_engine_feed(s, r.tokens, 250, NULL, NULL, &kit_err));
        lr_engine_memory(r.e, &m);
        if (i) /* from the end of the prompt on: the budget and a little */
            assert_true(m.bytes_used + m.bytes_promised < promised[0] / (i == 1 ? 20 : 8));
        lr_engine_seq_close(s);
    }
    assert_true(promised[1] < promised[0] / 6 && promised[2] < promised[1]);
    lr_engine_memory(r.e, &m);
    assert_int_equal(m.bytes_promised + m.bytes_used, 0);
    rig_close(&r);
}

static void test_a_kept_prefix_takes_a_policy(void **state)
{
    (void)state;
    struct rig r;
    struct lr_err err = {0};
    float want[C_VOCAB], got[C_VOCAB];
    rig_open(&r, 0, 1);
    struct lr_policy_stack snap = c_stack("snapkv"), h2o = c_stack("h2o");
    struct lr_engine_policy p = {.stack = &snap, .budget = c_budget("40")};
    struct lr_engine_seq *kept = kit_seq(r.e), *warm, *cold = c_open(&r, "snapkv", "40", 0, false);
    OK(lr_engine_feed_as(kept, r.tokens, 256, LR_POLICY_CHUNK, NULL, NULL, &kit_err));
    OK(lr_engine_seq_fork(&warm, kept, 0, &kit_err));
    OK(lr_engine_seq_attach(warm, &p, &kit_err));
    OK(lr_engine_feed(warm, r.tokens + 256, 44, got, NULL, &kit_err));
    OK(lr_engine_feed(cold, r.tokens, 300, want, NULL, &kit_err));
    c_token(&r, warm, 0, got);
    c_token(&r, cold, 0, want);
    assert_memory_equal(want, got, sizeof want);
    assert_true(lr_engine_seq_spent(warm));
    assert_false(lr_engine_seq_spent(kept));
    lr_engine_seq_close(warm);
    OK(lr_engine_seq_fork(&warm, kept, 0, &kit_err));
    p.stack = &h2o;
    assert_int_equal(lr_engine_seq_attach(warm, &p, &err), LR_EUNSUPPORTED);
    lr_engine_seq_close(warm);
    lr_engine_seq_close(kept);
    lr_engine_seq_close(cold);
    rig_close(&r);
}

static void test_bytes_of_another_policy_are_refused(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, "h2o", "40", 0, false), *t;
    c_prompt(&r, s, "h2o", C_PROMPT, NULL);
    size_t n;
    OK(lr_engine_seq_save(s, NULL, &n));
    char *buf = lr_alloc(n);
    OK(lr_engine_seq_save(s, buf, &n));
    static const char *const others[] = {"h2o:recent=3", "random", "full"};
    for (size_t i = 0; i < LR_COUNT(others); i++) {
        t = c_open(&r, others[i], i == 2 ? "" : "40", 0, false);
        assert_int_equal(lr_engine_seq_load(t, buf, n), LR_EVERSION);
        lr_engine_seq_close(t);
    }
    t = c_open(&r, "h2o", "41", 0, false);
    assert_int_equal(lr_engine_seq_load(t, buf, n), LR_EVERSION);
    lr_engine_seq_close(t);
    t = kit_seq(r.e);
    assert_int_equal(lr_engine_seq_load(t, buf, n), LR_EVERSION);
    lr_engine_seq_close(t);
    /* any byte changed, any length: an error, nothing kept, nothing leaked */
    struct lr_rng rng;
    lr_rng_seed(&rng, 3);
    for (int i = 0; i < 200; i++) {
        size_t at = (size_t)lr_rng_below(&rng, n), len = i % 4 ? n : at;
        char old = buf[at];
        buf[at] = (char)(buf[at] ^ (1 << lr_rng_below(&rng, 8)));
        if (i % 2) { /* with a checksum that is right */
            lr_put_le64(buf + n - 8, lr_hash64(lr_str(buf, n - 8), 0));
        }
        t = c_open(&r, "h2o", "40", 0, false);
        int rc = lr_engine_seq_load(t, buf, len);
        if (len < n || i % 2 == 0)
            assert_true(rc != 0);
        lr_engine_seq_close(t);
        buf[at] = old;
        lr_put_le64(buf + n - 8, lr_hash64(lr_str(buf, n - 8), 0));
    }
    lr_free(buf);
    lr_engine_seq_close(s);
    rig_close(&r);
}

/* Every allocation fails once: a clean error, or the same answer. */
static int fault_run(struct rig *r, const struct lr_policy_stack *stack, float *logits)
{
    struct lr_engine_seq *s = NULL, *fork = NULL;
    const struct lr_engine_seq_opts o = {.policy = {.stack = stack, .budget = c_budget("20")}};
    int rc = lr_engine_seq_open(&s, r->e, &o, NULL);
    rc = rc ? rc : lr_engine_feed(s, r->tokens, 60, NULL, NULL, NULL);
    rc = rc ? rc : lr_engine_feed_as(s, r->tokens, 1, LR_POLICY_TOKEN, NULL, NULL, NULL);
    rc = rc ? rc : lr_engine_seq_fork(&fork, s, 0, NULL);
    rc = rc ? rc : lr_engine_feed_as(fork, r->tokens, 1, LR_POLICY_TOKEN, logits, NULL, NULL);
    lr_engine_seq_close(fork);
    lr_engine_seq_close(s);
    return rc;
}

/* Watched, adopted, saved, loaded. */
static int fault_adopt(struct rig *r, const struct lr_policy_stack *stack, float *logits)
{
    struct lr_engine_seq *s = NULL, *fork = NULL, *back = NULL;
    const struct lr_engine_policy p = {.stack = stack, .budget = c_budget("20")};
    const struct lr_engine_seq_opts o = {.policy = p};
    uint32_t i = 0;
    size_t n = 0;
    char *buf = NULL;
    int rc = lr_engine_seq_open(&s, r->e, &(struct lr_engine_seq_opts){0}, NULL);
    rc = rc ? rc : lr_engine_seq_watch(s, &p, &i, NULL);
    rc = rc ? rc : lr_engine_feed(s, r->tokens, 40, NULL, NULL, NULL);
    rc = rc ? rc : lr_engine_seq_fork(&fork, s, 0, NULL);
    rc = rc ? rc : lr_engine_seq_adopt(fork, s, i, &p.budget, NULL);
    rc = rc ? rc : lr_engine_seq_save(fork, NULL, &n);
    if (!rc)
        rc = (buf = lr_alloc(n)) ? lr_engine_seq_save(fork, buf, &n) : LR_ENOMEM;
    rc = rc ? rc : lr_engine_seq_open(&back, r->e, &o, NULL);
    rc = rc ? rc : lr_engine_seq_load(back, buf, n);
    rc = rc ? rc : lr_engine_feed_as(back, r->tokens, 1, LR_POLICY_TOKEN, logits, NULL, NULL);
    lr_free(buf);
    lr_engine_seq_close(back);
    lr_engine_seq_close(fork);
    lr_engine_seq_close(s);
    return rc;
}

typedef int fault_fn(struct rig *r, const struct lr_policy_stack *stack, float *logits);

static void fail_each(struct rig *r, const char *text, fault_fn *run)
{
    float want[C_VOCAB], got[C_VOCAB];
    struct lr_engine_memory m;
    struct lr_policy_stack stack = c_stack(text);
    OK(run(r, &stack, want));
    for (uint64_t n = 1;; n++) {
        lr_fault_arm(n);
        int rc = run(r, &stack, got);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM || rc == LR_EOVER || rc == LR_EIO);
        lr_engine_memory(r->e, &m);
        assert_int_equal(m.bytes_used, 0);
        if (rc == 0)
            assert_memory_equal(want, got, sizeof want);
        if (!hit)
            break;
    }
}

static void test_failing_memory_is_an_error(void **state)
{
    (void)state;
    static const char *const texts[] = {"pyramid:window=4+h2o", "snapkv:window=8+topread:rows=9+saw-int4",
                                        "keydiff"};
    struct rig r;
    rig_open(&r, 0, 1);
    for (size_t i = 0; i < LR_COUNT(texts); i++)
        fail_each(&r, texts[i], fault_run);
    fail_each(&r, "h2o", fault_adopt);
    fail_each(&r, "pyramid:window=4+adakv:window=8", fault_adopt);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_policy_conforms),
        cmocka_unit_test(test_streaming_keeps_sinks_and_a_window),
        cmocka_unit_test(test_h2o_keeps_the_heavy_and_the_recent),
        cmocka_unit_test(test_random_is_a_uniform_sample),
        cmocka_unit_test(test_pyramid_gives_the_first_layers_more),
        cmocka_unit_test(test_adakv_moves_rows_between_heads),
        cmocka_unit_test(test_protected_rows_stay),
        cmocka_unit_test(test_only_foretold_oracles_run),
        cmocka_unit_test(test_nobody_keeps_more_of_the_future_than_the_oracle),
        cmocka_unit_test(test_taps_of_a_token_do_not_depend_on_its_company),
        cmocka_unit_test(test_reading_every_row_is_the_full_cache),
        cmocka_unit_test(test_choosing_does_not_compose_with_watching_tokens),
        cmocka_unit_test(test_a_budget_promises_less),
        cmocka_unit_test(test_a_kept_prefix_takes_a_policy),
        cmocka_unit_test(test_bytes_of_another_policy_are_refused),
        cmocka_unit_test(test_failing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
