/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_desk.c - what the operator's side of the KV store keeps: quotas, names, the watch.
 *
 * Quotas are the store's to enforce and this file's to remember: the store forgets them at its end, since
 * they are about tenants and not about what lies in segments. They are one small JSON file, replaced whole
 * (docs/formats/kv-quotas.md), and written before they hold: what was acknowledged survives a kill.
 *
 * Names: the store knows tenants by number. Who logs in has a name, which is remembered here for people to
 * read; the oldest gives way.
 */
#include "serve/kv_admin.h"
#include "serve/serve_int.h"

#include <stdio.h>

#define NAMES      1024u
#define QUOTAS     4096u
#define QUOTAS_MAX LR_KIB(512) /* of the file */

struct quota {
    uint64_t tenant, bytes;
};

struct lr_kv_desk {
    struct lr_store *store;
    struct lr_kv_watch *watch;
    char path[4096];
    pthread_mutex_t mu; /* guards names; a leaf */
    struct {
        uint64_t id;
        char name[64];
    } names[NAMES];
    size_t n_names, next_name;
    pthread_mutex_t quota_mu; /* one change at a time, its file written under it; the pool's threads only */
    struct quota quotas[QUOTAS];
    size_t n_quotas;
    atomic_size_t held; /* the same, for who must not wait for a file */
};

/* ---- quotas ---- */

static int save(const struct lr_kv_desk *d)
{
    struct lr_buf b;
    struct lr_jw w;
    char hex[17];
    lr_buf_init(&b, QUOTAS_MAX);
    lr_jw_init(&w, &b);
    lr_jw_obj(&w);
    lr_field_u64(&w, "version", 1);
    lr_jw_key(&w, "quotas");
    lr_jw_arr(&w);
    for (size_t i = 0; i < d->n_quotas; i++) {
        lr_jw_obj(&w);
        lr_hex(&d->quotas[i].tenant, 8, hex);
        lr_field_text(&w, "tenant", hex);
        lr_field_u64(&w, "bytes", d->quotas[i].bytes);
        lr_jw_end(&w);
    }
    lr_jw_end(&w);
    lr_jw_end(&w);
    lr_buf_addc(&b, '\n');
    int rc = b.rc ? b.rc : lr_io_write_file(d->path, lr_buf_str(&b), 0600);
    lr_buf_free(&b);
    return rc;
}

/* Rows of a parsed file. */
static int take_rows(struct lr_kv_desk *d, const struct lr_json *o)
{
    uint64_t version = 0;
    const struct lr_json *list = lr_json_get(o, "quotas");
    LR_FAIL_IF(!lr_json_u64(lr_json_get(o, "version"), &version), LR_ECORRUPT);
    LR_FAIL_IF(version != 1, LR_EVERSION);
    LR_FAIL_IF(!lr_json_is(list, LR_JSON_ARRAY) || list->n > QUOTAS, LR_ECORRUPT);
    for (const struct lr_json *v = list->child; v; v = v->next) {
        struct quota *q = &d->quotas[d->n_quotas];
        struct lr_str hex;
        uint8_t id[8];
        LR_FAIL_IF(!lr_json_text(lr_json_get(v, "tenant"), &hex) || lr_unhex(hex, id, 8) ||
                       !lr_json_u64(lr_json_get(v, "bytes"), &q->bytes),
                   LR_ECORRUPT);
        q->tenant = lr_le64(id);
        d->n_quotas++;
        if (lr_store_quota(d->store, q->tenant, q->bytes))
            lr_log(LR_LOG_WARN, "kv", "event=quota_not_held reason=\"too many tenants\"");
    }
    return 0;
}

static int load(struct lr_kv_desk *d, struct lr_err *err)
{
    struct lr_buf b;
    struct lr_arena a;
    struct lr_json *o = NULL;
    lr_buf_init(&b, QUOTAS_MAX);
    lr_arena_init(&a, LR_MIB(8));
    int rc = lr_io_read_file(d->path, &b);
    if (!rc)
        rc = lr_json_parse(&a, lr_buf_str(&b), NULL, &o, NULL);
    else if (rc == LR_ENOENT)
        goto undo_memory; /* no quotas: o is not there */
    if (!rc)
        rc = take_rows(d, o);
    if (rc)
        lr_err_set(err, rc, d->path, "the quotas of the KV store cannot be read: %s", lr_strerror(rc));
undo_memory:
    lr_arena_free(&a);
    lr_buf_free(&b);
    return rc == LR_ENOENT ? 0 : rc;
}

int lr_kv_desk_quota(struct lr_kv_desk *d, uint64_t tenant, uint64_t bytes)
{
    pthread_mutex_lock(&d->quota_mu);
    size_t i = 0, n = d->n_quotas;
    while (i < n && d->quotas[i].tenant != tenant)
        i++;
    struct quota before = i < n ? d->quotas[i] : (struct quota){tenant, 0};
    int rc = i == QUOTAS ? LR_EOVER : 0;
    if (!rc && bytes) {
        d->quotas[i] = (struct quota){tenant, bytes};
        d->n_quotas = i < n ? n : n + 1;
    } else if (!rc && i < n) {
        d->quotas[i] = d->quotas[n - 1];
        d->n_quotas = n - 1;
    }
    if (!rc && (rc = save(d))) { /* as it was */
        if (!bytes && i < n)
            d->quotas[n - 1] = d->quotas[i];
        if (i < n)
            d->quotas[i] = before;
        d->n_quotas = n;
    }
    atomic_store(&d->held, d->n_quotas);
    pthread_mutex_unlock(&d->quota_mu);
    LR_TRY(rc);
    rc = lr_store_quota(d->store, tenant, bytes);
    if (rc && bytes)
        (void)lr_kv_desk_quota(d, tenant, 0); /* what cannot be held is not promised */
    return rc;
}

size_t lr_kv_desk_quotas(struct lr_kv_desk *d)
{
    return atomic_load(&d->held);
}

/* ---- names ---- */

void lr_kv_desk_meet(struct lr_kv_desk *d, const struct lr_tenant *t)
{
    size_t i = 0;
    pthread_mutex_lock(&d->mu);
    while (i < d->n_names && d->names[i].id != t->id)
        i++;
    if (i == d->n_names) {
        i = d->next_name;
        d->next_name = (i + 1) % NAMES;
        d->n_names += d->n_names < NAMES;
        d->names[i].id = t->id;
    }
    memcpy(d->names[i].name, t->name, sizeof d->names[i].name);
    pthread_mutex_unlock(&d->mu);
}

void lr_kv_desk_name(struct lr_kv_desk *d, uint64_t tenant, char out[64])
{
    out[0] = 0;
    pthread_mutex_lock(&d->mu);
    for (size_t i = 0; i < d->n_names && !*out; i++)
        if (d->names[i].id == tenant)
            memcpy(out, d->names[i].name, 64);
    pthread_mutex_unlock(&d->mu);
}

/* ---- the desk ---- */

struct lr_kv_watch *lr_kv_desk_watch(struct lr_kv_desk *d)
{
    return d->watch;
}

int lr_kv_desk_open(struct lr_kv_desk **out, const char *dir, struct lr_store *store, struct lr_err *err)
{
    struct lr_kv_desk *d = lr_new(struct lr_kv_desk);
    LR_FAIL_IF(!d, LR_ENOMEM);
    d->store = store;
    pthread_mutex_init(&d->mu, NULL);
    pthread_mutex_init(&d->quota_mu, NULL);
    int k = snprintf(d->path, sizeof d->path, "%s/kv-quotas", dir);
    int rc = k < 0 || (size_t)k >= sizeof d->path ? LR_EOVER : lr_kv_watch_open(&d->watch);
    if (!rc)
        rc = load(d, err);
    atomic_store(&d->held, d->n_quotas);
    if (rc) {
        lr_kv_desk_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void lr_kv_desk_close(struct lr_kv_desk *d)
{
    if (!d)
        return;
    lr_kv_watch_close(d->watch);
    pthread_mutex_destroy(&d->mu);
    pthread_mutex_destroy(&d->quota_mu);
    lr_free(d);
}
