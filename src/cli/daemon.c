/* SPDX-License-Identifier: Apache-2.0
 * cli/daemon.c - a running daemon: where it is, the key to it, questions and answers.
 */
#include "cli/daemon.h"
#include "dialect/dialect.h"
#include "net/net.h"
#include "serve/serve.h"

static int read_key(const struct lr_config *c, struct lr_daemon *d, struct lr_err *err)
{
    char dir[4096], path[4200];
    struct lr_buf b;
    lr_buf_init(&b, 256);
    LR_TRY(lr_cli_data_dir(c, dir, sizeof dir));
    int k = snprintf(path, sizeof path, "%s/%s", dir, LR_ADMIN_KEY_FILE);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof path, LR_EOVER);
    int rc = lr_io_read_file(path, &b);
    if (rc) {
        lr_err_set(err, rc, path,
                   "the admin key cannot be read (is the daemon's data directory this "
                   "one? see --data): %s",
                   lr_strerror(rc));
    } else {
        struct lr_str key = lr_str_trim(lr_buf_str(&b));
        k = snprintf(d->auth, sizeof d->auth, "authorization: Bearer %.*s", LR_FMT(key));
        rc = k < 0 || (size_t)k >= sizeof d->auth ? LR_EOVER : 0;
        explicit_bzero(b.p, b.len);
    }
    lr_buf_free(&b);
    return rc;
}

/* A wildcard address is no address to dial: loopback reaches it. */
static int set_base(const struct lr_config *c, struct lr_daemon *d)
{
    const char *at = *c->admin_listen ? c->admin_listen : c->listen.n ? c->listen.v[0] : "";
    const char *colon = strrchr(at, ':');
    LR_FAIL_IF(!colon, LR_EINVAL);
    struct lr_str host = lr_str(at, (size_t)(colon - at));
    if (lr_str_is(host, "0.0.0.0") || lr_str_is(host, "*"))
        host = LR_STR("127.0.0.1");
    if (lr_str_is(host, "[::]"))
        host = LR_STR("[::1]");
    int k = snprintf(d->base, sizeof d->base, "http%s://%.*s%s", *c->tls_cert_file ? "s" : "",
                     LR_FMT(host), colon);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof d->base, LR_EOVER);
    k = snprintf(d->ca, sizeof d->ca, "%s", c->tls_cert_file);
    return k < 0 || (size_t)k >= sizeof d->ca ? LR_EOVER : 0;
}

int lr_daemon_open(struct lr_cli *cli, struct lr_daemon *d)
{
    struct lr_config *c;
    struct lr_err err = {0};
    LR_TRY(lr_cli_config(cli, &c));
    int rc = set_base(c, d);
    if (!rc)
        rc = read_key(c, d, &err);
    if (rc) {
        err.code = rc;
        lr_cli_fail(cli->name, &err);
    }
    lr_config_free(c);
    lr_free(c);
    return rc;
}

int lr_daemon_ask(const struct lr_daemon *d, const char *method, const char *path,
                  struct lr_str body, struct lr_buf *out)
{
    char url[1024];
    const char *headers[] = {d->auth, "content-type: application/json"};
    struct lr_net_route route = {
        .ca_file = *d->ca ? d->ca : NULL, .connect_ms = 5000, .total_ms = 60000};
    struct lr_err err = {0};
    int status = 0, k = snprintf(url, sizeof url, "%s%s", d->base, path);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof url, LR_EOVER);
    int rc =
        lr_net_fetch(method, url, headers, LR_COUNT(headers), body, &route, out, &status, &err);
    if (rc) {
        err.code = rc;
        lr_cli_fail("no answer from the daemon", &err);
        return rc;
    }
    if (status / 100 == 2)
        return 0;
    struct lr_arena a;
    struct lr_str code = {NULL, 0}, message = {NULL, 0};
    lr_arena_init(&a, LR_MIB(1));
    lr_error_read(&a, lr_buf_str(out), &code, &message);
    fprintf(stderr, "larder: the daemon answered %d: %.*s\n", status, LR_FMT(message));
    lr_arena_free(&a);
    return LR_EDENIED;
}

/* ---- answers ---- */

void lr_reply_free(struct lr_reply *a)
{
    lr_buf_free(&a->text);
    lr_arena_free(&a->arena);
}

int lr_daemon_json(const struct lr_daemon *d, const char *method, const char *path,
                    struct lr_str body, struct lr_reply *a)
{
    struct lr_err err = {0};
    lr_buf_init(&a->text, LR_REPLY_MAX);
    lr_arena_init(&a->arena, LR_REPLY_MAX);
    int rc = lr_daemon_ask(d, method, path, body, &a->text);
    if (!rc && (rc = lr_json_parse(&a->arena, lr_buf_str(&a->text), NULL, &a->root, &err))) {
        err.code = rc;
        lr_cli_fail("the daemon's answer", &err);
    }
    if (rc)
        lr_reply_free(a);
    return rc;
}

int lr_daemon_usage(const char *words)
{
    fprintf(stderr, "usage: larder %s\n", words);
    return 2;
}

void lr_daemon_word(struct lr_buf *b, const char *w)
{
    for (; *w; w++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *w))
            lr_buf_addc(b, *w);
        else
            lr_buf_addf(b, "%%%02X", (unsigned)(unsigned char)*w);
}
