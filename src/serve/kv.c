/* SPDX-License-Identifier: Apache-2.0
 * serve/kv.c - the KV store in the house: opened from the configuration, behind the Redis door, in the
 * metrics.
 *
 * The store opens when `resp` names an address, and for the rows of models of this machine (kv.warm),
 * which find and leave them there through reuse/; its segments are in <data>/kv. The models' own use
 * of it is a convenience: where the store cannot be opened for them alone they do without, and the log
 * says why. Who may use the door is what tenants.c says of HTTP: with a keys file a client's key is
 * the password (the user's name chooses a namespace inside the tenant), without one the password
 * itself makes the tenant, none included. As there, addresses beyond loopback need a keys file.
 */
#include "serve/kv_admin.h"
#include "serve/resp.h"
#include "serve/serve_int.h"

#include <stdio.h>

#define ALONE_MAX LR_GIB(1) /* of memory, where nobody but local models uses the store and nothing is said */

static int who(void *ctx, struct lr_str user, struct lr_str password, uint64_t *tenant)
{
    struct lr_serve *s = ctx;
    struct lr_tenant t;
    (void)user; /* a namespace, not a credential */
    LR_TRY(lr_tenants_find(s->tenants, password, lr_clock_wall_ms(), 0, &t));
    *tenant = t.id;
    lr_kv_desk_meet(s->kv_desk, &t);
    return 0;
}

static uint64_t memory_of(const struct lr_config *c)
{
    uint64_t all = lr_serve_memory(), quarter = all / 4;
    return c->kv_memory || c->resp.n ? c->kv_memory : quarter && quarter < ALONE_MAX ? 0 : ALONE_MAX;
}

static void add_escaped(struct lr_buf *url, struct lr_str s)
{
    for (size_t i = 0; i < s.n; i++)
        lr_buf_addf(url, "%%%02X", (unsigned char)s.p[i]);
}

/* kv.remote with what its file says of user and password; secrets have no place in the option
 * itself, which is printed. Whoever calls wipes it. */
static int remote_url(const struct lr_config *c, struct lr_buf *url, struct lr_err *err)
{
    static const char scheme[] = "redis://";
    struct lr_str place = lr_strz(c->kv_remote);
    if (memchr(place.p, '@', place.n))
        return lr_err_set(
            err, LR_EINVAL, "kv.remote",
            "user and password do not belong here: kv.remote-auth-file names their file");
    if (!*c->kv_remote_auth_file || !lr_str_starts(place, lr_strz(scheme)))
        return lr_buf_addz(url, c->kv_remote);
    struct lr_buf file;
    lr_buf_init(&file, LR_KIB(4));
    int rc = lr_io_read_file(c->kv_remote_auth_file, &file);
    struct lr_str password = lr_str_trim(lr_buf_str(&file)), user = {NULL, 0};
    if (rc || !password.n)
        rc = lr_err_set(err, rc ? rc : LR_EINVAL, c->kv_remote_auth_file,
                        "kv.remote's password cannot be read: %s",
                        rc ? lr_strerror(rc) : "the file is empty");
    if (!rc && memchr(password.p, ':', password.n))
        user = lr_str_cut(&password, ':');
    if (!rc) {
        lr_buf_addz(url, scheme);
        add_escaped(url, user);
        lr_buf_addc(url, ':');
        add_escaped(url, password);
        lr_buf_addc(url, '@');
        rc = lr_buf_addz(url, c->kv_remote + sizeof scheme - 1);
    }
    if (file.p)
        explicit_bzero(file.p, file.len);
    lr_buf_free(&file);
    return rc;
}

static int open_store(struct lr_serve *s, const struct lr_config *c, struct lr_err *err)
{
    static const char *const strategies[] = {"s3fifo", "lru", "cost"};
    char dir[4096];
    int n = snprintf(dir, sizeof dir, "%s/kv", s->dir);
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof dir, LR_EOVER);
    struct lr_store_opts o = {
        .mem_max = memory_of(c),
        .disk_max = c->kv_disk,
        .evict = strategies[c->kv_evict],
        .write_back = c->kv_write_back,
        .trust_memory = !c->kv_verify,
        .dir = *c->kv_dir ? c->kv_dir : dir,
        .remote_ms = (uint32_t)c->kv_remote_timeout,
        .remote_ttl_ms = c->kv_remote_ttl,
    };
    if (!strcmp(o.dir, "none"))
        o.dir = NULL;
    s->kv_dir = o.dir ? lr_strndup(o.dir, strlen(o.dir)) : NULL; /* the store keeps the pointer */
    LR_FAIL_IF(o.dir && !s->kv_dir, LR_ENOMEM);
    o.dir = s->kv_dir;
    struct lr_buf url;
    lr_buf_init(&url, LR_KIB(16));
    int rc = remote_url(c, &url, err);
    if (!rc)
        rc = lr_buf_addc(&url, 0);
    o.remote = url.len > 1 ? url.p : NULL; /* read while opening, not kept */
    if (!rc)
        rc = lr_store_open(&s->store, &o, err);
    if (url.p)
        explicit_bzero(url.p, url.len);
    lr_buf_free(&url);
    return rc;
}

int lr_kv_open_store(struct lr_serve *s, struct lr_err *err)
{
    const struct lr_config *c = s->conf->c;
    bool warm = c->kv_warm && c->engine_reuse && lr_locals_any(c);
    struct lr_err why = {0};
    if (!c->resp.n && !warm)
        return 0;
    int rc = open_store(s, c, &why);
    rc = rc ? rc : lr_kv_desk_open(&s->kv_desk, s->dir, s->store, &why);
    if (!rc && warm) {
        const struct lr_reuse_opts o = {.store = s->store,
                                        .shared = c->kv_share,
                                        .patience_ns = c->kv_deadline * LR_MS};
        rc = lr_reuse_open(&s->locals.reuse, &o);
    }
    if (rc && !c->resp.n) {
        lr_log(LR_LOG_WARN, "serve", "event=no_warm_start error=\"%s\"",
               why.code ? why.msg : lr_strerror(rc));
        lr_kv_close(s);
        return 0;
    }
    return rc && why.code ? lr_err_set(err, rc, why.where, "%s", why.msg) : rc;
}

int lr_kv_open(struct lr_serve *s, struct lr_err *err)
{
    const struct lr_config *c = s->conf->c;
    if (!c->resp.n)
        return 0;
    struct lr_resp_opts o = {
        .listen = (const char *const *)c->resp.v,
        .n_listen = c->resp.n,
        .threads = (unsigned)c->kv_threads,
        .connections_max = (unsigned)c->kv_connections_max,
        .store = s->store,
        .auth = lr_tenants_managed(s->tenants),
        .who = who,
        .ctx = s,
        .watch = lr_kv_desk_watch(s->kv_desk),
        .deadline_ns = c->kv_deadline * LR_MS,
    };
    LR_TRY(lr_resp_open(&s->resp, &o, err));
    for (size_t i = 0; i < c->resp.n; i++)
        lr_log(LR_LOG_INFO, "serve", "event=resp port=%u", lr_resp_port(s->resp, i));
    return 0;
}

void lr_kv_close_door(struct lr_serve *s)
{
    lr_resp_close(s->resp);
    s->resp = NULL;
}

void lr_kv_close(struct lr_serve *s)
{
    lr_kv_desk_close(s->kv_desk);
    lr_reuse_close(s->locals.reuse);
    s->locals.reuse = NULL;
    lr_store_close(s->store);
    lr_free(s->kv_dir);
    s->kv_dir = NULL;
    s->kv_desk = NULL;
    s->store = NULL;
}

unsigned lr_serve_resp_port(const struct lr_serve *s, size_t i)
{
    return s->resp ? lr_resp_port(s->resp, i) : 0;
}

/* ---- metrics ---- */

static void one(struct lr_buf *out, const char *name, const char *type, const char *help, uint64_t v)
{
    lr_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name,
                (unsigned long long)v);
}

static void door_rows(const struct lr_resp_stats *d, struct lr_buf *out)
{
    one(out, "larder_kv_connections", "gauge", "connections at the Redis door", d->connections);
    one(out, "larder_kv_commands_total", "counter", "commands", d->commands);
    one(out, "larder_kv_gets_total", "counter", "values asked for", d->gets);
    one(out, "larder_kv_hits_total", "counter", "values found", d->hits);
    one(out, "larder_kv_sets_total", "counter", "values sent", d->sets);
    one(out, "larder_kv_sets_dropped_total", "counter", "values answered OK and not kept", d->dropped);
    one(out, "larder_kv_denied_total", "counter", "credentials refused, and data asked without one",
        d->denied);
    one(out, "larder_kv_protocol_errors_total", "counter", "connections closed for what they sent",
        d->faults);
    one(out, "larder_kv_received_bytes_total", "counter", "bytes received", d->bytes_in);
    one(out, "larder_kv_sent_bytes_total", "counter", "bytes sent", d->bytes_out);
}

void lr_kv_metrics(struct lr_serve *s, struct lr_buf *out)
{
    struct lr_store_stats st;
    struct lr_resp_stats d;
    if (!s->store)
        return;
    lr_store_stats(s->store, &st);
    if (s->resp) {
        lr_resp_stats(s->resp, &d);
        door_rows(&d, out);
        lr_kv_doctor_metrics(s, out);
    }
    one(out, "larder_kv_entries", "gauge", "objects known to the store", st.entries);
    one(out, "larder_kv_memory_bytes", "gauge", "memory that objects take", st.mem_bytes);
    one(out, "larder_kv_memory_max_bytes", "gauge", "kv.memory", st.mem_max);
    one(out, "larder_kv_pinned_bytes", "gauge", "memory that pins hold", st.mem_pinned);
    one(out, "larder_kv_disk_bytes", "gauge", "segment files", st.disk_bytes);
    one(out, "larder_kv_disk_live_bytes", "gauge", "of these, objects that can be read", st.disk_live);
    one(out, "larder_kv_queue_bytes", "gauge", "waiting for the disk", st.queue_bytes);
    one(out, "larder_kv_quotas", "gauge", "tenants that have a quota", lr_kv_desk_quotas(s->kv_desk));
    one(out, "larder_kv_disk_ok", "gauge", "1: the last write succeeded", st.disk_ok);
    lr_buf_addz(out, "# HELP larder_kv_events_total what happened in the store, by kind\n"
                     "# TYPE larder_kv_events_total counter\n");
    for (int i = 0; i < LR_STORE_COUNT; i++) {
        lr_buf_addz(out, "larder_kv_events_total{kind=\"");
        for (const char *p = lr_store_count_name((enum lr_store_count)i); *p; p++)
            lr_buf_addc(out, (char)(*p == '_' ? '_' : *p - 'A' + 'a'));
        lr_buf_addf(out, "\"} %llu\n", (unsigned long long)st.count[i]);
    }
}
