/* SPDX-License-Identifier: Apache-2.0
 * kern/unpack.h - quantised blocks to signed bytes, scales and offsets. Compiled once per variant.
 *
 * Every quantised format is first brought into one form, `struct codes`: an element is
 *
 *   s[i / 32] * q[i] - m[i / 32]       (Q6_K: s[i / 16] * q[i]; symmetric formats: no m)
 *
 * So a format is one function here and nothing anywhere else: decode, mul, mulq and mix know only
 * codes (fetch_avx512.h and panel_avx512.h are short ways beside it). The detour through the
 * first-level cache costs about a third of a fused kernel's speed, and saves one kernel per format,
 * variant and number of tokens.
 *
 * The layouts, after the published format of GGUF files (ggml's documentation of its block types);
 * little-endian, d e m: binary16, bit fields from the low end. Numbers are bytes; [a..b] elements.
 *
 *  Q8_0  | d 2 | q 32: [0..31], signed                                                  |  34
 *  Q4_0  | d 2 | 16: low nibbles [0..15], high nibbles [16..31]                         |  18
 *  Q4_1  | d 2 | m 2 | 16: as Q4_0                                                      |  20
 *  Q5_0  | d 2 | h 4: bit j is bit 4 of [j] | 16: as Q4_0                               |  22
 *  Q5_1  | d 2 | m 2 | h 4 | 16                                                         |  24
 *  Q4_K  | d 2 | e 2 | st 12 | 4 x 32: low nibbles [64c..64c+31], high [64c+32..64c+63] | 144
 *  Q5_K  | d 2 | e 2 | st 12 | h 32: bit g of byte l is bit 4 of [32g+l] | 4 x 32       | 176
 *  Q6_K  | l 128 | h 64 | s 16, signed, per 16 elements | d 2                           | 210
 *  I4R   | s 2 | z 2 | n/2: per 32 elements 16 bytes as Q4_0                            | 4 + n/2
 *
 *  st: eight scales s and eight offsets t of six bits, for the groups of 32
 *        byte      bits 0..5   bits 6..7            byte 8+i    bits 0..3   bits 4..7    (i = 0..3)
 *        0..3      s[0..3]     s[4..7] high two                 s[4+i] low  t[4+i] low
 *        4..7      t[0..3]     t[4..7] high two
 *  Q6_K, half a of 128 elements: l at 64a, h at 32a; j = 0..31
 *        [j]    = l[j] low nibble,     h[j] bits 0..1    [64+j] = l[j] high nibble,    bits 4..5
 *        [32+j] = l[32+j] low nibble,  h[j] bits 2..3    [96+j] = l[32+j] high nibble, bits 6..7
 */

struct codes {
    float s[LR_KERN_BLOCK / 16];
    float m[LR_KERN_BLOCK / 32];
    int8_t q[LR_KERN_BLOCK];
};

/* Vectors of the compiler: it knows what the variant has. Only ever locals. */
typedef uint8_t bytes32 __attribute__((vector_size(32)));
typedef uint32_t words8 __attribute__((vector_size(32)));
typedef uint64_t longs4 __attribute__((vector_size(32)));

/* 16 bytes of nibbles to 32 codes, less `less`: both halves of the register hold the bytes, the
 * upper one shifted down. With h: bit j of its 32 is bit 4 of code j: the bytes of h are spread so
 * that each code gets the byte with its bit, which is then masked out. All in registers: reading
 * back what was just stored in smaller pieces stalls (it cost Q5_0 a factor of 5). */
static inline __attribute__((always_inline)) void nibbles(int8_t *q, const uint8_t *p,
                                                          const uint8_t *h, uint8_t less)
{
    uint64_t a, b;
    memcpy(&a, p, 8);
    memcpy(&b, p + 8, 8);
    bytes32 codes = (bytes32)((longs4){a, b, a, b} >> (longs4){0, 0, 4, 4}) & 15;
    if (h) {
        uint32_t w;
        memcpy(&w, h, 4);
        const bytes32 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                             1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
        bytes32 all = (bytes32)(words8){w, w, w, w, w, w, w, w};
        all = __builtin_shufflevector(all, all, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 18,
                                      18, 18, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 19);
        codes |= (bytes32)((all & bit) != 0) & 16;
    }
    codes -= less;
    memcpy(q, &codes, 32);
}

static inline void unpack_q8_0(struct codes *c, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 32, p += 34) {
        c->s[i / 32] = f16_one(p);
        memcpy(c->q + i, p + 2, 32);
    }
}

/* Q4_0, Q4_1, Q5_0, Q5_1: `high`: with fifth bits, `min`: with an offset. */
static inline __attribute__((always_inline)) void unpack_small(struct codes *c, const uint8_t *p,
                                                               size_t n, bool high, bool min)
{
    size_t head = min ? 4 : 2;
    const uint8_t less = (uint8_t)(min ? 0 : high ? 16 : 8);
    for (size_t i = 0; i < n; i += 32, p += head + (high ? 20 : 16)) {
        c->s[i / 32] = f16_one(p);
        if (min)
            c->m[i / 32] = -f16_one(p + 2);
        nibbles(c->q + i, p + head + (high ? 4 : 0), high ? p + head : NULL, less);
    }
}

/* The eight scales and offsets of Q4_K and Q5_K, four bytes at a time in a word. */
static inline void unpack_scales(struct codes *c, size_t i, const uint8_t *p)
{
    uint32_t w[3], st[4];
    memcpy(w, p + 4, 12);
    st[0] = w[0] & 0x3f3f3f3f;
    st[1] = (w[2] & 0x0f0f0f0f) | (w[0] >> 2 & 0x30303030);
    st[2] = w[1] & 0x3f3f3f3f;
    st[3] = (w[2] >> 4 & 0x0f0f0f0f) | (w[1] >> 2 & 0x30303030);
    float d = f16_one(p), e = f16_one(p + 2);
    uint8_t b[16];
    memcpy(b, st, 16);
    for (size_t g = 0; g < 8; g++) {
        c->s[i / 32 + g] = d * (float)b[g];
        c->m[i / 32 + g] = e * (float)b[8 + g];
    }
}

static inline __attribute__((always_inline)) void unpack_k(struct codes *c, const uint8_t *p,
                                                           size_t n, bool high)
{
    for (size_t i = 0; i < n; i += 256, p += high ? 176 : 144) {
        unpack_scales(c, i, p);
        bytes32 h = {0};
        if (high)
            memcpy(&h, p + 16, 32);
        for (size_t j = 0; j < 4; j++) {
            bytes32 v, lo, hi;
            memcpy(&v, p + (high ? 48 : 16) + 32 * j, 32);
            lo = v & 15;
            hi = v >> 4;
            if (high) {
                lo |= (h & 1) << 4;
                hi |= (h & 2) << 3;
                h >>= 2;
            }
            memcpy(c->q + i + 64 * j, &lo, 32);
            memcpy(c->q + i + 64 * j + 32, &hi, 32);
        }
    }
}

static inline void unpack_q6_k(struct codes *c, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 256, p += 210) {
        float d = f16_one(p + 208);
        for (size_t g = 0; g < 16; g++)
            c->s[i / 16 + g] = d * (float)(int8_t)p[192 + g];
        for (size_t half = 0; half < 2; half++) {
            bytes32 a, b, h, q0, q1, q2, q3;
            int8_t *q = c->q + i + 128 * half;
            memcpy(&a, p + 64 * half, 32);
            memcpy(&b, p + 64 * half + 32, 32);
            memcpy(&h, p + 128 + 32 * half, 32);
            q0 = ((a & 15) | (h & 3) << 4) - 32;
            q1 = ((b & 15) | (h & 12) << 2) - 32;
            q2 = (a >> 4 | (h & 48)) - 32;
            q3 = (b >> 4 | (h & 192) >> 2) - 32;
            memcpy(q, &q0, 32);
            memcpy(q + 32, &q1, 32);
            memcpy(q + 64, &q2, 32);
            memcpy(q + 96, &q3, 32);
        }
    }
}

static inline void unpack_i4r(struct codes *c, const uint8_t *row, size_t at, size_t n)
{
    float s = f16_one(row), m = -f16_one(row + 2);
    for (size_t i = 0; i < n; i += 32) {
        c->s[i / 32] = s;
        c->m[i / 32] = m;
        nibbles(c->q + i, row + 4 + (at + i) / 2, NULL, 0);
    }
}

/* Types whose codes have an offset m; for the others m is not even written. */
static inline bool has_offset(enum lr_kern_type type)
{
    return type == LR_KERN_Q4_1 || type == LR_KERN_Q5_1 || type == LR_KERN_Q4_K ||
           type == LR_KERN_Q5_K || type == LR_KERN_I4R;
}

/* Elements at .. at + n of a row, n <= LR_KERN_BLOCK; both multiples of the type's block. */
static void unpack(enum lr_kern_type type, struct codes *c, const void *row, size_t at, size_t n)
{
    const uint8_t *p = (const uint8_t *)row;
    switch (type) {
    case LR_KERN_Q8_0:
        unpack_q8_0(c, p + at / 32 * 34, n);
        break;
    case LR_KERN_Q4_0:
        unpack_small(c, p + at / 32 * 18, n, false, false);
        break;
    case LR_KERN_Q4_1:
        unpack_small(c, p + at / 32 * 20, n, false, true);
        break;
    case LR_KERN_Q5_0:
        unpack_small(c, p + at / 32 * 22, n, true, false);
        break;
    case LR_KERN_Q5_1:
        unpack_small(c, p + at / 32 * 24, n, true, true);
        break;
    case LR_KERN_Q4_K:
        unpack_k(c, p + at / 256 * 144, n, false);
        break;
    case LR_KERN_Q5_K:
        unpack_k(c, p + at / 256 * 176, n, true);
        break;
    case LR_KERN_Q6_K:
        unpack_q6_k(c, p + at / 256 * 210, n);
        break;
    default:
        assert(type == LR_KERN_I4R);
        unpack_i4r(c, p, at, n);
    }
}
