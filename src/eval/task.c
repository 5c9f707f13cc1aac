/* SPDX-License-Identifier: Apache-2.0
 * eval/task.c - samples of the recall tasks: docs/recall.md says what they are.
 *
 *   draw facts and questions > fill with sentences up to N tokens > place facts > encode > cut
 *
 * A sample depends on (seed, task, N, number) alone. What is asked for stands in the text once:
 * keys are distinct within a sample, no list shares a word with another, and only facts use keys
 * and values. The tests check this on the text, not on the generator.
 */
#include "eval/eval_int.h"

#include <stdlib.h>

#define PAIRS_MAX 48u
#define QUERIES   8u
#define TURNS     5u
#define CHAINS    4u
#define HOPS_MAX  4u
#define SEGMENT   24u
#define FACTS_MAX 64u /* at least pairs and the hops of all chains */

struct fact {
    struct lr_str text;
    size_t from, to; /* bytes of text: the word that may be asked for */
    size_t gap;
    uint64_t order; /* among facts of one gap: random */
    size_t at;      /* where it stands */
};

struct ask {
    struct lr_str key, answer;
    const struct fact *fact; /* NULL: several, or none */
    size_t at, reply, end;   /* bytes of the text */
};

struct maker {
    const struct lr_eval_spec *spec;
    const struct lr_eval_coder *coder;
    struct lr_arena *a;
    struct lr_err *err;
    struct lr_rng rng;
    struct fact fact[FACTS_MAX];
    size_t n_fact;
    struct ask ask[LR_EVAL_TURNS_MAX];
    size_t n_ask;
    struct lr_str *filler;
    size_t n_filler;
    struct lr_buf text;
    struct lr_nn_ids ids, ends;
    size_t bos; /* tokens before the text: 0 or 1 */
};

/* A generator of (seed, task, N, i) alone. */
static uint64_t seed_of(const struct lr_eval_spec *s, uint64_t i)
{
    uint64_t all[4] = {(uint64_t)s->task, s->tokens, i, s->seed};
    return lr_hash64(lr_str(all, sizeof all), 0);
}

static int over_memory(struct maker *m)
{
    return lr_err_set(m->err, LR_ENOMEM, "sample", "out of memory");
}

/* Joins n words: " w1 w2 .. wn" and the tail. */
static int join(struct maker *m, const struct lr_str *w, size_t n, const char *tail,
                struct lr_str *out)
{
    size_t len = strlen(tail);
    for (size_t i = 0; i < n; i++)
        len += 1 + w[i].n;
    char *p = lr_arena_alloc(m->a, len + 1, 1);
    if (!p)
        return over_memory(m);
    *out = lr_str(p, len);
    for (size_t i = 0; i < n; i++) {
        *p++ = ' ';
        memcpy(p, w[i].p, w[i].n);
        p += w[i].n;
    }
    memcpy(p, tail, strlen(tail));
    return 0;
}

static int add_fact(struct maker *m, const struct lr_str *w, size_t n, struct fact **out)
{
    assert(m->n_fact < FACTS_MAX);
    struct fact *f = &m->fact[m->n_fact++];
    LR_TRY(join(m, w, n, ".", &f->text));
    f->to = f->text.n - 1;
    f->from = f->to - w[n - 1].n;
    f->order = lr_rng_u64(&m->rng);
    if (out)
        *out = f;
    return 0;
}

static int add_ask(struct maker *m, struct lr_str key, const struct lr_str *answer, size_t n,
                   const struct fact *f)
{
    assert(m->n_ask < LR_EVAL_TURNS_MAX);
    struct ask *q = &m->ask[m->n_ask++];
    q->key = key;
    q->fact = f;
    return join(m, answer, n, "", &q->answer);
}

/* The first n of a random order of `all` numbers. */
static void draw_distinct(struct maker *m, uint32_t *order, uint32_t all, uint32_t n)
{
    for (uint32_t i = 0; i < all; i++)
        order[i] = i;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = i + (uint32_t)lr_rng_below(&m->rng, all - i), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
}

static struct lr_str any_value(struct maker *m)
{
    return m->spec->words->value[lr_rng_below(&m->rng, LR_EVAL_WORDS)];
}

/* ---- facts and questions of each task ---- */

/* P pairs of which Q are asked for. */
static int draw_pairs(struct maker *m, uint32_t pairs, uint32_t queries)
{
    uint32_t order[LR_EVAL_WORDS], asked[PAIRS_MAX];
    bool absent = m->spec->task == LR_EVAL_ABSENT;
    struct lr_str pair[PAIRS_MAX][2];
    draw_distinct(m, order, LR_EVAL_WORDS, pairs + absent);
    for (uint32_t i = 0; i < pairs; i++) {
        pair[i][0] = m->spec->words->key[order[i]];
        pair[i][1] = any_value(m);
        LR_TRY(add_fact(m, pair[i], 2, NULL));
    }
    draw_distinct(m, asked, pairs, queries);
    for (uint32_t i = 0; i < queries; i++) {
        uint32_t k = asked[i];
        struct lr_str key = absent ? m->spec->words->key[order[pairs]] : pair[k][0];
        struct lr_str value = absent ? any_value(m) : pair[k][1]; /* of a pair that was never put */
        LR_TRY(add_ask(m, key, &value, 1, absent ? NULL : &m->fact[k]));
    }
    return 0;
}

static int draw_chains(struct maker *m)
{
    uint32_t order[LR_EVAL_WORDS], next = 0;
    uint32_t asked = (uint32_t)lr_rng_below(&m->rng, CHAINS);
    draw_distinct(m, order, LR_EVAL_WORDS, CHAINS * HOPS_MAX);
    for (uint32_t c = 0; c < CHAINS; c++) {
        struct lr_str word[HOPS_MAX + 1];
        uint32_t hops = 2 + (uint32_t)lr_rng_below(&m->rng, HOPS_MAX - 1);
        for (uint32_t i = 0; i < hops; i++)
            word[i] = m->spec->words->key[order[next++]];
        word[hops] = any_value(m);
        for (uint32_t i = 0; i < hops; i++)
            LR_TRY(add_fact(m, &word[i], 2, NULL));
        if (c == asked)
            LR_TRY(add_ask(m, word[0], &word[1], hops, NULL));
    }
    return 0;
}

static int draw_segment(struct maker *m)
{
    uint32_t order[2 * LR_EVAL_WORDS];
    struct lr_str word[SEGMENT];
    draw_distinct(m, order, 2 * LR_EVAL_WORDS, SEGMENT);
    for (uint32_t i = 0; i < SEGMENT; i++)
        word[i] = order[i] < LR_EVAL_WORDS ? m->spec->words->key[order[i]]
                                           : m->spec->words->value[order[i] - LR_EVAL_WORDS];
    LR_TRY(add_fact(m, word, SEGMENT, NULL));
    return add_ask(m, word[0], word + 1, SEGMENT - 1, NULL);
}

static int draw_facts(struct maker *m)
{
    uint32_t pairs = m->spec->tokens / 16 < PAIRS_MAX ? m->spec->tokens / 16 : PAIRS_MAX;
    switch (m->spec->task) {
    case LR_EVAL_MULTI_KEY:
        return draw_pairs(m, pairs, 1);
    case LR_EVAL_MULTI_QUERY:
        return draw_pairs(m, pairs, QUERIES);
    case LR_EVAL_TURNS:
        return draw_pairs(m, pairs, TURNS);
    case LR_EVAL_VARIABLE:
        return draw_chains(m);
    case LR_EVAL_COPY:
        return draw_segment(m);
    default:
        return draw_pairs(m, 1, 1);
    }
}

/* ---- length ---- */

/* Tokens of a text by itself. */
static int count(struct maker *m, struct lr_str text, size_t *sum)
{
    m->ids.n = 0;
    LR_TRY(lr_eval_encode(m->coder, text, &m->ids, NULL, m->err));
    *sum += m->ids.n;
    return 0;
}

static int count_fixed(struct maker *m, size_t *out)
{
    size_t sum = m->bos;
    for (size_t i = 0; i < m->n_fact; i++)
        LR_TRY(count(m, m->fact[i].text, &sum));
    for (size_t i = 0; i < m->n_ask; i++) {
        const struct lr_str w[] = {m->ask[i].key};
        struct lr_str key;
        LR_TRY(join(m, w, 1, "", &key));
        LR_TRY(count(m, key, &sum));
        LR_TRY(count(m, m->ask[i].answer, &sum));
        sum += i + 1 < m->n_ask ? 3 : 2; /* "\n", "?", and "." between questions */
    }
    *out = sum;
    return 0;
}

static int draw_filler(struct maker *m)
{
    size_t used = 0, n = m->spec->tokens;
    LR_TRY(count_fixed(m, &used));
    if (used > n)
        return lr_err_set(m->err, LR_EINVAL, lr_eval_task_name(m->spec->task),
                          "%zu tokens are too few: facts and questions have %zu", n, used);
    m->filler = lr_arena_array(m->a, struct lr_str, n);
    if (!m->filler)
        return over_memory(m);
    while (m->n_filler < n) {
        struct lr_str word[8], sentence;
        size_t k = 4 + lr_rng_below(&m->rng, 5), more = 0;
        for (size_t i = 0; i < k; i++)
            word[i] = m->spec->words->filler[lr_rng_below(&m->rng, LR_EVAL_WORDS)];
        LR_TRY(join(m, word, k, ".", &sentence));
        LR_TRY(count(m, sentence, &more));
        if (used + more > n)
            break;
        used += more;
        m->filler[m->n_filler++] = sentence;
    }
    return 0;
}

/* ---- text ---- */

static int by_place(const void *a, const void *b)
{
    const struct fact *x = *(const struct fact *const *)a, *y = *(const struct fact *const *)b;
    return x->gap != y->gap       ? (x->gap > y->gap) - (x->gap < y->gap)
           : x->order != y->order ? (x->order > y->order) - (x->order < y->order)
                                  : (x > y) - (x < y);
}

static void write_body(struct maker *m)
{
    struct fact *place[FACTS_MAX] = {0};
    for (size_t i = 0; i < m->n_fact; i++) {
        uint64_t gap = lr_rng_below(&m->rng, m->n_filler + 1);
        m->fact[i].gap = m->spec->task == LR_EVAL_RECENT ? m->n_filler : gap;
        place[i] = &m->fact[i];
    }
    qsort(place, m->n_fact, sizeof place[0], by_place);
    size_t next = 0;
    for (size_t gap = 0; gap <= m->n_filler; gap++) {
        for (; next < m->n_fact && place[next]->gap == gap; next++) {
            place[next]->at = m->text.len;
            lr_buf_adds(&m->text, place[next]->text);
        }
        if (gap < m->n_filler)
            lr_buf_adds(&m->text, m->filler[gap]);
    }
}

static void write_asks(struct maker *m)
{
    for (size_t i = 0; i < m->n_ask; i++) {
        struct ask *q = &m->ask[i];
        q->at = m->text.len;
        lr_buf_addz(&m->text, "\n? ");
        lr_buf_adds(&m->text, q->key);
        q->reply = m->text.len;
        lr_buf_adds(&m->text, q->answer);
        q->end = m->text.len;
        if (i + 1 < m->n_ask)
            lr_buf_addc(&m->text, '.');
    }
}

/* Encodes what m->text has: ids and ends of the whole. */
static int encode_whole(struct maker *m)
{
    if (m->text.rc)
        return lr_err_set(m->err, m->text.rc, "sample", "a sample of more than %zu bytes",
                          m->text.max);
    m->ids.n = m->ends.n = 0;
    return lr_eval_encode(m->coder, lr_buf_str(&m->text), &m->ids, &m->ends, m->err);
}

/* Writes and encodes; sentences go from the end of the list until it fits. */
static int write_fitting(struct maker *m)
{
    for (;;) {
        lr_buf_reset(&m->text);
        write_body(m);
        write_asks(m);
        LR_TRY(encode_whole(m));
        if (m->bos + m->ids.n <= m->spec->tokens)
            return 0;
        if (!m->n_filler)
            return lr_err_set(m->err, LR_EINVAL, lr_eval_task_name(m->spec->task),
                              "%u tokens are too few", m->spec->tokens);
        m->n_filler--;
    }
}

/* ---- real text ---- */

static bool stops(struct lr_str t, size_t i)
{
    return (t.p[i] == '.' || t.p[i] == '!' || t.p[i] == '?') && i + 1 < t.n && t.p[i + 1] == ' ';
}

/* The beginning of a sentence: behind the first full stop at or after `from`, and the blank behind
 * that, in circles; 0 when there is none. */
static size_t sentence_start(struct lr_str t, size_t from)
{
    for (size_t k = 0; k < t.n; k++)
        if (stops(t, (from + k) % t.n))
            return ((from + k) % t.n + 2) % t.n;
    return 0;
}

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool has_word(struct lr_str t, struct lr_str w)
{
    for (const char *p = t.p, *end = t.p + t.n; (p = memmem(p, (size_t)(end - p), w.p, w.n)); p++)
        if ((p == t.p || !letter(p[-1])) && (p + w.n == end || !letter(p[w.n])))
            return true;
    return false;
}

/* n bytes of the text from `start`, in circles with a blank between, as the body. */
static int wrap(struct maker *m, size_t start, size_t n, struct lr_str *out)
{
    struct lr_str t = m->spec->text;
    char *p = lr_arena_alloc(m->a, n + 1, 1);
    if (!p)
        return over_memory(m);
    *out = lr_str(p, n);
    for (size_t at = start; n; n--) {
        *p++ = at == t.n ? ' ' : t.p[at];
        at = at == t.n ? 0 : at + 1;
    }
    return 0;
}

/* Behind the last full stop at or before byte `at`; 0: in front of everything. */
static size_t needle_place(struct lr_str t, size_t at)
{
    for (size_t i = at < t.n ? at + 1 : t.n; i-- > 0;)
        if (stops(t, i))
            return i + 1;
    return 0;
}

/* Where to cut the text: behind the last whole word within n bytes. */
static size_t whole_words(struct lr_str t, size_t n)
{
    while (n > 0 && n < t.n && t.p[n] != ' ')
        n--;
    return n;
}

static int draw_needle(struct maker *m, struct lr_str text)
{
    struct lr_str pair[2];
    for (unsigned tries = 0; tries < 10000; tries++) {
        pair[0] = m->spec->words->key[lr_rng_below(&m->rng, LR_EVAL_WORDS)];
        pair[1] = any_value(m);
        if (!has_word(text, pair[0]) && !has_word(text, pair[1])) {
            struct fact *f;
            LR_TRY(add_fact(m, pair, 2, &f));
            return add_ask(m, pair[0], &pair[1], 1, f);
        }
    }
    return lr_err_set(m->err, LR_EINVAL, "text",
                      "it has all the words that a needle could be made of");
}

static int write_needle(struct maker *m)
{
    struct lr_str t = m->spec->text, all, body;
    if (t.n < 64)
        return lr_err_set(m->err, LR_EINVAL, "text", "it has less than 64 bytes");
    size_t most = (size_t)m->spec->tokens * 16, fixed = 0, n;
    double depth = lr_rng_unit(&m->rng);
    size_t start = sentence_start(t, lr_rng_below(&m->rng, t.n));
    LR_TRY(wrap(m, start, most, &all));
    LR_TRY(draw_needle(m, all));
    LR_TRY(count_fixed(m, &fixed));
    if (fixed >= m->spec->tokens)
        return lr_err_set(m->err, LR_EINVAL, "needle", "%u tokens are too few", m->spec->tokens);
    m->ids.n = m->ends.n = 0;
    LR_TRY(lr_eval_encode(m->coder, all, &m->ids, &m->ends, m->err));
    size_t left = m->spec->tokens - fixed;
    n = left < m->ends.n ? m->ends.id[left - 1] : all.n;
    do { /* one word less until the whole fits */
        n = whole_words(all, n);
        body = lr_str(all.p, n);
        size_t at = needle_place(body, (size_t)(depth * (double)n));
        lr_buf_reset(&m->text);
        lr_buf_add(&m->text, body.p, at);
        m->fact[0].at = m->text.len;
        lr_buf_adds(&m->text, m->fact[0].text);
        lr_buf_add(&m->text, body.p + at, n - at);
        write_asks(m);
        LR_TRY(encode_whole(m));
    } while (m->bos + m->ids.n > m->spec->tokens && n-- > 1);
    return 0;
}

int lr_eval_stretch(const struct lr_eval_spec *spec, const struct lr_eval_coder *c, uint64_t i,
                    struct lr_arena *a, const uint32_t **id, struct lr_err *err)
{
    struct maker m = {.spec = spec, .coder = c, .a = a, .err = err};
    struct lr_str text;
    uint32_t *to = lr_arena_array(a, uint32_t, (size_t)spec->tokens),
             bos = lr_nn_tok_roles(c->tok)->bos;
    if (spec->text.n < 64 || !to)
        return lr_err_set(err, to ? LR_EINVAL : LR_ENOMEM, "text",
                          "less than 64 bytes, or no memory");
    lr_rng_seed(&m.rng, seed_of(spec, i));
    LR_TRY(wrap(&m, sentence_start(spec->text, lr_rng_below(&m.rng, spec->text.n)),
                (size_t)spec->tokens * 16, &text));
    lr_nn_ids_init(&m.ids, text.n + 16);
    m.bos = lr_nn_tok_adds_bos(c->tok) && bos != LR_NN_NO_TOKEN;
    int rc = lr_eval_encode(c, text, &m.ids, NULL, err);
    if (!rc && m.bos + m.ids.n < spec->tokens)
        rc = lr_err_set(err, LR_EUNSUPPORTED, "text", "its tokens have more than 16 bytes each");
    if (!rc) {
        to[0] = bos;
        memcpy(to + m.bos, m.ids.id, (spec->tokens - m.bos) * sizeof *to);
        *id = to;
    }
    lr_nn_ids_free(&m.ids);
    return rc;
}

int lr_eval_flatten(struct lr_str text, struct lr_buf *out)
{
    bool due = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
            due = out->len > 0;
            continue;
        }
        if (due)
            lr_buf_addc(out, ' ');
        lr_buf_addc(out, c);
        due = false;
    }
    return out->rc;
}

/* ---- one's own ---- */

static int own_answers(struct maker *m, const struct lr_json *v, struct lr_eval_sample *out)
{
    struct lr_str *list = lr_arena_array(m->a, struct lr_str, (size_t)(v && v->n ? v->n : 1));
    if (!list)
        return over_memory(m);
    uint32_t n = 0;
    if (lr_json_is(v, LR_JSON_STRING))
        list[n++] = v->text;
    else if (lr_json_is(v, LR_JSON_ARRAY))
        for (const struct lr_json *e = v->child; e; e = e->next)
            if (lr_json_is(e, LR_JSON_STRING) && e->text.n)
                list[n++] = e->text;
    if (!n)
        return lr_err_set(m->err, LR_EINVAL, m->spec->where, "answers: a text, or a list of texts");
    out->answers = list;
    out->n_answers = n;
    return 0;
}

static int write_own(struct maker *m, struct lr_eval_sample *out)
{
    struct lr_json *o;
    struct lr_err bad = {0};
    struct lr_str context, question;
    uint64_t most = 32;
    int rc = lr_json_parse(m->a, m->spec->line, NULL, &o, &bad);
    if (rc)
        return lr_err_set(m->err, rc, m->spec->where, "%s, %s", bad.msg, bad.where);
    if (!lr_json_text(lr_json_get(o, "context"), &context) ||
        !lr_json_text(lr_json_get(o, "question"), &question) || !context.n || !question.n)
        return lr_err_set(m->err, LR_EINVAL, m->spec->where,
                          "an object with the texts context and question, and answers");
    LR_TRY(own_answers(m, lr_json_get(o, "answers"), out));
    (void)lr_json_u64(lr_json_get(o, "max_tokens"), &most); /* absent: the default */
    out->most = most < 1 ? 1 : most > 1024 ? 1024 : (uint32_t)most;
    struct ask *q = &m->ask[m->n_ask++];
    lr_buf_adds(&m->text, context);
    q->at = m->text.len;
    lr_buf_adds(&m->text, question);
    q->reply = q->end = m->text.len;
    q->answer = lr_str("", 0);
    LR_TRY(encode_whole(m));
    if (m->bos + m->ids.n + out->most > m->spec->tokens)
        return lr_err_set(m->err, LR_EOVER, m->spec->where,
                          "%zu tokens and %u of reply are more than the %u of --context",
                          m->bos + m->ids.n, out->most, m->spec->tokens);
    return 0;
}

/* ---- tokens of the parts ---- */

/* Tokens that end at or before byte `at`, BOS included. */
static uint32_t cut(const struct maker *m, size_t at)
{
    size_t low = 0, high = m->ends.n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (m->ends.id[mid] <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return (uint32_t)(m->bos + low);
}

static void cut_turn(const struct maker *m, const struct ask *q, struct lr_eval_turn *t)
{
    size_t next = q + 1 < m->ask + m->n_ask ? (q + 1)->at : q->end;
    struct lr_str rest = q->answer;
    *t = (struct lr_eval_turn){
        .ask = cut(m, q->at), .answer = cut(m, q->reply), .end = cut(m, next)};
    t->text = lr_str_trim(q->answer);
    for (rest = t->text; rest.n && rest.p; t->n_words++)
        (void)lr_str_cut(&rest, ' ');
    if (q->fact) {
        t->from = cut(m, q->fact->at +
                             q->fact->from); /* the blank before the word may be its own token */
        t->to = cut(m, q->fact->at + q->fact->to);
    }
}

static int finish(struct maker *m, struct lr_eval_sample *out)
{
    size_t n = m->bos + m->ids.n;
    uint32_t *id = lr_arena_array(m->a, uint32_t, n ? n : 1);
    if (!id || lr_arena_copy(m->a, lr_buf_str(&m->text), &out->text))
        return over_memory(m);
    if (m->bos)
        id[0] = lr_nn_tok_roles(m->coder->tok)->bos;
    memcpy(id + m->bos, m->ids.id, m->ids.n * sizeof *id);
    for (size_t i = 0; i < m->n_ask; i++)
        cut_turn(m, &m->ask[i], &out->turn[i]);
    out->n_turn = (uint32_t)m->n_ask;
    out->id = id;
    out->n = (uint32_t)n;
    out->body = out->turn[0].ask;
    if (out->body <= m->bos || out->turn[0].answer <= out->body)
        return lr_err_set(m->err, LR_EINVAL, lr_eval_task_name(m->spec->task),
                          "nothing before the question");
    return 0;
}

static int make(struct maker *m, struct lr_eval_sample *out)
{
    if (m->spec->task == LR_EVAL_OWN) {
        LR_TRY(write_own(m, out));
    } else if (m->spec->task == LR_EVAL_NEEDLE) {
        LR_TRY(write_needle(m));
    } else {
        LR_TRY(draw_facts(m));
        LR_TRY(draw_filler(m));
        LR_TRY(write_fitting(m));
    }
    return finish(m, out);
}

int lr_eval_sample(const struct lr_eval_spec *spec, const struct lr_eval_coder *c, uint64_t i,
                   struct lr_arena *a, struct lr_eval_sample *out, struct lr_err *err)
{
    if (spec->tokens < LR_EVAL_TOKENS_MIN || spec->tokens > LR_EVAL_TOKENS_MAX)
        return lr_err_set(err, LR_EINVAL, "context", "%u tokens: from %u to %u there may be",
                          spec->tokens, LR_EVAL_TOKENS_MIN, LR_EVAL_TOKENS_MAX);
    struct maker *m = lr_new(struct maker);
    if (!m)
        return lr_err_set(err, LR_ENOMEM, "sample", "out of memory");
    m->spec = spec;
    m->coder = c;
    m->a = a;
    m->err = err;
    m->bos = lr_nn_tok_adds_bos(c->tok) && lr_nn_tok_roles(c->tok)->bos != LR_NN_NO_TOKEN;
    lr_rng_seed(&m->rng, seed_of(spec, i));
    lr_buf_init(&m->text, (size_t)spec->tokens * 64 + LR_KIB(64));
    lr_nn_ids_init(&m->ids, (size_t)spec->tokens * 64 + LR_KIB(64));
    lr_nn_ids_init(&m->ends, (size_t)spec->tokens * 64 + LR_KIB(64));
    struct lr_eval_sample s = {0};
    int rc = make(m, &s);
    lr_nn_ids_free(&m->ends);
    lr_nn_ids_free(&m->ids);
    lr_buf_free(&m->text);
    lr_free(m);
    LR_TRY(rc);
    *out = s;
    return 0;
}
