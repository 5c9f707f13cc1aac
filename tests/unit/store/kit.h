/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/kit.h - a file system in memory that remembers every write and sync, so that a
 * test can cut the power anywhere; and values that say what they are.
 *
 * A cut after the k-th call keeps what was synced. Of what was written and not synced each write is
 * kept, dropped, or torn to some of its 512-byte sectors, each on its own: later ones may survive
 * where earlier ones do not. A name made or removed without a sync of the directory since is there
 * or not.
 */
#ifndef LR_TEST_STORE_KIT_H
#define LR_TEST_STORE_KIT_H

#include "store/store_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define FS_FILES 4096
#define SECTOR   512

enum fs_call { FS_CREATE, FS_WRITE, FS_SYNC, FS_UNLINK, FS_SYNC_DIR };

struct fs_file {
    char path[64];
    uint8_t *p;
    uint64_t size, cap;
    bool there;
};

struct fs_op {
    enum fs_call call;
    size_t file;
    uint64_t off;
    size_t n;
    uint8_t *p; /* FS_WRITE: a copy */
};

struct fs {
    struct lr_vfs vfs;
    pthread_mutex_t mu;
    struct fs_file file[FS_FILES];
    size_t n_files;
    struct fs_op *op;
    size_t n_ops, cap_ops;
    bool log; /* keep operations */
    atomic_bool fail_write, fail_sync, fail_read, full, stuck;
    atomic_bool dead; /* the process was killed: all seems well to it, nothing reaches a file */
};

struct lr_vfile {
    struct fs *fs;
    size_t i;
};

static inline void fs_log(struct fs *f, struct fs_op op)
{
    if (!f->log)
        return;
    if (f->n_ops == f->cap_ops) {
        f->cap_ops = f->cap_ops ? 2 * f->cap_ops : 1024;
        f->op = realloc(f->op, f->cap_ops * sizeof f->op[0]);
    }
    if (op.call == FS_WRITE) {
        uint8_t *copy = malloc(op.n);
        memcpy(copy, op.p, op.n);
        op.p = copy;
    }
    f->op[f->n_ops++] = op;
}

static inline void fs_put(struct fs_file *x, const uint8_t *p, size_t n, uint64_t off)
{
    if (off + n > x->cap) {
        x->cap = 2 * (off + n);
        x->p = realloc(x->p, x->cap);
    }
    if (off > x->size)
        memset(x->p + x->size, 0, off - x->size);
    memcpy(x->p + off, p, n);
    if (off + n > x->size)
        x->size = off + n;
}

static inline int fs_find(struct fs *f, const char *path, size_t *out)
{
    for (size_t i = 0; i < f->n_files; i++)
        if (f->file[i].there && !strcmp(f->file[i].path, path)) {
            *out = i;
            return 0;
        }
    return LR_ENOENT;
}

static int fs_list(const struct lr_vfs *v, const char *dir, void (*fn)(void *, const char *),
                   void *arg)
{
    struct fs *f = v->ctx;
    size_t n = strlen(dir);
    LR_FAIL_IF(lr_fault_here(), LR_EIO);
    for (size_t i = 0; i < f->n_files; i++)
        if (f->file[i].there && !strncmp(f->file[i].path, dir, n))
            fn(arg, f->file[i].path + n + 1);
    return 0;
}

static int fs_open(const struct lr_vfs *v, const char *path, bool create, struct lr_vfile **out)
{
    struct fs *f = v->ctx;
    size_t i;
    LR_FAIL_IF(lr_fault_here() || f->fail_write, LR_EIO);
    pthread_mutex_lock(&f->mu);
    int rc = fs_find(f, path, &i);
    if (create && !rc) {
        rc = LR_EEXIST;
    } else if (create) {
        rc = f->n_files == FS_FILES ? LR_ENOSPC : 0;
        i = f->n_files;
        if (!rc) {
            f->n_files++;
            snprintf(f->file[i].path, sizeof f->file[i].path, "%s", path);
            f->file[i].there = true;
            fs_log(f, (struct fs_op){.call = FS_CREATE, .file = i});
        }
    }
    pthread_mutex_unlock(&f->mu);
    LR_TRY(rc);
    struct lr_vfile *h = malloc(sizeof *h);
    *h = (struct lr_vfile){f, i};
    *out = h;
    return 0;
}

static void fs_close(struct lr_vfile *h)
{
    free(h);
}

static int fs_pread(struct lr_vfile *h, void *p, size_t n, uint64_t off)
{
    assert_int_equal((uintptr_t)p % LR_VFS_ALIGN | n % LR_VFS_ALIGN | off % LR_VFS_ALIGN, 0);
    while (h->fs->stuck)
        lr_clock_sleep_ns(LR_MS);
    LR_FAIL_IF(lr_fault_here() || h->fs->fail_read, LR_EIO);
    pthread_mutex_lock(&h->fs->mu);
    const struct fs_file *x = &h->fs->file[h->i];
    size_t k = off < x->size ? (x->size - off < n ? x->size - off : n) : 0;
    if (k)
        memcpy(p, x->p + off, k);
    memset((uint8_t *)p + k, 0, n - k);
    pthread_mutex_unlock(&h->fs->mu);
    return 0;
}

static int fs_pwrite(struct lr_vfile *h, const void *p, size_t n, uint64_t off)
{
    assert_int_equal((uintptr_t)p % LR_VFS_ALIGN | n % LR_VFS_ALIGN | off % LR_VFS_ALIGN, 0);
    while (h->fs->stuck)
        lr_clock_sleep_ns(LR_MS);
    LR_FAIL_IF(lr_fault_here() || h->fs->fail_write, LR_EIO);
    LR_FAIL_IF(h->fs->full, LR_ENOSPC);
    if (h->fs->dead)
        return 0;
    pthread_mutex_lock(&h->fs->mu);
    fs_log(h->fs, (struct fs_op){FS_WRITE, h->i, off, n, (uint8_t *)(uintptr_t)p});
    fs_put(&h->fs->file[h->i], p, n, off);
    pthread_mutex_unlock(&h->fs->mu);
    return 0;
}

static int fs_sync(struct lr_vfile *h)
{
    while (h->fs->stuck)
        lr_clock_sleep_ns(LR_MS);
    LR_FAIL_IF(lr_fault_here() || h->fs->fail_sync, LR_EIO);
    pthread_mutex_lock(&h->fs->mu);
    fs_log(h->fs, (struct fs_op){.call = FS_SYNC, .file = h->i});
    pthread_mutex_unlock(&h->fs->mu);
    return 0;
}

static int fs_size(struct lr_vfile *h, uint64_t *out)
{
    LR_FAIL_IF(lr_fault_here(), LR_EIO);
    *out = h->fs->file[h->i].size;
    return 0;
}

static int fs_unlink(const struct lr_vfs *v, const char *path)
{
    struct fs *f = v->ctx;
    size_t i;
    LR_FAIL_IF(lr_fault_here(), LR_EIO);
    if (f->dead)
        return 0;
    pthread_mutex_lock(&f->mu);
    int rc = fs_find(f, path, &i);
    if (!rc) {
        f->file[i].there = false;
        fs_log(f, (struct fs_op){.call = FS_UNLINK, .file = i});
    }
    pthread_mutex_unlock(&f->mu);
    return rc;
}

static int fs_sync_dir(const struct lr_vfs *v, const char *dir)
{
    struct fs *f = v->ctx;
    (void)dir;
    LR_FAIL_IF(lr_fault_here() || f->fail_sync, LR_EIO);
    pthread_mutex_lock(&f->mu);
    fs_log(f, (struct fs_op){.call = FS_SYNC_DIR});
    pthread_mutex_unlock(&f->mu);
    return 0;
}

static int fs_space(const struct lr_vfs *v, const char *dir, uint64_t *total, uint64_t *left)
{
    (void)v, (void)dir;
    *total = *left = LR_GIB(1);
    return 0;
}

static inline struct fs *fs_new(bool log)
{
    struct fs *f = calloc(1, sizeof *f);
    f->log = log;
    f->vfs = (struct lr_vfs){f,       fs_list, fs_open,   fs_close,    fs_pread, fs_pwrite,
                             fs_sync, fs_size, fs_unlink, fs_sync_dir, fs_space};
    pthread_mutex_init(&f->mu, NULL);
    return f;
}

static inline void fs_free(struct fs *f)
{
    for (size_t i = 0; i < f->n_files; i++)
        free(f->file[i].p);
    for (size_t i = 0; i < f->n_ops; i++)
        free(f->op[i].p);
    free(f->op);
    pthread_mutex_destroy(&f->mu);
    free(f);
}

static inline size_t fs_ops(struct fs *f)
{
    pthread_mutex_lock(&f->mu);
    size_t n = f->n_ops;
    pthread_mutex_unlock(&f->mu);
    return n;
}

/* Is the i-th call, before k, followed by a sync that covers it? */
static inline bool fs_safe(const struct fs *f, size_t i, size_t k)
{
    bool name = f->op[i].call == FS_CREATE || f->op[i].call == FS_UNLINK;
    for (size_t j = i + 1; j < k; j++)
        if (name ? f->op[j].call == FS_SYNC_DIR
                 : f->op[j].call == FS_SYNC && f->op[j].file == f->op[i].file)
            return true;
    return false;
}

/* What a machine finds that lost its power after k calls. */
static inline struct fs *fs_cut(const struct fs *f, size_t k, struct lr_rng *r)
{
    struct fs *g = fs_new(false);
    memcpy(g->file, f->file, sizeof g->file);
    g->n_files = f->n_files;
    for (size_t i = 0; i < g->n_files; i++) {
        g->file[i].p = NULL;
        g->file[i].size = g->file[i].cap = 0;
        g->file[i].there = false;
    }
    for (size_t i = 0; i < k; i++) {
        const struct fs_op *op = &f->op[i];
        struct fs_file *x = &g->file[op->file];
        bool safe = fs_safe(f, i, k);
        uint64_t luck = lr_rng_below(r, 3);
        if (op->call == FS_CREATE && (safe || luck))
            x->there = true;
        if (op->call == FS_UNLINK && (safe || luck == 1))
            x->there = false;
        if (op->call != FS_WRITE || (!safe && luck == 0))
            continue;
        if (safe || luck == 1) {
            fs_put(x, op->p, op->n, op->off);
            continue;
        }
        for (size_t at = 0; at < op->n; at += SECTOR)
            if (lr_rng_below(r, 2))
                fs_put(x, op->p + at, SECTOR, op->off + at);
    }
    return g;
}

/* ---- values ---- */

/* n bytes that only (id, version) has. */
static inline void value_of(uint32_t id, uint32_t version, uint8_t *p, size_t n)
{
    struct lr_rng r;
    lr_rng_seed(&r, (uint64_t)id << 32 | version);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = lr_rng_u64(&r);
        memcpy(p + i, &v, n - i < 8 ? n - i : 8);
    }
    if (n >= 8) {
        lr_put_le32(p, id);
        lr_put_le32(p + 4, version);
    }
}

static inline uint64_t key_hash(uint32_t id, uint32_t version)
{
    uint32_t k[2] = {id, version};
    return lr_hash64(lr_str(k, sizeof k), 1);
}

/* At least 8 bytes, sometimes large. */
static inline size_t size_of_value(uint32_t id, uint32_t version)
{
    uint64_t h = key_hash(id, version);
    return h % 7 == 0 ? LR_LARGE + h % 20000 : 8 + h % 3000;
}

/* Opaque object number id; its texts live in static memory. */
static inline struct lr_object opaque(uint32_t id, size_t n)
{
    static _Thread_local char names[1024][20];
    assert_true(id < 1024);
    char *name = names[id];
    int k = snprintf(name, sizeof names[0], "name-%u", id);
    struct lr_object o = {.kind = LR_OBJECT_OPAQUE,
                          .tenant = 1 + id % 3,
                          .space = LR_STR("db0"),
                          .name = lr_str(name, (size_t)k),
                          .payload = n};
    lr_store_id_opaque(o.tenant, o.space, o.name, &o.id);
    return o;
}

static inline struct lr_object content(uint32_t id, size_t n)
{
    struct lr_object o = {.tenant = 9,
                          .model = LR_STR("m"),
                          .tokens = 256,
                          .layout = {.engine = LR_STR("e"), .dtype = LR_DTYPE_F16},
                          .payload = n};
    lr_put_le32(o.key.b, id + 1);
    lr_store_id_content(&o, &o.id);
    return o;
}

/* The version that v holds; fails the test unless every byte is that of (id, version). */
static inline uint32_t version_in(uint32_t id, struct lr_str v)
{
    static _Thread_local uint8_t want[LR_LARGE + 20000];
    assert_true(v.n >= 8);
    assert_int_equal(lr_le32(v.p), id);
    uint32_t version = lr_le32(v.p + 4);
    assert_int_equal(v.n, size_of_value(id, version));
    value_of(id, version, want, v.n);
    assert_memory_equal(v.p, want, v.n);
    return version;
}

static inline int put_version(struct lr_store *s, const struct lr_object *what, uint32_t id,
                              uint32_t version, unsigned flags)
{
    static _Thread_local uint8_t buf[LR_LARGE + 20000];
    struct lr_object o = *what;
    o.payload = size_of_value(id, version);
    value_of(id, version, buf, o.payload);
    return lr_store_put(s, &o, &(struct lr_piece){0, buf, o.payload}, 1, false, flags, LR_FOREVER);
}

/* The version found, -1: a miss. */
static inline int64_t get_version(struct lr_store *s, const struct lr_object *o, uint32_t id)
{
    struct lr_view *v;
    if (lr_store_get(s, &o->id, o, LR_FOREVER, &v))
        return -1;
    uint32_t version = version_in(id, lr_view_bytes(v));
    lr_view_put(v);
    return version;
}

static inline uint64_t counted(struct lr_store *s, enum lr_store_count c)
{
    return atomic_load(&s->count[c]);
}

#endif
