/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_sse.c - any bytes as an upstream's answer, streamed or whole, of any dialect.
 *
 *   byte 0: dialect (modulo) and, in the top bit, whole or stream     bytes 1-4: lengths of pieces
 *
 * Split or not, the same events come and the same failure. What was emitted is the beginning of a
 * valid answer; its stored form is a fixed point and gives the same whole body in every dialect;
 * and all dialects can stream it.
 */
#include "dialect/dialect_int.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX LR_KIB(256)
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static int append(void *ctx, const struct lr_event *ev)
{
    return lr_event_append(ctx, ev);
}

/* sizes: four piece lengths, used in turn; NULL: all at once. */
static int decode(enum lr_dialect_id d, bool stream, struct lr_str in, const uint8_t *sizes,
                  struct lr_buf *log)
{
    struct lr_decoder *dec;
    struct lr_err err = {0};
    MUST(lr_decoder_open(&dec, d, stream, MAX, append, log) == 0);
    int rc = 0;
    for (unsigned i = 0; in.n && !rc; i++) {
        size_t n = sizes ? (size_t)sizes[i % 4] + 1 : in.n;
        if (n > in.n)
            n = in.n;
        rc = lr_decoder_feed(dec, lr_str(in.p, n), &err);
        in = lr_str(in.p + n, in.n - n);
    }
    if (!rc)
        rc = lr_decoder_end(dec, &err);
    MUST(rc != LR_EPARSE || err.msg[0]);
    lr_decoder_close(dec);
    return rc;
}

static int encode(enum lr_dialect_id d, bool stream, struct lr_str log, struct lr_buf *out)
{
    struct lr_encoder_opts o = {.dialect = d,
                                .stream = stream,
                                .include_usage = true,
                                .fresh_ids = stream,
                                .created_s = 1,
                                .choices_max =
                                    d == LR_DIALECT_CHAT || d == LR_DIALECT_COMPLETION ? 0 : 1,
                                .whole_max = LR_MIB(16)};
    struct lr_encoder *enc;
    struct lr_event ev;
    MUST(lr_encoder_open(&enc, &o) == 0);
    int rc = 0;
    while (!rc && lr_event_next(&log, &ev) == 1)
        rc = lr_encoder_event(enc, &ev, out);
    lr_encoder_close(enc);
    return rc;
}

/* A body that was written must be JSON. */
static void check_json(struct lr_str body)
{
    struct lr_arena a;
    struct lr_json *v;
    struct lr_err err = {0};
    lr_arena_init(&a, LR_GIB(1));
    int rc =
        body.n ? lr_json_parse(&a, body, &(struct lr_json_limits){.depth_max = 200}, &v, &err) : 0;
    if (rc)
        fprintf(stderr, "%s %s\n%.*s\n", err.where, err.msg, (int)body.n, body.p);
    MUST(rc == 0);
    lr_arena_free(&a);
}

static void check_writers(struct lr_str log, struct lr_str compact)
{
    for (unsigned d = 1; d < LR_DIALECT_N; d++) {
        struct lr_buf a, b, s;
        lr_buf_init(&a, LR_MIB(16));
        lr_buf_init(&b, LR_MIB(16));
        lr_buf_init(&s, LR_MIB(16));
        int rc = encode((enum lr_dialect_id)d, false, log, &a);
        if (rc)
            fprintf(stderr, "%s: %s\n", lr_dialect_name((enum lr_dialect_id)d), lr_errname(rc));
        /* Arguments that are no object cannot be said in Messages. */
        MUST(rc == 0 || (rc == LR_EUNSUPPORTED && d == LR_DIALECT_MESSAGES));
        MUST(encode((enum lr_dialect_id)d, false, compact, &b) == rc);
        MUST(rc || lr_str_eq(lr_buf_str(&a), lr_buf_str(&b)));
        if (!rc)
            check_json(lr_buf_str(&a));
        rc = encode((enum lr_dialect_id)d, true, log, &s);
        if (rc && d != LR_DIALECT_EMBEDDING)
            fprintf(stderr, "%s: %s\n", lr_dialect_name((enum lr_dialect_id)d), lr_errname(rc));
        MUST(rc == 0 || d == LR_DIALECT_EMBEDDING);
        lr_buf_free(&a);
        lr_buf_free(&b);
        lr_buf_free(&s);
    }
}

static void check_log(struct lr_str log)
{
    struct lr_answer_facts facts;
    struct lr_buf once, twice;
    MUST(lr_answer_facts(log, &facts) == 0);
    lr_buf_init(&once, LR_MIB(16));
    lr_buf_init(&twice, LR_MIB(16));
    MUST(lr_answer_compact(log, &once) == 0);
    MUST(lr_answer_is_compact(lr_buf_str(&once)));
    MUST(lr_answer_compact(lr_buf_str(&once), &twice) == 0);
    MUST(lr_str_eq(lr_buf_str(&once), lr_buf_str(&twice)));
    check_writers(log, lr_buf_str(&once));
    lr_buf_free(&once);
    lr_buf_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 5)
        return 0;
    enum lr_dialect_id d = (enum lr_dialect_id)(1 + (p[0] & 127) % (LR_DIALECT_N - 1));
    bool stream = !(p[0] & 128);
    struct lr_str in = lr_str(p + 5, n - 5);
    struct lr_buf once, split;
    lr_buf_init(&once, LR_MIB(16));
    lr_buf_init(&split, LR_MIB(16));
    int rc = decode(d, stream, in, NULL, &once);
    MUST(decode(d, stream, in, p + 1, &split) == rc);
    MUST(lr_str_eq(lr_buf_str(&once), lr_buf_str(&split)));
    check_log(lr_buf_str(&once));
    lr_buf_free(&once);
    lr_buf_free(&split);
    return 0;
}
