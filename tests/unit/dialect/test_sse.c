/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/test_sse.c - the reader of text/event-stream against the standard's rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec.h"

/* Writes events as "name|data;" so that a table can hold what is expected. */
static int note(void *ctx, struct lr_str name, struct lr_str data)
{
    struct lr_buf *b = ctx;
    lr_buf_adds(b, name);
    lr_buf_addc(b, '|');
    lr_buf_adds(b, data);
    return lr_buf_addc(b, ';');
}

static int read_all(struct lr_str bytes, size_t step, size_t max, struct lr_buf *out)
{
    struct lr_sse s;
    int rc = 0;
    lr_sse_init(&s, max);
    while (!rc && bytes.n) {
        size_t n = step && step < bytes.n ? step : bytes.n;
        rc = lr_sse_feed(&s, lr_str(bytes.p, n), note, out);
        bytes = lr_str(bytes.p + n, bytes.n - n);
    }
    lr_sse_free(&s);
    return rc;
}

static void the_rules_of_the_standard_hold_for_every_split(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *want;
    } rows[] = {
        {"data: a\n\n", "|a;"},
        {"data: a\r\n\r\n", "|a;"},
        {"data: a\r\r", "|a;"},
        {"data: a\r\n\rdata: b\n\n", "|a;|b;"},
        {"data:a\n\n", "|a;"},
        {"data:  a\n\n", "| a;"},
        {"data: a\ndata: b\ndata:\n\n", "|a\nb\n;"},
        {"data\n\n", "|;"},
        {"event: x\ndata: a\n\ndata: b\n\n", "x|a;|b;"},
        {"event: x\nevent: y\ndata: a\n\n", "y|a;"},
        {"event: x\n\ndata: a\n\n", "|a;"},
        {": hello\n\n: there\ndata: a\n:\n\n", "|a;"},
        {"id: 1\nretry: 2\nnothing\nother: x\ndata: a\n\n", "|a;"},
        {"\xEF\xBB\xBF"
         "data: a\n\n",
         "|a;"},
        {"data: a\n\n\xEF\xBB\xBF"
         "data: b\n\n",
         "|a;"},
        {"\n\n\ndata: a\n\n\n\n", "|a;"},
        {"data: a", ""},
        {"data: a\n", ""},
        {"Data: a\n\n", ""},
        {"data : a\n\n", ""},
        {"data: a:b: c\n\n", "|a:b: c;"},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        for (size_t step = 0; step < 12; step++) {
            struct lr_buf out;
            lr_buf_init(&out, 4096);
            assert_int_equal(read_all(lr_strz(rows[i].bytes), step, 1000, &out), 0);
            if (!lr_str_is(lr_buf_str(&out), rows[i].want))
                print_error("row %zu step %zu: %.*s\n", i, step, (int)out.len, out.p);
            assert_true(lr_str_is(lr_buf_str(&out), rows[i].want));
            lr_buf_free(&out);
        }
    }
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "a\nb", "", "\n", "x: y"};
    for (size_t i = 0; i < LR_COUNT(texts); i++) {
        struct lr_buf bytes, out, want;
        lr_buf_init(&bytes, 4096);
        lr_buf_init(&out, 4096);
        lr_buf_init(&want, 4096);
        assert_int_equal(lr_sse_write(&bytes, i % 2 ? LR_STR("n") : LR_STR(""), lr_strz(texts[i])),
                         0);
        assert_int_equal(note(&want, i % 2 ? LR_STR("n") : LR_STR(""), lr_strz(texts[i])), 0);
        assert_int_equal(read_all(lr_buf_str(&bytes), 1, 1000, &out), 0);
        assert_true(lr_str_eq(lr_buf_str(&want), lr_buf_str(&out)));
        lr_buf_free(&bytes);
        lr_buf_free(&out);
        lr_buf_free(&want);
    }
}

/* Names come out of an upstream's JSON: they could bring lines, and so events, of their own. */
static void a_name_of_several_lines_is_left_out(void **state)
{
    (void)state;
    static const char *const names[] = {"a\n\ndata: evil\n\n", "a\rb", "\n"};
    for (size_t i = 0; i < LR_COUNT(names); i++) {
        struct lr_buf bytes;
        lr_buf_init(&bytes, 4096);
        assert_int_equal(lr_sse_write(&bytes, lr_strz(names[i]), LR_STR("{}")), 0);
        assert_true(lr_str_is(lr_buf_str(&bytes), "data: {}\n\n"));
        lr_buf_free(&bytes);
    }
}

static void an_event_over_the_bound_is_refused(void **state)
{
    (void)state;
    struct lr_buf out;
    lr_buf_init(&out, 4096);
    static const struct {
        const char *bytes;
        int rc;
    } rows[] = {
        {"data: 0123456789\n\n", 0},
        {"data: 01234567890\n\n", LR_EOVER},
        {"data: 01234567\ndata: 0123456\n\n", 0},
        {"data: 01234567\ndata: 01234567\n\n", LR_EOVER},
        {":0123456789012345", LR_EOVER}, /* a line without an end is held no further */
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++)
        for (size_t step = 0; step < 20; step++)
            assert_int_equal(read_all(lr_strz(rows[i].bytes), step, 16, &out), rows[i].rc);
    lr_buf_free(&out);
}

static int stop(void *ctx, struct lr_str name, struct lr_str data)
{
    (void)name;
    (void)data;
    return ++*(int *)ctx == 2 ? LR_ECANCEL : 0;
}

static void the_callers_refusal_stops_the_feed(void **state)
{
    (void)state;
    struct lr_sse s;
    int n = 0;
    lr_sse_init(&s, 100);
    assert_int_equal(lr_sse_feed(&s, LR_STR("data: a\n\ndata: b\n\ndata: c\n\n"), stop, &n),
                     LR_ECANCEL);
    assert_int_equal(n, 2);
    lr_sse_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_of_the_standard_hold_for_every_split),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(a_name_of_several_lines_is_left_out),
        cmocka_unit_test(an_event_over_the_bound_is_refused),
        cmocka_unit_test(the_callers_refusal_stops_the_feed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
