/* SPDX-License-Identifier: Apache-2.0
 * reuse/load.c - chunks from the store into the rows of a conversation.
 *
 *   piece   QUEUED -> ASKING -> ASKED -> COPYING -> ENDED        one a chunk
 *            pool     fetch     disk     put x layers ^
 *                                \-> TAKEN back ------/
 *
 * Every chunk is a piece of its own. A thread of the pool asks the store for it without waiting. What
 * is in memory comes at once, and each layer is summed and copied while the cache holds it; what the
 * disk has comes later, on a thread of the store, which hands it back to the pool. Pieces that the disk
 * has are asked for first: their reading overlaps the copies of the others, and the disk reads several
 * side by side.
 *
 * A layer whose sum is wrong ends the chunk, and with it the prefix; layers before it lie in pages that
 * the owner then gives back. Besides, a view must be what was asked for in every member of identity,
 * raw, and tiled as this reader tiles it. Anything else is a chunk that is not there. Pieces that came
 * in behind a missing one are no use and are not counted: rows depend on all before them.
 *
 * Cancelling. Asked pieces are taken back from the store; one that cannot be taken back any more is
 * about to come, and finds that nobody may enter. ASKING is the moment in which neither holds: who
 * asked looks again afterwards.
 *
 * Tried and dropped: asking the store for ranges (lr_store_read) layer by layer, which copies each
 * layer twice, since rows of a head are not one piece of memory here.
 */
#include "reuse/reuse_int.h"

enum piece_state { QUEUED, ASKING, ASKED, TAKEN, COPYING, ENDED };

struct piece {
    struct lr_reuse_load *load;
    struct lr_job job;
    struct lr_fetch fetch;
    struct lr_object want;
    struct lr_digest prev;
    struct lr_reuse_link link;
    enum lr_reuse_tier tier;
    uint32_t i;
    pthread_t asker;
    struct lr_view *view; /* handed to the pool */
    /* under the work's mu */
    enum piece_state state;
    bool good;
    float cost;
};

struct lr_reuse_load {
    struct lr_reuse_work w;
    void (*put)(void *ctx, uint32_t i, uint32_t layer, const uint8_t *bytes);
    void *ctx;
    uint32_t n;
    struct piece piece[];
};

static void drop(struct lr_reuse_load *l, bool last)
{
    if (!last)
        return;
    lr_reuse_work_free(&l->w);
    lr_free(l);
}

static void end_piece(struct piece *p, bool good, float cost)
{
    struct lr_reuse_load *l = p->load;
    pthread_mutex_lock(&l->w.mu);
    p->state = ENDED;
    p->good = good;
    p->cost = cost;
    pthread_mutex_unlock(&l->w.mu);
    drop(l, lr_reuse_work_end(&l->w));
}

static void set_state(struct piece *p, enum piece_state state)
{
    pthread_mutex_lock(&p->load->w.mu);
    p->state = state;
    pthread_mutex_unlock(&p->load->w.mu);
}

/* Is it tiled by layers as ours are? */
static bool fits(const struct lr_reuse_load *l, const struct lr_view *v)
{
    const struct lr_object *o = lr_view_object(v);
    size_t layer = lr_reuse_layer_bytes(&l->w.rows);
    bool fits = o->codec == LR_CODEC_RAW && o->n_parts == l->w.rows.n_layer &&
                o->payload == layer * o->n_parts;
    for (uint32_t i = 0; fits && i < o->n_parts; i++)
        fits = lr_view_part(v, i).bytes == layer;
    return fits;
}

/* Takes the view. */
static void copy(struct piece *p, struct lr_view *v)
{
    struct lr_reuse_load *l = p->load;
    const struct lr_reuse_rows *r = &l->w.rows;
    size_t layer = lr_reuse_layer_bytes(r);
    bool whole = false;
    float cost = lr_view_object(v)->cost;
    if (fits(l, v) && lr_reuse_work_enter(&l->w)) {
        const uint8_t *bytes = (const uint8_t *)lr_view_bytes(v).p;
        uint32_t i = 0;
        for (; i < r->n_layer && !atomic_load(&l->w.stopping); i++) {
            if (lr_view_good(v, (i + 1) * layer) < (i + 1) * layer)
                break; /* damaged: the store has counted it and forgets it */
            l->put(l->ctx, p->i, i, bytes + i * layer);
        }
        whole = i == r->n_layer;
        lr_reuse_work_leave(&l->w);
    }
    lr_view_put(v);
    end_piece(p, whole, cost);
}

static void copy_job(struct lr_job *j)
{
    struct piece *p = LR_CONTAINER(j, struct piece, job);
    copy(p, p->view);
}

/* From the store: on the thread that asks, or later on one of the store's. */
static void came(struct lr_fetch *f, int rc, struct lr_view *v)
{
    struct piece *p = LR_CONTAINER(f, struct piece, fetch);
    if (rc) {
        end_piece(p, false, 0);
        return;
    }
    set_state(p, COPYING);
    p->view = v;
    p->job.run = copy_job;
    if (pthread_equal(p->asker, pthread_self()) ||
        lr_pool_submit(p->load->w.reuse->loads, &p->job))
        copy(p, v);
}

/* Takes an asked piece back, where the store still has it. Once: what was cancelled must not be named
 * to the store again. */
static void take_back(struct piece *p)
{
    struct lr_reuse_load *l = p->load;
    pthread_mutex_lock(&l->w.mu);
    bool mine = p->state == ASKED;
    p->state = mine ? TAKEN : p->state;
    pthread_mutex_unlock(&l->w.mu);
    if (mine && lr_store_fetch_cancel(l->w.reuse->o.store, &p->fetch))
        end_piece(p, false, 0);
}

static void ask_job(struct lr_job *j)
{
    struct piece *p = LR_CONTAINER(j, struct piece, job);
    struct lr_reuse_load *l = p->load;
    pthread_mutex_lock(&l->w.mu);
    bool stopped = atomic_load(&l->w.stopping);
    p->state = ASKING;
    l->w.refs++; /* for the look below: the piece may be over by then */
    pthread_mutex_unlock(&l->w.mu);
    p->asker = pthread_self();
    if (stopped)
        end_piece(p, false, 0);
    else
        lr_store_fetch(l->w.reuse->o.store, &p->fetch);
    pthread_mutex_lock(&l->w.mu);
    bool asked = p->state == ASKING, back = asked && atomic_load(&l->w.stopping);
    p->state = asked ? ASKED : p->state;
    pthread_mutex_unlock(&l->w.mu);
    if (back)
        take_back(p);
    drop(l, lr_reuse_work_drop(&l->w));
}

/* ---- the owner's side ---- */

static enum lr_reuse_tier tier_of(struct lr_store *s, const struct lr_digest *id)
{
    struct lr_store_entry e;
    if (lr_store_entry(s, id, &e))
        return LR_REUSE_REMOTE;
    return e.in_memory ? LR_REUSE_MEMORY : e.on_disk ? LR_REUSE_DISK : LR_REUSE_REMOTE;
}

static void fill(struct lr_reuse_load *l, const struct lr_reuse_move *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        struct piece *p = &l->piece[i];
        uint32_t at = m->first + i;
        p->load = l;
        p->i = i;
        p->link = m->chain->link[at];
        p->prev = *lr_reuse_prev(m->chain, at);
        p->want = lr_reuse_object(&l->w.rows, m->chain->tenant, &p->prev, &p->link, at);
        p->fetch = (struct lr_fetch){.id = p->link.id, .want = &p->want, .done = came, .lazy = 1};
        p->tier = tier_of(l->w.reuse->o.store, &p->link.id);
        p->job.run = ask_job;
    }
}

static void submit(struct lr_reuse_load *l, bool memory)
{
    for (uint32_t i = 0; i < l->n; i++)
        if ((l->piece[i].tier == LR_REUSE_MEMORY) == memory &&
            lr_pool_submit(l->w.reuse->loads, &l->piece[i].job))
            end_piece(&l->piece[i], false, 0);
}

int lr_reuse_load(struct lr_reuse *r, const struct lr_reuse_move *m, struct lr_reuse_load **out)
{
    struct lr_reuse_load *l = lr_calloc(1, sizeof *l + m->n * sizeof l->piece[0]);
    LR_FAIL_IF(!l, LR_ENOMEM);
    lr_reuse_work_init(&l->w, r, m, m->n);
    l->put = m->put;
    l->ctx = m->ctx;
    l->n = m->n;
    fill(l, m);
    submit(l, false);
    submit(l, true);
    *out = l;
    return 0;
}

void lr_reuse_load_stop(struct lr_reuse_load *l)
{
    lr_reuse_work_stop(&l->w);
    for (uint32_t i = 0; i < l->n; i++)
        take_back(&l->piece[i]);
}

bool lr_reuse_load_over(struct lr_reuse_load *l)
{
    return lr_reuse_work_over(&l->w);
}

void lr_reuse_load_result(struct lr_reuse_load *l, struct lr_reuse_result *out)
{
    *out = (struct lr_reuse_result){.ns = 0};
    pthread_mutex_lock(&l->w.mu);
    for (uint32_t i = 0; i < l->n; i++) {
        const struct piece *p = &l->piece[i];
        out->failed += p->state == ENDED && !p->good;
        if (!p->good || out->good < i)
            continue;
        out->good++;
        out->tier[p->tier]++;
        out->cost_s += (double)p->cost;
    }
    out->ns = l->w.end_ns - l->w.start_ns;
    pthread_mutex_unlock(&l->w.mu);
}

void lr_reuse_load_free(struct lr_reuse_load *l)
{
    if (!l)
        return;
    lr_reuse_load_stop(l);
    drop(l, lr_reuse_work_drop(&l->w));
}
