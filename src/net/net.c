/* SPDX-License-Identifier: Apache-2.0
 * net/net.c - the net thread: one libcurl multi handle, one epoll, one queue of asks.
 *
 *   other threads           mu                       net thread (one turn of the loop)
 *   start  --+                                      1 answer asks: begin, cancel, resume
 *   cancel --+--> asks: x - x - x (ask bits) -----> 2 libcurl's timer, then what it finished
 *   resume --+        |                             3 our deadlines (heap.c)
 *                     +-- waiting? one eventfd      4 asks empty: waiting = true; epoll_wait
 *                         write, waiting = false    5 sockets with news to libcurl
 *
 * Every transfer is in the queue at most once; what is asked of it are bits, so a cancel or resume
 * never allocates and never fails. The thread says under the lock that it is about to wait, and
 * only the first ask after that writes the eventfd: a burst of starts costs one wake. The eventfd
 * is edge-triggered and never read.
 *
 * Life of a transfer: taken from the spare ones (or made) and aimed in the caller's thread, so that
 * every failure of memory is start's result; then live, until on_done returned. Only then may its
 * handle serve another request: a cancel that raced with the end finds `done` set and means
 * nothing, instead of hitting a stranger.
 *
 * epoll is kept lazily. libcurl takes its interest in a socket away when a request ends and puts it
 * back when the connection is used again: two system calls a request. We let the registration stand
 * (EPOLLIN, level-triggered, silent while the connection idles) and take it out only when an event
 * comes that nobody wants, which is when the peer closes. This is safe for sockets we opened
 * ourselves (xfer.c's open_socket), because lr_net_fd_close hears of their end; others (the
 * resolver's pair) are registered and removed as libcurl says.
 *
 * With one exception: a socket that never came to be connected is closed by libcurl (7.88) behind our
 * back, and only then is its interest taken away, when the number may be another thread's. So EPOLLOUT,
 * which is what such a socket is watched for, is registered for one shot: it goes silent by itself,
 * and taking interest away needs no system call on a number in doubt. An upload that stays willing to
 * write is armed again after each shot.
 *
 * Timeouts: the connection's is libcurl's, the first byte's and the total are ours: libcurl has no
 * first-byte timer, and a paused transfer must not outlive its total.
 *
 * One attempt: libcurl repeats a request by itself in one case only, when a kept connection ends
 * before any byte of the answer came (a POST too: it has no switch for that).
 *
 * Not taken: curl_multi_poll (walks the whole set of sockets every turn; at one transfer the socket
 * interface is as fast as curl_easy_perform already, see below); a timer in libcurl for the total
 * (one splay-tree node per request); two queues for starts and asks (a cancel could overtake its
 * start).
 *
 * Pauses: an HTTP/1 transfer that is paused reads no more from its socket; a paused HTTP/2 stream
 * may still fill its window (32 MiB in libcurl 7.88) in libcurl's memory.
 *
 * Cost, on loopback with 1 KiB each way, two quiet cores, p50: blocking socket 11.8 us,
 * curl_easy_perform 19.0, start from on_done 20.2, start from another thread that waits for on_done
 * 29.7 (two wakes). nginx's proxy_pass added 21 us in the setting where the last added 21.
 *
 * Locks: mu alone, never held while a callback or libcurl runs.
 */
#include "net/net_int.h"

#include <assert.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ASKS_PER_TURN   256 /* then sockets get their turn */
#define EVENTS_PER_TURN 64
#define SPARE_MAX       256       /* idle easy handles kept */
#define FD_MAX          (1 << 20) /* the table of sockets stays under 2 MiB */

/* What epoll would tell about a socket, and what libcurl wants: EPOLLIN, EPOLLOUT fit a byte. */
struct fd_state {
    uint8_t have, want;
    bool known; /* to epoll; have may be 0 still: a shot that was fired */
    bool ours;
};

struct lr_net {
    struct lr_net_opts opts; /* env_* owned */
    const char *ca_default;  /* libcurl's, static */
    CURLM *multi;
    int epoll_fd, wake_fd;
    pthread_t thread;

    pthread_mutex_t mu; /* guards to the next blank line */
    struct lr_net_xfer *asks_head, *asks_tail;
    struct lr_net_xfer *live, *spare;
    size_t n_live, n_spare;
    bool waiting, closing;

    /* The net thread's. */
    struct lr_net_heap heap;
    struct fd_state *fds;
    size_t n_fds;
    size_t n_added;       /* transfers in the multi handle */
    uint64_t curl_due_ns; /* libcurl's timer; LR_NET_NEVER = off */
};

const struct lr_net_opts *lr_net_opts_of(const struct lr_net *n)
{
    return &n->opts;
}

const char *lr_net_ca_default(const struct lr_net *n)
{
    return n->ca_default;
}

/* ---- the queue ---- */

static void unqueue_locked(struct lr_net *n, struct lr_net_xfer *x)
{
    if (!x->queued)
        return;
    *(x->ask_prev ? &x->ask_prev->ask_next : &n->asks_head) = x->ask_next;
    *(x->ask_next ? &x->ask_next->ask_prev : &n->asks_tail) = x->ask_prev;
    x->queued = false;
}

/* The write is made under the lock so that a close, which takes the lock, cannot pull the eventfd
 * away from it. */
static void wake_locked(struct lr_net *n)
{
    if (!n->waiting)
        return;
    n->waiting = false;
    uint64_t one = 1;
    ssize_t k = write(n->wake_fd, &one, sizeof one);
    assert(k == sizeof one); /* it fails only when 2^64 - 1 wakes are unread */
    (void)k;
}

static void ask_locked(struct lr_net *n, struct lr_net_xfer *x, unsigned what)
{
    if (x->done)
        return;
    x->ask |= what;
    if (!x->queued) {
        x->queued = true;
        x->ask_next = NULL;
        x->ask_prev = n->asks_tail;
        *(n->asks_tail ? &n->asks_tail->ask_next : &n->asks_head) = x;
        n->asks_tail = x;
    }
    wake_locked(n);
}

static void ask(struct lr_net *n, struct lr_net_req *r, unsigned what)
{
    pthread_mutex_lock(&n->mu);
    ask_locked(n, r->priv, what);
    pthread_mutex_unlock(&n->mu);
}

void lr_net_cancel(struct lr_net *n, struct lr_net_req *r)
{
    ask(n, r, LR_NET_ASK_CANCEL);
}

void lr_net_resume(struct lr_net *n, struct lr_net_req *r)
{
    ask(n, r, LR_NET_ASK_RESUME);
}

/* A place among the live ones, and a spare transfer if there is one. */
static int admit(struct lr_net *n, struct lr_net_xfer **spare)
{
    pthread_mutex_lock(&n->mu);
    int rc = n->closing ? LR_ECLOSED : n->n_live >= n->opts.inflight_max ? LR_EBUSY : 0;
    if (!rc) {
        n->n_live++;
        *spare = n->spare;
        if (n->spare) {
            n->spare = n->spare->live_next;
            n->n_spare--;
        }
    }
    pthread_mutex_unlock(&n->mu);
    return rc;
}

static void keep_spare_locked(struct lr_net *n, struct lr_net_xfer *x)
{
    x->live_next = n->spare;
    n->spare = x;
    n->n_spare++;
}

static void go_live_locked(struct lr_net *n, struct lr_net_xfer *x, struct lr_net_req *r)
{
    r->priv = x;
    x->done = false;
    x->ask = 0;
    x->live_prev = NULL;
    x->live_next = n->live;
    if (n->live)
        n->live->live_prev = x;
    n->live = x;
    ask_locked(n, x, LR_NET_ASK_START);
}

int lr_net_start(struct lr_net *n, struct lr_net_req *r)
{
    struct lr_err none;
    struct lr_net_xfer *x = NULL;
    LR_TRY(lr_net_xfer_check(r));
    LR_TRY(lr_net_url_check(lr_strz(r->url), memset(&none, 0, sizeof none)));
    LR_TRY(admit(n, &x));
    if (!x)
        x = lr_net_xfer_new(n);
    int rc = x ? lr_net_xfer_aim(x, r) : LR_ENOMEM;
    pthread_mutex_lock(&n->mu);
    if (!rc && n->closing)
        rc = LR_ECLOSED;
    if (!rc)
        go_live_locked(n, x, r);
    else
        n->n_live--;
    pthread_mutex_unlock(&n->mu);
    if (rc && x)
        lr_net_xfer_free(x); /* rare, and half aimed */
    return rc;
}

/* ---- the end of a transfer ---- */

/* The handle may serve again; when enough do, this one goes. */
static void release(struct lr_net *n, struct lr_net_xfer *x)
{
    bool keep = lr_net_xfer_wipe(x) == 0;
    pthread_mutex_lock(&n->mu);
    keep = keep && n->n_spare < SPARE_MAX;
    if (keep)
        keep_spare_locked(n, x);
    pthread_mutex_unlock(&n->mu);
    if (!keep)
        lr_net_xfer_free(x);
}

/* No more asks; its place is free for the request that on_done may start. */
static void retire(struct lr_net *n, struct lr_net_xfer *x)
{
    pthread_mutex_lock(&n->mu);
    x->done = true;
    unqueue_locked(n, x);
    *(x->live_prev ? &x->live_prev->live_next : &n->live) = x->live_next;
    if (x->live_next)
        x->live_next->live_prev = x->live_prev;
    n->n_live--;
    pthread_mutex_unlock(&n->mu);
}

/* Times and facts from libcurl; those it does not know stay 0 and false. */
static void fill_facts(struct lr_net_xfer *x)
{
    struct lr_net_req *r = x->r;
    curl_off_t connect_us = 0, tls_us = 0, sending_us = 0;
    long sent = 0, tunnel = 0;
    r->total_ns = lr_clock_mono_ns() - x->start_ns;
    r->sent = r->head_seen;
    if (!x->added || curl_easy_getinfo(x->easy, CURLINFO_CONNECT_TIME_T, &connect_us) ||
        curl_easy_getinfo(x->easy, CURLINFO_APPCONNECT_TIME_T, &tls_us) ||
        curl_easy_getinfo(x->easy, CURLINFO_PRETRANSFER_TIME_T, &sending_us) ||
        curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent) ||
        curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel))
        return;
    r->connect_ns = (uint64_t)(tls_us > connect_us ? tls_us : connect_us) * LR_US;
    bool refused_tunnel = x->proxied && tunnel && tunnel / 100 != 2; /* only the CONNECT went out */
    r->sent = r->sent || ((sent > 0 || sending_us > 0) && !refused_tunnel);
}

static void finish(struct lr_net *n, struct lr_net_xfer *x, CURLcode code)
{
    struct lr_net_req *r = x->r;
    struct lr_err err = {0};
    int rc = lr_net_fail_map(x, code, &err);
    fill_facts(x);
    if (x->added) {
        CURLMcode m = curl_multi_remove_handle(n->multi, x->easy);
        assert(m == CURLM_OK);
        (void)m;
        x->added = false;
        n->n_added--;
    }
    lr_net_heap_drop(&n->heap, x);
    retire(n, x);
    r->on_done(r, rc, &err); /* r may be gone or started again from here on */
    release(n, x);
}

/* ---- answering asks ---- */

static uint64_t next_due(const struct lr_net_xfer *x)
{
    if (x->r->head_seen || x->first_by_ns > x->total_by_ns)
        return x->total_by_ns;
    return x->first_by_ns;
}

static void begin(struct lr_net *n, struct lr_net_xfer *x)
{
    /* libcurl's bound counts busy connections too. */
    if (curl_multi_setopt(n->multi, CURLMOPT_MAXCONNECTS,
                          (long)(n->opts.idle_max + n->n_added + 1)) ||
        curl_multi_add_handle(n->multi, x->easy)) {
        finish(n, x, CURLE_OUT_OF_MEMORY);
        return;
    }
    x->added = true;
    n->n_added++;
    x->due_ns = next_due(x);
    if (x->due_ns != LR_NET_NEVER)
        lr_net_heap_put(&n->heap, x);
}

static void answer(struct lr_net *n, struct lr_net_xfer *x, unsigned what)
{
    if (what & LR_NET_ASK_CANCEL)
        lr_net_xfer_fail(x, LR_ECANCEL, "cancelled");
    if (x->fail) {
        finish(n, x, CURLE_OK);
        return;
    }
    if (what & LR_NET_ASK_START)
        begin(n, x);
    if ((what & LR_NET_ASK_RESUME) && x->paused) {
        /* Hands out the kept bytes from within. A failure here is not reported by libcurl again. */
        x->paused = false;
        CURLcode code = curl_easy_pause(x->easy, CURLPAUSE_CONT);
        if (code)
            finish(n, x, code);
    }
}

/* One at a time: an on_done may retire others or queue more. Says whether close was called. */
static bool answer_asks(struct lr_net *n)
{
    for (int i = 0; i < ASKS_PER_TURN; i++) {
        pthread_mutex_lock(&n->mu);
        bool closing = n->closing;
        struct lr_net_xfer *x = n->asks_head;
        unsigned what = 0;
        if (x) {
            unqueue_locked(n, x);
            what = x->ask;
            x->ask = 0;
        }
        pthread_mutex_unlock(&n->mu);
        if (closing)
            return true;
        if (!x)
            break;
        answer(n, x, what);
    }
    return false;
}

/* ---- libcurl's sockets and timer ---- */

static int slot(struct lr_net *n, int fd, struct fd_state **out)
{
    LR_FAIL_IF(fd < 0 || fd >= FD_MAX, LR_EOVER);
    if ((size_t)fd >= n->n_fds) {
        size_t want = n->n_fds ? n->n_fds : 64;
        while (want <= (size_t)fd)
            want *= 2;
        struct fd_state *grown = lr_realloc(n->fds, want * sizeof *grown);
        LR_FAIL_IF(!grown, LR_ENOMEM);
        memset(grown + n->n_fds, 0, (want - n->n_fds) * sizeof *grown);
        n->fds = grown;
        n->n_fds = want;
    }
    *out = &n->fds[fd];
    return 0;
}

int lr_net_fd_adopt(struct lr_net *n, int fd)
{
    struct fd_state *s;
    LR_TRY(slot(n, fd, &s));
    *s = (struct fd_state){.ours = true};
    return 0;
}

int lr_net_fd_close(void *net, curl_socket_t fd)
{
    struct lr_net *n = net;
    if (fd >= 0 && (size_t)fd < n->n_fds)
        n->fds[fd] = (struct fd_state){0};
    return close(fd); /* epoll forgets it by itself */
}

static int watch(struct lr_net *n, int op, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data = {.fd = fd}};
    return lr_fault_here() || epoll_ctl(n->epoll_fd, op, fd, &ev) ? LR_ENOMEM : 0;
}

/* libcurl may take back its interest after it closed the socket, whose number may be somebody else's
 * by then: nothing is done to a descriptor that the table does not know to be in epoll. */
static int want_events(struct lr_net *n, int fd, uint32_t events)
{
    struct fd_state *s;
    LR_TRY(slot(n, fd, &s));
    s->want = (uint8_t)events;
    if (s->ours ? !events || s->have == events : !events && !s->known)
        return 0;
    if (!events) {
        watch(n, EPOLL_CTL_DEL, fd, 0);
        s->have = 0;
        s->known = false;
        return 0;
    }
    uint32_t how = s->ours && events & EPOLLOUT ? events | EPOLLONESHOT : events;
    int rc = watch(n, s->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, how);
    if (rc && s->known && !s->ours) /* closed and opened again unheard */
        rc = watch(n, EPOLL_CTL_ADD, fd, how);
    if (!rc) {
        s->have = (uint8_t)events;
        s->known = true;
    }
    return rc;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    struct lr_net *n = arg;
    struct lr_net_xfer *x = NULL;
    (void)unused;
    uint32_t events = what == CURL_POLL_REMOVE ? 0 : what == CURL_POLL_IN ? EPOLLIN : EPOLLOUT;
    if (what == CURL_POLL_INOUT)
        events |= EPOLLIN;
    if (!want_events(n, fd, events) || !events)
        return 0;
    /* Deaf on this socket: end the transfer. Returning -1 would end them all. */
    if (!curl_easy_getinfo(easy, CURLINFO_PRIVATE, &x) && x) {
        lr_net_xfer_fail(x, LR_ENOMEM, "the socket cannot be watched");
        pthread_mutex_lock(&n->mu);
        ask_locked(n, x, LR_NET_ASK_CANCEL);
        pthread_mutex_unlock(&n->mu);
    }
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    struct lr_net *n = arg;
    (void)multi;
    n->curl_due_ns = ms < 0    ? LR_NET_NEVER
                     : ms == 0 ? 0
                               : lr_clock_mono_ns() + (uint64_t)ms * LR_MS;
    return 0;
}

/* libcurl ran out of memory between two transfers: some socket may have lost its watch, it does not
 * say whose. Rather than let one hang to its timeout, or for ever, all end here. */
static void lose_all(struct lr_net *n)
{
    pthread_mutex_lock(&n->mu);
    for (struct lr_net_xfer *x = n->live; x; x = x->live_next) {
        if (!x->added)
            continue;
        lr_net_xfer_fail(x, LR_ENOMEM, "out of memory");
        ask_locked(n, x, LR_NET_ASK_CANCEL);
    }
    pthread_mutex_unlock(&n->mu);
}

static void tell_curl(struct lr_net *n, int fd, int what)
{
    int running;
    CURLMcode m = curl_multi_socket_action(n->multi, fd, what, &running);
    if (m == CURLM_OK || m == CURLM_BAD_SOCKET) /* bad: closed by an event before this one */
        return;
    LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "net", "event=multi_failed code=%d", (int)m);
    lose_all(n);
}

static void reap(struct lr_net *n)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(n->multi, &left))) {
        struct lr_net_xfer *x = NULL;
        CURLcode code = msg->data.result; /* msg dies with the removal */
        if (msg->msg == CURLMSG_DONE &&
            !curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &x) && x)
            finish(n, x, code);
    }
}

static void on_event(struct lr_net *n, int fd, uint32_t got)
{
    struct fd_state *s = &n->fds[fd]; /* whatever is in epoll has a slot */
    if (s->ours && s->have & EPOLLOUT)
        s->have = 0; /* the one shot */
    if (!s->want) {  /* an idle connection, closed by the peer: libcurl finds out itself */
        if (s->have && !watch(n, EPOLL_CTL_DEL, fd, 0)) {
            s->have = 0;
            s->known = false;
        }
        return;
    }
    if (got & (EPOLLERR | EPOLLHUP)) /* reading or writing tells what it is */
        got |= s->want;
    tell_curl(n, fd,
              (got & EPOLLIN ? CURL_CSELECT_IN : 0) | (got & EPOLLOUT ? CURL_CSELECT_OUT : 0));
    s = &n->fds[fd]; /* the table may have moved */
    if (s->want && !s->have && want_events(n, fd, s->want))
        lose_all(n);
}

static void on_events(struct lr_net *n, const struct epoll_event *ev, int k)
{
    for (int i = 0; i < k; i++)
        if (ev[i].data.fd != n->wake_fd)
            on_event(n, ev[i].data.fd, ev[i].events);
}

/* ---- the loop ---- */

static void expire(struct lr_net *n, uint64_t now)
{
    while (n->heap.n && n->heap.v[0]->due_ns <= now) {
        struct lr_net_xfer *x = n->heap.v[0];
        lr_net_heap_drop(&n->heap, x);
        x->due_ns = next_due(x); /* the head may have come since */
        if (x->due_ns > now) {
            if (x->due_ns != LR_NET_NEVER)
                lr_net_heap_put(&n->heap, x);
            continue;
        }
        bool total = x->total_by_ns <= now;
        uint64_t ms = total ? x->r->route.total_ms : x->r->route.first_byte_ms;
        lr_net_xfer_fail(x, LR_ETIMEOUT, "no %s within %llu ms",
                         total ? "complete answer" : "answer", (unsigned long long)ms);
        finish(n, x, CURLE_OK);
    }
}

/* Milliseconds to wait, rounded up; -1 = for ever. Announces a wait, under the lock. */
static int plan_wait(struct lr_net *n)
{
    uint64_t due = n->heap.n ? n->heap.v[0]->due_ns : LR_NET_NEVER;
    if (n->curl_due_ns < due)
        due = n->curl_due_ns;
    uint64_t now = due == LR_NET_NEVER || due == 0 ? 0 : lr_clock_mono_ns();
    pthread_mutex_lock(&n->mu);
    n->waiting = !n->asks_head && !n->closing && due > now;
    bool wait = n->waiting;
    pthread_mutex_unlock(&n->mu);
    if (!wait)
        return 0;
    if (due == LR_NET_NEVER)
        return -1;
    uint64_t ms = (due - now + LR_MS - 1) / LR_MS;
    return ms > 60000 ? 60000 : (int)ms;
}

static void turn(struct lr_net *n)
{
    struct epoll_event ev[EVENTS_PER_TURN];
    uint64_t now = n->curl_due_ns == 0 && !n->heap.n ? 0 : lr_clock_mono_ns();
    if (n->curl_due_ns <= now) {
        n->curl_due_ns = LR_NET_NEVER; /* libcurl sets it anew */
        tell_curl(n, CURL_SOCKET_TIMEOUT, 0);
    }
    reap(n);
    expire(n, now);
    int ms = plan_wait(n);
    int k = epoll_wait(n->epoll_fd, ev, EVENTS_PER_TURN, ms);
    if (ms) {
        pthread_mutex_lock(&n->mu);
        n->waiting = false;
        pthread_mutex_unlock(&n->mu);
    }
    on_events(n, ev, k); /* k < 0: a signal, though all are blocked here */
    reap(n);
}

static void cancel_all(struct lr_net *n)
{
    for (;;) {
        pthread_mutex_lock(&n->mu);
        struct lr_net_xfer *x = n->live;
        pthread_mutex_unlock(&n->mu);
        if (!x)
            return;
        lr_net_xfer_fail(x, LR_ECANCEL, "the client is closing");
        finish(n, x, CURLE_OK);
    }
}

static void *run(void *arg)
{
    struct lr_net *n = arg;
    while (!answer_asks(n))
        turn(n);
    cancel_all(n);
    return NULL;
}

/* ---- open and close ---- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void start_curl(void) /* once a process; never undone, libcurl's users may come and go */
{
    curl_ready = curl_global_init(CURL_GLOBAL_ALL);
}

static int keep_env(const char **field)
{
    if (!*field || !**field) {
        *field = NULL;
        return 0;
    }
    *field = lr_strndup(*field, strlen(*field));
    return *field ? 0 : LR_ENOMEM;
}

static int keep_opts(struct lr_net *n, const struct lr_net_opts *o)
{
    struct lr_net_opts *mine = &n->opts;
    *mine = (struct lr_net_opts){.inflight_max = o->inflight_max ? o->inflight_max : 4096,
                                 .idle_max = o->idle_max ? o->idle_max : 256,
                                 .header_max = o->header_max ? o->header_max : LR_KIB(64)};
    LR_FAIL_IF(mine->inflight_max > FD_MAX || mine->idle_max > FD_MAX, LR_EINVAL);
    const char *const from[] = {o->env_https_proxy, o->env_http_proxy, o->env_no_proxy,
                                o->env_ca_file};
    const char **to[] = {&mine->env_https_proxy, &mine->env_http_proxy, &mine->env_no_proxy,
                         &mine->env_ca_file};
    for (size_t i = 0; i < LR_COUNT(from); i++) {
        const char *mine_now = from[i];
        LR_TRY(keep_env(&mine_now));
        *to[i] = mine_now;
    }
    return 0;
}

static int set_multi(struct lr_net *n)
{
    LR_FAIL_IF(lr_fault_here(), LR_ENOMEM);
    n->multi = curl_multi_init();
    LR_FAIL_IF(!n->multi, LR_ENOMEM);
    LR_FAIL_IF(curl_multi_setopt(n->multi, CURLMOPT_SOCKETFUNCTION, on_socket) ||
                   curl_multi_setopt(n->multi, CURLMOPT_SOCKETDATA, (void *)n) ||
                   curl_multi_setopt(n->multi, CURLMOPT_TIMERFUNCTION, on_timer) ||
                   curl_multi_setopt(n->multi, CURLMOPT_TIMERDATA, (void *)n),
               LR_ENOMEM);
    return 0;
}

static int set_epoll(struct lr_net *n)
{
    n->epoll_fd = lr_fault_here() ? -1 : epoll_create1(EPOLL_CLOEXEC);
    n->wake_fd = lr_fault_here() ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    LR_FAIL_IF(n->epoll_fd < 0 || n->wake_fd < 0, LR_EIO);
    return watch(n, EPOLL_CTL_ADD, n->wake_fd, EPOLLIN | EPOLLET);
}

/* Everything but the thread, which is gone or never was. Handles before the multi: its end closes
 * the connections through lr_net_fd_close. */
static void destroy(struct lr_net *n)
{
    while (n->spare) {
        struct lr_net_xfer *x = n->spare;
        n->spare = x->live_next;
        lr_net_xfer_free(x);
    }
    if (n->multi && curl_multi_cleanup(n->multi) != CURLM_OK)
        lr_log(LR_LOG_WARN, "net", "event=multi_cleanup_failed");
    lr_io_close(n->epoll_fd);
    lr_io_close(n->wake_fd);
    lr_free(n->heap.v);
    lr_free(n->fds);
    const char *const owned[] = {n->opts.env_https_proxy, n->opts.env_http_proxy,
                                 n->opts.env_no_proxy, n->opts.env_ca_file};
    for (size_t i = 0; i < LR_COUNT(owned); i++) {
        void *p;
        memcpy(&p, &owned[i], sizeof p); /* ours: const only towards readers */
        lr_free(p);
    }
    pthread_mutex_destroy(&n->mu);
    lr_free(n);
}

int lr_net_open(struct lr_net **out, const struct lr_net_opts *opts)
{
    static const struct lr_net_opts defaults;
    LR_FAIL_IF(pthread_once(&curl_once, start_curl) || curl_ready != CURLE_OK, LR_ENOMEM);
    struct lr_net *n = lr_new(struct lr_net);
    LR_FAIL_IF(!n, LR_ENOMEM);
    n->epoll_fd = n->wake_fd = -1;
    n->curl_due_ns = LR_NET_NEVER;
    n->ca_default = curl_version_info(CURLVERSION_NOW)->cainfo;
    pthread_mutex_init(&n->mu, NULL);
    int rc = keep_opts(n, opts ? opts : &defaults);
    if (!rc) {
        n->heap.v = lr_calloc(n->opts.inflight_max, sizeof *n->heap.v);
        rc = n->heap.v ? 0 : LR_ENOMEM;
    }
    if (!rc)
        rc = set_epoll(n);
    if (!rc)
        rc = set_multi(n);
    if (!rc)
        rc = lr_thread_start(&n->thread, "net", run, n);
    if (rc) {
        destroy(n);
        return rc;
    }
    *out = n;
    return 0;
}

void lr_net_close(struct lr_net *n)
{
    if (!n)
        return;
    assert(!pthread_equal(pthread_self(), n->thread)); /* a callback cannot outlive itself */
    pthread_mutex_lock(&n->mu);
    n->closing = true;
    wake_locked(n);
    pthread_mutex_unlock(&n->mu);
    pthread_join(n->thread, NULL);
    destroy(n);
}
