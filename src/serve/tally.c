/* SPDX-License-Identifier: Apache-2.0
 * serve/tally.c - running totals since the start: over all, by tenant, by the reason of what was no
 * hit.
 *
 * Tables of a fixed size, filled in the order of arrival; whoever comes when a table is full is
 * counted under "other". So what /metrics and the dashboard show is bounded however many
 * credentials and error codes pass by. One mutex, held for a scan of at most LR_TALLY_TENANTS +
 * LR_TALLY_REASONS rows.
 */
#include "serve/serve_int.h"

#include <stdio.h>

struct table {
    struct lr_tally_row *v; /* max rows, and one for the others */
    size_t n, max;
};

struct lr_tally {
    pthread_mutex_t mu; /* guards all below; taken last, never held during I/O */
    struct lr_tally_row total;
    struct lr_tally_row tenant_rows[LR_TALLY_TENANTS + 1], reason_rows[LR_TALLY_REASONS + 1];
    struct table tenants, reasons;
};

int lr_tally_open(struct lr_tally **out)
{
    struct lr_tally *t = lr_new(struct lr_tally);
    LR_FAIL_IF(!t, LR_ENOMEM);
    pthread_mutex_init(&t->mu, NULL);
    t->tenants = (struct table){.v = t->tenant_rows, .max = LR_TALLY_TENANTS};
    t->reasons = (struct table){.v = t->reason_rows, .max = LR_TALLY_REASONS};
    *out = t;
    return 0;
}

void lr_tally_close(struct lr_tally *t)
{
    if (t)
        pthread_mutex_destroy(&t->mu);
    lr_free(t);
}

static struct lr_tally_row *row_locked(struct table *t, uint64_t id, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].id == id && (id || strcmp(t->v[i].name, name) == 0))
            return &t->v[i];
    bool full = t->n >= t->max;
    struct lr_tally_row *r = &t->v[full ? t->max : t->n++];
    r->id = full ? 0 : id;
    (void)snprintf(r->name, sizeof r->name, "%s", full ? "other" : name); /* cut to fit */
    return r;
}

static void add(struct lr_tally_row *t, const struct lr_record *r)
{
    bool held = r->outcome == LR_OUT_HIT || r->outcome == LR_OUT_STALE;
    t->n[r->outcome]++;
    t->tokens_in_saved += held ? r->usage.input : 0;
    t->tokens_out_saved += held ? r->usage.output : 0;
    t->ms_saved += r->ms_saved;
    t->money_saved += r->money_saved;
    t->money_spent += r->money_spent;
}

void lr_tally_add(struct lr_tally *t, const struct lr_record *r)
{
    char reason[sizeof r->reason] = "";
    if (r->outcome != LR_OUT_HIT) /* "partial:3/5" is the reason "partial" */
        (void)snprintf(reason, sizeof reason, "%.*s", (int)strcspn(r->reason, ":"), r->reason);
    pthread_mutex_lock(&t->mu);
    add(&t->total, r);
    if (r->tenant)
        add(row_locked(&t->tenants, r->tenant, r->tenant_name), r);
    if (reason[0])
        row_locked(&t->reasons, 0, reason)->n[0]++;
    pthread_mutex_unlock(&t->mu);
}

void lr_tally_total(struct lr_tally *t, struct lr_tally_row *out)
{
    pthread_mutex_lock(&t->mu);
    *out = t->total;
    pthread_mutex_unlock(&t->mu);
}

static size_t copy(struct lr_tally *t, const struct table *from, struct lr_tally_row *out)
{
    pthread_mutex_lock(&t->mu);
    size_t n = from->n + (from->v[from->max].name[0] != 0);
    memcpy(out, from->v, n * sizeof *out);
    pthread_mutex_unlock(&t->mu);
    return n;
}

size_t lr_tally_tenants(struct lr_tally *t, struct lr_tally_row *out)
{
    return copy(t, &t->tenants, out);
}

size_t lr_tally_reasons(struct lr_tally *t, struct lr_tally_row *out)
{
    return copy(t, &t->reasons, out);
}

void lr_tally_name(struct lr_tally *t, uint64_t id, char out[64])
{
    out[0] = 0;
    pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->tenants.n; i++)
        if (t->tenants.v[i].id == id)
            memcpy(out, t->tenants.v[i].name, 64);
    pthread_mutex_unlock(&t->mu);
}
