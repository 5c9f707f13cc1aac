/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_policy.c - the text of a policy stack, a line break, the text of a budget.
 *
 * A stack is parsed or refused with a sentence; its canonical text is parsed to the same stack and the
 * same text. A budget likewise; the two are held against each other, and rows are shared out by them.
 */
#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_same(const struct lr_policy_stack *a, const struct lr_policy_stack *b)
{
    MUST(strcmp(a->text, b->text) == 0 && a->n_part == b->n_part && a->flags == b->flags);
    MUST(a->codec == b->codec);
    const int role[2][3] = {{a->budget, a->evict, a->select}, {b->budget, b->evict, b->select}};
    for (int i = 0; i < 3; i++) {
        const struct lr_policy *p = lr_policy_stack_role(a, role[0][i]);
        MUST(p == lr_policy_stack_role(b, role[1][i]));
        for (uint32_t k = 0; p && k < p->n_params; k++)
            MUST(a->part[role[0][i]].param[k] == b->part[role[1][i]].param[k]);
    }
}

static void check_budget(const struct lr_policy_stack *s, struct lr_str text)
{
    struct lr_policy_budget b;
    struct lr_err err = {0}, why = {0};
    uint32_t tables = 6, rows[6], scratch[6];
    int rc = lr_policy_budget_parse(text, &b, &err);
    MUST(rc == 0 || err.msg[0]);
    if (rc)
        return;
    for (int capped = 0; capped < 2; capped++) {
        why = (struct lr_err){0};
        rc = lr_policy_budget_check(s, &b, tables, 4096, 32, capped, &why);
        MUST(rc == 0 || why.msg[0]);
    }
    if (rc || b.kind == LR_POLICY_BUDGET_NONE)
        return;
    for (uint32_t len = 1; len < 1u << 28; len *= 7) {
        uint32_t each = lr_policy_budget_rows(&b, len, tables, 4096, 32);
        MUST(each >= 1);
        MUST(b.kind != LR_POLICY_BUDGET_FRACTION || each <= len);
        for (uint32_t i = 0; i < tables; i++)
            rows[i] = 1 + each / (i + 1);
        lr_policy_budget_pages(rows, tables, 64, 32, scratch);
        uint64_t pages = 0;
        for (uint32_t i = 0; i < tables; i++)
            pages += rows[i] / 32 + 1;
        MUST(pages <= 64);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lr_str budget = lr_str(data, size), text = lr_str_cut(&budget, '\n');
    struct lr_policy_stack s, again;
    struct lr_err err = {0};
    int rc = lr_policy_stack_parse(text, &s, &err);
    MUST(rc == 0 || err.msg[0]);
    if (rc)
        return 0;
    MUST(strlen(s.text) < sizeof s.text);
    MUST(lr_policy_stack_parse(lr_strz(s.text), &again, &err) == 0);
    check_same(&s, &again);
    check_budget(&s, budget);
    return 0;
}
