/* SPDX-License-Identifier: Apache-2.0
 * cli/train.c - larder train pairs: the models of the semantic shelf, fine-tuned on one's own
 * labelled pairs (docs/semantic.md).
 */
#include "cli/flags.h"
#include "embed/embed.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define PATH_SIZE 4096u

struct job {
    const char *train, *val, *model, *out;
    uint64_t layers, epochs, seed;
    struct lr_embed_pairs pairs[2]; /* to learn from, to choose by */
    const char *stage;
};

/* model: "shipped", or a directory with files of the same names. */
static int find(const struct job *j, const char *file, char path[PATH_SIZE], struct lr_err *err)
{
    int rc = 0;
    if (strcmp(j->model, "shipped") == 0)
        rc = lr_embed_shipped(file, path, PATH_SIZE);
    else if (snprintf(path, PATH_SIZE, "%s/%s", j->model, file) >= (int)PATH_SIZE)
        rc = LR_EOVER;
    return rc ? lr_err_set(err, rc, file, "no model of that name (--model)") : 0;
}

static int step(void *ctx, const struct lr_embed_train_step *s)
{
    const struct job *j = ctx;
    size_t all = j->pairs[0].n * s->epochs;
    if (s->epoch_done)
        fprintf(stderr, "\r%s: epoch %u of %u: loss %.4f, F1 %.4f, recall at P >= 0.95 %.4f\n",
                j->stage, s->epoch, s->epochs, s->loss, (double)s->quality.f1,
                (double)s->quality.recall_p95);
    else
        fprintf(stderr, "\r%s: %zu of %zu pairs, loss %.4f ", j->stage, s->pairs, all, s->loss);
    return 0;
}

static void report(const struct job *j, const char *to, const struct lr_embed_trained *d)
{
    struct lr_buf out;
    struct lr_jw w;
    const struct {
        const char *name;
        double value;
    } real[] = {{"f1_before", (double)d->before.f1},
                {"f1", (double)d->after.f1},
                {"precision", (double)d->after.precision},
                {"recall", (double)d->after.recall},
                {"recall_at_p95", (double)d->after.recall_p95},
                {"threshold", (double)d->after.threshold}};
    lr_buf_init(&out, LR_KIB(64));
    lr_jw_init(&w, &out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "stage");
    lr_jw_strz(&w, j->stage);
    lr_jw_key(&w, "file");
    lr_jw_strz(&w, to);
    lr_jw_key(&w, "best_epoch");
    lr_jw_u64(&w, d->best_epoch);
    for (size_t i = 0; i < LR_COUNT(real); i++) {
        lr_jw_key(&w, real[i].name);
        lr_jw_real(&w, (double)(int64_t)(real[i].value * 1e4 + (real[i].value < 0 ? -0.5 : 0.5)) / 1e4);
    }
    lr_jw_end(&w);
    if (out.rc == 0)
        printf("%.*s\n", (int)out.len, out.p);
    fflush(stdout);
    lr_buf_free(&out);
}

static int train(struct job *j, struct lr_embed_train *t, const char *stage, const char *file,
                 struct lr_err *err)
{
    char to[PATH_SIZE];
    struct lr_embed_trained done;
    if (snprintf(to, sizeof to, "%s/%s", j->out, file) >= (int)sizeof to)
        return lr_err_set(err, LR_EOVER, "--out", "the path is too long");
    j->stage = stage;
    t->to = to;
    t->train = &j->pairs[0];
    t->val = j->val ? &j->pairs[1] : NULL;
    t->seed = j->seed;
    t->on_step = step;
    t->ctx = j;
    LR_TRY(lr_embed_train(t, &done, err));
    report(j, to, &done);
    return 0;
}

static int train_all(struct job *j, struct lr_err *err)
{
    char words[PATH_SIZE], encoder[PATH_SIZE];
    LR_TRY(find(j, LR_EMBED_SHIPPED_STATIC, words, err));
    LR_TRY(find(j, LR_EMBED_SHIPPED_ENCODER, encoder, err));
    LR_TRY(lr_embed_pairs_read(&j->pairs[0], j->train, err));
    if (j->val)
        LR_TRY(lr_embed_pairs_read(&j->pairs[1], j->val, err));
    struct lr_embed_train t = {.model = words, .drop = 0.1f};
    LR_TRY(train(j, &t, "static", LR_EMBED_SHIPPED_STATIC, err));
    t = (struct lr_embed_train){.model = encoder, .pair = true, .layers = (uint32_t)j->layers,
                                .epochs = (unsigned)j->epochs};
    return train(j, &t, "verifier", LR_EMBED_SHIPPED_ENCODER, err);
}

static int train_pairs(struct lr_cli *cli)
{
    struct job j = {.model = "shipped", .layers = 4, .seed = 1};
    const struct lr_flag flags[] = {
        {"--train", "CSV", LR_FLAG_TEXT, &j.train, 0, 0, "pairs to learn from"},
        {"--val", "CSV", LR_FLAG_TEXT, &j.val, 0, 0,
         "pairs that choose epoch, threshold and calibration (those of --train)"},
        {"--model", "DIR", LR_FLAG_TEXT, &j.model, 0, 0,
         "where to start: shipped, or a directory of an earlier run"},
        {"--out", "DIR", LR_FLAG_TEXT, &j.out, 0, 0, "for the files; made when it is missing"},
        {"--layers", "N", LR_FLAG_COUNT, &j.layers, 0, LR_EMBED_LAYERS_MAX,
         "of the verifier, from its last, that learn; 0: only its calibration"},
        {"--epochs", "N", LR_FLAG_COUNT, &j.epochs, 0, 1000, "of the verifier (2)"},
        {"--seed", "N", LR_FLAG_COUNT, &j.seed, 0, 0, "the same seed gives the same files"},
    };
    const struct lr_manual u = {
        "train pairs --train CSV --out DIR [options]",
        "Fine-tunes the static encoder and the pair verifier on labelled pairs of questions:\n"
        "columns question1, question2 and is_duplicate (0 or 1).",
        flags, LR_COUNT(flags)};
    struct lr_err err = {0};
    int rc = lr_cli_flags(cli, &u);
    if (rc)
        return rc == LR_CLI_HELPED ? 0 : 2;
    if (!j.train || !j.out)
        return lr_cli_missing(cli, j.train ? "--out" : "--train");
    if (mkdir(j.out, 0755) != 0 && errno != EEXIST)
        lr_err_set(&err, LR_EIO, j.out, "the directory cannot be made");
    rc = err.code ? err.code : train_all(&j, &err);
    lr_embed_pairs_free(&j.pairs[0]);
    lr_embed_pairs_free(&j.pairs[1]);
    return rc ? lr_cli_fail("train", &err) : 0;
}

int lr_cmd_train(struct lr_cli *cli)
{
    static const char *const words[] = {"pairs"};
    return lr_cli_word(cli, words, LR_COUNT(words)) ? train_pairs(cli) : 2;
}
