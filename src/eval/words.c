/* SPDX-License-Identifier: Apache-2.0
 * eval/words.c - the words of the recall tasks, texts to tokens with byte ends, and right or wrong.
 *
 * Token ends. Questions must not leak into what a policy may see before they are put, whatever the
 * tokeniser does at the border (".\n" is one token in some vocabularies). So the whole sample is
 * encoded once, as the model was trained to see it, and cut by bytes: a token belongs to the body
 * only if its last byte does. For that every token's bytes must add up to the text: checked, not
 * assumed.
 */
#include "eval/eval_int.h"

static const char *const names[LR_EVAL_TASKS] = {
    [LR_EVAL_SINGLE] = "single",
    [LR_EVAL_MULTI_KEY] = "multi-key",
    [LR_EVAL_MULTI_QUERY] = "multi-query",
    [LR_EVAL_VARIABLE] = "variable",
    [LR_EVAL_COPY] = "copy",
    [LR_EVAL_TURNS] = "turns",
    [LR_EVAL_NEEDLE] = "needle",
    [LR_EVAL_OWN] = "own",
    [LR_EVAL_RECENT] = "recent",
    [LR_EVAL_ABSENT] = "absent",
};

const char *lr_eval_task_name(enum lr_eval_task t)
{
    return names[t];
}

int lr_eval_task_find(struct lr_str name, enum lr_eval_task *out)
{
    for (int i = 0; i < LR_EVAL_TASKS; i++)
        if (lr_str_is(name, names[i])) {
            *out = (enum lr_eval_task)i;
            return 0;
        }
    return LR_ENOENT;
}

/* ---- the lists ---- */

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool known(const struct lr_str *list, size_t n, struct lr_str w)
{
    for (size_t i = 0; i < n; i++)
        if (lr_str_eq(list[i], w))
            return true;
    return false;
}

int lr_eval_words_read(struct lr_str text, struct lr_eval_words *out)
{
    struct lr_str *const list[] = {out->key, out->value, out->filler};
    static const char *const heads[] = {"keys:", "values:", "filler:"};
    size_t n[3] = {0}, at = 3;
    for (struct lr_str rest = text; rest.p;) {
        struct lr_str line = lr_str_trim(lr_str_cut(&rest, '\n'));
        if (!line.n || line.p[0] == '#')
            continue;
        for (size_t k = 0; k < 3; k++)
            if (lr_str_is(line, heads[k])) {
                at = k;
                line.n = 0;
            }
        for (struct lr_str words = line; line.n && words.p;) {
            struct lr_str w = lr_str_cut(&words, ' ');
            if (!w.n)
                continue;
            LR_FAIL_IF(at == 3 || n[at] == LR_EVAL_WORDS, LR_EPARSE);
            for (size_t k = 0; k < 3; k++)
                LR_FAIL_IF(known(list[k], n[k], w), LR_EPARSE);
            list[at][n[at]++] = w;
        }
    }
    for (size_t k = 0; k < 3; k++)
        LR_FAIL_IF(n[k] != LR_EVAL_WORDS, LR_EPARSE);
    return 0;
}

/* ---- tokens ---- */

static int append(const struct lr_nn_tok *tok, struct lr_str text, struct lr_nn_ids *ids,
                  struct lr_nn_ids *ends, size_t *bytes, struct lr_err *err)
{
    size_t from = ids->n, sum = 0;
    LR_TRY(lr_nn_tok_encode(tok, text, 0, ids, err));
    for (size_t i = from; i < ids->n; i++) {
        sum += lr_nn_tok_bytes(tok, ids->id[i]).n;
        if (ends)
            LR_TRY(lr_nn_ids_add(ends, (uint32_t)sum));
    }
    *bytes = sum;
    return 0;
}

int lr_eval_coder_init(struct lr_eval_coder *c, const struct lr_nn_tok *tok, struct lr_err *err)
{
    struct lr_nn_ids ids;
    size_t bytes = 0;
    lr_nn_ids_init(&ids, 64);
    int rc = append(tok, LR_STR("a b."), &ids, NULL, &bytes, err);
    lr_nn_ids_free(&ids);
    LR_TRY(rc);
    if (bytes != 4 && bytes != 5)
        return lr_err_set(err, LR_EUNSUPPORTED, "tokeniser",
                          "its tokens do not give their text back");
    *c = (struct lr_eval_coder){tok, bytes == 5};
    return 0;
}

int lr_eval_encode(const struct lr_eval_coder *c, struct lr_str text, struct lr_nn_ids *ids,
                   struct lr_nn_ids *ends, struct lr_err *err)
{
    bool drop = c->blank && text.n && text.p[0] == ' ';
    size_t bytes = 0, before = ends ? ends->n : 0;
    struct lr_str given = drop ? lr_str(text.p + 1, text.n - 1) : text;
    LR_TRY(append(c->tok, given, ids, ends, &bytes, err));
    size_t extra = c->blank && !drop && text.n; /* the blank that we did not write */
    if (ends && text.n && bytes != text.n + extra)
        return lr_err_set(err, LR_EUNSUPPORTED, "tokeniser",
                          "%zu bytes of text became tokens of %zu", text.n, bytes);
    for (size_t i = before; ends && extra && i < ends->n; i++)
        ends->id[i] -= ends->id[i] > 0;
    return 0;
}

/* ---- right or wrong ---- */

/* The next word of *rest, up to the first character that is neither letter nor blank; {NULL, 0}:
 * none. */
static struct lr_str next_word(struct lr_str *rest)
{
    while (rest->n && rest->p[0] == ' ')
        *rest = lr_str(rest->p + 1, rest->n - 1);
    size_t n = 0;
    while (n < rest->n && letter(rest->p[n]))
        n++;
    struct lr_str w = {n ? rest->p : NULL, n};
    *rest = lr_str(rest->p + n, rest->n - n);
    return w;
}

uint32_t lr_eval_words_done(struct lr_str reply, bool *over)
{
    uint32_t done = 0;
    *over = false;
    while (next_word(&reply).n)
        done += reply.n > 0; /* something follows it */
    *over = reply.n > 0;     /* what follows is neither letter nor blank */
    return done;
}

static bool contains(struct lr_str text, struct lr_str part)
{
    return part.n && text.n >= part.n && memmem(text.p, text.n, part.p, part.n);
}

double lr_eval_score(enum lr_eval_task task, const struct lr_eval_sample *s,
                     const struct lr_eval_turn *t, struct lr_str reply)
{
    if (task == LR_EVAL_OWN) {
        for (uint32_t i = 0; i < s->n_answers; i++)
            if (contains(reply, s->answers[i]))
                return 1;
        return 0;
    }
    struct lr_str right = t->text;
    uint32_t good = 0;
    while (good < t->n_words && lr_str_eq(next_word(&right), next_word(&reply)))
        good++;
    return task == LR_EVAL_COPY ? (double)good / (double)t->n_words : good == t->n_words;
}
