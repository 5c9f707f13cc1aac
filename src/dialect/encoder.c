/* SPDX-License-Identifier: Apache-2.0
 * dialect/encoder.c - canonical events to a client's bytes.
 *
 * Streams are written event by event; whole bodies are collected as an event log, brought into
 * compact form (event.c) and written at END, so that a dialect's writer of whole bodies sees one
 * order only: choices one after another, parts whole, extras without repeats. That a live log and
 * its stored form give the same body holds by construction.
 *
 * What no dialect wants to see is taken out here: extras of other dialects, choices beyond
 * choices_max. Ids are fresh on replay (two answers with one id confuse clients that file by id),
 * else the upstream's own.
 */
#include "dialect/dialect_int.h"

struct lr_encoder {
    const struct lr_dialect_ops *ops;
    struct lr_encoder_opts opts;
    struct lr_buf log; /* whole bodies */
    void *state;
};

int lr_encoder_open(struct lr_encoder **out, const struct lr_encoder_opts *opts)
{
    const struct lr_dialect_ops *ops = lr_dialect_ops(opts->dialect);
    LR_FAIL_IF(!ops, LR_EINVAL);
    struct lr_encoder *enc = lr_new(struct lr_encoder);
    LR_FAIL_IF(!enc, LR_ENOMEM);
    enc->state = lr_calloc(1, ops->enc_size ? ops->enc_size : 1);
    if (!enc->state) {
        lr_free(enc);
        return LR_ENOMEM;
    }
    enc->ops = ops;
    enc->opts = *opts;
    lr_buf_init(&enc->log, opts->whole_max);
    *out = enc;
    return 0;
}

void lr_encoder_close(struct lr_encoder *enc)
{
    if (!enc)
        return;
    if (enc->ops->enc_close)
        enc->ops->enc_close(enc->state);
    lr_free(enc->state);
    lr_buf_free(&enc->log);
    lr_free(enc);
}

const char *lr_encoder_content_type(const struct lr_encoder *enc)
{
    return enc->opts.stream ? "text/event-stream" : "application/json";
}

/* Does this event belong to a choice (rather than to the answer, or to an embedding's input)? */
static bool of_choice(const struct lr_event *ev)
{
    switch (ev->type) {
    case LR_EV_PART:
    case LR_EV_DELTA:
    case LR_EV_SIGN:
    case LR_EV_PART_END:
    case LR_EV_LOGPROBS:
    case LR_EV_FINISH:
        return true;
    case LR_EV_EXTRA:
        return ev->sub == LR_SCOPE_CHOICE || ev->sub == LR_SCOPE_MESSAGE ||
               ev->sub == LR_SCOPE_PART;
    default:
        return false;
    }
}

static int write_whole(struct lr_encoder *enc, struct lr_buf *out)
{
    struct lr_str log = lr_buf_str(&enc->log);
    if (lr_answer_is_compact(log))
        return enc->ops->enc_whole(&enc->opts, log, out);
    struct lr_buf compact;
    lr_buf_init(&compact, enc->log.max);
    int rc = lr_answer_compact(log, &compact);
    if (!rc)
        rc = enc->ops->enc_whole(&enc->opts, lr_buf_str(&compact), out);
    lr_buf_free(&compact);
    return rc;
}

static int collect(struct lr_encoder *enc, const struct lr_event *ev, struct lr_buf *out)
{
    if (ev->type == LR_EV_ERROR) {
        struct lr_str code = ev->a.n ? ev->a : LR_STR("upstream_error");
        enc->ops->error(ev->status, code, ev->b, NULL, out);
        return out->rc;
    }
    LR_TRY(lr_event_append(&enc->log, ev));
    if (ev->type != LR_EV_END)
        return 0;
    LR_TRY(write_whole(enc, out));
    return out->rc;
}

int lr_encoder_event(struct lr_encoder *enc, const struct lr_event *ev, struct lr_buf *out)
{
    const struct lr_encoder_opts *o = &enc->opts;
    if (ev->type == LR_EV_BYTES)
        return lr_buf_adds(out, ev->a);
    if (ev->type == LR_EV_EXTRA && ev->dialect != o->dialect)
        return 0;
    if (o->choices_max && ev->choice >= o->choices_max && of_choice(ev))
        return 0;
    if (!o->stream)
        return collect(enc, ev, out);
    LR_TRY(enc->ops->enc_stream(enc->state, o, ev, out));
    return out->rc;
}

/* ---- shared by the dialects' writers -------------------------------------------------------- */

int lr_sse_write(struct lr_buf *out, struct lr_str event, struct lr_str data)
{
    bool line = event.n && !memchr(event.p, '\n', event.n) && !memchr(event.p, '\r', event.n);
    if (line) {
        LR_TRY(lr_buf_addz(out, "event: "));
        LR_TRY(lr_buf_adds(out, event));
        LR_TRY(lr_buf_addc(out, '\n'));
    }
    struct lr_str rest = data;
    do {
        struct lr_str text = lr_str_cut(&rest, '\n');
        LR_TRY(lr_buf_add(out, "data: ", 6));
        LR_TRY(lr_buf_adds(out, text));
        LR_TRY(lr_buf_addc(out, '\n'));
    } while (rest.p);
    return lr_buf_addc(out, '\n');
}

size_t lr_tree_max(size_t bytes)
{
    size_t max;
    bool over = lr_mul_over(bytes, 96, &max) || lr_add_over(max, LR_KIB(64), &max);
    return over ? SIZE_MAX : max;
}

int lr_parse_apart(struct lr_arena *a, struct lr_str text, struct lr_json **out)
{
    lr_arena_init(a, lr_tree_max(text.n));
    return lr_json_parse(a, text, NULL, out, NULL);
}

int lr_keep(struct lr_buf *b, struct lr_str s)
{
    lr_buf_reset(b);
    return lr_buf_adds(b, s);
}

void lr_id_answer(const struct lr_encoder_opts *o, const char *prefix, struct lr_str own,
                  struct lr_buf *out)
{
    if (own.n && !o->fresh_ids)
        (void)lr_buf_adds(out, own); /* failures stick in out */
    else
        (void)lr_buf_addf(out, "%s%s", prefix, o->id);
}

/* Chat's ids may have 40 characters: 5 + 24 + 11 hold choices and parts up to 9999. */
void lr_id_tool(const struct lr_encoder_opts *o, const char *prefix, struct lr_str own,
                unsigned choice, unsigned part, struct lr_buf *out)
{
    if (own.n && !o->fresh_ids)
        (void)lr_buf_adds(out, own); /* failures stick in out */
    else
        (void)lr_buf_addf(out, "%s%s_%u_%u", prefix, o->id, choice, part);
}
