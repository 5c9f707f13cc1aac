/* SPDX-License-Identifier: Apache-2.0
 * match/gate.c - the gates: each a question about two sets of facts, in the order of their cost.
 *
 * Most are equality of sets: an answer about 5 km is none about 6, nor about "5" alone. Three are
 * weaker, because people leave things out when they say something again:
 *   names     each name of one question must be among the words of the other, with a capital or
 * not; antonyms  refuse only contradiction (both speak of an axis, at different ends); order
 * refuses only the same pair the other way round.
 */
#include "match/match_int.h"

/* The facts of one kind. */
static const struct lr_fact *of_kind(const struct lr_facts *f, unsigned kind, size_t *n)
{
    size_t i = 0;
    while (i < f->n && f->fact[i].kind < kind)
        i++;
    *n = 0;
    while (i + *n < f->n && f->fact[i + *n].kind == kind)
        ++*n;
    return f->fact + i;
}

static bool equal(const struct lr_facts *a, const struct lr_facts *b, enum lr_fact_kind kind)
{
    size_t na, nb;
    const struct lr_fact *x = of_kind(a, kind, &na), *y = of_kind(b, kind, &nb);
    if (na != nb)
        return false;
    for (size_t i = 0; i < na; i++)
        if (x[i].hash != y[i].hash)
            return false;
    return true;
}

static const struct lr_fact *find(const struct lr_fact *f, size_t n, uint32_t hash)
{
    size_t lo = 0;
    while (n) {
        size_t half = n / 2;
        if (f[lo + half].hash < hash) {
            lo += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return f + lo; /* the first that is not smaller; maybe the end */
}

static bool has(const struct lr_fact *f, size_t n, uint32_t hash)
{
    const struct lr_fact *p = find(f, n, hash);
    return p < f + n && p->hash == hash;
}

/* All facts of one kind in a are among those of another kind in b. */
static bool covered(const struct lr_facts *a, enum lr_fact_kind kind, const struct lr_facts *b,
                    enum lr_fact_kind in)
{
    size_t na, nb;
    const struct lr_fact *x = of_kind(a, kind, &na), *y = of_kind(b, in, &nb);
    for (size_t i = 0; i < na; i++)
        if (!has(y, nb, x[i].hash))
            return false;
    return true;
}

static bool same_names(const struct lr_facts *a, const struct lr_facts *b)
{
    return covered(a, LR_FACT_NAME, b, LR_FACT_WORD) && covered(b, LR_FACT_NAME, a, LR_FACT_WORD);
}

static bool contradict(const struct lr_facts *a, const struct lr_facts *b)
{
    size_t na, nb;
    const struct lr_fact *x = of_kind(a, LR_FACT_POLE, &na), *y = of_kind(b, LR_FACT_POLE, &nb);
    for (size_t i = 0; i < na; i++) {
        const struct lr_fact *p = find(y, nb, x[i].hash);
        if (p < y + nb && p->hash == x[i].hash && p->aux != x[i].aux)
            return true;
    }
    return false;
}

static bool turned(const struct lr_facts *a, const struct lr_facts *b)
{
    size_t na, nb;
    const struct lr_fact *x = of_kind(a, LR_FACT_PAIR, &na), *y = of_kind(b, LR_FACT_BACK, &nb);
    for (size_t i = 0; i < na; i++)
        if (has(y, nb, x[i].hash))
            return true;
    return false;
}

static bool same_language(const struct lr_facts *a, const struct lr_facts *b)
{
    return a->script == b->script && (!a->language || !b->language || a->language == b->language);
}

const char *lr_gate(const struct lr_facts *a, const struct lr_facts *b)
{
    static const struct {
        enum lr_fact_kind kind;
        const char *name;
    } sets[] = {{LR_FACT_NUMBER, "numbers"}, {LR_FACT_UNIT, "units"},
                {LR_FACT_DATE, "dates"},     {LR_FACT_CODE, "code"},
                {LR_FACT_QUOTE, "quotes"},   {LR_FACT_NEGATION, "negation"}};
    for (size_t i = 0; i < LR_COUNT(sets); i++)
        if (!equal(a, b, sets[i].kind))
            return sets[i].name;
    if (!same_names(a, b))
        return "names";
    if (contradict(a, b))
        return "antonyms";
    if (turned(a, b))
        return "order";
    return same_language(a, b) ? NULL : "language";
}
