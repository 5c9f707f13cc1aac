/* SPDX-License-Identifier: Apache-2.0
 * answer/key.c - the identity of a request: equal requests, equal digest, however they are spelled.
 *
 *   canonical request --members--> ("model", d) ("messages[0]", d) ("chat.foo", d) ...
 *                                      each d = BLAKE3 keyed by the tenant's secret, over the value
 *                     --sorted, hashed with the same key--> exact digest
 *
 * The rule is inclusion: everything of struct lr_request counts, save the closed list of
 * docs/formats/key.md (stream, stream options, end-user and safety identifiers, metadata, store,
 * service tier, n, the token limit). What no dialect knows counts as "<dialect>.<name>", or inside
 * the message, part or tool it belongs to. Key order, white space, escapes and number spellings
 * have vanished: the parser decoded strings, and numbers and JSON subtrees are hashed in their
 * canonical form (base/json.h).
 *
 * Values are framed so that no two values have the same bytes: a tag, then strings with their
 * length, lists with an end mark, a part's fields behind a mask that says which are there. Media
 * count by what they decode to, tool-call ids by the order in which they first appear, the
 * arguments of a tool call as JSON where they are JSON. A dialect is no member: the same
 * conversation in Chat, Messages and Responses has one key.
 *
 * Member digests answer "why was this no hit" without text: two requests of one tenant can be
 * compared name by name. They are keyed, so they tell nothing without the secret. Names are ours,
 * or, where a client chose one, shown only if they look like an identifier.
 *
 * Order is by name with numbers as numbers ("messages[2]" before "messages[10]"), so that "the
 * first difference" is the first a reader would name. Beyond LR_MEMBERS_MAX the rest is one member.
 *
 * Blocks are for routing, not for identity: a chain of 64-bit hashes over the tools and then each
 * leading message. Two requests share the first k of them when they share that much of their
 * prompt.
 *
 * Considered and dropped: hashing the sorted canonical JSON of the body (one dialect only, and no answer
 * to "which member differs"); a tree over each message's parts (members are what people name).
 */
#include "answer/answer.h"

#include <stdlib.h>

#define LR_MEMBERS_MAX 512
#define NAME_MAX_      48
#define SHOWN_MAX      32        /* bytes of a client's name that may be shown */
#define JSON_MAX       LR_GIB(1) /* canonical form of one subtree; no body is larger */
#define SORT_STACK     16        /* extras sorted without the arena */
#define INSERTION_MAX  64        /* members sorted by insertion: they come nearly sorted */
#define B64_IN         12288     /* characters decoded at a time: 9 KiB, whole chunks of BLAKE3 */
#define KEY_VERSION    "larder-key-1"

/* ---- feeding a hash: small fields are gathered, long ones go straight in ---- */

struct sink {
    struct lr_blake3 h;
    size_t n;
    uint8_t tmp[256];
};

static void sink_open(struct sink *s, const uint8_t secret[32])
{
    lr_blake3_init_keyed(&s->h, secret);
    s->n = 0;
}

static void flush(struct sink *s)
{
    lr_blake3_add(&s->h, s->tmp, s->n);
    s->n = 0;
}

static void feed(struct sink *s, const void *p, size_t n)
{
    if (n > sizeof s->tmp - s->n)
        flush(s);
    if (n > sizeof s->tmp) {
        lr_blake3_add(&s->h, p, n);
    } else if (n) {
        memcpy(s->tmp + s->n, p, n);
        s->n += n;
    }
}

static void feed_u8(struct sink *s, unsigned v)
{
    uint8_t b = (uint8_t)v;
    feed(s, &b, 1);
}

static void feed_u64(struct sink *s, uint64_t v)
{
    feed(s, &v, sizeof v);
}

static void feed_str(struct sink *s, struct lr_str v)
{
    feed_u64(s, v.n);
    feed(s, v.p, v.n);
}

static void sink_close(struct sink *s, struct lr_digest *out)
{
    flush(s);
    lr_blake3_out(&s->h, out->b, sizeof out->b);
}

/* ---- the work of one key ---- */

struct member {
    char name[NAME_MAX_];
    struct lr_digest d;
};

/* Tool-call ids seen so far: open addressing, cell = ordinal (from 1) of `ids`. */
struct ids {
    struct lr_str *id; /* in order of appearance */
    uint32_t *cells;
    size_t n, cap; /* cells: 2 * cap */
};

struct work {
    struct lr_arena *a;
    const struct lr_request *r;
    const uint8_t *secret;
    uint64_t seed;          /* of the secret, for hashes that are no digests */
    struct lr_buf json;     /* canonical subtree */
    struct member *members; /* arena */
    size_t n, cap;
    struct ids ids;
    uint64_t text_bytes;
    uint64_t chain;
    uint64_t *blocks;
    size_t n_blocks;
    struct sink sink; /* of the member in progress */
};

static struct sink *open_value(struct work *w, char tag)
{
    sink_open(&w->sink, w->secret);
    feed_u8(&w->sink, (unsigned char)tag);
    return &w->sink;
}

/* A new member named base, or base[index]; its digest is what the sink holds. */
static int close_value(struct work *w, const char *base, size_t n, size_t index)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 16;
        struct member *m = lr_arena_alloc(w->a, cap * sizeof *m, _Alignof(struct member));
        LR_FAIL_IF(!m, LR_ENOMEM);
        if (w->n)
            memcpy(m, w->members, w->n * sizeof *m);
        w->members = m;
        w->cap = cap;
    }
    struct member *m = &w->members[w->n++];
    char digits[20];
    size_t k = sizeof digits;
    memset(m->name, 0, sizeof m->name);
    memcpy(m->name, base, n);
    if (index != SIZE_MAX) {
        do
            digits[--k] = (char)('0' + index % 10);
        while (index /= 10);
        m->name[n] = '[';
        memcpy(m->name + n + 1, digits + k, sizeof digits - k);
        m->name[n + 1 + sizeof digits - k] = ']';
    }
    sink_close(&w->sink, &m->d);
    return 0;
}

static int close_named(struct work *w, const char *name)
{
    return close_value(w, name, strlen(name), SIZE_MAX);
}

/* ---- values ---- */

static int feed_json(struct work *w, const struct lr_json *v)
{
    if (v->type == LR_JSON_STRING) { /* as its canonical form, but without building it */
        feed_u8(&w->sink, 's');
        feed_str(&w->sink, v->text);
        return 0;
    }
    lr_buf_reset(&w->json);
    LR_TRY(v->type == LR_JSON_NUMBER ? lr_json_number_canon(v->text, &w->json)
                                     : lr_json_canon(v, &w->json));
    feed_u8(&w->sink, 'j');
    feed_str(&w->sink, lr_buf_str(&w->json));
    return 0;
}

struct ranked {
    const struct lr_json *v;
    size_t i; /* in the list: equal names (a part may gather two levels) keep the parser's order */
};

static int by_name(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    int c = lr_str_cmp(a->v->key, b->v->key);
    return c ? c : (a->i > b->i) - (a->i < b->i);
}

/* Unknown members of one object, in the order of their names. */
static int feed_extras(struct work *w, const struct lr_extra *list)
{
    struct ranked stack[SORT_STACK], *sorted = stack;
    size_t n = 0, i = 0;
    for (const struct lr_extra *x = list; x; x = x->next)
        n++;
    if (n > SORT_STACK) {
        sorted = lr_arena_array(w->a, struct ranked, n);
        LR_FAIL_IF(!sorted, LR_ENOMEM);
    }
    for (const struct lr_extra *x = list; x; x = x->next, i++)
        sorted[i] = (struct ranked){x->v, i};
    if (n > 1)
        qsort(sorted, n, sizeof *sorted, by_name);
    feed_u64(&w->sink, n);
    if (n)
        feed_str(&w->sink, lr_strz(lr_dialect_name(w->r->dialect)));
    for (i = 0; i < n; i++) {
        feed_str(&w->sink, sorted[i].v->key);
        LR_TRY(feed_json(w, sorted[i].v));
    }
    return 0;
}

/* Decodes up to B64_IN characters of standard base64 (a multiple of 4); the bytes written, or -1.
 */
static int decode_some(const uint8_t *p, size_t n, uint8_t *out)
{
    int made = 0;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            uint8_t c = p[i + k];
            int d = c >= 'A' && c <= 'Z'   ? c - 'A'
                    : c >= 'a' && c <= 'z' ? c - 'a' + 26
                    : c >= '0' && c <= '9' ? c - '0' + 52
                    : c == '+'             ? 62
                    : c == '/'             ? 63
                                           : -1;
            if (d < 0)
                return -1;
            v = v << 6 | (uint32_t)d;
        }
        out[made++] = (uint8_t)(v >> 16);
        out[made++] = (uint8_t)(v >> 8);
        out[made++] = (uint8_t)v;
    }
    return made;
}

/* The last group, padded or not: 2 or 3 characters, unused bits zero. */
static int decode_tail(const uint8_t *p, size_t n, uint8_t *out)
{
    uint8_t full[4] = {'A', 'A', 'A', 'A'}, three[3];
    if (n == 1)
        return -1;
    memcpy(full, p, n);
    if (n && decode_some(full, 4, three) < 0)
        return -1;
    int made = n ? (int)n - 1 : 0;
    for (int i = made; n && i < 3; i++)
        if (three[i])
            return -1;
    memcpy(out, three, (size_t)made);
    return made;
}

/* Media by what they are: the digest of the decoded bytes, or, when that fails, of the text. */
static void feed_data(struct work *w, struct lr_str text)
{
    struct lr_blake3 h;
    struct lr_digest d;
    uint8_t bytes[B64_IN / 4 * 3];
    const uint8_t *p = (const uint8_t *)text.p;
    size_t n = text.n;
    for (int pad = 0; pad < 2 && n && n % 4 == (pad ? 3u : 0u) && p[n - 1] == '='; pad++)
        n--;
    int made = 0;
    lr_blake3_init_keyed(&h, w->secret);
    while (n >= 4 && made >= 0) {
        size_t k = n < B64_IN ? n / 4 * 4 : B64_IN;
        made = decode_some(p, k, bytes);
        if (made > 0)
            lr_blake3_add(&h, bytes, (size_t)made);
        p += k;
        n -= k;
    }
    if (made >= 0)
        made = decode_tail(p, n, bytes);
    feed_u8(&w->sink, made >= 0 ? 'd' : 't');
    if (made >= 0)
        lr_blake3_add(&h, bytes, (size_t)made);
    if (made < 0) {
        lr_blake3_init_keyed(&h, w->secret);
        lr_blake3_add(&h, text.p, text.n);
    }
    lr_blake3_out(&h, d.b, sizeof d.b);
    feed(&w->sink, d.b, sizeof d.b);
}

/* ---- tool-call ids ---- */

static uint32_t *id_cell(const struct work *w, struct lr_str id)
{
    const struct ids *t = &w->ids;
    size_t mask = 2 * t->cap - 1, i = (size_t)lr_hash64(id, w->seed) & mask;
    while (t->cells[i] && !lr_str_eq(t->id[t->cells[i] - 1], id))
        i = (i + 1) & mask;
    return &t->cells[i];
}

static int grow_ids(struct work *w)
{
    struct ids *t = &w->ids, old = *t;
    t->cap = old.cap ? old.cap * 2 : 16;
    t->id = lr_arena_array(w->a, struct lr_str, t->cap);
    t->cells = lr_arena_array(w->a, uint32_t, 2 * t->cap);
    if (!t->id || !t->cells) {
        *t = old;
        return LR_ENOMEM;
    }
    for (size_t i = 0; i < old.n; i++) {
        t->id[i] = old.id[i];
        *id_cell(w, old.id[i]) = (uint32_t)i + 1;
    }
    return 0;
}

static int feed_id(struct work *w, struct lr_str id)
{
    struct ids *t = &w->ids;
    if (t->n == t->cap)
        LR_TRY(grow_ids(w));
    uint32_t *cell = id_cell(w, id);
    if (!*cell) {
        t->id[t->n++] = id;
        *cell = (uint32_t)t->n;
    }
    feed_u64(&w->sink, *cell);
    return 0;
}

/* ---- parts, messages, tools ---- */

enum {
    HAS_TEXT = 1,
    HAS_ID = 2,
    HAS_NAME = 4,
    HAS_MEDIA = 8,
    HAS_DATA = 16,
    HAS_URL = 32,
    HAS_DETAIL = 64,
    HAS_SIGN = 128,
    HAS_ERROR = 256,
    HAS_REDACTED = 512,
    HAS_JSON = 1024,
    HAS_PARTS = 2048,
    HAS_EXTRA = 4096
};

static unsigned mask_of(const struct lr_part *p)
{
    return (p->text.n ? HAS_TEXT : 0u) | (p->id.n ? HAS_ID : 0u) | (p->name.n ? HAS_NAME : 0u) |
           (p->media.n ? HAS_MEDIA : 0u) | (p->data.n ? HAS_DATA : 0u) | (p->url.n ? HAS_URL : 0u) |
           (p->detail.n ? HAS_DETAIL : 0u) | (p->sign.n ? HAS_SIGN : 0u) |
           (p->is_error ? HAS_ERROR : 0u) | (p->redacted ? HAS_REDACTED : 0u) |
           (p->json ? HAS_JSON : 0u) | (p->parts ? HAS_PARTS : 0u) | (p->extra ? HAS_EXTRA : 0u);
}

/* Arguments are text to the dialects, but JSON to everybody: {"a":1} is { "a": 1.0 }. */
static int feed_arguments(struct work *w, struct lr_str text)
{
    struct lr_json *v = NULL;
    int rc = lr_json_parse(w->a, text, NULL, &v, NULL);
    LR_FAIL_IF(rc == LR_ENOMEM, rc); /* as text it would have another key the next time */
    if (rc) {
        feed_u8(&w->sink, 't');
        feed_str(&w->sink, text);
        return 0;
    }
    return feed_json(w, v);
}

/* A subtree that only its own dialect understands (an unknown part, tool, format): tagged with it.
 */
static int feed_own(struct work *w, const struct lr_json *v)
{
    feed_u8(&w->sink, v != NULL);
    if (!v)
        return 0;
    feed_str(&w->sink, lr_strz(lr_dialect_name(w->r->dialect)));
    return feed_json(w, v);
}

static int feed_parts(struct work *w, const struct lr_part *p);

static int feed_part(struct work *w, const struct lr_part *p)
{
    struct sink *s = &w->sink;
    unsigned mask = mask_of(p);
    uint8_t head[4] = {'P', (uint8_t)p->type, (uint8_t)mask, (uint8_t)(mask >> 8)};
    feed(s, head, sizeof head);
    w->text_bytes += p->text.n;
    if (p->text.n && p->type == LR_PART_TOOL_CALL)
        LR_TRY(feed_arguments(w, p->text));
    else if (p->text.n)
        feed_str(s, p->text);
    if (mask & HAS_ID)
        LR_TRY(feed_id(w, p->id));
    if (mask & HAS_NAME)
        feed_str(s, p->name);
    if (mask & HAS_MEDIA)
        feed_str(s, p->media);
    if (mask & HAS_DATA)
        feed_data(w, p->data);
    if (mask & HAS_URL)
        feed_str(s, p->url);
    if (mask & HAS_DETAIL)
        feed_str(s, p->detail);
    if (mask & HAS_SIGN)
        feed_str(s, p->sign);
    if (mask & HAS_JSON)
        LR_TRY(feed_own(w, p->json));
    if (mask & HAS_PARTS)
        LR_TRY(feed_parts(w, p->parts));
    return mask & HAS_EXTRA ? feed_extras(w, p->extra) : 0;
}

static int feed_parts(struct work *w, const struct lr_part *p)
{
    for (; p; p = p->next)
        LR_TRY(feed_part(w, p));
    feed_u8(&w->sink, 'E');
    return 0;
}

/* The chain with one more member. */
static uint64_t linked(const struct work *w, const struct lr_digest *d)
{
    uint8_t both[40];
    lr_put_le64(both, w->chain);
    memcpy(both + 8, d->b, 32);
    return lr_hash64(lr_str(both, sizeof both), w->seed);
}

static void add_block(struct work *w)
{
    if (w->blocks && w->n_blocks < LR_KEY_BLOCKS_MAX)
        w->blocks[w->n_blocks++] = w->chain;
}

static int add_messages(struct work *w)
{
    size_t i = 0;
    for (const struct lr_msg *m = w->r->msgs; m; m = m->next, i++) {
        struct sink *s = open_value(w, 'M');
        feed_u8(s, m->role);
        feed_str(s, m->name);
        LR_TRY(feed_parts(w, m->parts));
        LR_TRY(feed_extras(w, m->extra));
        LR_TRY(close_value(w, "messages", 8, i));
        w->chain = linked(w, &w->members[w->n - 1].d);
        add_block(w);
    }
    return 0;
}

/* A subtree that may be absent. */
static int feed_maybe(struct work *w, const struct lr_json *v)
{
    feed_u8(&w->sink, v != NULL);
    return v ? feed_json(w, v) : 0;
}

static int add_tools(struct work *w)
{
    size_t i = 0;
    for (const struct lr_tool *t = w->r->tools; t; t = t->next, i++) {
        struct sink *s = open_value(w, 'T');
        feed_str(s, t->name);
        feed_str(s, t->description);
        LR_TRY(feed_maybe(w, t->schema));
        LR_TRY(feed_maybe(w, t->strict));
        LR_TRY(feed_own(w, t->json));
        LR_TRY(feed_extras(w, t->extra));
        LR_TRY(close_value(w, "tools", 5, i));
        w->chain = linked(w, &w->members[w->n - 1].d);
    }
    if (i)
        add_block(w);
    return 0;
}

/* ---- the other members ---- */

static int add_json(struct work *w, const char *name, const struct lr_json *v)
{
    if (!v)
        return 0;
    open_value(w, 'J');
    LR_TRY(feed_json(w, v));
    return close_named(w, name);
}

static int add_str(struct work *w, const char *name, struct lr_str v)
{
    if (!v.n)
        return 0;
    feed_str(open_value(w, 'S'), v);
    return close_named(w, name);
}

static int add_tool_choice(struct work *w)
{
    const struct lr_request *r = w->r;
    if (r->tool_choice != LR_TOOL_CHOICE_ABSENT) {
        struct sink *s = open_value(w, 'C');
        feed_u8(s, r->tool_choice);
        feed_str(s, r->tool_choice_name);
        /* Parsers may keep the node of a choice they understood, for forwarding. */
        LR_TRY(feed_own(w, r->tool_choice == LR_TOOL_CHOICE_OTHER ? r->tool_choice_json : NULL));
        LR_TRY(close_named(w, "tool_choice"));
    }
    if (r->parallel_tools || r->parallel_off) {
        feed_u8(open_value(w, 'B'), !r->parallel_off);
        LR_TRY(close_named(w, "parallel_tools"));
    }
    return 0;
}

static int add_format(struct work *w)
{
    const struct lr_request *r = w->r;
    if (r->format == LR_FORMAT_ABSENT)
        return 0;
    struct sink *s = open_value(w, 'F');
    feed_u8(s, r->format);
    feed_str(s, r->format_name);
    feed_str(s, r->format_description);
    LR_TRY(feed_maybe(w, r->format_schema));
    LR_TRY(feed_maybe(w, r->format_strict));
    LR_TRY(feed_own(w, r->format == LR_FORMAT_OTHER ? r->format_json : NULL));
    return close_named(w, "format");
}

static int add_sampling(struct work *w)
{
    const struct lr_request *r = w->r;
    LR_TRY(add_json(w, "frequency_penalty", r->frequency_penalty));
    LR_TRY(add_json(w, "logit_bias", r->logit_bias));
    LR_TRY(add_json(w, "logprobs", r->logprobs));
    LR_TRY(add_json(w, "presence_penalty", r->presence_penalty));
    LR_TRY(add_json(w, "prompt", r->prompt));
    LR_TRY(add_json(w, "seed", r->seed));
    if (r->n_stop) {
        struct sink *s = open_value(w, 'L');
        feed_u64(s, r->n_stop);
        for (size_t i = 0; i < r->n_stop; i++)
            feed_str(s, r->stop[i]);
        LR_TRY(close_named(w, "stop"));
    }
    LR_TRY(add_json(w, "temperature", r->temperature));
    LR_TRY(add_json(w, "top_k", r->top_k));
    LR_TRY(add_json(w, "top_logprobs", r->top_logprobs));
    return add_json(w, "top_p", r->top_p);
}

/* A name somebody outside chose, behind a prefix of ours. */
static size_t show_name(const char *prefix, struct lr_str name, char out[NAME_MAX_])
{
    size_t n = strlen(prefix);
    bool plain = name.n > 0 && name.n <= SHOWN_MAX;
    for (size_t i = 0; plain && i < name.n; i++) {
        char c = name.p[i];
        plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '_' || c == '.' || c == '-';
    }
    memcpy(out, prefix, n);
    out[n++] = '.';
    if (!plain) {
        out[n] = '?'; /* numbered once all are sorted */
        return n + 1;
    }
    memcpy(out + n, name.p, name.n);
    return n + name.n;
}

static int add_extras(struct work *w)
{
    for (const struct lr_extra *x = w->r->extra; x; x = x->next) {
        char name[NAME_MAX_];
        size_t n = show_name(lr_dialect_name(w->r->dialect), x->v->key, name);
        feed_str(open_value(w, 'X'), x->v->key);
        LR_TRY(feed_json(w, x->v));
        LR_TRY(close_value(w, name, n, SIZE_MAX));
    }
    return 0;
}

static int add_headers(struct work *w, const struct lr_key_header *h, size_t n_headers)
{
    for (size_t i = 0; i < n_headers; i++) {
        char name[NAME_MAX_];
        size_t n = show_name("header", lr_strz(h[i].name), name);
        struct sink *s = open_value(w, 'H');
        feed_str(s, lr_strz(h[i].name));
        feed_str(s, h[i].value);
        LR_TRY(close_value(w, name, n, SIZE_MAX));
    }
    return 0;
}

/* only: one input, or SIZE_MAX for all. */
static int add_inputs(struct work *w, size_t only)
{
    for (size_t i = 0; i < w->r->n_inputs; i++) {
        if (only != SIZE_MAX && only != i)
            continue;
        open_value(w, 'I');
        LR_TRY(feed_json(w, w->r->inputs[i]));
        w->text_bytes += w->r->inputs[i]->text.n;
        LR_TRY(close_value(w, "input", 5, only == SIZE_MAX ? i : SIZE_MAX));
    }
    return 0;
}

/* In an order that is nearly the sorted one. */
static int gather(struct work *w, size_t only, const struct lr_key_header *headers,
                  size_t n_headers)
{
    const struct lr_request *r = w->r;
    LR_TRY(add_extras(w));
    LR_TRY(add_json(w, "dimensions", r->dimensions));
    LR_TRY(add_str(w, "effort", r->effort));
    LR_TRY(add_json(w, "encoding_format", r->encoding_format));
    LR_TRY(add_format(w));
    LR_TRY(add_headers(w, headers, n_headers));
    LR_TRY(add_inputs(w, only));
    feed_u8(open_value(w, 'K'), r->kind);
    LR_TRY(close_named(w, "kind"));
    LR_TRY(add_tools(w)); /* before the messages: they lead the chain */
    LR_TRY(add_messages(w));
    LR_TRY(add_str(w, "model", r->model));
    LR_TRY(add_sampling(w));
    return add_tool_choice(w);
}

/* ---- order ---- */

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes, but runs of digits by value; equal so far: plain bytes decide. "rest" is always last. */
static int cmp_names(const char *a, const char *b)
{
    const char *x = a, *y = b;
    bool last_x = strcmp(a, "rest") == 0, last_y = strcmp(b, "rest") == 0;
    if (last_x || last_y)
        return (int)last_x - (int)last_y;
    while (*x && *y) {
        if (digit(*x) && digit(*y)) {
            while (*x == '0' && digit(x[1]))
                x++;
            while (*y == '0' && digit(y[1]))
                y++;
            size_t nx = 0, ny = 0;
            while (digit(x[nx]))
                nx++;
            while (digit(y[ny]))
                ny++;
            int c = nx != ny ? (nx < ny ? -1 : 1) : memcmp(x, y, nx);
            if (c)
                return c;
            x += nx;
            y += ny;
        } else if (*x != *y) {
            return (unsigned char)*x < (unsigned char)*y ? -1 : 1;
        } else {
            x++;
            y++;
        }
    }
    if (*x || *y)
        return *x ? 1 : -1;
    return strcmp(a, b);
}

static int cmp_members(const void *x, const void *y)
{
    const struct member *a = x, *b = y;
    int c = cmp_names(a->name, b->name);
    return c ? c : memcmp(a->d.b, b->d.b, sizeof a->d.b); /* odd names share theirs */
}

static void sort(struct member *m, size_t n)
{
    if (n > INSERTION_MAX) {
        qsort(m, n, sizeof *m, cmp_members);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        if (cmp_members(&m[i - 1], &m[i]) <= 0)
            continue;
        struct member x = m[i];
        size_t k = i;
        for (; k && cmp_members(&m[k - 1], &x) > 0; k--)
            m[k] = m[k - 1];
        m[k] = x;
    }
}

static void feed_members(struct sink *s, const struct member *m, size_t n)
{
    feed_u64(s, n);
    for (size_t i = 0; i < n; i++) {
        feed_str(s, lr_strz(m[i].name));
        feed(s, m[i].d.b, sizeof m[i].d.b);
    }
}

/* Sorted members, at most LR_MEMBERS_MAX, and the digest over them. */
static void seal(struct work *w, struct lr_digest *out)
{
    sort(w->members, w->n);
    if (w->n > LR_MEMBERS_MAX) {
        struct member *last = &w->members[LR_MEMBERS_MAX - 1];
        struct sink *s = open_value(w, 'R');
        feed_members(s, last, w->n - LR_MEMBERS_MAX + 1);
        sink_close(s, &last->d);
        memset(last->name, 0, sizeof last->name);
        memcpy(last->name, "rest", 4);
        w->n = LR_MEMBERS_MAX;
    }
    struct sink *s = &w->sink;
    sink_open(s, w->secret);
    feed_str(s, LR_STR(KEY_VERSION));
    feed_members(s, w->members, w->n);
    sink_close(s, out);
}

/* "chat.?" into "chat.?0", "chat.?1" ... where several share it or not: one look for all. */
static void number_odd(struct work *w)
{
    size_t k = 0;
    for (size_t i = 0; i < w->n; i++) {
        char *name = w->members[i].name;
        size_t n = strlen(name);
        if (name[n - 1] != '?')
            continue;
        k = i && strncmp(w->members[i - 1].name, name, n) == 0 ? k + 1 : 0;
        char digits[4]; /* below LR_MEMBERS_MAX */
        size_t d = sizeof digits;
        size_t v = k;
        do
            digits[--d] = (char)('0' + v % 10);
        while (v /= 10);
        memcpy(name + n, digits + d, sizeof digits - d);
    }
}

static void begin(struct work *w, struct lr_arena *a, const struct lr_request *r,
                  const uint8_t secret[32])
{
    w->a = a;
    w->r = r;
    w->secret = secret;
    w->seed = lr_le64(secret) ^ lr_le64(secret + 8);
    lr_buf_init(&w->json, JSON_MAX);
    w->members = NULL;
    w->n = w->cap = 0;
    w->ids = (struct ids){0};
    w->text_bytes = w->chain = 0;
    w->blocks = NULL;
    w->n_blocks = 0;
}

int lr_key_request(struct lr_arena *a, const struct lr_request *r, const uint8_t secret[32],
                   const struct lr_key_header *headers, size_t n_headers, struct lr_key *k)
{
    struct work w;
    begin(&w, a, r, secret);
    w.blocks = k->blocks;
    int rc = gather(&w, SIZE_MAX, headers, n_headers);
    lr_buf_free(&w.json);
    LR_TRY(rc);
    struct lr_digest exact;
    seal(&w, &exact);
    number_odd(&w);
    struct lr_key_member *m = lr_arena_alloc(a, w.n * sizeof *m, _Alignof(struct lr_key_member));
    LR_FAIL_IF(!m, LR_ENOMEM);
    for (size_t i = 0; i < w.n; i++) {
        memcpy(m[i].name, w.members[i].name, sizeof m[i].name);
        m[i].digest = lr_le64(w.members[i].d.b);
    }
    k->exact = exact;
    k->members = m;
    k->n_members = w.n;
    k->n_blocks = w.n_blocks;
    k->text_bytes = w.text_bytes;
    return 0;
}

int lr_key_input(const struct lr_request *r, size_t index, const uint8_t secret[32],
                 const struct lr_key_header *headers, size_t n_headers, struct lr_digest *out)
{
    LR_FAIL_IF(index >= r->n_inputs, LR_EINVAL);
    struct lr_arena a;
    struct work w;
    lr_arena_init(&a, LR_MIB(64));
    begin(&w, &a, r, secret);
    int rc = gather(&w, index, headers, n_headers);
    if (!rc)
        seal(&w, out);
    lr_buf_free(&w.json);
    lr_arena_free(&a);
    return rc;
}

int lr_key_differ(const struct lr_key_member *a, size_t na, const struct lr_key_member *b,
                  size_t nb, char out[48])
{
    size_t i = 0, k = 0;
    while (i < na || k < nb) {
        int c = i == na ? 1 : k == nb ? -1 : cmp_names(a[i].name, b[k].name);
        if (c == 0 && a[i].digest == b[k].digest) {
            i++;
            k++;
            continue;
        }
        memcpy(out, c <= 0 ? a[i].name : b[k].name, 48);
        return 0;
    }
    return LR_ENOENT;
}
