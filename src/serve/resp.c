/* SPDX-License-Identifier: Apache-2.0
 * serve/resp.c - the loops and sockets of the Redis door, and the memory that values pass through.
 *
 *   socket --recv--> 64 KiB of the loop --> parser --> command --> store
 *        \---------- recv, sum -----------> a draft's own bytes       (value of 16 KiB and more)
 *   store --> pinned view --check, send--> socket                     (the same, out)
 *
 * Idea. N threads, each an epoll over its connections; a connection belongs to the loop that accepted
 * it and is touched by no other thread, so nothing here is locked but the inbox. Commands of a
 * connection are answered in order, one at a time. What memory holds is answered at once; a value on
 * disk is fetched by the store's threads, which put the connection into the inbox of its loop and wake
 * it. Meanwhile it reads nothing more: who sends faster than it takes answers is slowed by TCP.
 *
 * Memory. A loop has one buffer for what it receives; a connection keeps what it could not take yet
 * (at most that much). A value's room in the store is asked for when START_PART of its bytes have
 * come, from a buffer that is copied once (1.6 %): a header that announces 512 MiB evicts nothing.
 * Replies of 16 KiB and more are views of the store, pinned until sent; replies that wait are
 * bounded by FULL, then the connection is not read.
 *
 * Sums. A value is summed as it comes and checked as it goes, a PART at a time, while the CPU's cache
 * has the bytes for the copy as well: memory is read once, and no connection waits for the sum of
 * another's 512 MiB. A view of LAZY bytes and more is announced before all of it was checked; damage
 * found after that ends the connection (its length was told, so there is no other honest answer),
 * and the copy is gone from the store. Smaller ones are checked whole: damage is a miss.
 *
 * Tried and dropped: MSG_ZEROCOPY, which loopback answers with a copy and a notice besides; reading
 * until EAGAIN, an empty recv for each small command: a short recv says the same, and epoll tells
 * when that was wrong.
 *
 * A SET that cannot be kept (too large, no room, a name too long) is received all the same and
 * answered OK; what it would have replaced is deleted first (resp_cmd.c).
 *
 * Ends. A protocol error is answered once, then the connection closes when the answer is out. One that
 * dies while a fetch is on its way stays among the graves until the fetch is over. A command that stops
 * halfway for stall_ns, or a fetch that takes deadline_ns, is noticed by the loop's tick.
 *
 * Invariants: dead implies fd closed and out of epoll; busy implies in the loop's busy list; the fetch
 * of a connection is either idle, in the store (fetching), or in the inbox (fetching, too).
 */
#include "serve/listen.h"
#include "serve/resp_int.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define IN_BYTES     LR_KIB(64)
#define CHUNK        LR_KIB(16)
#define FULL         LR_MIB(8)   /* replies that wait, beyond the first */
#define TURN         LR_MIB(4)   /* received or sent before others have their turn */
#define PART         LR_KIB(512) /* received or checked at once: what stays in the CPU's own cache */
#define LAZY         LR_MIB(1)   /* values from here on are checked as they are sent */
#define START_WHOLE  LR_MIB(1)   /* values up to here get their room at once */
#define START_PART   64u         /* of larger ones this part comes first */
#define IOVS         64
#define EVENTS       256
#define TICK_MS      250
#define LISTENERS    8u
#define THREADS_MAX  64u

struct lr_resp_chunk {
    struct lr_resp_chunk *next;
    struct lr_view *view; /* p is its bytes; else bytes */
    const char *p;
    size_t at, n; /* sent, filled */
    char bytes[];
};

struct lr_resp_loop {
    struct lr_resp *door;
    pthread_t thread, self; /* the same: its starter's and its own to look at */
    bool started;
    int epoll, wake; /* -1: none */
    struct lr_resp_conn *conns, *busy, *graves; /* graves: dead, not freed */
    pthread_mutex_t mu; /* guards woken; a leaf */
    struct lr_resp_conn *woken;
    char *in;
    _Atomic uint64_t n[LR_RESP_N];
};

struct lr_resp {
    struct lr_resp_opts opts;
    int listener[LISTENERS];
    size_t n_listeners;
    struct lr_resp_loop *loops;
    size_t n_loops;
    atomic_bool closing;
    _Atomic uint64_t ids;
    atomic_uint connections;
};

/* What an epoll event points to when it is no connection. */
static char listening, woken_up;

/* ---- small things ---- */

void lr_resp_count(const struct lr_resp_conn *c, enum lr_resp_tally what, uint64_t n)
{
    atomic_fetch_add_explicit(&c->loop->n[what], n, memory_order_relaxed);
}

struct lr_store *lr_resp_store(const struct lr_resp_conn *c)
{
    return c->loop->door->opts.store;
}

const struct lr_resp_opts *lr_resp_options(const struct lr_resp_conn *c)
{
    return &c->loop->door->opts;
}

void lr_resp_stats(const struct lr_resp *d, struct lr_resp_stats *out)
{
    uint64_t n[LR_RESP_N] = {0};
    for (size_t i = 0; i < d->n_loops; i++)
        for (size_t k = 0; k < LR_RESP_N; k++)
            n[k] += atomic_load_explicit(&d->loops[i].n[k], memory_order_relaxed);
    *out = (struct lr_resp_stats){
        .connections = atomic_load(&d->connections),
        .accepted = n[LR_RESP_N_ACCEPTED],
        .commands = n[LR_RESP_N_COMMANDS],
        .denied = n[LR_RESP_N_DENIED],
        .faults = n[LR_RESP_N_FAULTS],
        .gets = n[LR_RESP_N_GETS],
        .hits = n[LR_RESP_N_HITS],
        .sets = n[LR_RESP_N_SETS],
        .dropped = n[LR_RESP_N_DROPPED],
        .bytes_in = n[LR_RESP_N_IN],
        .bytes_out = n[LR_RESP_N_OUT],
    };
}

void lr_resp_stats_of(const struct lr_resp_conn *c, struct lr_resp_stats *out)
{
    lr_resp_stats(c->loop->door, out);
}

void lr_resp_settle(struct lr_resp_conn *c)
{
    int n = snprintf(c->space, sizeof c->space, "%s%s%u", c->user, *c->user ? "/" : "", c->db);
    c->space_n = n > 0 ? (size_t)n : 0;
}

bool lr_resp_login(struct lr_resp_conn *c, struct lr_str user, struct lr_str password)
{
    const struct lr_resp_opts *o = lr_resp_options(c);
    uint64_t tenant;
    if (user.n > LR_RESP_USER_MAX || memchr(user.p, '/', user.n) || memchr(user.p, 0, user.n) ||
        o->who(o->ctx, user, password, &tenant)) {
        lr_resp_count(c, LR_RESP_N_DENIED, 1);
        return false;
    }
    c->tenant = tenant;
    c->known = true;
    memcpy(c->user, user.p, user.n);
    c->user[user.n] = 0;
    c->in.args_max = LR_RESP_ARGS_MAX;
    c->in.arg_max = LR_OBJECT_VALUE_MAX;
    lr_resp_settle(c);
    return true;
}

/* ---- replies ---- */

bool lr_resp_full(const struct lr_resp_conn *c)
{
    return c->out_bytes > FULL;
}

/* Memory is out: there is no honest answer left. */
static void give_up(struct lr_resp_conn *c)
{
    c->ending = true;
    lr_resp_count(c, LR_RESP_N_DROPPED, 1);
}

static struct lr_resp_chunk *add_chunk(struct lr_resp_conn *c, size_t room)
{
    struct lr_resp_chunk *k = lr_alloc(sizeof *k + room);
    if (!k) {
        give_up(c);
        return NULL;
    }
    *k = (struct lr_resp_chunk){.p = k->bytes};
    if (c->out_last)
        c->out_last->next = k;
    else
        c->out = k;
    c->out_last = k;
    return k;
}

void lr_resp_put(struct lr_resp_conn *c, struct lr_str s)
{
    while (s.n && !c->ending) {
        struct lr_resp_chunk *k = c->out_last;
        if ((!k || k->view || k->n == CHUNK) && !(k = add_chunk(c, CHUNK)))
            return;
        size_t n = CHUNK - k->n < s.n ? CHUNK - k->n : s.n;
        memcpy(k->bytes + k->n, s.p, n);
        k->n += n;
        c->out_bytes += n;
        s = lr_str(s.p + n, s.n - n);
    }
}

void lr_resp_putf(struct lr_resp_conn *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    assert(n >= 0 && (size_t)n < sizeof text);
    lr_resp_put(c, lr_str(text, (size_t)n));
}

/* "$N": every reply with a value has one, and printf is a tenth of a small GET. */
static void put_length(struct lr_resp_conn *c, size_t n)
{
    char text[24], *at = text + sizeof text;
    *--at = '\n';
    *--at = '\r';
    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    *--at = '$';
    lr_resp_put(c, lr_str(at, (size_t)(text + sizeof text - at)));
}

void lr_resp_bulk(struct lr_resp_conn *c, struct lr_str s)
{
    put_length(c, s.n);
    lr_resp_put(c, s);
    lr_resp_put(c, LR_STR("\r\n"));
}

void lr_resp_nil(struct lr_resp_conn *c)
{
    lr_resp_put(c, c->proto == 3 ? LR_STR("_\r\n") : LR_STR("$-1\r\n"));
}

void lr_resp_map(struct lr_resp_conn *c, size_t n)
{
    lr_resp_putf(c, c->proto == 3 ? "%%%zu\r\n" : "*%zu\r\n", c->proto == 3 ? n : 2 * n);
}

void lr_resp_view(struct lr_resp_conn *c, struct lr_view *v)
{
    struct lr_str s = lr_view_bytes(v);
    if (s.n < LR_RESP_BIG) {
        lr_resp_bulk(c, s);
        lr_view_put(v);
        return;
    }
    put_length(c, s.n);
    struct lr_resp_chunk *k = c->ending ? NULL : add_chunk(c, 0);
    if (!k) {
        lr_view_put(v);
        return;
    }
    k->view = v;
    k->p = s.p;
    k->n = s.n;
    c->out_bytes += s.n;
    lr_resp_put(c, LR_STR("\r\n"));
}

static void free_chunk(struct lr_resp_chunk *k)
{
    lr_view_put(k->view);
    lr_free(k);
}

/* ---- the life of a connection ---- */

static void link_conn(struct lr_resp_loop *l, struct lr_resp_conn *c)
{
    c->next = l->conns;
    if (l->conns)
        l->conns->prev = c;
    l->conns = c;
}

static void unlink_conn(struct lr_resp_loop *l, struct lr_resp_conn *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        l->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

static void free_bigs(struct lr_resp_conn *c)
{
    for (size_t i = 0; i < c->n_bigs; i++) {
        lr_draft_abort(c->bigs[i].draft);
        lr_free(c->bigs[i].start);
    }
    c->n_bigs = 0;
}

/* Closes the socket and frees all but the struct, which a fetch, the busy list or an event of this
 * round may still hold. */
static void kill_conn(struct lr_resp_conn *c)
{
    struct lr_resp_loop *l = c->loop;
    if (c->dead)
        return;
    c->dead = true;
    close(c->fd); /* and out of the epoll with it */
    atomic_fetch_sub(&l->door->connections, 1);
    for (struct lr_resp_chunk *k = c->out, *next; k; k = next) {
        next = k->next;
        free_chunk(k);
    }
    c->out = c->out_last = NULL;
    free_bigs(c);
    lr_free(c->bigs);
    lr_resp_free(&c->in);
    lr_buf_free(&c->rest);
    c->step = NULL;
    if (c->fetching && lr_store_fetch_cancel(lr_resp_store(c), &c->fetch))
        c->fetching = false;
    unlink_conn(l, c);
    c->next = l->graves;
    l->graves = c;
}

/* The dead whom nobody holds. */
static void bury(struct lr_resp_loop *l)
{
    for (struct lr_resp_conn **at = &l->graves, *c; (c = *at);) {
        if (c->fetching || c->busy) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        lr_free(c);
    }
}

static void be_busy(struct lr_resp_conn *c)
{
    if (c->busy)
        return;
    c->busy = true;
    c->next_busy = c->loop->busy;
    c->loop->busy = c;
}

/* ---- fetching ---- */

static void fetched(struct lr_fetch *f, int rc, struct lr_view *v)
{
    struct lr_resp_conn *c = LR_CONTAINER(f, struct lr_resp_conn, fetch);
    struct lr_resp_loop *l = c->loop;
    uint64_t one = 1;
    c->fetch_rc = rc;
    c->view = v;
    if (pthread_equal(pthread_self(), l->self)) {
        c->here = true;
        return;
    }
    pthread_mutex_lock(&l->mu);
    c->next_woken = l->woken;
    l->woken = c;
    if (!c->next_woken && write(l->wake, &one, sizeof one) < 0)
        lr_log(LR_LOG_DEBUG, "resp", "event=wake_failed errno=%d", errno); /* the tick finds it */
    pthread_mutex_unlock(&l->mu);
}

enum lr_resp_go lr_resp_fetch(struct lr_resp_conn *c, const struct lr_digest *id)
{
    c->fetch = (struct lr_fetch){.id = *id, .lazy = LAZY, .done = fetched};
    c->here = false;
    c->fetching = true;
    lr_store_fetch(lr_resp_store(c), &c->fetch);
    /* Only this thread sets it, inside the call. */
    if (!c->here) {
        c->fetch_ns = lr_clock_mono_ns(); /* its loop, this thread, is the only one to look */
        return LR_RESP_WAIT;
    }
    c->fetching = false;
    return LR_RESP_DONE;
}

/* ---- values that come ---- */

static struct lr_resp_big *add_big(struct lr_resp_conn *c)
{
    if (c->n_bigs == c->cap_bigs) {
        size_t cap = c->cap_bigs ? 2 * c->cap_bigs : 1;
        struct lr_resp_big *more = lr_realloc(c->bigs, cap * sizeof *more);
        if (!more)
            return NULL;
        c->bigs = more;
        c->cap_bigs = cap;
    }
    c->bigs[c->n_bigs] = (struct lr_resp_big){.arg = c->in.n - 1};
    return &c->bigs[c->n_bigs++];
}

/* All its bytes go nowhere. */
static void swallow(struct lr_resp_conn *c)
{
    c->in.sink = NULL;
    c->in.room = c->in.need;
}

/* Room in the store for the value that comes; what is here of it already is put there. */
static void open_draft(struct lr_resp_conn *c, struct lr_resp_big *b, size_t key)
{
    struct lr_object o;
    if (!lr_resp_object(c, key, c->in.args[b->arg].n, &o) ||
        lr_draft_open(lr_resp_store(c), &o, NULL, &b->draft)) {
        b->draft = NULL;
        swallow(c);
    } else {
        uint8_t *to = lr_draft_bytes(b->draft);
        if (b->n_start)
            memcpy(to, b->start, b->n_start);
        c->in.sink = to + b->n_start;
        c->in.room = c->in.need;
    }
    lr_free(b->start);
    b->start = NULL;
}

/* Sums what has come of the value that is being received, while the cache has it. */
static void sum_up(struct lr_resp_conn *c)
{
    const struct lr_resp_big *b = c->n_bigs ? &c->bigs[c->n_bigs - 1] : NULL;
    if (b && b->draft && b->arg == c->in.n - 1)
        lr_draft_filled(b->draft, c->in.args[b->arg].n - c->in.need);
}

/* The parser asks where a big argument goes: first its start, then the rest. */
static void place(struct lr_resp_conn *c)
{
    size_t key, n = c->in.args[c->in.n - 1].n;
    bool first = c->in.need == n;
    struct lr_resp_big *b = c->n_bigs ? &c->bigs[c->n_bigs - 1] : NULL;
    if (!lr_resp_stores(&c->in, &key)) {
        swallow(c);
        return;
    }
    if (!first) {
        open_draft(c, b, key);
        return;
    }
    b = add_big(c);
    if (!b) {
        swallow(c);
        return;
    }
    if (n <= START_WHOLE) {
        open_draft(c, b, key);
        return;
    }
    b->n_start = n / START_PART;
    b->start = lr_alloc(b->n_start);
    c->in.sink = b->start;
    c->in.room = b->n_start;
    if (!b->start)
        swallow(c);
}

/* ---- commands ---- */

static void refuse_protocol(struct lr_resp_conn *c)
{
    lr_resp_count(c, LR_RESP_N_FAULTS, 1);
    if (c->in.fault)
        lr_resp_putf(c, "-ERR %s\r\n", c->in.fault);
    else
        LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "resp",
                     "event=browser: HTTP came to the Redis door; its connection is closed");
    c->ending = true;
}

/* A step of the command in progress, or its beginning. */
static void go(struct lr_resp_conn *c, enum lr_resp_go went)
{
    if (went == LR_RESP_AGAIN)
        be_busy(c);
    if (went != LR_RESP_DONE)
        return;
    c->step = NULL;
    free_bigs(c);
    lr_resp_next(&c->in);
}

static void handle(struct lr_resp_conn *c, enum lr_resp_event e)
{
    if (e == LR_RESP_VALUE) {
        place(c);
    } else if (e == LR_RESP_BROKEN) {
        refuse_protocol(c);
    } else if (e == LR_RESP_COMMAND) {
        lr_resp_count(c, LR_RESP_N_COMMANDS, 1);
        go(c, lr_resp_run(c));
    }
}

static bool may_take(const struct lr_resp_conn *c)
{
    return !c->dead && !c->ending && !c->step && !lr_resp_full(c);
}

/* Takes from p until it is empty or the connection may not take more. Returns how many bytes. */
static size_t take(struct lr_resp_conn *c, const char *p, size_t n)
{
    size_t at = 0;
    while (may_take(c)) {
        size_t used;
        enum lr_resp_event e = lr_resp_feed(&c->in, p + at, n - at, &used);
        at += used;
        if (e == LR_RESP_MORE)
            break;
        handle(c, e);
    }
    return at;
}

static void take_rest(struct lr_resp_conn *c)
{
    if (!c->rest.len || !may_take(c))
        return;
    c->rest_at += take(c, c->rest.p + c->rest_at, c->rest.len - c->rest_at);
    if (c->rest_at == c->rest.len) {
        lr_buf_free(&c->rest);
        c->rest_at = 0;
    }
}

/* One recv. False: nothing is left there (or epoll will say that there is), or it is the end. */
static bool receive(struct lr_resp_conn *c, size_t *got)
{
    size_t n;
    uint8_t *to = lr_resp_direct(&c->in, &n);
    bool direct = to && n >= IN_BYTES / 4;
    if (!direct) {
        to = (uint8_t *)c->loop->in;
        n = IN_BYTES;
    }
    n = n < PART ? n : PART;
    ssize_t k = recv(c->fd, to, n, 0);
    if (k < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (k < 0) {
        kill_conn(c);
        return false;
    }
    if (!k) {
        c->ending = true; /* it has said all; what it asked for is still answered */
        return false;
    }
    *got = (size_t)k;
    c->heard_ns = lr_clock_mono_ns();
    lr_resp_count(c, LR_RESP_N_IN, (uint64_t)k);
    if (direct) {
        lr_resp_got(&c->in, (size_t)k);
        sum_up(c);
        return (size_t)k == n;
    }
    size_t at = take(c, c->loop->in, (size_t)k);
    if (at < (size_t)k && !c->ending && lr_buf_add(&c->rest, c->loop->in + at, (size_t)k - at))
        c->ending = true; /* out of memory */
    return (size_t)k == n;
}

/* ---- sending ---- */

/* Forgets what n bytes were sent of. */
static void sent(struct lr_resp_conn *c, size_t n)
{
    c->out_bytes -= n;
    while (n || (c->out && c->out->at == c->out->n)) {
        struct lr_resp_chunk *k = c->out;
        size_t part = k->n - k->at < n ? k->n - k->at : n;
        k->at += part;
        n -= part;
        if (k->at < k->n)
            return;
        c->out = k->next;
        if (!c->out)
            c->out_last = NULL;
        free_chunk(k);
    }
}

/* What goes out next: of views no more than is known to be good, and about one PART in all, so that
 * what was just checked is sent from the cache. Returns how many; 0: the first has damage where it
 * goes on. */
static int gather(struct lr_resp_conn *c, struct iovec *v)
{
    int n = 0;
    size_t sum = 0;
    for (struct lr_resp_chunk *k = c->out; k && n < IOVS && sum < PART; k = k->next) {
        uint64_t good = k->view ? lr_view_good(k->view, k->at + PART - sum) : k->n;
        size_t end = good < k->n ? (size_t)good : k->n;
        if (end > k->at)
            v[n++] = (struct iovec){(void *)(uintptr_t)(k->p + k->at), end - k->at};
        if (end < k->n)
            break;
        sum += end - k->at;
    }
    return n;
}

static void flush(struct lr_resp_conn *c)
{
    while (!c->dead && c->out) {
        struct iovec v[IOVS];
        int n = gather(c, v);
        if (!n) { /* its length was told already: no reply but the end is honest */
            kill_conn(c);
            return;
        }
        struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
        ssize_t k = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return;
        if (k < 0) {
            kill_conn(c);
            return;
        }
        c->heard_ns = lr_clock_mono_ns();
        lr_resp_count(c, LR_RESP_N_OUT, (uint64_t)k);
        sent(c, (size_t)k);
    }
    if (!c->dead && c->ending)
        kill_conn(c);
}

/* Asks epoll for what it can use. */
static void arm(struct lr_resp_conn *c)
{
    uint32_t want = (may_take(c) ? EPOLLIN : 0u) | (c->out ? EPOLLOUT : 0u);
    if (want == c->armed)
        return;
    struct epoll_event e = {.events = want, .data.ptr = c};
    if (epoll_ctl(c->loop->epoll, EPOLL_CTL_MOD, c->fd, &e))
        kill_conn(c);
    else
        c->armed = want;
}

/* As far as it goes now. readable: epoll said so. */
static void work(struct lr_resp_conn *c, bool readable)
{
    size_t total = 0, got = 0;
    take_rest(c);
    while (readable && may_take(c) && !c->rest.len && total < TURN) {
        if (!receive(c, &got))
            break;
        total += got;
    }
    if (!c->dead)
        flush(c);
    if (c->dead)
        return;
    if (c->rest.len && may_take(c))
        be_busy(c); /* what was sent made room: it goes on next round */
    arm(c);
}

/* ---- loops ---- */

static void turn_away(int fd)
{
    static const char text[] = "-ERR max number of clients reached\r\n";
    (void)!send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static void adopt(struct lr_resp_loop *l, int fd)
{
    struct lr_resp *d = l->door;
    int one = 1;
    struct lr_resp_conn *c = NULL;
    if (atomic_fetch_add(&d->connections, 1) < d->opts.connections_max)
        c = lr_new(struct lr_resp_conn);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (!c || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e)) {
        atomic_fetch_sub(&d->connections, 1);
        lr_free(c);
        turn_away(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    c->loop = l;
    c->fd = fd;
    c->armed = EPOLLIN;
    c->proto = 2;
    c->id = atomic_fetch_add(&d->ids, 1) + 1;
    c->heard_ns = lr_clock_mono_ns();
    c->opened_ms = lr_clock_wall_ms();
    lr_resp_init(&c->in, LR_RESP_ARGS_STRANGER, LR_RESP_BIG - 1);
    lr_buf_init(&c->rest, IN_BYTES);
    lr_resp_settle(c);
    link_conn(l, c);
    lr_resp_count(c, LR_RESP_N_ACCEPTED, 1);
    if (!d->opts.auth && !lr_resp_login(c, LR_STR(""), LR_STR("")))
        kill_conn(c);
}

static void accept_all(struct lr_resp_loop *l)
{
    for (size_t i = 0; i < l->door->n_listeners; i++)
        for (int k = 0; k < 16; k++) { /* then the others */
            int fd = accept4(l->door->listener[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
                LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "resp", "event=out_of_descriptors");
                lr_clock_sleep_ns(LR_MS); /* it stays readable: no round without a rest */
            }
            if (fd < 0)
                break;
            adopt(l, fd);
        }
}

/* Fetches that came. */
static void take_woken(struct lr_resp_loop *l)
{
    uint64_t n;
    if (read(l->wake, &n, sizeof n) < 0 && errno != EAGAIN)
        lr_log(LR_LOG_DEBUG, "resp", "event=wake errno=%d", errno);
    pthread_mutex_lock(&l->mu);
    struct lr_resp_conn *c = l->woken, *next;
    l->woken = NULL;
    pthread_mutex_unlock(&l->mu);
    for (; c; c = next) {
        next = c->next_woken;
        c->fetching = false;
        if (c->dead) {
            if (!c->fetch_rc)
                lr_view_put(c->view);
            continue;
        }
        go(c, c->step(c));
        work(c, false);
    }
}

/* Those that wanted to go on, once each. */
static void take_busy(struct lr_resp_loop *l)
{
    struct lr_resp_conn *c = l->busy, *next;
    l->busy = NULL;
    for (; c; c = next) {
        next = c->next_busy;
        c->busy = false;
        if (c->dead)
            continue;
        if (c->step && !c->fetching) {
            if (lr_resp_full(c))
                flush(c);
            if (c->dead)
                continue;
            if (!lr_resp_full(c))
                go(c, c->step(c));
            else
                be_busy(c);
        }
        work(c, false);
    }
}

/* Now and then: commands and replies that stopped halfway, fetches that take too long. */
static void tick(struct lr_resp_loop *l)
{
    const struct lr_resp_opts *o = &l->door->opts;
    uint64_t now = lr_clock_mono_ns();
    for (struct lr_resp_conn *c = l->conns, *next; c; c = next) {
        next = c->next;
        if (c->fetching && now - c->fetch_ns > o->deadline_ns &&
            lr_store_fetch_cancel(o->store, &c->fetch)) {
            c->fetching = false;
            c->fetch_rc = LR_ETIMEOUT;
            go(c, c->step(c));
            work(c, false);
        } else if (!c->step && (c->out || !lr_resp_idle(&c->in)) &&
                   now - c->heard_ns > o->stall_ns) {
            kill_conn(c);
        }
    }
}

static void shut(struct lr_resp_loop *l)
{
    for (struct lr_resp_conn *c = l->conns, *next; c; c = next) {
        next = c->next;
        kill_conn(c);
    }
    for (;;) { /* fetches on their way come to their end */
        take_busy(l);
        take_woken(l);
        bury(l);
        if (!l->graves)
            return;
        lr_clock_sleep_ns(LR_MS);
    }
}

static void *run(void *arg)
{
    struct lr_resp_loop *l = arg;
    l->self = pthread_self();
    uint64_t next_tick = lr_clock_mono_ns() + TICK_MS * LR_MS;
    while (!atomic_load(&l->door->closing)) {
        struct epoll_event e[EVENTS];
        int n = epoll_wait(l->epoll, e, EVENTS, l->busy ? 0 : TICK_MS);
        for (int i = 0; i < n; i++) {
            struct lr_resp_conn *c = e[i].data.ptr;
            if (e[i].data.ptr == &listening)
                accept_all(l);
            else if (e[i].data.ptr == &woken_up)
                take_woken(l);
            else if (c->dead)
                continue; /* by another event of this round */
            else if (e[i].events & EPOLLERR || (e[i].events & EPOLLHUP && !(c->armed & EPOLLIN)))
                kill_conn(c);
            else
                work(c, e[i].events & (EPOLLIN | EPOLLHUP));
        }
        take_busy(l);
        if (lr_clock_mono_ns() >= next_tick) {
            take_woken(l); /* should a wake have failed */
            tick(l);
            next_tick = lr_clock_mono_ns() + TICK_MS * LR_MS;
        }
        bury(l);
    }
    shut(l);
    return NULL;
}

/* ---- opening ---- */

static int watch(int epoll, int fd, uint32_t events, void *p)
{
    struct epoll_event e = {.events = events, .data.ptr = p};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) ? LR_EIO : 0;
}

static int open_loop(struct lr_resp *d, struct lr_resp_loop *l)
{
    l->door = d;
    pthread_mutex_init(&l->mu, NULL);
    l->epoll = l->wake = -1;
    l->in = lr_alloc(IN_BYTES);
    LR_FAIL_IF(!l->in, LR_ENOMEM);
    l->epoll = lr_fault_here() ? -1 : epoll_create1(EPOLL_CLOEXEC);
    l->wake = lr_fault_here() ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    LR_FAIL_IF(l->epoll < 0 || l->wake < 0, LR_EIO);
    for (size_t i = 0; i < d->n_listeners; i++)
        LR_TRY(watch(l->epoll, d->listener[i], EPOLLIN | EPOLLEXCLUSIVE, &listening));
    return watch(l->epoll, l->wake, EPOLLIN, &woken_up);
}

int lr_resp_open(struct lr_resp **out, const struct lr_resp_opts *o, struct lr_err *err)
{
    struct lr_resp *d = lr_new(struct lr_resp);
    LR_FAIL_IF(!d, LR_ENOMEM);
    d->opts = *o;
    d->opts.threads = !o->threads ? 1 : o->threads > THREADS_MAX ? THREADS_MAX : o->threads;
    d->opts.connections_max = o->connections_max ? o->connections_max : 1024;
    d->opts.stall_ns = o->stall_ns ? o->stall_ns : 60 * LR_SEC;
    d->opts.deadline_ns = o->deadline_ns ? o->deadline_ns : 5 * LR_SEC;
    int rc = o->n_listen > LISTENERS ? LR_EOVER : 0;
    for (size_t i = 0; i < o->n_listen && !rc; i++) {
        rc = lr_listen_on(o->listen[i], &d->listener[i], err);
        d->n_listeners += !rc;
    }
    d->loops = rc ? NULL : lr_calloc(d->opts.threads, sizeof d->loops[0]);
    if (!rc && !d->loops)
        rc = LR_ENOMEM;
    for (size_t i = 0; i < d->opts.threads && !rc; i++) {
        rc = open_loop(d, &d->loops[i]);
        d->n_loops++; /* close finds what there is of it */
        if (!rc)
            rc = lr_thread_start(&d->loops[i].thread, "larder-resp", run, &d->loops[i]);
        d->loops[i].started = !rc;
    }
    if (rc) {
        lr_resp_close(d);
        return lr_err_set(err, rc, "resp", "the Redis door does not open: %s", lr_strerror(rc));
    }
    *out = d;
    return 0;
}

unsigned lr_resp_port(const struct lr_resp *d, size_t i)
{
    return i < d->n_listeners ? lr_listen_port(d->listener[i]) : 0;
}

void lr_resp_close(struct lr_resp *d)
{
    uint64_t one = 1;
    if (!d)
        return;
    atomic_store(&d->closing, true);
    for (size_t i = 0; i < d->n_loops; i++) {
        struct lr_resp_loop *l = &d->loops[i];
        if (l->started && write(l->wake, &one, sizeof one) < 0)
            lr_log(LR_LOG_DEBUG, "resp", "event=wake_failed errno=%d", errno); /* the tick sees it */
        if (l->started)
            pthread_join(l->thread, NULL);
        lr_io_close(l->epoll);
        lr_io_close(l->wake);
        lr_free(l->in);
        pthread_mutex_destroy(&l->mu);
    }
    for (size_t i = 0; i < d->n_listeners; i++)
        close(d->listener[i]);
    lr_free(d->loops);
    lr_free(d);
}
