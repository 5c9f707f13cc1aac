/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_option_doc.c - the laws of what is made from the options table: a print loads to
 * the same config, the committed larder.yaml is the table's own and loads uncommented, help and man
 * page name every row; and the rules between rows, and the price file.
 */
#include "option_help.h"

#include <stdio.h>

/* ---- print ---- */

/* A text of any characters that a TEXT may hold: words that YAML would misread, quotes, line breaks
 * of other alphabets. */
static void random_text(struct lr_rng *rng, struct lr_buf *b, bool may_be_empty)
{
    static const char *const odd[] = {
        "\"",       "\\",         "'",           ": ",         " #",         "- ",       "[",
        "]",        "{",          "}",           ",",          "&a",         "*a",       "!t",
        "%",        "@",          "`",           "|",          ">",          "?",        "~",
        "null",     "true",       "No",          "y",          "0x1f",       "1e3",      "-1",
        "1.5",      "2001-01-01", "<<",          "=",          " ",          "  ",       "\\n",
        "\\u0041",  "/a/b",       "http://x:1/", "\u00e4",     "\u00a0",     "\xc2\x80", "\xc2\x85",
        "\xc2\x9f", "\u2028",     "\u2029",      "\ufeff",     "\ufffe",     "\uffff",   "\ufffd",
        "\ud7ff",   "\ue000",     "\U0001f96b",  "\U0010ffff", "\U0001fffe", "---",      "...",
        "--- ",     "a",          "Z",           "7",          ".",          "_",        "-"};
    lr_buf_reset(b);
    for (uint64_t n = lr_rng_below(rng, 6) + !may_be_empty; n; n--)
        lr_buf_addz(b, odd[lr_rng_below(rng, LR_COUNT(odd))]);
    assert_int_equal(b->rc, 0);
}

/* Log-uniform between the bounds, so that small numbers and odd units occur. */
static uint64_t random_whole(struct lr_rng *rng, uint64_t lo, uint64_t hi)
{
    uint64_t span = hi - lo, bits = lr_rng_below(rng, 64), v = lr_rng_u64(rng) >> bits;
    if (lr_rng_below(rng, 2))
        v &= ~UINT64_C(0) << lr_rng_below(rng, 40);
    return lo + (span ? v % span : 0);
}

static void random_value(struct lr_rng *rng, const struct lr_opt_row *row, struct lr_buf *b)
{
    uint64_t lo = 0, hi = 0, names = 1;
    double lo_real = 0, hi_real = 0;
    struct lr_str rest;
    lr_buf_reset(b);
    switch (row->type) {
    case LR_OPT_TEXT:
    case LR_OPT_LIST:
        random_text(rng, b, row->type == LR_OPT_TEXT);
        break;
    case LR_OPT_BOOL:
        lr_buf_addz(b, lr_rng_below(rng, 2) ? "true" : "false");
        break;
    case LR_OPT_ENUM:
        for (const char *p = row->min; *p; p++)
            names += *p == '|';
        rest = lr_strz(row->min);
        for (uint64_t k = lr_rng_below(rng, names); k; k--)
            lr_str_cut(&rest, '|');
        lr_buf_adds(b, lr_str_cut(&rest, '|'));
        break;
    case LR_OPT_REAL:
        assert_int_equal(lr_parse_real(lr_strz(row->min), &lo_real), 0);
        assert_int_equal(lr_parse_real(lr_strz(row->max), &hi_real), 0);
        lr_buf_addf(b, lr_rng_below(rng, 2) ? "%.17g" : "%.3f",
                    lo_real + lr_rng_unit(rng) * lr_rng_unit(rng) * (hi_real - lo_real));
        break;
    case LR_OPT_DURATION:
        assert_int_equal(lr_parse_duration(lr_strz(row->min), &lo), 0);
        assert_int_equal(lr_parse_duration(lr_strz(row->max), &hi), 0);
        lr_buf_addf(b, "%llums", (unsigned long long)random_whole(rng, lo, hi));
        break;
    case LR_OPT_SIZE:
    case LR_OPT_UINT:
        assert_int_equal(lr_parse_size(lr_strz(row->min), &lo), 0);
        assert_int_equal(lr_parse_size(lr_strz(row->max), &hi), 0);
        lr_buf_addf(b, "%llu", (unsigned long long)random_whole(rng, lo, hi));
        break;
    }
    assert_int_equal(b->rc, 0);
}

static void randomize(struct lr_rng *rng, const struct lr_opt_row *row, size_t n, void *base)
{
    struct lr_err err = {0};
    struct lr_opt_at at = {"random", 0, &err};
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    for (size_t i = 0; i < n; i++) {
        int rc = 0;
        if (row[i].type == LR_OPT_LIST)
            lr_opt_list_clear(&row[i], base);
        for (uint64_t k = row[i].type == LR_OPT_LIST ? lr_rng_below(rng, 4) : 1; k && !rc; k--) {
            random_value(rng, &row[i], &b);
            rc = row[i].type == LR_OPT_LIST ? lr_opt_list_add(&row[i], base, lr_buf_str(&b), &at)
                                            : lr_opt_set(&row[i], base, lr_buf_str(&b), &at);
        }
        if (rc)
            print_error("%s\n", err.msg);
        assert_int_equal(rc, 0);
    }
    lr_buf_free(&b);
}

static void random_config(struct lr_rng *rng, struct lr_config *c)
{
    assert_int_equal(lr_config_defaults(c, NULL), 0);
    struct lr_opt_at at = {"random", 0, NULL};
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    randomize(rng, row, n, c);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    for (size_t i = 0; i < tables_n; i++) {
        for (uint64_t k = lr_rng_below(rng, 4); k; k--) {
            void *rec;
            assert_int_equal(lr_opt_record_add(&t[i], c, &rec, &at), 0);
            randomize(rng, t[i].rows, t[i].rows_n, rec);
        }
    }
}

static bool same_rows(const struct lr_opt_row *row, size_t n, const void *a, const void *b)
{
    static const size_t size[] = {[LR_OPT_SIZE] = 8,
                                  [LR_OPT_UINT] = 8,
                                  [LR_OPT_REAL] = 8,
                                  [LR_OPT_DURATION] = 8,
                                  [LR_OPT_BOOL] = sizeof(bool),
                                  [LR_OPT_ENUM] = sizeof(int)};
    for (size_t i = 0; i < n; i++) {
        const void *x = (const char *)a + row[i].offset, *y = (const char *)b + row[i].offset;
        const struct lr_list *p = x, *q = y;
        if (row[i].type == LR_OPT_TEXT) {
            if (strcmp(*(char *const *)x, *(char *const *)y) != 0)
                return false;
        } else if (row[i].type == LR_OPT_LIST) {
            if (p->n != q->n)
                return false;
            for (size_t k = 0; k < p->n; k++)
                if (strcmp(p->v[k], q->v[k]) != 0)
                    return false;
        } else if (memcmp(x, y, size[row[i].type]) != 0) {
            return false;
        }
    }
    return true;
}

static bool same_config(const struct lr_config *a, const struct lr_config *b)
{
    size_t n, tables_n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    const struct lr_opt_table *t = lr_opt_tables(&tables_n);
    if (!same_rows(row, n, a, b))
        return false;
    for (size_t i = 0; i < tables_n; i++) {
        if (lr_opt_record_count(&t[i], a) != lr_opt_record_count(&t[i], b))
            return false;
        for (size_t k = 0; k < lr_opt_record_count(&t[i], a); k++)
            if (!same_rows(t[i].rows, t[i].rows_n, lr_opt_record(&t[i], a, k),
                           lr_opt_record(&t[i], b, k)))
                return false;
    }
    return true;
}

static void a_print_loads_to_the_same_config_and_prints_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct lr_rng rng;
        struct lr_config c, back;
        struct lr_err err = {0};
        lr_rng_seed(&rng, seed);
        random_config(&rng, &c);
        char *text = print(&c);
        if (parse_text(&back, lr_strz(text), &err))
            fail_msg("seed %llu: %s: %s\n%s", (unsigned long long)seed, err.where, err.msg, text);
        char *again = print(&back);
        if (strcmp(text, again) != 0 || !same_config(&c, &back))
            fail_msg("seed %llu:\n%s----\n%s", (unsigned long long)seed, text, again);
        lr_free(text);
        lr_free(again);
        lr_config_free(&c);
        lr_config_free(&back);
    }
}

static void values_print_in_the_largest_unit_that_is_exact(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *line;
    } cases[] = {
        {"answer.bytes: 1024M", "answer.bytes: 1G\n"},
        {"answer.bytes: 1.5G", "answer.bytes: 1536M\n"},
        {"answer.bytes: 16777217", "answer.bytes: 16777217\n"},
        {"answer.ttl: 86400", "answer.ttl: 1d\n"},
        {"answer.ttl: 90m", "answer.ttl: 90m\n"},
        {"answer.ttl: 1500ms", "answer.ttl: 1500ms\n"},
        {"answer.ttl: 0h", "answer.ttl: 0\n"},
        {"answer.ttl: 2w", "answer.ttl: 14d\n"},
        {"route.bound: 1.10", "route.bound: 1.1\n"},
        {"route.bound: 1.0000000001", "route.bound: 1.0000000001\n"},
        {"data: plain/word", "data: plain/word\n"},
        {"data: 'two words'", "data: \"two words\"\n"},
        {"data: 'null'", "data: \"null\"\n"},
        {"data: 12", "data: \"12\"\n"},
        {"hosts: ['*', b.example]", "hosts: [\"*\", b.example]\n"},
        {"data: \"\\x85\\L\"", "data: \"\\u0085\\u2028\"\n"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_config c;
        load_yaml(&c, cases[i].yaml);
        char *text = print(&c);
        if (!strstr(text, cases[i].line))
            fail_msg("%s: no %s in %s", cases[i].yaml, cases[i].line, text);
        lr_free(text);
        lr_config_free(&c);
    }
}

static void the_difference_names_start_rows_and_no_live_ones(void **state)
{
    (void)state;
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    struct lr_buf b;
    struct lr_config a, c;
    lr_buf_init(&b, LR_KIB(4));
    assert_int_equal(lr_config_defaults(&a, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        struct lr_rng rng;
        lr_rng_seed(&rng, i);
        assert_int_equal(lr_config_defaults(&c, NULL), 0);
        for (int tries = 0; same_config(&a, &c) && tries < 100; tries++)
            randomize(&rng, &row[i], 1, &c);
        assert_false(same_config(&a, &c));
        lr_buf_reset(&b);
        assert_int_equal(lr_config_diff_start(&a, &c, &b), 0);
        assert_true(lr_str_is(lr_buf_str(&b), row[i].when == LR_OPT_START ? row[i].key : ""));
        lr_config_free(&c);
    }
    lr_config_free(&a);
    load_yaml(&a, "data: x");
    load_yaml(&c, "listen: [a, b]\nworkers: 3\nhosts: [h]\nupstreams: [{name: u}]");
    lr_buf_reset(&b);
    assert_int_equal(lr_config_diff_start(&a, &c, &b), 0);
    assert_true(lr_str_is(lr_buf_str(&b), "listen,data,workers"));
    lr_buf_free(&b);
    lr_config_free(&a);
    lr_config_free(&c);
}

/* ---- what is made from the table ---- */

static void the_committed_sample_is_the_tables_own(void **state)
{
    (void)state;
    struct lr_buf want, have;
    lr_buf_init(&want, LR_MIB(1));
    lr_buf_init(&have, LR_MIB(1));
    assert_int_equal(lr_config_sample(&want), 0);
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/packaging/larder.yaml", &have), 0);
    if (!lr_str_eq(lr_buf_str(&want), lr_buf_str(&have))) {
        char path[32];
        write_temporary(lr_buf_str(&want), path);
        fail_msg("packaging/larder.yaml is stale: cp %s packaging/larder.yaml", path);
    }
    lr_buf_free(&want);
    lr_buf_free(&have);
}

/* Takes the '#' off every line that is commented YAML: see option_doc.c. */
static void uncomment(struct lr_str sample, struct lr_buf *out)
{
    while (sample.p) {
        struct lr_str line = lr_str_cut(&sample, '\n');
        bool prose = line.n < 2 || line.p[0] != '#' || (line.p[1] == ' ' && line.p[2] != ' ');
        lr_buf_adds(out, prose ? line : lr_str(line.p + 1, line.n - 1));
        lr_buf_addc(out, '\n');
    }
}

static void the_sample_gives_the_defaults_as_it_is_and_uncommented(void **state)
{
    (void)state;
    struct lr_buf sample, bare;
    struct lr_config d, c, u;
    struct lr_err err = {0};
    lr_buf_init(&sample, LR_MIB(1));
    lr_buf_init(&bare, LR_MIB(1));
    assert_int_equal(lr_config_sample(&sample), 0);
    uncomment(lr_buf_str(&sample), &bare);
    assert_int_equal(lr_config_defaults(&d, NULL), 0);
    assert_int_equal(parse_text(&c, lr_buf_str(&sample), &err), 0);
    assert_true(same_config(&c, &d));
    if (parse_text(&u, lr_buf_str(&bare), &err))
        fail_msg("%s: %s", err.where, err.msg);
    size_t n;
    struct lr_opt_at at = {"here", 0, NULL};
    const struct lr_opt_table *t = lr_opt_tables(&n);
    for (size_t i = 0; i < n; i++) { /* uncommented it holds one record of each table */
        void *rec;
        assert_int_equal(lr_opt_record_add(&t[i], &d, &rec, &at), 0);
    }
    assert_true(same_config(&u, &d));
    lr_config_free(&d);
    lr_config_free(&c);
    lr_config_free(&u);
    lr_buf_free(&sample);
    lr_buf_free(&bare);
}

static size_t longest_line(struct lr_str s)
{
    size_t max = 0;
    while (s.p) {
        struct lr_str line = lr_str_cut(&s, '\n');
        max = line.n > max ? line.n : max;
    }
    return max;
}

static bool holds(const struct lr_buf *b, const char *z)
{
    return memmem(b->p, b->len, z, strlen(z)) != NULL;
}

static void help_names_every_flag_within_80_columns(void **state)
{
    (void)state;
    struct lr_buf b;
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    lr_buf_init(&b, LR_MIB(1));
    assert_int_equal(lr_config_help(&b), 0);
    assert_true(longest_line(lr_buf_str(&b)) <= 80);
    for (size_t i = 0; i < n; i++) {
        char flag[LR_OPT_NAME_MAX], want[2 * LR_OPT_NAME_MAX];
        lr_opt_flag(&row[i], flag);
        snprintf(want, sizeof want, row[i].type == LR_OPT_BOOL ? "\n  %s, --no-%s\n" : "\n  %s ",
                 flag, flag + 2);
        assert_true(holds(&b, want));
    }
    assert_true(holds(&b, "(16M to 1T; default 1G; restart)"));
    assert_true(holds(&b, "(error, warn, info, debug; default info)"));
    lr_buf_free(&b);
}

/* The printed text of roff: escapes that put_roff writes, undone. */
static void unroff(struct lr_str s, struct lr_buf *out)
{
    static const struct {
        const char *roff, *text;
    } marks[] = {{"\\-", "-"},   {"\\e", "\\"}, {"\\(aq", "'"}, {"\\(ga", "`"}, {"\\(ti", "~"},
                 {"\\(ha", "^"}, {"\\&", ""},   {"\\fB", ""},   {"\\fI", ""},   {"\\fR", ""}};
    for (size_t i = 0, n; i < s.n; i += n) {
        n = 1;
        const char *text = NULL;
        for (size_t k = 0; k < LR_COUNT(marks) && !text; k++) {
            if (!lr_str_starts(lr_str(s.p + i, s.n - i), lr_strz(marks[k].roff)))
                continue;
            text = marks[k].text;
            n = strlen(marks[k].roff);
        }
        if (text)
            lr_buf_addz(out, text);
        else
            lr_buf_addc(out, s.p[i]);
        assert_true(text || s.p[i] != '\\'); /* no escape but ours */
    }
}

static void the_man_page_says_every_row_in_known_macros(void **state)
{
    (void)state;
    struct lr_buf man, text;
    size_t n;
    const struct lr_opt_row *row = lr_opt_rows(&n);
    lr_buf_init(&man, LR_MIB(1));
    lr_buf_init(&text, LR_MIB(1));
    assert_int_equal(lr_config_man(&man), 0);
    struct lr_str rest = lr_buf_str(&man);
    while (rest.p) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        assert_true(!line.n || line.p[0] != '\'');
        if (line.n && line.p[0] == '.')
            assert_true(lr_str_starts(line, LR_STR(".SH ")) ||
                        lr_str_starts(line, LR_STR(".SS ")) || lr_str_is(line, ".TP"));
    }
    unroff(lr_buf_str(&man), &text);
    for (size_t i = 0; i < n; i++) {
        char flag[LR_OPT_NAME_MAX];
        assert_true(holds(&text, row[i].record ? row[i].key : lr_opt_flag(&row[i], flag)));
        assert_true(holds(&text, row[i].doc));
    }
    assert_true(holds(&man, ".SH OPTIONS\n") && holds(&man, ".SH ENVIRONMENT\n") &&
                holds(&man, ".SH FILES\n"));
    lr_buf_free(&man);
    lr_buf_free(&text);
}

static void completion_offers_flags_that_load(void **state)
{
    (void)state;
    struct lr_buf b;
    lr_buf_init(&b, LR_KIB(64));
    assert_int_equal(lr_config_completion_flags(&b), 0);
    struct lr_str rest = lr_buf_str(&b);
    size_t n, seen = 0, want = 1;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    for (size_t i = 0; i < n; i++)
        want += row[i].type == LR_OPT_BOOL ? 2 : 1;
    while (rest.p) {
        struct lr_str flag = lr_str_cut(&rest, '\n');
        if (!flag.n)
            continue;
        char word[LR_OPT_NAME_MAX], *argv[] = {word, NULL};
        struct lr_config c;
        struct lr_err err = {0};
        snprintf(word, sizeof word, "%.*s", LR_FMT(flag));
        if (lr_config_load(&c, NULL, NULL, 1, argv, NULL, &err) == 0)
            lr_config_free(&c);
        else
            assert_non_null(strstr(err.msg, "needs a value")); /* known, at least */
        seen++;
    }
    assert_int_equal(seen, want);
    assert_string_equal(lr_config_completion_values("--log-level"), "error|warn|info|debug");
    assert_null(lr_config_completion_values("--data"));
    assert_null(lr_config_completion_values("--nothing"));
    lr_buf_free(&b);
}

static void texts_over_their_buffers_are_errors(void **state)
{
    (void)state;
    struct lr_config c;
    assert_int_equal(lr_config_defaults(&c, NULL), 0);
    char *text = print(&c);
    size_t whole = strlen(text); /* the shortest of the four */
    lr_free(text);
    for (size_t max = 1; max < whole; max += 41) {
        struct lr_buf b;
        lr_buf_init(&b, max);
        assert_int_equal(lr_config_sample(&b), LR_EOVER);
        lr_buf_reset(&b);
        assert_int_equal(lr_config_help(&b), LR_EOVER);
        lr_buf_reset(&b);
        assert_int_equal(lr_config_man(&b), LR_EOVER);
        lr_buf_reset(&b);
        assert_int_equal(lr_config_print(&c, &b), LR_EOVER);
        lr_buf_free(&b);
    }
    lr_config_free(&c);
}

/* ---- rules between rows ---- */

/* Loads as the command line does, so that upstreams get their names. */
static void check_yaml(const char *yaml, const char *where, const char *msg)
{
    struct lr_config c;
    struct lr_err err = {0};
    assert_int_equal(load_text(&c, yaml, NULL, 0, NULL, NULL, &err), 0);
    int rc = lr_config_check(&c, &err);
    if (rc != (where ? LR_EINVAL : 0) || strcmp(err.where, where ? where : "") != 0 ||
        !strstr(err.msg, msg ? msg : ""))
        fail_msg("%s: %s at '%s': '%s'", yaml, lr_errname(rc), err.where, err.msg);
    lr_config_free(&c);
}

static void what_fits_together_is_accepted(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "tls: {cert-file: c, key-file: k}",
        "upstreams: [{url: 'http://a'}, {url: 'https://a/v1', name: b}, {url: 'HTTP://a:81'}]",
        "upstreams: [{url: 'http://[::1]:8000/v1', headers: ['X-A: b', 'x-b:', \"x-c: "
        "\xc3\xa4\"]}]",
        "upstreams: [{url: 'http://a', credential: key, key-env: K, key-header: api-key}]",
        "upstreams: [{url: 'http://a', proxy: none, cert-file: c, cert-key-file: k}]",
        "upstreams: [{url: 'http://a', proxy: 'http://p:3128'}]",
        "upstreams: [{url: 'http://a'}]\naliases: [{name: x, upstreams: [a]}, {name: y}]",
        "tenants: [{name: '*'}, {name: t}]\ncategories: [{name: c}, {name: d}]",
        "prices: [{model: m, date: 2024-02-29}, {model: m, date: 2023-02-28}, {model: n, date: "
        "2024-02-29}]",
    };
    for (size_t i = 0; i < LR_COUNT(good); i++)
        check_yaml(good[i], NULL, NULL);
}

static void what_does_not_fit_together_is_named_with_its_record(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *where, *msg;
    } bad[] = {
        {"listen: []", "listen", "at least one"},
        {"tls.cert-file: c", "tls.cert-file", "come together"},
        {"tls.key-file: c", "tls.key-file", "come together"},
        {"upstreams: [{name: u}]", "upstream 1 (u)", "url is empty"},
        {"upstreams: [{url: 'http://a'}, {url: ftp://b}]", "upstream 2 (b)", "http:// or https://"},
        {"upstreams: [{url: 'localhost:80'}]", "upstream 1", "http:// or https://"},
        {"upstreams: [{url: 'http://'}]", "upstream 1", "no host"},
        {"upstreams: [{url: 'http:///v1'}]", "upstream 1", "no host"},
        {"upstreams: [{url: 'http://:80/v1'}]", "upstream 1 (:80)", "no host"},
        {"upstreams: [{url: 'http://u:pw@a/v1'}]", "upstream 1 (a)", "no user or password"},
        {"upstreams: [{url: 'http://a/v1?x=y'}]", "upstream 1 (a)", "use the query field"},
        {"upstreams: [{url: 'http://a/v1#f'}]", "upstream 1 (a)", "use the query field"},
        {"upstreams: [{url: 'http://a b/'}]", "upstream 1 (a b)", "no blanks"},
        {"upstreams: [{url: 'http://a'}, {url: 'https://a'}]", "upstream 2 (a)", "is taken"},
        {"upstreams: [{url: 'http://a', headers: [nocolon]}]", "upstream 1 (a)", "'name: value'"},
        {"upstreams: [{url: 'http://a', headers: [': v']}]", "upstream 1 (a)", "'name: value'"},
        {"upstreams: [{url: 'http://a', headers: ['a b: v']}]", "upstream 1 (a)", "'name: value'"},
        {"upstreams: [{url: 'http://a', headers: ['Authorization: Bearer x']}]", "upstream 1 (a)",
         "no credentials"},
        {"upstreams: [{url: 'http://a', headers: ['X-Api-Key: x']}]", "upstream 1 (a)",
         "no credentials"},
        {"upstreams: [{url: 'http://a', key-header: 'a b'}]", "upstream 1 (a)", "no header name"},
        {"upstreams: [{url: 'http://a', key-file: f, key-env: e}]", "upstream 1 (a)", "exclude"},
        {"upstreams: [{url: 'http://a', credential: key}]", "upstream 1 (a)", "needs key-file"},
        {"upstreams: [{url: 'http://a', cert-key-file: f}]", "upstream 1 (a)", "needs cert-file"},
        {"upstreams: [{url: 'http://a', proxy: 'http://u:p@x'}]", "upstream 1 (a)", "HTTPS_PROXY"},
        {"upstreams: [{url: 'http://a'}]\naliases: [{name: x, upstreams: [a, b]}]", "alias 1 (x)",
         "no upstream is named 'b'"},
        {"aliases: [{model: m}]", "alias 1", "name is empty"},
        {"aliases: [{name: x}, {name: y}, {name: x}]", "alias 3 (x)", "is taken"},
        {"tenants: [{bytes: 1}]", "tenant 1", "name is empty"},
        {"tenants: [{name: t}, {name: t}]", "tenant 2 (t)", "is taken"},
        {"categories: [{store: no}]", "category 1", "name is empty"},
        {"categories: [{name: c}, {name: c}]", "category 2 (c)", "is taken"},
        {"prices: [{date: 2001-01-01}]", "price 1", "model is empty"},
        {"prices: [{model: m}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2023-02-29}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-13-01}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-00-01}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-04-31}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-04-00}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 01/02/2003}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-1-011}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-01-01T}]", "price 1 (m)", "YYYY-MM-DD"},
        {"prices: [{model: m, date: 2000-01-01, currency: usd}]", "price 1 (m)", "three capitals"},
        {"prices: [{model: m, date: 2000-01-01, currency: EURO}]", "price 1 (m)", "three capitals"},
        {"prices: [{model: m, date: 2000-01-01}, {model: m, date: 2000-01-01}]", "price 2 (m)",
         "same model and date"},
    };
    for (size_t i = 0; i < LR_COUNT(bad); i++)
        check_yaml(bad[i].yaml, bad[i].where, bad[i].msg);
}

static void a_password_in_a_url_is_not_repeated_in_the_error(void **state)
{
    (void)state;
    static const char *const leaks[] = {
        "upstreams: [{url: 'http://u:hunter2@a/v1'}]", "upstreams: [{url: 'http://u:hunter2@'}]",
        "upstreams: [{url: 'ftp://u:hunter2@a'}]",
        "upstreams: [{url: 'http://a', proxy: 'http://u:hunter2@x'}]"};
    for (size_t i = 0; i < LR_COUNT(leaks); i++) {
        struct lr_config c;
        struct lr_err err = {0};
        assert_int_equal(load_text(&c, leaks[i], NULL, 0, NULL, NULL, &err), 0);
        assert_int_equal(lr_config_check(&c, &err), LR_EINVAL);
        assert_null(strstr(err.msg, "hunter2"));
        assert_null(strstr(err.where, "hunter2"));
        lr_config_free(&c);
    }
}

/* ---- prices ---- */

static void a_price_file_adds_records_and_nothing_else(void **state)
{
    (void)state;
    struct lr_config c;
    struct lr_err err = {0};
    load_yaml(&c, "prices: [{model: mine, date: 2000-01-01}]");
    assert_int_equal(
        lr_config_load_prices(&c, LR_SOURCE_DIR "/packaging/prices.example.yaml", &err), 0);
    assert_int_equal(lr_config_check(&c, &err), 0);
    assert_int_equal(c.prices.n, 4);
    assert_string_equal(c.prices.v[0].model, "mine");
    assert_string_equal(c.prices.v[1].model, "example-large");
    assert_string_equal(c.prices.v[1].currency, "XTS");
    assert_true(c.prices.v[3].cached_input > 0.124 && c.prices.v[3].cached_input < 0.126);
    static const struct {
        const char *yaml, *msg;
    } bad[] = {
        {"prices: [{model: a}, {modle: b}]", "did you mean 'model'?"},
        {"data: x", "unknown key in a price file 'data'"},
        {"prices.file: x", "unknown key in a price file 'prices.file'"},
        {"prices: {file: x}", "prices wants a list of maps"},
        {"price: []", "did you mean 'prices'?"},
        {"aliases: []", "unknown key in a price file"},
        {"prices: [{model: a, date: tomorrow}]", "YYYY-MM-DD"},
        {"prices: [{model: mine, date: 2000-01-01}]", "same model and date"},
        {"prices: [{model: a, input: -1}]", "prices.input wants 0 to 1e6"},
    };
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        char path[32];
        err = (struct lr_err){0};
        write_temporary(lr_strz(bad[i].yaml), path);
        assert_int_not_equal(lr_config_load_prices(&c, path, &err), 0);
        unlink(path);
        if (!strstr(err.msg, bad[i].msg))
            fail_msg("%s: %s", bad[i].yaml, err.msg);
        assert_int_equal(c.prices.n, 4);
    }
    assert_int_equal(lr_config_load_prices(&c, "/nowhere", NULL), LR_ENOENT);
    lr_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_print_loads_to_the_same_config_and_prints_the_same),
        cmocka_unit_test(values_print_in_the_largest_unit_that_is_exact),
        cmocka_unit_test(the_difference_names_start_rows_and_no_live_ones),
        cmocka_unit_test(the_committed_sample_is_the_tables_own),
        cmocka_unit_test(the_sample_gives_the_defaults_as_it_is_and_uncommented),
        cmocka_unit_test(help_names_every_flag_within_80_columns),
        cmocka_unit_test(the_man_page_says_every_row_in_known_macros),
        cmocka_unit_test(completion_offers_flags_that_load),
        cmocka_unit_test(texts_over_their_buffers_are_errors),
        cmocka_unit_test(what_fits_together_is_accepted),
        cmocka_unit_test(what_does_not_fit_together_is_named_with_its_record),
        cmocka_unit_test(a_password_in_a_url_is_not_repeated_in_the_error),
        cmocka_unit_test(a_price_file_adds_records_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
