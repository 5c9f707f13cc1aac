/* SPDX-License-Identifier: Apache-2.0
 * store/codec.c - what a part of an object may be wrapped in: raw, lz4, zstd, q8.
 *
 *   frame | codec u8 | version u8 | dtype u8 | 0 | 0 u32 | bytes when decoded u64 | body |
 *                                                               docs/formats/codec.md
 *
 * A frame decodes by itself: the codec of the object's header only says what to expect. Every
 * decoder writes exactly the number of bytes the frame promises, and the caller has agreed to that
 * number before anything is decoded, so a hostile frame can neither overrun nor demand memory.
 *
 * Cost in bits an element, metadata included, n elements a part:
 *   raw    8 * size + 128 / n
 *   lz4, zstd    what the data gives: K and V in half precision give little (a few percent for
 *                lz4, 10 to 25 for zstd on real caches); meant for opaque values and int8 rows
 *   q8     8.5 + 128 / n: a signed byte an element and one f32 scale for 64 of them
 *
 * q8. scale = absmax / 127 of the group, q = round to nearest even(x / scale): the error is at most
 * scale / 2 plus the rounding of the element type. The scale is f32, as the absmax of bf16 exceeds
 * what f16 holds. A group of zeros has scale 0. Not finite: refused, the caller stores raw.
 *
 * lz4 and zstd are optional at build time; without them encode and decode of these say
 * LR_EUNSUPPORTED, and a store that finds such objects has a miss.
 */
#include "store/store_int.h"

#include <math.h>
#ifdef LR_HAVE_LZ4
#include <lz4.h>
#endif
#ifdef LR_HAVE_ZSTD
#include <zstd.h>
#endif

#define FRAME      16u
#define VERSION    1u
#define GROUP      64u
#define ZSTD_LEVEL 1

const char *lr_codec_name(uint32_t codec)
{
    static const char *const names[] = {"raw", "lz4", "zstd", "q8"};
    return codec < LR_COUNT(names) ? names[codec] : NULL;
}

bool lr_codec_has(uint32_t codec)
{
    switch (codec) {
    case LR_CODEC_RAW:
    case LR_CODEC_Q8:
        return true;
#ifdef LR_HAVE_LZ4
    case LR_CODEC_LZ4:
        return true;
#endif
#ifdef LR_HAVE_ZSTD
    case LR_CODEC_ZSTD:
        return true;
#endif
    default:
        return false;
    }
}

uint32_t lr_codec_fidelity(uint32_t codec)
{
    return codec == LR_CODEC_Q8 ? 8000 : LR_OBJECT_LOSSLESS;
}

/* ---- q8 ---- */

static size_t element(uint32_t dtype)
{
    switch (dtype) {
    case LR_DTYPE_F16:
    case LR_DTYPE_BF16:
        return 2;
    case LR_DTYPE_F32:
        return 4;
    default:
        return 0;
    }
}

static float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 31)
        return bits_float(sign | 0x7F800000u | m << 13);
    if (e)
        return bits_float(sign | (e + 112) << 23 | m << 13);
    float f = (float)m * 0x1p-24f; /* subnormal, exact */
    return sign ? -f : f;
}

/* To nearest, ties to even; beyond the range: the largest finite one. */
static uint16_t to_f16(float f)
{
    uint32_t u = float_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a >= 0x477FF000u) /* 65520: would round to infinity */
        return (uint16_t)(sign | 0x7BFF);
    if (a < 0x38800000u) { /* below 2^-14: count of 2^-24 */
        float units = bits_float(a) * 0x1p24f;
        return (uint16_t)(sign | (uint32_t)lrintf(units));
    }
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000u) >> 13);
}

static uint16_t to_bf16(float f)
{
    uint32_t u = float_bits(f);
    uint32_t r = u + 0x7FFF + (u >> 16 & 1);
    return (uint16_t)((r & 0x7F800000u) == 0x7F800000u ? u >> 16 : r >> 16);
}

static float load(const uint8_t *p, uint32_t dtype)
{
    if (dtype == LR_DTYPE_F32)
        return bits_float(lr_le32(p));
    return dtype == LR_DTYPE_F16 ? from_f16(lr_le16(p)) : bits_float((uint32_t)lr_le16(p) << 16);
}

static void save(uint8_t *p, uint32_t dtype, float f)
{
    if (dtype == LR_DTYPE_F32)
        memcpy(p, &f, 4);
    else
        lr_put_le16(p, dtype == LR_DTYPE_F16 ? to_f16(f) : to_bf16(f));
}

static size_t q8_bytes(size_t elements)
{
    return elements + (elements + GROUP - 1) / GROUP * 4;
}

static int q8_group(const uint8_t *in, size_t k, uint32_t dtype, uint8_t *out)
{
    float x[GROUP], most = 0;
    size_t size = element(dtype);
    for (size_t i = 0; i < k; i++) {
        x[i] = load(in + i * size, dtype);
        LR_FAIL_IF(!isfinite(x[i]), LR_EINVAL);
        most = fmaxf(most, fabsf(x[i]));
    }
    float scale = most / 127;
    memcpy(out, &scale, 4);
    for (size_t i = 0; i < k; i++) {
        float q = scale > 0 ? rintf(x[i] / scale) : 0;
        int8_t b = (int8_t)fminf(127, fmaxf(-127, q));
        memcpy(out + 4 + i, &b, 1);
    }
    return 0;
}

static int q8_encode(const uint8_t *in, size_t n, uint32_t dtype, uint8_t *out, size_t cap,
                     size_t *used)
{
    size_t size = element(dtype);
    LR_FAIL_IF(!size, LR_EUNSUPPORTED);
    LR_FAIL_IF(n % size, LR_EINVAL);
    size_t left = n / size;
    LR_FAIL_IF(cap < q8_bytes(left), LR_EOVER);
    *used = q8_bytes(left);
    for (size_t k; left; left -= k, in += k * size, out += 4 + k) {
        k = left < GROUP ? left : GROUP;
        LR_TRY(q8_group(in, k, dtype, out));
    }
    return 0;
}

static int q8_decode(const uint8_t *in, size_t n, uint32_t dtype, uint8_t *out, size_t cap)
{
    size_t size = element(dtype);
    LR_FAIL_IF(!size || cap % size || n != q8_bytes(cap / size), LR_ECORRUPT);
    size_t left = cap / size;
    for (size_t k; left; left -= k, in += 4 + k, out += k * size) {
        k = left < GROUP ? left : GROUP;
        float scale = bits_float(lr_le32(in));
        LR_FAIL_IF(!(scale >= 0 && scale <= 3.4e38f), LR_ECORRUPT);
        for (size_t i = 0; i < k; i++) {
            int8_t q;
            memcpy(&q, in + 4 + i, 1);
            save(out + i * size, dtype, (float)q * scale);
        }
    }
    return 0;
}

/* ---- the door ---- */

size_t lr_codec_bound(uint32_t codec, size_t n)
{
    if (n > LR_OBJECT_VALUE_MAX)
        return 0;
    switch (codec) {
#ifdef LR_HAVE_LZ4
    case LR_CODEC_LZ4:
        return FRAME + (size_t)LZ4_compressBound((int)n);
#endif
#ifdef LR_HAVE_ZSTD
    case LR_CODEC_ZSTD:
        return FRAME + ZSTD_compressBound(n);
#endif
    case LR_CODEC_Q8:
        return FRAME + q8_bytes(n / 2);
    default:
        return FRAME + n;
    }
}

static int raw_encode(const void *in, size_t n, void *out, size_t cap, size_t *used)
{
    LR_FAIL_IF(cap < n, LR_EOVER);
    if (n)
        memcpy(out, in, n);
    *used = n;
    return 0;
}

#ifdef LR_HAVE_LZ4
static int lz4_encode(const void *in, size_t n, void *out, size_t cap, size_t *used)
{
    int most = cap > LZ4_MAX_INPUT_SIZE ? LZ4_MAX_INPUT_SIZE : (int)cap;
    int k = LZ4_compress_default(in, out, (int)n, most);
    LR_FAIL_IF(k <= 0, LR_EOVER);
    *used = (size_t)k;
    return 0;
}
#endif

#ifdef LR_HAVE_ZSTD
static int zstd_encode(const void *in, size_t n, void *out, size_t cap, size_t *used)
{
    size_t k = ZSTD_compress(out, cap, in, n, ZSTD_LEVEL);
    LR_FAIL_IF(ZSTD_isError(k), LR_EOVER);
    *used = k;
    return 0;
}
#endif

int lr_codec_encode(uint32_t codec, uint32_t dtype, const void *in, size_t n, void *out, size_t cap,
                    size_t *used)
{
    uint8_t *frame = out;
    size_t k = 0;
    int rc;
    LR_FAIL_IF(!lr_codec_has(codec), LR_EUNSUPPORTED);
    LR_FAIL_IF(n > LR_OBJECT_VALUE_MAX || cap < FRAME, LR_EOVER);
    switch (codec) {
#ifdef LR_HAVE_LZ4
    case LR_CODEC_LZ4:
        rc = lz4_encode(in, n, frame + FRAME, cap - FRAME, &k);
        break;
#endif
#ifdef LR_HAVE_ZSTD
    case LR_CODEC_ZSTD:
        rc = zstd_encode(in, n, frame + FRAME, cap - FRAME, &k);
        break;
#endif
    case LR_CODEC_Q8:
        rc = q8_encode(in, n, dtype, frame + FRAME, cap - FRAME, &k);
        break;
    default:
        rc = raw_encode(in, n, frame + FRAME, cap - FRAME, &k);
    }
    LR_TRY(rc);
    memset(frame, 0, FRAME);
    frame[0] = (uint8_t)codec;
    frame[1] = VERSION;
    frame[2] = codec == LR_CODEC_Q8 ? (uint8_t)dtype : 0;
    lr_put_le64(frame + 8, n);
    *used = FRAME + k;
    return 0;
}

int lr_codec_size(const void *in, size_t n, size_t *out)
{
    const uint8_t *p = in;
    LR_FAIL_IF(n < FRAME || p[3] || lr_le32(p + 4) || lr_le64(p + 8) > LR_OBJECT_VALUE_MAX,
               LR_ECORRUPT);
    LR_FAIL_IF(p[1] != VERSION, LR_EVERSION);
    *out = (size_t)lr_le64(p + 8);
    return 0;
}

int lr_codec_decode(const void *in, size_t n, void *out, size_t cap)
{
    const uint8_t *p = in;
    size_t size;
    LR_TRY(lr_codec_size(in, n, &size));
    LR_FAIL_IF(size != cap, LR_ECORRUPT);
    LR_FAIL_IF(!lr_codec_has(p[0]), LR_EUNSUPPORTED);
    const void *body = p + FRAME;
    n -= FRAME;
    switch (p[0]) {
#ifdef LR_HAVE_LZ4
    case LR_CODEC_LZ4:
        LR_FAIL_IF(n > LZ4_MAX_INPUT_SIZE, LR_ECORRUPT);
        return LZ4_decompress_safe(body, out, (int)n, (int)cap) == (int)cap ? 0 : LR_ECORRUPT;
#endif
#ifdef LR_HAVE_ZSTD
    case LR_CODEC_ZSTD:
        return ZSTD_decompress(out, cap, body, n) == cap ? 0 : LR_ECORRUPT;
#endif
    case LR_CODEC_Q8:
        return q8_decode(body, n, p[2], out, cap);
    default:
        LR_FAIL_IF(n != cap, LR_ECORRUPT);
        if (n)
            memcpy(out, body, n);
        return 0;
    }
}
