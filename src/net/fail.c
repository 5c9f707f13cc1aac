/* SPDX-License-Identifier: Apache-2.0
 * net/fail.c - libcurl's failures as LR_E* and one sentence.
 *
 * The sentences are ours: libcurl's error buffer may quote what a peer sent, and this module
 * promises that no path, query or header gets into a message. Only TLS failures quote it, because
 * there it names the certificate's problem and nothing else (host names, OpenSSL's reason).
 */
#include "net/net_int.h"

static const struct row {
    CURLcode code;
    int rc;
    const char *text;
} rows[] = {
    {CURLE_COULDNT_RESOLVE_HOST, LR_EDNS, "the host's name does not resolve"},
    {CURLE_COULDNT_RESOLVE_PROXY, LR_EDNS, "the proxy's name does not resolve"},
    {CURLE_COULDNT_CONNECT, LR_ENET, "no connection"},
    {CURLE_PROXY, LR_ENET, "the proxy refused or broke its handshake"},
    {CURLE_GOT_NOTHING, LR_ENET, "the peer closed the connection without an answer"},
    {CURLE_PARTIAL_FILE, LR_ENET, "the peer closed the connection before the end of its answer"},
    {CURLE_SEND_ERROR, LR_ENET, "the connection broke while sending"},
    {CURLE_RECV_ERROR, LR_ENET, "the connection broke while receiving"},
    {CURLE_HTTP2, LR_ENET, "the HTTP/2 connection broke"},
    {CURLE_HTTP2_STREAM, LR_ENET, "the peer reset the HTTP/2 stream"},
    {CURLE_WEIRD_SERVER_REPLY, LR_ENET, "the answer is not HTTP"},
    {CURLE_UNSUPPORTED_PROTOCOL, LR_ENET, "the answer is not HTTP/1 or HTTP/2"},
    {CURLE_OUT_OF_MEMORY, LR_ENOMEM, "out of memory"},
    {CURLE_URL_MALFORMAT, LR_EINVAL, "the URL is malformed"},
};

/* Failures of TLS, each with libcurl's own words behind the colon. */
static const struct row tls_rows[] = {
    {CURLE_PEER_FAILED_VERIFICATION, LR_ETLS, "the certificate is not trusted"},
    {CURLE_SSL_CACERT_BADFILE, LR_ETLS, "the CA bundle cannot be read"},
    {CURLE_SSL_CERTPROBLEM, LR_ETLS, "the client certificate or its key cannot be used"},
    {CURLE_SSL_CONNECT_ERROR, LR_ETLS, "the TLS handshake failed"},
    {CURLE_SSL_CIPHER, LR_ETLS, "no TLS cipher in common"},
    {CURLE_SSL_ISSUER_ERROR, LR_ETLS, "the certificate's issuer does not match"},
    {CURLE_SSL_INVALIDCERTSTATUS, LR_ETLS, "the certificate's status is bad"},
    {CURLE_SSL_SHUTDOWN_FAILED, LR_ETLS, "TLS did not end cleanly"},
    {CURLE_SSL_ENGINE_INITFAILED, LR_ETLS, "the TLS library failed to start"},
};

/* What the connection's state tells better than the code. True when it did. */
static bool map_context(const struct lr_net_xfer *x, CURLcode code, struct lr_err *err,
                        const char *where)
{
    long tunnel = 0, os = 0, sent = 0;
    if (curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel) ||
        curl_easy_getinfo(x->easy, CURLINFO_OS_ERRNO, &os) ||
        curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent))
        return false;
    if (x->refused && !x->tried) {
        lr_err_set(err, LR_EDENIED, where,
                   "the name leads to a link-local, wildcard or metadata address: refused");
    } else if (x->proxied && tunnel && tunnel / 100 != 2 && code != CURLE_OPERATION_TIMEDOUT) {
        lr_err_set(err, LR_ENET, where, "the proxy answered CONNECT with status %ld", tunnel);
    } else if (code == CURLE_OPERATION_TIMEDOUT) { /* the only timer of libcurl's that we set */
        lr_err_set(err, LR_ETIMEOUT, where, "no connection within %llu ms",
                   (unsigned long long)x->r->route.connect_ms);
    } else if (code == CURLE_COULDNT_CONNECT && os) {
        char text[80];
        const char *said = strerror_r((int)os, text, sizeof text);
        lr_err_set(err, LR_ENET, where, "no connection to the %s: %s",
                   x->proxied ? "proxy" : "host", said);
    } else if (code == CURLE_OUT_OF_MEMORY && sent && !x->r->head_seen) {
        /* libcurl's word for one header line of 100 KiB */
        lr_err_set(err, LR_EOVER, where, "a header line of the answer is too long");
    } else {
        return false;
    }
    return true;
}

static const struct row *find(const struct row *from, size_t n, CURLcode code)
{
    for (size_t i = 0; i < n; i++)
        if (from[i].code == code)
            return &from[i];
    return NULL;
}

int lr_net_fail_map(const struct lr_net_xfer *x, CURLcode code, struct lr_err *err)
{
    if (!x->fail && code == CURLE_OK && x->r->head_seen)
        return 0;
    char where[120];
    lr_net_url_where(lr_strz(x->r->url), where);
    if (x->fail)
        return lr_err_set(err, x->fail, where, "%s", x->why);
    if (code == CURLE_OK) /* libcurl takes an end within the headers for the end of them */
        return lr_err_set(err, LR_ENET, where,
                          "the peer closed the connection before the end of "
                          "its answer's headers");
    if (map_context(x, code, err, where))
        return err->code;
    const struct row *row = find(tls_rows, LR_COUNT(tls_rows), code);
    if (row && x->said[0])
        return lr_err_set(err, row->rc, where, "%s: %s", row->text, x->said);
    if (!row)
        row = find(rows, LR_COUNT(rows), code);
    if (row)
        return lr_err_set(err, row->rc, where, "%s", row->text);
    return lr_err_set(err, LR_ENET, where, "the transfer failed (libcurl %d)", (int)code);
}
