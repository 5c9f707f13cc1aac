/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_config.c - the door of larder.yaml and of price files.
 *
 * The first byte says which: 'P' a price file, anything else (and itself part of the text) a
 * config. What loads must print, and the print must load to the same print; what does not load must
 * say where. The cross-row check runs over whatever loaded.
 */
#include "base/option_int.h"

#include <assert.h>

static const struct lr_opt_table *prices(void)
{
    size_t n;
    const struct lr_opt_table *t = lr_opt_tables(&n);
    while (strcmp(t->name, "price") != 0)
        t++;
    return t;
}

static int load(struct lr_config *c, struct lr_str text, const struct lr_opt_table *only)
{
    struct lr_err err = {0};
    if (lr_config_defaults(c, &err))
        return LR_ENOMEM;
    int rc = lr_opt_yaml(c, text, "fuzz.yaml", only, &err);
    assert(rc == err.code && !rc == !err.msg[0] && !rc == !err.where[0]);
    for (const char *p = err.msg; *p; p++)
        assert((unsigned char)*p >= 0x20 && *p != 0x7f);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct lr_str text = lr_str(p, n);
    const struct lr_opt_table *only = n && p[0] == 'P' ? prices() : NULL;
    if (only)
        text = lr_str(text.p + 1, text.n - 1);
    struct lr_config c, back;
    struct lr_buf first, again;
    lr_buf_init(&first, LR_MIB(64));
    lr_buf_init(&again, LR_MIB(64));
    if (load(&c, text, only) == 0) {
        struct lr_err err = {0};
        int rc = lr_config_check(&c, &err);
        assert(rc == err.code);
        rc = lr_config_print(&c, &first);
        assert(!rc);
        if (first.len <= LR_OPT_FILE_MAX) {
            rc = load(&back, lr_buf_str(&first), NULL);
            assert(!rc);
            rc = lr_config_print(&back, &again);
            assert(!rc && lr_str_eq(lr_buf_str(&first), lr_buf_str(&again)));
            lr_config_free(&back);
        }
    }
    lr_config_free(&c);
    lr_buf_free(&first);
    lr_buf_free(&again);
    return 0;
}
