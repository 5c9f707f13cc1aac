/* SPDX-License-Identifier: Apache-2.0
 * unit/base/test_option.c - the laws of the options table: what every source accepts and refuses,
 * who wins, and that everything generated from the rows reads back. The cross-row rules and the
 * generated texts are in test_option_doc.c.
 */
#include "option_help.h"

#include <stdio.h>

/* ---- the table ---- */

static void keys_flags_and_environment_names_are_unique(void **state)
{
    (void)state;
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    for (size_t i = 0; i < n; i++) {
        char a[LR_OPT_NAME_MAX], b[LR_OPT_NAME_MAX];
        const char *dot = strchr(row[i].key, '.');
        assert_true(!dot || !strchr(dot + 1, '.'));
        assert_true(row[i].doc[0] != 0);
        assert_true(strncmp(row[i].key, "no-", 3) != 0);
        assert_null(row[i].record);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(lr_opt_flag(&row[i], a), lr_opt_flag(&row[k], b));
            assert_string_not_equal(lr_opt_env(&row[i], a), lr_opt_env(&row[k], b));
        }
        /* Rows of a group stand together, so that it has one heading. */
        for (size_t k = 0; k + 1 < i; k++)
            if (lr_str_eq(lr_opt_group(row[k].key), lr_opt_group(row[i].key)))
                assert_true(lr_str_eq(lr_opt_group(row[i - 1].key), lr_opt_group(row[i].key)));
    }
}

static void fields_know_their_record_and_are_unique_in_it(void **state)
{
    (void)state;
    size_t n, all, plain, fields = 0;
    const struct lr_opt_table *t = lr_opt_tables(&n);
    for (size_t i = 0; i < n; i++) {
        fields += t[i].rows_n;
        assert_true(t[i].rows[0].type == LR_OPT_TEXT); /* what the record is known by */
        for (size_t k = 0; k < t[i].rows_n; k++) {
            assert_string_equal(t[i].rows[k].record, t[i].key);
            assert_true(t[i].rows[k].offset < t[i].size);
            for (size_t m = 0; m < k; m++)
                assert_string_not_equal(t[i].rows[k].key, t[i].rows[m].key);
        }
    }
    lr_opt_rows(&all);
    lr_opt_plain(&plain);
    assert_int_equal(all, plain + fields);
}

static void defaults_are_the_tables_own_and_within_its_bounds(void **state)
{
    (void)state;
    struct lr_config c;
    struct lr_err err = {0};
    assert_int_equal(lr_config_defaults(&c, &err), 0);
    assert_int_equal(c.listen.n, 1);
    assert_string_equal(c.listen.v[0], "127.0.0.1:8100");
    assert_string_equal(c.data, "");
    assert_int_equal(c.hosts.n, 0);
    assert_int_equal(c.answer_bytes, 1u << 30);
    assert_int_equal(c.answer_ttl, 86400000);
    assert_int_equal(c.http_threads, 1);
    assert_true(c.answer_exact && !c.answer_sliding);
    assert_int_equal(c.answer_evict, LR_EVICT_OPT_S3FIFO);
    assert_int_equal(c.route_balance, LR_BALANCE_RENDEZVOUS);
    assert_true(c.route_bound > 1.2499 && c.route_bound < 1.2501);
    assert_int_equal(c.upstreams.n + c.aliases.n + c.tenants.n + c.categories.n + c.prices.n, 0);
    size_t n;
    const struct lr_opt_table *t = lr_opt_tables(&n);
    for (size_t i = 0; i < n; i++) {
        void *rec;
        struct lr_opt_at at = {"here", 1, &err};
        assert_int_equal(lr_opt_record_add(&t[i], &c, &rec, &at), 0);
    }
    assert_int_equal(c.upstreams.v[0].dialect, LR_SPEAKS_AUTO);
    assert_int_equal(c.upstreams.v[0].credential, LR_CREDENTIAL_CLIENT);
    assert_string_equal(c.prices.v[0].currency, "USD");
    lr_config_free(&c);
}

static void names_of_enums_have_the_numbers_of_the_header(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        int evict, balance, dialect, credential;
    } cases[] = {
        {"answer.evict: lru\nroute.balance: least\nupstreams: [{dialect: openai, credential: key}]",
         LR_EVICT_OPT_LRU, LR_BALANCE_LEAST, LR_SPEAKS_OPENAI, LR_CREDENTIAL_KEY},
        {"answer.evict: cost\nupstreams: [{dialect: anthropic, credential: none}]",
         LR_EVICT_OPT_COST, LR_BALANCE_RENDEZVOUS, LR_SPEAKS_ANTHROPIC, LR_CREDENTIAL_NONE},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_config c;
        load_yaml(&c, cases[i].yaml);
        assert_int_equal(c.answer_evict, cases[i].evict);
        assert_int_equal(c.route_balance, cases[i].balance);
        assert_int_equal(c.upstreams.v[0].dialect, cases[i].dialect);
        assert_int_equal(c.upstreams.v[0].credential, cases[i].credential);
        lr_config_free(&c);
    }
}

/* ---- sources ---- */

static void groups_and_whole_keys_say_the_same(void **state)
{
    (void)state;
    static const char *const same[] = {
        "answer.bytes: 2G\nanswer.exact: off\nhosts: [a, 'b c']\nprices.file: p",
        "answer:\n  bytes: 2048M\n  exact: 'No'\nhosts:\n- a\n- b c\nprices: {file: p}\n",
        "{\"answer\": {\"bytes\": \"2147483648\"}, answer.exact: 0, hosts: [\"a\", b c], "
        "prices.file: p}",
        "# comment\n---\nprices: {file: p}\nanswer: {bytes: 2GiB, exact: FALSE}\nhosts: [a,b "
        "c,]\n...\n",
    };
    char *first = NULL;
    for (size_t i = 0; i < LR_COUNT(same); i++) {
        struct lr_config c;
        load_yaml(&c, same[i]);
        char *text = print(&c);
        if (first)
            assert_string_equal(text, first);
        assert_string_equal(c.hosts.v[1], "b c");
        lr_config_free(&c);
        if (!first)
            first = text;
        else
            lr_free(text);
    }
    lr_free(first);
}

static void empty_files_groups_and_tables_are_nothing(void **state)
{
    (void)state;
    static const char *const empty[] = {
        "",           "# only a comment\n", "---\n", "\n\n", "{}", "answer:\nupstreams:\nprices:\n",
        "answer: {}", "aliases: []"};
    struct lr_config d;
    assert_int_equal(lr_config_defaults(&d, NULL), 0);
    char *want = print(&d);
    for (size_t i = 0; i < LR_COUNT(empty); i++) {
        struct lr_config c;
        load_yaml(&c, empty[i]);
        char *got = print(&c);
        assert_string_equal(got, want);
        lr_free(got);
        lr_config_free(&c);
    }
    lr_free(want);
    lr_config_free(&d);
}

/* The k-th of three valid values of a row, all different. */
static const char *some_value(const struct lr_opt_row *row, int k, char out[160])
{
    struct lr_str names = lr_strz(row->min), name = LR_STR("");
    uint64_t lo = 0;
    double lo_real = 0;
    switch (row->type) {
    case LR_OPT_TEXT:
    case LR_OPT_LIST:
        snprintf(out, 160, "value-%d", k);
        break;
    case LR_OPT_BOOL:
        return k & 1 ? "true" : "false";
    case LR_OPT_ENUM:
        for (int i = 0; i <= k && names.p; i++)
            name = lr_str_cut(&names, '|');
        snprintf(out, 160, "%.*s", LR_FMT(name));
        break;
    case LR_OPT_REAL:
        assert_int_equal(lr_parse_real(lr_strz(row->min), &lo_real), 0);
        snprintf(out, 160, "%g", lo_real + k + 0.5);
        break;
    case LR_OPT_DURATION:
        assert_int_equal(lr_parse_duration(lr_strz(row->min), &lo), 0);
        snprintf(out, 160, "%llums", (unsigned long long)lo + (unsigned)k);
        break;
    case LR_OPT_SIZE:
        assert_int_equal(lr_parse_size(lr_strz(row->min), &lo), 0);
        snprintf(out, 160, "%llu", (unsigned long long)lo + (unsigned)k);
        break;
    case LR_OPT_UINT:
        assert_int_equal(lr_parse_u64(lr_strz(row->min), &lo), 0);
        snprintf(out, 160, "%llu", (unsigned long long)lo + (unsigned)k);
        break;
    }
    return out;
}

/* One row given by the sources in `mask` (1 file, 2 environment, 4 flag), printed. */
static char *load_row(const struct lr_opt_row *row, int mask)
{
    char v[3][160], yaml[512] = "", env[512], flag[512], name[LR_OPT_NAME_MAX];
    const char *value[3];
    bool list = row->type == LR_OPT_LIST;
    for (int k = 0; k < 3; k++)
        value[k] = some_value(row, k, v[k]);
    if (mask & 1)
        snprintf(yaml, sizeof yaml, list ? "%s: [%s]" : "%s: %s", row->key, value[0]);
    snprintf(env, sizeof env, "%s=%s", lr_opt_env(row, name), value[1]);
    snprintf(flag, sizeof flag, "%s=%s", lr_opt_flag(row, name), value[2]);
    char *envp[] = {mask & 2 ? env : NULL, NULL}, *argv[] = {flag, NULL};
    struct lr_config c;
    struct lr_err err = {0};
    int rc = load_text(&c, yaml, envp, mask & 4 ? 1 : 0, argv, NULL, &err);
    if (rc)
        print_error("%s: %s: %s\n", row->key, err.where, err.msg);
    assert_int_equal(rc, 0);
    char *text = print(&c);
    lr_config_free(&c);
    return text;
}

static void flags_win_over_environment_over_file_over_default(void **state)
{
    (void)state;
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    for (size_t i = 0; i < n; i++) {
        for (int mask = 1; mask < 8; mask++) {
            char *got = load_row(&row[i], mask);
            char *want = load_row(&row[i], mask & 4 ? 4 : mask & 2 ? 2 : 1);
            assert_string_equal(got, want);
            lr_free(got);
            lr_free(want);
        }
        char *file = load_row(&row[i], 1), *env = load_row(&row[i], 2);
        assert_string_not_equal(file, env); /* else the above proves nothing */
        lr_free(file);
        lr_free(env);
    }
}

static void lists_are_replaced_by_a_stronger_source_and_repeated_flags_add(void **state)
{
    (void)state;
    char *envp[] = {"LARDER_HOSTS= c , d", "LARDER_ORIGINS=", NULL};
    char *argv[] = {"--listen", "e:1", "--listen=f:2", NULL};
    struct lr_config c;
    struct lr_err err = {0};
    assert_int_equal(
        load_text(&c, "hosts: [a, b]\norigins: [x]\nlisten: [y]", envp, 3, argv, NULL, &err), 0);
    assert_int_equal(c.hosts.n, 2);
    assert_string_equal(c.hosts.v[0], "c");
    assert_string_equal(c.hosts.v[1], "d");
    assert_int_equal(c.origins.n, 0);
    assert_int_equal(c.listen.n, 2);
    assert_string_equal(c.listen.v[0], "e:1");
    assert_string_equal(c.listen.v[1], "f:2");
    lr_config_free(&c);
}

static void flags_are_taken_in_every_form_and_words_are_left_in_order(void **state)
{
    (void)state;
    char *argv[] = {"one",
                    "--answer-bytes",
                    "2G",
                    "two",
                    "--no-answer-exact",
                    "--answer-sliding",
                    "-",
                    "--answer-variety=yes",
                    "--data=--odd",
                    "--data=a=b",
                    "--",
                    "--three",
                    "-4",
                    NULL};
    struct lr_config c;
    struct lr_err err = {0};
    int rest = -1;
    assert_int_equal(load_text(&c, "", NULL, 13, argv, &rest, &err), 0);
    assert_int_equal(rest, 5);
    static const char *const want[] = {"one", "two", "-", "--three", "-4"};
    for (int i = 0; i < rest; i++)
        assert_string_equal(argv[i], want[i]);
    assert_true(!c.answer_exact && c.answer_sliding && c.answer_variety);
    assert_string_equal(c.data, "a=b"); /* the last one counts */
    assert_int_equal(c.answer_bytes, UINT64_C(2) << 30);
    lr_config_free(&c);
}

static void upstreams_come_from_flags_environment_and_file_together(void **state)
{
    (void)state;
    char *envp[] = {"LARDER_UPSTREAM=http://h1:81/v1, n2=https://h2?x=y", "OTHER=1",
                    "LARDER_CONFIG=elsewhere", "LARDER_MY_KEY=secret", NULL};
    char *argv[] = {"--upstream", "https://api.example.com/v1", "--upstream=n4=http://[::1]:84",
                    NULL};
    struct lr_config c;
    struct lr_err err = {0};
    assert_int_equal(load_text(&c, "upstreams: [{url: 'http://h0', key-env: LARDER_MY_KEY}]", envp,
                               3, argv, NULL, &err),
                     0);
    static const char *const want[][2] = {{"h0", "http://h0"},
                                          {"h1:81", "http://h1:81/v1"},
                                          {"n2", "https://h2?x=y"},
                                          {"api.example.com", "https://api.example.com/v1"},
                                          {"n4", "http://[::1]:84"}};
    assert_int_equal(c.upstreams.n, LR_COUNT(want));
    for (size_t i = 0; i < LR_COUNT(want); i++) {
        assert_string_equal(c.upstreams.v[i].name, want[i][0]);
        assert_string_equal(c.upstreams.v[i].url, want[i][1]);
        assert_int_equal(c.upstreams.v[i].retries, 2); /* defaults of the record */
    }
    lr_config_free(&c);
}

/* ---- refusals ---- */

struct refusal {
    const char *input;
    int rc;
    const char *where, *msg; /* whole place, part of the sentence */
};

static void expect(int rc, const struct lr_err *err, const struct refusal *want)
{
    if (rc != want->rc || strcmp(err->where, want->where) != 0 || !strstr(err->msg, want->msg))
        print_error("'%s' gave %s at '%s': '%s'\n", want->input, lr_errname(rc), err->where,
                    err->msg);
    assert_int_equal(rc, want->rc);
    assert_int_equal(err->code, want->rc);
    assert_string_equal(err->where, want->where);
    assert_non_null(strstr(err->msg, want->msg));
}

static void what_the_file_may_not_hold_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        /* names */
        {"\nanswer.byte: 1G", LR_EINVAL, "t.yaml:2",
         "unknown key 'answer.byte'; did you mean 'answer.bytes'?"},
        {"answer:\n  exact: yes\n  hot_bytes: 1M", LR_EINVAL, "t.yaml:3",
         "did you mean 'answer.hot-bytes'?"},
        {"answers: {}", LR_EINVAL, "t.yaml:1", "did you mean 'answer'?"},
        {"upstream: []", LR_EINVAL, "t.yaml:1", "did you mean 'upstreams'?"},
        {"ttl: 1h", LR_EINVAL, "t.yaml:1", "did you mean 'answer.ttl'?"},
        {"answer: {answer: {}}", LR_EINVAL, "t.yaml:1", "unknown key 'answer.answer'"},
        {"answer: {upstreams: []}", LR_EINVAL, "t.yaml:1", "unknown key 'answer.upstreams'"},
        {"qwertyuiop: 1", LR_EINVAL, "t.yaml:1", "unknown key 'qwertyuiop'"},
        {"'': 1", LR_EINVAL, "t.yaml:1", "unknown key ''"},
        {"\"data\\0\": 1", LR_EINVAL, "t.yaml:1", "unknown key 'data?'"},
        {"\"da\\nta\": 1", LR_EINVAL, "t.yaml:1", "unknown key 'da?ta'"},
        {"<<: {}", LR_EINVAL, "t.yaml:1", "unknown key '<<'"},
        {"upstreams:\n- name: a\n  urll: b", LR_EINVAL, "t.yaml:3",
         "unknown key of upstreams 'urll'; did you mean 'url'?"},
        {"upstreams: [{answer.bytes: 1}]", LR_EINVAL, "t.yaml:1", "unknown key of upstreams"},
        /* twice */
        {"data: a\n\ndata: b", LR_EINVAL, "t.yaml:3", "data is given twice (first on line 1)"},
        {"answer.bytes: 1G\nanswer:\n  bytes: 1G", LR_EINVAL, "t.yaml:3",
         "given twice (first on line 1)"},
        {"answer: {}\nanswer: {}", LR_EINVAL, "t.yaml:2", "answer is given twice"},
        {"aliases: []\naliases: []", LR_EINVAL, "t.yaml:2", "aliases is given twice"},
        {"aliases:\n- name: a\n  model: b\n  name: c", LR_EINVAL, "t.yaml:4",
         "aliases.name is given twice (first on line 2)"},
        /* shapes */
        {"just text", LR_EINVAL, "t.yaml:1", "'key: value' lines"},
        {"- a\n- b", LR_EINVAL, "t.yaml:1", "'key: value' lines"},
        {"\"\"", LR_EINVAL, "t.yaml:1", "'key: value' lines"},
        {"data: [a]", LR_EINVAL, "t.yaml:1", "data wants one value"},
        {"data:\n  a: b", LR_EINVAL, "t.yaml:2", "data wants one value"},
        {"data:", LR_EINVAL, "t.yaml:1", "data needs a value"},
        {"data: ~", LR_EINVAL, "t.yaml:1", "data needs a value"},
        {"data: Null", LR_EINVAL, "t.yaml:1", "data needs a value"},
        {"hosts: a", LR_EINVAL, "t.yaml:1", "hosts wants a list"},
        {"hosts:", LR_EINVAL, "t.yaml:1", "hosts wants a list"},
        {"hosts: {a: b}", LR_EINVAL, "t.yaml:1", "hosts wants a list"},
        {"hosts: [[a]]", LR_EINVAL, "t.yaml:1", "list of plain texts"},
        {"hosts:\n- a\n-", LR_EINVAL, "t.yaml:3", "hosts needs a value"},
        {"hosts: ['']", LR_EINVAL, "t.yaml:1", "not empty"},
        {"answer: 5", LR_EINVAL, "t.yaml:1", "answer wants a map: 'answer.exact'"},
        {"answer: [5]", LR_EINVAL, "t.yaml:1", "answer wants a map"},
        {"upstreams: http://a", LR_EINVAL, "t.yaml:1", "upstreams wants a list of maps"},
        {"upstreams: {a: {url: b}}", LR_EINVAL, "t.yaml:1", "upstreams wants a list of maps"},
        {"upstreams:\n- url: a\n- b", LR_EINVAL, "t.yaml:3", "upstreams wants a list of maps"},
        {"prices: x", LR_EINVAL, "t.yaml:1", "prices wants a list of maps"},
        {"? [a]\n: b", LR_EINVAL, "t.yaml:1", "a key must be plain text"},
        {"? {a: b}\n: b", LR_EINVAL, "t.yaml:1", "a key must be plain text"},
        /* values */
        {"answer.bytes: lots", LR_EINVAL, "t.yaml:1",
         "answer.bytes wants a size such as 64K or 1G, got 'lots'"},
        {"answer.bytes: -1", LR_EINVAL, "t.yaml:1", "wants a size"},
        {"answer.bytes: 1K", LR_EOVER, "t.yaml:1", "answer.bytes wants 16M to 1T, got '1K'"},
        {"answer.bytes: 99999999P", LR_EOVER, "t.yaml:1", "16M to 1T"},
        {"http.threads: 1.5", LR_EINVAL, "t.yaml:1", "a whole number"},
        {"http.threads: 0x10", LR_EINVAL, "t.yaml:1", "a whole number"},
        {"http.threads: 99999999999999999999", LR_EOVER, "t.yaml:1", "1 to 64"},
        {"answer.ttl: 5 s", LR_EINVAL, "t.yaml:1", "a duration such as"},
        {"answer.ttl: 5y", LR_EINVAL, "t.yaml:1", "a duration such as"},
        {"answer.ttl: 3651d", LR_EOVER, "t.yaml:1", "0 to 3650d"},
        {"route.bound: .inf", LR_EINVAL, "t.yaml:1", "a number"},
        {"route.bound: nan", LR_EINVAL, "t.yaml:1", "a number"},
        {"route.bound: 0.99", LR_EOVER, "t.yaml:1", "1.0 to 100"},
        {"route.bound: 1e999", LR_EOVER, "t.yaml:1", "1.0 to 100"},
        {"answer.exact: maybe", LR_EINVAL, "t.yaml:1", "true or false, got 'maybe'"},
        {"answer.exact: ''", LR_EINVAL, "t.yaml:1", "true or false"},
        {"log.level: loud", LR_EINVAL, "t.yaml:1", "one of error|warn|info|debug, got 'loud'"},
        {"log.level: inf", LR_EINVAL, "t.yaml:1", "one of"},
        {"log.level: ''", LR_EINVAL, "t.yaml:1", "one of"},
        {"data: \"a\\nb\"", LR_EINVAL, "t.yaml:1", "without control characters, got 'a?b'"},
        {"data: \"a\\0b\"", LR_EINVAL, "t.yaml:1", "without control characters"},
        {"upstreams:\n- headers:\n  - \"x: a\\r\\nb: c\"", LR_EINVAL, "t.yaml:3",
         "control characters"},
        {"tenants: [{name: a, money-per-day: -1}]", LR_EOVER, "t.yaml:1",
         "tenants.money-per-day wants 0 to 1e9"},
        /* features */
        {"data: &a b", LR_EPARSE, "t.yaml:1", "anchors and aliases"},
        {"data: *a", LR_EPARSE, "t.yaml:1", "anchors and aliases"},
        {"&a data: b", LR_EPARSE, "t.yaml:1", "anchors and aliases"},
        {"hosts: &a [b]", LR_EPARSE, "t.yaml:1", "anchors and aliases"},
        {"&a\ndata: b", LR_EPARSE, "t.yaml:1", "anchors and aliases"},
        {"data: !!str b", LR_EPARSE, "t.yaml:1", "tags"},
        {"data: ! b", LR_EPARSE, "t.yaml:1", "tags"},
        {"hosts: !x [b]", LR_EPARSE, "t.yaml:1", "tags"},
        {"!x {data: b}", LR_EPARSE, "t.yaml:1", "tags"},
        {"%TAG !e! tag:x,2000:\n---\ndata: b", LR_EPARSE, "t.yaml:1", "directives"},
        {"# a\r\n%YAML 1.1\r\n---\r\ndata: b", LR_EPARSE, "t.yaml:2", "directives"},
        {"\xef\xbb\xbf%YAML 1.1\n---\n", LR_EPARSE, "t.yaml:1", "directives"},
        {"#\xc2\x85%TAG ! a\n---\n", LR_EPARSE, "t.yaml:1", "directives"},
        {"#\xe2\x80\xa8%TAG ! a\n---\n", LR_EPARSE, "t.yaml:1", "directives"},
        {"#\r%TAG ! a\n---\n", LR_EPARSE, "t.yaml:1", "directives"},
        {"data: a\n---\nlisten: []", LR_EINVAL, "t.yaml:2", "one document"},
        {"---\n---\n", LR_EINVAL, "t.yaml:2", "one document"},
        /* syntax */
        {"data: a\n  b: c\n", LR_EPARSE, "t.yaml:2", "not YAML"},
        {"\n\nhosts: [a", LR_EPARSE, "t.yaml:4", "not YAML"},
        {"data: \"a", LR_EPARSE, "t.yaml:1", "not YAML"},
        {"data:\n\tb", LR_EPARSE, "t.yaml:2", "not YAML"},
        {"data: a\ndata2: \xff", LR_EPARSE, "t.yaml:1", "not YAML"},
        {"data: \x01", LR_EPARSE, "t.yaml:1", "not YAML"},
        {"\xff\xfe"
         "d",
         LR_EPARSE, "t.yaml:1", "not YAML"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        struct lr_config c = {0};
        struct lr_err err = {0};
        expect(parse_text(&c, lr_strz(cases[i].input), &err), &err, &cases[i]);
        lr_config_free(&c);
    }
}

/* Found by timing hostile files: libyaml takes minutes for these. Without the refusal the test
 * hangs. */
static void a_file_of_tag_directives_is_refused_at_once(void **state)
{
    (void)state;
    struct lr_buf b;
    struct lr_config c = {0};
    struct lr_err err = {0};
    lr_buf_init(&b, LR_OPT_FILE_MAX);
    for (int i = 0; b.len + 32 < LR_OPT_FILE_MAX; i++)
        lr_buf_addf(&b, "%%TAG !a%d! b\n", i);
    assert_int_equal(parse_text(&c, lr_buf_str(&b), &err), LR_EPARSE);
    assert_string_equal(err.where, "t.yaml:1");
    lr_config_free(&c);
    lr_buf_free(&b);
}

static void byte_order_mark_and_foreign_line_ends_are_read(void **state)
{
    (void)state;
    struct lr_config c;
    load_yaml(&c, "\xef\xbb\xbf"
                  "data: 50%\r\nhosts:\r\n- '%b'\r\n");
    assert_string_equal(c.data, "50%");
    assert_string_equal(c.hosts.v[0], "%b");
    lr_config_free(&c);
}

static void wrong_flags_are_named(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"--ansewr-bytes=1G", LR_EINVAL, "--ansewr-bytes",
         "unknown option --ansewr-bytes; did you mean --answer-bytes?"},
        {"--ttl=1", LR_EINVAL, "--ttl", "did you mean --answer-ttl?"},
        {"--answer.bytes=1G", LR_EINVAL, "--answer.bytes", "did you mean --answer-bytes?"},
        {"--upstraem=x", LR_EINVAL, "--upstraem", "did you mean --upstream?"},
        {"--zzzzzzzz", LR_EINVAL, "--zzzzzzzz", "unknown option --zzzzzzzz"},
        {"--no-answer-bytes", LR_EINVAL, "--no-answer-bytes", "unknown option"},
        {"--=x", LR_EINVAL, "--", "unknown option"},
        {"-x", LR_EINVAL, "-x", "two dashes"},
        {"--data", LR_EINVAL, "--data", "--data needs a value: --data=VALUE"},
        {"--upstream", LR_EINVAL, "--upstream", "needs a value"},
        {"--upstream=", LR_EINVAL, "--upstream", "wants URL or name=URL"},
        {"--upstream==http://a", LR_EINVAL, "--upstream", "wants URL or name=URL"},
        {"--upstream=a=", LR_EINVAL, "--upstream", "wants URL or name=URL"},
        {"--no-answer-exact=1", LR_EINVAL, "--no-answer-exact", "takes no value"},
        {"--answer-exact=2", LR_EINVAL, "--answer-exact", "true or false"},
        {"--answer-bytes=", LR_EINVAL, "--answer-bytes", "a size"},
        {"--answer-bytes=1", LR_EOVER, "--answer-bytes", "16M to 1T"},
        {"--listen=", LR_EINVAL, "--listen", "not empty"},
        {"--data=a\tb", LR_EINVAL, "--data", "control characters"},
        {"--data=\xc3(", LR_EINVAL, "--data", "valid UTF-8, got '?('"},
        {"--d\xff\x1b[0m=1", LR_EINVAL, "--d??[0m", "unknown option"},
        {"word", LR_EINVAL, "word", "an option was expected"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        char word[64], *argv[] = {word, NULL};
        struct lr_config c;
        struct lr_err err = {0};
        snprintf(word, sizeof word, "%s", cases[i].input);
        expect(lr_config_load(&c, NULL, NULL, 1, argv, NULL, &err), &err, &cases[i]);
    }
    char *argv[] = {"--data", "--listen", "x", NULL};
    struct lr_config c;
    assert_int_equal(lr_config_load(&c, NULL, NULL, 3, argv, NULL, NULL), LR_EINVAL);
}

static void wrong_environment_names_and_values_are_named(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"LARDER_ANSWER_BYTE=1G", LR_EINVAL, "LARDER_ANSWER_BYTE",
         "unknown environment name LARDER_ANSWER_BYTE; did you mean LARDER_ANSWER_BYTES?"},
        {"LARDER_TTL=1", LR_EINVAL, "LARDER_TTL", "did you mean LARDER_ANSWER_TTL?"},
        {"LARDER_UPSTREAMS=x", LR_EINVAL, "LARDER_UPSTREAMS", "did you mean LARDER_UPSTREAM?"},
        {"LARDER_=1", LR_EINVAL, "LARDER_", "unknown environment name"},
        {"LARDER_data=1", LR_EINVAL, "LARDER_data", "unknown environment name"},
        {"LARDER_TRACE_REQUESTS=many", LR_EINVAL, "LARDER_TRACE_REQUESTS",
         "trace.requests wants a whole number, got 'many'"},
        {"LARDER_TRACE_REQUESTS=", LR_EINVAL, "LARDER_TRACE_REQUESTS", "a whole number"},
        {"LARDER_TRACE_REQUESTS", LR_EINVAL, "LARDER_TRACE_REQUESTS", "a whole number"},
        {"LARDER_HOSTS=a,,b", LR_EINVAL, "LARDER_HOSTS", "not empty"},
        {"LARDER_LISTEN=1,2,3,4,5,6,7,8,9", LR_EOVER, "LARDER_LISTEN", "at most 8 items, got '9'"},
        {"LARDER_UPSTREAM=http://a,", LR_EINVAL, "LARDER_UPSTREAM", "wants URL or name=URL"},
    };
    for (size_t i = 0; i < LR_COUNT(cases); i++) {
        char word[64], *envp[] = {"PATH=/bin", word, NULL};
        struct lr_config c;
        struct lr_err err = {0};
        snprintf(word, sizeof word, "%s", cases[i].input);
        expect(lr_config_load(&c, NULL, envp, 0, NULL, NULL, &err), &err, &cases[i]);
    }
}

static void numbers_are_accepted_at_their_bounds_and_refused_beyond(void **state)
{
    (void)state;
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    struct lr_config c;
    struct lr_opt_at at = {"here", 0, NULL};
    assert_int_equal(lr_config_defaults(&c, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        bool ms = row[i].type == LR_OPT_DURATION;
        if (!ms && row[i].type != LR_OPT_SIZE && row[i].type != LR_OPT_UINT)
            continue;
        uint64_t bound[2];
        for (int k = 0; k < 2; k++) {
            struct lr_str text = lr_strz(k ? row[i].max : row[i].min);
            int rc = ms ? lr_parse_duration(text, &bound[k]) : lr_parse_size(text, &bound[k]);
            assert_int_equal(rc, 0);
            assert_int_equal(lr_opt_set(&row[i], &c, text, &at), 0);
        }
        assert_true(bound[0] < bound[1]);
        char beyond[40];
        snprintf(beyond, sizeof beyond, "%llu%s", (unsigned long long)bound[1] + 1, ms ? "ms" : "");
        assert_int_equal(lr_opt_set(&row[i], &c, lr_strz(beyond), &at), LR_EOVER);
        snprintf(beyond, sizeof beyond, "%llu%s", (unsigned long long)bound[0] - 1, ms ? "ms" : "");
        if (bound[0])
            assert_int_equal(lr_opt_set(&row[i], &c, lr_strz(beyond), &at), LR_EOVER);
        uint64_t kept;
        memcpy(&kept, (char *)&c + row[i].offset, sizeof kept);
        assert_true(kept == bound[1]); /* a refused value leaves the old one */
    }
    lr_config_free(&c);
}

static void texts_lists_records_and_files_are_bounded(void **state)
{
    (void)state;
    struct lr_buf b;
    struct lr_config c;
    struct lr_err err = {0};
    lr_buf_init(&b, LR_MIB(5));
    for (int over = 0; over < 2; over++) {
        lr_buf_reset(&b);
        lr_buf_addz(&b, "data: ");
        for (int i = 0; i < LR_OPT_TEXT_MAX + over; i++)
            lr_buf_addc(&b, 'x');
        lr_buf_addz(&b, "\nupstreams:\n- models:");
        for (int i = 0; i < 4096 + over; i++)
            lr_buf_addf(&b, "\n  - m%d", i);
        lr_buf_addz(&b, "\naliases:");
        for (int i = 0; i < LR_OPT_RECORDS_MAX + over; i++)
            lr_buf_addf(&b, "\n- name: a%d", i);
        if (over)
            break;
        assert_int_equal(parse_text(&c, lr_buf_str(&b), &err), 0);
        assert_int_equal(c.upstreams.v[0].models.n, 4096);
        assert_string_equal(c.upstreams.v[0].models.v[4095], "m4095");
        assert_int_equal(c.aliases.n, LR_OPT_RECORDS_MAX);
        assert_string_equal(c.aliases.v[1023].name, "a1023");
        lr_config_free(&c);
    }
    /* Each part in turn is one too many. */
    static const char *const msg[] = {"at most 4096 bytes", "at most 4096 items",
                                      "at most 1024 records"};
    char *part = b.p, *end = b.p + b.len;
    for (size_t i = 0; i < LR_COUNT(msg); i++) {
        char *next =
            i < 2 ? memmem(part + 1, (size_t)(end - part - 1), i ? "\nali" : "\nups", 4) : end;
        err = (struct lr_err){0};
        memset(&c, 0, sizeof c);
        assert_int_equal(parse_text(&c, lr_str(part, (size_t)(next - part)), &err), LR_EOVER);
        assert_non_null(strstr(err.msg, msg[i]));
        lr_config_free(&c);
        part = next;
    }
    lr_buf_free(&b);
}

static void files_too_long_or_not_there_are_refused(void **state)
{
    (void)state;
    struct lr_buf b;
    struct lr_config c;
    struct lr_err err = {0};
    lr_buf_init(&b, LR_MIB(5));
    while (b.len < LR_OPT_FILE_MAX)
        lr_buf_addz(&b, "# 32 bytes of comment, no more.\n");
    assert_int_equal(b.len, LR_OPT_FILE_MAX);
    assert_int_equal(load_file(&c, lr_buf_str(&b), &err), 0);
    lr_config_free(&c);
    lr_buf_addc(&b, '\n');
    assert_int_equal(load_file(&c, lr_buf_str(&b), &err), LR_EOVER);
    assert_non_null(strstr(err.msg, "4 MiB"));
    lr_buf_free(&b);
    err = (struct lr_err){0};
    assert_int_equal(lr_config_load(&c, "/nowhere/larder.yaml", NULL, 0, NULL, NULL, &err),
                     LR_ENOENT);
    assert_string_equal(err.where, "/nowhere/larder.yaml");
    assert_string_equal(err.msg, "cannot be read: not found");
    err = (struct lr_err){0};
    assert_int_equal(lr_config_load(&c, "/", NULL, 0, NULL, NULL, &err), LR_EIO);
}

static void a_failed_load_leaves_the_config_as_it_was(void **state)
{
    (void)state;
    struct lr_config c, before;
    load_yaml(&c, "data: kept\nupstreams: [{name: a}]");
    before = c;
    char *argv[] = {"--data=lost", "--wrong", NULL};
    int rest = 77;
    assert_int_equal(lr_config_load(&c, NULL, NULL, 2, argv, &rest, NULL), LR_EINVAL);
    assert_memory_equal(&c, &before, sizeof c);
    assert_int_equal(rest, 77);
    assert_string_equal(c.data, "kept");
    lr_config_free(&c);
}

static void a_long_path_keeps_its_end_and_line(void **state)
{
    (void)state;
    char path[400];
    memset(path, 'p', sizeof path);
    memcpy(path + sizeof path - 12, "/larder.yaml", 12);
    path[sizeof path - 1] = 0;
    struct lr_config c = {0};
    struct lr_err err = {0};
    assert_int_equal(lr_opt_yaml(&c, LR_STR("\nx: y"), path, NULL, &err), LR_EINVAL);
    assert_int_equal(strlen(err.where), sizeof err.where - 1);
    assert_memory_equal(err.where, "...ppp", 6);
    assert_string_equal(err.where + strlen(err.where) - 13, "/larder.yam:2");
}

static void long_foreign_text_is_cut_at_a_character(void **state)
{
    (void)state;
    char text[200], out[LR_OPT_SHOW_MAX];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'a', lead);
        for (size_t i = lead; i + 4 <= sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\xa5\xab", 4);
        lr_opt_show(lr_str(text, 180), out);
        assert_int_equal(lr_utf8_check(lr_strz(out), NULL), 0);
        assert_string_equal(out + strlen(out) - 3, "...");
    }
    assert_string_equal(lr_opt_show(LR_STR("a\x7f\n"), out), "a??");
    assert_string_equal(lr_opt_show(LR_STR("a\xff"
                                           "b"),
                                    out),
                        "a?b");
}

/* ---- nearest names ---- */

/* The obvious twin of the distance: try every edit, by recursion. */
static unsigned slow_edits(struct lr_str a, struct lr_str b)
{
    if (!a.n || !b.n)
        return (unsigned)(a.n + b.n);
    struct lr_str a1 = lr_str(a.p + 1, a.n - 1), b1 = lr_str(b.p + 1, b.n - 1);
    unsigned best = slow_edits(a1, b1) + (a.p[0] != b.p[0]);
    unsigned drop = slow_edits(a1, b) + 1, add = slow_edits(a, b1) + 1;
    best = drop < best ? drop : best;
    best = add < best ? add : best;
    if (a.n > 1 && b.n > 1 && a.p[0] == b.p[1] && a.p[1] == b.p[0]) {
        unsigned swap = slow_edits(lr_str(a.p + 2, a.n - 2), lr_str(b.p + 2, b.n - 2)) + 1;
        best = swap < best ? swap : best;
    }
    return best;
}

static void the_nearest_name_is_the_one_with_the_fewest_edits(void **state)
{
    (void)state;
    uint64_t seed = 20;
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    for (int round = 0; round < 3000; round++) {
        char word[8], name[8];
        size_t n = 2 + lr_rng_below(&rng, 4), m = 1 + lr_rng_below(&rng, 5);
        for (size_t i = 0; i < 8; i++) {
            word[i] = (char)('a' + lr_rng_below(&rng, 3));
            name[i] = (char)('a' + lr_rng_below(&rng, 3));
        }
        word[n] = name[m] = 0;
        struct lr_opt_near near;
        lr_opt_near_init(&near, lr_str(word, n));
        unsigned limit = near.score, want = slow_edits(lr_str(word, n), lr_str(name, m));
        lr_opt_near_try(&near, name);
        bool found = near.best[0] != 0;
        if (found != (want < limit && want < n) || (found && near.score != want))
            fail_msg("seed %llu round %d: %s %s: %u, want %u", (unsigned long long)seed, round,
                     word, name, near.score, want);
    }
}

/* ---- faults ---- */

static int scenario(struct lr_err *err)
{
    char *envp[] = {"LARDER_HOSTS=a,b", "LARDER_UPSTREAM=e=http://e", NULL};
    char *argv[] = {"--listen", "x:1", "--upstream", "http://f:1", "--data=d", NULL};
    struct lr_config c;
    LR_TRY(
        load_text(&c,
                  "answer: {bytes: 2G}\norigins: [p, q]\n"
                  "upstreams: [{url: 'http://g', headers: ['a: b', 'c: d']}, {url: 'http://h'}]\n"
                  "aliases: [{name: z, upstreams: [g]}]\nprices: [{model: m, date: 2001-01-01}]",
                  envp, 5, argv, NULL, err));
    int rc = lr_config_load_prices(&c, LR_SOURCE_DIR "/packaging/prices.example.yaml", err);
    assert_int_equal(c.prices.n, rc ? 1 : 4);
    if (!rc)
        rc = lr_config_check(&c, err);
    struct lr_buf b;
    lr_buf_init(&b, LR_MIB(1));
    if (!rc)
        rc = lr_config_print(&c, &b);
    if (!rc)
        rc = lr_config_sample(&b);
    if (!rc)
        rc = lr_config_man(&b);
    if (!rc)
        rc = lr_config_help(&b);
    lr_buf_free(&b);
    lr_config_free(&c);
    return rc;
}

static void every_failing_allocation_or_read_is_a_clean_error(void **state)
{
    (void)state;
    uint64_t n = 0;
    for (;;) {
        struct lr_err err = {0};
        lr_fault_arm(++n);
        int rc = scenario(&err);
        uint64_t seen = lr_fault_seen();
        lr_fault_arm(0);
        if (seen < n) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc != LR_ENOMEM && rc != LR_EIO)
            fail_msg("fault %llu of a load gave %s: %s", (unsigned long long)n, lr_errname(rc),
                     err.msg);
    }
    assert_true(n > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_flags_and_environment_names_are_unique),
        cmocka_unit_test(fields_know_their_record_and_are_unique_in_it),
        cmocka_unit_test(defaults_are_the_tables_own_and_within_its_bounds),
        cmocka_unit_test(names_of_enums_have_the_numbers_of_the_header),
        cmocka_unit_test(groups_and_whole_keys_say_the_same),
        cmocka_unit_test(empty_files_groups_and_tables_are_nothing),
        cmocka_unit_test(flags_win_over_environment_over_file_over_default),
        cmocka_unit_test(lists_are_replaced_by_a_stronger_source_and_repeated_flags_add),
        cmocka_unit_test(flags_are_taken_in_every_form_and_words_are_left_in_order),
        cmocka_unit_test(upstreams_come_from_flags_environment_and_file_together),
        cmocka_unit_test(what_the_file_may_not_hold_is_named_with_its_line),
        cmocka_unit_test(a_file_of_tag_directives_is_refused_at_once),
        cmocka_unit_test(byte_order_mark_and_foreign_line_ends_are_read),
        cmocka_unit_test(wrong_flags_are_named),
        cmocka_unit_test(wrong_environment_names_and_values_are_named),
        cmocka_unit_test(numbers_are_accepted_at_their_bounds_and_refused_beyond),
        cmocka_unit_test(texts_lists_records_and_files_are_bounded),
        cmocka_unit_test(files_too_long_or_not_there_are_refused),
        cmocka_unit_test(a_failed_load_leaves_the_config_as_it_was),
        cmocka_unit_test(a_long_path_keeps_its_end_and_line),
        cmocka_unit_test(long_foreign_text_is_cut_at_a_character),
        cmocka_unit_test(the_nearest_name_is_the_one_with_the_fewest_edits),
        cmocka_unit_test(every_failing_allocation_or_read_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
