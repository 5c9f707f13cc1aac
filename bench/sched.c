/* SPDX-License-Identifier: Apache-2.0
 * bench/sched.c - what the scheduler costs beside the bare engine, and what company gains; one JSON line.
 *
 *   bench_sched MODEL [PROMPT [PREDICT [THREADS]]]
 *
 * bare: lr_engine_feed of the prompt, then PREDICT times the best token and lr_engine_feed of it.
 * sched: the same as one job, text and events included. eight: eight such jobs at once, other prompts.
 * Rounds alternate, after one of each that is not counted; tokens a second of the medians, and the median
 * of the rounds' ratios. With one thread processor time would do as well; the clock is taken, since
 * hand-overs between threads are part of the cost.
 */
#include "engine/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 5
#define CROWD  8

struct house {
    struct lr_engine_model *m;
    struct lr_nn_tok *tok;
    struct lr_engine_template tmpl;
    struct lr_engine_opts opts;
    uint64_t prompt, predict;
    uint32_t *ids; /* (CROWD, prompt) */
};

static void must(int rc, const struct lr_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "bench_sched: %s %s\n", lr_errname(rc), err ? err->msg : "");
    exit(1);
}

static uint32_t best(const float *x, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++)
        top = x[i] > x[top] ? i : top;
    return top;
}

static double bare(const struct house *h)
{
    struct lr_engine *e;
    struct lr_engine_seq *s;
    struct lr_err err = {0};
    uint32_t vocab = lr_engine_model_shape(h->m)->n_vocab;
    float *logits = lr_alloc(vocab * sizeof *logits);
    must(logits ? 0 : LR_ENOMEM, NULL);
    must(lr_engine_open(&e, h->m, &h->opts, &err), &err);
    must(lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){0}, &err), &err);
    uint64_t start = lr_clock_mono_ns();
    must(lr_engine_feed(s, h->ids, h->prompt, logits, NULL, &err), &err);
    for (uint64_t i = 1; i < h->predict; i++) {
        uint32_t id = best(logits, vocab);
        must(lr_engine_feed(s, &id, 1, logits, NULL, &err), &err);
    }
    double seconds = (double)(lr_clock_mono_ns() - start) / 1e9;
    lr_engine_seq_close(s);
    lr_engine_close(e);
    lr_free(logits);
    return (double)(h->prompt + h->predict) / seconds;
}

struct wait {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    unsigned left;
};

static int on_event(void *ctx, const struct lr_event *ev)
{
    (void)ctx;
    (void)ev;
    return 0;
}

static void on_done(void *ctx, int rc, const struct lr_engine_bill *b, const struct lr_err *err)
{
    struct wait *w = ctx;
    (void)b;
    must(rc, err);
    pthread_mutex_lock(&w->mu);
    w->left--;
    pthread_cond_signal(&w->cv);
    pthread_mutex_unlock(&w->mu);
}

static double scheduled(const struct house *h, unsigned jobs)
{
    struct lr_engine *e;
    struct lr_engine_sched *s;
    struct lr_engine_job *j;
    struct lr_err err = {0};
    struct wait w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, jobs};
    struct lr_engine_bias *no_end = lr_calloc(LR_ENGINE_BIAS_MAX, sizeof *no_end);
    size_t n_bias = 0;
    must(no_end ? 0 : LR_ENOMEM, NULL);
    for (uint32_t i = 0; i < lr_nn_tok_size(h->tok) && n_bias < LR_ENGINE_BIAS_MAX; i++)
        if (lr_nn_tok_ends(h->tok, i))
            no_end[n_bias++] = (struct lr_engine_bias){i, -100};
    const struct lr_engine_sched_opts so = {
        .tok = h->tok, .tmpl = &h->tmpl, .parallel = CROWD, .forget = true,
        .context = (uint32_t)(h->prompt + h->predict)};
    must(lr_engine_open(&e, h->m, &h->opts, &err), &err);
    must(lr_engine_sched_open(&s, e, &so, &err), &err);
    uint64_t start = lr_clock_mono_ns();
    for (unsigned i = 0; i < jobs; i++) {
        const struct lr_engine_prompt p = {h->ids + i * h->prompt, h->prompt};
        const struct lr_engine_ask ask = {
            .kind = LR_KIND_COMPLETION, .prompts = &p, .n_prompts = 1,
            .max_tokens = (uint32_t)h->predict, .sampling = {.bias = no_end, .n_bias = n_bias},
            .event = on_event, .done = on_done, .ctx = &w};
        must(lr_engine_sched_submit(s, &ask, &j, &err), &err);
    }
    pthread_mutex_lock(&w.mu);
    while (w.left)
        pthread_cond_wait(&w.cv, &w.mu);
    pthread_mutex_unlock(&w.mu);
    double seconds = (double)(lr_clock_mono_ns() - start) / 1e9;
    lr_engine_sched_close(s, 0);
    lr_engine_close(e);
    lr_free(no_end);
    return (double)(jobs * (h->prompt + h->predict)) / seconds;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

static uint64_t argument(int argc, char **argv, int i, uint64_t usual)
{
    uint64_t v;
    return i < argc && !lr_parse_u64(lr_strz(argv[i]), &v) && v > 0 ? v : usual;
}

int main(int argc, char **argv)
{
    struct house h = {.prompt = argument(argc, argv, 2, 256), .predict = argument(argc, argv, 3, 64)};
    double one[ROUNDS], sched[ROUNDS], crowd[ROUNDS], ratio[ROUNDS];
    struct lr_err err = {0};
    struct lr_rng rng;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_sched MODEL [PROMPT [PREDICT [THREADS]]]\n");
        return 2;
    }
    h.opts = (struct lr_engine_opts){.threads = (unsigned)argument(argc, argv, 4, 1)};
    must(lr_engine_model_open(&h.m, argv[1], &err), &err);
    must(lr_nn_tok_open(&h.tok, lr_engine_model_file(h.m), &err), &err);
    must(lr_engine_template_match(lr_str(NULL, 0), &h.tmpl, &err), &err);
    h.ids = lr_calloc(CROWD * h.prompt, sizeof *h.ids);
    must(h.ids ? 0 : LR_ENOMEM, NULL);
    lr_rng_seed(&rng, 1);
    for (size_t i = 0; i < CROWD * h.prompt; i++)
        h.ids[i] = (uint32_t)lr_rng_below(&rng, lr_engine_model_shape(h.m)->n_vocab);
    (void)bare(&h); /* not counted */
    (void)scheduled(&h, 1);
    for (int i = 0; i < ROUNDS; i++) {
        one[i] = bare(&h);
        sched[i] = scheduled(&h, 1);
        crowd[i] = scheduled(&h, CROWD);
        ratio[i] = sched[i] / one[i];
    }
    printf("{\"model\":\"%s\",\"threads\":%u,\"prompt\":%llu,\"predict\":%llu,\"bare_tps\":%.1f,"
           "\"sched_tps\":%.1f,\"eight_tps\":%.1f,\"ratio\":%.3f}\n",
           argv[1], h.opts.threads, (unsigned long long)h.prompt, (unsigned long long)h.predict,
           median(one), median(sched), median(crowd), median(ratio));
    lr_free(h.ids);
    lr_nn_tok_close(h.tok);
    lr_engine_model_close(h.m);
    return 0;
}
