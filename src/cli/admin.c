/* SPDX-License-Identifier: Apache-2.0
 * cli/admin.c - the commands that ask a running daemon: stats, top, explain, answer, trace.
 *
 * They speak HTTP to /larder/v1 at admin.listen, else at the first listen address, with the admin
 * key of the data directory: whoever may read that file may use them.
 */
#include "cli/cli.h"
#include "dialect/dialect.h"
#include "net/net.h"
#include "serve/serve.h"

#include <stdio.h>
#include <unistd.h>

#define ANSWER_MAX LR_MIB(64)

/* Where the daemon is, and the key to it. */
struct daemon {
    char base[320]; /* "http://127.0.0.1:8100" */
    char auth[128]; /* the header */
    char ca[4096];
};

static int read_key(const struct lr_config *c, struct daemon *d, struct lr_err *err)
{
    char dir[4096], path[4200];
    struct lr_buf b;
    lr_buf_init(&b, 256);
    LR_TRY(lr_cli_data_dir(c, dir, sizeof dir));
    int k = snprintf(path, sizeof path, "%s/%s", dir, LR_ADMIN_KEY_FILE);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof path, LR_EOVER);
    int rc = lr_io_read_file(path, &b);
    if (rc) {
        lr_err_set(err, rc, path,
                   "the admin key cannot be read (is the daemon's data directory this "
                   "one? see --data): %s",
                   lr_strerror(rc));
    } else {
        struct lr_str key = lr_str_trim(lr_buf_str(&b));
        k = snprintf(d->auth, sizeof d->auth, "authorization: Bearer %.*s", LR_FMT(key));
        rc = k < 0 || (size_t)k >= sizeof d->auth ? LR_EOVER : 0;
        explicit_bzero(b.p, b.len);
    }
    lr_buf_free(&b);
    return rc;
}

/* A wildcard address is no address to dial: loopback reaches it. */
static int set_base(const struct lr_config *c, struct daemon *d)
{
    const char *at = *c->admin_listen ? c->admin_listen : c->listen.n ? c->listen.v[0] : "";
    const char *colon = strrchr(at, ':');
    LR_FAIL_IF(!colon, LR_EINVAL);
    struct lr_str host = lr_str(at, (size_t)(colon - at));
    if (lr_str_is(host, "0.0.0.0") || lr_str_is(host, "*"))
        host = LR_STR("127.0.0.1");
    if (lr_str_is(host, "[::]"))
        host = LR_STR("[::1]");
    int k = snprintf(d->base, sizeof d->base, "http%s://%.*s%s", *c->tls_cert_file ? "s" : "",
                     LR_FMT(host), colon);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof d->base, LR_EOVER);
    k = snprintf(d->ca, sizeof d->ca, "%s", c->tls_cert_file);
    return k < 0 || (size_t)k >= sizeof d->ca ? LR_EOVER : 0;
}

static int open_daemon(struct lr_cli *cli, struct daemon *d)
{
    struct lr_config *c;
    struct lr_err err = {0};
    LR_TRY(lr_cli_config(cli, &c));
    int rc = set_base(c, d);
    if (!rc)
        rc = read_key(c, d, &err);
    if (rc) {
        err.code = rc;
        lr_cli_fail(cli->name, &err);
    }
    lr_config_free(c);
    lr_free(c);
    return rc;
}

/* 0 and the body in out; else the failure has been printed. */
static int ask(const struct daemon *d, const char *method, const char *path, struct lr_str body,
               struct lr_buf *out)
{
    char url[1024];
    const char *headers[] = {d->auth, "content-type: application/json"};
    struct lr_net_route route = {
        .ca_file = *d->ca ? d->ca : NULL, .connect_ms = 5000, .total_ms = 60000};
    struct lr_err err = {0};
    int status = 0, k = snprintf(url, sizeof url, "%s%s", d->base, path);
    LR_FAIL_IF(k < 0 || (size_t)k >= sizeof url, LR_EOVER);
    int rc =
        lr_net_fetch(method, url, headers, LR_COUNT(headers), body, &route, out, &status, &err);
    if (rc) {
        err.code = rc;
        lr_cli_fail("no answer from the daemon", &err);
        return rc;
    }
    if (status / 100 == 2)
        return 0;
    struct lr_arena a;
    struct lr_str code = {NULL, 0}, message = {NULL, 0};
    lr_arena_init(&a, LR_MIB(1));
    lr_error_read(&a, lr_buf_str(out), &code, &message);
    fprintf(stderr, "larder: the daemon answered %d: %.*s\n", status, LR_FMT(message));
    lr_arena_free(&a);
    return LR_EDENIED;
}

/* ---- reading answers ---- */

/* An answer of the daemon as a tree; its text lives in `text`, its nodes in `arena`. */
struct answer {
    struct lr_buf text;
    struct lr_arena arena;
    struct lr_json *root;
};

static void free_answer(struct answer *a)
{
    lr_buf_free(&a->text);
    lr_arena_free(&a->arena);
}

static int ask_json(const struct daemon *d, const char *method, const char *path,
                    struct lr_str body, struct answer *a)
{
    struct lr_err err = {0};
    lr_buf_init(&a->text, ANSWER_MAX);
    lr_arena_init(&a->arena, ANSWER_MAX);
    int rc = ask(d, method, path, body, &a->text);
    if (!rc && (rc = lr_json_parse(&a->arena, lr_buf_str(&a->text), NULL, &a->root, &err))) {
        err.code = rc;
        lr_cli_fail("the daemon's answer", &err);
    }
    if (rc)
        free_answer(a);
    return rc;
}

static struct lr_json *at(const struct lr_json *o, const char *group, const char *name)
{
    return lr_json_get(group ? lr_json_get(o, group) : o, name);
}

static uint64_t num(const struct lr_json *v)
{
    uint64_t n = 0;
    (void)lr_json_u64(v, &n); /* absent: 0 */
    return n;
}

static double real(const struct lr_json *v)
{
    double n = 0;
    (void)lr_json_real(v, &n); /* absent: 0 */
    return n;
}

static struct lr_str text(const struct lr_json *v)
{
    struct lr_str s = {"", 0};
    (void)lr_json_text(v, &s); /* absent: empty */
    return s;
}

/* Control bytes never reach the terminal: names come from clients and upstreams. width 0: all of
 * it; else a column, cut so that a blank is left before the next one. */
static void put(struct lr_str s, int width)
{
    int n = 0;
    for (size_t i = 0; i < s.n && (!width || n < width - 1); i++, n++)
        putchar((unsigned char)s.p[i] < ' ' || s.p[i] == 127 ? '?' : s.p[i]);
    for (; n < width; n++)
        putchar(' ');
}

static void line(const char *name, struct lr_str value)
{
    if (!value.n)
        return;
    printf("%-14s", name);
    put(value, 0);
    putchar('\n');
}

/* Raw bytes of an answer to a file or standard output. */
static int write_out(const char *path, struct lr_str s)
{
    int rc = 0;
    if (path)
        rc = lr_io_write_file(path, s, 0600);
    else if (fwrite(s.n ? s.p : "", 1, s.n, stdout) != s.n)
        rc = LR_EIO;
    if (rc)
        lr_cli_fail(path ? path : "standard output", &(struct lr_err){.code = rc});
    return rc ? 1 : 0;
}

static int usage(const char *words)
{
    fprintf(stderr, "usage: larder %s\n", words);
    return 2;
}

/* A word of the command line in a path or query: hex and letters pass, the rest is %XX. */
static void add_word(struct lr_buf *b, const char *w)
{
    for (; *w; w++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *w))
            lr_buf_addc(b, *w);
        else
            lr_buf_addf(b, "%%%02X", (unsigned)(unsigned char)*w);
}

/* ---- stats and top ---- */

/* A line a model of this machine: how busy, how fast since it began, how full. */
static void show_models(const struct lr_json *list)
{
    for (const struct lr_json *m = list ? list->child : NULL; m; m = m->next) {
        double busy = (double)num(lr_json_get(m, "busy_ms")) / 1e3;
        uint64_t tokens = num(lr_json_get(m, "step_tokens"));
        bool up = false;
        (void)lr_json_bool(lr_json_get(m, "up"), &up); /* absent: down */
        printf("model         ");
        put(text(lr_json_get(m, "name")), 0);
        printf("%s: %llu running, %llu waiting, %.0f tokens/s when busy, rows %.1f of %.0f MiB, "
               "%llu of %llu prompt tokens found computed\n",
               up ? "" : " FAILED", (unsigned long long)num(lr_json_get(m, "running")),
               (unsigned long long)num(lr_json_get(m, "waiting")),
               busy > 0 ? (double)tokens / busy : 0.0,
               (double)num(lr_json_get(m, "kv_used")) / 1048576,
               (double)num(lr_json_get(m, "kv_max")) / 1048576,
               (unsigned long long)num(lr_json_get(m, "cached_tokens")),
               (unsigned long long)(num(lr_json_get(m, "cached_tokens")) +
                                    num(lr_json_get(m, "prompt_tokens"))));
    }
}

static void show_stats(const struct lr_json *s)
{
    uint64_t hits = num(at(s, "totals", "hit")) + num(at(s, "totals", "stale"));
    uint64_t misses = num(at(s, "totals", "miss")), shared = num(at(s, "totals", "coalesced"));
    struct lr_str currency = text(lr_json_get(s, "currency"));
    printf("larder %.*s   up %.1f h\n", LR_FMT(text(lr_json_get(s, "version"))),
           (double)num(lr_json_get(s, "uptime_ms")) / 3.6e6);
    printf("hit rate      %.1f%%   %llu hits, %llu misses, %llu shared, %llu passed through, %llu "
           "failed\n",
           real(at(s, "totals", "hit_rate")) * 100, (unsigned long long)hits,
           (unsigned long long)misses, (unsigned long long)shared,
           (unsigned long long)num(at(s, "totals", "bypass")),
           (unsigned long long)num(at(s, "totals", "error")));
    printf("tokens saved  %llu in, %llu out\n",
           (unsigned long long)num(at(s, "totals", "tokens_in_saved")),
           (unsigned long long)num(at(s, "totals", "tokens_out_saved")));
    if (currency.n)
        printf("money saved   %.6g %.*s, spent %.6g\n", real(at(s, "totals", "money_saved")),
               LR_FMT(currency), real(at(s, "totals", "money_spent")));
    printf("time saved    %.1f s\n", (double)num(at(s, "totals", "ms_saved")) / 1e3);
    const struct lr_json *hit = at(s, "first_byte_us", "hit"),
                         *miss = at(s, "first_byte_us", "miss");
    printf("first byte    hits p50 %.2f ms p99 %.2f ms, misses p50 %.0f ms p99 %.0f ms\n",
           real(lr_json_get(hit, "p50")) / 1e3, real(lr_json_get(hit, "p99")) / 1e3,
           real(lr_json_get(miss, "p50")) / 1e3, real(lr_json_get(miss, "p99")) / 1e3);
    printf("store         %llu answers, %.1f of %.0f MiB, %llu in memory\n",
           (unsigned long long)num(at(s, "store", "entries")),
           (double)num(at(s, "store", "bytes")) / 1048576,
           (double)num(at(s, "store", "bytes_max")) / 1048576,
           (unsigned long long)num(at(s, "store", "hot_entries")));
    show_models(lr_json_get(s, "models"));
    const struct lr_json *reasons = lr_json_get(s, "reasons");
    printf("no hit for    ");
    for (const struct lr_json *v = reasons ? reasons->child : NULL; v; v = v->next) {
        put(v->key, 0);
        printf(" %llu%s", (unsigned long long)num(v), v->next ? ", " : "");
    }
    printf("%s\n", reasons && reasons->child ? "" : "-");
}

int lr_cmd_stats(struct lr_cli *cli)
{
    struct daemon d;
    struct answer a;
    bool json = lr_cli_take_flag(cli, "--json");
    if (open_daemon(cli, &d) || ask_json(&d, "GET", "/larder/v1/stats", lr_str(NULL, 0), &a))
        return 1;
    if (json)
        printf("%.*s\n", (int)a.text.len, a.text.p);
    else
        show_stats(a.root);
    free_answer(&a);
    return 0;
}

static void show_instances(const struct lr_json *root)
{
    const struct lr_json *list = lr_json_get(root, "instances");
    printf("\n%-24s %-6s %-8s %8s %12s %10s %8s\n", "upstream", "up", "breaker", "now",
           "first byte", "asked", "failed");
    for (const struct lr_json *u = list ? list->child : NULL; u; u = u->next) {
        bool up = false;
        (void)lr_json_bool(lr_json_get(u, "up"), &up); /* absent: down */
        put(text(lr_json_get(u, "name")), 24);
        printf(" %-6s ", up ? "yes" : "NO");
        put(text(lr_json_get(u, "breaker")), 8);
        printf(" %8llu %9.0f ms %10llu %8llu\n",
               (unsigned long long)num(lr_json_get(u, "inflight")),
               (double)num(lr_json_get(u, "first_byte_us")) / 1e3,
               (unsigned long long)num(lr_json_get(u, "tries")),
               (unsigned long long)num(lr_json_get(u, "fails")));
    }
}

static void show_requests(const struct lr_json *root)
{
    const struct lr_json *list = lr_json_get(root, "requests");
    printf("\n%-24s %-10s %-22s %-24s %12s %9s\n", "request", "outcome", "reason", "model",
           "first byte", "tokens");
    for (const struct lr_json *q = list ? list->child : NULL; q; q = q->next) {
        put(text(lr_json_get(q, "request_id")), 25);
        put(text(lr_json_get(q, "cache")), 11);
        put(text(lr_json_get(q, "reason")), 23);
        put(text(lr_json_get(q, "model")), 24);
        printf(" %9.2f ms %9llu\n", (double)num(lr_json_get(q, "first_us")) / 1e3,
               (unsigned long long)(num(lr_json_get(q, "tokens_in")) +
                                    num(lr_json_get(q, "tokens_out"))));
    }
}

/* One picture of the house; three questions. */
static int draw_top(const struct daemon *d, bool terminal)
{
    struct answer s, i, q;
    int rc = 1;
    if (ask_json(d, "GET", "/larder/v1/stats?minutes=1", lr_str(NULL, 0), &s))
        return 1;
    if (ask_json(d, "GET", "/larder/v1/instances", lr_str(NULL, 0), &i))
        goto undo_stats;
    if (ask_json(d, "GET", "/larder/v1/requests?limit=15", lr_str(NULL, 0), &q))
        goto undo_instances;
    if (terminal)
        printf("\033[H\033[2J"); /* home, clear */
    show_stats(s.root);
    show_instances(i.root);
    show_requests(q.root);
    rc = fflush(stdout) ? 1 : 0;
    free_answer(&q);
undo_instances:
    free_answer(&i);
undo_stats:
    free_answer(&s);
    return rc;
}

/* One plain line a second where nobody can redraw. */
static int line_top(const struct daemon *d)
{
    struct answer s;
    if (ask_json(d, "GET", "/larder/v1/stats?minutes=1", lr_str(NULL, 0), &s))
        return 1;
    const struct lr_json *t = lr_json_get(s.root, "totals");
    printf(
        "hits=%llu misses=%llu shared=%llu errors=%llu hit_rate=%.3f entries=%llu flights=%llu\n",
        (unsigned long long)(num(lr_json_get(t, "hit")) + num(lr_json_get(t, "stale"))),
        (unsigned long long)num(lr_json_get(t, "miss")),
        (unsigned long long)num(lr_json_get(t, "coalesced")),
        (unsigned long long)num(lr_json_get(t, "error")), real(lr_json_get(t, "hit_rate")),
        (unsigned long long)num(at(s.root, "store", "entries")),
        (unsigned long long)num(lr_json_get(s.root, "flights")));
    int rc = fflush(stdout) ? 1 : 0;
    free_answer(&s);
    return rc;
}

int lr_cmd_top(struct lr_cli *cli)
{
    struct daemon d;
    bool once = lr_cli_take_flag(cli, "--once"), terminal = isatty(STDOUT_FILENO);
    if (open_daemon(cli, &d))
        return 1;
    for (;;) {
        int status = terminal || once ? draw_top(&d, terminal && !once) : line_top(&d);
        if (status || once)
            return status;
        lr_clock_sleep_ns(LR_SEC);
    }
}

/* ---- explain ---- */

static void show_rooms(const struct lr_json *x)
{
    const struct lr_json *rooms = lr_json_get(x, "rooms");
    double all = 0;
    for (const struct lr_json *r = rooms ? rooms->child : NULL; r; r = r->next)
        all += real(lr_json_get(r, "us"));
    for (const struct lr_json *r = rooms ? rooms->child : NULL; r; r = r->next) {
        double us = real(lr_json_get(r, "us"));
        int width = all > 0 ? (int)(us / all * 40 + 0.5) : 0;
        printf("  ");
        put(text(lr_json_get(r, "room")), 8);
        printf("%12.1f us  ", us);
        for (int i = 0; i < width; i++)
            putchar('#');
        putchar('\n');
    }
}

static void show_money(const struct lr_json *x)
{
    const struct lr_json *p = lr_json_get(x, "price");
    printf("%-14s%llu in, %llu out\n", "tokens",
           (unsigned long long)num(lr_json_get(x, "tokens_in")),
           (unsigned long long)num(lr_json_get(x, "tokens_out")));
    if (num(lr_json_get(x, "ms_saved")))
        printf("%-14s%.3f s\n", "time saved", (double)num(lr_json_get(x, "ms_saved")) / 1e3);
    if (!lr_json_is(p, LR_JSON_OBJECT))
        return;
    struct lr_str c = text(lr_json_get(p, "currency")), date = text(lr_json_get(p, "date"));
    printf("%-14ssaved %.6g, spent %.6g %.*s\n", "money", real(lr_json_get(x, "money_saved")),
           real(lr_json_get(x, "money_spent")), LR_FMT(c));
    printf("%-14s%g in, %g cached in, %g out per million tokens, as of %.*s\n", "price",
           real(lr_json_get(p, "input")), real(lr_json_get(p, "cached_input")),
           real(lr_json_get(p, "output")), LR_FMT(date));
}

static void show_against(const struct lr_json *o)
{
    static const struct {
        const char *verdict, *words;
    } all[] = {
        {"same-key", "both have the same key: nothing that counts differs"},
        {"other-tenant", "they belong to different tenants, whose keys cannot be compared"},
        {"forgotten", "what the key of one of them was made of is no longer remembered"},
        {"same-members", "no member differs; a header that counts may"},
    };
    struct lr_str verdict = text(lr_json_get(o, "verdict"));
    printf("\nagainst ");
    put(text(lr_json_get(o, "request_id")), 0);
    printf(": ");
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (lr_str_is(verdict, all[i].verdict))
            printf("%s\n", all[i].words);
    if (lr_str_is(verdict, "differ")) {
        printf("the first difference is in ");
        put(text(lr_json_get(o, "first_difference")), 0);
        putchar('\n');
    }
}

static void show_explained(const struct lr_json *x)
{
    static const char *const names[] = {"model",    "upstream", "choice", "dialect", "tenant_name",
                                        "category", "tag",      "entry",  "program"};
    struct lr_str cache = text(lr_json_get(x, "cache")), meaning = text(lr_json_get(x, "meaning"));
    put(cache, 0);
    printf(": ");
    put(text(lr_json_get(x, "reason")), 0);
    if (meaning.n)
        printf(" - %.*s", LR_FMT(meaning));
    putchar('\n');
    show_rooms(x);
    for (size_t i = 0; i < LR_COUNT(names); i++)
        line(names[i], text(lr_json_get(x, names[i])));
    bool stored = false;
    (void)lr_json_bool(lr_json_get(x, "stored"), &stored); /* absent: no */
    printf("%-14s%s\n", "stored", stored ? "yes" : "no");
    printf("%-14s%llu, tries %llu\n", "status", (unsigned long long)num(lr_json_get(x, "status")),
           (unsigned long long)num(lr_json_get(x, "tries")));
    show_money(x);
    if (lr_json_is(lr_json_get(x, "against"), LR_JSON_OBJECT))
        show_against(lr_json_get(x, "against"));
}

int lr_cmd_explain(struct lr_cli *cli)
{
    const char *against = lr_cli_take(cli, "--against");
    bool json = lr_cli_take_flag(cli, "--json");
    struct daemon d;
    struct answer a;
    struct lr_buf path;
    if (open_daemon(cli, &d))
        return 1;
    if (cli->argc != 1)
        return usage("explain ID [--against ID2] [--json]");
    lr_buf_init(&path, 1000);
    lr_buf_addz(&path, "/larder/v1/explain/");
    add_word(&path, cli->argv[0]);
    if (against) {
        lr_buf_addz(&path, "?against=");
        add_word(&path, against);
    }
    lr_buf_addc(&path, 0);
    int rc = path.rc ? path.rc : ask_json(&d, "GET", path.p, lr_str(NULL, 0), &a);
    lr_buf_free(&path);
    if (rc)
        return 1;
    if (json)
        printf("%.*s\n", (int)a.text.len, a.text.p);
    else
        show_explained(a.root);
    free_answer(&a);
    return 0;
}

/* ---- answer ---- */

static const char *const selectors[] = {"tag", "tenant", "model", "category", "prefix", "age"};

/* --tag X --model Y ... into a query; returns how many there were. */
static size_t take_selectors(struct lr_cli *cli, struct lr_buf *path)
{
    size_t n = 0;
    for (size_t i = 0; i < LR_COUNT(selectors); i++) {
        char flag[32];
        int k = snprintf(flag, sizeof flag, "--%s", selectors[i]);
        const char *v = k > 0 ? lr_cli_take(cli, flag) : NULL;
        if (!v)
            continue;
        lr_buf_addf(path, "%c%s=", n++ ? '&' : '?', selectors[i]);
        add_word(path, v);
    }
    return n;
}

static void show_entry(const struct lr_json *e)
{
    put(text(lr_json_get(e, "id")), 33);
    put(text(lr_json_get(e, "model")), 26);
    put(text(lr_json_get(e, "tag")), 14);
    struct lr_str tenant = text(lr_json_get(e, "tenant_name"));
    put(tenant.n ? tenant : text(lr_json_get(e, "tenant")), 18);
    printf(" %9.0f s %7llu %10llu\n", (double)num(lr_json_get(e, "age_ms")) / 1e3,
           (unsigned long long)num(lr_json_get(e, "hits")),
           (unsigned long long)num(lr_json_get(e, "bytes")));
}

static void show_list(const struct lr_json *root)
{
    const struct lr_json *list = lr_json_get(root, "entries");
    for (const struct lr_json *e = list ? list->child : NULL; e; e = e->next)
        show_entry(e);
}

/* All pages of a list. */
static int list_entries(const struct daemon *d, const struct lr_buf *select, size_t n)
{
    uint64_t cursor = 0;
    printf("%-33s%-26s%-14s%-18s %11s %7s %10s\n", "entry", "model", "tag", "tenant", "age", "hits",
           "bytes");
    do {
        char path[1200];
        struct answer a;
        int k = snprintf(path, sizeof path, "/larder/v1/entries%.*s%climit=500&cursor=%llu",
                         (int)select->len, select->p ? select->p : "", n ? '&' : '?',
                         (unsigned long long)cursor);
        if (k < 0 || (size_t)k >= sizeof path || ask_json(d, "GET", path, lr_str(NULL, 0), &a))
            return 1;
        show_list(a.root);
        cursor = num(lr_json_get(a.root, "cursor"));
        free_answer(&a);
    } while (cursor);
    return 0;
}

static void show_deleted(const struct lr_json *root)
{
    bool dry = false;
    (void)lr_json_bool(lr_json_get(root, "dry_run"), &dry); /* absent: no */
    printf("%llu entries, %llu bytes %s\n", (unsigned long long)num(lr_json_get(root, "matched")),
           (unsigned long long)num(lr_json_get(root, "bytes")),
           dry ? "would be deleted" : "deleted");
}

static void show_one(const struct lr_json *root)
{
    for (const struct lr_json *v = root->child; v; v = v->next) {
        put(v->key, 14);
        put(v->type == LR_JSON_STRING ? v->text : v->raw, 0);
        putchar('\n');
    }
}

static int act(const struct daemon *d, const char *method, struct lr_buf *path, struct lr_str body,
               void (*show)(const struct lr_json *))
{
    struct answer a;
    lr_buf_addc(path, 0);
    if (path->rc || ask_json(d, method, path->p, body, &a))
        return 1;
    show(a.root);
    free_answer(&a);
    return 0;
}

/* An entry's hex digits, or the id of a request that was answered from it. */
static int report_bad(const struct daemon *d, const char *id)
{
    struct lr_buf body, path;
    lr_buf_init(&body, 1000);
    lr_buf_init(&path, 100);
    bool entry = strspn(id, "0123456789abcdef") == strlen(id);
    lr_buf_addf(&body, "{\"verdict\":\"bad\",\"%s\":", entry ? "entry" : "request_id");
    (void)lr_json_quote(&body, lr_strz(id)); /* the buffer remembers */
    lr_buf_addc(&body, '}');
    lr_buf_addz(&path, "/larder/v1/feedback");
    int status = body.rc ? 1 : act(d, "POST", &path, lr_buf_str(&body), show_deleted);
    lr_buf_free(&path);
    lr_buf_free(&body);
    return status;
}

static int answer_verb(struct lr_cli *cli, const struct daemon *d, const struct lr_buf *select,
                       size_t n, bool dry, struct lr_buf *path)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "", *id = cli->argc > 1 ? cli->argv[1] : NULL;
    struct lr_str none = {NULL, 0};
    int status = 2;
    if (strcmp(verb, "list") == 0 && cli->argc == 1) {
        status = list_entries(d, select, n);
    } else if (strcmp(verb, "get") == 0 && cli->argc == 2 && !n) {
        lr_buf_addz(path, "/larder/v1/entries/");
        add_word(path, id);
        status = act(d, "GET", path, none, show_one);
    } else if (strcmp(verb, "delete") == 0 && cli->argc == 2 && !n && !dry) {
        lr_buf_addz(path, "/larder/v1/entries/");
        add_word(path, id);
        status = act(d, "DELETE", path, none, show_deleted);
    } else if (strcmp(verb, "delete") == 0 && cli->argc == 1 && n) {
        lr_buf_addf(path, "/larder/v1/entries%.*s%s", (int)select->len, select->p,
                    dry ? "&dry_run=true" : "");
        status = act(d, "DELETE", path, none, show_deleted);
    } else if (strcmp(verb, "flush") == 0 && cli->argc == 1 && !n) {
        lr_buf_addf(path, "/larder/v1/flush%s", dry ? "?dry_run=true" : "");
        status = act(d, "POST", path, none, show_deleted);
    } else if (strcmp(verb, "bad") == 0 && cli->argc == 2 && !n) {
        status = report_bad(d, id);
    }
    return status;
}

int lr_cmd_answer(struct lr_cli *cli)
{
    struct daemon d;
    struct lr_buf path, select;
    lr_buf_init(&path, 1000);
    lr_buf_init(&select, 800);
    bool dry = lr_cli_take_flag(cli, "--dry-run");
    size_t n = take_selectors(cli, &select); /* before the options of the table are read */
    int status =
        select.rc || open_daemon(cli, &d) ? 1 : answer_verb(cli, &d, &select, n, dry, &path);
    lr_buf_free(&select);
    lr_buf_free(&path);
    return status == 2
               ? usage("answer list [SELECTORS] | get ID | delete ID|SELECTORS [--dry-run] | "
                       "flush [--dry-run] | bad ID\n"
                       "selectors: --tag T --tenant N --model M --category C --prefix HEX --age 2h")
               : status;
}

/* ---- trace ---- */

int lr_cmd_trace(struct lr_cli *cli)
{
    struct daemon d;
    struct lr_buf out;
    const char *file = lr_cli_take(cli, "--out");
    if (open_daemon(cli, &d))
        return 1;
    if (cli->argc != 1 || strcmp(cli->argv[0], "export") != 0)
        return usage("trace export [--out F]");
    lr_buf_init(&out, ANSWER_MAX);
    int status = ask(&d, "GET", "/larder/v1/trace", lr_str(NULL, 0), &out) ? 1 : 0;
    if (!status)
        status = write_out(file, lr_buf_str(&out));
    lr_buf_free(&out);
    return status;
}
