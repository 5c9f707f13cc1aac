/* SPDX-License-Identifier: Apache-2.0
 * net/fetch.c - the blocking call of the command line: a net of its own for one request, because a
 * second way through libcurl would need a second set of rules.
 */
#include "net/net_int.h"

struct fetch {
    struct lr_net_req req;
    struct lr_buf *out;
    struct lr_err *err;
    int status, rc, body_rc;
    bool done; /* guarded by mu, as all above once the request is started */
    pthread_mutex_t mu;
    pthread_cond_t ended;
};

static int on_head(struct lr_net_req *r, const struct lr_net_head *h)
{
    struct fetch *f = LR_CONTAINER(r, struct fetch, req);
    f->status = h->status;
    return LR_NET_GO;
}

static int on_body(struct lr_net_req *r, const char *p, size_t n)
{
    struct fetch *f = LR_CONTAINER(r, struct fetch, req);
    f->body_rc = lr_buf_add(f->out, p, n);
    return f->body_rc ? LR_NET_STOP : LR_NET_GO;
}

static void on_done(struct lr_net_req *r, int rc, const struct lr_err *err)
{
    struct fetch *f = LR_CONTAINER(r, struct fetch, req);
    pthread_mutex_lock(&f->mu);
    f->rc = f->body_rc ? f->body_rc : rc;
    if (f->body_rc)
        lr_err_set(f->err, f->rc, err->where, "the answer does not fit: %s", lr_strerror(f->rc));
    else if (rc)
        lr_err_set(f->err, rc, err->where, "%s", err->msg);
    f->done = true;
    pthread_cond_signal(&f->ended);
    pthread_mutex_unlock(&f->mu);
}

static int fetch(struct lr_net *n, struct fetch *f)
{
    int rc = lr_net_start(n, &f->req);
    if (rc)
        return lr_err_set(f->err, rc, "", "the request cannot be sent: %s", lr_strerror(rc));
    pthread_mutex_lock(&f->mu);
    while (!f->done)
        pthread_cond_wait(&f->ended, &f->mu);
    pthread_mutex_unlock(&f->mu);
    return f->rc;
}

int lr_net_fetch(const char *method, const char *url, const char *const *headers, size_t n_headers,
                 struct lr_str body, const struct lr_net_route *route, struct lr_buf *out,
                 int *status, struct lr_err *err)
{
    struct fetch f = {.req = {.method = method,
                              .url = url,
                              .headers = headers,
                              .n_headers = n_headers,
                              .body = body,
                              .on_head = on_head,
                              .on_body = on_body,
                              .on_done = on_done},
                      .out = out,
                      .err = err,
                      .mu = PTHREAD_MUTEX_INITIALIZER,
                      .ended = PTHREAD_COND_INITIALIZER};
    if (route)
        f.req.route = *route;
    LR_TRY(lr_net_url_check(lr_strz(url), err));
    struct lr_net *n;
    int rc = lr_net_open(&n, NULL);
    if (rc)
        return lr_err_set(err, rc, "", "the HTTP client does not start: %s", lr_strerror(rc));
    rc = fetch(n, &f);
    lr_net_close(n);
    pthread_cond_destroy(&f.ended);
    pthread_mutex_destroy(&f.mu);
    if (!rc)
        *status = f.status;
    return rc;
}
