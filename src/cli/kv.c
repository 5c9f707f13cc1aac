/* SPDX-License-Identifier: Apache-2.0
 * cli/kv.c - larder kv: the KV store of a running daemon (docs/kv.md).
 *
 * Each subcommand is one call of /larder/v1/kv: words and flags become its JSON body, its answer a table;
 * with --json the answer is printed as it came. Exit status: 0; 1: the daemon refused, or (health) is not
 * well, or (doctor) something was found; 2: usage.
 */
#include "cli/daemon.h"

#define BODY_MAX LR_MIB(16)

static const char words[] =
    "kv lookup KEY... | prefix KEY... | prefix --tokens FILE --model M [--block N] [--rank R] [--group G] "
    "[--salt S]\n"
    "       larder kv pin KEY... [--ttl 2h] | unpin KEY... | move memory|disk|out KEY...\n"
    "       larder kv clear [--tenant T] [--namespace N] [--model M] | --all  [--dry-run]\n"
    "       larder kv epoch bump NAMESPACE | quota [TENANT BYTES] | health | doctor\n"
    "--tenant T --namespace N say whose keys are meant, --ids that they are ids; --json prints the answer";

/* ---- bodies ---- */

/* Flags that become members of the body; tokens is a file's name. */
enum flag { TENANT, NAMESPACE, MODEL, TTL, TOKENS, BLOCK, RANK, GROUP, SALT, FLAGS };
static const char *const names[FLAGS] = {"tenant", "namespace", "model", "ttl",  "tokens",
                                         "block",  "rank",      "group", "salt"};

struct query {
    struct lr_cli *cli;
    struct lr_daemon daemon;
    struct lr_buf body;
    struct lr_jw w;
    const char *flag[FLAGS]; /* NULL: not given */
    bool json, ids, all, dry;
};

static void add_text(struct query *q, const char *name, const char *value)
{
    if (!value)
        return;
    lr_jw_key(&q->w, name);
    lr_jw_strz(&q->w, value);
}

static void begin(struct query *q)
{
    lr_jw_init(&q->w, &q->body);
    lr_jw_obj(&q->w);
    for (size_t i = 0; i < FLAGS; i++)
        if (i != TOKENS && i != BLOCK)
            add_text(q, names[i], q->flag[i]);
}

/* The words from `first` on. */
static void add_keys(struct query *q, int first)
{
    lr_jw_key(&q->w, q->ids ? "ids" : "keys");
    lr_jw_arr(&q->w);
    for (int i = first; i < q->cli->argc; i++)
        lr_jw_strz(&q->w, q->cli->argv[i]);
    lr_jw_end(&q->w);
}

/* Asks, and shows the answer; status of show, or 1. */
static int act(struct query *q, const char *method, const char *verb, int (*show)(const struct lr_json *))
{
    struct lr_reply a;
    char path[64];
    if (q->w.b)
        lr_jw_end(&q->w);
    if (q->body.rc)
        return lr_cli_fail("the question", &(struct lr_err){.code = q->body.rc});
    int k = snprintf(path, sizeof path, "/larder/v1/kv/%s", verb);
    if (k < 0 || lr_daemon_json(&q->daemon, method, path, lr_buf_str(&q->body), &a))
        return 1;
    int status = 0;
    if (q->json)
        printf("%.*s\n", (int)a.text.len, a.text.p);
    else
        status = show(a.root);
    lr_reply_free(&a);
    return status;
}

/* ---- answers ---- */

static const char *bytes(char out[24], uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    for (; v >= 1024 && u + 1 < LR_COUNT(units); u++)
        v /= 1024;
    if (snprintf(out, 24, u ? "%.1f %s" : "%.0f %s", v, units[u]) < 0)
        *out = 0;
    return out;
}

static const char *span(char out[24], const struct lr_json *ms)
{
    double s = (double)num(ms) / 1e3;
    if (!lr_json_is(ms, LR_JSON_NUMBER) || snprintf(out, 24, s < 600 ? "%.1f s" : "%.0f s", s) < 0)
        return "-";
    return out;
}

static int show_objects(const struct lr_json *root)
{
    const struct lr_json *list = lr_json_get(root, "objects");
    char a[24], b[24], c[24], d[24];
    printf("%-13s %11s %10s %10s %10s  %s\n", "where", "bytes", "age", "ttl", "pinned", "key");
    for (const struct lr_json *o = list ? list->child : NULL; o; o = o->next) {
        const struct lr_json *where = lr_json_get(o, "where");
        struct lr_str key = text(lr_json_get(o, "key"));
        char places[32] = "";
        size_t n = 0;
        for (const struct lr_json *p = where ? where->child : NULL; p && n < sizeof places; p = p->next) {
            int k = snprintf(places + n, sizeof places - n, "%s%.*s", n ? "+" : "", LR_FMT(text(p)));
            n += k > 0 ? (size_t)k : 0;
        }
        bool here = yes(lr_json_get(o, "found")), pinned = yes(lr_json_get(o, "pinned"));
        printf("%-13s %11s %10s %10s %10s  ", here ? places : "absent",
               here ? bytes(a, num(lr_json_get(o, "bytes"))) : "-", span(b, lr_json_get(o, "age_ms")),
               span(c, lr_json_get(o, "ttl_ms")),
               !pinned ? "-" : lr_json_is(lr_json_get(o, "pin_ms"), LR_JSON_NUMBER)
                                   ? span(d, lr_json_get(o, "pin_ms"))
                                   : "for ever");
        put(key.n ? key : text(lr_json_get(o, "id")), 0);
        putchar('\n');
    }
    return 0;
}

/* What has no table: a member a line. */
static int show_members(const struct lr_json *root)
{
    for (const struct lr_json *v = root->child; v; v = v->next) {
        put(v->key, 14);
        put(v->type == LR_JSON_STRING ? v->text : v->raw, 0);
        putchar('\n');
    }
    return 0;
}

static int show_quotas(const struct lr_json *root)
{
    const struct lr_json *list = lr_json_get(root, "quotas");
    char a[24], b[24];
    printf("%-18s%-24s %12s %12s\n", "tenant", "name", "stored", "quota");
    for (const struct lr_json *t = list ? list->child : NULL; t; t = t->next) {
        uint64_t max = num(lr_json_get(t, "bytes_max"));
        put(text(lr_json_get(t, "tenant")), 18);
        put(text(lr_json_get(t, "tenant_name")), 24);
        printf(" %12s %12s\n", bytes(a, num(lr_json_get(t, "bytes"))), max ? bytes(b, max) : "-");
    }
    return 0;
}

static int show_health(const struct lr_json *root)
{
    const struct lr_json *tiers = lr_json_get(root, "tiers"), *counts = lr_json_get(root, "counts");
    bool ok = yes(lr_json_get(root, "ok"));
    char a[24], b[24], c[24];
    printf("%s: %llu objects, hit rate %.1f%%, %llu drops, %llu errors, %llu connections\n",
           ok ? "well" : "NOT WELL", (unsigned long long)num(lr_json_get(root, "entries")),
           real(lr_json_get(root, "hit_rate")) * 100, (unsigned long long)num(lr_json_get(root, "drops")),
           (unsigned long long)num(lr_json_get(root, "errors")),
           (unsigned long long)num(at(root, "door", "connections")));
    for (const struct lr_json *t = tiers ? tiers->child : NULL; t; t = t->next) {
        put(text(lr_json_get(t, "tier")), 8);
        printf(" %-6s", yes(lr_json_get(t, "ok")) ? "ok" : "FAILS");
        if (lr_json_get(t, "bytes"))
            printf(" %11s of %11s", bytes(a, num(lr_json_get(t, "bytes"))),
                   bytes(b, num(lr_json_get(t, "bytes_max"))));
        if (lr_json_get(t, "pinned"))
            printf(", %s pinned", bytes(c, num(lr_json_get(t, "pinned"))));
        if (lr_json_get(t, "queue_bytes"))
            printf(", %s waiting", bytes(c, num(lr_json_get(t, "queue_bytes"))));
        putchar('\n');
    }
    printf("start    %llu objects from %s in %.0f ms, %llu places skipped\n",
           (unsigned long long)num(at(root, "recovery", "objects")),
           bytes(a, num(at(root, "recovery", "bytes"))), real(at(root, "recovery", "ms")),
           (unsigned long long)num(at(root, "recovery", "skipped")));
    for (const struct lr_json *v = counts ? counts->child : NULL; v; v = v->next)
        if (num(v)) {
            printf("  ");
            put(v->key, 20);
            printf("%llu\n", (unsigned long long)num(v));
        }
    return ok ? 0 : 1;
}

static void show_row(const struct lr_json *r)
{
    char chunk[32] = "-", size[24];
    uint64_t tokens = num(lr_json_get(r, "chunk_tokens")), asked = num(lr_json_get(r, "gets"));
    struct lr_str name = text(lr_json_get(r, "name"));
    if (tokens)
        (void)snprintf(chunk, sizeof chunk, "%llu tokens", (unsigned long long)tokens); /* fits */
    else if (num(lr_json_get(r, "chunk_bytes")))
        (void)snprintf(chunk, sizeof chunk, "%s", bytes(size, num(lr_json_get(r, "chunk_bytes"))));
    printf("%4llu  ", (unsigned long long)num(lr_json_get(r, "client")));
    put(name.n ? name : text(lr_json_get(r, "address")), 20);
    put(text(lr_json_get(r, "model")), 30);
    printf("%4llu/%-4llu", (unsigned long long)num(lr_json_get(r, "rank")),
           (unsigned long long)num(lr_json_get(r, "world")));
    put(text(lr_json_get(r, "dtype")), 11);
    printf("%12s %8llu %8llu %8llu\n", chunk, (unsigned long long)num(lr_json_get(r, "sets")),
           (unsigned long long)(asked + num(lr_json_get(r, "asks"))),
           (unsigned long long)(num(lr_json_get(r, "hits")) + num(lr_json_get(r, "there"))));
}

static int show_doctor(const struct lr_json *root)
{
    const struct lr_json *rows = lr_json_get(root, "rows"), *found = lr_json_get(root, "findings");
    if (!rows || !rows->child) {
        printf("no key of LMCache's has come yet\n");
        return 0;
    }
    printf("%-6s%-20s%-30s%9s%-11s%12s %8s %8s %8s\n", "client", "who", "model", "rank/of ", "dtype", "chunk",
           "sets", "asked", "found");
    for (const struct lr_json *r = rows->child; r; r = r->next)
        show_row(r);
    for (const struct lr_json *f = found ? found->child : NULL; f; f = f->next) {
        uint64_t pairs = num(lr_json_get(f, "pairs"));
        printf("\n%s: ", yes(lr_json_get(f, "sure")) ? "SURE" : "LIKELY");
        put(text(lr_json_get(f, "model")), 0);
        printf(": ");
        put(text(lr_json_get(f, "says")), 0);
        if (pairs > 1)
            printf(" (and %llu more such pairs)", (unsigned long long)(pairs - 1));
        printf("\n  %.*s\n", LR_FMT(text(lr_json_get(f, "fix"))));
    }
    if (found && found->child)
        return 1;
    printf("nothing found: clients of one model share, or have not sent enough yet\n");
    return 0;
}

/* ---- subcommands ---- */

static int keys_only(struct query *q, const char *verb, int (*show)(const struct lr_json *))
{
    if (q->cli->argc < 2)
        return 2;
    begin(q);
    add_keys(q, 1);
    return act(q, "POST", verb, show);
}

static int run_lookup(struct query *q)
{
    return keys_only(q, "lookup", show_objects);
}

static int run_pin(struct query *q)
{
    return keys_only(q, "pin", show_members);
}

static int run_unpin(struct query *q)
{
    return keys_only(q, "unpin", show_members);
}

/* Token ids in a file, between anything that is no digit. */
static int add_tokens(struct query *q, const char *path)
{
    struct lr_buf b;
    lr_buf_init(&b, BODY_MAX);
    int rc = lr_io_read_file(path, &b);
    lr_jw_key(&q->w, "tokens");
    lr_jw_arr(&q->w);
    for (size_t i = 0; i < b.len && !rc;) {
        size_t n = 0;
        uint64_t v;
        while (i + n < b.len && b.p[i + n] >= '0' && b.p[i + n] <= '9')
            n++;
        if (n && !(rc = lr_parse_u64(lr_str(b.p + i, n), &v)))
            lr_jw_u64(&q->w, v);
        i += n ? n : 1;
    }
    lr_jw_end(&q->w);
    lr_buf_free(&b);
    return rc ? lr_cli_fail(path, &(struct lr_err){.code = rc}) : 0;
}

static int run_prefix(struct query *q)
{
    uint64_t block;
    if (!q->flag[TOKENS])
        return q->flag[MODEL] || q->flag[BLOCK] ? 2 : keys_only(q, "prefix", show_members);
    if (q->cli->argc != 1 || !q->flag[MODEL])
        return 2;
    begin(q);
    if (q->flag[BLOCK]) {
        if (lr_parse_u64(lr_strz(q->flag[BLOCK]), &block))
            return 2;
        lr_jw_key(&q->w, "block");
        lr_jw_u64(&q->w, block);
    }
    return add_tokens(q, q->flag[TOKENS]) ? 1 : act(q, "POST", "prefix", show_members);
}

static int run_move(struct query *q)
{
    if (q->cli->argc < 3)
        return 2;
    begin(q);
    add_text(q, "to", q->cli->argv[1]);
    add_keys(q, 2);
    return act(q, "POST", "move", show_members);
}

static int run_clear(struct query *q)
{
    if (q->cli->argc != 1)
        return 2;
    begin(q);
    lr_jw_key(&q->w, "all");
    lr_jw_bool(&q->w, q->all);
    lr_jw_key(&q->w, "dry_run");
    lr_jw_bool(&q->w, q->dry);
    return act(q, "POST", "clear", show_members);
}

static int run_epoch(struct query *q)
{
    if (q->cli->argc != 3 || strcmp(q->cli->argv[1], "bump") != 0)
        return 2;
    q->flag[NAMESPACE] = q->cli->argv[2];
    begin(q);
    return act(q, "POST", "epoch", show_members);
}

static int run_quota(struct query *q)
{
    if (q->cli->argc == 1)
        return act(q, "GET", "quota", show_quotas);
    if (q->cli->argc != 3)
        return 2;
    q->flag[TENANT] = q->cli->argv[1];
    begin(q);
    add_text(q, "bytes", q->cli->argv[2]);
    return act(q, "PUT", "quota", show_members);
}

static int run_health(struct query *q)
{
    return q->cli->argc == 1 ? act(q, "GET", "health", show_health) : 2;
}

static int run_doctor(struct query *q)
{
    return q->cli->argc == 1 ? act(q, "GET", "doctor", show_doctor) : 2;
}

#define WHICH (1u << TENANT | 1u << NAMESPACE)
#define CHAIN (1u << MODEL | 1u << TOKENS | 1u << BLOCK | 1u << RANK | 1u << GROUP | 1u << SALT)

static const struct {
    const char *name;
    int (*run)(struct query *);
    unsigned flags; /* bits of enum flag that it knows */
    bool ids, wipes; /* knows --ids; knows --all and --dry-run */
} verbs[] = {
    {"lookup", run_lookup, WHICH, true, false},
    {"prefix", run_prefix, WHICH | CHAIN, true, false},
    {"pin", run_pin, WHICH | 1u << TTL, true, false},
    {"unpin", run_unpin, WHICH, true, false},
    {"move", run_move, WHICH, true, false},
    {"clear", run_clear, WHICH | 1u << MODEL, false, true},
    {"epoch", run_epoch, 1u << TENANT, false, false},
    {"quota", run_quota, 0, false, false},
    {"health", run_health, 0, false, false},
    {"doctor", run_doctor, 0, false, false},
};

/* 2: the words make no sense. */
static int run_verb(struct query *q, unsigned given)
{
    const char *verb = q->cli->argc > 0 ? q->cli->argv[0] : "";
    for (size_t i = 0; i < LR_COUNT(verbs); i++)
        if (!strcmp(verb, verbs[i].name))
            return given & ~verbs[i].flags || (q->ids && !verbs[i].ids) ||
                           ((q->all || q->dry) && !verbs[i].wipes)
                       ? 2
                       : verbs[i].run(q);
    return 2;
}

int lr_cmd_kv(struct lr_cli *cli)
{
    struct query q = {.cli = cli};
    unsigned given = 0;
    char flag[16];
    for (size_t i = 0; i < FLAGS; i++) { /* before the options of the table are read: model is one */
        int k = snprintf(flag, sizeof flag, "--%s", names[i]);
        q.flag[i] = k > 0 ? lr_cli_take(cli, flag) : NULL;
        given |= q.flag[i] ? 1u << i : 0;
    }
    q.json = lr_cli_take_flag(cli, "--json");
    q.ids = lr_cli_take_flag(cli, "--ids");
    q.all = lr_cli_take_flag(cli, "--all");
    q.dry = lr_cli_take_flag(cli, "--dry-run");
    if (lr_daemon_open(cli, &q.daemon))
        return 1;
    lr_buf_init(&q.body, BODY_MAX);
    int status = run_verb(&q, given);
    lr_buf_free(&q.body);
    return status == 2 ? lr_daemon_usage(words) : status;
}
