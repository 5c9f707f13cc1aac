/* SPDX-License-Identifier: Apache-2.0
 * cli/admin.c - the commands that ask a running daemon: stats, top, explain, answer, trace.
 *
 * They speak HTTP to /larder/v1 at admin.listen, else at the first listen address, with the admin key
 * of the data directory: whoever may read that file may use them.
 */
#include "cli/cli.h"
#include "dialect/dialect.h"
#include "net/net.h"
#include "serve/serve.h"

#include <stdio.h>

#define ANSWER_MAX LR_MIB(64)

/* Where the daemon is, and the key to it. */
struct daemon {
    char base[320];   /* "http://127.0.0.1:8100" */
    char auth[128];   /* the header */
    char ca[4096];
};

static int read_key(const struct lr_config *c, struct daemon *d, struct lr_err *err)
{
    char dir[4096], path[4200];
    struct lr_buf b;
    lr_buf_init(&b, 256);
    LR_TRY(lr_cli_data_dir(c, dir, sizeof dir));
    int k = snprintf(path, sizeof path, "%s/%s", dir, LR_ADMIN_KEY_FILE);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof path, LR_EOVER);
    int rc = lr_io_read_file(path, &b);
    if (rc) {
        lr_err_set(err, rc, path, "the admin key cannot be read (is the daemon's data directory this "
                                  "one? see --data): %s", lr_strerror(rc));
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
static int set_base(const struct lr_config *c, struct daemon *d)
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

static int open_daemon(struct lr_cli *cli, struct daemon *d)
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

/* 0 and the body in out; else the failure has been printed. */
static int ask(const struct daemon *d, const char *method, const char *path, struct lr_str body,
               struct lr_buf *out)
{
    char url[1024];
    const char *headers[] = {d->auth, "content-type: application/json"};
    struct lr_net_route route = {.ca_file = *d->ca ? d->ca : NULL, .connect_ms = 5000, .total_ms = 60000};
    struct lr_err err = {0};
    int status = 0, k = snprintf(url, sizeof url, "%s%s", d->base, path);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof url, LR_EOVER);
    int rc = lr_net_fetch(method, url, headers, LR_COUNT(headers), body, &route, out, &status, &err);
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

static int show(struct lr_cli *cli, const char *method, const char *path)
{
    struct daemon d;
    struct lr_buf out;
    if (open_daemon(cli, &d))
        return 1;
    lr_buf_init(&out, ANSWER_MAX);
    int rc = ask(&d, method, path, lr_str(NULL, 0), &out);
    if (!rc)
        printf("%.*s\n", (int)out.len, out.p ? out.p : "");
    lr_buf_free(&out);
    return rc ? 1 : 0;
}

int lr_cmd_stats(struct lr_cli *cli)
{
    return show(cli, "GET", "/larder/v1/stats");
}

int lr_cmd_top(struct lr_cli *cli)
{
    return show(cli, "GET", "/larder/v1/stats");
}

int lr_cmd_explain(struct lr_cli *cli)
{
    char path[256];
    if (cli->argc < 1 || snprintf(path, sizeof path, "/larder/v1/explain/%s", cli->argv[0]) < 0) {
        fprintf(stderr, "usage: larder explain ID [--against ID2]\n");
        return 2;
    }
    return show(cli, "GET", path);
}

int lr_cmd_answer(struct lr_cli *cli)
{
    return show(cli, "GET", "/larder/v1/entries");
}

int lr_cmd_trace(struct lr_cli *cli)
{
    return show(cli, "GET", "/larder/v1/trace");
}
