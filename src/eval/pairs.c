/* SPDX-License-Identifier: Apache-2.0
 * eval/pairs.c - larder eval pairs: does a score tell the same question from another one?
 *
 *   V.csv, T.csv -> per pair: cosine of the static encoder, cosine of the transformer, the verifier's
 *   logit, the gates' verdict -> stages, each adding one:
 *
 *     static    the cosine                           +transformer  its cosine
 *     +gates    that no gate refuses, as evidence    +verifier     its logit
 *     veto      as the last, but what a gate refuses never passes: as the shelf serves
 *
 *   From the second stage on the score is a logistic sum of all so far.
 *
 *   Weights and thresholds come from V alone. For each share of duplicates (a half, a tenth) V and T
 *   are weighed to that share, V gives the threshold of the best F1, T is judged by it; once whole,
 *   once without the pairs of T that share a question with V (or with what a model was trained on).
 *
 * Published test sets leak: in MeanCache's split one training pair in ten shares a question with the
 * test. The disjoint lines are those to believe.
 */
#include "eval/pairs_int.h"

#include "embed/embed.h"
#include "match/match.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH    64u
#define SAMPLE   8192u /* pairs of V whose vectors the main directions are taken from */
#define REFUSED  (-1e9)
#define GATE_KEY 0x9e3779b97f4a7c15u

struct side {
    struct lr_embed_pairs pairs;
    double *x;      /* (n, features) */
    bool *same, *refused;
    double *score;
    uint32_t *order;
};

struct job {
    const struct lr_eval_pairs *o;
    struct lr_buf *out;
    struct lr_err *err;
    struct lr_embed_model *encoder[2]; /* static, transformer; NULL: none */
    struct lr_embed_pair *verifier;
    struct lr_embed_scratch *scratch;
    size_t k;                          /* features */
    struct side val, test, apart;      /* apart: of test, what shares no question; views */
};

static int no_memory(const struct job *j)
{
    return lr_err_set(j->err, LR_ENOMEM, "pairs", "out of memory");
}

static void tell(const struct job *j, const char *line)
{
    if (j->o->tell)
        j->o->tell(j->o->ctx, line);
}

/* ---- models ---- */

static int open_file(struct job *j, const char *path)
{
    struct lr_embed_model *m = NULL;
    struct lr_err err = {0};
    int rc = lr_embed_open(&m, path, NULL, &err);
    if (!rc)
        j->encoder[lr_embed_info(m)->kind == LR_EMBED_STATIC ? 0 : 1] = m;
    else if (rc != LR_EUNSUPPORTED) { /* may be a verifier alone */
        *j->err = err;
        return rc;
    }
    if (m && lr_embed_info(m)->kind == LR_EMBED_STATIC)
        return 0;
    rc = lr_embed_pair_open(&j->verifier, path, NULL, &err);
    if (rc && !m)
        *j->err = err;
    return m ? 0 : rc;
}

static int open_models(struct job *j)
{
    static const char *const files[] = {LR_EMBED_SHIPPED_STATIC, LR_EMBED_SHIPPED_ENCODER};
    const char *model = j->o->model ? j->o->model : "shipped";
    bool shipped = strcmp(model, "shipped") == 0;
    size_t n = strlen(model);
    char path[4096];
    if (!shipped && n > 5 && strcmp(model + n - 5, ".gguf") == 0)
        return open_file(j, model);
    for (size_t i = 0; i < LR_COUNT(files); i++) {
        int rc = 0;
        if (shipped)
            rc = lr_embed_shipped(files[i], path, sizeof path);
        else if (snprintf(path, sizeof path, "%s/%s", model, files[i]) >= (int)sizeof path)
            rc = LR_EOVER;
        if (rc)
            return lr_err_set(j->err, rc, files[i], "the shipped models are not installed: "
                                                    "give --model DIR");
        LR_TRY(open_file(j, path));
    }
    return 0;
}

/* ---- scores ---- */

static double cosine(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Vectors of pairs [at, at + n): a's and b's in turn. */
static int encode(struct job *j, const struct lr_embed_model *m, const struct side *s, size_t at,
                  size_t n, float *vectors)
{
    struct lr_str texts[2 * BATCH];
    for (size_t i = 0; i < n; i++) {
        texts[2 * i] = s->pairs.pair[at + i].a;
        texts[2 * i + 1] = s->pairs.pair[at + i].b;
    }
    return lr_embed_encode(m, j->scratch, texts, 2 * n, vectors, NULL, j->err);
}

/* Cosines into column `to` (of `wide`) of out; head: (dims, dim) on top, or NULL. */
static int score_encoder(struct job *j, const struct lr_embed_model *m, const struct side *s,
                         const float *head, uint32_t dims, double *out, size_t wide)
{
    uint32_t dim = lr_embed_info(m)->dim;
    float *v = lr_calloc(4 * (size_t)BATCH * dim, sizeof *v), *low = v + 2 * (size_t)BATCH * dim;
    int rc = v ? 0 : no_memory(j);
    for (size_t at = 0; at < s->pairs.n && !rc; at += BATCH) {
        size_t n = s->pairs.n - at < BATCH ? s->pairs.n - at : BATCH, d = head ? dims : dim;
        rc = encode(j, m, s, at, n, v);
        if (!rc && head)
            lr_embed_project(head, dim, dims, v, 2 * n, low);
        const float *from = head ? low : v;
        for (size_t i = 0; i < n && !rc; i++)
            out[(at + i) * wide] = cosine(from + 2 * i * d, from + (2 * i + 1) * d, d);
    }
    lr_free(v);
    return rc;
}

static int score_verifier(struct job *j, const struct side *s, double *out, size_t wide)
{
    struct lr_embed_verdict v[BATCH];
    struct lr_embed_two two[BATCH];
    memset(two, 0, sizeof two);
    for (size_t at = 0; at < s->pairs.n; at += BATCH) {
        size_t n = s->pairs.n - at < BATCH ? s->pairs.n - at : BATCH;
        for (size_t i = 0; i < n; i++) {
            two[i].a.question = s->pairs.pair[at + i].a;
            two[i].b.question = s->pairs.pair[at + i].b;
        }
        LR_TRY(lr_embed_pair_judge(j->verifier, j->scratch, two, n, v, j->err));
        for (size_t i = 0; i < n; i++)
            out[(at + i) * wide] = (double)v[i].logit;
    }
    return 0;
}

static bool gates_refuse(struct lr_str a, struct lr_str b)
{
    struct lr_fact room[2][LR_FACTS_MAX];
    struct lr_facts f[2];
    if (lr_facts_read(a, GATE_KEY, room[0], &f[0]) || lr_facts_read(b, GATE_KEY, room[1], &f[1]))
        return true;
    return lr_gate(&f[0], &f[1]) != NULL;
}

static int score_side(struct job *j, struct side *s)
{
    size_t column = 0;
    for (size_t i = 0; i < s->pairs.n; i++) {
        s->same[i] = s->pairs.pair[i].same;
        s->refused[i] = gates_refuse(s->pairs.pair[i].a, s->pairs.pair[i].b);
        s->x[i * j->k + 1] = s->refused[i] ? 0 : 1; /* behind the first score */
    }
    for (size_t e = 0; e < 2; e++) {
        if (!j->encoder[e])
            continue;
        column += column == 1;
        tell(j, e ? "transformer" : "static encoder");
        if (lr_embed_scratch_open(j->encoder[e], &j->scratch))
            return no_memory(j);
        int rc = score_encoder(j, j->encoder[e], s, NULL, 0, s->x + column++, j->k);
        lr_embed_scratch_close(j->scratch);
        LR_TRY(rc);
    }
    if (!j->verifier)
        return 0;
    column += column == 1;
    tell(j, "verifier");
    if (lr_embed_pair_scratch_open(j->verifier, &j->scratch))
        return no_memory(j);
    int rc = score_verifier(j, s, s->x + column, j->k);
    lr_embed_scratch_close(j->scratch);
    return rc;
}

/* ---- sets ---- */

static int room_for(struct job *j, struct side *s)
{
    size_t n = s->pairs.n ? s->pairs.n : 1;
    s->x = lr_calloc(n * PAIR_FEATURES, sizeof *s->x);
    s->same = lr_calloc(n, sizeof *s->same);
    s->refused = lr_calloc(n, sizeof *s->refused);
    s->score = lr_calloc(n, sizeof *s->score);
    s->order = lr_calloc(n, sizeof *s->order);
    return s->x && s->same && s->refused && s->score && s->order ? 0 : no_memory(j);
}

static int read_side(struct job *j, struct side *s, const char *path)
{
    LR_TRY(lr_embed_pairs_read(&s->pairs, path, j->err));
    if (!s->pairs.n)
        return lr_err_set(j->err, LR_EINVAL, path, "no pairs");
    return room_for(j, s);
}

static void free_side(struct side *s, bool pairs)
{
    if (pairs)
        lr_embed_pairs_free(&s->pairs);
    lr_free(s->x);
    lr_free(s->same);
    lr_free(s->refused);
    lr_free(s->score);
    lr_free(s->order);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct hashes {
    uint64_t *h;
    size_t n;
};

static void add_hashes(struct hashes *to, const struct lr_embed_pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        to->h[to->n++] = lr_hash64(p->pair[i].a, 7);
        to->h[to->n++] = lr_hash64(p->pair[i].b, 7);
    }
}

static bool seen(const struct hashes *in, struct lr_str text)
{
    uint64_t h = lr_hash64(text, 7);
    return bsearch(&h, in->h, in->n, sizeof h, by_value) != NULL;
}

/* j->apart: rows of test whose questions stand neither in val nor in the training pairs. */
static int take_apart(struct job *j)
{
    struct lr_embed_pairs train = {0};
    struct side *a = &j->apart;
    if (j->o->train)
        LR_TRY(lr_embed_pairs_read(&train, j->o->train, j->err));
    struct hashes in = {lr_calloc(2 * (j->val.pairs.n + train.n), sizeof(uint64_t)), 0};
    a->pairs.n = j->test.pairs.n;
    int rc = in.h ? room_for(j, a) : no_memory(j);
    a->pairs.n = 0;
    if (!rc) {
        add_hashes(&in, &j->val.pairs);
        add_hashes(&in, &train);
        qsort(in.h, in.n, sizeof *in.h, by_value);
    }
    for (size_t i = 0; i < j->test.pairs.n && !rc; i++) {
        const struct lr_embed_labelled *p = &j->test.pairs.pair[i];
        if (seen(&in, p->a) || seen(&in, p->b))
            continue;
        memcpy(a->x + a->pairs.n * j->k, j->test.x + i * j->k, j->k * sizeof *a->x);
        a->same[a->pairs.n] = j->test.same[i];
        a->refused[a->pairs.n++] = j->test.refused[i];
    }
    lr_free(in.h);
    lr_embed_pairs_free(&train);
    return rc;
}

/* ---- lines ---- */

static double round4(double x)
{
    return floor(x * 1e4 + 0.5) / 1e4;
}

static void put_real(struct lr_jw *w, const char *name, double value)
{
    lr_jw_key(w, name);
    lr_jw_real(w, round4(value));
}

static void put_range(struct lr_jw *w, const char *name, double low, double high)
{
    lr_jw_key(w, name);
    lr_jw_arr(w);
    lr_jw_real(w, round4(low));
    lr_jw_real(w, round4(high));
    lr_jw_end(w);
}

struct stage {
    const char *name;
    size_t features; /* of the first so many */
    bool gates; /* veto */
};

static void line(struct job *j, const struct stage *st, const char *set, double share, size_t n,
                 const struct pair_quality q[3])
{
    struct lr_jw w;
    lr_jw_init(&w, j->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "stage");
    lr_jw_strz(&w, st->name);
    lr_jw_key(&w, "set");
    lr_jw_strz(&w, set);
    put_real(&w, "duplicates", share);
    lr_jw_key(&w, "pairs");
    lr_jw_u64(&w, n);
    put_real(&w, "threshold", q[0].threshold);
    put_real(&w, "precision", q[0].precision);
    put_real(&w, "recall", q[0].recall);
    put_real(&w, "f1", q[0].f1);
    put_real(&w, "accuracy", q[0].accuracy);
    put_real(&w, "recall_at_p95", q[0].recall_p95);
    put_range(&w, "precision_ci", q[1].precision, q[2].precision);
    put_range(&w, "recall_ci", q[1].recall, q[2].recall);
    put_range(&w, "f1_ci", q[1].f1, q[2].f1);
    put_range(&w, "accuracy_ci", q[1].accuracy, q[2].accuracy);
    put_range(&w, "recall_at_p95_ci", q[1].recall_p95, q[2].recall_p95);
    lr_jw_end(&w);
    lr_buf_addz(j->out, "\n");
}

static void apply(const struct job *j, struct side *s, const struct stage *st,
                  const double *weights)
{
    for (size_t i = 0; i < s->pairs.n; i++) {
        const double *x = s->x + i * j->k;
        s->score[i] = st->features == 1 ? x[0] : lr_eval_fused(weights, x, st->features);
        if (st->gates && s->refused[i])
            s->score[i] = REFUSED;
    }
}

static struct pair_scores scores_of(const struct side *s, double share)
{
    struct pair_scores p = {s->score, s->same, s->pairs.n, 0, s->order, 1, 1};
    for (size_t i = 0; i < p.n; i++)
        p.n_same += p.same[i];
    lr_eval_weights(&p, share);
    lr_eval_sort(&p);
    return p;
}

/* x of the features in use, of all rows that the stage's gates leave. With a veto the gates'
 * evidence is the same for all of these, and its weight 0 by the pull. */
static int fit(struct job *j, const struct stage *st, double *weights)
{
    size_t n = 0, k = st->features;
    const struct side *v = &j->val;
    double *x = lr_calloc(v->pairs.n * k, sizeof *x);
    bool *same = lr_calloc(v->pairs.n, sizeof *same);
    for (size_t i = 0; x && same && i < v->pairs.n; i++)
        if (!st->gates || !v->refused[i]) {
            memcpy(x + n * k, v->x + i * j->k, k * sizeof *x);
            same[n++] = v->same[i];
        }
    if (x && same)
        lr_eval_fuse(x, same, n, k, weights);
    int rc = x && same ? 0 : no_memory(j);
    lr_free(x);
    lr_free(same);
    return rc;
}

static int run_stage(struct job *j, const struct stage *st)
{
    static const double shares[] = {0.5, 0.1};
    struct side *sets[] = {&j->test, &j->apart};
    double weights[PAIR_FEATURES + 1] = {0};
    if (st->features > 1)
        LR_TRY(fit(j, st, weights));
    apply(j, &j->val, st, weights);
    for (size_t i = 0; i < LR_COUNT(sets); i++)
        apply(j, sets[i], st, weights);
    for (size_t k = 0; k < LR_COUNT(shares); k++) {
        struct pair_scores v = scores_of(&j->val, shares[k]);
        double threshold = lr_eval_quality(&v, NULL).threshold;
        for (size_t i = 0; i < LR_COUNT(sets); i++) {
            if (!sets[i]->pairs.n)
                continue;
            struct pair_scores t = scores_of(sets[i], shares[k]);
            struct pair_quality q[3] = {lr_eval_quality(&t, &threshold)};
            if (lr_eval_pair_intervals(&t, threshold, j->o->seed, &q[1], &q[2]))
                return no_memory(j);
            line(j, st, i ? "disjoint" : "test", shares[k], t.n, q);
        }
    }
    return j->out->rc ? no_memory(j) : 0;
}

static int run_stages(struct job *j)
{
    static const char *const more[] = {"static", "+transformer", "+verifier"};
    bool has[] = {j->encoder[0] != NULL, j->encoder[1] != NULL, j->verifier != NULL};
    size_t k = 0;
    for (size_t i = 0; i < LR_COUNT(has); i++) {
        if (!has[i])
            continue;
        const char *name = k || !i ? more[i] : more[i] + 1;
        LR_TRY(run_stage(j, &(struct stage){name, ++k, false}));
        if (k == 1)
            LR_TRY(run_stage(j, &(struct stage){"+gates", ++k, false}));
    }
    return run_stage(j, &(struct stage){"veto", k, true});
}

/* ---- fewer dimensions ---- */

static int directions(struct job *j, const struct lr_embed_model *m, float *head)
{
    uint32_t dim = lr_embed_info(m)->dim;
    size_t n = j->val.pairs.n < SAMPLE ? j->val.pairs.n : SAMPLE;
    float *v = lr_calloc(2 * n * dim, sizeof *v);
    int rc = v ? 0 : no_memory(j);
    for (size_t at = 0; at < n && !rc; at += BATCH)
        rc = encode(j, m, &j->val, at, n - at < BATCH ? n - at : BATCH, v + 2 * at * dim);
    if (!rc)
        rc = lr_embed_pca(v, 2 * n, dim, j->o->dims, head, NULL);
    if (rc && !j->err->code)
        lr_err_set(j->err, rc, "--dims", "the main directions cannot be found: %s",
                   lr_strerror(rc));
    lr_free(v);
    return rc;
}

static double best_at_half(struct job *j)
{
    struct pair_scores v = scores_of(&j->val, 0.5);
    double threshold = lr_eval_quality(&v, NULL).threshold;
    struct pair_scores t = scores_of(&j->test, 0.5);
    return lr_eval_quality(&t, &threshold).f1;
}

static int fewer(struct job *j, size_t e, size_t column)
{
    const struct lr_embed_model *m = j->encoder[e];
    uint32_t dim = lr_embed_info(m)->dim, dims = j->o->dims;
    float *head = lr_calloc((size_t)dims * dim, sizeof *head);
    struct side *sets[] = {&j->val, &j->test};
    double whole, part;
    int rc = head ? 0 : no_memory(j);
    for (size_t s = 0; s < LR_COUNT(sets); s++)
        for (size_t i = 0; i < sets[s]->pairs.n; i++)
            sets[s]->score[i] = sets[s]->x[i * j->k + column];
    whole = best_at_half(j);
    if (!rc && lr_embed_scratch_open(m, &j->scratch))
        rc = no_memory(j);
    if (!rc) {
        rc = directions(j, m, head);
        for (size_t s = 0; s < LR_COUNT(sets) && !rc; s++)
            rc = score_encoder(j, m, sets[s], head, dims, sets[s]->score, 1);
        lr_embed_scratch_close(j->scratch);
    }
    lr_free(head);
    LR_TRY(rc);
    part = best_at_half(j);
    struct lr_jw w;
    lr_jw_init(&w, j->out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "stage");
    lr_jw_strz(&w, e ? "transformer" : "static");
    lr_jw_key(&w, "dims");
    lr_jw_u64(&w, dims);
    lr_jw_key(&w, "of");
    lr_jw_u64(&w, dim);
    lr_jw_key(&w, "bytes_per_vector");
    lr_jw_u64(&w, 4 * (uint64_t)dims);
    put_real(&w, "storage_saved", 1 - (double)dims / dim);
    put_real(&w, "f1_whole", whole);
    put_real(&w, "f1", part);
    put_real(&w, "f1_lost", whole - part);
    lr_jw_end(&w);
    lr_buf_addz(j->out, "\n");
    return j->out->rc ? no_memory(j) : 0;
}

static int run_fewer(struct job *j)
{
    size_t column = 0;
    for (size_t e = 0; e < 2 && j->o->dims; e++)
        if (j->encoder[e]) {
            if (j->o->dims < lr_embed_info(j->encoder[e])->dim)
                LR_TRY(fewer(j, e, column));
            column = 2; /* the gates' evidence lies between */
        }
    return 0;
}

/* ---- the door ---- */

static int run(struct job *j)
{
    LR_TRY(open_models(j));
    j->k = 1 + (size_t)(j->encoder[0] != NULL) + (j->encoder[1] != NULL) + (j->verifier != NULL);
    LR_TRY(read_side(j, &j->val, j->o->val));
    LR_TRY(read_side(j, &j->test, j->o->test));
    LR_TRY(score_side(j, &j->val));
    LR_TRY(score_side(j, &j->test));
    LR_TRY(take_apart(j));
    LR_TRY(run_stages(j));
    return run_fewer(j);
}

int lr_eval_pairs(const struct lr_eval_pairs *o, struct lr_buf *out, struct lr_err *err)
{
    struct lr_err none = {0};
    struct job j = {.o = o, .out = out, .err = err ? err : &none};
    int rc = run(&j);
    free_side(&j.val, true);
    free_side(&j.test, true);
    free_side(&j.apart, false);
    for (size_t i = 0; i < 2; i++)
        lr_embed_close(j.encoder[i]);
    lr_embed_pair_close(j.verifier);
    return rc;
}
