/* SPDX-License-Identifier: Apache-2.0
 * answer/shelf.c - the exact shelf: which answers there are, which of them are in memory.
 *
 *            put                    +--------- disk pool (strategy of the options): its bytes are
 *             |                     |          bounded by bytes_max; a victim leaves the shelf
 *             v                     v
 *   [ document ] <-- hot --- [ entry ] --- pending --> [ put ] --> keeper --> LMDB
 *        ^                      ^                                              |
 *        |   hot pool (S3-FIFO): bytes of documents in memory;                 |
 *        +-- a victim leaves memory only   <---------------- load -------------+
 *
 * Every stored answer has one entry in memory: digest, times, what is needed to judge a request's
 * conditions, and its place in the pools (152 bytes and a cell). So "surely absent" costs one probe
 * and no I/O, and a hit in memory costs one lock, one probe and a few words.
 *
 * Where a document may be:
 *   hot, pending   just put: the hot pool and the queue both hold a reference
 *   pending        pushed out of the hot pool before its commit: served from the queue's
 *   hot, on disk   the usual hit
 *   on disk        cold: get answers LR_FOUND_COLD and a worker loads it
 *   hot only       no directory, or the commit failed: leaving the hot pool ends it
 *
 * Conditions (struct lr_ask), in this order; the first that fails names the reason:
 *   dialect        an entry with extras of a dialect is replayed in that dialect only
 *   fewer-choices  n stored choices serve any n' <= n
 *   token-limit    an answer cut by its limit serves that limit only. A finished one serves when
 *                  there is no limit, when the limit is not below the one it was made under, or
 *                  when its output tokens (of all choices: on the safe side) are known and fit
 *   max-age        the request wants it younger
 *   expired        past its time to live, and neither of the stale-* grants reaches
 *
 * The two pools evict at different moments, on purpose. Disk: insert, then evict while over budget,
 * so that a strategy can refuse the newcomer (put says LR_EOVER). Memory: make room first, then
 * insert, so that what was just loaded is there for the request that loaded it, however large.
 *
 * Cost for the cost-aware strategy, unit: money. The price of the answer where it is known; else
 * the time it took, at 0.0005 a second (50 tokens a second at 10 per million).
 *
 * Tenant quota: a put over it first drops the tenant's expired entries (one walk over the index,
 * and none again before the tenant's next expiry), then is refused. Evicting the tenant's own live
 * answers instead was dropped: a client in a loop would cycle its whole quota through the disk.
 *
 * Lock: answer_int.h. One mutex, not shards: a hit takes some 50 ns in all (bench/answer.c), and one
 * order of eviction stays one order.
 */
#include "answer/answer_int.h"

#include <limits.h>

#define COST_PER_SECOND 0.0005

/* ---- conditions ---- */

static uint32_t clip(uint64_t v)
{
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static bool limit_fits(const struct lr_entry *e, uint64_t max_tokens)
{
    uint32_t limit = clip(max_tokens);
    if (e->flags & LR_E_CUT)
        return limit == e->max_tokens;
    return !limit || (e->max_tokens && limit >= e->max_tokens) ||
           (e->tokens_out && e->tokens_out <= limit);
}

static uint64_t age_of(const struct lr_entry *e, uint64_t now_ms)
{
    return now_ms > e->created_ms ? now_ms - e->created_ms : 0;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* NULL: serves, fresh or stale. */
static const char *refuse(const struct lr_entry *e, const struct lr_ask *ask)
{
    if (e->dialect && e->dialect != ask->dialect)
        return "dialect";
    if (e->choices < ask->n)
        return "fewer-choices";
    if (!limit_fits(e, ask->max_tokens))
        return "token-limit";
    if (age_of(e, ask->now_ms) > ask->max_age_ms)
        return "max-age";
    if (ask->now_ms >= e->expires_ms && ask->now_ms >= plus(e->expires_ms, ask->swr_ms) &&
        ask->now_ms >= plus(e->expires_ms, ask->sie_ms))
        return "expired";
    return NULL;
}

static const char *why_absent(const struct lr_answer *s, const struct lr_digest *key)
{
    for (unsigned i = 0; i < s->n_bad && i < LR_BAD_KEPT; i++)
        if (lr_digest_eq(&s->bad[i], key))
            return "corrupt";
    return "new";
}

/* ---- leaving ---- */

struct lr_doc *lr_shelf_doc(const struct lr_entry *e)
{
    return e->hot ? e->hot->doc : e->pending ? e->pending->doc : NULL;
}

static void hot_cut(struct lr_answer *s, struct lr_entry *e)
{
    struct lr_hot *h = e->hot;
    if (!h)
        return;
    s->hot_ops->remove(s->hot_pool, &h->node);
    s->hot_bytes -= h->node.bytes;
    s->hot_n--;
    e->hot = NULL;
    lr_doc_unref(h->doc);
    lr_free(h);
}

/* Out of both pools and the accounts; still in the table. */
static void pools_cut(struct lr_answer *s, struct lr_entry *e)
{
    hot_cut(s, e);
    lr_index_tenant_sub(&s->ix, e);
    s->bytes -= e->u.node.bytes;
    s->disk_ops->remove(s->disk_pool, &e->u.node);
}

void lr_shelf_cut_locked(struct lr_answer *s, struct lr_entry *e)
{
    pools_cut(s, e);
    lr_index_cut(&s->ix, e);
}

void lr_shelf_drop_locked(struct lr_answer *s, struct lr_entry *e)
{
    bool disk = e->flags & LR_E_DISK;
    lr_shelf_cut_locked(s, e);
    if (!disk) {
        lr_index_recycle(&s->ix, e);
        return;
    }
    e->u.op = (struct lr_op){.put = false};
    lr_keeper_push_locked(s, &e->u.op);
}

/* Room for need bytes in memory. What has no other home than memory leaves the shelf with it. */
static void make_room(struct lr_answer *s, uint64_t need)
{
    struct lr_evict_node *v;
    while (s->hot_bytes + need > s->hot_max && (v = s->hot_ops->victim(s->hot_pool, true))) {
        struct lr_entry *e = LR_CONTAINER(v, struct lr_hot, node)->e;
        if (e->pending || e->flags & LR_E_DISK) {
            hot_cut(s, e);
        } else {
            lr_shelf_drop_locked(s, e);
            lr_metric_add(LR_M_EVICTED, 1);
        }
    }
}

/* Evicts while over budget; true: `e` itself had to go. */
static bool over_budget(struct lr_answer *s, const struct lr_entry *e)
{
    bool gone = false;
    struct lr_evict_node *v;
    while (s->bytes > s->bytes_max && (v = s->disk_ops->victim(s->disk_pool, true))) {
        gone |= e && v == &e->u.node;
        lr_shelf_drop_locked(s, LR_CONTAINER(v, struct lr_entry, u.node));
        lr_metric_add(LR_M_EVICTED, 1);
    }
    return gone;
}

void lr_shelf_gauges_locked(const struct lr_answer *s)
{
    lr_metric_set(LR_M_ENTRIES, (int64_t)s->ix.n);
    lr_metric_set(LR_M_ENTRY_BYTES, (int64_t)s->bytes);
    lr_metric_set(LR_M_HOT_BYTES, (int64_t)s->hot_bytes);
}

/* ---- get ---- */

enum lr_found lr_answer_get(struct lr_answer *s, const struct lr_ask *ask,
                            struct lr_answer_hit *out)
{
    *out = (struct lr_answer_hit){.reason = ""};
    enum lr_found found = LR_FOUND_NONE;
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, &ask->key);
    if (!e) {
        out->reason = why_absent(s, &ask->key);
        goto unlock;
    }
    out->age_ms = age_of(e, ask->now_ms);
    const char *reason = refuse(e, ask);
    bool expired = ask->now_ms >= e->expires_ms;
    struct lr_doc *doc = lr_shelf_doc(e);
    if (expired)
        lr_metric_add(LR_M_EXPIRED, 1);
    if (reason) {
        out->reason = reason;
    } else if (!doc) {
        found = LR_FOUND_COLD;
    } else {
        found = expired ? LR_FOUND_STALE : LR_FOUND_HIT;
        out->reason = expired ? "expired" : "";
        out->swr = expired && ask->now_ms < plus(e->expires_ms, ask->swr_ms);
        out->sie = expired && ask->now_ms < plus(e->expires_ms, ask->sie_ms);
        lr_doc_ref(doc);
        out->doc = doc;
    }
    if (found == LR_FOUND_HIT) {
        e->hits += e->hits < UINT32_MAX;
        e->flags |= LR_E_DIRTY;
        s->disk_ops->hit(s->disk_pool, &e->u.node);
        if (e->hot)
            s->hot_ops->hit(s->hot_pool, &e->hot->node);
    }
unlock:
    pthread_mutex_unlock(&s->mu);
    return found;
}

void lr_answer_touch(struct lr_answer *s, const struct lr_digest *key, uint64_t now_ms)
{
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, key);
    if (e && plus(now_ms, e->ttl_ms) > e->expires_ms) {
        e->expires_ms = plus(now_ms, e->ttl_ms);
        e->flags |= LR_E_DIRTY;
    }
    pthread_mutex_unlock(&s->mu);
}

/* ---- load ---- */

static void remember_bad(struct lr_answer *s, const struct lr_digest *key)
{
    s->bad[s->n_bad % LR_BAD_KEPT] = *key;
    /* Wraps to a full ring, not to an empty one. */
    s->n_bad = s->n_bad == UINT_MAX ? LR_BAD_KEPT : s->n_bad + 1;
}

static void forget_bad(struct lr_answer *s, const struct lr_digest *key)
{
    for (unsigned i = 0; i < s->n_bad && i < LR_BAD_KEPT; i++)
        if (lr_digest_eq(&s->bad[i], key))
            memset(&s->bad[i], 0, sizeof s->bad[i]);
}

static size_t weight(const struct lr_doc *d)
{
    return sizeof *d + sizeof(struct lr_hot) + d->log.n;
}

static void hot_add(struct lr_answer *s, struct lr_entry *e, struct lr_hot *h, struct lr_doc *doc)
{
    size_t n = weight(doc);
    *h = (struct lr_hot){.e = e, .doc = doc};
    h->node =
        (struct lr_evict_node){.key = e->u.node.key, .bytes = (uint32_t)n, .cost = e->u.node.cost};
    make_room(s, n);
    e->hot = h;
    s->hot_ops->insert(s->hot_pool, &h->node);
    s->hot_bytes += n;
    s->hot_n++;
}

/* Whether doc is the version of e that disk holds now. */
static bool is_current(const struct lr_entry *e, const struct lr_doc *doc)
{
    return e->flags & LR_E_DISK && !e->pending && e->created_ms == doc->meta.created_ms &&
           e->ttl_ms == doc->meta.ttl_ms && e->tokens_out == clip(doc->meta.tokens_out);
}

static int install(struct lr_answer *s, const struct lr_digest *key, struct lr_doc *doc)
{
    struct lr_hot *h = lr_new(struct lr_hot);
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, key);
    bool wanted = e && !lr_shelf_doc(e) && is_current(e, doc);
    int rc = !e ? LR_ENOENT : wanted && !h ? LR_ENOMEM : 0;
    if (wanted && h) {
        hot_add(s, e, h, doc);
        lr_shelf_gauges_locked(s);
        doc = NULL;
        h = NULL;
    }
    pthread_mutex_unlock(&s->mu);
    lr_doc_unref(doc);
    lr_free(h);
    return rc;
}

/* Disk had nothing good under key: so has the index, unless a newer version came meanwhile. */
static void disown(struct lr_answer *s, const struct lr_digest *key, int rc)
{
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, key);
    if (e && !lr_shelf_doc(e)) {
        if (rc != LR_ENOENT) {
            remember_bad(s, key);
            lr_metric_add(LR_M_CORRUPT, 1);
        }
        lr_shelf_drop_locked(s, e);
        lr_shelf_gauges_locked(s);
    }
    pthread_mutex_unlock(&s->mu);
}

int lr_answer_load(struct lr_answer *s, const struct lr_digest *key)
{
    pthread_mutex_lock(&s->mu);
    struct lr_entry *e = lr_index_find(&s->ix, key);
    int rc = !e ? LR_ENOENT : 0;
    bool here = e && lr_shelf_doc(e);
    pthread_mutex_unlock(&s->mu);
    if (rc || here)
        return rc;
    struct lr_doc *doc;
    rc = lr_disk_get(s->disk, key, &doc);
    if (rc == LR_EVERSION)
        rc = LR_ECORRUPT;
    if (rc == LR_ENOENT || rc == LR_ECORRUPT) {
        disown(s, key, rc);
        return rc;
    }
    LR_TRY(rc);
    return install(s, key, doc);
}

/* ---- put ---- */

static float cost_of(const struct lr_doc_meta *m)
{
    return (float)(m->cost > 0 ? m->cost : (double)m->took_ms / 1000 * COST_PER_SECOND);
}

static void fill(struct lr_entry *e, const struct lr_doc_meta *m, uint64_t expires_ms,
                 uint64_t bytes)
{
    e->created_ms = m->created_ms;
    e->ttl_ms = m->ttl_ms;
    e->expires_ms = expires_ms ? expires_ms : plus(m->created_ms, m->ttl_ms);
    e->tenant = m->tenant;
    e->tokens_out = clip(m->tokens_out);
    e->max_tokens = clip(m->max_tokens);
    e->hits = m->hits;
    e->choices = m->choices;
    e->dialect = m->dialect;
    e->flags = (uint8_t)(LR_E_LIVE | (e->flags & (LR_E_DISK | LR_E_OLD)) | (m->cut ? LR_E_CUT : 0));
    e->u.node = (struct lr_evict_node){
        .key = lr_le64(e->key.b), .bytes = (uint32_t)bytes, .cost = cost_of(m), .hits = m->hits};
}

static void admit(struct lr_answer *s, struct lr_entry *e)
{
    lr_index_tenant_add(&s->ix, e);
    s->bytes += e->u.node.bytes;
    s->disk_ops->insert(s->disk_pool, &e->u.node);
}

static void drop_expired_of(struct lr_answer *s, struct lr_tenant_use *t, uint64_t now_ms)
{
    uint64_t tenant = t->tenant, soonest = UINT64_MAX;
    for (uint32_t i = 0; i < s->ix.n_slots; i++) {
        struct lr_entry *e = lr_index_at(&s->ix, i);
        if (!e || e->tenant != tenant)
            continue;
        if (now_ms >= e->expires_ms)
            lr_shelf_drop_locked(s, e);
        else if (e->expires_ms < soonest)
            soonest = e->expires_ms;
    }
    t = lr_index_tenant(&s->ix, tenant); /* the walk may have moved or ended it */
    if (t)
        t->soonest_ms = soonest;
}

/* Bytes the tenant would hold with `need` more in the place of its entry of this key. */
static uint64_t use_with(const struct lr_answer *s, const struct lr_doc_meta *m, uint64_t need)
{
    const struct lr_tenant_use *t = lr_index_tenant(&s->ix, m->tenant);
    const struct lr_entry *old = lr_index_find(&s->ix, &m->key);
    uint64_t used = t ? t->bytes : 0;
    if (old && old->tenant == m->tenant)
        used -= old->u.node.bytes;
    return used + need;
}

static int check_quota(struct lr_answer *s, const struct lr_doc_meta *m, uint64_t need,
                       uint64_t max)
{
    if (!max || use_with(s, m, need) <= max)
        return 0;
    struct lr_tenant_use *t = lr_index_tenant(&s->ix, m->tenant);
    uint64_t now = s->wall_ms();
    if (t && now >= t->soonest_ms)
        drop_expired_of(s, t, now);
    return use_with(s, m, need) <= max ? 0 : LR_EOVER;
}

/* What a put needs, made before the lock is taken. */
struct parcel {
    struct lr_doc *doc;
    struct lr_hot *hot;
    struct lr_put *put; /* NULL: memory only */
};

static void discard(struct parcel *p)
{
    lr_doc_unref(p->doc);
    lr_free(p->hot);
    lr_free(p->put);
}

static int pack(struct lr_answer *s, const struct lr_doc_meta *meta, struct lr_str log,
                struct parcel *out)
{
    struct parcel p = {0};
    LR_TRY(lr_doc_new(meta, log, &p.doc));
    p.hot = lr_new(struct lr_hot);
    p.put = s->disk ? lr_new(struct lr_put) : NULL;
    if (!p.hot || (s->disk && !p.put)) {
        discard(&p);
        return LR_ENOMEM;
    }
    *out = p;
    return 0;
}

static int shelve_locked(struct lr_answer *s, struct parcel *p, uint64_t bytes, uint64_t tenant_max)
{
    const struct lr_doc_meta *m = &p->doc->meta;
    if (p->put && (s->k.n_puts >= s->k.puts_max || s->k.put_bytes > LR_QUEUE_BYTES)) {
        lr_metric_add(LR_M_STORE_SHED, 1);
        return LR_EBUSY;
    }
    LR_TRY(check_quota(s, m, bytes, tenant_max));
    LR_TRY(lr_index_tenant_reserve(&s->ix));
    struct lr_entry *e = lr_index_find(&s->ix, &m->key);
    if (e) {
        pools_cut(s, e);
        e->flags |= e->flags & LR_E_DISK ? LR_E_OLD : 0;
        e->pending = NULL; /* its put stays in the queue, and finishes before ours */
    } else if (!(e = lr_index_add(&s->ix, &m->key))) {
        return LR_ENOMEM;
    }
    fill(e, m, 0, bytes);
    admit(s, e);
    LR_FAIL_IF(over_budget(s, e), LR_EOVER);
    forget_bad(s, &m->key);
    struct lr_doc *doc = p->doc;
    hot_add(s, e, p->hot, doc);
    if (p->put) {
        lr_doc_ref(doc);
        p->put->doc = doc;
        e->pending = p->put;
        e->flags |= LR_E_DISK;
        lr_keeper_push_locked(s, &p->put->op);
    }
    *p = (struct parcel){0};
    return 0;
}

int lr_answer_put(struct lr_answer *s, const struct lr_doc_meta *meta, struct lr_str log,
                  uint64_t bytes_tenant_max, void (*done)(void *arg, int rc), void *arg)
{
    uint64_t bytes = lr_disk_charge(LR_DOC_HEAD_TYPICAL, log.n);
    LR_FAIL_IF(bytes > s->bytes_max || log.n > LR_DOC_LOG_MAX, LR_EOVER);
    LR_FAIL_IF(!s->disk && log.n + sizeof(struct lr_doc) > s->hot_max, LR_EOVER);
    struct parcel p;
    LR_TRY(pack(s, meta, log, &p));
    if (p.put) {
        p.put->op.put = true;
        p.put->done = done;
        p.put->arg = arg;
    }
    pthread_mutex_lock(&s->mu);
    int rc = shelve_locked(s, &p, bytes, bytes_tenant_max);
    lr_shelf_gauges_locked(s);
    pthread_mutex_unlock(&s->mu);
    discard(&p);
    LR_TRY(rc);
    lr_metric_add(LR_M_STORED, 1);
    if (!s->disk && done)
        done(arg, 0); /* memory is all there is: stored as well as it will be */
    return 0;
}

/* ---- open and close ---- */

/* One head of the start-up scan. Entries come in the order of their digests, not of their age: the
 * hits they had seed the strategy instead. */
static int scanned(void *ctx, const struct lr_digest *key, const struct lr_doc_meta *m,
                   uint64_t expires_ms, size_t log_n)
{
    struct lr_answer *s = ctx;
    LR_TRY(lr_index_tenant_reserve(&s->ix));
    struct lr_entry *e = lr_index_add(&s->ix, key);
    LR_FAIL_IF(!e, LR_ENOMEM);
    struct lr_doc_meta none = {0};
    fill(e, m ? m : &none, expires_ms, lr_disk_charge(LR_DOC_HEAD_TYPICAL, log_n));
    e->flags |= LR_E_DISK;
    admit(s, e);
    if (!m) {
        remember_bad(s, key);
        lr_metric_add(LR_M_CORRUPT, 1);
    }
    if (!m || plus(e->expires_ms, LR_STALE_KEEP_MS) <= s->wall_ms())
        lr_shelf_drop_locked(s, e);
    return 0;
}

static int open_pools(struct lr_answer *s, const char *evict)
{
    s->disk_ops = lr_evict_find(lr_strz(evict ? evict : "s3fifo"));
    s->hot_ops = lr_evict_find(LR_STR("s3fifo"));
    LR_FAIL_IF(!s->disk_ops || !s->hot_ops, LR_EINVAL);
    LR_TRY(s->disk_ops->open(&s->disk_pool, s->bytes_max));
    return s->hot_ops->open(&s->hot_pool, s->hot_max);
}

static int open_disk(struct lr_answer *s, const struct lr_answer_opts *o, struct lr_err *err)
{
    /* Twice the budget: pages half full, and two versions of what a transaction changes. Address
     * space, not disk: the file grows to what is used. */
    uint64_t map = o->map_max ? o->map_max : s->bytes_max * 2 + LR_MIB(16);
    LR_TRY(lr_disk_open(&s->disk, o->dir, map, err));
    int rc = lr_disk_scan(s->disk, scanned, s);
    if (rc)
        return lr_err_set(err, rc, o->dir, "reading the stored answers failed: %s",
                          lr_strerror(rc));
    over_budget(s, NULL);
    return lr_keeper_start(s);
}

int lr_answer_open(struct lr_answer **out, const struct lr_answer_opts *o, struct lr_err *err)
{
    struct lr_answer *s = lr_new(struct lr_answer);
    if (!s)
        return lr_err_set(err, LR_ENOMEM, "answers", "out of memory");
    pthread_mutex_init(&s->mu, NULL);
    s->bytes_max = o->bytes_max ? o->bytes_max : LR_GIB(1);
    s->hot_max = o->hot_max ? o->hot_max : LR_MIB(64);
    s->wall_ms = o->wall_ms ? o->wall_ms : lr_clock_wall_ms;
    s->k.puts_max = o->queue_max ? o->queue_max : 4096;
    s->k.commit_ns = o->commit_ns ? o->commit_ns : 20 * LR_MS;
    lr_keeper_init(s);
    int rc = open_pools(s, o->evict);
    if (rc)
        lr_err_set(err, rc, "answers", "no eviction strategy: %s", lr_strerror(rc));
    else if (o->dir)
        rc = open_disk(s, o, err);
    if (rc) {
        lr_err_set(err, rc, o->dir ? o->dir : "answers", "%s", lr_strerror(rc));
        lr_answer_close(s);
        return rc;
    }
    lr_shelf_gauges_locked(s); /* nobody else knows s yet */
    *out = s;
    return 0;
}

void lr_answer_close(struct lr_answer *s)
{
    if (!s)
        return;
    lr_keeper_stop(s);
    for (uint32_t i = 0; i < s->ix.n_slots; i++) {
        struct lr_entry *e = lr_index_at(&s->ix, i);
        if (e)
            hot_cut(s, e);
    }
    lr_disk_close(s->disk);
    if (s->hot_pool)
        s->hot_ops->close(s->hot_pool);
    if (s->disk_pool)
        s->disk_ops->close(s->disk_pool);
    lr_index_free(&s->ix);
    pthread_mutex_destroy(&s->mu);
    lr_free(s);
}
