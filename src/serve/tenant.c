/* SPDX-License-Identifier: Apache-2.0
 * serve/tenant.c - who is asking: credentials to tenants, proofs, limits.
 *
 * Pass-through (no keys file): the tenant IS the credential: BLAKE3(credential) keyed with the
 * deployment's secret. Hits are served only while the credential has a proof: it succeeded upstream
 * within keys.proof. A refusal (401, 403) takes the proof away at once. Proofs survive a restart in
 * <dir>/proofs (keyed hashes and times, nothing else).
 *
 * Managed (a keys file): the credential is one of our keys; its row names the tenant, all keys of one
 * tenant share its partition, and a valid key is its own proof. The file is read again when it changes.
 *
 *   credential --BLAKE3 keyed--> 32 bytes: first 8 = id, and BLAKE3 keyed again = secret of all digests
 *
 * Invariant: nothing here keeps a credential; what is compared is a keyed hash, in constant time.
 * Limits are counted in memory, a minute and a day at a time, per tenant. Requests are counted as they
 * come; tokens and money stand in the way of upstream calls only: what is stored is paid for.
 */
#include "serve/serve_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define TENANTS_MAX 65536 /* pass-through credentials remembered; the oldest proof gives way */
#define PROOF_MAGIC "LRPROOF1"

/* What is counted of one tenant. */
struct seat {
    uint64_t id;
    uint64_t proof_ms; /* last success upstream, Unix; 0 = none */
    uint64_t minute, day;
    uint64_t requests, tokens;
    double money;
};

struct key_hash {
    uint8_t b[32];
    struct lr_tenant who; /* as find gives it, limits apart */
    bool revoked;
};

struct lr_tenants {
    pthread_mutex_t mu; /* guards all below but secret, dir and managed */
    uint8_t secret[32];
    char *dir, *keys_path;
    bool managed;
    struct seat *seats; /* open addressing, cap a power of two */
    size_t n, cap;
    bool proofs_dirty;
    uint8_t salt[32];
    struct key_hash *keys; /* sorted by hash */
    size_t n_keys;
    struct timespec keys_mtime;
    off_t keys_size;
    ino_t keys_ino;
};

/* The deployment's secret: made once, mode 0600. */
static int load_secret(struct lr_tenants *t, struct lr_err *err)
{
    char path[4096];
    int k = snprintf(path, sizeof path, "%s/secret", t->dir);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof path, LR_EOVER);
    struct lr_buf b;
    lr_buf_init(&b, 64);
    int rc = lr_io_read_file(path, &b);
    if (rc == LR_ENOENT) {
        lr_random_bytes(t->secret, sizeof t->secret);
        rc = lr_io_write_file(path, lr_str(t->secret, sizeof t->secret), 0600);
    } else if (!rc && b.len != sizeof t->secret) {
        rc = LR_ECORRUPT;
    } else if (!rc) {
        memcpy(t->secret, b.p, sizeof t->secret);
    }
    lr_buf_free(&b);
    return rc ? lr_err_set(err, rc, path, "the deployment's secret: %s", lr_strerror(rc)) : 0;
}

static struct seat *find_seat(struct lr_tenants *t, uint64_t id)
{
    for (size_t i = id & (t->cap - 1);; i = (i + 1) & (t->cap - 1))
        if (t->seats[i].id == id || t->seats[i].id == 0)
            return &t->seats[i];
}

static int grow(struct lr_tenants *t)
{
    size_t cap = t->cap ? t->cap * 2 : 64;
    struct seat *old = t->seats, *seats = lr_calloc(cap, sizeof *seats);
    size_t old_cap = t->cap;
    LR_FAIL_IF(!seats, LR_ENOMEM);
    t->seats = seats;
    t->cap = cap;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].id)
            *find_seat(t, old[i].id) = old[i];
    lr_free(old);
    return 0;
}

/* At the bound: forget the older half of the proofs. Counters of limits go with them, which favours
 * the tenant; a managed house never gets here (its tenants are rows of a file). */
static void forget_half(struct lr_tenants *t)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->cap; i++)
        sum += t->seats[i].id ? t->seats[i].proof_ms / t->n : 0;
    struct seat *old = t->seats, *seats = lr_calloc(t->cap, sizeof *seats);
    if (!seats)
        return;
    t->seats = seats;
    t->n = 0;
    for (size_t i = 0; i < t->cap; i++)
        if (old[i].id && old[i].proof_ms > sum) {
            *find_seat(t, old[i].id) = old[i];
            t->n++;
        }
    lr_free(old);
}

/* The seat of id, made when absent; NULL when memory is out (the tenant is then unproven and unlimited
 * for this request). */
static struct seat *seat_locked(struct lr_tenants *t, uint64_t id)
{
    if (t->n * 2 >= t->cap && t->cap < 2 * TENANTS_MAX && grow(t) && t->n + 1 >= t->cap)
        return NULL;
    if (t->n >= TENANTS_MAX)
        forget_half(t);
    if (t->n + 1 >= t->cap)
        return NULL;
    struct seat *s = find_seat(t, id);
    if (!s->id) {
        s->id = id;
        t->n++;
    }
    return s;
}

static int proofs_path(const struct lr_tenants *t, char *path, size_t cap)
{
    int k = snprintf(path, cap, "%s/proofs", t->dir);
    return k < 0 || (size_t)k >= cap ? LR_EOVER : 0;
}

/* Proofs are a convenience: a file that does not parse means that credentials prove themselves anew. */
static void load_proofs(struct lr_tenants *t)
{
    char path[4096];
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(2));
    if (proofs_path(t, path, sizeof path) == 0 && lr_io_read_file(path, &b) == 0 && b.len >= 16 &&
        memcmp(b.p, PROOF_MAGIC, 8) == 0 &&
        lr_le64(b.p + 8) == lr_hash64(lr_str(b.p + 16, b.len - 16), 0))
        for (size_t i = 16; i + 16 <= b.len; i += 16) {
            struct seat *s = lr_le64(b.p + i) ? seat_locked(t, lr_le64(b.p + i)) : NULL;
            if (s)
                s->proof_ms = lr_le64(b.p + i + 8);
        }
    lr_buf_free(&b);
}

static void save_proofs(struct lr_tenants *t)
{
    char path[4096], rec[16];
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(2));
    lr_buf_add(&b, PROOF_MAGIC "\0\0\0\0\0\0\0\0", 16);
    pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->cap; i++)
        if (t->seats[i].id && t->seats[i].proof_ms) {
            lr_put_le64(rec, t->seats[i].id);
            lr_put_le64(rec + 8, t->seats[i].proof_ms);
            lr_buf_add(&b, rec, sizeof rec);
        }
    t->proofs_dirty = false;
    pthread_mutex_unlock(&t->mu);
    int rc = b.rc;
    if (!rc) {
        lr_put_le64(b.p + 8, lr_hash64(lr_str(b.p + 16, b.len - 16), 0));
        rc = proofs_path(t, path, sizeof path);
    }
    if (!rc)
        rc = lr_io_write_file(path, lr_buf_str(&b), 0600);
    if (rc)
        LR_LOG_EVERY(60 * LR_SEC, LR_LOG_WARN, "tenant", "event=proofs_not_saved error=%s", lr_errname(rc));
    lr_buf_free(&b);
}

static int by_hash(const void *a, const void *b)
{
    return memcmp(((const struct key_hash *)a)->b, ((const struct key_hash *)b)->b, 32);
}

/* Partition of a name: what kind of name it is goes into the hash, so that no credential can pose as a
 * tenant's name. */
static void identify(const struct lr_tenants *t, const char *kind, struct lr_str name, struct lr_tenant *out)
{
    struct lr_blake3 h;
    uint8_t d[40];
    lr_blake3_init_keyed(&h, t->secret);
    lr_blake3_add_str(&h, lr_strz(kind));
    lr_blake3_add_str(&h, name);
    lr_blake3_out(&h, d, sizeof d);
    out->id = lr_le64(d) ? lr_le64(d) : 1;
    memcpy(out->secret, d + 8, 32);
}

uint64_t lr_tenants_named(const struct lr_tenants *t, struct lr_str name)
{
    struct lr_tenant who;
    identify(t, "tenant", name, &who);
    return who.id;
}

/* Reads the keys file if it is another one than last time. */
static int refresh_keys(struct lr_tenants *t, struct lr_err *err)
{
    struct stat st;
    if (stat(t->keys_path, &st))
        return lr_err_set(err, LR_ENOENT, t->keys_path,
                          "the keys file is missing: make one with `larder key add NAME --keys-file F`");
    if (t->keys && st.st_mtim.tv_sec == t->keys_mtime.tv_sec &&
        st.st_mtim.tv_nsec == t->keys_mtime.tv_nsec && st.st_size == t->keys_size &&
        st.st_ino == t->keys_ino)
        return 0;
    struct lr_key_row *rows = NULL;
    uint8_t salt[32];
    size_t n;
    LR_TRY(lr_keys_load(t->keys_path, salt, &rows, &n, err));
    struct key_hash *keys = lr_calloc(n, sizeof *keys);
    int rc = keys ? 0 : LR_ENOMEM;
    for (size_t i = 0; !rc && i < n; i++) {
        rc = lr_unhex(lr_strz(rows[i].hash), keys[i].b, 32);
        memcpy(keys[i].who.name, rows[i].tenant, sizeof keys[i].who.name);
        identify(t, "tenant", lr_strz(keys[i].who.name), &keys[i].who);
        keys[i].who.proven = true;
        keys[i].revoked = rows[i].revoked_s != 0;
    }
    lr_free(rows);
    if (rc) {
        lr_free(keys);
        return rc;
    }
    qsort(keys, n, sizeof *keys, by_hash);
    pthread_mutex_lock(&t->mu);
    struct key_hash *old = t->keys;
    t->keys = keys;
    t->n_keys = n;
    memcpy(t->salt, salt, sizeof salt);
    t->keys_mtime = st.st_mtim;
    t->keys_size = st.st_size;
    t->keys_ino = st.st_ino;
    pthread_mutex_unlock(&t->mu);
    lr_free(old);
    return 0;
}

int lr_tenants_open(struct lr_tenants **out, const char *dir, const char *keys_file, struct lr_err *err)
{
    struct lr_tenants *t = lr_new(struct lr_tenants);
    LR_FAIL_IF(!t, LR_ENOMEM);
    pthread_mutex_init(&t->mu, NULL);
    t->managed = keys_file && *keys_file;
    t->dir = lr_strndup(dir, strlen(dir));
    int rc = t->dir ? 0 : LR_ENOMEM;
    if (!rc && t->managed && !(t->keys_path = lr_strndup(keys_file, strlen(keys_file))))
        rc = LR_ENOMEM;
    if (!rc)
        rc = grow(t);
    if (!rc)
        rc = load_secret(t, err);
    if (!rc && t->managed)
        rc = refresh_keys(t, err);
    if (rc) {
        lr_tenants_close(t);
        return rc;
    }
    if (!t->managed)
        load_proofs(t);
    t->proofs_dirty = false;
    *out = t;
    return 0;
}

void lr_tenants_close(struct lr_tenants *t)
{
    if (!t)
        return;
    if (t->proofs_dirty)
        save_proofs(t);
    pthread_mutex_destroy(&t->mu);
    explicit_bzero(t->secret, sizeof t->secret);
    lr_free(t->seats);
    lr_free(t->keys);
    lr_free(t->dir);
    lr_free(t->keys_path);
    lr_free(t);
}

bool lr_tenants_managed(const struct lr_tenants *t)
{
    return t->managed;
}

const uint8_t *lr_tenants_secret(const struct lr_tenants *t)
{
    return t->secret;
}

/* A search by keyed hash: where it ends tells nothing of a key, since nobody without the salt can steer a
 * hash; the last comparison takes the same time whatever differs. */
static bool find_key(struct lr_tenants *t, struct lr_str credential, struct lr_tenant *out)
{
    struct lr_digest d;
    bool ok = false;
    pthread_mutex_lock(&t->mu);
    lr_blake3_keyed(t->salt, credential, &d);
    size_t lo = 0, hi = t->n_keys;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(t->keys[mid].b, d.b, 32) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < t->n_keys && lr_str_same_secret(lr_str(t->keys[lo].b, 32), lr_str(d.b, 32))) {
        ok = !t->keys[lo].revoked;
        if (ok)
            *out = t->keys[lo].who;
    }
    pthread_mutex_unlock(&t->mu);
    return ok;
}

int lr_tenants_find(struct lr_tenants *t, struct lr_str credential, uint64_t now_ms, uint64_t proof_ms,
                    struct lr_tenant *out)
{
    *out = (struct lr_tenant){.id = 0};
    if (t->managed) {
        return find_key(t, credential, out) ? 0 : LR_EDENIED;
    }
    identify(t, "credential", credential, out);
    if (snprintf(out->name, sizeof out->name, "p-%08x", (unsigned)(out->id >> 32)) < 0)
        out->name[0] = 0;
    pthread_mutex_lock(&t->mu);
    const struct seat *s = find_seat(t, out->id);
    out->proven = s->id && s->proof_ms && s->proof_ms + proof_ms >= now_ms;
    pthread_mutex_unlock(&t->mu);
    return 0;
}

void lr_tenants_prove(struct lr_tenants *t, uint64_t id, bool ok, uint64_t now_ms)
{
    if (t->managed)
        return;
    pthread_mutex_lock(&t->mu);
    struct seat *s = seat_locked(t, id);
    if (s) {
        /* A write a minute is plenty for the file; a lost proof is dirty at once. */
        t->proofs_dirty |= ok ? now_ms - s->proof_ms > 60000 : s->proof_ms != 0;
        s->proof_ms = ok ? now_ms : 0;
    }
    pthread_mutex_unlock(&t->mu);
}

static void roll(struct seat *s, uint64_t now_ms)
{
    uint64_t minute = now_ms / 60000, day = now_ms / 86400000;
    if (s->minute != minute) {
        s->minute = minute;
        s->requests = 0;
    }
    if (s->day != day) {
        s->day = day;
        s->tokens = 0;
        s->money = 0;
    }
}

int lr_tenants_admit(struct lr_tenants *t, const struct lr_tenant *who, uint64_t now_ms,
                     const char **which, unsigned *retry_s)
{
    const struct lr_opt_tenant *l = who->limits;
    int rc = 0;
    if (!l)
        return 0;
    pthread_mutex_lock(&t->mu);
    struct seat *s = seat_locked(t, who->id);
    if (s) {
        roll(s, now_ms);
        if (l->requests_per_minute && s->requests >= l->requests_per_minute) {
            *which = "requests-per-minute";
            *retry_s = (unsigned)((60000 - now_ms % 60000) / 1000 + 1);
            rc = LR_EOVER;
        } else {
            s->requests++;
        }
    }
    pthread_mutex_unlock(&t->mu);
    return rc;
}

int lr_tenants_afford(struct lr_tenants *t, const struct lr_tenant *who, uint64_t now_ms,
                      const char **which, unsigned *retry_s)
{
    const struct lr_opt_tenant *l = who->limits;
    int rc = 0;
    if (!l)
        return 0;
    pthread_mutex_lock(&t->mu);
    struct seat *s = seat_locked(t, who->id);
    if (s) {
        roll(s, now_ms);
        bool tokens = l->tokens_per_day && s->tokens >= l->tokens_per_day;
        if (tokens || (l->money_per_day > 0 && s->money >= l->money_per_day)) {
            *which = tokens ? "tokens-per-day" : "money-per-day";
            *retry_s = (unsigned)((86400000 - now_ms % 86400000) / 1000 + 1);
            rc = LR_EOVER;
        }
    }
    pthread_mutex_unlock(&t->mu);
    return rc;
}

void lr_tenants_spend(struct lr_tenants *t, uint64_t id, uint64_t tokens, double money, uint64_t now_ms)
{
    pthread_mutex_lock(&t->mu);
    struct seat *s = seat_locked(t, id);
    if (s) {
        roll(s, now_ms);
        s->tokens += tokens;
        s->money += money;
    }
    pthread_mutex_unlock(&t->mu);
}

void lr_tenants_tick(struct lr_tenants *t)
{
    if (t->managed) {
        struct lr_err err = {0};
        if (refresh_keys(t, &err))
            LR_LOG_EVERY(60 * LR_SEC, LR_LOG_WARN, "tenant", "event=keys_kept reason=\"%s\" file=%s",
                         err.msg, err.where);
        return;
    }
    pthread_mutex_lock(&t->mu);
    bool dirty = t->proofs_dirty;
    pthread_mutex_unlock(&t->mu);
    if (dirty)
        save_proofs(t);
}
