/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_embed.c - any bytes as an encoder or a pair verifier, and when one opens, a text through it.
 *
 * What is refused says why and where; what is accepted gives vectors of unit length, or zeros and says
 * so, and probabilities between 0 and 1, whatever the weights.
 */
#include "embed/embed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static const struct lr_str texts[] = {{"how do i reset it?", 18}, {"", 0}, {"a\0b \xff\xfe caf\xc3\xa9", 12}};

static void encode(const struct lr_embed_model *m)
{
    const struct lr_embed_info *i = lr_embed_info(m);
    struct lr_embed_scratch *s;
    struct lr_embed_note notes[3];
    MUST(i->dim >= 1 && i->dim <= LR_EMBED_DIM_MAX && i->tokens_max <= LR_EMBED_TOKENS_MAX);
    float *v = malloc(3 * sizeof *v * i->dim);
    MUST(v && lr_embed_scratch_open(m, &s) == 0);
    MUST(lr_embed_encode(m, s, texts, 3, v, notes, NULL) == 0);
    for (int t = 0; t < 3; t++) {
        double sum = 0;
        for (uint32_t k = 0; k < i->dim; k++)
            sum += (double)v[(uint32_t)t * i->dim + k] * (double)v[(uint32_t)t * i->dim + k];
        MUST(sum == 0 || fabs(sum - 1) < 1e-3);
        MUST(!notes[t].empty || sum == 0);
    }
    lr_embed_scratch_close(s);
    free(v);
}

static void judge(const struct lr_embed_pair *p)
{
    struct lr_embed_scratch *s;
    struct lr_embed_verdict v[2];
    struct lr_embed_two two[2] = {{{texts[0], texts[2]}, {texts[2], texts[1]}},
                                  {{texts[1], texts[1]}, {texts[0], texts[0]}}};
    MUST(lr_embed_pair_scratch_open(p, &s) == 0);
    MUST(lr_embed_pair_judge(p, s, two, 2, v, NULL) == 0);
    MUST(v[0].p > 0 && v[0].p < 1 && v[1].p > 0 && v[1].p < 1);
    lr_embed_scratch_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct lr_nn_gguf *g;
    struct lr_embed_model *m;
    struct lr_embed_pair *pair;
    struct lr_err err = {0}, other = {0};
    void *copy = aligned_alloc(64, (n + 64) / 64 * 64);
    MUST(copy);
    memcpy(copy, p, n);
    if (lr_nn_gguf_open_mem(&g, lr_str(copy, n), NULL) == 0) {
        int rc = lr_embed_open_gguf(&m, g, NULL, &err);
        MUST(!rc || (err.code == rc && err.msg[0] && err.where[0]));
        int rc2 = lr_embed_pair_open_gguf(&pair, g, &(struct lr_embed_opts){.exact = true}, &other);
        MUST(!rc2 || (other.code == rc2 && other.msg[0] && other.where[0]));
        MUST(rc || rc2);
        lr_nn_gguf_close(g);
        if (!rc) {
            encode(m);
            lr_embed_close(m);
        }
        if (!rc2) {
            judge(pair);
            lr_embed_pair_close(pair);
        }
    }
    free(copy);
    return 0;
}
