/* SPDX-License-Identifier: Apache-2.0
 * services.c - a plug-in that uses every service, and says by name which one broke its word.
 *
 *   "every-service"   evicts by lot, with state of its own (save, load, cut), checks services as it goes
 *   "merge"           folds each row it drops into the one before it: write, insert, biases
 *   "turned"          a codec: 8 bits, values with the signs of odd elements flipped
 *   "virtual"         reads every row as a virtual one: the same sum by another way
 *   "misbehaves"      edits in observe, writes NaN, moves tiers: everything has to be refused
 */
#include <larder/policy.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct state {
    const struct lr_policy_api *api;
    struct lr_policy_model model;
    uint32_t seen; /* layers observed: state that columns do not hold */
    uint32_t probed;
};

static int open_state(void **st, const struct lr_policy_open *o)
{
    struct state *p = calloc(1, sizeof *p);
    if (!p)
        return LR_POLICY_ENOMEM;
    p->api = o->api;
    p->model = *o->model;
    *st = p;
    return o->size == sizeof *o && o->model->size == sizeof *o->model &&
                   o->api->size == sizeof *o->api && o->api->abi == LR_POLICY_ABI
               ? 0
               : LR_POLICY_EINVAL;
}

#define TAPS_ALL 511u

static int need_all(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    (void)st;
    (void)phase;
    out->taps = layer == 1 ? 0 : TAPS_ALL;
    out->window = 4;
    return 0;
}

/* Weights of each query sum to one over the rows it sees. */
static int observe_all(void *st, struct lr_policy_seq *q, const struct lr_policy_view *v)
{
    struct state *p = st;
    uint32_t group = p->model.n_head / p->model.n_kv;
    if (v->layer == 1 || !v->x || !v->h || !v->q || !v->qpre || !v->kpre || !v->out || !v->lse || !v->awin)
        return LR_POLICY_EINVAL;
    if ((v->phase == LR_POLICY_PROBE) != !v->acol || v->n_win > 4 || v->n_win > v->n_tok)
        return LR_POLICY_EINVAL;
    for (uint32_t h = 0; h < p->model.n_head; h++)
        for (uint32_t t = 0; t < v->n_win; t++) {
            double sum = 0;
            uint32_t n = v->rows[h / group];
            if (n != p->api->count(p->api->rows(q, v->layer, h / group)))
                return LR_POLICY_EINVAL;
            for (uint32_t j = 0; j < n; j++)
                sum += (double)v->awin[h][t * n + j];
            if (fabs(sum - 1) > 1e-4)
                return LR_POLICY_EINVAL;
        }
    if (v->phase == LR_POLICY_PROBE)
        p->probed++;
    else
        p->seen++;
    return 0;
}

static int check_model(struct state *p, struct lr_policy_seq *q)
{
    uint32_t rows = 0, cols = 0;
    float *x = p->api->scratch(q, 4096 * sizeof *x), one = 1;
    if (!x || p->api->weight(q, 0, "wk", 0, NULL, &rows, &cols) || rows != p->model.n_kv * p->model.d_head ||
        cols != p->model.n_embd || p->api->weight(q, 0, "wk", rows - 1, x, NULL, NULL) ||
        !p->api->weight(q, 0, "wk", rows, x, NULL, NULL) || !p->api->weight(q, 0, "none", 0, x, NULL, NULL))
        return LR_POLICY_EINVAL;
    float in[6] = {1, 2, 3, 4, 5, 6}, out[6], centroid[2];
    uint32_t assign[6], idx[2];
    p->api->pool(in, 6, 3, 0, out);
    if (fabsf(out[0] - one) > 1e-6f || fabsf(out[2] - 3) > 1e-6f)
        return LR_POLICY_EINVAL;
    p->api->pool(in, 6, 3, 1, out);
    if (out[0] < 2 || out[5] < 6 || p->api->topk(in, 6, 2, idx) != 2 || idx[0] != 4 || idx[1] != 5)
        return LR_POLICY_EINVAL;
    return p->api->kmeans(q, in, 6, 1, 2, 7, assign, centroid) || assign[0] == assign[5]
               ? LR_POLICY_EINVAL
               : 0;
}

/* Turns the table by one row and back, tags a row, reads what it is made of. */
static int check_rows(struct state *p, struct lr_policy_seq *q, struct lr_policy_rows *r)
{
    uint32_t n = p->api->count(r), d = p->model.d_head;
    uint32_t *order = p->api->scratch(q, n * sizeof *order), *back = p->api->scratch(q, n * sizeof *back);
    float *k = p->api->scratch(q, 4 * d * sizeof *k);
    const struct lr_policy_row *m = p->api->meta(r);
    float *c = p->api->column(r, 1);
    if (!order || !back || !k || !m || !c || p->api->column(r, 2) || !p->api->attention(r, 0))
        return LR_POLICY_ENOMEM;
    int32_t first = m[0].pos, last = m[n - 1].pos;
    for (uint32_t i = 0; i < n; i++) {
        order[i] = (i + 1) % n;
        back[i] = (i + n - 1) % n;
        c[i] = (float)m[i].pos;
    }
    if (p->api->key(r, n - 1, 1, k) || p->api->value(r, n - 1, 1, k + d) || !p->api->key(r, n, 1, k))
        return LR_POLICY_EINVAL;
    int rc = p->api->permute(r, order);
    m = p->api->meta(r);
    if (rc || !m || m[0].pos != (n > 1 ? (int32_t)c[0] : first) || m[n - 1].pos != first)
        return rc ? rc : LR_POLICY_EINVAL;
    rc = p->api->permute(r, back);
    m = p->api->meta(r);
    c = p->api->column(r, 1);
    if (rc || m[0].pos != first || m[n - 1].pos != last || c[n - 1] != (float)last)
        return rc ? rc : LR_POLICY_EINVAL;
    if (p->api->key(r, n - 1, 1, k + 2 * d) || p->api->value(r, n - 1, 1, k + 3 * d) ||
        memcmp(k, k + 2 * d, 2 * d * sizeof *k) != 0)
        return LR_POLICY_EINVAL;
    order[0] = n;
    if (!p->api->permute(r, order) || p->api->tag(r, n - 1, 5) || !p->api->bytes(r, 0) ||
        p->api->bytes(r, 1) || p->api->move(r, back, 1, 0) || p->api->recode(r, back, 1, 0))
        return LR_POLICY_EINVAL;
    return p->api->move(r, back, 1, 1) == LR_POLICY_EUNSUPPORTED &&
                   p->api->recode(r, back, 1, 1) == LR_POLICY_EUNSUPPORTED
               ? 0
               : LR_POLICY_EINVAL;
}

static int edit_all(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    struct state *p = st;
    static const uint32_t tokens[3] = {3, 1, 2};
    int rc = check_model(p, q);
    if (e->layer == 0 && e->phase == LR_POLICY_PROMPT_END) {
        uint32_t before = p->probed, n = p->api->count(p->api->rows(q, 0, 0));
        rc = rc ? rc : p->api->probe(q, tokens, 3);
        if (!rc && (p->probed == before || n != p->api->count(p->api->rows(q, 0, 0))))
            rc = LR_POLICY_EINVAL;
    }
    for (uint32_t h = 0; !rc && h < p->model.n_kv; h++) {
        struct lr_policy_rows *r = p->api->rows(q, e->layer, h);
        uint32_t n = p->api->count(r), budget = e->budget[e->layer * p->model.n_kv + h];
        if (e->layer + 1 < p->model.n_layer && !p->api->keep(p->api->rows(q, e->layer + 1, 0), NULL, 0))
            return LR_POLICY_EINVAL; /* it is not that layer's turn */
        rc = check_rows(p, q, r);
        float *lot = p->api->column(r, 0);
        if (!lot || rc)
            return rc ? rc : LR_POLICY_ENOMEM;
        for (uint32_t i = 0; i < n; i++)
            if (lot[i] <= 0)
                lot[i] = 1 + (float)(p->api->rng(q) % 65536) + (float)(p->seen % 2);
        rc = n > budget ? p->api->keep_best(r, lot, budget) : 0;
    }
    return rc;
}

static int cut(void *st, struct lr_policy_seq *q, uint32_t len)
{
    struct state *p = st;
    (void)q;
    p->seen += len;
    return 0;
}

static int save(void *st, void *buf, size_t *n)
{
    const struct state *p = st;
    if (buf)
        memcpy(buf, &p->seen, sizeof p->seen);
    *n = sizeof p->seen;
    return 0;
}

static int load(void *st, const void *buf, size_t n)
{
    struct state *p = st;
    if (n != sizeof p->seen)
        return LR_POLICY_EVERSION;
    memcpy(&p->seen, buf, n);
    return 0;
}

/* ---- merge ---- */

/* Each pair of rows that has to shrink becomes one: the mean of both, worth two. */
static int merge_table(struct state *p, struct lr_policy_seq *q, struct lr_policy_rows *r, uint32_t budget)
{
    uint32_t d = p->model.d_head, n = p->api->count(r);
    uint32_t *idx = p->api->scratch(q, n * sizeof *idx), k = 0, drop = n - budget;
    float *x = p->api->scratch(q, 4 * d * sizeof *x);
    const struct lr_policy_row *m = p->api->meta(r);
    if (!idx || !x || !m)
        return LR_POLICY_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        if (!drop || i + 1 == n) {
            idx[k++] = i;
            continue;
        }
        drop--;
        int rc = p->api->key(r, i, 2, x);
        rc = rc ? rc : p->api->value(r, i, 2, x + 2 * d);
        for (uint32_t c = 0; c < d; c++) {
            x[c] = (x[c] + x[d + c]) / 2;
            x[2 * d + c] = (x[2 * d + c] + x[3 * d + c]) / 2;
        }
        float bias = logf(expf(m[i].bias) + expf(m[i + 1].bias));
        rc = rc ? rc : p->api->write(r, i + 1, x, x + 2 * d, bias);
        if (rc)
            return rc;
        idx[k++] = ++i;
    }
    return p->api->keep(r, idx, k);
}

static int edit_merge(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    struct state *p = st;
    for (uint32_t h = 0; h < p->model.n_kv; h++) {
        struct lr_policy_rows *r = p->api->rows(q, e->layer, h);
        uint32_t budget = e->budget[e->layer * p->model.n_kv + h];
        if (p->api->count(r) <= budget)
            continue;
        float zero[1024] = {0};
        uint32_t want = budget > 1 ? budget - 1 : budget;
        int rc = 0;
        while (!rc && p->api->count(r) > want) {
            uint32_t before = p->api->count(r);
            rc = merge_table(p, q, r, before - want > before / 2 ? before - before / 2 : want);
            if (!rc && p->api->count(r) == before) /* one row left to merge with none */
                rc = p->api->keep(r, &(uint32_t){before - 1}, 1);
        }
        if (!rc && want < budget) /* a row that stands for nothing */
            rc = p->api->insert(r, 0, zero, zero, -30, 7);
        const struct lr_policy_row *m = p->api->meta(r);
        if (!rc && want < budget && (!m || (m[0].tag != 7 && m[1].tag != 7)))
            rc = LR_POLICY_EINVAL;
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- virtual ---- */

static int select_virtual(void *st, struct lr_policy_seq *q, const struct lr_policy_query *query,
                          struct lr_policy_pick *out)
{
    const struct state *p = st;
    uint32_t n = query->rows - 1, d = p->model.d_head;
    struct lr_policy_rows *r = p->api->rows(q, query->layer, query->head);
    float *x = p->api->scratch(q, (2 * (size_t)n * d + n + 1) * sizeof *x);
    if (!x)
        return LR_POLICY_ENOMEM;
    int rc = p->api->key(r, 0, n, x);
    rc = rc ? rc : p->api->value(r, 0, n, x + (size_t)n * d);
    out->xk = x;
    out->xv = x + (size_t)n * d;
    out->xbias = memset(x + 2 * (size_t)n * d, 0, n * sizeof *x);
    out->n_virtual = n;
    out->idx[out->n++] = n; /* the token's own */
    return rc;
}

/* ---- misbehaves ---- */

static int observe_bad(void *st, struct lr_policy_seq *q, const struct lr_policy_view *v)
{
    struct state *p = st;
    struct lr_policy_rows *r = p->api->rows(q, v->layer, 0);
    return p->api->keep(r, NULL, 0) && p->api->tag(r, 0, 1) && !p->api->rows(q, 1000, 0) ? 0
                                                                                      : LR_POLICY_EOVER;
}

static int need_bad(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    (void)st;
    (void)layer;
    (void)phase;
    out->taps = LR_POLICY_TAP_LSE;
    return 0;
}

static int edit_bad(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    struct state *p = st;
    struct lr_policy_rows *r = p->api->rows(q, e->layer, 0);
    float bad[1024];
    for (int i = 0; i < 1024; i++)
        bad[i] = NAN;
    uint32_t n = p->api->count(r), down[2] = {1, 0}, far[1] = {n};
    if (!p->api->write(r, 0, bad, bad, 0) || !p->api->insert(r, 0, bad, bad, 0, 0) ||
        !p->api->keep(r, down, 2) || !p->api->keep(r, far, 1) || !p->api->tag(r, n, 0))
        return LR_POLICY_EOVER;
    return 0; /* and leaves every row: the engine has to notice */
}

static void flip(float *v, size_t d)
{
    for (size_t i = 1; i < d; i += 2)
        v[i] = -v[i];
}

#define HEAD(n, f)                                                                                 \
    .abi = LR_POLICY_ABI, .size = sizeof(struct lr_policy), .name = n, .what = "of the tests",     \
    .flags = f, .open = open_state, .close = free

static const struct lr_policy every = {HEAD("every-service", LR_POLICY_CAPPED), .columns = 2,
                                       .need = need_all, .observe = observe_all, .edit = edit_all,
                                       .cut = cut, .save = save, .load = load};
static const struct lr_policy merge = {HEAD("merge", LR_POLICY_CAPPED | LR_POLICY_MUTATES),
                                       .edit = edit_merge};
static const struct lr_policy virtual_rows = {HEAD("virtual", LR_POLICY_LOSSLESS),
                                              .select = select_virtual};
static const struct lr_policy misbehaves = {HEAD("misbehaves", 0), .need = need_bad,
                                            .observe = observe_bad, .edit = edit_bad};
static const struct lr_policy_codec turned = {.abi = LR_POLICY_ABI, .size = sizeof turned,
                                              .name = "turned", .what = "of the tests", .k = "Q8_0",
                                              .v = "Q8_0", .group = 1, .lossy = 1, .enc_v = flip,
                                              .dec_v = flip, .ox = flip};

const struct lr_policy_plugin *lr_policy_plugin(uint32_t abi)
{
    static const struct lr_policy *const policies[] = {&every, &merge, &virtual_rows, &misbehaves,
                                                 NULL};
    static const struct lr_policy_codec *const codecs[] = {&turned, NULL};
    static const struct lr_policy_plugin list = {.abi = LR_POLICY_ABI, .size = sizeof list,
                                                 .policies = policies, .codecs = codecs};
    return abi == LR_POLICY_ABI ? &list : NULL;
}
