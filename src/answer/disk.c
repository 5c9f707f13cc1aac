/* SPDX-License-Identifier: Apache-2.0
 * answer/disk.c - the stored answers in one LMDB file; the only file that knows LMDB.
 *
 *   DIR/lock               flock'ed while open: one process a directory
 *   DIR/answers.mdb        databases in it:
 *      "format"   "larder-answers" -> major u32, minor u32
 *      "heads"    digest -> head of the document (doc.c), hits and expiry kept up to date
 *      "docs"     digest -> whole document
 *   DIR/answers.mdb-lock   LMDB's own
 *
 * Both records of an answer change in the same transaction. Heads lie together, so the start-up
 * scan and listings read some 200 bytes an answer and no log.
 *
 * Trust. LMDB believes its file: a damaged page can make it crash, and a file that is shorter than
 * its meta page says is a SIGBUS. So before LMDB opens a file it is read page by page through pread
 * (mdbcheck.c): every page that can be reached must be sound. What fails that, is of a foreign
 * version, or is no LMDB file at all, is renamed to answers.mdb.bad-N, and the start is cold. The
 * sums of heads and documents then cover contents at every read. What is left: a file that is
 * truncated or scribbled over by another program while it is open (the directory is 0700 and
 * locked), and a disk that returns other bytes than at the check, inside LMDB's own structure:
 * these can still stop the process, and the next start then sets the file aside.
 *
 * Read transactions are not tied to threads (MDB_NOTLS), live within one call, and copy what they
 * return. No read-ahead (MDB_NORDAHEAD): lookups are random. Commits are durable when they return
 * (no MDB_NOSYNC).
 *
 * Considered and dropped: MDB_WRITEMAP (a stray write of ours would reach the file); hit counts
 * inside the document (each count rewrites a whole answer).
 */
#include "answer/answer_int.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <unistd.h>

#define FORMAT_KEY   "larder-answers"
#define FORMAT_MAJOR 1u
#define FORMAT_MINOR 0u
#define READERS      512   /* more than there are threads */
#define BAD_MAX      1000  /* files set aside */
#define PAGE         4096u /* LMDB's, on every machine we run on; for accounting only */
#define INLINE_MAX   2000u /* larger values get pages of their own (just below half a page) */
#define NODE         48u   /* LMDB's node, our key and alignment */
#define PATH_MAX_    4096

#define PAGES_PER_PUT 6 /* leaves copied or split, a started page of its own, a share of branches  \
                         */
#define RESERVE 8 /* one page in so many is left to deletes: they copy pages before they free any  \
                   */

struct lr_disk {
    MDB_env *env;
    MDB_dbi format, heads, docs;
    MDB_txn *write; /* the keeper's */
    int lock_fd;
    struct lr_buf scratch; /* the keeper's */
    char path[PATH_MAX_];
};

/* ---- errors ---- */

static int rc_of(int e)
{
    switch (e) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return LR_ENOENT;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
        return LR_EOVER;
    case MDB_VERSION_MISMATCH:
        return LR_EVERSION;
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
        return LR_ECORRUPT;
    case MDB_READERS_FULL:
        return LR_EBUSY;
    default:
        return e > 0 ? lr_io_rc(e) : LR_EIO;
    }
}

/* Every call of LMDB that may touch the disk is a fault point. */
#define MDB(call) (lr_fault_here() ? LR_EIO : rc_of(call))

static MDB_val val(const void *p, size_t n)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p}; /* LMDB does not write through keys and values it is given */
    return (MDB_val){.mv_size = n, .mv_data = u.out};
}

uint64_t lr_disk_charge(size_t head_n, size_t log_n)
{
    /* What shares leaves with others is charged half as much again: keys come in random order, and
     * leaves split at random are two thirds full. 50,000 documents of 1 KiB: 2364 charged, 2650 in
     * the file. */
    uint64_t doc = (uint64_t)head_n + log_n + 8, shared = head_n + 2 * NODE, own = 0;
    if (doc <= INLINE_MAX)
        shared += doc;
    else
        own = (doc + 16 + PAGE - 1) / PAGE * PAGE;
    return own + shared + shared / 2;
}

/* ---- opening ---- */

static int join(char *out, const char *dir, const char *name)
{
    int n = snprintf(out, PATH_MAX_, "%s/%s", dir, name);
    return n < 0 || n >= PATH_MAX_ ? LR_EOVER : 0;
}

/* Is there a database with this name? Makes it when `make`. */
static int open_db(MDB_txn *txn, const char *name, bool make, MDB_dbi *out)
{
    return MDB(mdb_dbi_open(txn, name, make ? MDB_CREATE : 0, out));
}

static int check_format(MDB_txn *txn, MDB_dbi db)
{
    MDB_val k = val(FORMAT_KEY, strlen(FORMAT_KEY)), v;
    int rc = MDB(mdb_get(txn, db, &k, &v));
    LR_FAIL_IF(rc == LR_ENOENT, LR_EVERSION);
    LR_TRY(rc);
    LR_FAIL_IF(v.mv_size < 8 || lr_le32(v.mv_data) != FORMAT_MAJOR, LR_EVERSION);
    return 0;
}

static int write_format(MDB_txn *txn, MDB_dbi db)
{
    uint8_t version[8];
    lr_put_le32(version, FORMAT_MAJOR);
    lr_put_le32(version + 4, FORMAT_MINOR);
    MDB_val k = val(FORMAT_KEY, strlen(FORMAT_KEY)), v = val(version, sizeof version);
    return MDB(mdb_put(txn, db, &k, &v, 0));
}

/* Opens the three databases; an environment without any is new and gets them. */
static int open_dbs_in(struct lr_disk *d, MDB_txn *txn)
{
    MDB_stat st;
    MDB_dbi main_db;
    LR_TRY(open_db(txn, NULL, false, &main_db));
    LR_TRY(MDB(mdb_stat(txn, main_db, &st)));
    bool fresh = st.ms_entries == 0;
    int rc = open_db(txn, "format", fresh, &d->format);
    LR_FAIL_IF(rc == LR_ENOENT, LR_EVERSION); /* somebody else's file */
    LR_TRY(rc);
    LR_TRY(fresh ? write_format(txn, d->format) : check_format(txn, d->format));
    LR_TRY(open_db(txn, "heads", fresh, &d->heads));
    return open_db(txn, "docs", fresh, &d->docs);
}

static int open_dbs(struct lr_disk *d)
{
    MDB_txn *txn;
    LR_TRY(MDB(mdb_txn_begin(d->env, NULL, 0, &txn)));
    int rc = open_dbs_in(d, txn);
    if (rc) {
        mdb_txn_abort(txn);
        return rc == LR_ENOENT ? LR_EVERSION : rc;
    }
    d->write = txn;
    return lr_disk_commit(d);
}

static int open_env(struct lr_disk *d, uint64_t map_bytes)
{
    LR_TRY(MDB(mdb_env_create(&d->env)));
    int rc = MDB(mdb_env_set_mapsize(d->env, map_bytes));
    if (!rc)
        rc = MDB(mdb_env_set_maxdbs(d->env, 4));
    if (!rc)
        rc = MDB(mdb_env_set_maxreaders(d->env, READERS));
    if (!rc)
        rc = MDB(mdb_env_open(d->env, d->path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD, 0600));
    if (!rc)
        rc = open_dbs(d);
    if (rc) {
        mdb_env_close(d->env);
        d->env = NULL;
    }
    return rc;
}

static int check_file(const char *path)
{
    int fd;
    int rc = lr_io_open(path, O_RDONLY, 0, &fd);
    LR_FAIL_IF(rc == LR_ENOENT, 0);
    LR_TRY(rc);
    uint64_t size = 0;
    rc = lr_io_size(fd, &size);
    lr_io_close(fd);
    LR_TRY(rc);
    return size ? lr_mdb_check(path) : 0;
}

static int set_aside(const struct lr_disk *d, int why)
{
    char to[PATH_MAX_ + 16], lock[PATH_MAX_ + 16];
    for (int i = 1; i <= BAD_MAX; i++) {
        int n = snprintf(to, sizeof to, "%s.bad-%d", d->path, i);
        LR_FAIL_IF(n < 0 || n >= (int)sizeof to, LR_EOVER);
        if (access(to, F_OK) == 0)
            continue;
        LR_TRY(lr_io_rename(d->path, to));
        /* LMDB's lock file belongs to the file it was made for; LMDB makes a new one. */
        n = snprintf(lock, sizeof lock, "%s-lock", d->path);
        if (n > 0 && n < (int)sizeof lock && unlink(lock) && errno != ENOENT)
            return lr_io_rc(errno);
        lr_log(LR_LOG_WARN, "answer",
               "event=set_aside file=answers.mdb to=answers.mdb.bad-%d reason=\"%s\"", i,
               lr_strerror(why));
        return 0;
    }
    return LR_EOVER;
}

static int open_checked(struct lr_disk *d, uint64_t map_bytes)
{
    int rc = check_file(d->path);
    if (!rc)
        rc = open_env(d, map_bytes);
    if (rc != LR_ECORRUPT && rc != LR_EVERSION)
        return rc;
    LR_TRY(set_aside(d, rc));
    return open_env(d, map_bytes);
}

static int lock_dir(struct lr_disk *d, const char *dir, struct lr_err *err)
{
    char path[PATH_MAX_];
    LR_TRY(join(path, dir, "lock"));
    LR_TRY(join(d->path, dir, "answers.mdb"));
    int rc = lr_io_mkdir(dir, 0700);
    if (rc)
        return lr_err_set(err, rc, dir, "cannot make or protect the directory: %s",
                          lr_strerror(rc));
    rc = lr_io_lock(path, &d->lock_fd);
    if (rc == LR_EBUSY)
        return lr_err_set(err, rc, dir, "another process uses this directory");
    return rc ? lr_err_set(err, rc, path, "cannot lock: %s", lr_strerror(rc)) : 0;
}

int lr_disk_open(struct lr_disk **out, const char *dir, uint64_t map_bytes, struct lr_err *err)
{
    struct lr_disk *d = lr_new(struct lr_disk);
    LR_FAIL_IF(!d, LR_ENOMEM);
    d->lock_fd = -1;
    lr_buf_init(&d->scratch, LR_DOC_LOG_MAX + LR_DOC_HEAD_MAX);
    int rc = lock_dir(d, dir, err);
    if (!rc) {
        rc = open_checked(d, map_bytes);
        if (rc)
            lr_err_set(err, rc, d->path, "cannot open the stored answers: %s", lr_strerror(rc));
    }
    if (rc) {
        lr_disk_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void lr_disk_close(struct lr_disk *d)
{
    if (!d)
        return;
    if (d->env)
        mdb_env_close(d->env);
    lr_buf_free(&d->scratch);
    lr_io_close(d->lock_fd);
    lr_free(d);
}

/* ---- reading ---- */

static int read_begin(struct lr_disk *d, MDB_txn **out)
{
    return MDB(mdb_txn_begin(d->env, NULL, MDB_RDONLY, out));
}

/* The head under a key; its key must be that key. */
static int head_of(const MDB_val *k, const MDB_val *v, struct lr_doc_meta *meta,
                   uint64_t *expires_ms, struct lr_doc_head *head)
{
    LR_TRY(lr_doc_head_decode(lr_str(v->mv_data, v->mv_size), meta, expires_ms, head));
    bool same = k->mv_size == 32 && memcmp(k->mv_data, meta->key.b, 32) == 0;
    return same && head->size == v->mv_size ? 0 : LR_ECORRUPT;
}

static int scan_with(MDB_cursor *c, lr_disk_fn fn, void *ctx)
{
    MDB_val k, v;
    int rc;
    while ((rc = MDB(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
        struct lr_doc_meta meta;
        struct lr_doc_head head = {0};
        struct lr_digest key;
        uint64_t expires = 0;
        if (k.mv_size != sizeof key.b)
            return LR_ECORRUPT;
        memcpy(key.b, k.mv_data, sizeof key.b);
        bool good = head_of(&k, &v, &meta, &expires, &head) == 0;
        LR_TRY(fn(ctx, &key, good ? &meta : NULL, expires, head.log_n));
    }
    return rc == LR_ENOENT ? 0 : rc;
}

int lr_disk_scan(struct lr_disk *d, lr_disk_fn fn, void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *c;
    LR_TRY(read_begin(d, &txn));
    int rc = MDB(mdb_cursor_open(txn, d->heads, &c));
    if (!rc) {
        rc = scan_with(c, fn, ctx);
        mdb_cursor_close(c);
    }
    mdb_txn_abort(txn);
    return rc;
}

int lr_disk_get(struct lr_disk *d, const struct lr_digest *key, struct lr_doc **out)
{
    MDB_txn *txn;
    struct lr_doc *doc = NULL;
    LR_TRY(read_begin(d, &txn));
    MDB_val k = val(key->b, sizeof key->b), v;
    int rc = MDB(mdb_get(txn, d->docs, &k, &v));
    if (!rc)
        rc = lr_doc_decode(lr_str(v.mv_data, v.mv_size), &doc);
    mdb_txn_abort(txn);
    LR_TRY(rc);
    if (!lr_digest_eq(&doc->meta.key, key)) {
        lr_doc_unref(doc);
        return LR_ECORRUPT;
    }
    *out = doc;
    return 0;
}

int lr_disk_heads(struct lr_disk *d, size_t n, const struct lr_digest *keys,
                  struct lr_doc_meta *metas, bool *ok)
{
    MDB_txn *txn;
    LR_TRY(read_begin(d, &txn));
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        MDB_val k = val(keys[i].b, sizeof keys[i].b), v;
        struct lr_doc_head head;
        uint64_t expires;
        rc = MDB(mdb_get(txn, d->heads, &k, &v));
        ok[i] = !rc && head_of(&k, &v, &metas[i], &expires, &head) == 0;
        if (rc == LR_ENOENT)
            rc = 0;
    }
    mdb_txn_abort(txn);
    return rc;
}

/* ---- writing ---- */

uint64_t lr_disk_pages(const struct lr_disk *d)
{
    MDB_envinfo info;
    MDB_stat st;
    /* Neither can fail on an open environment. */
    (void)mdb_env_info(d->env, &info);
    (void)mdb_env_stat(d->env, &st);
    return info.me_mapsize / st.ms_psize;
}

/* Adds up the free pages that the next transaction may take: those the newest one freed are not yet
 * among them. Database 0 is LMDB's own list: transaction -> count, pages. */
static int free_pages(struct lr_disk *d, uint64_t newest, uint64_t *out)
{
    MDB_txn *txn;
    MDB_cursor *c;
    MDB_val k, v;
    LR_TRY(read_begin(d, &txn));
    int rc = MDB(mdb_cursor_open(txn, 0, &c));
    if (!rc) {
        while ((rc = MDB(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0)
            if (lr_le64(k.mv_data) < newest)
                *out += lr_le64(v.mv_data);
        mdb_cursor_close(c);
    }
    mdb_txn_abort(txn);
    return rc == LR_ENOENT ? 0 : rc;
}

int lr_disk_room(struct lr_disk *d, size_t n, uint64_t bytes)
{
    MDB_envinfo info;
    LR_TRY(MDB(mdb_env_info(d->env, &info)));
    uint64_t pages = lr_disk_pages(d), left = pages - info.me_last_pgno - 1;
    uint64_t need = bytes / PAGE + n * PAGES_PER_PUT + pages / RESERVE;
    if (left < need)
        LR_TRY(free_pages(d, info.me_last_txnid, &left));
    return left < need ? LR_EOVER : 0;
}

int lr_disk_begin(struct lr_disk *d)
{
    return MDB(mdb_txn_begin(d->env, NULL, 0, &d->write));
}

int lr_disk_put(struct lr_disk *d, const struct lr_doc *doc)
{
    struct lr_doc_head head;
    struct lr_doc_meta meta;
    uint64_t expires;
    lr_buf_reset(&d->scratch);
    LR_TRY(lr_doc_encode(&doc->meta, doc->log, &d->scratch));
    LR_TRY(lr_doc_head_decode(lr_buf_str(&d->scratch), &meta, &expires, &head));
    MDB_val k = val(doc->meta.key.b, 32), v = val(d->scratch.p, d->scratch.len);
    LR_TRY(MDB(mdb_put(d->write, d->docs, &k, &v, 0)));
    v = val(d->scratch.p, head.size);
    return MDB(mdb_put(d->write, d->heads, &k, &v, 0));
}

int lr_disk_del(struct lr_disk *d, const struct lr_digest *key)
{
    MDB_val k = val(key->b, sizeof key->b);
    int rc = MDB(mdb_del(d->write, d->docs, &k, NULL));
    if (rc && rc != LR_ENOENT)
        return rc;
    rc = MDB(mdb_del(d->write, d->heads, &k, NULL));
    return rc == LR_ENOENT ? 0 : rc;
}

int lr_disk_note(struct lr_disk *d, const struct lr_digest *key, uint32_t hits, uint64_t expires_ms)
{
    MDB_val k = val(key->b, sizeof key->b), v;
    struct lr_doc_meta meta;
    struct lr_doc_head head;
    uint64_t was;
    int rc = MDB(mdb_get(d->write, d->heads, &k, &v));
    LR_FAIL_IF(rc == LR_ENOENT, 0);
    LR_TRY(rc);
    if (head_of(&k, &v, &meta, &was, &head))
        return 0; /* the next scan finds and deletes it */
    meta.hits = hits;
    lr_buf_reset(&d->scratch);
    LR_TRY(lr_doc_head_encode(&meta, expires_ms, head.log_n, &d->scratch));
    v = val(d->scratch.p, d->scratch.len);
    return MDB(mdb_put(d->write, d->heads, &k, &v, 0));
}

int lr_disk_commit(struct lr_disk *d)
{
    MDB_txn *txn = d->write;
    d->write = NULL;
    if (lr_fault_here()) {
        mdb_txn_abort(txn);
        return LR_EIO;
    }
    return rc_of(mdb_txn_commit(txn)); /* frees it either way */
}

int lr_disk_turn(struct lr_disk *d)
{
    /* LMDB keeps the last committed state whole until the one after it is committed too. */
    LR_TRY(lr_disk_begin(d));
    int rc = write_format(d->write, d->format);
    if (rc) {
        lr_disk_abort(d);
        return rc;
    }
    return lr_disk_commit(d);
}

void lr_disk_abort(struct lr_disk *d)
{
    mdb_txn_abort(d->write);
    d->write = NULL;
}
