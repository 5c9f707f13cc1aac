/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/kern/test_mul.c - rows of every type: decoding against a twin that reads the layout
 * element by element, products against sums in double, and the contract that neighbours never
 * matter.
 */
#include "kern_kit.h"

#define GOLDEN                                                                                     \
    0xfd3d0ef3fa54c3c2u /* of all_fused_variants_on_all_machines_agree; changes with the contract  \
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

/* mulq: against the exact product with the activations as act_q8 rounded them. */
static void check_mulq(const struct lr_kern *kern, const struct rows *r, const float *x,
                       size_t n_tok, void *scratch)
{
    size_t record = lr_kern_act_bytes(r->k), n = r->w.n;
    char *act = malloc(record * n_tok);
    float *out = floats(NULL, n * n_tok), *y = floats(NULL, r->k), alone;
    assert_non_null(act);
    for (size_t t = 0; t < n_tok; t++)
        kern->act_q8(act + t * record, x + t * r->k, r->k);
    kern->mulq(&r->w, r->k, act, n_tok, out, n, scratch);
    for (size_t t = 0; t < n_tok; t++) {
        const float *d = (const float *)(const void *)(act + t * record);
        const int8_t *q = (const int8_t *)(d + r->k / 16);
        for (size_t i = 0; i < r->k; i++) {
            y[i] = d[i / 32] * (float)q[i];
            float off = fabsf(y[i] - x[t * r->k + i]);
            REQUIRE(off <= d[i / 32] * 0.5001f + 1e-37f, "%s act: off by %g", kern->name,
                    (double)off);
        }
        for (size_t i = 0; i < n; i++) {
            double size, want = exact(r, i, y, &size), got = out[t * n + i];
            /* with an offset the two parts may each be larger than their difference */
            double room = size * 0x1p-24 * 64 + 1e-30;
            if (r->w.type == LR_KERN_Q4_1 || r->w.type >= LR_KERN_Q5_1)
                room *= 64;
            REQUIRE(fabs(got - want) <= room, "%s %s k %zu: %g, not %g +- %g", kern->name,
                    lr_kern_type_name(r->w.type), r->k, got, want, room);
            struct lr_kern_rows one = {r->w.type, row_at(r, i), r->w.stride, 1};
            kern->mulq(&one, r->k, act + t * record, 1, &alone, 1, scratch);
            REQUIRE(same(&alone, &out[t * n + i], sizeof alone), "%s: a neighbour mattered",
                    kern->name);
        }
    }
    free(act);
    free(out);
    free(y);
}

static void products_of_codes_are_exact_but_for_the_sum(void **state)
{
    (void)state;
    struct lr_rng rng;
    lr_rng_seed(&rng, 17);
    void *scratch = scratch_new();
    for (int t = LR_KERN_Q8_0; t < LR_KERN_N_TYPES; t++)
        for (int round = 0; round < 3; round++) {
            size_t k = length(&rng, (enum lr_kern_type)t), n = 1 + lr_rng_below(&rng, 5);
            size_t n_tok = 1 + lr_rng_below(&rng, 4);
            struct rows r = rows_new(&rng, (enum lr_kern_type)t, k, n);
            float *x = floats(&rng, n_tok * k);
            EACH_VARIANT(kern)
            check_mulq(kern, &r, x, n_tok, scratch);
            free(x);
            free(r.mem);
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
        cmocka_unit_test(products_of_codes_are_exact_but_for_the_sum),
        cmocka_unit_test(all_fused_variants_on_all_machines_agree),
        cmocka_unit_test(no_token_and_no_row_write_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
