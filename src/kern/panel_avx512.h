/* SPDX-License-Identifier: Apache-2.0
 * kern/panel_avx512.h - panels of body_q16.h straight from sixteen rows in memory, with AVX-512.
 *
 * Every type keeps its codes in runs of 16 or 32 bytes. Sixteen rows of a run are a matrix of words
 * of 32 bits (four codes, or twice four nibbles) that has to be turned:
 *
 *   32 bytes a row   register i:  row i | row i + 4  or  row i + 8 | row i + 12     i = 0..3
 *   16 bytes a row   register i:  rows i, i + 4, i + 8, i + 12
 *
 * so that two stages of unpacking, within quarters of registers, bring four rows together, and the
 * third (only for 32) puts the quarters in order. Then a register holds word j of rows 0 .. 15, and
 * nibbles, fifth and sixth bits are shifts and masks on all rows at once. Scales of six bits, too,
 * are taken apart for sixteen rows together.
 *
 * put() stores codes as the products want them: biased bytes with VNNI, signed words without.
 */
#ifndef LR_KERN_PANEL_AVX512_H
#define LR_KERN_PANEL_AVX512_H

/* Four registers of four rows each (or of two, twice): words 0 .. 3 of every quarter, turned. */
INLINE void turn_quarters(const __m512i in[4], __m512i out[4])
{
    __m512i a = _mm512_unpacklo_epi32(in[0], in[1]), b = _mm512_unpackhi_epi32(in[0], in[1]);
    __m512i c = _mm512_unpacklo_epi32(in[2], in[3]), d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

/* Lane r of word[j]: bytes 4j .. 4j + 3 of row r. */
INLINE void turn_16(const uint8_t *p, size_t stride, __m512i word[4])
{
    __m512i in[4];
    UNROLLED(i, 4)
    {
        const uint8_t *q = p + (size_t)i * stride;
        in[i] = _mm512_castsi128_si512(bytes16(q));
        in[i] = _mm512_inserti32x4(in[i], bytes16(q + 4 * stride), 1);
        in[i] = _mm512_inserti32x4(in[i], bytes16(q + 8 * stride), 2);
        in[i] = _mm512_inserti32x4(in[i], bytes16(q + 12 * stride), 3);
    }
    turn_quarters(in, word);
}

INLINE __m512i two_rows(const uint8_t *p, const uint8_t *q)
{
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)q);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

INLINE void turn_32(const uint8_t *p, size_t stride, __m512i word[8])
{
    __m512i in[8], low[4], high[4];
    UNROLLED(i, 4)
    {
        const uint8_t *q = p + (size_t)i * stride;
        in[i] = two_rows(q, q + 4 * stride);
        in[i + 4] = two_rows(q + 8 * stride, q + 12 * stride);
    }
    turn_quarters(in, low);
    turn_quarters(in + 4, high);
    UNROLLED(j, 4)
    {
        word[j] = _mm512_shuffle_i32x4(low[j], high[j], 0x88);
        word[j + 4] = _mm512_shuffle_i32x4(low[j], high[j], 0xdd);
    }
}

/* 32 codes of sixteen rows to eight cells. */
static void q_cells(int8_t cell[8][Q_CELL], const int8_t *codes, size_t stride, uint8_t bias)
{
    __m512i w[8];
    turn_32((const uint8_t *)codes, stride, w);
    UNROLLED(j, 8)
    {
        q_put(cell[j], _mm512_add_epi8(w[j], _mm512_set1_epi8((char)bias)), bias);
    }
}

/* A word, a binary16 of each row. */
INLINE __m512i words_of(const uint8_t *p, size_t stride)
{
    int32_t w[16];
    UNROLLED(r, 16)
    {
        memcpy(&w[r], p + (size_t)r * stride, 4);
    }
    return _mm512_set_epi32(w[15], w[14], w[13], w[12], w[11], w[10], w[9], w[8], w[7], w[6], w[5],
                            w[4], w[3], w[2], w[1], w[0]);
}

INLINE v16 halves_of(const uint8_t *p, size_t stride)
{
    int16_t h[16];
    UNROLLED(r, 16)
    {
        memcpy(&h[r], p + (size_t)r * stride, 2);
    }
    return _mm512_cvtph_ps(_mm256_set_epi16(h[15], h[14], h[13], h[12], h[11], h[10], h[9], h[8],
                                            h[7], h[6], h[5], h[4], h[3], h[2], h[1], h[0]));
}

INLINE v16 low_half(__m512i w)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w));
}

INLINE v16 high_half(__m512i w)
{
    return low_half(_mm512_srli_epi32(w, 16));
}

/* Byte i of each word, as a float. */
INLINE v16 byte_of(__m512i w, int i)
{
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(w, (unsigned)(8 * i)),
                                               _mm512_set1_epi32(255)));
}

INLINE v16 signed_byte_of(__m512i w, int i)
{
    return _mm512_cvtepi32_ps(
        _mm512_srai_epi32(_mm512_slli_epi32(w, (unsigned)(24 - 8 * i)), 24));
}

INLINE __m512i low_nibbles(__m512i w)
{
    return _mm512_and_si512(w, _mm512_set1_epi8(15));
}

INLINE __m512i high_nibbles(__m512i w)
{
    return low_nibbles(_mm512_srli_epi32(w, 4));
}

/* a, and b where mask has bits. */
INLINE __m512i with_bits(__m512i a, __m512i b, int mask)
{
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8((char)mask), 0xf8);
}

/* The builders take sixteen rows, and ask for as many bytes as they read from `next` on. */

INLINE const uint8_t *ask(const uint8_t *next, size_t bytes)
{
    for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch(next + b);
    return next + bytes;
}

INLINE void build_q8_0(struct panel *p, const uint8_t *row, size_t stride, size_t n,
                       const uint8_t *next)
{
    for (size_t i = 0; i < n; i += 32, row += 34) {
        __m512i w[8];
        next = ask(next, 16 * 34);
        turn_32(row + 2, stride, w);
        UNROLLED(j, 8)
        {
            q_put(p->cell[i / 4 + (size_t)j], _mm512_xor_si512(w[j], _mm512_set1_epi8((char)-128)),
                  128);
        }
        v_store(p->s[i / 32], halves_of(row, stride));
    }
}

/* Bits 0 .. 3 of each word, to bit 4 of the bytes. */
INLINE __m512i spread(__m512i w)
{
    const __m512i table = _mm512_set_epi32(
        0x10101010, 0x10101000, 0x10100010, 0x10100000, 0x10001010, 0x10001000, 0x10000010,
        0x10000000, 0x00101010, 0x00101000, 0x00100010, 0x00100000, 0x00001010, 0x00001000,
        0x00000010, 0x00000000);
    return _mm512_permutexvar_epi32(w, table);
}

/* Q4_0, Q4_1, Q5_0, Q5_1. */
INLINE void build_small(struct panel *p, const uint8_t *row, size_t stride, size_t n,
                        const uint8_t *next, bool high, bool min)
{
    const size_t head = min ? 4 : 2, bytes = head + (high ? 20 : 16);
    const int bias = min ? 0 : high ? 16 : 8;
    for (size_t i = 0; i < n; i += 32, row += bytes) {
        __m512i w[4], h = _mm512_setzero_si512();
        next = ask(next, 16 * bytes);
        if (high)
            h = words_of(row + head, stride);
        turn_16(row + head + (high ? 4 : 0), stride, w);
        UNROLLED(j, 4)
        {
            __m512i a = low_nibbles(w[j]), b = high_nibbles(w[j]);
            if (high) {
                a = _mm512_or_si512(a, spread(_mm512_srli_epi32(h, (unsigned)(4 * j))));
                b = _mm512_or_si512(b, spread(_mm512_srli_epi32(h, (unsigned)(16 + 4 * j))));
            }
            q_put(p->cell[i / 4 + (size_t)j], a, bias);
            q_put(p->cell[i / 4 + 4 + (size_t)j], b, bias);
        }
        if (min) {
            __m512i sm = words_of(row, stride);
            v_store(p->s[i / 32], low_half(sm));
            v_store(p->m[i / 32], high_half(sm));
        } else {
            v_store(p->s[i / 32], halves_of(row, stride));
        }
    }
}

/* Scales and offsets of Q4_K and Q5_K, as unpack_scales takes them apart. */
INLINE void build_k_scales(struct panel *p, const uint8_t *row, size_t stride)
{
    const __m512i six = _mm512_set1_epi8(0x3f), top = _mm512_set1_epi8(0x30);
    __m512i head[4], st[4];
    turn_16(row, stride, head);
    v16 d = low_half(head[0]), e = negative(high_half(head[0]));
    st[0] = _mm512_and_si512(head[1], six);
    st[1] = _mm512_or_si512(low_nibbles(head[3]),
                            _mm512_and_si512(_mm512_srli_epi32(head[1], 2), top));
    st[2] = _mm512_and_si512(head[2], six);
    st[3] = _mm512_or_si512(high_nibbles(head[3]),
                            _mm512_and_si512(_mm512_srli_epi32(head[2], 2), top));
    UNROLLED(g, 8)
    {
        v_store(p->s[g], v_mul(d, byte_of(st[g / 4], g % 4)));
        v_store(p->m[g], v_mul(e, byte_of(st[2 + g / 4], g % 4)));
    }
}

INLINE void build_k(struct panel *p, const uint8_t *row, size_t stride, const uint8_t *next,
                    bool high)
{
    __m512i h[8];
    build_k_scales(p, row, stride);
    if (high)
        turn_32(row + 16, stride, h);
    UNROLLED(c, 4)
    {
        __m512i w[8];
        next = ask(next, 4 * (high ? 176 : 144));
        turn_32(row + (high ? 48 : 16) + 32 * c, stride, w);
        UNROLLED(j, 8)
        {
            __m512i a = low_nibbles(w[j]), b = high_nibbles(w[j]);
            if (high) {
                a = with_bits(a, _mm512_slli_epi32(h[j], 4), 16);
                b = with_bits(b, _mm512_slli_epi32(h[j], 3), 16);
                h[j] = _mm512_srli_epi32(h[j], 2);
            }
            q_put(p->cell[16 * c + j], a, 0);
            q_put(p->cell[16 * c + 8 + j], b, 0);
        }
    }
}

INLINE void build_q6_k(struct panel *p, const uint8_t *row, size_t stride, const uint8_t *next)
{
    __m512i s[4];
    v16 d = halves_of(row + 208, stride);
    turn_16(row + 192, stride, s);
    UNROLLED(g, 16)
    {
        v_store(p->s[g], v_mul(d, signed_byte_of(s[g / 4], g % 4)));
    }
    UNROLLED(half, 2)
    {
        __m512i a[8], b[8], h[8];
        next = ask(next, 8 * 210);
        turn_32(row + 64 * half, stride, a);
        turn_32(row + 64 * half + 32, stride, b);
        turn_32(row + 128 + 32 * half, stride, h);
        UNROLLED(j, 8)
        {
            int8_t(*cell)[Q_CELL] = &p->cell[32 * half + j];
            q_put(cell[0], with_bits(low_nibbles(a[j]), _mm512_slli_epi32(h[j], 4), 48), 32);
            q_put(cell[8], with_bits(low_nibbles(b[j]), _mm512_slli_epi32(h[j], 2), 48), 32);
            q_put(cell[16], with_bits(high_nibbles(a[j]), h[j], 48), 32);
            q_put(cell[24], with_bits(high_nibbles(b[j]), _mm512_srli_epi32(h[j], 2), 48), 32);
        }
    }
}

/* Elements at .. at + n of sixteen rows; of blocks of 256 there is one. */
static void build_16(struct panel *p, enum lr_kern_type type, const uint8_t *row, size_t stride,
                     size_t at, size_t n, const uint8_t *next)
{
    next += 16 * (at / per_of(type) * bytes_of(type));
    row += at / per_of(type) * bytes_of(type);
    switch (type) {
    case LR_KERN_Q8_0:
        build_q8_0(p, row, stride, n, next);
        break;
    case LR_KERN_Q4_0:
        build_small(p, row, stride, n, next, false, false);
        break;
    case LR_KERN_Q4_1:
        build_small(p, row, stride, n, next, false, true);
        break;
    case LR_KERN_Q5_0:
        build_small(p, row, stride, n, next, true, false);
        break;
    case LR_KERN_Q5_1:
        build_small(p, row, stride, n, next, true, true);
        break;
    case LR_KERN_Q4_K:
        build_k(p, row, stride, next, false);
        break;
    case LR_KERN_Q5_K:
        build_k(p, row, stride, next, true);
        break;
    default:
        assert(type == LR_KERN_Q6_K);
        build_q6_k(p, row, stride, next);
    }
}

#endif
