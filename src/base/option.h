/* SPDX-License-Identifier: Apache-2.0
 * base/option.h - the options table: one row makes the flag, the environment name, the config
 * key, the default, the validation, the help, the commented larder.yaml, the man page and the
 * completion.
 *
 *   row  SIZE answer.bytes          flag --answer-bytes   env LARDER_ANSWER_BYTES
 *                                   yaml  answer:\n  bytes: 1G      or  answer.bytes: 1G
 *
 * Precedence: flag over environment over file over default. Unknown names are errors, everywhere.
 * Lists of records (upstreams, aliases, tenants, categories, prices) are rows of record tables in
 * the same options.def. Secrets never come from a flag: rows named *-file and *-env point at them.
 * packaging/larder.yaml, made by lr_config_sample, shows them all.
 */
#ifndef LR_BASE_OPTION_H
#define LR_BASE_OPTION_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum lr_opt_type {
    LR_OPT_TEXT,     /* char *, never NULL after load: "" when empty */
    LR_OPT_LIST,     /* struct lr_list: repeated flag, comma-separated env, yaml sequence */
    LR_OPT_SIZE,     /* uint64_t bytes: "64K" */
    LR_OPT_UINT,     /* uint64_t */
    LR_OPT_REAL,     /* double */
    LR_OPT_BOOL,     /* bool: true false yes no on off 1 0 */
    LR_OPT_DURATION, /* uint64_t ms: "5s"; a bare number is seconds */
    LR_OPT_ENUM      /* int: index into the names of the row */
};
/* START options need a restart; LIVE ones follow SIGHUP. */
enum lr_opt_when { LR_OPT_START, LR_OPT_LIVE };

struct lr_list {
    char **v;
    size_t n;
};

#define LR_OPT_C_TEXT     char *
#define LR_OPT_C_LIST     struct lr_list
#define LR_OPT_C_SIZE     uint64_t
#define LR_OPT_C_UINT     uint64_t
#define LR_OPT_C_REAL     double
#define LR_OPT_C_BOOL     bool
#define LR_OPT_C_DURATION uint64_t
#define LR_OPT_C_ENUM     int

/* struct lr_opt_upstream, lr_opt_alias, ...: one struct a record table. */
#define OPT(type, key, field, def, min, max, when, doc)
#define RECORD(name, plural, doc)                        struct lr_opt_##name {
#define FIELD(rec, type, key, field, def, min, max, doc) LR_OPT_C_##type field;
#define RECORD_END(name)                                                                           \
    }                                                                                              \
    ;
#include "base/options.def"

struct lr_config {
#define OPT(type, key, field, def, min, max, when, doc) LR_OPT_C_##type field;
#define RECORD(name, plural, doc)                                                                  \
    struct {                                                                                       \
        struct lr_opt_##name *v;                                                                   \
        size_t n;                                                                                  \
    } plural;
#define FIELD(rec, type, key, field, def, min, max, doc)
#define RECORD_END(name)
#include "base/options.def"
};

/* Enum options: C names for the positions in their rows. */
enum { LR_SPEAKS_AUTO, LR_SPEAKS_OPENAI, LR_SPEAKS_ANTHROPIC };
enum { LR_CREDENTIAL_CLIENT, LR_CREDENTIAL_KEY, LR_CREDENTIAL_NONE };
enum { LR_BALANCE_RENDEZVOUS, LR_BALANCE_LEAST };
enum { LR_EVICT_OPT_LRU, LR_EVICT_OPT_S3FIFO, LR_EVICT_OPT_COST };

/* One row as data, for help, docs and generators. */
struct lr_opt_row {
    enum lr_opt_type type;
    enum lr_opt_when when;
    const char *key, *def, *min, *max, *doc;
    const char *record; /* NULL, or the key of the record table it belongs to ("upstreams") */
    size_t offset;      /* in struct lr_config, or in the record's struct */
};
const struct lr_opt_row *lr_opt_rows(size_t *n);

/* Loads defaults, then the file (path NULL: none), then env, then flags. argv holds options only
 * ("--key value", "--key=value", "--bool", "--no-bool"); what is no option is left: *rest_n words
 * are moved to the front of argv (rest_n NULL: such words are errors; "--" ends the options).
 * `--upstream URL` or `--upstream name=URL` adds an upstream record, LARDER_UPSTREAM a
 * comma-separated list of them. LARDER_CONFIG is skipped: the command line reads it and gives
 * `path`. An upstream without a name gets its URL's host, so names are set after a load. err says
 * what and where ("--answer-bytes", "LARDER_TTL", "larder.yaml:12"). On failure *c is as it was; on
 * success what it held is overwritten, not freed. The config owns its strings: lr_config_free. envp
 * may be NULL. Bounds: file at most 4 MiB, a text 4 KiB, 1024 records a table. Rows are validated
 * here; what rows must be to each other, by lr_config_check. */
int lr_config_load(struct lr_config *c, const char *path, char **envp, int argc, char **argv,
                   int *rest_n, struct lr_err *err);
/* Every row at its default, no records. */
int lr_config_defaults(struct lr_config *c, struct lr_err *err);
/* Appends the records of a price file (prices.file), YAML with the one key `prices`, and checks all
 * prices as lr_config_check does. On failure *c is as it was. Print a config before this if the
 * print is to be loaded again. */
int lr_config_load_prices(struct lr_config *c, const char *path, struct lr_err *err);
/* What rows must be to each other: TLS files come in pairs; names are there and unique; upstream
 * URLs are http or https and hold no credentials; aliases name upstreams that exist; dates and
 * headers are well-formed. LR_EINVAL with the record in err->where ("upstream 2 (azure)"). */
int lr_config_check(const struct lr_config *c, struct lr_err *err);
void lr_config_free(struct lr_config *c);

/* All of these append to out and return its rc.
 * The commented larder.yaml with every row at its default, as packaging/larder.yaml holds it. */
int lr_config_sample(struct lr_buf *out);
/* The configuration as YAML that loads to the same one. Secrets are only ever names of files here,
 * so it may be shown. */
int lr_config_print(const struct lr_config *c, struct lr_buf *out);
/* The options for --help, 80 columns. */
int lr_config_help(struct lr_buf *out);
/* The OPTIONS, ENVIRONMENT and FILES sections of larder(1), in roff's man macros. */
int lr_config_man(struct lr_buf *out);
/* Every flag, one a line, --no-NAME of switches included: for bash's compgen -W. */
int lr_config_completion_flags(struct lr_buf *out);
/* The values of a flag for completion ("error warn info debug"), or NULL when it takes any text: an
 * ENUM's names separated by '|'. flag with its dashes. */
const char *lr_config_completion_values(const char *flag);
/* START rows that differ between two configs: their keys, comma-separated, appended to out. */
int lr_config_diff_start(const struct lr_config *a, const struct lr_config *b, struct lr_buf *out);

#endif
