/* SPDX-License-Identifier: Apache-2.0
 * base/option_doc.c - what people read about the options, made from the rows and from nothing else:
 * the commented larder.yaml, --help, the man page's sections, the completion.
 *
 *   row  ->  # byte budget of stored answers on disk              the sample
 *            # 16M to 1T; restart; --answer-bytes, LARDER_ANSWER_BYTES
 *            #answer.bytes: 1G
 *        ->    --answer-bytes SIZE                               the help
 *                    byte budget of stored answers on disk (16M to 1T; default 1G; restart)
 *
 * A law of the sample: a line whose '#' is followed by a blank and no second one is prose, any
 * other '#' line is YAML that was commented out. So the whole sample can be uncommented by a
 * program, and the test does that: it must load and give the defaults.
 */
#include "base/option_int.h"

#include <stdio.h>

#define SAMPLE_COLUMNS 100
#define HELP_COLUMNS   80

/* ---- pieces ---- */

/* Breaks text at blanks into lines of at most `columns`, each after `lead`. */
static int wrap(struct lr_buf *out, const char *lead, size_t columns, struct lr_str text)
{
    size_t column = 0, indent = strlen(lead);
    while (text.p) {
        struct lr_str word = lr_str_cut(&text, ' ');
        if (column && column + 1 + word.n > columns) {
            lr_buf_addc(out, '\n');
            column = 0;
        }
        lr_buf_addz(out, column ? " " : lead);
        lr_buf_adds(out, word);
        column += (column ? 1 : indent) + word.n;
    }
    return lr_buf_addc(out, '\n');
}

static const char *metavar(const struct lr_opt_row *row)
{
    static const char *const names[] = {
        [LR_OPT_TEXT] = "TEXT",     [LR_OPT_LIST] = "ITEM", [LR_OPT_SIZE] = "SIZE",
        [LR_OPT_UINT] = "N",        [LR_OPT_REAL] = "X",    [LR_OPT_BOOL] = "",
        [LR_OPT_DURATION] = "TIME", [LR_OPT_ENUM] = "NAME"};
    size_t n = strlen(row->key);
    bool file = row->type == LR_OPT_TEXT && n > 4 && !strcmp(row->key + n - 4, "file");
    return file ? "FILE" : names[row->type];
}

/* "16M to 1T", "one of lru, s3fifo, cost", "up to 8 items"; nothing for texts. */
static void put_bounds(struct lr_buf *b, const struct lr_opt_row *row)
{
    struct lr_str names = lr_strz(row->type == LR_OPT_ENUM ? row->min : NULL);
    if (row->type == LR_OPT_BOOL)
        lr_buf_addz(b, "true or false");
    else if (row->type == LR_OPT_LIST)
        lr_buf_addf(b, "list of up to %s", row->max);
    else if (row->type != LR_OPT_ENUM && row->min && row->max)
        lr_buf_addf(b, "%s to %s", row->min, row->max);
    while (names.p) {
        lr_buf_adds(b, lr_str_cut(&names, '|'));
        lr_buf_addz(b, names.p ? ", " : "");
    }
}

/* A default as YAML. */
static void put_default(struct lr_buf *b, const struct lr_opt_row *row)
{
    struct lr_str rest = lr_strz(row->def);
    if (row->type == LR_OPT_TEXT) {
        lr_opt_put_text(b, rest);
    } else if (row->type == LR_OPT_LIST) {
        lr_buf_addc(b, '[');
        while (rest.p && row->def[0]) {
            lr_opt_put_text(b, lr_str_trim(lr_str_cut(&rest, ',')));
            lr_buf_addz(b, rest.p ? ", " : "");
        }
        lr_buf_addc(b, ']');
    } else {
        lr_buf_adds(b, rest);
    }
}

/* "restart" or nothing, after what is there. */
static void put_when(struct lr_buf *b, const struct lr_opt_row *row)
{
    if (row->when == LR_OPT_START)
        lr_buf_addz(b, b->len ? "; restart" : "restart");
}

#define NOTE_MAX LR_KIB(4) /* a small text that is built and then wrapped: pieces of one row */

/* Frees a note; its failure becomes that of the text it was for. */
static void note_end(struct lr_buf *note, struct lr_buf *out)
{
    if (note->rc && !out->rc)
        out->rc = note->rc;
    lr_buf_free(note);
}

/* Row i begins a group: a heading is due. */
static bool new_group(const struct lr_opt_row *row, size_t i)
{
    return i == 0 || !lr_str_eq(lr_opt_group(row[i].key), lr_opt_group(row[i - 1].key));
}

static struct lr_str group_name(const char *key)
{
    struct lr_str g = lr_opt_group(key);
    return g.n ? g : LR_STR("general");
}

/* ---- the sample ---- */

static const char sample_head[] =
    "# larder.yaml - every option of larder(1), at its default and commented out.\n"
    "#\n"
    "# Take the '#' off a line to set it. Flags win over the environment, the environment over\n"
    "# this file, this file over the defaults: --answer-bytes 2G, LARDER_ANSWER_BYTES=2G,\n"
    "# answer.bytes: 2G. The keys of a group may also stand in a map: answer: {bytes: 2G}\n"
    "#\n"
    "# Sizes are powers of 1024: 64K, 1.5G. Durations: 250ms, 5s, 10m, 2h, 7d; a bare number is\n"
    "# seconds. Options marked 'restart' are read at start, all others again at SIGHUP. What is\n"
    "# unknown, given twice or out of bounds is an error that names the line; so are anchors,\n"
    "# aliases and tags. Secrets are never written here: *-file and *-env fields point at them.\n"
    "#\n"
    "# Made from the options table, src/base/options.def: larder's tests fail when it is stale.\n";

static void sample_row(struct lr_buf *out, const struct lr_opt_row *row)
{
    char flag[LR_OPT_NAME_MAX], env[LR_OPT_NAME_MAX];
    struct lr_buf note;
    lr_buf_init(&note, NOTE_MAX);
    put_bounds(&note, row);
    put_when(&note, row);
    lr_buf_addf(&note, "%s%s, %s", note.len ? "; " : "", lr_opt_flag(row, flag),
                lr_opt_env(row, env));
    lr_buf_addc(out, '\n');
    wrap(out, "# ", SAMPLE_COLUMNS, lr_strz(row->doc));
    wrap(out, "# ", SAMPLE_COLUMNS, lr_buf_str(&note));
    lr_buf_addf(out, "#%s: ", row->key);
    put_default(out, row);
    lr_buf_addc(out, '\n');
    note_end(&note, out);
}

/* doc and bounds in one: "share of the load ... (1 to 1000)". */
static void put_field_note(struct lr_buf *note, const struct lr_opt_row *row)
{
    lr_buf_addz(note, row->doc);
    if (row->type == LR_OPT_TEXT || row->type == LR_OPT_BOOL)
        return;
    lr_buf_addz(note, " (");
    put_bounds(note, row);
    lr_buf_addc(note, ')');
}

static void sample_field(struct lr_buf *out, const struct lr_opt_row *row, bool first)
{
    struct lr_buf note;
    lr_buf_init(&note, NOTE_MAX);
    put_field_note(&note, row);
    wrap(out, first ? "#  # " : "#    # ", SAMPLE_COLUMNS, lr_buf_str(&note));
    lr_buf_addf(out, "#  %c %s: ", first ? '-' : ' ', row->key);
    put_default(out, row);
    lr_buf_addc(out, '\n');
    note_end(&note, out);
}

int lr_config_sample(struct lr_buf *out)
{
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    lr_buf_addz(out, sample_head);
    for (size_t i = 0; i < n; i++) {
        if (new_group(row, i))
            lr_buf_addf(out, "\n# ---- %.*s ----\n", LR_FMT(group_name(row[i].key)));
        sample_row(out, &row[i]);
    }
    for (size_t i = 0; i < tables_n; i++) {
        lr_buf_addf(out, "\n# ---- %s: %s ----\n", t[i].key, t[i].doc);
        if (!strcmp(t[i].name, "upstream"))
            lr_buf_addz(out, "# --upstream [NAME=]URL and LARDER_UPSTREAM add one\n");
        lr_buf_addf(out, "\n#%s:\n", t[i].key);
        for (size_t k = 0; k < t[i].rows_n; k++)
            sample_field(out, &t[i].rows[k], k == 0);
    }
    return out->rc;
}

/* ---- help ---- */

/* "(16M to 1T; default 1G; restart)" behind the doc. */
static void put_row_note(struct lr_buf *note, const struct lr_opt_row *row)
{
    lr_buf_addf(note, "%s (", row->doc);
    size_t start = note->len;
    put_bounds(note, row);
    if (row->def[0])
        lr_buf_addf(note, "%sdefault %s", note->len > start ? "; " : "", row->def);
    if (row->when == LR_OPT_START)
        lr_buf_addf(note, "%srestart", note->len > start ? "; " : "");
    if (note->len > start)
        lr_buf_addc(note, ')');
    else if (!note->rc)
        note->len = start - 2;
}

static void help_row(struct lr_buf *out, const struct lr_opt_row *row)
{
    char flag[LR_OPT_NAME_MAX];
    struct lr_buf note;
    lr_buf_init(&note, NOTE_MAX);
    put_row_note(&note, row);
    lr_opt_flag(row, flag);
    if (row->type == LR_OPT_BOOL)
        lr_buf_addf(out, "  %s, --no-%s\n", flag, flag + 2);
    else
        lr_buf_addf(out, "  %s %s\n", flag, metavar(row));
    wrap(out, "        ", HELP_COLUMNS, lr_buf_str(&note));
    note_end(&note, out);
}

int lr_config_help(struct lr_buf *out)
{
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    lr_buf_addz(out, "  --upstream [NAME=]URL\n        where answers come from; may be repeated\n");
    for (size_t i = 0; i < n; i++) {
        if (new_group(row, i))
            lr_buf_addf(out, "\n%.*s:\n", LR_FMT(group_name(row[i].key)));
        help_row(out, &row[i]);
    }
    return lr_buf_addz(
        out, "\nEvery option is also a key of larder.yaml (answer.bytes: 1G) and an environment\n"
             "name (LARDER_ANSWER_BYTES=1G); flags win over the environment, it over the file.\n"
             "Lists: repeat the flag. Upstreams' details, aliases, tenants, categories and\n"
             "prices are records of the file.\n");
}

/* ---- man page ---- */

/* Text as roff shows it unchanged: what its macros and its typography would take is escaped. */
static void put_roff(struct lr_buf *out, struct lr_str s)
{
    static const struct {
        char c;
        const char *roff;
    } marks[] = {{'\\', "\\e"},  {'-', "\\-"},   {'\'', "\\(aq"},
                 {'`', "\\(ga"}, {'~', "\\(ti"}, {'^', "\\(ha"}};
    if (s.n && s.p[0] == '.')
        lr_buf_addz(out, "\\&");
    for (size_t i = 0; i < s.n; i++) {
        const char *roff = NULL;
        for (size_t k = 0; k < LR_COUNT(marks); k++)
            roff = marks[k].c == s.p[i] ? marks[k].roff : roff;
        if (roff)
            lr_buf_addz(out, roff);
        else
            lr_buf_addc(out, s.p[i]);
    }
}

static void man_item(struct lr_buf *out, const char *name, const char *value, struct lr_str text)
{
    lr_buf_addz(out, ".TP\n\\fB");
    put_roff(out, lr_strz(name));
    lr_buf_addz(out, "\\fR");
    if (value[0])
        lr_buf_addf(out, " \\fI%s\\fR", value);
    lr_buf_addc(out, '\n');
    put_roff(out, text);
    lr_buf_addc(out, '\n');
}

static void man_row(struct lr_buf *out, const struct lr_opt_row *row)
{
    char flag[LR_OPT_NAME_MAX], both[2 * LR_OPT_NAME_MAX];
    struct lr_buf note;
    lr_buf_init(&note, NOTE_MAX);
    put_row_note(&note, row);
    lr_opt_flag(row, flag);
    if (snprintf(both, sizeof both, row->type == LR_OPT_BOOL ? "%s, --no-%s" : "%s", flag,
                 flag + 2) < 0)
        both[0] = 0;
    man_item(out, both, metavar(row), lr_buf_str(&note));
    note_end(&note, out);
}

static void man_table(struct lr_buf *out, const struct lr_opt_table *t)
{
    lr_buf_addf(out, ".SS %s\n", t->key);
    put_roff(out, lr_strz(t->doc));
    lr_buf_addc(out, '\n');
    for (size_t k = 0; k < t->rows_n; k++) {
        struct lr_buf note;
        lr_buf_init(&note, NOTE_MAX);
        put_row_note(&note, &t->rows[k]);
        man_item(out, t->rows[k].key, metavar(&t->rows[k]), lr_buf_str(&note));
        note_end(&note, out);
    }
}

static const char man_environment[] =
    ".SH ENVIRONMENT\n"
    "Every option above has an environment name: its flag in capitals, \\- turned into _, with\n"
    "\\fBLARDER_\\fR in front: \\fB\\-\\-answer\\-bytes\\fR is \\fBLARDER_ANSWER_BYTES\\fR.\n"
    "Lists are separated by commas. An unknown name that starts with LARDER_ is an error.\n"
    ".TP\n\\fBLARDER_CONFIG\\fR\nThe configuration file, where \\fB\\-\\-config\\fR is not given.\n"
    ".TP\n\\fBLARDER_UPSTREAM\\fR\nUpstreams, \\fI[NAME=]URL\\fR, separated by commas.\n"
    ".TP\n\\fBHTTPS_PROXY\\fR, \\fBHTTP_PROXY\\fR, \\fBNO_PROXY\\fR, \\fBSSL_CERT_FILE\\fR\n"
    "Defaults of the upstream fields proxy, no\\-proxy and ca\\-file.\n";

static const char man_files[] =
    ".SH FILES\n"
    "\\fIlarder.yaml\\fR holds options by their keys, whole (answer.bytes: 1G) or as maps of\n"
    "their groups, and lists of records, which have no flags. The sample that comes with the\n"
    "program shows them all. The fields of the records:\n";

int lr_config_man(struct lr_buf *out)
{
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    lr_buf_addz(out, ".SH OPTIONS\n");
    man_item(out, "--upstream", "[NAME=]URL", LR_STR("where answers come from; may be repeated"));
    for (size_t i = 0; i < n; i++) {
        if (new_group(row, i))
            lr_buf_addf(out, ".SS %.*s\n", LR_FMT(group_name(row[i].key)));
        man_row(out, &row[i]);
    }
    lr_buf_addz(out, man_environment);
    lr_buf_addz(out, man_files);
    for (size_t i = 0; i < tables_n; i++)
        man_table(out, &t[i]);
    return out->rc;
}

/* ---- completion ---- */

int lr_config_completion_flags(struct lr_buf *out)
{
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    lr_buf_addz(out, "--upstream\n");
    for (size_t i = 0; i < n; i++) {
        char flag[LR_OPT_NAME_MAX];
        lr_buf_addf(out, "%s\n", lr_opt_flag(&row[i], flag));
        if (row[i].type == LR_OPT_BOOL)
            lr_buf_addf(out, "--no-%s\n", flag + 2);
    }
    return out->rc;
}

const char *lr_config_completion_values(const char *flag)
{
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    for (size_t i = 0; i < n; i++) {
        char name[LR_OPT_NAME_MAX];
        if (row[i].type == LR_OPT_ENUM && !strcmp(flag, lr_opt_flag(&row[i], name)))
            return row[i].min;
    }
    return NULL;
}
