/* SPDX-License-Identifier: Apache-2.0
 * dialect/write.c - what the writers of requests and answers share.
 *
 * First the members: a name and a value in one call, since that is how a body reads. Then what
 * every translation of a request has to settle: extras and quiet members of the client's dialect,
 * which the other one does not know. They are dropped by name where they cannot change the answer;
 * the first one that could is handed back, and the dialect refuses it in its own words.
 */
#include "dialect/dialect_int.h"

/* ---- members -------------------------------------------------------------------------------- */

void lr_put_str(struct lr_jw *w, const char *name, struct lr_str s)
{
    lr_jw_key(w, name);
    lr_jw_str(w, s);
}

void lr_put_u64(struct lr_jw *w, const char *name, uint64_t v)
{
    lr_jw_key(w, name);
    lr_jw_u64(w, v);
}

void lr_put_bool(struct lr_jw *w, const char *name, bool v)
{
    lr_jw_key(w, name);
    lr_jw_bool(w, v);
}

void lr_put_null(struct lr_jw *w, const char *name)
{
    lr_jw_key(w, name);
    lr_jw_null(w);
}

void lr_put_raw(struct lr_jw *w, const char *name, struct lr_str json)
{
    lr_jw_key(w, name);
    lr_jw_raw(w, json);
}

void lr_put_node(struct lr_jw *w, const char *name, const struct lr_json *v)
{
    if (v)
        lr_put_raw(w, name, v->raw);
}

void lr_put_obj(struct lr_jw *w, const char *name)
{
    lr_jw_key(w, name);
    lr_jw_obj(w);
}

void lr_put_arr(struct lr_jw *w, const char *name)
{
    lr_jw_key(w, name);
    lr_jw_arr(w);
}

void lr_put_type(struct lr_jw *w, const char *type)
{
    lr_jw_obj(w);
    lr_put_str(w, "type", lr_strz(type));
}

void lr_put_texts(struct lr_jw *w, const char *name, const struct lr_str *texts, size_t n)
{
    lr_put_arr(w, name);
    for (size_t i = 0; i < n; i++)
        lr_jw_str(w, texts[i]);
    lr_jw_end(w);
}

void lr_put_others(struct lr_jw *w, const struct lr_json *o, const char *const *but)
{
    for (const struct lr_json *m = lr_members_of(o); m; m = m->next) {
        if (lr_listed(m->key, but))
            continue;
        lr_jw_key_str(w, m->key);
        lr_jw_raw(w, m->raw);
    }
}

/* Media types and base64 need no escapes, but they are a client's, so they are quoted with care. */
int lr_put_url(struct lr_jw *w, const char *name, const struct lr_part *p)
{
    if (p->url.n) {
        lr_put_str(w, name, p->url);
        return 0;
    }
    struct lr_buf b;
    lr_buf_init(&b, w->b->max);
    (void)lr_buf_addz(&b, "data:"); /* failures stick in b */
    (void)lr_buf_adds(&b, p->media);
    (void)lr_buf_addz(&b, ";base64,");
    int rc = lr_buf_adds(&b, p->data);
    if (!rc)
        lr_put_str(w, name, lr_buf_str(&b));
    lr_buf_free(&b);
    return rc;
}

/* ---- what has no counterpart ---------------------------------------------------------------- */

int lr_dropped(struct lr_buf *dropped, struct lr_str name)
{
    if (!dropped)
        return 0;
    struct lr_str have = lr_buf_str(dropped);
    while (have.p && have.n)
        if (lr_str_eq(lr_str_cut(&have, ','), name))
            return 0;
    if (dropped->len)
        LR_TRY(lr_buf_addc(dropped, ','));
    return lr_buf_adds(dropped, name);
}

int lr_drop_extras(const struct lr_extra *list, const char *const *droppable,
                   struct lr_buf *dropped, const struct lr_json **kept)
{
    *kept = NULL;
    for (const struct lr_extra *x = list; x; x = x->next) {
        if (!lr_listed(x->v->key, droppable)) {
            *kept = x->v;
            return 0;
        }
        LR_TRY(lr_dropped(dropped, x->v->key));
    }
    return 0;
}

int lr_drop_quiet(const struct lr_request *r, const char *const *written, struct lr_buf *dropped)
{
    for (const struct lr_extra *x = r->quiet; x; x = x->next)
        if (!lr_listed(x->v->key, written))
            LR_TRY(lr_dropped(dropped, x->v->key));
    return 0;
}

bool lr_weighs(const struct lr_json *v)
{
    double d = 0;
    return v && !(lr_json_real(v, &d) && d == 0);
}
