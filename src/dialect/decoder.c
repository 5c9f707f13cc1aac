/* SPDX-License-Identifier: Apache-2.0
 * dialect/decoder.c - upstream bytes to canonical events.
 *
 *   bytes -> SSE reader -> one event's data -> the dialect -> events        (stream)
 *   bytes -> buffer ------> the whole body ---> the dialect -> events        (not stream)
 *
 * This file owns the frame around the dialects: buffering and its bound, END, and the two ways an
 * answer can be over early. Laws: the sequence of events does not depend on how the bytes were
 * split; END comes once, as soon as the terminal event was read (so that it travels on at once),
 * and only for a whole answer; after END or ERROR nothing follows and further input is ignored;
 * after a failure every call returns the same failure.
 *
 * The scratch arena holds one event's tree. A tree can be some fifty times its text ("[1,1,1,"), so
 * its bound is a multiple of the input's and not the input's own.
 */
#include "dialect/dialect_int.h"

#include <assert.h>

struct lr_decoder {
    const struct lr_dialect_ops *ops;
    bool stream, over; /* over: END or ERROR was emitted */
    int rc;            /* the failure that ended it */
    lr_event_fn fn;
    void *ctx;
    struct lr_emit to; /* emit() below; err is the current call's */
    struct lr_sse sse;
    struct lr_buf body;
    struct lr_arena scratch;
    void *state;
};

/* Between the dialect and the caller: notes that an error ended the answer. */
static int emit(void *ctx, const struct lr_event *ev)
{
    struct lr_decoder *dec = ctx;
    assert(ev->type != LR_EV_END && !dec->over);
    if (ev->type == LR_EV_ERROR)
        dec->over = true;
    return dec->fn(dec->ctx, ev);
}

int lr_decoder_open(struct lr_decoder **out, enum lr_dialect_id d, bool stream, size_t max,
                    lr_event_fn fn, void *ctx)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(d);
    LR_FAIL_IF(!ops || !fn, LR_EINVAL);
    struct lr_decoder *dec = lr_new(struct lr_decoder);
    LR_FAIL_IF(!dec, LR_ENOMEM);
    dec->state = lr_calloc(1, ops->dec_size ? ops->dec_size : 1);
    if (!dec->state) {
        lr_free(dec);
        return LR_ENOMEM;
    }
    dec->ops = ops;
    dec->stream = stream;
    dec->fn = fn;
    dec->ctx = ctx;
    dec->to = (struct lr_emit){.dialect = d, .a = &dec->scratch, .fn = emit, .ctx = dec};
    lr_arena_init(&dec->scratch, lr_tree_max(max));
    lr_sse_init(&dec->sse, max);
    lr_buf_init(&dec->body, max);
    *out = dec;
    return 0;
}

void lr_decoder_close(struct lr_decoder *dec)
{
    if (!dec)
        return;
    if (dec->ops->dec_close)
        dec->ops->dec_close(dec->state);
    lr_free(dec->state);
    lr_sse_free(&dec->sse);
    lr_buf_free(&dec->body);
    lr_arena_free(&dec->scratch);
    lr_free(dec);
}

static int emit_end(struct lr_decoder *dec)
{
    dec->over = true;
    struct lr_event end = {.type = LR_EV_END};
    return dec->fn(dec->ctx, &end);
}

static int on_sse(void *ctx, struct lr_str name, struct lr_str data)
{
    struct lr_decoder *dec = ctx;
    if (dec->over)
        return 0;
    lr_arena_reset(&dec->scratch);
    LR_TRY(dec->ops->dec_event(dec->state, &dec->to, name, data));
    if (!dec->over && dec->ops->dec_done(dec->state))
        return emit_end(dec);
    return 0;
}

int lr_decoder_feed(struct lr_decoder *dec, struct lr_str bytes, struct lr_err *err)
{
    if (dec->rc || dec->over)
        return dec->rc;
    dec->to.err = err;
    if (dec->stream)
        dec->rc = lr_sse_feed(&dec->sse, bytes, on_sse, dec);
    else
        dec->rc = lr_buf_adds(&dec->body, bytes);
    if (dec->rc == LR_EOVER)
        (void)lr_err_set(err, LR_EOVER, "answer", "more than %zu bytes in one piece",
                         dec->body.max);
    return dec->rc;
}

static int end_stream(struct lr_decoder *dec, struct lr_err *err)
{
    if (dec->ops->dec_eof && dec->ops->dec_eof(dec->state))
        return emit_end(dec);
    return lr_err_set(err, LR_EPARSE, "answer", "the stream ended before the answer did");
}

static int end_whole(struct lr_decoder *dec)
{
    lr_arena_reset(&dec->scratch);
    LR_TRY(dec->ops->dec_whole(dec->state, &dec->to, lr_buf_str(&dec->body)));
    return dec->over ? 0 : emit_end(dec);
}

int lr_decoder_end(struct lr_decoder *dec, struct lr_err *err)
{
    if (dec->rc || dec->over)
        return dec->rc;
    dec->to.err = err;
    dec->rc = dec->stream ? end_stream(dec, err) : end_whole(dec);
    return dec->rc;
}
