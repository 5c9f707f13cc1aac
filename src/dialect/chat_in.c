/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat_in.c - OpenAI Chat Completions and Completions: answers of upstreams, read.
 *
 * A chunk of a stream and a whole body have one shape but for `delta` and `message`, so one reader
 * takes both; Completions differ in a choice's own members only (`text`). Chat says where parts
 * begin but not where they end: a part is opened by its first fragment and ended by the first
 * fragment of another one, or by the choice's finish_reason.
 *
 *   chunk -> START (once)  TOP extras
 *            for each choice: CHOICE extras  LOGPROBS  MESSAGE extras
 *                             reasoning, content, refusal, tool calls  FINISH
 *            USAGE  USAGE extras
 *
 * Extras and log probabilities come before the text of their chunk: a writer can thus put all of
 * them into the one chunk that the text makes, and chunks leave as they came. Extras that are
 * repeated in every chunk (TOP, USAGE, CHOICE ones that are no arrays) are emitted when they
 * change.
 *
 * Liberties of servers that are taken in: no `index` on a tool call, or 0 on all of them (a new id
 * is a new call); the id repeated in every fragment; `reasoning` for `reasoning_content`, or both;
 * content as an array of parts; finish_reason ""; a first chunk without model and choices (Azure's
 * prompt filter); usage in every chunk; a missing [DONE] when every choice has finished and the
 * stream ended cleanly. What no server should do is refused: text after a choice's finish,
 * fragments of a tool call after another one began. A member of an unexpected type becomes an
 * extra.
 *
 * Left out: `obfuscation` (random padding of each chunk: means nothing in an answer), total_tokens
 * (the sum), `created`, `object`, roles.
 *
 * Sources: OpenAI API reference, "The chat completion chunk object"; vLLM, DeepSeek, OpenRouter,
 * Azure and Gemini compatibility documentation.
 */
#include "dialect/chat_int.h"

#define CHOICES_MAX 1024
#define CUSTOM_MAX  LR_MIB(4) /* bytes of the input of a custom tool call */

struct lr_chat_choice {
    bool seen, finished;
    enum lr_part_type open; /* 0: none */
    uint16_t parts;         /* begun so far, the open one included */
    int64_t tool, tool_max; /* index of the open call, and the highest; -1: none */
    uint64_t id;            /* hash of the open call's id; 0: it has none yet */
    struct lr_buf custom;   /* an open custom call, as JSON so far */
};

struct in {
    struct lr_chat_dec *s;
    const struct lr_emit *e;
    uint16_t i; /* the choice at hand */
};

static int bad(const struct in *in, const char *what)
{
    return lr_err_set(in->e->err, LR_EPARSE, "answer", "choice %u: %s", in->i, what);
}

static bool of_completion(const struct in *in)
{
    return in->e->dialect == LR_DIALECT_COMPLETION;
}

static struct lr_chat_choice *choice(const struct in *in)
{
    return &in->s->choices[in->i];
}

static int send(const struct in *in, enum lr_event_type type, unsigned sub, struct lr_str a,
                struct lr_str b)
{
    const struct lr_chat_choice *c = in->s->n > in->i ? choice(in) : NULL;
    struct lr_event ev = {.type = type, .sub = (uint8_t)sub, .choice = in->i, .a = a, .b = b};
    if (c && c->parts)
        ev.part = (uint16_t)(c->parts - 1);
    return lr_emit(in->e, ev);
}

/* ---- extras --------------------------------------------------------------------------------- */

/* Is this value of a state extra the one that was emitted last? Remembers it. */
static bool repeated(struct lr_chat_dec *s, uint64_t scope, struct lr_str name, struct lr_str value)
{
    uint64_t k = lr_hash64(name, scope), v = lr_hash64(value, 0);
    for (size_t i = 0; i < s->n_seen; i++) {
        if (s->seen[i].name != k)
            continue;
        bool same = s->seen[i].value == v;
        s->seen[i].value = v;
        return same;
    }
    if (s->n_seen < LR_CHAT_SEEN) {
        s->seen[s->n_seen].name = k;
        s->seen[s->n_seen++].value = v;
    }
    return false;
}

static int send_extra(const struct in *in, enum lr_extra_scope scope, struct lr_str name,
                      struct lr_str raw)
{
    bool whole = scope == LR_SCOPE_TOP || scope == LR_SCOPE_USAGE || scope == LR_SCOPE_EVENT;
    struct lr_event ev = {.type = LR_EV_EXTRA, .sub = (uint8_t)scope, .a = name};
    if (!whole)
        ev.choice = in->i;
    if (scope == LR_SCOPE_PART)
        ev.part = (uint16_t)(choice(in)->parts - 1);
    LR_TRY(lr_json_tight(in->e->a, raw, &ev.b));
    bool state = scope == LR_SCOPE_TOP || scope == LR_SCOPE_USAGE || scope == LR_SCOPE_CHOICE;
    bool piece = scope == LR_SCOPE_CHOICE && raw.p[0] == '[';
    if (state && repeated(in->s, (uint64_t)scope << 16 | ev.choice, name, ev.b) && !piece)
        return 0;
    return lr_emit(in->e, ev);
}

/* Members of o outside `known` (a NULL-ended list). */
static int send_rest(const struct in *in, const struct lr_json *o, const char *const *known,
                     enum lr_extra_scope scope)
{
    for (const struct lr_json *m = o->child; m; m = m->next)
        if (!lr_listed(m->key, known))
            LR_TRY(send_extra(in, scope, m->key, m->raw));
    return 0;
}

/* The name "<prefix>.<name>". */
static int dotted(struct lr_arena *a, struct lr_str prefix, struct lr_str name, struct lr_str *out)
{
    size_t n = prefix.n + 1 + name.n;
    char *p = lr_arena_alloc(a, n + 1, 1);
    LR_FAIL_IF(!p, LR_ENOMEM);
    memcpy(p, prefix.p, prefix.n);
    p[prefix.n] = '.';
    if (name.n)
        memcpy(p + prefix.n + 1, name.p, name.n);
    *out = lr_str(p, n);
    return 0;
}

static int send_dotted(const struct in *in, struct lr_str prefix, const struct lr_json *m,
                       enum lr_extra_scope scope)
{
    struct lr_str name;
    LR_TRY(dotted(in->e->a, prefix, m->key, &name));
    return send_extra(in, scope, name, m->raw);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static int close_part(const struct in *in)
{
    struct lr_chat_choice *c = choice(in);
    if (!c->open)
        return 0;
    if (c->open == LR_PART_OTHER && c->custom.len) {
        LR_TRY(lr_buf_addz(&c->custom, "\"}}"));
        struct lr_event ev = {.type = LR_EV_PART,
                              .sub = LR_PART_OTHER,
                              .choice = in->i,
                              .part = (uint16_t)(c->parts - 1),
                              .b = lr_buf_str(&c->custom)};
        LR_TRY(lr_emit(in->e, ev));
        lr_buf_reset(&c->custom);
    }
    c->open = 0;
    c->id = 0;
    c->tool = -1;
    return send(in, LR_EV_PART_END, 0, (struct lr_str){0}, (struct lr_str){0});
}

/* Makes room for a new part. */
static int begin_part(const struct in *in, enum lr_part_type type)
{
    struct lr_chat_choice *c = choice(in);
    LR_TRY(close_part(in));
    if (c->finished)
        return bad(in, "content after its finish_reason");
    if (c->parts == UINT16_MAX)
        return bad(in, "too many parts");
    c->parts++;
    c->open = type;
    return 0;
}

static int send_text(const struct in *in, enum lr_part_type type, struct lr_str text,
                     struct lr_str name)
{
    if (!text.n)
        return 0;
    if (choice(in)->open != type) {
        LR_TRY(begin_part(in, type));
        LR_TRY(send(in, LR_EV_PART, type, (struct lr_str){0}, name));
    }
    return send(in, LR_EV_DELTA, 0, text, (struct lr_str){0});
}

/* A whole block of a kind that has no canonical place. */
static int send_other(const struct in *in, struct lr_str raw)
{
    LR_TRY(begin_part(in, LR_PART_OTHER));
    struct lr_event ev = {.type = LR_EV_PART,
                          .sub = LR_PART_OTHER,
                          .choice = in->i,
                          .part = (uint16_t)(choice(in)->parts - 1)};
    LR_TRY(lr_json_tight(in->e->a, raw, &ev.b));
    LR_TRY(lr_emit(in->e, ev));
    return close_part(in);
}

/* ---- tool calls ----------------------------------------------------------------------------- */

/* Does this fragment go on with the open call? */
static bool goes_on(const struct lr_chat_choice *c, int64_t index, struct lr_str id)
{
    if (c->open != LR_PART_TOOL_CALL && !(c->open == LR_PART_OTHER && c->custom.len))
        return false;
    if (index >= 0 && c->tool >= 0 && index != c->tool)
        return false;
    return !id.n || !c->id || lr_hash64(id, 1) == c->id;
}

/* {"id":..,"type":"custom","custom":{"name":..,"input":"   and then the input's pieces. */
static int begin_custom(struct lr_chat_choice *c, struct lr_str id, struct lr_str name)
{
    struct lr_buf *b = &c->custom;
    lr_buf_free(b);
    lr_buf_init(b, CUSTOM_MAX);
    LR_TRY(lr_buf_addz(b, "{\"id\":"));
    LR_TRY(lr_json_quote(b, id));
    LR_TRY(lr_buf_addz(b, ",\"type\":\"custom\",\"custom\":{\"name\":"));
    LR_TRY(lr_json_quote(b, name));
    return lr_buf_addz(b, ",\"input\":\"");
}

/* A piece of a JSON string without its quotes. Pieces are whole characters (the reader checked), so
 * what is quoted apart can stand together. */
static int add_custom(struct lr_chat_choice *c, struct lr_str input)
{
    struct lr_buf *b = &c->custom;
    size_t at = b->len;
    LR_TRY(lr_json_quote(b, input));
    memmove(b->p + at, b->p + at + 1, b->len - at - 2);
    b->len -= 2;
    return 0;
}

static int begin_call(const struct in *in, bool custom, int64_t index, struct lr_str id,
                      struct lr_str name)
{
    struct lr_chat_choice *c = choice(in);
    if (index >= 0 && index <= c->tool_max && !id.n && !name.n)
        return bad(in, "a piece of a tool call after the next one began");
    LR_TRY(begin_part(in, custom ? LR_PART_OTHER : LR_PART_TOOL_CALL));
    c->tool = index;
    if (index > c->tool_max)
        c->tool_max = index;
    return custom ? begin_custom(c, id, name) : send(in, LR_EV_PART, LR_PART_TOOL_CALL, id, name);
}

/* Members of a call and of its function that are no one's. */
static int call_extras(const struct in *in, const struct lr_json *v, const struct lr_json *f)
{
    static const char *const known[] = {"index", "id", "type", "function", NULL};
    static const char *const known_in[] = {"name", "arguments", NULL};
    LR_TRY(send_rest(in, v, known, LR_SCOPE_PART));
    for (const struct lr_json *m = lr_members_of(f); m; m = m->next)
        if (!lr_listed(m->key, known_in))
            LR_TRY(send_dotted(in, LR_STR("function"), m, LR_SCOPE_PART));
    return 0;
}

/* One element of delta.tool_calls, or of message.tool_calls (`whole`). */
static int read_call(const struct in *in, const struct lr_json *v, bool whole)
{
    if (v->type != LR_JSON_OBJECT)
        return bad(in, "a tool call that is no object");
    struct lr_chat_choice *c = choice(in);
    uint64_t n;
    int64_t index = lr_json_u64(lr_json_get(v, "index"), &n) && n < INT64_MAX ? (int64_t)n : -1;
    const struct lr_json *f = lr_json_get(v, "function"), *x = lr_json_get(v, "custom");
    bool custom = lr_json_is(x, LR_JSON_OBJECT);
    struct lr_str id = lr_text_of(v, "id"), name = lr_text_of(custom ? x : f, "name");
    struct lr_str text = lr_text_of(custom ? x : f, custom ? "input" : "arguments");
    if (whole && custom)
        return send_other(in, v->raw);
    if (whole || !goes_on(c, index, id))
        LR_TRY(begin_call(in, custom, index, id, name));
    if (id.n && !c->id)
        c->id = lr_hash64(id, 1) | !lr_hash64(id, 1);
    if (c->open == LR_PART_OTHER)
        return text.n ? add_custom(c, text) : 0;
    LR_TRY(call_extras(in, v, f));
    return text.n ? send(in, LR_EV_DELTA, 0, text, (struct lr_str){0}) : 0;
}

/* ---- a choice ------------------------------------------------------------------------------- */

/* Reasoning under either name, or both. b of its PART says which, when it is not reasoning_content.
 */
static int read_reasoning(const struct in *in, const struct lr_json *m)
{
    struct lr_str one = lr_text_of(m, "reasoning_content"), two = lr_text_of(m, "reasoning");
    if (!one.n)
        return send_text(in, LR_PART_REASONING, two, LR_STR("reasoning"));
    if (two.n && !lr_str_eq(one, two))
        LR_TRY(send_extra(in, LR_SCOPE_MESSAGE, LR_STR("reasoning"),
                          lr_json_get(m, "reasoning")->raw));
    return send_text(in, LR_PART_REASONING, one,
                     lr_str_eq(one, two) ? LR_STR("both") : (struct lr_str){0});
}

/* content: text, or parts as some servers give them. */
static int read_content(const struct in *in, const struct lr_json *v)
{
    if (lr_json_is(v, LR_JSON_STRING))
        return send_text(in, LR_PART_TEXT, v->text, (struct lr_str){0});
    for (const struct lr_json *p = lr_json_is(v, LR_JSON_ARRAY) ? v->child : NULL; p; p = p->next) {
        struct lr_str text = {0};
        if (lr_str_is(lr_text_of(p, "type"), "text") &&
            lr_json_text(lr_json_get(p, "text"), &text) && p->n == 2)
            LR_TRY(send_text(in, LR_PART_TEXT, text, (struct lr_str){0}));
        else
            LR_TRY(send_other(in, p->raw));
    }
    return 0;
}

/* Is the member one of Chat's, of a type that the readers below take? */
static bool message_known(const struct lr_json *m)
{
    static const char *const texts[] = {"role",      "content", "refusal", "reasoning_content",
                                        "reasoning", NULL};
    static const char *const lists[] = {"content", "tool_calls", NULL};
    if ((m->type == LR_JSON_NULL || m->type == LR_JSON_STRING) && lr_listed(m->key, texts))
        return true;
    return (m->type == LR_JSON_NULL || m->type == LR_JSON_ARRAY) && lr_listed(m->key, lists);
}

static int read_message(const struct in *in, const struct lr_json *m, bool whole)
{
    for (const struct lr_json *x = m->child; x; x = x->next)
        if (!message_known(x))
            LR_TRY(send_extra(in, LR_SCOPE_MESSAGE, x->key, x->raw));
    LR_TRY(read_reasoning(in, m));
    LR_TRY(read_content(in, lr_json_get(m, "content")));
    LR_TRY(send_text(in, LR_PART_REFUSAL, lr_text_of(m, "refusal"), (struct lr_str){0}));
    for (const struct lr_json *c = lr_first_of(m, "tool_calls"); c; c = c->next)
        LR_TRY(read_call(in, c, whole));
    return 0;
}

static int send_logprobs(const struct in *in, struct lr_str raw, unsigned sub)
{
    struct lr_str tight;
    LR_TRY(lr_json_tight(in->e->a, raw, &tight));
    struct lr_event ev = {.type = LR_EV_LOGPROBS, .sub = (uint8_t)sub, .choice = in->i, .a = tight};
    return lr_emit(in->e, ev);
}

static int read_logprobs(const struct in *in, const struct lr_json *v)
{
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return 0;
    if (of_completion(in))
        return send_logprobs(in, v->raw, 0);
    for (const struct lr_json *m = v->child; m; m = m->next) {
        bool list = m->type == LR_JSON_ARRAY, refusal = lr_str_is(m->key, "refusal");
        if (!refusal && !lr_str_is(m->key, "content"))
            LR_TRY(send_dotted(in, LR_STR("logprobs"), m, LR_SCOPE_CHOICE));
        else if (list && m->n)
            LR_TRY(send_logprobs(in, m->raw, refusal));
    }
    return 0;
}

static int read_finish(const struct in *in, const struct lr_json *v)
{
    static const struct {
        const char *name;
        enum lr_finish finish;
    } rows[] = {{"stop", LR_FINISH_STOP},
                {"length", LR_FINISH_LENGTH},
                {"tool_calls", LR_FINISH_TOOL},
                {"content_filter", LR_FINISH_FILTER}};
    struct lr_chat_choice *c = choice(in);
    struct lr_str reason = lr_text_of(v, "finish_reason"), stop = lr_text_of(v, "stop_reason");
    if (!reason.n || c->finished)
        return 0;
    LR_TRY(close_part(in));
    c->finished = true;
    struct lr_event ev = {.type = LR_EV_FINISH, .sub = LR_FINISH_OTHER, .choice = in->i};
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        if (lr_str_is(reason, rows[i].name))
            ev.sub = (uint8_t)rows[i].finish;
    if (ev.sub == LR_FINISH_OTHER)
        ev.b = reason;
    /* vLLM names the stop string that matched. */
    if (ev.sub == LR_FINISH_STOP && stop.n) {
        ev.sub = LR_FINISH_STOP_SEQUENCE;
        ev.a = stop;
    }
    return lr_emit(in->e, ev);
}

static int choice_extras(const struct in *in, const struct lr_json *v)
{
    static const char *const chat[] = {"index",    "delta",         "message",
                                       "logprobs", "finish_reason", NULL};
    static const char *const text[] = {"index", "text", "logprobs", "finish_reason", NULL};
    for (const struct lr_json *m = v->child; m; m = m->next) {
        bool stop = lr_str_is(m->key, "stop_reason") &&
                    (m->type == LR_JSON_STRING || m->type == LR_JSON_NULL);
        if (!stop && !lr_listed(m->key, of_completion(in) ? text : chat))
            LR_TRY(send_extra(in, LR_SCOPE_CHOICE, m->key, m->raw));
    }
    return 0;
}

static int grow(struct lr_chat_dec *s, size_t n)
{
    if (n <= s->n)
        return 0;
    struct lr_chat_choice *p = lr_realloc(s->choices, n * sizeof *p);
    LR_FAIL_IF(!p, LR_ENOMEM);
    s->choices = p;
    for (; s->n < n; s->n++)
        p[s->n] = (struct lr_chat_choice){.tool = -1, .tool_max = -1};
    return 0;
}

static int read_choice(struct in *in, const struct lr_json *v)
{
    in->i = 0;
    if (v->type != LR_JSON_OBJECT)
        return bad(in, "expected an object");
    uint64_t index = 0;
    (void)lr_json_u64(lr_json_get(v, "index"), &index); /* absent: the only one */
    if (index >= CHOICES_MAX)
        return bad(in, "index too large");
    LR_TRY(grow(in->s, (size_t)index + 1));
    in->i = (uint16_t)index;
    choice(in)->seen = true;
    LR_TRY(choice_extras(in, v));
    LR_TRY(read_logprobs(in, lr_json_get(v, "logprobs")));
    const struct lr_json *whole = lr_json_get(v, "message"), *delta = lr_json_get(v, "delta");
    if (of_completion(in)) {
        LR_TRY(send_text(in, LR_PART_TEXT, lr_text_of(v, "text"), (struct lr_str){0}));
    } else if (lr_json_is(whole, LR_JSON_OBJECT)) {
        LR_TRY(read_message(in, whole, true));
    } else if (lr_json_is(delta, LR_JSON_OBJECT)) {
        LR_TRY(read_message(in, delta, false));
    }
    return read_finish(in, v);
}

/* ---- usage ---------------------------------------------------------------------------------- */

/* prompt_tokens_details and completion_tokens_details: pairs of a name and where its count goes. */
static int read_details(struct lr_arena *a, const struct lr_json *v, uint64_t *const *counts,
                        const char *const *names,
                        int (*extra)(void *ctx, struct lr_str name, struct lr_str raw), void *ctx)
{
    for (const struct lr_json *m = v->child; m; m = m->next) {
        size_t i = 0;
        while (names[i] && !lr_str_is(m->key, names[i]))
            i++;
        if (m->type == LR_JSON_NULL || (names[i] && lr_json_u64(m, counts[i])))
            continue;
        struct lr_str name;
        LR_TRY(dotted(a, v->key, m->key, &name));
        LR_TRY(extra(ctx, name, m->raw));
    }
    return 0;
}

int lr_chat_read_usage(struct lr_arena *a, const struct lr_json *v, struct lr_usage *u,
                       int (*extra)(void *ctx, struct lr_str name, struct lr_str raw), void *ctx)
{
    static const char *const in_names[] = {"cached_tokens", "cache_write_tokens", NULL};
    static const char *const out_names[] = {"reasoning_tokens", NULL};
    uint64_t *const in_counts[] = {&u->cached_input, &u->written_input},
                    *const out_counts[] = {&u->reasoning}, total;
    u->known = true;
    for (const struct lr_json *m = v->child; m; m = m->next) {
        bool object = m->type == LR_JSON_OBJECT;
        if ((lr_str_is(m->key, "prompt_tokens") && lr_json_u64(m, &u->input)) ||
            (lr_str_is(m->key, "completion_tokens") && lr_json_u64(m, &u->output)) ||
            (lr_str_is(m->key, "total_tokens") && lr_json_u64(m, &total)) ||
            m->type == LR_JSON_NULL)
            continue;
        if (object && lr_str_is(m->key, "prompt_tokens_details"))
            LR_TRY(read_details(a, m, in_counts, in_names, extra, ctx));
        else if (object && lr_str_is(m->key, "completion_tokens_details"))
            LR_TRY(read_details(a, m, out_counts, out_names, extra, ctx));
        else
            LR_TRY(extra(ctx, m->key, m->raw));
    }
    return 0;
}

static bool same_usage(const struct lr_usage *a, const struct lr_usage *b)
{
    return a->known == b->known && a->input == b->input && a->output == b->output &&
           a->cached_input == b->cached_input && a->written_input == b->written_input &&
           a->reasoning == b->reasoning;
}

static int usage_extra(void *ctx, struct lr_str name, struct lr_str raw)
{
    return send_extra(ctx, LR_SCOPE_USAGE, name, raw);
}

static int read_usage(struct in *in, const struct lr_json *v)
{
    if (!lr_json_is(v, LR_JSON_OBJECT))
        return 0;
    struct lr_event ev = {.type = LR_EV_USAGE};
    LR_TRY(lr_chat_read_usage(in->e->a, v, &ev.usage, usage_extra, in));
    if (same_usage(&ev.usage, &in->s->usage))
        return 0;
    in->s->usage = ev.usage;
    return lr_emit(in->e, ev);
}

/* ---- a chunk -------------------------------------------------------------------------------- */

static int send_error(const struct in *in, struct lr_str body, const struct lr_json *error)
{
    struct lr_event ev = {.type = LR_EV_ERROR, .status = 502};
    uint64_t code;
    if (lr_json_u64(lr_json_get(error, "code"), &code) && code >= 400 && code <= 599)
        ev.status = (uint16_t)code;
    lr_error_read(in->e->a, body, &ev.a, &ev.b);
    return lr_emit(in->e, ev);
}

static int top_extras(const struct in *in, const struct lr_json *root)
{
    static const char *const known[] = {"id",      "object", "created",     "model",
                                        "choices", "usage",  "obfuscation", NULL};
    return send_rest(in, root, known, LR_SCOPE_TOP);
}

/* START; before it is known what to say in it, the chunk is kept (*hold). */
static int start(struct in *in, const struct lr_json *root, bool *hold)
{
    struct lr_chat_dec *s = in->s;
    const struct lr_json *choices = lr_json_get(root, "choices");
    bool empty = lr_json_is(choices, LR_JSON_ARRAY) && !choices->n;
    if (empty && !lr_text_of(root, "model").n && !s->held.len) {
        *hold = true;
        lr_buf_init(&s->held, LR_KIB(256));
        return lr_buf_adds(&s->held, root->raw);
    }
    s->started = true;
    LR_TRY(lr_emit_start(in->e, root));
    if (!s->held.len)
        return 0;
    struct lr_json *early;
    LR_TRY(lr_json_parse(in->e->a, lr_buf_str(&s->held), NULL, &early, in->e->err));
    return top_extras(in, early);
}

static int read_chunk(struct in *in, const struct lr_json *root)
{
    const struct lr_json *error = lr_json_get(root, "error");
    if (lr_given(error))
        return send_error(in, root->raw, error);
    bool hold = false;
    if (!in->s->started)
        LR_TRY(start(in, root, &hold));
    if (hold)
        return 0;
    LR_TRY(top_extras(in, root));
    for (const struct lr_json *c = lr_first_of(root, "choices"); c; c = c->next)
        LR_TRY(read_choice(in, c));
    return read_usage(in, lr_json_get(root, "usage"));
}

static int close_all(struct in *in)
{
    for (size_t i = 0; i < in->s->n; i++) {
        in->i = (uint16_t)i;
        LR_TRY(close_part(in));
    }
    return 0;
}

int lr_chat_dec_event(void *state, const struct lr_emit *e, struct lr_str name, struct lr_str data)
{
    struct lr_chat_dec *s = state;
    struct in in = {.s = s, .e = e};
    if (!lr_str_trim(data).n)
        return 0;
    if (lr_str_is(lr_str_trim(data), "[DONE]")) {
        s->done = true;
        return close_all(&in);
    }
    bool foreign = name.n && !lr_str_is(name, "message") && !lr_str_is(name, "error");
    struct lr_json *root = NULL;
    int rc = lr_json_parse(e->a, data, NULL, &root, foreign ? NULL : e->err);
    if (foreign && (rc == LR_EPARSE || (!rc && !lr_json_get(root, "choices")))) {
        struct lr_event ev = {.type = LR_EV_EXTRA, .sub = LR_SCOPE_EVENT, .a = name, .b = data};
        return s->started ? lr_emit(e, ev) : 0;
    }
    LR_TRY(rc);
    if (root->type != LR_JSON_OBJECT)
        return lr_malformed(e, "expected an object in each event");
    return read_chunk(&in, root);
}

int lr_chat_dec_whole(void *state, const struct lr_emit *e, struct lr_str body)
{
    struct in in = {.s = state, .e = e};
    struct lr_json *root;
    LR_TRY(lr_json_parse(e->a, body, NULL, &root, e->err));
    if (root->type != LR_JSON_OBJECT)
        return lr_malformed(e, "expected an object");
    if (!lr_given(lr_json_get(root, "error")) && !lr_first_of(root, "choices"))
        return lr_malformed(e, "no choices in it");
    LR_TRY(read_chunk(&in, root));
    return close_all(&in);
}

bool lr_chat_dec_done(const void *state)
{
    return ((const struct lr_chat_dec *)state)->done;
}

bool lr_chat_dec_eof(const void *state)
{
    const struct lr_chat_dec *s = state;
    for (size_t i = 0; i < s->n; i++)
        if (s->choices[i].seen && !s->choices[i].finished)
            return false;
    return s->n > 0;
}

void lr_chat_dec_close(void *state)
{
    struct lr_chat_dec *s = state;
    for (size_t i = 0; i < s->n; i++)
        lr_buf_free(&s->choices[i].custom);
    lr_free(s->choices);
    lr_buf_free(&s->held);
}
