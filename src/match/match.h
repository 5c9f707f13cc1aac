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

/* ---- the learned bound (bound.c) ----
 *
 * A score here is the verifier's probability that the answers agree, in (0, 1). A label says of one
 * question that came near an entry whether the entry's answer was right for it. The promise is about
 * P(wrong | served): of the answers served by meaning, at most max_error are wrong, at the confidence
 * LR_BOUND_CONFIDENCE, as long as labels are drawn from the same traffic. */

#define LR_BOUND_CONFIDENCE 0.95
#define LR_BOUND_BINS       64u
#define LR_BOUND_SEEN       16u /* newest labels kept of an entry */
#define LR_BOUND_YOUNG      6u  /* fewer labels than these say nothing about an entry (vCache) */

/* Labels of all entries that share traffic and verifier: a tenant's, or a category's. All zero: none
 * yet. Plain data: store it as it is (docs/formats). */
struct lr_bound {
    uint32_t right[LR_BOUND_BINS], wrong[LR_BOUND_BINS];
};
/* Labels of one entry, newest last. */
struct lr_bound_seen {
    uint8_t n;
    uint16_t right;             /* bit i: label i */
    float score[LR_BOUND_SEEN]; /* of label i */
};

void lr_bound_add(struct lr_bound *b, float score, bool right);
void lr_bound_see(struct lr_bound_seen *e, float score, bool right);
/* All counts halved: labels of long ago weigh less. */
void lr_bound_age(struct lr_bound *b);
/* Upper end of the interval for a rate of which `wrong` of n were seen (Clopper and Pearson, one
 * side, LR_BOUND_CONFIDENCE); 1 for n = 0. */
double lr_bound_upper(uint64_t wrong, uint64_t n);

struct lr_bound_floor {
    float score;     /* serve from here on; above 1: never */
    bool learned;    /* by labels; else 1 - max_error, which trusts the verifier's calibration */
    uint64_t n;      /* labels at or above it */
    uint64_t wrong;  /* of these */
    double upper;    /* of the error there */
};
/* Lowest score whose labels, and those of every step above it, keep the upper end of the error within
 * max_error. max_error in (0, 1); outside it nothing is served. */
void lr_bound_floor(const struct lr_bound *b, double max_error, struct lr_bound_floor *out);

/* The score corrected by what is known of this entry: lower by how much its labels were worse than
 * their scores said, higher only when the correction is sure. Young entries: unchanged. */
float lr_bound_correct(const struct lr_bound_seen *e, float score);
/* vCache's estimate for comparison (Schroeder et al. 2025): a lower bound of P(right | score) from a
 * logistic curve through the entry's own labels alone; 0 while young. */
double lr_bound_vcache(const struct lr_bound_seen *e, float score);

/* ---- load (pressure.c) ---- */

/* How far rules may be relaxed, 0 (calm) to 1, by how late or long the queue of the upstream is. */
struct lr_pressure {
    double level;    /* what lr_pressure_update returned */
    double smooth;   /* load relative to its target, smoothed */
    uint64_t at_ns;  /* of the last update; 0: none */
    bool raised;
};
struct lr_pressure_opts {
    double latency_s, queue;  /* targets; 0: not looked at */
    double half_life_s;       /* of the smoothing; 0: 10 */
    double enter, leave, full; /* load at which it begins (0: 1.2), ends (0: 0.9), is full (0: 2) */
};
/* latency of a finished request and requests waiting now. Monotonic time. Between leave and enter the
 * level keeps its state, so that it does not flutter. */
double lr_pressure_update(struct lr_pressure *p, const struct lr_pressure_opts *o, double latency_s,
                          double queue, uint64_t now_ns);

/* What may be done with questions of one kind. */
struct lr_rules {
    double max_error;  /* tolerated share of wrong answers; 0: nothing is served by meaning */
    double min_score;  /* and never below this score */
    uint64_t ttl_ms;   /* 0: nothing is stored */
    bool store, serve;
};
/* The stricter of both in every respect: what a header of the client may do. */
void lr_rules_tighten(struct lr_rules *r, const struct lr_rules *by);
/* Relaxed by the level of pressure: min_score lower by at most slack, ttl longer by at most the
 * factor stretch (>= 1). max_error is the user's and stays. */
void lr_rules_relax(struct lr_rules *r, double level, double slack, double stretch);
/* Hit rate from which a cache pays: lookups cost look_s, hits hit_s, misses look_s and llm_s (Category
 * -Aware Semantic Caching, 2510.26835): look / (llm + look - hit); 1 when it never does. */
double lr_break_even(double look_s, double hit_s, double llm_s);

/* Whether a rule's phrase (words, folded) stands in the text as whole words. */
bool lr_category_says(struct lr_str text, struct lr_str phrase);
/* The centroid nearest to q, rows of dim floats of unit length; -1: none reaches floor. */
int lr_category_nearest(const float *centroids, size_t n, size_t dim, const float *q, float floor);

#endif
