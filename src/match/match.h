/* SPDX-License-Identifier: Apache-2.0
 * match/match.h - may the answer to one question stand for the answer to another?
 *
 *   lr_facts_read     text -> what must be equal: numbers, names, negation, code ...   microseconds
 *   lr_gate           two sets of facts -> the name of the gate that refuses, or NULL
 *   lr_sketch_*       text -> 128 bytes that tell how many words and pieces of words two texts share
 *   lr_bound_*        labels of the past -> may we serve at this score and still be wrong at most d?
 *   lr_category_*     which rules a question is under; lr_pressure_*: how far load may relax them
 *
 * A cosine cannot tell "enable 2FA" from "disable 2FA"; sets can. The gates refuse only: passing all
 * of them means that nothing known speaks against it, and the verifier (embed/) still has to agree.
 *
 * Pure: no clock, thread, file or heap; every function may run on any number of threads at once. All
 * memory is the caller's and of fixed size. Texts may be any bytes: malformed UTF-8 separates words.
 */
#ifndef LR_MATCH_MATCH_H
#define LR_MATCH_MATCH_H

#include "base/base.h"

/* ---- facts (facts.c) ---- */

#define LR_FACTS_TEXT_MAX 4096u /* bytes of a question; longer ones are not for paraphrase */
#define LR_FACTS_MAX      512u  /* facts of a text */

enum lr_fact_kind {
    LR_FACT_NUMBER = 1, /* 2, two, 2nd and 2.0 are one */
    LR_FACT_UNIT,       /* km and kilometres are one */
    LR_FACT_DATE,       /* months, days of the week, dates that could be read two ways */
    LR_FACT_CODE,       /* identifiers, paths, flags, addresses, what stands in back-ticks */
    LR_FACT_QUOTE,      /* quoted strings of two words and more */
    LR_FACT_NEGATION,   /* how many */
    LR_FACT_NAME,       /* words with a capital that needs an explanation; quoted single words */
    LR_FACT_POLE,       /* hash: the axis; aux: its ends, as bits */
    LR_FACT_WORD,       /* words that carry a topic, plural and possessive taken off */
    LR_FACT_PAIR,       /* x to y, x than y ...: direction and both words */
    LR_FACT_BACK,       /* y to x, for each pair */
};
struct lr_fact {
    uint32_t hash; /* keyed */
    uint16_t kind, aux;
};

/* Sorted by kind and hash, each once. fact points to the caller's memory (or a copy). */
struct lr_facts {
    const struct lr_fact *fact;
    uint16_t n;
    uint8_t script;   /* of most letters: a number of facts.c's; 0: no letters */
    uint8_t language; /* 0: cannot tell */
    bool dated;       /* the answer depends on when it is asked: never stored or served by meaning */
};

/* Facts of a question into room[LR_FACTS_MAX]. key: secret of the deployment: equal facts have equal
 * hashes under one key only. LR_EOVER: the text or its facts are too many: no semantic reuse. */
int lr_facts_read(struct lr_str text, uint64_t key, struct lr_fact room[LR_FACTS_MAX],
                  struct lr_facts *out);

/* ---- gates (gate.c) ---- */

/* NULL when every gate lets one answer serve both, else the gate that does not: "numbers", "units",
 * "dates", "code", "quotes", "negation", "names", "antonyms", "order", "language". Static text.
 * Symmetric. */
const char *lr_gate(const struct lr_facts *a, const struct lr_facts *b);

/* ---- sketches (sketch.c) ---- */

#define LR_SKETCH_BINS 64u

/* Minima of keyed hashes of words and of runs of four letters. A text without either has an empty
 * sketch. */
struct lr_sketch {
    uint16_t bin[LR_SKETCH_BINS];
    bool empty;
};
void lr_sketch_read(struct lr_str text, uint64_t key, struct lr_sketch *out);
/* Estimated part of their features that two texts share (Jaccard, 0 to 1; standard error 0.06 at
 * worst). Empty sketches share nothing. */
float lr_sketch_same(const struct lr_sketch *a, const struct lr_sketch *b);

#endif
