/* SPDX-License-Identifier: Apache-2.0
 * serve/models.c - GET /v1/models: the names that clients may use, when the configuration says
 * them.
 *
 * With aliases, `models` lists or models of this machine the list is ours, in the shape of whoever
 * asks (Anthropic's clients send anthropic-version). Without any an upstream knows best, and the
 * request passes through. An upstream that takes every name adds none to the list: what is listed
 * works, what is not may work.
 */
#include "serve/serve_int.h"

bool lr_models_own(const struct lr_req *r)
{
    struct lr_str path = lr_conn_path(r->conn), method = lr_conn_method(r->conn);
    if (lr_str_starts(path, LR_STR("/v1/")))
        path = lr_str(path.p + 3, path.n - 3);
    if (!lr_str_is(path, "/models") && !lr_str_starts(path, LR_STR("/models/")))
        return false;
    if (!lr_str_is(method, "GET") && !lr_str_is(method, "HEAD"))
        return false;
    const struct lr_config *c = r->conf->c;
    bool own = c->aliases.n > 0 || r->serve->locals.n > 0;
    for (size_t i = 0; i < c->upstreams.n; i++)
        own |= c->upstreams.v[i].models.n > 0;
    return own;
}

struct names {
    const char **v;
    const char **owner;
    size_t n;
};

static void add(struct names *l, const char *name, const char *owner)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], name) == 0)
            return;
    l->v[l->n] = name;
    l->owner[l->n++] = owner;
}

static bool collect(struct lr_req *r, struct names *l)
{
    const struct lr_config *c = r->conf->c;
    size_t max = c->aliases.n + r->serve->locals.n;
    for (size_t i = 0; i < r->conf->n_ups; i++)
        max += r->conf->ups[i].opt->models.n;
    l->v = lr_arena_array(&r->arena, const char *, max);
    l->owner = lr_arena_array(&r->arena, const char *, max);
    if (!l->v || !l->owner)
        return false;
    for (size_t i = 0; i < c->aliases.n; i++)
        add(l, c->aliases.v[i].name, "larder");
    for (size_t i = 0; i < r->serve->locals.n; i++)
        add(l, r->serve->locals.v[i].name, "larder");
    for (size_t i = 0; i < r->conf->n_ups; i++)
        for (size_t k = 0; k < r->conf->ups[i].opt->models.n; k++)
            add(l, r->conf->ups[i].opt->models.v[k], r->conf->ups[i].name);
    return true;
}

static void write_one(struct lr_jw *w, bool anthropic, const char *name, const char *owner)
{
    lr_jw_obj(w);
    lr_field_text(w, "id", name);
    if (anthropic) {
        lr_field_text(w, "type", "model");
        lr_field_text(w, "display_name", name);
        lr_field_text(w, "created_at", "1970-01-01T00:00:00Z");
    } else {
        lr_field_text(w, "object", "model");
        lr_field_u64(w, "created", 0);
        lr_field_text(w, "owned_by", owner);
    }
    lr_jw_end(w);
}

static void write_list(struct lr_jw *w, bool anthropic, const struct names *l)
{
    lr_jw_obj(w);
    if (!anthropic)
        lr_field_text(w, "object", "list");
    lr_jw_key(w, "data");
    lr_jw_arr(w);
    for (size_t i = 0; i < l->n; i++)
        write_one(w, anthropic, l->v[i], l->owner[i]);
    lr_jw_end(w);
    if (anthropic) {
        lr_field_bool(w, "has_more", false);
        lr_field_text(w, "first_id", l->v[0]);
        lr_field_text(w, "last_id", l->v[l->n - 1]);
    }
    lr_jw_end(w);
}

void lr_verb_models(struct lr_req *r)
{
    struct names l = {.n = 0};
    struct lr_jw w;
    struct lr_str path = lr_conn_path(r->conn);
    const char *at = path.n > 8 ? memmem(path.p, path.n, "/models/", 8) : NULL;
    bool anthropic = lr_conn_header(r->conn, "anthropic-version").n > 0;
    if (!collect(r, &l)) {
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the list");
        return;
    }
    lr_jw_init(&w, &r->out);
    if (!at) {
        write_list(&w, anthropic, &l);
        return;
    }
    struct lr_str name = lr_admin_decode(r, lr_str(at + 8, path.n - (size_t)(at + 8 - path.p)));
    for (size_t i = 0; i < l.n; i++)
        if (lr_str_is(name, l.v[i])) {
            write_one(&w, anthropic, l.v[i], l.owner[i]);
            return;
        }
    lr_admin_fail(r, 404, "model_not_found", "no model of this name is listed here");
}
