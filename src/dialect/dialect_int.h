/* SPDX-License-Identifier: Apache-2.0
 * dialect/dialect_int.h - for dialect/ itself: what each dialect's file provides, and what they share.
 */
#ifndef LR_DIALECT_DIALECT_INT_H
#define LR_DIALECT_DIALECT_INT_H

#include "dialect/dialect.h"

/* Where the reader of an answer sends its events (emit.c). */
struct lr_emit {
    enum lr_dialect_id dialect; /* the answer's */
    struct lr_arena *a;         /* emptied before every call of a reader */
    lr_event_fn fn;
    void *ctx;
    struct lr_err *err;
};

/* A request on its way into its canonical form (request.c). */
struct lr_in {
    struct lr_arena *a;
    struct lr_request *r;
    struct lr_err *err;
};

/* One a dialect, listed once in dialect.c. In <dialect>.c (requests, read), _write.c (written), _in.c
 * and _out.c (answers) where one file would grow long. */
struct lr_dialect_ops {
    const char *name, *path;
    enum lr_kind kind;
    /* Fills in->r from its root (dialect, kind, body, root and n = 1 are set). */
    int (*parse)(const struct lr_in *in);
    /* A canonical request of another dialect in this one: no bypass, tool_choice and format not OTHER
     * (request.c has refused them). Absent where no other dialect has the kind. */
    int (*write)(const struct lr_request *r, struct lr_str model, uint64_t default_max_tokens,
                 struct lr_buf *out, struct lr_buf *dropped, struct lr_err *err);
    /* Reading: one SSE event (name may be empty), or the whole body. State is the dialect's own,
     * `dec_size` zeroed bytes. `done` says whether the terminal event was seen: decoder.c then emits
     * LR_EV_END, which no dialect does itself, and reads no further. Nothing is asked of them after
     * an LR_EV_ERROR either. */
    size_t dec_size;
    int (*dec_event)(void *state, const struct lr_emit *e, struct lr_str name, struct lr_str data);
    int (*dec_whole)(void *state, const struct lr_emit *e, struct lr_str body);
    bool (*dec_done)(const void *state);
    /* Optional: the stream ended cleanly without its terminal event; is the answer whole all the
     * same? Absent: no. */
    bool (*dec_eof)(const void *state);
    void (*dec_close)(void *state); /* optional */
    /* Writing: `enc_size` zeroed bytes of state. enc_stream appends SSE for one event (END
     * and ERROR included; never BYTES, extras of other dialects, or choices beyond choices_max);
     * enc_whole appends the whole body at END, from the complete log in compact form. */
    size_t enc_size;
    int (*enc_stream)(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                      struct lr_buf *out);
    int (*enc_whole)(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out);
    void (*enc_close)(void *state); /* optional */
    void (*error)(int status, struct lr_str code, struct lr_str message, const char *request_id,
                  struct lr_buf *out);
};

extern const struct lr_dialect_ops lr_dialect_chat, lr_dialect_completion, lr_dialect_embedding,
    lr_dialect_messages, lr_dialect_responses;

/* The row of a dialect (dialect.c); NULL for NONE. */
const struct lr_dialect_ops *lr_dialect_ops(enum lr_dialect_id);

/* ---- shared by the parsers (request.c) ---- */

/* Wrong type or missing: LR_EINVAL with the path ("expected " + what is the sentence). */
int lr_want(struct lr_err *err, const char *path, const char *what);
/* The same from a chain of steps on the callers' stacks, spelled only when it is needed:
 * {{NULL, "messages", 3}, "content", 1} is messages[3].content[1]. */
struct lr_at {
    const struct lr_at *up;
    const char *name;
    long index; /* -1: none */
};
int lr_want_at(struct lr_err *err, const struct lr_at *at, const char *member, const char *what);
/* Is the member there and not null? */
bool lr_given(const struct lr_json *v);
/* Typed members of o: absent and null leave *out alone; a wrong type is LR_EINVAL at `at`.name. */
int lr_take_str(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                const char *name, struct lr_str *out);
int lr_take_type(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                 const char *name, enum lr_json_type t, const struct lr_json **out);
int lr_take_bool(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                 const char *name, bool *out);
int lr_take_u64(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                const char *name, uint64_t *out);
/* The same where it has to be there. */
int lr_need_str(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                const char *name, struct lr_str *out);
/* A boolean whose node is kept. */
int lr_take_flag(const struct lr_in *in, const struct lr_json *o, const struct lr_at *at,
                 const char *name, const struct lr_json **out);
/* A top-level member: `take` reads it, or it is one value and `at` says where that goes. A table of
 * them ends with a row without a name. */
struct lr_member {
    const char *name;
    enum lr_member_kind {
        LR_MEMBER_OWN,    /* take */
        LR_MEMBER_NUMBER, /* nodes: of this type */
        LR_MEMBER_STRING,
        LR_MEMBER_OBJECT,
        LR_MEMBER_FLAG,  /* a boolean's node */
        LR_MEMBER_BOOL,  /* bool */
        LR_MEMBER_COUNT, /* uint64_t */
        LR_MEMBER_TEXT   /* struct lr_str */
    } kind;
    size_t at; /* LR_AT(member) of the request */
    int (*take)(const struct lr_in *in, const struct lr_json *v);
};
#define LR_AT(member) .at = offsetof(struct lr_request, member)
/* Takes every member that is not null, by the first row of the tables (a NULL-ended list) that has its
 * name; the others are extras. */
int lr_take_members(const struct lr_in *in, const struct lr_member *const *tables);
/* For rows: a member that is read elsewhere; one that is kept as quiet. */
int lr_take_nothing(const struct lr_in *in, const struct lr_json *v);
int lr_take_quiet(const struct lr_in *in, const struct lr_json *v);
/* v is an array of objects: `one` of each. */
typedef int (*lr_take_fn)(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at);
int lr_take_list(const struct lr_in *in, const struct lr_json *v, const char *name, lr_take_fn one);
/* v is content: a string, which is a TEXT part, or an array of objects: `one` of each. */
typedef int (*lr_part_fn)(const struct lr_in *in, const struct lr_json *v, const struct lr_at *at,
                          struct lr_part **parts);
int lr_take_content(const struct lr_in *in, const struct lr_json *v, const struct lr_at *up,
                    const char *name, lr_part_fn one, struct lr_part **parts);
/* Members of o outside `known` (a NULL-ended list) into a list of extras. */
int lr_take_extras(const struct lr_in *in, const struct lr_json *o, const char *const *known,
                   struct lr_extra **list);
/* The body is not the whole question; the first reason counts. */
void lr_bypass(const struct lr_in *in, const char *why);
/* Adds a member to a list of extras (order kept). */
int lr_extra_add(struct lr_arena *a, struct lr_extra **list, const struct lr_json *v);
struct lr_msg *lr_msg_add(struct lr_arena *a, struct lr_request *r, enum lr_role role);
struct lr_part *lr_part_add(struct lr_arena *a, struct lr_part **list, enum lr_part_type type);
/* A part that is no more than its text; one of an unknown kind. */
int lr_text_add(struct lr_arena *a, struct lr_part **list, enum lr_part_type type,
                struct lr_str text);
int lr_other_add(struct lr_arena *a, struct lr_part **list, const struct lr_json *v);
struct lr_tool *lr_tool_add(struct lr_arena *a, struct lr_request *r);
/* "data:image/png;base64,AAAA" into media and data; another URL into url. Bad data: LR_EINVAL. */
int lr_url_split(struct lr_str url, struct lr_part *p);

/* ---- shared by OpenAI's dialects (openai.c) ---- */

/* What Chat and Completions spell alike; the members that never change an answer. */
extern const struct lr_member lr_members_sampling[], lr_members_quiet[];
/* tool_choice: a word, or {"type": "function", ...} with a name in the object `holder`; OTHER else. */
int lr_take_tool_choice(const struct lr_in *in, const struct lr_json *v,
                        const struct lr_json *holder);
int lr_take_parallel(const struct lr_in *in, const struct lr_json *v);
/* A function as a tool, from the object f at `at` that has its name, parameters and so on. */
int lr_take_function(const struct lr_in *in, const struct lr_json *f, const struct lr_at *at,
                     struct lr_tool *t);
int lr_need_model(const struct lr_in *in);
/* tool_choice, where it is a word. */
void lr_put_choice_word(struct lr_jw *w, enum lr_tool_choice c);
/* "type" of a format that is not OTHER, and the members of a json_schema. */
const char *lr_format_word(enum lr_format f);
void lr_put_schema(struct lr_jw *w, const struct lr_request *r);
/* The request's own members with another model name. */
void lr_write_same(const struct lr_request *r, struct lr_str model, struct lr_buf *out);
void lr_error_openai(int status, struct lr_str code, struct lr_str message, const char *request_id,
                     struct lr_buf *out);

/* ---- shared by the readers of answers (emit.c) ---- */

/* A member's text; empty when it is absent or no string. */
struct lr_str lr_text_of(const struct lr_json *o, const char *name);
/* The first element of a member that is an array; NULL when there is none. */
const struct lr_json *lr_first_of(const struct lr_json *o, const char *name);
/* The first member of an object; NULL when o is none, or empty. */
const struct lr_json *lr_members_of(const struct lr_json *o);
/* Is it one of these? names ends with a NULL. */
bool lr_listed(struct lr_str name, const char *const *names);
/* The value without white space between its tokens (a view of raw itself when there is none), so that
 * it fits on one SSE line. */
int lr_json_tight(struct lr_arena *a, struct lr_str raw, struct lr_str *out);

/* Sends ev, marked with the dialect where only that dialect knows what it means. */
int lr_emit(const struct lr_emit *e, struct lr_event ev);
/* START, from an object with `id` and `model`. */
int lr_emit_start(const struct lr_emit *e, const struct lr_json *answer);
int lr_malformed(const struct lr_emit *e, const char *what); /* LR_EPARSE */

/* The parts of an answer with one choice, where they come one after another. Zeroed = none yet. */
struct lr_parts {
    bool open;
    enum lr_part_type type; /* of the open one */
    uint32_t n;             /* opened so far */
    size_t bytes;           /* of deltas of the open one */
};
uint16_t lr_part_now(const struct lr_parts *p); /* number of the newest */
/* Opens one: ev's sub, a and b. The one before it must have ended. LR_EOVER. */
int lr_emit_part(const struct lr_emit *e, struct lr_parts *p, struct lr_event ev);
/* Of the newest part; empty texts send nothing. */
int lr_emit_delta(const struct lr_emit *e, struct lr_parts *p, struct lr_str s);
int lr_emit_sign(const struct lr_emit *e, const struct lr_parts *p, struct lr_str s, bool redacted);
int lr_emit_part_end(const struct lr_emit *e, struct lr_parts *p); /* nothing when none is open */
/* Extras: one; all members of o outside `known` that say something; and of the newest part a list of
 * one. p is asked for LR_SCOPE_PART only. */
int lr_emit_extra(const struct lr_emit *e, const struct lr_parts *p, enum lr_extra_scope scope,
                  struct lr_str name, struct lr_str raw);
int lr_emit_rest(const struct lr_emit *e, const struct lr_parts *p, enum lr_extra_scope scope,
                 const struct lr_json *o, const char *const *known);
int lr_emit_one(const struct lr_emit *e, const struct lr_parts *p, struct lr_str name,
                struct lr_str raw);

/* ---- event logs (event.c) ---- */

/* Is the log in the form lr_answer_compact gives? */
bool lr_answer_is_compact(struct lr_str log);
/* Later usage over earlier: fields of 0 say nothing. */
void lr_usage_add(struct lr_usage *sum, const struct lr_usage *u);
/* Does an extra's value say nothing (null, [], {}, "")? Such extras do not make an answer lossy. */
bool lr_json_is_void(struct lr_str raw);

/* ---- pieces of JSON values (merge.c) ---- */

struct lr_merge {
    struct lr_arena a;
    struct lr_merge_piece *first, *last;
    size_t n;
};
/* bytes: of all pieces together, at most. Then add() each piece in order and write() the value they
 * make: LR_ECORRUPT for a piece that is no JSON, LR_EINVAL without pieces. */
void lr_merge_open(struct lr_merge *m, size_t bytes);
int lr_merge_add(struct lr_merge *m, struct lr_str raw);
int lr_merge_write(struct lr_merge *m, struct lr_buf *out);
void lr_merge_close(struct lr_merge *m);

/* ---- SSE (sse.c) ---- */

/* The reader of text/event-stream: bytes in any split, events out. */
struct lr_sse {
    struct lr_buf line, data, name; /* line: an unfinished one, kept between feeds */
    size_t max;    /* bytes of one event: its data and name, or one line */
    bool cr;       /* the last byte was CR: a LF that follows belongs to it */
    bool begun;    /* past the first line, which may start with a byte order mark */
    bool has_data; /* a data field was seen since the last dispatch */
};
typedef int (*lr_sse_fn)(void *ctx, struct lr_str name, struct lr_str data);
void lr_sse_init(struct lr_sse *s, size_t max);
void lr_sse_free(struct lr_sse *s);
/* Feeds bytes; calls fn for each event (views die with the call). Nonzero from fn stops with it. An
 * event over `max` bytes is LR_EOVER; LR_ENOMEM. */
int lr_sse_feed(struct lr_sse *s, struct lr_str bytes, lr_sse_fn fn, void *ctx);

/* ---- shared by the writers (write.c) ---- */

/* A member of an object. */
void lr_put_str(struct lr_jw *w, const char *name, struct lr_str s);
void lr_put_u64(struct lr_jw *w, const char *name, uint64_t v);
void lr_put_bool(struct lr_jw *w, const char *name, bool v);
void lr_put_null(struct lr_jw *w, const char *name);
void lr_put_raw(struct lr_jw *w, const char *name, struct lr_str json);
void lr_put_node(struct lr_jw *w, const char *name, const struct lr_json *v); /* NULL: none */
void lr_put_obj(struct lr_jw *w, const char *name);                          /* opens it */
void lr_put_arr(struct lr_jw *w, const char *name);
void lr_put_texts(struct lr_jw *w, const char *name, const struct lr_str *texts, size_t n);
/* "name": "data:<media>;base64,<data>", or the URL. */
int lr_put_url(struct lr_jw *w, const char *name, const struct lr_part *p);
/* Opens an object with this type. */
void lr_put_type(struct lr_jw *w, const char *type);
/* The members of o, as they came, but for some. */
void lr_put_others(struct lr_jw *w, const struct lr_json *o, const char *const *but);

/* Appends a name to the comma-separated list of what was dropped (NULL: nobody asks). */
int lr_dropped(struct lr_buf *dropped, struct lr_str name);
/* Drops what is droppable; *kept is the first extra that is not, NULL when there is none. */
int lr_drop_extras(const struct lr_extra *list, const char *const *droppable,
                   struct lr_buf *dropped, const struct lr_json **kept);
/* Drops the quiet members that the writer has not `written`. */
int lr_drop_quiet(const struct lr_request *r, const char *const *written, struct lr_buf *dropped);
/* Is the number there and not 0, the default? */
bool lr_weighs(const struct lr_json *v);

/* ---- shared by the encoders (encoder.c) ---- */

/* "data: {...}\n\n" with "event: name\n" before it; data of several lines gets as many data fields. A
 * name that is empty, or no line, is left out. */
int lr_sse_write(struct lr_buf *out, struct lr_str event, struct lr_str data);
/* What a JSON tree may take of memory, with a few copies: it can be some fifty times its text ("[1,1,"). */
size_t lr_tree_max(size_t bytes);
/* Parses text into an arena of its own, which the caller frees in any case. */
int lr_parse_apart(struct lr_arena *a, struct lr_str text, struct lr_json **out);
/* Empties b, then fills it. */
int lr_keep(struct lr_buf *b, struct lr_str s);
/* prefix + id (+ ordinal), or the upstream's own when ids are not fresh. */
void lr_id_answer(const struct lr_encoder_opts *o, const char *prefix, struct lr_str own,
                  struct lr_buf *out);
void lr_id_tool(const struct lr_encoder_opts *o, const char *prefix, struct lr_str own, unsigned choice,
                unsigned part, struct lr_buf *out);

#endif
