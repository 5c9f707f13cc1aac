/* SPDX-License-Identifier: Apache-2.0
 * serve/ask.c - the key and answer rooms: what the request is, and whether we hold its answer.
 *
 * Also the note of the raw shortcut: what the key room learned about these bytes, so that the next
 * identical bytes need no parsing. The note is written when a request has been keyed, and holds only
 * what the answer and send rooms read.
 */
#include "serve/serve_int.h"

#include <stdio.h>

/* The raw note. Fixed size, same process only. */
struct note {
    uint64_t max_tokens;
    uint16_t n;
    uint8_t stream, include_usage, may_store, may_serve;
    char model[64];
    uint64_t text_bytes, n_blocks;
    uint64_t blocks[LR_KEY_BLOCKS_MAX]; /* n_blocks of them are stored: for traces */
};
_Static_assert(sizeof(struct note) <= LR_RAW_NOTE_MAX, "the raw note must fit");

void lr_raw_remember(struct lr_req *r)
{
    struct note note = {
        .max_tokens = r->ask_max_tokens,
        .n = r->ask_n,
        .stream = r->stream,
        .include_usage = r->include_usage,
        .may_store = r->may_store,
        .may_serve = r->may_serve,
        .text_bytes = r->key.text_bytes,
        .n_blocks = r->key.n_blocks,
    };
    memcpy(note.model, r->rec->model, sizeof note.model);
    memcpy(note.blocks, r->key.blocks, r->key.n_blocks * sizeof note.blocks[0]);
    struct lr_raw_hit hit;
    hit.key = r->key.exact;
    hit.note_len = offsetof(struct note, blocks) + r->key.n_blocks * sizeof note.blocks[0];
    memcpy(hit.note, &note, hit.note_len);
    lr_raw_put(r->serve->raw, r->raw_prefix, lr_buf_str(&r->body), &hit);
}

/* Known bytes are only worth a shortcut when they end in a hit: the caller goes back to parsing when the
 * answer room finds none (see miss_after_raw). */
bool lr_raw_recall(struct lr_req *r)
{
    struct lr_raw_hit hit;
    if (!lr_raw_get(r->serve->raw, r->raw_prefix, lr_buf_str(&r->body), &hit))
        return false;
    struct note note;
    memcpy(&note, hit.note, hit.note_len);
    r->key.exact = hit.key;
    r->key.text_bytes = note.text_bytes;
    r->key.n_blocks = note.n_blocks;
    memcpy(r->key.blocks, note.blocks, note.n_blocks * sizeof note.blocks[0]);
    r->ask_max_tokens = note.max_tokens;
    r->ask_n = note.n;
    r->stream = note.stream;
    r->include_usage = note.include_usage;
    r->may_store = note.may_store;
    r->may_serve = note.may_serve;
    memcpy(r->rec->model, note.model, sizeof note.model);
    r->raw_hit = true;
    return true;
}

/* ---- key ---- */

/* Does the request ask for variety, so that one stored answer would not do? */
static bool wants_variety(const struct lr_request *q)
{
    double t;
    bool hot = q->temperature && lr_json_real(q->temperature, &t) && t > 0;
    return hot || (q->n > 1 && !q->seed);
}

static void decide(struct lr_req *r)
{
    const struct lr_config *c = r->conf->c;
    const struct lr_request *q = r->request;
    r->may_store = r->may_serve = c->answer_exact;
    if (q->bypass) {
        r->may_store = r->may_serve = false;
        r->bypass = true;
        r->reason = q->bypass;
        return;
    }
    if (!c->answer_exact)
        r->reason = "off";
    else if (q->kind != LR_KIND_EMBEDDING && wants_variety(q) && !r->wish.variety) {
        r->may_store = r->may_serve = false;
        double t;
        r->reason = q->temperature && lr_json_real(q->temperature, &t) && t > 0 ? "temperature" : "choices";
    }
}

/* The model of this machine that alone answers r, or NULL. */
static const struct lr_local *local_of(const struct lr_req *r)
{
    struct lr_str model = r->request ? r->request->model : lr_strz(r->rec->model);
    bool alone;
    const struct lr_local *l = lr_locals_serving(&r->serve->locals, r->conf, model, &alone);
    return l && alone ? l : NULL;
}

/* An answer made here is one of this file under these settings: local.c on prints. */
static int add_print(struct lr_req *r, const struct lr_local *l)
{
    struct lr_key_header *h = lr_arena_array(&r->arena, struct lr_key_header, r->n_key_headers + 1);
    LR_FAIL_IF(!h, LR_ENOMEM);
    if (r->n_key_headers)
        memcpy(h, r->key_headers, r->n_key_headers * sizeof *h);
    h[r->n_key_headers++] = (struct lr_key_header){"local-model", lr_strz(l->print)};
    r->key_headers = h;
    return 0;
}

static enum lr_step make_key(struct lr_req *r)
{
    const struct lr_local *l = local_of(r);
    int rc = l ? add_print(r, l) : 0;
    if (!rc)
        rc = lr_key_request(&r->arena, r->request, r->tenant.secret, r->key_headers,
                            r->n_key_headers, &r->key);
    if (rc)
        return lr_req_fail(r, rc == LR_EOVER ? 413 : 503, "key", "the request cannot be keyed: %s",
                           lr_strerror(rc));
    r->rec->keyed = true;
    r->rec->key = r->key.exact;
    return LR_STEP_NEXT;
}

enum lr_step lr_room_key(struct lr_req *r)
{
    r->outcome = r->bypass ? LR_OUT_BYPASS : LR_OUT_MISS;
    if (r->bypass)
        return LR_STEP_NEXT;
    if (local_of(r))
        r->tenant.proven = true; /* no upstream could refuse what is made here */
    if (r->raw_hit) {
        r->rec->keyed = true;
        r->rec->key = r->key.exact;
        return LR_STEP_NEXT;
    }
    decide(r);
    enum lr_step step = make_key(r);
    if (r->bypass)
        r->outcome = LR_OUT_BYPASS;
    /* Embeddings are kept item by item; Responses echoes its request, so it is always parsed. */
    if (step == LR_STEP_NEXT && r->may_serve && r->request->kind != LR_KIND_EMBEDDING &&
        r->dialect != LR_DIALECT_RESPONSES)
        lr_raw_remember(r);
    return step;
}

/* ---- answer ---- */

static enum lr_step load_cold(struct lr_req *r)
{
    /* Whatever comes of it, the answer room looks again and finds a hit or a miss. */
    if (lr_answer_load(r->serve->answer, &r->key.exact))
        r->hit.reason = "corrupt";
    return lr_room_answer(r);
}

/* The bytes were known but their answer is gone: the miss needs the request itself. */
static enum lr_step miss_after_raw(struct lr_req *r)
{
    r->raw_hit = false;
    struct lr_err err = {0};
    int rc = lr_request_parse(&r->arena, r->dialect, lr_buf_str(&r->body), &r->request, &err);
    if (rc)
        return lr_req_fail(r, rc == LR_ENOMEM ? 503 : 400, "invalid_request", "%s: %s", err.where, err.msg);
    return make_key(r);
}

static enum lr_step miss(struct lr_req *r, const char *why)
{
    if (!*r->reason)
        r->reason = why;
    if (r->wish.only_if_cached) {
        why = r->reason; /* x-larder-reason goes on saying why; the code is one for all */
        (void)lr_req_fail(r, 504, "not_cached", "only-if-cached was asked and no stored answer serves");
        r->reason = why;
        return LR_STEP_ERR;
    }
    return r->raw_hit ? miss_after_raw(r) : LR_STEP_NEXT;
}

/* The same question again so soon after it was answered: the client wants another answer. A small table
 * by key (the key holds the tenant) remembers when; a collision forgets, which only costs the feature. */
static bool regenerate(struct lr_req *r)
{
    uint64_t window = r->conf->c->answer_regenerate;
    if (!window)
        return false;
    uint64_t h = lr_le64(r->key.exact.b), tag = h & 0xFFFFFFFF00000000ULL;
    uint64_t now = (r->wall_ms / 1000) & 0xFFFFFFFFULL;
    uint64_t then = atomic_exchange(&r->serve->recent[h % LR_COUNT(r->serve->recent)], tag | now);
    return (then & 0xFFFFFFFF00000000ULL) == tag && (now - (then & 0xFFFFFFFFULL)) * 1000 < window;
}

/* An entry that cannot be written in this form (a streamed answer of parts that only exist streamed, asked
 * for whole) is a miss: that is found out here, while the upstream can still be asked. */
static enum lr_step take_hit(struct lr_req *r, struct lr_answer_hit *hit)
{
    r->hit = *hit;
    if (lr_hit_encode(r)) {
        lr_doc_unref(r->hit.doc);
        r->hit = (struct lr_answer_hit){.reason = ""};
        return miss(r, "not-replayable");
    }
    r->outcome = LR_OUT_HIT;
    r->reason = "exact";
    if (r->conf->c->answer_sliding)
        lr_answer_touch(r->serve->answer, &r->key.exact, r->wall_ms);
    if (r->raw_hit)
        lr_metric_add(LR_M_RAW_HIT, 1);
    return LR_STEP_DONE;
}

/* The candidate is served, and somebody asked for a fresh one. */
static enum lr_step renew(struct lr_req *r)
{
    if (r->raw_hit && miss_after_raw(r) != LR_STEP_NEXT)
        return LR_STEP_ERR;
    if (lr_run_refresh(r)) /* nobody to ask now: the stale answer is as good as granted all the same */
        LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "answer", "event=not_refreshed");
    r->outcome = LR_OUT_STALE;
    r->reason = "stale-while-revalidate";
    return LR_STEP_DONE;
}

static enum lr_step take_stale(struct lr_req *r, struct lr_answer_hit *hit)
{
    r->hit = *hit; /* the candidate: served now (swr), or when every upstream fails (sie) */
    if (!hit->swr)
        return miss(r, "expired");
    return local_of(r) ? lr_req_work(r, renew) : renew(r); /* a prompt is encoded by a worker */
}

enum lr_step lr_room_answer(struct lr_req *r)
{
    if (r->bypass)
        return LR_STEP_NEXT;
    if (r->dialect == LR_DIALECT_EMBEDDING)
        return LR_STEP_NEXT; /* item by item, in embed.c */
    if (!r->may_serve)
        return miss(r, r->reason);
    if (r->wish.no_cache)
        return miss(r, "no-cache");
    if (!r->tenant.proven)
        return miss(r, "unproven");
    if (!r->hit.reason && regenerate(r)) /* asked once a request: not again after a load */
        return miss(r, "regenerate");
    struct lr_ask ask = {
        .key = r->key.exact,
        .now_ms = r->wall_ms,
        .dialect = r->dialect,
        .n = r->ask_n ? r->ask_n : 1,
        .max_tokens = r->ask_max_tokens,
        .max_age_ms = r->wish.max_age_ms,
        .swr_ms = r->wish.swr_ms,
        .sie_ms = r->wish.sie_ms,
    };
    struct lr_answer_hit hit = {.reason = ""};
    switch (lr_answer_get(r->serve->answer, &ask, &hit)) {
    case LR_FOUND_HIT:
        return take_hit(r, &hit);
    case LR_FOUND_STALE:
        return take_stale(r, &hit);
    case LR_FOUND_COLD:
        if (r->hit.reason)
            return miss(r, r->hit.reason); /* loaded once already, and gone or bad again */
        r->hit.reason = "cold";
        return lr_req_work(r, load_cold);
    case LR_FOUND_NONE:
        break;
    }
    return miss(r, hit.reason && *hit.reason ? hit.reason : "new");
}
