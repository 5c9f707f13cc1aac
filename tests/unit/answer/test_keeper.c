/* SPDX-License-Identifier: Apache-2.0
 * answer/test_keeper.c - what is acknowledged survives: kill -9, damage, foreign files, full maps,
 * failing calls, threads.
 */
#include "shelf_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <lmdb.h>

#define NOW 1000000ull
#define TTL 1000000000ull

static uint64_t test_wall(void)
{
    return NOW;
}

static int try_open(struct lr_answer **s, const char *dir, uint64_t bytes_max, uint64_t map_max)
{
    struct lr_err err = {0};
    struct lr_answer_opts o = {.dir = dir,
                               .bytes_max = bytes_max,
                               .map_max = map_max,
                               .hot_max = LR_KIB(64),
                               .commit_ns = LR_MS,
                               .wall_ms = test_wall};
    return lr_answer_open(s, &o, &err);
}

static struct lr_answer *must_open(const char *dir)
{
    struct lr_answer *s = NULL;
    assert_int_equal(try_open(&s, dir, 0, 0), 0);
    return s;
}

static size_t size_of(uint64_t k)
{
    return (size_t)(k * 2654435761u % 9000);
}

static int put(struct lr_answer *s, uint64_t k, void (*done)(void *, int), void *arg)
{
    char log[9000];
    struct lr_doc_meta m = meta_of(k, NOW, TTL);
    fill_log(log, size_of(k), k, 0);
    return lr_answer_put(s, &m, lr_str(log, size_of(k)), 0, done, arg);
}

/* 1 = there and right, 0 = a miss; anything served wrong fails. */
static int check(struct lr_answer *s, uint64_t k)
{
    char log[9000];
    struct lr_ask a = ask_of(k, NOW);
    struct lr_answer_hit h;
    if (look(s, &a, &h) != LR_FOUND_HIT)
        return 0;
    fill_log(log, size_of(k), k, 0);
    int right = h.doc->log.n == size_of(k) && memcmp(h.doc->log.p, log, size_of(k)) == 0 &&
                lr_digest_eq(&h.doc->meta.key, &a.key);
    lr_doc_unref(h.doc);
    return right ? 1 : -1;
}

/* ---- kill -9 ---- */

struct ack {
    uint64_t k;
    int fd;
};

static void acknowledged(void *arg, int rc)
{
    struct ack *a = arg;
    if (!rc && write(a->fd, &a->k, sizeof a->k) != sizeof a->k)
        _exit(3);
    free(a);
}

static void child_puts(const char *dir, uint64_t from, int fd)
{
    struct lr_answer *s = NULL;
    if (try_open(&s, dir, 0, 0))
        _exit(2);
    for (uint64_t k = from;; k++) {
        struct ack *a = malloc(sizeof *a);
        *a = (struct ack){k, fd};
        if (put(s, k, acknowledged, a))
            _exit(4);
        if (k % 16 == 0)
            lr_clock_sleep_ns(LR_MS / 2);
    }
}

static void nothing_acknowledged_is_lost_by_kill_9(void **state)
{
    (void)state;
    char dir[64];
    struct lr_rng rng;
    uint64_t acked[20000], next = 0;
    size_t n = 0;
    make_dir(dir);
    lr_rng_seed(&rng, 5);
    for (int round = 0; round < 10; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            child_puts(dir, next, fds[1]);
        }
        close(fds[1]);
        lr_clock_sleep_ns((15 + lr_rng_below(&rng, 40)) * LR_MS);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        size_t before = n;
        while (n < LR_COUNT(acked) && read(fds[0], &acked[n], sizeof acked[n]) == sizeof acked[n])
            n++;
        close(fds[0]);
        for (size_t i = before; i < n; i++)
            next = acked[i] >= next ? acked[i] + 1 : next;
        struct lr_answer *s = must_open(dir);
        for (size_t i = 0; i < n; i++)
            if (check(s, acked[i]) != 1)
                fail_msg("round %d: answer %llu is lost", round, (unsigned long long)acked[i]);
        lr_answer_close(s);
        next += 20000; /* beyond what may have been put without being acknowledged */
    }
    assert_false(set_aside(dir));
    print_message("%zu acknowledged answers\n", n);
    assert_true(n > 0);
    remove_dir(dir);
}

/* ---- damage ---- */

enum { STORED = 60 };

static void fill_dir(const char *dir)
{
    struct lr_answer *s = must_open(dir);
    for (uint64_t k = 0; k < STORED * 2; k++) {
        assert_int_equal(put(s, k, NULL, NULL), 0);
        if (k % 10 == 0)
            assert_int_equal(lr_answer_flush(s), 0);
    }
    for (uint64_t k = STORED; k < STORED * 2; k++) { /* so that there are free pages */
        struct lr_digest d = key_of(k);
        assert_int_equal(lr_answer_delete(s, &d), 0);
    }
    lr_answer_close(s);
}

static void path_in(char out[256], const char *dir, const char *name)
{
    snprintf(out, 256, "%s/%s", dir, name);
}

/* In a child: whatever the file holds, what is served is right and the process ends well. Returns
 * how many of the answers were there, or -1. */
static int serve_in_child(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct lr_answer *s = NULL;
        lr_log_set_level(LR_LOG_ERROR);
        if (try_open(&s, dir, 0, 0))
            _exit(200);
        int n = 0;
        for (uint64_t k = 0; k < STORED; k++) {
            int c = check(s, k);
            if (c < 0)
                _exit(201);
            n += c;
        }
        if (put(s, 999, NULL, NULL) || lr_answer_flush(s) || check(s, 999) != 1)
            _exit(202);
        lr_answer_close(s);
        _exit(n);
    }
    int status;
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) >= 200) {
        print_message("status %x\n", (unsigned)status);
        return -1;
    }
    return WEXITSTATUS(status);
}

static void flip(struct lr_buf *b, uint64_t bit)
{
    b->p[bit / 8] = (char)(b->p[bit / 8] ^ 1 << bit % 8);
}

static void flipped_bits_never_serve_a_wrong_answer(void **state)
{
    (void)state;
    char dir[64], mdb[256], lock[256];
    struct lr_buf b;
    struct lr_rng rng;
    uint64_t seed = 21;
    int whole = 0, some = 0, none = 0;
    make_dir(dir);
    fill_dir(dir);
    path_in(mdb, dir, "answers.mdb");
    path_in(lock, dir, "answers.mdb-lock");
    lr_buf_init(&b, LR_MIB(64));
    assert_int_equal(lr_io_read_file(mdb, &b), 0);
    lr_rng_seed(&rng, seed);
    for (int i = 0; i < 150; i++) {
        /* Every other one hits the first bytes of a page: headers and offsets. */
        uint64_t page = lr_rng_below(&rng, b.len / 4096) * 4096;
        uint64_t bit = 8 * page + lr_rng_below(&rng, i % 2 ? 8 * 64 : 8 * 4096);
        flip(&b, bit);
        assert_int_equal(lr_io_write_file(mdb, lr_buf_str(&b), 0600), 0);
        unlink(lock);
        int n = serve_in_child(dir);
        if (n < 0)
            fail_msg("seed %llu flip %d: bit %llu", (unsigned long long)seed, i,
                     (unsigned long long)bit);
        whole += n == STORED;
        none += n == 0;
        some += n > 0 && n < STORED;
        flip(&b, bit);
    }
    print_message("flips: %d harmless, %d lost some answers, %d set aside\n", whole, some, none);
    assert_true(whole && some && none);
    lr_buf_free(&b);
    remove_dir(dir);
}

static void cut_files_start_cold(void **state)
{
    (void)state;
    char dir[64], mdb[256], lock[256];
    struct lr_buf b;
    make_dir(dir);
    fill_dir(dir);
    path_in(mdb, dir, "answers.mdb");
    path_in(lock, dir, "answers.mdb-lock");
    lr_buf_init(&b, LR_MIB(64));
    assert_int_equal(lr_io_read_file(mdb, &b), 0);
    const size_t keep[] = {0, 1, 100, 4096, 8191, 8192, 12288, b.len / 2, b.len / 2 + 1};
    for (size_t i = 0; i < LR_COUNT(keep); i++) {
        assert_int_equal(lr_io_write_file(mdb, lr_str(b.p, keep[i]), 0600), 0);
        unlink(lock);
        assert_int_equal(serve_in_child(dir), 0);
    }
    lr_buf_free(&b);
    remove_dir(dir);
}

static void spoiled_document_is_a_miss_a_count_and_gone(void **state)
{
    (void)state;
    char dir[64], mdb[256];
    struct lr_buf b;
    make_dir(dir);
    fill_dir(dir);
    path_in(mdb, dir, "answers.mdb");
    lr_buf_init(&b, LR_MIB(64));
    assert_int_equal(lr_io_read_file(mdb, &b), 0);
    char log[9000];
    uint64_t k = 0;
    while (size_of(k) < 6000)
        k++;
    fill_log(log, size_of(k), k, 0);
    char *at = memmem(b.p, b.len, log + 3000, 100);
    assert_non_null(at);
    *at = (char)(*at ^ 1);
    assert_int_equal(lr_io_write_file(mdb, lr_buf_str(&b), 0600), 0);
    struct lr_answer *s = must_open(dir);
    struct lr_ask a = ask_of(k, NOW);
    struct lr_answer_hit h;
    int64_t before = lr_metric_get(LR_M_CORRUPT);
    assert_int_equal(lr_answer_get(s, &a, &h), LR_FOUND_COLD);
    assert_int_equal(lr_answer_load(s, &a.key), LR_ECORRUPT);
    assert_int_equal(lr_metric_get(LR_M_CORRUPT), before + 1);
    assert_int_equal(lr_answer_get(s, &a, &h), LR_FOUND_NONE);
    assert_string_equal(h.reason, "corrupt");
    lr_answer_close(s);
    s = must_open(dir);
    assert_int_equal(lr_answer_get(s, &a, &h), LR_FOUND_NONE);
    assert_string_equal(h.reason, "new");
    lr_answer_close(s);
    assert_false(set_aside(dir));
    lr_buf_free(&b);
    remove_dir(dir);
}

/* ---- foreign files ---- */

static void write_lmdb(const char *path, const char *db, const char *key, uint32_t major)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    uint32_t v[2] = {major, 0};
    char name[64];
    snprintf(name, sizeof name, "%s", key);
    MDB_val k = {strlen(name), name}, val = {sizeof v, v};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, db, MDB_CREATE, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &val, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void foreign_files_are_set_aside_not_touched(void **state)
{
    (void)state;
    char dir[64], path[256], aside[256];
    make_dir(dir);
    path_in(path, dir, "answers.mdb");
    for (int i = 1; i <= 3; i++) {
        char name[32];
        struct lr_buf was, is;
        lr_buf_init(&was, LR_MIB(1));
        lr_buf_init(&is, LR_MIB(1));
        unlink(path);
        if (i == 1)
            assert_int_equal(lr_io_write_file(path, LR_STR("not a database"), 0600), 0);
        else
            write_lmdb(path, i == 2 ? "other" : "format", "larder-answers", 2);
        assert_int_equal(lr_io_read_file(path, &was), 0);
        struct lr_answer *s = must_open(dir);
        assert_int_equal(put(s, 1, NULL, NULL), 0);
        lr_answer_close(s);
        snprintf(name, sizeof name, "answers.mdb.bad-%d", i);
        path_in(aside, dir, name);
        assert_int_equal(lr_io_read_file(aside, &is), 0);
        assert_true(lr_str_eq(lr_buf_str(&was), lr_buf_str(&is)));
        s = must_open(dir);
        assert_int_equal(check(s, 1), 1);
        lr_answer_close(s);
        lr_buf_free(&was);
        lr_buf_free(&is);
    }
    remove_dir(dir);
}

static void directory_is_private_and_locked(void **state)
{
    (void)state;
    char dir[64];
    struct stat st;
    struct lr_answer *other = NULL;
    make_dir(dir);
    chmod(dir, 0755);
    struct lr_answer *s = must_open(dir);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(try_open(&other, dir, 0, 0), LR_EBUSY);
    lr_answer_close(s);
    assert_int_equal(try_open(&other, dir, 0, 0), 0);
    lr_answer_close(other);
    remove_dir(dir);
}

/* ---- limits ---- */

static void count_ok(void *arg, int rc)
{
    atomic_uint *n = arg;
    if (!rc)
        atomic_fetch_add(n, 1);
}

static void a_full_map_evicts_and_goes_on(void **state)
{
    (void)state;
    char dir[64];
    struct lr_answer *s = NULL;
    atomic_uint ok = 0;
    make_dir(dir);
    /* A map far below the budget: the budget alone would never evict. */
    assert_int_equal(try_open(&s, dir, LR_MIB(8), LR_MIB(2)), 0);
    int64_t evicted = lr_metric_get(LR_M_EVICTED);
    for (uint64_t k = 0; k < 1500; k++) {
        assert_int_equal(put(s, k, count_ok, &ok), 0);
        if (k % 50 == 49)
            lr_answer_flush(s);
    }
    print_message("%u of 1500 stored, %lld evicted\n", ok,
                  (long long)(lr_metric_get(LR_M_EVICTED) - evicted));
    assert_true(ok > 1200 && lr_metric_get(LR_M_EVICTED) > evicted);
    int there = 0;
    for (uint64_t k = 0; k < 1500; k++) {
        int c = check(s, k);
        assert_true(c >= 0);
        there += c;
    }
    assert_true(there > 50);
    lr_answer_close(s);
    assert_int_equal(try_open(&s, dir, LR_MIB(8), LR_MIB(2)), 0);
    for (uint64_t k = 0; k < 1500; k++)
        assert_true(check(s, k) >= 0);
    lr_answer_close(s);
    assert_false(set_aside(dir));
    remove_dir(dir);
}

static void a_smaller_budget_holds_at_the_next_start(void **state)
{
    (void)state;
    char dir[64];
    struct lr_answer *s = NULL;
    struct lr_answer_stats st;
    make_dir(dir);
    fill_dir(dir);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try_open(&s, dir, LR_KIB(128), 0), 0);
        lr_answer_stats(s, &st);
        assert_true(st.entries > 0 && st.bytes <= LR_KIB(128));
        lr_answer_close(s);
    }
    remove_dir(dir);
}

static void a_full_queue_sheds(void **state)
{
    (void)state;
    char dir[64];
    struct lr_answer *s = NULL;
    make_dir(dir);
    struct lr_answer_opts o = {.dir = dir, .queue_max = 4, .commit_ns = 5 * LR_SEC};
    assert_int_equal(lr_answer_open(&s, &o, NULL), 0);
    int64_t shed = lr_metric_get(LR_M_STORE_SHED);
    for (uint64_t k = 0; k < 6; k++)
        assert_int_equal(put(s, k, NULL, NULL), k < 4 ? 0 : LR_EBUSY);
    assert_int_equal(lr_metric_get(LR_M_STORE_SHED), shed + 2);
    assert_int_equal(lr_answer_flush(s), 0);
    assert_int_equal(put(s, 5, NULL, NULL), 0);
    lr_answer_close(s);
    remove_dir(dir);
}

/* ---- every call made to fail once ---- */

static void each_failing_call_is_an_error_and_nothing_is_served_wrong(void **state)
{
    (void)state;
    bool over = false;
    uint64_t n = 1;
    lr_log_set_level(LR_LOG_ERROR);
    for (; !over; n++) {
        char dir[64];
        struct lr_answer *s = NULL;
        assert_true(n < 2000);
        make_dir(dir);
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = try_open(&s, dir, 0, 0);
        for (uint64_t k = 0; !rc && k < 3; k++)
            if (put(s, k, NULL, NULL) == 0)
                assert_true(check(s, k) >= 0);
        if (!rc) {
            struct lr_digest d = key_of(2);
            int flushed = lr_answer_flush(s);
            assert_true(flushed <= 0);
            lr_answer_delete(s, &d);
            struct lr_answer_select all = {.now_ms = NOW};
            uint64_t count, bytes;
            assert_true(lr_answer_purge(s, &all, true, &count, &bytes) <= 0);
        }
        lr_answer_close(s);
        over = lr_fault_seen() < n;
        lr_fault_arm(0);
        s = must_open(dir);
        for (uint64_t k = 0; k < 3; k++)
            assert_true(check(s, k) >= 0);
        assert_true(!over || check(s, 0) == 1);
        lr_answer_close(s);
        remove_dir(dir);
    }
    print_message("%llu fault points\n", (unsigned long long)n);
    lr_log_set_level(LR_LOG_INFO);
}

static void each_failing_call_of_a_restart_keeps_the_file(void **state)
{
    (void)state;
    char dir[64];
    bool over = false;
    make_dir(dir);
    fill_dir(dir);
    for (uint64_t n = 1; !over; n++) {
        struct lr_answer *s = NULL;
        assert_true(n < 2000);
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = try_open(&s, dir, 0, 0);
        for (uint64_t k = 0; !rc && k < 4; k++)
            assert_true(check(s, k) >= 0);
        lr_answer_close(s);
        over = lr_fault_seen() < n;
        lr_fault_arm(0);
    }
    struct lr_answer *s = must_open(dir);
    for (uint64_t k = 0; k < STORED; k++)
        assert_int_equal(check(s, k), 1);
    lr_answer_close(s);
    assert_false(set_aside(dir));
    remove_dir(dir);
}

/* ---- threads ---- */

struct crew {
    struct lr_answer *s;
    atomic_int wrong;
    atomic_uint acked;
};

static void *writer(void *arg)
{
    struct crew *c = arg;
    for (uint64_t i = 0; i < 600; i++)
        put(c->s, i * 7 % 100, count_ok, &c->acked);
    return NULL;
}

static void *reader(void *arg)
{
    struct crew *c = arg;
    for (uint64_t i = 0; i < 3000; i++)
        if (check(c->s, i * 13 % 100) < 0)
            atomic_store(&c->wrong, 1);
    return NULL;
}

static int nothing(void *ctx, const struct lr_answer_entry *e)
{
    (void)ctx;
    return e->bytes == 0;
}

static void *deleter(void *arg)
{
    struct crew *c = arg;
    struct lr_answer_select all = {.now_ms = NOW};
    for (uint64_t i = 0; i < 300; i++) {
        struct lr_digest d = key_of(i * 11 % 100);
        uint64_t cursor = 0;
        lr_answer_delete(c->s, &d);
        lr_answer_touch(c->s, &d, NOW + i);
        if (i % 30 == 0 && lr_answer_list(c->s, &all, &cursor, nothing, NULL))
            atomic_store(&c->wrong, 2);
        if (i % 100 == 0 && lr_answer_flush(c->s))
            atomic_store(&c->wrong, 3);
    }
    return NULL;
}

static void readers_writers_and_a_deleter_agree(void **state)
{
    (void)state;
    char dir[64];
    struct crew c = {0};
    pthread_t t[5];
    void *(*const work[5])(void *) = {writer, writer, reader, reader, deleter};
    make_dir(dir);
    struct lr_answer_opts o = {.dir = dir,
                               .hot_max = LR_KIB(100),
                               .commit_ns = LR_MS,
                               .bytes_max = LR_KIB(400),
                               .wall_ms = test_wall};
    assert_int_equal(lr_answer_open(&c.s, &o, NULL), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(lr_thread_start(&t[i], "crew", work[i], &c), 0);
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(c.wrong, 0);
    lr_answer_close(c.s);
    assert_true(c.acked > 0);
    c.s = must_open(dir);
    for (uint64_t k = 0; k < 100; k++)
        assert_true(check(c.s, k) >= 0);
    lr_answer_close(c.s);
    assert_false(set_aside(dir));
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_by_kill_9),
        cmocka_unit_test(flipped_bits_never_serve_a_wrong_answer),
        cmocka_unit_test(cut_files_start_cold),
        cmocka_unit_test(spoiled_document_is_a_miss_a_count_and_gone),
        cmocka_unit_test(foreign_files_are_set_aside_not_touched),
        cmocka_unit_test(directory_is_private_and_locked),
        cmocka_unit_test(a_full_map_evicts_and_goes_on),
        cmocka_unit_test(a_smaller_budget_holds_at_the_next_start),
        cmocka_unit_test(a_full_queue_sheds),
        cmocka_unit_test(each_failing_call_is_an_error_and_nothing_is_served_wrong),
        cmocka_unit_test(each_failing_call_of_a_restart_keeps_the_file),
        cmocka_unit_test(readers_writers_and_a_deleter_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
