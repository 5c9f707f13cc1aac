/* SPDX-License-Identifier: Apache-2.0
 * engine/grammar_schema.c - JSON Schema into a grammar.
 *
 * What is enforced, all of it or the schema is refused by the name of the keyword:
 *
 *   type (one or several), enum, const, anyOf, oneOf (alternatives that cannot overlap), $ref within the
 *   document ("#", "#/$defs/x", "#/definitions/x", any pointer), also recursive
 *   objects   properties, required, additionalProperties (false, true, a schema)
 *   arrays    items (one schema), minItems, maxItems
 *   strings   minLength, maxLength (characters)
 *   title, description, default, examples, $schema, $id, $comment, $defs, definitions, deprecated,
 *   readOnly, writeOnly assert nothing and are passed over
 *
 * Deviations from the standard, on the side of fewer documents: without `type`, one is inferred from
 * `properties`, `items` and the like (the standard lets every other type through); integers are written
 * without a fraction; values of enum and const are written as the schema spells them, without white
 * space; beside $ref, anyOf, oneOf, enum and const only annotations and (for the last two) `type` may
 * stand. And grammar.c's general spelling of JSON.
 *
 * Compiling is a walk; $ref makes it a graph: a schema that was begun already is referred to. Afterwards
 * lr_gram_measure finds how deep the smallest instance of each node is, by repeating until nothing
 * changes; what stays infinite has no finite instance (a list whose elements need a list ..) and a
 * schema whose alternatives lead back to themselves without a value in between is refused.
 */
#include "engine/grammar_int.h"

#include <stdio.h>

#define REFS_MAX  1024u /* schemas that $ref leads to */
#define DEPTH_MAX 64u   /* schemas in schemas, between references */
#define ALTS_MAX  512u  /* alternatives, values of an enum */
#define COUNT_MAX (1u << 20)

struct ref {
    const struct lr_json *schema;
    uint32_t node; /* an ALT of one: filled in when the schema is compiled */
};

struct compiler {
    struct lr_engine_grammar *g;
    const struct lr_json *root;
    struct ref ref[REFS_MAX];
    size_t n_ref;
    unsigned depth;
    char path[100]; /* a JSON pointer, cut to fit */
    size_t n_path;
    struct lr_err *err;
};

static int compile(struct compiler *c, const struct lr_json *s, uint32_t *out);

/* ---- building ---- */

int lr_gram_grow(void **array, size_t n, size_t *cap, size_t size)
{
    size_t more = *cap ? 2 * *cap : 64;
    if (n < *cap)
        return 0;
    void *p = lr_realloc(*array, more * size);
    LR_FAIL_IF(!p, LR_ENOMEM);
    *array = p;
    *cap = more;
    return 0;
}

int lr_gram_add(struct lr_engine_grammar *g, const struct lr_gram_node *n, uint32_t *out)
{
    LR_FAIL_IF(g->n_node >= LR_ENGINE_GRAMMAR_NODES, LR_EOVER);
    LR_TRY(lr_gram_grow((void **)&g->node, g->n_node, &g->cap_node, sizeof *g->node));
    g->node[g->n_node] = *n;
    *out = (uint32_t)g->n_node++;
    return 0;
}

int lr_gram_lit(struct lr_engine_grammar *g, struct lr_str s, uint32_t *out)
{
    struct lr_gram_node n = {.kind = LR_GRAM_LIT, .from = (uint32_t)g->bytes.len, .n = (uint32_t)s.n};
    LR_TRY(lr_buf_adds(&g->bytes, s));
    return lr_gram_add(g, &n, out);
}

static int add_alt(struct lr_engine_grammar *g, const uint32_t *kid, size_t n, uint32_t *out)
{
    struct lr_gram_node alt = {.kind = LR_GRAM_ALT, .from = (uint32_t)g->n_kid, .n = (uint32_t)n};
    if (n == 1) {
        *out = kid[0];
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        LR_TRY(lr_gram_grow((void **)&g->kid, g->n_kid, &g->cap_kid, sizeof *g->kid));
        g->kid[g->n_kid++] = kid[i];
    }
    return lr_gram_add(g, &alt, out);
}

/* Node 0: made first in every grammar. */
int lr_gram_any(struct lr_engine_grammar *g, uint32_t *out)
{
    uint32_t kid[7];
    struct lr_gram_node any = {.kind = LR_GRAM_ALT, .n = LR_COUNT(kid)};
    struct lr_gram_node str = {.kind = LR_GRAM_STR, .max = LR_GRAM_NONE};
    struct lr_gram_node num = {.kind = LR_GRAM_NUM};
    struct lr_gram_node arr = {.kind = LR_GRAM_ARR, .item = 0, .max = LR_GRAM_NONE};
    struct lr_gram_node obj = {.kind = LR_GRAM_OBJ, .item = 0};
    *out = 0;
    if (g->n_node)
        return 0;
    LR_TRY(lr_gram_add(g, &any, out));
    LR_TRY(lr_gram_add(g, &str, &kid[0]));
    LR_TRY(lr_gram_add(g, &num, &kid[1]));
    LR_TRY(lr_gram_add(g, &arr, &kid[2]));
    LR_TRY(lr_gram_add(g, &obj, &kid[3]));
    LR_TRY(lr_gram_lit(g, LR_STR("true"), &kid[4]));
    LR_TRY(lr_gram_lit(g, LR_STR("false"), &kid[5]));
    LR_TRY(lr_gram_lit(g, LR_STR("null"), &kid[6]));
    for (size_t i = 0; i < LR_COUNT(kid); i++) {
        LR_TRY(lr_gram_grow((void **)&g->kid, g->n_kid, &g->cap_kid, sizeof *g->kid));
        g->kid[g->n_kid++] = kid[i];
    }
    return 0;
}

/* ---- refusals ---- */

static int refuse(struct compiler *c, int rc, const char *what, struct lr_str name)
{
    return lr_err_set(c->err, rc, c->n_path ? c->path : "#", "%s '%.*s'", what, LR_FMT(name));
}

/* One step down the path; returns what to go back to. */
static size_t enter(struct compiler *c, const char *keyword, struct lr_str name)
{
    size_t before = c->n_path, room = sizeof c->path - before;
    int n = snprintf(c->path + before, room, "%s/%s%s%.*s", before ? "" : "#", keyword,
                     name.n ? "/" : "", LR_FMT(name));
    c->n_path = n < 0 ? before : (size_t)n < room ? before + (size_t)n : sizeof c->path - 1;
    return before;
}

static void leave(struct compiler *c, size_t before)
{
    c->n_path = before;
    c->path[before] = 0;
}

/* ---- keywords ---- */

static bool one_of(struct lr_str s, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lr_str_is(s, names[i]))
            return true;
    return false;
}

static bool annotation(struct lr_str key)
{
    static const char *const names[] = {
        "title",    "description", "default", "examples",    "$schema",  "$id",
        "$comment", "$defs",       "definitions", "deprecated", "readOnly", "writeOnly",
    };
    return one_of(key, names, LR_COUNT(names));
}

static int check_keywords(struct compiler *c, const struct lr_json *s)
{
    static const char *const known[] = {
        "type",  "enum",     "const",    "anyOf",     "oneOf",     "$ref",       "properties",
        "items", "required", "minItems", "maxItems", "minLength", "maxLength", "additionalProperties",
    };
    for (const struct lr_json *m = s->child; m; m = m->next)
        if (!annotation(m->key) && !one_of(m->key, known, LR_COUNT(known)))
            return refuse(c, LR_EUNSUPPORTED, "JSON Schema keyword not supported:", m->key);
    return 0;
}

/* Only annotations, and `also`, beside `key`. */
static int check_alone(struct compiler *c, const struct lr_json *s, const char *key, const char *also)
{
    for (const struct lr_json *m = s->child; m; m = m->next)
        if (!annotation(m->key) && !lr_str_is(m->key, key) && !lr_str_is(m->key, also))
            return lr_err_set(c->err, LR_EUNSUPPORTED, c->n_path ? c->path : "#",
                              "JSON Schema keyword '%.*s' is not supported beside '%s'",
                              LR_FMT(m->key), key);
    return 0;
}

static int read_count(struct compiler *c, const struct lr_json *s, const char *key, uint32_t absent,
                      uint32_t *out)
{
    const struct lr_json *v = lr_json_get(s, key);
    uint64_t n;
    *out = absent;
    if (!v)
        return 0;
    if (!lr_json_u64(v, &n))
        return refuse(c, LR_EINVAL, "expected a count:", lr_strz(key));
    if (n > COUNT_MAX)
        return refuse(c, LR_EOVER, "too large:", lr_strz(key));
    *out = (uint32_t)n;
    return 0;
}

static int read_range(struct compiler *c, const struct lr_json *s, const char *lo, const char *hi,
                      struct lr_gram_node *n)
{
    LR_TRY(read_count(c, s, lo, 0, &n->min));
    LR_TRY(read_count(c, s, hi, LR_GRAM_NONE, &n->max));
    if (n->min > n->max)
        return refuse(c, LR_EINVAL, "nothing satisfies both bounds:", lr_strz(lo));
    return 0;
}

/* ---- enum and const ---- */

static bool is_type(const struct lr_json *v, struct lr_str type)
{
    switch (v->type) {
    case LR_JSON_NULL:
        return lr_str_is(type, "null");
    case LR_JSON_FALSE:
    case LR_JSON_TRUE:
        return lr_str_is(type, "boolean");
    case LR_JSON_NUMBER:
        return lr_str_is(type, "number") ||
               (lr_str_is(type, "integer") && !memchr(v->text.p, '.', v->text.n) &&
                !memchr(v->text.p, 'e', v->text.n) && !memchr(v->text.p, 'E', v->text.n));
    case LR_JSON_STRING:
        return lr_str_is(type, "string");
    case LR_JSON_ARRAY:
        return lr_str_is(type, "array");
    default:
        return lr_str_is(type, "object");
    }
}

/* Of one of the types that schema s allows. */
static bool type_allows(const struct lr_json *s, const struct lr_json *v)
{
    const struct lr_json *type = lr_json_get(s, "type");
    if (!type || lr_json_is(type, LR_JSON_STRING))
        return !type || is_type(v, type->text);
    for (const struct lr_json *t = type->child; t; t = t->next)
        if (is_type(v, t->text))
            return true;
    return false;
}

/* The value without white space. */
static int spell(struct lr_buf *b, const struct lr_json *v)
{
    bool object = lr_json_is(v, LR_JSON_OBJECT);
    if (lr_json_is(v, LR_JSON_STRING))
        return lr_json_quote(b, v->text);
    if (!object && !lr_json_is(v, LR_JSON_ARRAY))
        return lr_buf_adds(b, v->raw);
    LR_TRY(lr_buf_addc(b, object ? '{' : '['));
    for (const struct lr_json *m = v->child; m; m = m->next) {
        if (object) {
            LR_TRY(lr_json_quote(b, m->key));
            LR_TRY(lr_buf_addc(b, ':'));
        }
        LR_TRY(spell(b, m));
        if (m->next)
            LR_TRY(lr_buf_addc(b, ','));
    }
    return lr_buf_addc(b, object ? '}' : ']');
}

static int add_value(struct compiler *c, const struct lr_json *v, uint32_t *out)
{
    struct lr_gram_node n = {.kind = LR_GRAM_LIT, .from = (uint32_t)c->g->bytes.len};
    LR_TRY(spell(&c->g->bytes, v));
    n.n = (uint32_t)(c->g->bytes.len - n.from);
    return lr_gram_add(c->g, &n, out);
}

static int compile_enum(struct compiler *c, const struct lr_json *s, const struct lr_json *list,
                        uint32_t *out)
{
    uint32_t kid[ALTS_MAX];
    size_t n = 0;
    LR_TRY(check_alone(c, s, "enum", "type"));
    if (!lr_json_is(list, LR_JSON_ARRAY) || list->n > ALTS_MAX)
        return refuse(c, LR_EINVAL, "expected an array of at most 512 values:", LR_STR("enum"));
    for (const struct lr_json *v = list->child; v; v = v->next)
        if (type_allows(s, v))
            LR_TRY(add_value(c, v, &kid[n++]));
    if (!n)
        return refuse(c, LR_EINVAL, "no value of the type in", LR_STR("enum"));
    return add_alt(c->g, kid, n, out);
}

static int compile_const(struct compiler *c, const struct lr_json *s, const struct lr_json *v,
                         uint32_t *out)
{
    LR_TRY(check_alone(c, s, "const", "type"));
    if (!type_allows(s, v))
        return refuse(c, LR_EINVAL, "not of the schema's type:", LR_STR("const"));
    return add_value(c, v, out);
}

/* ---- $ref ---- */

/* The value a pointer within the document leads to, or NULL. ~0 and ~1 stand for ~ and /. */
static const struct lr_json *resolve(const struct lr_json *root, struct lr_str pointer)
{
    const struct lr_json *v = root;
    if (!pointer.n || *pointer.p != '#' || (pointer.n > 1 && pointer.p[1] != '/'))
        return NULL;
    struct lr_str rest = lr_str(pointer.n > 1 ? pointer.p + 2 : NULL, pointer.n > 1 ? pointer.n - 2 : 0);
    while (v && rest.p) {
        char name[256];
        size_t n = 0;
        struct lr_str raw = lr_str_cut(&rest, '/');
        for (size_t i = 0; i < raw.n; i++) {
            bool escaped = raw.p[i] == '~' && i + 1 < raw.n;
            if (n == sizeof name)
                return NULL;
            name[n++] = !escaped ? raw.p[i] : raw.p[++i] == '1' ? '/' : '~';
        }
        v = lr_json_get_str(v, lr_str(name, n));
    }
    return v;
}

static int compile_ref(struct compiler *c, const struct lr_json *s, const struct lr_json *ref,
                       uint32_t *out)
{
    LR_TRY(check_alone(c, s, "$ref", ""));
    const struct lr_json *to = lr_json_is(ref, LR_JSON_STRING) ? resolve(c->root, ref->text) : NULL;
    if (!to)
        return refuse(c, LR_EUNSUPPORTED, "$ref leads nowhere in this schema:", ref->text);
    for (size_t i = 0; i < c->n_ref; i++)
        if (c->ref[i].schema == to) {
            *out = c->ref[i].node;
            return 0;
        }
    if (c->n_ref == REFS_MAX)
        return refuse(c, LR_EOVER, "too many references:", ref->text);
    struct lr_gram_node alt = {.kind = LR_GRAM_ALT, .n = 1};
    uint32_t node, self;
    LR_TRY(lr_gram_add(c->g, &alt, &self));
    c->ref[c->n_ref++] = (struct ref){to, self};
    LR_TRY(compile(c, to, &node));
    LR_TRY(lr_gram_grow((void **)&c->g->kid, c->g->n_kid, &c->g->cap_kid, sizeof *c->g->kid));
    c->g->node[self].from = (uint32_t)c->g->n_kid;
    c->g->kid[c->g->n_kid++] = node;
    *out = self;
    return 0;
}

/* ---- anyOf and oneOf ---- */

/* Follows $ref a few steps. */
static const struct lr_json *follow(const struct compiler *c, const struct lr_json *s)
{
    for (int i = 0; i < 8; i++) {
        const struct lr_json *ref = lr_json_get(s, "$ref");
        if (!lr_json_is(ref, LR_JSON_STRING))
            break;
        s = resolve(c->root, ref->text);
    }
    return s;
}

static bool in_enum(const struct lr_json *s, const struct lr_json *v, struct lr_buf *x,
                    struct lr_buf *y)
{
    const struct lr_json *one = lr_json_get(s, "const"), *list = lr_json_get(s, "enum");
    lr_buf_reset(x);
    bool same = lr_json_canon(v, x) != 0; /* no memory: say they may be equal */
    for (const struct lr_json *w = one ? one : list ? list->child : NULL; w && !same;
         w = one ? NULL : w->next) {
        lr_buf_reset(y);
        same = lr_json_canon(w, y) || lr_str_eq(lr_buf_str(x), lr_buf_str(y));
    }
    return same;
}

/* No value is in both enums. */
static bool enums_apart(const struct lr_json *a, const struct lr_json *b)
{
    const struct lr_json *one = lr_json_get(a, "const"), *list = lr_json_get(a, "enum");
    const struct lr_json *first = one ? one : lr_json_is(list, LR_JSON_ARRAY) ? list->child : NULL;
    struct lr_buf x, y;
    bool apart = first && (lr_json_get(b, "const") || lr_json_is(lr_json_get(b, "enum"), LR_JSON_ARRAY));
    lr_buf_init(&x, LR_MIB(1));
    lr_buf_init(&y, LR_MIB(1));
    for (const struct lr_json *v = first; v && apart; v = one ? NULL : v->next)
        apart = !in_enum(b, v, &x, &y);
    lr_buf_free(&x);
    lr_buf_free(&y);
    return apart;
}

static bool one_type(const struct lr_json *s, const char *type)
{
    const struct lr_json *t = lr_json_get(s, "type");
    if (lr_json_is(t, LR_JSON_STRING))
        return lr_str_is(t->text, type);
    return !t && lr_str_is(LR_STR("object"), type) && lr_json_get(s, "properties");
}

static bool types_apart(const struct lr_json *a, const struct lr_json *b)
{
    const struct lr_json *x = lr_json_get(a, "type"), *y = lr_json_get(b, "type");
    if (!lr_json_is(x, LR_JSON_STRING) || !lr_json_is(y, LR_JSON_STRING))
        return false;
    bool num = (one_type(a, "number") && one_type(b, "integer")) ||
               (one_type(a, "integer") && one_type(b, "number"));
    return !num && !lr_str_eq(x->text, y->text);
}

static bool requires(const struct lr_json *s, struct lr_str name)
{
    const struct lr_json *list = lr_json_get(s, "required");
    for (const struct lr_json *r = list ? list->child : NULL; r; r = r->next)
        if (lr_str_eq(r->text, name))
            return true;
    return false;
}

/* No value satisfies both: other types, other values, or objects with such a required property. */
static bool apart(const struct compiler *c, const struct lr_json *a, const struct lr_json *b)
{
    a = follow(c, a);
    b = follow(c, b);
    if (types_apart(a, b) || enums_apart(a, b))
        return true;
    if (!one_type(a, "object") || !one_type(b, "object"))
        return false;
    const struct lr_json *props = lr_json_get(a, "properties");
    for (const struct lr_json *p = props ? props->child : NULL; p; p = p->next) {
        const struct lr_json *q = lr_json_get_str(lr_json_get(b, "properties"), p->key);
        if (q && requires(a, p->key) && requires(b, p->key) &&
            (types_apart(p, q) || enums_apart(p, q)))
            return true;
    }
    return false;
}

static int compile_alternatives(struct compiler *c, const struct lr_json *s, const char *key,
                                uint32_t *out)
{
    const struct lr_json *list = lr_json_get(s, key);
    uint32_t kid[ALTS_MAX];
    size_t n = 0;
    bool exclusive = lr_str_is(lr_strz(key), "oneOf");
    LR_TRY(check_alone(c, s, key, ""));
    if (!lr_json_is(list, LR_JSON_ARRAY) || !list->n || list->n > (exclusive ? 64u : ALTS_MAX))
        return refuse(c, LR_EINVAL, "expected an array of schemas, not too many:", lr_strz(key));
    for (const struct lr_json *a = list->child; a; a = a->next) {
        for (const struct lr_json *b = a->next; b && exclusive; b = b->next)
            if (!apart(c, a, b))
                return refuse(c, LR_EUNSUPPORTED, "alternatives that may overlap in", lr_strz(key));
        size_t back = enter(c, key, lr_str(NULL, 0));
        LR_TRY(compile(c, a, &kid[n++]));
        leave(c, back);
    }
    return add_alt(c->g, kid, n, out);
}

/* ---- objects ---- */

/* A property of the object under construction; its schema s may be NULL: node is given. */
struct field {
    struct lr_str name;
    uint32_t node;
    bool required;
};

static int add_prop(struct compiler *c, const struct field *f)
{
    struct lr_engine_grammar *g = c->g;
    struct lr_gram_prop p = {.from = (uint32_t)g->bytes.len, .node = f->node,
                             .required = f->required, .hash = LR_GRAM_HASH};
    LR_TRY(lr_json_quote(&g->bytes, f->name));
    p.n = (uint32_t)(g->bytes.len - p.from);
    for (size_t i = 0; i < f->name.n; i++)
        p.hash = lr_gram_hash(p.hash, (uint8_t)f->name.p[i]);
    LR_TRY(lr_gram_grow((void **)&g->prop, g->n_prop, &g->cap_prop, sizeof *g->prop));
    g->prop[g->n_prop++] = p;
    return 0;
}

static int compile_extra(struct compiler *c, const struct lr_json *s, uint32_t *out)
{
    const struct lr_json *v = lr_json_get(s, "additionalProperties");
    if (lr_json_is(v, LR_JSON_FALSE)) {
        *out = LR_GRAM_NONE;
        return 0;
    }
    if (!v)
        return lr_gram_any(c->g, out);
    size_t back = enter(c, "additionalProperties", lr_str(NULL, 0));
    LR_TRY(compile(c, v, out));
    leave(c, back);
    return 0;
}

static int read_fields(struct compiler *c, const struct lr_json *s, uint32_t extra,
                       struct field *f, uint32_t *n)
{
    const struct lr_json *props = lr_json_get(s, "properties"), *must = lr_json_get(s, "required");
    if ((props && !lr_json_is(props, LR_JSON_OBJECT)) || (must && !lr_json_is(must, LR_JSON_ARRAY)))
        return refuse(c, LR_EINVAL, "of the wrong type:",
                      lr_json_is(props, LR_JSON_OBJECT) ? must->key : LR_STR("properties"));
    for (const struct lr_json *p = props ? props->child : NULL; p; p = p->next) {
        if (*n == LR_GRAM_PROPS)
            return refuse(c, LR_EOVER, "over 256", LR_STR("properties"));
        size_t back = enter(c, "properties", p->key);
        f[*n].name = p->key;
        f[*n].required = requires(s, p->key);
        LR_TRY(compile(c, p, &f[(*n)++].node));
        leave(c, back);
    }
    for (const struct lr_json *r = must ? must->child : NULL; r; r = r->next) {
        bool known = false;
        for (uint32_t i = 0; i < *n && !known; i++)
            known = lr_str_eq(f[i].name, r->text);
        if (known)
            continue;
        if (!lr_json_is(r, LR_JSON_STRING) || extra == LR_GRAM_NONE)
            return refuse(c, LR_EINVAL, "required, and not allowed:", r->text);
        if (*n == LR_GRAM_PROPS)
            return refuse(c, LR_EOVER, "over 256", LR_STR("required"));
        f[(*n)++] = (struct field){r->text, extra, true};
    }
    return 0;
}

static int compile_object(struct compiler *c, const struct lr_json *s, uint32_t *out)
{
    struct lr_gram_node n = {.kind = LR_GRAM_OBJ};
    int rc = compile_extra(c, s, &n.item);
    LR_TRY(rc);
    struct field *f = lr_calloc(LR_GRAM_PROPS, sizeof *f);
    LR_FAIL_IF(!f, LR_ENOMEM);
    rc = read_fields(c, s, n.item, f, &n.n);
    n.from = (uint32_t)c->g->n_prop; /* after those of inner objects */
    for (uint32_t i = 0; i < n.n && !rc; i++)
        rc = add_prop(c, &f[i]);
    lr_free(f);
    LR_TRY(rc);
    for (uint32_t i = n.n, must = n.n; i-- > 0;) {
        struct lr_gram_prop *p = &c->g->prop[n.from + i];
        must = p->required ? i : must;
        p->must = must;
    }
    return lr_gram_add(c->g, &n, out);
}

static int compile_array(struct compiler *c, const struct lr_json *s, uint32_t *out)
{
    struct lr_gram_node n = {.kind = LR_GRAM_ARR};
    const struct lr_json *items = lr_json_get(s, "items");
    LR_TRY(read_range(c, s, "minItems", "maxItems", &n));
    if (lr_json_is(items, LR_JSON_ARRAY))
        return refuse(c, LR_EUNSUPPORTED, "a list of schemas is not supported in", LR_STR("items"));
    size_t back = enter(c, "items", lr_str(NULL, 0));
    LR_TRY(items ? compile(c, items, &n.item) : lr_gram_any(c->g, &n.item));
    leave(c, back);
    return lr_gram_add(c->g, &n, out);
}

/* ---- types ---- */

static int compile_bool(struct compiler *c, uint32_t *out)
{
    uint32_t kid[2];
    LR_TRY(lr_gram_lit(c->g, LR_STR("true"), &kid[0]));
    LR_TRY(lr_gram_lit(c->g, LR_STR("false"), &kid[1]));
    return add_alt(c->g, kid, 2, out);
}

static int compile_type(struct compiler *c, const struct lr_json *s, struct lr_str type,
                        uint32_t *out)
{
    struct lr_gram_node n = {.kind = LR_GRAM_NUM};
    if (lr_str_is(type, "object"))
        return compile_object(c, s, out);
    if (lr_str_is(type, "array"))
        return compile_array(c, s, out);
    if (lr_str_is(type, "boolean"))
        return compile_bool(c, out);
    if (lr_str_is(type, "null"))
        return lr_gram_lit(c->g, LR_STR("null"), out);
    if (lr_str_is(type, "string")) {
        n.kind = LR_GRAM_STR;
        LR_TRY(read_range(c, s, "minLength", "maxLength", &n));
    } else if (lr_str_is(type, "integer")) {
        n.kind = LR_GRAM_INT;
    } else if (!lr_str_is(type, "number")) {
        return refuse(c, LR_EINVAL, "no JSON type:", type);
    }
    return lr_gram_add(c->g, &n, out);
}

static const char *implied_type(const struct lr_json *s)
{
    if (lr_json_get(s, "properties") || lr_json_get(s, "required") ||
        lr_json_get(s, "additionalProperties"))
        return "object";
    if (lr_json_get(s, "items") || lr_json_get(s, "minItems") || lr_json_get(s, "maxItems"))
        return "array";
    return lr_json_get(s, "minLength") || lr_json_get(s, "maxLength") ? "string" : NULL;
}

static int compile_types(struct compiler *c, const struct lr_json *s, uint32_t *out)
{
    const struct lr_json *type = lr_json_get(s, "type");
    uint32_t kid[8];
    size_t n = 0;
    if (!type) {
        const char *implied = implied_type(s);
        return implied ? compile_type(c, s, lr_strz(implied), out) : lr_gram_any(c->g, out);
    }
    if (lr_json_is(type, LR_JSON_STRING))
        return compile_type(c, s, type->text, out);
    if (!lr_json_is(type, LR_JSON_ARRAY) || !type->n || type->n > LR_COUNT(kid))
        return refuse(c, LR_EINVAL, "expected a type or several:", LR_STR("type"));
    for (const struct lr_json *t = type->child; t; t = t->next)
        LR_TRY(compile_type(c, s, t->text, &kid[n++]));
    return add_alt(c->g, kid, n, out);
}

static int compile_schema(struct compiler *c, const struct lr_json *s, uint32_t *out)
{
    const struct lr_json *v;
    if (lr_json_is(s, LR_JSON_TRUE))
        return lr_gram_any(c->g, out);
    if (!lr_json_is(s, LR_JSON_OBJECT))
        return refuse(c, LR_EINVAL, "expected a schema, not", s->raw);
    LR_TRY(check_keywords(c, s));
    if ((v = lr_json_get(s, "$ref")))
        return compile_ref(c, s, v, out);
    if ((v = lr_json_get(s, "const")))
        return compile_const(c, s, v, out);
    if ((v = lr_json_get(s, "enum")))
        return compile_enum(c, s, v, out);
    if (lr_json_get(s, "anyOf"))
        return compile_alternatives(c, s, "anyOf", out);
    if (lr_json_get(s, "oneOf"))
        return compile_alternatives(c, s, "oneOf", out);
    return compile_types(c, s, out);
}

static int compile(struct compiler *c, const struct lr_json *s, uint32_t *out)
{
    if (c->depth == DEPTH_MAX)
        return refuse(c, LR_EOVER, "schemas nested too deeply", lr_str(NULL, 0));
    c->depth++;
    int rc = compile_schema(c, s, out);
    c->depth--;
    return rc;
}

/* ---- measuring ---- */

static uint32_t need_of(const struct lr_engine_grammar *g, const struct lr_gram_node *n)
{
    uint32_t need = 0;
    if (n->kind == LR_GRAM_ALT) {
        need = LR_GRAM_INFINITE;
        for (uint32_t i = 0; i < n->n; i++) {
            uint32_t k = g->node[g->kid[n->from + i]].need;
            need = k < need ? k : need;
        }
        return need;
    }
    if (n->kind != LR_GRAM_OBJ && n->kind != LR_GRAM_ARR)
        return 0;
    for (uint32_t i = 0; n->kind == LR_GRAM_OBJ && i < n->n; i++) {
        const struct lr_gram_prop *p = &g->prop[n->from + i];
        uint32_t k = p->required ? g->node[p->node].need : 0;
        need = k > need ? k : need;
    }
    if (n->kind == LR_GRAM_ARR && n->min)
        need = g->node[n->item].need;
    return need < LR_GRAM_INFINITE ? need + 1 : need;
}

/* Whether alternatives lead from node i back to it without a value in between: state 1 = on the way,
 * 2 = done. At most DEPTH_MAX deep for each reference. */
static bool circular(const struct lr_engine_grammar *g, uint32_t i, uint8_t *state, unsigned depth)
{
    const struct lr_gram_node *n = &g->node[i];
    if (n->kind != LR_GRAM_ALT || state[i] == 2)
        return false;
    if (state[i] == 1 || depth > 4096)
        return true;
    state[i] = 1;
    for (uint32_t k = 0; k < n->n; k++)
        if (circular(g, g->kid[n->from + k], state, depth + 1))
            return true;
    state[i] = 2;
    return false;
}

int lr_gram_measure(struct lr_engine_grammar *g, struct lr_err *err)
{
    uint8_t *state = lr_calloc(g->n_node, 1);
    bool bad = false;
    LR_FAIL_IF(!state, LR_ENOMEM);
    for (uint32_t i = 0; i < g->n_node && !bad; i++)
        bad = circular(g, i, state, 0);
    lr_free(state);
    if (bad)
        return lr_err_set(err, LR_EINVAL, "#", "a schema refers to itself and nothing else");
    for (size_t i = 0; i < g->n_node; i++)
        g->node[i].need = LR_GRAM_INFINITE;
    for (bool again = true; again;) { /* falls only, and below INFINITE never again: ends */
        again = false;
        for (size_t i = 0; i < g->n_node; i++) {
            uint32_t need = need_of(g, &g->node[i]);
            again |= need != g->node[i].need;
            g->node[i].need = need;
        }
    }
    uint32_t need = g->node[g->root].need;
    if (need == LR_GRAM_INFINITE)
        return lr_err_set(err, LR_EINVAL, "#", "no finite document satisfies the schema");
    if (need > LR_ENGINE_GRAMMAR_DEPTH)
        return lr_err_set(err, LR_EOVER, "#", "documents nest %u deep, at most %u do", need,
                          LR_ENGINE_GRAMMAR_DEPTH);
    return 0;
}

/* ---- the doors ---- */

void lr_engine_grammar_close(struct lr_engine_grammar *g)
{
    if (!g)
        return;
    lr_free(g->node);
    lr_free(g->prop);
    lr_free(g->kid);
    lr_buf_free(&g->bytes);
    lr_free(g);
}

static struct lr_engine_grammar *new_grammar(void)
{
    struct lr_engine_grammar *g = lr_new(struct lr_engine_grammar);
    uint32_t any;
    if (!g)
        return NULL;
    lr_buf_init(&g->bytes, LR_MIB(4));
    if (lr_gram_any(g, &any)) {
        lr_engine_grammar_close(g);
        return NULL;
    }
    return g;
}

int lr_engine_grammar_object(struct lr_engine_grammar **out)
{
    struct lr_engine_grammar *g = new_grammar();
    LR_FAIL_IF(!g, LR_ENOMEM);
    struct lr_gram_node n = {.kind = LR_GRAM_OBJ, .item = 0};
    int rc = lr_gram_add(g, &n, &g->root);
    if (!rc)
        rc = lr_gram_measure(g, NULL);
    if (rc)
        lr_engine_grammar_close(g);
    else
        *out = g;
    return rc;
}

int lr_engine_grammar_schema(struct lr_engine_grammar **out, const struct lr_json *schema,
                             struct lr_err *err)
{
    struct compiler *c = lr_new(struct compiler);
    struct lr_engine_grammar *g = c ? new_grammar() : NULL;
    int rc = LR_ENOMEM;
    if (!g)
        goto undo_compiler;
    c->g = g;
    c->root = schema;
    c->err = err;
    rc = compile(c, schema, &g->root);
    if (rc == LR_EOVER)
        rc = lr_err_set(err, rc, "#", "the schema is too large");
    if (!rc)
        rc = lr_gram_measure(g, err);
    if (rc)
        lr_engine_grammar_close(g);
    else
        *out = g;
undo_compiler:
    lr_free(c);
    return rc;
}
