/* SPDX-License-Identifier: Apache-2.0
 * store/spaces.c - tenants and namespaces: small numbers for entries to carry.
 *
 * Two append-only tables. A slot, once given, keeps its meaning until close, so readers index them
 * without a lock; only making a slot takes spaces_mu. Slots are found by looking at all of them:
 * puts alone ask, and a store has few (4096 at most: some microseconds).
 *
 * Index 0 is "the rest": tenants beyond the table share its accounting (and no quota); spaces
 * beyond it are refused, as an epoch that cannot be kept must not be promised.
 */
#include "store/store_int.h"

int lr_spaces_open(struct lr_store *s)
{
    s->tenants = lr_calloc(LR_TENANTS, sizeof s->tenants[0]);
    s->spaces = lr_calloc(LR_SPACES, sizeof s->spaces[0]);
    if (!s->tenants || !s->spaces) {
        lr_free(s->tenants);
        lr_free(s->spaces);
        return LR_ENOMEM;
    }
    pthread_mutex_init(&s->spaces_mu, NULL);
    atomic_store(&s->n_tenants, 1);
    atomic_store(&s->n_spaces, 1);
    return 0;
}

void lr_spaces_close(struct lr_store *s)
{
    for (uint32_t i = 1; i < s->n_spaces; i++)
        lr_free(s->spaces[i].name);
    lr_free(s->tenants);
    lr_free(s->spaces);
    pthread_mutex_destroy(&s->spaces_mu);
}

static uint16_t find_tenant(const struct lr_store *s, uint64_t id)
{
    uint32_t n = atomic_load(&s->n_tenants);
    for (uint32_t i = 1; i < n; i++)
        if (s->tenants[i].id == id)
            return (uint16_t)i;
    return 0;
}

uint16_t lr_tenant_slot(struct lr_store *s, uint64_t id)
{
    uint16_t i = find_tenant(s, id);
    if (i)
        return i;
    pthread_mutex_lock(&s->spaces_mu);
    i = find_tenant(s, id);
    uint32_t n = atomic_load(&s->n_tenants);
    if (!i && n < LR_TENANTS) {
        i = (uint16_t)n;
        s->tenants[i].id = id;
        atomic_store(&s->n_tenants, n + 1);
    }
    pthread_mutex_unlock(&s->spaces_mu);
    return i;
}

void lr_store_tenants(struct lr_store *s,
                      void (*fn)(void *arg, uint64_t tenant, uint64_t bytes, uint64_t bytes_max), void *arg)
{
    uint32_t n = atomic_load(&s->n_tenants);
    for (uint32_t i = 1; i < n; i++)
        fn(arg, s->tenants[i].id, atomic_load(&s->tenants[i].bytes), atomic_load(&s->tenants[i].bytes_max));
}

static uint8_t space_context[32];
static pthread_once_t space_once = PTHREAD_ONCE_INIT;

static void derive_space(void)
{
    lr_blake3_context("larder 2026 space id v1", space_context);
}

void lr_space_id(uint64_t tenant, struct lr_str name, struct lr_digest *out)
{
    struct lr_blake3 h;
    (void)pthread_once(&space_once, derive_space); /* its arguments are good: it cannot fail */
    lr_blake3_init_context(&h, space_context);
    lr_blake3_add_u64(&h, tenant);
    lr_digest_text(&h, name);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

static uint16_t find_space(const struct lr_store *s, const struct lr_digest *id)
{
    uint32_t n = atomic_load(&s->n_spaces);
    for (uint32_t i = 1; i < n; i++)
        if (lr_digest_eq(&s->spaces[i].id, id))
            return (uint16_t)i;
    return 0;
}

int lr_space_by_id(struct lr_store *s, const struct lr_digest *id, uint16_t *out)
{
    uint16_t i = find_space(s, id);
    if (!i) {
        pthread_mutex_lock(&s->spaces_mu);
        i = find_space(s, id);
        uint32_t n = atomic_load(&s->n_spaces);
        if (!i && n < LR_SPACES) {
            i = (uint16_t)n;
            s->spaces[i].id = *id;
            atomic_store(&s->n_spaces, n + 1);
        }
        pthread_mutex_unlock(&s->spaces_mu);
    }
    LR_FAIL_IF(!i, LR_EOVER);
    *out = i;
    return 0;
}

void lr_store_spaces(struct lr_store *s, uint64_t tenant, void (*fn)(void *arg, struct lr_str name),
                     void *arg)
{
    pthread_mutex_lock(&s->spaces_mu);
    for (uint32_t i = 1; i < s->n_spaces; i++)
        if (s->spaces[i].name && s->spaces[i].tenant == tenant)
            fn(arg, lr_str(s->spaces[i].name, s->spaces[i].name_n));
    pthread_mutex_unlock(&s->spaces_mu);
}

int lr_space_slot(struct lr_store *s, uint64_t tenant, struct lr_str name, uint16_t *out)
{
    struct lr_digest id;
    uint16_t i;
    lr_space_id(tenant, name, &id);
    LR_TRY(lr_space_by_id(s, &id, &i));
    struct lr_space *space = &s->spaces[i];
    pthread_mutex_lock(&s->spaces_mu);
    int rc = 0;
    if (!space->name) {
        space->name = lr_strndup(name.p, name.n);
        space->name_n = name.n;
        space->tenant = tenant;
        rc = space->name ? 0 : LR_ENOMEM;
    }
    pthread_mutex_unlock(&s->spaces_mu);
    LR_TRY(rc);
    *out = i;
    return 0;
}
