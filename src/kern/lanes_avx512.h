/* SPDX-License-Identifier: Apache-2.0
 * kern/lanes_avx512.h - sixteen lanes as one AVX-512 register. The vocabulary is that of lanes_c.h.
 */
#ifndef LR_KERN_LANES_AVX512_H
#define LR_KERN_LANES_AVX512_H

#include <immintrin.h>

typedef __m512 v16;

#define ROWS         4 /* 4 x 6 sums, 4 weights and one token: 29 of 32 registers */
#define TOKENS       6
#define TOKENS_FUSED 4
#define HAS_FETCH /* fetch_avx512.h */

#define v_pin(v) ((void)(v))

static inline v16 v_zero(void)
{
    return _mm512_setzero_ps();
}
static inline v16 v_set(float a)
{
    return _mm512_set1_ps(a);
}
static inline v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline v16 v_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void v_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
static inline void v_store_n(float *p, v16 a, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
static inline v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
static inline v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static inline v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
static inline v16 v_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline v16 v_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
static inline v16 v_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
static inline v16 v_abs(v16 a)
{
    return _mm512_abs_ps(a);
}
static inline v16 v_keep_from(v16 bound, v16 x, v16 y)
{
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, bound, _CMP_LT_OQ), _mm512_setzero_ps());
}
static inline v16 v_exp2i(v16 t)
{
    __m512i e = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(e, _mm512_set1_epi32(0x3f800000)));
}
static inline v16 v_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline v16 v_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void v_to_f16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
static inline v16 v_bf16(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
static inline float f16_one(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return _cvtsh_ss(h);
}

static inline float v_sum(v16 a)
{
    __m256 hi = _mm512_extractf32x8_ps(a, 1), lo = _mm512_castps512_ps256(a);
    __m256 s8 = _mm256_add_ps(lo, hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v_hmax(v16 a)
{
    return _mm512_reduce_max_ps(a);
}
/* Four sums at once, the same tree: 14 instructions instead of 28. */
static inline __m128 v_sum4(const v16 a[4])
{
    __m512 p = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x44),
                             _mm512_shuffle_f32x4(a[0], a[1], 0xee)); /* a: 2 quads, b: 2 quads */
    __m512 q = _mm512_add_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x44),
                             _mm512_shuffle_f32x4(a[2], a[3], 0xee));
    __m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x88), _mm512_shuffle_f32x4(p, q, 0xdd));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e)); /* i and i + 2 */
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1)); /* the two */
    const __m512i first = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s));
}
#define HAS_SUM4

/* Panels of sixteen rows (body_q16.h). */
#define Q_PANELS 2 /* with VNNI 2 x 4 sums of two registers, 2 x 4 of floats: 27 of 32 registers */
#define Q_TOKENS 4

static inline __m512i q_all(const char *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

#ifdef __AVX512VNNI__
#define Q_CELL   64
#define Q_BIASED 1
typedef struct {
    __m512i h, l;
} q_sum, q_four;
typedef __m512i q_cell;

static inline q_sum q_start(int32_t first)
{
    return (q_sum){_mm512_setzero_si512(), _mm512_set1_epi32(first)};
}
static inline q_cell q_load_cell(const int8_t *p)
{
    return _mm512_load_si512(p);
}
static inline q_four q_load_four(const char *p)
{
    return (q_four){q_all(p), q_all(p + 4)};
}
static inline q_sum q_dot(q_sum s, q_cell w, q_four x)
{
    return (q_sum){_mm512_dpbusd_epi32(s.h, w, x.h), _mm512_dpbusd_epi32(s.l, w, x.l)};
}
static inline v16 q_float(q_sum s)
{
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(s.h, 8), s.l));
}
static inline void q_codes(char *to, v16 a)
{
    __m512i q = _mm512_cvtps_epi32(a);
    __m128i l = _mm512_cvtepi32_epi8(q);
    __m128i h =
        _mm512_cvtepi32_epi8(_mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8));
    _mm_storeu_si128((__m128i *)(void *)to, _mm_unpacklo_epi32(h, l));
    _mm_storeu_si128((__m128i *)(void *)(to + 16), _mm_unpackhi_epi32(h, l));
}
/* Codes + bias of sixteen rows, four each, to a cell. */
static inline void q_put(int8_t *cell, __m512i codes, int bias)
{
    (void)bias;
    _mm512_store_si512(cell, codes);
}
#else
#define Q_CELL   128
#define Q_BIASED 0
typedef __m512i q_sum;
typedef struct {
    __m512i a, b; /* two words of each row; of the token in all lanes */
} q_cell, q_four;

static inline q_sum q_start(int32_t first)
{
    return _mm512_set1_epi32(first);
}
static inline q_cell q_load_cell(const int8_t *p)
{
    return (q_cell){_mm512_load_si512(p), _mm512_load_si512(p + 64)};
}
static inline q_four q_load_four(const char *p)
{
    return (q_four){q_all(p), q_all(p + 4)};
}
static inline q_sum q_dot(q_sum s, q_cell w, q_four x)
{
    s = _mm512_add_epi32(s, _mm512_madd_epi16(w.a, x.a));
    return _mm512_add_epi32(s, _mm512_madd_epi16(w.b, x.b));
}
static inline v16 q_float(q_sum s)
{
    return _mm512_cvtepi32_ps(s);
}
static inline void q_codes(char *to, v16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
}
static inline void q_put(int8_t *cell, __m512i codes, int bias)
{
    const __m512i first = _mm512_broadcast_i32x4(
        _mm_set_epi8(13, -1, 12, -1, 9, -1, 8, -1, 5, -1, 4, -1, 1, -1, 0, -1));
    const __m512i second = _mm512_broadcast_i32x4(
        _mm_set_epi8(15, -1, 14, -1, 11, -1, 10, -1, 7, -1, 6, -1, 3, -1, 2, -1));
    codes = _mm512_sub_epi8(codes, _mm512_set1_epi8((char)bias));
    _mm512_store_si512(cell, _mm512_srai_epi16(_mm512_shuffle_epi8(codes, first), 8));
    _mm512_store_si512(cell + 64, _mm512_srai_epi16(_mm512_shuffle_epi8(codes, second), 8));
}
#endif

static inline int32_t dot_i8_64(const int8_t *a, const int8_t *b, size_t n64)
{
    __m512i sum = _mm512_setzero_si512();
#ifdef __AVX512VNNI__
    const __m512i half = _mm512_set1_epi8((char)-128);
    __m512i over = _mm512_setzero_si512();
    for (size_t i = 0; i < n64; i++) {
        __m512i x = _mm512_loadu_si512(a + 64 * i), y = _mm512_loadu_si512(b + 64 * i);
        sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(x, half), y);
        over = _mm512_dpbusd_epi32(over, half, y);
    }
    sum = _mm512_sub_epi32(sum, over);
#else
    for (size_t i = 0; i < 2 * n64; i++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(a + 32 * i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(const void *)(b + 32 * i));
        sum = _mm512_add_epi32(sum,
                               _mm512_madd_epi16(_mm512_cvtepi8_epi16(x), _mm512_cvtepi8_epi16(y)));
    }
#endif
    return _mm512_reduce_add_epi32(sum);
}

#endif
