/* SPDX-License-Identifier: Apache-2.0
 * dialect/dialect_int.h - for dialect/ itself: what each dialect's file provides, and what they share.
 */
#ifndef LR_DIALECT_DIALECT_INT_H
#define LR_DIALECT_DIALECT_INT_H

#include "dialect/dialect.h"

/* One a dialect, in <dialect>.c (requests) and <dialect>_out.c (answers) where a file would grow long;
 * listed once in dialect.c. */
struct lr_dialect_ops {
    const char *name, *path;
    enum lr_kind kind;
    /* Fills r from r->root (r->dialect, kind, body, root are set). */
    int (*parse)(struct lr_arena *a, struct lr_request *r, struct lr_err *err);
    /* The canonical request in this dialect. */
    int (*write)(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                 struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err);
    /* Reading: one SSE event (name may be empty), or the whole body. State is the dialect's own,
     * `dec_size` zeroed bytes. `done` says whether the terminal event was seen. */
    size_t dec_size;
    int (*dec_event)(void *state, struct lr_arena *scratch, struct lr_str name, struct lr_str data,
                     lr_event_fn fn, void *ctx, struct lr_err *err);
    int (*dec_whole)(void *state, struct lr_arena *scratch, struct lr_str body, lr_event_fn fn,
                     void *ctx, struct lr_err *err);
    bool (*dec_done)(const void *state);
    void (*dec_close)(void *state); /* optional */
    /* Writing: `enc_size` zeroed bytes of state. enc_stream appends SSE for one event; enc_whole
     * appends the whole body from the complete log at END. */
    size_t enc_size;
    int (*enc_stream)(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                      struct lr_buf *out);
    int (*enc_whole)(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out);
    void (*enc_close)(void *state); /* optional */
    void (*error)(int status, const char *code, struct lr_str message, const char *request_id,
                  struct lr_buf *out);
};

extern const struct lr_dialect_ops lr_dialect_chat, lr_dialect_completion, lr_dialect_embedding,
    lr_dialect_messages, lr_dialect_responses;

/* ---- shared by the parsers (request.c) ---- */

/* Wrong type or missing: LR_EINVAL with the path. */
int lr_want(struct lr_err *err, const char *path, const char *what);
/* Adds a member to a list of extras (order kept). */
int lr_extra_add(struct lr_arena *a, struct lr_extra **list, const struct lr_json *v);
struct lr_msg *lr_msg_add(struct lr_arena *a, struct lr_request *r, enum lr_role role);
struct lr_part *lr_part_add(struct lr_arena *a, struct lr_part **list, enum lr_part_type type);
struct lr_tool *lr_tool_add(struct lr_arena *a, struct lr_request *r);
/* "data:image/png;base64,AAAA" into media and data; another URL into url. Bad data: LR_EINVAL. */
int lr_url_split(struct lr_str url, struct lr_part *p);
/* Appends a name to the comma-separated list of what was dropped. */
int lr_dropped(struct lr_buf *dropped, const char *name);

/* ---- shared by the encoders ---- */

/* "data: {...}\n\n" with an optional "event: name\n" before it. */
int lr_sse_write(struct lr_buf *out, const char *event, struct lr_str data);
/* prefix + id (+ ordinal), or the upstream's own when ids are not fresh. */
void lr_id_answer(const struct lr_encoder_opts *o, const char *prefix, struct lr_str own,
                  struct lr_buf *out);
void lr_id_tool(const struct lr_encoder_opts *o, const char *prefix, struct lr_str own, unsigned choice,
                unsigned part, struct lr_buf *out);

#endif
