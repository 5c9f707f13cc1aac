/* SPDX-License-Identifier: Apache-2.0
 * kern/body_q16.h - products of quantised rows with tokens in fixed point; compiled per variant.
 *
 * A token's block of 32 elements is d * q with q in +-32639: two signed bytes, q = 256 h + l, or
 * one word, whatever the variant multiplies. The products of a group (32 elements; 16 for Q6_K)
 * then add up exactly in 32 bits, in any order and in any grouping, and only one conversion and one
 * fused add a group are left of the arithmetic of floats: twice the products an instruction.
 *
 *   rows in lanes: a panel is CHUNK elements of sixteen rows
 *
 *     cell    row 0         row 1     ..  row 15        four elements a row: the products of a
 *             a0 a1 a2 a3   b0 ..         p0 p1 p2 p3   cell with four of a token end in the lane
 *     s       one scale a row and group                 where the row's sum is: no tree at the end
 *     m       one offset a row and group
 *
 * Rows come as they lie in the file. Turning sixteen of them into cells is 24 permutations for 32
 * bytes each, which a tile of many tokens does not notice and a single token can afford: it runs at
 * the speed of memory from the same panels. So one order of sums serves both (kern.h), and the
 * order is that of the groups in the row.
 *
 *   for each band of rows        PANELS panels; one for a few tokens: rows then come in order
 *     for each CHUNK of k        panels from rows: they stay in the first-level cache; the share of
 *                                the next band's bytes is asked for
 *       for each tile of tokens  Q_PANELS x Q_TOKENS sums of sixteen rows in registers
 *
 * Unsigned bytes. VNNI multiplies unsigned by signed: codes are stored `bias` larger and sums begin
 * at -bias * (sum of the token's codes), which is exact. Offsets (m) need the sum times d; act_q16
 * makes both once.
 *
 * A block that holds NaN or infinity gets d = NaN, and every product with it is NaN.
 *
 * Measured (bench_kern --variant V under chrt on one Zen 5 core with busy neighbours, k = 2048; in
 * brackets mul, of the same run):
 *
 *                  256 tokens, GFLOP/s       24 tokens             one token from memory, GB/s
 *                  Q4_K       Q8_0           Q4_K       Q8_0       Q4_K         Q8_0
 *   avx512vnni     361 (187)  357 (184)      343 (176)  315 (168)  23.0 (15.5)  30.5 (33.6)
 *   avx512         158 (183)  163 (185)      158 (177)  151 (151)  17.8 (15.7)  25.5 (35.8)
 *   avx2            93 (91)    99 (91)        86 (88)    91 (72)    5.6 (7.0)   13.9 (15.5)
 *   portable                                 9.0 (4.3)  9.2 (4.3)  0.84 (0.67)  1.6 (1.7)
 *
 * One rule for all of them, though those without VNNI gain little: rows of keys and values computed
 * on one machine are then those of another. A product's error is 1.5e-5 to 2e-5 of its size, a
 * fifth of what KV rows in binary16 add.
 *
 * Tried and dropped: eight bits a token (1/250 relative: logits left their 1e-3). Words instead of
 * two bytes with VNNI: 345 GFLOP/s, and panels twice as large (one token: 18 GB/s). Scales of six
 * bits folded into the codes of Q4_K, sums over 64: counted, 5 % fewer instructions, but another
 * order of sums than the other types'. Sixteen rows turned in registers and multiplied there,
 * without a panel: 25 GB/s instead of 22, for a kernel per type. The next band's bytes asked for in
 * one go a chunk instead of block by block: Q8_0 24 GB/s instead of 30. A fixed distance AHEAD, as
 * row_tile has it: half the speed, for sixteen rows are read side by side. With AVX2 four tokens a
 * tile instead of two, and scales turned by permutations: no difference.
 */

#define CHUNK  ((size_t)256)
#define PANELS ((size_t)4)
#define Q_MAX  32639.0f /* 127 * 256 + 127 */

struct panel {
    int8_t cell[CHUNK / 4][Q_CELL];
    float s[CHUNK / 16][16];
    float m[CHUNK / 32][16]; /* to be added */
};
_Static_assert(PANELS * sizeof(struct panel) + 16 * sizeof(struct codes) <= LR_KERN_SCRATCH,
               "a band and the codes of sixteen rows fit");

/* ---- tokens ---- */

/* A record: k / 32 of d, k / 32 of d * (sum of codes), k / 16 sums of sixteen codes, codes. */
static void act_q16(void *dst, const float *src, size_t n)
{
    float *d = (float *)dst, *e = d + n / 32;
    int32_t *sum = (int32_t *)(void *)(e + n / 32);
    char *code = (char *)(sum + n / 16);
    for (size_t i = 0; i < n; i += 32) {
        v16 a = v_load(src + i), b = v_load(src + i + 16), zero = v_zero();
        float top = v_hmax(v_max(v_abs(a), v_abs(b))), inv = Q_MAX / top;
        bool finite = v_sum(v_fma(a, zero, v_mul(b, zero))) == 0;
        if (!(inv <= 0x1p126f)) /* no number any more: top is next to nothing */
            inv = 0;
        v16 f = v_set(inv), whole = v_set(0x1.8p23f); /* adding it rounds */
        a = finite ? v_sub(v_add(v_mul(a, f), whole), whole) : zero;
        b = finite ? v_sub(v_add(v_mul(b, f), whole), whole) : zero;
        q_codes(code + 2 * i, a);
        q_codes(code + 2 * i + 32, b);
        float first = v_sum(a), second = v_sum(b); /* exact: below 2^20 */
        d[i / 32] = !finite ? NAN : inv > 0 ? top / Q_MAX : 0;
        e[i / 32] = d[i / 32] * (first + second);
        sum[i / 16] = (int32_t)first;
        sum[i / 16 + 1] = (int32_t)second;
    }
}

/* ---- panels ---- */

/* What makes a type's codes unsigned where products want that. */
static int32_t bias_of(enum lr_kern_type type)
{
    if (!Q_BIASED)
        return 0;
    return type == LR_KERN_Q8_0   ? 128
           : type == LR_KERN_Q4_0 ? 8
           : type == LR_KERN_Q5_0 ? 16
           : type == LR_KERN_Q6_K ? 32
                                  : 0;
}

#ifdef HAS_FETCH
#include "kern/panel_avx512.h"
#endif

#ifndef HAS_FETCH
/* Sixteen rows of Q8_0: their codes can be turned where they lie. */
static void build_bytes(struct panel *p, const char *row, size_t stride, size_t n)
{
    for (size_t i = 0; i < n; i += 32, row += 34) {
        q_cells(&p->cell[i / 4], (const int8_t *)row + 2, stride, 0);
        for (size_t r = 0; r < 16; r++)
            p->s[i / 32][r] = f16_one((const uint8_t *)row + r * stride);
    }
}
#endif

/* Elements at .. at + n of rows 0 .. rows - 1; the rows missing from sixteen are zeros. */
static void build_any(struct panel *p, const struct lr_kern_rows *w, const char *row, size_t rows,
                      size_t at, size_t n, struct codes *c)
{
    const size_t per = w->type == LR_KERN_Q6_K ? 16 : 32;
    for (size_t r = 0; r < 16; r++)
        if (r < rows)
            unpack(w->type, &c[r], row + r * w->stride, at, n);
        else
            memset(&c[r], 0, sizeof c[r]);
    for (size_t i = 0; i < n; i += 32)
        q_cells(&p->cell[i / 4], c->q + i, sizeof *c, (uint8_t)bias_of(w->type));
    for (size_t g = 0; g < n / per; g++)
        for (size_t r = 0; r < 16; r++)
            p->s[g][r] = c[r].s[g];
    for (size_t g = 0; has_offset(w->type) && g < n / 32; g++)
        for (size_t r = 0; r < 16; r++)
            p->m[g][r] = -c[r].m[g];
}

/* The rows' share of the bytes of those from `next` on is asked for. */
static void build(struct panel *p, const struct lr_kern_rows *w, const char *row, size_t rows,
                  size_t at, size_t n, size_t k, const char *next, struct codes *c)
{
#ifdef HAS_FETCH
    if (rows >= 16 && w->type != LR_KERN_I4R) {
        build_16(p, w->type, (const uint8_t *)row, w->stride, at, n, (const uint8_t *)next);
        return;
    }
#endif
    ask_for(next, min_size(rows, 16) * w->stride, at, n, k);
#ifndef HAS_FETCH
    if (rows >= 16 && w->type == LR_KERN_Q8_0) {
        build_bytes(p, row + at / 32 * 34, w->stride, n);
        return;
    }
#endif
    build_any(p, w, row, min_size(rows, 16), at, n, c);
}

/* ---- tiles ---- */

struct q_span {
    const struct panel *p;
    size_t n; /* elements */
    int32_t bias;
    const float *d, *e; /* the first token's; the others at `record` */
    const int32_t *sum;
    const char *code;
    size_t record; /* bytes of one token's */
    float *out;
    size_t out_stride;
    size_t rows; /* of the last panel that count */
    bool add;    /* onto out: not the first chunk */
};

INLINE const void *of_token(const void *first, int t, const struct q_span *s)
{
    return (const char *)first + (size_t)t * s->record;
}

INLINE v16 q_load(const float *p, size_t rows)
{
    return rows >= 16 ? v_load(p) : v_load_n(p, rows);
}

INLINE void q_store(float *p, v16 a, size_t rows)
{
    if (rows >= 16)
        v_store(p, a);
    else
        v_store_n(p, a, rows);
}

/* The exact sums of group g. */
INLINE void q_group(enum source from, int panels, int tokens, const struct q_span *s, size_t g,
                    q_sum sum[Q_PANELS][Q_TOKENS])
{
    const bool by_16 = from == FROM_CODES_BY_16;
    const int quads = by_16 ? 4 : 8;
    UNROLLED(t, tokens)
    {
        const int32_t *all = of_token(s->sum, t, s);
        int32_t codes = by_16 ? all[g] : all[2 * g] + all[2 * g + 1];
        int32_t less = !Q_BIASED || from == FROM_OFFSET_CODES ? 0 : s->bias * codes;
        UNROLLED(p, panels)
        {
            sum[p][t] = q_start(-less);
        }
    }
    UNROLLED(i, quads)
    {
        const size_t at = g * (size_t)quads + (size_t)i;
        q_cell w[Q_PANELS];
        UNROLLED(p, panels)
        {
            w[p] = q_load_cell(s->p[p].cell[at]);
        }
        UNROLLED(t, tokens)
        {
            q_four x = q_load_four((const char *)of_token(s->code, t, s) + 8 * at);
            UNROLLED(p, panels)
            {
                sum[p][t] = q_dot(sum[p][t], w[p], x);
            }
        }
    }
}

INLINE void q_tile(enum source from, int panels, int tokens, const struct q_span *s)
{
    const bool by_16 = from == FROM_CODES_BY_16;
    v16 acc[Q_PANELS][Q_TOKENS];
    const size_t groups = s->n / (by_16 ? 16 : 32), rows = panels > 1 ? 16 : s->rows;
    UNROLLED(p, panels)
    {
        UNROLLED(t, tokens)
        {
            const float *out = s->out + (size_t)t * s->out_stride + 16 * p;
            acc[p][t] = s->add ? q_load(out, rows) : v_zero();
        }
    }
    for (size_t g = 0; g < groups; g++) {
        q_sum sum[Q_PANELS][Q_TOKENS];
        const size_t block = by_16 ? g / 2 : g;
        q_group(from, panels, tokens, s, g, sum);
        UNROLLED(t, tokens)
        {
            v16 d = v_set(((const float *)of_token(s->d, t, s))[block]);
            UNROLLED(p, panels)
            {
                acc[p][t] = v_fma(q_float(sum[p][t]), v_mul(v_load(s->p[p].s[g]), d), acc[p][t]);
            }
            if (from == FROM_OFFSET_CODES) {
                v16 e = v_set(((const float *)of_token(s->e, t, s))[g]);
                UNROLLED(p, panels)
                {
                    acc[p][t] = v_fma(v_load(s->p[p].m[g]), e, acc[p][t]);
                }
            }
        }
    }
    UNROLLED(p, panels)
    {
        UNROLLED(t, tokens)
        {
            q_store(s->out + (size_t)t * s->out_stride + 16 * p, acc[p][t], rows);
        }
    }
}

typedef void (*q_fn)(const struct q_span *s);
#define Q_FN(from, panels, tokens)                                                                 \
    static void q_##from##_##panels##_##tokens(const struct q_span *s)                             \
    {                                                                                              \
        q_tile(from, panels, tokens, s);                                                           \
    }
#if Q_TOKENS == 4
#define Q_FNS(from, panels)                                                                        \
    Q_FN(from, panels, 1) Q_FN(from, panels, 2) Q_FN(from, panels, 3) Q_FN(from, panels, 4)
#define Q_LIST(from, panels)                                                                       \
    {                                                                                              \
        q_##from##_##panels##_1, q_##from##_##panels##_2, q_##from##_##panels##_3,                 \
            q_##from##_##panels##_4                                                                \
    }
#else
#define Q_FNS(from, panels) Q_FN(from, panels, 1) Q_FN(from, panels, 2)
#define Q_LIST(from, panels)                                                                       \
    {                                                                                              \
        q_##from##_##panels##_1, q_##from##_##panels##_2                                           \
    }
#endif
#if Q_PANELS == 2
#define Q_ALL(from)   Q_FNS(from, 1) Q_FNS(from, 2)
#define Q_LISTS(from) [from - FROM_CODES] = {Q_LIST(from, 1), Q_LIST(from, 2)}
#else
#define Q_ALL(from)   Q_FNS(from, 1)
#define Q_LISTS(from) [from - FROM_CODES] = {Q_LIST(from, 1)}
#endif
Q_ALL(FROM_CODES)
Q_ALL(FROM_OFFSET_CODES)
Q_ALL(FROM_CODES_BY_16)
static const q_fn q_tiles[3][Q_PANELS][Q_TOKENS] = {
    Q_LISTS(FROM_CODES), Q_LISTS(FROM_OFFSET_CODES), Q_LISTS(FROM_CODES_BY_16)};

/* All tokens over the panels of `rows` rows. */
static void q_tokens(enum source from, struct q_span s, size_t rows, size_t n_tok)
{
    const struct panel *first = s.p;
    float *out = s.out;
    for (size_t now; n_tok; n_tok -= now) {
        now = min_size(n_tok, Q_TOKENS);
        for (size_t r = 0, wide; r < rows; r += 16 * wide) {
            wide = rows - r >= 16 * Q_PANELS ? Q_PANELS : 1;
            s.p = first + r / 16;
            s.out = out + r;
            s.rows = rows - r;
            q_tiles[from - FROM_CODES][wide - 1][now - 1](&s);
        }
        out += now * s.out_stride;
        s.d = of_token(s.d, (int)now, &s);
        s.e = of_token(s.e, (int)now, &s);
        s.sum = of_token(s.sum, (int)now, &s);
        s.code = of_token(s.code, (int)now, &s);
    }
}

static void mulq(const struct lr_kern_rows *w, size_t k, const void *x, size_t n_tok, float *out,
                 size_t out_stride, void *scratch)
{
    struct panel *band = scratch;
    struct codes *c = (struct codes *)(void *)(band + PANELS);
    const size_t bands = n_tok <= Q_TOKENS ? 16 : 16 * PANELS;
    const char *row = w->p;
    struct q_span s = {.p = band,
                       .bias = bias_of(w->type),
                       .record = lr_kern_act_bytes(k),
                       .out_stride = out_stride};
    for (size_t r = 0; n_tok && r < w->n; r += bands, row += bands * w->stride) {
        const size_t rows = min_size(w->n - r, bands);
        for (size_t at = 0; at < k; at += CHUNK) {
            s.n = min_size(k - at, CHUNK);
            for (size_t j = 0; j < rows; j += 16)
                build(&band[j / 16], w, row + j * w->stride, rows - j, at, s.n, k,
                      row + (bands + j) * w->stride, c);
            s.d = (const float *)x + at / 32;
            s.e = s.d + k / 32;
            s.sum = (const int32_t *)x + k / 16 + at / 16;
            s.code = (const char *)x + k / 2 + 2 * at;
            s.out = out + r;
            s.add = at > 0;
            q_tokens(source_of(w->type), s, rows, n_tok);
        }
    }
}
