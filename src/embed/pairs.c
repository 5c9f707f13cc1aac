/* SPDX-License-Identifier: Apache-2.0
 * embed/pairs.c - labelled pairs from CSV, and what a threshold makes of their scores.
 *
 * CSV after RFC 4180: fields may be quoted, a quote inside is doubled, line ends within quotes
 * belong to the field; a line may end with CR LF or LF. The header names the columns; others are
 * passed over. A record of another number of fields than the header's is an error, with its line.
 *
 * Quality. Pairs are sorted by score once; every distinct score is a possible threshold ("same"
 * from here on), so the sweep sees each of them: true and false positives are running counts.
 */
#include "embed/embed_int.h"

#include <stdio.h>
#include <stdlib.h>

#define COLUMNS_MAX 64u
#define FIELD_MAX   LR_KIB(256)

struct csv {
    struct lr_str text;
    size_t at, line; /* of the next record; lines from 1 */
    struct lr_arena *arena;
    struct lr_err *err;
};

static int wrong(const struct csv *c, int rc, const char *what)
{
    char where[40];
    snprintf(where, sizeof where, "line %llu", (unsigned long long)c->line);
    return lr_err_set(c->err, rc, where, "%s", what);
}

/* A quoted field; c->at behind its first quote. Copied only when a quote inside was doubled. */
static int quoted(struct csv *c, struct lr_str *out)
{
    const char *p = c->text.p;
    size_t from = c->at, doubled = 0, i = from, lines = 0;
    for (;; i++) {
        if (i >= c->text.n)
            return wrong(c, LR_EPARSE, "a quoted field does not end");
        lines += p[i] == '\n';
        if (p[i] != '"')
            continue;
        if (i + 1 >= c->text.n || p[i + 1] != '"')
            break;
        doubled++;
        i++;
    }
    c->line += lines;
    c->at = i + 1;
    *out = lr_str(p + from, i - from);
    if (!doubled)
        return 0;
    char *q = lr_arena_alloc(c->arena, out->n - doubled, 1);
    LR_FAIL_IF(!q, wrong(c, LR_ENOMEM, "out of memory"));
    size_t n = 0;
    for (size_t k = from; k < i; k++) {
        q[n++] = p[k];
        k += p[k] == '"';
    }
    *out = lr_str(q, n);
    return 0;
}

static int field(struct csv *c, struct lr_str *out, bool *last)
{
    const char *p = c->text.p;
    size_t from = c->at;
    if (c->at < c->text.n && p[c->at] == '"') {
        c->at++;
        LR_TRY(quoted(c, out));
    } else {
        while (c->at < c->text.n && p[c->at] != ',' && p[c->at] != '\n')
            c->at++;
        *out = lr_str(p + from, c->at - from);
        if (out->n && out->p[out->n - 1] == '\r')
            out->n--;
    }
    if (out->n > FIELD_MAX)
        return wrong(c, LR_EOVER, "a field is too long");
    if (c->at < c->text.n && p[c->at] == '\r')
        c->at++;
    *last = c->at >= c->text.n || p[c->at] == '\n';
    if (!*last && p[c->at] != ',')
        return wrong(c, LR_EPARSE, "text behind a quoted field");
    c->at += c->at < c->text.n;
    c->line += *last;
    return 0;
}

static int record(struct csv *c, struct lr_str fields[COLUMNS_MAX], size_t *n)
{
    bool last = false;
    for (*n = 0; !last; ++*n) {
        if (*n == COLUMNS_MAX)
            return wrong(c, LR_EOVER, "too many columns");
        LR_TRY(field(c, &fields[*n], &last));
    }
    return 0;
}

struct columns {
    size_t n, a, b, same;
};

static int header(struct csv *c, struct columns *out)
{
    struct lr_str f[COLUMNS_MAX];
    struct columns k = {0, SIZE_MAX, SIZE_MAX, SIZE_MAX};
    if (c->text.n >= 3 && !memcmp(c->text.p, "\xEF\xBB\xBF", 3))
        c->at = 3;
    if (c->at >= c->text.n)
        return wrong(c, LR_EPARSE, "the file is empty");
    LR_TRY(record(c, f, &k.n));
    for (size_t i = 0; i < k.n; i++) {
        if (lr_str_is(f[i], "question1"))
            k.a = i;
        else if (lr_str_is(f[i], "question2"))
            k.b = i;
        else if (lr_str_is(f[i], "is_duplicate"))
            k.same = i;
    }
    if (k.a == SIZE_MAX || k.b == SIZE_MAX || k.same == SIZE_MAX)
        return lr_err_set(c->err, LR_EPARSE, "line 1",
                          "the header lacks question1, question2 or is_duplicate");
    *out = k;
    return 0;
}

static int grow(struct lr_embed_pairs *p, size_t *cap)
{
    if (p->n < *cap)
        return 0;
    LR_FAIL_IF(p->n >= LR_EMBED_PAIRS_MAX, LR_EOVER);
    size_t want = *cap ? *cap * 2 : 1024;
    struct lr_embed_labelled *q = lr_realloc(p->pair, want * sizeof *q);
    LR_FAIL_IF(!q, LR_ENOMEM);
    p->pair = q;
    *cap = want;
    return 0;
}

static int read_all(struct csv *c, struct lr_embed_pairs *p)
{
    struct columns k = {0};
    struct lr_str f[COLUMNS_MAX], copy;
    size_t n, cap = 0;
    int rc = lr_arena_copy(c->arena, c->text, &copy); /* fields are views */
    LR_FAIL_IF(rc, wrong(c, rc, lr_strerror(rc)));
    c->text = copy;
    LR_TRY(header(c, &k));
    while (c->at < c->text.n) {
        size_t line = c->line;
        LR_TRY(record(c, f, &n));
        if (n == 1 && !f[0].n)
            continue; /* an empty line */
        size_t next = c->line;
        c->line = line; /* for messages */
        if (n != k.n)
            return wrong(c, LR_EPARSE, "another number of fields than the header's");
        if (!lr_str_is(f[k.same], "0") && !lr_str_is(f[k.same], "1"))
            return wrong(c, LR_EPARSE, "is_duplicate is neither 0 nor 1");
        rc = grow(p, &cap);
        LR_FAIL_IF(rc, wrong(c, rc, lr_strerror(rc)));
        p->pair[p->n++] = (struct lr_embed_labelled){f[k.a], f[k.b], f[k.same].p[0] == '1'};
        c->line = next;
    }
    return 0;
}

int lr_embed_pairs_parse(struct lr_embed_pairs *out, struct lr_str csv, struct lr_err *err)
{
    struct lr_embed_pairs p = {0};
    struct csv c = {.text = csv, .line = 1, .err = err};
    if (csv.n > LR_EMBED_CSV_MAX)
        return lr_err_set(err, LR_EOVER, "CSV", "more than %llu bytes",
                          (unsigned long long)LR_EMBED_CSV_MAX);
    lr_arena_init(&p.arena, 3 * csv.n + LR_MIB(1));
    c.arena = &p.arena;
    int rc = read_all(&c, &p);
    if (rc) {
        lr_embed_pairs_free(&p);
        return rc;
    }
    *out = p;
    return 0;
}

int lr_embed_pairs_read(struct lr_embed_pairs *out, const char *path, struct lr_err *err)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_EMBED_CSV_MAX);
    int rc = lr_io_read_file(path, &b);
    if (rc)
        lr_err_set(err, rc, path, "cannot be read: %s", lr_strerror(rc));
    else
        rc = lr_embed_pairs_parse(out, lr_buf_str(&b), err);
    lr_buf_free(&b);
    return rc;
}

void lr_embed_pairs_free(struct lr_embed_pairs *p)
{
    lr_free(p->pair);
    lr_arena_free(&p->arena);
    *p = (struct lr_embed_pairs){0};
}

/* ---- quality ---- */

static int by_score(const void *a, const void *b, void *scores)
{
    const float *s = scores;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    if (s[i] > s[k] || s[i] < s[k])
        return s[i] > s[k] ? -1 : 1;
    return i < k ? -1 : i > k;
}

/* From counts: tp of `taken`, of `same` in n. */
static struct lr_embed_quality rate(double tp, double taken, double same, double n, float threshold)
{
    struct lr_embed_quality q = {.threshold = threshold};
    q.precision = taken > 0 ? (float)(tp / taken) : 0;
    q.recall = same > 0 ? (float)(tp / same) : 0;
    q.f1 = taken + same > 0 ? (float)(2 * tp / (taken + same)) : 0;
    q.accuracy = n > 0 ? (float)((tp + (n - taken - (same - tp))) / n) : 0;
    return q;
}

void lr_embed_quality(const float *score, const bool *same, size_t n, uint32_t *order,
                      const float *threshold, struct lr_embed_quality *out)
{
    struct lr_embed_quality best = {.f1 = -1};
    size_t total = 0, tp = 0;
    float p95 = 0;
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
        total += same[i];
    }
    union { /* qsort_r's argument is not const */
        const float *from;
        void *to;
    } arg = {.from = score};
    qsort_r(order, n, sizeof *order, by_score, arg.to);
    if (threshold)
        best = rate(0, 0, (double)total, (double)n, *threshold);
    for (size_t i = 0; i < n; i++) {
        float at = score[order[i]];
        tp += same[order[i]];
        if (i + 1 < n && score[order[i + 1]] >= at)
            continue; /* not all of the equals yet */
        struct lr_embed_quality q =
            rate((double)tp, (double)(i + 1), (double)total, (double)n, at);
        if (q.precision >= 0.95f)
            p95 = MAX_OF(p95, q.recall);
        if (threshold ? at >= *threshold : q.f1 >= best.f1) {
            best = q;
            best.threshold = threshold ? *threshold : at;
        }
    }
    if (best.f1 < 0)
        best.f1 = 0;
    best.recall_p95 = p95;
    *out = best;
}

/* ---- P(same) of a score ---- */

void lr_embed_fit_logistic(const float *score, const bool *same, size_t n, double *scale,
                           double *bias)
{
    const double pull = 1e-2; /* of a prior of variance 100 about (1, 0) */
    double a = 1, b = 0;
    for (int round = 0; round < 100; round++) {
        double ga = pull * (a - 1), gb = pull * b, haa = pull, hab = 0, hbb = pull;
        for (size_t i = 0; i < n; i++) {
            double x = (double)score[i], p = 1 / (1 + exp(-(a * x + b)));
            double g = p - (same[i] ? 1 : 0), h = p * (1 - p);
            ga += g * x;
            gb += g;
            haa += h * x * x;
            hab += h * x;
            hbb += h;
        }
        double det = haa * hbb - hab * hab;
        if (!(det > 1e-300))
            break;
        double da = (hbb * ga - hab * gb) / det, db = (haa * gb - hab * ga) / det;
        /* Far from the optimum a whole step may leap over it. */
        double step = fmin(1, 5 / (fabs(da) + fabs(db) + 1e-12));
        a -= step * da;
        b -= step * db;
        if (fabs(da) + fabs(db) < 1e-9)
            break;
    }
    *scale = a;
    *bias = b;
}
