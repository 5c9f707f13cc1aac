/* SPDX-License-Identifier: Apache-2.0
 * bench/answer.c - what the exact shelf costs; one JSON line a result.
 *
 *   bench_answer DIR      DIR: an empty directory on the disk to be measured; the store stays in it
 *
 *   key       us from parsed request to exact digest, Chat bodies of 1 and 16 KiB (one user message,
 *             and a conversation of 1 KiB messages)
 *   raw       ns of the raw shortcut for the same 1 KiB body
 *   get       ns of a hit in memory, 10,000 entries of 1 KiB, random order, one thread
 *   put       answers of 1 KiB a second, put and committed, by one thread that waits for a full queue
 *   scan      entries a second when the directory is opened again
 */
#include "answer/answer.h"

#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES = 10000, STORED = 50000 };

static const uint8_t secret[32] = {1};

static double since(uint64_t t0)
{
    return (double)(lr_clock_mono_ns() - t0);
}

static void body_of(struct lr_buf *b, size_t messages, size_t bytes)
{
    lr_buf_reset(b);
    lr_buf_addz(b, "{\"model\":\"gpt-x\",\"temperature\":0.2,\"max_tokens\":100,\"messages\":[");
    for (size_t i = 0; i < messages; i++) {
        lr_buf_addf(b, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "",
                    i % 2 ? "assistant" : "user");
        for (size_t k = 0; k < bytes; k++)
            lr_buf_addc(b, (char)('a' + (i + k) % 26));
        lr_buf_addz(b, "\"}");
    }
    lr_buf_addz(b, "]}");
}

static int bench_key(size_t messages, size_t bytes)
{
    struct lr_buf b;
    struct lr_arena parsed, a;
    struct lr_request *r;
    struct lr_key k;
    size_t rounds = 20000000 / (messages * bytes + 1000);
    lr_buf_init(&b, LR_MIB(1));
    lr_arena_init(&parsed, LR_MIB(16));
    lr_arena_init(&a, LR_MIB(16));
    body_of(&b, messages, bytes);
    LR_TRY(b.rc);
    LR_TRY(lr_request_parse(&parsed, LR_DIALECT_CHAT, lr_buf_str(&b), &r, NULL));
    uint64_t t0 = lr_clock_mono_ns();
    for (size_t i = 0; i < rounds; i++) {
        lr_arena_reset(&a);
        LR_TRY(lr_key_request(&a, r, secret, NULL, 0, &k));
    }
    printf("{\"bench\":\"key\",\"body\":%zu,\"messages\":%zu,\"us\":%.2f}\n", b.len, messages,
           since(t0) / (double)rounds / 1000);
    lr_arena_free(&a);
    lr_arena_free(&parsed);
    lr_buf_free(&b);
    return 0;
}

static int bench_raw(void)
{
    struct lr_buf b;
    struct lr_raw *raw;
    struct lr_raw_hit hit = {.note_len = 32};
    size_t rounds = 500000, found = 0;
    lr_buf_init(&b, LR_MIB(1));
    body_of(&b, 1, 900);
    LR_TRY(lr_raw_open(&raw, LR_MIB(16)));
    lr_raw_put(raw, LR_STR("prefix"), lr_buf_str(&b), &hit);
    uint64_t t0 = lr_clock_mono_ns();
    for (size_t i = 0; i < rounds; i++)
        found += lr_raw_get(raw, LR_STR("prefix"), lr_buf_str(&b), &hit);
    printf("{\"bench\":\"raw\",\"body\":%zu,\"found\":%zu,\"ns\":%.0f}\n", b.len, found,
           since(t0) / (double)rounds);
    lr_raw_close(raw);
    lr_buf_free(&b);
    return 0;
}

static void key_of(uint64_t i, struct lr_digest *out)
{
    lr_blake3(lr_str(&i, sizeof i), out);
}

static int put(struct lr_answer *s, uint64_t i, struct lr_str log)
{
    struct lr_doc_meta m = {.created_ms = lr_clock_wall_ms(),
                            .ttl_ms = 1u << 30,
                            .choices = 1,
                            .model = "gpt-x",
                            .upstream = "main",
                            .request_id = "0123456789abcdef"};
    key_of(i, &m.key);
    return lr_answer_put(s, &m, log, 0, NULL, NULL);
}

static int bench_get(struct lr_str log)
{
    struct lr_answer *s;
    struct lr_answer_opts o = {.hot_max = LR_GIB(1)};
    struct lr_answer_stats st;
    struct lr_rng rng;
    size_t rounds = 1000000, hits = 0;
    static struct lr_digest keys[ENTRIES];
    lr_rng_seed(&rng, 1);
    LR_TRY(lr_answer_open(&s, &o, NULL));
    for (uint64_t i = 0; i < ENTRIES; i++) {
        key_of(i, &keys[i]);
        LR_TRY(put(s, i, log));
    }
    struct lr_ask ask = {.now_ms = lr_clock_wall_ms(), .n = 1, .max_age_ms = UINT64_MAX};
    uint64_t t0 = lr_clock_mono_ns();
    for (size_t i = 0; i < rounds; i++) {
        struct lr_answer_hit hit;
        ask.key = keys[lr_rng_below(&rng, ENTRIES)];
        hits += lr_answer_get(s, &ask, &hit) == LR_FOUND_HIT;
        lr_doc_unref(hit.doc);
    }
    double ns = since(t0) / (double)rounds;
    lr_answer_stats(s, &st);
    printf("{\"bench\":\"get\",\"hits\":%zu,\"ns\":%.0f,\"index_bytes_per_entry\":%.1f,"
           "\"hot_bytes_per_entry\":%.1f}\n",
           hits, ns, (double)st.index_bytes / (double)st.entries,
           (double)st.hot_bytes / (double)st.hot_entries);
    lr_answer_close(s);
    return 0;
}

static int bench_disk(const char *dir, struct lr_str log)
{
    struct lr_answer *s;
    struct lr_answer_opts o = {.dir = dir};
    struct lr_answer_stats st;
    LR_TRY(lr_answer_open(&s, &o, NULL));
    uint64_t t0 = lr_clock_mono_ns();
    for (uint64_t i = 0; i < STORED; i++) {
        int rc;
        while ((rc = put(s, i, log)) == LR_EBUSY)
            lr_clock_sleep_ns(LR_MS);
        LR_TRY(rc);
    }
    LR_TRY(lr_answer_flush(s));
    printf("{\"bench\":\"put\",\"n\":%d,\"per_second\":%.0f}\n", STORED, STORED / since(t0) * 1e9);
    lr_answer_close(s);
    t0 = lr_clock_mono_ns();
    LR_TRY(lr_answer_open(&s, &o, NULL));
    double ns = since(t0);
    lr_answer_stats(s, &st);
    printf("{\"bench\":\"scan\",\"n\":%llu,\"ms\":%.1f,\"per_second\":%.0f}\n",
           (unsigned long long)st.entries, ns / 1e6, (double)st.entries / ns * 1e9);
    lr_answer_close(s);
    return 0;
}

int main(int argc, char **argv)
{
    static char log[1024];
    if (argc != 2) {
        fprintf(stderr, "usage: bench_answer DIR\n");
        return 2;
    }
    int rc = bench_key(1, 900);
    rc = rc ? rc : bench_key(1, 16000);
    rc = rc ? rc : bench_key(16, 1000);
    rc = rc ? rc : bench_raw();
    rc = rc ? rc : bench_get(lr_str(log, sizeof log));
    rc = rc ? rc : bench_disk(argv[1], lr_str(log, sizeof log));
    if (rc)
        fprintf(stderr, "bench_answer: %s\n", lr_strerror(rc));
    return rc != 0;
}
