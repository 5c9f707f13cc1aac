/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/kern/test_mul.c - rows of every type: decoding against a twin that reads the layout
 * element by element, products against sums in double, and the contract that neighbours never
 * matter.
 */
#include "kern_kit.h"

#define GOLDEN                                                                                     \
    0xc898c5615fb6e667u /* of all_fused_variants_on_all_machines_agree; changes with the contract  \
                           only */

static double half(const uint8_t *p)
{
    unsigned h = p[0] | (unsigned)p[1] << 8, e = h >> 10 & 31, m = h & 1023;
    double v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, (int)e - 25);
    return h & 0x8000 ? -v : v;
}

static unsigned nibble(const uint8_t *p, size_t i) /* of a group of 32 */
{
    unsigned b = p[i % 16];
    return i < 16 ? b & 15 : b >> 4;
}

static unsigned bit(const uint8_t *p, size_t i)
{
    return (unsigned)p[i / 8] >> i % 8 & 1;
}

/* Six-bit scale (t: offset) g of the twelve bytes. */
static unsigned six(const uint8_t *p, size_t g, bool t)
{
    if (g < 4)
        return p[g + (t ? 4 : 0)] & 63;
    unsigned both = p[4 + g], low = t ? both >> 4 : both & 15;
    return low | (unsigned)p[g - 4 + (t ? 4 : 0)] >> 6 << 4;
}

static double k_value(const uint8_t *b, size_t i, bool high)
{
    size_t g = i / 32, c = i / 64;
    const uint8_t *p = b + (high ? 48 : 16) + 32 * c;
    unsigned both = p[i % 32], q = i % 64 < 32 ? both & 15 : both >> 4;
    if (high)
        q |= ((unsigned)b[16 + i % 32] >> g & 1) << 4;
    float s = (float)half(b) * (float)six(b + 4, g, false);
    float m = (float)half(b + 2) * (float)six(b + 4, g, true);
    return (float)(s * (float)q) - m;
}

static double q6_value(const uint8_t *b, size_t i)
{
    size_t a = i / 128, part = i % 128 / 32, l = i % 32;
    unsigned low = b[64 * a + 32 * (part % 2) + l], high = b[128 + 32 * a + l];
    unsigned q = (part < 2 ? low & 15 : low >> 4) | (high >> (2 * part) & 3) << 4;
    return (float)half(b + 208) * (float)(int8_t)b[192 + i / 16] * (float)((int)q - 32);
}

/* What the layout says about element i of a row, rounded as kern.h promises. */
static double twin(enum lr_kern_type type, const uint8_t *row, size_t i)
{
    size_t per = lr_kern_type_block(type), j = i % per;
    const uint8_t *b = row + i / per * (type == LR_KERN_I4R ? 0 : lr_kern_row_bytes(type, per));
    float f;
    switch (type) {
    case LR_KERN_F32:
        memcpy(&f, b, 4);
        return f;
    case LR_KERN_F16:
        return half(b);
    case LR_KERN_BF16:
        f = 0;
        memcpy((char *)&f + 2, b, 2);
        return f;
    case LR_KERN_Q8_0:
        return (float)half(b) * (float)(int8_t)b[2 + j];
    case LR_KERN_Q4_0:
        return (float)half(b) * (float)((int)nibble(b + 2, j) - 8);
    case LR_KERN_Q4_1:
        f = (float)half(b) * (float)nibble(b + 4, j);
        return f + (float)half(b + 2);
    case LR_KERN_Q5_0:
        return (float)half(b) * (float)((int)(nibble(b + 6, j) | bit(b + 2, j) << 4) - 16);
    case LR_KERN_Q5_1:
        f = (float)half(b) * (float)(nibble(b + 8, j) | bit(b + 4, j) << 4);
        return f + (float)half(b + 2);
    case LR_KERN_Q4_K:
        return k_value(b, j, false);
    case LR_KERN_Q5_K:
        return k_value(b, j, true);
    case LR_KERN_Q6_K:
        return q6_value(b, j);
    default:
        f = (float)half(row) * (float)nibble(row + 4 + i / 32 * 16, i % 32);
        return f + (float)half(row + 2);
    }
}

/* A row's bytes at random, but with scales that are finite. */
static void random_row(struct lr_rng *rng, enum lr_kern_type type, uint8_t *row, size_t k)
{
    size_t bytes = lr_kern_row_bytes(type, k), per = lr_kern_type_block(type);
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)lr_rng_below(rng, 256);
    if (type == LR_KERN_F32) {
        for (size_t i = 0; i < k; i++) {
            float f = awkward(rng);
            memcpy(row + 4 * i, &f, 4);
        }
        return;
    }
    size_t step = type == LR_KERN_I4R ? bytes : bytes / (k / per);
    for (size_t at = 0; at < bytes; at += step) {
        size_t head = type == LR_KERN_Q6_K ? 208 : 0;
        uint8_t *high = row + at + head + 1; /* exponent within 5 of 1 */
        if (type == LR_KERN_BF16) {
            *high = (uint8_t)((*high & 0x80) | 0x3d | (*high & 2));
            continue;
        }
        *high = (uint8_t)((*high & 0x83) | (10 + lr_rng_below(rng, 6)) << 2);
        if (per > 1 && type != LR_KERN_Q6_K && type != LR_KERN_Q8_0)
            high[2] = (uint8_t)((high[2] & 0x83) | (10 + lr_rng_below(rng, 6)) << 2);
    }
    if (type == LR_KERN_F16 && k > 3) { /* denormals and zeros too */
        row[1] = 0;
        row[2] = row[3] = 0;
        row[5] = 0x80;
    }
}

/* Lengths a type can have, awkward ones included. */
static size_t length(struct lr_rng *rng, enum lr_kern_type type)
{
    size_t per = lr_kern_type_block(type), most = type == LR_KERN_I4R ? 1024 : 2600;
    return per * (1 + lr_rng_below(rng, most / per));
}

struct rows {
    struct lr_kern_rows w;
    uint8_t *mem;
    size_t k;
};

static struct rows rows_new(struct lr_rng *rng, enum lr_kern_type type, size_t k, size_t n)
{
    size_t stride = lr_kern_row_bytes(type, k) + lr_rng_below(rng, 3);
    struct rows r = {.mem = malloc(stride * n + 1), .k = k};
    assert_non_null(r.mem);
    r.w = (struct lr_kern_rows){type, r.mem + 1, stride, n}; /* never aligned */
    if (type == LR_KERN_F32 || type == LR_KERN_F16 || type == LR_KERN_BF16) {
        free(r.mem);
        stride = lr_kern_row_bytes(type, k) + 4 * lr_rng_below(rng, 3);
        r.mem = malloc(stride * n + 4);
        r.w = (struct lr_kern_rows){type, r.mem + 4, stride, n};
    }
    for (size_t i = 0; i < n; i++)
        random_row(rng, type, (uint8_t *)(uintptr_t)r.w.p + i * r.w.stride, k);
    return r;
}

static const uint8_t *row_at(const struct rows *r, size_t i)
{
    return (const uint8_t *)r->w.p + i * r->w.stride;
}

static void decoding_is_what_the_layout_says_on_every_variant(void **state)
{
    (void)state;
    const uint64_t seed = 11;
    struct lr_rng rng;
    lr_rng_seed(&rng, seed);
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        for (int round = 0; round < 6; round++) {
            size_t k = length(&rng, (enum lr_kern_type)t);
            struct rows r = rows_new(&rng, (enum lr_kern_type)t, k, 1);
            float *out = floats(NULL, k);
            EACH_VARIANT(kern)
            {
                kern->decode(r.w.type, out, r.w.p, k);
                for (size_t i = 0; i < k; i++)
                    REQUIRE(out[i] == (float)twin(r.w.type, r.w.p, i),
                            "seed %d round %d %s %s[%zu of %zu]: %a, not %a", (int)seed, round,
                            kern->name, lr_kern_type_name(r.w.type), i, k, (double)out[i],
                            twin(r.w.type, r.w.p, i));
            }
            free(out);
            free(r.mem);
        }
}

/* Sum and sum of magnitudes in double. */
static double exact(const struct rows *r, size_t row, const float *x, double *size)
{
    double sum = 0;
    *size = 0;
    for (size_t i = 0; i < r->k; i++) {
        double term = (double)(float)twin(r->w.type, row_at(r, row), i) * x[i];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static void check_product(const struct lr_kern *kern, const struct rows *r, const float *x,
                          size_t x_stride, size_t n_tok, float *out, void *scratch)
{
    kern->mul(&r->w, r->k, x, x_stride, n_tok, out, r->w.n, scratch);
    for (size_t t = 0; t < n_tok; t++)
        for (size_t i = 0; i < r->w.n; i++) {
            double size, want = exact(r, i, x + t * x_stride, &size);
            double got = out[t * r->w.n + i], room = size * 0x1p-24 * 12 + 1e-37;
            REQUIRE(fabs(got - want) <= room, "%s %s k %zu row %zu token %zu: %g, not %g +- %g",
                    kern->name, lr_kern_type_name(r->w.type), r->k, i, t, got, want, room);
        }
}

static void products_are_those_of_doubles(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 12);
    void *scratch = scratch_new();
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        for (int round = 0; round < 4; round++) {
            size_t k = length(&rng, (enum lr_kern_type)t), n = 1 + lr_rng_below(&rng, 9);
            size_t n_tok = 1 + lr_rng_below(&rng, 9), stride = k + lr_rng_below(&rng, 5);
            struct rows r = rows_new(&rng, (enum lr_kern_type)t, k, n);
            float *x = floats(&rng, n_tok * stride), *out = floats(NULL, n * n_tok);
            EACH_VARIANT(kern)
            check_product(kern, &r, x, stride, n_tok, out, scratch);
            free(x);
            free(out);
            free(r.mem);
        }
    free(scratch);
}

/* One (row, token) at a time, and any cut into tiles, give the same bits. */
static void neighbours_change_no_bit_of_a_product(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 13);
    void *scratch = scratch_new();
    for (int round = 0; round < 3 * LR_KERN_N_TYPES; round++) {
        enum lr_kern_type type = (enum lr_kern_type)(round % LR_KERN_N_TYPES);
        size_t k = length(&rng, type), n = 1 + lr_rng_below(&rng, 70);
        size_t n_tok = 1 + lr_rng_below(&rng, 20);
        struct rows r = rows_new(&rng, type, k, n);
        float *x = floats(&rng, n_tok * k), *whole = floats(NULL, n * n_tok);
        float *other = floats(NULL, n * n_tok), *first = NULL;
        EACH_VARIANT(kern)
        {
            kern->mul(&r.w, k, x, k, n_tok, whole, n, scratch);
            for (size_t from = 0, rows; from < n; from += rows) {
                rows = 1 + lr_rng_below(&rng, n - from);
                for (size_t t = 0, toks; t < n_tok; t += toks) {
                    toks = 1 + lr_rng_below(&rng, n_tok - t);
                    struct lr_kern_rows part = {type, row_at(&r, from), r.w.stride, rows};
                    kern->mul(&part, k, x + t * k, k, toks, other + t * n + from, n, scratch);
                }
            }
            REQUIRE(same(whole, other, n * n_tok * sizeof *whole), "%s %s k %zu n %zu tokens %zu",
                    kern->name, lr_kern_type_name(type), k, n, n_tok);
            if (kern->fma && !first) {
                first = floats(NULL, n * n_tok);
                memcpy(first, whole, n * n_tok * sizeof *whole);
            }
            if (kern->fma)
                REQUIRE(same(whole, first, n * n_tok * sizeof *whole), "%s is not of one mind: %s",
                        kern->name, lr_kern_type_name(type));
        }
        free(first);
        free(x);
        free(whole);
        free(other);
        free(r.mem);
    }
    free(scratch);
}

static void a_product_of_floats_is_dot(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 14);
    void *scratch = scratch_new();
    for (size_t n = 1; n < 2200; n += 1 + n / 3) {
        float *a = floats(&rng, n), *b = floats(&rng, n), out;
        struct lr_kern_rows w = {LR_KERN_F32, a, n * sizeof *a, 1};
        EACH_VARIANT(kern)
        {
            float dot = kern->dot(a, b, n);
            kern->mul(&w, n, b, n, 1, &out, 1, scratch);
            REQUIRE(same(&dot, &out, sizeof dot), "%s n %zu: %a and %a", kern->name, n, (double)dot,
                    (double)out);
        }
        free(a);
        free(b);
    }
    free(scratch);
}

/* The order of sums, spelled out as kern.h has it. */
static float slow_dot(const float *a, const float *b, size_t n)
{
    float total = 0;
    for (size_t at = 0; at < n; at += LR_KERN_BLOCK) {
        float lane[16] = {0};
        for (size_t i = at; i < n && i < at + LR_KERN_BLOCK; i++)
            lane[i % 16] = fmaf(a[i], b[i], lane[i % 16]);
        for (size_t h = 8; h; h /= 2)
            for (size_t j = 0; j < h; j++)
                lane[j] += lane[j + h];
        total = at ? total + lane[0] : lane[0];
    }
    return total;
}

static void the_order_of_sums_is_the_promised_one(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 15);
    for (size_t n = 0; n < 5000; n += 1 + n / 2) {
        float *a = floats(&rng, n), *b = floats(&rng, n);
        float want = slow_dot(a, b, n);
        EACH_VARIANT(kern)
        {
            if (kern->fma)
                REQUIRE(kern->dot(a, b, n) == want, "%s n %zu", kern->name, n);
        }
        free(a);
        free(b);
    }
}

static void mixing_rows_is_one_chain_however_cut(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 16);
    void *scratch = scratch_new();
    for (int round = 0; round < 3 * LR_KERN_N_TYPES; round++) {
        enum lr_kern_type type = (enum lr_kern_type)(round % LR_KERN_N_TYPES);
        size_t k = length(&rng, type), n = 1 + lr_rng_below(&rng, 50);
        size_t n_tok = 1 + lr_rng_below(&rng, 5);
        struct rows r = rows_new(&rng, type, k, n);
        float *p = floats(&rng, n_tok * n), *out = floats(NULL, n_tok * k),
              *cut = floats(NULL, n_tok * k);
        EACH_VARIANT(kern)
        {
            memset(out, 0, n_tok * k * sizeof *out);
            memset(cut, 0, n_tok * k * sizeof *cut);
            kern->mix(&r.w, k, p, n, n_tok, out, k, scratch);
            for (size_t from = 0, rows; from < n; from += rows) {
                rows = 1 + lr_rng_below(&rng, n - from);
                struct lr_kern_rows part = {type, row_at(&r, from), r.w.stride, rows};
                kern->mix(&part, k, p + from, n, n_tok, cut, k, scratch);
            }
            REQUIRE(same(out, cut, n_tok * k * sizeof *out), "%s %s k %zu n %zu", kern->name,
                    lr_kern_type_name(type), k, n);
            for (size_t t = 0; kern->fma && t < n_tok; t++)
                for (size_t i = 0; i < k; i += 1 + k / 7) {
                    float sum = 0;
                    for (size_t j = 0; j < n; j++)
                        sum = fmaf(p[t * n + j], (float)twin(type, row_at(&r, j), i), sum);
                    REQUIRE(out[t * k + i] == sum, "%s %s [%zu][%zu]: %a, not %a", kern->name,
                            lr_kern_type_name(type), t, i, (double)out[t * k + i], (double)sum);
                }
        }
        free(p);
        free(out);
        free(cut);
        free(r.mem);
    }
    free(scratch);
}

/* ---- mulq: tokens in fixed point ---- */

/* A block of 32 of a token, as kern.h says act_q16 rounds it. */
struct fixed {
    float d, e;
    int32_t q[32];
};

static void fix(struct fixed *f, const float *x)
{
    float top = 0, inv;
    int32_t sum = 0;
    for (size_t i = 0; i < 32; i++)
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    inv = 32639.0f / top;
    inv = inv <= 0x1p126f ? inv : 0;
    for (size_t i = 0; i < 32; i++)
        sum += f->q[i] = (int32_t)rintf(x[i] * inv);
    f->d = inv > 0 ? top / 32639.0f : 0;
    f->e = f->d * (float)sum;
}

/* Element i as s * q - m: the code, the group's scale and offset, exactly as decode has them. */
struct coded {
    int32_t q;
    float s, m; /* m to be added */
};

static struct coded coded(enum lr_kern_type type, const uint8_t *row, size_t i)
{
    size_t per = lr_kern_type_block(type), j = i % per;
    const uint8_t *b = row + i / per * (type == LR_KERN_I4R ? 0 : lr_kern_row_bytes(type, per));
    float d = (float)half(type == LR_KERN_Q6_K ? b + 208 : b);
    switch (type) {
    case LR_KERN_Q8_0:
        return (struct coded){(int8_t)b[2 + j], d, 0};
    case LR_KERN_Q4_0:
        return (struct coded){(int32_t)nibble(b + 2, j) - 8, d, 0};
    case LR_KERN_Q4_1:
        return (struct coded){(int32_t)nibble(b + 4, j), d, (float)half(b + 2)};
    case LR_KERN_Q5_0:
        return (struct coded){(int32_t)(nibble(b + 6, j) | bit(b + 2, j) << 4) - 16, d, 0};
    case LR_KERN_Q5_1:
        return (struct coded){(int32_t)(nibble(b + 8, j) | bit(b + 4, j) << 4), d,
                              (float)half(b + 2)};
    case LR_KERN_Q4_K:
    case LR_KERN_Q5_K: {
        bool high = type == LR_KERN_Q5_K;
        size_t g = j / 32;
        unsigned both = b[(high ? 48 : 16) + j / 64 * 32 + j % 32];
        unsigned q = (j % 64 < 32 ? both & 15 : both >> 4) |
                     (high ? ((unsigned)b[16 + j % 32] >> g & 1) << 4 : 0);
        return (struct coded){(int32_t)q, d * (float)six(b + 4, g, false),
                              -((float)half(b + 2) * (float)six(b + 4, g, true))};
    }
    case LR_KERN_Q6_K: {
        double unit = (double)d * (int8_t)b[192 + j / 16];
        unsigned low = b[64 * (j / 128) + 32 * (j % 128 / 32 % 2) + j % 32];
        unsigned high = (unsigned)b[128 + 32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32);
        return (struct coded){(int32_t)((j % 128 < 64 ? low & 15 : low >> 4) | (high & 3) << 4) -
                                  32,
                              (float)unit, 0};
    }
    default:
        return (struct coded){(int32_t)nibble(row + 4 + i / 32 * 16, i % 32), d,
                              (float)half(row + 2)};
    }
}

/* The contract of mulq, spelled out; *exactly: the same in double, and of what size. */
static float slow_mulq(const struct rows *r, size_t row, const float *x, bool fma, double *exactly,
                       double *size)
{
    const size_t group = r->w.type == LR_KERN_Q6_K ? 16 : 32;
    float sum = 0;
    *exactly = *size = 0;
    for (size_t at = 0; at < r->k; at += group) {
        struct fixed f;
        struct coded c = {0, 0, 0};
        int64_t n = 0;
        fix(&f, x + at / 32 * 32);
        for (size_t i = at; i < at + group; i++) {
            c = coded(r->w.type, row_at(r, row), i);
            n += (int64_t)c.q * f.q[i % 32];
            double w = (double)c.s * c.q, y = (double)f.d * f.q[i % 32];
            *exactly += (w + c.m) * y;
            *size += (fabs(w) + fabs((double)c.m)) * fabs(y);
        }
        assert_true(n == (int32_t)n);
        float scale = c.s * f.d, term = (float)n * scale;
        bool offset = r->w.type == LR_KERN_Q4_1 || r->w.type == LR_KERN_Q5_1 ||
                      r->w.type == LR_KERN_Q4_K || r->w.type == LR_KERN_Q5_K ||
                      r->w.type == LR_KERN_I4R;
        sum = fma ? fmaf((float)n, scale, sum) : sum + term;
        if (offset) {
            term = c.m * f.e;
            sum = fma ? fmaf(c.m, f.e, sum) : sum + term;
        }
    }
    return sum;
}

static char *records(const struct lr_kern *kern, const float *x, size_t k, size_t n_tok)
{
    size_t record = lr_kern_act_bytes(k);
    char *act = malloc(record * n_tok);
    assert_non_null(act);
    for (size_t t = 0; t < n_tok; t++)
        kern->act_q16(act + t * record, x + t * k, k);
    return act;
}

static void check_mulq(const struct lr_kern *kern, const struct rows *r, const float *x,
                       size_t n_tok, void *scratch)
{
    size_t n = r->w.n;
    char *act = records(kern, x, r->k, n_tok);
    float *out = floats(NULL, n * n_tok);
    kern->mulq(&r->w, r->k, act, n_tok, out, n, scratch);
    for (size_t t = 0; t < n_tok; t++)
        for (size_t i = 0; i < n; i++) {
            double exactly, size, off, got = out[t * n + i];
            double want = slow_mulq(r, i, x + t * r->k, kern->fma, &exactly, &size);
            REQUIRE(got == want, "%s %s k %zu row %zu of %zu, token %zu of %zu: %a, not %a",
                    kern->name, lr_kern_type_name(r->w.type), r->k, i, n, t, n_tok, got, want);
            off = fabs(got - exactly);
            REQUIRE(off <= size * (double)(r->k / 16 + 4) * 0x1p-24 + 1e-30, "%s %s: off by %g",
                    kern->name, lr_kern_type_name(r->w.type), off);
        }
    free(act);
    free(out);
}

static void products_in_fixed_point_are_the_promised_ones(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 17);
    void *scratch = scratch_new();
    for (int t = LR_KERN_Q8_0; t < LR_KERN_N_TYPES; t++)
        for (int round = 0; round < 5; round++) {
            size_t k = length(&rng, (enum lr_kern_type)t), n = 1 + lr_rng_below(&rng, 40);
            size_t n_tok = 1 + lr_rng_below(&rng, 6);
            struct rows r = rows_new(&rng, (enum lr_kern_type)t, k, n);
            float *x = floats(&rng, n_tok * k);
            EACH_VARIANT(kern)
            check_mulq(kern, &r, x, n_tok, scratch);
            free(x);
            free(r.mem);
        }
    free(scratch);
}

static void neighbours_change_no_bit_of_a_product_in_fixed_point(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 19);
    void *scratch = scratch_new();
    for (int round = 0; round < 3 * (LR_KERN_N_TYPES - LR_KERN_Q8_0); round++) {
        enum lr_kern_type type =
            (enum lr_kern_type)(LR_KERN_Q8_0 + round % (LR_KERN_N_TYPES - LR_KERN_Q8_0));
        size_t k = length(&rng, type), n = 1 + lr_rng_below(&rng, 150);
        size_t n_tok = 1 + lr_rng_below(&rng, 20), record = lr_kern_act_bytes(k);
        struct rows r = rows_new(&rng, type, k, n);
        float *x = floats(&rng, n_tok * k), *whole = floats(NULL, n * n_tok);
        float *other = floats(NULL, n * n_tok), *first = NULL;
        EACH_VARIANT(kern)
        {
            char *act = records(kern, x, k, n_tok);
            kern->mulq(&r.w, k, act, n_tok, whole, n, scratch);
            for (size_t from = 0, rows; from < n; from += rows) {
                rows = 1 + lr_rng_below(&rng, n - from);
                for (size_t t = 0, toks; t < n_tok; t += toks) {
                    toks = 1 + lr_rng_below(&rng, n_tok - t);
                    struct lr_kern_rows part = {type, row_at(&r, from), r.w.stride, rows};
                    kern->mulq(&part, k, act + t * record, toks, other + t * n + from, n, scratch);
                }
            }
            REQUIRE(same(whole, other, n * n_tok * sizeof *whole), "%s %s k %zu n %zu tokens %zu",
                    kern->name, lr_kern_type_name(type), k, n, n_tok);
            if (kern->fma && !first) {
                first = floats(NULL, n * n_tok);
                memcpy(first, whole, n * n_tok * sizeof *whole);
            }
            if (kern->fma)
                REQUIRE(same(whole, first, n * n_tok * sizeof *whole), "%s is not of one mind: %s",
                        kern->name, lr_kern_type_name(type));
            free(act);
        }
        free(first);
        free(x);
        free(whole);
        free(other);
        free(r.mem);
    }
    free(scratch);
}

/* The largest codes there are, all of one sign: 32 bits have room for their sums. */
static void the_largest_codes_do_not_overflow(void **state)
{
    (void)state;
    enum { K = 256 };
    void *scratch = scratch_new();
    float x[K];
    for (int t = LR_KERN_Q8_0; t < LR_KERN_N_TYPES; t++)
        for (int c = 0; c < 8; c++) {
            uint8_t row[400];
            struct rows r = {.k = K};
            for (size_t i = 0; i < K; i++) /* -1 and 1 are codes -32639 and 32639 */
                x[i] = c & 1 ? -1.0f : 1.0f;
            memset(row, c & 2 ? 0xff : c & 4 ? 0x80 : 0, sizeof row);
            size_t bytes = lr_kern_row_bytes((enum lr_kern_type)t, K);
            size_t per = lr_kern_type_block((enum lr_kern_type)t);
            size_t step = t == LR_KERN_I4R ? bytes : bytes / (K / per);
            for (size_t at = 0; at < bytes; at += step) { /* scales of 1 */
                row[at + (t == LR_KERN_Q6_K ? 209 : 1)] = 0x3c;
                if (t != LR_KERN_Q6_K && t != LR_KERN_Q8_0 && t != LR_KERN_Q4_0)
                    row[at + 3] = 0x3c;
            }
            r.w = (struct lr_kern_rows){(enum lr_kern_type)t, row, bytes, 1};
            EACH_VARIANT(kern)
            check_mulq(kern, &r, x, 1, scratch);
        }
    free(scratch);
}

/* One row, the unit matrix' first: what a token's record says about element 0 of each block. */
static void tokens_in_fixed_point_are_as_near_as_promised(void **state)
{
    (void)state;
    enum { K = 32 };
    struct lr_rng rng;
    lr_rng_seed(&rng, 20);
    void *scratch = scratch_new();
    for (int round = 0; round < 300; round++) {
        uint8_t row[34] = {0, 0x3c};
        size_t at = lr_rng_below(&rng, K);
        struct lr_kern_rows one = {LR_KERN_Q8_0, row, sizeof row, 1};
        float *x = floats(&rng, K), top = 0, out;
        row[2 + at] = 1;
        for (size_t i = 0; i < K; i++)
            top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        EACH_VARIANT(kern)
        {
            char *act = records(kern, x, K, 1);
            kern->mulq(&one, K, act, 1, &out, 1, scratch);
            REQUIRE(fabsf(out - x[at]) <= top * 1.54e-5f + 3.9e-34f, "%s: %g for %g below %g",
                    kern->name, (double)out, (double)x[at], (double)top);
            free(act);
        }
        free(x);
    }
    free(scratch);
}

static void a_block_that_is_not_finite_makes_sums_nan(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    void *scratch = scratch_new();
    for (size_t i = 0; i < 3 * 64; i++) {
        float x[64] = {1, 2, 3}, out[2];
        uint8_t rows[2][68] = {{0, 0x3c}, {0, 0x3c}};
        struct lr_kern_rows w = {LR_KERN_Q8_0, rows, sizeof rows[0], 2};
        x[i / 3] = bad[i % 3];
        EACH_VARIANT(kern)
        {
            char *act = records(kern, x, 64, 1);
            kern->mulq(&w, 64, act, 1, out, 2, scratch);
            REQUIRE(isnan(out[0]) && isnan(out[1]), "%s: %g", kern->name, (double)out[0]);
            free(act);
        }
    }
    free(scratch);
}

/* FNV-1a, so that this file needs nothing else on a foreign machine. */
static uint64_t digest(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

/* One number for what products, mixes and the rest come to on fixed data, whatever the machine: KV
 * computed on one must equal KV computed on another. No libm in here: its last bits may differ. */
static void all_fused_variants_on_all_machines_agree(void **state)
{
    (void)state;
    enum { N = 40, K = 1536, TOK = 9 };
    struct lr_rng rng;
    void *scratch = scratch_new();
    float *x = floats(NULL, TOK * K), *row = floats(NULL, K), *out = floats(NULL, TOK * K);
    EACH_VARIANT(kern)
    {
        uint64_t h = 0xcbf29ce484222325u;
        lr_rng_seed(&rng, 18);
        for (int t = 0; t < LR_KERN_I4R; t++) {
            size_t bytes = lr_kern_row_bytes((enum lr_kern_type)t, K);
            uint8_t *mem = malloc(N * bytes);
            assert_non_null(mem);
            for (size_t i = 0; i < TOK * K; i++)
                x[i] = (float)(lr_rng_unit(&rng) - 0.5);
            for (size_t r = 0; r < N; r++) {
                for (size_t i = 0; i < K; i++)
                    row[i] = (float)(lr_rng_unit(&rng) - 0.3);
                lr_kern_encode((enum lr_kern_type)t, mem + r * bytes, row, K);
            }
            struct lr_kern_rows w = {(enum lr_kern_type)t, mem, bytes, N};
            kern->mul(&w, K, x, K, TOK, out, N, scratch);
            h = digest(h, out, N * TOK * sizeof *out);
            if (t >= LR_KERN_Q8_0) {
                char *act = records(kern, x, K, TOK);
                kern->mulq(&w, K, act, TOK, out, N, scratch);
                h = digest(h, out, N * TOK * sizeof *out);
                free(act);
            }
            kern->exp(out, N * TOK);
            kern->silu_mul(out, x, x + K, N * TOK);
            h = digest(h, out, N * TOK * sizeof *out);
            memset(out, 0, 2 * K * sizeof *out);
            kern->mix(&w, K, x, N, 2, out, K, scratch);
            kern->hadamard(out, K, 256);
            kern->rope(out, K / 64, 64, 32, false, x);
            h = digest(h, out, 2 * K * sizeof *out);
            free(mem);
        }
        REQUIRE(!kern->fma || h == GOLDEN, "%s: 0x%llx", kern->name, (unsigned long long)h);
    }
    free(x);
    free(row);
    free(out);
    free(scratch);
}

static void no_token_and_no_row_write_nothing(void **state)
{
    (void)state;
    void *scratch = scratch_new();
    float x[64] = {1}, out[2] = {7, 7};
    uint8_t row[34] = {0};
    struct lr_kern_rows none = {LR_KERN_Q8_0, row, 34, 0}, one = {LR_KERN_Q8_0, row, 34, 1};
    EACH_VARIANT(kern)
    {
        kern->mul(&none, 32, x, 32, 1, out, 1, scratch);
        kern->mul(&none, 32, x, 1, 32, out, 1, scratch);
        kern->mul(&one, 32, x, 32, 0, out, 1, scratch);
        kern->mix(&none, 32, x, 1, 0, out, 1, scratch);
        kern->mulq(&none, 32, x, 1, out, 1, scratch);
        assert_true(out[0] == 7 && out[1] == 7);
    }
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_is_what_the_layout_says_on_every_variant),
        cmocka_unit_test(products_are_those_of_doubles),
        cmocka_unit_test(neighbours_change_no_bit_of_a_product),
        cmocka_unit_test(a_product_of_floats_is_dot),
        cmocka_unit_test(the_order_of_sums_is_the_promised_one),
        cmocka_unit_test(mixing_rows_is_one_chain_however_cut),
        cmocka_unit_test(products_in_fixed_point_are_the_promised_ones),
        cmocka_unit_test(neighbours_change_no_bit_of_a_product_in_fixed_point),
        cmocka_unit_test(the_largest_codes_do_not_overflow),
        cmocka_unit_test(tokens_in_fixed_point_are_as_near_as_promised),
        cmocka_unit_test(a_block_that_is_not_finite_makes_sums_nan),
        cmocka_unit_test(all_fused_variants_on_all_machines_agree),
        cmocka_unit_test(no_token_and_no_row_write_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
