/* SPDX-License-Identifier: Apache-2.0
 * engine/sched_choice.c - one reply: logits to a token, the token to text, the text to events.
 *
 *   logits -> [grammar's mask] -> sampler -> token -+-> end of generation ------------------+
 *                                                   +-> decoder -> stop strings -> reply    |
 *                                                         |            |             |      v
 *                                                     held back:   held back:   PART DELTA  FINISH
 *                                                     half a       a stop       PART_END
 *                                                     character    begun
 *
 * Each stage holds back what it cannot tell yet; at the end each gives up what it held, in order. So what
 * is told is whole characters, no stop string, and no half of a tool call.
 *
 * A bare continuation (COMPLETION) takes the same way with a template that has neither reasoning nor tool
 * calls. Blanks before the first word of a PLAIN reply are the format's ("Assistant: ..").
 *
 * Log probabilities are told before the text they belong to, token by token: OpenAI's objects, with the
 * token's text as it stands alone. -9999 stands for a probability of zero, as there.
 */
#include "engine/sched_int.h"

#define TEXT_MAX LR_MIB(1) /* of one step of one reply: a token, and what was held back */

struct voice {
    struct lr_engine_sampler *sampler;
    struct lr_engine_parse *parse; /* NULL: no grammar */
    struct lr_engine_stopper *stopper;
    struct lr_engine_reply *reply;
    struct lr_nn_decoder decoder;
    struct lr_buf text, shown, json;
    bool trim;       /* still before the first word */
    uint64_t offset; /* COMPLETION: characters so far, for its log probabilities */
};

/* Events of a reply; a full log pauses the job, not the reply in the middle of a token. */
static int tell(void *ctx, const struct lr_event *ev)
{
    struct lr_engine_job *j = ((struct choice *)ctx)->job;
    unsigned before = atomic_load(&j->resumes);
    int rc = j->ask.event(j->ask.ctx, ev);
    if (rc != LR_EBUSY)
        return rc;
    j->paused = true;
    j->paused_at = before;
    return 0;
}

/* ---- life ---- */

static int open_stopper(const struct lr_engine_sched *s, const struct lr_engine_ask *a,
                        struct lr_engine_stopper **out)
{
    struct lr_str all[LR_ENGINE_STOPS_MAX];
    size_t n = 0;
    for (; n < a->n_stops; n++)
        all[n] = a->stops[n];
    for (size_t i = 0; a->kind == LR_KIND_CHAT && i < s->stops.n_text; i++)
        all[n++] = s->stops.text[i];
    return lr_engine_stopper_open(out, all, n);
}

static int open_reply(const struct lr_engine_sched *s, struct choice *c,
                      struct lr_engine_reply **out)
{
    static const struct lr_engine_template bare = {.family = LR_ENGINE_PLAIN};
    const struct lr_engine_ask *a = &c->job->ask;
    bool chat = a->kind == LR_KIND_CHAT;
    struct lr_engine_reply_opts o = {.tmpl = chat ? s->o.tmpl : &bare,
                                     .tools = chat && a->tools,
                                     .no_think = a->no_think,
                                     .choice = (uint16_t)c->number,
                                     .fn = tell,
                                     .ctx = c};
    memcpy(o.id, a->id, sizeof o.id);
    return lr_engine_reply_open(out, &o);
}

static int fill(struct lr_engine_sched *s, struct choice *c, struct voice *v)
{
    const struct lr_engine_ask *a = &c->job->ask;
    struct lr_engine_sampling how = a->sampling;
    how.seed ^= c->number * 0x9E3779B97F4A7C15u; /* choice 0 of prompt 0 has the seed as it came */
    LR_TRY(lr_engine_sampler_open(&v->sampler, &how, s->e->m->shape.n_vocab));
    LR_TRY(lr_engine_sampler_see(v->sampler, c->prompt, c->n_prompt));
    if (a->grammar)
        LR_TRY(lr_engine_parse_open(&v->parse, a->grammar));
    LR_TRY(open_stopper(s, a, &v->stopper));
    LR_TRY(open_reply(s, c, &v->reply));
    bool chat = a->kind == LR_KIND_CHAT;
    lr_nn_decoder_init(&v->decoder, s->o.tok, chat, chat && a->tools);
    v->trim = chat && s->o.tmpl->family == LR_ENGINE_PLAIN;
    return 0;
}

int lr_engine_choice_begin(struct lr_engine_sched *s, struct choice *c)
{
    if (c->job->ask.kind == LR_KIND_EMBEDDING) {
        c->sum = lr_calloc(s->e->m->shape.n_embd, sizeof *c->sum);
        return c->sum ? 0 : LR_ENOMEM;
    }
    c->voice = lr_new(struct voice);
    LR_FAIL_IF(!c->voice, LR_ENOMEM);
    lr_buf_init(&c->voice->text, TEXT_MAX);
    lr_buf_init(&c->voice->shown, TEXT_MAX);
    lr_buf_init(&c->voice->json, TEXT_MAX);
    return fill(s, c, c->voice);
}

void lr_engine_choice_free(struct choice *c)
{
    struct voice *v = c->voice;
    lr_free(c->sum);
    lr_free(c->reply);
    lr_reuse_chain_free(&c->chain);
    c->sum = NULL;
    c->reply = NULL;
    c->voice = NULL;
    if (!v)
        return;
    lr_engine_sampler_close(v->sampler);
    lr_engine_parse_close(v->parse);
    lr_engine_stopper_close(v->stopper);
    lr_engine_reply_close(v->reply);
    lr_buf_free(&v->text);
    lr_buf_free(&v->shown);
    lr_buf_free(&v->json);
    lr_free(v);
}

/* ---- log probabilities ---- */

/* A token as text of its own: what is no character becomes U+FFFD. */
static int spell(const struct lr_nn_tok *tok, uint32_t id, struct lr_buf *out)
{
    struct lr_nn_decoder d;
    lr_nn_decoder_init(&d, tok, false, true);
    lr_buf_reset(out);
    LR_TRY(lr_nn_decoder_add(&d, id, out));
    return lr_nn_decoder_end(&d, out);
}

static double shown_logprob(float v)
{
    return v > -9999.0f ? (double)v : -9999.0; /* also what is no number */
}

static int write_token(struct lr_jw *w, const struct lr_nn_tok *tok, struct voice *v, uint32_t id,
                       float logprob)
{
    struct lr_str bytes = lr_nn_tok_bytes(tok, id);
    LR_TRY(spell(tok, id, &v->text));
    lr_jw_key(w, "token");
    lr_jw_str(w, lr_buf_str(&v->text));
    lr_jw_key(w, "logprob");
    lr_jw_real(w, shown_logprob(logprob));
    lr_jw_key(w, "bytes");
    lr_jw_arr(w);
    for (size_t i = 0; i < bytes.n; i++)
        lr_jw_u64(w, (unsigned char)bytes.p[i]);
    lr_jw_end(w);
    return 0;
}

static int write_chat(struct lr_jw *w, const struct lr_nn_tok *tok, struct voice *v,
                      const struct lr_engine_pick *p)
{
    lr_jw_arr(w);
    lr_jw_obj(w);
    LR_TRY(write_token(w, tok, v, p->id, p->logprob));
    lr_jw_key(w, "top_logprobs");
    lr_jw_arr(w);
    for (uint32_t i = 0; i < p->n_top; i++) {
        lr_jw_obj(w);
        LR_TRY(write_token(w, tok, v, p->top[i].id, p->top[i].logprob));
        lr_jw_end(w);
    }
    lr_jw_end(w);
    lr_jw_end(w);
    lr_jw_end(w);
    return 0;
}

static uint64_t characters(struct lr_str s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

/* Completions: parallel lists. Of several tokens with one spelling the likeliest is shown: an object has
 * a name once. */
static int write_completion(struct lr_jw *w, const struct lr_nn_tok *tok, struct voice *v,
                            const struct lr_engine_pick *p)
{
    struct lr_str shown[LR_ENGINE_TOP_MAX];
    LR_TRY(spell(tok, p->id, &v->text));
    lr_jw_obj(w);
    lr_jw_key(w, "tokens");
    lr_jw_arr(w);
    lr_jw_str(w, lr_buf_str(&v->text));
    lr_jw_end(w);
    lr_jw_key(w, "token_logprobs");
    lr_jw_arr(w);
    lr_jw_real(w, shown_logprob(p->logprob));
    lr_jw_end(w);
    lr_jw_key(w, "text_offset");
    lr_jw_arr(w);
    lr_jw_u64(w, v->offset);
    lr_jw_end(w);
    v->offset += characters(lr_buf_str(&v->text));
    lr_jw_key(w, "top_logprobs");
    lr_jw_arr(w);
    lr_jw_obj(w);
    for (uint32_t i = 0; i < p->n_top; i++) {
        bool twice = false;
        shown[i] = lr_nn_tok_bytes(tok, p->top[i].id);
        for (uint32_t k = 0; k < i; k++)
            twice |= lr_str_eq(shown[k], shown[i]);
        LR_TRY(spell(tok, p->top[i].id, &v->text));
        twice |= memmem(v->text.p, v->text.len, "\xEF\xBF\xBD", 3) != NULL && i > 0;
        if (twice)
            continue;
        lr_jw_key_str(w, lr_buf_str(&v->text));
        lr_jw_real(w, shown_logprob(p->top[i].logprob));
    }
    lr_jw_end(w);
    lr_jw_end(w);
    lr_jw_end(w);
    return 0;
}

static int tell_logprobs(struct lr_engine_sched *s, struct choice *c,
                         const struct lr_engine_pick *p)
{
    struct voice *v = c->voice;
    struct lr_jw w;
    if (!c->job->ask.sampling.logprobs)
        return 0;
    lr_buf_reset(&v->json);
    lr_jw_init(&w, &v->json);
    LR_TRY(c->job->ask.kind == LR_KIND_CHAT ? write_chat(&w, s->o.tok, v, p)
                                            : write_completion(&w, s->o.tok, v, p));
    LR_TRY(v->json.rc);
    struct lr_event ev = {.type = LR_EV_LOGPROBS,
                          .choice = (uint16_t)c->number,
                          .a = lr_buf_str(&v->json)};
    return tell(c, &ev);
}

/* ---- text ---- */

static int tell_shown(struct voice *v)
{
    struct lr_str t = lr_buf_str(&v->shown);
    while (v->trim && t.n && (*t.p == ' ' || *t.p == '\n'))
        t = lr_str(t.p + 1, t.n - 1);
    v->trim = v->trim && !t.n;
    return t.n ? lr_engine_reply_feed(v->reply, t) : 0;
}

/* What is in v->text goes on. last: so does what was held back. */
static int pass_on(struct voice *v, bool last, int *hit)
{
    lr_buf_reset(&v->shown);
    LR_TRY(lr_engine_stopper_feed(v->stopper, lr_buf_str(&v->text), &v->shown, hit));
    if (last && *hit < 0)
        LR_TRY(lr_engine_stopper_end(v->stopper, &v->shown));
    return tell_shown(v);
}

static int finish(struct choice *c, int hit, enum lr_finish why)
{
    struct voice *v = c->voice;
    const struct lr_engine_ask *a = &c->job->ask;
    unsigned calls = 0;
    if (hit < 0) {
        lr_buf_reset(&v->text);
        LR_TRY(lr_nn_decoder_end(&v->decoder, &v->text));
        LR_TRY(pass_on(v, true, &hit));
    }
    LR_TRY(lr_engine_reply_end(v->reply, &calls));
    struct lr_event ev = {.type = LR_EV_FINISH, .choice = (uint16_t)c->number};
    if (hit >= 0 && (size_t)hit < a->n_stops)
        ev.a = a->stops[hit];
    ev.sub = (uint8_t)(hit >= 0 ? (ev.a.n ? LR_FINISH_STOP_SEQUENCE : LR_FINISH_STOP) : why);
    if (calls && ev.sub == LR_FINISH_STOP)
        ev.sub = LR_FINISH_TOOL;
    return tell(c, &ev);
}

static bool ends(const struct lr_engine_sched *s, uint32_t id)
{
    bool end = lr_nn_tok_ends(s->o.tok, id);
    for (size_t i = 0; i < s->stops.n_id; i++)
        end |= s->stops.id[i] == id;
    return end;
}

static int remember(struct choice *c, uint32_t id)
{
    if (c->n_reply == c->cap_reply) {
        uint32_t cap = c->cap_reply ? 2 * c->cap_reply : 64;
        uint32_t *p = lr_realloc(c->reply, cap * sizeof *p);
        LR_FAIL_IF(!p, LR_ENOMEM);
        c->reply = p;
        c->cap_reply = cap;
    }
    c->reply[c->n_reply++] = id;
    return 0;
}

int lr_engine_choice_take(struct lr_engine_sched *s, struct choice *c, const float *logits,
                          bool *end)
{
    struct voice *v = c->voice;
    struct lr_engine_pick pick;
    int hit = -1;
    if (v->parse)
        LR_TRY(lr_engine_parse_mask(v->parse, s->o.lexicon, s->mask));
    LR_TRY(lr_engine_sampler_pick(v->sampler, logits, v->parse ? s->mask : NULL, &pick));
    LR_TRY(remember(c, pick.id));
    bool stop = ends(s, pick.id);
    if (!stop) {
        if (v->parse)
            LR_TRY(lr_engine_parse_token(v->parse, s->o.lexicon, pick.id));
        LR_TRY(tell_logprobs(s, c, &pick));
        lr_buf_reset(&v->text);
        LR_TRY(lr_nn_decoder_add(&v->decoder, pick.id, &v->text));
        LR_TRY(pass_on(v, false, &hit));
        stop = v->parse && lr_engine_parse_closed(v->parse);
    }
    *end = stop || hit >= 0 || c->n_reply == c->max_reply;
    return *end ? finish(c, hit, stop ? LR_FINISH_STOP : LR_FINISH_LENGTH) : 0;
}
