/* SPDX-License-Identifier: Apache-2.0
 * kern/lanes_neon.h - sixteen lanes as four NEON registers. The vocabulary is that of lanes_c.h.
 */
#ifndef LR_KERN_LANES_NEON_H
#define LR_KERN_LANES_NEON_H

#include <arm_neon.h>

typedef struct {
    float32x4_t q[4];
} v16;

#define ROWS         2 /* 2 x 2 sums of four registers each, 8 for weights, 4 for a token */
#define TOKENS       2
#define TOKENS_FUSED 2

#define v_pin(v) ((void)(v))

#define FOUR(expr0, expr1, expr2, expr3) ((v16){{expr0, expr1, expr2, expr3}})
#define EACH2(name, fn)                                                                            \
    static inline v16 name(v16 a, v16 b)                                                           \
    {                                                                                              \
        return FOUR(fn(a.q[0], b.q[0]), fn(a.q[1], b.q[1]), fn(a.q[2], b.q[2]),                    \
                    fn(a.q[3], b.q[3]));                                                           \
    }
#define EACH1(name, type, fn)                                                                      \
    static inline v16 name(type a)                                                                 \
    {                                                                                              \
        return FOUR(fn(a.q[0]), fn(a.q[1]), fn(a.q[2]), fn(a.q[3]));                               \
    }

static inline v16 v_set(float a)
{
    float32x4_t v = vdupq_n_f32(a);
    return FOUR(v, v, v, v);
}
static inline v16 v_zero(void)
{
    return v_set(0);
}
static inline v16 v_load(const float *p)
{
    return FOUR(vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12));
}
static inline v16 v_load_n(const float *p, size_t n)
{
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load(t);
}
static inline void v_store(float *p, v16 a)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(p + 4 * i, a.q[i]);
}
static inline void v_store_n(float *p, v16 a, size_t n)
{
    float t[16];
    v_store(t, a);
    memcpy(p, t, n * sizeof *t);
}
/* x86's max and min: the second operand when either is NaN. */
static inline float32x4_t max_of(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline float32x4_t min_of(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
EACH2(v_add, vaddq_f32)
EACH2(v_sub, vsubq_f32)
EACH2(v_mul, vmulq_f32)
EACH2(v_div, vdivq_f32)
EACH2(v_max, max_of)
EACH2(v_min, min_of)
EACH1(v_abs, v16, vabsq_f32)
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return FOUR(vfmaq_f32(c.q[0], a.q[0], b.q[0]), vfmaq_f32(c.q[1], a.q[1], b.q[1]),
                vfmaq_f32(c.q[2], a.q[2], b.q[2]), vfmaq_f32(c.q[3], a.q[3], b.q[3]));
}
static inline float32x4_t keep_quad(float32x4_t bound, float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, bound)));
}
static inline v16 v_keep_from(v16 bound, v16 x, v16 y)
{
    return FOUR(keep_quad(bound.q[0], x.q[0], y.q[0]), keep_quad(bound.q[1], x.q[1], y.q[1]),
                keep_quad(bound.q[2], x.q[2], y.q[2]), keep_quad(bound.q[3], x.q[3], y.q[3]));
}
static inline float32x4_t exp2i_quad(float32x4_t t)
{
    uint32x4_t e = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    return vreinterpretq_f32_u32(vaddq_u32(e, vdupq_n_u32(0x3f800000)));
}
EACH1(v_exp2i, v16, exp2i_quad)
static inline v16 v_i8(const int8_t *p)
{
    int8x16_t b = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_s8(vget_high_s8(b));
    return FOUR(
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi))));
}
static inline float32x4_t f16_quad(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline v16 v_f16(const uint16_t *p)
{
    return FOUR(f16_quad(p), f16_quad(p + 4), f16_quad(p + 8), f16_quad(p + 12));
}
static inline void v_to_f16(uint16_t *p, v16 a)
{
    for (int i = 0; i < 4; i++)
        vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.q[i])));
}
static inline float32x4_t bf16_quad(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline v16 v_bf16(const uint16_t *p)
{
    return FOUR(bf16_quad(p), bf16_quad(p + 4), bf16_quad(p + 8), bf16_quad(p + 12));
}
static inline float f16_one(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

static inline float v_sum(v16 a)
{
    float32x4_t s4 = vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
    float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
static inline float v_hmax(v16 a)
{
    return vmaxvq_f32(max_of(max_of(a.q[0], a.q[2]), max_of(a.q[1], a.q[3])));
}

#ifdef __ARM_FEATURE_DOTPROD
static inline int32x4_t dot4_quad(const int8_t *a, const int8_t *b)
{
    return vdotq_s32(vdupq_n_s32(0), vld1q_s8(a), vld1q_s8(b));
}
#else
static inline int32x4_t dot4_quad(const int8_t *a, const int8_t *b)
{
    int8x16_t x = vld1q_s8(a), y = vld1q_s8(b);
    int32x4_t lo = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
    int32x4_t hi = vpaddlq_s16(vmull_s8(vget_high_s8(x), vget_high_s8(y)));
    return vpaddq_s32(lo, hi);
}
#endif
/* Panels of sixteen rows (body_q16.h). */
#define Q_PANELS 1
#define Q_TOKENS 2
#define Q_BIASED 0
/* Four codes of each of sixteen rows, row by row. */
static inline void q_gather(int8_t to[64], const int8_t *codes, size_t stride)
{
    for (size_t r = 0; r < 16; r++)
        memcpy(to + 4 * r, codes + r * stride, 4);
}
static inline int32x4_t q_whole(float32x4_t a)
{
    return vcvtnq_s32_f32(a);
}

#ifdef __ARM_FEATURE_DOTPROD
#define Q_CELL 64 /* row by row */
typedef struct {
    int32x4_t h[4], l[4];
} q_sum;
typedef struct {
    int8x16_t q[4];
} q_cell;
typedef struct {
    int8x16_t h, l;
} q_four;

static inline q_sum q_start(int32_t first)
{
    int32x4_t z = vdupq_n_s32(0), f = vdupq_n_s32(first);
    return (q_sum){{z, z, z, z}, {f, f, f, f}};
}
static inline q_cell q_load_cell(const int8_t *p)
{
    return (q_cell){{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}
static inline q_four q_load_four(const char *p)
{
    int32_t w[2];
    memcpy(w, p, sizeof w);
    return (q_four){vreinterpretq_s8_s32(vdupq_n_s32(w[0])),
                    vreinterpretq_s8_s32(vdupq_n_s32(w[1]))};
}
static inline q_sum q_dot(q_sum s, q_cell w, q_four x)
{
    UNROLLED(i, 4)
    {
        s.h[i] = vdotq_s32(s.h[i], w.q[i], x.h);
        s.l[i] = vdotq_s32(s.l[i], w.q[i], x.l);
    }
    return s;
}
static inline float32x4_t q_quad(int32x4_t h, int32x4_t l)
{
    return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(h, 8), l));
}
static inline v16 q_float(q_sum s)
{
    return FOUR(q_quad(s.h[0], s.l[0]), q_quad(s.h[1], s.l[1]), q_quad(s.h[2], s.l[2]),
                q_quad(s.h[3], s.l[3]));
}
static inline void q_codes(char *to, v16 a)
{
    int8_t h[16], l[16];
    for (int i = 0; i < 4; i++) {
        int32_t q[4];
        vst1q_s32(q, q_whole(a.q[i]));
        for (int j = 0; j < 4; j++) {
            h[4 * i + j] = (int8_t)((q[j] + 128) >> 8);
            l[4 * i + j] = (int8_t)(q[j] - 256 * h[4 * i + j]);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        memcpy(to + 8 * i, h + 4 * i, 4);
        memcpy(to + 8 * i + 4, l + 4 * i, 4);
    }
}
static inline void q_cells(int8_t cell[8][Q_CELL], const int8_t *codes, size_t stride, uint8_t bias)
{
    (void)bias;
    for (size_t j = 0; j < 8; j++)
        q_gather(cell[j], codes + 4 * j, stride);
}
#else
#define Q_CELL 128 /* words: first those of all rows, then the second ones, .. */
typedef struct {
    int32x4_t q[4];
} q_sum;
typedef const int16_t *q_cell;
typedef int16x4_t q_four;

static inline q_sum q_start(int32_t first)
{
    int32x4_t f = vdupq_n_s32(first);
    return (q_sum){{f, f, f, f}};
}
static inline q_cell q_load_cell(const int8_t *p)
{
    return (const int16_t *)(const void *)p;
}
static inline q_four q_load_four(const char *p)
{
    int16_t w[4];
    memcpy(w, p, sizeof w);
    return vld1_s16(w);
}
static inline q_sum q_dot(q_sum s, q_cell w, q_four x)
{
    UNROLLED(i, 4)
    {
        s.q[i] = vmlal_lane_s16(s.q[i], vld1_s16(w + 4 * i), x, 0);
        s.q[i] = vmlal_lane_s16(s.q[i], vld1_s16(w + 16 + 4 * i), x, 1);
        s.q[i] = vmlal_lane_s16(s.q[i], vld1_s16(w + 32 + 4 * i), x, 2);
        s.q[i] = vmlal_lane_s16(s.q[i], vld1_s16(w + 48 + 4 * i), x, 3);
    }
    return s;
}
static inline v16 q_float(q_sum s)
{
    return FOUR(vcvtq_f32_s32(s.q[0]), vcvtq_f32_s32(s.q[1]), vcvtq_f32_s32(s.q[2]),
                vcvtq_f32_s32(s.q[3]));
}
static inline void q_codes(char *to, v16 a)
{
    int16_t w[16];
    for (int i = 0; i < 4; i++)
        vst1_s16(w + 4 * i, vmovn_s32(q_whole(a.q[i])));
    memcpy(to, w, sizeof w);
}
static inline void q_cells(int8_t cell[8][Q_CELL], const int8_t *codes, size_t stride, uint8_t bias)
{
    (void)bias;
    for (size_t j = 0; j < 8; j++) {
        int8_t rows[64];
        int16_t *to = (int16_t *)(void *)cell[j];
        q_gather(rows, codes + 4 * j, stride);
        int8x16x4_t k = vld4q_s8(rows);
        for (int i = 0; i < 4; i++) {
            vst1q_s16(to + 16 * i, vmovl_s8(vget_low_s8(k.val[i])));
            vst1q_s16(to + 16 * i + 8, vmovl_s8(vget_high_s8(k.val[i])));
        }
    }
}
#endif

static inline int32_t dot_i8_64(const int8_t *a, const int8_t *b, size_t n64)
{
    int32x4_t sum = vdupq_n_s32(0);
    for (size_t i = 0; i < 4 * n64; i++)
        sum = vaddq_s32(sum, dot4_quad(a + 16 * i, b + 16 * i));
    return vaddvq_s32(sum);
}

#endif
