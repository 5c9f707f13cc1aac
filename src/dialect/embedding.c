/* SPDX-License-Identifier: Apache-2.0
 * dialect/embedding.c - OpenAI Embeddings: requests and answers.
 *
 * An answer is one VECTOR event an input, so that the shelf can keep each apart and a batch of five
 * can be answered from three stored vectors and two new ones. Vectors stay the bytes they came as
 * (numbers or base64): nothing is rounded.
 *
 *   {"data": [{"embedding": [0.1, -0.2 ...]}, ...]}   vectors: 98% of the body, 30,000 numbers
 *                           ^^^^^^^^^^^^^^^^ lifted: checked, remembered as bytes, replaced by [k]
 *
 * A JSON tree would take some hundred bytes a number. So vectors are lifted out first: a scanner
 * that follows strings and brackets finds the flat lists of numbers under "embedding" in the
 * elements of "data", checks them against the grammar of numbers and leaves the list [k] in their
 * place, k counting them. The rest, small, is parsed.
 *
 * Unknown members of an element are TOP extras named data.<index in 5 digits>.<name>: in compact
 * form they stand in the order of the vectors, and one walk over both puts them back.
 *
 * Tried and dropped: parsing with a raised node limit (700 MB for 2,048 vectors of 3,072 numbers).
 */
#include "dialect/chat_int.h"

/* ---- requests ------------------------------------------------------------------------------- */

/* `input`: a string, token ids, or an array of either. One item: a string or a flat list of
 * numbers. */
static int parse_input(const struct lr_in *in, const struct lr_json *v)
{
    struct lr_request *r = in->r;
    static const char what[] = "a string, token ids, or an array of them";
    bool list = lr_json_is(v, LR_JSON_ARRAY);
    if (!list && !lr_json_is(v, LR_JSON_STRING))
        return lr_want(in->err, "input", what);
    bool ids = list && v->child && v->child->type == LR_JSON_NUMBER;
    bool single = !list || ids;
    r->inputs = lr_arena_array(in->a, const struct lr_json *, single ? 1 : (size_t)v->n + 1);
    LR_FAIL_IF(!r->inputs, LR_ENOMEM);
    r->inputs_single = !list;
    if (single)
        r->inputs[r->n_inputs++] = v;
    for (const struct lr_json *c = v->child; c; c = c->next) {
        bool fits =
            ids ? c->type == LR_JSON_NUMBER : c->type == LR_JSON_STRING || c->type == LR_JSON_ARRAY;
        for (const struct lr_json *id = c->child; id && fits; id = id->next)
            fits = id->type == LR_JSON_NUMBER;
        if (!fits)
            return lr_want(in->err, "input", what);
        if (!ids)
            r->inputs[r->n_inputs++] = c;
    }
    return 0;
}

static int parse_user(const struct lr_in *in, const struct lr_json *v)
{
    LR_TRY(lr_take_str(in, in->r->root, NULL, "user", &in->r->user));
    return lr_take_quiet(in, v);
}

static int parse(const struct lr_in *in)
{
    static const struct lr_member own[] = {
        {"input", .take = parse_input},
        {"model", LR_MEMBER_TEXT, LR_AT(model)},
        {"dimensions", LR_MEMBER_NUMBER, LR_AT(dimensions)},
        {"encoding_format", LR_MEMBER_STRING, LR_AT(encoding_format)},
        {"user", .take = parse_user},
        {.name = NULL},
    };
    static const struct lr_member *const all[] = {own, NULL};
    LR_TRY(lr_take_members(in, all));
    LR_TRY(lr_need_model(in));
    return in->r->inputs ? 0
                         : lr_want(in->err, "input", "a string, token ids, or an array of them");
}

int lr_request_write_inputs(struct lr_arena *a, const struct lr_request *r, struct lr_str model,
                            const size_t *which, size_t n, struct lr_buf *out)
{
    (void)a; /* nothing has to be built apart */
    LR_FAIL_IF(r->kind != LR_KIND_EMBEDDING, LR_EINVAL);
    for (size_t i = 0; i < n; i++)
        LR_FAIL_IF(which[i] >= r->n_inputs, LR_EINVAL);
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    for (const struct lr_json *m = r->root->child; m; m = m->next) {
        lr_jw_key_str(&w, m->key);
        if (lr_str_is(m->key, "model")) {
            lr_jw_str(&w, model);
        } else if (lr_str_is(m->key, "input")) {
            lr_jw_arr(&w);
            for (size_t i = 0; i < n; i++)
                lr_jw_raw(&w, r->inputs[which[i]]->raw);
            lr_jw_end(&w);
        } else {
            lr_jw_raw(&w, m->raw);
        }
    }
    lr_jw_end(&w);
    return out->rc;
}

/* ---- lifting vectors out -------------------------------------------------------------------- */

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_blanks(struct lr_str s, size_t i)
{
    while (i < s.n && blank(s.p[i]))
        i++;
    return i;
}

static bool digit(struct lr_str s, size_t i)
{
    return i < s.n && s.p[i] >= '0' && s.p[i] <= '9';
}

static size_t skip_digits(struct lr_str s, size_t i)
{
    while (digit(s, i))
        i++;
    return i;
}

/* End of the JSON number at i (RFC 8259, section 6); i when there is none. */
static size_t skip_number(struct lr_str s, size_t i)
{
    size_t at = i;
    if (at < s.n && s.p[at] == '-')
        at++;
    if (!digit(s, at))
        return i;
    at = s.p[at] == '0' ? at + 1 : skip_digits(s, at);
    if (at < s.n && s.p[at] == '.') {
        if (!digit(s, at + 1))
            return i;
        at = skip_digits(s, at + 1);
    }
    if (at < s.n && (s.p[at] == 'e' || s.p[at] == 'E')) {
        at++;
        if (at < s.n && (s.p[at] == '+' || s.p[at] == '-'))
            at++;
        if (!digit(s, at))
            return i;
        at = skip_digits(s, at);
    }
    return at;
}

/* End of the flat, non-empty list of numbers at i; i when there is none. */
static size_t skip_vector(struct lr_str s, size_t i)
{
    if (i >= s.n || s.p[i] != '[')
        return i;
    for (size_t at = i + 1;;) {
        size_t from = skip_blanks(s, at);
        at = skip_number(s, from);
        if (at == from)
            return i;
        at = skip_blanks(s, at);
        if (at >= s.n || (s.p[at] != ',' && s.p[at] != ']'))
            return i;
        if (s.p[at++] == ']')
            return at;
    }
}

/* End of the string at i (past its closing quote), or the end of s. */
static size_t skip_string(struct lr_str s, size_t i)
{
    for (i++; i < s.n && s.p[i] != '"'; i++)
        if (s.p[i] == '\\')
            i++;
    return i < s.n ? i + 1 : s.n;
}

struct lifted {
    struct lr_str *at; /* n vectors, in their order */
    size_t n, cap;
};

static int lift(struct lr_arena *a, struct lifted *l, struct lr_str vector)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct lr_str *p = lr_arena_array(a, struct lr_str, cap);
        LR_FAIL_IF(!p, LR_ENOMEM);
        if (l->n)
            memcpy(p, l->at, l->n * sizeof *p);
        l->at = p;
        l->cap = cap;
    }
    l->at[l->n++] = vector;
    return 0;
}

/* Copies body to out without its vectors. Bad JSON goes through as it is: the parser will say so.
 */
static int lift_all(struct lr_arena *a, struct lr_str body, struct lifted *l, struct lr_buf *out)
{
    static const char key[] = "\"embedding\"";
    int64_t depth = 0;
    size_t from = 0;
    bool data = false; /* inside the top-level member of that name */
    for (size_t i = 0; i < body.n;) {
        char c = body.p[i];
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        size_t end = c == '"' ? skip_string(body, i) : i + 1, at = skip_blanks(body, end);
        struct lr_str name = lr_str(body.p + i, end - i);
        i = end;
        if (c != '"' || at >= body.n || body.p[at] != ':')
            continue;
        if (depth == 1)
            data = lr_str_is(name, "\"data\"");
        if (!data || depth != 3 || !lr_str_is(name, key))
            continue;
        at = skip_blanks(body, at + 1);
        end = skip_vector(body, at);
        if (end == at)
            continue;
        LR_TRY(lr_buf_add(out, body.p + from, at - from));
        LR_TRY(lr_buf_addf(out, "[%zu]", l->n));
        LR_TRY(lift(a, l, lr_str(body.p + at, end - at)));
        i = from = end;
    }
    return from < body.n ? lr_buf_add(out, body.p + from, body.n - from) : 0;
}

/* ---- answers, read -------------------------------------------------------------------------- */

struct in {
    const struct lr_emit *e;
    const struct lifted *l;
};

static int usage_extra(void *ctx, struct lr_str name, struct lr_str raw)
{
    return lr_emit_extra(ctx, NULL, LR_SCOPE_USAGE, name, raw);
}

#define ITEM_PREFIX "data."
#define ITEM_DIGITS 5

static int item_extras(const struct in *in, const struct lr_json *v, uint64_t index)
{
    static const char *const known[] = {"object", "index", "embedding", NULL};
    for (const struct lr_json *m = lr_members_of(v); m; m = m->next) {
        if (lr_listed(m->key, known))
            continue;
        struct lr_buf name;
        lr_buf_init(&name, LR_MIB(1));
        int rc = lr_buf_addf(&name, ITEM_PREFIX "%0*u.", ITEM_DIGITS, (unsigned)index);
        if (!rc)
            rc = lr_buf_adds(&name, m->key);
        if (!rc)
            rc = lr_emit_extra(in->e, NULL, LR_SCOPE_TOP, lr_buf_str(&name), m->raw);
        lr_buf_free(&name);
        LR_TRY(rc);
    }
    return 0;
}

/* One element of data. */
static int read_item(const struct in *in, const struct lr_json *v, uint64_t position)
{
    uint64_t index = position, k = 0;
    (void)lr_json_u64(lr_json_get(v, "index"), &index); /* absent: as they stand */
    const struct lr_json *e = lr_json_get(v, "embedding");
    struct lr_event ev = {.type = LR_EV_VECTOR, .choice = (uint16_t)index};
    if (index > UINT16_MAX)
        return lr_malformed(in->e, "data: index too large");
    if (lr_json_is(e, LR_JSON_STRING))
        ev.a = e->raw;
    else if (lr_json_is(e, LR_JSON_ARRAY) && e->n == 1 && lr_json_u64(e->child, &k) && k < in->l->n)
        LR_TRY(lr_json_tight(in->e->a, in->l->at[k], &ev.a));
    else
        return lr_err_set(in->e->err, LR_EPARSE, "answer", "data[%llu]: no embedding in it",
                          (unsigned long long)position);
    LR_TRY(item_extras(in, v, index));
    return lr_emit(in->e, ev);
}

static int read_error(const struct in *in, struct lr_str body)
{
    struct lr_event ev = {.type = LR_EV_ERROR, .status = 502};
    lr_error_read(in->e->a, body, &ev.a, &ev.b);
    return lr_emit(in->e, ev);
}

static int read_members(const struct in *in, const struct lr_json *root)
{
    static const char *const known[] = {"object", "data", "model", "usage", "id", "created", NULL};
    for (const struct lr_json *m = root->child; m; m = m->next)
        if (!lr_listed(m->key, known))
            LR_TRY(lr_emit_extra(in->e, NULL, LR_SCOPE_TOP, m->key, m->raw));
    uint64_t position = 0;
    for (const struct lr_json *d = lr_json_get(root, "data")->child; d; d = d->next)
        LR_TRY(read_item(in, d, position++));
    const struct lr_json *usage = lr_json_get(root, "usage");
    if (!lr_json_is(usage, LR_JSON_OBJECT))
        return 0;
    struct lr_event ev = {.type = LR_EV_USAGE};
    struct lr_emit copy = *in->e; /* the callback's context is not const */
    LR_TRY(lr_chat_read_usage(in->e->a, usage, &ev.usage, usage_extra, &copy));
    return lr_emit(in->e, ev);
}

static int read_body(struct in *in, struct lr_str body, struct lr_str light)
{
    struct lr_json *root;
    LR_TRY(lr_json_parse(in->e->a, light, NULL, &root, in->e->err));
    if (lr_given(lr_json_get(root, "error")))
        return read_error(in, body);
    if (!lr_json_is(lr_json_get(root, "data"), LR_JSON_ARRAY))
        return lr_malformed(in->e, "no data in it");
    LR_TRY(lr_emit_start(in->e, root));
    return read_members(in, root);
}

static int dec_whole(void *state, const struct lr_emit *e, struct lr_str body)
{
    (void)state;
    struct lifted l = {0};
    struct in in = {e, &l};
    struct lr_buf light;
    lr_buf_init(&light, body.n + body.n / 2 + 64); /* "[0]" may become "[1000000]" */
    int rc = lift_all(e->a, body, &l, &light);
    if (!rc)
        rc = read_body(&in, body, lr_buf_str(&light));
    lr_buf_free(&light);
    return rc;
}

static int dec_event(void *state, const struct lr_emit *e, struct lr_str name, struct lr_str data)
{
    (void)state;
    (void)name;
    (void)data;
    return lr_malformed(e, "embeddings do not come as a stream");
}

static bool dec_done(const void *state)
{
    (void)state;
    return false;
}

/* ---- answers, written ----------------------------------------------------------------------- */

static int enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                      struct lr_buf *out)
{
    (void)state;
    (void)o;
    (void)ev;
    (void)out;
    return LR_EUNSUPPORTED;
}

/* Is this an extra of an element of data? Its index and name, if so. */
static bool item_extra(const struct lr_event *ev, uint64_t *index, struct lr_str *name)
{
    size_t k = sizeof ITEM_PREFIX - 1;
    if (ev->type != LR_EV_EXTRA || ev->sub != LR_SCOPE_TOP || ev->a.n <= k + ITEM_DIGITS ||
        !lr_str_starts(ev->a, LR_STR(ITEM_PREFIX)) || ev->a.p[k + ITEM_DIGITS] != '.' ||
        lr_parse_u64(lr_str(ev->a.p + k, ITEM_DIGITS), index))
        return false;
    k += ITEM_DIGITS + 1;
    *name = lr_str(ev->a.p + k, ev->a.n - k);
    return true;
}

/* Writes the extras of an element; *at goes on through the log, past those of earlier ones. */
static void write_item_extras(struct lr_jw *w, uint64_t item, struct lr_str *at)
{
    struct lr_str rest = *at, name;
    struct lr_event ev;
    uint64_t index;
    while (lr_event_next(&rest, &ev) == 1) {
        bool mine = item_extra(&ev, &index, &name);
        if ((mine && index > item) || ev.type == LR_EV_VECTOR)
            return;
        *at = rest;
        if (!mine || index < item)
            continue;
        lr_jw_key_str(w, name);
        lr_jw_raw(w, ev.b);
    }
}

static void write_data(struct lr_jw *w, struct lr_str log)
{
    struct lr_event ev;
    struct lr_str extras = log;
    lr_put_arr(w, "data");
    while (lr_event_next(&log, &ev) == 1) {
        if (ev.type != LR_EV_VECTOR)
            continue;
        lr_jw_obj(w);
        lr_put_str(w, "object", LR_STR("embedding"));
        lr_put_u64(w, "index", ev.choice);
        lr_put_raw(w, "embedding", ev.a);
        write_item_extras(w, ev.choice, &extras);
        lr_jw_end(w);
    }
    lr_jw_end(w);
}

static int write_usage(struct lr_jw *w, const struct lr_event *ev, struct lr_str log)
{
    struct lr_buf b;
    lr_buf_init(&b, w->b->max);
    int rc = lr_chat_write_usage(&ev->usage, LR_DIALECT_EMBEDDING, log, &b);
    if (!rc)
        lr_put_raw(w, "usage", lr_buf_str(&b));
    lr_buf_free(&b);
    return rc;
}

static int enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    (void)o; /* no ids, no dates */
    struct lr_str rest = log, model = {0}, name;
    struct lr_event ev;
    uint64_t index;
    struct lr_jw w;
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_put_str(&w, "object", LR_STR("list"));
    write_data(&w, log);
    while (lr_event_next(&rest, &ev) == 1) {
        if (ev.type == LR_EV_START)
            model = ev.b;
        if (ev.type == LR_EV_EXTRA && ev.sub == LR_SCOPE_TOP && !item_extra(&ev, &index, &name)) {
            lr_jw_key_str(&w, ev.a);
            lr_jw_raw(&w, ev.b);
        }
        if (ev.type == LR_EV_USAGE && ev.usage.known)
            LR_TRY(write_usage(&w, &ev, log));
    }
    lr_put_str(&w, "model", model);
    lr_jw_end(&w);
    return out->rc;
}

const struct lr_dialect_ops lr_dialect_embedding = {
    .name = "embedding",
    .path = "/v1/embeddings",
    .kind = LR_KIND_EMBEDDING,
    .parse = parse,
    .dec_event = dec_event,
    .dec_whole = dec_whole,
    .dec_done = dec_done,
    .enc_stream = enc_stream,
    .enc_whole = enc_whole,
    .error = lr_error_openai,
};
