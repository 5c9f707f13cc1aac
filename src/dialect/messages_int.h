/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages_int.h - between messages.c and messages_out.c.
 */
#ifndef LR_DIALECT_MESSAGES_INT_H
#define LR_DIALECT_MESSAGES_INT_H

#include "dialect/dialect_int.h"

int lr_messages_write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                      struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err);

struct lr_messages_dec {
    bool started, finished, done;
    struct lr_parts parts; /* the blocks */
    uint64_t index;        /* the open block's, as the upstream counts */
    uint64_t fresh, cache_read, cache_written, output, reasoning; /* usage as last said */
};

int lr_messages_dec_event(void *state, const struct lr_emit *e, struct lr_str name, struct lr_str data);
int lr_messages_dec_whole(void *state, const struct lr_emit *e, struct lr_str body);
bool lr_messages_dec_done(const void *state);

/* Names of stop reasons, ended by a NULL name. */
struct lr_messages_reason {
    const char *name;
    enum lr_finish finish;
};
extern const struct lr_messages_reason lr_messages_reasons[];

struct lr_messages_enc {
    bool ready, begun;      /* buffers set up; message_start written */
    bool skip;              /* the part is another dialect's block */
    bool open, shown;       /* a part is open; its content_block_start is written */
    bool redacted;          /* sign is a redacted block's data */
    bool tools, refused;    /* some part was a TOOL_CALL, a REFUSAL */
    uint32_t extras;        /* seen so far, but for pieces */
    uint32_t blocks;        /* content blocks written, the open one included */
    struct lr_event part;   /* the open part; its texts are id and name below */
    struct lr_usage usage;
    uint8_t finish;
    struct lr_buf answer_id, model, id, name, spelled, text, sign, stop, reason;
    struct lr_buf early, late, block; /* logs of extras: for message_start, message_delta, the block */
    struct lr_buf js;                 /* one event's data */
};

int lr_messages_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                           struct lr_buf *out);
int lr_messages_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out);
void lr_messages_enc_close(void *state);

void lr_messages_error(int status, struct lr_str code, struct lr_str message, const char *request_id,
                       struct lr_buf *out);
/* The HTTP status that stands for an error type of Anthropic's; 500 for unknown ones. */
uint16_t lr_messages_status(struct lr_str type);

#endif
