/* SPDX-License-Identifier: Apache-2.0
 * store/limits.c - how much memory there is for us: what the container may use, else the machine.
 *
 * A process in a container sees the whole machine in /proc/meminfo and is killed at the container's
 * limit. So the limits of its control group and of every group above it are read first (version 2:
 * memory.max, version 1: memory.limit_in_bytes), and the least of these and MemTotal counts.
 * Unreadable files, "max" and version 1's huge "no limit" say nothing.
 */
#include "store/store_int.h"

#include <stdio.h>

#define FILE_MAX LR_KIB(64)

static struct lr_str slurp(struct lr_buf *b, const char *root, const char *path)
{
    char full[1024];
    lr_buf_reset(b);
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof full || lr_io_read_file(full, b))
        return lr_str(NULL, 0);
    return lr_buf_str(b);
}

static void lower(uint64_t *least, uint64_t v)
{
    if (v && v < *least)
        *least = v;
}

/* The limits of group and of all groups above it. */
static void read_groups(struct lr_buf *b, const char *root, const char *mount, struct lr_str group,
                        const char *file, uint64_t *least)
{
    for (;;) {
        char path[1024];
        while (group.n && group.p[group.n - 1] == '/')
            group.n--;
        int n = snprintf(path, sizeof path, "%s%.*s/%s", mount, LR_FMT(group), file);
        uint64_t v;
        if (n > 0 && (size_t)n < sizeof path &&
            !lr_parse_u64(lr_str_trim(slurp(b, root, path)), &v))
            lower(least, v);
        if (!group.n)
            return;
        while (group.n && group.p[group.n - 1] != '/')
            group.n--;
    }
}

static bool lists(struct lr_str names, const char *name)
{
    while (names.p)
        if (lr_str_is(lr_str_cut(&names, ','), name))
            return true;
    return false;
}

uint64_t lr_limits_memory(const char *root)
{
    uint64_t least = UINT64_MAX;
    struct lr_buf b, groups;
    lr_buf_init(&b, FILE_MAX);
    lr_buf_init(&groups, FILE_MAX);
    struct lr_str rest = slurp(&b, root, "/proc/meminfo");
    while (rest.p) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        struct lr_str name = lr_str_cut(&line, ':');
        uint64_t kib;
        line = lr_str_trim(line);
        if (lr_str_is(name, "MemTotal") && !lr_parse_u64(lr_str_cut(&line, ' '), &kib))
            lower(&least, kib << 10);
    }
    rest = slurp(&groups, root, "/proc/self/cgroup"); /* "0::/a/b" or "5:memory:/a/b" */
    while (rest.p) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        struct lr_str id = lr_str_cut(&line, ':'), names = lr_str_cut(&line, ':');
        if (lr_str_is(id, "0") && !names.n)
            read_groups(&b, root, "/sys/fs/cgroup", line, "memory.max", &least);
        else if (lists(names, "memory"))
            read_groups(&b, root, "/sys/fs/cgroup/memory", line, "memory.limit_in_bytes", &least);
    }
    lr_buf_free(&groups);
    lr_buf_free(&b);
    return least == UINT64_MAX ? 0 : least;
}
