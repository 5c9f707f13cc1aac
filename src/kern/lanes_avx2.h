/* SPDX-License-Identifier: Apache-2.0
 * kern/lanes_avx2.h - sixteen lanes as two AVX registers. The vocabulary is that of lanes_c.h.
 */
#ifndef LR_KERN_LANES_AVX2_H
#define LR_KERN_LANES_AVX2_H

#include <immintrin.h>

typedef struct {
    __m256 lo, hi;
} v16;

#define ROWS         2 /* 2 x 2 sums of two registers each; wider tiles spill */
#define TOKENS       2
#define TOKENS_FUSED 2

/* GCC 12 would rather read an operand from memory at each use, and there are only two loads a
 * cycle: 16 instead of 8 in the tile's step. */
#define v_pin(v) __asm__("" : "+x"((v).lo), "+x"((v).hi))

static inline v16 v_both(__m256 a)
{
    return (v16){a, a};
}
static inline v16 v_zero(void)
{
    return v_both(_mm256_setzero_ps());
}
static inline v16 v_set(float a)
{
    return v_both(_mm256_set1_ps(a));
}
static inline v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline v16 v_load_n(const float *p, size_t n)
{
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load(t);
}
static inline void v_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
static inline void v_store_n(float *p, v16 a, size_t n)
{
    float t[16];
    v_store(t, a);
    memcpy(p, t, n * sizeof *t);
}
#define EACH(name, fn)                                                                             \
    static inline v16 name(v16 a, v16 b)                                                           \
    {                                                                                              \
        return (v16){fn(a.lo, b.lo), fn(a.hi, b.hi)};                                              \
    }
EACH(v_add, _mm256_add_ps)
EACH(v_sub, _mm256_sub_ps)
EACH(v_mul, _mm256_mul_ps)
EACH(v_div, _mm256_div_ps)
EACH(v_max, _mm256_max_ps)
EACH(v_min, _mm256_min_ps)
#undef EACH
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v_abs(v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
static inline v16 v_keep_from(v16 bound, v16 x, v16 y)
{
    return (v16){_mm256_andnot_ps(_mm256_cmp_ps(x.lo, bound.lo, _CMP_LT_OQ), y.lo),
                 _mm256_andnot_ps(_mm256_cmp_ps(x.hi, bound.hi, _CMP_LT_OQ), y.hi)};
}
static inline __m256 exp2i_half(__m256 t)
{
    __m256i e = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(e, _mm256_set1_epi32(0x3f800000)));
}
static inline v16 v_exp2i(v16 t)
{
    return (v16){exp2i_half(t.lo), exp2i_half(t.hi)};
}
static inline __m256 i8_half(const int8_t *p)
{
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
static inline v16 v_i8(const int8_t *p)
{
    return (v16){i8_half(p), i8_half(p + 8)};
}
static inline v16 v_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
static inline void v_to_f16(uint16_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
static inline __m256 bf16_half(const uint16_t *p)
{
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}
static inline v16 v_bf16(const uint16_t *p)
{
    return (v16){bf16_half(p), bf16_half(p + 8)};
}
static inline float f16_one(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return _cvtsh_ss(h);
}

static inline float v_sum(v16 a)
{
    __m256 s8 = _mm256_add_ps(a.lo, a.hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v_hmax(v16 a)
{
    __m256 s8 = _mm256_max_ps(a.lo, a.hi);
    __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

/* Panels of sixteen rows (body_q16.h): words, two of a row side by side; rows 0 - 7, 8 - 15. */
#define Q_PANELS 1 /* 1 x 2 sums and floats of two registers each, four of weights: 13 of 16 */
#define Q_TOKENS 2
#define Q_CELL   128
#define Q_BIASED 0
typedef struct {
    __m256i lo, hi;
} q_sum;
typedef struct {
    __m256i lo[2], hi[2];
} q_cell;
typedef struct {
    __m256i two[2];
} q_four;

static inline q_sum q_start(int32_t first)
{
    return (q_sum){_mm256_set1_epi32(first), _mm256_set1_epi32(first)};
}
static inline __m256i q_words(const int8_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}
static inline q_cell q_load_cell(const int8_t *p)
{
    return (q_cell){{q_words(p), q_words(p + 64)}, {q_words(p + 32), q_words(p + 96)}};
}
static inline q_four q_load_four(const char *p)
{
    int32_t w[2];
    memcpy(w, p, sizeof w);
    return (q_four){{_mm256_set1_epi32(w[0]), _mm256_set1_epi32(w[1])}};
}
static inline q_sum q_dot(q_sum s, q_cell w, q_four x)
{
    UNROLLED(i, 2)
    {
        s.lo = _mm256_add_epi32(s.lo, _mm256_madd_epi16(w.lo[i], x.two[i]));
        s.hi = _mm256_add_epi32(s.hi, _mm256_madd_epi16(w.hi[i], x.two[i]));
    }
    return s;
}
static inline v16 q_float(q_sum s)
{
    return (v16){_mm256_cvtepi32_ps(s.lo), _mm256_cvtepi32_ps(s.hi)};
}
static inline void q_codes(char *to, v16 a)
{
    __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permute4x64_epi64(w, 0xd8));
}
/* Eight rows of eight words of 32 bits, turned. */
static inline void q_turn(__m256i r[8])
{
    __m256i t[8];
    UNROLLED(j, 4)
    {
        const int i = 2 * j;
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLLED(j, 2)
    {
        const int i = 4 * j;
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLLED(i, 4)
    {
        t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
    }
    memcpy(r, t, sizeof t);
}
/* 32 codes of sixteen rows to eight cells. */
static inline void q_cells(int8_t cell[8][Q_CELL], const int8_t *codes, size_t stride, uint8_t bias)
{
    const __m256i first = _mm256_broadcastsi128_si256(
        _mm_set_epi8(13, -1, 12, -1, 9, -1, 8, -1, 5, -1, 4, -1, 1, -1, 0, -1));
    const __m256i second = _mm256_broadcastsi128_si256(
        _mm_set_epi8(15, -1, 14, -1, 11, -1, 10, -1, 7, -1, 6, -1, 3, -1, 2, -1));
    (void)bias;
    for (size_t half = 0; half < 2; half++) {
        __m256i r[8];
        UNROLLED(i, 8)
        {
            const int8_t *row = codes + (8 * half + (size_t)i) * stride;
            r[i] = _mm256_loadu_si256((const __m256i *)(const void *)row);
        }
        q_turn(r);
        UNROLLED(j, 8)
        {
            __m256i *to = (__m256i *)(void *)(cell[j] + 32 * half);
            _mm256_store_si256(to, _mm256_srai_epi16(_mm256_shuffle_epi8(r[j], first), 8));
            _mm256_store_si256(to + 2, _mm256_srai_epi16(_mm256_shuffle_epi8(r[j], second), 8));
        }
    }
}

static inline int32_t dot_i8_64(const int8_t *a, const int8_t *b, size_t n64)
{
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < 4 * n64; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + 16 * i));
        __m128i y = _mm_loadu_si128((const __m128i *)(const void *)(b + 16 * i));
        sum = _mm256_add_epi32(sum,
                               _mm256_madd_epi16(_mm256_cvtepi8_epi16(x), _mm256_cvtepi8_epi16(y)));
    }
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

#endif
