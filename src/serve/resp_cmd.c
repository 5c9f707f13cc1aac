/* SPDX-License-Identifier: Apache-2.0
 * serve/resp_cmd.c - commands about data: from keys to the store and back.
 *
 *   (tenant of the credential) x (user/db) x key --> id --> store
 *
 * Idea. A key is opaque here: its id is made of the tenant, the namespace (user and database) and its
 * bytes, so no client names another's data, and SCAN, DBSIZE and FLUSHDB see one namespace only.
 * That two keys of LMCache's redis connector are halves of one object is the store's business.
 *
 * Never an error to a good SET. LMCache's client reads a fixed number of bytes for each reply: an
 * error puts it out of step for good. So a value that cannot be kept is dropped, which is what
 * caches do, and answered OK; the value it would have replaced is deleted before, for it is not the
 * newest any more. When not even that can be done (out of memory) the connection is closed.
 *
 * What takes long goes in steps: a value on disk (lr_resp_fetch), the values of MGET one by one as
 * long as replies are taken, counting a namespace STEP_BUCKETS at a time.
 *
 * Where it differs from Redis: no types but strings; KEEPTTL, GET and the commands that compute are
 * not there; EX and the like of a value that was received in place take effect some microseconds
 * after the value; SCAN's MATCH is a glob over keys, its COUNT what it looks at, as there.
 */
#include "serve/resp_int.h"

#include <fnmatch.h>
#include <stdio.h>

#define STEP_BUCKETS 2048
#define SCAN_BUCKETS 1024 /* a SCAN looks at no more */
#define SCAN_MAX     10000u

/* ---- keys ---- */

static struct lr_str space_of(const struct lr_resp_conn *c)
{
    return lr_str(c->space, c->space_n);
}

/* False: longer than any key can be. */
static bool id_of(const struct lr_resp_conn *c, size_t i, struct lr_digest *id)
{
    struct lr_str key = lr_resp_arg(&c->in, i);
    if (c->in.args[i].big || key.n > LR_OBJECT_NAME_MAX)
        return false;
    lr_store_id_opaque(c->tenant, space_of(c), key, id);
    return true;
}

static void describe(const struct lr_resp_conn *c, size_t i, const struct lr_digest *id,
                     uint64_t payload, struct lr_object *o)
{
    *o = (struct lr_object){.kind = LR_OBJECT_OPAQUE,
                            .id = *id,
                            .tenant = c->tenant,
                            .space = space_of(c),
                            .name = lr_resp_arg(&c->in, i),
                            .payload = payload};
}

bool lr_resp_object(const struct lr_resp_conn *c, size_t i, uint64_t payload, struct lr_object *o)
{
    struct lr_digest id;
    if (!id_of(c, i, &id))
        return false;
    describe(c, i, &id, payload, o);
    return true;
}

bool lr_resp_stores(const struct lr_resp_parser *p, size_t *key)
{
    size_t i = p->n - 1;
    struct lr_str name = lr_resp_arg(p, 0);
    if (i < 2)
        return false;
    *key = 1;
    if (lr_str_ieq(name, LR_STR("SET")) || lr_str_ieq(name, LR_STR("SETNX")))
        return i == 2;
    if (lr_str_ieq(name, LR_STR("SETEX")) || lr_str_ieq(name, LR_STR("PSETEX")))
        return i == 3;
    *key = i - 1;
    return lr_str_ieq(name, LR_STR("MSET")) && i % 2 == 0;
}

/* ---- SET and its kin ---- */

static struct lr_resp_big *big_of(struct lr_resp_conn *c, size_t arg)
{
    for (size_t i = 0; i < c->n_bigs; i++)
        if (c->bigs[i].arg == arg)
            return &c->bigs[i];
    return NULL;
}

/* The value is not kept: neither is what it would have replaced. */
static int drop(struct lr_resp_conn *c, const struct lr_digest *id)
{
    int rc = lr_store_del(lr_resp_store(c), id, 0, 0);
    lr_resp_count(c, LR_RESP_N_DROPPED, 1);
    return rc == LR_ENOENT ? 0 : rc;
}

/* A big one is in its draft already. */
static int store_big(struct lr_resp_conn *c, struct lr_resp_big *b, const struct lr_digest *id,
                     unsigned flags, uint64_t expires_ms)
{
    struct lr_draft *d = b ? b->draft : NULL;
    if (!d)
        return LR_EOVER;
    b->draft = NULL;
    LR_TRY(lr_draft_commit(d, flags, 0));
    return expires_ms ? lr_store_expire(lr_resp_store(c), id, expires_ms) : 0;
}

static int store_short(struct lr_resp_conn *c, size_t key, const struct lr_digest *id, size_t value,
                       unsigned flags, uint64_t expires_ms)
{
    struct lr_object o;
    struct lr_str v = lr_resp_arg(&c->in, value);
    describe(c, key, id, v.n, &o);
    o.expires_ms = expires_ms;
    return lr_store_put(lr_resp_store(c), &o, &(struct lr_piece){0, v.p, v.n}, 1, false, flags, 0);
}

/* Stores argument `value` under argument `key`. 0: done, or dropped; LR_EEXIST, LR_ENOENT: the
 * condition in flags does not hold; else the connection is to end. */
static int store(struct lr_resp_conn *c, size_t key, size_t value, unsigned flags,
                 uint64_t expires_ms)
{
    struct lr_digest id;
    lr_resp_count(c, LR_RESP_N_SETS, 1);
    if (!id_of(c, key, &id)) {
        lr_resp_count(c, LR_RESP_N_DROPPED, 1); /* nothing can be under it */
        return 0;
    }
    int rc = c->in.args[value].big ? store_big(c, big_of(c, value), &id, flags, expires_ms)
                                   : store_short(c, key, &id, value, flags, expires_ms);
    lr_resp_saw(c, LR_KV_SET, key, value, !rc);
    if (!rc || (rc == LR_EEXIST && flags & LR_PUT_IF_ABSENT) ||
        (rc == LR_ENOENT && flags & LR_PUT_IF_PRESENT))
        return rc;
    if (flags & LR_PUT_IF_ABSENT && lr_store_has(lr_resp_store(c), &id))
        return LR_EEXIST; /* refused before it was looked at */
    if (flags & LR_PUT_IF_PRESENT && !lr_store_has(lr_resp_store(c), &id))
        return LR_ENOENT;
    return drop(c, &id);
}

static enum lr_resp_go hang_up(struct lr_resp_conn *c)
{
    c->ending = true;
    return LR_RESP_DONE;
}

struct set_options {
    unsigned flags;
    uint64_t expires_ms;
    bool bad, bad_time;
};

/* A time as Unix ms; relative ones from now. 0 and below is no time to live. */
static void take_time(struct set_options *o, struct lr_str s, uint64_t unit, bool relative)
{
    int64_t v;
    if (lr_parse_i64(s, &v) || v <= 0 || (uint64_t)v > (UINT64_MAX >> 2) / unit)
        o->bad_time = true;
    else
        o->expires_ms = (uint64_t)v * unit + (relative ? lr_clock_wall_ms() : 0);
}

static struct set_options set_options(const struct lr_resp_conn *c)
{
    struct set_options o = {0};
    for (size_t i = 3; i < c->in.n && !o.bad; i++) {
        struct lr_str w = lr_resp_arg(&c->in, i);
        bool more = i + 1 < c->in.n;
        if (lr_str_ieq(w, LR_STR("NX")))
            o.flags |= LR_PUT_IF_ABSENT;
        else if (lr_str_ieq(w, LR_STR("XX")))
            o.flags |= LR_PUT_IF_PRESENT;
        else if (lr_str_ieq(w, LR_STR("EX")) && more)
            take_time(&o, lr_resp_arg(&c->in, ++i), 1000, true);
        else if (lr_str_ieq(w, LR_STR("PX")) && more)
            take_time(&o, lr_resp_arg(&c->in, ++i), 1, true);
        else if (lr_str_ieq(w, LR_STR("EXAT")) && more)
            take_time(&o, lr_resp_arg(&c->in, ++i), 1000, false);
        else if (lr_str_ieq(w, LR_STR("PXAT")) && more)
            take_time(&o, lr_resp_arg(&c->in, ++i), 1, false);
        else
            o.bad = true;
    }
    o.bad = o.bad || (o.flags & LR_PUT_IF_ABSENT && o.flags & LR_PUT_IF_PRESENT);
    return o;
}

static enum lr_resp_go run_set(struct lr_resp_conn *c)
{
    struct set_options o = set_options(c);
    if (o.bad)
        return lr_resp_refuse(c, "syntax error");
    if (o.bad_time)
        return lr_resp_refuse(c, "invalid expire time in 'set' command");
    int rc = store(c, 1, 2, o.flags, o.expires_ms);
    if (rc == LR_EEXIST || rc == LR_ENOENT)
        lr_resp_nil(c);
    else if (rc)
        return hang_up(c);
    else
        lr_resp_put(c, LR_STR("+OK\r\n"));
    return LR_RESP_DONE;
}

static enum lr_resp_go set_with_time(struct lr_resp_conn *c, uint64_t unit)
{
    struct set_options o = {0};
    take_time(&o, lr_resp_arg(&c->in, 2), unit, true);
    if (o.bad_time)
        return lr_resp_refuse(c, "invalid expire time in 'setex' command");
    if (store(c, 1, 3, 0, o.expires_ms))
        return hang_up(c);
    lr_resp_put(c, LR_STR("+OK\r\n"));
    return LR_RESP_DONE;
}

static enum lr_resp_go run_setex(struct lr_resp_conn *c)
{
    return set_with_time(c, 1000);
}

static enum lr_resp_go run_psetex(struct lr_resp_conn *c)
{
    return set_with_time(c, 1);
}

static enum lr_resp_go run_setnx(struct lr_resp_conn *c)
{
    int rc = store(c, 1, 2, LR_PUT_IF_ABSENT, 0);
    if (rc && rc != LR_EEXIST)
        return hang_up(c);
    lr_resp_put(c, rc ? LR_STR(":0\r\n") : LR_STR(":1\r\n"));
    return LR_RESP_DONE;
}

static enum lr_resp_go run_mset(struct lr_resp_conn *c)
{
    if (c->in.n % 2 == 0)
        return lr_resp_refuse(c, "wrong number of arguments for 'mset' command");
    for (size_t i = 1; i + 1 < c->in.n; i += 2)
        if (store(c, i, i + 1, 0, 0))
            return hang_up(c);
    lr_resp_put(c, LR_STR("+OK\r\n"));
    return LR_RESP_DONE;
}

/* ---- GET and its kin ---- */

static void answer_get(struct lr_resp_conn *c, size_t i)
{
    lr_resp_count(c, LR_RESP_N_GETS, 1);
    lr_resp_saw(c, LR_KV_GET, i, 0, !c->fetch_rc);
    if (c->fetch_rc) {
        lr_resp_nil(c);
        return;
    }
    lr_resp_count(c, LR_RESP_N_HITS, 1);
    lr_resp_view(c, c->view);
}

static enum lr_resp_go got(struct lr_resp_conn *c)
{
    answer_get(c, 1);
    return LR_RESP_DONE;
}

/* Looks the key in argument i up. */
static enum lr_resp_go look_up(struct lr_resp_conn *c, size_t i)
{
    struct lr_digest id;
    if (id_of(c, i, &id))
        return lr_resp_fetch(c, &id);
    c->fetch_rc = LR_ENOENT;
    return LR_RESP_DONE;
}

static enum lr_resp_go run_get(struct lr_resp_conn *c)
{
    c->step = got;
    return look_up(c, 1) == LR_RESP_DONE ? got(c) : LR_RESP_WAIT;
}

static enum lr_resp_go mget_next(struct lr_resp_conn *c)
{
    for (; c->cursor < c->in.n; c->cursor++) {
        if (lr_resp_full(c))
            return LR_RESP_AGAIN;
        if (look_up(c, (size_t)c->cursor) == LR_RESP_WAIT)
            return LR_RESP_WAIT;
        answer_get(c, (size_t)c->cursor);
    }
    return LR_RESP_DONE;
}

/* Called for a fetch that came, or because there is room for replies again. */
static enum lr_resp_go mget_on(struct lr_resp_conn *c)
{
    if (c->count) {
        c->count = 0;
        answer_get(c, (size_t)c->cursor);
        c->cursor++;
    }
    enum lr_resp_go went = mget_next(c);
    c->count = went == LR_RESP_WAIT; /* a fetch is on its way */
    return went;
}

static enum lr_resp_go run_mget(struct lr_resp_conn *c)
{
    lr_resp_putf(c, "*%zu\r\n", c->in.n - 1);
    c->cursor = 1;
    c->count = 0;
    c->step = mget_on;
    return mget_on(c);
}

static enum lr_resp_go run_strlen(struct lr_resp_conn *c)
{
    struct lr_digest id;
    struct lr_store_entry e = {.bytes = 0};
    if (id_of(c, 1, &id) && lr_store_entry(lr_resp_store(c), &id, &e))
        e.bytes = 0;
    lr_resp_putf(c, ":%llu\r\n", (unsigned long long)e.bytes);
    return LR_RESP_DONE;
}

static enum lr_resp_go run_exists(struct lr_resp_conn *c)
{
    struct lr_digest id;
    size_t n = 0;
    for (size_t i = 1; i < c->in.n; i++) {
        bool here = id_of(c, i, &id) && lr_store_has(lr_resp_store(c), &id);
        lr_resp_saw(c, LR_KV_EXISTS, i, 0, here);
        n += here;
    }
    lr_resp_putf(c, ":%zu\r\n", n);
    return LR_RESP_DONE;
}

static enum lr_resp_go run_del(struct lr_resp_conn *c)
{
    struct lr_digest id;
    size_t n = 0;
    for (size_t i = 1; i < c->in.n; i++) {
        int rc = id_of(c, i, &id) ? lr_store_del(lr_resp_store(c), &id, 0, 0) : LR_ENOENT;
        if (rc && rc != LR_ENOENT)
            return hang_up(c);
        n += !rc;
    }
    lr_resp_putf(c, ":%zu\r\n", n);
    return LR_RESP_DONE;
}

static enum lr_resp_go run_type(struct lr_resp_conn *c)
{
    struct lr_digest id;
    bool here = id_of(c, 1, &id) && lr_store_has(lr_resp_store(c), &id);
    lr_resp_put(c, here ? LR_STR("+string\r\n") : LR_STR("+none\r\n"));
    return LR_RESP_DONE;
}

/* ---- times ---- */

/* ":-2" absent, ":-1" for ever, else what is left. */
static enum lr_resp_go tell_time(struct lr_resp_conn *c, uint64_t unit)
{
    struct lr_digest id;
    struct lr_store_entry e;
    if (!id_of(c, 1, &id) || lr_store_entry(lr_resp_store(c), &id, &e)) {
        lr_resp_put(c, LR_STR(":-2\r\n"));
    } else if (!e.expires_ms) {
        lr_resp_put(c, LR_STR(":-1\r\n"));
    } else {
        uint64_t now = lr_clock_wall_ms(), left = e.expires_ms > now ? e.expires_ms - now : 0;
        lr_resp_putf(c, ":%llu\r\n", (unsigned long long)((left + unit / 2) / unit));
    }
    return LR_RESP_DONE;
}

static enum lr_resp_go run_ttl(struct lr_resp_conn *c)
{
    return tell_time(c, 1000);
}

static enum lr_resp_go run_pttl(struct lr_resp_conn *c)
{
    return tell_time(c, 1);
}

/* at 0: never. ":1" done, ":0" absent. */
static enum lr_resp_go set_time(struct lr_resp_conn *c, uint64_t at)
{
    struct lr_digest id;
    int rc = id_of(c, 1, &id) ? lr_store_expire(lr_resp_store(c), &id, at) : LR_ENOENT;
    if (rc && rc != LR_ENOENT)
        return hang_up(c);
    lr_resp_put(c, rc ? LR_STR(":0\r\n") : LR_STR(":1\r\n"));
    return LR_RESP_DONE;
}

static enum lr_resp_go expire(struct lr_resp_conn *c, uint64_t unit, bool relative)
{
    int64_t v;
    struct lr_str s = lr_resp_arg(&c->in, 2);
    struct set_options o = {0};
    if (lr_parse_i64(s, &v))
        return lr_resp_refuse(c, "value is not an integer or out of range");
    if (v <= 0)
        return set_time(c, 1); /* the past: gone */
    take_time(&o, s, unit, relative);
    return o.bad_time ? lr_resp_refuse(c, "invalid expire time in 'expire' command")
                      : set_time(c, o.expires_ms);
}

static enum lr_resp_go run_expire(struct lr_resp_conn *c)
{
    return expire(c, 1000, true);
}

static enum lr_resp_go run_pexpire(struct lr_resp_conn *c)
{
    return expire(c, 1, true);
}

static enum lr_resp_go run_expireat(struct lr_resp_conn *c)
{
    return expire(c, 1000, false);
}

static enum lr_resp_go run_persist(struct lr_resp_conn *c)
{
    struct lr_digest id;
    struct lr_store_entry e;
    if (!id_of(c, 1, &id) || lr_store_entry(lr_resp_store(c), &id, &e) || !e.expires_ms) {
        lr_resp_put(c, LR_STR(":0\r\n"));
        return LR_RESP_DONE;
    }
    return set_time(c, 0);
}

/* ---- the namespace ---- */

struct walk {
    const struct lr_resp_conn *conn;
    struct lr_buf *keys; /* bulk strings; NULL: counting */
    const char *match;   /* NULL: all */
    uint64_t n;
};

static void seen(void *arg, const struct lr_store_entry *e)
{
    struct walk *w = arg;
    char key[LR_OBJECT_NAME_MAX + 1];
    if (e->kind != LR_OBJECT_OPAQUE || e->tenant != w->conn->tenant ||
        !lr_str_eq(e->space, space_of(w->conn)))
        return;
    if (w->match) {
        if (memchr(e->name.p, 0, e->name.n))
            return; /* no glob is of such keys */
        memcpy(key, e->name.p, e->name.n);
        key[e->name.n] = 0;
        if (fnmatch(w->match, key, 0))
            return;
    }
    w->n++;
    if (!w->keys)
        return;
    lr_buf_addf(w->keys, "$%zu\r\n", e->name.n);
    lr_buf_adds(w->keys, e->name);
    lr_buf_addz(w->keys, "\r\n");
}

static enum lr_resp_go count_on(struct lr_resp_conn *c)
{
    struct walk w = {.conn = c};
    for (int i = 0; i < STEP_BUCKETS; i++) {
        c->cursor = lr_store_scan(lr_resp_store(c), c->cursor, seen, &w);
        if (!c->cursor)
            break;
    }
    c->count += w.n;
    if (c->cursor)
        return LR_RESP_AGAIN;
    lr_resp_putf(c, ":%llu\r\n", (unsigned long long)c->count);
    return LR_RESP_DONE;
}

static enum lr_resp_go run_dbsize(struct lr_resp_conn *c)
{
    c->cursor = c->count = 0;
    c->step = count_on;
    return count_on(c);
}

static enum lr_resp_go run_scan(struct lr_resp_conn *c)
{
    uint64_t cursor, count = 10;
    struct lr_buf keys, match;
    if (lr_parse_u64(lr_resp_arg(&c->in, 1), &cursor))
        return lr_resp_refuse(c, "invalid cursor");
    lr_buf_init(&match, LR_KIB(4));
    bool bad = false, none = false;
    for (size_t i = 2; i < c->in.n && !bad; i += 2) {
        struct lr_str w = lr_resp_arg(&c->in, i);
        struct lr_str v = i + 1 < c->in.n ? lr_resp_arg(&c->in, i + 1) : lr_str("", 0);
        if (i + 1 == c->in.n)
            bad = true;
        else if (lr_str_ieq(w, LR_STR("COUNT")))
            bad = lr_parse_u64(v, &count) || !count;
        else if (lr_str_ieq(w, LR_STR("MATCH")))
            bad = lr_buf_adds(&match, v) || lr_buf_addc(&match, 0);
        else if (lr_str_ieq(w, LR_STR("TYPE")))
            none = !lr_str_ieq(v, LR_STR("string"));
        else
            bad = true;
    }
    if (bad) {
        lr_buf_free(&match);
        return lr_resp_refuse(c, "syntax error");
    }
    lr_buf_init(&keys, LR_MIB(64));
    struct walk w = {.conn = c, .keys = &keys, .match = match.len ? match.p : NULL};
    count = count < SCAN_MAX ? count : SCAN_MAX;
    for (int i = 0; i < SCAN_BUCKETS && w.n < count; i++) {
        cursor = lr_store_scan(lr_resp_store(c), cursor, seen, &w);
        if (!cursor)
            break;
    }
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)cursor);
    lr_resp_put(c, LR_STR("*2\r\n"));
    lr_resp_bulk(c, lr_str(text, n > 0 ? (size_t)n : 0));
    lr_resp_putf(c, "*%llu\r\n", none ? 0ull : (unsigned long long)w.n);
    if (!none)
        lr_resp_put(c, lr_buf_str(&keys));
    bool lost = keys.rc;
    lr_buf_free(&keys);
    lr_buf_free(&match);
    return lost ? hang_up(c) : LR_RESP_DONE;
}

static enum lr_resp_go run_flushdb(struct lr_resp_conn *c)
{
    if (lr_store_bump(lr_resp_store(c), c->tenant, space_of(c), 0, 0, NULL))
        return hang_up(c);
    lr_resp_put(c, LR_STR("+OK\r\n"));
    return LR_RESP_DONE;
}

struct used {
    struct lr_str user;
    bool db[LR_RESP_DBS];
};

static void note_space(void *arg, struct lr_str name)
{
    struct used *u = arg;
    uint64_t db;
    if (u->user.n) {
        if (name.n <= u->user.n || !lr_str_starts(name, u->user) || name.p[u->user.n] != '/')
            return;
        name = lr_str(name.p + u->user.n + 1, name.n - u->user.n - 1);
    }
    if (!lr_parse_u64(name, &db) && db < LR_RESP_DBS)
        u->db[db] = true;
}

/* Every database of this user, of this tenant. */
static enum lr_resp_go run_flushall(struct lr_resp_conn *c)
{
    struct used u = {.user = lr_strz(c->user)};
    unsigned db = c->db;
    int rc = 0;
    lr_store_spaces(lr_resp_store(c), c->tenant, note_space, &u);
    for (c->db = 0; c->db < LR_RESP_DBS && !rc; c->db++) {
        lr_resp_settle(c);
        if (u.db[c->db])
            rc = lr_store_bump(lr_resp_store(c), c->tenant, space_of(c), 0, 0, NULL);
    }
    c->db = db;
    lr_resp_settle(c);
    if (rc)
        return hang_up(c);
    lr_resp_put(c, LR_STR("+OK\r\n"));
    return LR_RESP_DONE;
}

/* ---- the table ---- */

static const struct lr_resp_command commands[] = {
    {"AUTH", -2, lr_resp_auth, true, 0, 0, 0},
    {"CLIENT", -2, lr_resp_client, false, 0, 0, 0},
    {"COMMAND", -1, lr_resp_describe, false, 0, 0, 0},
    {"CONFIG", -2, lr_resp_config, false, 0, 0, 0},
    {"DBSIZE", 1, run_dbsize, false, 0, 0, 0},
    {"DEL", -2, run_del, false, 1, -1, 1},
    {"ECHO", 2, lr_resp_echo, false, 0, 0, 0},
    {"EXISTS", -2, run_exists, false, 1, -1, 1},
    {"EXPIRE", 3, run_expire, false, 1, 1, 1},
    {"EXPIREAT", 3, run_expireat, false, 1, 1, 1},
    {"FLUSHALL", -1, run_flushall, false, 0, 0, 0},
    {"FLUSHDB", -1, run_flushdb, false, 0, 0, 0},
    {"GET", 2, run_get, false, 1, 1, 1},
    {"HELLO", -1, lr_resp_hello, true, 0, 0, 0},
    {"INFO", -1, lr_resp_info, false, 0, 0, 0},
    {"MGET", -2, run_mget, false, 1, -1, 1},
    {"MSET", -3, run_mset, false, 1, -1, 2},
    {"PERSIST", 2, run_persist, false, 1, 1, 1},
    {"PEXPIRE", 3, run_pexpire, false, 1, 1, 1},
    {"PING", -1, lr_resp_ping, false, 0, 0, 0},
    {"PSETEX", 4, run_psetex, false, 1, 1, 1},
    {"PTTL", 2, run_pttl, false, 1, 1, 1},
    {"QUIT", -1, lr_resp_quit, true, 0, 0, 0},
    {"RESET", 1, lr_resp_reset, true, 0, 0, 0},
    {"SCAN", -2, run_scan, false, 0, 0, 0},
    {"SELECT", 2, lr_resp_select, false, 0, 0, 0},
    {"SET", -3, run_set, false, 1, 1, 1},
    {"SETEX", 4, run_setex, false, 1, 1, 1},
    {"SETNX", 3, run_setnx, false, 1, 1, 1},
    {"STRLEN", 2, run_strlen, false, 1, 1, 1},
    {"TIME", 1, lr_resp_time, false, 0, 0, 0},
    {"TTL", 2, run_ttl, false, 1, 1, 1},
    {"TYPE", 2, run_type, false, 1, 1, 1},
    {"UNLINK", -2, run_del, false, 1, -1, 1},
};

const struct lr_resp_command *lr_resp_commands(size_t *n)
{
    *n = LR_COUNT(commands);
    return commands;
}

static const struct lr_resp_command *find(struct lr_str name)
{
    size_t lo = 0, hi = LR_COUNT(commands);
    char upper[16];
    if (!name.n || name.n >= sizeof upper)
        return NULL;
    for (size_t i = 0; i < name.n; i++)
        upper[i] = (char)(name.p[i] >= 'a' && name.p[i] <= 'z' ? name.p[i] - 'a' + 'A' : name.p[i]);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int cmp = lr_str_cmp(lr_str(upper, name.n), lr_strz(commands[mid].name));
        if (!cmp)
            return &commands[mid];
        if (cmp < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* The bytes of a big argument are not here, unless it is a value. */
static bool has_big(const struct lr_resp_conn *c)
{
    for (size_t i = 0; i < c->in.n; i++)
        if (c->in.args[i].big)
            return true;
    return false;
}

enum lr_resp_go lr_resp_refuse(struct lr_resp_conn *c, const char *text)
{
    lr_resp_putf(c, "-ERR %s\r\n", text);
    return LR_RESP_DONE;
}

static enum lr_resp_go unknown(struct lr_resp_conn *c, struct lr_str name)
{
    char shown[64];
    size_t n = name.n < sizeof shown - 1 ? name.n : sizeof shown - 1;
    for (size_t i = 0; i < n; i++)
        shown[i] = (char)(name.p[i] >= ' ' && name.p[i] < 127 && name.p[i] != '\'' ? name.p[i] : '?');
    shown[n] = 0;
    lr_resp_putf(c, "-ERR unknown command '%s'\r\n", shown);
    return LR_RESP_DONE;
}

/* Data before a credential: one error, and the connection ends. */
static enum lr_resp_go deny(struct lr_resp_conn *c)
{
    lr_resp_count(c, LR_RESP_N_DENIED, 1);
    lr_resp_put(c, LR_STR("-NOAUTH Authentication required.\r\n"));
    return hang_up(c);
}

enum lr_resp_go lr_resp_run(struct lr_resp_conn *c)
{
    struct lr_str name = lr_resp_arg(&c->in, 0);
    const struct lr_resp_command *cmd = find(name);
    if (!c->known && !(cmd && cmd->open))
        return deny(c);
    if (!cmd)
        return unknown(c, name);
    size_t words = (size_t)(cmd->arity < 0 ? -cmd->arity : cmd->arity);
    if (cmd->arity < 0 ? c->in.n < words : c->in.n != words) {
        lr_resp_putf(c, "-ERR wrong number of arguments for '%s' command\r\n", cmd->name);
        return LR_RESP_DONE;
    }
    if (!cmd->first && has_big(c)) /* a big key is one that nothing is under */
        return lr_resp_refuse(c, "argument too long");
    return cmd->run(c);
}
