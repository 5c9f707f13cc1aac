/* SPDX-License-Identifier: Apache-2.0
 * store/index.c - shards of entries: what is here, who may see it, which tier has it.
 *
 *   hash = first 8 bytes of the id
 *   | shard bits | bucket bits | ....... |     so buckets lie in the order of hashes in every shard
 *
 * Idea. An entry is the only truth about an id: the block in memory, the place on disk, or both. It
 * is changed under its shard's lock and never during I/O, so every reader sees one complete put or
 * none. Bytes are not the entry's: a block lives until the last of index, readers and writer lets
 * go, so replacing, evicting or deleting never touches what somebody reads.
 *
 * Buckets by the top bits keep a walk simple: a cursor is a hash; what a bucket holds moves only
 * within its range when the table doubles, so a walk that returns whole buckets sees everything
 * that stays put at least once.
 *
 * In front of the lock stands a cuckoo filter of all ids of the shard: a miss, the most frequent
 * answer there is, takes two loads. When it is full a filter twice as large is made; the old one
 * stays for readers that hold it, until close (their sum is below the newest's size). Out of memory
 * for one: the shard does without (filters = NULL), which is slower and as right.
 *
 * Pairs. Both halves of a pair (lr_store_id_opaque) hash alike, so they share a shard and a lock: a
 * half without its visible mate is a miss, and dropping one drops both.
 *
 * Invariants: an entry in the table has a block, a place on disk or a load on its way, except while
 * recovering; mem_listed implies block and no pin; charges in mem_bytes and disk_bytes are those of
 * the listed nodes; a tenant's bytes are the payloads of its entries.
 */
#include "store/store_int.h"

#include <assert.h>

#define FIRST_BITS 6u
#define MAX_BITS   40u
#define FILTER_MIN ((size_t)1 << 12)

uint64_t lr_now_ms(const struct lr_store *s)
{
    return s->opts.now_ms(s->opts.now_arg);
}

static uint64_t system_ms(void *arg)
{
    (void)arg;
    return lr_clock_wall_ms();
}

/* ---- opening ---- */

static int open_shard(struct lr_store *s, struct lr_shard *sh)
{
    pthread_mutex_init(&sh->mu, NULL);
    sh->bits = FIRST_BITS;
    sh->bucket = lr_calloc((size_t)1 << sh->bits, sizeof(struct lr_entry *));
    sh->owned = lr_calloc(LR_TENANTS, sizeof sh->owned[0]);
    LR_FAIL_IF(!sh->bucket || !sh->owned, LR_ENOMEM);
    LR_TRY(s->strategy->open(&sh->mem, s->opts.mem_max / s->n_shards));
    uint64_t disk = s->opts.disk_max / s->n_shards;
    return s->strategy->open(&sh->disk, disk ? disk : 1);
}

int lr_index_open(struct lr_store *s)
{
    if (!s->opts.now_ms)
        s->opts.now_ms = system_ms;
    s->shards = lr_calloc(s->n_shards, sizeof s->shards[0]);
    LR_FAIL_IF(!s->shards, LR_ENOMEM);
    int rc = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        int one = open_shard(s, &s->shards[i]); /* all of them, so that close finds its locks */
        rc = rc ? rc : one;
    }
    return rc;
}

static void free_entry(struct lr_entry *e)
{
    lr_free(e->name);
    lr_free(e);
}

static void close_shard(struct lr_store *s, struct lr_shard *sh)
{
    for (size_t i = 0; sh->bucket && i < (size_t)1 << sh->bits; i++)
        for (struct lr_entry *e = sh->bucket[i], *next; e; e = next) {
            next = e->chain;
            lr_block_unref(e->block);
            free_entry(e);
        }
    for (struct lr_filters *f = sh->filters, *older; f; f = older) {
        older = f->older;
        lr_cuckoo_close(f->filter);
        lr_free(f);
    }
    s->strategy->close(sh->mem);
    s->strategy->close(sh->disk);
    lr_free(sh->bucket);
    lr_free(sh->owned);
    pthread_mutex_destroy(&sh->mu);
}

void lr_index_close(struct lr_store *s)
{
    for (unsigned i = 0; s->shards && i < s->n_shards; i++)
        close_shard(s, &s->shards[i]);
    lr_free(s->shards);
}

/* ---- the filter ---- */

/* Not lr_id_hash: its top bits are those of the shard, and halves of a pair share it. */
static uint64_t filter_hash(const struct lr_digest *id)
{
    return lr_hash64(lr_str(id->b, sizeof id->b), 0);
}

bool lr_index_maybe(const struct lr_store *s, const struct lr_digest *id)
{
    struct lr_filters *f = atomic_load(&lr_shard_of(s, id)->filters);
    return f && (!f->filter || lr_cuckoo_has(f->filter, filter_hash(id)));
}

/* A filter of at least `room` with all entries of the table, or none at all (filter NULL) when
 * memory is out. False: not even that could be noted. */
static bool remake_filter(struct lr_shard *sh, size_t room)
{
    struct lr_filters *f = lr_new(struct lr_filters);
    if (!f)
        return false;
    f->room = room;
    f->older = atomic_load(&sh->filters);
    bool whole = !lr_cuckoo_open(&f->filter, room);
    for (size_t i = 0; whole && i < (size_t)1 << sh->bits; i++)
        for (struct lr_entry *e = sh->bucket[i]; e && whole; e = e->chain)
            whole = !lr_cuckoo_add(f->filter, filter_hash(&e->id));
    if (!whole) {
        lr_cuckoo_close(f->filter);
        f->filter = NULL;
    }
    atomic_store(&sh->filters, f);
    return true;
}

/* e is in the table. False: it is in no filter although there is one, so it must not stay. */
static bool add_to_filter(struct lr_shard *sh, struct lr_entry *e)
{
    struct lr_filters *f = atomic_load(&sh->filters);
    if (f && sh->n <= f->room && (!f->filter || !lr_cuckoo_add(f->filter, filter_hash(&e->id))))
        return true; /* in it; or tried at this size, and doing without */
    size_t room = f ? 2 * f->room : FILTER_MIN;
    while (room < sh->n)
        room *= 2;
    return remake_filter(sh, room);
}

/* ---- the table ---- */

struct lr_shard *lr_shard_of(const struct lr_store *s, const struct lr_digest *id)
{
    return &s->shards[s->shard_bits ? lr_id_hash(id) >> (64 - s->shard_bits) : 0];
}

static struct lr_entry **bucket_of(const struct lr_store *s, const struct lr_shard *sh,
                                   const struct lr_digest *id)
{
    return &sh->bucket[(lr_id_hash(id) << s->shard_bits) >> (64 - sh->bits)];
}

struct lr_entry *lr_find_locked(const struct lr_store *s, struct lr_shard *sh,
                                const struct lr_digest *id)
{
    struct lr_entry *e = *bucket_of(s, sh, id);
    while (e && !lr_digest_eq(&e->id, id))
        e = e->chain;
    return e;
}

/* Twice the buckets; when memory is out chains grow longer instead. */
static void grow(struct lr_store *s, struct lr_shard *sh)
{
    if (sh->bits >= MAX_BITS)
        return;
    struct lr_entry **old = sh->bucket;
    struct lr_entry **bigger = lr_calloc((size_t)2 << sh->bits, sizeof(struct lr_entry *));
    if (!bigger)
        return;
    size_t n = (size_t)1 << sh->bits;
    sh->bucket = bigger;
    sh->bits++;
    sh->swept *= 2;
    for (size_t i = 0; i < n; i++)
        for (struct lr_entry *e = old[i], *next; e; e = next) {
            next = e->chain;
            struct lr_entry **b = bucket_of(s, sh, &e->id);
            e->chain = *b;
            *b = e;
        }
    lr_free(old);
}

static void unchain(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    struct lr_entry **at = bucket_of(s, sh, &e->id);
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    sh->n--;
    atomic_fetch_sub(&s->entries, 1);
}

struct lr_entry *lr_entry_locked(struct lr_store *s, struct lr_shard *sh,
                                 const struct lr_digest *id)
{
    struct lr_entry *e = lr_find_locked(s, sh, id);
    if (e)
        return e;
    e = lr_new(struct lr_entry);
    if (!e)
        return NULL;
    e->id = *id;
    e->fidelity = LR_OBJECT_LOSSLESS;
    if (sh->n >= (size_t)1 << sh->bits)
        grow(s, sh);
    struct lr_entry **b = bucket_of(s, sh, id);
    e->chain = *b;
    *b = e;
    sh->n++;
    atomic_fetch_add(&s->entries, 1);
    if (add_to_filter(sh, e))
        return e;
    unchain(s, sh, e);
    free_entry(e);
    return NULL;
}

/* ---- tenants' lists ---- */

static void own(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    struct lr_owned *l = &sh->owned[e->tenant];
    e->newer = NULL;
    e->older = l->newest;
    if (l->newest)
        l->newest->newer = e;
    else
        l->oldest = e;
    l->newest = e;
    atomic_fetch_add(&s->tenants[e->tenant].bytes, e->payload);
}

static void disown(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    struct lr_owned *l = &sh->owned[e->tenant];
    if (!e->older && !e->newer && l->oldest != e)
        return; /* never described */
    if (e->older)
        e->older->newer = e->newer;
    else
        l->oldest = e->newer;
    if (e->newer)
        e->newer->older = e->older;
    else
        l->newest = e->older;
    e->older = e->newer = NULL;
    atomic_fetch_sub(&s->tenants[e->tenant].bytes, e->payload);
}

int lr_entry_describe_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                             const struct lr_object *o, uint32_t head)
{
    uint16_t space = 0;
    char *name = NULL;
    if (o->kind == LR_OBJECT_OPAQUE) {
        LR_TRY(lr_space_slot(s, o->tenant, o->space, &space));
        if (!e->name || !lr_str_eq(lr_str(e->name, e->name_n), o->name)) {
            name = lr_strndup(o->name.p, o->name.n);
            LR_FAIL_IF(!name, LR_ENOMEM);
        }
    }
    disown(s, sh, e);
    if (name) {
        lr_free(e->name);
        e->name = name;
        e->name_n = (uint32_t)o->name.n;
    }
    e->kind = (uint8_t)o->kind;
    e->tenant = lr_tenant_slot(s, o->tenant);
    e->space = space;
    e->epoch = o->epoch;
    e->fidelity = (uint16_t)(o->fidelity ? o->fidelity : LR_OBJECT_LOSSLESS);
    e->created_ms = o->created_ms;
    e->expires_ms = o->expires_ms;
    e->payload = o->payload;
    e->head = head;
    e->cost = o->cost > 0 ? o->cost : lr_store_cost(o->tokens, o->position, o->payload);
    own(s, sh, e);
    return 0;
}

/* ---- tiers ---- */

/* What a node is charged: 4 GiB is beyond any object. */
static void set_node(struct lr_evict_node *n, const struct lr_entry *e, uint64_t bytes)
{
    *n = (struct lr_evict_node){
        .key = lr_id_hash(&e->id) ^ lr_role_of(&e->id),
        .bytes = (uint32_t)bytes,
        .cost = e->cost,
        .hits = e->used ? 1 : 0,
    };
}

static void list_mem(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    set_node(&e->mem, e, lr_room_charge(e->block->total));
    s->strategy->insert(sh->mem, &e->mem);
    e->mem_listed = true;
    atomic_fetch_add(&sh->mem_bytes, e->mem.bytes);
}

static void unlist_mem(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (!e->mem_listed)
        return;
    s->strategy->remove(sh->mem, &e->mem);
    e->mem_listed = false;
    atomic_fetch_sub(&sh->mem_bytes, e->mem.bytes);
}

static void list_disk(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    set_node(&e->disk, e, e->disk_total);
    s->strategy->insert(sh->disk, &e->disk);
    e->disk_listed = true;
    atomic_fetch_add(&sh->disk_bytes, e->disk.bytes);
}

static void unlist_disk(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (!e->disk_listed)
        return;
    s->strategy->remove(sh->disk, &e->disk);
    e->disk_listed = false;
    atomic_fetch_sub(&sh->disk_bytes, e->disk.bytes);
}

void lr_enter_mem_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                         struct lr_block *b)
{
    assert(!e->block);
    e->block = b;
    e->leaving = false;
    if (e->pin_ms)
        atomic_fetch_add(&s->pinned, lr_room_charge(b->total));
    else
        list_mem(s, sh, e);
}

void lr_leave_mem_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (!e->block)
        return;
    unlist_mem(s, sh, e);
    if (e->pin_ms)
        atomic_fetch_sub(&s->pinned, lr_room_charge(e->block->total));
    e->leaving = false;
    lr_block_unref(e->block);
    e->block = NULL;
}

void lr_enter_disk_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                          struct lr_segment *seg, uint64_t off)
{
    assert(!e->seg);
    e->seg = seg;
    e->off = off;
    e->disk_total = lr_image_of(e->head, e->payload).total;
    atomic_fetch_add(&seg->live, e->disk_total);
    if (!e->pin_ms)
        list_disk(s, sh, e);
}

void lr_leave_disk_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (!e->seg)
        return;
    unlist_disk(s, sh, e);
    atomic_fetch_sub(&e->seg->live, e->disk_total);
    e->seg = NULL;
}

void lr_set_pin_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e,
                       uint64_t until_ms)
{
    bool was = e->pin_ms != 0, is = until_ms != 0;
    e->pin_ms = until_ms;
    if (was == is)
        return;
    uint64_t bytes = e->block ? lr_room_charge(e->block->total) : 0;
    if (is) {
        unlist_mem(s, sh, e);
        unlist_disk(s, sh, e);
        atomic_fetch_add(&s->pinned, bytes);
        return;
    }
    atomic_fetch_sub(&s->pinned, bytes);
    if (e->block && !e->leaving)
        list_mem(s, sh, e);
    if (e->seg)
        list_disk(s, sh, e);
}

void lr_touch_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    e->used = true;
    if (e->mem_listed)
        s->strategy->hit(sh->mem, &e->mem);
    if (e->disk_listed)
        s->strategy->hit(sh->disk, &e->disk);
}

/* ---- leaving the table ---- */

static void drop_one(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (e->pin_ms && s->disk)
        /* Or a restart would pin what is put under this id next; a failure is counted there. */
        (void)lr_tier_note(s, LR_RECORD_PIN, &e->id, atomic_fetch_add(&s->seq, 1) + 1, 0, NULL);
    lr_leave_mem_locked(s, sh, e);
    lr_leave_disk_locked(s, sh, e);
    disown(s, sh, e);
    struct lr_filters *f = atomic_load(&sh->filters);
    if (f && f->filter)
        lr_cuckoo_del(f->filter, filter_hash(&e->id));
    unchain(s, sh, e);
    free_entry(e); /* a load on its way finds no entry and tells its readers so */
}

static struct lr_entry *mate_of(struct lr_store *s, struct lr_shard *sh, const struct lr_digest *id)
{
    struct lr_digest mate = *id;
    mate.b[31] ^= LR_ROLE_BYTES | LR_ROLE_META;
    return lr_find_locked(s, sh, &mate);
}

void lr_drop_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    struct lr_entry *mate = lr_role_of(&e->id) ? mate_of(s, sh, &e->id) : NULL;
    drop_one(s, sh, e);
    if (mate)
        drop_one(s, sh, mate);
}

void lr_drop_if_empty_locked(struct lr_store *s, struct lr_shard *sh, struct lr_entry *e)
{
    if (!e->block && !e->seg && !e->load)
        lr_drop_locked(s, sh, e);
}

/* ---- visibility ---- */

static bool is_here(const struct lr_entry *e)
{
    return e && (e->block || e->seg);
}

/* Why nobody may see e any more; LR_STORE_COUNT: somebody may. */
static enum lr_store_count dead(const struct lr_store *s, const struct lr_entry *e, uint64_t now)
{
    if (e->expires_ms && e->expires_ms <= now)
        return LR_STORE_MISS_EXPIRED;
    if (e->kind == LR_OBJECT_OPAQUE && e->epoch < atomic_load(&s->spaces[e->space].epoch))
        return LR_STORE_MISS_EPOCH;
    return LR_STORE_COUNT;
}

struct lr_entry *lr_visible_locked(struct lr_store *s, struct lr_shard *sh,
                                   const struct lr_digest *id, enum lr_store_count *why)
{
    struct lr_entry *e = lr_find_locked(s, sh, id);
    *why = LR_STORE_MISS_ABSENT;
    if (!is_here(e))
        return NULL;
    uint64_t now = lr_now_ms(s);
    *why = dead(s, e, now);
    if (*why != LR_STORE_COUNT) {
        lr_drop_locked(s, sh, e);
        return NULL;
    }
    if (!lr_role_of(id))
        return e;
    struct lr_entry *mate = mate_of(s, sh, id);
    *why = LR_STORE_MISS_PAIR;
    if (!is_here(mate))
        return NULL; /* it may still be on its way in: nothing is dropped */
    if (dead(s, mate, now) == LR_STORE_COUNT)
        return e;
    lr_drop_locked(s, sh, e);
    return NULL;
}

static void sweep_bucket(struct lr_store *s, struct lr_shard *sh, size_t i, uint64_t now)
{
again:
    for (struct lr_entry *e = sh->bucket[i]; e; e = e->chain) {
        if (e->pin_ms && e->pin_ms <= now)
            lr_set_pin_locked(s, sh, e, 0);
        if (is_here(e) && dead(s, e, now) != LR_STORE_COUNT) {
            lr_drop_locked(s, sh, e); /* its mate, in the same bucket, as well */
            goto again;
        }
    }
}

/* In order of buckets; starts a bucket over when its chain changed. */
static void settle_bucket(struct lr_store *s, struct lr_shard *sh, size_t i, uint64_t now,
                          uint64_t wiped)
{
again:
    for (struct lr_entry *e = sh->bucket[i]; e; e = e->chain) {
        if (!e->seg || e->gone_seq > e->seq || e->seq <= wiped ||
            dead(s, e, now) != LR_STORE_COUNT) {
            drop_one(s, sh, e);
            goto again;
        }
        if (e->pin_ms && e->pin_ms <= now)
            lr_set_pin_locked(s, sh, e, 0);
    }
}

void lr_index_settle(struct lr_store *s, uint64_t wiped)
{
    uint64_t now = lr_now_ms(s);
    for (unsigned k = 0; k < s->n_shards; k++) {
        struct lr_shard *sh = &s->shards[k];
        pthread_mutex_lock(&sh->mu);
        for (size_t i = 0; i < (size_t)1 << sh->bits; i++)
            settle_bucket(s, sh, i, now, wiped);
        atomic_fetch_add(&s->count[LR_STORE_RECOVERED], sh->n);
        pthread_mutex_unlock(&sh->mu);
    }
}

void lr_index_sweep(struct lr_store *s, size_t buckets)
{
    uint64_t now = lr_now_ms(s);
    for (unsigned k = 0; k < s->n_shards; k++) {
        struct lr_shard *sh = &s->shards[k];
        pthread_mutex_lock(&sh->mu);
        size_t n = (size_t)1 << sh->bits;
        for (size_t i = 0; i < buckets && i < n; i++, sh->swept++)
            sweep_bucket(s, sh, sh->swept % n, now);
        sh->swept %= n;
        pthread_mutex_unlock(&sh->mu);
    }
}

/* Queues what a bucket has in memory alone. False: the queue is full, come again. */
static bool save_bucket(struct lr_store *s, struct lr_shard *sh, size_t i)
{
    for (struct lr_entry *e = sh->bucket[i]; e; e = e->chain) {
        if (!e->block || e->seg || e->queued || e->no_disk || e->saved)
            continue;
        if (!lr_tier_has_queue_room(s, e->block->total))
            return false;
        e->saved = true; /* once: a full disk takes it the second time no more than the first */
        (void)lr_queue_copy_locked(s, e, NULL);
    }
    return true;
}

void lr_index_save(struct lr_store *s)
{
    for (unsigned k = 0; k < s->n_shards; k++) {
        struct lr_shard *sh = &s->shards[k];
        for (size_t i = 0; i < (size_t)1 << sh->bits;) {
            struct lr_wait *wait;
            pthread_mutex_lock(&sh->mu);
            bool done = save_bucket(s, sh, i);
            pthread_mutex_unlock(&sh->mu);
            if (!done && (lr_tier_barrier(s, &wait) || lr_tier_wait(s, wait, LR_FOREVER)))
                return; /* the disk fails */
            i += done;
        }
    }
}

uint64_t lr_store_scan(struct lr_store *s, uint64_t cursor,
                       void (*fn)(void *arg, const struct lr_store_entry *), void *arg)
{
    struct lr_digest at = {{0}};
    lr_put_le64(at.b, cursor);
    struct lr_shard *sh = lr_shard_of(s, &at);
    uint64_t now = lr_now_ms(s);
    pthread_mutex_lock(&sh->mu);
    for (struct lr_entry *e = *bucket_of(s, sh, &at); e; e = e->chain)
        if (is_here(e) && dead(s, e, now) == LR_STORE_COUNT) {
            struct lr_store_entry row;
            lr_entry_row_locked(s, e, &row);
            fn(arg, &row);
        }
    unsigned bits = s->shard_bits + sh->bits;
    uint64_t next = ((cursor >> (64 - bits)) + 1) << (64 - bits);
    pthread_mutex_unlock(&sh->mu);
    return next;
}

void lr_entry_row_locked(const struct lr_store *s, const struct lr_entry *e,
                         struct lr_store_entry *out)
{
    *out = (struct lr_store_entry){
        .id = e->id,
        .tenant = s->tenants[e->tenant].id,
        .bytes = e->payload,
        .expires_ms = e->expires_ms,
        .pinned_until_ms = e->pin_ms,
        .created_ms = e->created_ms,
        .name = lr_str(e->name, e->name_n),
        .kind = e->kind,
        .fidelity = e->fidelity,
        .in_memory = e->block,
        .on_disk = e->seg,
    };
    if (e->kind == LR_OBJECT_OPAQUE)
        out->space = lr_str(s->spaces[e->space].name, s->spaces[e->space].name_n);
}
