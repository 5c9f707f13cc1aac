/* SPDX-License-Identifier: Apache-2.0
 * embed/remote.c - vectors from somebody else's /v1/embeddings.
 *
 *   caller (a worker)   texts -> JSON -> lr_net_start, wait ...... done -> JSON -> unit vectors
 *   net thread                                    body*, done: signal
 *
 * A cache step that is late is a miss, so: one attempt, one deadline over all pieces of a call,
 * every failure a number the caller turns into a miss. net/ calls done exactly once, at the
 * deadline at the latest; waiting for it is what bounds the call, and what makes it safe to keep
 * the request on the caller's stack.
 *
 * The answer is believed as far as it can be checked: so many vectors, each index once, the
 * dimension that was promised, numbers, not all zeros. A model that changes behind its name cannot
 * be seen from here; the id has an operator's `revision` for that.
 *
 * Source: OpenAI's API reference, "Create embeddings"; vLLM, llama.cpp and TEI answer alike.
 */
#include "embed/embed_int.h"
#include "net/net.h"

#include <stdio.h>

#define DEADLINE_MS     2000u
#define DEADLINE_MAX    3600000u
#define PIECE_FLOATS    (1u << 18) /* of one request: its JSON as a tree is some 25 MB */
#define FLOAT_TEXT      32u        /* bytes of a number, its comma and blanks included */
#define ANSWER_EXTRA    LR_KIB(64)
#define ID_CONTEXT      "larder embed 2026-11 remote encoder id, version 1"

struct remote {
    struct lr_net *net;
    char *url, *model, *auth_line, *proxy, *no_proxy, *ca_file; /* owned */
    uint32_t dim;
    bool send_dim;
    uint64_t deadline_ms;
};

/* ---- opening ---- */

/* A copy, or NULL for NULL. false: no memory. */
static bool keep(char **to, const char *z)
{
    *to = z ? lr_strndup(z, strlen(z)) : NULL;
    return !z || *to;
}

static bool keep_auth(struct remote *r, const char *auth)
{
    static const char name[] = "authorization: ";
    if (!auth)
        return true;
    size_t n = strlen(auth);
    r->auth_line = lr_alloc(sizeof name + n);
    if (!r->auth_line)
        return false;
    memcpy(r->auth_line, name, sizeof name - 1);
    memcpy(r->auth_line + sizeof name - 1, auth, n + 1);
    return true;
}

void lr_embed_remote_close(struct remote *r)
{
    if (!r)
        return;
    char *z[] = {r->url, r->model, r->auth_line, r->proxy, r->no_proxy, r->ca_file};
    for (size_t i = 0; i < LR_COUNT(z); i++)
        lr_free(z[i]);
    lr_free(r);
}

static void identify(const struct lr_embed_remote *r, struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init_derive(&h, ID_CONTEXT);
    lr_blake3_add_str(&h, lr_strz(r->url));
    lr_blake3_add_str(&h, lr_strz(r->model));
    lr_blake3_add_str(&h, lr_strz(r->revision));
    lr_blake3_add_u64(&h, r->dim);
    lr_blake3_out(&h, out->b, sizeof out->b);
}

static int check(const struct lr_embed_remote *r, struct lr_err *err)
{
    if (!r->net || !r->url || !r->model || !r->model[0])
        return lr_err_set(err, LR_EINVAL, "remote encoder", "a URL and a model are needed");
    LR_TRY(lr_net_url_check(lr_strz(r->url), err));
    if (r->dim < 1 || r->dim > LR_EMBED_DIM_MAX)
        return lr_err_set(err, LR_EINVAL, "remote encoder", "dimension %u, expected 1 to %u",
                          r->dim, LR_EMBED_DIM_MAX);
    if (r->deadline_ms > DEADLINE_MAX)
        return lr_err_set(err, LR_EINVAL, "remote encoder", "a deadline of more than an hour");
    return 0;
}

int lr_embed_open_remote(struct lr_embed_model **out, const struct lr_embed_remote *r,
                         struct lr_err *err)
{
    LR_TRY(check(r, err));
    struct lr_embed_model *m = lr_new(struct lr_embed_model);
    struct remote *me = lr_new(struct remote);
    if (!m || !me)
        goto undo_models;
    m->info.kind = LR_EMBED_REMOTE;
    m->remote = me;
    if (!keep(&me->url, r->url) || !keep(&me->model, r->model) || !keep_auth(me, r->auth) ||
        !keep(&me->proxy, r->proxy) || !keep(&me->no_proxy, r->no_proxy) ||
        !keep(&me->ca_file, r->ca_file)) {
        lr_embed_close(m);
        return lr_err_set(err, LR_ENOMEM, "remote encoder", "out of memory");
    }
    me->net = r->net;
    me->dim = m->info.dim = r->dim;
    me->send_dim = r->send_dim;
    me->deadline_ms = r->deadline_ms ? r->deadline_ms : DEADLINE_MS;
    snprintf(m->info.name, sizeof m->info.name, "%s", r->model);
    identify(r, &m->info.id);
    *out = m;
    return 0;
undo_models:
    lr_free(m);
    lr_free(me);
    return lr_err_set(err, LR_ENOMEM, "remote encoder", "out of memory");
}

/* ---- the answer ---- */

static int bad_answer(struct lr_err *err, const char *what)
{
    return lr_err_set(err, LR_EPARSE, "answer", "%s", what);
}

/* One element of "data" into its row. */
static int take_item(const struct lr_json *item, size_t at, size_t n, uint32_t dim, float *vectors,
                     bool *seen, struct lr_err *err)
{
    const struct lr_json *v = lr_json_get(item, "embedding"), *index = lr_json_get(item, "index");
    uint64_t i = at;
    double x;
    if (index && !lr_json_u64(index, &i))
        return bad_answer(err, "an index is no number");
    if (i >= n || seen[i])
        return bad_answer(err, "an index is out of range or comes twice");
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return bad_answer(err, "an embedding is no list");
    if (v->n != dim)
        return lr_err_set(err, LR_EVERSION, "answer", "vectors of %u elements, expected %u", v->n,
                          dim);
    float *row = vectors + i * dim;
    const struct lr_json *e = v->child;
    for (uint32_t k = 0; k < dim; k++, e = e->next) {
        if (!lr_json_real(e, &x) || !(x > -1e15 && x < 1e15))
            return bad_answer(err, "an embedding holds what is no number of use");
        row[k] = (float)x;
    }
    seen[i] = true;
    return lr_embed_unit(row, dim) ? 0 : bad_answer(err, "an embedding is all zeros");
}

static int take_items(const struct lr_json *root, size_t n, uint32_t dim, float *vectors,
                      struct lr_err *err)
{
    const struct lr_json *data = lr_json_get(root, "data");
    if (!lr_json_is(data, LR_JSON_ARRAY) || data->n != n)
        return bad_answer(err, "\"data\" is no list of so many embeddings");
    bool *seen = lr_calloc(n, sizeof *seen);
    LR_FAIL_IF(!seen, lr_err_set(err, LR_ENOMEM, "answer", "out of memory"));
    int rc = 0;
    size_t at = 0;
    for (const struct lr_json *i = data->child; i && !rc; i = i->next)
        rc = take_item(i, at++, n, dim, vectors, seen, err);
    lr_free(seen);
    return rc;
}

int lr_embed_remote_parse(struct lr_str json, size_t n, uint32_t dim, float *vectors,
                          struct lr_err *err)
{
    struct lr_arena arena;
    struct lr_json *root;
    struct lr_err why = {0};
    size_t nodes = n * ((size_t)dim + 16) + 1000;
    struct lr_json_limits limits = {.depth_max = 8, .nodes_max = nodes};
    lr_arena_init(&arena, nodes * (sizeof *root + 16) + LR_MIB(1));
    int rc = lr_json_parse(&arena, json, &limits, &root, &why);
    if (rc)
        rc = lr_err_set(err, rc, "answer", "%s at %s", why.msg, why.where);
    else
        rc = take_items(root, n, dim, vectors, err);
    lr_arena_free(&arena);
    return rc;
}

/* ---- one request ---- */

struct call {
    struct lr_net_req req;
    struct lr_buf answer;
    int status;
    pthread_mutex_t lock; /* guards done, rc, err */
    pthread_cond_t cond;
    bool done;
    int rc;
    struct lr_err err;
};

static int on_head(struct lr_net_req *req, const struct lr_net_head *head)
{
    LR_CONTAINER(req, struct call, req)->status = head->status;
    return LR_NET_GO;
}

static int on_body(struct lr_net_req *req, const char *p, size_t n)
{
    struct call *c = LR_CONTAINER(req, struct call, req);
    return lr_buf_add(&c->answer, p, n) ? LR_NET_STOP : LR_NET_GO;
}

static void on_done(struct lr_net_req *req, int rc, const struct lr_err *err)
{
    struct call *c = LR_CONTAINER(req, struct call, req);
    pthread_mutex_lock(&c->lock);
    c->rc = c->answer.rc ? c->answer.rc : rc;
    if (err)
        c->err = *err;
    c->done = true;
    pthread_cond_signal(&c->cond); /* under the lock: c is on the waiter's stack */
    pthread_mutex_unlock(&c->lock);
}

static int by_status(int status, struct lr_err *err)
{
    int rc = status == 401 || status == 403   ? LR_EDENIED
             : status == 429 || status == 503 ? LR_EBUSY
                                              : LR_EIO;
    LR_FAIL_IF(status >= 200 && status < 300, 0);
    return lr_err_set(err, rc, "remote encoder", "status %d", status);
}

/* Sends body, waits, leaves the answer in c->answer. */
static int exchange(const struct remote *r, struct call *c, struct lr_str body, uint64_t total_ms,
                    struct lr_err *err)
{
    const char *headers[] = {"content-type: application/json", "accept: application/json",
                             r->auth_line};
    c->req = (struct lr_net_req){
        .method = "POST",
        .url = r->url,
        .headers = headers,
        .n_headers = r->auth_line ? 3 : 2,
        .body = body,
        .route = {.proxy = r->proxy,
                  .no_proxy = r->no_proxy,
                  .ca_file = r->ca_file,
                  .total_ms = total_ms},
        .on_head = on_head,
        .on_body = on_body,
        .on_done = on_done,
    };
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->cond, NULL);
    int rc = lr_net_start(r->net, &c->req);
    if (!rc) {
        pthread_mutex_lock(&c->lock);
        while (!c->done)
            pthread_cond_wait(&c->cond, &c->lock);
        rc = c->rc;
        pthread_mutex_unlock(&c->lock);
    }
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->lock);
    if (rc)
        return lr_err_set(err, rc, c->err.where[0] ? c->err.where : "remote encoder", "%s",
                          c->err.msg[0] ? c->err.msg : lr_strerror(rc));
    return by_status(c->status, err);
}

/* ---- texts ---- */

/* Texts of one request: those with something in them. */
struct piece {
    const struct lr_str *texts;
    uint32_t at[LR_EMBED_BATCH_MAX]; /* numbers of those that are sent */
    size_t n;
};

static int write_body(const struct remote *r, const struct piece *p, struct lr_buf *b)
{
    struct lr_jw w;
    lr_jw_init(&w, b);
    lr_jw_obj(&w);
    lr_jw_key(&w, "model");
    lr_jw_strz(&w, r->model);
    lr_jw_key(&w, "input");
    lr_jw_arr(&w);
    for (size_t i = 0; i < p->n; i++) {
        struct lr_str t = p->texts[p->at[i]];
        lr_jw_str(&w, lr_str(t.p, MIN_OF(t.n, LR_EMBED_REMOTE_TEXT)));
    }
    lr_jw_end(&w);
    lr_jw_key(&w, "encoding_format");
    lr_jw_strz(&w, "float");
    if (r->send_dim) {
        lr_jw_key(&w, "dimensions");
        lr_jw_u64(&w, r->dim);
    }
    lr_jw_end(&w);
    return b->rc;
}

/* Rows came in the order of sending, packed at the front: puts them where they belong, zeros
 * between. From the back, for a row never moves down. */
static void spread(const struct piece *p, size_t n, uint32_t dim, float *vectors)
{
    size_t left = p->n;
    for (size_t i = n; i-- > 0;) {
        float *to = vectors + i * dim;
        if (left && p->at[left - 1] == i)
            memmove(to, vectors + --left * dim, dim * sizeof *to);
        else
            memset(to, 0, dim * sizeof *to);
    }
}

static int send_piece(const struct remote *r, const struct piece *p, size_t n, uint32_t dim,
                      float *vectors, uint64_t total_ms, struct lr_err *err)
{
    struct call c = {0};
    struct lr_buf body;
    size_t answer_max = p->n * ((size_t)dim * FLOAT_TEXT + 256) + ANSWER_EXTRA;
    lr_buf_init(&body, p->n * (6 * LR_EMBED_REMOTE_TEXT + 16) + ANSWER_EXTRA);
    lr_buf_init(&c.answer, answer_max);
    int rc = write_body(r, p, &body);
    if (!rc)
        rc = exchange(r, &c, lr_buf_str(&body), total_ms, err);
    else
        lr_err_set(err, rc, "remote encoder", "%s", lr_strerror(rc));
    if (!rc)
        rc = lr_embed_remote_parse(lr_buf_str(&c.answer), p->n, dim, vectors, err);
    if (!rc)
        spread(p, n, dim, vectors);
    lr_buf_free(&body);
    lr_buf_free(&c.answer);
    return rc;
}

int lr_embed_remote_encode(const struct remote *r, const struct lr_str *texts, size_t n,
                           uint32_t dim, float *vectors, struct lr_embed_note *notes,
                           struct lr_err *err)
{
    size_t step = MAX_OF(1u, MIN_OF(LR_EMBED_BATCH_MAX, PIECE_FLOATS / dim));
    uint64_t end = lr_clock_mono_ns() + r->deadline_ms * LR_MS;
    for (size_t i = 0; i < n; i += step) {
        struct piece p = {.texts = texts + i};
        size_t m = MIN_OF(step, n - i);
        uint64_t now = lr_clock_mono_ns();
        for (size_t k = 0; k < m; k++) {
            bool empty = lr_str_trim(texts[i + k]).n == 0;
            if (!empty)
                p.at[p.n++] = (uint32_t)k;
            if (notes)
                notes[i + k] = (struct lr_embed_note){
                    .empty = empty, .cut = texts[i + k].n > LR_EMBED_REMOTE_TEXT};
        }
        if (!p.n) {
            memset(vectors + i * dim, 0, m * dim * sizeof *vectors);
            continue;
        }
        if (now + LR_MS > end)
            return lr_err_set(err, LR_ETIMEOUT, "remote encoder", "the deadline has passed");
        LR_TRY(send_piece(r, &p, m, dim, vectors + i * dim, (end - now) / LR_MS, err));
    }
    return 0;
}
