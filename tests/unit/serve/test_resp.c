/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/serve/test_resp.c - the Redis door, in process: the parser under any cut, and a door with
 * a store of its own behind raw sockets. Arguments: [seed].
 */
#include "serve/resp_int.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static uint64_t seed = 1;

/* ---- the parser ---- */

/* Commands of random bytes as arrays of strings, one after the other. */
static size_t write_commands(struct lr_rng *r, char *out, size_t cap, unsigned n)
{
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned args = 1 + (unsigned)lr_rng_below(r, 5);
        at += (size_t)snprintf(out + at, cap - at, "*%u\r\n", args);
        for (unsigned k = 0; k < args; k++) {
            size_t len = lr_rng_below(r, 4) ? lr_rng_below(r, 20) : lr_rng_below(r, 40000);
            at += (size_t)snprintf(out + at, cap - at, "$%zu\r\n", len);
            for (size_t j = 0; j < len; j++)
                out[at++] = (char)lr_rng_below(r, 256);
            out[at++] = '\r';
            out[at++] = '\n';
        }
    }
    return at;
}

/* A digest of all events; pieces of at most `step` bytes, of any length when it is 0. */
static uint64_t digest(const char *in, size_t n, size_t step, struct lr_rng *r, unsigned *commands)
{
    struct lr_resp_parser p;
    static uint8_t value[40000];
    uint64_t h = 1;
    *commands = 0;
    lr_resp_init(&p, 100, 100000);
    for (size_t at = 0; at < n;) {
        size_t k = step ? step : 1 + lr_rng_below(r, 3000), used;
        k = k < n - at ? k : n - at;
        for (size_t done = 0;;) {
            enum lr_resp_event e = lr_resp_feed(&p, in + at + done, k - done, &used);
            done += used;
            if (e == LR_RESP_MORE)
                break;
            assert_int_not_equal(e, LR_RESP_BROKEN);
            if (e == LR_RESP_VALUE) {
                p.sink = value;
                p.room = p.need;
                continue;
            }
            for (size_t i = 0; i < p.n; i++) {
                struct lr_str s = lr_resp_arg(&p, i);
                h = lr_hash64(s, h ^ p.args[i].n);
                if (p.args[i].big && i + 1 == p.n)
                    h = lr_hash64(lr_str(value, p.args[i].n), h);
            }
            ++*commands;
            lr_resp_next(&p);
        }
        at += k;
    }
    lr_resp_free(&p);
    return h;
}

static void any_cut_of_the_bytes_gives_the_same_commands(void **state)
{
    (void)state;
    static char in[1 << 20];
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    for (int round = 0; round < 20; round++) {
        unsigned commands;
        size_t n = write_commands(&r, in, sizeof in, 8);
        uint64_t whole = digest(in, n, n, &r, &commands);
        assert_int_equal(commands, 8);
        assert_int_equal(digest(in, n, 1, &r, &commands), whole);
        for (int k = 0; k < 5; k++)
            assert_int_equal(digest(in, n, 0, &r, &commands), whole);
    }
}

static void a_line_of_words_is_a_command(void **state)
{
    (void)state;
    struct lr_resp_parser p;
    size_t used;
    struct lr_str in = LR_STR("\r\n  set \"a b\\x41\\n\" 'it\\'s' \"\" \r\nPING\n");
    lr_resp_init(&p, 100, 1000);
    assert_int_equal(lr_resp_feed(&p, in.p, in.n, &used), LR_RESP_COMMAND);
    assert_int_equal(p.n, 4);
    assert_true(lr_str_is(lr_resp_arg(&p, 1), "a bA\n"));
    assert_true(lr_str_is(lr_resp_arg(&p, 2), "it's"));
    assert_int_equal(lr_resp_arg(&p, 3).n, 0);
    lr_resp_next(&p);
    assert_int_equal(lr_resp_feed(&p, in.p + used, in.n - used, &used), LR_RESP_COMMAND);
    assert_true(lr_str_is(lr_resp_arg(&p, 0), "PING"));
    lr_resp_free(&p);
}

static void what_is_no_protocol_is_a_fault(void **state)
{
    (void)state;
    static const char *const bad[] = {"*1000000000000\r\n", "*-2\r\n", "*x\r\n", "*1\r\n:1\r\n",
                                      "*1\r\n$-1\r\n", "*1\r\n$99999999999999999999\r\n",
                                      "*1\r\n$1\r\naXX", "*1\r\n\r\n", "GET \"a\r\n", "GET 'a'b\r\n",
                                      "*11111111111111111111111111111111111\r\n"};
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_resp_parser p;
        size_t used;
        lr_resp_init(&p, 100, 1000);
        if (lr_resp_feed(&p, bad[i], strlen(bad[i]), &used) != LR_RESP_BROKEN || !p.fault)
            fail_msg("taken: %s", bad[i]);
        lr_resp_free(&p);
    }
    static const char *const browsers[] = {"POST / HTTP/1.1\r\n", "host: x\r\n"};
    for (size_t i = 0; i < LR_COUNT(browsers); i++) {
        struct lr_resp_parser p;
        size_t used;
        lr_resp_init(&p, 100, 1000);
        assert_int_equal(lr_resp_feed(&p, browsers[i], strlen(browsers[i]), &used), LR_RESP_BROKEN);
        assert_null(p.fault);
        lr_resp_free(&p);
    }
}

/* ---- a door ---- */

struct house {
    struct lr_store *store;
    struct lr_resp *door;
    struct lr_store_opts so;
    bool auth;
};

/* "secret-X" is the password of tenant X; none is tenant 1 where none is asked for. */
static int who(void *ctx, struct lr_str user, struct lr_str password, uint64_t *tenant)
{
    struct house *h = ctx;
    (void)user;
    if (!password.n && !h->auth) {
        *tenant = 1;
        return 0;
    }
    if (password.n != 8 || !lr_str_starts(password, LR_STR("secret-")))
        return LR_EDENIED;
    *tenant = (uint64_t)password.p[7];
    return 0;
}

static void open_house(struct house *h, struct lr_store_opts so, bool auth, uint64_t stall_ns)
{
    static const char *const listen[] = {"127.0.0.1:0"};
    struct lr_err err = {0};
    so.mem_max = so.mem_max ? so.mem_max : LR_MIB(64);
    so.late_ms = 60000;
    *h = (struct house){.so = so, .auth = auth};
    assert_int_equal(lr_store_open(&h->store, &so, NULL), 0);
    struct lr_resp_opts o = {.listen = listen,
                             .n_listen = 1,
                             .threads = 2,
                             .connections_max = 40,
                             .store = h->store,
                             .auth = auth,
                             .who = who,
                             .ctx = h,
                             .stall_ns = stall_ns};
    assert_int_equal(lr_resp_open(&h->door, &o, &err), 0);
}

static void close_house(struct house *h)
{
    lr_resp_close(h->door);
    lr_store_close(h->store);
}

static int dial(const struct house *h)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)lr_resp_port(h->door, 0)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void send_all(int fd, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = send(fd, (const char *)p + at, n - at, MSG_NOSIGNAL);
        if (k <= 0)
            fail_msg("send failed");
        at += (size_t)k;
    }
}

static const char *asked = ""; /* for who reads the failure */

static void recv_all(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = recv(fd, (char *)p + at, n - at, 0);
        if (k <= 0)
            fail_msg("hung up after %zu of %zu bytes of the answer to %s", at, n, asked);
        at += (size_t)k;
    }
}

static void say(int fd, const char *text)
{
    send_all(fd, text, strlen(text));
}

/* Exactly these bytes come next. */
static void expect_bytes(int fd, const char *want, size_t n)
{
    char got[512];
    assert_true(n < sizeof got);
    recv_all(fd, got, n);
    got[n] = 0;
    if (memcmp(got, want, n))
        fail_msg("came '%s', not '%s'", got, want);
}

static void expect(int fd, const char *want)
{
    expect_bytes(fd, want, strlen(want));
}

/* Nothing more but the end. */
static void expect_end(int fd)
{
    char c;
    ssize_t k = recv(fd, &c, 1, 0);
    assert_true(k <= 0);
    close(fd);
}

static void ask(int fd, const char *command, const char *want)
{
    asked = command;
    say(fd, command);
    say(fd, "\r\n");
    expect(fd, want);
}

static void set_bytes(int fd, const char *key, const uint8_t *v, size_t n)
{
    char head[128];
    int k = snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key), key, n);
    send_all(fd, head, (size_t)k);
    send_all(fd, v, n);
    say(fd, "\r\n");
    expect(fd, "+OK\r\n");
}

static void get_bytes(int fd, const char *key, const uint8_t *v, size_t n)
{
    static uint8_t got[6 << 20];
    char head[128];
    assert_true(n <= sizeof got);
    int k = snprintf(head, sizeof head, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(key), key);
    send_all(fd, head, (size_t)k);
    snprintf(head, sizeof head, "$%zu\r\n", n);
    expect(fd, head);
    recv_all(fd, got, n);
    assert_memory_equal(got, v, n);
    expect(fd, "\r\n");
}

static void fill(uint8_t *p, size_t n, uint64_t with)
{
    struct lr_rng r;
    lr_rng_seed(&r, with);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)lr_rng_below(&r, 256);
}

static void replies_are_the_bytes_that_clients_count(void **state)
{
    (void)state;
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    int fd = dial(&h);
    ask(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc", "+OK\r\n");
    ask(fd, "*2\r\n$3\r\nGET\r\n$1\r\nk", "$3\r\nabc\r\n");
    ask(fd, "*2\r\n$3\r\nGET\r\n$1\r\nx", "$-1\r\n");
    ask(fd, "*2\r\n$6\r\nEXISTS\r\n$1\r\nk", ":1\r\n");
    ask(fd, "*2\r\n$6\r\nEXISTS\r\n$1\r\nx", ":0\r\n");
    ask(fd, "*2\r\n$3\r\nDEL\r\n$1\r\nk", ":1\r\n");
    ask(fd, "*2\r\n$3\r\nDEL\r\n$1\r\nk", ":0\r\n");
    ask(fd, "AUTH secret-a", "+OK\r\n");
    ask(fd, "SET a 1 EX 100", "+OK\r\n");
    ask(fd, "TTL a", ":100\r\n");
    ask(fd, "SET a 2 NX", "$-1\r\n");
    ask(fd, "SET b 2 XX", "$-1\r\n");
    ask(fd, "SET a 3 XX PX 50000", "+OK\r\n");
    ask(fd, "TTL a", ":50\r\n");
    ask(fd, "PERSIST a", ":1\r\n");
    ask(fd, "TTL a", ":-1\r\n");
    ask(fd, "TTL b", ":-2\r\n");
    ask(fd, "EXPIRE a -1", ":1\r\n");
    ask(fd, "GET a", "$-1\r\n");
    ask(fd, "MSET x 1 y 22", "+OK\r\n");
    ask(fd, "MGET x nil y", "*3\r\n$1\r\n1\r\n$-1\r\n$2\r\n22\r\n");
    ask(fd, "STRLEN y", ":2\r\n");
    ask(fd, "EXISTS x y z x", ":3\r\n");
    ask(fd, "DBSIZE", ":2\r\n");
    ask(fd, "HELLO 3", "%7\r\n");
    say(fd, "PING\r\n");
    for (char c = 0, last = 0; !(last == 'G' && c == '\r'); ) {
        last = c;
        recv_all(fd, &c, 1);
    }
    expect(fd, "\n");
    ask(fd, "GET nil", "_\r\n");
    ask(fd, "NOSUCH", "-ERR unknown command 'NOSUCH'\r\n");
    ask(fd, "GET", "-ERR wrong number of arguments for 'GET' command\r\n");
    ask(fd, "QUIT", "+OK\r\n");
    expect_end(fd);
    close_house(&h);
}

static void values_of_any_size_come_back_as_they_went(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 65536, 1 << 20, (1 << 20) + 1, 5 << 20};
    static uint8_t v[6 << 20];
    struct house h;
    struct lr_rng r;
    lr_rng_seed(&r, seed);
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    int fd = dial(&h);
    for (size_t i = 0; i < LR_COUNT(sizes); i++) {
        fill(v, sizes[i], i);
        set_bytes(fd, "k", v, sizes[i]);
        get_bytes(fd, "k", v, sizes[i]);
    }
    for (int round = 0; round < 40; round++) { /* in pieces that the sender chooses */
        size_t n = lr_rng_below(&r, 4) ? lr_rng_below(&r, 40000) : lr_rng_below(&r, 3 << 20);
        char head[64];
        fill(v, n, seed + (uint64_t)round);
        int k = snprintf(head, sizeof head, "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$%zu\r\n", n);
        send_all(fd, head, (size_t)k);
        for (size_t at = 0; at < n;) {
            size_t part = 1 + lr_rng_below(&r, n / 3 + 1);
            part = part < n - at ? part : n - at;
            send_all(fd, v + at, part);
            at += part;
            if (round % 8 == 0)
                lr_clock_sleep_ns(LR_MS);
        }
        ask(fd, "\r\n$2\r\nEX\r\n$3\r\n100", "+OK\r\n");
        ask(fd, "TTL k", ":100\r\n");
        get_bytes(fd, "k", v, n);
    }
    close(fd);
    close_house(&h);
}

/* Flips a bit of what is stored under k. */
static void damage(struct house *h, size_t at)
{
    struct lr_digest id;
    struct lr_view *v;
    lr_store_id_opaque(1, LR_STR("0"), LR_STR("k"), &id);
    assert_int_equal(lr_store_get(h->store, &id, NULL, 0, &v), 0);
    ((uint8_t *)(uintptr_t)lr_view_bytes(v).p)[at] ^= 1;
    lr_view_put(v);
}

/* A small one is a miss; of a large one that is being sent sound bytes come, then the end. */
static void damage_in_memory_is_never_sent(void **state)
{
    (void)state;
    static uint8_t v[6 << 20], came[(6 << 20) + 64];
    static const size_t at[] = {0, 700000, 3 << 20, (6 << 20) - 1};
    struct house h;
    struct lr_store_stats st;
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    int fd = dial(&h);
    fill(v, sizeof v, 3);
    set_bytes(fd, "k", v, 20000);
    damage(&h, 12345);
    ask(fd, "GET k", "$-1\r\n");
    for (size_t i = 0; i < LR_COUNT(at); i++) {
        char head[32];
        size_t n = 0;
        int other = dial(&h);
        set_bytes(fd, "k", v, sizeof v);
        damage(&h, at[i]);
        say(other, "GET k\r\n");
        size_t head_n = (size_t)snprintf(head, sizeof head, "$%zu\r\n", sizeof v);
        for (ssize_t k; (k = read(other, came + n, sizeof came - n)) > 0;)
            n += (size_t)k;
        assert_true(n <= head_n + at[i]);
        assert_memory_equal(came, head, n < head_n ? n : head_n);
        if (n > head_n)
            assert_memory_equal(came + head_n, v, n - head_n);
        close(other);
        ask(fd, "GET k", "$-1\r\n");
    }
    lr_store_stats(h.store, &st);
    assert_int_equal(st.count[LR_STORE_MISS_CORRUPT], 1 + LR_COUNT(at));
    close(fd);
    close_house(&h);
}

static void a_value_that_cannot_be_kept_is_ok_and_its_forerunner_gone(void **state)
{
    (void)state;
    static uint8_t v[5 << 20];
    struct house h;
    char key[LR_OBJECT_NAME_MAX + 2];
    open_house(&h, (struct lr_store_opts){.mem_max = LR_MIB(8)}, false, 0);
    int fd = dial(&h);
    ask(fd, "SET k old", "+OK\r\n");
    set_bytes(fd, "k", v, sizeof v); /* more than half of memory */
    ask(fd, "GET k", "$-1\r\n");
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    say(fd, "SET ");
    say(fd, key);
    ask(fd, " v", "+OK\r\n");
    say(fd, "GET ");
    ask(fd, key, "$-1\r\n");
    ask(fd, "PING", "+PONG\r\n");
    struct lr_resp_stats st;
    lr_resp_stats(h.door, &st);
    assert_int_equal(st.dropped, 2);
    close(fd);
    close_house(&h);
}

static void what_is_announced_evicts_nothing(void **state)
{
    (void)state;
    static uint8_t v[1 << 20];
    struct house h;
    int many[20];
    open_house(&h, (struct lr_store_opts){.mem_max = LR_MIB(16)}, false, 0);
    int fd = dial(&h);
    char key[16];
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "k%d", i);
        set_bytes(fd, key, v, sizeof v);
    }
    for (int i = 0; i < 20; i++) { /* 140 MiB that never come */
        many[i] = dial(&h);
        say(many[i], "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$7340032\r\nabc");
    }
    ask(fd, "PING", "+PONG\r\n");
    ask(fd, "EXISTS k0 k1 k2 k3 k4 k5 k6 k7 k8 k9", ":10\r\n");
    for (int i = 0; i < 20; i++)
        close(many[i]);
    close(fd);
    close_house(&h);
}

static void nonsense_gets_one_error_and_the_end(void **state)
{
    (void)state;
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    int fd = dial(&h);
    ask(fd, "*x", "-ERR Protocol error: invalid multibulk length\r\n");
    expect_end(fd);
    fd = dial(&h);
    ask(fd, "PING\r\n*1\r\n$600000000", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
    expect_end(fd);
    fd = dial(&h);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\n\r\nSET a b\r\n");
    expect_end(fd);
    fd = dial(&h);
    ask(fd, "EXISTS a", ":0\r\n");
    close(fd);
    close_house(&h);
}

static void nobody_gets_data_without_a_credential(void **state)
{
    (void)state;
    static const char *const tries[] = {"GET a", "SET a b", "FLUSHALL", "SCAN 0", "INFO", "PING"};
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, true, 0);
    for (size_t i = 0; i < LR_COUNT(tries); i++) {
        int fd = dial(&h);
        ask(fd, tries[i], "-NOAUTH Authentication required.\r\n");
        expect_end(fd);
    }
    int fd = dial(&h);
    ask(fd, "AUTH wrong", "-WRONGPASS");
    close(fd);
    fd = dial(&h); /* a stranger sends no large things */
    ask(fd, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000", "-ERR Protocol error: invalid bulk length\r\n");
    expect_end(fd);
    fd = dial(&h);
    ask(fd, "AUTH default secret-a", "+OK\r\n");
    ask(fd, "PING", "+PONG\r\n");
    close(fd);
    close_house(&h);
}

static void a_client_sees_its_own_namespace_only(void **state)
{
    (void)state;
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, true, 0);
    static const char *const logins[] = {"AUTH secret-a", "AUTH secret-b", "AUTH u secret-a",
                                         "AUTH secret-a\r\nSELECT 1"};
    int fd[4];
    for (int i = 0; i < 4; i++) {
        char set[64];
        fd[i] = dial(&h);
        ask(fd[i], logins[i], i == 3 ? "+OK\r\n+OK\r\n" : "+OK\r\n");
        snprintf(set, sizeof set, "SET k %d", i);
        ask(fd[i], set, "+OK\r\n");
    }
    for (int i = 0; i < 4; i++) {
        char want[64];
        snprintf(want, sizeof want, "$1\r\n%d\r\n", i);
        ask(fd[i], "GET k", want);
        ask(fd[i], "DBSIZE", ":1\r\n");
        ask(fd[i], "SCAN 0 COUNT 1000", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n");
    }
    ask(fd[0], "FLUSHDB", "+OK\r\n");
    for (int i = 0; i < 4; i++)
        ask(fd[i], "EXISTS k", i ? ":1\r\n" : ":0\r\n");
    ask(fd[0], "FLUSHALL", "+OK\r\n"); /* every database of this user */
    for (int i = 0; i < 4; i++)
        ask(fd[i], "EXISTS k", i == 1 || i == 2 ? ":1\r\n" : ":0\r\n");
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    close_house(&h);
}

static void half_a_pair_of_lmcache_is_absent(void **state)
{
    (void)state;
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    int fd = dial(&h);
    ask(fd, "SET m@1@0@abc@halfkv_bytes data", "+OK\r\n");
    ask(fd, "EXISTS m@1@0@abc@halfkv_bytes", ":0\r\n");
    ask(fd, "SET m@1@0@abc@halfmetadata meta", "+OK\r\n");
    ask(fd, "GET m@1@0@abc@halfkv_bytes", "$4\r\ndata\r\n");
    ask(fd, "DEL m@1@0@abc@halfmetadata", ":1\r\n");
    ask(fd, "GET m@1@0@abc@halfkv_bytes", "$-1\r\n");
    close(fd);
    close_house(&h);
}

static void a_slow_reader_slows_itself_only(void **state)
{
    (void)state;
    enum { N = 60 };
    static uint8_t v[1 << 20], got[(1 << 20) + 64];
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    int slow = dial(&h), fd = dial(&h);
    fill(v, sizeof v, 5);
    set_bytes(fd, "k", v, sizeof v);
    for (int i = 0; i < N; i++)
        say(slow, "GET k\r\nMGET k k\r\n");
    lr_clock_sleep_ns(20 * LR_MS);
    ask(fd, "PING", "+PONG\r\n");
    for (int i = 0; i < N; i++) {
        expect(slow, "$1048576\r\n");
        recv_all(slow, got, sizeof v + 2);
        assert_memory_equal(got, v, sizeof v);
        expect(slow, "*2\r\n");
        for (int k = 0; k < 2; k++) {
            expect(slow, "$1048576\r\n");
            recv_all(slow, got, sizeof v + 2);
            assert_memory_equal(got, v, sizeof v);
        }
    }
    close(slow);
    close(fd);
    close_house(&h);
}

static void what_stops_halfway_is_cut_off(void **state)
{
    (void)state;
    struct house h;
    open_house(&h, (struct lr_store_opts){0}, false, 50 * LR_MS);
    int idle = dial(&h), half = dial(&h);
    ask(idle, "PING", "+PONG\r\n");
    say(half, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nabc");
    expect_end(half);
    ask(idle, "PING", "+PONG\r\n"); /* between commands one may think as long as one likes */
    close(idle);
    close_house(&h);
}

static void more_clients_than_allowed_are_told(void **state)
{
    (void)state;
    struct house h;
    int fd[40];
    open_house(&h, (struct lr_store_opts){0}, false, 0);
    for (int i = 0; i < 40; i++) {
        fd[i] = dial(&h);
        ask(fd[i], "PING", "+PONG\r\n");
    }
    int one_more = dial(&h);
    expect(one_more, "-ERR max number of clients reached\r\n");
    expect_end(one_more);
    for (int i = 0; i < 40; i++)
        close(fd[i]);
    close_house(&h);
}

/* ---- next to a twin, with a disk ---- */

#define IDS 60

static void version_bytes(uint8_t *p, size_t n, uint32_t id, uint32_t version)
{
    fill(p, n, (uint64_t)id << 32 | version);
}

static size_t version_size(uint32_t id, uint32_t version)
{
    uint64_t h = lr_hash64(lr_str(&(uint32_t[2]){id, version}, 8), 3);
    return h % 5 == 0 ? 16384 + h % 60000 : h % 2000;
}

/* The version that GET answers; -1: none. */
static int64_t get_version(int fd, uint32_t id, uint32_t newest)
{
    static uint8_t got[80000], want[80000];
    char text[32], c = 0;
    size_t n = 0, at = 0;
    snprintf(text, sizeof text, "GET key-%u\r\n", id);
    say(fd, text);
    for (at = 0; c != '\n'; at++) {
        recv_all(fd, &c, 1);
        text[at] = c;
    }
    if (text[1] == '-') {
        assert_memory_equal(text, "$-1\r\n", 5);
        return -1;
    }
    n = (size_t)strtoul(text + 1, NULL, 10);
    recv_all(fd, got, n + 2);
    version_bytes(want, n, id, newest);
    if (n != version_size(id, newest) || memcmp(got, want, n))
        return 0; /* not the newest */
    return newest;
}

static void the_newest_value_or_none_through_the_door(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-resp-XXXXXX", command[64];
    static uint8_t v[80000];
    uint32_t newest[IDS] = {0}, next[IDS] = {0};
    struct lr_rng r;
    struct house h;
    uint64_t hits = 0, from_disk = 0;
    lr_rng_seed(&r, seed);
    assert_non_null(mkdtemp(dir));
    struct lr_store_opts so = {.mem_max = LR_MIB(2), .dir = dir, .disk_max = LR_MIB(8)};
    for (int life = 0; life < 4; life++) {
        open_house(&h, so, false, 0);
        int fd[3] = {dial(&h), dial(&h), dial(&h)};
        for (int i = 0; i < 600; i++) {
            int c = fd[lr_rng_below(&r, 3)];
            uint32_t id = (uint32_t)lr_rng_below(&r, IDS);
            uint64_t dice = lr_rng_below(&r, 10);
            if (dice < 4) {
                char key[16];
                size_t n = version_size(id, ++next[id]);
                snprintf(key, sizeof key, "key-%u", id);
                version_bytes(v, n, id, next[id]);
                set_bytes(c, key, v, n);
                newest[id] = next[id];
            } else if (dice == 4) {
                snprintf(command, sizeof command, "DEL key-%u\r\n", id);
                say(c, command);
                expect(c, ":");
                recv_all(c, command, 3);
                newest[id] = 0;
            } else {
                int64_t got = get_version(c, id, newest[id]);
                if (got >= 0 && (got != newest[id] || !newest[id]))
                    fail_msg("seed %llu: an older value of %u", (unsigned long long)seed, id);
                hits += got > 0;
            }
        }
        for (int k = 0; k < 3; k++)
            close(fd[k]);
        struct lr_store_stats st;
        lr_store_stats(h.store, &st);
        from_disk += st.count[LR_STORE_HIT_DISK];
        close_house(&h);
    }
    print_message("seed %llu: %llu hits, %llu from disk\n", (unsigned long long)seed,
                  (unsigned long long)hits, (unsigned long long)from_disk);
    assert_true(hits > 100 && from_disk > 10);
    char rm[64];
    snprintf(rm, sizeof rm, "rm -rf %s", dir);
    assert_int_equal(system(rm), 0);
}

/* Opening and a few commands with every allocation failing once: an error or an end, no crash. */
static void any_single_fault_is_a_result(void **state)
{
    (void)state;
    static uint8_t v[20000];
    for (uint64_t n = 1, reached = 1; reached; n++) {
        static const char *const listen[] = {"127.0.0.1:0"};
        struct lr_store_opts so = {.mem_max = LR_MIB(2)};
        struct house h = {0};
        struct lr_err err = {0};
        struct lr_resp_opts o = {.listen = listen, .n_listen = 1, .who = who, .ctx = &h};
        assert_int_equal(lr_store_open(&h.store, &so, NULL), 0);
        o.store = h.store;
        lr_fault_arm(n);
        int rc = lr_resp_open(&h.door, &o, &err);
        if (!rc) {
            int fd = dial(&h);
            struct timeval t = {2, 0};
            char buf[4096];
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
            char head[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000\r\n";
            (void)!send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
            (void)!send(fd, v, sizeof v, MSG_NOSIGNAL);
            static const char rest[] = "\r\nGET k\r\nMGET k k\r\nQUIT\r\n";
            (void)!send(fd, rest, sizeof rest - 1, MSG_NOSIGNAL);
            while (recv(fd, buf, sizeof buf, 0) > 0)
                ;
            close(fd);
            lr_resp_close(h.door);
        }
        reached = lr_fault_seen() >= n;
        lr_fault_arm(0);
        lr_store_close(h.store);
        if (!reached)
            assert_int_equal(rc, 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_of_the_bytes_gives_the_same_commands),
        cmocka_unit_test(a_line_of_words_is_a_command),
        cmocka_unit_test(what_is_no_protocol_is_a_fault),
        cmocka_unit_test(replies_are_the_bytes_that_clients_count),
        cmocka_unit_test(values_of_any_size_come_back_as_they_went),
        cmocka_unit_test(damage_in_memory_is_never_sent),
        cmocka_unit_test(a_value_that_cannot_be_kept_is_ok_and_its_forerunner_gone),
        cmocka_unit_test(what_is_announced_evicts_nothing),
        cmocka_unit_test(nonsense_gets_one_error_and_the_end),
        cmocka_unit_test(nobody_gets_data_without_a_credential),
        cmocka_unit_test(a_client_sees_its_own_namespace_only),
        cmocka_unit_test(half_a_pair_of_lmcache_is_absent),
        cmocka_unit_test(a_slow_reader_slows_itself_only),
        cmocka_unit_test(what_stops_halfway_is_cut_off),
        cmocka_unit_test(more_clients_than_allowed_are_told),
        cmocka_unit_test(the_newest_value_or_none_through_the_door),
        cmocka_unit_test(any_single_fault_is_a_result),
    };
    if (argc > 1)
        lr_parse_u64(lr_strz(argv[1]), &seed);
    lr_log_set_level(LR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
