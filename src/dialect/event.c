/* SPDX-License-Identifier: Apache-2.0
 * dialect/event.c - event logs: their bytes, what they amount to, and their stored form.
 *
 * An answer is a sequence of events; a log is their bytes, one record after another, with nothing
 * around them, so that a flight can append while readers follow with cursors
 * (docs/formats/events.md):
 *
 *   +---------------+--------------------+--------+------+-----+-----+------------+---+---+
 *   | 001 | type:5  | dialect:4 | sub:4  | choice | part | |a| | |b| | by type    | a | b |
 *   +---------------+--------------------+--------+------+-----+-----+------------+---+---+
 *     1 byte          1 byte               varint   varint varint...   ERROR: status
 *                                                                      USAGE: known and 5 counts
 *
 * Varints are LEB128 in their shortest form only: a log has one spelling, and equal answers in
 * stored form have equal bytes. A delta of five letters takes eleven bytes.
 *
 * Grammar (lr_answer_facts refuses everything else; a prefix of a valid log is valid, just
 * incomplete):
 *
 *   answer  := START event* [END | ERROR]  |  BYTES* [END | ERROR]
 *   a choice's parts: PART(k) (DELTA(k) | SIGN(k) | EXTRA part <= k)* PART_END(k), k = 0, 1, 2 ...,
 *   one open at a time, none after the choice's FINISH, which comes once
 *
 * The stored form ("compact") puts the records into one order and joins what can be joined:
 *
 *   START  TOP extras  unknown events
 *   for each choice: LOGPROBS, refusal's LOGPROBS, parts {PART DELTA SIGN extras PART_END},
 *                    MESSAGE extras, CHOICE extras, FINISH
 *   VECTORs  BYTES  USAGE  USAGE extras  END or ERROR
 *
 * Deltas, signatures and byte runs are joined; usage is merged field by field; extras are sorted by
 * name and become one a name: the last one that says something where they describe a state (TOP,
 * USAGE, and CHOICE ones unless all are arrays; Azure's last chunk takes back with {} what it said
 * before), else what the pieces make together (merge.c), like log probabilities. Records are sorted
 * by a 64-bit rank of where they belong, then by name (extras), then by their offset; 16 bytes of
 * memory a record.
 *
 * Tried and dropped: joining while the flight runs (readers' cursors would have to move), and a
 * record per choice with counts up front (nothing could be appended).
 */
#include "dialect/dialect_int.h"

#include <assert.h>
#include <stdlib.h>

#define LOG_VERSION 1
#define HEAD_MAX    (2 + 4 * 10 + 6 * 10) /* tag, sub, four varints and the most a type adds */

/* ---- records -------------------------------------------------------------------------------- */

static size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

/* Everything of a record but its texts, whose lengths are given apart. */
static int append_head(struct lr_buf *log, const struct lr_event *ev, size_t a_n, size_t b_n)
{
    uint8_t h[HEAD_MAX];
    size_t n = 0;
    h[n++] = (uint8_t)(LOG_VERSION << 5 | ev->type);
    h[n++] = (uint8_t)(ev->dialect << 4 | ev->sub);
    n += put_varint(h + n, ev->choice);
    n += put_varint(h + n, ev->part);
    n += put_varint(h + n, a_n);
    n += put_varint(h + n, b_n);
    if (ev->type == LR_EV_ERROR)
        n += put_varint(h + n, ev->status);
    if (ev->type == LR_EV_USAGE) {
        n += put_varint(h + n, ev->usage.known);
        n += put_varint(h + n, ev->usage.input);
        n += put_varint(h + n, ev->usage.output);
        n += put_varint(h + n, ev->usage.cached_input);
        n += put_varint(h + n, ev->usage.written_input);
        n += put_varint(h + n, ev->usage.reasoning);
    }
    return lr_buf_add(log, h, n);
}

int lr_event_append(struct lr_buf *log, const struct lr_event *ev)
{
    assert(ev->type >= LR_EV_START && ev->type <= LR_EV_BYTES && ev->sub < 16 &&
           (unsigned)ev->dialect < LR_DIALECT_N);
    size_t need;
    if (lr_add_over(ev->a.n, ev->b.n, &need) || lr_add_over(need, HEAD_MAX, &need))
        return LR_EOVER;
    size_t before = log->len;
    int rc = append_head(log, ev, ev->a.n, ev->b.n);
    if (!rc)
        rc = lr_buf_adds(log, ev->a);
    if (!rc)
        rc = lr_buf_adds(log, ev->b);
    if (rc)
        log->len = before; /* no half records */
    return rc;
}

static int get_varint(struct lr_str *s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && s->n; shift += 7) {
        uint8_t c = (uint8_t)*s->p;
        *s = lr_str(s->p + 1, s->n - 1);
        v |= (uint64_t)(c & 0x7F) << shift;
        if (c & 0x80)
            continue;
        LR_FAIL_IF(shift && c == 0, LR_ECORRUPT);      /* not the shortest */
        LR_FAIL_IF(shift == 63 && c > 1, LR_ECORRUPT); /* beyond 64 bits */
        LR_FAIL_IF(v > max, LR_ECORRUPT);
        *out = v;
        return 0;
    }
    return LR_ECORRUPT;
}

static int get_usage(struct lr_str *s, struct lr_usage *u)
{
    uint64_t known;
    LR_TRY(get_varint(s, 1, &known));
    u->known = known != 0;
    LR_TRY(get_varint(s, UINT64_MAX, &u->input));
    LR_TRY(get_varint(s, UINT64_MAX, &u->output));
    LR_TRY(get_varint(s, UINT64_MAX, &u->cached_input));
    LR_TRY(get_varint(s, UINT64_MAX, &u->written_input));
    return get_varint(s, UINT64_MAX, &u->reasoning);
}

/* Highest sub of each type. */
static unsigned sub_max(enum lr_event_type type)
{
    switch (type) {
    case LR_EV_PART:
        return LR_PART_OTHER;
    case LR_EV_SIGN:
    case LR_EV_LOGPROBS:
        return 1;
    case LR_EV_FINISH:
        return LR_FINISH_OTHER;
    case LR_EV_EXTRA:
        return LR_SCOPE_EVENT;
    default:
        return 0;
    }
}

static int get_head(struct lr_str *s, struct lr_event *ev)
{
    LR_FAIL_IF(s->n < 2, LR_ECORRUPT);
    uint8_t tag = (uint8_t)s->p[0], what = (uint8_t)s->p[1];
    unsigned type = tag & 31;
    LR_FAIL_IF(tag >> 5 != LOG_VERSION || type < LR_EV_START || type > LR_EV_BYTES, LR_ECORRUPT);
    *ev = (struct lr_event){.type = (enum lr_event_type)type,
                            .sub = what & 15,
                            .dialect = (enum lr_dialect_id)(what >> 4)};
    LR_FAIL_IF(what >> 4 >= LR_DIALECT_N || ev->sub > sub_max(ev->type), LR_ECORRUPT);
    *s = lr_str(s->p + 2, s->n - 2);
    return 0;
}

int lr_event_next(struct lr_str *log, struct lr_event *ev)
{
    if (!log->n)
        return 0;
    struct lr_str s = *log;
    struct lr_event e;
    uint64_t choice, part, a_n, b_n, status = 0;
    LR_TRY(get_head(&s, &e));
    LR_TRY(get_varint(&s, UINT16_MAX, &choice));
    LR_TRY(get_varint(&s, UINT16_MAX, &part));
    LR_TRY(get_varint(&s, SIZE_MAX, &a_n));
    LR_TRY(get_varint(&s, SIZE_MAX, &b_n));
    if (e.type == LR_EV_ERROR)
        LR_TRY(get_varint(&s, UINT16_MAX, &status));
    if (e.type == LR_EV_USAGE)
        LR_TRY(get_usage(&s, &e.usage));
    LR_FAIL_IF(a_n > s.n || b_n > s.n - a_n, LR_ECORRUPT);
    e.choice = (uint16_t)choice;
    e.part = (uint16_t)part;
    e.status = (uint16_t)status;
    e.a = lr_str(s.p, (size_t)a_n);
    e.b = lr_str(s.p + a_n, (size_t)b_n);
    *log = lr_str(e.b.p + e.b.n, s.n - (size_t)a_n - (size_t)b_n);
    *ev = e;
    return 1;
}

/* ---- facts ---------------------------------------------------------------------------------- */

struct choice_state {
    uint32_t parts; /* opened so far */
    bool open, finished;
};

struct walk {
    struct choice_state *choices; /* owned */
    size_t n, cap;                /* choices seen, held */
    size_t vectors, events;
    bool started, over, bytes, bad_finish, error;
};

static struct choice_state *choice_at(struct walk *w, uint16_t choice)
{
    if (choice >= w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 4;
        while (cap <= choice)
            cap *= 2;
        struct choice_state *p = lr_realloc(w->choices, cap * sizeof *p);
        if (!p)
            return NULL;
        memset(p + w->cap, 0, (cap - w->cap) * sizeof *p);
        w->choices = p;
        w->cap = cap;
    }
    if (choice >= w->n)
        w->n = (size_t)choice + 1;
    return &w->choices[choice];
}

static int walk_part(struct choice_state *c, const struct lr_event *ev)
{
    bool current = c->parts && ev->part == c->parts - 1;
    switch (ev->type) {
    case LR_EV_PART:
        LR_FAIL_IF(c->open || c->finished || ev->part != c->parts || !ev->sub, LR_ECORRUPT);
        c->parts++;
        c->open = true;
        return 0;
    case LR_EV_DELTA:
    case LR_EV_SIGN:
        return c->open && current ? 0 : LR_ECORRUPT;
    case LR_EV_PART_END:
        LR_FAIL_IF(!c->open || !current, LR_ECORRUPT);
        c->open = false;
        return 0;
    default:
        return ev->part < c->parts ? 0 : LR_ECORRUPT;
    }
}

static int walk_choice(struct walk *w, const struct lr_event *ev)
{
    struct choice_state *c = choice_at(w, ev->choice);
    LR_FAIL_IF(!c, LR_ENOMEM);
    if (ev->type == LR_EV_FINISH) {
        LR_FAIL_IF(c->open || c->finished || !ev->sub, LR_ECORRUPT);
        c->finished = true;
        w->bad_finish |= ev->sub == LR_FINISH_FILTER || ev->sub == LR_FINISH_PAUSE;
        return 0;
    }
    bool whole =
        ev->type == LR_EV_LOGPROBS || (ev->type == LR_EV_EXTRA && ev->sub != LR_SCOPE_PART);
    return whole ? 0 : walk_part(c, ev);
}

static int walk_event(struct walk *w, const struct lr_event *ev)
{
    LR_FAIL_IF(w->over, LR_ECORRUPT);
    bool first = w->events++ == 0;
    switch (ev->type) {
    case LR_EV_START:
        LR_FAIL_IF(!first, LR_ECORRUPT);
        w->started = true;
        return 0;
    case LR_EV_BYTES:
        LR_FAIL_IF(w->started, LR_ECORRUPT);
        w->bytes = true;
        return 0;
    case LR_EV_END:
    case LR_EV_ERROR:
        w->over = true;
        w->error = ev->type == LR_EV_ERROR;
        return 0;
    case LR_EV_USAGE:
    case LR_EV_VECTOR:
        w->vectors += ev->type == LR_EV_VECTOR;
        return w->started ? 0 : LR_ECORRUPT;
    default:
        LR_FAIL_IF(!w->started, LR_ECORRUPT);
        if (ev->type == LR_EV_EXTRA &&
            (ev->sub == LR_SCOPE_TOP || ev->sub == LR_SCOPE_USAGE || ev->sub == LR_SCOPE_EVENT))
            return 0;
        return walk_choice(w, ev);
    }
}

void lr_usage_add(struct lr_usage *sum, const struct lr_usage *u)
{
    sum->known |= u->known;
    if (u->input)
        sum->input = u->input;
    if (u->output)
        sum->output = u->output;
    if (u->cached_input)
        sum->cached_input = u->cached_input;
    if (u->written_input)
        sum->written_input = u->written_input;
    if (u->reasoning)
        sum->reasoning = u->reasoning;
}

bool lr_json_is_void(struct lr_str raw)
{
    struct lr_str s = lr_str_trim(raw);
    if (lr_str_is(s, "null") || lr_str_is(s, "\"\""))
        return true;
    if (s.n < 2 ||
        !((s.p[0] == '[' && s.p[s.n - 1] == ']') || (s.p[0] == '{' && s.p[s.n - 1] == '}')))
        return false;
    return lr_str_trim(lr_str(s.p + 1, s.n - 2)).n == 0;
}

/* Would a replay in another dialect lose something the answer says? */
static bool loses(const struct lr_event *ev)
{
    if (ev->type == LR_EV_PART)
        return ev->sub == LR_PART_OTHER;
    if (ev->type == LR_EV_FINISH)
        return ev->sub == LR_FINISH_OTHER;
    if (ev->type != LR_EV_EXTRA || ev->sub == LR_SCOPE_USAGE || lr_json_is_void(ev->b))
        return false;
    /* About the serving, not about the answer. */
    return !(ev->sub == LR_SCOPE_TOP &&
             (lr_str_is(ev->a, "system_fingerprint") || lr_str_is(ev->a, "service_tier")));
}

static void note(struct lr_answer_facts *f, const struct lr_event *ev)
{
    if (ev->type == LR_EV_START)
        f->model = ev->b;
    else if (ev->type == LR_EV_USAGE)
        lr_usage_add(&f->usage, &ev->usage);
    else if (ev->type == LR_EV_FINISH && ev->sub == LR_FINISH_LENGTH)
        f->cut = true;
    if (!f->lossy && loses(ev)) {
        f->lossy = true;
        f->dialect = ev->dialect;
    }
}

static bool all_finished(const struct walk *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (!w->choices[i].finished)
            return false;
    return w->n || w->vectors || w->bytes;
}

int lr_answer_facts(struct lr_str log, struct lr_answer_facts *out)
{
    struct walk w = {0};
    struct lr_answer_facts f = {0};
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        rc = walk_event(&w, &ev);
        if (rc)
            break;
        note(&f, &ev);
    }
    if (!rc) {
        f.choices = (uint16_t)(w.n > UINT16_MAX ? UINT16_MAX : w.n);
        f.complete = w.over && !w.error && all_finished(&w);
        f.storable = f.complete && !w.bad_finish && !w.bytes;
        *out = f;
    }
    lr_free(w.choices);
    return rc;
}

/* ---- the stored form ------------------------------------------------------------------------ */

enum { S_START, S_TOP, S_EVENT, S_CHOICE, S_VECTOR, S_BYTES, S_USAGE, S_USAGE_EXTRA, S_OVER };
enum { C_LOGPROBS, C_REFUSAL_LOGPROBS, C_PARTS, C_MESSAGE, C_EXTRA, C_FINISH };
enum { P_OPEN, P_DELTA, P_SIGN, P_REDACTED, P_EXTRA, P_END };

/* section:8 choice:16 class:8 part:16 kind:8 */
static uint64_t rank(unsigned section, unsigned choice, unsigned class, unsigned part,
                     unsigned kind)
{
    return (uint64_t)section << 48 | (uint64_t)choice << 32 | (uint64_t) class << 24 |
           (uint64_t)part << 8 | kind;
}

static uint64_t rank_part(const struct lr_event *ev, unsigned kind)
{
    return rank(S_CHOICE, ev->choice, C_PARTS, ev->part, kind);
}

static uint64_t rank_extra(const struct lr_event *ev)
{
    switch ((enum lr_extra_scope)ev->sub) {
    case LR_SCOPE_TOP:
        return rank(S_TOP, 0, 0, 0, 0);
    case LR_SCOPE_EVENT:
        return rank(S_EVENT, 0, 0, 0, 0);
    case LR_SCOPE_USAGE:
        return rank(S_USAGE_EXTRA, 0, 0, 0, 0);
    case LR_SCOPE_PART:
        return rank_part(ev, P_EXTRA);
    case LR_SCOPE_MESSAGE:
        return rank(S_CHOICE, ev->choice, C_MESSAGE, 0, 0);
    case LR_SCOPE_CHOICE:
        break;
    }
    return rank(S_CHOICE, ev->choice, C_EXTRA, 0, 0);
}

static uint64_t rank_event(const struct lr_event *ev)
{
    switch (ev->type) {
    case LR_EV_START:
        return rank(S_START, 0, 0, 0, 0);
    case LR_EV_PART:
        return rank_part(ev, P_OPEN);
    case LR_EV_DELTA:
        return rank_part(ev, P_DELTA);
    case LR_EV_SIGN:
        return rank_part(ev, ev->sub ? P_REDACTED : P_SIGN);
    case LR_EV_PART_END:
        return rank_part(ev, P_END);
    case LR_EV_LOGPROBS:
        return rank(S_CHOICE, ev->choice, ev->sub ? C_REFUSAL_LOGPROBS : C_LOGPROBS, 0, 0);
    case LR_EV_FINISH:
        return rank(S_CHOICE, ev->choice, C_FINISH, 0, 0);
    case LR_EV_EXTRA:
        return rank_extra(ev);
    case LR_EV_VECTOR:
        return rank(S_VECTOR, ev->choice, 0, 0, 0);
    case LR_EV_BYTES:
        return rank(S_BYTES, 0, 0, 0, 0);
    case LR_EV_USAGE:
        return rank(S_USAGE, 0, 0, 0, 0);
    case LR_EV_ERROR:
    case LR_EV_END:
        break;
    }
    return rank(S_OVER, 0, 0, 0, 0);
}

/* Does it become one with those of its rank (and name)? */
static bool joinable(const struct lr_event *ev)
{
    return ev->type == LR_EV_DELTA || ev->type == LR_EV_SIGN || ev->type == LR_EV_LOGPROBS ||
           ev->type == LR_EV_USAGE || ev->type == LR_EV_BYTES ||
           (ev->type == LR_EV_EXTRA && ev->sub != LR_SCOPE_EVENT);
}

/* Among extras of one rank: by dialect and name. */
static int order_extra(const struct lr_event *a, const struct lr_event *b)
{
    if (a->sub == LR_SCOPE_EVENT)
        return 0;
    if (a->dialect != b->dialect)
        return a->dialect < b->dialect ? -1 : 1;
    return lr_str_cmp(a->a, b->a);
}

/* The order of the stored form, offsets apart. */
static int order(const struct lr_event *a, uint64_t rank_a, const struct lr_event *b,
                 uint64_t rank_b)
{
    if (rank_a != rank_b)
        return rank_a < rank_b ? -1 : 1;
    return a->type == LR_EV_EXTRA ? order_extra(a, b) : 0;
}

struct entry {
    uint64_t rank;
    size_t at; /* offset of the record */
};

struct sorter {
    struct lr_str log;
    struct entry *e; /* owned */
    size_t n, cap;
};

/* The record at an offset that was read once already. */
static struct lr_event event_at(struct lr_str log, size_t at)
{
    struct lr_str rest = lr_str(log.p + at, log.n - at);
    struct lr_event ev = {0};
    int rc = lr_event_next(&rest, &ev);
    assert(rc == 1);
    (void)rc; /* read before: cannot fail */
    return ev;
}

static int by_rank(const void *x, const void *y, void *ctx)
{
    const struct entry *a = x, *b = y;
    const struct sorter *s = ctx;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    struct lr_event ea = event_at(s->log, a->at);
    int c = 0;
    if (ea.type == LR_EV_EXTRA) {
        struct lr_event eb = event_at(s->log, b->at);
        c = order(&ea, a->rank, &eb, b->rank);
    }
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

static int sorter_add(struct sorter *s, uint64_t rank_of, size_t at)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64, bytes;
        LR_FAIL_IF(lr_mul_over(cap, sizeof *s->e, &bytes), LR_EOVER);
        struct entry *e = lr_realloc(s->e, bytes);
        LR_FAIL_IF(!e, LR_ENOMEM);
        s->e = e;
        s->cap = cap;
    }
    s->e[s->n++] = (struct entry){rank_of, at};
    return 0;
}

/* All records but empty pieces, sorted. */
static int sorter_fill(struct sorter *s)
{
    struct lr_str rest = s->log;
    struct lr_event ev;
    int rc;
    for (size_t at = 0; (rc = lr_event_next(&rest, &ev)) == 1; at = s->log.n - rest.n) {
        bool piece = ev.type == LR_EV_DELTA || ev.type == LR_EV_SIGN || ev.type == LR_EV_BYTES;
        if (piece && !ev.a.n)
            continue;
        LR_TRY(sorter_add(s, rank_event(&ev), at));
    }
    LR_TRY(rc);
    if (s->n)
        qsort_r(s->e, s->n, sizeof *s->e, by_rank, s);
    return 0;
}

/* ---- joining -------------------------------------------------------------------------------- */

/* Records e[from, to) have one rank and are joinable: their texts end to end. */
static int join_text(const struct sorter *s, size_t from, size_t to, struct lr_buf *out)
{
    size_t total = 0;
    for (size_t i = from; i < to; i++)
        total += event_at(s->log, s->e[i].at).a.n;
    struct lr_event first = event_at(s->log, s->e[from].at);
    LR_TRY(append_head(out, &first, total, 0));
    for (size_t i = from; i < to; i++)
        LR_TRY(lr_buf_adds(out, event_at(s->log, s->e[i].at).a));
    return 0;
}

static int join_usage(const struct sorter *s, size_t from, size_t to, struct lr_buf *out)
{
    struct lr_event sum = {.type = LR_EV_USAGE};
    for (size_t i = from; i < to; i++) {
        struct lr_event ev = event_at(s->log, s->e[i].at);
        lr_usage_add(&sum.usage, &ev.usage);
    }
    return lr_event_append(out, &sum);
}

/* The JSON value that pieces make: of log probabilities in a, of extras in b. */
static int join_json(const struct sorter *s, size_t from, size_t to, struct lr_buf *out)
{
    struct lr_event ev = event_at(s->log, s->e[from].at);
    bool extra = ev.type == LR_EV_EXTRA;
    struct lr_buf b;
    lr_buf_init(&b, out->max);
    struct lr_merge m;
    lr_merge_open(&m, s->log.n);
    int rc = 0;
    for (size_t i = from; i < to && !rc; i++) {
        struct lr_event piece = event_at(s->log, s->e[i].at);
        rc = lr_merge_add(&m, extra ? piece.b : piece.a);
    }
    if (!rc)
        rc = lr_merge_write(&m, &b);
    lr_merge_close(&m);
    if (!rc) {
        *(extra ? &ev.b : &ev.a) = lr_buf_str(&b);
        rc = lr_event_append(out, &ev);
    }
    lr_buf_free(&b);
    return rc;
}

/* Do these extras of one name describe a state, of which the last one counts? */
static bool states(const struct sorter *s, size_t from, size_t to)
{
    struct lr_event ev = event_at(s->log, s->e[from].at);
    if (ev.sub == LR_SCOPE_TOP || ev.sub == LR_SCOPE_USAGE)
        return true;
    for (size_t i = from; i < to && ev.sub == LR_SCOPE_CHOICE; i++) {
        ev = event_at(s->log, s->e[i].at);
        if (!ev.b.n || ev.b.p[0] != '[')
            return true;
    }
    return false;
}

static int join_states(const struct sorter *s, size_t from, size_t to, struct lr_buf *out)
{
    struct lr_event ev = event_at(s->log, s->e[to - 1].at);
    for (size_t i = to - 1; i > from && lr_json_is_void(ev.b); i--) {
        struct lr_event before = event_at(s->log, s->e[i - 1].at);
        if (!lr_json_is_void(before.b))
            ev = before;
    }
    return lr_event_append(out, &ev);
}

static int join(const struct sorter *s, size_t from, size_t to, struct lr_buf *out)
{
    struct lr_event first = event_at(s->log, s->e[from].at);
    if (to - from == 1)
        return lr_event_append(out, &first);
    if (first.type == LR_EV_EXTRA && states(s, from, to))
        return join_states(s, from, to, out);
    if (first.type == LR_EV_USAGE)
        return join_usage(s, from, to, out);
    if (first.type == LR_EV_LOGPROBS || first.type == LR_EV_EXTRA)
        return join_json(s, from, to, out);
    return join_text(s, from, to, out);
}

/* Writes e[*i] and whatever becomes one with it, and moves *i behind. */
static int write_run(const struct sorter *s, size_t *i, struct lr_buf *out)
{
    size_t from = *i, to = from + 1;
    struct lr_event ev = event_at(s->log, s->e[from].at);
    for (; joinable(&ev) && to < s->n; to++) {
        struct lr_event after = event_at(s->log, s->e[to].at);
        if (order(&ev, s->e[from].rank, &after, s->e[to].rank))
            break;
    }
    *i = to;
    return join(s, from, to, out);
}

bool lr_answer_is_compact(struct lr_str log)
{
    struct lr_event before, ev;
    int rc = lr_event_next(&log, &before);
    while (rc == 1) {
        bool piece =
            before.type == LR_EV_DELTA || before.type == LR_EV_SIGN || before.type == LR_EV_BYTES;
        if (piece && !before.a.n)
            return false;
        rc = lr_event_next(&log, &ev);
        if (rc != 1)
            break;
        int c = order(&before, rank_event(&before), &ev, rank_event(&ev));
        if (c > 0 || (c == 0 && joinable(&ev)))
            return false;
        before = ev;
    }
    return rc == 0;
}

int lr_answer_compact(struct lr_str log, struct lr_buf *out)
{
    struct lr_answer_facts facts;
    LR_TRY(lr_answer_facts(log, &facts)); /* only what is an answer has a stored form */
    if (lr_answer_is_compact(log))
        return lr_buf_adds(out, log);
    struct sorter s = {.log = log};
    size_t before = out->len;
    int rc = sorter_fill(&s);
    for (size_t i = 0; i < s.n && !rc;)
        rc = write_run(&s, &i, out);
    if (rc)
        out->len = before;
    lr_free(s.e);
    return rc;
}
