/* SPDX-License-Identifier: Apache-2.0
 * larder/larder.h - a store of KV chunks inside your own process: memory, then disk, checked at each read.
 *
 *     struct larder *store;
 *     struct larder_opts opts = {.memory_max = 8ull << 30, .dir = "/var/lib/engine/kv"};
 *     if (larder_open(&store, &opts, why, sizeof why))
 *         return give_up(why);
 *
 *     size_t n = larder_chain(NULL, 0, tokens, n_tokens, 256, keys, MAX);    what each whole block is called
 *     for (i = 0; i < n; i++)
 *         chunk[i] = (struct larder_object){.layout = &layout, .key = keys[i], .tokens = 256,
 *                                           .position = 256 * i};
 *     size_t warm = larder_prefix(store, chunk, n, LARDER_PREFETCH);         how many are here
 *     for (i = 0; i < warm; i++)
 *         if (larder_get(store, &chunk[i], rows[i], bytes, &got, 50))        a miss: compute from here on
 *             break;
 *     ...
 *     larder_put(store, &chunk[i], rows[i], bytes, 0, 0);
 *
 * Promises. A get gives the bytes of one complete put of that very object, or a miss. What was damaged, half
 * written, expired, late or put for another layout is a miss and a count (struct larder_stats), never an
 * answer. A put that returned LARDER_OK is seen by every later get; it is on disk within 250 ms, or was
 * dropped there and counted; with LARDER_DURABLE it returned after the disk had it. After a crash the store
 * comes back with its index and pins, as of some moment since the last sync. No bad, slow or full disk is
 * ever an error of a put to memory, and no call waits for a disk longer than it was told to.
 *
 * Calls. From any thread, at any time between open and close. 0 or a negative enum larder_rc; outputs are
 * untouched on errors. timeout_ms: 0 answers from memory only; LARDER_FOREVER waits. A directory belongs to
 * one process at a time. Nothing is printed but to say, once on standard error, that a dying disk took
 * records with it which a restart might miss.
 *
 * Numbers are the host's; the formats on disk have versions of their own. Until 1.0 the name of the shared
 * library changes whenever a struct of this file does.
 */
#ifndef LARDER_LARDER_H
#define LARDER_LARDER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LARDER_API __attribute__((visibility("default")))
#else
#define LARDER_API
#endif

#define LARDER_FOREVER UINT64_MAX

enum larder_rc {
    LARDER_OK = 0,
    LARDER_ENOENT = -1,        /* a miss */
    LARDER_EBUSY = -3,         /* another process has the directory; the disk's queue is full */
    LARDER_ENOMEM = -4,
    LARDER_EOVER = -5,         /* larger than can be kept, or than your buffer; too much is pinned */
    LARDER_EINVAL = -6,
    LARDER_EIO = -7,
    LARDER_ETIMEOUT = -10,     /* a miss: not loaded in time (it still comes, for the next get) */
    LARDER_EEXIST = -13,       /* put: the same chunk is here already, and was kept */
    LARDER_ENOSPC = -18,
    LARDER_EUNSUPPORTED = -19, /* durable without a directory */
};
/* "not found" for LARDER_ENOENT. Static text. */
LARDER_API const char *larder_strerror(int rc);
/* "0.1.0", of the library that is linked. */
LARDER_API const char *larder_version(void);

/* ---- a store ---- */

struct larder;

struct larder_opts {
    uint64_t memory_max; /* bytes; 0: a quarter of what the container or the machine has */
    const char *dir;     /* of the disk tier, made when absent; NULL: memory only */
    uint64_t disk_max;   /* bytes; 0: a quarter of the file system, at most 64 GiB */
    const char *evict;   /* who leaves first: "s3fifo", "lru", "cost"; NULL: s3fifo */
    int write_back;      /* 1: to disk when leaving memory, and at close; 0: when put */
    int trust_memory;    /* 1: bytes are checked when they come from disk, not at each get */
};

/* why (may be NULL): a sentence when it fails, cut to why_bytes. */
LARDER_API int larder_open(struct larder **out, const struct larder_opts *opts, char *why, size_t why_bytes);
/* Writes what has not been written. All views must have been given back. */
LARDER_API void larder_close(struct larder *);

/* ---- what is stored ---- */

struct larder_key {
    uint8_t b[32];
};

enum larder_dtype {
    LARDER_DTYPE_NONE = 0,
    LARDER_F16 = 2,
    LARDER_BF16 = 3,
    LARDER_F32 = 4,
    LARDER_F64 = 5,
    LARDER_U8 = 6,
    LARDER_E4M3 = 7,
    LARDER_E5M2 = 8,
};

/* How the bytes of a chunk are laid out, and of which model. Chunks of layouts that differ in any member
 * never meet: bump `version` when your kernels lay blocks out otherwise. Texts: 255 bytes at most. */
struct larder_layout {
    const char *model, *engine;
    uint32_t format; /* your number for the order of dimensions */
    uint32_t dtype;  /* enum larder_dtype */
    uint32_t n_dims, shape[8];
    uint32_t rank;   /* world << 24 | rank << 16 | local world << 8 | local rank */
    uint32_t version;
};

/* One thing, by its content or by a name of yours. Every call takes it; members of the other kind are 0. */
struct larder_object {
    /* A chunk of KV, by its content: layout is set. Putting it again is LARDER_EEXIST, and nothing wrong. */
    const struct larder_layout *layout;
    struct larder_key key; /* of its last block in the chain (below) */
    uint32_t tokens;       /* in it */
    uint64_t position;     /* of the first of them */
    /* Anything, by name: layout is NULL. Putting it again replaces it. */
    const void *name;
    size_t name_bytes;     /* 1 to 4096 */
    const char *space;     /* equal names in two spaces are two things; NULL: "" */
    /* Either. */
    uint64_t tenant;       /* tenants never meet; 0: none */
    uint64_t expires_ms;   /* put: Unix time in ms after which it is a miss; 0: never */
};

/* ---- the chain: what blocks of tokens are called ---- */

/* BLAKE3 over the key before and the block's token ids (big-endian, 32 bits): the same in every process and
 * on every machine, and with an empty salt the chunk hash of LMCache's multi-process mode. A salt (a
 * tenant's, say) makes a chain that meets no other. */
LARDER_API void larder_chain_first(const void *salt, size_t salt_bytes, struct larder_key *out);
/* out may be prev. */
LARDER_API void larder_chain_next(const struct larder_key *prev, const uint32_t *tokens, size_t n,
                                  struct larder_key *out);
/* Keys of all whole blocks, max at most, into out; returns how many. block: 256 is usual, not 0. */
LARDER_API size_t larder_chain(const void *salt, size_t salt_bytes, const uint32_t *tokens, size_t n,
                               size_t block, struct larder_key *out, size_t max);

/* ---- in and out ---- */

enum larder_put_flags {
    LARDER_DURABLE = 1,  /* return when the disk has it */
    LARDER_NO_DISK = 2,  /* memory only */
};
/* Copies `bytes` at p. LARDER_EOVER: over half of memory or 512 MiB, or everything else is pinned.
 * timeout_ms is for LARDER_DURABLE; on a failure to write it is in memory all the same. */
LARDER_API int larder_put(struct larder *, const struct larder_object *, const void *p, size_t bytes,
                          unsigned flags, uint64_t timeout_ms);

/* Copies the whole object to dst, checking it on the way; *bytes (may be NULL): how many. LARDER_EOVER: room
 * is less than that, and *bytes is set. On an error dst is of undefined content. */
LARDER_API int larder_get(struct larder *, const struct larder_object *, void *dst, size_t room,
                          size_t *bytes, uint64_t timeout_ms);

/* The object where it lies in memory, without a copy: checked, unchanged and in place until it is given
 * back, whatever is put or evicted meanwhile. */
struct larder_view {
    const void *p; /* 64-byte aligned; 4096 from 64 KiB on */
    size_t bytes;
    void *held; /* the library's */
};
LARDER_API int larder_view(struct larder *, const struct larder_object *, uint64_t timeout_ms,
                           struct larder_view *out);
LARDER_API void larder_view_end(struct larder_view *);

enum larder_prefix_flags { LARDER_PREFETCH = 1 }; /* starts loading what only the disk has */
/* How many of objects[0..n) are here, up to the first that is not. Reads no disk. */
LARDER_API size_t larder_prefix(struct larder *, const struct larder_object *objects, size_t n,
                                unsigned flags);

/* Not evicted before until_ms (Unix time; UINT64_MAX: until unpinned; 0: unpinned). Survives a restart.
 * LARDER_EOVER: half of memory is pinned. */
LARDER_API int larder_pin(struct larder *, const struct larder_object *, uint64_t until_ms);
/* Out of all tiers. LARDER_ENOENT: it was not here. */
LARDER_API int larder_delete(struct larder *, const struct larder_object *);
/* Waits until all that was put is on disk, or was dropped there. */
LARDER_API int larder_sync(struct larder *, uint64_t timeout_ms);

/* ---- numbers ---- */

struct larder_stats {
    uint64_t objects;
    uint64_t memory_bytes, memory_max, memory_pinned;
    uint64_t disk_bytes, disk_max, queue_bytes; /* queue: waiting for the disk */
    uint64_t puts, hits_memory, hits_disk, misses; /* misses: for every reason, those below among them */
    uint64_t corrupt, late, expired, mismatched; /* mismatched: another layout, model, tenant or tokens */
    uint64_t evicted, dropped; /* left memory or disk for room; never reached the disk, or were refused */
    uint64_t recovered;        /* objects found at open */
    int disk_ok;               /* 0: there is none, or its last write failed */
};
LARDER_API void larder_get_stats(struct larder *, struct larder_stats *out);

#ifdef __cplusplus
}
#endif

#endif
