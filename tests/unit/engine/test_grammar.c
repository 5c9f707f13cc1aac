/* SPDX-License-Identifier: Apache-2.0
 * unit/engine/test_grammar.c - constrained JSON against a validator that walks schema and value.
 *
 * Two directions: documents written by drawing random allowed tokens parse and validate; random valid
 * instances, in the grammar's spelling, are accepted byte by byte.
 */
#include "chat_kit.h"

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"}},"
    "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\"},\"ab\":{\"type\":\"boolean\"},"
    "\"abc\":{\"type\":[\"string\",\"null\"]}},\"required\":[\"ab\"]}",
    "{\"type\":\"array\",\"items\":{\"enum\":[1,\"one\",null,[1,2],{\"x\":true}]},\"minItems\":1,"
    "\"maxItems\":4}",
    "{\"type\":\"string\",\"minLength\":2,\"maxLength\":5}",
    "{\"type\":\"number\"}",
    "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"v\"}},"
    "\"required\":[\"k\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"integer\"}},"
    "\"required\":[\"k\"],\"additionalProperties\":{\"type\":\"string\",\"maxLength\":3}}]}",
    "{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{"
    "\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/node\"}]}},\"required\":[\"v\",\"next\"],"
    "\"additionalProperties\":false}},\"$ref\":\"#/$defs/node\"}",
    "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":\"string\"}},"
    "\"required\":[\"t\"]},{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":"
    "[\"t\"],\"additionalProperties\":{\"type\":\"array\"}},{\"type\":\"null\"}]}",
    "{\"properties\":{\"\\u00e9 \\\"q\\\"\":{\"type\":\"array\",\"maxItems\":2}},\"required\":[\"z\"]}",
};

/* ---- the twin: does v satisfy schema s ---- */

static bool valid(const struct lr_json *root, const struct lr_json *s, const struct lr_json *v);

static bool has_type(const struct lr_json *v, struct lr_str t)
{
    static const char *const names[] = {[LR_JSON_NULL] = "null",     [LR_JSON_FALSE] = "boolean",
                                        [LR_JSON_TRUE] = "boolean",  [LR_JSON_NUMBER] = "number",
                                        [LR_JSON_STRING] = "string", [LR_JSON_ARRAY] = "array",
                                        [LR_JSON_OBJECT] = "object"};
    double d;
    if (lr_str_is(t, "integer"))
        return v->type == LR_JSON_NUMBER && lr_json_real(v, &d) && d == floor(d);
    return lr_str_is(t, names[v->type]);
}

static bool equal(const struct lr_json *a, const struct lr_json *b)
{
    struct lr_buf x, y;
    lr_buf_init(&x, LR_MIB(1));
    lr_buf_init(&y, LR_MIB(1));
    assert_int_equal(lr_json_canon(a, &x) | lr_json_canon(b, &y), 0);
    bool same = lr_str_eq(lr_buf_str(&x), lr_buf_str(&y));
    lr_buf_free(&x);
    lr_buf_free(&y);
    return same;
}

static size_t count_of(const struct lr_json *s, const char *key, size_t absent)
{
    uint64_t n;
    return lr_json_u64(lr_json_get(s, key), &n) ? (size_t)n : absent;
}

static bool valid_object(const struct lr_json *root, const struct lr_json *s, const struct lr_json *v)
{
    const struct lr_json *props = lr_json_get(s, "properties"), *must = lr_json_get(s, "required"),
                         *extra = lr_json_get(s, "additionalProperties");
    for (const struct lr_json *r = must ? must->child : NULL; r; r = r->next)
        if (!lr_json_get_str(v, r->text))
            return false;
    for (const struct lr_json *m = v->child; m; m = m->next) {
        const struct lr_json *p = lr_json_get_str(props, m->key);
        if (!valid(root, p ? p : extra, m))
            return false;
    }
    return true;
}

static bool valid_array(const struct lr_json *root, const struct lr_json *s, const struct lr_json *v)
{
    if (v->n < count_of(s, "minItems", 0) || v->n > count_of(s, "maxItems", SIZE_MAX))
        return false;
    for (const struct lr_json *m = v->child; m; m = m->next)
        if (!valid(root, lr_json_get(s, "items"), m))
            return false;
    return true;
}

static bool valid_string(const struct lr_json *s, const struct lr_json *v)
{
    size_t chars = 0;
    for (size_t i = 0; i < v->text.n; i++)
        chars += ((uint8_t)v->text.p[i] & 0xC0) != 0x80;
    return chars >= count_of(s, "minLength", 0) && chars <= count_of(s, "maxLength", SIZE_MAX);
}

static bool valid(const struct lr_json *root, const struct lr_json *s, const struct lr_json *v)
{
    const struct lr_json *k;
    unsigned n = 0;
    if (!s || lr_json_is(s, LR_JSON_TRUE))
        return true;
    if (lr_json_is(s, LR_JSON_FALSE))
        return false;
    if ((k = lr_json_get(s, "$ref"))) /* the tests' only one */
        return valid(root, lr_json_get(lr_json_get(root, "$defs"), "node"), v);
    if ((k = lr_json_get(s, "const")) && !equal(k, v))
        return false;
    if ((k = lr_json_get(s, "enum"))) {
        for (const struct lr_json *e = k->child; e; e = e->next)
            n += equal(e, v);
        return n > 0;
    }
    if ((k = lr_json_get(s, "anyOf")) || (k = lr_json_get(s, "oneOf"))) {
        for (const struct lr_json *e = k->child; e; e = e->next)
            n += valid(root, e, v);
        return lr_json_get(s, "anyOf") ? n > 0 : n == 1;
    }
    if ((k = lr_json_get(s, "type"))) {
        bool fine = lr_json_is(k, LR_JSON_STRING) && has_type(v, k->text);
        for (const struct lr_json *t = k->child; t; t = t->next)
            fine |= has_type(v, t->text);
        if (!fine)
            return false;
    }
    return v->type == LR_JSON_OBJECT   ? valid_object(root, s, v)
           : v->type == LR_JSON_ARRAY  ? valid_array(root, s, v)
           : v->type == LR_JSON_STRING ? valid_string(s, v)
                                       : true;
}

/* ---- drawing documents ---- */

static struct lr_engine_grammar *compile(const struct lr_json *s)
{
    struct lr_engine_grammar *g = NULL;
    struct lr_err err = {0};
    if (lr_engine_grammar_schema(&g, s, &err))
        fail_msg("%.*s: %s at %s", LR_FMT(s->raw), err.msg, err.where);
    return g;
}

static struct lr_nn_tok *wordy_tok(void)
{
    static const struct lr_str words[] = {
        LR_STR("\""),     LR_STR("{"),     LR_STR("}"),     LR_STR("{\""),  LR_STR("\":"),
        LR_STR("\",\""),  LR_STR("},{"),   LR_STR("true"),  LR_STR("1"),    LR_STR("12"),
        LR_STR("name"),   LR_STR("abc"),   LR_STR("\"}]}"), LR_STR("é"),    LR_STR("漢字x"),
        LR_STR("\\n"),    LR_STR("\\u"),   LR_STR("00"),    LR_STR("null,"), LR_STR("[["),
        LR_STR("]]"),     LR_STR("\",\n"), LR_STR(".5e"),   LR_STR("hello"), LR_STR("ab\":"),
        LR_STR("next\":"), LR_STR("\",\"next\":null}"),
    };
    return kit_tok(words, LR_COUNT(words));
}

static bool bit(const uint64_t *mask, uint32_t id)
{
    return mask[id / 64] >> (id % 64) & 1;
}

/* The mask the slow way: every token is tried. */
static void slow_mask(struct lr_engine_parse *p, const struct lr_nn_tok *tok, const uint64_t *mask,
                      struct lr_str so_far, const struct lr_engine_grammar *g)
{
    for (uint32_t id = 0; id < lr_nn_tok_size(tok); id++) {
        struct lr_engine_parse *q;
        struct lr_str s = lr_nn_tok_bytes(tok, id);
        enum lr_nn_token_type type = lr_nn_tok_type(tok, id);
        assert_int_equal(lr_engine_parse_open(&q, g), 0);
        assert_int_equal(lr_engine_parse_feed(q, so_far), 0);
        bool want = type != LR_NN_TOKEN_CONTROL && s.n && lr_engine_parse_feed(q, s) == 0;
        if (lr_nn_tok_ends(tok, id))
            want = lr_engine_parse_complete(p);
        lr_engine_parse_close(q);
        if (bit(mask, id) != want)
            fail_msg("after '%.*s' token %u '%.*s' is %s", LR_FMT(so_far), id, LR_FMT(s),
                     want ? "refused" : "allowed");
    }
}

/* Random allowed tokens; after a while those that close things are preferred. */
static void draw(const struct lr_engine_grammar *g, const struct lr_nn_tok *tok,
                 const struct lr_engine_lexicon *l, struct lr_rng *rng, struct lr_buf *out, bool slow)
{
    struct lr_engine_parse *p;
    uint64_t mask[16];
    uint32_t n = (uint32_t)lr_nn_tok_size(tok);
    assert_true(n <= 16 * 64);
    assert_int_equal(lr_engine_parse_open(&p, g), 0);
    for (unsigned step = 0; !lr_engine_parse_closed(p); step++) {
        uint32_t id = 0, tries = 0;
        assert_true(step < 3000);
        assert_int_equal(lr_engine_parse_mask(p, l, mask), 0);
        if (slow && step < 40)
            slow_mask(p, tok, mask, lr_buf_str(out), g);
        bool found = false;
        for (; tries < 3000 && !found; tries++) {
            id = (uint32_t)lr_rng_below(rng, n);
            if (step > 30 && tries < 40)
                id = (uint32_t) "\"}],:0e"[tries % 8 < 7 ? tries % 8 : 0];
            found = bit(mask, id);
        }
        for (uint32_t i = 0; i < n && !found; i++)
            if ((found = bit(mask, i)))
                id = i;
        assert_true(found); /* never a dead end */
        if (lr_nn_tok_ends(tok, id))
            break;
        assert_int_equal(lr_engine_parse_token(p, l, id), 0);
        lr_buf_adds(out, lr_nn_tok_bytes(tok, id));
    }
    assert_true(lr_engine_parse_complete(p));
    lr_engine_parse_close(p);
}

static void what_is_generated_parses_and_validates(void **state)
{
    struct lr_nn_tok *tok = wordy_tok();
    struct lr_engine_lexicon *l;
    struct lr_arena a;
    struct lr_buf out;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    lr_buf_init(&out, LR_MIB(1));
    assert_int_equal(lr_engine_lexicon_open(&l, tok), 0);
    for (size_t i = 0; i <= LR_COUNT(schemas); i++) {
        const struct lr_json *s = i < LR_COUNT(schemas) ? kit_json(&a, schemas[i]) : NULL;
        struct lr_engine_grammar *g = s ? compile(s) : NULL;
        if (!s)
            assert_int_equal(lr_engine_grammar_object(&g), 0);
        assert_int_equal(lr_engine_lexicon_check(l, g, NULL), 0);
        for (uint64_t seed = 1; seed <= 60; seed++) {
            struct lr_rng rng;
            struct lr_json *v;
            struct lr_err err = {0};
            lr_rng_seed(&rng, seed);
            lr_buf_reset(&out);
            draw(g, tok, l, &rng, &out, seed == 1);
            if (lr_json_parse(&a, lr_buf_str(&out), NULL, &v, &err))
                fail_msg("schema %zu seed %u: %.*s: %s at %s", i, (unsigned)seed,
                         LR_FMT(lr_buf_str(&out)), err.msg, err.where);
            if (s ? !valid(s, s, v) : v->type != LR_JSON_OBJECT)
                fail_msg("schema %zu seed %u: invalid: %.*s", i, (unsigned)seed,
                         LR_FMT(lr_buf_str(&out)));
        }
        lr_engine_grammar_close(g);
    }
    lr_engine_lexicon_close(l);
    lr_buf_free(&out);
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
}

/* ---- random instances ---- */

static void white(struct lr_rng *r, struct lr_buf *b)
{
    static const char *const some[] = {"", "", " ", "\n", "\n    "};
    lr_buf_addz(b, some[lr_rng_below(r, LR_COUNT(some))]);
}

static void any_string(struct lr_rng *r, size_t min, size_t max, struct lr_buf *b)
{
    static const char *const chars[] = {"a", "é", "漢", "\\n", "\\\"", "\\u00e9", " ", "/", "😀", "\\\\"};
    size_t n = min + lr_rng_below(r, max - min + 1);
    lr_buf_addc(b, '"');
    while (n--)
        lr_buf_addz(b, chars[lr_rng_below(r, LR_COUNT(chars))]);
    lr_buf_addc(b, '"');
}

static void instance(struct lr_rng *r, const struct lr_json *root, const struct lr_json *s,
                     unsigned depth, struct lr_buf *b);

static void any_value(struct lr_rng *r, unsigned depth, struct lr_buf *b)
{
    static const char *const flat[] = {"true", "null", "-0.5e+3", "0", "\"x\"", "{}", "[]", "17"};
    if (depth > 3 || lr_rng_below(r, 2)) {
        lr_buf_addz(b, flat[lr_rng_below(r, LR_COUNT(flat))]);
        return;
    }
    bool object = lr_rng_below(r, 2);
    size_t n = lr_rng_below(r, 3);
    lr_buf_addc(b, object ? '{' : '[');
    for (size_t i = 0; i < n; i++) {
        lr_buf_addz(b, i ? "," : "");
        white(r, b);
        if (object)
            lr_buf_addf(b, "\"k%zu\":", i);
        any_value(r, depth + 1, b);
    }
    lr_buf_addc(b, object ? '}' : ']');
}

static void object_instance(struct lr_rng *r, const struct lr_json *root, const struct lr_json *s,
                            unsigned depth, struct lr_buf *b)
{
    const struct lr_json *props = lr_json_get(s, "properties"), *must = lr_json_get(s, "required"),
                         *extra = lr_json_get(s, "additionalProperties");
    size_t n = 0;
    lr_buf_addc(b, '{');
    for (const struct lr_json *p = props ? props->child : NULL; p; p = p->next) {
        bool need = false;
        for (const struct lr_json *m = must ? must->child : NULL; m; m = m->next)
            need |= lr_str_eq(m->text, p->key);
        if (!need && lr_rng_below(r, 2))
            continue;
        lr_buf_addz(b, n++ ? "," : "");
        white(r, b);
        lr_json_quote(b, p->key);
        lr_buf_addc(b, ':');
        white(r, b);
        instance(r, root, p, depth + 1, b);
        white(r, b);
    }
    for (const struct lr_json *m = must ? must->child : NULL; m; m = m->next)
        if (!lr_json_get_str(props, m->text)) {
            lr_buf_addz(b, n++ ? "," : "");
            lr_buf_addf(b, "\"%.*s\":", LR_FMT(m->text));
            any_value(r, depth + 1, b);
        }
    for (size_t i = 0; !lr_json_is(extra, LR_JSON_FALSE) && i < lr_rng_below(r, 3); i++) {
        lr_buf_addz(b, n++ ? "," : "");
        lr_buf_addf(b, "\"extra %zu\":", i);
        instance(r, root, extra, depth + 1, b);
    }
    lr_buf_addc(b, '}');
}

static void array_instance(struct lr_rng *r, const struct lr_json *root, const struct lr_json *s,
                           unsigned depth, struct lr_buf *b)
{
    size_t min = count_of(s, "minItems", 0), max = count_of(s, "maxItems", 3);
    size_t n = min + lr_rng_below(r, max - min + 1);
    lr_buf_addc(b, '[');
    for (size_t i = 0; i < n; i++) {
        lr_buf_addz(b, i ? "," : "");
        white(r, b);
        instance(r, root, lr_json_get(s, "items"), depth + 1, b);
    }
    lr_buf_addc(b, ']');
}

static void typed_instance(struct lr_rng *r, const struct lr_json *root, const struct lr_json *s,
                           struct lr_str type, unsigned depth, struct lr_buf *b)
{
    static const char *const numbers[] = {"0", "-1.25", "123456789012345", "1e9", "-0", "2.5E-7"};
    static const char *const integers[] = {"0", "-7", "123456789012345678"};
    if (lr_str_is(type, "object"))
        object_instance(r, root, s, depth, b);
    else if (lr_str_is(type, "array"))
        array_instance(r, root, s, depth, b);
    else if (lr_str_is(type, "string"))
        any_string(r, count_of(s, "minLength", 0), count_of(s, "maxLength", 9), b);
    else if (lr_str_is(type, "number"))
        lr_buf_addz(b, numbers[lr_rng_below(r, LR_COUNT(numbers))]);
    else if (lr_str_is(type, "integer"))
        lr_buf_addz(b, integers[lr_rng_below(r, LR_COUNT(integers))]);
    else
        lr_buf_addz(b, lr_str_is(type, "null") ? "null" : lr_rng_below(r, 2) ? "true" : "false");
}

static const struct lr_json *pick(struct lr_rng *r, const struct lr_json *list, unsigned depth)
{
    const struct lr_json *c = list->child;
    for (size_t i = depth > 8 ? 0 : lr_rng_below(r, list->n); i; i--)
        c = c->next;
    return c;
}

static void instance(struct lr_rng *r, const struct lr_json *root, const struct lr_json *s,
                     unsigned depth, struct lr_buf *b)
{
    const struct lr_json *k, *type = lr_json_get(s, "type");
    if (lr_json_get(s, "$ref"))
        s = lr_json_get(lr_json_get(root, "$defs"), "node"), type = lr_json_get(s, "type");
    if ((k = lr_json_get(s, "const")))
        lr_buf_adds(b, k->raw);
    else if ((k = lr_json_get(s, "enum")))
        lr_buf_adds(b, pick(r, k, 0)->raw);
    else if ((k = lr_json_get(s, "anyOf")) || (k = lr_json_get(s, "oneOf")))
        instance(r, root, pick(r, k, depth), depth, b);
    else if (lr_json_is(type, LR_JSON_ARRAY))
        typed_instance(r, root, s, pick(r, type, 0)->text, depth, b);
    else if (type || lr_json_get(s, "properties"))
        typed_instance(r, root, s, type ? type->text : LR_STR("object"), depth, b);
    else
        any_value(r, depth, b);
}

static void every_valid_instance_is_accepted(void **state)
{
    struct lr_arena a;
    struct lr_buf b;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(64));
    lr_buf_init(&b, LR_MIB(1));
    for (size_t i = 0; i < LR_COUNT(schemas); i++) {
        const struct lr_json *s = kit_json(&a, schemas[i]);
        struct lr_engine_grammar *g = compile(s);
        for (uint64_t seed = 1; seed <= 500; seed++) {
            struct lr_engine_parse *p;
            struct lr_rng rng;
            lr_rng_seed(&rng, seed);
            lr_buf_reset(&b);
            instance(&rng, s, s, 0, &b);
            assert_int_equal(lr_engine_parse_open(&p, g), 0);
            for (size_t k = 0; k < b.len; k++)
                if (lr_engine_parse_feed(p, lr_str(b.p + k, 1)))
                    fail_msg("schema %zu seed %u: refused at %zu: %.*s", i, (unsigned)seed, k,
                             LR_FMT(lr_buf_str(&b)));
            if (!lr_engine_parse_complete(p))
                fail_msg("schema %zu seed %u: open: %.*s", i, (unsigned)seed, LR_FMT(lr_buf_str(&b)));
            lr_engine_parse_close(p);
        }
        lr_engine_grammar_close(g);
    }
    lr_buf_free(&b);
    lr_arena_free(&a);
}

/* ---- refusals ---- */

static void what_is_not_enforced_is_refused_by_name(void **state)
{
    static const struct {
        const char *schema;
        int rc;
        const char *word;
    } bad[] = {
        {"{\"type\":\"string\",\"pattern\":\"a+\"}", LR_EUNSUPPORTED, "pattern"},
        {"{\"type\":\"integer\",\"minimum\":1}", LR_EUNSUPPORTED, "minimum"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}", LR_EUNSUPPORTED, "not"},
        {"{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", LR_EUNSUPPORTED, "oneOf"},
        {"{\"oneOf\":[{\"type\":\"object\"},{\"type\":\"object\"}]}", LR_EUNSUPPORTED, "oneOf"},
        {"{\"anyOf\":[{}],\"properties\":{}}", LR_EUNSUPPORTED, "properties"},
        {"{\"$ref\":\"http://x.test/s\"}", LR_EUNSUPPORTED, "$ref"},
        {"{\"$ref\":\"#\"}", LR_EINVAL, "itself"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", LR_EINVAL,
         "finite"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", LR_EINVAL, "minLength"},
        {"{\"type\":\"strin\"}", LR_EINVAL, "strin"},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}", LR_EINVAL, "a"},
        {"false", LR_EINVAL, "false"},
        {"7", LR_EINVAL, "7"},
        {"{\"enum\":[]}", LR_EINVAL, "enum"},
    };
    struct lr_arena a;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(4));
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_engine_grammar *g = NULL;
        struct lr_err err = {0};
        int rc = lr_engine_grammar_schema(&g, kit_json(&a, bad[i].schema), &err);
        if (rc != bad[i].rc || g || !strstr(err.msg, bad[i].word) || !err.where[0])
            fail_msg("%s: %d, %s at %s", bad[i].schema, rc, err.msg, err.where);
    }
    lr_arena_free(&a);
}

static void what_is_no_json_is_refused(void **state)
{
    static const char *const bad[] = {
        "[",      "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{a:1}",        "{\"a\":01}", "{\"a\":\"\\ud800\"}",
        "{\"a\":.5}", "{\"a\":1.}x", "{\"a\":\"\xC0\xAF\"}", "{}{}",  "{\"a\":tru}", "{\"a\":\"\n\"}",
        "{\"a\":[1,]}", "{\"a\" :1}", "{\"a\":-}", " {}",
    };
    struct lr_engine_grammar *g;
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_grammar_object(&g), 0);
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_engine_parse *p;
        assert_int_equal(lr_engine_parse_open(&p, g), 0);
        if (lr_engine_parse_feed(p, lr_strz(bad[i])) != LR_EINVAL)
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(lr_engine_parse_feed(p, LR_STR("{\"a\":[{}]}")), 0); /* nothing changed */
        assert_true(lr_engine_parse_closed(p));
        lr_engine_parse_close(p);
    }
    lr_engine_grammar_close(g);
}

static void nesting_ends_at_the_bound(void **state)
{
    struct lr_engine_grammar *g;
    struct lr_engine_parse *p;
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_grammar_object(&g), 0);
    assert_int_equal(lr_engine_parse_open(&p, g), 0);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("{\"a\":")), 0);
    for (unsigned i = 1; i < LR_ENGINE_GRAMMAR_DEPTH; i++)
        assert_int_equal(lr_engine_parse_feed(p, LR_STR("[")), 0);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("[")), LR_EINVAL);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("{")), LR_EINVAL);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("1")), 0);
    lr_engine_parse_close(p);
    lr_engine_grammar_close(g);
}

static void long_documents_keep_little_memory_and_no_key_twice(void **state)
{
    struct lr_engine_grammar *g;
    struct lr_engine_parse *p;
    (void)state; /* cmocka's */
    assert_int_equal(lr_engine_grammar_object(&g), 0);
    assert_int_equal(lr_engine_parse_open(&p, g), 0);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("{\"list\":[0")), 0);
    for (int i = 0; i < 5000; i++) /* each element pushes a frame: they are let go */
        assert_int_equal(lr_engine_parse_feed(p, LR_STR(",{\"a\":[1]}")), 0);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("],\"list")), 0);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("\"")), LR_EINVAL);
    assert_int_equal(lr_engine_parse_feed(p, LR_STR("2\":1}")), 0);
    lr_engine_parse_close(p);
    lr_engine_grammar_close(g);
}

static void vocabularies_that_cannot_spell_it_are_refused(void **state)
{
    static const struct lr_str tokens[] = {LR_STR("a"), LR_STR("\""), LR_STR(":"), LR_STR(",")};
    static const float scores[4];
    struct lr_nn_vocab v = {.kind = LR_NN_SPM, .n = 4, .tokens = tokens, .scores = scores,
                            .roles = {LR_NN_NO_TOKEN, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN,
                                      LR_NN_NO_TOKEN, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN}};
    struct lr_nn_tok *tok;
    struct lr_engine_lexicon *l;
    struct lr_engine_grammar *g;
    struct lr_err err = {0};
    (void)state; /* cmocka's */
    assert_int_equal(lr_nn_tok_new(&tok, &v, NULL), 0);
    assert_int_equal(lr_engine_lexicon_open(&l, tok), 0);
    assert_int_equal(lr_engine_grammar_object(&g), 0);
    assert_int_equal(lr_engine_lexicon_check(l, g, &err), LR_EUNSUPPORTED);
    lr_engine_grammar_close(g);
    lr_engine_lexicon_close(l);
    lr_nn_tok_close(tok);
}

static int scenario(const struct lr_json *s, const struct lr_nn_tok *tok)
{
    struct lr_engine_grammar *g = NULL;
    struct lr_engine_lexicon *l = NULL;
    struct lr_engine_parse *p = NULL;
    uint64_t mask[16];
    int rc = lr_engine_grammar_schema(&g, s, NULL);
    if (!rc)
        rc = lr_engine_lexicon_open(&l, tok);
    if (!rc)
        rc = lr_engine_parse_open(&p, g);
    if (!rc)
        rc = lr_engine_parse_mask(p, l, mask);
    if (!rc)
        rc = lr_engine_parse_feed(p, LR_STR("{\"k\":1,\"x\":\""));
    if (!rc)
        rc = lr_engine_parse_mask(p, l, mask);
    lr_engine_parse_close(p);
    lr_engine_lexicon_close(l);
    lr_engine_grammar_close(g);
    return rc;
}

static void every_failing_allocation_is_a_clean_error(void **state)
{
    struct lr_arena a;
    struct lr_nn_tok *tok = wordy_tok();
    int rc = -1;
    (void)state; /* cmocka's */
    lr_arena_init(&a, LR_MIB(4));
    const struct lr_json *s = kit_json(&a, schemas[5]);
    for (uint64_t n = 1; rc; n++) {
        lr_fault_arm(n);
        rc = scenario(s, tok);
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM);
    }
    lr_arena_free(&a);
    lr_nn_tok_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_generated_parses_and_validates),
        cmocka_unit_test(every_valid_instance_is_accepted),
        cmocka_unit_test(what_is_not_enforced_is_refused_by_name),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(nesting_ends_at_the_bound),
        cmocka_unit_test(long_documents_keep_little_memory_and_no_key_twice),
        cmocka_unit_test(vocabularies_that_cannot_spell_it_are_refused),
        cmocka_unit_test(every_failing_allocation_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
