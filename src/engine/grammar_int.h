/* SPDX-License-Identifier: Apache-2.0
 * engine/grammar_int.h - a compiled grammar, and where a document stands in it.
 */
#ifndef LR_ENGINE_GRAMMAR_INT_H
#define LR_ENGINE_GRAMMAR_INT_H

#include "engine/engine.h"

#define LR_GRAM_NONE     UINT32_MAX
#define LR_GRAM_PROPS    256u  /* declared properties of an object */
#define LR_GRAM_KEYS     1024u /* undeclared keys of an object */
#define LR_GRAM_THREADS  512u  /* readings of one document at a time */
#define LR_GRAM_FRAMES   (1u << 20)
#define LR_GRAM_INFINITE 0xFFFFu

/* ---- grammar ---- */

enum lr_gram_kind {
    LR_GRAM_ALT, /* one of kids */
    LR_GRAM_LIT, /* exactly these bytes */
    LR_GRAM_STR, /* min..max characters */
    LR_GRAM_NUM,
    LR_GRAM_INT,
    LR_GRAM_OBJ, /* declared properties in order, then others */
    LR_GRAM_ARR  /* min..max of item */
};

struct lr_gram_node {
    enum lr_gram_kind kind;
    uint32_t from, n;  /* ALT: kid[from, from + n); LIT: bytes; OBJ: prop */
    uint32_t item;     /* ARR: of elements; OBJ: of undeclared keys; LR_GRAM_NONE: none allowed */
    uint32_t min, max; /* ARR, STR; max LR_GRAM_NONE: no end */
    uint32_t need;     /* containers in each other that the smallest instance has */
};

struct lr_gram_prop {
    uint32_t from, n; /* bytes: the name in quotes */
    uint32_t node;
    uint32_t must;  /* first required one from here on; the object's n: none */
    bool required;
    uint64_t hash;  /* of the name without quotes */
};

struct lr_engine_grammar {
    struct lr_gram_node *node;
    size_t n_node, cap_node;
    struct lr_gram_prop *prop;
    size_t n_prop, cap_prop;
    uint32_t *kid;
    size_t n_kid, cap_kid;
    struct lr_buf bytes;
    uint32_t root;
};

/* Makes room for one more element of an array that doubles. */
int lr_gram_grow(void **array, size_t n, size_t *cap, size_t size);
int lr_gram_add(struct lr_engine_grammar *g, const struct lr_gram_node *n, uint32_t *out);
/* The node of any JSON value. */
int lr_gram_any(struct lr_engine_grammar *g, uint32_t *out);
int lr_gram_lit(struct lr_engine_grammar *g, struct lr_str s, uint32_t *out);
/* Fills `need`; LR_EINVAL when the root has no finite instance, LR_EOVER: none that is not too deep. */
int lr_gram_measure(struct lr_engine_grammar *g, struct lr_err *err);
#define LR_GRAM_HASH 0xcbf29ce484222325u /* FNV-1a */
static inline uint64_t lr_gram_hash(uint64_t h, uint8_t c)
{
    return (h ^ c) * 0x100000001b3u;
}

/* ---- documents ---- */

/* A reading: the innermost value, and through `up` those around it. */
struct lr_gram_thread {
    uint32_t up;   /* frame of what is around it; LR_GRAM_NONE: nothing */
    uint32_t node; /* LR_GRAM_NONE: the document is over */
    uint8_t st, ws, depth, x;
    uint32_t a, b;
    uint32_t keys; /* OBJ: last of the undeclared keys seen */
    uint32_t n_keys;
    uint64_t h;
};

struct lr_gram_key {
    uint32_t prev;
    uint64_t hash;
};

struct lr_engine_parse {
    const struct lr_engine_grammar *g;
    struct lr_gram_thread *frame; /* (n_frame) only ever appended to, but for rollback */
    size_t n_frame, cap_frame;
    struct lr_gram_key *key;
    size_t n_key, cap_key;
    struct lr_gram_thread *thread; /* levels one behind the other; level 0 from 0 */
    size_t n_thread, cap_thread;
    size_t from;  /* first thread of the level being made */
    size_t n_now; /* threads of level 0 */
    int rc;       /* LR_ENOMEM, sticks */
    struct lr_gram_level *level;
    size_t cap_level;
};

/* Level d holds the readings after d bytes; going back to it forgets what was made since. */
struct lr_gram_level {
    size_t from, n, frames, keys;
};

/* From the level `in` by one byte; false: it cannot follow. */
bool lr_gram_step(struct lr_engine_parse *p, const struct lr_gram_level *in, uint8_t c,
                  struct lr_gram_level *out);
/* Room for `depth` levels beyond level 0, which is filled in. */
int lr_gram_levels(struct lr_engine_parse *p, size_t depth);
/* The reading is in the middle of a string, between characters; *room: how many more fit. */
bool lr_gram_in_text(const struct lr_engine_parse *p, const struct lr_gram_thread *t, uint32_t *room);

#endif
