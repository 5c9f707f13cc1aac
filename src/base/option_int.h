/* SPDX-License-Identifier: Apache-2.0
 * base/option_int.h - what the files of the options table share: the record tables as data, the
 * places of errors, and the setters that every source of values (defaults, file, environment,
 * flags) uses.
 */
#ifndef LR_BASE_OPTION_INT_H
#define LR_BASE_OPTION_INT_H

#include "base/base.h"

#define LR_OPT_FILE_MAX    LR_MIB(4)
#define LR_OPT_TEXT_MAX    4096 /* bytes of one text or list item */
#define LR_OPT_RECORDS_MAX 1024
#define LR_OPT_ROWS_MAX    128 /* rows and fields of the whole table: our own bound */
#define LR_OPT_NAME_MAX    96  /* bytes of a key, flag or environment name with its NUL */
#define LR_OPT_SHOW_MAX    64  /* bytes of foreign text quoted in an error, NUL included */

/* A record table: the member `{struct lr_opt_<name> *v; size_t n;}` of struct lr_config. */
struct lr_opt_table {
    const char *name, *key, *doc; /* "upstream", "upstreams" */
    size_t offset;                /* of v in struct lr_config */
    size_t size;                  /* of one record */
    const struct lr_opt_row *rows;
    size_t rows_n;
};
const struct lr_opt_table *lr_opt_tables(size_t *n);
/* The plain rows: lr_opt_rows() without the fields of the record tables. */
const struct lr_opt_row *lr_opt_plain(size_t *n);

/* Where a value came from: a file and a line, or a flag or environment name and line 0. */
struct lr_opt_at {
    const char *name;
    size_t line;
    struct lr_err *err; /* may be NULL */
};
/* Sets err to the sentence and the place; returns code. */
int lr_opt_fail(const struct lr_opt_at *at, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int lr_opt_nomem(const struct lr_opt_at *at);
/* Foreign text made fit for an error line: cut at a character, control bytes become '?'. */
const char *lr_opt_show(struct lr_str s, char out[LR_OPT_SHOW_MAX]);

/* "--answer-bytes" and "LARDER_ANSWER_BYTES" of a plain row. */
const char *lr_opt_flag(const struct lr_opt_row *row, char out[LR_OPT_NAME_MAX]);
const char *lr_opt_env(const struct lr_opt_row *row, char out[LR_OPT_NAME_MAX]);
/* "answer.bytes"; "upstreams.url" for a field. */
const char *lr_opt_label(const struct lr_opt_row *row, char out[LR_OPT_NAME_MAX]);
/* The group of a key: "answer" of "answer.bytes", empty of "data". */
struct lr_str lr_opt_group(const char *key);

/* Parses, validates and stores one value into the struct at base (the config or a record),
 * replacing what was there. A LIST is split at commas. */
int lr_opt_set(const struct lr_opt_row *row, void *base, struct lr_str text,
               const struct lr_opt_at *at);
void lr_opt_list_clear(const struct lr_opt_row *row, void *base);
int lr_opt_list_add(const struct lr_opt_row *row, void *base, struct lr_str item,
                    const struct lr_opt_at *at);
/* A new last record with its defaults; *out lives until the next one is added. */
int lr_opt_record_add(const struct lr_opt_table *t, struct lr_config *c, void **out,
                      const struct lr_opt_at *at);
size_t lr_opt_record_count(const struct lr_opt_table *t, const struct lr_config *c);
void *lr_opt_record(const struct lr_opt_table *t, const struct lr_config *c, size_t i);
/* Frees the records after the first n. */
void lr_opt_record_cut(const struct lr_opt_table *t, struct lr_config *c, size_t n);

/* The name nearest to a misspelt one. Offer candidates, then read best ("" when none is near). */
struct lr_opt_near {
    struct lr_str word;
    unsigned score; /* of best: edits, smaller is nearer */
    char best[LR_OPT_NAME_MAX];
};
void lr_opt_near_init(struct lr_opt_near *n, struct lr_str word);
void lr_opt_near_try(struct lr_opt_near *n, const char *candidate);

/* Reads YAML text into c over what is there. only: NULL, or the one table the text may hold. On
 * failure c is partly changed and still may be freed. name is the place in errors. */
int lr_opt_yaml(struct lr_config *c, struct lr_str text, const char *name,
                const struct lr_opt_table *only, struct lr_err *err);

/* The part of lr_config_check about prices, which a price file needs by itself. */
int lr_opt_check_prices(const struct lr_config *c, struct lr_err *err);

/* Appends s as a YAML scalar that reads back the same. */
int lr_opt_put_text(struct lr_buf *b, struct lr_str s);

#endif
