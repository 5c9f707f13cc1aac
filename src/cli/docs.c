/* SPDX-License-Identifier: Apache-2.0
 * cli/docs.c - larder docs: the man page, bash completion and sample configuration, from the tables.
 */
#include "cli/cli.h"

#include <stdio.h>

static int man(struct lr_buf *b)
{
    lr_buf_addf(b, ".TH LARDER 1 \"\" \"larder %s\" \"User Commands\"\n.SH NAME\nlarder \\- one cache "
                   "hierarchy for LLM serving\n.SH SYNOPSIS\n.B larder\n.I COMMAND\n[options]\n"
                   ".SH COMMANDS\n", LR_VERSION);
    for (size_t i = 0; i < lr_commands_n; i++)
        lr_buf_addf(b, ".TP\n.B larder %s\n.I \"%s\"\n.br\n%s\n", lr_commands[i].name,
                    lr_commands[i].args, lr_commands[i].what);
    return lr_config_man(b);
}

static int completion(struct lr_buf *b)
{
    lr_buf_addz(b, "# bash completion for larder(1); source it\n_larder()\n{\n"
                   "    local cur=${COMP_WORDS[COMP_CWORD]}\n"
                   "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < lr_commands_n; i++)
        lr_buf_addf(b, "%s%s", i ? " " : "", lr_commands[i].name);
    lr_buf_addz(b, "\" -- \"$cur\"))\n        return\n    fi\n    case $cur in\n    -*)\n"
                   "        COMPREPLY=($(compgen -W \"--help --config ");
    int rc = lr_config_completion_flags(b);
    lr_buf_addz(b, "\" -- \"$cur\"))\n        ;;\n    *)\n        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
                   "        ;;\n    esac\n}\ncomplete -F _larder larder\n");
    return rc;
}

int lr_cmd_docs(struct lr_cli *cli)
{
    struct lr_buf b;
    const char *what = cli->argc == 1 ? cli->argv[0] : "";
    lr_buf_init(&b, LR_MIB(4));
    int rc = strcmp(what, "man") == 0          ? man(&b)
             : strcmp(what, "completion") == 0 ? completion(&b)
             : strcmp(what, "config") == 0     ? lr_config_sample(&b)
                                               : LR_EINVAL;
    if (!rc)
        rc = b.rc;
    if (rc)
        fprintf(stderr, "usage: larder docs man|completion|config\n");
    else
        printf("%.*s", (int)b.len, b.p);
    lr_buf_free(&b);
    return rc ? 2 : 0;
}
