/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_json.c - any bytes into the JSON reader.
 *
 * What it accepts must have one canonical text that reads back to itself, nodes that lie in the
 * source, and an object must still read after a member is set in its text. What it refuses names a
 * byte that is in the source or right behind it.
 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_refusal(const struct lr_err *err, size_t n)
{
    MUST(err->code && err->msg[0] && strncmp(err->where, "byte ", 5) == 0);
    MUST(strtoul(err->where + 5, NULL, 10) <= n);
}

static void check_nodes(const struct lr_json *v, struct lr_str src)
{
    MUST(v->raw.n > 0 && v->raw.p >= src.p && v->raw.p + v->raw.n <= src.p + src.n);
    MUST(lr_utf8_check(v->text, NULL) == 0 && lr_utf8_check(v->key, NULL) == 0);
    uint32_t n = 0;
    for (const struct lr_json *c = v->child; c; c = c->next, n++) {
        MUST(c->raw.p > v->raw.p && c->raw.p + c->raw.n < v->raw.p + v->raw.n);
        check_nodes(c, src); /* at most 128 deep */
    }
    MUST(n == v->n);
}

static void check_fixed_point(struct lr_arena *a, const struct lr_json *v)
{
    struct lr_buf one, two;
    struct lr_json *again = NULL;
    lr_buf_init(&one, LR_MIB(64));
    lr_buf_init(&two, LR_MIB(64));
    MUST(lr_json_canon(v, &one) == 0);
    MUST(lr_json_parse(a, lr_buf_str(&one), NULL, &again, NULL) == 0);
    MUST(lr_json_canon(again, &two) == 0);
    MUST(lr_str_eq(lr_buf_str(&one), lr_buf_str(&two)));
    lr_buf_free(&one);
    lr_buf_free(&two);
}

static void check_set(struct lr_arena *a, struct lr_str src, const struct lr_json *o,
                      const char *name)
{
    struct lr_buf out;
    struct lr_json_edit e;
    struct lr_json *again = NULL;
    uint64_t got = 0;
    lr_buf_init(&out, LR_MIB(64));
    MUST(lr_json_edit_set(a, src, o, name, LR_STR("12345"), &e) == 0);
    MUST(lr_json_splice(src, &e, 1, &out) == 0);
    MUST(lr_json_parse(a, lr_buf_str(&out), NULL, &again, NULL) == 0);
    MUST(lr_json_u64(lr_json_get(again, name), &got) && got == 12345);
    MUST(again->n == o->n + (lr_json_get(o, name) ? 0 : 1));
    lr_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct lr_arena a;
    struct lr_json *v = NULL;
    struct lr_err err = {0};
    struct lr_str src = lr_str(p, n);
    lr_arena_init(&a, LR_MIB(256));
    if (lr_json_parse(&a, src, NULL, &v, &err)) {
        check_refusal(&err, n);
    } else {
        double d;
        uint64_t u;
        check_nodes(v, src);
        check_fixed_point(&a, v);
        if (lr_json_real(v, &d))
            MUST(v->type == LR_JSON_NUMBER);
        if (lr_json_u64(v, &u))
            MUST(v->type == LR_JSON_NUMBER);
        if (v->type == LR_JSON_OBJECT) {
            check_set(&a, src, v, "model");
            check_set(&a, src, v, "\"\n");
        }
    }
    lr_arena_free(&a);
    return 0;
}
