/* SPDX-License-Identifier: Apache-2.0
 * api/test_tenants.c - managed keys, limits, and what must never leave the house: secrets and text.
 */
#include "kit.h"

#include <fcntl.h>

static struct resp ask_as(struct gw *g, const char *key, const char *body)
{
    char headers[256];
    snprintf(headers, sizeof headers,
             "content-type: application/json\r\nauthorization: Bearer %s\r\n", key);
    return http(g->port, "POST", CHAT, headers, body);
}

static bool hits(struct gw *g, const char *key, const char *body)
{
    struct resp r = ask_as(g, key, body);
    bool hit = strcmp(header(&r, "x-larder-cache"), "hit") == 0;
    resp_free(&r);
    return hit;
}

/* Adds a key; the secret in out, its id in id. */
static void add_key(const char *file, const char *tenant, char out[128], char id[16])
{
    char text[512], *at;
    assert_int_equal(larder(text, sizeof text,
                            (const char *const[]){"key", "add", tenant, "--keys-file", file, NULL}),
                     0);
    at = strstr(text, "lk-");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "%127s", out), 1);
    at = strstr(text, "key ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "key %15s", id), 1);
}

static void managed_keys_make_tenants_and_revoking_one_is_felt(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-test-XXXXXX", file[300], a1[128], a2[128], b[128], id[16], ida2[16],
         config[300];
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/keys", dir);
    add_key(file, "team-a", a1, id);
    add_key(file, "team-a", a2, ida2);
    add_key(file, "team-b", b, id);
    snprintf(config, sizeof config, "%s/larder.yaml", dir);
    FILE *f = fopen(config, "w");
    fprintf(f,
            "upstreams:\n  - url: http://127.0.0.1:%d\n    credential: key\n    key-env: "
            "UPSTREAM_SECRET\n",
            up->port);
    fclose(f);
    setenv("UPSTREAM_SECRET", "sk-upstream-own", 1);
    struct gw *g =
        gw_start(NULL, dir, (const char *const[]){"--keys-file", file, "--config", config, NULL});

    struct resp r = ask_as(g, "sk-test", ASK("who"));
    assert_int_equal(r.status, 401);
    resp_free(&r);
    r = ask_as(g, a1, ASK("who"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    assert_non_null(strcasestr(up_last_head(up), "authorization: Bearer sk-upstream-own"));
    assert_null(strstr(up_last_head(up), a1)); /* our keys go no further */
    EVENTUALLY(hits(g, a1, ASK("who")));
    assert_true(hits(g, a2, ASK("who"))); /* the keys of one tenant share */
    assert_false(hits(g, b, ASK("who"))); /* another tenant does not */

    char text[256];
    assert_int_equal(
        larder(text, sizeof text,
               (const char *const[]){"key", "revoke", ida2, "--keys-file", file, NULL}),
        0);
    int status = 0;
    for (int i = 0; i < 600 && status != 401; i++) {
        r = ask_as(g, a2, ASK("who"));
        status = r.status;
        assert_true(status == 401 || status == 200);
        resp_free(&r);
        sleep_ms(10);
    }
    assert_int_equal(status, 401);
    assert_true(hits(g, a1, ASK("who")));
    char list[2048];
    assert_int_equal(
        larder(list, sizeof list, (const char *const[]){"key", "list", "--keys-file", file, NULL}),
        0);
    assert_non_null(strstr(list, "team-b"));
    assert_null(strstr(list, a1 + 3)); /* the secret is shown once only */
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

static void a_credential_that_fails_upstream_loses_its_hits(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--keys-proof", "1s", NULL});
    struct resp r = ask_as(g, "sk-test", ASK("proof"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    EVENTUALLY(hits(g, "sk-test", ASK("proof")));
    sleep_ms(1100);
    r = ask_as(g, "sk-test", ASK("proof"));
    assert_string_equal(header(&r, "x-larder-cache"),
                        "miss"); /* the proof has run out: asked upstream */
    assert_string_equal(header(&r, "x-larder-reason"), "unproven");
    resp_free(&r);
    assert_true(hits(g, "sk-test", ASK("proof")));
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

static void limits_answer_429_with_retry_after(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-test-XXXXXX", config[300];
    assert_non_null(mkdtemp(dir));
    snprintf(config, sizeof config, "%s/larder.yaml", dir);
    FILE *f = fopen(config, "w");
    fprintf(f, "tenants:\n  - name: '*'\n    requests-per-minute: 5\n");
    fclose(f);
    struct gw *g = gw_start(up, dir, (const char *const[]){"--config", config, NULL});
    int limited = 0;
    for (int i = 0; i < 12; i++) { /* a minute may roll over once in between */
        struct resp r = ask_as(g, "sk-test", ASK("limited"));
        if (r.status == 429) {
            limited++;
            assert_true(atoi(header(&r, "retry-after")) > 0);
            assert_non_null(strstr(r.body, "requests-per-minute"));
        }
        resp_free(&r);
    }
    assert_true(limited >= 2);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

static void listening_beyond_loopback_needs_keys(void **state)
{
    (void)state;
    char out[1024];
    assert_int_equal(larder(out, sizeof out,
                            (const char *const[]){"serve", "--listen", "0.0.0.0:0", "--data",
                                                  "/tmp/larder-test-never", NULL}),
                     1);
    assert_non_null(strstr(out, "larder key add"));
}

/* Fails when a file of the directory holds the needle (the answers' own database may: it is the
 * store). */
static void assert_not_in_file(const char *path, const char *needle)
{
    static char text[1 << 20];
    int fd = open(path, O_RDONLY);
    ssize_t k = fd >= 0 ? read(fd, text, sizeof text) : 0;
    close(fd);
    if (k > 0 && memmem(text, (size_t)k, needle, strlen(needle)))
        fail_msg("%s holds %s", path, needle);
}

static void canaries_stay_inside(void **state)
{
    (void)state;
    static const char *const canaries[] = {"sk-canary-credential", "canary-question",
                                           "canary-tool-text", "canary-system", "canary-query"};
    struct gw *g = gw_start(up, NULL, (const char *const[]){"--log-level", "debug", NULL});
    const char *bodies[] = {
        ASK("canary-question"),
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"canary-system\"},"
        "{\"role\":\"user\",\"content\":\"canary-question fail500\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"canary-question\"}],"
        "\"tools\":[{\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"description\":\"canary-tool-text\"}}]}",
        "{\"model\":\"m\",\"messages\":\"canary-question\"}",
        "{\"canary-question\":",
    };
    char ids[8][32] = {{0}};
    for (size_t i = 0; i < 5; i++)
        for (int twice = 0; twice < 2; twice++) {
            struct resp r = ask_as(g, "sk-canary-credential", bodies[i]);
            snprintf(ids[i], sizeof ids[i], "%s", header(&r, "x-larder-request-id"));
            resp_free(&r);
            sleep_ms(20);
        }
    struct resp r = http(g->port, "GET", "/v1/files?canary-query=1",
                         "authorization: Bearer sk-canary-credential\r\n", NULL);
    resp_free(&r);
    char admin[160], path[128];
    snprintf(admin, sizeof admin, "authorization: Bearer %s\r\n", g->admin_key);
    const char *pages[] = {
        "/metrics",          "/larder/v1/entries",   "/larder/v1/stats", "/larder/v1/requests",
        "/larder/v1/config", "/larder/v1/instances", "/larder/v1/trace", "/ui"};
    for (size_t p = 0; p < sizeof pages / sizeof pages[0] + 5; p++) {
        if (p < 8)
            snprintf(path, sizeof path, "%s", pages[p]);
        else
            snprintf(path, sizeof path, "/larder/v1/explain/%s", ids[p - 8]);
        r = http(g->port, "GET", path, admin, NULL);
        assert_true(r.status == 200 || (p >= 8 && r.status == 404));
        for (size_t i = 0; i < 5; i++)
            if (strstr(r.body, canaries[i]) || strstr(r.head, canaries[i]))
                fail_msg("%s shows %s", path, canaries[i]);
        assert_null(strstr(r.body, g->admin_key));
        resp_free(&r);
    }
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    for (size_t i = 0; i < 5; i++) {
        assert_not_in_file(g->log, canaries[i]);
        char proofs[300];
        snprintf(proofs, sizeof proofs, "%s/proofs", g->dir);
        assert_not_in_file(proofs, canaries[i]);
    }
    gw_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(managed_keys_make_tenants_and_revoking_one_is_felt),
        cmocka_unit_test(a_credential_that_fails_upstream_loses_its_hits),
        cmocka_unit_test(limits_answer_429_with_retry_after),
        cmocka_unit_test(listening_beyond_loopback_needs_keys),
        cmocka_unit_test(canaries_stay_inside),
    };
    return cmocka_run_group_tests(tests, set_up_upstream, tear_down);
}
