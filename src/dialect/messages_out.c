/* SPDX-License-Identifier: Apache-2.0
 * dialect/messages_out.c - answers of Anthropic's Messages API, written; messages_in.c reads them
 * and has the table of events.
 *
 * message_start waits for USAGE or whatever comes first after START, so that input tokens can
 * be shown where they are known by then; from Chat, and in replays, they are 0 there and complete
 * in message_delta, whose counts are totals that clients let win. content_block_start waits for the
 * next event of its part, since members of the block follow PART; replayed logs (fresh_ids) have
 * extras behind the text, so there a block is written at its end. A REFUSAL part is a text block,
 * and the stop reason becomes "refusal"; "stop" with tool calls becomes "tool_use" (Chat says
 * "stop" when the call was forced). One choice can be shown: others are skipped. Deltas of unknown
 * types cannot be put into a whole body: LR_EUNSUPPORTED, and the caller asks the upstream. Blocks
 * and signatures of other dialects mean nothing here and are left out.
 */
#include "dialect/messages_int.h"

/* ---- writing: shared by both forms ----------------------------------------------------------- */

static bool is_piece(const struct lr_event *ev)
{
    return lr_str_is(ev->a, "citations") || lr_str_is(ev->a, "delta");
}

/* Does a log hold an extra of this scope and name? */
static bool has_extra(struct lr_str log, enum lr_extra_scope scope, struct lr_str name)
{
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1)
        if (ev.type == LR_EV_EXTRA && ev.sub == scope && lr_str_eq(ev.a, name))
            return true;
    return false;
}

/* The extras of one scope in a log, as members; of one name the last one counts. */
static int put_extras(struct lr_jw *w, struct lr_str log, enum lr_extra_scope scope)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.type != LR_EV_EXTRA || ev.sub != scope || (scope == LR_SCOPE_PART && is_piece(&ev)))
            continue;
        if (has_extra(log, scope, ev.a))
            continue;
        lr_jw_key_str(w, ev.a);
        lr_jw_raw(w, ev.b);
    }
    return rc;
}

static int put_usage(struct lr_jw *w, const struct lr_usage *u, struct lr_str extras)
{
    uint64_t cached = u->cached_input, written = u->written_input;
    uint64_t fresh = u->input > cached ? u->input - cached : 0;
    fresh = fresh > written ? fresh - written : 0;
    lr_put_obj(w, "usage");
    lr_put_u64(w, "input_tokens", fresh);
    lr_put_u64(w, "cache_creation_input_tokens", written);
    lr_put_u64(w, "cache_read_input_tokens", cached);
    lr_put_u64(w, "output_tokens", u->output);
    if (u->reasoning && !has_extra(extras, LR_SCOPE_USAGE, LR_STR("output_tokens_details"))) {
        lr_put_obj(w, "output_tokens_details");
        lr_put_u64(w, "thinking_tokens", u->reasoning);
        lr_jw_end(w);
    }
    LR_TRY(put_extras(w, extras, LR_SCOPE_USAGE));
    lr_jw_end(w);
    return 0;
}

static struct lr_str reason_of(uint8_t finish, struct lr_str other, bool tools, bool refused)
{
    if (finish == LR_FINISH_STOP && refused)
        return LR_STR("refusal");
    if (finish == LR_FINISH_STOP && tools)
        return LR_STR("tool_use");
    for (size_t i = 0; lr_messages_reasons[i].name; i++)
        if (lr_messages_reasons[i].finish == (enum lr_finish)finish)
            return lr_strz(lr_messages_reasons[i].name);
    if (finish == LR_FINISH_FILTER)
        return LR_STR("refusal");
    return other.n ? other : LR_STR("end_turn");
}

static void put_stop(struct lr_jw *w, struct lr_str reason, struct lr_str sequence)
{
    lr_put_str(w, "stop_reason", reason);
    lr_jw_key(w, "stop_sequence");
    if (sequence.n)
        lr_jw_str(w, sequence);
    else
        lr_jw_null(w);
}

/* Is this event about what Messages cannot show: another choice, another provider's signature? */
static bool beyond(const struct lr_event *ev)
{
    return ev->choice > 0 || (ev->type == LR_EV_SIGN && ev->dialect != LR_DIALECT_MESSAGES);
}

/* A block of a type that only its own dialect knows. */
static bool foreign(const struct lr_event *part)
{
    return part->sub == LR_PART_OTHER && part->dialect != LR_DIALECT_MESSAGES;
}

/* ---- writing: streamed ----------------------------------------------------------------------- */

#define HOLD_MAX   LR_MIB(64) /* bytes of one block, or of all extras */
#define EXTRAS_MAX 4096       /* of one answer: each is held against the ones behind it */

#define BUFFERS 13

static void buffers(struct lr_messages_enc *s, struct lr_buf *all[BUFFERS])
{
    struct lr_buf *const list[BUFFERS] = {
        &s->answer_id, &s->model,  &s->id,    &s->name, &s->spelled, &s->text, &s->sign,
        &s->stop,      &s->reason, &s->early, &s->late, &s->block,   &s->js};
    memcpy(all, list, sizeof list);
}

static void set_up(struct lr_messages_enc *s)
{
    struct lr_buf *all[BUFFERS];
    buffers(s, all);
    for (size_t i = 0; i < LR_COUNT(all); i++)
        lr_buf_init(all[i], HOLD_MAX);
    s->ready = true;
}

void lr_messages_enc_close(void *state)
{
    struct lr_buf *all[BUFFERS];
    buffers(state, all);
    for (size_t i = 0; i < LR_COUNT(all); i++)
        lr_buf_free(all[i]);
}

static struct lr_jw open_event(struct lr_messages_enc *s, const char *type)
{
    struct lr_jw w;
    lr_buf_reset(&s->js);
    lr_jw_init(&w, &s->js);
    lr_put_type(&w, type);
    return w;
}

/* `type` is the event's name as well. */
static int send(struct lr_messages_enc *s, struct lr_jw *w, const char *type, struct lr_buf *out)
{
    lr_jw_end(w);
    LR_TRY(s->js.rc);
    return lr_sse_write(out, lr_strz(type), lr_buf_str(&s->js));
}

static int begin(struct lr_messages_enc *s, struct lr_buf *out)
{
    if (s->begun)
        return 0;
    s->begun = true;
    struct lr_jw w = open_event(s, "message_start");
    lr_put_obj(&w, "message");
    lr_put_str(&w, "id", lr_buf_str(&s->answer_id));
    lr_put_str(&w, "type", LR_STR("message"));
    lr_put_str(&w, "role", LR_STR("assistant"));
    lr_put_str(&w, "model", lr_buf_str(&s->model));
    lr_put_arr(&w, "content");
    lr_jw_end(&w);
    lr_put_null(&w, "stop_reason");
    lr_put_null(&w, "stop_sequence");
    LR_TRY(put_extras(&w, lr_buf_str(&s->early), LR_SCOPE_TOP));
    LR_TRY(put_usage(&w, &s->usage, lr_buf_str(&s->early)));
    lr_jw_end(&w);
    return send(s, &w, "message_start", out);
}

static struct lr_jw open_delta(struct lr_messages_enc *s, const char *type)
{
    struct lr_jw w = open_event(s, "content_block_delta");
    lr_put_u64(&w, "index", s->blocks - 1);
    lr_jw_key(&w, "delta");
    lr_put_type(&w, type);
    return w;
}

static int send_delta(struct lr_messages_enc *s, struct lr_jw *w, struct lr_buf *out)
{
    lr_jw_end(w);
    return send(s, w, "content_block_delta", out);
}

static int put_block_start(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                           struct lr_jw *w)
{
    switch ((enum lr_part_type)s->part.sub) {
    case LR_PART_REASONING:
        lr_put_type(w, s->redacted ? "redacted_thinking" : "thinking");
        if (s->redacted) {
            lr_put_str(w, "data", lr_buf_str(&s->sign));
        } else {
            lr_put_str(w, "thinking", LR_STR(""));
            lr_put_str(w, "signature", LR_STR(""));
        }
        return 0;
    case LR_PART_TOOL_CALL:
        lr_put_type(w, "tool_use");
        lr_buf_reset(&s->spelled);
        lr_id_tool(o, "toolu_", lr_buf_str(&s->id), 0, s->part.part, &s->spelled);
        LR_TRY(s->spelled.rc);
        lr_put_str(w, "id", lr_buf_str(&s->spelled));
        lr_put_str(w, "name", lr_buf_str(&s->name));
        lr_put_obj(w, "input");
        lr_jw_end(w);
        return 0;
    default:
        lr_put_type(w, "text");
        lr_put_str(w, "text", LR_STR(""));
        return 0;
    }
}

static int send_citations(struct lr_messages_enc *s, struct lr_str list, struct lr_buf *out)
{
    struct lr_arena a;
    struct lr_json *v;
    int rc = lr_parse_apart(&a, list, &v);
    for (const struct lr_json *c = rc ? NULL : v->child; c && !rc; c = c->next) {
        struct lr_jw w = open_delta(s, "citations_delta");
        lr_put_node(&w, "citation", c);
        rc = send_delta(s, &w, out);
    }
    lr_arena_free(&a);
    return rc;
}

/* An EXTRA that is an event inside the block. */
static int send_piece(struct lr_messages_enc *s, const struct lr_event *ev, struct lr_buf *out)
{
    if (lr_str_is(ev->a, "citations"))
        return send_citations(s, ev->b, out);
    struct lr_jw w = open_event(s, "content_block_delta");
    lr_put_u64(&w, "index", s->blocks - 1);
    lr_put_raw(&w, "delta", ev->b);
    return send(s, &w, "content_block_delta", out);
}

/* content_block_start, once. */
static int show(struct lr_messages_enc *s, const struct lr_encoder_opts *o, struct lr_buf *out)
{
    if (s->shown)
        return 0;
    s->shown = true;
    s->blocks++;
    struct lr_jw w = open_event(s, "content_block_start");
    lr_put_u64(&w, "index", s->blocks - 1);
    lr_jw_key(&w, "content_block");
    if (s->part.sub == LR_PART_OTHER) {
        lr_jw_raw(&w, lr_buf_str(&s->name));
    } else {
        LR_TRY(put_block_start(s, o, &w));
        LR_TRY(put_extras(&w, lr_buf_str(&s->block), LR_SCOPE_PART));
        lr_jw_end(&w);
    }
    return send(s, &w, "content_block_start", out);
}

static int on_part(struct lr_messages_enc *s, const struct lr_event *ev, struct lr_buf *out)
{
    LR_TRY(begin(s, out));
    s->part = *ev;
    s->part.a = s->part.b = (struct lr_str){NULL, 0};
    s->open = true;
    s->shown = s->redacted = false;
    s->tools |= ev->sub == LR_PART_TOOL_CALL;
    s->refused |= ev->sub == LR_PART_REFUSAL;
    lr_buf_reset(&s->text);
    lr_buf_reset(&s->sign);
    lr_buf_reset(&s->block);
    LR_TRY(lr_keep(&s->id, ev->a));
    return lr_keep(&s->name, ev->b);
}

static int send_text(struct lr_messages_enc *s, struct lr_str t, struct lr_buf *out)
{
    static const char *const types[][2] = {{"text_delta", "text"},
                                           {"thinking_delta", "thinking"},
                                           {"input_json_delta", "partial_json"}};
    bool call = s->part.sub == LR_PART_TOOL_CALL || s->part.sub == LR_PART_OTHER;
    const char *const *type = types[call ? 2 : s->part.sub == LR_PART_REASONING];
    struct lr_jw w = open_delta(s, type[0]);
    lr_put_str(&w, type[1], t);
    return send_delta(s, &w, out);
}

static int send_sign(struct lr_messages_enc *s, struct lr_str sign, struct lr_buf *out)
{
    struct lr_jw w = open_delta(s, "signature_delta");
    lr_put_str(&w, "signature", sign);
    return send_delta(s, &w, out);
}

static int on_sign(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                   const struct lr_event *ev, struct lr_buf *out)
{
    if (s->part.sub != LR_PART_REASONING)
        return 0;
    if (ev->sub && !s->shown) {
        s->redacted = true;
        return lr_buf_adds(&s->sign, ev->a);
    }
    if (o->fresh_ids)
        return lr_buf_adds(&s->sign, ev->a);
    LR_TRY(show(s, o, out));
    return send_sign(s, ev->a, out);
}

static int on_part_end(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                       struct lr_buf *out)
{
    struct lr_str log = lr_buf_str(&s->block);
    struct lr_event ev;
    int rc;
    s->open = false;
    if (s->part.sub == LR_PART_REASONING && !s->shown && !s->text.len && !s->sign.len)
        return 0; /* another provider's secret: nothing that can be shown */
    LR_TRY(show(s, o, out));
    while ((rc = lr_event_next(&log, &ev)) == 1)
        if (is_piece(&ev) && (rc = send_piece(s, &ev, out)) != 0)
            return rc;
    LR_TRY(rc);
    if (s->text.len)
        LR_TRY(send_text(s, lr_buf_str(&s->text), out));
    if (s->sign.len && !s->redacted)
        LR_TRY(send_sign(s, lr_buf_str(&s->sign), out));
    struct lr_jw w = open_event(s, "content_block_stop");
    lr_put_u64(&w, "index", s->blocks - 1);
    return send(s, &w, "content_block_stop", out);
}

/* Members that clients read from message_delta, whenever they came. */
static bool is_late(struct lr_str name)
{
    return lr_str_is(name, "stop_details") || lr_str_is(name, "container") ||
           lr_str_is(name, "context_management");
}

static int on_extra(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                    const struct lr_event *ev, struct lr_buf *out)
{
    switch ((enum lr_extra_scope)ev->sub) {
    case LR_SCOPE_TOP:
    case LR_SCOPE_USAGE:
        LR_FAIL_IF(s->extras++ >= EXTRAS_MAX, LR_EOVER);
        return lr_event_append(s->begun || is_late(ev->a) ? &s->late : &s->early, ev);
    case LR_SCOPE_EVENT:
        LR_TRY(begin(s, out));
        return lr_sse_write(out, ev->a, ev->b);
    case LR_SCOPE_PART:
        if (!s->open)
            return 0;
        if (is_piece(ev) && !o->fresh_ids) {
            LR_TRY(show(s, o, out));
            return send_piece(s, ev, out);
        }
        LR_FAIL_IF(!is_piece(ev) && s->extras++ >= EXTRAS_MAX, LR_EOVER);
        return lr_event_append(&s->block, ev);
    default:
        return 0;
    }
}

static int on_end(struct lr_messages_enc *s, struct lr_buf *out)
{
    LR_TRY(begin(s, out));
    struct lr_jw w = open_event(s, "message_delta");
    lr_put_obj(&w, "delta");
    put_stop(&w, reason_of(s->finish, lr_buf_str(&s->reason), s->tools, s->refused),
             lr_buf_str(&s->stop));
    struct lr_str log = lr_buf_str(&s->late);
    LR_TRY(put_extras(&w, log, LR_SCOPE_TOP));
    lr_jw_end(&w);
    LR_TRY(put_usage(&w, &s->usage, log));
    LR_TRY(send(s, &w, "message_delta", out));
    w = open_event(s, "message_stop");
    return send(s, &w, "message_stop", out);
}

static int on_error(struct lr_messages_enc *s, const struct lr_event *ev, struct lr_buf *out)
{
    lr_buf_reset(&s->js);
    lr_messages_error(ev->status, ev->a, ev->b, NULL, &s->js);
    LR_TRY(s->js.rc);
    return lr_sse_write(out, LR_STR("error"), lr_buf_str(&s->js));
}

static int on_event(struct lr_messages_enc *s, const struct lr_encoder_opts *o,
                    const struct lr_event *ev, struct lr_buf *out)
{
    switch (ev->type) {
    case LR_EV_START:
        lr_buf_reset(&s->answer_id);
        lr_id_answer(o, "msg_", ev->a, &s->answer_id);
        LR_TRY(s->answer_id.rc);
        return lr_keep(&s->model, ev->b);
    case LR_EV_PART:
        return on_part(s, ev, out);
    case LR_EV_DELTA:
        if (o->fresh_ids)
            return lr_buf_adds(&s->text, ev->a);
        LR_TRY(show(s, o, out));
        return send_text(s, ev->a, out);
    case LR_EV_SIGN:
        return on_sign(s, o, ev, out);
    case LR_EV_PART_END:
        return on_part_end(s, o, out);
    case LR_EV_FINISH:
        s->finish = ev->sub;
        LR_TRY(lr_keep(&s->stop, ev->a));
        return lr_keep(&s->reason, ev->b);
    case LR_EV_USAGE:
        lr_usage_add(&s->usage, &ev->usage);
        return begin(s, out);
    case LR_EV_EXTRA:
        return on_extra(s, o, ev, out);
    case LR_EV_ERROR:
        return on_error(s, ev, out);
    case LR_EV_END:
        return on_end(s, out);
    case LR_EV_LOGPROBS: /* no place for them */
    case LR_EV_VECTOR:
    case LR_EV_BYTES:
        break;
    }
    return 0;
}

int lr_messages_enc_stream(void *state, const struct lr_encoder_opts *o, const struct lr_event *ev,
                           struct lr_buf *out)
{
    struct lr_messages_enc *s = state;
    if (!s->ready)
        set_up(s);
    if (beyond(ev))
        return 0;
    if (ev->type == LR_EV_PART)
        s->skip = foreign(ev);
    bool inside = ev->type == LR_EV_PART || ev->type == LR_EV_DELTA || ev->type == LR_EV_PART_END;
    return inside && s->skip ? 0 : on_event(s, o, ev, out);
}

/* ---- writing: whole -------------------------------------------------------------------------- */

/* One part of a compact log: PART, then its DELTA, SIGN and extras, then PART_END. */
struct block {
    struct lr_event part;
    struct lr_str text, sign, extras; /* extras: the log between PART and PART_END */
    bool redacted;
};

static int put_citations(struct lr_jw *w, struct lr_str log)
{
    struct lr_event ev;
    struct lr_merge m;
    struct lr_buf list;
    lr_buf_init(&list, log.n + 64);
    lr_merge_open(&m, log.n);
    int rc;
    size_t n = 0;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.type == LR_EV_EXTRA && lr_str_is(ev.a, "delta"))
            rc = LR_EUNSUPPORTED;
        else if (ev.type == LR_EV_EXTRA && lr_str_is(ev.a, "citations") && ++n)
            rc = lr_merge_add(&m, ev.b);
        else
            rc = 0;
        if (rc)
            break;
    }
    if (!rc && n && !(rc = lr_merge_write(&m, &list)))
        lr_put_raw(w, "citations", lr_buf_str(&list));
    lr_merge_close(&m);
    lr_buf_free(&list);
    return rc;
}

/* Arguments as an object: what the model wrote may be none, and then the text is all we can show.
 */
static int put_input(struct lr_jw *w, struct lr_str args)
{
    struct lr_arena a;
    struct lr_json *v;
    struct lr_str t = lr_str_trim(args);
    if (!t.n) {
        lr_put_raw(w, "input", LR_STR("{}"));
        return 0;
    }
    int rc = lr_parse_apart(&a, t, &v);
    if (!rc && v->type == LR_JSON_OBJECT) {
        lr_put_raw(w, "input", t);
    } else if (rc != LR_ENOMEM) {
        rc = 0;
        lr_put_obj(w, "input");
        lr_put_str(w, "_raw", args);
        lr_jw_end(w);
    }
    lr_arena_free(&a);
    return rc;
}

/* A block of an unknown type: as it started, but with the input that was streamed into it. */
static int put_other(struct lr_jw *w, const struct block *b)
{
    static const char *const but[] = {"input", NULL};
    struct lr_arena a;
    struct lr_json *v;
    if (!b->text.n) {
        lr_jw_raw(w, b->part.b);
        return 0;
    }
    int rc = lr_parse_apart(&a, b->part.b, &v);
    if (!rc) {
        lr_jw_obj(w);
        lr_put_others(w, v, but);
        rc = put_input(w, b->text);
        lr_jw_end(w);
    }
    lr_arena_free(&a);
    return rc;
}

static int put_block(struct lr_jw *w, const struct lr_encoder_opts *o, const struct block *b,
                     struct lr_buf *tmp)
{
    switch ((enum lr_part_type)b->part.sub) {
    case LR_PART_OTHER:
        return put_other(w, b);
    case LR_PART_REASONING:
        lr_put_type(w, b->redacted ? "redacted_thinking" : "thinking");
        if (!b->redacted)
            lr_put_str(w, "thinking", b->text);
        lr_put_str(w, b->redacted ? "data" : "signature", b->sign);
        break;
    case LR_PART_TOOL_CALL:
        lr_put_type(w, "tool_use");
        lr_buf_reset(tmp);
        lr_id_tool(o, "toolu_", b->part.a, 0, b->part.part, tmp);
        LR_TRY(tmp->rc);
        lr_put_str(w, "id", lr_buf_str(tmp));
        lr_put_str(w, "name", b->part.b);
        LR_TRY(put_input(w, b->text));
        break;
    default:
        lr_put_type(w, "text");
        lr_put_str(w, "text", b->text);
        LR_TRY(put_citations(w, b->extras));
    }
    LR_TRY(put_extras(w, b->extras, LR_SCOPE_PART));
    lr_jw_end(w);
    return 0;
}

/* What the members around the content say. */
struct summary {
    struct lr_event start, finish;
    struct lr_usage usage;
    bool tools, refused;
};

static int summarize(struct lr_str log, struct summary *out)
{
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        if (ev.type == LR_EV_START)
            out->start = ev;
        else if (ev.type == LR_EV_USAGE)
            lr_usage_add(&out->usage, &ev.usage);
        else if (beyond(&ev))
            continue;
        else if (ev.type == LR_EV_FINISH)
            out->finish = ev;
        else if (ev.type == LR_EV_PART) {
            out->tools |= ev.sub == LR_PART_TOOL_CALL;
            out->refused |= ev.sub == LR_PART_REFUSAL;
        }
    }
    return rc;
}

static int put_content(struct lr_jw *w, const struct lr_encoder_opts *o, struct lr_str log,
                       struct lr_buf *tmp)
{
    struct block b = {0};
    struct lr_event ev;
    int rc;
    lr_put_arr(w, "content");
    for (struct lr_str at = log; (rc = lr_event_next(&log, &ev)) == 1; at = log) {
        if (beyond(&ev))
            continue;
        if (ev.type == LR_EV_PART) {
            b = (struct block){.part = ev, .extras = log};
        } else if (ev.type == LR_EV_DELTA) {
            b.text = ev.a;
        } else if (ev.type == LR_EV_SIGN) {
            b.sign = ev.a;
            b.redacted = ev.sub;
        } else if (ev.type == LR_EV_PART_END && !foreign(&b.part)) {
            if (b.part.sub == LR_PART_REASONING && !b.text.n && !b.sign.n)
                continue; /* another provider's secret: nothing that can be shown */
            b.extras.n = (size_t)(at.p - b.extras.p);
            LR_TRY(put_block(w, o, &b, tmp));
        }
    }
    lr_jw_end(w);
    return rc;
}

int lr_messages_enc_whole(const struct lr_encoder_opts *o, struct lr_str log, struct lr_buf *out)
{
    struct summary f = {0};
    struct lr_buf tmp;
    struct lr_jw w;
    LR_TRY(summarize(log, &f));
    lr_buf_init(&tmp, LR_MIB(1));
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_id_answer(o, "msg_", f.start.a, &tmp);
    int rc = tmp.rc;
    if (!rc) {
        lr_put_str(&w, "id", lr_buf_str(&tmp));
        lr_put_str(&w, "type", LR_STR("message"));
        lr_put_str(&w, "role", LR_STR("assistant"));
        lr_put_str(&w, "model", f.start.b);
        rc = put_content(&w, o, log, &tmp);
    }
    if (!rc) {
        put_stop(&w, reason_of(f.finish.sub, f.finish.b, f.tools, f.refused), f.finish.a);
        rc = put_extras(&w, log, LR_SCOPE_TOP);
    }
    if (!rc)
        rc = put_usage(&w, &f.usage, log);
    lr_jw_end(&w);
    lr_buf_free(&tmp);
    return rc ? rc : out->rc;
}
