/* SPDX-License-Identifier: Apache-2.0
 * dialect/emit.c - what the readers of answers share: looking into JSON, and events on their way
 * out.
 *
 * An event is marked with the dialect it was read from only where another dialect could not know
 * what it means: extras, signatures, blocks and reasons of unknown kinds. Everything else is
 * canonical, and two dialects that say the same give the same bytes in the log.
 *
 * Messages and Responses show one choice whose parts come one after another; struct lr_parts counts
 * them. Chat's fragments come interleaved by choice and end without a word: chat_in.c keeps its own
 * books.
 */
#include "dialect/dialect_int.h"

/* ---- looking into JSON ---------------------------------------------------------------------- */

struct lr_str lr_text_of(const struct lr_json *o, const char *name)
{
    struct lr_str s = {NULL, 0};
    (void)lr_json_text(lr_json_get(o, name), &s); /* absent or of another type: empty */
    return s;
}

const struct lr_json *lr_first_of(const struct lr_json *o, const char *name)
{
    const struct lr_json *v = lr_json_get(o, name);
    return lr_json_is(v, LR_JSON_ARRAY) ? v->child : NULL;
}

const struct lr_json *lr_members_of(const struct lr_json *o)
{
    return lr_json_is(o, LR_JSON_OBJECT) ? o->child : NULL;
}

bool lr_listed(struct lr_str name, const char *const *names)
{
    for (; *names; names++)
        if (lr_str_is(name, *names))
            return true;
    return false;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int lr_json_tight(struct lr_arena *a, struct lr_str raw, struct lr_str *out)
{
    size_t blanks = 0;
    bool text = false;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (text && c == '\\')
            i++;
        else if (c == '"')
            text = !text;
        else if (!text && blank(c))
            blanks++;
    }
    *out = raw;
    if (!blanks)
        return 0;
    char *p = lr_arena_alloc(a, raw.n - blanks + 1, 1);
    LR_FAIL_IF(!p, LR_ENOMEM);
    size_t n = 0;
    text = false;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (!text && blank(c))
            continue;
        p[n++] = c;
        if (text && c == '\\' && i + 1 < raw.n)
            p[n++] = raw.p[++i];
        else if (c == '"')
            text = !text;
    }
    *out = lr_str(p, n);
    return 0;
}

/* ---- events --------------------------------------------------------------------------------- */

int lr_emit(const struct lr_emit *e, struct lr_event ev)
{
    bool ours = ev.type == LR_EV_EXTRA || ev.type == LR_EV_SIGN ||
                (ev.type == LR_EV_PART && ev.sub == LR_PART_OTHER) ||
                (ev.type == LR_EV_FINISH && ev.sub == LR_FINISH_OTHER);
    ev.dialect = ours ? e->dialect : LR_DIALECT_NONE;
    return e->fn(e->ctx, &ev);
}

int lr_emit_start(const struct lr_emit *e, const struct lr_json *answer)
{
    return lr_emit(e, (struct lr_event){.type = LR_EV_START,
                                        .a = lr_text_of(answer, "id"),
                                        .b = lr_text_of(answer, "model")});
}

int lr_malformed(const struct lr_emit *e, const char *what)
{
    return lr_err_set(e->err, LR_EPARSE, "answer", "%s", what);
}

uint16_t lr_part_now(const struct lr_parts *p)
{
    return (uint16_t)(p->n - 1);
}

int lr_emit_extra(const struct lr_emit *e, const struct lr_parts *p, enum lr_extra_scope scope,
                  struct lr_str name, struct lr_str raw)
{
    struct lr_event ev = {.type = LR_EV_EXTRA, .sub = (uint8_t)scope, .a = name};
    ev.part = scope == LR_SCOPE_PART ? lr_part_now(p) : 0;
    LR_TRY(lr_json_tight(e->a, raw, &ev.b));
    return lr_emit(e, ev);
}

int lr_emit_rest(const struct lr_emit *e, const struct lr_parts *p, enum lr_extra_scope scope,
                 const struct lr_json *o, const char *const *known)
{
    for (const struct lr_json *m = lr_members_of(o); m; m = m->next)
        if (!lr_listed(m->key, known) && !lr_json_is_void(m->raw))
            LR_TRY(lr_emit_extra(e, p, scope, m->key, m->raw));
    return 0;
}

int lr_emit_one(const struct lr_emit *e, const struct lr_parts *p, struct lr_str name,
                struct lr_str raw)
{
    struct lr_str one;
    LR_TRY(lr_json_tight(e->a, raw, &one));
    char *list = lr_arena_alloc(e->a, one.n + 2, 1);
    LR_FAIL_IF(!list, LR_ENOMEM);
    list[0] = '[';
    memcpy(list + 1, one.p, one.n);
    list[one.n + 1] = ']';
    return lr_emit_extra(e, p, LR_SCOPE_PART, name, lr_str(list, one.n + 2));
}

int lr_emit_part(const struct lr_emit *e, struct lr_parts *p, struct lr_event ev)
{
    LR_FAIL_IF(p->n > UINT16_MAX, LR_EOVER);
    p->type = (enum lr_part_type)ev.sub;
    p->bytes = 0;
    p->open = true;
    p->n++;
    ev.type = LR_EV_PART;
    ev.part = lr_part_now(p);
    return lr_emit(e, ev);
}

int lr_emit_delta(const struct lr_emit *e, struct lr_parts *p, struct lr_str s)
{
    if (!s.n)
        return 0;
    p->bytes += s.n;
    return lr_emit(e, (struct lr_event){.type = LR_EV_DELTA, .part = lr_part_now(p), .a = s});
}

int lr_emit_sign(const struct lr_emit *e, const struct lr_parts *p, struct lr_str s, bool redacted)
{
    if (!s.n)
        return 0;
    return lr_emit(
        e, (struct lr_event){.type = LR_EV_SIGN, .sub = redacted, .part = lr_part_now(p), .a = s});
}

int lr_emit_part_end(const struct lr_emit *e, struct lr_parts *p)
{
    if (!p->open)
        return 0;
    p->open = false;
    return lr_emit(e, (struct lr_event){.type = LR_EV_PART_END, .part = lr_part_now(p)});
}
