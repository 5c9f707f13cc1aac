/* SPDX-License-Identifier: Apache-2.0
 * kern/kern.h - the numeric kernels everybody shares, chosen by CPU at run time.
 *
 *   const struct lr_kern *k = lr_kern();          once per caller; a plain pointer to constants
 *   k->mul(&rows, n, x, n, n_tok, out, ld, scratch);
 *
 * Pure functions over memory of the caller: no clock, no thread, no file, no heap. Every kernel may
 * run on any number of threads at once, as long as their outputs and scratches do not overlap.
 *
 * Shapes.    A row is a run of consecutive elements. Matrices are rows at a fixed stride (of
 *            weights in bytes, of floats in elements); strides never fall short of a row.
 * Alignment. None is asked of any operand, the stated scratches excepted; 64 bytes is fastest.
 * Bounds.    A kernel reads and writes exactly the elements its arguments name, no lane beyond.
 *            Counts may be 0 and then nothing is written (dot gives 0); only the
 *            length k of the rows of mul, mulq and mix is at least 1.
 * Aliasing.  Outputs overlap no input, except where "in place" is said.
 * Rounding.  Round to nearest even everywhere; the caller leaves the FP environment at its default.
 * Specials.  NaN and infinity travel as IEEE 754 says unless a kernel states otherwise.
 *
 * The order of sums. A sum over n elements is this and nothing else, in every kernel here (but
 * mulq, whose sums of integers are exact and whose own order is said there):
 *   - elements are cut into blocks of LR_KERN_BLOCK (the last may be short);
 *   - within a block, sixteen lanes: lane j takes elements j, j + 16, j + 32, ... in that order,
 *     each step one fused multiply-add onto the lane (missing elements add 0 * 0);
 *   - the lanes are added as a tree: i and i + 8, then i and i + 4, then i and i + 2, then the two;
 *   - the sums of the blocks are added in order.
 * So the result for one (row, token) depends on that row and that token only: not on the number of
 * rows or tokens in the call, on their place in it, on alignment or on the thread. One token alone
 * and the same token within a tile of 256 are equal bit for bit; chunked prefill equals whole.
 * Moreover all variants with a fused multiply-add (avx2, avx512, avx512vnni, neon, neondot) agree
 * with each other bit for bit. Only "portable" rounds products before it adds.
 */
#ifndef LR_KERN_KERN_H
#define LR_KERN_KERN_H

#include "base/base.h"

#define LR_KERN_BLOCK   1024 /* elements per block of a sum: part of the contract above */
#define LR_KERN_ALIGN   64   /* of scratches, bytes */
#define LR_KERN_SCRATCH ((size_t)32 * LR_KERN_BLOCK * sizeof(float)) /* bytes; for mul, mix, mulq */

/* ---- Types of rows ----
 * Layouts are those of GGUF files (drawn in kern/unpack.h), so that rows are used as mapped.
 * Elements per block, bytes per block, value of an element: */
#define LR_KERN_TYPES(X)                                                                           \
    X(F32, "F32", 1, 4)       /* the float                                                      */ \
    X(F16, "F16", 1, 2)       /* IEEE binary16                                                  */ \
    X(BF16, "BF16", 1, 2)     /* upper half of a float                                          */ \
    X(Q8_0, "Q8_0", 32, 34)   /* d * q          q in -128..127, d binary16                      */ \
    X(Q4_0, "Q4_0", 32, 18)   /* d * (q - 8)    q in 0..15                                      */ \
    X(Q4_1, "Q4_1", 32, 20)   /* d * q + m      q in 0..15, m binary16                          */ \
    X(Q5_0, "Q5_0", 32, 22)   /* d * (q - 16)   q in 0..31                                      */ \
    X(Q5_1, "Q5_1", 32, 24)   /* d * q + m      q in 0..31                                      */ \
    X(Q4_K, "Q4_K", 256, 144) /* (d * s) * q - (e * t)  q in 0..15; s, t in 0..63 per 32        */ \
    X(Q5_K, "Q5_K", 256, 176) /* (d * s) * q - (e * t)  q in 0..31                              */ \
    X(Q6_K, "Q6_K", 256, 210) /* (d * s) * (q - 32)     q in 0..63; s in -128..127 per 16       */ \
    X(I4R, "I4R", 32, 16)     /* s * q + z      q in 0..15; one s and z (binary16) per row      */

enum lr_kern_type {
#define X(id, name, per, bytes) LR_KERN_##id,
    LR_KERN_TYPES(X)
#undef X
        LR_KERN_N_TYPES
};

/* "Q4_K". Static text; "?" for numbers that are no type. */
const char *lr_kern_type_name(enum lr_kern_type type);
/* The type of that name, or -1. */
int lr_kern_type_find(struct lr_str name);
/* Elements per block: a row's length is a multiple of it. 1, 32 or 256. */
size_t lr_kern_type_block(enum lr_kern_type type);
/* Bytes of a row of n elements; 0 when n is no multiple of the block, when the size overflows, and
 * for I4R beyond LR_KERN_BLOCK elements. (I4R is for KV rows: 4 bytes in front, 4 + 32/n bits.) */
size_t lr_kern_row_bytes(enum lr_kern_type type, size_t n);

/* Encodes a row of n floats; dst has lr_kern_row_bytes(type, n) bytes. Deterministic and the same
 * on every variant. Plain rounding to the grid of each block, without a search for better scales:
 * meant for KV rows (Q8_0, I4R), tests and random models, not for making the best file of a trained
 * one. Error of an element, at most, for inputs within binary16's range (r: largest magnitude in
 * the block, w: largest minus smallest, 0 included for the K types and not for Q4_1, Q5_1 and I4R):
 *   Q8_0 r/253   Q4_0 r/7.9   Q5_0 r/15.9   Q4_1, I4R w/29   Q5_1 w/61   Q4_K w/16   Q5_K w/20
 *   Q6_K r/40
 * NaN and infinity are no input for the quantised types (the row then decodes to something finite
 * or NaN, nothing else happens). */
void lr_kern_encode(enum lr_kern_type type, void *dst, const float *src, size_t n);

/* ---- Operands ---- */

/* n rows of k elements each (k is an argument of the kernel): weights, or the keys or values of one
 * page. Owned by the caller. */
struct lr_kern_rows {
    enum lr_kern_type type;
    const void *p;
    size_t stride; /* bytes from row to row, >= lr_kern_row_bytes(type, k) */
    size_t n;
};

/* Running softmax of one query over rows that come in pieces. Start with LR_KERN_SOFTMAX_INIT. */
struct lr_kern_softmax {
    float max; /* largest score so far; -INFINITY before any */
    float sum; /* sum of exp(score - max) */
};
#define LR_KERN_SOFTMAX_INIT ((struct lr_kern_softmax){-INFINITY, 0})

/* ---- The table ----
 * One constant table per variant. Every pointer is set. */
struct lr_kern {
    const char *name; /* "portable", "avx2", "avx512", "avx512vnni", "neon", "neondot" */
    bool fma; /* follows the order of sums with fused adds: agrees with its kin bit for bit */

    /* Conversions, n elements. To 16 bits: nearest even; beyond the largest finite value infinity;
     * NaN stays NaN; denormals are kept in both directions. The same bits on every variant. */
    void (*f16_to_f32)(float *dst, const uint16_t *src, size_t n);
    void (*f32_to_f16)(uint16_t *dst, const float *src, size_t n);
    void (*bf16_to_f32)(float *dst, const uint16_t *src, size_t n);
    void (*f32_to_bf16)(uint16_t *dst, const float *src, size_t n);
    /* One row of any type to floats. Values as in the list of types: products and sums rounded one
     * by one, in the order written (q and small integers are exact). The same bits on every
     * variant. */
    void (*decode)(enum lr_kern_type type, float *dst, const void *src, size_t n);

    /* Sums. */
    float (*dot)(const float *a, const float *b, size_t n);
    /* Exact; |sum| <= 2^31 - 1 is the caller's to keep: n <= 131071 always does. */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    /* Number of bits that differ in n bytes; n <= 2^28. */
    uint32_t (*hamming)(const void *a, const void *b, size_t n);

    /* out[t * out_stride + r] = sum over i < k of value(w[r][i]) * x[t * x_stride + i], r < w->n, t
     * < n_tok. value() is what decode gives. One token runs at memory speed (with AVX-512: Q8_0 at
     * some 33e9 weights a second and core, types of 4 to 6 bits at 22e9 to 40e9), tiles at that of
     * the multipliers; tiles of 16 to 256 tokens are best (x then stays in the second-level cache).
     * Few tokens ask the cache for some KiB behind the rows too: consecutive calls on consecutive
     * rows are best. scratch: LR_KERN_SCRATCH bytes, aligned to LR_KERN_ALIGN; contents undefined
     * afterwards; one per thread. Threads split w or the tokens as they like. */
    void (*mul)(const struct lr_kern_rows *w, size_t k, const float *x, size_t x_stride,
                size_t n_tok, float *out, size_t out_stride, void *scratch);
    /* The same with tokens in fixed point, products of integers: twice as fast as mul in tiles with
     * VNNI. Only quantised types. x: n_tok records of act_q16. With g running over the groups of a
     * row in order (32 elements; 16 of Q6_K), n the exact sum of the group's products of codes, s
     * and m its scale and what decode adds (-e * t of the K types), d and e the token's of that
     * block of 32:
     *   sum = fma((float)n, s * d, sum), then, where the type has m, sum = fma(m, e, sum)
     * from 0 on. So neighbours do not matter here either. */
    void (*mulq)(const struct lr_kern_rows *w, size_t k, const void *x, size_t n_tok, float *out,
                 size_t out_stride, void *scratch);
    /* n floats (a multiple of 32) to a record of lr_kern_act_bytes(n), aligned to 4 bytes, for the
     * mulq of the same variant. Per 32 elements: d = max|x| / 32639; q = x * (32639 / max|x|) to
     * nearest even; e = d * (float)(sum of q). |d * q - x| <= max|x| * 1.54e-5 in a block; blocks
     * below 3.9e-34 become 0. A block that holds NaN or infinity makes every sum over it NaN. */
    void (*act_q16)(void *dst, const float *src, size_t n);
    /* out[t * out_stride + i] += sum over r of p[t * p_stride + r] * value(v[r][i]), i < k: r by r,
     * in that order, one fused add each, onto what out holds: cutting v into pieces changes no bit.
     * For values under attention weights. scratch as for mul. */
    void (*mix)(const struct lr_kern_rows *v, size_t k, const float *p, size_t p_stride,
                size_t n_tok, float *out, size_t out_stride, void *scratch);

    /* Rows of activations, n elements each. */
    void (*axpy)(float *y, float a, const float *x, size_t n); /* y += a * x, fused */
    void (*scale)(float *x, float a, size_t n);                /* x *= a */
    void (*add)(float *y, const float *x, size_t n);           /* y += x */
    /* out = x * (1 / sqrt(mean of squares + eps)) * weight, left to right. In place allowed. */
    void (*rmsnorm)(float *out, const float *x, const float *weight, size_t n, float eps);
    /* out = gate / (1 + exp(-gate)) * up. In place on either allowed. Within 4 ulp plus 1e-37. */
    void (*silu_mul)(float *out, const float *gate, const float *up, size_t n);
    /* x = exp(x): within 2 ulp; 0 below -87.3 (no denormals); exp(88.0) above 88. NaN stays. */
    void (*exp)(float *x, size_t n);
    /* Scores in, exp(score - new maximum) out, in place; s takes them in. Returns what sums and
     * mixes made before must be scaled with: exp(old max - new max), 1 when the maximum stays (0
     * before the first piece). Scores of -INFINITY weigh 0; a piece of nothing else is allowed. How
     * scores are cut into pieces does change the last bits: who needs equal bits cuts at fixed
     * places. */
    float (*softmax_push)(struct lr_kern_softmax *s, float *score, size_t n);

    /* x = x * H / sqrt(block) on each run of `block` elements, in place, H the Hadamard matrix of
     * Sylvester's construction; block a power of two in 1..256 that divides n. Its own inverse.
     * Adds in log2(block) stages, the nearest neighbours first; the factor last. */
    void (*hadamard)(float *x, size_t n, size_t block);
    /* Rotates pairs of each of n_heads heads of head_dim elements, heads one after another from x,
     * by one token's angles (lr_kern_rope_angles): pairs p < n_rot / 2; the elements from n_rot on
     * stay. Pair p is elements (2p, 2p + 1) when interleaved, (p, p + n_rot / 2) otherwise.
     * a' = a * cos - b * sin, b' = a * sin + b * cos: one product, then one fused add. */
    void (*rope)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, bool interleaved,
                 const float *angles);
};

/* The table in use: the best this CPU runs, chosen on the first call (thread-safe), or the one that
 * lr_kern_use set. */
const struct lr_kern *lr_kern(void);
/* The i-th table this CPU can run, slowest ("portable") first; NULL from their number on. */
const struct lr_kern *lr_kern_variant(size_t i);
/* For tests, benches and --cpu options: from now on lr_kern() gives this one; NULL: the best again.
 * Tables handed out before stay valid. LR_ENOENT when this machine has none of that name. */
int lr_kern_use(const char *name);

/* Logits' normaliser: max + log(sum); -INFINITY when nothing but -INFINITY came in. */
float lr_kern_lse(const struct lr_kern_softmax *s);
/* Bytes of the record act_q16 makes of n elements: two and a half each. */
size_t lr_kern_act_bytes(size_t n);

/* ---- RoPE ---- */

/* Frequencies of the rotation. All-zero fields take the default. */
struct lr_kern_rope {
    size_t n_rot;         /* elements of a head that turn, even, in 2..512 */
    float base;           /* theta; default 10000 */
    float scale;          /* position multiplier, 1 / linear factor; default 1 */
    const float *factors; /* (n_rot / 2) divisors of the frequencies ("rope_freqs"); NULL = 1. Read
                           * during calls only. */
    /* YaRN (Peng et al. 2023), on when yarn_ctx > 0: frequencies that turn more often than
     * beta_fast times within yarn_ctx positions stay as they are, those below beta_slow times are
     * scaled by `scale`, a linear ramp between. */
    float yarn_ctx;             /* context of the training, positions */
    float beta_fast, beta_slow; /* default 32 and 1 */
    float attn; /* factor on cos and sin; default 1, under YaRN 1 + 0.1 log(1/scale) */
};

/* angles[t][p] = (cos, sin) of token t's pair p: n_tok * n_rot floats, pairs of (cos, sin), for
 * positions pos[t] (negative ones turn backwards: the difference of two positions re-rotates a
 * stored key, with attn = 1). Angles are computed in double. LR_EINVAL: n_rot out of bounds. */
int lr_kern_rope_angles(const struct lr_kern_rope *cfg, const int32_t *pos, size_t n_tok,
                        float *angles);

/* ---- Selection ---- */

/* Indices of the k largest of n scores (n < 2^32), ties by the lower index, NaN below -INFINITY, -0
 * equal to 0. Writes min(k, n) indices in ascending order and returns their number. Four passes at
 * most, no memory. */
size_t lr_kern_topk(const float *score, size_t n, size_t k, uint32_t *idx);
/* The same, best first (equal scores: lower index first). */
size_t lr_kern_topk_sorted(const float *score, size_t n, size_t k, uint32_t *idx);

/* Lloyd's k-means from k-means++ seeds. */
struct lr_kern_kmeans {
    const float *x;  /* (n, dim) points, row-major */
    size_t n, dim;   /* n < 2^32 */
    size_t k;        /* clusters wanted, 1 <= k <= n */
    unsigned rounds; /* at most this many of Lloyd's; 0 = 25. Stops early when nothing moves. */
    bool spherical;  /* by inner product, centroids of length 1; else by squared distance */
};
/* centroid: (k, dim). assign: n. Deterministic for points, seed of rng and variant. A point goes to
 * the lower of two equally near clusters; a cluster that runs empty takes the point farthest from
 * its own centroid. LR_EINVAL for bounds, LR_ENOMEM (n doubles and k counts are borrowed). */
int lr_kern_kmeans(const struct lr_kern_kmeans *cfg, struct lr_rng *rng, float *centroid,
                   uint32_t *assign);

#endif
