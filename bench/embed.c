/* SPDX-License-Identifier: Apache-2.0
 * bench/embed.c - what a question costs in an encoder; one JSON line a result.
 *
 *   bench_embed [--model FILE|FOLDER]... [--questions FILE] [--rounds 5] [--exact]
 *
 *   {"kind":"static","model":"...","batch":1,"tokens":13.1,"us_per_question":6.2,"tokens_per_s":...}
 *
 * Questions: a line each of FILE, or a few of our own. Batches of 1 (what a lookup does) and of 32
 * (what re-embedding does). CPU time of one thread, best of the rounds: on a shared machine wall
 * time measures the neighbours. A pair verifier judges each question against the next.
 *
 * Without a model: random weights of two shapes, "static" 30,522 x 256 and "minilm-l6" (6 layers of
 * 384), in Q8_0, over a vocabulary made of the questions' own words. Their speed is that of real
 * ones.
 *
 * Measured (one core of an AMD EPYC, Zen 5, shared with seven other jobs, November 2026), int8, of 11
 * and 13 tokens a question: static 2.3 us; minilm-l6 1.4 ms alone, 1.2 ms in batches of 32, that is
 * 9,200 and 11,100 tokens/s.
 */
#include "embed/embed.h"
#include "kern/kern.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define QUESTIONS_MAX 100000u
#define VOCAB         30522u

static struct lr_str questions[QUESTIONS_MAX];
static size_t n_questions;
static unsigned rounds = 5;
static bool exact;

static const char *const own[] = {
    "How do I reset the password of my account?",
    "What is the capital of Australia and how many people live there?",
    "can i return an opened item without the receipt",
    "Explain the difference between a process and a thread.",
    "Why does my build fail with undefined reference to main?",
    "How long does shipping to Norway take?",
    "Convert 25 miles per hour to kilometres per hour.",
    "Which plan do I need for single sign-on?",
    "Is it safe to delete the cache directory while the server is running?",
    "How do I enable two-factor authentication on the mobile app?",
    "What time does the support team start working on Mondays?",
    "Summarise the refund policy for annual subscriptions in two sentences.",
    "how can i cancel my subscription before the trial ends",
    "Write a function that returns the n-th prime number.",
    "What are the side effects of taking ibuprofen with coffee?",
    "Does the API return results in the order of the request?",
};

static void need(int rc, const struct lr_err *err, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "bench_embed: %s: %s %s\n", what, lr_strerror(rc), err ? err->msg : "");
    exit(1);
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void read_questions(const char *path)
{
    static struct lr_buf file;
    lr_buf_init(&file, LR_MIB(256));
    need(lr_io_read_file(path, &file), NULL, path);
    struct lr_str rest = lr_buf_str(&file);
    while (rest.p && n_questions < QUESTIONS_MAX) {
        struct lr_str line = lr_str_trim(lr_str_cut(&rest, '\n'));
        if (line.n)
            questions[n_questions++] = line;
    }
}

/* ---- random models ---- */

static struct lr_str words[VOCAB];
static size_t n_words;

static void add_word(const char *p, size_t n)
{
    char *z = lr_alloc(n + 4);
    need(z ? 0 : LR_ENOMEM, NULL, "memory");
    memcpy(z, "\xE2\x96\x81", 3);
    for (size_t i = 0; i < n; i++)
        z[3 + i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 32) : p[i];
    struct lr_str w = lr_str(z, n + 3);
    for (size_t i = 0; i < n_words; i++)
        if (lr_str_eq(words[i], w))
            return;
    words[n_words++] = w;
}

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static void make_vocab(void)
{
    static const char *const first[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
    char filler[16];
    for (size_t i = 0; i < LR_COUNT(first); i++)
        words[n_words++] = lr_strz(first[i]);
    for (size_t q = 0; q < n_questions && n_words < VOCAB - 64; q++)
        for (size_t i = 0, k; i < questions[q].n; i = k) {
            const char *p = questions[q].p;
            for (k = i; k < questions[q].n && letter(p[k]); k++)
                ;
            k += k == i;
            if (p[i] != ' ' && n_words < VOCAB - 64)
                add_word(p + i, k - i);
        }
    while (n_words < VOCAB) {
        snprintf(filler, sizeof filler, "zz%zu", n_words);
        words[n_words++] = lr_str(lr_strndup(filler, 16), strlen(filler));
    }
}

static void put_tensor(struct lr_nn_gguf_writer *w, bool declare, const char *name, uint32_t cols,
                       uint32_t rows)
{
    static float row[4096];
    static char code[4096 * 4];
    static struct lr_rng rng = {{1, 2, 3, 4}};
    bool matrix = rows > 1 && !strstr(name, "position") && !strstr(name, "types");
    struct lr_nn_tensor t = {.name = lr_strz(name),
                             .type = matrix ? LR_NN_Q8_0 : LR_NN_F32,
                             .dims = rows ? 2 : 1,
                             .ne = {cols, rows ? rows : 1, 1, 1}};
    enum lr_kern_type k = matrix ? LR_KERN_Q8_0 : LR_KERN_F32;
    if (declare) {
        need(lr_nn_gguf_declare(w, &t), NULL, name);
        return;
    }
    for (uint32_t r = 0; r < (rows ? rows : 1); r++) {
        for (uint32_t i = 0; i < cols; i++)
            row[i] = rows ? (float)(lr_rng_unit(&rng) - 0.5) * 0.1f : strstr(name, "weight") ? 1 : 0;
        lr_kern_encode(k, code, row, cols);
        need(lr_nn_gguf_data(w, code, lr_kern_row_bytes(k, cols)), NULL, name);
    }
}

static void put_bert(struct lr_nn_gguf_writer *w, bool declare)
{
    static const struct {
        const char *name;
        uint32_t cols, rows;
    } parts[] = {{"attn_q", 384, 384},    {"attn_k", 384, 384},         {"attn_v", 384, 384},
                 {"attn_output", 384, 384}, {"attn_output_norm", 384, 0}, {"ffn_up", 384, 1536},
                 {"ffn_down", 1536, 384}, {"layer_output_norm", 384, 0}};
    char name[64];
    put_tensor(w, declare, "token_embd.weight", 384, VOCAB);
    put_tensor(w, declare, "position_embd.weight", 384, 512);
    put_tensor(w, declare, "token_types.weight", 384, 2);
    put_tensor(w, declare, "token_embd_norm.weight", 384, 0);
    put_tensor(w, declare, "token_embd_norm.bias", 384, 0);
    for (unsigned i = 0; i < 6; i++)
        for (size_t p = 0; p < LR_COUNT(parts); p++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", i, parts[p].name);
            put_tensor(w, declare, name, parts[p].cols, parts[p].rows);
            snprintf(name, sizeof name, "blk.%u.%s.bias", i, parts[p].name);
            put_tensor(w, declare, name, parts[p].rows ? parts[p].rows : parts[p].cols, 0);
        }
}

static void make_model(const char *path, bool bert)
{
    struct lr_nn_gguf_writer *w;
    struct lr_err err = {0};
    struct lr_nn_kv tokens = {LR_STR("tokenizer.ggml.tokens"), LR_NN_KV_ARRAY, LR_NN_KV_TEXT,
                              n_words, words};
    static int32_t types[VOCAB];
    struct lr_nn_kv kinds = {LR_STR("tokenizer.ggml.token_type"), LR_NN_KV_ARRAY, LR_NN_KV_I32,
                             n_words, types};
    for (size_t i = 0; i < n_words; i++)
        types[i] = i == 1 ? LR_NN_TOKEN_UNKNOWN : i < 4 ? LR_NN_TOKEN_CONTROL : LR_NN_TOKEN_NORMAL;
    need(lr_nn_gguf_create(&w, path, 0, &err), &err, path);
    lr_nn_gguf_put_text(w, "general.architecture", lr_strz(bert ? "bert" : "larder-static"));
    lr_nn_gguf_put_text(w, "general.name", lr_strz(bert ? "random minilm-l6" : "random static"));
    lr_nn_gguf_put_text(w, "tokenizer.ggml.model", LR_STR("bert"));
    lr_nn_gguf_put(w, &tokens);
    lr_nn_gguf_put(w, &kinds);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 1);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.cls_token_id", 2);
    lr_nn_gguf_put_u32(w, "tokenizer.ggml.seperator_token_id", 3);
    lr_nn_gguf_put_u32(w, bert ? "bert.embedding_length" : "larder-static.embedding_length",
                       bert ? 384 : 256);
    lr_nn_gguf_put_u32(w, bert ? "bert.context_length" : "larder-static.context_length", 512);
    lr_nn_gguf_put_u32(w, "bert.block_count", 6);
    lr_nn_gguf_put_u32(w, "bert.feed_forward_length", 1536);
    lr_nn_gguf_put_u32(w, "bert.attention.head_count", 12);
    for (int declare = 1; declare >= 0; declare--)
        if (bert)
            put_bert(w, declare);
        else
            put_tensor(w, declare, "token_embd.weight", 256, VOCAB);
    need(lr_nn_gguf_finish(w, &err), &err, path);
}

/* ---- runs ---- */

static void print(const char *kind, const struct lr_embed_info *i, size_t batch, double tokens,
                  double seconds)
{
    double n = (double)n_questions;
    printf("{\"kind\":\"%s\",\"model\":\"%s\",\"cpu\":\"%s\",\"exact\":%s,\"bytes\":%llu,\"dim\":%u,"
           "\"batch\":%zu,\"tokens\":%.1f,\"us_per_question\":%.2f,\"tokens_per_s\":%.0f}\n",
           kind, i->name, lr_kern()->name, exact ? "true" : "false", (unsigned long long)i->bytes,
           i->dim, batch, tokens / n, seconds / n * 1e6, tokens / seconds);
    fflush(stdout);
}

static void run_encoder(const struct lr_embed_model *m, size_t batch)
{
    const struct lr_embed_info *info = lr_embed_info(m);
    struct lr_embed_scratch *s;
    float *v = lr_calloc(batch * info->dim, sizeof *v);
    struct lr_embed_note *notes = lr_calloc(batch, sizeof *notes);
    double best = 1e30, tokens = 0;
    need(v && notes ? lr_embed_scratch_open(m, &s) : LR_ENOMEM, NULL, "scratch");
    for (unsigned r = 0; r < rounds; r++) {
        double t = cpu();
        tokens = 0;
        for (size_t i = 0; i < n_questions; i += batch) {
            size_t n = i + batch > n_questions ? n_questions - i : batch;
            need(lr_embed_encode(m, s, questions + i, n, v, notes, NULL), NULL, "encode");
            for (size_t k = 0; k < n; k++)
                tokens += notes[k].tokens;
        }
        t = cpu() - t;
        best = t < best ? t : best;
    }
    print(info->kind == LR_EMBED_STATIC ? "static" : "transformer", info, batch, tokens, best);
    lr_embed_scratch_close(s);
    lr_free(v);
    lr_free(notes);
}

static void run_pair(const struct lr_embed_pair *p)
{
    struct lr_embed_scratch *s;
    struct lr_embed_verdict v;
    double best = 1e30, tokens = 0;
    need(lr_embed_pair_scratch_open(p, &s), NULL, "scratch");
    for (unsigned r = 0; r < rounds; r++) {
        double t = cpu();
        tokens = 0;
        for (size_t i = 0; i < n_questions; i++) {
            struct lr_embed_two two = {.a.question = questions[i],
                                       .b.question = questions[(i + 1) % n_questions]};
            need(lr_embed_pair_judge(p, s, &two, 1, &v, NULL), NULL, "judge");
            tokens += v.tokens;
        }
        t = cpu() - t;
        best = t < best ? t : best;
    }
    print("pair", lr_embed_pair_info(p), 1, tokens, best);
    lr_embed_scratch_close(s);
}

static void run(const char *path)
{
    struct lr_embed_model *m;
    struct lr_embed_pair *p;
    struct lr_err err = {0};
    struct lr_embed_opts o = {.exact = exact};
    if (lr_embed_pair_open(&p, path, &o, NULL) == 0) {
        run_pair(p);
        lr_embed_pair_close(p);
        return;
    }
    need(lr_embed_open(&m, path, &o, &err), &err, path);
    run_encoder(m, 1);
    run_encoder(m, 32);
    lr_embed_close(m);
}

int main(int argc, char **argv)
{
    const char *models[16];
    size_t n = 0;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        uint64_t v;
        if (!strcmp(argv[i], "--exact"))
            exact = true;
        else if (more && !strcmp(argv[i], "--model") && n < LR_COUNT(models))
            models[n++] = argv[++i];
        else if (more && !strcmp(argv[i], "--questions"))
            read_questions(argv[++i]);
        else if (more && !strcmp(argv[i], "--rounds") && !lr_parse_u64(lr_strz(argv[i + 1]), &v) &&
                 v > 0 && v < 1000 && ++i)
            rounds = (unsigned)v;
        else
            return fprintf(stderr, "usage: bench_embed [--model F]... [--questions F] [--rounds N] "
                                   "[--exact]\n"),
                   2;
    }
    for (size_t i = 0; n_questions == i && i < LR_COUNT(own); i++)
        questions[n_questions++] = lr_strz(own[i]);
    for (size_t i = 0; i < n; i++)
        run(models[i]);
    if (n)
        return 0;
    make_vocab();
    for (int bert = 0; bert < 2; bert++) {
        char path[] = "/tmp/bench_embed.XXXXXX";
        int fd = mkstemp(path);
        need(fd < 0 ? LR_EIO : 0, NULL, path);
        close(fd);
        make_model(path, bert);
        run(path);
        unlink(path);
    }
    return 0;
}
