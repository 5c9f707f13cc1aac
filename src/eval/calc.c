/* SPDX-License-Identifier: Apache-2.0
 * eval/calc.c - how many users fit, how long they wait, how fast they are answered, what it costs
 * to take turns: from a model's shape and a machine's rates.
 *
 *   users     (memory - weights) / KV of a user
 *   prefill   (2 * macs * n) / flops + (2 * n^2 * heads * head * layers) / attention's flops
 *   decode    weights read / their rate + KV read / its rate, as far as heads keep threads busy
 *   together  weights once for all (or their products, when those take longer), KV for each
 *   switch    2 * KV / link: one user's rows out, another's in
 *
 * The four quantities and their bounds are those of Fu, "Challenges in Deploying Long-Context
 * Transformers" (2024): concurrency by memory, prefill by arithmetic, decoding by bandwidth,
 * context switching by the link. Deviations: rates of products are measured with the kernels that
 * will run them, by weight type, where the machine is this one, because on a CPU a decoded token is
 * often held up by unpacking, not by memory; and a causal prefill does half of the n^2 (the paper
 * counts all of it).
 *
 * What it leaves out: queues, scheduling, the sampler, tokenising. Estimates of decoding hold
 * within 20 % here (larder calc --check); those for other machines are as good as the numbers
 * given.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdio.h>

/* Public shapes: head dimension n_embd / n_head. */
static const struct like {
    const char *name;
    uint32_t n_layer, n_embd, n_head, n_kv, n_ff, n_vocab, n_ctx;
    bool tied;
} likes[] = {
    {"nano", 2, 64, 4, 2, 128, 512, 512, false},
    {"smollm-135m", 30, 576, 9, 3, 1536, 49152, 8192, true},
    {"llama-1b", 16, 2048, 32, 8, 8192, 128256, 131072, true},
    {"llama-7b", 32, 4096, 32, 32, 11008, 32000, 4096, false},
    {"llama-8b", 32, 4096, 32, 8, 14336, 128256, 131072, false},
    {"yi-34b", 60, 7168, 56, 8, 20480, 64000, 204800, false},
    {"llama-70b", 80, 8192, 64, 8, 28672, 128256, 131072, false},
};

static double bytes_of(enum lr_kern_type t, double elements)
{
    double block = (double)lr_kern_type_block(t);
    return elements / block * (double)lr_kern_row_bytes(t, lr_kern_type_block(t));
}

int lr_eval_shape_like(struct lr_str like, struct lr_str type, struct lr_eval_shape *out,
                       struct lr_err *err)
{
    const struct like *l = NULL;
    char names[160] = "";
    int t = lr_kern_type_find(type);
    size_t at = 0;
    for (size_t i = 0; i < LR_COUNT(likes); i++) {
        l = lr_str_is(like, likes[i].name) ? &likes[i] : l;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", likes[i].name);
    }
    if (!l)
        return lr_err_set(err, LR_ENOENT, "--like", "no shape '%.*s' (%s)", LR_FMT(like), names);
    if (t < 0 || t == LR_KERN_I4R)
        return lr_err_set(err, LR_ENOENT, "--type", "no type '%.*s'", LR_FMT(type));
    struct lr_eval_shape s = {.n_layer = l->n_layer,
                              .n_embd = l->n_embd,
                              .n_head = l->n_head,
                              .n_kv = l->n_kv,
                              .d_head = l->n_embd / l->n_head,
                              .n_ff = l->n_ff,
                              .n_vocab = l->n_vocab,
                              .n_ctx = l->n_ctx};
    double kv = (double)s.n_kv * s.d_head, embd = s.n_embd;
    snprintf(s.name, sizeof s.name, "%s %s", l->name, lr_kern_type_name((enum lr_kern_type)t));
    s.macs = l->n_layer * (2 * embd * embd + 2 * embd * kv + 3 * embd * l->n_ff);
    s.out_macs = embd * l->n_vocab;
    s.read[t] = bytes_of((enum lr_kern_type)t, s.macs + s.out_macs);
    s.weights = s.read[t] + (l->tied ? 0 : bytes_of((enum lr_kern_type)t, s.out_macs));
    *out = s;
    return 0;
}

/* Adds a matrix of a file. */
static void add_tensor(struct lr_eval_shape *s, const struct lr_nn_tensor *t, bool tied)
{
    int type = lr_kern_type_find(lr_strz(lr_nn_type_info(t->type)->name));
    bool embd = lr_str_is(t->name, "token_embd.weight"), out = lr_str_is(t->name, "output.weight");
    s->weights += (double)t->bytes;
    if (t->dims != 2 || type < 0 || (embd && !tied))
        return;
    double macs = (double)t->ne[0] * (double)t->ne[1];
    s->read[type] += (double)t->bytes;
    s->macs += embd || out ? 0 : macs;
    s->out_macs += embd || out ? macs : 0;
}

int lr_eval_shape_file(const char *path, struct lr_eval_shape *out, struct lr_err *err)
{
    struct lr_engine_model *m;
    LR_TRY(lr_eval_open_model(&m, path, err));
    const struct lr_engine_shape *h = lr_engine_model_shape(m);
    const struct lr_nn_gguf *g = lr_engine_model_file(m);
    const char *slash = strrchr(path, '/');
    struct lr_eval_shape s = {.n_layer = h->n_layer,
                              .n_embd = h->n_embd,
                              .n_head = h->n_head,
                              .n_kv = h->n_kv,
                              .d_head = h->d_head,
                              .n_ff = h->n_ff,
                              .n_vocab = h->n_vocab,
                              .n_ctx = h->n_ctx};
    snprintf(s.name, sizeof s.name, "%s", slash ? slash + 1 : path);
    for (size_t i = 0; i < lr_nn_gguf_tensors(g); i++)
        add_tensor(&s, lr_nn_gguf_at(g, i), h->tied);
    lr_engine_model_close(m);
    *out = s;
    return 0;
}

/* ---- estimates ---- */

static double kv_bytes(const struct lr_eval_shape *s, const struct lr_eval_machine *m,
                       const struct lr_eval_load *l)
{
    double bits = l->kv_bits > 0 ? l->kv_bits : 16;
    double rows = l->rows && l->rows < l->context ? l->rows : l->context;
    return rows * s->n_layer * s->n_kv * (2 * s->d_head * bits / 8 + m->row_extra);
}

#define SPAN_ROWS 1024.0 /* rows of a head that one thread goes through (engine/attn.c) */

/* Attention is dealt out by heads and spans: three heads on two threads take as long as four. */
static double idle_threads(const struct lr_eval_shape *s, const struct lr_eval_machine *m,
                           const struct lr_eval_load *l, double batch)
{
    double rows = l->rows && l->rows < l->context ? l->rows : l->context;
    double jobs = batch * s->n_kv * ceil(rows / SPAN_ROWS);
    return ceil(jobs / m->threads) * m->threads / jobs;
}

/* Seconds of one step of `batch` users. */
static double step_s(const struct lr_eval_shape *s, const struct lr_eval_machine *m,
                     const struct lr_eval_load *l, double kv, double batch)
{
    double weights = 0, products = batch > 1 ? 2 * batch * (s->macs + s->out_macs) / m->flops : 0;
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        weights += s->read[t] > 0 ? s->read[t] / m->weight_bw[t] : 0;
    return fmax(weights, products) + batch * kv / m->kv_bw * idle_threads(s, m, l, batch);
}

void lr_eval_estimate(const struct lr_eval_shape *s, const struct lr_eval_machine *m,
                      const struct lr_eval_load *l, struct lr_eval_estimate *out)
{
    double n = l->context, kv = kv_bytes(s, m, l), left = m->memory - s->weights;
    struct lr_eval_estimate e = {.kv_bytes = kv, .users = left > 0 ? floor(left / kv) : 0};
    e.prefill_s = (2 * s->macs * n + 2 * s->out_macs) / m->flops +
                  2 * n * n * s->n_head * s->d_head * s->n_layer / m->attn_flops;
    e.decode_tps = 1 / step_s(s, m, l, kv, 1);
    e.batch = l->batch ? fmin(l->batch, e.users) : e.users;
    e.batch_tps = e.batch >= 1 ? e.batch / step_s(s, m, l, kv, e.batch) : 0;
    e.switch_s = m->link > 0 ? 2 * kv / m->link : 0;
    e.restore_s = m->disk > 0 ? kv / m->disk : 0;
    *out = e;
}
