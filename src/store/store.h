/* SPDX-License-Identifier: Apache-2.0
 * store/store.h - KV objects: from a 32-byte id to bytes that are right, or to a miss.
 *
 *   lr_store_id_*        what an object is called
 *   lr_store_put         in:   lr_draft_open -> write into lr_draft_bytes -> lr_draft_commit
 *   lr_store_get         out:  a pinned view (lr_view_*), verified; lr_view_put gives it back
 *   lr_store_read        out:  ranges copied to the caller, verified on the way
 *   lr_store_prefix      how many leading keys are here
 *
 * Promises
 *   - A read returns the bytes of one complete, verified put under that id, or a miss. Which miss
 *     is counted by reason (lr_store_stats): absent, expired, epoch, corrupt, late, ...
 *   - A put that returned 0 is in memory and visible to every later read; no read ever sees a part
 *     of it. It is on disk within 250 ms, or its write was dropped and counted; with LR_PUT_DURABLE
 *     it returned 0 only after the disk said so.
 *   - No read ever sees a value older than the newest that was acknowledged: not after an eviction,
 *     a dropped write, a full or failing disk, a close. After a crash: than the newest of some
 *     moment since the last sync (250 ms before, while the disk works), or than a durable one.
 *   - A view stays valid and unchanged until it is given back, whatever is put, deleted, evicted or
 *     closed to newcomers meanwhile.
 *   - No call waits for a disk beyond its deadline, and one whose deadline is 0 never does.
 *   - A bad, slow or full disk makes misses and drops, never an error of a put to memory.
 *
 * Deadlines are points of lr_clock_mono_ns(); 0 (or the past): what memory holds now, no waiting;
 * LR_FOREVER: none. Late is a miss (LR_ETIMEOUT), and what was being loaded still lands in memory
 * for the next reader. Wall times are Unix milliseconds.
 *
 * Threads. Every function may be called from any thread at any time between open and close, with
 * no lock of the caller's held that a callback of lr_store_fetch takes. A draft or view belongs to
 * one thread at a time.
 *
 * Errors: LR_ENOENT is a miss; LR_ETIMEOUT a late one. LR_EOVER: larger than value_max, or no room
 * can be made (everything else is pinned). LR_ENOMEM: the small heap is out. Outputs are untouched
 * on error.
 */
#ifndef LR_STORE_STORE_H
#define LR_STORE_STORE_H

#include "base/base.h"

#define LR_FOREVER UINT64_MAX

/* ---- objects ---- (format: docs/formats/object.md) */

#define LR_OBJECT_PARTS_MAX  4096u          /* rows of the table of parts */
#define LR_OBJECT_HEAD_MAX   (LR_KIB(128))  /* bytes of header, table included */
#define LR_OBJECT_VALUE_MAX  (LR_MIB(512))  /* bytes of payload */
#define LR_OBJECT_NAME_MAX   4096u          /* bytes of an opaque key */
#define LR_OBJECT_TEXT_MAX   255u           /* bytes of model, engine, policy, space */
#define LR_OBJECT_DIMS_MAX   8u
#define LR_OBJECT_BLOCK      LR_KIB(256)    /* parts of an object whose writer names none */
#define LR_OBJECT_LOSSLESS   UINT16_MAX     /* fidelity of what decodes to the very bytes */

enum lr_object_kind { LR_OBJECT_CONTENT = 0, LR_OBJECT_OPAQUE = 1 };
enum lr_object_repr { LR_REPR_KV = 0, LR_REPR_X = 1 };
enum lr_object_phase { LR_PHASE_PREFILL = 0, LR_PHASE_DECODE = 1 };

/* Element types; the numbers are those LMCache sends. */
enum lr_dtype {
    LR_DTYPE_NONE = 0,
    LR_DTYPE_F16 = 2,
    LR_DTYPE_BF16 = 3,
    LR_DTYPE_F32 = 4,
    LR_DTYPE_F64 = 5,
    LR_DTYPE_U8 = 6,
    LR_DTYPE_E4M3 = 7,
    LR_DTYPE_E5M2 = 8,
};

/* How the bytes of the payload are laid out. Two layouts that differ in any member are different. */
struct lr_layout {
    struct lr_str engine; /* "larder", "vllm" ...; <= LR_OBJECT_TEXT_MAX */
    uint32_t format;      /* the engine's number for the order of dimensions */
    uint32_t dtype;       /* enum lr_dtype */
    uint32_t n_dims;
    uint32_t shape[LR_OBJECT_DIMS_MAX];
    uint32_t rank;    /* world << 24 | global rank << 16 | local world << 8 | local rank */
    uint32_t version; /* of the engine's block layout */
};

/* What a header says. Texts point into the caller's memory (or into the header that was decoded).
 * All-zero members are absent. */
struct lr_object {
    enum lr_object_kind kind;
    struct lr_digest id;   /* lr_store_id_*; what the store files it under */
    uint64_t tenant;       /* 0: none */
    struct lr_str space;   /* opaque: namespace, <= LR_OBJECT_TEXT_MAX */
    uint32_t epoch;        /* opaque: the namespace's epoch at the put; the store fills it in */
    struct lr_str name;    /* opaque: the client's key, <= LR_OBJECT_NAME_MAX */
    struct lr_layout layout;
    struct lr_str model;
    uint32_t tokens;       /* tokens that the payload is of */
    uint64_t position;     /* absolute position of the first of them */
    struct lr_digest key;  /* content: chain key (the digest of the whole prefix, salted) */
    struct lr_digest prev; /* content: chain key of the block before */
    struct lr_digest prefix;    /* digest of the prefix without salt, for other stores */
    struct lr_digest token_ids; /* BLAKE3 of the block's token ids as big-endian u32 */
    uint32_t repr, phase;  /* enum lr_object_repr, lr_object_phase */
    struct lr_str policy;  /* the KV policy that chose the rows, when one did */
    uint32_t codec;        /* enum lr_codec: what each part is wrapped in */
    uint32_t fidelity;     /* 1..LR_OBJECT_LOSSLESS; 0 reads as lossless */
    uint64_t variant;      /* of a chunk computed behind another prefix */
    uint64_t created_ms, expires_ms; /* expires 0: never */
    float cost;            /* seconds that computing it again takes; 0: lr_store_cost guesses */
    uint64_t payload;      /* bytes stored */
    uint32_t n_parts;
};

/* A row of the table: parts tile the payload, in order, without gaps. A layer, for KV. */
struct lr_object_part {
    uint64_t offset, bytes; /* in the payload as stored */
    uint64_t sum;           /* xxh3, seed 0, of those bytes */
};

/* Why bytes that are here are not the bytes that were asked for. */
enum lr_mismatch {
    LR_MATCH = 0,
    LR_MISMATCH_KIND,
    LR_MISMATCH_KEY,
    LR_MISMATCH_TENANT,
    LR_MISMATCH_MODEL,
    LR_MISMATCH_LAYOUT,
    LR_MISMATCH_TOKENS,   /* token ids, count, position or previous key */
    LR_MISMATCH_FORM,     /* representation, policy, phase or variant */
    LR_MISMATCH_FIDELITY, /* lower than asked for */
};

/* Bytes of the header of o with o->n_parts rows; LR_EOVER, LR_EINVAL when o breaks a maximum. */
int lr_object_size(const struct lr_object *o, size_t *out);
/* Writes exactly that many bytes to out; parts: o->n_parts rows that tile o->payload, sums set. */
int lr_object_encode(const struct lr_object *o, const struct lr_object_part *parts, uint8_t *out);
/* Reads a header at p; n may reach beyond it. Texts of *o point into p. *bytes (may be NULL): its
 * length. LR_ECORRUPT: damaged or cut; LR_EVERSION: another major, or a field that must not be
 * skipped. Reads each byte at most twice and allocates nothing. */
int lr_object_decode(const uint8_t *p, size_t n, struct lr_object *o, size_t *bytes);
/* Row i (< n_parts) of a header that lr_object_decode accepted; n is its exact length. */
struct lr_object_part lr_object_part(const uint8_t *head, size_t n, const struct lr_object *o, uint32_t i);
/* LR_MATCH when `have` may serve who wants `want`: all of identity equal, fidelity no lower. The
 * wanted prev, prefix and token_ids are compared when they are not zero. */
enum lr_mismatch lr_object_match(const struct lr_object *have, const struct lr_object *want);
/* "layout" for LR_MISMATCH_LAYOUT. Static text. */
const char *lr_mismatch_name(enum lr_mismatch m);

/* ---- keys ---- */

#define LR_CHAIN_BLOCK 256 /* tokens a block, LMCache's default */

/* The link before the first block. With an empty salt: BLAKE3(int64_be 0, u32_be 0), which is what
 * LMCache's multi-process mode uses; with one: no chain that starts from another salt ever meets
 * it. */
void lr_chain_first(struct lr_str salt, struct lr_digest *out);
/* The link after a block of n tokens: BLAKE3(prev, u32_be tokens). out may be prev. */
void lr_chain_next(const struct lr_digest *prev, const uint32_t *tokens, size_t n,
                   struct lr_digest *out);
/* Links of all complete blocks of n tokens, at most max, into out; returns how many. block > 0. */
size_t lr_chain_keys(struct lr_str salt, const uint32_t *tokens, size_t n, size_t block,
                     struct lr_digest *out, size_t max);
/* BLAKE3 of token ids as big-endian u32: the token_ids of a header. */
void lr_chain_tokens(const uint32_t *tokens, size_t n, struct lr_digest *out);

/* The id of a content-addressed object: kind, tenant, model, layout, repr, phase, policy, variant
 * and chain key; not codec and fidelity. */
void lr_store_id_content(const struct lr_object *o, struct lr_digest *out);
/* The id of an opaque key. LMCache's redis connector writes two keys for one object, STEMkv_bytes
 * and STEMmetadata: where STEM looks like one of its keys (three '@' or more) both get ids that
 * differ in two bits only, and the store treats them as a pair: half a pair is absent, and they
 * leave together. */
void lr_store_id_opaque(uint64_t tenant, struct lr_str space, struct lr_str name,
                        struct lr_digest *out);
/* A guess of what prefilling `tokens` at `position` costs, in arbitrary but consistent units. */
float lr_store_cost(uint64_t tokens, uint64_t position, uint64_t bytes);

/* ---- codecs ---- (format: docs/formats/codec.md) */

enum lr_codec { LR_CODEC_RAW = 0, LR_CODEC_LZ4 = 1, LR_CODEC_ZSTD = 2, LR_CODEC_Q8 = 3 };

/* "zstd"; NULL for numbers that are none. Static text. */
const char *lr_codec_name(uint32_t codec);
/* False: no such codec, or compiled without its library. */
bool lr_codec_has(uint32_t codec);
/* Of what is decoded: LR_OBJECT_LOSSLESS, or less. */
uint32_t lr_codec_fidelity(uint32_t codec);
/* Upper bound of lr_codec_encode's output for n bytes, its frame included; 0: n is too large. */
size_t lr_codec_bound(uint32_t codec, size_t n);
/* Wraps n bytes at in into out (cap bytes of room); *used: bytes written. dtype: what q8 rounds.
 * LR_EUNSUPPORTED: no such codec here, or a dtype it cannot take; LR_EOVER: cap is too small;
 * LR_EINVAL: n is no whole number of elements, or an element is not finite. */
int lr_codec_encode(uint32_t codec, uint32_t dtype, const void *in, size_t n, void *out, size_t cap,
                    size_t *used);
/* What a frame says it decodes to, without decoding: bytes. */
int lr_codec_size(const void *in, size_t n, size_t *out);
/* Unwraps a frame into exactly `cap` bytes; LR_ECORRUPT unless it decodes to just that many. */
int lr_codec_decode(const void *in, size_t n, void *out, size_t cap);

/* ---- cuckoo filter ---- */

/* "Surely absent" in two loads. Adds and dels are serialised by the caller; has() may run beside
 * them on any thread, and never says false for a key that is in from before its call until after
 * it. Deletes must be of keys that were added. */
struct lr_cuckoo;
/* Room for about n keys (8 % more in practice); 2 bytes a key at 95 % load. */
int lr_cuckoo_open(struct lr_cuckoo **out, size_t n);
void lr_cuckoo_close(struct lr_cuckoo *);
/* `hash`: uniform 64 bits. LR_EOVER when no place can be found: the filter is as before. */
int lr_cuckoo_add(struct lr_cuckoo *, uint64_t hash);
void lr_cuckoo_del(struct lr_cuckoo *, uint64_t hash);
bool lr_cuckoo_has(const struct lr_cuckoo *, uint64_t hash);

/* ---- the store ---- */

struct lr_store;
struct lr_view;  /* a pinned, verified object */
struct lr_draft; /* room for an object that is being written */
struct lr_vfs;   /* files, as the disk tier sees them (store/vfs.h is the module's own) */

struct lr_store_opts {
    uint64_t mem_max;       /* bytes of the memory tier, all included but some 400 B of heap an entry;
                               0: a quarter of what the container or machine has */
    const char *dir;        /* of the segments; NULL: no disk tier */
    uint64_t disk_max;      /* bytes of segment files; 0: a quarter of the file system, <= 64 GiB */
    const char *evict;      /* strategy of both tiers, a name of lr_evict_all; NULL: "s3fifo" */
    size_t value_max;       /* 0: the lesser of LR_OBJECT_VALUE_MAX and half of mem_max */
    uint64_t segment_bytes; /* 0: 256 MiB, or an eighth of disk_max when that is less */
    size_t queue_bytes;     /* waiting for the disk; 0: an eighth of mem_max, at most 512 MiB */
    unsigned readers;       /* threads that load; 0: 4 */
    unsigned shards;        /* power of two; 0: one for each 512 MiB of memory, 1 to 64 */
    bool write_back;        /* write when evicted instead of when put */
    bool trust_memory;      /* verify what was loaded, not what stayed in memory */
    bool no_uring, no_direct;
    const char *remote;     /* "redis://[user:password@]host[:port][/db]": a Redis or Valkey that machines
                               share, for content; NULL: none. Read at open only */
    uint32_t remote_ms;     /* an exchange with it may take, and longer as bytes move; 0: 1000 */
    uint64_t remote_ttl_ms; /* what it keeps an object for; 0: as long as the object lives */
    uint32_t late_ms;       /* a write that waited longer for its turn is dropped; 0: 200 */
    const struct lr_vfs *vfs;        /* NULL: the system's files */
    uint64_t (*now_ms)(void *arg);   /* NULL: lr_clock_wall_ms */
    void *now_arg;
};

/* Opens, recovers what the directory holds, starts the threads. A directory that cannot be used is
 * an error, told in *err (may be NULL); damage inside it is not. LR_EBUSY: another process has it.
 */
int lr_store_open(struct lr_store **out, const struct lr_store_opts *, struct lr_err *err);
/* Writes what is queued (and, when writing back, what memory alone has), syncs, seals, stops. All
 * views and drafts must have been given back. */
void lr_store_close(struct lr_store *);

enum lr_put_flags {
    LR_PUT_DURABLE = 1, /* return 0 only when the disk has it; LR_EIO, LR_ENOSPC, LR_EBUSY (the
                           queue is full), LR_ETIMEOUT: it is in memory, and was not known to be
                           on disk */
    LR_PUT_NO_DISK = 2, /* memory only */
    LR_PUT_IF_ABSENT = 4,  /* LR_EEXIST, and nothing done, when the id is here */
    LR_PUT_IF_PRESENT = 8, /* LR_ENOENT when it is not */
};

/* Bytes for a place in the payload. */
struct lr_piece {
    uint64_t offset;
    const void *p;
    size_t n;
};

/* One put from pieces that tile o->payload in any order. The parts of the object: the pieces, if
 * `layered`; else blocks of LR_OBJECT_BLOCK. o->id must be set; o->n_parts is ignored.
 *   content: kept as it is when the same id is already here, sound, and of no lower fidelity
 *            (LR_EEXIST: nothing was done, and nothing is wrong);
 *   opaque:  replaces, at once.
 * A put that is refused (LR_EOVER, LR_ENOMEM) leaves what was there: a door that must say yes deletes
 * that, or hangs up. */
int lr_store_put(struct lr_store *, const struct lr_object *o, const struct lr_piece *pieces,
                 size_t n, bool layered, unsigned flags, uint64_t deadline);
/* The same without a copy: room for o->payload bytes, at a 64-byte boundary (4096 from 64 KiB on),
 * of undefined content. parts: o->n_parts rows of which offset and bytes are set, copied here; none:
 * blocks. Evicts to make the room, never waits. o's texts are copied. */
int lr_draft_open(struct lr_store *, const struct lr_object *o, const struct lr_object_part *parts,
                  struct lr_draft **out);
uint8_t *lr_draft_bytes(struct lr_draft *);
/* The first `filled` bytes are what they will be: sums those of their parts that are whole, while
 * they are in cache. Not needed: commit sums what was not. */
void lr_draft_filled(struct lr_draft *, uint64_t filled);
/* Sums, publishes; the draft is gone whatever is returned (as for lr_store_put). */
int lr_draft_commit(struct lr_draft *, unsigned flags, uint64_t deadline);
/* Nothing happened. */
void lr_draft_abort(struct lr_draft *);

/* As `want`: whatever is there. For who looks at headers; a reader of values says what it wants. */
extern const struct lr_object lr_object_any;
/* A view of the object `id`, verified, whose header matches `want` (may be NULL for opaque ids;
 * content must say what it wants). Comes from memory, else from disk within the deadline.
 * Content that no tier of ours has comes from the remote one. Give it back with lr_view_put. */
int lr_store_get(struct lr_store *, const struct lr_digest *id, const struct lr_object *want,
                 uint64_t deadline, struct lr_view **out);
void lr_view_put(struct lr_view *);
/* All valid until lr_view_put. */
const struct lr_object *lr_view_object(const struct lr_view *);
struct lr_str lr_view_bytes(const struct lr_view *);
struct lr_object_part lr_view_part(const struct lr_view *, uint32_t i);
/* How many of the first bytes are known to be good: all, but for a view that a lazy fetch brought. Of
 * that parts are summed in order until `upto` bytes are; fewer than `upto` (at most the payload): the
 * next part is damaged, the store forgets this copy and counts it. */
uint64_t lr_view_good(struct lr_view *, uint64_t upto);

/* The same without waiting: done is called exactly once, either before lr_store_fetch returns or
 * later on a thread of the store, with rc and (rc 0) a view that is the callee's. *f must live
 * until then. done must not block. */
struct lr_fetch {
    struct lr_digest id;
    const struct lr_object *want;
    uint64_t lazy; /* payloads of so many bytes and more may come with only their header checked: use
                      no byte beyond lr_view_good; 0: none */
    void (*done)(struct lr_fetch *, int rc, struct lr_view *);
    struct lr_fetch *next; /* these two are the store's */
    struct lr_load *load;
};
void lr_store_fetch(struct lr_store *, struct lr_fetch *f);
/* True: done was not and will not be called. False: it was, or is about to be. */
bool lr_store_fetch_cancel(struct lr_store *, struct lr_fetch *f);

/* A range of an object into the caller's memory. With a codec: of the object as decoded (then
 * offset 0 and the whole length only). */
struct lr_range {
    struct lr_digest id;
    const struct lr_object *want; /* as for lr_store_get */
    uint64_t offset;
    void *dst;
    size_t n;
    bool whole; /* all of it, from offset 0: n is the room at dst and becomes the length, also when
                   that is too little (LR_EOVER) */
    int rc; /* out: 0; a miss; LR_EOVER: beyond the end. On an error dst is of undefined content */
};
/* Every range on its own; loads from disk run side by side. Returns how many are 0. */
size_t lr_store_read(struct lr_store *, struct lr_range *r, size_t n, uint64_t deadline);

/* How many of ids[0..n) are here, counted up to the first that is not; *in_memory (may be NULL):
 * of these, up to the first that only the disk has. No I/O. prefetch: starts loading the rest. */
size_t lr_store_prefix(struct lr_store *, const struct lr_digest *ids, size_t n, bool prefetch,
                       size_t *in_memory);
/* The same, and content that only the remote tier has counts as well: it is asked, in one batch and
 * until the deadline, for what is not here. At most 1024 ids are looked at. */
size_t lr_store_prefix_within(struct lr_store *, const struct lr_digest *ids, size_t n, bool prefetch,
                              uint64_t deadline, size_t *in_memory);
/* Here, not expired, of the current epoch, no half pair. No I/O. */
bool lr_store_has(struct lr_store *, const struct lr_digest *id);

/* Removes it from all tiers. LR_PUT_DURABLE: waits until a restart cannot bring it back. */
int lr_store_del(struct lr_store *, const struct lr_digest *id, unsigned flags, uint64_t deadline);
/* Not evicted before until_ms (0: now ends the pin; UINT64_MAX: until unpinned); survives a restart
 * like a put. At most half of memory can be pinned (LR_EOVER); more stays on disk. */
int lr_store_pin(struct lr_store *, const struct lr_digest *id, uint64_t until_ms, unsigned flags,
                 uint64_t deadline);
/* New expiry (0: never). Survives a restart like a put. */
int lr_store_expire(struct lr_store *, const struct lr_digest *id, uint64_t expires_ms);

/* Everything put so far into (tenant, space) becomes a miss. *epoch (may be NULL): the new one. */
int lr_store_bump(struct lr_store *, uint64_t tenant, struct lr_str space, unsigned flags,
                  uint64_t deadline, uint32_t *epoch);
/* Calls fn for the name of each space of a tenant; under a lock: it takes what it needs and returns. */
void lr_store_spaces(struct lr_store *, uint64_t tenant, void (*fn)(void *arg, struct lr_str name),
                     void *arg);
/* Bytes that objects of a tenant may take in all tiers; beyond, its own oldest leave that are not
 * pinned; not written down: whoever opens the store says it again. 0: no limit. At most 4096 tenants
 * have a limit or a count of their own; the rest share one. */
int lr_store_quota(struct lr_store *, uint64_t tenant, uint64_t bytes_max);
uint64_t lr_store_tenant_bytes(struct lr_store *, uint64_t tenant);
/* Calls fn for each tenant that has a count of its own; no lock is held. */
void lr_store_tenants(struct lr_store *,
                      void (*fn)(void *arg, uint64_t tenant, uint64_t bytes, uint64_t bytes_max), void *arg);

/* What is known of an entry without reading it. name: valid during the callback. */
struct lr_store_entry {
    struct lr_digest id;
    uint64_t tenant, bytes, expires_ms, pinned_until_ms, created_ms;
    struct lr_str space, name;
    uint32_t kind, fidelity;
    bool in_memory, on_disk;
};
int lr_store_entry(struct lr_store *, const struct lr_digest *id, struct lr_store_entry *out);
/* Calls fn for some entries and returns the next cursor, 0 at the end; start with 0. What is here
 * during the whole walk is seen at least once. fn runs under a lock: it copies and returns. */
uint64_t lr_store_scan(struct lr_store *, uint64_t cursor,
                       void (*fn)(void *arg, const struct lr_store_entry *), void *arg);

/* Brings an object into memory (as reading it does), onto the disk (memory keeps its copy), or out of
 * memory, onto the disk first. Nothing is lost by it, whatever it returns: LR_ENOENT, LR_ETIMEOUT,
 * LR_EBUSY (the queue is full, or it was just replaced), LR_EIO, LR_ENOSPC, LR_EUNSUPPORTED (there is no
 * disk, or it was put with LR_PUT_NO_DISK). */
enum lr_place { LR_PLACE_MEMORY, LR_PLACE_DISK, LR_PLACE_OUT };
int lr_store_move(struct lr_store *, const struct lr_digest *id, enum lr_place to, uint64_t deadline);

/* Waits until everything put before is on disk or dropped. LR_EIO, LR_ENOSPC: the disk failed. */
int lr_store_sync(struct lr_store *, uint64_t deadline);

#define LR_STORE_COUNTS(X)                                                                         \
    X(HIT_MEMORY, "hits in memory")                                                                \
    X(HIT_DISK, "hits on disk")                                                                    \
    X(HIT_REMOTE, "hits in the remote tier")                                                       \
    X(MISS_ABSENT, "never put, or gone")                                                           \
    X(MISS_EXPIRED, "past its time to live")                                                       \
    X(MISS_EPOCH, "of an older epoch")                                                             \
    X(MISS_PAIR, "half of a pair")                                                                 \
    X(MISS_CORRUPT, "damaged")                                                                     \
    X(MISS_KEY, "another key or kind under the id")                                                \
    X(MISS_TENANT, "of another tenant")                                                            \
    X(MISS_MODEL, "of another model")                                                              \
    X(MISS_LAYOUT, "in another layout")                                                            \
    X(MISS_TOKENS, "of other tokens")                                                              \
    X(MISS_FORM, "of another form, phase or variant")                                              \
    X(MISS_FIDELITY, "of lower fidelity than wanted")                                              \
    X(MISS_LATE, "not loaded before the deadline")                                                 \
    X(MISS_BUSY, "the queue of loads was full")                                                    \
    X(MISS_IO, "the disk failed")                                                                  \
    X(MISS_ROOM, "no room in memory to load it")                                                   \
    X(MISS_REMOTE, "the remote tier failed or was busy")                                           \
    X(REMOTE_WRITES, "objects the remote tier took, or let go")                                    \
    X(REMOTE_DROPS, "writes to the remote tier dropped or refused")                                \
    X(REMOTE_ERRORS, "failed exchanges with the remote tier, and error replies")                   \
    X(REMOTE_BAD, "values of the remote tier that did not check")                                  \
    X(PUTS, "objects made visible")                                                                \
    X(PUT_KEPT, "puts of what was already here")                                                   \
    X(PUT_REFUSED, "puts for which no room could be made")                                         \
    X(EVICTED_MEMORY, "objects that left memory")                                                  \
    X(EVICTED_DISK, "objects that left the disk")                                                  \
    X(EVICTED_QUOTA, "objects that left because of their tenant's quota")                          \
    X(LOST, "objects that left memory without ever reaching the disk")                             \
    X(DISK_WRITES, "records written")                                                              \
    X(DISK_DROP_FULL, "writes dropped: queue full")                                                \
    X(DISK_DROP_LATE, "writes dropped: waited too long")                                           \
    X(DISK_DROP_ERROR, "writes dropped: the disk failed or is full")                               \
    X(DISK_OWED, "notes that had to be written again")                                             \
    X(WIPES, "notes for which no room was left: all older records die")                            \
    X(DISK_ERRORS, "failed calls to the disk")                                                     \
    X(DISK_SYNCS, "syncs")                                                                         \
    X(COMPACTED, "records moved by compaction")                                                    \
    X(SEGMENTS_FREED, "segments given back")                                                       \
    X(RECOVERED, "objects found at the start")                                                     \
    X(RECOVER_SKIPPED, "places in segments that did not check at the start")

enum lr_store_count {
#define X(name, text) LR_STORE_##name,
    LR_STORE_COUNTS(X)
#undef X
    LR_STORE_COUNT
};
/* "miss_absent" and "never put, or gone". Static texts. */
const char *lr_store_count_name(enum lr_store_count c);
const char *lr_store_count_text(enum lr_store_count c);

struct lr_store_stats {
    uint64_t count[LR_STORE_COUNT];
    uint64_t entries;                              /* known ids */
    uint64_t mem_max, mem_bytes, mem_pinned;       /* room taken; of it by pins */
    uint64_t disk_max, disk_bytes, disk_live;      /* files; of them live records */
    uint64_t queue_bytes;                          /* waiting for the disk */
    uint32_t segments;
    bool direct, uring, disk_ok;
    uint64_t recover_ns, recover_bytes;            /* the start's scan */
    bool remote, remote_ok;                        /* there is one; it answers */
    uint64_t remote_queue_bytes;                   /* waiting to be sent */
};
void lr_store_stats(struct lr_store *, struct lr_store_stats *out);

#endif
