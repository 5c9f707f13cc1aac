/* SPDX-License-Identifier: Apache-2.0
 * base/io.h - files, with a fault point before every system call.
 *
 * All calls retry EINTR. Errors: LR_ENOENT, LR_EDENIED, LR_ENOSPC, LR_EEXIST, LR_EBUSY (locked),
 * else LR_EIO; errno is left as the system set it.
 */
#ifndef LR_BASE_IO_H
#define LR_BASE_IO_H

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

/* The LR_E* for an errno value. */
int lr_io_rc(int err);
/* open(2) with O_CLOEXEC; the descriptor in *out. */
int lr_io_open(const char *path, int flags, mode_t mode, int *out);
void lr_io_close(int fd);
/* Exactly n bytes at off: a short file is LR_ECORRUPT. */
int lr_io_pread(int fd, void *p, size_t n, uint64_t off);
int lr_io_pwrite(int fd, const void *p, size_t n, uint64_t off);
int lr_io_write(int fd, const void *p, size_t n);
int lr_io_fsync(int fd);
int lr_io_size(int fd, uint64_t *out);
/* A whole file into b (whose maximum holds: LR_EOVER). */
int lr_io_read_file(const char *path, struct lr_buf *b);
/* Replaces path at once: temporary file beside it, fsync, rename, fsync of the directory. */
int lr_io_write_file(const char *path, struct lr_str bytes, mode_t mode);
int lr_io_rename(const char *from, const char *to);
/* mkdir -p: parents are made 0755; an existing directory is fine; the last one's mode is set to
 * `mode`. LR_EEXIST when something else has the name. */
int lr_io_mkdir(const char *path, mode_t mode);
/* Exclusive advisory lock on a file, created when absent and held until the descriptor closes:
 * LR_EBUSY when another process (or this one) holds it. */
int lr_io_lock(const char *path, int *out);

#endif
