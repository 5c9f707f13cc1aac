/* SPDX-License-Identifier: Apache-2.0
 * vec/vec_int.h - what the files of vec/ share. The picture of memory is in store.c, the threads'
 * rules in hall.c, the walk in graph.c.
 */
#ifndef LR_VEC_VEC_INT_H
#define LR_VEC_VEC_INT_H

#include "vec/vec.h"

#include <pthread.h>
#include <stdatomic.h>

#define VEC_NONE      UINT32_MAX
#define VEC_SLOT_MASK (LR_VEC_MAX - 1)
#define VEC_UNIT      64         /* slots of a unit, lists of an upper unit */
#define VEC_LEVELS    12         /* upper levels at most */
#define VEC_DEAD      (1u << 31) /* in a mark: not to be answered */

/* ---- dot.c ------------------------------------------------------------------------------------*/

/* Inner products of one query with n stored vectors. pad: coordinates, a multiple of 64 (bytes) or
 * 16 (floats). A stored byte is 128 more than its coordinate; bias is 128 times the sum of the
 * query's. */
struct dots {
    const char *name;
    void (*i8)(const int8_t *q, int32_t bias, const uint8_t *const *x, size_t n, size_t pad,
               int32_t *out);
    void (*f32)(const float *q, const uint8_t *const *x, size_t n, size_t pad, float *out);
    /* Sum of q times (x - 128), and of q times the signed nibbles at low. */
    float (*wide)(const float *q, const uint8_t *x, size_t pad);
    float (*nibbles)(const float *q, const uint8_t *low, size_t pad);
};
const struct dots *vec_dots(void);
/* For tests: the i-th this machine can run, slowest first; NULL from their number on. */
const struct dots *vec_dots_variant(size_t i);

/* ---- hall.c -----------------------------------------------------------------------------------*/

struct block { /* before every allocation of an index */
    struct block *next;
    size_t bytes;
    char *p; /* aligned to 64 */
};

struct lr_vec_hall {
    pthread_mutex_t mu; /* the list of readers */
    struct lr_vec_reader *readers;
    _Atomic uint64_t epoch; /* from 1 on; grows by one at each retirement */
};

struct lr_vec_arena {
    struct lr_vec_hall *hall;
    size_t max;
    _Atomic size_t used;
    struct lr_vec *closed;     /* waiting for readers to leave; the writer's */
    struct lr_vec_reader *own; /* the writer's scratch; its place in the hall stays empty */
};

struct near { /* a vector seen on a walk */
    float sim;
    uint32_t slot; /* with VEC_NEAR_* */
};
#define VEC_NEAR_DONE (1u << 31) /* its links were followed */
#define VEC_NEAR_DEAD (1u << 30)
#define VEC_NEAR_SLOT (VEC_NEAR_DEAD - 1)

/* The best seen so far, best first: up to ef live ones and as many dead. */
struct pool {
    struct near *e;
    size_t n, live, ef;
    size_t next; /* none before it is open */
    float worst; /* a newcomer must be above it */
    float bar;   /* entries above it are progress */
    bool progress;
};

#define VEC_MORE  8 /* ranked beyond k, where the walk compares rounded vectors */
#define VEC_POOL  (2 * (LR_VEC_K_MAX + VEC_MORE) + 2) /* entries a pool may need */
#define VEC_ROUND (2 * LR_VEC_M_MAX)                  /* links of a node at most */
#define VEC_MANY  512                                 /* candidates when a list is mended */

struct lr_vec_reader {
    struct lr_vec_hall *hall;
    struct lr_vec_reader *next;
    char before[64];     /* the writer looks at the next word: it shares a line with nothing */
    _Atomic uint64_t at; /* epoch it entered in; 0 = outside */
    char behind[64];
    unsigned depth;
    struct pool pool;
    uint64_t *seen; /* a bit a slot, clear between walks */
    size_t seen_slots;
    uint32_t *touched; /* words of seen to clear */
    size_t n_touched, touched_max;
    size_t looked;
    float *qf; /* the query, padded */
    int8_t *q8;
    int32_t bias;
    float scale;
};

/* A retirement: what was unlinked before this call is unreachable for readers who enter after it.
 */
uint64_t vec_retire(struct lr_vec_hall *h);
/* Have all readers who entered up to `tag` left? */
bool vec_passed(struct lr_vec_hall *h, uint64_t tag);
/* Scratch for walks over `slots` slots. */
int vec_reader_room(struct lr_vec_reader *r, size_t slots);
int vec_reader_new(struct lr_vec_hall *h, struct lr_vec_reader **out);
void vec_reader_free(struct lr_vec_reader *r);
/* Charges and takes n zeroed bytes, aligned to 64; NULL: *rc says why. */
void *vec_grab(struct lr_vec *v, size_t n, int *rc);
void vec_free(struct lr_vec *v);
/* Frees what was closed and is left by all. */
void vec_reap(struct lr_vec_arena *a);

/* ---- store.c ----------------------------------------------------------------------------------*/

/* Of the writer: reusable; live; dead; dead and in the pass under way; waiting for readers. */
enum state { SLOT_FREE, SLOT_LIVE, SLOT_DEAD, SLOT_BATCH, SLOT_LIMBO };

struct meta {
    uint64_t id;    /* written before the mark says live, stays until readers have left */
    uint32_t upper; /* its upper lists: number of the first, if level > 0 */
    /* The writer's own: */
    uint32_t next : 25;
    uint32_t state : 3;
    uint32_t level : 4;
};

struct unit {
    uint8_t *slots;          /* vectors, low nibbles, marks, meta: see store.c */
    _Atomic uint32_t *links; /* level 0; NULL while flat */
};

struct dir {
    size_t cap;
    struct unit u[];
};
struct updir {
    size_t cap;
    _Atomic uint32_t *u[];
};

struct lr_vec {
    struct lr_vec_arena *arena;
    struct lr_vec_opts o;
    const struct dots *dots;
    size_t pad;                         /* coordinates with padding */
    size_t stride;                      /* bytes of a vector */
    size_t off_low, off_mark, off_meta; /* in a unit */
    size_t unit_bytes;
    unsigned m, m0;

    /* Read by readers, stored with release by the writer. */
    _Atomic(struct dir *) dir;
    _Atomic(struct updir *) updir;
    _Atomic uint32_t n; /* slots ever used */
    _Atomic uint32_t live;
    _Atomic uint64_t entry; /* slot | level << 32, or VEC_NONE */
    _Atomic bool graph;     /* complete: readers walk it */
    _Atomic size_t bytes;

    /* The writer's. */
    bool building; /* links exist for slots below `linked` */
    uint32_t linked;
    uint32_t cap;        /* slots there is memory for, all of them in the directory */
    uint32_t linked_cap; /* of these with lists */
    uint32_t up_used, up_cap;
    uint32_t *map;   /* id to slot, open addressing; VEC_NONE = empty */
    size_t map_size; /* power of two */
    /* Chains through meta.next, each ended by VEC_SLOT_MASK: to be reused; dead; the dead of the
     * pass under way; named by nothing, waiting for the readers who entered before limbo_tag. */
    uint32_t free_head, dead_head, batch_head, limbo_head;
    uint32_t n_dead;
    uint64_t limbo_tag;
    bool passing; /* a tidying pass is under way, at `cursor` */
    uint32_t cursor;
    struct block *blocks;
    struct lr_vec *next_closed;
    uint64_t closed_tag;
};

static inline uint8_t *vec_at(const struct lr_vec *v, const struct dir *d, uint32_t slot)
{
    return d->u[slot / VEC_UNIT].slots + (size_t)(slot % VEC_UNIT) * v->stride;
}
static inline uint8_t *vec_low(const struct lr_vec *v, const struct dir *d, uint32_t slot)
{
    return d->u[slot / VEC_UNIT].slots + v->off_low + (size_t)(slot % VEC_UNIT) * (v->pad / 2);
}
static inline _Atomic uint32_t *vec_mark(const struct lr_vec *v, const struct dir *d, uint32_t slot)
{
    return (_Atomic uint32_t *)(void *)(d->u[slot / VEC_UNIT].slots + v->off_mark) +
           slot % VEC_UNIT;
}
static inline struct meta *vec_meta(const struct lr_vec *v, const struct dir *d, uint32_t slot)
{
    return (struct meta *)(void *)(d->u[slot / VEC_UNIT].slots + v->off_meta) + slot % VEC_UNIT;
}
static inline _Atomic uint32_t *vec_links(const struct lr_vec *v, const struct dir *d,
                                          uint32_t slot)
{
    return d->u[slot / VEC_UNIT].links + (size_t)(slot % VEC_UNIT) * v->m0;
}
static inline _Atomic uint32_t *vec_uplinks(const struct lr_vec *v, const struct updir *d,
                                            uint32_t upper, unsigned level)
{
    uint32_t list = upper + level - 1;
    return d->u[list / VEC_UNIT] + (size_t)(list % VEC_UNIT) * v->m;
}
static inline struct dir *vec_dir(const struct lr_vec *v)
{
    return atomic_load_explicit(&v->dir, memory_order_acquire);
}
static inline struct updir *vec_updir(const struct lr_vec *v)
{
    return atomic_load_explicit(&v->updir, memory_order_acquire);
}
/* A mark is the bits of the vector's scale, its sign the flag. */
static inline float vec_scale(uint32_t mark)
{
    union {
        uint32_t u;
        float f;
    } x = {.u = mark & ~VEC_DEAD};
    return x.f;
}

/* Everything a put may need, so that what follows cannot fail: a slot (in *slot), its lists, room
 * in the map. The slot is not taken until vec_take. */
int vec_reserve(struct lr_vec *v, bool lists, uint32_t *slot);
void vec_take(struct lr_vec *v, uint32_t slot, uint64_t id, const float *x);
/* Memory for the lists of a slot whose upper ones (level of them, 0: has them) are not there yet.
 */
int vec_lists(struct lr_vec *v, uint32_t slot, unsigned level);
uint32_t vec_find(const struct lr_vec *v, uint64_t id);
void vec_map_set(struct lr_vec *v, uint64_t id, uint32_t slot);
void vec_map_drop(struct lr_vec *v, uint64_t id);
/* Marks dead and chains it to the dead. */
void vec_bury(struct lr_vec *v, uint32_t slot);
/* The coordinates as stored. */
void vec_decode(const struct lr_vec *v, uint32_t slot, float *x);
/* The query into the reader's scratch. */
void vec_query(const struct lr_vec *v, struct lr_vec_reader *r, const float *q);
/* The stored vector of slot as a query. */
void vec_query_slot(const struct lr_vec *v, struct lr_vec_reader *r, uint32_t slot);
int vec_make(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct lr_vec **out);
unsigned vec_level(const struct lr_vec *v, uint32_t slot);

/* The bytes of a vector in a file: scale, coordinates, low halves (docs/formats/index.md). */
size_t vec_record_bytes(const struct lr_vec *v);
void vec_record_write(const struct lr_vec *v, uint32_t slot, uint8_t *record);
/* The next slot, from a file: with memory for lists if `lists`. LR_ECORRUPT for an id that is there
 * already or what is no vector. */
int vec_record_read(struct lr_vec *v, uint64_t id, const uint8_t *record, bool lists,
                    unsigned level);

/* ---- walk.c -----------------------------------------------------------------------------------*/

/* What one walk loaded once. */
struct view {
    const struct lr_vec *v;
    struct lr_vec_reader *r;
    struct dir *d;
    struct updir *up;
    uint32_t n; /* slots the directories cover; links to later ones are passed over */
};

static inline uint32_t vec_get(const _Atomic uint32_t *p)
{
    return atomic_load_explicit(p, memory_order_acquire);
}
static inline _Atomic uint32_t *vec_links_of(const struct view *w, uint32_t slot, unsigned level)
{
    return level ? vec_uplinks(w->v, w->up, vec_meta(w->v, w->d, slot)->upper, level)
                 : vec_links(w->v, w->d, slot);
}

/* The first time on this walk? */
static inline bool vec_see(struct lr_vec_reader *r, uint32_t slot)
{
    uint64_t bit = 1ull << slot % 64, *w = &r->seen[slot / 64];
    if (*w & bit)
        return false;
    if (!*w)
        r->touched[r->n_touched++] = slot / 64;
    *w |= bit;
    return true;
}
/* The walk is over. */
void vec_unsee(struct lr_vec_reader *r);
/* Similarities of the query in w->r to up to VEC_ROUND + 1 slots; their marks as well. */
void vec_compare(const struct view *w, const uint32_t *slot, size_t n, float *sim, uint32_t *mark);
void vec_fetch(const struct view *w, uint32_t slot);
/* From the entry (seen afresh) down to above `level`; the pool is where to go on from. */
void vec_walk_down(const struct view *w, uint64_t entry, unsigned level);
/* On from the pool: the best ef of this level. */
void vec_walk_level(const struct view *w, unsigned level, size_t ef);
/* The best few become the start of the level below. */
void vec_descend(const struct view *w);
/* All of the above for the query in r; the best are in r->pool. *gave_up: the floor ended it early.
 * LR_ENOMEM when the scratch cannot grow. */
int vec_walk(const struct lr_vec *v, struct lr_vec_reader *r, size_t ef, float floor,
             bool *gave_up);
/* Compares every live slot below n; the best ef are in r->pool. */
void vec_scan(const struct lr_vec *v, struct lr_vec_reader *r, size_t ef, uint32_t n);

/* ---- graph.c ----------------------------------------------------------------------------------*/

/* Links a live slot into the graph. Its lists have memory, the arena's own reader has room. */
void vec_link(struct lr_vec *v, uint32_t slot);
/* Some of the work that deletes leave; a pass looks through `slots` slots' lists. */
void vec_tidy(struct lr_vec *v, size_t slots);
/* No list names a dead one afterwards. */
void vec_tidy_all(struct lr_vec *v);

#endif
