/* SPDX-License-Identifier: Apache-2.0
 * serve/resp_say.c - commands about the connection and the server: what clients send before they ask
 * for data, and what tools show.
 *
 * Answers are those that redis-cli, redis-benchmark, hiredis, redis-py and LMCache look at. What is
 * asked of a Redis that we are not (CONFIG SET, replication, scripts) is refused; CONFIG GET names
 * the few parameters that tools read.
 */
#include "serve/resp_int.h"

#include <fnmatch.h>
#include <stdio.h>
#include <unistd.h>

#define VERSION "7.4.0" /* of Redis, whose commands these are: clients look for at least 6 */

static enum lr_resp_go ok(struct lr_resp_conn *c)
{
    lr_resp_put(c, LR_STR("+OK\r\n"));
    return LR_RESP_DONE;
}

static struct lr_str word(const struct lr_resp_conn *c, size_t i)
{
    return i < c->in.n ? lr_resp_arg(&c->in, i) : lr_str("", 0);
}

/* ---- who ---- */

static enum lr_resp_go wrong_password(struct lr_resp_conn *c)
{
    lr_resp_put(c, LR_STR("-WRONGPASS invalid username-password pair or user is disabled.\r\n"));
    c->ending = true;
    return LR_RESP_DONE;
}

/* "default" is the name that clients send for none. */
static bool login(struct lr_resp_conn *c, struct lr_str user, struct lr_str password)
{
    return lr_resp_login(c, lr_str_is(user, "default") ? LR_STR("") : user, password);
}

enum lr_resp_go lr_resp_auth(struct lr_resp_conn *c)
{
    if (c->in.n > 3)
        return lr_resp_refuse(c, "syntax error");
    bool named = c->in.n == 3;
    return login(c, named ? word(c, 1) : LR_STR(""), word(c, named ? 2 : 1)) ? ok(c)
                                                                            : wrong_password(c);
}

static void set_word(char *out, size_t cap, struct lr_str s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(s.p[i] > ' ' && s.p[i] < 127 ? s.p[i] : '_');
    out[n] = 0;
}

static void set_name(struct lr_resp_conn *c, struct lr_str s)
{
    set_word(c->name, sizeof c->name, s);
}

enum lr_resp_go lr_resp_hello(struct lr_resp_conn *c)
{
    uint64_t proto = c->proto;
    size_t i = 2;
    if (c->in.n > 1 && (lr_parse_u64(word(c, 1), &proto) || proto < 2 || proto > 3)) {
        lr_resp_put(c, LR_STR("-NOPROTO unsupported protocol version\r\n"));
        return LR_RESP_DONE;
    }
    while (i < c->in.n) {
        if (lr_str_ieq(word(c, i), LR_STR("AUTH")) && i + 2 < c->in.n) {
            if (!login(c, word(c, i + 1), word(c, i + 2)))
                return wrong_password(c);
            i += 3;
        } else if (lr_str_ieq(word(c, i), LR_STR("SETNAME")) && i + 1 < c->in.n) {
            set_name(c, word(c, i + 1));
            i += 2;
        } else {
            return lr_resp_refuse(c, "syntax error in HELLO");
        }
    }
    if (!c->known) {
        lr_resp_put(c, LR_STR("-NOAUTH HELLO must be called with the client already authenticated, "
                              "otherwise the HELLO <proto> AUTH <user> <pass> option can be used\r\n"));
        return LR_RESP_DONE;
    }
    c->proto = (unsigned)proto;
    lr_resp_map(c, 7);
    lr_resp_put(c, LR_STR("$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n"));
    lr_resp_bulk(c, lr_strz(VERSION));
    lr_resp_putf(c, "$5\r\nproto\r\n:%u\r\n$2\r\nid\r\n:%llu\r\n", c->proto,
                 (unsigned long long)c->id);
    lr_resp_put(c, LR_STR("$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
                          "$7\r\nmodules\r\n*0\r\n"));
    return LR_RESP_DONE;
}

enum lr_resp_go lr_resp_select(struct lr_resp_conn *c)
{
    uint64_t db;
    if (lr_parse_u64(word(c, 1), &db) || db >= LR_RESP_DBS)
        return lr_resp_refuse(c, "DB index is out of range");
    c->db = (unsigned)db;
    lr_resp_settle(c);
    return ok(c);
}

enum lr_resp_go lr_resp_quit(struct lr_resp_conn *c)
{
    lr_resp_put(c, LR_STR("+OK\r\n"));
    c->ending = true;
    return LR_RESP_DONE;
}

enum lr_resp_go lr_resp_reset(struct lr_resp_conn *c)
{
    const struct lr_resp_opts *o = lr_resp_options(c);
    c->proto = 2;
    c->db = 0;
    c->name[0] = c->user[0] = 0;
    c->known = false;
    c->in.args_max = LR_RESP_ARGS_STRANGER;
    c->in.arg_max = LR_RESP_BIG - 1;
    lr_resp_settle(c);
    if (!o->auth && !lr_resp_login(c, LR_STR(""), LR_STR("")))
        c->ending = true;
    lr_resp_put(c, LR_STR("+RESET\r\n"));
    return LR_RESP_DONE;
}

static void describe_client(const struct lr_resp_conn *c, char *out, size_t cap)
{
    int n = snprintf(out, cap, "id=%llu fd=%d name=%s db=%u user=%s resp=%u lib-name=%s lib-ver=\n",
                     (unsigned long long)c->id, c->fd, c->name, c->db,
                     *c->user ? c->user : "default", c->proto, c->library);
    if (n < 0 || (size_t)n >= cap)
        *out = 0;
}

enum lr_resp_go lr_resp_client(struct lr_resp_conn *c)
{
    struct lr_str what = word(c, 1);
    char text[512];
    if (lr_str_ieq(what, LR_STR("SETNAME")) && c->in.n == 3) {
        set_name(c, word(c, 2));
        return ok(c);
    }
    if (lr_str_ieq(what, LR_STR("SETINFO")) && lr_str_ieq(word(c, 2), LR_STR("LIB-NAME")))
        set_word(c->library, sizeof c->library, word(c, 3));
    if (lr_str_ieq(what, LR_STR("SETINFO")) || lr_str_ieq(what, LR_STR("NO-EVICT")) ||
        lr_str_ieq(what, LR_STR("NO-TOUCH")))
        return ok(c);
    if (lr_str_ieq(what, LR_STR("GETNAME"))) {
        lr_resp_bulk(c, lr_strz(c->name));
    } else if (lr_str_ieq(what, LR_STR("ID"))) {
        lr_resp_putf(c, ":%llu\r\n", (unsigned long long)c->id);
    } else if (lr_str_ieq(what, LR_STR("INFO")) || lr_str_ieq(what, LR_STR("LIST"))) {
        describe_client(c, text, sizeof text); /* this one: others are none of its business */
        lr_resp_bulk(c, lr_strz(text));
    } else {
        return lr_resp_refuse(c, "unknown subcommand of 'client'");
    }
    return LR_RESP_DONE;
}

/* ---- small talk ---- */

enum lr_resp_go lr_resp_ping(struct lr_resp_conn *c)
{
    if (c->in.n > 2)
        return lr_resp_refuse(c, "wrong number of arguments for 'ping' command");
    if (c->in.n == 2)
        lr_resp_bulk(c, word(c, 1));
    else
        lr_resp_put(c, LR_STR("+PONG\r\n"));
    return LR_RESP_DONE;
}

enum lr_resp_go lr_resp_echo(struct lr_resp_conn *c)
{
    lr_resp_bulk(c, word(c, 1));
    return LR_RESP_DONE;
}

enum lr_resp_go lr_resp_time(struct lr_resp_conn *c)
{
    char s[24], us[24];
    uint64_t ms = lr_clock_wall_ms();
    int a = snprintf(s, sizeof s, "%llu", (unsigned long long)(ms / 1000));
    int b = snprintf(us, sizeof us, "%llu", (unsigned long long)(ms % 1000 * 1000));
    lr_resp_put(c, LR_STR("*2\r\n"));
    lr_resp_bulk(c, lr_str(s, a > 0 ? (size_t)a : 0));
    lr_resp_bulk(c, lr_str(us, b > 0 ? (size_t)b : 0));
    return LR_RESP_DONE;
}

/* ---- the server ---- */

static void describe_row(struct lr_resp_conn *c, const struct lr_resp_command *k)
{
    char lower[16];
    size_t n = strlen(k->name);
    for (size_t i = 0; i <= n; i++)
        lower[i] = (char)(k->name[i] >= 'A' && k->name[i] <= 'Z' ? k->name[i] - 'A' + 'a' : k->name[i]);
    lr_resp_put(c, LR_STR("*6\r\n"));
    lr_resp_bulk(c, lr_str(lower, n));
    lr_resp_putf(c, ":%d\r\n*0\r\n:%d\r\n:%d\r\n:%d\r\n", k->arity, k->first, k->last, k->every);
}

enum lr_resp_go lr_resp_describe(struct lr_resp_conn *c)
{
    size_t n;
    const struct lr_resp_command *k = lr_resp_commands(&n);
    struct lr_str what = word(c, 1);
    if (lr_str_ieq(what, LR_STR("COUNT"))) {
        lr_resp_putf(c, ":%zu\r\n", n);
    } else if (lr_str_ieq(what, LR_STR("DOCS"))) {
        lr_resp_map(c, 0);
    } else if (lr_str_ieq(what, LR_STR("INFO")) && c->in.n > 2) {
        lr_resp_putf(c, "*%zu\r\n", c->in.n - 2);
        for (size_t i = 2; i < c->in.n; i++) {
            size_t at = 0;
            while (at < n && !lr_str_ieq(lr_strz(k[at].name), word(c, i)))
                at++;
            if (at < n)
                describe_row(c, &k[at]);
            else
                lr_resp_nil(c);
        }
    } else if (c->in.n == 1 || lr_str_ieq(what, LR_STR("INFO"))) {
        lr_resp_putf(c, "*%zu\r\n", n);
        for (size_t i = 0; i < n; i++)
            describe_row(c, &k[i]);
    } else {
        return lr_resp_refuse(c, "unknown subcommand of 'command'");
    }
    return LR_RESP_DONE;
}

enum lr_resp_go lr_resp_config(struct lr_resp_conn *c)
{
    struct lr_store_stats st;
    char memory[24], databases[8];
    const char *const rows[][2] = {{"maxmemory", memory},  {"maxmemory-policy", "allkeys-lru"},
                                   {"save", ""},           {"appendonly", "no"},
                                   {"databases", databases}, {"timeout", "0"}};
    char match[64];
    struct lr_str what = word(c, 1);
    if (lr_str_ieq(what, LR_STR("RESETSTAT")))
        return ok(c);
    if (!lr_str_ieq(what, LR_STR("GET")) || c->in.n < 3)
        return lr_resp_refuse(c, "this server is configured by its own options (larder serve --help)");
    lr_store_stats(lr_resp_store(c), &st);
    int a = snprintf(memory, sizeof memory, "%llu", (unsigned long long)st.mem_max);
    int b = snprintf(databases, sizeof databases, "%u", LR_RESP_DBS);
    bool found[LR_COUNT(rows)] = {0};
    size_t n = 0;
    for (size_t i = 2; i < c->in.n && a > 0 && b > 0; i++) {
        struct lr_str m = word(c, i);
        if (m.n >= sizeof match)
            continue;
        memcpy(match, m.p, m.n);
        match[m.n] = 0;
        for (size_t k = 0; k < LR_COUNT(rows); k++)
            if (!found[k] && !fnmatch(match, rows[k][0], FNM_CASEFOLD))
                found[k] = ++n;
    }
    lr_resp_map(c, n);
    for (size_t k = 0; k < LR_COUNT(rows); k++)
        if (found[k]) {
            lr_resp_bulk(c, lr_strz(rows[k][0]));
            lr_resp_bulk(c, lr_strz(rows[k][1]));
        }
    return LR_RESP_DONE;
}

static void info_store(const struct lr_store_stats *st, struct lr_buf *b)
{
    lr_buf_addf(b,
                "# Memory\r\nused_memory:%llu\r\nmaxmemory:%llu\r\nmaxmemory_policy:allkeys-lru\r\n"
                "pinned_memory:%llu\r\n\r\n",
                (unsigned long long)st->mem_bytes, (unsigned long long)st->mem_max,
                (unsigned long long)st->mem_pinned);
    lr_buf_addf(b, "# Persistence\r\nloading:0\r\ndisk_bytes:%llu\r\ndisk_max:%llu\r\ndisk_live:%llu\r\n"
                   "disk_ok:%d\r\nsegments:%u\r\n\r\n",
                (unsigned long long)st->disk_bytes, (unsigned long long)st->disk_max,
                (unsigned long long)st->disk_live, st->disk_max && st->disk_ok, st->segments);
    lr_buf_addz(b, "# Store\r\n");
    for (int i = 0; i < LR_STORE_COUNT; i++) {
        const char *name = lr_store_count_name((enum lr_store_count)i);
        for (; *name; name++)
            lr_buf_addc(b, (char)(*name >= 'A' && *name <= 'Z' ? *name - 'A' + 'a' : *name));
        lr_buf_addf(b, ":%llu\r\n", (unsigned long long)st->count[i]);
    }
    lr_buf_addz(b, "\r\n");
}

enum lr_resp_go lr_resp_info(struct lr_resp_conn *c)
{
    struct lr_resp_stats d;
    struct lr_store_stats st;
    struct lr_buf b;
    lr_resp_stats_of(c, &d);
    lr_store_stats(lr_resp_store(c), &st);
    lr_buf_init(&b, LR_KIB(64));
    lr_buf_addf(&b,
                "# Server\r\nredis_version:" VERSION "\r\nredis_mode:standalone\r\nserver_name:larder\r\n"
                "larder_version:" LR_VERSION "\r\nprocess_id:%ld\r\n\r\n",
                (long)getpid());
    lr_buf_addf(&b, "# Clients\r\nconnected_clients:%llu\r\n\r\n", (unsigned long long)d.connections);
    info_store(&st, &b);
    lr_buf_addf(&b,
                "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
                "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\nkeyspace_hits:%llu\r\n"
                "keyspace_misses:%llu\r\ndropped_sets:%llu\r\nprotocol_errors:%llu\r\n"
                "denied:%llu\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n",
                (unsigned long long)d.accepted, (unsigned long long)d.commands,
                (unsigned long long)d.bytes_in, (unsigned long long)d.bytes_out,
                (unsigned long long)d.hits, (unsigned long long)(d.gets - d.hits),
                (unsigned long long)d.dropped, (unsigned long long)d.faults,
                (unsigned long long)d.denied);
    lr_resp_bulk(c, lr_buf_str(&b));
    c->ending = c->ending || b.rc;
    lr_buf_free(&b);
    return LR_RESP_DONE;
}
