/* SPDX-License-Identifier: Apache-2.0
 * engine/sched.c - the thread of a model: takes jobs, decides what each step feeds, ends them.
 *
 *   submit > inbox > tenants' queues > begun: choices that wait, run, have ended > done
 *
 *   step     | d d d d d | tile of a prompt ............ | tile of another .... |   at most 512 tokens
 *              replies     chunked prefill: the least served tenant's first
 *
 * Each round of the loop: take what came in; admit; plan a step; run it; pick tokens and tell them; end
 * what is complete. Replies under way get their token in every step; prompts get what is left of the
 * batch, but no more than one tile while somebody waits for a token, so that a long prompt slows replies
 * to the pace of tiles and never stops them (Agrawal et al., Sarathi-Serve, OSDI 2024). No bit of a
 * reply depends on any of this: see engine.h on bits, sampler.c on its stream of draws.
 *
 * Memory. A reply is promised its prompt and LEASE tokens more, and further leases as it grows, not the
 * worst case: a context of 128 k that is never filled would keep everybody else out. When a lease
 * cannot be had, kept conversations go, then the reply that began last is put aside: its rows are
 * dropped, its tokens are not, and it is fed again from them when some other one has ended. The oldest is
 * never put aside for a younger one, so somebody always gets on; alone it cannot fail for room, since
 * the context fits the arena. Swapping rows to memory instead was dropped: rows are in memory already.
 *
 * Under a policy that evicts rows a reply put aside is fed again as it was made, prompt by tiles and
 * reply token by token, so that the policy sees the same; and since its rows are bounded, all its room is
 * promised at once.
 *
 * A reader that is slow pauses its own job: the rows stay, the others go on. Cancelling takes effect
 * between steps. A step that fails for memory has changed nothing: the youngest is put aside and the
 * others try again; the last one left ends with the error.
 *
 * Callbacks run without the lock, which is a leaf and held for moments: a flight's lock is taken in
 * `event`, and `cancel` is called with that lock held.
 */
#include "engine/sched_int.h"

#define LEASE 256u           /* tokens promised beyond what there is */
#define ARENA_MAX LR_MIB(512) /* of a job: prompts and choices */
#define MADE_COST 2u         /* of a token made; one of a prompt costs 1 (sched_queue.c) */

static bool is_text(const struct choice *c)
{
    return c->job->ask.kind == LR_KIND_EMBEDDING;
}

static void over(struct lr_engine_job *j, int rc, const char *where, const char *what)
{
    if (j->over)
        return;
    j->over = true;
    j->rc = rc;
    if (rc)
        lr_err_set(&j->err, rc, where, "%s", what ? what : lr_strerror(rc));
}

static bool is_paused(struct lr_engine_job *j)
{
    j->paused = j->paused && atomic_load(&j->resumes) == j->paused_at;
    return j->paused;
}

/* ---- submitting: any thread ---- */

static int check_prompt(const struct lr_engine_sched *s, const struct lr_engine_ask *a, size_t i,
                        struct lr_err *err)
{
    const struct lr_engine_prompt *p = &a->prompts[i];
    uint32_t vocab = s->e->m->shape.n_vocab, reply = a->kind == LR_KIND_EMBEDDING ? 0 : 1;
    if (!p->n)
        return lr_err_set(err, LR_EINVAL, "prompt", "the prompt is empty");
    if (p->n + reply > s->o.context)
        return lr_err_set(err, LR_EOVER, "prompt",
                          "the prompt has %zu tokens, and the context of this model holds %u%s", p->n,
                          s->o.context, reply ? ", the reply included" : "");
    for (size_t k = 0; k < p->n; k++)
        if (p->id[k] >= vocab)
            return lr_err_set(err, LR_EINVAL, "prompt", "token %u is outside a vocabulary of %u",
                              p->id[k], vocab);
    return 0;
}

static int check_ask(const struct lr_engine_sched *s, const struct lr_engine_ask *a,
                     struct lr_err *err)
{
    size_t n = a->n ? a->n : 1;
    if (!a->n_prompts || a->n_prompts > LR_ENGINE_CHOICES_MAX / n)
        return lr_err_set(err, LR_EINVAL, "n", "%zu prompts with %zu replies each, at most %u in all",
                          a->n_prompts, n, LR_ENGINE_CHOICES_MAX);
    if (a->n_stops > LR_ENGINE_STOPS_MAX - s->stops.n_text)
        return lr_err_set(err, LR_EINVAL, "stop", "%zu stop strings, at most %zu", a->n_stops,
                          LR_ENGINE_STOPS_MAX - s->stops.n_text);
    for (size_t i = 0; i < a->n_stops; i++)
        if (!a->stops[i].n || a->stops[i].n > LR_ENGINE_STOP_MAX)
            return lr_err_set(err, LR_EINVAL, "stop", "a stop string has 1 to %u bytes",
                              LR_ENGINE_STOP_MAX);
    if (a->grammar && !s->o.lexicon)
        return lr_err_set(err, LR_EUNSUPPORTED, "grammar", "no lexicon for constrained replies");
    for (size_t i = 0; i < a->n_prompts; i++)
        LR_TRY(check_prompt(s, a, i, err));
    return 0;
}

static int copy_prompts(struct lr_engine_job *j, const struct lr_engine_ask *a)
{
    struct lr_engine_prompt *p =
        lr_arena_array(&j->memory, struct lr_engine_prompt, a->n_prompts);
    LR_FAIL_IF(!p, LR_ENOMEM);
    for (size_t i = 0; i < a->n_prompts; i++) {
        uint32_t *id = lr_arena_alloc(&j->memory, a->prompts[i].n * sizeof *id, _Alignof(uint32_t));
        LR_FAIL_IF(!id, LR_ENOMEM);
        memcpy(id, a->prompts[i].id, a->prompts[i].n * sizeof *id);
        p[i] = (struct lr_engine_prompt){id, a->prompts[i].n};
    }
    j->ask.prompts = p;
    return 0;
}

static int copy_rest(struct lr_engine_job *j, const struct lr_engine_ask *a)
{
    struct lr_str *stops = lr_arena_array(&j->memory, struct lr_str, a->n_stops + 1);
    struct lr_engine_bias *bias =
        lr_arena_array(&j->memory, struct lr_engine_bias, a->sampling.n_bias + 1);
    LR_FAIL_IF(!stops || !bias, LR_ENOMEM);
    for (size_t i = 0; i < a->n_stops; i++)
        LR_TRY(lr_arena_copy(&j->memory, a->stops[i], &stops[i]));
    if (a->sampling.n_bias)
        memcpy(bias, a->sampling.bias, a->sampling.n_bias * sizeof *bias);
    j->ask.stops = stops;
    j->ask.sampling.bias = bias;
    return 0;
}

static int make_choices(const struct lr_engine_sched *s, struct lr_engine_job *j)
{
    const struct lr_engine_ask *a = &j->ask;
    j->n_choices = (uint32_t)a->n_prompts * a->n;
    j->choices = lr_arena_array(&j->memory, struct choice, j->n_choices);
    LR_FAIL_IF(!j->choices, LR_ENOMEM);
    for (uint32_t i = 0; i < j->n_choices; i++) {
        struct choice *c = &j->choices[i];
        const struct lr_engine_prompt *p = &a->prompts[i / a->n];
        uint32_t left = s->o.context - (uint32_t)p->n;
        *c = (struct choice){.job = j, .number = i, .prompt = p->id, .n_prompt = (uint32_t)p->n};
        c->max_reply = a->max_tokens && a->max_tokens < left ? a->max_tokens : left;
        if (a->kind == LR_KIND_EMBEDDING)
            c->max_reply = 0;
    }
    return 0;
}

static void free_job(struct lr_engine_job *j)
{
    lr_arena_free(&j->memory);
    lr_free(j);
}

static int make_job(const struct lr_engine_sched *s, const struct lr_engine_ask *a,
                    struct lr_engine_job **out)
{
    struct lr_engine_job *j = lr_new(struct lr_engine_job);
    LR_FAIL_IF(!j, LR_ENOMEM);
    lr_arena_init(&j->memory, ARENA_MAX);
    j->ask = *a;
    if (!a->n || a->kind == LR_KIND_EMBEDDING)
        j->ask.n = 1;
    int rc = copy_prompts(j, a);
    rc = rc ? rc : copy_rest(j, a);
    rc = rc ? rc : make_choices(s, j);
    if (rc) {
        free_job(j);
        return rc;
    }
    j->submit_ns = lr_clock_mono_ns();
    *out = j;
    return 0;
}

static void poke_locked(struct lr_engine_sched *s)
{
    s->poked = true;
    pthread_cond_signal(&s->cv);
}

int lr_engine_sched_submit(struct lr_engine_sched *s, const struct lr_engine_ask *ask,
                           struct lr_engine_job **out, struct lr_err *err)
{
    struct lr_engine_job *j = NULL;
    LR_TRY(check_ask(s, ask, err));
    int rc = make_job(s, ask, &j);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "job", "%s", lr_strerror(rc)));
    pthread_mutex_lock(&s->mu);
    if (s->closing || s->stats.failed)
        rc = LR_ECLOSED;
    else if (s->n_waiting == s->o.queue)
        rc = LR_EBUSY;
    if (!rc) {
        *out = j;
        *s->inbox_end = j;
        s->inbox_end = &j->next;
        s->n_waiting++;
        poke_locked(s);
    }
    s->stats.refused += rc != 0;
    pthread_mutex_unlock(&s->mu);
    if (!rc)
        return 0;
    free_job(j);
    return lr_err_set(err, rc, "queue",
                      rc == LR_EBUSY ? "%u requests wait for this model already"
                                     : "this model takes no more requests",
                      s->o.queue);
}

void lr_engine_sched_cancel(struct lr_engine_sched *s, struct lr_engine_job *j)
{
    atomic_store(&j->cancelled, true);
    pthread_mutex_lock(&s->mu);
    s->reap = true;
    poke_locked(s);
    pthread_mutex_unlock(&s->mu);
}

void lr_engine_sched_resume(struct lr_engine_sched *s, struct lr_engine_job *j)
{
    atomic_fetch_add(&j->resumes, 1);
    pthread_mutex_lock(&s->mu);
    poke_locked(s);
    pthread_mutex_unlock(&s->mu);
}

/* ---- choices in the list of those that run ---- */

static void enter(struct lr_engine_sched *s, struct choice *c, uint32_t granted)
{
    c->state = CHOICE_RUNS;
    c->granted = granted;
    c->older = s->youngest;
    c->younger = NULL;
    *(s->youngest ? &s->youngest->younger : &s->oldest) = c;
    s->youngest = c;
    (*(is_text(c) ? &s->n_texts : &s->n_replies))++;
}

static void leave(struct lr_engine_sched *s, struct choice *c)
{
    *(c->older ? &c->older->younger : &s->oldest) = c->younger;
    *(c->younger ? &c->younger->older : &s->youngest) = c->older;
    (*(is_text(c) ? &s->n_texts : &s->n_replies))--;
}

static void close_seq(struct lr_engine_sched *s, struct choice *c)
{
    lr_engine_warm_land(s, c);
    lr_engine_seq_close(c->seq);
    c->seq = NULL;
}

/* Gives its rows up; it is fed again later. */
static void park(struct lr_engine_sched *s, struct choice *c)
{
    leave(s, c);
    close_seq(s, c);
    c->state = CHOICE_WAITS;
    c->parked = s->n_ended;
    if (c->sum)
        memset(c->sum, 0, s->e->m->shape.n_embd * sizeof *c->sum);
    s->done.preempted++;
}

static void end_choice(struct lr_engine_sched *s, struct choice *c)
{
    if (c->state == CHOICE_ENDED)
        return;
    if (c->state == CHOICE_RUNS)
        leave(s, c);
    c->state = CHOICE_ENDED;
    lr_engine_warm_land(s, c);
    if (s->failed) {
        close_seq(s, c);
    } else {
        lr_engine_warm_save(s, c, true);
        lr_engine_keep_add(s, c);
    }
    lr_engine_choice_free(c);
    c->job->n_ended++;
    s->n_ended++;
}

/* ---- ends of jobs ---- */

void lr_engine_job_bill(const struct lr_engine_job *j, struct lr_engine_bill *out)
{
    uint64_t now = lr_clock_mono_ns(), begin = j->begin_ns ? j->begin_ns : now;
    uint64_t first = j->first_ns ? j->first_ns : now;
    struct lr_engine_bill b = {.queue_ns = begin - j->submit_ns,
                               .prefill_ns = first - begin,
                               .decode_ns = now - first};
    for (uint32_t i = 0; i < j->n_choices; i++) {
        const struct choice *c = &j->choices[i];
        bool first_of_prompt = i % j->ask.n == 0;
        b.prompt += first_of_prompt ? c->n_prompt : 0;
        b.cached += first_of_prompt ? c->cached : 0;
        b.reply += c->n_reply;
        for (uint32_t t = 0; first_of_prompt && t < LR_REUSE_TIERS; t++)
            b.warm[t] += c->warm[t];
        b.load_ns += c->load_ns;
        b.saved_ns += c->saved_ns;
    }
    *out = b;
}

/* The job is in no list any more. */
static void finish_job(struct lr_engine_sched *s, struct lr_engine_job *j)
{
    for (uint32_t i = 0; i < j->n_choices; i++)
        end_choice(s, &j->choices[i]);
    struct lr_engine_bill b;
    lr_engine_job_bill(j, &b);
    if (!j->rc) {
        struct lr_event ev = {.type = LR_EV_USAGE,
                              .usage = {.input = b.prompt,
                                        .output = b.reply,
                                        .cached_input = b.cached,
                                        .known = true}};
        int rc = j->ask.event(j->ask.ctx, &ev);
        j->rc = rc == LR_EBUSY || !rc ? 0 : lr_err_set(&j->err, rc, "usage", "%s", lr_strerror(rc));
    }
    s->done.jobs++;
    s->done.cached_tokens += b.cached;
    j->ask.done(j->ask.ctx, j->rc, &b, &j->err);
    free_job(j);
}

static void sweep(struct lr_engine_sched *s)
{
    for (struct lr_engine_job **at = &s->begun, *j; (j = *at);) {
        if (!j->over) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        s->n_begun--;
        lr_engine_fair_end(&s->fair, j->ask.tenant);
        finish_job(s, j);
    }
}

static void count_waiting(struct lr_engine_sched *s, uint32_t n)
{
    pthread_mutex_lock(&s->mu);
    s->n_waiting -= n;
    pthread_mutex_unlock(&s->mu);
}

/* Ends the jobs that wait and are cancelled, or all of them. */
static void drop_waiting(struct lr_engine_sched *s, bool all, int rc)
{
    for (size_t i = 0; i < s->fair.n; i++)
        for (struct lr_engine_job *j = s->fair.v[i].first, *next; j; j = next) {
            next = j->next;
            if (!all && !atomic_load(&j->cancelled))
                continue;
            over(j, rc, "job", NULL);
            lr_engine_fair_remove(&s->fair, j);
            count_waiting(s, 1);
            finish_job(s, j);
        }
}

static void drop_jobs(struct lr_engine_sched *s, bool all, int rc)
{
    for (struct lr_engine_job *j = s->begun; j; j = j->next)
        if (all || atomic_load(&j->cancelled))
            over(j, rc, "job", NULL);
    sweep(s);
    drop_waiting(s, all, rc);
}

/* ---- admission ---- */

/* Another choice of the same prompt is about to compute it. */
static bool follows(const struct choice *c)
{
    const struct choice *lead = &c->job->choices[c->number / c->job->ask.n * c->job->ask.n];
    return lead != c && lead->state == CHOICE_RUNS &&
           (lead->load || lr_engine_seq_len(lead->seq) < lead->n_prompt);
}

static bool has_place(const struct lr_engine_sched *s, const struct choice *c)
{
    if (is_text(c) ? s->n_texts == EMBEDS_MAX : s->n_replies == s->o.parallel)
        return false;
    bool parked = c->begun;
    return !parked || c->parked != s->n_ended || !s->oldest;
}

/* false: there is no room, and nobody behind it may go ahead. */
static bool admit_choice(struct lr_engine_sched *s, struct choice *c)
{
    if (follows(c))
        return true; /* in a moment */
    if (!has_place(s, c))
        return false;
    uint32_t all = c->n_prompt + c->max_reply, some = choice_tokens(c) + LEASE;
    uint32_t tokens = s->evicts ? all : MIN_OF(all, some);
    int rc = lr_engine_keep_admit(s, c, tokens);
    if (rc == LR_EOVER && s->oldest)
        return false;
    if (!rc && !c->begun) {
        c->begun = true;
        rc = lr_engine_choice_begin(s, c);
    }
    if (rc) {
        close_seq(s, c);
        over(c->job, rc, "kv", rc == LR_EOVER ? "no room for the conversation's rows" : NULL);
        return true;
    }
    enter(s, c, tokens);
    return true;
}

static bool admit_rest(struct lr_engine_sched *s, struct lr_engine_job *j)
{
    for (uint32_t i = 0; i < j->n_choices && !j->over; i++)
        if (j->choices[i].state == CHOICE_WAITS && !admit_choice(s, &j->choices[i]))
            return false;
    return true;
}

static void begin_job(struct lr_engine_sched *s, struct lr_engine_job *j)
{
    lr_engine_fair_take(&s->fair, j);
    count_waiting(s, 1);
    struct lr_engine_job **at = &s->begun;
    while (*at)
        at = &(*at)->next;
    *at = j;
    s->n_begun++;
    j->begin_ns = lr_clock_mono_ns();
}

static void admit(struct lr_engine_sched *s)
{
    struct lr_engine_job *j;
    for (j = s->begun; j; j = j->next)
        if (!j->over && !is_paused(j) && !admit_rest(s, j))
            return;
    while (s->n_begun < BEGUN_MAX && (j = lr_engine_fair_next(&s->fair))) {
        if (!admit_choice(s, &j->choices[0]))
            return;
        begin_job(s, j);
        if (!admit_rest(s, j))
            return;
    }
}

/* ---- the plan of a step ---- */

/* Up to n tokens of c from the first that is not fed; contiguous, so prompt and reply apart. */
static const uint32_t *tokens_of(const struct choice *c, uint32_t *n)
{
    uint32_t at = lr_engine_seq_len(c->seq);
    if (at < c->n_prompt) {
        *n = MIN_OF(*n, c->n_prompt - at);
        return c->prompt + at;
    }
    return c->reply + (at - c->n_prompt);
}

static uint32_t unfed(const struct choice *c)
{
    return choice_tokens(c) - lr_engine_seq_len(c->seq);
}

static uint32_t add_work(struct lr_engine_sched *s, struct choice *c, uint32_t n)
{
    const struct lr_engine_shape *h = &s->e->m->shape;
    uint32_t at = lr_engine_seq_len(c->seq);
    bool made = !is_text(c) && c->n_reply && unfed(c) == 1;
    struct lr_engine_work w = {.seq = c->seq, .tokens = tokens_of(c, &n), .n = n};
    w.phase = at + n < c->n_prompt ? LR_POLICY_CHUNK
              : at < c->n_prompt   ? LR_POLICY_PROMPT_END
                                   : LR_POLICY_TOKEN;
    w.n_logits = !is_text(c) && n == unfed(c);
    if (w.n_logits)
        w.logits = s->logits + (size_t)s->n_logits++ * h->n_vocab;
    if (is_text(c))
        w.hidden = s->hidden + (size_t)s->n_hidden * h->n_embd;
    s->n_hidden += is_text(c) ? n : 0;
    s->work[s->n_work] = w;
    s->who[s->n_work++] = c;
    c->planned = true;
    lr_engine_fair_charge(&s->fair, c->job->ask.tenant, made ? MADE_COST : n);
    return n;
}

/* Room for one more token. */
static bool grow(struct lr_engine_sched *s, struct choice *c)
{
    uint32_t all = c->n_prompt + c->max_reply, some = choice_tokens(c) + LEASE;
    if (s->evicts || lr_engine_seq_len(c->seq) < c->granted)
        return true;
    uint32_t want = MIN_OF(all, some);
    int rc;
    do
        rc = lr_engine_rows_promise(c->seq, want, c->seq->copies);
    while (rc && lr_engine_keep_drop(s));
    if (rc && s->oldest == s->youngest) /* alone: no page is shared, and none will be copied */
        rc = lr_engine_rows_promise(c->seq, want, 0);
    c->granted = rc ? c->granted : want;
    return rc == 0;
}

static bool rests(const struct choice *c)
{
    return c->load || c->job->over || is_paused(c->job);
}

static void plan_replies(struct lr_engine_sched *s)
{
    for (struct choice *c = s->oldest, *next; c; c = next) {
        bool ready = !is_text(c) && unfed(c) == 1 && !rests(c);
        while (ready && !grow(s, c)) {
            struct choice *last = s->youngest;
            ready = last != c;
            if (last == s->oldest)
                over(c->job, LR_EOVER, "kv", "no room for the conversation's rows");
            else
                park(s, last);
        }
        if (ready)
            (void)add_work(s, c, 1);
        next = c->state == CHOICE_RUNS ? c->younger : NULL; /* put aside itself, it was the last */
    }
}

/* The prompt whose turn it is: of the tenant served least, the oldest. */
static struct choice *next_prompt(const struct lr_engine_sched *s)
{
    struct choice *best = NULL;
    uint64_t least = 0;
    for (struct choice *c = s->oldest; c; c = c->younger) {
        if (c->planned || rests(c))
            continue;
        uint64_t served = lr_engine_fair_served(&s->fair, c->job->ask.tenant);
        if (!best || served < least) {
            best = c;
            least = served;
        }
    }
    return best;
}

/* Tokens of a prompt (or of a reply that is fed again) for a step with so much room; 0: not in this one. */
static uint32_t piece(const struct lr_engine_sched *s, const struct choice *c, uint32_t room)
{
    uint32_t at = lr_engine_seq_len(c->seq), n = MIN_OF(unfed(c), LR_ENGINE_TILE);
    if (at < c->n_prompt)
        return lr_engine_seq_tile(c->seq, c->n_prompt - at, room);
    return s->evicts ? 1 : MIN_OF(n, room);
}

static void plan(struct lr_engine_sched *s)
{
    struct choice *c;
    s->n_work = s->n_logits = s->n_hidden = 0;
    for (c = s->oldest; c; c = c->younger)
        c->planned = false;
    plan_replies(s);
    uint32_t room = s->n_work ? LR_ENGINE_TILE : LR_ENGINE_BATCH;
    room = MIN_OF(room, LR_ENGINE_BATCH - (uint32_t)s->n_work);
    while (room && s->n_work < LR_ENGINE_SEQS && (c = next_prompt(s))) {
        uint32_t n = piece(s, c, room);
        c->planned = n == 0; /* a policy wants more room at once: whoever is first has it */
        if (!n)
            continue;
        if (is_text(c) && !s->hidden)
            s->hidden = lr_calloc(LR_ENGINE_BATCH, s->e->m->shape.n_embd * sizeof *s->hidden);
        if (is_text(c) && !s->hidden) {
            over(c->job, LR_ENOMEM, "embedding", NULL);
            continue;
        }
        room -= add_work(s, c, n);
    }
}

/* ---- after a step ---- */

static int add_hidden(struct lr_engine_sched *s, struct choice *c, const struct lr_engine_work *w)
{
    uint32_t d = s->e->m->shape.n_embd;
    const struct lr_engine_ask *a = &c->job->ask;
    if (a->pool == LR_ENGINE_POOL_MEAN)
        for (uint32_t t = 0; t < w->n; t++)
            s->k->add(c->sum, w->hidden + (size_t)t * d, d);
    else
        memcpy(c->sum, w->hidden + (size_t)(w->n - 1) * d, d * sizeof *c->sum);
    if (unfed(c))
        return 0;
    float length = sqrtf(s->k->dot(c->sum, c->sum, d));
    s->k->scale(c->sum, length > 0 ? 1.0f / length : 0, d);
    int rc = a->vector(a->ctx, c->number, c->sum, d);
    end_choice(s, c);
    return rc == LR_EBUSY ? 0 : rc;
}

static void settle_work(struct lr_engine_sched *s, size_t i)
{
    const struct lr_engine_work *w = &s->work[i];
    struct choice *c = s->who[i];
    struct lr_engine_job *j = c->job;
    bool end = false;
    int rc = 0;
    if (j->over)
        return;
    rc = lr_engine_seq_status(c->seq, &j->err);
    if (rc) {
        over(j, rc, "policy", NULL); /* err has its sentence */
        return;
    }
    if (w->hidden) {
        s->done.prompt_tokens += w->n;
        rc = add_hidden(s, c, w);
    } else {
        s->done.prompt_tokens += c->n_reply ? 0 : w->n;
        s->done.reply_tokens += w->n_logits;
        if (w->n_logits)
            rc = lr_engine_choice_take(s, c, w->logits, &end);
        if (w->n_logits && !j->first_ns)
            j->first_ns = lr_clock_mono_ns();
    }
    if (rc)
        over(j, rc, "reply", NULL);
    else if (end)
        end_choice(s, c);
    else
        lr_engine_warm_save(s, c, w->phase == LR_POLICY_PROMPT_END);
    if (j->n_ended == j->n_choices)
        over(j, 0, NULL, NULL);
}

/* A step that failed has changed nothing. */
static void trouble(struct lr_engine_sched *s, int rc, const struct lr_err *err)
{
    if (rc == LR_ECORRUPT) {
        lr_log(LR_LOG_ERROR, "engine", "event=model_failed error=\"%s\"", err->msg);
        s->failed = rc;
        pthread_mutex_lock(&s->mu);
        s->stats.failed = true;
        pthread_mutex_unlock(&s->mu);
        drop_jobs(s, true, rc);
        return;
    }
    struct choice *last = s->who[s->n_work - 1];
    for (struct choice *c = s->oldest; c; c = c->younger)
        last = c->planned ? c : last; /* the youngest of the step */
    if (s->oldest == s->youngest || (rc != LR_ENOMEM && rc != LR_EOVER))
        over(last->job, rc, "step", err->msg);
    else
        park(s, last);
}

static void run_step(struct lr_engine_sched *s)
{
    struct lr_err err = {0};
    uint64_t start = lr_clock_mono_ns();
    int rc = lr_engine_step(s->e, s->work, s->n_work, &err);
    uint64_t took = lr_clock_mono_ns() - start;
    s->done.busy_ns += took;
    if (rc) {
        trouble(s, rc, &err);
    } else {
        s->done.steps++;
        lr_engine_warm_measure(s, took);
        for (size_t i = 0; i < s->n_work; i++)
            s->done.step_tokens += s->work[i].n;
        for (size_t i = 0; i < s->n_work; i++)
            settle_work(s, i);
    }
    sweep(s);
}

static void publish(struct lr_engine_sched *s)
{
    const struct lr_engine_sched_stats *d = &s->done;
    pthread_mutex_lock(&s->mu);
    struct lr_engine_sched_stats *t = &s->stats;
    t->running = s->n_replies + s->n_texts;
    t->kept = s->n_kept;
    t->jobs += d->jobs;
    t->preempted += d->preempted;
    t->prompt_tokens += d->prompt_tokens;
    t->cached_tokens += d->cached_tokens;
    t->reply_tokens += d->reply_tokens;
    t->steps += d->steps;
    t->step_tokens += d->step_tokens;
    t->busy_ns += d->busy_ns;
    for (uint32_t i = 0; i < LR_REUSE_TIERS; i++)
        t->warm[i] += d->warm[i];
    t->saved_ns += d->saved_ns;
    t->warm_failed += d->warm_failed;
    t->warm_late += d->warm_late;
    t->saved += d->saved;
    t->saves_dropped += d->saves_dropped;
    t->idled += d->idled;
    lr_engine_memory(s->e, &t->memory);
    pthread_mutex_unlock(&s->mu);
    s->done = (struct lr_engine_sched_stats){0};
}

/* ---- the thread ---- */

/* False: it is time to look. */
static bool wait_locked(struct lr_engine_sched *s)
{
    uint64_t until = s->closing ? s->deadline_ns : 0;
    if (s->wake_ns && (!until || s->wake_ns < until))
        until = s->wake_ns;
    if (!until) {
        pthread_cond_wait(&s->cv, &s->mu);
        return true;
    }
    struct timespec at = {.tv_sec = (time_t)(until / LR_SEC), .tv_nsec = (long)(until % LR_SEC)};
    return pthread_cond_timedwait(&s->cv, &s->mu, &at) == 0;
}

/* What came in. idle: nothing can be done until something does. false: all is over. */
static bool take_orders(struct lr_engine_sched *s, bool idle)
{
    pthread_mutex_lock(&s->mu);
    while (idle && !s->poked && wait_locked(s))
        ;
    struct lr_engine_job *j = s->inbox, *next;
    bool reap = s->reap, closing = s->closing;
    bool late = closing && lr_clock_mono_ns() >= s->deadline_ns;
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    s->poked = s->reap = false;
    pthread_mutex_unlock(&s->mu);
    for (; j; j = next) {
        next = j->next;
        lr_engine_fair_add(&s->fair, j);
    }
    if (s->failed)
        drop_jobs(s, true, s->failed); /* came in just before submit knew */
    if (reap || late)
        drop_jobs(s, late, LR_ECANCEL);
    return !closing || s->begun || lr_engine_fair_any(&s->fair);
}

static void *sched_main(void *arg)
{
    struct lr_engine_sched *s = arg;
    bool idle = true;
    lr_nn_thread_init();
    while (take_orders(s, idle)) {
        lr_engine_warm_round(s);
        admit(s);
        plan(s);
        if (s->n_work)
            run_step(s);
        else
            sweep(s);
        publish(s);
        idle = !s->n_work;
    }
    lr_engine_warm_close(s);
    return NULL;
}

/* ---- life ---- */

/* Does the policy go with this model? An empty conversation tells. */
static int try_policy(struct lr_engine_sched *s, struct lr_err *err)
{
    struct lr_engine_seq *seq;
    const struct lr_engine_seq_opts o = {.policy = s->o.policy};
    LR_TRY(lr_engine_seq_open(&seq, s->e, &o, err));
    lr_engine_seq_close(seq);
    return 0;
}

static int fill_defaults(struct lr_engine_sched *s, const struct lr_engine_sched_opts *o,
                         struct lr_err *err)
{
    const struct lr_engine_model *m = s->e->m;
    struct lr_engine_opts eo = {.codec = s->e->codec, .kv_max = s->e->arena.granules * GRANULE};
    struct lr_engine_plan p;
    LR_TRY(lr_engine_plan(m, &eo, &p, err));
    uint64_t fits = p.tokens;
    s->o = *o;
    if (o->policy.stack) {
        lr_policy_stack_copy(&s->stack, o->policy.stack);
        s->o.policy.stack = &s->stack;
        s->evicts = lr_policy_stack_evicts(&s->stack) || s->stack.budget >= 0 ||
                    s->stack.select >= 0;
        LR_TRY(try_policy(s, err));
    }
    s->o.parallel = o->parallel ? MIN_OF(o->parallel, LR_ENGINE_PARALLEL_MAX) : 8;
    s->o.queue = o->queue ? MIN_OF(o->queue, LR_ENGINE_QUEUE_MAX) : 64;
    if (!s->o.context)
        s->o.context = (uint32_t)MIN_OF(fits, m->shape.n_ctx);
    if (s->o.context > fits)
        return lr_err_set(err, LR_EOVER, "context",
                          "a context of %u tokens does not fit %llu MiB of KV memory: %llu do",
                          s->o.context, (unsigned long long)(p.bytes_kv >> 20),
                          (unsigned long long)fits);
    if (lr_nn_tok_size(o->tok) < m->shape.n_vocab)
        return lr_err_set(err, LR_EUNSUPPORTED, "vocabulary",
                          "the tokeniser knows %zu tokens of the model's %u",
                          lr_nn_tok_size(o->tok), m->shape.n_vocab);
    lr_engine_template_stops(o->tmpl, o->tok, &s->stops);
    return 0;
}

static int open_locks(struct lr_engine_sched *s)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&s->mu, NULL);
    if (pthread_condattr_init(&attr))
        return LR_ENOMEM;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* cannot fail: the clock is known */
    pthread_cond_init(&s->cv, &attr);
    pthread_condattr_destroy(&attr);
    return 0;
}

static void free_sched(struct lr_engine_sched *s)
{
    while (lr_engine_keep_drop(s))
        ;
    lr_engine_fair_close(&s->fair);
    lr_free(s->logits);
    lr_free(s->hidden);
    lr_free(s->mask);
    pthread_cond_destroy(&s->cv);
    pthread_mutex_destroy(&s->mu);
    lr_free(s);
}

int lr_engine_sched_open(struct lr_engine_sched **out, struct lr_engine *e,
                         const struct lr_engine_sched_opts *o, struct lr_err *err)
{
    struct lr_engine_sched *s = lr_new(struct lr_engine_sched);
    LR_FAIL_IF(!s, lr_err_set(err, LR_ENOMEM, "scheduler", "out of memory"));
    s->e = e;
    s->k = lr_kern();
    s->inbox_end = &s->inbox;
    if (open_locks(s)) {
        lr_free(s);
        return lr_err_set(err, LR_ENOMEM, "scheduler", "out of memory");
    }
    int rc = fill_defaults(s, o, err);
    if (!rc) {
        lr_engine_warm_open(s);
        s->logits = lr_calloc(s->o.parallel, e->m->shape.n_vocab * sizeof *s->logits);
        s->mask = lr_calloc((lr_nn_tok_size(o->tok) + 63) / 64, sizeof *s->mask);
        rc = lr_engine_fair_open(&s->fair, s->o.queue + BEGUN_MAX);
        rc = s->logits && s->mask ? rc : LR_ENOMEM;
        lr_engine_memory(e, &s->stats.memory);
    }
    rc = rc ? rc : lr_thread_start(&s->thread, "engine", sched_main, s);
    if (rc) {
        free_sched(s);
        return lr_err_set(err, rc, "scheduler", "%s", lr_strerror(rc));
    }
    *out = s;
    return 0;
}

void lr_engine_sched_close(struct lr_engine_sched *s, uint64_t drain_ns)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->mu);
    s->closing = true;
    s->deadline_ns = lr_clock_mono_ns() + drain_ns;
    poke_locked(s);
    pthread_mutex_unlock(&s->mu);
    pthread_join(s->thread, NULL);
    free_sched(s);
}

uint32_t lr_engine_sched_context(const struct lr_engine_sched *s)
{
    return s->o.context;
}

void lr_engine_sched_stats(struct lr_engine_sched *s, struct lr_engine_sched_stats *out)
{
    pthread_mutex_lock(&s->mu);
    *out = s->stats;
    out->waiting = s->n_waiting;
    pthread_mutex_unlock(&s->mu);
}
