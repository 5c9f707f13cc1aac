/* SPDX-License-Identifier: Apache-2.0
 * store/disk.c - the disk tier: its directory, its segments, its threads.
 *
 *   DIR/lock          flock'ed while open: one process a directory
 *   DIR/0000002a.seg  segments (segment.c), numbered upwards, never written again once sealed
 *
 *   put --> queue --> writer: one thread, appends, syncs --> segments --> readers: a pool (load.c)
 *                        ^                                      |
 *                        +------- keeper: one thread, empties --+  (compact.c)
 *
 * Idea. The index is in memory and can always be rebuilt from the segments, so there is no manifest
 * to keep in step: a file in the directory is part of the store, and removing one removes what it
 * held. Nothing is overwritten in place: a power cut can only spoil what was not yet synced.
 *
 * A segment stays listed while an entry points into it (live > 0); loads and walks hold references,
 * so the file is closed by the last of them even when it was unlinked meanwhile.
 *
 * Threads and their owners: the writer alone appends and alone touches an unsealed segment; the
 * keeper alone retires; the pool's threads only read. disk.mu guards the queue and the list and is
 * never held during I/O.
 */
#include "store/store_int.h"

#include <fcntl.h>
#include <stdio.h>

#define DISK_MAX    (64ull << 30)
#define SEGMENT     LR_MIB(256)
#define SEGMENT_MIN LR_KIB(64)
#define LOADS_MAX   4096u /* queued */
#define NOTES_MAX   (256u << 10) /* that wait for the disk: some 40 MB */
#define TICK        (50 * LR_MS)
#define NAME_BYTES  16 /* "/0000002a.seg" */

/* ---- segments ---- */

int lr_segment_open(struct lr_disk *d, uint32_t number, bool create, struct lr_segment **out)
{
    struct lr_segment *g = lr_new(struct lr_segment);
    LR_FAIL_IF(!g, LR_ENOMEM);
    size_t n = strlen(d->dir) + NAME_BYTES;
    g->path = lr_alloc(n);
    int rc = g->path ? 0 : LR_ENOMEM;
    if (!rc && snprintf(g->path, n, "%s/%08x.seg", d->dir, number) < 0)
        rc = LR_EINVAL;
    if (!rc)
        rc = d->vfs->open(d->vfs, g->path, create, &g->file);
    if (rc) {
        lr_free(g->path);
        lr_free(g);
        return rc;
    }
    g->info.number = number;
    g->min_seq = UINT64_MAX;
    atomic_store(&g->refs, 1);
    *out = g;
    return 0;
}

void lr_segment_unref(struct lr_disk *d, struct lr_segment *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    d->vfs->close(g->file);
    lr_free(g->path);
    lr_free(g);
}

void lr_segment_list(struct lr_disk *d, struct lr_segment *g)
{
    pthread_mutex_lock(&d->mu);
    g->next = d->segments;
    d->segments = g;
    pthread_mutex_unlock(&d->mu);
}

struct lr_segment *lr_segment_emptiest(struct lr_disk *d, double below)
{
    struct lr_segment *best = NULL;
    pthread_mutex_lock(&d->mu);
    for (struct lr_segment *g = d->segments; g; g = g->next) {
        if (!g->sealed)
            continue;
        if (g->rest) {
            g->rest--;
            continue;
        }
        double part = (double)atomic_load(&g->live) / (double)(g->size + 1);
        if (part < below) {
            below = part;
            best = g;
        }
    }
    if (best)
        atomic_fetch_add(&best->refs, 1);
    pthread_mutex_unlock(&d->mu);
    return best;
}

uint64_t lr_segment_min_seq(struct lr_disk *d, const struct lr_segment *but)
{
    pthread_mutex_lock(&d->mu);
    uint64_t least = d->ghost_seq;
    for (struct lr_segment *g = d->segments; g; g = g->next)
        if (g != but && g->min_seq < least)
            least = g->min_seq;
    pthread_mutex_unlock(&d->mu);
    return least;
}

int lr_segment_retire(struct lr_disk *d, struct lr_segment *g)
{
    int rc = d->vfs->unlink(d->vfs, g->path);
    if (rc) {
        lr_count(d->store, LR_STORE_DISK_ERRORS);
        return rc;
    }
    /* A name that comes back after a power cut brings records back that later notes deleted: those
     * notes must then stay. */
    bool sure = d->vfs->sync_dir(d->vfs, d->dir) == 0;
    pthread_mutex_lock(&d->mu);
    struct lr_segment **at = &d->segments;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    if (!sure && g->min_seq < d->ghost_seq)
        d->ghost_seq = g->min_seq;
    pthread_mutex_unlock(&d->mu);
    lr_count(d->store, LR_STORE_SEGMENTS_FREED);
    atomic_fetch_sub(&d->bytes, g->size);
    lr_segment_unref(d, g);
    return 0;
}

/* ---- opening ---- */

static int take_lock(struct lr_disk *d)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/lock", d->dir);
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof path, LR_EOVER);
    return lr_io_lock(path, &d->lock_fd);
}

static int open_system(struct lr_disk *d)
{
    const struct lr_store_opts *o = &d->store->opts;
    LR_TRY(lr_io_mkdir(d->dir, 0700));
    LR_TRY(take_lock(d));
    LR_TRY(lr_vfs_open_system(&d->system, d->dir, o->no_direct, o->no_uring, &d->probe));
    d->vfs = d->system;
    return 0;
}

static int set_budget(struct lr_disk *d)
{
    struct lr_store_opts *o = &d->store->opts;
    uint64_t total, left;
    if (!o->disk_max) {
        LR_TRY(d->vfs->space(d->vfs, d->dir, &total, &left));
        o->disk_max = total / 4 < DISK_MAX ? total / 4 : DISK_MAX;
    }
    uint64_t segment = o->disk_max / 8 < SEGMENT ? o->disk_max / 8 : SEGMENT;
    if (!o->segment_bytes)
        o->segment_bytes = segment;
    if (o->segment_bytes < SEGMENT_MIN)
        o->segment_bytes = SEGMENT_MIN;
    return 0;
}

static void init_sync(struct lr_disk *d)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&d->mu, NULL);
    pthread_cond_init(&d->work, &monotonic);
    pthread_cond_init(&d->tick, &monotonic);
    pthread_cond_init(&d->done, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int lr_tier_open(struct lr_store *s, struct lr_err *err)
{
    struct lr_disk *d = lr_new(struct lr_disk);
    LR_FAIL_IF(!d, LR_ENOMEM);
    d->store = s;
    d->dir = s->opts.dir;
    d->vfs = s->opts.vfs;
    d->lock_fd = -1;
    d->tail = &d->head;
    d->notes_max = NOTES_MAX;
    d->ghost_seq = UINT64_MAX;
    init_sync(d);
    s->disk = d;
    int rc = d->vfs ? 0 : open_system(d);
    if (!rc)
        rc = set_budget(d);
    if (rc)
        return lr_err_set(err, rc, d->dir, rc == LR_EBUSY ? "another process has this directory"
                                                          : "cannot be used: %s", lr_strerror(rc));
    return 0;
}

static void *keeper(void *arg)
{
    struct lr_disk *d = arg;
    pthread_mutex_lock(&d->mu);
    while (!d->rest) {
        uint64_t at = lr_clock_mono_ns() + TICK;
        struct timespec t = {(time_t)(at / LR_SEC), (long)(at % LR_SEC)};
        if (!d->kicked)
            (void)pthread_cond_timedwait(&d->tick, &d->mu, &t); /* either way there is a round */
        d->kicked = false;
        pthread_mutex_unlock(&d->mu);
        lr_tier_keep(d);
        pthread_mutex_lock(&d->mu);
    }
    pthread_mutex_unlock(&d->mu);
    return NULL;
}

int lr_tier_start(struct lr_store *s, struct lr_err *err)
{
    struct lr_disk *d = s->disk;
    uint64_t t0 = lr_clock_mono_ns();
    int rc = lr_recover(d);
    d->recover_ns = lr_clock_mono_ns() - t0;
    if (!rc)
        rc = lr_pool_open(&d->pool, "load", s->opts.readers, LOADS_MAX);
    if (!rc)
        rc = lr_writer_start(d);
    if (!rc)
        rc = lr_thread_start(&d->keeper, "keep", keeper, d);
    if (rc)
        return lr_err_set(err, rc, d->dir, "cannot start: %s", lr_strerror(rc));
    d->keeping = true;
    lr_log(LR_LOG_INFO, "store", "event=open tier=disk direct=%d uring=%d entries=%llu ms=%llu",
           d->probe.direct, d->probe.uring, (unsigned long long)s->entries,
           (unsigned long long)(d->recover_ns / LR_MS));
    return 0;
}

void lr_tier_close(struct lr_store *s)
{
    struct lr_disk *d = s->disk;
    if (!d)
        return;
    pthread_mutex_lock(&d->mu);
    d->rest = true; /* the writer goes on: the keeper may be waiting for it */
    pthread_cond_broadcast(&d->tick);
    pthread_mutex_unlock(&d->mu);
    if (d->keeping)
        pthread_join(d->keeper, NULL);
    lr_pool_close(d->pool);
    if (d->keeping && s->opts.write_back)
        lr_index_save(s);
    lr_writer_stop(d);
    for (struct lr_segment *g = d->segments, *next; g; g = next) {
        next = g->next;
        lr_segment_unref(d, g);
    }
    lr_vfs_close_system(d->system);
    lr_io_close(d->lock_fd);
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->tick);
    pthread_cond_destroy(&d->done);
    pthread_mutex_destroy(&d->mu);
    lr_free(d);
    s->disk = NULL;
}

void lr_tier_kick(struct lr_store *s)
{
    struct lr_disk *d = s->disk;
    pthread_mutex_lock(&d->mu);
    d->kicked = true;
    pthread_cond_signal(&d->tick);
    pthread_mutex_unlock(&d->mu);
}

void lr_tier_stats(struct lr_store *s, struct lr_store_stats *out)
{
    struct lr_disk *d = s->disk;
    pthread_mutex_lock(&d->mu);
    for (struct lr_segment *g = d->segments; g; g = g->next) {
        out->segments++;
        out->disk_live += atomic_load(&g->live);
    }
    out->queue_bytes = d->queue_bytes;
    pthread_mutex_unlock(&d->mu);
    out->disk_max = s->opts.disk_max;
    out->disk_bytes = atomic_load(&d->bytes);
    out->direct = d->probe.direct;
    out->uring = d->probe.uring;
    out->disk_ok = !atomic_load(&d->sick);
    out->recover_ns = d->recover_ns;
    out->recover_bytes = d->recover_bytes;
}
