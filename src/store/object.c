/* SPDX-License-Identifier: Apache-2.0
 * store/object.c - the header that every object of the store carries, in memory, on disk, on wires.
 *
 *   0      64            64 + f          H - 8   H
 *   | fixed | fields ... 0 | rows of parts | sum |        docs/formats/object.md
 *
 * Idea. Bytes alone cannot say whether they fit: an engine that changed its block layout, another
 * rank, another model under the same tokens read as plausible numbers. So all that identity depends
 * on travels with the bytes and is compared at every read (lr_object_match); what differs is a
 * miss with a reason.
 *
 * One pass verifies a payload: its parts tile it, each row has its part's xxh3, the fixed header
 * has the xxh3 of the rows (that is the digest of the payload), and the last eight bytes sum up the
 * header. A part is a layer for KV, so a layer can be checked and used before the next has come.
 *
 * Fields are (id u8, length u16, bytes). Readers skip unknown ids below 128 and refuse from 128 on.
 * Integers take as few bytes as hold the value, absent when zero. Each field at most once; the
 * order written is by id, the order read is free.
 *
 * Invariants: encode writes exactly lr_object_size bytes; decode of encode is the identity; every
 * header decode accepts has rows that tile the payload exactly.
 *
 * Tried and dropped: a fixed struct of 512 bytes (model names and opaque keys are longer than any
 * bound one likes); a sum over the whole payload beside those of the parts (each byte read twice).
 */
#include "store/store_int.h"

#define MAJOR 1u
#define MINOR 0u
#define FIXED 64u
#define ROW   24u
#define SUM   8u

enum field {
    F_END = 0,
    F_KIND = 1,
    F_TENANT,
    F_SPACE,
    F_EPOCH,
    F_NAME,
    F_ENGINE,
    F_FORMAT,
    F_DTYPE,
    F_SHAPE, /* u32 each */
    F_RANK,
    F_LAYOUT_VERSION,
    F_MODEL,
    F_TOKENS,
    F_POSITION,
    F_KEY,
    F_PREV,
    F_PREFIX,
    F_TOKEN_IDS,
    F_REPR,
    F_PHASE,
    F_POLICY,
    F_CODEC,
    F_FIDELITY,
    F_VARIANT,
    F_CREATED,
    F_EXPIRES,
    F_COST, /* IEEE single */
    F_CRITICAL = 128,
};

/* ---- writing ---- */

/* Counts when p is NULL, writes else. */
struct out {
    uint8_t *p;
    size_t n;
};

static void put_bytes(struct out *w, enum field id, const void *p, size_t n)
{
    if (!n)
        return;
    if (w->p) {
        uint8_t *q = w->p + w->n;
        q[0] = (uint8_t)id;
        lr_put_le16(q + 1, (uint16_t)n);
        memcpy(q + 3, p, n);
    }
    w->n += 3 + n;
}

static void put_int(struct out *w, enum field id, uint64_t v)
{
    uint8_t le[8];
    size_t n = 0;
    for (lr_put_le64(le, v); v; v >>= 8)
        n++;
    put_bytes(w, id, le, n);
}

static void put_digest(struct out *w, enum field id, const struct lr_digest *d)
{
    static const struct lr_digest none;
    if (!lr_digest_eq(d, &none))
        put_bytes(w, id, d->b, sizeof d->b);
}

static void put_layout(struct out *w, const struct lr_layout *l)
{
    uint8_t shape[4 * LR_OBJECT_DIMS_MAX];
    for (uint32_t i = 0; i < l->n_dims; i++)
        lr_put_le32(shape + 4 * i, l->shape[i]);
    put_bytes(w, F_ENGINE, l->engine.p, l->engine.n);
    put_int(w, F_FORMAT, l->format);
    put_int(w, F_DTYPE, l->dtype);
    put_bytes(w, F_SHAPE, shape, 4 * (size_t)l->n_dims);
    put_int(w, F_RANK, l->rank);
    put_int(w, F_LAYOUT_VERSION, l->version);
}

static void put_fields(struct out *w, const struct lr_object *o)
{
    put_int(w, F_KIND, o->kind);
    put_int(w, F_TENANT, o->tenant);
    put_bytes(w, F_SPACE, o->space.p, o->space.n);
    put_int(w, F_EPOCH, o->epoch);
    put_bytes(w, F_NAME, o->name.p, o->name.n);
    put_layout(w, &o->layout);
    put_bytes(w, F_MODEL, o->model.p, o->model.n);
    put_int(w, F_TOKENS, o->tokens);
    put_int(w, F_POSITION, o->position);
    put_digest(w, F_KEY, &o->key);
    put_digest(w, F_PREV, &o->prev);
    put_digest(w, F_PREFIX, &o->prefix);
    put_digest(w, F_TOKEN_IDS, &o->token_ids);
    put_int(w, F_REPR, o->repr);
    put_int(w, F_PHASE, o->phase);
    put_bytes(w, F_POLICY, o->policy.p, o->policy.n);
    put_int(w, F_CODEC, o->codec);
    put_int(w, F_FIDELITY, o->fidelity);
    put_int(w, F_VARIANT, o->variant);
    put_int(w, F_CREATED, o->created_ms);
    put_int(w, F_EXPIRES, o->expires_ms);
    uint8_t cost[4];
    memcpy(cost, &o->cost, 4);
    put_bytes(w, F_COST, cost, o->cost > 0 ? 4 : 0);
}

/* Bytes of fields, the end mark and padding to 8 included. */
static size_t fields_size(const struct lr_object *o)
{
    struct out w = {0};
    put_fields(&w, o);
    return (w.n + 8) & ~(size_t)7;
}

static bool within(const struct lr_object *o)
{
    return o->space.n <= LR_OBJECT_TEXT_MAX && o->model.n <= LR_OBJECT_TEXT_MAX &&
           o->layout.engine.n <= LR_OBJECT_TEXT_MAX && o->policy.n <= LR_OBJECT_TEXT_MAX &&
           o->name.n <= LR_OBJECT_NAME_MAX && o->payload <= LR_OBJECT_VALUE_MAX &&
           o->n_parts <= LR_OBJECT_PARTS_MAX;
}

int lr_object_size(const struct lr_object *o, size_t *out)
{
    LR_FAIL_IF(!within(o), LR_EOVER);
    LR_FAIL_IF(o->layout.n_dims > LR_OBJECT_DIMS_MAX || o->kind > LR_OBJECT_OPAQUE ||
                   o->fidelity > LR_OBJECT_LOSSLESS || (o->payload == 0) != (o->n_parts == 0),
               LR_EINVAL);
    *out = FIXED + fields_size(o) + (size_t)o->n_parts * ROW + SUM;
    return 0;
}

int lr_object_encode(const struct lr_object *o, const struct lr_object_part *parts, uint8_t *out)
{
    size_t n;
    LR_TRY(lr_object_size(o, &n));
    size_t fields = fields_size(o);
    memset(out, 0, FIXED + fields);
    struct out w = {out + FIXED, 0};
    put_fields(&w, o);
    uint8_t *rows = out + FIXED + fields;
    uint64_t end = 0;
    for (uint32_t i = 0; i < o->n_parts; i++) {
        LR_FAIL_IF(parts[i].offset != end || parts[i].bytes == 0 ||
                       parts[i].bytes > o->payload - end,
                   LR_EINVAL);
        end += parts[i].bytes;
        lr_put_le64(rows + ROW * i, parts[i].offset);
        lr_put_le64(rows + ROW * i + 8, parts[i].bytes);
        lr_put_le64(rows + ROW * i + 16, parts[i].sum);
    }
    LR_FAIL_IF(end != o->payload, LR_EINVAL);
    memcpy(out, LR_OBJECT_MAGIC, 4);
    out[4] = MAJOR;
    out[5] = MINOR;
    lr_put_le32(out + 8, (uint32_t)n);
    lr_put_le32(out + 12, o->n_parts);
    lr_put_le64(out + 16, o->payload);
    lr_put_le64(out + 24, lr_hash64(lr_str(rows, (size_t)o->n_parts * ROW), 0));
    memcpy(out + 32, o->id.b, 32);
    lr_put_le64(out + n - SUM, lr_hash64(lr_str(out, n - SUM), 0));
    return 0;
}

uint32_t lr_object_sum(uint8_t *head, size_t n, const uint8_t *payload, uint32_t from, uint64_t filled)
{
    uint32_t n_parts = lr_le32(head + 12);
    uint8_t *rows = head + n - SUM - (size_t)n_parts * ROW;
    uint32_t i = from;
    for (; i < n_parts; i++) {
        uint8_t *row = rows + ROW * i;
        uint64_t off = lr_le64(row), bytes = lr_le64(row + 8);
        if (bytes > filled || off > filled - bytes)
            break;
        lr_put_le64(row + 16, lr_hash64(lr_str(payload + off, (size_t)bytes), 0));
    }
    return i;
}

void lr_object_close(uint8_t *head, size_t n)
{
    uint32_t n_parts = lr_le32(head + 12);
    uint8_t *rows = head + n - SUM - (size_t)n_parts * ROW;
    lr_put_le64(head + 24, lr_hash64(lr_str(rows, (size_t)n_parts * ROW), 0));
    lr_put_le64(head + n - SUM, lr_hash64(lr_str(head, n - SUM), 0));
}

void lr_object_seal(uint8_t *head, size_t n, const uint8_t *payload)
{
    (void)lr_object_sum(head, n, payload, 0, UINT64_MAX); /* where it ended: at the last part */
    lr_object_close(head, n);
}

/* ---- reading ---- */

/* An integer of at most `max`; without superfluous zero bytes, so that one value has one form. */
static int get_int(struct lr_str v, uint64_t max, uint64_t *out)
{
    uint8_t le[8] = {0};
    LR_FAIL_IF(v.n == 0 || v.n > 8 || v.p[v.n - 1] == 0, LR_ECORRUPT);
    memcpy(le, v.p, v.n);
    uint64_t x = lr_le64(le);
    LR_FAIL_IF(x > max, LR_ECORRUPT);
    *out = x;
    return 0;
}

static int get_u32(struct lr_str v, uint32_t max, uint32_t *out)
{
    uint64_t x;
    LR_TRY(get_int(v, max, &x));
    *out = (uint32_t)x;
    return 0;
}

static int get_text(struct lr_str v, size_t max, struct lr_str *out)
{
    LR_FAIL_IF(v.n == 0 || v.n > max, LR_ECORRUPT);
    *out = v;
    return 0;
}

static int get_digest(struct lr_str v, struct lr_digest *out)
{
    LR_FAIL_IF(v.n != sizeof out->b, LR_ECORRUPT);
    memcpy(out->b, v.p, v.n);
    return 0;
}

static int get_shape(struct lr_str v, struct lr_layout *l)
{
    LR_FAIL_IF(v.n == 0 || v.n % 4 || v.n > 4 * LR_OBJECT_DIMS_MAX, LR_ECORRUPT);
    l->n_dims = (uint32_t)v.n / 4;
    for (uint32_t i = 0; i < l->n_dims; i++)
        l->shape[i] = lr_le32(v.p + 4 * i);
    return 0;
}

static int get_cost(struct lr_str v, float *out)
{
    LR_FAIL_IF(v.n != 4, LR_ECORRUPT);
    float f;
    memcpy(&f, v.p, 4);
    LR_FAIL_IF(!(f > 0 && f < 1e30f), LR_ECORRUPT);
    *out = f;
    return 0;
}

static int get_kind(struct lr_str v, enum lr_object_kind *out)
{
    uint32_t k;
    LR_TRY(get_u32(v, LR_OBJECT_OPAQUE, &k));
    *out = (enum lr_object_kind)k;
    return 0;
}

static int get_layout(enum field id, struct lr_str v, struct lr_layout *l)
{
    switch (id) {
    case F_ENGINE:
        return get_text(v, LR_OBJECT_TEXT_MAX, &l->engine);
    case F_FORMAT:
        return get_u32(v, UINT32_MAX, &l->format);
    case F_DTYPE:
        return get_u32(v, UINT32_MAX, &l->dtype);
    case F_SHAPE:
        return get_shape(v, l);
    case F_RANK:
        return get_u32(v, UINT32_MAX, &l->rank);
    default:
        return get_u32(v, UINT32_MAX, &l->version);
    }
}

static int get_field(enum field id, struct lr_str v, struct lr_object *o)
{
    switch (id) {
    case F_KIND:
        return get_kind(v, &o->kind);
    case F_TENANT:
        return get_int(v, UINT64_MAX, &o->tenant);
    case F_SPACE:
        return get_text(v, LR_OBJECT_TEXT_MAX, &o->space);
    case F_EPOCH:
        return get_u32(v, UINT32_MAX, &o->epoch);
    case F_NAME:
        return get_text(v, LR_OBJECT_NAME_MAX, &o->name);
    case F_ENGINE:
    case F_FORMAT:
    case F_DTYPE:
    case F_SHAPE:
    case F_RANK:
    case F_LAYOUT_VERSION:
        return get_layout(id, v, &o->layout);
    case F_MODEL:
        return get_text(v, LR_OBJECT_TEXT_MAX, &o->model);
    case F_TOKENS:
        return get_u32(v, UINT32_MAX, &o->tokens);
    case F_POSITION:
        return get_int(v, UINT64_MAX, &o->position);
    case F_KEY:
        return get_digest(v, &o->key);
    case F_PREV:
        return get_digest(v, &o->prev);
    case F_PREFIX:
        return get_digest(v, &o->prefix);
    case F_TOKEN_IDS:
        return get_digest(v, &o->token_ids);
    case F_REPR:
        return get_u32(v, UINT32_MAX, &o->repr);
    case F_PHASE:
        return get_u32(v, UINT32_MAX, &o->phase);
    case F_POLICY:
        return get_text(v, LR_OBJECT_TEXT_MAX, &o->policy);
    case F_CODEC:
        return get_u32(v, UINT32_MAX, &o->codec);
    case F_FIDELITY:
        return get_u32(v, LR_OBJECT_LOSSLESS, &o->fidelity);
    case F_VARIANT:
        return get_int(v, UINT64_MAX, &o->variant);
    case F_CREATED:
        return get_int(v, UINT64_MAX, &o->created_ms);
    case F_EXPIRES:
        return get_int(v, UINT64_MAX, &o->expires_ms);
    case F_COST:
        return get_cost(v, &o->cost);
    default:
        return id >= F_CRITICAL ? LR_EVERSION : 0;
    }
}

static int get_fields(const uint8_t *p, size_t n, struct lr_object *o)
{
    uint64_t seen[4] = {0}; /* one bit an id */
    size_t at = 0;
    while (at < n && p[at] != F_END) {
        LR_FAIL_IF(n - at < 3, LR_ECORRUPT);
        uint8_t id = p[at];
        size_t len = lr_le16(p + at + 1);
        LR_FAIL_IF(len > n - at - 3, LR_ECORRUPT);
        LR_FAIL_IF(seen[id / 64] >> (id % 64) & 1, LR_ECORRUPT);
        seen[id / 64] |= 1ull << (id % 64);
        LR_TRY(get_field((enum field)id, lr_str(p + at + 3, len), o));
        at += 3 + len;
    }
    LR_FAIL_IF(at == n, LR_ECORRUPT); /* no end mark */
    for (; at < n; at++)
        LR_FAIL_IF(p[at], LR_ECORRUPT);
    return 0;
}

static int check_rows(const uint8_t *rows, const struct lr_object *o)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < o->n_parts; i++) {
        uint64_t off = lr_le64(rows + ROW * i), bytes = lr_le64(rows + ROW * i + 8);
        LR_FAIL_IF(off != end || bytes == 0 || bytes > o->payload - end, LR_ECORRUPT);
        end += bytes;
    }
    return end == o->payload ? 0 : LR_ECORRUPT;
}

int lr_object_decode(const uint8_t *p, size_t n, struct lr_object *o, size_t *bytes)
{
    LR_FAIL_IF(n < FIXED + 8 + SUM || memcmp(p, LR_OBJECT_MAGIC, 4), LR_ECORRUPT);
    LR_FAIL_IF(p[4] != MAJOR, LR_EVERSION);
    size_t len = lr_le32(p + 8);
    struct lr_object x = {.n_parts = lr_le32(p + 12), .payload = lr_le64(p + 16)};
    LR_FAIL_IF(len > n || len > LR_OBJECT_HEAD_MAX || len % 8 || x.n_parts > LR_OBJECT_PARTS_MAX ||
                   x.payload > LR_OBJECT_VALUE_MAX || len < FIXED + 8 + SUM + x.n_parts * ROW,
               LR_ECORRUPT);
    LR_FAIL_IF(lr_hash64(lr_str(p, len - SUM), 0) != lr_le64(p + len - SUM), LR_ECORRUPT);
    LR_FAIL_IF(lr_le16(p + 6), LR_EVERSION); /* a flag that may not be ignored */
    const uint8_t *rows = p + len - SUM - x.n_parts * ROW;
    LR_FAIL_IF(lr_hash64(lr_str(rows, x.n_parts * ROW), 0) != lr_le64(p + 24), LR_ECORRUPT);
    memcpy(x.id.b, p + 32, 32);
    LR_TRY(get_fields(p + FIXED, (size_t)(rows - p) - FIXED, &x));
    LR_TRY(check_rows(rows, &x));
    *o = x;
    if (bytes)
        *bytes = len;
    return 0;
}

struct lr_object_part lr_object_part(const uint8_t *head, size_t n, const struct lr_object *o, uint32_t i)
{
    const uint8_t *row = head + n - SUM - (size_t)(o->n_parts - i) * ROW;
    return (struct lr_object_part){lr_le64(row), lr_le64(row + 8), lr_le64(row + 16)};
}

/* ---- identity ---- */

static bool same_layout(const struct lr_layout *a, const struct lr_layout *b)
{
    return lr_str_eq(a->engine, b->engine) && a->format == b->format && a->dtype == b->dtype &&
           a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof a->shape[0]) == 0 &&
           a->rank == b->rank && a->version == b->version;
}

/* A digest that was asked for and differs. */
static bool other(const struct lr_digest *want, const struct lr_digest *have)
{
    static const struct lr_digest none;
    return !lr_digest_eq(want, &none) && !lr_digest_eq(want, have);
}

static uint32_t fidelity_of(const struct lr_object *o)
{
    return o->fidelity ? o->fidelity : LR_OBJECT_LOSSLESS;
}

enum lr_mismatch lr_object_match(const struct lr_object *have, const struct lr_object *want)
{
    if (have->kind != want->kind)
        return LR_MISMATCH_KIND;
    if (have->tenant != want->tenant)
        return LR_MISMATCH_TENANT;
    if (have->kind == LR_OBJECT_OPAQUE)
        return lr_str_eq(have->space, want->space) && lr_str_eq(have->name, want->name)
                   ? LR_MATCH
                   : LR_MISMATCH_KEY;
    if (!lr_digest_eq(&have->key, &want->key))
        return LR_MISMATCH_KEY;
    if (!lr_str_eq(have->model, want->model))
        return LR_MISMATCH_MODEL;
    if (!same_layout(&have->layout, &want->layout))
        return LR_MISMATCH_LAYOUT;
    if (have->tokens != want->tokens || have->position != want->position ||
        other(&want->prev, &have->prev) || other(&want->prefix, &have->prefix) ||
        other(&want->token_ids, &have->token_ids))
        return LR_MISMATCH_TOKENS;
    if (have->repr != want->repr || have->phase != want->phase || have->variant != want->variant ||
        !lr_str_eq(have->policy, want->policy))
        return LR_MISMATCH_FORM;
    return fidelity_of(have) < want->fidelity ? LR_MISMATCH_FIDELITY : LR_MATCH;
}

const char *lr_mismatch_name(enum lr_mismatch m)
{
    static const char *const names[] = {"match",  "kind",   "key",  "tenant",  "model",
                                        "layout", "tokens", "form", "fidelity"};
    return (size_t)m < LR_COUNT(names) ? names[m] : "unknown";
}
