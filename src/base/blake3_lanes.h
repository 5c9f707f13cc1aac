/* SPDX-License-Identifier: Apache-2.0
 * base/blake3_lanes.h - BLAKE3 over LANES inputs side by side; included once per vector width.
 *
 * The includer defines LANES (4, 8 or 16), LANES_FN (the name of the function to make) and
 * LANES_TARGET (an attribute that lets the compiler use the instructions, or nothing). Vectors are
 * the compilers' own (gcc 12 and clang 14 both have vector_size and __builtin_shufflevector), so
 * the one source is SSE4.1, AVX2, AVX-512, NEON; rotates become vprord where there is one and byte
 * shuffles elsewhere.
 *
 * Word w of the state of all inputs is one vector, so a round is the scalar round on vectors and
 * needs no shuffles. The price is turning the message round: 16 words of LANES inputs come in as
 * rows (an input's words) and are wanted as columns (a word of every input):
 *
 *     a0 a1 a2 a3        a0 b0 c0 d0
 *     b0 b1 b2 b3   ->   a1 b1 c1 d1      by log2(LANES) stages: exchange halves of size
 *     c0 c1 c2 c3        a2 b2 c2 d2      LANES/2 between rows that far apart, then
 *     d0 d1 d2 d3        a3 b3 c3 d3      quarters, ... then single words.
 */
#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define NAME(x) PASTE(PASTE(x, _), LANES)
#define INLINE static inline __attribute__((always_inline)) LANES_TARGET
#define VEC NAME(b3_vec)

typedef uint32_t VEC __attribute__((vector_size(LANES * 4)));
typedef uint32_t NAME(b3_loose) __attribute__((vector_size(LANES * 4), aligned(1), may_alias));

#if LANES == 4
#define EACH_STAGE(X) X(2) X(1)
#define LOW2 0, 1, 4, 5
#define HIGH2 2, 3, 6, 7
#define LOW1 0, 4, 2, 6
#define HIGH1 1, 5, 3, 7
#elif LANES == 8
#define EACH_STAGE(X) X(4) X(2) X(1)
#define LOW4 0, 1, 2, 3, 8, 9, 10, 11
#define HIGH4 4, 5, 6, 7, 12, 13, 14, 15
#define LOW2 0, 1, 8, 9, 4, 5, 12, 13
#define HIGH2 2, 3, 10, 11, 6, 7, 14, 15
#define LOW1 0, 8, 2, 10, 4, 12, 6, 14
#define HIGH1 1, 9, 3, 11, 5, 13, 7, 15
#else
#define EACH_STAGE(X) X(8) X(4) X(2) X(1)
#define LOW8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define LOW4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define HIGH4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LOW2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define HIGH2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LOW1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define HIGH1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#endif

/* One stage: rows `dist` apart exchange; LOW and HIGH list the words that each keeps and takes. */
#define STAGE(dist)                                                                                \
    for (int i = 0; i < LANES; i++) {                                                              \
        if (i & (dist))                                                                            \
            continue;                                                                              \
        VEC a = m[i], b = m[i + (dist)];                                                           \
        m[i] = SHUFFLE(a, b, LOW##dist);                                                           \
        m[i + (dist)] = SHUFFLE(a, b, HIGH##dist);                                                 \
    }
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

INLINE void NAME(turn)(VEC m[LANES])
{
    EACH_STAGE(STAGE)
}

/* Block words of all inputs: LANES columns at a time. */
INLINE void NAME(load)(const uint8_t *const p[LANES], size_t at, VEC m[16])
{
    for (int w = 0; w < 16; w += LANES) {
        for (int i = 0; i < LANES; i++)
            m[w + i] = (VEC) * (const NAME(b3_loose) *)(const void *)(p[i] + at + (size_t)w * 4);
        NAME(turn)(m + w);
    }
}

#define ROR(x, k) ((x) >> (k) | (x) << (32 - (k)))
#if LANES == 16 /* has a rotate instruction */
#define ROR16(x) ROR(x, 16)
#define ROR8(x) ROR(x, 8)
#else /* whole bytes: one byte shuffle instead of two shifts and an or */
typedef uint8_t NAME(b3_bytes) __attribute__((vector_size(LANES * 4)));
#define BYTES(x, ...) (VEC) SHUFFLE((NAME(b3_bytes))(x), (NAME(b3_bytes))(x), __VA_ARGS__)
#define TURN16(i) (i) + 2, (i) + 3, (i), (i) + 1
#define TURN8(i) (i) + 1, (i) + 2, (i) + 3, (i)
#define FOUR(t, i) t(i), t((i) + 4), t((i) + 8), t((i) + 12)
#if LANES == 4
#define ROR16(x) BYTES(x, FOUR(TURN16, 0))
#define ROR8(x) BYTES(x, FOUR(TURN8, 0))
#else
#define ROR16(x) BYTES(x, FOUR(TURN16, 0), FOUR(TURN16, 16))
#define ROR8(x) BYTES(x, FOUR(TURN8, 0), FOUR(TURN8, 16))
#endif
#endif

#define MIX(a, b, c, d, x, y)                                                                      \
    do {                                                                                           \
        v[a] = v[a] + v[b] + m[s[x]];                                                              \
        v[d] = v[d] ^ v[a];                                                                        \
        v[d] = ROR16(v[d]);                                                                        \
        v[c] = v[c] + v[d];                                                                        \
        v[b] = v[b] ^ v[c];                                                                        \
        v[b] = ROR(v[b], 12);                                                                      \
        v[a] = v[a] + v[b] + m[s[y]];                                                              \
        v[d] = v[d] ^ v[a];                                                                        \
        v[d] = ROR8(v[d]);                                                                         \
        v[c] = v[c] + v[d];                                                                        \
        v[b] = v[b] ^ v[c];                                                                        \
        v[b] = ROR(v[b], 7);                                                                       \
    } while (0)

INLINE void NAME(round)(VEC v[16], const VEC m[16], const uint8_t s[16])
{
    MIX(0, 4, 8, 12, 0, 1);
    MIX(1, 5, 9, 13, 2, 3);
    MIX(2, 6, 10, 14, 4, 5);
    MIX(3, 7, 11, 15, 6, 7);
    MIX(0, 5, 10, 15, 8, 9);
    MIX(1, 6, 11, 12, 10, 11);
    MIX(2, 7, 8, 13, 12, 13);
    MIX(3, 4, 9, 14, 14, 15);
}

/* Spelled out, not a loop: the schedule must be known at compile time for the words to stay in
 * place. */
INLINE void NAME(rounds)(VEC v[16], const VEC m[16])
{
    NAME(round)(v, m, lr_b3_schedule[0]);
    NAME(round)(v, m, lr_b3_schedule[1]);
    NAME(round)(v, m, lr_b3_schedule[2]);
    NAME(round)(v, m, lr_b3_schedule[3]);
    NAME(round)(v, m, lr_b3_schedule[4]);
    NAME(round)(v, m, lr_b3_schedule[5]);
    NAME(round)(v, m, lr_b3_schedule[6]);
}

/* Missing lanes repeat the last input. */
LANES_TARGET void LANES_FN(const struct lr_b3_row *r, size_t first, size_t n,
                                  uint32_t (*out)[8])
{
    const uint8_t *p[LANES];
    VEC h[8], count_lo = {0}, count_hi = {0};
    for (size_t i = 0; i < LANES; i++) {
        size_t k = first + (i < n ? i : n - 1);
        uint64_t counter = r->counter + k * r->counter_up;
        p[i] = r->p + k * r->blocks * 64;
        count_lo[i] = (uint32_t)counter;
        count_hi[i] = (uint32_t)(counter >> 32);
    }
    for (int w = 0; w < 8; w++)
        h[w] = (VEC){0} + r->key[w];
    for (size_t b = 0; b < r->blocks; b++) {
        uint32_t flags = r->flags | (b == 0 ? r->first : 0) | (b + 1 == r->blocks ? r->last : 0);
        VEC v[16], m[16];
        NAME(load)(p, b * 64, m);
        for (int w = 0; w < 8; w++)
            v[w] = h[w];
        for (int w = 0; w < 4; w++)
            v[8 + w] = (VEC){0} + lr_b3_iv[w];
        v[12] = count_lo;
        v[13] = count_hi;
        v[14] = (VEC){0} + 64;
        v[15] = (VEC){0} + flags;
        NAME(rounds)(v, m);
        for (int w = 0; w < 8; w++)
            h[w] = v[w] ^ v[w + 8];
    }
    for (size_t i = 0; i < n; i++)
        for (int w = 0; w < 8; w++)
            out[i][w] = h[w][i];
}
