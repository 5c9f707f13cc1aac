/* SPDX-License-Identifier: Apache-2.0
 * bench/requests.c - writes the requests of a run to standard output, for bench/load.c.
 *
 *   bench_requests --host H:P [--key K] [--entries 10000] [--draws N] [--zipf 1] [--seed 1]
 *                  [--body 600] [--spell same|varied] [--unique 0|1] [--stream 0|1] [--get PATH]
 *
 * Without --draws each entry comes once, in order (to fill a cache); with it, N requests are drawn
 * from the entries with probability proportional to 1 / rank^zipf. The same arguments give the same
 * bytes on every machine: that is what is committed instead of a data file.
 *
 * An entry is a chat request of about --body bytes whose last message begins with the entry's
 * number. `varied` spells each request anew: order of members, white space between tokens, and
 * letters as \u escapes are random, what it says is not. With some 60 places for white space and
 * 500 letters two spellings of one entry do not meet. --unique 1 puts the seed and the number of
 * the draw into the text: no two requests of any two seeds are equal.
 */
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX LR_MIB(8)

struct opts {
    const char *host, *key, *get, *spell;
    uint64_t entries, draws, seed, body, unique, stream;
    double zipf;
};

struct gen {
    struct opts o;
    struct lr_rng rng;
    bool varied;
    double *sums; /* of 1 / rank^zipf, up to and with each entry */
    struct lr_buf body;
};

static void blank(struct gen *g)
{
    static const char *const blanks[] = {"", "", "", " ", "  ", "\n", "\n  ", "\t"};
    if (g->varied)
        lr_buf_addz(&g->body, blanks[lr_rng_below(&g->rng, LR_COUNT(blanks))]);
}

static void token(struct gen *g, const char *text)
{
    lr_buf_addz(&g->body, text);
    blank(g);
}

/* Letters and blanks only: nothing needs an escape, some get one. */
static void text(struct gen *g, struct lr_str s)
{
    lr_buf_addc(&g->body, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (g->varied && lr_rng_below(&g->rng, 64) == 0)
            lr_buf_addf(&g->body, "\\u%04x", (unsigned)(unsigned char)s.p[i]);
        else
            lr_buf_addc(&g->body, s.p[i]);
    }
    lr_buf_addc(&g->body, '"');
    blank(g);
}

static void message(struct gen *g, const char *role, struct lr_str content)
{
    bool swap = g->varied && lr_rng_below(&g->rng, 2);
    token(g, "{");
    for (int i = 0; i < 2; i++) {
        bool is_role = (i == 0) != swap;
        text(g, is_role ? LR_STR("role") : LR_STR("content"));
        token(g, ":");
        text(g, is_role ? lr_strz(role) : content);
        token(g, i ? "}" : ",");
    }
}

/* Words that a generator of its own draws: the same for an entry however it is spelled. */
static void question(const struct gen *g, uint64_t entry, uint64_t draw, struct lr_buf *out)
{
    static const char *const words[] = {"oven",  "kettle", "of",   "larder", "when",   "the",
                                        "bread", "rises",  "with", "butter", "slowly", "and"};
    struct lr_rng rng;
    lr_rng_seed(&rng, entry + 1);
    lr_buf_addf(out, "Question %llu", (unsigned long long)entry);
    if (g->o.unique)
        lr_buf_addf(out, " of draw %llu with seed %llu", (unsigned long long)draw,
                    (unsigned long long)g->o.seed);
    while (!out->rc && out->len + 220 < g->o.body)
        lr_buf_addf(out, " %s", words[lr_rng_below(&rng, LR_COUNT(words))]);
}

static void member(struct gen *g, size_t which, struct lr_str content)
{
    static const char *const names[] = {"model", "messages", "max_tokens", "top_p", "stream"};
    text(g, lr_strz(names[which]));
    token(g, ":");
    if (which == 0) {
        text(g, LR_STR("bench"));
    } else if (which == 1) {
        token(g, "[");
        message(g, "system", LR_STR("You are a careful cook and answer in one paragraph"));
        token(g, ",");
        message(g, "user", content);
        token(g, "]");
    } else {
        token(g, which == 2 ? "500" : which == 3 ? "1" : "true");
    }
}

static void make_body(struct gen *g, uint64_t entry, uint64_t draw)
{
    size_t order[] = {4, 0, 2, 3, 1}; /* the fake upstream looks for "stream" near the start */
    size_t from = g->o.stream ? 0 : 1, n = LR_COUNT(order) - from;
    struct lr_buf content;
    lr_buf_init(&content, BODY_MAX);
    lr_buf_reset(&g->body);
    question(g, entry, draw, &content);
    for (size_t i = n - 1; g->varied && i > 0; i--) {
        size_t j = (size_t)lr_rng_below(&g->rng, i + 1), t = order[from + i];
        order[from + i] = order[from + j];
        order[from + j] = t;
    }
    token(g, "{");
    for (size_t i = 0; i < n; i++) {
        member(g, order[from + i], lr_buf_str(&content));
        token(g, i + 1 < n ? "," : "}");
    }
    if (content.rc && !g->body.rc)
        g->body.rc = content.rc;
    lr_buf_free(&content);
}

static int put(struct gen *g, uint64_t entry, uint64_t draw)
{
    if (g->o.get)
        return printf("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", g->o.get, g->o.host) < 0 ? LR_EIO : 0;
    make_body(g, entry, draw);
    LR_TRY(g->body.rc);
    int k = printf("POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\n"
                   "Content-Type: application/json\r\n%s%s%sContent-Length: %zu\r\n\r\n",
                   g->o.host, g->o.key ? "Authorization: Bearer " : "", g->o.key ? g->o.key : "",
                   g->o.key ? "\r\n" : "", g->body.len);
    return k < 0 || fwrite(g->body.p, 1, g->body.len, stdout) != g->body.len ? LR_EIO : 0;
}

static int prepare(struct gen *g)
{
    double sum = 0;
    g->varied = lr_str_is(lr_strz(g->o.spell), "varied");
    g->sums = lr_calloc((size_t)g->o.entries, sizeof *g->sums);
    LR_FAIL_IF(!g->sums, LR_ENOMEM);
    for (uint64_t i = 0; i < g->o.entries; i++) {
        sum += pow((double)(i + 1), -g->o.zipf);
        g->sums[i] = sum;
    }
    lr_rng_seed(&g->rng, g->o.seed);
    lr_buf_init(&g->body, BODY_MAX);
    return 0;
}

static uint64_t draw(struct gen *g)
{
    double x = lr_rng_unit(&g->rng) * g->sums[g->o.entries - 1];
    uint64_t lo = 0, hi = g->o.entries - 1;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (g->sums[mid] < x)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int parse_args(struct opts *o, int argc, char **argv)
{
    *o = (struct opts){.entries = 10000, .seed = 1, .body = 600, .zipf = 1, .spell = "same"};
    struct {
        const char *name;
        uint64_t *number;
        const char **word;
    } rows[] = {
        {"--entries", &o->entries, NULL}, {"--draws", &o->draws, NULL},
        {"--seed", &o->seed, NULL},       {"--body", &o->body, NULL},
        {"--unique", &o->unique, NULL},   {"--stream", &o->stream, NULL},
        {"--host", NULL, &o->host},       {"--key", NULL, &o->key},
        {"--get", NULL, &o->get},         {"--spell", NULL, &o->spell},
    };
    for (int i = 1; i < argc; i += 2) {
        LR_FAIL_IF(i + 1 == argc, LR_EINVAL);
        struct lr_str v = lr_strz(argv[i + 1]);
        size_t k = 0;
        while (k < LR_COUNT(rows) && strcmp(rows[k].name, argv[i]) != 0)
            k++;
        if (strcmp(argv[i], "--zipf") == 0) {
            LR_TRY(lr_parse_real(v, &o->zipf));
            continue;
        }
        LR_FAIL_IF(k == LR_COUNT(rows), LR_EINVAL);
        if (rows[k].number)
            LR_TRY(lr_parse_u64(v, rows[k].number));
        else
            *rows[k].word = v.p;
    }
    bool sane = o->host && o->entries && o->entries <= 100000000 && o->body <= BODY_MAX / 8;
    return sane ? 0 : LR_EINVAL;
}

int main(int argc, char **argv)
{
    static struct gen g;
    if (parse_args(&g.o, argc, argv)) {
        fprintf(stderr, "usage: bench_requests --host H:P [--key K] [--entries N] [--draws N]\n"
                        "   [--zipf S] [--seed N] [--body BYTES] [--spell same|varied]\n"
                        "   [--unique 0|1] [--stream 0|1] [--get PATH]\n");
        return 2;
    }
    int rc = prepare(&g);
    uint64_t n = g.o.draws ? g.o.draws : g.o.entries;
    for (uint64_t i = 0; !rc && i < n; i++)
        rc = put(&g, g.o.draws ? draw(&g) : i, i);
    if (!rc && fflush(stdout))
        rc = LR_EIO;
    if (rc)
        fprintf(stderr, "bench_requests: %s\n", lr_strerror(rc));
    lr_buf_free(&g.body);
    lr_free(g.sums);
    return rc ? 1 : 0;
}
