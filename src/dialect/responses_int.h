/* SPDX-License-Identifier: Apache-2.0
 * dialect/responses_int.h - between responses.c and responses_out.c.
 */
#ifndef LR_DIALECT_RESPONSES_INT_H
#define LR_DIALECT_RESPONSES_INT_H

#include "dialect/dialect_int.h"

int lr_responses_write(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                       struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err);

struct lr_responses_dec {
    bool started, finished, done;
    bool tools;           /* some item was a function call */
    bool annotated;       /* annotations of the open part were streamed */
    struct lr_parts parts;
    uint64_t item, piece; /* where the open part is: output_index; content_index or summary_index */
    uint64_t items;       /* items that are over: all below this output_index */
    uint32_t item_parts;  /* parts of that item so far */
};

int lr_responses_dec_event(void *state, const struct lr_emit *e, struct lr_str name, struct lr_str data);
int lr_responses_dec_whole(void *state, const struct lr_emit *e, struct lr_str body);
bool lr_responses_dec_done(const void *state);

enum lr_responses_item { LR_ITEM_NONE, LR_ITEM_MESSAGE, LR_ITEM_REASONING, LR_ITEM_CALL };

struct lr_responses_enc {
    bool ready;
    bool whole;                  /* no events are written, only the items */
    bool reached;                /* the open REASONING part has its item */
    enum lr_responses_item item; /* the open output item */
    uint32_t items;              /* opened so far */
    uint32_t pieces;             /* content or summary parts of the open item */
    uint32_t notes;              /* annotations of the open part */
    uint64_t sequence;           /* next sequence_number */
    struct lr_event part;        /* the open part; its texts are in the buffers */
    struct lr_event finish;      /* its text: reason */
    struct lr_usage usage;
    struct lr_buf answer_id, model, reason;
    struct lr_buf item_id, own_id; /* of the open item: as written, as the upstream said */
    struct lr_buf name, call_id;   /* of a function call */
    struct lr_buf text, sign;      /* of the open part; of the open item */
    struct lr_buf content;         /* finished pieces of the open item, JSON with commas */
    struct lr_buf output;          /* finished items, JSON with commas */
    struct lr_buf extras;          /* log: of the open part */
    struct lr_buf top;             /* log: TOP and USAGE extras */
    struct lr_buf logprobs;        /* JSON tokens with commas, of the open part */
    struct lr_buf js, tmp;
};

int lr_responses_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                            struct lr_buf *out);
int lr_responses_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out);
void lr_responses_enc_close(void *state);

#endif
