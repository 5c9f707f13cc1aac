/* SPDX-License-Identifier: Apache-2.0
 * answer/answer_int.h - for answer/ itself: how the shelf is cut into files, and their one lock.
 *
 *   shelf.c   get, put, load, touch: the index, the two eviction pools, the quotas
 *   admin.c   entry, list, delete, purge, stats
 *   index.c   entries and the table that finds them (pure data structure)
 *   keeper.c  the queue and the thread that writes it
 *   disk.c    LMDB, the only file that knows it; mdbcheck.c reads a file before LMDB may
 *
 * Locks: lr_answer.mu is the only one of the shelf; it guards every field below but `disk` and the
 * constants. It is never held during I/O, a callback or a wait other than its own conditions;
 * document memory is freed under it. It is a leaf: nothing else is locked while it is held. LMDB's
 * own locks are taken with mu released. One write transaction at a time, in the keeper's thread
 * only; read transactions in any thread, none of which outlives the call that began it.
 */
#ifndef LR_ANSWER_ANSWER_INT_H
#define LR_ANSWER_ANSWER_INT_H

#include "answer/answer.h"
#include "evict/evict.h"

/* ---- doc.c ---- */

#define LR_DOC_LOG_MAX  LR_MIB(256)
#define LR_DOC_HEAD_MAX 2048 /* no head is longer: 56 bytes and 19 fields */
#define LR_DOC_HEAD_TYPICAL                                                                        \
    224 /* what a head is charged: its true size changes with the hit count */

struct lr_doc_head {
    size_t size;  /* bytes of the head, its sum included */
    size_t log_n; /* bytes of the log that follows it in a document */
    uint64_t sum;
};

int lr_doc_new(const struct lr_doc_meta *meta, struct lr_str log, struct lr_doc **out);
/* The head alone, as the index on disk holds it. expires_ms: 0 = created + ttl. */
int lr_doc_head_encode(const struct lr_doc_meta *m, uint64_t expires_ms, size_t log_n,
                       struct lr_buf *out);
/* bytes: a head, or a document that begins with it. */
int lr_doc_head_decode(struct lr_str bytes, struct lr_doc_meta *meta, uint64_t *expires_ms,
                       struct lr_doc_head *head);

/* ---- disk.c: all LR_EOVER of these mean "the map is full" ---- */

struct lr_disk;
/* LR_EBUSY: locked by another process. A bad file is set aside first. */
int lr_disk_open(struct lr_disk **out, const char *dir, uint64_t map_bytes, struct lr_err *err);
void lr_disk_close(struct lr_disk *d);
/* Calls fn for each head in the index until nonzero. A head that does not decode is passed as NULL.
 */
typedef int (*lr_disk_fn)(void *ctx, const struct lr_digest *key, const struct lr_doc_meta *meta,
                          uint64_t expires_ms, size_t log_n);
int lr_disk_scan(struct lr_disk *d, lr_disk_fn fn, void *ctx);
/* One document, its sums and its key checked. Any thread. */
int lr_disk_get(struct lr_disk *d, const struct lr_digest *key, struct lr_doc **out);
/* Heads of n keys in one read transaction; ok[i] says which were found. Any thread. */
int lr_disk_heads(struct lr_disk *d, size_t n, const struct lr_digest *keys,
                  struct lr_doc_meta *metas, bool *ok);
/* The write transaction, in one thread. After an error: abort. commit ends it either way. */
int lr_disk_begin(struct lr_disk *d);
/* Whether n puts of `bytes` in all may go into the map now, leaving what deletes need: else LR_EOVER. */
int lr_disk_room(struct lr_disk *d, size_t n, uint64_t bytes);
/* Pages of the map, 4 KiB each or more. */
uint64_t lr_disk_pages(const struct lr_disk *d);
int lr_disk_put(struct lr_disk *d, const struct lr_doc *doc);
int lr_disk_del(struct lr_disk *d, const struct lr_digest *key);
int lr_disk_note(struct lr_disk *d, const struct lr_digest *key, uint32_t hits,
                 uint64_t expires_ms);
int lr_disk_commit(struct lr_disk *d);
/* A transaction that changes nothing: what the one before it freed can be used by the next. */
int lr_disk_turn(struct lr_disk *d);
void lr_disk_abort(struct lr_disk *d);
/* What a document of this many bytes takes in the file, pages and both records counted. */
uint64_t lr_disk_charge(size_t head_n, size_t log_n);

/* ---- mdbcheck.c ---- */

/* Reads the file as LMDB would, through pread: 0 when every page that can be reached is sound,
 * LR_ECORRUPT, LR_EVERSION (no LMDB file of our kind), or what reading it returned. */
int lr_mdb_check(const char *path);

/* ---- index.c ---- */

enum { LR_E_LIVE = 1, LR_E_CUT = 2, LR_E_DISK = 4, LR_E_OLD = 8, LR_E_DIRTY = 16 };

/* What the keeper has to do, in the order of the queue. */
struct lr_op {
    struct lr_op *next;
    bool put;      /* struct lr_put; else struct lr_entry, taken out of the index, to be deleted */
    uint8_t tries; /* of a delete */
};
struct lr_put {
    struct lr_op op;
    struct lr_doc *doc; /* one reference */
    void (*done)(void *arg, int rc);
    void *arg;
    int rc;
};
/* A document in memory: a member of the hot pool. */
struct lr_hot {
    struct lr_evict_node node;
    struct lr_entry *e;
    struct lr_doc *doc; /* one reference */
};
struct lr_entry {
    union {
        struct lr_evict_node node; /* LIVE: member of the disk pool */
        struct lr_op op;           /* else: in the keeper's queue, or free (next) */
    } u;
    struct lr_digest key;
    struct lr_hot *hot;     /* owned; NULL: not in memory */
    struct lr_put *pending; /* newest put that is not committed; the queue's */
    uint64_t created_ms, ttl_ms, expires_ms, tenant;
    uint32_t tokens_out, max_tokens, hits; /* tokens saturate */
    uint32_t slot;                         /* in the slab */
    uint16_t choices;
    uint8_t dialect;
    uint8_t flags; /* DISK: disk holds or will hold a version; OLD: it held one before `pending` */
};

struct lr_tenant_use {
    uint64_t tenant, bytes;
    uint64_t soonest_ms; /* no entry of the tenant expires before */
    uint32_t n;          /* entries; 0 = free cell */
};
struct lr_cell {
    uint32_t tag; /* first bytes of the digest */
    uint32_t ref; /* slot + 1; 0 = free */
};
struct lr_index {
    struct lr_cell *cells; /* n_cells, a power of two, linear probing, at most 3/4 full */
    size_t n_cells, n;
    struct lr_entry **chunks; /* LR_CHUNK entries each; never move */
    size_t n_chunks, cap_chunks;
    struct lr_entry *free; /* through u.op.next */
    uint32_t n_slots;      /* handed out so far: slots below exist */
    struct lr_tenant_use *tenants;
    size_t n_tenants, cap_tenants;
};
#define LR_CHUNK 256

void lr_index_free(struct lr_index *ix);
uint64_t lr_index_bytes(const struct lr_index *ix);
struct lr_entry *lr_index_find(const struct lr_index *ix, const struct lr_digest *key);
/* A new zeroed entry, LIVE. NULL: no memory. */
struct lr_entry *lr_index_add(struct lr_index *ix, const struct lr_digest *key);
/* Out of the table; the entry's memory stays until lr_index_recycle. */
void lr_index_cut(struct lr_index *ix, struct lr_entry *e);
void lr_index_recycle(struct lr_index *ix, struct lr_entry *e);
/* By slot, below n_slots: NULL when no live entry is there. */
struct lr_entry *lr_index_at(const struct lr_index *ix, uint32_t slot);
/* What a tenant holds, or NULL when nothing. */
struct lr_tenant_use *lr_index_tenant(const struct lr_index *ix, uint64_t tenant);
/* Room for one tenant more: after it the next lr_index_tenant_add cannot fail. */
int lr_index_tenant_reserve(struct lr_index *ix);
/* Charges e (its node's bytes) to its tenant, and takes the charge back. */
void lr_index_tenant_add(struct lr_index *ix, const struct lr_entry *e);
void lr_index_tenant_sub(struct lr_index *ix, const struct lr_entry *e);

/* ---- shelf.c and keeper.c ---- */

#define LR_BAD_KEPT      8
#define LR_QUEUE_BYTES   LR_MIB(64) /* of documents waiting for the keeper, and one more */
#define LR_STALE_KEEP_MS (30ull * 24 * 3600 * 1000) /* upper bound of the stale-* options */

struct lr_keeper {
    pthread_t thread;
    pthread_cond_t more, idle;
    struct lr_op *head, **tail;
    size_t n_puts, puts_max;
    uint64_t put_bytes;         /* of documents that only the queue may hold */
    size_t batch_ops;           /* of one transaction, after the size of the map */
    uint64_t batch_bytes;
    uint64_t commit_ns, due_ns; /* monotonic: when the batch must go */
    uint64_t seq_in, seq_out;   /* operations queued, finished */
    uint64_t waiters;           /* in lr_answer_flush: no waiting for company */
    int rc;                     /* of the newest batch */
    bool closing, started;
};
struct lr_answer {
    pthread_mutex_t mu;
    struct lr_index ix;
    const struct lr_evict_ops *disk_ops, *hot_ops;
    struct lr_evict *disk_pool, *hot_pool;
    uint64_t bytes, bytes_max;
    uint64_t hot_bytes, hot_max, hot_n;
    struct lr_digest bad[LR_BAD_KEPT]; /* lately found corrupt: the reason of the next miss */
    unsigned n_bad;                    /* so far */
    uint64_t (*wall_ms)(void);
    struct lr_disk *disk; /* NULL: memory only */
    struct lr_keeper k;
};

struct lr_doc *lr_shelf_doc(const struct lr_entry *e);
/* Takes e out of everything; when disk holds it, its deletion is queued. */
void lr_shelf_drop_locked(struct lr_answer *s, struct lr_entry *e);
/* Takes e out of everything without queueing or freeing: the caller then owns its slot. */
void lr_shelf_cut_locked(struct lr_answer *s, struct lr_entry *e);
void lr_shelf_gauges_locked(const struct lr_answer *s);

void lr_keeper_init(struct lr_answer *s);
int lr_keeper_start(struct lr_answer *s);
/* Writes what is queued, ends the thread when there is one, and undoes init. */
void lr_keeper_stop(struct lr_answer *s);
void lr_keeper_push_locked(struct lr_answer *s, struct lr_op *op);

#endif
