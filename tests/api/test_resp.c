/* SPDX-License-Identifier: Apache-2.0
 * tests/api/test_resp.c - the Redis door of a running daemon: redis-cli, credentials, restarts, and
 * kill -9 under load (ROUNDS here; more by the first argument).
 */
#include "resp_kit.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static unsigned rounds = 20;

static struct gw *start(const char *dir)
{
    static const char *const args[] = {"--resp", "127.0.0.1:0", "--kv-memory", "32M", "--kv-disk", "128M", NULL};
    return gw_start(NULL, dir, args);
}

/* What redis-cli prints; false: it is not installed. */
static bool cli(int port, const char *args, char *out, size_t cap)
{
    char command[1024];
    snprintf(command, sizeof command, "redis-cli -p %d %s 2>&1", port, args);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, cap - 1, f);
    out[n] = 0;
    return WEXITSTATUS(pclose(f)) != 127;
}

static void redis_cli_stores_reads_and_lists(void **state)
{
    (void)state;
    static const char *const flows[][2] = {
        {"ping", "PONG\n"}, {"set greeting hello ex 100", "OK\n"}, {"get greeting", "hello\n"},
        {"ttl greeting", "100\n"}, {"mset a 1 b 2", "OK\n"}, {"mget a b c", "1\n2\n\n"},
        {"exists a b c", "2\n"}, {"--scan --pattern 'g*'", "greeting\n"}, {"dbsize", "3\n"},
        {"-n 2 dbsize", "0\n"}, {"unlink a", "1\n"}, {"-3 get nothing", "\n"}, {"strlen b", "1\n"},
        {"flushdb", "OK\n"}, {"dbsize", "0\n"}, {"config get databases", "databases\n256\n"}};
    char out[4096];
    struct gw *g = start(NULL);
    int port = resp_port(g);
    if (!cli(port, "--version", out, sizeof out)) {
        print_message("SKIPPED: redis-cli is not installed (redis-tools)\n");
        gw_stop(g, SIGTERM);
        gw_free(g);
        skip();
    }
    for (size_t i = 0; i < sizeof flows / sizeof flows[0]; i++) {
        assert_true(cli(port, flows[i][0], out, sizeof out));
        if (strcmp(out, flows[i][1]) && strcmp(flows[i][0], "ttl greeting"))
            fail_msg("redis-cli %s printed '%s'", flows[i][0], out);
    }
    assert_true(cli(port, "info", out, sizeof out));
    assert_non_null(strstr(out, "server_name:larder"));
    struct resp m = http(g->port, "GET", "/metrics", "", "");
    assert_non_null(strstr(m.body, "larder_kv_gets_total"));
    resp_free(&m);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

static void beyond_loopback_it_does_not_start_without_keys(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-resp-XXXXXX", out[4096];
    assert_non_null(mkdtemp(dir));
    const char *const args[] = {"serve", "--listen", "127.0.0.1:0", "--resp", "0.0.0.0:0", "--data", dir, NULL};
    assert_int_not_equal(larder(out, sizeof out, args), 0);
    rmdir(dir);
}

/* ---- killed under load ---- */

#define KEYS 64

struct load {
    int port;
    atomic_bool stop;
    pthread_mutex_t mu;
    uint32_t sent[KEYS], acked[KEYS]; /* versions; sent before its SET goes out */
    unsigned seed;
};

/* Version v of key k: its first bytes say so, the rest follows from them. */
static size_t value(unsigned k, uint32_t v, unsigned char *p)
{
    size_t n = 64 + (k * 2654435761u + v * 40503u) % (k % 4 ? 3000 : 90000);
    uint32_t x = k * 7919u + v;
    memcpy(p, &k, 4);
    memcpy(p + 4, &v, 4);
    for (size_t i = 8; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (unsigned char)(x >> 24);
    }
    return n;
}

static bool take(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = recv(fd, (char *)p + at, n - at, 0);
        if (k <= 0)
            return false;
        at += (size_t)k;
    }
    return true;
}

static bool set(int fd, unsigned k, uint32_t v)
{
    static _Thread_local unsigned char p[100000];
    char head[96], ok[5];
    size_t n = value(k, v, p);
    int h = snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$4\r\nk%03u\r\n$%zu\r\n", k, n);
    return send_all(fd, head, (size_t)h) && send_all(fd, (char *)p, n) && send_all(fd, "\r\n", 2) &&
           take(fd, ok, 5) && !memcmp(ok, "+OK\r\n", 5);
}

static void *write_on(void *arg)
{
    struct load *l = arg;
    int fd = dial(l->port);
    unsigned x = l->seed;
    while (!atomic_load(&l->stop)) {
        x = x * 1103515245u + 12345u;
        unsigned k = (x >> 16) % KEYS;
        pthread_mutex_lock(&l->mu);
        uint32_t v = ++l->sent[k];
        bool ok = set(fd, k, v);
        if (ok)
            l->acked[k] = v;
        pthread_mutex_unlock(&l->mu);
        if (!ok)
            break;
    }
    close(fd);
    return NULL;
}

/* The version found; -1: none. Every byte must be its own. */
static int64_t get(int fd, unsigned k)
{
    static unsigned char got[100000], want[100000];
    char head[64], c = 0;
    int n = snprintf(head, sizeof head, "*2\r\n$3\r\nGET\r\n$4\r\nk%03u\r\n", k);
    assert_true(send_all(fd, head, (size_t)n));
    size_t at = 0;
    for (; c != '\n'; at++) {
        assert_true(at < sizeof head && take(fd, &c, 1));
        head[at] = c;
    }
    if (head[1] == '-')
        return -1;
    size_t size = strtoul(head + 1, NULL, 10);
    assert_true(size + 2 <= sizeof got && take(fd, got, size + 2));
    uint32_t key, v;
    memcpy(&key, got, 4);
    memcpy(&v, got + 4, 4);
    assert_int_equal(key, k);
    assert_int_equal(value(k, v, want), size);
    assert_memory_equal(got, want, size);
    return v;
}

static void killed_under_load_it_comes_back_with_what_was_synced(void **state)
{
    (void)state;
    struct load l = {.mu = PTHREAD_MUTEX_INITIALIZER};
    uint32_t floor[KEYS] = {0}; /* acknowledged half a second before the kill, in all rounds */
    uint64_t found = 0;
    struct gw *g = start(NULL);
    char dir[256];
    snprintf(dir, sizeof dir, "%s", g->dir);
    for (unsigned round = 0; round < rounds; round++) {
        pthread_t t;
        l.port = resp_port(g);
        l.seed = round * 77 + 1;
        atomic_store(&l.stop, false);
        assert_int_equal(pthread_create(&t, NULL, write_on, &l), 0);
        sleep_ms(100 + (int)(round * 37 % 100));
        uint32_t before[KEYS];
        pthread_mutex_lock(&l.mu);
        memcpy(before, l.acked, sizeof before);
        pthread_mutex_unlock(&l.mu);
        /* An entry older than this that comes back would be older than what was on disk by then. */
        sleep_ms(500);
        assert_int_equal(gw_stop(g, SIGKILL), 128 + SIGKILL);
        atomic_store(&l.stop, true);
        pthread_join(t, NULL);
        free(g);
        g = start(dir);
        int fd = dial(resp_port(g));
        for (unsigned k = 0; k < KEYS; k++) {
            int64_t v = get(fd, k);
            floor[k] = before[k] > floor[k] ? before[k] : floor[k];
            if (v >= 0 && (v < floor[k] || v > l.sent[k]))
                fail_msg("round %u key %u: version %lld, at least %u was there half a second before",
                         round, k, (long long)v, floor[k]);
            found += v >= 0;
        }
        close(fd);
    }
    print_message("%u rounds: %llu of %u values came back\n", rounds, (unsigned long long)found,
                  rounds * KEYS);
    assert_true(found > rounds * KEYS / 4);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_cli_stores_reads_and_lists),
        cmocka_unit_test(beyond_loopback_it_does_not_start_without_keys),
        cmocka_unit_test(killed_under_load_it_comes_back_with_what_was_synced),
    };
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
