/* SPDX-License-Identifier: Apache-2.0
 * kern/body.h - every kernel, written once over sixteen lanes; each variant compiles it anew.
 *
 * The including file says VARIANT (the table's name), VARIANT_NAME, HAS_FMA, and has included its
 * lanes_*.h. Everything here is static: one file, one variant, nothing leaks across.
 *
 * Sixteen lanes everywhere, whatever the registers hold, and the order of sums of kern.h: this is
 * what makes AVX2, AVX-512 and NEON agree bit for bit, so that KV computed on one machine equals KV
 * computed on another, and a test can demand equality where it would otherwise need tolerances.
 */

#include "kern/unpack.h"

#if HAS_FMA
#define FMA1(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA1(a, b, c) ((a) * (b) + (c))
#endif

/* ---- conversions ---- */

static void f16_to_f32(float *dst, const uint16_t *src, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        v_store(dst + i, v_f16(src + i));
    if (i < n) {
        uint16_t t[16] = {0};
        memcpy(t, src + i, (n - i) * sizeof *t);
        v_store_n(dst + i, v_f16(t), n - i);
    }
}

static void f32_to_f16(uint16_t *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        v_to_f16(dst + i, v_load(src + i));
    if (i < n) {
        uint16_t t[16];
        v_to_f16(t, v_load_n(src + i, n - i));
        memcpy(dst + i, t, (n - i) * sizeof *t);
    }
}

static void bf16_to_f32(float *dst, const uint16_t *src, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        v_store(dst + i, v_bf16(src + i));
    if (i < n) {
        uint16_t t[16] = {0};
        memcpy(t, src + i, (n - i) * sizeof *t);
        v_store_n(dst + i, v_bf16(t), n - i);
    }
}

static void f32_to_bf16(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = lr_kern_to_bf16(src[i]);
}

/* ---- sums ---- */

static float dot(const float *a, const float *b, size_t n)
{
    float total = 0;
    for (size_t at = 0; at < n; at += LR_KERN_BLOCK) {
        size_t end = n - at < LR_KERN_BLOCK ? n : at + LR_KERN_BLOCK, i = at;
        v16 sum = v_zero();
        for (; i + 16 <= end; i += 16)
            sum = v_fma(v_load(a + i), v_load(b + i), sum);
        if (i < end)
            sum = v_fma(v_load_n(a + i, end - i), v_load_n(b + i, end - i), sum);
        total = at ? total + v_sum(sum) : v_sum(sum);
    }
    return total;
}

static int32_t dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    size_t n64 = n / 64;
    int32_t sum = dot_i8_64(a, b, n64);
    for (size_t i = 64 * n64; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static uint32_t hamming(const void *a, const void *b, size_t n)
{
    const uint8_t *p = a, *q = b;
    uint32_t bits = 0;
    for (; n >= 8; n -= 8, p += 8, q += 8) {
        uint64_t x, y;
        memcpy(&x, p, 8);
        memcpy(&y, q, 8);
        bits += (uint32_t)__builtin_popcountll(x ^ y);
    }
    for (size_t i = 0; i < n; i++)
        bits += (uint32_t)__builtin_popcount(p[i] ^ q[i]);
    return bits;
}

#include "kern/body_mul.h"
#include "kern/body_q16.h"

/* ---- rows of activations ---- */

/* Runs `expr` over i = 0, 16, ..; LOAD and STORE know whether the last piece is short. */
#define EACH16(n, whole, part)                                                                     \
    do {                                                                                           \
        size_t i = 0, left;                                                                        \
        for (; i + 16 <= (n); i += 16) {                                                           \
            whole;                                                                                 \
        }                                                                                          \
        left = (n)-i;                                                                              \
        if (left) {                                                                                \
            part;                                                                                  \
        }                                                                                          \
    } while (0)

static void axpy(float *y, float a, const float *x, size_t n)
{
    v16 f = v_set(a);
    EACH16(n, v_store(y + i, v_fma(f, v_load(x + i), v_load(y + i))),
           v_store_n(y + i, v_fma(f, v_load_n(x + i, left), v_load_n(y + i, left)), left));
}

static void scale(float *x, float a, size_t n)
{
    v16 f = v_set(a);
    EACH16(n, v_store(x + i, v_mul(f, v_load(x + i))),
           v_store_n(x + i, v_mul(f, v_load_n(x + i, left)), left));
}

static void add(float *y, const float *x, size_t n)
{
    EACH16(n, v_store(y + i, v_add(v_load(y + i), v_load(x + i))),
           v_store_n(y + i, v_add(v_load_n(y + i, left), v_load_n(x + i, left)), left));
}

static void rmsnorm(float *out, const float *x, const float *weight, size_t n, float eps)
{
    if (!n)
        return;
    v16 f = v_set(1.0f / sqrtf(dot(x, x, n) / (float)n + eps));
    EACH16(n, v_store(out + i, v_mul(v_mul(v_load(x + i), f), v_load(weight + i))),
           v_store_n(out + i, v_mul(v_mul(v_load_n(x + i, left), f), v_load_n(weight + i, left)),
                     left));
}

/* exp by 2^n * e^r, |r| <= log(2) / 2: e^r by its series to r^7 / 7!, whose rest is 5e-9 there. n
 * comes from adding 1.5 * 2^23, which rounds and leaves n in the low bits; log(2) in two parts, of
 * which the first has few enough bits that n times it is exact even without a fused add. */
static inline v16 exp16(v16 x)
{
    v16 y = v_min(v_set(88.0f), v_max(v_set(-87.3f), x)); /* in this order NaN stays */
    v16 t = v_fma(y, v_set(0x1.715476p0f), v_set(0x1.8p23f));
    v16 n = v_sub(t, v_set(0x1.8p23f));
    v16 r = v_fma(n, v_set(-0x1.62ep-1f), y);
    r = v_fma(n, v_set(-0x1.0bfbe8p-15f), r);
    v16 p = v_set(1.0f / 5040);
    p = v_fma(p, r, v_set(1.0f / 720));
    p = v_fma(p, r, v_set(1.0f / 120));
    p = v_fma(p, r, v_set(1.0f / 24));
    p = v_fma(p, r, v_set(1.0f / 6));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, v_mul(r, r), r);
    p = v_add(p, v_set(1.0f));
    return v_keep_from(v_set(-87.3f), x, v_mul(p, v_exp2i(t)));
}

static void exp_row(float *x, size_t n)
{
    EACH16(n, v_store(x + i, exp16(v_load(x + i))),
           v_store_n(x + i, exp16(v_load_n(x + i, left)), left));
}

static inline v16 silu16(v16 gate, v16 up)
{
    v16 e = exp16(v_sub(v_zero(), gate));
    return v_mul(v_div(gate, v_add(v_set(1), e)), up);
}

static void silu_mul(float *out, const float *gate, const float *up, size_t n)
{
    EACH16(n, v_store(out + i, silu16(v_load(gate + i), v_load(up + i))),
           v_store_n(out + i, silu16(v_load_n(gate + i, left), v_load_n(up + i, left)), left));
}

static float row_max(const float *x, size_t n)
{
    v16 top = v_set(-INFINITY);
    float last = -INFINITY;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        top = v_max(v_load(x + i), top);
    for (; i < n; i++)
        last = x[i] > last ? x[i] : last;
    float m = v_hmax(top);
    return m > last ? m : last;
}

static float softmax_push(struct lr_kern_softmax *s, float *score, size_t n)
{
    float top = row_max(score, n), old = s->max;
    if (top < old)
        top = old;
    float keep = old == top ? 1.0f : old > -INFINITY ? expf(old - top) : 0.0f;
    if (!(top > -INFINITY)) { /* nothing that weighs anything yet */
        memset(score, 0, n * sizeof *score);
        return keep;
    }
    v16 m = v_set(top), sum = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 e = exp16(v_sub(v_load(score + i), m));
        v_store(score + i, e);
        sum = v_add(sum, e);
    }
    if (i < n) {
        v_store_n(score + i, exp16(v_sub(v_load_n(score + i, n - i), m)), n - i);
        sum = v_add(sum, v_load_n(score + i, n - i));
    }
    *s = (struct lr_kern_softmax){top, s->sum * keep + v_sum(sum)};
    return keep;
}

/* ---- rotations ---- */

static void butterflies(float *x, size_t block, size_t h)
{
    for (size_t i = 0; i < block; i += 2 * h)
        for (size_t j = i; j < i + h; j++) {
            float a = x[j], b = x[j + h];
            x[j] = a + b;
            x[j + h] = a - b;
        }
}

static void hadamard(float *x, size_t n, size_t block)
{
    assert(block && block <= 256 && (block & (block - 1)) == 0 && n % block == 0);
    float f = 1.0f / sqrtf((float)block);
    for (size_t at = 0; at < n; at += block) {
        size_t h = 1;
        for (; h < block && h < 16; h *= 2)
            butterflies(x + at, block, h);
        for (; h < block; h *= 2)
            for (size_t i = at; i < at + block; i += 2 * h)
                for (size_t j = i; j < i + h; j += 16) {
                    v16 a = v_load(x + j), b = v_load(x + j + h);
                    v_store(x + j, v_add(a, b));
                    v_store(x + j + h, v_sub(a, b));
                }
        scale(x + at, f, block);
    }
}

INLINE void turn(float *a, float *b, const float *angle)
{
    float x = *a, y = *b, c = angle[0], s = angle[1];
    *a = FMA1(x, c, -(y * s));
    *b = FMA1(x, s, y * c);
}

static void rope(float *x, size_t n_heads, size_t head_dim, size_t n_rot, bool interleaved,
                 const float *angles)
{
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        if (interleaved)
            for (size_t p = 0; p < half; p++)
                turn(x + 2 * p, x + 2 * p + 1, angles + 2 * p);
        else
            for (size_t p = 0; p < half; p++)
                turn(x + p, x + p + half, angles + 2 * p);
    }
}

const struct lr_kern VARIANT = {
    .name = VARIANT_NAME,
    .fma = HAS_FMA,
    .f16_to_f32 = f16_to_f32,
    .f32_to_f16 = f32_to_f16,
    .bf16_to_f32 = bf16_to_f32,
    .f32_to_bf16 = f32_to_bf16,
    .decode = decode,
    .dot = dot,
    .dot_i8 = dot_i8,
    .hamming = hamming,
    .mul = mul,
    .mulq = mulq,
    .act_q16 = act_q16,
    .mix = mix,
    .axpy = axpy,
    .scale = scale,
    .add = add,
    .rmsnorm = rmsnorm,
    .silu_mul = silu_mul,
    .exp = exp_row,
    .softmax_push = softmax_push,
    .hadamard = hadamard,
    .rope = rope,
};
