/* SPDX-License-Identifier: Apache-2.0
 * dialect/chat_int.h - answers of OpenAI's Chat and Completions, which share one frame.
 */
#ifndef LR_DIALECT_CHAT_INT_H
#define LR_DIALECT_CHAT_INT_H

#include "dialect/dialect_int.h"

#define LR_CHAT_SEEN 64 /* state extras whose last value is remembered */

struct lr_chat_choice; /* chat_in.c */

/* Zeroed = fresh. */
struct lr_chat_dec {
    bool started, done;
    struct lr_chat_choice *choices; /* owned; n of them */
    size_t n;
    struct lr_buf held;    /* a first chunk that names no model yet */
    struct lr_usage usage; /* as last emitted */
    struct {
        uint64_t name, value;
    } seen[LR_CHAT_SEEN];
    size_t n_seen;
};

int lr_chat_dec_event(void *state, const struct lr_emit *e, struct lr_str name, struct lr_str data);
int lr_chat_dec_whole(void *state, const struct lr_emit *e, struct lr_str body);
bool lr_chat_dec_done(const void *state);
bool lr_chat_dec_eof(const void *state);
void lr_chat_dec_close(void *state);

/* `usage` into its canonical form; members without a place go to extra(ctx, name, raw JSON). */
int lr_chat_read_usage(struct lr_arena *a, const struct lr_json *v, struct lr_usage *u,
                       int (*extra)(void *ctx, struct lr_str name, struct lr_str raw), void *ctx);

struct lr_chat_enc_choice; /* chat_out.c */

/* Zeroed = fresh. Buffers of members hold `,"name":value` pieces. */
struct lr_chat_enc {
    bool completion, open;   /* open: the buffers are ready */
    struct lr_buf head;      /* the members every chunk begins with */
    struct lr_buf sticky[2]; /* system_fingerprint, service_tier: in every chunk */
    struct lr_buf delta, chunk;
    struct lr_buf top, choice, message, logprobs; /* members waiting for their chunk */
    struct lr_buf usage_log;                      /* USAGE extras, as events */
    uint64_t waiting[16];                         /* names of what waits, hashed */
    size_t n_waiting;
    uint16_t waiting_choice; /* whose `choice`, `message` and `logprobs` wait */
    struct lr_usage usage;
    struct lr_chat_enc_choice *choices; /* owned; n of them */
    size_t n;
};

int lr_chat_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                       struct lr_buf *out);
void lr_chat_enc_close(void *state);

/* Whole bodies (chat_whole.c). */
int lr_chat_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out);
int lr_completion_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out);
/* Appends the `usage` object; log: where its extras are among other events. */
int lr_chat_write_usage(const struct lr_usage *u, enum lr_dialect_id d, struct lr_str log,
                        struct lr_buf *out);
/* finish_reason of a FINISH event. */
struct lr_str lr_chat_finish_name(const struct lr_event *ev);

int lr_chat_parse(const struct lr_in *in);
int lr_chat_write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                  struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err);

#endif
