/* SPDX-License-Identifier: Apache-2.0
 * engine/sampling.c - what a request says about sampling, checked.
 *
 * Ranges are OpenAI's where OpenAI has them: temperature 0 to 2, top_p 0 to 1, penalties -2 to 2, bias
 * -100 to 100, 20 log probabilities. Without a temperature it is 1, as there. Logit bias of 100 bans or
 * forces in practice, because logits differ by less. Unknown members that other servers know are read by
 * their names there: min_p, repetition_penalty; top_k also where the dialect does not have it.
 */
#include "engine/engine.h"

/* A number in [lo, hi] into *out; absent: untouched. */
static int read_real(const struct lr_json *v, const char *name, double lo, double hi, float *out,
                     struct lr_err *err)
{
    double d;
    if (!v || lr_json_is(v, LR_JSON_NULL))
        return 0;
    if (!lr_json_real(v, &d) || !(d >= lo && d <= hi))
        return lr_err_set(err, LR_EINVAL, name, "expected a number from %g to %g", lo, hi);
    *out = (float)d;
    return 0;
}

static int read_u64(const struct lr_json *v, const char *name, uint64_t hi, uint64_t *out,
                    struct lr_err *err)
{
    uint64_t u;
    if (!v || lr_json_is(v, LR_JSON_NULL))
        return 0;
    if (!lr_json_u64(v, &u) || u > hi)
        return lr_err_set(err, LR_EINVAL, name, "expected an integer from 0 to %llu",
                          (unsigned long long)hi);
    *out = u;
    return 0;
}

static const struct lr_json *extra(const struct lr_request *r, const char *name)
{
    for (const struct lr_extra *x = r->extra; x; x = x->next)
        if (lr_str_is(x->v->key, name))
            return x->v;
    return NULL;
}

/* {"50256": -100, ..}; a token the vocabulary does not have is refused. */
static int read_bias(struct lr_arena *a, const struct lr_json *v, uint32_t n_vocab,
                     struct lr_engine_sampling *out, struct lr_err *err)
{
    if (!v || lr_json_is(v, LR_JSON_NULL))
        return 0;
    if (!lr_json_is(v, LR_JSON_OBJECT) || v->n > LR_ENGINE_BIAS_MAX)
        return lr_err_set(err, LR_EINVAL, "logit_bias", "expected an object of at most %u members",
                          LR_ENGINE_BIAS_MAX);
    struct lr_engine_bias *bias = lr_arena_array(a, struct lr_engine_bias, (size_t)v->n + 1);
    LR_FAIL_IF(!bias, LR_ENOMEM);
    for (const struct lr_json *m = v->child; m; m = m->next) {
        uint64_t id;
        struct lr_engine_bias *b = &bias[out->n_bias];
        if (lr_parse_u64(m->key, &id) || id >= n_vocab)
            return lr_err_set(err, LR_EINVAL, "logit_bias", "%.*s is no token of this model",
                              LR_FMT(m->key));
        if (lr_json_is(m, LR_JSON_NULL))
            continue;
        b->id = (uint32_t)id;
        LR_TRY(read_real(m, "logit_bias", -100, 100, &b->add, err));
        out->n_bias++;
    }
    out->bias = bias;
    return 0;
}

/* Chat: logprobs is a flag and top_logprobs a number; Completions: logprobs is the number. */
static int read_logprobs(const struct lr_request *r, struct lr_engine_sampling *out,
                         struct lr_err *err)
{
    uint64_t n = 0;
    if (r->dialect == LR_DIALECT_COMPLETION) {
        out->logprobs = r->logprobs && !lr_json_is(r->logprobs, LR_JSON_NULL);
        LR_TRY(read_u64(r->logprobs, "logprobs", LR_ENGINE_TOP_MAX, &n, err));
    } else {
        if (r->logprobs && !lr_json_is(r->logprobs, LR_JSON_NULL) &&
            !lr_json_bool(r->logprobs, &out->logprobs))
            return lr_err_set(err, LR_EINVAL, "logprobs", "expected true or false");
        LR_TRY(read_u64(r->top_logprobs, "top_logprobs", LR_ENGINE_TOP_MAX, &n, err));
        out->logprobs = out->logprobs || n;
    }
    out->top_logprobs = (uint32_t)n;
    return 0;
}

int lr_engine_sampling_read(struct lr_arena *a, const struct lr_request *r, uint32_t n_vocab,
                            uint64_t seed, struct lr_engine_sampling *out, struct lr_err *err)
{
    struct lr_engine_sampling o = {.temperature = 1, .seed = seed};
    uint64_t top_k = 0;
    int64_t given;
    LR_TRY(read_real(r->temperature, "temperature", 0, 2, &o.temperature, err));
    LR_TRY(read_real(r->top_p, "top_p", 0, 1, &o.top_p, err));
    LR_TRY(read_u64(r->top_k ? r->top_k : extra(r, "top_k"), "top_k", UINT32_MAX, &top_k, err));
    LR_TRY(read_real(extra(r, "min_p"), "min_p", 0, 1, &o.min_p, err));
    LR_TRY(read_real(extra(r, "repetition_penalty"), "repetition_penalty", 0.01, 100, &o.repetition,
                     err));
    LR_TRY(read_real(r->presence_penalty, "presence_penalty", -2, 2, &o.presence, err));
    LR_TRY(read_real(r->frequency_penalty, "frequency_penalty", -2, 2, &o.frequency, err));
    if (r->seed && !lr_json_is(r->seed, LR_JSON_NULL)) {
        if (!lr_json_is(r->seed, LR_JSON_NUMBER) || lr_parse_i64(r->seed->text, &given))
            return lr_err_set(err, LR_EINVAL, "seed", "expected an integer");
        o.seed = (uint64_t)given;
    }
    LR_TRY(read_bias(a, r->logit_bias, n_vocab, &o, err));
    LR_TRY(read_logprobs(r, &o, err));
    if (r->top_p && o.top_p <= 0) { /* 0 means the best one; here 0 is "off" */
        o.top_p = 1;
        top_k = 1;
    }
    o.top_k = (uint32_t)top_k;
    *out = o;
    return 0;
}
