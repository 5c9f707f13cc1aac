/* SPDX-License-Identifier: Apache-2.0
 * engine/sched_keep.c - finished conversations are kept, and who begins like one of them does not compute
 * the beginning again.
 *
 *   kept      s s s u u u a a a a
 *   new       s s s u u u a a a a u u u      fork of the kept one: nine tokens need not be fed
 *   running   s s s u u                      fork of what runs: likewise, cut back to s s s u
 *
 * A fork shares pages (rows.c), and rows are the same bits whoever computed them, so a reply does not
 * show where its beginning came from. At least one token is always fed, for its logits. Only within a
 * tenant: how long a prompt takes must not tell one what another has asked. And only where every row is
 * kept: what a policy leaves of one conversation is not what it would have left of another.
 *
 * The kept ones are given up, least recently used first, whenever somebody needs the room, and after a
 * while without use where the KV store has them (sched_warm.c); besides there are at most KEPT_MAX. One
 * that is the beginning of another is not kept beside it. The search compares token ids with every
 * sequence there is: a few hundred comparisons of a few thousand integers at worst, some microseconds
 * beside a prompt's milliseconds. A tree over ids (as SGLang's) would be worth its trouble at thousands
 * of kept ones.
 */
#include "engine/sched_int.h"

/* Tokens of c that a and then b begin with. */
static uint32_t alike(const uint32_t *a, uint32_t n_a, const uint32_t *b, uint32_t n_b,
                      const struct choice *c)
{
    uint32_t n = choice_tokens(c), i = 0;
    for (; i < n && i < n_a + n_b; i++) {
        uint32_t mine = i < c->n_prompt ? c->prompt[i] : c->reply[i - c->n_prompt];
        if (mine != (i < n_a ? a[i] : b[i - n_a]))
            break;
    }
    return i;
}

struct beginning {
    struct lr_engine_seq *seq; /* NULL: none */
    struct kept *kept;         /* whose it is; NULL: of something that runs */
    uint32_t n;
};

static void offer(struct beginning *best, struct lr_engine_seq *seq, struct kept *kept, uint32_t n)
{
    uint32_t len = lr_engine_seq_len(seq);
    n = MIN_OF(n, len);
    if (n >= REUSE_MIN && n > best->n)
        *best = (struct beginning){seq, kept, n};
}

static struct beginning find(struct lr_engine_sched *s, const struct choice *c)
{
    struct beginning best = {0};
    uint32_t most = choice_tokens(c) - 1; /* one is fed */
    if (c->job->ask.kind == LR_KIND_EMBEDDING || !most || s->evicts)
        return best; /* vectors need the hidden state of every token */
    for (uint32_t i = 0; i < s->n_kept; i++)
        if (s->kept[i].tenant == c->job->ask.tenant)
            offer(&best, s->kept[i].seq, &s->kept[i],
                  alike(s->kept[i].ids, s->kept[i].n, s->kept[i].ids, 0, c));
    for (struct choice *o = s->oldest; o; o = o->younger)
        if (o->job->ask.tenant == c->job->ask.tenant && o->job->ask.kind != LR_KIND_EMBEDDING &&
            !o->load)
            offer(&best, o->seq, NULL, alike(o->prompt, o->n_prompt, o->reply, o->n_reply, c));
    best.n = MIN_OF(best.n, most);
    return best;
}

void lr_engine_keep_drop_at(struct lr_engine_sched *s, uint32_t i)
{
    lr_engine_seq_close(s->kept[i].seq);
    lr_free(s->kept[i].ids);
    s->kept[i] = s->kept[--s->n_kept];
}

bool lr_engine_keep_drop(struct lr_engine_sched *s)
{
    uint32_t oldest = 0;
    if (!s->n_kept)
        return lr_engine_warm_reclaim(s);
    for (uint32_t i = 1; i < s->n_kept; i++)
        if (s->kept[i].used < s->kept[oldest].used)
            oldest = i;
    lr_engine_keep_drop_at(s, oldest);
    return true;
}

static int fork_from(struct lr_engine_sched *s, struct choice *c, const struct beginning *b,
                     uint32_t tokens)
{
    struct lr_engine_seq *seq;
    LR_TRY(lr_engine_seq_fork(&seq, b->seq, tokens, NULL));
    if (b->kept) { /* it is never written: what its fork needs to copy is reserved by the fork */
        b->kept->used = ++s->clock;
        b->kept->since_ns = lr_clock_mono_ns();
        (void)lr_engine_rows_promise(b->seq, 0, 0); /* gives back: there is room */
    }
    int rc = lr_engine_seq_truncate(seq, b->n);
    if (rc) {
        lr_engine_seq_close(seq);
        return rc;
    }
    c->seq = seq;
    return 0;
}

/* A sequence for c: forked from b, if there is one and room for the copies, else empty. */
static int open_seq(struct lr_engine_sched *s, struct choice *c, const struct beginning *b,
                    uint32_t tokens)
{
    struct lr_engine_seq_opts o = {
        .tokens_max = tokens, .tokens_prompt = c->n_prompt, .policy = s->o.policy};
    int rc = b->seq ? fork_from(s, c, b, tokens) : LR_EOVER;
    o.policy.seed = c->job->ask.sampling.seed;
    if (c->job->ask.kind == LR_KIND_EMBEDDING)
        o.policy = (struct lr_engine_policy){0}; /* every row counts */
    return rc == LR_EOVER ? lr_engine_seq_open(&c->seq, s->e, &o, NULL) : rc;
}

int lr_engine_keep_admit(struct lr_engine_sched *s, struct choice *c, uint32_t tokens)
{
    const struct lr_engine_warm_found found = lr_engine_warm_find(s, c);
    for (;;) {
        struct beginning b = find(s, c);
        struct lr_reuse_plan plan;
        lr_engine_warm_plan(s, c, &found, b.n, &plan);
        if (plan.n) /* whole blocks of the fork, then those of the store */
            b.n = plan.first * LR_REUSE_BLOCK;
        if (!b.n)
            b.seq = NULL;
        int rc = open_seq(s, c, &b, tokens);
        if (!rc) {
            uint32_t have = lr_engine_seq_len(c->seq);
            c->cached = c->begun ? c->cached : MIN_OF(have, c->n_prompt);
            if (have != b.n) /* no room for the fork */
                lr_engine_warm_plan(s, c, &found, have, &plan);
            lr_engine_warm_load(s, c, &plan);
            return 0;
        }
        if (rc != LR_EOVER)
            return rc;
        if (!lr_engine_keep_drop(s))
            return LR_EOVER;
    }
}

/* The ids of c's rows, contiguous. NULL: no memory. */
static uint32_t *ids_of(const struct choice *c, uint32_t n)
{
    uint32_t *ids = lr_alloc(n * sizeof *ids), head = MIN_OF(n, c->n_prompt);
    if (!ids)
        return NULL;
    memcpy(ids, c->prompt, head * sizeof *ids);
    if (n > head)
        memcpy(ids + head, c->reply, (n - head) * sizeof *ids);
    return ids;
}

/* Is it the beginning of one that is kept? And those that are beginnings of it go. */
static bool known(struct lr_engine_sched *s, const struct choice *c, uint32_t n)
{
    for (uint32_t i = 0; i < s->n_kept; i++) {
        struct kept *k = &s->kept[i];
        if (k->tenant != c->job->ask.tenant)
            continue;
        uint32_t same = alike(k->ids, k->n, k->ids, 0, c);
        if (same >= n) {
            k->used = ++s->clock;
            k->since_ns = lr_clock_mono_ns();
            return true;
        }
        if (same == k->n)
            lr_engine_keep_drop_at(s, i--);
    }
    return false;
}

void lr_engine_keep_add(struct lr_engine_sched *s, struct choice *c)
{
    struct lr_engine_seq *seq = c->seq;
    uint32_t n = seq ? lr_engine_seq_len(seq) : 0;
    uint32_t *ids = NULL;
    c->seq = NULL;
    if (n >= REUSE_MIN && !s->o.forget && !s->evicts &&
        c->job->ask.kind != LR_KIND_EMBEDDING && !known(s, c, n))
        ids = ids_of(c, n);
    if (!ids) {
        lr_engine_seq_close(seq);
        return;
    }
    if (s->n_kept == KEPT_MAX)
        (void)lr_engine_keep_drop(s); /* there are some */
    (void)lr_engine_rows_promise(seq, 0, 0); /* gives back: there is room */
    struct kept *k = &s->kept[s->n_kept++];
    *k = (struct kept){.seq = seq, .tenant = c->job->ask.tenant, .used = ++s->clock, .ids = ids, .n = n};
    lr_engine_warm_name(s, c, k);
}
