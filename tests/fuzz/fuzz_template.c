/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_template.c - a chat template of any file, a request of any client, a reply of any model.
 *
 * The input is three texts with NUL bytes between them. Templates are matched or refused with a reason;
 * requests are rendered or refused with a reason; user text never becomes a control token; a reply gives
 * the same events however it is cut. A JSON schema in the request is compiled, and what its grammar
 * takes of the reply is well-formed as far as it goes.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define CONTROLS 4

/* 256 bytes, then control tokens. */
static struct lr_nn_tok *make_tok(void)
{
    static char names[256][8];
    struct lr_str tokens[256 + CONTROLS] = {[256] = LR_STR("<s>"), LR_STR("</s>"),
                                            LR_STR("<|im_start|>"), LR_STR("<|im_end|>")};
    static float scores[256 + CONTROLS];
    int32_t types[256 + CONTROLS];
    struct lr_nn_tok *t = NULL;
    for (unsigned i = 0; i < 256 + CONTROLS; i++) {
        types[i] = i < 256 ? LR_NN_TOKEN_BYTE : LR_NN_TOKEN_CONTROL;
        if (i >= 256)
            continue;
        snprintf(names[i], sizeof names[i], "<0x%02X>", i);
        tokens[i] = lr_strz(names[i]);
    }
    struct lr_nn_vocab v = {.kind = LR_NN_SPM, .n = 256 + CONTROLS, .tokens = tokens,
                            .scores = scores, .types = types,
                            .roles = {256, 257, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN,
                                      LR_NN_NO_TOKEN, LR_NN_NO_TOKEN, LR_NN_NO_TOKEN}};
    MUST(lr_nn_tok_new(&t, &v, NULL) == 0);
    return t;
}

struct parts {
    struct lr_buf b;
    bool open;
};

static int note(void *ctx, const struct lr_event *ev)
{
    struct parts *l = ctx;
    MUST((ev->type == LR_EV_PART) == !l->open);
    l->open = ev->type != LR_EV_PART_END;
    if (ev->type == LR_EV_PART)
        lr_buf_addf(&l->b, "\n[%u %u %.*s] ", ev->part, ev->sub, LR_FMT(ev->b));
    else
        lr_buf_adds(&l->b, ev->a);
    return 0;
}

static void reply(const struct lr_engine_template *t, struct lr_str text, size_t piece,
                  struct parts *out)
{
    struct lr_engine_reply *r;
    unsigned calls;
    struct lr_engine_reply_opts o = {.tmpl = t, .tools = true, .fn = note, .ctx = out};
    MUST(lr_engine_reply_open(&r, &o) == 0);
    for (size_t at = 0; at < text.n; at += piece)
        MUST(lr_engine_reply_feed(
                 r, lr_str(text.p + at, piece < text.n - at ? piece : text.n - at)) == 0);
    MUST(lr_engine_reply_end(r, &calls) == 0);
    MUST(!out->open);
    lr_engine_reply_close(r);
}

static void check_reply(const struct lr_engine_template *t, struct lr_str text)
{
    struct parts whole = {.open = false}, cut = {.open = false};
    lr_buf_init(&whole.b, LR_MIB(64));
    lr_buf_init(&cut.b, LR_MIB(64));
    reply(t, text, text.n + 1, &whole);
    reply(t, text, 1, &cut);
    MUST(lr_str_eq(lr_buf_str(&whole.b), lr_buf_str(&cut.b)));
    lr_buf_free(&whole.b);
    lr_buf_free(&cut.b);
}

static void check_schema(struct lr_arena *a, const struct lr_request *q, struct lr_str text)
{
    struct lr_engine_grammar *g;
    struct lr_engine_parse *p;
    struct lr_json *v;
    struct lr_err err = {0};
    size_t n = 0;
    if (!q->format_schema)
        return;
    int rc = lr_engine_grammar_schema(&g, q->format_schema, &err);
    MUST(rc == 0 || err.msg[0]);
    if (rc)
        return;
    MUST(lr_engine_parse_open(&p, g) == 0);
    while (n < text.n && lr_engine_parse_feed(p, lr_str(text.p + n, 1)) == 0)
        n++;
    if (lr_engine_parse_complete(p))
        MUST(lr_json_parse(a, lr_str(text.p, n), NULL, &v, NULL) == 0);
    lr_engine_parse_close(p);
    lr_engine_grammar_close(g);
}

static void check_render(const struct lr_nn_tok *tok, const struct lr_engine_template *t,
                         const struct lr_request *q)
{
    struct lr_engine_render r = {.request = q};
    struct lr_nn_ids ids;
    struct lr_buf text;
    struct lr_err err = {0};
    lr_nn_ids_init(&ids, 1 << 22);
    lr_buf_init(&text, LR_MIB(32));
    int rc = lr_engine_template_render(t, tok, &r, &ids, &err);
    MUST(rc == 0 || (err.msg[0] && ids.n == 0));
    MUST(lr_engine_template_text(t, tok, &r, &text, NULL) == rc || rc == LR_EOVER ||
         rc == LR_EINVAL);
    for (size_t i = 0; i < ids.n; i++)
        MUST(ids.id[i] < lr_nn_tok_size(tok));
    lr_nn_ids_free(&ids);
    lr_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lr_nn_tok *tok;
    struct lr_str rest = lr_str(data, size);
    struct lr_engine_template t;
    struct lr_request *q;
    struct lr_arena a;
    struct lr_err err = {0};
    tok = tok ? tok : make_tok();
    if (size > 65536 || !size)
        return 0;
    struct lr_str text = lr_str_cut(&rest, 0), body = lr_str(NULL, 0);
    if (rest.p)
        body = lr_str_cut(&rest, 0);
    int rc = lr_engine_template_match(text, &t, &err);
    MUST(rc == 0 || (rc == LR_EUNSUPPORTED && err.msg[0]));
    if (rc)
        return 0;
    if (rest.p && lr_utf8_check(rest, NULL) == 0)
        check_reply(&t, rest);
    lr_arena_init(&a, LR_MIB(64));
    if (!lr_request_parse(&a, LR_DIALECT_CHAT, body, &q, NULL)) {
        check_render(tok, &t, q);
        check_schema(&a, q, rest);
    }
    lr_arena_free(&a);
    return 0;
}
