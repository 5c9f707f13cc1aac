/* SPDX-License-Identifier: Apache-2.0
 * cli/admin.c - the commands that ask a running daemon: stats, top, explain, answer, trace.
 *
 * They ask /larder/v1 (daemon.h) and print. `larder kv` is in kv.c.
 */
#include "cli/daemon.h"

#include <unistd.h>

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

/* The KV store, where there is one: how full, how often found. */
static void show_kv(const struct lr_json *kv)
{
    const struct lr_json *tiers = lr_json_get(kv, "tiers");
    if (!lr_json_is(kv, LR_JSON_OBJECT))
        return;
    printf("kv store      %s%llu objects, hit rate %.1f%% of %llu gets, %llu drops",
           yes(lr_json_get(kv, "ok")) ? "" : "DISK FAILS, ",
           (unsigned long long)num(lr_json_get(kv, "entries")),
           real(lr_json_get(kv, "hit_rate")) * 100, (unsigned long long)num(at(kv, "door", "gets")),
           (unsigned long long)num(lr_json_get(kv, "drops")));
    for (const struct lr_json *t = tiers ? tiers->child : NULL; t; t = t->next) {
        printf(", ");
        put(text(lr_json_get(t, "tier")), 0);
        if (lr_json_get(t, "bytes"))
            printf(" %.0f of %.0f MiB", (double)num(lr_json_get(t, "bytes")) / 1048576,
                   (double)num(lr_json_get(t, "bytes_max")) / 1048576);
        else
            printf(yes(lr_json_get(t, "ok")) ? " ok" : " FAILS");
    }
    putchar('\n');
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
    show_kv(lr_json_get(s, "kv"));
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
    struct lr_daemon d;
    struct lr_reply a;
    bool json = lr_cli_take_flag(cli, "--json");
    if (lr_daemon_open(cli, &d) ||
        lr_daemon_json(&d, "GET", "/larder/v1/stats", lr_str(NULL, 0), &a))
        return 1;
    if (json)
        printf("%.*s\n", (int)a.text.len, a.text.p);
    else
        show_stats(a.root);
    lr_reply_free(&a);
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
static int draw_top(const struct lr_daemon *d, bool terminal)
{
    struct lr_reply s, i, q;
    int rc = 1;
    if (lr_daemon_json(d, "GET", "/larder/v1/stats?minutes=1", lr_str(NULL, 0), &s))
        return 1;
    if (lr_daemon_json(d, "GET", "/larder/v1/instances", lr_str(NULL, 0), &i))
        goto undo_stats;
    if (lr_daemon_json(d, "GET", "/larder/v1/requests?limit=15", lr_str(NULL, 0), &q))
        goto undo_instances;
    if (terminal)
        printf("\033[H\033[2J"); /* home, clear */
    show_stats(s.root);
    show_instances(i.root);
    show_requests(q.root);
    rc = fflush(stdout) ? 1 : 0;
    lr_reply_free(&q);
undo_instances:
    lr_reply_free(&i);
undo_stats:
    lr_reply_free(&s);
    return rc;
}

/* One plain line a second where nobody can redraw. */
static int line_top(const struct lr_daemon *d)
{
    struct lr_reply s;
    if (lr_daemon_json(d, "GET", "/larder/v1/stats?minutes=1", lr_str(NULL, 0), &s))
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
    lr_reply_free(&s);
    return rc;
}

int lr_cmd_top(struct lr_cli *cli)
{
    struct lr_daemon d;
    bool once = lr_cli_take_flag(cli, "--once"), terminal = isatty(STDOUT_FILENO);
    if (lr_daemon_open(cli, &d))
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
    struct lr_daemon d;
    struct lr_reply a;
    struct lr_buf path;
    if (lr_daemon_open(cli, &d))
        return 1;
    if (cli->argc != 1)
        return lr_daemon_usage("explain ID [--against ID2] [--json]");
    lr_buf_init(&path, 1000);
    lr_buf_addz(&path, "/larder/v1/explain/");
    lr_daemon_word(&path, cli->argv[0]);
    if (against) {
        lr_buf_addz(&path, "?against=");
        lr_daemon_word(&path, against);
    }
    lr_buf_addc(&path, 0);
    int rc = path.rc ? path.rc : lr_daemon_json(&d, "GET", path.p, lr_str(NULL, 0), &a);
    lr_buf_free(&path);
    if (rc)
        return 1;
    if (json)
        printf("%.*s\n", (int)a.text.len, a.text.p);
    else
        show_explained(a.root);
    lr_reply_free(&a);
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
        lr_daemon_word(path, v);
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
static int list_entries(const struct lr_daemon *d, const struct lr_buf *select, size_t n)
{
    uint64_t cursor = 0;
    printf("%-33s%-26s%-14s%-18s %11s %7s %10s\n", "entry", "model", "tag", "tenant", "age", "hits",
           "bytes");
    do {
        char path[1200];
        struct lr_reply a;
        int k = snprintf(path, sizeof path, "/larder/v1/entries%.*s%climit=500&cursor=%llu",
                         (int)select->len, select->p ? select->p : "", n ? '&' : '?',
                         (unsigned long long)cursor);
        if (k < 0 || (size_t)k >= sizeof path ||
            lr_daemon_json(d, "GET", path, lr_str(NULL, 0), &a))
            return 1;
        show_list(a.root);
        cursor = num(lr_json_get(a.root, "cursor"));
        lr_reply_free(&a);
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

static int act(const struct lr_daemon *d, const char *method, struct lr_buf *path,
               struct lr_str body, void (*show)(const struct lr_json *))
{
    struct lr_reply a;
    lr_buf_addc(path, 0);
    if (path->rc || lr_daemon_json(d, method, path->p, body, &a))
        return 1;
    show(a.root);
    lr_reply_free(&a);
    return 0;
}

/* An entry's hex digits, or the id of a request that was answered from it. */
static int report_bad(const struct lr_daemon *d, const char *id)
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

static int answer_verb(struct lr_cli *cli, const struct lr_daemon *d, const struct lr_buf *select,
                       size_t n, bool dry, struct lr_buf *path)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "", *id = cli->argc > 1 ? cli->argv[1] : NULL;
    struct lr_str none = {NULL, 0};
    int status = 2;
    if (strcmp(verb, "list") == 0 && cli->argc == 1) {
        status = list_entries(d, select, n);
    } else if (strcmp(verb, "get") == 0 && cli->argc == 2 && !n) {
        lr_buf_addz(path, "/larder/v1/entries/");
        lr_daemon_word(path, id);
        status = act(d, "GET", path, none, show_one);
    } else if (strcmp(verb, "delete") == 0 && cli->argc == 2 && !n && !dry) {
        lr_buf_addz(path, "/larder/v1/entries/");
        lr_daemon_word(path, id);
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
    struct lr_daemon d;
    struct lr_buf path, select;
    lr_buf_init(&path, 1000);
    lr_buf_init(&select, 800);
    bool dry = lr_cli_take_flag(cli, "--dry-run");
    size_t n = take_selectors(cli, &select); /* before the options of the table are read */
    int status =
        select.rc || lr_daemon_open(cli, &d) ? 1 : answer_verb(cli, &d, &select, n, dry, &path);
    lr_buf_free(&select);
    lr_buf_free(&path);
    return status == 2
               ? lr_daemon_usage("answer list [SELECTORS] | get ID | delete ID|SELECTORS [--dry-run] | "
                       "flush [--dry-run] | bad ID\n"
                       "selectors: --tag T --tenant N --model M --category C --prefix HEX --age 2h")
               : status;
}

/* ---- trace ---- */

int lr_cmd_trace(struct lr_cli *cli)
{
    struct lr_daemon d;
    struct lr_buf out;
    const char *file = lr_cli_take(cli, "--out");
    if (lr_daemon_open(cli, &d))
        return 1;
    if (cli->argc != 1 || strcmp(cli->argv[0], "export") != 0)
        return lr_daemon_usage("trace export [--out F]");
    lr_buf_init(&out, LR_REPLY_MAX);
    int status = lr_daemon_ask(&d, "GET", "/larder/v1/trace", lr_str(NULL, 0), &out) ? 1 : 0;
    if (!status)
        status = write_out(file, lr_buf_str(&out));
    lr_buf_free(&out);
    return status;
}
