/* SPDX-License-Identifier: Apache-2.0
 * net/net.h - the one outbound HTTP client: a libcurl multi handle on its own thread.
 *
 * A request is one attempt: no redirects, http and https only, no retries but one: a kept
 * connection that ends before any byte of the answer came is replaced by a fresh one. Callbacks run
 * on the net thread and must not block; bodies may be paused and resumed from any thread.
 * Connections are kept and reused per (host, TLS settings, proxy). Link-local addresses
 * (169.254/16, fe80::/10) and the wildcard are refused after resolution, whatever name led there.
 * Header values that carry secrets never reach a log: this module logs hosts, not paths, queries or
 * headers.
 *
 *   any thread: start ----> [inbox] -- wake --> net thread: head, body*, done
 *               cancel, resume --------------->      (done is called exactly once per start)
 */
#ifndef LR_NET_NET_H
#define LR_NET_NET_H

#include "base/base.h"

struct lr_net;

struct lr_net_opts {
    size_t inflight_max; /* started and not done; 0 = 4096: more is LR_EBUSY from start */
    size_t idle_max;     /* idle connections kept; 0 = 256 */
    size_t header_max; /* bytes of response headers; 0 = 64 KiB: more fails the request, LR_EOVER */
    /* What the environment says, read by cli/ (net/ reads none, and keeps libcurl from it). curl's
     * rules: https_proxy, HTTPS_PROXY, then all_proxy, ALL_PROXY; http_proxy in lower case only,
     * then all_proxy, ALL_PROXY; no_proxy, NO_PROXY; SSL_CERT_FILE. NULL or "" = unset. Copied by
     * open. */
    const char *env_https_proxy, *env_http_proxy, *env_no_proxy, *env_ca_file;
};
/* opts NULL = all defaults. */
int lr_net_open(struct lr_net **out, const struct lr_net_opts *opts);
/* Cancels everything (each gets its done), joins the thread; n may be NULL. Not from a callback.
 * Starts that come meanwhile (from an on_done) get LR_ECLOSED. */
void lr_net_close(struct lr_net *n);

/* How to reach one place; strings owned by the caller, alive until done. NULL or "" = default. */
struct lr_net_route {
    const char *proxy;    /* URL, "none", or NULL: HTTPS_PROXY / HTTP_PROXY of the environment */
    const char *no_proxy; /* NULL: NO_PROXY; loopback is never proxied */
    const char *ca_file;  /* the only roots trusted; NULL: SSL_CERT_FILE, then the system's */
    const char *cert_file, *cert_key_file;
    uint64_t connect_ms, first_byte_ms, total_ms; /* since start; 0 = none */
};
/* Fills what `route` leaves at default and env_* of `env` (may be NULL) gives, for the scheme of
 * `url`: what lr_net_start does by itself; for callers of lr_net_fetch, which sees none. */
void lr_net_route_fill(struct lr_net_route *route, struct lr_str url,
                       const struct lr_net_opts *env);

/* Response headers, valid during on_head. */
struct lr_net_head {
    int status;
    const struct lr_net_header {
        struct lr_str name, value;
    } *headers; /* in order of arrival, hop-by-hop ones included */
    size_t n;
};

enum { LR_NET_GO = 0, LR_NET_PAUSE = 1, LR_NET_STOP = 2 };

/* Embedded in the caller's work. The caller fills the first group; everything it points to stays
 * alive until on_done. Headers are "Name: value" strings; Content-Length, Transfer-Encoding and
 * Expect are ours (those of the caller are left out), nothing else is added but Host. A body of 0
 * bytes is announced as such for POST, PUT and PATCH only. Response bytes come as they were sent:
 * no content coding is undone. */
struct lr_net_req {
    const char *method, *url;
    const char *const *headers; /* n_headers of them */
    size_t n_headers;
    struct lr_str body;
    struct lr_net_route route;
    /* After the status line and headers (1xx are skipped). LR_NET_GO or LR_NET_STOP. Optional. */
    int (*on_head)(struct lr_net_req *, const struct lr_net_head *);
    /* Body bytes. LR_NET_PAUSE: the bytes were NOT taken and come again after lr_net_resume. */
    int (*on_body)(struct lr_net_req *, const char *p, size_t n);
    /* Last call; rc 0 = the response ended well, whatever its status. After it the request is the
     * caller's again (may be freed or restarted from within). err->where is the host. rc: LR_EDNS,
     * LR_ENET (connect, reset), LR_ETLS, LR_ETIMEOUT, LR_ECANCEL (also STOP), LR_EOVER, LR_EDENIED,
     * LR_ENOMEM. */
    void (*on_done)(struct lr_net_req *, int rc, const struct lr_err *err);

    /* Filled before on_done. */
    uint64_t connect_ns, first_byte_ns, total_ns; /* since start */
    bool sent; /* some byte of the request may have reached the peer */
    bool head_seen;
    /* net/'s own. */
    void *priv;
};

/* Checks a URL: http or https, a host (ASCII: IDNs in their xn-- form), no user-info, no blanks or
 * control bytes, at most 16 KiB. LR_EINVAL. Messages never repeat the URL. */
int lr_net_url_check(struct lr_str url, struct lr_err *err);
/* Thread-safe. On an error nothing is called and r stays the caller's: LR_EBUSY (inflight_max),
 * LR_ECLOSED, LR_ENOMEM, LR_EINVAL (URL, method or header malformed, HEAD with a body). */
int lr_net_start(struct lr_net *n, struct lr_net_req *r);
/* Thread-safe while on_done of r has not returned (the caller guarantees it, e.g. under the lock
 * its on_done takes). Head and body may still come until the net thread has seen a cancel. resume
 * without a pause does nothing. */
void lr_net_cancel(struct lr_net *n, struct lr_net_req *r);
void lr_net_resume(struct lr_net *n, struct lr_net_req *r);

/* A blocking request for the command line: status and body, at most out->max bytes (LR_EOVER). The
 * route is all it knows: no environment (lr_net_route_fill). */
int lr_net_fetch(const char *method, const char *url, const char *const *headers, size_t n_headers,
                 struct lr_str body, const struct lr_net_route *route, struct lr_buf *out,
                 int *status, struct lr_err *err);

#endif
