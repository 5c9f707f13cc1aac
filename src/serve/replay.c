/* SPDX-License-Identifier: Apache-2.0
 * serve/replay.c - the body of a hit: written by the dialect's encoder once, by a stencil after
 * that.
 *
 * Two replays of one stored answer in one form (dialect, stream or whole, usage, choices) differ in
 * the fresh id and in the time, nowhere else. So the first replay is written twice, the second time
 * with another id and another time, every character of which differs from the first's. Where the
 * two bodies differ must then stand one id or one time, whole: these are the holes of the stencil.
 * Anything else (a form that writes something of its own, an answer of another length) has no
 * stencil and is encoded each time. A later replay copies the text and fills the holes: no event is
 * read, nothing is escaped, and every dialect gains alike without knowing of it.
 *
 *   {"id":"chatcmpl-[id: 24 characters]","object":"chat.completion","created":[time: 10 digits],...
 *
 * The stencils are in a table of buckets of four, found by the document's serial number and the
 * form. A document that was loaded again is another document: what is found is never stale, and
 * what cannot be found any more ages out. Their bytes are bounded; over the bound a hand walks the
 * table and takes those which have not been used since it last came by.
 *
 * Lock: one mutex, held for a look and a copy; a leaf.
 *
 * Measured (make bench T=hits, 32 connections, medians): of nginx's requests a second, raw 0.69
 * before and 0.88 with it, spelled differently 0.46 and 0.74; writing the body was 19 % of a raw
 * hit's time and is 2 %. Dropped: holes reported by the encoders (offsets move when a choice is
 * merged with its extras); stencils hung on the documents (their bytes would be charged to the hot
 * set before anybody knows in which forms they are asked for).
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define WAYS        4
#define TIME_DIGITS 10 /* seconds from 2001 to 2286 */
#define STENCIL_MAX                                                                                \
    LR_MIB(1) /* larger bodies are encoded each time: the copy is no longer the point */
#define CELLS_MIN 64
#define CELLS_MAX ((size_t)1 << 20)

struct hole {
    uint32_t at;
    bool time; /* else the id */
};
struct stencil {
    uint64_t doc, form;
    bool used; /* since the hand came by */
    uint32_t n, n_holes;
    struct hole holes[]; /* n_holes, then n bytes of text */
};

struct lr_replays {
    pthread_mutex_t mu;     /* guards all below */
    struct stencil **cells; /* n_cells, a power of two */
    size_t n_cells, hand;
    uint64_t bytes, bytes_max;
};

int lr_replays_open(struct lr_replays **out, uint64_t bytes_max)
{
    struct lr_replays *t = lr_new(struct lr_replays);
    LR_FAIL_IF(!t, LR_ENOMEM);
    t->n_cells = CELLS_MIN;
    while (t->n_cells < CELLS_MAX && t->n_cells * LR_KIB(1) < bytes_max)
        t->n_cells *= 2;
    t->bytes_max = bytes_max;
    t->cells = lr_calloc(t->n_cells, sizeof(struct stencil *));
    if (!t->cells) {
        lr_free(t);
        return LR_ENOMEM;
    }
    pthread_mutex_init(&t->mu, NULL);
    *out = t;
    return 0;
}

void lr_replays_close(struct lr_replays *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_cells; i++)
        lr_free(t->cells[i]);
    lr_free(t->cells);
    pthread_mutex_destroy(&t->mu);
    lr_free(t);
}

/* ---- the table ---- */

static uint64_t form_of(const struct lr_encoder_opts *o)
{
    return (uint64_t)o->dialect | (uint64_t)o->stream << 8 | (uint64_t)o->include_usage << 9 |
           (uint64_t)o->fresh_ids << 10 | (uint64_t)o->choices_max << 16;
}

/* The bucket of a document and form: WAYS cells. */
static struct stencil **bucket(struct lr_replays *t, uint64_t doc, uint64_t form)
{
    uint64_t h = (doc ^ form << 32) * 0x9E3779B97F4A7C15ULL;
    return &t->cells[(size_t)(h >> 32) & (t->n_cells - 1) & ~(size_t)(WAYS - 1)];
}

static size_t size_of(const struct stencil *s)
{
    return sizeof *s + s->n_holes * sizeof s->holes[0] + s->n;
}

static void drop_locked(struct lr_replays *t, struct stencil **cell)
{
    if (!*cell)
        return;
    t->bytes -= size_of(*cell);
    lr_free(*cell);
    *cell = NULL;
}

static void fit_locked(struct lr_replays *t)
{
    while (t->bytes > t->bytes_max) {
        struct stencil **cell = &t->cells[t->hand++ & (t->n_cells - 1)];
        if (*cell && (*cell)->used)
            (*cell)->used = false;
        else
            drop_locked(t, cell);
    }
}

/* Takes s. */
static void keep(struct lr_replays *t, struct stencil *s)
{
    pthread_mutex_lock(&t->mu);
    struct stencil **b = bucket(t, s->doc, s->form), **cell = NULL;
    for (size_t i = 0; i < WAYS && !cell; i++)
        if (!b[i] || (b[i]->doc == s->doc && b[i]->form == s->form))
            cell = &b[i];
    for (size_t i = 0; i < WAYS && !cell; i++)
        if (!b[i]->used)
            cell = &b[i];
    for (size_t i = 0; i < WAYS; i++)
        if (b[i] && &b[i] != cell)
            b[i]->used = false;
    cell = cell ? cell : b;
    drop_locked(t, cell);
    *cell = s;
    t->bytes += size_of(s);
    fit_locked(t);
    pthread_mutex_unlock(&t->mu);
}

/* ---- ids and times ---- */

/* The digits of a time; false when they are not TIME_DIGITS. */
static bool digits_of(uint64_t time_s, char out[TIME_DIGITS + 1])
{
    for (int i = TIME_DIGITS; i-- > 0; time_s /= 10)
        out[i] = (char)('0' + time_s % 10);
    out[TIME_DIGITS] = 0;
    return time_s == 0 && out[0] != '0';
}

/* The same options with another id and time: as long, and different in every character. */
static struct lr_encoder_opts other_opts(const struct lr_encoder_opts *o)
{
    struct lr_encoder_opts other = *o;
    uint64_t place = 1, rest = o->created_s;
    other.created_s = 0;
    for (int i = 0; i < TIME_DIGITS; i++, place *= 10, rest /= 10) {
        uint64_t d = i + 1 < TIME_DIGITS ? (rest % 10 + 1) % 10 : rest % 9 + 1;
        other.created_s += d * place;
    }
    for (size_t i = 0; i < LR_ID_LEN; i++)
        other.id[i] = o->id[i] == 'a' ? 'b' : 'a';
    return other;
}

/* ---- making and using a stencil ---- */

/* Messages tells input tokens in its first event, and a stored log has them in one of its last: the
 * head of the log (START, extras of the answer) and USAGE go first; the head is cut off *log. */
static int usage_first(struct lr_encoder *enc, struct lr_str *log, struct lr_buf *out)
{
    struct lr_event ev;
    struct lr_str rest = *log;
    int rc;
    while ((rc = lr_event_next(&rest, &ev)) == 1 &&
           (ev.type == LR_EV_START || (ev.type == LR_EV_EXTRA && ev.sub == LR_SCOPE_TOP))) {
        LR_TRY(lr_encoder_event(enc, &ev, out));
        *log = rest;
    }
    while (rc == 1 && ev.type != LR_EV_USAGE)
        rc = lr_event_next(&rest, &ev);
    return rc == 1 ? lr_encoder_event(enc, &ev, out) : rc;
}

static int encode(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    struct lr_encoder *enc;
    struct lr_event ev;
    LR_TRY(lr_encoder_open(&enc, o));
    int rc = o->stream && o->dialect == LR_DIALECT_MESSAGES ? usage_first(enc, &log, out) : 0;
    while (!rc && (rc = lr_event_next(&log, &ev)) == 1)
        rc = lr_encoder_event(enc, &ev, out);
    lr_encoder_close(enc);
    return rc ? rc : out->rc;
}

static bool stands(struct lr_str body, size_t at, const char *text, size_t n)
{
    return body.n - at >= n && memcmp(body.p + at, text, n) == 0;
}

/* Where a and b differ, one id or time after the other, as holes; false: they differ elsewhere. */
static bool compare(struct lr_str a, const struct lr_encoder_opts *ao, struct lr_str b,
                    const struct lr_encoder_opts *bo, struct lr_buf *holes)
{
    char at_a[TIME_DIGITS + 1], at_b[TIME_DIGITS + 1];
    if (a.n != b.n || !digits_of(ao->created_s, at_a) || !digits_of(bo->created_s, at_b))
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (a.p[i] == b.p[i])
            continue;
        struct hole h = {.at = (uint32_t)i};
        h.time = stands(a, i, at_a, TIME_DIGITS) && stands(b, i, at_b, TIME_DIGITS);
        bool id = stands(a, i, ao->id, LR_ID_LEN) && stands(b, i, bo->id, LR_ID_LEN);
        if (h.time == id) /* neither; both cannot be */
            return false;
        if (lr_buf_add(holes, &h, sizeof h))
            return false;
        i += (size_t)(h.time ? TIME_DIGITS : LR_ID_LEN) - 1;
    }
    return true;
}

/* body: what `o` made of doc. Failures only cost the stencil. */
static void learn(struct lr_replays *t, const struct lr_doc *doc, const struct lr_encoder_opts *o,
                  struct lr_str body)
{
    struct lr_encoder_opts other = other_opts(o);
    struct lr_buf again, holes;
    struct stencil *s = NULL;
    lr_buf_init(&again, body.n);
    lr_buf_init(&holes, body.n);
    if (body.n <= STENCIL_MAX && encode(&other, doc->log, &again) == 0 &&
        compare(body, o, lr_buf_str(&again), &other, &holes))
        s = lr_alloc(sizeof *s + holes.len + body.n);
    if (s) {
        *s = (struct stencil){.doc = doc->serial, .form = form_of(o), .n = (uint32_t)body.n};
        s->n_holes = (uint32_t)(holes.len / sizeof(struct hole));
        if (holes.len)
            memcpy(s->holes, holes.p, holes.len);
        memcpy(&s->holes[s->n_holes], body.p, body.n);
        keep(t, s);
    }
    lr_buf_free(&again);
    lr_buf_free(&holes);
}

static int fill_in(const struct stencil *s, const struct lr_encoder_opts *o, const char *digits,
                   struct lr_buf *out)
{
    size_t from = out->len;
    LR_TRY(lr_buf_add(out, &s->holes[s->n_holes], s->n));
    for (size_t i = 0; i < s->n_holes; i++) {
        char *at = out->p + from + s->holes[i].at;
        if (s->holes[i].time)
            memcpy(at, digits, TIME_DIGITS);
        else
            memcpy(at, o->id, LR_ID_LEN);
    }
    return 0;
}

/* LR_ENOENT: no stencil. */
static int use(struct lr_replays *t, const struct lr_doc *doc, const struct lr_encoder_opts *o,
               struct lr_buf *out)
{
    char digits[TIME_DIGITS + 1];
    int rc = LR_ENOENT;
    if (!digits_of(o->created_s, digits))
        return rc;
    uint64_t form = form_of(o);
    pthread_mutex_lock(&t->mu);
    struct stencil **b = bucket(t, doc->serial, form);
    for (size_t i = 0; i < WAYS; i++)
        if (b[i] && b[i]->doc == doc->serial && b[i]->form == form) {
            b[i]->used = true;
            rc = fill_in(b[i], o, digits, out);
            break;
        }
    pthread_mutex_unlock(&t->mu);
    return rc;
}

int lr_replay_write(struct lr_replays *t, const struct lr_doc *doc, const struct lr_encoder_opts *o,
                    struct lr_buf *out)
{
    bool own = o->dialect == LR_DIALECT_RESPONSES; /* echoes its request: no two are alike */
    int rc = own ? LR_ENOENT : use(t, doc, o, out);
    if (rc != LR_ENOENT)
        return rc;
    size_t from = out->len;
    LR_TRY(encode(o, doc->log, out));
    if (!own && out->len > from)
        learn(t, doc, o, lr_str(out->p + from, out->len - from));
    return 0;
}
