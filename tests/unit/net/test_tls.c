/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/net/test_tls.c - certificates, against `openssl s_server`. Skipped, and said so, where
 * the openssl command is missing.
 */
#include "peer.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;
static char dir[] = "/tmp/larder-tls-XXXXXX";

static void in_dir(char out[static 200], const char *name)
{
    snprintf(out, 200, "%s/%s", dir, name);
}

/* Starts a program with its standard output in *out (-1: /dev/null) and a silent standard error. */
static bool spawn(const char *const argv[], pid_t *pid, int *out)
{
    posix_spawn_file_actions_t fa;
    int pipes[2] = {-1, -1};
    char *args[32];
    size_t n = 0;
    for (; argv[n]; n++)
        memcpy(&args[n], &argv[n], sizeof args[n]);
    args[n] = NULL;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    if (out && !pipe2(pipes, O_CLOEXEC))
        posix_spawn_file_actions_adddup2(&fa, pipes[1], 1);
    int rc = posix_spawnp(pid, args[0], &fa, NULL, args, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (out) {
        close(pipes[1]);
        *out = pipes[0];
    }
    return rc == 0;
}

static bool run_to_end(const char *const argv[])
{
    pid_t pid;
    int status = -1;
    return spawn(argv, &pid, NULL) && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* NAME.pem and NAME.key: self-signed for `san`. */
static bool make_cert(const char *name, const char *san)
{
    char cert[210], key[210], file[200], ext[100];
    in_dir(file, name);
    snprintf(cert, sizeof cert, "%s.pem", file);
    snprintf(key, sizeof key, "%s.key", file);
    snprintf(ext, sizeof ext, "subjectAltName=%s", san);
    const char *argv[] = {"openssl",
                          "req",
                          "-x509",
                          "-newkey",
                          "ec",
                          "-pkeyopt",
                          "ec_paramgen_curve:P-256",
                          "-nodes",
                          "-subj",
                          "/CN=larder test",
                          "-addext",
                          ext,
                          "-days",
                          "2",
                          "-keyout",
                          key,
                          "-out",
                          cert,
                          NULL};
    return run_to_end(argv);
}

struct server {
    pid_t pid;
    int out;
    char url[64];
};

/* Serves a status page with certificate `name`; wants a client certificate when `ca` is given. */
static void serve(struct server *s, const char *name, const char *ca)
{
    char cert[210], key[210], file[200], said[512] = "";
    in_dir(file, name);
    snprintf(cert, sizeof cert, "%s.pem", file);
    snprintf(key, sizeof key, "%s.key", file);
    const char *argv[] = {
        "openssl", "s_server", "-accept", "127.0.0.1:0",         "-cert", cert,
        "-key",    key,        "-www",    ca ? "-Verify" : NULL, "1",     "-verify_return_error",
        "-CAfile", ca,         NULL};
    assert_true(spawn(argv, &s->pid, &s->out));
    size_t n = 0;
    char *at = NULL;
    while (n < sizeof said - 1 && !(at && strchr(at, '\n'))) { /* "ACCEPT 127.0.0.1:PORT" */
        ssize_t k = read(s->out, said + n, sizeof said - 1 - n);
        if (k <= 0)
            fail_msg("openssl s_server did not start: %s", said);
        n += (size_t)k;
        said[n] = 0;
        at = strstr(said, "ACCEPT 127.0.0.1:");
    }
    unsigned long port = strtoul(at + sizeof "ACCEPT 127.0.0.1:" - 1, NULL, 10);
    snprintf(s->url, sizeof s->url, "https://127.0.0.1:%lu", port);
}

static void stop(struct server *s)
{
    int status;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, &status, 0);
    close(s->out);
}

static void expect(struct call *c, int rc, const char *word)
{
    int got = call_run(c);
    if (got != rc || (word && !strstr(c->err.msg, word)))
        fail_msg("%s: '%s', expected %s with '%s'", lr_errname(got), c->err.msg, lr_errname(rc),
                 word ? word : "");
}

static void certificates_decide(void **s)
{
    (void)s;
    struct server good, named;
    char ca[200], other[200];
    in_dir(ca, "good.pem");
    in_dir(other, "named.pem");
    serve(&good, "good", NULL);
    serve(&named, "named", NULL);
    struct lr_net *n = net_open(NULL), *env = net_open(&(struct lr_net_opts){.env_ca_file = ca});
    struct call c;
    call_init(&c, n, good.url, "/");
    expect(&c, LR_ETLS, "self-signed certificate"); /* the system's roots do not know it */
    assert_false(c.req.sent);
    c.req.route.ca_file = ca;
    expect(&c, 0, NULL);
    assert_int_equal(c.status, 200);
    assert_true(c.body.len > 0 && c.req.connect_ns > 0);
    c.req.route.ca_file = other; /* the handle and the connection remember nothing */
    expect(&c, LR_ETLS, "self-signed certificate");
    c.req.route.ca_file = "/nonexistent/ca.pem";
    expect(&c, LR_ETLS, "the CA bundle cannot be read");
    c.req.route.ca_file = NULL;
    expect(&c, LR_ETLS, "self-signed certificate");
    call_free(&c);

    call_init(&c, env, good.url, "/");
    expect(&c, 0, NULL); /* SSL_CERT_FILE */
    c.req.route.ca_file = other;
    expect(&c, LR_ETLS, "self-signed certificate");
    call_free(&c);

    call_init(&c, n, named.url, "/");
    c.req.route.ca_file = other;
    expect(&c, LR_ETLS, "no alternative certificate subject name matches");
    memcpy(strstr(c.url, "127.0.0.1"), "localhost", 9);
    expect(&c, 0, NULL);
    call_free(&c);
    lr_net_close(n);
    lr_net_close(env);
    stop(&good);
    stop(&named);
}

static void client_certificates_are_sent(void **s)
{
    (void)s;
    struct server strict;
    char ca[200], cert[200], key[200];
    in_dir(ca, "good.pem");
    in_dir(cert, "client.pem");
    in_dir(key, "client.key");
    serve(&strict, "good", cert);
    struct lr_net *n = net_open(NULL);
    struct call c;
    call_init(&c, n, strict.url, "/");
    c.req.route.ca_file = ca;
    int rc = call_run(&c); /* TLS 1.3: the refusal may come as a broken connection */
    assert_true(rc == LR_ETLS || rc == LR_ENET);
    c.req.route.cert_file = cert;
    c.req.route.cert_key_file = key;
    expect(&c, 0, NULL);
    c.req.route.cert_key_file = ca;
    expect(&c, LR_ETLS, "client certificate");
    call_free(&c);
    lr_net_close(n);
    stop(&strict);
}

static void plain_text(struct peer_conn *c)
{
    if (peer_recv(c))
        peer_says(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
}

static void plain_text_is_no_tls(void **s)
{
    (void)s;
    static struct peer p;
    char base[64];
    peer_open(&p, plain_text, NULL);
    snprintf(base, sizeof base, "https://127.0.0.1:%u", (unsigned)p.port);
    struct lr_net *n = net_open(NULL);
    struct call c;
    call_init(&c, n, base, "/");
    expect(&c, LR_ETLS, "the TLS handshake failed");
    assert_false(c.req.sent);
    call_free(&c);
    lr_net_close(n);
    peer_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_decide),
        cmocka_unit_test(client_certificates_are_sent),
        cmocka_unit_test(plain_text_is_no_tls),
    };
    static const char *const version[] = {"openssl", "version", NULL};
    if (!run_to_end(version)) {
        fprintf(stderr, "SKIPPED: no `openssl` command, TLS is not tested\n");
        return 77;
    }
    static const char *const files[] = {"good.pem",  "good.key",   "named.pem",
                                        "named.key", "client.pem", "client.key"};
    if (!mkdtemp(dir) || !make_cert("good", "IP:127.0.0.1,DNS:localhost") ||
        !make_cert("named", "DNS:localhost") || !make_cert("client", "DNS:client")) {
        fprintf(stderr, "the certificates of the test cannot be made\n");
        return 1;
    }
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < LR_COUNT(files); i++) {
        char path[200];
        in_dir(path, files[i]);
        unlink(path);
    }
    rmdir(dir);
    return rc;
}
