/* SPDX-License-Identifier: Apache-2.0
 * clients/logits.c - the logits of every position, for logits.py to compare with another engine's.
 *
 * Standard input: token ids, 32 bits each in this machine's order. The first `prompt` of them are fed
 * in pieces of `piece`, the others one by one, as decoding does. Standard output: for each token as
 * many 32-bit floats as the vocabulary has, nothing else.
 *
 * usage: check_logits MODEL CODEC PROMPT PIECE
 */
#include "engine/engine.h"

#include <stdio.h>

#define TOKENS_MAX 4096u

struct task {
    uint32_t token[TOKENS_MAX];
    uint32_t n, prompt, piece;
    float *logits; /* (piece, n_vocab) */
};

static int feed(struct lr_engine *e, const struct task *t, struct lr_err *err)
{
    uint32_t vocab = lr_engine_model_shape(lr_engine_model(e))->n_vocab;
    struct lr_engine_seq *s;
    LR_TRY(lr_engine_seq_open(&s, e, &(struct lr_engine_seq_opts){0}, err));
    int rc = 0;
    for (uint32_t at = 0, n; !rc && at < t->n; at += n) {
        n = at >= t->prompt ? 1 : t->prompt - at < t->piece ? t->prompt - at : t->piece;
        const struct lr_engine_work w = {
            .seq = s, .tokens = t->token + at, .n = n, .n_logits = n, .logits = t->logits};
        rc = lr_engine_step(e, &w, 1, err);
        if (!rc && fwrite(t->logits, sizeof *t->logits * vocab, n, stdout) != n)
            rc = lr_err_set(err, LR_EIO, "stdout", "cannot write");
    }
    lr_engine_seq_close(s);
    return rc;
}

static int run(struct task *t, const char *path, const char *codec, struct lr_err *err)
{
    struct lr_engine_model *m;
    struct lr_engine *e;
    const struct lr_engine_opts o = {.threads = 2, .codec = lr_engine_codec_find(lr_strz(codec))};
    if (!o.codec)
        return lr_err_set(err, LR_ENOENT, codec, "no such codec");
    LR_TRY(lr_engine_model_open(&m, path, err));
    int rc = lr_engine_open(&e, m, &o, err);
    if (!rc) {
        t->logits = lr_calloc((size_t)t->piece * lr_engine_model_shape(m)->n_vocab, sizeof(float));
        rc = t->logits ? feed(e, t, err) : lr_err_set(err, LR_ENOMEM, "logits", "out of memory");
        lr_free(t->logits);
        lr_engine_close(e);
    }
    lr_engine_model_close(m);
    return rc;
}

static bool read_task(struct task *t, char **argv)
{
    uint64_t prompt, piece;
    if (lr_parse_u64(lr_strz(argv[3]), &prompt) || lr_parse_u64(lr_strz(argv[4]), &piece) || !piece ||
        piece > LR_ENGINE_TILE || prompt > TOKENS_MAX)
        return false;
    t->n = (uint32_t)fread(t->token, sizeof *t->token, TOKENS_MAX, stdin);
    t->prompt = (uint32_t)prompt < t->n ? (uint32_t)prompt : t->n;
    t->piece = (uint32_t)piece;
    return t->n > 0;
}

int main(int argc, char **argv)
{
    static struct task t;
    struct lr_err err = {0};
    if (argc != 5 || !read_task(&t, argv)) {
        fprintf(stderr, "usage: check_logits MODEL CODEC PROMPT PIECE < ids > logits\n");
        return 2;
    }
    int rc = run(&t, argv[1], argv[2], &err);
    if (rc)
        fprintf(stderr, "check_logits: %s: %s (%s)\n", lr_strerror(rc), err.msg, err.where);
    return rc ? 1 : 0;
}
