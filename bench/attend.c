/* SPDX-License-Identifier: Apache-2.0
 * bench/attend.c - decode attention against the bandwidth of memory; one JSON line a codec.
 *
 *   bench_attend [THREADS [RUNS]]        defaults 2 and 9
 *
 * TABLES tables of 8,192 rows, heads of 64, three queries each: 140 MiB of f16 rows, over four times
 * a last-level cache of 32 MiB. attend_gbs: bytes of keys and values over the time until all tables
 * were attended. read_gbs: the same memory read as floats by a product with one token, which is the
 * fastest reader we have, in turns with the former. Best of the runs each, and their ratio.
 */
#include "engine/engine_int.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define TABLES      68u
#define ROWS        8192u
#define D           64u
#define GROUP       3u
#define THREADS_MAX 64u

struct worker {
    pthread_t thread;
    unsigned i, n;
    bool read; /* else attend */
    struct attn_scratch scratch;
};

static struct layout lay;
static struct table table[TABLES];
static char *memory;
static size_t memory_bytes;
static float query[GROUP * D];

static void *aligned(size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, n)) {
        fprintf(stderr, "bench_attend: out of memory\n");
        exit(1);
    }
    memset(p, 0, n);
    return p;
}

static void make_tables(const struct lr_engine_codec *codec)
{
    size_t pages = ROWS / PAGE_ROWS, bytes;
    float row[D];
    lr_engine_layout(codec, D, &lay);
    bytes = (size_t)lay.granules * GRANULE;
    memory_bytes = TABLES * pages * bytes;
    memory = aligned(memory_bytes);
    for (size_t i = 0; i < D; i++)
        row[i] = (float)i / D - 0.5f;
    for (size_t t = 0; t < TABLES; t++) {
        table[t] = (struct table){aligned(pages * sizeof(struct page *)), (uint32_t)pages,
                                  (uint32_t)pages, ROWS};
        for (size_t p = 0; p < pages; p++) {
            struct page *page = (struct page *)(void *)(memory + (t * pages + p) * bytes);
            table[t].page[p] = page;
            for (uint32_t r = 0; r < PAGE_ROWS; r++) {
                lr_kern_encode(codec->k, page_k(&lay, page, r), row, D);
                lr_kern_encode(codec->v, page_v(&lay, page, r), row, D);
            }
            lr_engine_page_summarise(page, PAGE_ROWS);
        }
    }
}

static void attend(struct worker *w)
{
    struct attn_scratch *a = &w->scratch;
    float out[GROUP * D];
    for (size_t t = w->i; t < TABLES; t += w->n) {
        struct attn_job j = {.lay = &lay, .table = &table[t], .d = D, .group = GROUP, .n_tok = 1,
                             .q = query, .q_stride = sizeof query / sizeof *query, .pos = ROWS,
                             .scratch = a};
        struct attn_sum all = {a->soft, a->o}, one = {a->soft + GROUP, a->o + (size_t)GROUP * D};
        lr_engine_attn_queries(&j);
        lr_engine_attn_span(&j, 0, all);
        for (uint32_t span = 1; span < attn_spans(j.table); span++) {
            lr_engine_attn_span(&j, span, one);
            lr_engine_attn_join(all, one, GROUP, D);
        }
        lr_engine_attn_finish(&j, all, out, 0, NULL, 0);
    }
}

static void read_all(struct worker *w)
{
    size_t k = 512, rows = memory_bytes / (k * sizeof(float)) / w->n;
    struct lr_kern_rows m = {LR_KERN_F32, memory + w->i * rows * k * sizeof(float), k * sizeof(float),
                             64};
    float x[512] = {0};
    for (size_t r = 0; r + m.n <= rows; r += m.n, m.p = (const char *)m.p + m.n * m.stride)
        lr_kern()->mul(&m, k, x, k, 1, w->scratch.score, m.n, w->scratch.kern);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    (w->read ? read_all : attend)(w);
    return NULL;
}

/* Seconds. */
static double run(struct worker *w, unsigned threads, bool reading)
{
    uint64_t start = lr_clock_mono_ns();
    for (unsigned i = 0; i < threads; i++) {
        w[i].read = reading;
        if (i && pthread_create(&w[i].thread, NULL, work, &w[i]))
            exit(1);
    }
    work(&w[0]);
    for (unsigned i = 1; i < threads; i++)
        pthread_join(w[i].thread, NULL);
    return (double)(lr_clock_mono_ns() - start) * 1e-9;
}

static void bench(const char *name, struct worker *w, unsigned threads, unsigned runs)
{
    double attend_s = 1e9, read_s = 1e9;
    make_tables(lr_engine_codec_find(lr_strz(name)));
    double bytes = (double)TABLES * ROWS * (double)(lay.k_bytes + lay.v_bytes);
    for (unsigned i = 0; i < runs; i++) {
        attend_s = fmin(attend_s, run(w, threads, false));
        read_s = fmin(read_s, run(w, threads, true));
    }
    double attend_gbs = bytes * 1e-9 / attend_s, read_gbs = (double)memory_bytes * 1e-9 / read_s;
    printf("{\"codec\":\"%s\",\"threads\":%u,\"rows\":%u,\"mib\":%.0f,\"attend_gbs\":%.1f,"
           "\"read_gbs\":%.1f,\"ratio\":%.2f}\n",
           name, threads, ROWS, bytes / (1 << 20), attend_gbs, read_gbs, attend_gbs / read_gbs);
    for (size_t t = 0; t < TABLES; t++)
        free(table[t].page);
    free(memory);
}

int main(int argc, char **argv)
{
    struct worker w[THREADS_MAX] = {0};
    unsigned threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2;
    unsigned runs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 9;
    if (!threads || threads > THREADS_MAX || !runs) {
        fprintf(stderr, "usage: bench_attend [THREADS [RUNS]]\n");
        return 2;
    }
    for (unsigned i = 0; i < threads; i++) {
        w[i].i = i;
        w[i].n = threads;
        w[i].scratch = (struct attn_scratch){.kern = aligned(LR_KERN_SCRATCH),
                                             .q = aligned(GROUP * D * sizeof(float)),
                                             .score = aligned(GROUP * PIECE_ROWS * sizeof(float)),
                                             .o = aligned(2 * GROUP * D * sizeof(float)),
                                             .value = aligned(PAGE_ROWS * D * sizeof(float)),
                                             .soft = aligned(2 * GROUP * sizeof(struct lr_kern_softmax))};
    }
    for (size_t i = 0; i < GROUP * D; i++)
        query[i] = 1.0f / D;
    bench("f16", w, threads, runs);
    bench("q8_0", w, threads, runs);
    return 0;
}
