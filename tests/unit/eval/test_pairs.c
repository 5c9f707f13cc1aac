/* SPDX-License-Identifier: Apache-2.0
 * eval/test_pairs.c - thresholds at a share of duplicates against counting, the logistic sum, and the
 * command from files to lines.
 */
#include "eval/pairs_int.h"
#include "eval_kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { N = 200 };

struct set {
    struct pair_scores s;
    double score[N];
    bool same[N];
    uint32_t order[N];
};

static void make(struct set *t, uint64_t seed, double share)
{
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    *t = (struct set){.s = {.n = N}};
    for (size_t i = 0; i < N; i++) {
        t->same[i] = lr_rng_below(&rng, 3) == 0;
        t->s.n_same += t->same[i];
        t->score[i] = (double)lr_rng_below(&rng, 40) + (t->same[i] ? 9 : 0); /* many equals */
    }
    t->s.score = t->score;
    t->s.same = t->same;
    t->s.order = t->order;
    lr_eval_weights(&t->s, share);
    lr_eval_sort(&t->s);
}

static struct pair_quality count(const struct set *t, double threshold, double share)
{
    double tp = 0, fp = 0, same = 0, other = 0;
    for (size_t i = 0; i < N; i++) {
        bool hit = t->score[i] >= threshold;
        tp += hit && t->same[i];
        fp += hit && !t->same[i];
        *(t->same[i] ? &same : &other) += 1;
    }
    double w = share / same, v = (1 - share) / other, p = tp * w / (tp * w + fp * v), r = tp / same;
    return (struct pair_quality){threshold, tp > 0 ? p : 0, r, tp > 0 ? 2 * p * r / (p + r) : 0,
                                 tp * w + (other - fp) * v, 0};
}

static void a_threshold_at_a_share_is_what_counting_gives(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct set t;
        double share = seed % 2 ? 0.5 : 0.1, best = 0, p95 = 0;
        make(&t, 40 + seed, share);
        struct pair_quality q = lr_eval_quality(&t.s, NULL);
        for (double at = 0; at < 50; at++) {
            struct pair_quality c = count(&t, at, share), g = lr_eval_quality(&t.s, &at);
            best = fmax(best, c.f1);
            p95 = c.precision >= 0.95 ? fmax(p95, c.recall) : p95;
            if (fabs(c.f1 - g.f1) > 1e-9 || fabs(c.precision - g.precision) > 1e-9 ||
                fabs(c.recall - g.recall) > 1e-9 || fabs(c.accuracy - g.accuracy) > 1e-9)
                fail_msg("seed %d, threshold %g: F1 %g, counted %g", (int)(40 + seed), at, g.f1,
                         c.f1);
        }
        assert_true(fabs(q.f1 - best) < 1e-9 && fabs(q.recall_p95 - p95) < 1e-9);
        struct pair_quality low, high;
        assert_int_equal(lr_eval_pair_intervals(&t.s, q.threshold, 1, &low, &high), 0);
        assert_true(low.f1 < q.f1 && q.f1 < high.f1 && low.recall <= q.recall);
    }
}

static void the_logistic_sum_finds_the_weights_that_made_the_labels(void **state)
{
    (void)state;
    enum { M = 20000 };
    static double x[M * 2];
    static bool same[M];
    struct lr_rng rng;
    double w[PAIR_FEATURES + 1];
    lr_rng_seed(&rng, 5);
    for (size_t i = 0; i < M; i++) {
        x[2 * i] = 4 * lr_rng_unit(&rng) - 2;
        x[2 * i + 1] = (double)lr_rng_below(&rng, 2);
        same[i] = lr_rng_unit(&rng) < 1 / (1 + exp(-(1.5 * x[2 * i] - x[2 * i + 1] + 0.25)));
    }
    lr_eval_fuse(x, same, M, 2, w);
    assert_true(fabs(w[0] - 1.5) < 0.1 && fabs(w[1] + 1) < 0.15 && fabs(w[2] - 0.25) < 0.15);
    /* A column that is the same for all, and labels that one column tells apart. */
    for (size_t i = 0; i < M; i++) {
        x[2 * i + 1] = 1;
        same[i] = x[2 * i] > 0;
    }
    lr_eval_fuse(x, same, M, 2, w);
    assert_true(isfinite(w[0]) && isfinite(w[1]) && isfinite(w[2]) && w[0] > 5);
}

static void what_cannot_be_read_is_an_error_and_nothing_else(void **state)
{
    (void)state;
    struct lr_buf out;
    char path[] = "/tmp/larder-pairs.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    lr_buf_init(&out, LR_MIB(1));
    const char *models[] = {"/nonexistent", "/nonexistent/m.gguf", path};
    for (size_t i = 0; i < LR_COUNT(models); i++) {
        struct lr_eval_pairs p = {.val = path, .test = path, .model = models[i]};
        struct lr_err err = {0};
        int rc = lr_eval_pairs(&p, &out, &err);
        assert_true(rc < 0 && err.code == rc && err.msg[0]);
        assert_int_equal(lr_eval_pairs(&p, &out, NULL), rc);
    }
    lr_buf_free(&out);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_threshold_at_a_share_is_what_counting_gives),
        cmocka_unit_test(the_logistic_sum_finds_the_weights_that_made_the_labels),
        cmocka_unit_test(what_cannot_be_read_is_an_error_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
