/* SPDX-License-Identifier: Apache-2.0
 * base/json.h - JSON in and out: the one reader and the one writer of the house.
 *
 * The reader is strict RFC 8259 and keeps what a cache key needs and general libraries lose:
 * numbers keep their lexeme, every value keeps its bytes in the source (for pass-through and
 * splicing), duplicate members are refused, strings are valid UTF-8 (a lone \u surrogate is
 * refused), and every refusal says what and at which byte. The tree lives in an arena; the source
 * must outlive it.
 */
#ifndef LR_BASE_JSON_H
#define LR_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum lr_json_type {
    LR_JSON_NULL,
    LR_JSON_FALSE,
    LR_JSON_TRUE,
    LR_JSON_NUMBER,
    LR_JSON_STRING,
    LR_JSON_ARRAY,
    LR_JSON_OBJECT
};

struct lr_json {
    enum lr_json_type type;
    uint32_t n;         /* children of an array or object */
    struct lr_str key;  /* decoded name, when a member of an object */
    struct lr_str text; /* STRING: decoded; NUMBER: lexeme; else empty */
    struct lr_str raw;  /* the value's bytes in the source, quotes and brackets included */
    struct lr_json *child, *next;
};

struct lr_json_limits {
    unsigned depth_max; /* 0 = 128 */
    size_t nodes_max;   /* 0 = 4 million */
};

/* Parses all of src. LR_EPARSE (err->where "byte N"), LR_EOVER (too deep, too many), LR_ENOMEM.
 * limits and err may be NULL. Bytes are counted from 0. Strings without escapes are views into src,
 * others live in a. */
int lr_json_parse(struct lr_arena *a, struct lr_str src, const struct lr_json_limits *limits,
                  struct lr_json **out, struct lr_err *err);

/* The member of an object, or NULL (also when o is NULL or no object). */
struct lr_json *lr_json_get(const struct lr_json *o, const char *name);
struct lr_json *lr_json_get_str(const struct lr_json *o, struct lr_str name);
static inline bool lr_json_is(const struct lr_json *v, enum lr_json_type t)
{
    return v && v->type == t;
}
/* Typed reads: false leaves *out alone (absent or another type or out of range). */
bool lr_json_text(const struct lr_json *v, struct lr_str *out);
bool lr_json_u64(const struct lr_json *v, uint64_t *out); /* integral value: 3, 3.0, 3e0 */
bool lr_json_real(const struct lr_json *v, double *out);
bool lr_json_bool(const struct lr_json *v, bool *out);

/* Appends one spelling for all spellings of a number: [-]digits[e[-]exp] without leading or
 * trailing zeros; "0" for any zero. Exact: 1, 1.0 and 10e-1 give "1"; 0.1 and 0.10 give "1e-1".
 * Exponents beyond +-10^9 are kept as they are spelled. */
int lr_json_number_canon(struct lr_str lexeme, struct lr_buf *out);
/* Appends a canonical spelling of a value: members sorted by name (memcmp), no white space,
 * canonical numbers, shortest escapes. Equal values give equal bytes. */
int lr_json_canon(const struct lr_json *v, struct lr_buf *out);

/* A replacement in a parsed source: bytes [from, to) become `with`. */
struct lr_json_edit {
    size_t from, to;
    struct lr_str with;
};
/* An edit that makes object `o` (parsed from src) hold "name": value_json, whether or not the
 * member is there; text of the edit is built in a, value_json must live until the splice. Set each
 * name once; of an empty object only one name can be set (a second edit overlaps the first). */
int lr_json_edit_set(struct lr_arena *a, struct lr_str src, const struct lr_json *o,
                     const char *name, struct lr_str value_json, struct lr_json_edit *out);
/* src with n edits (sorted in place by `from`) appended to out. LR_EINVAL when edits overlap or
 * leave src; insertions at one place stay in order. */
int lr_json_splice(struct lr_str src, struct lr_json_edit *edits, size_t n, struct lr_buf *out);

/* The writer: commas and nesting are its business, errors stick in the buffer. */
struct lr_jw {
    struct lr_buf *b;
    uint64_t comma; /* one bit a level: a comma is due */
    uint64_t array; /* one bit a level: array or object */
    unsigned depth; /* at most 64 */
};

void lr_jw_init(struct lr_jw *w, struct lr_buf *b);
void lr_jw_obj(struct lr_jw *w);
void lr_jw_arr(struct lr_jw *w);
void lr_jw_end(struct lr_jw *w); /* of the innermost object or array */
void lr_jw_key(struct lr_jw *w, const char *name);
void lr_jw_key_str(struct lr_jw *w, struct lr_str name);
void lr_jw_str(struct lr_jw *w, struct lr_str s);
void lr_jw_strz(struct lr_jw *w, const char *z);
void lr_jw_u64(struct lr_jw *w, uint64_t v);
void lr_jw_i64(struct lr_jw *w, int64_t v);
void lr_jw_real(struct lr_jw *w, double v); /* shortest that reads back; null if not finite */
void lr_jw_bool(struct lr_jw *w, bool v);
void lr_jw_null(struct lr_jw *w);
void lr_jw_raw(struct lr_jw *w, struct lr_str json); /* a complete value, trusted */
/* A view of JSON string escapes: appends s quoted. Invalid UTF-8 becomes U+FFFD. */
int lr_json_quote(struct lr_buf *b, struct lr_str s);

#endif
