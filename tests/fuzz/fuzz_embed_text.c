/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_embed_text.c - the small texts of embed/: a folder's files, labelled pairs, a server's answer.
 *
 *   first byte   'c' a CSV of pairs
 *                'r' an answer to a request of three vectors of four elements
 *                else a folder: its files one after another, each ended by a byte 1
 */
#include "embed/embed_int.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void csv(struct lr_str text)
{
    struct lr_embed_pairs p;
    struct lr_err err = {0};
    int rc = lr_embed_pairs_parse(&p, text, &err);
    MUST(!rc || (err.code == rc && err.msg[0] && err.where[0]));
    if (rc)
        return;
    size_t bytes = 0;
    for (size_t i = 0; i < p.n; i++)
        bytes += p.pair[i].a.n + p.pair[i].b.n;
    MUST(bytes <= text.n);
    lr_embed_pairs_free(&p);
}

static void answer(struct lr_str text)
{
    float v[12];
    struct lr_err err = {0};
    int rc = lr_embed_remote_parse(text, 3, 4, v, &err);
    MUST(!rc || (err.code == rc && err.msg[0]));
    for (int i = 0; i < 3 && !rc; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += v[4 * i + k] * v[4 * i + k];
        MUST(sum > 0.999f && sum < 1.001f);
    }
}

static void folder(struct lr_str text)
{
    struct folder_texts t = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct lr_str *parts[] = {&t.config, &t.vocab, &t.pooling, &t.sentence, &t.tokenizer, &t.modules};
    struct folder f = {0};
    struct lr_err err = {0};
    struct lr_nn_tok *tok;
    for (size_t i = 0; i < LR_COUNT(parts) && text.p; i++)
        *parts[i] = lr_str_cut(&text, 1);
    int rc = lr_embed_folder_parse(&f, &t, &err);
    MUST(!rc || (err.code == rc && err.msg[0] && err.where[0]));
    if (!rc) {
        MUST(f.vocab.n && f.spec.tokens_max >= 3 && f.spec.tokens_max <= f.spec.n_ctx);
        MUST(f.spec.n_embd % f.spec.n_head == 0);
        if (lr_nn_tok_new(&tok, &f.vocab, NULL) == 0)
            lr_nn_tok_close(tok);
    }
    lr_embed_folder_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char *copy = malloc(n + 1); /* reads beyond it are seen */
    MUST(copy);
    memcpy(copy, p, n);
    struct lr_str text = lr_str(copy, n);
    if (n && p[0] == 'c')
        csv(lr_str(copy + 1, n - 1));
    else if (n && p[0] == 'r')
        answer(lr_str(copy + 1, n - 1));
    else if (n)
        folder(text);
    free(copy);
    return 0;
}
