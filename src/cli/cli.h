/* SPDX-License-Identifier: Apache-2.0
 * cli/cli.h - larder(1): the commands, one row each in main.c's table.
 */
#ifndef LR_CLI_CLI_H
#define LR_CLI_CLI_H

#include "base/base.h"

/* What every command gets: the words after its name, and the environment. */
struct lr_cli {
    const char *name;
    int argc;
    char **argv;
    char **envp;
};

enum lr_takes {
    LR_TAKES_WORDS,   /* neither of these */
    LR_TAKES_OPTIONS, /* the options of options.def */
    LR_TAKES_FLAGS,   /* its own (flags.h): it answers --help itself */
};

struct lr_command {
    const char *name;
    const char *args; /* for help */
    const char *what; /* one sentence */
    int (*run)(struct lr_cli *); /* exit status */
    enum lr_takes takes;
};
extern const struct lr_command lr_commands[];
extern const size_t lr_commands_n;

/* Loads the config of a command: --config F or LARDER_CONFIG, environment, flags. What is no option is
 * left in cli->argv[0..argc). Prints the error itself; LR_E* on failure. */
int lr_cli_config(struct lr_cli *cli, struct lr_config **out);
/* The data directory in effect: data, else $XDG_DATA_HOME/larder, else ~/.local/share/larder. */
int lr_cli_data_dir(const struct lr_config *c, char *out, size_t cap);
/* Takes `--name value` or `--name=value` out of argv; NULL when absent. */
const char *lr_cli_take(struct lr_cli *cli, const char *name);
bool lr_cli_take_flag(struct lr_cli *cli, const char *name);
/* "larder: what: sentence (place)" on standard error; returns 1. */
int lr_cli_fail(const char *what, const struct lr_err *err);

int lr_cmd_serve(struct lr_cli *);      /* serve.c */
int lr_cmd_key(struct lr_cli *);        /* key.c */
int lr_cmd_stats(struct lr_cli *);      /* admin.c: what asks a running daemon */
int lr_cmd_top(struct lr_cli *);
int lr_cmd_explain(struct lr_cli *);
int lr_cmd_answer(struct lr_cli *);
int lr_cmd_trace(struct lr_cli *);
int lr_cmd_kv(struct lr_cli *);         /* kv.c */
int lr_cmd_doctor(struct lr_cli *);     /* doctor.c */
int lr_cmd_docs(struct lr_cli *);       /* docs.c: man page, completion, larder.yaml */
int lr_cmd_eval(struct lr_cli *);       /* eval.c: what measures models on this machine */
int lr_cmd_calc(struct lr_cli *);       /* calc.c */
int lr_cmd_bench(struct lr_cli *);      /* bench.c */
int lr_cmd_train(struct lr_cli *);      /* train.c */
int lr_cmd_model(struct lr_cli *);      /* model.c */
int lr_cmd_help(struct lr_cli *);

#endif
