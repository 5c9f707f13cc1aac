/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_ask.c - bodies of the KV verbs: JSON to struct lr_kv_ask.
 *
 * One table of members for all verbs; a verb says which of them it knows. What is unknown, of another type
 * or beyond its bound is one sentence with the member's name: a mistyped selector must never clear more
 * than was meant. Pure, apart from the arena: fuzz_kv.c feeds it anything.
 */
#include "serve/kv_admin.h"

#include <stdio.h>

#define TTL_MAX_MS (366ull * 86400 * 1000)

typedef int take(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out);

static int text(const struct lr_json *v, size_t max, struct lr_str *out)
{
    struct lr_str s;
    LR_FAIL_IF(!lr_json_text(v, &s) || s.n > max, LR_EINVAL);
    *out = lr_str(s.n ? s.p : "", s.n);
    return 0;
}

static int take_tenant(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    LR_TRY(text(v, 64, &out->tenant));
    return out->tenant.n ? 0 : LR_EINVAL;
}

static int take_space(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    LR_TRY(text(v, LR_OBJECT_TEXT_MAX, &out->space));
    return out->space.n ? 0 : LR_EINVAL;
}

static int take_keys(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    LR_FAIL_IF(v->type != LR_JSON_ARRAY || !v->n || v->n > LR_KV_KEYS_MAX || out->n, LR_EINVAL);
    out->keys = lr_arena_array(a, struct lr_str, v->n);
    LR_FAIL_IF(!out->keys, LR_ENOMEM);
    for (const struct lr_json *k = v->child; k; k = k->next) {
        LR_TRY(text(k, LR_OBJECT_NAME_MAX, &out->keys[out->n]));
        out->n++;
    }
    return 0;
}

static int take_ids(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    struct lr_str s;
    LR_FAIL_IF(v->type != LR_JSON_ARRAY || !v->n || v->n > LR_KV_KEYS_MAX || out->n, LR_EINVAL);
    out->ids = lr_arena_array(a, struct lr_digest, v->n);
    LR_FAIL_IF(!out->ids, LR_ENOMEM);
    for (const struct lr_json *k = v->child; k; k = k->next, out->n++)
        LR_FAIL_IF(!lr_json_text(k, &s) || lr_unhex(s, out->ids[out->n].b, 32), LR_EINVAL);
    return 0;
}

static int take_tokens(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    uint64_t t;
    LR_FAIL_IF(v->type != LR_JSON_ARRAY || !v->n || v->n > LR_KV_TOKENS_MAX, LR_EINVAL);
    out->tokens = lr_arena_array(a, uint32_t, v->n);
    LR_FAIL_IF(!out->tokens, LR_ENOMEM);
    for (const struct lr_json *k = v->child; k; k = k->next) {
        LR_FAIL_IF(!lr_json_u64(k, &t) || t > UINT32_MAX, LR_EINVAL);
        out->tokens[out->n_tokens++] = (uint32_t)t;
    }
    return 0;
}

static int take_block(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    return lr_json_u64(v, &out->block) && out->block && out->block <= LR_KV_TOKENS_MAX ? 0 : LR_EINVAL;
}

static int take_model(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    LR_TRY(text(v, LR_OBJECT_TEXT_MAX, &out->model));
    return out->model.n ? 0 : LR_EINVAL;
}

static int take_group(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    return text(v, 16, &out->group);
}

static int take_salt(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    return text(v, 128, &out->salt);
}

/* Eight hex digits, as in a key: they are four numbers of two. */
static int take_rank(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    uint8_t b[4];
    struct lr_str s;
    (void)a;
    LR_FAIL_IF(!lr_json_text(v, &s) || s.n != 8 || lr_unhex(s, b, 4), LR_EINVAL);
    out->rank = (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3];
    return 0;
}

/* "90s", "2h"; or seconds. */
static int take_ttl(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    struct lr_str s;
    uint64_t n;
    (void)a;
    if (lr_json_text(v, &s))
        LR_FAIL_IF(lr_parse_duration(s, &out->ttl_ms), LR_EINVAL);
    else if (lr_json_u64(v, &n) && n <= TTL_MAX_MS / 1000)
        out->ttl_ms = n * 1000;
    return out->ttl_ms && out->ttl_ms <= TTL_MAX_MS ? 0 : LR_EINVAL;
}

static int take_to(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    static const char *const places[] = {"memory", "disk", "out"};
    struct lr_str s;
    (void)a;
    for (size_t i = 0; lr_json_text(v, &s) && i < LR_COUNT(places); i++)
        if (lr_str_is(s, places[i])) {
            out->to = (enum lr_place)i;
            out->has_to = true;
            return 0;
        }
    return LR_EINVAL;
}

static int take_bytes(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    struct lr_str s;
    (void)a;
    out->has_bytes = lr_json_text(v, &s) ? !lr_parse_size(s, &out->bytes) : lr_json_u64(v, &out->bytes);
    return out->has_bytes ? 0 : LR_EINVAL;
}

static int take_all(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    return lr_json_bool(v, &out->all) ? 0 : LR_EINVAL;
}

static int take_dry(struct lr_arena *a, const struct lr_json *v, struct lr_kv_ask *out)
{
    (void)a;
    return lr_json_bool(v, &out->dry_run) ? 0 : LR_EINVAL;
}

static const struct {
    const char *name;
    take *fn;
    const char *what;
} members[] = {
    {"tenant", take_tenant, "a tenant's name, or the 16 hex digits of its id"},
    {"namespace", take_space, "a namespace: \"0\", or \"user/0\""},
    {"keys", take_keys, "1 to 10000 keys (of at most 4096 bytes), and not beside ids"},
    {"ids", take_ids, "1 to 10000 ids of 64 hex digits, and not beside keys"},
    {"tokens", take_tokens, "1 to 1048576 token ids"},
    {"block", take_block, "tokens a chunk"},
    {"model", take_model, "a model's name, as it stands in keys"},
    {"group", take_group, "hex digits of object_group_id; empty: keys without one"},
    {"salt", take_salt, "LMCache's cache_salt"},
    {"rank", take_rank, "eight hex digits, as they stand behind kv_rank_"},
    {"ttl", take_ttl, "a duration of at most 366 days: \"15m\", \"2h\", or seconds"},
    {"to", take_to, "\"memory\", \"disk\" or \"out\""},
    {"bytes", take_bytes, "a size: \"8G\", or bytes; 0: no limit"},
    {"all", take_all, "true or false"},
    {"dry_run", take_dry, "true or false"},
};

static bool listed(const char *names, const char *name)
{
    struct lr_str rest = lr_strz(names);
    while (rest.p)
        if (lr_str_is(lr_str_cut(&rest, ' '), name))
            return true;
    return false;
}

/* One member of the body. */
static int read_one(struct lr_arena *a, const struct lr_json *v, const char *known, struct lr_kv_ask *out,
                    struct lr_err *err)
{
    for (size_t i = 0; i < LR_COUNT(members); i++) {
        if (!lr_str_is(v->key, members[i].name) || !listed(known, members[i].name))
            continue;
        int rc = members[i].fn(a, v, out);
        return rc == LR_EINVAL ? lr_err_set(err, rc, members[i].name, "%s must be %s", members[i].name,
                                            members[i].what)
                               : rc;
    }
    return lr_err_set(err, LR_EINVAL, "body", "unknown member; known here: %s", *known ? known : "none");
}

int lr_kv_ask_read(struct lr_arena *a, const struct lr_json *o, const char *known, struct lr_kv_ask *out,
                   struct lr_err *err)
{
    *out = (struct lr_kv_ask){.block = LR_CHAIN_BLOCK, .rank = 0x01000100, .group = {"0", 1}};
    for (const struct lr_json *v = o->child; v; v = v->next)
        LR_TRY(read_one(a, v, known, out, err));
    return 0;
}

int lr_kv_ask_chain(struct lr_arena *a, struct lr_kv_ask *ask)
{
    size_t n = ask->n_tokens / ask->block, room = ask->model.n + ask->group.n + ask->salt.n + 120;
    n = n < LR_KV_KEYS_MAX ? n : LR_KV_KEYS_MAX;
    struct lr_digest *links = lr_arena_array(a, struct lr_digest, n);
    ask->keys = lr_arena_array(a, struct lr_str, n);
    LR_FAIL_IF(n && (!links || !ask->keys), LR_ENOMEM);
    ask->n = n ? lr_chain_keys(lr_str("", 0), ask->tokens, ask->n_tokens, ask->block, links, n) : 0;
    for (size_t i = 0; i < ask->n; i++) {
        char hex[65], *key = lr_arena_alloc(a, room, 1);
        LR_FAIL_IF(!key, LR_ENOMEM);
        lr_hex(links[i].b, 32, hex);
        int k = snprintf(key, room, "%.*s@kv_rank_%08x%s%.*s@%s%s%.*s", LR_FMT(ask->model),
                         (unsigned)ask->rank, ask->group.n ? "@object_group_id_" : "", LR_FMT(ask->group),
                         hex, ask->salt.n ? "@" : "", LR_FMT(ask->salt));
        LR_FAIL_IF(k < 0 || (size_t)k >= room, LR_EOVER);
        ask->keys[i] = lr_str(key, (size_t)k);
    }
    return 0;
}
