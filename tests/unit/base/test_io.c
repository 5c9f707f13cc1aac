/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_io.c - laws of file access, each call made to fail in turn.
 */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[2][160];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static size_t files_in_dir(void)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int make_dir(void **state)
{
    (void)state; /* cmocka's */
    snprintf(dir, sizeof dir, "/tmp/lr-test-io-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at; /* nftw's */
    return remove(path);
}

static int remove_dir(void **state)
{
    (void)state; /* cmocka's */
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void what_is_written_is_read_within_the_bound(void **state)
{
    (void)state; /* cmocka's */
    static char bytes[70000];
    struct lr_rng r;
    struct lr_buf b;
    lr_rng_seed(&r, 1);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)lr_rng_below(&r, 256);
    static const size_t sizes[] = {0, 1, 63, 64, 4096, 16384, 16385, 70000};
    for (size_t i = 0; i < LR_COUNT(sizes); i++) {
        size_t n = sizes[i];
        assert_int_equal(lr_io_write_file(in_dir("a"), lr_str(bytes, n), 0600), 0);
        lr_buf_init(&b, n); /* exactly enough */
        assert_int_equal(lr_io_read_file(in_dir("a"), &b), 0);
        assert_true(lr_str_eq(lr_buf_str(&b), lr_str(bytes, n)));
        lr_buf_free(&b);
        if (n) {
            lr_buf_init(&b, n - 1);
            assert_int_equal(lr_io_read_file(in_dir("a"), &b), LR_EOVER);
            lr_buf_free(&b);
        }
    }
    struct stat st;
    assert_int_equal(stat(in_dir("a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    lr_buf_init(&b, 100);
    assert_int_equal(lr_io_read_file(in_dir("none"), &b), LR_ENOENT);
    assert_int_equal(lr_io_write_file(in_dir("none/b"), LR_STR("x"), 0600), LR_ENOENT);
    lr_buf_free(&b);
}

static void places_are_read_and_written_exactly(void **state)
{
    (void)state; /* cmocka's */
    int fd = -1;
    char got[8];
    uint64_t size = 0;
    assert_int_equal(lr_io_open(in_dir("p"), O_RDWR | O_CREAT | O_EXCL, 0600, &fd), 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(lr_io_open(in_dir("p"), O_CREAT | O_EXCL, 0600, &(int){0}), LR_EEXIST);
    assert_int_equal(lr_io_pwrite(fd, "abcdef", 6, 10), 0);
    assert_int_equal(lr_io_size(fd, &size), 0);
    assert_true(size == 16);
    assert_int_equal(lr_io_pread(fd, got, 6, 10), 0);
    assert_memory_equal(got, "abcdef", 6);
    assert_int_equal(lr_io_pread(fd, got, 7, 10), LR_ECORRUPT); /* short file */
    assert_int_equal(lr_io_pread(fd, got, 0, 99), 0);
    assert_int_equal(lr_io_write(fd, "xy", 2), 0);
    assert_int_equal(lr_io_fsync(fd), 0);
    assert_int_equal(lr_io_pread(fd, got, 2, 0), 0);
    assert_memory_equal(got, "xy", 2);
    lr_io_close(fd);
    lr_io_close(-1);
    assert_int_equal(lr_io_pread(fd, got, 1, 0), LR_EIO); /* closed */
    assert_int_equal(lr_io_rename(in_dir("p"), in_dir("q")), 0);
    assert_int_equal(lr_io_rename(in_dir("p"), in_dir("q")), LR_ENOENT);
}

static void directories_get_their_mode_and_files_keep_theirs(void **state)
{
    (void)state; /* cmocka's */
    struct stat st;
    assert_int_equal(lr_io_mkdir(in_dir("d"), 0755), 0);
    assert_int_equal(lr_io_mkdir(in_dir("d"), 0700), 0);
    assert_int_equal(stat(in_dir("d"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(lr_io_mkdir(in_dir("x/y"), 0700), 0); /* with its parents */
    assert_int_equal(stat(in_dir("x/y"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(lr_io_write_file(in_dir("f"), LR_STR("x"), 0644), 0);
    assert_int_equal(lr_io_mkdir(in_dir("f"), 0700), LR_EEXIST);
    assert_int_equal(lr_io_mkdir(in_dir("f/g"), 0700), LR_ENOENT);
    assert_int_equal(stat(in_dir("f"), &st), 0);
    assert_int_equal(st.st_mode & 0700, 0600);
}

static void a_lock_has_one_holder(void **state)
{
    (void)state; /* cmocka's */
    int one = -1, two = -1;
    assert_int_equal(lr_io_lock(in_dir("lock"), &one), 0);
    assert_int_equal(lr_io_lock(in_dir("lock"), &two), LR_EBUSY);
    assert_int_equal(two, -1);
    lr_io_close(one);
    assert_int_equal(lr_io_lock(in_dir("lock"), &two), 0);
    lr_io_close(two);
}

/* Whatever fails, the old or the new content is there, whole, and no temporary file. */
static void a_failed_replacement_leaves_one_whole_file(void **state)
{
    (void)state; /* cmocka's */
    struct lr_buf b;
    lr_buf_init(&b, 100);
    assert_int_equal(lr_io_write_file(in_dir("r"), LR_STR("old"), 0600), 0);
    size_t files = files_in_dir();
    int rc = LR_EIO;
    uint64_t n = 1;
    for (; rc; n++) {
        assert_int_equal(lr_fault_arm(n), 0);
        rc = lr_io_write_file(in_dir("r"), LR_STR("new"), 0600);
        assert_int_equal(lr_fault_arm(0), 0);
        assert_true(rc == 0 || rc == LR_EIO);
        lr_buf_reset(&b);
        assert_int_equal(lr_io_read_file(in_dir("r"), &b), 0);
        assert_true(lr_str_is(lr_buf_str(&b), "new") || (rc && lr_str_is(lr_buf_str(&b), "old")));
        assert_int_equal(files_in_dir(), files);
    }
    assert_true(n > 6); /* open, write, fsync, rename, open and fsync of the directory */
    lr_buf_free(&b);
}

static int scenario(void)
{
    struct lr_buf b;
    uint64_t size;
    int fd = -1, lock = -1;
    char c;
    lr_buf_init(&b, 100);
    int rc = lr_io_mkdir(in_dir("s"), 0700);
    if (!rc)
        rc = lr_io_lock(in_dir("sl"), &lock);
    if (!rc)
        rc = lr_io_open(in_dir("sf"), O_RDWR | O_CREAT, 0600, &fd);
    if (!rc)
        rc = lr_io_pwrite(fd, "x", 1, 0);
    if (!rc)
        rc = lr_io_pread(fd, &c, 1, 0);
    if (!rc)
        rc = lr_io_size(fd, &size);
    if (!rc)
        rc = lr_io_read_file(in_dir("sf"), &b);
    if (!rc)
        rc = lr_io_rename(in_dir("sf"), in_dir("sg"));
    lr_io_close(fd);
    lr_io_close(lock);
    lr_buf_free(&b);
    return rc;
}

static void every_call_can_fail_cleanly(void **state)
{
    (void)state; /* cmocka's */
    int rc = LR_EIO, before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    for (uint64_t n = 1; rc; n++) {
        assert_int_equal(lr_fault_arm(n), 0);
        rc = scenario();
        assert_true(rc == LR_EIO || rc == LR_ENOMEM || (rc == 0 && lr_fault_seen() < n));
    }
    assert_int_equal(lr_fault_arm(0), 0);
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    assert_int_equal(before, after); /* no descriptor leaked */
}

enum { WRITERS = 4, WRITES = 10 };

static void *write_often(void *arg)
{
    char text[5000], path[160];
    memset(text, *(char *)arg, sizeof text);
    snprintf(path, sizeof path, "%s/shared", dir);
    for (int i = 0; i < WRITES; i++)
        if (lr_io_write_file(path, lr_str(text, sizeof text), 0600))
            return NULL;
    return arg;
}

static void concurrent_replacements_do_not_mix(void **state)
{
    (void)state; /* cmocka's */
    pthread_t t[WRITERS];
    char names[WRITERS] = {'a', 'b', 'c', 'd'};
    struct lr_buf b;
    lr_buf_init(&b, 5000);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(lr_thread_start(&t[i], "writer", write_often, &names[i]), 0);
    for (int i = 0; i < WRITERS; i++) {
        void *ok = NULL;
        assert_int_equal(pthread_join(t[i], &ok), 0);
        assert_non_null(ok);
    }
    assert_int_equal(lr_io_read_file(in_dir("shared"), &b), 0);
    assert_int_equal(b.len, 5000);
    for (size_t i = 1; i < b.len; i++)
        assert_int_equal(b.p[i], b.p[0]);
    lr_buf_free(&b);
}

static void system_errors_have_our_names(void **state)
{
    (void)state; /* cmocka's */
    static const int rows[][2] = {{0, 0},           {ENOENT, LR_ENOENT}, {EACCES, LR_EDENIED},
                                  {ENOSPC, LR_ENOSPC}, {EEXIST, LR_EEXIST}, {EAGAIN, LR_EBUSY},
                                  {ENOMEM, LR_ENOMEM}, {EBADF, LR_EIO}};
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        assert_int_equal(lr_io_rc(rows[i][0]), rows[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_within_the_bound),
        cmocka_unit_test(places_are_read_and_written_exactly),
        cmocka_unit_test(directories_get_their_mode_and_files_keep_theirs),
        cmocka_unit_test(a_lock_has_one_holder),
        cmocka_unit_test(a_failed_replacement_leaves_one_whole_file),
        cmocka_unit_test(every_call_can_fail_cleanly),
        cmocka_unit_test(concurrent_replacements_do_not_mix),
        cmocka_unit_test(system_errors_have_our_names),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
