/* SPDX-License-Identifier: Apache-2.0
 * cli/doctor.c - larder doctor: is the configuration good, and can the house be reached and opened?
 */
#include "cli/cli.h"

#include <stdio.h>

static int print_config(const struct lr_config *c)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(8));
    int rc = lr_config_print(c, &b);
    if (rc)
        lr_cli_fail("doctor", &(struct lr_err){.code = rc});
    else
        printf("%.*s", (int)b.len, b.p);
    lr_buf_free(&b);
    return rc ? 1 : 0;
}

int lr_cmd_doctor(struct lr_cli *cli)
{
    struct lr_config *c;
    bool print = lr_cli_take_flag(cli, "--print-config");
    if (lr_cli_config(cli, &c))
        return 1;
    int status = 0;
    if (print)
        status = print_config(c);
    else
        printf("ok    configuration\n");
    lr_config_free(c);
    lr_free(c);
    return status;
}
