/* SPDX-License-Identifier: Apache-2.0
 * api/harness.c - see harness.h. LARDER (environment) names the program; CMake sets it.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "harness: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, " (errno %d: %s)\n", errno, strerror(errno));
    va_end(ap);
    abort();
}

void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

bool send_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* Reads until the blank line, then content-length bytes. *rest keeps what was read beyond. */
struct reader {
    int fd;
    char *p;
    size_t n, cap;
};

static bool more(struct reader *r)
{
    if (r->cap - r->n < 4096) {
        r->cap = r->cap ? r->cap * 2 : 16384;
        r->p = realloc(r->p, r->cap);
        if (!r->p)
            die("memory");
    }
    ssize_t k;
    do
        k = recv(r->fd, r->p + r->n, r->cap - r->n - 1, 0);
    while (k < 0 && errno == EINTR);
    if (k <= 0)
        return false;
    r->n += (size_t)k;
    r->p[r->n] = 0;
    return true;
}

static char *take(struct reader *r, size_t n)
{
    char *s = malloc(n + 1);
    if (!s)
        die("memory");
    memcpy(s, r->p, n);
    s[n] = 0;
    memmove(r->p, r->p + n, r->n - n);
    r->n -= n;
    r->p[r->n] = 0;
    return s;
}

static char *read_head(struct reader *r)
{
    char *end;
    while (!r->p || !(end = strstr(r->p, "\r\n\r\n")))
        if (!more(r))
            return NULL;
    return take(r, (size_t)(end - r->p) + 4);
}

static char *read_exact(struct reader *r, size_t n)
{
    while (r->n < n)
        if (!more(r))
            return NULL;
    return take(r, n);
}

static const char *find_header(const char *head, const char *name, char *out, size_t cap)
{
    size_t k = strlen(name);
    out[0] = 0;
    for (const char *p = strstr(head, "\r\n"); p && p[2] != '\r'; p = strstr(p + 2, "\r\n"))
        if (strncasecmp(p + 2, name, k) == 0 && p[2 + k] == ':') {
            const char *v = p + 3 + k, *end = strstr(v, "\r\n");
            while (*v == ' ')
                v++;
            snprintf(out, cap, "%.*s", (int)(end - v), v);
            break;
        }
    return out;
}

/* ---- upstream ---- */

static pthread_mutex_t up_mu = PTHREAD_MUTEX_INITIALIZER;
static struct up *all_ups;

struct up_conn {
    int fd;
    struct up *up;
    bool chunked, dead;
};

static void gone(struct up_conn *c)
{
    if (!c->dead) {
        pthread_mutex_lock(&up_mu);
        c->up->n_aborted++;
        pthread_mutex_unlock(&up_mu);
    }
    c->dead = true;
}

static void *serve_conn(void *arg)
{
    struct up_conn *c = arg;
    struct reader r = {.fd = c->fd};
    while (!c->dead) {
        struct up_req q = {.head = read_head(&r)};
        char len[32];
        if (!q.head || sscanf(q.head, "%15s %2047s", q.method, q.path) != 2) {
            free(q.head);
            break;
        }
        q.body_len = strtoul(find_header(q.head, "content-length", len, sizeof len), NULL, 10);
        q.body = read_exact(&r, q.body_len);
        if (!q.body) {
            free(q.head);
            break;
        }
        pthread_mutex_lock(&up_mu);
        c->up->n_requests++;
        snprintf(c->up->last_head, sizeof c->up->last_head, "%s", q.head);
        snprintf(c->up->last_body, sizeof c->up->last_body, "%s", q.body);
        pthread_mutex_unlock(&up_mu);
        c->up->fn(c, &q);
        free(q.head);
        free(q.body);
    }
    free(r.p);
    close(c->fd);
    free(c);
    return NULL;
}

static void *accept_loop(void *arg)
{
    struct up *u = arg;
    for (;;) {
        int fd = accept(u->fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct up_conn *c = calloc(1, sizeof *c);
        pthread_t t;
        if (!c)
            die("memory");
        c->fd = fd;
        c->up = u;
        if (pthread_create(&t, NULL, serve_conn, c))
            die("thread");
        pthread_detach(t);
    }
}

struct up *up_start(up_fn fn)
{
    struct up *u = calloc(1, sizeof *u);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    pthread_t t;
    if (!u || (u->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 ||
        bind(u->fd, (void *)&a, n) || listen(u->fd, 512) || getsockname(u->fd, (void *)&a, &n))
        die("upstream socket");
    u->port = ntohs(a.sin_port);
    u->fn = fn;
    pthread_mutex_lock(&up_mu);
    u->next = all_ups;
    all_ups = u;
    pthread_mutex_unlock(&up_mu);
    if (pthread_create(&t, NULL, accept_loop, u))
        die("thread");
    pthread_detach(t);
    return u;
}

void up_stop(struct up *u)
{
    shutdown(u->fd, SHUT_RDWR); /* its threads end; the struct stays for those still in a reply */
    close(u->fd);
}

int up_count(struct up *u)
{
    pthread_mutex_lock(&up_mu);
    int n = u->n_requests;
    pthread_mutex_unlock(&up_mu);
    return n;
}

int up_aborted(struct up *u)
{
    pthread_mutex_lock(&up_mu);
    int n = u->n_aborted;
    pthread_mutex_unlock(&up_mu);
    return n;
}

static const char *copy_locked(const char *s)
{
    static _Thread_local char out[65536];
    pthread_mutex_lock(&up_mu);
    snprintf(out, sizeof out, "%s", s);
    pthread_mutex_unlock(&up_mu);
    return out;
}

const char *up_last_body(struct up *u)
{
    return copy_locked(u->last_body);
}

const char *up_last_head(struct up *u)
{
    return copy_locked(u->last_head);
}

bool up_reply(struct up_conn *c, int status, const char *headers, const char *body)
{
    char head[2048];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\n%scontent-length: %zu\r\n\r\n", status, headers,
                     strlen(body));
    bool ok = send_all(c->fd, head, (size_t)n) && send_all(c->fd, body, strlen(body));
    if (!ok)
        gone(c);
    return ok;
}

bool up_begin(struct up_conn *c, int status, const char *headers)
{
    char head[2048];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\n%stransfer-encoding: chunked\r\n\r\n", status,
                     headers);
    bool ok = send_all(c->fd, head, (size_t)n);
    if (!ok)
        gone(c);
    return ok;
}

bool up_chunk(struct up_conn *c, const char *text)
{
    char head[32];
    /* A peer that has hung up is noticed at the next write, or here. */
    struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP};
    if (poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR))) {
        gone(c);
        return false;
    }
    int n = snprintf(head, sizeof head, "%zx\r\n", strlen(text));
    bool ok = send_all(c->fd, head, (size_t)n) && send_all(c->fd, text, strlen(text)) &&
              send_all(c->fd, "\r\n", 2);
    if (!ok)
        gone(c);
    return ok;
}

void up_end(struct up_conn *c)
{
    if (!send_all(c->fd, "0\r\n\r\n", 5))
        gone(c);
}

void up_abort(struct up_conn *c)
{
    struct linger l = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    shutdown(c->fd, SHUT_RDWR);
    c->dead = true;
}

/* ---- the ready-made upstream ---- */

static void chat_stream(struct up_conn *c, const char *text, bool usage, const struct up_req *q)
{
    char line[1024];
    bool slow = strstr(q->body, "slow");
    bool cut = strstr(q->body, "cutoff");
    const char *fin = strstr(q->body, "filtered") ? "content_filter" : "stop";
    if (!up_begin(c, 200, "content-type: text/event-stream\r\nx-request-id: up-1\r\n"))
        return;
    snprintf(line, sizeof line, "data: {\"id\":\"chatcmpl-up\",\"object\":\"chat.completion.chunk\",\"created\":1,"
             "\"model\":\"m-up\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
             "\"finish_reason\":null}]}\n\n");
    if (!up_chunk(c, line))
        return;
    for (size_t i = 0; text[i]; i++) {
        snprintf(line, sizeof line, "data: {\"id\":\"chatcmpl-up\",\"object\":\"chat.completion.chunk\",\"created\":1,"
                 "\"model\":\"m-up\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%c\"},\"finish_reason\":null}]}\n\n",
                 text[i]);
        if (!up_chunk(c, line))
            return;
        if (slow)
            sleep_ms(30);
        if (cut && i == 3) {
            up_abort(c);
            return;
        }
    }
    snprintf(line, sizeof line, "data: {\"id\":\"chatcmpl-up\",\"object\":\"chat.completion.chunk\",\"created\":1,"
             "\"model\":\"m-up\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n", fin);
    up_chunk(c, line);
    if (usage)
        up_chunk(c, "data: {\"id\":\"chatcmpl-up\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m-up\","
                    "\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16}}\n\n");
    up_chunk(c, "data: [DONE]\n\n");
    up_end(c);
}

static void chat_whole(struct up_conn *c, const char *text, const struct up_req *q)
{
    char *body = malloc(strlen(text) + 4096), choices[1024] = "";
    const char *fin = strstr(q->body, "filtered") ? "content_filter" : "stop";
    const char *n_at = json_at(q->body, "n");
    int n = *n_at ? atoi(n_at) : 1;
    for (int i = 1; i < n && i < 4; i++)
        snprintf(choices + strlen(choices), sizeof choices - strlen(choices),
                 ",{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":\"choice %d\"},"
                 "\"finish_reason\":\"stop\"}", i, i);
    if (!body)
        die("memory");
    if (strstr(q->body, "slow"))
        sleep_ms(400);
    sprintf(body, "{\"id\":\"chatcmpl-up\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m-up\","
            "\"system_fingerprint\":\"fp_7\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
            "\"content\":\"%s\"},\"finish_reason\":\"%s\"}%s],\"usage\":{\"prompt_tokens\":11,"
            "\"completion_tokens\":5,\"total_tokens\":16}}", text, fin, choices);
    up_reply(c, 200, "content-type: application/json\r\nx-ratelimit-remaining-requests: 99\r\n", body);
    free(body);
}

static void messages_answer(struct up_conn *c, const char *text, bool stream)
{
    char body[1 << 17];
    if (!stream) {
        snprintf(body, sizeof body, "{\"id\":\"msg_up\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m-up\","
                 "\"content\":[{\"type\":\"text\",\"text\":\"%s\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
                 "\"usage\":{\"input_tokens\":11,\"output_tokens\":5}}", text);
        up_reply(c, 200, "content-type: application/json\r\nrequest-id: req_up\r\n", body);
        return;
    }
    up_begin(c, 200, "content-type: text/event-stream\r\n");
    up_chunk(c, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_up\",\"type\":\"message\","
                "\"role\":\"assistant\",\"model\":\"m-up\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
                "\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n");
    up_chunk(c, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
                "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    snprintf(body, sizeof body, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
             "\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}}\n\n", text);
    up_chunk(c, body);
    up_chunk(c, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
    up_chunk(c, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","
                "\"stop_sequence\":null},\"usage\":{\"output_tokens\":5}}\n\n");
    up_chunk(c, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    up_end(c);
}

static void embeddings_answer(struct up_conn *c, const struct up_req *q)
{
    /* One vector an input: its first component is the number of letters of that input. */
    char body[8192] = "{\"object\":\"list\",\"model\":\"e-up\",\"data\":[";
    const char *p = strstr(q->body, "\"input\"");
    p = p ? strchr(p, ':') + 1 : "";
    int i = 0, tokens = 0;
    while (*p && *p != ']' && *p != '}') {
        if (*p++ != '"')
            continue;
        const char *end = strchr(p, '"');
        if (!end)
            break;
        snprintf(body + strlen(body), sizeof body - strlen(body),
                 "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":[%d,0.5]}", i ? "," : "", i, (int)(end - p));
        i++;
        tokens += 2;
        p = end + 1;
        if (*p == '}')
            break;
    }
    snprintf(body + strlen(body), sizeof body - strlen(body),
             "],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", tokens, tokens);
    up_reply(c, 200, "content-type: application/json\r\n", body);
}

void up_llm(struct up_conn *c, const struct up_req *q)
{
    bool stream = strstr(q->body, "\"stream\":true") || strstr(q->body, "\"stream\": true");
    char text[1 << 16] = "hello from upstream";
    const char *number = strstr(q->body, "long ");
    if (number) {
        size_t n = strtoul(number + 5, NULL, 10);
        n = n < sizeof text - 1 ? n : sizeof text - 1;
        memset(text, 'x', n);
        text[n] = 0;
    }
    if (strstr(q->body, "fail500"))
        up_reply(c, 500, "content-type: application/json\r\n", "{\"error\":{\"message\":\"boom\",\"type\":\"server_error\",\"code\":\"boom\"}}");
    else if (strstr(q->body, "fail429"))
        up_reply(c, 429, "content-type: application/json\r\nretry-after: 7\r\n",
                 "{\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit\",\"code\":\"rate\"}}");
    else if (strstr(q->body, "fail400"))
        up_reply(c, 400, "content-type: application/json\r\n", "{\"error\":{\"message\":\"bad thing\",\"type\":\"invalid_request_error\",\"code\":\"bad\"}}");
    else if (strstr(q->head, "sk-wrong"))
        up_reply(c, 401, "content-type: application/json\r\n", "{\"error\":{\"message\":\"no such key\",\"type\":\"auth\",\"code\":\"invalid_api_key\"}}");
    else if (strstr(q->path, "/embeddings"))
        embeddings_answer(c, q);
    else if (strstr(q->path, "/messages"))
        messages_answer(c, text, stream);
    else if (strstr(q->path, "/models"))
        up_reply(c, 200, "content-type: application/json\r\n", "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\"}]}");
    else if (!strstr(q->path, "/chat/completions"))
        up_reply(c, 200, "content-type: text/plain\r\nx-odd: yes\r\n", q->path);
    else if (stream)
        chat_stream(c, text, strstr(q->body, "include_usage"), q);
    else
        chat_whole(c, text, q);
}

/* ---- gateway ---- */

static const char *program(void)
{
    const char *p = getenv("LARDER");
    if (!p)
        die("LARDER is not set: the path of the program under test");
    return p;
}

static void read_port(struct gw *g, int fd)
{
    char line[4096];
    size_t n = 0;
    while (n < sizeof line - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20000) != 1)
            break;
        ssize_t k = read(fd, line + n, sizeof line - 1 - n);
        if (k <= 0)
            break;
        n += (size_t)k;
        line[n] = 0;
        const char *at = strstr(line, "://127.0.0.1:");
        if (at && strchr(at, '\n')) {
            g->port = atoi(at + 13);
            return;
        }
    }
    char tail[4096] = "";
    int log = open(g->log, O_RDONLY);
    ssize_t k = log >= 0 ? read(log, tail, sizeof tail - 1) : 0;
    tail[k > 0 ? k : 0] = 0;
    die("larder did not start; its log:\n%s", tail);
}

static void write_config(const char *dir, const char *yaml, va_list ap)
{
    char path[300];
    snprintf(path, sizeof path, "%s/larder.yaml", dir);
    FILE *f = fopen(path, "w");
    if (!f || vfprintf(f, yaml, ap) < 0 || fclose(f))
        die("config");
}

void gw_write_config(const struct gw *g, const char *yaml, ...)
{
    va_list ap;
    va_start(ap, yaml);
    write_config(g->dir, yaml, ap);
    va_end(ap);
}

struct gw *gw_config(const char *const *args, const char *yaml, ...)
{
    char dir[] = "/tmp/larder-test-XXXXXX", path[300];
    const char *all[62] = {"--config", path};
    int n = 2;
    if (!mkdtemp(dir))
        die("mkdtemp");
    va_list ap;
    va_start(ap, yaml);
    write_config(dir, yaml, ap);
    va_end(ap);
    snprintf(path, sizeof path, "%s/larder.yaml", dir);
    for (; args && *args && n < 61; args++)
        all[n++] = *args;
    return gw_start(NULL, dir, all);
}

bool gw_said(const struct gw *g, const char *text)
{
    static char log[1 << 20];
    int fd = open(g->log, O_RDONLY);
    ssize_t k = fd >= 0 ? read(fd, log, sizeof log - 1) : 0;
    log[k > 0 ? k : 0] = 0;
    close(fd);
    return strstr(log, text);
}

struct gw *gw_start(struct up *up, const char *dir, const char *const *args)
{
    struct gw *g = calloc(1, sizeof *g);
    char url[64];
    const char *argv[64];
    int n = 0, out[2];
    if (!g || pipe2(out, O_CLOEXEC))
        die("pipe");
    snprintf(g->dir, sizeof g->dir, "%s", dir ? dir : "/tmp/larder-test-XXXXXX");
    if (!dir && !mkdtemp(g->dir))
        die("mkdtemp");
    snprintf(g->log, sizeof g->log, "%s/stderr.log", g->dir);
    argv[n++] = program();
    argv[n++] = "serve";
    argv[n++] = "--listen";
    argv[n++] = "127.0.0.1:0";
    argv[n++] = "--data";
    argv[n++] = g->dir;
    argv[n++] = "--http-drain";
    argv[n++] = "3s";
    if (up) {
        snprintf(url, sizeof url, "http://127.0.0.1:%d", up->port);
        argv[n++] = "--upstream";
        argv[n++] = url;
    }
    for (; args && *args && n < 62; args++)
        argv[n++] = *args;
    argv[n] = NULL;
    g->pid = fork();
    if (g->pid < 0)
        die("fork");
    if (g->pid == 0) {
        int log = open(g->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(out[1], 1);
        dup2(log, 2);
        execv(argv[0], (char *const *)(void *)argv);
        _exit(127);
    }
    close(out[1]);
    read_port(g, out[0]);
    close(out[0]);
    char path[300];
    snprintf(path, sizeof path, "%s/admin.key", g->dir);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%79s", g->admin_key) != 1)
        die("no admin key");
    fclose(f);
    return g;
}

/* What it had to say (a sanitizer's report, say). */
static void show_log(const struct gw *g)
{
    static char text[1 << 16];
    int fd = open(g->log, O_RDONLY);
    ssize_t k = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    fprintf(stderr, "---- log of larder:\n%.*s----\n", (int)(k > 0 ? k : 0), text);
    close(fd);
}

int gw_stop(struct gw *g, int sig)
{
    int st = 0;
    if (!g->pid)
        return 0;
    kill(g->pid, sig);
    for (int i = 0; i < 4000; i++) {
        pid_t p = waitpid(g->pid, &st, WNOHANG);
        if (p == g->pid) {
            g->pid = 0;
            if (!(WIFEXITED(st) && WEXITSTATUS(st) == 0) && sig != SIGKILL)
                show_log(g);
            return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
        }
        sleep_ms(5);
    }
    kill(g->pid, SIGABRT);
    waitpid(g->pid, &st, 0);
    g->pid = 0;
    die("larder did not stop in 20 s");
}

/* A directory and its files. */
static void wipe(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

void gw_free(struct gw *g)
{
    char segments[sizeof g->dir + 8];
    gw_stop(g, SIGKILL);
    snprintf(segments, sizeof segments, "%s/kv", g->dir);
    wipe(segments);
    wipe(g->dir);
    free(g);
}

int larder(char *out, size_t cap, const char *const *args)
{
    const char *argv[64] = {program()};
    int n = 1, fd[2], st;
    while (args[n - 1] && n < 63) {
        argv[n] = args[n - 1];
        n++;
    }
    argv[n] = NULL;
    if (pipe2(fd, O_CLOEXEC))
        die("pipe");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 1);
        dup2(fd[1], 2);
        execv(argv[0], (char *const *)(void *)argv);
        _exit(127);
    }
    close(fd[1]);
    size_t at = 0;
    for (ssize_t k; at < cap - 1 && (k = read(fd[0], out + at, cap - 1 - at)) > 0;)
        at += (size_t)k;
    out[at] = 0;
    close(fd[0]);
    waitpid(pid, &st, 0);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

/* ---- client ---- */

int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct timeval limit = {30, 0};
    if (fd < 0 || connect(fd, (void *)&a, sizeof a))
        die("connect to port %d", port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/* Reads on from offset *at until n bytes are there behind it; what lies before *at may go. */
static bool have(struct reader *r, size_t *at, size_t n)
{
    if (*at > 1 << 20) {
        memmove(r->p, r->p + *at, r->n - *at);
        r->n -= *at;
        *at = 0;
    }
    while (r->n < *at + n)
        if (!more(r))
            return false;
    return true;
}

static void dechunk(struct reader *r, struct resp *out)
{
    size_t cap = 1 << 16, at = 0, n = 1;
    out->body = malloc(cap);
    out->body[0] = 0;
    while (n) {
        size_t line = 0;
        do
            if (!have(r, &at, ++line)) {
                out->torn = true;
                return;
            }
        while (r->p[at + line - 1] != '\n');
        n = strtoul(r->p + at, NULL, 16);
        at += line;
        if (!have(r, &at, n + 2)) {
            out->torn = true;
            return;
        }
        while (out->len + n + 1 > cap)
            out->body = realloc(out->body, cap *= 2);
        memcpy(out->body + out->len, r->p + at, n);
        out->len += n;
        out->body[out->len] = 0;
        at += n + 2;
    }
}

static void read_answer(struct reader *r, bool headless, struct resp *out)
{
    out->head = read_head(r);
    if (out->head && sscanf(out->head, "HTTP/1.1 %d", &out->status) == 1) {
        char te[32], len[32];
        if (strcasecmp(find_header(out->head, "transfer-encoding", te, sizeof te), "chunked") == 0) {
            out->body = NULL;
            dechunk(r, out);
        } else {
            out->len = strtoul(find_header(out->head, "content-length", len, sizeof len), NULL, 10);
            bool empty = headless || out->status == 204 || out->status == 304;
            out->body = read_exact(r, empty ? 0 : out->len);
            out->torn = !out->body;
        }
    }
    if (!out->head)
        out->head = strdup("\r\n");
    if (!out->body) {
        out->body = strdup("");
        out->len = 0;
    }
}

struct resp http(int port, const char *method, const char *path, const char *headers, const char *body)
{
    struct resp out = {0};
    int fd = dial(port);
    struct reader r = {.fd = fd};
    size_t cap = 4096 + strlen(headers) + strlen(path) + 128;
    char *head = malloc(cap);
    int n = snprintf(head, cap, "%s %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: close\r\n%s", method, path,
                     port, headers);
    if (body)
        n += snprintf(head + n, cap - (size_t)n, "content-length: %zu\r\n", strlen(body));
    n += snprintf(head + n, cap - (size_t)n, "\r\n");
    send_all(fd, head, (size_t)n);
    if (body)
        send_all(fd, body, strlen(body));
    free(head);
    read_answer(&r, strcmp(method, "HEAD") == 0, &out);
    free(r.p);
    close(fd);
    return out;
}

struct resp talk(int fd, const char *bytes, size_t n)
{
    struct resp out = {0};
    struct reader r = {.fd = fd};
    send_all(fd, bytes, n);
    read_answer(&r, false, &out);
    free(r.p);
    return out;
}

struct resp post(int port, const char *path, const char *body)
{
    return http(port, "POST", path, "content-type: application/json\r\nauthorization: Bearer sk-test\r\n", body);
}

void resp_free(struct resp *r)
{
    free(r->head);
    free(r->body);
    *r = (struct resp){0};
}

const char *header(const struct resp *r, const char *name)
{
    static _Thread_local char out[2048];
    return find_header(r->head, name, out, sizeof out);
}

const char *json_at(const char *text, const char *name)
{
    static _Thread_local char out[4096];
    char key[128];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *p = strstr(text, key);
    out[0] = 0;
    if (!p)
        return out;
    p += strlen(key);
    while (*p == ' ')
        p++;
    size_t n = 0;
    if (*p == '"') {
        for (p++; *p && *p != '"' && n < sizeof out - 1; p++)
            out[n++] = *p;
    } else {
        for (; *p && !strchr(",}] \n", *p) && n < sizeof out - 1; p++)
            out[n++] = *p;
    }
    out[n] = 0;
    return out;
}
