/* SPDX-License-Identifier: Apache-2.0
 * answer/sem.c - the semantic shelf: what goes in, what is learned about it, what leaves.
 *
 * Entries are found by searching vectors, so what must never mix is not filtered afterwards but
 * lies in different indexes: one partition for each set of equal circumstances, and below it one
 * for each entry that a conversation stands on. A follow-up thus cannot meet a stand-alone
 * question, nor a follow-up of another conversation, however near their vectors are.
 *
 * Most partitions are tiny. Up to SEM_YOUNG entries they are compared one by one under the lock (32
 * products of 256 numbers: a microsecond); then they get an index of vec/, which searches without
 * it.
 *
 * Room. Each category may use its share; whoever puts into a category that is over it evicts the
 * oldest of that category, so that no kind of question can push out another. Age is the order
 * because an entry without its document is worthless and documents have their own, better,
 * eviction.
 *
 * Labels stay with an entry that is replaced: it is the same question, and what was learned is
 * about questions near it.
 */
#include "answer/sem_int.h"

#include <assert.h>

/* ---- maps ---- */

static size_t cell_of(const struct sem_map *m, uint64_t key)
{
    size_t i = (size_t)key & (m->cap - 1);
    while (m->cells[i].p && m->cells[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return i;
}

static int grow(struct sem_map *m)
{
    struct sem_map big = {.cap = m->cap ? 2 * m->cap : 64};
    big.cells = lr_calloc(big.cap, sizeof *big.cells);
    LR_FAIL_IF(!big.cells, LR_ENOMEM);
    for (size_t i = 0; i < m->cap; i++)
        if (m->cells[i].p)
            big.cells[cell_of(&big, m->cells[i].key)] = m->cells[i];
    big.n = m->n;
    lr_free(m->cells);
    *m = big;
    return 0;
}

int sem_map_add(struct sem_map *m, uint64_t key, void *p)
{
    if (4 * (m->n + 1) > 3 * m->cap)
        LR_TRY(grow(m));
    struct sem_cell *c = &m->cells[cell_of(m, key)];
    LR_FAIL_IF(c->p, LR_EEXIST);
    *c = (struct sem_cell){key, p};
    m->n++;
    return 0;
}

void *sem_map_find(const struct sem_map *m, uint64_t key)
{
    return m->cap ? m->cells[cell_of(m, key)].p : NULL;
}

void sem_map_del(struct sem_map *m, uint64_t key)
{
    size_t i = m->cap ? cell_of(m, key) : 0;
    if (!m->cap || !m->cells[i].p)
        return;
    m->n--;
    for (size_t k = i;;) { /* whoever was pushed beyond the hole moves back into it */
        m->cells[i].p = NULL;
        do {
            k = (k + 1) & (m->cap - 1);
            if (!m->cells[k].p)
                return;
        } while (((k - (size_t)m->cells[k].key) & (m->cap - 1)) < ((k - i) & (m->cap - 1)));
        m->cells[i] = m->cells[k];
        i = k;
    }
}

/* ---- finding ---- */

void sem_part_id(const struct lr_digest *partition, const struct lr_digest *parent, uint64_t tenant,
                 struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init(&h);
    lr_blake3_add(&h, partition->b, sizeof partition->b);
    lr_blake3_add(&h, parent->b, sizeof parent->b);
    lr_blake3_add_u64(&h, tenant);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

struct sem_entry *sem_entry_locked(const struct lr_sem *s, const struct lr_digest *key)
{
    struct sem_entry *e = sem_map_find(&s->keys, sem_id(key));
    return e && lr_digest_eq(&e->key, key) ? e : NULL;
}

struct sem_part *sem_part_locked(const struct lr_sem *s, const struct lr_digest *id)
{
    struct sem_part *p = sem_map_find(&s->parts, sem_id(id));
    return p && lr_digest_eq(&p->id, id) ? p : NULL;
}

/* The tenant of an entry, with its writers' lock held; NULL: no such entry. It may be gone again
 * when the lock is there: look again under mu. */
static struct sem_tenant *enter_tenant_of(struct lr_sem *s, const struct lr_digest *key)
{
    pthread_mutex_lock(&s->mu);
    struct sem_entry *e = sem_entry_locked(s, key);
    struct sem_tenant *t = e ? e->part->tenant : NULL; /* tenants stay until close */
    pthread_mutex_unlock(&s->mu);
    if (t)
        pthread_mutex_lock(&t->wmu);
    return t;
}

int sem_tenant_locked(struct lr_sem *s, uint64_t id, struct sem_tenant **out)
{
    struct sem_tenant *t = sem_map_find(&s->tenants, id);
    if (t) {
        *out = t;
        return 0;
    }
    LR_FAIL_IF(s->tenants.n >= SEM_TENANTS_MAX, LR_EOVER);
    t = lr_new(struct sem_tenant);
    LR_FAIL_IF(!t, LR_ENOMEM);
    t->id = id;
    int rc = lr_vec_arena_open(s->hall, s->opts.tenant_max, &t->arena);
    if (!rc)
        rc = sem_map_add(&s->tenants, id, t);
    if (rc) {
        lr_vec_arena_close(t->arena);
        lr_free(t);
        return rc;
    }
    pthread_mutex_init(&t->wmu, NULL);
    *out = t;
    return 0;
}

static int part_locked(struct lr_sem *s, struct sem_tenant *t, const struct lr_digest *id,
                       struct sem_part **out)
{
    struct sem_part *p = sem_part_locked(s, id);
    if (!p) {
        p = lr_new(struct sem_part);
        LR_FAIL_IF(!p, LR_ENOMEM);
        p->id = *id;
        p->tenant = t;
        int rc = sem_map_add(&s->parts, sem_id(id), p);
        if (rc) {
            lr_free(p);
            return rc;
        }
    }
    *out = p;
    return 0;
}

/* ---- leaving ---- */

static void unlist_locked(struct lr_sem *s, struct sem_entry *e)
{
    struct sem_list *l = &s->category[e->category];
    *(e->older ? &e->older->newer : &l->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &l->newest) = e->older;
    l->bytes -= e->bytes;
    s->bytes -= e->bytes;
}

static void list_locked(struct lr_sem *s, struct sem_entry *e)
{
    struct sem_list *l = &s->category[e->category];
    e->newer = NULL;
    e->older = l->newest;
    *(l->newest ? &l->newest->newer : &l->oldest) = e;
    l->newest = e;
    l->bytes += e->bytes;
    s->bytes += e->bytes;
}

static void free_entry(struct sem_entry *e)
{
    if (!e)
        return;
    lr_free(e->vector);
    lr_free(e);
}

static void forget_aliases_locked(struct lr_sem *s, struct sem_entry *e)
{
    while (e->aliases) {
        struct sem_alias *a = e->aliases;
        e->aliases = a->next;
        sem_map_del(&s->turns, sem_id(&a->turn));
        s->aliases--;
        lr_free(a);
    }
}

/* Out of every table. The caller holds the tenant's wmu too, and owns e and, when its partition is
 * empty now, *empty. */
static void cut_locked(struct lr_sem *s, struct sem_entry *e, struct sem_part **empty)
{
    struct sem_part *p = e->part;
    sem_map_del(&s->keys, sem_id(&e->key));
    forget_aliases_locked(s, e);
    unlist_locked(s, e);
    *(e->prev ? &e->prev->next : &p->first) = e->next;
    if (e->next)
        e->next->prev = e->prev;
    *empty = --p->n ? NULL : p;
    if (*empty)
        sem_map_del(&s->parts, sem_id(&p->id));
}

/* Under wmu, without mu: what the indexes still hold of an entry that was cut. */
static void bury(struct sem_entry *e, struct sem_part *empty)
{
    if (empty) {
        lr_vec_close(empty->vec);
        lr_free(empty);
    } else if (!e->vector) {
        lr_vec_del(e->part->vec, sem_id(&e->key));
    }
    free_entry(e);
}

int lr_sem_del(struct lr_sem *s, const struct lr_digest *key)
{
    struct sem_part *empty = NULL;
    struct sem_tenant *t = enter_tenant_of(s, key);
    LR_FAIL_IF(!t, LR_ENOENT);
    pthread_mutex_lock(&s->mu);
    struct sem_entry *e = sem_entry_locked(s, key);
    if (e && e->part->tenant == t)
        cut_locked(s, e, &empty);
    else
        e = NULL;
    pthread_mutex_unlock(&s->mu);
    if (e)
        bury(e, empty);
    pthread_mutex_unlock(&t->wmu);
    return e ? 0 : LR_ENOENT;
}

/* The next to leave: of `category` when it is over its share, else of the largest while all are
 * over the maximum. false: everything fits. */
static bool victim(struct lr_sem *s, unsigned category, struct lr_digest *key)
{
    pthread_mutex_lock(&s->mu);
    double share = s->opts.share[category];
    struct sem_list *l = NULL;
    if (share > 0 && (double)s->category[category].bytes > share * (double)s->opts.bytes_max)
        l = &s->category[category];
    if (!l && s->bytes > s->opts.bytes_max) {
        l = &s->category[0];
        for (size_t i = 1; i < LR_SEM_CATEGORIES; i++)
            if (s->category[i].bytes > l->bytes)
                l = &s->category[i];
    }
    bool found = l && l->oldest;
    if (found) {
        *key = l->oldest->key;
        s->evicted++;
    }
    pthread_mutex_unlock(&s->mu);
    return found;
}

/* ---- coming in ---- */

static bool floods_locked(struct lr_sem *s, uint64_t writer, const struct lr_sketch *k,
                          uint64_t now_ms)
{
    struct sem_flood *f = &s->flood[(writer * 0x9E3779B97F4A7C15u) >> 55];
    unsigned alike = 0;
    if (f->writer != writer) /* a newcomer takes the slot */
        *f = (struct sem_flood){.writer = writer};
    for (unsigned i = 0; i < SEM_FLOOD_KEPT && i < f->n; i++)
        alike += now_ms - f->at_ms[i] < SEM_FLOOD_MS &&
                 lr_sketch_same(k, &f->sketch[i]) >= SEM_FLOOD_ALIKE;
    unsigned at = f->n++ % SEM_FLOOD_KEPT;
    f->sketch[at] = *k;
    f->at_ms[at] = now_ms;
    if (f->n == 2 * SEM_FLOOD_KEPT)
        f->n = SEM_FLOOD_KEPT;
    s->floods += alike >= SEM_FLOOD_MANY;
    return alike >= SEM_FLOOD_MANY;
}

static struct sem_entry *new_entry(const struct lr_sem *s, const struct lr_sem_note *note,
                                   const struct lr_sem_question *q)
{
    size_t facts = q->facts->n * sizeof *q->facts->fact;
    size_t bytes = sizeof(struct sem_entry) + facts + q->text.n + note->before.n;
    struct sem_entry *e = lr_calloc(1, bytes);
    float *vector = lr_alloc(s->opts.dim * sizeof *vector);
    if (!e || !vector) {
        lr_free(e);
        lr_free(vector);
        return NULL;
    }
    struct lr_fact *fact = (struct lr_fact *)(e + 1);
    char *text = (char *)fact + facts;
    memcpy(vector, q->vector, s->opts.dim * sizeof *vector);
    memcpy(fact, q->facts->fact, facts);
    memcpy(text, q->text.p, q->text.n);
    if (note->before.n)
        memcpy(text + q->text.n, note->before.p, note->before.n);
    e->key = note->key;
    e->turn = note->turn;
    e->said = note->said;
    e->vector = vector;
    e->facts = *q->facts;
    e->facts.fact = fact;
    e->sketch = *q->sketch;
    e->text = lr_str(text, q->text.n);
    e->before = lr_str(text + q->text.n, note->before.n);
    e->writer = note->writer;
    e->created_ms = note->now_ms;
    e->category = note->category;
    e->bytes = bytes + 2 * s->opts.dim + 128; /* an index's bytes a vector, cells, an alias */
    return e;
}

/* Under wmu: the partition gets an index, and its entries' vectors move there. */
static int promote(struct lr_sem *s, struct sem_part *p)
{
    struct lr_vec_opts o = {.dim = s->opts.dim, .type = LR_VEC_I12, .seed = sem_id(&p->id)};
    struct lr_vec *v;
    memcpy(o.encoder, s->opts.encoder, sizeof o.encoder);
    LR_TRY(lr_vec_open(p->tenant->arena, &o, &v));
    for (struct sem_entry *e = p->first; e; e = e->next) { /* wmu keeps the list as it is */
        int rc = lr_vec_put(v, sem_id(&e->key), e->vector);
        if (rc) {
            lr_vec_close(v);
            return rc;
        }
    }
    pthread_mutex_lock(&s->mu);
    p->vec = v;
    for (struct sem_entry *e = p->first; e; e = e->next) {
        lr_free(e->vector);
        e->vector = NULL;
    }
    pthread_mutex_unlock(&s->mu);
    return 0;
}

static int alias_locked(struct lr_sem *s, struct sem_entry *e, const struct lr_digest *turn)
{
    struct sem_alias *a = sem_map_find(&s->turns, sem_id(turn));
    if (a && a->entry == e)
        return 0;
    if (a) { /* the request was given another answer since */
        struct sem_alias **at = &a->entry->aliases;
        while (*at != a)
            at = &(*at)->next;
        *at = a->next;
        a->entry->n_aliases--;
    } else {
        LR_FAIL_IF(e->n_aliases >= SEM_ALIASES_MAX, LR_EOVER);
        a = lr_new(struct sem_alias);
        LR_FAIL_IF(!a, LR_ENOMEM);
        int rc = sem_map_add(&s->turns, sem_id(turn), a);
        if (rc) {
            lr_free(a);
            return rc;
        }
        s->aliases++;
    }
    a->turn = *turn;
    a->entry = e;
    a->next = e->aliases;
    e->aliases = a;
    e->n_aliases++;
    return 0;
}

/* Under wmu: e into its partition and tables. On an error nothing of it is left but e itself. */
static int place(struct lr_sem *s, struct sem_tenant *t, const struct lr_digest *part_id,
                 struct sem_entry *e, const struct lr_digest *turn)
{
    struct sem_part *p = NULL;
    pthread_mutex_lock(&s->mu);
    int rc = part_locked(s, t, part_id, &p);
    bool fresh = p && !p->n, full = p && !p->vec && p->n >= SEM_YOUNG;
    pthread_mutex_unlock(&s->mu);
    LR_TRY(rc);
    if (full)
        rc = promote(s, p);
    if (!rc && p->vec)
        rc = lr_vec_put(p->vec, sem_id(&e->key), e->vector);
    bool indexed = !rc && p->vec;
    pthread_mutex_lock(&s->mu);
    if (!rc)
        rc = sem_map_add(&s->keys, sem_id(&e->key), e);
    if (rc) {
        if (fresh)
            sem_map_del(&s->parts, sem_id(&p->id));
        pthread_mutex_unlock(&s->mu);
        if (indexed)
            lr_vec_del(p->vec, sem_id(&e->key));
        if (fresh)
            lr_free(p);
        return rc;
    }
    if (indexed) {
        lr_free(e->vector);
        e->vector = NULL;
    }
    e->part = p;
    e->next = p->first;
    if (p->first)
        p->first->prev = e;
    p->first = e;
    p->n++;
    list_locked(s, e);
    (void)alias_locked(s, e, turn); /* without it a follow-up is found by meaning, or not at all */
    pthread_mutex_unlock(&s->mu);
    return 0;
}

/* Under wmu: an older entry of the key goes; its labels stay. */
static void replace(struct lr_sem *s, struct sem_tenant *t, struct sem_entry *e)
{
    struct sem_part *empty = NULL;
    pthread_mutex_lock(&s->mu);
    struct sem_entry *old = sem_entry_locked(s, &e->key);
    if (old && old->part->tenant == t) {
        if (!e->seen.n)
            e->seen = old->seen;
        if (e->agreed < old->agreed)
            e->agreed = old->agreed;
        cut_locked(s, old, &empty);
    } else {
        old = NULL;
    }
    pthread_mutex_unlock(&s->mu);
    if (old)
        bury(old, empty);
}

int sem_insert(struct lr_sem *s, struct sem_tenant *t, const struct lr_digest *part_id,
               const struct lr_sem_note *note, const struct lr_sem_question *q,
               const struct lr_bound_seen *seen, uint8_t agreed)
{
    struct lr_digest gone;
    struct sem_entry *e = new_entry(s, note, q);
    LR_FAIL_IF(!e, LR_ENOMEM);
    if (seen)
        e->seen = *seen;
    e->agreed = agreed;
    pthread_mutex_lock(&t->wmu);
    replace(s, t, e);
    int rc = place(s, t, part_id, e, &note->turn);
    pthread_mutex_unlock(&t->wmu);
    if (rc) {
        free_entry(e);
        return rc;
    }
    while (victim(s, note->category, &gone))
        (void)lr_sem_del(s, &gone); /* gone already: the next look finds another, or none */
    return 0;
}

int sem_check(const struct lr_sem_note *note, const struct lr_sem_question *q)
{
    LR_FAIL_IF(q->facts->dated || q->text.n > LR_FACTS_TEXT_MAX ||
                   note->before.n > LR_MEANING_BEFORE || note->category >= LR_SEM_CATEGORIES,
               LR_EINVAL);
    return 0;
}

int lr_sem_put(struct lr_sem *s, const struct lr_sem_note *note, const struct lr_sem_question *q)
{
    struct sem_tenant *t = NULL;
    struct lr_digest id;
    LR_TRY(sem_check(note, q));
    sem_part_id(&note->partition, &note->parent, note->tenant, &id);
    pthread_mutex_lock(&s->mu);
    int rc = floods_locked(s, note->writer ? note->writer : note->tenant, q->sketch, note->now_ms)
                 ? LR_EDENIED
                 : sem_tenant_locked(s, note->tenant, &t);
    pthread_mutex_unlock(&s->mu);
    return rc ? rc : sem_insert(s, t, &id, note, q, NULL, 0);
}

int lr_sem_alias(struct lr_sem *s, const struct lr_digest *turn, const struct lr_digest *key)
{
    pthread_mutex_lock(&s->mu);
    struct sem_entry *e = sem_entry_locked(s, key);
    int rc = e ? alias_locked(s, e, turn) : LR_ENOENT;
    pthread_mutex_unlock(&s->mu);
    return rc;
}

/* ---- learning ---- */

int lr_sem_label(struct lr_sem *s, const struct lr_digest *key, uint64_t writer, float score,
                 bool right)
{
    pthread_mutex_lock(&s->mu);
    struct sem_entry *e = sem_entry_locked(s, key);
    if (e) {
        lr_bound_see(&e->seen, score, right);
        lr_bound_add(&s->bound[e->category], score, right);
        if (right && writer != e->writer && e->agreed < UINT8_MAX)
            e->agreed++;
    }
    pthread_mutex_unlock(&s->mu);
    return e ? 0 : LR_ENOENT;
}

void lr_sem_bound(struct lr_sem *s, uint8_t category, struct lr_bound *out)
{
    assert(category < LR_SEM_CATEGORIES);
    pthread_mutex_lock(&s->mu);
    *out = s->bound[category];
    pthread_mutex_unlock(&s->mu);
}

void lr_sem_stats(struct lr_sem *s, struct lr_sem_stats *out)
{
    pthread_mutex_lock(&s->mu);
    *out = (struct lr_sem_stats){.entries = s->keys.n,
                                 .partitions = s->parts.n,
                                 .tenants = s->tenants.n,
                                 .aliases = s->aliases,
                                 .bytes = s->bytes,
                                 .evicted = s->evicted,
                                 .floods = s->floods};
    pthread_mutex_unlock(&s->mu);
}

/* ---- open and close ---- */

int lr_sem_open(struct lr_sem **out, const struct lr_sem_opts *o)
{
    LR_FAIL_IF(!o->dim || o->dim > LR_VEC_DIM_MAX, LR_EINVAL);
    struct lr_sem *s = lr_new(struct lr_sem);
    LR_FAIL_IF(!s, LR_ENOMEM);
    s->opts = *o;
    if (!s->opts.bytes_max)
        s->opts.bytes_max = LR_MIB(256);
    if (!s->opts.tenant_max)
        s->opts.tenant_max = s->opts.bytes_max;
    s->flood = lr_calloc(SEM_FLOOD_SLOTS, sizeof *s->flood);
    int rc = s->flood ? lr_vec_hall_open(&s->hall) : LR_ENOMEM;
    if (rc) {
        lr_free(s->flood);
        lr_free(s);
        return rc;
    }
    pthread_mutex_init(&s->mu, NULL);
    *out = s;
    return 0;
}

static void close_tenants(struct lr_sem *s)
{
    for (size_t i = 0; i < s->tenants.cap; i++) {
        struct sem_tenant *t = s->tenants.cells[i].p;
        if (!t)
            continue;
        lr_vec_arena_close(t->arena);
        pthread_mutex_destroy(&t->wmu);
        lr_free(t);
    }
}

void lr_sem_close(struct lr_sem *s)
{
    if (!s)
        return;
    for (size_t c = 0; c < LR_SEM_CATEGORIES; c++)
        while (s->category[c].oldest) {
            struct sem_part *empty;
            struct sem_entry *e = s->category[c].oldest;
            cut_locked(s, e, &empty);
            bury(e, empty);
        }
    close_tenants(s);
    lr_vec_hall_close(s->hall);
    pthread_mutex_destroy(&s->mu);
    lr_free(s->keys.cells);
    lr_free(s->turns.cells);
    lr_free(s->parts.cells);
    lr_free(s->tenants.cells);
    lr_free(s->flood);
    lr_free(s);
}

int lr_sem_reader_open(struct lr_sem *s, struct lr_sem_reader **out)
{
    struct lr_sem_reader *r = lr_new(struct lr_sem_reader);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->sem = s;
    int rc = lr_vec_reader_open(s->hall, &r->vec);
    if (rc) {
        lr_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void lr_sem_reader_close(struct lr_sem_reader *r)
{
    if (!r)
        return;
    lr_vec_reader_close(r->vec);
    lr_free(r);
}
