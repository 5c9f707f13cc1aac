/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/codec.h - what the tests of the dialects share: bytes to logs, logs to text and
 * bytes.
 */
#ifndef TESTS_UNIT_DIALECT_CODEC_H
#define TESTS_UNIT_DIALECT_CODEC_H

#include "dialect/dialect_int.h"

#include <stdio.h>
#include <stdlib.h>

#define CODEC_MAX LR_MIB(8)

static inline int codec_append(void *ctx, const struct lr_event *ev)
{
    return lr_event_append(ctx, ev);
}

/* Decodes bytes, fed in pieces of at most `step` (0: at once), into log. Returns the first failure.
 */
static inline int codec_decode(enum lr_dialect_id d, bool stream, struct lr_str bytes, size_t step,
                               struct lr_buf *log, struct lr_err *err)
{
    struct lr_decoder *dec;
    int rc = lr_decoder_open(&dec, d, stream, CODEC_MAX, codec_append, log);
    if (rc)
        return rc;
    while (!rc && bytes.n) {
        size_t n = step && step < bytes.n ? step : bytes.n;
        rc = lr_decoder_feed(dec, lr_str(bytes.p, n), err);
        bytes = lr_str(bytes.p + n, bytes.n - n);
    }
    if (!rc)
        rc = lr_decoder_end(dec, err);
    lr_decoder_close(dec);
    return rc;
}

static inline int codec_encode(const struct lr_encoder_opts *o, struct lr_str log,
                               struct lr_buf *out)
{
    struct lr_encoder *enc;
    struct lr_event ev;
    int rc = lr_encoder_open(&enc, o), more;
    if (rc)
        return rc;
    while (!rc && (more = lr_event_next(&log, &ev)) != 0)
        rc = more < 0 ? more : lr_encoder_event(enc, &ev, out);
    lr_encoder_close(enc);
    return rc;
}

static inline struct lr_encoder_opts codec_opts(enum lr_dialect_id d, bool stream)
{
    struct lr_encoder_opts o = {.dialect = d,
                                .stream = stream,
                                .include_usage = true,
                                .created_s = 1700000000,
                                .whole_max = CODEC_MAX};
    memcpy(o.id, "abcdefghijklmnopqrstuvwx", 25);
    return o;
}

static inline void codec_dump_event(const struct lr_event *ev, struct lr_buf *out)
{
    static const char *const names[] = {"?",        "START",    "PART",   "DELTA", "SIGN",
                                        "PART_END", "LOGPROBS", "FINISH", "USAGE", "VECTOR",
                                        "EXTRA",    "ERROR",    "END",    "BYTES"};
    lr_buf_addf(out, "%s", names[ev->type]);
    if (ev->type != LR_EV_START && ev->type != LR_EV_USAGE && ev->type != LR_EV_END)
        lr_buf_addf(out, " %u.%u sub=%u", ev->choice, ev->part, ev->sub);
    if (ev->dialect)
        lr_buf_addf(out, " %s", lr_dialect_name(ev->dialect));
    if (ev->status)
        lr_buf_addf(out, " status=%u", ev->status);
    if (ev->type == LR_EV_USAGE)
        lr_buf_addf(out, " in=%llu out=%llu cached=%llu written=%llu reasoning=%llu",
                    (unsigned long long)ev->usage.input, (unsigned long long)ev->usage.output,
                    (unsigned long long)ev->usage.cached_input,
                    (unsigned long long)ev->usage.written_input,
                    (unsigned long long)ev->usage.reasoning);
    if (ev->a.n) {
        lr_buf_addz(out, " a=");
        lr_json_quote(out, ev->a);
    }
    if (ev->b.n) {
        lr_buf_addz(out, " b=");
        lr_json_quote(out, ev->b);
    }
    lr_buf_addc(out, '\n');
}

/* One line an event. */
static inline void codec_dump(struct lr_str log, struct lr_buf *out)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1)
        codec_dump_event(&ev, out);
    if (rc)
        lr_buf_addz(out, "CORRUPT\n");
}

/* A file under tests/golden/dialect. */
static inline int codec_read(const char *name, struct lr_buf *b)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/dialect/%s", LR_SOURCE_DIR, name);
    return lr_io_read_file(path, b);
}

#endif
