/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/test_error.c - error bodies: OpenAI's shape, and what is read from anybody's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec.h"

static void errors_have_the_shape_of_the_dialect(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *type;
    } rows[] = {{400, "invalid_request_error"}, {401, "authentication_error"},
                {403, "permission_error"},      {404, "not_found_error"},
                {413, "invalid_request_error"}, {429, "rate_limit_error"},
                {500, "server_error"},          {504, "server_error"}};
    static const enum lr_dialect_id all[] = {LR_DIALECT_NONE, LR_DIALECT_CHAT,
                                             LR_DIALECT_COMPLETION, LR_DIALECT_EMBEDDING};
    for (size_t i = 0; i < LR_COUNT(rows) * LR_COUNT(all); i++) {
        size_t row = i / LR_COUNT(all);
        struct lr_buf out;
        char want[256];
        lr_buf_init(&out, 4096);
        assert_int_equal(lr_error_write(all[i % LR_COUNT(all)], rows[row].status, "some_code",
                                        LR_STR("No \"way\""), "req-1", &out),
                         0);
        snprintf(want, sizeof want,
                 "{\"error\":{\"message\":\"No \\\"way\\\"\",\"type\":\"%s\",\"param\":null,"
                 "\"code\":\"some_code\"},\"request_id\":\"req-1\"}",
                 rows[row].type);
        assert_true(lr_str_is(lr_buf_str(&out), want));
        lr_buf_free(&out);
    }
}

static void anybodys_error_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *body, *code, *message;
    } rows[] = {
        {"{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":\"c\"}}", "c", "m"},
        {"{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":null}}", "t", "m"},
        {"{\"error\":{\"message\":\"m\",\"code\":429}}", "429", "m"},
        {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}",
         "overloaded_error", "m"},
        {"{\"error\":\"m\"}", "", "m"},
        {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"t\",\"code\":400}", "t", "m"},
        {"{\"detail\":\"m\"}", "", "m"},
        {"{\"detail\":[{\"msg\":\"m\"}]}", "", ""},
        {"<html>Bad gateway</html>", "", ""},
        {"{}", "", ""},
        {"", "", ""},
        {"[1]", "", ""},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_arena a;
        struct lr_str code, message;
        lr_arena_init(&a, LR_MIB(1));
        lr_error_read(&a, lr_strz(rows[i].body), &code, &message);
        assert_true(lr_str_is(code, rows[i].code));
        assert_true(lr_str_is(message, rows[i].message));
        lr_arena_free(&a);
    }
}

static void paths_name_their_dialect_with_and_without_v1(void **state)
{
    (void)state;
    for (unsigned d = 1; d < LR_DIALECT_N; d++) {
        struct lr_str path = lr_strz(lr_dialect_path((enum lr_dialect_id)d));
        assert_int_equal(lr_dialect_of_path(path), d);
        assert_int_equal(lr_dialect_of_path(lr_str(path.p + 3, path.n - 3)), d);
        assert_int_equal(lr_dialect_of_path(lr_str(path.p, path.n - 1)), LR_DIALECT_NONE);
    }
    assert_int_equal(lr_dialect_of_path(LR_STR("/v1")), LR_DIALECT_NONE);
    assert_int_equal(lr_dialect_of_path(LR_STR("/v1/v1/messages")), LR_DIALECT_NONE);
    assert_int_equal(lr_dialect_of_path(LR_STR("")), LR_DIALECT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_have_the_shape_of_the_dialect),
        cmocka_unit_test(anybodys_error_is_read),
        cmocka_unit_test(paths_name_their_dialect_with_and_without_v1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
