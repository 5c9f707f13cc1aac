/* SPDX-License-Identifier: Apache-2.0
 * policy/policy.h - the list of KV policies and codecs, stacks of them from text, and budgets.
 *
 *   stack    part { "+" part }          "pyramid+snapkv:window=16,gqa=max+saw-int4"
 *   part     name [ ":" key "=" value { "," key "=" value } ]
 *   budget   "128" rows a table | "25%" of the tokens | "8M" bytes in all
 *
 * A part's name says its role: policies with a budget hook share rows among tables, those with an edit
 * hook evict, those with a select hook choose what is read, codecs store. At most one part a role, in
 * any order; what is missing is the plain thing (equal budgets, no eviction, every row, f16).
 *
 * All of this is pure: views in, decisions out. The engine (engine/host.c) owns rows and calls hooks.
 */
#ifndef LR_POLICY_POLICY_H
#define LR_POLICY_POLICY_H

#include "base/base.h"
#include "kern/kern.h"
#include "larder/policy.h"

#define LR_POLICY_PARTS 3u     /* policies of a stack: budget, evict, select */
#define LR_POLICY_TEXT 256u    /* a stack as text, its NUL included */
#define LR_POLICY_NAME_MAX 31u
#define LR_POLICY_PLUGINS_MAX 32u /* policies, and codecs, that plug-ins may add */

/* ---- the list ---- */

/* Number i, built-in ones first, NULL from their number on. */
const struct lr_policy *lr_policy_at(size_t i);
const struct lr_policy_codec *lr_policy_codec_at(size_t i);
/* NULL: none of that name. */
const struct lr_policy *lr_policy_find(struct lr_str name);
const struct lr_policy_codec *lr_policy_codec_find(struct lr_str name);
/* Adds what a plug-in brings (static tables of the plug-in), all or nothing. At start, before other
 * threads look: the list has no lock. LR_EVERSION: another ABI or size; LR_EEXIST: a name is taken;
 * LR_EUNSUPPORTED: reserved hooks; LR_EINVAL: a table that cannot be; LR_EOVER. */
int lr_policy_register(const struct lr_policy_plugin *p, struct lr_err *err);

/* ---- stacks ---- */

struct lr_policy_part {
    const struct lr_policy *policy;
    double param[LR_POLICY_PARAMS_MAX];
};

/* A value: it may be copied. Tables it points to live for ever. */
struct lr_policy_stack {
    struct lr_policy_part part[LR_POLICY_PARTS];
    uint32_t n_part;
    int budget, evict, select; /* the part that has the role; -1: none */
    const struct lr_policy_codec *codec; /* NULL: the engine's */
    uint32_t flags;                      /* of all parts, or-ed */
    char text[LR_POLICY_TEXT];           /* canonical: roles in order, parameters that differ from
                                            their defaults; parses to the same stack */
};

/* One clear error that names the part: LR_ENOENT (no such policy; the list), LR_EINVAL (parameter),
 * LR_EUNSUPPORTED (does not compose: says why). Empty text is "full". */
int lr_policy_stack_parse(struct lr_str text, struct lr_policy_stack *out, struct lr_err *err);
static inline void lr_policy_stack_copy(struct lr_policy_stack *to, const struct lr_policy_stack *from)
{
    *to = *from;
}
/* The policy that has a role (budget, evict or select of the stack), or NULL. */
static inline const struct lr_policy *lr_policy_stack_role(const struct lr_policy_stack *s, int role)
{
    return role < 0 ? NULL : s->part[role].policy;
}
static inline bool lr_policy_stack_evicts(const struct lr_policy_stack *s)
{
    return s->evict >= 0 && s->part[s->evict].policy->edit;
}

/* ---- budgets ---- */

enum lr_policy_budget_kind {
    LR_POLICY_BUDGET_NONE,
    LR_POLICY_BUDGET_ROWS,     /* of each (layer, KV head), on average */
    LR_POLICY_BUDGET_FRACTION, /* of the tokens fed at the last end of a prompt */
    LR_POLICY_BUDGET_BYTES,    /* of all tables: measured, whole pages */
};
struct lr_policy_budget {
    enum lr_policy_budget_kind kind;
    uint32_t rows;
    double fraction; /* in (0, 1] */
    uint64_t bytes;
};

/* "128", "25%", "0.25", "8M" (a suffix makes it bytes), "" or "none". LR_EINVAL: zero, above 100 %. */
int lr_policy_budget_parse(struct lr_str text, struct lr_policy_budget *out, struct lr_err *err);
/* LR_EINVAL, with a sentence, when stack and budget make no sense together: eviction without a budget,
 * a budget that nothing keeps, one that is zero or less than a page for each of the tables; `capped`
 * with a policy that cannot. page_bytes, page_rows: of the codec. */
int lr_policy_budget_check(const struct lr_policy_stack *s, const struct lr_policy_budget *b,
                           uint32_t tables, uint32_t page_bytes, uint32_t page_rows, bool capped,
                           struct lr_err *err);
/* Rows for each table when all get the same, after `len` tokens; at least 1. Bytes give whole pages
 * less one row, which the next token takes before another one is evicted. */
uint32_t lr_policy_budget_rows(const struct lr_policy_budget *b, uint32_t len, uint32_t tables,
                               uint32_t page_bytes, uint32_t page_rows);
/* Brings uneven rows (tables) down to whole pages, less one row each, of at most `pages` in all; what
 * rounding left over goes to the tables that lost most by it. pages >= tables. scratch: (tables). */
void lr_policy_budget_pages(uint32_t *rows, uint32_t tables, uint64_t pages, uint32_t page_rows,
                            uint32_t *scratch);

#endif
