/* SPDX-License-Identifier: Apache-2.0
 * serve/kv_key.c - LMCache's keys, taken apart.
 *
 *   model @ world @ worker @ hash @ dtype [@ layer] [@ tag%value]...  [kv_bytes | metadata]
 *   model @ kv_rank_WWRRwwrr [@ object_group_id_X] @ hash [@ salt]
 *
 * The first is of its in-process engine (one key over its native client, a pair of them over its redis
 * connector); the second of its multi-process server. Both are cut from the left: a model's name has
 * no '@'. A hash is an integer in hex (Python's may be negative) or the hex digits of a digest.
 * Whatever does not fit is no key of LMCache's, and nobody's business here.
 */
#include "serve/kv_watch.h"

static bool is_hex(struct lr_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return s.n > 0;
}

static bool is_hash(struct lr_str s)
{
    if (s.n && *s.p == '-')
        s = lr_str(s.p + 1, s.n - 1);
    return s.n <= 128 && is_hex(s);
}

static bool is_number(struct lr_str s, uint32_t max, uint32_t *out)
{
    uint64_t v;
    if (s.n > 10 || lr_parse_u64(s, &v) || v > max)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* After `word`, hex digits: "kv_rank_02010201". */
static bool after(struct lr_str s, const char *word, struct lr_str *digits)
{
    size_t n = strlen(word);
    if (!lr_str_starts(s, lr_str(word, n)) || s.n == n || s.n > n + 8)
        return false;
    *digits = lr_str(s.p + n, s.n - n);
    return is_hex(*digits);
}

static uint32_t hex_value(struct lr_str s)
{
    uint32_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v = v << 4 | (uint32_t)(s.p[i] <= '9' ? s.p[i] - '0' : s.p[i] - 'a' + 10);
    return v;
}

/* rest: behind kv_rank. */
static bool read_mp(struct lr_str rank, struct lr_str rest, struct lr_kv_key *k)
{
    struct lr_str digits, group, f = lr_str_cut(&rest, '@');
    if (!after(rank, "kv_rank_", &digits))
        return false;
    if (after(f, "object_group_id_", &group))
        f = lr_str_cut(&rest, '@');
    uint32_t v = hex_value(digits);
    k->world = v >> 24;
    k->rank = v >> 16 & 255;
    k->hash = f;
    k->tag = rest.p ? rest : lr_str("", 0);
    k->shape = LR_KV_MP;
    return is_hash(f);
}

/* The redis connector's ending goes off s. */
static enum lr_kv_half cut_half(struct lr_str *s)
{
    static const struct {
        struct lr_str end;
        enum lr_kv_half half;
    } all[] = {{{"kv_bytes", 8}, LR_KV_BYTES}, {{"metadata", 8}, LR_KV_META}};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (s->n > all[i].end.n &&
            lr_str_eq(lr_str(s->p + s->n - all[i].end.n, all[i].end.n), all[i].end)) {
            s->n -= all[i].end.n;
            return all[i].half;
        }
    return LR_KV_WHOLE;
}

/* rest: behind world. */
static bool read_engine(struct lr_str world, struct lr_str rest, struct lr_kv_key *k)
{
    uint32_t layer;
    struct lr_str worker = lr_str_cut(&rest, '@');
    if (!is_number(world, 1u << 20, &k->world) || !rest.p || !is_number(worker, 1u << 20, &k->rank))
        return false;
    k->hash = lr_str_cut(&rest, '@');
    if (!rest.p || !is_hash(k->hash))
        return false;
    k->half = cut_half(&rest);
    k->dtype = lr_str_cut(&rest, '@');
    if (!k->dtype.n || k->dtype.n > LR_KV_DTYPE_MAX)
        return false;
    struct lr_str tags = rest, first = lr_str_cut(&rest, '@');
    k->layered = first.p && is_number(first, 1u << 20, &layer);
    k->tag = k->layered ? rest : tags;
    if (!k->tag.p)
        k->tag = lr_str("", 0);
    k->shape = LR_KV_ENGINE;
    return true;
}

void lr_kv_key_read(struct lr_str name, struct lr_kv_key *k)
{
    *k = (struct lr_kv_key){.shape = LR_KV_NO_KEY, .dtype = {"", 0}, .tag = {"", 0}};
    struct lr_str rest = name;
    k->model = lr_str_cut(&rest, '@');
    struct lr_str second = rest.p ? lr_str_cut(&rest, '@') : lr_str("", 0);
    if (!k->model.n || !rest.p || memchr(name.p, 0, name.n) ||
        !(lr_str_starts(second, LR_STR("kv_rank_")) ? read_mp(second, rest, k)
                                                    : read_engine(second, rest, k)))
        k->shape = LR_KV_NO_KEY;
}
