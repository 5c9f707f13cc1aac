/* SPDX-License-Identifier: Apache-2.0
 * kern/encode.c - floats to the quantised rows of unpack.h.
 *
 * Plain C, the same bits everywhere. Each block gets the grid that just spans it, and each element
 * the nearest point of the grid as it will be decoded, that is with the scale rounded to binary16:
 * that keeps the worst error near half a step. Searching scales for a smaller squared error (as
 * makers of model files do) was left out: KV rows are encoded once per token and cannot wait for
 * it.
 */
#include "kern/kern_int.h"

static float put_half(uint8_t *p, float f)
{
    uint16_t h = lr_kern_to_half(f);
    memcpy(p, &h, 2);
    return lr_kern_half(h);
}

/* x / step to the nearest integer of lo..hi; lo for NaN and for a step of 0. */
static int code(float x, float step, int lo, int hi)
{
    float q = step != 0 ? x / step : 0;
    if (!(q > (float)lo))
        return step != 0 ? lo : (lo > 0 ? lo : 0);
    return q < (float)hi ? (int)lrintf(q) : hi;
}

static float largest(const float *x, size_t n)
{
    float top = 0; /* the element of the largest magnitude, with its sign */
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(top))
            top = x[i];
    return top;
}

static void range(const float *x, size_t n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (size_t i = 1; i < n; i++) {
        *lo = x[i] < *lo ? x[i] : *lo;
        *hi = x[i] > *hi ? x[i] : *hi;
    }
}

static void put_nibbles(uint8_t *p, const int *q)
{
    for (size_t j = 0; j < 16; j++)
        p[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void encode_q8_0(uint8_t *p, const float *x)
{
    float d = put_half(p, fabsf(largest(x, 32)) / 127);
    for (size_t j = 0; j < 32; j++)
        p[2 + j] = (uint8_t)code(x[j], d, -127, 127);
}

/* Q4_0 and Q5_0: the element of the largest magnitude falls on the grid's longer end, -8 or -16. */
static void encode_symmetric(uint8_t *p, const float *x, int half)
{
    int q[32];
    float d = put_half(p, largest(x, 32) / (float)-half);
    uint32_t high = 0;
    for (size_t j = 0; j < 32; j++) {
        q[j] = code(x[j], d, -half, half - 1) + half;
        high |= (uint32_t)(q[j] >> 4 & 1) << j;
    }
    if (half == 16)
        memcpy(p + 2, &high, 4);
    put_nibbles(p + (half == 16 ? 6 : 2), q);
}

/* Q4_1 and Q5_1. */
static void encode_ranged(uint8_t *p, const float *x, int top)
{
    int q[32];
    float lo, hi;
    range(x, 32, &lo, &hi);
    float m = put_half(p + 2, lo), d = put_half(p, (hi - m) / (float)top);
    uint32_t high = 0;
    for (size_t j = 0; j < 32; j++) {
        q[j] = code(x[j] - m, d, 0, top);
        high |= (uint32_t)(q[j] >> 4 & 1) << j;
    }
    if (top == 31)
        memcpy(p + 4, &high, 4);
    put_nibbles(p + (top == 31 ? 8 : 4), q);
}

static void encode_i4r(uint8_t *p, const float *x, size_t n)
{
    float lo, hi;
    range(x, n, &lo, &hi);
    float z = put_half(p + 2, lo), s = put_half(p, (hi - z) / 15);
    for (size_t i = 0; i < n; i += 32) {
        int q[32];
        for (size_t j = 0; j < 32; j++)
            q[j] = code(x[i + j] - z, s, 0, 15);
        put_nibbles(p + 4 + i / 2, q);
    }
}

static void put_scales(uint8_t *p, const int s[8], const int t[8])
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(s[i] | (s[4 + i] >> 4) << 6);
        p[4 + i] = (uint8_t)(t[i] | (t[4 + i] >> 4) << 6);
        p[8 + i] = (uint8_t)((s[4 + i] & 15) | (t[4 + i] & 15) << 4);
    }
}

/* Q4_K (top 15) and Q5_K (top 31): (d * s) * q - (e * t). Offsets reach down only: t >= 0. */
static void encode_k(uint8_t *p, const float *x, int top)
{
    float step[8], down[8];
    int s[8], t[8], q[256];
    for (int g = 0; g < 8; g++) {
        float lo, hi;
        range(x + 32 * g, 32, &lo, &hi);
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
        step[g] = (hi - lo) / (float)top;
        down[g] = -lo;
    }
    float d = put_half(p, largest(step, 8) / 63), e = put_half(p + 2, largest(down, 8) / 63);
    for (int g = 0; g < 8; g++) {
        s[g] = code(step[g], d, 0, 63);
        t[g] = code(down[g], e, 0, 63);
        for (int j = 32 * g; j < 32 * g + 32; j++)
            q[j] = code(x[j] + e * (float)t[g], d * (float)s[g], 0, top);
    }
    put_scales(p + 4, s, t);
    uint8_t *high = p + 16, *low = p + (top == 31 ? 48 : 16);
    if (top == 31)
        memset(high, 0, 32);
    for (int j = 0; j < 256; j++) {
        uint8_t *byte = low + j / 64 * 32 + j % 32;
        *byte = (uint8_t)(j % 64 < 32 ? q[j] & 15 : *byte | (q[j] & 15) << 4);
        if (top == 31)
            high[j % 32] = (uint8_t)(high[j % 32] | (q[j] >> 4) << j / 32);
    }
}

static void encode_q6_k(uint8_t *p, const float *x)
{
    float step[16];
    for (int g = 0; g < 16; g++)
        step[g] = largest(x + 16 * g, 16) / -32;
    float d = put_half(p + 208, largest(step, 16) / -128);
    memset(p, 0, 192);
    for (int g = 0; g < 16; g++) {
        int s = code(step[g], d, -128, 127);
        p[192 + g] = (uint8_t)s;
        for (int j = 16 * g; j < 16 * g + 16; j++) {
            int q = code(x[j], d * (float)s, -32, 31) + 32;
            int half = j / 128, quarter = j % 128 / 32, l = j % 32;
            uint8_t *low = p + 64 * half + quarter % 2 * 32 + l, *high = p + 128 + 32 * half + l;
            *low = (uint8_t)(*low | (q & 15) << (quarter / 2 * 4));
            *high = (uint8_t)(*high | (q >> 4) << (2 * quarter));
        }
    }
}

static void encode_block(enum lr_kern_type type, uint8_t *p, const float *x)
{
    switch (type) {
    case LR_KERN_Q8_0:
        encode_q8_0(p, x);
        break;
    case LR_KERN_Q4_0:
        encode_symmetric(p, x, 8);
        break;
    case LR_KERN_Q5_0:
        encode_symmetric(p, x, 16);
        break;
    case LR_KERN_Q4_1:
        encode_ranged(p, x, 15);
        break;
    case LR_KERN_Q5_1:
        encode_ranged(p, x, 31);
        break;
    case LR_KERN_Q4_K:
        encode_k(p, x, 15);
        break;
    case LR_KERN_Q5_K:
        encode_k(p, x, 31);
        break;
    default:
        assert(type == LR_KERN_Q6_K);
        encode_q6_k(p, x);
    }
}

void lr_kern_encode(enum lr_kern_type type, void *dst, const float *src, size_t n)
{
    size_t bytes = lr_kern_row_bytes(type, n), per = lr_kern_type_block(type);
    uint8_t *p = dst;
    assert(bytes || !n);
    if (!n)
        return;
    if (type == LR_KERN_F32)
        memcpy(dst, src, bytes);
    else if (type == LR_KERN_F16)
        lr_kern_portable.f32_to_f16(dst, src, n);
    else if (type == LR_KERN_BF16)
        lr_kern_portable.f32_to_bf16(dst, src, n);
    else if (type == LR_KERN_I4R)
        encode_i4r(p, src, n);
    else
        for (size_t i = 0; i < n; i += per, p += bytes / (n / per))
            encode_block(type, p, src + i);
}
