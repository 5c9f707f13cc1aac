/* SPDX-License-Identifier: Apache-2.0
 * nn/type.c - element types: their names, sizes, and the plain reading of each as f32.
 *
 *   type   elements  bytes  layout of a block (halves are little-endian IEEE f16)
 *   Q8_0      32       34   d | 32 int8                                x = d q
 *   Q4_0      32       18   d | 16 bytes                               x = d (q - 8)
 *   Q4_1      32       20   d m | 16 bytes                             x = d q + m
 *   Q5_0      32       22   d | 4 bytes of fifth bits | 16 bytes       x = d (q - 16)
 *   Q5_1      32       24   d m | 4 bytes of fifth bits | 16 bytes     x = d q + m
 *   Q4_K     256      144   d dmin | 12 bytes: 8 scales, 8 mins of 6 bits | 128 bytes
 *   Q5_K     256      176   d dmin | 12 bytes as above | 32 bytes of fifth bits | 128 bytes
 *   Q6_K     256      210   128 bytes of low nibbles | 64 bytes of high pairs | 16 int8 scales | d
 *
 * In blocks of 32 the low nibble of byte i is element i, the high one element i + 16. In those of
 * 256 elements come in runs of 64 (Q4_K, Q5_K: low nibbles of 32 bytes, then their high nibbles) or
 * 128 (Q6_K: four runs of 32 from two low and two high nibbles); scale and minimum change every 32
 * (Q6_K: 16) elements, x = d scale q - dmin min. The layouts are those of the ggml project's format
 * documentation; the code here is written from them to be read, one element at a time, and is the
 * twin that the kernels of kern/ and the products are tested against.
 *
 * Types whose files exist but that we do not read (Q2_K, IQ4_XS, MXFP4, ...) are refused by name.
 */
#include "nn/nn_int.h"

float lr_nn_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exp = bits >> 10 & 31u, man = bits & 1023u,
             out;
    if (exp == 0) { /* zero and subnormals: man * 2^-24, exact in f32 */
        float v = (float)man * 0x1p-24f;
        return sign ? -v : v;
    }
    out = sign | (exp == 31 ? 255u : exp + 112u) << 23 | man << 13;
    float v;
    memcpy(&v, &out, 4);
    return v;
}

float lr_nn_bf16(uint16_t bits)
{
    uint32_t out = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &out, 4);
    return v;
}

static float half(const uint8_t *p)
{
    return lr_nn_f16(lr_le16(p));
}

static void decode_f32(const uint8_t *p, size_t blocks, float *y)
{
    memcpy(y, p, blocks * 4);
}

static void decode_f16(const uint8_t *p, size_t blocks, float *y)
{
    for (size_t i = 0; i < blocks; i++)
        y[i] = half(p + 2 * i);
}

static void decode_bf16(const uint8_t *p, size_t blocks, float *y)
{
    for (size_t i = 0; i < blocks; i++)
        y[i] = lr_nn_bf16(lr_le16(p + 2 * i));
}

static void decode_q8_0(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 34, y += 32)
        for (int i = 0; i < 32; i++)
            y[i] = half(p) * (float)(int8_t)p[2 + i];
}

static void decode_q4_0(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 18, y += 32)
        for (int i = 0; i < 16; i++) {
            y[i] = half(p) * (float)((p[2 + i] & 15) - 8);
            y[i + 16] = half(p) * (float)((p[2 + i] >> 4) - 8);
        }
}

static void decode_q4_1(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 20, y += 32)
        for (int i = 0; i < 16; i++) {
            y[i] = half(p) * (float)(p[4 + i] & 15) + half(p + 2);
            y[i + 16] = half(p) * (float)(p[4 + i] >> 4) + half(p + 2);
        }
}

/* Bit i of 32 as the fifth bit of a number. */
static int fifth(const uint8_t *bits, int i)
{
    return (bits[i / 8] >> i % 8 & 1) << 4;
}

static void decode_q5_0(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 22, y += 32)
        for (int i = 0; i < 16; i++) {
            y[i] = half(p) * (float)(((p[6 + i] & 15) | fifth(p + 2, i)) - 16);
            y[i + 16] = half(p) * (float)(((p[6 + i] >> 4) | fifth(p + 2, i + 16)) - 16);
        }
}

static void decode_q5_1(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 24, y += 32)
        for (int i = 0; i < 16; i++) {
            y[i] = half(p) * (float)((p[8 + i] & 15) | fifth(p + 4, i)) + half(p + 2);
            y[i + 16] = half(p) * (float)((p[8 + i] >> 4) | fifth(p + 4, i + 16)) + half(p + 2);
        }
}

/* Scale and minimum j (0..7) of the 12 bytes at q: 6 bits each. The first four have a byte of their
 * own; the others take their low 4 bits from bytes 8..11 and their high 2 bits from the top of the
 * first eight bytes. */
static void scale_min(const uint8_t *q, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = q[j] & 63;
        *min = q[j + 4] & 63;
    } else {
        *scale = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4;
        *min = q[j + 4] >> 4 | (q[j] >> 6) << 4;
    }
}

static void decode_q4_k(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 144, y += 256)
        for (int i = 0; i < 256; i++) {
            int scale, min;
            scale_min(p + 4, i / 32, &scale, &min);
            uint8_t b = p[16 + i / 64 * 32 + i % 32];
            int q = i / 32 % 2 ? b >> 4 : b & 15;
            y[i] = half(p) * (float)scale * (float)q - half(p + 2) * (float)min;
        }
}

static void decode_q5_k(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 176, y += 256)
        for (int i = 0; i < 256; i++) {
            int scale, min;
            scale_min(p + 4, i / 32, &scale, &min);
            uint8_t b = p[48 + i / 64 * 32 + i % 32];
            int q = (i / 32 % 2 ? b >> 4 : b & 15) | (p[16 + i % 32] >> i / 32 & 1) << 4;
            y[i] = half(p) * (float)scale * (float)q - half(p + 2) * (float)min;
        }
}

static void decode_q6_k(const uint8_t *p, size_t blocks, float *y)
{
    for (; blocks; blocks--, p += 210, y += 256)
        for (int i = 0; i < 256; i++) {
            int half256 = i / 128, run = i / 32 % 4, l = i % 32;
            uint8_t b = p[half256 * 64 + run % 2 * 32 + l];
            int low = run < 2 ? b & 15 : b >> 4;
            int high = p[128 + half256 * 32 + l] >> 2 * run & 3;
            int scale = (int8_t)p[192 + i / 16];
            y[i] = half(p + 208) * (float)scale * (float)((low | high << 4) - 32);
        }
}

static const struct lr_nn_type_info types[LR_NN_TYPES] = {
    [LR_NN_F32] = {"F32", 1, 4, 0, decode_f32},
    [LR_NN_F16] = {"F16", 1, 2, 1, decode_f16},
    [LR_NN_BF16] = {"BF16", 1, 2, 30, decode_bf16},
    [LR_NN_Q8_0] = {"Q8_0", 32, 34, 8, decode_q8_0},
    [LR_NN_Q4_0] = {"Q4_0", 32, 18, 2, decode_q4_0},
    [LR_NN_Q4_1] = {"Q4_1", 32, 20, 3, decode_q4_1},
    [LR_NN_Q5_0] = {"Q5_0", 32, 22, 6, decode_q5_0},
    [LR_NN_Q5_1] = {"Q5_1", 32, 24, 7, decode_q5_1},
    [LR_NN_Q4_K] = {"Q4_K", 256, 144, 12, decode_q4_k},
    [LR_NN_Q5_K] = {"Q5_K", 256, 176, 13, decode_q5_k},
    [LR_NN_Q6_K] = {"Q6_K", 256, 210, 14, decode_q6_k},
    [LR_NN_F64] = {"F64", 1, 8, -1, NULL},
    [LR_NN_I8] = {"I8", 1, 1, -1, NULL},
    [LR_NN_U8] = {"U8", 1, 1, -1, NULL},
    [LR_NN_I16] = {"I16", 1, 2, -1, NULL},
    [LR_NN_U16] = {"U16", 1, 2, -1, NULL},
    [LR_NN_I32] = {"I32", 1, 4, -1, NULL},
    [LR_NN_U32] = {"U32", 1, 4, -1, NULL},
    [LR_NN_I64] = {"I64", 1, 8, -1, NULL},
    [LR_NN_U64] = {"U64", 1, 8, -1, NULL},
    [LR_NN_BOOL] = {"BOOL", 1, 1, -1, NULL},
};

/* By number in GGUF files; NULL: never given or taken back. */
static const char *const ggml_names[] = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",
};

const struct lr_nn_type_info *lr_nn_type_info(enum lr_nn_type type)
{
    return &types[type];
}

int lr_nn_type_find(struct lr_str name, enum lr_nn_type *out)
{
    for (size_t i = 0; i < LR_NN_TYPES; i++)
        if (lr_str_ieq(name, lr_strz(types[i].name))) {
            *out = (enum lr_nn_type)i;
            return 0;
        }
    return LR_ENOENT;
}

const char *lr_nn_ggml_name(uint32_t number)
{
    return number < LR_COUNT(ggml_names) ? ggml_names[number] : NULL;
}

int lr_nn_ggml_type(uint32_t number, enum lr_nn_type *out)
{
    for (size_t i = 0; i < LR_NN_TYPES; i++)
        if (types[i].ggml >= 0 && (uint32_t)types[i].ggml == number) {
            *out = (enum lr_nn_type)i;
            return 0;
        }
    return LR_EUNSUPPORTED;
}

int lr_nn_decode(enum lr_nn_type type, const void *src, size_t n, float *dst)
{
    const struct lr_nn_type_info *info = &types[type];
    LR_FAIL_IF(!info->decode, LR_EUNSUPPORTED);
    LR_FAIL_IF(n % info->block, LR_EINVAL);
    info->decode(src, n / info->block, dst);
    return 0;
}

int lr_nn_tensor_size(struct lr_nn_tensor *t)
{
    const struct lr_nn_type_info *info = &types[t->type];
    uint64_t bytes = info->block_bytes, elements = 1;
    for (uint32_t i = t->dims; i < LR_NN_DIMS; i++)
        t->ne[i] = 1;
    LR_FAIL_IF(t->ne[0] % info->block, LR_EINVAL);
    for (uint32_t i = 0; i < LR_NN_DIMS; i++) {
        LR_FAIL_IF(__builtin_mul_overflow(elements, t->ne[i], &elements), LR_EOVER);
        LR_FAIL_IF(__builtin_mul_overflow(bytes, i ? t->ne[i] : t->ne[0] / info->block, &bytes),
                   LR_EOVER);
    }
    LR_FAIL_IF(bytes > SIZE_MAX / 2 || elements > SIZE_MAX / 8, LR_EOVER);
    t->bytes = bytes;
    return 0;
}
