/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_threads.c - many threads on one store, and processes that are killed. The
 * thread sanitizer runs the first, real files carry the second. Argument: [rounds of kill -9]; the suite
 * has 20, `make check-long` 200.
 */
#include "kit.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDS 64

struct worker {
    struct lr_store *s;
    atomic_uint *newest; /* per id: the highest version whose put has begun */
    uint64_t seed;
    unsigned steps;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct lr_rng r;
    lr_rng_seed(&r, w->seed);
    for (unsigned i = 0; i < w->steps; i++) {
        uint32_t id = (uint32_t)lr_rng_below(&r, IDS);
        struct lr_object o = opaque(id, 0);
        struct lr_digest ids[3];
        struct lr_view *v;
        switch (lr_rng_below(&r, 10)) {
        case 0:
            lr_store_del(w->s, &o.id, 0, 0);
            break;
        case 1:
            lr_store_pin(w->s, &o.id, lr_rng_below(&r, 2) ? UINT64_MAX : 0, 0, 0);
            break;
        case 2:
            for (uint32_t k = 0; k < 3; k++)
                ids[k] = opaque((id + k) % IDS, 0).id;
            lr_store_prefix(w->s, ids, 3, true, NULL);
            break;
        case 3:
        case 4:
        case 5:
            put_version(w->s, &o, id, atomic_fetch_add(&w->newest[id], 1) + 1, 0);
            break;
        case 6: {
            int rc = lr_store_get(w->s, &o.id, &o, lr_clock_mono_ns() + 100 * LR_US, &v);
            if (!rc) {
                assert_true(version_in(id, lr_view_bytes(v)) <= atomic_load(&w->newest[id]));
                lr_view_put(v);
            }
            break;
        }
        default: {
            int64_t version = get_version(w->s, &o, id);
            assert_true(version <= (int64_t)atomic_load(&w->newest[id]));
        }
        }
    }
    return NULL;
}

static void threads_see_whole_values_only(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct fs *f = fs_new(false);
    struct lr_store *s;
    atomic_uint newest[IDS] = {0};
    struct lr_store_opts o = {.mem_max = LR_MIB(1),
                              .dir = "d",
                              .vfs = &f->vfs,
                              .disk_max = LR_MIB(2),
                              .segment_bytes = LR_KIB(128),
                              .late_ms = 60000,
                              .shards = 4};
    assert_int_equal(lr_store_open(&s, &o, NULL), 0);
    pthread_t t[THREADS];
    struct worker w[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.s = s, .newest = newest, .seed = 50 + i, .steps = 1500};
        assert_int_equal(lr_thread_start(&t[i], "worker", work, &w[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    struct lr_store_stats st;
    lr_store_stats(s, &st);
    print_message("%llu hits in memory, %llu on disk, %llu freed\n",
                  (unsigned long long)st.count[LR_STORE_HIT_MEMORY],
                  (unsigned long long)st.count[LR_STORE_HIT_DISK],
                  (unsigned long long)st.count[LR_STORE_SEGMENTS_FREED]);
    assert_int_equal(st.count[LR_STORE_MISS_CORRUPT], 0);
    assert_true(lr_room_sound(s->room));
    lr_store_close(s);
    fs_free(f);
}

/* ---- kill -9 ---- */

/* What the child has done; shared with the parent. */
struct log {
    atomic_uint begun[IDS], durable[IDS]; /* versions */
};

static struct lr_store_opts real(const char *dir)
{
    return (struct lr_store_opts){.mem_max = LR_MIB(2),
                                  .dir = dir,
                                  .disk_max = LR_MIB(16),
                                  .segment_bytes = LR_MIB(1),
                                  .readers = 1};
}

static void child(const char *dir, struct log *log, uint64_t seed)
{
    struct lr_store *s;
    struct lr_store_opts o = real(dir);
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    if (lr_store_open(&s, &o, NULL))
        _exit(1);
    for (;;) {
        uint32_t id = (uint32_t)lr_rng_below(&r, IDS);
        struct lr_object obj = opaque(id, 0);
        if (lr_rng_below(&r, 3) == 0) {
            get_version(s, &obj, id);
            continue;
        }
        unsigned flags = lr_rng_below(&r, 4) ? 0 : LR_PUT_DURABLE;
        uint32_t version = atomic_fetch_add(&log->begun[id], 1) + 1;
        if (!put_version(s, &obj, id, version, flags) && flags)
            atomic_store(&log->durable[id], version);
    }
}

static uint64_t rounds = 20;

static void a_killed_store_comes_back_with_all_that_was_durable(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-kill-XXXXXX", rm[64];
    uint64_t durable = 0, back = 0;
    assert_non_null(mkdtemp(dir));
    struct log *log = mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(log != MAP_FAILED);
    for (uint64_t round = 0; round < rounds; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            child(dir, log, round);
        lr_clock_sleep_ns((15 + round % 40) * LR_MS);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        struct lr_store *s;
        struct lr_store_opts o = real(dir);
        assert_int_equal(lr_store_open(&s, &o, NULL), 0);
        for (uint32_t id = 0; id < IDS; id++) {
            struct lr_object obj = opaque(id, 0);
            uint32_t least = atomic_load(&log->durable[id]), most = atomic_load(&log->begun[id]);
            int64_t v = get_version(s, &obj, id);
            durable += least > 0;
            back += v > 0;
            assert_true(v <= (int64_t)most);
            /* Absent only when a newer put, not durable, was dropped. */
            assert_true(v < 0 ? least < most || !least : v >= (int64_t)least);
        }
        lr_store_close(s);
    }
    print_message("%llu rounds: %llu durable, %llu came back\n", (unsigned long long)rounds,
                  (unsigned long long)durable,
                  (unsigned long long)back);
    munmap(log, sizeof *log);
    assert_true(snprintf(rm, sizeof rm, "rm -r %s", dir) > 0);
    assert_int_equal(system(rm), 0);
}

/* With and without io_uring and direct I/O the same bytes come back. */
static void any_way_to_the_disk_reads_the_same(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-ways-XXXXXX", rm[64];
    assert_non_null(mkdtemp(dir));
    static uint8_t big[3 << 20], out[3 << 20];
    value_of(9, 1, big, sizeof big);
    for (int way = 0; way < 4; way++) {
        struct lr_store *s;
        struct lr_store_opts o = real(dir);
        o.mem_max = LR_MIB(16);
        o.no_uring = way & 1;
        o.no_direct = way & 2;
        assert_int_equal(lr_store_open(&s, &o, NULL), 0);
        struct lr_store_stats st;
        lr_store_stats(s, &st);
        assert_false((st.uring && o.no_uring) || (st.direct && o.no_direct));
        struct lr_object x = opaque(9, sizeof big), small = opaque((uint32_t)way, 0);
        if (way == 0)
            assert_int_equal(lr_store_put(s, &x, &(struct lr_piece){0, big, sizeof big}, 1, false,
                                          LR_PUT_DURABLE, LR_FOREVER),
                             0);
        assert_int_equal(put_version(s, &small, (uint32_t)way, 1, LR_PUT_DURABLE), 0);
        struct lr_range q = {.id = x.id, .want = &x, .dst = out, .n = sizeof out};
        assert_int_equal(lr_store_read(s, &q, 1, LR_FOREVER), 1);
        assert_memory_equal(out, big, sizeof big);
        for (uint32_t k = 0; k <= (uint32_t)way; k++) {
            small = opaque(k, 0);
            assert_int_equal(get_version(s, &small, k), 1);
        }
        struct lr_store *again;
        assert_int_equal(lr_store_open(&again, &o, NULL), LR_EBUSY);
        lr_store_close(s);
    }
    assert_true(snprintf(rm, sizeof rm, "rm -r %s", dir) > 0);
    assert_int_equal(system(rm), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_store_comes_back_with_all_that_was_durable),
        cmocka_unit_test(threads_see_whole_values_only),
        cmocka_unit_test(any_way_to_the_disk_reads_the_same),
    };
    if (argc > 1)
        lr_parse_u64(lr_strz(argv[1]), &rounds);
    lr_log_set_level(LR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
