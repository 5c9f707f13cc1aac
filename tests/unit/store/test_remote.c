/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/store/test_remote.c - the remote tier: what one store puts another finds; a server that
 * hangs, cuts, lies or is dead makes misses, never a wrong byte and never a stall.
 *
 * The server is a thread of this program that speaks just enough of the protocol and misbehaves as
 * told; the last test asks Debian's redis-server, where there is one. With the argument "write" it
 * writes tests/golden/remote-v1.txt.
 */
#include "kit.h"

#ifndef LR_HAVE_HIREDIS
int main(void)
{
    puts("SKIPPED: built without hiredis");
    return 77;
}
#else

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GOLDEN LR_SOURCE_DIR "/tests/golden/remote-v1.txt"
#define KEYS   64
#define LINKS  8

/* ---- the server ---- */

enum mood { GOOD, HANG, CUT, FLIP, OTHER, MOVED, DRIP, ARRAY, HUGE_BULK, TWICE, NOISE, CLOSE, MOODS };

struct server {
    int fd;
    uint16_t port;
    atomic_int mood;
    atomic_bool stop;
    atomic_uint gets, sets;
    pthread_t thread, link[LINKS];
    int link_fd[LINKS];
    unsigned n_links;
    pthread_mutex_t mu; /* guards all below */
    struct pair {
        char key[80];
        uint8_t *p;
        size_t n;
    } pair[KEYS];
    char first_set[1024]; /* the first SET as it came, its value in hex */
};

struct link {
    struct server *s;
    int fd;
    uint8_t *buf;
    size_t n, cap, at;
};

static bool fill(struct link *l)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 65536;
        l->buf = realloc(l->buf, l->cap);
    }
    while (!l->s->stop) {
        struct pollfd p = {l->fd, POLLIN, 0};
        if (poll(&p, 1, 10) <= 0)
            continue;
        ssize_t k = read(l->fd, l->buf + l->n, l->cap - l->n);
        l->n += k > 0 ? (size_t)k : 0;
        return k > 0;
    }
    return false;
}

/* The number of a line "*12" or "$12"; -1: the connection ended. */
static long line(struct link *l)
{
    for (;;) {
        for (size_t i = l->at; i + 1 < l->n; i++)
            if (l->buf[i] == '\r' && l->buf[i + 1] == '\n') {
                long v = strtol((char *)l->buf + l->at + 1, NULL, 10);
                l->at = i + 2;
                return v;
            }
        if (!fill(l))
            return -1;
    }
}

static void say(struct link *l, const void *p, size_t n)
{
    for (size_t at = 0; at < n && !l->s->stop;) {
        size_t part = l->s->mood == DRIP ? 1 : n - at;
        ssize_t k = send(l->fd, (const uint8_t *)p + at, part, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        at += (size_t)k;
        if (l->s->mood == DRIP)
            lr_clock_sleep_ns(2 * LR_MS);
    }
}

static void says(struct link *l, const char *text)
{
    say(l, text, strlen(text));
}

static struct pair *find(struct server *s, const uint8_t *key, size_t n)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strlen(s->pair[i].key) == n && !memcmp(s->pair[i].key, key, n))
            return &s->pair[i];
    return NULL;
}

static void set(struct server *s, const uint8_t *key, size_t key_n, const uint8_t *p, size_t n)
{
    struct pair *x = find(s, key, key_n);
    for (size_t i = 0; !x && i < KEYS; i++)
        x = s->pair[i].key[0] ? NULL : &s->pair[i];
    assert(x && key_n < sizeof x->key);
    memcpy(x->key, key, key_n);
    free(x->p);
    x->p = malloc(n + 1);
    memcpy(x->p, p, n);
    x->n = n;
}

static void get(struct link *l, const uint8_t *key, size_t n)
{
    struct server *s = l->s;
    struct pair *x = find(s, key, n);
    char head[32];
    int mood = s->mood;
    for (size_t i = 0; mood == OTHER && i < KEYS; i++)
        if (s->pair[i].key[0] && &s->pair[i] != x) {
            x = &s->pair[i];
            break;
        }
    if (!x) {
        says(l, "$-1\r\n");
        return;
    }
    uint8_t *copy = malloc(x->n + 2);
    memcpy(copy, x->p, x->n);
    memcpy(copy + x->n, "\r\n", 2);
    if (mood == FLIP)
        copy[atomic_load(&s->gets) * 37 % x->n] ^= 4;
    snprintf(head, sizeof head, "$%zu\r\n", x->n);
    says(l, head);
    say(l, copy, mood == CUT ? x->n / 2 : x->n + 2);
    if (mood == CUT)
        shutdown(l->fd, SHUT_RDWR);
    if (mood == TWICE) {
        says(l, head);
        say(l, copy, x->n + 2);
    }
    free(copy);
}

static void answer(struct link *l, struct lr_str *w, long n)
{
    struct server *s = l->s;
    struct pair *x = n > 1 ? find(s, (const uint8_t *)w[1].p, w[1].n) : NULL;
    s->gets += lr_str_is(w[0], "GET");
    switch ((enum mood)s->mood) {
    case MOVED:
        says(l, "-MOVED 1234 10.0.0.1:6379\r\n");
        return;
    case ARRAY:
        says(l, "*1000000000\r\n");
        return;
    case HUGE_BULK:
        says(l, "$536870000\r\nabc");
        return;
    case NOISE:
        says(l, "HTTP/1.1 400 Bad Request\r\n\r\n");
        return;
    case CLOSE:
        shutdown(l->fd, SHUT_RDWR);
        return;
    default:
        break;
    }
    if (lr_str_is(w[0], "GET"))
        get(l, (const uint8_t *)w[1].p, w[1].n);
    else if (lr_str_is(w[0], "EXISTS"))
        says(l, x ? ":1\r\n" : ":0\r\n");
    else if (lr_str_is(w[0], "DEL")) {
        if (x) {
            free(x->p);
            *x = (struct pair){0};
        }
        says(l, ":1\r\n");
    } else if (lr_str_is(w[0], "SET")) {
        bool nx = n > 3 && lr_str_is(w[3], "NX");
        if (!nx || !x)
            set(s, (const uint8_t *)w[1].p, w[1].n, (const uint8_t *)w[2].p, w[2].n);
        s->sets++;
        says(l, nx && x ? "$-1\r\n" : "+OK\r\n");
    } else
        says(l, "-ERR unknown command\r\n");
}

static void keep_first(struct server *s, const struct lr_str *w, long n)
{
    if (!lr_str_is(w[0], "SET") || s->first_set[0])
        return;
    size_t at = 0;
    for (long i = 0; i < n; i++)
        at += (size_t)snprintf(s->first_set + at, sizeof s->first_set - at, "%.*s\n",
                               i == 2 ? 0 : (int)w[i].n, w[i].p);
    at += (size_t)snprintf(s->first_set + at, sizeof s->first_set - at, "value of %zu bytes: ", w[2].n);
    for (size_t i = 0; i < w[2].n && i < 300; i++)
        at += (size_t)snprintf(s->first_set + at, sizeof s->first_set - at, "%02x",
                               (unsigned)(uint8_t)w[2].p[i]);
    snprintf(s->first_set + at, sizeof s->first_set - at, "\n");
}

static void *serve_link(void *arg)
{
    struct link *l = arg;
    for (;;) {
        struct lr_str w[8];
        size_t at[8], len[8];
        long n = line(l);
        bool whole = n > 0 && n <= 8;
        for (long i = 0; i < n && whole; i++) {
            long k = line(l);
            whole = k >= 0;
            while (whole && l->n - l->at < (size_t)k + 2)
                whole = fill(l);
            at[i] = l->at;
            len[i] = (size_t)k;
            l->at += (size_t)k + 2;
        }
        if (!whole)
            break;
        for (long i = 0; i < n; i++)
            w[i] = lr_str(l->buf + at[i], len[i]);
        while (l->s->mood == HANG && !l->s->stop)
            lr_clock_sleep_ns(LR_MS);
        pthread_mutex_lock(&l->s->mu);
        keep_first(l->s, w, n);
        answer(l, w, n);
        pthread_mutex_unlock(&l->s->mu);
        memmove(l->buf, l->buf + l->at, l->n - l->at);
        l->n -= l->at;
        l->at = 0;
    }
    close(l->fd);
    free(l->buf);
    free(l);
    return NULL;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    pthread_t links[512];
    size_t n = 0;
    while (!s->stop) {
        struct pollfd p = {s->fd, POLLIN, 0};
        if (poll(&p, 1, 5) <= 0)
            continue;
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            continue;
        struct link *l = calloc(1, sizeof *l);
        l->s = s;
        l->fd = fd;
        assert(n < LR_COUNT(links) && !pthread_create(&links[n], NULL, serve_link, l));
        n++;
    }
    while (n)
        pthread_join(links[--n], NULL);
    return NULL;
}

static struct server *server_new(void)
{
    struct server *s = calloc(1, sizeof *s);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 64), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    pthread_mutex_init(&s->mu, NULL);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    return s;
}

static void server_free(struct server *s)
{
    s->stop = true;
    pthread_join(s->thread, NULL);
    close(s->fd);
    for (size_t i = 0; i < KEYS; i++)
        free(s->pair[i].p);
    pthread_mutex_destroy(&s->mu);
    free(s);
}

/* ---- stores of it ---- */

static uint64_t fixed_now(void *arg)
{
    (void)arg;
    return 1700000000000;
}

static int try_open(struct lr_store **out, uint16_t port, uint32_t ms, const char *who)
{
    char url[100];
    snprintf(url, sizeof url, "redis://%s127.0.0.1:%u%s", who, port, *who ? "/3" : "");
    struct lr_store_opts o = {
        .mem_max = LR_MIB(8), .remote = url, .remote_ms = ms, .now_ms = fixed_now};
    return lr_store_open(out, &o, NULL);
}

static struct lr_store *open_on(uint16_t port, uint32_t ms)
{
    struct lr_store *s;
    assert_int_equal(try_open(&s, port, ms, ""), 0);
    return s;
}

/* Holds less than the server: what left it comes back from there. */
static struct lr_store *small_on(uint16_t port)
{
    char url[40];
    struct lr_store *s;
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", port);
    struct lr_store_opts o = {.mem_max = LR_MIB(1), .remote = url, .remote_ms = 50};
    assert_int_equal(lr_store_open(&s, &o, NULL), 0);
    return s;
}

static void wait_for(struct lr_store *s, enum lr_store_count c, uint64_t n)
{
    for (int i = 0; counted(s, c) < n; i++) {
        if (i > 60000)
            fail_msg("%s stays at %llu", lr_store_count_name(c), (unsigned long long)counted(s, c));
        lr_clock_sleep_ns(LR_MS);
    }
}

static void put_all(struct lr_store *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct lr_object o = content(i, 0);
        assert_int_equal(put_version(s, &o, i, 1, 0), 0);
    }
}

/* ---- laws ---- */

static void what_one_store_puts_another_finds(void **state)
{
    (void)state;
    enum { N = 40 };
    struct server *v = server_new();
    struct lr_store *a = open_on(v->port, 60000), *b = open_on(v->port, 60000);
    struct lr_object o = opaque(1, 0);
    assert_int_equal(put_version(a, &o, 1, 1, 0), 0); /* stays at home */
    put_all(a, N);
    wait_for(a, LR_STORE_REMOTE_WRITES, N);
    assert_int_equal(v->sets, N);
    assert_int_equal(get_version(b, &o, 1), -1);
    for (uint32_t i = 0; i < N; i++) {
        o = content(i, 0);
        assert_int_equal(get_version(b, &o, i), 1);
        assert_int_equal(get_version(b, &o, i), 1);
    }
    assert_int_equal(counted(b, LR_STORE_HIT_REMOTE), N);
    assert_int_equal(counted(b, LR_STORE_HIT_MEMORY), N);
    assert_int_equal(v->gets, N);
    o = content(7, 0);
    assert_int_equal(lr_store_del(b, &o.id, 0, 0), 0);
    wait_for(b, LR_STORE_REMOTE_WRITES, 1);
    lr_store_close(a);
    lr_store_close(b);
    a = open_on(v->port, 60000);
    assert_int_equal(get_version(a, &o, 7), -1);
    struct lr_store_stats st;
    lr_store_stats(a, &st);
    assert_true(st.remote && st.remote_ok);
    lr_store_close(a);
    server_free(v);
}

static void another_layout_is_another_object(void **state)
{
    (void)state;
    struct server *v = server_new();
    struct lr_store *a = open_on(v->port, 60000), *b = open_on(v->port, 60000);
    put_all(a, 1);
    wait_for(a, LR_STORE_REMOTE_WRITES, 1);
    struct lr_object o = content(0, 0), other = o;
    struct lr_view *view;
    other.layout.dtype = LR_DTYPE_BF16; /* asked for under the first one's id */
    assert_int_equal(lr_store_get(b, &o.id, &other, LR_FOREVER, &view), LR_ENOENT);
    assert_int_equal(counted(b, LR_STORE_MISS_LAYOUT), 1);
    assert_int_equal(get_version(b, &o, 0), 1);
    lr_store_close(a);
    lr_store_close(b);
    server_free(v);
}

static void a_chain_is_found_and_fetched_ahead(void **state)
{
    (void)state;
    enum { N = 12, HOLE = 8 };
    struct server *v = server_new();
    struct lr_store *a = open_on(v->port, 60000), *b = open_on(v->port, 60000);
    struct lr_digest ids[N];
    size_t memory;
    for (uint32_t i = 0; i < N; i++) {
        struct lr_object o = content(i, 0);
        ids[i] = o.id;
        if (i != HOLE)
            assert_int_equal(put_version(a, &o, i, 1, 0), 0);
    }
    wait_for(a, LR_STORE_REMOTE_WRITES, N - 1);
    assert_int_equal(lr_store_prefix(b, ids, N, true, NULL), 0);
    assert_int_equal(lr_store_prefix_within(b, ids, N, false, 0, NULL), 0);
    uint32_t gets = v->gets;
    assert_int_equal(lr_store_prefix_within(b, ids, N, false, LR_FOREVER, &memory), HOLE);
    assert_int_equal(memory, 0);
    assert_int_equal(v->gets, gets); /* asked, not fetched */
    assert_int_equal(lr_store_prefix_within(b, ids, N, true, LR_FOREVER, NULL), HOLE);
    for (int i = 0; i < 60000 && lr_store_prefix(b, ids, N, false, &memory) < HOLE; i++)
        lr_clock_sleep_ns(LR_MS);
    assert_int_equal(lr_store_prefix(b, ids, N, false, &memory), HOLE);
    assert_int_equal(memory, HOLE);
    lr_store_close(a);
    lr_store_close(b);
    server_free(v);
}

/* Whatever the server does: the right bytes or a miss, and the store goes on. */
static void no_mood_of_the_server_makes_a_wrong_byte(void **state)
{
    (void)state;
    enum { N = 6 };
    for (int mood = HANG; mood < MOODS; mood++) {
        struct server *v = server_new();
        struct lr_store *a = open_on(v->port, 60000), *b;
        put_all(a, N);
        wait_for(a, LR_STORE_REMOTE_WRITES, N);
        lr_store_close(a);
        b = open_on(v->port, 30);
        v->mood = mood;
        uint64_t hits = 0;
        for (uint32_t i = 0; i < N; i++) {
            struct lr_object o = content(i, 0);
            hits += get_version(b, &o, i) == 1; /* LR_FOREVER: the remote tier's own patience ends it */
            struct lr_object more = content(i + 20, 0);
            assert_int_equal(put_version(b, &more, i + 20, 1, 0), 0);
        }
        if (mood != TWICE && mood != FLIP)
            assert_int_equal(hits, 0);
        if (mood == FLIP || mood == OTHER)
            assert_true(counted(b, LR_STORE_REMOTE_BAD) > 0);
        else
            assert_true(counted(b, LR_STORE_REMOTE_ERRORS) > 0);
        v->mood = GOOD;
        struct lr_object o = content(N - 1, 0);
        for (int i = 0; i < 60000 && get_version(b, &o, N - 1) < 0; i++)
            lr_clock_sleep_ns(LR_MS); /* the breaker closes by itself */
        assert_int_equal(get_version(b, &o, N - 1), 1);
        lr_store_close(b);
        server_free(v);
    }
}

static void a_caller_waits_no_longer_than_it_wants(void **state)
{
    (void)state;
    struct server *v = server_new();
    struct lr_store *s = open_on(v->port, 600000);
    v->mood = HANG;
    struct lr_object o = content(1, 0);
    struct lr_view *view;
    assert_int_equal(lr_store_get(s, &o.id, &o, 0, &view), LR_ENOENT);
    assert_int_equal(lr_store_get(s, &o.id, &o, lr_clock_mono_ns() + 5 * LR_MS, &view), LR_ETIMEOUT);
    assert_int_equal(lr_store_prefix_within(s, &o.id, 1, true, lr_clock_mono_ns() + 5 * LR_MS, NULL), 0);
    for (uint32_t i = 0; i < 900; i++) { /* more than the queue holds */
        o = content(i, 0);
        assert_int_equal(put_version(s, &o, i, 1, 0), 0);
    }
    assert_true(counted(s, LR_STORE_REMOTE_DROPS) > 0);
    lr_store_close(s); /* nor does a close */
    server_free(v);
}

static void a_dead_server_costs_misses_only(void **state)
{
    (void)state;
    struct server *v = server_new();
    uint16_t port = v->port;
    server_free(v);
    struct lr_store *s = open_on(port, 60000);
    for (uint32_t i = 0; i < 200; i++) {
        struct lr_object o = content(i % 50, 0);
        if (i < 50)
            assert_int_equal(get_version(s, &o, i), -1);
        if (i < 50)
            assert_int_equal(put_version(s, &o, i, 1, 0), 0);
        assert_int_equal(get_version(s, &o, i % 50), 1);
    }
    assert_true(counted(s, LR_STORE_MISS_REMOTE) > 0);
    lr_store_close(s);
}

static void addresses_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "redis://", "http://h:1", "redis://h:0", "redis://h:70000",
                                      "redis://h:6379/x", "redis://h/100", "redis://u:p@"};
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_store *s;
        struct lr_store_opts o = {.mem_max = LR_MIB(1), .remote = bad[i]};
        assert_int_equal(lr_store_open(&s, &o, NULL), LR_EINVAL);
    }
}

static void golden_file_is_what_is_sent(void **state)
{
    struct server *v = server_new();
    struct lr_store *s = open_on(v->port, 60000);
    struct lr_object o = content(3, 5);
    o.created_ms = 1700000000000;
    o.expires_ms = 1700000060000;
    assert_int_equal(
        lr_store_put(s, &o, &(struct lr_piece){0, "hello", 5}, 1, false, 0, LR_FOREVER), 0);
    wait_for(s, LR_STORE_REMOTE_WRITES, 1);
    lr_store_close(s);
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    if (!state) {
        assert_int_equal(lr_io_write_file(GOLDEN, lr_strz(v->first_set), 0644), 0);
    } else {
        assert_int_equal(lr_io_read_file(GOLDEN, &b), 0);
        assert_int_equal(b.len, strlen(v->first_set));
        assert_memory_equal(b.p, v->first_set, b.len);
    }
    lr_buf_free(&b);
    server_free(v);
}

struct worker {
    struct lr_store *s;
    struct server *v;
    uint64_t seed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct lr_rng r;
    lr_rng_seed(&r, w->seed);
    for (int i = 0; i < 1500; i++) {
        uint32_t id = (uint32_t)lr_rng_below(&r, 60);
        struct lr_object o = content(id, 0);
        uint64_t dice = lr_rng_below(&r, 20);
        if (lr_rng_below(&r, 500) == 0)
            w->v->mood = (int)lr_rng_below(&r, MOODS);
        else if (dice < 2)
            w->v->mood = GOOD;
        else if (dice < 3)
            lr_store_del(w->s, &o.id, 0, 0);
        else if (dice < 9)
            put_version(w->s, &o, id, 1, 0);
        else if (dice < 11)
            lr_store_prefix_within(w->s, &o.id, 1, true, lr_clock_mono_ns() + LR_MS, NULL);
        else {
            struct lr_view *v;
            if (!lr_store_get(w->s, &o.id, &o, lr_clock_mono_ns() + 2 * LR_MS, &v)) {
                assert_int_equal(version_in(id, lr_view_bytes(v)), 1);
                lr_view_put(v);
            }
        }
    }
    return NULL;
}

static void threads_beside_a_moody_server_see_whole_values(void **state)
{
    (void)state;
    struct server *v = server_new();
    struct lr_store *s[2] = {small_on(v->port), small_on(v->port)};
    pthread_t t[4];
    struct worker w[4];
    for (unsigned i = 0; i < 4; i++) {
        w[i] = (struct worker){s[i % 2], v, 90 + i};
        assert_int_equal(lr_thread_start(&t[i], "worker", work, &w[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    print_message("%llu hits in the remote tier, %llu bad values, %llu errors\n",
                  (unsigned long long)(counted(s[0], LR_STORE_HIT_REMOTE) + counted(s[1], LR_STORE_HIT_REMOTE)),
                  (unsigned long long)counted(s[0], LR_STORE_REMOTE_BAD),
                  (unsigned long long)counted(s[0], LR_STORE_REMOTE_ERRORS));
    v->mood = GOOD;
    lr_store_close(s[0]);
    lr_store_close(s[1]);
    server_free(v);
}

/* Every allocation fails once, while another thread may be at one as well. */
static void any_single_fault_is_a_result(void **state)
{
    (void)state;
    struct server *v = server_new();
    for (uint64_t n = 1; n < 60; n++) {
        struct lr_store *s;
        lr_fault_arm(n);
        int rc = try_open(&s, v->port, 1000, "");
        for (uint32_t i = 0; i < 3 && !rc; i++) {
            struct lr_object o = content(i, 0);
            struct lr_view *view;
            (void)lr_store_prefix_within(s, &o.id, 1, true, lr_clock_mono_ns() + 20 * LR_MS, NULL);
            int got = lr_store_get(s, &o.id, &o, LR_FOREVER, &view);
            if (!got) {
                version_in(i, lr_view_bytes(view));
                lr_view_put(view);
            }
            (void)put_version(s, &o, i, 1, 0); /* a fault is a result */
        }
        if (!rc)
            lr_store_close(s);
        lr_fault_arm(0);
        assert_true(rc <= 0);
    }
    server_free(v);
}

/* ---- Debian's ---- */

static pid_t start_redis(uint16_t port)
{
    char text[8];
    snprintf(text, sizeof text, "%u", port);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* at worst it outlives a test that crashed */
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execlp("redis-server", "redis-server", "--port", text, "--bind", "127.0.0.1", "--save", "",
               "--requirepass", "open@sesame", "--dir", "/tmp", (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void redis_carries_objects_from_store_to_store(void **state)
{
    (void)state;
    if (system("command -v redis-server >/dev/null 2>&1")) {
        print_message("SKIPPED: no redis-server here\n");
        skip();
    }
    struct lr_store *a, *b;
    struct lr_object o = content(0, 0);
    pid_t pid = 0;
    uint16_t port = 0;
    bool up = false;
    for (int tries = 0; tries < 5 && !up; tries++) {
        struct server *v = server_new(); /* for a port that was free a moment ago */
        port = v->port;
        server_free(v);
        pid = start_redis(port);
        assert_int_equal(try_open(&a, port, 5000, ":open%40sesame@"), 0);
        while (!(up = counted(a, LR_STORE_REMOTE_WRITES)) && !waitpid(pid, NULL, WNOHANG)) {
            lr_store_del(a, &o.id, 0, 0);
            lr_clock_sleep_ns(5 * LR_MS);
        }
        if (!up)
            lr_store_close(a);
    }
    assert_true(up);
    assert_int_equal(try_open(&b, port, 5000, "default:open%40sesame@"), 0);
    uint64_t before = counted(a, LR_STORE_REMOTE_WRITES);
    put_all(a, 30);
    wait_for(a, LR_STORE_REMOTE_WRITES, before + 30); /* more than an eighth of memory goes alone */
    static uint8_t big[3 << 20];
    value_of(99, 1, big, sizeof big);
    struct lr_object large = content(99, sizeof big);
    assert_int_equal(lr_store_put(a, &large, &(struct lr_piece){0, big, sizeof big}, 1, false, 0, 0), 0);
    wait_for(a, LR_STORE_REMOTE_WRITES, before + 31);
    for (uint32_t i = 0; i < 30; i++) {
        o = content(i, 0);
        assert_int_equal(get_version(b, &o, i), 1);
    }
    struct lr_view *view;
    assert_int_equal(lr_store_get(b, &large.id, &large, LR_FOREVER, &view), 0);
    assert_memory_equal(lr_view_bytes(view).p, big, sizeof big);
    lr_view_put(view);
    assert_int_equal(counted(b, LR_STORE_REMOTE_BAD), 0);
    lr_store_close(b);
    assert_int_equal(try_open(&b, port, 5000, ":wrong@"), 0);
    o = content(3, 0);
    assert_int_equal(get_version(b, &o, 3), -1);
    lr_store_close(a);
    lr_store_close(b);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_store_puts_another_finds),
        cmocka_unit_test(another_layout_is_another_object),
        cmocka_unit_test(a_chain_is_found_and_fetched_ahead),
        cmocka_unit_test(no_mood_of_the_server_makes_a_wrong_byte),
        cmocka_unit_test(a_caller_waits_no_longer_than_it_wants),
        cmocka_unit_test(a_dead_server_costs_misses_only),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(golden_file_is_what_is_sent),
        cmocka_unit_test(threads_beside_a_moody_server_see_whole_values),
        cmocka_unit_test(any_single_fault_is_a_result),
        cmocka_unit_test(redis_carries_objects_from_store_to_store),
    };
    lr_log_set_level(LR_LOG_ERROR);
    if (argc == 2 && lr_str_is(lr_strz(argv[1]), "write")) {
        golden_file_is_what_is_sent(NULL);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
