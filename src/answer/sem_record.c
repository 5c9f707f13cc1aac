/* SPDX-License-Identifier: Apache-2.0
 * answer/sem_record.c - an entry of the semantic shelf as bytes, and back. docs/formats/meaning.md
 * draws them.
 *
 *   head (fixed) | labels | vector, f16 | text | before | xxh3 of all that
 *
 * What can be computed from the text is not stored: facts and sketch depend on the deployment's
 * secret and on the gates of the day. The vector is stored since a transformer takes a millisecond
 * for it; it says whose it is, and one of another encoder is made anew by the loader.
 */
#include "answer/sem_int.h"

#include "kern/kern.h"

#include <math.h>

#define MAGIC   "LRMEAN\0\1" /* the last byte is the version */
#define HEAD    208
#define DIM_MAX LR_VEC_DIM_MAX

/* A copy of what has to be under the lock. */
struct snapshot {
    struct lr_digest said, turn;
    struct lr_bound_seen seen;
    uint64_t tenant, writer, created_ms;
    uint8_t category, agreed;
    struct lr_buf text; /* text, then before */
    size_t text_n;
};

static int take(struct lr_sem *s, const struct lr_digest *key, struct snapshot *x)
{
    pthread_mutex_lock(&s->mu);
    const struct sem_entry *e = sem_entry_locked(s, key);
    int rc = e ? 0 : LR_ENOENT;
    if (e) {
        x->said = e->said;
        x->turn = e->turn;
        x->seen = e->seen;
        x->tenant = e->part->tenant->id;
        x->writer = e->writer;
        x->created_ms = e->created_ms;
        x->category = e->category;
        x->agreed = e->agreed;
        x->text_n = e->text.n;
        lr_buf_adds(&x->text, e->text);
        lr_buf_adds(&x->text, e->before);
    }
    pthread_mutex_unlock(&s->mu);
    return rc ? rc : x->text.rc;
}

static void add_digest(struct lr_buf *out, const struct lr_digest *d)
{
    lr_buf_add(out, d->b, sizeof d->b);
}

static void add_u64(struct lr_buf *out, uint64_t v)
{
    uint8_t b[8];
    lr_put_le64(b, v);
    lr_buf_add(out, b, sizeof b);
}

static void add_u16(struct lr_buf *out, size_t v)
{
    uint8_t b[2];
    lr_put_le16(b, (uint16_t)v);
    lr_buf_add(out, b, sizeof b);
}

static void write_head(const struct lr_sem *s, const struct lr_digest *key,
                       const struct lr_digest *part, const struct snapshot *x, struct lr_buf *out)
{
    const uint8_t small[] = {x->category, x->agreed, x->seen.n, 0};
    lr_buf_add(out, MAGIC, 8);
    lr_buf_add(out, small, sizeof small);
    add_u16(out, x->seen.right);
    add_u16(out, s->opts.dim);
    add_u64(out, x->tenant);
    add_u64(out, x->writer);
    add_u64(out, x->created_ms);
    add_digest(out, key);
    add_digest(out, part);
    add_digest(out, &x->turn);
    add_digest(out, &x->said);
    lr_buf_add(out, s->opts.encoder, 32);
    add_u16(out, x->text_n);
    add_u16(out, x->text.len - x->text_n);
    lr_buf_add(out, (const uint8_t[4]){0}, 4);
}

static int write(struct lr_sem *s, const struct lr_digest *key, const struct lr_digest *part,
                 const float *vector, const struct snapshot *x, struct lr_buf *out)
{
    uint16_t half[64];
    size_t from = out->len;
    write_head(s, key, part, x, out);
    lr_buf_add(out, x->seen.score, x->seen.n * sizeof *x->seen.score);
    for (size_t i = 0; i < s->opts.dim; i += LR_COUNT(half)) {
        size_t n = s->opts.dim - i < LR_COUNT(half) ? s->opts.dim - i : LR_COUNT(half);
        lr_kern()->f32_to_f16(half, vector + i, n);
        lr_buf_add(out, half, n * sizeof *half);
    }
    lr_buf_adds(out, lr_buf_str(&x->text));
    if (!out->rc)
        add_u64(out, lr_hash64(lr_str((const char *)out->p + from, out->len - from), 0));
    return out->rc;
}

int lr_sem_save(struct lr_sem *s, const struct lr_digest *key, struct lr_buf *out)
{
    struct snapshot x = {.tenant = 0};
    struct lr_digest part;
    float *vector = lr_calloc(s->opts.dim, sizeof *vector);
    LR_FAIL_IF(!vector, LR_ENOMEM);
    lr_buf_init(&x.text, LR_FACTS_TEXT_MAX + LR_MEANING_BEFORE);
    int rc = sem_vector(s, key, vector, &part);
    if (!rc)
        rc = take(s, key, &x);
    if (!rc)
        rc = write(s, key, &part, vector, &x, out);
    lr_buf_free(&x.text);
    lr_free(vector);
    return rc;
}

/* ---- and back ---- */

struct record {
    struct lr_sem_note note;
    struct lr_bound_seen seen;
    struct lr_digest part;
    uint8_t agreed;
    size_t dim;
    const uint8_t *encoder, *vector;
    struct lr_str text;
};

static void get_digest(const uint8_t *p, struct lr_digest *d)
{
    memcpy(d->b, p, sizeof d->b);
}

/* Bounds and sum first; then everything is inside. */
static int parse(struct lr_str bytes, struct record *r)
{
    const uint8_t *p = (const uint8_t *)bytes.p;
    LR_FAIL_IF(bytes.n < HEAD + 8 || memcmp(p, MAGIC, 7), LR_ECORRUPT);
    LR_FAIL_IF(p[7] != MAGIC[7], LR_EVERSION);
    size_t n_labels = p[10], dim = lr_le16(p + 14);
    size_t text_n = lr_le16(p + 200), before_n = lr_le16(p + 202);
    LR_FAIL_IF(n_labels > LR_BOUND_SEEN || !dim || dim > DIM_MAX || text_n > LR_FACTS_TEXT_MAX ||
                   before_n > LR_MEANING_BEFORE || p[8] >= LR_SEM_CATEGORIES,
               LR_ECORRUPT);
    size_t n = HEAD + 4 * n_labels + 2 * dim + text_n + before_n;
    LR_FAIL_IF(bytes.n != n + 8 || lr_le64(p + n) != lr_hash64(lr_str(p, n), 0), LR_ECORRUPT);
    *r = (struct record){.agreed = p[9], .dim = dim};
    r->note.category = p[8];
    r->seen.n = (uint8_t)n_labels;
    r->seen.right = lr_le16(p + 12);
    r->note.tenant = lr_le64(p + 16);
    r->note.writer = lr_le64(p + 24);
    r->note.now_ms = lr_le64(p + 32);
    get_digest(p + 40, &r->note.key);
    get_digest(p + 72, &r->part);
    get_digest(p + 104, &r->note.turn);
    get_digest(p + 136, &r->note.said);
    r->encoder = p + 168;
    memcpy(r->seen.score, p + HEAD, 4 * n_labels);
    r->vector = p + HEAD + 4 * n_labels;
    r->text = lr_str(r->vector + 2 * dim, text_n);
    r->note.before = lr_str(r->text.p + text_n, before_n);
    return 0;
}

/* The stored vector at unit length again; false: none that can be used. */
static bool stored_vector(const struct lr_sem *s, const struct record *r, float *x)
{
    if (r->dim != s->opts.dim || memcmp(r->encoder, s->opts.encoder, 32))
        return false;
    double sum = 0;
    for (size_t i = 0; i < r->dim; i++) {
        uint16_t h = lr_le16(r->vector + 2 * i);
        lr_kern()->f16_to_f32(x + i, &h, 1);
        sum += (double)x[i] * x[i];
    }
    if (!(sum > 0.9 && sum < 1.1))
        return false;
    for (size_t i = 0; i < r->dim; i++)
        x[i] = (float)(x[i] / sqrt(sum));
    return true;
}

int lr_sem_load(struct lr_sem *s, struct lr_str bytes, lr_sem_prepare prepare, void *ctx)
{
    struct record r;
    struct lr_sem_question q;
    struct sem_tenant *t;
    LR_TRY(parse(bytes, &r));
    LR_TRY(prepare(ctx, r.text, &q));
    q.text = r.text;
    float *x = lr_calloc(s->opts.dim, sizeof *x);
    LR_FAIL_IF(!x, LR_ENOMEM);
    if (stored_vector(s, &r, x))
        q.vector = x;
    int rc = sem_check(&r.note, &q);
    if (!rc) {
        pthread_mutex_lock(&s->mu);
        rc = sem_tenant_locked(s, r.note.tenant, &t);
        pthread_mutex_unlock(&s->mu);
    }
    if (!rc)
        rc = sem_insert(s, t, &r.part, &r.note, &q, &r.seen, r.agreed);
    lr_free(x);
    return rc;
}
