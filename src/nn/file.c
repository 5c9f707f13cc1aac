/* SPDX-License-Identifier: Apache-2.0
 * nn/file.c - bytes of a model file: read when small, mapped when large, and what happens when a
 * mapped file is cut short under us.
 *
 *   open -> fstat -> size < map_min ? pread all into 64-aligned memory, close
 *                                   : mmap (private, read-only), keep fd, take a slot in the guard
 *
 * Reading past the end of a truncated file through a map raises SIGBUS, which kills a process that
 * has no handler. Ways out that were weighed:
 *  - Check the size before each use: the truncation comes after the check; a race, not an answer.
 *  - MAP_POPULATE, mlock: pages of a truncated file are dropped all the same.
 *  - Read everything into anonymous memory: safe, but two processes no longer share a model, a
 * start costs a copy, and the kernel can only swap what it could have dropped.
 *  - File leases: only for the file's owner, and they hold up whoever truncates for 45 s.
 * So: a SIGBUS handler that looks the address up in a table of our maps, puts a page of zeros there
 * with one mmap (a plain system call on Linux, which touches no lock of the C library), marks the
 * slot, and returns: the load is repeated and reads 0. Zeros are valid in every tensor type, so
 * that code cannot go astray, only numbers; lr_nn_file_check tells, and the user of the weights
 * calls it before a result leaves the house. Metadata is never read through the map: it is copied
 * with pread while it is checked, so what was checked is what is used.
 *
 * Someone who writes into the file instead of truncating it changes numbers, too; check sees the
 * time of change. Installing a new model beside the old one and renaming it, as everybody should,
 * is harmless: the map keeps the old file alive.
 *
 * The handler is process-wide: installed with a map, unless it is in place, never removed, and it
 * hands faults elsewhere to the one that was there before. The table is read in the handler without
 * a lock: `start` is published last and withdrawn first. A slot's map is unmapped only after nobody
 * reads the tensors any more, so a fault cannot meet a slot that is going away.
 */
#include "nn/nn_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAP_MIN  LR_MIB(1)
#define MAPS_MAX 256 /* files mapped at once */
#define ALIGN    64u

static struct guard {
    atomic_uintptr_t start; /* 0: free, or being filled */
    atomic_size_t len;
    atomic_bool torn; /* pages were lost */
    bool taken;       /* under mu */
} guards[MAPS_MAX];
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* guards `taken` and the installation */
static struct sigaction before;
static uintptr_t page;

static void pass_on(int sig, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(sig, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(sig);
    } else {
        struct sigaction die = {.sa_handler = SIG_DFL};
        (void)sigaction(sig, &die, NULL); /* cannot fail for SIGBUS; the fault then repeats */
    }
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    for (size_t i = 0; i < MAPS_MAX; i++) {
        uintptr_t start = atomic_load_explicit(&guards[i].start, memory_order_acquire);
        if (!start || at - start >= atomic_load_explicit(&guards[i].len, memory_order_relaxed))
            continue;
        /* The bare call: safe in a handler, and no write to the sanitizer, which would see a race with
         * other readers of the page. The kernel puts the new page in place of the lost one at once. */
        long zeros = syscall(SYS_mmap, at & ~(page - 1), page, PROT_READ,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros == -1)
            break;
        atomic_store_explicit(&guards[i].torn, true, memory_order_release);
        errno = saved;
        return;
    }
    errno = saved;
    pass_on(sig, info, context);
}

void lr_nn_thread_init(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* fails for a bad first argument only */
}

static int install_locked(void)
{
    struct sigaction act = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
    page = (uintptr_t)sysconf(_SC_PAGESIZE);
    LR_FAIL_IF(sigaction(SIGBUS, NULL, &now), LR_EIO);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus)
        return 0;
    before = now; /* ours is not in place: it does not run while this is written */
    return sigaction(SIGBUS, &act, NULL) ? LR_EIO : 0;
}

/* A free slot, now taken. */
static int take_guard(int *out)
{
    pthread_mutex_lock(&mu);
    int rc = install_locked(), i = 0;
    while (!rc && i < MAPS_MAX && guards[i].taken)
        i++;
    if (!rc && i == MAPS_MAX)
        rc = LR_EOVER;
    if (!rc) {
        guards[i].taken = true;
        atomic_store_explicit(&guards[i].torn, false, memory_order_relaxed);
        *out = i;
    }
    pthread_mutex_unlock(&mu);
    return rc;
}

static void drop_guard(int i)
{
    pthread_mutex_lock(&mu);
    atomic_store_explicit(&guards[i].start, 0, memory_order_release);
    guards[i].taken = false;
    pthread_mutex_unlock(&mu);
}

static int map_file(struct lr_nn_file *f)
{
    int guard;
    LR_TRY(take_guard(&guard));
    void *p = lr_fault_here() ? MAP_FAILED
                              : mmap(NULL, (size_t)f->size, PROT_READ, MAP_PRIVATE, f->fd, 0);
    if (p == MAP_FAILED) {
        drop_guard(guard);
        return LR_ENOMEM;
    }
    atomic_store_explicit(&guards[guard].len, (size_t)f->size, memory_order_relaxed);
    atomic_store_explicit(&guards[guard].start, (uintptr_t)p, memory_order_release);
    f->guard = guard;
    f->data = p;
    return 0;
}

static int read_whole(struct lr_nn_file *f)
{
    size_t n = (size_t)f->size;
    f->heap = lr_alloc(n + ALIGN);
    LR_FAIL_IF(!f->heap, LR_ENOMEM);
    uint8_t *p = (uint8_t *)f->heap + (ALIGN - (uintptr_t)f->heap % ALIGN);
    LR_TRY(lr_io_pread(f->fd, p, n, 0));
    f->data = p;
    lr_io_close(f->fd);
    f->fd = -1;
    return 0;
}

int lr_nn_file_open(struct lr_nn_file *f, const char *path, const struct lr_nn_file_opts *opts,
                    struct lr_err *err)
{
    uint64_t map_min = opts && opts->map_min ? opts->map_min : MAP_MIN;
    *f = (struct lr_nn_file){.fd = -1, .guard = -1};
    /* O_NONBLOCK: a pipe of that name must not hold us up; it is refused below. */
    int rc = lr_io_open(path, O_RDONLY | O_NONBLOCK, 0, &f->fd);
    if (rc)
        return lr_err_set(err, rc, "file", "cannot be opened: %s", lr_strerror(rc));
    if (lr_fault_here() || fstat(f->fd, &f->was))
        rc = lr_err_set(err, LR_EIO, "file", "its size cannot be read");
    else if (!S_ISREG(f->was.st_mode))
        rc = lr_err_set(err, LR_EINVAL, "file", "not a regular file");
    if (rc)
        goto undo_open;
    f->size = (uint64_t)f->was.st_size;
    rc = f->size > SIZE_MAX / 2 ? LR_EOVER : f->size < map_min ? read_whole(f) : map_file(f);
    if (rc) {
        rc = lr_err_set(err, rc, "file", "cannot be %s: %s", f->size < map_min ? "read" : "mapped",
                        lr_strerror(rc));
        goto undo_open;
    }
    return 0;
undo_open:
    lr_nn_file_close(f);
    return rc;
}

void lr_nn_file_mem(struct lr_nn_file *f, struct lr_str bytes)
{
    *f = (struct lr_nn_file){.fd = -1, .guard = -1};
    f->data = (const uint8_t *)bytes.p;
    f->size = bytes.n;
}

void lr_nn_file_close(struct lr_nn_file *f)
{
    if (f->guard >= 0) {
        uintptr_t start = atomic_load_explicit(&guards[f->guard].start, memory_order_relaxed);
        (void)munmap((void *)start, (size_t)f->size); /* our own map: cannot fail */
        drop_guard(f->guard);
    }
    lr_io_close(f->fd);
    lr_free(f->heap);
    *f = (struct lr_nn_file){.fd = -1, .guard = -1};
}

int lr_nn_file_pread(const struct lr_nn_file *f, uint64_t off, void *p, size_t n)
{
    if (f->fd >= 0)
        return lr_io_pread(f->fd, p, n, off);
    if (n)
        memcpy(p, f->data + off, n);
    return 0;
}

int lr_nn_file_check(const struct lr_nn_file *f, struct lr_err *err)
{
    struct stat now;
    if (f->fd < 0)
        return 0;
    if (lr_fault_here() || fstat(f->fd, &now))
        return lr_err_set(err, LR_EIO, "file", "its size cannot be read");
    if (atomic_load_explicit(&guards[f->guard].torn, memory_order_acquire))
        return lr_err_set(err, LR_ECORRUPT, "file", "was truncated while in use");
    if (now.st_size != f->was.st_size || now.st_mtim.tv_sec != f->was.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != f->was.st_mtim.tv_nsec)
        return lr_err_set(err, LR_ECORRUPT, "file", "was changed while in use");
    return 0;
}
