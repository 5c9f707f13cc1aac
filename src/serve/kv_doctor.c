/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_doctor.c - why clients of one model share nothing.
 *
 * Two rows (kv_watch.h) of one model ought to share, unless they hold different ranks of one world. Do
 * they? Their samples of hashes say:
 *
 *   hashes meet, all else is equal     they share: nothing to say
 *   hashes meet, something else is not the same chunks lie here twice, kept apart by that: sure
 *   hashes do not meet, all is equal   chunks of other lengths, another algorithm, or another seed, in
 *                                      this order: likely, for they may just have had other prompts
 *   hashes do not meet, and more       the first difference that a deployment would not want: likely
 *
 * "Do not meet" is said only when both samples have FILLED hashes to compare. Tenant and namespace keep
 * apart by intent: they are told only when the same chunks were seen on both sides.
 *
 * Rows become clients first: those of one burst of one peer (the ranks of an engine), and those that
 * agree in everything and whose samples meet (connections of a pool that grew later). What remains
 * apart, equal in all and yet without a common hash, is the signature of an unstable hash: Python's
 * hash() of None or of strings is salted by PYTHONHASHSEED, and vLLM's first link is random without it.
 *
 * Pure: rows in, findings out. At most LR_KV_ROWS^2 / 2 pairs of four samples each: some 20 ms.
 */
#include "serve/kv_watch.h"

#include <stdio.h>
#include <stdlib.h>

#define FILLED  16u /* hashes on both sides before "nothing in common" is said */
#define UNEVEN  4u  /* halves of pairs that may lack the other one: on their way, or evicted */
#define SURE_OF 3u  /* values of one size, beyond those of others, before it is the size of a chunk */

static const struct {
    const char *name, *fix;
} reasons[] = {
    [LR_KV_TENANT] = {"tenant", "log in with one client key (password): each is a tenant of its own"},
    [LR_KV_NAMESPACE] = {"namespace", "use one user name and one database (the /N of a redis:// URL)"},
    [LR_KV_FORM] = {"key-form", "run LMCache in one mode: multi-process, in-process or layer by layer "
                                "(use_layerwise), but the same everywhere"},
    [LR_KV_WORLD] = {"world-size", "use one --tensor-parallel-size: a model cut otherwise is other data"},
    [LR_KV_DTYPE] = {"dtype", "use one type of KV: the same --dtype and --kv-cache-dtype of vLLM"},
    [LR_KV_TAG] = {"tag", "send the same lmcache.tag.* (in-process) or cache_salt (multi-process)"},
    [LR_KV_CHUNK] = {"chunk-size", "set one chunk_size (LMCACHE_CHUNK_SIZE; 256 is usual)"},
    [LR_KV_HASH] = {"hash-algorithm", "set one pre_caching_hash_algorithm (sha256_cbor, say)"},
    [LR_KV_SEED] = {"hash-seed", "set PYTHONHASHSEED=0 in the environment of every engine, and "
                                 "pre_caching_hash_algorithm: sha256_cbor; or use LMCache's "
                                 "multi-process mode, whose hashes need neither"},
    [LR_KV_HALVES] = {"half-pairs", "both halves of a pair (kv_bytes, metadata) must come: the same "
                                    "remote_ttl for both, and kv.memory of more than twice a chunk"},
    [LR_KV_DROPPED] = {"dropped", "raise kv.memory (a value may take half of it at most) or the quota of "
                                  "the tenant, or pin less"},
};
_Static_assert(LR_COUNT(reasons) == LR_KV_REASON_COUNT, "a row a reason");

const char *lr_kv_reason_name(enum lr_kv_reason r)
{
    return reasons[r].name;
}

const char *lr_kv_reason_fix(enum lr_kv_reason r)
{
    return reasons[r].fix;
}

/* ---- rows to clients ---- */

static uint32_t root(uint32_t *client, uint32_t i)
{
    while (client[i] != i)
        i = client[i] = client[client[i]];
    return i;
}

static bool same_peer(const struct lr_kv_row *a, const struct lr_kv_row *b)
{
    return a->tenant == b->tenant && !strcmp(a->space, b->space) && !strcmp(a->address, b->address) &&
           !strcmp(a->name, b->name) && !strcmp(a->library, b->library);
}

static bool same_data(const struct lr_kv_row *a, const struct lr_kv_row *b)
{
    return a->shape == b->shape && a->world == b->world && a->rank == b->rank &&
           a->layered == b->layered && !strcmp(a->model, b->model) && !strcmp(a->dtype, b->dtype) &&
           !strcmp(a->tag, b->tag);
}

static bool same_burst(const struct lr_kv_row *a, const struct lr_kv_row *b)
{
    return a->opened_ms <= b->joined_ms + LR_KV_BURST_MS &&
           b->opened_ms <= a->joined_ms + LR_KV_BURST_MS;
}

/* Hashes that both have; *of: out of how many, at best. */
static uint32_t common(const struct lr_kv_row *a, const struct lr_kv_row *b, uint32_t *of)
{
    const struct lr_kv_sketch *x[] = {&a->set, &a->asked}, *y[] = {&b->set, &b->asked};
    uint32_t most = 0;
    *of = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t n, both = lr_kv_sketch_common(x[i / 2], y[i % 2], &n);
        most = both > most ? both : most;
        *of = n > *of ? n : *of;
    }
    return most;
}

static void join(const struct lr_kv_row *rows, size_t n, uint32_t *client)
{
    uint32_t of;
    for (uint32_t i = 0; i < n; i++)
        client[i] = i;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n; k++) {
            const struct lr_kv_row *a = &rows[i], *b = &rows[k];
            if (root(client, i) != root(client, k) && same_peer(a, b) &&
                (same_burst(a, b) || (same_data(a, b) && common(a, b, &of))))
                client[root(client, k)] = root(client, i);
        }
    for (uint32_t i = 0; i < n; i++)
        client[i] = root(client, i);
}

/* ---- findings ---- */

struct report {
    const struct lr_kv_row *rows;
    struct lr_kv_finding *out;
    size_t n, max;
};

/* One finding a reason and model, the first pair told, the sure one if there is one. */
static void find(struct report *p, enum lr_kv_reason reason, bool sure, uint32_t a, uint32_t b,
                 uint64_t count, const char *left, const char *right)
{
    struct lr_kv_finding *f = NULL;
    for (size_t i = 0; i < p->n && !f; i++)
        if (p->out[i].reason == reason && !strcmp(p->rows[p->out[i].a].model, p->rows[a].model))
            f = &p->out[i];
    if (!f) {
        if (p->n == p->max)
            return;
        f = &p->out[p->n++];
        *f = (struct lr_kv_finding){.reason = reason};
    }
    f->n += count;
    if (!f->pairs++ || (sure && !f->sure)) {
        f->a = a;
        f->b = b;
        f->sure = sure;
        int k = snprintf(f->detail, sizeof f->detail, *right ? "%.54s | %.54s" : "%.54s%s", left, right);
        if (k < 0)
            f->detail[0] = 0;
    }
}

static const char *or_none(const char *s)
{
    return *s ? s : "(none)";
}

static const char *form(const struct lr_kv_row *r)
{
    return r->shape == LR_KV_MP ? "multi-process" : r->layered ? "in-process, by layer" : "in-process";
}

/* What stands in keys, or before them, and differs; how many such things. first: the first alone. */
static unsigned tell_apart(struct report *p, uint32_t i, uint32_t k, bool sure, bool first)
{
    const struct lr_kv_row *a = &p->rows[i], *b = &p->rows[k];
    char ranks[2][12], tenants[2][17];
    (void)snprintf(ranks[0], sizeof ranks[0], "%u", a->world); /* fits */
    (void)snprintf(ranks[1], sizeof ranks[1], "%u", b->world);
    lr_hex(&a->tenant, 8, tenants[0]);
    lr_hex(&b->tenant, 8, tenants[1]);
    const struct {
        enum lr_kv_reason reason;
        bool differs;
        const char *left, *right;
    } all[] = {
        {LR_KV_TENANT, sure && a->tenant != b->tenant, tenants[0], tenants[1]},
        {LR_KV_NAMESPACE, sure && strcmp(a->space, b->space), a->space, b->space},
        {LR_KV_FORM, a->shape != b->shape || a->layered != b->layered, form(a), form(b)},
        {LR_KV_WORLD, a->shape == b->shape && a->world != b->world, ranks[0], ranks[1]},
        {LR_KV_DTYPE, a->shape == b->shape && strcmp(a->dtype, b->dtype), a->dtype, b->dtype},
        {LR_KV_TAG, a->shape == b->shape && strcmp(a->tag, b->tag), or_none(a->tag), or_none(b->tag)},
    };
    unsigned n = 0;
    for (size_t r = 0; r < LR_COUNT(all); r++)
        if (all[r].differs && !(first && n)) {
            find(p, all[r].reason, sure, i, k, 0, all[r].left, all[r].right);
            n++;
        }
    return n;
}

static const char *width(const struct lr_kv_row *r)
{
    return r->wide ? "digests" : "64-bit hashes";
}

/* Keys differ in nothing but the hash, and no hash is on both sides. */
static void tell_hashes(struct report *p, uint32_t i, uint32_t k)
{
    const struct lr_kv_row *a = &p->rows[i], *b = &p->rows[k];
    char left[32] = "", right[32] = "";
    bool tokens = a->tokens && b->tokens;
    bool sizes = a->sized >= SURE_OF && b->sized >= SURE_OF && !strcmp(a->dtype, b->dtype);
    if (tokens ? a->tokens != b->tokens : sizes && a->size != b->size) {
        const char *unit = tokens ? "tokens" : "bytes";
        (void)snprintf(left, sizeof left, "%llu %s", /* fits */
                       (unsigned long long)(tokens ? a->tokens : a->size), unit);
        (void)snprintf(right, sizeof right, "%llu %s",
                       (unsigned long long)(tokens ? b->tokens : b->size), unit);
        find(p, LR_KV_CHUNK, false, i, k, 0, left, right);
    } else if (a->wide != b->wide) {
        find(p, LR_KV_HASH, false, i, k, 0, width(a), width(b));
    } else {
        find(p, LR_KV_SEED, false, i, k, 0, width(a), "");
    }
}

static void compare(struct report *p, uint32_t i, uint32_t k)
{
    const struct lr_kv_row *a = &p->rows[i], *b = &p->rows[k];
    uint32_t of;
    if (strcmp(a->model, b->model) ||
        (a->shape == b->shape && a->world == b->world && a->rank != b->rank))
        return;
    uint32_t both = common(a, b, &of);
    if (both)
        (void)tell_apart(p, i, k, true, false); /* nothing differs: they share */
    else if (of >= FILLED && !tell_apart(p, i, k, false, true))
        tell_hashes(p, i, k);
}

/* Of a client as a whole: its pairs, and what was not kept. */
static void tell_client(struct report *p, uint32_t who, const uint32_t *client, size_t n)
{
    uint64_t halves[2] = {0, 0}, sets = 0, dropped = 0;
    char text[2][40];
    for (size_t i = 0; i < n; i++) {
        if (client[i] != who)
            continue;
        halves[0] += p->rows[i].halves[0];
        halves[1] += p->rows[i].halves[1];
        sets += p->rows[i].sets;
        dropped += p->rows[i].dropped;
    }
    uint64_t more = halves[0] > halves[1] ? halves[0] : halves[1];
    uint64_t lack = 2 * more - halves[0] - halves[1];
    if (lack > UNEVEN && lack > more / 20) {
        (void)snprintf(text[0], sizeof text[0], "%llu kv_bytes", (unsigned long long)halves[0]); /* fits */
        (void)snprintf(text[1], sizeof text[1], "%llu metadata", (unsigned long long)halves[1]);
        find(p, LR_KV_HALVES, true, who, who, lack, text[0], text[1]);
    }
    if (dropped > sets / 20) {
        (void)snprintf(text[0], sizeof text[0], "of %llu", (unsigned long long)sets);
        find(p, LR_KV_DROPPED, true, who, who, dropped, text[0], "");
    }
}

static int by_weight(const void *x, const void *y)
{
    const struct lr_kv_finding *a = x, *b = y;
    if (a->sure != b->sure)
        return a->sure ? -1 : 1;
    return a->reason < b->reason ? -1 : a->reason > b->reason;
}

size_t lr_kv_diagnose(const struct lr_kv_row *rows, size_t n, uint32_t *client, struct lr_kv_finding *out,
                      size_t max)
{
    struct report p = {.rows = rows, .out = out, .max = max};
    join(rows, n, client);
    for (uint32_t i = 0; i < n; i++) {
        if (client[i] == i)
            tell_client(&p, i, client, n);
        for (uint32_t k = i + 1; k < n; k++)
            if (client[i] != client[k])
                compare(&p, i, k);
    }
    qsort(out, p.n, sizeof out[0], by_weight);
    return p.n;
}
