/* SPDX-License-Identifier: Apache-2.0
 * kern/body_mul.h - products of rows with tokens. Compiled once per variant over its lanes.
 *
 * The register tile. ROWS x TOKENS sums of sixteen lanes stay in registers while both operands stream
 * along k, sixteen elements a step:
 *
 *            token 0   token 1  ...                 every sum is one chain of fused adds, the lanes
 *   row 0    sum 00    sum 01                       of kern.h; the tile's shape decides how many
 *   row 1    sum 10    sum 11                       chains run side by side, never what is in one
 *
 * That is why neighbours cannot matter. The usual shape (outer products of packed panels, lanes along
 * the rows) needs both operands transposed, and a single token would have to run over transposed
 * weights too in order to give the same bits; here one kernel serves decode and prefill, and weights
 * stay as they lie in the file. The price is the tree at the end of a block: some 3 instructions per
 * sum against 64 steps of a block, 5 %.
 *
 * Where the weights come from. Up to TOKENS_FUSED tokens: decoded in registers, step by step (the
 * quantised ones from codes, which unpack puts in the first-level cache). More: a band of 32 rows is
 * decoded to floats in the scratch (128 KiB, second-level cache), all tokens run over it.
 *
 *   for each block of k        x's block, up to 256 x 4 KiB, stays in the second-level cache
 *     for each band of rows    decode
 *       for each TOKENS        24 KiB of x, first-level cache
 *         for each ROWS        16 KiB of the band
 *
 * Measured (bench_kern, Zen 5 at two cores): see docs in bench/kern.c. Dropped: integer tiles as the
 * only path. They are faster per multiplication, but activations of eight bits move logits by some
 * 1e-2, and the engine promises 1e-3 against the float model.
 */

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define BAND ((size_t)32)

enum source { FROM_F32, FROM_F16, FROM_BF16, FROM_CODES, FROM_OFFSET_CODES };

INLINE v16 fetch(enum source from, const void *row, size_t i)
{
    if (from == FROM_F32)
        return v_load((const float *)row + i);
    if (from == FROM_F16)
        return v_f16((const uint16_t *)row + i);
    if (from == FROM_BF16)
        return v_bf16((const uint16_t *)row + i);
    const struct codes *c = (const struct codes *)row;
    v16 w = v_mul(v_set(c->s[i / 16]), v_i8(c->q + i));
    return from == FROM_OFFSET_CODES ? v_sub(w, v_set(c->m[i / 16])) : w;
}

/* The last n < 16 elements; codes come in whole sixteens. */
INLINE v16 fetch_n(enum source from, const void *row, size_t i, size_t n)
{
    if (from == FROM_F32)
        return v_load_n((const float *)row + i, n);
    uint16_t t[16] = {0};
    memcpy(t, (const uint16_t *)row + i, n * sizeof *t);
    return from == FROM_F16 ? v_f16(t) : v_bf16(t);
}

/* Where a tile reads and writes. */
struct span {
    const char *w;
    size_t w_stride; /* bytes */
    const float *x;
    size_t x_stride;
    size_t k;
    float *out;
    size_t out_stride;
    bool add; /* onto out: not the first block */
};

INLINE void put_sums(int rows, int tokens, v16 sum[ROWS][TOKENS], const struct span *s)
{
    UNROLL for (int t = 0; t < tokens; t++)
    {
        float *out = s->out + (size_t)t * s->out_stride;
#ifdef HAS_SUM4
        if (rows == 4) {
            v16 column[4] = {sum[0][t], sum[1][t], sum[2][t], sum[3][t]};
            __m128 four = v_sum4(column);
            _mm_storeu_ps(out, s->add ? _mm_add_ps(_mm_loadu_ps(out), four) : four);
            continue;
        }
#endif
        UNROLL for (int r = 0; r < rows; r++)
        {
            float one = v_sum(sum[r][t]);
            out[r] = s->add ? out[r] + one : one;
        }
    }
}

INLINE void tile(enum source from, int rows, int tokens, const struct span *s)
{
    v16 sum[ROWS][TOKENS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int t = 0; t < tokens; t++)
            sum[r][t] = v_zero();
    size_t i = 0;
    for (; i + 16 <= s->k; i += 16) {
        v16 w[ROWS];
        UNROLL for (int r = 0; r < rows; r++)
            w[r] = fetch(from, s->w + (size_t)r * s->w_stride, i);
        UNROLL for (int t = 0; t < tokens; t++)
        {
            v16 x = v_load(s->x + (size_t)t * s->x_stride + i);
            UNROLL for (int r = 0; r < rows; r++)
                sum[r][t] = v_fma(w[r], x, sum[r][t]);
        }
    }
    if (i < s->k && from <= FROM_BF16) {
        v16 w[ROWS];
        UNROLL for (int r = 0; r < rows; r++)
            w[r] = fetch_n(from, s->w + (size_t)r * s->w_stride, i, s->k - i);
        UNROLL for (int t = 0; t < tokens; t++)
        {
            v16 x = v_load_n(s->x + (size_t)t * s->x_stride + i, s->k - i);
            UNROLL for (int r = 0; r < rows; r++)
                sum[r][t] = v_fma(w[r], x, sum[r][t]);
        }
    }
    put_sums(rows, tokens, sum, s);
}

#define TILE_FN(name, from, tokens)                                                                \
    static void name(size_t rows, struct span s)                                                   \
    {                                                                                              \
        for (; rows >= ROWS; rows -= ROWS, s.w += ROWS * s.w_stride, s.out += ROWS)                \
            tile(from, ROWS, tokens, &s);                                                          \
        for (; rows; rows--, s.w += s.w_stride, s.out++)                                           \
            tile(from, 1, tokens, &s);                                                             \
    }
typedef void (*tile_fn)(size_t rows, struct span s);

#define TILES2(from) TILE_FN(tile_##from##_1, from, 1) TILE_FN(tile_##from##_2, from, 2)
TILES2(FROM_F32)
TILES2(FROM_F16)
TILES2(FROM_BF16)
TILES2(FROM_CODES)
TILES2(FROM_OFFSET_CODES)
#if TOKENS_FUSED == 4
#define TILES4(from) TILE_FN(tile_##from##_3, from, 3) TILE_FN(tile_##from##_4, from, 4)
TILES4(FROM_F32)
TILES4(FROM_F16)
TILES4(FROM_BF16)
TILES4(FROM_CODES)
TILES4(FROM_OFFSET_CODES)
TILE_FN(tile_FROM_F32_5, FROM_F32, 5)
TILE_FN(tile_FROM_F32_6, FROM_F32, 6)
#define FUSED(from) {tile_##from##_1, tile_##from##_2, tile_##from##_3, tile_##from##_4}
static const tile_fn f32_tiles[TOKENS] = {tile_FROM_F32_1, tile_FROM_F32_2, tile_FROM_F32_3,
                                          tile_FROM_F32_4, tile_FROM_F32_5, tile_FROM_F32_6};
#else
#define FUSED(from) {tile_##from##_1, tile_##from##_2}
static const tile_fn f32_tiles[TOKENS] = FUSED(FROM_F32);
#endif
static const tile_fn fused_tiles[][TOKENS_FUSED] = {
    [FROM_F32] = FUSED(FROM_F32),
    [FROM_F16] = FUSED(FROM_F16),
    [FROM_BF16] = FUSED(FROM_BF16),
    [FROM_CODES] = FUSED(FROM_CODES),
    [FROM_OFFSET_CODES] = FUSED(FROM_OFFSET_CODES),
};

static enum source source_of(enum lr_kern_type type)
{
    if (type <= LR_KERN_BF16)
        return (enum source)type;
    return has_offset(type) ? FROM_OFFSET_CODES : FROM_CODES;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Elements at .. at + n of a row as floats, n <= LR_KERN_BLOCK. */
static void decode_part(enum lr_kern_type type, float *dst, const void *row, size_t at, size_t n)
{
    struct codes c;
    size_t i = 0;
    switch (source_of(type)) {
    case FROM_F32:
        memcpy(dst, (const float *)row + at, n * sizeof *dst);
        break;
    case FROM_F16:
        f16_to_f32(dst, (const uint16_t *)row + at, n);
        break;
    case FROM_BF16:
        bf16_to_f32(dst, (const uint16_t *)row + at, n);
        break;
    case FROM_CODES:
        unpack(type, &c, row, at, n);
        for (; i < n; i += 16)
            v_store(dst + i, fetch(FROM_CODES, &c, i));
        break;
    case FROM_OFFSET_CODES:
        unpack(type, &c, row, at, n);
        for (; i < n; i += 16)
            v_store(dst + i, fetch(FROM_OFFSET_CODES, &c, i));
        break;
    }
}

static void decode(enum lr_kern_type type, float *dst, const void *src, size_t n)
{
    for (size_t at = 0; at < n; at += LR_KERN_BLOCK)
        decode_part(type, dst + at, src, at, min_size(n - at, LR_KERN_BLOCK));
}

/* All tokens over rows of plain floats. */
static void mul_tokens(size_t rows, struct span s, size_t n_tok)
{
    while (n_tok) {
        size_t now = min_size(n_tok, TOKENS);
        f32_tiles[now - 1](rows, s);
        s.x += now * s.x_stride;
        s.out += now * s.out_stride;
        n_tok -= now;
    }
}

/* Few tokens: ROWS rows of codes at a time, decoded in registers. */
static void mul_codes(const struct lr_kern_rows *w, size_t at, struct span s, size_t n_tok,
                      struct codes *c)
{
    tile_fn fn = fused_tiles[source_of(w->type)][n_tok - 1];
    const char *row = s.w;
    s.w = (const char *)c;
    s.w_stride = sizeof *c;
    for (size_t r = 0; r < w->n;) {
        size_t now = min_size(w->n - r, ROWS);
        for (size_t j = 0; j < now; j++, row += w->stride)
            unpack(w->type, c + j, row, at, s.k);
        fn(now, s);
        s.out += now;
        r += now;
    }
}

/* Many tokens: bands of rows as floats. */
static void mul_bands(const struct lr_kern_rows *w, size_t at, struct span s, size_t n_tok,
                      float *band)
{
    const char *row = s.w;
    s.w = (const char *)band;
    s.w_stride = LR_KERN_BLOCK * sizeof *band;
    for (size_t r = 0; r < w->n;) {
        size_t now = min_size(w->n - r, BAND);
        for (size_t j = 0; j < now; j++, row += w->stride)
            decode_part(w->type, band + j * LR_KERN_BLOCK, row, at, s.k);
        mul_tokens(now, s, n_tok);
        s.out += now;
        r += now;
    }
}

static void mul(const struct lr_kern_rows *w, size_t k, const float *x, size_t x_stride,
                size_t n_tok, float *out, size_t out_stride, void *scratch)
{
    enum source from = source_of(w->type);
    for (size_t at = 0; at < k && n_tok; at += LR_KERN_BLOCK) {
        struct span s = {.w = w->p, .w_stride = w->stride, .x = x + at, .x_stride = x_stride,
                         .k = min_size(k - at, LR_KERN_BLOCK), .out = out,
                         .out_stride = out_stride, .add = at > 0};
        if (n_tok > TOKENS_FUSED && from != FROM_F32) {
            mul_bands(w, at, s, n_tok, scratch);
        } else if (from >= FROM_CODES) {
            mul_codes(w, at, s, n_tok, scratch);
        } else {
            s.w += at * (from == FROM_F32 ? sizeof(float) : sizeof(uint16_t));
            if (n_tok <= TOKENS_FUSED)
                fused_tiles[from][n_tok - 1](w->n, s);
            else
                for (size_t r = 0; r < w->n; r += BAND, s.w += BAND * s.w_stride, s.out += BAND)
                    mul_tokens(min_size(w->n - r, BAND), s, n_tok);
        }
    }
}

/* ---- mix: sums of rows ---- */

#define MIX_TOKENS 2

/* A strip of 32 columns and `tokens` tokens stays in registers while the rows go by. */
INLINE void mix_strip(enum source from, int tokens, const struct lr_kern_rows *v, size_t at,
                      const float *p, size_t p_stride, float *out, size_t out_stride)
{
    v16 sum[MIX_TOKENS][2];
    UNROLL for (int t = 0; t < tokens; t++)
        UNROLL for (int j = 0; j < 2; j++)
            sum[t][j] = v_load(out + (size_t)t * out_stride + 16 * j);
    const char *row = v->p;
    for (size_t r = 0; r < v->n; r++, row += v->stride) {
        v16 a = fetch(from, row, at), b = fetch(from, row, at + 16);
        UNROLL for (int t = 0; t < tokens; t++)
        {
            v16 w = v_set(p[(size_t)t * p_stride + r]);
            sum[t][0] = v_fma(w, a, sum[t][0]);
            sum[t][1] = v_fma(w, b, sum[t][1]);
        }
    }
    UNROLL for (int t = 0; t < tokens; t++)
        UNROLL for (int j = 0; j < 2; j++)
            v_store(out + (size_t)t * out_stride + 16 * j, sum[t][j]);
}

INLINE void mix_tail(enum source from, const struct lr_kern_rows *v, size_t at, size_t n,
                     const float *p, float *out)
{
    v16 sum = v_load_n(out, n);
    const char *row = v->p;
    for (size_t r = 0; r < v->n; r++, row += v->stride)
        sum = v_fma(v_set(p[r]), fetch_n(from, row, at, n), sum);
    v_store_n(out, sum, n);
}

INLINE void mix_from(enum source from, const struct lr_kern_rows *v, size_t k, const float *p,
                     size_t p_stride, size_t n_tok, float *out, size_t out_stride)
{
    for (size_t t = 0; t < n_tok; t += MIX_TOKENS) {
        const float *pt = p + t * p_stride;
        float *ot = out + t * out_stride;
        size_t now = min_size(n_tok - t, MIX_TOKENS), at = 0;
        for (; at + 32 <= k; at += 32) {
            if (now == MIX_TOKENS)
                mix_strip(from, MIX_TOKENS, v, at, pt, p_stride, ot + at, out_stride);
            else
                mix_strip(from, 1, v, at, pt, p_stride, ot + at, out_stride);
        }
        for (; at < k; at += 15)
            for (size_t u = 0; u < now; u++)
                mix_tail(from, v, at, min_size(k - at, 15), pt + u * p_stride,
                         ot + u * out_stride + at);
    }
}

static void mix_plain(const struct lr_kern_rows *v, size_t k, const float *p, size_t p_stride,
                      size_t n_tok, float *out, size_t out_stride)
{
    if (v->type == LR_KERN_F32)
        mix_from(FROM_F32, v, k, p, p_stride, n_tok, out, out_stride);
    else if (v->type == LR_KERN_F16)
        mix_from(FROM_F16, v, k, p, p_stride, n_tok, out, out_stride);
    else
        mix_from(FROM_BF16, v, k, p, p_stride, n_tok, out, out_stride);
}

static void mix(const struct lr_kern_rows *v, size_t k, const float *p, size_t p_stride,
                size_t n_tok, float *out, size_t out_stride, void *scratch)
{
    if (v->type <= LR_KERN_BF16) {
        mix_plain(v, k, p, p_stride, n_tok, out, out_stride);
        return;
    }
    float *band = scratch;
    for (size_t at = 0; at < k; at += LR_KERN_BLOCK) {
        size_t part = min_size(k - at, LR_KERN_BLOCK);
        const char *row = v->p;
        for (size_t r = 0; r < v->n; r += BAND) {
            size_t now = min_size(v->n - r, BAND);
            for (size_t j = 0; j < now; j++, row += v->stride)
                decode_part(v->type, band + j * part, row, at, part);
            struct lr_kern_rows b = {LR_KERN_F32, band, part * sizeof *band, now};
            mix_plain(&b, part, p + r, p_stride, n_tok, out + at, out_stride);
        }
    }
}

/* ---- mulq: codes with codes ---- */

/* A record of act_q8: n / 16 scales d, n / 16 sums d * (q0 + .. + q15), n codes. */
static void act_q8(void *dst, const float *src, size_t n)
{
    char *p = (char *)dst;
    float *d = (float *)(void *)p, *sums = d + n / 16;
    int8_t *q = (int8_t *)(sums + n / 16);
    for (size_t i = 0; i < n; i += 32) {
        v16 a = v_load(src + i), b = v_load(src + i + 16);
        float top = v_hmax(v_max(v_abs(a), v_abs(b)));
        float inv = top > 0 ? 127.0f / top : 0;
        if (!(inv <= 0x1p126f)) /* 127 / top is no number any more: top is next to nothing, or NaN */
            inv = 0;
        v_to_i8(q + i, v_mul(a, v_set(inv)));
        v_to_i8(q + i + 16, v_mul(b, v_set(inv)));
        for (size_t g = i / 16; g < i / 16 + 2; g++) {
            int32_t sum = 0;
            for (size_t j = 16 * g; j < 16 * g + 16; j++)
                sum += q[j];
            d[g] = inv > 0 ? top / 127.0f : 0;
            sums[g] = d[g] * (float)sum;
        }
    }
}

/* One row's codes with one token's: sum of (s * d) * products, less sum of m * (d * codes). */
INLINE float dot_codes(bool offset, const struct codes *c, const float *d, const float *sums,
                       const int8_t *q, size_t n)
{
    v16 acc = v_zero(), less = v_zero();
    size_t i = 0, g = 0, n16 = n / 16;
    for (; i + 64 <= n; i += 64)
        acc = v_fma(v_mul(v_each4(c->s + i / 16), v_each4(d + i / 16)), v_dot4(c->q + i, q + i), acc);
    if (i < n) { /* 32 left */
        int8_t a[64] = {0}, b[64] = {0};
        float s[4] = {c->s[i / 16], c->s[i / 16 + 1]}, e[4] = {d[i / 16], d[i / 16 + 1]};
        memcpy(a, c->q + i, 32);
        memcpy(b, q + i, 32);
        acc = v_fma(v_mul(v_each4(s), v_each4(e)), v_dot4(a, b), acc);
    }
    for (; offset && g + 16 <= n16; g += 16)
        less = v_fma(v_load(c->m + g), v_load(sums + g), less);
    if (offset && g < n16)
        less = v_fma(v_load_n(c->m + g, n16 - g), v_load_n(sums + g, n16 - g), less);
    return offset ? v_sum(acc) - v_sum(less) : v_sum(acc);
}

static void mulq(const struct lr_kern_rows *w, size_t k, const void *x, size_t n_tok, float *out,
                 size_t out_stride, void *scratch)
{
    struct codes *c = scratch;
    size_t record = lr_kern_act_bytes(k);
    bool offset = has_offset(w->type);
    for (size_t at = 0; at < k; at += LR_KERN_BLOCK) {
        size_t part = min_size(k - at, LR_KERN_BLOCK);
        const char *row = w->p;
        for (size_t r = 0; r < w->n; r++, row += w->stride) {
            unpack(w->type, c, row, at, part);
            const char *act = x;
            for (size_t t = 0; t < n_tok; t++, act += record) {
                const float *d = (const float *)(const void *)act, *sums = d + k / 16;
                const int8_t *q = (const int8_t *)(sums + k / 16);
                float sum = offset ? dot_codes(true, c, d + at / 16, sums + at / 16, q + at, part)
                                   : dot_codes(false, c, d + at / 16, sums + at / 16, q + at, part);
                float *to = out + t * out_stride + r;
                *to = at ? *to + sum : sum;
            }
        }
    }
}
