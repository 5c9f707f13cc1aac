/* SPDX-License-Identifier: Apache-2.0
 * base/io.c - files, with fault points.
 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int lr_io_rc(int err)
{
    switch (err) {
    case 0:
        return 0;
    case ENOENT:
    case ENOTDIR:
        return LR_ENOENT;
    case EACCES:
    case EPERM:
    case EROFS:
        return LR_EDENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return LR_ENOSPC;
    case EEXIST:
        return LR_EEXIST;
    case EWOULDBLOCK:
        return LR_EBUSY;
    case ENOMEM:
        return LR_ENOMEM;
    default:
        return LR_EIO;
    }
}

static bool fault(void)
{
    if (!lr_fault_here())
        return false;
    errno = EIO;
    return true;
}

int lr_io_open(const char *path, int flags, mode_t mode, int *out)
{
    int fd;
    do
        fd = fault() ? -1 : open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return lr_io_rc(errno);
    *out = fd;
    return 0;
}

void lr_io_close(int fd)
{
    if (fd >= 0 && close(fd))
        errno = 0; /* nothing to do: durable writers have called lr_io_fsync before */
}

int lr_io_pread(int fd, void *p, size_t n, uint64_t off)
{
    char *at = p;
    while (n) {
        ssize_t k = fault() ? -1 : pread(fd, at, n, (off_t)off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return lr_io_rc(errno);
        if (k == 0)
            return LR_ECORRUPT;
        at += k;
        off += (uint64_t)k;
        n -= (size_t)k;
    }
    return 0;
}

int lr_io_pwrite(int fd, const void *p, size_t n, uint64_t off)
{
    const char *at = p;
    while (n) {
        ssize_t k = fault() ? -1 : pwrite(fd, at, n, (off_t)off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return lr_io_rc(errno);
        at += k;
        off += (uint64_t)k;
        n -= (size_t)k;
    }
    return 0;
}

int lr_io_write(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t k = fault() ? -1 : write(fd, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return lr_io_rc(errno);
        at += k;
        n -= (size_t)k;
    }
    return 0;
}

int lr_io_fsync(int fd)
{
    return fault() || fsync(fd) ? lr_io_rc(errno) : 0;
}

int lr_io_size(int fd, uint64_t *out)
{
    struct stat st;
    if (fault() || fstat(fd, &st))
        return lr_io_rc(errno);
    *out = (uint64_t)st.st_size;
    return 0;
}

int lr_io_read_file(const char *path, struct lr_buf *b)
{
    int fd, rc;
    LR_TRY(lr_io_open(path, O_RDONLY, 0, &fd));
    for (;;) {
        size_t want = b->cap - b->len ? b->cap - b->len : LR_KIB(16);
        if (want > b->max - b->len)
            want = b->max - b->len + 1; /* one byte over tells that the file is too long */
        char over[1];
        bool full = b->len == b->max;
        rc = full ? 0 : lr_buf_reserve(b, want > b->max - b->len ? b->max - b->len : want);
        if (rc)
            break;
        ssize_t k = fault() ? -1
                    : full  ? read(fd, over, 1)
                            : read(fd, b->p + b->len, b->cap - b->len);
        if (k < 0 && errno == EINTR)
            continue;
        rc = k < 0 ? lr_io_rc(errno) : k > 0 && full ? LR_EOVER : 0;
        if (rc || k == 0)
            break;
        b->len += (size_t)k;
    }
    lr_io_close(fd);
    return rc;
}

int lr_io_rename(const char *from, const char *to)
{
    return fault() || rename(from, to) ? lr_io_rc(errno) : 0;
}

static int fsync_parent(const char *path)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    LR_FAIL_IF(n >= sizeof dir, LR_EOVER);
    memcpy(dir, path, n);
    dir[n] = 0;
    int fd;
    LR_TRY(lr_io_open(slash ? (n ? dir : "/") : ".", O_RDONLY | O_DIRECTORY, 0, &fd));
    int rc = lr_io_fsync(fd);
    lr_io_close(fd);
    return rc;
}

/* A new file beside path, its name in tmp: of this process and this call alone. */
static int open_beside(const char *path, mode_t mode, char *tmp, size_t size, int *out)
{
    static atomic_uint serial;
    int rc = LR_EEXIST;
    /* A dead process of the same number may have left some behind. */
    for (int tries = 0; rc == LR_EEXIST && tries < 100; tries++) {
        int n = snprintf(tmp, size, "%s.tmp.%ld.%u", path, (long)getpid(),
                         atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed));
        LR_FAIL_IF(n < 0 || (size_t)n >= size, LR_EOVER);
        rc = lr_io_open(tmp, O_WRONLY | O_CREAT | O_EXCL, mode, out);
    }
    return rc;
}

int lr_io_write_file(const char *path, struct lr_str bytes, mode_t mode)
{
    char tmp[4096];
    int fd;
    LR_TRY(open_beside(path, mode, tmp, sizeof tmp, &fd));
    int rc = lr_io_write(fd, bytes.p, bytes.n);
    if (!rc)
        rc = lr_io_fsync(fd);
    lr_io_close(fd);
    if (!rc)
        rc = lr_io_rename(tmp, path);
    if (rc) {
        if (unlink(tmp) && errno != ENOENT)
            lr_log(LR_LOG_WARN, "io", "event=leftover_temporary errno=%d", errno);
        return rc;
    }
    return fsync_parent(path);
}

static int make_parents(const char *path)
{
    char p[4096];
    size_t n = strlen(path);
    LR_FAIL_IF(n >= sizeof p, LR_EOVER);
    memcpy(p, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (p[i] != '/')
            continue;
        p[i] = 0;
        if ((fault() || mkdir(p, 0755)) && errno != EEXIST)
            return lr_io_rc(errno);
        p[i] = '/';
    }
    return 0;
}

int lr_io_mkdir(const char *path, mode_t mode)
{
    LR_TRY(make_parents(path));
    struct stat st;
    if (fault() || mkdir(path, mode)) {
        if (errno != EEXIST || stat(path, &st))
            return lr_io_rc(errno);
        LR_FAIL_IF(!S_ISDIR(st.st_mode), LR_EEXIST); /* a file of that name keeps its mode */
    }
    return fault() || chmod(path, mode) ? lr_io_rc(errno) : 0;
}

int lr_io_lock(const char *path, int *out)
{
    int fd;
    LR_TRY(lr_io_open(path, O_RDWR | O_CREAT, 0600, &fd));
    if (fault() || flock(fd, LOCK_EX | LOCK_NB)) {
        int rc = lr_io_rc(errno);
        lr_io_close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}
