/* SPDX-License-Identifier: Apache-2.0
 * unit/engine/test_sampler.c - the sampler against a twin that sorts everything, and stop strings.
 */
#include "chat_kit.h"

/* ---- the twin: the same definition, plainly ---- */

struct twin {
    uint32_t id;
    double logit, p;
};

static int by_logit(const void *a, const void *b)
{
    const struct twin *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b)
{
    const struct twin *x = a, *y = b;
    return x->id < y->id ? -1 : 1;
}

static void twin_logits(const struct lr_engine_sampling *o, const float *logits, uint32_t n,
                        const uint64_t *mask, const uint32_t *seen, const uint32_t *said,
                        struct twin *t)
{
    for (uint32_t i = 0; i < n; i++) {
        float l = logits[i];
        for (size_t k = 0; k < o->n_bias; k++)
            if (o->bias[k].id == i)
                l += o->bias[k].add;
        if ((seen[i] || said[i]) && o->repetition != 0)
            l = l > 0 ? l / o->repetition : l * o->repetition;
        if (said[i])
            l -= o->presence + o->frequency * (float)said[i];
        if (mask && !(mask[i / 64] >> (i % 64) & 1))
            l = -INFINITY;
        t[i] = (struct twin){i, (double)l, 0};
    }
}

static uint32_t twin_pick(const struct lr_engine_sampling *o, struct twin *t, uint32_t n, double u)
{
    bool filters = o->top_k || (o->top_p > 0 && o->top_p < 1) || o->min_p > 0;
    double pool = 0, sum = 0, total = 0;
    uint32_t k = o->top_k && o->top_k < n ? o->top_k : n, kept = 0;
    qsort(t, n, sizeof *t, by_logit);
    if (o->temperature <= 0)
        return t[0].id;
    for (uint32_t i = 0; i < n; i++)
        t[i].p = exp((t[i].logit - t[0].logit) / (double)o->temperature);
    for (uint32_t i = 0; i < k; i++)
        pool += t[i].p;
    for (; kept < k; kept++) {
        if (t[kept].p <= 0 || (o->min_p > 0 && t[kept].p < (double)o->min_p && kept))
            break;
        sum += t[kept].p;
        if (o->top_p > 0 && o->top_p < 1 && sum >= (double)o->top_p * pool) {
            kept++;
            break;
        }
    }
    if (!filters)
        qsort(t, kept, sizeof *t, by_id);
    for (uint32_t i = 0; i < kept; i++)
        total += t[i].p;
    sum = 0;
    for (uint32_t i = 0; i < kept; i++)
        if ((sum += t[i].p) > u * total)
            return t[i].id;
    return t[kept - 1].id;
}

/* Options of all kinds, from a seed. */
static struct lr_engine_sampling options(struct lr_rng *r, struct lr_engine_bias *bias, uint32_t n)
{
    static const float temperatures[] = {0, 0.3f, 1, 2}, tops[] = {0, 0.1f, 0.7f, 0.99f, 1};
    struct lr_engine_sampling o = {.temperature = temperatures[lr_rng_below(r, 4)],
                                   .top_p = tops[lr_rng_below(r, 5)],
                                   .min_p = lr_rng_below(r, 3) ? 0 : 0.05f,
                                   .top_k = lr_rng_below(r, 2) ? 0 : (uint32_t)lr_rng_below(r, n),
                                   .repetition = lr_rng_below(r, 2) ? 0 : 1.3f,
                                   .presence = lr_rng_below(r, 2) ? 0 : 0.5f,
                                   .frequency = lr_rng_below(r, 2) ? 0 : -0.25f,
                                   .seed = lr_rng_u64(r),
                                   .bias = bias};
    for (o.n_bias = 0; o.n_bias < lr_rng_below(r, 3); o.n_bias++)
        bias[o.n_bias] = (struct lr_engine_bias){(uint32_t)(7 * o.n_bias + lr_rng_below(r, 7)), 3};
    return o;
}

static void picks_are_those_of_the_plain_definition(void **state)
{
    enum { N = 1500, STEPS = 12 }; /* above and below the first candidates */
    static float logits[N];
    static struct twin t[N];
    static uint32_t seen[N], said[N];
    static uint64_t mask[(N + 63) / 64];
    (void)state; /* cmocka's */
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct lr_rng r, stream;
        struct lr_engine_bias bias[4];
        struct lr_engine_sampler *s;
        struct lr_engine_pick pick;
        lr_rng_seed(&r, seed);
        uint32_t n = seed % 2 ? N : 40, prompt[3] = {1, 5, 9};
        struct lr_engine_sampling o = options(&r, bias, n);
        lr_rng_seed(&stream, o.seed);
        memset(seen, 0, sizeof seen);
        memset(said, 0, sizeof said);
        seen[1] = seen[5] = seen[9] = 1;
        assert_int_equal(lr_engine_sampler_open(&s, &o, n), 0);
        assert_int_equal(lr_engine_sampler_see(s, prompt, 3), 0);
        for (int step = 0; step < STEPS; step++) {
            bool masked = lr_rng_below(&r, 2);
            for (uint32_t i = 0; i < n; i++) /* steps of 1/8: many equals */
                logits[i] = (float)lr_rng_below(&r, 64) / 8 - 4;
            for (size_t w = 0; w < LR_COUNT(mask); w++)
                mask[w] = lr_rng_u64(&r) | 1;
            assert_int_equal(lr_engine_sampler_pick(s, logits, masked ? mask : NULL, &pick), 0);
            twin_logits(&o, logits, n, masked ? mask : NULL, seen, said, t);
            double u = o.temperature > 0 ? lr_rng_unit(&stream) : 0;
            uint32_t want = twin_pick(&o, t, n, u);
            if (pick.id != want)
                fail_msg("seed %u step %d: %u, want %u", (unsigned)seed, step, pick.id, want);
            said[pick.id]++;
        }
        lr_engine_sampler_close(s);
    }
}

static void draws_follow_the_distribution(void **state)
{
    static const float logits[4] = {0, 0.6931472f, 1.3862944f, -INFINITY}; /* 1 : 2 : 4 : 0 */
    struct lr_engine_sampling o = {.temperature = 1, .seed = 7};
    struct lr_engine_sampler *s;
    struct lr_engine_pick p;
    unsigned n[4] = {0};
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_sampler_open(&s, &o, 4), 0);
    for (int i = 0; i < 70000; i++) {
        assert_int_equal(lr_engine_sampler_pick(s, logits, NULL, &p), 0);
        n[p.id]++;
    }
    assert_int_equal(n[3], 0);
    for (unsigned i = 0; i < 3; i++) /* five standard deviations of at most 131 */
        assert_in_range(n[i], (10000u << i) - 660, (10000u << i) + 660);
    lr_engine_sampler_close(s);
}

static void sequences_do_not_share_a_stream(void **state)
{
    enum { N = 50, STEPS = 40 };
    float logits[N];
    struct lr_engine_sampling o = {.temperature = 1.5f, .top_p = 0.9f, .seed = 11}, q = o;
    struct lr_engine_sampler *alone, *x, *y;
    struct lr_engine_pick a, b, other;
    (void)state; /* cmocka's */
    q.seed = 12;
    assert_int_equal(lr_engine_sampler_open(&alone, &o, N), 0);
    assert_int_equal(lr_engine_sampler_open(&x, &o, N), 0);
    assert_int_equal(lr_engine_sampler_open(&y, &q, N), 0);
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < N; k++)
            logits[k] = (float)((k * 31 + i * 17) % 23) / 5;
        assert_int_equal(lr_engine_sampler_pick(alone, logits, NULL, &a), 0);
        assert_int_equal(lr_engine_sampler_pick(y, logits, NULL, &other), 0);
        assert_int_equal(lr_engine_sampler_pick(x, logits, NULL, &b), 0);
        assert_int_equal(a.id, b.id);
    }
    lr_engine_sampler_close(alone);
    lr_engine_sampler_close(x);
    lr_engine_sampler_close(y);
}

static void logprobs_are_the_models_own(void **state)
{
    static const float logits[5] = {1, 3, 2, 3, -1};
    static const uint64_t mask[1] = {1 << 4};
    struct lr_engine_bias bias = {2, 50};
    struct lr_engine_sampling o = {.temperature = 0.1f, .top_k = 1, .bias = &bias, .n_bias = 1,
                                   .logprobs = true, .top_logprobs = 3};
    struct lr_engine_sampler *s;
    struct lr_engine_pick p;
    double lse = log(exp(1) + 2 * exp(3) + exp(2) + exp(-1));
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_sampler_open(&s, &o, 5), 0);
    assert_int_equal(lr_engine_sampler_pick(s, logits, mask, &p), 0);
    assert_int_equal(p.id, 4);
    assert_true(fabs((double)p.logprob - (-1 - lse)) < 1e-6);
    assert_true(p.n_top == 3 && p.top[0].id == 1 && p.top[1].id == 3 && p.top[2].id == 2);
    assert_true(fabs((double)p.top[0].logprob - (3 - lse)) < 1e-6);
    lr_engine_sampler_close(s);
}

static void nothing_allowed_is_an_error(void **state)
{
    float logits[3] = {NAN, NAN, 1};
    uint64_t none[1] = {3};
    struct lr_engine_sampling o = {0};
    struct lr_engine_sampler *s;
    struct lr_engine_pick p;
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_sampler_open(&s, &o, 3), 0);
    assert_int_equal(lr_engine_sampler_pick(s, logits, none, &p), LR_EINVAL);
    assert_int_equal(lr_engine_sampler_pick(s, logits, NULL, &p), 0);
    assert_int_equal(p.id, 2);
    lr_engine_sampler_close(s);
}

/* ---- requests ---- */

static void requests_are_read_and_checked(void **state)
{
    static const char *const bad[] = {
        "\"temperature\":2.1", "\"top_p\":-0.1", "\"presence_penalty\":3", "\"seed\":1.5",
        "\"logit_bias\":{\"99\":1}", "\"logit_bias\":{\"1\":101}", "\"top_logprobs\":21",
        "\"min_p\":2", "\"logit_bias\":{\"x\":1}",
    };
    struct lr_engine_sampling o;
    struct lr_arena a;
    char body[512];
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(1));
    const struct lr_request *r = kit_request(
        &a, LR_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                   "\"temperature\":0.5,\"top_p\":0.9,\"min_p\":0.1,\"repetition_penalty\":1.1,"
                   "\"seed\":-3,\"logit_bias\":{\"5\":-100},\"logprobs\":true,\"top_logprobs\":2}"));
    assert_int_equal(lr_engine_sampling_read(&a, r, 50, 9, &o, NULL), 0);
    assert_true(o.temperature == 0.5f && o.top_p == 0.9f && o.min_p == 0.1f && o.repetition == 1.1f);
    assert_true(o.seed == (uint64_t)-3 && o.n_bias == 1 && o.bias[0].id == 5 && o.logprobs);
    assert_int_equal(o.top_logprobs, 2);
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_err err = {0};
        struct lr_request *q;
        snprintf(body, sizeof body,
                 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],%s}", bad[i]);
        if (lr_request_parse(&a, LR_DIALECT_CHAT, lr_strz(body), &q, NULL))
            continue; /* refused earlier */
        if (lr_engine_sampling_read(&a, q, 50, 9, &o, &err) != LR_EINVAL || !err.where[0])
            fail_msg("%s was taken", bad[i]);
    }
    lr_arena_free(&a);
}

/* ---- stop strings ---- */

/* The plain definition: the shortest beginning that ends with a stop string, without the longest such
 * string. */
static size_t twin_stop(struct lr_str text, const struct lr_str *stop, size_t n, int *hit)
{
    *hit = -1;
    for (size_t end = 1; end <= text.n; end++) {
        for (size_t i = 0; i < n; i++)
            if (stop[i].n <= end && memcmp(text.p + end - stop[i].n, stop[i].p, stop[i].n) == 0 &&
                (*hit < 0 || stop[i].n > stop[*hit].n))
                *hit = (int)i;
        if (*hit >= 0)
            return end - stop[*hit].n;
    }
    return text.n;
}

static void stop_strings_never_leak(void **state)
{
    (void)state; /* cmocka's */
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct lr_rng r;
        struct lr_engine_stopper *s;
        struct lr_buf out;
        char text[40], z[3][6];
        struct lr_str stop[3];
        int hit = -1, want;
        lr_rng_seed(&r, seed);
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)('a' + lr_rng_below(&r, 2));
        for (size_t i = 0; i < 3; i++) {
            stop[i] = lr_str(z[i], 1 + lr_rng_below(&r, 6));
            for (size_t k = 0; k < stop[i].n; k++)
                z[i][k] = (char)('a' + (lr_rng_below(&r, 8) == 0 ? 2 : lr_rng_below(&r, 2)));
        }
        size_t n_stop = lr_rng_below(&r, 4);
        size_t shown = twin_stop(lr_str(text, sizeof text), stop, n_stop, &want);
        lr_buf_init(&out, 100);
        assert_int_equal(lr_engine_stopper_open(&s, stop, n_stop), 0);
        for (size_t at = 0; at < sizeof text && hit < 0;) {
            size_t n = 1 + lr_rng_below(&r, 5);
            n = n < sizeof text - at ? n : sizeof text - at;
            assert_int_equal(lr_engine_stopper_feed(s, lr_str(text + at, n), &out, &hit), 0);
            assert_true(out.len <= shown); /* at no time anything that is taken back */
            at += n;
        }
        assert_int_equal(lr_engine_stopper_end(s, &out), 0);
        if (hit < 0 ? want >= 0 : want < 0 || !lr_str_eq(stop[hit], stop[want]))
            fail_msg("seed %u: hit %d, want %d", (unsigned)seed, hit, want);
        if (out.len != shown || memcmp(out.p ? out.p : "", text, shown) != 0)
            fail_msg("seed %u: %zu bytes, want %zu", (unsigned)seed, out.len, shown);
        lr_engine_stopper_close(s);
        lr_buf_free(&out);
    }
}

/* ---- faults ---- */

static int scenario(void)
{
    static const float logits[600];
    struct lr_engine_sampling o = {.temperature = 1, .top_p = 0.5f, .presence = 1, .logprobs = true,
                                   .top_logprobs = 20};
    struct lr_engine_sampler *s = NULL;
    struct lr_engine_stopper *t = NULL;
    struct lr_engine_pick p;
    struct lr_str stop = LR_STR("x");
    int rc = lr_engine_sampler_open(&s, &o, 600);
    for (int i = 0; i < 200 && !rc; i++)
        rc = lr_engine_sampler_pick(s, logits, NULL, &p);
    if (!rc)
        rc = lr_engine_stopper_open(&t, &stop, 1);
    lr_engine_sampler_close(s);
    lr_engine_stopper_close(t);
    return rc;
}

static void every_failing_allocation_is_a_clean_error(void **state)
{
    int rc = -1;
    (void)state; /* cmocka's */
    for (uint64_t n = 1; rc; n++) {
        lr_fault_arm(n);
        rc = scenario();
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_are_those_of_the_plain_definition),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(sequences_do_not_share_a_stream),
        cmocka_unit_test(logprobs_are_the_models_own),
        cmocka_unit_test(nothing_allowed_is_an_error),
        cmocka_unit_test(requests_are_read_and_checked),
        cmocka_unit_test(stop_strings_never_leak),
        cmocka_unit_test(every_failing_allocation_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
