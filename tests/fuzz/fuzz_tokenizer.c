/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_tokenizer.c - any vocabulary, any text.
 *
 *   kind and flags u8 | pre-tokeniser u8 | tokens u8, each: length u8, type u8, score i8, bytes |
 *   merges u8, each: length u8, bytes | the text
 *
 * Ids are of the vocabulary; text that is not trusted never gives control tokens; what BPE and SPM
 * tokens stand for is the text again; decoded text is well-formed.
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

struct input {
    const uint8_t *p;
    size_t n;
};

static uint8_t byte(struct input *in)
{
    if (!in->n)
        return 0;
    in->n--;
    return *in->p++;
}

static struct lr_str text(struct input *in, size_t n)
{
    n = n < in->n ? n : in->n;
    struct lr_str s = lr_str(in->p, n);
    in->p += n;
    in->n -= n;
    return s;
}

static void check(const struct lr_nn_tok *t, struct lr_str src, const struct lr_nn_ids *ids,
                  bool trusted, bool prefix)
{
    struct lr_buf all, out;
    struct lr_nn_decoder d;
    lr_buf_init(&all, LR_MIB(16));
    lr_buf_init(&out, LR_MIB(64));
    lr_nn_decoder_init(&d, t, true, true);
    for (size_t i = 0; i < ids->n; i++) {
        MUST(ids->id[i] < lr_nn_tok_size(t));
        if (!trusted && lr_nn_tok_kind(t) != LR_NN_WORDPIECE)
            MUST(lr_nn_tok_type(t, ids->id[i]) != LR_NN_TOKEN_CONTROL);
        MUST(lr_buf_adds(&all, lr_nn_tok_bytes(t, ids->id[i])) == 0);
        MUST(lr_nn_decoder_add(&d, ids->id[i], &out) == 0);
        MUST(lr_utf8_check(lr_buf_str(&out), NULL) == 0);
    }
    MUST(lr_nn_decoder_end(&d, &out) == 0 && lr_utf8_check(lr_buf_str(&out), NULL) == 0);
    bool marks = src.n && memchr(src.p, 0xE2, src.n); /* U+2581 becomes a space */
    if (lr_nn_tok_kind(t) == LR_NN_BPE || (lr_nn_tok_kind(t) == LR_NN_SPM && !prefix && !marks))
        MUST(lr_str_eq(lr_buf_str(&all), src));
    lr_buf_free(&all);
    lr_buf_free(&out);
}

static void encode(const struct lr_nn_tok *t, struct lr_str src, bool trusted, bool prefix)
{
    struct lr_nn_ids ids;
    struct lr_err err = {0};
    lr_nn_ids_init(&ids, LR_MIB(1));
    int rc = lr_nn_tok_encode(t, src, trusted ? LR_NN_PARSE_SPECIAL : 0, &ids, &err);
    if (rc)
        MUST(err.code == rc && err.msg[0] && ids.n == 0);
    else
        check(t, src, &ids, trusted, prefix);
    lr_nn_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const pres[] = {
        "gpt-2",  "llama-bpe",    "qwen2",          "qwen35",      "smollm", "falcon",    "default",
        "tekken", "deepseek-llm", "deepseek-coder", "deepseek-v3", "gpt-4o", "unheard-of"};
    struct lr_str tokens[256], merges[256];
    float scores[256];
    int32_t types[256];
    struct input in = {p, n};
    uint8_t head = byte(&in);
    struct lr_nn_vocab v = {.kind = (enum lr_nn_tok_kind)(head % 3),
                            .tokens = tokens,
                            .types = types,
                            .scores = scores,
                            .merges = merges,
                            .add_space_prefix = head & 4,
                            .keep_case = head & 8,
                            .keep_accents = head & 16};
    memset(&v.roles, 0xFF, sizeof v.roles);
    v.roles.unk = head & 32 ? 0 : LR_NN_NO_TOKEN;
    v.pre = lr_strz(pres[byte(&in) % LR_COUNT(pres)]);
    v.n = byte(&in);
    for (size_t i = 0; i < v.n; i++) {
        size_t len = byte(&in);
        types[i] = byte(&in) % 8;
        scores[i] = (float)(int8_t)byte(&in);
        tokens[i] = text(&in, len);
    }
    v.n_merges = byte(&in);
    for (size_t i = 0; i < v.n_merges; i++)
        merges[i] = text(&in, byte(&in));
    struct lr_nn_tok *t;
    struct lr_err err = {0};
    int rc = lr_nn_tok_new(&t, &v, &err);
    if (rc) {
        MUST(err.code == rc && err.msg[0] && err.where[0]);
        return 0;
    }
    encode(t, lr_str(in.p, in.n), false, v.add_space_prefix);
    encode(t, lr_str(in.p, in.n), true, v.add_space_prefix);
    lr_nn_tok_close(t);
    return 0;
}
