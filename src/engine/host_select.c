/* SPDX-License-Identifier: Apache-2.0
 * engine/host_select.c - reading some of the rows: a policy chooses, attention reads what was gathered.
 *
 *   table     row 0 | row 1 | row 2 | row 3 | .. | the token's own
 *   chosen            row 1 |         row 3 | .. | virtual rows       pages of our own, same layout
 *
 * One token of a sequence at a time (decoding); prompts read everything. Rows are copied, encoded as they
 * are, into a table that looks like any other, so that attention has one path: same cuts, same masks, same
 * bits when everything is chosen in order. Virtual rows are encoded behind them, seen from position 0 on.
 * Copying costs what reading the chosen rows costs, once more; choosing a tenth still reads a fifth.
 *
 * Nothing is ever dropped: what one token leaves out the next may read. Taps on attention of such tokens
 * would show rows that nobody read, so policies that watch decoding do not compose with one that chooses.
 *
 * Tried and dropped: a list of indices inside attention. Every kernel call then works on single rows, and
 * page bounds, spans and blocks each needed a second form.
 */
#include "engine/host_int.h"

int lr_engine_host_may_choose(struct host_set *set, struct lr_err *err)
{
    const unsigned weights = LR_POLICY_TAP_AWIN | LR_POLICY_TAP_ACOL | LR_POLICY_TAP_LSE;
    for (uint32_t i = 0; set->stack.select >= 0 && i < set->stack.n_part; i++)
        for (uint32_t l = 0; l < set->host->model.n_layer; l++) {
            struct lr_policy_need n;
            LR_TRY(lr_engine_part_need(&set->part[i], l, LR_POLICY_TOKEN, &n));
            if (n.taps & weights)
                return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                                  "%s watches attention while decoding, which %s leaves out in part",
                                  set->part[i].part->policy->name,
                                  lr_policy_stack_role(&set->stack, set->stack.select)->name);
        }
    return 0;
}

void lr_engine_host_unchoose(struct lr_engine_host *h)
{
    for (uint32_t i = 0; h->chosen && i < h->model.n_kv; i++) {
        lr_free(h->chosen[i].table.page);
        lr_free(h->chosen[i].block);
    }
    lr_free(h->chosen);
    h->chosen = NULL;
}

bool lr_engine_host_chooses(const struct lr_engine_work *w)
{
    const struct lr_engine_host *h = w->seq->host;
    return h && h->active && h->active->stack.select >= 0 && w->n == 1 &&
           w->phase == LR_POLICY_TOKEN;
}

const struct table *lr_engine_host_table(const struct lr_engine_seq *s, uint32_t layer,
                                         uint32_t head)
{
    if (s->host && s->host->chosen && s->host->chosen[head].on)
        return &s->host->chosen[head].table;
    return table_of(s, layer, head);
}

/* Room for n rows in pages aligned like the arena's. */
static int make_room(const struct layout *lay, struct chosen *c, uint32_t n)
{
    size_t pages = (n + PAGE_ROWS - 1) / PAGE_ROWS, bytes = (size_t)lay->granules * GRANULE;
    c->table.n = n;
    c->table.n_pages = (uint32_t)pages;
    if (pages <= c->pages)
        return 0;
    pages += pages / 4 + 1;
    void *block = lr_alloc(pages * bytes + 64);
    struct page **page = lr_calloc(pages, sizeof(struct page *));
    if (!block || !page) {
        lr_free(block);
        lr_free(page);
        return LR_ENOMEM;
    }
    lr_free(c->block);
    lr_free(c->table.page);
    char *base = (char *)(((uintptr_t)block + 63) / 64 * 64);
    for (size_t i = 0; i < pages; i++)
        page[i] = (struct page *)(void *)(base + i * bytes);
    c->block = block;
    c->table.page = page;
    c->pages = pages;
    return 0;
}

static int check_pick(const struct lr_policy_pick *p, uint32_t rows)
{
    LR_FAIL_IF(p->n > rows || p->n + p->n_virtual == 0 || p->n_virtual > rows, LR_EINVAL);
    LR_FAIL_IF(p->n_virtual && (!p->xk || !p->xv || !p->xbias), LR_EINVAL);
    for (uint32_t i = 0; i < p->n; i++)
        LR_FAIL_IF(p->idx[i] >= rows || (i && p->idx[i] <= p->idx[i - 1]), LR_EINVAL);
    for (uint32_t i = 0; i < p->n_virtual; i++)
        LR_FAIL_IF(!isfinite(p->xbias[i]), LR_EINVAL);
    return 0;
}

static int gather(const struct lr_engine_seq *s, struct chosen *c, const struct table *from,
                  const struct lr_policy_pick *p)
{
    uint32_t d = s->e->m->shape.d_head, n = p->n;
    float x[1024]; /* the bound of heads: model.c */
    LR_TRY(make_room(&s->lay, c, n + p->n_virtual));
    for (uint32_t i = 0; i < n; i++)
        lr_engine_row_copy(&s->lay, c->table.page[i / PAGE_ROWS], i % PAGE_ROWS,
                           from->page[p->idx[i] / PAGE_ROWS], p->idx[i] % PAGE_ROWS);
    for (uint32_t i = 0; i < p->n_virtual; i++) {
        size_t at = n + i;
        c->table.page[at / PAGE_ROWS]->row[at % PAGE_ROWS] =
            (struct lr_engine_row){.bias = p->xbias[i]};
        memcpy(x, p->xk + (size_t)i * d, d * sizeof *x);
        lr_engine_rows_put_k(s, &c->table, at, x);
        memcpy(x, p->xv + (size_t)i * d, d * sizeof *x);
        lr_engine_rows_put_v(s, &c->table, at, x);
    }
    for (uint32_t j = 0; j < c->table.n_pages; j++)
        lr_engine_page_summarise(c->table.page[j],
                                 MIN_OF(PAGE_ROWS, c->table.n - j * PAGE_ROWS));
    c->on = true;
    return 0;
}

static int choose_head(struct lr_policy_seq *q, const struct lr_policy_query *query)
{
    struct lr_engine_host *h = q->set->host;
    const struct table *t = table_of(h->s, query->layer, query->head);
    struct lr_policy_pick pick = {.size = sizeof pick};
    struct chosen *c = &h->chosen[query->head];
    c->on = false;
    pick.idx = lr_arena_alloc(&h->scratch, ((size_t)t->n + 1) * sizeof *pick.idx, 16);
    LR_FAIL_IF(!pick.idx, LR_ENOMEM);
    LR_TRY(q->part->policy->select(q->st, q, query, &pick));
    q->set->there += t->n;
    q->set->read += pick.all ? t->n : pick.n + pick.n_virtual;
    if (pick.all)
        return 0;
    LR_TRY(check_pick(&pick, t->n));
    return gather(h->s, c, t, &pick);
}

/* A failure reads everything and fails the sequence after the step. */
void lr_engine_host_choose(const struct lr_engine_work *w, uint32_t layer, int32_t pos, const float *q)
{
    struct lr_engine_host *h = w->seq->host;
    if (!lr_engine_host_chooses(w) || h->rc)
        return;
    struct lr_policy_seq *part = &h->active->part[h->active->stack.select];
    uint32_t group = h->model.n_head / h->model.n_kv;
    uint64_t start = lr_clock_mono_ns();
    if (!h->chosen)
        h->chosen = lr_calloc(h->model.n_kv, sizeof *h->chosen);
    int rc = h->chosen ? 0 : LR_ENOMEM;
    for (uint32_t i = 0; !rc && i < h->model.n_kv; i++) {
        const struct lr_policy_query query = {
            .size = sizeof query, .layer = layer, .head = i, .pos = pos,
            .rows = table_of(w->seq, layer, i)->n, .q = q + (size_t)i * group * h->model.d_head};
        h->depth++;
        rc = choose_head(part, &query);
        if (--h->depth == 0)
            lr_arena_reset(&h->scratch);
    }
    h->active->ns += lr_clock_mono_ns() - start;
    if (!rc)
        return;
    for (uint32_t i = 0; h->chosen && i < h->model.n_kv; i++)
        h->chosen[i].on = false;
    lr_engine_host_fail(h, rc, part->part->policy->name, "select");
}
