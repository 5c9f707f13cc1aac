/* SPDX-License-Identifier: Apache-2.0
 * cli/serve.c - larder serve: start, say where, wait for signals.
 *
 * SIGTERM and SIGINT drain and stop (a second one stops at once); SIGHUP reloads the config from the
 * same file, environment and flags.
 */
#include "cli/cli.h"
#include "serve/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* A copy of the arguments: a reload parses them again. */
static char **copy_args(int argc, char **argv)
{
    char **v = lr_calloc((size_t)argc + 1, sizeof *v);
    for (int i = 0; v && i < argc; i++)
        v[i] = argv[i];
    return v;
}

/* Models of this machine: what they take, and a line to try the first one. */
static bool announce_models(const struct lr_serve *s, const struct lr_config *c)
{
    struct lr_serve_model m;
    size_t n = 0;
    for (; lr_serve_model(s, n, &m); n++)
        printf("model %s%s: %.1f MiB weights, %.1f MiB scratch, KV rows up to %.0f MiB as they are used; "
               "context %u tokens\n",
               m.name, m.builtin ? " (built in, a toy)" : "", (double)m.bytes_weights / 1048576,
               (double)m.bytes_scratch / 1048576, (double)m.bytes_kv / 1048576, m.context);
    if (n && !*c->keys_file && lr_serve_model(s, 0, &m))
        printf("try it:\n  curl http%s://127.0.0.1:%u/v1/chat/completions -H 'content-type: "
               "application/json' \\\n    -d '{\"model\":\"%s\",\"temperature\":0,\"messages\":["
               "{\"role\":\"user\",\"content\":\"Tell me a story.\"}]}'\n",
               *c->tls_cert_file ? "s" : "", lr_serve_port(s, 0), m.name);
    return n > 0;
}

static void announce(const struct lr_serve *s, const struct lr_config *c, const char *dir)
{
    for (size_t i = 0; i < c->listen.n; i++) {
        char host[256];
        struct lr_str l = lr_strz(c->listen.v[i]);
        const char *colon = strrchr(c->listen.v[i], ':');
        size_t n = colon ? (size_t)(colon - l.p) : l.n;
        n = n < sizeof host ? n : sizeof host - 1;
        memcpy(host, l.p, n);
        host[n] = 0;
        printf("larder %s serves http%s://%s:%u/v1   dashboard /ui   data %s\n", LR_VERSION,
               *c->tls_cert_file ? "s" : "", host, lr_serve_port(s, i), dir);
    }
    for (size_t i = 0; i < c->resp.n; i++) {
        const char *colon = strrchr(c->resp.v[i], ':');
        printf("KV store  redis://%.*s:%u\n", (int)(colon ? colon - c->resp.v[i] : 0), c->resp.v[i],
               lr_serve_resp_port(s, i));
    }
    bool model = announce_models(s, c);
    if (c->upstreams.n == 0 && !model)
        printf("no model is attached: only cached answers are served; attach one with --model FILE or "
               "--upstream URL\n");
    for (size_t i = 0; i < c->upstreams.n; i++)
        printf("upstream %s\n", c->upstreams.v[i].url);
    (void)fflush(stdout); /* a closed terminal does not stop the daemon */
}

static void reload(struct lr_serve *s, const struct lr_cli *cli)
{
    struct lr_cli again = *cli;
    again.argv = copy_args(cli->argc, cli->argv);
    struct lr_config *c;
    struct lr_err err = {0};
    if (!again.argv || lr_cli_config(&again, &c))
        lr_log(LR_LOG_ERROR, "serve", "event=reload_refused");
    else if (lr_serve_reload(s, c, &err))
        lr_log(LR_LOG_ERROR, "serve", "event=reload_refused reason=\"%s\" at=%s", err.msg, err.where);
    else
        lr_log(LR_LOG_INFO, "serve", "event=reloaded");
    lr_free(again.argv);
}

/* One descriptor a connection: take what the hard limit grants. */
static void raise_descriptors(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &l))
            lr_log(LR_LOG_DEBUG, "serve", "event=descriptors_kept");
    }
}

static void stop_at_once(int sig)
{
    (void)sig;
    _exit(130);
}

static const char *environment(const char *lower, const char *upper)
{
    const char *v = getenv(lower);
    return v && *v ? v : upper ? getenv(upper) : NULL;
}

static const char *get_env(const char *name)
{
    return getenv(name);
}

int lr_cmd_serve(struct lr_cli *cli)
{
    struct lr_cli first = *cli;
    struct lr_config *c;
    char dir[4096];
    struct lr_err err = {0};
    sigset_t set;
    first.argv = copy_args(cli->argc, cli->argv);
    if (!first.argv || lr_cli_config(&first, &c))
        return 1;
    if (first.argc > 0) {
        fprintf(stderr, "larder: serve: '%s' is no option; try larder serve --help\n", first.argv[0]);
        lr_config_free(c);
        lr_free(c);
        lr_free(first.argv);
        return 2;
    }
    lr_free(first.argv);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    /* Blocked before any thread starts: this thread alone takes them, in sigwait. */
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
        lr_cli_data_dir(c, dir, sizeof dir)) {
        lr_config_free(c);
        lr_free(c);
        return 1;
    }
    raise_descriptors();
    struct lr_serve_opts o = {
        .config = c,
        .dir = dir,
        .env_https_proxy = environment("https_proxy", "HTTPS_PROXY"),
        .env_http_proxy = environment("http_proxy", NULL),
        .env_no_proxy = environment("no_proxy", "NO_PROXY"),
        .env_ca_file = getenv("SSL_CERT_FILE"),
        .getenv = get_env,
    };
    struct lr_serve *s;
    int rc = lr_serve_open(&s, &o, &err);
    if (rc) {
        err.code = err.code ? err.code : rc;
        return lr_cli_fail("cannot serve", &err);
    }
    announce(s, c, dir);
    for (int sig = 0; sigwait(&set, &sig) == 0 && sig == SIGHUP;)
        reload(s, cli);
    sigdelset(&set, SIGHUP);
    if (signal(SIGINT, stop_at_once) != SIG_ERR && signal(SIGTERM, stop_at_once) != SIG_ERR)
        (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* a second signal ends the drain */
    lr_log(LR_LOG_INFO, "serve", "event=stopping");
    lr_serve_close(s);
    return 0;
}
