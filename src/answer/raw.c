/* SPDX-License-Identifier: Apache-2.0
 * answer/raw.c - request bytes seen before, straight to their key: no parse, no canonical digest.
 *
 *   (prefix, body) --xxh3, secret seed--> shard --> bucket --> record [prefix|body|key|note]
 *
 * A record is only ever believed after both prefix and body have been compared byte for byte, so
 * the table's hash carries no trust and a fast one does. Its seed is random per table: clients
 * cannot aim at a bucket.
 *
 * What a record says (this body has that key) is a fact about bytes, not about an answer: it never
 * goes stale by itself. What may change its meaning (credential, headers, config epoch) is in the
 * prefix.
 *
 * Records leave under a byte budget by S3-FIFO (evict/): a stream of bodies seen once passes
 * through without touching those that repeat. A record may take at most a quarter of its shard.
 *
 * Locks: one mutex a shard, guarding all of it; leaf; held for one table walk and one compare.
 */
#include "answer/answer.h"
#include "evict/evict.h"

#define SHARDS_MAX 8
#define SHARD_MIN  LR_MIB(1) /* below this a table is not worth cutting up */

struct record {
    struct lr_evict_node node;
    struct record *next; /* of the bucket */
    struct lr_digest key;
    size_t prefix_n, body_n, note_n;
    char bytes[]; /* prefix, body, note */
};

struct shard {
    pthread_mutex_t mu; /* guards all below */
    struct lr_evict *pool;
    struct record **buckets; /* n_buckets, a power of two */
    size_t n_buckets, n;
    uint64_t bytes, bytes_max;
};

struct lr_raw {
    const struct lr_evict_ops *ops;
    uint64_t seed;
    size_t n_shards; /* a power of two */
    struct shard shards[SHARDS_MAX];
};

static uint64_t hash(const struct lr_raw *r, struct lr_str prefix, struct lr_str body)
{
    return lr_hash64(body, lr_hash64(prefix, r->seed));
}

static struct shard *shard_of(struct lr_raw *r, uint64_t h)
{
    return &r->shards[(h >> 56) & (r->n_shards - 1)];
}

int lr_raw_open(struct lr_raw **out, uint64_t bytes_max)
{
    struct lr_raw *r = lr_new(struct lr_raw);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->ops = lr_evict_find(LR_STR("s3fifo"));
    lr_random_bytes(&r->seed, sizeof r->seed);
    size_t n = SHARDS_MAX;
    while (n > 1 && bytes_max / n < SHARD_MIN)
        n /= 2;
    for (; r->n_shards < n; r->n_shards++) {
        struct shard *s = &r->shards[r->n_shards];
        s->bytes_max = bytes_max / n;
        s->n_buckets = 64;
        s->buckets = lr_calloc(s->n_buckets, sizeof(struct record *));
        int rc = s->buckets ? r->ops->open(&s->pool, s->bytes_max) : LR_ENOMEM;
        if (rc) {
            lr_free(s->buckets);
            lr_raw_close(r);
            return rc;
        }
        pthread_mutex_init(&s->mu, NULL);
    }
    *out = r;
    return 0;
}

static struct record **find(struct shard *s, uint64_t h, struct lr_str prefix, struct lr_str body)
{
    struct record **at = &s->buckets[h & (s->n_buckets - 1)];
    for (; *at; at = &(*at)->next) {
        struct record *r = *at;
        if (r->node.key == h && lr_str_eq(lr_str(r->bytes, r->prefix_n), prefix) &&
            lr_str_eq(lr_str(r->bytes + r->prefix_n, r->body_n), body))
            break;
    }
    return at;
}

/* Removes *at; the caller frees it. */
static struct record *cut(struct lr_raw *t, struct shard *s, struct record **at)
{
    struct record *r = *at;
    *at = r->next;
    t->ops->remove(s->pool, &r->node);
    s->bytes -= r->node.bytes;
    s->n--;
    return r;
}

static void evict(struct lr_raw *t, struct shard *s)
{
    struct lr_evict_node *v;
    while (s->bytes > s->bytes_max && (v = t->ops->victim(s->pool, true))) {
        struct record **at = &s->buckets[v->key & (s->n_buckets - 1)];
        while (&(*at)->node != v)
            at = &(*at)->next;
        lr_free(cut(t, s, at));
    }
}

static void clear(struct lr_raw *t, struct shard *s)
{
    for (size_t i = 0; i < s->n_buckets; i++)
        while (s->buckets[i])
            lr_free(cut(t, s, &s->buckets[i]));
}

void lr_raw_clear(struct lr_raw *t)
{
    for (size_t i = 0; i < t->n_shards; i++) {
        struct shard *s = &t->shards[i];
        pthread_mutex_lock(&s->mu);
        clear(t, s);
        pthread_mutex_unlock(&s->mu);
    }
}

void lr_raw_close(struct lr_raw *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_shards; i++) {
        struct shard *s = &t->shards[i];
        clear(t, s);
        t->ops->close(s->pool);
        lr_free(s->buckets);
        pthread_mutex_destroy(&s->mu);
    }
    lr_free(t);
}

bool lr_raw_get(struct lr_raw *t, struct lr_str prefix, struct lr_str body, struct lr_raw_hit *out)
{
    uint64_t h = hash(t, prefix, body);
    struct shard *s = shard_of(t, h);
    pthread_mutex_lock(&s->mu);
    struct record *r = *find(s, h, prefix, body);
    if (r) {
        t->ops->hit(s->pool, &r->node);
        out->key = r->key;
        out->note_len = r->note_n;
        memcpy(out->note, r->bytes + r->prefix_n + r->body_n, r->note_n);
    }
    pthread_mutex_unlock(&s->mu);
    return r != NULL;
}

/* Longer chains are all that a failure to grow costs. */
static void grow(struct shard *s)
{
    if (s->n < s->n_buckets)
        return;
    size_t n = s->n_buckets * 2;
    struct record **p = lr_calloc(n, sizeof(struct record *));
    if (!p)
        return;
    for (size_t i = 0; i < s->n_buckets; i++)
        while (s->buckets[i]) {
            struct record *r = s->buckets[i];
            s->buckets[i] = r->next;
            r->next = p[r->node.key & (n - 1)];
            p[r->node.key & (n - 1)] = r;
        }
    lr_free(s->buckets);
    s->buckets = p;
    s->n_buckets = n;
}

static struct record *make(uint64_t h, struct lr_str prefix, struct lr_str body, size_t max,
                           const struct lr_raw_hit *hit)
{
    size_t n = sizeof(struct record);
    if (hit->note_len > LR_RAW_NOTE_MAX || lr_add_over(n, prefix.n, &n) ||
        lr_add_over(n, body.n, &n) || lr_add_over(n, hit->note_len, &n) || n > max)
        return NULL;
    struct record *r = lr_alloc(n);
    if (!r)
        return NULL;
    *r = (struct record){.node = {.key = h, .bytes = (uint32_t)n},
                         .key = hit->key,
                         .prefix_n = prefix.n,
                         .body_n = body.n,
                         .note_n = hit->note_len};
    char *p = r->bytes;
    if (prefix.n)
        memcpy(p, prefix.p, prefix.n);
    if (body.n)
        memcpy(p + prefix.n, body.p, body.n);
    if (hit->note_len)
        memcpy(p + prefix.n + body.n, hit->note, hit->note_len);
    return r;
}

void lr_raw_put(struct lr_raw *t, struct lr_str prefix, struct lr_str body,
                const struct lr_raw_hit *hit)
{
    uint64_t h = hash(t, prefix, body);
    struct shard *s = shard_of(t, h);
    uint64_t max = s->bytes_max / 4 < UINT32_MAX ? s->bytes_max / 4 : UINT32_MAX;
    struct record *r = make(h, prefix, body, (size_t)max, hit);
    if (!r)
        return; /* too large or no memory: the next request is parsed again */
    pthread_mutex_lock(&s->mu);
    struct record **old = find(s, h, prefix, body);
    if (*old)
        lr_free(cut(t, s, old));
    grow(s);
    struct record **at = &s->buckets[h & (s->n_buckets - 1)];
    r->next = *at;
    *at = r;
    s->bytes += r->node.bytes;
    s->n++;
    t->ops->insert(s->pool, &r->node);
    evict(t, s);
    pthread_mutex_unlock(&s->mu);
}
