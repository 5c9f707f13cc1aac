/* SPDX-License-Identifier: Apache-2.0
 * base/option_yaml.c - larder.yaml into the options table, by libyaml's events.
 *
 * The file is a small part of YAML, and what is outside of it is refused rather than interpreted:
 *
 *   answer.bytes: 1G          a row by its whole key
 *   answer:                   or inside its group
 *     hot-bytes: 64M
 *   hosts: [a, b]             LIST: a sequence of texts, in either style
 *   upstreams:                record table: a sequence of maps
 *     - url: http://...
 *
 * No anchors, aliases, tags, directives, merge keys, second documents, null for a value, or a key
 * given twice, in whatever spelling. Every refusal is one sentence with the file and the line.
 *
 * Events, not libyaml's document: nothing is built before it is checked, so an alias bomb, a deep
 * nest or a wrong shape stops at its first event. Calls go down with the grammar, not with the
 * input: map > group > list, or map > table > record > list, so four levels are the deepest that is
 * ever read, and text is bounded by the row (4 KiB) and the file (4 MiB). libyaml allocates with
 * malloc of its own, outside the fault points; its memory error is LR_ENOMEM here.
 *
 * Line numbers remembered per row, group and table make "given twice (first on line N)" possible.
 */
#include "base/option_int.h"

#include <stdio.h>
#include <yaml.h>

struct reader {
    yaml_parser_t yaml;
    yaml_event_t ev; /* in hand; owned */
    struct lr_config *c;
    const struct lr_opt_table *only;    /* or NULL */
    struct lr_opt_at at;                /* line of the event in hand */
    size_t row_line[LR_OPT_ROWS_MAX];   /* 0: not seen yet */
    size_t group_line[LR_OPT_ROWS_MAX]; /* at the first row of the group */
    size_t table_line[LR_OPT_ROWS_MAX];
};

/* ---- events ---- */

static int syntax(struct reader *r)
{
    if (r->yaml.error == YAML_MEMORY_ERROR)
        return lr_opt_nomem(&r->at);
    bool bytes = r->yaml.error == YAML_READER_ERROR; /* has an offset, but no mark of its own */
    r->at.line = (bytes ? r->yaml.mark.line : r->yaml.problem_mark.line) + 1;
    const char *what = r->yaml.problem ? r->yaml.problem : "unreadable";
    return lr_opt_fail(&r->at, LR_EPARSE, "not YAML: %s", what);
}

static int refuse_extras(struct reader *r)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    const yaml_event_t *ev = &r->ev;
    if (ev->type == YAML_SCALAR_EVENT) {
        anchor = ev->data.scalar.anchor;
        tag = ev->data.scalar.tag;
    } else if (ev->type == YAML_SEQUENCE_START_EVENT) {
        anchor = ev->data.sequence_start.anchor;
        tag = ev->data.sequence_start.tag;
    } else if (ev->type == YAML_MAPPING_START_EVENT) {
        anchor = ev->data.mapping_start.anchor;
        tag = ev->data.mapping_start.tag;
    }
    if (ev->type == YAML_ALIAS_EVENT || anchor)
        return lr_opt_fail(&r->at, LR_EPARSE, "anchors and aliases are not supported");
    if (tag)
        return lr_opt_fail(&r->at, LR_EPARSE, "tags are not supported");
    return 0;
}

static int next(struct reader *r)
{
    yaml_event_delete(&r->ev);
    if (!yaml_parser_parse(&r->yaml, &r->ev))
        return syntax(r);
    r->at.line = r->ev.start_mark.line + 1;
    return refuse_extras(r);
}

static struct lr_str scalar(const struct reader *r)
{
    return lr_str(r->ev.data.scalar.value, r->ev.data.scalar.length);
}

/* An unquoted empty value: what is left when everything under a key is commented out. */
static bool is_blank(const struct reader *r)
{
    return r->ev.type == YAML_SCALAR_EVENT && r->ev.data.scalar.length == 0 &&
           r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const struct reader *r)
{
    struct lr_str s = scalar(r);
    return is_blank(r) || (r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                           (lr_str_is(s, "~") || lr_str_ieq(s, LR_STR("null"))));
}

/* ---- values ---- */

/* Checks that the event in hand is a text that may stand for a value of the row. */
static int want_scalar(struct reader *r, const struct lr_opt_row *row, const char *wants)
{
    char label[LR_OPT_NAME_MAX];
    if (r->ev.type != YAML_SCALAR_EVENT)
        return lr_opt_fail(&r->at, LR_EINVAL, "%s wants %s", lr_opt_label(row, label), wants);
    if (is_null(r))
        return lr_opt_fail(&r->at, LR_EINVAL, "%s needs a value (\"\" is the empty text)",
                           lr_opt_label(row, label));
    return 0;
}

static int read_list(struct reader *r, const struct lr_opt_row *row, void *base)
{
    char label[LR_OPT_NAME_MAX];
    if (r->ev.type != YAML_SEQUENCE_START_EVENT)
        return lr_opt_fail(&r->at, LR_EINVAL, "%s wants a list: [one, two]",
                           lr_opt_label(row, label));
    lr_opt_list_clear(row, base);
    for (;;) {
        LR_TRY(next(r));
        if (r->ev.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        LR_TRY(want_scalar(r, row, "a list of plain texts"));
        LR_TRY(lr_opt_list_add(row, base, scalar(r), &r->at));
    }
}

static int read_row(struct reader *r, const struct lr_opt_row *row, void *base)
{
    LR_TRY(next(r));
    if (row->type == LR_OPT_LIST)
        return read_list(r, row, base);
    LR_TRY(want_scalar(r, row, "one value, not a list or map"));
    return lr_opt_set(row, base, scalar(r), &r->at);
}

/* Notes the line of a name; the second time is an error. */
static int once(struct reader *r, size_t *line, const char *name)
{
    if (*line)
        return lr_opt_fail(&r->at, LR_EINVAL, "%s is given twice (first on line %zu)", name, *line);
    *line = r->at.line;
    return 0;
}

/* ---- names ---- */

static int unknown(struct reader *r, const char *what, struct lr_str name,
                   const struct lr_opt_near *near)
{
    char shown[LR_OPT_SHOW_MAX];
    lr_opt_show(name, shown);
    if (near->best[0])
        return lr_opt_fail(&r->at, LR_EINVAL, "unknown %s '%s'; did you mean '%s'?", what, shown,
                           near->best);
    return lr_opt_fail(&r->at, LR_EINVAL, "unknown %s '%s'", what, shown);
}

static int unknown_key(struct reader *r, struct lr_str key)
{
    struct lr_opt_near near;
    lr_opt_near_init(&near, key);
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    for (size_t i = 0; i < n && !r->only; i++) {
        char group[LR_OPT_NAME_MAX];
        struct lr_str g = lr_opt_group(row[i].key);
        memcpy(group, g.p, g.n);
        group[g.n] = 0;
        lr_opt_near_try(&near, row[i].key);
        lr_opt_near_try(&near, group);
    }
    for (size_t i = 0; i < tables_n; i++)
        if (!r->only || r->only == &t[i])
            lr_opt_near_try(&near, t[i].key);
    return unknown(r, r->only ? "key in a price file" : "key", key, &near);
}

/* Takes the next key of a map: its text (valid until the next event), or p == NULL at the end. */
static int next_key(struct reader *r, struct lr_str *key)
{
    LR_TRY(next(r));
    if (r->ev.type == YAML_MAPPING_END_EVENT) {
        *key = (struct lr_str){NULL, 0};
        return 0;
    }
    if (r->ev.type != YAML_SCALAR_EVENT)
        return lr_opt_fail(&r->at, LR_EINVAL, "a key must be plain text");
    *key = scalar(r);
    return 0;
}

/* ---- records ---- */

static int read_field(struct reader *r, const struct lr_opt_table *t, void *rec, struct lr_str key,
                      size_t *lines)
{
    char label[LR_OPT_NAME_MAX];
    struct lr_opt_near near;
    lr_opt_near_init(&near, key);
    for (size_t i = 0; i < t->rows_n; i++) {
        lr_opt_near_try(&near, t->rows[i].key);
        if (!lr_str_is(key, t->rows[i].key))
            continue;
        LR_TRY(once(r, &lines[i], lr_opt_label(&t->rows[i], label)));
        return read_row(r, &t->rows[i], rec);
    }
    char what[LR_OPT_NAME_MAX];
    if (snprintf(what, sizeof what, "key of %s", t->key) < 0)
        what[0] = 0;
    return unknown(r, what, key, &near);
}

static int read_record(struct reader *r, const struct lr_opt_table *t)
{
    size_t lines[LR_OPT_ROWS_MAX] = {0};
    void *rec;
    LR_TRY(lr_opt_record_add(t, r->c, &rec, &r->at));
    for (;;) {
        struct lr_str key = {NULL, 0};
        LR_TRY(next_key(r, &key));
        if (!key.p)
            return 0;
        LR_TRY(read_field(r, t, rec, key, lines));
    }
}

static int not_maps(struct reader *r, const struct lr_opt_table *t)
{
    return lr_opt_fail(&r->at, LR_EINVAL, "%s wants a list of maps: '- %s: ...'", t->key,
                       t->rows[0].key);
}

/* The event in hand begins the value. */
static int read_table(struct reader *r, const struct lr_opt_table *t)
{
    if (is_blank(r))
        return 0;
    if (r->ev.type != YAML_SEQUENCE_START_EVENT)
        return not_maps(r, t);
    for (;;) {
        LR_TRY(next(r));
        if (r->ev.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (r->ev.type != YAML_MAPPING_START_EVENT)
            return not_maps(r, t);
        LR_TRY(read_record(r, t));
    }
}

/* ---- the top map and its groups ---- */

/* What a whole key names: each SIZE_MAX, or a number. A table and a group may share a name: prices
 * is a list of records, prices.file a row; their values tell them apart. */
struct named {
    size_t row, group, table; /* group: its first row */
};

static struct named look_up(const struct reader *r, struct lr_str key)
{
    struct named found = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    for (size_t i = 0; i < tables_n; i++)
        if (lr_str_is(key, t[i].key) && (!r->only || r->only == &t[i]))
            found.table = i;
    for (size_t i = n; i-- > 0 && !r->only;) {
        if (lr_str_is(key, row[i].key))
            found.row = i;
        if (key.n && lr_str_eq(key, lr_opt_group(row[i].key)))
            found.group = i;
    }
    return found;
}

static int read_key(struct reader *r, struct lr_str group, struct lr_str key);

/* The event in hand begins the value. */
static int read_group(struct reader *r, const char *first_key)
{
    struct lr_str group = lr_opt_group(first_key);
    if (is_blank(r))
        return 0;
    if (r->ev.type != YAML_MAPPING_START_EVENT)
        return lr_opt_fail(&r->at, LR_EINVAL, "%.*s wants a map: '%s' is one of its keys",
                           LR_FMT(group), first_key);
    for (;;) {
        struct lr_str key = {NULL, 0};
        LR_TRY(next_key(r, &key));
        if (!key.p)
            return 0;
        LR_TRY(read_key(r, group, key));
    }
}

/* A key of the top map (group empty) or of a group, with its value. */
static int read_key(struct reader *r, struct lr_str group, struct lr_str key)
{
    char whole[LR_OPT_NAME_MAX];
    if (group.n + 1 + key.n >= sizeof whole || memchr(key.p, 0, key.n))
        return unknown_key(r, key);
    int k =
        snprintf(whole, sizeof whole, "%.*s%s%.*s", LR_FMT(group), group.n ? "." : "", LR_FMT(key));
    struct lr_str name = lr_str(whole, k < 0 ? 0 : (size_t)k);
    struct named is = look_up(r, name);
    size_t n;
    if (is.row != SIZE_MAX) {
        LR_TRY(once(r, &r->row_line[is.row], whole));
        return read_row(r, &lr_opt_plain(&n)[is.row], r->c);
    }
    if (is.group == SIZE_MAX && is.table == SIZE_MAX)
        return unknown_key(r, name);
    LR_TRY(
        once(r, is.table != SIZE_MAX ? &r->table_line[is.table] : &r->group_line[is.group], whole));
    LR_TRY(next(r));
    bool map = r->ev.type == YAML_MAPPING_START_EVENT;
    if (is.table != SIZE_MAX && !(map && is.group != SIZE_MAX))
        return read_table(r, &lr_opt_tables(&n)[is.table]);
    /* Groups have no dot, so none stands inside another: this goes one level down at most. */
    return read_group(r, lr_opt_plain(&n)[is.group].key);
}

/* The event in hand begins the top value. */
static int read_document(struct reader *r)
{
    bool map = r->ev.type == YAML_MAPPING_START_EVENT;
    if (!map && !is_blank(r))
        return lr_opt_fail(&r->at, LR_EINVAL, "the file wants 'key: value' lines");
    while (map) {
        struct lr_str key = {NULL, 0};
        LR_TRY(next_key(r, &key));
        if (!key.p)
            break;
        LR_TRY(read_key(r, LR_STR(""), key));
    }
    LR_TRY(next(r)); /* end of the document */
    LR_TRY(next(r));
    if (r->ev.type != YAML_STREAM_END_EVENT)
        return lr_opt_fail(&r->at, LR_EINVAL, "one document a file: a second one begins here");
    return 0;
}

static int read_stream(struct reader *r)
{
    LR_TRY(next(r)); /* start of the stream */
    LR_TRY(next(r));
    if (r->ev.type == YAML_STREAM_END_EVENT)
        return 0; /* nothing but comments */
    LR_TRY(next(r));
    return read_document(r);
}

/* Does the text before a character end in one of YAML 1.1's line breaks, or hold nothing at all? */
static bool at_line_start(struct lr_str before)
{
    static const char *const ends[] = {"\n", "\r", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"};
    for (size_t i = 0; i < LR_COUNT(ends); i++) {
        size_t n = strlen(ends[i]);
        if (before.n >= n && memcmp(before.p + before.n - n, ends[i], n) == 0)
            return true;
    }
    return before.n == 0;
}

/* libyaml compares every %TAG with all before it ahead of the first event: a quarter million of
 * them, which fit in 4 MiB, take minutes. So lines that start as directives never get there. */
static int refuse_directives(struct lr_str text, struct lr_opt_at *at)
{
    at->line = 1;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '%' && at_line_start(lr_str(text.p, i)))
            return lr_opt_fail(at, LR_EPARSE,
                               "directives (lines that start with %%) are not supported");
        at->line += text.p[i] == '\n';
    }
    return 0;
}

int lr_opt_yaml(struct lr_config *c, struct lr_str text, const char *name,
                const struct lr_opt_table *only, struct lr_err *err)
{
    struct reader r;
    memset(&r, 0, sizeof r);
    r.c = c;
    r.only = only;
    r.at = (struct lr_opt_at){name, 0, err};
    if (lr_str_starts(text, LR_STR("\xef\xbb\xbf"))) /* a byte order mark, as some editors write */
        text = lr_str(text.p + 3, text.n - 3);
    LR_TRY(refuse_directives(text, &r.at));
    if (!yaml_parser_initialize(&r.yaml))
        return lr_opt_nomem(&r.at);
    /* UTF-8 and nothing else: without this two bytes at the start would switch to UTF-16. */
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)(text.n ? text.p : ""), text.n);
    int rc = read_stream(&r);
    yaml_event_delete(&r.ev);
    yaml_parser_delete(&r.yaml);
    return rc;
}
