/* SPDX-License-Identifier: Apache-2.0
 * eval/machine.c - the rates of a machine: given, or measured in some two seconds.
 *
 *   weights   rows of the model's type and width, far more than the caches hold, through the product with
 *             one token, each thread its share: the very kernel that decoding runs
 *   flops     a tile of 256 tokens through rows that stay in the cache
 *   KV        pages of 32 rows of f16 through keys * queries, exp, weights * values
 *   link      memcpy: here KV that gives way goes to other memory
 *   disk      a file written, its pages dropped, read back
 *   layers    a model of the smallest shape decoded by the engine: what a layer takes when its
 *             products take nothing
 *
 * Each figure is the median of a few passes. On a machine that does other things at the same time they are
 * what is left of it.
 */
#include "eval/eval_int.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define PASSES 5u
#define STREAM_BYTES LR_MIB(192) /* beyond the last-level cache of most machines */
#define TILE 256u
#define PAGE 32u

/* ---- threads that do one thing together, once ---- */

struct gang {
    void (*fn)(struct gang *g, unsigned i, void *scratch);
    unsigned n;
    enum lr_kern_type type;
    size_t cols, rows;   /* of a thread's share */
    uint8_t *bytes;      /* (n, rows) */
    size_t row_bytes, share; /* share: bytes of a thread's rows */
    const float *x;      /* (TILE, cols) */
    size_t tokens;
    double seconds;      /* of a pass */
    int rc;
};

struct worker {
    struct gang *g;
    unsigned i;
    pthread_t thread;
    bool started;
    int rc;
};

/* Rows of weights, or of keys, through the product with g->tokens tokens. */
static void products(struct gang *g, unsigned i, void *scratch)
{
    float out[TILE * 64];
    const struct lr_kern *k = lr_kern();
    size_t step = g->tokens > 1 ? 64 : 256;
    for (size_t r = 0; r < g->rows; r += step) {
        struct lr_kern_rows w = {g->type, g->bytes + i * g->share + r * g->row_bytes, g->row_bytes,
                                 g->rows - r < step ? g->rows - r : step};
        k->mul(&w, g->cols, g->x, g->cols, g->tokens, out, step, scratch);
    }
}

/* A page of keys, a page of values: one query group's attention. */
static void attention(struct gang *g, unsigned i, void *scratch)
{
    float score[16 * PAGE], out[16 * 256] = {0};
    const struct lr_kern *k = lr_kern();
    for (size_t r = 0; r + 2 * PAGE <= g->rows; r += 2 * PAGE) {
        const uint8_t *at = g->bytes + i * g->share + r * g->row_bytes;
        struct lr_kern_rows keys = {g->type, at, g->row_bytes, PAGE};
        struct lr_kern_rows values = {g->type, at + PAGE * g->row_bytes, g->row_bytes, PAGE};
        k->mul(&keys, g->cols, g->x, g->cols, g->tokens, score, PAGE, scratch);
        k->exp(score, g->tokens * PAGE);
        k->mix(&values, g->cols, score, PAGE, g->tokens, out, g->cols, scratch);
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    char *raw = lr_alloc(LR_KERN_SCRATCH + LR_KERN_ALIGN);
    w->rc = raw ? 0 : LR_ENOMEM;
    if (raw)
        w->g->fn(w->g, w->i, raw + (LR_KERN_ALIGN - (uintptr_t)raw % LR_KERN_ALIGN) % LR_KERN_ALIGN);
    lr_free(raw);
    return NULL;
}

/* Starting a thread is some 50 us of a pass of tens of milliseconds. */
static int one_pass(struct gang *g, struct worker *w, double *seconds)
{
    uint64_t start = lr_clock_mono_ns();
    int rc = 0;
    for (unsigned i = 0; i < g->n; i++)
        w[i] = (struct worker){.g = g, .i = i};
    for (unsigned i = 1; !rc && i < g->n; i++) {
        rc = lr_thread_start(&w[i].thread, "calc", work, &w[i]);
        w[i].started = !rc;
    }
    if (!rc)
        work(&w[0]);
    for (unsigned i = 0; i < g->n; i++) {
        if (w[i].started)
            pthread_join(w[i].thread, NULL);
        rc = rc ? rc : w[i].rc;
    }
    *seconds = (double)(lr_clock_mono_ns() - start) / 1e9;
    return rc;
}

static int run_gang(struct gang *g)
{
    double took[PASSES + 1]; /* the first does not count: pages, frequencies */
    struct worker *w = lr_calloc(g->n, sizeof *w);
    LR_FAIL_IF(!w, LR_ENOMEM);
    int rc = 0;
    for (unsigned p = 0; !rc && p <= PASSES; p++)
        rc = one_pass(g, w, &took[p]);
    lr_free(w);
    LR_TRY(rc);
    g->seconds = lr_eval_median(took + 1, PASSES);
    return 0;
}

/* ---- what is measured ---- */

/* Fills `rows` rows a thread with one encoded row, over and over: speed does not depend on values. */
static int fill(struct gang *g)
{
    float *row = lr_calloc(g->cols, sizeof *row), *x = lr_calloc(g->cols * TILE, sizeof *x);
    g->row_bytes = lr_kern_row_bytes(g->type, g->cols);
    g->share = g->rows * g->row_bytes;
    g->bytes = lr_alloc(g->share * g->n);
    g->x = x;
    int rc = row && x && g->bytes ? 0 : LR_ENOMEM;
    for (size_t i = 0; !rc && i < g->cols; i++)
        row[i] = (float)((i * 7919) % 1024) / 512 - 1;
    for (size_t i = 0; !rc && i < g->cols * TILE; i++)
        x[i] = (float)((i * 104729) % 1024) / 512 - 1;
    if (!rc)
        lr_kern_encode(g->type, g->bytes, row, g->cols);
    for (size_t r = 1; !rc && r < g->rows * g->n; r++)
        memcpy(g->bytes + r * g->row_bytes, g->bytes, g->row_bytes);
    lr_free(row);
    return rc;
}

static int run_filled(struct gang *g)
{
    int rc = fill(g);
    rc = rc ? rc : run_gang(g);
    lr_free(g->bytes);
    lr_free((void *)(uintptr_t)g->x);
    return rc;
}

/* The width of a model's rows that the type can have. */
static size_t width(const struct lr_eval_shape *s, enum lr_kern_type t)
{
    size_t block = lr_kern_type_block(t), cols = s->n_embd / block * block;
    return cols ? cols : block;
}

static int measure_weights(struct lr_eval_machine *m, const struct lr_eval_shape *s, enum lr_kern_type t)
{
    struct gang g = {.fn = products, .n = m->threads, .type = t, .cols = width(s, t), .tokens = 1};
    g.rows = STREAM_BYTES / m->threads / lr_kern_row_bytes(t, g.cols);
    LR_TRY(run_filled(&g));
    m->weight_bw[t] = (double)(g.share * g.n) / g.seconds;
    return 0;
}

static int measure_flops(struct lr_eval_machine *m, const struct lr_eval_shape *s)
{
    int type = LR_KERN_F32;
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        type = s->read[t] > s->read[type] ? t : type;
    struct gang g = {.fn = products, .n = m->threads, .type = (enum lr_kern_type)type, .rows = 1024,
                     .cols = width(s, (enum lr_kern_type)type), .tokens = TILE};
    LR_TRY(run_filled(&g));
    m->flops = 2.0 * (double)(g.rows * g.n * g.cols * g.tokens) / g.seconds;
    return 0;
}

static int measure_kv(struct lr_eval_machine *m, const struct lr_eval_shape *s)
{
    size_t group = s->n_head / s->n_kv, d = s->d_head < 256 ? s->d_head : 256;
    struct gang g = {.fn = attention, .n = m->threads, .type = LR_KERN_F16, .cols = d,
                     .tokens = group < 16 ? group : 16};
    g.rows = STREAM_BYTES / m->threads / lr_kern_row_bytes(LR_KERN_F16, d) / (2 * PAGE) * (2 * PAGE);
    LR_TRY(run_filled(&g));
    m->kv_bw = (double)(g.share * g.n) / g.seconds;
    g.rows = 4096; /* in the cache, many queries: what attention of a prefill does */
    g.tokens = 16;
    LR_TRY(run_filled(&g));
    m->attn_flops = 2.0 * (double)(g.rows * g.n * g.cols * g.tokens) / g.seconds;
    return 0;
}

static int measure_copy(struct lr_eval_machine *m)
{
    char *a = lr_calloc(STREAM_BYTES, 1), *b = lr_calloc(STREAM_BYTES, 1);
    double took[PASSES];
    int rc = a && b ? 0 : LR_ENOMEM;
    for (unsigned p = 0; !rc && p < PASSES; p++) {
        uint64_t start = lr_clock_mono_ns();
        memcpy(p % 2 ? a : b, p % 2 ? b : a, STREAM_BYTES);
        took[p] = (double)(lr_clock_mono_ns() - start) / 1e9;
    }
    lr_free(a);
    lr_free(b);
    LR_TRY(rc);
    m->link = (double)STREAM_BYTES / lr_eval_median(took, PASSES);
    return 0;
}

static int read_back(int fd, char *buf, size_t piece, double *rate)
{
    size_t total = LR_MIB(64);
    memset(buf, 7, piece);
    for (size_t at = 0; at < total; at += piece)
        LR_TRY(lr_io_pwrite(fd, buf, piece, at));
    LR_TRY(lr_io_fsync(fd));
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* a hint: where it is ignored RAM is measured */
    uint64_t start = lr_clock_mono_ns();
    for (size_t at = 0; at < total; at += piece)
        LR_TRY(lr_io_pread(fd, buf, piece, at));
    *rate = (double)total * 1e9 / (double)(lr_clock_mono_ns() - start);
    return 0;
}

/* A place where a file may be for a moment. */
static int temporary(const char *dir, const char *name, char *path, size_t cap, struct lr_err *err)
{
    int n = snprintf(path, cap, "%s/%s.%d", dir, name, (int)getpid());
    return n < 0 || (size_t)n >= cap ? lr_err_set(err, LR_EINVAL, "--dir", "the path is too long") : 0;
}

static int measure_disk(struct lr_eval_machine *m, const char *dir, struct lr_err *err)
{
    char path[4096], *buf = lr_alloc(LR_MIB(1));
    int fd;
    if (!buf)
        return lr_err_set(err, LR_ENOMEM, "calc", "out of memory");
    int rc = temporary(dir, "larder-calc", path, sizeof path, err);
    rc = rc ? rc : lr_io_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd);
    if (!rc) {
        unlink(path); /* gone when it is closed, whatever happens */
        rc = read_back(fd, buf, LR_MIB(1), &m->disk);
        lr_io_close(fd);
    }
    lr_free(buf);
    return rc ? lr_err_set(err, rc, "--dir", "%s: %s", path, lr_strerror(rc)) : 0;
}

/* What a layer of the smallest shape takes beyond its products. */
static int measure_layer(struct lr_eval_machine *m, const char *dir, struct lr_err *err)
{
    char path[4096];
    struct lr_eval_speed speed;
    LR_TRY(temporary(dir, "larder-calc-nano", path, sizeof path, err));
    const struct lr_engine_random r = {.like = LR_STR("nano"), .type = LR_NN_F32, .seed = 1, .path = path};
    const struct lr_eval_bench b = {.model = path, .prompt = 16, .predict = 200, .runs = 3,
                                    .threads = m->threads};
    LR_TRY(lr_engine_random(&r, err));
    int rc = lr_eval_bench(&b, &speed, err);
    unlink(path);
    LR_TRY(rc);
    m->layer_s = 1 / speed.decode_tps / 3; /* two layers, and what stands around them as a third */
    return 0;
}

int lr_eval_machine_measure(struct lr_eval_machine *out, const struct lr_eval_shape *s, unsigned threads,
                            const char *dir, struct lr_err *err)
{
    struct lr_eval_machine m = {.threads = threads, .row_extra = 12};
    struct sysinfo info;
    if (!threads || threads > LR_ENGINE_THREADS_MAX)
        return lr_err_set(err, LR_EINVAL, "--threads", "1 to %u", LR_ENGINE_THREADS_MAX);
    m.memory = sysinfo(&info) ? 0 : (double)info.totalram * info.mem_unit;
    int rc = 0;
    for (int t = 0; !rc && t < LR_KERN_N_TYPES; t++)
        if (s->read[t] > 0)
            rc = measure_weights(&m, s, (enum lr_kern_type)t);
    rc = rc ? rc : measure_flops(&m, s);
    rc = rc ? rc : measure_kv(&m, s);
    rc = rc ? rc : measure_copy(&m);
    if (rc)
        return lr_err_set(err, rc, "calc", "%s", lr_strerror(rc));
    if (dir) {
        LR_TRY(measure_layer(&m, dir, err));
        LR_TRY(measure_disk(&m, dir, err));
    }
    *out = m;
    return 0;
}

void lr_eval_machine_given(struct lr_eval_machine *m, double flops, double bw, double memory, double link,
                           double disk)
{
    *m = (struct lr_eval_machine){.flops = flops, .attn_flops = flops, .memory = memory, .kv_bw = bw,
                                  .link = link, .disk = disk, .threads = 1};
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        m->weight_bw[t] = bw;
}
