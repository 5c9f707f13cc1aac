/* SPDX-License-Identifier: Apache-2.0
 * kern/kmeans.c - Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007).
 *
 * Distances are |x|^2 - 2 x.c + |c|^2, of which x.c is one call of mul per tile of points; |x|^2 is
 * the same for all centroids and is left out of comparisons. Everything runs in a fixed order, sums
 * of members in double in the order of points: the result is a function of the points, the
 * generator's state and the variant.
 */
#include "kern/kern_int.h"

#define TILE ((size_t)64) /* points per call of mul */

struct run {
    const struct lr_kern_kmeans *cfg;
    const struct lr_kern *kern;
    float *centroid;  /* (k, dim) */
    uint32_t *assign; /* n */
    double *near;     /* n: squared distance to the own centroid, or 1 - cosine */
    double *total;    /* dim: sums of one cluster's members */
    float *dots;      /* (TILE, k) */
    float *bias;      /* k: |c|^2 / 2, or 0 */
    uint32_t *size;   /* k */
    void *scratch;
};

static const float *point(const struct run *r, size_t i)
{
    return r->cfg->x + i * r->cfg->dim;
}

static double distance(const struct run *r, const float *x, const float *c)
{
    size_t dim = r->cfg->dim;
    double xc = r->kern->dot(x, c, dim), xx = r->kern->dot(x, x, dim), cc = r->kern->dot(c, c, dim);
    double d;
    if (r->cfg->spherical)
        d = xx > 0 && cc > 0 ? 1 - xc / sqrt(xx * cc) : 1;
    else
        d = xx - 2 * xc + cc;
    return d > 0 ? d : 0;
}

static void set_centroid(struct run *r, size_t c, const float *x)
{
    size_t dim = r->cfg->dim;
    float *to = r->centroid + c * dim;
    memcpy(to, x, dim * sizeof *to);
    float len = sqrtf(r->kern->dot(x, x, dim));
    if (r->cfg->spherical && len > 0)
        r->kern->scale(to, 1 / len, dim);
}

/* k-means++: each seed drawn with probability in proportion to `near`; uniformly when all is 0. */
static void draw_seeds(struct run *r, struct lr_rng *rng)
{
    size_t n = r->cfg->n;
    set_centroid(r, 0, point(r, lr_rng_below(rng, n)));
    for (size_t i = 0; i < n; i++)
        r->near[i] = distance(r, point(r, i), r->centroid);
    for (size_t c = 1; c < r->cfg->k; c++) {
        double sum = 0, at;
        size_t pick = 0, last = 0;
        for (size_t i = 0; i < n; i++)
            sum += r->near[i];
        at = lr_rng_unit(rng) * sum;
        for (; pick < n && sum > 0; pick++) {
            if (r->near[pick] > 0)
                last = pick;
            at -= r->near[pick];
            if (at < 0)
                break;
        }
        if (!(sum > 0))
            pick = lr_rng_below(rng, n);
        set_centroid(r, c, point(r, pick < n ? pick : last));
        for (size_t i = 0; i < n; i++) {
            double d = distance(r, point(r, i), r->centroid + c * r->cfg->dim);
            r->near[i] = d < r->near[i] ? d : r->near[i];
        }
    }
}

/* Every point to its centroid; how many changed. */
static size_t assign_all(struct run *r, bool first)
{
    size_t k = r->cfg->k, dim = r->cfg->dim, moved = 0;
    struct lr_kern_rows rows = {LR_KERN_F32, r->centroid, dim * sizeof *r->centroid, k};
    for (size_t c = 0; c < k; c++) {
        const float *p = r->centroid + c * dim;
        r->bias[c] = r->cfg->spherical ? 0 : r->kern->dot(p, p, dim) / 2;
    }
    for (size_t i = 0; i < r->cfg->n; i += TILE) {
        size_t now = r->cfg->n - i < TILE ? r->cfg->n - i : TILE;
        r->kern->mul(&rows, dim, point(r, i), dim, now, r->dots, k, r->scratch);
        for (size_t t = 0; t < now; t++) {
            const float *d = r->dots + t * k;
            size_t best = 0;
            for (size_t c = 1; c < k; c++)
                if (d[c] - r->bias[c] > d[best] - r->bias[best])
                    best = c;
            moved += first || r->assign[i + t] != best;
            r->assign[i + t] = (uint32_t)best;
        }
    }
    return moved;
}

/* A cluster without members takes the point farthest from its own centroid, unless that one is the
 * last of its cluster. */
static void fill_empty(struct run *r)
{
    size_t k = r->cfg->k, n = r->cfg->n;
    memset(r->size, 0, k * sizeof *r->size);
    bool empty = false;
    for (size_t i = 0; i < n; i++)
        r->size[r->assign[i]]++;
    for (size_t c = 0; c < k; c++)
        empty |= r->size[c] == 0;
    if (!empty)
        return;
    for (size_t i = 0; i < n; i++)
        r->near[i] = distance(r, point(r, i), r->centroid + r->assign[i] * r->cfg->dim);
    for (size_t c = 0; c < k; c++) {
        size_t far = n;
        if (r->size[c])
            continue;
        for (size_t i = 0; i < n; i++)
            if (r->size[r->assign[i]] > 1 && (far == n || r->near[i] > r->near[far]))
                far = i;
        r->size[r->assign[far]]--; /* far exists: n >= k, so some cluster has two */
        r->size[c] = 1;
        r->assign[far] = (uint32_t)c;
        r->near[far] = 0;
    }
}

static void move_centroids(struct run *r)
{
    size_t dim = r->cfg->dim, k = r->cfg->k;
    memset(r->total, 0, k * dim * sizeof *r->total);
    for (size_t i = 0; i < r->cfg->n; i++) {
        const float *x = point(r, i);
        double *to = r->total + r->assign[i] * dim;
        for (size_t j = 0; j < dim; j++)
            to[j] += x[j];
    }
    for (size_t c = 0; c < k; c++) {
        float *to = r->centroid + c * dim;
        for (size_t j = 0; j < dim; j++)
            to[j] = (float)(r->total[c * dim + j] / r->size[c]);
        float len = r->cfg->spherical ? sqrtf(r->kern->dot(to, to, dim)) : 0;
        if (len > 0)
            r->kern->scale(to, 1 / len, dim);
    }
}

static int borrow(struct run *r)
{
    size_t k = r->cfg->k, cells;
    LR_FAIL_IF(lr_mul_over(k, r->cfg->dim, &cells), LR_EINVAL);
    r->near = lr_calloc(r->cfg->n, sizeof *r->near);
    r->total = lr_calloc(cells, sizeof *r->total);
    r->dots = lr_calloc(k, TILE * sizeof *r->dots);
    r->bias = lr_calloc(k, sizeof *r->bias);
    r->size = lr_calloc(k, sizeof *r->size);
    r->scratch = lr_alloc(LR_KERN_SCRATCH + LR_KERN_ALIGN);
    return r->near && r->total && r->dots && r->bias && r->size && r->scratch ? 0 : LR_ENOMEM;
}

int lr_kern_kmeans(const struct lr_kern_kmeans *cfg, struct lr_rng *rng, float *centroid,
                   uint32_t *assign)
{
    LR_FAIL_IF(!cfg->k || cfg->k > cfg->n || !cfg->dim || cfg->n > UINT32_MAX, LR_EINVAL);
    struct run r = {.cfg = cfg, .kern = lr_kern(), .centroid = centroid, .assign = assign};
    int rc = borrow(&r);
    if (!rc) {
        void *raw = r.scratch;
        r.scratch = (char *)raw + (LR_KERN_ALIGN - (uintptr_t)raw % LR_KERN_ALIGN);
        draw_seeds(&r, rng);
        for (unsigned round = 0; round < (cfg->rounds ? cfg->rounds : 25); round++) {
            if (!assign_all(&r, round == 0))
                break;
            fill_empty(&r);
            move_centroids(&r);
        }
        r.scratch = raw;
    }
    lr_free(r.near);
    lr_free(r.total);
    lr_free(r.dots);
    lr_free(r.bias);
    lr_free(r.size);
    lr_free(r.scratch);
    return rc;
}
