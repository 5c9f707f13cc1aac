/* SPDX-License-Identifier: Apache-2.0
 * unit/base/option_help.h - loading and printing for the tests of the options table.
 */
#ifndef LR_UNIT_OPTION_HELP_H
#define LR_UNIT_OPTION_HELP_H

#include "base/option_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Defaults and YAML text, without a file; the place in errors is "t.yaml". */
static inline int parse_text(struct lr_config *c, struct lr_str text, struct lr_err *err)
{
    LR_TRY(lr_config_defaults(c, err));
    return lr_opt_yaml(c, text, "t.yaml", NULL, err);
}

static inline void load_yaml(struct lr_config *c, const char *text)
{
    struct lr_err err = {0};
    if (parse_text(c, lr_strz(text), &err))
        print_error("%s: %s\n", err.where, err.msg);
    assert_int_equal(err.code, 0);
}

/* A temporary file with the text; path has room for 32 bytes. */
static inline void write_temporary(struct lr_str text, char *path)
{
    memcpy(path, "/tmp/larder-option-XXXXXX", 26);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t at = 0; at < text.n;) {
        ssize_t k = write(fd, text.p + at, text.n - at);
        assert_true(k > 0);
        at += (size_t)k;
    }
    close(fd);
}

/* All sources, the file a temporary one. */
static inline int load_text(struct lr_config *c, const char *text, char **envp, int argc,
                            char **argv, int *rest, struct lr_err *err)
{
    char path[32];
    write_temporary(lr_strz(text), path);
    int rc = lr_config_load(c, path, envp, argc, argv, rest, err);
    unlink(path);
    return rc;
}

static inline int load_file(struct lr_config *c, struct lr_str text, struct lr_err *err)
{
    char path[32];
    write_temporary(text, path);
    int rc = lr_config_load(c, path, NULL, 0, NULL, NULL, err);
    unlink(path);
    return rc;
}

/* The print of a config as a string; lr_free. */
static inline char *print(const struct lr_config *c)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(16));
    assert_int_equal(lr_config_print(c, &b), 0);
    assert_int_equal(lr_buf_addc(&b, 0), 0);
    return b.p;
}

#endif
