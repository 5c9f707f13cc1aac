/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/test_embedding.c - Embeddings: inputs taken apart, vectors kept as they came.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec.h"

static int parse(struct lr_arena *a, const char *body, struct lr_request **r)
{
    struct lr_err err = {0};
    return lr_request_parse(a, LR_DIALECT_EMBEDDING, lr_strz(body), r, &err);
}

static void inputs_are_single_items(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        size_t n;
        bool single;
        const char *last;
    } rows[] = {
        {"\"a\"", 1, true, "\"a\""},      {"[\"a\",\"b\"]", 2, false, "\"b\""},
        {"[1,2,3]", 1, false, "[1,2,3]"}, {"[[1],[2,3]]", 2, false, "[2,3]"},
        {"[]", 0, false, NULL},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_arena a;
        struct lr_request *r;
        char body[128];
        lr_arena_init(&a, LR_MIB(1));
        snprintf(body, sizeof body, "{\"model\":\"m\",\"input\":%s}", rows[i].input);
        assert_int_equal(parse(&a, body, &r), 0);
        assert_int_equal(r->n_inputs, rows[i].n);
        assert_int_equal(r->inputs_single, rows[i].single);
        if (rows[i].last)
            assert_true(lr_str_is(r->inputs[r->n_inputs - 1]->raw, rows[i].last));
        lr_arena_free(&a);
    }
}

static void other_inputs_are_refused(void **state)
{
    (void)state;
    static const char *const inputs[] = {"1",         "{}",        "null",   "[{}]",   "[\"a\",1]",
                                         "[1,\"a\"]", "[[\"a\"]]", "[null]", "[1,[2]]"};
    for (size_t i = 0; i < LR_COUNT(inputs); i++) {
        struct lr_arena a;
        struct lr_request *r;
        char body[128];
        lr_arena_init(&a, LR_MIB(1));
        snprintf(body, sizeof body, "{\"model\":\"m\",\"input\":%s}", inputs[i]);
        assert_int_equal(parse(&a, body, &r), LR_EINVAL);
        lr_arena_free(&a);
    }
}

static void some_inputs_make_a_request_of_their_own(void **state)
{
    (void)state;
    struct lr_arena a;
    struct lr_request *r;
    struct lr_buf out;
    lr_arena_init(&a, LR_MIB(1));
    lr_buf_init(&out, 4096);
    assert_int_equal(
        parse(&a, "{\"model\":\"m\",\"dimensions\":3,\"input\":[\"a\",\"b\\n\",\"c\"],\"x\":[ ]}",
              &r),
        0);
    assert_int_equal(lr_request_write_inputs(&a, r, LR_STR("up"), (const size_t[]){2, 1}, 2, &out),
                     0);
    assert_true(
        lr_str_is(lr_buf_str(&out),
                  "{\"model\":\"up\",\"dimensions\":3,\"input\":[\"c\",\"b\\n\"],\"x\":[ ]}"));
    assert_int_equal(lr_request_write_inputs(&a, r, LR_STR("up"), (const size_t[]){3}, 1, &out),
                     LR_EINVAL);
    lr_buf_free(&out);
    lr_arena_free(&a);
}

static void a_large_batch_is_read_within_its_bound(void **state)
{
    (void)state;
    enum { ITEMS = 300, NUMBERS = 1000 };
    struct lr_buf body, log, out;
    lr_buf_init(&body, LR_MIB(8));
    lr_buf_init(&log, LR_MIB(8));
    lr_buf_init(&out, LR_MIB(8));
    lr_buf_addz(&body, "{\"data\":[");
    for (int i = 0; i < ITEMS; i++) {
        lr_buf_addf(&body, "%s{\"embedding\": [", i ? "," : "");
        for (int k = 0; k < NUMBERS; k++)
            lr_buf_addf(&body, "%s-0.%d", k ? ", " : "", i + k);
        lr_buf_addf(&body, "],\"index\":%d}", i);
    }
    lr_buf_addz(&body, "],\"model\":\"m\"}");
    assert_int_equal(codec_decode(LR_DIALECT_EMBEDDING, false, lr_buf_str(&body), 4096, &log, NULL),
                     0);
    struct lr_str rest = lr_buf_str(&log);
    struct lr_event ev;
    int vectors = 0;
    while (lr_event_next(&rest, &ev) == 1) {
        if (ev.type != LR_EV_VECTOR)
            continue;
        char head[32];
        int n = snprintf(head, sizeof head, "[-0.%d,-0.%d,", vectors, vectors + 1);
        assert_int_equal(ev.choice, vectors++);
        assert_memory_equal(ev.a.p, head, (size_t)n);
    }
    assert_int_equal(vectors, ITEMS);
    struct lr_encoder_opts o = codec_opts(LR_DIALECT_EMBEDDING, false);
    assert_int_equal(codec_encode(&o, lr_buf_str(&log), &out), 0);
    lr_buf_free(&body);
    lr_buf_free(&log);
    lr_buf_free(&out);
}

static void bad_vectors_are_refused(void **state)
{
    (void)state;
    static const char *const vectors[] = {"[1,]",  "[01]", "[1 2]", "[]",   "[\"a\"]",
                                          "[[1]]", "null", "1",     "[1,2", "[.5]",
                                          "[1.]",  "[1e]", "[-]",   "[NaN]"};
    for (size_t i = 0; i < LR_COUNT(vectors); i++) {
        struct lr_buf log;
        char body[128];
        lr_buf_init(&log, 4096);
        snprintf(body, sizeof body, "{\"data\":[{\"embedding\":%s}],\"model\":\"m\"}", vectors[i]);
        int rc = codec_decode(LR_DIALECT_EMBEDDING, false, lr_strz(body), 0, &log, NULL);
        assert_int_equal(rc, LR_EPARSE);
        lr_buf_free(&log);
    }
}

static void only_vectors_of_data_are_lifted(void **state)
{
    (void)state;
    struct lr_buf log, out;
    lr_buf_init(&log, 4096);
    lr_buf_init(&out, 4096);
    static const char body[] =
        "{\"x\":[{\"embedding\":[7,8]}],\"data\":[{\"embedding\":[1],\"y\":{"
        "\"embedding\":[9,9]},\"t\":\"\\\"embedding\\\":[5,5]\"}],\"model\":\"m\"}";
    assert_int_equal(codec_decode(LR_DIALECT_EMBEDDING, false, lr_strz(body), 0, &log, NULL), 0);
    struct lr_encoder_opts o = codec_opts(LR_DIALECT_EMBEDDING, false);
    assert_int_equal(codec_encode(&o, lr_buf_str(&log), &out), 0);
    assert_true(lr_str_is(
        lr_buf_str(&out),
        "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
        "\"embedding\":[1],\"t\":\"\\\"embedding\\\":[5,5]\",\"y\":{\"embedding\":[9,9]}}],"
        "\"x\":[{\"embedding\":[7,8]}],\"model\":\"m\"}"));
    lr_buf_free(&log);
    lr_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_are_single_items),
        cmocka_unit_test(other_inputs_are_refused),
        cmocka_unit_test(some_inputs_make_a_request_of_their_own),
        cmocka_unit_test(a_large_batch_is_read_within_its_bound),
        cmocka_unit_test(bad_vectors_are_refused),
        cmocka_unit_test(only_vectors_of_data_are_lifted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
