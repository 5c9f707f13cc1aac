/* SPDX-License-Identifier: Apache-2.0
 * engine/host.c - policies on sequences: opened, forked, watching, adopted, closed.
 *
 *   sequence ---- host ---- active set     edits at safepoints                 (host_step.c)
 *                      |--- watcher 0      observes; a fork may adopt a copy
 *                      |--- watcher 1 ..
 *                      '--- sums           attention each row got             (host_lane.c)
 *
 * A set is a stack's policies with their states, columns, random numbers and bill. Sets know nothing of
 * each other: taps are the union of what they need, computed once; each is shown what it asked for. Sums
 * are kept once for all, because watchers never edit and so see the same rows.
 *
 * A failure of a policy is its sequence's (host.rc): the step it happened in is good for everybody else,
 * the sequence is told by lr_engine_seq_status and takes no more steps. There is no half-way back from
 * an eviction, and a policy that lost its state would decide at random from there on.
 *
 * Evaluation. One prompt is fed once to a sequence with watchers; each (policy, budget) then takes a fork,
 * which shares all pages, and adopts a copy of the watcher: what follows is bit for bit what a sequence
 * with that policy would have done alone, because watching changes no row (tested). Costs of taps are
 * not to be read there: measure time with one policy on one sequence.
 */
#include "engine/host_int.h"

int lr_engine_host_fail(struct lr_engine_host *h, int rc, const char *who, const char *what)
{
    if (h->rc)
        return h->rc;
    h->rc = rc;
    h->err = (struct lr_err){0};
    return lr_err_set(&h->err, rc, who, "policy %s: %s: %s", who, what, lr_strerror(rc));
}

int lr_engine_seq_status(const struct lr_engine_seq *s, struct lr_err *err)
{
    if (!s->host || !s->host->rc)
        return 0;
    return lr_err_set(err, s->host->rc, s->host->err.where, "%s", s->host->err.msg);
}

struct host_set *lr_engine_set_at(const struct lr_engine_seq *s, uint32_t index)
{
    if (!s->host)
        return NULL;
    if (index == LR_ENGINE_ACTIVE)
        return s->host->active;
    return index < s->host->n_watcher ? s->host->watcher[index] : NULL;
}

/* ---- sets ---- */

static int open_part(struct host_set *set, uint32_t i)
{
    struct lr_policy_seq *q = &set->part[i];
    const struct lr_engine_seq *s = set->host->s;
    uint32_t tables = host_tables(s), n_kv = s->e->m->shape.n_kv;
    q->set = set;
    q->part = &set->stack.part[i];
    const struct lr_policy *p = q->part->policy;
    q->rows = lr_calloc(tables, sizeof *q->rows);
    q->columns = lr_calloc((size_t)tables * p->columns + 1, sizeof *q->columns);
    LR_FAIL_IF(!q->rows || !q->columns, LR_ENOMEM);
    for (uint32_t t = 0; t < tables; t++)
        q->rows[t] = (struct lr_policy_rows){.q = q, .layer = t / n_kv, .head = t % n_kv};
    const struct lr_policy_open o = {.size = sizeof o, .n_param = p->n_params, .api = &lr_engine_api,
                                     .model = &set->host->model, .param = q->part->param};
    LR_TRY(p->open ? p->open(&q->st, &o) : 0);
    q->open = true;
    return 0;
}

int lr_engine_set_open(struct host_set **out, struct lr_engine_host *h,
                       const struct lr_policy_stack *stack, uint64_t seed)
{
    struct host_set *set = lr_new(struct host_set);
    LR_FAIL_IF(!set, LR_ENOMEM);
    set->host = h;
    set->stack = *stack;
    lr_rng_seed(&set->rng, seed);
    for (uint32_t i = 0; i < stack->n_part; i++) {
        int rc = open_part(set, i);
        if (rc) {
            lr_engine_set_close(set);
            return rc;
        }
    }
    *out = set;
    return 0;
}

void lr_engine_set_close(struct host_set *set)
{
    if (!set)
        return;
    for (uint32_t i = 0; i < set->stack.n_part; i++) {
        struct lr_policy_seq *q = &set->part[i];
        size_t lanes = q->columns ? (size_t)host_tables(set->host->s) * q->part->policy->columns : 0;
        if (q->open && q->part->policy->close)
            q->part->policy->close(q->st);
        for (size_t k = 0; k < lanes; k++)
            lr_engine_lane_free(&q->columns[k]);
        lr_free(q->columns);
        lr_free(q->rows);
    }
    lr_free(set);
}

/* State through the policy's own save and load. */
static int copy_state(struct lr_policy_seq *to, const struct lr_policy_seq *from)
{
    const struct lr_policy *p = from->part->policy;
    size_t n = 0;
    if (!p->save)
        return 0;
    LR_TRY(p->save(from->st, NULL, &n));
    void *buf = lr_alloc(n);
    LR_FAIL_IF(!buf, LR_ENOMEM);
    int rc = p->save(from->st, buf, &n);
    rc = rc ? rc : p->load(to->st, buf, n);
    lr_free(buf);
    return rc;
}

int lr_engine_set_copy(struct host_set *to, const struct host_set *from)
{
    to->rng = from->rng;
    to->tap_bytes = from->tap_bytes;
    to->ns = from->ns;
    to->evicted = from->evicted;
    to->foreseen = from->foreseen;
    for (uint32_t i = 0; i < from->stack.n_part; i++) {
        const struct lr_policy_seq *q = &from->part[i];
        size_t lanes = (size_t)host_tables(from->host->s) * q->part->policy->columns;
        LR_TRY(copy_state(&to->part[i], q));
        for (size_t k = 0; k < lanes; k++)
            LR_TRY(lr_engine_lane_copy(&to->part[i].columns[k], &q->columns[k]));
    }
    return 0;
}

static uint64_t set_bytes(const struct host_set *set)
{
    uint64_t n = sizeof *set;
    for (uint32_t i = 0; i < set->stack.n_part; i++) {
        const struct lr_policy_seq *q = &set->part[i];
        size_t tables = host_tables(set->host->s), lanes = tables * q->part->policy->columns;
        n += tables * sizeof *q->rows + lanes * sizeof *q->columns;
        for (size_t k = 0; k < lanes; k++)
            n += q->columns[k].cap * sizeof(float);
    }
    return n;
}

/* ---- hosts ---- */

static int host_make(struct lr_engine_host **out, struct lr_engine_seq *s)
{
    const struct lr_engine_shape *m = &s->e->m->shape;
    struct lr_engine_host *h = lr_new(struct lr_engine_host);
    LR_FAIL_IF(!h, LR_ENOMEM);
    h->s = s;
    h->model = (struct lr_policy_model){.size = sizeof h->model, .n_layer = m->n_layer,
                                        .n_head = m->n_head, .n_kv = m->n_kv, .d_head = m->d_head,
                                        .n_embd = m->n_embd, .n_vocab = m->n_vocab,
                                        .n_ctx = m->n_ctx, .rope_base = m->rope_base};
    lr_arena_init(&h->scratch, LR_GIB(1));
    h->rows = lr_calloc(host_tables(s), sizeof *h->rows);
    if (!h->rows) {
        lr_free(h);
        return LR_ENOMEM;
    }
#ifdef LR_FAULTS
    h->guard = true; /* always on in test builds */
#endif
    *out = h;
    return 0;
}

static void free_sums(struct lr_engine_host *h)
{
    const struct lr_engine_shape *m = &h->s->e->m->shape;
    for (size_t i = 0; h->sums && i < (size_t)m->n_layer * m->n_head; i++)
        lr_engine_lane_free(&h->sums[i]);
    lr_free(h->sums);
}

static void host_free(struct lr_engine_host *h)
{
    lr_engine_set_close(h->active);
    for (uint32_t i = 0; i < h->n_watcher; i++)
        lr_engine_set_close(h->watcher[i]);
    lr_free(h->watcher);
    free_sums(h);
    lr_engine_host_unchoose(h);
    lr_arena_free(&h->scratch);
    lr_free(h->rows);
    lr_free(h);
}

void lr_engine_host_close(struct lr_engine_seq *s)
{
    if (s->host)
        host_free(s->host);
    s->host = NULL;
}

int lr_engine_host_sums(struct lr_engine_host *h)
{
    const struct lr_engine_shape *m = &h->s->e->m->shape;
    if (!h->sums)
        h->sums = lr_calloc((size_t)m->n_layer * m->n_head, sizeof *h->sums);
    return h->sums ? 0 : LR_ENOMEM;
}

static int sums_copy(struct lr_engine_host *to, const struct lr_engine_host *from)
{
    const struct lr_engine_shape *m = &from->s->e->m->shape;
    if (!from->sums)
        return 0;
    LR_TRY(lr_engine_host_sums(to));
    for (size_t i = 0; i < (size_t)m->n_layer * m->n_head; i++)
        LR_TRY(lr_engine_lane_copy(&to->sums[i], &from->sums[i]));
    return 0;
}

static int check_codec(const struct lr_engine_seq *s, const struct lr_policy_stack *stack,
                       struct lr_err *err)
{
    const struct lr_engine_codec *c;
    if (!stack->codec)
        return 0;
    LR_TRY(lr_engine_host_codec(s->e, stack->codec, &c, err));
    return c == s->lay.codec ? 0
                             : lr_err_set(err, LR_EINVAL, "policy",
                                          "%s: the sequence's rows are stored as %s", c->name,
                                          s->lay.codec->name);
}

/* Taps that the stack wants inside a prompt. Asked of an open set. */
static uint32_t chunk_taps(struct host_set *set)
{
    uint32_t taps = 0;
    for (uint32_t i = 0; i < set->stack.n_part; i++)
        for (uint32_t l = 0; l < set->host->model.n_layer; l++) {
            struct lr_policy_need n;
            if (!lr_engine_part_need(&set->part[i], l, LR_POLICY_CHUNK, &n))
                taps |= n.taps;
        }
    return taps;
}

/* Asks once for every phase and layer, so that what an engine has not is refused before any work. */
static int check_needs(struct host_set *set, struct lr_err *err)
{
    for (uint32_t i = 0; i < set->stack.n_part; i++)
        for (uint32_t l = 0; l < set->host->model.n_layer; l++)
            for (uint32_t phase = 0; phase < LR_POLICY_PHASES; phase++) {
                struct lr_policy_need n;
                int rc = lr_engine_part_need(&set->part[i], l, (enum lr_policy_phase)phase, &n);
                if (rc)
                    return lr_err_set(err, rc, set->part[i].part->policy->name,
                                      "it needs what this engine does not have: %s", lr_strerror(rc));
            }
    if (set->host->s->len && chunk_taps(set))
        return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                          "%s watches whole prompts: it cannot begin after %u tokens",
                          set->stack.text, set->host->s->len);
    return 0;
}

static int open_checked(struct host_set **out, struct lr_engine_host *h,
                        const struct lr_engine_policy *p, struct lr_err *err)
{
    int rc = lr_engine_set_open(out, h, p->stack, p->seed);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "policy", "%s cannot be opened: %s", p->stack->text,
                              lr_strerror(rc)));
    rc = check_needs(*out, err);
    rc = rc ? rc : lr_engine_host_may_choose(*out, err);
    if (rc) {
        lr_engine_set_close(*out);
        *out = NULL;
    }
    return rc;
}

int lr_engine_host_open(struct lr_engine_seq *s, const struct lr_engine_policy *p,
                        struct lr_err *err)
{
    struct lr_engine_host *h;
    LR_TRY(lr_policy_budget_check(p->stack, &p->budget, host_tables(s), host_page_bytes(s), PAGE_ROWS,
                                  p->capped, err));
    LR_TRY(check_codec(s, p->stack, err));
    int rc = host_make(&h, s);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "policy", "%s", lr_strerror(rc)));
    rc = open_checked(&h->active, h, p, err);
    if (rc) {
        host_free(h);
        return rc;
    }
    h->budget = p->budget;
    h->capped = p->capped;
    h->guard |= p->guard;
    s->host = h;
    return 0;
}

int lr_engine_seq_attach(struct lr_engine_seq *s, const struct lr_engine_policy *p,
                         struct lr_err *err)
{
    if (s->host)
        return lr_err_set(err, LR_EEXIST, "policy", "the sequence has a policy");
    return p->stack ? lr_engine_host_open(s, p, err) : 0;
}

uint32_t lr_engine_host_promise(const struct lr_engine_seq *s, uint32_t tokens_max,
                                uint32_t tokens_prompt)
{
    const struct lr_engine_host *h = s->host;
    if (!h || !h->active || !lr_policy_stack_evicts(&h->active->stack))
        return tokens_max;
    uint64_t even = lr_policy_budget_rows(&h->budget, tokens_max, host_tables(s), host_page_bytes(s),
                                          PAGE_ROWS);
    uint64_t prompt = tokens_prompt ? tokens_prompt : tokens_max;
    /* uneven budgets round up in each table: a page more; and the token that comes before one goes */
    uint64_t rows = even + PAGE_ROWS + 1;
    rows = h->capped ? rows + LR_ENGINE_TILE : prompt > rows ? prompt : rows;
    return (uint32_t)MIN_OF(rows, tokens_max);
}

int lr_engine_host_fork(struct lr_engine_seq *twin, const struct lr_engine_seq *s)
{
    const struct lr_engine_host *from = s->host;
    struct lr_engine_host *h;
    if (!from || !from->active)
        return 0;
    LR_TRY(host_make(&h, twin));
    h->budget = from->budget;
    h->even = from->even;
    h->capped = from->capped;
    h->guard = from->guard;
    h->spent = from->spent;
    h->prompt = from->prompt;
    h->last = from->last;
    h->rc = from->rc;
    h->err = from->err;
    memcpy(h->rows, from->rows, host_tables(s) * sizeof *h->rows);
    int rc = lr_engine_set_open(&h->active, h, &from->active->stack, 0);
    rc = rc ? rc : lr_engine_set_copy(h->active, from->active);
    rc = rc ? rc : sums_copy(h, from);
    if (rc) {
        host_free(h);
        return rc;
    }
    twin->host = h;
    return 0;
}

static uint64_t sums_bytes(const struct lr_engine_host *h)
{
    uint64_t n = 0;
    for (size_t i = 0; h->sums && i < (size_t)h->model.n_layer * h->model.n_head; i++)
        n += sizeof *h->sums + h->sums[i].cap * sizeof(float);
    return n;
}

uint64_t lr_engine_host_bytes(const struct lr_engine_seq *s)
{
    const struct lr_engine_host *h = s->host;
    if (!h)
        return 0;
    uint64_t n = sizeof *h + host_tables(s) * sizeof *h->rows + h->scratch.held + sums_bytes(h);
    n += h->active ? set_bytes(h->active) : 0;
    for (uint32_t i = 0; i < h->n_watcher; i++)
        n += set_bytes(h->watcher[i]);
    for (uint32_t i = 0; h->chosen && i < h->model.n_kv; i++)
        n += h->chosen[i].pages * host_page_bytes(s);
    return n;
}

void lr_engine_host_truncated(struct lr_engine_seq *s, uint32_t len)
{
    struct lr_engine_host *h = s->host;
    if (!h || h->depth)
        return;
    h->prompt = MIN_OF(h->prompt, len);
    for (uint32_t i = 0; i < h->n_watcher + 1; i++) {
        struct host_set *set = i ? h->watcher[i - 1] : h->active;
        for (uint32_t k = 0; set && k < set->stack.n_part; k++) {
            struct lr_policy_seq *q = &set->part[k];
            const struct lr_policy *p = q->part->policy;
            int rc = p->cut ? p->cut(q->st, q, len) : 0;
            if (rc)
                lr_engine_host_fail(h, rc, p->name, "cut");
        }
    }
}

bool lr_engine_seq_spent(const struct lr_engine_seq *s)
{
    return s->host && s->host->spent;
}

/* A table's budget on average, rounded up. */
static uint32_t average(const struct lr_engine_host *h)
{
    uint64_t sum = 0, tables = host_tables(h->s);
    for (uint32_t i = 0; i < tables; i++)
        sum += h->rows[i];
    return (uint32_t)((sum + tables - 1) / tables);
}

int lr_engine_seq_info(const struct lr_engine_seq *s, uint32_t index,
                       struct lr_engine_policy_info *out)
{
    struct host_set *set = lr_engine_set_at(s, index);
    LR_FAIL_IF(!set, LR_EINVAL);
    const struct lr_engine_host *h = s->host;
    uint64_t sums = chunk_taps(set) & LR_POLICY_TAP_ACOL ? sums_bytes(h) : 0;
    *out = (struct lr_engine_policy_info){
        .rows_budget = index == LR_ENGINE_ACTIVE && h->even ? average(h) : LR_POLICY_NO_LIMIT,
        .rows_evicted = set->evicted,
        .rows_read = set->read,
        .rows_there = set->there,
        .tap_bytes = set->tap_bytes,
        .tap_ns = h->tap.ns,
        .ns = set->ns,
        .state_bytes = set_bytes(set) + sums};
    return 0;
}

int lr_engine_seq_protect(struct lr_engine_seq *s, uint32_t from, uint32_t to)
{
    const struct lr_engine_shape *m = &s->e->m->shape;
    for (uint32_t i = 0; i < host_tables(s); i++) {
        const struct table *t = &s->tables[i];
        for (uint32_t k = 0; k < t->n; k++) {
            struct lr_engine_row r = t->page[k / PAGE_ROWS]->row[k % PAGE_ROWS];
            if (r.pos >= (int32_t)MIN_OF(from, INT32_MAX) && r.pos < (int32_t)MIN_OF(to, INT32_MAX))
                LR_TRY(lr_engine_rows_tag(s, i / m->n_kv, i % m->n_kv, k,
                                          (uint16_t)(r.tag | LR_POLICY_TAG_KEEP)));
        }
    }
    return 0;
}

/* ---- evaluation ---- */

static int add_watcher(struct lr_engine_host *h, struct host_set *set)
{
    struct host_set **list = lr_realloc(h->watcher, (h->n_watcher + 1) * sizeof(struct host_set *));
    LR_FAIL_IF(!list, LR_ENOMEM);
    h->watcher = list;
    list[h->n_watcher++] = set;
    return 0;
}

int lr_engine_seq_watch(struct lr_engine_seq *s, const struct lr_engine_policy *p, uint32_t *index,
                        struct lr_err *err)
{
    struct host_set *set;
    if (s->host && (s->host->active || s->host->n_watcher == LR_ENGINE_WATCHERS))
        return lr_err_set(err, LR_EINVAL, "policy",
                          "watchers sit on a sequence that keeps every row, at most %u",
                          LR_ENGINE_WATCHERS);
    LR_TRY(check_codec(s, p->stack, err));
    int rc = s->host ? 0 : host_make(&s->host, s);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "policy", "%s", lr_strerror(rc)));
    LR_TRY(open_checked(&set, s->host, p, err));
    rc = add_watcher(s->host, set);
    if (rc) {
        lr_engine_set_close(set);
        return lr_err_set(err, rc, "policy", "%s", lr_strerror(rc));
    }
    s->host->guard |= p->guard;
    *index = s->host->n_watcher - 1;
    return 0;
}

/* The host of a fork that takes over what `set` has seen. */
static int adopt(struct lr_engine_seq *s, const struct host_set *set,
                 const struct lr_policy_budget *budget)
{
    const struct lr_engine_host *from = set->host;
    struct lr_engine_host *h;
    LR_TRY(host_make(&h, s));
    h->budget = *budget;
    h->guard |= from->guard;
    h->prompt = from->prompt;
    h->last = from->last;
    int rc = lr_engine_set_open(&h->active, h, &set->stack, 0);
    rc = rc ? rc : lr_engine_set_copy(h->active, set);
    rc = rc ? rc : sums_copy(h, from);
    if (rc) {
        host_free(h);
        return rc;
    }
    s->host = h;
    return 0;
}

int lr_engine_seq_adopt(struct lr_engine_seq *s, const struct lr_engine_seq *watched, uint32_t index,
                        const struct lr_policy_budget *budget, struct lr_err *err)
{
    const struct host_set *set = lr_engine_set_at(watched, index);
    if (!set || set == watched->host->active || s->host || s->len != watched->len ||
        watched->host->last != LR_POLICY_PROMPT_END)
        return lr_err_set(err, LR_EINVAL, "policy",
                          "adopt: a plain fork of a watched sequence at the end of its prompt");
    LR_TRY(lr_engine_seq_status(watched, err));
    LR_TRY(lr_policy_budget_check(&set->stack, budget, host_tables(s), host_page_bytes(s), PAGE_ROWS,
                                  false, err));
    int rc = adopt(s, set, budget);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "policy", "%s: %s", set->stack.text, lr_strerror(rc)));
    if (lr_engine_host_edit(s->host, LR_POLICY_PROMPT_END))
        return lr_engine_seq_status(s, err);
    return 0;
}

/* Adds the attention of one feed to column 0. */
static int foresee_layer(void *ctx, const struct lr_engine_view *v)
{
    struct lr_policy_seq *q = ctx;
    const struct lr_engine_seq *s = q->set->host->s;
    const struct lr_engine_shape *m = &s->e->m->shape;
    uint32_t group = m->n_head / m->n_kv, columns = q->part->policy->columns;
    for (uint32_t i = 0; i < m->n_head; i++) {
        size_t table = (size_t)v->layer * m->n_kv + i / group;
        uint32_t n = s->tables[table].n; /* the fork's table has the future's rows behind */
        float *to = lr_engine_lane(&q->columns[table * columns], n);
        LR_FAIL_IF(!to, LR_ENOMEM);
        lr_kern()->add(to, v->acol[i], n);
    }
    return 0;
}

static int feed_future(struct lr_engine_seq *fork, struct lr_policy_seq *q, const uint32_t *tokens,
                       size_t n, struct lr_err *err)
{
    struct lr_engine_tap tap = {.kinds = LR_ENGINE_TAP_ACOL, .seen = foresee_layer, .ctx = q};
    for (size_t at = 0; at < n; at += LR_ENGINE_TILE) {
        struct lr_engine_work w = {.seq = fork, .tokens = tokens + at, .tap = &tap,
                                   .n = (uint32_t)MIN_OF(n - at, LR_ENGINE_TILE)};
        LR_TRY(lr_engine_step(fork->e, &w, 1, err));
    }
    return 0;
}

int lr_engine_seq_foresee(struct lr_engine_seq *s, uint32_t index, const uint32_t *future, size_t n,
                          struct lr_err *err)
{
    struct host_set *set = lr_engine_set_at(s, index);
    struct lr_policy_seq *q = NULL;
    if (set && set->stack.evict >= 0 && set->stack.part[set->stack.evict].policy->columns)
        q = &set->part[set->stack.evict];
    if (!q)
        return lr_err_set(err, LR_EINVAL, "policy", "foresee: no policy there with a column for it");
    struct lr_engine_seq *fork;
    LR_TRY(lr_engine_seq_fork(&fork, s, 0, err));
    lr_engine_host_close(fork); /* the future is seen with every row */
    for (uint32_t t = 0; t < host_tables(s); t++)
        q->columns[(size_t)t * q->part->policy->columns].n = 0;
    int rc = feed_future(fork, q, future, n, err);
    lr_engine_seq_close(fork);
    set->foreseen = !rc;
    return rc;
}
