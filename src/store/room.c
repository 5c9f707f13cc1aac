/* SPDX-License-Identifier: Apache-2.0
 * store/room.c - memory for objects: one reserved region, spans for large ones, slabs for small.
 *
 *   region  | span: 2049 granules | free: 300 | slab: 16 granules [o][o][ ][o].. | span | free ... |
 *   tags    | L..............L    | L....L    | own granule number in each       |      |
 *
 * Idea. A KV chunk must be contiguous (one send, one write, no gather) and is as large as 512 MiB,
 * and most of a store's chunks have one size that nobody knows in advance. So the region is not
 * cut into arenas per size, which calcify when the size changes: spans of 4 KiB granules are
 * carved out where they fit and melt together again when freed. Free spans hang in lists by size
 * class, eight a doubling (TLSF: Masmano, Ripoll, Crespo, Real, ECRTS 2004), so a fit is found in
 * constant time; the exact class is looked through for a while first, since the space that a chunk
 * left is just as large as the next chunk, and rounding up would pass it by.
 *
 * Up to SMALL_MAX bytes objects share slabs of 64 KiB, in classes of four a doubling; a slab that
 * becomes empty is a free span again, so these do not calcify either.
 *
 * The region is reserved at open and touched only as it is used; huge pages are asked for (they
 * halve the cost of a 32 MiB copy that misses the TLB) and may be refused. Waste: under one granule
 * a span, at most a quarter of a small object, and 24 bytes of tags a granule (0.6 %).
 *
 * One lock, a leaf: every operation is a few dozen instructions.
 *
 * Invariants: spans tile the region; no two neighbours are both free; a free span is in exactly the
 * list of its class; the tags of first and last granule of a span agree.
 */
#include "store/store_int.h"

#include <assert.h>
#include <sys/mman.h>

#define GRAIN       LR_ROOM_GRAIN
#define FL          32u /* doublings of span length in granules */
#define SL          8u  /* classes a doubling */
#define LOOK_MAX    64u /* spans of the exact class looked at */
#define SLAB_GRAINS 16u
#define SMALL_MIN   256u
#define SMALL_MAX   LR_KIB(8)
#define CLASSES     21u /* 256 B to 8 KiB */
#define NIL         UINT32_MAX

enum state { FREE = 1, SPAN, SLAB };

struct tag {
    uint32_t len;        /* granules; first and last of a span */
    uint32_t prev, next; /* free: list links. slab: prev = its first granule, in every granule */
    uint8_t state;       /* enum state; first and last of a span, every granule of a slab */
};

struct slab {
    uint32_t first;       /* granule */
    uint16_t class, used; /* pieces */
    struct slab *prev, *next;
    uint64_t taken[SLAB_GRAINS * GRAIN / SMALL_MIN / 64]; /* a bit a piece */
};

struct lr_room {
    pthread_mutex_t mu; /* guards all below; a leaf */
    uint8_t *base;
    uint32_t n; /* granules */
    struct tag *tags;
    struct slab **slabs; /* by first granule / nothing else; n entries, NULL but at slabs */
    uint32_t list[FL][SL];
    uint32_t fl_map;
    uint8_t sl_map[FL];
    struct slab *partial[CLASSES]; /* slabs with room */
    uint64_t used;                 /* bytes */
};

/* ---- classes ---- */

static void class_of(uint32_t len, unsigned *fl, unsigned *sl)
{
    unsigned top = 31u - (unsigned)__builtin_clz(len);
    *fl = top;
    *sl = top >= 3 ? (len >> (top - 3)) & 7 : (len << (3 - top)) & 7;
}

static unsigned small_class(size_t n)
{
    if (n <= SMALL_MIN)
        return 0;
    unsigned top = 63u - (unsigned)__builtin_clzll(n - 1); /* 2^top < n <= 2^(top+1) */
    return (top - 8) * 4 + (unsigned)((n - 1) >> (top - 2) & 3) + 1;
}

static size_t small_bytes(unsigned class)
{
    if (class == 0)
        return SMALL_MIN;
    unsigned top = (class - 1) / 4 + 8;
    return ((size_t)1 << top) + (((class - 1) % 4 + 1) * ((size_t)1 << (top - 2)));
}

/* ---- spans ---- */

static void mark(struct lr_room *r, uint32_t at, uint32_t len, enum state s)
{
    r->tags[at].len = r->tags[at + len - 1].len = len;
    r->tags[at].state = r->tags[at + len - 1].state = (uint8_t)s;
}

static void hang(struct lr_room *r, uint32_t at, uint32_t len)
{
    unsigned fl, sl;
    class_of(len, &fl, &sl);
    mark(r, at, len, FREE);
    r->tags[at].prev = NIL;
    r->tags[at].next = r->list[fl][sl];
    if (r->list[fl][sl] != NIL)
        r->tags[r->list[fl][sl]].prev = at;
    r->list[fl][sl] = at;
    r->fl_map |= 1u << fl;
    r->sl_map[fl] |= (uint8_t)(1u << sl);
}

static void unhang(struct lr_room *r, uint32_t at)
{
    struct tag *t = &r->tags[at];
    unsigned fl, sl;
    class_of(t->len, &fl, &sl);
    if (t->next != NIL)
        r->tags[t->next].prev = t->prev;
    if (t->prev != NIL)
        r->tags[t->prev].next = t->next;
    else
        r->list[fl][sl] = t->next;
    if (r->list[fl][sl] == NIL && !(r->sl_map[fl] &= (uint8_t)~(1u << sl)))
        r->fl_map &= ~(1u << fl);
}

/* A free span of at least len granules, NIL when there is none that is found cheaply. */
static uint32_t fit(const struct lr_room *r, uint32_t len)
{
    unsigned fl, sl;
    class_of(len, &fl, &sl);
    uint32_t at = r->list[fl][sl];
    for (unsigned k = 0; at != NIL && k < LOOK_MAX; k++, at = r->tags[at].next)
        if (r->tags[at].len >= len)
            return at;
    unsigned above = r->sl_map[fl] & (0xFEu << sl) & 0xFFu;
    if (!above) {
        uint32_t map = fl == 31 ? 0 : r->fl_map & (UINT32_MAX << (fl + 1));
        if (!map)
            return NIL;
        fl = (unsigned)__builtin_ctz(map);
        above = r->sl_map[fl];
    }
    return r->list[fl][__builtin_ctz(above)];
}

static uint32_t take_span(struct lr_room *r, uint32_t len)
{
    uint32_t at = fit(r, len);
    if (at == NIL)
        return NIL;
    uint32_t whole = r->tags[at].len;
    unhang(r, at);
    if (whole > len)
        hang(r, at + len, whole - len);
    mark(r, at, len, SPAN);
    r->used += (uint64_t)len * GRAIN;
    return at;
}

static void give_span(struct lr_room *r, uint32_t at)
{
    uint32_t len = r->tags[at].len;
    r->used -= (uint64_t)len * GRAIN;
    if (at + len < r->n && r->tags[at + len].state == FREE) {
        uint32_t more = r->tags[at + len].len;
        unhang(r, at + len);
        len += more;
    }
    if (at && r->tags[at - 1].state == FREE) {
        uint32_t before = r->tags[at - 1].len;
        at -= before;
        unhang(r, at);
        len += before;
    }
    hang(r, at, len);
}

/* ---- slabs ---- */

static void link_slab(struct lr_room *r, struct slab *b)
{
    b->prev = NULL;
    b->next = r->partial[b->class];
    if (b->next)
        b->next->prev = b;
    r->partial[b->class] = b;
}

static void unlink_slab(struct lr_room *r, struct slab *b)
{
    if (b->next)
        b->next->prev = b->prev;
    if (b->prev)
        b->prev->next = b->next;
    else
        r->partial[b->class] = b->next;
}

static unsigned pieces_of(unsigned class)
{
    return (unsigned)(SLAB_GRAINS * GRAIN / small_bytes(class));
}

static struct slab *new_slab(struct lr_room *r, unsigned class)
{
    struct slab *b = lr_new(struct slab);
    uint32_t at = b ? take_span(r, SLAB_GRAINS) : NIL;
    if (at == NIL) {
        lr_free(b);
        return NULL;
    }
    for (uint32_t k = 0; k < SLAB_GRAINS; k++) {
        r->tags[at + k].state = SLAB;
        r->tags[at + k].prev = at;
    }
    b->first = at;
    b->class = (uint16_t)class;
    r->slabs[at] = b;
    link_slab(r, b);
    return b;
}

static void *take_small(struct lr_room *r, size_t n)
{
    unsigned class = small_class(n), pieces = pieces_of(class);
    struct slab *b = r->partial[class] ? r->partial[class] : new_slab(r, class);
    if (!b)
        return NULL;
    unsigned i = 0;
    while (b->taken[i / 64] == UINT64_MAX)
        i += 64;
    i += (unsigned)__builtin_ctzll(~b->taken[i / 64]);
    assert(i < pieces);
    b->taken[i / 64] |= 1ull << (i % 64);
    if (++b->used == pieces)
        unlink_slab(r, b);
    return r->base + (size_t)b->first * GRAIN + i * small_bytes(class);
}

static void give_small(struct lr_room *r, uint32_t first, const uint8_t *p)
{
    struct slab *b = r->slabs[first];
    size_t i = (size_t)(p - (r->base + (size_t)first * GRAIN)) / small_bytes(b->class);
    assert(b->taken[i / 64] >> (i % 64) & 1);
    b->taken[i / 64] &= ~(1ull << (i % 64));
    if (b->used-- == pieces_of(b->class))
        link_slab(r, b);
    if (b->used)
        return;
    unlink_slab(r, b);
    for (uint32_t k = 0; k < SLAB_GRAINS; k++)
        r->tags[first + k].state = 0;
    mark(r, first, SLAB_GRAINS, SPAN);
    r->slabs[first] = NULL;
    give_span(r, first);
    lr_free(b);
}

/* ---- the door ---- */

int lr_room_open(struct lr_room **out, uint64_t bytes)
{
    LR_FAIL_IF(bytes / GRAIN < SLAB_GRAINS || bytes / GRAIN >= UINT32_MAX / 2, LR_EINVAL);
    struct lr_room *r = lr_new(struct lr_room);
    LR_FAIL_IF(!r, LR_ENOMEM);
    r->n = (uint32_t)(bytes / GRAIN);
    r->tags = lr_calloc(r->n, sizeof r->tags[0]);
    r->slabs = lr_calloc(r->n, sizeof(struct slab *));
    void *base = MAP_FAILED;
    if (r->tags && r->slabs && !lr_fault_here())
        base = mmap(NULL, (size_t)r->n * GRAIN, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        lr_free(r->tags);
        lr_free(r->slabs);
        lr_free(r);
        return LR_ENOMEM;
    }
    (void)madvise(base, (size_t)r->n * GRAIN, MADV_HUGEPAGE); /* only faster when it works */
    (void)madvise(base, (size_t)r->n * GRAIN, MADV_DONTDUMP); /* users' data: not in core files */
    r->base = base;
    memset(r->list, 0xFF, sizeof r->list);
    hang(r, 0, r->n);
    pthread_mutex_init(&r->mu, NULL);
    *out = r;
    return 0;
}

void lr_room_close(struct lr_room *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->n; i++)
        lr_free(r->slabs[i]);
    munmap(r->base, (size_t)r->n * GRAIN);
    pthread_mutex_destroy(&r->mu);
    lr_free(r->slabs);
    lr_free(r->tags);
    lr_free(r);
}

size_t lr_room_charge(size_t n)
{
    return n <= SMALL_MAX ? small_bytes(small_class(n)) : (n + GRAIN - 1) / GRAIN * GRAIN;
}

void *lr_room_take(struct lr_room *r, size_t n)
{
    if (n == 0 || n > (uint64_t)r->n * GRAIN)
        return NULL;
    pthread_mutex_lock(&r->mu);
    void *p;
    if (n <= SMALL_MAX) {
        p = take_small(r, n);
    } else {
        uint32_t at = take_span(r, (uint32_t)((n + GRAIN - 1) / GRAIN));
        p = at == NIL ? NULL : r->base + (size_t)at * GRAIN;
    }
    pthread_mutex_unlock(&r->mu);
    return p;
}

void lr_room_give(struct lr_room *r, void *p)
{
    uint32_t at = (uint32_t)((size_t)((uint8_t *)p - r->base) / GRAIN);
    pthread_mutex_lock(&r->mu);
    if (r->tags[at].state == SLAB)
        give_small(r, r->tags[at].prev, p);
    else
        give_span(r, at);
    pthread_mutex_unlock(&r->mu);
}

uint64_t lr_room_used(struct lr_room *r)
{
    pthread_mutex_lock(&r->mu);
    uint64_t n = r->used;
    pthread_mutex_unlock(&r->mu);
    return n;
}

uint64_t lr_room_max(const struct lr_room *r)
{
    return (uint64_t)r->n * GRAIN;
}

/* Walks all granules: tests call it after every few steps. */
bool lr_room_sound(struct lr_room *r)
{
    bool ok = true;
    uint64_t used = 0;
    unsigned before = 0;
    pthread_mutex_lock(&r->mu);
    for (uint32_t at = 0; at < r->n && ok;) {
        const struct tag *t = &r->tags[at];
        uint32_t len = t->state == SLAB ? SLAB_GRAINS : t->len;
        ok = len && len <= r->n - at && (t->state != FREE || before != FREE) &&
             (t->state == SLAB || r->tags[at + len - 1].len == len);
        used += t->state == FREE ? 0 : (uint64_t)len * GRAIN;
        before = t->state;
        at += len ? len : 1;
    }
    ok = ok && used == r->used;
    pthread_mutex_unlock(&r->mu);
    return ok;
}
