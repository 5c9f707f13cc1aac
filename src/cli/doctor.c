/* SPDX-License-Identifier: Apache-2.0
 * cli/doctor.c - larder doctor: is the configuration good, and can everything it names be had?
 *
 * One line a check: "ok", "note" or "FAIL", what was looked at, and for a failure what to do about
 * it. Each upstream is asked for its model list, as a client would: the failure that comes first on
 * the way is told, and it is told apart: name, connection, proxy, TLS, credential, path. No secret
 * is printed.
 */
#include "cli/cli.h"
#include "net/net.h"
#include "serve/serve.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ANSWER_MAX LR_MIB(8)

static int failures;

static void say(const char *mark, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void say(const char *mark, const char *what, const char *fmt, ...)
{
    va_list ap;
    printf("%-5s %-28s ", mark, what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    failures += strcmp(mark, "FAIL") == 0;
}

/* ---- the house ---- */

static void check_dir(const struct lr_config *c)
{
    char dir[4096], path[4200];
    struct stat st;
    if (lr_cli_data_dir(c, dir, sizeof dir)) {
        say("FAIL", "data directory", "the path is too long");
        return;
    }
    if (stat(dir, &st)) {
        say("note", "data directory", "%s does not exist yet; serve makes it", dir);
        return;
    }
    if (!S_ISDIR(st.st_mode) || (st.st_mode & 077)) {
        say("FAIL", "data directory", "%s must be a directory of mode 0700: chmod 700 it", dir);
        return;
    }
    int fd, k = snprintf(path, sizeof path, "%s/lock", dir);
    if (k < 0 || (size_t)k >= sizeof path || stat(path, &st)) {
        say("ok", "data directory", "%s", dir);
        return;
    }
    int rc = lr_io_lock(path, &fd);
    if (!rc)
        lr_io_close(fd);
    if (rc == LR_EBUSY)
        say("ok", "data directory", "%s, in use by a running daemon", dir);
    else if (rc)
        say("FAIL", "data directory", "%s cannot be locked: %s", dir, lr_strerror(rc));
    else
        say("ok", "data directory", "%s, no daemon runs on it", dir);
}

static void check_file(const char *what, const char *path, bool secret)
{
    struct lr_buf b;
    struct stat st;
    if (!*path)
        return;
    lr_buf_init(&b, LR_MIB(4));
    int rc = lr_io_read_file(path, &b);
    if (rc)
        say("FAIL", what, "%s cannot be read: %s", path, lr_strerror(rc));
    else if (secret && stat(path, &st) == 0 && (st.st_mode & 077))
        say("note", what, "%s can be read by others: chmod 600 it", path);
    else
        say("ok", what, "%s", path);
    if (b.p)
        explicit_bzero(b.p, b.len);
    lr_buf_free(&b);
}

static void check_files(const struct lr_config *c)
{
    check_file("keys.file", c->keys_file, true);
    check_file("prices.file", c->prices_file, false);
    check_file("tls.cert-file", c->tls_cert_file, false);
    check_file("tls.key-file", c->tls_key_file, true);
}

/* ---- upstreams ---- */

/* The words for a failure below HTTP. */
static void say_unreachable(const char *what, const struct lr_opt_upstream *u, bool proxied, int rc,
                            const struct lr_err *err)
{
    const char *msg = err->msg[0] ? err->msg : lr_strerror(rc);
    if (proxied && (rc == LR_ENET || rc == LR_EDNS))
        say("FAIL", what,
            "proxy: %s: is the proxy right (proxy, HTTPS_PROXY), and may it reach this host? "
            "proxy: none goes without",
            msg);
    else if (rc == LR_EDNS)
        say("FAIL", what, "name: %s: is the host in the url spelled right, does DNS work here?",
            msg);
    else if (rc == LR_ETLS)
        say("FAIL", what, "TLS: %s: is it https there? A private authority needs ca-file%s", msg,
            *u->cert_file ? "; the client certificate may be refused" : "");
    else if (rc == LR_ETIMEOUT)
        say("FAIL", what, "time: %s: a firewall drops packets, or the server hangs", msg);
    else if (rc == LR_EDENIED)
        say("FAIL", what, "address: %s: link-local addresses are never asked", msg);
    else if (rc == LR_EOVER)
        say("ok", what, "it answers (with a very long list)");
    else
        say("FAIL", what, "connection: %s: does the server run, is the port right?", msg);
}

static void say_status(const char *what, const struct lr_opt_upstream *u, bool proxied, int status,
                       bool own_key)
{
    if (status / 100 == 2)
        say("ok", what, "answers its model list%s", own_key ? ", the key is good" : "");
    else if ((status == 401 || status == 403) && own_key)
        say("FAIL", what,
            "credential: it answered %d: the key is wrong, revoked or lacks a permission; see "
            "key-file, key-env, key-header",
            status);
    else if (status == 401 || status == 403)
        say("ok", what, "it answered %d without a key, as it should: clients bring theirs", status);
    else if (status == 407 && proxied)
        say("FAIL", what, "proxy: it wants a user and a password (407)");
    else if (status == 404 || status == 405)
        say("FAIL", what,
            "path: it answered %d: the url is not the base of an API (try with or without /v1)%s",
            status,
            u->models.n ? "" : "; or it has no model list: then chat may work all the same");
    else if (status / 100 == 3)
        say("FAIL", what,
            "path: it redirects (%d), and redirects are not followed: give the final url", status);
    else if (status == 429 || status / 100 == 5)
        say("FAIL", what, "server: it answered %d: reached, but in trouble of its own", status);
    else
        say("FAIL", what, "it answered %d to a model list", status);
}

/* The upstream's own key. LR_ENOENT: it has none. A failure has been said. */
static int read_key(const char *what, const struct lr_opt_upstream *u, struct lr_buf *b)
{
    int rc = LR_ENOENT;
    const char *env = *u->key_env ? getenv(u->key_env) : NULL;
    if (*u->key_file)
        rc = lr_io_read_file(u->key_file, b);
    else if (env)
        rc = lr_buf_addz(b, env);
    else if (!*u->key_env && u->credential != LR_CREDENTIAL_KEY)
        return LR_ENOENT;
    if (!rc && lr_str_trim(lr_buf_str(b)).n)
        return 0;
    say("FAIL", what, "credential: %s %s is %s", *u->key_file ? "key-file" : "key-env",
        *u->key_file ? u->key_file : u->key_env, rc ? "not readable" : "empty");
    return LR_EDENIED;
}

/* url without trailing '/', "/v1" where it is a bare host, and "/models". */
static int models_url(const char *url, const struct lr_opt_upstream *u, struct lr_buf *b)
{
    struct lr_str s = lr_strz(url);
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    lr_buf_adds(b, s);
    const char *host = s.n > 3 ? memmem(s.p, s.n, "://", 3) : NULL;
    if (!host || !memchr(host + 3, '/', s.n - (size_t)(host + 3 - s.p)))
        lr_buf_addz(b, "/v1");
    lr_buf_addz(b, "/models");
    if (*u->query)
        lr_buf_addf(b, "?%s", u->query);
    return lr_buf_addc(b, 0);
}

static bool speaks_anthropic(const struct lr_opt_upstream *u)
{
    return u->dialect == LR_SPEAKS_ANTHROPIC ||
           (u->dialect == LR_SPEAKS_AUTO && strstr(u->url, "anthropic"));
}

static const char *set(const char *z)
{
    return z && *z ? z : NULL;
}

static void ask(const char *what, const struct lr_opt_upstream *u, const char *url,
                struct lr_str key)
{
    const char *headers[80];
    char auth[2048];
    size_t n = 0;
    const char *name = *u->key_header        ? u->key_header
                       : speaks_anthropic(u) ? "x-api-key"
                                             : "authorization";
    bool bearer = strcasecmp(name, "authorization") == 0;
    int k = snprintf(auth, sizeof auth, "%s: %s%.*s", name, bearer ? "Bearer " : "", LR_FMT(key));
    if (key.n && k > 0 && (size_t)k < sizeof auth)
        headers[n++] = auth;
    if (speaks_anthropic(u))
        headers[n++] = "anthropic-version: 2023-06-01";
    for (size_t i = 0; i < u->headers.n && n < LR_COUNT(headers); i++)
        headers[n++] = u->headers.v[i];
    struct lr_net_route route = {
        .proxy = set(u->proxy),
        .no_proxy = set(u->no_proxy),
        .ca_file = set(u->ca_file),
        .cert_file = set(u->cert_file),
        .cert_key_file = set(u->cert_key_file),
        .connect_ms = u->connect_timeout,
        .total_ms = 15000,
    };
    const char *https = set(getenv("https_proxy")), *no_proxy = set(getenv("no_proxy"));
    struct lr_net_opts env = {
        .env_https_proxy = https ? https : getenv("HTTPS_PROXY"),
        .env_http_proxy = getenv("http_proxy"),
        .env_no_proxy = no_proxy ? no_proxy : getenv("NO_PROXY"),
        .env_ca_file = getenv("SSL_CERT_FILE"),
    };
    lr_net_route_fill(&route, lr_strz(url), &env);
    bool proxied = route.proxy && *route.proxy && strcmp(route.proxy, "none") != 0;
    struct lr_buf out;
    struct lr_err err = {0};
    int status = 0;
    lr_buf_init(&out, ANSWER_MAX);
    int rc = lr_net_fetch("GET", url, headers, n, lr_str(NULL, 0), &route, &out, &status, &err);
    if (rc)
        say_unreachable(what, u, proxied, rc, &err);
    else
        say_status(what, u, proxied, status, key.n > 0);
    lr_buf_free(&out);
    explicit_bzero(auth, sizeof auth);
}

static void check_upstream(const struct lr_opt_upstream *u)
{
    char what[96];
    struct lr_buf key, url;
    struct lr_err err = {0};
    int k = snprintf(what, sizeof what, "upstream %s", *u->name ? u->name : u->url);
    if (k < 0)
        return;
    lr_buf_init(&key, LR_KIB(64));
    lr_buf_init(&url, LR_KIB(32));
    int rc = lr_net_url_check(lr_strz(u->url), &err);
    if (rc)
        say("FAIL", what, "url: %s", err.msg);
    else if ((rc = read_key(what, u, &key)) != LR_EDENIED && models_url(u->url, u, &url) == 0)
        ask(what, u, url.p, lr_str_trim(lr_buf_str(&key)));
    if (key.p)
        explicit_bzero(key.p, key.len);
    lr_buf_free(&key);
    lr_buf_free(&url);
}

/* ---- models of this machine ---- */

/* Each is loaded as serve would, and let go again. */
static size_t check_models(const struct lr_config *c)
{
    for (size_t i = 0;; i++) {
        struct lr_serve_model m;
        struct lr_err err = {0};
        int rc = lr_serve_try_model(c, i, &m, &err);
        if (rc == LR_ENOENT && !err.code)
            return i;
        if (rc) {
            say("FAIL", "model", "%s: %s", err.where, err.msg);
            return i + 1; /* those behind it are held against what it leaves: nobody knows */
        }
        char what[96];
        if (snprintf(what, sizeof what, "model %s", m.name) < 0)
            continue;
        say("ok", what, "%.0f MiB weights, %.0f MiB scratch, rows up to %.0f MiB, context %u tokens",
            (double)m.bytes_weights / 1048576, (double)m.bytes_scratch / 1048576,
            (double)m.bytes_kv / 1048576, m.context);
    }
}

/* ---- the command ---- */

static int print_config(const struct lr_config *c)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(8));
    int rc = lr_config_print(c, &b);
    if (rc)
        lr_cli_fail("doctor", &(struct lr_err){.code = rc});
    else
        printf("%.*s", (int)b.len, b.p);
    lr_buf_free(&b);
    return rc ? 1 : 0;
}

static int examine(struct lr_config *c)
{
    struct lr_err err = {0};
    say("ok", "configuration", "%zu upstreams, %zu aliases, %zu prices", c->upstreams.n,
        c->aliases.n, c->prices.n);
    check_dir(c);
    check_files(c);
    if (*c->prices_file && lr_config_load_prices(c, c->prices_file, &err))
        say("FAIL", "prices.file", "%s (%s)", err.msg, err.where);
    struct lr_err why = {0};
    bool plugins = lr_serve_plugins(c, &why) == 0;
    if (!plugins)
        say("FAIL", "plugin", "%s: %s", why.where, why.msg);
    else if (c->plugin.n)
        say("ok", "plugin", "%zu loaded", c->plugin.n);
    size_t models = plugins ? check_models(c) : 0;
    if (!c->upstreams.n)
        say("note", "upstreams",
            models ? "none: only models of this machine answer"
                   : "none: only stored answers are served; attach one with --upstream URL");
    for (size_t i = 0; i < c->upstreams.n; i++)
        check_upstream(&c->upstreams.v[i]);
    printf("%s\n", failures ? "something is wrong, see FAIL above" : "all is well");
    return failures ? 1 : 0;
}

int lr_cmd_doctor(struct lr_cli *cli)
{
    struct lr_config *c;
    bool print = lr_cli_take_flag(cli, "--print-config");
    if (lr_cli_config(cli, &c)) {
        printf("FAIL  configuration\n"); /* the reason has been printed */
        return 1;
    }
    int status = print ? print_config(c) : examine(c);
    lr_config_free(c);
    lr_free(c);
    return status;
}
