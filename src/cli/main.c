/* SPDX-License-Identifier: Apache-2.0
 * cli/main.c - larder(1): the command table, and what the commands share.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

const struct lr_command lr_commands[] = {
    {"serve", "[options]", "run the gateway", lr_cmd_serve, LR_TAKES_OPTIONS},
    {"top", "", "live view of a running gateway", lr_cmd_top, LR_TAKES_OPTIONS},
    {"stats", "[--json]", "hit rate, tokens, money and seconds saved", lr_cmd_stats, LR_TAKES_OPTIONS},
    {"explain", "ID [--against ID2]", "why a request was a hit or a miss, and what differed",
     lr_cmd_explain, LR_TAKES_OPTIONS},
    {"answer", "list|get|delete|flush|bad ...", "stored answers: look, delete, report a bad hit",
     lr_cmd_answer, LR_TAKES_OPTIONS},
    {"kv", "lookup|move|health|doctor ...", "the KV store: look, pin, move, clear, limit, diagnose",
     lr_cmd_kv, LR_TAKES_OPTIONS},
    {"key", "add NAME | list | revoke ID", "client keys of managed mode", lr_cmd_key, LR_TAKES_OPTIONS},
    {"trace", "export [--out F]", "recent requests as JSONL, without text", lr_cmd_trace, LR_TAKES_OPTIONS},
    {"doctor", "[--print-config]", "check configuration, upstreams and the data directory",
     lr_cmd_doctor, LR_TAKES_OPTIONS},
    {"eval", "kv --model F [options]", "what KV policies save and cost on a model", lr_cmd_eval,
     LR_TAKES_FLAGS},
    {"calc", "--model F | --like SHAPE", "users, seconds, tokens/s of a model on a machine", lr_cmd_calc,
     LR_TAKES_FLAGS},
    {"bench", "engine --model F [options]", "how fast a model runs here", lr_cmd_bench,
     LR_TAKES_FLAGS},
    {"train", "pairs --train CSV --out DIR", "fine-tune the models of the semantic shelf", lr_cmd_train,
     LR_TAKES_FLAGS},
    {"model", "random --like SHAPE --out F", "write a model of a real shape with random weights",
     lr_cmd_model, LR_TAKES_FLAGS},
    {"docs", "man|completion|config", "print the man page, bash completion or a commented larder.yaml",
     lr_cmd_docs, LR_TAKES_WORDS},
    {"help", "[COMMAND]", "this text", lr_cmd_help, LR_TAKES_WORDS},
};
const size_t lr_commands_n = LR_COUNT(lr_commands);

int lr_cli_fail(const char *what, const struct lr_err *err)
{
    const char *where = err && err->where[0] ? err->where : NULL;
    fprintf(stderr, "larder: %s: %s%s%s%s\n", what,
            err && err->msg[0] ? err->msg : lr_strerror(err ? err->code : LR_EINVAL), where ? " (" : "",
            where ? where : "", where ? ")" : "");
    return 1;
}

static void drop(struct lr_cli *cli, int at, int n)
{
    for (int i = at; i + n <= cli->argc; i++)
        cli->argv[i] = cli->argv[i + n]; /* the NULL at the end moves along */
    cli->argc -= n;
}

const char *lr_cli_take(struct lr_cli *cli, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < cli->argc; i++) {
        const char *a = cli->argv[i];
        if (strncmp(a, name, n) != 0)
            continue;
        if (a[n] == '=') {
            drop(cli, i, 1);
            return a + n + 1;
        }
        if (a[n] == 0 && i + 1 < cli->argc) {
            const char *v = cli->argv[i + 1];
            drop(cli, i, 2);
            return v;
        }
    }
    return NULL;
}

bool lr_cli_take_flag(struct lr_cli *cli, const char *name)
{
    for (int i = 0; i < cli->argc; i++)
        if (strcmp(cli->argv[i], name) == 0) {
            drop(cli, i, 1);
            return true;
        }
    return false;
}

int lr_cli_config(struct lr_cli *cli, struct lr_config **out)
{
    struct lr_err err = {0};
    const char *path = lr_cli_take(cli, "--config");
    if (!path)
        path = getenv("LARDER_CONFIG");
    struct lr_config *c = lr_new(struct lr_config);
    int rest = 0;
    int rc = c ? lr_config_load(c, path && *path ? path : NULL, cli->envp, cli->argc, cli->argv, &rest, &err)
               : LR_ENOMEM;
    if (rc) {
        lr_free(c);
        err.code = rc;
        lr_cli_fail("configuration", &err);
        return rc;
    }
    cli->argc = rest;
    rc = lr_config_check(c, &err);
    if (rc) {
        lr_config_free(c);
        lr_free(c);
        lr_cli_fail("configuration", &err);
        return rc;
    }
    lr_log_set_level((enum lr_log_level)c->log_level);
    *out = c;
    return 0;
}

int lr_cli_data_dir(const struct lr_config *c, char *out, size_t cap)
{
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int k = *c->data      ? snprintf(out, cap, "%s", c->data)
            : xdg && *xdg ? snprintf(out, cap, "%s/larder", xdg)
                          : snprintf(out, cap, "%s/.local/share/larder", home && *home ? home : ".");
    return k < 0 || (size_t)k >= cap ? LR_EOVER : 0;
}

int lr_cmd_help(struct lr_cli *cli)
{
    if (cli->argc > 0)
        for (size_t i = 0; i < lr_commands_n; i++)
            if (strcmp(cli->argv[0], lr_commands[i].name) == 0) {
                if (lr_commands[i].takes == LR_TAKES_FLAGS) {
                    char *ask[] = {(char[]){"--help"}, NULL};
                    struct lr_cli own = {lr_commands[i].name, 1, ask, cli->envp};
                    (void)lr_commands[i].run(&own); /* 2 where a subcommand is missing: it is help here */
                    return 0;
                }
                printf("larder %s %s\n  %s\n", lr_commands[i].name, lr_commands[i].args,
                       lr_commands[i].what);
                if (lr_commands[i].takes != LR_TAKES_OPTIONS)
                    return 0;
                struct lr_buf b;
                lr_buf_init(&b, LR_MIB(1));
                if (lr_config_help(&b) == 0)
                    printf("\n%.*s", (int)b.len, b.p);
                lr_buf_free(&b);
                return 0;
            }
    printf("larder %s - don't cook the same prompt twice\n\n", LR_VERSION);
    for (size_t i = 0; i < lr_commands_n; i++)
        printf("  larder %-8s %-30s %s\n", lr_commands[i].name, lr_commands[i].args, lr_commands[i].what);
    printf("\n  larder COMMAND --help lists a command's options; larder --version\n");
    return 0;
}

int main(int argc, char **argv, char **envp)
{
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        printf("larder %s\n", LR_VERSION);
        return 0;
    }
    bool help = argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
    struct lr_cli cli = {"help", argc > 2 ? argc - 2 : 0, argv + (argc > 2 ? 2 : argc), envp};
    if (help)
        return lr_cmd_help(&(struct lr_cli){"help", 0, argv + argc, envp});
    for (size_t i = 0; i < lr_commands_n; i++) {
        if (strcmp(argv[1], lr_commands[i].name) != 0)
            continue;
        cli.name = lr_commands[i].name;
        if (lr_commands[i].takes != LR_TAKES_FLAGS &&
            (lr_cli_take_flag(&cli, "--help") || lr_cli_take_flag(&cli, "-h")))
            return lr_cmd_help(&(struct lr_cli){"help", 1, argv + 1, envp});
        return lr_commands[i].run(&cli);
    }
    fprintf(stderr, "larder: no command '%s'; try larder --help\n", argv[1]);
    return 2;
}
