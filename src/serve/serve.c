/* SPDX-License-Identifier: Apache-2.0
 * serve/serve.c - opens the house in order, closes it in the reverse order.
 *
 *   plug-ins, tenants, answers, raw table, flights, timers, pool, net, traces, local models, KV store
 *   -> doors
 *
 * Closing: doors stop accepting and drain; flights are cancelled; local models, net, timers and pool end;
 * then the stores are flushed. Nothing below a door is closed while a request can still reach it.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define TICK_NS LR_SEC
#define POOL_QUEUE 4096
#define LAST_FLIGHTS_NS (5 * LR_SEC)

struct lr_conf *lr_serve_conf(struct lr_serve *s)
{
    pthread_mutex_lock(&s->conf_mu);
    struct lr_conf *c = lr_conf_ref(s->conf);
    pthread_mutex_unlock(&s->conf_mu);
    return c;
}

static void on_tick(struct lr_timer *t)
{
    struct lr_serve *s = LR_CONTAINER(t, struct lr_serve, tick);
    uint64_t now = lr_clock_mono_ns();
    lr_flights_tick(s->flights, now);
    lr_tenants_tick(s->tenants);
    lr_probe_tick(s, now);
    lr_traces_tick(s->traces);
    struct lr_answer_stats st;
    lr_answer_stats(s->answer, &st);
    lr_metric_set(LR_M_ENTRIES, (int64_t)st.entries);
    lr_metric_set(LR_M_ENTRY_BYTES, (int64_t)st.bytes);
    lr_metric_set(LR_M_HOT_BYTES, (int64_t)st.hot_bytes);
    lr_metric_set(LR_M_FLIGHTS, (int64_t)lr_flights_count(s->flights));
    if (atomic_load(&s->closing))
        return;
    t->at_ns = now + TICK_NS;
    lr_timers_add(s->timers, t);
}

/* The admin key: made at first start, mode 0600; one line of text. */
static int load_admin_key(struct lr_serve *s, struct lr_err *err)
{
    char path[4096];
    int k = snprintf(path, sizeof path, "%s/%s", s->dir, LR_ADMIN_KEY_FILE);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof path, LR_EOVER);
    struct lr_buf b;
    lr_buf_init(&b, 256);
    int rc = lr_io_read_file(path, &b);
    if (rc == LR_ENOENT) {
        uint8_t raw[32];
        char hex[65];
        lr_random_bytes(raw, sizeof raw);
        lr_hex(raw, sizeof raw, hex);
        lr_buf_addf(&b, "la-%s\n", hex);
        rc = b.rc ? b.rc : lr_io_write_file(path, lr_buf_str(&b), 0600);
    }
    struct lr_str key = lr_str_trim(lr_buf_str(&b));
    if (!rc && (key.n < 16 || key.n >= sizeof s->admin_key))
        rc = LR_ECORRUPT;
    if (!rc) {
        memcpy(s->admin_key, key.p, key.n);
        s->admin_key[key.n] = 0;
    }
    lr_buf_free(&b);
    return rc ? lr_err_set(err, rc, path, "the admin key: %s", lr_strerror(rc)) : 0;
}

static bool loopback_only(const char *address)
{
    struct lr_str s = lr_strz(address);
    return lr_str_starts(s, LR_STR("127.")) || lr_str_starts(s, LR_STR("[::1]:")) ||
           lr_str_starts(s, LR_STR("localhost:"));
}

static int check_exposure(const struct lr_config *c, struct lr_err *err)
{
    for (size_t i = 0; i < c->listen.n; i++)
        if (!loopback_only(c->listen.v[i]) && !*c->keys_file)
            return lr_err_set(err, LR_EDENIED, c->listen.v[i],
                              "listening beyond loopback needs client keys: make some with `larder key "
                              "add NAME --keys-file F` and start with --keys-file F");
    for (size_t i = 0; i < c->resp.n; i++)
        if (!loopback_only(c->resp.v[i]) && !*c->keys_file)
            return lr_err_set(err, LR_EDENIED, c->resp.v[i],
                              "resp beyond loopback needs client keys, which are the passwords of AUTH: make "
                              "some with `larder key add NAME --keys-file F` and start with --keys-file F");
    if (*c->admin_listen && !loopback_only(c->admin_listen) && !*c->keys_file)
        return lr_err_set(err, LR_EDENIED, c->admin_listen,
                          "admin.listen serves the API too (the dashboard's chat): beyond loopback it needs "
                          "client keys: make some with `larder key add NAME --keys-file F`");
    return 0;
}

static int read_pem(const char *path, struct lr_buf *b, struct lr_err *err)
{
    lr_buf_init(b, LR_MIB(1));
    if (!*path)
        return 0;
    int rc = lr_io_read_file(path, b);
    return rc ? lr_err_set(err, rc, path, "the TLS file cannot be read: %s", lr_strerror(rc)) : 0;
}

static int open_door(struct lr_serve *s, struct lr_door **out, const char *const *listen, size_t n,
                     struct lr_entrance *entrance, struct lr_err *err)
{
    const struct lr_config *c = s->conf->c;
    struct lr_buf cert, key;
    lr_buf_init(&key, 0);
    int rc = read_pem(c->tls_cert_file, &cert, err);
    if (!rc)
        rc = read_pem(c->tls_key_file, &key, err);
    if (!rc) {
        struct lr_door_opts o = {
            .listen = listen,
            .n_listen = n,
            .threads = (unsigned)c->http_threads,
            .connections_max = (unsigned)c->http_connections_max,
            .idle_s = (unsigned)(c->http_idle / 1000),
            .tls_cert = lr_buf_str(&cert),
            .tls_key = lr_buf_str(&key),
            .ops = &lr_pipeline_ops,
            .ctx = entrance,
        };
        rc = lr_door_open(out, &o, err);
    }
    if (key.p)
        explicit_bzero(key.p, key.len);
    lr_buf_free(&cert);
    lr_buf_free(&key);
    return rc;
}

static int open_stores(struct lr_serve *s, struct lr_err *err)
{
    static const char *const strategies[] = {"lru", "s3fifo", "cost"};
    const struct lr_config *c = s->conf->c;
    LR_TRY(load_admin_key(s, err));
    LR_TRY(lr_tenants_open(&s->tenants, s->dir, c->keys_file, err));
    struct lr_answer_opts ao = {
        .dir = s->dir,
        .bytes_max = c->answer_bytes,
        .hot_max = c->answer_hot_bytes,
        .evict = strategies[c->answer_evict],
    };
    LR_TRY(lr_answer_open(&s->answer, &ao, err));
    LR_TRY(lr_raw_open(&s->raw, c->answer_hot_bytes / 4));
    LR_TRY(lr_replays_open(&s->replays, c->answer_hot_bytes / 4));
    LR_TRY(lr_traces_open(&s->traces, (size_t)c->trace_requests, c->trace_file, err));
    LR_TRY(lr_tally_open(&s->tally));
    LR_TRY(lr_sessions_open(&s->sessions));
    return 0;
}

static int open_threads(struct lr_serve *s)
{
    struct lr_net_opts no = {
        .env_https_proxy = s->opts.env_https_proxy,
        .env_http_proxy = s->opts.env_http_proxy,
        .env_no_proxy = s->opts.env_no_proxy,
        .env_ca_file = s->opts.env_ca_file,
    };
    LR_TRY(lr_flights_open(&s->flights));
    LR_TRY(lr_timers_open(&s->timers));
    LR_TRY(lr_pool_open(&s->pool, "larder-work", (unsigned)s->conf->c->workers, POOL_QUEUE));
    return lr_net_open(&s->net, &no);
}

int lr_serve_open(struct lr_serve **out, const struct lr_serve_opts *opts, struct lr_err *err)
{
    struct lr_serve *s = lr_new(struct lr_serve);
    if (!s) {
        lr_config_free(opts->config);
        lr_free(opts->config);
        return LR_ENOMEM;
    }
    s->opts = *opts;
    s->opts.config = NULL;
    s->started_ms = lr_clock_wall_ms();
    s->front = (struct lr_entrance){s, false};
    s->back = (struct lr_entrance){s, true};
    pthread_mutex_init(&s->conf_mu, NULL);
    pthread_mutex_init(&s->spares_mu, NULL);
    int rc = lr_conf_make(&s->conf, opts->config, NULL, opts, 1, err);
    if (!rc && !(s->dir = lr_strndup(opts->dir, strlen(opts->dir))))
        rc = LR_ENOMEM;
    if (!rc)
        rc = lr_serve_plugins(s->conf->c, err);
    if (!rc)
        rc = check_exposure(s->conf->c, err);
    if (!rc && (rc = lr_io_mkdir(s->dir, 0700)))
        lr_err_set(err, rc, s->dir, "the data directory cannot be made: %s", lr_strerror(rc));
    if (!rc)
        rc = open_stores(s, err);
    if (!rc)
        rc = open_threads(s);
    if (!rc)
        rc = lr_kv_open_store(s, err);
    if (!rc)
        rc = lr_locals_open(&s->locals, s->conf->c, err);
    if (!rc)
        rc = lr_kv_open(s, err);
    const struct lr_config *c = s->conf ? s->conf->c : NULL;
    if (!rc && *c->admin_listen) {
        const char *one[] = {c->admin_listen};
        rc = open_door(s, &s->admin_door, one, 1, &s->back, err);
    }
    if (!rc)
        rc = open_door(s, &s->door, (const char *const *)c->listen.v, c->listen.n, &s->front, err);
    if (rc) {
        lr_serve_close(s);
        return rc;
    }
    s->tick.at_ns = lr_clock_mono_ns() + TICK_NS;
    s->tick.fire = on_tick;
    lr_timers_add(s->timers, &s->tick);
    *out = s;
    return 0;
}

unsigned lr_serve_port(const struct lr_serve *s, size_t i)
{
    return lr_door_port(s->door, i);
}

unsigned lr_serve_admin_port(const struct lr_serve *s)
{
    return lr_door_port(s->admin_door ? s->admin_door : s->door, 0);
}

int lr_serve_reload(struct lr_serve *s, struct lr_config *config, struct lr_err *err)
{
    struct lr_conf *old = lr_serve_conf(s), *fresh;
    struct lr_buf fixed;
    lr_buf_init(&fixed, LR_KIB(16));
    if (lr_config_diff_start(old->c, config, &fixed) == 0 && fixed.len)
        lr_log(LR_LOG_WARN, "serve", "event=reload needs_restart=%.*s", LR_FMT(lr_buf_str(&fixed)));
    lr_buf_free(&fixed);
    int rc = lr_conf_make(&fresh, config, old, &s->opts, old->epoch + 1, err);
    lr_conf_unref(old);
    LR_TRY(rc);
    pthread_mutex_lock(&s->conf_mu);
    old = s->conf;
    s->conf = fresh;
    pthread_mutex_unlock(&s->conf_mu);
    lr_conf_unref(old);
    lr_raw_clear(s->raw);
    lr_log_set_level((enum lr_log_level)fresh->c->log_level);
    return 0;
}

/* Producers whose readers are gone come to their end through net and timers; wait for them. */
static void land_flights(struct lr_serve *s)
{
    uint64_t until = lr_clock_mono_ns() + LAST_FLIGHTS_NS;
    lr_flights_cancel_all(s->flights);
    while (atomic_load(&s->attempts) && lr_clock_mono_ns() < until)
        lr_clock_sleep_ns(2 * LR_MS);
}

void lr_serve_close(struct lr_serve *s)
{
    if (!s)
        return;
    uint64_t drain = s->conf ? s->conf->c->http_drain * LR_MS : 0;
    atomic_store(&s->draining, true);
    if (s->door)
        lr_door_close(s->door, drain);
    if (s->admin_door)
        lr_door_close(s->admin_door, 0);
    lr_kv_close_door(s);
    atomic_store(&s->closing, true);
    if (s->flights)
        land_flights(s);
    lr_locals_stop(&s->locals, 0);
    lr_net_close(s->net);
    lr_timers_close(s->timers);
    lr_pool_close(s->pool);
    lr_flights_close(s->flights);
    lr_kv_close(s);
    lr_answer_close(s->answer);
    lr_raw_close(s->raw);
    lr_replays_close(s->replays);
    lr_traces_close(s->traces);
    lr_tally_close(s->tally);
    lr_sessions_close(s->sessions);
    lr_tenants_close(s->tenants);
    lr_locals_close(&s->locals);
    lr_conf_unref(s->conf);
    lr_spares_free(s);
    pthread_mutex_destroy(&s->spares_mu);
    pthread_mutex_destroy(&s->conf_mu);
    explicit_bzero(s->admin_key, sizeof s->admin_key);
    lr_free(s->dir);
    lr_free(s);
}
