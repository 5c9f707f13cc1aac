/* SPDX-License-Identifier: Apache-2.0
 * engine/template.c - chat templates: which family, and from a script to tokens.
 *
 * A model's template is a program for Jinja that somebody put into a file. Running it would mean an
 * interpreter that reads hostile input; nearly all models in use speak one of a dozen formats. So the
 * program is only looked at: each family has marks (its control tokens as they are spelled in the
 * program) that no other family has, tried from the most to the least particular. What matches none is
 * refused with its beginning quoted, because a wrong format answers nonsense and says nothing.
 *
 * Rendering writes a script: the whole prompt as text, and marks on top.
 *
 *   text    <|im_start|>user\nHow is <|im_end|> written?<|im_end|>\n
 *   marks   ~~~~~~~~~~~~ control                      ~~~~~~~~~~ control
 *
 * Text between marks is encoded as one piece and never parsed for control tokens; a mark becomes the id
 * of that token. So what a user types cannot end a turn (the second <|im_end|> above does, the first
 * does not), and yet letters of the template and of the user that touch are tokenised together, as in
 * training. Tokens that the vocabulary declares as user-defined are plain words, here as everywhere.
 * A control token that is no token of the vocabulary joins the text around it: fine-tunes that took
 * ChatML without enlarging the vocabulary were trained that way.
 *
 * White space after a control token belongs to it in Phi-3's vocabulary; whether it does is tried once,
 * with the tokeniser itself, since pieces are encoded apart.
 *
 * Dropped: rendering to one string and encoding it with control tokens parsed (a user could forge
 * turns); escaping the user's text (changes its tokens).
 *
 * Sources: the public templates of the named models, as facts.
 */
#include "engine/template_int.h"

#include <stdio.h>

static const char *const names[LR_ENGINE_FAMILIES] = {
    [LR_ENGINE_PLAIN] = "plain",         [LR_ENGINE_CHATML] = "chatml",
    [LR_ENGINE_QWEN25] = "qwen2.5",      [LR_ENGINE_QWEN3] = "qwen3",
    [LR_ENGINE_LLAMA2] = "llama-2",      [LR_ENGINE_LLAMA3] = "llama-3",
    [LR_ENGINE_LLAMA31] = "llama-3.1",   [LR_ENGINE_MISTRAL1] = "mistral-v1",
    [LR_ENGINE_MISTRAL3] = "mistral-v3", [LR_ENGINE_MISTRAL7] = "mistral-v7",
    [LR_ENGINE_GEMMA] = "gemma",         [LR_ENGINE_PHI3] = "phi-3",
    [LR_ENGINE_ZEPHYR] = "zephyr",       [LR_ENGINE_DEEPSEEK2] = "deepseek-v2",
    [LR_ENGINE_DEEPSEEK3] = "deepseek-v3", [LR_ENGINE_DEEPSEEK_R1] = "deepseek-r1",
};

const char *lr_engine_family_name(enum lr_engine_family f)
{
    return (unsigned)f < LR_ENGINE_FAMILIES ? names[f] : "unknown";
}

/* ---- matching ---- */

static bool has(struct lr_str text, const char *z)
{
    return text.n && memmem(text.p, text.n, z, strlen(z)) != NULL;
}

/* z with a line break, which a program may spell as one or as \n. */
static bool has_line(struct lr_str text, const char *z, const char *after)
{
    char one[64], two[64];
    int n = snprintf(one, sizeof one, "%s\n%s", z, after);
    int m = snprintf(two, sizeof two, "%s\\n%s", z, after);
    return n > 0 && m > 0 && (has(text, one) || has(text, two));
}

/* The system text a ChatML template brings along. */
static const char *known_system(struct lr_str text)
{
    static const char *const known[] = {
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        "You are a helpful assistant.",
        "You are a helpful assistant",
    };
    for (size_t i = 0; i < LR_COUNT(known); i++)
        if (has(text, known[i]))
            return known[i];
    return NULL;
}

static bool match_chatml(struct lr_str text, struct lr_engine_template *t)
{
    if (!has(text, "<|im_start|>") || has(text, "<|im_sep|>") || has(text, "<function="))
        return false;
    t->family = LR_ENGINE_CHATML;
    if (has(text, "<tool_call>") && has(text, "<tool_response>") && has(text, "<tools>"))
        t->family = has(text, "multi_step_tool") || has(text, "</think>") ? LR_ENGINE_QWEN3
                                                                         : LR_ENGINE_QWEN25;
    t->think = has(text, "</think>");
    t->think_open = has(text, "<|im_start|>assistant\\n<think>\\n'"); /* the prompt, not an answer */
    t->system = t->family == LR_ENGINE_QWEN3 ? NULL : known_system(text);
    return true;
}

static bool match_llama3(struct lr_str text, struct lr_engine_template *t)
{
    if (!has(text, "<|start_header_id|>") || !has(text, "<|eot_id|>"))
        return false;
    t->family = has(text, "Cutting Knowledge Date") ? LR_ENGINE_LLAMA31 : LR_ENGINE_LLAMA3;
    return true;
}

static bool match_inst(struct lr_str text, struct lr_engine_template *t)
{
    if (!has(text, "[INST]"))
        return false;
    t->spaced = true;
    if (has(text, "[SYSTEM_PROMPT]")) {
        t->family = LR_ENGINE_MISTRAL7;
        t->spaced = has(text, "[SYSTEM_PROMPT] ");
    } else if (has(text, "[AVAILABLE_TOOLS]")) {
        t->family = LR_ENGINE_MISTRAL3;
        t->spaced = has(text, "[INST] ");
    } else if (has(text, "<<SYS>>")) {
        t->family = LR_ENGINE_LLAMA2;
    } else {
        t->family = LR_ENGINE_MISTRAL1;
        t->spaced = has(text, " [INST] ");
    }
    return true;
}

static bool match_deepseek(struct lr_str text, struct lr_engine_template *t)
{
    if (has(text, "<｜User｜>") && has(text, "<｜Assistant｜>")) {
        t->think = has(text, "</think>");
        t->think_open = has(text, "<｜Assistant｜><think>");
        if (has(text, "## Tools") || has(text, "thinking"))
            return false; /* V3.1 and later: another format of calls, and a switch */
        t->family = t->think ? LR_ENGINE_DEEPSEEK_R1 : LR_ENGINE_DEEPSEEK3;
        return true;
    }
    t->family = LR_ENGINE_DEEPSEEK2;
    return has(text, "'User: '") && has(text, "'Assistant: '") && has(text, "eos_token");
}

static bool match_marked_roles(struct lr_str text, struct lr_engine_template *t)
{
    if (has(text, "<start_of_turn>") && has(text, "<end_of_turn>")) {
        t->family = LR_ENGINE_GEMMA;
        return true;
    }
    if (has(text, "<|end|>") && has(text, "<|assistant|>")) {
        t->family = LR_ENGINE_PHI3; /* Phi-4 has no line break after the role */
        return has_line(text, "|>' + '", "'") || has_line(text, "<|assistant|>", "");
    }
    t->family = LR_ENGINE_ZEPHYR;
    return has(text, "<|user|>") && has(text, "<|assistant|>") && has(text, "eos_token") &&
           !has(text, "<|end|>");
}

int lr_engine_template_match(struct lr_str text, struct lr_engine_template *out,
                             struct lr_err *err)
{
    static bool (*const match[])(struct lr_str, struct lr_engine_template *) = {
        match_chatml, match_llama3, match_inst, match_deepseek, match_marked_roles,
    };
    char head[61];
    size_t n = 0;
    text = lr_str_trim(text);
    for (size_t i = 0; text.n && i < LR_COUNT(match); i++) {
        struct lr_engine_template t = {.bos = has(text, "bos_token")};
        if (match[i](text, &t)) {
            *out = t;
            return 0;
        }
    }
    if (!text.n) {
        *out = (struct lr_engine_template){.family = LR_ENGINE_PLAIN};
        return 0;
    }
    for (; n < text.n && n < sizeof head - 1; n++)
        head[n] = text.p[n] >= ' ' && text.p[n] <= '~' ? text.p[n] : '?';
    head[n] = 0;
    return lr_err_set(err, LR_EUNSUPPORTED, "tokenizer.chat_template",
                      "the chat template is of no known family; it begins with: %s", head);
}

/* ---- the script ---- */

static void mark(struct lr_tmpl *c, size_t at, enum lr_tmpl_kind kind)
{
    struct lr_tmpl_mark m = {.at = at, .n = c->text.len - at, .kind = kind};
    lr_buf_add(&c->marks, &m, sizeof m);
}

/* The spelling of a role where there is no vocabulary to ask. */
static const char *role_text(enum lr_engine_family f, bool bos)
{
    switch (f) {
    case LR_ENGINE_LLAMA3:
    case LR_ENGINE_LLAMA31:
        return bos ? "<|begin_of_text|>" : "<|eot_id|>";
    case LR_ENGINE_GEMMA:
        return bos ? "<bos>" : "<eos>";
    case LR_ENGINE_DEEPSEEK2:
    case LR_ENGINE_DEEPSEEK3:
    case LR_ENGINE_DEEPSEEK_R1:
        return bos ? "<｜begin▁of▁sentence｜>" : "<｜end▁of▁sentence｜>";
    default:
        return bos ? "<s>" : "</s>";
    }
}

static void put_role(struct lr_tmpl *c, bool bos)
{
    size_t at = c->text.len;
    if (c->tok) {
        const struct lr_nn_roles *r = lr_nn_tok_roles(c->tok);
        uint32_t id = bos ? r->bos : r->eos;
        if (id == LR_NN_NO_TOKEN)
            return;
        lr_buf_adds(&c->text, lr_nn_tok_text(c->tok, id));
    } else {
        lr_buf_addz(&c->text, role_text(c->t->family, bos));
    }
    mark(c, at, bos ? LR_MARK_BOS : LR_MARK_EOS);
}

void lr_tmpl_put(struct lr_tmpl *c, const char *z)
{
    while (*z) {
        size_t n = strcspn(z, "\1\2\3");
        lr_buf_add(&c->text, z, n);
        z += n;
        if (*z == '\2' || *z == '\3') {
            put_role(c, *z == '\2');
            z++;
        } else if (*z) {
            size_t at = c->text.len;
            n = strcspn(++z, "\1");
            lr_buf_add(&c->text, z, n);
            mark(c, at, LR_MARK_CONTROL);
            z += n + 1;
        }
    }
}

void lr_tmpl_say(struct lr_tmpl *c, struct lr_str s)
{
    lr_buf_adds(&c->text, s);
}

void lr_tmpl_cut(struct lr_tmpl *c)
{
    mark(c, c->text.len, LR_MARK_CUT);
}

/* ---- a request as turns ---- */

static int refuse_part(const struct lr_part *p, const char *where, struct lr_err *err)
{
    const char *what = p->type == LR_PART_IMAGE   ? "image"
                       : p->type == LR_PART_AUDIO ? "audio"
                       : p->type == LR_PART_FILE  ? "file"
                                                  : "unknown";
    return lr_err_set(err, LR_EUNSUPPORTED, where, "%s parts: this model reads text only", what);
}

/* The texts of the parts of one kind, joined. */
static int join(struct lr_arena *a, const struct lr_part *parts, enum lr_part_type type,
                struct lr_str *out)
{
    size_t n = 0, at = 0;
    const struct lr_part *one = NULL;
    for (const struct lr_part *p = parts; p; p = p->next)
        if (p->type == type && p->text.n) {
            n += p->text.n;
            one = p;
        }
    *out = one ? one->text : lr_str(NULL, 0);
    if (!one || one->text.n == n)
        return 0;
    char *s = lr_arena_alloc(a, n, 1);
    LR_FAIL_IF(!s, LR_ENOMEM);
    for (const struct lr_part *p = parts; p; p = p->next)
        if (p->type == type && p->text.n) {
            memcpy(s + at, p->text.p, p->text.n);
            at += p->text.n;
        }
    *out = lr_str(s, n);
    return 0;
}

/* Everything in the list is text of some kind. */
static int check_parts(const struct lr_part *parts, bool calls, const char *where,
                       struct lr_err *err)
{
    for (const struct lr_part *p = parts; p; p = p->next) {
        bool fine = p->type == LR_PART_TEXT || p->type == LR_PART_REFUSAL ||
                    p->type == LR_PART_REASONING || (calls && p->type == LR_PART_TOOL_CALL);
        if (!fine)
            return refuse_part(p, where, err);
    }
    return 0;
}

static int add_results(struct lr_tmpl *c, const struct lr_msg *m, const char *where,
                       struct lr_err *err)
{
    for (const struct lr_part *p = m->parts; p; p = p->next) {
        if (p->type != LR_PART_TOOL_RESULT)
            return refuse_part(p, where, err);
        LR_TRY(check_parts(p->parts, false, where, err));
        struct lr_tmpl_turn *t = &c->turn[c->n++];
        t->role = LR_ROLE_TOOL;
        t->id = p->id;
        LR_TRY(join(&c->arena, p->parts, LR_PART_TEXT, &t->text));
    }
    return 0;
}

static int add_turn(struct lr_tmpl *c, const struct lr_msg *m, const char *where,
                    struct lr_err *err)
{
    struct lr_str refusal;
    if (m->role == LR_ROLE_TOOL)
        return add_results(c, m, where, err);
    LR_TRY(check_parts(m->parts, m->role == LR_ROLE_ASSISTANT, where, err));
    struct lr_tmpl_turn *t = &c->turn[c->n++];
    t->role = m->role == LR_ROLE_DEVELOPER ? LR_ROLE_SYSTEM : m->role;
    LR_TRY(join(&c->arena, m->parts, LR_PART_TEXT, &t->text));
    LR_TRY(join(&c->arena, m->parts, LR_PART_REASONING, &t->think));
    LR_TRY(join(&c->arena, m->parts, LR_PART_REFUSAL, &refusal));
    if (!t->text.n)
        t->text = refusal;
    for (const struct lr_part *p = m->parts; p && !t->calls; p = p->next)
        if (p->type == LR_PART_TOOL_CALL)
            t->calls = p;
    return 0;
}

static int make_turns(struct lr_tmpl *c, const struct lr_engine_render *r, struct lr_err *err)
{
    size_t room = 0, i = 0;
    char where[40];
    for (const struct lr_msg *m = r->request->msgs; m; m = m->next) {
        room++;
        for (const struct lr_part *p = m->role == LR_ROLE_TOOL ? m->parts : NULL; p; p = p->next)
            room++;
    }
    if (!room)
        return lr_err_set(err, LR_EINVAL, "messages", "there is no message");
    c->turn = lr_arena_array(&c->arena, struct lr_tmpl_turn, room);
    LR_FAIL_IF(!c->turn, LR_ENOMEM);
    for (const struct lr_msg *m = r->request->msgs; m; m = m->next, i++) {
        if (r->messages && i == r->messages)
            break;
        if (snprintf(where, sizeof where, "messages[%zu]", i) < 0)
            where[0] = 0; /* cannot be: the format is ours */
        LR_TRY(add_turn(c, m, where, err));
    }
    return 0;
}

/* ---- what a family has a place for ---- */

static bool takes_tools(enum lr_engine_family f)
{
    return f == LR_ENGINE_QWEN25 || f == LR_ENGINE_QWEN3 || f == LR_ENGINE_LLAMA31 ||
           f == LR_ENGINE_MISTRAL3 || f == LR_ENGINE_MISTRAL7;
}

static bool takes_calls(enum lr_engine_family f)
{
    return takes_tools(f) || f == LR_ENGINE_DEEPSEEK3 || f == LR_ENGINE_DEEPSEEK_R1;
}

static int check_tools(struct lr_tmpl *c, struct lr_err *err)
{
    const struct lr_request *q = c->req;
    const char *name = lr_engine_family_name(c->t->family);
    c->tools = q->tools && q->tool_choice != LR_TOOL_CHOICE_NONE;
    for (size_t i = 0; i < c->n && !takes_calls(c->t->family); i++)
        if (c->turn[i].calls || c->turn[i].role == LR_ROLE_TOOL)
            return lr_err_set(err, LR_EUNSUPPORTED, "messages",
                              "this model's chat template (%s) has no place for tool calls", name);
    if (!c->tools)
        return 0;
    if (!takes_tools(c->t->family))
        return lr_err_set(err, LR_EUNSUPPORTED, "tools",
                          "this model's chat template (%s) has no place for tools", name);
    for (const struct lr_tool *t = q->tools; t; t = t->next)
        if (t->json)
            return lr_err_set(err, LR_EUNSUPPORTED, "tools",
                              "only function tools work with a local model");
    if (q->tool_choice != LR_TOOL_CHOICE_ABSENT && q->tool_choice != LR_TOOL_CHOICE_AUTO)
        return lr_err_set(err, LR_EUNSUPPORTED, "tool_choice",
                          "a local model can be offered tools, not be made to call one");
    return 0;
}

/* ---- from the script to tokens ---- */

/* White space behind this control token is swallowed with it. */
static bool swallows(const struct lr_tmpl *c, struct lr_str control)
{
    struct lr_nn_ids ids;
    struct lr_buf b;
    if (c->t->family != LR_ENGINE_PHI3)
        return false;
    lr_nn_ids_init(&ids, 16);
    lr_buf_init(&b, LR_NN_TOKEN_MAX + 1);
    lr_buf_adds(&b, control);
    lr_buf_addc(&b, ' ');
    bool yes = !b.rc &&
               !lr_nn_tok_encode(c->tok, lr_buf_str(&b), LR_NN_PARSE_SPECIAL, &ids, NULL) &&
               ids.n == 1;
    lr_nn_ids_free(&ids);
    lr_buf_free(&b);
    return yes;
}

/* The id of a mark, or LR_NN_NO_TOKEN when it is text here. */
static uint32_t mark_id(const struct lr_tmpl *c, const struct lr_tmpl_mark *m)
{
    if (m->kind == LR_MARK_BOS)
        return lr_nn_tok_roles(c->tok)->bos;
    if (m->kind == LR_MARK_EOS)
        return lr_nn_tok_roles(c->tok)->eos;
    uint32_t id = lr_nn_tok_find(c->tok, lr_str(c->text.p + m->at, m->n));
    if (id == LR_NN_NO_TOKEN)
        return id;
    enum lr_nn_token_type type = lr_nn_tok_type(c->tok, id);
    return type == LR_NN_TOKEN_CONTROL || type == LR_NN_TOKEN_USER ? id : LR_NN_NO_TOKEN;
}

static int encode_text(const struct lr_tmpl *c, size_t from, size_t to, bool strip,
                       struct lr_nn_ids *ids, struct lr_err *err)
{
    struct lr_str s = lr_str(c->text.p + from, to - from);
    while (strip && s.n && (*s.p == ' ' || (*s.p >= '\t' && *s.p <= '\r'))) {
        s.p++;
        s.n--;
    }
    return s.n ? lr_nn_tok_encode(c->tok, s, 0, ids, err) : 0;
}

static int encode(const struct lr_tmpl *c, struct lr_nn_ids *ids, struct lr_err *err)
{
    size_t n = c->marks.len / sizeof(struct lr_tmpl_mark), from = 0;
    bool strip = false;
    for (size_t i = 0; i < n; i++) {
        struct lr_tmpl_mark m;
        memcpy(&m, c->marks.p + i * sizeof m, sizeof m);
        uint32_t id = m.kind == LR_MARK_CUT ? LR_NN_NO_TOKEN : mark_id(c, &m);
        if (id == LR_NN_NO_TOKEN && m.kind != LR_MARK_CUT)
            continue;
        LR_TRY(encode_text(c, from, m.at, strip, ids, err));
        from = m.at + m.n;
        strip = false;
        if (m.kind == LR_MARK_CUT)
            continue;
        int rc = lr_nn_ids_add(ids, id);
        if (rc == LR_EOVER)
            return lr_err_set(err, rc, "messages", "over %zu tokens", ids->max);
        LR_TRY(rc);
        strip = m.kind == LR_MARK_CONTROL && swallows(c, lr_str(c->text.p + m.at, m.n));
    }
    return encode_text(c, from, c->text.len, strip, ids, err);
}

/* ---- the doors ---- */

static int script(struct lr_tmpl *c, const struct lr_engine_render *r, struct lr_err *err)
{
    c->req = r->request;
    c->prompt = !r->no_prompt;
    LR_TRY(make_turns(c, r, err));
    LR_TRY(check_tools(c, err));
    lr_tmpl_family(c);
    LR_FAIL_IF(c->marks.rc == LR_ENOMEM || c->text.rc == LR_ENOMEM, LR_ENOMEM);
    if (c->text.rc || c->marks.rc)
        return lr_err_set(err, LR_EOVER, "messages", "the prompt is over %zu bytes",
                          LR_TMPL_TEXT_MAX);
    return 0;
}

static void open_script(struct lr_tmpl *c)
{
    lr_arena_init(&c->arena, LR_TMPL_ARENA_MAX);
    lr_buf_init(&c->text, LR_TMPL_TEXT_MAX);
    lr_buf_init(&c->marks, LR_TMPL_MARKS_MAX);
}

static void close_script(struct lr_tmpl *c)
{
    lr_arena_free(&c->arena);
    lr_buf_free(&c->text);
    lr_buf_free(&c->marks);
}

int lr_engine_template_render(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                              const struct lr_engine_render *r, struct lr_nn_ids *ids,
                              struct lr_err *err)
{
    struct lr_tmpl c = {.t = t, .tok = tok};
    size_t before = ids->n;
    open_script(&c);
    int rc = script(&c, r, err);
    if (!rc)
        rc = encode(&c, ids, err);
    if (rc)
        ids->n = before;
    close_script(&c);
    return rc;
}

int lr_engine_template_text(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                            const struct lr_engine_render *r, struct lr_buf *out,
                            struct lr_err *err)
{
    struct lr_tmpl c = {.t = t, .tok = tok};
    open_script(&c);
    int rc = script(&c, r, err);
    if (!rc)
        rc = lr_buf_adds(out, lr_buf_str(&c.text));
    close_script(&c);
    return rc;
}

/* ---- where replies end ---- */

static const char *turn_end(enum lr_engine_family f)
{
    switch (f) {
    case LR_ENGINE_CHATML:
    case LR_ENGINE_QWEN25:
    case LR_ENGINE_QWEN3:
        return "<|im_end|>";
    case LR_ENGINE_LLAMA3:
    case LR_ENGINE_LLAMA31:
        return "<|eot_id|>";
    case LR_ENGINE_GEMMA:
        return "<end_of_turn>";
    case LR_ENGINE_PHI3:
        return "<|end|>";
    case LR_ENGINE_PLAIN:
        return "\n\nUser:";
    default:
        return NULL;
    }
}

void lr_engine_template_stops(const struct lr_engine_template *t, const struct lr_nn_tok *tok,
                              struct lr_engine_stops *out)
{
    static const char *const more[] = {"<|eom_id|>", "<|endoftext|>"};
    const char *end = turn_end(t->family);
    *out = (struct lr_engine_stops){0};
    if (end) {
        uint32_t id = lr_nn_tok_find(tok, lr_strz(end));
        if (id == LR_NN_NO_TOKEN || t->family == LR_ENGINE_PLAIN)
            out->text[out->n_text++] = lr_strz(end);
        else
            out->id[out->n_id++] = id;
    }
    for (size_t i = 0; i < LR_COUNT(more); i++) {
        uint32_t id = lr_nn_tok_find(tok, lr_strz(more[i]));
        if (id != LR_NN_NO_TOKEN && lr_nn_tok_type(tok, id) == LR_NN_TOKEN_CONTROL)
            out->id[out->n_id++] = id;
    }
}

bool lr_engine_template_spells(const struct lr_engine_template *t, const struct lr_request *r)
{
    return r->tools && r->tool_choice != LR_TOOL_CHOICE_NONE && takes_tools(t->family);
}
