/* SPDX-License-Identifier: Apache-2.0
 * answer/answer.h - the response cache: keys, the exact shelf, documents on disk.
 *
 *   request --key--> digest --get--> index (memory) --> hot document (memory)   microseconds
 *                                         \--load--> LMDB (a worker's job)      a page read or two
 *   finished flight --put--> hot at once --keeper--> LMDB, one commit a batch --> `stored`
 *
 * The index knows every stored answer, so "surely absent" never touches the disk. A damaged
 * document is a miss and a counter. Tenants are separated by the key itself: each digest is keyed with the
 * tenant's own secret, so no request of one tenant can name an entry of another.
 */
#ifndef LR_ANSWER_ANSWER_H
#define LR_ANSWER_ANSWER_H

#include "base/base.h"
#include "dialect/dialect.h"
#include "match/match.h"

/* ---- keys (key.c; docs/formats/key.md) ------------------------------------------------------- */

struct lr_key_member {
    char name[48];   /* "model", "messages[3]", "temperature", "chat.foo"; odd names are "chat.?3" */
    uint64_t digest; /* keyed: comparable within a tenant, tells nothing about the text */
};

/* Blocks for routing and traces: the leading messages, chained. */
#define LR_KEY_BLOCKS_MAX 64

struct lr_key {
    struct lr_digest exact;
    struct lr_key_member *members; /* sorted as hashed; arena memory */
    size_t n_members;
    uint64_t blocks[LR_KEY_BLOCKS_MAX]; /* chain digest after each leading message (keyed by tenant) */
    size_t n_blocks;
    uint64_t text_bytes; /* of all message text: the size shown in traces */
};

/* A header that changes the answer: counts in the key as "header.<name>". */
struct lr_key_header {
    const char *name;
    struct lr_str value;
};

/* Fills k from the canonical request: every member but the closed list of docs/formats/key.md.
 * secret: the tenant's 32 bytes. alias: the model name as the client gave it. LR_ENOMEM, LR_EOVER. */
int lr_key_request(struct lr_arena *a, const struct lr_request *r, const uint8_t secret[32],
                   const struct lr_key_header *headers, size_t n_headers, struct lr_key *k);
/* The key of one input of an EMBEDDING request. */
int lr_key_input(const struct lr_request *r, size_t index, const uint8_t secret[32],
                 const struct lr_key_header *headers, size_t n_headers, struct lr_digest *out);
/* The first member where two keys differ: name in out (a member only one of them has counts).
 * LR_ENOENT when none. */
int lr_key_differ(const struct lr_key_member *a, size_t na, const struct lr_key_member *b, size_t nb,
                  char out[48]);

/* ---- meaning (meaning.c): what may be said in other words, and what must not ---- */

#define LR_MEANING_TURNS  8u          /* user turns before the last; longer conversations: exact only */
#define LR_MEANING_BEFORE LR_KIB(2)   /* bytes of what was said before, for the verifier */

/* A user turn and what the assistant said to it. */
struct lr_meaning_turn {
    struct lr_digest id;   /* of everything up to and with this user turn */
    struct lr_digest said; /* of the text the assistant answered; zero: not answered yet */
    struct lr_str text;    /* of the user; arena memory */
};
/* Two requests may share an answer by meaning when their partitions are equal, their questions pass
 * gates and verifier, and the turns before agree one by one (the context chain, sem.c). */
struct lr_meaning {
    struct lr_digest partition; /* tenant, model, system text, tools, format, sampling ... : everything
                                   but what user and assistant said */
    struct lr_meaning_turn turn[LR_MEANING_TURNS + 1]; /* oldest first; the last is the question */
    size_t n_turns;
    struct lr_str before; /* end of what was said before the question; arena memory */
};
/* Reads r, whose key is k, into *out. NULL, or why its answer is never shared by meaning: "kind",
 * "last-turn" (not a user's), "media", "turns" (tools, too many, out of order), "too-long", "empty",
 * "memory". Static text. secret: the tenant's. */
const char *lr_meaning_read(struct lr_arena *a, const struct lr_request *r, const struct lr_key *k,
                            const uint8_t secret[32], struct lr_meaning *out);
/* The `said` of a stored answer (compact event log): false when it is more than one text. */
bool lr_meaning_said(struct lr_str log, const uint8_t secret[32], struct lr_digest *out);

/* ---- documents (doc.c; docs/formats/entry.md) ------------------------------------------------ */

/* What is known of a stored answer besides its events. Strings are cut at their maximum. */
struct lr_doc_meta {
    struct lr_digest key;
    uint64_t tenant;       /* keyed hash of the tenant: quotas and admin selectors */
    uint64_t created_ms;   /* Unix */
    uint64_t ttl_ms;
    uint64_t took_ms;      /* what the upstream needed: the time a hit saves */
    uint64_t max_tokens;   /* the limit the request had; 0 = none */
    uint64_t tokens_in, tokens_out;
    double cost;           /* money a hit saves; 0 = unknown */
    uint32_t hits;
    uint16_t choices;
    uint8_t cut;           /* some choice ended at its token limit */
    uint8_t dialect;       /* lr_dialect_id when replayable in that dialect only, else 0 */
    uint8_t kind;          /* lr_kind */
    char model[64], upstream[64], category[32], tag[64], request_id[40];
};

/* Immutable once published; refcounted. */
struct lr_doc {
    struct lr_doc_meta meta; /* meta.hits is the count at load */
    struct lr_str log;       /* compact event log */
    uint64_t serial;         /* of this process; no two documents in memory ever have the same */
    atomic_uint refs;
};
void lr_doc_ref(struct lr_doc *);
void lr_doc_unref(struct lr_doc *); /* NULL is fine */

/* The stored bytes: header, meta, log, xxh3. decode: LR_ECORRUPT, LR_EVERSION. */
int lr_doc_encode(const struct lr_doc_meta *meta, struct lr_str log, struct lr_buf *out);
int lr_doc_decode(struct lr_str bytes, struct lr_doc **out);

/* ---- the shelf (shelf.c: index and hot set; keeper.c: LMDB) ---------------------------------- */

struct lr_answer;
struct lr_answer_opts {
    const char *dir;      /* made 0700, locked; NULL: memory only */
    uint64_t bytes_max;   /* stored bytes; 0 = 1 GiB */
    uint64_t hot_max;     /* bytes of documents in memory; 0 = 64 MiB */
    const char *evict;    /* strategy of evict/; NULL = "s3fifo" */
    size_t queue_max;     /* puts waiting for the keeper; 0 = 4096 */
    uint64_t commit_ns;   /* a batch waits at most this long for company; 0 = 20 ms */
    uint64_t map_max;     /* address space of the file; 0 = 2 * bytes_max + 16 MiB */
    uint64_t (*wall_ms)(void); /* NULL: the clock; tests pass their own */
};
/* Locks and scans the directory. A foreign or damaged file is set aside ("answers.mdb.bad-1") with one
 * log line and the start is cold. LR_EBUSY: another process holds the directory. */
int lr_answer_open(struct lr_answer **out, const struct lr_answer_opts *, struct lr_err *err);
/* Writes what is queued and the hit counts, closes. */
void lr_answer_close(struct lr_answer *);

/* The conditions of one request. */
struct lr_ask {
    struct lr_digest key;
    uint64_t now_ms;
    enum lr_dialect_id dialect;
    uint16_t n;              /* choices wanted, >= 1 */
    uint64_t max_tokens;     /* 0 = no limit */
    uint64_t max_age_ms;     /* UINT64_MAX = any */
    uint64_t swr_ms, sie_ms; /* granted by request and operator; 0 = none */
};
enum lr_found {
    LR_FOUND_NONE,  /* reason: "new", "expired", "fewer-choices", "token-limit", "dialect", "max-age",
                       "corrupt" */
    LR_FOUND_HIT,
    LR_FOUND_STALE, /* expired, and swr or sie would allow it: *doc is the candidate */
    LR_FOUND_COLD   /* present, not in memory: call lr_answer_load from a worker, then get again */
};
struct lr_answer_hit {
    struct lr_doc *doc; /* HIT, STALE: one reference, the caller's */
    uint64_t age_ms;
    bool swr, sie;      /* STALE: allowed by which */
    const char *reason; /* static; "" on a hit */
};
/* Never blocks on I/O. Thread-safe. A HIT counts for eviction and in the entry's hits. */
enum lr_found lr_answer_get(struct lr_answer *, const struct lr_ask *, struct lr_answer_hit *out);
/* Reads a cold entry into the hot set. May block. LR_ENOENT, LR_ECORRUPT (deleted and counted). */
int lr_answer_load(struct lr_answer *, const struct lr_digest *key);

/* Stores: visible to get at once, on disk with the keeper's next commit; then done(arg, rc) is called
 * from the keeper's thread (may be NULL). meta.created_ms, .ttl_ms, .key, .tenant ... are the caller's.
 * log is copied. Replaces an older entry of the key. LR_EOVER (too large, or the tenant's quota
 * bytes_tenant_max, 0 = none), LR_EBUSY (queue full: dropped and counted), LR_ENOMEM. */
int lr_answer_put(struct lr_answer *, const struct lr_doc_meta *meta, struct lr_str log,
                  uint64_t bytes_tenant_max, void (*done)(void *arg, int rc), void *arg);
/* Renews the time to live (answer.sliding). */
void lr_answer_touch(struct lr_answer *, const struct lr_digest *key, uint64_t now_ms);
/* Waits until everything put before is on disk. */
int lr_answer_flush(struct lr_answer *);

/* Entries as admin sees them: no text. */
struct lr_answer_entry {
    struct lr_doc_meta meta;
    uint64_t bytes;
    bool hot, stored; /* stored: its commit has returned */
};
/* All of them must hold; zero fields select everything. Strings: exact, prefix for id_prefix (hex). */
struct lr_answer_select {
    const char *model, *tag, *category, *id_prefix;
    uint64_t tenant;
    uint64_t older_than_ms; /* age at least */
    uint64_t now_ms;
};
int lr_answer_entry(struct lr_answer *, const struct lr_digest *key, struct lr_answer_entry *out);
/* Calls fn for entries in no order from cursor *cursor (0 = begin) until fn returns nonzero or the end
 * (*cursor = 0 again). The lock is not held during fn. */
int lr_answer_list(struct lr_answer *, const struct lr_answer_select *, uint64_t *cursor,
                   int (*fn)(void *ctx, const struct lr_answer_entry *), void *ctx);
int lr_answer_delete(struct lr_answer *, const struct lr_digest *key);
/* Deletes (dry: only counts) what is selected. */
int lr_answer_purge(struct lr_answer *, const struct lr_answer_select *, bool dry, uint64_t *n,
                    uint64_t *bytes);

struct lr_answer_stats {
    uint64_t entries, bytes, bytes_max, hot_entries, hot_bytes, hot_max, queued;
    uint64_t index_bytes; /* memory of the index itself */
};
void lr_answer_stats(struct lr_answer *, struct lr_answer_stats *out);

/* ---- the semantic shelf (sem.c, sem_find.c) ---------------------------------------------------
 *
 * Which stored questions could mean the same, and what speaks against each. It holds no answers (those
 * are documents) and makes no decision: the caller judges candidates and says how that went.
 *
 *   lr_sem_context   the turns before -> the entry that the conversation stands on     ("context chain")
 *   lr_sem_find      question -> candidates of the same partition and context, best first, each with
 *                    the gate that refuses it, if one does
 *   lr_sem_put / _alias / _label / _bad / _del
 *
 * A tenant's vectors are in its own arena and indexes; no search looks beyond one partition of one
 * tenant. All functions are thread-safe; a struct lr_sem_reader is one thread's at a time. */

#define LR_SEM_CATEGORIES 32u
#define LR_SEM_FOUND_MAX  16u

struct lr_sem;
struct lr_sem_reader;
struct lr_sem_opts {
    unsigned dim;          /* of vectors */
    uint8_t encoder[32];   /* who made them */
    uint64_t secret;       /* of the deployment: what facts and sketches were read with */
    uint64_t bytes_max;    /* of everything; 0 = 256 MiB */
    uint64_t tenant_max;   /* of one tenant's vectors; 0 = bytes_max */
    double share[LR_SEM_CATEGORIES]; /* of bytes_max that a category may use; 0 = all */
    uint8_t probation;     /* agreements before an entry serves other writers */
};
int lr_sem_open(struct lr_sem **out, const struct lr_sem_opts *);
void lr_sem_close(struct lr_sem *); /* after its readers. NULL is fine */
int lr_sem_reader_open(struct lr_sem *, struct lr_sem_reader **out);
void lr_sem_reader_close(struct lr_sem_reader *);

/* A question, prepared by its asker: vector by the encoder (unit length), facts and sketch by match/
 * with the deployment's secret. */
struct lr_sem_question {
    struct lr_str text;
    const float *vector;
    const struct lr_facts *facts;
    const struct lr_sketch *sketch;
};

struct lr_sem_note {
    struct lr_digest key;     /* of the document */
    struct lr_digest partition, parent; /* parent: lr_sem_context's; zero: stand-alone */
    struct lr_digest turn;    /* the request's last turn id */
    struct lr_digest said;    /* lr_meaning_said of the answer; zero: no follow-up can stand on it */
    uint64_t tenant, writer;  /* writer: hash of the end user; 0: nobody in particular */
    uint64_t now_ms;
    uint8_t category;
    struct lr_str before;     /* for the verifier */
};
/* Copies everything. Replaces an entry of the same key (its labels stay). Evicts the oldest of a
 * category that is over its share, else the oldest of the largest. LR_EDENIED: the writer floods the
 * shelf with near-duplicates. LR_EINVAL: dated or too long questions, categories out of range.
 * LR_EOVER, LR_ENOMEM. */
int lr_sem_put(struct lr_sem *, const struct lr_sem_note *, const struct lr_sem_question *);
/* The request of this turn id was given that entry's answer: follow-ups find it. Forgotten with it. */
int lr_sem_alias(struct lr_sem *, const struct lr_digest *turn, const struct lr_digest *key);
int lr_sem_del(struct lr_sem *, const struct lr_digest *key);

struct lr_sem_found {
    struct lr_digest key;
    float sim;            /* cosine of the encoder */
    float shared;         /* of words and letters: lr_sketch_same */
    const char *gate;     /* NULL, or what refuses it: a gate's name, "sketch", "probation" */
    struct lr_bound_seen seen;
    struct lr_digest said;
    uint64_t writer, created_ms;
    uint8_t category;
    struct lr_str text, before; /* arena memory */
};
struct lr_sem_ask {
    struct lr_digest partition, parent;
    uint64_t tenant, writer;
    float floor;          /* of the cosine */
    float shared_floor;   /* of the sketches */
    size_t k;             /* wanted, at most LR_SEM_FOUND_MAX */
};
/* Candidates that no gate refuses first, then the others, each by cosine. LR_ENOMEM. */
int lr_sem_find(struct lr_sem *, struct lr_sem_reader *, const struct lr_sem_ask *,
                const struct lr_sem_question *, struct lr_arena *a,
                struct lr_sem_found found[LR_SEM_FOUND_MAX], size_t *n);

/* How an earlier turn that is not known by its id is recognised: prepares its text as a question. */
typedef int (*lr_sem_prepare)(void *ctx, struct lr_str text, struct lr_sem_question *out);
/* The entry that the turns before the question lead to: by turn id, else by meaning (the best
 * candidate at or above ask->floor that no gate refuses), one turn after the other. What was said must
 * be that entry's answer, or, when strict is false, may be unknown. Zero digest for stand-alone
 * questions; LR_ENOENT: an unknown context, which shares nothing. */
int lr_sem_context(struct lr_sem *, struct lr_sem_reader *, const struct lr_sem_ask *,
                   const struct lr_meaning *, bool strict, lr_sem_prepare prepare, void *ctx,
                   struct lr_digest *parent);

/* A candidate at this score was judged. right: also one agreement towards the end of probation, when
 * the asker is another writer. LR_ENOENT. */
int lr_sem_label(struct lr_sem *, const struct lr_digest *key, uint64_t writer, float score, bool right);
/* The entry was wrong for somebody: it goes, and neighbours at least this near are believed less.
 * *n: how many. LR_ENOENT. */
int lr_sem_bad(struct lr_sem *, struct lr_sem_reader *, const struct lr_digest *key, float near,
               size_t *n);
/* Labels of a category, for lr_bound_floor. */
void lr_sem_bound(struct lr_sem *, uint8_t category, struct lr_bound *out);

/* An entry as bytes (docs/formats/meaning.md), appended to out; LR_ENOENT. And back: labels, agreements
 * and turn id as they were, facts and sketch read anew, so that gates of today judge questions of
 * yesterday. prepare: for facts and sketch; its vector is used only when the bytes have one of another
 * encoder. LR_ECORRUPT, LR_EVERSION, and those of lr_sem_put. */
int lr_sem_save(struct lr_sem *, const struct lr_digest *key, struct lr_buf *out);
int lr_sem_load(struct lr_sem *, struct lr_str bytes, lr_sem_prepare prepare, void *ctx);

struct lr_sem_stats {
    uint64_t entries, partitions, tenants, aliases, bytes, evicted, floods;
};
void lr_sem_stats(struct lr_sem *, struct lr_sem_stats *out);

/* ---- the raw shortcut (raw.c) ---------------------------------------------------------------- */

/* Request bytes seen before, straight to their key: a bounded table of (digest of path, credential
 * scope, headers that matter, config epoch, body) -> body bytes, key and a note of serve/'s. The bytes
 * are compared in full. Thread-safe. */
struct lr_raw;
int lr_raw_open(struct lr_raw **out, uint64_t bytes_max);
void lr_raw_close(struct lr_raw *);
#define LR_RAW_NOTE_MAX 1024
struct lr_raw_hit {
    struct lr_digest key;
    uint8_t note[LR_RAW_NOTE_MAX];
    size_t note_len;
};
/* prefix: everything of the digest but the body, already framed. false = not seen. */
bool lr_raw_get(struct lr_raw *, struct lr_str prefix, struct lr_str body, struct lr_raw_hit *out);
void lr_raw_put(struct lr_raw *, struct lr_str prefix, struct lr_str body, const struct lr_raw_hit *hit);
void lr_raw_clear(struct lr_raw *);

#endif
