/* SPDX-License-Identifier: Apache-2.0
 * engine/template_family.c - what each family of chat templates writes.
 *
 * One function a family, each the hand-made equal of a public template; tests/unit/engine/
 * test_template.c holds texts that those templates themselves rendered. Deviations, all of them:
 *
 *   - Turns need not alternate; templates that raise an error otherwise render them one by one here.
 *   - System text after the beginning: ChatML, Llama-3 and DeepSeek say it where it stands; families
 *     that put it into a question put it into the next one (at the end: into a question of its own).
 *   - Results of tools at the end of a conversation are left open when no answer is asked for (more may
 *     follow in the same turn), so that prefixes stay prefixes.
 *   - Today's date, where a template asks for it, is the constant these templates fall back to: a prompt
 *     that changes every midnight would empty every cache.
 *   - Mistral wants ids of calls to be nine letters or digits; others become such, by hash.
 *   - Mistral v3 says system text only if a question is the last message; here it stays with the last
 *     question.
 *   - Llama-3.1 takes one call a turn, without text: more calls become more turns, text one before.
 *   - Tools are rendered as {"type", "function": {"name", "description", "parameters"}} whatever dialect
 *     they came in; members beyond those are not shown to the model.
 */
#include "engine/template_int.h"

#define put   lr_tmpl_put
#define say   lr_tmpl_say
#define START LR_CTL("<|im_start|>")
#define END   LR_CTL("<|im_end|>")

/* ---- JSON as Python writes it: ", " and ": " ---- */

static void indent(struct lr_tmpl *c, unsigned step, unsigned depth)
{
    if (!step)
        return;
    lr_buf_addc(&c->text, '\n');
    for (unsigned i = 0; i < step * depth; i++)
        lr_buf_addc(&c->text, ' ');
}

/* step: blanks of an indentation, 0 = one line. Depth is bounded by the reader (128). */
static void say_json(struct lr_tmpl *c, const struct lr_json *v, unsigned step, unsigned depth)
{
    bool object = lr_json_is(v, LR_JSON_OBJECT);
    if (!object && !lr_json_is(v, LR_JSON_ARRAY)) {
        if (lr_json_is(v, LR_JSON_STRING))
            lr_json_quote(&c->text, v->text); /* sticks */
        else
            say(c, v->raw);
        return;
    }
    lr_buf_addc(&c->text, object ? '{' : '[');
    for (const struct lr_json *m = v->child; m; m = m->next) {
        indent(c, step, depth + 1);
        if (object) {
            lr_json_quote(&c->text, m->key);
            put(c, ": ");
        }
        say_json(c, m, step, depth + 1);
        if (m->next)
            put(c, step ? "," : ", ");
    }
    if (v->child)
        indent(c, step, depth);
    lr_buf_addc(&c->text, object ? '}' : ']');
}

/* A function tool the way every family but none of the dialects spells it. */
static void say_tool(struct lr_tmpl *c, const struct lr_tool *t, unsigned step)
{
    put(c, "{");
    indent(c, step, 1);
    put(c, "\"type\": \"function\",");
    put(c, step ? "" : " ");
    indent(c, step, 1);
    put(c, "\"function\": {");
    indent(c, step, 2);
    put(c, "\"name\": ");
    lr_json_quote(&c->text, t->name);
    if (t->description.n) {
        put(c, step ? "," : ", ");
        indent(c, step, 2);
        put(c, "\"description\": ");
        lr_json_quote(&c->text, t->description);
    }
    if (t->schema) {
        put(c, step ? "," : ", ");
        indent(c, step, 2);
        put(c, "\"parameters\": ");
        say_json(c, t->schema, step, 2);
    }
    indent(c, step, 1);
    put(c, "}");
    indent(c, step, 0);
    put(c, "}");
}

/* Arguments: as JSON when they are, else as a JSON string of what they are. */
static void say_arguments(struct lr_tmpl *c, struct lr_str text)
{
    struct lr_json *v;
    if (!lr_str_trim(text).n)
        put(c, "{}");
    else if (lr_json_parse(&c->arena, text, NULL, &v, NULL))
        lr_json_quote(&c->text, text);
    else
        say_json(c, v, 0, 0);
}

static const struct lr_part *next_call(const struct lr_part *p)
{
    while (p && p->type != LR_PART_TOOL_CALL)
        p = p->next;
    return p;
}

/* ---- small things ---- */

static struct lr_str trim_lines(struct lr_str s, bool both)
{
    while (s.n && *s.p == '\n') {
        s.p++;
        s.n--;
    }
    while (both && s.n && s.p[s.n - 1] == '\n')
        s.n--;
    return s;
}

/* What follows the last </think>; *think: what is between <think> and the first one. */
static struct lr_str split_think(struct lr_str s, struct lr_str *think)
{
    static const char open[] = "<think>", close[] = "</think>";
    struct lr_str before = s;
    bool first = true;
    const char *p;
    while ((p = s.n ? memmem(s.p, s.n, close, sizeof close - 1) : NULL)) {
        if (first)
            before.n = (size_t)(p - s.p);
        first = false;
        s = lr_str(p + sizeof close - 1, s.n - (size_t)(p - s.p) - (sizeof close - 1));
    }
    if (first)
        return s;
    while ((p = before.n ? memmem(before.p, before.n, open, sizeof open - 1) : NULL))
        before = lr_str(p + sizeof open - 1, before.n - (size_t)(p - before.p) - (sizeof open - 1));
    *think = before;
    return s;
}

static void begin(struct lr_tmpl *c)
{
    if (c->t->bos || (c->tok && lr_nn_tok_adds_bos(c->tok)))
        put(c, LR_BOS);
}

static size_t last_user(const struct lr_tmpl *c)
{
    size_t last = SIZE_MAX;
    for (size_t i = 0; i < c->n; i++)
        if (c->turn[i].role == LR_ROLE_USER)
            last = i;
    return last;
}

/* Families without a system turn: system texts that wait for a question, joined by blank lines. A
 * conversation that ends with them asks them. */
static void say_waiting(struct lr_tmpl *c, size_t upto, const char *after)
{
    size_t from = upto;
    while (from && c->turn[from - 1].role == LR_ROLE_SYSTEM)
        from--;
    for (size_t i = from; i < upto; i++) {
        say(c, c->turn[i].text);
        put(c, i + 1 < upto ? "\n\n" : after);
    }
}

static bool asks(const struct lr_tmpl *c, size_t i)
{
    return c->turn[i].role == LR_ROLE_USER ||
           (c->turn[i].role == LR_ROLE_SYSTEM && i + 1 == c->n);
}

/* ---- ChatML and Qwen ---- */

static const char *chatml_role(enum lr_role r)
{
    return r == LR_ROLE_SYSTEM ? "system" : r == LR_ROLE_ASSISTANT ? "assistant" : "user";
}

static void qwen_tools(struct lr_tmpl *c)
{
    put(c, "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
           "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (const struct lr_tool *t = c->req->tools; t; t = t->next) {
        put(c, "\n");
        say_tool(c, t, 0);
    }
    put(c, "\n</tools>\n\nFor each function call, return a json object with function name and "
           "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": "
           "<function-name>, \"arguments\": <args-json-object>}\n</tool_call>" END "\n");
}

/* The first turn; returns how many turns it took. */
static size_t chatml_system(struct lr_tmpl *c)
{
    bool given = c->n && c->turn[0].role == LR_ROLE_SYSTEM;
    if (!given && !c->t->system && !c->tools)
        return 0;
    put(c, START "system\n");
    if (given)
        say(c, c->turn[0].text);
    else if (c->t->system)
        put(c, c->t->system);
    if (!c->tools) {
        put(c, END "\n");
        return given;
    }
    if (given || c->t->system)
        put(c, "\n\n");
    qwen_tools(c);
    return given;
}

static void qwen_calls(struct lr_tmpl *c, const struct lr_tmpl_turn *t, bool line)
{
    for (const struct lr_part *p = t->calls; (p = next_call(p)); p = p->next) {
        put(c, line ? "\n" : "");
        line = true;
        put(c, LR_CTL("<tool_call>") "\n{\"name\": \"");
        say(c, p->name);
        put(c, "\", \"arguments\": ");
        say_arguments(c, p->text);
        put(c, "}\n" LR_CTL("</tool_call>"));
    }
}

/* Results in a row share one turn of the user. */
static void qwen_result(struct lr_tmpl *c, size_t i)
{
    if (!i || c->turn[i - 1].role != LR_ROLE_TOOL)
        put(c, START "user");
    put(c, "\n" LR_CTL("<tool_response>") "\n");
    say(c, c->turn[i].text);
    put(c, "\n" LR_CTL("</tool_response>"));
    if (i + 1 == c->n ? c->prompt : c->turn[i + 1].role != LR_ROLE_TOOL)
        put(c, END "\n");
}

static void qwen3_answer(struct lr_tmpl *c, const struct lr_tmpl_turn *t, bool recent, bool last)
{
    struct lr_str text = t->text, think = t->think;
    if (!think.n)
        text = trim_lines(split_think(text, &think), false);
    put(c, START "assistant\n");
    if (c->t->think && recent && (last || think.n)) {
        put(c, LR_CTL("<think>") "\n");
        say(c, trim_lines(think, true));
        put(c, "\n" LR_CTL("</think>") "\n\n");
        text = trim_lines(text, false);
    }
    say(c, text);
    qwen_calls(c, t, text.n > 0);
    put(c, END "\n");
}

static void chatml_answer(struct lr_tmpl *c, const struct lr_tmpl_turn *t)
{
    put(c, START "assistant");
    put(c, t->calls && !t->text.n ? "" : "\n");
    say(c, t->text);
    qwen_calls(c, t, true);
    put(c, END "\n");
}

static void render_chatml(struct lr_tmpl *c)
{
    bool qwen3 = c->t->family == LR_ENGINE_QWEN3;
    size_t last = last_user(c);
    begin(c);
    for (size_t i = chatml_system(c); i < c->n; i++) {
        const struct lr_tmpl_turn *t = &c->turn[i];
        if (t->role == LR_ROLE_TOOL) {
            qwen_result(c, i);
        } else if (t->role == LR_ROLE_ASSISTANT && qwen3) {
            qwen3_answer(c, t, last != SIZE_MAX && i > last, i + 1 == c->n);
        } else if (t->role == LR_ROLE_ASSISTANT) {
            chatml_answer(c, t);
        } else {
            put(c, START);
            put(c, chatml_role(t->role));
            put(c, "\n");
            say(c, t->text);
            put(c, END "\n");
        }
    }
    if (!c->prompt)
        return;
    put(c, START "assistant\n");
    if (c->t->think_open)
        put(c, LR_CTL("<think>") "\n");
    else if (qwen3 && c->t->think && lr_str_is(c->req->effort, "none"))
        put(c, LR_CTL("<think>") "\n\n" LR_CTL("</think>") "\n\n");
}

/* ---- Llama ---- */

static void render_llama2(struct lr_tmpl *c)
{
    for (size_t i = 0; i < c->n; i++) {
        if (asks(c, i)) {
            bool waiting = i && c->turn[i - 1].role == LR_ROLE_SYSTEM;
            put(c, LR_BOS "[INST] ");
            if (waiting)
                put(c, "<<SYS>>\n");
            say_waiting(c, i, "\n<</SYS>>\n\n");
            say(c, lr_str_trim(c->turn[i].text));
            put(c, " [/INST]");
        } else if (c->turn[i].role == LR_ROLE_ASSISTANT) {
            put(c, " ");
            say(c, lr_str_trim(c->turn[i].text));
            put(c, " " LR_EOS);
        }
    }
}

static void llama3_head(struct lr_tmpl *c, const char *role)
{
    put(c, LR_CTL("<|start_header_id|>"));
    put(c, role);
    put(c, LR_CTL("<|end_header_id|>") "\n\n");
}

static void llama3_say(struct lr_tmpl *c, const char *role, struct lr_str text)
{
    llama3_head(c, role);
    say(c, lr_str_trim(text));
    put(c, LR_CTL("<|eot_id|>"));
}

static void llama31_call(struct lr_tmpl *c, const struct lr_part *p)
{
    llama3_head(c, "assistant");
    put(c, "{\"name\": \"");
    say(c, p->name);
    put(c, "\", \"parameters\": ");
    say_arguments(c, p->text);
    put(c, "}" LR_CTL("<|eot_id|>"));
}

static size_t llama31_system(struct lr_tmpl *c)
{
    bool given = c->n && c->turn[0].role == LR_ROLE_SYSTEM;
    llama3_head(c, "system");
    if (c->tools)
        put(c, "Environment: ipython\n");
    put(c, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    if (given)
        say(c, lr_str_trim(c->turn[0].text));
    put(c, LR_CTL("<|eot_id|>"));
    return given;
}

/* The first question, behind the tools. */
static void llama31_tools(struct lr_tmpl *c, struct lr_str question)
{
    llama3_head(c, "user");
    put(c, "Given the following functions, please respond with a JSON for a function call with its "
           "proper arguments that best answers the given prompt.\n\nRespond in the format {\"name\": "
           "function name, \"parameters\": dictionary of argument name and its value}.Do not use "
           "variables.\n\n");
    for (const struct lr_tool *t = c->req->tools; t; t = t->next) {
        say_tool(c, t, 4);
        put(c, "\n\n");
    }
    say(c, lr_str_trim(question));
    put(c, LR_CTL("<|eot_id|>"));
}

static void render_llama3(struct lr_tmpl *c)
{
    bool tools = c->tools;
    size_t i = 0;
    begin(c);
    if (c->t->family == LR_ENGINE_LLAMA31)
        i = llama31_system(c);
    for (; i < c->n; i++) {
        const struct lr_tmpl_turn *t = &c->turn[i];
        if (t->role == LR_ROLE_USER && tools) {
            llama31_tools(c, t->text);
            tools = false;
        } else if (t->role == LR_ROLE_TOOL) {
            llama3_head(c, "ipython");
            lr_json_quote(&c->text, t->text); /* sticks */
            put(c, LR_CTL("<|eot_id|>"));
        } else if (!t->calls || t->text.n) {
            llama3_say(c, chatml_role(t->role), t->text);
        }
        for (const struct lr_part *p = t->calls; (p = next_call(p)); p = p->next)
            llama31_call(c, p);
    }
    if (c->prompt)
        llama3_head(c, "assistant");
}

/* ---- Mistral ---- */

static void render_mistral1(struct lr_tmpl *c)
{
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        if (asks(c, i)) {
            put(c, c->t->spaced ? " [INST] " : "[INST] ");
            say_waiting(c, i, "\n\n");
            say(c, c->turn[i].text);
            put(c, " [/INST]");
        } else if (c->turn[i].role == LR_ROLE_ASSISTANT) {
            put(c, c->t->spaced ? " " : "");
            say(c, c->turn[i].text);
            put(c, LR_EOS);
        }
    }
}

/* Nine letters or digits, as they came or by hash. */
static void mistral_id(struct lr_tmpl *c, struct lr_str id)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    bool fine = id.n == 9;
    for (size_t i = 0; i < id.n && fine; i++)
        fine = memchr(letters, id.p[i], sizeof letters - 1) != NULL;
    if (fine) {
        say(c, id);
        return;
    }
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < id.n; i++)
        h = (h ^ (uint8_t)id.p[i]) * 0x100000001b3u;
    for (int i = 0; i < 9; i++, h /= sizeof letters - 1)
        lr_buf_addc(&c->text, letters[h % (sizeof letters - 1)]);
}

static void mistral_tools(struct lr_tmpl *c, const char *gap)
{
    put(c, LR_CTL("[AVAILABLE_TOOLS]"));
    put(c, gap);
    put(c, "[");
    for (const struct lr_tool *t = c->req->tools; t; t = t->next) {
        say_tool(c, t, 0);
        put(c, t->next ? ", " : "]");
    }
    put(c, LR_CTL("[/AVAILABLE_TOOLS]"));
}

static void mistral_calls(struct lr_tmpl *c, const struct lr_tmpl_turn *t, const char *gap)
{
    bool more = false;
    if (t->text.n) {
        put(c, gap);
        say(c, t->text);
    }
    put(c, LR_CTL("[TOOL_CALLS]"));
    put(c, gap);
    put(c, "[");
    for (const struct lr_part *p = t->calls; (p = next_call(p)); p = p->next) {
        put(c, more ? ", " : "");
        more = true;
        put(c, "{\"name\": ");
        lr_json_quote(&c->text, p->name);
        put(c, ", \"arguments\": ");
        say_arguments(c, p->text);
        put(c, ", \"id\": \"");
        mistral_id(c, p->id);
        put(c, "\"}");
    }
    put(c, "]" LR_EOS);
}

static void mistral_result(struct lr_tmpl *c, const struct lr_tmpl_turn *t, const char *gap)
{
    put(c, LR_CTL("[TOOL_RESULTS]"));
    put(c, gap);
    if (c->t->family == LR_ENGINE_MISTRAL7) {
        mistral_id(c, t->id);
        put(c, LR_CTL("[TOOL_CONTENT]"));
        put(c, gap);
        say(c, t->text);
    } else {
        put(c, "{\"content\": ");
        say(c, t->text);
        put(c, ", \"call_id\": \"");
        mistral_id(c, t->id);
        put(c, "\"}");
    }
    put(c, LR_CTL("[/TOOL_RESULTS]"));
}

/* All system texts of the conversation, before the last question. */
static void mistral3_system(struct lr_tmpl *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->turn[i].role == LR_ROLE_SYSTEM) {
            say(c, c->turn[i].text);
            put(c, "\n\n");
        }
}

static void mistral_question(struct lr_tmpl *c, size_t i, bool last, const char *gap)
{
    if (last && c->tools)
        mistral_tools(c, gap);
    put(c, LR_CTL("[INST]"));
    put(c, gap);
    if (last && c->t->family == LR_ENGINE_MISTRAL3)
        mistral3_system(c);
    say(c, c->turn[i].text);
    put(c, LR_CTL("[/INST]"));
}

static void render_mistral3(struct lr_tmpl *c)
{
    size_t last = last_user(c);
    const char *gap = c->t->spaced ? " " : "";
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        const struct lr_tmpl_turn *t = &c->turn[i];
        if (t->role == LR_ROLE_USER) {
            mistral_question(c, i, i == last, gap);
        } else if (t->role == LR_ROLE_SYSTEM && c->t->family == LR_ENGINE_MISTRAL7) {
            put(c, LR_CTL("[SYSTEM_PROMPT]"));
            put(c, gap);
            say(c, t->text);
            put(c, LR_CTL("[/SYSTEM_PROMPT]"));
        } else if (t->role == LR_ROLE_SYSTEM && last == SIZE_MAX && i + 1 == c->n) {
            mistral_question(c, i, false, gap);
        } else if (t->role == LR_ROLE_TOOL) {
            mistral_result(c, t, gap);
        } else if (t->calls) {
            mistral_calls(c, t, gap);
        } else if (t->role == LR_ROLE_ASSISTANT) {
            put(c, gap);
            say(c, c->t->spaced && c->t->family == LR_ENGINE_MISTRAL3 ? lr_str_trim(t->text)
                                                                      : t->text);
            put(c, LR_EOS);
        }
    }
}

/* ---- the others ---- */

static void render_gemma(struct lr_tmpl *c)
{
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        bool ask = asks(c, i);
        if (!ask && c->turn[i].role == LR_ROLE_SYSTEM)
            continue;
        put(c, LR_CTL("<start_of_turn>"));
        put(c, ask ? "user\n" : "model\n");
        if (ask)
            say_waiting(c, i, "\n\n");
        say(c, lr_str_trim(c->turn[i].text));
        put(c, LR_CTL("<end_of_turn>") "\n");
    }
    if (c->prompt)
        put(c, LR_CTL("<start_of_turn>") "model\n");
}

/* Phi-3 and Zephyr: <|role|>, a line break, text, an end, a line break. */
static void render_roles(struct lr_tmpl *c)
{
    static const char *const heads[] = {
        [LR_ROLE_SYSTEM] = LR_CTL("<|system|>") "\n",
        [LR_ROLE_USER] = LR_CTL("<|user|>") "\n",
        [LR_ROLE_ASSISTANT] = LR_CTL("<|assistant|>") "\n",
    };
    const char *end = c->t->family == LR_ENGINE_PHI3 ? LR_CTL("<|end|>") "\n" : LR_EOS "\n";
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        put(c, heads[c->turn[i].role]);
        say(c, c->turn[i].text);
        put(c, end);
    }
    if (c->prompt)
        put(c, heads[LR_ROLE_ASSISTANT]);
}

static void render_deepseek2(struct lr_tmpl *c)
{
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        bool answer = c->turn[i].role == LR_ROLE_ASSISTANT;
        put(c, answer ? "Assistant: " : c->turn[i].role == LR_ROLE_USER ? "User: " : "");
        say(c, c->turn[i].text);
        put(c, answer ? LR_EOS : "\n\n");
    }
    if (c->prompt)
        put(c, "Assistant:");
}

static void deepseek_calls(struct lr_tmpl *c, const struct lr_tmpl_turn *t)
{
    bool more = false;
    put(c, LR_CTL("<｜Assistant｜>"));
    say(c, t->text);
    put(c, LR_CTL("<｜tool▁calls▁begin｜>"));
    for (const struct lr_part *p = t->calls; (p = next_call(p)); p = p->next) {
        put(c, more ? "\n" : "");
        more = true;
        put(c, LR_CTL("<｜tool▁call▁begin｜>") "function" LR_CTL("<｜tool▁sep｜>"));
        say(c, p->name);
        put(c, "\n```json\n");
        say(c, p->text);
        put(c, "\n```" LR_CTL("<｜tool▁call▁end｜>"));
    }
    put(c, LR_CTL("<｜tool▁calls▁end｜>") LR_EOS);
}

static void deepseek_result(struct lr_tmpl *c, size_t i)
{
    bool first = !i || c->turn[i - 1].role != LR_ROLE_TOOL;
    put(c, first ? LR_CTL("<｜tool▁outputs▁begin｜>") : "\n");
    put(c, LR_CTL("<｜tool▁output▁begin｜>"));
    say(c, c->turn[i].text);
    put(c, LR_CTL("<｜tool▁output▁end｜>"));
}

static void deepseek_answer(struct lr_tmpl *c, size_t i, bool after_results)
{
    struct lr_str think;
    if (after_results) {
        put(c, LR_CTL("<｜tool▁outputs▁end｜>"));
        say(c, c->turn[i].text);
    } else {
        put(c, LR_CTL("<｜Assistant｜>"));
        say(c, c->t->think ? split_think(c->turn[i].text, &think) : c->turn[i].text);
    }
    put(c, LR_EOS);
}

static void render_deepseek3(struct lr_tmpl *c)
{
    bool results = false;
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        const struct lr_tmpl_turn *t = &c->turn[i];
        if (t->role == LR_ROLE_SYSTEM) {
            say(c, t->text);
        } else if (t->role == LR_ROLE_USER) {
            put(c, LR_CTL("<｜User｜>"));
            say(c, t->text);
        } else if (t->role == LR_ROLE_TOOL) {
            deepseek_result(c, i);
        } else if (t->calls) {
            deepseek_calls(c, t);
        } else if (t->role == LR_ROLE_ASSISTANT) {
            deepseek_answer(c, i, results);
        }
        results = t->role == LR_ROLE_TOOL;
    }
    if (c->prompt && results)
        put(c, LR_CTL("<｜tool▁outputs▁end｜>"));
    else if (c->prompt)
        put(c, c->t->think_open ? LR_CTL("<｜Assistant｜>") LR_CTL("<think>") "\n"
                                : LR_CTL("<｜Assistant｜>"));
}

/* Ours: each turn is a piece of its own. */
static void render_plain(struct lr_tmpl *c)
{
    begin(c);
    for (size_t i = 0; i < c->n; i++) {
        put(c, c->turn[i].role == LR_ROLE_USER        ? "User: "
               : c->turn[i].role == LR_ROLE_ASSISTANT ? "Assistant: "
                                                      : "");
        say(c, c->turn[i].text);
        put(c, "\n\n");
        lr_tmpl_cut(c);
    }
    if (c->prompt)
        put(c, "Assistant:");
}

void lr_tmpl_family(struct lr_tmpl *c)
{
    static void (*const render[LR_ENGINE_FAMILIES])(struct lr_tmpl *) = {
        [LR_ENGINE_PLAIN] = render_plain,         [LR_ENGINE_CHATML] = render_chatml,
        [LR_ENGINE_QWEN25] = render_chatml,       [LR_ENGINE_QWEN3] = render_chatml,
        [LR_ENGINE_LLAMA2] = render_llama2,       [LR_ENGINE_LLAMA3] = render_llama3,
        [LR_ENGINE_LLAMA31] = render_llama3,      [LR_ENGINE_MISTRAL1] = render_mistral1,
        [LR_ENGINE_MISTRAL3] = render_mistral3,   [LR_ENGINE_MISTRAL7] = render_mistral3,
        [LR_ENGINE_GEMMA] = render_gemma,         [LR_ENGINE_PHI3] = render_roles,
        [LR_ENGINE_ZEPHYR] = render_roles,        [LR_ENGINE_DEEPSEEK2] = render_deepseek2,
        [LR_ENGINE_DEEPSEEK3] = render_deepseek3, [LR_ENGINE_DEEPSEEK_R1] = render_deepseek3,
    };
    render[c->t->family](c);
}
