/* SPDX-License-Identifier: Apache-2.0
 * serve/probe.c - health probes: a GET of an upstream's `health` path now and then.
 *
 * A probe carries what a request would: the upstream's query, extra headers and own key.
 *
 * A probe that is not answered 2xx takes the upstream out of the choice until one is; it never touches
 * the breaker, which learns from real requests. One probe an upstream at a time.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define EXTRA_MAX 64 /* headers of an upstream: what the options table allows */

struct probe {
    struct lr_net_req net;
    struct lr_serve *serve;
    struct lr_conf *conf;
    const struct lr_upstream *up;
    int status;
    char url[4096], key[4096 + 80];
    const char *headers[1 + EXTRA_MAX];
};

static int on_head(struct lr_net_req *n, const struct lr_net_head *h)
{
    LR_CONTAINER(n, struct probe, net)->status = h->status;
    return LR_NET_GO;
}

static int on_body(struct lr_net_req *n, const char *p, size_t len)
{
    (void)n, (void)p, (void)len; /* only the status counts */
    return LR_NET_GO;
}

static void on_done(struct lr_net_req *n, int rc, const struct lr_err *err)
{
    struct probe *p = LR_CONTAINER(n, struct probe, net);
    bool bad = rc || p->status / 100 != 2;
    if (atomic_exchange(&p->up->state->probe_bad, bad) != bad)
        lr_log(bad ? LR_LOG_WARN : LR_LOG_INFO, "probe", "event=%s upstream=%s status=%d reason=\"%s\"",
               bad ? "down" : "up", p->up->name, p->status, err && err->code ? err->msg : "");
    atomic_store(&p->up->state->probing, false);
    atomic_fetch_sub(&p->serve->attempts, 1);
    lr_conf_unref(p->conf);
    explicit_bzero(p->key, sizeof p->key);
    lr_free(p);
}

static void start(struct lr_serve *s, struct lr_conf *conf, const struct lr_upstream *u)
{
    const struct lr_opt_upstream *o = u->opt;
    struct probe *p = lr_new(struct probe);
    if (!p) {
        atomic_store(&u->state->probing, false);
        return;
    }
    int k = snprintf(p->url, sizeof p->url, "%.*s%s%s%s%s", (int)u->root_n, u->base,
                     *o->health == '/' ? "" : "/", o->health,
                     !*o->query ? "" : strchr(o->health, '?') ? "&" : "?", o->query);
    bool fits = k > 0 && (size_t)k < sizeof p->url;
    size_t n = 0;
    for (; n < o->headers.n && n < EXTRA_MAX; n++)
        p->headers[n] = o->headers.v[n];
    if (u->key) {
        bool plain = *o->key_header || u->speaks == LR_SPEAKS_ANTHROPIC;
        k = snprintf(p->key, sizeof p->key, "%s: %s%s",
                     *o->key_header ? o->key_header : plain ? "x-api-key" : "authorization",
                     plain ? "" : "Bearer ", u->key);
        fits = fits && k > 0 && (size_t)k < sizeof p->key;
        p->headers[n++] = p->key;
    }
    p->serve = s;
    p->up = u;
    p->net = (struct lr_net_req){.method = "GET", .url = p->url, .headers = p->headers,
                                 .n_headers = n, .route = u->route,
                                 .on_head = on_head, .on_body = on_body, .on_done = on_done};
    p->net.route.total_ms = o->health_every;
    p->conf = lr_conf_ref(conf);
    atomic_fetch_add(&s->attempts, 1);
    if (fits && lr_net_start(s->net, &p->net) == 0)
        return;
    atomic_fetch_sub(&s->attempts, 1);
    atomic_store(&u->state->probing, false);
    lr_conf_unref(conf);
    lr_free(p);
}

void lr_probe_tick(struct lr_serve *s, uint64_t now_ns)
{
    if (atomic_load(&s->closing))
        return;
    struct lr_conf *conf = lr_serve_conf(s);
    for (size_t i = 0; i < conf->n_ups; i++) {
        const struct lr_upstream *u = &conf->ups[i];
        uint64_t due = atomic_load(&u->state->probe_ns);
        if (!*u->opt->health || now_ns < due || atomic_exchange(&u->state->probing, true))
            continue;
        atomic_store(&u->state->probe_ns, now_ns + u->opt->health_every * LR_MS);
        start(s, conf, u);
    }
    lr_conf_unref(conf);
}
