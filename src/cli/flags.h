/* SPDX-License-Identifier: Apache-2.0
 * cli/flags.h - options of commands that are not configuration: one table a command, for parsing,
 * bounds and help alike.
 */
#ifndef LR_CLI_FLAGS_H
#define LR_CLI_FLAGS_H

#include "cli/cli.h"

enum lr_flag_kind {
    LR_FLAG_ON,       /* bool: set when given */
    LR_FLAG_TEXT,     /* const char * */
    LR_FLAG_COUNT,    /* uint64_t */
    LR_FLAG_SIZE,     /* uint64_t, bytes: "8G" */
    LR_FLAG_QUANTITY, /* double: "2.5", "312T" (powers of 1000) */
};

struct lr_flag {
    const char *name; /* with its dashes */
    const char *arg;  /* what follows, for help; NULL for LR_FLAG_ON */
    enum lr_flag_kind kind;
    void *out;       /* holds the default before */
    double min, max; /* numbers: both included; max 0: no bound */
    const char *what;
};

struct lr_manual {
    const char *line; /* "eval kv --model F [options]" */
    const char *what; /* a sentence or some, lines of their own */
    const struct lr_flag *flags;
    size_t n;
};

#define LR_CLI_HELPED 1 /* help was asked for and printed: exit 0 */
/* Reads cli's words; whatever is no option of the table is an error. Errors are printed: LR_EINVAL.
 */
int lr_cli_flags(struct lr_cli *cli, const struct lr_manual *u);
/* "smollm-135m,llama-1b" .. one name of a table of subcommands off argv; NULL (and usage printed)
 * when there is none. */
const char *lr_cli_word(struct lr_cli *cli, const char *const *words, size_t n);
/* A line of help for a flag that is missing; returns 2. */
int lr_cli_missing(const struct lr_cli *cli, const char *flag);

#endif
