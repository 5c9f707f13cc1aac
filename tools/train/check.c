/* SPDX-License-Identifier: Apache-2.0
 * train/check.c - what a trained model does in the engine that will run it: after quantisation,
 * with our tokeniser, our attention, our rounding. check.py writes the questions and judges the
 * answers.
 *
 * Standard input: one job a line, a tab between fields; \n, \t and \\ are escaped in texts.
 *
 *   A  <ids>  (<text>  <n>)...   feed the text, write n greedy tokens (up to the end of a turn),
 *                                forget them, go on with the next text; ids: how many tokens all
 *                                texts are, 0 = not said. Prints the answers, a tab between.
 *   P  <window>  <text>          perplexity in windows: the sum of -ln p, and the tokens counted
 *   I  <text>                    the ids of the text, without BOS
 *
 * Control tokens spelled in texts are taken as such. usage: train_check MODEL [threads] [codec]
 */
#include "engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LINE_MAX LR_MIB(4)
#define IDS_MAX 65536u

struct check {
    struct lr_engine_model *model;
    struct lr_engine *engine;
    struct lr_nn_tok *tok;
    float *logits;
    uint32_t n_vocab;
    struct lr_err err;
};

/* In place: the escapes of a field become what they stand for. */
static struct lr_str unescape(char *z)
{
    char *out = z;
    for (char *p = z; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            *out++ = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
        } else {
            *out++ = *p;
        }
    }
    return lr_str(z, (size_t)(out - z));
}

static void escape(struct lr_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\n')
            fputs("\\n", stdout);
        else if (s.p[i] == '\t' || s.p[i] == '\\')
            printf("\\%c", s.p[i] == '\t' ? 't' : '\\');
        else
            putchar(s.p[i]);
    }
}

static uint32_t best(const struct check *c)
{
    uint32_t b = 0;
    for (uint32_t i = 1; i < c->n_vocab; i++)
        if (c->logits[i] > c->logits[b])
            b = i;
    return b;
}

/* n tokens behind what s holds, whose last logits are in c->logits; s is as before. */
static int answer(struct check *c, struct lr_engine_seq *s, uint64_t n)
{
    uint32_t len = lr_engine_seq_len(s);
    struct lr_nn_decoder d;
    struct lr_buf text;
    lr_nn_decoder_init(&d, c->tok, false, false);
    lr_buf_init(&text, LINE_MAX);
    int rc = 0;
    for (uint64_t i = 0; i < n && !rc; i++) {
        uint32_t id = best(c);
        if (lr_nn_tok_ends(c->tok, id))
            break;
        rc = lr_nn_decoder_add(&d, id, &text);
        if (!rc && i + 1 < n)
            rc = lr_engine_feed(s, &id, 1, c->logits, NULL, &c->err);
    }
    if (!rc)
        rc = lr_nn_decoder_end(&d, &text);
    escape(lr_buf_str(&text));
    lr_buf_free(&text);
    return rc ? rc : lr_engine_seq_truncate(s, len);
}

static int answers(struct check *c, struct lr_engine_seq *s, char **field, struct lr_nn_ids *ids)
{
    uint64_t total = 0, n;
    LR_TRY(lr_parse_u64(lr_strz(field[0]), &total));
    for (size_t i = 1; field[i] && field[i + 1]; i += 2) {
        size_t from = ids->n;
        unsigned flags = LR_NN_PARSE_SPECIAL | (i == 1 ? LR_NN_ADD_SPECIAL : 0u);
        LR_TRY(lr_nn_tok_encode(c->tok, unescape(field[i]), flags, ids, &c->err));
        LR_TRY(lr_engine_feed(s, ids->id + from, ids->n - from, c->logits, NULL, &c->err));
        LR_TRY(lr_parse_u64(lr_strz(field[i + 1]), &n));
        if (i > 1)
            putchar('\t');
        LR_TRY(answer(c, s, n));
    }
    putchar('\n');
    if (total && total != ids->n)
        return lr_err_set(&c->err, LR_EINVAL, "ids", "%zu tokens here, %llu there", ids->n,
                          (unsigned long long)total);
    return 0;
}

static double surprise(const struct check *c, uint32_t id)
{
    double sum = 0, top = c->logits[best(c)];
    for (uint32_t i = 0; i < c->n_vocab; i++)
        sum += exp(c->logits[i] - top);
    return log(sum) + top - c->logits[id];
}

static int perplexity(struct check *c, struct lr_engine_seq *s, char **field, struct lr_nn_ids *ids)
{
    uint64_t window = 0;
    double sum = 0;
    size_t count = 0;
    uint32_t bos = lr_nn_tok_roles(c->tok)->bos;
    LR_TRY(lr_parse_u64(lr_strz(field[0]), &window));
    LR_TRY(lr_nn_tok_encode(c->tok, unescape(field[1]), 0, ids, &c->err));
    for (size_t at = 0; window > 1 && at + window <= ids->n; at += window - 1) {
        LR_TRY(lr_engine_seq_truncate(s, 0));
        LR_TRY(lr_engine_feed(s, &bos, 1, c->logits, NULL, &c->err));
        for (size_t i = 0; i + 1 < window; i++, count++) {
            sum += surprise(c, ids->id[at + i]);
            LR_TRY(lr_engine_feed(s, ids->id + at + i, 1, c->logits, NULL, &c->err));
        }
    }
    printf("%.6f\t%zu\n", sum, count);
    return 0;
}

static int print_ids(struct check *c, char **field, struct lr_nn_ids *ids)
{
    LR_TRY(lr_nn_tok_encode(c->tok, unescape(field[0]), LR_NN_PARSE_SPECIAL, ids, &c->err));
    for (size_t i = 0; i < ids->n; i++)
        printf("%s%u", i ? " " : "", ids->id[i]);
    putchar('\n');
    return 0;
}

static int job(struct check *c, char *line)
{
    char *field[64] = {NULL};
    size_t n = 0;
    for (char *p = line; p && n < LR_COUNT(field) - 1; n++) {
        field[n] = p;
        p = strchr(p, '\t');
        if (p)
            *p++ = 0;
    }
    LR_FAIL_IF(n < 2, LR_EINVAL);
    struct lr_nn_ids ids;
    struct lr_engine_seq *s;
    LR_TRY(lr_engine_seq_open(&s, c->engine, &(struct lr_engine_seq_opts){0}, &c->err));
    lr_nn_ids_init(&ids, IDS_MAX);
    int rc = *line == 'A'              ? answers(c, s, field + 1, &ids)
             : *line == 'P' && n == 3 ? perplexity(c, s, field + 1, &ids)
             : *line == 'I'           ? print_ids(c, field + 1, &ids)
                                      : LR_EINVAL;
    lr_nn_ids_free(&ids);
    lr_engine_seq_close(s);
    return rc;
}

static int jobs(struct check *c)
{
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;
    for (ssize_t n; !rc && (n = getline(&line, &cap, stdin)) > 0;) {
        if (line[n - 1] == '\n')
            line[n - 1] = 0;
        rc = (size_t)n > LINE_MAX ? LR_EOVER : job(c, line);
        if (rc == 0 && fflush(stdout))
            rc = LR_EIO;
    }
    free(line); /* getline's */
    return rc;
}

int main(int argc, char **argv)
{
    struct check c = {.n_vocab = 0};
    uint64_t threads = 1;
    if (argc < 2 || argc > 4 || (argc > 2 && lr_parse_u64(lr_strz(argv[2]), &threads))) {
        fprintf(stderr, "usage: train_check MODEL [threads] [codec]\n");
        return 2;
    }
    struct lr_engine_opts o = {.threads = (unsigned)threads,
                               .codec = argc > 3 ? lr_engine_codec_find(lr_strz(argv[3])) : NULL};
    int rc = argc > 3 && !o.codec ? LR_ENOENT : lr_engine_model_open(&c.model, argv[1], &c.err);
    if (!rc)
        rc = lr_engine_open(&c.engine, c.model, &o, &c.err);
    if (!rc)
        rc = lr_nn_tok_open(&c.tok, lr_engine_model_file(c.model), &c.err);
    if (!rc) {
        c.n_vocab = lr_engine_model_shape(c.model)->n_vocab;
        c.logits = lr_calloc(c.n_vocab, sizeof *c.logits);
        rc = c.logits ? jobs(&c) : LR_ENOMEM;
    }
    if (rc)
        fprintf(stderr, "train_check: %s: %s (%s)\n", lr_strerror(rc), c.err.msg, c.err.where);
    lr_free(c.logits);
    lr_nn_tok_close(c.tok);
    lr_engine_close(c.engine);
    lr_engine_model_close(c.model);
    return rc ? 1 : 0;
}
