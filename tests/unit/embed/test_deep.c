/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/test_deep.c - the gradient through layers against differences of the loss; files that
 * hold an encoder and a verifier; tuning one and leaving the other.
 */
#include "embed_kit.h"

enum { D = 24, FF = 40, HEADS = 3, LAYERS = 2, SPANS = 4 };

struct problem {
    struct deep p;
    struct deep_work *w;
    struct deep_batch b;
    struct span spans[SPANS];
    bool same[SPANS];
    float *grad, *x;
    size_t n;
    struct lr_rng rng;
};

static float *randoms(struct lr_rng *r, size_t n, double spread)
{
    float *x = calloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(spread * (2 * lr_rng_unit(r) - 1));
    return x;
}

static void make(struct problem *q, bool pooler, uint64_t seed)
{
    static const uint32_t lengths[SPANS] = {5, 1, 9, 3};
    *q = (struct problem){.p = {D, FF, HEADS, LAYERS, pooler, 1e-6f, NULL}};
    lr_rng_seed(&q->rng, seed);
    q->n = lr_embed_deep_params(&q->p);
    q->p.param = randoms(&q->rng, q->n, 0.4);
    q->grad = calloc(q->n, sizeof(float));
    for (uint32_t i = 0; i < SPANS; i++) {
        q->spans[i] = (struct span){q->b.n_tokens, lengths[i], 0};
        q->b.n_tokens += lengths[i];
        q->same[i] = i % 2;
    }
    q->x = randoms(&q->rng, q->b.n_tokens * D, 1);
    q->b.spans = q->spans;
    q->b.n_spans = SPANS;
    q->b.x = q->x;
    q->b.same = q->same;
    assert_int_equal(lr_embed_deep_open(&q->w, &q->p, SPANS), 0);
}

static void drop(struct problem *q)
{
    lr_embed_deep_close(q->w);
    free(q->p.param);
    free(q->grad);
    free(q->x);
}

/* Along the gradient's signs over a run of parameters the loss must rise by the sum of |gradient|. */
static void the_gradient_is_the_slope_of_the_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct problem q;
        float logits[SPANS], run = 2e-3f;
        make(&q, seed % 2, 500 + seed);
        lr_embed_deep_run(&q.p, q.w, &q.b, logits, q.grad);
        for (size_t from = 0; from < q.n; from += 24) {
            size_t n = MIN_OF(24u, q.n - from);
            double want = 0, up, down;
            float keep[24];
            memcpy(keep, q.p.param + from, n * sizeof(float));
            for (size_t i = 0; i < n; i++) {
                want += fabs((double)q.grad[from + i]);
                q.p.param[from + i] = keep[i] + (q.grad[from + i] > 0 ? run : -run);
            }
            up = lr_embed_deep_run(&q.p, q.w, &q.b, logits, NULL);
            for (size_t i = 0; i < n; i++)
                q.p.param[from + i] = keep[i] - (q.grad[from + i] > 0 ? run : -run);
            down = lr_embed_deep_run(&q.p, q.w, &q.b, logits, NULL);
            memcpy(q.p.param + from, keep, n * sizeof(float));
            double got = (up - down) / (2 * (double)run);
            if (fabs(got - want) > 2e-2 * fabs(want) + 1e-3)
                fail_msg("seed %d, parameters from %zu of %zu: slope %g, gradient %g",
                         (int)(500 + seed), from, q.n, got, want);
        }
        drop(&q);
    }
}

static void a_batch_is_its_pairs(void **state)
{
    (void)state;
    struct problem q;
    float all[SPANS], one;
    make(&q, true, 900);
    lr_embed_deep_run(&q.p, q.w, &q.b, all, NULL);
    for (uint32_t i = 0; i < SPANS; i++) {
        struct span sp = {0, q.spans[i].n, 0};
        struct deep_batch b = {&sp, 1, sp.n, q.x + q.spans[i].first * D, q.same + i};
        lr_embed_deep_run(&q.p, q.w, &b, &one, NULL);
        assert_memory_equal(&one, &all[i], sizeof one);
    }
    drop(&q);
}

/* ---- files ---- */

static void pairs_of(struct lr_embed_pairs *p, uint64_t seed, int n)
{
    static const char *const verbs[] = {"enable", "disable", "reset", "cats"};
    static const char *const things[] = {"cache", "dog", "login", "paris", "pass"};
    struct lr_buf b;
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    lr_buf_init(&b, LR_MIB(1));
    lr_buf_addz(&b, "question1,question2,is_duplicate\n");
    for (int i = 0; i < n; i++) {
        uint64_t v = lr_rng_below(&r, 4), t = lr_rng_below(&r, 5);
        uint64_t v2 = lr_rng_below(&r, 2) ? v : lr_rng_below(&r, 4);
        lr_buf_addf(&b, "how do i %s the %s,%s my %s?,%d\n", verbs[v], things[t], verbs[v2],
                    things[t], v == v2);
    }
    assert_int_equal(lr_embed_pairs_parse(p, lr_buf_str(&b), NULL), 0);
    lr_buf_free(&b);
}

static struct lr_digest digest_of(const char *path)
{
    struct lr_buf file;
    struct lr_digest d;
    lr_buf_init(&file, LR_MIB(16));
    assert_int_equal(lr_io_read_file(path, &file), 0);
    lr_blake3(lr_buf_str(&file), &d);
    lr_buf_free(&file);
    return d;
}

static struct lr_digest encoder_id(const char *path)
{
    struct lr_embed_model *m;
    assert_int_equal(lr_embed_open(&m, path, NULL, NULL), 0);
    assert_int_equal(lr_embed_info(m)->kind, LR_EMBED_BERT);
    struct lr_digest id = lr_embed_info(m)->id;
    lr_embed_close(m);
    return id;
}

static float verdict(const char *path, const char *a, const char *b)
{
    struct lr_embed_pair *p;
    struct lr_embed_scratch *s;
    struct lr_embed_verdict v;
    struct lr_embed_two two = {.a.question = lr_strz(a), .b.question = lr_strz(b)};
    assert_int_equal(lr_embed_pair_open(&p, path, NULL, NULL), 0);
    assert_int_equal(lr_embed_pair_scratch_open(p, &s), 0);
    assert_int_equal(lr_embed_pair_judge(p, s, &two, 1, &v, NULL), 0);
    lr_embed_scratch_close(s);
    lr_embed_pair_close(p);
    return v.p;
}

static int tune_pair(struct kit *k, const char *to, uint32_t layers, struct lr_embed_trained *out,
                     struct lr_err *err)
{
    struct lr_embed_pairs tr, val;
    pairs_of(&tr, 1, 300);
    pairs_of(&val, 2, 100);
    struct lr_embed_train t = {.model = k->path, .to = to, .train = &tr, .val = &val, .pair = true,
                               .layers = layers, .epochs = 4, .rate = 3e-3f, .seed = 3};
    int rc = lr_embed_train(&t, out, err);
    lr_embed_pairs_free(&tr);
    lr_embed_pairs_free(&val);
    return rc;
}

static void one_file_holds_both_and_tuning_one_leaves_the_other(void **state)
{
    (void)state;
    for (uint32_t layers = 0; layers <= KIT_LAYERS; layers++) {
        struct kit k = {.both = true};
        struct lr_embed_trained a, b;
        struct lr_err err = {0};
        char one[160], two[160];
        kit_make(&k, 21);
        kit_write(&k);
        snprintf(one, sizeof one, "%s/1.gguf", k.dir);
        snprintf(two, sizeof two, "%s/2.gguf", k.dir);
        struct lr_digest before = encoder_id(k.path);
        if (tune_pair(&k, one, layers, &a, &err))
            fail_msg("%s (%s)", err.msg, err.where);
        assert_int_equal(tune_pair(&k, two, layers, &b, &err), 0);
        struct lr_digest x = digest_of(one), y = digest_of(two), after = encoder_id(one);
        assert_true(lr_digest_eq(&x, &y));
        assert_true(lr_digest_eq(&before, &after));
        if (layers && a.after.f1 < MIN_OF(0.95f, a.before.f1 + 0.05f))
            fail_msg("%u layers: F1 %.3f before, %.3f after", layers, (double)a.before.f1,
                     (double)a.after.f1);
        if (layers)
            assert_true(verdict(one, "how do i enable the dog", "enable my dog?") >
                        verdict(one, "how do i enable the dog", "disable my dog?"));
        kit_free(&k);
    }
}

static void a_verifier_alone_is_no_encoder_and_more_layers_than_there_are_are_refused(void **state)
{
    (void)state;
    struct kit k = {.n_cls = 1};
    struct lr_embed_model *m;
    struct lr_embed_trained out;
    char to[160];
    kit_make(&k, 22);
    kit_write(&k);
    snprintf(to, sizeof to, "%s/1.gguf", k.dir);
    assert_int_equal(lr_embed_open(&m, k.path, NULL, NULL), LR_EUNSUPPORTED);
    assert_int_equal(tune_pair(&k, to, KIT_LAYERS + 1, &out, NULL), LR_EINVAL);
    assert_int_equal(tune_pair(&k, to, 1, &out, NULL), 0);
    kit_free(&k);
}

static void every_failing_call_ends_tuning_cleanly(void **state)
{
    (void)state;
    struct kit k = {.both = true};
    struct lr_embed_pairs p;
    char to[160];
    kit_make(&k, 23);
    kit_write(&k);
    pairs_of(&p, 3, 20);
    snprintf(to, sizeof to, "%s/1.gguf", k.dir);
    for (unsigned n = 1;; n++) {
        struct lr_embed_train t = {.model = k.path, .to = to, .train = &p, .pair = true,
                                   .layers = 1, .epochs = 1, .seed = 3};
        struct lr_embed_trained out;
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
        cmocka_unit_test(a_batch_is_its_pairs),
        cmocka_unit_test(one_file_holds_both_and_tuning_one_leaves_the_other),
        cmocka_unit_test(a_verifier_alone_is_no_encoder_and_more_layers_than_there_are_are_refused),
        cmocka_unit_test(every_failing_call_ends_tuning_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
