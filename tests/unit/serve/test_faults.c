/* SPDX-License-Identifier: Apache-2.0
 * unit/serve/test_faults.c - a whole server under faults: start, one question asked twice, stop; with an
 * upstream, and with a model of this machine; each allocation and each file call of ours is made to fail once. Whatever fails, the server starts or says
 * why not, every request gets an answer or a closed connection, and it stops. The address sanitizer's
 * build finds what leaks.
 */
#include "engine/engine.h"
#include "serve/serve.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

/* An upstream that answers every request on a connection with the same completion. */
static int upstream_fd;
static char dir[64];
static char model[80]; /* a file; empty: the upstream answers */

static void *serve_one(void *arg)
{
    static const char body[] =
        "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},\"finish_reason\":\"stop\"}]}";
    int fd = (int)(intptr_t)arg;
    char req[8192], reply[512];
    int n = snprintf(reply, sizeof reply,
                     "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                     sizeof body - 1, body);
    while (recv(fd, req, sizeof req, 0) > 0)
        if (send(fd, reply, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    close(fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    (void)arg;
    for (int fd; (fd = accept(upstream_fd, NULL, NULL)) >= 0;) {
        pthread_t t;
        if (pthread_create(&t, NULL, serve_one, (void *)(intptr_t)fd) == 0)
            pthread_detach(t);
        else
            close(fd);
    }
    return NULL;
}

static unsigned listen_somewhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    pthread_t t;
    upstream_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(upstream_fd, (void *)&a, n), 0);
    assert_int_equal(listen(upstream_fd, 64), 0);
    assert_int_equal(getsockname(upstream_fd, (void *)&a, &n), 0);
    assert_int_equal(pthread_create(&t, NULL, accept_all, NULL), 0);
    pthread_detach(t);
    return ntohs(a.sin_port);
}

/* Status of the answer; 0 when the connection was closed without one. */
static int ask(unsigned port)
{
    static const char req[] =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: "
        "Bearer k\r\ncontent-type: application/json\r\ncontent-length: 80\r\n\r\n"
        "{\"model\":\"m\",\"max_tokens\":4,\"messages\":[{\"role\":\"user\",\"content\":\"what is it\"}]}";
    _Static_assert(sizeof "{\"model\":\"m\",\"max_tokens\":4,\"messages\":[{\"role\":\"user\",\"content\":"
                          "\"what is it\"}]}" == 81, "");
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {10, 0};
    char out[4096];
    int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    size_t n = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (void *)&a, sizeof a) == 0 &&
        send(fd, req, sizeof req - 1, MSG_NOSIGNAL) == (ssize_t)sizeof req - 1)
        for (ssize_t k; n < sizeof out - 1 && (k = recv(fd, out + n, sizeof out - 1 - n, 0)) != 0; n += (size_t)k)
            if (k < 0) {
                assert_int_not_equal(errno, EAGAIN); /* neither an answer nor an end: a hang */
                break;
            }
    out[n] = 0;
    close(fd);
    return sscanf(out, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static void empty_dir(void)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (d)
        closedir(d);
}

static struct lr_config *make_config(unsigned upstream)
{
    char url[64];
    char *argv[] = {(char[]){"--listen"}, (char[]){"127.0.0.1:0"},
                    *model ? (char[]){"--model"} : (char[]){"--upstream"}, *model ? model : url,
                    (char[]){"--answer-bytes"}, (char[]){"16M"}, (char[]){"--http-drain"}, (char[]){"1s"},
                    (char[]){"--trace-requests"}, (char[]){"16"}, (char[]){"--engine-threads"},
                    (char[]){"1"}, (char[]){"--engine-context"}, (char[]){"64"}, NULL};
    int rest;
    snprintf(url, sizeof url, "http://127.0.0.1:%u", upstream);
    struct lr_config *c = lr_new(struct lr_config);
    assert_non_null(c);
    assert_int_equal(lr_config_load(c, NULL, NULL, 14, argv, &rest, NULL), 0);
    return c;
}

/* One life under a fault at the n-th call (0: none). Returns the calls that were counted. */
static uint64_t live(unsigned upstream, uint64_t n, int *answered)
{
    struct lr_serve_opts o = {.config = make_config(upstream), .dir = dir};
    struct lr_serve *s = NULL;
    struct lr_err err = {0};
    assert_int_equal(lr_fault_arm(n), 0);
    int rc = lr_serve_open(&s, &o, &err);
    if (rc == 0) {
        for (int i = 0; i < 2; i++) {
            int status = ask(lr_serve_port(s, 0));
            assert_true(status == 0 || status == 200 || status >= 500 || status == 429);
            *answered += status == 200;
        }
        lr_serve_close(s);
    }
    uint64_t seen = lr_fault_seen();
    assert_int_equal(lr_fault_arm(0), 0);
    return seen;
}

static void survive(unsigned upstream)
{
    lr_log_set_level(LR_LOG_ERROR);
    int answered = 0, whole = 0;
    uint64_t calls = live(upstream, 0, &whole);
    assert_int_equal(whole, 2);
    assert_true(calls > 100);
    /* Every call of the first life; the later lives start warm. Their number varies a little with the
     * threads, so a few numbers beyond the end are lives without a fault. */
    for (uint64_t n = 1; n <= calls; n++) {
        if (n % 7 == 0)
            empty_dir(); /* cold starts among the warm ones */
        live(upstream, n, &answered);
    }
    assert_true(answered > 0);
    whole = 0;
    live(upstream, 0, &whole);
    assert_int_equal(whole, 2); /* nothing that failed has left a trace */
}

static void every_failure_is_survived(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    survive(listen_somewhere());
    close(upstream_fd);
    empty_dir();
    rmdir(dir);
}

static void with_a_model_of_this_machine_too(void **state)
{
    struct lr_err err = {0};
    char home[] = "/tmp/larder-test-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(home));
    snprintf(dir, sizeof dir, "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(model, sizeof model, "%s/m.gguf", home);
    const struct lr_engine_random r = {.like = LR_STR("nano"), .type = LR_NN_Q8_0, .seed = 1,
                                       .path = model};
    assert_int_equal(lr_engine_random(&r, &err), 0);
    survive(0);
    empty_dir();
    rmdir(dir);
    unlink(model);
    rmdir(home);
    *model = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure_is_survived),
        cmocka_unit_test(with_a_model_of_this_machine_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
