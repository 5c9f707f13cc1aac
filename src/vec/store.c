/* SPDX-License-Identifier: Apache-2.0
 * vec/store.c - where vectors, marks and lists of links lie; from id to slot; rounding.
 *
 *   dir ------> unit 0: slots -> | 64 vectors | 64 low halves | 64 marks | 64 metas |   (one block)
 *        |              links -> | 64 lists of 2m words |                              (graph only)
 *        +----> unit 1 ...
 *   updir ----> 64 lists of m words each: the upper levels' lists, those of a node side by side
 *   map   ----> slot by id (the writer's)
 *
 * A slot is a number below n. Units are cut from larger blocks, an eighth of what is there already,
 * so that at most an eighth is spare. Marks lie together, because a walk needs one for every vector
 * it looks at: 64 of them take four lines, all marks of 100,000 vectors fit the second-level cache.
 * A mark is the vector's scale (a positive float, 1 for type F32) with the sign saying "dead": one
 * word tells both.
 *
 * Rounding. I8: scale = largest magnitude / 127, coordinates to the nearest multiple, stored + 128.
 * I12: to the nearest sixteenth of the scale; the stored byte is the nearest multiple of the scale
 * (the I8 value), the remainder -8..7 of sixteenths goes to a nibble (+ 8) among the low halves.
 * The walk reads bytes only; nibbles are read for the few that are ranked at the end.
 *
 * A slot's level is a function of its number and the seed and stays with it: levels are independent
 * of vectors, so a reused slot may keep its own, and its upper lists with it.
 */
#include "vec/vec_int.h"

#include <assert.h>
#include <math.h>

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static int check_opts(const struct lr_vec_opts *o)
{
    LR_FAIL_IF(o->dim < 1 || o->dim > LR_VEC_DIM_MAX, LR_EINVAL);
    LR_FAIL_IF(o->type != LR_VEC_F32 && o->type != LR_VEC_I8 && o->type != LR_VEC_I12, LR_EINVAL);
    LR_FAIL_IF(o->m && (o->m < 4 || o->m > LR_VEC_M_MAX), LR_EINVAL);
    unsigned m = o->m ? o->m : 16;
    LR_FAIL_IF(o->ef_build && (o->ef_build < m || o->ef_build > LR_VEC_K_MAX), LR_EINVAL);
    return 0;
}

static void lay_out(struct lr_vec *v)
{
    bool wide = v->o.type == LR_VEC_F32;
    v->pad = round_up(v->o.dim, wide ? 16 : 64);
    v->stride = wide ? v->pad * sizeof(float) : v->pad;
    v->off_low = VEC_UNIT * v->stride;
    v->off_mark = v->off_low + (v->o.type == LR_VEC_I12 ? VEC_UNIT * v->pad / 2 : 0);
    v->off_meta = v->off_mark + VEC_UNIT * sizeof(uint32_t);
    v->unit_bytes = round_up(v->off_meta + VEC_UNIT * sizeof(struct meta), 64);
}

int vec_make(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct lr_vec **out)
{
    LR_TRY(check_opts(o));
    size_t used = lr_vec_arena_used(a);
    LR_FAIL_IF(used > a->max || a->max - used < sizeof(struct lr_vec), LR_EOVER);
    struct lr_vec *v = lr_new(struct lr_vec);
    LR_FAIL_IF(!v, LR_ENOMEM);
    v->arena = a;
    v->o = *o;
    v->o.m = o->m ? o->m : 16;
    v->o.ef_build = o->ef_build ? o->ef_build : v->o.m > 100 ? v->o.m : 100;
    v->o.flat_max = o->flat_max ? o->flat_max : LR_VEC_FLAT;
    v->m = v->o.m;
    v->m0 = 2 * v->o.m;
    v->dots = vec_dots();
    lay_out(v);
    v->up_used = 1; /* 0 says none */
    v->free_head = v->dead_head = v->batch_head = v->limbo_head = VEC_SLOT_MASK;
    atomic_init(&v->entry, VEC_NONE);
    atomic_store_explicit(&a->used, used + sizeof *v, memory_order_relaxed);
    atomic_init(&v->bytes, sizeof *v);
    *out = v;
    return 0;
}

/* ---- Levels -----------------------------------------------------------------------------------*/

/* Spreads ids and slots; the seed keeps levels from being chosen from outside. */
static uint64_t mix64(uint64_t x)
{
    x ^= x >> 32;
    x *= 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return x ^ x >> 32;
}

/* P(level >= l) = m^-l. */
unsigned vec_level(const struct lr_vec *v, uint32_t slot)
{
    uint64_t r = mix64(mix64(v->o.seed + 1) ^ ((uint64_t)slot + 1));
    unsigned level = 0;
    while (level < VEC_LEVELS && r % v->m == 0) {
        r /= v->m;
        level++;
    }
    return level;
}

/* ---- Growth -----------------------------------------------------------------------------------*/

static int grow_dir(struct lr_vec *v, size_t units)
{
    struct dir *old = vec_dir(v);
    if (old && units <= old->cap)
        return 0;
    int rc;
    size_t cap = old ? 2 * old->cap : 8;
    cap = cap < units ? units : cap;
    struct dir *d = vec_grab(v, sizeof *d + cap * sizeof d->u[0], &rc);
    LR_FAIL_IF(!d, rc);
    d->cap = cap;
    if (old)
        memcpy(d->u, old->u, old->cap * sizeof d->u[0]);
    atomic_store_explicit(&v->dir, d, memory_order_release);
    return 0;
}

static size_t slab(size_t units)
{
    return units < 8 ? 1 : units / 8 > 2048 ? 2048 : units / 8;
}

static int grow_slots(struct lr_vec *v)
{
    size_t have = v->cap / VEC_UNIT, more = slab(have);
    LR_FAIL_IF(v->cap >= LR_VEC_MAX - VEC_UNIT, LR_EOVER); /* the last number says none */
    if (more > LR_VEC_MAX / VEC_UNIT - have)
        more = LR_VEC_MAX / VEC_UNIT - have;
    LR_TRY(grow_dir(v, have + more));
    int rc;
    uint8_t *p = vec_grab(v, more * v->unit_bytes, &rc);
    LR_FAIL_IF(!p, rc);
    struct dir *d = vec_dir(v);
    for (size_t i = 0; i < more; i++) {
        uint8_t *at = p + i * v->unit_bytes;
        d->u[have + i].slots = at;
        _Atomic uint32_t *mark = (_Atomic uint32_t *)(void *)(at + v->off_mark);
        for (size_t k = 0; k < VEC_UNIT; k++)
            atomic_init(&mark[k], VEC_DEAD);
    }
    v->cap += (uint32_t)(more * VEC_UNIT);
    return 0;
}

static int grow_lists(struct lr_vec *v, uint32_t slot)
{
    while (slot >= v->linked_cap) {
        size_t have = v->linked_cap / VEC_UNIT, more = slab(have);
        if (more > v->cap / VEC_UNIT - have)
            more = v->cap / VEC_UNIT - have;
        int rc;
        size_t list = (size_t)v->m0 * sizeof(uint32_t);
        char *p = vec_grab(v, more * VEC_UNIT * list, &rc);
        LR_FAIL_IF(!p, rc);
        memset(p, 0xff, more * VEC_UNIT * list); /* VEC_NONE */
        struct dir *d = vec_dir(v);
        for (size_t i = 0; i < more; i++)
            d->u[have + i].links = (_Atomic uint32_t *)(void *)(p + i * VEC_UNIT * list);
        v->linked_cap += (uint32_t)(more * VEC_UNIT);
    }
    return 0;
}

static int grow_upper(struct lr_vec *v, uint32_t lists)
{
    while (lists > v->up_cap) {
        size_t have = v->up_cap / VEC_UNIT, more = slab(have);
        struct updir *old = vec_updir(v);
        int rc;
        if (!old || have + more > old->cap) {
            size_t cap = old ? 2 * old->cap : 8;
            cap = cap < have + more ? have + more : cap;
            struct updir *d = vec_grab(v, sizeof *d + cap * sizeof d->u[0], &rc);
            LR_FAIL_IF(!d, rc);
            d->cap = cap;
            if (old)
                memcpy(d->u, old->u, old->cap * sizeof d->u[0]);
            atomic_store_explicit(&v->updir, d, memory_order_release);
        }
        size_t unit = (size_t)VEC_UNIT * v->m * sizeof(uint32_t);
        char *p = vec_grab(v, more * unit, &rc);
        LR_FAIL_IF(!p, rc);
        memset(p, 0xff, more * unit);
        for (size_t i = 0; i < more; i++)
            vec_updir(v)->u[have + i] = (_Atomic uint32_t *)(void *)(p + i * unit);
        v->up_cap += (uint32_t)(more * VEC_UNIT);
    }
    return 0;
}

int vec_lists(struct lr_vec *v, uint32_t slot, unsigned level)
{
    LR_TRY(grow_lists(v, slot));
    return level ? grow_upper(v, v->up_used + level) : 0;
}

static int grow_map(struct lr_vec *v)
{
    size_t live = atomic_load_explicit(&v->live, memory_order_relaxed);
    if ((live + 1) * 3 <= v->map_size * 2)
        return 0;
    size_t size = v->map_size ? 2 * v->map_size : 64, bytes = size * sizeof(uint32_t);
    struct lr_vec_arena *a = v->arena;
    size_t used = lr_vec_arena_used(a);
    LR_FAIL_IF(bytes > a->max || used > a->max - bytes, LR_EOVER);
    uint32_t *map = lr_alloc(bytes), *old = v->map;
    LR_FAIL_IF(!map, LR_ENOMEM);
    size_t old_size = v->map_size;
    memset(map, 0xff, bytes);
    v->map = map;
    v->map_size = size;
    struct dir *d = vec_dir(v);
    for (size_t i = 0; i < old_size; i++)
        if (old[i] != VEC_NONE)
            vec_map_set(v, vec_meta(v, d, old[i])->id, old[i]);
    lr_free(old);
    size_t more = bytes - old_size * sizeof(uint32_t);
    atomic_store_explicit(&a->used, used + more, memory_order_relaxed);
    atomic_fetch_add_explicit(&v->bytes, more, memory_order_relaxed);
    return 0;
}

int vec_reserve(struct lr_vec *v, bool lists, uint32_t *slot)
{
    LR_TRY(grow_map(v));
    uint32_t n = atomic_load_explicit(&v->n, memory_order_relaxed);
    uint32_t s = v->free_head != VEC_SLOT_MASK ? v->free_head : n;
    if (s == v->cap)
        LR_TRY(grow_slots(v));
    bool has = s < n && vec_meta(v, vec_dir(v), s)->upper;
    if (lists)
        LR_TRY(vec_lists(v, s, has ? 0 : vec_level(v, s)));
    *slot = s;
    return 0;
}

/* ---- Map --------------------------------------------------------------------------------------*/

static size_t home(const struct lr_vec *v, uint64_t id)
{
    return mix64(id ^ v->o.seed) & (v->map_size - 1);
}

uint32_t vec_find(const struct lr_vec *v, uint64_t id)
{
    if (!v->map_size)
        return VEC_NONE;
    struct dir *d = vec_dir(v);
    for (size_t i = home(v, id); v->map[i] != VEC_NONE; i = (i + 1) & (v->map_size - 1))
        if (vec_meta(v, d, v->map[i])->id == id)
            return v->map[i];
    return VEC_NONE;
}

void vec_map_set(struct lr_vec *v, uint64_t id, uint32_t slot)
{
    struct dir *d = vec_dir(v);
    size_t i = home(v, id);
    while (v->map[i] != VEC_NONE && vec_meta(v, d, v->map[i])->id != id)
        i = (i + 1) & (v->map_size - 1);
    v->map[i] = slot;
}

/* Linear probing without gravestones: what was pushed past the hole moves back into it. */
void vec_map_drop(struct lr_vec *v, uint64_t id)
{
    struct dir *d = vec_dir(v);
    size_t mask = v->map_size - 1, hole = home(v, id);
    while (vec_meta(v, d, v->map[hole])->id != id)
        hole = (hole + 1) & mask;
    v->map[hole] = VEC_NONE;
    for (size_t i = (hole + 1) & mask; v->map[i] != VEC_NONE; i = (i + 1) & mask) {
        size_t want = home(v, vec_meta(v, d, v->map[i])->id);
        if (((i - want) & mask) >= ((i - hole) & mask)) {
            v->map[hole] = v->map[i];
            v->map[i] = VEC_NONE;
            hole = i;
        }
    }
}

/* ---- Slots ------------------------------------------------------------------------------------*/

/* To the nearest integer, even on ties; |x| < 2^22. (lrintf is a call for each.) */
static inline int32_t nearest(float x)
{
    float y = x + 12582912.0f; /* 1.5 * 2^23: the fraction is rounded away */
    int32_t bits;
    memcpy(&bits, &y, sizeof bits);
    return bits - 0x4b400000;
}

static float largest(const float *x, size_t n)
{
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    return max;
}

static void encode_i12(const struct lr_vec *v, const float *x, float inv, uint8_t *at, uint8_t *low)
{
    memset(low, 0x88, v->pad / 2);
    for (size_t i = 0; i < v->o.dim; i++) {
        int32_t u = nearest(x[i] * inv * 16); /* -2032..2032 */
        int32_t hi = (u + 2048 + 8) / 16 - 128, lo = u - 16 * hi;
        at[i] = (uint8_t)(hi + 128);
        uint8_t *b = low + i / 32 * 16 + i % 16;
        uint8_t nibble = (uint8_t)(lo + 8);
        *b = (uint8_t)(i % 32 < 16 ? (*b & 0xf0) | nibble : (*b & 0x0f) | nibble << 4);
    }
}

static float encode(const struct lr_vec *v, struct dir *d, uint32_t slot, const float *x)
{
    uint8_t *at = vec_at(v, d, slot);
    if (v->o.type == LR_VEC_F32) {
        memcpy(at, x, v->o.dim * sizeof(float));
        return 1;
    }
    float scale = largest(x, v->o.dim) / 127, inv = 1 / scale;
    memset(at + v->o.dim, 128, v->pad - v->o.dim);
    if (v->o.type == LR_VEC_I12)
        encode_i12(v, x, inv, at, vec_low(v, d, slot));
    else
        for (size_t i = 0; i < v->o.dim; i++)
            at[i] = (uint8_t)(nearest(x[i] * inv) + 128);
    return scale;
}

static void publish(struct lr_vec *v, struct dir *d, uint32_t slot, float scale)
{
    union {
        float f;
        uint32_t u;
    } mark = {.f = scale};
    atomic_store_explicit(vec_mark(v, d, slot), mark.u, memory_order_release);
}

/* Slot of vec_reserve's, taken: off the free list, or the next new one. */
static struct meta *own(struct lr_vec *v, struct dir *d, uint32_t slot)
{
    struct meta *m = vec_meta(v, d, slot);
    if (slot == atomic_load_explicit(&v->n, memory_order_relaxed)) {
        m->upper = 0;
        m->level = vec_level(v, slot) & 15;
        atomic_store_explicit(&v->n, slot + 1, memory_order_release);
    } else {
        v->free_head = m->next;
    }
    m->state = SLOT_LIVE;
    return m;
}

void vec_take(struct lr_vec *v, uint32_t slot, uint64_t id, const float *x)
{
    struct dir *d = vec_dir(v);
    struct meta *m = own(v, d, slot);
    m->id = id;
    float scale = encode(v, d, slot, x);
    vec_map_set(v, id, slot);
    publish(v, d, slot, scale);
    atomic_fetch_add_explicit(&v->live, 1, memory_order_relaxed);
}

void vec_bury(struct lr_vec *v, uint32_t slot)
{
    struct dir *d = vec_dir(v);
    struct meta *m = vec_meta(v, d, slot);
    atomic_fetch_or_explicit(vec_mark(v, d, slot), VEC_DEAD, memory_order_release);
    m->state = SLOT_DEAD;
    m->next = v->dead_head & VEC_SLOT_MASK;
    v->dead_head = slot;
    v->n_dead++;
    atomic_fetch_sub_explicit(&v->live, 1, memory_order_relaxed);
}

void vec_decode(const struct lr_vec *v, uint32_t slot, float *x)
{
    struct dir *d = vec_dir(v);
    const uint8_t *at = vec_at(v, d, slot);
    if (v->o.type == LR_VEC_F32) {
        memcpy(x, at, v->o.dim * sizeof(float));
        return;
    }
    float scale = vec_scale(atomic_load_explicit(vec_mark(v, d, slot), memory_order_relaxed));
    const uint8_t *low = vec_low(v, d, slot);
    for (size_t i = 0; i < v->o.dim; i++) {
        float lo = 0;
        if (v->o.type == LR_VEC_I12) {
            uint8_t b = low[i / 32 * 16 + i % 16];
            lo = (float)((i % 32 < 16 ? b & 15 : b >> 4) - 8) / 16;
        }
        x[i] = scale * ((float)(at[i] - 128) + lo);
    }
}

/* ---- Records of files -------------------------------------------------------------------------*/

size_t vec_record_bytes(const struct lr_vec *v)
{
    size_t dim = v->o.dim;
    if (v->o.type == LR_VEC_F32)
        return dim * sizeof(float);
    return sizeof(float) + dim + (v->o.type == LR_VEC_I12 ? round_up(dim, 32) / 2 : 0);
}

void vec_record_write(const struct lr_vec *v, uint32_t slot, uint8_t *record)
{
    struct dir *d = vec_dir(v);
    size_t dim = v->o.dim;
    if (v->o.type == LR_VEC_F32) {
        memcpy(record, vec_at(v, d, slot), dim * sizeof(float));
        return;
    }
    uint32_t mark = atomic_load_explicit(vec_mark(v, d, slot), memory_order_relaxed);
    lr_put_le32(record, mark & ~VEC_DEAD);
    memcpy(record + sizeof mark, vec_at(v, d, slot), dim);
    if (v->o.type == LR_VEC_I12)
        memcpy(record + sizeof mark + dim, vec_low(v, d, slot), round_up(dim, 32) / 2);
}

static float record_fill(const struct lr_vec *v, uint32_t slot, const uint8_t *record)
{
    struct dir *d = vec_dir(v);
    size_t dim = v->o.dim;
    uint8_t *at = vec_at(v, d, slot);
    if (v->o.type == LR_VEC_F32) {
        memcpy(at, record, dim * sizeof(float));
        return 1;
    }
    float scale;
    memcpy(&scale, record, sizeof scale);
    memset(at, 128, v->pad);
    memcpy(at, record + sizeof scale, dim);
    if (v->o.type == LR_VEC_I12) {
        memset(vec_low(v, d, slot), 0x88, v->pad / 2);
        memcpy(vec_low(v, d, slot), record + sizeof scale + dim, round_up(dim, 32) / 2);
    }
    return scale;
}

/* Near unit length: rounding may take a little away. NaN is not. */
static bool plausible(const struct lr_vec *v, struct dir *d, uint32_t slot, float scale)
{
    const uint8_t *at = vec_at(v, d, slot);
    const float *x = (const float *)(const void *)at;
    double sum = 0;
    for (size_t i = 0; i < v->o.dim; i++) {
        double c = v->o.type == LR_VEC_F32 ? (double)x[i] : (double)scale * (at[i] - 128);
        sum += c * c;
    }
    return scale > 0 && sum > 0.8 && sum < 1.2;
}

int vec_record_read(struct lr_vec *v, uint64_t id, const uint8_t *record, bool lists,
                    unsigned level)
{
    LR_TRY(grow_map(v));
    uint32_t slot = atomic_load_explicit(&v->n, memory_order_relaxed);
    if (slot == v->cap)
        LR_TRY(grow_slots(v));
    if (lists)
        LR_TRY(vec_lists(v, slot, level));
    LR_FAIL_IF(vec_find(v, id) != VEC_NONE, LR_ECORRUPT);
    float scale = record_fill(v, slot, record);
    LR_FAIL_IF(!plausible(v, vec_dir(v), slot, scale), LR_ECORRUPT);
    struct meta *m = own(v, vec_dir(v), slot);
    m->level = level & 15;
    m->id = id;
    if (lists && level) {
        m->upper = v->up_used;
        v->up_used += level;
    }
    vec_map_set(v, id, slot);
    publish(v, vec_dir(v), slot, scale);
    atomic_fetch_add_explicit(&v->live, 1, memory_order_relaxed);
    return 0;
}

/* ---- Queries ----------------------------------------------------------------------------------*/

void vec_query(const struct lr_vec *v, struct lr_vec_reader *r, const float *q)
{
    memcpy(r->qf, q, v->o.dim * sizeof(float));
    memset(r->qf + v->o.dim, 0, (v->pad - v->o.dim) * sizeof(float));
    r->scale = 1;
    if (v->o.type == LR_VEC_F32)
        return;
    r->scale = largest(q, v->o.dim) / 127;
    float inv = 1 / r->scale;
    int32_t sum = 0;
    for (size_t i = 0; i < v->pad; i++) {
        r->q8[i] = (int8_t)nearest(r->qf[i] * inv);
        sum += r->q8[i];
    }
    r->bias = 128 * sum;
}

void vec_query_slot(const struct lr_vec *v, struct lr_vec_reader *r, uint32_t slot)
{
    struct dir *d = vec_dir(v);
    const uint8_t *at = vec_at(v, d, slot);
    r->scale = vec_scale(atomic_load_explicit(vec_mark(v, d, slot), memory_order_relaxed));
    if (v->o.type == LR_VEC_F32) {
        memcpy(r->qf, at, v->pad * sizeof(float));
        return;
    }
    int32_t sum = 0;
    for (size_t i = 0; i < v->pad; i++) {
        r->q8[i] = (int8_t)(at[i] ^ 0x80);
        sum += r->q8[i];
    }
    r->bias = 128 * sum;
}
