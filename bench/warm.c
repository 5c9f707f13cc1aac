/* SPDX-License-Identifier: Apache-2.0
 * bench/warm.c - time to the first token of a prompt that nobody has seen, and of one whose rows are in the
 * KV store: in its memory, on its disk; one JSON line.
 *
 *   bench_warm MODEL DIR [PROMPT [THREADS [ROUNDS]]]          DIR: for segments, made and left
 *
 * Each round asks for one token through a scheduler of its own, from submit to done: a bare cold one, a
 * warm one from memory, one after the store was opened anew (its segments dropped from the page cache
 * where the kernel lets go of them; and once more with whatever is there). Medians. Everything is
 * verified: sums by the store (kv.verify's default), the token against the cold one's, and where rows
 * came from against the bill.
 */
#include "engine/engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS_MAX 32u

struct house {
    struct lr_engine_model *m;
    struct lr_nn_tok *tok;
    struct lr_engine_template tmpl;
    struct lr_engine *e;
    struct lr_store *store;
    struct lr_reuse *reuse;
    const char *dir;
    uint32_t *ids;
    uint32_t prompt, threads, rounds;
};

struct answer {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    bool done;
    uint32_t sum;  /* of the bytes told */
    uint64_t end_ns;
    struct lr_engine_bill bill;
};

static void must(int rc, const struct lr_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "bench_warm: %s %s\n", lr_errname(rc), err ? err->msg : "");
    exit(1);
}

static void demand(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "bench_warm: %s\n", what);
    exit(1);
}

static int on_event(void *ctx, const struct lr_event *ev)
{
    struct answer *a = ctx;
    if (ev->type == LR_EV_DELTA || ev->type == LR_EV_LOGPROBS)
        a->sum = a->sum * 31 + (uint32_t)lr_hash64(ev->a, 0);
    return 0;
}

static void on_done(void *ctx, int rc, const struct lr_engine_bill *b, const struct lr_err *err)
{
    struct answer *a = ctx;
    must(rc, err);
    pthread_mutex_lock(&a->mu);
    a->end_ns = lr_clock_mono_ns();
    a->bill = *b;
    a->done = true;
    pthread_cond_signal(&a->cv);
    pthread_mutex_unlock(&a->mu);
}

/* Milliseconds to the first token. save: waits until all blocks are in the store. */
static double ask(const struct house *h, bool warm, bool save, struct answer *a)
{
    struct lr_engine_sched *s;
    struct lr_engine_job *j;
    struct lr_engine_sched_stats st;
    struct lr_err err = {0};
    const struct lr_engine_prompt p = {h->ids, h->prompt};
    const struct lr_engine_sched_opts so = {.tok = h->tok, .tmpl = &h->tmpl,
                                            .context = h->prompt + 8,
                                            .reuse = warm ? h->reuse : NULL};
    const struct lr_engine_ask q = {.kind = LR_KIND_COMPLETION, .prompts = &p, .n_prompts = 1,
                                    .max_tokens = 1, .sampling = {.logprobs = true},
                                    .event = on_event, .done = on_done, .ctx = a};
    *a = (struct answer){.mu = PTHREAD_MUTEX_INITIALIZER, .cv = PTHREAD_COND_INITIALIZER};
    must(lr_engine_sched_open(&s, h->e, &so, &err), &err);
    uint64_t start = lr_clock_mono_ns();
    must(lr_engine_sched_submit(s, &q, &j, &err), &err);
    pthread_mutex_lock(&a->mu);
    while (!a->done)
        pthread_cond_wait(&a->cv, &a->mu);
    pthread_mutex_unlock(&a->mu);
    do {
        lr_clock_sleep_ns(LR_MS);
        lr_engine_sched_stats(s, &st);
    } while (save && st.saved + st.saves_dropped < h->prompt / LR_REUSE_BLOCK);
    lr_engine_sched_close(s, LR_SEC);
    return (double)(a->end_ns - start) / 1e6;
}

static void open_store(struct house *h)
{
    struct lr_err err = {0};
    const struct lr_store_opts o = {.dir = h->dir, .mem_max = LR_GIB(1), .disk_max = LR_GIB(4)};
    must(lr_store_open(&h->store, &o, &err), &err);
    const struct lr_reuse_opts ro = {.store = h->store, .patience_ns = 60 * LR_SEC};
    must(lr_reuse_open(&h->reuse, &ro), NULL);
}

static void close_store(struct house *h)
{
    lr_reuse_close(h->reuse);
    lr_store_close(h->store);
}

static void drop_cache(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096];
        int fd = snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path
                     ? open(path, O_RDONLY | O_CLOEXEC)
                     : -1;
        if (fd < 0)
            continue;
        (void)fsync(fd); /* a directory, a pipe: nothing to drop */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    if (d)
        closedir(d);
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, order);
    return v[n / 2];
}

static void check(const struct house *h, const struct answer *a, const struct answer *cold,
                  enum lr_reuse_tier t)
{
    uint64_t want = h->prompt % LR_REUSE_BLOCK ? h->prompt / LR_REUSE_BLOCK * LR_REUSE_BLOCK
                                               : h->prompt - 1;
    demand(a->sum == cold->sum, "another token");
    demand(a->bill.cached == want, "not all blocks came");
    demand(a->bill.warm[t] == want, "from another tier");
}

static void load(struct house *h, const char *path)
{
    struct lr_err err = {0};
    const struct lr_engine_opts o = {.threads = h->threads, .kv_max = LR_GIB(1)};
    must(lr_engine_model_open(&h->m, path, &err), &err);
    must(lr_nn_tok_open(&h->tok, lr_engine_model_file(h->m), &err), &err);
    must(lr_engine_template_match(LR_STR(""), &h->tmpl, &err), &err);
    must(lr_engine_open(&h->e, h->m, &o, &err), &err);
    h->ids = lr_alloc(h->prompt * sizeof *h->ids);
    must(h->ids ? 0 : LR_ENOMEM, NULL);
    struct lr_rng r;
    lr_rng_seed(&r, lr_clock_mono_ns()); /* another prompt each time: DIR may hold older ones */
    for (uint32_t i = 0; i < h->prompt; i++)
        h->ids[i] = (uint32_t)lr_rng_below(&r, lr_engine_model_shape(h->m)->n_vocab);
}

static void run(struct house *h, const char *path)
{
    double cold[ROUNDS_MAX], mem[ROUNDS_MAX], disk[ROUNDS_MAX], cached[ROUNDS_MAX], first;
    struct answer want, a;
    struct lr_store_stats st;
    uint32_t n_cold = h->rounds < 3 ? h->rounds : 3;
    load(h, path);
    open_store(h);
    for (uint32_t i = 0; i < n_cold; i++)
        cold[i] = ask(h, false, false, &want);
    first = ask(h, true, true, &a); /* computes, and saves meanwhile */
    demand(a.sum == want.sum, "another token");
    for (uint32_t i = 0; i < h->rounds; i++) {
        mem[i] = ask(h, true, false, &a);
        check(h, &a, &want, LR_REUSE_MEMORY);
    }
    must(lr_store_sync(h->store, LR_FOREVER), NULL);
    for (uint32_t i = 0; i < 2 * h->rounds; i++) {
        close_store(h);
        if (i < h->rounds)
            drop_cache(h->dir);
        open_store(h);
        *(i < h->rounds ? &disk[i] : &cached[i - h->rounds]) = ask(h, true, false, &a);
        check(h, &a, &want, LR_REUSE_DISK);
    }
    lr_store_stats(h->store, &st);
    double c = median(cold, n_cold), m = median(mem, h->rounds), d = median(disk, h->rounds),
           k = median(cached, h->rounds);
    printf("{\"bench\":\"warm\",\"model\":\"%s\",\"prompt\":%u,\"threads\":%u,\"cold_ms\":%.1f,"
           "\"cold_saving_ms\":%.1f,\"memory_ms\":%.1f,\"disk_ms\":%.1f,\"disk_again_ms\":%.1f,"
           "\"memory_ratio\":%.4f,\"disk_ratio\":%.4f,\"disk_bytes\":%llu,\"direct\":%s}\n",
           path, h->prompt, h->threads, c, first, m, d, k, m / c, d / c,
           (unsigned long long)st.disk_live, st.direct ? "true" : "false");
    close_store(h);
}

int main(int argc, char **argv)
{
    struct house h = {.prompt = 4096, .threads = 2, .rounds = 5};
    if (argc < 3) {
        fprintf(stderr, "bench_warm MODEL DIR [PROMPT [THREADS [ROUNDS]]]\n");
        return 2;
    }
    h.dir = argv[2];
    uint32_t *const numbers[] = {&h.prompt, &h.threads, &h.rounds};
    for (int i = 3; i < argc && i < 6; i++) {
        uint64_t v;
        demand(!lr_parse_u64(lr_strz(argv[i]), &v) && v && v < 1 << 20, "a number is no number");
        *numbers[i - 3] = (uint32_t)v;
    }
    h.rounds = h.rounds > ROUNDS_MAX ? ROUNDS_MAX : h.rounds;
    must(lr_io_mkdir(h.dir, 0700), NULL);
    run(&h, argv[1]);
    lr_engine_close(h.e);
    lr_nn_tok_close(h.tok);
    lr_engine_model_close(h.m);
    lr_free(h.ids);
    return 0;
}
