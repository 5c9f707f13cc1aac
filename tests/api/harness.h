/* SPDX-License-Identifier: Apache-2.0
 * api/harness.h - black-box tests: a real larder process, a fake upstream, a plain HTTP client.
 *
 * Everything talks over loopback sockets, as users do. Failures abort the test with a sentence.
 */
#ifndef LR_TESTS_API_HARNESS_H
#define LR_TESTS_API_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* ---- the fake upstream: one thread a connection ---- */

struct up_req {
    char method[16], path[2048];
    char *head; /* request line and headers, NUL-terminated */
    char *body; /* NUL-terminated */
    size_t body_len;
};
struct up_conn;
/* Called for each request, in the connection's thread: answers with up_reply or up_begin/up_chunk/up_end. */
typedef void (*up_fn)(struct up_conn *, const struct up_req *);

struct up {
    int port;
    up_fn fn;
    /* of the newest request, guarded by the harness's lock: read with up_* below */
    int fd, n_requests, n_aborted;
    char last_head[8192], last_body[65536];
    struct up *next; /* all there ever were: threads in a last reply may still look at theirs */
};
struct up *up_start(up_fn fn);
void up_stop(struct up *);
int up_count(struct up *);
int up_aborted(struct up *); /* answers cut off by the gateway's hanging up */
/* Copies; valid until the next call from the same thread. */
const char *up_last_body(struct up *);
const char *up_last_head(struct up *);
bool up_reply(struct up_conn *, int status, const char *headers, const char *body);
/* headers: "a: b\r\n..." or "". chunked; false once the peer is gone. */
bool up_begin(struct up_conn *, int status, const char *headers);
bool up_chunk(struct up_conn *, const char *text);
void up_end(struct up_conn *);
void up_abort(struct up_conn *); /* reset, mid-answer */
/* Ready-made: Chat, Completions, Embeddings, Messages, Models; text echoes the last message. A body that
 * holds "slow" streams slowly, "fail500" answers 500, "fail429" 429, "cutoff" breaks the stream off,
 * "filtered" ends with content_filter, "long N" answers N bytes. */
void up_llm(struct up_conn *, const struct up_req *);

/* ---- the gateway ---- */

struct gw {
    pid_t pid;
    int port;
    char dir[256]; /* data directory, removed by gw_free */
    char log[300]; /* file of its standard error */
    char admin_key[80];
};
/* args: further options, NULL-terminated, may be NULL. up may be NULL. dir: NULL makes a new one. */
struct gw *gw_start(struct up *up, const char *dir, const char *const *args);
/* The same with a larder.yaml in a new data directory; yaml is a format. */
struct gw *gw_config(const char *const *args, const char *yaml, ...) __attribute__((format(printf, 2, 3)));
/* Writes DIR/larder.yaml anew (for SIGHUP). */
void gw_write_config(const struct gw *, const char *yaml, ...) __attribute__((format(printf, 2, 3)));
bool gw_said(const struct gw *, const char *text); /* its log holds the text */
/* Sends sig and waits; returns the exit status (128 + signal when killed). */
int gw_stop(struct gw *, int sig);
void gw_free(struct gw *); /* removes the data directory too */
/* Runs `larder ARGS...`; its standard output in out; returns the exit status. */
int larder(char *out, size_t cap, const char *const *args);

/* ---- the client ---- */

struct resp {
    int status;  /* 0: the connection failed or was torn down before the end */
    char *head;  /* NUL-terminated */
    char *body;  /* dechunked, NUL-terminated */
    size_t len;
    bool torn;
};
struct resp http(int port, const char *method, const char *path, const char *headers, const char *body);
/* Sends these bytes on an open connection and reads one answer (method GET or POST). */
struct resp talk(int fd, const char *bytes, size_t n);
struct resp post(int port, const char *path, const char *body); /* JSON, with key "sk-test" */
void resp_free(struct resp *);
/* Value of a header, "" when absent; valid until the next call. */
const char *header(const struct resp *, const char *name);
/* Value of the first "name": in a JSON text, unquoted; "" when absent; valid until the next call. */
const char *json_at(const char *text, const char *name);
int dial(int port);
bool send_all(int fd, const char *p, size_t n);
void sleep_ms(int ms);
/* Polls cond every few ms, at most 5 s. */
#define EVENTUALLY(cond)                                                                           \
    do {                                                                                           \
        for (int tries_ = 0; tries_ < 1000 && !(cond); tries_++)                                   \
            sleep_ms(5);                                                                           \
        assert_true(cond);                                                                         \
    } while (0)

#endif
