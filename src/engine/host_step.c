/* SPDX-License-Identifier: Apache-2.0
 * engine/host_step.c - a step as policies see it: what they need, what they are shown, the safepoint.
 *
 *   begin       need(layer, phase) of all parts of all sets > one tap: kinds and windows by layer
 *   per layer   the tap's products (tap.c) > observe of each part, with a view of what it asked for
 *   end         CHUNK: nothing, unless capped and at a multiple of LR_ENGINE_TILE positions
 *               PROMPT_END, TOKEN, TURN_END: budgets, edits layer by layer, checks
 *
 * Rows change at the end and nowhere else, when no thread reads them: nothing is ever evicted between
 * being scored and being attended to, and a step that is taken back has evicted nothing.
 *
 * Cuts of a prompt change nothing: windows lie in the last piece (lr_engine_seq_tile sees to it), sums of
 * attention are added query by query in order, capped sequences are edited at places that are multiples
 * of a tile.
 *
 * Checks after an edit. Always: no table over its budget. In guard mode also: positions ascend, biases and
 * columns are numbers, rows that a policy may write are finite, protected rows are all there, pages add
 * up. What fails is the sequence.
 */
#include "engine/host_int.h"

/* ---- needs ---- */

#define TAPS_KNOWN ((LR_POLICY_TAP_H << 1) - 1)
#define SAME_TAP(name)                                                                             \
    _Static_assert((int)LR_POLICY_TAP_##name == (int)LR_ENGINE_TAP_##name, "one set of taps")
SAME_TAP(X);
SAME_TAP(QPRE);
SAME_TAP(KPRE);
SAME_TAP(Q);
SAME_TAP(AWIN);
SAME_TAP(ACOL);
SAME_TAP(LSE);
SAME_TAP(OUT);
SAME_TAP(H);

int lr_engine_part_need(struct lr_policy_seq *q, uint32_t layer, enum lr_policy_phase phase,
                        struct lr_policy_need *out)
{
    const struct lr_policy *p = q->part->policy;
    struct lr_policy_need n = {.size = sizeof n};
    LR_TRY(p->need ? p->need(q->st, layer, phase, &n) : 0);
    LR_FAIL_IF(n.probes || n.heads || n.taps & ~(unsigned)TAPS_KNOWN, LR_EUNSUPPORTED);
    LR_FAIL_IF(n.window > LR_POLICY_WINDOW_MAX, LR_EOVER);
    if (phase == LR_POLICY_PROBE)
        n.taps &= ~(unsigned)LR_POLICY_TAP_ACOL; /* rows that vanish got no attention */
    if (phase == LR_POLICY_TURN_END)
        n.taps = 0;
    if (!(n.taps & LR_POLICY_TAP_AWIN))
        n.window = 0;
    else if (!n.window)
        n.window = 1;
    *out = n;
    return 0;
}

static struct host_set *set_number(const struct lr_engine_host *h, uint32_t i)
{
    return i ? h->watcher[i - 1] : h->active;
}

/* The union of what is needed at a layer. */
static int layer_need(struct lr_engine_host *h, uint32_t layer, enum lr_policy_phase phase,
                      unsigned *kinds, uint32_t *window)
{
    *kinds = *window = 0;
    for (uint32_t i = 0; i <= h->n_watcher; i++) {
        struct host_set *set = set_number(h, i);
        for (uint32_t k = 0; set && k < set->stack.n_part; k++) {
            struct lr_policy_need n;
            LR_TRY(lr_engine_part_need(&set->part[k], layer, phase, &n));
            *kinds |= n.taps;
            *window = n.window > *window ? n.window : *window;
        }
    }
    return 0;
}

uint32_t lr_engine_seq_tile(const struct lr_engine_seq *s, uint32_t left, uint32_t most)
{
    struct lr_engine_host *h = s->host;
    uint32_t cap = MIN_OF(most, LR_ENGINE_TILE), goal = left, window = 0;
    if (!h)
        return MIN_OF(left, cap);
    if (h->capped)
        goal = MIN_OF(left, LR_ENGINE_TILE - s->len % LR_ENGINE_TILE);
    if (goal <= cap)
        return goal;
    for (uint32_t l = 0; l < h->model.n_layer; l++) {
        unsigned kinds;
        uint32_t w; /* cannot fail: asked for when the policy was put on */
        if (!layer_need(h, l, goal == left ? LR_POLICY_PROMPT_END : LR_POLICY_CHUNK, &kinds, &w))
            window = w > window ? w : window;
    }
    return goal <= window ? 0 : MIN_OF(cap, goal - window);
}

/* ---- taps ---- */

static void enter(struct lr_engine_host *h)
{
    h->depth++;
}

static void leave(struct lr_engine_host *h)
{
    if (--h->depth == 0)
        lr_arena_reset(&h->scratch);
}

static void *zeroed(struct lr_engine_host *h, size_t n, size_t size)
{
    return lr_arena_zalloc(&h->scratch, n * size, 16);
}

/* What a part asked for, and no more; also its bytes. */
static int narrow(struct lr_engine_host *h, const struct lr_engine_view *v,
                  const struct lr_policy_need *n, struct lr_policy_view *out, uint64_t *bytes)
{
    const struct lr_policy_model *m = &h->model;
    uint32_t *rows = zeroed(h, m->n_kv, sizeof(uint32_t));
    const float **awin = zeroed(h, m->n_head, sizeof(const float *));
    LR_FAIL_IF(!rows || !awin, LR_ENOMEM);
    uint32_t n_win = MIN_OF(n->window, v->n_tok), group = m->n_head / m->n_kv, t = n->taps;
    size_t all = 0, floats = 0;
    for (uint32_t i = 0; i < m->n_kv; i++)
        all += rows[i] = (uint32_t)lr_engine_rows(h->s, v->layer, i);
    for (uint32_t i = 0; (t & LR_POLICY_TAP_AWIN) && i < m->n_head; i++)
        awin[i] = v->awin[i] + (size_t)(v->n_win - n_win) * rows[i / group];
    *out = (struct lr_policy_view){.size = sizeof *out, .layer = v->layer, .phase = h->phase,
                                   .n_tok = v->n_tok, .n_win = n_win, .pos = v->pos, .rows = rows};
    out->x = t & LR_POLICY_TAP_X ? v->x : NULL;
    out->h = t & LR_POLICY_TAP_H ? v->h : NULL;
    out->q = t & LR_POLICY_TAP_Q ? v->q : NULL;
    out->qpre = t & LR_POLICY_TAP_QPRE ? v->qpre : NULL;
    out->kpre = t & LR_POLICY_TAP_KPRE ? v->kpre : NULL;
    out->out = t & LR_POLICY_TAP_OUT ? v->out : NULL;
    out->lse = t & LR_POLICY_TAP_LSE ? v->lse : NULL;
    out->awin = t & LR_POLICY_TAP_AWIN ? awin : NULL;
    out->acol = t & LR_POLICY_TAP_ACOL ? v->acol : NULL;
    floats += (t & LR_POLICY_TAP_AWIN ? all * group * n_win : 0);
    floats += (t & LR_POLICY_TAP_ACOL ? all * group : 0);
    floats += (out->qpre ? (size_t)v->n_tok * m->n_head * m->d_head : 0);
    floats += (out->kpre ? (size_t)v->n_tok * m->n_kv * m->d_head : 0);
    *bytes = floats * sizeof(float);
    return 0;
}

static int show_part(struct lr_policy_seq *q, const struct lr_engine_view *v)
{
    struct lr_engine_host *h = q->set->host;
    const struct lr_policy *p = q->part->policy;
    struct lr_policy_need n;
    struct lr_policy_view view;
    uint64_t bytes;
    LR_TRY(lr_engine_part_need(q, v->layer, h->phase, &n));
    LR_FAIL_IF(!n.taps, 0);
    LR_TRY(narrow(h, v, &n, &view, &bytes));
    q->set->tap_bytes += bytes;
    h->looked = true;
    uint64_t start = lr_clock_mono_ns();
    int rc = p->observe ? p->observe(q->st, q, &view) : 0;
    q->set->ns += lr_clock_mono_ns() - start;
    return rc;
}

/* Never fails the step. */
static int seen(void *ctx, const struct lr_engine_view *v)
{
    struct lr_engine_host *h = ctx;
    if (!h->tap.kinds)
        return 0;
    for (uint32_t i = 0; i <= h->n_watcher; i++) {
        struct host_set *set = set_number(h, i);
        for (uint32_t k = 0; set && !h->rc && k < set->stack.n_part; k++) {
            enter(h);
            int rc = show_part(&set->part[k], v);
            leave(h);
            if (rc)
                lr_engine_host_fail(h, rc, set->part[k].part->policy->name, "observe");
        }
    }
    return 0;
}

static int give_sums(void *ctx, uint32_t layer, float **acol)
{
    struct lr_engine_host *h = ctx;
    uint32_t n_head = h->model.n_head, group = n_head / h->model.n_kv;
    for (uint32_t i = 0; i < n_head; i++) {
        uint32_t rows = (uint32_t)lr_engine_rows(h->s, layer, i / group);
        acol[i] = lr_engine_lane(&h->sums[(size_t)layer * n_head + i], rows);
        LR_FAIL_IF(!acol[i], LR_ENOMEM);
    }
    return 0;
}

int lr_engine_host_begin(const struct lr_engine_work *w, struct lr_engine_tap **tap, unsigned *kinds)
{
    struct lr_engine_host *h = w->seq->host;
    *tap = NULL;
    *kinds = 0;
    if (!h)
        return 0;
    LR_FAIL_IF(w->phase == LR_POLICY_TURN_END || (w->phase == LR_POLICY_PROBE && !h->depth) ||
                   (unsigned)w->phase >= LR_POLICY_PHASES,
               LR_EINVAL);
    h->looked = false;
    h->phase = w->phase;
    for (uint32_t i = 0; h->chosen && i < h->model.n_kv; i++)
        h->chosen[i].on = false;
    for (uint32_t l = 0; l < h->model.n_layer; l++) {
        unsigned layer;
        uint32_t window;
        LR_TRY(layer_need(h, l, w->phase, &layer, &window));
        *kinds |= layer;
    }
    if (*kinds & LR_ENGINE_TAP_ACOL)
        LR_TRY(lr_engine_host_sums(h));
    if (*kinds) {
        h->tap.seen = seen;
        h->tap.sums = give_sums;
        h->tap.ctx = h;
        *tap = &h->tap;
    }
    return 0;
}

void lr_engine_host_layer(struct lr_engine_show *x, uint32_t layer)
{
    if (x->tap->seen != seen)
        return;
    struct lr_engine_host *h = x->tap->ctx;
    int rc = h->rc ? h->rc : layer_need(h, layer, h->phase, &h->tap.kinds, &h->tap.window);
    if (!rc)
        return;
    h->tap.kinds = 0;
    lr_engine_host_fail(h, rc, "need", "need");
}

int lr_engine_host_failed(struct lr_engine_show *x, int rc)
{
    if (x->tap->seen != seen)
        return rc;
    lr_engine_host_fail(x->tap->ctx, rc, "taps", "taps");
    return 0;
}

void lr_engine_host_undone(struct lr_engine_seq *s)
{
    if (s->host && s->host->looked)
        lr_engine_host_fail(s->host, LR_ECANCEL, "step", "a step it had seen was taken back");
}

/* ---- budgets ---- */

/* Rows that a policy shared out must be no more than there are. */
static int split(struct lr_engine_host *h, enum lr_policy_phase phase)
{
    uint32_t tables = host_tables(h->s);
    struct lr_policy_seq *q = &h->active->part[h->active->stack.budget];
    const struct lr_policy_split s = {.size = sizeof s, .phase = phase, .len = h->s->len,
                                      .rows = h->even};
    uint64_t sum = 0;
    LR_TRY(q->part->policy->budget(q->st, q, &s, h->rows));
    for (uint32_t i = 0; i < tables; i++) {
        LR_FAIL_IF(!h->rows[i], LR_EINVAL);
        sum += h->rows[i];
    }
    return sum > (uint64_t)h->even * tables ? LR_EOVER : 0;
}

static int share(struct lr_engine_host *h, enum lr_policy_phase phase)
{
    uint32_t tables = host_tables(h->s), page = host_page_bytes(h->s);
    const struct lr_policy_stack *stack = &h->active->stack;
    h->even = lr_policy_budget_rows(&h->budget, h->s->len, tables, page, PAGE_ROWS);
    for (uint32_t i = 0; i < tables; i++)
        h->rows[i] = h->even;
    if (stack->budget >= 0)
        LR_TRY(split(h, phase));
    if (h->budget.kind != LR_POLICY_BUDGET_BYTES)
        return 0;
    uint32_t *lost = zeroed(h, tables, sizeof *lost);
    LR_FAIL_IF(!lost, LR_ENOMEM);
    lr_policy_budget_pages(h->rows, tables, h->budget.bytes / page, PAGE_ROWS, lost);
    /* Rows that move between heads leave each with a page that is filled in part: room for those. */
    for (uint32_t i = 0; (stack->flags & LR_POLICY_PER_HEAD) && i < tables; i++)
        h->rows[i] -= PAGE_ROWS - 2;
    return 0;
}

/* ---- checks ---- */

static int over(struct lr_engine_host *h, uint32_t layer, uint32_t head, uint64_t rows,
                uint64_t budget)
{
    h->rc = LR_EOVER;
    h->err = (struct lr_err){0};
    return lr_err_set(&h->err, LR_EOVER, "budget",
                      "policy %s left %llu rows in layer %u, KV head %u, where %llu may be",
                      h->active->stack.text, (unsigned long long)rows, layer, head,
                      (unsigned long long)budget);
}

static int check_budgets(struct lr_engine_host *h)
{
    bool per_head = h->active->stack.flags & LR_POLICY_PER_HEAD;
    uint32_t n_kv = h->model.n_kv;
    for (uint32_t l = 0; l < h->model.n_layer; l++) {
        uint64_t rows = 0, budget = 0;
        for (uint32_t i = 0; i < n_kv; i++) {
            uint32_t n = h->s->tables[l * n_kv + i].n, b = h->rows[l * n_kv + i];
            rows += n;
            budget += b;
            if (!per_head && n > b)
                return over(h, l, i, n, b);
        }
        if (rows > budget)
            return over(h, l, n_kv, rows, budget);
    }
    return 0;
}

static uint64_t count_kept(const struct lr_engine_seq *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < host_tables(s); i++)
        for (uint32_t k = 0; k < s->tables[i].n; k++)
            n += (s->tables[i].page[k / PAGE_ROWS]->row[k % PAGE_ROWS].tag & LR_POLICY_TAG_KEEP) != 0;
    return n;
}

static bool finite_rows(const struct lr_engine_seq *s, uint32_t layer, uint32_t head, float *buf)
{
    uint32_t d = s->e->m->shape.d_head;
    for (size_t i = 0; i < lr_engine_rows(s, layer, head); i++) {
        if (lr_engine_rows_read(s, layer, head, i, buf, buf + d))
            return false;
        for (uint32_t k = 0; k < 2 * d; k++)
            if (!isfinite(buf[k]))
                return false;
    }
    return true;
}

/* What is wrong with a table, or NULL. */
static const char *inspect(const struct lr_engine_host *h, uint32_t i)
{
    const struct table *t = &h->s->tables[i];
    int32_t last = -1;
    if (t->n_pages != (t->n + PAGE_ROWS - 1) / PAGE_ROWS)
        return "pages that hold no rows";
    for (uint32_t k = 0; k < t->n; k++) {
        const struct lr_engine_row *r = &t->page[k / PAGE_ROWS]->row[k % PAGE_ROWS];
        if (r->pos < last && !h->permuted)
            return "positions that descend";
        if (isnan(r->bias))
            return "a bias that is no number";
        last = r->pos;
    }
    for (uint32_t k = 0; k < h->active->stack.n_part; k++) {
        const struct lr_policy_seq *q = &h->active->part[k];
        uint32_t columns = q->part->policy->columns;
        for (uint32_t c = 0; c < columns; c++) {
            const struct lane *l = &q->columns[(size_t)i * columns + c];
            for (uint32_t j = 0; j < l->n; j++)
                if (isnan(l->v[j]))
                    return "a column that is no number";
        }
    }
    return NULL;
}

static int guard(struct lr_engine_host *h, uint64_t kept)
{
    const struct lr_engine_seq *s = h->s;
    uint64_t held = 0;
    const char *wrong = count_kept(s) == kept ? NULL : "protected rows dropped";
    float *buf = zeroed(h, 2 * h->model.d_head, sizeof(float));
    LR_FAIL_IF(!buf, lr_engine_host_fail(h, LR_ENOMEM, "guard", "guard"));
    for (uint32_t i = 0; !wrong && i < host_tables(s); i++) {
        wrong = inspect(h, i);
        held += (uint64_t)s->tables[i].n_pages * s->lay.granules;
        if (!wrong && (h->active->stack.flags & LR_POLICY_MUTATES) &&
            !finite_rows(s, i / h->model.n_kv, i % h->model.n_kv, buf))
            wrong = "a key or value that is no number";
    }
    if (!wrong && held != s->held)
        wrong = "bytes that are not those of its pages";
    return wrong ? lr_engine_host_fail(h, LR_EINVAL, h->active->stack.text, wrong) : 0;
}

/* ---- the safepoint ---- */

static int edit_layers(struct lr_engine_host *h, enum lr_policy_phase phase)
{
    const struct lr_policy_stack *stack = &h->active->stack;
    struct lr_policy_seq *q = &h->active->part[stack->evict];
    const struct lr_policy *p = q->part->policy;
    int rc = 0;
    for (uint32_t l = 0; !rc && l < h->model.n_layer; l++) {
        const struct lr_policy_edit e = {.size = sizeof e, .layer = l, .phase = phase,
                                         .len = h->s->len, .prompt = h->prompt, .budget = h->rows};
        h->editing = true;
        h->edit_layer = l;
        enter(h);
        rc = p->edit(q->st, q, &e);
        leave(h);
        h->editing = false;
    }
    return rc ? lr_engine_host_fail(h, rc, p->name, "edit") : 0;
}

/* From the end of a prompt on, the budget is what the sequence may still take. */
static void promise_less(struct lr_engine_host *h)
{
    struct lr_engine_seq *s = h->s;
    uint64_t rows = (uint64_t)h->even + PAGE_ROWS + 1 + (h->capped ? LR_ENGINE_TILE : 0);
    if (rows < s->tokens_max) /* gives back: there is room */
        (void)lr_engine_rows_promise(s, (uint32_t)rows, s->copies);
}

int lr_engine_host_edit(struct lr_engine_host *h, enum lr_policy_phase phase)
{
    struct host_set *set = h->active;
    uint64_t evicted = set->evicted, start = lr_clock_mono_ns();
    uint64_t kept = h->guard ? count_kept(h->s) : 0;
    int rc = 0;
    if (set->stack.flags & LR_POLICY_EVALUATION && !set->foreseen)
        return lr_engine_host_fail(h, LR_EINVAL, set->stack.text, "nobody told it the future");
    enter(h);
    if (phase == LR_POLICY_PROMPT_END || phase == LR_POLICY_CHUNK || !h->even)
        rc = share(h, phase);
    leave(h);
    if (rc)
        return lr_engine_host_fail(h, rc, set->stack.text, "budget");
    LR_TRY(edit_layers(h, phase));
    LR_TRY(check_budgets(h));
    if (h->guard) {
        enter(h);
        rc = guard(h, kept);
        leave(h);
    }
    h->spent |= (set->stack.flags & LR_POLICY_QUERY_AWARE) && set->evicted > evicted;
    if (phase == LR_POLICY_PROMPT_END) {
        promise_less(h);
        lr_engine_lanes_trim(h);
        lr_arena_free(&h->scratch); /* sized by the prompt; tokens need less */
    }
    set->ns += lr_clock_mono_ns() - start;
    return rc;
}

void lr_engine_host_end(struct lr_engine_seq *s)
{
    struct lr_engine_host *h = s->host;
    if (!h || h->rc || h->phase == LR_POLICY_PROBE)
        return;
    h->last = h->phase;
    if (h->phase == LR_POLICY_PROMPT_END)
        h->prompt = s->len;
    bool due = h->phase != LR_POLICY_CHUNK || (h->capped && s->len % LR_ENGINE_TILE == 0);
    if (due && h->active && lr_policy_stack_evicts(&h->active->stack))
        (void)lr_engine_host_edit(h, h->phase); /* kept in h->rc */
}

int lr_engine_seq_turn_end(struct lr_engine_seq *s, struct lr_err *err)
{
    struct lr_engine_host *h = s->host;
    LR_TRY(lr_engine_seq_status(s, err));
    if (!h || !h->active || !lr_policy_stack_evicts(&h->active->stack))
        return 0;
    h->last = LR_POLICY_TURN_END;
    if (lr_engine_host_edit(h, LR_POLICY_TURN_END))
        return lr_engine_seq_status(s, err);
    return 0;
}
