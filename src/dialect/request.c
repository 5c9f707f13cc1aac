/* SPDX-License-Identifier: Apache-2.0
 * dialect/request.c - what all request parsers share, and the ways out of a canonical request.
 *
 * A request leaves in one of three ways:
 *
 *   forward        the client's own bytes, spliced: only `model` and stream_options differ, and
 *                  where nothing differs the bytes are copied as they came (unknown members,
 *                  order, spelling)
 *   write          another dialect's body, from the canonical form: refused by name where that
 *                  would lose something that changes the answer, and whenever the body is not the
 *                  whole question (bypass); its own dialect gets its own members back
 *   write_inputs   an embedding body for some of its inputs
 *
 * Paths of refusals ("messages[3].content[1].text") are chains of struct lr_at on the parsers'
 * stacks and become text only when something is wrong: the good path formats nothing.
 */
#include "dialect/dialect_int.h"

#include <stdio.h>

/* ---- refusals and typed members ------------------------------------------------------------- */

int lr_want(struct lr_err *err, const char *path, const char *what)
{
    return lr_err_set(err, LR_EINVAL, path, "expected %s", what);
}

/* Appends the text of a chain to z (NUL-terminated, cut to fit); returns the length. */
static size_t spell(const struct lr_at *at, char *z, size_t size, size_t len)
{
    if (!at)
        return len;
    len = spell(at->up, z, size, len);
    int n = at->index >= 0
                ? snprintf(z + len, size - len, "%s%s[%ld]", len ? "." : "", at->name, at->index)
                : snprintf(z + len, size - len, "%s%s", len ? "." : "", at->name);
    if (n < 0)
        return len;
    return len + (size_t)n < size ? len + (size_t)n : size - 1;
}

int lr_want_at(struct lr_err *err, const struct lr_at *at, const char *member, const char *what)
{
    char path[120] = "";
    struct lr_at last = {at, member, -1};
    (void)spell(member ? &last : at, path, sizeof path, 0); /* the text is what we want */
    return lr_want(err, path, what);
}

bool lr_given(const struct lr_json *v)
{
    return v && v->type != LR_JSON_NULL;
}

int lr_take_str(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                const char *name, struct lr_str *out)
{
    const struct lr_json *v = lr_json_get(o, name);
    return lr_given(v) && !lr_json_text(v, out) ? lr_want_at(in->err, at, name, "a string") : 0;
}

int lr_need_str(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                const char *name, struct lr_str *out)
{
    return lr_json_text(lr_json_get(o, name), out) ? 0 : lr_want_at(in->err, at, name, "a string");
}

int lr_take_type(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                 const char *name, enum lr_json_type t, const struct lr_json **out)
{
    static const char *const names[] = {
        [LR_JSON_NUMBER] = "a number",  [LR_JSON_STRING] = "a string", [LR_JSON_ARRAY] = "an array",
        [LR_JSON_OBJECT] = "an object", [LR_JSON_TRUE] = "true",       [LR_JSON_FALSE] = "false",
        [LR_JSON_NULL] = "null",
    };
    const struct lr_json *v = lr_json_get(o, name);
    if (!lr_given(v))
        return 0;
    if (v->type != t)
        return lr_want_at(in->err, at, name, names[t]);
    *out = v;
    return 0;
}

int lr_take_bool(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                 const char *name, bool *out)
{
    const struct lr_json *v = lr_json_get(o, name);
    if (lr_given(v) && !lr_json_bool(v, out))
        return lr_want_at(in->err, at, name, "true or false");
    return 0;
}

int lr_take_flag(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                 const char *name, const struct lr_json **out)
{
    bool on;
    LR_TRY(lr_take_bool(in, o, at, name, &on));
    const struct lr_json *v = lr_json_get(o, name);
    if (lr_given(v))
        *out = v;
    return 0;
}

int lr_take_u64(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                const char *name, uint64_t *out)
{
    const struct lr_json *v = lr_json_get(o, name);
    if (lr_given(v) && !lr_json_u64(v, out))
        return lr_want_at(in->err, at, name, "a whole number of 0 or more");
    return 0;
}

static int take_row(const struct lr_in *in, const struct lr_json *v, const struct lr_member *row)
{
    const struct lr_json *root = in->r->root;
    void *to = (char *)in->r + row->at;
    switch (row->kind) {
    case LR_MEMBER_OWN:
        return row->take(in, v);
    case LR_MEMBER_NUMBER:
        return lr_take_type(in, root, NULL, row->name, LR_JSON_NUMBER, to);
    case LR_MEMBER_STRING:
        return lr_take_type(in, root, NULL, row->name, LR_JSON_STRING, to);
    case LR_MEMBER_OBJECT:
        return lr_take_type(in, root, NULL, row->name, LR_JSON_OBJECT, to);
    case LR_MEMBER_FLAG:
        return lr_take_flag(in, root, NULL, row->name, to);
    case LR_MEMBER_BOOL:
        return lr_take_bool(in, root, NULL, row->name, to);
    case LR_MEMBER_COUNT:
        return lr_take_u64(in, root, NULL, row->name, to);
    case LR_MEMBER_TEXT:
        return lr_take_str(in, root, NULL, row->name, to);
    }
    return 0;
}

static int take_member(const struct lr_in *in, const struct lr_json *v,
                       const struct lr_member *const *tables)
{
    for (; *tables; tables++)
        for (const struct lr_member *row = *tables; row->name; row++)
            if (lr_str_is(v->key, row->name))
                return take_row(in, v, row);
    return lr_extra_add(in->a, &in->r->extra, v);
}

int lr_take_members(const struct lr_in *in, const struct lr_member *const *tables)
{
    for (const struct lr_json *v = in->r->root->child; v; v = v->next)
        if (lr_given(v))
            LR_TRY(take_member(in, v, tables));
    return 0;
}

int lr_take_nothing(const struct lr_in *in, const struct lr_json *v)
{
    (void)in;
    (void)v;
    return 0;
}

int lr_take_quiet(const struct lr_in *in, const struct lr_json *v)
{
    return lr_extra_add(in->a, &in->r->quiet, v);
}

int lr_take_extras(const struct lr_in *in, const struct lr_json *o, const char *const *known,
                   struct lr_extra **list)
{
    for (const struct lr_json *m = lr_members_of(o); m; m = m->next)
        if (!lr_listed(m->key, known))
            LR_TRY(lr_extra_add(in->a, list, m));
    return 0;
}

int lr_take_list(const struct lr_in *in, const struct lr_json *v, const char *name, lr_take_fn one)
{
    if (v->type != LR_JSON_ARRAY)
        return lr_want(in->err, name, "an array");
    struct lr_at at = {NULL, name, 0};
    for (const struct lr_json *e = v->child; e; e = e->next, at.index++) {
        if (e->type != LR_JSON_OBJECT)
            return lr_want_at(in->err, &at, NULL, "an object");
        LR_TRY(one(in, e, &at));
    }
    return 0;
}

int lr_take_content(const struct lr_in *in, const struct lr_json *v, const struct lr_at *up,
                    const char *name, lr_part_fn one, struct lr_part **parts)
{
    if (lr_json_is(v, LR_JSON_STRING))
        return lr_text_add(in->a, parts, LR_PART_TEXT, v->text);
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return lr_want_at(in->err, up, name, "a string or an array of parts");
    struct lr_at at = {up, name, 0};
    for (const struct lr_json *e = v->child; e; e = e->next, at.index++) {
        if (e->type != LR_JSON_OBJECT)
            return lr_want_at(in->err, &at, NULL, "an object");
        LR_TRY(one(in, e, &at, parts));
    }
    return 0;
}

void lr_bypass(const struct lr_in *in, const char *why)
{
    if (!in->r->bypass)
        in->r->bypass = why;
}

/* ---- lists ---------------------------------------------------------------------------------- */

int lr_extra_add(struct lr_arena *a, struct lr_extra **list, const struct lr_json *v)
{
    if (!lr_given(v))
        return 0; /* null is absent, also where nobody knows the member */
    struct lr_extra *x = lr_arena_new(a, struct lr_extra);
    LR_FAIL_IF(!x, LR_ENOMEM);
    x->v = v;
    if (*list)
        (*list)->last->next = x;
    else
        *list = x;
    (*list)->last = x;
    return 0;
}

struct lr_part *lr_part_add(struct lr_arena *a, struct lr_part **list, enum lr_part_type type)
{
    struct lr_part *p = lr_arena_new(a, struct lr_part);
    if (!p)
        return NULL;
    p->type = type;
    if (*list)
        (*list)->last->next = p;
    else
        *list = p;
    (*list)->last = p;
    return p;
}

int lr_text_add(struct lr_arena *a, struct lr_part **list, enum lr_part_type type,
                struct lr_str text)
{
    struct lr_part *p = lr_part_add(a, list, type);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->text = text;
    return 0;
}

int lr_other_add(struct lr_arena *a, struct lr_part **list, const struct lr_json *v)
{
    struct lr_part *p = lr_part_add(a, list, LR_PART_OTHER);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->json = v;
    return 0;
}

struct lr_msg *lr_msg_add(struct lr_arena *a, struct lr_request *r, enum lr_role role)
{
    struct lr_msg *m = lr_arena_new(a, struct lr_msg);
    if (!m)
        return NULL;
    m->role = role;
    if (r->msgs)
        r->msgs_last->next = m;
    else
        r->msgs = m;
    r->msgs_last = m;
    return m;
}

struct lr_tool *lr_tool_add(struct lr_arena *a, struct lr_request *r)
{
    struct lr_tool *t = lr_arena_new(a, struct lr_tool);
    if (!t)
        return NULL;
    if (r->tools)
        r->tools_last->next = t;
    else
        r->tools = t;
    r->tools_last = t;
    return t;
}

/* data:[<media>[;name=value...]];base64,<data> (RFC 2397). Only base64 is taken: the other dialects
 * know nothing else. */
int lr_url_split(struct lr_str url, struct lr_part *p)
{
    if (url.n < 5 || strncasecmp(url.p, "data:", 5) != 0) {
        p->url = url;
        return 0;
    }
    struct lr_str data = lr_str(url.p + 5, url.n - 5);
    struct lr_str head = lr_str_cut(&data, ',');
    LR_FAIL_IF(!data.p, LR_EINVAL);
    static const char mark[] = ";base64";
    size_t k = sizeof mark - 1;
    LR_FAIL_IF(head.n < k || strncasecmp(head.p + head.n - k, mark, k) != 0, LR_EINVAL);
    p->media = head.n > k ? lr_str(head.p, head.n - k) : LR_STR("text/plain");
    p->data = data;
    return 0;
}

/* ---- in and out ----------------------------------------------------------------------------- */

int lr_request_parse(struct lr_arena *a, enum lr_dialect_id d, struct lr_str body,
                     struct lr_request **out, struct lr_err *err)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(d);
    if (!ops)
        return lr_err_set(err, LR_EINVAL, "", "no such dialect");
    struct lr_json *root;
    LR_TRY(lr_json_parse(a, body, NULL, &root, err));
    if (root->type != LR_JSON_OBJECT)
        return lr_want(err, "body", "a JSON object");
    struct lr_request *r = lr_arena_new(a, struct lr_request);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->dialect = d;
    r->kind = ops->kind;
    r->body = body;
    r->root = root;
    r->n = 1;
    struct lr_in in = {a, r, err};
    LR_TRY(ops->parse(&in));
    *out = r;
    return 0;
}

/* stream_options with include_usage true and its other members as they were. */
static int usage_asked(struct lr_arena *a, const struct lr_json *old, struct lr_str *out)
{
    static const char *const but[] = {"include_usage", NULL};
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    struct lr_jw w;
    lr_jw_init(&w, &b);
    lr_jw_obj(&w);
    lr_put_others(&w, old, but);
    lr_put_bool(&w, "include_usage", true);
    lr_jw_end(&w);
    int rc = b.rc ? b.rc : lr_arena_copy(a, lr_buf_str(&b), out);
    lr_buf_free(&b);
    return rc;
}

int lr_request_forward(struct lr_arena *a, const struct lr_request *r, struct lr_str model,
                       struct lr_buf *out)
{
    struct lr_json_edit edits[2];
    size_t n = 0;
    if (!lr_str_eq(model, r->model)) {
        struct lr_buf b;
        lr_buf_init(&b, LR_KIB(64));
        struct lr_str quoted = {0};
        int rc = lr_json_quote(&b, model);
        if (!rc)
            rc = lr_arena_copy(a, lr_buf_str(&b), &quoted);
        lr_buf_free(&b);
        LR_TRY(rc);
        LR_TRY(lr_json_edit_set(a, r->body, r->root, "model", quoted, &edits[n++]));
    }
    bool asks = r->dialect == LR_DIALECT_CHAT || r->dialect == LR_DIALECT_COMPLETION;
    if (asks && r->stream && !r->include_usage) {
        struct lr_str options = {0};
        LR_TRY(usage_asked(a, lr_json_get(r->root, "stream_options"), &options));
        LR_TRY(lr_json_edit_set(a, r->body, r->root, "stream_options", options, &edits[n++]));
    }
    return n ? lr_json_splice(r->body, edits, n, out) : lr_buf_adds(out, r->body);
}

/* What no dialect has a counterpart for. */
static int refuse(const struct lr_request *r, enum lr_dialect_id to, struct lr_err *err)
{
    const char *where = NULL, *what = r->bypass;
    if (r->bypass)
        where = "body";
    else if (r->tool_choice == LR_TOOL_CHOICE_OTHER)
        where = "tool_choice", what = "this choice";
    else if (r->format == LR_FORMAT_OTHER)
        where = "response_format", what = "this format";
    return where ? lr_err_set(err, LR_EUNSUPPORTED, where, "%s has no counterpart in %s", what,
                              lr_dialect_name(to))
                 : 0;
}

int lr_request_write(const struct lr_request *r, enum lr_dialect_id to, struct lr_str model,
                     uint64_t default_max_tokens, struct lr_buf *out, struct lr_buf *dropped,
                     struct lr_err *err)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(to);
    if (!ops || ops->kind != r->kind)
        return lr_err_set(err, LR_EUNSUPPORTED, "", "%s requests cannot be put as %s",
                          lr_dialect_name(r->dialect), lr_dialect_name(to));
    if (to == r->dialect) {
        lr_write_same(r, model, out);
        return out->rc;
    }
    LR_TRY(refuse(r, to, err));
    LR_TRY(ops->write(r, model, default_max_tokens, out, dropped, err));
    return out->rc;
}
