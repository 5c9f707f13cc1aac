/* SPDX-License-Identifier: Apache-2.0
 * tools/cross/cmocka.h - the few words of cmocka that the tests of kern/ use, for machines we only
 * cross-build for. A failed check prints its place and ends the program.
 */
#ifndef LR_CROSS_CMOCKA_H
#define LR_CROSS_CMOCKA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*fn)(void **state);
};

#define cmocka_unit_test(f)                                                                        \
    {                                                                                              \
#f, f                                                                                      \
    }
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    run_tests(tests, sizeof(tests) / sizeof((tests)[0]))

#define assert_true(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #cond);                                      \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define assert_non_null(p)        assert_true((p) != NULL)
#define assert_int_equal(a, b)    assert_true((intmax_t)(a) == (intmax_t)(b))
#define assert_ptr_equal(a, b)    assert_true((a) == (b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)

static inline int run_tests(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        tests[i].fn(&state);
        printf("ok %s\n", tests[i].name);
    }
    return 0;
}

#endif
