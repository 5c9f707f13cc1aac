/* SPDX-License-Identifier: Apache-2.0
 * store/vfs.c - the system's files for the disk tier: direct I/O and io_uring where they work.
 *
 * Idea. A store of 32 MiB values gains nothing from the page cache: it would hold a second copy of
 * what the memory tier holds, and writing through it steals the memory bandwidth that readers want.
 * O_DIRECT is asked for, but a file system may refuse it (tmpfs before 6.6, some overlays), so it is
 * probed: one aligned page is written to and read from a file in the very directory. io_uring may be
 * refused by seccomp, by a sysctl or for want of locked memory: a ring is set up and reads that page
 * too. What the probe says is how all files of this store are opened; refusal is a normal result.
 *
 * With a ring, one read of up to hundreds of MiB becomes pieces of PIECE bytes, DEPTH in flight. A
 * ring belongs to one call at a time (a stack of them under one lock); a call that finds none uses
 * pread. A ring that misbehaves is given up, the call starts over with pread.
 *
 * Tried and dropped: registered buffers (they pin the whole memory tier against the memlock limit,
 * and 4 KiB pages under 1 MiB pieces cost 2 % of a read); SQPOLL (a thread that spins).
 */
#include "store/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#ifdef LR_HAVE_URING
#include <liburing.h>
#endif

#define PIECE LR_MIB(1)
#define DEPTH 8u
#define RINGS 8u

struct sys {
    struct lr_vfs vfs;
    bool direct;
#ifdef LR_HAVE_URING
    pthread_mutex_t mu; /* guards free and n_free; a leaf */
    struct io_uring rings[RINGS], *free[RINGS];
    size_t n_free, n_rings;
#endif
};

struct lr_vfile {
    struct sys *sys;
    int fd;
};

static int sys_list(const struct lr_vfs *v, const char *dir, void (*fn)(void *, const char *),
                    void *arg)
{
    (void)v;
    DIR *d = lr_fault_here() ? NULL : opendir(dir);
    LR_FAIL_IF(!d, lr_io_rc(errno ? errno : EIO));
    errno = 0;
    for (struct dirent *e; (e = readdir(d)); errno = 0)
        if (e->d_name[0] != '.')
            fn(arg, e->d_name);
    int rc = errno ? lr_io_rc(errno) : 0;
    closedir(d);
    return rc;
}

static int sys_open(const struct lr_vfs *v, const char *path, bool create, struct lr_vfile **out)
{
    struct lr_vfile *f = lr_new(struct lr_vfile);
    LR_FAIL_IF(!f, LR_ENOMEM);
    f->sys = v->ctx;
    int flags = (create ? O_CREAT | O_EXCL : 0) | (f->sys->direct ? O_DIRECT : 0);
    int rc = lr_io_open(path, O_RDWR | flags, 0600, &f->fd);
    if (rc == LR_EDENIED && !create)
        rc = lr_io_open(path, O_RDONLY | flags, 0, &f->fd); /* it serves, and gets no footer */
    if (rc) {
        lr_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

static void sys_close(struct lr_vfile *f)
{
    if (!f)
        return;
    lr_io_close(f->fd);
    lr_free(f);
}

/* Reads up to n bytes; the file may end before. Beyond its end: zeros. */
static int plain_pread(struct lr_vfile *f, uint8_t *p, size_t n, uint64_t off)
{
    while (n) {
        ssize_t k = -1;
        if (lr_fault_here())
            errno = EIO;
        else
            k = pread(f->fd, p, n, (off_t)off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return lr_io_rc(errno);
        if (k == 0 || (k % LR_VFS_ALIGN && (size_t)k < n)) {
            memset(p + k, 0, n - (size_t)k);
            return 0;
        }
        p += k;
        off += (uint64_t)k;
        n -= (size_t)k;
    }
    return 0;
}

#ifdef LR_HAVE_URING
static struct io_uring *take_ring(struct sys *s)
{
    pthread_mutex_lock(&s->mu);
    struct io_uring *r = s->n_free ? s->free[--s->n_free] : NULL;
    pthread_mutex_unlock(&s->mu);
    return r;
}

static void give_ring(struct sys *s, struct io_uring *r)
{
    pthread_mutex_lock(&s->mu);
    s->free[s->n_free++] = r;
    pthread_mutex_unlock(&s->mu);
}

/* Waits for one piece; LR_EIO unless all of it came. A wait that fails is tried again: pieces in
 * flight own the memory they go to. */
static int reap(struct io_uring *r, size_t n)
{
    struct io_uring_cqe *cqe;
    for (int err; (err = io_uring_wait_cqe(r, &cqe)) != 0;)
        if (err != -EINTR)
            lr_clock_sleep_ns(LR_MS);
    size_t at = (size_t)io_uring_cqe_get_data64(cqe), want = n - at < PIECE ? n - at : PIECE;
    bool whole = cqe->res >= 0 && (size_t)cqe->res == want;
    io_uring_cqe_seen(r, cqe);
    return whole ? 0 : LR_EIO;
}

/* All pieces of a read through the ring; none is in flight when it returns. LR_EIO: some did not
 * come whole. LR_ECLOSED: the ring is of no more use. */
static int ring_pread(struct io_uring *r, int fd, uint8_t *p, size_t n, uint64_t off)
{
    size_t at = 0, queued = 0, sent = 0, done = 0; /* at: bytes; the others: pieces */
    int rc = 0;
    do {
        for (; at < n && queued - done < DEPTH && !rc; queued++) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(r);
            if (!sqe)
                break;
            size_t k = n - at < PIECE ? n - at : PIECE;
            io_uring_prep_read(sqe, fd, p + at, (unsigned)k, off + at);
            io_uring_sqe_set_data64(sqe, at);
            at += k;
        }
        int k = sent < queued ? io_uring_submit(r) : 0;
        if (k > 0)
            sent += (size_t)k;
        else if (sent < queued && k != -EINTR && k != -EAGAIN && k != -EBUSY)
            rc = LR_ECLOSED; /* what is queued and was not sent dies with the ring */
        if (done < sent) {
            int got = reap(r, n);
            rc = rc ? rc : got;
            done++;
        }
    } while (done < sent || (sent < queued && rc != LR_ECLOSED) || (at < n && !rc));
    return rc;
}

static int sys_pread(struct lr_vfile *f, void *p, size_t n, uint64_t off)
{
    struct io_uring *r = n > PIECE ? take_ring(f->sys) : NULL;
    if (!r)
        return plain_pread(f, p, n, off);
    int rc = lr_fault_here() ? LR_EIO : ring_pread(r, f->fd, p, n, off);
    if (rc == LR_ECLOSED)
        io_uring_queue_exit(r); /* and it is never given back */
    else
        give_ring(f->sys, r);
    return rc ? plain_pread(f, p, n, off) : 0;
}
#else
static int sys_pread(struct lr_vfile *f, void *p, size_t n, uint64_t off)
{
    return plain_pread(f, p, n, off);
}
#endif

static int sys_pwrite(struct lr_vfile *f, const void *p, size_t n, uint64_t off)
{
    return lr_io_pwrite(f->fd, p, n, off);
}

static int sys_sync(struct lr_vfile *f)
{
    return lr_fault_here() ? LR_EIO : fdatasync(f->fd) ? lr_io_rc(errno) : 0;
}

static int sys_size(struct lr_vfile *f, uint64_t *out)
{
    return lr_io_size(f->fd, out);
}

static int sys_unlink(const struct lr_vfs *v, const char *path)
{
    (void)v;
    return lr_fault_here() ? LR_EIO : unlink(path) ? lr_io_rc(errno) : 0;
}

static int sys_sync_dir(const struct lr_vfs *v, const char *dir)
{
    (void)v;
    int fd;
    LR_TRY(lr_io_open(dir, O_RDONLY | O_DIRECTORY, 0, &fd));
    int rc = lr_io_fsync(fd);
    lr_io_close(fd);
    return rc;
}

static int sys_space(const struct lr_vfs *v, const char *dir, uint64_t *total, uint64_t *left)
{
    (void)v;
    struct statvfs st;
    LR_FAIL_IF(lr_fault_here() || statvfs(dir, &st), LR_EIO);
    *total = (uint64_t)st.f_blocks * st.f_frsize;
    *left = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

/* ---- probing ---- */

static int touch(const char *path, int flags)
{
    static _Alignas(LR_VFS_ALIGN) const char page[LR_VFS_ALIGN] = {'p'};
    _Alignas(LR_VFS_ALIGN) char back[LR_VFS_ALIGN];
    int fd;
    LR_TRY(lr_io_open(path, O_RDWR | O_CREAT | flags, 0600, &fd));
    int rc = lr_io_pwrite(fd, page, sizeof page, 0);
    if (!rc)
        rc = lr_io_pread(fd, back, sizeof back, 0);
    lr_io_close(fd);
    return rc ? rc : memcmp(page, back, sizeof page) ? LR_EIO : 0;
}

#ifdef LR_HAVE_URING
static void open_rings(struct sys *s, const char *path)
{
    _Alignas(LR_VFS_ALIGN) uint8_t page[LR_VFS_ALIGN];
    int fd;
    if (lr_io_open(path, O_RDONLY | (s->direct ? O_DIRECT : 0), 0, &fd))
        return;
    for (; s->n_rings < RINGS; s->n_rings++) {
        struct io_uring *r = &s->rings[s->n_rings];
        if (lr_fault_here() || io_uring_queue_init(DEPTH, r, 0))
            break;
        if (ring_pread(r, fd, page, sizeof page, 0)) {
            io_uring_queue_exit(r);
            break;
        }
        s->free[s->n_free++] = r;
    }
    lr_io_close(fd);
}

static void close_rings(struct sys *s)
{
    while (s->n_free)
        io_uring_queue_exit(s->free[--s->n_free]);
    pthread_mutex_destroy(&s->mu);
}
#endif

int lr_vfs_open_system(struct lr_vfs **out, const char *dir, bool no_direct, bool no_uring,
                       struct lr_vfs_probe *probe)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/probe.tmp", dir);
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof path, LR_EOVER);
    LR_TRY(touch(path, 0));
    struct sys *s = lr_new(struct sys);
    LR_FAIL_IF(!s, LR_ENOMEM);
    s->vfs = (struct lr_vfs){
        .ctx = s,
        .list = sys_list,
        .open = sys_open,
        .close = sys_close,
        .pread = sys_pread,
        .pwrite = sys_pwrite,
        .sync = sys_sync,
        .size = sys_size,
        .unlink = sys_unlink,
        .sync_dir = sys_sync_dir,
        .space = sys_space,
    };
    s->direct = !no_direct && touch(path, O_DIRECT) == 0;
    probe->direct = s->direct;
    probe->uring = false;
#ifdef LR_HAVE_URING
    pthread_mutex_init(&s->mu, NULL);
    if (!no_uring)
        open_rings(s, path);
    probe->uring = s->n_rings > 0;
#else
    (void)no_uring;
#endif
    if (unlink(path))
        errno = 0; /* a stray page; the next probe writes over it */
    *out = &s->vfs;
    return 0;
}

void lr_vfs_close_system(struct lr_vfs *v)
{
    if (!v)
        return;
    struct sys *s = v->ctx;
#ifdef LR_HAVE_URING
    close_rings(s);
#endif
    lr_free(s);
}
