/* SPDX-License-Identifier: Apache-2.0
 * base/json_canon.c - one spelling for all spellings of a value, and edits of a source in place.
 *
 * Canonical text: members sorted by the bytes of their decoded names, no blanks, the writer's
 * escapes, and numbers by their exact decimal value: significant digits without zeros at either
 * end, then a power of ten where it is not zero.
 *
 *     1   1.0   10e-1   0.1E+1   ->  1          100  1e2  ->  1e2          0.10  ->  1e-1
 *     -0  0.000  0e99            ->  0          12.50     ->  125e-1
 *
 * Nothing is rounded: two numbers are one here if and only if they are equal as decimals, so 0.1
 * and 0.1000000000000000055511151231257827 differ although a double cannot tell them apart, and a
 * seed above 2^53 keeps its last digit. (RFC 8785 prints the nearest double instead, which would
 * make one key of two different requests; that is our deviation from it, and the order of names is
 * the other: bytes of UTF-8, not UTF-16 units.) An exponent spelled beyond +-10^9 is kept as it is
 * spelled: no canonical text of another number looks the same, because other exponents there come
 * from equal numbers.
 *
 * The walk keeps its own stack of pending nodes instead of recursion: a popped object pushes its
 * closing bracket and its members, last one first. The stack is at most the siblings along one
 * path.
 *
 * Edits: a request goes upstream as it came except for the members we must change, so we splice
 * bytes and leave the rest of the source untouched, spelling and order included.
 */
#include "base/base.h"
#include "base/json_int.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- numbers ---- */

int lr_json_number_canon(struct lr_str lexeme, struct lr_buf *out)
{
    struct lr_json_digits d;
    LR_TRY(lr_json_digits(lexeme, &d));
    if (d.n == 0)
        return lr_buf_addc(out, '0');
    if (d.huge)
        return lr_buf_adds(out, lexeme);
    if (d.neg)
        lr_buf_addc(out, '-');
    const char *end = lexeme.p + lexeme.n;
    const char *point = memchr(d.first, '.', (size_t)(end - d.first));
    size_t head = point && (size_t)(point - d.first) < d.n ? (size_t)(point - d.first) : d.n;
    lr_buf_add(out, d.first, head);
    if (head < d.n)
        lr_buf_add(out, point + 1, d.n - head);
    if (d.exp) {
        char e[24];
        int n = snprintf(e, sizeof e, "e%lld", (long long)d.exp);
        lr_buf_add(out, e, (size_t)(n > 0 ? n : 0));
    }
    return out->rc;
}

/* ---- values ---- */

struct pending {
    const struct lr_json *v;
    bool close; /* v's closing bracket is due, not v */
    bool first; /* no comma before it */
};

struct walk {
    struct pending *top; /* n of cap, grown by doubling */
    size_t n, cap;
    struct lr_buf *out;
};

static int room_for(struct walk *w, size_t more)
{
    size_t need, bytes, cap = w->cap ? w->cap : 32;
    LR_FAIL_IF(lr_add_over(w->n, more, &need), LR_ENOMEM);
    if (need <= w->cap)
        return 0;
    while (cap < need)
        cap *= 2; /* nodes are at most 2^32, so this cannot wrap */
    LR_FAIL_IF(lr_mul_over(cap, sizeof *w->top, &bytes), LR_ENOMEM);
    struct pending *top = lr_realloc(w->top, bytes);
    LR_FAIL_IF(!top, LR_ENOMEM);
    w->top = top;
    w->cap = cap;
    return 0;
}

/* Last name first, for the stack turns them round. */
static int by_name_down(const void *a, const void *b)
{
    const struct pending *x = a, *y = b;
    return lr_str_cmp(y->v->key, x->v->key);
}

static int push_children(struct walk *w, const struct lr_json *v)
{
    LR_TRY(room_for(w, (size_t)v->n + 1));
    w->top[w->n++] = (struct pending){.v = v, .close = true};
    if (v->n == 0)
        return 0;
    struct pending *at = w->top + w->n;
    size_t i = v->n;
    bool sorted = true;
    for (const struct lr_json *c = v->child; c; c = c->next) {
        at[--i] = (struct pending){.v = c};
        sorted = sorted && (!c->next || lr_str_cmp(c->key, c->next->key) <= 0);
    }
    if (v->type == LR_JSON_OBJECT && !sorted)
        qsort(at, v->n, sizeof *at, by_name_down);
    at[v->n - 1].first = true;
    w->n += v->n;
    return 0;
}

/* Writes a node, or its opening bracket and leaves the rest pending. */
static int write_node(struct walk *w, const struct lr_json *v)
{
    switch (v->type) {
    case LR_JSON_NULL:
        return lr_buf_addz(w->out, "null");
    case LR_JSON_FALSE:
        return lr_buf_addz(w->out, "false");
    case LR_JSON_TRUE:
        return lr_buf_addz(w->out, "true");
    case LR_JSON_NUMBER:
        return lr_json_number_canon(v->text, w->out);
    case LR_JSON_STRING:
        return lr_json_quote(w->out, v->text);
    case LR_JSON_ARRAY:
    case LR_JSON_OBJECT:
        LR_TRY(lr_buf_addc(w->out, v->type == LR_JSON_ARRAY ? '[' : '{'));
        return push_children(w, v);
    }
    return LR_EINVAL;
}

static int write_pending(struct walk *w, const struct pending *at, const struct lr_json *root)
{
    if (at->close)
        return lr_buf_addc(w->out, at->v->type == LR_JSON_ARRAY ? ']' : '}');
    /* A name is the parent's matter: the root's own is not written. */
    if (at->v != root) {
        if (!at->first)
            lr_buf_addc(w->out, ',');
        if (at->v->key.p) {
            lr_json_quote(w->out, at->v->key);
            lr_buf_addc(w->out, ':');
        }
    }
    return write_node(w, at->v);
}

int lr_json_canon(const struct lr_json *v, struct lr_buf *out)
{
    struct walk w = {.out = out};
    int rc = write_pending(&w, &(struct pending){.v = v}, v);
    while (!rc && w.n) {
        struct pending at = w.top[--w.n]; /* a copy: the stack may move */
        rc = write_pending(&w, &at, v);
    }
    lr_free(w.top);
    return rc;
}

/* ---- edits ---- */

int lr_json_edit_set(struct lr_arena *a, struct lr_str src, const struct lr_json *o,
                     const char *name, struct lr_str value_json, struct lr_json_edit *out)
{
    LR_FAIL_IF(!lr_json_is(o, LR_JSON_OBJECT), LR_EINVAL);
    const struct lr_json *old = lr_json_get(o, name);
    if (old) {
        size_t from = (size_t)(old->raw.p - src.p);
        *out = (struct lr_json_edit){from, from + old->raw.n, value_json};
        return 0;
    }
    struct lr_buf b;
    struct lr_str text;
    size_t room;
    /* A byte of a name takes at most six in quotes. */
    LR_FAIL_IF(lr_mul_over(strlen(name), 6, &room) || lr_add_over(room, value_json.n, &room) ||
                   lr_add_over(room, 8, &room),
               LR_EOVER);
    lr_buf_init(&b, room);
    if (o->n == 0)
        lr_buf_addc(&b, '{');
    lr_json_quote(&b, lr_strz(name));
    lr_buf_addc(&b, ':');
    lr_buf_adds(&b, value_json);
    lr_buf_addc(&b, o->n ? ',' : '}');
    int rc = b.rc ? b.rc : lr_arena_copy(a, lr_buf_str(&b), &text);
    lr_buf_free(&b);
    LR_TRY(rc);
    /* Behind the opening bracket. An empty object is replaced whole, so that a second such edit
     * overlaps and is refused rather than written without a comma. */
    size_t from = (size_t)(o->raw.p - src.p);
    if (o->n)
        *out = (struct lr_json_edit){from + 1, from + 1, text};
    else
        *out = (struct lr_json_edit){from, from + o->raw.n, text};
    return 0;
}

/* By `from`; equal ones stay in order, insertions among them first. */
static bool after(const struct lr_json_edit *a, const struct lr_json_edit *b)
{
    return a->from != b->from ? a->from > b->from : a->to > a->from && b->to == b->from;
}

/* Insertion sort: edits are few and mostly come in order. */
static void sort_edits(struct lr_json_edit *e, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct lr_json_edit x = e[i];
        size_t k = i;
        for (; k > 0 && after(&e[k - 1], &x); k--)
            e[k] = e[k - 1];
        e[k] = x;
    }
}

int lr_json_splice(struct lr_str src, struct lr_json_edit *edits, size_t n, struct lr_buf *out)
{
    sort_edits(edits, n);
    size_t at = 0, size = src.n;
    for (size_t i = 0; i < n; i++) {
        LR_FAIL_IF(edits[i].from < at || edits[i].to < edits[i].from || edits[i].to > src.n,
                   LR_EINVAL);
        LR_FAIL_IF(lr_add_over(size, edits[i].with.n, &size), LR_EOVER);
        at = edits[i].to;
    }
    for (size_t i = 0; i < n; i++)
        size -= edits[i].to - edits[i].from;
    LR_TRY(lr_buf_reserve(out, size));
    at = 0;
    for (size_t i = 0; i < n; i++) {
        lr_buf_add(out, src.p + at, edits[i].from - at);
        lr_buf_adds(out, edits[i].with);
        at = edits[i].to;
    }
    return src.n ? lr_buf_add(out, src.p + at, src.n - at) : out->rc;
}
