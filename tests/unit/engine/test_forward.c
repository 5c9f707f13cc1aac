/* SPDX-License-Identifier: Apache-2.0
 * The engine's logits are those of a twin that is obviously right: one token after another, one head
 * after another, everything in double precision, weights decoded by nn/'s plain decoder.
 */
#include "engine_kit.h"

#define N 40

struct twin {
    const struct lr_nn_gguf *g;
    struct spec s;
    double *k, *v; /* (layer, position, n_kv * d) */
};

/* A tensor's value, element by element: slow and sure. */
static double *weights(const struct twin *t, const char *name)
{
    const struct lr_nn_tensor *x = lr_nn_gguf_tensor(t->g, name);
    if (!x)
        return NULL;
    size_t n = (size_t)(x->ne[0] * x->ne[1]);
    float *f = calloc(n, sizeof *f);
    double *d = calloc(n, sizeof *d);
    OK(lr_nn_decode(x->type, x->data, n, f));
    for (size_t i = 0; i < n; i++)
        d[i] = (double)f[i];
    free(f);
    return d;
}

static double *layer_weights(const struct twin *t, uint32_t layer, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%u.%s", layer, what);
    return weights(t, name);
}

/* out += W x (+ b): frees both. */
static void linear(double *w, double *b, const double *x, uint32_t cols, double *out, uint32_t rows)
{
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < cols; c++)
            out[r] += w[(size_t)r * cols + c] * x[c];
        out[r] += b ? b[r] : 0;
    }
    free(w);
    free(b);
}

static void norm(double *w, const double *x, uint32_t n, double *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    double f = 1 / sqrt(sum / n + 1e-5);
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] * f * w[i];
    free(w);
}

static double wave(const struct spec *s, uint32_t pair, double *attn)
{
    double base = 5000, f = pow(base, -2.0 * pair / s->n_rot);
    *attn = 1;
    if (s->scaling == LINEAR)
        return f / 4;
    if (s->scaling == NO_SCALING)
        return f;
    double pi = 3.14159265358979323846;
    double lo = floor(s->n_rot * log(64 / (32 * 2 * pi)) / (2 * log(base)));
    double hi = ceil(s->n_rot * log(64 / (1 * 2 * pi)) / (2 * log(base)));
    lo = lo < 0 ? 0 : lo;
    hi = hi > s->n_rot - 1 ? s->n_rot - 1 : hi;
    double ramp = (pair - lo) / (hi - lo > 0.001 ? hi - lo : 0.001);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    *attn = 1 + 0.1 * log(4);
    return f / 4 * ramp + f * (1 - ramp);
}

static void rotate(const struct twin *t, double *x, uint32_t heads, uint32_t pos)
{
    const struct spec *s = &t->s;
    bool llama = strcmp(s->arch, "llama") == 0 || strcmp(s->arch, "mistral") == 0;
    double *factors = weights(t, "rope_freqs.weight");
    for (uint32_t h = 0; h < heads; h++, x += s->d_head)
        for (uint32_t p = 0; p < s->n_rot / 2; p++) {
            uint32_t i = llama ? 2 * p : p, j = llama ? 2 * p + 1 : p + s->n_rot / 2;
            struct spec plain = *s;
            double attn, f = wave(&plain, p, &attn) / (factors ? factors[p] : 1);
            double a = x[i], b = x[j], c = cos(pos * f) * attn, e = sin(pos * f) * attn;
            x[i] = a * c - b * e;
            x[j] = a * e + b * c;
        }
    free(factors);
}

static void attend(const struct twin *t, uint32_t layer, const double *q, uint32_t pos, double *out)
{
    const struct spec *s = &t->s;
    uint32_t kv = s->n_kv * s->d_head, d = s->d_head;
    for (uint32_t h = 0; h < s->n_head; h++) {
        double w[N], sum = 0, top = -1e300;
        size_t at = (size_t)layer * N * kv + h / (s->n_head / s->n_kv) * d;
        for (uint32_t j = 0; j <= pos; j++) {
            w[j] = 0;
            for (uint32_t i = 0; i < d; i++)
                w[j] += q[h * d + i] * t->k[at + j * kv + i] / sqrt(d);
            top = w[j] > top ? w[j] : top;
        }
        for (uint32_t j = 0; j <= pos; j++)
            sum += w[j] = exp(w[j] - top);
        for (uint32_t j = 0; j <= pos; j++)
            for (uint32_t i = 0; i < d; i++)
                out[h * d + i] += w[j] / sum * t->v[at + j * kv + i];
    }
}

static void attention(const struct twin *t, uint32_t l, double *x, uint32_t pos)
{
    const struct spec *s = &t->s;
    uint32_t d = s->d_head, nq = s->n_head * d, kv = s->n_kv * d;
    double *xn = calloc(s->n_embd, sizeof *xn), *q = calloc(nq, sizeof *q), *o = calloc(nq, sizeof *o);
    double *k = t->k + ((size_t)l * N + pos) * kv, *v = t->v + ((size_t)l * N + pos) * kv;
    norm(layer_weights(t, l, "attn_norm.weight"), x, s->n_embd, xn);
    linear(layer_weights(t, l, "attn_q.weight"), layer_weights(t, l, "attn_q.bias"), xn, s->n_embd, q,
           nq);
    linear(layer_weights(t, l, "attn_k.weight"), layer_weights(t, l, "attn_k.bias"), xn, s->n_embd, k,
           kv);
    linear(layer_weights(t, l, "attn_v.weight"), layer_weights(t, l, "attn_v.bias"), xn, s->n_embd, v,
           kv);
    for (uint32_t h = 0; is_qwen3(s) && h < s->n_head; h++)
        norm(layer_weights(t, l, "attn_q_norm.weight"), q + h * d, d, q + h * d);
    for (uint32_t h = 0; is_qwen3(s) && h < s->n_kv; h++)
        norm(layer_weights(t, l, "attn_k_norm.weight"), k + h * d, d, k + h * d);
    rotate(t, q, s->n_head, pos);
    rotate(t, k, s->n_kv, pos);
    attend(t, l, q, pos, o);
    linear(layer_weights(t, l, "attn_output.weight"), NULL, o, nq, x, s->n_embd);
    free(xn);
    free(q);
    free(o);
}

static void feed_forward(const struct twin *t, uint32_t l, double *x)
{
    const struct spec *s = &t->s;
    double *xn = calloc(s->n_embd, sizeof *xn);
    double *gate = calloc(s->n_ff, sizeof *gate), *up = calloc(s->n_ff, sizeof *up);
    norm(layer_weights(t, l, "ffn_norm.weight"), x, s->n_embd, xn);
    linear(layer_weights(t, l, "ffn_gate.weight"), NULL, xn, s->n_embd, gate, s->n_ff);
    linear(layer_weights(t, l, "ffn_up.weight"), NULL, xn, s->n_embd, up, s->n_ff);
    for (uint32_t i = 0; i < s->n_ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    linear(layer_weights(t, l, "ffn_down.weight"), NULL, gate, s->n_ff, x, s->n_embd);
    free(xn);
    free(gate);
    free(up);
}

static void twin_token(const struct twin *t, uint32_t token, uint32_t pos, double *logits)
{
    const struct spec *s = &t->s;
    double *x = calloc(s->n_embd, sizeof *x), *e = weights(t, "token_embd.weight");
    memcpy(x, e + (size_t)token * s->n_embd, s->n_embd * sizeof *x);
    for (uint32_t l = 0; l < s->n_layer; l++) {
        attention(t, l, x, pos);
        feed_forward(t, l, x);
    }
    norm(weights(t, "output_norm.weight"), x, s->n_embd, x);
    linear(weights(t, s->tied ? "token_embd.weight" : "output.weight"), NULL, x, s->n_embd, logits,
           s->n_vocab);
    free(x);
    free(e);
}

static void compare(struct spec spec, uint64_t seed)
{
    struct spec s = with_defaults(spec);
    struct lr_engine_model *m = kit_model(s, seed);
    struct lr_engine *e = kit_engine(m, 2, "f32");
    struct lr_engine_seq *seq = kit_seq(e);
    size_t kv = (size_t)s.n_layer * N * s.n_kv * s.d_head;
    struct twin t = {lr_engine_model_file(m), s, calloc(kv, sizeof(double)),
                     calloc(kv, sizeof(double))};
    uint32_t tokens[N];
    float *got = calloc((size_t)N * s.n_vocab, sizeof *got);
    double *want = calloc(s.n_vocab, sizeof *want);
    kit_tokens(tokens, N, s.n_vocab, seed + 1);
    struct lr_engine_work w = {.seq = seq, .tokens = tokens, .n = N, .n_logits = N, .logits = got};
    OK(lr_engine_step(e, &w, 1, &kit_err));
    for (uint32_t i = 0; i < N; i++) {
        memset(want, 0, s.n_vocab * sizeof *want);
        twin_token(&t, tokens[i], i, want);
        for (uint32_t v = 0; v < s.n_vocab; v++)
            if (!(fabs((double)got[i * s.n_vocab + v] - want[v]) < 1e-3))
                fail_msg("%s, type %s, seed %llu: token %u, logit %u is %g, twin %g", s.arch,
                         lr_nn_type_info(s.type)->name, (unsigned long long)seed, i, v,
                         (double)got[i * s.n_vocab + v], want[v]);
    }
    free(t.k);
    free(t.v);
    free(got);
    free(want);
    lr_engine_seq_close(seq);
    lr_engine_close(e);
    lr_engine_model_close(m);
}

static void test_architectures_compute_what_the_twin_computes(void **state)
{
    (void)state;
    static const struct spec all[] = {
        {.arch = "llama"},
        {.arch = "llama", .tied = true, .n_kv = 4, .bias = true},
        {.arch = "llama", .n_kv = 1, .factors = true, .n_rot = 8},
        {.arch = "llama", .scaling = LINEAR},
        {.arch = "llama", .scaling = YARN, .d_head = 32},
        {.arch = "mistral", .n_head = 6, .n_embd = 96, .n_kv = 3},
        {.arch = "qwen2", .bias = true, .tied = true},
        {.arch = "qwen2", .bias = true, .scaling = YARN, .d_head = 32},
        {.arch = "qwen3", .d_head = 32},
        {.arch = "qwen3", .d_head = 32, .n_rot = 20, .n_layer = 3, .n_ff = 37, .n_embd = 52},
    };
    for (size_t i = 0; i < LR_COUNT(all); i++)
        compare(all[i], 100 + i);
}

static void test_weights_of_every_type_compute_what_the_twin_computes(void **state)
{
    (void)state;
    for (unsigned type = LR_NN_F32; type <= LR_NN_Q6_K; type++)
        compare((struct spec){.arch = type % 2 ? "qwen3" : "llama", .type = (enum lr_nn_type)type,
                              .n_embd = 256, .n_ff = 256, .d_head = 64, .n_layer = 1}, 7 + type);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures_compute_what_the_twin_computes),
        cmocka_unit_test(test_weights_of_every_type_compute_what_the_twin_computes),
    };
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
