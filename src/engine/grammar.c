/* SPDX-License-Identifier: Apache-2.0
 * engine/grammar.c - constrained JSON: a pushdown automaton over bytes.
 *
 * A grammar is a graph of nodes, one a kind of value. A document in the making is a set of readings
 * ("threads"): alternatives of a schema (anyOf, several optional properties) may agree for a while.
 *
 *   thread -> node "STR", 3 characters so far
 *      up -> frame: node "OBJ", expects , or } next
 *              up -> frame: node "ARR", 2 elements so far
 *
 * Frames are immutable and shared: a push appends one, a pop copies it back into the thread. So a set of
 * threads can be kept while hundreds of thousands of tokens are tried on it: trying appends, going back
 * cuts (see grammar_mask.c). What a finished token left behind is compacted away now and then.
 *
 * It never paints itself into a corner. Every node knows how many containers its smallest instance nests
 * (`need`); a container, a key or a comma is allowed only if what it asks for still fits below
 * LR_ENGINE_GRAMMAR_DEPTH. So from each state some sequence of bytes completes the document, and where
 * only closing is left, the mask allows only that. (Strings and arrays without a maximum can go on for
 * ever if the model wants to; max_tokens ends them, and that answer says "length".)
 *
 * What is generated is a stated part of JSON, the same for every schema:
 *   - between tokens of JSON (not around the document, not before a colon) nothing, or white space: at
 *     most one line break first and 32 characters in all
 *   - declared properties in the schema's order, then undeclared ones; no key twice; undeclared keys
 *     without escapes, at most 1024 of an object
 *   - strings in UTF-8; \uXXXX but for surrogates, which are not needed
 *   - integers of up to 18 digits; numbers with up to 15 digits on either side of the point and
 *     exponents of up to 2 digits: they survive a double
 *
 * Keys are told apart by a 64-bit hash: equal keys are always refused, two others once in 2^64.
 * More than LR_GRAM_THREADS readings at a time are cut to that many: fewer documents, never wrong ones.
 *
 * Dropped: regular expressions per schema (no nesting), a deterministic table (alternatives explode).
 * Sources: Willard and Louf, Efficient Guided Generation (2023); Dong et al., XGrammar (2024) for
 * sharing stacks. Not taken from there: classes of tokens precomputed per automaton state; strings,
 * where nearly all time would go, have a table of their own instead.
 */
#include "engine/grammar_int.h"

enum { /* strings */ S_OPEN, S_BODY, S_ESC, S_HEX };
enum { /* numbers */ N_OPEN, N_MINUS, N_ZERO, N_INT, N_DOT, N_FRAC, N_E, N_ESIGN, N_EXP };
enum { /* objects */ O_OPEN, O_FIRST, O_NEXT, O_NAME, O_FREE, O_COLON, O_VALUE, O_AFTER };
enum { /* arrays */ A_OPEN, A_FIRST, A_NEXT, A_AFTER };

#define BLANKS 32u /* white space between tokens of JSON */
#define INT_DIGITS 18u
#define NUM_DIGITS 15u

static void step(struct lr_engine_parse *p, struct lr_gram_thread t, uint8_t c);

/* ---- threads and frames ---- */

static void emit(struct lr_engine_parse *p, const struct lr_gram_thread *t)
{
    if (p->n_thread - p->from >= LR_GRAM_THREADS)
        return;
    for (size_t i = p->from; i < p->n_thread; i++) {
        const struct lr_gram_thread *o = &p->thread[i];
        if (o->up == t->up && o->node == t->node && o->st == t->st && o->ws == t->ws &&
            o->depth == t->depth && o->x == t->x && o->a == t->a && o->b == t->b && o->h == t->h &&
            o->keys == t->keys)
            return;
    }
    if (lr_gram_grow((void **)&p->thread, p->n_thread, &p->cap_thread, sizeof *p->thread)) {
        p->rc = LR_ENOMEM;
        return;
    }
    p->thread[p->n_thread++] = *t;
}

/* The value is complete: on with what is around it. */
static struct lr_gram_thread popped(const struct lr_engine_parse *p, const struct lr_gram_thread *t)
{
    if (t->up == LR_GRAM_NONE)
        return (struct lr_gram_thread){.up = LR_GRAM_NONE, .node = LR_GRAM_NONE};
    return p->frame[t->up];
}

static void pop(struct lr_engine_parse *p, const struct lr_gram_thread *t)
{
    struct lr_gram_thread up = popped(p, t);
    emit(p, &up);
}

/* c begins a value of `node` inside t, which has moved on to what comes after it. */
static void push(struct lr_engine_parse *p, const struct lr_gram_thread *t, uint32_t node, uint8_t c)
{
    size_t threads = p->n_thread, frames = p->n_frame;
    if (frames >= LR_GRAM_FRAMES ||
        lr_gram_grow((void **)&p->frame, frames, &p->cap_frame, sizeof *p->frame)) {
        p->rc = LR_ENOMEM;
        return;
    }
    p->frame[p->n_frame++] = *t;
    step(p,
         (struct lr_gram_thread){.up = (uint32_t)frames, .node = node, .depth = t->depth,
                                 .keys = LR_GRAM_NONE},
         c);
    if (p->n_thread == threads)
        p->n_frame = frames; /* nobody refers to it */
}

/* White space where it may be; true: c was that. */
static bool gap(struct lr_engine_parse *p, struct lr_gram_thread t, uint8_t c)
{
    if ((c != ' ' && c != '\n') || t.ws >= BLANKS || (c == '\n' && t.ws))
        return false;
    t.ws++;
    emit(p, &t);
    return true;
}

static void go(struct lr_engine_parse *p, struct lr_gram_thread t, uint8_t st)
{
    t.st = st;
    t.ws = 0;
    emit(p, &t);
}

/* ---- strings ---- */

/* A byte of UTF-8 text; x: bytes of the character still to come, b: bounds of the next one. false:
 * malformed. */
static bool text_byte(struct lr_gram_thread *t, uint8_t c)
{
    if (t->x) {
        if (c < (t->b >> 8) || c > (t->b & 0xFF))
            return false;
        t->x--;
        t->b = t->x ? 0x80BF : 0;
        return true;
    }
    if (c < 0x80)
        return c >= 0x20;
    if (c < 0xC2 || c > 0xF4)
        return false;
    t->x = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    t->b = c == 0xE0 ? 0xA0BF : c == 0xED ? 0x809F : c == 0xF0 ? 0x90BF : c == 0xF4 ? 0x808F : 0x80BF;
    return true;
}

/* One more character fits; counts it where counting matters. */
static bool count_char(const struct lr_gram_node *n, struct lr_gram_thread *t)
{
    if (n->max != LR_GRAM_NONE && t->a >= n->max)
        return false;
    if (n->max != LR_GRAM_NONE || t->a < n->min)
        t->a++;
    return true;
}

static void step_hex(struct lr_engine_parse *p, struct lr_gram_thread t, uint8_t c)
{
    bool digit = c >= '0' && c <= '9';
    uint8_t low = c | 0x20;
    if (!digit && !(low >= 'a' && low <= 'f'))
        return;
    if (t.x == 3 && t.b && !(digit && c <= '7'))
        return; /* a surrogate */
    t.b = t.x == 4 && low == 'd';
    if (--t.x == 0)
        t.st = S_BODY;
    t.b = t.x ? t.b : 0;
    emit(p, &t);
}

static void step_str(struct lr_engine_parse *p, const struct lr_gram_node *n,
                     struct lr_gram_thread t, uint8_t c)
{
    if (t.st == S_OPEN) {
        if (c == '"')
            go(p, t, S_BODY);
    } else if (t.st == S_HEX) {
        step_hex(p, t, c);
    } else if (t.st == S_ESC) {
        t.st = c == 'u' ? S_HEX : S_BODY;
        t.x = c == 'u' ? 4 : 0;
        if (c && strchr("\"\\/bfnrtu", c))
            emit(p, &t);
    } else if (!t.x && c == '"') {
        if (t.a >= n->min)
            pop(p, &t);
    } else if (!t.x && c == '\\') {
        t.st = S_ESC;
        if (count_char(n, &t))
            emit(p, &t);
    } else {
        bool lead = !t.x;
        if (text_byte(&t, c) && (!lead || count_char(n, &t)))
            emit(p, &t);
    }
}

/* ---- numbers ---- */

static bool number_ends(const struct lr_gram_thread *t)
{
    return t->st == N_ZERO || t->st == N_INT || t->st == N_FRAC || t->st == N_EXP;
}

/* The state after a digit, or -1. a counts the digits of the part. */
static int digit(struct lr_gram_thread *t, uint8_t c, bool integer)
{
    switch (t->st) {
    case N_OPEN:
    case N_MINUS:
        t->a = 1;
        return c == '0' ? N_ZERO : N_INT;
    case N_INT:
        return t->a++ < (integer ? INT_DIGITS : NUM_DIGITS) ? N_INT : -1;
    case N_DOT:
        t->a = 1;
        return N_FRAC;
    case N_FRAC:
        return t->a++ < NUM_DIGITS ? N_FRAC : -1;
    case N_E:
    case N_ESIGN:
        t->a = 1;
        return N_EXP;
    case N_EXP:
        return t->a++ < 2 ? N_EXP : -1;
    default:
        return -1;
    }
}

static void step_num(struct lr_engine_parse *p, bool integer, struct lr_gram_thread t, uint8_t c)
{
    int st = -1;
    bool whole = t.st == N_ZERO || t.st == N_INT;
    if (c >= '0' && c <= '9')
        st = digit(&t, c, integer);
    else if (c == '-' && t.st == N_OPEN)
        st = N_MINUS;
    else if (c == '.' && whole && !integer)
        st = N_DOT;
    else if ((c == 'e' || c == 'E') && (whole || t.st == N_FRAC) && !integer)
        st = N_E;
    else if ((c == '+' || c == '-') && t.st == N_E)
        st = N_ESIGN;
    else if (number_ends(&t) && t.up != LR_GRAM_NONE)
        step(p, popped(p, &t), c); /* what follows ends it */
    if (st >= 0) {
        t.st = (uint8_t)st;
        t.a = st == N_E ? 0 : t.a;
        emit(p, &t);
    }
}

/* ---- objects ---- */

static bool fits(const struct lr_engine_parse *p, const struct lr_gram_thread *t, uint32_t node)
{
    return t->depth + p->g->node[node].need <= LR_ENGINE_GRAMMAR_DEPTH;
}

/* Index of the first required property from t's place on; n->n: none. */
static uint32_t must(const struct lr_engine_parse *p, const struct lr_gram_node *n,
                     const struct lr_gram_thread *t)
{
    return t->a < n->n ? p->g->prop[n->from + t->a].must : n->n;
}

static bool free_key_fits(const struct lr_engine_parse *p, const struct lr_gram_node *n,
                          const struct lr_gram_thread *t)
{
    return must(p, n, t) == n->n && n->item != LR_GRAM_NONE && t->n_keys < LR_GRAM_KEYS &&
           fits(p, t, n->item);
}

/* Some key may come. */
static bool key_fits(const struct lr_engine_parse *p, const struct lr_gram_node *n,
                     const struct lr_gram_thread *t)
{
    for (uint32_t i = t->a, last = must(p, n, t); i < n->n && i <= last; i++)
        if (fits(p, t, p->g->prop[n->from + i].node))
            return true;
    return free_key_fits(p, n, t);
}

static void open_key(struct lr_engine_parse *p, const struct lr_gram_node *n,
                     struct lr_gram_thread t)
{
    t.ws = 0;
    for (uint32_t i = t.a, last = must(p, n, &t); i < n->n && i <= last; i++) {
        if (!fits(p, &t, p->g->prop[n->from + i].node))
            continue;
        t.st = O_NAME;
        t.b = i;
        t.h = 1; /* the quote is behind us */
        emit(p, &t);
    }
    if (free_key_fits(p, n, &t)) {
        t.st = O_FREE;
        t.a = n->n;
        t.b = 0;
        t.h = LR_GRAM_HASH;
        emit(p, &t);
    }
}

static bool key_seen(const struct lr_engine_parse *p, const struct lr_gram_node *n,
                     const struct lr_gram_thread *t)
{
    for (uint32_t i = 0; i < n->n; i++)
        if (p->g->prop[n->from + i].hash == t->h)
            return true;
    for (uint32_t k = t->keys; k != LR_GRAM_NONE; k = p->key[k].prev)
        if (p->key[k].hash == t->h)
            return true;
    return false;
}

static void step_free_key(struct lr_engine_parse *p, const struct lr_gram_node *n,
                          struct lr_gram_thread t, uint8_t c)
{
    if (t.x || c != '"') {
        t.h = lr_gram_hash(t.h, c);
        if (c != '\\' && text_byte(&t, c))
            emit(p, &t);
        return;
    }
    if (key_seen(p, n, &t))
        return;
    if (p->n_key >= LR_GRAM_FRAMES ||
        lr_gram_grow((void **)&p->key, p->n_key, &p->cap_key, sizeof *p->key)) {
        p->rc = LR_ENOMEM;
        return;
    }
    p->key[p->n_key] = (struct lr_gram_key){.prev = t.keys, .hash = t.h};
    t.keys = (uint32_t)p->n_key++;
    t.n_keys++;
    t.b = n->n; /* undeclared */
    t.h = 0;
    go(p, t, O_COLON);
}

static void step_name(struct lr_engine_parse *p, const struct lr_gram_node *n,
                      struct lr_gram_thread t, uint8_t c)
{
    const struct lr_gram_prop *q = &p->g->prop[n->from + t.b];
    if ((uint8_t)p->g->bytes.p[q->from + t.h] != c)
        return;
    if (++t.h < q->n) {
        emit(p, &t);
        return;
    }
    t.h = 0;
    go(p, t, O_COLON);
}

static void step_obj(struct lr_engine_parse *p, const struct lr_gram_node *n,
                     struct lr_gram_thread t, uint8_t c)
{
    switch (t.st) {
    case O_OPEN:
        if (c != '{' || !fits(p, &t, t.node))
            return;
        t.depth++;
        go(p, t, O_FIRST);
        return;
    case O_NAME:
        step_name(p, n, t, c);
        return;
    case O_FREE:
        step_free_key(p, n, t, c);
        return;
    case O_COLON:
        if (c == ':')
            go(p, t, O_VALUE);
        return;
    case O_VALUE:
        if (gap(p, t, c))
            return;
        uint32_t node = t.b < n->n ? p->g->prop[n->from + t.b].node : n->item;
        t.a = t.b < n->n ? t.b + 1 : n->n;
        t.b = 0;
        t.ws = 0;
        t.st = O_AFTER;
        push(p, &t, node, c);
        return;
    default: /* O_FIRST, O_NEXT, O_AFTER */
        if (gap(p, t, c))
            return;
        if (c == '}' && t.st != O_NEXT && must(p, n, &t) == n->n)
            pop(p, &t);
        else if (c == '"' && t.st != O_AFTER)
            open_key(p, n, t);
        else if (c == ',' && t.st == O_AFTER && key_fits(p, n, &t))
            go(p, t, O_NEXT);
    }
}

/* ---- arrays ---- */

static void step_arr(struct lr_engine_parse *p, const struct lr_gram_node *n,
                     struct lr_gram_thread t, uint8_t c)
{
    if (t.st == A_OPEN) {
        if (c != '[' || !fits(p, &t, t.node))
            return;
        t.depth++;
        go(p, t, A_FIRST);
        return;
    }
    if (gap(p, t, c))
        return;
    bool room = n->item != LR_GRAM_NONE && (n->max == LR_GRAM_NONE || t.a < n->max) &&
                fits(p, &t, n->item);
    if (c == ']' && t.st != A_NEXT) {
        if (t.a >= n->min)
            pop(p, &t);
    } else if (t.st == A_AFTER) {
        if (c == ',' && room)
            go(p, t, A_NEXT);
    } else if (room) {
        t.a += n->max != LR_GRAM_NONE || t.a < n->min;
        t.ws = 0;
        t.st = A_AFTER;
        push(p, &t, n->item, c);
    }
}

/* ---- a step ---- */

static void step_lit(struct lr_engine_parse *p, const struct lr_gram_node *n,
                     struct lr_gram_thread t, uint8_t c)
{
    if ((uint8_t)p->g->bytes.p[n->from + t.a] != c)
        return;
    if (++t.a < n->n)
        emit(p, &t);
    else
        pop(p, &t);
}

static void step(struct lr_engine_parse *p, struct lr_gram_thread t, uint8_t c)
{
    if (t.node == LR_GRAM_NONE)
        return; /* nothing follows the document */
    const struct lr_gram_node *n = &p->g->node[t.node];
    switch (n->kind) {
    case LR_GRAM_ALT: /* no cycles: lr_gram_measure */
        for (uint32_t i = 0; i < n->n; i++) {
            struct lr_gram_thread k = t;
            k.node = p->g->kid[n->from + i];
            step(p, k, c);
        }
        return;
    case LR_GRAM_LIT:
        step_lit(p, n, t, c);
        return;
    case LR_GRAM_STR:
        step_str(p, n, t, c);
        return;
    case LR_GRAM_NUM:
    case LR_GRAM_INT:
        step_num(p, n->kind == LR_GRAM_INT, t, c);
        return;
    case LR_GRAM_OBJ:
        step_obj(p, n, t, c);
        return;
    default:
        step_arr(p, n, t, c);
    }
}

bool lr_gram_step(struct lr_engine_parse *p, const struct lr_gram_level *in, uint8_t c,
                  struct lr_gram_level *out)
{
    p->n_thread = p->from = in->from + in->n;
    p->n_frame = in->frames;
    p->n_key = in->keys;
    for (size_t i = 0; i < in->n; i++) {
        struct lr_gram_thread t = p->thread[in->from + i]; /* the array may move */
        step(p, t, c);
    }
    *out = (struct lr_gram_level){p->from, p->n_thread - p->from, p->n_frame, p->n_key};
    return !p->rc && out->n;
}

bool lr_gram_in_text(const struct lr_engine_parse *p, const struct lr_gram_thread *t, uint32_t *room)
{
    if (t->node == LR_GRAM_NONE || t->x)
        return false;
    const struct lr_gram_node *n = &p->g->node[t->node];
    *room = LR_GRAM_NONE;
    if (n->kind == LR_GRAM_OBJ)
        return t->st == O_FREE;
    if (n->kind == LR_GRAM_STR && n->max != LR_GRAM_NONE)
        *room = n->max - t->a;
    return n->kind == LR_GRAM_STR && t->st == S_BODY;
}

/* ---- documents ---- */

int lr_engine_parse_open(struct lr_engine_parse **out, const struct lr_engine_grammar *g)
{
    struct lr_engine_parse *p = lr_new(struct lr_engine_parse);
    LR_FAIL_IF(!p, LR_ENOMEM);
    p->g = g;
    emit(p, &(struct lr_gram_thread){.up = LR_GRAM_NONE, .node = g->root, .keys = LR_GRAM_NONE});
    if (p->rc) {
        lr_engine_parse_close(p);
        return LR_ENOMEM;
    }
    p->n_now = 1;
    *out = p;
    return 0;
}

void lr_engine_parse_close(struct lr_engine_parse *p)
{
    if (!p)
        return;
    lr_free(p->frame);
    lr_free(p->key);
    lr_free(p->thread);
    lr_free(p->level);
    lr_free(p);
}

int lr_gram_levels(struct lr_engine_parse *p, size_t depth)
{
    if (p->cap_level < depth + 1) {
        struct lr_gram_level *l = lr_realloc(p->level, (depth + 1) * sizeof *l);
        LR_FAIL_IF(!l, LR_ENOMEM);
        p->level = l;
        p->cap_level = depth + 1;
    }
    p->rc = 0;
    p->level[0] = (struct lr_gram_level){0, p->n_now, p->n_frame, p->n_key};
    return 0;
}

/* Forgets frames and keys that no thread refers to, if there is memory for marks. References go down
 * only, so what stays keeps its order. */
static void compact(struct lr_engine_parse *p)
{
    uint32_t *frame = lr_calloc(p->n_frame + 1, sizeof *frame);
    uint32_t *key = lr_calloc(p->n_key + 1, sizeof *key);
    size_t n_frame = 0, n_key = 0;
    if (!frame || !key) {
        lr_free(frame);
        lr_free(key);
        return;
    }
    for (size_t i = 0; i < p->n_now; i++)
        for (uint32_t f = p->thread[i].up; f != LR_GRAM_NONE && !frame[f]; f = p->frame[f].up)
            frame[f] = 1;
    for (size_t i = 0; i < p->n_now + p->n_frame; i++) {
        if (i >= p->n_now && !frame[i - p->n_now])
            continue;
        const struct lr_gram_thread *t = i < p->n_now ? &p->thread[i] : &p->frame[i - p->n_now];
        for (uint32_t k = t->keys; k != LR_GRAM_NONE && !key[k]; k = p->key[k].prev)
            key[k] = 1;
    }
    for (size_t k = 0; k < p->n_key; k++)
        if (key[k]) {
            uint32_t prev = p->key[k].prev;
            key[k] = (uint32_t)n_key;
            p->key[n_key] = p->key[k];
            p->key[n_key++].prev = prev == LR_GRAM_NONE ? prev : key[prev];
        }
    for (size_t f = 0; f < p->n_frame; f++)
        if (frame[f]) {
            struct lr_gram_thread t = p->frame[f];
            frame[f] = (uint32_t)n_frame;
            t.up = t.up == LR_GRAM_NONE ? t.up : frame[t.up];
            t.keys = t.keys == LR_GRAM_NONE ? t.keys : key[t.keys];
            p->frame[n_frame++] = t;
        }
    for (size_t i = 0; i < p->n_now; i++) {
        struct lr_gram_thread *t = &p->thread[i];
        t->up = t->up == LR_GRAM_NONE ? t->up : frame[t->up];
        t->keys = t->keys == LR_GRAM_NONE ? t->keys : key[t->keys];
    }
    p->n_frame = n_frame;
    p->n_key = n_key;
    lr_free(frame);
    lr_free(key);
}

int lr_engine_parse_feed(struct lr_engine_parse *p, struct lr_str bytes)
{
    LR_TRY(lr_gram_levels(p, 1));
    struct lr_gram_level first = p->level[0], at = first;
    for (size_t i = 0; i < bytes.n; i++) {
        struct lr_gram_level next;
        bool fine = lr_gram_step(p, &at, (uint8_t)bytes.p[i], &next);
        if (!fine) {
            p->n_thread = p->n_now;
            p->n_frame = first.frames;
            p->n_key = first.keys;
            return p->rc ? p->rc : LR_EINVAL;
        }
        if (at.from) { /* levels between are needed no more */
            memmove(p->thread + at.from, p->thread + next.from, next.n * sizeof *p->thread);
            next.from = at.from;
        }
        at = next;
    }
    memmove(p->thread, p->thread + at.from, at.n * sizeof *p->thread);
    p->n_now = p->n_thread = at.n;
    p->n_frame = at.frames;
    p->n_key = at.keys;
    if (p->n_frame + p->n_key > 1024)
        compact(p); /* it only saves memory: without, the next token tries again */
    return 0;
}

static bool over(const struct lr_engine_parse *p, const struct lr_gram_thread *t)
{
    if (t->node == LR_GRAM_NONE)
        return true;
    enum lr_gram_kind kind = p->g->node[t->node].kind;
    return t->up == LR_GRAM_NONE && (kind == LR_GRAM_NUM || kind == LR_GRAM_INT) && number_ends(t);
}

bool lr_engine_parse_complete(const struct lr_engine_parse *p)
{
    for (size_t i = 0; i < p->n_now; i++)
        if (over(p, &p->thread[i]))
            return true;
    return false;
}

bool lr_engine_parse_closed(const struct lr_engine_parse *p)
{
    for (size_t i = 0; i < p->n_now; i++)
        if (p->thread[i].node != LR_GRAM_NONE)
            return false;
    return true;
}
