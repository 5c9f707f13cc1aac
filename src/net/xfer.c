/* SPDX-License-Identifier: Apache-2.0
 * net/xfer.c - one transfer: a pooled easy handle, how it is pointed at a request, and the
 * callbacks that libcurl makes while it runs.
 *
 *   new, wipe   options that never change
 *   aim         options of this request
 *   take_header, take_body   on the net thread, from inside libcurl
 *
 * Handles are wiped (curl_easy_reset) between requests. Setting only what differs was the
 * first version, but libcurl 7.88 counts its retries on dead connections over the life
 * of a handle and fails the sixth, wherever that is; a reset clears the count. Request headers are
 * handed over as a libcurl list whose nodes are ours and whose text is the caller's: nothing is
 * copied (libcurl does not copy the list either).
 *
 * Options that are there for a reason which does not meet the eye:
 *   QUICK_EXIT      without it, taking away a transfer whose name is being resolved waits for
 *                   getaddrinfo: one dead DNS server would stop every other transfer
 *   CAPATH NULL     with a CA directory set libcurl 7.88 does not cache the parsed CA bundle, and
 *                   each new TLS connection costs this thread 17 ms instead of 1 (145 roots)
 *   PROXY, NOPROXY  always set, "" included: libcurl reads the environment when they are not
 *   HEADEROPT       the caller's headers (credentials) go to the host, never to the proxy's CONNECT
 *   CONNECTTIMEOUT  0 means 300 s to libcurl, so "none" is its largest number
 *
 * Header lines are collected raw and cut into fields at the blank line; 1xx heads are dropped,
 * trailers only counted. Folded lines (RFC 9112, 5.2) are joined by blanking the line break.
 */
#include "net/net_int.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* One read(2). 256 KiB answers on loopback, p50: 86 us with 16 KiB, 80 with 64 KiB, 80 with 128. */
#define RECV_BYTES 65536L

int lr_net_xfer_fail(struct lr_net_xfer *x, int rc, const char *fmt, ...)
{
    if (x->fail)
        return x->fail;
    x->fail = rc;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(x->why, sizeof x->why, fmt, ap) < 0)
        x->why[0] = 0;
    va_end(ap);
    return rc;
}

/* ---- what the peer sends ---- */

/* Cuts the raw lines into fields. Lines without a colon (the status line) are left out. */
static int cut_fields(struct lr_net_xfer *x, size_t *n_out)
{
    size_t n = 0, lines = 0;
    char *p = x->head.p, *end = p + x->head.len;
    for (char *q = p; q < end; q++)
        lines += *q == '\n';
    if (lines > x->n_fields) {
        size_t bytes;
        LR_FAIL_IF(lr_mul_over(lines, sizeof *x->fields, &bytes), LR_EOVER);
        struct lr_net_header *grown = lr_realloc(x->fields, bytes);
        LR_FAIL_IF(!grown, LR_ENOMEM);
        x->fields = grown;
        x->n_fields = lines;
    }
    for (char *next; p < end; p = next) {
        char *nl = memchr(p, '\n', (size_t)(end - p));
        next = nl ? nl + 1 : end;
        while (next < end && (*next == ' ' || *next == '\t')) { /* folded */
            next[-1] = ' ';
            if (next - 2 >= p && next[-2] == '\r')
                next[-2] = ' ';
            nl = memchr(next, '\n', (size_t)(end - next));
            next = nl ? nl + 1 : end;
        }
        struct lr_str rest = lr_str(p, (size_t)(next - p));
        if (!memchr(p, ':', rest.n))
            continue;
        struct lr_str name = lr_str_cut(&rest, ':');
        x->fields[n++] = (struct lr_net_header){lr_str_trim(name), lr_str_trim(rest)};
    }
    *n_out = n;
    return 0;
}

/* The blank line. */
static int end_head(struct lr_net_xfer *x)
{
    struct lr_net_req *r = x->r;
    long status = 0;
    if (curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status))
        return lr_net_xfer_fail(x, LR_ENET, "the answer has no status");
    if (status / 100 == 1)
        return 0;
    struct lr_net_head head = {.status = (int)status};
    int rc = cut_fields(x, &head.n);
    if (rc)
        return lr_net_xfer_fail(x, rc, "%s", lr_strerror(rc));
    head.headers = x->fields;
    r->head_seen = true;
    if (r->on_head && r->on_head(r, &head) != LR_NET_GO)
        return lr_net_xfer_fail(x, LR_ECANCEL, "stopped by the receiver");
    return 0;
}

static int add_line(struct lr_net_xfer *x, const char *p, size_t n)
{
    struct lr_net_req *r = x->r;
    if (!r->first_byte_ns)
        r->first_byte_ns = lr_clock_mono_ns() - x->start_ns;
    x->head_bytes += n;
    if (x->head_bytes > x->head.max)
        return lr_net_xfer_fail(x, LR_EOVER, "the answer's headers exceed %zu bytes", x->head.max);
    if (r->head_seen)
        return 0; /* trailers */
    if (p[0] == '\r' || p[0] == '\n')
        return end_head(x);
    if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) {
        lr_buf_reset(&x->head); /* what came before was a 1xx */
        return 0;
    }
    int rc = lr_buf_add(&x->head, p, n);
    return rc ? lr_net_xfer_fail(x, rc, "%s", lr_strerror(rc)) : 0;
}

static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
    n *= size; /* libcurl: size is 1 */
    return n && add_line(arg, p, n) ? 0 : n;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
    struct lr_net_xfer *x = arg;
    struct lr_net_req *r = x->r;
    n *= size;
    if (x->fail)
        return 0;
    x->paused = false;
    int what = n && r->on_body ? r->on_body(r, p, n) : LR_NET_GO;
    if (what == LR_NET_GO)
        return n;
    if (what == LR_NET_PAUSE) {
        x->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    lr_net_xfer_fail(x, LR_ECANCEL, "stopped by the receiver");
    return 0;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct lr_net_xfer *x = arg;
    if (purpose != CURLSOCKTYPE_IPCXN || lr_net_addr_denied(&a->addr)) {
        x->refused = true;
        return CURL_SOCKET_BAD;
    }
    x->tried = true;
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    int rc = lr_net_fd_adopt(x->net, fd);
    if (rc) {
        lr_net_xfer_fail(x, rc, "%s", lr_strerror(rc));
        lr_io_close(fd);
        return CURL_SOCKET_BAD;
    }
    return fd;
}

/* ---- what we ask ---- */

#define SET(x, option, value)                                                                      \
    LR_FAIL_IF(curl_easy_setopt((x)->easy, option, value) != CURLE_OK, LR_ENOMEM)

static int set_constants(struct lr_net_xfer *x)
{
    SET(x, CURLOPT_PRIVATE, (void *)x);
    SET(x, CURLOPT_ERRORBUFFER, x->said);
    SET(x, CURLOPT_HEADERFUNCTION, take_header);
    SET(x, CURLOPT_HEADERDATA, (void *)x);
    SET(x, CURLOPT_WRITEFUNCTION, take_body);
    SET(x, CURLOPT_WRITEDATA, (void *)x);
    SET(x, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(x, CURLOPT_OPENSOCKETDATA, (void *)x);
    SET(x, CURLOPT_CLOSESOCKETFUNCTION, lr_net_fd_close);
    SET(x, CURLOPT_CLOSESOCKETDATA, (void *)x->net); /* connections outlive transfers */
    SET(x, CURLOPT_NOSIGNAL, 1L);
    SET(x, CURLOPT_NOPROGRESS, 1L);
    SET(x, CURLOPT_QUICK_EXIT, 1L);
    SET(x, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(x, CURLOPT_FOLLOWLOCATION, 0L);
    SET(x, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(x, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(x, CURLOPT_PATH_AS_IS, 1L);
    SET(x, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    SET(x, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(x, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(x, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(x, CURLOPT_CAPATH, NULL);
    SET(x, CURLOPT_PROXY_CAPATH, NULL);
    SET(x, CURLOPT_TCP_NODELAY, 1L);
    SET(x, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(x, CURLOPT_BUFFERSIZE, RECV_BYTES);
    return 0;
}

struct lr_net_xfer *lr_net_xfer_new(struct lr_net *n)
{
    struct lr_net_xfer *x = lr_new(struct lr_net_xfer);
    if (!x)
        return NULL;
    x->net = n;
    x->heap_at = SIZE_MAX;
    lr_buf_init(&x->head, lr_net_opts_of(n)->header_max);
    x->easy = lr_fault_here() ? NULL : curl_easy_init();
    if (!x->easy || set_constants(x)) {
        lr_net_xfer_free(x);
        return NULL;
    }
    return x;
}

int lr_net_xfer_wipe(struct lr_net_xfer *x)
{
    curl_easy_reset(x->easy);
    return set_constants(x);
}

void lr_net_xfer_free(struct lr_net_xfer *x)
{
    curl_easy_cleanup(x->easy);
    lr_buf_free(&x->head);
    lr_free(x->fields);
    lr_free(x->lines);
    lr_free(x->empty);
    lr_free(x);
}

/* The length of an RFC 9110 token at z. */
static size_t token(const char *z)
{
    size_t n = 0;
    while ((z[n] >= '0' && z[n] <= '9') || (z[n] >= 'a' && z[n] <= 'z') ||
           (z[n] >= 'A' && z[n] <= 'Z') || (z[n] && strchr("!#$%&'*+-.^_`|~", z[n])))
        n++;
    return n;
}

static bool header_ok(const char *h)
{
    size_t n = token(h);
    return n && h[n] == ':' && !h[n + strcspn(h + n, "\r\n")];
}

int lr_net_xfer_check(const struct lr_net_req *r)
{
    LR_FAIL_IF(!r->method || !r->url || !r->on_done, LR_EINVAL);
    size_t n = token(r->method);
    LR_FAIL_IF(n == 0 || n > 32 || r->method[n] || strcmp(r->method, "CONNECT") == 0, LR_EINVAL);
    LR_FAIL_IF(strcmp(r->method, "HEAD") == 0 && r->body.n, LR_EINVAL);
    for (size_t i = 0; i < r->n_headers; i++)
        LR_FAIL_IF(!r->headers[i] || !header_ok(r->headers[i]), LR_EINVAL);
    return 0;
}

/* Framing is ours. */
static bool is_framing(struct lr_str name)
{
    return lr_str_ieq(name, LR_STR("content-length")) ||
           lr_str_ieq(name, LR_STR("transfer-encoding")) || lr_str_ieq(name, LR_STR("expect"));
}

static void link_line(struct lr_net_xfer *x, size_t *n, const char *text)
{
    /* struct curl_slist has no const; libcurl only reads the list of CURLOPT_HTTPHEADER. */
    memcpy(&x->lines[*n].data, &text, sizeof text);
    x->lines[*n].next = NULL;
    if (*n)
        x->lines[*n - 1].next = &x->lines[*n];
    (*n)++;
}

static bool is_empty(const char *header)
{
    return lr_str_trim(lr_strz(header + token(header) + 1)).n == 0;
}

/* Room for n_headers + 3 nodes, and for the text of headers without a value. */
static int reserve_lines(struct lr_net_xfer *x, const struct lr_net_req *r)
{
    size_t want = r->n_headers + 3, bytes, empty = 0;
    if (want > x->n_lines) {
        LR_FAIL_IF(lr_mul_over(want, sizeof *x->lines, &bytes), LR_ENOMEM);
        struct curl_slist *grown = lr_realloc(x->lines, bytes);
        LR_FAIL_IF(!grown, LR_ENOMEM);
        x->lines = grown;
        x->n_lines = want;
    }
    lr_free(x->empty);
    x->empty = NULL;
    for (size_t i = 0; i < r->n_headers; i++)
        empty += is_empty(r->headers[i]) ? token(r->headers[i]) + 2 : 0;
    x->empty = empty ? lr_alloc(empty) : NULL;
    return empty && !x->empty ? LR_ENOMEM : 0;
}

/* Builds the list in x->lines. "Name:" without a value means "remove" to libcurl, "Name;" is its
 * way to send an empty one. The three at the end remove what libcurl would add. */
static int list_headers(struct lr_net_xfer *x, const struct lr_net_req *r)
{
    LR_TRY(reserve_lines(x, r));
    bool accept = false, type = false;
    char *at = x->empty;
    size_t n = 0;
    for (size_t i = 0; i < r->n_headers; i++) {
        const char *h = r->headers[i];
        struct lr_str name = lr_str(h, token(h));
        if (is_framing(name))
            continue;
        accept = accept || lr_str_ieq(name, LR_STR("accept"));
        type = type || lr_str_ieq(name, LR_STR("content-type"));
        if (is_empty(h)) {
            memcpy(at, h, name.n);
            memcpy(at + name.n, ";", 2);
            h = at;
            at += name.n + 2;
        }
        link_line(x, &n, h);
    }
    link_line(x, &n, "Expect:");
    if (!accept)
        link_line(x, &n, "Accept:");
    if (!type)
        link_line(x, &n, "Content-Type:");
    return 0;
}

static int aim_method(struct lr_net_xfer *x, const struct lr_net_req *r)
{
    const char *m = r->method;
    if (strcmp(m, "HEAD") == 0) {
        SET(x, CURLOPT_NOBODY, 1L);
        SET(x, CURLOPT_CUSTOMREQUEST, NULL);
        return 0;
    }
    bool post = strcmp(m, "POST") == 0;
    if (r->body.n || post || strcmp(m, "PUT") == 0 || strcmp(m, "PATCH") == 0) {
        SET(x, CURLOPT_POST, 1L);
        SET(x, CURLOPT_POSTFIELDS, r->body.n ? r->body.p : "");
        SET(x, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
        SET(x, CURLOPT_CUSTOMREQUEST, post ? NULL : m);
        return 0;
    }
    SET(x, CURLOPT_HTTPGET, 1L);
    SET(x, CURLOPT_CUSTOMREQUEST, strcmp(m, "GET") == 0 ? NULL : m);
    return 0;
}

static int aim_route(struct lr_net_xfer *x, const struct lr_net_req *r, const struct lr_net_url *u)
{
    struct lr_net_route w = r->route;
    lr_net_route_fill(&w, lr_strz(r->url), lr_net_opts_of(x->net));
    bool proxied = w.proxy && strcmp(w.proxy, "none") != 0 && !lr_net_url_loopback(u);
    SET(x, CURLOPT_PROXY, proxied ? w.proxy : "");
    SET(x, CURLOPT_NOPROXY, proxied && w.no_proxy ? w.no_proxy : "");
    x->proxied = proxied;    /* or no_proxy says otherwise: only sentences depend on it */
    if (u->tls || proxied) { /* else no TLS can come up, and what the handle has does not matter */
        const char *ca = w.ca_file ? w.ca_file : lr_net_ca_default(x->net);
        SET(x, CURLOPT_CAINFO, ca);
        SET(x, CURLOPT_PROXY_CAINFO, ca);
        SET(x, CURLOPT_SSLCERT, w.cert_file && *w.cert_file ? w.cert_file : NULL);
        SET(x, CURLOPT_SSLKEY, w.cert_key_file && *w.cert_key_file ? w.cert_key_file : NULL);
    }
    uint64_t ms = w.connect_ms && w.connect_ms < INT_MAX ? w.connect_ms : INT_MAX;
    SET(x, CURLOPT_CONNECTTIMEOUT_MS, (long)ms);
    return 0;
}

static uint64_t after(uint64_t start_ns, uint64_t ms)
{
    uint64_t ns, at;
    if (!ms || __builtin_mul_overflow(ms, LR_MS, &ns) || __builtin_add_overflow(start_ns, ns, &at))
        return LR_NET_NEVER;
    return at;
}

int lr_net_xfer_aim(struct lr_net_xfer *x, struct lr_net_req *r)
{
    struct lr_net_url u;
    const char *why;
    LR_TRY(lr_net_url_parse(lr_strz(r->url), &u, &why));
    LR_TRY(list_headers(x, r));
    SET(x, CURLOPT_HTTPHEADER, x->lines);
    SET(x, CURLOPT_URL, r->url);
    LR_TRY(aim_method(x, r));
    LR_TRY(aim_route(x, r, &u));
    x->r = r;
    x->start_ns = lr_clock_mono_ns();
    x->first_by_ns = after(x->start_ns, r->route.first_byte_ms);
    x->total_by_ns = after(x->start_ns, r->route.total_ms);
    x->paused = x->refused = x->tried = false;
    x->fail = 0;
    x->said[0] = 0;
    x->head_bytes = 0;
    lr_buf_reset(&x->head);
    if (lr_net_url_denied(&u))
        lr_net_xfer_fail(x, LR_EDENIED, "link-local, wildcard and metadata addresses are refused");
    r->connect_ns = r->first_byte_ns = r->total_ns = 0;
    r->sent = r->head_seen = false;
    return 0;
}
