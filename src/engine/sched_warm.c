/* SPDX-License-Identifier: Apache-2.0
 * engine/sched_warm.c - the warm start: rows that were computed before come from the KV store, and
 * those that are computed now go there.
 *
 *   admit   names of the prompt's blocks > what the store has > plan > raw pages, a load begins
 *   ......  threads of reuse/ fill the pages; the choice rests, others are stepped
 *   land    all there, or late: cut to what came, the rest is fed as if it had never been looked for
 *   save    blocks that are complete are lent to a thread that copies them out
 *
 * The scheduler's thread never copies a row here and never waits for a disk. Loading: it takes pages
 * for all rows at once, untouched, and hands them over; until it has cut the sequence to what came, no
 * other hand has it. Saving: a twin shares the blocks' pages, whole ones, which nobody writes any
 * more; the copying thread reads them while the conversation goes on, ends, or is dropped.
 *
 * A conversation is found in three places: forks of what is in the engine's pages (sched_keep.c) are
 * free and win where they are as long; beyond them the store is asked, from the last whole block of the
 * fork on. Both ways the rows are the bits that computing would make, so no reply shows it.
 *
 * Whose rows. Without a policy only: what a policy leaves of a conversation is not what it would have
 * left of another, also where it did not know the question (lr_engine_seq_spent says no more than
 * that: the cuts between prompts, budgets as shares of a prompt and the policy's own state differ
 * still). A codec that rounds is no policy in this sense: its rows are named after it. Texts to be
 * vectors need the hidden state of every token.
 *
 * Idle conversations. What sched_keep.c keeps is saved when its reply ends; when nobody continued it for
 * `idle_ns` and the store has its last block, its pages are given back. It comes back by the same way
 * as after a restart, but for its last tokens, less than a block, which are computed again.
 *
 * Memory. Of 96 MB that are loaded, copying takes a core 6 ms, the store's sums another 6, and 36 go
 * into pages that the system must find and clear. So pages that were freed stay with the process, up to
 * an eighth of the arena and SPARE_MAX, until the last conversation has left.
 *
 * Lent pages are the first to go when room is short: a save that has not been done is only a later
 * chance missed. Everything is bounded: LENT_MAX saves, and those that find no place are tried again
 * with the next block, or never.
 */
#include "engine/sched_int.h"

#define SAVE_EVERY 16u          /* complete blocks that are worth a save before the end */
#define MEASURED   64u          /* tokens of a step that tells how long a token takes */
#define FADE       0.25         /* of a new measurement */
#define SPARE_MAX  LR_MIB(128)  /* of freed pages that stay resident, for the next load */
#define DRAIN      (3 * LR_SEC) /* for saves, when the scheduler ends */
#define NAP        LR_MS

struct warm_load {
    struct lr_engine_sched *s;
    struct lr_engine_seq *seq;
    struct lr_reuse_load *load;
    uint32_t first, n;    /* blocks */
    uint64_t deadline_ns;
    bool counts;          /* of a prompt that had not begun */
};

struct lent {
    struct lr_engine_sched *s;
    struct lr_engine_seq *seq;
    struct lr_reuse_save *save;
};

static void poke(struct lr_engine_sched *s)
{
    pthread_mutex_lock(&s->mu);
    s->poked = true;
    pthread_cond_signal(&s->cv);
    pthread_mutex_unlock(&s->mu);
}

static void wake_at(struct lr_engine_sched *s, uint64_t ns)
{
    s->wake_ns = !s->wake_ns || ns < s->wake_ns ? ns : s->wake_ns;
}

static void blend(double *speed, double now)
{
    *speed = *speed > 0 ? *speed + FADE * (now - *speed) : now;
}

/* ---- what rows are here ---- */

static uint32_t dtype_of(const struct lr_engine_codec *c)
{
    bool plain = !c->enc_k && !c->enc_v && !c->qx && !c->ox && c->k == c->v;
    if (plain && c->k == LR_KERN_F16)
        return LR_DTYPE_F16;
    return plain && c->k == LR_KERN_F32 ? LR_DTYPE_F32 : LR_DTYPE_U8;
}

void lr_engine_warm_open(struct lr_engine_sched *s)
{
    const struct lr_engine_shape *h = &s->e->m->shape;
    const struct lr_engine_codec *c = s->e->codec;
    struct lr_reuse_rows *r = &s->rows;
    s->warm = s->o.reuse && !s->o.forget && !s->o.policy.stack && strlen(c->name) < sizeof r->codec;
    if (!s->warm)
        return;
    *r = (struct lr_reuse_rows){.dtype = dtype_of(c),
                                .n_layer = h->n_layer,
                                .n_kv = h->n_kv,
                                .d_head = h->d_head,
                                .k_bytes = (uint32_t)lr_kern_row_bytes(c->k, h->d_head),
                                .v_bytes = (uint32_t)lr_kern_row_bytes(c->v, h->d_head)};
    if (r->dtype == LR_DTYPE_U8)
        memcpy(r->codec, c->name, strlen(c->name));
    uint64_t spare = s->e->arena.granules * GRANULE / 8;
    spare = MIN_OF(spare, SPARE_MAX);
    s->e->arena.warm_max = spare > s->e->arena.warm_max ? spare : s->e->arena.warm_max;
    lr_reuse_print(s->e->m->file, r->model);
}

static bool is_warm(const struct lr_engine_sched *s, const struct choice *c)
{
    return s->warm && c->job->ask.kind != LR_KIND_EMBEDDING;
}

/* Names the first n blocks of c's tokens. Fewer are named when memory is short. */
static void name_blocks(struct lr_engine_sched *s, struct choice *c, uint32_t n)
{
    if (!c->named)
        lr_reuse_chain_init(&c->chain, c->job->ask.tenant, !lr_reuse_opts(s->o.reuse)->shared);
    c->named = true;
    while (c->chain.n < n) {
        uint32_t block[LR_REUSE_BLOCK], at = c->chain.n * LR_REUSE_BLOCK;
        for (uint32_t i = 0; i < LR_REUSE_BLOCK; i++, at++)
            block[i] = at < c->n_prompt ? c->prompt[at] : c->reply[at - c->n_prompt];
        if (lr_reuse_chain_add(&c->chain, &s->rows, block))
            return;
    }
}

/* ---- loading ---- */

struct lr_engine_warm_found lr_engine_warm_find(struct lr_engine_sched *s, struct choice *c)
{
    struct lr_engine_warm_found f = {0, 0};
    uint32_t blocks = choice_tokens(c) / LR_REUSE_BLOCK;
    if (!is_warm(s, c) || !blocks)
        return f;
    name_blocks(s, c, blocks);
    f.blocks = lr_reuse_find(s->o.reuse, &c->chain, &f.in_memory);
    c->stored = f.blocks > c->stored ? f.blocks : c->stored;
    return f;
}

void lr_engine_warm_plan(const struct lr_engine_sched *s, const struct choice *c,
                         const struct lr_engine_warm_found *found, uint32_t have,
                         struct lr_reuse_plan *out)
{
    const struct lr_reuse_facts f = {
        .tokens = choice_tokens(c),
        .have = have,
        .found = found->blocks,
        .in_memory = found->in_memory,
        .chunk_bytes = lr_reuse_layer_bytes(&s->rows) * s->rows.n_layer,
        .speed = s->speed,
        .now_ns = lr_clock_mono_ns(),
        .patience_ns = found->blocks ? lr_reuse_opts(s->o.reuse)->patience_ns : 0,
    };
    lr_reuse_plan(&f, out);
}

static void put(void *ctx, uint32_t i, uint32_t layer, const uint8_t *bytes)
{
    const struct warm_load *w = ctx;
    lr_engine_chunk_put(w->seq, w->first + i, layer, bytes);
}

static void loaded(void *ctx)
{
    poke(((struct warm_load *)ctx)->s);
}

void lr_engine_warm_load(struct lr_engine_sched *s, struct choice *c, const struct lr_reuse_plan *p)
{
    uint32_t base = p->first * LR_REUSE_BLOCK;
    if (!p->n || lr_engine_seq_len(c->seq) != base)
        return;
    struct warm_load *w = lr_new(struct warm_load);
    if (!w)
        return;
    *w = (struct warm_load){.s = s, .seq = c->seq, .first = p->first, .n = p->n,
                            .deadline_ns = p->deadline_ns, .counts = !c->begun};
    const struct lr_reuse_move m = {.rows = &s->rows, .chain = &c->chain, .first = p->first,
                                    .n = p->n, .put = put, .done = loaded, .ctx = w};
    int rc = lr_engine_rows_raw(c->seq, p->n * LR_REUSE_BLOCK);
    if (!rc && (rc = lr_reuse_load(s->o.reuse, &m, &w->load)))
        lr_engine_rows_unraw(c->seq, base);
    if (rc) {
        lr_free(w); /* as if nothing had been found */
        return;
    }
    c->load = w;
    wake_at(s, w->deadline_ns);
}

/* What came, in the bill and in the measurements. */
static void account(struct lr_engine_sched *s, struct choice *c, const struct warm_load *w,
                    const struct lr_reuse_result *r, uint32_t len)
{
    uint32_t base = w->first * LR_REUSE_BLOCK, tokens = len > base ? len - base : 0;
    double chunk = (double)lr_reuse_layer_bytes(&s->rows) * s->rows.n_layer;
    double cost = s->speed.token_ns > 0 ? s->speed.token_ns * tokens : r->cost_s * 1e9;
    s->done.warm_failed += r->failed;
    s->done.warm_late += w->n - r->good - r->failed;
    for (uint32_t t = 0; t < LR_REUSE_TIERS; t++) {
        uint32_t part = r->tier[t] * LR_REUSE_BLOCK;
        part = MIN_OF(part, tokens); /* the last token of a prompt is computed again */
        tokens -= part;
        s->done.warm[t] += part;
        if (w->counts)
            c->warm[t] += part;
    }
    if (r->good == w->n && r->tier[LR_REUSE_MEMORY] == w->n)
        blend(&s->speed.memory_ns, (double)r->ns / (chunk * r->good));
    else if (r->good == w->n && r->tier[LR_REUSE_MEMORY] == 0)
        blend(&s->speed.disk_ns, (double)r->ns / (chunk * r->good));
    uint64_t saved = r->good && cost > (double)r->ns ? (uint64_t)(cost - (double)r->ns) : 0;
    s->done.saved_ns += saved;
    if (w->counts) {
        c->saved_ns += saved;
        c->load_ns += r->ns;
    }
}

void lr_engine_warm_land(struct lr_engine_sched *s, struct choice *c)
{
    struct warm_load *w = c->load;
    struct lr_reuse_result r;
    if (!w)
        return;
    lr_reuse_load_stop(w->load);
    lr_reuse_load_result(w->load, &r);
    lr_reuse_load_free(w->load);
    uint32_t len = (w->first + r.good) * LR_REUSE_BLOCK, most = choice_tokens(c) - 1;
    lr_engine_rows_unraw(c->seq, len);
    if (len > most)
        lr_engine_chunk_cut(c->seq, most); /* one is fed */
    len = MIN_OF(len, most);
    account(s, c, w, &r, len);
    if (w->counts)
        c->cached = MIN_OF(len, c->n_prompt);
    if (r.good < w->n) /* what did not come is given once more */
        c->stored = w->first + r.good;
    lr_free(w);
    c->load = NULL;
}

/* ---- saving ---- */

static void get(void *ctx, uint32_t i, uint32_t layer, uint8_t *out)
{
    lr_engine_chunk_get(((struct lent *)ctx)->seq, i, layer, out);
}

static void saved(void *ctx)
{
    poke(((struct lent *)ctx)->s);
}

static int lend(struct lr_engine_sched *s, struct choice *c, uint32_t n)
{
    LR_FAIL_IF(s->n_lent == LENT_MAX, LR_EBUSY);
    struct lent *x = lr_new(struct lent);
    LR_FAIL_IF(!x, LR_ENOMEM);
    x->s = s;
    const struct lr_reuse_move m = {.rows = &s->rows, .chain = &c->chain, .first = c->stored, .n = n,
                                    .cost_s = s->speed.token_ns * LR_REUSE_BLOCK / 1e9,
                                    .get = get, .done = saved, .ctx = x};
    int rc = lr_engine_seq_lend(&x->seq, c->seq, c->stored, n);
    rc = rc ? rc : lr_reuse_save(s->o.reuse, &m, &x->save);
    if (rc) {
        lr_engine_seq_close(x->seq);
        lr_free(x);
        return rc;
    }
    s->lent[s->n_lent++] = x;
    return 0;
}

void lr_engine_warm_save(struct lr_engine_sched *s, struct choice *c, bool all)
{
    if (!is_warm(s, c) || !c->seq || c->load || s->failed)
        return;
    uint32_t len = lr_engine_seq_len(c->seq), n = len / LR_REUSE_BLOCK;
    if (n < c->stored + (all ? 1 : SAVE_EVERY))
        return;
    name_blocks(s, c, n);
    n = MIN_OF(n, c->chain.n);
    if (n <= c->stored)
        return;
    if (lend(s, c, n - c->stored))
        s->done.saves_dropped += n - c->stored;
    else
        c->stored = n;
}

/* Saves end out of order only when they are stopped. */
static void give_back(struct lr_engine_sched *s, uint32_t i)
{
    struct lent *x = s->lent[i];
    struct lr_reuse_result r;
    uint32_t n = lr_engine_seq_len(x->seq) / LR_REUSE_BLOCK;
    lr_reuse_save_stop(x->save);
    lr_reuse_save_result(x->save, &r);
    lr_reuse_save_free(x->save);
    lr_engine_seq_close(x->seq);
    s->done.saved += r.good;
    s->done.saves_dropped += n - r.good - r.known;
    lr_free(x);
    s->n_lent--;
    memmove(&s->lent[i], &s->lent[i + 1], (s->n_lent - i) * sizeof *s->lent);
}

bool lr_engine_warm_reclaim(struct lr_engine_sched *s)
{
    if (!s->n_lent)
        return false;
    give_back(s, s->n_lent - 1);
    return true;
}

void lr_engine_warm_close(struct lr_engine_sched *s)
{
    uint64_t until = lr_clock_mono_ns() + DRAIN;
    while (s->n_lent) {
        if (!lr_reuse_save_over(s->lent[0]->save) && lr_clock_mono_ns() < until)
            lr_clock_sleep_ns(NAP);
        else
            give_back(s, 0);
    }
}

/* ---- the round of the loop ---- */

static void look_at_loads(struct lr_engine_sched *s, uint64_t now)
{
    for (struct choice *c = s->oldest; c; c = c->younger) {
        if (!c->load)
            continue;
        if (lr_reuse_load_over(c->load->load) || now >= c->load->deadline_ns)
            lr_engine_warm_land(s, c);
        else
            wake_at(s, c->load->deadline_ns);
    }
}

static void look_at_kept(struct lr_engine_sched *s, uint64_t now)
{
    for (uint32_t i = 0; i < s->n_kept && s->o.idle_ns;) {
        struct kept *k = &s->kept[i];
        bool idle = k->named && now >= k->since_ns + s->o.idle_ns;
        if (idle && lr_reuse_has(s->o.reuse, &k->last)) {
            lr_engine_keep_drop_at(s, i);
            s->done.idled++;
            if (!s->n_kept && !s->oldest && !s->n_lent)
                lr_engine_arena_trim(&s->e->arena); /* nobody is here */
            continue;
        }
        if (idle)
            k->since_ns = now; /* perhaps later */
        if (k->named)
            wake_at(s, k->since_ns + s->o.idle_ns);
        i++;
    }
}

void lr_engine_warm_round(struct lr_engine_sched *s)
{
    s->wake_ns = 0;
    if (!s->warm)
        return;
    uint64_t now = lr_clock_mono_ns();
    for (uint32_t i = s->n_lent; i-- > 0;)
        if (lr_reuse_save_over(s->lent[i]->save))
            give_back(s, i);
    look_at_loads(s, now);
    look_at_kept(s, now);
}

void lr_engine_warm_name(struct lr_engine_sched *s, struct choice *c, struct kept *k)
{
    uint32_t n = k->n / LR_REUSE_BLOCK;
    k->since_ns = lr_clock_mono_ns();
    k->named = is_warm(s, c) && n && c->stored >= n;
    if (!k->named)
        return;
    k->last = c->chain.link[n - 1].id;
    if (s->o.idle_ns)
        wake_at(s, k->since_ns + s->o.idle_ns);
}

void lr_engine_warm_measure(struct lr_engine_sched *s, uint64_t ns)
{
    uint32_t tokens = 0;
    for (size_t i = 0; i < s->n_work; i++) {
        if (s->work[i].phase == LR_POLICY_TOKEN)
            return;
        tokens += s->work[i].n;
    }
    if (tokens >= MEASURED)
        blend(&s->speed.token_ns, (double)ns / tokens);
}
