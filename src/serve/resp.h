/* SPDX-License-Identifier: Apache-2.0
 * serve/resp.h - the Redis door of the KV store (RESP2 and 3): what serve.c and tests know of it.
 *
 * Values of 16 KiB and more are received into the store's own memory and sent from it; what a
 * connection holds grows with the bytes that came, not with what they announce.
 */
#ifndef LR_SERVE_RESP_H
#define LR_SERVE_RESP_H

#include "store/store.h"

struct lr_resp;
struct lr_kv_watch;

struct lr_resp_opts {
    const char *const *listen; /* "host:port"; port 0 picks one */
    size_t n_listen;
    unsigned threads;         /* loops; 0: 1 */
    unsigned connections_max; /* 0: 1024; more are told so and closed */
    struct lr_store *store;   /* outlives the door */
    bool auth;                /* nothing but AUTH, HELLO and QUIT before a credential was good */
    /* Whose credential this is; an empty password stands for no AUTH at all. LR_EDENIED. Called on event
     * threads: short. */
    int (*who)(void *ctx, struct lr_str user, struct lr_str password, uint64_t *tenant);
    void *ctx;
    struct lr_kv_watch *watch; /* learns from LMCache's keys (kv_watch.h), outlives the door; or NULL */
    uint64_t stall_ns;    /* a command of which nothing comes for so long ends its connection; 0: 60 s */
    uint64_t deadline_ns; /* a value not loaded from disk by then is a miss; 0: 5 s */
};

int lr_resp_open(struct lr_resp **out, const struct lr_resp_opts *, struct lr_err *err);
/* The port of listen[i]. */
unsigned lr_resp_port(const struct lr_resp *, size_t i);
/* Closes every connection, joins the loops, frees. Nothing of the store is held afterwards. */
void lr_resp_close(struct lr_resp *);

struct lr_resp_stats {
    uint64_t connections, accepted, commands, denied, faults; /* faults: protocol errors */
    uint64_t gets, hits, sets, dropped; /* dropped: SETs answered OK whose value was not kept */
    uint64_t bytes_in, bytes_out;
};
void lr_resp_stats(const struct lr_resp *, struct lr_resp_stats *out);

#endif
