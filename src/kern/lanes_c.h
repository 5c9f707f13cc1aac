/* SPDX-License-Identifier: Apache-2.0
 * kern/lanes_c.h - sixteen lanes in plain C, and the vocabulary that every lanes_*.h speaks.
 *
 *   v16                   sixteen floats
 *   v_pin(v)              keep v in registers from here on (a hint)
 *   v_load_n, v_store_n   the first n lanes, 1 <= n <= 15; the others are 0 and not in memory
 *   v_fma(a, b, c)        a * b + c, fused; here: rounded twice, which no other variant does
 *   v_max, v_min          a > b ? a : b and a < b ? a : b: b when either is NaN
 *   v_keep_from(k, x, y)  y, but 0 in lanes where x < k
 *   v_exp2i(t)            2^n for t = n + 1.5 * 2^23, -126 <= n <= 127
 *   v_i8, v_f16, v_bf16   sixteen narrow numbers as floats
 *   v_sum, v_hmax         the tree of kern.h; the largest lane
 *   q_sum                 sixteen exact sums of products; q_start: all of them that number
 *   q_dot(s, cell, four)  adds the products of four codes of each row with four of a token
 *   q_float(s)            the sums as floats
 *   q_codes(to, v)        sixteen whole numbers of a token within 32639 to 32 bytes: 8 a q_four
 *   q_cells               32 codes of sixteen rows, `stride` bytes apart, to eight cells of Q_CELL
 *                         bytes; Q_BIASED: codes + bias, unsigned
 *   Q_PANELS, Q_TOKENS    shape of the register tile of mulq
 *   dot_i8_64             sum over n64 * 64 products of signed bytes
 *   f16_one(p)            one binary16 in memory
 *   ROWS, TOKENS          shape of the register tile of mul; TOKENS_FUSED: when it also decodes
 *
 * The four quads are vectors of the compiler (GNU C): SSE2 where there is nothing better, loops
 * where there is nothing at all.
 */
#ifndef LR_KERN_LANES_C_H
#define LR_KERN_LANES_C_H

typedef float quad __attribute__((vector_size(16)));
typedef uint32_t quad_bits __attribute__((vector_size(16)));
typedef struct {
    quad q[4];
} v16;

#define ROWS         1
#define TOKENS       2
#define TOKENS_FUSED 2

#define v_pin(v) ((void)(v))

static inline v16 v_set(float a)
{
    quad v = {a, a, a, a};
    return (v16){{v, v, v, v}};
}
static inline v16 v_zero(void)
{
    return v_set(0);
}
static inline v16 v_load(const float *p)
{
    v16 r;
    memcpy(&r, p, sizeof r);
    return r;
}
static inline v16 v_load_n(const float *p, size_t n)
{
    v16 r = v_zero();
    memcpy(&r, p, n * sizeof *p);
    return r;
}
static inline void v_store(float *p, v16 a)
{
    memcpy(p, &a, sizeof a);
}
static inline void v_store_n(float *p, v16 a, size_t n)
{
    memcpy(p, &a, n * sizeof *p);
}
#define EACH(name, expr)                                                                           \
    static inline v16 name(v16 a, v16 b)                                                           \
    {                                                                                              \
        v16 r;                                                                                     \
        for (int i = 0; i < 4; i++)                                                                \
            r.q[i] = expr;                                                                         \
        return r;                                                                                  \
    }
EACH(v_add, a.q[i] + b.q[i])
EACH(v_sub, a.q[i] - b.q[i])
EACH(v_mul, a.q[i] * b.q[i])
EACH(v_div, a.q[i] / b.q[i])
#undef EACH
static inline quad pick(quad_bits mask, quad a, quad b)
{
    return (quad)(((quad_bits)a & mask) | ((quad_bits)b & ~mask));
}
static inline v16 v_max(v16 a, v16 b)
{
    for (int i = 0; i < 4; i++)
        a.q[i] = pick((quad_bits)(a.q[i] > b.q[i]), a.q[i], b.q[i]);
    return a;
}
static inline v16 v_min(v16 a, v16 b)
{
    for (int i = 0; i < 4; i++)
        a.q[i] = pick((quad_bits)(a.q[i] < b.q[i]), a.q[i], b.q[i]);
    return a;
}
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    for (int i = 0; i < 4; i++)
        c.q[i] = a.q[i] * b.q[i] + c.q[i];
    return c;
}
static inline v16 v_abs(v16 a)
{
    for (int i = 0; i < 4; i++)
        a.q[i] = (quad)((quad_bits)a.q[i] & 0x7fffffffu);
    return a;
}
static inline v16 v_keep_from(v16 bound, v16 x, v16 y)
{
    for (int i = 0; i < 4; i++)
        y.q[i] = (quad)((quad_bits)y.q[i] & ~(quad_bits)(x.q[i] < bound.q[i]));
    return y;
}
static inline v16 v_exp2i(v16 t)
{
    for (int i = 0; i < 4; i++)
        t.q[i] = (quad)(((quad_bits)t.q[i] << 23) + 0x3f800000u);
    return t;
}
static inline v16 v_i8(const int8_t *p)
{
    float t[16];
    for (int i = 0; i < 16; i++)
        t[i] = p[i];
    return v_load(t);
}
static inline v16 v_f16(const uint16_t *p)
{
    float t[16];
    for (int i = 0; i < 16; i++)
        t[i] = lr_kern_half(p[i]);
    return v_load(t);
}
static inline void v_to_f16(uint16_t *p, v16 a)
{
    float t[16];
    v_store(t, a);
    for (int i = 0; i < 16; i++)
        p[i] = lr_kern_to_half(t[i]);
}
static inline v16 v_bf16(const uint16_t *p)
{
    uint32_t t[16];
    for (int i = 0; i < 16; i++)
        t[i] = (uint32_t)p[i] << 16;
    v16 r;
    memcpy(&r, t, sizeof r);
    return r;
}
static inline float f16_one(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return lr_kern_half(h);
}

static inline float v_sum(v16 a)
{
    quad s = (a.q[0] + a.q[2]) + (a.q[1] + a.q[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}
static inline float v_hmax(v16 a)
{
    float t[16], m;
    v_store(t, a);
    m = t[0];
    for (int i = 1; i < 16; i++)
        m = t[i] > m ? t[i] : m;
    return m;
}

/* Panels of sixteen rows (body_q16.h): words, row by row. */
#define Q_PANELS 1
#define Q_TOKENS 2
#define Q_CELL   128
#define Q_BIASED 0
typedef struct {
    int32_t row[16];
} q_sum;
typedef const int16_t *q_cell;
typedef struct {
    int16_t q[4];
} q_four;

static inline q_sum q_start(int32_t first)
{
    q_sum s;
    for (int r = 0; r < 16; r++)
        s.row[r] = first;
    return s;
}
static inline q_cell q_load_cell(const int8_t *p)
{
    return (const int16_t *)(const void *)p;
}
static inline q_four q_load_four(const char *p)
{
    q_four x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline q_sum q_dot(q_sum s, q_cell w, q_four x)
{
    for (int r = 0; r < 16; r++, w += 4)
        s.row[r] += w[0] * x.q[0] + w[1] * x.q[1] + w[2] * x.q[2] + w[3] * x.q[3];
    return s;
}
static inline v16 q_float(q_sum s)
{
    float t[16];
    for (int r = 0; r < 16; r++)
        t[r] = (float)s.row[r];
    return v_load(t);
}
static inline void q_codes(char *to, v16 a)
{
    float t[16];
    int16_t w[16];
    v_store(t, a);
    for (int i = 0; i < 16; i++)
        w[i] = (int16_t)t[i];
    memcpy(to, w, sizeof w);
}
static inline void q_cells(int8_t cell[8][Q_CELL], const int8_t *codes, size_t stride, uint8_t bias)
{
    (void)bias;
    for (size_t j = 0; j < 8; j++) {
        int16_t *to = (int16_t *)(void *)cell[j];
        for (size_t r = 0; r < 16; r++)
            for (size_t i = 0; i < 4; i++)
                *to++ = codes[r * stride + 4 * j + i];
    }
}

static inline int32_t dot_i8_64(const int8_t *a, const int8_t *b, size_t n64)
{
    int32_t sum = 0;
    for (size_t i = 0; i < 64 * n64; i++)
        sum += a[i] * b[i];
    return sum;
}

#endif
