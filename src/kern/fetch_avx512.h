/* SPDX-License-Identifier: Apache-2.0
 * kern/fetch_avx512.h - quantised weights from where they lie to sixteen lanes, with AVX-512.
 *
 * The short way beside unpack.h's codes, for products of one token to four, which look at every
 * weight once: there the detour through the first-level cache cost more than half the time. The
 * values are the same bits: s * q, rounded, less m, rounded.
 *
 *   nibbles   a register holds the sixteen values that the codes of a block can have: one product
 *             (and one difference) makes the table, a permutation looks up sixteen codes at once.
 *             Permutations read only the low bits of an index, so nothing has to be masked:
 *
 *               16 bytes > 16 words n        [0..15] = table[n]      [16..31] = table[n >> 4]
 *
 *   five bits a second table, chosen by bit 4 of the index. The word of fifth bits goes to all
 *             lanes, and each turns its own bit into place
 *   bytes     widened, converted, times the scale: four instructions a register
 *
 * Blocks of 256 (K types): scales and offsets of all groups are made floats at once (k_scales),
 * then sixty-four elements at a time (fetch_64).
 *
 * A Zen 5 core has four ports for vectors: products on 0 and 1, permutations and widening on 1 and
 * 2, conversions, shifts and sums on 2 and 3, logic on all. The mixtures above use all of them
 * evenly. Dropped: masks for the fifth bits (moving to mask registers is on ports 1 and 2 too: a
 * third slower), conversion of nibbles as bytes are (half as many again).
 */
#ifndef LR_KERN_FETCH_AVX512_H
#define LR_KERN_FETCH_AVX512_H

/* A binary16 in memory, in all lanes. */
INLINE v16 half_all(const uint8_t *p)
{
    int16_t h;
    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}

INLINE __m128i bytes16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

INLINE v16 count_from(float first)
{
    return _mm512_add_ps(_mm512_set1_ps(first),
                         _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
}

/* -x, the sign of zeros and NaN included, as unpack.h has it. */
INLINE v16 negative(v16 x)
{
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

/* Sixteen nibbles n (upper bits are not looked at) by table. */
INLINE v16 look_up(v16 table, __m512i n)
{
    return _mm512_permutexvar_ps(n, table);
}

/* Codes of five bits: the nibbles n, and bit 4 from h. */
INLINE __m512i with_fifth(__m512i n, __m512i h)
{
    return _mm512_ternarylogic_epi32(n, h, _mm512_set1_epi32(16), 0xd8);
}

INLINE v16 look_up_5(v16 low, v16 high, __m512i n)
{
    return _mm512_permutex2var_ps(low, n, high);
}

/* s * codes first .. first + 15, less m where there is one. */
INLINE v16 table_of(v16 s, float first, bool has_m, v16 m)
{
    v16 t = v_mul(s, count_from(first));
    return has_m ? v_sub(t, m) : t;
}

INLINE void fetch_small(const uint8_t *p, bool high, bool has_m, v16 w[2])
{
    v16 s = half_all(p), m = has_m ? negative(half_all(p + 2)) : v_zero();
    float first = has_m ? 0 : high ? -16 : -8;
    p += has_m ? 4 : 2;
    v16 low = table_of(s, first, has_m, m);
    if (!high) {
        __m512i n = _mm512_cvtepu8_epi32(bytes16(p));
        w[0] = look_up(low, n);
        w[1] = look_up(low, _mm512_srli_epi32(n, 4));
        return;
    }
    /* bit j of h to bit 4 of lane j */
    const __m512i turn_0 = _mm512_set_epi32(11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 31, 30, 29, 28);
    const __m512i turn_16 = _mm512_add_epi32(turn_0, _mm512_set1_epi32(16));
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    v16 up = table_of(s, first + 16, has_m, m);
    __m512i n = _mm512_cvtepu8_epi32(bytes16(p + 4)), h = _mm512_set1_epi32(bits);
    w[0] = look_up_5(low, up, with_fifth(n, _mm512_rorv_epi32(h, turn_0)));
    w[1] = look_up_5(low, up, with_fifth(_mm512_srli_epi32(n, 4), _mm512_rorv_epi32(h, turn_16)));
}

INLINE size_t per_of(enum lr_kern_type type)
{
    return type == LR_KERN_Q4_K || type == LR_KERN_Q5_K || type == LR_KERN_Q6_K ? 256 : 32;
}

INLINE size_t bytes_of(enum lr_kern_type type)
{
    static const uint8_t bytes[LR_KERN_N_TYPES] = {
#define X(id, name, per, size) size,
        LR_KERN_TYPES(X)
#undef X
    };
    return bytes[type];
}

/* A block of 32 at p, of that row. */
INLINE void fetch_32(enum lr_kern_type type, const uint8_t *row, const uint8_t *p, v16 w[2])
{
    if (type == LR_KERN_Q8_0) {
        v16 s = half_all(p);
        w[0] = v_mul(s, v_i8((const int8_t *)p + 2));
        w[1] = v_mul(s, v_i8((const int8_t *)p + 18));
    } else if (type == LR_KERN_I4R) { /* one table for the row, which the compiler keeps */
        v16 table = table_of(half_all(row), 0, true, negative(half_all(row + 2)));
        __m512i n = _mm512_cvtepu8_epi32(bytes16(p));
        w[0] = look_up(table, n);
        w[1] = look_up(table, _mm512_srli_epi32(n, 4));
    } else {
        fetch_small(p, type == LR_KERN_Q5_0 || type == LR_KERN_Q5_1,
                    type == LR_KERN_Q4_1 || type == LR_KERN_Q5_1, w);
    }
}

/* Of the block of 256 at p. Q4_K, Q5_K: s of the eight groups of 32, then their m. Q6_K: s of the
 * sixteen groups of 16. Into memory, for a broadcast from there costs no permutation. */
INLINE void k_scales(enum lr_kern_type type, const uint8_t *p, float scale[16])
{
    if (type == LR_KERN_Q6_K) {
        v_store(scale, v_mul(half_all(p + 208), v_i8((const int8_t *)p + 192)));
        return;
    }
    uint32_t a[3];
    uint64_t s, t; /* bytes, as unpack_scales takes them apart */
    memcpy(a, p + 4, sizeof a);
    s = (uint64_t)((a[2] & 0x0f0f0f0f) | (a[0] >> 2 & 0x30303030)) << 32 | (a[0] & 0x3f3f3f3f);
    t = (uint64_t)((a[2] >> 4 & 0x0f0f0f0f) | (a[1] >> 2 & 0x30303030)) << 32 | (a[1] & 0x3f3f3f3f);
    __m512i st = _mm512_cvtepu8_epi32(_mm_set_epi64x((int64_t)t, (int64_t)s));
    __m512 de = _mm512_mask_blend_ps(0xff00, half_all(p), half_all(p + 2));
    v_store(scale, _mm512_mul_ps(de, _mm512_cvtepi32_ps(st)));
}

INLINE v16 codes16(__m128i q)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

INLINE void fetch_64_q6(const uint8_t *p, const float *scale, size_t i, v16 w[4])
{
    const __m256i low = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
    const __m256i less = _mm256_set1_epi8(32);
    size_t half = i / 128;
    const uint8_t *l = p + 64 * half;
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)(p + 128 + 32 * half));
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)l);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(l + 32));
    if (i % 128) { /* high nibbles, upper bits */
        a = _mm256_srli_epi16(a, 4);
        b = _mm256_srli_epi16(b, 4);
        h = _mm256_srli_epi16(h, 4);
    }
    a = _mm256_or_si256(_mm256_and_si256(a, low), _mm256_and_si256(_mm256_slli_epi16(h, 4), two));
    b = _mm256_or_si256(_mm256_and_si256(b, low), _mm256_and_si256(_mm256_slli_epi16(h, 2), two));
    a = _mm256_sub_epi8(a, less);
    b = _mm256_sub_epi8(b, less);
    w[0] = v_mul(v_set(scale[i / 16]), codes16(_mm256_castsi256_si128(a)));
    w[1] = v_mul(v_set(scale[i / 16 + 1]), codes16(_mm256_extracti128_si256(a, 1)));
    w[2] = v_mul(v_set(scale[i / 16 + 2]), codes16(_mm256_castsi256_si128(b)));
    w[3] = v_mul(v_set(scale[i / 16 + 3]), codes16(_mm256_extracti128_si256(b, 1)));
}

/* Bit `group` of sixteen bytes, to bit 4. */
INLINE __m512i fifth_of(const uint8_t *p, size_t group)
{
    const __m512i turn = _mm512_set1_epi32((int)((group + 28) % 32));
    return _mm512_rorv_epi32(_mm512_cvtepu8_epi32(bytes16(p)), turn);
}

/* Elements i .. i + 63 (i a multiple of 64, below 256) of the block at p. */
INLINE void fetch_64(enum lr_kern_type type, const uint8_t *p, const float *scale, size_t i,
                     v16 w[4])
{
    if (type == LR_KERN_Q6_K) {
        fetch_64_q6(p, scale, i, w);
        return;
    }
    const uint8_t *q = p + (type == LR_KERN_Q5_K ? 48 : 16) + i / 2;
    __m512i a = _mm512_cvtepu8_epi32(bytes16(q)), b = _mm512_cvtepu8_epi32(bytes16(q + 16));
    UNROLLED(g, 2)
    {
        const size_t group = i / 32 + (size_t)g;
        v16 s = v_set(scale[group]), m = v_set(scale[8 + group]), low = table_of(s, 0, true, m);
        if (type == LR_KERN_Q5_K) {
            v16 up = table_of(s, 16, true, m);
            w[2 * g] = look_up_5(low, up, with_fifth(a, fifth_of(p + 16, group)));
            w[2 * g + 1] = look_up_5(low, up, with_fifth(b, fifth_of(p + 32, group)));
        } else {
            w[2 * g] = look_up(low, a);
            w[2 * g + 1] = look_up(low, b);
        }
        a = _mm512_srli_epi32(a, 4);
        b = _mm512_srli_epi32(b, 4);
    }
}

#endif
