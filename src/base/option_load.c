/* SPDX-License-Identifier: Apache-2.0
 * base/option_load.c - puts a configuration together: defaults, file, environment, flags.
 *
 *   defaults  <  file (option_yaml.c)  <  LARDER_*  <  --flags          the right one wins
 *
 * A stronger source replaces the whole value: the first --listen drops the listed addresses of the
 * file, the second adds to the first. Records add up instead: `--upstream URL` and LARDER_UPSTREAM
 * put one more upstream beside those of the file, since half a record on a command line would
 * replace what nobody sees. The configuration is built aside and handed over whole, so a failed
 * reload leaves the running one as it is.
 *
 * The environment is an argument (envp), not read here. All names that start with LARDER_ are ours
 * and a wrong one is an error, but for LARDER_CONFIG (the command line's own) and names that a
 * key-env field of an upstream points at.
 *
 * At the end, upstreams without a name get their URL's host (with its port where one is written),
 * the name that logs, metrics and aliases know them by.
 */
#include "base/option_int.h"

#include <stdio.h>

static const struct lr_opt_table *upstreams(void)
{
    size_t n;
    const struct lr_opt_table *t = lr_opt_tables(&n);
    while (strcmp(t->name, "upstream") != 0)
        t++;
    return t;
}

static int set_field(const struct lr_opt_table *t, void *rec, const char *key, struct lr_str text,
                     const struct lr_opt_at *at)
{
    for (size_t i = 0; i < t->rows_n; i++)
        if (!strcmp(t->rows[i].key, key))
            return lr_opt_set(&t->rows[i], rec, text, at);
    return LR_EINVAL;
}

/* `URL` or `name=URL`: a name has no ':' and no '/', so an '=' in a query makes none. */
static int add_upstream(struct lr_config *c, struct lr_str text, const struct lr_opt_at *at)
{
    struct lr_str url = text, name = lr_str_cut(&url, '=');
    bool named = url.p && !memchr(name.p, ':', name.n) && !memchr(name.p, '/', name.n);
    if (!named) {
        url = text;
        name = LR_STR("");
    }
    if (url.n == 0 || (named && name.n == 0))
        return lr_opt_fail(at, LR_EINVAL, "wants URL or name=URL");
    void *rec;
    LR_TRY(lr_opt_record_add(upstreams(), c, &rec, at));
    LR_TRY(set_field(upstreams(), rec, "url", url, at));
    return set_field(upstreams(), rec, "name", name, at);
}

/* ---- environment ---- */

static bool is_key_env(const struct lr_config *c, struct lr_str name)
{
    for (size_t i = 0; i < c->upstreams.n; i++)
        if (lr_str_is(name, c->upstreams.v[i].key_env))
            return true;
    return false;
}

static int unknown_env(struct lr_str name, const struct lr_opt_at *at)
{
    struct lr_opt_near near;
    char env[LR_OPT_NAME_MAX], shown[LR_OPT_SHOW_MAX];
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    struct lr_str bare = lr_str(name.p + strlen("LARDER_"), name.n - strlen("LARDER_"));
    lr_opt_near_init(&near, bare);
    for (size_t i = 0; i < n; i++)
        lr_opt_near_try(&near, lr_opt_env(&row[i], env) + strlen("LARDER_"));
    lr_opt_near_try(&near, "UPSTREAM");
    lr_opt_near_try(&near, "CONFIG");
    lr_opt_show(name, shown);
    if (near.best[0])
        return lr_opt_fail(at, LR_EINVAL, "unknown environment name %s; did you mean LARDER_%s?",
                           shown, near.best);
    return lr_opt_fail(at, LR_EINVAL, "unknown environment name %s", shown);
}

static int take_env_word(struct lr_config *c, struct lr_str name, struct lr_str value,
                         struct lr_err *err)
{
    char env[LR_OPT_NAME_MAX], shown[LR_OPT_SHOW_MAX];
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    struct lr_opt_at at = {lr_opt_show(name, shown), 0, err};
    for (size_t i = 0; i < n; i++)
        if (lr_str_is(name, lr_opt_env(&row[i], env)))
            return lr_opt_set(&row[i], c, value, &at);
    if (lr_str_is(name, "LARDER_CONFIG") || is_key_env(c, name))
        return 0;
    if (!lr_str_is(name, "LARDER_UPSTREAM"))
        return unknown_env(name, &at);
    struct lr_str rest = lr_str_trim(value);
    while (rest.p && value.n)
        LR_TRY(add_upstream(c, lr_str_trim(lr_str_cut(&rest, ',')), &at));
    return 0;
}

static int take_env(struct lr_config *c, char **envp, struct lr_err *err)
{
    for (; envp && *envp; envp++) {
        struct lr_str value = lr_strz(*envp), name = lr_str_cut(&value, '=');
        if (lr_str_starts(name, LR_STR("LARDER_")))
            LR_TRY(take_env_word(c, name, value, err));
    }
    return 0;
}

/* ---- flags ---- */

struct flags {
    struct lr_config *c;
    int argc;
    char **argv;
    int at;       /* word in hand */
    uint64_t set; /* lists already begun by a flag: a bit a plain row */
    struct lr_err *err;
};

static bool name_is(const struct lr_opt_row *row, struct lr_str name)
{
    char flag[LR_OPT_NAME_MAX];
    return lr_str_is(name, lr_opt_flag(row, flag) + 2);
}

/* The row of a flag's name (without dashes), n for none; *no: it was --no-NAME of a BOOL. */
static size_t find_flag(const struct lr_opt_row *row, size_t n, struct lr_str name, bool *no)
{
    struct lr_str bare = lr_str_starts(name, LR_STR("no-")) ? lr_str(name.p + 3, name.n - 3) : name;
    for (size_t i = 0; i < n; i++) {
        *no = false;
        if (name_is(&row[i], name))
            return i;
        *no = true;
        if (bare.n < name.n && row[i].type == LR_OPT_BOOL && name_is(&row[i], bare))
            return i;
    }
    return n;
}

static int unknown_flag(struct lr_str name, const struct lr_opt_at *at)
{
    struct lr_opt_near near;
    char flag[LR_OPT_NAME_MAX];
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    lr_opt_near_init(&near, name);
    for (size_t i = 0; i < n; i++)
        lr_opt_near_try(&near, lr_opt_flag(&row[i], flag) + 2);
    lr_opt_near_try(&near, "upstream");
    lr_opt_near_try(&near, "config");
    if (near.best[0])
        return lr_opt_fail(at, LR_EINVAL, "unknown option %s; did you mean --%s?", at->name,
                           near.best);
    return lr_opt_fail(at, LR_EINVAL, "unknown option %s", at->name);
}

/* The text after '=' or the next word. A next word that looks like a flag is a forgotten value. */
static int flag_value(struct flags *f, struct lr_str *value, const struct lr_opt_at *at)
{
    if (value->p)
        return 0;
    const char *next = f->at + 1 < f->argc ? f->argv[f->at + 1] : NULL;
    if (!next || !strncmp(next, "--", 2))
        return lr_opt_fail(at, LR_EINVAL, "%s needs a value: %s=VALUE", at->name, at->name);
    *value = lr_strz(next);
    f->at++;
    return 0;
}

static int set_flag(struct flags *f, const struct lr_opt_row *row, size_t i, struct lr_str value,
                    const struct lr_opt_at *at)
{
    LR_TRY(flag_value(f, &value, at));
    if (row->type != LR_OPT_LIST)
        return lr_opt_set(row, f->c, value, at);
    if (!(f->set >> i & 1))
        lr_opt_list_clear(row, f->c);
    f->set |= UINT64_C(1) << i;
    return lr_opt_list_add(row, f->c, value, at);
}

static int take_flag(struct flags *f)
{
    const char *word = f->argv[f->at];
    struct lr_str value = lr_strz(word + 2), name = lr_str_cut(&value, '=');
    char shown[LR_OPT_SHOW_MAX];
    struct lr_opt_at at = {lr_opt_show(lr_str(word, name.n + 2), shown), 0, f->err};
    size_t n;
    const struct lr_opt_row *row = lr_opt_plain(&n);
    if (word[1] != '-')
        return lr_opt_fail(&at, LR_EINVAL, "unknown option %s: options start with two dashes",
                           at.name);
    if (lr_str_is(name, "upstream")) {
        LR_TRY(flag_value(f, &value, &at));
        return add_upstream(f->c, value, &at);
    }
    bool no;
    size_t i = find_flag(row, n, name, &no);
    if (i == n)
        return unknown_flag(name, &at);
    if (row[i].type != LR_OPT_BOOL)
        return set_flag(f, &row[i], i, value, &at);
    if (no && value.p)
        return lr_opt_fail(&at, LR_EINVAL, "%s takes no value", at.name);
    return lr_opt_set(&row[i], f->c, value.p ? value : no ? LR_STR("false") : LR_STR("true"), &at);
}

static int take_flags(struct flags *f, int *rest_n)
{
    int rest = 0;
    bool over = false; /* "--" ends the options */
    for (f->at = 0; f->at < f->argc; f->at++) {
        char *word = f->argv[f->at];
        if (!over && !strcmp(word, "--")) {
            over = true;
        } else if (!over && word[0] == '-' && word[1]) {
            LR_TRY(take_flag(f));
        } else if (!rest_n) {
            char shown[LR_OPT_SHOW_MAX];
            return lr_err_set(f->err, LR_EINVAL, lr_opt_show(lr_strz(word), shown),
                              "an option was expected here");
        } else {
            f->argv[rest++] = word;
        }
    }
    if (rest_n)
        *rest_n = rest;
    return 0;
}

/* ---- names of upstreams ---- */

/* "api.example.com:8443" of "https://api.example.com:8443/v1"; empty when there is no host. */
static struct lr_str host_of(const char *url)
{
    const char *at = strstr(url, "://");
    if (!at)
        return LR_STR("");
    struct lr_str host = lr_str(at + 3, strcspn(at + 3, "/?#"));
    const char *user = host.n ? memrchr(host.p, '@', host.n) : NULL;
    return user ? lr_str(user + 1, host.n - (size_t)(user + 1 - host.p)) : host;
}

static int name_upstreams(struct lr_config *c, struct lr_err *err)
{
    struct lr_opt_at at = {"upstreams", 0, err};
    for (size_t i = 0; i < c->upstreams.n; i++) {
        struct lr_opt_upstream *u = &c->upstreams.v[i];
        if (!u->name[0])
            LR_TRY(set_field(upstreams(), u, "name", host_of(u->url), &at));
    }
    return 0;
}

/* ---- the doors ---- */

static int take_file(struct lr_config *c, const char *path, const struct lr_opt_table *only,
                     struct lr_err *err)
{
    struct lr_opt_at at = {path, 0, err};
    struct lr_buf text;
    lr_buf_init(&text, LR_OPT_FILE_MAX);
    int rc = lr_io_read_file(path, &text);
    if (rc == LR_EOVER)
        lr_opt_fail(&at, rc, "the file is longer than 4 MiB");
    else if (rc)
        lr_opt_fail(&at, rc, "cannot be read: %s", lr_strerror(rc));
    else
        rc = lr_opt_yaml(c, lr_buf_str(&text), path, only, err);
    lr_buf_free(&text);
    return rc;
}

int lr_config_load(struct lr_config *c, const char *path, char **envp, int argc, char **argv,
                   int *rest_n, struct lr_err *err)
{
    struct lr_config fresh;
    LR_TRY(lr_config_defaults(&fresh, err));
    struct flags f = {.c = &fresh, .argc = argc, .argv = argv, .err = err};
    int rest = 0;
    int rc = path ? take_file(&fresh, path, NULL, err) : 0;
    if (!rc)
        rc = take_env(&fresh, envp, err);
    if (!rc)
        rc = take_flags(&f, rest_n ? &rest : NULL);
    if (!rc)
        rc = name_upstreams(&fresh, err);
    if (rc) {
        lr_config_free(&fresh);
        return rc;
    }
    if (rest_n)
        *rest_n = rest;
    *c = fresh;
    return 0;
}

int lr_config_load_prices(struct lr_config *c, const char *path, struct lr_err *err)
{
    size_t n;
    const struct lr_opt_table *t = lr_opt_tables(&n);
    while (strcmp(t->name, "price") != 0)
        t++;
    size_t before = lr_opt_record_count(t, c);
    int rc = take_file(c, path, t, err);
    if (!rc)
        rc = lr_opt_check_prices(c, err);
    if (rc)
        lr_opt_record_cut(t, c, before);
    return rc;
}
