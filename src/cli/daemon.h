/* SPDX-License-Identifier: Apache-2.0
 * cli/daemon.h - what the commands share that ask a running daemon (admin.c, kv.c).
 *
 * They speak HTTP to /larder/v1 at admin.listen, else at the first listen address, with the admin
 * key of the data directory: whoever may read that file may use them.
 *
 * The short names at the end stand in nearly every line of what prints an answer.
 */
#ifndef LR_CLI_DAEMON_H
#define LR_CLI_DAEMON_H

#include "cli/cli.h"

#include <stdio.h>

#define LR_REPLY_MAX LR_MIB(64)

/* Where the daemon is, and the key to it. */
struct lr_daemon {
    char base[320]; /* "http://127.0.0.1:8100" */
    char auth[128]; /* the header */
    char ca[4096];
};
/* From the configuration that cli's words name. A failure has been printed. */
int lr_daemon_open(struct lr_cli *cli, struct lr_daemon *d);
/* 0 and the body in out; else the failure has been printed. */
int lr_daemon_ask(const struct lr_daemon *d, const char *method, const char *path, struct lr_str body,
                  struct lr_buf *out);

/* An answer of the daemon as a tree; its text lives in `text`, its nodes in `arena`. */
struct lr_reply {
    struct lr_buf text;
    struct lr_arena arena;
    struct lr_json *root;
};
/* As lr_daemon_ask; the reply is to be freed after a 0. */
int lr_daemon_json(const struct lr_daemon *d, const char *method, const char *path, struct lr_str body,
                   struct lr_reply *a);
void lr_reply_free(struct lr_reply *a);

/* Prints "usage: larder WORDS"; returns 2. */
int lr_daemon_usage(const char *words);
/* A word of the command line in a path or query: hex and letters pass, the rest is %XX. */
void lr_daemon_word(struct lr_buf *b, const char *w);

/* ---- reading answers ---- */

static inline struct lr_json *at(const struct lr_json *o, const char *group, const char *name)
{
    return lr_json_get(group ? lr_json_get(o, group) : o, name);
}

static inline uint64_t num(const struct lr_json *v)
{
    uint64_t n = 0;
    (void)lr_json_u64(v, &n); /* absent: 0 */
    return n;
}

static inline double real(const struct lr_json *v)
{
    double n = 0;
    (void)lr_json_real(v, &n); /* absent: 0 */
    return n;
}

static inline bool yes(const struct lr_json *v)
{
    bool b = false;
    (void)lr_json_bool(v, &b); /* absent: no */
    return b;
}

static inline struct lr_str text(const struct lr_json *v)
{
    struct lr_str s = {"", 0};
    (void)lr_json_text(v, &s); /* absent: empty */
    return s;
}

/* Control bytes never reach the terminal: names come from clients and upstreams. width 0: all of
 * it; else a column, cut so that a blank is left before the next one. */
static inline void put(struct lr_str s, int width)
{
    int n = 0;
    for (size_t i = 0; i < s.n && (!width || n < width - 1); i++, n++)
        putchar((unsigned char)s.p[i] < ' ' || s.p[i] == 127 ? '?' : s.p[i]);
    for (; n < width; n++)
        putchar(' ');
}

#endif
