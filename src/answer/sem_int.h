/* SPDX-License-Identifier: Apache-2.0
 * answer/sem_int.h - the semantic shelf for itself: entries, partitions, tenants, their locks.
 *
 *   tenant ---- arena of vectors, its writers' lock
 *     +-- partition (partition digest + parent) -- list of entries, and from SEM_YOUNG on an index
 *           +-- entry -- facts, sketch, labels, text; the vector only while the partition is young
 *   keys: entry by document key       turns: entry by turn id (its own, and those it was served to)
 *
 * Locks. mu guards every table and list. A tenant's wmu is held by whoever changes its indexes or the
 * membership of its partitions, and is taken before mu. Readers hold mu while they look up and judge,
 * not while they search an index: they are in the hall meanwhile, so that it cannot go away.
 */
#ifndef LR_ANSWER_SEM_INT_H
#define LR_ANSWER_SEM_INT_H

#include "answer/answer.h"
#include "vec/vec.h"

#define SEM_YOUNG       32u    /* entries of a partition that are compared one by one */
#define SEM_TENANTS_MAX 65536u
#define SEM_ALIASES_MAX 16u    /* turn ids of an entry */
#define SEM_FLOOD_SLOTS 512u
#define SEM_FLOOD_KEPT  16u    /* newest questions of a writer */
#define SEM_FLOOD_MANY  8u     /* of them alike within SEM_FLOOD_MS: no more */
#define SEM_FLOOD_ALIKE 0.8f
#define SEM_FLOOD_MS    3600000u

/* First eight bytes of a digest to a pointer. Digests are keyed hashes: nobody can aim at a cell. */
struct sem_map {
    struct sem_cell {
        uint64_t key;
        void *p; /* NULL: free */
    } *cells;
    size_t n, cap; /* cap: a power of two, at most 3/4 full */
};
int sem_map_add(struct sem_map *m, uint64_t key, void *p);
void *sem_map_find(const struct sem_map *m, uint64_t key);
void sem_map_del(struct sem_map *m, uint64_t key);

struct sem_alias {
    struct lr_digest turn;
    struct sem_entry *entry;
    struct sem_alias *next; /* of the entry */
};

struct sem_entry {
    struct lr_digest key, said, turn;
    struct sem_part *part;
    struct sem_alias *aliases;
    size_t n_aliases;
    struct sem_entry *older, *newer; /* of the category */
    struct sem_entry *next, *prev;   /* of the partition */
    float *vector;                   /* NULL: in the partition's index */
    struct lr_facts facts;
    struct lr_sketch sketch;
    struct lr_bound_seen seen;
    struct lr_str text, before;
    uint64_t writer, created_ms;
    size_t bytes; /* charged */
    uint8_t category, agreed;
    /* text, before and facts lie behind */
};

struct sem_part {
    struct lr_digest id;
    struct sem_tenant *tenant;
    struct lr_vec *vec; /* NULL: young */
    struct sem_entry *first;
    size_t n;
};

struct sem_tenant {
    uint64_t id;
    struct lr_vec_arena *arena;
    pthread_mutex_t wmu;
};

struct sem_list {
    struct sem_entry *oldest, *newest;
    uint64_t bytes;
};

struct sem_flood {
    uint64_t writer;
    uint64_t at_ms[SEM_FLOOD_KEPT];
    struct lr_sketch sketch[SEM_FLOOD_KEPT];
    unsigned n;
};

struct lr_sem {
    struct lr_sem_opts opts;
    struct lr_vec_hall *hall;
    pthread_mutex_t mu; /* everything below */
    struct sem_map keys, turns, parts, tenants;
    struct sem_list category[LR_SEM_CATEGORIES];
    struct lr_bound bound[LR_SEM_CATEGORIES];
    struct sem_flood *flood; /* (SEM_FLOOD_SLOTS) */
    uint64_t bytes, aliases, evicted, floods;
};

struct lr_sem_reader {
    struct lr_sem *sem;
    struct lr_vec_reader *vec;
};

static inline uint64_t sem_id(const struct lr_digest *d)
{
    return lr_le64(d->b);
}
/* The partition of a tenant's request behind `parent`. */
void sem_part_id(const struct lr_digest *partition, const struct lr_digest *parent, uint64_t tenant,
                 struct lr_digest *out);
struct sem_entry *sem_entry_locked(const struct lr_sem *s, const struct lr_digest *key);
int sem_tenant_locked(struct lr_sem *s, uint64_t id, struct sem_tenant **out);
/* LR_EINVAL: what lr_sem_put does not take. */
int sem_check(const struct lr_sem_note *note, const struct lr_sem_question *q);
/* Into the partition, with labels from elsewhere (NULL: none); evicts. */
int sem_insert(struct lr_sem *s, struct sem_tenant *t, const struct lr_digest *part_id,
               const struct lr_sem_note *note, const struct lr_sem_question *q,
               const struct lr_bound_seen *seen, uint8_t agreed);
/* The entry's vector into x (dim floats) and its partition. LR_ENOENT. Takes both locks. */
int sem_vector(struct lr_sem *s, const struct lr_digest *key, float *x, struct lr_digest *part_id);
struct sem_part *sem_part_locked(const struct lr_sem *s, const struct lr_digest *id);

#endif
