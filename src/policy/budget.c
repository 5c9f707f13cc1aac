/* SPDX-License-Identifier: Apache-2.0
 * policy/budget.c - how many rows: from rows, a share of the context, or bytes.
 *
 *   bytes    whole pages are what memory is made of:  pages = bytes / page_bytes, shared evenly
 *            a table of p pages gets p * page_rows - 1 rows: the next token fits before one leaves,
 *            so the bytes are held while decoding too, not only after each eviction
 *
 * Rows of uneven budgets come from a policy as it likes them; under a budget in bytes each table is cut to
 * whole pages and what that left over goes, a page at a time, to the tables that lost the largest part
 * of one (largest remainder; ties to the lower index).
 */
#include "policy/policy_int.h"

static int refuse(struct lr_err *err, struct lr_str text)
{
    return lr_err_set(err, LR_EINVAL, "budget",
                      "'%.*s' is no budget: rows (128), a share above 0 (25%%, 0.25) or bytes (8M)",
                      LR_FMT(text));
}

static int parse_fraction(struct lr_str text, double scale, struct lr_policy_budget *out)
{
    double x;
    if (lr_parse_real(text, &x) || !(x * scale > 0) || x * scale > 1)
        return LR_EINVAL;
    *out = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_FRACTION, .fraction = x * scale};
    return 0;
}

int lr_policy_budget_parse(struct lr_str text, struct lr_policy_budget *out, struct lr_err *err)
{
    text = lr_str_trim(text);
    struct lr_policy_budget b = {.kind = LR_POLICY_BUDGET_NONE};
    uint64_t n;
    if (!text.n || lr_str_is(text, "none")) {
        *out = b;
        return 0;
    }
    if (text.p[text.n - 1] == '%') {
        if (parse_fraction(lr_str(text.p, text.n - 1), 0.01, &b))
            return refuse(err, text);
    } else if (!lr_parse_u64(text, &n)) {
        if (!n || n >= LR_POLICY_NO_LIMIT)
            return refuse(err, text);
        b = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_ROWS, .rows = (uint32_t)n};
    } else if (parse_fraction(text, 1, &b)) {
        if (lr_parse_size(text, &n) || !n)
            return refuse(err, text);
        b = (struct lr_policy_budget){.kind = LR_POLICY_BUDGET_BYTES, .bytes = n};
    }
    *out = b;
    return 0;
}

static bool is_zero(const struct lr_policy_budget *b)
{
    return (b->kind == LR_POLICY_BUDGET_ROWS && !b->rows) ||
           (b->kind == LR_POLICY_BUDGET_BYTES && !b->bytes) ||
           (b->kind == LR_POLICY_BUDGET_FRACTION && !(b->fraction > 0 && b->fraction <= 1));
}

int lr_policy_budget_check(const struct lr_policy_stack *s, const struct lr_policy_budget *b,
                           uint32_t tables, uint32_t page_bytes, uint32_t page_rows, bool capped,
                           struct lr_err *err)
{
    const struct lr_policy *evict = lr_policy_stack_role(s, s->evict);
    const char *name = evict ? evict->name : "this stack";
    uint64_t least = (uint64_t)tables * page_bytes;
    if (is_zero(b))
        return lr_err_set(err, LR_EINVAL, "budget", "a budget of nothing keeps nothing");
    if (!lr_policy_stack_evicts(s)) {
        if (b->kind != LR_POLICY_BUDGET_NONE || capped)
            return lr_err_set(err, LR_EINVAL, "budget", "%s keeps every row: no budget holds it", name);
        return 0;
    }
    if (b->kind == LR_POLICY_BUDGET_NONE)
        return lr_err_set(err, LR_EINVAL, "budget", "%s needs a budget", name);
    if (b->kind == LR_POLICY_BUDGET_BYTES && b->bytes < least)
        return lr_err_set(err, LR_EINVAL, "budget",
                          "%llu bytes are less than a page of %u rows for each of %u tables: %llu",
                          (unsigned long long)b->bytes, page_rows, tables, (unsigned long long)least);
    for (uint32_t i = 0; capped && i < s->n_part; i++)
        if (!(s->part[i].policy->flags & LR_POLICY_CAPPED))
            return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                              "%s decides at the end of a prompt: it cannot cap one",
                              s->part[i].policy->name);
    return 0;
}

uint32_t lr_policy_budget_rows(const struct lr_policy_budget *b, uint32_t len, uint32_t tables,
                               uint32_t page_bytes, uint32_t page_rows)
{
    uint64_t rows = LR_POLICY_NO_LIMIT;
    if (b->kind == LR_POLICY_BUDGET_ROWS)
        rows = b->rows;
    else if (b->kind == LR_POLICY_BUDGET_FRACTION)
        rows = (uint64_t)(b->fraction * len);
    else if (b->kind == LR_POLICY_BUDGET_BYTES)
        rows = b->bytes / page_bytes / tables * page_rows - 1;
    rows = MIN_OF(rows, LR_POLICY_NO_LIMIT - 1);
    return b->kind == LR_POLICY_BUDGET_NONE ? LR_POLICY_NO_LIMIT : (uint32_t)MAX_OF(rows, 1);
}

void lr_policy_budget_pages(uint32_t *rows, uint32_t tables, uint64_t pages, uint32_t page_rows,
                            uint32_t *scratch)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < tables; i++) {
        uint64_t want = (uint64_t)rows[i] + 1;
        uint64_t whole = MAX_OF(want / page_rows, 1);
        scratch[i] = want > whole * page_rows ? (uint32_t)(want - whole * page_rows) : 0; /* lost */
        rows[i] = (uint32_t)whole;
        used += whole;
    }
    while (used > pages) { /* tables below a page were given one: the largest pay */
        uint32_t most = 0;
        for (uint32_t i = 1; i < tables; i++)
            most = rows[i] > rows[most] ? i : most;
        rows[most]--;
        used--;
    }
    for (; used < pages; used++) {
        uint32_t most = 0;
        for (uint32_t i = 1; i < tables; i++)
            most = scratch[i] > scratch[most] ? i : most;
        if (!scratch[most])
            break;
        scratch[most] = 0;
        rows[most]++;
    }
    for (uint32_t i = 0; i < tables; i++)
        rows[i] = rows[i] * page_rows - 1;
}
