/* SPDX-License-Identifier: Apache-2.0
 * dialect/dialect.h - one conversation, five spellings.
 *
 * Requests of every dialect are read into one canonical request; answers of every dialect are read
 * into one sequence of canonical events, and written from it. The cache key, the store, the flight,
 * the engine's templates and the translation between dialects all work on these two forms and never
 * on a dialect's bytes.
 *
 *   bytes --parse--> lr_request --write--> bytes of another dialect (translation)
 *                         \----forward--> the same bytes with a few members spliced (same dialect)
 *   bytes --decoder--> lr_event ... --encoder--> bytes, streamed or whole, of any dialect
 *
 * Pure: no clock, no socket, no global. What a dialect says that has no canonical place is kept as an
 * `extra`, tagged with the dialect: it counts in the key, goes back out in the same dialect, and is a
 * refusal (requests) or a reason not to replay (answers) in another one. Nothing is lost silently.
 */
#ifndef LR_DIALECT_DIALECT_H
#define LR_DIALECT_DIALECT_H

#include "base/base.h"

enum lr_dialect_id {
    LR_DIALECT_NONE,
    LR_DIALECT_CHAT,       /* OpenAI POST /v1/chat/completions */
    LR_DIALECT_COMPLETION, /* OpenAI POST /v1/completions */
    LR_DIALECT_EMBEDDING,  /* OpenAI POST /v1/embeddings */
    LR_DIALECT_MESSAGES,   /* Anthropic POST /v1/messages */
    LR_DIALECT_RESPONSES,  /* OpenAI POST /v1/responses, without server-side state */
    LR_DIALECT_N
};
enum lr_kind { LR_KIND_CHAT, LR_KIND_COMPLETION, LR_KIND_EMBEDDING };

const char *lr_dialect_name(enum lr_dialect_id); /* "chat", "messages" ... */
const char *lr_dialect_path(enum lr_dialect_id); /* "/v1/chat/completions" ... */
enum lr_kind lr_dialect_kind(enum lr_dialect_id);
/* The dialect of a request path, with or without /v1; LR_DIALECT_NONE for every other path. */
enum lr_dialect_id lr_dialect_of_path(struct lr_str path);

/* ---- requests ------------------------------------------------------------------------------- */

enum lr_role { LR_ROLE_SYSTEM, LR_ROLE_DEVELOPER, LR_ROLE_USER, LR_ROLE_ASSISTANT, LR_ROLE_TOOL };
const char *lr_role_name(enum lr_role);

enum lr_part_type {
    LR_PART_TEXT = 1,
    LR_PART_REFUSAL,
    LR_PART_REASONING, /* text; sign: signature or encrypted content; redacted: sign only */
    LR_PART_IMAGE,     /* media + data (base64 as it came), or url */
    LR_PART_AUDIO,     /* media ("audio/wav") + data */
    LR_PART_FILE,      /* media + data or url; name */
    LR_PART_TOOL_CALL, /* id, name, text = arguments as JSON text */
    LR_PART_TOOL_RESULT, /* id, parts = content, is_error */
    LR_PART_OTHER      /* a part of an unknown type: json */
};

/* Members without a canonical place: v->key is the name. */
struct lr_extra {
    const struct lr_json *v;
    struct lr_extra *next;
    struct lr_extra *last; /* in the first one of a list: its end */
};

struct lr_part {
    enum lr_part_type type;
    bool is_error, redacted;
    struct lr_str text, id, name, media, data, url, detail, sign;
    const struct lr_json *json; /* OTHER: the whole part */
    struct lr_part *parts;      /* TOOL_RESULT */
    struct lr_extra *extra;
    struct lr_part *next;
    struct lr_part *last; /* in the first one of a list: its end */
};

/* System text is a message of role SYSTEM (Anthropic's `system`, Responses' `instructions`: first).
 * A TOOL message holds TOOL_RESULT parts only; Anthropic's tool_result blocks inside a user message
 * become a TOOL message before the rest of that user message. */
struct lr_msg {
    enum lr_role role;
    struct lr_str name;
    struct lr_part *parts;
    struct lr_extra *extra;
    struct lr_msg *next;
};

struct lr_tool {
    struct lr_str name, description;
    const struct lr_json *schema; /* JSON Schema object, or NULL */
    const struct lr_json *strict; /* bool, or NULL */
    const struct lr_json *json;   /* a tool that is no function (hosted, custom): whole; else NULL */
    struct lr_extra *extra;
    struct lr_tool *next;
};

enum lr_tool_choice {
    LR_TOOL_CHOICE_ABSENT,
    LR_TOOL_CHOICE_AUTO,
    LR_TOOL_CHOICE_NONE,
    LR_TOOL_CHOICE_REQUIRED, /* Anthropic "any" */
    LR_TOOL_CHOICE_NAMED,
    LR_TOOL_CHOICE_OTHER /* tool_choice_json */
};
enum lr_format { LR_FORMAT_ABSENT, LR_FORMAT_TEXT, LR_FORMAT_JSON, LR_FORMAT_SCHEMA, LR_FORMAT_OTHER };

/* Read from a body that parsed as a JSON object. All pointers live in the arena or the body.
 * Members of value null are absent. Numbers stay JSON nodes: their lexeme is what is forwarded. */
struct lr_request {
    enum lr_dialect_id dialect;
    enum lr_kind kind;
    struct lr_str body;
    const struct lr_json *root;
    struct lr_str model;

    /* CHAT */
    struct lr_msg *msgs, *msgs_last;
    struct lr_tool *tools, *tools_last;
    enum lr_tool_choice tool_choice;
    struct lr_str tool_choice_name;
    const struct lr_json *tool_choice_json;
    const struct lr_json *parallel_tools; /* bool; Anthropic's disable_parallel_tool_use inverted: see
                                             parallel_off */
    bool parallel_off;
    enum lr_format format;
    struct lr_str format_name, format_description;
    const struct lr_json *format_schema, *format_strict, *format_json;
    struct lr_str effort; /* reasoning effort */

    /* CHAT and COMPLETION */
    const struct lr_json *temperature, *top_p, *top_k, *presence_penalty, *frequency_penalty, *seed,
        *logit_bias, *logprobs, *top_logprobs;
    struct lr_str *stop;
    size_t n_stop;
    const struct lr_json *prompt; /* COMPLETION: string, array of strings, or of token ids */

    /* EMBEDDING */
    const struct lr_json **inputs; /* strings or arrays of token ids, one an item */
    size_t n_inputs;
    bool inputs_single; /* `input` was one string, not an array */
    const struct lr_json *dimensions, *encoding_format;

    /* Not part of the key (docs/formats/key.md). */
    uint64_t n;          /* choices asked; 1 when absent */
    uint64_t max_tokens; /* 0 = absent */
    bool n_given, stream, include_usage;
    struct lr_str user; /* end-user or safety identifier */

    /* Known and left out of the key (metadata, store, service_tier, safety identifiers ...): kept for
     * translation only. Everything else at top level: counts in the key under "<dialect>.<name>". */
    struct lr_extra *quiet;
    struct lr_extra *extra;
    /* Not NULL: carries server-side state or hosted tools; pass it through, never cache. Static:
     * "previous-response", "conversation", "background", "stored-prompt", "hosted-tool", "file-id",
     * "container", "mcp", "audio-out", "item-reference". */
    const char *bypass;
};

/* Parses body (a view that must outlive the request) as dialect d. LR_EPARSE, LR_EINVAL (a member of the
 * wrong type or a missing one: err->where is its path, "messages[3].content"), LR_EOVER, LR_ENOMEM. */
int lr_request_parse(struct lr_arena *a, enum lr_dialect_id d, struct lr_str body,
                     struct lr_request **out, struct lr_err *err);

/* The body for an upstream of the same dialect: as it came but for `model` (when it differs) and, for
 * streams, stream_options.include_usage = true (Chat, Completions). */
int lr_request_forward(struct lr_arena *a, const struct lr_request *r, struct lr_str model,
                       struct lr_buf *out);
/* The body in another dialect of the same kind, from the canonical request. LR_EUNSUPPORTED: err says
 * which member has no counterpart. Members that may be dropped without changing the answer
 * (cache_control, service_tier, metadata ...) are, and their names are appended to `dropped`,
 * comma-separated. default_max_tokens fills Anthropic's mandatory max_tokens. */
int lr_request_write(const struct lr_request *r, enum lr_dialect_id to, struct lr_str model,
                     uint64_t default_max_tokens, struct lr_buf *out, struct lr_buf *dropped,
                     struct lr_err *err);
/* An EMBEDDING request again, for some of its inputs only. */
int lr_request_write_inputs(struct lr_arena *a, const struct lr_request *r, struct lr_str model,
                            const size_t *which, size_t n, struct lr_buf *out);

/* ---- answers -------------------------------------------------------------------------------- */

enum lr_event_type {
    LR_EV_START = 1, /* a = id, b = model, both as the upstream said; once, before all others */
    LR_EV_PART,      /* opens part `part` of `choice`: sub = lr_part_type TEXT, REASONING (b = Chat's name
                        of the member when not reasoning_content), REFUSAL or TOOL_CALL (a = id, b =
                        name), OTHER (b = JSON of the block). The parts of a choice are numbered 0, 1,
                        2 ... as they open, and one is open at a time */
    LR_EV_DELTA,     /* a = more text (TOOL_CALL: more of the arguments) of an open part */
    LR_EV_SIGN,      /* a = signature of the open REASONING part; sub 1 = redacted data */
    LR_EV_PART_END,
    LR_EV_LOGPROBS,  /* a = JSON array of Chat's token log probabilities for `choice`; sub 1 = refusal's;
                        COMPLETION: a = its logprobs object */
    LR_EV_FINISH,    /* sub = lr_finish; a = the stop sequence that matched; b = its name when OTHER */
    LR_EV_USAGE,     /* usage; later ones replace earlier ones, field by field where nonzero */
    LR_EV_VECTOR,    /* EMBEDDING: choice = input index, a = raw JSON of the vector (array or string) */
    LR_EV_EXTRA,     /* unknown members: sub = lr_extra_scope, a = name, b = JSON value */
    LR_EV_ERROR,     /* status; a = code, b = sentence: the answer is broken off */
    LR_EV_END,       /* complete: nothing follows */
    LR_EV_BYTES      /* a = bytes of a response that is passed through unread */
};
enum lr_finish {
    LR_FINISH_STOP = 1,
    LR_FINISH_LENGTH,
    LR_FINISH_TOOL,
    LR_FINISH_STOP_SEQUENCE,
    LR_FINISH_FILTER,
    LR_FINISH_REFUSAL,
    LR_FINISH_PAUSE,
    LR_FINISH_OTHER
};
enum lr_extra_scope {
    LR_SCOPE_TOP,    /* of the answer object or of every chunk */
    LR_SCOPE_CHOICE, /* of choices[choice] */
    LR_SCOPE_MESSAGE, /* of its message or delta */
    LR_SCOPE_PART,   /* of content block `part` */
    LR_SCOPE_USAGE,  /* inside usage */
    LR_SCOPE_EVENT   /* a whole event of an unknown type: a = its name, b = its data */
};

struct lr_usage {
    uint64_t input;         /* all input tokens, cached ones included */
    uint64_t output;        /* all output tokens, reasoning included */
    uint64_t cached_input;  /* of input: read from the upstream's own cache */
    uint64_t written_input; /* of input: written to the upstream's own cache */
    uint64_t reasoning;     /* of output */
    bool known;
};

struct lr_event {
    enum lr_event_type type;
    uint8_t sub;
    enum lr_dialect_id dialect; /* EXTRA, OTHER: whose */
    uint16_t choice, part;
    uint16_t status; /* ERROR */
    struct lr_str a, b;
    struct lr_usage usage;
};

/* The bytes of an event log (docs/formats/events.md): append one; read one off the front of *log.
 * next: 1 = *ev filled (views into the log), 0 = at the end, LR_ECORRUPT. */
int lr_event_append(struct lr_buf *log, const struct lr_event *ev);
int lr_event_next(struct lr_str *log, struct lr_event *ev);

/* What an answer amounts to, from its log. */
struct lr_answer_facts {
    bool complete;  /* END seen, every choice finished, no ERROR */
    bool storable;  /* complete, and no FILTER, PAUSE, BYTES */
    bool lossy;     /* holds extras or OTHER parts: replay in its own dialect only. Extras that say
                       nothing about the answer do not count: docs/formats/events.md */
    enum lr_dialect_id dialect; /* whose extras (NONE when not lossy) */
    uint16_t choices;           /* highest choice + 1; 0 for embeddings */
    bool cut;       /* some choice ended with LENGTH */
    struct lr_usage usage;
    struct lr_str model; /* view into the log */
};
/* LR_ECORRUPT when the log is not one valid answer. */
int lr_answer_facts(struct lr_str log, struct lr_answer_facts *out);
/* The log in its stored form: choices one after another, the deltas of a part joined. Facts and every
 * encoder's output (up to chunking) are the same for both. */
int lr_answer_compact(struct lr_str log, struct lr_buf *out);

/* ---- reading upstream answers --------------------------------------------------------------- */

struct lr_decoder;
/* Called for every event, in order; the views die with the call. Nonzero stops the feed with that rc. */
typedef int (*lr_event_fn)(void *ctx, const struct lr_event *ev);

/* stream: SSE, else one JSON body. Buffers at most max bytes of undecoded input (one SSE event, or the
 * whole body): LR_EOVER beyond. */
int lr_decoder_open(struct lr_decoder **out, enum lr_dialect_id d, bool stream, size_t max,
                    lr_event_fn fn, void *ctx);
/* LR_EPARSE (err says what), LR_EOVER, LR_ENOMEM, or what fn returned. An error event inside a stream
 * becomes LR_EV_ERROR, not a failure. */
int lr_decoder_feed(struct lr_decoder *, struct lr_str bytes, struct lr_err *err);
/* The body has ended: emits what is due and LR_EV_END; LR_EPARSE when the answer is incomplete (no
 * terminal event). */
int lr_decoder_end(struct lr_decoder *, struct lr_err *err);
void lr_decoder_close(struct lr_decoder *);

/* ---- writing answers ------------------------------------------------------------------------ */

struct lr_encoder;
struct lr_encoder_opts {
    enum lr_dialect_id dialect;
    bool stream;
    bool include_usage;   /* Chat, Completions streams: a usage chunk before [DONE] */
    bool fresh_ids;       /* replay: ids of answer and tool calls are made from `id` */
    char id[25];          /* 24 lower-case letters and digits; prefixes are the dialect's ("chatcmpl-") */
    uint64_t created_s;   /* Unix seconds shown */
    uint16_t choices_max; /* 0 = all; else only the first ones are written */
    size_t whole_max;     /* not stream: bytes held back until END */
    const struct lr_request *request; /* Responses echoes its request's members; may be NULL */
};
int lr_encoder_open(struct lr_encoder **out, const struct lr_encoder_opts *opts);
/* Appends the bytes due for ev to out (streams: SSE; else the body, at END). Events must be a valid
 * sequence; extras of other dialects are skipped. After ERROR: streams get the dialect's error event;
 * whole bodies get the error body (the caller sets the status). */
int lr_encoder_event(struct lr_encoder *, const struct lr_event *ev, struct lr_buf *out);
void lr_encoder_close(struct lr_encoder *);
const char *lr_encoder_content_type(const struct lr_encoder *);

/* ---- errors --------------------------------------------------------------------------------- */

/* An error body in the dialect's shape. code: stable, lower_snake ("invalid_request",
 * "unknown_model", "upstream_unreachable"); the dialect's own `type` follows from status. NONE: the
 * OpenAI shape. */
int lr_error_write(enum lr_dialect_id d, int status, const char *code, struct lr_str message,
                   const char *request_id, struct lr_buf *out);
/* What an upstream's error body says; empty views when it is no such body. */
void lr_error_read(struct lr_arena *a, struct lr_str body, struct lr_str *code, struct lr_str *message);

#endif
