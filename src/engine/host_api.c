/* SPDX-License-Identifier: Apache-2.0
 * engine/host_api.c - the services of larder/policy.h over our rows.
 *
 * A policy is handed opaque rows and gets numbers back; whatever it passes is checked here, for it may be
 * another's code: an edit outside edit() or of a layer that is not its turn is LR_EINVAL, indices that do
 * not ascend, floats that are no numbers likewise. Nothing asserts on what a policy does.
 *
 * Protected rows (LR_POLICY_TAG_KEEP) are added to every keep, so that no policy has to know of them; those
 * that count against a budget, as keep_best does, find room for them first.
 */
#include "engine/host_int.h"

static struct lr_engine_seq *seq_of(const struct lr_policy_rows *r)
{
    return r->q->set->host->s;
}

static struct table *table(const struct lr_policy_rows *r)
{
    return table_of(seq_of(r), r->layer, r->head);
}

static bool may_edit(const struct lr_policy_rows *r)
{
    const struct lr_engine_host *h = r->q->set->host;
    return h->editing && r->q->set == h->active && r->layer <= h->edit_layer;
}

static const struct lr_engine_row *row_at(const struct table *t, uint32_t i)
{
    return &t->page[i / PAGE_ROWS]->row[i % PAGE_ROWS];
}

static void *scratch(struct lr_policy_seq *q, size_t bytes)
{
    return lr_arena_alloc(&q->set->host->scratch, bytes, 16);
}

/* ---- looking ---- */

static struct lr_policy_rows *rows(struct lr_policy_seq *q, uint32_t layer, uint32_t head)
{
    const struct lr_policy_model *m = &q->set->host->model;
    return layer < m->n_layer && head < m->n_kv ? &q->rows[layer * m->n_kv + head] : NULL;
}

static uint32_t count(const struct lr_policy_rows *r)
{
    return table(r)->n;
}

_Static_assert(sizeof(struct lr_policy_row) == sizeof(struct lr_engine_row), "one row");
_Static_assert(offsetof(struct lr_policy_row, tag) == offsetof(struct lr_engine_row, tag), "one row");

static const struct lr_policy_row *meta(struct lr_policy_rows *r)
{
    const struct table *t = table(r);
    struct lr_policy_row *out = scratch(r->q, (t->n + 1) * sizeof *out);
    for (uint32_t i = 0; out && i < t->n; i += PAGE_ROWS)
        memcpy(out + i, t->page[i / PAGE_ROWS]->row, MIN_OF(PAGE_ROWS, t->n - i) * sizeof *out);
    return out;
}

static int key(const struct lr_policy_rows *r, uint32_t at, uint32_t n, float *out)
{
    const struct lr_engine_seq *s = seq_of(r);
    uint32_t d = s->e->m->shape.d_head;
    LR_FAIL_IF(at > table(r)->n || n > table(r)->n - at, LR_EINVAL);
    for (uint32_t i = at; i < at + n; i++, out += d) {
        LR_TRY(lr_engine_rows_read(s, r->layer, r->head, i, out, NULL));
        if (s->lay.codec->dec_k)
            s->lay.codec->dec_k(out, d);
    }
    return 0;
}

static int value(const struct lr_policy_rows *r, uint32_t at, uint32_t n, float *out)
{
    const struct lr_engine_seq *s = seq_of(r);
    uint32_t d = s->e->m->shape.d_head;
    LR_FAIL_IF(at > table(r)->n || n > table(r)->n - at, LR_EINVAL);
    for (uint32_t i = at; i < at + n; i++, out += d) {
        LR_TRY(lr_engine_rows_read(s, r->layer, r->head, i, NULL, out));
        if (s->lay.codec->dec_v)
            s->lay.codec->dec_v(out, d);
    }
    return 0;
}

static size_t bytes(const struct lr_policy_rows *r, uint32_t tier)
{
    return tier ? 0 : (size_t)table(r)->n_pages * host_page_bytes(seq_of(r));
}

static float *column(struct lr_policy_rows *r, uint32_t c)
{
    const struct lr_engine_seq *s = seq_of(r);
    uint32_t columns = r->q->part->policy->columns;
    size_t at = (size_t)(table(r) - s->tables) * columns + c;
    return c < columns ? lr_engine_lane(&r->q->columns[at], table(r)->n) : NULL;
}

static const float *attention(struct lr_policy_rows *r, uint32_t g)
{
    struct lr_engine_host *h = r->q->set->host;
    uint32_t group = h->model.n_head / h->model.n_kv;
    if (g >= group || lr_engine_host_sums(h))
        return NULL;
    size_t at = (size_t)r->layer * h->model.n_head + (size_t)r->head * group + g;
    return lr_engine_lane(&h->sums[at], table(r)->n);
}

/* ---- keeping ---- */

static int keep_rows(struct lr_policy_rows *r, const uint32_t *idx, uint32_t n)
{
    uint32_t before = table(r)->n;
    LR_TRY(lr_engine_rows_keep(seq_of(r), r->layer, r->head, idx, n));
    r->q->set->evicted += before - n;
    return 0;
}

static int keep(struct lr_policy_rows *r, const uint32_t *idx, uint32_t n)
{
    const struct table *t = table(r);
    LR_FAIL_IF(!may_edit(r) || n > t->n, LR_EINVAL);
    for (uint32_t i = 0; i < n; i++)
        LR_FAIL_IF(idx[i] >= t->n || (i && idx[i] <= idx[i - 1]), LR_EINVAL);
    uint32_t *all = scratch(r->q, ((size_t)t->n + 1) * sizeof *all), k = 0, at = 0;
    LR_FAIL_IF(!all, LR_ENOMEM);
    for (uint32_t i = 0; i < t->n; i++) {
        bool asked = at < n && idx[at] == i;
        at += asked;
        if (asked || (row_at(t, i)->tag & LR_POLICY_TAG_KEEP))
            all[k++] = i;
    }
    return keep_rows(r, all, k);
}

static int keep_best(struct lr_policy_rows *r, const float *score, uint32_t k)
{
    const struct table *t = table(r);
    LR_FAIL_IF(!may_edit(r), LR_EINVAL);
    if (t->n <= k)
        return 0;
    float *s = scratch(r->q, t->n * sizeof *s);
    uint32_t *idx = scratch(r->q, ((size_t)k + 1) * sizeof *idx);
    LR_FAIL_IF(!s || !idx, LR_ENOMEM);
    for (uint32_t i = 0; i < t->n; i++)
        s[i] = row_at(t, i)->tag & LR_POLICY_TAG_KEEP ? INFINITY : score[i];
    return keep(r, idx, (uint32_t)lr_kern_topk(s, t->n, k, idx));
}

/* ---- changing ---- */

static bool all_finite(const float *x, uint32_t d)
{
    for (uint32_t i = 0; x && i < d; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* May rows of this stack be written? Codecs and flags were composed when the stack was parsed. */
static bool may_write(const struct lr_policy_rows *r, const float *k, const float *v)
{
    uint32_t d = r->q->set->host->model.d_head;
    return may_edit(r) && (r->q->part->policy->flags & LR_POLICY_MUTATES) && all_finite(k, d) &&
           all_finite(v, d);
}

static int write_row(struct lr_policy_rows *r, uint32_t i, const float *k, const float *v, float bias)
{
    LR_FAIL_IF(!may_write(r, k, v), LR_EINVAL);
    return lr_engine_rows_write(seq_of(r), r->layer, r->head, i, k, v, bias);
}

static int insert(struct lr_policy_rows *r, int32_t pos, const float *k, const float *v, float bias,
                  uint16_t tag)
{
    LR_FAIL_IF(!may_write(r, k, v), LR_EINVAL);
    return lr_engine_rows_insert(seq_of(r), r->layer, r->head, pos, k, v, bias, tag);
}

static int set_tag(struct lr_policy_rows *r, uint32_t i, uint16_t tag)
{
    const struct table *t = table(r);
    LR_FAIL_IF(!may_edit(r) || i >= t->n, LR_EINVAL);
    uint16_t kept = row_at(t, i)->tag & LR_POLICY_TAG_KEEP; /* protection is not a policy's to lift */
    return lr_engine_rows_tag(seq_of(r), r->layer, r->head, i, (uint16_t)(tag | kept));
}

static int permute(struct lr_policy_rows *r, const uint32_t *order)
{
    struct table *t = table(r);
    LR_FAIL_IF(!may_edit(r), LR_EINVAL);
    uint8_t *there = scratch(r->q, (size_t)t->n + 1);
    LR_FAIL_IF(!there, LR_ENOMEM);
    memset(there, 0, t->n);
    for (uint32_t i = 0; i < t->n; i++)
        LR_FAIL_IF(order[i] >= t->n || there[order[i]]++, LR_EINVAL);
    LR_TRY(lr_engine_rows_permute(seq_of(r), t, order));
    r->q->set->host->permuted = true;
    return 0;
}

static int move(struct lr_policy_rows *r, const uint32_t *idx, uint32_t n, uint32_t tier)
{
    (void)r;
    (void)idx;
    (void)n; /* all rows are in tier 0 already */
    return tier ? LR_EUNSUPPORTED : 0;
}

static int recode(struct lr_policy_rows *r, const uint32_t *idx, uint32_t n, uint32_t codec)
{
    (void)r;
    (void)idx;
    (void)n;
    return codec ? LR_EUNSUPPORTED : 0;
}

/* ---- arithmetic ---- */

static uint32_t topk(const float *score, uint32_t n, uint32_t k, uint32_t *idx)
{
    return (uint32_t)lr_kern_topk(score, n, k, idx);
}

static void pool(const float *x, uint32_t n, uint32_t width, int largest, float *out)
{
    uint32_t half = width / 2;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = i > half ? i - half : 0, to = i + half < n ? i + half : n - 1;
        float y = x[from];
        for (uint32_t j = from + 1; j <= to; j++)
            y = largest ? (x[j] > y ? x[j] : y) : y + x[j];
        out[i] = largest ? y : y / (float)(2 * half + 1);
    }
}

static int kmeans(struct lr_policy_seq *q, const float *x, uint32_t n, uint32_t d, uint32_t k,
                  uint64_t seed, uint32_t *assign, float *centroid)
{
    struct lr_rng rng;
    (void)q;
    lr_rng_seed(&rng, seed);
    return lr_kern_kmeans(&(struct lr_kern_kmeans){.x = x, .n = n, .dim = d, .k = k}, &rng, centroid,
                          assign);
}

static uint64_t draw(struct lr_policy_seq *q)
{
    return lr_rng_u64(&q->set->rng);
}

/* ---- the model ---- */

static const struct lr_kern_rows *matrix(const struct lr_engine_model *m, uint32_t layer,
                                         struct lr_str name, uint32_t *cols)
{
    const struct lr_engine_shape *h = &m->shape;
    const struct layer *l = &m->layers[layer];
    const struct {
        const char *name;
        const struct lr_kern_rows *w;
        uint32_t cols;
    } all[] = {{"wq", &l->wq, h->n_embd},   {"wk", &l->wk, h->n_embd},
               {"wv", &l->wv, h->n_embd},   {"wo", &l->wo, h->n_head * h->d_head},
               {"gate", &l->gate, h->n_embd}, {"up", &l->up, h->n_embd},
               {"down", &l->down, h->n_ff}, {"embd", &m->embd, h->n_embd},
               {"output", &m->output, h->n_embd}};
    for (size_t i = 0; i < LR_COUNT(all); i++)
        if (lr_str_is(name, all[i].name)) {
            *cols = all[i].cols;
            return all[i].w;
        }
    return NULL;
}

static int weight(struct lr_policy_seq *q, uint32_t layer, const char *name, uint32_t row, float *out,
                  uint32_t *n_rows, uint32_t *n_cols)
{
    const struct lr_engine_model *m = q->set->host->s->e->m;
    uint32_t cols = 0;
    LR_FAIL_IF(layer >= m->shape.n_layer, LR_EINVAL);
    const struct lr_kern_rows *w = matrix(m, layer, lr_strz(name), &cols);
    LR_FAIL_IF(!w || (out && row >= w->n), LR_EINVAL);
    if (out)
        lr_kern()->decode(w->type, out, (const char *)w->p + row * w->stride, cols);
    if (n_rows)
        *n_rows = (uint32_t)w->n;
    if (n_cols)
        *n_cols = cols;
    return 0;
}

static int probe(struct lr_policy_seq *q, const uint32_t *tokens, uint32_t n)
{
    struct lr_engine_host *h = q->set->host;
    struct lr_engine_seq *s = h->s;
    uint32_t len = s->len, layer = h->edit_layer;
    enum lr_policy_phase phase = h->phase;
    int rc = 0;
    LR_FAIL_IF(!h->editing || q->set != h->active || !n, LR_EINVAL);
    h->editing = false;
    for (uint32_t at = 0; !rc && !h->rc && at < n; at += LR_ENGINE_TILE) {
        struct lr_engine_work w = {.seq = s, .tokens = tokens + at, .phase = LR_POLICY_PROBE,
                                   .n = MIN_OF(n - at, LR_ENGINE_TILE)};
        rc = lr_engine_step(s->e, &w, 1, NULL);
    }
    int back = lr_engine_seq_truncate(s, len);
    h->editing = true;
    h->edit_layer = layer;
    h->phase = phase;
    return h->rc ? h->rc : rc ? rc : back;
}

const struct lr_policy_api lr_engine_api = {
    .size = sizeof(struct lr_policy_api),
    .abi = LR_POLICY_ABI,
    .rows = rows,
    .count = count,
    .meta = meta,
    .key = key,
    .value = value,
    .bytes = bytes,
    .column = column,
    .attention = attention,
    .keep = keep,
    .keep_best = keep_best,
    .write = write_row,
    .insert = insert,
    .tag = set_tag,
    .permute = permute,
    .move = move,
    .recode = recode,
    .topk = topk,
    .pool = pool,
    .kmeans = kmeans,
    .probe = probe,
    .weight = weight,
    .scratch = scratch,
    .rng = draw,
};
