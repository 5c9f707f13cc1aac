/* SPDX-License-Identifier: Apache-2.0
 * api/kit.h - what the tests of the gateway's answers ask, and how they look at what comes back.
 */
#ifndef LR_TESTS_API_KIT_H
#define LR_TESTS_API_KIT_H

#include "harness.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <cmocka.h>
#include <pthread.h>

#define CHAT      "/v1/chat/completions"
#define MESSAGES  "/v1/messages"
#define RESPONSES "/v1/responses"

/* A Chat body: one question, with further members, streamed. */
#define ASK(text) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"
#define WITH(members, text)                                                                        \
    "{\"model\":\"m\"," members ",\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"
#define STREAM(text) WITH("\"stream\":true", text)

/* Headers: those of post(), and of who takes only what is stored. */
#define KEY         "content-type: application/json\r\nauthorization: Bearer sk-test\r\n"
#define ONLY_CACHED "cache-control: only-if-cached\r\n"

static inline void done(struct gw *g)
{
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
}

/* What the tests of a file share, where they do. */
static struct up *up __attribute__((unused));
static struct gw *gw __attribute__((unused));

static inline size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what))
        n++;
    return n;
}

static inline void has(const struct resp *r, const char *what)
{
    if (!strstr(r->body, what))
        fail_msg("no '%s' in %s", what, r->body);
}

/* Is x-larder-cache this? */
static inline bool cache_is(const struct resp *r, const char *what)
{
    return strcmp(header(r, "x-larder-cache"), what) == 0;
}

/* Asks Chat; headers besides KEY. */
static inline struct resp ask(const struct gw *g, const char *headers, const char *body)
{
    char all[2048];
    (void)snprintf(all, sizeof all, KEY "%s", headers);
    return http(g->port, "POST", CHAT, all, body);
}

static inline int status_of(const struct gw *g, const char *headers, const char *body)
{
    struct resp r = ask(g, headers, body);
    int status = r.status;
    resp_free(&r);
    return status;
}

/* The credential succeeds once upstream, so that hits may be served to it. */
static inline void prove(const struct gw *g)
{
    assert_int_equal(status_of(g, "", ASK("prove me")), 200);
}

/* The shared ones, in a group's setup: a gateway with these options, whose key is proven; or an
 * upstream alone. */
static inline int set_up(up_fn fn, const char *const *args)
{
    up = up_start(fn);
    gw = gw_start(up, NULL, args);
    prove(gw);
    return 0;
}

static inline int set_up_upstream(void **state)
{
    (void)state;
    up = up_start(up_llm);
    return 0;
}

/* A group's teardown. */
static inline int tear_down(void **state)
{
    (void)state;
    if (gw)
        done(gw);
    up_stop(up);
    return 0;
}

/* Asks until the answer comes from the cache: the store is written behind the answer. */
static inline struct resp until_hit(const struct gw *g, const char *path, const char *headers,
                                    const char *body)
{
    for (int i = 0; i < 600; i++) {
        struct resp r = http(g->port, "POST", path, headers, body);
        if (cache_is(&r, "hit"))
            return r;
        if (r.status != 200)
            fail_msg("%d %s", r.status, r.body);
        resp_free(&r);
        sleep_ms(5);
    }
    fail_msg("never a hit: %s", body);
    return (struct resp){0};
}

/* Waits until this is stored. */
static inline void until_stored(const struct gw *g, const char *body)
{
    int status = 0;
    for (int i = 0; i < 1000 && status != 200; i++) {
        status = status_of(g, ONLY_CACHED, body);
        sleep_ms(5);
    }
    if (status != 200)
        fail_msg("never stored: %s", body);
}

/* A question in a thread of its own. */
struct asker {
    pthread_t thread;
    int port;
    const char *path, *body;
    struct resp r; /* after ask_end */
};

static inline void *ask_thread(void *arg)
{
    struct asker *k = arg;
    k->r = post(k->port, k->path, k->body);
    return NULL;
}

static inline void ask_begin(struct asker *k, const struct gw *g, const char *path,
                             const char *body)
{
    *k = (struct asker){.port = g->port, .path = path, .body = body};
    assert_int_equal(pthread_create(&k->thread, NULL, ask_thread, k), 0);
}

/* Waits for its answer, which is a good and whole one. */
static inline void ask_end(struct asker *k)
{
    pthread_join(k->thread, NULL);
    assert_int_equal(k->r.status, 200);
    assert_false(k->r.torn);
}

#endif
