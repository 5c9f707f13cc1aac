/* SPDX-License-Identifier: Apache-2.0
 * store/store_int.h - what the files of store/ share.
 *
 *   store.c    the calls: ids to views, drafts to puts       room.c     memory for images
 *   index.c    shards: entries, visibility, pins, pairs      limits.c   how much memory there is
 *   leave.c    who leaves memory, disk, a quota              object.c   headers
 *   spaces.c   tenants, namespaces, epochs                   chain.c    keys
 *   disk.c     directory, segments, threads                  segment.c  bytes of segments
 *   queue.c    the law, and what waits for the writer        writer.c   appends to segments
 *   load.c     from disk to memory                           recover.c  segments to index
 *   compact.c  room on disk                                  vfs.c      files
 *   move.c     an operator's hand                            remote.c   a Redis that machines share
 *
 * Locks, outermost first; a thread that holds one takes only later ones:
 *   1 shard.mu     one shard at a time
 *   2 disk.mu      queue, segments, waiters
 *   3 spaces.mu, room.mu, lane.mu (remote.c), ask.mu (ask.c), pool and ring locks: leaves
 * No lock is held during I/O, during a copy or while a sum is computed.
 */
#ifndef LR_STORE_STORE_INT_H
#define LR_STORE_STORE_INT_H

#include "evict/evict.h"
#include "store/store.h"
#include "store/vfs.h"

#include <stdatomic.h>

#define LR_OBJECT_MAGIC "LKVO"

enum lr_role { LR_ROLE_NONE = 0, LR_ROLE_BYTES = 1, LR_ROLE_META = 2 };

static inline enum lr_role lr_role_of(const struct lr_digest *id)
{
    return (enum lr_role)(id->b[31] & 3);
}
/* Uniform; the two halves of a pair have the same. */
static inline uint64_t lr_id_hash(const struct lr_digest *id)
{
    return lr_le64(id->b);
}
static inline uint64_t lr_round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- object.c ---- */

/* Puts the sums of payload's parts, and those over them, into an encoded header of n bytes. */
void lr_object_seal(uint8_t *head, size_t n, const uint8_t *payload);
/* The same in steps: the sums of parts from number `from` on that end within `filled` bytes, and at
 * last those over them. Returns the number of the next part. */
uint32_t lr_object_sum(uint8_t *head, size_t n, const uint8_t *payload, uint32_t from, uint64_t filled);
void lr_object_close(uint8_t *head, size_t n);
/* Puts one wrong bit right in an encoded header of n bytes; 8 n sums of it. */
bool lr_object_mend(uint8_t *head, size_t n);

/* ---- chain.c ---- */

/* Framed, as lr_blake3_add_str. */
void lr_digest_text(struct lr_blake3 *h, struct lr_str s);

/* ---- limits.c ---- */

/* Bytes of memory this process may use, 0 when nothing says so. root: "" (tests: a directory). */
uint64_t lr_limits_memory(const char *root);

/* ---- room.c ---- */

#define LR_ROOM_GRAIN LR_KIB(4)

struct lr_room;
/* bytes: at least 16 granules. */
int lr_room_open(struct lr_room **out, uint64_t bytes);
void lr_room_close(struct lr_room *);
/* n bytes, 64-aligned (LR_ROOM_GRAIN-aligned above 8 KiB); NULL: no such hole. */
void *lr_room_take(struct lr_room *, size_t n);
void lr_room_give(struct lr_room *, void *p);
/* What n bytes take in truth. */
size_t lr_room_charge(size_t n);
uint64_t lr_room_used(struct lr_room *);
uint64_t lr_room_max(const struct lr_room *);
bool lr_room_sound(struct lr_room *);

/* ---- segment.c: the bytes of docs/formats/segment.md ---- */

#define LR_LARGE          LR_KIB(64) /* payloads from here on are page-aligned in images and files */
#define LR_RECORD_HEAD    64u
#define LR_RECORD_MARK    64u
#define LR_RECORD_NOTE    192u /* bytes of a record that is no object */
#define LR_SEGMENT_HEAD   4096u
#define LR_SEGMENT_FOOT   64u
#define LR_RECORD_MAX     (LR_OBJECT_VALUE_MAX + LR_OBJECT_HEAD_MAX + 3 * LR_VFS_ALIGN)

enum lr_record_type {
    LR_RECORD_NONE = 0, /* in the queue only: nothing to write */
    LR_RECORD_OBJECT = 1,
    LR_RECORD_GONE = 2,   /* the id was deleted */
    LR_RECORD_PIN = 3,    /* value: until, ms; 0 ends the pin */
    LR_RECORD_EPOCH = 4,  /* id: of the space; value: epoch */
    LR_RECORD_EXPIRE = 5, /* value: expiry, ms; 0 never */
    LR_RECORD_PAD = 6,
    LR_RECORD_WIPE = 7, /* every record of a lesser or equal sequence number is dead */
};

/* Offsets in an image: what memory, files and the writer share. */
struct lr_image {
    size_t payload; /* after record head and object header */
    size_t total;   /* multiple of 64; of LR_VFS_ALIGN when large; the mark is its last 64 bytes */
    bool large;
};
struct lr_image lr_image_of(size_t head, uint64_t payload);

struct lr_record {
    enum lr_record_type type;
    uint64_t total, seq;
    uint32_t head;    /* bytes of object header; 0 when no object */
    uint64_t payload; /* bytes */
    struct lr_digest id;
    uint64_t value;
};
/* Head and mark into an image of r->total bytes whose middle is in place (notes: all of it). */
void lr_record_write(const struct lr_record *r, uint64_t salt, uint8_t *image);
/* A filler of n bytes (multiple of 64). */
void lr_record_pad(size_t n, uint64_t salt, uint8_t *out);
/* Reads a head of at least LR_RECORD_HEAD bytes. id and value of notes are not in it. */
int lr_record_head(const uint8_t *p, uint64_t salt, struct lr_record *r);
/* Completes r from the whole image: mark, header, id; the payload too when `deep`. *o may be NULL. */
int lr_record_check(const uint8_t *image, uint64_t salt, bool deep, struct lr_record *r,
                    struct lr_object *o);
/* Puts one wrong bit right in 64 bytes that end with the sum of those before: a head, mark or foot. */
bool lr_block_mend(uint8_t *p, uint64_t salt);
/* The same for a note of LR_RECORD_NOTE bytes whose head is sound, wherever the bit is. */
bool lr_note_mend(uint8_t *p, uint64_t salt);
bool lr_blank(const uint8_t *p, size_t n); /* all zeros */
/* All parts of a payload against the sums of its header. */
bool lr_payload_ok(const uint8_t *head, size_t head_n, const struct lr_object *o,
                   const uint8_t *payload);

struct lr_segment_info {
    uint32_t number;
    uint64_t salt;  /* seeds sums of this file, so that no payload can imitate a record */
    uint64_t since; /* sequence number given last when it was made: files before it hold no greater */
};
void lr_segment_head(const struct lr_segment_info *, uint8_t out[LR_SEGMENT_HEAD]);
int lr_segment_head_read(const uint8_t p[LR_SEGMENT_HEAD], struct lr_segment_info *out);

/* A row of a footer: what the index wants to know of a record. Texts point into the footer. */
struct lr_row {
    enum lr_record_type type;
    uint64_t off, total, seq;
    struct lr_digest id;
    uint64_t value;  /* of notes */
    uint32_t head;
    struct lr_object o; /* kind, tenant, space, epoch, name, fidelity, times, cost, payload, tokens,
                           position; the rest is zero */
};
int lr_row_add(struct lr_buf *b, const struct lr_row *);
/* Takes the next row off *rest: 1; 0 at the end; LR_ECORRUPT. */
int lr_row_next(struct lr_str *rest, struct lr_row *out);
/* The last LR_SEGMENT_FOOT bytes of a sealed file. */
void lr_foot_write(uint64_t salt, uint64_t end, struct lr_str rows, uint8_t out[LR_SEGMENT_FOOT]);
struct lr_foot {
    uint64_t end; /* where records end and rows begin */
    uint64_t rows, sum;
};
int lr_foot_read(const uint8_t p[LR_SEGMENT_FOOT], uint64_t salt, struct lr_foot *out);

/* Memory that direct I/O takes; NULL: out of memory. Give base back with lr_free. */
uint8_t *lr_pages(size_t n, void **base);

/* ---- what lives in memory ---- */

struct lr_segment;
struct lr_load;
struct lr_disk;

/* An image in the room. The index, readers and the writer each hold references. */
struct lr_block {
    atomic_uint refs;
    struct lr_store *store;
    uint8_t *image;
    size_t head;    /* bytes of object header, at image + LR_RECORD_HEAD */
    size_t payload; /* offset of the payload */
    uint64_t bytes; /* of the payload */
    size_t total;   /* of the image */
};

/* What is known of one id; in its shard's table from its first put (or row) until it is in no tier.
 * Guarded by its shard's mu. */
struct lr_entry {
    struct lr_digest id;
    struct lr_entry *chain;
    struct lr_evict_node mem, disk; /* in their strategies while mem_listed, disk_listed */
    struct lr_block *block;         /* NULL: not in memory */
    struct lr_load *load;           /* on its way, or NULL */
    struct lr_segment *seg;         /* NULL: not on disk */
    uint64_t off, disk_total;       /* in seg; bytes of the record */
    uint64_t seq;                   /* of the put */
    uint64_t pin_seq, expire_seq;   /* of the newest notes, 0 none */
    uint64_t gone_seq;              /* while recovering: newest GONE */
    uint64_t created_ms, expires_ms, pin_ms;
    uint64_t payload; /* bytes */
    uint32_t head;    /* bytes of object header */
    uint32_t epoch;
    uint16_t tenant, space; /* indices of lr_store's tables */
    uint16_t fidelity;      /* never 0 */
    uint8_t kind;
    bool mem_listed, disk_listed;
    bool leaving; /* memory is waiting for the writer to let it go */
    bool queued;  /* the writer has it */
    bool used;    /* read since its tenant's hand passed */
    bool no_disk; /* memory only, as its put said */
    bool saved;   /* at the end: it was given to the writer */
    float cost;
    uint32_t name_n;
    char *name;                     /* opaque: the client's key; owned */
    struct lr_entry *older, *newer; /* of its tenant, in this shard */
};

struct lr_owned { /* a tenant's entries in one shard, by age */
    struct lr_entry *oldest, *newest;
};

struct lr_filters { /* the newest filter first; older ones stay for readers until close */
    struct lr_cuckoo *filter;
    size_t room;
    struct lr_filters *older;
};

struct lr_shard {
    pthread_mutex_t mu; /* guards all below but the atomics, and all entries of the shard */
    struct lr_entry **bucket;
    size_t n;
    unsigned bits; /* log2 of buckets; bucket: the hash's bits after the shard's */
    struct lr_evict *mem, *disk;
    _Atomic(struct lr_filters *) filters; /* of all ids here; written under mu, read by anybody */
    _Atomic uint64_t mem_bytes, disk_bytes; /* charged to the strategies */
    struct lr_owned *owned;                 /* LR_TENANTS */
    uint64_t swept;                         /* bucket where the sweep goes on */
};

#define LR_TENANTS 4096u /* index 0: all that found no slot */
#define LR_SPACES  4096u /* index 0: none (content) */

struct lr_tenant {
    uint64_t id;
    _Atomic uint64_t bytes, bytes_max;
};

struct lr_space {
    struct lr_digest id; /* of tenant and name */
    char *name;          /* owned; NULL until a put or row names it */
    size_t name_n;
    uint64_t tenant;
    _Atomic uint32_t epoch;
    uint64_t seq; /* of its EPOCH note */
};

struct lr_store {
    struct lr_store_opts opts; /* defaults filled in */
    const struct lr_evict_ops *strategy;
    struct lr_room *room;
    struct lr_shard *shards;
    unsigned n_shards, shard_bits;
    struct lr_disk *disk; /* NULL: none */
    struct lr_remote *remote; /* NULL: none */
    _Atomic uint64_t seq, pinned, entries;
    _Atomic uint64_t count[LR_STORE_COUNT];
    pthread_mutex_t spaces_mu; /* guards making slots of the two tables; a leaf */
    struct lr_tenant *tenants;
    struct lr_space *spaces;
    _Atomic uint32_t n_tenants, n_spaces; /* slots in use: below them a slot stays what it is */
};

static inline void lr_count(struct lr_store *s, enum lr_store_count c)
{
    atomic_fetch_add_explicit(&s->count[c], 1, memory_order_relaxed);
}
uint64_t lr_now_ms(const struct lr_store *);

/* ---- blocks and views (view.c) ---- */

/* Room for an image, evicting; one reference. LR_EOVER, LR_ENOMEM. */
int lr_block_new(struct lr_store *, size_t head, uint64_t payload, struct lr_block **out);
void lr_block_ref(struct lr_block *);
void lr_block_unref(struct lr_block *); /* NULL is fine */
/* A view of b whose reference it takes over, on failure too. Checks the header against id and want,
 * the payload when `verify`; counts what is wrong. LR_ECORRUPT: these bytes are damaged; LR_ENOENT:
 * they are another's; LR_ENOMEM. */
int lr_view_make(struct lr_block *b, const struct lr_digest *id, const struct lr_object *want,
                 bool verify, struct lr_view **out);
/* Its parts are for lr_view_good to sum. */
void lr_view_set_lazy(struct lr_view *, bool lazy);
/* Damaged bytes in memory: this copy goes, if it still is what id has. b: alive or not. */
void lr_block_disown(struct lr_store *, const struct lr_block *b, const struct lr_digest *id);
void lr_view_disown(const struct lr_view *);

/* ---- index.c; _locked: the shard's mu is held ---- */

int lr_index_open(struct lr_store *);
void lr_index_close(struct lr_store *);
struct lr_shard *lr_shard_of(const struct lr_store *, const struct lr_digest *id);
/* False: surely not here. Needs no lock. */
bool lr_index_maybe(const struct lr_store *, const struct lr_digest *id);
struct lr_entry *lr_find_locked(const struct lr_store *, struct lr_shard *,
                                const struct lr_digest *id);
/* The entry of id, made when absent. NULL: out of memory. */
struct lr_entry *lr_entry_locked(struct lr_store *, struct lr_shard *, const struct lr_digest *id);
/* What a reader may see, else NULL and why; what is expired or of an older epoch is dropped. */
struct lr_entry *lr_visible_locked(struct lr_store *, struct lr_shard *, const struct lr_digest *id,
                                   enum lr_store_count *why);
/* Fills e in from a header (id, tenant, ... cost). The name is copied. LR_ENOMEM. */
int lr_entry_describe_locked(struct lr_store *, struct lr_shard *, struct lr_entry *,
                             const struct lr_object *o, uint32_t head);
/* A tier gets or loses e. The index takes over the block's reference. */
void lr_enter_mem_locked(struct lr_store *, struct lr_shard *, struct lr_entry *, struct lr_block *);
void lr_leave_mem_locked(struct lr_store *, struct lr_shard *, struct lr_entry *);
void lr_enter_disk_locked(struct lr_store *, struct lr_shard *, struct lr_entry *,
                          struct lr_segment *, uint64_t off);
void lr_leave_disk_locked(struct lr_store *, struct lr_shard *, struct lr_entry *);
/* At the end: what is in memory alone goes to the writer, waiting for room in its queue. */
void lr_index_save(struct lr_store *);
/* Out of all tiers and the table, its pair's other half too. e is gone. */
void lr_drop_locked(struct lr_store *, struct lr_shard *, struct lr_entry *);
/* Drops e if it is in no tier and nothing is on its way. */
void lr_drop_if_empty_locked(struct lr_store *, struct lr_shard *, struct lr_entry *);
/* It was read. */
void lr_touch_locked(struct lr_store *, struct lr_shard *, struct lr_entry *);
void lr_entry_row_locked(const struct lr_store *, const struct lr_entry *, struct lr_store_entry *);
void lr_set_pin_locked(struct lr_store *, struct lr_shard *, struct lr_entry *, uint64_t until_ms);
/* After recovery: what is not there after all goes; so does all up to the number `wiped`. */
void lr_index_settle(struct lr_store *, uint64_t wiped);
/* Expired objects and pins in the next `buckets` buckets of each shard. */
void lr_index_sweep(struct lr_store *, size_t buckets);

/* ---- leave.c: who leaves ---- */

/* n bytes of the room, making space; NULL: none can be made. */
void *lr_make_room(struct lr_store *, size_t n);
/* While more than 7/8 of memory is taken: eviction ahead of need, writing first what has no copy. */
void lr_clean_memory(struct lr_store *);
/* Evicts from disk until at most max bytes of records are live. */
void lr_shrink_disk(struct lr_store *, uint64_t max);
void lr_enforce_quota(struct lr_store *, uint16_t tenant);

/* ---- spaces.c ---- */

int lr_spaces_open(struct lr_store *);
void lr_spaces_close(struct lr_store *);
uint16_t lr_tenant_slot(struct lr_store *, uint64_t id);
void lr_space_id(uint64_t tenant, struct lr_str name, struct lr_digest *out);
/* LR_EOVER: all slots are taken; LR_ENOMEM. An empty name is a space as well. */
int lr_space_slot(struct lr_store *, uint64_t tenant, struct lr_str name, uint16_t *out);
int lr_space_by_id(struct lr_store *, const struct lr_digest *id, uint16_t *out);

/* ---- disk.c ---- */

struct lr_segment {
    struct lr_segment_info info;
    struct lr_vfile *file;
    char *path;             /* owned */
    atomic_uint refs;       /* the list's, and one a load or walk */
    _Atomic uint64_t live;  /* bytes of records that entries point to: above 0 it stays listed */
    uint64_t size;          /* bytes of the file; the writer's until sealed */
    uint64_t min_seq;       /* of its values and pins: what a later note may have to end */
    bool sealed;            /* nothing more is written */
    bool footed;            /* with a footer */
    unsigned rest;          /* rounds in which compaction leaves it alone */
    struct lr_segment *next;
};

struct lr_wait { /* someone waits for a sync; guarded by disk.mu */
    unsigned refs;
    bool done;
    int rc;
};

/* What the writer has to do. It is the writer's once it is queued. */
struct lr_item {
    struct lr_item *next;
    struct lr_record r;      /* type NONE: a barrier */
    struct lr_block *block;  /* a value: a reference */
    uint8_t *image;          /* a move: in base, owned */
    void *base;
    struct lr_segment *from; /* a move: a reference, and where it lies there */
    uint64_t from_off;
    struct lr_wait *wait; /* or NULL */
    uint64_t queued_ns;
    struct lr_segment *seg; /* where it was written, and where there; once it is */
    uint64_t off;
    bool forced; /* never late */
    bool opaque; /* its number must be on record, as a value or as GONE */
    bool again;  /* its number is on record already: a demotion, a move */
};

struct lr_disk {
    struct lr_store *store;
    const struct lr_vfs *vfs;
    struct lr_vfs *system; /* owned, when vfs is it */
    struct lr_vfs_probe probe;
    const char *dir;
    int lock_fd; /* -1: none */
    struct lr_pool *pool;
    pthread_t writer, keeper;
    bool writing, keeping; /* threads to join */

    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t work, tick, done; /* for the writer; the keeper; who waits */
    struct lr_item *head, **tail;
    size_t queue_bytes, queue_notes; /* until written; until synced */
    size_t notes_max;                /* of queue_notes */
    struct lr_item *wipe;            /* the WIPE in the queue, which may still grow, or NULL */
    bool closing, kicked; /* closing: nothing new is queued */
    bool rest;            /* the keeper ends */
    struct lr_segment *segments;
    uint32_t last; /* number of the newest segment; the writer's, once it runs */
    uint64_t ghost_seq; /* least min_seq of unlinked segments whose names may come back */

    _Atomic uint64_t bytes; /* of all files */
    atomic_bool sick;       /* the last write or sync failed */
    uint64_t recover_ns, recover_bytes;
};

/* Directory, files, budget; then, with the index there, recovery and threads. close undoes both. */
int lr_tier_open(struct lr_store *, struct lr_err *err);
int lr_tier_start(struct lr_store *, struct lr_err *err);
void lr_tier_close(struct lr_store *);
void lr_tier_kick(struct lr_store *);
void lr_tier_stats(struct lr_store *, struct lr_store_stats *out);
/* vfs->open and a struct with one reference, in no list. */
int lr_segment_open(struct lr_disk *, uint32_t number, bool create, struct lr_segment **out);
void lr_segment_unref(struct lr_disk *, struct lr_segment *);
/* Lists it; the list takes the reference over. */
void lr_segment_list(struct lr_disk *, struct lr_segment *);
/* Of the sealed segments the one with the least part live, if that is below `below` of it, with a
 * reference; NULL: none. */
struct lr_segment *lr_segment_emptiest(struct lr_disk *, double below);
/* The least min_seq of all segments but one. */
uint64_t lr_segment_min_seq(struct lr_disk *, const struct lr_segment *but);
/* Unlinks and unlists a sealed segment without live records. On an error it stays listed. */
int lr_segment_retire(struct lr_disk *, struct lr_segment *);

/* ---- queue.c ---- */

/* wait (may be NULL): a handle for lr_tier_wait. LR_ENOMEM. */
int lr_item_new(struct lr_item **out, struct lr_wait **wait);
/* Of an item, or NULL, that was never queued. Its wait handle goes too. */
void lr_item_free(struct lr_item *);
/* Queues e's block, which e was just given, or the GONE in its place. it is the queue's. */
void lr_queue_value_locked(struct lr_store *, struct lr_entry *e, struct lr_item *it);
/* Queues e's block whose number is on record. False: not now; *wait is NULL then. */
bool lr_queue_copy_locked(struct lr_store *, struct lr_entry *e, struct lr_wait **wait);
/* Queues a note. it is the queue's. */
void lr_queue_note(struct lr_store *, struct lr_item *it, enum lr_record_type,
                   const struct lr_digest *id, uint64_t seq, uint64_t value);
/* The same with an item of its own. LR_ENOMEM. wait may be NULL. */
int lr_tier_note(struct lr_store *, enum lr_record_type, const struct lr_digest *id, uint64_t seq,
                 uint64_t value, struct lr_wait **wait);
/* Queues a copy of the record r that lies at off in from: image of r->total bytes inside base, which
 * the writer takes over (lr_free), on failure too. Waits while the queue is full: for the keeper. */
int lr_tier_move(struct lr_store *, const struct lr_record *r, uint8_t *image, void *base,
                 struct lr_segment *from, uint64_t off);
/* 0: synced. LR_ETIMEOUT; LR_EBUSY (the queue was full), LR_EIO, LR_ENOSPC. Consumes w. */
int lr_tier_wait(struct lr_store *, struct lr_wait *w, uint64_t deadline);
/* A wait for all that was queued before: 0 only when each of these is on record or was dropped for
 * good. */
int lr_tier_barrier(struct lr_store *, struct lr_wait **out);
/* Room for `bytes` in the half of the queue that demotion may use. */
bool lr_tier_has_queue_room(struct lr_store *, size_t bytes);

/* For the writer. A value becomes the note that it is gone. */
void lr_item_into_note(struct lr_item *);
/* Lets go of what it was written from, and of its bytes in the queue's account. */
void lr_item_lighten(struct lr_disk *, struct lr_item *);
/* Who waits for it learns rc. */
void lr_item_tell(struct lr_disk *, struct lr_item *, int rc);
/* It is over. */
void lr_item_end(struct lr_disk *, struct lr_item *, int rc);

/* ---- writer.c ---- */

int lr_writer_start(struct lr_disk *);
/* Writes what is queued, seals, joins. */
void lr_writer_stop(struct lr_disk *);

/* ---- recover.c ---- */

/* Calls fn for each sound record: from the footer if there is one, else from the records
 * themselves, payloads checked (deep). fn's rows die with the call. *doubt becomes true when a
 * record was lost of which nothing is known. */
int lr_segment_walk(struct lr_disk *, struct lr_segment *,
                    int (*fn)(void *arg, const struct lr_row *), void *arg, bool *doubt);
/* Opens, reads and lists every segment of the directory, fills the index. */
int lr_recover(struct lr_disk *);
/* Rows and foot at the end of the file, synced. */
int lr_segment_foot(struct lr_disk *, struct lr_segment *, struct lr_str rows);

/* ---- compact.c ---- */

/* One round: expired things, demotion, eviction from disk, at most one segment emptied. */
void lr_tier_keep(struct lr_disk *);

/* ---- load.c ---- */

/* Starts or joins the load of e, f (may be NULL) waiting for it. LR_EBUSY, LR_ENOMEM: not started. */
int lr_load_locked(struct lr_store *, struct lr_shard *, struct lr_entry *, struct lr_fetch *f);
/* The same for an id of content that no tier of ours has. LR_ENOENT: the remote tier has not got it
 * either, as we know. */
int lr_load_remote_locked(struct lr_store *, struct lr_shard *, const struct lr_digest *id,
                          struct lr_fetch *f);

/* ---- remote.c ---- */

#define LR_REMOTE_VALUE_MAX LR_MIB(64) /* of header and payload; larger objects do not go there */

enum lr_errand_kind { LR_ERRAND_GET, LR_ERRAND_SET, LR_ERRAND_DEL, LR_ERRAND_EXISTS };

struct lr_errand { /* a lane's from submit until done */
    struct lr_errand *next;
    enum lr_errand_kind kind;
    struct lr_digest id;
    struct lr_block *block; /* SET: a reference */
    /* GET, EXISTS: called once, no lock held. rc 0: it is there, and (GET) checked, in b with a
     * reference; LR_ENOENT: it is not; LR_ECORRUPT: what is there is not it; else: no answer. */
    void (*done)(struct lr_errand *, int rc, struct lr_block *b);
};

int lr_remote_open(struct lr_store *, struct lr_err *err);
void lr_remote_close(struct lr_store *);
/* Queues a GET or EXISTS. LR_ENOENT: it was not there a moment ago; LR_EBUSY. e stays the caller's
 * then. May be called under a shard's lock, as may the others. */
int lr_remote_ask(struct lr_store *, struct lr_errand *e);
/* Sends b, which is content; removes an id. Dropped and counted when that is not possible. */
void lr_remote_save(struct lr_store *, const struct lr_digest *id, struct lr_block *b);
void lr_remote_del(struct lr_store *, const struct lr_digest *id);
void lr_remote_stats(struct lr_store *, struct lr_store_stats *out);

#endif
