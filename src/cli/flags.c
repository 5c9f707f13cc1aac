/* SPDX-License-Identifier: Apache-2.0
 * cli/flags.c - options of commands that are not configuration (flags.h).
 *
 * `--name value` and `--name=value`, in any order; given twice, the last counts. A number out of
 * its bounds, a word that is no option and an option without its value end the command before any
 * work.
 */
#include "cli/flags.h"

#include <stdio.h>

static void help(const struct lr_manual *u)
{
    printf("usage: larder %s\n", u->line);
    if (u->what)
        printf("\n%s\n", u->what);
    printf("\n");
    for (size_t i = 0; i < u->n; i++) {
        const struct lr_flag *f = &u->flags[i];
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", f->name, f->arg ? " " : "", f->arg ? f->arg : "");
        printf("  %-22s %s", left, f->what);
        if (f->kind == LR_FLAG_TEXT && *(const char *const *)f->out)
            printf(" [%s]", *(const char *const *)f->out);
        if (f->kind == LR_FLAG_COUNT && *(const uint64_t *)f->out)
            printf(" [%llu]", (unsigned long long)*(const uint64_t *)f->out);
        printf("\n");
    }
}

static const struct lr_flag *find(const struct lr_manual *u, struct lr_str name)
{
    for (size_t i = 0; i < u->n; i++)
        if (lr_str_is(name, u->flags[i].name))
            return &u->flags[i];
    return NULL;
}

/* "312T": powers of 1000, as vendors write operations and bandwidths. */
static int quantity(struct lr_str v, double *out)
{
    static const char marks[] = "KMGTP";
    double factor = 1;
    const char *at = v.n ? memchr(marks, v.p[v.n - 1], sizeof marks - 1) : NULL;
    for (const char *m = marks; at && m <= at; m++)
        factor *= 1000;
    v.n -= at != NULL;
    LR_TRY(lr_parse_real(v, out));
    *out *= factor;
    return 0;
}

static int read_number(const struct lr_flag *f, struct lr_str v)
{
    uint64_t n = 0;
    double x = 0;
    int rc = f->kind == LR_FLAG_COUNT  ? lr_parse_u64(v, &n)
             : f->kind == LR_FLAG_SIZE ? lr_parse_size(v, &n)
                                       : quantity(v, &x);
    LR_TRY(rc);
    x = f->kind == LR_FLAG_QUANTITY ? x : (double)n;
    LR_FAIL_IF(x < f->min || (f->max > 0 && x > f->max), LR_EOVER);
    if (f->kind == LR_FLAG_QUANTITY)
        *(double *)f->out = x;
    else
        *(uint64_t *)f->out = n;
    return 0;
}

static int take(const struct lr_cli *cli, const struct lr_flag *f, const char *v)
{
    struct lr_err err = {0};
    if (!v) {
        lr_err_set(&err, LR_EINVAL, f->name, "no value");
    } else if (f->kind == LR_FLAG_TEXT) {
        *(const char **)f->out = v;
    } else if (read_number(f, lr_strz(v))) {
        if (f->max > 0)
            lr_err_set(&err, LR_EINVAL, f->name, "'%s' is no number from %.12g to %.12g", v, f->min,
                       f->max);
        else
            lr_err_set(&err, LR_EINVAL, f->name, "'%s' is no number from %.12g on", v, f->min);
    }
    if (err.code)
        lr_cli_fail(cli->name, &err);
    return err.code;
}

int lr_cli_flags(struct lr_cli *cli, const struct lr_manual *u)
{
    for (int i = 0; i < cli->argc; i++) {
        const char *word = cli->argv[i], *equals = strchr(word, '=');
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            help(u);
            return LR_CLI_HELPED;
        }
        const struct lr_flag *f =
            find(u, lr_str(word, equals ? (size_t)(equals - word) : strlen(word)));
        if (!f || (f->kind == LR_FLAG_ON && equals)) {
            struct lr_err err = {0};
            lr_err_set(&err, LR_EINVAL, word, "no such option; --help lists them");
            lr_cli_fail(cli->name, &err);
            return LR_EINVAL;
        }
        if (f->kind == LR_FLAG_ON)
            *(bool *)f->out = true;
        else
            LR_TRY(take(cli, f, equals ? equals + 1 : i + 1 < cli->argc ? cli->argv[++i] : NULL));
    }
    return 0;
}

const char *lr_cli_word(struct lr_cli *cli, const char *const *words, size_t n)
{
    for (size_t i = 0; cli->argc > 0 && i < n; i++)
        if (strcmp(cli->argv[0], words[i]) == 0) {
            cli->argv++;
            cli->argc--;
            return words[i];
        }
    bool asked =
        cli->argc > 0 && (strcmp(cli->argv[0], "--help") == 0 || strcmp(cli->argv[0], "-h") == 0);
    FILE *out = asked ? stdout : stderr;
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s larder %s %s --help\n", i ? "      " : "usage:", cli->name, words[i]);
    return NULL;
}

int lr_cli_missing(const struct lr_cli *cli, const char *flag)
{
    fprintf(stderr, "larder: %s: %s is needed; --help says what there is\n", cli->name, flag);
    return 2;
}
