/* SPDX-License-Identifier: Apache-2.0
 * kern/rope.c - the angles of rotary position embeddings (Su et al. 2021).
 *
 *   angle of pair p at position t:  t * theta^(-2p / n_rot), scaled
 *
 * Computed once per token and shared by all heads and layers, so they can afford double precision:
 * at position 100,000 a float angle would be off by 4e-3. Sines come from the C library: two
 * machines agree as far as their libraries do.
 *
 * YaRN (Peng et al. 2023, "NTK-by-parts"): a pair that turns r = yarn_ctx * frequency / 2 pi times
 * within the trained context keeps its frequency when r >= beta_fast, is interpolated (times
 * `scale`) when r <= beta_slow. The paper ramps over r; released code ramps linearly over the
 * pair's index between the two cuts, rounded outwards, and trained models expect that: so does
 * this.
 */
#include "kern/kern_int.h"

#define N_ROT_MAX 512
#define TWO_PI    6.283185307179586477

struct plan {
    double base, scale, attn;
    double lo, hi; /* ramp over pairs: 1 at lo and below, 0 at hi and above; unused without YaRN */
};

/* The pair (a fraction) that turns `turns` times within ctx positions. */
static double pair_of(const struct lr_kern_rope *cfg, double base, double turns)
{
    return (double)cfg->n_rot * log((double)cfg->yarn_ctx / (turns * TWO_PI)) / (2 * log(base));
}

static struct plan make_plan(const struct lr_kern_rope *cfg)
{
    struct plan p = {.base = cfg->base != 0 ? cfg->base : 10000,
                     .scale = cfg->scale != 0 ? cfg->scale : 1,
                     .attn = cfg->attn};
    bool yarn = cfg->yarn_ctx > 0;
    if (yarn) {
        double last = (double)cfg->n_rot - 1;
        p.lo = floor(pair_of(cfg, p.base, cfg->beta_fast != 0 ? cfg->beta_fast : 32));
        p.hi = ceil(pair_of(cfg, p.base, cfg->beta_slow != 0 ? cfg->beta_slow : 1));
        p.lo = p.lo > 0 ? p.lo : 0;
        p.hi = p.hi < last ? p.hi : last;
    }
    if (cfg->attn == 0)
        p.attn = yarn ? 1 + 0.1 * log(1 / p.scale) : 1;
    return p;
}

static double frequency(const struct lr_kern_rope *cfg, const struct plan *p, size_t pair)
{
    double f = pow(p->base, -2.0 * (double)pair / (double)cfg->n_rot);
    double keep = 0; /* share of the frequency that is not scaled */
    if (cfg->factors)
        f /= cfg->factors[pair];
    if (cfg->yarn_ctx > 0) {
        double width = p->hi - p->lo > 0.001 ? p->hi - p->lo : 0.001;
        double ramp = ((double)pair - p->lo) / width;
        keep = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
    }
    return f * (keep + (1 - keep) * p->scale);
}

int lr_kern_rope_angles(const struct lr_kern_rope *cfg, const int32_t *pos, size_t n_tok,
                        float *angles)
{
    double freq[N_ROT_MAX / 2];
    LR_FAIL_IF(cfg->n_rot < 2 || cfg->n_rot > N_ROT_MAX || cfg->n_rot % 2, LR_EINVAL);
    struct plan p = make_plan(cfg);
    for (size_t i = 0; i < cfg->n_rot / 2; i++)
        freq[i] = frequency(cfg, &p, i);
    for (size_t t = 0; t < n_tok; t++)
        for (size_t i = 0; i < cfg->n_rot / 2; i++) {
            double a = (double)pos[t] * freq[i];
            *angles++ = (float)(cos(a) * p.attn);
            *angles++ = (float)(sin(a) * p.attn);
        }
    return 0;
}
