/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/test_train.c - the gradient against differences, training against its promises, CSV,
 * thresholds, the logistic fit, main directions.
 */
#include "embed_kit.h"

/* ---- the gradient ---- */

enum { VOCAB = 12, DIM = 7, HEAD = 5, PAIRS = 9 };

struct problem {
    struct tune t;
    struct tune_work *w;
    struct tune_pair pairs[PAIRS];
    uint32_t ids[2 * PAIRS][6];
    float vectors[2 * PAIRS][DIM];
    float param[2 + HEAD * DIM + VOCAB + VOCAB * DIM], grad[2 + HEAD * DIM + VOCAB + VOCAB * DIM];
    struct lr_rng rng;
};

static void make(struct problem *p, bool table, bool head, float contrast, uint64_t seed)
{
    *p = (struct problem){0};
    p->t = (struct tune){.dim_in = DIM, .dim_out = head ? HEAD : DIM, .vocab = table ? VOCAB : 0,
                         .has_head = head, .contrast = contrast, .param = p->param};
    lr_rng_seed(&p->rng, seed);
    for (size_t i = 0; i < lr_embed_tune_params(&p->t); i++)
        p->param[i] = (float)(lr_rng_unit(&p->rng) * 2 - 1);
    p->param[0] = 4;
    p->param[1] = 0.3f;
    for (size_t i = 0; i < 2 * PAIRS; i++) {
        struct tune_text *x = i % 2 ? &p->pairs[i / 2].b : &p->pairs[i / 2].a;
        x->n = 1 + (uint32_t)lr_rng_below(&p->rng, 6);
        x->ids = p->ids[i];
        x->vector = p->vectors[i];
        x->hash = i;
        for (int k = 0; k < 6; k++)
            p->ids[i][k] = (uint32_t)lr_rng_below(&p->rng, VOCAB);
        for (int k = 0; k < DIM; k++)
            p->vectors[i][k] = (float)(lr_rng_unit(&p->rng) * 2 - 1);
        p->pairs[i / 2].same = lr_rng_below(&p->rng, 2);
    }
    p->pairs[0].same = true;
    p->pairs[3].b.hash = p->pairs[0].b.hash; /* no rival of pair 0 */
    p->pairs[4].a.n = table ? 0 : 1;         /* a text without a vector */
    assert_int_equal(lr_embed_tune_open(&p->w, &p->t, PAIRS), 0);
}

static void the_gradient_is_the_slope_of_the_loss(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        struct problem p;
        bool table = kind & 1, head = kind & 2;
        make(&p, table, head, kind & 4 ? 0.7f : 0, 100 + (uint64_t)kind);
        lr_embed_tune_loss(&p.t, p.w, p.pairs, PAIRS, p.grad);
        for (size_t i = 0; i < lr_embed_tune_params(&p.t); i++) {
            float keep = p.param[i];
            volatile float up = keep + 1e-5f, down = keep - 1e-5f;
            p.param[i] = up;
            double high = lr_embed_tune_loss(&p.t, p.w, p.pairs, PAIRS, NULL);
            p.param[i] = down;
            double low = lr_embed_tune_loss(&p.t, p.w, p.pairs, PAIRS, NULL);
            p.param[i] = keep;
            double slope = (high - low) / ((double)up - (double)down);
            if (fabs(slope - (double)p.grad[i]) > 2e-5 * (1 + fabs(slope)))
                fail_msg("kind %d, parameter %zu: slope %.9f, gradient %.9f", kind, i, slope,
                         (double)p.grad[i]);
        }
        lr_embed_tune_close(p.w);
    }
}

/* ---- CSV ---- */

static void csv_is_read_as_written(void **state)
{
    (void)state;
    struct lr_embed_pairs p;
    struct lr_err err = {0};
    int rc = lr_embed_pairs_parse(
        &p, LR_STR("\xEF\xBB\xBFid,is_duplicate,question2,question1\r\n"
                   "1,1,\"a \"\"b\"\", c\nd\",plain text\r\n"
                   "\n"
                   "2,0,,\"\"\n"
                   "3,1,x,y"), &err);
    assert_int_equal(rc, 0);
    assert_int_equal(p.n, 3);
    assert_true(p.pair[0].same && !p.pair[1].same && p.pair[2].same);
    assert_true(lr_str_is(p.pair[0].a, "plain text"));
    assert_true(lr_str_is(p.pair[0].b, "a \"b\", c\nd"));
    assert_int_equal(p.pair[1].a.n, 0);
    assert_true(lr_str_is(p.pair[2].a, "y"));
    lr_embed_pairs_free(&p);
}

static void csv_that_is_none_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where;
    } bad[] = {
        {"", "line 1"},
        {"a,b,c\n", "line 1"},
        {"question1,question2,is_duplicate\nx,y\n", "line 2"},
        {"question1,question2,is_duplicate\nx,y,1\n\"a\nb\",y,2\n", "line 3"},
        {"question1,question2,is_duplicate\n\"a\nb\",y,1\nx,y,1,1\n", "line 4"},
        {"question1,question2,is_duplicate\n\"x,y,1\n", "line 2"},
        {"question1,question2,is_duplicate\n\"x\"z,y,1\n", "line 2"},
    };
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_embed_pairs p;
        struct lr_err err = {0};
        assert_int_equal(lr_embed_pairs_parse(&p, lr_strz(bad[i].text), &err), LR_EPARSE);
        assert_string_equal(err.where, bad[i].where);
    }
    struct lr_embed_pairs p;
    assert_int_equal(lr_embed_pairs_read(&p, "/nonexistent.csv", NULL), LR_ENOENT);
}

/* ---- thresholds and probabilities ---- */

static void the_best_threshold_is_no_worse_than_any(void **state)
{
    (void)state;
    enum { N = 200 };
    struct lr_rng rng;
    float score[N];
    bool same[N];
    uint32_t order[N];
    struct lr_embed_quality best, q;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        lr_rng_seed(&rng, seed);
        for (int i = 0; i < N; i++) {
            same[i] = lr_rng_below(&rng, 3) == 0;
            score[i] = (float)((double)lr_rng_below(&rng, 40) / 40 + 0.3 * same[i]);
        }
        lr_embed_quality(score, same, N, order, NULL, &best);
        float p95 = 0;
        for (int k = -1; k < 60; k++) {
            float at = (float)k / 40;
            double tp = 0, fp = 0, fn = 0;
            for (int i = 0; i < N; i++) {
                tp += same[i] && score[i] >= at;
                fp += !same[i] && score[i] >= at;
                fn += same[i] && score[i] < at;
            }
            lr_embed_quality(score, same, N, order, &at, &q);
            double f1 = 2 * tp + fp + fn > 0 ? 2 * tp / (2 * tp + fp + fn) : 0;
            assert_true(fabs((double)q.f1 - f1) < 1e-6);
            assert_true(fabs((double)q.accuracy - (N - fp - fn) / N) < 1e-6);
            assert_true(f1 <= (double)best.f1 + 1e-6);
        }
        for (int i = 0; i < N; i++) {
            lr_embed_quality(score, same, N, order, &score[i], &q);
            p95 = q.precision >= 0.95f ? fmaxf(p95, q.recall) : p95;
        }
        assert_true(fabsf(p95 - best.recall_p95) < 1e-6f);
    }
}

static void the_fit_finds_the_probabilities_that_made_the_labels(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float score[N];
    static bool same[N];
    struct lr_rng rng;
    double scale, bias;
    lr_rng_seed(&rng, 77);
    for (int i = 0; i < N; i++) {
        score[i] = (float)(lr_rng_unit(&rng) * 2 - 1);
        same[i] = lr_rng_unit(&rng) < 1 / (1 + exp(-(6 * (double)score[i] - 2)));
    }
    lr_embed_fit_logistic(score, same, N, &scale, &bias);
    assert_true(fabs(scale - 6) < 0.3 && fabs(bias + 2) < 0.15);
    for (int i = 0; i < N; i++)
        same[i] = score[i] > 0; /* separable: still finite */
    lr_embed_fit_logistic(score, same, N, &scale, &bias);
    assert_true(scale > 10 && scale < 1e6 && fabs(bias) < 1e3);
    lr_embed_fit_logistic(score, same, 1, &scale, &bias);
    assert_true(isfinite(scale) && isfinite(bias));
}

static void directions_are_those_the_vectors_were_made_of(void **state)
{
    (void)state;
    enum { N = 4000, D = 12 };
    static float x[N * D];
    static float head[D * D];
    struct lr_rng rng;
    double kept;
    lr_rng_seed(&rng, 5);
    for (int i = 0; i < N; i++) { /* spread 3 along e1 + e2, 2 along e5, little elsewhere */
        double a = 3 * (2 * lr_rng_unit(&rng) - 1), b = 2 * (2 * lr_rng_unit(&rng) - 1);
        for (int k = 0; k < D; k++)
            x[i * D + k] = (float)(0.1 * (2 * lr_rng_unit(&rng) - 1) + 5 +
                                   (k == 1 || k == 2 ? a / sqrt(2) : k == 5 ? b : 0));
    }
    assert_int_equal(lr_embed_pca(x, N, D, 2, head, &kept), 0);
    assert_true(fabsf(head[1] - 0.7071f) < 0.01f && fabsf(head[2] - 0.7071f) < 0.01f);
    assert_true(fabsf(head[D + 5] - 1) < 0.01f);
    assert_true(kept > 0.98 && kept <= 1);
    assert_int_equal(lr_embed_pca(x, N, D, D, head, &kept), 0);
    for (int i = 0; i < D; i++)
        for (int k = 0; k < D; k++) {
            double dot = 0;
            for (int j = 0; j < D; j++)
                dot += (double)head[i * D + j] * (double)head[k * D + j];
            assert_true(fabs(dot - (i == k)) < 1e-5);
        }
    assert_int_equal(lr_embed_pca(x, 1, D, 2, head, NULL), LR_EINVAL);
    assert_int_equal(lr_embed_pca(x, N, D, D + 1, head, NULL), LR_EINVAL);
}

/* ---- training ---- */

/* Questions of a verb, an object and filler; the same when verb and object are. */
static void make_pairs(struct lr_embed_pairs *p, uint64_t seed, size_t n)
{
    static const char *const verbs[] = {"enable", "disable", "reset", "log in"};
    static const char *const things[] = {"cache", "account", "password", "two factor", "weather"};
    static const char *const fill[] = {"how do i", "what is", "the", "my", "a", ".", "in", "of", "is"};
    static struct lr_buf b;
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    lr_buf_init(&b, LR_MIB(8));
    lr_buf_addz(&b, "question1,question2,is_duplicate\n");
    for (size_t i = 0; i < n; i++) {
        uint64_t v = lr_rng_below(&rng, 4), t = lr_rng_below(&rng, 5);
        uint64_t v2 = lr_rng_below(&rng, 2) ? v : lr_rng_below(&rng, 4);
        uint64_t t2 = lr_rng_below(&rng, 3) ? t : lr_rng_below(&rng, 5);
        for (int side = 0; side < 2; side++)
            lr_buf_addf(&b, "%s %s %s %s %s,", fill[lr_rng_below(&rng, 9)], verbs[side ? v2 : v],
                        fill[lr_rng_below(&rng, 9)], things[side ? t2 : t],
                        fill[lr_rng_below(&rng, 9)]);
        lr_buf_addf(&b, "%d\n", v == v2 && t == t2);
    }
    assert_int_equal(lr_embed_pairs_parse(p, lr_buf_str(&b), NULL), 0);
    lr_buf_free(&b);
}

static int count(void *ctx, const struct lr_embed_train_step *s)
{
    assert_true(s->epoch >= 1 && s->epoch <= s->epochs && s->loss >= 0);
    return ++*(int *)ctx == 1000000;
}

/* Trains to `to`; the file's digest. */
static struct lr_digest train(struct kit *k, const char *name, uint64_t seed, const char *from,
                              struct lr_embed_trained *out)
{
    struct lr_embed_pairs tr, val;
    struct lr_err err = {0};
    struct lr_digest d;
    struct lr_buf file;
    char to[160];
    int calls = 0;
    snprintf(to, sizeof to, "%s/%s", k->dir, name);
    make_pairs(&tr, 1, 1500);
    make_pairs(&val, 2, 400);
    struct lr_embed_train t = {.model = from, .to = to, .train = &tr, .val = &val, .epochs = 3,
                               .batch = 32, .rate = 1e-2f, .drop = 0.1f, .seed = seed,
                               .on_step = count, .ctx = &calls};
    int rc = lr_embed_train(&t, out, &err);
    if (rc)
        fail_msg("%s (%s)", err.msg, err.where);
    lr_buf_init(&file, LR_MIB(16));
    assert_int_equal(lr_io_read_file(to, &file), 0);
    lr_blake3(lr_buf_str(&file), &d);
    lr_buf_free(&file);
    lr_embed_pairs_free(&tr);
    lr_embed_pairs_free(&val);
    return d;
}

static void training_helps_and_a_seed_decides_every_byte(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct kit k = {.is_static = kind == 0, .head = kind == 1};
        struct lr_embed_trained a, b, c;
        kit_make(&k, 70);
        kit_write(&k);
        struct lr_digest one = train(&k, "1.gguf", 5, k.path, &a);
        struct lr_digest two = train(&k, "2.gguf", 5, k.path, &b);
        struct lr_digest three = train(&k, "3.gguf", 6, k.path, &c);
        assert_true(lr_digest_eq(&one, &two));
        assert_false(lr_digest_eq(&one, &three));
        if (a.after.f1 < a.before.f1 + 0.05f || a.best_epoch < 1)
            fail_msg("kind %d: F1 %.3f before, %.3f after", kind, (double)a.before.f1,
                     (double)a.after.f1);
        assert_true(a.after.f1 == b.after.f1 && a.scale > 0);
        struct lr_embed_model *m;
        char to[160];
        snprintf(to, sizeof to, "%s/1.gguf", k.dir);
        assert_int_equal(lr_embed_open(&m, to, NULL, NULL), 0);
        lr_embed_close(m);
        kit_free(&k);
    }
}

static void a_verifier_is_calibrated(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 1};
    struct lr_embed_trained out;
    struct lr_embed_pair *p;
    char to[160];
    float scale, bias;
    kit_make(&k, 71);
    kit_write(&k);
    train(&k, "v.gguf", 1, k.path, &out);
    snprintf(to, sizeof to, "%s/v.gguf", k.dir);
    assert_int_equal(lr_embed_pair_open(&p, to, NULL, NULL), 0);
    lr_embed_pair_calibration(p, &scale, &bias);
    assert_true(scale == out.scale && bias == out.bias);
    lr_embed_pair_close(p);
    kit_free(&k);
}

static int stop(void *ctx, const struct lr_embed_train_step *s)
{
    (void)ctx;
    return s->epoch_done;
}

static void training_can_be_refused_and_cancelled(void **state)
{
    (void)state;
    struct kit k = {.is_static = true};
    struct lr_embed_pairs p, none = {0};
    struct lr_embed_trained out;
    char to[160];
    kit_make(&k, 72);
    kit_write(&k);
    make_pairs(&p, 3, 200);
    snprintf(to, sizeof to, "%s/no.gguf", k.dir);
    struct lr_embed_train t = {.model = k.path, .to = to, .train = &p, .on_step = stop};
    assert_int_equal(lr_embed_train(&t, &out, NULL), LR_ECANCEL);
    assert_int_not_equal(access(to, F_OK), 0);
    t.train = &none;
    assert_int_equal(lr_embed_train(&t, &out, NULL), LR_EINVAL);
    t.train = &p;
    t.drop = 2;
    assert_int_equal(lr_embed_train(&t, &out, NULL), LR_EINVAL);
    lr_embed_pairs_free(&p);
    kit_free(&k);
}

static void every_failing_call_ends_training_cleanly(void **state)
{
    (void)state;
    struct kit k = {.is_static = true};
    struct lr_embed_pairs p;
    struct lr_embed_trained out;
    char to[160];
    kit_make(&k, 73);
    kit_write(&k);
    make_pairs(&p, 3, 20);
    snprintf(to, sizeof to, "%s/no.gguf", k.dir);
    struct lr_embed_train t = {.model = k.path, .to = to, .train = &p, .epochs = 1};
    for (uint64_t n = 1; n < 5000; n++) {
        struct lr_err err = {0};
        lr_fault_arm(n);
        int rc = lr_embed_train(&t, &out, &err);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_true(!rc || (err.code == rc && err.msg[0]));
        if (!hit) {
            assert_int_equal(rc, 0);
            break;
        }
    }
    lr_embed_pairs_free(&p);
    kit_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_is_the_slope_of_the_loss),
        cmocka_unit_test(csv_is_read_as_written),
        cmocka_unit_test(csv_that_is_none_is_refused_with_its_line),
        cmocka_unit_test(the_best_threshold_is_no_worse_than_any),
        cmocka_unit_test(the_fit_finds_the_probabilities_that_made_the_labels),
        cmocka_unit_test(directions_are_those_the_vectors_were_made_of),
        cmocka_unit_test(training_helps_and_a_seed_decides_every_byte),
        cmocka_unit_test(a_verifier_is_calibrated),
        cmocka_unit_test(training_can_be_refused_and_cancelled),
        cmocka_unit_test(every_failing_call_ends_training_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
