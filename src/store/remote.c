/* SPDX-License-Identifier: Apache-2.0
 * store/remote.c - the remote tier: objects in one Redis or Valkey that machines share.
 *
 *   put ---> save lane: queue -> SET SET SET ... --> server        one thread and connection a lane
 *   miss --> load lane: queue -> GET EXISTS GET ... <-- server --> checked --> memory
 *
 * What goes there. Content-addressed objects only, header and payload as they lie in memory, under
 * "larder:1:" and the id in hex (docs/formats/remote.md). Such an object is never stale: its id is a
 * digest of all that makes it what it is, and whoever put it put the same. Opaque values do not go
 * there. Their newest value may be on a machine whose write has not arrived, or was dropped, and
 * only a round trip to the server on each read and each write could tell: so no epoch, lease or
 * counter kept here would let us promise what the store promises of them (queue.c).
 *
 * What comes from there is believed as far as it proves itself: a sound header, of content, whose id is
 * the one asked for and is again the digest of that header's identity, and sound sums of each part.
 * Anything else, another's value under our key, a reply that slipped by one, a cut, is a miss and a
 * count. This guards against damage and mistakes, not against who can write to the server at will.
 *
 * Nobody waits but by choice. A save is dropped when its queue is full; a load has the deadline of who
 * wants it, and lands for the next when it comes late. A lane that fails (refused, cut, silent, slow,
 * no protocol) answers all it has with misses and closes; its breaker then refuses at the door for a
 * pause that doubles from 100 ms to 10 s while it fails on, so a dead server costs one clock read a
 * miss. An exchange has `remote_ms`, and more only as bytes move (SLOWEST). A batch to which each answer
 * was an error (-MOVED, -LOADING, -OOM) opens the breaker too, without hanging up.
 *
 * Surely absent. The cuckoo filter knows our own tiers; other machines put what it cannot know. An id
 * that the server did not have is remembered for ABSENT_NS in a small table, a hash and a time a slot,
 * so a chain that is nowhere is asked for once a second; lr_store_prefix_within asks for all of a
 * chain in one batch.
 *
 * hiredis connects and parses. What is sent goes from where it lies (sendmsg), as its own buffer would
 * copy 64 MiB; strings are checked and copied once, out of the parser's buffer. Arrays are refused, so no
 * reply can ask for more memory than a value. Resolving a name blocks the lane's thread, nobody else.
 */
#include "store/store_int.h"

#include <stdio.h>

#ifdef LR_HAVE_HIREDIS
#include <errno.h>
#include <hiredis.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define KEY_PREFIX   "larder:1:"
#define KEY_BYTES    (sizeof KEY_PREFIX - 1 + 64)
#define BATCH        32u           /* errands in one exchange */
#define BATCH_BYTES  LR_MIB(8)     /* of values, from the second on */
#define LOADS_MAX    1024u         /* errands queued in the load lane */
#define SAVES_MAX    1024u
#define SAVE_BYTES   LR_MIB(256)   /* queued or being sent; an eighth of memory when that is less */
#define PAUSE_MIN    (100 * LR_MS)
#define PAUSE_MAX    (10 * LR_SEC)
#define SLOWEST      LR_MIB(4)     /* bytes a second that lengthen an exchange */
#define LAST_SAVES   LR_SEC        /* at the end */
#define ABSENT_SLOTS 4096u
#define ABSENT_NS    LR_SEC
#define CHUNK        LR_KIB(64)
#define TEXT         512u          /* of a command without its value; of a greeting */

struct lane {
    struct lr_remote *remote;
    pthread_t thread;
    bool running;
    pthread_mutex_t mu; /* guards the queue; a leaf */
    pthread_cond_t more;
    struct lr_errand *head, **tail;
    size_t n, bytes; /* queued; bytes: with those being sent */
    _Atomic uint64_t closed_until_ns; /* the breaker */
    uint64_t pause_ns;
    /* the thread's own */
    redisContext *c; /* or NULL */
    struct lr_errand *batch[BATCH];
    size_t n_batch, answered, greetings, errors;
    char text[BATCH + 1][TEXT];
    struct iovec out[4 * BATCH + 1];
    size_t n_out, first_out;
    uint64_t moved; /* bytes of this exchange */
    int type;       /* of the reply that was parsed */
    long long number;
    int got_rc;
    struct lr_block *got;
    uint8_t *chunk;
};

struct absent {
    _Atomic uint64_t hash, until_ns;
};

struct lr_remote {
    struct lr_store *store;
    char *host, *user, *password; /* owned; user, password: "" when there is none */
    int port;
    unsigned db;
    uint64_t patience_ns, ttl_ms;
    size_t save_max;
    atomic_bool closing;
    _Atomic uint64_t end_ns; /* of the last saves */
    struct lane load, save;
    struct absent absent[ABSENT_SLOTS];
};

/* ---- queues ---- */

static size_t weight(const struct lr_errand *e)
{
    return e->block ? (size_t)e->block->bytes : 0;
}

static bool resting(const struct lane *l)
{
    uint64_t until = atomic_load_explicit(&l->closed_until_ns, memory_order_relaxed);
    return until && lr_clock_mono_ns() < until;
}

static int submit(struct lane *l, struct lr_errand *e, size_t n_max, size_t bytes_max)
{
    LR_FAIL_IF(resting(l), LR_EBUSY);
    e->next = NULL;
    pthread_mutex_lock(&l->mu);
    bool in = !atomic_load(&l->remote->closing) && l->n < n_max &&
              (!l->bytes || l->bytes + weight(e) <= bytes_max);
    if (in) {
        *l->tail = e;
        l->tail = &e->next;
        l->n++;
        l->bytes += weight(e);
        pthread_cond_signal(&l->more);
    }
    pthread_mutex_unlock(&l->mu);
    return in ? 0 : LR_EBUSY;
}

/* The next batch; false: the end, and nothing is queued. */
static bool take(struct lane *l)
{
    l->n_batch = l->answered = 0;
    size_t bytes = 0;
    pthread_mutex_lock(&l->mu);
    while (!l->head && !atomic_load(&l->remote->closing))
        pthread_cond_wait(&l->more, &l->mu);
    while (l->head && l->n_batch < BATCH && (!bytes || bytes + weight(l->head) <= BATCH_BYTES)) {
        struct lr_errand *e = l->head;
        l->head = e->next;
        if (!l->head)
            l->tail = &l->head;
        l->n--;
        bytes += weight(e);
        l->batch[l->n_batch++] = e;
    }
    pthread_mutex_unlock(&l->mu);
    return l->n_batch;
}

/* ---- what is not there ---- */

static struct absent *slot_of(struct lr_remote *r, const struct lr_digest *id)
{
    return &r->absent[lr_id_hash(id) % ABSENT_SLOTS];
}

static bool known_absent(struct lr_remote *r, const struct lr_digest *id)
{
    struct absent *a = slot_of(r, id);
    return atomic_load(&a->hash) == lr_le64(id->b + 8) &&
           atomic_load(&a->until_ns) > lr_clock_mono_ns();
}

/* Two threads may mix a slot up: a false "absent" is a miss of a second at most. */
static void note_absent(struct lr_remote *r, const struct lr_digest *id)
{
    struct absent *a = slot_of(r, id);
    atomic_store(&a->until_ns, lr_clock_mono_ns() + ABSENT_NS);
    atomic_store(&a->hash, lr_le64(id->b + 8));
}

/* ---- replies ---- */

static struct lr_errand *asked(struct lane *l)
{
    return l->greetings || l->answered == l->n_batch ? NULL : l->batch[l->answered];
}

/* A block of what the server says is the object `id`. */
static int check_value(struct lr_store *s, const struct lr_digest *id, const uint8_t *p, size_t n,
                       struct lr_block **out)
{
    struct lr_object o;
    struct lr_digest again;
    struct lr_block *b;
    size_t head;
    LR_FAIL_IF(lr_object_decode(p, n, &o, &head) || o.kind != LR_OBJECT_CONTENT ||
                   !lr_digest_eq(&o.id, id) || o.payload != n - head,
               LR_ECORRUPT);
    lr_store_id_content(&o, &again);
    LR_FAIL_IF(!lr_digest_eq(&again, id) || !lr_payload_ok(p, head, &o, p + head), LR_ECORRUPT);
    LR_FAIL_IF(o.payload > s->opts.value_max, LR_EOVER);
    LR_TRY(lr_block_new(s, head, o.payload, &b));
    memcpy(b->image + LR_RECORD_HEAD, p, head);
    if (o.payload)
        memcpy(b->image + b->payload, p + head, (size_t)o.payload);
    *out = b;
    return 0;
}

static void *on_string(const redisReadTask *t, char *p, size_t n)
{
    struct lane *l = t->privdata;
    const struct lr_errand *e = asked(l);
    l->type = t->type;
    if (t->type == REDIS_REPLY_STRING && e && e->kind == LR_ERRAND_GET)
        l->got_rc = check_value(l->remote->store, &e->id, (uint8_t *)p, n, &l->got);
    return l;
}

static void *on_array(const redisReadTask *t, int n)
{
    (void)t, (void)n;
    return NULL; /* the parser gives up */
}

static void *on_integer(const redisReadTask *t, long long n)
{
    struct lane *l = t->privdata;
    l->type = t->type;
    l->number = n;
    return l;
}

static void *on_nil(const redisReadTask *t)
{
    struct lane *l = t->privdata;
    l->type = t->type;
    return l;
}

static void on_free(void *p)
{
    (void)p;
}

static void end_errand(struct lane *l, struct lr_errand *e, int rc, struct lr_block *b)
{
    struct lr_store *s = l->remote->store;
    if (e->kind == LR_ERRAND_SET || e->kind == LR_ERRAND_DEL) {
        pthread_mutex_lock(&l->mu);
        l->bytes -= weight(e);
        pthread_mutex_unlock(&l->mu);
        lr_count(s, rc ? LR_STORE_REMOTE_DROPS : LR_STORE_REMOTE_WRITES);
        lr_block_unref(e->block);
        lr_free(e);
        return;
    }
    e->done(e, rc, b);
}

/* The reply that was parsed is that of the next errand. LR_ECLOSED: it is nobody's, or we are not
 * welcome. */
static int take_reply(struct lane *l)
{
    struct lr_store *s = l->remote->store;
    bool error = l->type == REDIS_REPLY_ERROR;
    if (l->greetings) {
        l->greetings--;
        return error ? LR_EDENIED : 0;
    }
    struct lr_errand *e = asked(l);
    LR_FAIL_IF(!e, LR_ECLOSED);
    struct lr_block *b = l->got;
    int rc = error ? LR_EBUSY : 0;
    l->got = NULL;
    l->answered++;
    l->errors += error;
    if (error)
        lr_count(s, LR_STORE_REMOTE_ERRORS);
    if (!error && e->kind == LR_ERRAND_GET) {
        rc = l->type == REDIS_REPLY_STRING ? l->got_rc : LR_ENOENT;
        if (rc == LR_ECORRUPT)
            lr_count(s, LR_STORE_REMOTE_BAD);
    }
    if (!error && e->kind == LR_ERRAND_EXISTS)
        rc = l->type == REDIS_REPLY_INTEGER && l->number > 0 ? 0 : LR_ENOENT;
    if (rc == LR_ENOENT)
        note_absent(l->remote, &e->id);
    if (!error && e->kind == LR_ERRAND_SET && l->type != REDIS_REPLY_STATUS)
        rc = LR_EEXIST; /* NX, and it was there: as good */
    end_errand(l, e, rc == LR_EEXIST ? 0 : rc, b);
    return 0;
}

/* ---- what is sent ---- */

static void add_out(struct lane *l, const void *p, size_t n)
{
    if (n)
        l->out[l->n_out++] = (struct iovec){(void *)(uintptr_t)p, n};
}

/* printf into the rest of a text of TEXT bytes; every command here is shorter. */
static size_t say(char *text, size_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static size_t say(char *text, size_t at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int k = vsnprintf(text + at, TEXT - at, fmt, ap);
    va_end(ap);
    return k < 0 || (size_t)k >= TEXT - at ? at : at + (size_t)k;
}

static uint64_t life_of(const struct lr_remote *r, const struct lr_object *o)
{
    uint64_t now = lr_now_ms(r->store), ms = r->ttl_ms;
    if (!o->expires_ms)
        return ms;
    uint64_t left = o->expires_ms > now ? o->expires_ms - now : 1;
    return ms && ms < left ? ms : left;
}

static void add_command(struct lane *l, size_t i)
{
    static const char *const verb[] = {"GET", "SET", "DEL", "EXISTS"};
    const struct lr_errand *e = l->batch[i];
    char *t = l->text[i], key[KEY_BYTES + 1] = KEY_PREFIX;
    struct lr_object o;
    uint64_t life = 0;
    bool keep = false;
    const struct lr_block *b = e->block;
    lr_hex(e->id.b, sizeof e->id.b, key + sizeof KEY_PREFIX - 1);
    if (b && !lr_object_decode(b->image + LR_RECORD_HEAD, b->head, &o, NULL)) {
        life = life_of(l->remote, &o);
        keep = o.fidelity && o.fidelity < LR_OBJECT_LOSSLESS; /* never in place of a better one */
    }
    unsigned words = b ? 3u + (life ? 2u : 0u) + (keep ? 1u : 0u) : 2u;
    size_t n = say(t, 0, "*%u\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", words, strlen(verb[e->kind]),
                   verb[e->kind], KEY_BYTES, key);
    if (!b) {
        add_out(l, t, n);
        return;
    }
    n = say(t, n, "$%zu\r\n", b->head + (size_t)b->bytes);
    add_out(l, t, n);
    add_out(l, b->image + LR_RECORD_HEAD, b->head);
    add_out(l, b->image + b->payload, (size_t)b->bytes);
    size_t tail = n;
    n = say(t, n, "\r\n%s", keep ? "$2\r\nNX\r\n" : "");
    if (life) {
        char ms[24];
        int k = snprintf(ms, sizeof ms, "%llu", (unsigned long long)life);
        n = say(t, n, "$2\r\nPX\r\n$%d\r\n%s\r\n", k, ms);
    }
    add_out(l, t + tail, n - tail);
}

/* ---- one exchange ---- */

static void hang_up(struct lane *l)
{
    if (l->c)
        redisFree(l->c);
    l->c = NULL;
    lr_block_unref(l->got);
    l->got = NULL;
}

static int patience(const struct lane *l, uint64_t since)
{
    uint64_t now = lr_clock_mono_ns(), end = atomic_load(&l->remote->end_ns);
    uint64_t at = since + l->remote->patience_ns + l->moved * (LR_SEC / 1024) / (SLOWEST / 1024);
    if (end && end < at)
        at = end;
    return now >= at ? 0 : (int)((at - now) / LR_MS) + 1;
}

/* Polls in short steps, so that closing the store need not wait. */
static int await(struct lane *l, short events, uint64_t since)
{
    for (;;) {
        int left = patience(l, since), step = left < 20 ? left : 20;
        LR_FAIL_IF(left <= 0, LR_ETIMEOUT);
        struct pollfd p = {.fd = l->c->fd, .events = events};
        int k = poll(&p, 1, step);
        LR_FAIL_IF(k < 0 && errno != EINTR, LR_EIO);
        if (k > 0)
            return 0;
    }
}

static void greet(struct lane *l)
{
    struct lr_remote *r = l->remote;
    char *t = l->text[BATCH];
    size_t n = 0;
    if (*r->password && *r->user)
        n = say(t, n, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(r->user), r->user,
                strlen(r->password), r->password);
    else if (*r->password)
        n = say(t, n, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(r->password), r->password);
    l->greetings = n > 0;
    if (r->db) {
        n = say(t, n, "*2\r\n$6\r\nSELECT\r\n$%d\r\n%u\r\n", r->db > 9 ? 2 : 1, r->db);
        l->greetings++;
    }
    add_out(l, t, n);
}

static int dial(struct lane *l, uint64_t since)
{
    static redisReplyObjectFunctions fns = {on_string, on_array, on_integer, on_nil, on_free};
    l->c = redisConnectNonBlock(l->remote->host, l->remote->port);
    LR_FAIL_IF(!l->c, LR_ENOMEM);
    LR_FAIL_IF(l->c->err, LR_EIO);
    redisReaderFree(l->c->reader);
    l->c->reader = redisReaderCreateWithFunctions(&fns);
    LR_FAIL_IF(!l->c->reader, LR_ENOMEM);
    l->c->reader->privdata = l;
    LR_TRY(await(l, POLLOUT, since));
    int err = 0;
    socklen_t n = sizeof err;
    LR_FAIL_IF(getsockopt(l->c->fd, SOL_SOCKET, SO_ERROR, &err, &n) || err, LR_EIO);
    greet(l);
    return 0;
}

static int send_some(struct lane *l)
{
    struct msghdr m = {.msg_iov = l->out + l->first_out, .msg_iovlen = l->n_out - l->first_out};
    ssize_t k = sendmsg(l->c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (k < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : LR_EIO;
    l->moved += (uint64_t)k;
    for (size_t left = (size_t)k; left;) {
        struct iovec *v = &l->out[l->first_out];
        size_t n = left < v->iov_len ? left : v->iov_len;
        v->iov_base = (char *)v->iov_base + n;
        v->iov_len -= n;
        left -= n;
        l->first_out += v->iov_len == 0;
    }
    return 0;
}

static int read_some(struct lane *l)
{
    redisReader *r = l->c->reader;
    ssize_t k = recv(l->c->fd, l->chunk, CHUNK, MSG_DONTWAIT);
    if (k < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : LR_EIO;
    LR_FAIL_IF(k == 0, LR_ECLOSED);
    l->moved += (uint64_t)k;
    LR_FAIL_IF(r->len - r->pos > LR_REMOTE_VALUE_MAX + CHUNK ||
                   redisReaderFeed(r, (char *)l->chunk, (size_t)k) != REDIS_OK,
               LR_EOVER);
    for (;;) {
        void *reply = NULL;
        LR_FAIL_IF(redisReaderGetReply(r, &reply) != REDIS_OK, LR_ECORRUPT);
        if (!reply)
            return 0;
        LR_TRY(take_reply(l));
    }
}

static int exchange(struct lane *l)
{
    uint64_t since = lr_clock_mono_ns();
    l->n_out = l->first_out = l->greetings = l->errors = 0;
    l->moved = 0;
    if (!l->c)
        LR_TRY(dial(l, since));
    for (size_t i = 0; i < l->n_batch; i++)
        add_command(l, i);
    while (l->answered < l->n_batch) {
        bool unsent = l->first_out < l->n_out;
        LR_TRY(await(l, (short)(POLLIN | (unsent ? POLLOUT : 0)), since));
        if (unsent)
            LR_TRY(send_some(l));
        LR_TRY(read_some(l));
    }
    return l->first_out < l->n_out ? LR_ECORRUPT : 0; /* it answered what was not said */
}

static void rest(struct lane *l)
{
    l->pause_ns = l->pause_ns ? 2 * l->pause_ns : PAUSE_MIN;
    if (l->pause_ns > PAUSE_MAX)
        l->pause_ns = PAUSE_MAX;
    atomic_store(&l->closed_until_ns, lr_clock_mono_ns() + l->pause_ns);
}

static void *run(void *arg)
{
    struct lane *l = arg;
    struct lr_store *s = l->remote->store;
    while (take(l)) {
        int rc = resting(l) ? LR_EBUSY : exchange(l);
        if (rc && rc != LR_EBUSY) {
            lr_count(s, LR_STORE_REMOTE_ERRORS);
            LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "store", "event=remote_failed lane=%s rc=%s",
                         l == &l->remote->load ? "load" : "save", lr_errname(rc));
            hang_up(l);
            rest(l);
        } else if (!rc && l->errors == l->n_batch) {
            rest(l);
        } else if (!rc) {
            l->pause_ns = 0;
            atomic_store(&l->closed_until_ns, 0);
        }
        while (l->answered < l->n_batch)
            end_errand(l, l->batch[l->answered++], LR_EBUSY, NULL);
    }
    hang_up(l);
    return NULL;
}

/* ---- opening ---- */

/* "redis://[user:password@]host[:port][/db]", %XX in user and password. */
static int unescape(struct lr_str in, char **out)
{
    char *p = lr_alloc(in.n + 1), *q = p;
    LR_FAIL_IF(!p, LR_ENOMEM);
    for (size_t i = 0; i < in.n; i++) {
        uint8_t b = (uint8_t)in.p[i];
        if (b == '%' && in.n - i > 2 && !lr_unhex(lr_str(in.p + i + 1, 2), &b, 1))
            i += 2;
        *q++ = (char)b;
    }
    *q = 0;
    *out = p;
    return 0;
}

static struct lr_str cut(struct lr_str *rest, char at, bool *found)
{
    const char *p = rest->n ? memchr(rest->p, at, rest->n) : NULL;
    *found = p;
    struct lr_str before = lr_str(rest->p, p ? (size_t)(p - rest->p) : rest->n);
    *rest = p ? lr_str(p + 1, rest->n - before.n - 1) : lr_str(rest->p + rest->n, 0);
    return before;
}

static int parse(struct lr_remote *r, struct lr_str url)
{
    static const char scheme[] = "redis://";
    uint64_t n;
    bool at, found;
    LR_FAIL_IF(url.n < sizeof scheme || url.n > 8192 || memcmp(url.p, scheme, sizeof scheme - 1),
               LR_EINVAL);
    struct lr_str rest = lr_str(url.p + sizeof scheme - 1, url.n - sizeof scheme + 1), all = rest;
    struct lr_str who = cut(&rest, '@', &at);
    if (!at) {
        rest = all;
        who = lr_str(rest.p, 0);
    }
    struct lr_str user = cut(&who, ':', &found);
    LR_TRY(unescape(user, &r->user));
    LR_TRY(unescape(who, &r->password));
    struct lr_str place = cut(&rest, '/', &found), host = cut(&place, ':', &found);
    LR_FAIL_IF(!host.n, LR_EINVAL);
    r->host = lr_strndup(host.p, host.n);
    LR_FAIL_IF(!r->host, LR_ENOMEM);
    r->port = 6379;
    if (found) {
        LR_FAIL_IF(lr_parse_u64(place, &n) || !n || n > 65535, LR_EINVAL);
        r->port = (int)n;
    }
    if (rest.n) {
        LR_FAIL_IF(lr_parse_u64(rest, &n) || n > 99, LR_EINVAL);
        r->db = (unsigned)n;
    }
    return 0;
}

static int start(struct lane *l, const char *name)
{
    l->chunk = lr_alloc(CHUNK);
    LR_FAIL_IF(!l->chunk, LR_ENOMEM);
    LR_TRY(lr_thread_start(&l->thread, name, run, l));
    l->running = true;
    return 0;
}

static void init(struct lane *l, struct lr_remote *r)
{
    l->remote = r;
    l->tail = &l->head;
    pthread_mutex_init(&l->mu, NULL);
    pthread_cond_init(&l->more, NULL);
}

int lr_remote_open(struct lr_store *s, struct lr_err *err)
{
    const struct lr_store_opts *o = &s->opts;
    struct lr_remote *r = lr_new(struct lr_remote);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->store = s;
    r->patience_ns = (o->remote_ms ? o->remote_ms : 1000) * LR_MS;
    r->ttl_ms = o->remote_ttl_ms;
    r->save_max = o->mem_max / 8 < SAVE_BYTES ? (size_t)(o->mem_max / 8) : SAVE_BYTES;
    init(&r->load, r);
    init(&r->save, r);
    s->remote = r;
    int rc = parse(r, lr_strz(o->remote));
    s->opts.remote = NULL; /* it may hold a password, and is the caller's */
    if (rc == LR_EINVAL)
        return lr_err_set(err, rc, "store", "remote tier: not redis://[user:password@]host[:port][/db]");
    if (!rc)
        rc = start(&r->load, "remote-load");
    if (!rc)
        rc = start(&r->save, "remote-save");
    LR_TRY(rc);
    lr_log(LR_LOG_INFO, "store", "event=open tier=remote host=%s port=%d", r->host, r->port);
    return 0;
}

static void stop(struct lane *l)
{
    pthread_mutex_lock(&l->mu);
    pthread_cond_broadcast(&l->more);
    pthread_mutex_unlock(&l->mu);
    if (l->running)
        pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->more);
    pthread_mutex_destroy(&l->mu);
    lr_free(l->chunk);
}

void lr_remote_close(struct lr_store *s)
{
    struct lr_remote *r = s->remote;
    if (!r)
        return;
    atomic_store(&r->end_ns, lr_clock_mono_ns() + LAST_SAVES);
    atomic_store(&r->closing, true); /* from here on nothing is queued */
    stop(&r->load);
    stop(&r->save);
    lr_free(r->host);
    lr_free(r->user);
    if (r->password)
        explicit_bzero(r->password, strlen(r->password));
    lr_free(r->password);
    lr_free(r);
    s->remote = NULL;
}

/* ---- the door ---- */

int lr_remote_ask(struct lr_store *s, struct lr_errand *e)
{
    struct lr_remote *r = s->remote;
    LR_FAIL_IF(known_absent(r, &e->id), LR_ENOENT);
    return submit(&r->load, e, LOADS_MAX, SIZE_MAX);
}

static void send_off(struct lr_store *s, enum lr_errand_kind kind, const struct lr_digest *id,
                     struct lr_block *b)
{
    struct lr_remote *r = s->remote;
    struct lr_errand *e = lr_new(struct lr_errand);
    if (e) {
        *e = (struct lr_errand){.kind = kind, .id = *id, .block = b};
        if (b)
            lr_block_ref(b);
        if (!submit(&r->save, e, SAVES_MAX, r->save_max))
            return;
        lr_block_unref(e->block);
        lr_free(e);
    }
    lr_count(s, LR_STORE_REMOTE_DROPS);
}

void lr_remote_save(struct lr_store *s, const struct lr_digest *id, struct lr_block *b)
{
    if (b->head + b->bytes <= LR_REMOTE_VALUE_MAX)
        send_off(s, LR_ERRAND_SET, id, b);
    else
        lr_count(s, LR_STORE_REMOTE_DROPS);
}

void lr_remote_del(struct lr_store *s, const struct lr_digest *id)
{
    send_off(s, LR_ERRAND_DEL, id, NULL);
}

void lr_remote_stats(struct lr_store *s, struct lr_store_stats *out)
{
    struct lr_remote *r = s->remote;
    out->remote = true;
    out->remote_ok = !resting(&r->load) && !resting(&r->save);
    pthread_mutex_lock(&r->save.mu);
    out->remote_queue_bytes = r->save.bytes;
    pthread_mutex_unlock(&r->save.mu);
}

#else

int lr_remote_open(struct lr_store *s, struct lr_err *err)
{
    s->opts.remote = NULL;
    return lr_err_set(err, LR_EUNSUPPORTED, "store",
                      "a remote tier needs hiredis, which this was built without");
}

void lr_remote_close(struct lr_store *s)
{
    (void)s; /* never opened; nor are the others called */
}

int lr_remote_ask(struct lr_store *s, struct lr_errand *e)
{
    (void)s, (void)e;
    return LR_EUNSUPPORTED;
}

void lr_remote_save(struct lr_store *s, const struct lr_digest *id, struct lr_block *b)
{
    (void)s, (void)id, (void)b;
}

void lr_remote_del(struct lr_store *s, const struct lr_digest *id)
{
    (void)s, (void)id;
}

void lr_remote_stats(struct lr_store *s, struct lr_store_stats *out)
{
    (void)s, (void)out;
}

#endif
