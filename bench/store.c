/* SPDX-License-Identifier: Apache-2.0
 * bench/store.c - what the KV store costs in process; one JSON line a result.
 *
 *   bench_store DIR [VALUE_MIB [PART]]    DIR: an empty directory on the disk to be measured
 *
 *   copy      pin + verify + copy of whole values out of memory, against memcpy of the same bytes
 *   disk      values loaded from disk one after the other, against plain sequential direct reads
 *             of a file of the same size with the same request size
 *   recover   start of a store whose segments all have footers, and of one whose process was killed:
 *             its segment is read whole
 *
 * Each is run ROUNDS times, interleaved with what it is compared to; median, least and most.
 */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 7
#define VALUES 16

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void line(const char *bench, const char *what, double *v, const char *unit)
{
    qsort(v, ROUNDS, sizeof v[0], by_size);
    printf("{\"bench\":\"%s\",\"what\":\"%s\",\"unit\":\"%s\",\"median\":%.3f,\"min\":%.3f,"
           "\"max\":%.3f,\"rounds\":%d}\n",
           bench, what, unit, v[ROUNDS / 2], v[0], v[ROUNDS - 1], ROUNDS);
    fflush(stdout);
}

static double rate(size_t bytes, uint64_t t0)
{
    return (double)bytes / (double)(lr_clock_mono_ns() - t0); /* GB/s */
}

static struct lr_object object(uint32_t i, size_t bytes)
{
    static char names[4][32]; /* of the last four objects */
    static unsigned turn;
    char *name = names[turn++ % 4];
    int n = snprintf(name, sizeof names[0], "value-%u", i);
    struct lr_object o = {.kind = LR_OBJECT_OPAQUE,
                          .tenant = 1,
                          .space = LR_STR("bench"),
                          .name = lr_str(name, n > 0 ? (size_t)n : 0),
                          .payload = bytes};
    lr_store_id_opaque(o.tenant, o.space, o.name, &o.id);
    return o;
}

static void fill(uint8_t *p, size_t n, uint64_t seed)
{
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    for (size_t i = 0; i + 8 <= n; i += 8)
        lr_put_le64(p + i, lr_rng_u64(&r));
}

static int put_all(struct lr_store *s, const uint8_t *value, size_t bytes, unsigned flags)
{
    for (uint32_t i = 0; i < VALUES; i++) {
        struct lr_object o = object(i, bytes);
        LR_TRY(lr_store_put(s, &o, &(struct lr_piece){0, value, bytes}, 1, false, flags,
                            LR_FOREVER));
    }
    return 0;
}

static uint8_t *big(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, n, MADV_HUGEPAGE); /* only faster */
    memset(p, 1, n);
    return p;
}

static int bench_copy(size_t bytes)
{
    struct lr_store *s;
    struct lr_store_opts opts = {.mem_max = (uint64_t)bytes * (VALUES + 4)};
    uint8_t *value = big(bytes * VALUES), *out = big(bytes);
    double ours[ROUNDS], plain[ROUNDS], ratio[ROUNDS];
    LR_FAIL_IF(!value || !out, LR_ENOMEM);
    fill(value, bytes * VALUES, 1);
    LR_TRY(lr_store_open(&s, &opts, NULL));
    LR_TRY(put_all(s, value, bytes, 0));
    for (int k = 0; k < ROUNDS; k++) {
        uint64_t t0 = lr_clock_mono_ns();
        for (uint32_t i = 0; i < VALUES; i++) {
            struct lr_object o = object(i, bytes);
            struct lr_range r = {.id = o.id, .want = &o, .dst = out, .n = bytes};
            LR_FAIL_IF(lr_store_read(s, &r, 1, 0) != 1, r.rc);
        }
        ours[k] = rate(bytes * VALUES, t0);
        t0 = lr_clock_mono_ns();
        for (uint32_t i = 0; i < VALUES; i++) {
            memcpy(out, value + i * bytes, bytes);
            __asm__ volatile("" ::"r"(out) : "memory");
        }
        plain[k] = rate(bytes * VALUES, t0);
        ratio[k] = ours[k] / plain[k];
    }
    line("copy", "pin+verify+copy", ours, "GB/s");
    line("copy", "memcpy", plain, "GB/s");
    line("copy", "ratio", ratio, "1");
    lr_store_close(s);
    munmap(value, bytes * VALUES);
    munmap(out, bytes);
    return 0;
}

/* A file read once from front to end with O_DIRECT, `bytes` at a time. */
static int read_plain(const char *path, uint8_t *out, size_t bytes, double *gbs)
{
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0)
        fd = open(path, O_RDONLY);
    LR_FAIL_IF(fd < 0, lr_io_rc(errno));
    size_t sum = 0;
    uint64_t t0 = lr_clock_mono_ns();
    for (ssize_t k; (k = pread(fd, out, bytes, (off_t)sum)) > 0;)
        sum += (size_t)k;
    *gbs = rate(sum, t0);
    close(fd);
    return 0;
}

static int write_plain(const char *path, const uint8_t *value, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    LR_FAIL_IF(fd < 0, lr_io_rc(errno));
    int rc = 0;
    for (uint32_t i = 0; i < VALUES && !rc; i++)
        rc = lr_io_pwrite(fd, value, bytes, (uint64_t)i * bytes);
    if (!rc)
        rc = lr_io_fsync(fd);
    close(fd);
    return rc;
}

static void say_counts(struct lr_store *s)
{
    struct lr_store_stats st;
    lr_store_stats(s, &st);
    for (int i = 0; i < LR_STORE_COUNT; i++)
        if (st.count[i])
            fprintf(stderr, "%s=%llu ", lr_store_count_name((enum lr_store_count)i),
                    (unsigned long long)st.count[i]);
    fprintf(stderr, "disk_bytes=%llu live=%llu mem=%llu of %llu\n",
            (unsigned long long)st.disk_bytes, (unsigned long long)st.disk_live,
            (unsigned long long)st.mem_bytes, (unsigned long long)st.mem_max);
}

/* Memory for two values: each read must come from disk. */
static int bench_disk(const char *dir, size_t bytes)
{
    struct lr_store *s;
    struct lr_store_stats st;
    struct lr_store_opts opts = {.mem_max = (uint64_t)bytes * 3,
                                 .queue_bytes = bytes * 2,
                                 .dir = dir,
                                 .disk_max = (uint64_t)bytes * VALUES * 4,
                                 .evict = "lru",
                                 .late_ms = 60000};
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/plain", dir);
    uint8_t *value = big(bytes), *out = big(bytes);
    double ours[ROUNDS], plain[ROUNDS], ratio[ROUNDS];
    LR_FAIL_IF(!value || !out || n < 0 || (size_t)n >= sizeof path, LR_ENOMEM);
    fill(value, bytes, 2);
    LR_TRY(write_plain(path, value, bytes));
    LR_TRY(lr_store_open(&s, &opts, NULL));
    LR_TRY(put_all(s, value, bytes, LR_PUT_DURABLE));
    for (int k = 0; k < ROUNDS; k++) {
        uint64_t t0 = lr_clock_mono_ns();
        for (uint32_t i = 0; i < VALUES; i++) {
            struct lr_view *v;
            struct lr_object o = object(i, bytes), next = object((i + 1) % VALUES, bytes);
            int rc = lr_store_get(s, &o.id, &o, LR_FOREVER, &v);
            if (rc) {
                say_counts(s);
                return rc;
            }
            lr_view_put(v);
            lr_store_prefix(s, &next.id, 1, true, NULL); /* as a reader of a chain does */
        }
        ours[k] = rate(bytes * VALUES, t0);
        LR_TRY(read_plain(path, out, bytes, &plain[k]));
        ratio[k] = ours[k] / plain[k];
    }
    lr_store_stats(s, &st);
    printf("{\"bench\":\"disk\",\"what\":\"setup\",\"direct\":%d,\"uring\":%d,\"hits_disk\":%llu}\n",
           st.direct, st.uring, (unsigned long long)st.count[LR_STORE_HIT_DISK]);
    line("disk", "load+verify", ours, "GB/s");
    line("disk", "plain direct read", plain, "GB/s");
    line("disk", "ratio", ratio, "1");
    lr_store_close(s);
    unlink(path);
    munmap(value, bytes);
    munmap(out, bytes);
    return 0;
}

static int bench_recover(const char *dir, size_t small, uint32_t entries)
{
    char sub[4096];
    uint8_t value[4096];
    struct lr_store_stats st;
    struct lr_store *s;
    double ms[ROUNDS], rates[ROUNDS];
    int n = snprintf(sub, sizeof sub, "%s/small", dir);
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof sub || small > sizeof value, LR_EINVAL);
    struct lr_store_opts opts = {
        .mem_max = LR_GIB(1), .dir = sub, .disk_max = LR_GIB(4), .late_ms = 60000};
    fill(value, sizeof value, 3);
    LR_TRY(lr_store_open(&s, &opts, NULL));
    for (uint32_t i = 0; i < entries; i++) {
        struct lr_object o = object(i, small);
        LR_TRY(lr_store_put(s, &o, &(struct lr_piece){0, value, small}, 1, false, 0, 0));
    }
    lr_store_close(s);
    for (int k = 0; k < ROUNDS; k++) {
        LR_TRY(lr_store_open(&s, &opts, NULL));
        lr_store_stats(s, &st);
        ms[k] = (double)st.recover_ns / 1e6;
        rates[k] = (double)st.entries / ((double)st.recover_ns / 1e9);
        lr_store_close(s);
    }
    line("recover", "footers, ms", ms, "ms");
    line("recover", "footers, entries", rates, "1/s");
    printf("{\"bench\":\"recover\",\"what\":\"size\",\"entries\":%llu,\"disk_bytes\":%llu,"
           "\"read_bytes\":%llu}\n",
           (unsigned long long)st.entries, (unsigned long long)st.disk_bytes,
           (unsigned long long)st.recover_bytes);
    return 0;
}

/* A child puts, syncs and dies: nothing was sealed. Recovery seals it, so each round has its own. */
static int crash(const char *dir, const struct lr_store_opts *opts, const uint8_t *value, size_t bytes)
{
    struct lr_store *s;
    int status;
    LR_FAIL_IF(mkdir(dir, 0700), lr_io_rc(errno));
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        int rc = lr_store_open(&s, opts, NULL);
        if (!rc)
            rc = put_all(s, value, bytes, LR_PUT_DURABLE);
        _exit(rc ? 1 : 0);
    }
    LR_FAIL_IF(child < 0 || waitpid(child, &status, 0) < 0, LR_EIO);
    return status ? LR_EIO : 0;
}

static int bench_crash(const char *dir, size_t bytes)
{
    char sub[4096];
    struct lr_store_stats st;
    struct lr_store *s;
    double rates[ROUNDS];
    uint8_t *value = big(bytes);
    LR_FAIL_IF(!value, LR_ENOMEM);
    fill(value, bytes, 4);
    for (int k = 0; k < ROUNDS; k++) {
        int n = snprintf(sub, sizeof sub, "%s/crash%d", dir, k);
        LR_FAIL_IF(n < 0 || (size_t)n >= sizeof sub, LR_EINVAL);
        struct lr_store_opts opts = {.mem_max = (uint64_t)bytes * 4,
                                     .dir = sub,
                                     .disk_max = (uint64_t)bytes * VALUES * 4,
                                     .segment_bytes = (uint64_t)bytes * VALUES * 2,
                                     .late_ms = 60000};
        LR_TRY(crash(sub, &opts, value, bytes));
        LR_TRY(lr_store_open(&s, &opts, NULL));
        lr_store_stats(s, &st);
        LR_FAIL_IF(st.entries != VALUES, LR_ENOENT);
        rates[k] = (double)st.recover_bytes / (double)st.recover_ns;
        lr_store_close(s);
    }
    line("recover", "whole segments", rates, "GB/s");
    munmap(value, bytes);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t mib = 32;
    if (argc < 2 || argc > 4 || (argc > 2 && lr_parse_u64(lr_strz(argv[2]), &mib))) {
        fprintf(stderr, "usage: bench_store DIR [VALUE_MIB [copy|disk|recover]]\n");
        return 2;
    }
    lr_log_set_level(LR_LOG_WARN);
    size_t bytes = LR_MIB(mib);
    struct lr_str part = lr_strz(argc > 3 ? argv[3] : "");
    int rc = !part.n || lr_str_is(part, "copy") ? bench_copy(bytes) : 0;
    if (!rc && (!part.n || lr_str_is(part, "disk")))
        rc = bench_disk(argv[1], bytes);
    if (!rc && (!part.n || lr_str_is(part, "recover")))
        rc = bench_recover(argv[1], 1024, 200000);
    if (!rc && (!part.n || lr_str_is(part, "recover")))
        rc = bench_crash(argv[1], bytes);
    if (rc)
        fprintf(stderr, "%s\n", lr_strerror(rc));
    return rc ? 1 : 0;
}
