/* SPDX-License-Identifier: Apache-2.0
 * tests/api/test_hiredis.c - the Redis door as its clients' library sees it: hiredis, synchronous,
 * pipelined and asynchronous, and the benchmark tools as flows.
 *
 * Needs libhiredis-dev; built without it, it says so and is skipped. The asynchronous half has an
 * event loop of its own (poll over one connection), so no event library is needed.
 */
#include "resp_kit.h"

#ifdef LR_HAVE_HIREDIS
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct gw *server;
static int port;

static int open_server(void **state)
{
    (void)state;
    static const char *const args[] = {"--resp", "127.0.0.1:0", "--kv-memory", "64M", NULL};
    server = gw_start(NULL, NULL, args);
    port = resp_port(server);
    return 0;
}

static int close_server(void **state)
{
    (void)state;
    assert_int_equal(gw_stop(server, SIGTERM), 0);
    gw_free(server);
    return 0;
}

static redisContext *connected(void)
{
    struct timeval limit = {20, 0};
    redisContext *c = redisConnectWithTimeout("127.0.0.1", port, limit);
    assert_non_null(c);
    assert_int_equal(c->err, 0);
    assert_int_equal(redisSetTimeout(c, limit), REDIS_OK);
    return c;
}

/* The reply must be of this type and, when text is not NULL, say this. */
static void expect(redisReply *r, int type, const char *text, size_t n)
{
    assert_non_null(r);
    if (r->type != type)
        fail_msg("reply of type %d, not %d: %s", r->type, type, r->str ? r->str : "");
    if (text) {
        assert_int_equal(r->len, n);
        assert_memory_equal(r->str, text, n);
    }
    freeReplyObject(r);
}

static void synchronous_calls_are_answered_as_a_redis_does(void **state)
{
    (void)state;
    redisContext *c = connected();
    expect(redisCommand(c, "PING"), REDIS_REPLY_STATUS, "PONG", 4);
    expect(redisCommand(c, "SET %s %s", "a", "1"), REDIS_REPLY_STATUS, "OK", 2);
    expect(redisCommand(c, "GET %s", "a"), REDIS_REPLY_STRING, "1", 1);
    expect(redisCommand(c, "GET %s", "nothing"), REDIS_REPLY_NIL, NULL, 0);
    expect(redisCommand(c, "EXISTS a nothing"), REDIS_REPLY_INTEGER, NULL, 0);
    redisReply *r = redisCommand(c, "MGET a nothing a");
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    assert_int_equal(r->elements, 3);
    assert_int_equal(r->element[1]->type, REDIS_REPLY_NIL);
    assert_string_equal(r->element[2]->str, "1");
    freeReplyObject(r);
    r = redisCommand(c, "DEL a nothing");
    assert_int_equal(r->integer, 1);
    freeReplyObject(r);
    expect(redisCommand(c, "LPUSH list x"), REDIS_REPLY_ERROR, NULL, 0);
    expect(redisCommand(c, "PING"), REDIS_REPLY_STATUS, "PONG", 4); /* and goes on */
    redisFree(c);
}

static void keys_and_values_are_any_bytes(void **state)
{
    (void)state;
    static char value[5 << 20];
    static const char key[] = "k\0\r\n$5\r\n\xff*3\r\n";
    redisContext *c = connected();
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (char)(i * 2654435761u >> 13);
    static const size_t sizes[] = {0, 1, 16384, 100000, sizeof value};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        expect(redisCommand(c, "SET %b %b", key, sizeof key - 1, value, sizes[i]),
               REDIS_REPLY_STATUS, "OK", 2);
        expect(redisCommand(c, "GET %b", key, sizeof key - 1), REDIS_REPLY_STRING, value, sizes[i]);
    }
    expect(redisCommand(c, "GET k"), REDIS_REPLY_NIL, NULL, 0); /* not cut at its zero */
    redisFree(c);
}

static void a_pipeline_is_answered_in_order(void **state)
{
    (void)state;
    enum { N = 500 };
    static char big[70000];
    redisContext *c = connected();
    for (int i = 0; i < N; i++) {
        char text[32];
        size_t n = i % 50 ? (size_t)snprintf(text, sizeof text, "v%d", i) : sizeof big;
        memset(big, 'a' + i % 26, sizeof big);
        redisAppendCommand(c, "SET key:%d %b", i, i % 50 ? text : big, n);
        redisAppendCommand(c, "GET key:%d", i);
    }
    for (int i = 0; i < N; i++) {
        char text[32];
        size_t n = i % 50 ? (size_t)snprintf(text, sizeof text, "v%d", i) : sizeof big;
        void *r = NULL;
        memset(big, 'a' + i % 26, sizeof big);
        assert_int_equal(redisGetReply(c, &r), REDIS_OK);
        expect(r, REDIS_REPLY_STATUS, "OK", 2);
        assert_int_equal(redisGetReply(c, &r), REDIS_OK);
        expect(r, REDIS_REPLY_STRING, i % 50 ? text : big, n);
    }
    redisFree(c);
}

static void a_password_is_a_tenant_of_its_own(void **state)
{
    (void)state;
    redisContext *alice = connected(), *bob = connected();
    expect(redisCommand(alice, "AUTH first-secret"), REDIS_REPLY_STATUS, "OK", 2);
    expect(redisCommand(bob, "AUTH user second-secret"), REDIS_REPLY_STATUS, "OK", 2);
    expect(redisCommand(alice, "SET mine 1"), REDIS_REPLY_STATUS, "OK", 2);
    expect(redisCommand(bob, "GET mine"), REDIS_REPLY_NIL, NULL, 0);
    redisReply *r = redisCommand(bob, "DBSIZE");
    assert_int_equal(r->integer, 0);
    freeReplyObject(r);
    expect(redisCommand(alice, "GET mine"), REDIS_REPLY_STRING, "1", 1);
    redisFree(alice);
    redisFree(bob);
}

/* By hand where hiredis is older than RESP3 (Debian 12 has 0.14). */
static void hello_three_changes_the_protocol_and_pushes_nothing(void **state)
{
    (void)state;
    static const char ask[] = "HELLO 3\r\nGET nothing\r\nSET r3 x\r\nGET r3\r\nHELLO 2\r\nGET nothing\r\nQUIT\r\n";
    char got[4096] = "";
    size_t n = 0;
    int fd = dial(port);
    assert_true(send_all(fd, ask, sizeof ask - 1));
    for (ssize_t k; n < sizeof got - 1 && (k = read(fd, got + n, sizeof got - 1 - n)) > 0;)
        n += (size_t)k;
    close(fd);
    assert_int_equal(strncmp(got, "%7\r\n", 4), 0);
    const char *nil = strstr(got, "_\r\n+OK\r\n$1\r\nx\r\n*14\r\n");
    assert_non_null(nil);
    assert_non_null(strstr(nil, "$-1\r\n+OK\r\n"));
    assert_null(strstr(got, "\n>")); /* a push */
#if HIREDIS_MAJOR >= 1
    redisContext *c = connected();
    expect(redisCommand(c, "HELLO 3"), REDIS_REPLY_MAP, NULL, 0);
    expect(redisCommand(c, "GET nothing"), REDIS_REPLY_NIL, NULL, 0);
    redisFree(c);
#endif
}

/* Who has sent all it wants to say still gets every answer, and then the end. */
static void a_half_closed_connection_is_answered_to_the_end(void **state)
{
    (void)state;
    static char value[3 << 20], got[2 << 20];
    redisContext *c = connected();
    memset(value, 'h', sizeof value);
    expect(redisCommand(c, "SET half %b", value, sizeof value), REDIS_REPLY_STATUS, "OK", 2);
    redisFree(c);
    int fd = dial(port);
    assert_true(send_all(fd, "GET half\r\nPING\r\nGET half\r\nGET half\r\nPING\r\n", 42));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    size_t n = 0;
    char last[7] = "";
    for (ssize_t k; (k = read(fd, got, sizeof got)) > 0; n += (size_t)k)
        if ((size_t)k >= sizeof last)
            memcpy(last, got + (size_t)k - sizeof last, sizeof last);
    close(fd);
    assert_int_equal(n, 3 * (10 + sizeof value + 2) + 2 * 7);
    assert_memory_equal(last, "+PONG\r\n", 7);
}

/* ---- asynchronous ---- */

struct loop {
    short events;
    bool gone;
    unsigned answered, wrong;
};

static void want_read(void *p)
{
    ((struct loop *)p)->events |= POLLIN;
}

static void no_read(void *p)
{
    ((struct loop *)p)->events &= (short)~POLLIN;
}

static void want_write(void *p)
{
    ((struct loop *)p)->events |= POLLOUT;
}

static void no_write(void *p)
{
    ((struct loop *)p)->events &= (short)~POLLOUT;
}

static void gone(const redisAsyncContext *c, int status)
{
    ((struct loop *)c->data)->gone = true;
    assert_int_equal(status, REDIS_OK);
}

#define ASYNC 300

static void stored(redisAsyncContext *c, void *reply, void *number)
{
    struct loop *l = c->data;
    redisReply *r = reply;
    (void)number;
    l->wrong += !r || r->type != REDIS_REPLY_STATUS;
    l->answered++;
}

static void loaded(redisAsyncContext *c, void *reply, void *number)
{
    struct loop *l = c->data;
    redisReply *r = reply;
    char want[32];
    snprintf(want, sizeof want, "value %zu", (size_t)number);
    l->wrong += !r || r->type != REDIS_REPLY_STRING || strcmp(r->str, want);
    if (++l->answered == 2 * ASYNC)
        redisAsyncDisconnect(c);
}

static void asynchronous_calls_get_their_own_answers(void **state)
{
    (void)state;
    struct loop l = {0};
    redisAsyncContext *c = redisAsyncConnect("127.0.0.1", port);
    assert_non_null(c);
    assert_int_equal(c->err, 0);
    c->data = c->ev.data = &l;
    c->ev.addRead = want_read;
    c->ev.delRead = no_read;
    c->ev.addWrite = want_write;
    c->ev.delWrite = no_write;
    redisAsyncSetDisconnectCallback(c, gone);
    for (size_t i = 0; i < ASYNC; i++) {
        char value[32];
        snprintf(value, sizeof value, "value %zu", i);
        redisAsyncCommand(c, stored, NULL, "SET async:%d %b", (int)i, value, strlen(value));
        redisAsyncCommand(c, loaded, (void *)i, "GET async:%d", (int)i);
    }
    while (!l.gone) {
        struct pollfd p = {c->c.fd, l.events, 0};
        if (poll(&p, 1, 20000) <= 0)
            fail_msg("no answer: %u came", l.answered);
        if (p.revents & (POLLIN | POLLHUP | POLLERR))
            redisAsyncHandleRead(c);
        if (!l.gone && p.revents & POLLOUT)
            redisAsyncHandleWrite(c);
    }
    assert_int_equal(l.wrong, 0);
    assert_int_equal(l.answered, 2 * ASYNC);
}

/* ---- the benchmark tools ---- */

static void run_tool(const char *tool)
{
    char command[256], out[4096];
    snprintf(command, sizeof command,
             "%s -p %d -n 300 -c 4 -d 3000 -r 50 -P 4 -t ping,set,get,mset --csv 2>&1", tool, port);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, sizeof out - 1, f);
    out[n] = 0;
    int status = WEXITSTATUS(pclose(f));
    if (status == 127) {
        print_message("SKIPPED: %s is not installed\n", tool);
        return;
    }
    if (status || strstr(out, "rror") || !strstr(out, "\"GET\"") || !strstr(out, "\"MSET"))
        fail_msg("%s: exit %d: %s", tool, status, out);
}

static void benchmark_tools_run_to_their_end(void **state)
{
    (void)state;
    run_tool("redis-benchmark");
    run_tool("valkey-benchmark");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synchronous_calls_are_answered_as_a_redis_does),
        cmocka_unit_test(keys_and_values_are_any_bytes),
        cmocka_unit_test(a_pipeline_is_answered_in_order),
        cmocka_unit_test(a_password_is_a_tenant_of_its_own),
        cmocka_unit_test(hello_three_changes_the_protocol_and_pushes_nothing),
        cmocka_unit_test(a_half_closed_connection_is_answered_to_the_end),
        cmocka_unit_test(asynchronous_calls_get_their_own_answers),
        cmocka_unit_test(benchmark_tools_run_to_their_end),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}

#else

int main(void)
{
    fputs("SKIPPED: built without hiredis (libhiredis-dev)\n", stderr);
    return 77;
}
#endif
