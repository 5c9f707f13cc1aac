/* SPDX-License-Identifier: Apache-2.0
 * serve/resp_int.h - what the files of the Redis door share.
 *
 *   resp_parse.c  bytes to commands      resp.c      loops, sockets, memory of values
 *   resp_cmd.c    commands to replies    resp_say.c  commands about the server and the connection
 */
#ifndef LR_SERVE_RESP_INT_H
#define LR_SERVE_RESP_INT_H

#include "serve/kv_watch.h"
#include "serve/resp.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- resp_parse.c ---- */

#define LR_RESP_BIG           LR_KIB(16) /* arguments from here on are announced */
#define LR_RESP_ARGS_MAX      (1u << 20)
#define LR_RESP_ARGS_STRANGER 16u /* before a client is known */

enum lr_resp_event {
    LR_RESP_MORE,    /* all was taken */
    LR_RESP_COMMAND, /* a command is whole: args; then lr_resp_next */
    LR_RESP_VALUE,   /* args[n - 1] is big and its bytes need a place: set sink and room */
    LR_RESP_BROKEN,  /* fault says why; NULL: hang up without a word. For good */
};

struct lr_resp_span {
    size_t off, n; /* in text; big: n alone */
    bool big;
};

struct lr_resp_parser {
    int state;
    struct lr_buf text;
    struct lr_resp_span *args; /* complete, but for the last in LR_RESP_VALUE */
    size_t n, cap, want;
    uint64_t need;  /* bytes of the argument that have not come */
    uint8_t *sink;  /* where they go; NULL: nowhere */
    uint64_t room;  /* how many of them may */
    size_t args_max;
    uint64_t arg_max;
    char line[32];
    size_t n_line;
    const char *fault; /* static */
};

void lr_resp_init(struct lr_resp_parser *, size_t args_max, uint64_t arg_max);
void lr_resp_free(struct lr_resp_parser *);
/* Takes bytes up to the next event; *used: how many. */
enum lr_resp_event lr_resp_feed(struct lr_resp_parser *, const char *in, size_t n, size_t *used);
/* The command was handled. */
void lr_resp_next(struct lr_resp_parser *);
/* Argument i; empty when it is big. Valid until lr_resp_next. */
struct lr_str lr_resp_arg(const struct lr_resp_parser *, size_t i);
/* Where *n bytes of a big argument may be received without a copy; NULL: nowhere. */
uint8_t *lr_resp_direct(struct lr_resp_parser *, size_t *n);
/* That many were. */
void lr_resp_got(struct lr_resp_parser *, size_t n);
/* Between commands. */
bool lr_resp_idle(const struct lr_resp_parser *);

/* ---- connections ---- */

#define LR_RESP_USER_MAX 200u /* bytes of a user's name */
#define LR_RESP_DBS      256u
#define LR_RESP_NAME_MAX 64u

struct lr_resp_loop;
struct lr_resp_conn;
struct lr_resp_chunk;

/* A big argument that is to be stored. */
struct lr_resp_big {
    size_t arg;
    struct lr_draft *draft; /* NULL: not kept */
    uint8_t *start;         /* its first bytes, until there is a draft */
    uint64_t n_start;
};

enum lr_resp_go {
    LR_RESP_DONE,  /* the command is answered */
    LR_RESP_AGAIN, /* call step again, others first */
    LR_RESP_WAIT,  /* a fetch will wake it */
};

struct lr_resp_conn {
    struct lr_resp_loop *loop;
    struct lr_resp_conn *prev, *next;
    int fd;
    uint32_t armed; /* events asked for */
    uint64_t id;
    struct lr_resp_parser in;
    struct lr_buf rest; /* received and not taken yet, from rest_at on */
    size_t rest_at;
    struct lr_resp_chunk *out, *out_last;
    uint64_t out_bytes;
    /* who it is */
    uint64_t tenant;
    bool known; /* may ask for data */
    uint64_t opened_ms;
    char library[40], address[48]; /* CLIENT SETINFO LIB-NAME; resp_watch.c's */
    unsigned db, proto;
    char user[LR_RESP_USER_MAX + 1], name[LR_RESP_NAME_MAX + 1];
    char space[LR_RESP_USER_MAX + 8];
    size_t space_n;
    /* the command in progress */
    struct lr_resp_big *bigs;
    size_t n_bigs, cap_bigs;
    enum lr_resp_go (*step)(struct lr_resp_conn *); /* not NULL: goes on here */
    uint64_t cursor, count;                         /* a step's own */
    struct lr_fetch fetch;
    struct lr_view *view; /* what a fetch brought */
    int fetch_rc;
    bool fetching, here; /* here: done was called on the loop's thread */
    uint64_t fetch_ns;
    bool busy; /* in its loop's list of those to call again */
    struct lr_resp_conn *next_busy, *next_woken;
    bool ending; /* closes when out is empty */
    bool dead;   /* closed; memory goes when no fetch is left */
    uint64_t heard_ns;
};

/* resp.c: replies. Out of memory ends the connection. */
void lr_resp_put(struct lr_resp_conn *, struct lr_str bytes);
void lr_resp_putf(struct lr_resp_conn *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void lr_resp_bulk(struct lr_resp_conn *, struct lr_str s);
void lr_resp_nil(struct lr_resp_conn *);
/* A view's bytes as a string; takes the view. */
void lr_resp_view(struct lr_resp_conn *, struct lr_view *v);
/* An array or, in RESP3, a map of n pairs. */
void lr_resp_map(struct lr_resp_conn *, size_t n);
/* Looks id up: LR_RESP_DONE: fetch_rc and view are set; LR_RESP_WAIT: step is called when they are. */
enum lr_resp_go lr_resp_fetch(struct lr_resp_conn *, const struct lr_digest *id);
/* Replies wait to be sent: let them go before more are made. */
bool lr_resp_full(const struct lr_resp_conn *);
struct lr_store *lr_resp_store(const struct lr_resp_conn *);
const struct lr_resp_opts *lr_resp_options(const struct lr_resp_conn *);
/* The user or the database changed. */
void lr_resp_settle(struct lr_resp_conn *);
/* A credential was shown: false, and the connection ends. */
bool lr_resp_login(struct lr_resp_conn *, struct lr_str user, struct lr_str password);

enum lr_resp_tally {
    LR_RESP_N_ACCEPTED,
    LR_RESP_N_COMMANDS,
    LR_RESP_N_DENIED,
    LR_RESP_N_FAULTS,
    LR_RESP_N_GETS,
    LR_RESP_N_HITS,
    LR_RESP_N_SETS,
    LR_RESP_N_DROPPED,
    LR_RESP_N_IN,
    LR_RESP_N_OUT,
    LR_RESP_N
};
void lr_resp_count(const struct lr_resp_conn *, enum lr_resp_tally, uint64_t n);
void lr_resp_stats_of(const struct lr_resp_conn *, struct lr_resp_stats *out);

/* ---- resp_cmd.c ---- */

/* The argument about to come may be kept: is it the value of a command that stores? *key: its key's
 * place among the arguments. */
bool lr_resp_stores(const struct lr_resp_parser *, size_t *key);
/* The header of a value for the key in argument i; false: no key can be so long. */
bool lr_resp_object(const struct lr_resp_conn *, size_t i, uint64_t payload, struct lr_object *o);
/* Handles the command that is whole. */
enum lr_resp_go lr_resp_run(struct lr_resp_conn *);

/* ---- resp_watch.c ---- */

/* For `larder kv doctor`: the key in argument `key` was set (to argument `value`; good: kept), asked for or
 * about (good: found). */
void lr_resp_saw(struct lr_resp_conn *, enum lr_kv_op op, size_t key, size_t value, bool good);

/* ---- resp_say.c ---- */

struct lr_resp_command {
    const char *name; /* upper case */
    int arity;        /* words with the name; negative: at least */
    enum lr_resp_go (*run)(struct lr_resp_conn *);
    bool open; /* before AUTH as well */
    signed char first, last, every; /* places of keys, as COMMAND tells them */
};
/* The table; *n rows. */
const struct lr_resp_command *lr_resp_commands(size_t *n);
enum lr_resp_go lr_resp_hello(struct lr_resp_conn *);
enum lr_resp_go lr_resp_auth(struct lr_resp_conn *);
enum lr_resp_go lr_resp_select(struct lr_resp_conn *);
enum lr_resp_go lr_resp_client(struct lr_resp_conn *);
enum lr_resp_go lr_resp_info(struct lr_resp_conn *);
enum lr_resp_go lr_resp_describe(struct lr_resp_conn *);
enum lr_resp_go lr_resp_config(struct lr_resp_conn *);
enum lr_resp_go lr_resp_ping(struct lr_resp_conn *);
enum lr_resp_go lr_resp_echo(struct lr_resp_conn *);
enum lr_resp_go lr_resp_time(struct lr_resp_conn *);
enum lr_resp_go lr_resp_quit(struct lr_resp_conn *);
enum lr_resp_go lr_resp_reset(struct lr_resp_conn *);
/* "-ERR text". */
enum lr_resp_go lr_resp_refuse(struct lr_resp_conn *, const char *text);

#endif
