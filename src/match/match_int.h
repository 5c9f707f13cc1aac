/* SPDX-License-Identifier: Apache-2.0
 * match/match_int.h - for match/ itself: texts cut into words.
 */
#ifndef LR_MATCH_MATCH_INT_H
#define LR_MATCH_MATCH_INT_H

#include "match/match.h"
#include "nn/nn.h"

/* ---- cut.c: a text as tokens ---- */

#define LR_CUT_TOKENS 1024u
#define LR_CUT_FOLDED (2 * LR_FACTS_TEXT_MAX)

enum lr_token_kind {
    LR_TOKEN_WORD,   /* letters; apostrophes' endings taken off */
    LR_TOKEN_NUMBER, /* digits, with points, commas, colons and slashes between them */
    LR_TOKEN_CODE,
    LR_TOKEN_QUOTE,
    LR_TOKEN_SIGN,   /* %, $ ... as the word of their unit */
    LR_TOKEN_NOT     /* n't of what stands before it */
};
struct lr_token {
    struct lr_str text; /* folded to small letters; code as it stands where capitals count */
    uint8_t kind;
    bool capital; /* the first letter, or one behind a small one */
    bool begins;  /* a sentence */
    bool glued;   /* to the token before, without a blank: 5km, 2FA */
};
struct lr_cut {
    struct lr_token token[LR_CUT_TOKENS];
    size_t n;
    size_t letters[16]; /* by script */
    size_t used;
    char folded[LR_CUT_FOLDED];
};
/* LR_EOVER: too long, or too many tokens. */
int lr_cut(struct lr_str text, struct lr_cut *out);
/* The script of a letter, 1..15; 0: none. */
unsigned lr_cut_script(uint32_t c);

#endif
