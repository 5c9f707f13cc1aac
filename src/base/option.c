/* SPDX-License-Identifier: Apache-2.0
 * base/option.c - the options table as data, and the one setter behind every source of values.
 *
 * options.def is expanded here a third time (option.h made the structs), now into rows: type,
 * names, bounds and the offset of the member. Nothing below knows an option by name; what an option
 * means is its row, so a new option is one line in options.def and nowhere else.
 *
 *   rows   [ listen, admin.listen, ... trace.file | upstreams.name ... | aliases.name ... | ... ]
 *            plain: offset in lr_config         fields: offset in the record
 *   tables [ upstream: rows 35..58, offset of config.upstreams ] [ alias ] [ tenant ] ...
 *
 * Sources run from the weakest to the strongest (defaults, option_yaml.c, then environment and
 * flags in option_load.c) and all of them end in lr_opt_set, so that bounds, names and messages are
 * the same wherever a value comes from.
 *
 * Invariants, from the first successful lr_config_load step to lr_config_free: every TEXT is a heap
 * string, every LIST holds n heap strings, every record below n has all its fields set. A failed
 * set leaves the old value in place. A record counts from before its first field is filled, so that
 * a load that stops half-way is freed by the same code.
 *
 * Texts are valid UTF-8 without control characters, whatever the source: that is what keeps CR and
 * LF out of headers and lets lr_config_print write any value as YAML.
 *
 * Dropped: a hash of names. There are below a hundred rows, read a handful of times a run.
 */
#include "base/option_int.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#define OPT(type, key, field, def, min, max, when, doc)
#define RECORD(name, plural, doc) static const char key_of_##name[] = #plural;
#define FIELD(rec, type, key, field, def, min, max, doc)
#define RECORD_END(name)
#include "base/options.def"

static const struct lr_opt_row rows[] = {
#define OPT(type, key, field, def, min, max, when, doc)                                            \
    {LR_OPT_##type, LR_OPT_##when, key,                                                            \
     def,           min,           max,                                                            \
     doc,           NULL,          offsetof(struct lr_config, field)},
#define RECORD(name, plural, doc)
#define FIELD(rec, type, key, field, def, min, max, doc)                                           \
    {LR_OPT_##type, LR_OPT_LIVE,  key,                                                             \
     def,           min,          max,                                                             \
     doc,           key_of_##rec, offsetof(struct lr_opt_##rec, field)},
#define RECORD_END(name)
#include "base/options.def"
};

/* Row numbers. The odd pairs give FIRST_x the number of the row after it, END_x the one past. */
enum {
#define OPT(type, key, field, def, min, max, when, doc)  ROW_##field,
#define RECORD(name, plural, doc)                        FIRST_##name, BEFORE_##name = FIRST_##name - 1,
#define FIELD(rec, type, key, field, def, min, max, doc) ROW_##rec##_##field,
#define RECORD_END(name)                                 END_##name, LAST_##name = END_##name - 1,
#include "base/options.def"
};

/* option_load.c keeps a bit a plain row, option_yaml.c a line a row. */
_Static_assert((int)FIRST_upstream <= 64 && LR_COUNT(rows) <= LR_OPT_ROWS_MAX, "too many rows");

static const struct lr_opt_table tables[] = {
#define OPT(type, key, field, def, min, max, when, doc)
#define RECORD(name, plural, doc)                                                                  \
    {#name,                                                                                        \
     #plural,                                                                                      \
     doc,                                                                                          \
     offsetof(struct lr_config, plural.v),                                                         \
     sizeof(struct lr_opt_##name),                                                                 \
     rows + FIRST_##name,                                                                          \
     END_##name - FIRST_##name},
#define FIELD(rec, type, key, field, def, min, max, doc)
#define RECORD_END(name)
#include "base/options.def"
};

const struct lr_opt_row *lr_opt_rows(size_t *n)
{
    *n = LR_COUNT(rows);
    return rows;
}

const struct lr_opt_row *lr_opt_plain(size_t *n)
{
    *n = (size_t)(tables[0].rows - rows);
    return rows;
}

const struct lr_opt_table *lr_opt_tables(size_t *n)
{
    *n = LR_COUNT(tables);
    return tables;
}

/* ---- errors and names ---- */

/* "larder.yaml:12", the tail of a long path kept. */
static void place(const struct lr_opt_at *at, char *out, size_t size)
{
    char line[24] = "";
    if (at->line && snprintf(line, sizeof line, ":%zu", at->line) < 0)
        line[0] = 0;
    size_t n = strlen(at->name), room = size - 1 - strlen(line);
    bool cut = n > room;
    const char *name = cut ? at->name + (n - room + 3) : at->name;
    if (snprintf(out, size, "%s%s%s", cut ? "..." : "", name, line) < 0)
        out[0] = 0;
}

int lr_opt_fail(const struct lr_opt_at *at, int code, const char *fmt, ...)
{
    char msg[sizeof at->err->msg], where[sizeof at->err->where];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(msg, sizeof msg, fmt, ap) < 0)
        msg[0] = 0;
    va_end(ap);
    place(at, where, sizeof where);
    return lr_err_set(at->err, code, where, "%s", msg);
}

int lr_opt_nomem(const struct lr_opt_at *at)
{
    return lr_opt_fail(at, LR_ENOMEM, "%s", lr_strerror(LR_ENOMEM));
}

static bool control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

const char *lr_opt_show(struct lr_str s, char out[LR_OPT_SHOW_MAX])
{
    size_t n = s.n, room = LR_OPT_SHOW_MAX - 4;
    if (n > room) {
        n = room;
        while (n && (s.p[n] & 0xC0) == 0x80)
            n--; /* not inside a character */
    }
    bool text = lr_utf8_check(lr_str(s.p, n), NULL) == 0;
    for (size_t i = 0; i < n; i++)
        out[i] = control(s.p[i]) || (!text && (s.p[i] & 0x80)) ? '?' : s.p[i];
    memcpy(out + n, n < s.n ? "..." : "", n < s.n ? 4 : 1);
    return out;
}

/* prefix and key with '.' (and for environment names '-') replaced; keys are short. */
static const char *spell(const char *prefix, const char *key, bool env, char out[LR_OPT_NAME_MAX])
{
    size_t n = strlen(prefix);
    assert(n + strlen(key) < LR_OPT_NAME_MAX);
    memcpy(out, prefix, n);
    for (; *key; key++) {
        bool lower = *key >= 'a' && *key <= 'z';
        bool mark = *key == '.' || *key == '-';
        out[n++] = mark ? (env ? '_' : '-') : env && lower ? (char)(*key - 'a' + 'A') : *key;
    }
    out[n] = 0;
    return out;
}

const char *lr_opt_flag(const struct lr_opt_row *row, char out[LR_OPT_NAME_MAX])
{
    return spell("--", row->key, false, out);
}

const char *lr_opt_env(const struct lr_opt_row *row, char out[LR_OPT_NAME_MAX])
{
    return spell("LARDER_", row->key, true, out);
}

const char *lr_opt_label(const struct lr_opt_row *row, char out[LR_OPT_NAME_MAX])
{
    if (snprintf(out, LR_OPT_NAME_MAX, "%s%s%s", row->record ? row->record : "",
                 row->record ? "." : "", row->key) < 0)
        out[0] = 0;
    return out;
}

struct lr_str lr_opt_group(const char *key)
{
    const char *dot = strchr(key, '.');
    return lr_str(key, dot ? (size_t)(dot - key) : 0);
}

/* ---- one value ---- */

static void *member(const struct lr_opt_row *row, void *base)
{
    return (char *)base + row->offset;
}

/* One sentence for every refusal: "answer.bytes wants a size such as 64K or 1G, got 'x'". */
static int refuse(const struct lr_opt_row *row, const struct lr_opt_at *at, int rc,
                  struct lr_str text, const char *wants)
{
    char label[LR_OPT_NAME_MAX], got[LR_OPT_SHOW_MAX];
    return lr_opt_fail(at, rc == LR_EOVER ? LR_EOVER : LR_EINVAL, "%s wants %s, got '%s'",
                       lr_opt_label(row, label), wants, lr_opt_show(text, got));
}

static int out_of_range(const struct lr_opt_row *row, const struct lr_opt_at *at,
                        struct lr_str text)
{
    char wants[80];
    if (row->type == LR_OPT_LIST
            ? snprintf(wants, sizeof wants, "at most %s items", row->max) < 0
            : snprintf(wants, sizeof wants, "%s to %s", row->min, row->max) < 0)
        wants[0] = 0;
    return refuse(row, at, LR_EOVER, text, wants);
}

/* Numbers have both bounds in the table; a bound that does not parse is our bug. */
static int parse_whole(enum lr_opt_type type, struct lr_str s, uint64_t *out)
{
    return type == LR_OPT_SIZE       ? lr_parse_size(s, out)
           : type == LR_OPT_DURATION ? lr_parse_duration(s, out)
                                     : lr_parse_u64(s, out);
}

static int set_whole(const struct lr_opt_row *row, uint64_t *out, struct lr_str text,
                     const struct lr_opt_at *at)
{
    uint64_t v, lo = 0, hi = 0;
    int rc = parse_whole(row->type, text, &v);
    if (rc == LR_EPARSE)
        return refuse(row, at, rc, text,
                      row->type == LR_OPT_SIZE       ? "a size such as 64K or 1G"
                      : row->type == LR_OPT_DURATION ? "a duration such as 250ms, 5s or 2h"
                                                     : "a whole number");
    bool bad = parse_whole(row->type, lr_strz(row->min), &lo) ||
               parse_whole(row->type, lr_strz(row->max), &hi);
    assert(!bad);
    if (rc || v < lo || v > hi)
        return out_of_range(row, at, text);
    *out = v;
    return 0;
}

static int set_real(const struct lr_opt_row *row, double *out, struct lr_str text,
                    const struct lr_opt_at *at)
{
    double v, lo = 0, hi = 0;
    int rc = lr_parse_real(text, &v);
    if (rc == LR_EPARSE)
        return refuse(row, at, rc, text, "a number such as 1.25");
    bool bad = lr_parse_real(lr_strz(row->min), &lo) || lr_parse_real(lr_strz(row->max), &hi);
    assert(!bad);
    if (rc || v < lo || v > hi)
        return out_of_range(row, at, text);
    *out = v;
    return 0;
}

static int set_bool(const struct lr_opt_row *row, bool *out, struct lr_str text,
                    const struct lr_opt_at *at)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < LR_COUNT(words); i++) {
        if (!lr_str_ieq(text, lr_strz(words[i])))
            continue;
        *out = i & 1;
        return 0;
    }
    return refuse(row, at, LR_EINVAL, text, "true or false");
}

static int set_enum(const struct lr_opt_row *row, int *out, struct lr_str text,
                    const struct lr_opt_at *at)
{
    struct lr_str rest = lr_strz(row->min);
    for (int i = 0; rest.p; i++) {
        if (!lr_str_eq(lr_str_cut(&rest, '|'), text))
            continue;
        *out = i;
        return 0;
    }
    char wants[120];
    if (snprintf(wants, sizeof wants, "one of %s", row->min) < 0)
        wants[0] = 0;
    return refuse(row, at, LR_EINVAL, text, wants);
}

/* A heap copy of a text fit for a TEXT or a LIST item. */
static int copy_text(const struct lr_opt_row *row, struct lr_str text, const struct lr_opt_at *at,
                     char **out)
{
    if (text.n > LR_OPT_TEXT_MAX)
        return refuse(row, at, LR_EOVER, text, "at most 4096 bytes");
    if (lr_utf8_check(text, NULL))
        return refuse(row, at, LR_EINVAL, text, "valid UTF-8");
    for (size_t i = 0; i < text.n; i++)
        if (control(text.p[i]))
            return refuse(row, at, LR_EINVAL, text, "text without control characters");
    char *copy = lr_strndup(text.p, text.n);
    if (!copy)
        return lr_opt_nomem(at);
    *out = copy;
    return 0;
}

static int set_text(const struct lr_opt_row *row, char **out, struct lr_str text,
                    const struct lr_opt_at *at)
{
    char *copy;
    LR_TRY(copy_text(row, text, at, &copy));
    lr_free(*out);
    *out = copy;
    return 0;
}

static void list_free(struct lr_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        lr_free(l->v[i]);
    lr_free(l->v);
    *l = (struct lr_list){NULL, 0};
}

void lr_opt_list_clear(const struct lr_opt_row *row, void *base)
{
    list_free(member(row, base));
}

/* Arrays here grow when n is a power of two (from 1 on), so that n alone tells the room. */
static int grow(void **v, size_t n, size_t size)
{
    if (n & (n - 1)) /* false for 0 and for powers of two */
        return 0;
    void *more = lr_realloc(*v, (n ? 2 * n : 1) * size);
    LR_FAIL_IF(!more, LR_ENOMEM);
    *v = more;
    return 0;
}

int lr_opt_list_add(const struct lr_opt_row *row, void *base, struct lr_str item,
                    const struct lr_opt_at *at)
{
    struct lr_list *l = member(row, base);
    uint64_t max = 0;
    int bad = lr_parse_u64(lr_strz(row->max), &max);
    assert(!bad && row->type == LR_OPT_LIST);
    if (item.n == 0)
        return refuse(row, at, LR_EINVAL, item, "items that are not empty");
    if (l->n >= max)
        return out_of_range(row, at, item);
    char *copy;
    LR_TRY(copy_text(row, item, at, &copy));
    void *v = l->v;
    if (grow(&v, l->n, sizeof *l->v)) {
        lr_free(copy);
        return lr_opt_nomem(at);
    }
    l->v = v;
    l->v[l->n++] = copy;
    return 0;
}

static int set_list(const struct lr_opt_row *row, void *base, struct lr_str text,
                    const struct lr_opt_at *at)
{
    lr_opt_list_clear(row, base);
    struct lr_str rest = lr_str_trim(text);
    if (rest.n == 0)
        return 0;
    while (rest.p)
        LR_TRY(lr_opt_list_add(row, base, lr_str_trim(lr_str_cut(&rest, ',')), at));
    return 0;
}

int lr_opt_set(const struct lr_opt_row *row, void *base, struct lr_str text,
               const struct lr_opt_at *at)
{
    void *m = member(row, base);
    switch (row->type) {
    case LR_OPT_TEXT:
        return set_text(row, m, text, at);
    case LR_OPT_LIST:
        return set_list(row, base, text, at);
    case LR_OPT_REAL:
        return set_real(row, m, text, at);
    case LR_OPT_BOOL:
        return set_bool(row, m, text, at);
    case LR_OPT_ENUM:
        return set_enum(row, m, text, at);
    case LR_OPT_SIZE:
    case LR_OPT_UINT:
    case LR_OPT_DURATION:
        return set_whole(row, m, text, at);
    }
    return LR_EINVAL;
}

/* ---- records ---- */

/* The {v, n} pair of a table is moved by memcpy: its pointer has another type in every table. */
struct span {
    char *v;
    size_t n;
};

static struct span span_of(const struct lr_opt_table *t, const struct lr_config *c)
{
    struct span s;
    const char *at = (const char *)c + t->offset;
    memcpy(&s.v, at, sizeof s.v);
    memcpy(&s.n, at + offsetof(struct span, n), sizeof s.n);
    return s;
}

static void span_put(const struct lr_opt_table *t, struct lr_config *c, struct span s)
{
    char *at = (char *)c + t->offset;
    memcpy(at, &s.v, sizeof s.v);
    memcpy(at + offsetof(struct span, n), &s.n, sizeof s.n);
}

size_t lr_opt_record_count(const struct lr_opt_table *t, const struct lr_config *c)
{
    return span_of(t, c).n;
}

void *lr_opt_record(const struct lr_opt_table *t, const struct lr_config *c, size_t i)
{
    return span_of(t, c).v + i * t->size;
}

static int fill_defaults(const struct lr_opt_row *row, size_t n, void *base,
                         const struct lr_opt_at *at)
{
    for (size_t i = 0; i < n; i++)
        LR_TRY(lr_opt_set(&row[i], base, lr_strz(row[i].def), at));
    return 0;
}

int lr_opt_record_add(const struct lr_opt_table *t, struct lr_config *c, void **out,
                      const struct lr_opt_at *at)
{
    struct span s = span_of(t, c);
    if (s.n >= LR_OPT_RECORDS_MAX)
        return lr_opt_fail(at, LR_EOVER, "%s holds at most %d records", t->key, LR_OPT_RECORDS_MAX);
    void *v = s.v;
    if (grow(&v, s.n, t->size))
        return lr_opt_nomem(at);
    s.v = v;
    char *rec = s.v + s.n++ * t->size;
    memset(rec, 0, t->size);
    span_put(t, c, s);
    LR_TRY(fill_defaults(t->rows, t->rows_n, rec, at));
    *out = rec;
    return 0;
}

static void rows_free(const struct lr_opt_row *row, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++) {
        if (row[i].type == LR_OPT_LIST)
            list_free(member(&row[i], base));
        if (row[i].type == LR_OPT_TEXT) {
            char **text = member(&row[i], base);
            lr_free(*text);
            *text = NULL;
        }
    }
}

void lr_opt_record_cut(const struct lr_opt_table *t, struct lr_config *c, size_t n)
{
    struct span s = span_of(t, c);
    while (s.n > n)
        rows_free(t->rows, t->rows_n, s.v + --s.n * t->size);
    span_put(t, c, s);
}

int lr_config_defaults(struct lr_config *c, struct lr_err *err)
{
    struct lr_opt_at at = {"defaults", 0, err};
    struct lr_config fresh;
    memset(&fresh, 0, sizeof fresh);
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    int rc = fill_defaults(row, n, &fresh, &at);
    if (rc) {
        lr_config_free(&fresh);
        return rc;
    }
    *c = fresh;
    return 0;
}

void lr_config_free(struct lr_config *c)
{
    for (size_t i = 0; i < LR_COUNT(tables); i++) {
        lr_opt_record_cut(&tables[i], c, 0);
        lr_free(span_of(&tables[i], c).v);
    }
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    rows_free(row, n, c);
    memset(c, 0, sizeof *c);
}

/* ---- did you mean ---- */

void lr_opt_near_init(struct lr_opt_near *n, struct lr_str word)
{
    /* Accepted: one edit, and one more for every four letters. */
    *n = (struct lr_opt_near){.word = word, .score = 2 + (unsigned)(word.n < 64 ? word.n / 4 : 0)};
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    a = a < b ? a : b;
    return a < c ? a : c;
}

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b: the three newest rows of
 * the usual table are kept. Both below LR_OPT_NAME_MAX bytes. */
static unsigned edits(struct lr_str a, struct lr_str b)
{
    unsigned line[3][LR_OPT_NAME_MAX];
    for (size_t j = 0; j <= b.n; j++)
        line[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a.n; i++) {
        unsigned *now = line[i % 3], *up = line[(i + 2) % 3], *up2 = line[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b.n; j++) {
            unsigned swap = a.p[i - 1] == b.p[j - 1] ? 0 : 1;
            now[j] = min3(up[j] + 1, now[j - 1] + 1, up[j - 1] + swap);
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] &&
                up2[j - 2] + 1 < now[j])
                now[j] = up2[j - 2] + 1;
        }
    }
    return line[a.n % 3][b.n];
}

/* "ttl" is the end of "answer-ttl": people forget the group. */
static bool ends_with_word(struct lr_str name, struct lr_str word)
{
    return word.n > 1 && name.n > word.n + 1 && strchr(".-_", name.p[name.n - word.n - 1]) &&
           memcmp(name.p + name.n - word.n, word.p, word.n) == 0;
}

void lr_opt_near_try(struct lr_opt_near *n, const char *candidate)
{
    struct lr_str name = lr_strz(candidate);
    if (name.n >= LR_OPT_NAME_MAX || n->word.n >= LR_OPT_NAME_MAX || n->word.n < 2)
        return;
    unsigned d = ends_with_word(name, n->word) ? 1 : edits(n->word, name);
    if (d >= n->score || d >= n->word.n)
        return;
    n->score = d;
    memcpy(n->best, name.p, name.n + 1);
}
