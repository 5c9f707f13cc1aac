/* SPDX-License-Identifier: Apache-2.0
 * api/test_laggard.c - a reader that holds a long answer up is dropped after ten seconds, and only
 * it.
 *
 * A program of its own because it takes those ten seconds.
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

#define EVENTS 24000 /* of a kibibyte: more than a log and the socket buffers of both ends hold */

static void up_long(struct up_conn *c, const struct up_req *q)
{
    static const char head[] = "data: "
                               "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,"
                               "\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{";
    char line[2048], text[1025];
    (void)q;
    memset(text, 'y', 1024);
    text[1024] = 0;
    up_begin(c, 200, "content-type: text/event-stream\r\n");
    snprintf(line, sizeof line, "%s\"content\":\"%s\"},\"finish_reason\":null}]}\n\n", head, text);
    for (int i = 0; i < EVENTS && up_chunk(c, line); i++)
        ;
    snprintf(line, sizeof line, "%s},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", head);
    if (up_chunk(c, line))
        up_end(c);
}

static void a_laggard_is_dropped_and_the_others_get_all(void **state)
{
    (void)state;
    struct up *up = up_start(up_long);
    struct gw *g = gw_start(up, NULL, NULL);
    const char *body =
        "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"long\"}]}";
    char req[512];
    int fd = dial(g->port);
    int n = snprintf(req, sizeof req,
                     "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
                     "application/json\r\n"
                     "authorization: Bearer sk-test\r\ncontent-length: %zu\r\n\r\n%s",
                     strlen(body), body);
    send_all(fd, req, (size_t)n);
    EVENTUALLY(up_count(up) == 1);
    struct resp r = post(g->port, "/v1/chat/completions", body); /* joins, and reads */
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "x-larder-cache"), "coalesced");
    assert_false(r.torn);
    assert_true(r.len > EVENTS * 1024);
    assert_non_null(strstr(r.body + r.len - 20, "[DONE]"));
    assert_int_equal(up_count(up), 1);
    resp_free(&r);
    size_t got = 0;
    static char buf[1 << 16];
    for (ssize_t k; (k = recv(fd, buf, sizeof buf - 1, 0)) > 0; got += (size_t)k)
        buf[k] = 0;
    assert_true(got < EVENTS * 1024);
    assert_null(strstr(buf, "[DONE]")); /* broken off, and seen to be */
    close(fd);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
    up_stop(up);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_laggard_is_dropped_and_the_others_get_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
