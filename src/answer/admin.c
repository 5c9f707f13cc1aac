/* SPDX-License-Identifier: Apache-2.0
 * answer/admin.c - what people ask of the shelf: list, look at, delete, purge, count.
 *
 * A listing walks slots, PAGE at a time. Under the lock it copies what the index knows and takes a
 * reference where the document is in memory; the heads of the others are read from disk afterwards,
 * one short read transaction a page; then the caller's function runs, with nothing held. Between
 * pages the shelf changes freely: an entry that lives throughout is shown exactly once, one that
 * comes or goes meanwhile may or may not be.
 *
 * The index knows times, tenant and digest; model, tag and category are in the heads. A selector
 * without those never reads the disk to decide.
 */
#include "answer/answer_int.h"

#define PAGE 64

/* One entry on its way out of the lock. */
struct card {
    struct lr_answer_entry shown;
    struct lr_doc *doc; /* one reference, or NULL: meta is on disk */
    uint32_t slot;
};

static bool prefix_fits(const struct lr_digest *key, const char *hex)
{
    char all[65];
    lr_hex(key->b, 32, all);
    return strncmp(all, hex, strlen(hex)) == 0;
}

static bool index_fits(const struct lr_entry *e, const struct lr_answer_select *q)
{
    uint64_t age = q->now_ms > e->created_ms ? q->now_ms - e->created_ms : 0;
    return (!q->tenant || q->tenant == e->tenant) && age >= q->older_than_ms &&
           (!q->id_prefix || prefix_fits(&e->key, q->id_prefix));
}

static bool text_fits(const char *want, const char *have)
{
    return !want || strcmp(want, have) == 0;
}

static bool meta_fits(const struct lr_doc_meta *m, const struct lr_answer_select *q)
{
    return text_fits(q->model, m->model) && text_fits(q->tag, m->tag) &&
           text_fits(q->category, m->category);
}

static void draw(struct lr_entry *e, struct card *c)
{
    *c = (struct card){.slot = e->slot, .doc = lr_shelf_doc(e)};
    if (c->doc) {
        lr_doc_ref(c->doc);
        c->shown.meta = c->doc->meta;
    }
    c->shown.bytes = e->u.node.bytes;
    c->shown.hot = e->hot != NULL;
    c->shown.stored = (e->flags & LR_E_DISK) && !e->pending;
    c->shown.meta.key = e->key;
    c->shown.meta.hits = e->hits;
    c->shown.meta.ttl_ms = e->expires_ms - e->created_ms;
}

/* Fills in what only the disk knows; cards that have gone meanwhile are struck out of ok. */
static int read_heads(struct lr_answer *s, struct card *cards, size_t n, bool *ok)
{
    struct lr_digest keys[PAGE];
    struct lr_doc_meta *metas = lr_calloc(PAGE, sizeof *metas);
    LR_FAIL_IF(!metas, LR_ENOMEM);
    bool found[PAGE];
    size_t at[PAGE], cold = 0;
    for (size_t i = 0; i < n; i++) {
        ok[i] = cards[i].doc != NULL;
        if (!ok[i]) {
            keys[cold] = cards[i].shown.meta.key;
            at[cold++] = i;
        }
    }
    int rc = cold ? lr_disk_heads(s->disk, cold, keys, metas, found) : 0;
    for (size_t i = 0; !rc && i < cold; i++) {
        struct lr_doc_meta *m = &cards[at[i]].shown.meta;
        uint32_t hits = m->hits;
        uint64_t ttl = m->ttl_ms;
        ok[at[i]] = found[i];
        if (found[i])
            *m = metas[i];
        m->hits = hits;
        m->ttl_ms = ttl;
    }
    lr_free(metas);
    return rc;
}

static size_t page_locked(struct lr_answer *s, const struct lr_answer_select *q, uint64_t *cursor,
                          struct card *cards)
{
    size_t n = 0;
    uint32_t i = *cursor > UINT32_MAX ? UINT32_MAX : (uint32_t)*cursor, looked = 0;
    for (; i < s->ix.n_slots && n < PAGE && looked < 64 * PAGE; i++, looked++) {
        struct lr_entry *e = lr_index_at(&s->ix, i);
        if (e && index_fits(e, q))
            draw(e, &cards[n++]);
    }
    *cursor = i < s->ix.n_slots ? i : 0;
    return n;
}

/* One page: *cursor moves on; 0 = the end. fn's nonzero ends it with *stop set. */
static int show_page(struct lr_answer *s, const struct lr_answer_select *q, uint64_t *cursor,
                     struct card *cards, int (*fn)(void *, const struct lr_answer_entry *),
                     void *ctx, bool *stop)
{
    bool ok[PAGE];
    pthread_mutex_lock(&s->mu);
    size_t n = page_locked(s, q, cursor, cards);
    pthread_mutex_unlock(&s->mu);
    int rc = read_heads(s, cards, n, ok);
    for (size_t i = 0; i < n; i++) {
        if (!rc && !*stop && ok[i] && meta_fits(&cards[i].shown.meta, q) &&
            fn(ctx, &cards[i].shown)) {
            *stop = true;
            *cursor = (uint64_t)cards[i].slot + 1;
        }
        lr_doc_unref(cards[i].doc);
    }
    return rc;
}

int lr_answer_list(struct lr_answer *s, const struct lr_answer_select *q, uint64_t *cursor,
                   int (*fn)(void *ctx, const struct lr_answer_entry *), void *ctx)
{
    struct card *cards = lr_calloc(PAGE, sizeof *cards);
    LR_FAIL_IF(!cards, LR_ENOMEM);
    bool stop = false;
    int rc;
    do
        rc = show_page(s, q, cursor, cards, fn, ctx, &stop);
    while (!rc && !stop && *cursor);
    lr_free(cards);
    return rc;
}

int lr_answer_entry(struct lr_answer *s, const struct lr_digest *key, struct lr_answer_entry *out)
{
    struct card c;
    bool ok = true;
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, key);
    if (e)
        draw(e, &c);
    pthread_mutex_unlock(&s->mu);
    LR_FAIL_IF(!e, LR_ENOENT);
    int rc = read_heads(s, &c, 1, &ok);
    lr_doc_unref(c.doc);
    LR_TRY(rc);
    LR_FAIL_IF(!ok, LR_ENOENT);
    *out = c.shown;
    return 0;
}

int lr_answer_delete(struct lr_answer *s, const struct lr_digest *key)
{
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, key);
    if (e) {
        lr_shelf_drop_locked(s, e);
        lr_shelf_gauges_locked(s);
    }
    pthread_mutex_unlock(&s->mu);
    return e ? 0 : LR_ENOENT;
}

struct purge {
    struct lr_answer *s;
    bool dry;
    uint64_t n, bytes;
};

static int purge_one(void *ctx, const struct lr_answer_entry *e)
{
    struct purge *p = ctx;
    if (!p->dry && lr_answer_delete(p->s, &e->meta.key))
        return 0; /* gone meanwhile */
    p->n++;
    p->bytes += e->bytes;
    return 0;
}

int lr_answer_purge(struct lr_answer *s, const struct lr_answer_select *q, bool dry, uint64_t *n,
                    uint64_t *bytes)
{
    struct purge p = {.s = s, .dry = dry};
    uint64_t cursor = 0;
    LR_TRY(lr_answer_list(s, q, &cursor, purge_one, &p));
    *n = p.n;
    *bytes = p.bytes;
    return 0;
}

void lr_answer_stats(struct lr_answer *s, struct lr_answer_stats *out)
{
    pthread_mutex_lock(&s->mu);
    *out = (struct lr_answer_stats){
        .entries = s->ix.n,
        .bytes = s->bytes,
        .bytes_max = s->bytes_max,
        .hot_entries = s->hot_n,
        .hot_bytes = s->hot_bytes,
        .hot_max = s->hot_max,
        .queued = s->k.n_puts,
        .index_bytes = lr_index_bytes(&s->ix),
    };
    pthread_mutex_unlock(&s->mu);
}
