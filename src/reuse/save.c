/* SPDX-License-Identifier: Apache-2.0
 * reuse/save.c - chunks of computed rows into the store, behind everybody's back.
 *
 *   for each chunk   here already? next
 *                    room in the store (a draft) | get x layers | sums, published
 *
 * One thread, one save at a time: rows are copied straight into the memory that the store will keep,
 * once. The owner lends the rows until it is told, or takes them back at any time.
 *
 * The store drops writes to disk that wait too long (200 ms), as it must under clients who never
 * pause; a prompt's chunks come all at once and would be among them. So before each chunk the thread
 * waits while more than PACE bytes are queued for the disk, and no longer than PACE_WAIT.
 */
#include "reuse/reuse_int.h"

#define PACE      LR_MIB(16)
#define PACE_WAIT (2 * LR_SEC)
#define NAP       (2 * LR_MS)

struct wanted {
    struct lr_digest prev;
    struct lr_reuse_link link;
};

struct lr_reuse_save {
    struct lr_reuse_work w;
    struct lr_job job;
    void (*get)(void *ctx, uint32_t i, uint32_t layer, uint8_t *out);
    void *ctx;
    uint64_t tenant;
    double cost_s;
    struct lr_reuse_result result; /* under mu */
    uint32_t first, n;
    struct wanted wanted[];
};

static void drop(struct lr_reuse_save *v, bool last)
{
    if (!last)
        return;
    lr_reuse_work_free(&v->w);
    lr_free(v);
}

static void pace(const struct lr_reuse_save *v)
{
    struct lr_store_stats st;
    uint64_t until = lr_clock_mono_ns() + PACE_WAIT;
    for (;;) {
        lr_store_stats(v->w.reuse->o.store, &st);
        if (st.queue_bytes <= PACE || atomic_load(&v->w.stopping) || lr_clock_mono_ns() >= until)
            return;
        lr_clock_sleep_ns(NAP);
    }
}

/* False: the rows were taken back. */
static bool fill(struct lr_reuse_save *v, uint32_t i, struct lr_draft *d)
{
    uint8_t *out = lr_draft_bytes(d);
    const struct lr_reuse_rows *r = &v->w.rows;
    size_t layer = lr_reuse_layer_bytes(r);
    uint32_t k = 0;
    if (!lr_reuse_work_enter(&v->w))
        return false;
    for (; k < r->n_layer && !atomic_load(&v->w.stopping); k++) {
        v->get(v->ctx, i, k, out + k * layer);
        lr_draft_filled(d, (k + 1) * layer); /* summed while in cache */
    }
    lr_reuse_work_leave(&v->w);
    return k == r->n_layer;
}

static struct lr_object_part *parts_of(const struct lr_reuse_rows *r)
{
    struct lr_object_part *p = lr_calloc(r->n_layer, sizeof *p);
    for (uint32_t i = 0; p && i < r->n_layer; i++)
        p[i] = (struct lr_object_part){i * lr_reuse_layer_bytes(r), lr_reuse_layer_bytes(r), 0};
    return p;
}

static int save_one(struct lr_reuse_save *v, uint32_t i)
{
    struct lr_store *s = v->w.reuse->o.store;
    const struct wanted *x = &v->wanted[i];
    struct lr_object o = lr_reuse_object(&v->w.rows, v->tenant, &x->prev, &x->link, v->first + i);
    struct lr_draft *d;
    if (lr_store_has(s, &x->link.id))
        return LR_EEXIST;
    pace(v);
    o.cost = (float)v->cost_s;
    struct lr_object_part *parts = parts_of(&v->w.rows);
    LR_FAIL_IF(!parts, LR_ENOMEM);
    int rc = lr_draft_open(s, &o, parts, &d);
    lr_free(parts);
    LR_TRY(rc);
    if (!fill(v, i, d)) {
        lr_draft_abort(d);
        return LR_ECANCEL;
    }
    return lr_draft_commit(d, 0, 0);
}

static void run(struct lr_job *j)
{
    struct lr_reuse_save *v = LR_CONTAINER(j, struct lr_reuse_save, job);
    for (uint32_t i = 0; i < v->n && !atomic_load(&v->w.stopping); i++) {
        int rc = save_one(v, i);
        pthread_mutex_lock(&v->w.mu);
        v->result.good += rc == 0;
        v->result.known += rc == LR_EEXIST;
        v->result.failed += rc && rc != LR_EEXIST && rc != LR_ECANCEL;
        pthread_mutex_unlock(&v->w.mu);
    }
    drop(v, lr_reuse_work_end(&v->w));
}

int lr_reuse_save(struct lr_reuse *r, const struct lr_reuse_move *m, struct lr_reuse_save **out)
{
    struct lr_reuse_save *v = lr_calloc(1, sizeof *v + m->n * sizeof v->wanted[0]);
    LR_FAIL_IF(!v, LR_ENOMEM);
    lr_reuse_work_init(&v->w, r, m, 1);
    v->job.run = run;
    v->get = m->get;
    v->ctx = m->ctx;
    v->tenant = m->chain->tenant;
    v->cost_s = m->cost_s;
    v->first = m->first;
    v->n = m->n;
    for (uint32_t i = 0; i < m->n; i++)
        v->wanted[i] = (struct wanted){*lr_reuse_prev(m->chain, m->first + i),
                                       m->chain->link[m->first + i]};
    int rc = lr_pool_submit(r->saves, &v->job);
    if (rc) {
        lr_reuse_work_free(&v->w);
        lr_free(v);
        return rc;
    }
    *out = v;
    return 0;
}

void lr_reuse_save_stop(struct lr_reuse_save *v)
{
    lr_reuse_work_stop(&v->w);
}

bool lr_reuse_save_over(struct lr_reuse_save *v)
{
    return lr_reuse_work_over(&v->w);
}

void lr_reuse_save_result(struct lr_reuse_save *v, struct lr_reuse_result *out)
{
    pthread_mutex_lock(&v->w.mu);
    *out = v->result;
    out->ns = v->w.end_ns - v->w.start_ns;
    pthread_mutex_unlock(&v->w.mu);
}

void lr_reuse_save_free(struct lr_reuse_save *v)
{
    if (!v)
        return;
    lr_reuse_save_stop(v);
    drop(v, lr_reuse_work_drop(&v->w));
}
