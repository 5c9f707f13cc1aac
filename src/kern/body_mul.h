/* SPDX-License-Identifier: Apache-2.0
 * kern/body_mul.h - products of rows with tokens. Compiled once per variant over its lanes.
 *
 * The register tile. ROWS x TOKENS sums of sixteen lanes stay in registers while both operands
 * stream along k, sixteen elements a step:
 *
 *            token 0   token 1  ...                 every sum is one chain of fused adds, the lanes
 *   row 0    sum 00    sum 01                       of kern.h; the tile's shape decides how many
 *   row 1    sum 10    sum 11                       chains run side by side, never what is in one
 *
 * That is why neighbours cannot matter. The usual shape (outer products of packed panels, lanes
 * along the rows) needs both operands transposed, and a single token would have to run over
 * transposed weights too in order to give the same bits; here one kernel serves decode and prefill,
 * and weights stay as they lie in the file. The price is the tree at the end of a block: some 3
 * instructions per sum against 64 steps of a block, 5 %.
 *
 * Where the weights come from. Up to TOKENS_FUSED tokens: decoded in registers, step by step, the
 * quantised ones straight from memory where the variant has a fetch (fetch_avx512.h), elsewhere
 * from codes, which unpack puts in the first-level cache. More: a band of 32 rows is decoded to
 * floats in the scratch (128 KiB, second-level cache), all tokens run over it.
 *
 *   for each block of k        x's block, up to 256 x 4 KiB, stays in the second-level cache
 *     for each band of rows    decode
 *       for each TOKENS        24 KiB of x, first-level cache
 *         for each ROWS        16 KiB of the band
 *
 * Measured (bench_kern, one core of a Zen 5 server, gcc 12): tiles of floats 220 GFLOP/s whatever
 * the type of the weights (AVX2: 105; OpenBLAS 0.3.21 on the same core: 122); two cores 440. One
 * token reads, a core, from memory: F32 and Q8_0 at what memory gives (33 GB/s), Q4_0 at 23, Q5_0
 * at 19, Q4_K at 16 GB/s; from codes these were 15.6 (Q8_0), 8.6, 9.5 and 9.4. Half of the gain is
 * asking for weights AHEAD of their use: at 2 KiB instead of 8 Q8_0 runs at 26 GB/s, without at 10.
 *
 * Products of integers, with tokens in fixed point, are body_q16.h; whole models use those. These
 * here serve rows of floats, keys under attention, and whoever wants the weights' values themselves.
 */

#define BAND ((size_t)32)

#ifdef HAS_FETCH
#include "kern/fetch_avx512.h"
#endif

/* The last nine: rows of that type as they lie, where there is a fetch. */
enum source {
    FROM_F32,
    FROM_F16,
    FROM_BF16,
    FROM_CODES,
    FROM_OFFSET_CODES,
    FROM_CODES_BY_16,
    FROM_Q8_0,
    FROM_Q4_0,
    FROM_Q4_1,
    FROM_Q5_0,
    FROM_Q5_1,
    FROM_Q4_K,
    FROM_Q5_K,
    FROM_Q6_K,
    FROM_I4R,
};

INLINE v16 fetch(enum source from, const void *row, size_t i)
{
    if (from == FROM_F32)
        return v_load((const float *)row + i);
    if (from == FROM_F16)
        return v_f16((const uint16_t *)row + i);
    return v_bf16((const uint16_t *)row + i);
}

/* Thirty-two codes, which share a scale (or have two) and an offset. */
INLINE void fetch_codes(enum source from, const void *row, size_t i, v16 w[2])
{
    const struct codes *c = (const struct codes *)row;
    v16 s = v_set(c->s[from == FROM_CODES_BY_16 ? i / 16 : i / 32]);
    w[0] = v_mul(s, v_i8(c->q + i));
    if (from == FROM_CODES_BY_16)
        s = v_set(c->s[i / 16 + 1]);
    w[1] = v_mul(s, v_i8(c->q + i + 16));
    if (from == FROM_OFFSET_CODES) {
        v16 m = v_set(c->m[i / 32]);
        w[0] = v_sub(w[0], m);
        w[1] = v_sub(w[1], m);
    }
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

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
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
    UNROLLED(t, tokens)
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
        UNROLLED(r, rows)
        {
            float one = v_sum(sum[r][t]);
            out[r] = s->add ? out[r] + one : one;
        }
    }
}

INLINE void zero_sums(int rows, int tokens, v16 sum[ROWS][TOKENS])
{
    UNROLLED(r, rows)
    {
        UNROLLED(t, tokens)
        {
            sum[r][t] = v_zero();
        }
    }
}

/* Elements i .. i + 15, or i .. i + 31 of codes. */
INLINE void tile_step(enum source from, int rows, int tokens, const struct span *s, size_t i,
                      v16 sum[ROWS][TOKENS])
{
    const int halves = from >= FROM_CODES ? 2 : 1;
    v16 w[ROWS][2];
    UNROLLED(r, rows)
    {
        const char *row = s->w + (size_t)r * s->w_stride;
        if (from >= FROM_CODES)
            fetch_codes(from, row, i, w[r]);
        else
            w[r][0] = fetch(from, row, i);
        UNROLLED(h, halves)
        {
            v_pin(w[r][h]);
        }
    }
    UNROLLED(t, tokens)
    {
        UNROLLED(h, halves)
        {
            v16 x = v_load(s->x + (size_t)t * s->x_stride + i + 16 * (size_t)h);
            v_pin(x);
            UNROLLED(r, rows)
            {
                sum[r][t] = v_fma(w[r][h], x, sum[r][t]);
            }
        }
    }
}

#ifdef HAS_FETCH
INLINE enum lr_kern_type type_of(enum source from)
{
    return (enum lr_kern_type)(from - FROM_Q8_0 + LR_KERN_Q8_0);
}

/* n registers of weights with the tokens' elements from i on. */
INLINE void add_products(int n, const v16 *w, int tokens, const struct span *s, size_t i,
                         v16 sum[TOKENS])
{
    UNROLLED(h, n)
    {
        UNROLLED(t, tokens)
        {
            v16 x = v_load(s->x + (size_t)t * s->x_stride + i + 16 * (size_t)h);
            sum[t] = v_fma(w[h], x, sum[t]);
        }
    }
}

/* Blocks of 32 at p: elements i .. i + 31. */
INLINE void step_32(enum source from, int rows, int tokens, const struct span *s, const uint8_t *p,
                    size_t i, v16 sum[ROWS][TOKENS])
{
    UNROLLED(r, rows)
    {
        v16 w[2];
        const size_t over = (size_t)r * s->w_stride;
        fetch_32(type_of(from), (const uint8_t *)s->w + over, p + over, w);
        add_products(2, w, tokens, s, i, sum[r]);
    }
}

/* Blocks of 256 at p. */
INLINE void step_256(enum source from, int rows, int tokens, const struct span *s, const uint8_t *p,
                     size_t i, v16 sum[ROWS][TOKENS])
{
    float scale[ROWS][16];
    UNROLLED(r, rows)
    {
        k_scales(type_of(from), p + (size_t)r * s->w_stride, scale[r]);
    }
    UNROLLED(c, 4)
    {
        UNROLLED(r, rows)
        {
            v16 w[4];
            fetch_64(type_of(from), p + (size_t)r * s->w_stride, scale[r], 64 * (size_t)c, w);
            add_products(4, w, tokens, s, i + 64 * (size_t)c, sum[r]);
        }
    }
}

/* Bytes that are read in the time that memory takes to answer: so far ahead weights are asked for. */
#define AHEAD 8192

/* Rows from end to end; for each byte read the one AHEAD is asked for, whoever's it is (asking is
 * not reading: nothing happens where there is no memory). */
INLINE void row_tile(enum source from, int rows, int tokens, struct span s)
{
    const size_t per = per_of(type_of(from)), bytes = bytes_of(type_of(from)), k = s.k;
    const uint8_t *p = (const uint8_t *)s.w + (from == FROM_I4R ? 4 : 0);
    const char *next = s.w + AHEAD;
    for (size_t i = 0; i < k; s.add = true) {
        v16 sum[ROWS][TOKENS];
        zero_sums(rows, tokens, sum);
        for (size_t end = min_size(k, i + LR_KERN_BLOCK); i < end; i += per, p += bytes) {
            for (size_t b = 0; b < (size_t)rows * bytes; b += 64)
                __builtin_prefetch(next + b);
            next += (size_t)rows * bytes;
            if (per == 32)
                step_32(from, rows, tokens, &s, p, i, sum);
            else
                step_256(from, rows, tokens, &s, p, i, sum);
        }
        put_sums(rows, tokens, sum, &s);
    }
}
#endif

INLINE void tile(enum source from, int rows, int tokens, const struct span *s)
{
    v16 sum[ROWS][TOKENS];
#ifdef HAS_FETCH
    if (from >= FROM_Q8_0) {
        row_tile(from, rows, tokens, *s);
        return;
    }
#endif
    zero_sums(rows, tokens, sum);
    size_t i = 0, step = from >= FROM_CODES ? 32 : 16;
    for (; i + step <= s->k; i += step)
        tile_step(from, rows, tokens, s, i, sum);
    if (i < s->k && from <= FROM_BF16) {
        v16 w[ROWS];
        UNROLLED(r, rows)
        {
            w[r] = fetch_n(from, s->w + (size_t)r * s->w_stride, i, s->k - i);
        }
        UNROLLED(t, tokens)
        {
            v16 x = v_load_n(s->x + (size_t)t * s->x_stride + i, s->k - i);
            UNROLLED(r, rows)
            {
                sum[r][t] = v_fma(w[r], x, sum[r][t]);
            }
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
#if TOKENS_FUSED == 4
#define TILES(from) TILES2(from) TILE_FN(tile_##from##_3, from, 3) TILE_FN(tile_##from##_4, from, 4)
#else
#define TILES(from) TILES2(from)
#endif
TILES(FROM_F32)
TILES(FROM_F16)
TILES(FROM_BF16)
#ifdef HAS_FETCH
TILES(FROM_Q8_0)
TILES(FROM_Q4_0)
TILES(FROM_Q4_1)
TILES(FROM_Q5_0)
TILES(FROM_Q5_1)
TILES(FROM_Q4_K)
TILES(FROM_Q5_K)
TILES(FROM_Q6_K)
TILES(FROM_I4R)
#else
TILES(FROM_CODES)
TILES(FROM_OFFSET_CODES)
TILES(FROM_CODES_BY_16)
#endif
#if TOKENS_FUSED == 4
TILE_FN(tile_FROM_F32_5, FROM_F32, 5)
TILE_FN(tile_FROM_F32_6, FROM_F32, 6)
#define FUSED(from)                                                                                \
    {                                                                                              \
        tile_##from##_1, tile_##from##_2, tile_##from##_3, tile_##from##_4                         \
    }
static const tile_fn f32_tiles[TOKENS] = {tile_FROM_F32_1, tile_FROM_F32_2, tile_FROM_F32_3,
                                          tile_FROM_F32_4, tile_FROM_F32_5, tile_FROM_F32_6};
#else
#define FUSED(from)                                                                                \
    {                                                                                              \
        tile_##from##_1, tile_##from##_2                                                           \
    }
static const tile_fn f32_tiles[TOKENS] = FUSED(FROM_F32);
#endif
static const tile_fn fused_tiles[][TOKENS_FUSED] = {
    [FROM_F32] = FUSED(FROM_F32),   [FROM_F16] = FUSED(FROM_F16),   [FROM_BF16] = FUSED(FROM_BF16),
#ifdef HAS_FETCH
    [FROM_Q8_0] = FUSED(FROM_Q8_0), [FROM_Q4_0] = FUSED(FROM_Q4_0), [FROM_Q4_1] = FUSED(FROM_Q4_1),
    [FROM_Q5_0] = FUSED(FROM_Q5_0), [FROM_Q5_1] = FUSED(FROM_Q5_1), [FROM_Q4_K] = FUSED(FROM_Q4_K),
    [FROM_Q5_K] = FUSED(FROM_Q5_K), [FROM_Q6_K] = FUSED(FROM_Q6_K), [FROM_I4R] = FUSED(FROM_I4R),
#else
    [FROM_CODES] = FUSED(FROM_CODES),
    [FROM_OFFSET_CODES] = FUSED(FROM_OFFSET_CODES),
    [FROM_CODES_BY_16] = FUSED(FROM_CODES_BY_16),
#endif
};

static enum source source_of(enum lr_kern_type type)
{
    if (type <= LR_KERN_BF16)
        return (enum source)type;
    if (type == LR_KERN_Q6_K)
        return FROM_CODES_BY_16;
    return has_offset(type) ? FROM_OFFSET_CODES : FROM_CODES;
}

INLINE void decode_codes(enum source from, float *dst, const struct codes *c, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        v16 w[2];
        fetch_codes(from, c, i, w);
        v_store(dst + i, w[0]);
        v_store(dst + i + 16, w[1]);
    }
}

/* Elements at .. at + n of a row as floats, n <= LR_KERN_BLOCK. */
static void decode_part(enum lr_kern_type type, float *dst, const void *row, size_t at, size_t n)
{
    struct codes c;
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
        decode_codes(FROM_CODES, dst, &c, n);
        break;
    case FROM_OFFSET_CODES:
        unpack(type, &c, row, at, n);
        decode_codes(FROM_OFFSET_CODES, dst, &c, n);
        break;
    default: /* by 16 */
        unpack(type, &c, row, at, n);
        decode_codes(FROM_CODES_BY_16, dst, &c, n);
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

/* The share n / k, from at / k on, of the bytes of the next group. */
static void ask_for(const char *next, size_t bytes, size_t at, size_t n, size_t k)
{
    for (size_t b = bytes * at / k, end = bytes * (at + n) / k; b < end; b += 64)
        __builtin_prefetch(next + b);
}

/* Few tokens over rows of floats: rows as they lie. Long ones ROWS at a time from end to end, so
 * that memory is read once and in order: the prefetchers give up on anything else (2048 elements in
 * two passes ran at a third of the speed). */
static void mul_few(const struct lr_kern_rows *w, size_t k, struct span s, size_t n_tok)
{
    enum source from = source_of(w->type);
    size_t size = from == FROM_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t group = k > LR_KERN_BLOCK ? ROWS : w->n;
    const char *row = w->p;
    const float *x = s.x;
    for (size_t r = 0; r < w->n; r += group, row += group * w->stride, s.out += group)
        for (size_t at = 0; at < k; at += LR_KERN_BLOCK) {
            s.k = min_size(k - at, LR_KERN_BLOCK);
            s.x = x + at;
            s.w = row + at * size;
            s.add = at > 0;
            if (r + 2 * group <= w->n)
                ask_for(row + group * w->stride, group * w->stride, at, s.k, k);
            fused_tiles[from][n_tok - 1](min_size(w->n - r, group), s);
        }
}

#ifdef HAS_FETCH
static void mul_codes(const struct lr_kern_rows *w, size_t k, struct span s, size_t n_tok,
                      void *scratch)
{
    (void)scratch;
    s.w = w->p;
    s.w_stride = w->stride;
    s.k = k;
    fused_tiles[w->type - LR_KERN_Q8_0 + FROM_Q8_0][n_tok - 1](w->n, s);
}
#else
/* Few tokens over quantised rows. A group of rows, up to CODE_BLOCKS blocks of each, goes to codes,
 * again in the order of memory: c[block * group + row]. Unpacking is a burst of reads and the tiles
 * after it read nothing, so the prefetchers would stop in between: each tile first asks for its
 * share of the next group. Short rows (heads of keys) go in larger groups. */
#define CODE_BLOCKS ((size_t)16)

static void mul_codes(const struct lr_kern_rows *w, size_t k, struct span s, size_t n_tok,
                      struct codes *c)
{
    tile_fn fn = fused_tiles[source_of(w->type)][n_tok - 1];
    size_t group = k > LR_KERN_BLOCK / 4 ? ROWS : 16, at;
    const char *row = w->p;
    const float *x = s.x;
    for (size_t r = 0; r < w->n; r += group, row += group * w->stride, s.out += group) {
        size_t now = min_size(w->n - r, group);
        for (size_t from = 0; from < k; from += CODE_BLOCKS * LR_KERN_BLOCK) {
            size_t end = min_size(k, from + CODE_BLOCKS * LR_KERN_BLOCK);
            for (size_t j = 0; j < now; j++)
                for (at = from; at < end; at += LR_KERN_BLOCK)
                    unpack(w->type, c + (at - from) / LR_KERN_BLOCK * group + j,
                           row + j * w->stride, at, min_size(end - at, LR_KERN_BLOCK));
            for (at = from; at < end; at += LR_KERN_BLOCK) {
                s.w = (const char *)(c + (at - from) / LR_KERN_BLOCK * group);
                s.x = x + at;
                s.k = min_size(end - at, LR_KERN_BLOCK);
                s.add = at > 0;
                if (r + 2 * group <= w->n)
                    ask_for(row + group * w->stride, group * w->stride, at, s.k, k);
                fn(now, s);
            }
        }
    }
}
#endif

/* Many tokens: bands of rows as floats, one block of k. */
static void mul_bands(const struct lr_kern_rows *w, size_t at, struct span s, size_t n_tok,
                      float *band)
{
    const char *row = w->p;
    for (size_t r = 0; r < w->n; r += BAND, row += BAND * w->stride, s.out += BAND) {
        size_t now = min_size(w->n - r, BAND);
        if (w->type == LR_KERN_F32) {
            s.w = row + at * sizeof(float);
            s.w_stride = w->stride;
        } else {
            s.w = (const char *)band;
            s.w_stride = LR_KERN_BLOCK * sizeof *band;
            for (size_t j = 0; j < now; j++)
                decode_part(w->type, band + j * LR_KERN_BLOCK, row + j * w->stride, at, s.k);
        }
        mul_tokens(now, s, n_tok);
    }
}

static void mul(const struct lr_kern_rows *w, size_t k, const float *x, size_t x_stride,
                size_t n_tok, float *out, size_t out_stride, void *scratch)
{
    enum source from = source_of(w->type);
    struct span s = {.w_stride = from >= FROM_CODES ? sizeof(struct codes) : w->stride,
                     .x = x,
                     .x_stride = x_stride,
                     .out = out,
                     .out_stride = out_stride};
    if (!n_tok)
        return;
    if (n_tok <= TOKENS_FUSED && from >= FROM_CODES) {
        mul_codes(w, k, s, n_tok, scratch);
        return;
    }
    if (n_tok <= TOKENS_FUSED) {
        mul_few(w, k, s, n_tok);
        return;
    }
    for (size_t at = 0; at < k; at += LR_KERN_BLOCK) {
        s.k = min_size(k - at, LR_KERN_BLOCK);
        s.x = x + at;
        s.add = at > 0;
        mul_bands(w, at, s, n_tok, scratch);
    }
}

/* ---- mix: sums of rows ---- */

#define MIX_TOKENS TOKENS_FUSED

/* Elements at .. at + 31 of a row. */
INLINE void fetch_pair(enum source from, const char *row, size_t at, v16 w[2])
{
#ifdef HAS_FETCH
    if (from >= FROM_Q8_0) {
        const uint8_t *first = (const uint8_t *)row + (from == FROM_I4R ? 4 : 0);
        fetch_32(type_of(from), (const uint8_t *)row, first + at / 32 * bytes_of(type_of(from)), w);
        return;
    }
#endif
    w[0] = fetch(from, row, at);
    w[1] = fetch(from, row, at + 16);
}

/* A strip of 32 columns and `tokens` tokens stays in registers while the rows go by. */
INLINE void mix_strip(enum source from, int tokens, const struct lr_kern_rows *v, size_t at,
                      const float *p, size_t p_stride, float *out, size_t out_stride)
{
    v16 sum[MIX_TOKENS][2];
    UNROLLED(t, tokens)
    {
        UNROLLED(j, 2)
        {
            sum[t][j] = v_load(out + (size_t)t * out_stride + 16 * j);
        }
    }
    const char *row = v->p;
    for (size_t r = 0; r < v->n; r++, row += v->stride) {
        v16 value[2];
        fetch_pair(from, row, at, value);
        UNROLLED(t, tokens)
        {
            v16 w = v_set(p[(size_t)t * p_stride + r]);
            sum[t][0] = v_fma(w, value[0], sum[t][0]);
            sum[t][1] = v_fma(w, value[1], sum[t][1]);
        }
    }
    UNROLLED(t, tokens)
    {
        UNROLLED(j, 2)
        {
            v_store(out + (size_t)t * out_stride + 16 * j, sum[t][j]);
        }
    }
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
            if (now == 1)
                mix_strip(from, 1, v, at, pt, p_stride, ot + at, out_stride);
            else if (now == 2)
                mix_strip(from, 2, v, at, pt, p_stride, ot + at, out_stride);
#if MIX_TOKENS == 4
            else if (now == 3)
                mix_strip(from, 3, v, at, pt, p_stride, ot + at, out_stride);
            else
                mix_strip(from, 4, v, at, pt, p_stride, ot + at, out_stride);
#endif
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
#ifdef HAS_FETCH
    if (n_tok <= MIX_TOKENS && v->type == LR_KERN_Q8_0) {
        mix_from(FROM_Q8_0, v, k, p, p_stride, n_tok, out, out_stride);
        return;
    }
    if (n_tok <= MIX_TOKENS && v->type == LR_KERN_I4R) {
        mix_from(FROM_I4R, v, k, p, p_stride, n_tok, out, out_stride);
        return;
    }
#endif
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
