/* SPDX-License-Identifier: Apache-2.0
 * cli/key.c - larder key add|list|revoke: the keys file of managed mode.
 */
#include "cli/cli.h"
#include "serve/serve.h"

#include <stdio.h>
#include <time.h>

static int add(const char *path, const char *tenant)
{
    char secret[64], id[13];
    struct lr_err err = {0};
    if (lr_keys_add(path, tenant, lr_clock_wall_ms() / 1000, secret, id, &err))
        return lr_cli_fail("key add", &err);
    fprintf(stderr, "key %s for tenant %s; it is shown this once:\n", id, tenant);
    printf("%s\n", secret);
    return 0;
}

static void show_date(uint64_t s)
{
    time_t t = (time_t)s;
    struct tm tm;
    char text[32] = "-";
    if (s && gmtime_r(&t, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        text[0] = 0;
    printf("  %-20s", text);
}

static int list(const char *path)
{
    struct lr_key_row *rows;
    size_t n;
    struct lr_err err = {0};
    if (lr_keys_list(path, &rows, &n, &err))
        return lr_cli_fail("key list", &err);
    printf("%-12s  %-20s  %-20s  %s\n", "id", "created", "revoked", "tenant");
    for (size_t i = 0; i < n; i++) {
        printf("%s", rows[i].id);
        show_date(rows[i].created_s);
        show_date(rows[i].revoked_s);
        printf("  %s\n", rows[i].tenant);
    }
    lr_free(rows);
    return 0;
}

static int revoke(const char *path, const char *id)
{
    struct lr_err err = {0};
    if (lr_keys_revoke(path, id, lr_clock_wall_ms() / 1000, &err))
        return lr_cli_fail("key revoke", &err);
    fprintf(stderr, "key %s is revoked; a running gateway refuses it within two seconds\n", id);
    return 0;
}

/* keys.file, or "keys" in the data directory. */
static int keys_path(const struct lr_config *c, char *out, size_t cap)
{
    char dir[4096];
    if (*c->keys_file)
        return snprintf(out, cap, "%s", c->keys_file) < (int)cap ? 0 : LR_EOVER;
    LR_TRY(lr_cli_data_dir(c, dir, sizeof dir));
    LR_TRY(lr_io_mkdir(dir, 0700));
    return snprintf(out, cap, "%s/keys", dir) < (int)cap ? 0 : LR_EOVER;
}

int lr_cmd_key(struct lr_cli *cli)
{
    struct lr_config *c;
    char path[4200];
    if (lr_cli_config(cli, &c))
        return 1;
    int rc = keys_path(c, path, sizeof path);
    lr_config_free(c);
    lr_free(c);
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    if (rc)
        return lr_cli_fail("key", &(struct lr_err){.code = rc});
    if (strcmp(verb, "add") == 0 && cli->argc == 2)
        return add(path, cli->argv[1]);
    if (strcmp(verb, "list") == 0 && cli->argc == 1)
        return list(path);
    if (strcmp(verb, "revoke") == 0 && cli->argc == 2)
        return revoke(path, cli->argv[1]);
    fprintf(stderr, "usage: larder key add NAME | list | revoke ID   [--keys-file F]\n");
    return 2;
}
