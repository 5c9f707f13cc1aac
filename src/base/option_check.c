/* SPDX-License-Identifier: Apache-2.0
 * base/option_check.c - what rows must be to each other, once all sources have spoken.
 *
 * The table bounds single values; here are the rules that need two of them, or a look inside a
 * text. They run after lr_config_load (and after the price file), at start and at every reload, so
 * that a running daemon never takes a configuration that cannot work. Places are records, counted
 * from 1 as people do, with the record's name: "upstream 2 (azure)".
 *
 * Credentials are refused where the configuration would show them: in URLs and in extra headers.
 * Names are compared pairwise: at 1024 records, half a million short strcmp, once a start.
 *
 * URLs are looked at only as far as the rules need; net/ parses them for good.
 */
#include "base/option_int.h"

#include <stdio.h>

static int fail(struct lr_err *err, const char *kind, size_t i, const char *name, const char *msg)
{
    char shown[LR_OPT_SHOW_MAX], where[LR_OPT_SHOW_MAX + 40];
    lr_opt_show(lr_strz(name), shown);
    int n = name[0] ? snprintf(where, sizeof where, "%s %zu (%s)", kind, i + 1, shown)
                    : snprintf(where, sizeof where, "%s %zu", kind, i + 1);
    return lr_err_set(err, LR_EINVAL, n < 0 ? kind : where, "%s", msg);
}

/* The first field, a TEXT, of record i. */
static const char *name_of(const struct lr_opt_table *t, const struct lr_config *c, size_t i)
{
    const void *field = (const char *)lr_opt_record(t, c, i) + t->rows[0].offset;
    return *(char *const *)field;
}

/* Where the first field is the name that others use, it is there, and only once. */
static int check_names(const struct lr_config *c, const char *table, struct lr_err *err)
{
    size_t n;
    const struct lr_opt_table *t = lr_opt_tables(&n);
    while (strcmp(t->name, table) != 0)
        t++;
    for (size_t i = 0; i < lr_opt_record_count(t, c); i++) {
        const char *name = name_of(t, c, i);
        if (!name[0])
            return fail(err, table, i, "", "name is empty");
        for (size_t k = 0; k < i; k++)
            if (!strcmp(name, name_of(t, c, k)))
                return fail(err, table, i, name, "name is taken by a record before");
    }
    return 0;
}

/* ---- texts ---- */

/* The token characters of RFC 9110, section 5.6.2. */
static bool is_token(struct lr_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (!c || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.n > 0;
}

/* NULL when `header` is 'name: value', else what is wrong. */
static const char *header_fault(const char *header)
{
    static const char *const secret[] = {"authorization", "proxy-authorization", "x-api-key",
                                         "api-key", "cookie"};
    struct lr_str value = lr_strz(header), name = lr_str_cut(&value, ':');
    if (!value.p || !is_token(name))
        return "headers are written 'name: value'";
    for (size_t i = 0; i < value.n; i++)
        if (((unsigned char)value.p[i] < 0x20 && value.p[i] != '\t') || value.p[i] == 0x7f)
            return "headers hold no control characters";
    for (size_t i = 0; i < LR_COUNT(secret); i++)
        if (lr_str_ieq(name, lr_strz(secret[i])))
            return "headers hold no credentials: use key-file or key-env, and key-header";
    return NULL;
}

/* The rest of an http or https URL behind "://"; p == NULL when it is none. */
static struct lr_str after_scheme(const char *url)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < LR_COUNT(schemes); i++)
        if (!strncasecmp(url, schemes[i], strlen(schemes[i])))
            return lr_strz(url + strlen(schemes[i]));
    return (struct lr_str){NULL, 0};
}

static bool has_user(struct lr_str rest)
{
    return memchr(rest.p, '@', strcspn(rest.p, "/?#")) != NULL;
}

static const char *url_fault(const char *url)
{
    struct lr_str rest = after_scheme(url);
    if (!url[0])
        return "url is empty";
    if (!rest.p)
        return "url must start with http:// or https://";
    if (has_user(rest)) /* never shown: this is where a password is */
        return "url holds no user or password: use key-file or key-env";
    if (strcspn(rest.p, "/?#:") == 0)
        return "url has no host";
    if (strpbrk(rest.p, "?#"))
        return "url holds no query: use the query field";
    return strchr(rest.p, ' ') ? "url holds no blanks" : NULL;
}

/* YYYY-MM-DD and a day that exists. */
static bool is_date(const char *z)
{
    static const unsigned char days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t y, m, d;
    if (strlen(z) != 10 || z[4] != '-' || z[7] != '-' || lr_parse_u64(lr_str(z, 4), &y) ||
        lr_parse_u64(lr_str(z + 5, 2), &m) || lr_parse_u64(lr_str(z + 8, 2), &d))
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1] && (m != 2 || d < 29 || leap);
}

static bool is_currency(const char *z)
{
    return strlen(z) == 3 && strspn(z, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3;
}

/* ---- records ---- */

static const char *upstream_fault(const struct lr_opt_upstream *u)
{
    const char *fault = url_fault(u->url);
    for (size_t i = 0; i < u->headers.n && !fault; i++)
        fault = header_fault(u->headers.v[i]);
    if (fault)
        return fault;
    if (u->key_header[0] && !is_token(lr_strz(u->key_header)))
        return "key-header is no header name";
    if (u->key_file[0] && u->key_env[0])
        return "key-file and key-env exclude each other";
    if (u->credential == LR_CREDENTIAL_KEY && !u->key_file[0] && !u->key_env[0])
        return "credential 'key' needs key-file or key-env";
    if (u->cert_key_file[0] && !u->cert_file[0])
        return "cert-key-file needs cert-file";
    if (!strcmp(u->name, "local"))
        return "the name 'local' stands for the models of this machine";
    struct lr_str proxy = after_scheme(u->proxy);
    if (proxy.p && has_user(proxy))
        return "proxy holds no user or password: use HTTPS_PROXY";
    return NULL;
}

static int check_upstreams(const struct lr_config *c, struct lr_err *err)
{
    for (size_t i = 0; i < c->upstreams.n; i++) {
        const struct lr_opt_upstream *u = &c->upstreams.v[i];
        const char *fault = upstream_fault(u);
        if (fault)
            return fail(err, "upstream", i, strchr(u->name, '@') ? "" : u->name, fault);
    }
    return check_names(c, "upstream", err);
}

static bool has_upstream(const struct lr_config *c, const char *name)
{
    for (size_t i = 0; i < c->upstreams.n; i++)
        if (!strcmp(c->upstreams.v[i].name, name))
            return true;
    return false;
}

static int check_aliases(const struct lr_config *c, struct lr_err *err)
{
    LR_TRY(check_names(c, "alias", err));
    for (size_t i = 0; i < c->aliases.n; i++) {
        const struct lr_opt_alias *a = &c->aliases.v[i];
        for (size_t k = 0; k < a->upstreams.n; k++) {
            char msg[LR_OPT_SHOW_MAX + 40], shown[LR_OPT_SHOW_MAX];
            if (has_upstream(c, a->upstreams.v[k]) || !strcmp(a->upstreams.v[k], "local"))
                continue;
            lr_opt_show(lr_strz(a->upstreams.v[k]), shown);
            if (snprintf(msg, sizeof msg, "no upstream is named '%s'", shown) < 0)
                msg[0] = 0;
            return fail(err, "alias", i, a->name, msg);
        }
    }
    return 0;
}

int lr_opt_check_prices(const struct lr_config *c, struct lr_err *err)
{
    for (size_t i = 0; i < c->prices.n; i++) {
        const struct lr_opt_price *p = &c->prices.v[i];
        const char *fault = !p->model[0]                ? "model is empty"
                            : !is_date(p->date)         ? "date must be a day, YYYY-MM-DD"
                            : !is_currency(p->currency) ? "currency must be three capitals, as USD"
                                                        : NULL;
        for (size_t k = 0; k < i && !fault; k++)
            if (!strcmp(p->model, c->prices.v[k].model) && !strcmp(p->date, c->prices.v[k].date))
                fault = "another price has the same model and date";
        if (fault)
            return fail(err, "price", i, p->model, fault);
    }
    return 0;
}

int lr_config_check(const struct lr_config *c, struct lr_err *err)
{
    if (c->listen.n == 0)
        return lr_err_set(err, LR_EINVAL, "listen", "at least one address is needed");
    if (!c->tls_cert_file[0] != !c->tls_key_file[0])
        return lr_err_set(err, LR_EINVAL, c->tls_key_file[0] ? "tls.key-file" : "tls.cert-file",
                          "tls.cert-file and tls.key-file come together");
    LR_TRY(check_upstreams(c, err));
    LR_TRY(check_aliases(c, err));
    LR_TRY(check_names(c, "tenant", err));
    LR_TRY(check_names(c, "category", err));
    return lr_opt_check_prices(c, err);
}
