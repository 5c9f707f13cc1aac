/* SPDX-License-Identifier: Apache-2.0
 * store/vfs.h - files as the disk tier sees them: the one door to the system, and the shim through
 * which tests lose power, flip bits and fill disks.
 *
 * A file is written at ever higher offsets, in whole multiples of LR_VFS_ALIGN, from memory aligned
 * the same; it is read in such multiples anywhere, at most to its end rounded up (what lies beyond
 * the end reads as zeros). What was written may be lost or torn until sync; a created or removed
 * name may come and go until sync_dir. All errors are LR_E*, ENOSPC among them.
 */
#ifndef LR_STORE_VFS_H
#define LR_STORE_VFS_H

#include "base/base.h"

#define LR_VFS_ALIGN 4096u

struct lr_vfile; /* the vfs's own */

struct lr_vfs {
    void *ctx;
    /* Calls fn for each name in dir. */
    int (*list)(const struct lr_vfs *, const char *dir, void (*fn)(void *arg, const char *name),
                void *arg);
    /* To read and write. create: a new, empty file (LR_EEXIST else). */
    int (*open)(const struct lr_vfs *, const char *path, bool create, struct lr_vfile **out);
    void (*close)(struct lr_vfile *);
    int (*pread)(struct lr_vfile *, void *p, size_t n, uint64_t off);
    int (*pwrite)(struct lr_vfile *, const void *p, size_t n, uint64_t off);
    int (*sync)(struct lr_vfile *);
    int (*size)(struct lr_vfile *, uint64_t *out);
    int (*unlink)(const struct lr_vfs *, const char *path);
    int (*sync_dir)(const struct lr_vfs *, const char *dir);
    /* Bytes of the file system, and of them free. */
    int (*space)(const struct lr_vfs *, const char *dir, uint64_t *total, uint64_t *left);
};

/* The system's files: direct I/O where the file system takes it, io_uring where the kernel lets us,
 * both probed in dir; else buffered, plain calls. */
struct lr_vfs_probe {
    bool direct, uring;
};
int lr_vfs_open_system(struct lr_vfs **out, const char *dir, bool no_direct, bool no_uring,
                       struct lr_vfs_probe *probe);
void lr_vfs_close_system(struct lr_vfs *);

#endif
