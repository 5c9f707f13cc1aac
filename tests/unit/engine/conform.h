/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/engine/conform.h - the laws that every KV policy and codec keeps, whoever wrote it.
 *
 * A subject is a stack as text. Each law runs a small random model over a prompt and some tokens, and
 * compares logits bit for bit, or rows with budgets. Guard mode is on (test builds).
 */
#ifndef CONFORM_H
#define CONFORM_H

#include "engine_kit.h"

#define C_VOCAB 61u
#define C_PROMPT 300u
#define C_MORE 14u
#define C_ALL (C_PROMPT + C_MORE)

struct shape_case {
    uint32_t n_head, n_kv;
};
static const struct shape_case c_shapes[] = {{4, 2}, {2, 2}, {4, 1}};

struct rig {
    struct lr_engine_model *m;
    struct lr_engine *e;
    uint32_t tokens[C_ALL];
};

/* One thread but where threads are what is looked at: several spin while they wait for each other, which
 * on a busy machine is most of what they do. */
static inline void rig_open(struct rig *r, uint32_t shape, unsigned threads)
{
    const struct spec s = {.arch = "llama", .n_layer = 3, .n_embd = 32, .n_ff = 64, .n_head = c_shapes[shape].n_head,
                           .n_kv = c_shapes[shape].n_kv, .d_head = 32, .type = LR_NN_F32};
    static struct lr_engine_model *models[LR_COUNT(c_shapes)]; /* as long as the program: hundreds of rigs */
    r->m = models[shape] = models[shape] ? models[shape] : kit_model(s, 40 + shape);
    r->e = kit_engine(r->m, threads, "f16");
    kit_tokens(r->tokens, C_ALL, C_VOCAB, 77 + shape);
}

static inline void rig_close(struct rig *r)
{
    lr_engine_close(r->e);
}

/* "" or NULL: no budget. */
static inline struct lr_policy_budget c_budget(const char *text)
{
    struct lr_policy_budget b;
    OK(lr_policy_budget_parse(lr_strz(text), &b, &kit_err));
    return b;
}

static inline struct lr_policy_stack c_stack(const char *text)
{
    struct lr_policy_stack s;
    OK(lr_policy_stack_parse(lr_strz(text), &s, &kit_err));
    return s;
}

static inline struct lr_engine_seq *c_open(struct rig *r, const char *text, const char *budget,
                                           uint64_t seed, bool capped)
{
    struct lr_engine_seq *s;
    struct lr_policy_stack stack = c_stack(text);
    const struct lr_engine_seq_opts o = {.policy = {.stack = &stack, .budget = c_budget(budget),
                                                    .seed = seed, .capped = capped}};
    OK(lr_engine_seq_open(&s, r->e, &o, &kit_err));
    return s;
}

static inline bool c_evaluation(const char *text)
{
    return c_stack(text).flags & LR_POLICY_EVALUATION;
}

/* The prompt; what only an evaluation knows is told before its last tokens. */
static inline void c_prompt(struct rig *r, struct lr_engine_seq *s, const char *text, uint32_t n,
                            float *logits)
{
    uint32_t last = c_evaluation(text) ? (n > 8 ? 8 : n - 1) : n;
    if (last < n) {
        OK(lr_engine_feed_as(s, r->tokens, n - last, LR_POLICY_CHUNK, NULL, NULL, &kit_err));
        OK(lr_engine_seq_foresee(s, LR_ENGINE_ACTIVE, r->tokens + C_PROMPT, C_MORE, &kit_err));
    }
    OK(lr_engine_feed(s, r->tokens + n - last, last, logits, NULL, &kit_err));
}

static inline void c_token(struct rig *r, struct lr_engine_seq *s, uint32_t i, float *logits)
{
    OK(lr_engine_feed_as(s, r->tokens + C_PROMPT + i, 1, LR_POLICY_TOKEN, logits, NULL, &kit_err));
}

/* Logits of the prompt's last token and of each token after it. */
struct answer {
    float logits[C_MORE + 1][C_VOCAB];
};

static inline void c_answer(struct rig *r, struct lr_engine_seq *s, const char *text, uint32_t n,
                            struct answer *a)
{
    c_prompt(r, s, text, n, a->logits[0]);
    for (uint32_t i = 0; i < C_MORE; i++)
        c_token(r, s, i, a->logits[i + 1]);
}

static inline void c_same(const struct answer *a, const struct answer *b, const char *text,
                          const char *law)
{
    for (uint32_t i = 0; i <= C_MORE; i++)
        if (memcmp(a->logits[i], b->logits[i], sizeof a->logits[i]) != 0)
            fail_msg("%s: %s: token %u: %a is not %a", text, law, i, (double)a->logits[i][0],
                     (double)b->logits[i][0]);
}

static inline void c_finite(const struct answer *a, const char *text)
{
    for (uint32_t i = 0; i <= C_MORE; i++)
        for (uint32_t k = 0; k < C_VOCAB; k++)
            if (!isfinite(a->logits[i][k]))
                fail_msg("%s: logit %u of token %u is no number", text, k, i);
}

static inline bool c_evicts(const char *text)
{
    struct lr_policy_stack s = c_stack(text);
    return lr_policy_stack_evicts(&s);
}

/* Most rows of a table. */
static inline size_t c_most(struct rig *r, struct lr_engine_seq *s)
{
    const struct lr_engine_shape *h = lr_engine_model_shape(r->m);
    size_t most = 0;
    for (uint32_t l = 0; l < h->n_layer; l++)
        for (uint32_t i = 0; i < h->n_kv; i++)
            most = lr_engine_rows(s, l, i) > most ? lr_engine_rows(s, l, i) : most;
    return most;
}

static inline uint64_t c_all_rows(struct lr_engine_seq *s)
{
    struct lr_engine_seq_bytes b;
    lr_engine_seq_bytes(s, &b);
    return b.rows;
}

/* ---- the laws ---- */

/* The stack's codec alone, or no policy at all. */
static inline struct lr_engine_seq *c_plain(struct rig *r, const char *text)
{
    struct lr_policy_stack s = c_stack(text);
    return s.codec ? c_open(r, s.codec->name, "", 1, false) : kit_seq(r->e);
}

static inline void law_full_budget_is_the_full_cache(const char *text)
{
    for (uint32_t shape = 0; shape < LR_COUNT(c_shapes); shape++) {
        struct rig r;
        struct answer *a = calloc(2, sizeof *a);
        rig_open(&r, shape, 1);
        struct lr_engine_seq *plain = c_plain(&r, text);
        struct lr_engine_seq *s = c_open(&r, text, c_evicts(text) ? "1000000" : "", 3, false);
        c_answer(&r, plain, "full", C_PROMPT, &a[0]);
        c_answer(&r, s, text, C_PROMPT, &a[1]);
        if (c_stack(text).select < 0) /* who reads less differs; no row is lost all the same */
            c_same(&a[1], &a[0], text, "full budget");
        assert_int_equal(c_most(&r, s), C_ALL);
        c_finite(&a[1], text);
        lr_engine_seq_close(plain);
        lr_engine_seq_close(s);
        rig_close(&r);
        free(a);
    }
}

/* Sum over tables; PER_HEAD and uneven budgets are checked by the host table by table. */
static inline void c_within(struct rig *r, struct lr_engine_seq *s, const char *text,
                            const char *budget, uint32_t slack)
{
    struct lr_engine_policy_info info;
    const struct lr_engine_shape *h = lr_engine_model_shape(r->m);
    OK(lr_engine_seq_info(s, LR_ENGINE_ACTIVE, &info));
    uint64_t most = ((uint64_t)info.rows_budget + slack) * h->n_layer * h->n_kv;
    if (c_all_rows(s) > most)
        fail_msg("%s, %s: %llu rows where %llu may be", text, budget,
                 (unsigned long long)c_all_rows(s), (unsigned long long)most);
}

static inline void law_budgets_hold(const char *text)
{
    static const char *const budgets[] = {"1", "7", "33", "64", "60K", "24K", "25%", "3%"};
    struct rig r;
    struct answer a;
    if (!c_evicts(text))
        return;
    for (uint32_t shape = 0; shape < LR_COUNT(c_shapes); shape++)
        for (size_t i = shape; i < LR_COUNT(budgets); i += LR_COUNT(c_shapes)) {
            rig_open(&r, shape, 1);
            struct lr_policy_budget b = c_budget(budgets[i]);
            struct lr_engine_seq_bytes bytes;
            if (b.kind == LR_POLICY_BUDGET_BYTES)
                b.bytes *= c_shapes[shape].n_kv; /* some pages for each table */
            struct lr_policy_stack stack = c_stack(text);
            struct lr_engine_seq *s;
            const struct lr_engine_seq_opts o = {.policy = {.stack = &stack, .budget = b}};
            OK(lr_engine_seq_open(&s, r.e, &o, &kit_err));
            c_prompt(&r, s, text, C_PROMPT, a.logits[0]);
            c_within(&r, s, text, budgets[i], 0);
            for (uint32_t t = 0; t < C_MORE; t++) {
                c_token(&r, s, t, a.logits[t + 1]);
                c_within(&r, s, text, budgets[i], 0);
                lr_engine_seq_bytes(s, &bytes);
                if (b.kind == LR_POLICY_BUDGET_BYTES)
                    assert_true(bytes.unique + bytes.shared <= b.bytes);
            }
            OK(lr_engine_seq_turn_end(s, &kit_err));
            c_within(&r, s, text, budgets[i], 0);
            c_finite(&a, text);
            lr_engine_seq_close(s);
            rig_close(&r);
        }
}

static inline void law_capped_prompts_never_grow(const char *text)
{
    struct lr_policy_stack stack = c_stack(text);
    struct rig r;
    float logits[C_VOCAB];
    bool can = c_evicts(text);
    for (uint32_t i = 0; i < stack.n_part; i++)
        can &= (stack.part[i].policy->flags & LR_POLICY_CAPPED) != 0;
    rig_open(&r, 0, 1);
    if (!can) {
        struct lr_engine_seq *s;
        struct lr_err err = {0};
        const struct lr_engine_seq_opts o = {
            .policy = {.stack = &stack, .budget = c_budget(c_evicts(text) ? "20" : ""), .capped = true}};
        assert_true(lr_engine_seq_open(&s, r.e, &o, &err) != 0);
        assert_true(err.msg[0]);
    } else {
        struct lr_engine_seq *s = c_open(&r, text, "20", 1, true);
        for (uint32_t i = 0; i < 4; i++)
            OK(lr_engine_feed_as(s, r.tokens, 256, LR_POLICY_CHUNK, NULL, NULL, &kit_err));
        c_within(&r, s, text, "20", 0);
        OK(lr_engine_feed(s, r.tokens, 100, logits, NULL, &kit_err));
        c_within(&r, s, text, "20", 0);
        struct lr_engine_seq_bytes b;
        lr_engine_seq_bytes(s, &b);
        uint64_t page = 448 + 32 * 128; /* f16 heads of 32, and smaller codecs */
        assert_true(b.peak <= 6 * ((20 + 256 + 31) / 32 + 2) * (page + 512));
        lr_engine_seq_close(s);
    }
    rig_close(&r);
}

static inline void law_a_seed_decides_alone(const char *text)
{
    struct answer *a = calloc(2, sizeof *a);
    for (unsigned threads = 1; threads <= 2; threads++) {
        struct rig r;
        rig_open(&r, 0, threads);
        struct lr_engine_seq *s = c_open(&r, text, c_evicts(text) ? "48" : "", 9, false);
        c_answer(&r, s, text, C_PROMPT, &a[threads - 1]);
        lr_engine_seq_close(s);
        rig_close(&r);
    }
    c_same(&a[1], &a[0], text, "same seed, other threads");
    free(a);
}

/* Saved after `at` tokens behind the prompt, or (at < 0) inside it; loaded elsewhere; goes on. */
static inline void c_save_at(struct rig *r, const char *text, int at, struct answer *want)
{
    struct answer *got = calloc(1, sizeof *got);
    const char *budget = c_evicts(text) ? "40" : "";
    struct lr_engine_seq *s = c_open(r, text, budget, 5, false);
    uint32_t first = at < 0 ? 256 : C_PROMPT;
    memcpy(got, want, sizeof *got);
    if (at < 0)
        OK(lr_engine_feed_as(s, r->tokens, first, LR_POLICY_CHUNK, NULL, NULL, &kit_err));
    else
        c_prompt(r, s, text, C_PROMPT, got->logits[0]);
    for (int i = 0; i < at; i++)
        c_token(r, s, (uint32_t)i, got->logits[i + 1]);
    size_t n;
    OK(lr_engine_seq_save(s, NULL, &n));
    char *buf = lr_alloc(n);
    OK(lr_engine_seq_save(s, buf, &n));
    lr_engine_seq_close(s);
    s = c_open(r, text, budget, 1234, false); /* the seed comes with the bytes */
    OK(lr_engine_seq_load(s, buf, n));
    if (at < 0)
        OK(lr_engine_feed(s, r->tokens + first, C_PROMPT - first, got->logits[0], NULL, &kit_err));
    for (uint32_t i = at < 0 ? 0 : (uint32_t)at; i < C_MORE; i++)
        c_token(r, s, i, got->logits[i + 1]);
    c_same(got, want, text, "saved, loaded, gone on");
    size_t again = 0;
    OK(lr_engine_seq_save(s, NULL, &again));
    lr_free(buf);
    lr_engine_seq_close(s);
    free(got);
}

static inline void law_saved_and_loaded_goes_on(const char *text)
{
    struct rig r;
    struct answer *want = calloc(1, sizeof *want);
    rig_open(&r, 0, 1);
    struct lr_engine_seq *s = c_open(&r, text, c_evicts(text) ? "40" : "", 5, false);
    c_answer(&r, s, text, C_PROMPT, want);
    lr_engine_seq_close(s);
    c_save_at(&r, text, 0, want);
    c_save_at(&r, text, 6, want);
    if (!c_evaluation(text))
        c_save_at(&r, text, -1, want);
    rig_close(&r);
    free(want);
}

/* A fork goes its way, the other its own; both as if they were alone. */
static inline void law_forks_are_apart(const char *text)
{
    struct rig r;
    struct answer *a = calloc(3, sizeof *a);
    const char *budget = c_evicts(text) ? "40" : "";
    float other[C_VOCAB], want[C_VOCAB];
    rig_open(&r, 0, 1);
    struct lr_engine_seq *alone = c_open(&r, text, budget, 5, false), *fork;
    struct lr_engine_seq *s = c_open(&r, text, budget, 5, false);
    c_answer(&r, alone, text, C_PROMPT, &a[0]);
    lr_engine_seq_close(alone);
    c_prompt(&r, s, text, C_PROMPT, a[1].logits[0]);
    memcpy(a[2].logits[0], a[1].logits[0], sizeof other);
    for (uint32_t i = 0; i < C_MORE; i++) {
        if (i == 3)
            OK(lr_engine_seq_fork(&fork, s, 0, &kit_err));
        if (i >= 3)
            c_token(&r, fork, i, a[2].logits[i + 1]);
        c_token(&r, s, i, a[1].logits[i + 1]);
        if (i < 3)
            memcpy(a[2].logits[i + 1], a[1].logits[i + 1], sizeof other);
    }
    c_same(&a[1], &a[0], text, "forked from");
    c_same(&a[2], &a[0], text, "fork");
    /* what one is fed the other does not see */
    uint64_t rows = c_all_rows(s);
    OK(lr_engine_feed(fork, r.tokens, 50, other, NULL, &kit_err));
    assert_int_equal(c_all_rows(s), rows);
    OK(lr_engine_feed(s, r.tokens, 50, want, NULL, &kit_err));
    assert_memory_equal(want, other, sizeof want);
    lr_engine_seq_close(fork);
    lr_engine_seq_close(s);
    rig_close(&r);
    free(a);
}

static inline void law_short_prompts_work(const char *text)
{
    static const uint32_t lengths[] = {1, 2, 5, 31, 33};
    static const char *const budgets[] = {"1", "16", "1000", "20%"};
    struct rig r;
    struct answer a;
    rig_open(&r, 2, 1);
    for (size_t i = 0; i < LR_COUNT(lengths); i++)
        for (size_t k = 0; k < LR_COUNT(budgets); k++) {
            if (lengths[i] == 1 && c_evaluation(text))
                continue; /* nothing to foretell before the only token */
            struct lr_engine_seq *s = c_open(&r, text, c_evicts(text) ? budgets[k] : "", 1, false);
            c_answer(&r, s, text, lengths[i], &a);
            c_finite(&a, text);
            OK(lr_engine_feed(s, r.tokens, 40, a.logits[0], NULL, &kit_err)); /* a second turn */
            c_finite(&a, text);
            lr_engine_seq_close(s);
        }
    rig_close(&r);
}

/* Cut back and fed again: within the budget, the same every time. */
static inline void law_truncated_goes_on(const char *text)
{
    struct rig r;
    struct answer *a = calloc(2, sizeof *a);
    rig_open(&r, 0, 1);
    for (int k = 0; k < 2; k++) {
        struct lr_engine_seq *s = c_open(&r, text, c_evicts(text) ? "40" : "", 5, false);
        c_answer(&r, s, text, C_PROMPT, &a[k]);
        OK(lr_engine_seq_truncate(s, C_PROMPT - 7));
        OK(lr_engine_feed(s, r.tokens, 60, a[k].logits[0], NULL, &kit_err));
        for (uint32_t i = 0; i < C_MORE; i++)
            c_token(&r, s, i, a[k].logits[i + 1]);
        lr_engine_seq_close(s);
    }
    c_same(&a[1], &a[0], text, "truncated");
    c_finite(a, text);
    rig_close(&r);
    free(a);
}

/* Watched without a budget, forked, adopted: as if the policy had been there from the start. */
static inline void law_adopted_is_as_if_alone(const char *text)
{
    struct rig r;
    struct answer *a = calloc(2, sizeof *a);
    struct lr_policy_stack stack = c_stack(text);
    uint32_t watcher;
    if (!c_evicts(text))
        return free(a);
    rig_open(&r, 0, 1);
    struct lr_engine_seq *alone = c_open(&r, text, "40", 5, false), *fork;
    struct lr_engine_seq *s = c_plain(&r, text);
    if (!stack.codec) {
        struct lr_policy_budget b = c_budget("40");
        OK(lr_engine_seq_watch(s, &(struct lr_engine_policy){.stack = &stack, .seed = 5}, &watcher,
                               &kit_err));
        OK(lr_engine_feed(s, r.tokens, C_PROMPT, a[1].logits[0], NULL, &kit_err));
        if (c_evaluation(text))
            OK(lr_engine_seq_foresee(s, watcher, r.tokens + C_PROMPT, C_MORE, &kit_err));
        OK(lr_engine_seq_fork(&fork, s, 0, &kit_err));
        OK(lr_engine_seq_adopt(fork, s, watcher, &b, &kit_err));
        c_within(&r, fork, text, "40", 0);
        for (uint32_t i = 0; i < C_MORE; i++)
            c_token(&r, fork, i, a[1].logits[i + 1]);
        c_answer(&r, alone, text, C_PROMPT, &a[0]);
        if (!c_evaluation(text)) /* the future was told at another place there */
            c_same(&a[1], &a[0], text, "adopted");
        lr_engine_seq_close(fork);
    }
    lr_engine_seq_close(alone);
    lr_engine_seq_close(s);
    rig_close(&r);
    free(a);
}

static inline void law_no_budget_is_an_error(const char *text)
{
    static const struct lr_policy_budget bad[] = {
        {.kind = LR_POLICY_BUDGET_ROWS},
        {.kind = LR_POLICY_BUDGET_BYTES},
        {.kind = LR_POLICY_BUDGET_FRACTION},
        {.kind = LR_POLICY_BUDGET_BYTES, .bytes = 100},
    };
    struct rig r;
    struct lr_policy_stack stack = c_stack(text);
    struct lr_engine_memory before, after;
    rig_open(&r, 0, 1);
    lr_engine_memory(r.e, &before);
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_err err = {0};
        struct lr_engine_seq *s = NULL;
        const struct lr_engine_seq_opts o = {.tokens_max = 100,
                                             .policy = {.stack = &stack, .budget = bad[i]}};
        assert_int_equal(lr_engine_seq_open(&s, r.e, &o, &err), LR_EINVAL);
        assert_true(err.msg[0] && !s);
    }
    lr_engine_memory(r.e, &after);
    assert_memory_equal(&before, &after, sizeof before);
    rig_close(&r);
}

static inline void conform(const char *text)
{
    law_full_budget_is_the_full_cache(text);
    law_budgets_hold(text);
    law_capped_prompts_never_grow(text);
    law_a_seed_decides_alone(text);
    law_saved_and_loaded_goes_on(text);
    law_forks_are_apart(text);
    law_short_prompts_work(text);
    law_truncated_goes_on(text);
    law_adopted_is_as_if_alone(text);
    law_no_budget_is_an_error(text);
}

/* All stacks at once in the same steps, cut at random; each as alone. */
static inline void conform_batch(const char *const *text, size_t n, uint64_t seed)
{
    struct rig r;
    struct answer *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
    struct lr_engine_seq **s = calloc(n, sizeof(struct lr_engine_seq *));
    uint32_t *done = calloc(n, sizeof *done);
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    rig_open(&r, 0, seed == 1 ? 2 : 1);
    for (size_t i = 0; i < n; i++) {
        struct lr_engine_seq *alone = c_open(&r, text[i], c_evicts(text[i]) ? "40" : "", i, false);
        c_answer(&r, alone, text[i], C_PROMPT, &want[i]);
        lr_engine_seq_close(alone);
        s[i] = c_open(&r, text[i], c_evicts(text[i]) ? "40" : "", i, false);
    }
    for (size_t left = n; left;) {
        struct lr_engine_work w[16] = {0};
        size_t k = 0;
        uint32_t room = LR_ENGINE_BATCH;
        for (size_t i = 0; i < n && k < LR_COUNT(w); i++) {
            bool prompt = done[i] < C_PROMPT;
            uint32_t most = 1 + (uint32_t)lr_rng_below(&rng, 90), now = !prompt;
            most = most < room ? most : room;
            if (prompt)
                now = lr_engine_seq_tile(s[i], C_PROMPT - done[i], most);
            if (!now || done[i] == C_ALL || now > room || lr_rng_below(&rng, 4) == 0)
                continue;
            bool end = done[i] + now == C_PROMPT;
            w[k++] = (struct lr_engine_work){
                .seq = s[i], .tokens = r.tokens + done[i], .n = now, .n_logits = end || !prompt,
                .phase = !prompt ? LR_POLICY_TOKEN : end ? LR_POLICY_PROMPT_END : LR_POLICY_CHUNK,
                .logits = got[i].logits[prompt ? 0 : done[i] - C_PROMPT + 1]};
            room -= now;
            done[i] += now;
            left -= done[i] == C_ALL;
        }
        OK(lr_engine_step(r.e, w, k, &kit_err));
    }
    for (size_t i = 0; i < n; i++) {
        OK(lr_engine_seq_status(s[i], &kit_err));
        c_same(&got[i], &want[i], text[i], "in a batch");
        lr_engine_seq_close(s[i]);
    }
    rig_close(&r);
    free(want);
    free(got);
    free(s);
    free(done);
}

#endif
