/* SPDX-License-Identifier: Apache-2.0
 * engine/attn.c - attention over ragged rows: online softmax, cut at places that are fixed for ever.
 *
 *   table    page 0 | page 1 | .. | page 7 || page 8 ..          PAGE_ROWS = 32
 *   pieces   |--------- 256 rows ---------||--------- ..         one softmax_push each
 *   spans    |---------------- 1024 rows ----------------|| ..   summed from nothing, then joined
 *
 *   span     for each piece: scores = keys * queries (+ bias, mask); push; o = o * keep + weights * values
 *   join     (max, sum, o) with (max, sum, o): both scaled to the larger maximum; in order of spans
 *   finish   o / sum, log-sum-exp
 *
 * Where softmax sums are cut changes their last bits (kern.h), so the cuts are part of the definition:
 * they count rows of the table, not tokens of a chunk, not pages in a row, not threads. Rows that a
 * query may not see weigh 0, and adding 0 * v changes nothing; so a query gets the same bits whether
 * rows after its own are in the table yet (a tile) or not (one token at a time).
 *
 * Spans are what lets several threads share one query's rows (decoding with few heads over a long
 * context) and still give the bits of one thread: prefill goes through the same spans, only on one
 * thread. 1,024 rows keep the partial sums small (a head of 64: 268 bytes for 256 KiB of rows).
 *
 * Queries come in blocks of BLOCK_QUERIES, tokens times the query heads of a group, so that keys are
 * read and decoded once for all of them; 64 x 256 scores stay in the second-level cache. The mask is
 * row.pos <= query.pos and nothing else; a page's bounds only say where looking is needless.
 *
 * Decoding waits for memory, so rows are asked for before they are read (score_few). Measured by
 * bench_attend (8,192 rows of 64 in f16, three queries, 136 MiB, two Zen 5 cores): 33 to 34 GB/s, 0.71 to
 * 0.73 of the fastest read in the same run; Q8_0 22 GB/s. Asking for whole pages at once gave 16.5,
 * not asking less.
 *
 * Sources: Dao et al., FlashAttention (2022), and Dao, Flash-Decoding (2023), for the online softmax
 * and the joined parts; the fixed cuts are ours.
 */
#include "engine/engine_int.h"

#define KEYS_AHEAD 1u /* pages */
#define ASK_ROWS 8u   /* rows between two requests */

enum sight { UNSEEN, SEEN, MIXED };

/* What the block sees of a page. */
static enum sight sight_of(const struct attn_job *j, const struct page *p)
{
    if (p->pos_min > j->pos + (int32_t)j->n_tok - 1)
        return UNSEEN;
    return p->pos_max <= j->pos ? SEEN : MIXED;
}

void lr_engine_attn_queries(const struct attn_job *j)
{
    const struct lr_kern *k = lr_kern();
    const struct lr_engine_codec *c = j->lay->codec;
    float f = 1.0f / sqrtf((float)j->d);
    float *to = j->scratch->q;
    for (uint32_t t = 0; t < j->n_tok; t++)
        for (uint32_t g = 0; g < j->group; g++, to += j->d) {
            memcpy(to, j->q + t * j->q_stride + (size_t)g * j->d, j->d * sizeof *to);
            if (c->qx)
                c->qx(to, j->d);
            k->scale(to, f, j->d);
        }
}

/* Adds biases, hides what the future holds. */
static void adjust(const struct attn_job *j, const struct page *p, uint32_t n, float *score,
                   size_t stride)
{
    for (uint32_t t = 0; t < j->n_tok; t++) {
        int32_t pos = j->pos + (int32_t)t;
        for (uint32_t g = 0; g < j->group; g++, score += stride)
            for (uint32_t r = 0; r < n; r++)
                score[r] = p->row[r].pos <= pos ? score[r] + p->row[r].bias : -INFINITY;
    }
}

static void ask_for(const void *rows, size_t bytes)
{
    for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch((const char *)rows + b);
}

/* Keys of n rows with few queries, ASK_ROWS at a time, and in between: values of the same rows and the
 * keys of those KEYS_AHEAD pages on are asked for. A page's all at once would fill the queues of the
 * core, and the products would stand behind them. page: number in the table. */
static void score_few(const struct attn_job *j, uint32_t page, struct lr_kern_rows keys, float *score,
                      size_t stride)
{
    const struct layout *l = j->lay;
    const struct page *now = j->table->page[page];
    const struct page *then =
        j->table->page[MIN_OF(page + KEYS_AHEAD, j->table->n_pages - 1)];
    size_t n = keys.n;
    for (size_t r = 0; r < n; r += ASK_ROWS) {
        ask_for(page_k(l, then, r), ASK_ROWS * l->k_bytes);
        ask_for(page_v(l, now, r), ASK_ROWS * l->v_bytes);
        keys.p = page_k(l, now, r);
        keys.n = MIN_OF(ASK_ROWS, n - r);
        lr_kern()->mul(&keys, j->d, j->scratch->q, j->d, j->group, score + r, stride, j->scratch->kern);
    }
}

/* Scores of the block with n rows of a page of the table. */
static void score_page(const struct attn_job *j, uint32_t page, uint32_t n, float *score, size_t stride)
{
    const struct page *p = j->table->page[page];
    uint32_t nq = j->n_tok * j->group;
    enum sight sight = sight_of(j, p);
    if (sight == UNSEEN) {
        for (uint32_t i = 0; i < nq; i++)
            for (uint32_t r = 0; r < n; r++)
                score[i * stride + r] = -INFINITY;
        return;
    }
    struct lr_kern_rows keys = {j->lay->codec->k, page_k(j->lay, p, 0), j->lay->k_bytes, n};
    if (j->n_tok == 1)
        score_few(j, page, keys, score, stride);
    else
        lr_kern()->mul(&keys, j->d, j->scratch->q, j->d, nq, score, stride, j->scratch->kern);
    if (sight == MIXED || p->biased)
        adjust(j, p, n, score, stride);
}

static void mix_page(const struct attn_job *j, const struct page *p, uint32_t n,
                     const float *weight, float *o)
{
    const struct lr_kern *k = lr_kern();
    uint32_t nq = j->n_tok * j->group;
    struct lr_kern_rows values = {j->lay->codec->v, page_v(j->lay, p, 0), j->lay->v_bytes, n};
    if (nq > 4 && values.type != LR_KERN_F32) { /* decoded once for all, not once for each pair */
        for (uint32_t r = 0; r < n; r++)
            k->decode(values.type, j->scratch->value + (size_t)r * j->d, page_v(j->lay, p, r), j->d);
        values = (struct lr_kern_rows){LR_KERN_F32, j->scratch->value, j->d * sizeof(float), n};
    }
    k->mix(&values, j->d, weight, PIECE_ROWS, nq, o, j->d, j->scratch->kern);
}

/* Rows [at, at + n) of the table, at most a piece. */
static void push_piece(const struct attn_job *j, uint32_t at, uint32_t n, struct attn_sum s)
{
    const struct lr_kern *k = lr_kern();
    struct page *const *page = j->table->page + at / PAGE_ROWS;
    uint32_t nq = j->n_tok * j->group, end = n;
    while (end && sight_of(j, page[(end - 1) / PAGE_ROWS]) == UNSEEN)
        end = (end - 1) / PAGE_ROWS * PAGE_ROWS;
    if (!end)
        return;
    float *score = j->scratch->score;
    for (uint32_t r = 0; r < end; r += PAGE_ROWS)
        score_page(j, (at + r) / PAGE_ROWS, MIN_OF(PAGE_ROWS, end - r), score + r, PIECE_ROWS);
    for (uint32_t i = 0; i < nq; i++) {
        float keep = k->softmax_push(&s.soft[i], score + (size_t)i * PIECE_ROWS, end);
        if (keep < 1)
            k->scale(s.o + (size_t)i * j->d, keep, j->d);
    }
    for (uint32_t r = 0; r < end; r += PAGE_ROWS)
        if (sight_of(j, page[r / PAGE_ROWS]) != UNSEEN)
            mix_page(j, page[r / PAGE_ROWS], MIN_OF(PAGE_ROWS, end - r), score + r, s.o);
}

void lr_engine_attn_span(const struct attn_job *j, uint32_t span, struct attn_sum s)
{
    uint32_t nq = j->n_tok * j->group, at = span * SPAN_ROWS;
    uint32_t end = MIN_OF(j->table->n, at + SPAN_ROWS);
    for (uint32_t i = 0; i < nq; i++)
        s.soft[i] = LR_KERN_SOFTMAX_INIT;
    memset(s.o, 0, (size_t)nq * j->d * sizeof *s.o);
    for (; at < end; at += PIECE_ROWS)
        push_piece(j, at, MIN_OF(PIECE_ROWS, end - at), s);
}

void lr_engine_attn_join(struct attn_sum into, struct attn_sum s, uint32_t n, uint32_t d)
{
    const struct lr_kern *k = lr_kern();
    for (uint32_t i = 0; i < n; i++, into.o += d, s.o += d) {
        struct lr_kern_softmax *a = &into.soft[i], b = s.soft[i];
        if (!(b.max > -INFINITY)) /* the span has nothing this query sees */
            continue;
        if (!(a->max > -INFINITY)) {
            *a = b;
            memcpy(into.o, s.o, d * sizeof *s.o);
            continue;
        }
        float top = a->max > b.max ? a->max : b.max;
        float fa = expf(a->max - top), fb = expf(b.max - top);
        k->scale(into.o, fa, d);
        k->axpy(into.o, fb, s.o, d);
        float sum = a->sum * fa;
        sum += b.sum * fb;
        *a = (struct lr_kern_softmax){top, sum};
    }
}

void lr_engine_attn_finish(const struct attn_job *j, struct attn_sum s, float *out, size_t stride,
                           float *lse, size_t lse_stride)
{
    const struct lr_engine_codec *c = j->lay->codec;
    uint32_t i = 0;
    for (uint32_t t = 0; t < j->n_tok; t++)
        for (uint32_t g = 0; g < j->group; g++, i++) {
            float *to = out + t * stride + (size_t)g * j->d;
            float sum = s.soft[i].sum; /* 0: a head without rows contributes nothing */
            memcpy(to, s.o + (size_t)i * j->d, j->d * sizeof *to);
            lr_kern()->scale(to, sum > 0 ? 1.0f / sum : 0, j->d);
            if (c->ox)
                c->ox(to, j->d);
            if (lse)
                lse[t * lse_stride + g] = lr_kern_lse(&s.soft[i]);
        }
}

void lr_engine_attn_weights(const struct attn_job *j, const float *lse, size_t lse_stride, float *p,
                            size_t stride)
{
    const struct table *t = j->table;
    for (uint32_t r = 0; r < t->n; r += PAGE_ROWS)
        score_page(j, r / PAGE_ROWS, MIN_OF(PAGE_ROWS, t->n - r), p + r, stride);
    for (uint32_t i = 0; i < j->n_tok * j->group; i++) {
        float z = lse[i / j->group * lse_stride + i % j->group];
        float *row = p + i * stride;
        for (uint32_t r = 0; r < t->n; r++)
            row[r] = row[r] > -INFINITY ? row[r] - z : -INFINITY;
        lr_kern()->exp(row, t->n);
    }
}
