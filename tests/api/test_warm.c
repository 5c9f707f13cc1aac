/* SPDX-License-Identifier: Apache-2.0
 * api/test_warm.c - the warm start seen from outside: a prompt is computed once, and no restart, crash or
 * flipped bit shows in what is answered.
 */
#include "kit.h"

#include <dirent.h>

#define NO_SHELF "cache-control: no-store, no-cache\r\n"

static char dir[] = "/tmp/larder-warm-XXXXXX";
static char nano[64];

static struct gw *serve(const char *data, const char *flag)
{
    const char *args[] = {"--model", nano, "--engine-threads", "1", "--engine-context", "3000",
                          "--kv-memory", "64M", flag, NULL};
    return gw_start(NULL, data, args);
}

/* A question of some 1,000 tokens; `end` makes its last words. */
static struct resp ask_long(const struct gw *g, const char *key, const char *end)
{
    static const char words[] = "the shelf holds what was cooked before; ";
    char body[4096], text[2400] = "", headers[256];
    for (size_t n = 0; n + sizeof words < 1500; n += sizeof words - 1)
        memcpy(text + n, words, sizeof words);
    (void)snprintf(body, sizeof body,
                   "{\"model\":\"nano\",\"seed\":5,\"temperature\":1,\"max_tokens\":12,"
                   "\"logit_bias\":{\"2\":-100},\"messages\":[{\"role\":\"user\",\"content\":\"%s%s\"}]}",
                   text, end);
    (void)snprintf(headers, sizeof headers,
                   "content-type: application/json\r\nauthorization: Bearer %s\r\n" NO_SHELF, key);
    struct resp r = http(g->port, "POST", CHAT, headers, body);
    if (r.status != 200)
        fail_msg("%d %s", r.status, r.body);
    return r;
}

static int cached(const struct resp *r)
{
    return atoi(json_at(r->body, "cached_tokens"));
}

static void until_metric(const struct gw *g, const char *name, int least)
{
    int now = -1;
    for (int i = 0; i < 2000 && now < least; i++) {
        struct resp r = http(g->port, "GET", "/metrics", "", NULL);
        const char *p = r.body;
        while (p && (p = strstr(p, name)) && p > r.body && p[-1] != '\n')
            p++;
        if (p && (p = strchr(p, ' ')))
            now = atoi(p + 1);
        resp_free(&r);
        sleep_ms(5);
    }
    if (now < least)
        fail_msg("%s is %d", name, now);
}

/* Until its blocks are in the store, and on its disk. */
static void until_on_disk(const struct gw *g)
{
    until_metric(g, "larder_model_stored_blocks_total", 3);
    until_metric(g, "larder_kv_events_total{kind=\"disk_writes\"}", 3);
}

static void explains(const struct gw *g, const struct resp *r, const char *tier)
{
    char path[128], auth[160], want[32];
    (void)snprintf(path, sizeof path, "/larder/v1/explain/%s", header(r, "x-larder-request-id"));
    (void)snprintf(auth, sizeof auth, "authorization: Bearer %s\r\n", g->admin_key);
    (void)snprintf(want, sizeof want, "\"%s\":0,", tier);
    struct resp e = http(g->port, "GET", path, auth, NULL);
    assert_int_equal(e.status, 200);
    has(&e, "\"shelf\":\"kv\"");
    has(&e, "\"saved_ms\":");
    if (strstr(e.body, want))
        fail_msg("nothing from %s: %s", tier, e.body);
    resp_free(&e);
}

static void damage(const char *data)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/kv", data);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        (void)snprintf(path, sizeof path, "%s/kv/%s", data, e->d_name);
        FILE *f = fopen(path, "r+b");
        if (!f || fseek(f, 0, SEEK_END))
            continue;
        long n = ftell(f);
        for (long at = n / 3; at < n; at += 4096) {
            fseek(f, at, SEEK_SET);
            int c = fgetc(f);
            fseek(f, at, SEEK_SET);
            fputc(c ^ 4, f);
        }
        fclose(f);
    }
    closedir(d);
}

/* The answer's text; static, so that two are not held at once. */
static void text_of(const struct resp *r, char out[1024])
{
    (void)snprintf(out, 1024, "%s", json_at(r->body, "content"));
}

static void a_restart_finds_the_prompt_computed(void **state)
{
    char cold[1024], warm[1024], data[256];
    struct gw *g = serve(NULL, NULL);
    (void)state;
    (void)snprintf(data, sizeof data, "%s", g->dir);
    struct resp r = ask_long(g, "sk-a", "first");
    text_of(&r, cold);
    assert_int_equal(cached(&r), 0);
    assert_string_equal(header(&r, "x-larder-shelf"), "none");
    resp_free(&r);
    until_on_disk(g);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(gw_stop(g, round ? SIGKILL : SIGTERM), round ? 128 + SIGKILL : 0);
        struct gw *next = serve(data, NULL);
        g->dir[0] = 0; /* the next one's now */
        gw_free(g);
        g = next;
        r = ask_long(g, "sk-a", "first");
        text_of(&r, warm);
        assert_string_equal(warm, cold);
        assert_true(cached(&r) >= 768);
        assert_string_equal(header(&r, "x-larder-shelf"), "kv");
        assert_string_equal(header(&r, "x-larder-cache"), "miss");
        if (strncmp(header(&r, "x-larder-kv"), "disk=", 5) != 0)
            fail_msg("x-larder-kv: %s", header(&r, "x-larder-kv"));
        explains(g, &r, "disk");
        resp_free(&r);
    }
    done(g);
}

static void a_flipped_bit_is_computed_again(void **state)
{
    char cold[1024], warm[1024], data[256];
    struct gw *g = serve(NULL, NULL);
    (void)state;
    (void)snprintf(data, sizeof data, "%s", g->dir);
    struct resp r = ask_long(g, "sk-a", "second");
    text_of(&r, cold);
    resp_free(&r);
    until_on_disk(g);
    assert_int_equal(gw_stop(g, SIGKILL), 128 + SIGKILL);
    damage(data);
    struct gw *next = serve(data, NULL);
    g->dir[0] = 0;
    gw_free(g);
    r = ask_long(next, "sk-a", "second");
    text_of(&r, warm);
    assert_string_equal(warm, cold);
    assert_true(cached(&r) < 768);
    resp_free(&r);
    done(next);
}

static void tenants_compute_their_own(void **state)
{
    (void)state;
    for (int share = 0; share < 2; share++) {
        struct gw *g = serve(NULL, share ? "--kv-share" : "--no-kv-share");
        struct resp r = ask_long(g, "sk-a", "third");
        resp_free(&r);
        until_on_disk(g);
        r = ask_long(g, "sk-b", "third");
        assert_int_equal(cached(&r) > 0, share);
        assert_string_equal(header(&r, "x-larder-shelf"), share ? "kv" : "none");
        resp_free(&r);
        done(g);
    }
}

static void without_it_nothing_is_stored(void **state)
{
    char path[300];
    struct gw *g = serve(NULL, "--no-kv-warm");
    (void)state;
    struct resp r = ask_long(g, "sk-a", "fourth");
    resp_free(&r);
    (void)snprintf(path, sizeof path, "%s/kv", g->dir);
    assert_int_equal(access(path, F_OK), -1);
    done(g);
}

static int setup(void **state)
{
    char out[512];
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(nano, sizeof nano, "%s/nano.gguf", dir);
    const char *const args[] = {"model", "random", "--like", "nano", "--type", "F32",
                                "--seed", "3", "--out", nano, NULL};
    return larder(out, sizeof out, args);
}

static int teardown(void **state)
{
    (void)state;
    unlink(nano);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_finds_the_prompt_computed),
        cmocka_unit_test(a_flipped_bit_is_computed_again),
        cmocka_unit_test(tenants_compute_their_own),
        cmocka_unit_test(without_it_nothing_is_stored),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
