/* SPDX-License-Identifier: Apache-2.0
 * net/net_int.h - what the files of net/ share.
 *
 *   net.c   the thread: queue, epoll, timers, done      xfer.c   one transfer: set-up, callbacks
 *   url.c   URLs, addresses, proxies                    fail.c   libcurl's failures in our words
 *   heap.c  deadlines                                   fetch.c  the blocking call
 */
#ifndef LR_NET_NET_INT_H
#define LR_NET_NET_INT_H

#include "net/net.h"

#include <curl/curl.h>
#include <sys/socket.h>

#define LR_NET_NEVER   UINT64_MAX
#define LR_NET_URL_MAX LR_KIB(16)

/* What other threads ask of a transfer. */
enum { LR_NET_ASK_START = 1, LR_NET_ASK_CANCEL = 2, LR_NET_ASK_RESUME = 4 };

/* One transfer: an easy handle and its request. Pooled; belongs to a request from start until its
 * on_done returned. */
struct lr_net_xfer {
    struct lr_net *net;
    CURL *easy; /* owned */

    /* Guarded by net->mu. */
    unsigned ask; /* LR_NET_ASK_* not yet seen by the net thread */
    bool queued;  /* in net->asks */
    bool done;    /* on_done is next or running: asks are ignored */
    struct lr_net_xfer *ask_prev, *ask_next;
    struct lr_net_xfer *live_prev, *live_next; /* net->live; live_next also links net->spare */

    /* Written by start, then the net thread's. */
    struct lr_net_req *r;
    uint64_t start_ns, first_by_ns, total_by_ns; /* monotonic; LR_NET_NEVER = none */
    uint64_t due_ns;                             /* key in net->heap */
    size_t heap_at;                              /* SIZE_MAX = not in the heap */
    bool proxied;
    bool added;   /* the multi handle has it */
    bool paused;  /* on_body said so */
    bool refused; /* an address was refused */
    bool tried;   /* an address was not */
    int fail;     /* our own verdict, goes before libcurl's; 0 = none */
    char why[96];
    struct lr_buf head;           /* raw lines of the current head; max = header_max */
    size_t head_bytes;            /* of all heads and trailers */
    struct lr_net_header *fields; /* owned, n_fields long */
    size_t n_fields;
    struct curl_slist *lines; /* owned array of n_lines: request headers for libcurl */
    size_t n_lines;
    char *empty;                /* owned: request headers without a value, "Name;" */
    char said[CURL_ERROR_SIZE]; /* libcurl's own words: used for TLS only */
};

/* xfer.c */
/* Checks what does not need the network. */
int lr_net_xfer_check(const struct lr_net_req *r);
/* NULL when memory is out. */
struct lr_net_xfer *lr_net_xfer_new(struct lr_net *n);
void lr_net_xfer_free(struct lr_net_xfer *x);
/* Forgets a request. LR_ENOMEM: fit for nothing but free. */
int lr_net_xfer_wipe(struct lr_net_xfer *x);
/* Points a handle at a request. LR_ENOMEM. */
int lr_net_xfer_aim(struct lr_net_xfer *x, struct lr_net_req *r);
/* Our own verdict; the first one counts. Returns rc. */
int lr_net_xfer_fail(struct lr_net_xfer *x, int rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* net.c: what xfer.c asks of the loop. */
const struct lr_net_opts *lr_net_opts_of(const struct lr_net *n);
const char *lr_net_ca_default(const struct lr_net *n);
/* A new socket is ours to keep in epoll over its idle times. */
int lr_net_fd_adopt(struct lr_net *n, int fd);
int lr_net_fd_close(void *net, curl_socket_t fd);

/* url.c */
struct lr_net_url {
    bool tls;
    struct lr_str host; /* without brackets */
    bool bracketed;     /* an IPv6 literal */
    uint16_t port;
};
/* The checks of lr_net_url_check; *why gets a static sentence. Views into url. */
int lr_net_url_parse(struct lr_str url, struct lr_net_url *out, const char **why);
/* "host:port" for errors and logs. */
void lr_net_url_where(struct lr_str url, char out[static 120]);
/* An address nobody may be sent to: link-local, wildcard, cloud metadata. */
bool lr_net_addr_denied(const struct sockaddr *a);
/* The host, if it is a literal, is such an address. */
bool lr_net_url_denied(const struct lr_net_url *u);
bool lr_net_url_loopback(const struct lr_net_url *u);

/* heap.c: a binary heap of transfers by due_ns; room for all of them is reserved at open. */
struct lr_net_heap {
    struct lr_net_xfer **v;
    size_t n;
};
void lr_net_heap_put(struct lr_net_heap *h, struct lr_net_xfer *x);
void lr_net_heap_drop(struct lr_net_heap *h, struct lr_net_xfer *x); /* fine when not in it */

/* fail.c: fills err, returns the LR_E*; 0 for CURLE_OK after a head, without a verdict of ours. */
int lr_net_fail_map(const struct lr_net_xfer *x, CURLcode code, struct lr_err *err);

#endif
