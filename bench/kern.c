/* SPDX-License-Identifier: Apache-2.0
 * bench/kern.c - speed of the kernels, variant by variant; one JSON line a result.
 *
 *   bench_kern [--variant NAME] [--only TEXT] [--threads N] [--runs N] [--mib N]
 *
 *   read, copy   what memory gives: plain reads of, and memcpy within, a buffer of --mib (96)
 *   mul-1        one token over --mib of weights, k = 2048: GB/s of weights; compare with read
 *   mul-24, -256 24 and 256 tokens, shapes of a 135M model (576 x 1536) and a 1B model (2048 x
 *                5632): GFLOP/s
 *   mulq-*       the same with tokens in fixed point
 *   keys, mix    attention: 3 queries over 8192 rows of 64 in pieces of 32, heads enough for --mib
 *   the rest     on rows that stay in the first-level cache, one thread
 *
 * Each line is the median of --runs (7) runs of some 50 ms, and the spread, largest minus smallest.
 * Threads split the rows evenly and start together; a run lasts until the last one is done.
 *
 * The numbers that decided the design are quoted in kern/body_mul.h.
 */
#include "kern/kern.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS_MAX    99
#define THREADS_MAX 64

struct conf {
    const char *variant, *only;
    size_t threads, runs, mib;
};

struct job;
typedef void (*work_fn)(const struct job *, size_t part, size_t parts);

struct job {
    const struct lr_kern *k;
    struct lr_kern_rows w;
    size_t dim, n_tok, loops;
    float *x, *out;
    void *act;
    char *mem;
    size_t mem_bytes;
    work_fn fn;
};

struct worker {
    pthread_t thread;
    const struct job *job;
    size_t part, parts;
};

static struct conf conf = {.threads = 1, .runs = 7, .mib = 96};
static volatile float sink;

static void *aligned(size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, LR_KERN_ALIGN, n ? n : 1) != 0) {
        fprintf(stderr, "bench_kern: out of memory\n");
        exit(1);
    }
    return p;
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    w->job->fn(w->job, w->part, w->parts);
    return NULL;
}

static double run_once(const struct job *job, size_t threads)
{
    struct worker w[THREADS_MAX];
    uint64_t start = lr_clock_mono_ns();
    for (size_t i = 1; i < threads; i++) {
        w[i] = (struct worker){.job = job, .part = i, .parts = threads};
        if (pthread_create(&w[i].thread, NULL, run_worker, &w[i]) != 0)
            exit(1);
    }
    job->fn(job, 0, threads);
    for (size_t i = 1; i < threads; i++)
        pthread_join(w[i].thread, NULL);
    return (double)(lr_clock_mono_ns() - start) * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* amount: bytes or operations of one loop, over all threads. */
static void report(struct job *job, const char *kernel, const char *type, double amount,
                   const char *unit, size_t threads)
{
    double rate[RUNS_MAX];
    if (conf.only && !strstr(kernel, conf.only))
        return;
    job->loops = 1;
    run_once(job, threads); /* page in, warm up */
    double once = run_once(job, threads);
    job->loops = once < 0.05 ? (size_t)(0.05 / once) + 1 : 1;
    for (size_t i = 0; i < conf.runs; i++)
        rate[i] = amount * (double)job->loops / run_once(job, threads) * 1e-9;
    qsort(rate, conf.runs, sizeof *rate, by_value);
    printf("{\"kernel\":\"%s\",\"type\":\"%s\",\"variant\":\"%s\",\"k\":%zu,\"threads\":%zu,"
           "\"unit\":\"%s\",\"median\":%.2f,\"spread\":%.2f}\n",
           kernel, type, job->k->name, job->dim, threads, unit, rate[conf.runs / 2],
           rate[conf.runs - 1] - rate[0]);
    fflush(stdout);
}

static void share(size_t n, size_t part, size_t parts, size_t *from, size_t *to)
{
    *from = n * part / parts;
    *to = n * (part + 1) / parts;
}

static void do_read(const struct job *j, size_t part, size_t parts)
{
    size_t from, to;
    share(j->mem_bytes / 64, part, parts, &from, &to);
    for (size_t l = 0; l < j->loops; l++) {
        uint64_t s[8] = {0};
        const uint64_t *p = (const uint64_t *)(const void *)(j->mem + from * 64);
        for (size_t i = 0; i < (to - from) * 8; i += 8)
            for (size_t u = 0; u < 8; u++)
                s[u] ^= p[i + u];
        sink = (float)(s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7]);
    }
}

static void do_copy(const struct job *j, size_t part, size_t parts)
{
    size_t from, to, half = j->mem_bytes / 2;
    share(half, part, parts, &from, &to);
    for (size_t l = 0; l < j->loops; l++)
        memcpy(j->mem + half + from, j->mem + from, to - from);
}

static void do_mul(const struct job *j, size_t part, size_t parts)
{
    size_t from, to;
    share(j->w.n, part, parts, &from, &to);
    struct lr_kern_rows w = j->w;
    w.p = (const char *)w.p + from * w.stride;
    w.n = to - from;
    void *scratch = aligned(LR_KERN_SCRATCH);
    for (size_t l = 0; l < j->loops; l++)
        j->k->mul(&w, j->dim, j->x, j->dim, j->n_tok, j->out + from, j->w.n, scratch);
    free(scratch);
}

static void do_mulq(const struct job *j, size_t part, size_t parts)
{
    size_t from, to;
    share(j->w.n, part, parts, &from, &to);
    struct lr_kern_rows w = j->w;
    w.p = (const char *)w.p + from * w.stride;
    w.n = to - from;
    void *scratch = aligned(LR_KERN_SCRATCH);
    for (size_t l = 0; l < j->loops; l++)
        j->k->mulq(&w, j->dim, j->act, j->n_tok, j->out + from, j->w.n, scratch);
    free(scratch);
}

/* Rows in pieces of 32, as attention finds them in pages; every 8192 rows are another head. */
static void do_attend(const struct job *j, size_t part, size_t parts, bool keys)
{
    size_t from, to;
    share(j->w.n / 32, part, parts, &from, &to);
    void *scratch = aligned(LR_KERN_SCRATCH);
    float *score = aligned(32 * 8 * sizeof *score), *out = aligned(8 * j->dim * sizeof *out);
    memset(score, 0, 32 * 8 * sizeof *score);
    memset(out, 0, 8 * j->dim * sizeof *out);
    struct lr_kern_rows w = j->w;
    w.n = 32;
    for (size_t l = 0; l < j->loops; l++)
        for (size_t p = from; p < to; p++) {
            w.p = (const char *)j->w.p + p * 32 * w.stride;
            if (keys)
                j->k->mul(&w, j->dim, j->x, j->dim, j->n_tok, score, 32, scratch);
            else
                j->k->mix(&w, j->dim, score, 32, j->n_tok, out, j->dim, scratch);
        }
    free(scratch);
    free(score);
    free(out);
}

static void do_keys(const struct job *j, size_t part, size_t parts)
{
    do_attend(j, part, parts, true);
}

static void do_mix(const struct job *j, size_t part, size_t parts)
{
    do_attend(j, part, parts, false);
}

#define ROW 1024
#define SMALL(name, call)                                                                          \
    static void do_##name(const struct job *j, size_t part, size_t parts)                          \
    {                                                                                              \
        float *x = j->x, *y = j->out;                                                              \
        (void)part;                                                                                \
        (void)parts;                                                                               \
        for (size_t l = 0; l < j->loops; l++)                                                      \
            for (size_t i = 0; i < 1000; i++) {                                                    \
                call;                                                                              \
            }                                                                                      \
        sink = x[0] + y[0];                                                                        \
    }
SMALL(dot, sink = j->k->dot(x, y, ROW))
SMALL(dot_i8, sink = (float)j->k->dot_i8((const int8_t *)j->mem, (const int8_t *)j->mem + ROW, ROW))
SMALL(hamming, sink = (float)j->k->hamming(j->mem, j->mem + ROW, ROW))
SMALL(f16, j->k->f32_to_f16((uint16_t *)(void *)j->mem, x, ROW))
SMALL(exp, memset(y, 0, ROW * sizeof *y); j->k->exp(y, ROW))
SMALL(silu_mul, j->k->silu_mul(y, x, x, ROW))
SMALL(rmsnorm, j->k->rmsnorm(y, x, x, ROW, 1e-5f))
SMALL(softmax, struct lr_kern_softmax s = LR_KERN_SOFTMAX_INIT; memcpy(y, x, ROW * sizeof *y);
      sink = j->k->softmax_push(&s, y, ROW))
SMALL(hadamard, j->k->hadamard(y, ROW, 64))
SMALL(rope, j->k->rope(y, ROW / 64, 64, 64, false, x))
SMALL(act_q16, j->k->act_q16(j->act, x, ROW))
SMALL(topk, sink = (float)lr_kern_topk(x, ROW, 64, (uint32_t *)(void *)j->mem))

static void bench_rows(struct job *j)
{
    static const struct {
        const char *name;
        work_fn fn;
    } all[] = {{"dot", do_dot},         {"dot_i8", do_dot_i8},   {"hamming", do_hamming},
               {"f32_to_f16", do_f16},  {"exp", do_exp},         {"silu_mul", do_silu_mul},
               {"rmsnorm", do_rmsnorm}, {"softmax", do_softmax}, {"hadamard", do_hadamard},
               {"rope", do_rope},       {"act_q16", do_act_q16},   {"topk", do_topk}};
    j->dim = ROW;
    for (size_t i = 0; i < ROW; i++)
        j->out[i] = j->x[i];
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        j->fn = all[i].fn;
        report(j, all[i].name, "-", 1000.0 * ROW, "Gelement/s", 1);
    }
}

static void bench_shape(struct job *j, enum lr_kern_type type, size_t k, size_t n, size_t n_tok)
{
    char name[32];
    size_t bytes = lr_kern_row_bytes(type, k);
    j->dim = k;
    j->n_tok = n_tok;
    j->w = (struct lr_kern_rows){type, j->mem, bytes, n};
    for (size_t t = 0; t < n_tok && type > LR_KERN_BF16; t++)
        j->k->act_q16((char *)j->act + t * lr_kern_act_bytes(k), j->x + t * k, k);
    double amount = n_tok == 1 ? (double)(bytes * n) : 2.0 * (double)(n * k * n_tok);
    for (int q = 0; q < (type > LR_KERN_BF16 ? 2 : 1); q++) {
        snprintf(name, sizeof name, "%s-%zu", q ? "mulq" : "mul", n_tok);
        j->fn = q ? do_mulq : do_mul;
        report(j, name, lr_kern_type_name(type), amount, n_tok == 1 ? "GB/s" : "GFLOP/s",
               conf.threads);
    }
}

static void bench_type(struct job *j, enum lr_kern_type type, struct lr_rng *rng)
{
    size_t k = 2048, bytes = lr_kern_row_bytes(type, k), n = j->mem_bytes / bytes;
    float *row = aligned(k * sizeof *row);
    for (size_t i = 0; i < k; i++)
        row[i] = (float)lr_rng_unit(rng) - 0.5f;
    for (size_t r = 0; r < n; r++)
        if (r == 0)
            lr_kern_encode(type, j->mem, row, k);
        else
            memcpy(j->mem + r * bytes, j->mem, bytes);
    free(row);
    bench_shape(j, type, k, n, 1);
    if (type == LR_KERN_Q4_K || type == LR_KERN_F32 || type == LR_KERN_Q8_0) {
        bench_shape(j, type, k, 5632, 24);
        bench_shape(j, type, k, 5632, 256);
    }
    if (lr_kern_row_bytes(type, 576)) { /* K types need 256: the 135M shape mixes in others */
        bench_shape(j, type, 576, 1536, 256);
        bench_shape(j, type, 1536, 576, 256);
    }
}

static void bench_attention(struct job *j, enum lr_kern_type type)
{
    size_t bytes = lr_kern_row_bytes(type, 64);
    j->dim = 64;
    j->n_tok = 3;
    memset(j->mem, 0, j->mem_bytes);
    j->w = (struct lr_kern_rows){type, j->mem, bytes, j->mem_bytes / bytes / 32 * 32};
    j->fn = do_keys;
    report(j, "keys", lr_kern_type_name(type), (double)(bytes * j->w.n), "GB/s", conf.threads);
    j->fn = do_mix;
    report(j, "mix", lr_kern_type_name(type), (double)(bytes * j->w.n), "GB/s", conf.threads);
}

static void bench_variant(struct job *j, const struct lr_kern *k)
{
    struct lr_rng rng;
    lr_rng_seed(&rng, 7);
    j->k = k;
    for (size_t i = 0; i < 256 * 2048; i++)
        j->x[i] = (float)lr_rng_unit(&rng) - 0.5f;
    bench_rows(j);
    for (int t = 0; t < LR_KERN_I4R; t++)
        bench_type(j, (enum lr_kern_type)t, &rng);
    bench_attention(j, LR_KERN_F32);
    bench_attention(j, LR_KERN_F16);
    bench_attention(j, LR_KERN_Q8_0);
    bench_attention(j, LR_KERN_I4R);
}

static size_t number(const char *text, size_t max)
{
    unsigned long n = text ? strtoul(text, NULL, 10) : 0;
    if (!n || n > max) {
        fprintf(stderr, "bench_kern: a number from 1 to %zu, please\n", max);
        exit(2);
    }
    return n;
}

static void read_args(char **argv)
{
    for (argv++; *argv; argv += 2) {
        if (strcmp(*argv, "--variant") == 0 && argv[1])
            conf.variant = argv[1];
        else if (strcmp(*argv, "--only") == 0 && argv[1])
            conf.only = argv[1];
        else if (strcmp(*argv, "--threads") == 0)
            conf.threads = number(argv[1], THREADS_MAX);
        else if (strcmp(*argv, "--runs") == 0)
            conf.runs = number(argv[1], RUNS_MAX);
        else if (strcmp(*argv, "--mib") == 0)
            conf.mib = number(argv[1], 16384);
        else {
            fprintf(stderr, "usage: see the head of bench/kern.c\n");
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    read_args(argv);
    struct job j = {.k = lr_kern(), .mem_bytes = LR_MIB(conf.mib < 48 ? 48 : conf.mib)};
    j.mem = aligned(j.mem_bytes);
    j.x = aligned(256 * 2048 * sizeof *j.x);
    j.act = aligned(256 * lr_kern_act_bytes(2048));
    j.out = aligned(LR_MIB(64));
    memset(j.mem, 1, j.mem_bytes);
    memset(j.out, 0, LR_MIB(64));
    j.fn = do_read;
    report(&j, "read", "-", (double)j.mem_bytes, "GB/s", conf.threads);
    j.fn = do_copy;
    report(&j, "copy", "-", (double)j.mem_bytes, "GB/s", conf.threads);
    for (size_t i = 0; lr_kern_variant(i); i++)
        if (!conf.variant || strcmp(conf.variant, lr_kern_variant(i)->name) == 0)
            bench_variant(&j, lr_kern_variant(i));
    return 0;
}
