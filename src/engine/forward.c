/* SPDX-License-Identifier: Apache-2.0
 * engine/forward.c - one step: some tokens of some sequences through all layers, on all threads.
 *
 *   owner    check, find room for all rows, angles      everything that can fail is before the threads
 *   threads  embed
 *            per layer  norm, q k v > rope, store, attention (> join) > [taps] > out > norm, gate up
 *                       > down                      > is a meeting; of many tokens, also at commas
 *            norm > logits
 *
 * All threads run the same function (walk) and meet between phases; within one they take pieces by
 * counter. Tokens of all sequences lie in one matrix, so that a matrix product reads each weight once
 * for all of them; attention alone looks at sequences one by one.
 *
 *   token    0 .. 255            256            257 ..
 *            prompt of A, tile   B decodes      C decodes
 *
 * Products with quantised weights take their tokens in fixed point of sixteen bits (kern/'s mulq), of
 * many tokens and of one alike: twice as fast as floats in tiles. All but those for q, k and v, a tenth
 * of a layer, on which attention stands: with them in floats the largest difference of a logit from
 * that of floats throughout (KV rows f32, 64 tokens, whole vocabulary) was 4.1e-4 on a random 135M
 * model (logits' deviation 1.0; without 4.1e-4) and 9e-4 on larder-mini (3.3; without 2.4e-3). Rows in
 * binary16 bring 2.4e-3 and 1e-2. Records of many tokens lie in a matrix that is done with.
 *
 * A token's result depends on its own row of x and its own table: products of kern/ give each (row,
 * token) the same bits in every company, norms and activations work on one row, attention has fixed
 * cuts (attn.c). Hence batched = alone and chunked = whole, with no special path for either.
 *
 * Measured (two Zen 5 cores, prompt 512 and 64 more, bench/engine_peer.py in turns with llama.cpp on
 * a crowded machine, --with "chrt -r 2"; tokens/s, in brackets the peer): 1B Q4_K prefill 276 (190),
 * decode 44 (42); 135M F32 1,264 (871), 81 (71); Q8_0 1,847 (801), 205 (112); Q4_K 1,926 (760), 233
 * (113). With products of floats, same machine, same hour: 1B 166 and 37. (Idle: 175 and 40.5 with
 * floats, the peer 213 and 46.7.) Before weights came without a detour (kern/), with eight meetings a
 * layer and one counter for all pieces, 135M decoded at 143 and 137. On a machine whose cores are taken
 * by others, several threads still decode far slower than one, for each meeting waits for who was put
 * aside (two threads, six busy neighbours: 7 tokens/s, 4 with eight meetings).
 *
 * Rows are appended to all layers before the first one runs (so that no later layer can fail for want
 * of room), and filled layer by layer: the new rows of a table are its last n, whatever a policy evicted
 * from it before. When a tap's callback fails or the file was damaged the new rows are dropped again.
 */
#include "engine/engine_int.h"

#define MUL_TOKENS 256u /* of one product: its block of x stays in the second-level cache */
#define MUL_ROWS 32u    /* chunks of weights are multiples: kern/'s bands */

struct part { /* a sequence's tokens in the matrix */
    const struct lr_engine_work *w;
    uint32_t first; /* token */
    int32_t pos;    /* of it */
    struct lr_engine_show show[2]; /* the caller's tap, the policies' */
};

struct run {
    struct lr_engine *e;
    const struct lr_engine_work *work;
    struct part part[LR_ENGINE_SEQS];
    size_t n_part;
    uint32_t n_tok, n_out; /* tokens, tokens with logits */
    struct lr_engine_show *show[2 * LR_ENGINE_SEQS]; /* of all parts */
    size_t n_show;         /* 0: nobody reads log-sum-exps */
    bool choosing;         /* some policy chooses the rows that are read */
    uint32_t layer;
    int rc;                /* written by thread 0 between meetings */
};

/* ---- pieces of work ---- */

/* Runs `body` for index i in [0, n) on thread ith. */
#define TAKE(team, i, n) for (size_t i; (i = lr_engine_team_take(team, ith, n)) < (n);)

struct product {
    const struct lr_kern_rows *w;
    const float *bias; /* or NULL */
    float *out;        /* (tokens, w->n) */
};

static size_t chunk_rows(const struct run *r, size_t rows)
{
    size_t n = rows / (r->e->threads * 4u) + 1;
    n = (n + MUL_ROWS - 1) / MUL_ROWS * MUL_ROWS;
    return r->e->threads == 1 ? rows : r->n_tok <= FEW ? MUL_ROWS : n;
}

/* What products take: tokens of k elements as floats, and as records for quantised weights. */
struct input {
    const float *x;
    const char *act; /* NULL: all these products are of floats */
    size_t k;
};

static bool in_codes(const struct lr_kern_rows *w)
{
    return w->type >= LR_KERN_Q8_0;
}

/* n tokens at x, with records if `codes`: in the thread's own memory when they are few (each thread
 * makes all of them: cheaper than to meet), else in `room`, as large as the floats. */
static struct input input_of(const struct run *r, unsigned ith, const float *x, size_t k, size_t n,
                             bool codes, void *room)
{
    struct input in = {x, NULL, k};
    if (!codes)
        return in;
    size_t record = lr_kern_act_bytes(k);
    char *act = n <= FEW ? r->e->s.thread[ith].act : room;
    in.act = act;
    for (size_t t = 0; n <= FEW && t < n; t++)
        r->e->k->act_q16(act + t * record, x + t * k, k);
    if (n <= FEW)
        return in;
    TAKE(r->e->team, c, (n + 7) / 8)
    for (size_t t = 8 * c; t < MIN_OF(n, 8 * c + 8); t++)
        r->e->k->act_q16(act + t * record, x + t * k, k);
    lr_engine_team_sync(r->e->team);
    return in;
}

/* n tokens from token `from` on with all rows of w. */
static void mul_tokens(const struct run *r, unsigned ith, const struct lr_kern_rows *w,
                       const struct input *in, size_t from, size_t n, float *out, size_t stride)
{
    void *scratch = r->e->s.thread[ith].kern;
    if (in->act && in_codes(w))
        r->e->k->mulq(w, in->k, in->act + from * lr_kern_act_bytes(in->k), n, out, stride, scratch);
    else
        r->e->k->mul(w, in->k, in->x + from * in->k, in->k, n, out, stride, scratch);
}

/* Rows [at, at + n) of w with all tokens. */
static void mul_rows(const struct run *r, unsigned ith, const struct product *p,
                     const struct input *in, size_t at, size_t n)
{
    struct lr_kern_rows w = *p->w;
    w.p = (const char *)w.p + at * w.stride;
    w.n = n;
    for (uint32_t t = 0; t < r->n_tok; t += MUL_TOKENS)
        mul_tokens(r, ith, &w, in, t, MIN_OF(MUL_TOKENS, r->n_tok - t), p->out + t * p->w->n + at,
                   p->w->n);
    for (uint32_t t = 0; p->bias && t < r->n_tok; t++)
        r->e->k->add(p->out + t * p->w->n + at, p->bias + at, n);
}

static void project(const struct run *r, unsigned ith, const struct product *p, size_t n_products,
                    const struct input *in)
{
    size_t rows = 0, chunks = 0, end[3] = {0};
    for (size_t i = 0; i < n_products; i++)
        rows += p[i].w->n;
    size_t chunk = chunk_rows(r, rows);
    for (size_t i = 0; i < n_products; i++)
        end[i] = chunks += (p[i].w->n + chunk - 1) / chunk;
    TAKE(r->e->team, c, chunks)
    {
        size_t i = 0;
        while (c >= end[i])
            i++;
        size_t at = (c - (i ? end[i - 1] : 0)) * chunk;
        mul_rows(r, ith, &p[i], in, at, MIN_OF(chunk, p[i].w->n - at));
    }
}

/* x += product with the tokens at `from`, which are done with then, and so is `room`. */
static void project_onto(const struct run *r, unsigned ith, const struct product *p,
                         const float *from, size_t k, void *room)
{
    struct input in = input_of(r, ith, from, k, r->n_tok, in_codes(p->w), room);
    size_t chunk = chunk_rows(r, p->w->n), chunks = (p->w->n + chunk - 1) / chunk;
    TAKE(r->e->team, c, chunks)
    {
        size_t at = c * chunk, n = MIN_OF(chunk, p->w->n - at);
        mul_rows(r, ith, p, &in, at, n);
        for (uint32_t t = 0; t < r->n_tok; t++)
            r->e->k->add(r->e->s.x + t * p->w->n + at, p->out + t * p->w->n + at, n);
    }
}

static void norm_tokens(const struct run *r, float *out, const float *weight, size_t from, size_t to)
{
    uint32_t d = r->e->m->shape.n_embd;
    for (size_t t = from; t < to; t++)
        r->e->k->rmsnorm(out + t * d, r->e->s.x + t * d, weight, d, r->e->m->shape.eps);
}

/* x normed, all tokens of it; codes: some product with it takes records. Of few tokens each thread
 * norms all for itself: cheaper than to meet. */
static struct input norm_rows(const struct run *r, unsigned ith, const float *weight, bool codes)
{
    float *own = r->e->s.thread[ith].score;
    size_t d = r->e->m->shape.n_embd, floats = r->n_tok * d;
    if (r->n_tok <= FEW && !r->n_show && floats <= BLOCK_QUERIES * PIECE_ROWS) { /* taps see xn */
        norm_tokens(r, own, weight, 0, r->n_tok);
        return input_of(r, ith, own, d, r->n_tok, codes, NULL);
    }
    TAKE(r->e->team, c, (r->n_tok + 7) / 8)
    norm_tokens(r, r->e->s.xn, weight, 8 * c, MIN_OF(r->n_tok, 8 * c + 8));
    lr_engine_team_sync(r->e->team);
    return input_of(r, ith, r->e->s.xn, d, r->n_tok, codes, r->e->s.tmp);
}

static void embed_rows(const struct run *r, unsigned ith)
{
    const struct lr_kern_rows *w = &r->e->m->embd;
    uint32_t d = r->e->m->shape.n_embd;
    TAKE(r->e->team, i, r->n_part)
    {
        const struct part *p = &r->part[i];
        for (uint32_t t = 0; t < p->w->n; t++)
            r->e->k->decode(w->type, r->e->s.x + (size_t)(p->first + t) * d,
                            (const char *)w->p + p->w->tokens[t] * w->stride, d);
    }
}

/* ---- keys and values ---- */

static const struct part *part_of(const struct run *r, uint32_t token)
{
    size_t lo = 0, hi = r->n_part; /* the last part that begins at token or before */
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        *(r->part[mid].first <= token ? &lo : &hi) = mid;
    }
    return &r->part[lo];
}

/* Norms of a token's key of one KV head, and of the queries of its group. */
static void norm_head(const struct run *r, uint32_t token, uint32_t head)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    const struct layer *l = &r->e->m->layers[r->layer];
    uint32_t d = h->d_head, group = h->n_head / h->n_kv;
    float *q = r->e->s.q + ((size_t)token * h->n_head + (size_t)head * group) * d;
    float *key = r->e->s.k + ((size_t)token * h->n_kv + head) * d;
    for (uint32_t i = 0; l->q_norm && i < group; i++)
        r->e->k->rmsnorm(q + i * d, q + i * d, l->q_norm, d, h->eps);
    if (l->k_norm)
        r->e->k->rmsnorm(key, key, l->k_norm, d, h->eps);
}

/* Rotates them, and stores the key and the value. */
static void store_head(const struct run *r, uint32_t token, uint32_t head)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    const struct part *p = part_of(r, token);
    const float *angles = r->e->s.angles + (size_t)token * h->n_rot;
    uint32_t d = h->d_head, group = h->n_head / h->n_kv;
    float *q = r->e->s.q + ((size_t)token * h->n_head + (size_t)head * group) * d;
    size_t at = ((size_t)token * h->n_kv + head) * d;
    const struct table *t = table_of(p->w->seq, r->layer, head);
    size_t row = t->n - p->w->n + (token - p->first);
    r->e->k->rope(q, group, d, h->n_rot, h->interleaved, angles);
    r->e->k->rope(r->e->s.k + at, 1, d, h->n_rot, h->interleaved, angles);
    lr_engine_rows_put_k(p->w->seq, t, row, r->e->s.k + at);
    lr_engine_rows_put_v(p->w->seq, t, row, r->e->s.v + at);
}

static void store_token(const struct run *r, uint32_t token)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    const struct part *p = part_of(r, token);
    for (uint32_t i = 0; i < h->n_kv; i++)
        norm_head(r, token, i);
    for (size_t i = 0; r->n_show && i < LR_COUNT(p->show); i++)
        lr_engine_tap_pre(&p->show[i], h, token - p->first,
                          r->e->s.q + (size_t)token * h->n_head * h->d_head,
                          r->e->s.k + (size_t)token * h->n_kv * h->d_head);
    for (uint32_t i = 0; i < h->n_kv; i++)
        store_head(r, token, i);
}

static void store_rows(const struct run *r, unsigned ith)
{
    TAKE(r->e->team, c, (r->n_tok + 7) / 8)
    for (size_t t = 8 * c; t < MIN_OF(r->n_tok, 8 * c + 8); t++)
        store_token(r, (uint32_t)t);
    lr_engine_team_sync(r->e->team);
}

/* ---- attention ---- */

/* Tokens of a block: with the heads of a group at most BLOCK_QUERIES. */
static uint32_t block_tokens(const struct lr_engine_shape *h)
{
    uint32_t group = h->n_head / h->n_kv;
    return group < BLOCK_QUERIES ? BLOCK_QUERIES / group : 1;
}

static size_t blocks_of(const struct run *r, const struct part *p)
{
    uint32_t b = block_tokens(&r->e->m->shape);
    return (p->w->n + b - 1) / b;
}

/* Block number i of all (sequence, KV head, block): the last blocks of a sequence first, for they are
 * the longest. Returns the first token. */
static uint32_t find_job(const struct run *r, unsigned ith, size_t i, struct attn_job *j,
                         uint32_t *head)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    const struct part *p = r->part;
    for (; i >= blocks_of(r, p) * h->n_kv; p++)
        i -= blocks_of(r, p) * h->n_kv;
    size_t block = blocks_of(r, p) - 1 - i / h->n_kv;
    uint32_t at = (uint32_t)block * block_tokens(h);
    *head = (uint32_t)(i % h->n_kv);
    *j = (struct attn_job){.lay = &p->w->seq->lay,
                           .table = lr_engine_host_table(p->w->seq, r->layer, *head),
                           .d = h->d_head,
                           .group = h->n_head / h->n_kv,
                           .n_tok = MIN_OF(block_tokens(h), p->w->n - at),
                           .q_stride = (size_t)h->n_head * h->d_head,
                           .pos = p->pos + (int32_t)at,
                           .scratch = &r->e->s.thread[ith]};
    uint32_t token = p->first + at;
    j->q = r->e->s.q + token * j->q_stride + (size_t)*head * j->group * j->d;
    return token;
}

static size_t count_jobs(const struct run *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_part; i++)
        n += blocks_of(r, &r->part[i]) * r->e->m->shape.n_kv;
    return n;
}

static void finish_job(const struct run *r, const struct attn_job *j, uint32_t token, uint32_t head,
                       struct attn_sum s)
{
    uint32_t n_head = r->e->m->shape.n_head;
    size_t at = (size_t)token * n_head + (size_t)head * j->group;
    lr_engine_attn_finish(j, s, r->e->s.att + at * j->d, j->q_stride,
                          r->n_show ? r->e->s.lse + at : NULL, n_head);
}

/* store: the token's row of the head is not in the table yet. */
static void attend_whole(const struct run *r, unsigned ith, size_t i, bool store)
{
    struct attn_job j;
    uint32_t head, token = find_job(r, ith, i, &j, &head), nq = j.n_tok * j.group;
    if (store) {
        norm_head(r, token, head);
        store_head(r, token, head);
    }
    struct attn_scratch *a = j.scratch;
    struct attn_sum all = {a->soft, a->o}, one = {a->soft + nq, a->o + (size_t)nq * j.d};
    lr_engine_attn_queries(&j);
    lr_engine_attn_span(&j, 0, all);
    for (uint32_t span = 1; span < attn_spans(j.table); span++) {
        lr_engine_attn_span(&j, span, one);
        lr_engine_attn_join(all, one, nq, j.d);
    }
    finish_job(r, &j, token, head, all);
}

/* Splitting: job i's spans are numbers first .. of the step's; their sums lie in scratch.part. Returns
 * the number of all spans, 0 when splitting is not worth it or has no room. */
static size_t count_spans(const struct run *r, size_t jobs)
{
    size_t spans = 0;
    uint32_t group = r->e->m->shape.n_head / r->e->m->shape.n_kv;
    if (r->e->threads == 1 || jobs >= 8u * r->e->threads || r->n_tok > r->n_part)
        return 0;
    for (size_t i = 0; i < jobs; i++) {
        struct attn_job j;
        uint32_t head;
        find_job(r, 0, i, &j, &head);
        spans += attn_spans(j.table);
    }
    return spans > jobs && spans * group <= r->e->s.part_max ? spans : 0;
}

static struct attn_sum part_sum(const struct run *r, const struct attn_job *j, size_t number)
{
    const struct scratch *s = &r->e->s;
    return (struct attn_sum){s->part_soft + number * j->group,
                             s->part + number * j->group * j->d};
}

static void attend_split(const struct run *r, unsigned ith, size_t jobs, size_t spans)
{
    struct attn_job j;
    uint32_t head;
    TAKE(r->e->team, number, spans)
    {
        size_t i = 0, left = number;
        for (find_job(r, ith, 0, &j, &head); left >= attn_spans(j.table);) {
            left -= attn_spans(j.table);
            find_job(r, ith, ++i, &j, &head);
        }
        lr_engine_attn_queries(&j);
        lr_engine_attn_span(&j, (uint32_t)left, part_sum(r, &j, number));
    }
    lr_engine_team_sync(r->e->team);
    if (ith)
        return;
    for (size_t i = 0, number = 0; i < jobs; i++) { /* a few heads: not worth sharing */
        uint32_t token = find_job(r, ith, i, &j, &head);
        struct attn_sum all = part_sum(r, &j, number++);
        for (uint32_t span = 1; span < attn_spans(j.table); span++)
            lr_engine_attn_join(all, part_sum(r, &j, number++), j.group, j.d);
        finish_job(r, &j, token, head, all);
    }
}

/* Decoding tokens whose policy chooses what they read: on thread 0, the others wait. */
static void choose_rows(struct run *r, unsigned ith)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    for (size_t i = 0; !ith && i < r->n_part; i++)
        lr_engine_host_choose(r->part[i].w, r->layer, r->part[i].pos,
                              r->e->s.q + (size_t)r->part[i].first * h->n_head * h->d_head);
    lr_engine_team_sync(r->e->team);
}

/* Stores and attends. When every sequence has one token a job needs no row but its own table's: it
 * stores that itself, and nobody waits for the others in between. */
static void attend(struct run *r, unsigned ith)
{
    bool alone = r->n_tok == r->n_part && !r->n_show && !r->choosing;
    size_t jobs = count_jobs(r), spans = alone ? count_spans(r, jobs) : 0;
    if (!alone || spans)
        store_rows(r, ith);
    if (r->choosing)
        choose_rows(r, ith);
    if (!alone)
        spans = count_spans(r, jobs);
    if (spans) {
        attend_split(r, ith, jobs, spans);
        return;
    }
    TAKE(r->e->team, i, jobs)
    attend_whole(r, ith, i, alone);
}

/* ---- the layers ---- */

static void feed_forward(const struct run *r, unsigned ith, const struct layer *l,
                         const struct input *in)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    const struct scratch *s = &r->e->s;
    struct product gate = {&l->gate, NULL, s->gate}, up = {&l->up, NULL, s->up};
    size_t chunk = chunk_rows(r, h->n_ff), chunks = (h->n_ff + chunk - 1) / chunk;
    TAKE(r->e->team, c, chunks)
    {
        size_t at = c * chunk, n = MIN_OF(chunk, h->n_ff - at);
        mul_rows(r, ith, &gate, in, at, n);
        mul_rows(r, ith, &up, in, at, n);
        for (uint32_t t = 0; t < r->n_tok; t++) {
            size_t i = (size_t)t * h->n_ff + at;
            r->e->k->silu_mul(s->gate + i, s->gate + i, s->up + i, n);
        }
    }
}

/* Taps of the layer: products on all threads, the rest on thread 0. */
static void show_layer(struct run *r, unsigned ith)
{
    uint32_t heads = r->e->m->shape.n_kv;
    size_t begun = 0; /* thread 0's */
    for (; !ith && !r->rc && begun < r->n_show; begun++) {
        struct lr_engine_show *x = r->show[begun];
        const struct part *p = &r->part[x->w - r->work];
        lr_engine_host_layer(x, r->layer);
        int rc = lr_engine_tap_begin(x, r->e, r->layer, p->first, p->pos);
        r->rc = rc ? lr_engine_host_failed(x, rc) : 0;
    }
    lr_engine_team_sync(r->e->team);
    TAKE(r->e->team, i, r->rc ? 0 : r->n_show * heads)
    lr_engine_tap_head(r->show[i / heads], r->e, ith, (uint32_t)(i % heads));
    lr_engine_team_sync(r->e->team);
    for (size_t i = 0; !ith && i < begun; i++) {
        int rc = lr_engine_tap_end(r->show[i], !r->rc);
        r->rc = r->rc ? r->rc : rc;
    }
    lr_engine_team_sync(r->e->team);
}

static void walk_layer(struct run *r, unsigned ith, const struct layer *l)
{
    const struct lr_engine_shape *h = &r->e->m->shape;
    const struct scratch *s = &r->e->s;
    struct team *team = r->e->team;
    const struct product qkv[] = {{&l->wq, l->bq, s->q}, {&l->wk, l->bk, s->k}, {&l->wv, l->bv, s->v}};
    const struct product out = {&l->wo, l->bo, s->tmp}, down = {&l->down, NULL, s->tmp};
    struct input in = norm_rows(r, ith, l->attn_norm, false);
    project(r, ith, qkv, LR_COUNT(qkv), &in);
    lr_engine_team_sync(team);
    attend(r, ith);
    lr_engine_team_sync(team);
    if (r->n_show)
        show_layer(r, ith);
    if (r->rc)
        return;
    if (!ith)
        r->layer++; /* read again in the next layer's attend, several meetings from here */
    project_onto(r, ith, &out, s->att, (size_t)h->n_head * h->d_head, s->q);
    lr_engine_team_sync(team);
    in = norm_rows(r, ith, l->ffn_norm, in_codes(&l->gate) || in_codes(&l->up));
    feed_forward(r, ith, l, &in);
    lr_engine_team_sync(team);
    project_onto(r, ith, &down, s->gate, h->n_ff, s->up);
    lr_engine_team_sync(team);
}

/* ---- logits ---- */

/* Final norm of the tokens somebody reads: into hidden where it is wanted, and packed into xn in the
 * order of the outputs. */
static void finish_tokens(const struct run *r)
{
    const struct lr_engine_model *m = r->e->m;
    uint32_t d = m->shape.n_embd;
    float *packed = r->e->s.xn;
    for (size_t i = 0; i < r->n_part; i++) {
        const struct lr_engine_work *w = r->part[i].w;
        const float *x = r->e->s.x + (size_t)r->part[i].first * d;
        for (uint32_t t = 0; w->hidden && t < w->n; t++)
            r->e->k->rmsnorm(w->hidden + (size_t)t * d, x + (size_t)t * d, m->out_norm, d,
                             m->shape.eps);
        for (uint32_t t = w->n - w->n_logits; t < w->n; t++, packed += d)
            r->e->k->rmsnorm(packed, x + (size_t)t * d, m->out_norm, d, m->shape.eps);
    }
}

/* Rows [at, at + n) of the output matrix: into the thread's scratch, and from there to the callers'
 * buffers, which lie anywhere. */
static void logit_rows(const struct run *r, unsigned ith, const struct input *in, size_t at,
                       size_t n)
{
    const struct lr_engine_model *m = r->e->m;
    const struct attn_scratch *a = &r->e->s.thread[ith];
    struct lr_kern_rows w = m->output;
    uint32_t done = 0, vocab = m->shape.n_vocab;
    w.p = (const char *)w.p + at * w.stride;
    w.n = n;
    for (size_t i = 0; i < r->n_part; i++)
        for (uint32_t t = 0; t < r->part[i].w->n_logits; t++, done++) {
            if (done % BLOCK_QUERIES == 0)
                mul_tokens(r, ith, &w, in, done, MIN_OF(BLOCK_QUERIES, r->n_out - done), a->score,
                           PIECE_ROWS);
            memcpy(r->part[i].w->logits + (size_t)t * vocab + at,
                   a->score + (size_t)(done % BLOCK_QUERIES) * PIECE_ROWS, n * sizeof(float));
        }
}

static void walk(void *arg, unsigned ith)
{
    struct run *r = arg;
    const struct lr_engine_model *m = r->e->m;
    struct team *team = r->e->team;
    embed_rows(r, ith);
    lr_engine_team_sync(team);
    for (uint32_t i = 0; i < m->shape.n_layer; i++) {
        walk_layer(r, ith, &m->layers[i]);
        if (r->rc)
            return;
    }
    if (!ith)
        finish_tokens(r);
    lr_engine_team_sync(team);
    size_t vocab = m->shape.n_vocab;
    struct input in =
        input_of(r, ith, r->e->s.xn, m->shape.n_embd, r->n_out, in_codes(&m->output), r->e->s.tmp);
    TAKE(team, c, r->n_out ? (vocab + PIECE_ROWS - 1) / PIECE_ROWS : 0)
    logit_rows(r, ith, &in, c * PIECE_ROWS, MIN_OF(PIECE_ROWS, vocab - c * PIECE_ROWS));
}

/* ---- before and after ---- */

static int check_work(struct lr_engine *e, const struct lr_engine_work *w, struct lr_err *err)
{
    uint32_t vocab = e->m->shape.n_vocab;
    if (lr_engine_seq_status(w->seq, err))
        return LR_EINVAL;
    if (w->seq->e != e || !w->n || w->n > LR_ENGINE_TILE || w->n_logits > w->n ||
        (w->n_logits && !w->logits))
        return lr_err_set(err, LR_EINVAL, "step", "%u tokens with %u logits are no step", w->n,
                          w->n_logits);
    if (w->seq->stepping)
        return lr_err_set(err, LR_EINVAL, "step", "a sequence occurs twice in a step");
    for (uint32_t i = 0; i < w->n; i++)
        if (w->tokens[i] >= vocab)
            return lr_err_set(err, LR_EINVAL, "tokens", "token %u is outside a vocabulary of %u",
                              w->tokens[i], vocab);
    return 0;
}

static int check(struct run *r, struct lr_err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < r->n_part; i++) {
        const struct lr_engine_work *w = &r->work[i];
        rc = check_work(r->e, w, err);
        if (rc)
            break;
        w->seq->stepping = true;
        r->part[i] = (struct part){.w = w, .first = r->n_tok, .pos = (int32_t)w->seq->len};
        r->n_tok += w->n;
        r->n_out += w->n_logits;
    }
    if (!rc && r->n_tok > LR_ENGINE_BATCH)
        rc = lr_err_set(err, LR_EINVAL, "step", "%u tokens in a step, at most %u", r->n_tok,
                        LR_ENGINE_BATCH);
    for (size_t i = 0; i < r->n_part; i++)
        r->work[i].seq->stepping = false;
    return rc;
}

/* Takes the new rows of the first n sequences back. */
static void drop_rows(const struct run *r, size_t n)
{
    while (n-- > 0) /* fails only where a tap's callback made positions descend: rows stay then */
        (void)lr_engine_seq_truncate(r->part[n].w->seq, (uint32_t)r->part[n].pos);
}

static void find_angles(const struct run *r)
{
    const struct lr_kern_rope *rope = &r->e->m->rope;
    for (size_t i = 0; i < r->n_part; i++) {
        const struct part *p = &r->part[i];
        int32_t pos[LR_ENGINE_TILE];
        for (uint32_t t = 0; t < p->w->n; t++)
            pos[t] = p->pos + (int32_t)t;
        int rc = lr_kern_rope_angles(rope, pos, p->w->n,
                                     r->e->s.angles + (size_t)p->first * rope->n_rot);
        assert(!rc); /* n_rot was checked when the model was opened */
        (void)rc;    /* for builds without assert */
    }
}

/* The caller's tap and the policies'. */
static int open_taps(struct run *r, struct part *p)
{
    struct lr_engine_tap *watch;
    unsigned kinds;
    LR_TRY(lr_engine_host_begin(p->w, &watch, &kinds));
    r->choosing |= lr_engine_host_chooses(p->w);
    if (p->w->tap) {
        LR_TRY(lr_engine_tap_open(&p->show[0], p->w, p->w->tap, p->w->tap->kinds));
        r->show[r->n_show++] = &p->show[0];
    }
    if (watch) {
        LR_TRY(lr_engine_tap_open(&p->show[1], p->w, watch, kinds));
        r->show[r->n_show++] = &p->show[1];
    }
    return 0;
}

static int find_room(struct run *r, struct lr_err *err)
{
    for (size_t i = 0; i < r->n_part; i++) {
        struct part *p = &r->part[i];
        int rc = open_taps(r, p);
        rc = rc ? rc : lr_engine_rows_append(p->w->seq, p->w->n);
        if (rc) {
            drop_rows(r, i);
            return lr_err_set(err, rc, "kv", "no room for %u more rows in every head: %s", p->w->n,
                              lr_strerror(rc));
        }
    }
    return 0;
}

static int run_all(struct run *r, struct lr_err *err)
{
    LR_TRY(find_room(r, err));
    find_angles(r);
    lr_engine_team_run(r->e->team, walk, r);
    if (r->rc)
        lr_err_set(err, r->rc, "tap", "a tap's callback failed: %s", lr_strerror(r->rc));
    else
        r->rc = lr_nn_gguf_check(r->e->m->file, err);
    if (r->rc) {
        drop_rows(r, r->n_part);
        for (size_t i = 0; i < r->n_part; i++)
            lr_engine_host_undone(r->part[i].w->seq);
    }
    return r->rc;
}

int lr_engine_step(struct lr_engine *e, const struct lr_engine_work *work, size_t n_work,
                   struct lr_err *err)
{
    struct run r = {.e = e, .work = work, .n_part = n_work};
    LR_FAIL_IF(!n_work, 0);
    if (n_work > LR_ENGINE_SEQS)
        return lr_err_set(err, LR_EINVAL, "step", "%zu sequences in a step, at most %u", n_work,
                          LR_ENGINE_SEQS);
    LR_TRY(check(&r, err));
    int rc = run_all(&r, err);
    for (size_t i = 0; i < r.n_show; i++)
        lr_engine_tap_close(r.show[i]);
    for (size_t i = 0; !rc && i < n_work; i++)
        lr_engine_host_end(work[i].seq);
    return rc;
}
