/* SPDX-License-Identifier: Apache-2.0
 * serve/conf.c - configuration snapshots: what a request sees of the options, unchanging while it lives.
 *
 * A reload makes a new snapshot and swaps the pointer; requests in progress keep theirs. Running state
 * of an upstream (breaker, load) is handed from snapshot to snapshot by name and URL: a changed URL is
 * a new upstream, and its old credential is not carried along (it is read afresh from key-file).
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define KEY_FILE_MAX LR_KIB(64)

struct lr_conf *lr_conf_ref(struct lr_conf *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

static void state_unref(struct lr_up_state *s)
{
    if (s && atomic_fetch_sub(&s->refs, 1) == 1)
        lr_free(s);
}

void lr_conf_unref(struct lr_conf *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    for (size_t i = 0; i < c->n_ups; i++) {
        state_unref(c->ups[i].state);
        lr_free(c->ups[i].base);
        if (c->ups[i].key) {
            explicit_bzero(c->ups[i].key, strlen(c->ups[i].key));
            lr_free(c->ups[i].key);
        }
    }
    lr_free(c->ups);
    if (c->c)
        lr_config_free(c->c);
    lr_free(c->c);
    lr_free(c);
}

/* "https://host:port/path" -> "host:port". */
static struct lr_str url_host(struct lr_str url)
{
    const char *at = url.n > 3 ? memmem(url.p, url.n, "://", 3) : NULL;
    struct lr_str rest = at ? lr_str(at + 3, url.n - (size_t)(at + 3 - url.p)) : url;
    return lr_str_cut(&rest, '/');
}

static void set_text(char *dst, size_t cap, struct lr_str s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    memcpy(dst, s.p, n);
    dst[n] = 0;
}

/* What stands before "/chat/completions": a bare host gets "/v1", any other path is taken as it is
 * (".../openai/v1", ".../openai/deployments/NAME"). root is the same without a "/v1" at its end: what
 * stands before paths that do not begin with /v1. */
static int url_roots(struct lr_str url, char **base, size_t *root_n)
{
    while (url.n && url.p[url.n - 1] == '/')
        url.n--;
    struct lr_str host = url_host(url);
    bool bare = host.p + host.n == url.p + url.n;
    bool v1 = !bare && url.n > 3 && memcmp(url.p + url.n - 3, "/v1", 3) == 0;
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(8));
    lr_buf_adds(&b, url);
    if (bare)
        lr_buf_addz(&b, "/v1");
    if (!b.rc && !(*base = lr_strndup(b.p, b.len)))
        b.rc = LR_ENOMEM;
    *root_n = v1 ? url.n - 3 : url.n;
    int rc = b.rc;
    lr_buf_free(&b);
    return rc;
}

/* The upstream's own key, from a file or the environment; trimmed; NULL when none is configured. */
static int read_key(const struct lr_opt_upstream *o, const struct lr_serve_opts *opts, char **out,
                    struct lr_err *err)
{
    struct lr_str key = {NULL, 0};
    struct lr_buf b;
    lr_buf_init(&b, KEY_FILE_MAX);
    int rc = 0;
    if (*o->key_file) {
        rc = lr_io_read_file(o->key_file, &b);
        key = lr_str_trim(lr_buf_str(&b));
        if (rc)
            lr_err_set(err, rc, o->key_file, "the key file of upstream %s cannot be read: %s", o->url,
                       lr_strerror(rc));
    } else if (*o->key_env) {
        key = lr_str_trim(lr_strz(opts->getenv ? opts->getenv(o->key_env) : NULL));
    }
    bool wanted = *o->key_file || *o->key_env || o->credential == LR_CREDENTIAL_KEY;
    if (!rc && wanted && !key.n)
        rc = lr_err_set(err, LR_EINVAL, *o->key_file ? o->key_file : o->key_env,
                        "the key of upstream %s is empty", o->url);
    for (size_t i = 0; !rc && i < key.n; i++)
        if ((unsigned char)key.p[i] <= ' ' || key.p[i] == 127)
            rc = lr_err_set(err, LR_EINVAL, o->key_file, "the key of upstream %s holds blanks", o->url);
    if (!rc && key.n && !(*out = lr_strndup(key.p, key.n)))
        rc = LR_ENOMEM;
    if (b.p)
        explicit_bzero(b.p, b.len);
    lr_buf_free(&b);
    return rc;
}

static struct lr_up_state *inherit(const struct lr_conf *old, uint64_t id)
{
    for (size_t i = 0; old && i < old->n_ups; i++)
        if (old->ups[i].state->id == id) {
            atomic_fetch_add(&old->ups[i].state->refs, 1);
            return old->ups[i].state;
        }
    struct lr_up_state *s = lr_new(struct lr_up_state);
    if (s) {
        s->id = id;
        atomic_store(&s->refs, 1);
    }
    return s;
}

static const char *or_null(const char *z)
{
    return z && *z ? z : NULL;
}

static int make_upstream(struct lr_upstream *u, const struct lr_opt_upstream *o, const struct lr_conf *old,
                         const struct lr_serve_opts *opts, struct lr_err *err)
{
    u->opt = o;
    LR_TRY(lr_net_url_check(lr_strz(o->url), err));
    struct lr_str host = url_host(lr_strz(o->url));
    set_text(u->host, sizeof u->host, host);
    set_text(u->name, sizeof u->name, *o->name ? lr_strz(o->name) : host);
    u->speaks = o->dialect != LR_SPEAKS_AUTO       ? o->dialect
                : strstr(u->host, "anthropic")     ? LR_SPEAKS_ANTHROPIC
                                                   : LR_SPEAKS_OPENAI;
    LR_TRY(url_roots(lr_strz(o->url), &u->base, &u->root_n));
    uint64_t id = lr_hash64(lr_strz(o->url), lr_hash64(lr_strz(u->name), 0));
    u->state = inherit(old, id);
    LR_FAIL_IF(!u->state, LR_ENOMEM);
    u->route = (struct lr_net_route){
        .proxy = or_null(o->proxy),
        .no_proxy = or_null(o->no_proxy),
        .ca_file = or_null(o->ca_file),
        .cert_file = or_null(o->cert_file),
        .cert_key_file = or_null(o->cert_key_file),
        .connect_ms = o->connect_timeout,
        .first_byte_ms = o->first_byte_timeout,
        .total_ms = o->timeout,
    };
    return read_key(o, opts, &u->key, err);
}

int lr_conf_make(struct lr_conf **out, struct lr_config *c, const struct lr_conf *old,
                 const struct lr_serve_opts *opts, uint64_t epoch, struct lr_err *err)
{
    struct lr_conf *f = lr_new(struct lr_conf);
    if (!f) {
        lr_config_free(c);
        lr_free(c);
        return LR_ENOMEM;
    }
    f->c = c;
    f->epoch = epoch;
    atomic_store(&f->refs, 1);
    int rc = *c->prices_file ? lr_config_load_prices(c, c->prices_file, err) : 0;
    f->ups = lr_calloc(c->upstreams.n, sizeof *f->ups);
    if (!rc && !f->ups)
        rc = LR_ENOMEM;
    for (size_t i = 0; !rc && i < c->upstreams.n; i++) {
        f->n_ups = i + 1;
        rc = make_upstream(&f->ups[i], &c->upstreams.v[i], old, opts, err);
    }
    if (rc) {
        lr_conf_unref(f);
        return rc;
    }
    *out = f;
    return 0;
}

static bool in_list(const struct lr_list *l, struct lr_str s)
{
    for (size_t i = 0; i < l->n; i++)
        if (lr_str_is(s, l->v[i]))
            return true;
    return false;
}

const struct lr_opt_alias *lr_conf_alias(const struct lr_conf *f, struct lr_str name)
{
    for (size_t i = 0; i < f->c->aliases.n; i++)
        if (lr_str_is(name, f->c->aliases.v[i].name))
            return &f->c->aliases.v[i];
    return NULL;
}

size_t lr_conf_serving(const struct lr_conf *f, struct lr_str model, size_t *idx, size_t max,
                       struct lr_str *sent)
{
    const struct lr_opt_alias *alias = lr_conf_alias(f, model);
    *sent = alias && *alias->model ? lr_strz(alias->model) : model;
    bool named = alias && alias->upstreams.n;
    size_t n = 0;
    /* First whoever names the model; only if nobody does, those that take every name. */
    for (int pass = 0; pass < 2 && n == 0; pass++)
        for (size_t i = 0; i < f->n_ups && n < max; i++) {
            const struct lr_opt_upstream *o = f->ups[i].opt;
            if (named ? in_list(&alias->upstreams, lr_strz(f->ups[i].name))
                      : pass == 0 ? in_list(&o->models, *sent)
                                  : o->models.n == 0)
                idx[n++] = i;
        }
    return n;
}

const struct lr_opt_price *lr_conf_price(const struct lr_conf *f, struct lr_str model)
{
    const struct lr_opt_price *best = NULL;
    for (size_t i = 0; i < f->c->prices.n; i++) {
        const struct lr_opt_price *p = &f->c->prices.v[i];
        if (lr_str_is(model, p->model) && (!best || strcmp(p->date, best->date) > 0))
            best = p;
    }
    return best;
}

double lr_price_of(const struct lr_opt_price *p, const struct lr_usage *u)
{
    if (!p)
        return 0;
    uint64_t cached = u->cached_input < u->input ? u->cached_input : u->input;
    return ((double)(u->input - cached) * p->input + (double)cached * p->cached_input +
            (double)u->output * p->output) / 1e6;
}

const struct lr_opt_category *lr_conf_category(const struct lr_conf *f, struct lr_str name)
{
    for (size_t i = 0; i < f->c->categories.n; i++)
        if (lr_str_is(name, f->c->categories.v[i].name))
            return &f->c->categories.v[i];
    return NULL;
}
