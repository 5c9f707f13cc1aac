/* SPDX-License-Identifier: Apache-2.0
 * vec/dot.c - inner products of one query with a handful of stored vectors, chosen by CPU at run
 * time.
 *
 * A walk compares one query with the up to 2m neighbours of a node at once, so the kernels take a
 * list of pointers. Four vectors go side by side: four independent chains of multiply-adds, one
 * load of the query for four of theirs, one transposed sum at the end.
 *
 * Stored bytes are biased (coordinate + 128): vpdpbusd multiplies unsigned by signed bytes, and
 * this way the query, made once, takes the signed side; the bias costs one subtraction a product.
 * Sums of bytes are exact and the same on every variant: 255 * 127 * LR_VEC_DIM_MAX < 2^31. Sums of
 * floats differ between variants in their last bits (they are fused adds over 16 lanes, or 8).
 *
 * kern/ has dot and dot_i8 for one pair. One pair a call costs 3.0 ns where a list costs 2.05 ns a
 * vector (dimension 256, in cache, avx512vnni). When kern/ takes lists, this file goes.
 */
#include "vec/vec_int.h"

static void i8_c(const int8_t *q, int32_t bias, const uint8_t *const *x, size_t n, size_t pad,
                 int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (size_t k = 0; k < pad; k++)
            sum += q[k] * x[i][k];
        out[i] = sum - bias;
    }
}

static void f32_c(const float *q, const uint8_t *const *x, size_t n, size_t pad, float *out)
{
    for (size_t i = 0; i < n; i++) {
        const float *p = (const float *)(const void *)x[i];
        float lane[16] = {0}, sum = 0;
        for (size_t k = 0; k < pad; k += 16)
            for (size_t j = 0; j < 16; j++)
                lane[j] += q[k + j] * p[k + j];
        for (size_t j = 0; j < 16; j++)
            sum += lane[j];
        out[i] = sum;
    }
}

static float wide_c(const float *q, const uint8_t *x, size_t pad)
{
    float lane[16] = {0}, sum = 0;
    for (size_t k = 0; k < pad; k += 16)
        for (size_t j = 0; j < 16; j++)
            lane[j] += q[k + j] * (float)(x[k + j] - 128);
    for (size_t j = 0; j < 16; j++)
        sum += lane[j];
    return sum;
}

/* Byte j of a run of 16 holds coordinate j below and j + 16 above, each 8 more than it is. */
static float nibbles_c(const float *q, const uint8_t *low, size_t pad)
{
    float lane[16] = {0}, sum = 0;
    for (size_t k = 0; k < pad; k += 32)
        for (size_t j = 0; j < 16; j++) {
            uint8_t b = low[k / 2 + j];
            lane[j] += q[k + j] * (float)((b & 15) - 8);
            lane[j] += q[k + 16 + j] * (float)((b >> 4) - 8);
        }
    for (size_t j = 0; j < 16; j++)
        sum += lane[j];
    return sum;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

AVX2 static int32_t sum8(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

AVX2 static float sum8f(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* Bytes are widened to 16 bits: vpmaddubsw would saturate. */
AVX2 static void i8_avx2(const int8_t *q, int32_t bias, const uint8_t *const *x, size_t n,
                         size_t pad, int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        __m256i s0 = _mm256_setzero_si256(), s1 = s0;
        for (size_t k = 0; k < pad; k += 32) {
            const __m128i *a = (const __m128i *)(const void *)(q + k);
            const __m128i *b = (const __m128i *)(const void *)(x[i] + k);
            s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(a)),
                                                        _mm256_cvtepu8_epi16(_mm_loadu_si128(b))));
            s1 = _mm256_add_epi32(s1,
                                  _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(a + 1)),
                                                    _mm256_cvtepu8_epi16(_mm_loadu_si128(b + 1))));
        }
        out[i] = sum8(_mm256_add_epi32(s0, s1)) - bias;
    }
}

AVX2 static void f32_avx2(const float *q, const uint8_t *const *x, size_t n, size_t pad, float *out)
{
    for (size_t i = 0; i < n; i++) {
        const float *p = (const float *)(const void *)x[i];
        __m256 s0 = _mm256_setzero_ps(), s1 = s0;
        for (size_t k = 0; k < pad; k += 16) {
            s0 = _mm256_fmadd_ps(_mm256_loadu_ps(q + k), _mm256_loadu_ps(p + k), s0);
            s1 = _mm256_fmadd_ps(_mm256_loadu_ps(q + k + 8), _mm256_loadu_ps(p + k + 8), s1);
        }
        out[i] = sum8f(_mm256_add_ps(s0, s1));
    }
}

AVX2 static float wide_avx2(const float *q, const uint8_t *x, size_t pad)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    __m256i bias = _mm256_set1_epi32(128);
    for (size_t k = 0; k < pad; k += 16) {
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(x + k));
        __m256i lo = _mm256_sub_epi32(_mm256_cvtepu8_epi32(b), bias);
        __m256i hi = _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)), bias);
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(q + k), _mm256_cvtepi32_ps(lo), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(q + k + 8), _mm256_cvtepi32_ps(hi), s1);
    }
    return sum8f(_mm256_add_ps(s0, s1));
}

AVX2 static float nibbles_avx2(const float *q, const uint8_t *low, size_t pad)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    __m256i eight = _mm256_set1_epi32(8), mask = _mm256_set1_epi32(15);
    for (size_t k = 0; k < pad; k += 32)
        for (size_t j = 0; j < 16; j += 8) {
            __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)(low + k / 2 + j));
            __m256i w = _mm256_cvtepu8_epi32(b);
            __m256i lo = _mm256_sub_epi32(_mm256_and_si256(w, mask), eight);
            __m256i hi = _mm256_sub_epi32(_mm256_srli_epi32(w, 4), eight);
            s0 = _mm256_fmadd_ps(_mm256_loadu_ps(q + k + j), _mm256_cvtepi32_ps(lo), s0);
            s1 = _mm256_fmadd_ps(_mm256_loadu_ps(q + k + 16 + j), _mm256_cvtepi32_ps(hi), s1);
        }
    return sum8f(_mm256_add_ps(s0, s1));
}

/* The sums of four registers of 16 lanes, in order. */
VNNI static __m128i sums4(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

VNNI static void i8_vnni(const int8_t *q, int32_t bias, const uint8_t *const *x, size_t n,
                         size_t pad, int32_t *out)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint8_t *x0 = x[i], *x1 = x[i + 1], *x2 = x[i + 2], *x3 = x[i + 3];
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t k = 0; k < pad; k += 64) {
            __m512i a = _mm512_loadu_si512(q + k);
            s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(x0 + k), a);
            s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(x1 + k), a);
            s2 = _mm512_dpbusd_epi32(s2, _mm512_loadu_si512(x2 + k), a);
            s3 = _mm512_dpbusd_epi32(s3, _mm512_loadu_si512(x3 + k), a);
        }
        __m128i s = _mm_sub_epi32(sums4(s0, s1, s2, s3), _mm_set1_epi32(bias));
        _mm_storeu_si128((__m128i *)(void *)(out + i), s);
    }
    for (; i < n; i++) {
        __m512i s0 = _mm512_setzero_si512(), s1 = s0;
        size_t k = 0;
        for (; k + 128 <= pad; k += 128) {
            s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(x[i] + k), _mm512_loadu_si512(q + k));
            s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(x[i] + k + 64),
                                     _mm512_loadu_si512(q + k + 64));
        }
        if (k < pad)
            s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(x[i] + k), _mm512_loadu_si512(q + k));
        out[i] = _mm512_reduce_add_epi32(_mm512_add_epi32(s0, s1)) - bias;
    }
}

VNNI static void f32_avx512(const float *q, const uint8_t *const *x, size_t n, size_t pad,
                            float *out)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float *x0 = (const float *)(const void *)x[i];
        const float *x1 = (const float *)(const void *)x[i + 1];
        const float *x2 = (const float *)(const void *)x[i + 2];
        const float *x3 = (const float *)(const void *)x[i + 3];
        __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t k = 0; k < pad; k += 16) {
            __m512 a = _mm512_loadu_ps(q + k);
            s0 = _mm512_fmadd_ps(a, _mm512_loadu_ps(x0 + k), s0);
            s1 = _mm512_fmadd_ps(a, _mm512_loadu_ps(x1 + k), s1);
            s2 = _mm512_fmadd_ps(a, _mm512_loadu_ps(x2 + k), s2);
            s3 = _mm512_fmadd_ps(a, _mm512_loadu_ps(x3 + k), s3);
        }
        out[i] = _mm512_reduce_add_ps(s0);
        out[i + 1] = _mm512_reduce_add_ps(s1);
        out[i + 2] = _mm512_reduce_add_ps(s2);
        out[i + 3] = _mm512_reduce_add_ps(s3);
    }
    for (; i < n; i++) {
        const float *p = (const float *)(const void *)x[i];
        __m512 s = _mm512_setzero_ps();
        for (size_t k = 0; k < pad; k += 16)
            s = _mm512_fmadd_ps(_mm512_loadu_ps(q + k), _mm512_loadu_ps(p + k), s);
        out[i] = _mm512_reduce_add_ps(s);
    }
}
#endif

static const struct dots table[] = {
    {"portable", i8_c, f32_c, wide_c, nibbles_c},
#if defined(__x86_64__)
    {"avx2", i8_avx2, f32_avx2, wide_avx2, nibbles_avx2},
    {"avx512vnni", i8_vnni, f32_avx512, wide_avx2, nibbles_avx2},
#endif
};

static bool runs(size_t i)
{
#if defined(__x86_64__)
    if (i == 1)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (i == 2)
        return runs(1) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    return i == 0;
}

const struct dots *vec_dots_variant(size_t i)
{
    for (size_t k = 0; k < LR_COUNT(table); k++)
        if (runs(k) && i-- == 0)
            return &table[k];
    return NULL;
}

const struct dots *vec_dots(void)
{
    const struct dots *d = &table[0], *next;
    for (size_t i = 1; (next = vec_dots_variant(i)); i++)
        d = next;
    return d;
}
