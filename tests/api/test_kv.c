/* SPDX-License-Identifier: Apache-2.0
 * tests/api/test_kv.c - the operator's side of the KV store in a running daemon: HTTP and command line on
 * one side, the Redis protocol with keys as LMCache writes them on the other.
 */
#include "harness.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct gw *gw;

/* ---- both sides ---- */

static int resp_port(const struct gw *g)
{
    static char text[65536];
    static const char said[] = "event=resp port=";
    FILE *f = fopen(g->log, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *last = NULL; /* the log goes on over restarts */
    for (const char *at = text; (at = strstr(at, said)); at++)
        last = at;
    assert_non_null(last);
    return atoi(last + strlen(said));
}

static struct gw *start(const char *dir)
{
    static const char *const args[] = {"--resp", "127.0.0.1:0", "--kv-memory", "16M", "--kv-disk", "64M", NULL};
    return gw_start(NULL, dir, args);
}

/* One command of words; the reply's first line in out. Words end with NULL; a value of a GET is read off. */
static void redis_v(int fd, char *out, size_t cap, const char *const *words)
{
    char cmd[4096];
    int n = 0, k = 0;
    while (words[k])
        k++;
    n += snprintf(cmd, sizeof cmd, "*%d\r\n", k);
    for (int i = 0; i < k; i++)
        n += snprintf(cmd + n, sizeof cmd - (size_t)n, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    assert_true(send_all(fd, cmd, (size_t)n));
    size_t at = 0;
    for (char c = 0; c != '\n'; at++) {
        assert_true(at + 1 < cap && recv(fd, &c, 1, 0) == 1);
        out[at] = c;
    }
    out[at - 2] = 0;
    if (out[0] == '$' && out[1] != '-') {
        char sink[4096];
        size_t left = strtoul(out + 1, NULL, 10) + 2;
        while (left) {
            ssize_t got = recv(fd, sink, left < sizeof sink ? left : sizeof sink, 0);
            assert_true(got > 0);
            left -= (size_t)got;
        }
    }
}

#define redis(fd, out, ...) redis_v(fd, out, sizeof out, (const char *const[]){__VA_ARGS__, NULL})

static struct resp admin(const struct gw *g, const char *method, const char *verb, const char *body)
{
    char headers[256], path[256];
    snprintf(headers, sizeof headers, "authorization: Bearer %s\r\ncontent-type: application/json\r\n",
             g->admin_key);
    snprintf(path, sizeof path, "/larder/v1/kv/%s", verb);
    return http(g->port, method, path, headers, body);
}

/* The answer is 200 and holds all of these. */
static void says(const char *method, const char *verb, const char *body, const char *const *texts)
{
    struct resp r = admin(gw, method, verb, body);
    if (r.status != 200)
        fail_msg("%s %s: %d %s", verb, body, r.status, r.body);
    for (; *texts; texts++)
        if (!strstr(r.body, *texts))
            fail_msg("%s %s: no '%s' in %s", verb, body, *texts, r.body);
    resp_free(&r);
}
#define SAYS(method, verb, body, ...) says(method, verb, body, (const char *const[]){__VA_ARGS__, NULL})

static int set_up(void **state)
{
    (void)state;
    gw = start(NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int status = gw_stop(gw, SIGTERM);
    gw_free(gw);
    return status;
}

/* ---- verbs ---- */

static void objects_are_found_pinned_and_moved(void **state)
{
    (void)state;
    char out[256];
    int fd = dial(resp_port(gw));
    redis(fd, out, "MSET", "a", "1", "b", "22", "c", "333");
    redis(fd, out, "SETEX", "t", "10005", "x");
    SAYS("POST", "lookup", "{\"keys\":[\"a\",\"nothing\",\"t\"]}", "\"found\":2", "\"memory\"", "\"bytes\":1",
         "\"ttl_ms\":null", "\"ttl_ms\":1000", "\"found\":false");
    SAYS("POST", "pin", "{\"keys\":[\"a\",\"nothing\"],\"ttl\":\"10005s\"}", "\"pinned\":1", "\"absent\":1");
    SAYS("POST", "lookup", "{\"keys\":[\"a\"]}", "\"pinned\":true", "\"pin_ms\":1000");
    SAYS("POST", "unpin", "{\"keys\":[\"a\"]}", "\"unpinned\":1");
    SAYS("POST", "lookup", "{\"keys\":[\"a\"]}", "\"pinned\":false");
    SAYS("POST", "move", "{\"keys\":[\"b\",\"c\"],\"to\":\"out\"}", "\"moved\":2");
    SAYS("POST", "lookup", "{\"keys\":[\"b\"]}", "\"where\":[\"disk\"]");
    SAYS("POST", "prefix", "{\"keys\":[\"a\",\"b\",\"c\",\"d\",\"a\"]}", "\"asked\":5", "\"here\":3",
         "\"in_memory\":1", "\"first_absent\":\"d\"");
    SAYS("POST", "move", "{\"keys\":[\"b\"],\"to\":\"memory\"}", "\"moved\":1");
    SAYS("POST", "lookup", "{\"keys\":[\"b\"]}", "\"where\":[\"memory\",\"disk\"]");
    redis(fd, out, "GET", "c");
    assert_string_equal(out, "$3");
    close(fd);
}

static void a_chunk_is_named_by_its_stem(void **state)
{
    (void)state;
    char out[256];
    int fd = dial(resp_port(gw));
    redis(fd, out, "SET", "stem@1@0@ab@halfkv_bytes", "12345");
    SAYS("POST", "lookup", "{\"keys\":[\"stem@1@0@ab@half\"]}", "\"found\":0"); /* half a pair is absent */
    redis(fd, out, "SET", "stem@1@0@ab@halfmetadata", "6789");
    SAYS("POST", "lookup", "{\"keys\":[\"stem@1@0@ab@half\"]}", "\"pair\":true", "\"bytes\":9");
    SAYS("POST", "pin", "{\"keys\":[\"stem@1@0@ab@half\"]}", "\"pinned\":1");
    SAYS("POST", "lookup", "{\"keys\":[\"stem@1@0@ab@halfmetadata\"]}", "\"pinned\":true", "\"pin_ms\":null");
    close(fd);
}

/* The first link of LMCache's chain over tokens 1, 2 in blocks of 2 (checked against its hasher's rule in
 * unit_store_parts). */
static void a_prompt_is_asked_for_by_its_tokens(void **state)
{
    (void)state;
    char out[256], key[256];
    int fd = dial(resp_port(gw));
    struct resp r = admin(gw, "POST", "prefix", "{\"tokens\":[1,2,3,4,5],\"block\":2,\"model\":\"org/m\"}");
    assert_int_equal(r.status, 200);
    assert_string_equal(json_at(r.body, "asked"), "2");
    snprintf(key, sizeof key, "%s", json_at(r.body, "first_absent"));
    resp_free(&r);
    assert_int_equal(strncmp(key, "org/m@kv_rank_01000100@object_group_id_0@", 41), 0);
    redis(fd, out, "SET", key, "value");
    SAYS("POST", "prefix", "{\"tokens\":[1,2,3,4,5],\"block\":2,\"model\":\"org/m\"}", "\"here\":1",
         "\"tokens\":2");
    close(fd);
}

static void clearing_takes_what_was_named_and_no_more(void **state)
{
    (void)state;
    char out[256];
    int fd = dial(resp_port(gw));
    redis(fd, out, "SELECT", "5");
    redis(fd, out, "MSET", "x@1@0@aa@half", "1", "x@1@0@bb@half", "1", "y@1@0@aa@half", "1", "plain", "1");
    SAYS("POST", "clear", "{\"namespace\":\"5\",\"model\":\"x\",\"dry_run\":true}", "\"matched\":2",
         "\"cleared\":0");
    SAYS("POST", "clear", "{\"namespace\":\"5\",\"model\":\"x\"}", "\"matched\":2", "\"cleared\":2");
    redis(fd, out, "EXISTS", "x@1@0@aa@half", "x@1@0@bb@half", "y@1@0@aa@half", "plain");
    assert_string_equal(out, ":2");
    redis(fd, out, "SELECT", "6");
    redis(fd, out, "SET", "other", "1");
    SAYS("POST", "clear", "{\"namespace\":\"5\"}", "\"cleared\":2");
    redis(fd, out, "EXISTS", "other");
    assert_string_equal(out, ":1");
    SAYS("POST", "epoch", "{\"namespace\":\"6\"}", "\"epoch\":1", "\"durable\":true");
    redis(fd, out, "EXISTS", "other");
    assert_string_equal(out, ":0");
    redis(fd, out, "SET", "other", "1");
    redis(fd, out, "EXISTS", "other");
    assert_string_equal(out, ":1");
    SAYS("POST", "clear", "{\"all\":true}", "\"dry_run\":false");
    redis(fd, out, "DBSIZE");
    assert_string_equal(out, ":0");
    close(fd);
}

static void hostile_bodies_get_one_clear_error(void **state)
{
    (void)state;
    static const char *const all[][2] = {
        {"clear", "{}"}, {"clear", "{\"all\":false}"}, {"clear", "{\"all\":true,\"model\":\"m\"}"},
        {"clear", "{\"namespce\":\"5\"}"}, {"lookup", "{}"}, {"lookup", "{\"keys\":[]}"}, {"lookup", "[]"},
        {"lookup", "{\"keys\":[\"a\"],\"keys\":[\"b\"]}"}, {"lookup", "{\"keys\":[\"\\ud800\"]}"},
        {"move", "{\"keys\":[\"a\"]}"}, {"move", "{\"keys\":[\"a\"],\"to\":\"there\"}"},
        {"pin", "{\"keys\":[\"a\"],\"ttl\":-1}"}, {"pin", "{\"keys\":[\"a\"],\"to\":\"disk\"}"},
        {"prefix", "{\"tokens\":[1,2]}"}, {"prefix", "{\"tokens\":[1],\"model\":\"m\"}"}, {"epoch", "{}"},
        {"lookup", "{\"tenant\":\"bob\",\"keys\":[\"a\"]}"}, {"lookup", "not json"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct resp r = admin(gw, "POST", all[i][0], all[i][1]);
        if (r.status != 400 || !*json_at(r.body, "message"))
            fail_msg("%s %s: %d %s", all[i][0], all[i][1], r.status, r.body);
        resp_free(&r);
    }
    struct resp r = http(gw->port, "GET", "/larder/v1/kv/health", "", "");
    assert_int_equal(r.status, 401);
    resp_free(&r);
    r = admin(gw, "DELETE", "quota", "{}");
    assert_int_equal(r.status, 405);
    resp_free(&r);
}

static void health_tells_tiers_and_counts(void **state)
{
    (void)state;
    SAYS("GET", "health", "", "\"ok\":true", "\"tier\":\"memory\"", "\"bytes_max\":16777216",
         "\"tier\":\"disk\"", "\"queue_bytes\"", "\"disk_drop_full\":0", "\"recovery\"", "\"connections\"");
    struct resp r = http(gw->port, "GET", "/metrics", "", "");
    assert_non_null(strstr(r.body, "larder_kv_quotas"));
    assert_non_null(strstr(r.body, "larder_kv_client_rows "));
    resp_free(&r);
}

static void without_a_store_the_verbs_say_so(void **state)
{
    (void)state;
    static const char *const args[] = {"--no-kv-warm", NULL}; /* else the toy model opens one */
    struct gw *g = gw_start(NULL, NULL, args);
    struct resp r = admin(g, "GET", "health", "");
    assert_int_equal(r.status, 404);
    assert_string_equal(json_at(r.body, "code"), "kv_off");
    resp_free(&r);
    r = admin(g, "POST", "clear", "{\"all\":true}");
    assert_int_equal(r.status, 404);
    resp_free(&r);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

/* The option is printed by doctor and shown by the dashboard: a password has no place in it. */
static void the_remote_tiers_password_comes_from_a_file(void **state)
{
    char out[4096];
    (void)state;
    char data[] = "/tmp/larder-remote-XXXXXX", remove[64];
    assert_non_null(mkdtemp(data));
    const char *const inside[] = {"serve",  "--listen",    "127.0.0.1:0", "--resp",
                                  "127.0.0.1:0", "--data", data,          "--kv-remote",
                                  "redis://u:sesame@127.0.0.1:1", NULL};
    assert_int_not_equal(larder(out, sizeof out, inside), 0);
    assert_non_null(strstr(out, "kv.remote-auth-file"));
    assert_null(strstr(out, "sesame"));
    (void)snprintf(remove, sizeof remove, "rm -rf %s", data);
    assert_int_equal(system(remove), 0);
}

/* ---- quotas ---- */

static uint64_t tenant_bytes(const struct gw *g)
{
    struct resp r = admin(g, "GET", "quota", "");
    assert_int_equal(r.status, 200);
    uint64_t n = strtoull(json_at(r.body, "bytes"), NULL, 10);
    resp_free(&r);
    return n;
}

static void fill(int port, char *value)
{
    char out[256], key[16];
    int fd = dial(port);
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%d", i);
        redis(fd, out, "SET", key, value);
        assert_string_equal(out, "+OK");
    }
    close(fd);
}

static void a_quota_holds_and_survives_a_restart(void **state)
{
    (void)state;
    char dir[256], value[1001];
    memset(value, 'v', 1000);
    value[1000] = 0;
    struct gw *g = start(NULL);
    snprintf(dir, sizeof dir, "%s", g->dir);
    struct resp r = admin(g, "PUT", "quota", "{\"bytes\":\"10K\"}");
    assert_int_equal(r.status, 200);
    assert_string_equal(json_at(r.body, "bytes_max"), "10240");
    resp_free(&r);
    fill(resp_port(g), value);
    assert_in_range(tenant_bytes(g), 1000, 10240);
    assert_int_equal(gw_stop(g, SIGKILL), 128 + SIGKILL);
    free(g); /* the directory stays */
    g = start(dir);
    fill(resp_port(g), value);
    assert_in_range(tenant_bytes(g), 1000, 10240);
    r = admin(g, "PUT", "quota", "{\"bytes\":0}");
    assert_int_equal(r.status, 200);
    resp_free(&r);
    fill(resp_port(g), value);
    assert_int_equal(tenant_bytes(g), 40000);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

/* ---- the command line ---- */

/* `larder kv WORDS...` of a running daemon; exit status, output in out. */
static int kv_v(const struct gw *g, char *out, size_t cap, const char *const *more)
{
    char listen[40];
    const char *args[24] = {"kv"};
    size_t n = 1;
    snprintf(listen, sizeof listen, "127.0.0.1:%d", g->port);
    for (; *more; more++)
        args[n++] = *more;
    args[n++] = "--listen";
    args[n++] = listen;
    args[n++] = "--data";
    args[n++] = g->dir;
    args[n] = NULL;
    return larder(out, cap, args);
}
#define KV(status, out, ...)                                                                       \
    assert_int_equal(kv_v(gw, out, sizeof out, (const char *const[]){__VA_ARGS__, NULL}), status)

static void told(const char *out, const char *what)
{
    if (!strstr(out, what))
        fail_msg("no '%s' in %s", what, out);
}

static void the_shell_does_the_same(void **state)
{
    (void)state;
    char out[16384], reply[256], path[300];
    int fd = dial(resp_port(gw));
    redis(fd, reply, "MSET", "s1", "1", "s2", "22", "sm@1@0@aa@half", "1");
    KV(0, out, "lookup", "s1", "gone");
    told(out, "memory");
    told(out, "absent");
    KV(0, out, "lookup", "s1", "--json");
    assert_string_equal(json_at(out, "found"), "true");
    snprintf(path, sizeof path, "%s", json_at(out, "id"));
    KV(0, out, "lookup", "--ids", path);
    told(out, path);
    KV(0, out, "pin", "s1", "s2", "--ttl", "1h");
    told(out, "pinned        2");
    KV(0, out, "unpin", "s1");
    KV(0, out, "move", "out", "s2");
    told(out, "moved         1");
    KV(0, out, "prefix", "s1", "s2", "s3");
    told(out, "here          2");
    snprintf(path, sizeof path, "%s/tokens", gw->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("[1, 2, 3\n4]", f);
    fclose(f);
    KV(0, out, "prefix", "--tokens", path, "--model", "m", "--block", "2");
    told(out, "asked         2");
    KV(0, out, "health");
    told(out, "well: ");
    told(out, "memory   ok");
    KV(0, out, "quota");
    told(out, "p-");
    KV(0, out, "epoch", "bump", "3");
    told(out, "durable       true");
    KV(0, out, "clear", "--model", "sm", "--dry-run");
    told(out, "matched       1");
    KV(0, out, "clear", "--all");
    redis(fd, reply, "DBSIZE");
    assert_string_equal(reply, ":0");
    KV(0, out, "doctor");
    KV(2, out, "clear", "all");
    KV(2, out, "lookup");
    KV(2, out, "health", "--ttl", "1h");
    KV(2, out, "lookup", "a", "--dry-run");
    KV(2, out, "nonsense");
    KV(1, out, "clear"); /* the daemon refuses: it was not said what */
    KV(1, out, "move", "moon", "s1");
    close(fd);
}

/* ---- the doctor ---- */

/* As LMCache's engine does: asks for each chunk, then sends it. */
static void engine(int port, const char *name, const char *before, unsigned seed, const char *after, bool pair)
{
    char out[256], key[256], half[300];
    int fd = dial(port);
    if (name)
        redis(fd, out, "CLIENT", "SETNAME", name);
    redis(fd, out, "CLIENT", "SETINFO", "LIB-NAME", "redis-py");
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "%s%llx%s", before, (i + 1) * 0x9e3779b97f4a7c15ull * (seed | 1), after);
        snprintf(half, sizeof half, "%smetadata", key);
        redis(fd, out, "EXISTS", pair ? half : key);
        if (pair)
            redis(fd, out, "SET", half, "0123456789012345678901234567");
        else
            redis(fd, out, "SET", key, "the very same value");
    }
    close(fd);
}

static void the_doctor_tells_why_clients_share_nothing(void **state)
{
    (void)state;
    struct gw *g = start(NULL);
    struct gw *kept = gw;
    gw = g;
    int port = resp_port(g);
    engine(port, "engine-1", "llama@1@0@", 1, "@half", false);
    engine(port, "engine-2", "llama@1@0@", 77, "@half", false);    /* another seed */
    engine(port, "engine-3", "qwen@1@0@", 1, "@half", false);
    engine(port, "engine-4", "qwen@1@0@", 1, "@bfloat16", false);  /* the same chunks, another type */
    engine(port, "engine-5", "phi@1@0@", 1, "@half", true);        /* halves of pairs */
    SAYS("GET", "doctor", "", "\"n_clients\":5", "\"name\":\"engine-2\"", "\"library\":\"redis-py\"",
         "\"address\":\"127.0.0.1\"", "\"sets\":40", "\"asks\":40", "\"hash_bits\":64",
         "\"reason\":\"hash-seed\",\"sure\":false,\"model\":\"llama\"", "PYTHONHASHSEED=0",
         "\"reason\":\"dtype\",\"sure\":true,\"model\":\"qwen\"", "half | bfloat16",
         "\"reason\":\"half-pairs\"");
    char out[16384];
    KV(1, out, "doctor");
    told(out, "engine-4");
    told(out, "SURE: qwen: ");
    told(out, "LIKELY: llama: ");
    told(out, "PYTHONHASHSEED=0");
    gw = kept;
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_found_pinned_and_moved),
        cmocka_unit_test(a_chunk_is_named_by_its_stem),
        cmocka_unit_test(a_prompt_is_asked_for_by_its_tokens),
        cmocka_unit_test(clearing_takes_what_was_named_and_no_more),
        cmocka_unit_test(hostile_bodies_get_one_clear_error),
        cmocka_unit_test(health_tells_tiers_and_counts),
        cmocka_unit_test(without_a_store_the_verbs_say_so),
        cmocka_unit_test(the_remote_tiers_password_comes_from_a_file),
        cmocka_unit_test(a_quota_holds_and_survives_a_restart),
        cmocka_unit_test(the_shell_does_the_same),
        cmocka_unit_test(the_doctor_tells_why_clients_share_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
