/* SPDX-License-Identifier: Apache-2.0
 * engine/template_int.h - what template.c and template_family.c share: a conversation as turns, and the
 * script it is rendered to.
 */
#ifndef LR_ENGINE_TEMPLATE_INT_H
#define LR_ENGINE_TEMPLATE_INT_H

#include "engine/engine.h"

#define LR_TMPL_TEXT_MAX  LR_MIB(16)   /* bytes of a rendered prompt */
#define LR_TMPL_MARKS_MAX LR_MIB(32)   /* bytes of its marks */
#define LR_TMPL_ARENA_MAX LR_MIB(64)

/* One turn. A message of tool results becomes one turn for each result. */
struct lr_tmpl_turn {
    enum lr_role role; /* SYSTEM, USER, ASSISTANT or TOOL */
    struct lr_str text, think;
    const struct lr_part *calls; /* ASSISTANT: parts from the first call on; NULL: none */
    struct lr_str id;            /* TOOL */
};

/* Trusted text uses bytes 1 to 3: LR_CTL marks a control token, LR_BOS and LR_EOS the tokens in these
 * roles. */
#define LR_CTL(z) "\1" z "\1"
#define LR_BOS    "\2"
#define LR_EOS    "\3"

struct lr_tmpl {
    const struct lr_engine_template *t;
    const struct lr_nn_tok *tok; /* may be NULL */
    const struct lr_request *req;
    struct lr_arena arena;
    struct lr_tmpl_turn *turn;
    size_t n;
    bool prompt;         /* ask for the assistant's turn */
    bool tools;          /* render the request's tools */
    struct lr_buf text;  /* everything, control tokens spelled out */
    struct lr_buf marks; /* struct lr_tmpl_mark, ascending */
};

enum lr_tmpl_kind { LR_MARK_CONTROL, LR_MARK_BOS, LR_MARK_EOS, LR_MARK_CUT };
/* text[at, at + n) is a token, or (CUT, n == 0) a place where tokens must not join. */
struct lr_tmpl_mark {
    size_t at, n;
    enum lr_tmpl_kind kind;
};

/* Trusted text, with its marks; and text that is never read as anything else. Errors stick in the
 * buffers. */
void lr_tmpl_put(struct lr_tmpl *c, const char *z);
void lr_tmpl_say(struct lr_tmpl *c, struct lr_str s);
void lr_tmpl_cut(struct lr_tmpl *c);

/* The family's rendering of c->turn. */
void lr_tmpl_family(struct lr_tmpl *c);

#endif
