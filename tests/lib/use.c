/* SPDX-License-Identifier: Apache-2.0
 * tests/lib/use.c - a program of somebody else's: the installed header and library, and nothing of ours.
 * Usage: use DIR. Prints what does not hold; exit status 0 when all does.
 */
#include <larder/larder.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad;

#define HOLDS(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("line %d: not so: %s\n", __LINE__, #cond);                                      \
            bad = 1;                                                                               \
        }                                                                                          \
    } while (0)

#define BYTES (256 * 1024)
#define N     8

static const struct larder_layout layout = {
    .model = "m", .engine = "e", .dtype = LARDER_BF16, .n_dims = 2, .shape = {2, 16}, .version = 1};

static struct larder_object chunk(const struct larder_key *keys, size_t i)
{
    return (struct larder_object){.layout = &layout, .key = keys[i], .tokens = 256, .position = 256 * i};
}

static void fill(unsigned char *p, unsigned seed)
{
    for (size_t i = 0; i < BYTES; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (unsigned char)(seed >> 24);
    }
}

/* As LMCache's multi-process mode: BLAKE3 of int64 0 and uint32 0, both big-endian. */
static void check_chain(struct larder_key keys[N])
{
    static uint32_t tokens[N * 256 + 100];
    struct larder_key step;
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        tokens[i] = (uint32_t)(i * 7919 % 32000);
    HOLDS(larder_chain(NULL, 0, tokens, sizeof tokens / sizeof tokens[0], 256, keys, N) == N);
    larder_chain_first(NULL, 0, &step);
    for (size_t i = 0; i < N; i++) {
        larder_chain_next(&step, tokens + 256 * i, 256, &step);
        HOLDS(!memcmp(step.b, keys[i].b, 32));
    }
    larder_chain_first("tenant", 6, &step);
    larder_chain_next(&step, tokens, 256, &step);
    HOLDS(memcmp(step.b, keys[0].b, 32) != 0);
    HOLDS(larder_chain(NULL, 0, tokens, 10, 0, keys, N) == 0);
}

static void check_chunks(struct larder *l, const struct larder_key keys[N])
{
    static unsigned char in[BYTES], out[BYTES];
    struct larder_object all[N], other;
    struct larder_layout newer = layout;
    struct larder_view v;
    size_t n = 0;
    for (size_t i = 0; i < N; i++)
        all[i] = chunk(keys, i);
    HOLDS(larder_prefix(l, all, N, 0) == 0);
    HOLDS(larder_get(l, &all[0], out, BYTES, &n, 0) == LARDER_ENOENT);
    for (unsigned i = 0; i < N - 2; i++) {
        fill(in, i);
        HOLDS(larder_put(l, &all[i], in, BYTES, i ? 0 : LARDER_DURABLE, 10000) == LARDER_OK);
    }
    HOLDS(larder_put(l, &all[0], in, BYTES, 0, 0) == LARDER_EEXIST);
    HOLDS(larder_prefix(l, all, N, LARDER_PREFETCH) == N - 2);
    for (unsigned i = 0; i < N - 2; i++) {
        fill(in, i);
        n = 0;
        HOLDS(larder_get(l, &all[i], out, BYTES, &n, 0) == LARDER_OK && n == BYTES);
        HOLDS(!memcmp(in, out, BYTES));
    }
    HOLDS(larder_get(l, &all[0], out, 100, &n, 0) == LARDER_EOVER && n == BYTES);
    newer.version = 2;
    other = all[0];
    other.layout = &newer;
    HOLDS(larder_get(l, &other, out, BYTES, &n, 0) == LARDER_ENOENT);
    fill(in, 1);
    HOLDS(larder_view(l, &all[1], 0, &v) == LARDER_OK && v.bytes == BYTES);
    HOLDS(larder_delete(l, &all[1]) == LARDER_OK);
    HOLDS(!memcmp(v.p, in, BYTES)); /* it stays while it is held */
    larder_view_end(&v);
    HOLDS(larder_prefix(l, all, N, 0) == 1);
    HOLDS(larder_pin(l, &all[0], UINT64_MAX) == LARDER_OK);
    HOLDS(larder_pin(l, &all[1], UINT64_MAX) == LARDER_ENOENT);
}

static void check_names(struct larder *l)
{
    char out[16];
    size_t n;
    struct larder_object a = {.name = "a", .name_bytes = 1}, b = {.name = "a", .name_bytes = 1, .space = "s"};
    struct larder_object none = {.space = "s"}, both = {.layout = &layout, .name = "a", .name_bytes = 1};
    HOLDS(larder_put(l, &a, "one", 3, 0, 0) == LARDER_OK);
    HOLDS(larder_put(l, &a, "three", 5, 0, 0) == LARDER_OK);
    HOLDS(larder_put(l, &b, "", 0, 0, 0) == LARDER_OK);
    HOLDS(larder_get(l, &a, out, sizeof out, &n, 0) == LARDER_OK && n == 5 && !memcmp(out, "three", 5));
    HOLDS(larder_get(l, &b, NULL, 0, &n, 0) == LARDER_OK && n == 0);
    HOLDS(larder_put(l, &none, "x", 1, 0, 0) == LARDER_EINVAL);
    HOLDS(larder_put(l, &both, "x", 1, 0, 0) == LARDER_EINVAL);
    HOLDS(larder_put(l, &a, "x", 1, 99, 0) == LARDER_EINVAL);
    HOLDS(larder_delete(l, &b) == LARDER_OK && larder_delete(l, &b) == LARDER_ENOENT);
}

static void check_restart(struct larder *l, const struct larder_key keys[N])
{
    static unsigned char in[BYTES], out[BYTES];
    struct larder_object first = chunk(keys, 0);
    struct larder_stats st;
    size_t n;
    larder_get_stats(l, &st);
    HOLDS(st.recovered >= 2 && st.disk_ok && st.memory_max == 64u << 20);
    fill(in, 0);
    HOLDS(larder_get(l, &first, out, BYTES, &n, LARDER_FOREVER) == LARDER_OK && n == BYTES);
    HOLDS(!memcmp(in, out, BYTES));
    larder_get_stats(l, &st);
    HOLDS(st.hits_disk == 1 && st.corrupt == 0 && st.memory_pinned > 0);
}

int main(int argc, char **argv)
{
    struct larder *l, *second;
    struct larder_key keys[N];
    struct larder_opts opts = {.memory_max = 64u << 20, .disk_max = 64u << 20, .dir = argc > 1 ? argv[1] : "."};
    char why[200] = "";
    HOLDS(strlen(larder_version()) >= 5 && !strcmp(larder_strerror(LARDER_ENOENT), "not found"));
    check_chain(keys);
    if (larder_open(&l, &opts, why, sizeof why)) {
        printf("open: %s\n", why);
        return 1;
    }
    HOLDS(larder_open(&second, &opts, why, sizeof why) == LARDER_EBUSY && *why);
    check_chunks(l, keys);
    check_names(l);
    HOLDS(larder_sync(l, LARDER_FOREVER) == LARDER_OK);
    larder_close(l);
    HOLDS(larder_open(&l, &opts, why, sizeof why) == LARDER_OK);
    check_restart(l, keys);
    larder_close(l);
    opts.dir = NULL;
    HOLDS(larder_open(&l, &opts, NULL, 0) == LARDER_OK);
    struct larder_object first = chunk(keys, 0);
    HOLDS(larder_put(l, &first, "x", 1, LARDER_DURABLE, 0) == LARDER_EUNSUPPORTED);
    larder_close(l);
    return bad;
}
