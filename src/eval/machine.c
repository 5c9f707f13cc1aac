/* SPDX-License-Identifier: Apache-2.0
 * eval/machine.c - the rates of a machine: given, or measured in some two seconds.
 *
 *   weights   the matrices of the model's layers, of its types and widths, through the product
 *             with one token, as decoding walks them: each thread takes chunks of a share of its
 *   flops     a tile of 256 tokens through rows that stay in the cache
 *             own, then of what others have left (engine/team.c), and they meet after each stage;
 *             norms and activations on the way
 *   KV        pages of 32 rows of f16 through keys * queries, softmax, weights * values, asked for
 *             ahead as engine/attn.c does
 *   link      memcpy: here KV that gives way goes to other memory
 *   disk      a file written, its pages dropped, read back
 *
 * Weights lie in a file that is mapped, as a model's do, where a directory is given: the same walk
 * over a heap is a fifth slower with small pages (their addresses have to be translated, and a
 * file's lie side by side) and a tenth faster with large ones.
 *
 * Tried for weights and dropped: one long stream of rows, cut in as many parts as there are
 * threads. It is faster than any layer is, by half with layers of 4 MB: the chunks, the meetings
 * and the memory's start-up at each small matrix are what decoding is made of. And one counter
 * that deals chunks to all threads: a product asks the cache for the weights behind its own, and
 * these were the other thread's; a quarter slower than the engine, which deals shares.
 *
 * Each figure is the median of a few passes. On a machine that does other things at the same time
 * they are what is left of it.
 */
#include "eval/eval_int.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define PASSES 5u /* at least */
#define PASSES_MAX                                                                                 \
    64u /* short ones are repeated for a third of a second: neighbours come and go                 \
         */
#define PASS_S       0.03        /* seconds of a pass */
#define STREAM_BYTES LR_MIB(192) /* beyond the last-level cache of most machines */
#define TILE         256u
#define PAGE         32u

/* ---- threads that do one thing together, once ---- */

struct gang {
    void (*fn)(struct gang *g, unsigned i, void *scratch);
    unsigned n;
    enum lr_kern_type type;
    size_t cols, rows;       /* of a thread's share */
    uint8_t *bytes;          /* (n, rows) */
    size_t row_bytes, share; /* share: bytes of a thread's rows */
    const float *x;          /* (TILE, cols) */
    size_t tokens;
    void *held[8]; /* allocations */
    size_t n_held;
    void *mapped; /* or NULL */
    size_t mapped_bytes;
    unsigned repeats; /* of fn in a pass */
    double seconds;   /* of one fn */
    /* Of layers. */
    struct {
        size_t rows, cols; /* 0 rows: nothing but the meeting */
    } stage[5];            /* q k v, attention, out, gate and up, down */
    unsigned n_layers, n_held_layers; /* walked; in memory: beyond the caches they come again */
    size_t out_rows;                  /* of the output matrix, which comes last */
    size_t layer_bytes, held_bytes;   /* held: of layers and output */
    size_t walk_bytes;                /* of one token */
    size_t widest;                    /* columns */
    float *out;                       /* (2 * longest stage) */
    float *own;                       /* (n, widest): each thread norms for itself */
    char *act;                        /* (n) records of `widest`: each thread makes its own */
    float *sum;                       /* (n_embd) */
    atomic_uint arrived, generation;
    struct share *taken; /* (n) */
};

struct share { /* chunks taken of a thread's share of a stage */
    atomic_size_t chunks;
    char pad[120]; /* nobody else's cache line */
};

struct worker {
    struct gang *g;
    unsigned i;
    pthread_t thread;
    bool started;
    int rc;
};

/* All threads meet; the last one opens the next stage. */
static void meet(struct gang *g)
{
    unsigned now = atomic_load(&g->generation);
    if (atomic_fetch_add(&g->arrived, 1) + 1 == g->n) {
        atomic_store(&g->arrived, 0);
        for (unsigned i = 0; g->taken && i < g->n; i++)
            atomic_store(&g->taken[i].chunks, 0);
        atomic_fetch_add(&g->generation, 1);
        return;
    }
    for (unsigned spins = 0; atomic_load(&g->generation) == now; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause(); /* or a sibling thread of the core pays for the spinning */
#endif
        if (spins > 4000)
            sched_yield(); /* somebody else has the core of who is late */
    }
}

#define CHUNK 32u /* rows that a thread takes at a time */

/* The next of n chunks for thread i, of its own share first; n: none left. */
static size_t take(struct gang *g, unsigned i, size_t n)
{
    for (unsigned k = 0; k < g->n; k++) {
        size_t who = (i + k) % g->n, first = n * who / g->n, last = n * (who + 1) / g->n;
        size_t at = first + atomic_fetch_add_explicit(&g->taken[who].chunks, 1, memory_order_relaxed);
        if (at < last)
            return at;
    }
    return n;
}

/* What goes with the products of a stage, as in engine/forward.c. */
enum { NORMED = 1, PAIR = 2, ONTO = 4, FLOATS = 8 };
static const unsigned extras[] = {NORMED | FLOATS, 0, ONTO, NORMED | PAIR, ONTO};

struct part { /* of a stage */
    const uint8_t *w;
    size_t rows, cols; /* of a matrix; PAIR: two, one behind the other */
    unsigned extras;
};

/* act: x in fixed point, or NULL. */
static void multiply(struct gang *g, const struct part *p, const float *x, const char *act, size_t at,
                     size_t n, bool second, void *scratch)
{
    size_t bytes = lr_kern_row_bytes(g->type, p->cols), row = at + (second ? p->rows : 0);
    struct lr_kern_rows r = {g->type, p->w + row * bytes, bytes, n};
    if (act)
        lr_kern()->mulq(&r, p->cols, act, 1, g->out + row, p->rows, scratch);
    else
        lr_kern()->mul(&r, p->cols, x, p->cols, 1, g->out + row, p->rows, scratch);
}

static void stage(struct gang *g, unsigned i, const struct part *p, void *scratch)
{
    const struct lr_kern *k = lr_kern();
    size_t chunk = g->n == 1 ? p->rows : CHUNK, n = p->rows ? (p->rows + chunk - 1) / chunk : 0;
    const float *x = g->x;
    if (p->extras & NORMED) {
        float *own = g->own + i * g->widest;
        k->rmsnorm(own, g->x, g->x, p->cols, 1e-5f);
        x = own;
    }
    char *act = NULL;
    if (g->type >= LR_KERN_Q8_0 && !(p->extras & FLOATS) && p->rows) {
        act = g->act + i * lr_kern_act_bytes(g->widest);
        k->act_q16(act, x, p->cols);
    }
    for (size_t c; (c = take(g, i, n)) < n;) {
        size_t at = c * chunk, rows = p->rows - at < chunk ? p->rows - at : chunk;
        multiply(g, p, x, act, at, rows, false, scratch);
        if (p->extras & PAIR) {
            multiply(g, p, x, act, at, rows, true, scratch);
            k->silu_mul(g->out + at, g->out + at, g->out + p->rows + at, rows);
        }
        if (p->extras & ONTO)
            k->add(g->sum + at, g->out + at, rows);
    }
    meet(g);
}

/* One token through the products of all layers. */
static void layers(struct gang *g, unsigned i, void *scratch)
{
    for (unsigned l = 0; l < g->n_layers; l++) {
        struct part p = {.w = g->bytes + l % g->n_held_layers * g->layer_bytes};
        for (size_t k = 0; k < LR_COUNT(g->stage); k++) {
            p.rows = g->stage[k].rows;
            p.cols = g->stage[k].cols;
            p.extras = extras[k];
            stage(g, i, &p, scratch);
            p.w += (p.extras & PAIR ? 2 : 1) * p.rows * lr_kern_row_bytes(g->type, p.cols);
        }
    }
    const struct part last = {g->bytes + g->n_held_layers * g->layer_bytes, g->out_rows,
                              g->stage[0].cols, NORMED};
    stage(g, i, &last, scratch);
}

/* Rows of weights through the product with g->tokens tokens. */
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

/* A page of keys, a page of values: a block of queries of a prefill. */
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

static void ask_for(const uint8_t *rows, size_t bytes)
{
    for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch(rows + b);
}

#define PIECE 256u /* rows of a softmax */
#define FEW   8u   /* rows that are asked for at a time */

/* The queries of one token's group and a piece of rows: scores, softmax, values. */
static void attend_piece(struct gang *g, const uint8_t *at, struct lr_kern_softmax *soft, float *out,
                         void *scratch)
{
    const struct lr_kern *k = lr_kern();
    float score[16 * PIECE];
    size_t page = PAGE * g->row_bytes, few = FEW * g->row_bytes;
    for (size_t r = 0; r < PIECE; r += FEW) {
        const uint8_t *key = at + r / PAGE * 2 * page + r % PAGE * g->row_bytes;
        struct lr_kern_rows keys = {g->type, key, g->row_bytes, FEW};
        ask_for(key + 2 * page, few); /* beyond the last: a request that comes to nothing */
        ask_for(key + page, few);
        k->mul(&keys, g->cols, g->x, g->cols, g->tokens, score + r, PIECE, scratch);
    }
    for (size_t q = 0; q < g->tokens; q++)
        k->softmax_push(&soft[q], score + q * PIECE, PIECE);
    for (size_t r = 0; r < PIECE; r += PAGE) {
        struct lr_kern_rows values = {g->type, at + r / PAGE * 2 * page + page, g->row_bytes, PAGE};
        k->mix(&values, g->cols, score + r, PIECE, g->tokens, out, g->cols, scratch);
    }
}

/* Rows as a decoded token reads them. */
static void attend(struct gang *g, unsigned i, void *scratch)
{
    float out[16 * 256] = {0};
    struct lr_kern_softmax soft[16];
    for (size_t q = 0; q < g->tokens; q++)
        soft[q] = LR_KERN_SOFTMAX_INIT;
    for (size_t r = 0; r + 2 * PIECE <= g->rows; r += 2 * PIECE)
        attend_piece(g, g->bytes + i * g->share + r * g->row_bytes, soft, out, scratch);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    char *raw = lr_alloc(LR_KERN_SCRATCH + LR_KERN_ALIGN);
    w->rc = raw ? 0 : LR_ENOMEM;
    for (unsigned k = 0; raw && k < w->g->repeats; k++)
        w->g->fn(w->g, w->i,
                 raw + (LR_KERN_ALIGN - (uintptr_t)raw % LR_KERN_ALIGN) % LR_KERN_ALIGN);
    lr_free(raw);
    return NULL;
}

/* Starting a thread is some 50 us: a pass is repeated until it takes tens of milliseconds. */
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
    double took[PASSES_MAX], sum = 0, first; /* the first does not count: pages, frequencies */
    unsigned n = 0;
    struct worker *w = lr_calloc(g->n, sizeof *w);
    LR_FAIL_IF(!w, LR_ENOMEM);
    g->repeats = 1;
    int rc = one_pass(g, w, &first);
    if (!rc && first < PASS_S)
        g->repeats = first * 64 < PASS_S ? 64 : (unsigned)(PASS_S / first) + 1;
    while (!rc && n < PASSES_MAX && (n < PASSES || sum < 0.3)) {
        rc = one_pass(g, w, &took[n]);
        sum += rc ? 0 : took[n++];
    }
    lr_free(w);
    LR_TRY(rc);
    g->seconds = lr_eval_median(took, n) / g->repeats;
    return 0;
}

/* ---- what is measured ---- */

/* Memory as the engine has it: a product of one token runs a third slower on x beside cache lines.
 * Freed with the gang (give_back). */
static void *aligned(struct gang *g, size_t bytes)
{
    assert(g->n_held < LR_COUNT(g->held));
    char *p = lr_alloc(bytes + LR_KERN_ALIGN);
    g->held[g->n_held++] = p;
    uintptr_t page = 4096, from = ((uintptr_t)p + page - 1) / page * page;
    if (p && bytes > LR_MIB(4) && g->n_layers) /* weights; the engine's KV has small pages. A hint */
        (void)madvise((void *)from, (bytes - page) / page * page, MADV_HUGEPAGE);
    return p ? p + (LR_KERN_ALIGN - (uintptr_t)p % LR_KERN_ALIGN) % LR_KERN_ALIGN : NULL;
}

static void give_back(struct gang *g)
{
    if (g->mapped)
        munmap(g->mapped, g->mapped_bytes);
    while (g->n_held)
        lr_free(g->held[--g->n_held]);
}

/* Numbers that are no denormals; speed does not depend on them. */
static float *numbers(struct gang *g, size_t n)
{
    float *x = aligned(g, n * sizeof *x);
    for (size_t i = 0; x && i < n; i++)
        x[i] = (float)((i * 7919) % 1024) / 512 - 1;
    return x;
}

/* One encoded row of cols elements, `rows` times. */
static void repeat(const struct gang *g, uint8_t *to, size_t rows, size_t cols)
{
    size_t bytes = lr_kern_row_bytes(g->type, cols);
    if (rows)
        lr_kern_encode(g->type, to, g->x, cols);
    for (size_t r = 1; r < rows; r++)
        memcpy(to + r * bytes, to, bytes);
}

/* g->rows rows a thread. */
static int fill(struct gang *g)
{
    g->row_bytes = lr_kern_row_bytes(g->type, g->cols);
    g->share = g->rows * g->row_bytes;
    g->bytes = aligned(g, g->share * g->n);
    g->x = numbers(g, g->cols * TILE);
    LR_FAIL_IF(!g->bytes || !g->x, LR_ENOMEM);
    repeat(g, g->bytes, g->rows * g->n, g->cols);
    return 0;
}

static int run_filled(struct gang *g)
{
    int rc = fill(g);
    rc = rc ? rc : run_gang(g);
    give_back(g);
    return rc;
}

static size_t whole_blocks(enum lr_kern_type t, size_t cols)
{
    size_t block = lr_kern_type_block(t);
    return cols < block ? block : cols / block * block;
}

/* The stages of a layer; returns the longest one's rows. */
static size_t set_stages(struct gang *g, const struct lr_eval_shape *s)
{
    size_t q = (size_t)s->n_head * s->d_head, kv = (size_t)s->n_kv * s->d_head, longest = s->n_vocab;
    const size_t all[][2] = {{q + 2 * kv, s->n_embd},
                             {0, s->n_embd},
                             {s->n_embd, q},
                             {s->n_ff, s->n_embd},
                             {s->n_embd, s->n_ff}};
    for (size_t k = 0; k < LR_COUNT(all); k++) {
        size_t rows = all[k][0] * (extras[k] & PAIR ? 2 : 1);
        g->stage[k].rows = all[k][0];
        g->stage[k].cols = whole_blocks(g->type, all[k][1]);
        g->layer_bytes += rows * lr_kern_row_bytes(g->type, g->stage[k].cols);
        g->widest = g->stage[k].cols > g->widest ? g->stage[k].cols : g->widest;
        longest = rows > longest ? rows : longest;
    }
    g->n_layers = s->n_layer;
    g->out_rows = s->n_vocab;
    return longest;
}

/* As many layers as the model has, or as the caches surely cannot hold. */
static int fill_layers(struct gang *g, const struct lr_eval_shape *s)
{
    size_t longest = set_stages(g, s), enough = STREAM_BYTES / g->layer_bytes + 1;
    size_t out_bytes = g->out_rows * lr_kern_row_bytes(g->type, g->stage[0].cols);
    g->n_held_layers = enough < s->n_layer ? (unsigned)enough : s->n_layer;
    g->held_bytes = g->layer_bytes * g->n_held_layers + out_bytes;
    g->bytes = aligned(g, g->held_bytes); /* the first: it may give way to a file */
    g->out = aligned(g, longest * sizeof *g->out);
    g->own = aligned(g, g->n * g->widest * sizeof *g->own);
    g->act = aligned(g, g->n * lr_kern_act_bytes(g->widest) + 64);
    g->sum = numbers(g, s->n_embd);
    g->x = numbers(g, g->widest);
    g->taken = aligned(g, g->n * sizeof *g->taken);
    LR_FAIL_IF(!g->bytes || !g->out || !g->own || !g->act || !g->sum || !g->x || !g->taken, LR_ENOMEM);
    memset(g->taken, 0, g->n * sizeof *g->taken);
    uint8_t *to = g->bytes;
    for (unsigned l = 0; l < g->n_held_layers; l++)
        for (size_t k = 0; k < LR_COUNT(g->stage); k++) {
            size_t rows = g->stage[k].rows * (extras[k] & PAIR ? 2 : 1);
            repeat(g, to, rows, g->stage[k].cols);
            to += rows * lr_kern_row_bytes(g->type, g->stage[k].cols);
        }
    repeat(g, to, g->out_rows, g->stage[0].cols);
    g->walk_bytes = g->layer_bytes * g->n_layers + out_bytes;
    return 0;
}

/* A file that is gone when it is closed, whatever happens. */
static int hidden_file(const char *dir, int *fd)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/larder-calc.%d", dir, (int)getpid());
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof path, LR_EINVAL);
    LR_TRY(lr_io_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, fd));
    unlink(path);
    return 0;
}

/* A file of these bytes that is nowhere to be seen, mapped. */
static int map_file(struct gang *g, const uint8_t *bytes, size_t n, const char *dir)
{
    int fd;
    LR_TRY(hidden_file(dir, &fd));
    int rc = lr_io_pwrite(fd, bytes, n, 0);
    void *p = rc ? MAP_FAILED : mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    lr_io_close(fd);
    LR_FAIL_IF(p == MAP_FAILED, rc ? rc : LR_EIO);
    g->mapped = p;
    g->mapped_bytes = n;
    g->bytes = p;
    return 0;
}

static int measure_weights(struct lr_eval_machine *m, const struct lr_eval_shape *s,
                           enum lr_kern_type t, const char *dir)
{
    struct gang g = {.fn = layers, .n = m->threads, .type = t};
    int rc = fill_layers(&g, s);
    if (!rc && dir && !map_file(&g, g.bytes, g.held_bytes, dir)) { /* else the heap has to do */
        lr_free(g.held[0]);
        g.held[0] = NULL;
    }
    rc = rc ? rc : run_gang(&g);
    give_back(&g);
    LR_TRY(rc);
    m->weight_bw[t] = (double)g.walk_bytes / g.seconds;
    return 0;
}

static int measure_flops(struct lr_eval_machine *m, const struct lr_eval_shape *s)
{
    int type = LR_KERN_F32;
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        type = s->read[t] > s->read[type] ? t : type;
    struct gang g = {.fn = products,
                     .n = m->threads,
                     .type = (enum lr_kern_type)type,
                     .rows = 1024,
                     .cols = whole_blocks((enum lr_kern_type)type, s->n_embd),
                     .tokens = TILE};
    LR_TRY(run_filled(&g));
    m->flops = 2.0 * (double)(g.rows * g.n * g.cols * g.tokens) / g.seconds;
    return 0;
}

static int measure_kv(struct lr_eval_machine *m, const struct lr_eval_shape *s)
{
    size_t group = s->n_head / s->n_kv, d = s->d_head < 256 ? s->d_head : 256;
    struct gang g = {.fn = attend,
                     .n = m->threads,
                     .type = LR_KERN_F16,
                     .cols = d,
                     .tokens = group < 16 ? group : 16};
    g.rows =
        STREAM_BYTES / m->threads / lr_kern_row_bytes(LR_KERN_F16, d) / (2 * PIECE) * (2 * PIECE);
    LR_TRY(run_filled(&g));
    m->kv_bw = (double)(g.share * g.n) / g.seconds;
    g.fn = attention;
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
    (void)posix_fadvise(fd, 0, 0,
                        POSIX_FADV_DONTNEED); /* a hint: where it is ignored RAM is measured */
    uint64_t start = lr_clock_mono_ns();
    for (size_t at = 0; at < total; at += piece)
        LR_TRY(lr_io_pread(fd, buf, piece, at));
    *rate = (double)total * 1e9 / (double)(lr_clock_mono_ns() - start);
    return 0;
}

static int measure_disk(struct lr_eval_machine *m, const char *dir, struct lr_err *err)
{
    char *buf = lr_alloc(LR_MIB(1));
    int fd;
    if (!buf)
        return lr_err_set(err, LR_ENOMEM, "calc", "out of memory");
    int rc = hidden_file(dir, &fd);
    if (!rc) {
        rc = read_back(fd, buf, LR_MIB(1), &m->disk);
        lr_io_close(fd);
    }
    lr_free(buf);
    return rc ? lr_err_set(err, rc, "--dir", "%s: %s", dir, lr_strerror(rc)) : 0;
}

int lr_eval_machine_measure(struct lr_eval_machine *out, const struct lr_eval_shape *s,
                            unsigned threads, const char *dir, struct lr_err *err)
{
    struct lr_eval_machine m = {.threads = threads, .row_extra = 12};
    struct sysinfo info;
    if (!threads || threads > LR_ENGINE_THREADS_MAX)
        return lr_err_set(err, LR_EINVAL, "--threads", "1 to %u", LR_ENGINE_THREADS_MAX);
    m.memory = sysinfo(&info) ? 0 : (double)info.totalram * info.mem_unit;
    int rc = 0;
    for (int t = 0; !rc && t < LR_KERN_N_TYPES; t++)
        if (s->read[t] > 0)
            rc = measure_weights(&m, s, (enum lr_kern_type)t, dir);
    rc = rc ? rc : measure_flops(&m, s);
    rc = rc ? rc : measure_kv(&m, s);
    rc = rc ? rc : measure_copy(&m);
    if (rc)
        return lr_err_set(err, rc, "calc", "%s", lr_strerror(rc));
    if (dir)
        LR_TRY(measure_disk(&m, dir, err));
    *out = m;
    return 0;
}

void lr_eval_machine_given(struct lr_eval_machine *m, double flops, double bw, double memory,
                           double link, double disk)
{
    *m = (struct lr_eval_machine){.flops = flops,
                                  .attn_flops = flops,
                                  .memory = memory,
                                  .kv_bw = bw,
                                  .link = link,
                                  .disk = disk,
                                  .threads = 1};
    for (int t = 0; t < LR_KERN_N_TYPES; t++)
        m->weight_bw[t] = bw;
}
