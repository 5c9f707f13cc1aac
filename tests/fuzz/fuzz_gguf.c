/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_gguf.c - any bytes into the GGUF reader and, when it accepts them, the tokeniser.
 *
 * What is accepted lies within the input: every tensor's bytes are read and decoded, every value is
 * asked for by its type. What is refused says why and where.
 */
#include "nn/nn.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static volatile float sink; /* keeps reads alive */

static void walk_keys(const struct lr_nn_gguf *g)
{
    for (size_t i = 0; i < lr_nn_gguf_keys(g); i++) {
        const struct lr_nn_kv *kv = lr_nn_gguf_key(g, i);
        MUST(kv->key.n && (kv->type == LR_NN_KV_ARRAY || (kv->n == 1 && kv->elem == kv->type)));
        for (size_t k = 0; k < kv->n; k++) {
            uint64_t u;
            int64_t s;
            double d;
            if (kv->elem == LR_NN_KV_TEXT)
                MUST(((const struct lr_str *)kv->data)[k].p);
            else
                sink = (float)(lr_nn_kv_u64(kv, k, &u) + lr_nn_kv_i64(kv, k, &s) +
                               lr_nn_kv_real(kv, k, &d));
        }
    }
}

static void walk_tensors(const struct lr_nn_gguf *g, struct lr_str bytes)
{
    for (size_t i = 0; i < lr_nn_gguf_tensors(g); i++) {
        const struct lr_nn_tensor *t = lr_nn_gguf_at(g, i);
        const struct lr_nn_type_info *info = lr_nn_type_info(t->type);
        const char *p = t->data;
        float out[256];
        MUST(p >= bytes.p && t->bytes <= bytes.n && p + t->bytes <= bytes.p + bytes.n);
        MUST(t->bytes % info->block_bytes == 0);
        for (size_t at = 0; at < t->bytes; at += info->block_bytes) {
            MUST(lr_nn_decode(t->type, p + at, info->block, out) == 0);
            sink = out[0] + out[info->block - 1];
        }
    }
}

static void tokenise(const struct lr_nn_gguf *g)
{
    struct lr_nn_tok *t;
    struct lr_nn_ids ids;
    struct lr_err err = {0};
    if (lr_nn_tok_open(&t, g, &err)) {
        MUST(err.code && err.msg[0]);
        return;
    }
    lr_nn_ids_init(&ids, 1000);
    int rc = lr_nn_tok_encode(t, LR_STR("Hello  w\u00f6rld\n123"), LR_NN_ADD_SPECIAL, &ids, &err);
    MUST(rc == 0 || (err.code == rc && err.msg[0]));
    for (size_t i = 0; i < ids.n; i++)
        MUST(ids.id[i] < lr_nn_tok_size(t));
    lr_nn_ids_free(&ids);
    lr_nn_tok_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct lr_nn_gguf *g;
    struct lr_err err = {0};
    struct lr_str bytes = lr_str(p, n);
    int rc = lr_nn_gguf_open_mem(&g, bytes, &err);
    if (rc) {
        MUST(err.code == rc && err.msg[0] && err.where[0]);
        return 0;
    }
    walk_keys(g);
    walk_tensors(g, bytes);
    tokenise(g);
    lr_nn_gguf_close(g);
    return 0;
}
