/* SPDX-License-Identifier: Apache-2.0
 * cli/calc.c - larder calc: users, seconds, tokens a second of a model on a machine (docs/eval.md).
 *
 *   larder calc --model F                       this machine, measured
 *   larder calc --like llama-7b --flops 312T --bw 2T --memory 80G       another, by its sheet
 *   larder calc --check                         predicted against measured, two shapes, within 20 %
 */
#include "cli/flags.h"
#include "eval/eval.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

struct conf {
    const char *model, *like, *type, *dir;
    uint64_t context, rows, threads, memory, batch;
    double flops, bw, link, disk, bits;
    bool json, check;
};

/* ---- one model on one machine ---- */

static int shape_and_machine(const struct conf *c, struct lr_eval_shape *s,
                             struct lr_eval_machine *m, struct lr_err *err)
{
    bool given = c->flops > 0 || c->bw > 0;
    if (given && (!(c->flops > 0) || !(c->bw > 0) || !c->memory))
        return lr_err_set(err, LR_EINVAL, "--flops",
                          "a machine has --flops, --bw and --memory together");
    LR_TRY(c->model ? lr_eval_shape_file(c->model, s, err)
                    : lr_eval_shape_like(lr_strz(c->like), lr_strz(c->type), s, err));
    if (given) {
        lr_eval_machine_given(m, c->flops, c->bw, (double)c->memory, c->link, c->disk);
        return 0;
    }
    LR_TRY(lr_eval_machine_measure(m, s, (unsigned)c->threads, c->dir, err));
    m->memory = c->memory ? (double)c->memory : m->memory;
    m->link = c->link > 0 ? c->link : m->link;
    m->disk = c->disk > 0 ? c->disk : m->disk;
    return 0;
}

static struct lr_eval_load load_of(const struct conf *c, uint64_t context)
{
    return (struct lr_eval_load){.context = (uint32_t)context,
                                 .rows = (uint32_t)c->rows,
                                 .kv_bits = c->bits,
                                 .batch = (uint32_t)c->batch};
}

static const struct {
    const char *name;
    size_t at;
} members[] = {
    {"kv_bytes", offsetof(struct lr_eval_estimate, kv_bytes)},
    {"users", offsetof(struct lr_eval_estimate, users)},
    {"prefill_s", offsetof(struct lr_eval_estimate, prefill_s)},
    {"decode_tps", offsetof(struct lr_eval_estimate, decode_tps)},
    {"batch", offsetof(struct lr_eval_estimate, batch)},
    {"batch_tps", offsetof(struct lr_eval_estimate, batch_tps)},
    {"switch_s", offsetof(struct lr_eval_estimate, switch_s)},
    {"restore_s", offsetof(struct lr_eval_estimate, restore_s)},
};

static void machine_json(struct lr_jw *w, const struct lr_eval_shape *s,
                         const struct lr_eval_machine *m)
{
    const struct {
        const char *name;
        double v;
    } all[] = {{"flops", m->flops},   {"attn_flops", m->attn_flops},
               {"memory", m->memory}, {"kv_bw", m->kv_bw},
               {"link", m->link},     {"disk", m->disk}};
    lr_jw_key(w, "machine");
    lr_jw_obj(w);
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        lr_jw_key(w, all[i].name);
        lr_jw_real(w, all[i].v);
    }
    lr_jw_key(w, "weight_bw");
    lr_jw_obj(w);
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        if (s->read[t] > 0) {
            lr_jw_key(w, lr_kern_type_name((enum lr_kern_type)t));
            lr_jw_real(w, m->weight_bw[t]);
        }
    lr_jw_end(w);
    lr_jw_end(w);
}

static int print_json(const struct conf *c, const struct lr_eval_shape *s,
                      const struct lr_eval_machine *m, const uint64_t *contexts, size_t n)
{
    struct lr_buf b;
    struct lr_jw w;
    lr_buf_init(&b, LR_MIB(1));
    lr_jw_init(&w, &b);
    lr_jw_obj(&w);
    lr_jw_key(&w, "model");
    lr_jw_strz(&w, s->name);
    lr_jw_key(&w, "weights");
    lr_jw_real(&w, s->weights);
    machine_json(&w, s, m);
    lr_jw_key(&w, "contexts");
    lr_jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        struct lr_eval_estimate e;
        const struct lr_eval_load l = load_of(c, contexts[i]);
        lr_eval_estimate(s, m, &l, &e);
        lr_jw_obj(&w);
        lr_jw_key(&w, "context");
        lr_jw_u64(&w, contexts[i]);
        for (size_t k = 0; k < LR_COUNT(members); k++) {
            lr_jw_key(&w, members[k].name);
            lr_jw_real(&w, *(const double *)(const void *)((const char *)&e + members[k].at));
        }
        lr_jw_end(&w);
    }
    lr_jw_end(&w);
    lr_jw_end(&w);
    int rc = b.rc;
    if (!rc)
        printf("%.*s\n", (int)b.len, b.p);
    lr_buf_free(&b);
    return rc;
}

static const char *time_text(double s, char out[16])
{
    if (s <= 0)
        snprintf(out, 16, "-");
    else
        snprintf(out, 16,
                 s < 1e-3 ? "%.0f us"
                 : s < 1  ? "%.1f ms"
                          : "%.1f s",
                 s < 1e-3 ? s * 1e6
                 : s < 1  ? s * 1e3
                          : s);
    return out;
}

static void print_machine(const struct conf *c, const struct lr_eval_shape *s,
                          const struct lr_eval_machine *m)
{
    char a[16], b[16], d[16];
    bool given = c->flops > 0;
    printf("model    %s: %u layers, %u heads on %u of KV, %s of weights\n", s->name, s->n_layer,
           s->n_head, s->n_kv, lr_eval_size(s->weights, a));
    printf("machine  %s: %.3g GFLOP/s, %s of memory, KV at %s/s, link %s/s",
           given ? "as given" : "measured", m->flops / 1e9, lr_eval_size(m->memory, a),
           lr_eval_size(m->kv_bw, b), lr_eval_size(m->link, d));
    if (m->disk > 0)
        printf(", disk %s/s", lr_eval_size(m->disk, a));
    printf("\nweights ");
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        if (s->read[t] > 0)
            printf(" %s %s at %s/s", lr_eval_size(s->read[t], a),
                   lr_kern_type_name((enum lr_kern_type)t), lr_eval_size(m->weight_bw[t], b));
    printf(" a decoded token\n");
    if (c->rows || c->bits > 0)
        printf("policy   %llu rows a table at most (0: all), %g bits an element\n",
               (unsigned long long)c->rows, c->bits > 0 ? c->bits : 16);
}

static void print_table(const struct conf *c, const struct lr_eval_shape *s,
                        const struct lr_eval_machine *m, const uint64_t *contexts, size_t n)
{
    print_machine(c, s, m);
    printf("\n%9s %9s %8s %10s %12s %22s %10s %10s\n", "context", "KV/user", "users", "prefill",
           "decode t/s", "together t/s (users)", "switch", "from disk");
    for (size_t i = 0; i < n; i++) {
        struct lr_eval_estimate e;
        const struct lr_eval_load l = load_of(c, contexts[i]);
        char kv[16], prefill[16], turn[16], disk[16], together[40] = "-";
        lr_eval_estimate(s, m, &l, &e);
        if (e.batch >= 1)
            snprintf(together, sizeof together, "%.0f (%.0f)", e.batch_tps, e.batch);
        printf("%9llu %9s %8.0f %10s %12.1f %22s %10s %10s\n", (unsigned long long)contexts[i],
               lr_eval_size(e.kv_bytes, kv), e.users, time_text(e.prefill_s, prefill), e.decode_tps,
               together, time_text(e.switch_s, turn), time_text(e.restore_s, disk));
    }
    printf("\nusers: that fit beside the weights. switch: one user's KV out and another's in. "
           "prefill: until "
           "the first token.\n");
}

static int calculate(const struct conf *c, struct lr_err *err)
{
    struct lr_eval_shape s;
    struct lr_eval_machine m;
    uint64_t contexts[24];
    size_t n = 0;
    LR_TRY(shape_and_machine(c, &s, &m, err));
    uint64_t most = c->context ? c->context : s.n_ctx;
    for (uint64_t at = 1024; !c->context && at < most && n + 1 < LR_COUNT(contexts); at *= 2)
        contexts[n++] = at;
    contexts[n++] = most;
    if (c->json)
        return print_json(c, &s, &m, contexts, n);
    print_table(c, &s, &m, contexts, n);
    return 0;
}

/* ---- predicted against measured ---- */

#define ROUNDS 5u

/* Measures the machine and the model in turn; of each the best, which neighbours disturbed least. */
static int check_one(const struct conf *c, const char *path, const char *name, uint64_t context,
                     double *ratio, struct lr_err *err)
{
    double predicted[ROUNDS], measured[ROUNDS];
    struct lr_eval_shape s;
    LR_TRY(lr_eval_shape_file(path, &s, err));
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct lr_eval_machine m;
        struct lr_eval_estimate e;
        struct lr_eval_speed speed;
        const struct lr_eval_load l = load_of(c, context);
        const struct lr_eval_bench b = {.model = path,
                                        .prompt = context - 16,
                                        .predict = 32,
                                        .runs = 1,
                                        .threads = (unsigned)c->threads};
        LR_TRY(lr_eval_machine_measure(&m, &s, (unsigned)c->threads, c->dir, err));
        LR_TRY(lr_eval_bench(&b, &speed, err));
        lr_eval_estimate(&s, &m, &l, &e);
        predicted[i] = e.decode_tps;
        measured[i] = speed.decode_tps;
    }
    double p = lr_eval_quantile(predicted, ROUNDS, 1), r = lr_eval_quantile(measured, ROUNDS, 1);
    *ratio = p / r;
    printf(
        "%-22s context %5llu   decode: predicted %7.1f, measured %7.1f tokens/s, ratio %.2f %s\n",
        name, (unsigned long long)context, p, r, *ratio, fabs(*ratio - 1) <= 0.2 ? "pass" : "FAIL");
    return 0;
}

static int check(const struct conf *c, struct lr_err *err)
{
    static const struct {
        const char *like;
        enum lr_nn_type type;
        uint64_t context;
    } all[] = {{"smollm-135m", LR_NN_Q8_0, 512},
               {"smollm-135m", LR_NN_Q8_0, 2048},
               {"llama-1b", LR_NN_Q4_0, 512}};
    bool good = true;
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        char path[4096], name[40];
        double ratio;
        int n = snprintf(path, sizeof path, "%s/larder-check-%d.gguf", c->dir, (int)getpid());
        if (n < 0 || (size_t)n >= sizeof path)
            return lr_err_set(err, LR_EINVAL, "--dir", "the path is too long");
        const struct lr_engine_random r = {
            .like = lr_strz(all[i].like), .type = all[i].type, .seed = 1, .path = path};
        snprintf(name, sizeof name, "%s %s", all[i].like, lr_nn_type_info(all[i].type)->name);
        LR_TRY(lr_engine_random(&r, err));
        int rc = check_one(c, path, name, all[i].context, &ratio, err);
        unlink(path);
        LR_TRY(rc);
        good &= fabs(ratio - 1) <= 0.2;
    }
    return good ? 0 : LR_EOVER;
}

int lr_cmd_calc(struct lr_cli *cli)
{
    struct conf c = {.type = "F16", .dir = "/tmp", .threads = 2};
    const struct lr_flag flags[] = {
        {"--model", "F", LR_FLAG_TEXT, &c.model, 0, 0, "a GGUF file"},
        {"--like", "SHAPE", LR_FLAG_TEXT, &c.like, 0, 0,
         "or a shape: smollm-135m llama-1b llama-7b llama-8b yi-34b llama-70b"},
        {"--type", "T", LR_FLAG_TEXT, &c.type, 0, 0, "of its weights"},
        {"--context", "N", LR_FLAG_COUNT, &c.context, 1, 1 << 28,
         "tokens of a user (several lengths)"},
        {"--rows", "N", LR_FLAG_COUNT, &c.rows, 0, 1 << 28,
         "rows that a policy keeps of them (all)"},
        {"--kv-bits", "X", LR_FLAG_QUANTITY, &c.bits, 0, 32, "bits of an element of a row (16)"},
        {"--batch", "N", LR_FLAG_COUNT, &c.batch, 0, 1 << 20,
         "users decoded together (all that fit)"},
        {"--threads", "N", LR_FLAG_COUNT, &c.threads, 1, LR_ENGINE_THREADS_MAX, "of this machine"},
        {"--flops", "X", LR_FLAG_QUANTITY, &c.flops, 0, 0,
         "another machine: operations a second, 312T"},
        {"--bw", "X", LR_FLAG_QUANTITY, &c.bw, 0, 0, "its memory's bytes a second, 2T"},
        {"--memory", "SIZE", LR_FLAG_SIZE, &c.memory, 0, 0, "its memory, 80G"},
        {"--link", "X", LR_FLAG_QUANTITY, &c.link, 0, 0,
         "bytes a second to where KV gives way, 20G"},
        {"--disk", "X", LR_FLAG_QUANTITY, &c.disk, 0, 0, "bytes a second from disk, 3G"},
        {"--dir", "DIR", LR_FLAG_TEXT, &c.dir, 0, 0, "where files may be written for a moment"},
        {"--check", NULL, LR_FLAG_ON, &c.check, 0, 0,
         "predict and measure two shapes here; some minutes, 1 GB"},
        {"--json", NULL, LR_FLAG_ON, &c.json, 0, 0, "as JSON"},
    };
    const struct lr_manual u = {
        "calc --model F | --like SHAPE | --check  [options]",
        "How many users fit, how long a prompt takes, how fast tokens come, what taking "
        "turns costs.\nWithout --flops and --bw this machine is measured (some seconds).",
        flags, LR_COUNT(flags)};
    int rc = lr_cli_flags(cli, &u);
    if (rc)
        return rc == LR_CLI_HELPED ? 0 : 2;
    struct lr_err err = {0};
    if (!c.check && !c.model && !c.like)
        return lr_cli_missing(cli, "--model or --like");
    rc = c.check ? check(&c, &err) : calculate(&c, &err);
    if (rc && err.code)
        return lr_cli_fail("calc", &err);
    return rc ? 3 : 0;
}
