/* SPDX-License-Identifier: Apache-2.0
 * policy/stack.c - text to a stack of parts, each with its role; what does not compose is refused.
 *
 *   pyramid + snapkv:window=16,gqa=max + saw-int4
 *   budget    evict                     codec
 *
 * The order in which parts act is fixed by what they need of each other (which rows exist, which are
 * read, how they are stored), so the order of the text means nothing, and the canonical text has one.
 *
 * What composes (the rows of docs/policies.md's table):
 *   budget x evict            free: rows from one, scores from the other
 *   evict x codec             free: rows are stored one by one, and scores see keys as attention does
 *   evict x select            free: rows are chosen among survivors
 *   two of one role           refused: who would win?
 *   budget without evict      refused: rows would be promised away and never given up
 *   mutate x lossy codec      refused: merging rows that were encoded loses twice
 *   capped x needs the prompt refused (budget.c), lossless x budget likewise
 */
#include "policy/policy_int.h"

/* ---- parameters ---- */

/* Adds words to a text that is cut where it is full. */
static void list(char *to, size_t size, const char *sep, const char *word)
{
    size_t n = strlen(to);
    for (; *sep && n + 1 < size; sep++)
        to[n++] = *sep;
    for (; *word && n + 1 < size; word++)
        to[n++] = *word;
    to[n] = 0;
}

static int no_param(const struct lr_policy *p, struct lr_str key, struct lr_err *err)
{
    char all[120] = "";
    for (uint32_t i = 0; i < p->n_params; i++)
        list(all, sizeof all, i ? ", " : "; there are ", p->params[i].name);
    return lr_err_set(err, LR_EINVAL, p->name, "no parameter '%.*s'%s", (int)MIN_OF(key.n, 40),
                      key.n ? key.p : "", p->n_params ? all : "; there are none");
}

/* Index of `value` in "a|b|c", or -1. */
static int choice_of(const char *choices, struct lr_str value)
{
    struct lr_str rest = lr_strz(choices);
    for (int i = 0; rest.p; i++)
        if (lr_str_eq(lr_str_cut(&rest, '|'), value))
            return i;
    return -1;
}

static int parse_value(const struct lr_policy *p, const struct lr_policy_param *q,
                       struct lr_str value, double *out, struct lr_err *err)
{
    if (q->choices) {
        int i = choice_of(q->choices, value);
        if (i < 0)
            return lr_err_set(err, LR_EINVAL, p->name, "%s is %s, not '%.*s'", q->name, q->choices,
                              LR_FMT(value));
        *out = i;
        return 0;
    }
    if (lr_parse_real(value, out) || *out < q->min || *out > q->max)
        return lr_err_set(err, LR_EINVAL, p->name, "%s is a number from %g to %g, not '%.*s'", q->name,
                          q->min, q->max, LR_FMT(value));
    return 0;
}

static int parse_params(struct lr_policy_part *part, struct lr_str text, struct lr_err *err)
{
    const struct lr_policy *p = part->policy;
    bool given[LR_POLICY_PARAMS_MAX] = {false};
    while (text.p) {
        struct lr_str value = lr_str_trim(lr_str_cut(&text, ','));
        struct lr_str key = lr_str_trim(lr_str_cut(&value, '='));
        uint32_t i = 0;
        while (i < p->n_params && !lr_str_is(key, p->params[i].name))
            i++;
        if (i == p->n_params)
            return no_param(p, key, err);
        if (given[i])
            return lr_err_set(err, LR_EINVAL, p->name, "%s is given twice", p->params[i].name);
        given[i] = true;
        LR_TRY(parse_value(p, &p->params[i], lr_str_trim(value), &part->param[i], err));
    }
    return 0;
}

/* ---- parts ---- */

static int no_such(struct lr_str name, struct lr_err *err)
{
    char all[180] = "";
    const struct lr_policy *p;
    const struct lr_policy_codec *c;
    for (size_t i = 0; (p = lr_policy_at(i)); i++)
        list(all, sizeof all, " ", p->name);
    for (size_t i = 0; (c = lr_policy_codec_at(i)); i++)
        list(all, sizeof all, " ", c->name);
    return lr_err_set(err, LR_ENOENT, "policy", "no policy or codec '%.*s'; there are%s",
                      (int)MIN_OF(name.n, 40), name.n ? name.p : "", all);
}

static int add_codec(struct lr_policy_stack *s, const struct lr_policy_codec *c, bool params,
                     struct lr_err *err)
{
    if (s->codec)
        return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                          "%s and %s do not compose: rows are stored one way", s->codec->name, c->name);
    if (params)
        return lr_err_set(err, LR_EINVAL, c->name, "a codec has no parameters");
    s->codec = c;
    return 0;
}

static int claim(const struct lr_policy_stack *s, int *role, const char *what, struct lr_err *err)
{
    int part = (int)s->n_part - 1;
    if (*role >= 0)
        return lr_err_set(err, LR_EUNSUPPORTED, "policy", "%s and %s do not compose: both %s",
                          s->part[*role].policy->name, s->part[part].policy->name, what);
    *role = part;
    return 0;
}

static int add_part(struct lr_policy_stack *s, struct lr_str text, struct lr_err *err)
{
    struct lr_str params = text;
    struct lr_str name = lr_str_trim(lr_str_cut(&params, ':'));
    const struct lr_policy_codec *c = lr_policy_codec_find(name);
    const struct lr_policy *p = lr_policy_find(name);
    if (c)
        return add_codec(s, c, params.p != NULL, err);
    if (!p)
        return no_such(name, err);
    if (s->n_part == LR_POLICY_PARTS)
        return lr_err_set(err, LR_EUNSUPPORTED, "policy", "more than %u policies", LR_POLICY_PARTS);
    struct lr_policy_part *part = &s->part[s->n_part++];
    *part = (struct lr_policy_part){.policy = p};
    for (uint32_t i = 0; i < p->n_params; i++)
        part->param[i] = p->params[i].choices ? 0 : p->params[i].def;
    LR_TRY(parse_params(part, params, err));
    s->flags |= p->flags;
    if (p->budget)
        LR_TRY(claim(s, &s->budget, "give budgets", err));
    if (p->select)
        LR_TRY(claim(s, &s->select, "choose the rows that are read", err));
    if (p->edit || (!p->budget && !p->select)) /* "full" takes the role of one who evicts */
        LR_TRY(claim(s, &s->evict, "decide which rows stay", err));
    return 0;
}

static int compose(const struct lr_policy_stack *s, struct lr_err *err)
{
    const struct lr_policy *budget = lr_policy_stack_role(s, s->budget);
    if (budget && !lr_policy_stack_evicts(s))
        return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                          "%s gives budgets, but no part evicts: add one, as in %s+snapkv", budget->name,
                          budget->name);
    if ((s->flags & LR_POLICY_MUTATES) && s->codec && s->codec->lossy)
        return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                          "rows that change and codec %s do not compose: they would be encoded twice",
                          s->codec->name);
    return 0;
}

/* ---- text again ---- */

static void write_part(struct lr_buf *b, const struct lr_policy_part *part)
{
    const struct lr_policy *p = part->policy;
    const char *sep = ":";
    if (b->len)
        lr_buf_addc(b, '+');
    lr_buf_addz(b, p->name);
    for (uint32_t i = 0; i < p->n_params; i++) {
        const struct lr_policy_param *q = &p->params[i];
        if (part->param[i] == (q->choices ? 0 : q->def))
            continue;
        lr_buf_addf(b, "%s%s=", sep, q->name);
        sep = ",";
        if (!q->choices) {
            lr_buf_addf(b, "%.17g", part->param[i]);
            continue;
        }
        struct lr_str rest = lr_strz(q->choices), word = {0};
        for (int k = (int)part->param[i]; k >= 0; k--)
            word = lr_str_cut(&rest, '|');
        lr_buf_adds(b, word);
    }
}

static int write_text(struct lr_policy_stack *s, struct lr_err *err)
{
    struct lr_buf b;
    lr_buf_init(&b, LR_POLICY_TEXT);
    const int order[] = {s->budget, s->evict, s->select};
    for (size_t i = 0; i < LR_COUNT(order); i++) {
        bool again = order[i] < 0; /* a part may have two roles */
        for (size_t k = 0; k < i; k++)
            again |= order[k] == order[i];
        if (!again)
            write_part(&b, &s->part[order[i]]);
    }
    if (s->codec) {
        if (b.len)
            lr_buf_addc(&b, '+');
        lr_buf_addz(&b, s->codec->name);
    }
    lr_buf_addc(&b, 0);
    int rc = b.rc;
    if (!rc)
        memcpy(s->text, b.p, b.len);
    lr_buf_free(&b);
    return rc ? lr_err_set(err, rc, "policy", "a stack of more than %u characters",
                           LR_POLICY_TEXT - 1)
              : 0;
}

int lr_policy_stack_parse(struct lr_str text, struct lr_policy_stack *out, struct lr_err *err)
{
    struct lr_policy_stack s = {.budget = -1, .evict = -1, .select = -1};
    text = lr_str_trim(text);
    if (!text.n)
        text = LR_STR("full");
    while (text.p)
        LR_TRY(add_part(&s, lr_str_cut(&text, '+'), err));
    LR_TRY(compose(&s, err));
    LR_TRY(write_text(&s, err));
    *out = s;
    return 0;
}
