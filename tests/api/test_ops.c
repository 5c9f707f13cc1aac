/* SPDX-License-Identifier: Apache-2.0
 * api/test_ops.c - running it: reload, restart, what is damaged, taken or full, TLS, limits on the
 * way in.
 */
#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool hits(struct gw *g, const char *body)
{
    struct resp r = post(g->port, CHAT, body);
    bool hit = strcmp(header(&r, "x-larder-cache"), "hit") == 0;
    assert_int_equal(r.status, 200);
    resp_free(&r);
    return hit;
}

/* Stops it and starts another one over the same directory. */
static struct gw *again(struct gw *g, struct up *u, const char *const *args)
{
    char dir[256];
    snprintf(dir, sizeof dir, "%s", g->dir);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    free(g);
    return gw_start(u, dir, args);
}

/* ---- reload ---- */

static void a_hangup_reads_the_config_again(void **state)
{
    (void)state;
    struct up *second = up_start(up_llm);
    struct gw *g = gw_config(
        NULL, "upstreams:\n- {name: one, url: 'http://127.0.0.1:%d', models: [m]}\n", up->port);
    assert_int_equal(status_of(g, "", ASK("x")), 200);
    const char *other = "{\"model\":\"m2\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
    assert_int_equal(status_of(g, "", other), 404);
    until_stored(g, ASK("x"));

    gw_write_config(g,
                    "http.body-max: 64K\nlog.level: debug\nupstreams:\n- {name: one, url: "
                    "'http://127.0.0.1:%d', models: [m]}\n"
                    "- {name: two, url: 'http://127.0.0.1:%d', models: [m2]}\n",
                    up->port, second->port);
    kill(g->pid, SIGHUP);
    EVENTUALLY(gw_said(g, "event=reloaded"));
    assert_int_equal(status_of(g, "", other), 200); /* an upstream more */
    assert_int_equal(up_count(second), 1);
    char *big = malloc(100001);
    memset(big, ' ', 100000);
    big[100000] = 0;
    assert_int_equal(status_of(g, "", big), 413); /* a live option */
    free(big);
    assert_true(hits(g, ASK("x")));

    gw_write_config(
        g,
        "http.body-max: 64K\nupstreams:\n- {name: one, url: 'http://127.0.0.1:%d', modles: [m]}\n",
        up->port);
    kill(g->pid, SIGHUP);
    EVENTUALLY(gw_said(g, "event=reload_refused"));
    EVENTUALLY(gw_said(g, "modles")); /* says what is wrong, and where */
    assert_true(gw_said(g, "larder.yaml:3"));
    assert_int_equal(status_of(g, "", other), 200); /* goes on with the old one */

    gw_write_config(
        g,
        "answer.evict: lru\nupstreams:\n- {name: one, url: 'http://127.0.0.1:%d', models: [m]}\n",
        up->port);
    kill(g->pid, SIGHUP);
    EVENTUALLY(gw_said(g, "needs_restart=") && gw_said(g, "answer.evict"));
    assert_int_equal(
        status_of(g, "", "{\"model\":\"m2\",\"messages\":[{\"role\":\"user\",\"content\":\"y\"}]}"),
        404);
    done(g);
    up_stop(second);
}

static void requests_in_progress_end_under_their_own_config(void **state)
{
    (void)state;
    struct gw *g = gw_config(NULL, "upstreams:\n- {url: 'http://127.0.0.1:%d'}\n", up->port);
    char head[1024], buf[65536] = "";
    const char *body = STREAM("slow reload");
    int n = up_count(up), fd = dial(g->port);
    int k = snprintf(head, sizeof head,
                     "POST " CHAT " HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" KEY
                     "content-length: %zu\r\n\r\n%s",
                     strlen(body), body);
    send_all(fd, head, (size_t)k);
    EVENTUALLY(up_count(up) == n + 1);
    gw_write_config(g, "log.level: info\n");
    kill(g->pid, SIGHUP);
    EVENTUALLY(gw_said(g, "event=reloaded"));
    assert_int_equal(status_of(g, "", ASK("no upstream now")), 503);
    size_t at = 0;
    for (ssize_t m; (m = recv(fd, buf + at, sizeof buf - 1 - at, 0)) > 0;)
        at += (size_t)m;
    buf[at] = 0;
    assert_non_null(strstr(buf, "[DONE]"));
    close(fd);
    done(g);
}

/* ---- restart ---- */

static void another_strategy_finds_the_same_answers(void **state)
{
    (void)state;
    static const char *const strategies[] = {"lru", "cost", "s3fifo"};
    struct gw *g = gw_start(up, NULL, NULL);
    prove(g);
    EVENTUALLY(hits(g, ASK("strategies")));
    sleep_ms(100);
    for (int i = 0; i < 3; i++) {
        g = again(g, up, (const char *const[]){"--answer-evict", strategies[i], NULL});
        assert_true(hits(g, ASK("strategies")));
    }
    done(g);
}

static void damage(const char *dir, long at, const char *bytes, size_t n)
{
    char path[300];
    snprintf(path, sizeof path, "%s/answers.mdb", dir);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_true(pwrite(fd, bytes, n, at) == (ssize_t)n);
    close(fd);
}

static void a_damaged_file_is_set_aside_with_a_clear_line(void **state)
{
    (void)state;
    static char junk[8192];
    struct gw *g = gw_start(up, NULL, NULL);
    prove(g);
    EVENTUALLY(hits(g, ASK("damaged")));
    sleep_ms(100);
    char dir[256], path[300];
    snprintf(dir, sizeof dir, "%s", g->dir);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    free(g);
    memset(junk, 0x5a, sizeof junk);
    damage(dir, 0, junk, sizeof junk); /* both meta pages */
    g = gw_start(up, dir, NULL);
    assert_true(gw_said(g, "answers.mdb.bad-"));
    snprintf(path, sizeof path, "%s/answers.mdb.bad-1", dir);
    assert_int_equal(access(path, F_OK), 0);
    assert_false(hits(g, ASK("damaged"))); /* cold */
    EVENTUALLY(hits(g, ASK("damaged")));   /* and stores again */
    snprintf(dir, sizeof dir, "%s", g->dir);
    sleep_ms(100);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    free(g);
    snprintf(path, sizeof path, "%s/answers.mdb", dir);
    assert_int_equal(truncate(path, 5000), 0); /* cut short */
    g = gw_start(up, dir, NULL);
    assert_int_equal(status_of(g, "", ASK("damaged")), 200);
    done(g);
}

static void other_damaged_state_does_not_stop_the_start_or_says_why(void **state)
{
    (void)state;
    struct gw *g = gw_start(up, NULL, NULL);
    prove(g);
    EVENTUALLY(hits(g, ASK("proofs")));
    sleep_ms(100);
    char dir[256], path[300], out[2048];
    snprintf(dir, sizeof dir, "%s", g->dir);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    free(g);
    snprintf(path, sizeof path, "%s/proofs", dir);
    FILE *f = fopen(path, "w");
    fprintf(f, "not what it was");
    fclose(f);
    g = gw_start(up, dir, NULL);
    assert_false(hits(g, ASK("proofs"))); /* nobody is proven now */
    EVENTUALLY(hits(g, ASK("proofs")));
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    snprintf(path, sizeof path, "%s/admin.key", dir);
    f = fopen(path, "w");
    fclose(f);
    assert_int_not_equal(
        larder(out, sizeof out,
               (const char *const[]){"serve", "--listen", "127.0.0.1:0", "--data", dir, NULL}),
        0);
    assert_non_null(strstr(out, "admin.key"));
    gw_free(g);
}

static void secrets_are_for_the_owner_only(void **state)
{
    (void)state;
    static const char *const files[] = {"", "admin.key", "secret", "proofs", "answers.mdb"};
    char dir[256], inner[280], path[400];
    struct gw *g = gw_start(up, NULL, NULL);
    snprintf(dir, sizeof dir, "%s", g->dir);
    snprintf(inner, sizeof inner, "%s/made", dir);
    struct gw *h = gw_start(up, inner, NULL); /* a directory that it makes itself */
    prove(h);
    assert_int_equal(gw_stop(h, SIGTERM), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", inner, files[i]);
        if (stat(path, &st))
            fail_msg("%s is missing", path);
        assert_int_equal(st.st_mode & 077, 0);
    }
    gw_free(h);
    done(g);
}

static void one_process_a_directory(void **state)
{
    (void)state;
    char out[2048];
    struct gw *g = gw_start(up, NULL, NULL);
    assert_int_not_equal(
        larder(out, sizeof out,
               (const char *const[]){"serve", "--listen", "127.0.0.1:0", "--data", g->dir, NULL}),
        0);
    assert_non_null(strstr(out, g->dir));
    assert_non_null(strstr(out, "another"));
    assert_int_equal(status_of(g, "", ASK("the first one does not mind")), 200);
    done(g);
}

static void a_taken_port_is_said(void **state)
{
    (void)state;
    char out[2048], listen[64], dir[] = "/tmp/larder-test-XXXXXX";
    struct gw *g = gw_start(up, NULL, NULL);
    assert_non_null(mkdtemp(dir));
    snprintf(listen, sizeof listen, "127.0.0.1:%d", g->port);
    assert_int_not_equal(
        larder(out, sizeof out,
               (const char *const[]){"serve", "--listen", listen, "--data", dir, NULL}),
        0);
    assert_non_null(strstr(out, listen));
    assert_non_null(strcasestr(out, "in use"));
    done(g);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

static void bad_options_are_refused_with_their_place(void **state)
{
    (void)state;
    char out[4096];
    static const struct {
        const char *args[8], *says;
    } cases[] = {
        {{"serve", "--answer-ttl", "soon", NULL}, "answer"},
        {{"serve", "--answer-bytes", "1", NULL}, "answer"},
        {{"serve", "--no-such-thing", NULL}, "no-such-thing"},
        {{"serve", "--config", "/nonexistent/larder.yaml", NULL}, "/nonexistent/larder.yaml"},
        {{"serve", "--listen", "nowhere", "--data", "/tmp/larder-test-never", NULL}, "nowhere"},
        {{"serve", "extra", NULL}, "extra"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_not_equal(larder(out, sizeof out, cases[i].args), 0);
        if (!strstr(out, cases[i].says))
            fail_msg("'%s' does not say %s", out, cases[i].says);
    }
}

/* ---- nobody to ask ---- */

static void no_model_is_said_in_one_line(void **state)
{
    (void)state;
    char cmd[1200], line[4096] = "", dir[] = "/tmp/larder-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    snprintf(cmd, sizeof cmd, "timeout 2 %s serve --model none --listen 127.0.0.1:0 --data %s 2>&1; rm -rf %s",
             getenv("LARDER"), dir, dir);
    FILE *f = popen(cmd, "r");
    size_t n = fread(line, 1, sizeof line - 1, f);
    line[n] = 0;
    pclose(f);
    assert_non_null(strstr(line, "no model is attached"));
    assert_non_null(strstr(line, "--upstream"));
}

/* ---- TLS ---- */

static bool run(const char *cmd)
{
    return system(cmd) == 0;
}

static void the_door_speaks_tls(void **state)
{
    (void)state;
    char cmd[2000], cert[300], key[300], dir[] = "/tmp/larder-test-XXXXXX", out[8192];
    if (!run("command -v openssl >/dev/null && command -v curl >/dev/null")) {
        fprintf(stderr, "SKIPPED: openssl or curl is missing, the TLS door is not tested\n");
        skip();
    }
    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    snprintf(cmd, sizeof cmd,
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "
             "subjectAltName=DNS:localhost "
             "-keyout %s -out %s 2>/dev/null",
             key, cert);
    assert_true(run(cmd));
    struct gw *g = gw_start(
        up, NULL, (const char *const[]){"--tls-cert-file", cert, "--tls-key-file", key, NULL});
    for (int i = 0; i < 200; i++) {
        snprintf(cmd, sizeof cmd,
                 "curl -sS -i --http1.1 --noproxy '*' --cacert %s https://localhost:%d" CHAT
                 " -H 'content-type: application/json' "
                 "-H 'authorization: Bearer sk-test' -d '%s' 2>&1",
                 cert, g->port, ASK("over tls"));
        FILE *f = popen(cmd, "r");
        out[fread(out, 1, sizeof out - 1, f)] = 0;
        pclose(f);
        if (!strstr(out, "hello from upstream"))
            fail_msg("%s", out);
        if (strcasestr(out, "x-larder-cache: hit"))
            break;
        assert_int_not_equal(i, 199);
    }
    /* A streamed answer, and one for a client that speaks plain to it. */
    snprintf(cmd, sizeof cmd,
             "curl -sS -N --noproxy '*' --cacert %s https://localhost:%d" CHAT
             " -H 'content-type: application/json' "
             "-H 'authorization: Bearer sk-test' -d '%s' 2>&1 | grep -q DONE",
             cert, g->port, STREAM("slow over tls"));
    assert_true(run(cmd));
    int fd = dial(g->port);
    struct resp r = talk(fd, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", 42);
    assert_int_not_equal(r.status, 200);
    resp_free(&r);
    close(fd);
    done(g);
    char res[4096];
    assert_int_not_equal(larder(res, sizeof res,
                                (const char *const[]){"serve", "--listen", "127.0.0.1:0", "--data",
                                                      dir, "--tls-cert-file", cert,
                                                      "--tls-key-file", "/nonexistent.pem", NULL}),
                         0);
    assert_non_null(strstr(res, "/nonexistent.pem"));
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    run(cmd);
}

/* ---- full ---- */

static void fill_until_refused(struct gw *g)
{
    for (int i = 0; i < 60; i++) {
        char body[256];
        snprintf(body, sizeof body, ASK("long 60000 number %d"), i);
        assert_int_equal(status_of(g, "", body), 200);
    }
}

static void a_full_disk_costs_the_store_and_nothing_else(void **state)
{
    (void)state;
    char dir[] = "/tmp/larder-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    if (mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700")) {
        rmdir(dir);
        fprintf(stderr,
                "SKIPPED: a small tmpfs cannot be mounted (%s), the full disk is not tested\n",
                strerror(errno));
        skip();
    }
    struct gw *g = gw_start(up, dir, (const char *const[]){"--answer-bytes", "16M", NULL});
    fill_until_refused(g);
    assert_int_equal(status_of(g, "", ASK("after the disk was full")), 200);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    umount2(dir, MNT_DETACH);
    gw_free(g);
}

static void a_byte_budget_evicts_and_goes_on(void **state)
{
    (void)state;
    struct gw *g = gw_start(
        up, NULL, (const char *const[]){"--answer-bytes", "16M", "--answer-hot-bytes", "1M", NULL});
    prove(g);
    for (int i = 0; i < 400; i++) { /* 24 MB into 16 MiB */
        char body[256];
        snprintf(body, sizeof body, ASK("long 60000 budget %d"), i);
        assert_int_equal(status_of(g, "", body), 200);
    }
    EVENTUALLY(hits(g, ASK("still stores")));
    char admin[160];
    snprintf(admin, sizeof admin, "authorization: Bearer %s\r\n", g->admin_key);
    struct resp r = http(g->port, "GET", "/metrics", admin, NULL);
    assert_int_equal(r.status, 200);
    resp_free(&r);
    char path[300];
    struct stat st;
    snprintf(path, sizeof path, "%s/answers.mdb", g->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < (48 << 20));
    done(g);
}

/* ---- limits ---- */

/* The first answer is let in, the limit is felt after it; says which. */
static void spent_after_one(const char *limit, const char *name)
{
    struct gw *g = gw_config(NULL,
                             "upstreams:\n- url: http://127.0.0.1:%d\ntenants:\n- {name: '*', %s}\n"
                             "prices:\n- {model: m, date: 2026-01-01, input: 1000, output: 1000}\n",
                             up->port, limit);
    struct resp r = http(g->port, "POST", CHAT, KEY, ASK("budget 1"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    until_stored(g, ASK("budget 1"));
    for (int i = 0; i < 200 && r.status != 429; i++) {
        char body[128];
        snprintf(body, sizeof body, ASK("budget 2 %d"), i);
        resp_free(&r);
        r = post(g->port, CHAT, body);
    }
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.body, name));
    assert_true(atoi(header(&r, "retry-after")) > 0);
    resp_free(&r);
    assert_true(hits(g, ASK("budget 1"))); /* what is stored is paid for */
    r = http(g->port, "POST", "/v1/messages", KEY, WITH("\"max_tokens\":4", "x"));
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.body, "rate_limit_error"));
    resp_free(&r);
    r = http(g->port, "POST", CHAT,
             "content-type: application/json\r\nauthorization: Bearer sk-someone-else\r\n",
             ASK("another tenant"));
    assert_int_equal(r.status, 200);
    resp_free(&r);
    done(g);
}

static void tokens_and_money_of_a_tenant_are_limited(void **state)
{
    (void)state;
    spent_after_one("tokens-per-day: 10", "tokens-per-day");
    spent_after_one("money-per-day: 0.001", "money-per-day");
}

static void bytes_of_a_tenant_are_limited(void **state)
{
    (void)state;
    struct gw *g = gw_config(
        NULL, "upstreams:\n- url: http://127.0.0.1:%d\ntenants:\n- {name: '*', bytes: 8000}\n",
        up->port);
    status_of(g, "", ASK("long 10 small"));
    EVENTUALLY(hits(g, ASK("long 10 small")));
    assert_int_equal(status_of(g, "", ASK("long 20000 large")), 200);
    sleep_ms(60);
    assert_false(hits(g, ASK("long 20000 large")));
    assert_true(hits(g, ASK("long 10 small")));
    done(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hangup_reads_the_config_again),
        cmocka_unit_test(requests_in_progress_end_under_their_own_config),
        cmocka_unit_test(another_strategy_finds_the_same_answers),
        cmocka_unit_test(a_damaged_file_is_set_aside_with_a_clear_line),
        cmocka_unit_test(other_damaged_state_does_not_stop_the_start_or_says_why),
        cmocka_unit_test(secrets_are_for_the_owner_only),
        cmocka_unit_test(one_process_a_directory),
        cmocka_unit_test(a_taken_port_is_said),
        cmocka_unit_test(bad_options_are_refused_with_their_place),
        cmocka_unit_test(no_model_is_said_in_one_line),
        cmocka_unit_test(the_door_speaks_tls),
        cmocka_unit_test(a_full_disk_costs_the_store_and_nothing_else),
        cmocka_unit_test(a_byte_budget_evicts_and_goes_on),
        cmocka_unit_test(tokens_and_money_of_a_tenant_are_limited),
        cmocka_unit_test(bytes_of_a_tenant_are_limited),
    };
    return cmocka_run_group_tests(tests, set_up_upstream, tear_down);
}
